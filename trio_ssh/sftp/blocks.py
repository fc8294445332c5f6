"""Where an upload's bytes stand from when a thread reads them to when they are sealed: blocks behind room for heads.

A buffer is used again as soon as all of it is sealed, so that what is under way costs no memory of ours.
"""

from __future__ import annotations

from collections import deque

from trio_ssh.sftp.pipeline import WritePipeline


class Buffer:
    """Room for some blocks.

    Attributes:
        spaces: where the data goes.
        seals_at: when so much in all is sealed, so is what it holds.
    """

    __slots__ = ("memory", "seals_at", "spaces")

    def __init__(self, head: int, block: int, count: int) -> None:
        self.memory: memoryview = memoryview(bytearray(count * (head + block)))
        self.spaces: list[memoryview] = [
            self.memory[start + head : start + head + block] for start in range(0, len(self.memory), head + block)
        ]
        self.seals_at: int = 0


class Buffers:
    """Some buffers of one size, which are made when they are needed.

    Args:
        writer: what they are written to.
        block: bytes of a WRITE.
        size: bytes of a buffer, about.
        most: how many there are.
    """

    def __init__(self, writer: WritePipeline, block: int, size: int, most: int) -> None:
        self._writer = writer
        self._head = writer.head_size
        self._block = block
        self._count = max(1, size // block)
        self._left = most
        #: In the order in which they can be filled.
        self._buffers: deque[Buffer] = deque()

    async def take(self) -> Buffer:
        """Return one that can be filled.  A checkpoint only if it waits.

        Raises:
            SFTPError, ConnectionLost: see `WritePipeline.check`.
        """
        if self._left and not (self._buffers and self._writer.has_sealed(self._buffers[0].seals_at)):
            self._left -= 1
            return Buffer(self._head, self._block, self._count)
        await self._writer.wait_sealed(self._buffers[0].seals_at)
        return self._buffers.popleft()

    async def write(self, buffer: Buffer, offset: int, size: int) -> None:
        """Write what it was filled with, and give it back.

        Args:
            offset: where that belongs.
            size: bytes of it.

        Raises:
            SFTPError, ConnectionLost: see `WritePipeline.check`.
        """
        # A file of many holes comes in small pieces: they are worth a copy, or the buffers would hold them all.
        is_copied = size < self._count * self._block // 4
        start = 0
        while size:
            part = min(size, self._block)
            await self._writer.wait_room(part, offset)
            packet = buffer.memory[start : start + self._head + part]
            self._writer.write(memoryview(bytearray(packet)) if is_copied else packet, offset)
            start += self._head + self._block
            offset += part
            size -= part
        if is_copied:
            self._buffers.appendleft(buffer)
        else:
            buffer.seals_at = self._writer.queued_bytes
            self._buffers.append(buffer)
