"""One direction of one channel's data: from the reader task, which never waits, to the user, who may.

A lane is a memory channel whose items are batches.  The SSH window bounds what can be in them.  An item goes from hand
to hand, to a user who sleeps at the channel; what arrives while nobody does joins the batch that waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_ssh.core.channel import Batch
from trio_ssh.runtime.lead import Awaited

#: Bytes that one receive returns at the most, where the caller sets no bound: a read of the socket holds no more.
RECEIVE_BYTES: Final = 256 * 1024

#: Measured: naming the type at each call costs 13 us, a third of a lane.
_open_channel: Final = trio.open_memory_channel[Batch]


class Lane:
    """Carries batches to one reader.

    Args:
        wait: waits for this lane's `is_done`, by `sleep` or by reading what brings it.

    The memory channel is made when a reader first waits: many streams, such as most stderrs, never have one who does.
    """

    __slots__ = (
        "_current",
        "_is_asleep",
        "_is_cleared",
        "_receiver",
        "_sender",
        "_wait",
        "_waiting",
        "is_ended",
        "wake_follower",
    )

    def __init__(self, wait: Callable[[Awaited], Awaitable[None]]) -> None:
        self._wait = wait
        #: See `lead.Awaited`.
        self.wake_follower: Callable[[], None] | None = None
        self._sender: trio.MemorySendChannel[Batch] | None = None
        self._receiver: trio.MemoryReceiveChannel[Batch] | None = None
        #: The user waits at the memory channel.
        self._is_asleep = False
        #: The batch that was delivered and not taken.
        self._waiting: Batch | None = None
        #: The batch that the user is in the middle of.
        self._current: Batch | None = None
        #: Nothing more will be delivered.
        self.is_ended: bool = False
        self._is_cleared = False

    @property
    def unread_bytes(self) -> int:
        """Bytes delivered and not received."""
        return (self._current.size if self._current else 0) + (self._waiting.size if self._waiting else 0)

    def deliver(self, batch: Batch) -> None:
        """Hand over what has arrived."""
        if self.is_ended:
            return
        if self._waiting is not None:
            self._waiting.absorb(batch)
            return
        self._waiting = batch
        if self._is_asleep and self._sender is not None:
            # A user who is asleep and was cancelled is none whom it reaches: it waits here then.
            with contextlib.suppress(trio.WouldBlock):
                self._sender.send_nowait(batch)
        elif self.wake_follower is not None:
            self.wake_follower()

    def end(self) -> None:
        """Nothing more comes; what was delivered can still be received."""
        self.is_ended = True
        if self._sender is not None:
            self._sender.close()
        if self.wake_follower is not None:
            self.wake_follower()

    def clear(self) -> None:
        """Drop what was delivered, and end: the user has closed the stream.  A reader that waits is woken."""
        self._waiting = self._current = None
        self._is_cleared = True
        # The receiving end first: closing the other would tell a reader that waits that the peer has sent EOF.
        if self._receiver is not None:
            self._receiver.close()
        self.end()

    def take_nowait(self, limit: int) -> bytes:
        """Return up to `limit` bytes of what is there; ``b""`` where nothing is."""
        batch = self._current
        if batch is None:
            batch = self._waiting
            if batch is None:
                return b""
            self._waiting = None
        data = batch.take(limit)
        self._current = batch if batch.size else None
        return data

    def take_all(self) -> bytes:
        """Return all that is there, what the user is in the middle of and what has come since."""
        data = self.take_nowait(self.unread_bytes)
        return data + self.take_nowait(self.unread_bytes)

    async def receive(self, limit: int) -> bytes:
        """Return 1 .. `limit` bytes, or ``b""`` at the end.  A checkpoint, always; cancelled, it loses nothing.

        Raises:
            trio.ClosedResourceError: `clear` was called meanwhile.
        """
        if self.is_done:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait(self)
        if self._is_cleared:
            raise trio.ClosedResourceError("this stream was closed")
        return self.take_nowait(limit)

    @property
    def is_done(self) -> bool:
        """Something can be received, or the end."""
        return self._current is not None or self._waiting is not None or self.is_ended

    async def sleep(self) -> None:
        """Wait for a batch, or for the end."""
        if self._receiver is None:
            self._sender, self._receiver = _open_channel(0)
        self._is_asleep = True
        try:
            # Between its delivery and this line more may have arrived, and joined it.
            self._current = await self._receiver.receive()
            self._waiting = None
        except trio.EndOfChannel:
            pass
        finally:
            self._is_asleep = False
