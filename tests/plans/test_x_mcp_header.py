"""Arguments that clients repeat as headers: what a tool may declare, and what of a call is compared."""

import json
from typing import Annotated

import msgspec
import pytest

from portway.exceptions import RegistrationError
from portway.plans.plan import compile_plan
from portway.plans.signature import Header
from portway.plans.x_mcp_header import compile_params
from portway.protocol.errors import HEADER_MISMATCH, RpcError
from portway.protocol.param_headers import HeaderParam, verify_params


def member(token: object, kind: object = "string") -> dict[str, object]:
    return {"type": kind, "x-mcp-header": token}


def compiled(properties: dict[str, object], **more: object) -> tuple[HeaderParam, ...]:
    return compile_params(json.dumps({"type": "object", "properties": properties, **more}).encode())


REFUSED = [
    *[
        ({"a": member(token)}, "The argument a cannot have the header")
        for token in ("", "a b", "a:b", "Région", "a\t", 1, None)
    ],
    *[
        ({"a": member("A", kind)}, "only a string, an integer or a boolean can")
        for kind in ("number", "object", "array", "null", ["string", "null"], None)
    ],
    (
        {"a": {"anyOf": [{"type": "string"}, {"type": "null"}], "x-mcp-header": "A"}},
        "only a string, an integer or a boolean",
    ),
    ({"a": member("A"), "b": member("A")}, "The arguments a and b have the same header A; give each its own."),
    (
        {"a": member("Region"), "b": {"properties": {"c": member("rEGION")}}},
        "The arguments a and b.c have the same header",
    ),
    *[
        ({"a": place}, "x-mcp-header stands where a header cannot")
        for place in (
            {"type": "array", "items": member("A")},
            {"anyOf": [member("A")]},
            {"additionalProperties": member("A")},
            {"if": {"properties": {"b": member("A")}}},
            {"$ref": "#/$defs/b", "$defs": {"b": member("A")}},
        )
    ],
]
PARAMS = (
    HeaderParam(("region",), "Mcp-Param-Region"),
    HeaderParam(("n",), "Mcp-Param-N"),
    HeaderParam(("on",), "Mcp-Param-On"),
    HeaderParam(("in", "ner"), "Mcp-Param-Inner"),
)
AGREE = [
    ("{}", {}),
    ("{}", {"other": "x"}),
    ('{"region": null}', {}),
    ('{"region": "eu"}', {"region": "eu"}),
    ('{"region": "eu"}', {"region": " eu\t"}),
    ('{"region": "Hello"}', {"region": "=?base64?SGVsbG8=?="}),
    ('{"region": "=?base64?SGVsbG8="}', {"region": "=?base64?SGVsbG8="}),
    ('{"region": "=?BASE64?SGVsbG8=?="}', {"region": "=?BASE64?SGVsbG8=?="}),
    ('{"region": ""}', {"region": ""}),
    ('{"n": 42}', {"n": "42"}),
    ('{"n": 42}', {"n": "42.0"}),
    ('{"n": 42.0}', {"n": "42"}),
    ('{"n": -9007199254740991}', {"n": "-9007199254740991"}),
    ('{"on": true}', {"on": "true"}),
    ('{"on": false}', {"on": "=?base64?ZmFsc2U=?="}),
    ('{"in": {"ner": "x"}}', {"inner": "x"}),
    ('{"in": "text"}', {}),
    ('{"region": ["eu"]}', {}),
    ("[1]", {}),
]
DIFFER = [
    ('{"region": "eu"}', {}, "The Mcp-Param-Region header is missing."),
    ('{"region": ""}', {}, "The Mcp-Param-Region header is missing."),
    ('{"region": "eu"}', {"region": "us"}, "The Mcp-Param-Region header does not match the body."),
    ('{"region": "eu"}', {"region": "EU"}, "does not match the body"),
    ('{"region": "Hello"}', {"region": "=?base64?SGVsbG8?="}, "is not base64 of UTF-8 text"),
    ('{"region": "Hello"}', {"region": "=?base64?SGVs!!!bG8=?="}, "is not base64 of UTF-8 text"),
    ('{"region": null}', {"region": ""}, "The Mcp-Param-Region header has no argument region to repeat."),
    ("{}", {"inner": "x"}, "The Mcp-Param-Inner header has no argument in.ner to repeat."),
    ('{"region": ["eu"]}', {"region": "eu"}, "does not match the body"),
    ('{"n": 42}', {"n": "43"}, "does not match the body"),
    ('{"n": 42}', {"n": "42.5"}, "does not match the body"),
    ('{"n": 42}', {"n": "4_2"}, "does not match the body"),
    ('{"n": 42}', {"n": "9" * 5000}, "does not match the body"),
    ('{"n": 9007199254740993}', {"n": "9007199254740992"}, "does not match the body"),
    ('{"on": true}', {"on": "True"}, "does not match the body"),
    ('{"on": true}', {"on": "1"}, "does not match the body"),
]


@pytest.mark.parametrize(("properties", "why"), REFUSED)
def test_a_header_no_client_could_send_is_refused_at_registration(properties, why):
    with pytest.raises(RegistrationError) as caught:
        compiled(properties)
    assert why in str(caught.value)


def test_headers_are_found_at_the_end_of_plain_members_only():
    found = compiled({"a": member("A"), "b": {"properties": {"c": member("X-C~1", "integer")}}, "x-mcp-header": {}})
    assert [(param.path, param.name, param.key) for param in found] == [
        (("a",), "Mcp-Param-A", b"mcp-param-a"),
        (("b", "c"), "Mcp-Param-X-C~1", b"mcp-param-x-c~1"),
    ]
    assert compiled({"a": {"default": {"x-mcp-header": "data"}}}) == ()


def test_a_parameter_annotated_with_a_header_declares_it():
    def act(region: Annotated[str, Header("Region")], n: int = 0) -> None: ...

    schema = compile_plan(act, context_type=Header).input_schema
    assert [param.path for param in compile_params(schema)] == [("region",)]


def verify(arguments: str, headers: dict[str, str]) -> None:
    fields = {f"mcp-param-{key}".encode(): value.encode() for key, value in headers.items()}
    verify_params(PARAMS, msgspec.Raw(arguments.encode()), fields)


@pytest.mark.parametrize(("arguments", "headers"), AGREE)
def test_headers_that_repeat_the_arguments_pass(arguments, headers):
    verify(arguments, headers)


@pytest.mark.parametrize(("arguments", "headers", "why"), DIFFER)
def test_headers_that_differ_from_the_arguments_are_a_mismatch(arguments, headers, why):
    with pytest.raises(RpcError) as caught:
        verify(arguments, headers)
    assert (caught.value.code, caught.value.status) == (HEADER_MISMATCH, 400)
    assert why in caught.value.message
