"""What the user is shown before a tool runs that must be confirmed: the tool and all its arguments, or nothing; and
that each confirmation is used once.

Text of the arguments cannot pass for text of the question: line breaks and characters that nobody sees are escaped.
"""

import json
import string
import time
from collections.abc import Iterable

import msgspec

from portway.policy.argument_json import read_arguments, refused, unreadable

_MOST_SHOWN = 4000  # characters; what is longer is not confirmed, because nobody would read it
_MOST_USED = 10_000
_fields = string.Formatter().parse


class Confirmation:
    """The question for the calls of a tool. `text` may name arguments, as in `Delete {name}?`. Raises ValueError."""

    __slots__ = ("_parts",)

    def __init__(self, text: str = "") -> None:
        self._parts: list[tuple[str, str | None]] = []
        wrong = ValueError(f"confirm: {text!r} names an argument otherwise than as in {{name}}")
        try:
            fields = list(_fields(text or "Run this tool?"))
        except ValueError:  # a brace alone
            raise wrong from None
        for literal, name, spec, conversion in fields:
            if name is not None and (not name or not name.replace("_", "a").isalnum() or spec or conversion):
                raise wrong
            self._parts.append((literal, name))

    @property
    def names(self) -> Iterable[str]:
        """The arguments that the text names."""
        return [name for _, name in self._parts if name is not None]

    def message(self, tool: str, arguments: bytes | memoryview | msgspec.Raw | None) -> str:
        """Return what the user is shown. Raises ArgumentError for arguments that cannot be shown as they are."""
        try:
            values = read_arguments(arguments)
            members = values if isinstance(values, dict) else {}
            asked = "".join(
                literal + ("" if name is None else _shown_argument(name, members)) for literal, name in self._parts
            )
            message = f"{asked}\n\nTool: {_visible(tool)}\nArguments: {_shown(values or {})}"
        except (ValueError, RecursionError) as error:
            raise unreadable(tool, error) from None
        if len(message) > _MOST_SHOWN:
            problem = f"they are too long to be confirmed by the user, who is shown at most {_MOST_SHOWN} characters"
            raise refused(tool, [problem])
        return message


def _shown_argument(name: str, arguments: dict[str, object]) -> str:
    if name not in arguments:  # the text may have it misspelt
        return f"{{{name}: not given}}"
    return _shown(arguments[name]).strip('"')


def _shown(value: object) -> str:
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    """Return text with an escape for each character that is not seen, such as one that turns the direction."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class UsedConfirmations:
    """Remembers which confirmations have been used, each by a number used once.

    `seconds` is how long a confirmation is good, and so how long it is remembered.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._used: dict[bytes, float] = {}  # the oldest first

    def use(self, nonce: bytes) -> bool:
        """Mark a confirmation as used. Return False for one that is."""
        now, used = time.monotonic(), self._used
        while used and (len(used) >= _MOST_USED or now - next(iter(used.values())) > self._seconds):
            del used[next(iter(used))]
        if nonce in used:
            return False
        used[nonce] = now
        return True

    def release(self, nonce: bytes) -> None:
        """Mark a confirmation as unused: the run that it was for goes on in another one."""
        self._used.pop(nonce, None)
