"""Every error a user can meet is in docs/ by its exact text, exists as written there, and is asserted by some test."""

from __future__ import annotations

import re

import pytest

from tests.docs.error_texts import Error, asserted, documented, errors

PARTS = {
    # What stands in for `…` in another text, and has no row of its own: part -> that text.
    "it answered with what is not JSON-RPC": "The app … did not answer properly: ….",
    "it answered with what is not the reply to this request": "The app … did not answer properly: ….",
    "it sent no reply": "The app … did not answer properly: ….",
    "its stream ended without the reply": "The app … did not answer properly: ….",
    "a server-sent event is larger than … bytes": "the server's answer to …: …",
    "there is more than one": "the reply is not valid HTTP: …",
    "status … was not asked for": "the reply is not valid HTTP: …",
    "its transfer coding is unknown": "the reply is not valid HTTP: …",
    "its head is too large": "the reply is not valid HTTP: …",
    "a value of type …": "… returned what JSON cannot express: …",
    "no room for all of it": "the call record cannot be written (…); calls are refused until it can",
}
INTERNAL = {
    # What no user meets: text -> why.
    "module 'portway' has no attribute …": "Python's own answer to a misspelt import",
    "the request was given up": "ends a connection whose user has left",
    "the client was closed": "ends a connection nobody waits on",
    "it was idle for too long": "ends a connection nobody waits on",
    "the target or a header holds a line break, a NUL or a space where HTTP has none": "callers check before",
    "an event's data is one line": "a fault of Portway's own",
    "the event stream is closed": "a fault of Portway's own",
    "the thread pool is closed": "a fault of Portway's own",
    "the thread pool serves another event loop": "a fault of Portway's own",
}
ERRORS = errors()
DOCUMENTED = documented()
ASSERTED = asserted()


def constant(text: str) -> str:
    return "".join(re.split(r"[…\s]+", text))


def fragments(text: str) -> list[str]:
    return [part.strip() for part in text.split("…") if len(part.strip()) >= 8 and " " in part.strip()]


def is_documented(error: Error) -> bool:
    """Whether a page has it, by itself or within the sentence it becomes part of; bare placeholders are no text."""
    if len(constant(error.text)) < 10 or error.text in PARTS or error.text in INTERNAL:
        return True
    return any(error.is_written(text) or error.text in text for text in DOCUMENTED)


def test_every_error_of_the_source_is_documented() -> None:
    assert [f"{error.place}: {error.text}" for error in ERRORS if not is_documented(error)] == []


def test_every_documented_error_exists_as_it_is_written() -> None:
    wordy = [error for error in ERRORS if len(constant(error.text)) >= 10]
    assert [text for text in DOCUMENTED if not any(error.is_written(text) for error in wordy)] == []


def test_the_lists_of_parts_and_internal_errors_hold_nothing_that_is_gone() -> None:
    texts = {error.text for error in ERRORS}
    assert {*PARTS, *INTERNAL} - texts == set()
    assert set(PARTS.values()) - set(DOCUMENTED) == set()


def is_asserted(text: str) -> bool:
    """Whether a test names it: by a part that no other error has, or by the whole, filled in."""
    whole = re.compile(re.escape(text).replace("…", ".+?"), re.DOTALL)
    parts = fragments(text) or [text]
    for said in ASSERTED:
        if whole.search(said) or any(part in said for part in parts):
            return True
        if len(said) >= 8 and any(said in part for part in parts):
            if sum(said in other for other in DOCUMENTED) == 1:
                return True
    return False


@pytest.mark.parametrize("text", DOCUMENTED)
def test_a_documented_error_is_asserted_by_a_test(text: str) -> None:
    assert is_asserted(text)
