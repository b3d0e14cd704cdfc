"""Tokens, and what one more of them costs the host: it does not depend on how many there are."""

from __future__ import annotations

import asyncio
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from portway.auth.tokens import digest
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.running_apps import RunningApps
from portway.host.instances.runtime import InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.management.token_tools import TokenTools
from portway.host.paths import claim
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Variables
from portway.host.store import Store
from portway.host.token_table import Token, TokenChange, TokenReader, TokenWriter, apply

if TYPE_CHECKING:
    from pathlib import Path

MOST = 1.3
"""What a token may cost beside 20,000 others, in multiples of what it costs alone."""


def token_tools(data: Path) -> TokenTools:
    """The management of tokens of a host with an app `a`, without instances and without a gate."""
    paths = claim(data)
    store = Store(paths.database)
    store.begin_release("a", "folder")
    runtime = ProcessRuntime(paths, NO_WALLS)
    starter = Starter(runtime, store, InstanceLimits(), Variables(store, KeyFile(paths.key)))
    running = RunningApps(paths, store, runtime, starter)
    running.write_tokens()
    return TokenTools(store, running, starter.address)


def read(reader: TokenReader, tokens: dict[str, Token]) -> None:
    """Bring the tokens up to date, as the gate does."""
    if reader.reopen_if_replaced():
        tokens.clear()
    for changes in reader.pieces():
        apply(changes, tokens)


def test_creating_and_revoking_a_token_costs_the_same_beside_twenty_thousand_others(tmp_path: Path) -> None:
    count = 0

    def tick(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    async def cost(tools: TokenTools, name: str) -> tuple[int, int]:
        """The function calls and the bytes of a creation and a revocation."""
        nonlocal count
        before, count = tools._running._paths.tokens.stat().st_size, 0
        sys.setprofile(tick)
        try:
            await tools.create_token("a", name)
            await tools.revoke_token("a", name)
        finally:
            sys.setprofile(None)
        return count, tools._running._paths.tokens.stat().st_size - before

    async def test() -> None:
        tools = token_tools(tmp_path / "data")
        await cost(tools, "caches")
        calls, size = await cost(tools, "one")
        tokens = [(f"t{number}", digest(f"secret {number}")) for number in range(20_000)]
        with tools._store._begin() as connection:
            text = "INSERT INTO tokens (app, name, digest, scopes, created) VALUES ('a', ?, ?, '[]', 1)"
            connection.exec_driver_sql(text, tokens)
        tools._running._tokens.write([])
        tools._running.write_tokens()
        more_calls, more_size = await cost(tools, "two")
        assert more_calls <= MOST * calls
        assert more_size <= MOST * size
        tools._store.close()

    asyncio.run(test())


def test_what_is_written_is_read_in_order_also_when_the_file_is_written_anew(tmp_path: Path) -> None:
    writer, reader, tokens = TokenWriter(tmp_path / "tokens"), TokenReader(tmp_path / "tokens"), dict[str, Token]()
    many = [Token(f"{number:064x}", "a", f"n{number}", number) for number in range(5000)]
    with pytest.raises(OSError, match="No such file"):
        reader.reopen_if_replaced()
    writer.write(many)
    read(reader, tokens)
    assert list(tokens.values()) == many
    assert writer.append([TokenChange(drop=many[0].digest), TokenChange(Token("new", "a", "new", 1))])
    read(reader, tokens)
    assert (many[0].digest in tokens, tokens["new"].name, len(tokens)) == (False, "new", 5000)
    writer.write(many[:2])
    read(reader, tokens)
    assert list(tokens.values()) == many[:2]
    reader.close()


def test_the_file_is_written_anew_once_most_of_its_lines_are_outdated_or_it_is_not_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    writer = TokenWriter(path)
    assert not writer.append([])
    writer.write([])
    appended = 0
    while writer.append([TokenChange(drop="x")]):
        appended += 1
    assert appended == 1001
    writer.write([])
    assert writer.append([])
    path.write_bytes(b"")
    assert not writer.append([])
    path.unlink()
    assert not writer.append([])


def test_a_rotated_token_keeps_its_name_scopes_and_life_and_the_one_before_for_the_overlap(tmp_path: Path) -> None:
    async def test() -> None:
        tools, tokens, now = token_tools(tmp_path), dict[str, Token](), int(time.time())
        reader = TokenReader(tools._running._paths.tokens)

        async def known() -> list[tuple[str, list[str], int | None]]:
            read(reader, tokens)
            return [(key, of.scopes, of.expires) for key, of in tokens.items() if of.name == "ci"]

        first = await tools.create_token("a", "ci", ["read"], 1000)
        second = await tools.rotate_token("a", "ci", overlap=100)
        (info,) = (await tools.list_tokens("a")).tokens
        assert info.former_expires is not None
        assert info.expires is not None
        assert now + 100 <= info.former_expires < info.expires
        assert now + 1000 <= info.expires == second.expires
        both = {
            (digest(first.token), ("read",), info.former_expires),
            (digest(second.token), ("read",), info.expires),
        }
        assert {(key, tuple(scopes), expires) for key, scopes, expires in await known()} == both
        third = await tools.rotate_token("a", "ci", expires_in=50)
        assert [key for key, *_ in await known()] == [digest(third.token)]
        await tools.rotate_token("a", "ci", overlap=10)
        await tools.revoke_token("a", "ci")
        assert await known() == []
        reader.close()

    asyncio.run(test())
