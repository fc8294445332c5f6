"""One direction of one channel's data: from the reader task, which never waits, to the user, who may.

A lane is a memory channel whose items are batches.  The SSH window bounds what can be in it, so the reader's `send_nowait` can't
fail; and at most one batch is in it at a time, because what arrives while nobody reads joins the batch that waits.
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
    """Carries batches to one reader."""

    __slots__ = ("_current", "_receiver", "_sender", "_waiting", "is_ended")

    def __init__(self) -> None:
        self._sender, self._receiver = _open_channel(1)
        #: The batch in the memory channel.
        self._waiting: Batch | None = None
        #: The batch that the user is in the middle of.
        self._current: Batch | None = None
        #: Nothing more will be delivered.
        self.is_ended = False

    @property
    def unread_bytes(self) -> int:
        """Bytes delivered and not received."""
        return sum(batch.size for batch in (self._current, self._waiting) if batch is not None)

    def deliver(self, batch: Batch) -> None:
        """Hand over what has arrived."""
        if self.is_ended:
            return
        if self._waiting is not None:
            self._waiting.absorb(batch)
            return
        self._waiting = batch
        self._sender.send_nowait(batch)

    def end(self) -> None:
        """Nothing more comes; what was delivered can still be received."""
        if not self.is_ended:
            self.is_ended = True
            self._sender.close()

    def clear(self) -> None:
        """Drop what was delivered, and end: the user has closed the stream.  A reader that waits is woken."""
        self._waiting = self._current = None
        # The receiving end first: closing the other would tell a reader that waits that the peer has sent EOF.
        self._receiver.close()
        self.end()

    async def receive(self, limit: int) -> bytes:
        """Return 1 .. `limit` bytes, or ``b""`` at the end.  A checkpoint, always; cancelled, it loses nothing.

        Raises:
            trio.ClosedResourceError: `clear` was called meanwhile.
        """
        if self._current is None:
            try:
                # Nothing is lost in between: a batch leaves the memory channel only as the result of this call.
                batch = await self._receiver.receive()
            except trio.EndOfChannel:
                # An exception needn't be a checkpoint; the return that we make of it must.
                await trio.lowlevel.cancel_shielded_checkpoint()
                return b""
            self._waiting = None
            self._current = batch
        else:
            await trio.lowlevel.checkpoint()
            if self._current is None:  # cleared meanwhile
                raise trio.ClosedResourceError
        data = self._current.take(limit)
        if not self._current.size:
            self._current = None
        return data
