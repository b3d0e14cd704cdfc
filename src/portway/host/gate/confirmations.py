"""Asks the user to confirm a call at the gate, in either era, before the app hears of it; waits 240 s for a legacy
client's answer.

A modern call is answered with a question and a state. The client calls again with the state and the user's answer, and
that call is passed on, once, without them. What the client sent for questions of the app itself is kept in the state.
A legacy call waits: the question goes out on an event stream, which then carries the reply. The answer comes as a
message of its own to the session, and the question ends when its client leaves. A gate that is started anew knows none
of its questions, and asks again.
Specification: client/elicitation (both eras), basic/patterns/mrtr (2026-07-28).
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.asking.request_state import MAX_AGE, call_digest
from portway.exceptions import ToolError
from portway.host.gate.gate_call import GateCall
from portway.host.gate.reply_stream import RelayedStream
from portway.host.gate.session_ids import Session
from portway.http.asgi import Send
from portway.policy.confirmation import Confirmation, UsedConfirmations
from portway.protocol.capabilities import Capability, declared, read, required
from portway.protocol.errors import INVALID_PARAMS, MISSING_CAPABILITY, RpcError
from portway.protocol.jsonrpc import UNREADABLE, Message, decode_params, encode_request, encode_result
from portway.protocol.sealing import Keys

_KEY = "portway-confirmation"  # of the question, among those that the app itself may ask
_MARK = "portway-gate."  # prefix of states and ids that are the gate's
_PURPOSE = b"gate confirmation"
_LONGEST_STATE = 64 * 1024
_WAIT_SECONDS = 240.0  # for a legacy client's answer: less than the silence after which a call ends


class _State(msgspec.Struct):
    """What was asked: of whom, for which call. `state` and `responses` are what the client sent for the app."""

    holder: str
    app: str
    call: bytes
    asked: bytes
    issued: int
    nonce: bytes
    state: str | UnsetType = UNSET
    responses: dict[str, Raw] | UnsetType = UNSET


class _Params(msgspec.Struct):
    """The params of a call with what a client adds when it calls again."""

    arguments: Raw | UnsetType = UNSET
    responses: dict[str, Raw] | UnsetType = msgspec.field(name="inputResponses", default=UNSET)
    state: str | UnsetType = msgspec.field(name="requestState", default=UNSET)


class _Elicited(msgspec.Struct):
    action: str


class _Answer(msgspec.Struct):
    result: Raw | UnsetType = UNSET


class Answered(Exception):
    """A call is answered by the gate itself; `reply` is the message."""

    def __init__(self, reply: bytes) -> None:
        super().__init__()
        self.reply = reply


_members = msgspec.json.Decoder(dict[str, Raw]).decode
_state = msgspec.json.Decoder(_State).decode
_elicited = msgspec.json.Decoder(_Elicited).decode
_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.encode


class Confirmations:
    """The confirmations that this gate asks for, and the legacy calls that wait for an answer."""

    def __init__(self) -> None:
        self._keys = Keys.random()
        self._used = UsedConfirmations(MAX_AGE)
        self._waiting: dict[tuple[bytes, str], asyncio.Future[bytes]] = {}  # by session and id of the question

    def confirmed(self, call: GateCall, confirmation: Confirmation, message: Message, body: bytes) -> bytes:
        """Use a confirmation up: return a modern call that the user has confirmed, as it goes to the instance.

        Raises Answered with the question if it is to be asked, ArgumentError for arguments that cannot be shown,
        ToolError if the user has declined, and RpcError.
        """
        tool, params = call.line.name, decode_params(body, _Params)
        shown = confirmation.message(tool, None if params.arguments is UNSET else params.arguments)
        asked = hashlib.sha256(shown.encode()).digest()[:16]
        digest = call_digest("tools/call", tool, params.arguments)
        if params.state is UNSET or not params.state.startswith(_MARK):
            meta = message.meta
            if Capability.FORM not in read(UNSET if meta is None else meta.capabilities):
                text = _cannot(tool, "does not declare: elicitation")
                raise RpcError(MISSING_CAPABILITY, text, {"requiredCapabilities": required(Capability.FORM)})
            nonce, now = os.urandom(12), int(time.time())
            about = (call.holder, call.route.name, digest, asked, now, nonce, params.state, params.responses)
            raise Answered(self._question(call, shown, _State(*about)))
        state = self._open(params.state)
        if state is None or (state.holder, state.app, state.call, state.asked) != (
            *(call.holder, call.route.name, digest, asked),
        ):
            text = "params.requestState is not as this host gave it for this call; start the call without it."
            raise RpcError(INVALID_PARAMS, text)
        responses = {} if params.responses is UNSET else params.responses
        _heed(tool, responses.get(_KEY, Raw(b"null")))
        if time.time() - state.issued > MAX_AGE or not self._used.use(state.nonce):
            text = "This confirmation has been used, or is too old; start the call without requestState."
            raise RpcError(INVALID_PARAMS, text)
        return _restored(body, state)

    async def ask(self, call: GateCall, confirmation: Confirmation, body: bytes, accept: bytes, send: Send) -> None:
        """Ask the user of a legacy client on the event stream of the call, and wait for the answer.

        Raises ToolError if the client cannot be asked or the user does not confirm it, and ArgumentError as above.
        """
        tool, params, session = call.line.name, decode_params(body, _Params), call.session
        shown = confirmation.message(tool, None if params.arguments is UNSET else params.arguments)
        lack = "has no session" if session is None else "does not declare: elicitation"
        if session is None or not _shows_forms(session):
            raise ToolError(_cannot(tool, lack))
        if b"text/event-stream" not in accept and b"*/*" not in accept:
            raise ToolError(_cannot(tool, "takes no text/event-stream"))
        identity = _MARK + os.urandom(12).hex()
        waiting = self._waiting[session.token, identity] = asyncio.get_running_loop().create_future()
        call.stream = RelayedStream(send, [call.identity])
        call.cancels = True  # the client could not come back for the question
        try:
            await call.stream.event(encode_request(identity, "elicitation/create", _form(shown)))
            call.heard(0)
            async with asyncio.timeout(_WAIT_SECONDS):
                _heed(tool, Raw(await waiting))
        except TimeoutError:
            raise ToolError(f"{tool} was not run: nobody confirmed it within {_WAIT_SECONDS:g} seconds.") from None
        finally:
            call.cancels = False
            del self._waiting[session.token, identity]
        call.heard(0)

    def answer(self, session: Session, message: Message, body: bytes) -> bool:
        """Take a legacy client's answer to a question of the gate; return False for any other message."""
        if message.method is not UNSET or not is_own(message.id):
            return False
        waiting = self._waiting.get((session.token, str(message.id)))
        if waiting is not None and not waiting.done():
            result = _answer(body).result
            waiting.set_result(b"null" if result is UNSET else bytes(result))
        return True

    def _question(self, call: GateCall, shown: str, state: _State) -> bytes:
        """Return the result that asks a modern client."""
        assert call.request_id is not None
        sealed = _MARK + self._keys.seal(_PURPOSE, _encode(state))
        if len(sealed) > _LONGEST_STATE:
            text = f"The answers so far come to more than {_LONGEST_STATE} bytes; start again with less."
            raise RpcError(INVALID_PARAMS, text)
        question = b'{"method":"elicitation/create","params":%b}' % _form(shown)
        return encode_result(
            call.request_id,
            b'{"resultType":"input_required","inputRequests":{"%b":%b},"requestState":"%b"}'
            % (_KEY.encode(), question, sealed.encode()),
        )

    def _open(self, sealed: str) -> _State | None:
        if len(sealed) > _LONGEST_STATE:
            return None
        payload = self._keys.unseal(_PURPOSE, sealed.removeprefix(_MARK))
        return None if payload is None else _state(payload)


def is_own(question_id: object) -> bool:
    """Whether an id is that of a question of the gate."""
    return isinstance(question_id, str) and question_id.startswith(_MARK)


def _form(shown: str) -> bytes:
    """Return the params of a question that is answered by yes or no."""
    return b'{"message":%b,"requestedSchema":{"type":"object","properties":{}}}' % _encode(shown)


def _cannot(tool: str, lack: str) -> str:
    return f"{tool} must be confirmed by the user, and the client {lack}."


def _heed(tool: str, result: Raw) -> None:
    """Raise ToolError unless a result of elicitation/create agrees."""
    try:
        action = _elicited(result).action
    except UNREADABLE:
        action = "no answer"
    if action != "accept":
        raise ToolError(f"{tool} was not run: the user did not confirm it ({action[:40]}).")


def _shows_forms(session: Session) -> bool:
    """Whether the client of a legacy session says that it can show forms."""
    if not session.opening:
        return session.shows_forms
    try:
        return Capability.FORM in declared(b'{"params":%b}' % session.opening).capabilities
    except RpcError:
        return False


def _restored(body: bytes, state: _State) -> bytes:
    """Return a confirmed call with what the client sent for the app, and without what is the gate's."""
    members = _members(body)
    params = _members(members["params"])
    own: Mapping[str, object] = {"requestState": state.state, "inputResponses": state.responses}
    for name, value in own.items():
        params.pop(name, None)
        if value is not UNSET:
            params[name] = Raw(_encode(value))
    members["params"] = Raw(_encode(params))
    return _encode(members)
