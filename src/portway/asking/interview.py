"""Asks the client during a call: in the modern era the handler runs again with the answers, in the legacy era it waits;
a declined, malformed or impossible question ends the call.

Modern, per run: ask → every question answered: the handler goes on; some open: `NeedInput` ends the run, and the client
calls again with its answers and the sealed state. `Refusal` ends the call: an answer of the wrong shape, a capability
that the client lacks, or more than MAX_ROUNDS rounds.

Specification: basic/patterns/mrtr (2026-07-28); client/elicitation, client/sampling, client/roots (both eras).
"""

import asyncio
import inspect
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.asking import request_state as states
from portway.asking.forms import Unfit
from portway.asking.questions import Answer, Asked, Malformed, Question
from portway.asking.request_state import MAX_ROUNDS, Recorded, State
from portway.exceptions import Suspended, ToolError
from portway.plans.output import encode_json
from portway.protocol.capabilities import Capability, names, required
from portway.protocol.errors import INVALID_PARAMS, MISSING_CAPABILITY, RpcError
from portway.protocol.sealing import Keys
from portway.protocol.versions import Era
from portway.sessions.exchange import Exchange

_MISSING: Any = object()
_CONFIRMATION = "q-0"  # the questions of the handler itself are q-1, q-2, …
_NONCE_BYTES = 12


class _Retry(msgspec.Struct):
    """The params of the three methods that may ask, with what a client adds when it calls again."""

    name: str = ""
    uri: str = ""
    arguments: Raw | UnsetType = UNSET
    responses: dict[str, Raw] | UnsetType = msgspec.field(name="inputResponses", default=UNSET)
    state: str | UnsetType = msgspec.field(name="requestState", default=UNSET)


class Interview:
    """The questions of one call: those answered so far, and the state for the next run of the handler.

    Raises RpcError for a requestState that this server did not give to this caller for this call.
    """

    __slots__ = ("_call", "_exchange", "_keys", "_order", "_principal", "_responses", "_state")

    def __init__(self, exchange: Exchange, keys: Keys) -> None:
        self._exchange = exchange
        self._keys = keys
        self._order = 0
        self._principal = self._call = b""
        self._responses: dict[str, Raw] = {}
        self._state = State()
        if exchange.era is Era.MODERN:
            self._resume(exchange)

    def _resume(self, exchange: Exchange) -> None:
        """Read the answers and the state that a modern client sends along."""
        params = exchange.params(_Retry)
        method = exchange.message.method
        assert method is not UNSET
        name = params.uri if method == "resources/read" else params.name
        self._principal = exchange.principal.digest()
        self._call = states.call_digest(method, name, params.arguments)
        self._responses = {} if params.responses is UNSET else params.responses
        if params.state is not UNSET:
            now = int(time.time())
            self._state = states.unseal(self._keys, params.state, principal=self._principal, call=self._call, now=now)

    async def ask(self, questions: Mapping[str, Question]) -> dict[str, Any]:
        """Ask all `questions` at once and return the answers by the same names. Use the name "" for a single question.

        Raises Suspended where a modern client must answer first, ToolError where a legacy client cannot or does not.
        """
        if self._exchange.era is Era.LEGACY:
            answered = await _ask_in_place(self._exchange, list(questions.values()))
            return dict(zip(questions, answered, strict=True))
        answers: dict[str, Any] = {}
        missing: dict[str, Question] = {}
        for name, question in questions.items():
            key = question.key or self._next_key()
            answers[name] = self._answer(key, question)
            if answers[name] is _MISSING:
                missing[key] = question
        if missing:
            raise self._suspension(missing)
        return answers

    async def ask_parameters(self, name: str, questions: Sequence[Asked]) -> dict[str, object]:
        """Ask the questions that are parameters of the function `name`, and return the answers as keyword arguments.

        Raises as `ask`, and ToolError where the user gave no answer to a parameter without a default.
        """
        answers = await self.ask({asked.name: asked.question for asked in questions})
        keywords: dict[str, object] = {}
        for asked in questions:
            answer = answers[asked.name]
            if asked.whole or not isinstance(answer, Answer):
                keywords[asked.name] = answer
            elif answer.accepted:
                keywords[asked.name] = answer.data
            elif not asked.has_default:
                raise ToolError(f"{name} needs an answer to {asked.name!r}, and the user gave none ({answer.action}).")
        return keywords

    async def confirm(self, name: str, question: Question) -> bytes:
        """Ask the user to confirm a call of the tool `name`.

        Return the number used once of the confirmation, b"" for a legacy client. An answer counts only with the state
        that was given with this very question. Raises as `ask`, and ToolError unless the user agrees.
        """
        if self._exchange.era is Era.LEGACY:
            (answer,) = await _ask_in_place(self._exchange, [question])
        else:
            answer = self._answer(_CONFIRMATION, question)
            if answer is _MISSING:
                self._state.nonce = os.urandom(_NONCE_BYTES)
                raise self._suspension({_CONFIRMATION: question})
        if not answer.accepted:
            raise ToolError(f"{name} was not run: the user did not confirm it ({answer.action}).")
        return self._state.nonce

    async def once(self, key: str, fn: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `fn` gives
        """Return the result of `fn()`, read back from JSON. An earlier run's result is returned without a new call."""
        recorded = self._state.once
        if key not in recorded:
            value = fn()
            if inspect.isawaitable(value):
                value = await value
            recorded[key] = Raw(encode_json(value, f"once({key!r})"))
        return msgspec.json.decode(recorded[key])

    def _next_key(self) -> str:
        """Return the key of a question without one: its position among the handler's questions."""
        self._order += 1
        return f"q-{self._order}"  # keywords cannot contain "-", so this never clashes with one of `ctx.ask`

    def _answer(self, key: str, question: Question) -> Any:  # noqa: ANN401 - each kind of question has its own
        """Return the answer to a question, or _MISSING; raise Suspended for a malformed answer."""
        keyed = question.key is not None
        recorded = self._state.answers.get(key)
        if recorded is not None and (keyed or recorded.digest == question.digest()):
            result = recorded.result
        elif key in self._responses and (keyed or self._state.asked.get(key) == question.digest()):
            result = self._responses[key]
        else:
            return _MISSING
        try:
            value = question.read(result)
        except Unfit:
            return _MISSING
        except Malformed as error:
            text = f"params.inputResponses.{key} is not a result of {question.method}: {error}."
            raise Refusal(RpcError(INVALID_PARAMS, text)) from None
        self._state.answers[key] = Recorded(question.digest(), result)
        return value

    def _suspension(self, questions: Mapping[str, Question]) -> Suspended:
        """Return what to raise for questions that are open."""
        missing = _lacking(self._exchange, questions.values())
        if missing:
            return Refusal(RpcError(MISSING_CAPABILITY, _lacks(missing), {"requiredCapabilities": required(missing)}))
        if self._state.round >= MAX_ROUNDS:
            return Refusal(RpcError(INVALID_PARAMS, f"This call has asked {MAX_ROUNDS} times; start it again."))
        return NeedInput(self, questions)

    def requests(self, questions: Mapping[str, Question]) -> bytes:
        """Return the members of a result that asks `questions`, without the braces (specification: InputRequired)."""
        state = self._state
        requests = {
            key: {"method": question.method, "params": Raw(question.params(self._exchange.version))}
            for key, question in questions.items()
        }
        asked = {key: question.digest() for key, question in questions.items() if question.key is None}
        now, following_round = int(time.time()), state.round + 1
        following = State(
            self._principal, self._call, now, following_round, state.answers, asked, state.once, state.nonce
        )
        sealed = states.seal(self._keys, following)
        return b'"inputRequests":%b,"requestState":"%b"' % (msgspec.json.encode(requests), sealed.encode())


class NeedInput(Suspended):
    """Ends a run: the client must answer questions and call again."""

    def __init__(self, interview: Interview, questions: Mapping[str, Question]) -> None:
        self._interview = interview
        self._questions = questions

    def result(self, tail: bytes) -> bytes:
        about = tail.removeprefix(b',"resultType":"complete"')
        return b'{"resultType":"input_required",%b%b}' % (self._interview.requests(self._questions), about)


class Refusal(Suspended):
    """Ends the call with an error that no `except` of the author's code may catch."""

    def __init__(self, error: RpcError) -> None:
        self._error = error

    def result(self, tail: bytes) -> bytes:
        raise self._error


async def _ask_in_place(exchange: Exchange, questions: Sequence[Question]) -> list[Any]:
    """Ask a legacy client and wait for its answers."""
    if exchange.session is None:
        raise ToolError("This call must ask the client, and a legacy client can be asked only within a session.")
    if missing := _lacking(exchange, questions):
        raise ToolError(_lacks(missing))
    for question in questions:
        if exchange.version < question.since:
            raise ToolError(
                f"This call asks for {question.noun}, which clients can show since revision {question.since}; "
                f"this one speaks {exchange.version}."
            )
    if len(questions) == 1:
        return [await _ask_legacy(exchange, questions[0])]
    tasks = [asyncio.create_task(_ask_legacy(exchange, question)) for question in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # so that the client gets the cancellations of the others before the reply


async def _ask_legacy(exchange: Exchange, question: Question) -> Any:  # noqa: ANN401 - each question has its own answer
    params = question.params(exchange.version)
    fault = ""
    for _ in range(2):  # show a wrongly filled-in form once more
        try:
            return question.read(await exchange.channel.ask(question.method, params))
        except Unfit as error:
            fault = str(error)
        except Malformed as error:
            raise ToolError(f"The client's answer is not a result of {question.method}: {error}.") from None
        except RpcError as error:
            raise ToolError(f"The client did not answer {question.method}: {error.message}") from None
    raise ToolError(f"The answer does not fit the form: {fault}.")


def _lacking(exchange: Exchange, questions: Iterable[Question]) -> Capability:
    needed = Capability.NONE
    for question in questions:
        needed |= question.needs
    return needed & ~exchange.capabilities


def _lacks(missing: Capability) -> str:
    return f"This call must ask the client, which does not declare: {', '.join(names(missing))}."
