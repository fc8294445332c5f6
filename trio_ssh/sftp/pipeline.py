"""Many READs or WRITEs of one open file under way at once, and in order for whoever reads or writes.

Requests are made, and replies taken, in the connection's reader; the one task that uses a pipeline only takes what is
ready, or waits for it.  What is under way counts against the file's `Share`.

A READ may bring less than was asked for; then the rest is asked for again, and later READs ask for what the server is
willing to give.  A size is a claim: reading ends where the server says EOF, and not before.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

import trio

from trio_ssh.core.channel import Batch
from trio_ssh.errors import LocalProtocolError
from trio_ssh.runtime.interrupts import uninterrupted
from trio_ssh.runtime.waiting import OneSleeper
from trio_ssh.sftp.link import Link, Share, as_error
from trio_ssh.sftp.messages import Data, Packet, Status
from trio_ssh.sftp.protocol import StatusCode
from trio_ssh.sftp.session import ClientSession, ReplyWaiter

#: Blocks that are asked for at first; each that comes lets one more be asked for.
FIRST_BLOCKS: Final = 4

#: Seconds after which whoever gathers blocks gets what has come.
_GATHERING_SECONDS: Final = 0.05

#: The least that a READ asks for where a server gave less than was asked for.
_LEAST_BYTES: Final = 4 * 1024


class Asker(Protocol):
    """Whose a block is.

    Attributes:
        is_closed: nobody wants the blocks any more.
    """

    is_closed: bool

    def note_short(self, size: int) -> None:
        """The server gave only `size` bytes of a block."""
        ...

    def ask(self, block: Block, offset: int) -> None:
        """Ask for what a short reply left out."""
        ...

    def on_done(self, block: Block) -> None:
        """Nothing more comes for `block`."""
        ...


class Block:
    """A piece of a file that is being read.

    Attributes:
        offset, size: where it lies in the file, and how much is wanted.
        is_beyond: it lies behind the end of the file, as far as that was known.
        parts: what has come.
        is_done: nothing more comes: it is complete, or the file ends in it, or `status` is an error.
        is_last: the file ends in it, or before it.
    """

    __slots__ = (
        "_pipeline",
        "asked",
        "expects",
        "is_beyond",
        "is_done",
        "is_last",
        "offset",
        "parts",
        "size",
        "status",
    )

    def __init__(self, pipeline: Asker, offset: int, size: int, *, is_beyond: bool = False) -> None:
        self._pipeline = pipeline
        self.expects: type[Packet] = Data
        self.asked: int = size
        self.offset: int = offset
        self.size: int = size
        self.is_beyond: bool = is_beyond
        self.parts: Batch = Batch()
        self.is_done: bool = False
        self.is_last: bool = False
        self.status: Status | None = None

    def on_data(self, part: memoryview, left: int) -> None:
        """A part has come."""
        pipeline = self._pipeline
        if part and not pipeline.is_closed:
            self.parts.add(part)
        if left:
            return
        if pipeline.is_closed:
            self._finish()
        elif not part:
            # No bytes and no EOF: to ask again might go on for ever.
            self.is_last = True
            self._finish()
        elif self.parts.size < self.size:
            pipeline.note_short(self.parts.size)
            self.asked = self.size - self.parts.size
            pipeline.ask(self, self.offset + self.parts.size)
        else:
            self._finish()

    def on_reply(self, reply: Packet) -> None:
        """No more data: EOF, or an error."""
        assert isinstance(reply, Status), "a READ is answered by data or a status"
        if reply.code == StatusCode.EOF:
            self.is_last = True
        else:
            self.status = reply
        self._finish()

    def on_lost(self) -> None:
        """The session has ended."""
        self._finish()

    def _finish(self) -> None:
        self.is_done = True
        self._pipeline.on_done(self)


@uninterrupted
class ReadPipeline:
    """Reads a file from `offset` on.

    Args:
        known_end: the file's size, as far as it is known.  Beyond it one block at a time is asked for.
        ahead_bytes: what is asked for at once in the beginning; it grows with every block that comes.
        grows: whether it does.
        block_bytes: what one READ asks for; None for as much as the server gives.
        gathered_bytes: `wait` waits for so much where more is under way, and comes fast: for whoever pays for each
            step, by a thread or a write.

    Attributes:
        block_bytes: what the next READ asks for.
        is_closed: nobody reads any more.
        is_ended: the end of the file was seen.
    """

    def __init__(
        self,
        link: Link,
        share: Share,
        handle: bytes,
        offset: int,
        known_end: int = 0,
        *,
        ahead_bytes: int | None = None,
        grows: bool = True,
        block_bytes: int | None = None,
        gathered_bytes: int = 0,
    ) -> None:
        self._link = link
        self._share = share
        self._handle = handle
        self._next = offset
        self._known_end = known_end
        self.block_bytes: int = block_bytes or link.read_bytes
        self.ahead_bytes: int = ahead_bytes or FIRST_BLOCKS * link.read_bytes
        self._grows = grows
        self._blocks: deque[Block] = deque()
        self._under_way = 0
        self._done_bytes = 0
        self._gathered_bytes = gathered_bytes
        self._gathered_by = 0.0
        self._beyond = 0
        self._sleeper = OneSleeper()
        self._is_shut = False
        self.is_closed: bool = False
        self.is_ended: bool = False
        self.fill()

    @property
    def next_offset(self) -> int:
        """Where the first block lies that was not taken."""
        return self._blocks[0].offset if self._blocks else self._next

    # -- in the reader's step

    def fill(self) -> None:
        """Ask for as much as may be under way."""
        if self.is_closed or self.is_ended or self._link.failure is not None:
            return
        has_asked = False
        while self._under_way < self.ahead_bytes or not self._blocks:
            left = self._known_end - self._next
            if left <= 0 and self._beyond:
                break
            size = min(self.block_bytes, left) if left > 0 else self.block_bytes
            if not self._share.take(size):
                break
            block = Block(self, self._next, size, is_beyond=left <= 0)
            self._blocks.append(block)
            self._next += size
            self._under_way += size
            self._beyond += block.is_beyond
            self._link.session.read(self._handle, block.offset, size, block)
            has_asked = True
        if has_asked:
            self._link.flush()

    def ask(self, block: Block, offset: int) -> None:
        """Ask for what a short reply left out."""
        if self._link.failure is None:
            self._link.session.read(self._handle, offset, block.asked, block)
            self._link.flush()
        else:
            block.on_lost()

    def note_short(self, size: int) -> None:
        """The server gave only `size` bytes: later blocks ask for no more."""
        if _LEAST_BYTES <= size < self.block_bytes:
            self.block_bytes = size

    def expect_size(self, size: int) -> None:
        """The file is said to have `size` bytes."""
        self._known_end = max(self._known_end, size)
        self.fill()

    def on_done(self, block: Block) -> None:
        """Nothing more comes for `block`."""
        if self.is_closed:
            self._share.give_back(block.size)
            return
        if block.is_beyond:
            self._beyond -= 1
            if not block.is_last:
                self._known_end = max(self._known_end, block.offset + block.size)
        self._under_way -= block.size
        self._done_bytes += block.size
        if block.is_last or block.status is not None:
            self.is_ended = True
        elif self._grows:
            self.ahead_bytes += self.block_bytes
        self.fill()
        if self._sleeper.is_asleep and self._blocks and self._is_ready():
            self._sleeper.wake()

    def _is_ready(self) -> bool:
        """There is a block to be taken, and no point in waiting for more."""
        return self._blocks[0].is_done and (
            self._done_bytes >= self._gathered_bytes
            or not self._under_way
            or self.is_ended
            or trio.current_time() >= self._gathered_by
        )

    # -- the user's task

    async def wait(self) -> None:
        """Wait until the next block is there, or the end.  A checkpoint only if it isn't; cancelled, it loses nothing.

        Raises:
            ConnectionLost: the session ended before the file did.
            trio.ClosedResourceError: `close` was called meanwhile.
        """
        self.fill()
        if self._is_ready() if self._blocks else self.is_ended:
            return
        if self._link.failure is not None:
            raise self._link.lost()
        await self._sleeper.sleep()
        if self._is_shut:
            raise trio.ClosedResourceError("this file was closed")
        if not self._blocks and not self.is_ended and self._link.failure is not None:
            raise self._link.lost()

    def take(self, limit: int) -> list[Block]:
        """Take the blocks that are there, one at least if the first is, up to about `limit` bytes.

        They count as under way until `give_back`.  After the last one of the file nothing comes.

        Raises:
            SFTPError: the server could not read on; what was read before has been taken already.
            ConnectionLost: the session ended.
        """
        taken: list[Block] = []
        size = 0
        while self._blocks and self._blocks[0].is_done and size < limit:
            block = self._blocks[0]
            if not block.is_last and block.parts.size < block.size:
                # What came of this block is not the file's end, and must not look like it.
                if taken:
                    break
                raise self._link.lost() if block.status is None else as_error(block.status)
            self._blocks.popleft()
            self._done_bytes -= block.size
            taken.append(block)
            size += block.parts.size
            if block.is_last:
                self._drop()
        if self._gathered_bytes:
            self._gathered_by = trio.current_time() + _GATHERING_SECONDS
        return taken

    def give_back(self, block: Block) -> None:
        """The block's bytes were taken or written: as many may be asked for."""
        self._share.give_back(block.size)
        self.fill()
        if self._link.failure is not None:
            # Whoever waits until there is room to ask would wait for a reply that was never asked for.
            self._sleeper.wake()

    def _drop(self) -> None:
        """The file has ended: whatever was asked for beyond is of no use."""
        self.is_ended = self.is_closed = True
        for block in self._blocks:
            block.parts = Batch()
            if block.is_done:
                self._share.give_back(block.size)
        self._blocks.clear()

    def close(self) -> None:
        """Stop: what still comes is dropped.  Blocks that were taken are to be given back all the same."""
        self._is_shut = True
        if not self.is_closed:
            self._drop()
        self._sleeper.wake()


class Ack(ReplyWaiter):
    """The reply to one WRITE."""

    __slots__ = ("_offset", "_pipeline", "_size")

    def __init__(self, pipeline: WritePipeline, offset: int, size: int) -> None:
        super().__init__(Status)
        self._pipeline = pipeline
        self._offset = offset
        self._size = size

    def on_reply(self, reply: Packet) -> None:
        """Written, or not."""
        assert isinstance(reply, Status), "a WRITE is answered by a status"
        self._pipeline.on_done(self._offset, self._size, reply)

    def on_lost(self) -> None:
        """The session has ended."""
        self._pipeline.on_done(self._offset, self._size, None)


@uninterrupted
class WritePipeline:
    """Writes to a file, in any order.

    Attributes:
        head_size: bytes of room that `write` needs before the data.
        is_begun: something was sent.
        under_way: bytes that are not acknowledged.
        failure: the first error that the server answered.
    """

    def __init__(self, link: Link, share: Share, handle: bytes) -> None:
        self._link = link
        self._share = share
        self._handle = handle
        self.head_size: int = ClientSession.write_head_size(handle)
        self._room = trio.lowlevel.ParkingLot()
        #: Where WRITEs begin that the server has not acknowledged, or has refused.
        self._unwritten: set[int] = set()
        #: The same in the order in which they were sent, from the first of them on.
        self._sent: deque[int] = deque()
        self.is_begun: bool = False
        self.under_way: int = 0
        self.failure: Status | None = None

    @property
    def first_unwritten(self) -> int | None:
        """Where the first bytes belong that are not known to be written, if there are any; later ones may be."""
        return min(self._unwritten, default=None)

    def on_done(self, offset: int, size: int, status: Status | None) -> None:
        """`size` bytes are written, or never will be."""
        self.under_way -= size
        self._share.give_back(size)
        if status is not None:
            if status.code == StatusCode.OK:
                self._unwritten.discard(offset)
                while self._sent and self._sent[0] not in self._unwritten:
                    self._sent.popleft()
            elif self.failure is None:
                self.failure = status
                self._link.look_around()
        if self._room:
            self._room.unpark_all()

    def check(self) -> None:
        """Raise what went wrong so far.

        Raises:
            SFTPError: the server could not write.
            ConnectionLost: the session ended.
        """
        if self.failure is not None:
            raise as_error(self.failure)
        if self._link.failure is not None:
            raise self._link.lost()

    def has_room(self, size: int, offset: int | None = None) -> bool:
        """Whether `size` bytes may be written now without passing a ceiling; if so, they count as under way.

        Args:
            offset: for whoever writes in order, and wants to go on with it another time: where they belong.  Then no
                byte is written that lies farther than `SFTPLimits.file_bytes` from one that may be missing, whatever
                order the server has.
        """
        if offset is not None and self._sent and offset + size > self._sent[0] + self._link.limits.file_bytes:
            return False
        if not self._share.take(size):
            return False
        self.under_way += size
        return True

    def leave_room(self, size: int) -> None:
        """Count so many bytes no more of what `has_room` counted: they are not written after all."""
        self.under_way -= size
        self._share.give_back(size)

    async def wait_room(self, size: int, offset: int | None = None) -> None:
        """Wait until `size` bytes may be under way besides; see `has_room`.  A checkpoint only if it waits.

        Raises:
            SFTPError, ConnectionLost: see `check`.
        """
        while True:
            self.check()
            if self.has_room(size, offset):
                return
            await self._room.park()

    def write(self, packet: memoryview, offset: int) -> None:
        """Write, after `wait_room` of the data's size.

        Args:
            packet: `head_size` bytes of room, then the data, `Link.write_bytes` at the most.  It must not change before
                it is sealed.
            offset: of the data in the file.
        """
        if self._link.failure is not None:
            raise LocalProtocolError("nothing is written after the session's end")
        size = len(packet) - self.head_size
        self.is_begun = True
        self._unwritten.add(offset)
        self._sent.append(offset)
        self._link.session.write_in_place(packet, self._handle, offset, Ack(self, offset, size))
        self._link.flush()

    @property
    def queued_bytes(self) -> int:
        """What was written last is sealed when so much in all is; see `wait_sealed`."""
        return self._link.session.queued_bytes

    def has_sealed(self, mark: int) -> bool:
        """Whether what was queued up to `mark` stands nowhere but in packets any more."""
        return self._link.session.sealed_bytes >= mark

    async def wait_sealed(self, mark: int) -> None:
        """Wait until that is so.  A checkpoint only if it waits.

        Raises:
            SFTPError, ConnectionLost: see `check`.
        """
        self.check()
        while not self.has_sealed(mark):
            await self._link.park_until_sealed(mark)
            self.check()

    async def wait_below(self, under_way: int) -> None:
        """Wait until no more than so many bytes are unacknowledged; 0 waits for all.  A checkpoint only if it waits.

        Raises:
            SFTPError, ConnectionLost: see `check`.
        """
        while self.under_way > under_way:
            self.check()
            await self._room.park()
        self.check()
