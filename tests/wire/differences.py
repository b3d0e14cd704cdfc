"""Where Portway and the official SDK (mcp 2.3) answer differently, and what the specification says.

Each entry edits copies of both answers so that they agree on its point; one that never edits is stale. S25 is the
specification of 2025-11-25, S26 that of 2026-07-28.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from tests.wire.http_server import LEGACY, META, MODERN, Json
from tests.wire.requests import Case

Reconcile = Callable[[Case, Json, Json], None]


@dataclass(frozen=True)
class Difference:
    name: str
    cites: str
    reconcile: Reconcile


DIFFERENCES: list[Difference] = []


def difference(cites: str) -> Callable[[Reconcile], Reconcile]:
    def register(reconcile: Reconcile) -> Reconcile:
        DIFFERENCES.append(Difference(reconcile.__name__, cites, reconcile))
        return reconcile

    return register


def code(seen: Json) -> int | None:
    """Return the error code of an answer, None for a result or no message."""
    return ((seen["message"] or {}).get("error") or {}).get("code")


def result(seen: Json) -> Json:
    return (seen["message"] or {}).get("result") or {}


def accept_ours(ours: Json, theirs: Json) -> None:
    """Replace their answer by ours."""
    theirs.clear()
    theirs.update(ours)


# The envelope


@difference("JSON-RPC 2.0 §5: the id of an error is the request's own wherever it could be detected.")
def id_where_readable(case: Case, ours: Json, theirs: Json) -> None:
    if code(ours) == code(theirs) is not None and theirs["message"].get("id") is None:
        ours["message"]["id"] = theirs["message"].get("id")


@difference("JSON-RPC 2.0 §5.1: -32600 for JSON that is no valid request object, -32602 for its params only.")
def invalid_request(case: Case, ours: Json, theirs: Json) -> None:
    if (code(ours), code(theirs), theirs["status"]) == (-32600, -32602, 400):
        accept_ours(ours, theirs)


@difference(
    "S25 schema.ts, JSONRPCRequest: an id is a string or a number; JSON-RPC 2.0 §4: with an id it is no notification."
)
def bad_id_is_an_error(case: Case, ours: Json, theirs: Json) -> None:
    if code(ours) == -32600 and "id" in case.message and theirs["status"] == 202:
        accept_ours(ours, theirs)


# Tools


@difference("S25 and S26 server/tools.mdx, Error Handling: an unknown tool is a protocol error, -32602 in the example.")
def unknown_tool(case: Case, ours: Json, theirs: Json) -> None:
    if (
        code(ours) == -32602
        and result(theirs).get("isError")
        and result(theirs)["content"][0]["text"].startswith("Unknown tool")
    ):
        accept_ours(ours, theirs)


@difference(
    "S25 and S26 server/tools.mdx, Error Handling: the text of an isError result is for the model, its wording free."
)
def wording_of_tool_errors(case: Case, ours: Json, theirs: Json) -> None:
    if result(ours).get("isError") and result(theirs).get("isError"):
        for seen in (ours, theirs):
            seen["message"]["result"]["content"] = [block | {"text": ""} for block in result(seen)["content"]]


@difference("S25 and S26 server/tools.mdx, Structured Content: the text is the serialized JSON, its white space free.")
def white_space_of_mirrored_json(case: Case, ours: Json, theirs: Json) -> None:
    for seen in (ours, theirs):
        if "structuredContent" in result(seen) and not result(seen).get("isError"):
            for block in result(seen)["content"]:
                if block["text"].startswith(("{", "[")):
                    block["text"] = json.dumps(json.loads(block["text"]))


@difference("JSON Schema 2020-12 §6.5: other keywords are annotations; FastMCP's client reads this one.")
def marked_wrapping(case: Case, ours: Json, theirs: Json) -> None:
    for tool in result(ours).get("tools", ()):
        tool.get("outputSchema", {}).pop("x-fastmcp-wrap-result", None)


@difference("JSON Schema 2020-12 §9.1, schema.ts Tool: title is an annotation, which no signature holds.")
def invented_titles(case: Case, ours: Json, theirs: Json) -> None:
    for tool in result(theirs).get("tools", []):
        for schema in (tool["inputSchema"], tool.get("outputSchema", {})):
            schema.pop("title", None)
            for inner in schema.get("properties", {}).values():
                inner.pop("title", None)


@difference("S25 and S26 server/tools.mdx, Tool: any schema of type object; closed is recommended without parameters.")
def closed_schemas(case: Case, ours: Json, theirs: Json) -> None:
    for tool in result(ours).get("tools", []):
        tool["inputSchema"].pop("additionalProperties")


@difference("S25 and S26 server/tools.mdx, Error Handling: invalid input is an isError result; our schemas are closed.")
def unknown_arguments(case: Case, ours: Json, theirs: Json) -> None:
    arguments = case.params.get("arguments")
    if isinstance(arguments, dict) and set(arguments) - {"a", "b", "city"} and result(ours).get("isError"):
        accept_ours(ours, theirs)


# Sessions, questions


def questions(seen: Json) -> list[Json]:
    """Return the questions to the client: a request on a legacy stream, or those in a modern result."""
    message = seen["message"] or {}
    return [message] if "method" in message else list(result(seen).get("inputRequests", {}).values())


@difference("S25 client/elicitation.mdx and S26 schema.ts, ElicitRequestFormParams: mode is optional, a form is meant.")
def no_mode(case: Case, ours: Json, theirs: Json) -> None:
    for question in questions(theirs):
        if question["method"] == "elicitation/create" and question["params"].get("mode") == "form":
            del question["params"]["mode"]


@difference("S25 and S26 schema.ts, ListRootsRequest and the list_changed notifications: params is optional.")
def empty_params(case: Case, ours: Json, theirs: Json) -> None:
    for message in [*questions(ours), *ours.get("before", ())]:
        if message.get("params") == {}:
            del message["params"]


@difference("S25 server/tools.mdx, Error Handling: a tool that gets no answer has failed: an isError result.")
def no_answer(case: Case, ours: Json, theirs: Json) -> None:
    if case.version == LEGACY and result(ours).get("isError") and code(theirs) is not None:
        accept_ours(ours, theirs)


@difference("S25 basic/transports.mdx, Session Management: a status for each fault, the JSON-RPC error is free.")
def session_errors(case: Case, ours: Json, theirs: Json) -> None:
    if case.version == LEGACY and code(ours) == 1000 and ours["status"] == theirs["status"] in {400, 404}:
        accept_ours(ours, theirs)


@difference("S25 server/utilities/logging.mdx, Message Flow: only messages of the level set and above are sent.")
def log_levels(case: Case, ours: Json, theirs: Json) -> None:
    def logged(seen: Json) -> list[Json]:
        return [message for message in seen.get("before", ()) if message["method"] == "notifications/message"]

    if case.version == LEGACY and logged(theirs) and not logged(ours):
        theirs["before"] = [message for message in theirs["before"] if message not in logged(theirs)]


@difference("S26 basic/patterns/mrtr.mdx, Error Handling: no answer is an error, an unfit one asked for again.")
def unfit_answers(case: Case, ours: Json, theirs: Json) -> None:
    again = result(ours).get("resultType") == "input_required" or code(ours) == -32602
    if case.params.get("inputResponses") and again and result(theirs).get("isError"):
        accept_ours(ours, theirs)


@difference("S26 basic/patterns/mrtr.mdx, Server Requirements: a state is verified where it influences anything.")
def unused_state(case: Case, ours: Json, theirs: Json) -> None:
    if "requestState" in case.params and case.params.get("name") == "add" and code(theirs) == -32602:
        accept_ours(ours, theirs)


# Resources, prompts, lists


@difference("S25 server/resources.mdx, Error Handling: -32002 for a resource not found.")
def resource_not_found(case: Case, ours: Json, theirs: Json) -> None:
    if case.version == LEGACY and (code(ours), code(theirs)) == (-32002, -32602):
        accept_ours(ours, theirs)


@difference("S25 and S26 server/prompts.mdx, Error Handling: -32602 for an unknown prompt and for a missing argument.")
def prompt_errors(case: Case, ours: Json, theirs: Json) -> None:
    if code(ours) == -32602 and code(theirs) in {0, -32603} and case.params.get("name") is not None:
        accept_ours(ours, theirs)


@difference("S25 and S26 schema.ts, GetPromptResult: description is optional; the list has it.")
def prompt_description(case: Case, ours: Json, theirs: Json) -> None:
    if "messages" in result(theirs):
        result(theirs).pop("description", None)


@difference("S25 and S26 server/utilities/pagination.mdx, Error Handling: an invalid cursor is answered with -32602.")
def made_up_cursor(case: Case, ours: Json, theirs: Json) -> None:
    if code(ours) == -32602 and "cursor" in case.params and theirs["status"] == 200:
        accept_ours(ours, theirs)


@difference("S25 and S26 server/utilities/completion.mdx, Error Handling: -32602 for an unknown prompt or argument.")
def completion_of_nothing(case: Case, ours: Json, theirs: Json) -> None:
    if case.method == "completion/complete" and code(ours) == -32602 and result(theirs):
        accept_ours(ours, theirs)


@difference("S25 and S26 server/resources.mdx, Security Considerations: URIs are validated, here after decoding.")
def escaping_paths(case: Case, ours: Json, theirs: Json) -> None:
    escapes = "/../" in unquote(str(case.params.get("uri")))
    if escapes and code(ours) in {-32002, -32602} and result(theirs):
        accept_ours(ours, theirs)


@difference("S25 and S26 schema.ts, ServerCapabilities: an absent flag is false.")
def false_capabilities(case: Case, ours: Json, theirs: Json) -> None:
    for capability in result(theirs).get("capabilities", {}).values():
        for flag in [name for name, value in capability.items() if value is False]:
            del capability[flag]


@difference(
    "S25 server/tools.mdx, Capabilities: listChanged announces notifications of changes, which our sessions send."
)
def announced_changes(case: Case, ours: Json, theirs: Json) -> None:
    if case.version == LEGACY:
        for name, capability in result(ours).get("capabilities", {}).items():
            if "listChanged" not in result(theirs).get("capabilities", {}).get(name, {}):
                capability.pop("listChanged", None)


@difference(
    "S25 basic/lifecycle.mdx, Initialization: only protocolVersion is needed to negotiate; a server may be lenient."
)
def lenient_initialize(case: Case, ours: Json, theirs: Json) -> None:
    incomplete = not {"capabilities", "clientInfo"} <= set(case.params) or "protocolVersion" in result(ours)
    if case.method == "initialize" and incomplete and code(theirs) == -32602:
        accept_ours(ours, theirs)


# The ladder


@difference("S25 basic/lifecycle.mdx, Operation: what was not negotiated is not there, whatever the params.")
def method_before_params(case: Case, ours: Json, theirs: Json) -> None:
    if case.version == LEGACY and (code(ours), code(theirs)) == (-32601, -32602):
        accept_ours(ours, theirs)


@difference(
    "S26 basic/transports/streamable-http.mdx (and RFC 9110 §5.5): white space around a value is not part of it."
)
def optional_white_space(case: Case, ours: Json, theirs: Json) -> None:
    if code(theirs) == -32020 and any(value != value.strip() for value in case.headers.values()):
        accept_ours(ours, theirs)


@difference("S26 basic/versioning.mdx: the envelope in _meta makes a request modern even when its header is missing.")
def era_by_envelope(case: Case, ours: Json, theirs: Json) -> None:
    unsaid = case.headers.get("MCP-Protocol-Version") in {None, LEGACY}
    if META + "protocolVersion" in case.meta and unsaid and code(ours) in {-32020, -32602}:
        accept_ours(ours, theirs)


@difference(
    "JSON-RPC 2.0 §5.1: of two faults either may be named; parameters are typed before the headers and the method."
)
def types_before_headers(case: Case, ours: Json, theirs: Json) -> None:
    later = code(theirs) == -32020 or (case.method == "initialize" and code(theirs) == -32601)
    if case.version == MODERN and code(ours) == -32602 and ours["status"] == 400 and later:
        accept_ours(ours, theirs)


@difference("S25 basic/transports.mdx, Sending Messages: a notification that cannot be accepted gets an HTTP error.")
def unreadable_notification(case: Case, ours: Json, theirs: Json) -> None:
    if "id" not in case.message and (ours["status"], theirs["status"]) == (400, 202):
        accept_ours(ours, theirs)


@difference(
    "S26 basic/transports/streamable-http.mdx, Sending Messages: notifications have no header rules; accepted is 202."
)
def notification_headers(case: Case, ours: Json, theirs: Json) -> None:
    if "id" not in case.message and ours["status"] == 202 and code(theirs) in {-32020, -32022}:
        accept_ours(ours, theirs)


@difference("S26 basic/index.mdx, _meta: clientCapabilities is required, an object; without it -32602 and 400.")
def capabilities_are_an_object(case: Case, ours: Json, theirs: Json) -> None:
    malformed = not isinstance(case.meta.get(META + "clientCapabilities", {}), dict)
    if malformed and (code(ours), ours["status"], code(theirs)) == (-32602, 400, -32601):
        accept_ours(ours, theirs)
