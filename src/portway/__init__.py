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
    from portway.exceptions import DownstreamError as DownstreamError
    from portway.exceptions import RegistrationError as RegistrationError
    from portway.exceptions import ResourceNotFound as ResourceNotFound
    from portway.exceptions import ToolError as ToolError
    from portway.http.safe_fetch import Fetched as Fetched
    from portway.http.safe_fetch import FetchError as FetchError
    from portway.http.safe_fetch import safe_fetch as safe_fetch
    from portway.oauth.settings import OAuth as OAuth
    from portway.plans.content import Annotations as Annotations
    from portway.plans.content import Audio as Audio
    from portway.plans.content import EmbeddedResource as EmbeddedResource
    from portway.plans.content import Image as Image
    from portway.plans.content import ResourceContents as ResourceContents
    from portway.plans.content import ResourceLink as ResourceLink
    from portway.plans.content import Text as Text
    from portway.plans.content import ToolResult as ToolResult
    from portway.plans.prompt_messages import Message as Message
    from portway.plans.signature import Ask as Ask
    from portway.plans.signature import Header as Header
    from portway.policy.rules import Limit as Limit
    from portway.server.components import Icon as Icon
    from portway.server.context import Context as Context
    from portway.server.middleware import CallNext as CallNext

_NAMES = {
    "portway.app": ("Server",),
    "portway.asking.questions": ("Answer", "Root", "Sampled", "elicit", "elicit_url", "list_roots", "sample"),
    "portway.auth.principal": ("Principal",),
    "portway.exceptions": ("DownstreamError", "RegistrationError", "ResourceNotFound", "ToolError"),
    "portway.http.safe_fetch": ("FetchError", "Fetched", "safe_fetch"),
    "portway.oauth.settings": ("OAuth",),
    "portway.plans.content": (
        "Annotations",
        "Audio",
        "EmbeddedResource",
        "Image",
        "ResourceContents",
        "ResourceLink",
        "Text",
        "ToolResult",
    ),
    "portway.plans.prompt_messages": ("Message",),
    "portway.plans.signature": ("Ask", "Header"),
    "portway.policy.rules": ("Limit",),
    "portway.server.components": ("Icon",),
    "portway.server.context": ("Context",),
    "portway.server.middleware": ("CallNext",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)  # noqa: PLE0605 - the table above is the one list of public names


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'portway' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
