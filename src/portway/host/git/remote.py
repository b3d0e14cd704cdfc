"""Fetches commits of a git repository elsewhere (https, ssh with a key), within bounds of time and size, and says why
one cannot be fetched.
"""

import asyncio
import contextlib
import os
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portway.host.git.commit_source import CommitSource
from portway.host.git.git_command import GitError, git_environment, git_program, run_git
from portway.host.git.remote_address import resolve
from portway.host.git.remote_branch import look_at_branch
from portway.host.git.remote_url import GitUrl, read_git_url, read_ref
from portway.host.git.repository import LARGEST_PUSH, Repository
from portway.host.sources.source import SourceError

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LIST_SECONDS, _FETCH_SECONDS = 20.0, 120.0
_LOOK_SECONDS = 0.2  # between looks at the size of what is fetched
_ANSWER_BYTES = 16 * 1024 * 1024  # of a list of refs
_OLDEST = (2, 37)  # the first git that connects where it is told to
_REASON_BYTES = 200
_SAID = re.compile(
    r"^(?:fatal|error|ERROR|remote|ssh): (.+)$|^(.*(?:denied|verification failed|refused).*)$", re.MULTILINE
)
# The variable by which git learns of authorities, and the host's own that says which.
_AUTHORITIES = (
    ("GIT_SSL_CAINFO", "GIT_SSL_CAINFO"),
    ("GIT_SSL_CAINFO", "SSL_CERT_FILE"),
    ("GIT_SSL_CAPATH", "SSL_CERT_DIR"),
)
_UNTRUSTED = re.compile("certificate verification failed|SSL certificate problem")
_MOVED = re.compile(r"returned error: 30[12378]")


@dataclass(frozen=True, slots=True)
class Ref:
    """A ref of a remote repository: the name of a branch or a tag, "" for a commit that is given by its id."""

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class Remote:
    """The repository at `url`. With `private`, it may be on this machine or in its network.

    `key` is the private key by which ssh is let in, "" for none; `known_hosts` is the file that keeps the other host's
    own key.
    """

    url: GitUrl
    private: bool = False
    key: str = ""
    known_hosts: Path | None = None

    async def find(self, ref: str, scratch: Path) -> Ref:
        """Return what a branch, a tag or a commit is now, the default branch for "". Raises `SourceError`."""
        if _COMMIT.fullmatch(ref):
            return Ref("", ref)
        listed = await self._run(scratch, "ls-remote", ref, seconds=_LIST_SECONDS)
        lines = [line.split("\t", 1) for line in listed.decode(errors="replace").splitlines() if "\t" in line]
        commits = {name: commit for commit, name in lines if _COMMIT.fullmatch(commit)}
        if not ref:
            head = next((target.removeprefix("ref: ") for target, name in lines if name == "HEAD"), "")
            ref = head.removeprefix(_HEADS) or "HEAD"
            if "HEAD" in commits:
                commits[_HEADS + ref] = commits["HEAD"]
        for name in (_HEADS + ref, f"{_TAGS}{ref}^{{}}", _TAGS + ref):
            if commit := commits.get(name):
                return Ref(ref, commit)
        if not commits:
            raise SourceError(f"{self.url} holds no commits: push some there first")
        raise SourceError(f"{self.url} has no branch or tag {ref}: give one of its own, or a commit by its whole id")

    async def look(self, branch: str) -> str:
        """Return the commit of a branch if one request tells it, else "". Raises `SourceError`."""
        if self.url.scheme == "ssh":
            return ""
        addresses = await resolve(self.url, private=self.private)
        return await look_at_branch(self.url, addresses[0], branch)

    async def fetch(self, ref: Ref, repository: Repository) -> str:
        """Fetch a commit with its history into a repository, and return its id. Raises `SourceError`."""
        await self._run(repository.path, "fetch", ref.commit, seconds=_FETCH_SECONDS)
        try:
            found = await asyncio.to_thread(
                run_git, repository.environment(), "rev-parse", "--verify", f"{ref.commit}^{{commit}}"
            )
        except GitError:
            raise SourceError(
                f"{ref.commit[:7]} of {self.url} is no commit: give a branch, a tag or a commit"
            ) from None
        return found.decode().strip()

    async def _run(self, place: Path, command: str, wanted: str, *, seconds: float) -> bytes:
        """Run `ls-remote` or `fetch` and return what it printed. Raises `SourceError`."""
        addresses = await resolve(self.url, private=self.private)
        settings = ["http.followRedirects=false", "fetch.unpackLimit=1", "core.askPass=", "credential.helper="]
        if self.url.scheme != "ssh" and self.url.host not in addresses:
            if await asyncio.to_thread(_git_version) < _OLDEST:
                raise SourceError("git on this host is too old to fetch safely: install 2.37 or later")
            pinned = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
            settings.append(f"http.curloptResolve={self.url.host}:{self.url.port}:{pinned}")
        arguments = [part for setting in settings for part in ("-c", setting)] + [command]
        if command == "fetch":
            arguments += ["--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
            arguments += ["--no-auto-maintenance", "--", str(self.url), wanted]
        else:
            arguments += ["--symref", "--", str(self.url), "HEAD"]
            arguments += [_HEADS + wanted, f"{_TAGS}{wanted}*"] if wanted else []
        authorities = ({name: os.environ[ours]} for name, ours in _AUTHORITIES if os.environ.get(ours))
        environment = git_environment(place) | next(authorities, {})
        environment |= {
            "GIT_ALLOW_PROTOCOL": "http:https:ssh" if self.private else "https:ssh",
            "GIT_SSH_VARIANT": "ssh",
            "PORTWAY_BUILD": str(place),  # by which a later control finds it, and ends it
        }
        with _key_file(place, self.key) as key:
            environment["GIT_SSH_COMMAND"] = self._ssh(addresses[0], key, self.known_hosts or place / "known_hosts")
            status, printed, said = await _run_bounded(place, environment, arguments, seconds, str(self.url))
        if status:
            raise SourceError(f"{self.url} cannot be fetched: {_reason(said)}")
        return printed

    def _ssh(self, address: str, key: Path, known_hosts: Path) -> str:
        """Return the command for ssh, which uses nothing of this user and connects to `address` only."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": _as_ssh_reads(key),
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": _as_ssh_reads(known_hosts),
            "GlobalKnownHostsFile": os.devnull,
            "HostKeyAlias": self.url.authority,
            "HostName": address,
            "ClearAllForwardings": "yes",
            "ConnectTimeout": "10",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return shlex.join(["ssh", "-F", os.devnull, *words])


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """GIT-URL[#REF], as a user gives it: fetched, it is a `Source`. REF is a branch, a tag or a commit."""

    text: str

    async def fetch(self, place: Path, *, private: bool) -> CommitSource:
        """Fetch it into a new repository at `place`. Raises `SourceError` and `GitError`."""
        address, hash_, name = self.text.partition("#")
        url, wanted = read_git_url(address), read_ref(name) if hash_ else ""
        repository = Repository(place)
        await asyncio.to_thread(repository.make)
        remote = Remote(url, private)
        ref = await remote.find(wanted, place)
        commit = await remote.fetch(ref, repository)
        return CommitSource(repository, commit, ref.name, f"{url}{hash_}{wanted}", url.name, url.slug)


@contextlib.contextmanager
def _key_file(place: Path, key: str) -> Iterator[Path]:
    """Yield a file that holds a key, which is on disk for as long as the block lasts; an empty one for no key."""
    if not key:
        yield Path(os.devnull)
        return
    path = place / "key"
    try:
        path.touch(mode=0o600)
        path.write_text(key.rstrip("\n") + "\n")
        yield path
    finally:
        path.unlink(missing_ok=True)


def _as_ssh_reads(path: Path) -> str:
    """Return a path as the value of an option: ssh splits it at spaces, and `%` begins what ssh fills in."""
    return '"' + str(path).replace("%", "%%") + '"'


async def _run_bounded(
    place: Path, environment: dict[str, str], arguments: list[str], seconds: float, name: str
) -> tuple[int, bytes, str]:
    """Return the status of git, what it printed and what it said of errors. Raises `SourceError` beyond a bound."""
    process = await asyncio.create_subprocess_exec(
        *(git_program(), *arguments),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    reading = asyncio.gather(_read(process.stdout), _read(process.stderr), process.wait())
    try:
        async with asyncio.timeout(seconds):
            while not (await asyncio.wait((reading,), timeout=_LOOK_SECONDS))[0]:
                if await asyncio.to_thread(_size, place) > LARGEST_PUSH:
                    raise SourceError(
                        f"{name} is larger than {LARGEST_PUSH // 2**20} MB with its history: make it smaller"
                    )
        printed, said, status = reading.result()
    except TimeoutError:
        raise SourceError(f"{name} was not fetched within {seconds:.0f} s: try again, or make it smaller") from None
    finally:
        reading.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return status, printed, said.decode(errors="replace")


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Return what a stream holds. What is too much is read and dropped."""
    held = bytearray()
    while piece := await stream.read(65_536):
        held += piece[: _ANSWER_BYTES - len(held)]
    return bytes(held)


def _size(folder: Path) -> int:
    """Return how many bytes the files below a folder have, as far as they stay there."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size
    return size


def _reason(said: str) -> str:
    """Return the line by which git says why, made fit for a sentence."""
    if _MOVED.search(said):
        return "it has another address now: give that one, often the same with .git at its end"
    if _UNTRUSTED.search(said):
        return (
            "its certificate is not trusted here: if an authority of your own has signed it, start `portway up` with "
            "SSL_CERT_FILE, a file with the certificate of that authority beside those of the others"
        )
    if "could not read Username" in said:
        return "it asks who you are: `portway link APP GIT-URL --key FILE` fetches a private one by ssh"
    if "Host key verification failed" in said:
        return "its host has another key than before: if that is meant, `portway unlink APP`, and link it again"
    if "Permission denied (" in said:
        return "it does not accept the key: `portway link APP GIT-URL --key FILE`, with a deploy key without passphrase"
    lines = [first or second for first, second in _SAID.findall(said)]
    line = lines[0] if lines else "git does not say why"
    return "".join(character if character.isprintable() else " " for character in line)[:_REASON_BYTES]


def _git_version() -> tuple[int, ...]:
    printed = run_git({"PATH": os.environ.get("PATH", os.defpath)}, "version").decode()
    return tuple(int(number) for number in re.findall(r"\d+", printed)[:2])
