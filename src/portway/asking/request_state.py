"""`requestState`, the answers so far, which a modern client carries, encrypted and bound to its call: sealed, opened,
refused; at most 32 KB, 600 s and 10 rounds.

It is bound to the caller, the component and the arguments. Specification: basic/patterns/mrtr, "Request State".
"""

import hashlib
import math

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.protocol.errors import INVALID_PARAMS, RpcError
from portway.protocol.sealing import Keys

MAX_BYTES = 32 * 1024
MAX_AGE = 600
"""Longest time between two runs, in seconds: the user must answer within it."""
MAX_ROUNDS = 10

_PURPOSE = b"request state"


class Recorded(msgspec.Struct, frozen=True, array_like=True):
    """An answer with the digest of its question."""

    digest: bytes
    result: Raw


class State(msgspec.Struct, omit_defaults=True):
    """The state of a call between two runs.

    `principal` and `call` are digests, `issued` is in seconds since the epoch, `round` counts the runs that asked.
    `asked` holds the digests of the open questions that have no key of their own, `once` the results of `ctx.once`.
    `nonce` is a number used once of a call that the user confirms, in all its runs.
    """

    principal: bytes = b""
    call: bytes = b""
    issued: int = 0
    round: int = 0
    answers: dict[str, Recorded] = {}
    asked: dict[str, bytes] = {}
    once: dict[str, Raw] = {}
    nonce: bytes = b""


_decode = msgspec.json.Decoder(State).decode


def call_digest(method: str, name: str, arguments: Raw | UnsetType) -> bytes:
    """Return a digest of what is called; two spellings of the same JSON arguments are the same call."""
    if arguments is UNSET:
        return _digest([method, name, {}])
    try:
        return _digest([method, name, _decode_arguments(arguments) or {}])
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return _digest([method, name, hashlib.sha256(arguments).hexdigest()])


def seal(keys: Keys, state: State) -> str:
    """Encrypt the state as text; raise RpcError when it has grown beyond what a client should carry."""
    sealed = keys.encrypt(_PURPOSE, msgspec.json.encode(state))
    if len(sealed) > MAX_BYTES:
        raise RpcError(
            INVALID_PARAMS, f"The answers so far come to more than {MAX_BYTES} bytes; start again with less."
        )
    return sealed


def unseal(keys: Keys, sealed: str, *, principal: bytes, call: bytes, now: int) -> State:
    """Return the state that `seal` made for this caller and this call; raise RpcError for any other text."""
    state = _open(keys, sealed)
    if state is None:
        raise RpcError(INVALID_PARAMS, "params.requestState is not as this server gave it; start the call without it.")
    if state.principal != principal:
        raise RpcError(INVALID_PARAMS, "params.requestState was given to another caller; start the call without it.")
    if state.call != call:
        raise RpcError(
            INVALID_PARAMS, "params.requestState belongs to another call, or to other arguments; start without it."
        )
    if now - state.issued > MAX_AGE:
        raise RpcError(
            INVALID_PARAMS, f"params.requestState is older than {MAX_AGE} seconds; start the call without it."
        )
    return state


def _open(keys: Keys, sealed: str) -> State | None:
    payload = keys.decrypt(_PURPOSE, sealed) if len(sealed) <= MAX_BYTES else None
    try:
        return None if payload is None else _decode(payload)
    except msgspec.MsgspecError:  # the state of another version
        return None


def _number(text: str) -> float | int | str:
    """Return one value for all spellings of a number: 1.0 and 1e0 are 1, and 1e999 stays text."""
    number = float(text)
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


_decode_arguments = msgspec.json.Decoder(float_hook=_number).decode


def _digest(value: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).digest()[:16]
