"""The exceptions an author meets: one he raises, three he may see."""

from collections.abc import Sequence


class ToolError(Exception):
    """Raised by an author's function: its message goes to the client as it is."""


class RegistrationError(TypeError):
    """A function that cannot be offered to clients; raised at decoration, naming function, parameter and mend."""


class ArgumentError(Exception):
    """The arguments of one call do not fit; the text is for the client, `problems` has one entry for each fault."""

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(f"{summary}: {'; '.join(self.problems)}")


class OutputError(Exception):
    """A function's result cannot be sent or breaks its declared type. For the log: it may show the author's data."""


class ResourceNotFound(Exception):
    """Raised by a resource's function: there is nothing at the URI it was called for."""


class Suspended(BaseException):
    """Ends a run of a handler that waits for the client; no `except Exception` of an author's may take it."""

    def result(self, tail: bytes) -> bytes:
        """The JSON of the result that says what is waited for; may raise RpcError instead."""
        raise NotImplementedError


def suspension(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The Suspended that an author's TaskGroup wrapped, or else the group itself."""
    found: BaseException | None = group.subgroup(Suspended)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found or group
