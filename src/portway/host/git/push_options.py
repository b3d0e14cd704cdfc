"""The options of a push (`git push -o`): the flags of `portway deploy` under the same names, read and written.

`force` replaces the history of the app's repository. `deploy` is said by `portway deploy`, which pushes a folder: the
push takes the place of whatever is live by then, and its outcome is told as one line of JSON, a `PushOutcome`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from portway.exceptions import SettingError
from portway.host.app_config import Access, ContractPolicy, Disk, RuntimeName
from portway.host.management.management_types import Deployment
from portway.http.cors import Cors

_WORDS = ("force", "skip", "deploy")
_NAMES = {
    "access": "access",
    "allow-origin": "origins",
    "upstream-token": "upstream_token",
    "runtime": "runtime",
    "root": "root_dir",
    "build": "build_command",
    "start": "start_command",
    "server": "server",
    "instances": "num_instances",
    "storage": "storage_gb",
    "contract": "contract",
    "accept": "accept",
    "allow-file": "allowed",
}
_SEVERAL = ("origins", "accept", "allowed")  # each may be given again
_SHOWN = 40


class PushRefused(Exception):
    """The push is not deployed; the message is one sentence for the one who pushes."""


class PushOutcome(msgspec.Struct, omit_defaults=True):
    """What became of a push: the apps that are live, or why it was not begun, or why it failed."""

    apps: list[Deployment] = []
    superseded: str = ""
    error: str = ""


class _Flags(msgspec.Struct, frozen=True):
    """The values of the flags, by their fields; what is not given is as the blueprint says, or stays as it is."""

    access: Access | None = None
    origins: list[str] | None = None
    upstream_token: str | None = None
    runtime: RuntimeName | None = None
    root_dir: str | None = None
    build_command: str | None = None
    start_command: str | None = None
    server: str | None = None
    num_instances: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    storage_gb: Annotated[int, msgspec.Meta(ge=0, le=100_000)] | None = None
    contract: ContractPolicy | None = None
    accept: list[str] = []
    allowed: list[str] = []


@dataclass(frozen=True, slots=True)
class PushOptions:
    """The options of one push. `changes` are fields of `AppConfig`."""

    force: bool = False
    skip: bool = False
    deploy: bool = False
    accept: Sequence[str] = ()
    allowed: Sequence[str] = ()
    changes: Mapping[str, object] = field(default_factory=dict)


def read_options(options: Iterable[str]) -> PushOptions:
    """Return what the options of a push say. Raises `PushRefused`."""
    words: set[str] = set()
    values: dict[str, object] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if option in _WORDS:
            words.add(option)
        elif not equals or name not in _NAMES:
            known = ", ".join((*_WORDS, *(f"{each}=…" for each in _NAMES)))
            raise PushRefused(f"there is no push option {option[:_SHOWN]!r}: the options are {known}")
        else:
            _add(values, name, value)
    flags = msgspec.convert(values, _Flags, strict=False)
    try:
        Cors(flags.origins or ())
    except SettingError as error:
        raise PushRefused(str(error)) from None
    changes = {name: value for name, value in msgspec.structs.asdict(flags).items() if value is not None}
    accept, allowed = changes.pop("accept"), changes.pop("allowed")
    if (size := changes.pop("storage_gb", None)) is not None:
        changes["disk"] = Disk(size_gb=size) if size else None
    return PushOptions("force" in words, "skip" in words, "deploy" in words, accept, allowed, changes)


def _add(values: dict[str, object], name: str, value: str) -> None:
    """Add the value of an option. Raises `PushRefused` for one that its flag does not take."""
    key = _NAMES[name]
    if key not in _SEVERAL:
        values[key] = value
    else:
        given = values.setdefault(key, [])
        assert isinstance(given, list)
        given.extend([value] if value else [])
    try:
        msgspec.convert({key: values[key]}, _Flags, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0]
        raise PushRefused(f"the push option {name} cannot be {value[:_SHOWN]!r}: {reason}") from None


def write_options(fields: Mapping[str, object]) -> list[str]:
    """Return the options for fields of a deploy, as `read_options` reads them; those that are None are left out."""
    options = [word for word in _WORDS if fields.get(word)]
    for name, key in _NAMES.items():
        match fields.get(key):
            case None:
                pass
            case [] if key == "origins":
                options.append(f"{name}=")
            case list() as several:
                options += [f"{name}={value}" for value in several]
            case value:
                options.append(f"{name}={value}")
    return options
