"""Writing to one open file behind its user's back: small writes are gathered, large ones sent before they return.

What was taken and not yet acknowledged is bounded by `SFTPLimits.file_bytes`, and by `session_bytes` for all files.
"""

from __future__ import annotations

from trio_ssh.sftp.link import Link, Share
from trio_ssh.sftp.pipeline import WritePipeline


class WriteBehind:
    """What is written to one open file.

    Args:
        gather_bytes: writes shorter than this are gathered until they are as long together; 0 sends each as it is.
        has_lines: what ends in a line's end is sent at once.
    """

    def __init__(self, link: Link, handle: bytes, gather_bytes: int, *, has_lines: bool = False) -> None:
        self._link = link
        self._pipeline = WritePipeline(link, Share(link), handle)
        self._gather_bytes = min(gather_bytes, link.write_bytes)
        self._has_lines = has_lines
        self._room = bytes(self._pipeline.head_size)
        #: Room for the head, then what was gathered; and where that begins in the file.
        self._gathered = bytearray(self._room)
        self._start = 0

    @property
    def gathered_bytes(self) -> int:
        """Bytes that were not sent."""
        return len(self._gathered) - len(self._room)

    @property
    def unsettled_bytes(self) -> int:
        """Bytes that were not sent, or not acknowledged."""
        return self.gathered_bytes + self._pipeline.under_way

    async def write_some(self, data: memoryview, offset: int) -> int:
        """Take the beginning of `data`, which is the user's again on return.

        Returns:
            Bytes taken, at least one.

        Raises:
            SFTPError: an earlier write has failed.
            ConnectionLost: the session ended.

        A checkpoint only if it waits; cancelled, it has taken nothing.
        """
        self._pipeline.check()
        gathered = self.gathered_bytes
        if gathered and (offset != self._start + gathered or gathered >= self._gather_bytes):
            await self.send_gathered()
            gathered = 0
        if not gathered and len(data) >= self._gather_bytes:
            size = min(len(data), self._link.write_bytes)
            await self._pipeline.wait_room(size)
            # The one copy: what the window doesn't let out at once has to stay while the user's buffer changes.
            self._send(bytearray().join((self._room, data[:size])), offset)
            return size
        if not gathered:
            self._start = offset
        size = min(len(data), self._gather_bytes - gathered)
        self._gathered += data[:size]
        if self.gathered_bytes >= self._gather_bytes or (self._has_lines and 10 in data[:size]):
            self.send_nowait()
        return size

    def _send(self, packet: bytearray, offset: int) -> None:
        self._pipeline.write(memoryview(packet), offset)

    def send_nowait(self) -> bool:
        """Send what was gathered if there is room; tell whether nothing is left."""
        size = self.gathered_bytes
        if size:
            if self._link.failure is not None or not self._pipeline.has_room(size):
                return False
            packet, self._gathered = self._gathered, bytearray(self._room)
            self._send(packet, self._start)
        return True

    async def send_gathered(self) -> None:
        """Send what was gathered.  A checkpoint only if it waits; cancelled, it is still there.

        Raises:
            SFTPError, ConnectionLost: see `write_some`.
        """
        size = self.gathered_bytes
        if size:
            await self._pipeline.wait_room(size)
            packet, self._gathered = self._gathered, bytearray(self._room)
            self._send(packet, self._start)

    async def settle(self) -> None:
        """Send what was gathered, and wait until the server has acknowledged everything.

        Raises:
            SFTPError, ConnectionLost: see `write_some`.
        """
        await self.send_gathered()
        await self._pipeline.wait_below(0)
