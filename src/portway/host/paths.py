"""The paths of the host's files and sockets, all derived from the data directory, which is found, made private and
checked here.
"""

import hashlib
import os
import re
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from portway.host.files import write_durably
from portway.host.stale_runs import remove_stale_runs

# Linux's sockaddr_un holds 108 bytes, and the rest of a socket path needs up to 50 of them.
_LONGEST_RUN_DIRECTORY = 57
_SECRET_BYTES = 32
_RELEASE = re.compile(r"/apps/[a-z0-9-]+/releases/\d+/(?:src/)?")  # where one is, below the data directory


class PathError(Exception):
    """A directory the host needs cannot be used; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one data directory `data`, with its sockets in `run`. Only `prepare` touches the disk."""

    data: Path
    run: Path

    def hidden(self, text: str) -> str:
        """Return a text without the places of this directory and of the releases in it, for who is not on the host."""
        return _RELEASE.sub("", text.replace(str(self.data), ""))

    @property
    def identity(self) -> str:
        """Eight letters and digits that tell this host from the others of the machine."""
        return _run_name(self.data)

    @property
    def database(self) -> Path:
        return self.data / "portway.db"

    @property
    def routes(self) -> Path:
        return self.data / "routes.json"

    @property
    def tokens(self) -> Path:
        return self.data / "tokens.jsonl"

    @property
    def sessions(self) -> Path:
        """What the gate knows of clients' sessions."""
        return self.data / "sessions.jsonl"

    @property
    def calls(self) -> Path:
        return self.data / "calls"

    @property
    def secret(self) -> Path:
        """32 random bytes: the key of the digests in the call record."""
        return self.data / "secret"

    @property
    def key(self) -> Path:
        """The key that encrypts variables, unless it is kept elsewhere."""
        return self.data / "key"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    @property
    def cache(self) -> Path:
        """HOME of builds, with uv's cache and the interpreters it fetches."""
        return self.data / "cache"

    @property
    def npmrc(self) -> Path:
        """The settings of npm for builds."""
        return self.cache / ".npmrc"

    @property
    def npm_tarballs(self) -> Path:
        """The tarballs of npm packages that apps share; no build sees the folder."""
        return self.cache / "npm-tarballs"

    @property
    def interpreters(self) -> Path:
        """The Python interpreters that uv has fetched, for all apps."""
        return self.cache / ".local" / "share" / "uv" / "python"

    @property
    def location(self) -> Path:
        """The file with the path of this directory at the last start, by which a move is noticed."""
        return self.data / "location"

    @property
    def wheels(self) -> Path:
        return self.data / "wheels"

    @property
    def tls(self) -> Path:
        """What Caddy keeps, its certificates and keys among it."""
        return self.data / "tls"

    @property
    def own_certificate(self) -> Path:
        """The operator's certificate and key that are in use, which Caddy gets from the gate."""
        return self.tls / "own.pem"

    @property
    def caddy_config(self) -> Path:
        return self.tls / "caddy.json"

    @property
    def drafts(self) -> Path:
        """Copies of sources whose deploys have not begun to build, and what is being deleted; emptied at a start."""
        return self.data / "drafts"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def git_socket(self) -> Path:
        return self.run / "git.sock"

    @property
    def management_socket(self) -> Path:
        """Where control serves the management API to users with tokens, whom the gate passes on."""
        return self.run / "management.sock"

    @property
    def gate_socket(self) -> Path:
        return self.run / "gate.sock"

    @property
    def web_socket(self) -> Path:
        """Where the gate serves the clients that Caddy passes on."""
        return self.run / "web.sock"

    @property
    def caddy_socket(self) -> Path:
        """Where Caddy takes a new configuration."""
        return self.run / "caddy.sock"

    @property
    def retired_gate_socket(self) -> Path:
        """Where a gate is asked whose successor has its place, until its last call has ended."""
        return self.run / "gate.retired.sock"

    @property
    def standby_socket(self) -> Path:
        """Where a gate answers that waits to succeed another."""
        return self.run / "gate.next.sock"

    @property
    def instances(self) -> Path:
        return self.run / "i"

    @property
    def log_pipes(self) -> Path:
        return self.run / "logs"

    @property
    def restored(self) -> Path:
        """Says which backup the host was restored from, until it takes over from the host that was backed up."""
        return self.data / "restored"

    @property
    def backups(self) -> Path:
        """The backups that users from afar have asked for."""
        return self.data / "backups"

    @property
    def announced(self) -> Path:
        """Exists once the ready line is printed; without it, a control that is started again prints the line."""
        return self.data / "announced"

    def app(self, app: str) -> Path:
        return self.data / "apps" / app

    def destroying(self, app: str) -> Path:
        """The file that says that the app is being destroyed: a start goes on with that."""
        return self.app(app) / "destroying"

    def draft(self) -> Path:
        """Return a new path for a copy of a source, or for what is being deleted."""
        return self.drafts / secrets.token_hex(8)

    def repository(self, app: str) -> Path:
        """The bare git repository of the app."""
        return self.app(app) / "git"

    def release(self, app: str, number: int) -> Path:
        """The folder of a release. Raises ValueError for a `number` that is a text."""
        return self.app(app) / "releases" / f"{number:d}"

    def unbuilt(self, app: str, number: int) -> Path:
        """Exists while a release of a restored host has no files: it is built when they are needed."""
        return self.release(app, number) / "unbuilt"

    def kept_source(self, app: str, number: int) -> Path:
        """The source of such a release that has no commit."""
        return self.release(app, number) / "source"

    def storage(self, app: str) -> Path:
        """The folder in which the app keeps data from release to release."""
        return self.app(app) / "storage"

    def known_hosts(self, app: str) -> Path:
        """The keys of the host that the app's link fetches from."""
        return self.app(app) / "known_hosts"

    def storages(self) -> list[Path]:
        """Return the folders in which apps keep data from release to release."""
        return list((self.data / "apps").glob("*/storage"))

    def app_cache(self, app: str) -> Path:
        """HOME of the app's builds in a sandbox, which write to no cache that other apps use."""
        return self.app(app) / "cache"

    def instance_folder(self, instance: str) -> Path:
        """The folder with the instance's socket, which a sandbox shows to that instance alone."""
        return self.instances / instance

    def instance_socket(self, instance: str) -> Path:
        return self.instance_folder(instance) / "app.sock"

    def prepare(self) -> None:
        """Make the directories, private to this user, and the secret. Raises `PathError` when one cannot be trusted."""
        _require_usable(self.data)
        try:
            if self.data.is_dir() and any(self.data.iterdir()) and not self.lock.exists():
                raise PathError(f"{self.data} holds something else: give --data a directory of its own")
            for directory in (self.data, self.calls, self.cache, self.wheels, self.data / "apps"):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise PathError(f"cannot make {error.filename}: {error.strerror}") from None
        _require_private(self.data)
        if os.statvfs(self.data).f_flag & os.ST_NOEXEC:
            raise PathError(
                f"{self.data} is on a file system mounted noexec, where no app can run: give another --data"
            )
        self.prepare_run()
        self._require_whole_files()

    def prepare_run(self) -> None:
        """Make the run directory and what leads to it, also when someone removed them. Raises `PathError`."""
        try:
            for directory in (self.run.parent, self.run, self.instances, self.log_pipes):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in (self.run.parent, self.run, self.instances):
                _require_private(directory)
            self._remember_run()
        except OSError as error:
            raise PathError(f"cannot make {error.filename}: {error.strerror}") from None

    def forget_run(self) -> None:
        """Remove the sockets' directory. Call it when no process of the host is left."""
        shutil.rmtree(self.run, ignore_errors=True)
        (self.data / "run").unlink(missing_ok=True)

    def releases(self, app: str) -> list[Path]:
        """Return the folders of the app's releases."""
        folder = self.app(app) / "releases"
        return [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []

    def newest_release(self, app: str) -> int:
        """Return the greatest number of the app's releases on disk, 0 when there is none."""
        return max((int(folder.name) for folder in self.releases(app)), default=0)

    def _require_whole_files(self) -> None:
        """Refuse a data directory with a missing or damaged file; make the secret of a new host."""
        apps = self.data / "apps"
        if any(apps.iterdir()) and not (self.database.exists() and self.database.stat().st_size):
            raise PathError(
                f"{self.database} is missing or empty, but {apps} holds apps: restore it from a copy, "
                f"or move {apps} away to start anew"
            )
        if not self.secret.exists():
            write_durably(self.secret, os.urandom(_SECRET_BYTES))
        elif self.secret.stat().st_size != _SECRET_BYTES:
            raise PathError(
                f"{self.secret} is not a complete key: restore it from a copy, or remove it, which ends every session"
            )

    def _remember_run(self) -> None:
        """Link to the run directory, so that a command with another XDG_RUNTIME_DIR finds it too."""
        link = self.data / "run"
        if link.is_symlink() and link.readlink() == self.run:
            return
        draft = self.data / "run.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(self.run)
        draft.replace(link)


def default_data() -> Path:
    """Return PORTWAY_DATA, else `portway` under XDG_DATA_HOME (~/.local/share)."""
    if named := os.environ.get("PORTWAY_DATA"):
        return Path(named)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "portway"


def claim(data: str | Path | None = None) -> Paths:
    """Make and check the paths of a host that is about to start on `data`; remove what killed hosts have left.

    Raises `PathError`.
    """
    directory = data_directory(data)
    paths = Paths(directory, run_directory(directory))
    paths.prepare()
    os.utime(paths.run)  # so that no other host takes it for one that was left
    remove_stale_runs(paths.run)
    return paths


def locate(data: str | Path | None = None) -> Paths:
    """Return the paths of `data` (default: `default_data()`), with the sockets where its host made them.

    Raises `PathError` when there is no default.
    """
    directory = data_directory(data)
    link = directory / "run"
    if link.is_symlink() and link.readlink().name == _run_name(directory):  # in a copied directory it leads elsewhere
        return Paths(directory, link.readlink())
    return Paths(directory, run_directory(directory))


def run_directory(data: Path) -> Path:
    """Return a directory for the sockets of `data` whose path is short enough to hold them."""
    name = _run_name(data)
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        run = Path(base) / "portway" / name
        if len(os.fsencode(run)) <= _LONGEST_RUN_DIRECTORY and os.access(base, os.W_OK):
            return run
    return Path("/tmp") / f"portway-{os.getuid()}" / name  # noqa: S108  # prepare() checks owner and mode


def _run_name(data: Path) -> str:
    return hashlib.sha256(os.fsencode(data)).hexdigest()[:8]


def data_directory(data: str | Path | None) -> Path:
    """Return the absolute path of `data`, or of `default_data()`. Raises `PathError` when there is no default."""
    try:
        return (Path(data) if data else default_data()).expanduser().resolve()
    except RuntimeError:  # no HOME and no entry in the list of users
        raise PathError("there is no home directory: give --data, or set PORTWAY_DATA or HOME") from None


def _require_usable(data: Path) -> None:
    """Refuse a path that an app's environment variables and scripts cannot contain."""
    name = str(data)
    if any(character in name for character in "\n\r:") or not name.isprintable():
        raise PathError(f"{name!r} contains a colon or an unprintable character: give another --data")


def _require_private(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PathError(f"{directory} is not a directory of its own (a link or a file): remove it")
    if found.st_uid != os.getuid():
        raise PathError(f"{directory} belongs to another user: set XDG_RUNTIME_DIR or --data to a place of yours")
    if stat.S_IMODE(found.st_mode) & 0o077:
        try:
            directory.chmod(0o700)
        except OSError as error:
            raise PathError(f"cannot make {directory} private: {error.strerror}") from None
