"""Compares the contracts of two releases: tools, prompts, resources, annotations, capabilities; and which change breaks
callers.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from portway.host.contracts.contract_changes import ComponentChange, ContractChanges, Kind, Note, as_json, shown
from portway.host.contracts.read_contract import LISTS
from portway.host.contracts.schema_changes import SchemaComparison

_KINDS: dict[str, Kind] = {
    "tools": "tool",
    "resources": "resource",
    "resourceTemplates": "resource template",
    "prompts": "prompt",
}
_ABOUT_CONTENT = ("size", "lastModified")  # they change with what a resource holds
_PROMISES = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
"""The hints by which a tool promises something, which it does not by default."""
_TASK_SUPPORT = {"forbidden": 0, "optional": 1, "required": 2}
_ARGUMENTS_SHOWN = 8

Entry = Mapping[str, Any]


def diff(old: str, new: str) -> ContractChanges:
    """Return the changes from the contract `old` to `new`, as `read_contract` returns them."""
    before, after, schemas = json.loads(old), json.loads(new), SchemaComparison()
    if before == after:
        return ContractChanges([])
    if not before or not after:
        return ContractChanges([_opened_or_closed(before, after)])
    found: dict[str, list[ComponentChange]] = {
        era: list(_in_era(before[era], after[era], schemas)) for era in before if era in after
    }
    changes = []
    told = {era: {(each.kind, each.name, each.action): each.notes for each in listed} for era, listed in found.items()}
    for era, listed in found.items():
        for change in listed:
            place = change.kind, change.name, change.action
            if any(notes.get(place) != change.notes for notes in told.values()):
                changes.append(replace(change, notes=[_in(era, note) for note in change.notes]))
            elif listed is next(iter(found.values())):
                changes.append(change)
    changes += [_era(era, "removed") for era in before if era not in after]
    changes += [_era(era, "added") for era in after if era not in before]
    return ContractChanges(changes)


def _in(era: str, note: Note) -> Note:
    return replace(note, text=f"{note.text} (for {era} clients)")


def _era(era: str, action: str) -> ComponentChange:
    if action == "added":
        return ComponentChange("server", "", "changed", [Note(f"now serves {era} clients", breaks=False)], None, era)
    return ComponentChange("server", "", "changed", [Note(f"no longer serves {era} clients", breaks=True)], era, None)


def _opened_or_closed(before: Entry, after: Entry) -> ComponentChange:
    if before:
        note = Note("no longer shows anything to callers without credentials", breaks=True)
    else:
        note = Note("now shows what it offers to callers without credentials", breaks=False)
    return ComponentChange("server", "", "changed", [note], as_json(before), as_json(after))


def _in_era(before: Entry, after: Entry, schemas: SchemaComparison) -> Iterator[ComponentChange]:
    about = ("server", "instructions", "capabilities", "version")
    old, new = ({key: shown.get(key) for key in about} for shown in (before, after))
    if old["server"] is None:
        new["server"] = None  # an old contract without it
    if old != new:
        yield ComponentChange("server", "", "changed", list(_server_notes(old, new)), as_json(old), as_json(new))
    for member, kind in _KINDS.items():
        yield from _in_list(kind, _by_name(before, member), _by_name(after, member), schemas)


def _in_list(
    kind: Kind, before: Mapping[str, Entry], after: Mapping[str, Entry], schemas: SchemaComparison
) -> Iterator[ComponentChange]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield ComponentChange(kind, name, "added", [Note(_signature(kind, new), breaks=False)], None, as_json(new))
        elif new is None and old is not None:
            yield ComponentChange(kind, name, "removed", [Note("removed", breaks=True)], as_json(old), None)
        elif old is not None and new is not None and as_json(old) != as_json(new):
            notes = list(_notes(kind, old, new, schemas)) or [Note("written in another way", breaks=False)]
            yield ComponentChange(kind, name, "changed", notes, as_json(old), as_json(new))


def _by_name(contract: Entry, member: str) -> dict[str, Entry]:
    """Return the entries of a list by name; what has the same name as an earlier one gets a number."""
    found: dict[str, Entry] = {}
    count: Counter[str] = Counter()
    key = LISTS[member][1]
    for entry in contract.get(member, ()):
        name = label = str(entry.get(key, ""))
        while label in found:
            count[name] += 1
            label = f"{name} ({count[name] + 1})"
        found[label] = _settled(entry)
    return found


def _settled(entry: Entry) -> Entry:
    """Return an entry without what is about the content of a resource."""
    kept = {key: value for key, value in entry.items() if key not in _ABOUT_CONTENT}
    if isinstance(marks := kept.get("annotations"), dict):
        kept["annotations"] = {key: value for key, value in marks.items() if key not in _ABOUT_CONTENT}
    return kept


def _server_notes(old: Entry, new: Entry) -> Iterator[Note]:
    had, has = _flags(old["capabilities"]), _flags(new["capabilities"])
    for name in sorted(had - has):
        yield Note(f"no longer has the capability {shown(name)}", breaks=True)
    for name in sorted(has - had):
        yield Note(f"has the capability {shown(name)}", breaks=False)
    for key in ("version", "instructions", "server"):
        if old[key] != new[key]:
            yield _changed({"version": "protocol version", "server": "name"}.get(key, key), old[key], new[key])
    if had == has and old["capabilities"] != new["capabilities"]:
        yield _changed("capabilities", old["capabilities"], new["capabilities"])


def _flags(capabilities: object, prefix: str = "") -> set[str]:
    """Return the capabilities that are there, as in "resources" and "resources.subscribe"."""
    found = set()
    for name, value in capabilities.items() if isinstance(capabilities, dict) else ():
        if value is not None and value is not False:
            found.add(f"{prefix}{name}")
            if not prefix:
                found |= _flags(value, f"{name}.")
    return found


def _notes(kind: Kind, old: Entry, new: Entry, schemas: SchemaComparison) -> Iterator[Note]:
    """Yield what has changed in a component, in the order of its members."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after and as_json(before) == as_json(after):
            continue
        if key == "inputSchema":
            yield from schemas.notes(before or {}, after or {}, "input")
        elif key == "outputSchema":
            yield from _output_notes(before, after, schemas)
        elif key == "annotations":
            yield from _annotation_notes(kind, before, after)
        elif key == "arguments" and kind == "prompt":
            yield from _argument_notes(before, after)
        elif key == "execution":
            yield _execution_note(before, after)
        else:
            yield _changed(key, before, after, breaks=key == "mimeType" and before is not None)


def _output_notes(before: object, after: object, schemas: SchemaComparison) -> Iterator[Note]:
    if before is None:
        yield Note("new output schema", breaks=False)
    elif after is None:
        yield Note("output schema removed", breaks=True)
    else:
        for note in schemas.notes(before, after, "output"):
            yield replace(note, text=f"result {note.text}")


def _annotation_notes(kind: Kind, before: object, after: object) -> Iterator[Note]:
    old, new = (marks if isinstance(marks, dict) else {} for marks in (before, after))
    if not old and not new:
        yield _changed("annotations", before, after)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            promised = _PROMISES.get(name) if kind == "tool" else None
            breaks = promised is not None and old.get(name) is promised
            yield _changed(name, old.get(name), new.get(name), breaks=breaks)


def _argument_notes(before: object, after: object) -> Iterator[Note]:
    """Yield what has changed in the arguments of a prompt."""
    old, new = _arguments(before), _arguments(after)
    count = 0
    for name in dict.fromkeys((*old, *new)):
        label, was, now = shown(name), old.get(name), new.get(name)
        is_required = now is not None and now.get("required") is True
        if was == now:
            continue
        count += 1
        if now is None:
            yield Note(f"{label}: removed", breaks=True)
        elif was is None:
            yield Note(f"{label}: new {'required' if is_required else 'optional'}", breaks=is_required)
        else:
            was_required = was.get("required") is True
            if was_required != is_required:
                yield Note(f"{label}: now {'required' if is_required else 'optional'}", breaks=is_required)
            for key in sorted((was.keys() | now.keys()) - {"required"}):
                if was.get(key) != now.get(key):
                    yield _changed(f"{label}: {shown(key)}", was.get(key), now.get(key))
    if not count:
        yield Note("arguments in another order", breaks=False)


def _arguments(value: object) -> dict[str, Entry]:
    listed = value if isinstance(value, list) else []
    return {str(each.get("name", "")): each for each in listed if isinstance(each, dict)}


def _execution_note(before: object, after: object) -> Note:
    old, new = (_TASK_SUPPORT.get(_task_support(value), 2) for value in (before, after))
    return _changed("execution", before, after, breaks=old != new and (new == 2 or new < old))


def _task_support(execution: object) -> str:
    """Return whether a tool runs as a task: "forbidden", "optional" or "required"."""
    value = execution.get("taskSupport") if isinstance(execution, dict) else None
    return "forbidden" if value is None else str(value)


def _changed(what: str, before: object, after: object, *, breaks: bool = False) -> Note:
    old, new = ("none" if value is None else shown(as_json(value)) for value in (before, after))
    return Note(f"{shown(what)} {old} → {new}", breaks=breaks)


def _signature(kind: Kind, entry: Entry) -> str:
    """Return the arguments of a new component, "?" after those that are optional, and its hints."""
    if kind == "prompt":
        required = {name: each.get("required") is True for name, each in _arguments(entry.get("arguments")).items()}
    else:
        schema = entry.get("inputSchema")
        members = schema.get("properties") if isinstance(schema, dict) else None
        wanted = schema.get("required") if isinstance(schema, dict) else None
        needed = wanted if isinstance(wanted, list) else []
        required = {str(name): name in needed for name in members} if isinstance(members, dict) else {}
    if kind not in ("tool", "prompt"):
        return ""
    listed = [f"{shown(name)}{'' if is_required else '?'}" for name, is_required in required.items()]
    more = [f"and {len(listed) - _ARGUMENTS_SHOWN} more"] if len(listed) > _ARGUMENTS_SHOWN else []
    marks = entry.get("annotations")
    given = marks if isinstance(marks, dict) else {}
    hints = ", ".join(f"{name} {as_json(given[name])}" for name in _PROMISES if isinstance(given.get(name), bool))
    told = f" [{hints}]" if hints else ""
    return f"({', '.join([*listed[:_ARGUMENTS_SHOWN], *more])}){told}"
