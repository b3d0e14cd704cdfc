"""The public `Server` that authors import: what they register, plus `run()` and `asgi()`."""

from typing import TYPE_CHECKING, Never

from portway.server.options import refuse_unknown
from portway.server.server import BaseServer

if TYPE_CHECKING:
    from portway.transport.http_app import HttpApp


class Server(BaseServer):
    """An MCP server: register functions with its decorators, then `run()` it.

    `name`, `version`, `title`, `description`, `website_url` and `icons` are what clients show; `instructions` tell a
    model what the server is for. `sessions`: whether legacy clients get one; "auto" if a function takes a `Context`,
    and so may log or ask. `lifespan` is entered before the first call and left after the last; what it yields is
    `Context.state`. `page_size` bounds the lists. `cache_ttl` (seconds) and `cache_scope` tell clients how long and for
    whom to keep lists and resources. `on_duplicate` says what happens to a name that is registered twice. `tells` are
    exceptions whose text clients are told, as they are of a ToolError; the text of others stays in the log. `auth` is
    the identity provider whose access tokens callers need over HTTP; without it, PORTWAY_AUTH_ISSUER may name one.
    """

    def asgi(self) -> "HttpApp":
        """Return this server as an ASGI application, to mount in another one or to run by any ASGI server."""
        from portway.transport.configured_app import configured_app

        return configured_app(self)

    def run(
        self,
        transport: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        workers: int = 1,
        **unknown: Never,
    ) -> None:
        """Serve until stopped; `portway run` describes the arguments and how the transport is chosen without them."""
        refuse_unknown("server.run()", unknown, ("transport", "host", "port", "workers"))
        from portway.transport.run import run

        run(self, transport=transport, host=host, port=port, workers=workers)
