"""Single files: from the server, to it, and from one of its files to another.

A transfer is one task that waits for the network and for one thread, in turns; what is under way meanwhile is the
pipeline's.  What arrived is written by one hop for as much as has gathered; what is sent is read by one hop straight
into buffers with room for the heads of the WRITEs.  Of those there are so many that they hold what may be under way,
and no more.

A size that someone states is a claim, good for progress and for asking ahead.  A file ends where reading it says so.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import attrs
import trio

from trio_ssh.errors import SFTPError
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link, Share
from trio_ssh.sftp.local import Finish, LocalReader, LocalWriter, Parts
from trio_ssh.sftp.messages import Attrs, CheckFile, CheckFileReply, Extended, ExtendedReply, Handle, Open, Stat
from trio_ssh.sftp.pipeline import Block, ReadPipeline, WritePipeline
from trio_ssh.sftp.protocol import MIB, OpenFlags
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.remote_writer import RemoteWriter
from trio_ssh.sftp.round import Round

#: Told after each gathered write: bytes that are done, and the size as far as it is known.
Callback = Callable[[int, int], object]

#: What one hop into a thread writes or reads at the most.
GATHERED_BYTES: Final = 4 * MIB

#: What one buffer of an upload holds, and how many there are.
_BUFFER_BYTES: Final = 2 * MIB
_BUFFERS: Final = 6

#: Of a part that is continued, what is compared where the server has no hashes.
OVERLAP_BYTES: Final = 1 * MIB

#: What one hop into a thread hashes: a cancelled transfer waits for no more.
_HASHED_BYTES: Final = 64 * MIB


@attrs.frozen(kw_only=True)
class Options:
    """How files are transferred.

    Attributes:
        preserve: keep permissions and times.
        resume: continue a part that an earlier transfer left.
        atomic: write a part beside the target and rename it over the target.
        sparse: leave holes out.
        confirm: compare the size that the server states in the end.
    """

    preserve: bool = False
    resume: bool = False
    atomic: bool = True
    sparse: bool = True
    confirm: bool = True


DEFAULT_OPTIONS: Final = Options()


class Progress:
    """Whoever is told how far it is.

    Args:
        callback: a function or coroutine function of bytes done and bytes in all, or None.
    """

    def __init__(self, callback: Callback | None) -> None:
        self._callback = callback
        self._told = -1

    async def tell(self, done: int, total: int) -> None:
        """Tell; whatever the callback raises ends the transfer."""
        if self._callback is not None and done != self._told:
            self._told = done
            result = self._callback(done, max(done, total))
            if inspect.isawaitable(result):
                await result


def mode_of(attributes: SFTPAttributes) -> int | None:
    """Return the permissions that a copy may have: a server's setuid bits mean nothing here, nor ours there."""
    return None if attributes.st_mode is None else attributes.st_mode & 0o777


def times_of(attributes: SFTPAttributes) -> tuple[int, int] | None:
    """Return the times of access and modification."""
    if attributes.st_atime is None or attributes.st_mtime is None:
        return None
    return attributes.st_atime, attributes.st_mtime


# -- from the server


async def open_source(link: Link, path: bytes) -> tuple[bytes, SFTPAttributes]:
    """Open a file to read it, and look at it: one round trip.

    Raises:
        SFTPError: it can't be read.
        IsADirectoryError: it is a directory.
    """
    round_ = Round(link)
    stated = round_.add(Stat(path), Attrs)
    opening = round_.add(Open(path, OpenFlags.READ, SFTPAttributes()), Handle)
    await round_.wait()
    there = stated.get_or_none(Attrs)
    attributes = there.attributes if there is not None else SFTPAttributes()
    if attributes.is_dir():
        opened = opening.get_or_none(Handle)
        if opened is not None:
            link.close_later(opened.handle)
        raise IsADirectoryError(errno.EISDIR, "Is a directory, which recurse=True gets as a whole", decoded(path))
    return opening.get(Handle, decoded(path)).handle, attributes


class Sink(Protocol):
    """Takes what arrives, in order."""

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it; what comes next, if anything does, lies behind."""
        ...


async def receive(
    link: Link, handle: bytes, path: bytes, sink: Sink, progress: Progress, *, offset: int = 0, size: int = 0
) -> int:
    """Read an open file to its end; return where that is.

    Args:
        offset: where to begin.
        size: the file's, as far as it is known.

    Raises:
        SFTPError: the server could not read on.
        ConnectionLost: the session ended.
    """
    pipeline = ReadPipeline(link, Share(link), handle, offset, size)
    taken: list[Block] = []
    is_last = False
    try:
        while not is_last:
            await pipeline.wait()
            taken = pipeline.take(GATHERED_BYTES)
            assert taken, "a file ends in a block, and anything else that ends it is raised"
            is_last = taken[-1].is_last
            parts = [part for block in taken for part in block.parts.pieces()]
            await sink.write(parts, offset, is_last=is_last)
            offset += sum(map(len, parts))
            del parts
            blocks, taken = taken, []
            for block in blocks:
                pipeline.give_back(block)
            del blocks
            await progress.tell(offset, size)
    except SFTPError as error:
        error.filename = error.filename or decoded(path)
        raise
    finally:
        pipeline.close()
        for block in taken:
            pipeline.give_back(block)
    return offset


@attrs.define
class _FileSink:
    """A local file.  What comes last finishes it in the same hop."""

    writer: LocalWriter
    finish: Finish

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it."""
        await trio.to_thread.run_sync(self._write, parts, offset, is_last)

    def _write(self, parts: Parts, offset: int, is_last: bool) -> None:
        if any(parts):
            self.writer.write(parts, offset)
        if is_last:
            self.writer.finish(self.finish)


async def get_file(link: Link, path: bytes, writer: LocalWriter, options: Options, progress: Progress) -> int:
    """Get one file; return its size.

    Raises:
        SFTPError: the server could not read it.
        OSError: it could not be written here.
        ConnectionLost: the session ended.

    Cancelled, or failed, the target is as it was; a part may stay beside it, unless `Options.atomic` is off.
    """
    handle: bytes | None = None
    try:
        handle, attributes = await open_source(link, path)
        size = attributes.st_size or 0
        finish = Finish()
        writer.mode = writer.mode if attributes.st_mode is None else attributes.st_mode & 0o777
        if options.preserve:
            finish = Finish(mode=mode_of(attributes), times=times_of(attributes))
        offset = 0
        if options.resume:
            await trio.to_thread.run_sync(writer.open)
            offset = await _resume_get(link, handle, path, writer, size)
        return await receive(link, handle, path, _FileSink(writer, finish), progress, offset=offset, size=size)
    finally:
        if handle is not None and link.failure is None:
            link.close_later(handle)
        if writer.is_open:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(writer.abandon)


async def _resume_get(link: Link, handle: bytes, path: bytes, writer: LocalWriter, size: int) -> int:
    """Return where to go on: behind a part that is the file's start, or at 0."""
    kept = writer.kept_bytes
    if not kept:
        return 0
    if kept <= size and await _is_start_of(link, handle, path, writer.read, kept):
        return kept
    await trio.to_thread.run_sync(writer.restart)
    return 0


class _Comparing:
    """A sink that compares what comes with a local file."""

    def __init__(self, read: Callable[[int, int], bytes], end: int) -> None:
        self._read = read
        self._end = end
        self.is_same: bool = True

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Compare."""
        await trio.to_thread.run_sync(self._compare, parts, offset)

    def _compare(self, parts: Parts, offset: int) -> None:
        theirs = b"".join(parts)[: max(0, self._end - offset)]
        if self._read(offset, len(theirs)) != theirs:
            self.is_same = False


async def _is_start_of(link: Link, handle: bytes, path: bytes, read: Callable[[int, int], bytes], size: int) -> bool:
    """Tell whether the first `size` bytes are the same here and there.

    All of them are compared by SHA-256 where the server knows ``check-file``; else only the last `OVERLAP_BYTES`.
    """
    theirs = await _their_hash(link, handle, size)
    if theirs is not None:
        return theirs == await _our_hash(read, size)
    start = max(0, size - OVERLAP_BYTES)
    comparing = _Comparing(read, size)
    pipeline = ReadPipeline(link, Share(link), handle, start, size, ahead_bytes=OVERLAP_BYTES, grows=False)
    try:
        while start < size and comparing.is_same:
            await pipeline.wait()
            blocks = pipeline.take(GATHERED_BYTES)
            parts = [part for block in blocks for part in block.parts.pieces()]
            got = sum(map(len, parts))
            for block in blocks:
                pipeline.give_back(block)
            if not got:
                return False
            await comparing.write(parts, start, is_last=False)
            start += got
    except SFTPError as error:
        error.filename = error.filename or decoded(path)
        raise
    finally:
        pipeline.close()
    return comparing.is_same


async def _their_hash(link: Link, handle: bytes, size: int) -> bytes | None:
    if b"check-file" not in link.session.extensions:
        return None
    details = CheckFile(handle, "sha256", 0, size, 0).encode()
    try:
        reply = await link.ask(Extended("check-file-handle", details), ExtendedReply)
    except SFTPError:
        return None
    answer = CheckFileReply.decode(reply.details)
    return answer.digests if answer.hash_name == "sha256" and len(answer.digests) == 32 else None


async def _our_hash(read: Callable[[int, int], bytes], size: int) -> bytes:
    digest = hashlib.sha256()

    def update(offset: int) -> None:
        end = min(size, offset + _HASHED_BYTES)
        while offset < end:
            data = read(offset, min(MIB, end - offset))
            if not data:
                break
            digest.update(data)
            offset += len(data)

    for offset in range(0, size, _HASHED_BYTES):
        await trio.to_thread.run_sync(update, offset)
    return digest.digest()


# -- to the server


class _Ring:
    """The buffers of an upload: blocks, each behind room for the head of its WRITE."""

    def __init__(self, head: int, block: int, size: int) -> None:
        self.head: int = head
        self.block: int = block
        self.step: int = head + block
        self.blocks: int = max(1, min(_BUFFER_BYTES, size + 1) // block)
        self.bytes: int = self.blocks * block
        #: Buffers, the one that was used longest ago first; and how many bytes had been written when each was used up.
        self._used: deque[tuple[memoryview, int]] = deque()
        self._free: memoryview | None = None
        self._written = 0

    def take(self) -> tuple[memoryview, int]:
        """Return a buffer, and how many bytes may be unacknowledged when it is filled.

        WRITEs are sent in order, whatever the order of their replies, and so as many acknowledged bytes as had been
        written when the buffer was used up are proof that all of it has been sent.  A buffer may hold little: a file of
        many holes comes in small pieces, and six of them are used up long before the first has left.
        """
        if self._free is not None or len(self._used) < _BUFFERS:
            buffer, self._free = self._free or memoryview(bytearray(self.blocks * self.step)), None
            return buffer, self.bytes * _BUFFERS
        buffer, mark = self._used.popleft()
        return buffer, self._written - mark

    def used(self, buffer: memoryview, size: int, *, is_free: bool) -> None:
        """So many bytes of a buffer were written.

        Args:
            is_free: they were copied, and so it can be used again at once.
        """
        self._written += size
        if is_free:
            self._free = buffer
        else:
            self._used.append((buffer, self._written))

    def spaces(self, buffer: memoryview) -> list[memoryview]:
        """Return where the data goes."""
        return [buffer[start : start + self.block] for start in range(self.head, len(buffer), self.step)]


async def send(
    link: Link, source: LocalReader, handle: bytes, path: bytes, progress: Progress, *, offset: int = 0
) -> int:
    """Write a local file to an open one, from `offset` on; return where the local one ends.

    Raises:
        SFTPError: the server could not write.
        OSError: it could not be read here.
        ConnectionLost: the session ended.
    """
    size = source.status.st_size
    writer = WritePipeline(link, Share(link), handle)
    ring = _Ring(writer.head_size, link.write_bytes, max(0, size - offset))
    try:
        while True:
            buffer, under_way = ring.take()
            await writer.wait_below(under_way)
            offset, got = await trio.to_thread.run_sync(source.fill, ring.spaces(buffer), offset)
            if not got:
                break
            # Small pieces are worth a copy: else six of them, with little in them, would be all that is under way.
            is_copied = got < ring.bytes // _BUFFERS
            await _send_buffer(writer, ring, buffer, offset, got, is_copied=is_copied)
            ring.used(buffer, got, is_free=is_copied)
            offset += got
            if offset > writer.under_way:
                await progress.tell(offset - writer.under_way, size)
        await writer.wait_below(0)
    except SFTPError as error:
        error.filename = error.filename or decoded(path)
        raise
    await progress.tell(offset, offset)
    return offset


async def _send_buffer(
    writer: WritePipeline, ring: _Ring, buffer: memoryview, offset: int, got: int, *, is_copied: bool
) -> None:
    for start in range(0, len(buffer), ring.step):
        part = min(got, ring.block)
        await writer.wait_room(part)
        packet = buffer[start : start + ring.head + part]
        writer.write(memoryview(bytearray(packet)) if is_copied else packet, offset)
        offset += part
        got -= part
        if not got:
            break


async def put_file(
    link: Link, source: LocalReader, path: bytes, options: Options, progress: Progress
) -> SFTPAttributes:
    """Put one file; return what the server says of it, which is nothing without `Options.confirm`.

    Raises:
        SFTPError: the server could not write it.
        OSError: it could not be read here, or its size in the end is another one.
        ConnectionLost: the session ended.

    Cancelled, or failed, the target is as it was; a part may stay beside it, unless `Options.atomic` is off.
    """
    if not source.is_open:
        await trio.to_thread.run_sync(source.open)
    status = source.status
    mode = status.st_mode & 0o777 if source.is_regular else None
    writer = RemoteWriter(link, path, mode=mode, atomic=options.atomic, resume=options.resume)
    try:
        await writer.open()
        offset = 0
        if writer.kept_bytes:
            offset = await _resume_put(link, writer, source)
        end = await send(link, source, writer.handle, writer.written, progress, offset=offset)
        is_kept = options.preserve
        return await writer.finish(
            end,
            mode=mode if is_kept else None,
            times=(int(status.st_atime) & 0xFFFFFFFF, int(status.st_mtime) & 0xFFFFFFFF) if is_kept else None,
            has_holes=source.has_holes,
            confirm=options.confirm,
        )
    finally:
        writer.abandon()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(source.close)


async def _resume_put(link: Link, writer: RemoteWriter, source: LocalReader) -> int:
    """Return where to go on: behind a part that is the file's start, or at 0."""
    kept = writer.kept_bytes
    if (
        source.is_regular
        and kept <= source.status.st_size
        and await _is_start_of(link, writer.handle, writer.written, source.read, kept)
    ):
        return kept
    await writer.restart()
    return 0


# -- from and to file objects


class _ObjectSink:
    """A file object with a `write` that is sync, and then is called in a thread, or async."""

    def __init__(self, file: Any) -> None:
        self._write = file.write
        self._is_async = inspect.iscoroutinefunction(file.write)

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it."""
        if self._is_async:
            for part in parts:
                await _write_all_async(self._write, part)
        elif parts:
            await trio.to_thread.run_sync(self._write_parts, parts)

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


async def get_object(link: Link, path: bytes, file: Any, progress: Progress) -> int:
    """Write what a file holds to a file object; return how much that was.

    Raises:
        SFTPError: the server could not read it.
        ConnectionLost: the session ended.

    Cancelled, the file object has the file's start.
    """
    handle, attributes = await open_source(link, path)
    try:
        return await receive(link, handle, path, _ObjectSink(file), progress, size=attributes.st_size or 0)
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
    read = file.read
    is_async = inspect.iscoroutinefunction(read)
    remote = RemoteWriter(link, path, atomic=options.atomic)
    try:
        await remote.open()
        writer = WritePipeline(link, Share(link), remote.handle)
        head, offset = writer.head_size, 0
        try:
            while True:
                await writer.wait_below(_BUFFER_BYTES * _BUFFERS)
                data = await read(_BUFFER_BYTES) if is_async else await trio.to_thread.run_sync(read, _BUFFER_BYTES)
                if not data:
                    break
                for part in _cut(_bytes_of(data), link.write_bytes):
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
        remote.abandon(remove=True)


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


def local_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """Return a local path as the system takes it.

    Raises:
        TypeError: it is a remote path, or no path at all.
        ValueError: it has a NUL in it, or is empty.
    """
    encoded = os.fsencode(path)
    if not encoded or b"\0" in encoded:
        raise ValueError(f"a local path is not empty and has no NUL in it: {path!r}")
    return encoded
