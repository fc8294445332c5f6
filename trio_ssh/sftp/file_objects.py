"""From the server to file objects, and from file objects to it; see `runtime.file_objects`."""

from __future__ import annotations

from typing import Any, Final

from trio_ssh.errors import SFTPError
from trio_ssh.runtime.file_objects import ObjectSink, ObjectSource
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link
from trio_ssh.sftp.local import Parts
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.remote_writer import RemoteWriter
from trio_ssh.sftp.transfer import BUFFER_BYTES, GATHERED_BYTES, Options, Progress, open_source, receive

#: What is not acknowledged before more is read.
_UNDER_WAY_BYTES: Final = 6 * BUFFER_BYTES


class _Sink:
    def __init__(self, file: Any) -> None:
        self.most_bytes: int = GATHERED_BYTES
        self._object = ObjectSink(file)

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it."""
        await self._object.write(parts)


async def get_object(link: Link, path: bytes, file: Any, progress: Progress, *, requests: int | None = None) -> int:
    """Write what a file holds to a file object; return how much that was.

    Args:
        requests: see `Options`.

    Raises:
        SFTPError: the server could not read it.
        ConnectionLost: the session ended.

    Cancelled, the file object has the file's start.
    """
    sink = _Sink(file)
    handle, attributes = await open_source(link, path)
    try:
        size = attributes.st_size or 0
        return await receive(link, handle, path, sink, progress, size=size, requests=requests)
    finally:
        if link.failure is None:
            link.close_later(handle)


async def put_object(
    link: Link, file: Any, path: bytes, size: int, options: Options, progress: Progress
) -> SFTPAttributes:
    """Put what a file object gives up to its end.

    Args:
        file: with a `read` of so many bytes that is sync, and then is called in a thread, or async.
        size: what `progress` is told; 0 where it isn't known.

    Raises: as `put_file`.
    """
    source = ObjectSource(file, BUFFER_BYTES)
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


def _cut(data: memoryview, size: int) -> list[memoryview]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _packet(head: int, *parts: memoryview | bytearray) -> memoryview:
    """Return a WRITE's packet, its head still to be filled."""
    packet = bytearray(head)
    for part in parts:
        packet += part
    return memoryview(packet)
