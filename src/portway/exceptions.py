"""The exceptions that authors raise or see: ToolError, ArgumentError, OutputError, ResourceNotFound, RegistrationError,
DownstreamError; SettingError of a process.
"""

from collections.abc import Sequence


class ToolError(Exception):
    """Raised by an author's function; the client gets its message unchanged."""


class RegistrationError(TypeError):
    """A function cannot be offered to clients. Raised at decoration; the text names function, parameter and fix."""


class ArgumentError(Exception):
    """The arguments of a call do not fit. The text is for the client; `problems` has one entry per fault."""

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(f"{summary}: {'; '.join(self.problems)}")


class OutputError(Exception):
    """A function's result cannot be sent or breaks its declared type. For the log only: it may show data."""


class ResourceNotFound(Exception):
    """Raised by a resource's function: nothing exists at the URI it was called for."""


class SettingError(ValueError):
    """An environment variable or an option cannot be used. The message says why and shows no secret."""


class DownstreamError(Exception):
    """Raised by `Context.token_for`: no token for another service could be obtained. The text is for the operator."""


class Suspended(BaseException):
    """Ends a run of a handler that waits for the client. No `Exception`, so that authors do not catch it by mistake."""

    def result(self, tail: bytes) -> bytes:
        """Return the JSON of the result that tells the client what is needed; raise RpcError to end the call."""
        raise NotImplementedError


def unwrapped(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException:
    """Return the first exception of `kinds` that an author's TaskGroups wrapped in `error`, or `error` itself."""
    found: BaseException | None = error.subgroup(kinds) if isinstance(error, BaseExceptionGroup) else None
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found or error
