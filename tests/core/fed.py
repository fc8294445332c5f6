"""A dialog that is fed by hand, and messages that are a little different."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from trio_ssh.core.dialog import Conversation, Dialog
from trio_ssh.core.questions import Question
from trio_ssh.wire.fields import DeclaredMessage, Structure

T = TypeVar("T")
S = TypeVar("S", bound=Structure)


class Fed(Generic[T]):
    """Runs a dialog, and keeps what it sends, asks and returns.

    Attributes:
        sent: messages, oldest first.
        asked: questions, oldest first.
        results: empty until the dialog is done, then its one result.
    """

    def __init__(self, dialog: Dialog[T]) -> None:
        self.sent: list[DeclaredMessage] = []
        self.asked: list[Question] = []
        self.results: list[T] = []
        self.conversation = Conversation(dialog, self.sent.append, self.asked.append, self.results.append)
        self.conversation.start()

    def hear(self, message: DeclaredMessage) -> list[DeclaredMessage]:
        """The peer sends a message; return what is sent upon it."""
        before = len(self.sent)
        self.conversation.receive(message.encode())
        return self.sent[before:]

    def answer(self, value: object) -> list[DeclaredMessage]:
        """Answer the open question; return what is sent upon it."""
        before = len(self.sent)
        self.conversation.answer(value)
        return self.sent[before:]

    @property
    def result(self) -> T:
        """What the dialog returned, which it has."""
        [result] = self.results
        return result


def replaced(value: S, **fields: Any) -> S:
    """Return a message or structure with some of its fields replaced; type checkers take them for no attrs classes."""
    untyped: Any = value
    changed: S = untyped.__replace__(**fields)
    return changed
