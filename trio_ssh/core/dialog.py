"""A handshake as a generator which reads from top to bottom like the RFC's message chart.

A dialog yields one of four steps and is resumed when the step is done:

    yield from send(message)                  seal a message now
    reply = yield from expect(SomeMessage)    wait for the peer; any other message ends the connection
    answer = yield from ask(SomeQuestion())   wait for someone outside; the input pauses
    yield from discard()                      drop the peer's next message unread

Dialogs call each other with ``yield from``, know no I/O, and are tested by feeding them by hand.  A message number that
means several things is decoded as the class that the waiting line names.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import attrs

from trio_ssh.core.questions import Question
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.fields import DeclaredMessage


@attrs.frozen
class Send:
    """Seal this message."""

    message: DeclaredMessage


@attrs.frozen
class Expect:
    """Resume with the next message, which must be one of these."""

    classes: tuple[type[DeclaredMessage], ...]


@attrs.frozen
class Ask:
    """Resume with the answer to this question."""

    question: Question


@attrs.frozen
class Discard:
    """Resume with the number of one message, which was dropped."""


Step = Send | Expect | Ask | Discard
T = TypeVar("T")
M = TypeVar("M", bound=DeclaredMessage)
Dialog = Generator[Step, Any, T]


def send(message: DeclaredMessage) -> Dialog[None]:
    """Seal `message`."""
    yield Send(message)


def expect(cls: type[M]) -> Dialog[M]:
    """Wait for a message of this class."""
    received: M = yield Expect((cls,))
    return received


def expect_any(*classes: type[DeclaredMessage]) -> Dialog[DeclaredMessage]:
    """Wait for a message of one of these classes, which must differ in their numbers."""
    received: DeclaredMessage = yield Expect(classes)
    return received


def ask(question: Question) -> Dialog[Any]:
    """Wait for the answer to `question`."""
    answer = yield Ask(question)
    return answer


def discard() -> Dialog[int]:
    """Drop the next message unread, and tell its number."""
    number: int = yield Discard()
    return number


class Conversation(Generic[T]):
    """Runs one dialog: passes on what it sends and asks, and remembers what it waits for.

    Args:
        dialog: a generator that has not started.
        on_send: seals a message.
        on_ask: makes a question known; the answer comes back through `answer`.
        on_done: takes the dialog's result.
    """

    __slots__ = ("_dialog", "_on_ask", "_on_done", "_on_send", "_step", "is_done")

    def __init__(
        self,
        dialog: Dialog[T],
        on_send: Callable[[DeclaredMessage], None],
        on_ask: Callable[[Question], None],
        on_done: Callable[[T], None],
    ) -> None:
        self._dialog = dialog
        self._on_send = on_send
        self._on_ask = on_ask
        self._on_done = on_done
        self._step: Step | None = None
        self.is_done: bool = False

    def start(self) -> None:
        """Run to the first step that waits."""
        self._resume(None)

    def receive(self, payload: bytes) -> None:
        """Hand the dialog a message's payload.

        Raises:
            RemoteProtocolError: it waits for something else, or the message is malformed.
        """
        step = self._step
        match step:
            case Discard():
                self._resume(payload[0])
            case Expect(classes):
                for cls in classes:
                    if payload[0] == cls.NUMBER:
                        self._resume(cls.from_payload(payload))
                        return
                wanted = " or ".join(cls.__name__ for cls in classes)
                raise RemoteProtocolError(f"message {payload[0]} arrived where {wanted} was due")
            case _:
                raise RemoteProtocolError(f"message {payload[0]} arrived where none was due")

    def answer(self, value: object) -> None:
        """Resume a dialog that asked."""
        assert isinstance(self._step, Ask), "an answer goes to a dialog that asked"
        self._resume(value)

    def _resume(self, value: object) -> None:
        try:
            while True:
                self._step = step = self._dialog.send(value)
                if isinstance(step, Send):
                    self._on_send(step.message)
                    value = None
                elif isinstance(step, Ask):
                    self._on_ask(step.question)
                    return
                else:
                    return
        except StopIteration as stop:
            self._step = None
            self.is_done = True
            self._on_done(stop.value)
