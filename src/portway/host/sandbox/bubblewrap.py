"""Commands of builds and instances under bubblewrap: which of the host's files they see, in namespaces of their own.

Inside, the root is read-only and holds the system's programs, libraries and public settings. Of anybody's home, of the
data directory and of the run directory, it holds only what is bound here. Paths are the same inside and outside.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from portway.host.paths import Paths
from portway.host.releases.release import Release

# The settings that programs read and every user may know; /etc holds keys and passwords beside them.
_ETC = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "group"),
    *("host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "machine-id"),
    *("mime.types", "nsswitch.conf", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "protocols"),
    *("resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf", "timezone"),
)
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # directories, or links into /usr
_SHARED_MEMORY_BYTES = 64 * 1024 * 1024  # /dev/shm, as containers have it
# Variables of uv and npm that may name a file or folder of the operator's.
_FILES = (
    *("UV_FIND_LINKS", "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("NODE_EXTRA_CA_CERTS", "npm_config_cafile", "NPM_CONFIG_CAFILE"),
)


class Bubblewrap:
    """Wraps commands of releases in `bwrap`."""

    def __init__(self, program: str, paths: Paths) -> None:
        self._program = program
        self._paths = paths

    def for_build(self, release: Release, environment: Mapping[str, str]) -> list[str]:
        """Return the words to put before a command that builds `release`.

        It may write to the release and to the app's own cache, and reads the interpreters that uv has fetched.
        """
        cache = self._paths.app_cache(release.app)
        cache.mkdir(mode=0o700, exist_ok=True)
        made = [path for path in (release.source, release.venv) if path.exists()]
        readable = [self._paths.wheels, self._paths.npmrc, *_named_files(environment)]
        tmp = release.directory / "tmp"
        writable = {str(path): path for path in (*made, release.home, tmp, cache)}
        return self._command(release, tmp, readable, writable)

    def for_instance(self, release: Release, tmp: Path, writable: Mapping[str, Path]) -> list[str]:
        """Return the words to put before a command that runs `release`, with `tmp` as its /tmp.

        It may write to `tmp`, to the release's home, and to the folders in `writable`, by their paths inside.
        """
        home, storage, disk = release.home, release.storage, release.config.disk
        shown = {str(home): home}
        if storage is not None and disk is not None:
            shown |= {str(storage): storage} | ({disk.mount_path: storage} if disk.mount_path else {})
        return self._command(release, tmp, (release.source, release.venv), {**shown, **writable})

    def _command(
        self, release: Release, tmp: Path, readable: Iterable[Path], writable: Mapping[str, Path]
    ) -> list[str]:
        words = [self._program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        words += ["--unshare-cgroup-try", "--new-session", "--hostname", "portway", "--cap-drop", "ALL"]
        words += _system()
        words += ["--bind", str(tmp), "/tmp"]  # noqa: S108  # first, as the other folders may be below /tmp
        for path in (Path(sys.base_prefix), self._paths.interpreters, release.tools, *readable):
            words += ["--ro-bind-try", str(path), str(path)]
        words += self._tools(release)
        for inside, path in writable.items():
            words += ["--bind", str(path), inside]
        return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(release.folder), "--"]

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
    words += ["--proc", "/proc", "--dev", "/dev"]
    return [*words, "--size", str(_SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108


def _named_files(environment: Mapping[str, str]) -> list[Path]:
    """Return the files and folders that variables name, as paths or as file URLs."""
    words = [word.removeprefix("file://") for name in _FILES for word in environment.get(name, "").split()]
    return [Path(word) for word in words if word.startswith("/")]
