"""The git repository of an app on the host's disk: made, its branch, commits made of folders, bundles; how large a push
may be.

Its branch points at the commit of the live release. The commits of the other releases that are kept are held by refs
under refs/releases, which no client sees.
"""

import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portway.host.git.git_command import GitError, git_environment, run_git
from portway.host.git.hooks import HOOKS

BRANCHES = ("main", "master")
"""The names that the branch of a repository may have; it is the first unless a first push chooses the other."""

_SLOW_SECONDS = 1800.0  # for what is done at the lowest priority
_HELD = "refs/releases/"
_RESTORED = re.compile(rf"refs/heads/(?:{'|'.join(BRANCHES)})|{_HELD}[1-9]\d{{0,8}}")
LARGEST_PUSH = 256 * 1024 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
AUTHOR = {
    "GIT_AUTHOR_NAME": "Portway",
    "GIT_AUTHOR_EMAIL": "portway@localhost",
    "GIT_COMMITTER_NAME": "Portway",
    "GIT_COMMITTER_EMAIL": "portway@localhost",
}
OBJECTS = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
# A history may be older than today's checks; what they ignore here is harmless, and cannot be mended by its author.
_IGNORED = "badTimezone missingSpaceBeforeDate zeroPaddedFilemode"
_CONFIG = f"""\
[core]
	repositoryFormatVersion = 0
	bare = true
	fsmonitor = false
	logAllRefUpdates = false
	bigFileThreshold = 8m
	looseCompression = 0
	fsyncMethod = batch
	fsync = committed,loose-object
[transfer]
	fsckObjects = true
	hideRefs = refs/releases
[uploadpack]
	allowTipSHA1InWant = true
[receive]
	maxInputSize = {LARGEST_PUSH}
	denyDeletes = true
	advertisePushOptions = true
	autogc = false
	unpackLimit = 1
	procReceiveRefs = refs/heads
[http]
	uploadpack = true
	receivepack = true
	getanyfile = false
[protocol "file"]
	allow = never
[pack]
	compression = 1
	threads = 1
	windowMemory = 32m
[gc]
	auto = 1000
	autoPackLimit = 20
	autoDetach = false
	pruneExpire = 2.hours.ago
""" + "".join(
    f'[{section} "fsck"]\n' + "".join(f"\t{name} = ignore\n" for name in _IGNORED.split())
    for section in ("receive", "fetch")
)
PLAIN_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
"""The files of a commit are the bytes that were committed, whatever attributes the source gives them."""


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository at `path`, which `make` makes.

    `quarantine` are the variables by which git finds the objects of a push that is not accepted yet. Every method but
    `exists` raises `GitError`, and runs git: call it on a thread.
    """

    path: Path
    quarantine: Mapping[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return (self.path / "HEAD").is_file()

    def reading(self, other: "Repository") -> "Repository":
        """Return this repository with the objects of another in quarantine."""
        places = [str(other.path / "objects"), *map(other.quarantine.get, OBJECTS)]
        return Repository(self.path, {OBJECTS[1]: ":".join(filter(None, places))})

    def writing(self, objects: Path) -> "Repository":
        """Return this repository with an empty folder as its quarantine, where new objects are written."""
        return Repository(self.path, {OBJECTS[0]: str(objects), OBJECTS[1]: str(self.path / "objects")})

    def make(self) -> None:
        """Make the repository if it is missing, and give it the settings of this version."""
        if not self.exists:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.path.parent, prefix="repository-") as draft:
                made = Path(draft) / "made"
                run_git(git_environment(made), "init", "--quiet", "--bare", "--template=")
                (made / "info").mkdir(exist_ok=True)
                (made / "info" / "attributes").write_text(PLAIN_ATTRIBUTES)
                (made / "HEAD").write_text(f"ref: refs/heads/{BRANCHES[0]}\n")
                (made / "hooks").mkdir(exist_ok=True)
                made.rename(self.path)
        if (config := self.path / "config").read_text() != _CONFIG:
            config.write_text(_CONFIG)
        for name, script in HOOKS.items():
            hook = self.path / "hooks" / name
            if not hook.exists() or hook.read_text() != script:
                hook.write_text(script)
                hook.chmod(0o700)

    def branch(self) -> str:
        """Return the name of the branch that is deployed."""
        return (self.path / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")

    def choose_branch(self, name: str) -> None:
        """Deploy this branch from now on; only for a repository without commits."""
        assert name in BRANCHES
        self._settled._git("symbolic-ref", "HEAD", f"refs/heads/{name}")

    def head(self) -> str:
        """Return the commit of the branch, empty when there is none."""
        return self._git("for-each-ref", "--format=%(objectname)", f"refs/heads/{self.branch()}")

    def commit_folder(self, folder: Path, message: str, parent: str = "") -> str:
        """Record every file of a folder as a commit, and return its id; `parent` if its files are the same.

        No ref leads to it yet: `keep` does that.
        """
        with tempfile.TemporaryDirectory(dir=self.path, prefix="index-") as scratch:
            place = {"GIT_INDEX_FILE": f"{scratch}/index", "GIT_WORK_TREE": str(folder)}
            self._git("add", "--all", "--force", ".", environment=place, cwd=folder)
            tree = self._git("write-tree", environment=place)
        if parent and self._git("rev-parse", "--verify", f"{commit_id(parent)}^{{tree}}") == tree:
            return parent
        parents = ["-p", commit_id(parent)] if parent else []
        return self._git("commit-tree", tree, *parents, environment=AUTHOR, given=message.encode())

    def has_ancestor(self, commit: str, ancestor: str) -> bool:
        """Return whether the history of a commit holds another commit."""
        return not self._git("rev-list", "--max-count=1", commit_id(ancestor), f"^{commit_id(commit)}")

    def keep(self, commit: str, release: int) -> None:
        """Hold a commit as that of a release; one in quarantine comes out of it first."""
        if self.quarantine:
            packs = self.path / "objects" / "pack"
            packs.mkdir(exist_ok=True)
            had = self._git("for-each-ref", "--format=%(objectname)")
            wanted = f"{commit_id(commit)}\n--not\n{had}\n".encode()
            self._git("pack-objects", "--quiet", "--revs", f"{packs}/pack", given=wanted)
        self._settled._git("update-ref", f"{_HELD}{release}", commit_id(commit))

    def of_release(self, release: int) -> str:
        """Return the commit that is held for a release, empty when there is none."""
        return self._git("for-each-ref", "--format=%(objectname)", f"{_HELD}{release}")

    def hold_only(self, releases: Collection[int]) -> None:
        """No longer hold the commits of other releases, unless they are in the history of these."""
        held = self._git("for-each-ref", "--format=%(refname)", _HELD).split()
        gone = [ref for ref in held if int(ref.rpartition("/")[2]) not in releases]
        if gone:
            self._git("update-ref", "--stdin", given="".join(f"delete {ref}\n" for ref in gone).encode())

    def bundle(self, target: Path) -> set[int]:
        """Write the branch and all commits that are held to a file; return the numbers of their releases.

        Without any, there is no file.
        """
        refs = self._git("for-each-ref", "--format=%(refname)").split()
        if refs:
            self._git_slowly("bundle", "create", "--quiet", str(target), "--all")
        return {int(ref.removeprefix(_HELD)) for ref in refs if ref.startswith(_HELD)}

    def unbundle(self, source: Path) -> None:
        """Take the branch and the commits from a file that `bundle` has written."""
        printed = self._git_slowly("bundle", "unbundle", str(source))
        listed = [line.partition(" ") for line in printed.splitlines()]
        wanted = {name: commit for commit, _, name in listed if _RESTORED.fullmatch(name)}
        for name in BRANCHES:
            if f"refs/heads/{name}" in wanted:
                self.choose_branch(name)
        given = "".join(f"create {name} {commit_id(commit)}\n" for name, commit in wanted.items())
        self._git("update-ref", "--stdin", given=given.encode())
        self._git_slowly("fsck", "--connectivity-only", "--no-dangling")

    def set_live(self, commit: str) -> None:
        """Let the branch point at a commit: a clone gets its files."""
        self._git("update-ref", f"refs/heads/{self.branch()}", commit_id(commit))

    def tidy(self) -> None:
        """Pack the objects if there are many. Those that no ref leads to are deleted when they are two hours old."""
        self._git("gc", "--auto", "--quiet")

    def environment(self) -> dict[str, str]:
        """Return the environment of a git command on this repository."""
        return git_environment(self.path) | dict(self.quarantine)

    @property
    def _settled(self) -> "Repository":
        """This repository without its quarantine: while it has one, git writes no refs."""
        return Repository(self.path)

    def _git(
        self, *arguments: str, environment: Mapping[str, str] | None = None, given: bytes = b"", cwd: Path | None = None
    ) -> str:
        printed = run_git(self.environment() | dict(environment or {}), *arguments, given=given, cwd=cwd)
        return printed.decode().strip()

    def _git_slowly(self, *arguments: str) -> str:
        return run_git(self.environment(), *arguments, seconds=_SLOW_SECONDS).decode()


def commit_id(commit: str) -> str:
    """Return a commit's id, which is checked so that it cannot be an option or another name."""
    if not _COMMIT.fullmatch(commit):
        raise GitError("a commit is named by its whole id, in hex")
    return commit
