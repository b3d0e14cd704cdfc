"""What a server asks the user during `portway call`, on the terminal: confirmations, forms and pages to visit.

Nothing is sent that the user has not typed or agreed to. What the server says is shown with a mark before each line,
and with escapes for what a terminal would act on, so that it cannot pass for a text of ours.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click
import msgspec

from portway.cli.server_login import has_browser
from portway.cli.terminal_text import marked_rows, plain_line
from portway.cli.tool_arguments import ArgumentProblem, read_value
from portway.cli.typed_lines import TypedLines

if TYPE_CHECKING:
    from portway.client import Elicitation, Progress
    from portway.client.server_requests import Elicited

_MOST_SHOWN = 20_000  # characters that the server says in one question
_MOST_FIELDS = 100
_MOST_HELD = 20  # messages that wait for an answer of the user; the newest are kept
_LONGEST_PROGRESS = 1000  # characters of a message that are shown
_BOOLEANS = {"y": "true", "yes": "true", "n": "false", "no": "false"}


class _Option(msgspec.Struct):
    const: str
    title: str = ""


class _Items(msgspec.Struct):
    enum: list[str] = []
    any_of: list[_Option] = msgspec.field(name="anyOf", default_factory=list)


class _Limits(msgspec.Struct, rename="camel", omit_defaults=True):
    """The keywords that bound a value (2025-11-25, client/elicitation)."""

    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None


class _Field(_Limits):
    """One field of a form, whose type is "" where the server does not say."""

    type: Literal["", "string", "integer", "number", "boolean", "array"] = ""
    title: str = ""
    description: str = ""
    default: Any = None
    enum: list[str] = []
    enum_names: list[str] = []
    one_of: list[_Option] = []
    items: _Items | None = None

    def choices(self) -> dict[str, str]:
        """Return the values that are allowed, each with its title, "" without one; nothing where any is."""
        titled, values = (self.items.any_of, self.items.enum) if self.items else (self.one_of, self.enum)
        if titled:
            return {option.const: option.title for option in titled}
        return dict(itertools.zip_longest(values, self.enum_names[: len(values)], fillvalue=""))


class _Form(msgspec.Struct):
    properties: dict[str, _Field] = {}
    required: list[str] = []


class _NotAnswered(Exception):
    """A question that gets no answer, and why; without a text if the user has ended the input."""


class Questions:
    """Answers what the server called `target` asks, one question after the other.

    With `agrees`, confirmations are answered by yes: questions without a field to fill in.
    """

    def __init__(self, target: str, *, agrees: bool) -> None:
        self._target = plain_line(target)
        self._agrees = agrees
        self._has_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
        self._lines = TypedLines()
        self._turn = asyncio.Lock()
        self._was_withdrawn = False  # the last question, before it was answered
        self._held: collections.deque[str] = collections.deque(maxlen=_MOST_HELD)

    @property
    def can_answer(self) -> bool:
        """Whether any question can be answered."""
        return self._agrees or self._has_terminal

    async def answer(self, asked: Elicitation) -> Elicited:
        """Ask the user, and return the answer: "cancel" where there is none."""
        async with self._turn:
            try:
                return await self._answer(asked)
            except _NotAnswered as reason:
                _tell(": ".join(filter(None, ("not answered", str(reason)))))
                return "cancel"
            except asyncio.CancelledError:
                _tell("\nthe server no longer waits for an answer")
                self._was_withdrawn = True
                raise
            finally:
                while self._held:
                    _tell(self._held.popleft())

    def show(self, progress: Progress) -> None:
        """Show how far the server is; while a question is open, after its answer."""
        total = "" if progress.total is None else f"/{progress.total:g}"
        said = (progress.message or "")[:_LONGEST_PROGRESS]
        text = "\n".join(marked_rows(f"{progress.progress:g}{total} {said}".rstrip(), first=""))
        if self._turn.locked():
            self._held.append(text)
        else:
            _tell(text)

    async def _answer(self, asked: Elicitation) -> Elicited:
        if asked.mode not in ("form", "url"):
            raise _NotAnswered(f"a question of the kind {plain_line(asked.mode[:40])} is not known")
        try:
            form = msgspec.convert(asked.requested_schema, _Form)
        except msgspec.ValidationError as error:
            raise _NotAnswered(f"the form is malformed: {plain_line(str(error))}") from None
        said = len(asked.message) + len(asked.url or "") + len(json.dumps(asked.requested_schema))
        if said > _MOST_SHOWN or len(form.properties) > _MOST_FIELDS:
            raise _NotAnswered(f"the question is longer than the {_MOST_SHOWN} characters that are shown")
        if self._was_withdrawn and self._has_terminal:
            await self._typed("Press Enter for the next question: ")  # what was on its way to the last one ends here
        self._was_withdrawn = False
        _tell(f"{self._target} asks:")
        _quote(asked.message)
        if asked.mode == "form" and not form.properties and self._agrees:
            _tell("agreed, by --yes")
            return {}
        if not self._has_terminal:
            raise _NotAnswered("--yes only agrees to confirmations: run this on a terminal, where you are asked")
        if asked.mode == "url":
            return await self._visit(asked.url or "")
        answers = {
            name: await self._field(name, field, is_required=name in form.required)
            for name, field in form.properties.items()
        }
        if not await self._agree("Send this?" if answers else "Agree?"):
            return "decline"
        return {name: value for name, value in answers.items() if value is not None}

    async def _agree(self, question: str) -> bool:
        return (await self._typed(f"{question} [y/N] ")).lower() in ("y", "yes")

    async def _typed(self, prompt: str) -> str:
        """Return a line that was begun after the prompt was there: what was typed before was not meant for it."""
        self._lines.forget()
        click.echo(prompt, nl=False, err=True)
        line = await self._lines.next()
        if line is None:
            click.echo(err=True)
            raise _NotAnswered
        return line

    async def _visit(self, url: str) -> Elicited:
        try:
            is_page = urlsplit(url).scheme in ("http", "https") and url.isascii() and url.isprintable()
        except ValueError:
            is_page = False
        if not is_page:
            raise _NotAnswered("the page to visit has no http URL")
        _quote(url)
        if not await self._agree("Visit this page?"):
            return "decline"
        if has_browser():
            import webbrowser

            await asyncio.to_thread(webbrowser.open, url)
        return "accept"

    async def _field(self, name: str, field: _Field, *, is_required: bool) -> object:
        """Return what the user fills in; None for nothing."""
        choices, usual = field.choices(), field.default
        _quote(*filter(None, (field.title, field.description)))
        _quote(*(f"{value}: {title}" for value, title in choices.items() if title))
        shown = " | ".join(choices) or field.type or "any"
        if usual is not None:
            shown += f", usually {usual if isinstance(usual, str) else json.dumps(usual, ensure_ascii=False)}"
        while True:
            typed = await self._typed(_within(f"{name} ({shown}): "))
            if not typed and usual is None and not is_required:
                return None
            try:
                value = _read(name, typed, field, choices) if typed else usual
            except ArgumentProblem as problem:
                _tell(_within(str(problem)))
                continue
            problems = [f"{name} needs a value"] if value is None else _problems(name, value, field, choices)
            if not problems:
                return value
            _tell(_within("; ".join(problems)))


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _quote(*texts: str) -> None:
    """Show what the server says, each row with a mark before it."""
    for text in texts:
        for row in marked_rows(text):
            _tell(row.rstrip())


def _within(text: str) -> str:
    """Return a line of ours that has words of the server in it, with a mark before each further row."""
    return "\n".join(marked_rows(plain_line(text), first="  "))


def _read(name: str, typed: str, field: _Field, choices: Mapping[str, str]) -> object:
    """Return what was typed as a value of the field; a choice may be typed as its title. Raises ArgumentProblem."""
    values = {title: value for value, title in choices.items() if title}
    if field.type == "array":
        return [values.get(part, part) for each in typed.split(",") if (part := each.strip())]
    if field.type == "boolean":
        typed = _BOOLEANS.get(typed.lower(), typed)
    return values.get(typed) or read_value(name, typed, {"type": field.type} if field.type else {}, {})


def _problems(name: str, value: object, field: _Field, choices: Iterable[str]) -> list[str]:
    """Return what is wrong with a value."""
    from portway.exceptions import RegistrationError
    from portway.plans.jsonschema_validation import GivenSchema

    schema = msgspec.to_builtins(msgspec.convert(field, _Limits, from_attributes=True))
    if field.type:
        schema["type"] = field.type
    if options := list(choices):
        schema |= {"items": {"enum": options}} if field.type == "array" else {"enum": options}
    try:
        given = GivenSchema("input_schema", "the form", {"type": "object", "properties": {name: schema}})
        return given.problems({name: value})
    except RegistrationError as error:
        raise _NotAnswered(f"the form is malformed: {error}") from None
