"""What the peer asks, carried out: one pump per channel that has requests, and one for the connection's.

Each request is answered before what it started runs, and in the order of arrival, as RFC 4254 wants; a pump ends when
its queue is empty.  A handler that fails has refused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import trio

from trio_ssh.core.limits import Limits
from trio_ssh.core.questions import AllowedAuths, Question
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.runtime.block import RAISED, is_failure, leaves
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.engine import Engine
from trio_ssh.runtime.handler import REFUSED, Answer, PeerHandler
from trio_ssh.runtime.waiting import MaybeAwaitable, resolved
from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.transport")

T = TypeVar("T")

_PROHIBITED: OpenFailureReason | Answer = OpenFailureReason.ADMINISTRATIVELY_PROHIBITED

Decide = Callable[[str, bytes], MaybeAwaitable[Answer]]
Tell = Callable[[Answer, bool], None]


#: Who is asked when a connection is closed.
_NOBODY: Final = PeerHandler()


def _ignore(_: Channel) -> None:
    """Take note of a channel of a connection that is closed."""


class RequestPump:
    """Answers requests one after the other: at once where the handler does, else in a task that lives meanwhile."""

    __slots__ = ("_decide", "_engine", "_is_running", "_tell", "_waiting")

    def __init__(self, engine: Engine, decide: Decide, tell: Tell) -> None:
        self._engine = engine
        self._decide = decide
        self._tell = tell
        self._waiting: deque[tuple[str, bool, bytes]] = deque()
        self._is_running = False

    def put(self, name: str, wants_reply: bool, details: bytes) -> None:
        """Answer a request, or queue it; the core bounds how many there can be."""
        if self._is_running:
            self._waiting.append((name, wants_reply, details))
            return
        answer = _attempt(self._engine, name, lambda: self._decide(name, details), REFUSED)
        if isinstance(answer, Answer):
            self._carry_out(name, wants_reply, answer)
        else:
            self._is_running = True
            self._engine.spawn(lambda: self._run(name, wants_reply, answer), name="trio_ssh requests")

    async def _run(self, name: str, wants_reply: bool, answer: MaybeAwaitable[Answer]) -> None:
        """Decide about one request in a task, and about those that came meanwhile."""
        while True:
            self._carry_out(name, wants_reply, await _decided(name, answer, REFUSED))
            self._engine.flush_now()
            if not self._waiting or self._engine.is_over:
                break
            name, wants_reply, details = self._waiting.popleft()
            answer = _attempt(self._engine, name, partial(self._decide, name, details), REFUSED)
        self._is_running = False

    def _carry_out(self, name: str, wants_reply: bool, answer: Answer) -> None:
        engine = self._engine
        if engine.is_over:
            return
        self._tell(answer, wants_reply)
        if answer.is_granted and answer.then is not None:
            engine.spawn(answer.then, name="trio_ssh session")
            engine.hold_back()


def _attempt(engine: Engine, what: str, decide: Callable[[], MaybeAwaitable[T]], refusal: T) -> MaybeAwaitable[T]:
    """Ask a handler from the middle of a read, where nothing may be raised."""
    try:
        return decide()
    except RemoteProtocolError as error:
        engine.fail(error)  # malformed details: the peer's mistake ends the connection
    except RAISED as error:
        if not is_failure(error):
            raise
        _log.exception("a handler failed to decide about %s: refused", printable(what, 64))
    return refusal


async def _decided(what: str, decision: MaybeAwaitable[T], refusal: T) -> T:
    try:
        return await resolved(decision)
    except RemoteProtocolError:
        raise
    except RAISED as error:
        if not is_failure(error):
            raise
        _log.exception("a handler failed to decide about %s: refused", printable(what, 64))
        return refusal


class PeerRequests:
    """Asks a handler about whatever the peer wants.

    Args:
        handler: decides.
        limits: for the time that a refusal takes.
        accept: takes a channel that nothing else serves; raises `trio.WouldBlock` where too many wait.
        forget: called with a channel that was refused.

    Attributes:
        handler: that.
        served: channels that were asked for here: kind -> what serves them.
        deciding: who decides about channels of a kind in the handler's place.
    """

    def __init__(
        self,
        engine: Engine,
        handler: PeerHandler,
        limits: Limits,
        accept: Callable[[Channel], None],
        forget: Callable[[Channel], None],
    ) -> None:
        self._engine = engine
        self.handler: PeerHandler = handler
        self._limits = limits
        self._accept = accept
        self._forget = forget
        self.served: dict[str, Callable[[Channel], Awaitable[None]]] = {}
        self.deciding: dict[str, PeerHandler] = {}
        #: Most peers ask nothing of the connection.
        self._global: RequestPump | None = None

    def detach(self) -> None:
        """Ask nobody any more, and hold nobody: the connection is closed."""
        self.handler = _NOBODY
        self._accept = self._forget = _ignore
        self.served.clear()
        self.deciding.clear()
        self._global = None

    def question(self, question: Question) -> None:
        """Server: a request to authenticate has to be decided."""
        # Both names are the same: the check below would leave the first with a type that is half unknown.
        answer = decision = self.handler.answer_question(question)
        if isinstance(answer, Awaitable) or self._is_slowed(question):
            self._engine.spawn(lambda: self._answer_later(question, decision), name="trio_ssh authentication")
        else:
            self._engine.answer(answer)

    async def _answer_later(self, question: Question, decision: MaybeAwaitable[object]) -> None:
        answer = await resolved(decision)
        if self._is_slowed(question):
            # Whether the user exists, and where a check gave up, must not be read off the clock.
            await trio.sleep_until(self._engine.read_at + self._limits.auth_failure_seconds)
        self._engine.answer(answer)
        self._engine.flush_now()

    @staticmethod
    def _is_slowed(question: Question) -> bool:
        return isinstance(question, AllowedAuths) and question.is_after_failure

    def _reply_global(self, answer: Answer, wants_reply: bool) -> None:
        self._engine.core.mux.reply_global(
            is_success=answer.is_granted, wants_reply=wants_reply, details=answer.details
        )

    def global_request(self, name: str, wants_reply: bool, details: bytes) -> None:
        """The peer asks something of the connection."""
        if self._global is None:
            self._global = RequestPump(self._engine, self.handler.global_requested, self._reply_global)
        self._global.put(name, wants_reply, details)

    def channel_request(self, channel: Channel, name: str, wants_reply: bool, details: bytes) -> None:
        """The peer asks something of a channel."""
        pump = channel.request_pump
        if not isinstance(pump, RequestPump):
            pump = channel.request_pump = self._pump_for(channel)
        pump.put(name, wants_reply, details)

    def _pump_for(self, channel: Channel) -> RequestPump:
        def ask(name: str, details: bytes) -> MaybeAwaitable[Answer]:
            return self.handler.channel_requested(channel, name, details)

        def reply(answer: Answer, wants_reply: bool) -> None:
            self._engine.core.mux.reply(channel.core, is_success=answer.is_granted, wants_reply=wants_reply)

        return RequestPump(self._engine, ask, reply)

    def open_request(self, channel: Channel, details: bytes) -> None:
        """The peer wants a channel."""
        if channel.kind in self.served:
            serve = self.served[channel.kind]
            self._carry_out(channel, Answer(True, then=lambda: self._serve(channel, serve), is_served=True))
            return
        handler = self.deciding.get(channel.kind, self.handler)
        decision = _attempt(
            self._engine,
            channel.kind,
            lambda: handler.open_requested(channel, details),
            _PROHIBITED,
        )
        if isinstance(decision, Answer | OpenFailureReason):
            self._carry_out(channel, decision)
        else:
            self._engine.spawn(lambda: self._decide(channel, decision), name="trio_ssh channel open")

    async def _serve(self, channel: Channel, serve: Callable[[Channel], Awaitable[None]]) -> None:
        try:
            with trio.CancelScope() as scope:
                channel.end_with_channel(scope)
                await serve(channel)
        except RAISED as error:
            if not is_failure(error):
                raise
            # A peer that goes away is nobody's mistake.
            if not all(isinstance(leaf, trio.BrokenResourceError | trio.ClosedResourceError) for leaf in leaves(error)):
                _log.exception("what serves %s channels failed", printable(channel.kind, 64))
        finally:
            channel.close_later()

    async def _decide(self, channel: Channel, decision: MaybeAwaitable[Answer | OpenFailureReason]) -> None:
        self._carry_out(channel, await _decided(channel.kind, decision, _PROHIBITED))
        self._engine.flush_now()

    def _carry_out(self, channel: Channel, answer: Answer | OpenFailureReason) -> None:
        if self._engine.is_over:
            return
        if isinstance(answer, OpenFailureReason):
            self._refuse(channel, answer)
            return
        if not answer.is_granted:
            self._refuse(channel, OpenFailureReason.ADMINISTRATIVELY_PROHIBITED)
            return
        if not answer.is_served:
            try:
                self._accept(channel)
            except trio.WouldBlock:
                self._refuse(channel, OpenFailureReason.RESOURCE_SHORTAGE)  # nobody accepts
                return
        self._engine.core.confirm_open(channel.core)
        if answer.then is not None:
            self._engine.spawn(answer.then, name="trio_ssh channel")

    def _refuse(self, channel: Channel, reason: OpenFailureReason) -> None:
        self._forget(channel)
        self._engine.core.refuse_open(channel.core, reason, reason.name.lower().replace("_", " "))
