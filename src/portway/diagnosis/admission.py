"""Diagnoses an endpoint's first answer: its paths, redirects, 401, 403, 404, 405 and 406, and whether a 401 leads to a
login.
"""

import contextlib
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import msgspec

from portway.auth.challenge import read_challenge
from portway.diagnosis.endpoint import Answer, Endpoint, Header, NoAnswer, initialize, modern_request
from portway.diagnosis.report import Report, Stopped
from portway.oauth.resource_metadata import WELL_KNOWN
from portway.protocol.jsonrpc import UNREADABLE

_LIKELY_PATHS = ("/mcp", "/mcp/", "/", "/sse", "/api/mcp", "/v1/mcp", "/mcp/mcp")
_BROWSER = (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36")
_ACCEPTS = (b"*/*", b"application/json", b"text/event-stream")
_ASKED = (400, 401, 405, 406, 415)  # how an MCP server may answer a request that it does not take


class _Metadata(msgspec.Struct):
    """Protected resource metadata, as far as clients need it (RFC 9728 section 2)."""

    resource: str = ""
    authorization_servers: list[str] = []


@dataclass(frozen=True, slots=True)
class First:
    """The answers to the first request of a client in each era."""

    legacy: Answer
    modern: Answer


async def look_at_admission(endpoint: Endpoint, report: Report) -> First:
    """Send the first request of each era. Raises `Stopped` when the endpoint takes neither."""
    try:
        legacy = await endpoint.send("POST", *initialize())
        modern = await endpoint.send("POST", *modern_request("server/discover", {}))
    except NoAnswer as error:
        raise silent(endpoint, error, report) from None
    if legacy.is_result or modern.is_result:
        await _look_at_login(endpoint, report)
        return First(legacy, modern)
    raise await _refused(endpoint, legacy, report)


def silent(endpoint: Endpoint, error: NoAnswer, report: Report) -> Stopped:
    return report.stop(
        "connection", f"{endpoint.url} does not answer: {error}", "start the server, and look into its log"
    )


async def _refused(endpoint: Endpoint, answer: Answer, report: Report) -> Stopped:
    """Say why the first request is refused."""
    status, location = answer.status, answer.headers.get(b"location", b"").decode("latin-1")
    if status == 401:
        return await _unauthorized(endpoint, answer, report)
    if location and 300 <= status < 400:
        return report.stop(
            "HTTP",
            f"a POST is redirected with status {status} to {location[:200]}: clients lose the body or the token on it",
            _mend_of_redirect(endpoint, location),
        )
    if status == 404:
        return await _not_found(endpoint, report)
    if status in (403, 421):
        return await _forbidden(endpoint, answer, report)
    if status == 406:
        return await _not_acceptable(endpoint, answer, report)
    if status == 405:
        return await _not_allowed(endpoint, report)
    if status >= 500:
        return report.stop(
            "HTTP",
            f"the endpoint fails with status {status}{_quoted(answer)}",
            "502, 503 and 504 come from a proxy whose server is down, starting or too slow; the log of the server has "
            "the cause of others",
        )
    return report.stop(
        "protocol",
        f"the endpoint answers `initialize` with status {status} and what is no MCP{_quoted(answer)}",
        "give the address of the MCP endpoint, which often ends with /mcp",
    )


async def _not_found(endpoint: Endpoint, report: Report) -> Stopped:
    """Look for the endpoint on other paths."""
    path, unclear = endpoint.parts.path.rstrip("/"), ""
    for other in dict.fromkeys([path + "/mcp", path or "/", endpoint.target + "/", *_LIKELY_PATHS]):
        if other == endpoint.target:
            continue
        speaks = await _speaks_mcp(endpoint, other)
        if speaks:
            return report.stop(
                "HTTP",
                f"there is nothing at {endpoint.target} (status 404)",
                f"give the address {urljoin(endpoint.url, other)}, where an MCP server answers",
            )
        if speaks is None:
            unclear = unclear or other
    if unclear:
        return report.stop(
            "HTTP",
            f"there is nothing at {endpoint.target} (status 404)",
            f"try the address {urljoin(endpoint.url, unclear)} with a token (--token): without one, the host does not "
            "say whether an MCP server is there",
        )
    return report.stop(
        "HTTP",
        f"there is nothing at {endpoint.target} (status 404), nor at the usual paths",
        "look into the server's configuration for the path of its endpoint, which often is /mcp",
    )


async def _speaks_mcp(endpoint: Endpoint, path: str) -> bool | None:
    """Return whether an MCP server answers at a path; None if a path where nothing can be is refused just so."""
    try:
        answer = await endpoint.send("POST", *initialize(), target=path, with_token=False)
        if answer.status != 401:
            return answer.is_result or (answer.status in _ASKED and answer.message is not None)
        if _named_metadata(answer):
            return True
        nowhere = "/no-such-place" + path[path.rstrip("/").rfind("/") :]
        other = await endpoint.send("POST", *initialize(), target=nowhere, with_token=False)
    except NoAnswer:
        return False
    return None if other.status == 401 else True


def _named_metadata(answer: Answer) -> str:
    """Return the URL of the protected resource metadata that a 401 names, "" for none."""
    challenge = read_challenge(answer.headers.get(b"www-authenticate", b"").decode("latin-1"))
    return challenge.resource_metadata if challenge is not None else ""


async def _forbidden(endpoint: Endpoint, answer: Answer, report: Report) -> Stopped:
    """Find the header that the endpoint refuses, by leaving one after the other out or changing it."""
    status, headers, body = answer.status, *initialize()
    own = f"{endpoint.parts.scheme}://{endpoint.parts.netloc}".encode()
    trials: list[tuple[str, list[Header], str | None, str]] = [
        (
            "Host",
            [],
            "localhost",
            "add this host name to those the server allows (its protection against DNS rebinding)",
        ),
        ("Host", [], f"127.0.0.1:{endpoint.port}", "add this host name to those the server allows"),
        ("Origin", [(b"origin", own)], None, "let the server take requests without an Origin: only browsers send one"),
        ("User-Agent", [_BROWSER], None, "let the firewall in front take clients that are no browsers"),
    ]
    for name, extra, named, mend in trials:
        try:
            other = await endpoint.send("POST", [*headers, *extra], body, named=named)
        except NoAnswer:
            continue
        if other.status != status:
            return report.stop("HTTP", f"the header {name} is refused with status {status}{_quoted(answer)}", mend)
    if status == 403 and endpoint.token:
        return report.stop(
            "login",
            f"the token is not enough (status 403){_quoted(answer)}",
            "use one with the scopes that it asks for",
        )
    return report.stop(
        "HTTP",
        f"the endpoint refuses the request with status {status}, whatever its headers{_quoted(answer)}",
        "let the firewall or proxy in front pass POST requests of this address",
    )


async def _not_acceptable(endpoint: Endpoint, answer: Answer, report: Report) -> Stopped:
    headers, body = initialize()
    for accept in _ACCEPTS:
        other = await endpoint.send("POST", [(b"accept", accept), *headers[1:]], body)
        if other.status != 406:
            return report.stop(
                "HTTP",
                "the Accept header of every client, `application/json, text/event-stream`, is refused with status 406; "
                f"`{accept.decode()}` is taken",
                "let the server or proxy take both types, as the specification wants",
            )
    return report.stop(
        "HTTP",
        f"the endpoint answers every Accept header with status 406{_quoted(answer)}",
        "let the proxy in front pass the Accept header on as it is",
    )


async def _not_allowed(endpoint: Endpoint, report: Report) -> Stopped:
    try:
        async with endpoint.open("GET", [(b"accept", b"text/event-stream")]) as response:
            is_old = response.status == 200 and response.header(b"content-type").startswith(b"text/event-stream")
    except NoAnswer:
        is_old = False
    if is_old:
        return report.stop(
            "protocol",
            "the endpoint speaks HTTP+SSE of 2024-11-05, which new clients have dropped",
            "serve Streamable HTTP: in FastMCP and the SDKs, transport `http` or `streamable-http` in place of `sse`",
        )
    return report.stop(
        "HTTP",
        "the endpoint takes no POST (status 405)",
        "give the address of the MCP endpoint, or let the proxy in front pass POST requests",
    )


async def _unauthorized(endpoint: Endpoint, answer: Answer, report: Report) -> Stopped:
    if endpoint.token:
        return report.stop("login", f"the token is refused{_quoted(answer)}", "make a new one, and pass it by --token")
    if await _has_metadata(endpoint, answer, report):
        return report.stop(
            "login",
            "the endpoint asks for a token, so nothing more was looked at",
            f"pass one by --token or PORTWAY_TOKEN, or log in by `portway login {endpoint.url}`",
        )
    return report.stop(
        "login",
        "the endpoint asks for a token and does not say where clients get one: its 401 names no resource_metadata",
        "pass a token by --token to look further; for clients that log in by themselves, serve protected resource "
        "metadata (RFC 9728)",
    )


async def _look_at_login(endpoint: Endpoint, report: Report) -> None:
    """Say how callers without a token are answered."""
    if endpoint.token is None:
        report.fact("login", "anybody may call it")
        return
    try:
        answer = await endpoint.send("POST", *initialize(), with_token=False)
    except NoAnswer:
        return
    if answer.status != 401:
        report.fact("login", "it answers callers without a token, too")
    elif not await _has_metadata(endpoint, answer, report):
        report.fact("login", "the token is accepted; clients must be given one, as the 401 names no resource_metadata")


async def _has_metadata(endpoint: Endpoint, answer: Answer, report: Report) -> bool:
    """Return whether a 401 leads to protected resource metadata; say what is wrong with it."""
    named = _named_metadata(answer)
    here = (endpoint.parts.scheme, endpoint.parts.netloc)
    places = [urlsplit(urljoin(endpoint.url, f"{WELL_KNOWN}{endpoint.parts.path}"))]
    with contextlib.suppress(ValueError):  # an open bracket
        if named:
            places.insert(0, urlsplit(named))
    for place in places:
        if (place.scheme, place.netloc) != here:
            report.fact("login", f"its metadata is at another host, {place.netloc}, and was not read")
            return True
        try:
            found = await endpoint.send("GET", target=place.path, with_token=False)
            metadata = msgspec.json.decode(found.body, type=_Metadata)
        except (NoAnswer, *UNREADABLE):
            continue
        if found.status != 200:
            continue
        if metadata.resource.rstrip("/") != endpoint.url.rstrip("/"):
            report.finding(
                "login",
                f"the metadata is for {metadata.resource[:200] or 'no resource'}, not for {endpoint.url}: VS Code and "
                "others refuse that",
                "let `resource` be the exact address of the endpoint",
            )
        elif not metadata.authorization_servers:
            report.finding("login", "the metadata names no authorization server", "name one in `authorization_servers`")
        else:
            report.fact("login", f"clients log in at {', '.join(metadata.authorization_servers)[:200]}")
        return True
    if named:
        report.finding(
            "login",
            f"the metadata that the 401 names cannot be read: {named[:200]}",
            "serve it there as JSON, with 200",
        )
    return bool(named)


def _mend_of_redirect(endpoint: Endpoint, location: str) -> str:
    try:
        return f"give the address {urljoin(endpoint.url, location)[:200]} itself"
    except ValueError:  # an open bracket
        return "let the server answer the POST itself: the address to which it redirects is none"


def _quoted(answer: Answer) -> str:
    return f": {said}" if (said := answer.said()) else ""
