"""A fully typed server: `make check` checks it by `mypy --strict`, `test_registration.py` runs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, assert_type

from portway import Answer, Ask, CallNext, Context, Header, Icon, Message, Root, Server, elicit, list_roots


@dataclass
class Shop:
    stock: dict[str, int]


@contextlib.asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Shop]:
    yield Shop({"pen": 12})


server = Server("shop", lifespan=opened, icons=[Icon("https://example.com/shop.png")])


@server.tool
def bare(count: int) -> str:
    return str(count)


@server.tool(timeout=5, annotations={"readOnlyHint": True}, scopes=["shop"], meta={"shelf": 1})
async def called(name: Annotated[str, Header("Item")], ctx: Context[Shop]) -> int:
    return ctx.state.stock[name]


@server.tool
def greet(name: Annotated[str, Ask("Your name?")]) -> str:
    return name


@server.tool(asks=True)
async def order(ctx: Context) -> str:
    shop = await ctx.elicit("Which shop?", Shop)
    assert_type(shop, Answer[Shop])
    if shop.data is None:
        return "none"
    assert_type(shop.data, Shop)
    assert_type(await ctx.elicit("How big?", Literal["s", "l"]), Answer[Any])
    assert_type(await ctx.list_roots(), list[Root])
    assert_type((await ctx.sample("A wish")).text, str)
    assert_type(ctx.state, Any)
    await ctx.ask(name=elicit("Your name?", str), where=list_roots())
    return "ordered"


@server.resource("item://{name}", mime_type="text/plain")
def item(name: str) -> str:
    return name


@server.prompt
def reorder(name: str) -> list[Message]:
    return [Message(name)]


@server.completion("reorder", "name")
def names(value: str) -> list[str]:
    return [value]


@server.middleware
async def timed(ctx: Context, call_next: CallNext) -> object:
    return await call_next()


assert_type(bare(1), str)
assert_type(item("pen"), str)
assert_type(reorder("pen"), list[Message])


def misused() -> None:
    """What a type checker refuses; an unused ignore is an error too."""
    Server("shop", titel="Shop")  # type: ignore[arg-type]
    server.mount(server, namespace="shop")  # type: ignore[arg-type]
    server.run(show_banner=False)  # type: ignore[arg-type]
    server.tool(5)  # type: ignore[call-overload]
    server.tool(timeout="5")  # type: ignore[call-overload]
    server.middleware(bare)  # type: ignore[type-var]
    server.resource(bare)  # type: ignore[arg-type]
