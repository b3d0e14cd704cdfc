"""Portway: take a Python function to a production MCP endpoint.

Every name is imported when it is first used (PEP 562), so that `import portway` costs next to nothing.
"""

TYPE_CHECKING = False  # as type checkers read it; `typing` itself would be most of the cost of this import
if TYPE_CHECKING:
    from portway.app import Server as Server
    from portway.asking.questions import Answer as Answer
    from portway.asking.questions import Root as Root
    from portway.asking.questions import Sampled as Sampled
    from portway.asking.questions import elicit as elicit
    from portway.asking.questions import elicit_url as elicit_url
    from portway.asking.questions import list_roots as list_roots
    from portway.asking.questions import sample as sample
    from portway.auth.principal import Principal as Principal
    from portway.exceptions import RegistrationError as RegistrationError
    from portway.exceptions import ResourceNotFound as ResourceNotFound
    from portway.exceptions import ToolError as ToolError
    from portway.plans.content import Annotations as Annotations
    from portway.plans.content import Audio as Audio
    from portway.plans.content import EmbeddedResource as EmbeddedResource
    from portway.plans.content import Image as Image
    from portway.plans.content import ResourceContents as ResourceContents
    from portway.plans.content import ResourceLink as ResourceLink
    from portway.plans.content import Text as Text
    from portway.plans.content import ToolResult as ToolResult
    from portway.plans.messages import Message as Message
    from portway.plans.signature import Ask as Ask
    from portway.plans.signature import Header as Header
    from portway.server.components import Icon as Icon
    from portway.server.context import Context as Context
    from portway.server.middleware import CallNext as CallNext

_HOME = {
    "Annotations": "portway.plans.content",
    "Answer": "portway.asking.questions",
    "Ask": "portway.plans.signature",
    "Audio": "portway.plans.content",
    "CallNext": "portway.server.middleware",
    "Context": "portway.server.context",
    "EmbeddedResource": "portway.plans.content",
    "Header": "portway.plans.signature",
    "Icon": "portway.server.components",
    "Image": "portway.plans.content",
    "Message": "portway.plans.messages",
    "Principal": "portway.auth.principal",
    "RegistrationError": "portway.exceptions",
    "ResourceContents": "portway.plans.content",
    "ResourceLink": "portway.plans.content",
    "ResourceNotFound": "portway.exceptions",
    "Root": "portway.asking.questions",
    "Sampled": "portway.asking.questions",
    "Server": "portway.app",
    "Text": "portway.plans.content",
    "ToolError": "portway.exceptions",
    "ToolResult": "portway.plans.content",
    "elicit": "portway.asking.questions",
    "elicit_url": "portway.asking.questions",
    "list_roots": "portway.asking.questions",
    "sample": "portway.asking.questions",
}
__all__ = sorted(_HOME)  # noqa: PLE0605 - the table above is the one list of public names


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'portway' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
