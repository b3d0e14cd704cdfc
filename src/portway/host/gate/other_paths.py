"""Refuses MCP that is sent to other paths of an app with policies.

A policy is kept at the endpoint. The app's server may take another spelling of that path for its endpoint, or any path.
"""

import asyncio
import re

from portway.host.gate.gate_call import GateCall
from portway.host.gate.path_access import may_be_at
from portway.policy.name_patterns import folded
from portway.protocol.errors import REFUSED, RpcError

_LARGE = 65_536  # bytes of a body that is looked through on a thread
_SPACE = b" \t\r\n\0"  # NUL: servers find out by themselves that JSON is in UTF-16 or UTF-32
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_GOVERNED = re.compile(r"method[\"']?:[\"']?(?:tools|prompts|resources|completion|subscriptions)/")
_CHARSET = re.compile(rb"charset\s*=\s*\"?(?:utf-?8|us-ascii|iso-8859-1)(?=[\";\s]|$)")


async def refuse_mcp(call: GateCall, fields: dict[bytes, bytes], body: bytes) -> None:
    """Raise RpcError for a request to what may be the app's endpoint, or with a message that policies may be about.

    An app without policies gets all requests.
    """
    if call.route.policies is None:
        return
    if may_be_at(call.route.endpoint, call.raw_path):
        raise _elsewhere()
    if not body:
        return
    if not _is_plain(fields):
        text = "The app has policies: a body must be in UTF-8, without a Content-Encoding."
        raise RpcError(REFUSED, text, status=415)
    if await asyncio.to_thread(_is_governed, body) if len(body) > _LARGE else _is_governed(body):
        raise _elsewhere()


def _elsewhere() -> RpcError:
    return RpcError(REFUSED, "The app has policies: its MCP endpoint is at /mcp, and at no other path.", status=404)


def _is_plain(fields: dict[bytes, bytes]) -> bool:
    content_type = fields.get(b"content-type", b"").lower()
    is_ascii_like = content_type.count(b"charset") == len(_CHARSET.findall(content_type))
    return is_ascii_like and fields.get(b"content-encoding", b"identity") == b"identity"


def _is_governed(body: bytes) -> bool:
    """Whether a body has, anywhere, a method of tools and the like, as the most lenient server reads JSON."""
    text = body.translate(None, _SPACE).decode(errors="replace").replace("\\/", "/")
    if "\\u" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return _GOVERNED.search(folded(text)) is not None
