"""The list results of a server (tools/list …): pages and cursors, cached bytes, without what the caller lacks the
scopes for.

What a caller lacks the scopes for, and cannot get, is left out. A caller that nobody has identified sees everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from portway.auth.principal import Principal
from portway.protocol.errors import INVALID_PARAMS, RpcError
from portway.protocol.jsonrpc import Params
from portway.protocol.sealing import Keys
from portway.protocol.versions import Era
from portway.server.components import Component, Prompt, Resource, Table, Tool
from portway.server.registration import private
from portway.sessions.exchange import Exchange

_PURPOSE = b"cursor"
_MOST_PAGES = 256  # that are cached; callers of different scopes see different ones


class _Cursor(msgspec.Struct, array_like=True):
    """Where a page begins: after the component `last`, or at `index` if that was removed.

    `owner` is the digest of the caller who got it, and only that caller may use it.
    """

    member: str
    last: str
    index: int
    owner: bytes


class _Page(NamedTuple):
    """The JSON of a page, where a next one follows without its end: `last` and `place` (or -1) are of its cursor."""

    body: bytes
    last: str
    place: int


class Lister:
    """The list results of one table. `tails` is what each era adds after the list, `size` the length of a page."""

    def __init__(
        self,
        table: Table[Tool] | Table[Resource] | Table[Prompt],
        tails: Mapping[Era, bytes],
        keys: Keys,
        size: int | None,
    ) -> None:
        self._table = table
        self._tails = tails
        self._keys = keys
        self._size = size
        self._edition = table.edition
        self._scopes = self._all_scopes()
        self._pages: dict[tuple[Era, int, frozenset[str] | None], _Page] = {}

    async def answer(self, exchange: Exchange, params: Params) -> bytes:
        """Answer a list request."""
        return self.result(exchange.era, params.cursor, exchange.principal)

    def result(self, era: Era, cursor: str | UnsetType | None, caller: Principal) -> bytes:
        """Return the JSON of the page at `cursor`; raise RpcError for a cursor that this caller was not given."""
        if self._table.edition != self._edition:
            self._pages.clear()
            self._scopes, self._edition = self._all_scopes(), self._table.edition
        scopes = None
        if self._scopes and caller.issuer:
            scopes = self._scopes & (caller.scopes | caller.obtainable)
        start = 0 if cursor is UNSET or cursor is None else self._position(cursor, caller, scopes)
        page = self._pages.get((era, start, scopes))
        if page is None:
            if len(self._pages) >= _MOST_PAGES:
                self._pages.clear()
            page = self._pages[era, start, scopes] = self._page(era, start, scopes)
        if page.place < 0:
            return page.body
        after = msgspec.json.encode(_Cursor(self._table.member, page.last, page.place, caller.digest()))
        return b'%b,"nextCursor":"%b"}' % (page.body, self._keys.seal(_PURPOSE, after).encode())

    def _all_scopes(self) -> frozenset[str]:
        return frozenset(scope for item in tuple(self._table.items.values()) for scope in item.scopes)

    def _items(self, scopes: frozenset[str] | None) -> list[Component]:
        """Return the components that callers of these scopes see; None sees all."""
        items = tuple(self._table.items.values())
        return [item for item in items if scopes is None or item.scopes <= scopes]

    def _page(self, era: Era, start: int, scopes: frozenset[str] | None) -> _Page:
        items = self._items(scopes)
        end = len(items) if self._size is None else start + self._size
        entries = [item.listing for item in items[start:end]]
        if era is Era.LEGACY and isinstance(items[0] if items else None, Tool):
            from portway.server import older_revisions

            entries = [older_revisions.listing(entry) for entry in entries]
        tail = private(self._tails[era]) if self._scopes else self._tails[era]
        body = b'{"%b":[%b]%b' % (self._table.member.encode(), b",".join(entries), tail)
        return _Page(body, items[end - 1].key, end - 1) if end < len(items) else _Page(body + b"}", "", -1)

    def _position(self, cursor: str, caller: Principal, scopes: frozenset[str] | None) -> int:
        payload = self._keys.unseal(_PURPOSE, cursor)
        place = None if payload is None else msgspec.json.decode(payload, type=_Cursor)
        if place is None or place.member != self._table.member or place.owner != caller.digest():
            raise RpcError(INVALID_PARAMS, "The cursor is not one this server gave; start again without it.")
        keys = [item.key for item in self._items(scopes)]
        return keys.index(place.last) + 1 if place.last in keys else min(place.index, len(keys))
