"""Reads .env files as python-dotenv does, but for `${…}`, which stays as it is."""

import io

from dotenv.parser import parse_stream

from portway.host.secrets.variables import VariableError


def read_dotenv(text: str) -> dict[str, str]:
    """Return the variables of a file; of a name that is there twice, the last. Raises `VariableError` with the line."""
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text.removeprefix("\ufeff"))):
        if binding.error or (binding.key is not None and binding.value is None):
            raise VariableError(f"line {binding.original.line} is not NAME=VALUE")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values
