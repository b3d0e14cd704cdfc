"""What the client raises besides RpcError, the error a server answers with."""


class ClientError(Exception):
    """The server could not be reached or understood. `status` is the HTTP status where that was the reason."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SessionLost(ClientError):
    """The server does not know the session any more (404, 2025-11-25 basic/transports). A new handshake helps."""


class NoAnswer(ClientError):
    """No answer came in time."""
