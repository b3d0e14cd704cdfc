"""The script that serves a FastMCP or MCPServer object of an app at /mcp, on 127.0.0.1 and the port PORT.

`python serve_object.py FILE OBJECT [ORIGIN…]` runs in the app's own environment, so it imports nothing but the standard
library and what the app has. It knows FastMCP 2 to 4, and `mcp` 1 and 2. Web pages of the ORIGINs may call it.
"""

import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any


def load(file: str, name: str) -> object:
    """Import the file under the name that its own package gives it, and return its object."""
    path = Path(file).resolve()
    root, parts = path.parent, [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    sys.path[0] = str(root)
    module = importlib.import_module(".".join(parts))
    found = getattr(module, name, None)
    if found is None:
        raise SystemExit(f"there is no {name} in {file}: name the server with --server FILE:OBJECT")
    return found


def serve(
    server: Any,  # noqa: ANN401  # of a package that Portway does not have
    what: str,
    origins: list[str],
) -> None:
    """Serve the object until a signal. Ends the process when it is no server that this knows."""
    host, port = "127.0.0.1", int(os.environ["PORT"])
    # The gate sends this name as Host; behind it, nobody else reaches the port.
    name = os.environ.get("RENDER_EXTERNAL_HOSTNAME", "localhost")
    names = [name, f"{name}:*", "127.0.0.1:*", "localhost:*"]
    classes = {f"{each.__module__.partition('.')[0]}.{each.__name__}": each for each in type(server).__mro__}
    if "fastmcp.FastMCP" in classes:
        options = {"show_banner": False, "allowed_hosts": names, "allowed_origins": origins}
        known = inspect.signature(server.run_http_async).parameters
        options = {key: value for key, value in options.items() if key in known}
        server.run(transport="http", host=host, port=port, **options)
    elif "mcp.MCPServer" in classes:
        server.run("streamable-http", host=host, port=port, transport_security=_security(names, origins))
    elif "mcp.FastMCP" in classes:
        server.settings.host, server.settings.port = host, port
        if hasattr(server.settings, "transport_security"):  # since mcp 1.9.4
            server.settings.transport_security = _security(names, origins)
        server.run("streamable-http")
    else:
        raise SystemExit(
            f"{what} is a {type(server).__qualname__}, not a FastMCP or MCPServer: "
            "name the server with --server FILE:OBJECT, or give the command that serves it with --start"
        )


def _security(names: list[str], origins: list[str]) -> object:
    from mcp.server.transport_security import TransportSecuritySettings

    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=names, allowed_origins=origins)


if __name__ == "__main__":
    serve(load(sys.argv[1], sys.argv[2]), f"{sys.argv[2]} in {sys.argv[1]}", sys.argv[3:])
