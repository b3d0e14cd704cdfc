"""The tokens of PORTWAY_TOKENS: whom each one names, and what is refused."""

import asyncio

import pytest

from portway.auth.principal import Principal
from portway.auth.tokens import NamedTokens
from portway.exceptions import SettingError


def test_every_entry_names_a_caller_with_its_scopes() -> None:
    tokens = NamedTokens(" ada:one:read+write+ , ,bob:two:,eve:three,")
    callers = [asyncio.run(tokens.verify(token)) for token in ("one", "two", "three", "four", "")]
    assert callers == [
        Principal("portway", "ada", "ada", frozenset({"read", "write"})),
        Principal("portway", "bob", "bob"),
        Principal("portway", "eve", "eve"),
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("planted", "is not name:token"),
        (":planted", "is not name:token"),
        ("name:", "is not name:token"),
        ("name::planted", "is not name:token"),
        ("name:plant ed", "has a token no header can carry"),
        ("name:plant\x7fed", "has a token no header can carry"),
        ("name:plant\u00e9d", "has a token no header can carry"),
        ("name:one", "repeats the token of an earlier one"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused_by_its_number_without_its_token(entry: str, fault: str) -> None:
    with pytest.raises(SettingError, match=f"^PORTWAY_TOKENS entry 2 {fault}") as refused:
        NamedTokens(f"ada:one,{entry}")
    assert "planted" not in str(refused.value)
