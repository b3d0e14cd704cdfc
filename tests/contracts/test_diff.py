"""How changes of a contract are judged and worded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.host.contracts.diff import diff

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
NULLABLE = {"anyOf": [TEXT, {"type": "null"}]}
PLACE = {"type": "object", "properties": {"city": TEXT}, "required": ["city"]}
TREE = {
    "type": "object",
    "properties": {"value": TEXT, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
}
CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {
    "type": "object",
    "properties": {"kind": {"const": "dog"}, "tricks": {"type": "array", "items": TEXT}},
    "required": ["kind"],
}


def arguments(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def contract(**members: Any) -> str:
    shown = {"capabilities": {"tools": {"listChanged": True}}, "instructions": None, "version": "x"}
    shown |= {
        "server": {"name": "s", "title": None},
        "tools": [],
        "resources": [],
        "resourceTemplates": [],
        "prompts": [],
    }
    return json.dumps({"modern": shown | members, "legacy": shown | members})


def tool(schema: dict[str, Any] | None = None, **members: Any) -> str:
    return contract(tools=[{"name": "t", "inputSchema": schema or arguments(), **members}])


def told(old: str, new: str) -> list[str]:
    """Return the notes on what has changed, those that break with "!" in front."""
    return [f"{'!' if note.breaks else ''}{note.text}" for change in diff(old, new).changes for note in change.notes]


INPUTS = {
    "new optional": (arguments(a=TEXT), arguments(a=TEXT, b=TEXT), ["b: new optional"]),
    "new required": (arguments(a=TEXT), arguments("b", a=TEXT, b=TEXT), ["!b: new required"]),
    "now required": (arguments(a=TEXT), arguments("a", a=TEXT), ["!a: now required"]),
    "now optional": (arguments("a", a=TEXT), arguments(a=TEXT), ["a: now optional"]),
    "removed": (arguments("a", a=TEXT, b=TEXT), arguments(a=TEXT), ["!b: removed", "a: now optional"]),
    "other type": (arguments(a=TEXT), arguments(a=NUMBER), ["!a: type string → number"]),
    "wider type": (arguments(a={"type": "integer"}), arguments(a=NUMBER), ["a: also number"]),
    "narrower type": (arguments(a=NUMBER), arguments(a={"type": "integer"}), ["!a: no longer number"]),
    "nullable": (arguments(a=TEXT), arguments(a=NULLABLE), ["a: also null"]),
    "no longer nullable": (arguments(a=NULLABLE), arguments(a=TEXT), ["!a: no longer null"]),
    "two ways to say nullable": (
        arguments(a=NULLABLE),
        arguments(a={"type": ["string", "null"]}),
        ["input schema written in another way"],
    ),
    "enum": (arguments(a={"enum": ["x", "y"]}), arguments(a={"enum": ["x", "z"]}), ['!a: values "y" → "z"']),
    "enum grows": (arguments(a={"enum": ["x"]}), arguments(a={"enum": ["x", "z"]}), ['a: also "z"']),
    "enum appears": (arguments(a=TEXT), arguments(a={"type": "string", "enum": ["x"]}), ['!a: only "x"']),
    "enum goes": (arguments(a={"type": "string", "enum": ["x"]}), arguments(a=TEXT), ['a: not only "x"']),
    "const": (arguments(a={"const": 1}), arguments(a={"const": 2}), ["!a: values 1 → 2"]),
    "limit": (arguments(a=NUMBER | {"maximum": 9}), arguments(a=NUMBER | {"maximum": 5}), ["!a: maximum 9 → 5"]),
    "limit that is no longer reached": (
        arguments(a=NUMBER | {"minimum": 5}),
        arguments(a=NUMBER | {"exclusiveMinimum": 5}),
        ["!a: exclusiveMinimum none → 5"],
    ),
    "an alternative that overlaps another": (
        arguments(a={"oneOf": [TEXT]}),
        arguments(a={"oneOf": [TEXT, {"type": "string", "minLength": 3}]}),
        ["!a: changed, in a way that cannot be judged"],
    ),
    "limit goes": (arguments(a=NUMBER | {"maximum": 9}), arguments(a=NUMBER), ["a: maximum 9 → none"]),
    "pattern": (arguments(a=TEXT), arguments(a=TEXT | {"pattern": "^x"}), ["!a: pattern none → ^x"]),
    "format": (arguments(a=TEXT), arguments(a=TEXT | {"format": "date"}), ["!a: format none → date"]),
    "inside": (arguments(a=PLACE), arguments(a=PLACE | {"required": []}), ["a.city: now optional"]),
    "in a list": (
        arguments(a={"type": "array", "items": TEXT}),
        arguments(a={"type": "array", "items": NUMBER}),
        ["!a[]: type string → number"],
    ),
    "closed": (
        arguments(a=TEXT),
        arguments(a=TEXT) | {"additionalProperties": False},
        ["input schema written in another way"],
    ),
    "no longer open": (
        arguments(a=TEXT) | {"additionalProperties": True},
        arguments(a=TEXT) | {"additionalProperties": False},
        ["!*: changed, in a way that cannot be judged"],
    ),
    "moved to $defs": (
        arguments(a=PLACE),
        arguments(a={"$ref": "#/$defs/Place"}) | {"$defs": {"Place": PLACE}},
        ["input schema written in another way"],
    ),
    "behind a reference": (
        arguments(a={"$ref": "#/$defs/Place"}) | {"$defs": {"Place": PLACE}},
        arguments(a={"$ref": "#/$defs/Place"}) | {"$defs": {"Place": PLACE | {"properties": {"city": NUMBER}}}},
        ["!a.city: type string → number"],
    ),
    "in a tree": (
        arguments(a={"$ref": "#/$defs/Node"}) | {"$defs": {"Node": TREE}},
        arguments(a={"$ref": "#/$defs/Node"}) | {"$defs": {"Node": TREE | {"required": ["value"]}}},
        ["!a.value: now required"],
    ),
    "one more alternative": (
        arguments(a={"oneOf": [CAT]}),
        arguments(a={"oneOf": [CAT, DOG]}),
        ['a.kind: also "dog"', "a.tricks: new optional"],
    ),
    "one alternative less": (
        arguments(a={"oneOf": [CAT, DOG]}),
        arguments(a={"oneOf": [CAT]}),
        ['!a.kind: no longer "dog"', "!a.tricks: removed"],
    ),
    "not": (arguments(a={"not": TEXT}), arguments(a={"not": NUMBER}), ["!a: changed, in a way that cannot be judged"]),
    "description": (arguments(a=TEXT), arguments(a=TEXT | {"description": "d"}), ['a: description none → "d"']),
    "default": (arguments(a=TEXT | {"default": "x"}), arguments(a=TEXT), ['a: default "x" → none']),
}


@pytest.mark.parametrize(("old", "new", "notes"), INPUTS.values(), ids=INPUTS.keys())
def test_a_change_of_an_input_schema_is_judged_and_worded(old: Any, new: Any, notes: list[str]) -> None:
    assert told(tool(old), tool(new)) == notes


OUTPUTS = {
    "member removed": (arguments(a=TEXT, b=TEXT), arguments(a=TEXT), ["!result b: removed"]),
    "new member": (arguments(a=TEXT), arguments(a=TEXT, b=TEXT), ["result b: new optional"]),
    "new member that is always there": (arguments(a=TEXT), arguments("b", a=TEXT, b=TEXT), ["result b: new required"]),
    "new member of a closed one": (
        arguments(a=TEXT) | {"additionalProperties": False},
        arguments(a=TEXT, b=TEXT) | {"additionalProperties": False},
        ["result b: new optional"],
    ),
    "now optional": (arguments("a", a=TEXT), arguments(a=TEXT), ["!result a: now optional"]),
    "now required": (arguments(a=TEXT), arguments("a", a=TEXT), ["result a: now required"]),
    "wider": (arguments(a=TEXT), arguments(a=NULLABLE), ["!result a: also null"]),
    "narrower": (arguments(a=NULLABLE), arguments(a=TEXT), ["result a: no longer null"]),
    "schema removed": (arguments(a=TEXT), None, ["!output schema removed"]),
    "new schema": (None, arguments(a=TEXT), ["new output schema"]),
}


@pytest.mark.parametrize(("old", "new", "notes"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_a_change_of_an_output_schema_is_judged_from_the_other_side(old: Any, new: Any, notes: list[str]) -> None:
    before, after = ({"outputSchema": schema} if schema else {} for schema in (old, new))
    assert told(tool(**before), tool(**after)) == notes


def hints(**marks: Any) -> str:
    return tool(annotations=marks)


PROMPT = {"name": "p", "arguments": [{"name": "a", "required": True}]}
PAGE = {"uri": "u://a", "name": "a", "mimeType": "text/plain", "size": 1}
MEMBERS = {
    "tool removed": (tool(), contract(), ["!removed"]),
    "tool added": (
        contract(),
        tool(arguments("a", a=TEXT, b=TEXT), annotations={"readOnlyHint": True}),
        ["(a, b?) [readOnlyHint true]"],
    ),
    "description": (tool(description="a"), tool(description="b"), ['description "a" → "b"']),
    "meta": (tool(_meta={"a": 1}), tool(_meta={"a": 2}), ['_meta {"a":1} → {"a":2}']),
    "read only": (hints(readOnlyHint=True), hints(), ["!readOnlyHint true → none"]),
    "now read only": (hints(), hints(readOnlyHint=True), ["readOnlyHint none → true"]),
    "destructive": (hints(destructiveHint=False), hints(destructiveHint=True), ["!destructiveHint false → true"]),
    "open world": (hints(openWorldHint=False), tool(), ["!openWorldHint false → none"]),
    "idempotent": (hints(idempotentHint=True), hints(idempotentHint=False), ["!idempotentHint true → false"]),
    "title in the hints": (hints(title="a"), hints(title="b"), ['title "a" → "b"']),
    "task support": (
        tool(execution={"taskSupport": "optional"}),
        tool(),
        ['!execution {"taskSupport":"optional"} → none'],
    ),
    "instructions": (contract(instructions="a"), contract(instructions="b"), ['instructions "a" → "b"']),
    "capability lost": (
        contract(),
        contract(capabilities={"tools": {}}),
        ["!no longer has the capability tools.listChanged"],
    ),
    "prompt's new argument": (
        contract(prompts=[PROMPT]),
        contract(prompts=[PROMPT | {"arguments": [*PROMPT["arguments"], {"name": "b"}]}]),
        ["b: new optional"],
    ),
    "prompt's argument removed": (
        contract(prompts=[PROMPT]),
        contract(prompts=[PROMPT | {"arguments": []}]),
        ["!a: removed"],
    ),
    "prompt's argument described": (
        contract(prompts=[PROMPT]),
        contract(prompts=[PROMPT | {"arguments": [{"name": "a", "required": True, "description": "d"}]}]),
        ['a: description none → "d"'],
    ),
    "resource of another type": (
        contract(resources=[PAGE]),
        contract(resources=[PAGE | {"mimeType": "text/html"}]),
        ['!mimeType "text/plain" → "text/html"'],
    ),
    "size of a resource": (contract(resources=[PAGE]), contract(resources=[PAGE | {"size": 2}]), []),
    "template removed": (
        contract(resourceTemplates=[{"uriTemplate": "u://{a}", "name": "a"}]),
        contract(),
        ["!removed"],
    ),
    "closed": (contract(), "{}", ["!no longer shows anything to callers without credentials"]),
    "opened": ("{}", contract(), ["now shows what it offers to callers without credentials"]),
    "of one name": (contract(tools=[{"name": "t"}, {"name": "t"}]), contract(tools=[{"name": "t"}]), ["!removed"]),
}


@pytest.mark.parametrize(("old", "new", "notes"), MEMBERS.values(), ids=MEMBERS.keys())
def test_a_change_of_a_component_is_judged_and_worded(old: str, new: str, notes: list[str]) -> None:
    assert told(old, new) == notes


def test_an_era_that_differs_or_is_lost_is_named() -> None:
    old, new = json.loads(tool(description="a")), json.loads(tool(description="a"))
    new["legacy"]["tools"][0]["description"] = "b"
    assert told(json.dumps(old), json.dumps(new)) == ['description "a" → "b" (for legacy clients)']
    del new["modern"]
    assert told(json.dumps(old), json.dumps(new))[-1] == "!no longer serves modern clients"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "required", "taskSupport"]), inner)
    ),
    max_leaves=4,
)
ENTRIES = st.dictionaries(
    st.sampled_from(
        [
            "inputSchema",
            "outputSchema",
            "annotations",
            "arguments",
            "execution",
            "mimeType",
            "description",
            "_meta",
            "title",
        ]
    ),
    VALUES,
)


@settings(deadline=None)
@given(*[ENTRIES] * 2, st.sampled_from(["tools", "resources", "resourceTemplates", "prompts"]))
def test_no_change_of_an_entry_is_passed_over(old: dict[str, Any], new: dict[str, Any], member: str) -> None:
    identity = {"name": "a", "uri": "u://a", "uriTemplate": "u://{a}"}
    before, after = (contract(**{member: [entry | identity]}) for entry in (old, new))
    changes = diff(before, after)
    assert bool(changes.changes) == (json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True))
    assert all(change.notes for change in changes.changes)
    assert all(line.isprintable() for line in changes.lines())


def test_many_changes_and_long_ones_are_told_within_bounds() -> None:
    new = contract(tools=[{"name": f"t{number}", "description": "\x1b[31m" * 5000} for number in range(500)])
    changes = diff(contract(), new)
    assert len(changes.lines()) == 62
    assert all(line.isprintable() and len(line) < 300 for line in changes.lines())
    report = changes.report("")
    assert (len(report.changes), report.more) == (100, 400)
    assert all(len(change.after or "") <= 2000 for change in report.changes)


def test_schemas_that_take_too_long_to_compare_cannot_be_judged() -> None:
    """The references of each lead round and round: compared to their end, all of them would take minutes."""

    def tangled(longest: int) -> str:
        one = {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "string", "maxLength": longest}]}
        schema = arguments(x={"$ref": "#/$defs/a"}) | {
            "$defs": {"a": one, "b": {"anyOf": [{"$ref": "#/$defs/a"}] * 200}}
        }
        return contract(tools=[{"name": f"t{number}", "inputSchema": schema} for number in range(500)])

    found = diff(tangled(5), tangled(6)).changes
    assert len(found) == 500
    assert "input schema changed, in a way that cannot be judged" in {note.text for note in found[-1].notes}
    assert told(tool(arguments(a=TEXT)), tool(arguments(a=NUMBER))) == ["!a: type string → number"], "the next one is"


def test_entries_with_one_name_are_numbered() -> None:
    old = contract(tools=[{"name": "t", "title": str(number), "inputSchema": arguments()} for number in range(3)])
    new = contract(tools=[{"name": "t", "title": str(number), "inputSchema": arguments()} for number in (0, 1, 4)])
    assert [(change.name, change.action) for change in diff(old, new).changes] == [("t (3)", "changed")]
