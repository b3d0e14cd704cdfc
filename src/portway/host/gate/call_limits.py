"""The limits of a tool, kept at the gate before its app hears of a call."""

import asyncio

from msgspec import UNSET

from portway.exceptions import ArgumentError
from portway.host.gate.gate_call import GateCall
from portway.policy.policies import Policy
from portway.protocol.errors import INVALID_PARAMS, RpcError
from portway.protocol.jsonrpc import Message, encode_result, encode_tool_error

_LONGEST_NAME = 200
_LARGE = 65_536  # bytes of arguments that are checked on a thread


async def limit(call: GateCall, policy: Policy, message: Message) -> None:
    """Count a call of a tool within its limits, until `leave`.

    Raises ArgumentError for arguments out of them, and RpcError for a call that is one too many.
    """
    params, name = message.params, call.line.name[:_LONGEST_NAME]
    arguments = None if params is UNSET or params.arguments is UNSET else params.arguments
    try:
        for each in policy.limits:
            if each.arguments is None:
                continue
            if arguments is not None and memoryview(arguments).nbytes > _LARGE:
                await asyncio.to_thread(each.arguments.check, name, arguments)
            else:
                each.arguments.check(name, arguments)
    except ArgumentError as error:
        if call.request_id is None:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        raise
    holder = policy.counted_as, call.holder
    for each in policy.limits:
        each.enter(name, holder)
        call.limits = (*call.limits, (each, holder))


def leave(call: GateCall) -> None:
    """Count a call no longer: it has ended."""
    for limits, holder in call.limits:
        limits.leave(holder)


def refusal(call: GateCall, error: ArgumentError) -> bytes:
    """Return the reply to a call with arguments out of the limits: a result, which the model reads."""
    assert call.request_id is not None
    tail = b',"resultType":"complete"' if call.line.era == "modern" else b""
    return encode_result(call.request_id, encode_tool_error(str(error), tail))
