"""What is sent as structured content fits the output schema that was served, as the specification demands."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import logging
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest
from mcp import Client
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SerializeAsAny,
    WithJsonSchema,
    computed_field,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from portway import Server, testing
from portway.protocol.errors import RpcError
from tests.server.official_client import officially


class Drops(BaseModel):
    x: int
    y: int = 2
    z: int

    @model_serializer
    def dump(self):  # type: ignore[no-untyped-def]
        return {"x": self.x}


class Rewrites(BaseModel):
    x: int

    @field_serializer("x")
    def dump(self, value):  # type: ignore[no-untyped-def]
        return f"{value} pieces"


class Lies(BaseModel):
    x: int

    @field_serializer("x")
    def dump(self, value: int) -> int:
        return f"{value} pieces"  # type: ignore[return-value]


class Annotates(BaseModel):
    x: Annotated[int, PlainSerializer(str)]


class Shows(BaseModel):
    x: Annotated[int, WithJsonSchema({"type": "string"})]


class Extra(BaseModel):
    model_config = ConfigDict(json_schema_extra={"required": ["x", "y"]})
    x: int


class Computes(BaseModel):
    @computed_field
    def x(self) -> int:
        return "many"  # type: ignore[return-value]


class Plain(BaseModel):
    x: int


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Opened(Closed):
    x: int = 1


class Holds(BaseModel):
    inner: SerializeAsAny[Closed]


@dataclasses.dataclass
class Nests:
    inner: Drops


BREAKS = [
    (Drops, Drops(x=1, z=3), "result.z: missing (an integer is required)"),
    (Drops, {"x": 1, "z": 3}, "result.z: missing"),
    (list[Drops], [Drops(x=1, z=3)], "z: missing"),
    (Nests, Nests(Drops(x=1, z=3)), "result.inner.z: missing"),
    (Rewrites, Rewrites(x=1), 'result.x: expected an integer, got "1 pieces"'),
    (Lies, Lies(x=1), 'result.x: expected an integer, got "1 pieces"'),
    (Shows, Shows(x=1), "result.x: expected a string, got 1"),
    (Extra, Extra(x=1), "result.y: missing"),
    (Computes, Computes(), 'result.x: expected an integer, got "many"'),
    (Plain, Plain.model_construct(x="one"), 'result.x: expected an integer, got "one"'),
    (Holds, Holds(inner=Opened()), "result.inner.x: unknown"),
]


def serving(kind: Any, value: object) -> Server:
    server = Server("shop")

    def report() -> object:
        return value

    report.__annotations__["return"] = kind
    server.tool(report)
    return server


@pytest.mark.parametrize(("kind", "value", "fault"), BREAKS, ids=[fault for _, _, fault in BREAKS])
def test_a_result_that_breaks_the_served_schema_is_logged_by_its_field_and_masked(
    kind: Any, value: object, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> None:
        async with testing.Client(serving(kind, value)) as client:
            with pytest.raises(RpcError, match="error id") as refused:
                await client.call_tool("report")
        assert "pieces" not in str(refused.value)

    asyncio.run(talk())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert "report broke its declared return type: " in str(record.exc_info[1])
    assert fault in str(record.exc_info[1])


class Renames(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int = Field(alias="ex", serialization_alias="eks")
    hidden: str = Field(default="secret", exclude=True)
    maybe: int = Field(default=0, exclude_if=lambda value: value == 0)

    @computed_field(alias="total")
    def sum(self) -> int:
        return 2 * self.x


class Rounds(BaseModel):
    x: float

    @field_serializer("x")
    def dump(self, value):  # type: ignore[no-untyped-def]
        return round(value, 1)


class Says(BaseModel):
    x: int

    @model_serializer
    def dump(self) -> dict[str, str]:
        return {"text": f"{self.x} pieces"}


class Pair(TypedDict):
    left: Annotated[int, Field(ge=0)]


class Point(msgspec.Struct, rename="camel", omit_defaults=True):
    at_x: int
    at_y: int = 0


FITS = [
    (Renames, Renames(ex=1), {"eks": 1, "total": 2}),
    (Renames, {"ex": 1, "maybe": 5}, {"eks": 1, "total": 2, "maybe": 5}),
    (Rounds, Rounds(x=1.26), {"x": 1.3}),
    (Annotates, Annotates(x=1), {"x": "1"}),
    (Says, Says(x=1), {"text": "1 pieces"}),
    (RootModel[list[Says]], RootModel[list[Says]]([Says(x=1)]), {"result": [{"text": "1 pieces"}]}),
    (Pair, {"left": 1}, {"left": 1}),
    (Point, Point(1), {"atX": 1}),
    (list[Plain], [Plain(x=1), {"x": 2}], {"result": [{"x": 1}, {"x": 2}]}),
]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_the_official_client_finds_results_to_fit_their_schemas(mode: str) -> None:
    server = Server("shop")
    for index, (kind, value, _) in enumerate(FITS):
        server.mount(serving(kind, value), prefix=f"n{index}")

    async def talk(client: Client) -> None:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        for index, (_, _, sent) in enumerate(FITS):
            result = await client.call_tool(f"n{index}_report")
            assert result.structured_content == sent
            jsonschema.validate(sent, listed[f"n{index}_report"].output_schema)
            if "result" not in sent:
                assert json.loads(result.content[0].text) == sent

    officially(server, talk, mode)


def test_results_whose_types_leave_nothing_to_chance_are_not_held_to_the_schema_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[object] = []
    jsonschema_validation = importlib.import_module("portway.plans.jsonschema_validation")
    monkeypatch.setattr(jsonschema_validation.GivenSchema, "problems", lambda schema, value: held.append(value) or [])

    async def talk(kind: Any, value: object) -> None:
        async with testing.Client(serving(kind, value)) as client:
            await client.call_tool("report")

    for kind, value in [(Point, Point(1)), (dict[str, int], {"a": 1}), (Plain, Plain(x=1)), (list[Plain], [])]:
        asyncio.run(talk(kind, value))
    assert held == []
    asyncio.run(talk(Rounds, Rounds(x=1)))
    assert held == [{"x": 1}]
