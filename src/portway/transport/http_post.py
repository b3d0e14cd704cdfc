"""Answers a POST to the MCP endpoint: a call, `initialize`, a notification, an answer or a batch, in either era; a
missing or unknown session id is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from portway.auth.principal import Principal
from portway.protocol.batch import BATCH_VERSION, is_batch, join, split
from portway.protocol.capabilities import declared
from portway.protocol.era import classify
from portway.protocol.errors import INVALID_REQUEST, REFUSED, RpcError
from portway.protocol.headers import SESSION, VERSION, verify
from portway.protocol.jsonrpc import Message, UnreadableMessage, decode, encode_error
from portway.protocol.versions import LATEST_MODERN, Era, negotiate
from portway.sessions.exchange import Exchange
from portway.sessions.subscription import LISTEN
from portway.transport.concurrency_limits import Caller, LoopState
from portway.transport.http_reply import Reply
from portway.transport.listen_streams import listen

if TYPE_CHECKING:
    from portway.server.dispatcher import Dispatcher
    from portway.sessions.http_sessions import HttpSession, Sessions

_UNSAID = "2025-03-26"
"""The revision of a legacy client that sends none (2025-11-25, basic/transports, "Protocol Version Header")."""
_log = logging.getLogger("portway.transport")

Fields = Mapping[bytes, bytes]


class Post(msgspec.Struct, gc=False):
    """One POST: what came, from whom by which token, where its reply goes, and the state of its event loop."""

    body: bytes
    fields: Fields
    principal: Principal
    token: str | None
    caller: Caller
    reply: Reply
    loop: LoopState

    def __repr__(self) -> str:
        """Leave out the caller's token."""
        return "<Post>"


class Endpoint:
    """Answers POSTs. `sessions` is None for a server that gives its legacy clients none."""

    def __init__(self, dispatcher: Dispatcher, sessions: Sessions | None) -> None:
        self._dispatcher = dispatcher
        self._sessions = sessions
        self._needs_session = dispatcher.server.sessions is True
        self._told_of_keys = dispatcher.keys.shared

    def session(self, fields: Fields, principal: Principal, *, needed: bool) -> HttpSession | None:
        """Return the session a legacy request names, None where it names none and need not.

        Raises RpcError: 400 without the header, 404 for an id that is not a live session of this caller's.
        """
        if SESSION not in fields or self._sessions is None:
            if needed:
                text = "This needs a session: send the Mcp-Session-Id header that came with the reply to initialize."
                raise RpcError(REFUSED, text, status=400)
            return None
        session = self._sessions.find(_session_id(fields), principal)
        if session is None:
            raise RpcError(REFUSED, "The session has ended or is unknown: initialize a new one.", status=404)
        return session

    async def answer(self, post: Post) -> None:
        """Answer one POST."""
        body, fields, reply = post.body, post.fields, post.reply
        version_field = fields.get(VERSION)
        version = None if version_field is None else version_field.decode("latin-1").strip(" \t")
        try:
            message = decode(body)
        except UnreadableMessage as error:
            if is_batch(body) and version in (None, BATCH_VERSION):
                await self._answer_batch(post, error)
            else:
                session = None if self._sessions is None else self._sessions.find(_session_id(fields), post.principal)
                if session is not None:
                    session.questions.spoil(error.request_id)
                await reply.finish(error.status_under(version_field), encode_error(error.request_id, error))
            return
        era = classify(message, version)
        try:
            if era is Era.LEGACY:
                await self._answer_legacy(post, message, version)
            elif message.method is UNSET or message.id is UNSET:
                if message.method is UNSET:
                    raise RpcError(INVALID_REQUEST, f"A client sends no responses in {LATEST_MODERN}.")
                await reply.accept()
            else:
                verify(message, fields)
                assert version is not None  # verified to be that of the body
                exchange = Exchange(message, era, post.principal, reply, body, version, None, fields, post.caller)
                if message.method == LISTEN:
                    await self._listen(post, exchange)
                else:
                    await reply.run(self._dispatcher, exchange, post.caller, post.loop)
        except RpcError as error:
            await reply.fail(message, era, error)

    async def _listen(self, post: Post, exchange: Exchange) -> None:
        with post.loop.streams.held(post.caller):
            if not post.reply.accepts_events:
                text = "The Accept header must allow text/event-stream: subscriptions/listen is answered by one."
                raise RpcError(REFUSED, text, status=406)
            subscription = self._dispatcher.subscribe(post.loop.bus, exchange)
            with post.loop.tokens.watched(post.token, post.principal, subscription.close):
                await listen(subscription, post.reply)

    async def _answer_legacy(self, post: Post, message: Message, version: str | None) -> None:
        principal, reply = post.principal, post.reply
        if message.method == "initialize" and message.id is not UNSET:
            await self._initialize(post, message)
            return
        session = None
        if self._sessions is not None:
            session = self.session(post.fields, principal, needed=self._needs_session)
        if message.method is UNSET or message.id is UNSET:
            _heed(message, session)
            await reply.accept()
        else:
            version = (version or _UNSAID) if session is None else session.version
            exchange = Exchange(
                message, Era.LEGACY, principal, reply, post.body, version, session, post.fields, post.caller
            )
            reply.session = session
            await reply.run(self._dispatcher, exchange, post.caller, post.loop)

    async def _initialize(self, post: Post, message: Message) -> None:
        """Answer `initialize`: it gets a new session, even if it names one."""
        version, session = _UNSAID, None
        if message.params is not UNSET and message.params.version is not UNSET:  # or else the dispatcher refuses
            version = negotiate(message.params.version)
            if self._sessions is not None:
                session = self._sessions.mint(post.principal, version, declared(post.body))
                post.reply.name(session)
                if not self._told_of_keys:
                    self._told_of_keys = True
                    _log.info("PORTWAY_KEYS is not set: sessions, cursors and questions end with this process")
        exchange = Exchange(
            message, Era.LEGACY, post.principal, post.reply, post.body, version, session, post.fields, post.caller
        )
        await post.reply.run(self._dispatcher, exchange, post.caller, post.loop)

    async def _answer_batch(self, post: Post, unreadable: UnreadableMessage) -> None:
        """Answer a batch, which 2025-03-26 obliges a server to receive; its requests are answered in order."""
        reply, replies = post.reply, list[bytes]()
        try:
            session = self.session(post.fields, post.principal, needed=self._needs_session)
            if session is not None and session.version != BATCH_VERSION:
                raise unreadable
            parts = split(post.body)
            self._dispatcher.authorize_batch(post.principal, parts)
            reply.session = session
            reply.begin(_requests(parts), Era.LEGACY, post.caller, post.loop)
            try:
                for part, message in parts:
                    answer = await self._answer_part(post, part, message, session)
                    if answer is not None:
                        replies.append(answer)
            finally:
                reply.end()
        except RpcError as error:
            await reply.finish(error.status, encode_error(None, error), *reply.headers_of(error))
            return
        await reply.finish(200, join(replies)) if replies else await reply.accept()

    async def _answer_part(
        self, post: Post, part: bytes, message: Message | UnreadableMessage, session: HttpSession | None
    ) -> bytes | None:
        if isinstance(message, UnreadableMessage):
            return encode_error(message.request_id, message)
        if message.method is UNSET or message.id is UNSET:
            try:
                _heed(message, session)
            except RpcError as fault:
                return encode_error(None, fault)
            return None
        exchange = Exchange(
            message, Era.LEGACY, post.principal, post.reply, part, BATCH_VERSION, session, post.fields, post.caller
        )
        try:
            return await post.reply.answer(self._dispatcher, exchange)
        except RpcError as fault:
            return encode_error(message.id, fault)


def _requests(parts: Iterable[tuple[bytes, Message | UnreadableMessage]]) -> tuple[int | str, ...]:
    """Return the ids of the requests of a batch."""
    messages = [message for _, message in parts if not isinstance(message, UnreadableMessage)]
    return tuple(message.id for message in messages if message.method is not UNSET and message.id is not UNSET)


def _session_id(fields: Fields) -> str:
    return fields.get(SESSION, b"").decode("latin-1")


def _heed(message: Message, session: HttpSession | None) -> None:
    """Act on a legacy notification or answer. Raises RpcError (400) for an answer without a session."""
    if message.method is UNSET:
        if session is None:
            text = "No question waits for this answer: without the Mcp-Session-Id header nothing is asked."
            raise RpcError(REFUSED, text, status=400)
        session.answer(message)
    elif message.method == "notifications/cancelled" and session is not None and message.params is not UNSET:
        session.cancel(message.params.request_id)
