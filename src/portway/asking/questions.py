"""The questions that a server may ask (`elicit`, `elicit_url`, `sample`, `list_roots`, `Ask`): their params on the
wire, and how an answer is read.

Specification: client/elicitation, client/sampling, client/roots.
"""

import hashlib
import secrets
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import msgspec
from msgspec import Raw

from portway.asking.forms import FULL_FORMS_SINCE, Form, form_of
from portway.exceptions import RegistrationError
from portway.plans.content import AudioContent, Block, ImageContent, JsonObject, Text
from portway.plans.output import encode_json
from portway.plans.prompt_messages import Message, as_block
from portway.plans.signature import AskedParameter
from portway.protocol.capabilities import Capability
from portway.protocol.versions import LATEST_MODERN, LEGACY_VERSIONS

_TOOLS_SINCE = "2025-11-25"
"""The first revision with tools for sampling, and with several blocks in one message."""
_AUDIO_SINCE = "2025-03-26"

T = TypeVar("T")


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What the user did with a question; `data` is the content of an accepted form, else None."""

    action: Literal["accept", "decline", "cancel"]
    data: T | None = None

    @property
    def accepted(self) -> bool:
        """Whether the user agreed. For a URL, it does not mean that the visit succeeded."""
        return self.action == "accept"


class Root(msgspec.Struct, frozen=True):
    """A folder or file the client opens to the server; `uri` begins with file://."""

    uri: str
    name: str | None = None


class ToolUse(Block, frozen=True, tag_field="type", tag="tool_use"):
    """A model's request to call one of the offered tools."""

    id: str
    name: str
    input: JsonObject


class ToolOutput(Block, frozen=True, tag_field="type", tag="tool_result", rename="camel"):
    """The result of a `ToolUse`, for the next question to the model."""

    tool_use_id: str
    content: list[Block]
    is_error: bool = False


Content = Text | ImageContent | AudioContent | ToolUse


class Sampled(msgspec.Struct, frozen=True):
    """A model's answer, in blocks; `stop_reason` is "endTurn", "toolUse" and the like."""

    role: Literal["user", "assistant"]
    content: list[Content]
    model: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The text of the answer."""
        return "".join(block.text for block in self.content if isinstance(block, Text))


class Malformed(Exception):
    """A client's answer does not have the shape of the method's result."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `key` identifies it in every run of the handler; without one, its position does.

    `needs` are the capabilities it needs of the client, `since` is the first protocol revision that has it.
    """

    method: ClassVar[str]
    noun: ClassVar[str]
    needs: Capability
    since: str = LEGACY_VERSIONS[0]
    key: str | None = None

    def params(self, version: str) -> bytes:
        """Encode the request's params for a client that speaks `version`."""
        raise NotImplementedError

    def read(self, result: Raw | bytes) -> Any:  # noqa: ANN401 - each kind of question has its own
        """Decode the answer in a result; raise Malformed, or Unfit for content that does not fit the form."""
        raise NotImplementedError

    def under(self, key: str) -> Self:
        """Return this question under `key`, unless it has a key already."""
        return msgspec.structs.replace(self, key=key) if self.key is None else self

    def digest(self) -> bytes:
        """Return 16 bytes that identify this question by its method and params."""
        return hashlib.sha256(self.method.encode() + b" " + self.params(LATEST_MODERN)).digest()[:16]


class _Elicited(msgspec.Struct):
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, object] | None = None


class FormQuestion(Question, frozen=True, kw_only=True):
    """Asks the user to fill in a form."""

    method = "elicitation/create"
    noun = "a form"
    message: str
    kind: Any
    form: Form

    def params(self, version: str) -> bytes:
        return msgspec.json.encode({"message": self.message, "requestedSchema": self.form.schema(version)})

    def read(self, result: Raw | bytes) -> Answer[Any]:
        answer = _decoded(result, _Elicited)
        if answer.action != "accept":
            return Answer(answer.action)
        return Answer(answer.action, self.form.read(answer.content or {}))

    def under(self, key: str) -> Self:
        named = super().under(key)
        return (
            named if named is self or self.form.whole else msgspec.structs.replace(named, form=form_of(self.kind, key))
        )


class UrlQuestion(Question, frozen=True, kw_only=True):
    """Asks the user to visit a URL."""

    method = "elicitation/create"
    noun = "a visit to a URL"
    message: str
    url: str

    def params(self, version: str) -> bytes:
        params = {"mode": "url", "message": self.message, "url": self.url}
        if version in LEGACY_VERSIONS:
            params["elicitationId"] = secrets.token_urlsafe(16)
        return msgspec.json.encode(params)

    def read(self, result: Raw | bytes) -> Answer[None]:
        return Answer(_decoded(result, _Elicited).action)


class _Sampled(msgspec.Struct, rename="camel"):
    role: Literal["user", "assistant"]
    content: Content | list[Content]
    model: str
    stop_reason: str | None = None


class ModelQuestion(Question, frozen=True, kw_only=True):
    """Asks the client's model."""

    method = "sampling/createMessage"
    noun = "a model's answer"
    request: bytes

    def params(self, version: str) -> bytes:
        return self.request

    def read(self, result: Raw | bytes) -> Sampled:
        answer = _decoded(result, _Sampled)
        content = answer.content if isinstance(answer.content, list) else [answer.content]
        return Sampled(answer.role, content, answer.model, answer.stop_reason)


class _Roots(msgspec.Struct):
    roots: list[Root]


class RootsQuestion(Question, frozen=True, kw_only=True):
    """Asks for the roots."""

    method = "roots/list"
    noun = "the roots"

    def params(self, version: str) -> bytes:
        return b"{}"

    def read(self, result: Raw | bytes) -> list[Root]:
        return _decoded(result, _Roots).roots


def elicit(message: str, kind: Any = None, *, key: str | None = None) -> Question:  # noqa: ANN401 - a type expression
    """Ask the user, by a form, for data of type `kind`; the answer is an `Answer`.

    `kind`: str, int, float, bool, a date, a Literal or Enum of strings or a list of one; a dataclass, TypedDict or
    model with such fields; a dict is the requestedSchema itself; None asks for yes or no only. Choices get titles by
    `Annotated[Literal["s", "l"], {"s": "Small", "l": "Large"}]`. Never ask for a secret in a form.
    Raises RegistrationError for a type no form can hold.
    """
    form = form_of(kind, key or "value")
    return FormQuestion(needs=Capability.FORM, since=form.since, message=message, kind=kind, form=form, key=key)


def elicit_url(message: str, url: str, *, key: str | None = None) -> Question:
    """Ask the user to visit `url`; the answer is an `Answer` without data, and "accept" means only that they agreed.

    The URL must hold no credentials or personal data, and the page must check that its visitor is the caller.
    """
    return UrlQuestion(needs=Capability.URL, since=FULL_FORMS_SINCE, message=message, url=url, key=key)


def sample(
    messages: str | Sequence[str | Message],
    *,
    max_tokens: int = 1000,
    system: str | None = None,
    temperature: float | None = None,
    model_preferences: Mapping[str, object] | None = None,
    stop: Sequence[str] | None = None,
    tools: Sequence[Mapping[str, object]] | None = None,
    key: str | None = None,
) -> Question:
    """Ask the client's model; the answer is a `Sampled`.

    A message holds text, a content block, or a list of blocks. `model_preferences` and `tools` have the shape of the
    wire (client/sampling).
    """
    said = [_message(item) for item in ([messages] if isinstance(messages, str) else messages)]
    params: dict[str, object] = {
        "messages": said,
        "maxTokens": max_tokens,
        "systemPrompt": system,
        "temperature": temperature,
        "modelPreferences": model_preferences,
        "stopSequences": stop,
        "tools": tools,
    }
    request = encode_json({name: value for name, value in params.items() if value is not None}, "sample()", "was given")
    needs, since = Capability.SAMPLING, _AUDIO_SINCE if b'"type":"audio"' in request else LEGACY_VERSIONS[0]
    if tools is not None:
        needs |= Capability.SAMPLING_TOOLS
    if tools is not None or any(isinstance(message["content"], list) for message in said):
        since = _TOOLS_SINCE
    return ModelQuestion(needs=needs, since=since, request=request, key=key)


def _message(item: str | Message) -> dict[str, object]:
    message = item if isinstance(item, Message) else Message(item)
    content = message.content
    try:
        blocks = [as_block(part) for part in content] if isinstance(content, list) else as_block(content)
    except TypeError:
        raise TypeError("sample() takes text, or a list of texts and Messages that hold content blocks.") from None
    return {"role": message.role, "content": blocks}


def list_roots(*, key: str | None = None) -> Question:
    """Ask for the folders the client opens to the server; the answer is a list of `Root`."""
    return RootsQuestion(needs=Capability.ROOTS, key=key)


class Asked(msgspec.Struct, frozen=True):
    """A parameter that is asked for. `whole`: it takes the Answer itself, also a declined one."""

    name: str
    question: Question
    whole: bool
    has_default: bool


def questions_of(parameters: Sequence[AskedParameter]) -> tuple[Asked, ...]:
    """Turn the marked parameters of a signature into questions; raises RegistrationError."""
    return tuple(map(_asked, parameters))


def _asked(parameter: AskedParameter) -> Asked:
    name, question = parameter.name, parameter.ask.question
    kind, *metadata = typing.get_args(parameter.annotation)
    whole = typing.get_origin(kind) is Answer or kind is Answer
    if isinstance(question, Question):
        return Asked(name, question.under(name), whole, parameter.has_default)
    if whole:
        (kind,) = typing.get_args(kind) or (None,)
    extras = tuple(item for item in metadata if item is not parameter.ask)
    if extras:
        kind = typing.Annotated[(kind, *extras)]
    try:
        return Asked(name, elicit(question, kind, key=name), whole, parameter.has_default)
    except RegistrationError as error:
        raise RegistrationError(f"parameter {name}: {error}") from None


_R = TypeVar("_R")


def _decoded(result: Raw | bytes, kind: type[_R]) -> _R:
    try:
        return msgspec.json.decode(result, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error).replace("`$.", "`")) from None
