"""`portway check URL --auth`: how many known clients can log in at an endpoint, and what is said of the others."""

from collections.abc import Sequence

from portway.auth.challenge import BearerChallenge, read_challenge
from portway.client.oauth.provider_web import web_of
from portway.counted import counted
from portway.diagnosis.admission import silent
from portway.diagnosis.endpoint import Answer, Endpoint, NoAnswer, initialize
from portway.diagnosis.known_clients import LOGIN_CLIENTS, LoginClient
from portway.diagnosis.login_walk import LoginWalk, Walk, Web
from portway.diagnosis.reach import look_at_reach
from portway.diagnosis.report import Report, Stopped
from portway.diagnosis.stop import Stop
from portway.diagnosis.trial_registration import TrialRegistrations
from portway.diagnosis.web_pages import PAGE

_NO_SCOPE = (
    "no scope is announced, so clients ask for none, and some providers refuse that (access_denied): name those that "
    "tools need by --auth-scopes, or by auth.scopes of the app"
)
_WAYS = {"document": "by metadata document", "registration": "by registration"}


async def diagnose_login(endpoint: Endpoint, report: Report, *, registers: bool = False) -> list[Walk]:
    """Walk the login of each known client up to the browser; return how far each comes.

    With `registers`, clients that register are registered.
    """
    try:
        await look_at_reach(endpoint, report)
        answer = await _challenge(endpoint, report)
    except Stopped:
        return []
    if answer is None:
        return []
    challenge = read_challenge(answer.headers.get(b"www-authenticate", b"").decode("latin-1"))
    if challenge is None or not challenge.resource_metadata:
        report.fact("login", "the 401 names no resource_metadata, so clients look at the well-known places")
    clients = LOGIN_CLIENTS
    if answer.headers.get(b"access-control-allow-origin", b"") not in (b"*", PAGE):
        clients = tuple(client for client in LOGIN_CLIENTS if not client.is_web_page)
        report.fact("web pages", "those of other sites may not call it, so none of them logs in")
    web = await web_of(endpoint.url)
    trial = TrialRegistrations(web) if registers else None
    walks = await walk_all(web, endpoint.url, challenge, clients, report, trial)
    if trial is not None:
        if trial.deleted:
            report.fact(
                "registration", f"{counted(trial.deleted, 'client')} registered for this check, and deleted again"
            )
        for client_id in trial.left:
            text = f"the client {client_id!r} was registered for this check and stays: delete it at the provider"
            report.fact("registration", text)
    return walks


async def walk_all(
    web: Web,
    url: str,
    challenge: BearerChallenge | None,
    clients: Sequence[LoginClient],
    report: Report,
    registrations: TrialRegistrations | None = None,
) -> list[Walk]:
    """Walk the login of each client, and report which of them come how far."""
    login = LoginWalk(web, url, challenge, registrations)
    walks = [await login.walk(client) for client in clients]
    if login.names_no_scope:
        report.fact("login", _NO_SCOPE)
    reached: dict[tuple[str, str], list[str]] = {}
    stopped: dict[Stop, list[str]] = {}
    for walk in walks:
        if walk.stop is not None:
            stopped.setdefault(walk.stop, []).append(walk.client)
        else:
            assert walk.way is not None
            reached.setdefault((walk.authorization_endpoint, _WAYS[walk.way]), []).append(walk.client)
    for (place, way), names in reached.items():
        report.fact("login", f"{_all(names, 'reach', 'reaches')} the browser at {place[:200]}, {way}")
    for stop, names in stopped.items():
        text = f"{_all(names, 'stop', 'stops')} at the {stop.step} ({stop.rule}): {stop.text}"
        report.finding("login", text, stop.mend)
    return walks


async def _challenge(endpoint: Endpoint, report: Report) -> Answer | None:
    """Return the 401 that a client without a token gets; None where nobody logs in. Raises `Stopped`."""
    headers, body = initialize()
    try:
        answer = await endpoint.send("POST", [*headers, (b"origin", PAGE)], body, with_token=False)
        if answer.status == 403:  # it refuses web pages of other sites
            answer = await endpoint.send("POST", headers, body, with_token=False)
    except NoAnswer as error:
        raise silent(endpoint, error, report) from None
    if answer.is_result:
        report.fact("login", "anybody may call it, so no client logs in")
        return None
    if answer.status != 401:
        raise report.stop(
            "login",
            f"a request without a token is answered with status {answer.status}, not 401 (RFC 6750 section 3.1): no "
            "client asks its user to log in",
            "answer 401 with WWW-Authenticate: Bearer; `portway check` without --auth looks for the cause",
        )
    return answer


def _all(names: Sequence[str], several: str, one: str) -> str:
    """Return names as a sentence lists them, and the form of its verb."""
    return f"{', '.join(names[:-1])} and {names[-1]} {several}" if len(names) > 1 else f"{names[0]} {one}"
