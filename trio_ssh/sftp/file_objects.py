"""From the server to file objects, and from file objects to it.

What is in memory is read and written at once, regular files in threads.  What may block for ever, such as a pipe, is
waited for where that is possible, and elsewhere its thread is left behind by whoever is cancelled.
"""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from trio_ssh.errors import SFTPError
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link
from trio_ssh.sftp.local import Parts
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.remote_writer import RemoteWriter
from trio_ssh.sftp.transfer import BUFFER_BYTES, GATHERED_BYTES, Options, Progress, open_source, receive, wait_readable

#: What is not acknowledged before more is read.
_UNDER_WAY_BYTES: Final = 6 * BUFFER_BYTES


def _is_plain(file: object, method: str) -> bool:
    """Whether a file object does as `io.BytesIO` does: it is in memory, and never blocks."""
    kind: type[object] = type(file)
    return getattr(kind, method, None) is getattr(io.BytesIO, method)


def _is_special(file: Any) -> bool:
    """Whether a file object stands for a pipe, a terminal or the like, which may block for ever."""
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError, ValueError, TypeError):
        return False


class _ObjectSink:
    """A file object with a `write` that is sync, and then is called in a thread unless it is in memory, or async."""

    def __init__(self, file: Any) -> None:
        self.most_bytes: int = GATHERED_BYTES
        self._write = file.write
        self._is_async = inspect.iscoroutinefunction(file.write)
        self._is_in_memory = _is_plain(file, "write")
        self._is_special = not self._is_in_memory and _is_special(file)

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it."""
        if self._is_async:
            for part in parts:
                await _write_all_async(self._write, part)
        elif self._is_in_memory:
            self._write_parts(parts)
        elif parts:
            await trio.to_thread.run_sync(self._write_parts, parts, abandon_on_cancel=self._is_special)

    def _write_parts(self, parts: Parts) -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                written = self._write(view)
                # A raw file may write less than it is given; others return None, or all.
                view = view[written if isinstance(written, int) and written > 0 else len(view) :]


async def _write_all_async(write: Callable[[memoryview], Awaitable[object]], part: memoryview | bytearray) -> None:
    view = memoryview(part)
    while view:
        written = await write(view)
        view = view[written if isinstance(written, int) and written > 0 else len(view) :]


async def get_object(link: Link, path: bytes, file: Any, progress: Progress, *, requests: int | None = None) -> int:
    """Write what a file holds to a file object; return how much that was.

    Args:
        requests: see `Options`.

    Raises:
        SFTPError: the server could not read it.
        ConnectionLost: the session ended.

    Cancelled, the file object has the file's start.
    """
    handle, attributes = await open_source(link, path)
    try:
        size = attributes.st_size or 0
        return await receive(link, handle, path, _ObjectSink(file), progress, size=size, requests=requests)
    finally:
        if link.failure is None:
            link.close_later(handle)


class _ObjectSource:
    """A file object with a `read` that is sync, and then is called in a thread unless it is in memory, or async."""

    def __init__(self, file: Any) -> None:
        self._read = file.read
        self._is_async = inspect.iscoroutinefunction(file.read)
        self._is_in_memory = _is_plain(file, "read")
        self._is_special = not self._is_in_memory and _is_special(file)
        self._waits_for = -1
        if self._is_special and type(file) in (io.BufferedReader, io.FileIO):
            # A thread that is left behind in there holds its lock, and ends the whole program in an abort.
            self._waits_for = file.fileno()
            self._read = getattr(file, "read1", file.read)

    async def read(self) -> memoryview:
        """Return the next bytes; none at the end."""
        if self._is_async:
            data = await self._read(BUFFER_BYTES)
        elif self._is_in_memory:
            data = self._read(BUFFER_BYTES)
        else:
            if self._waits_for >= 0:
                await wait_readable(self._waits_for)
            data = await trio.to_thread.run_sync(self._read, BUFFER_BYTES, abandon_on_cancel=self._is_special)
        if not data:
            return memoryview(b"")
        return _bytes_of(data)


async def put_object(
    link: Link, file: Any, path: bytes, size: int, options: Options, progress: Progress
) -> SFTPAttributes:
    """Put what a file object gives up to its end.

    Args:
        file: with a `read` of so many bytes that is sync, and then is called in a thread, or async.
        size: what `progress` is told; 0 where it isn't known.

    Raises: as `put_file`.
    """
    source = _ObjectSource(file)
    remote = RemoteWriter(link, path, atomic=options.atomic)
    try:
        await remote.open()
        writer = remote.pipeline()
        head, offset = writer.head_size, 0
        try:
            while True:
                await writer.wait_below(_UNDER_WAY_BYTES)
                data = await source.read()
                if not data:
                    break
                for part in _cut(data, link.write_bytes):
                    await writer.wait_room(len(part))
                    writer.write(_packet(head, part), offset)
                    offset += len(part)
                if offset > writer.under_way:
                    await progress.tell(offset - writer.under_way, size)
            await writer.wait_below(0)
        except SFTPError as error:
            error.filename = error.filename or decoded(path)
            raise
        await progress.tell(offset, offset)
        return await remote.finish(offset, confirm=options.confirm)
    finally:
        # Nobody can resume what a file object gave.
        await remote.discard()  # noqa: ASYNC102 -- it has bounds of its own


def _bytes_of(data: Any) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError:
        text = f"a file object is to give bytes, and this one gives {type(data).__name__}: open it as binary, by 'rb'"
        raise TypeError(text) from None


def _cut(data: memoryview, size: int) -> list[memoryview]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _packet(head: int, *parts: memoryview | bytearray) -> memoryview:
    """Return a WRITE's packet, its head still to be filled."""
    packet = bytearray(head)
    for part in parts:
        packet += part
    return memoryview(packet)
