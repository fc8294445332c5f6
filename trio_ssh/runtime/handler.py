"""What a peer may ask of us, as an interface: channels, requests, and a server's decisions.

A `Transport` asks its handler and carries out the answer.  The base refuses everything, which is what a client should
do; a server's is `ServerInterface`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from trio_ssh.core.questions import Question
from trio_ssh.errors import LocalProtocolError
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.waiting import MaybeAwaitable
from trio_ssh.wire.numbers import OpenFailureReason


@trio.lowlevel.disable_ki_protection
def call_plainly(hook: Callable[[], object]) -> None:
    """Call what is run in the middle of a read, and can't be waited for.

    Raises:
        TypeError: it is to be awaited.
    """
    result = hook()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("it is plain code, and no coroutine function: it runs in the middle of a read")


@attrs.frozen
class Answer:
    """What becomes of a request.

    Attributes:
        is_granted: what the peer is told.
        details: bytes that go with the success of a global request.
        then: what runs once the peer was told, as a task of the connection.
        is_served: of a channel: it has someone who serves it, and doesn't come from `Transport.accept`.
    """

    is_granted: bool
    details: bytes = b""
    then: Callable[[], Awaitable[None]] | None = None
    is_served: bool = False


REFUSED = Answer(False)
GRANTED = Answer(True)


class Subsystem(Protocol):
    """Serves one subsystem of one session: a `SubsystemHandler`, or anything like it."""

    async def handle(self, process: Any) -> int | None:
        """Serve it, and return the exit status."""
        ...


#: What a server has for each subsystem: a handler that serves all sessions, or what makes one for each.
SubsystemSource: TypeAlias = Subsystem | Callable[[], Subsystem]


def checked_subsystem(name: str, source: SubsystemSource) -> SubsystemSource:
    """Return what serves a subsystem, or makes what does.

    Raises:
        TypeError: it can't.
    """
    given: object = source
    if hasattr(given, "handle") and not isinstance(given, type):
        return source
    if not callable(given):
        raise TypeError(f"the subsystem {name!r} is served by a handler, or by what makes one, not by {given!r}")
    try:
        inspect.signature(given).bind()
    except TypeError as error:
        raise TypeError(
            f"what makes the handler of the subsystem {name!r} is called without arguments, and {given!r} wants some "
            f"({error}): pass a handler, such as SFTPServer(YourFiles)"
        ) from None
    except ValueError:
        pass  # it is written in C, and doesn't say
    return source


class PeerHandler:
    """Refuses whatever the peer asks.

    A decision may be awaitable.  One that isn't is carried out at once, in the middle of a read, and costs no task.
    """

    def attach(self, transport: Any) -> None:
        """Take note of the transport that will ask; raise to have nothing to do with it."""

    def answer_question(self, question: Question) -> object:
        """Server: decide about an authentication; see each question's class for what an answer is.

        The answer may be awaitable.  Mustn't raise.
        """
        return None

    def open_requested(self, channel: Channel, details: bytes) -> MaybeAwaitable[OpenFailureReason | Answer]:
        """Decide about a channel that the peer wants: an `Answer` that grants, or the reason to refuse."""
        return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED

    def channel_requested(self, channel: Channel, name: str, details: bytes) -> MaybeAwaitable[Answer]:
        """Decide about a request on an open channel."""
        return REFUSED

    def global_requested(self, name: str, details: bytes) -> MaybeAwaitable[Answer]:
        """Decide about a request that concerns no channel."""
        return REFUSED

    def add_subsystem(self, name: str, source: SubsystemSource) -> None:
        """Server: serve a subsystem, besides those that are served anyway."""
        raise LocalProtocolError("only a server that is a ServerInterface serves subsystems")

    def logged_in(self) -> None:
        """Server: a user is logged in, and the client is about to hear it.  What it raises is logged."""

    def logged_out(self) -> None:
        """Server: the connection of a user who was logged in is over, as `logged_in` says that it began."""

    def announce(self) -> None:
        """Server: say what a client that has just logged in is to know before anything else.  Mustn't raise."""
