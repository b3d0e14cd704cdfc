"""Registers known clients at a provider as they do themselves (RFC 7591), and deletes them again where the provider
offers that (RFC 7592).

It is asked for by `portway check URL --auth --register` alone, because what is registered may stay.
"""

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from portway.client.errors import Step
from portway.client.oauth.discovery import Provider
from portway.client.oauth.problem import read_problem
from portway.client.oauth.registration import registration
from portway.diagnosis.known_clients import LoginClient
from portway.diagnosis.stop import Stop
from portway.http.http_client import Headers
from portway.http.web_url import read_url
from portway.oauth.guarded_fetch import Answer, GuardedFetchError
from portway.protocol.jsonrpc import UNREADABLE

_RULE = "RFC 7591 section 3.2"
_PORT = "33419"  # stands for the free port that a client chooses


class RegistrationWeb(Protocol):
    """The part of the web at which clients are registered."""

    async def post_json(self, url: str, value: dict[str, object]) -> Answer:
        """POST JSON. Raises `GuardedFetchError`."""
        ...

    async def delete(self, url: str, headers: Headers) -> Answer:
        """DELETE a URL. Raises `GuardedFetchError`."""
        ...


class _Registered(msgspec.Struct):
    client_id: str
    redirect_uris: list[str] | None = None
    registration_client_uri: str = ""
    registration_access_token: str = ""


@dataclass(slots=True)
class TrialRegistrations:
    """Registers each set of callbacks once. `deleted` counts the clients that are gone again, `left` are the others."""

    web: RegistrationWeb
    deleted: int = 0
    left: list[str] = field(default_factory=list)
    _stops: dict[tuple[str, tuple[str, ...]], Stop | None] = field(default_factory=dict)

    async def stop_of(self, client: LoginClient, provider: Provider) -> Stop | None:
        """Register a client; return why it comes no further, None if it does."""
        key = (provider.registration_endpoint or "", client.callbacks)
        if key not in self._stops:
            self._stops[key] = await self._register(client, provider)
        return self._stops[key]

    async def _register(self, client: LoginClient, provider: Provider) -> Stop | None:
        endpoint = provider.registration_endpoint or ""
        callbacks = [callback.replace("PORT", _PORT) for callback in client.callbacks]
        wanted = registration(f"{client.name} (a check by Portway)", callbacks, provider)
        if all(callback.startswith("https:") for callback in callbacks):
            wanted["application_type"] = "web"
        try:
            answer = await self.web.post_json(endpoint, wanted)
        except GuardedFetchError as error:
            return Stop(Step.REGISTRATION, _RULE, str(error), "let it answer: clients give up here")
        if answer.status not in (200, 201):
            text = f"{endpoint} answers with status {answer.status}{read_problem(answer.body)}"
            return self._refused(client, text)
        try:
            found = msgspec.json.decode(answer.body, type=_Registered)
        except UNREADABLE:
            text = f"{endpoint} registers a client without an id"
            return Stop(Step.REGISTRATION, _RULE, text, "let it answer as the RFC says")
        await self._delete(endpoint, found)
        kept = callbacks if found.redirect_uris is None else found.redirect_uris
        if missing := [callback for callback in callbacks if callback not in kept]:
            return self._refused(client, f"{endpoint} registers the client without {' and '.join(missing)}")
        return None

    def _refused(self, client: LoginClient, text: str) -> Stop:
        mend = f"let it register a client with the callback {' and '.join(client.callbacks)}"
        if client.takes_id:
            mend += ", or register the client there, and give the id to its users"
        return Stop(Step.REGISTRATION, _RULE, text, mend)

    async def _delete(self, endpoint: str, registered: _Registered) -> None:
        """Delete a client again (RFC 7592 section 2.3), at no other origin than where it was registered."""
        place, token = registered.registration_client_uri, registered.registration_access_token
        try:
            if place and token and read_url(place).origin == read_url(endpoint).origin:
                answer = await self.web.delete(place, [(b"authorization", f"Bearer {token}".encode())])
                if answer.status in (200, 204):
                    self.deleted += 1
                    return
        except (GuardedFetchError, ValueError):
            pass  # what cannot be deleted is told
        self.left.append(registered.client_id[:100])
