"""`requestState`: which caller, call and time it is good for, and that nothing else opens it."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from portway import Context, Server
from portway.asking.request_state import MAX_AGE, State, call_digest, seal, unseal
from portway.auth.principal import ANONYMOUS, Principal
from portway.protocol.errors import INVALID_PARAMS, RpcError
from portway.protocol.sealing import Keys
from tests.asking.scripted_client import KEYS, ScriptedClient, accept, text

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000
ADA = Principal(issuer="tokens", subject="ada")
CALL = call_digest("tools/call", "book", msgspec.Raw(b'{"a":1,"b":[2]}'))
EASY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sealed(keys: Keys = KEYS) -> str:
    return seal(keys, State(ADA.digest(), CALL, NOW, 1, once={"id": msgspec.Raw(b'"x"')}))


def open_(state: str, *, keys: Keys = KEYS, who: Principal = ADA, call: bytes = CALL, now: int = NOW) -> State:
    return unseal(keys, state, principal=who.digest(), call=call, now=now)


def flipped(state: str) -> str:
    return state[:-1] + ("A" if state[-1] != "A" else "B")


UNREADABLE = "params.requestState is not as this server gave it; start the call without it."
OTHER_CALLER = "params.requestState was given to another caller; start the call without it."
OTHER_CALL = "params.requestState belongs to another call, or to other arguments; start without it."
EXPIRED = "params.requestState is older than 600 seconds; start the call without it."


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda: open_(sealed() + "-TAMPERED"), UNREADABLE),
        (lambda: open_(flipped(sealed())), UNREADABLE),
        (lambda: open_(""), UNREADABLE),
        (lambda: open_("no base64!"), UNREADABLE),
        (lambda: open_("A" * 40_000), UNREADABLE),
        (lambda: open_(sealed(Keys.random())), UNREADABLE),
        (lambda: open_(KEYS.seal(b"request state", b"{}")), UNREADABLE),
        (lambda: open_(sealed(), who=ANONYMOUS), OTHER_CALLER),
        (lambda: open_(sealed(), who=Principal(issuer="tokens", subject="ada", client="other")), OTHER_CALLER),
        (lambda: open_(sealed(), call=call_digest("tools/call", "book", msgspec.Raw(b'{"a":2}'))), OTHER_CALL),
        (lambda: open_(sealed(), call=call_digest("prompts/get", "book", msgspec.Raw(b'{"a":1,"b":[2]}'))), OTHER_CALL),
        (lambda: open_(sealed(), now=NOW + MAX_AGE + 1), EXPIRED),
    ],
)
def test_a_state_changed_or_of_another_caller_or_call_or_too_old_is_refused(
    attempt: Callable[[], State], said: str
) -> None:
    with pytest.raises(RpcError) as refused:
        attempt()
    assert (refused.value.code, refused.value.message, refused.value.status) == (INVALID_PARAMS, said, 400)


def test_a_valid_state_opens_repeatedly_and_under_rotated_keys() -> None:
    old, new = (
        msgspec.json.encode(os.urandom(32)).decode().strip('"').replace("+", "-").replace("/", "_") for _ in "ab"
    )
    state = sealed(Keys.parse(old))
    for _ in range(2):
        assert open_(state, keys=Keys.parse(f"{new},{old}"), now=NOW + MAX_AGE).once == {"id": msgspec.Raw(b'"x"')}


def test_a_state_is_unreadable_and_never_the_same_twice() -> None:
    first, second = sealed(), sealed()
    assert first != second
    assert b"once" not in base64.urlsafe_b64decode(first + "=" * (-len(first) % 4))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":1,"b":{"c":2,"d":3}}', ' { "b": {"d": 3, "c": 2}, "a": 1.0 } ', True),
        ("null", "{}", True),
        ('{"a":1e2}', '{"a":100}', True),
        ('{"a":"1"}', '{"a":1}', False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":1e999}', '{"a":null}', False),
        ('{"a":1.5}', '{"a":1.25}', False),
        ('{"a":' + "[" * 5000 + "]" * 5000 + "}", '{"a":1}', False),
    ],
)
def test_arguments_are_compared_as_json_values(one: str, other: str, same: bool) -> None:
    digests = [call_digest("tools/call", "t", msgspec.Raw(text.encode())) for text in (one, other)]
    assert (digests[0] == digests[1]) is same


def asking() -> Server:
    server = Server("asking")

    @server.tool(asks=True)
    async def book(ctx: Context, day: str = "today") -> str:
        answer = await ctx.elicit("Guests?", int)
        return f"{answer.data} {day}"

    return server


def test_the_dispatcher_takes_a_state_for_its_own_call_only() -> None:
    client = ScriptedClient(asking())
    state = client.modern("book", {"day": "mon"})["requestState"]
    answers = {"q-1": accept(value=2)}
    for _ in range(2):
        assert text(client.modern("book", {"day": "mon"}, responses=answers, state=state)) == "2 mon"
    assert text(ScriptedClient(asking()).modern("book", {"day": "mon"}, responses=answers, state=state)) == "2 mon"
    refusals = [
        (client.modern("book", {"day": "tue"}, responses=answers, state=state), OTHER_CALL),
        (client.modern("book", {"day": "mon"}, responses=answers, state=state, principal=ADA), OTHER_CALLER),
        (
            ScriptedClient(asking(), Keys.random()).modern("book", {"day": "mon"}, responses=answers, state=state),
            UNREADABLE,
        ),
    ]
    stale = State(ANONYMOUS.digest(), call_digest("tools/call", "book", msgspec.UNSET), int(time.time()) - 601)
    refusals.append((client.modern("book", responses=answers, state=seal(KEYS, stale)), EXPIRED))
    for refused, said in refusals:
        assert (refused["code"], refused["message"]) == (INVALID_PARAMS, said)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@EASY
@given(st.text() | st.text(alphabet="ABCabc019-_=", max_size=300) | st.binary().map(lambda data: KEYS.seal(b"", data)))
def test_only_sealed_text_opens(state: str) -> None:
    with pytest.raises(RpcError, match="not as this server gave it"):
        open_(state)


SEALED = sealed()


@EASY
@given(st.integers(0, len(SEALED) - 1), st.sampled_from("ABYZabyz0189-_=. "))
def test_no_changed_character_opens(place: int, other: str) -> None:
    assume(SEALED[place] != other)
    with pytest.raises(RpcError, match="not as this server gave it"):
        open_(SEALED[:place] + other + SEALED[place + 1 :])


@EASY
@given(JSON)
def test_arguments_are_the_same_call_however_they_are_spelled(value: Any) -> None:
    spelled = [
        json.dumps({"v": value}, indent=indent, ensure_ascii=ascii_).encode(errors="surrogatepass")
        for indent, ascii_ in ((None, True), (2, False))
    ]
    digests = {call_digest("tools/call", "t", msgspec.Raw(text)) for text in spelled}
    assert len(digests) == 1


ANSWERS = JSON | st.fixed_dictionaries(
    {
        "action": st.sampled_from(["accept", "decline", "cancel", "no"]),
        "content": JSON | st.fixed_dictionaries({"value": JSON}),
    }
)


@EASY
@given(st.dictionaries(st.sampled_from(["q-1", "other"]), ANSWERS) | JSON, st.booleans())
def test_any_answer_leads_to_a_result_a_question_or_a_clear_refusal(responses: Any, stateful: bool) -> None:
    client = ScriptedClient(asking())
    state = client.modern("book")["requestState"] if stateful else msgspec.UNSET
    reply = client.modern("book", responses=responses, state=state)
    if "code" in reply:
        assert (reply["code"], reply["status"]) == (INVALID_PARAMS, 400)
        assert "params.inputResponses" in reply["message"]
    elif reply["resultType"] == "complete":
        assert stateful
        assert not reply["isError"]
