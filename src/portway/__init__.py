"""Portway: take a Python function to a production MCP endpoint.

Every name is imported when it is first used (PEP 562), so that `import portway` costs next to nothing.
"""

TYPE_CHECKING = False  # as type checkers read it; `typing` itself would be most of the cost of this import
if TYPE_CHECKING:
    from portway.auth.principal import Principal as Principal
    from portway.server.content import Audio as Audio
    from portway.server.content import Image as Image
    from portway.server.content import ToolResult as ToolResult
    from portway.server.context import Context as Context
    from portway.server.errors import RegistrationError as RegistrationError
    from portway.server.errors import ToolError as ToolError
    from portway.server.prompts import Message as Message
    from portway.server.server import Server as Server

_HOME = {
    "Audio": "portway.server.content",
    "Context": "portway.server.context",
    "Image": "portway.server.content",
    "Message": "portway.server.prompts",
    "Principal": "portway.auth.principal",
    "RegistrationError": "portway.server.errors",
    "Server": "portway.server.server",
    "ToolError": "portway.server.errors",
    "ToolResult": "portway.server.content",
}
__all__ = sorted(_HOME)  # noqa: PLE0605 - the table above is the one list of public names


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'portway' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
