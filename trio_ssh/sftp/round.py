"""One round trip: requests that leave in one piece, and one wait for all their replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

from trio_ssh.runtime.interrupts import uninterrupted
from trio_ssh.runtime.waiting import OneSleeper
from trio_ssh.sftp.link import Link, as_error
from trio_ssh.sftp.messages import Handle, Packet, Status
from trio_ssh.sftp.protocol import StatusCode
from trio_ssh.sftp.session import ReplyWaiter

P = TypeVar("P", bound=Packet)


class Asked(ReplyWaiter):
    """One request of a round."""

    __slots__ = ("_round", "reply")

    def __init__(self, round_: Round, expects: type[Packet]) -> None:
        super().__init__(expects)
        self._round = round_
        self.reply: Packet | None = None

    def on_reply(self, reply: Packet) -> None:
        """Keep the reply."""
        self.reply = reply
        self._round.on_done(reply)

    def on_lost(self) -> None:
        """Nothing comes any more."""
        self._round.on_done(None)

    def status(self, filename: object = None) -> None:
        """Raise what the status says.

        Raises:
            SFTPError: it is no success.
        """
        if not isinstance(self.reply, Status) or self.reply.code != StatusCode.OK:
            assert isinstance(self.reply, Status), "only a status was due"
            raise as_error(self.reply, filename)

    def get(self, kind: type[P], filename: object = None) -> P:
        """Return the reply, which is of the class that was asked for.

        Raises:
            SFTPError: it is a status instead.
        """
        if isinstance(self.reply, kind):
            return self.reply
        assert isinstance(self.reply, Status), "a reply is what was asked for, or a status"
        raise as_error(self.reply, filename)

    def get_or_none(self, kind: type[P]) -> P | None:
        """Return the reply, or None where it is a status."""
        return self.reply if isinstance(self.reply, kind) else None

    @property
    def is_ok(self) -> bool:
        """Whether it is no failure."""
        return not isinstance(self.reply, Status) or self.reply.code == StatusCode.OK


@uninterrupted
class Round:
    """Requests that leave in one piece.

    Args:
        then: called when all replies have come, whether or not anybody still waits for them; it must not wait.

    Cancelled, each of them may or may not have been carried out; what they open is closed.
    """

    def __init__(self, link: Link, then: Callable[[], None] | None = None) -> None:
        self._link = link
        self._then = then
        self._asked: list[Asked] = []
        self._left = 0
        self._is_left_alone = False
        self._sleeper = OneSleeper()

    def add(self, packet: Packet, expects: type[Packet] = Status) -> Asked:
        """Make a request, which is sent by `wait`.

        Raises:
            ConnectionLost, trio.ClosedResourceError: the session is over.
        """
        if self._link.failure is not None:
            raise self._link.lost()
        asked = Asked(self, expects)
        self._asked.append(asked)
        self._left += 1
        self._link.session.request(packet, asked)
        return asked

    def on_done(self, reply: Packet | None) -> None:
        """A reply has come, or never will."""
        self._left -= 1
        if self._is_left_alone:
            self._close(reply)
        if not self._left and self._then is not None and self._link.failure is None:
            self._then()
        if not self._left:
            self._sleeper.wake()

    async def wait(self) -> None:
        """Send the requests, and wait for all replies.  A checkpoint, always.

        Raises:
            ConnectionLost, trio.ClosedResourceError: the session ended.
        """
        self._link.flush()
        if self._left:
            await self._sleeper.sleep(self._leave)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if any(asked.reply is None for asked in self._asked):
            raise self._link.lost()

    def _leave(self) -> None:
        self._is_left_alone = True
        for asked in self._asked:
            self._close(asked.reply)

    def _close(self, reply: Packet | None) -> None:
        if isinstance(reply, Handle):
            self._link.close_later(reply.handle)


class Forgotten(ReplyWaiter):
    """Waits for a reply that makes no difference."""

    def __init__(self) -> None:
        super().__init__(Status)

    def on_reply(self, reply: Packet) -> None:
        """Do nothing."""

    def on_lost(self) -> None:
        """Do nothing."""


FORGOTTEN: Final = Forgotten()


def request_later(link: Link, *packets: Packet) -> None:
    """Make requests whose replies make no difference, and don't wait."""
    if link.failure is None:
        for packet in packets:
            link.session.request(packet, FORGOTTEN)
        link.flush()
