"""Portway: take a Python function to a production MCP endpoint.

Every name is imported when it is first used (PEP 562), so that `import portway` costs next to nothing.
"""

TYPE_CHECKING = False  # as type checkers read it; `typing` itself would be most of the cost of this import
if TYPE_CHECKING:
    from portway.auth.principal import Principal as Principal
    from portway.server.components import Icon as Icon
    from portway.server.content import Annotations as Annotations
    from portway.server.content import Audio as Audio
    from portway.server.content import EmbeddedResource as EmbeddedResource
    from portway.server.content import Image as Image
    from portway.server.content import ResourceContents as ResourceContents
    from portway.server.content import ResourceLink as ResourceLink
    from portway.server.content import Text as Text
    from portway.server.content import ToolResult as ToolResult
    from portway.server.context import Context as Context
    from portway.server.errors import RegistrationError as RegistrationError
    from portway.server.errors import ResourceNotFound as ResourceNotFound
    from portway.server.errors import ToolError as ToolError
    from portway.server.middleware import CallNext as CallNext
    from portway.server.prompts import Message as Message
    from portway.server.questions import Answer as Answer
    from portway.server.questions import Root as Root
    from portway.server.questions import Sampled as Sampled
    from portway.server.questions import elicit as elicit
    from portway.server.questions import elicit_url as elicit_url
    from portway.server.questions import list_roots as list_roots
    from portway.server.questions import sample as sample
    from portway.server.server import Server as Server
    from portway.server.signature import Ask as Ask
    from portway.server.signature import Header as Header

_HOME = {
    "Annotations": "portway.server.content",
    "Answer": "portway.server.questions",
    "Ask": "portway.server.signature",
    "Audio": "portway.server.content",
    "CallNext": "portway.server.middleware",
    "Context": "portway.server.context",
    "EmbeddedResource": "portway.server.content",
    "Header": "portway.server.signature",
    "Icon": "portway.server.components",
    "Image": "portway.server.content",
    "Message": "portway.server.prompts",
    "Principal": "portway.auth.principal",
    "RegistrationError": "portway.server.errors",
    "ResourceContents": "portway.server.content",
    "ResourceLink": "portway.server.content",
    "ResourceNotFound": "portway.server.errors",
    "Root": "portway.server.questions",
    "Sampled": "portway.server.questions",
    "Server": "portway.server.server",
    "Text": "portway.server.content",
    "ToolError": "portway.server.errors",
    "ToolResult": "portway.server.content",
    "elicit": "portway.server.questions",
    "elicit_url": "portway.server.questions",
    "list_roots": "portway.server.questions",
    "sample": "portway.server.questions",
}
__all__ = sorted(_HOME)  # noqa: PLE0605 - the table above is the one list of public names


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'portway' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
