"""Reading pieces of an open file from here and there, many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Self

import trio

from trio_ssh.runtime.waiting import OneAtATime, OneSleeper
from trio_ssh.sftp.link import Link, Share, as_error
from trio_ssh.sftp.pipeline import Block


class Scatter(AsyncIterator[bytes]):
    """The pieces of a file that were asked for, in the order in which they were: for `SFTPFile.readv`.

    Attributes:
        is_closed: nobody wants the pieces any more.
    """

    def __init__(self, link: Link, handle: bytes, pieces: Iterable[tuple[int, int]], filename: str | bytes) -> None:
        self._link = link
        self._handle = handle
        self._filename = filename
        self._share = Share(link)
        self._block_bytes = link.read_bytes
        #: Pieces, and what is left of the first of them that was not asked for in full.
        self._unasked: deque[tuple[int, int]] = deque(pieces)
        #: Of each piece that is being read: the blocks that are under way or there, and whether these are all.
        self._blocks: deque[Block | None] = deque()
        self._parts: list[memoryview | bytearray] = []
        self._has_ended = False
        self._sleeper = OneSleeper()
        self._conflict = OneAtATime("another task is iterating over these pieces")
        self.is_closed: bool = False

    @property
    def is_over(self) -> bool:
        """Tell whether nothing is held, and nothing will be."""
        return self.is_closed or not (self._blocks or self._unasked)

    def _fill(self) -> None:
        has_asked = False
        while self._unasked and not self.is_closed and self._link.failure is None:
            offset, left = self._unasked[0]
            if left:
                size = min(left, self._block_bytes)
                if not self._share.take(size):
                    break
                block = Block(self, offset, size)
                self._blocks.append(block)
                self._link.session.read(self._handle, offset, size, block)
                has_asked = True
                self._unasked[0] = offset + size, left - size
            if left <= self._block_bytes:
                self._unasked.popleft()
                self._blocks.append(None)  # the piece ends here
        if has_asked:
            self._link.flush()

    # -- in the reader's step

    def note_short(self, size: int) -> None:
        """The server gave only `size` bytes; that is dealt with where it happens."""

    def ask(self, block: Block, offset: int) -> None:
        """Ask for what a short reply left out."""
        if self._link.failure is None:
            self._link.session.read(self._handle, offset, block.asked, block)
            self._link.flush()
        else:
            block.on_lost()

    def on_done(self, block: Block) -> None:
        """Nothing more comes for `block`."""
        if self.is_closed:
            self._share.give_back(block.size)
        elif self._sleeper.is_asleep and self._blocks[0] is block:
            self._sleeper.wake()

    # -- the user's task

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece; it is short where the file ends in it.  Cancelled, it loses nothing."""
        with self._conflict:
            await trio.lowlevel.checkpoint()
            self._fill()
            if not self._blocks and not self._unasked and not self.is_closed:
                raise StopAsyncIteration
            while True:
                if self.is_closed:
                    raise trio.ClosedResourceError("this file was closed")
                if not self._blocks:
                    raise self._link.lost()
                block = self._blocks[0]
                if block is None:
                    self._blocks.popleft()
                    break
                if not block.is_done:
                    await self._sleeper.sleep()
                    continue
                if not block.is_last and block.parts.size < block.size:
                    raise self._link.lost() if block.status is None else as_error(block.status, self._filename)
                if not self._has_ended:
                    # What lies behind the end belongs to a file that has grown meanwhile.
                    self._parts += block.parts.pieces()
                    self._has_ended = block.is_last
                self._blocks.popleft()
                self._share.give_back(block.size)
                self._fill()
            parts, self._parts = self._parts, []
            self._has_ended = False
            return b"".join(parts)

    def close(self) -> None:
        """Want nothing more."""
        if self.is_closed:
            return
        self.is_closed = True
        for block in self._blocks:
            if block is not None and block.is_done:
                self._share.give_back(block.size)
        self._unasked.clear()
        self._sleeper.wake()
