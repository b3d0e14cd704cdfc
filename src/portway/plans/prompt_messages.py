"""From what a prompt returned to its messages (specification: server/prompts)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from portway.plans.content import Audio, Block, Image, Text
from portway.plans.output import encode_json
from portway.plans.sdk_content import block_of, kind_of


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
    if kind_of(type(result)) == "prompt":
        result = result.messages  # type: ignore[attr-defined]
    items = result if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    messages = [_message(item) for item in items]
    return encode_json([{"role": message.role, "content": as_block(message.content)} for message in messages], name)


def _message(item: Any) -> Message:  # noqa: ANN401 - whatever a prompt returns
    if kind_of(type(item)) == "message":
        return Message(item.content, item.role)
    return item if isinstance(item, Message) else Message(item)


def as_block(content: object) -> object:
    """Return the content block of a message; raises TypeError for a value that cannot be one."""
    if isinstance(content, str):
        return Text(text=content)
    if isinstance(content, Image | Audio):
        return content.block
    if isinstance(content, Block):
        return content
    if (passed_on := block_of(content)) is not None:
        return passed_on.block
    raise TypeError(
        f"a prompt returned {type(content).__name__}; it returns text, content blocks, or a list of Message"
    )
