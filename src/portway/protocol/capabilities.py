"""The capabilities a client declares in `initialize`, with its name and version, and how errors name those it lacks
(specification: basic/lifecycle, client/*).
"""

from enum import IntFlag

import msgspec
from msgspec import Raw, UnsetType

from portway.protocol.jsonrpc import UNREADABLE, decode_params


class Capability(IntFlag):
    """The client capabilities that decide what a server may send. Sealed session ids contain the numbers."""

    NONE = 0
    FORM = 1
    URL = 2
    SAMPLING = 4
    SAMPLING_TOOLS = 8
    SAMPLING_CONTEXT = 16
    ROOTS = 32


NAMES = {
    "elicitation": Capability.FORM,
    "elicitation.url": Capability.URL,
    "sampling": Capability.SAMPLING,
    "sampling.tools": Capability.SAMPLING_TOOLS,
    "sampling.context": Capability.SAMPLING_CONTEXT,
    "roots": Capability.ROOTS,
}
"""The capabilities by the names that authors and error texts use."""


class _Initialize(msgspec.Struct):
    capabilities: Raw | UnsetType = msgspec.UNSET
    client_info: Raw = msgspec.field(name="clientInfo", default=Raw(b"{}"))


class _ClientInfo(msgspec.Struct):
    name: str = ""
    version: str = ""


class DeclaredClient(msgspec.Struct, frozen=True):
    """Capabilities, and name and version of the software (or ""), as a client declares them in `initialize`."""

    capabilities: Capability = Capability.NONE
    name: str = ""
    version: str = ""


_decode = msgspec.json.Decoder(dict[str, object]).decode


def read(declared: Raw | bytes | UnsetType) -> Capability:
    """Return the capabilities in a ClientCapabilities object, none if it cannot be read."""
    capabilities = Capability.NONE
    if declared is msgspec.UNSET:
        return capabilities
    try:
        found = _decode(declared)
    except UNREADABLE:
        return capabilities
    for name, capability in NAMES.items():
        group, _, detail = name.partition(".")
        members = found.get(group)
        if isinstance(members, dict) and (not detail or detail in members):
            capabilities |= capability
    elicitation = found.get("elicitation")
    if isinstance(elicitation, dict) and "url" in elicitation and "form" not in elicitation:
        capabilities &= ~Capability.FORM  # only an object without members means forms
    return capabilities


def declared(initialize: bytes) -> DeclaredClient:
    """Return what an `initialize` message declares. Raise RpcError if its params are no object."""
    params = decode_params(initialize, _Initialize)
    try:
        info = msgspec.json.decode(params.client_info, type=_ClientInfo)
    except UNREADABLE:
        info = _ClientInfo()
    return DeclaredClient(read(params.capabilities), info.name, info.version)


def names(capabilities: Capability) -> list[str]:
    """Return what `capabilities` are called in `Client.supports` and in error texts."""
    return [name for name, capability in NAMES.items() if capability in capabilities]


def required(missing: Capability) -> dict[str, dict[str, object]]:
    """Return the ClientCapabilities object that names what is missing (MISSING_CAPABILITY, `requiredCapabilities`)."""
    wire: dict[str, dict[str, object]] = {}
    for name in names(missing):
        capability, _, detail = name.partition(".")
        members = wire.setdefault(capability, {})
        if detail or capability == "elicitation":
            members[detail or "form"] = {}
    return wire
