"""What a client can do when a server asks something of it (specification: basic/lifecycle, client/*)."""

from enum import IntFlag

import msgspec
from msgspec import Raw, UnsetType

from portway.protocol.jsonrpc import decode_params


class Capability(IntFlag):
    """The capabilities of a client that change what a server may send; the numbers travel in sealed session ids."""

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


class _Elicitation(msgspec.Struct):
    form: Raw | UnsetType = msgspec.UNSET
    url: Raw | UnsetType = msgspec.UNSET


class _Sampling(msgspec.Struct):
    tools: Raw | UnsetType = msgspec.UNSET
    context: Raw | UnsetType = msgspec.UNSET


class _Capabilities(msgspec.Struct):
    elicitation: _Elicitation | UnsetType | None = msgspec.UNSET
    sampling: _Sampling | UnsetType | None = msgspec.UNSET
    roots: Raw | UnsetType = msgspec.UNSET


class _Initialize(msgspec.Struct):
    capabilities: Raw | UnsetType = msgspec.UNSET
    client_info: Raw = msgspec.field(name="clientInfo", default=Raw(b"{}"))


class _ClientInfo(msgspec.Struct):
    name: str = ""
    version: str = ""


class DeclaredClient(msgspec.Struct, frozen=True):
    """What a client says of itself at `initialize`: its capabilities, and its software's name and version, or ""."""

    capabilities: Capability = Capability.NONE
    name: str = ""
    version: str = ""


_decode = msgspec.json.Decoder(_Capabilities).decode


def read(declared: Raw | bytes | UnsetType) -> Capability:
    """The capabilities a client declares; what cannot be read declares nothing."""
    if declared is msgspec.UNSET:
        return Capability.NONE
    try:
        found = _decode(declared)
    except msgspec.DecodeError:
        return Capability.NONE
    capabilities = Capability.NONE
    if isinstance(found.elicitation, _Elicitation):
        url = found.elicitation.url is not msgspec.UNSET
        capabilities |= Capability.URL if url else Capability.NONE
        if not url or found.elicitation.form is not msgspec.UNSET:  # an empty object means forms
            capabilities |= Capability.FORM
    if isinstance(found.sampling, _Sampling):
        capabilities |= Capability.SAMPLING
        if found.sampling.tools is not msgspec.UNSET:
            capabilities |= Capability.SAMPLING_TOOLS
        if found.sampling.context is not msgspec.UNSET:
            capabilities |= Capability.SAMPLING_CONTEXT
    if found.roots is not msgspec.UNSET and bytes(found.roots) != b"null":
        capabilities |= Capability.ROOTS
    return capabilities


def declared(initialize: bytes) -> DeclaredClient:
    """Return what the client says in an `initialize` message. Raises RpcError where its params are no object."""
    params = decode_params(initialize, _Initialize)
    try:
        info = msgspec.json.decode(params.client_info, type=_ClientInfo)
    except (msgspec.DecodeError, UnicodeDecodeError):
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
