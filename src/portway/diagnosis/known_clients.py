"""How known MCP clients log in, up to the browser, as data.

It is what their source, their documentation and their bug reports have shown by November 2026. Where nothing is known
of a client, it does what the specification asks of clients (MCP 2026-07-28, basic/authorization).
"""

from dataclasses import dataclass
from typing import Literal

Way = Literal["document", "registration"]
"""How a client gets an id by itself: the address of its metadata document is one, or it registers (RFC 7591)."""

_LOOPBACK = ("http://localhost:PORT/callback",)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginClient:
    """One client.

    `ways` are tried in their order; `takes_id` says whether its user can give it an id instead. A client that
    `needs_none` sends its metadata document only to a provider that lists the authentication method `none`, one that
    `needs_methods` logs in only where some method is listed. `resource` says which one it takes: the `exact` URL that
    the user gave, or also one `above` it. `s256` says what of PKCE must be in the provider's metadata: S256 is `named`,
    is `not denied` by a list without it, or nothing (`any`). `callbacks` are where the browser comes back to. One in a
    web page reads only what CORS lets it read.
    """

    name: str
    ways: tuple[Way, ...] = ("document", "registration")
    takes_id: bool = True
    needs_none: bool = False
    needs_methods: bool = False
    resource: Literal["exact", "above"] = "above"
    s256: Literal["named", "not denied", "any"] = "named"
    every_provider: bool = False
    is_web_page: bool = False
    callbacks: tuple[str, ...] = _LOOPBACK


LOGIN_CLIENTS: tuple[LoginClient, ...] = (
    LoginClient(
        name="Claude",
        needs_none=True,
        callbacks=("https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"),
    ),
    LoginClient(name="Claude Code", needs_none=True),
    LoginClient(
        name="ChatGPT",
        needs_methods=True,
        every_provider=True,
        callbacks=("https://chatgpt.com/connector_platform_oauth_redirect",),
    ),
    LoginClient(
        name="VS Code",
        resource="exact",
        callbacks=("https://vscode.dev/redirect", "http://127.0.0.1:33418/"),
    ),
    LoginClient(
        name="Cursor",
        ways=("registration",),
        takes_id=False,
        callbacks=(
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "http://localhost:8787/callback",
        ),
    ),
    LoginClient(name="Codex", takes_id=False, needs_none=True, callbacks=("http://127.0.0.1:PORT/callback",)),
    LoginClient(name="the Python SDK", s256="any"),
    LoginClient(name="the TypeScript SDK", s256="not denied"),
    LoginClient(name="the TypeScript SDK in a web page", s256="not denied", is_web_page=True),
)
