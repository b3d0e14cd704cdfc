"""An app's repository by itself: folders become commits, and commits become folders."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from portway.host.app_config import AppConfig, Start
from portway.host.git import git_command
from portway.host.git.commit_source import CommitSource
from portway.host.git.git_command import GitError
from portway.host.git.release_commits import NewCommit, ReleaseCommits
from portway.host.git.repository import Repository
from portway.host.paths import Paths
from portway.host.sources import source_rules
from portway.host.sources.source import SourceError
from portway.host.store import FinishedRelease, Store
from tests.host.git_client import commit_all, git, run_git


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "app" / "git")
    repository.make()
    return repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "server.py").write_text("print()\n")
    (folder / "data" / "rates.json").write_bytes(b"\0\r\n1")
    (folder / ".gitattributes").write_text("* text eol=crlf filter=lfs\n")
    (folder / ".gitignore").write_text("data\n")
    (folder / "start").write_text("#!/bin/sh\n")
    (folder / "start").chmod(0o755)
    (folder / "alias").symlink_to("data/rates.json")
    return folder


def source(repository: Repository, commit: str) -> CommitSource:
    return CommitSource(repository, commit, "main", "here", "weather")


def pushed(repository: Repository, folder: Path) -> CommitSource:
    """Commit a folder in a repository of its own, which the app's reads as it reads what is pushed."""
    commit = commit_all(folder)
    return source(repository.reading(Repository(folder / ".git")), commit)


def refusal(source: CommitSource, target: Path) -> str:
    with pytest.raises(SourceError) as refused:
        source.copy_to(target)
    return str(refused.value)


def test_a_folder_comes_back_from_its_commit_byte_by_byte(repository: Repository, folder: Path, tmp_path: Path) -> None:
    commit = repository.commit_folder(folder, "Deployed\n")
    source(repository, commit).copy_to(tmp_path / "copy")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    assert sorted(path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")) == names
    for name in (name for name in names if not (folder / name).is_dir()):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "copy" / "alias").readlink() == Path("data/rates.json")
    assert os.access(tmp_path / "copy" / "start", os.X_OK)
    assert not os.access(tmp_path / "copy" / "server.py", os.X_OK)


def test_a_commit_has_the_one_before_it_as_its_parent_unless_nothing_has_changed(
    repository: Repository, folder: Path
) -> None:
    first = repository.commit_folder(folder, "First\n")
    assert repository.commit_folder(folder, "Same\n", first) == first
    (folder / "server.py").write_text("print(1)\n")
    second = repository.commit_folder(folder, "Second\n", first)
    assert git(repository.path, "log", "--format=%H %an %s", second).splitlines() == [
        f"{second} Portway Second",
        f"{first} Portway First",
    ]
    assert repository.has_ancestor(second, first)
    assert not repository.has_ancestor(first, second)


def test_what_is_live_is_what_a_clone_gets(repository: Repository, folder: Path, tmp_path: Path) -> None:
    assert repository.head() == ""
    commit = repository.commit_folder(folder, "First\n")
    repository.set_live(commit)
    assert repository.head() == commit
    git(tmp_path, "clone", "--quiet", repository.path, "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == commit
    assert git(tmp_path / "clone", "branch", "--show-current") == repository.branch() == "main"


def test_a_repository_keeps_the_commits_of_releases_and_no_others(repository: Repository, folder: Path) -> None:
    kept, gone = repository.commit_folder(folder, "Kept\n"), repository.commit_folder(folder, "Gone\n")
    repository.keep(kept, 1)
    repository.keep(gone, 2)
    repository.hold_only([1, 3])
    assert (repository.of_release(1), repository.of_release(2)) == (kept, "")
    git(repository.path, "gc", "--quiet", "--prune=now")
    assert git(repository.path, "cat-file", "-t", kept) == "commit"
    assert run_git(repository.path, "cat-file", "-t", gone, check=False).returncode


def test_a_commit_in_quarantine_is_read_there_and_kept_outside(
    repository: Repository, folder: Path, tmp_path: Path
) -> None:
    commit = commit_all(folder)
    held = repository.reading(Repository(folder / ".git"))
    with pytest.raises(SourceError):
        source(repository, commit).copy_to(tmp_path / "other")
    source(held, commit).copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "server.py").exists()
    with pytest.raises(SourceError):
        source(repository, commit).copy_to(tmp_path / "other")
    held.keep(commit, 1)
    source(repository, commit).copy_to(tmp_path / "third")
    assert (tmp_path / "third" / "server.py").exists()


def test_an_app_is_told_its_commit(repository: Repository) -> None:
    told = asyncio.run(CommitSource(repository, "a" * 40, "main", "here", "weather", "ada/weather").variables())
    assert told == {
        "RENDER_GIT_COMMIT": "a" * 40,
        "RENDER_GIT_BRANCH": "main",
        "RENDER_GIT_REPO_SLUG": "ada/weather",
    }


def test_a_submodule_is_refused_by_its_name(repository: Repository, folder: Path, tmp_path: Path) -> None:
    commit = commit_all(folder)
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},vendor/lib")
    git(folder, "commit", "--quiet", "--message", "Submodule")
    held = repository.reading(Repository(folder / ".git"))
    told = refusal(source(held, git(folder, "rev-parse", "HEAD")), tmp_path / "copy")
    assert told == "vendor/lib is a submodule, which is not fetched: commit its files to this repository"


def test_a_pointer_of_git_lfs_is_refused_by_its_name(repository: Repository, folder: Path, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    (folder / "data" / "model.bin").write_text(pointer)
    told = refusal(pushed(repository, folder), tmp_path / "copy")
    assert told == (
        "data/model.bin is in Git LFS, and only its pointer is in the commit: commit the file itself, as by "
        "`git lfs migrate export`"
    )


@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "data/../.."])
def test_a_link_out_of_a_commit_is_refused(repository: Repository, folder: Path, tmp_path: Path, target: str) -> None:
    (folder / "link").symlink_to(target)
    told = refusal(pushed(repository, folder), tmp_path / "copy")
    assert told == f"link is a link out of the folder (to {target}): replace it by what it points to"


def test_a_path_through_git_or_upwards_is_refused(repository: Repository, folder: Path, tmp_path: Path) -> None:
    for name in (".GIT/hooks", "../out"):
        blob = git(folder, "-C", repository.path, "hash-object", "-w", folder / "server.py")
        tree = blob
        for part in reversed(name.split("/")):
            kind = "100644 blob" if tree == blob else "040000 tree"
            done = f"{kind} {tree}\t{part}\n"
            (folder / "entries").write_text(done)
            with (folder / "entries").open() as entries:
                made = subprocess.run(
                    ["git", "-C", repository.path, "mktree"], stdin=entries, capture_output=True, check=True
                )
            tree = made.stdout.decode().strip()
        commit = git(repository.path, "-c", "user.name=a", "-c", "user.email=b", "commit-tree", "-m", "x", tree)
        assert refusal(source(repository, commit), tmp_path / "copy") == f"{name} is no path of a source: rename it"
        assert not (tmp_path / "out").exists()


def test_what_no_file_system_takes_is_refused(repository: Repository, folder: Path, tmp_path: Path) -> None:
    blob = git(folder, "-C", repository.path, "hash-object", "-w", folder / "server.py")
    for name, told in (
        ("a" * 300, f"no file can be named {'a' * 300}: File name too long"),
        ("/".join(["aa"] * 500), f"{'aa/' * 33}a… is too long a path: shorten it"),
    ):
        index = {"GIT_INDEX_FILE": str(tmp_path / "index")}
        run = Repository(repository.path, index)
        run._git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
        commit = git(
            repository.path, "-c", "user.name=a", "-c", "user.email=b", "commit-tree", "-m", "x", run._git("write-tree")
        )
        assert refusal(source(repository, commit), tmp_path / name[:3]) == told
        (tmp_path / "index").unlink()


def test_a_commit_is_bounded_in_bytes_and_files(
    repository: Repository, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pushed(repository, folder)
    monkeypatch.setattr(source_rules, "MOST_FILES", 5)
    told = "the commit has more than 5 files: leave out what the server does not need"
    assert refusal(found, tmp_path / "copy") == told
    monkeypatch.setattr(source_rules, "MOST_FILES", 6)
    monkeypatch.setattr(source_rules, "LARGEST_BYTES", 20)
    assert "the commit holds more than 0 MB" in refusal(found, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("commit", ["HEAD", "--help", "f" * 40, "f" * 39])
def test_what_is_no_commit_of_the_repository_is_refused(repository: Repository, tmp_path: Path, commit: str) -> None:
    told = refusal(source(repository, commit), tmp_path / "copy")
    assert told in (
        "the commit cannot be read: some of its files are missing",
        "a commit is named by its whole id, in hex",
    )


def test_a_host_without_git_says_how_it_is_installed(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(GitError) as refused:
        repository.commit_folder(folder, "First\n")
    assert str(refused.value) == "git is not installed on this host: install it, as by `apt-get install git`"


def test_git_that_fails_or_takes_too_long_is_told_in_a_sentence(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(GitError) as refused:
        repository.set_live("f" * 40)
    assert str(refused.value) == "git update-ref failed, as the host's log says"
    assert "git update-ref failed: fatal:" in caplog.text
    monkeypatch.setattr(git_command, "_SECONDS", 0)
    with pytest.raises(GitError) as refused:
        repository.head()
    assert str(refused.value) == "git for-each-ref took longer than 0 s"


def test_pushes_need_a_git_that_leaves_them_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.25.1\n")
    (tmp_path / "git").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError) as refused:
        git_command.refuse_old_git.__wrapped__()
    assert str(refused.value) == "git 2.25 is too old for pushes: install 2.29 or later"


def test_a_start_mends_what_an_interrupted_push_has_left(paths: Paths, folder: Path) -> None:
    store = Store(paths.database)
    commits = ReleaseCommits(paths, store)
    repository = commits.repository("weather")
    repository.make()
    made = []
    for version in ("one", "two"):
        (folder / "server.py").write_text(version)
        number = store.begin_release("weather", "folder")
        made.append(repository.commit_folder(folder, version))
        commits.keep(number, NewCommit(made[-1], repository))
        store.finish_releases([FinishedRelease("weather", number, AppConfig(), Start(["python"], "it"), "{}")])
    repository.set_live(made[0])
    (repository.path / "refs" / "heads" / "main.lock").touch()
    (repository.path / "objects" / "tmp_objdir-incoming-x").mkdir()
    commits.repository("never").make()

    commits.mend()

    assert repository.head() == made[1]
    assert not (repository.path / "objects" / "tmp_objdir-incoming-x").exists()
    assert not commits.repository("never").exists
    repository.set_live(made[0])
    store.close()


FULL_DISK = """
import pathlib, sys
from portway.host.sources.source import SourceError
from portway.host.git.commit_source import copy_commit
from portway.host.git.git_command import GitError
from portway.host.git.repository import Repository

whole, commit, folder, disk = Repository(pathlib.Path(sys.argv[1])), *sys.argv[2:]
small = Repository(pathlib.Path(disk) / "git")
small.make()
for attempt in (
    lambda: copy_commit(whole, commit, pathlib.Path(disk) / "copy"),
    lambda: small.commit_folder(pathlib.Path(folder), "A folder"),
):
    try:
        attempt()
    except (SourceError, GitError) as error:
        print(error)
"""


def test_a_full_disk_is_called_that(repository: Repository, folder: Path, tmp_path: Path) -> None:
    (folder / "large").write_bytes(os.urandom(2 * 1024 * 1024))
    commit = repository.commit_folder(folder, "A folder")
    (tmp_path / "disk").mkdir()
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && exec "$@"']
    places = [repository.path, commit, folder, tmp_path / "disk"]
    done = subprocess.run(
        [*mount, tmp_path / "disk", sys.executable, "-c", FULL_DISK, *places],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "the disk of the host is full: ask its operator for room\n" * 2, done.stderr
