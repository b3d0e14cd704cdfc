"""Diagnoses whether web pages may call an endpoint (CORS)."""

from portway.diagnosis.endpoint import Endpoint, NoAnswer, initialize
from portway.diagnosis.report import Report

PAGE = b"https://check.portway.invalid"
"""The origin of a page of another site."""
_SENT = ("authorization", "content-type", "mcp-protocol-version", "mcp-session-id")


async def look_at_web_pages(endpoint: Endpoint, report: Report) -> None:
    """Ask as a browser does before it lets a page call. A page that may not is a fact, one that half may a finding."""
    asked = [
        (b"origin", PAGE),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", ",".join(_SENT).encode()),
    ]
    try:
        preflight = await endpoint.send("OPTIONS", asked, with_token=False)
        headers, body = initialize()
        called = await endpoint.send("POST", [(b"origin", PAGE), *headers], body)
    except NoAnswer as error:
        report.fact("web pages", f"no answer to a preflight: {error}")
        return
    allowed = called.headers.get(b"access-control-allow-origin", b"")
    if allowed not in (b"*", PAGE):
        report.fact("web pages", "those of other sites may not call it")
        return
    mend = "answer OPTIONS with what pages send and may read: let the server or proxy have one place that does it"
    if preflight.status >= 300 or preflight.headers.get(b"access-control-allow-origin", b"") not in (b"*", PAGE):
        report.finding(
            "web pages", f"pages are allowed, but the preflight is answered with status {preflight.status}", mend
        )
        return
    taken = _names(preflight.headers.get(b"access-control-allow-headers", b""))
    # The Fetch standard lets `*` stand for every header but Authorization.
    missing = [name for name in _SENT if name not in taken and ("*" not in taken or name == "authorization")]
    exposed = _names(called.headers.get(b"access-control-expose-headers", b""))
    if missing:
        report.finding("web pages", f"pages are allowed, but may not send {', '.join(missing)}", mend)
    elif called.session and not exposed & {"*", "mcp-session-id"}:
        report.finding("web pages", "pages are allowed, but may not read Mcp-Session-Id, so have no session", mend)
    elif called.headers.get(b"access-control-allow-credentials", b"") == b"true":
        report.finding(
            "web pages",
            "any page may call it with the user's cookies (Access-Control-Allow-Credentials)",
            "leave that header out, and name the pages that may call",
        )
    else:
        report.fact("web pages", "those of any site may call it")


def _names(value: bytes) -> set[str]:
    return {name.strip().lower() for name in value.decode("latin-1").split(",")}
