"""Keeps the limits of a tool at the gate, before its app hears of a call, and words the refusal."""

import asyncio

from msgspec import UNSET

from portway.exceptions import ArgumentError, ToolError
from portway.host.gate.confirmations import Confirmations
from portway.host.gate.gate_call import GateCall
from portway.policy.policies import Policy
from portway.protocol.errors import INVALID_PARAMS, RpcError
from portway.protocol.jsonrpc import Message, encode_result, encode_tool_error

_LONGEST_NAME = 200
_LARGE = 65_536  # bytes of arguments that are checked on a thread


async def limit(call: GateCall, policy: Policy, message: Message, body: bytes, confirmations: Confirmations) -> bytes:
    """Count a call of a tool within its limits, until `leave`; return it as it goes to the instance.

    Raises ArgumentError for arguments out of them, RpcError for a call that is one too many, and what `confirmed` does.
    A legacy call that is to be confirmed has a `confirmation` then, and is counted the next time, once it is confirmed.
    """
    params, name = message.params, call.line.name[:_LONGEST_NAME]
    arguments = None if params is UNSET or params.arguments is UNSET else params.arguments
    confirmation = None
    try:
        for each in policy.limits:
            confirmation = confirmation or each.confirmation
            if each.arguments is None:
                continue
            if arguments is not None and len(arguments) > _LARGE:
                await asyncio.to_thread(each.arguments.check, name, arguments)
            else:
                each.arguments.check(name, arguments)
    except ArgumentError as error:
        if call.request_id is None:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        raise
    if confirmation is not None and call.request_id is None:
        raise RpcError(INVALID_PARAMS, f"{name} must be confirmed by the user: call it by a request with an id.")
    holder = policy.counted_as, call.holder
    try:
        for each in policy.limits:
            each.enter(name, holder)
            call.limits = (*call.limits, (each, holder))
        if confirmation is None or call.confirmation is not None:
            return body
        if call.cancels:  # after it has entered, for a call that is one too many is made again
            return confirmations.confirmed(call, confirmation, message, body)
    except Exception:
        _undo(call)
        raise
    _undo(call)
    call.confirmation = confirmation
    return body


def leave(call: GateCall) -> None:
    """Count a call no longer: it has ended."""
    for limits, holder in call.limits:
        limits.leave(holder)


def _undo(call: GateCall) -> None:
    """Count a call no longer that is not passed on, or not yet."""
    for limits, holder in call.limits:
        limits.undo(holder)
    call.limits = ()


def refusal(call: GateCall, error: ArgumentError | ToolError) -> bytes:
    """Return the reply to a call that is not passed on: a result, which the model reads."""
    assert call.request_id is not None
    tail = b',"resultType":"complete"' if call.line.era == "modern" else b""
    return encode_result(call.request_id, encode_tool_error(str(error), tail))
