"""Verifies and reads the webhooks of GitHub, GitLab and Bitbucket: signature, event, branch."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

_HEADS = "refs/heads/"
_EVENTS = (b"x-github-event", b"x-gitlab-event", b"x-event-key")
_DELIVERIES = (b"x-github-delivery", b"x-gitlab-event-uuid", b"idempotency-key", b"x-request-uuid")
_PUSHES = ("push", "Push Hook", "repo:push")
_SIGNATURE = re.compile(rb"sha256=[0-9a-f]{64}")
_FORM = b"application/x-www-form-urlencoded"


class BadHook(Exception):
    """The body of a genuine hook cannot be read; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that a hook tells of: the path of the repository, and the branches that it moved."""

    repository: str
    branches: list[str]


class _Repository(msgspec.Struct):
    full_name: str = ""
    path_with_namespace: str = ""


class _New(msgspec.Struct):
    type: str = ""
    name: str = ""


class _Change(msgspec.Struct):
    new: _New | None = None


class _Changes(msgspec.Struct):
    changes: list[_Change] = []


class _Push(msgspec.Struct):
    """What is read of a push: GitHub's and GitLab's has a `ref`, Bitbucket's has changes in `push`."""

    ref: str = ""
    after: str = ""
    deleted: bool = False
    repository: _Repository | None = None
    project: _Repository | None = None
    push: _Changes | None = None


def may_be_genuine(secret: str, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether the headers alone leave it possible that the sender knows the secret."""
    if token := headers.get(b"x-gitlab-token"):
        return hmac.compare_digest(token, secret.encode())
    return _SIGNATURE.fullmatch(_signature(headers)) is not None


def is_genuine(secret: str, headers: Mapping[bytes, bytes], body: bytes) -> bool:
    """Return whether the sender knows the secret, in the form of the provider that the headers name."""
    if headers.get(b"x-gitlab-token"):
        return may_be_genuine(secret, headers)
    made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(_signature(headers), b"sha256=" + made.encode())


def _signature(headers: Mapping[bytes, bytes]) -> bytes:
    return headers.get(b"x-hub-signature-256") or headers.get(b"x-hub-signature", b"")


def event_of(headers: Mapping[bytes, bytes]) -> str:
    """Return what the hook is about, in its provider's words, "" for none."""
    return next((headers[name].decode("latin-1") for name in _EVENTS if name in headers), "")


def delivery_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the id by which the provider tells one delivery from the others, b"" for none."""
    return next((headers[name] for name in _DELIVERIES if name in headers), b"")


def is_push(event: str) -> bool:
    return event in _PUSHES


def read_push(headers: Mapping[bytes, bytes], body: bytes) -> Pushed:
    """Return the push that a hook tells of; a deleted branch and a tag are left out. Raises `BadHook`."""
    try:
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == _FORM:
            body = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"][0].encode()
        push = msgspec.json.decode(body, type=_Push)
    except (ValueError, KeyError, RecursionError):  # msgspec's errors are ValueErrors
        raise BadHook("the body is no push as GitHub, GitLab or Bitbucket sends it: choose JSON there") from None
    repository = push.project or push.repository or _Repository()
    branches = [
        change.new.name for change in (push.push or _Changes()).changes if change.new and change.new.type == "branch"
    ]
    if push.ref.startswith(_HEADS) and not push.deleted and push.after.strip("0"):
        branches.append(push.ref.removeprefix(_HEADS))
    return Pushed(repository.path_with_namespace or repository.full_name, branches)
