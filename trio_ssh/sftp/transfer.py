"""Single files, from the server and to it.

A transfer is one task that waits for the network and for one thread, in turns; what is under way meanwhile is the
pipeline's.  What arrived is written by one hop for as much as has gathered; what is sent is read by one hop straight
into buffers with room for the heads of the WRITEs.  What the system has in memory costs no hop.

A size that someone states is a claim, good for progress and for asking ahead.  A file ends where reading it says so.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from trio_ssh.errors import SFTPError
from trio_ssh.runtime.file_objects import wait_readable
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.blocks import Buffers
from trio_ssh.sftp.feed import Feed
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

#: What it waits for, where more is on its way: a hop costs 100 us, and the requests for what follows leave together.
#: Measured, of a get into memory, which takes no hop: 12 % less CPU than with 1 MiB, for a step of a millisecond.
_STEP_BYTES: Final = 3 * MIB

#: What part of a file's ceiling that may be: the rest is under way meanwhile.
_STEP_SHARE: Final = 4

#: What a buffer of an upload holds that a thread fills, and how many there are.
BUFFER_BYTES: Final = 2 * MIB
_BUFFERS: Final = 3

#: Of a part that is continued, what is compared where the server has no hashes.
OVERLAP_BYTES: Final = 1 * MIB

#: How often a FIFO is tried that nobody reads.
_TRIED_SECONDS: Final = 0.1

#: What one hop into a thread hashes: a cancelled transfer waits for no more.
_HASHED_BYTES: Final = 64 * MIB


@attrs.frozen(kw_only=True)
class Options:
    """How files are transferred.

    Attributes:
        preserve: keep permissions and times.
        times: keep the times alone, by which a tree that is continued knows what it has.
        requests: READs of one file that are under way at once; None for as many as are of use.
        resume: continue a part that an earlier transfer left.
        atomic: write a part beside the target and rename it over the target.
        sparse: leave holes out.
        confirm: compare the size that the server states in the end.
    """

    preserve: bool = False
    times: bool = False
    requests: int | None = None
    resume: bool = False
    atomic: bool = True
    sparse: bool = True
    confirm: bool = True

    @property
    def keeps_times(self) -> bool:
        """Whether the times are kept, with permissions or alone."""
        return self.preserve or self.times


DEFAULT_OPTIONS: Final = Options()


class Progress:
    """Whoever is told how far it is.

    Args:
        callback: a function or coroutine function of bytes done and bytes in all, or None.
    """

    def __init__(self, callback: Callback | None) -> None:
        self._callback = callback
        self._told = -1

    @property
    def is_heard(self) -> bool:
        """Whether there is somebody."""
        return self._callback is not None

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


def wire_times(status: os.stat_result) -> tuple[int, int]:
    """Return a local file's times of access and modification as version 3 has them: seconds, in 32 bits."""
    return int(status.st_atime) & 0xFFFFFFFF, int(status.st_mtime) & 0xFFFFFFFF


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

    @property
    def most_bytes(self) -> int:
        """What one write is given at the most, about."""
        ...

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it; what comes next, if anything does, lies behind."""
        ...


async def receive(
    link: Link,
    handle: bytes,
    path: bytes,
    sink: Sink,
    progress: Progress,
    *,
    offset: int = 0,
    size: int = 0,
    requests: int | None = None,
) -> int:
    """Read an open file to its end; return where that is.

    Args:
        offset: where to begin.
        size: the file's, as far as it is known.
        requests: how many are under way at the most, or None.

    Raises:
        SFTPError: the server could not read on.
        ConnectionLost: the session ended.
    """
    ahead = None if requests is None else requests * link.read_bytes
    pipeline = ReadPipeline(
        link,
        Share(link),
        handle,
        offset,
        size,
        ahead_bytes=ahead,
        grows=requests is None,
        gathered_bytes=min(_STEP_BYTES, link.limits.file_bytes // _STEP_SHARE),
    )
    taken: list[Block] = []
    is_last = False
    try:
        while not is_last:
            await pipeline.wait()
            taken = pipeline.take(sink.most_bytes)
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


async def _wait_writable(descriptor: int) -> None:
    """Wait until a FIFO or a device has room.  A checkpoint, always."""
    if descriptor < 0:
        # Nothing tells when somebody opens the other end of a FIFO, but to try.
        await trio.sleep(_TRIED_SECONDS)
        return
    await trio.lowlevel.wait_writable(descriptor)


@attrs.define
class _FileSink:
    """A local file.  What comes last finishes it in the same hop."""

    writer: LocalWriter
    finish: Finish

    @property
    def most_bytes(self) -> int:
        """What one hop into a thread is worth; without one, what others can wait for."""
        return _STEP_BYTES if self.writer.is_in_memory else GATHERED_BYTES

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Write all of it."""
        if self.writer.is_in_memory and not is_last:
            self.writer.write(parts, offset)
            await trio.lowlevel.checkpoint()
            return
        is_written = await trio.to_thread.run_sync(self._write, parts, offset, is_last)
        while not is_written:
            await _wait_writable(self.writer.descriptor)
            is_written = await trio.to_thread.run_sync(self._go_on, is_last)

    def _write(self, parts: Parts, offset: int, is_last: bool) -> bool:
        is_written = self.writer.write(parts if any(parts) else (), offset)
        return self._end(is_written, is_last)

    def _go_on(self, is_last: bool) -> bool:
        return self._end(self.writer.write_rest(), is_last)

    def _end(self, is_written: bool, is_last: bool) -> bool:
        if is_written and is_last:
            self.writer.finish(self.finish)
        return is_written


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
        mode = mode_of(attributes)
        writer.mode = writer.mode if mode is None else mode
        finish = Finish(
            mode=mode if options.preserve else None,
            times=times_of(attributes) if options.keeps_times else None,
        )
        offset = 0
        if options.resume:
            await trio.to_thread.run_sync(writer.open)
            offset = await _resume_get(link, handle, path, writer, size)
        sink = _FileSink(writer, finish)
        requests = options.requests
        return await receive(link, handle, path, sink, progress, offset=offset, size=size, requests=requests)
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
    # Here everything is written in order, so that what is there is all there.
    if kept <= size and await _common_start(link, handle, path, writer.read, kept, 0) == kept:
        return kept
    await trio.to_thread.run_sync(writer.restart)
    return 0


class _Comparing:
    """Compares what comes with a local file.

    Attributes:
        same_up_to: where the first difference is, or the end of what was compared.
        is_same: there was none.
    """

    def __init__(self, read: Callable[[int, int], bytes], start: int, end: int) -> None:
        self._read = read
        self._end = end
        self.same_up_to: int = start
        self.is_same: bool = True

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Compare."""
        await trio.to_thread.run_sync(self._compare, parts, offset)

    def _compare(self, parts: Parts, offset: int) -> None:
        for part in parts:
            theirs = bytes(part[: max(0, self._end - offset)])
            ours = self._read(offset, len(theirs))
            if theirs != ours:
                self.is_same = False
                pairs = enumerate(zip(theirs, ours, strict=False))
                self.same_up_to = offset + next((at for at, (one, other) in pairs if one != other), len(ours))
                return
            offset += len(theirs)
            self.same_up_to = offset


async def _common_start(
    link: Link, handle: bytes, path: bytes, read: Callable[[int, int], bytes], size: int, doubtful: int
) -> int:
    """Return how much of the first `size` bytes is the same here and there, or 0 where that can't be told.

    All of them are compared by SHA-256 where the server knows ``check-file``; else only the last ones.

    Args:
        doubtful: bytes at the end that may be wrong though later ones are right.
    """
    theirs = await _their_hash(link, handle, size)
    if theirs is not None:
        return size if theirs == await _our_hash(read, size) else 0
    start = offset = max(0, size - doubtful - OVERLAP_BYTES)
    comparing = _Comparing(read, start, size)
    pipeline = ReadPipeline(link, Share(link), handle, start, size, ahead_bytes=size - start, grows=False)
    try:
        while offset < size and comparing.is_same:
            await pipeline.wait()
            blocks = pipeline.take(GATHERED_BYTES)
            parts = [part for block in blocks for part in block.parts.pieces()]
            got = sum(map(len, parts))
            for block in blocks:
                pipeline.give_back(block)
            if not got:
                break
            await comparing.write(parts, offset, is_last=False)
            offset += got
    except SFTPError as error:
        error.filename = error.filename or decoded(path)
        raise
    finally:
        pipeline.close()
    same = comparing.same_up_to
    # Less than that may be the same in any two files, such as two that end in zeros.
    return same if not start or same >= min(size, start + OVERLAP_BYTES) else 0


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


async def send(link: Link, source: LocalReader, remote: RemoteWriter, progress: Progress, *, offset: int = 0) -> int:
    """Write a local file to an open one, from `offset` on; return where the local one ends.

    Raises:
        SFTPError: the server could not write.
        OSError: it could not be read here.
        ConnectionLost: the session ended.
    """
    size = source.status.st_size
    left = max(0, size - offset) + 1
    writer = remote.pipeline()
    buffers = Buffers(writer, link.write_bytes, min(left, BUFFER_BYTES), _BUFFERS)
    try:
        await progress.tell(offset, size)
        while True:
            if source.is_at_hand:
                offset = await _feed(link, writer, source, offset, progress)
            buffer = await buffers.take()
            offset, got = await _fill(source, buffer.spaces, offset)
            if not got:
                break
            await buffers.write(buffer, offset, got)
            offset += got
            await progress.tell(offset - writer.under_way, size)
        # What is under way may be all of the file, and its way a slow one.
        while writer.under_way:
            await progress.tell(offset - writer.under_way, size)
            await writer.wait_below(writer.under_way * 7 // 8)
        writer.check()
    except SFTPError as error:
        error.filename = error.filename or decoded(remote.path)
        raise
    await progress.tell(offset, offset)
    return offset


async def _feed(link: Link, writer: WritePipeline, source: LocalReader, offset: int, progress: Progress) -> int:
    """Send what is in memory from `offset` on, and return where something else comes."""
    feed = Feed(link, writer, source, offset)
    with link.fed_by(feed):
        while not feed.is_over:
            await feed.wait(feed.done_bytes if progress.is_heard else None)
            await progress.tell(feed.done_bytes, source.status.st_size)
    return feed.offset


async def _fill(source: LocalReader, views: list[memoryview], offset: int) -> tuple[int, int]:
    while not source.is_regular:
        await wait_readable(source.descriptor)
        try:
            return await trio.to_thread.run_sync(source.fill, views, offset)
        except BlockingIOError:
            continue  # somebody else has read it
    return await trio.to_thread.run_sync(source.fill, views, offset)


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
        end = await send(link, source, writer, progress, offset=offset)
        times = wire_times(status)
        return await writer.finish(
            end,
            mode=mode if options.preserve else None,
            times=times if options.keeps_times else None,
            has_holes=source.has_holes,
            confirm=options.confirm,
        )
    finally:
        writer.abandon()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(source.close)


async def _resume_put(link: Link, writer: RemoteWriter, source: LocalReader) -> int:
    """Return where to go on: behind what is the file's start, or at 0."""
    kept, same = writer.kept_bytes, 0
    if source.is_regular and kept <= source.status.st_size:
        # When a connection is cut, some of what was under way may be written, and what belongs before it not; so far
        # apart are they at the most, see `WritePipeline.has_room`.
        doubtful = link.limits.file_bytes
        same = await _common_start(link, writer.handle, writer.written, source.read, kept, doubtful)
    if same < kept:
        await writer.shorten(same)
    return same


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
