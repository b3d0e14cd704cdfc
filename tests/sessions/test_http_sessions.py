"""Sealed session ids, and what is remembered beside them, how long."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec import UNSET

from portway.auth.principal import ANONYMOUS, Principal
from portway.protocol.capabilities import Capability, DeclaredClient
from portway.protocol.errors import RpcError
from portway.protocol.jsonrpc import Message, decode
from portway.protocol.log_levels import INFO
from portway.protocol.sealing import Keys
from portway.sessions import event_log, http_sessions
from portway.sessions.change_bus import Bus
from portway.sessions.changes import Changes
from portway.sessions.http_sessions import IDLE_SECONDS, LIFE_SECONDS, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

ASKED = Capability.FORM | Capability.ROOTS
OLD, NEW = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in (1, 2))


@dataclass
class Clock:
    now: float = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def no_bus() -> Bus:
    raise AssertionError("nobody listens here")


def test_an_id_is_read_wherever_one_of_the_keys_is_and_nowhere_else() -> None:
    minted = Sessions(Keys.parse(OLD), no_bus).mint(ANONYMOUS, "2025-06-18", DeclaredClient(ASKED, "é" * 200, "1" * 99))
    rotated = Sessions(Keys.parse(f"{NEW},{OLD}"), no_bus)
    found = rotated.find(minted.id, ANONYMOUS)
    assert found is not None
    assert (found.version, found.client) == ("2025-06-18", DeclaredClient(ASKED, "é" * 100, "1" * 40))
    assert Sessions(Keys.parse(NEW), no_bus).find(minted.id, ANONYMOUS) is None
    for forged in (
        minted.id[:-2] + "AA",
        minted.id + "=",
        "",
        "é",
        Keys.parse(OLD).seal(b"session", b"\1" + b"x" * 51),
        Keys.parse(OLD).seal(b"session", msgspec.msgpack.encode(["2025-06-18"])),
        Keys.parse(OLD).seal(
            b"session", msgspec.msgpack.encode(["v" * 999, 0, "", "", 10**11, b"", ANONYMOUS.digest(), b""])
        ),
    ):
        assert rotated.find(forged, ANONYMOUS) is None


@pytest.mark.parametrize(
    ("caller", "same"),
    [
        (Principal("i", "s", "c"), True),
        (Principal("i", "s", "c", frozenset(["more"]), expires=1.0), True),
        (Principal("j", "s", "c"), False),
        (Principal("i", "t", "c"), False),
        (Principal("i", "s", "d"), False),
        (Principal("i", "s"), False),
        (Principal("is", "", "c"), False),
        (ANONYMOUS, False),
    ],
)
def test_a_session_belongs_to_its_caller_whatever_the_token(caller: Principal, same: bool) -> None:
    sessions = Sessions(Keys.random(), no_bus)
    minted = sessions.mint(Principal("i", "s", "c"), "2025-11-25", DeclaredClient())
    for _ in range(2):  # unknown at first, then remembered
        assert (sessions.find(minted.id, caller) is not None) is same
        sessions.find(minted.id, Principal("i", "s", "c"))


def test_a_session_ends_after_a_day_or_when_it_is_ended() -> None:
    clock = Clock()
    sessions = Sessions(Keys.random(), no_bus, now=clock)
    minted, other = (sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient()) for _ in range(2))
    clock.now += LIFE_SECONDS - 1
    found = sessions.find(minted.id, ANONYMOUS)
    assert found is not None
    sessions.end(found)
    assert sessions.find(minted.id, ANONYMOUS) is None
    assert sessions.find(other.id, ANONYMOUS) is not None
    clock.now += 1
    assert sessions.find(other.id, ANONYMOUS) is None


def with_bus(scenario: Callable[[Bus], None]) -> None:
    async def main() -> None:
        scenario(Bus(Changes()))

    asyncio.run(main())


def test_what_is_remembered_of_a_session_goes_when_it_is_idle_but_not_while_its_stream_is_open() -> None:
    class Open:
        def wake(self) -> None: ...
        def end(self, retry: int | None) -> None: ...

    def scenario(bus: Bus) -> None:
        clock = Clock()
        sessions = Sessions(Keys.random(), lambda: bus, now=clock)
        idle, held = (sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient()).id for _ in range(2))

        def levels() -> list[int]:
            found = [sessions.find(session_id, ANONYMOUS) for session_id in (idle, held)]
            return [session.level for session in found if session is not None]

        for session_id in (idle, held):
            session = sessions.find(session_id, ANONYMOUS)
            assert session is not None
            session.level = 7
            session.subscribe("test://a")
        session.log.standalone.carriers.append(Open())
        clock.now += IDLE_SECONDS - 1
        assert levels() == [7, 7]
        clock.now += IDLE_SECONDS + 1
        newcomer = sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient())
        assert sessions.find(newcomer.id, ANONYMOUS) is not None
        assert levels() == [INFO, 7]
        assert session.listen().uris == {"test://a"}

    with_bus(scenario)


def test_a_session_with_a_call_in_flight_is_remembered_and_one_whose_stream_has_closed_is_not() -> None:
    class Open:
        def wake(self) -> None: ...
        def end(self, retry: int | None) -> None: ...

    def scenario(bus: Bus) -> None:
        clock = Clock()
        sessions = Sessions(Keys.random(), lambda: bus, now=clock)
        ids = [sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient()).id for _ in range(3)]
        calling, left, newcomer = ids
        cancelled: list[int | str] = []
        for session_id in (calling, left):
            session = sessions.find(session_id, ANONYMOUS)
            assert session is not None
            session.level = 7
            if session_id == calling:
                session.calls[1] = cancelled.append
            else:
                carrier = Open()
                session.log.standalone.carriers.append(carrier)
                session.log.standalone.detach(carrier)
        clock.now += IDLE_SECONDS
        found = [sessions.find(session_id, ANONYMOUS) for session_id in (newcomer, calling, left)]
        assert [session.level for session in found if session is not None] == [INFO, 7, INFO]
        assert found[1] is not None
        for request_id in (2, "1", UNSET, 1, 1):
            found[1].cancel(request_id)
        assert cancelled == [1]

    with_bus(scenario)


def test_sessions_are_remembered_in_bounded_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sessions, "LIVE_LIMIT", 3)
    monkeypatch.setattr(http_sessions, "ENDED_LIMIT", 3)
    sessions = Sessions(Keys.random(), no_bus)
    ids = [sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient()).id for _ in range(5)]
    for level, session_id in enumerate(ids, 10):
        session = sessions.find(session_id, ANONYMOUS)
        assert session is not None
        session.level = level
    levels = [session.level for each in reversed(ids) if (session := sessions.find(each, ANONYMOUS)) is not None]
    assert levels == [14, 13, 12, INFO, INFO]
    for session_id in ids:
        session = sessions.find(session_id, ANONYMOUS)
        assert session is not None
        sessions.end(session)
    assert [sessions.find(each, ANONYMOUS) is None for each in ids] == [False, False, True, True, True]


def test_all_that_a_session_does_ends_with_it_or_when_it_expires() -> None:
    def scenario(bus: Bus) -> None:
        clock = Clock()
        sessions = Sessions(Keys.random(), lambda: bus, now=clock)
        listeners, streams = [], []
        for ends in (True, False):
            session = sessions.find(sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient()).id, ANONYMOUS)
            assert session is not None
            listeners.append(session.listen())
            streams.append(session.log.standalone)
            streams[-1].add(b"said")
            assert replayed(session.log, streams[-1].id(0)) == [b"said"]
            if ends:
                sessions.end(session)
            else:
                clock.now += LIFE_SECONDS
                assert sessions.find(session.id, ANONYMOUS) is None
            assert replayed(session.log, streams[-1].id(0)) in (None, [])
        assert [listener.ended for listener in listeners] == [True, True]

    with_bus(scenario)


def test_a_question_is_answered_once_and_fails_when_the_server_stops() -> None:
    async def main() -> None:
        sessions = Sessions(Keys.random(), no_bus)
        session = sessions.find(sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient()).id, ANONYMOUS)
        assert session is not None
        asked: asyncio.Queue[bytes] = asyncio.Queue()
        sessions.give_up_questions()
        first = asyncio.ensure_future(session.questions.ask(asked.put, "roots/list", b"{}"))
        taken = reply_to(await asked.get())
        session.answer(taken)
        assert bytes(await first) == b"{}"
        session.answer(taken)
        second = asyncio.ensure_future(session.questions.ask(asked.put, "roots/list", b"{}"))
        given_up = reply_to(await asked.get())
        sessions.give_up_questions()
        with pytest.raises(RpcError):
            await second
        session.answer(given_up)

    asyncio.run(main())


def reply_to(question: bytes) -> Message:
    message = decode(
        b'{"jsonrpc":"2.0","id":%b,"result":{}}' % msgspec.json.encode(msgspec.json.decode(question)["id"])
    )
    assert isinstance(message, Message)
    return message


def test_a_reply_that_is_not_kept_is_refused_and_any_other_event_leads_to_the_stream_of_now() -> None:
    sessions = Sessions(Keys.random(), no_bus)
    session = sessions.mint(ANONYMOUS, "2025-11-25", DeclaredClient())
    session.log.standalone.add(b"said")
    for event_id in (None, b"", b"gone", b"gone-0-1"):
        assert session.resume(event_id) == (session.log.standalone, session.log.standalone.last)
    assert session.resume(session.log.standalone.id(0)) == (session.log.standalone, 0)
    with pytest.raises(RpcError, match="not kept here any more: send the request again") as refused:
        session.resume(b"0123456789abcdef-1-1")
    assert refused.value.status == 400


def test_a_session_subscribes_to_a_bounded_number_of_resources() -> None:
    def scenario(bus: Bus) -> None:
        session = Sessions(Keys.random(), lambda: bus).mint(ANONYMOUS, "2025-11-25", DeclaredClient())
        for number in range(1000):
            session.subscribe(f"test://{number}")
        with pytest.raises(RpcError, match="No more than 1000 resources"):
            session.subscribe("test://one-more")

    with_bus(scenario)


def replayed(log: event_log.EventLog, event_id: bytes) -> list[bytes] | None:
    found = log.find(event_id)
    if found is None:
        return None
    stream, stream.sent = found
    return [data for _, data in stream.take()]


def test_only_the_later_events_of_the_named_stream_are_given_again() -> None:
    log = event_log.EventLog(event_log.Shelf())
    one, two = log.open(), log.open()
    one.add(b"1a")
    two.add(b"2a")
    one.add(b"1b")
    log.standalone.add(b"0a")
    assert replayed(log, one.id(1)) == [b"1b"]
    assert replayed(log, one.id()) == [b"1a", b"1b"]
    assert replayed(log, log.standalone.id()) == [b"0a"]
    assert (one.take(), len(two.take())) == ([], 1)
    name = log.name
    for unknown in (b"away-1-0", b"%b-9-0" % name, one.id(3), b"%b-1" % name, b"%b-1-x" % name, b"", one.id(10**40)):
        assert replayed(log, unknown) is None
    assert replayed(event_log.EventLog(event_log.Shelf()), log.standalone.id()) is None, (
        "as of a session that was forgotten"
    )


def test_a_log_is_bounded_and_forgets_streams_that_are_over() -> None:
    log = event_log.EventLog(event_log.Shelf())
    first, large = log.open(), log.open()
    first.add(b"gone")
    first.end()
    never_said = log.open()
    never_said.end()
    assert replayed(log, never_said.id()) is None
    big = b"x" * event_log.LOG_BYTES
    large.add(big)
    assert replayed(log, first.id()) is None
    assert replayed(log, large.id()) == [big], "the newest is kept whatever its size"
    for _ in range(event_log.LOG_EVENTS):
        large.add(b"small")
    assert replayed(log, large.id()) == [b"small"] * event_log.LOG_EVENTS


def test_the_logs_of_all_sessions_share_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "SHELF_BYTES", 3000)
    shelf = event_log.Shelf()
    logs = [event_log.EventLog(shelf) for _ in range(4)]
    for log in logs:
        log.standalone.add(b"x" * 700)
    assert [len(replayed(log, log.standalone.id()) or ()) for log in logs] == [0, 1, 1, 1]
    logs[1].standalone.add(b"y" * 700)
    assert [len(replayed(log, log.standalone.id()) or ()) for log in logs] == [0, 2, 0, 1]
    for log in logs:
        log.close()
    assert [len(replayed(log, log.standalone.id()) or ()) for log in logs] == [0] * 4
