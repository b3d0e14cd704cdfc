"""The errors and warnings of a blueprint, each with its line and column; twenty at most."""

from dataclasses import dataclass
from typing import NoReturn

_MOST = 20


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A place in a file; both count from 1."""

    line: int
    column: int


class BlueprintError(Exception):
    """The blueprint cannot be used; the message has a line for each of its errors, twenty at most."""


def no_yaml() -> BlueprintError:
    """Return the error of an installation that cannot read and write YAML."""
    return BlueprintError("ruamel.yaml, which reads blueprints, is missing: pip install 'portway[host]'")


class Problems:
    """Collects the errors and warnings of one file. A warning is kept once, at its first place."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._errors: list[tuple[Place, str]] = []
        self._warnings: dict[str, Place] = {}

    @property
    def warnings(self) -> list[str]:
        return [self._line(place, text) for text, place in self._warnings.items()]

    def error(self, place: Place, text: str) -> None:
        """Add an error. Raises `BlueprintError` when there are many, so that no file makes endless ones."""
        self._errors.append((place, text))
        if len(self._errors) == _MOST:
            self.raise_errors()

    def refuse(self, place: Place, text: str) -> NoReturn:
        """Add an error after which nothing more can be read, and raise `BlueprintError`."""
        self._errors.append((place, text))
        raise self._all()

    def warning(self, place: Place, text: str) -> None:
        if len(self._warnings) < _MOST:
            self._warnings.setdefault(text, place)

    def raise_errors(self) -> None:
        """Raise `BlueprintError` if there is an error."""
        if self._errors:
            raise self._all()

    def _all(self) -> BlueprintError:
        return BlueprintError("\n".join(self._line(place, text) for place, text in sorted(self._errors)))

    def _line(self, place: Place, text: str) -> str:
        return f"{self._file} (line {place.line}, column {place.column}): {text}"
