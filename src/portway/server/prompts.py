"""What a prompt function returns, and its wire form (specification: server/prompts)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from portway.server.content import Audio, Block, Image, Text


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt: text, an image, audio or a resource, said by the user or the assistant."""

    content: object
    role: Literal["user", "assistant"] = "user"


def encode_messages(result: object) -> bytes:
    """The JSON array of a prompt's messages from what its function returned; raises TypeError for what is none."""
    items = result if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    messages = [item if isinstance(item, Message) else Message(item) for item in items]
    return msgspec.json.encode([{"role": message.role, "content": _block(message.content)} for message in messages])


def _block(content: object) -> Block:
    if isinstance(content, str):
        return Text(text=content)
    if isinstance(content, Image | Audio):
        return content.block
    if isinstance(content, Block):
        return content
    raise TypeError(
        f"a prompt returned {type(content).__name__}; it returns text, content blocks, or a list of Message"
    )
