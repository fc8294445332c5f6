"""Reading one open file in order, ahead of its user: little at first, twice as much whenever the user goes on.

What was asked for and not yet taken is bounded by `SFTPLimits.file_bytes`, and by `session_bytes` for all files.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trio_ssh.sftp.link import Link, Share
from trio_ssh.sftp.messages import Attrs, Fstat, Packet
from trio_ssh.sftp.pipeline import Block, ReadPipeline
from trio_ssh.sftp.protocol import KIB
from trio_ssh.sftp.session import ReplyWaiter

#: What is asked for first where lines are read.
_LINES_BYTES: Final = 32 * KIB


class _SizeWaiter(ReplyWaiter):
    """Hears how large the file is, and that's that: nobody waits."""

    __slots__ = ("_reader",)

    def __init__(self, reader: ReadAhead) -> None:
        super().__init__(Attrs)
        self._reader = reader

    def on_reply(self, reply: Packet) -> None:
        if isinstance(reply, Attrs) and reply.attributes.st_size is not None:
            self._reader.expect_size(reply.attributes.st_size)

    def on_lost(self) -> None:
        pass


class ReadAhead:
    """The data of one open file from `position` on.

    Args:
        least_bytes: what is asked for at the least.

    Attributes:
        position: where the next byte lies that is given.
    """

    def __init__(self, link: Link, handle: bytes, least_bytes: int) -> None:
        self._link = link
        self._handle = handle
        self._least_bytes = least_bytes
        self._most_bytes = link.limits.file_bytes
        self._reader: ReadPipeline | None = None
        self._share = Share(link)
        self._taken: deque[Block] = deque()
        self._taken_bytes = 0
        #: Blocks whose data was given, and in whose place nothing was asked for yet.
        self._spent: list[Block] = []
        #: One block's data, joined, for whoever reads lines; and how much of it was given.
        self._chunk = b""
        self._given = 0
        self._is_sequential = False
        self._size = 0
        self._has_asked_size = False
        self.position: int = 0

    @property
    def ready_bytes(self) -> int:
        """Bytes that can be given without waiting."""
        return self._taken_bytes + len(self._chunk) - self._given

    # -- how far ahead

    def _begin(self, wanted: int) -> None:
        wanted = max(wanted, self._least_bytes)
        self._share = share = Share(self._link)
        share.limit = min(wanted, self._most_bytes)
        self._is_sequential = False
        self._reader = ReadPipeline(
            self._link,
            share,
            self._handle,
            self.position,
            max(self._size, self.position + share.limit),
            ahead_bytes=share.limit,
            grows=False,
            block_bytes=min(share.limit, self._link.read_bytes),
        )

    def bound(self, requests: int | None) -> None:
        """From now on ask for so many blocks at once; None for as many as `SFTPLimits.file_bytes` holds."""
        most = self._link.limits.file_bytes
        self._most_bytes = most if requests is None else min(most, requests * self._link.read_bytes)

    def read_all(self, size: int | None = None) -> None:
        """Ask for as much as may be under way: the user wants everything up to the end.

        Args:
            size: of the file; None to ask for it meanwhile.
        """
        if size is not None:
            self._size = max(self._size, size)
            self._has_asked_size = True
        self._ask_size()
        if self._reader is None:
            self._share = Share(self._link)
            self._share.limit = self._most_bytes
            self._reader = ReadPipeline(
                self._link,
                self._share,
                self._handle,
                self.position + self.ready_bytes,
                self._size,
                ahead_bytes=self._share.limit,
                grows=False,
            )
        self._is_sequential = True
        self._widen(self._most_bytes)

    def _ask_size(self) -> None:
        if not self._has_asked_size and self._link.failure is None:
            self._has_asked_size = True
            self._link.submit(Fstat(self._handle), _SizeWaiter(self))

    def expect_size(self, size: int) -> None:
        """The server says how large the file is."""
        self._size = size
        if self._reader is not None:
            self._reader.expect_size(size)

    def _widen(self, limit: int) -> None:
        reader = self._reader
        assert reader is not None, "what is widened was begun"
        self._share.limit = min(max(limit, self._share.limit), self._most_bytes)
        reader.ahead_bytes = self._share.limit
        # Two under way at the least, so that one is on its way while the other is read.
        reader.block_bytes = min(self._link.read_bytes, max(reader.block_bytes, self._share.limit // 2))
        spent, self._spent = self._spent, []
        for block in spent:
            reader.give_back(block)
        reader.fill()

    def _done_with(self, block: Block) -> None:
        self._spent.append(block)
        # Whoever reads one record here and one there wants nothing ahead: only the second read in order tells.
        if self._is_sequential:
            self._widen(self._share.limit + block.size)

    # -- the user's task

    async def fill(self, wanted: int) -> bool:
        """Wait until something is ready.

        Args:
            wanted: how much the user wants.

        Returns:
            False at the end of the file.

        Raises:
            SFTPError: the server can't read on.
            ConnectionLost: the session ended.

        A checkpoint only if it waits; cancelled, it loses nothing.
        """
        if self.ready_bytes:
            return True
        reader = self._reader
        if reader is None:
            self._begin(wanted)
            reader = self._reader
            assert reader is not None, "it was begun"
        elif not reader.is_ended:
            self._is_sequential = True
            self._ask_size()
            self._widen(max(2 * self._share.limit, wanted))
        try:
            await reader.wait()
            blocks = reader.take(max(wanted, 1))
        except Exception:
            self.drop()
            raise
        for block in blocks:
            self._taken.append(block)
            self._taken_bytes += block.parts.size
        if not self._taken_bytes:
            # The next read looks whether the file has grown.
            self.drop()
            return False
        return True

    def take(self, parts: list[bytes | bytearray | memoryview], limit: int) -> int:
        """Append up to `limit` bytes of what is ready to `parts`, uncopied where that can be.

        Returns:
            Bytes that were given.
        """
        left = limit
        if self._given < len(self._chunk):
            part = self._chunk[self._given : self._given + left]
            self._given += len(part)
            left -= len(part)
            parts.append(part)
        while left and self._taken:
            block = self._taken[0]
            size = block.parts.size
            if size > left:
                parts.append(block.parts.take(left))
                self._taken_bytes -= left
                left = 0
            else:
                parts.extend(block.parts.pieces())
                self._taken_bytes -= size
                left -= size
                self._taken.popleft()
                self._done_with(block)
        self.position += limit - left
        return limit - left

    def line_at_hand(self) -> bytes | None:
        """Return the next line if it can be had without ado."""
        end = self._chunk.find(b"\n", self._given) + 1
        if not end:
            return None
        line = self._chunk[self._given : end]
        self._given = end
        self.position += len(line)
        return line

    async def read_line(self, limit: int) -> bytes:
        """Return the next line with its end, or what there is at the end or before `limit`.

        Cancelled, or failing, it loses nothing.
        """
        parts: list[bytes] = []
        size = 0
        try:
            while size < limit:
                if self._given >= len(self._chunk):
                    if not await self.fill(max(_LINES_BYTES, self._least_bytes)):
                        break
                    self._next_chunk()
                stop = self._given + limit - size
                end = self._chunk.find(b"\n", self._given, stop) + 1
                part = self._chunk[self._given : end or stop]
                self._given += len(part)
                self.position += len(part)
                parts.append(part)
                size += len(part)
                if end:
                    break
        except BaseException:
            self._chunk = b"".join([*parts, self._chunk[self._given :]])
            self._given = 0
            self.position -= size
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next_chunk(self) -> None:
        block = self._taken.popleft()
        self._taken_bytes -= block.parts.size
        self._chunk = block.parts.take(block.parts.size)
        self._given = 0
        self._done_with(block)

    # -- elsewhere

    def seek(self, position: int) -> None:
        """Go on from `position`.  What is ready stays, if that lies in it."""
        if position == self.position:
            return
        if 0 < position - self.position <= self.ready_bytes:
            self.take([], position - self.position)
            return
        self.drop()
        self.position = position

    def drop(self) -> None:
        """Forget what was read ahead."""
        reader, self._reader = self._reader, None
        blocks = [*self._taken, *self._spent]
        self._taken.clear()
        self._spent.clear()
        self._taken_bytes = 0
        self._chunk, self._given = b"", 0
        if reader is not None:
            reader.close()
            for block in blocks:
                reader.give_back(block)

    def forget(self) -> None:
        """Forget what was read ahead, and what the file's size was: it has been written to."""
        if self._reader is not None or self._has_asked_size or self._chunk:
            self.drop()
            self._size = 0
            self._has_asked_size = False
