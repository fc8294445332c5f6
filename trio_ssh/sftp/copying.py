"""Copies of files that are on servers already.

On one server, ``copy-data`` copies without the bytes coming here.  Elsewhere they stream through us: what one server
sent is sent to the other, as it comes, and no more of it is held than any transfer holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Final

import attrs

from trio_ssh.errors import SFTPError, SFTPUnsupported
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link, Share
from trio_ssh.sftp.listing import DirectoryReader
from trio_ssh.sftp.local import Parts, is_zero, part_level
from trio_ssh.sftp.local_tree import joined
from trio_ssh.sftp.messages import (
    Attrs,
    CopyData,
    Extended,
    Fstat,
    Handle,
    Opendir,
    Readlink,
    Realpath,
    Stat,
    Status,
)
from trio_ssh.sftp.pipeline import WritePipeline
from trio_ssh.sftp.protocol import MIB
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.remote_writer import RemoteWriter
from trio_ssh.sftp.transfer import GATHERED_BYTES, Options, Progress, mode_of, open_source, receive, times_of
from trio_ssh.sftp.tree import AtOnce, TreeOptions, TreeTransfer, loop, not_a_file, real_path, remote_memory, too_deep
from trio_ssh.sftp.tree_put import make_directory, make_symlink, set_directories

#: What one request copies on the server: progress is told after each, and a cancelled copy goes on for no more.
_COPIED_BYTES: Final = 64 * MIB


@contextlib.contextmanager
def _of_target(path: bytes) -> Generator[None]:
    """Let an error that names nothing name what is written: the source could be read so far."""
    try:
        yield
    except SFTPError as error:
        error.filename = error.filename or decoded(path)
        raise


class _RemoteSink:
    """Another file on a server.

    Args:
        path: that errors name.
        sparse: leave out blocks of zeros: whoever finishes the file sets its size.

    Attributes:
        has_holes: something was left out.
    """

    def __init__(self, link: Link, handle: bytes, path: bytes, *, sparse: bool) -> None:
        self._path = path
        self._sparse = sparse
        self.most_bytes: int = GATHERED_BYTES
        self.has_holes: bool = False
        self._writer = WritePipeline(link, Share(link), handle)
        self._head = self._writer.head_size
        self._block_bytes = link.write_bytes

    async def write(self, parts: Parts, offset: int, *, is_last: bool) -> None:
        """Send all of it; of what was sent before, no more stays unacknowledged than one such piece."""
        with _of_target(self._path):
            packet = bytearray(self._head)
            for part in parts:
                view = memoryview(part)
                while view:
                    room = self._head + self._block_bytes - len(packet)
                    packet += view[:room]
                    view = view[room:]
                    if len(packet) == self._head + self._block_bytes:
                        offset = await self._send(packet, offset)
                        packet = bytearray(self._head)
            if len(packet) > self._head:
                await self._send(packet, offset)
            await self._writer.wait_below(0 if is_last else GATHERED_BYTES)

    async def _send(self, packet: bytearray, offset: int) -> int:
        size = len(packet) - self._head
        if self._sparse and is_zero(memoryview(packet)[self._head :]):
            self.has_holes = True
            return offset + size
        await self._writer.wait_room(size)
        self._writer.write(memoryview(packet), offset)
        return offset + size

    async def drain(self) -> None:
        """Wait until all of it is written."""
        with _of_target(self._path):
            await self._writer.wait_below(0)


async def copy_file(
    link: Link, source: bytes, target_link: Link, target: bytes, options: Options, progress: Progress
) -> SFTPAttributes:
    """Copy one file; return what the target's server says of the copy.

    Raises:
        SFTPError: a server refuses.
        OSError: the copy's size in the end is another one.
        ConnectionLost: a session ended.

    Cancelled, or failed, the target is as it was, and there is no part of it.
    """
    handle, attributes = await open_source(link, source)
    mode = mode_of(attributes)
    writer = RemoteWriter(target_link, target, mode=mode, atomic=options.atomic)
    try:
        await writer.open()
        size = attributes.st_size or 0
        end: int | None = None
        has_holes = False
        if link is target_link and b"copy-data" in link.session.extensions:
            end = await _copy_there(link, handle, target, writer.handle, size, progress)
        if end is None:
            # What is no part, such as a device, may have something where zeros are to be.
            sink = _RemoteSink(target_link, writer.handle, target, sparse=options.sparse and bool(writer.part))
            end = await receive(link, handle, source, sink, progress, size=size)
            await sink.drain()
            has_holes = sink.has_holes
        is_kept = options.preserve
        return await writer.finish(
            end,
            mode=mode if is_kept else None,
            times=times_of(attributes) if is_kept else None,
            has_holes=has_holes,
            confirm=options.confirm,
        )
    finally:
        if link.failure is None:
            link.close_later(handle)
        await writer.discard()  # noqa: ASYNC102 -- it has bounds of its own


async def _copy_there(
    link: Link, source: bytes, path: bytes, target: bytes, size: int, progress: Progress
) -> int | None:
    """Let the server copy; return the size of what it copied, or None if it can't after all.

    Args:
        path: the target's, which errors name: what can be opened mostly can be read, and a disk may be full.
    """
    offset = 0
    while True:
        left = size - offset
        # The last request copies whatever is left by then, which may be more than was said.
        length = _COPIED_BYTES if left > _COPIED_BYTES else 0
        details = CopyData(source, offset, length, target, offset).encode()
        try:
            await link.ask(Extended("copy-data", details), Status, decoded(path))
        except SFTPUnsupported:
            if not offset:
                return None
            raise
        if not length:
            break
        offset += length
        await progress.tell(offset, size)
    end = await _size_of(link, target, path)
    await progress.tell(end, end)
    return end


async def _size_of(link: Link, handle: bytes, path: bytes) -> int:
    return (await link.ask(Fstat(handle), Attrs, decoded(path))).attributes.st_size or 0


async def _real_target(link: Link, path: bytes) -> bytes:
    """Ask where a path leads, or will lead when it is made: servers differ in what they say of what isn't there."""
    name = decoded(path)
    try:
        await link.ask(Stat(path), Attrs, name)
    except SFTPError:
        folder, slash, last = path.rstrip(b"/").rpartition(b"/")
        return joined(await link.ask_path(Realpath(folder or slash or b"."), name), last)
    return await real_path(link, path)


@attrs.frozen(eq=False)
class _Directory:
    """A directory that is still to be listed."""

    path: bytes
    target: bytes
    below: bytes
    depth: int
    attributes: SFTPAttributes
    real_paths: tuple[bytes, ...]


@attrs.frozen(eq=False)
class _File:
    """A file or link that is to be copied."""

    path: bytes
    target: bytes
    attributes: SFTPAttributes


class CopyTree(TreeTransfer[_Directory, _File]):
    """Copies a tree."""

    def __init__(self, link: Link, target_link: Link, options: TreeOptions, progress: Progress) -> None:
        super().__init__(link, options, progress, AtOnce.of_copy(link, target_link))
        self._target_link = target_link
        self._made: list[tuple[bytes, SFTPAttributes]] = []

    async def run(self, source: bytes, target: bytes, attributes: SFTPAttributes) -> None:
        """Copy all of it."""
        real = await real_path(self.link, source)
        if self.link is self._target_link:
            real_target = await _real_target(self.link, target)
            if (real_target + b"/").startswith(real.rstrip(b"/") + b"/"):
                raise ValueError(f"a tree can't be copied into itself: {decoded(source)!r} to {decoded(target)!r}")
        await make_directory(self._target_link, target, 0o777 if attributes.st_mode is None else attributes.st_mode)
        await self.transfer(_Directory(source, target, b"", 0, attributes, (real,)), None)
        if self.options.file.preserve:
            self._made.sort(key=lambda made: made[0].count(b"/"), reverse=True)
            for error in await set_directories(self._target_link, self._made):
                await self.failed(error)

    async def list_directory(self, directory: _Directory) -> None:
        """Make a directory, and find out what is in it."""
        attributes = directory.attributes
        mode = attributes.st_mode
        if directory.below:
            await make_directory(self._target_link, directory.target, 0o777 if mode is None else mode)
        if self.options.file.preserve:
            self.gathered.add(remote_memory(directory.target), directory.path)
            atime, mtime = attributes.st_atime, attributes.st_mtime
            kept = SFTPAttributes(st_mode=mode_of(attributes), st_atime=atime, st_mtime=mtime)
            self._made.append((directory.target, kept))
        name = decoded(directory.path)
        reader = DirectoryReader(self.link, (await self.link.ask(Opendir(directory.path), Handle, name)).handle, name)
        try:
            while entries := await reader.next_names():
                for entry in entries:
                    try:
                        await self._add(directory, entry.filename, entry.attributes)
                    except OSError as error:
                        await self.failed(error)
        finally:
            reader.close()

    async def _add(self, directory: _Directory, name: bytes, listed: SFTPAttributes) -> None:
        path, target = joined(directory.path, name), joined(directory.target, name)
        attributes, is_link = await self.look(path, listed)
        below = joined(directory.below, name)
        if not self.selection.is_wanted(below, is_directory=attributes.is_dir()):
            return
        if not attributes.is_dir():
            self.count(attributes.st_size or 0)
            file = _File(path, target, attributes)
            if level := part_level(name):
                self.hold_job(file, level, remote_memory(path, target), path)
            else:
                await self.add_job(file)
            return
        depth = directory.depth + 1
        if depth > self.link.limits.depth:
            raise too_deep(self.link, path)
        real = joined(directory.real_paths[-1], name)
        if is_link:
            real = await real_path(self.link, path)
            if real in directory.real_paths:
                raise loop(path)
        real_paths = (*directory.real_paths, real)
        memory = remote_memory(path, target, below, real)
        self.add_directory(_Directory(path, target, below, depth, attributes, real_paths), memory, path)

    async def do_job(self, job: _File) -> None:
        """Copy a file, or make a link."""
        if job.attributes.is_symlink():
            target = await self.link.ask_path(Readlink(job.path), decoded(job.path))
            await make_symlink(self._target_link, target, job.target)
        elif job.attributes.is_file():
            options = self.options.file
            await copy_file(self.link, job.path, self._target_link, job.target, options, self.file_progress())
        else:
            raise not_a_file(job.path)


async def copy_tree(
    link: Link, source: bytes, target_link: Link, target: bytes, options: TreeOptions, progress: Progress
) -> None:
    """Copy a directory and all that is in it, or a single file.

    Raises:
        SFTPError: a server refuses something, and there is no `TreeOptions.error_handler`.
        ValueError: the target is in the source.
        RemoteProtocolError: the server lists what are no names.
        ConnectionLost: a session ended.

    Cancelled, files are complete, or not there.
    """
    attributes = (await link.ask(Stat(source), Attrs, decoded(source))).attributes
    if not attributes.is_dir():
        await copy_file(link, source, target_link, target, options.file, progress)
        return
    await CopyTree(link, target_link, options, progress).run(source, target, attributes)
