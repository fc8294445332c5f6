"""The public `SFTPFile`: an open file on a server, read ahead and written behind."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Iterable
from types import TracebackType
from typing import ClassVar, Final

import attrs
import trio

from trio_ssh.errors import LocalProtocolError, SFTPError
from trio_ssh.runtime.files import LINE_BYTES, BufferedFile
from trio_ssh.runtime.hints import NO_TIMEOUT, HintTable
from trio_ssh.runtime.waiting import OneAtATime
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Answer, as_error
from trio_ssh.sftp.messages import (
    Attrs,
    CheckFile,
    CheckFileReply,
    Close,
    ExtendedReply,
    Fsetstat,
    Fstat,
    OneHandle,
    Status,
    StatVFS,
)
from trio_ssh.sftp.modes import Data, as_view, open_flags
from trio_ssh.sftp.operations import (
    Operations,
    checked_number,
    mode_attributes,
    owner_attributes,
    size_attributes,
    times_attributes,
)
from trio_ssh.sftp.protocol import KIB, OpenFlags, StatusCode
from trio_ssh.sftp.pure_path import RemotePath, shown
from trio_ssh.sftp.read_ahead import ReadAhead
from trio_ssh.sftp.scatter import Scatter
from trio_ssh.sftp.write_behind import WriteBehind

#: What is read at the least, unless the user says otherwise.
_LEAST_READ: Final = 8 * KIB

#: The largest offset: filexfer-02 has 64 bits, and every server a signed 64.
_LAST_OFFSET: Final = 2**63 - 1

#: Lines that an iteration gives without letting other tasks have their turn.
_LINES_AT_ONCE: Final = 64


class _Use(OneAtATime):
    """One task uses a file at a time; what fails meanwhile is told with the file's name."""

    __slots__ = ("_filename",)

    def __init__(self, filename: str | bytes) -> None:
        super().__init__("another task is using this remote file")
        self._filename = filename

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, SFTPError) and error.filename is None:
            error.filename = self._filename


@attrs.frozen
class _Opened:
    """What is known of a file when it is opened."""

    path: RemotePath
    mode: str
    flags: OpenFlags


class SFTPFile(BufferedFile):
    """An open remote file: Python's binary files, awaited.

    Reading goes ahead of you as long as you read in order, and twice as far each time.  Writing returns when the data
    is taken; what goes wrong later is raised by the next `write`, `flush` or `aclose`, so close the file and look.
    One task at a time uses a file; others get `trio.BusyResourceError`.

    Get one from `SFTPClient.open` or `SFTPPath.open`.
    """

    _HINTS: ClassVar[HintTable] = {
        **BufferedFile._HINTS,
        "gettimeout": NO_TIMEOUT,
        "setblocking": NO_TIMEOUT,
        "xreadlines": "iterate over the file: `async for line in file`",
    }

    def __init__(self, operations: Operations, opened: _Opened, handle: bytes, bufsize: int) -> None:
        self._link = operations._link
        self._operations = operations
        self._opened = opened
        self._handle = handle
        self._name = shown(opened.path)
        self._use = _Use(self._name)
        self._ahead = ReadAhead(self._link, handle, bufsize if bufsize > 1 else 1 if bufsize == 0 else _LEAST_READ)
        self._behind = WriteBehind(
            self._link,
            handle,
            bufsize if bufsize > 1 or bufsize == 0 else self._link.write_bytes,
            has_lines=bufsize == 1,
        )
        #: The user's position; while the file is read, `_ahead` has the same.
        self._position = 0
        #: Where the file ends, as far as appending goes: the server decides where it really writes.
        self._append_at = 0
        self._scattered: list[Scatter] = []
        self._has_told = False
        self._is_closed = False
        self._lines_given = 0

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<SFTPFile {self._name!r} {self._opened.mode!r}, {state}>"

    # -- about it

    @property
    def name(self) -> RemotePath:
        """The path that it was opened by."""
        return self._opened.path

    @property
    def mode(self) -> str:
        """The mode that it was opened in."""
        return self._opened.mode

    @property
    def closed(self) -> bool:
        """Tell whether it was closed."""
        return self._is_closed

    def readable(self) -> bool:
        """Tell whether it was opened for reading."""
        return bool(self._opened.flags & OpenFlags.READ)

    def writable(self) -> bool:
        """Tell whether it was opened for writing."""
        return bool(self._opened.flags & OpenFlags.WRITE)

    def seekable(self) -> bool:
        """Tell whether it has a position: always."""
        return True

    def fileno(self) -> int:
        """Raise `OSError`: there is no file descriptor on this side."""
        raise OSError("a remote file has no file descriptor")

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this remote file was closed")

    def _check_readable(self) -> None:
        self._check_open()
        if not self.readable():
            raise LocalProtocolError(f"this file was opened for writing only, by {self._opened.mode!r}: use 'r+'")

    def _check_writable(self) -> None:
        self._check_open()
        if not self.writable():
            raise LocalProtocolError(f"this file was opened for reading only, by {self._opened.mode!r}: use 'r+'")

    # -- where it is

    def tell(self) -> int:
        """Return the position.

        A cancelled read leaves it where it was; a cancelled write behind what was taken.
        """
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, and return it.

        Args:
            whence: `os.SEEK_SET`, `os.SEEK_CUR`, or `os.SEEK_END`, which asks the server for the size.
        """
        with self._use:
            self._check_open()
            if whence == os.SEEK_SET:
                start = 0
            elif whence == os.SEEK_CUR:
                start = self._position
            elif whence == os.SEEK_END:
                await self._send()
                start = await self._size()
            else:
                raise ValueError(f"whence is os.SEEK_SET, SEEK_CUR or SEEK_END, and not {whence}")
            await trio.lowlevel.checkpoint()
            self._position = checked_number("a position", start + offset, _LAST_OFFSET)
            return self._position

    async def _size(self, untold: int | None = None) -> int:
        """Return the size, or `untold` where the server doesn't tell."""
        attributes = await self._stat()
        if attributes.st_size is None:
            if untold is not None:
                return untold
            raise SFTPError(StatusCode.OP_UNSUPPORTED, "the server doesn't tell the file's size", self._name)
        if attributes.st_size > _LAST_OFFSET:
            raise OSError(errno.EOVERFLOW, f"the server says that it has {attributes.st_size} bytes", self._name)
        return attributes.st_size

    # -- reading

    async def _before_reading(self) -> None:
        """Make sure that the next byte that comes is the one at the position, and as it was written."""
        self._check_readable()
        await trio.lowlevel.checkpoint()
        if self._behind.unsettled_bytes:
            await self._settle()
        if self._ahead.position != self._position:
            self._ahead.seek(self._position)

    async def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end of the file; all up to there if it is negative or None.

        Raises:
            SFTPError: the server can't read on; the position is where it was.
            ConnectionLost: the session ended.

        Cancelled, it leaves the position where it was, and loses nothing.
        """
        with self._use:
            await self._before_reading()
            parts: list[bytes | bytearray | memoryview] = []
            if size is None or size < 0:
                self._ahead.read_all()
                await self._gather(parts, _LAST_OFFSET, self._link.limits.file_bytes)
            else:
                await self._gather(parts, size, size)
            return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)

    async def _gather(self, parts: list[bytes | bytearray | memoryview], size: int, wanted: int) -> None:
        """Take `size` bytes, or all that there are."""
        ahead = self._ahead
        left = size
        try:
            while left and await ahead.fill(min(left, wanted)):
                left -= ahead.take(parts, left)
        except BaseException:
            if left < size:
                ahead.drop()
                ahead.position = self._position
            raise
        self._position = ahead.position

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill a buffer; return how many bytes that were, fewer than it has only at the end of the file."""
        with self._use:
            await self._before_reading()
            view = memoryview(buffer).cast("B")
            parts: list[bytes | bytearray | memoryview] = []
            await self._gather(parts, len(view), len(view))
            at = 0
            for part in parts:
                view[at : at + len(part)] = part
                at += len(part)
            return at

    async def readline(self, size: int | None = -1) -> bytes:
        r"""Return the next line with its ``\n``; the last may have none; empty at the end.

        Args:
            size: bytes at the most.  Lines of more than 16 MiB come in pieces in any case.

        Cancelled, it loses nothing.
        """
        with self._use:
            await self._before_reading()
            return await self._read_line(LINE_BYTES if size is None or size < 0 else size)

    async def _read_line(self, limit: int) -> bytes:
        line = await self._ahead.read_line(limit)
        self._position = self._ahead.position
        return line

    async def readlines(self, sizehint: int | None = None) -> list[bytes]:
        """Return all lines that are left, or as many as make up `sizehint` bytes."""
        lines: list[bytes] = []
        size = 0
        while line := await self.readline():
            lines.append(line)
            size += len(line)
            if sizehint is not None and 0 < sizehint <= size:
                break
        return lines

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line.  Not every line lets other tasks have their turn, but any of them may be cancelled."""
        with self._use:
            self._lines_given += 1
            if self._lines_given % _LINES_AT_ONCE and self._position == self._ahead.position and not self._is_closed:
                await trio.lowlevel.checkpoint_if_cancelled()
                line = self._ahead.line_at_hand()
                if line is not None:
                    self._position = self._ahead.position
                    return line
            await self._before_reading()
            line = await self._read_line(LINE_BYTES)
            if not line:
                raise StopAsyncIteration
            return line

    async def prefetch(self, file_size: int | None = None, max_concurrent_requests: int | None = None) -> None:
        """Read ahead as far as `SFTPLimits.file_bytes` goes, from the position on, without waiting for it.

        Args:
            file_size: None to ask the server, meanwhile.
            max_concurrent_requests: blocks of this file that are asked for at once from now on; None for as many as
                `SFTPLimits.file_bytes` holds, and never more.
        """
        if max_concurrent_requests is not None and max_concurrent_requests < 1:
            raise ValueError(f"max_concurrent_requests is at least 1, not {max_concurrent_requests}")
        with self._use:
            await self._before_reading()
            self._ahead.bound(max_concurrent_requests)
            self._ahead.read_all(file_size)

    def readv(self, chunks: Iterable[tuple[int, int]]) -> Scatter:
        """Read pieces, many at a time: iterate over what it returns to get them, in their order.

            async for data in file.readv([(0, 512), (4096, 512)]):
                ...

        Args:
            chunks: offsets and sizes.  A piece is short where the file ends in it.

        The position stays.  What `write` has taken before is in them, if it was sent: `flush` it.
        """
        self._check_readable()
        self._behind.send_nowait()
        pieces = [
            (checked_number("an offset", offset, _LAST_OFFSET), checked_number("a size", size, _LAST_OFFSET))
            for offset, size in chunks
        ]
        scatter = Scatter(self._link, self._handle, pieces, self._name)
        self._scattered = [other for other in self._scattered if not other.is_over]
        self._scattered.append(scatter)
        return scatter

    # -- writing

    async def write(self, data: Data) -> int:
        """Take all of `data`, which is yours again on return; return how much that was.

        Raises:
            SFTPError: an earlier write has failed; nothing more can be written.
            ConnectionLost: the session ended.

        It waits only while as much is under way as may be.  Cancelled, it leaves the position behind what was taken.
        """
        with self._use:
            self._check_writable()
            await trio.lowlevel.checkpoint()
            view = as_view(data)
            total = len(view)
            is_appending = bool(self._opened.flags & OpenFlags.APPEND)
            if is_appending and view:
                self._position = self._append_at
            if view:
                self._ahead.forget()
            try:
                while view:
                    taken = await self._behind.write_some(view, self._position)
                    self._check_open()
                    self._position += taken
                    if is_appending:
                        self._append_at = self._position
                    view = view[taken:]
            except SFTPError:
                self._has_told = True
                raise
            return total

    async def writelines(self, lines: Iterable[Data]) -> None:
        """Write each of `lines`."""
        await trio.lowlevel.checkpoint()
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Send what was gathered, and wait until the server has taken everything.

        Raises:
            SFTPError: a write has failed.
            ConnectionLost: the session ended.

        Cancelled, it has lost nothing.
        """
        with self._use:
            self._check_open()
            await trio.lowlevel.checkpoint()
            await self._settle()

    async def _settle(self) -> None:
        await self._telling(self._behind.settle())

    async def _send(self) -> None:
        await self._telling(self._behind.send_gathered())

    async def _telling(self, waiting: Awaitable[None]) -> None:
        """Wait, and remember that the user was told what went wrong."""
        try:
            await waiting
        except SFTPError:
            self._has_told = True
            raise

    async def fsync(self) -> None:
        """Have the server put the file on its disk: ``fsync@openssh.com``.

        Raises:
            SFTPUnsupported: it can't.
        """
        with self._use:
            self._check_open()
            await self._settle()
            details = OneHandle(self._handle).encode()
            await self._operations._extended("fsync@openssh.com", details, Status, self._name)

    async def truncate(self, size: int | None = None) -> int:
        """Cut the file to `size` bytes, or to the position, or fill it up with zeros; return the size.

        The position stays.
        """
        with self._use:
            self._check_writable()
            await self._settle()
            size = self._position if size is None else size
            await self._set(size_attributes(size))
            self._ahead.forget()
            self._append_at = size
            return size

    # -- attributes

    async def stat(self) -> SFTPAttributes:
        """Return the file's attributes; what was written is counted."""
        with self._use:
            self._check_open()
            await self._send()
            return await self._stat()

    async def _stat(self) -> SFTPAttributes:
        return (await self._link.ask(Fstat(self._handle), Attrs, self._name)).attributes

    async def _set(self, attributes: SFTPAttributes) -> None:
        await self._link.ask(Fsetstat(self._handle, attributes), Status, self._name)

    async def setstat(self, attributes: SFTPAttributes) -> None:
        """Set those attributes that are not None, in one request."""
        with self._use:
            self._check_open()
            # Behind what was written, which would change the times again.
            await self._send()
            await self._set(attributes)
            if attributes.st_size is not None:
                self._ahead.forget()

    async def chmod(self, mode: int) -> None:
        """Change permissions."""
        await self.setstat(mode_attributes(mode))

    async def chown(self, uid: int, gid: int) -> None:
        """Change the owner."""
        await self.setstat(owner_attributes(uid, gid))

    async def utime(self, times: tuple[float, float] | None = None) -> None:
        """Set access and modification time, in seconds since 1970; None is now."""
        await self.setstat(times_attributes(times))

    async def statvfs(self) -> StatVFS:
        """Return what is known of the filesystem that the file lies on: ``fstatvfs@openssh.com``."""
        with self._use:
            self._check_open()
            details = OneHandle(self._handle).encode()
            reply = await self._operations._extended("fstatvfs@openssh.com", details, ExtendedReply, self._name)
            return StatVFS.decode(reply.details)

    async def check(self, hash_algorithm: str, offset: int = 0, length: int = 0, block_size: int = 0) -> bytes:
        """Have the server hash the file, without fetching it: ``check-file``.

        Args:
            hash_algorithm: such as ``"sha256"``; or several, separated by commas, the one you like best first.
            offset, length: of what part; a length of 0 is all up to the end.
            block_size: 0 for one hash; otherwise one for each block of so many bytes, at least 256, joined.

        Raises:
            SFTPUnsupported: the server can't; OpenSSH's doesn't.
        """
        with self._use:
            self._check_open()
            await self._settle()
            details = CheckFile(
                self._handle,
                hash_algorithm,
                checked_number("an offset", offset, _LAST_OFFSET),
                checked_number("a length", length, _LAST_OFFSET),
                checked_number("a block size", block_size),
            ).encode()
            reply = await self._operations._extended("check-file", details, ExtendedReply, self._name)
            return CheckFileReply.decode(reply.details).digests

    # -- its end

    async def aclose(self) -> None:
        """Send what was gathered, wait until the server has taken everything, and give the handle back.

        Raises:
            SFTPError: a write has failed, and nobody was told; or the server could not close the file.
            ConnectionLost: the session ended before everything was acknowledged.

        Cancelled, it sends what there is room for, and the handle is given back all the same.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        self._ahead.drop()
        for scatter in self._scattered:
            scatter.close()
        if self._link.failure is not None and (self._has_told or not self._behind.unsettled_bytes):
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._close()
        except SFTPError as error:
            if error.filename is None:
                error.filename = self._name
            raise

    async def _close(self) -> None:
        answer = Answer(self._link, Status)
        failure: SFTPError | None = None
        try:
            try:
                await self._behind.send_gathered()
            finally:
                if self._link.failure is None:
                    # Behind the last WRITE, and not a round trip later: filexfer-02 s6.1 keeps the order.
                    self._link.submit(Close(self._handle), answer)
            await self._behind.settle()
        except SFTPError as error:
            failure = error
        if failure is not None and not self._has_told:
            raise failure
        reply = await answer.wait()
        if failure is None and isinstance(reply, Status) and reply.code != StatusCode.OK:
            raise as_error(reply, self._name)


async def open_file(
    operations: Operations, path: RemotePath, mode: str = "r", bufsize: int = -1, *, permissions: int | None = None
) -> SFTPFile:
    """Open a file: what `SFTPClient.open` does."""
    flags = open_flags(mode)
    attributes = SFTPAttributes() if permissions is None else mode_attributes(permissions)
    handle = await operations._open_handle(path, flags, attributes)
    file = SFTPFile(operations, _Opened(path, mode, flags), handle, bufsize)
    if flags & OpenFlags.APPEND:
        try:
            file._append_at = file._position = await file._size(0)
        except BaseException:
            operations._link.close_later(handle)
            raise
    return file
