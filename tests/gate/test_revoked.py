"""What a caller may not have any more ends: calls, streams and listeners, with the reason."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portway.auth.tokens import digest
from portway.host.token_table import Token, TokenChange, TokenWriter, apply
from tests.gate.running_gate import META, STREAM, Rig, Seen, Upstream, call, event, modern, rig, running
from tests.gate.test_sessions import Client, data_of, initialize, message, minting, run, text_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NOTE = {"jsonrpc": "2.0", "method": "notifications/x", "params": {}}
LISTEN = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"subscriptions/listen")]


class Instance:
    """An instance whose calls and streams last until the gate ends them; `cancelled` are the ids it was told to end."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.ended = asyncio.Semaphore(0)
        self.upstream = Upstream(minting(b"own", self.script))

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked = seen.message if seen.body else {"id": "GET"}
        if "id" not in asked:
            self.cancelled.append(asked["params"]["requestId"])
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            return
        if asked.get("params", {}).get("name") != "silent":
            writer.write(STREAM + event(NOTE))
        await seen.connection.read()
        self.ended.release()


async def change(gate: Rig, edit: Callable[[dict[str, Any]], None]) -> None:
    """Have the gate use an edited table."""
    table = json.loads(gate.paths.routes.read_text())
    edit(table["apps"])
    gate.paths.routes.write_text(json.dumps(table))
    assert (await gate.op(op="table"))["ok"]


async def ends(gate: Rig, client: Client, path: str, end: Callable[[], Awaitable[None]], reason: str) -> None:
    """Open one of everything, call `end`, and check that all of it has ended with the reason."""
    token = client.token
    body, headers = modern(1, "silent")
    silent = asyncio.ensure_future(gate.post(body, *headers, path=path, token=token))
    legacy = asyncio.ensure_future(client.post(call(2, "silent"), path=path))
    listen = message("subscriptions/listen", 3, notifications={}, _meta=META)
    streams = [
        await client.post(call(4, "streams"), path=path),
        await gate.post(listen, *LISTEN, path=path, token=token),
        await client.ask("GET", path=path),
    ]
    for stream in streams:
        await text_until(stream, b"notifications/x")
    await end()
    for number, waiting in ((1, silent), (2, legacy)):
        response = await waiting
        said = json.loads(await response.read(1000))
        assert (said["id"], said["error"]["message"]) == (number, reason)
        challenge = response.header(b"www-authenticate")
        told = (403, b"") if "narrowed" in reason else (401, b'Bearer error="invalid_token"')
        assert (response.status, challenge[:28]) == told
    for number, stream in zip((4, 3), streams, strict=False):
        (said,) = data_of(await stream.read(1000))
        assert (said["id"], said["error"]["message"]) == (number, reason)
    assert await streams[2].read(1000) == b": %b\n\n" % reason.encode()


@pytest.mark.parametrize("how", ["destroyed", "private"])
def test_an_app_that_is_destroyed_or_made_private_ends_what_its_callers_have_open(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, instance.upstream) as gate:
            response = await gate.post(message("initialize", 0), token="", path="/p/mcp")
            client = Client(gate, "", dict(response.headers)[b"mcp-session-id"])

            async def end() -> None:
                if how == "destroyed":
                    await change(gate, lambda apps: apps.pop("p"))
                else:
                    await change(gate, lambda apps: apps["p"].update(access="gate"))

            texts = {
                "destroyed": "The app 'p' has been removed from this host.",
                "private": "The app 'p' takes only callers with a token now.",
            }
            await ends(gate, client, "/p/mcp", end, texts[how])
            for _ in range(5):
                await instance.ended.acquire()
            while len(instance.cancelled) < 2:
                await gate.op(op="stats")
            assert (await gate.answer(call(), path="/p/mcp", token=""))[0] == 401

    run(test())


TOKENS = {
    "revoked": [TokenChange(drop=digest("secret"))],
    "renamed": [TokenChange(Token(digest("secret"), "a", "carol", 0, ["read", "write"]))],
    "narrowed": [TokenChange(Token(digest("secret"), "a", "alice", 0, ["read"]))],
    "expired": [TokenChange(Token(digest("secret"), "a", "alice", 0, ["read", "write"], 1))],
    "widened": [TokenChange(Token(digest("secret"), "a", "alice", 0, ["read", "write", "admin"]))],
}


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("how", ["revoked", "renamed", "narrowed", "expired"])
def test_a_token_that_is_revoked_or_narrowed_ends_what_its_owner_has_open_and_nothing_else(
    tmp_path: Path, how: str, anew: bool
) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, instance.upstream) as gate:
            alice, bob = await initialize(gate), await initialize(gate, "other")
            stays = await bob.ask("GET")
            writer = TokenWriter(gate.paths.tokens)

            async def end() -> None:
                if anew:
                    tokens = {"other": Token(digest("other"), "a", "bob", 1, ["read", "write"])}
                    apply(TOKENS[how], tokens)
                    writer.write(tokens.values())
                else:
                    with gate.paths.tokens.open("ab") as file:
                        file.write(msgspec.json.Encoder().encode_lines(TOKENS[how]))
                assert await gate.op(op="tokens") == {"ok": True}

            reasons = {
                "narrowed": "The scopes of the token have been narrowed.",
                "expired": "The token has expired.",
            }
            await ends(gate, alice, "/a/mcp", end, reasons.get(how, "The token has been revoked."))
            await text_until(stays, b"notifications/x")
            assert (await gate.op(op="stats"))["apps"]["a"]["streams"] == 1
            again = await gate.post(message("initialize", 1))
            assert again.status == (401 if how in ("revoked", "expired") else 200)

    run(test())


def test_a_token_that_may_do_more_than_before_ends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, instance.upstream) as gate:
            stream = await (await initialize(gate)).ask("GET")
            await text_until(stream, b"notifications/x")
            with gate.paths.tokens.open("ab") as file:
                file.write(msgspec.json.Encoder().encode_lines(TOKENS["widened"]))
            await gate.op(op="tokens")
            await initialize(gate)
            assert (await gate.op(op="stats"))["apps"]["a"]["streams"] == 1
            caller = json.loads(base64.urlsafe_b64decode(instance.upstream.requests[-1].headers["portway-caller"]))
            assert caller["scopes"] == ["admin", "read", "write"]

    run(test())


def test_a_gate_that_finds_no_whole_file_of_tokens_asks_callers_to_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Instance().upstream) as gate:
            whole, paths = gate.paths.tokens.read_bytes(), gate.paths
        for damage in (None, b""):
            paths.tokens.unlink() if damage is None else paths.tokens.write_bytes(damage)
            async with running(paths) as gate:
                assert (await gate.answer(call()))[0] == 503
                paths.tokens.write_bytes(whole)
                await gate.op(op="tokens")
                assert (await gate.answer(b"{"))[0] == 400

    run(test())


def test_tokens_whose_file_is_lost_or_torn_stay_good_until_it_is_whole_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Instance().upstream) as gate:
            whole = gate.paths.tokens.read_bytes()
            for damage in (b"", b"\0" * 4096 + b"\n", whole[: len(whole) // 2]):
                gate.paths.tokens.unlink()
                await gate.op(op="tokens")
                gate.paths.tokens.write_bytes(damage)
                await gate.op(op="tokens")
                TokenWriter(gate.paths.tokens).write([])
                gate.paths.tokens.write_bytes(whole)
                await gate.op(op="tokens")
                await initialize(gate)

    run(test())


def test_a_call_whose_token_is_revoked_while_its_body_arrives_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, instance.upstream) as gate:
            body = call(1)
            head = b"POST /a/mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\nconnection: close\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))
            writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body[:9]))
            while not (await gate.op(op="stats"))["apps"]["a"]["in_flight"]:
                pass
            with gate.paths.tokens.open("ab") as file:
                file.write(msgspec.json.Encoder().encode_lines(TOKENS["revoked"]))
            await gate.op(op="tokens")
            writer.write(body[9:])
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"The token has been revoked." in answer
            assert not instance.upstream.requests
            writer.close()

    run(test())
