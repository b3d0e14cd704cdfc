"""The protocol of a source, the extension point for kinds of source; how an app is named after its source, and which
folder of it holds the app (`rootDir`).
"""

import re
from pathlib import Path
from typing import Protocol

NAME = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"
"""The names of apps, as a regular expression."""


class SourceError(Exception):
    """The source cannot become a release; the message is one sentence for its author."""


class Source(Protocol):
    """One place a deploy takes an app's files from."""

    @property
    def location(self) -> str:
        """Where the source is, as its author wrote it; stored with the release."""

    @property
    def name(self) -> str:
        """The name an app is named after when its author gives none."""

    async def variables(self) -> dict[str, str]:
        """Return the environment variables by which an app knows its source."""

    def copy_to(self, target: Path) -> None:
        """Copy its files into the new folder `target`. Raises `SourceError`, after which `target` is removed."""


def app_name(source: str, given: str | None) -> str:
    """Return the name given, else one made of the source's. Raises `SourceError` unless a host name can hold it."""
    name = given or re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")
    if not re.fullmatch(NAME, name):
        how = "a name" if given else "--name"
        raise SourceError(
            f"{name!r} cannot name an app: give {how} of up to 40 lower-case letters, digits, hyphens, a letter first"
        )
    return name


def app_folder(source: Path, root_dir: str) -> Path:
    """Return the folder of the source that holds the app. Raises `SourceError` unless it is one, inside the source."""
    folder = (source / root_dir).resolve()
    if not folder.is_dir() or not folder.is_relative_to(source.resolve()):
        raise SourceError(f"there is no folder {root_dir} in the source: name the one that holds the app")
    return folder
