"""The sandbox of builds and instances by bubblewrap: which of the host's files they see, which namespaces they have.

Inside, the root is read-only and holds the system's programs, libraries and public settings. Of anybody's home, of the
data directory and of the run directory, it holds only what is bound here. Paths are the same inside and outside.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.host.paths import Paths
from portway.host.releases.release import SYSTEM_PATH, Release
from portway.host.sandbox.own_network import DNS

# The settings that programs read and every user may know; /etc holds keys and passwords beside them.
_ETC = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "group"),
    *("host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "machine-id"),
    *("mime.types", "nsswitch.conf", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "protocols"),
    *("services", "ssl/certs", "ssl/openssl.cnf", "timezone"),
)
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # directories, or links into /usr
_SHARED_MEMORY_BYTES = 64 * 1024 * 1024  # /dev/shm, as containers have it
# Variables of uv and npm that may name a file or folder of the operator's.
_FILES = (
    *("UV_FIND_LINKS", "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("NODE_EXTRA_CA_CERTS", "npm_config_cafile", "NPM_CONFIG_CAFILE"),
)


# Variables by which the host knows its own processes. No others are outside of the sandbox: those of an app may be
# read by what starts programs, as LD_PRELOAD is.
_OUTSIDE = ("HOME", "PORTWAY_BUILD", "PORTWAY_INSTANCE")
_RUN_OWN_NETWORK = "import sys; sys.path.append(sys.argv.pop(1)); import own_network; own_network.main()"


@dataclass(frozen=True, slots=True)
class Wrapping:
    """How a command is started in a sandbox: words before its own, their environment, and descriptors to pass on."""

    words: list[str]
    environment: dict[str, str]
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox, in which a command can be started. `slirp` is a program, "" for a share in the host's network."""

    program: str
    options: list[str]
    slirp: str


@contextlib.contextmanager
def wrapped(sandbox: Sandbox | None, environment: Mapping[str, str], sockets: str = "") -> Iterator[Wrapping]:
    """Yield how a command with that environment is started in a sandbox, if any. Its start must be within the block.

    `sockets` is a path at which sockets of the sandbox's own network are handed out, "" for none.
    """
    if sandbox is None:
        yield Wrapping([], dict(environment))
        return
    with contextlib.ExitStack() as files:
        settings = files.enter_context(_file(_resolv_conf(is_own=bool(sandbox.slirp))))
        options = ["--ro-bind-data", str(settings), "/etc/resolv.conf", *sandbox.options]
        for name, value in environment.items():
            options += ["--setenv", name, value]
        given = files.enter_context(_file("\0".join(options)))
        words = [sandbox.program, "--args", str(given), "--"]
        if sandbox.slirp:
            folder = os.path.dirname(__file__)
            words = [sys.executable, "-I", "-S", "-c", _RUN_OWN_NETWORK, folder, sandbox.slirp, sockets, *words]
        outside = {name: environment[name] for name in _OUTSIDE if name in environment}
        yield Wrapping(words, {"PATH": SYSTEM_PATH, **outside}, (settings, given))


class Bubblewrap:
    """The sandboxes of releases. With `slirp`, the path of slirp4netns, they have networks of their own."""

    def __init__(self, program: str, paths: Paths, slirp: str = "") -> None:
        self.slirp = slirp
        self._program = program
        self._paths = paths

    def for_build(self, release: Release, of_build: Mapping[str, str], *, shares_network: bool) -> Sandbox:
        """Return the sandbox of a command that builds `release`.

        It may write to the release and to the app's own cache. It reads the interpreters that uv has fetched, and the
        files that the operator's variables in `of_build` name: the app's own would show it any file of the host.
        """
        cache = self._paths.app_cache(release.app)
        cache.mkdir(mode=0o700, exist_ok=True)
        made = [path for path in (release.source, release.venv) if path.exists()]
        readable = [self._paths.wheels, self._paths.npmrc, *_named_files(of_build)]
        tmp = release.directory / "tmp"
        writable = {str(path): path for path in (*made, release.home, tmp, cache)}
        return self._sandbox(release, tmp, readable, writable, "" if shares_network else self.slirp)

    def for_instance(self, release: Release, tmp: Path, writable: Mapping[str, Path]) -> Sandbox:
        """Return the sandbox of a command that runs `release`, with `tmp` as its /tmp.

        It may write to `tmp`, to the release's home, and to the folders in `writable`, by their paths inside.
        """
        home, storage, disk = release.home, release.storage, release.config.disk
        shown = {str(home): home}
        if storage is not None and disk is not None:
            shown |= {str(storage): storage}
            # In the data directory, a link of the app's own could be on the way.
            if disk.mount_path and not Path(disk.mount_path).is_relative_to(self._paths.data):
                shown[disk.mount_path] = storage
        return self._sandbox(release, tmp, (release.source, release.venv), {**shown, **writable}, self.slirp)

    def _sandbox(
        self, release: Release, tmp: Path, readable: Iterable[Path], writable: Mapping[str, Path], slirp: str
    ) -> Sandbox:
        options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        options += ["--unshare-cgroup-try", "--new-session", "--hostname", "portway", "--cap-drop", "ALL"]
        options += _system()
        options += ["--bind", str(tmp), "/tmp"]  # noqa: S108  # first, as the other folders may be below /tmp
        for path in (Path(sys.base_prefix), self._paths.interpreters, release.tools, *readable):
            options += ["--ro-bind-try", str(path), str(path)]
        options += self._tools(release)
        for inside, path in writable.items():
            options += ["--bind", str(path), inside]
        options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(release.folder)]
        return Sandbox(self._program, options, slirp)

    def _tools(self, release: Release) -> list[str]:
        """Return the options for what the links among the release's tools lead to. No build can write them."""
        words: list[str] = []
        for link in release.tools.iterdir() if release.tools.is_dir() else ():
            if link.is_symlink():
                named, real = link.readlink(), link.resolve()
                if real.is_relative_to(self._paths.cache):  # a folder for each that was fetched
                    real = self._paths.cache / real.relative_to(self._paths.cache).parts[0]
                elif "node_modules" in real.parts:  # npm is more than one file
                    real = Path(*real.parts[: real.parts.index("node_modules") + 1])
                elif link.name == "node":
                    packages = real.parents[1] / "lib" / "node_modules"  # npm, which a script among the tools runs
                    words += ["--ro-bind-try", str(packages), str(packages)]
                if not real.is_relative_to("/usr"):
                    words += ["--ro-bind", str(real), str(real)]
                if named.is_symlink() and not (named.is_relative_to("/usr") or named.is_relative_to(real)):
                    words += ["--symlink", str(link.resolve()), str(named)]
        return words


def _system() -> list[str]:
    """Return the options for what every command sees."""
    words = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        path = Path("/") / name
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    # Root needs no capability to write to what root owns: the settings of the kernel, such as core_pattern.
    words += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
    return [*words, "--size", str(_SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108


def _named_files(environment: Mapping[str, str]) -> list[Path]:
    """Return the files and folders that variables name, as paths or as file URLs."""
    words = [word.removeprefix("file://") for name in _FILES for word in environment.get(name, "").split()]
    return [Path(word) for word in words if word.startswith("/")]


@contextlib.contextmanager
def _file(content: str) -> Iterator[int]:
    """Yield a descriptor from which `content` can be read once."""
    descriptor = os.memfd_create("options")
    try:
        os.write(descriptor, os.fsencode(content))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _resolv_conf(*, is_own: bool) -> str:
    """Return the settings of the resolver (resolv.conf(5)) for the host's network or for one of its own."""
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if is_own:
        lines = [f"nameserver {DNS}", *(line for line in lines if not line.startswith("nameserver"))]
    return "".join(f"{line}\n" for line in lines)
