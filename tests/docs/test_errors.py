"""Every error text that a user can see is in docs/, exists as written there, and is asserted by some test."""

from __future__ import annotations

import functools
import re
from collections import Counter

from tests.docs.error_texts import SENDERS, Error, asserted, documented, errors

PARTS = {
    # Texts that fill the `…` of another text and have no row of their own: part -> that text.
    "it answered with what is not JSON-RPC": "The app … did not answer properly: ….",
    "it answered with what is not the reply to this request": "The app … did not answer properly: ….",
    "it answers initialize with status …": "The app … did not answer properly: ….",
    "it did not open the session again in time": "The app … did not answer properly: ….",
    "an entry of its list has no name": "The app … did not answer properly: ….",
    "it sent no reply": "The app … did not answer properly: ….",
    "its stream ended without the reply": "The app … did not answer properly: ….",
    "a server-sent event is larger than … bytes": "the server's answer to …: …",
    "HTTPS_PROXY is no URL as in http://proxy.example.com:3128": "cannot connect to …: …",
    "HTTPS_PROXY is no http:// URL, and other proxies are not supported": "cannot connect to …: …",
    "the proxy of HTTPS_PROXY answers with status …": "cannot connect to …: …",
    "the proxy of HTTPS_PROXY cannot be reached: …": "cannot connect to …: …",
    "the proxy of HTTPS_PROXY does not answer properly": "cannot connect to …: …",
    "the proxy of HTTPS_PROXY has no address": "cannot connect to …: …",
    "there is more than one": "the reply is not valid HTTP: …",
    "status … was not asked for": "the reply is not valid HTTP: …",
    "its transfer coding is unknown": "the reply is not valid HTTP: …",
    "its head is too large": "the reply is not valid HTTP: …",
    "a value of type …": "… returned what JSON cannot express: …",
    "a newer Portway wrote it; upgrade portway, or choose another --data": "the database … cannot be used: …",
    "the gate before this one does not retire: …": "the gate cannot start: …",
    "… has ended; the log of `portway up` says why": "the version before goes on: …",
    "… does not answer": "the version before goes on: …",
    "calls from before the last upgrade go on: try again when they have ended": "the version before goes on: …",
    "the request of `portway upgrade` cannot be read": "the version before goes on: …",
    "an object in them has two members of one name": "… may not be called with these arguments: …",
    "no URL as in https://example.com/path": "… is not fetched: it is ….",
    "no URL with the name or the address of a host": "… is not fetched: it is ….",
    "the method or the name of a header is none of HTTP": "… could not be fetched: ….",
    "the value of a header has a character that HTTP has not: encode it, as in %D1%8B": "… could not be fetched: ….",
    "… does not answer with such metadata": "… has no metadata: …; ask who runs the server whether it names the "
    "right provider",
    "RFC 6749 section 3.2": "… (…): try again later",
    "RFC 7591 section 3": "… (…): try again later",
    "the form is malformed: …": "not answered: …",
    "the question is longer than the … characters that are shown": "not answered: …",
    "a question of the kind … is not known": "not answered: …",
    "the page to visit has no http URL": "not answered: …",
    "--yes only agrees to confirmations: run this on a terminal, where you are asked": "not answered: …",
    "no room for all of it": "the call record cannot be written (…); calls are refused until it can",
}
INTERNAL = {
    # Texts that no user sees: text -> reason.
    "… asks for the scopes …": "becomes a login, or the error that asks for one",
    "… ends the login… (RFC 6749 section 5.2): log in again": "becomes a login, or the error that asks for one",
    "the link of … failed": "a fault of Portway's own",
    "the request was given up": "ends a connection that nobody uses any more",
    "The client has left.": "is for a client that is not there",
    "the client was closed": "ends a connection nobody waits on",
    "it was idle for too long": "ends a connection nobody waits on",
    "the peer spoke out of turn": "ends a connection nobody waits on",
    "the target or a header holds a line break, a NUL or a space where HTTP has none": "callers check before",
    "an event's data is one line": "a fault of Portway's own",
    "the event stream is closed": "a fault of Portway's own",
    "…: …": "passes another error on",
    "version … takes over": "no error",
    "next gate": "the name of a process",
    "hosts of …: …": "passes another error on",
    "PORTWAY_ALLOWED_ORIGINS: …": "passes another error on",
    "portway: …": "passes another error on",
    "portway: caddy: …": "passes another error on",
    "portway: caddy: and … more": "passes other errors on",
    "HTTP/1.1 100 Continue\r\n\r\n": "no error",
    "portway: … on … (…: …)": "says where a server listens",
    "portway: callers log in at …": "says where callers log in",
}
FAULTS = {
    # Exceptions for programmers, not for users; a page may list them nevertheless.
    "RuntimeError": "a fault of Portway's own, or of an ASGI application",
    "AttributeError": "Python's own answer to a misspelt import",
}
UNPROVOKED = {
    "pattern of …: matching needs google-re2; install it by pip install 'portway[patterns]'": "it is installed here",
    "… could not be started beside the old instance: …": "its socket is removed and its program fails at once",
    # Texts that no test here can provoke: text -> reason.
    "… port … needs privileges: run `sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80` once, install the host "
    "with `portway up --install --system`, or give … one above 1023": "the tests may run as root",
    "… port … cannot be opened: …": "a machine without a network",
    "Port … needs privileges. Choose one above 1023 with --port or PORT.": "the tests may run as root",
    "Unix sockets are not supported on Windows. Use --host and --port.": "Windows",
    "several workers need a system that can fork; leave --workers out": "Windows",
    "The server failed to answer; its log has the cause.": "a fault of Portway's own",
    "request failed": "a fault of Portway's own",
    "the host could not start": "a fault of Portway's own",
    "the host failed; the log of `portway up` says how": "a fault of Portway's own, or a full disk",
    "the gate's table could not be written, trying again: …": "a full disk",
    "… has … tools that are switched off: no more can be": "a thousand tools",
    "could not … within … s:…": "takes a minute",
    "… did not answer within … s": "takes ten seconds",
    "the smoke call of … took longer than … s": "takes a minute",
    "… ended (…), as often before; it is restarted in … s": "takes more than a minute",
    "… was running but is restarted: …": "an instance that hangs just as control comes back",
    "git on this host is too old to fetch safely: install 2.37 or later": "an older git",
    "… is larger than … MB with its history: make it smaller": "256 MB",
    "… was not fetched within … s: try again, or make it smaller": "takes twenty seconds",
    "the disk of … has no room for the backup: make some": "a full disk",
    "… is where a disk is mounted: give --data a directory in it": "a mount needs root",
    "the host does not take the request: look at the log of `portway up`": "takes twenty seconds",
    "the version before cannot be started: …": "its environment is removed during an upgrade that fails",
    "… was not run: nobody confirmed it within … seconds.": "takes four minutes",
    "the gate does not answer: try again in a few seconds": "a gate that is being started just then",
    "the deploy was cancelled": "its asker has left, and is not told",
}


def is_documented(error: Error) -> bool:
    """Return whether a page has the text, by itself or within a longer one."""
    if error.carrier in FAULTS or error.text in PARTS or error.text in INTERNAL or not re.search(r"\w{2}", error.text):
        return True
    return any(error.is_written(text) or error.text in text for text in documented())


def test_every_error_of_the_source_is_documented() -> None:
    assert [f"{error.place}: {error.text}" for error in errors() if not is_documented(error)] == []


def test_every_documented_error_exists_as_it_is_written() -> None:
    known = [error for error in errors() if error.text not in INTERNAL]
    assert [text for text in documented() if not any(error.is_written(text) for error in known)] == []


def test_no_error_is_documented_twice() -> None:
    assert [text for text, count in Counter(documented()).items() if count > 1] == []


def test_the_lists_of_parts_and_internal_errors_hold_nothing_that_is_gone() -> None:
    texts = {error.text for error in errors()}
    assert {*PARTS, *INTERNAL} - texts == set()
    assert set(PARTS.values()) - set(documented()) == set()


def test_every_listed_sender_of_error_texts_is_called_with_one() -> None:
    assert SENDERS - {error.carrier for error in errors()} == set()


def fragments(text: str) -> set[str]:
    """Return every run of 14 characters of the constant parts of a text."""
    parts = (part.strip() for part in text.split("…"))
    return {part[at : at + 14] for part in parts for at in range(max(1, len(part) - 13)) if len(part) >= 7}


def shares_most_words(text: str, string: str) -> bool:
    """Return whether most words of a test's string are in an error text."""
    words = string.split()
    return sum(word in text for word in words) * 5 >= len(words) * 3


def sharing(named: set[str]) -> set[str]:
    """Return the documented errors of which a test's string has a part unique to it, and most words."""
    counted = Counter(fragment for text in documented() for fragment in fragments(text))
    owners = {part: text for text in documented() for part in fragments(text) if counted[part] == 1}
    short = [part for part in owners if len(part) < 14]
    found = set()
    for string in named:
        parts = {string[at : at + 14] for at in range(len(string) - 13)} | {part for part in short if part in string}
        found |= {owners[part] for part in parts & owners.keys() if shares_most_words(owners[part], string)}
    return found


@functools.cache
def unasserted() -> set[str]:
    """Return the documented errors of which no test contains the text or a part unique to it."""
    found = set()
    named = asserted()
    patterns = {text: re.compile(re.escape(text).replace("…", ".+"), re.DOTALL) for text in documented()}
    for text in patterns.keys() - named - sharing(named):
        whole = (string for string in named if patterns[text].fullmatch(string))
        if not any(sum(other.fullmatch(string) is not None for other in patterns.values()) == 1 for string in whole):
            found.add(text)
    return found


def test_every_documented_error_is_asserted_by_a_test() -> None:
    assert unasserted() - {*UNPROVOKED} == set()


def test_every_error_listed_as_not_provoked_is_documented_and_not_asserted() -> None:
    assert {*UNPROVOKED} - unasserted() == set()
