"""A release on disk: its folders, and the environment variables of its processes."""

from dataclasses import dataclass
from pathlib import Path

from portway.host.app_config import DEFAULT, AppConfig, Start
from portway.host.files import remove_tree
from portway.host.logs.log_file import write_to

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Release:
    """A version of an app. Its `directory` is read-only once it is built, except for the log, `home` and `tmp`.

    `start` is known once it is built. `shared` is the directory of the release whose files it runs, None when it has
    its own.
    """

    app: str
    number: int
    directory: Path
    config: AppConfig = DEFAULT
    start: Start | None = None
    shared: Path | None = None

    @property
    def files(self) -> Path:
        return self.shared or self.directory

    @property
    def source(self) -> Path:
        return self.files / "src"

    @property
    def folder(self) -> Path:
        """Where its commands run: the folder of the source that holds the app."""
        return self.source / self.config.root_dir

    @property
    def venv(self) -> Path:
        return self.files / "venv"

    @property
    def home(self) -> Path:
        return self.files / "home"

    @property
    def tools(self) -> Path:
        """Programs beside those of the system: uv, or node and its package manager."""
        return self.files / "bin"

    @property
    def build_log(self) -> Path:
        return self.directory / "log" / "build.log"

    @property
    def log(self) -> Path:
        """The log of its instances: their stdout and stderr."""
        return self.directory / "log" / "instance.log"

    @property
    def storage(self) -> Path | None:
        """The app's own folder, which all its releases share; None without one."""
        return self.directory.parents[1] / "storage" if self.config.disk else None

    def environment(self) -> dict[str, str]:
        """Return the environment variables of every process of the release, none of them the host's own."""
        variables = {
            "PATH": f"{self.venv / 'bin'}:{self.folder / 'node_modules' / '.bin'}:{self.tools}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "TMPDIR": str(self.directory / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PORTWAY_APP": self.app,
            "PORTWAY_RELEASE": str(self.number),
            # `uv run` uses the environment as it was built.
            "VIRTUAL_ENV": str(self.venv),
            "UV_PROJECT_ENVIRONMENT": str(self.venv),
            "UV_NO_SYNC": "1",
            "UV_OFFLINE": "1",
        }
        if self.storage is not None:
            variables["PORTWAY_STORAGE"] = str(self.storage)
        return variables

    def make_storage(self) -> None:
        """Make the app's own folder if it wants one."""
        if self.storage is not None:
            self.storage.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove_files(self) -> None:
        """Delete what a build has made, and what instances have left beside it."""
        for folder in ("src", "venv", "bin", "home", "tmp"):
            remove_tree(self.directory / folder)

    def keep_only_logs(self, error: str) -> None:
        """Delete its files but the logs of its build and its instances; the former ends with the error's first line."""
        self.remove_files()
        self.directory.mkdir(parents=True, exist_ok=True)
        write_to(self.build_log, error.splitlines()[0].removesuffix(":"))
