"""`portway run`: serve the server in a file; end with the host that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import click

from portway.cli.options import output_option, print_json, require_issuer

_LAST_SECONDS = 40.0  # calls get 30 s


@click.command(short_help="Serve a Python file's server over HTTP or stdio.")
@click.argument("target", metavar="FILE[:OBJECT]")
@click.option(
    "--transport", type=click.Choice(["http", "stdio"]), help="Default: stdio when standard input is a pipe, else http."
)
@click.option("--host", help="Address to listen on. Default: 127.0.0.1, or 0.0.0.0 when PORT is set.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one. Default: PORT, else 8080."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the port.")
@click.option("--auth-issuer", metavar="URL", help="Take access tokens of this identity provider. PORTWAY_AUTH_ISSUER.")
@click.option("--auth-audience", metavar="URL", help="What its tokens are made for: this server's public URL.")
@click.option("--auth-scopes", metavar="SCOPES", help="Scopes that clients should ask for, with spaces between.")
@output_option
def command(
    target: str,
    transport: str | None,
    host: str | None,
    port: int | None,
    workers: int,
    output: str,
    **auth: str | None,
) -> None:
    """Serve the server in FILE: at /mcp over HTTP (with /health beside it), or over stdio.

    OBJECT names the portway.Server in FILE; it may be left out when FILE has only one. As JSON, {"url": ...} is printed
    once it serves HTTP.
    """
    from portway.cli.load_server import LoadError, load
    from portway.exceptions import SettingError
    from portway.transport.run import choose, serve_http, serve_stdio

    issuer = auth["auth_issuer"]
    if issuer is None:
        issuer = os.environ.get("PORTWAY_AUTH_ISSUER") or None
    require_issuer(issuer, auth["auth_audience"], auth["auth_scopes"])
    os.environ.update({f"PORTWAY_{name.upper()}": value for name, value in auth.items() if value is not None})
    try:
        choice = choose(transport, os.environ)
        if choice.transport == "http":
            _end_with_host()
            on_ready = _print_url if output == "json" else lambda _url: None
            serve_http(load(target), choice, host=host, port=port, workers=workers, on_ready=on_ready)
            return
        from portway.transport.pipes import claim

        wire = claim()  # before the import, so that what the file prints does not reach the client
        serve_stdio(load(target), choice, wire)
    except (LoadError, SettingError) as error:
        raise click.ClickException(str(error)) from None


def _print_url(url: str) -> None:
    print_json({"url": url})


def _end_with_host() -> None:
    """Watch the host's pipe PORTWAY_LIFELINE: it closes when the launcher ends."""
    if lifeline := os.environ.pop("PORTWAY_LIFELINE", ""):
        import threading

        os.set_inheritable(int(lifeline), False)
        threading.Thread(target=_await_end, args=(int(lifeline),), daemon=True).start()


def _await_end(lifeline: int) -> None:
    """When the launcher has ended, send this process SIGTERM; after `_LAST_SECONDS`, kill its process group."""
    import time

    with contextlib.suppress(OSError):  # the author's code has closed it
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_LAST_SECONDS)
        if sys.platform != "win32":  # where no host runs
            os.killpg(0, signal.SIGKILL)
