"""What a client and the gate read in the header WWW-Authenticate."""

import pytest

from portway.auth.challenge import BearerChallenge, needed_scopes, read_challenge


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("", None),
        ("Basic realm=x", None),
        ("Bearer", BearerChallenge()),
        ('bearer scope="a b", error=insufficient_scope', BearerChallenge(scope="a b", error="insufficient_scope")),
        ('Basic realm="Bearer x", Bearer scope=a', BearerChallenge(scope="a")),
        ('Bearer resource_metadata="https://a/?b=\\"c,d", Digest scope="x"', BearerChallenge('https://a/?b="c,d')),
        ('Negotiate abc==, Bearer scope="s"', BearerChallenge(scope="s")),
        ('Bearer scope="first", scope="second"', BearerChallenge(scope="first")),
        ("Bearer " + "x" * 100_000, BearerChallenge()),
        ('Bearer scope="open, error=b', BearerChallenge()),
    ],
)
def test_a_challenge_is_found_among_others(header: str, read: BearerChallenge | None) -> None:
    assert read_challenge(header) == read


@pytest.mark.parametrize(
    ("header", "needed"),
    [
        (b'Bearer error="insufficient_scope", scope="a b"', ["a", "b"]),
        (b"Basic realm=x, Bearer scope=a, error=insufficient_scope", ["a"]),
        (b'Bearer error="invalid_token", scope="a"', []),
        (b'Bearer error="insufficient_scope"', []),
        (rb'Bearer error="insufficient_scope", scope="a\", resource_metadata=\"https://evil.example"', []),
        (b'Bearer error="insufficient_scope", scope="\xe4"', []),
    ],
)
def test_scopes_that_are_asked_for_are_told_on_if_they_are_scopes(header: bytes, needed: list[str]) -> None:
    assert needed_scopes(header) == needed


def test_a_header_of_separators_is_not_gone_through_for_each_of_them() -> None:
    for _ in range(100):  # by quadratic steps, this exceeds the time limit of a test
        assert read_challenge("Bearer " + " ," * 4000 + '"') == BearerChallenge()
