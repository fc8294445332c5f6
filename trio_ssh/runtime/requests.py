"""What the peer asks, carried out: one pump per channel that has requests, and one for the connection's.

Each request is answered before what it started runs, and in the order of arrival, as RFC 4254 wants; a pump ends when its queue is
empty.  A handler that fails has refused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.engine import Engine
from trio_ssh.runtime.handler import REFUSED, Answer, PeerHandler
from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.transport")

Ask = Callable[[str, bytes], Awaitable[Answer]]
Reply = Callable[[Answer, bool], None]


class RequestPump:
    """Answers requests one after the other, in a task that lives while there are any."""

    __slots__ = ("_ask", "_engine", "_is_running", "_reply", "_waiting")

    def __init__(self, engine: Engine, ask: Ask, reply: Reply) -> None:
        self._engine = engine
        self._ask = ask
        self._reply = reply
        self._waiting: deque[tuple[str, bool, bytes]] = deque()
        self._is_running = False

    def put(self, name: str, wants_reply: bool, details: bytes) -> None:
        """Queue a request; the core bounds how many there can be."""
        self._waiting.append((name, wants_reply, details))
        if not self._is_running:
            self._is_running = True
            self._engine.spawn(self._run, name="trio_ssh requests")

    async def _run(self) -> None:
        engine = self._engine
        while self._waiting:
            name, wants_reply, details = self._waiting.popleft()
            try:
                answer = await self._ask(name, details)
            except RemoteProtocolError:
                raise  # malformed details: the peer's mistake ends the connection
            except Exception:
                _log.exception("a handler failed to decide about the request %s: refused", printable(name, 64))
                answer = REFUSED
            if engine.is_over:
                return
            self._reply(answer, wants_reply)
            engine.flush()
            if answer.is_granted and answer.then is not None:
                engine.spawn(answer.then, name=f"trio_ssh {printable(name, 32)}")
        self._is_running = False


class PeerRequests:
    """Asks a handler about whatever the peer wants.

    Args:
        handler: decides.
        accept: takes a channel that nothing else serves; raises `trio.WouldBlock` where too many wait.
        forget: called with a channel that was refused.
    """

    def __init__(
        self,
        engine: Engine,
        handler: PeerHandler,
        accept: Callable[[Channel], None],
        forget: Callable[[Channel], None],
    ) -> None:
        self._engine = engine
        self._handler = handler
        self._accept = accept
        self._forget = forget
        self._global = RequestPump(engine, handler.global_requested, self._reply_global)

    def _reply_global(self, answer: Answer, wants_reply: bool) -> None:
        self._engine.core.mux.reply_global(
            is_success=answer.is_granted, wants_reply=wants_reply, details=answer.details
        )

    def global_request(self, name: str, wants_reply: bool, details: bytes) -> None:
        """The peer asks something of the connection."""
        self._global.put(name, wants_reply, details)

    def channel_request(self, channel: Channel, name: str, wants_reply: bool, details: bytes) -> None:
        """The peer asks something of a channel."""
        pump = channel.request_pump
        if not isinstance(pump, RequestPump):
            pump = channel.request_pump = self._pump_for(channel)
        pump.put(name, wants_reply, details)

    def _pump_for(self, channel: Channel) -> RequestPump:
        async def ask(name: str, details: bytes) -> Answer:
            return await self._handler.channel_requested(channel, name, details)

        def reply(answer: Answer, wants_reply: bool) -> None:
            self._engine.core.mux.reply(channel.core, is_success=answer.is_granted, wants_reply=wants_reply)

        return RequestPump(self._engine, ask, reply)

    def open_request(self, channel: Channel, details: bytes) -> None:
        """The peer wants a channel."""
        self._engine.spawn(lambda: self._decide(channel, details), name="trio_ssh channel open")

    async def _decide(self, channel: Channel, details: bytes) -> None:
        answer: Answer | OpenFailureReason
        try:
            answer = await self._handler.open_requested(channel, details)
        except RemoteProtocolError:
            raise
        except Exception:
            _log.exception("a handler failed to decide about a %s channel: refused", printable(channel.kind, 64))
            answer = OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if self._engine.is_over:
            return
        if isinstance(answer, Answer) and answer.is_granted:
            if answer.then is None:
                try:
                    self._accept(channel)
                except trio.WouldBlock:
                    self._refuse(channel, OpenFailureReason.RESOURCE_SHORTAGE)  # nobody accepts
                    return
            self._engine.core.confirm_open(channel.core)
            self._engine.flush()
            if answer.then is not None:
                await answer.then()
        elif isinstance(answer, OpenFailureReason):
            self._refuse(channel, answer)
        else:
            self._refuse(channel, OpenFailureReason.ADMINISTRATIVELY_PROHIBITED)

    def _refuse(self, channel: Channel, reason: OpenFailureReason) -> None:
        self._forget(channel)
        self._engine.core.refuse_open(channel.core, reason, reason.name.lower().replace("_", " "))
        self._engine.flush()
