"""Policies at the gate: every version, every path and every kind of rule, decided before the instance hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.auth.caller_header import relayed
from portway.auth.tokens import digest
from portway.host import routing_table
from portway.host.gate.callers import NOBODY
from portway.host.gate.gate_call import GateCall
from portway.host.gate.permissions import permit
from portway.host.gate.routing import Route
from portway.host.token_table import Token, TokenWriter
from portway.policy.policies import Policies
from portway.policy.rules import PolicyRule, ToolHints
from portway.protocol.errors import RpcError
from portway.protocol.jsonrpc import decode
from tests.docs.test_host_errors import matches
from tests.gate.running_gate import META, STREAM, Rig, Seen, Upstream, chunk, event, prepare, reply, result, running
from tests.gate.test_login import URL, Login, run
from tests.gate.test_sessions import initialize, minting
from tests.oauth.key_publisher import publishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RULES = [
    PolicyRule(tool="named", scopes=["by-name"]),
    PolicyRule(tool="star_*", scopes=["by-pattern"]),
    PolicyRule(destructive=True, scopes=["destroy"]),
    PolicyRule(prompt="plan", scopes=["by-prompt"]),
    PolicyRule(resource="secret://one", scopes=["by-uri"]),
    PolicyRule(resource="secret://of/{name}", scopes=["by-template"]),
]
READS = ToolHints(read_only=True, destructive=False)
TOOLS = {"open": READS, "named": READS, "star_x": READS, "wild": ToolHints(), "star_wild": ToolHints()}
NEEDS = {
    ("tool", "named"): "by-name",
    ("tool", "star_x"): "by-pattern",
    ("tool", "wild"): "destroy",
    ("tool", "star_wild"): "by-pattern destroy",
    ("tool", "unknown"): "destroy",
    ("prompt", "plan"): "by-prompt",
    ("resource", "secret://one"): "by-uri",
    ("resource", "secret://of/alice"): "by-template",
    ("resource", "secret://of/{name}"): "by-template",
}
LISTED = {
    "tools/list": ("tools", [{"name": name} for name in (*TOOLS, "unknown")]),
    "prompts/list": ("prompts", [{"name": "plan"}, {"name": "greet"}]),
    "resources/list": ("resources", [{"uri": "secret://one"}, {"uri": "public://one"}]),
    "resources/templates/list": ("resourceTemplates", [{"uriTemplate": "secret://of/{name}"}]),
}
LEGACY = ["2025-03-26", "2025-06-18", "2025-11-25"]


async def lists(seen: Seen, writer: Any) -> None:
    """An instance with these lists, as a stream to who asks for one; it answers other requests with their params."""
    message = seen.message if seen.body else {}
    if message.get("method") not in LISTED:
        writer.write(result(seen, {"got": message}) if "id" in message else reply(b"", status=b"202 Accepted"))
        return
    member, entries = LISTED[message["method"]]
    cursor = {"nextCursor": "more"} if not message.get("params", {}).get("cursor") else {}
    shown = {member: entries, "cacheScope": "public", "ttlMs": 9} | cursor
    if seen.headers["accept"] == "text/event-stream":
        notice = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": shown}
        writer.write(STREAM + event(notice) + event(answer) + chunk(b""))
    else:
        writer.write(result(seen, shown))


@contextlib.asynccontextmanager
async def guarded(
    directory: Path, upstream: Upstream, *, rules: list[PolicyRule] | None = None, off: tuple[str, ...] = ()
) -> AsyncIterator[Rig]:
    """A gate whose apps have the rules; the tokens `none` and `all` have no scope and every scope."""
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    paths = prepare(directory, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    table, rules = routing_table.load(paths.routes), RULES if rules is None else rules
    policies = routing_table.AppPolicies(rules, TOOLS, list(off))
    apps = {name: msgspec.structs.replace(app, policies=policies) for name, app in table.apps.items()}
    routing_table.save(paths.routes, msgspec.structs.replace(table, version=2, apps=apps))
    every = sorted({scope for rule in rules for scope in rule.scopes})
    tokens = [("none", []), ("all", every), ("most", every[1:])]
    TokenWriter(paths.tokens).write(
        Token(digest(name), "a", name, number, scopes) for number, (name, scopes) in enumerate(tokens)
    )
    async with server, running(paths) as gate:
        yield gate


def message(method: str, params: dict[str, Any], version: str, request_id: int = 1) -> tuple[bytes, list[Any]]:
    """A request of a version, as a client of it sends it."""
    headers = [(b"accept", b"application/json, text/event-stream"), (b"mcp-protocol-version", version.encode())]
    if version not in LEGACY:
        params = params | {"_meta": META}
        headers.append((b"mcp-method", method.encode()))
        if (name := params.get("name") or params.get("uri")) and method != "resources/subscribe":
            headers.append((b"mcp-name", name.encode()))
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode(), headers


def ways(kind: str, name: str) -> dict[str, dict[str, Any]]:
    """Every method that leads to a thing, with its params."""
    if kind == "tool":
        return {"tools/call": {"name": name, "arguments": {}}}
    if kind == "prompt":
        completed = {"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "x", "value": ""}}
        return {"prompts/get": {"name": name}, "completion/complete": completed}
    completed = {"ref": {"type": "ref/resource", "uri": name}, "argument": {"name": "x", "value": ""}}
    return {
        "resources/read": {"uri": name},
        "resources/subscribe": {"uri": name},
        "resources/unsubscribe": {"uri": name},
        "completion/complete": completed,
        "subscriptions/listen": {"notifications": {"resourceSubscriptions": ["public://one", name]}},
    }


PATHS = [
    (version, kind, name, method, params)
    for version in (*LEGACY, "2026-07-28")
    for (kind, name) in NEEDS
    for method, params in ways(kind, name).items()
]


def test_every_path_of_every_version_to_every_kind_of_rule_is_a_challenge_that_names_all_it_needs(
    tmp_path: Path,
) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        async with guarded(tmp_path, upstream) as gate:
            for version, kind, name, method, params in PATHS:
                body, headers = message(method, params, version)
                needed = NEEDS[kind, name]
                for path, token in (("/a/mcp", "none"), ("/p/mcp", "")):
                    response = await gate.post(body, *headers, path=path, token=token)
                    answer = json.loads(await response.read(100_000))
                    told = f'scope="{needed}"'
                    challenge = f'Bearer error="insufficient_scope", {told}' if token else f"Bearer {told}"
                    assert response.status == (403 if token else 401), (version, method, name)
                    assert response.header(b"www-authenticate").decode() == challenge
                    assert answer["error"]["data"] == {"requiredScopes": needed.split()}
                assert not upstream.requests, "the instance hears of none of it"
                response = await gate.post(body, *headers, token="all")
                await response.close()
                assert response.status == 200, (version, method, name)
                assert upstream.requests.pop().message["method"] == method
            for version in LEGACY:
                for kind, name in NEEDS:
                    for method, params in ways(kind, name).items():
                        notification = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()
                        status, _ = await gate.answer(
                            notification, (b"mcp-protocol-version", version.encode()), token="none"
                        )
                        assert status == 403, "a server might heed it"
            assert not upstream.requests

    asyncio.run(test())


def test_a_batch_is_refused_as_a_whole_for_all_that_its_calls_need(tmp_path: Path) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        names = ["open", "named", "star_wild"]
        calls = [message("tools/call", {"name": name}, LEGACY[0], number)[0] for number, name in enumerate(names)]
        async with guarded(tmp_path, upstream) as gate:
            body = b"[%b]" % b",".join(calls)
            response = await gate.post(body, token="none")
            await response.read(10_000)
            assert response.status == 403
            assert b'scope="by-name by-pattern destroy"' in response.header(b"www-authenticate")
            assert not upstream.requests
            status, answers = await gate.answer(body, token="all")
            assert (status, len(answers), len(upstream.requests)) == (200, 3, 3)

    asyncio.run(test())


SPELLINGS: dict[str, tuple[bytes, int]] = {
    "the last of two names counts": (b'{"name":"open","name":"named"}', 403),
    "also if it is written with escapes": (rb'{"name":"open","n\u0061me":"nam\u0065d"}', 403),
    "and the first is not passed on": (b'{"name":"named","name":"open"}', 200),
    "letter case": (b'{"name":"open","Name":"named"}', 400),
    "a letter that folds": ('{"name":"open","ｎame":"named"}'.encode(), 400),  # noqa: RUF001 - the point
    "a name of another case": (b'{"name":"NAMED"}', 403),
    "space around": (b'{"name":" named "}', 403),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_gate_and_instance_read_the_same_name(tmp_path: Path, spelling: str) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        params, expected = SPELLINGS[spelling]
        async with guarded(tmp_path, upstream) as gate:
            request = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
            status, _ = await gate.answer(request, token="none")
            assert status == expected
            passed = [seen.body for seen in upstream.requests]
            assert len(passed) == (expected == 200)
            assert not any(b"named" in body for body in passed)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"named"}}', 404),
        (b'{"jsonrpc":"2.0","method":"notifications/x","Method":"tools/call","params":{"name":"named"}}', 400),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"ParamS":{"name":"named"},"Method":"tools/call"}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","param\xc5\xbf":{"name":"named"}}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call\\u0000","params":{"name":"named"}}', 404),
        (b'{"jsonrpc":"2.0","method":"notifications/x","method\\u0000":"tools/call","params":{"name":"named"}}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"open","\\u007fname\\u0000x":"named"}}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":["plan"]}}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":["secret://one"]}}', 400),
        # What would take long to compare is not compared.
        (b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % (b"x" * 300), 404),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","%b":1}' % (b"x" * 300), 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping",%b}' % b",".join(b'"%d":1' % each for each in range(70)), 400),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{'
            b'"resourceSubscriptions":["%b"]}}}' % (b"x" * 70_000),
            400,
        ),
    ],
)
def test_a_message_that_another_reader_could_take_for_a_call_is_refused(
    tmp_path: Path, body: bytes, expected: int
) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        async with guarded(tmp_path, upstream) as gate:
            status, answer = await gate.answer(body, token="none")
            assert status == expected
            assert any(
                matches(text, answer["error"]["message"])
                for text in ("The member … is not …, for which it might be taken.", "The member … is malformed.")
            ) is (expected == 400)
            assert not upstream.requests

    asyncio.run(test())


SPELLED = ['"name"', '"na\\u006de"', '"arguments"', '"_meta"', '"other"', '"é"', '"id"', '"method"', '"params"']
MEMBERS = st.lists(st.tuples(st.sampled_from(SPELLED), st.sampled_from(["1", '"open"', '"\\u006f"', "{}"])), max_size=3)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t "])


@given(MEMBERS, MEMBERS, st.lists(SPACES, min_size=7, max_size=7), st.sampled_from(["", "", " ", "\0", "{}"]))
def test_the_instance_gets_a_call_with_each_member_once_however_it_is_written(
    before: list[tuple[str, str]], after: list[tuple[str, str]], spaces: list[str], rest: str
) -> None:
    def written(*members: tuple[str, str]) -> str:
        return "{" + ",".join(f"{spaces[0]}{name}{spaces[1]}:{spaces[2]}{value}" for name, value in members) + "}"

    params = written(*before, ('"name"', '"named"'), *after)
    known = [('"jsonrpc"', '"2.0"'), ('"id"', "7"), ('"method"', '"tools/call"'), ('"params"', params)]
    whole = (written(*known, *before[:1]) if spaces[3] else written(*known)) + spaces[4] + rest
    with contextlib.suppress(RpcError):
        message = decode(whole.encode())
        call = GateCall(Route("a"), NOBODY, "gate", "", "", asyncio.Queue().get)
        got = permit(call, Policies([PolicyRule(prompt="x")]), message, whole.encode())
        members = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
        if members["method"] == msgspec.Raw(b'"tools/call"'):
            inner = msgspec.json.decode(members["params"], type=dict[str, msgspec.Raw])
            members["params"] = msgspec.Raw(msgspec.json.encode(inner))
        assert got == msgspec.json.encode(members)


@pytest.mark.parametrize(
    ("rule", "uri"),
    [
        ("orders://{n}", "or\tders://1"),
        ("orders://{n}", "\x01orders://1"),
        ("orders://{n}", "orders:/\n/1"),
        ("orders://{n}", "orders://@1"),
        ("file:///data/{x}", "file:/data/x"),
        ("file:///data/{x}", "file:data/x"),
        ("file:///data/{x}", "file://localhost/data/x"),
        ("file:///c:/{x}", "file://C|/x"),
        ("http://example.com/secret/{x}", "http:/example.com/secret/1"),
        ("http://example.com/secret/{x}", "http:example.com/secret/1"),
        ("http://example.com/secret/{x}", "http:///example.com/secret/1"),
        ("http://example.com/secret/{x}", "http://example.com:80/secret/1"),
        ("http://example.com/secret/{x}", "http://@example.com/secret/1"),
        ("http://example.com/secret/{x}", "http://u:p@example.com/secret/1"),
        ("http://example.com/secret/{x}", "http://example.com./secret/1"),
        ("http://example.com/secret/{x}", "http://exam\xadple.com/secret/1"),
        ("http://example.com/secret/{x}", "http://exam%C2%ADple.com/secret/1"),
        ("http://127.0.0.1/{x}", "http://0x7f.1/secret"),
        ("http://[::1]/{x}", "http://[0:0::1]/secret"),
    ],
)
def test_a_uri_that_an_sdk_normalises_does_not_escape_its_rule_on_any_way(tmp_path: Path, rule: str, uri: str) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        async with guarded(tmp_path, upstream, rules=[PolicyRule(resource=rule, scopes=["read"])]) as gate:
            for method, params in ways("resource", uri).items():
                body, headers = message(method, params, "2025-11-25")
                status, answer = await gate.answer(body, *headers, token="none")
                told = answer["error"]["message"]
                assert status == 403 or matches("The URI … is malformed: ….", told), (method, told)
            assert not upstream.requests

    asyncio.run(test())


@pytest.mark.parametrize("accept", [b"application/json", b"text/event-stream"])
def test_lists_leave_out_what_the_caller_can_never_use_and_are_private(tmp_path: Path, accept: bytes) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        async with guarded(tmp_path, upstream) as gate:
            seen: dict[tuple[str, str, str], Any] = {}
            for token, version, method in itertools.product(("none", "all"), (*LEGACY, "2026-07-28"), LISTED):
                for cursor in ({}, {"cursor": "more"}):
                    body, headers = message(method, cursor, version)
                    response = await gate.post(body, *headers[1:], (b"accept", accept), token=token)
                    text = await response.read(100_000)
                    answer = json.loads(text if accept == b"application/json" else text.split(b"data: ")[-1])
                    assert answer["id"] == 1
                    assert answer["result"].pop("cacheScope") == "private"
                    assert ("nextCursor" in answer["result"]) is not bool(cursor)
                    member, entries = LISTED[method]
                    shown = [next(iter(entry.values())) for entry in answer["result"][member]]
                    kept = ["open", "greet", "public://one"] if token == "none" else [*map(only, entries)]
                    assert shown == [each for each in map(only, entries) if each in kept]
                    seen[token, version, method] = shown
            assert len(seen) == 32

    asyncio.run(test())


def only(entry: dict[str, str]) -> str:
    return next(iter(entry.values()))


def test_a_batch_of_lists_is_filtered_too(tmp_path: Path) -> None:
    async def test() -> None:
        bodies = [message(method, {}, LEGACY[0], number)[0] for number, method in enumerate(LISTED)]
        async with guarded(tmp_path, Upstream(lists)) as gate:
            status, answers = await gate.answer(
                b"[%b]" % b",".join(bodies), (b"accept", b"application/json"), token="none"
            )
            assert status == 200
            assert "named" not in json.dumps(answers)
            assert "secret" not in json.dumps(answers)
            assert len(answers) == len(LISTED)

    asyncio.run(test())


def test_a_tool_that_is_switched_off_is_unknown_to_everybody(tmp_path: Path) -> None:
    upstream = Upstream(lists)

    async def test() -> None:
        async with guarded(tmp_path, upstream, rules=[], off=("wild",)) as gate:
            for version, expected in ((LEGACY[1], 200), (LEGACY[2], 200), ("2026-07-28", 400)):
                for name in ("wild", "WILD"):
                    body, headers = message("tools/call", {"name": name}, version)
                    status, answer = await gate.answer(body, *headers, token="all")
                    assert (status, answer["error"]["code"]) == (expected, -32602)
                    assert answer["error"]["message"] == f"Unknown tool: {name}. It is switched off on this host."
                body, headers = message("tools/list", {}, version)
                _, answer = await gate.answer(body, (b"accept", b"application/json"), *headers[1:], token="all")
                names = [tool["name"] for tool in answer["result"]["tools"]]
                assert names == [name for name in (*TOOLS, "unknown") if name != "wild"]
                assert answer["result"]["cacheScope"] == "public", "it is the same for everybody"
            assert not [seen for seen in upstream.requests if b"tools/call" in seen.body]

    asyncio.run(test())


def test_a_list_that_comes_on_a_resumed_stream_is_filtered_too(tmp_path: Path) -> None:
    asked: list[Any] = []

    async def later(seen: Seen, writer: Any) -> None:
        if seen.body:
            asked.append(seen.message["id"])
            writer.write(STREAM + chunk(b"id: c-1\ndata: \n\n") + b"0\r\n\r\n")
        else:
            answer = {"jsonrpc": "2.0", "id": asked[0], "result": {"tools": LISTED["tools/list"][1]}}
            writer.write(STREAM + event(answer) + b"0\r\n\r\n")

    async def test() -> None:
        async with guarded(tmp_path, Upstream(minting(b"own", later))) as gate:
            for token, expected in (("none", ["open"]), ("all", [*TOOLS, "unknown"])):
                asked.clear()
                client = await initialize(gate, token)
                left = await (await client.post(message("tools/list", {}, LEGACY[2])[0])).read(1000)
                place = left.partition(b"id: ")[2].split(b"\n")[0]
                resumed = await (await client.ask("GET", (b"last-event-id", place))).read(9999)
                reply = json.loads(resumed.partition(b"data: ")[2].split(b"\n")[0])
                assert (reply["id"], [tool["name"] for tool in reply["result"]["tools"]]) == (1, expected)

    asyncio.run(test())


def test_a_list_that_cannot_be_judged_is_not_shown(tmp_path: Path) -> None:
    async def nameless(seen: Seen, writer: Any) -> None:
        writer.write(result(seen, {"tools": [{"title": "No name"}]}))

    async def test() -> None:
        async with guarded(tmp_path, Upstream(nameless)) as gate:
            body, headers = message("tools/list", {}, LEGACY[2])
            status, answer = await gate.answer(body, *headers, token="none")
            assert status == 502
            assert answer["error"]["message"].endswith("did not answer properly: an entry of its list has no name.")

    asyncio.run(test())


def test_what_a_new_token_could_open_stays_listed_and_groups_open_it(tmp_path: Path) -> None:
    upstream = Upstream(lists)
    rules = [{"tool": "named", "scopes": ["offered"]}, {"tool": "wild", "scopes": ["never"]}]
    groups = {"groups": {"ops": ["never"]}, "groups_claim": "realm.groups"}
    tools = json.loads(msgspec.json.encode(TOOLS))

    async def steps(at: Login) -> None:
        await at.configure(policies={"rules": rules, "tools": tools} | groups, auth={"scopes": ["offered"]})

        async def asked(token: str, method: str, **params: str) -> tuple[int, dict[str, Any]]:
            body, headers = message(method, params, LEGACY[2])
            sent = [*headers[1:], (b"accept", b"application/json"), (b"authorization", b"Bearer " + token.encode())]
            response, said = await at.ask("POST", "/a/mcp", "example.com", *sent, body=body)
            return response.status, said

        plain = provider.token(f"{URL}/a/mcp")
        in_ops = provider.token(f"{URL}/a/mcp", sub="grace", realm={"groups": ["dev", "ops"]})
        for token, hidden in ((plain, {"wild"}), (in_ops, set()), ("secret", {"named", "wild"})):
            _, said = await asked(token, "tools/list")
            names = {tool["name"] for tool in said["result"]["tools"]}
            assert names == {*TOOLS, "unknown"} - hidden
            assert (await asked(token, "tools/call", name="named"))[0] == 403, "it is listed, and still needs its scope"
            assert (await asked(token, "tools/call", name="wild"))[0] == (403 if "wild" in hidden else 200)
            if token is in_ops:
                caller = relayed(upstream.requests[-1].headers["portway-caller"].encode())
                assert caller is not None
                assert (caller.scopes, caller.obtainable) == ({"never"}, {"offered"}), "as the app is told"

    with publishing() as provider:
        run(tmp_path, provider, steps, upstream)
