"""Chooses the transport for `Server.run()` and `portway run` (stdio or HTTP; PORT, PORTWAY_TRANSPORT, workers), serves,
and says on stderr which and why.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from portway.exceptions import SettingError

if TYPE_CHECKING:
    from portway.http.bind import Bind
    from portway.server.server import BaseServer
    from portway.transport.pipes import Wire

Transport = Literal["http", "stdio"]
FALLBACK_PORT = 8080
_LAST_PORT = 65535
_LOCAL = ("127.0.0.1", "::1", "localhost")
_log = logging.getLogger("portway.transport")


class Choice(NamedTuple):
    """The transport, and why in a few words for the line on stderr."""

    transport: Transport
    reason: str


def choose(transport: str | None, environ: Mapping[str, str], stdin: int = 0) -> Choice:
    """Choose by the argument, then by PORTWAY_TRANSPORT and PORTWAY_SOCKET, then by what file descriptor `stdin` is.

    Raises SettingError for a transport that is neither http nor stdio.
    """
    for value, reason in ((transport, "as asked"), (environ.get("PORTWAY_TRANSPORT"), "PORTWAY_TRANSPORT is set")):
        if value in ("http", "streamable-http"):  # the second is the specification's word, and other frameworks'
            return Choice("http", reason)
        if value == "stdio":
            return Choice("stdio", reason)
        if value:
            raise SettingError(f"there is no transport {value}; use http or stdio")
    if environ.get("PORTWAY_SOCKET"):
        return Choice("http", "PORTWAY_SOCKET is set")
    try:
        mode = os.fstat(stdin).st_mode
    except OSError:
        return Choice("http", "standard input is closed")
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return Choice("stdio", "standard input is a pipe; PORTWAY_TRANSPORT=http serves HTTP instead")
    return Choice("http", "standard input is no pipe")


def run(
    server: BaseServer,
    *,
    transport: str | None = None,
    host: str | None = None,
    port: int | None = None,
    workers: int = 1,
) -> None:
    """Serve until the client leaves (stdio) or a signal comes (HTTP).

    `host` defaults to 127.0.0.1, or to every address when PORT is set: a platform that sets it connects from outside.
    `port` defaults to PORT, then 8080; 0 takes any free one. PORTWAY_SOCKET, a path, replaces both by a Unix socket.
    """
    try:
        choice = choose(transport, os.environ)
        if choice.transport == "http":
            serve_http(server, choice, host=host, port=port, workers=workers)
        else:
            serve_stdio(server, choice)
    except SettingError as error:
        raise SystemExit(f"portway: {error}") from None


def serve_stdio(server: BaseServer, choice: Choice, wire: Wire | None = None) -> None:
    """Serve over standard input and output, or over the `wire` claimed from them earlier."""
    from portway.protocol.sealing import Keys
    from portway.transport import stdio

    _configure_logs()
    keys = Keys.parse(text) if (text := os.environ.get("PORTWAY_KEYS")) else None
    if server.auth or os.environ.get("PORTWAY_AUTH_ISSUER"):
        _log.warning("over stdio nobody logs in: the identity provider is not used, and whoever started this may call")
    _announce(server, "stdio", choice)
    stdio.serve(server, wire, keys)


def serve_http(
    server: BaseServer,
    choice: Choice,
    *,
    host: str | None,
    port: int | None,
    workers: int,
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve over HTTP by `workers` processes. `on_ready` gets the endpoint's URL once connections are taken.

    Raises SettingError for an address or a setting that cannot be used.
    """
    from portway.http.bind import ListenError
    from portway.http.serve import LifespanError
    from portway.http.serve import run as listen
    from portway.transport.configured_app import configured_app
    from portway.transport.http_app import PATH

    def announce(url: str) -> None:
        _announce(server, url + PATH, choice, application.issuers)
        on_ready(url + PATH)

    _configure_logs()
    try:
        application = configured_app(server)
        bind = _bind(os.environ, host, port)
        if not (application.asks_for_tokens or bind.uds or bind.host in _LOCAL):
            _log.warning("no PORTWAY_TOKENS is set: anyone who reaches %s:%d may call every tool", bind.host, bind.port)
        if workers > 1 and application.keeps_sessions:
            raise SettingError(
                "this server gives legacy clients sessions, which one process must hold: leave --workers out, "
                "or write Server(sessions=False)"
            )
        if workers > 1:
            if sys.platform != "win32":
                from portway.transport.workers import supervise

                raise SystemExit(supervise(application, bind, workers, announce))
            raise SettingError("several workers need a system that can fork; leave --workers out")
        listen(application, bind, on_ready=announce)
    except (ListenError, LifespanError) as error:
        raise SettingError(str(error)) from None


def _bind(environ: Mapping[str, str], host: str | None, port: int | None) -> Bind:
    from portway.http.bind import Bind

    if path := environ.get("PORTWAY_SOCKET"):
        # Whatever the author passed: the application leaves authentication to the gate, so no port may be opened.
        return Bind(uds=path)
    given = environ.get("PORT", "")
    if given and not (given.isdecimal() and int(given) <= _LAST_PORT):
        raise SettingError(f"PORT={given} is not a port number; use 0 to 65535")
    everywhere = "0.0.0.0"  # noqa: S104 - a platform that sets PORT connects from outside
    return Bind(
        host or (everywhere if given else "127.0.0.1"), port if port is not None else int(given or FALLBACK_PORT)
    )


def _configure_logs() -> None:
    from portway import log_config

    try:
        log_config.configure()
    except ValueError as error:
        raise SettingError(str(error)) from None
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a print() fails no call, whatever the locale


def _announce(server: BaseServer, where: str, choice: Choice, issuers: Sequence[str] = ()) -> None:
    if sys.stderr is None or not logging.getLogger("portway").isEnabledFor(logging.INFO):
        return  # print() would write to standard output where standard error is closed
    print(f"portway: {server.name} on {where} ({choice.transport}: {choice.reason})", file=sys.stderr, flush=True)
    if issuers:
        print(f"portway: callers log in at {', '.join(issuers)}", file=sys.stderr, flush=True)
