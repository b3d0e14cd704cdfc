"""The messages that a prompt returns (specification: server/prompts)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from portway.plans.content import Audio, Block, Image, Text
from portway.plans.output import encode_json


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt: text, an image, audio or a resource, said by the user or the assistant."""

    content: object
    role: Literal["user", "assistant"] = "user"

    def __post_init__(self) -> None:
        if self.role not in {"user", "assistant"}:
            raise ValueError(f"a message is said by the user or the assistant, not by {self.role!r}")


def encode_messages(result: object, name: str) -> bytes:
    """Return the JSON array of messages for what the prompt `name` returned; raises TypeError or OutputError."""
    items = result if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    messages = [item if isinstance(item, Message) else Message(item) for item in items]
    return encode_json([{"role": message.role, "content": as_block(message.content)} for message in messages], name)


def as_block(content: object) -> Block:
    """Return the content block of a message; raises TypeError for a value that cannot be one."""
    if isinstance(content, str):
        return Text(text=content)
    if isinstance(content, Image | Audio):
        return content.block
    if isinstance(content, Block):
        return content
    raise TypeError(
        f"a prompt returned {type(content).__name__}; it returns text, content blocks, or a list of Message"
    )
