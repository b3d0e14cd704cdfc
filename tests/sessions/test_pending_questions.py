"""Questions to a legacy client, and how each ends."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from portway.protocol.errors import RpcError
from portway.protocol.jsonrpc import decode
from portway.sessions import pending_questions
from portway.sessions.pending_questions import QUESTION_LIMIT, PendingQuestions


class Client:
    """The client that is asked: the messages it got, and its answers."""

    def __init__(self) -> None:
        self.pending = PendingQuestions()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(self, message: bytes) -> None:
        await self.sent.put(msgspec.json.decode(message))

    def ask(self, method: str = "roots/list") -> asyncio.Task[msgspec.Raw]:
        return asyncio.create_task(self.pending.ask(self.send, method, b'{"a":1}'))

    def answer(self, question: dict[str, Any], **answer: Any) -> bool:
        message = {"jsonrpc": "2.0", "id": question["id"], **answer}
        return self.pending.answer(decode(msgspec.json.encode(message)))


def test_answers_find_their_questions_in_any_order() -> None:
    async def scenario() -> None:
        client = Client()
        asked = [client.ask(), client.ask()]
        first, second = await client.sent.get(), await client.sent.get()
        assert (first["method"], first["params"]) == ("roots/list", {"a": 1})
        assert client.answer(second, result={"n": 2})
        assert client.answer(first, result={"n": 1})
        assert [bytes(await task) for task in asked] == [b'{"n":1}', b'{"n":2}']

    asyncio.run(scenario())


def test_late_foreign_and_unknown_answers_are_not_taken() -> None:
    async def scenario() -> None:
        client, other = Client(), Client()
        asked, elsewhere = client.ask(), other.ask()
        question = await client.sent.get()
        assert not other.answer(question, result={})
        assert not client.answer({"id": "1"}, result={})
        assert not client.answer({"id": 1}, result={})
        assert client.answer(question, result={})
        assert not client.answer(question, result={"again": True})
        assert bytes(await asked) == b"{}"
        assert not client.answer(question, result={"late": True})
        elsewhere.cancel()

    asyncio.run(scenario())


def test_the_clients_error_is_raised_where_it_was_asked() -> None:
    async def scenario() -> None:
        client = Client()
        asked = client.ask()
        error = {"code": -1, "message": "User rejected", "data": [1]}
        assert client.answer(await client.sent.get(), error=error)
        with pytest.raises(RpcError, match=r"^User rejected$") as raised:
            await asked
        assert (raised.value.code, raised.value.data) == (-1, [1])

    asyncio.run(scenario())


def test_an_answer_that_is_no_response_fails_the_question() -> None:
    async def scenario() -> None:
        client = Client()
        asked = client.ask()
        question = await client.sent.get()
        assert not client.pending.spoil(None)
        assert client.pending.spoil(question["id"])
        assert not client.pending.spoil(question["id"])
        with pytest.raises(RpcError, match=r"^The client's answer to a question was not a JSON-RPC response.$"):
            await asked

    asyncio.run(scenario())


@pytest.mark.parametrize("gives_up", [True, False])
def test_a_question_that_is_given_up_is_cancelled_at_the_client(
    monkeypatch: pytest.MonkeyPatch, gives_up: bool
) -> None:
    monkeypatch.setattr(pending_questions, "QUESTION_SECONDS", 600 if gives_up else 0.01)

    async def scenario() -> None:
        client = Client()
        asked = client.ask()
        question = await client.sent.get()
        if gives_up:
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        else:
            with pytest.raises(RpcError, match=r"^The client did not answer roots/list within 0.01 seconds.$"):
                await asked
        told = await client.sent.get()
        reason = "The call that asked has ended." if gives_up else "It was not answered in time."
        assert told["method"] == "notifications/cancelled"
        assert told["params"] == {"requestId": question["id"], "reason": reason}
        assert not client.answer(question, result={})

    asyncio.run(scenario())


def test_no_client_is_asked_without_end_nor_after_it_has_gone() -> None:
    async def scenario() -> None:
        client = Client()
        asked = [client.ask() for _ in range(QUESTION_LIMIT)]
        await asyncio.sleep(0)
        with pytest.raises(RpcError, match=f"^The client has {QUESTION_LIMIT} unanswered questions already"):
            await client.ask()
        client.pending.close()
        for question in [*asked, client.ask()]:
            with pytest.raises(
                RpcError, match=r"^The client cannot be asked: it has disconnected, or the server is stopping.$"
            ):
                await question

    asyncio.run(scenario())
