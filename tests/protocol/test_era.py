"""The era of a message, by its envelope and its MCP-Protocol-Version header."""

from __future__ import annotations

import json

import pytest

from portway.protocol.era import classify
from portway.protocol.jsonrpc import decode
from portway.protocol.versions import LEGACY_VERSIONS, Era

ENVELOPE = "io.modelcontextprotocol/protocolVersion"
L, M = Era.LEGACY, Era.MODERN
# method, version in the envelope (None: no envelope), header, era
TABLE = [
    # without an envelope the header decides
    ("tools/call", None, None, L),
    ("tools/call", None, "2024-11-05", L),
    ("tools/call", None, "2025-03-26", L),
    ("tools/call", None, "2025-06-18", L),
    ("tools/call", None, "2025-11-25", L),
    ("tools/call", None, "2026-07-28", M),
    ("tools/call", None, "2099-01-01", M),
    ("tools/call", None, "nonsense", M),
    ("tools/call", None, "", M),
    ("server/discover", None, None, L),
    ("server/discover", None, "2026-07-28", M),
    ("ping", None, None, L),
    # an envelope makes it modern, whatever it names, with or without the header
    ("tools/call", "2026-07-28", None, M),
    ("tools/call", "2026-07-28", "2026-07-28", M),
    ("tools/call", "2026-07-28", "2025-11-25", M),
    ("tools/call", "2099-01-01", "2099-01-01", M),
    ("tools/call", "2025-11-25", None, M),
    ("tools/call", "2025-11-25", "2026-07-28", M),
    # but for a client that says a legacy version in both places
    ("tools/call", "2025-11-25", "2025-11-25", L),
    ("tools/call", "2025-06-18", "2025-11-25", L),
    # initialize: legacy without an envelope, whatever the header
    ("initialize", None, None, L),
    ("initialize", None, "2025-11-25", L),
    ("initialize", None, "2026-07-28", L),
    ("initialize", None, "2099-01-01", L),
    ("initialize", "2026-07-28", None, M),
    ("initialize", "2026-07-28", "2026-07-28", M),
    # notifications and responses follow the same rule
    ("notifications/cancelled", None, None, L),
    ("notifications/cancelled", None, "2026-07-28", M),
    ("notifications/cancelled", "2026-07-28", None, M),
    (None, None, None, L),
    (None, None, "2026-07-28", M),
]


@pytest.mark.parametrize(("method", "enveloped", "header", "era"), TABLE)
def test_the_era_of_a_message_follows_its_envelope_then_its_header(method, enveloped, header, era):
    params = {} if enveloped is None else {"_meta": {ENVELOPE: enveloped}}
    body = {"id": 1, "result": {}} if method is None else {"id": 1, "method": method, "params": params}
    assert classify(decode(json.dumps({"jsonrpc": "2.0", **body}).encode()), header) is era


@pytest.mark.parametrize("meta", [{}, {"progressToken": 1}, {"io.modelcontextprotocol/clientCapabilities": {}}])
def test_a_meta_without_the_version_is_no_envelope(meta):
    message = decode(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": meta}}).encode())
    assert classify(message, None) is L
    assert all(classify(message, version) is L for version in LEGACY_VERSIONS)
    assert classify(message, "2026-07-28") is M
