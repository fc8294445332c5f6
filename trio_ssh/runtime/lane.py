"""One direction of one channel's data: from the reader task, which never waits, to the user, who may.

A lane is a memory channel whose items are batches.  The SSH window bounds what can be in it, so the reader's
`send_nowait` can't fail; and at most one batch is in it at a time, because what arrives while nobody reads joins the
batch that waits.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_ssh.core.channel import Batch

#: Bytes that one receive returns at the most, where the caller sets no bound: a read of the socket holds no more.
RECEIVE_BYTES: Final = 256 * 1024

#: Measured: naming the type at each call costs 13 us, a third of a lane.
_open_channel: Final = trio.open_memory_channel[Batch]


class Lane:
    """Carries batches to one reader.

    The memory channel is made when a reader first waits: many streams, such as most stderrs, never have one who does.
    """

    __slots__ = ("_current", "_is_cleared", "_receiver", "_sender", "_waiting", "is_ended")

    def __init__(self) -> None:
        self._sender: trio.MemorySendChannel[Batch] | None = None
        self._receiver: trio.MemoryReceiveChannel[Batch] | None = None
        #: The batch that was delivered and not taken; it is in the memory channel, if there is one.
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
        if self._sender is not None:
            self._sender.send_nowait(batch)

    def end(self) -> None:
        """Nothing more comes; what was delivered can still be received."""
        self.is_ended = True
        if self._sender is not None:
            self._sender.close()

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
            if self._receiver is not None:
                self._receiver.receive_nowait()
        data = batch.take(limit)
        self._current = batch if batch.size else None
        return data

    async def receive(self, limit: int) -> bytes:
        """Return 1 .. `limit` bytes, or ``b""`` at the end.  A checkpoint, always; cancelled, it loses nothing.

        Raises:
            trio.ClosedResourceError: `clear` was called meanwhile.
        """
        if self._current is not None or self._waiting is not None or self.is_ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait()
        if self._is_cleared:
            raise trio.ClosedResourceError("this stream was closed")
        return self.take_nowait(limit)

    async def _wait(self) -> None:
        """Wait for a batch, or for the end."""
        if self._receiver is None:
            self._sender, self._receiver = _open_channel(1)
        try:
            batch = await self._receiver.receive()
        except trio.EndOfChannel:
            return
        # Between its delivery and this line more may have arrived, and joined it.
        self._current = batch
        self._waiting = None
