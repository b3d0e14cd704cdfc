"""For an author's tests: a client in the same process, with answers given in advance; a server on a free port; a replay
of a tool that asks in both eras.

```python
async with portway.testing.Client(server, answers={"Your name?": "Ada"}) as client:
    assert (await client.call_tool("greet")).text == "Hello, Ada!"
```
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from portway import client as lean
from portway.app import Server
from portway.asking.questions import Answer, Sampled
from portway.auth.principal import ANONYMOUS, Principal
from portway.client.channel import Handler, Incoming, OutgoingCall
from portway.client.line_channel import LineChannel
from portway.client.results import CallResult, InputRequest, Outcome
from portway.client.server_requests import (
    Elicitation,
    Elicited,
    OnChange,
    OnElicit,
    OnLog,
    OnSample,
    Root,
    Roots,
    Sampling,
)
from portway.server.dispatcher import Dispatcher
from portway.transport.stdio_connection import StdioConnection

__all__ = ["Answers", "Client", "Replay", "Spoken", "replay", "serve"]

Spoken = Literal["modern", "legacy"]
_ERROR_ID = re.compile(r"error id [0-9a-f]+")


class Client(lean.Client):
    """A client of `server` in the same process: no sockets, the bytes of a real connection.

    `answers` says what the user, the model and the client answer: keys are a question's key, its message or the first
    line of that ("roots" for the roots), values what a form is to be filled in with, `Answer("decline")`, the model's
    text, a list of URIs. The handlers of `portway.client.Client` work as well. `principal` is who calls. The lifespan
    runs once for each client.
    """

    def __init__(
        self,
        server: Server,
        *,
        era: Spoken = "modern",
        answers: Mapping[str, object] | Answers | None = None,
        principal: Principal = ANONYMOUS,
        timeout: float = 10.0,
        on_elicit: OnElicit | None = None,
        on_sample: OnSample | None = None,
        roots: Roots | None = None,
        on_log: OnLog | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        if answers is not None and not isinstance(answers, Answers):
            answers = Answers(answers)
        if answers is not None:
            on_elicit, on_sample = on_elicit or answers.elicit, on_sample or answers.sample
            roots = answers.roots if roots is None else roots
        super().__init__(
            f"memory:{server.name}",
            era=era,
            timeout=timeout,
            on_elicit=on_elicit,
            on_sample=on_sample,
            roots=roots,
            on_log=on_log,
            on_change=on_change,
        )
        self._answers = answers
        self._server = server
        self._principal = principal

    async def _open(self) -> Memory:
        memory = Memory(self._server, self._principal, self._rpc.take, self._answers)
        await memory.dispatcher.open()
        return memory


class Answers:
    """The answers that a test gives in advance."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._given = given
        self._keys: dict[str, str] = {}  # of a question, by what it says; only the modern era sends them
        self.asked: Counter[str] = Counter()
        self.fault: AssertionError | None = None

    def learn(self, key: str, question: InputRequest) -> None:
        """Remember the key under which a modern server asks a question."""
        if question.method == "roots/list":
            self._keys["roots"] = key
        elif question.method == "elicitation/create":
            self._keys[msgspec.json.decode(question.params, type=Elicitation).message] = key
        else:
            self._keys[msgspec.json.decode(question.params, type=Sampling).text] = key

    def elicit(self, question: Elicitation) -> Elicited:
        """Fill in a form, or agree to visit a page."""
        fields = list(question.requested_schema.get("properties", {}))
        value = self._find(question.message, fields[0] if len(fields) == 1 else "")
        if isinstance(value, Answer):
            if not value.accepted:
                return value.action
            value = value.data
        if question.mode == "url":
            return "accept"
        plain = msgspec.to_builtins(value)
        if isinstance(plain, dict):
            return plain
        if not fields:
            return {}
        if len(fields) > 1:
            raise self._failed(f"{question.message!r} asks for {', '.join(fields)}: answer it with a dict of them")
        return {fields[0]: plain}

    def sample(self, question: Sampling) -> str | Mapping[str, Any]:
        """Answer for the model."""
        value = self._find(question.text)
        if isinstance(value, Sampled):
            result: dict[str, Any] = msgspec.to_builtins(value)
            return result
        if isinstance(value, (str, Mapping)):
            return value
        raise self._failed(f"{question.text!r} is asked of the model: answer it with a text")

    def roots(self) -> list[Root]:
        """Return the roots of the client."""
        value = self._find("roots")
        if not isinstance(value, (list, tuple)):
            raise self._failed('answers["roots"] must be a list of URIs')
        return [Root(place) if isinstance(place, str) else Root(place.uri, place.name) for place in value]

    def _find(self, says: str, field: str = "") -> object:
        self.asked[says] += 1
        for name in (self._keys.get(says, says), says, says.partition("\n")[0], field):
            if name in self._given:
                return self._given[name]
        raise self._failed(f"the server asks {says!r}, and answers= has nothing for it")

    def _failed(self, text: str) -> AssertionError:
        """Return an error for the test, and keep it for the call: a legacy server turns it into a tool's error."""
        self.fault = AssertionError(text)
        return self.fault


class Memory(LineChannel):
    """The channel to a server in the same process: a stdio connection without its pipes."""

    def __init__(self, server: Server, principal: Principal, handler: Handler, answers: Answers | None) -> None:
        super().__init__(handler)
        self.dispatcher = Dispatcher(server)
        self._connection = StdioConnection(self.dispatcher, self, principal)
        self._answers = answers

    def write(self, lines: bytes) -> None:
        """Give the client what the server sends, one message per line."""
        for line in lines.splitlines():
            self.take(line)

    async def drained(self) -> None:
        """Do nothing: the client has taken everything."""

    def post(self, body: bytes) -> None:
        """Give the server a message."""
        self._connection.take(body)

    async def drain(self) -> None:
        """Do nothing: the server has taken everything."""

    async def request(self, call: OutgoingCall) -> Incoming:
        """Send a request and return its reply. Raise the fault of a test whose answers do not fit."""
        reply = await super().request(call)
        if self._answers is not None and self._answers.fault is not None:
            raise self._answers.fault
        if call.modern and self._answers is not None and reply.result is not UNSET:
            for key, question in (msgspec.json.decode(reply.result, type=Outcome).input_requests or {}).items():
                self._answers.learn(key, question)
        return reply

    async def close(self) -> None:
        """End what is still open, and the server's lifespan."""
        await self._connection.finish(0)
        await self.dispatcher.close()


@asynccontextmanager
async def serve(server: Server) -> AsyncIterator[str]:
    """Serve `server` over HTTP on a free port of this machine while the block lasts, and yield its URL."""
    from portway.http.bind import Bind
    from portway.http.limits import Limits
    from portway.http.serve import serve as listen
    from portway.transport.http_app import PATH

    loop = asyncio.get_running_loop()
    url: asyncio.Future[str] = loop.create_future()
    stop = asyncio.Event()
    serving = loop.create_task(
        listen(server.asgi(), Bind(port=0), Limits(shutdown_seconds=1), on_ready=url.set_result, stop=stop)
    )
    try:
        await asyncio.wait((url, serving), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving  # raises why
        yield url.result() + PATH
    finally:
        stop.set()
        await serving


@dataclass(frozen=True, slots=True)
class Replay:
    """The results of one tool in each era."""

    modern: CallResult
    legacy: CallResult


async def replay(
    server: Server,
    tool: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    answers: Mapping[str, object],
    principal: Principal = ANONYMOUS,
) -> Replay:
    """Call a tool that asks in both eras with the same answers. AssertionError where questions or results differ.

    A modern client makes the tool run again after each round of questions, a legacy one lets it wait. So a tool that
    counts, draws random numbers or reads the clock before it asks fails here, unless it does so in `ctx.once`.
    """
    given = Answers(answers)
    results: list[CallResult] = []
    asked: list[Counter[str]] = []
    for era in _ERAS:
        given.asked = Counter()
        async with Client(server, era=era, answers=given, principal=principal) as client:
            results.append(await client.call_tool(tool, arguments))
        asked.append(given.asked)
    modern, legacy = results
    if asked[0] != asked[1]:
        questions = [list(counted.elements()) for counted in asked]
        raise AssertionError(f"{tool} asked {questions[0]} in the modern era and {questions[1]} in the legacy one")
    if _comparable(modern) != _comparable(legacy):
        raise AssertionError(f"{tool} gave {modern} in the modern era and {legacy} in the legacy one")
    return Replay(modern, legacy)


_ERAS: tuple[Spoken, ...] = ("modern", "legacy")  # the modern one first: it gives the questions' keys


def _comparable(result: CallResult) -> object:
    """Return a result without what always differs.

    That is the ids under which faults are logged, and structured content that is no object, which the legacy era lacks.
    """
    structured = result.structured if isinstance(result.structured, dict) else None
    content = _ERROR_ID.sub("", msgspec.json.encode(result.content).decode())
    return content, structured, result.is_error
