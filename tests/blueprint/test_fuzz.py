"""Any bytes of a blueprint are understood or refused, and what is understood can be written and read again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.host.blueprint.blueprint import Blueprint, read_blueprint
from portway.host.blueprint.document import as_yaml, service_document
from portway.host.blueprint.fields import ROOT, SERVICE, Field, List, Section
from portway.host.blueprint.kinds import Kind, WrongValue
from portway.host.blueprint.problems import BlueprintError, Place
from portway.host.blueprint.yaml_tree import Items, Node, Scalar
from tests.blueprint.test_check import RENDER_SHAPED
from tests.wire.random_damage import damaged

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = [
    "web",
    "a",
    "B c",
    "/x",
    "off",
    "true",
    "1",
    "-1",
    "",
    "~",
    "python",
    "gate",
    "\ud800",
    "a: b",
    "#",
    " x\n",
    "é",
]
ANY = st.recursive(
    st.sampled_from(TEXTS) | st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3),
    max_leaves=6,
)


def of_section(section: Section) -> st.SearchStrategy[dict[str, Any]]:
    """Return mappings with a few of the fields, each mostly with a value of its kind."""
    useful = [field for field in section.fields if field.target]
    some = st.lists(st.sampled_from(useful), min_size=2, max_size=5)
    other = st.lists(st.sampled_from(section.fields), max_size=1)
    drawn = st.tuples(some, other).map(lambda both: [*both[0], *both[1]])
    required = [field for field in section.fields if field.is_required]
    return drawn.flatmap(
        lambda fields: st.fixed_dictionaries({field.name: of_field(field) for field in [*fields, *required]})
    )


def of_field(field: Field) -> st.SearchStrategy[Any]:
    kind = field.kind
    if isinstance(kind, Section):
        return st.deferred(lambda: of_section(kind))
    if isinstance(kind, List):
        return st.lists(st.deferred(lambda: of_section(kind.section)), max_size=2)
    good = [value for value in (*TEXTS, ["a"]) if accepts(kind, node_of(value))]
    return st.sampled_from(good or TEXTS) | ANY


def node_of(value: str | list[str]) -> Node:
    place = Place(1, 1)
    return (
        Scalar(value, place, is_plain=True)
        if isinstance(value, str)
        else Items([node_of(text) for text in value], place)
    )


def accepts(kind: Kind, node: Node) -> bool:
    try:
        kind.read(node)
    except WrongValue:
        return False
    return True


def read(content: bytes) -> Blueprint | None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "render.yaml").write_bytes(content)
        try:
            return read_blueprint(Path(folder), skip=True)
        except BlueprintError as error:
            assert str(error).startswith("render.yaml (line ")
            assert str(error).count("\n") < 20
            return None


def judge(content: bytes) -> None:
    found = read(content)
    if found is not None:
        services = [service_document(app, config) for app, config in found.apps.items()]
        again = read(as_yaml({"services": services}).encode())
        assert again is not None
        assert (again.apps, again.warnings) == (found.apps, [])


def test_policies_are_written_as_they_are_read() -> None:
    policies = [
        {"tool": "x*", "destructiveHint": True, "readOnlyHint": False, "scopes": ["a"]},
        {"tool": "y", "rate": "10/minute", "arguments": {"path": {"under": "/data", "minLength": 3}}},
        {"resource": "a://{b}", "scopes": ["a"]},
    ]
    portway = {"policies": policies, "groups": {"ops": ["a"]}, "groupsClaim": "roles"}
    service = {"type": "web", "name": "app", "x-portway": portway}
    assert read(json.dumps({"services": [service]}).encode()) is not None
    judge(json.dumps({"services": [service]}).encode())


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    judge(content)


def test_a_damaged_blueprint_is_read_or_refused() -> None:
    for content in damaged([RENDER_SHAPED.encode()], 150):
        judge(content)


@settings(fuzz, max_examples=25)
@given(of_section(SERVICE), of_section(ROOT))
def test_any_values_of_any_fields_are_read_or_refused(service: dict[str, Any], root: dict[str, Any]) -> None:
    named = service | {"type": "web", "name": "app"}
    judge(json.dumps({"services": [named]}).encode())
    judge(json.dumps(root | {"services": [named, named | {"name": "b"}]}).encode())
