"""Reads the mappings of a blueprint by the table of fields: old names, fields without effect, what is not hosted here
(`--skip`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from portway.host.blueprint.fields import HOSTED_RUNTIMES, SERVICE, Field, List, Section
from portway.host.blueprint.kinds import WrongValue
from portway.host.blueprint.problems import Place, Problems
from portway.host.blueprint.unknown_field import unknown_field
from portway.host.blueprint.yaml_tree import Items, Members, Node, Scalar, shortened


@dataclass(frozen=True, slots=True)
class Found:
    """The value of a field and the place of its key."""

    value: object
    place: Place


@dataclass(frozen=True, slots=True)
class Values:
    """What stands in a mapping, by the fields' targets."""

    place: Place
    found: dict[str, Found] = field(default_factory=dict)

    def get(self, target: str) -> object:
        return self.found[target].value if target in self.found else None

    def text(self, target: str) -> str:
        value = self.get(target)
        return value if isinstance(value, str) else ""

    def section(self, target: str) -> Values:
        value = self.get(target)
        return value if isinstance(value, Values) else Values(self.place)

    def sections(self, target: str) -> list[Values]:
        value = self.get(target)
        return [item for item in value if isinstance(item, Values)] if isinstance(value, list) else []

    def plain(self) -> dict[str, object]:
        """Return the values without their places, those of sections too."""
        return {target: _plain(found.value) for target, found in self.found.items()}


class SectionReader:
    """Reads mappings. With `skip`, what is not hosted here is left out with a warning; else it is an error."""

    def __init__(self, problems: Problems, *, skip: bool) -> None:
        self._problems = problems
        self._skip = skip

    def read(self, node: Node, section: Section) -> Values:
        """Return what stands in the mapping `node`; what is wrong in it is missing, and is among the problems."""
        values = Values(node.place)
        if not isinstance(node, Members):
            self._problems.error(node.place, f"{section.says} must be a mapping, as in `name: value`")
            return values
        for name, (place, value) in node.entries.items():
            known = section.field(name)
            if known is None:
                names = [field.name for field in section.fields]
                self._problems.error(place, unknown_field(name, names, section.says))
            elif known.instead:
                self._problems.warning(place, f"`{name}` is an old name of `{known.instead}`: rename it")
                newer = section.field(known.instead)
                if newer is not None and known.instead not in node.entries:  # the newer one wins
                    self._field(place, newer, value, values)
            else:
                self._field(place, known, value, values)
        for missing in section.fields:
            if missing.is_required and missing.name not in node.entries:
                self._problems.error(node.place, f"{section.says} has no `{missing.name}`: add it")
        return values

    def _field(self, place: Place, known: Field, node: Node, values: Values) -> None:
        value = self._value(known, node)
        if known.no_effect:
            self._problems.warning(place, f"`{known.name}` has no effect here: {known.no_effect}")
        elif known.not_hosted:
            self._not_hosted(place, f"`{known.name}` needs {known.not_hosted}, which is not hosted here")
        if known.target and value is not None:
            values.found[known.target] = Found(value, place)

    def _value(self, known: Field, node: Node) -> object:
        """Return the value, None when it is wrong."""
        kind = known.kind
        if isinstance(kind, Section):
            return self.read(node, kind)
        if isinstance(kind, List):
            if not isinstance(node, Items):
                self._problems.error(node.place, f"`{known.name}` must be a list of mappings, each after `- `")
                return None
            items = [item for item in node.nodes if kind.section is not SERVICE or self._is_hosted(item)]
            return [self.read(item, kind.section) for item in items]
        try:
            return kind.read(node)
        except WrongValue as error:
            self._problems.error(node.place, str(error) or f"`{known.name}` must be {kind.says}")
            return None

    def _is_hosted(self, node: Node) -> bool:
        """Return whether a service runs here; if not, say so. It is not looked at any further then."""
        if not isinstance(node, Members):
            return True  # and is refused as no mapping
        written = {name: value.text for name, (_, value) in node.entries.items() if isinstance(value, Scalar)}
        kind, runtime = written.get("type", "web"), written.get("runtime", written.get("env", HOSTED_RUNTIMES[0]))
        name = shortened(written.get("name", ""))
        for target, value, hosted in (("type", kind, ("web",)), ("runtime", runtime, HOSTED_RUNTIMES)):
            known = SERVICE.field(target)
            assert known is not None
            if value not in hosted and self._is_valid(known, value):
                place = node.entries[target][0] if target in node.entries else node.place
                self._not_hosted(place, f"the service `{name}` of {target} `{value}` is not hosted here")
                return False
        return True

    def _is_valid(self, known: Field, text: str) -> bool:
        assert not isinstance(known.kind, Section | List)
        try:
            known.kind.read(Scalar(text, Place(0, 0)))
        except WrongValue:
            return False
        return True

    def _not_hosted(self, place: Place, text: str) -> None:
        if self._skip:
            self._problems.warning(place, f"{text}: it is left out")
        else:
            self._problems.error(place, f"{text}: remove it, or give --skip (git push: -o skip) to leave it out")


def _plain(value: object) -> object:
    if isinstance(value, Values):
        return value.plain()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
