"""Two sealed cores in lockstep: a client and a server that exchange bytes without a stream, a task or a clock.

    pair = CorePair()
    pair.log_in()
    ours, theirs = pair.open_channel()
    pair.client.connection.send_data(ours, memoryview(b"hello"))
    pair.pump()
    assert pair.server.read(theirs) == b"hello"

Each side records its events and answers questions from a script.  Nothing happens but in the calls of a test, so that a
session can be stopped at any byte, looked at, and tampered with.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from trio_ssh.core.auth_client import AuthAnswer, none_as_client
from trio_ssh.core.channel import CoreChannel, Source
from trio_ssh.core.connection import Connection
from trio_ssh.core.dialog import Dialog
from trio_ssh.core.events import Asked, Event, OpenRequested
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import (
    AllowedAuths,
    AuthResult,
    BannerWanted,
    CheckInteractive,
    CheckInteractiveResponse,
    CheckNone,
    CheckPassword,
    CheckPublicKey,
    HostKeyOffered,
    Question,
    SignatureWanted,
)
from trio_ssh.core.role import Role
from trio_ssh.keys.ed25519 import Ed25519Key

E = TypeVar("E", bound=Event)

Answer = Callable[[Any], object]
"""Takes a question and returns its answer."""

Tamper = Callable[[bytes], bytes]
"""Takes what one side sends and returns what the other receives."""

#: Exchanges of flights after which two cores that still talk are taken for a fault.
_RESTLESS: Final = 100_000


def _sign(question: SignatureWanted) -> object:
    return question.key.sign(question.data, question.algorithm)


def _let_in(question: Question) -> AuthResult:
    return AuthResult.SUCCESSFUL


#: The script of a pair that is given none: every host is trusted, and everyone is let in.
DEFAULT_ANSWERS: Final[Mapping[type[Question], Answer]] = {
    HostKeyOffered: lambda question: None,
    SignatureWanted: _sign,
    BannerWanted: lambda question: "",
    AllowedAuths: lambda question: ("publickey", "password", "keyboard-interactive"),
    CheckNone: _let_in,
    CheckPassword: _let_in,
    CheckPublicKey: _let_in,
    CheckInteractive: _let_in,
    CheckInteractiveResponse: _let_in,
}


def counted_bytes() -> Callable[[int], bytes]:
    """Return a source of "random" bytes that are the same in every run: for `Options.random_bytes`, in tests only."""
    counter = itertools.count()
    return lambda size: bytes(next(counter) & 0xFF for _ in range(size))


class CoreSide:
    """One core, and what befell it.

    Args:
        connection: the core.
        answers: by class of question, what answers it.  A question that has no entry stays open, as `question`.

    Attributes:
        events: everything that happened, in order.
        question: the open question that no script answered, or None.
    """

    def __init__(self, connection: Connection, answers: Mapping[type[Question], Answer] = DEFAULT_ANSWERS) -> None:
        self.connection = connection
        self.answers: dict[type[Question], Answer] = dict(answers)
        self.events: list[Event] = []
        self.question: Question | None = None

    def __repr__(self) -> str:
        return f"<CoreSide {self.connection.role.value}, {self.connection.phase.value}, {len(self.events)} events>"

    def receive(self, data: bytes) -> None:
        """Feed bytes, and record what comes of them."""
        self.record(self.connection.receive_data(data))
        self._finish()

    def _finish(self) -> None:
        while self.connection.is_unfinished:
            self.record(self.connection.resume())

    def record(self, events: Sequence[Event]) -> None:
        """Take the events that a verb of the core returned, and answer the questions among them."""
        waiting = deque(events)
        while waiting:
            event = waiting.popleft()
            self.events.append(event)
            if isinstance(event, Asked):
                # A question is the last event of its batch, because the input pauses behind it.
                waiting.extend(self._answered(event.question))

    def _answered(self, question: Question) -> Sequence[Event]:
        script = self.answers.get(type(question))
        if script is None:
            self.question = question
            return ()
        return self.connection.answer(script(question))

    def answer(self, value: object) -> None:
        """Answer `question`, which no script did."""
        assert self.question is not None, "an answer goes to an open question"
        self.question = None
        self.record(self.connection.answer(value))
        self._finish()

    def data_to_send(self) -> bytes:
        """Take what the core has sealed: a copy, which stays valid."""
        return bytes(self.connection.data_to_send())

    def of(self, kind: type[E]) -> list[E]:
        """Return the recorded events of one class, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def read(self, channel: CoreChannel, source: Source = Source.DATA) -> bytes:
        """Take everything that has arrived on a channel, and give credit for it, as a user who reads does."""
        batch = channel.fetch(source)
        if batch is None:
            return b""
        data = batch.take(batch.size)
        self.connection.mux.credit(channel, len(data))
        return data

    def send(self, channel: CoreChannel, data: bytes) -> int:
        """Seal as much of `data` as the core takes now, and return how much that is."""
        return self.connection.send_data(channel, memoryview(data))


class CorePair:
    """A client and a server, connected by nothing but `pump`.

    Args:
        client_options: what the client is told at birth.
        server_options: what the server is told at birth; without host keys it is given a new one.
        random_bytes: for options that are not given; see `counted_bytes`.

    Attributes:
        client, server: the two sides.
        to_server, to_client: hooks that see, and may change, the bytes of one direction.
    """

    def __init__(
        self,
        client_options: Options | None = None,
        server_options: Options | None = None,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        default = Options(random_bytes=random_bytes)
        server_options = server_options or default
        if not server_options.host_keys:
            server_options = attrs.evolve(server_options, host_keys=(Ed25519Key.generate(),))
        self.client: CoreSide = CoreSide(Connection(Role.CLIENT, client_options or default))
        self.server: CoreSide = CoreSide(Connection(Role.SERVER, server_options))
        self.to_server: Tamper = bytes
        self.to_client: Tamper = bytes

    def __repr__(self) -> str:
        return f"<CorePair {self.client!r}, {self.server!r}>"

    def pump(self, piece_bytes: int = 0) -> None:
        """Carry bytes to and fro until neither side has any to send.

        Args:
            piece_bytes: deliver so many at a time at the most; 0 delivers each flight whole.
        """
        for _ in range(_RESTLESS):
            if not self.carry_to_server(piece_bytes) and not self.carry_to_client(piece_bytes):
                return
        raise AssertionError("the two cores don't come to rest")

    def carry_to_server(self, piece_bytes: int = 0) -> int:
        """Deliver what the client has sealed; return how many bytes that was."""
        return _carry(self.client, self.server, self.to_server, piece_bytes)

    def carry_to_client(self, piece_bytes: int = 0) -> int:
        """Deliver what the server has sealed; return how many bytes that was."""
        return _carry(self.server, self.client, self.to_client, piece_bytes)

    def check(self) -> None:
        """Raise what ended either side, if anything did."""
        for side in (self.client, self.server):
            if side.connection.failure is not None:
                raise side.connection.failure

    def authenticate(self, dialog: Dialog[AuthAnswer]) -> None:
        """Run one of the client's authentication methods, to the server's answer."""
        self.client.record(self.client.connection.authenticate(dialog))
        self.pump()

    def log_in(self, username: str = "alice", dialog: Dialog[AuthAnswer] | None = None) -> None:
        """Exchange versions and keys, and log in: by `dialog`, or by asking for it.

        Raises:
            SSHException: what ended either side.
        """
        self.pump()
        self.check()
        self.authenticate(none_as_client(username) if dialog is None else dialog)
        self.check()
        assert self.client.connection.phase is self.server.connection.phase is Phase.OPEN, "nobody was let in"

    def open_channel(
        self, kind: str = "session", details: bytes = b"", *, by_server: bool = False
    ) -> tuple[CoreChannel, CoreChannel]:
        """Open a channel from one side and confirm it on the other.

        Returns:
            The client's end and the server's, whoever opened it.
        """
        opener, other = (self.server, self.client) if by_server else (self.client, self.server)
        opened = opener.connection.mux.open_channel(kind, details)
        self.pump()
        accepted = other.of(OpenRequested)[-1].channel
        other.connection.confirm_open(accepted)
        self.pump()
        self.check()
        return (accepted, opened) if by_server else (opened, accepted)


def _carry(sender: CoreSide, receiver: CoreSide, tamper: Tamper, piece_bytes: int) -> int:
    sent = sender.data_to_send()
    data = tamper(sent) if sent else b""
    for start in range(0, len(data), piece_bytes or len(data) or 1):
        receiver.receive(data[start : start + piece_bytes] if piece_bytes else data)
    return len(sent)
