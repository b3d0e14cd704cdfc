"""What the client raises: ClientError, NoAnswer, SessionLost, Refused, LoginNeeded, LoginError; RpcError is what a
server answers with.
"""

from enum import StrEnum


class Step(StrEnum):
    """The steps of a login, in their order."""

    RESOURCE = "resource metadata"
    PROVIDER = "provider metadata"
    REGISTRATION = "client registration"
    AUTHORIZATION = "authorization"
    TOKEN = "token"  # noqa: S105
    SCOPES = "scopes"


class ClientError(Exception):
    """The server could not be reached or understood. `status` is the HTTP status where that was the reason."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SessionLost(ClientError):
    """The server does not know the session any more (404, 2025-11-25 basic/transports). A new handshake helps."""


class NoAnswer(ClientError):
    """No answer came in time."""


class Refused(ClientError):
    """The server asks for a login (401), or for one with more scopes (403). `challenge` is its WWW-Authenticate."""

    def __init__(self, message: str, status: int, challenge: str) -> None:
        super().__init__(message, status)
        self.challenge = challenge


class LoginNeeded(ClientError):
    """Nobody is logged in, or not with the `scopes` that a call needs, and nobody can be asked."""

    def __init__(self, url: str, scopes: tuple[str, ...]) -> None:
        asked = f"the scopes {' '.join(scopes)}" if scopes else "a login"
        more = "".join(f" --scope {scope}" for scope in scopes)
        super().__init__(f"{url} asks for {asked}: run `portway login {url}{more}`, or pass a token")
        self.scopes = scopes


class LoginError(ClientError):
    """A login did not succeed: the step, what happened, the rule that says so, and the mend."""

    client_is_unknown = False
    """Whether the provider says so of the client, or that it may not log in: another one must be registered."""

    def __init__(self, step: Step, message: str) -> None:
        super().__init__(f"login failed at {step}: {message}")
        self.step = step


def tls_problem(url: str, error: BaseException) -> str:
    """Return what to say after a certificate that is not trusted, or a server without TLS, "" after another cause."""
    import ssl

    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {url} is not trusted ({cause.verify_message}): correct the address, or name the file "
            "of its authority in SSL_CERT_FILE"
        )
    if isinstance(cause, ssl.SSLError):
        return f"{url} does not speak TLS ({cause.reason}): try http://{url.removeprefix('https://')}, or another port"
    return ""


def not_now(step: Step, rule: str, problem: object) -> LoginError:
    """Return the error for what may work later."""
    return LoginError(step, f"{problem} ({rule}): try again later")
