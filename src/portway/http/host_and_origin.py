"""Checks the Host and Origin headers against DNS rebinding: by which names this server may be called (421), and by
which web pages (403).

MCP requires it of every HTTP transport, against DNS rebinding ("Security Warning", revisions from 2025-03-26).
"""

from __future__ import annotations

import copy
import re
import socket
from typing import TYPE_CHECKING, NamedTuple

from portway.http.cors import Cors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway.http.asgi import Scope

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*))(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(rb"https?://([^/?#@\s]+)")
_CACHE_ENTRIES, _CACHE_KEY_BYTES = 1024, 256


class Refusal(NamedTuple):
    """The status and the sentence of an error."""

    status: int
    message: str


_NO_HOST = Refusal(400, "The request must have exactly one Host header.")
_BAD_HOST = Refusal(400, "The Host header is not a host name with an optional port.")
_BAD_TARGET = Refusal(400, "The request target must be a path that starts with '/'.")
_WRONG_HOST = Refusal(421, "This server does not answer to that Host. To allow it, add it to PORTWAY_ALLOWED_HOSTS.")
_BAD_ORIGIN = Refusal(403, "This Origin is not allowed. To allow its pages, add it to PORTWAY_ALLOWED_ORIGINS.")


class Guard:
    """Checks Host and Origin of every request.

    `allowed_hosts` are host names, each with an optional port; `*.example.com` stands for all names below one, `*` for
    any. IP literals and localhost (and names below it) are always allowed as Host: rebinding needs the attacker's name.
    An Origin is allowed if `cors` names it, it equals the Host, or its host is in `allowed_hosts`; one on this machine
    only if `cors` names it, it equals the Host, or with `local_pages`. `any_page` allows every Origin.
    """

    def __init__(
        self,
        allowed_hosts: Iterable[str] = (),
        cors: Cors | None = None,
        *,
        local_pages: bool = True,
        any_page: bool = False,
    ) -> None:
        self._cors = cors or Cors()
        self._local_pages = local_pages
        self._any_page = any_page
        self._names = frozenset(name.lower().rstrip(".") for name in allowed_hosts)
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._any = "*" in self._names
        self._verdicts: dict[object, Refusal | None] = {}

    def for_pages(self, cors: Cors | None = None, *, local_pages: bool = True, any_page: bool = False) -> Guard:
        """Return a guard of the same names for other web pages. Many names are then read and kept once."""
        guard = copy.copy(self)
        guard._cors, guard._local_pages, guard._any_page = cors or Cors(), local_pages, any_page
        guard._verdicts = {}
        return guard

    def check(self, scope: Scope) -> Refusal | None:
        """Return None, or a refusal: 400 (malformed target or Host, none or two Hosts), 421 (Host), 403 (Origin)."""
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    return _NO_HOST
                host = value
            elif name == b"origin":
                if origin is not None:
                    return _BAD_ORIGIN
                origin = value
        if host is None:
            return _NO_HOST
        if not scope["path"].startswith("/"):
            return _BAD_TARGET
        key = host if origin is None else (host, origin)
        try:
            return self._verdicts[key]
        except KeyError:
            pass
        verdict = self._judge(host, origin)
        if len(host) + len(origin or b"") <= _CACHE_KEY_BYTES:
            if len(self._verdicts) >= _CACHE_ENTRIES:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    def _judge(self, host: bytes, origin: bytes | None) -> Refusal | None:
        called = _split(host)
        if called is None:
            return _BAD_HOST
        if not (self._is_named(*called) or _is_local_name(called[0]) or _is_ip(called[0])):
            return _WRONG_HOST
        if origin is None or self._any_page or self._cors.allows(origin):
            return None
        match = _ORIGIN.fullmatch(origin)
        caller = _split(match[1]) if match else None
        if caller is None:
            return _BAD_ORIGIN
        if caller == called:
            return None
        local = _is_local_name(caller[0]) or _is_loopback(caller[0])
        return None if (self._local_pages if local else self._is_named(*caller)) else _BAD_ORIGIN

    def _is_named(self, name: str, port: str) -> bool:
        names = self._names
        return self._any or name in names or f"{name}:{port}" in names or name.endswith(self._suffixes)


def _split(authority: bytes) -> tuple[str, str] | None:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    return match[1].decode().lower().rstrip("."), (match[2] or b"").decode()


def _is_ip(name: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if name.startswith("[") else socket.AF_INET, name.strip("[]"))
    except OSError:
        return False
    return True


def _is_local_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _is_loopback(name: str) -> bool:
    return name == "[::1]" or (name.startswith("127.") and _is_ip(name))
