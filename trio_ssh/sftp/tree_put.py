"""Trees of files to the server."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from trio_ssh.errors import SFTPError
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link
from trio_ssh.sftp.listing import DirectoryReader, name_memory
from trio_ssh.sftp.local import LocalReader, located, part_level
from trio_ssh.sftp.local_tree import Found, LocalScan, joined
from trio_ssh.sftp.messages import Attrs, Handle, Mkdir, Opendir, Remove, Setstat, Stat, Status, Symlink
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.remote_writer import POSIX_RENAME, new_file, remote_part, rename_over
from trio_ssh.sftp.round import Round, request_later
from trio_ssh.sftp.small_files import SmallFile, SmallFiles, SmallPut, small_bytes
from trio_ssh.sftp.transfer import Progress, put_file, wire_times
from trio_ssh.sftp.tree import AtOnce, TreeOptions, TreeTransfer, loop, not_a_file, too_deep

#: Entries of a directory that one hop into a thread looks at, and the files among them that it reads.
_ENTRIES: Final = 64

#: Directories whose attributes are set in one round trip.
_SET_AT_ONCE: Final = 64


def _attributes(status: os.stat_result) -> SFTPAttributes:
    atime, mtime = wire_times(status)
    return SFTPAttributes(st_mode=status.st_mode & 0o777, st_atime=atime, st_mtime=mtime)


async def make_directory(link: Link, path: bytes, mode: int) -> bool:
    """Make a directory on the server unless it is there, and tell which it was: one round trip.

    Returns:
        Whether it is new, and so nothing is in it.

    Raises:
        NotADirectoryError: something else is there.
        SFTPError: it can't be made.
    """
    round_ = Round(link)
    making = round_.add(Mkdir(path, SFTPAttributes(st_mode=mode & 0o777 | stat.S_IRWXU)))
    looking = round_.add(Stat(path.rstrip(b"/") or path), Attrs)
    await round_.wait()
    there = looking.get_or_none(Attrs)
    if not making.is_ok and (there is None or not there.attributes.is_dir()):
        if there is not None and there.attributes.st_mode is not None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), decoded(path))
        making.status(decoded(path))
    return making.is_ok


async def set_directories(link: Link, directories: Sequence[tuple[bytes, SFTPAttributes]]) -> list[SFTPError]:
    """Give directories their attributes; return what went wrong."""
    errors: list[SFTPError] = []
    for start in range(0, len(directories), _SET_AT_ONCE):
        round_ = Round(link)
        asked = [
            (path, round_.add(Setstat(path, attributes)))
            for path, attributes in directories[start : start + _SET_AT_ONCE]
        ]
        await round_.wait()
        for path, setting in asked:
            try:
                setting.status(decoded(path))
            except SFTPError as error:
                errors.append(error)
    return errors


async def make_symlink(link: Link, target: bytes, path: bytes) -> None:
    """Make a symbolic link on the server, in place of a file or link of that name.

    Raises:
        SFTPError: it can't be made.
    """
    round_ = Round(link)
    making = round_.add(Symlink(target, path))
    await round_.wait()
    if making.is_ok:
        return
    if POSIX_RENAME not in link.session.extensions:
        making.status(decoded(path))
    part = remote_part(path)
    round_ = Round(link)
    round_.add(Remove(part))
    making = round_.add(Symlink(target, part))
    await round_.wait()
    making.status(decoded(path))
    try:
        await link.ask(rename_over(link, part, path), Status, decoded(path))
    except SFTPError:
        request_later(link, Remove(part))
        raise


@attrs.frozen(eq=False)
class _LocalDirectory:
    """A directory that is still to be listed.

    Attributes:
        path: here.
        remote: what it is called there.
        below: its path below the root.
        status: of it.
        above: device and inode of it and of those above it.
    """

    path: bytes
    remote: bytes
    below: bytes
    depth: int
    status: os.stat_result
    above: tuple[tuple[int, int], ...]


@attrs.frozen(eq=False)
class _LocalFile:
    """A file or link that is to be transferred."""

    found: Found
    remote: bytes
    size: int


class PutTree(TreeTransfer[_LocalDirectory, _LocalFile]):
    """Puts a tree."""

    def __init__(self, link: Link, options: TreeOptions, progress: Progress) -> None:
        super().__init__(link, options, progress, AtOnce.of_transfer(link, options.at_once))
        self._small = SmallFiles[_LocalFile](link, self.at_once.small, self._deal)
        self._atomic = options.file.atomic
        # Without a rename that replaces, a small file is no cheaper than a large one.
        is_small_cheap = not self._atomic or POSIX_RENAME in link.session.extensions
        self._small_bytes = small_bytes(link) if is_small_cheap else -1
        self._made: list[tuple[bytes, SFTPAttributes]] = []

    async def run(self, path: bytes, remote: bytes, status: os.stat_result) -> None:
        """Put all of it."""
        first = _LocalDirectory(path, remote, b"", 0, status, ((status.st_dev, status.st_ino),))
        await self.transfer(first, self._small)
        if self.options.file.preserve:
            # What is inside first: a directory may lose the right to be entered.
            self._made.sort(key=lambda made: made[0].count(b"/"), reverse=True)
            for error in await set_directories(self.link, self._made):
                await self.failed(error)

    async def list_directory(self, directory: _LocalDirectory) -> None:
        """Make a directory, and find out what is in it."""
        is_new = await make_directory(self.link, directory.remote, directory.status.st_mode)
        if self.options.file.preserve:
            self._made.append((directory.remote, _attributes(directory.status)))
        is_resuming = self.options.file.resume
        states, memory = await self._states(directory.remote) if is_resuming else ({}, 0)

        def is_wanted(name: bytes, is_directory: bool) -> bool:
            return self.selection.is_wanted(joined(directory.below, name), is_directory=is_directory)

        scan = LocalScan(
            directory.path,
            follow_symlinks=self.options.follow_symlinks,
            small_bytes=self._small_bytes,
            is_wanted=is_wanted,
        )
        try:
            while (entries := await trio.to_thread.run_sync(scan.next_entries, _ENTRIES)) is not None:
                for found in entries:
                    if is_resuming and self._is_there(found, states):
                        continue
                    try:
                        await self._add(directory, found, is_new=is_new)
                    except OSError as error:
                        await self.failed(error)
                self._small.go()
                await self._small.wait_room()
        finally:
            scan.close()
            self.gathered.drop(memory)

    async def _states(self, path: bytes) -> tuple[dict[bytes, tuple[int | None, int | None]], int]:
        """Return size and time of modification of the regular files in a directory, and the memory that it takes."""
        name = decoded(path)
        reader = DirectoryReader(self.link, (await self.link.ask(Opendir(path), Handle, name)).handle, name)
        states: dict[bytes, tuple[int | None, int | None]] = {}
        memory = 0
        try:
            while names := await reader.next_names():
                more = sum(3 * name_memory(entry.filename) for entry in names)
                self.gathered.add(more, path)
                memory += more
                for entry in names:
                    if entry.attributes.is_file():
                        states[entry.filename] = entry.attributes.st_size, entry.attributes.st_mtime
        except BaseException:
            self.gathered.drop(memory)
            raise
        finally:
            reader.close()
        return states, memory

    @staticmethod
    def _is_there(found: Found, states: dict[bytes, tuple[int | None, int | None]]) -> bool:
        """Whether an earlier transfer, which kept the times, has put it; and no other file takes it for its part."""
        status = found.status
        if status is None or not stat.S_ISREG(status.st_mode) or part_level(found.name):
            return False
        return states.get(found.name) == (status.st_size, wire_times(status)[1])

    async def _add(self, directory: _LocalDirectory, found: Found, *, is_new: bool) -> None:
        if found.error is not None:
            raise found.error
        status = found.status
        assert status is not None, "an entry has a status or an error"
        remote = joined(directory.remote, found.name)
        if stat.S_ISDIR(status.st_mode):
            self._add_directory(directory, found, remote, status)
        elif not stat.S_ISLNK(status.st_mode) and not stat.S_ISREG(status.st_mode):
            raise not_a_file(found.path)
        elif level := part_level(found.name):
            size = 0 if found.target else status.st_size
            self.count(size)
            found.data = None  # it may wait for long
            self.hold_job(_LocalFile(found, remote, size), level)
        elif stat.S_ISLNK(status.st_mode):
            await self.add_job(_LocalFile(found, remote, 0))
        elif found.data is None:
            self.count(status.st_size)
            await self.add_job(_LocalFile(found, remote, status.st_size))
        else:
            self.count(status.st_size)
            finish = _attributes(status) if self.options.file.keeps_times else None
            if finish is not None and not self.options.file.preserve:
                finish.st_mode = None
            item = _LocalFile(found, remote, status.st_size)
            made = new_file(status.st_mode)
            put = SmallPut(item, remote, found.data, made, finish, atomic=self._atomic, looks=not is_new)
            self._small.add(put)

    def _add_directory(self, directory: _LocalDirectory, found: Found, remote: bytes, status: os.stat_result) -> None:
        depth = directory.depth + 1
        if depth > self.link.limits.depth:
            raise too_deep(self.link, found.path)
        place = status.st_dev, status.st_ino
        if place in directory.above:
            raise loop(found.path)
        below = joined(directory.below, found.name)
        # What lies on this machine is the user's own, and no server's to make endless.
        self.add_directory(_LocalDirectory(found.path, remote, below, depth, status, (*directory.above, place)))

    async def _deal(self, done: list[SmallFile[_LocalFile]]) -> None:
        sizes = 0
        for small in done:
            if small.error is not None:
                await self.failed(small.error)
            elif small.is_odd:
                self.add_job_nowait(small.item)
            else:
                sizes += small.size
        await self.tell(sizes)

    async def do_job(self, job: _LocalFile) -> None:
        """Put a large file, or make a link."""
        found = job.found
        if found.target:
            await make_symlink(self.link, found.target, job.remote)
            return
        options = self.options.file
        source = LocalReader(found.path, sparse=options.sparse, follow_symlinks=self.options.follow_symlinks)
        await put_file(self.link, source, job.remote, options, self.file_progress())


async def put_tree(link: Link, path: bytes, remote: bytes, options: TreeOptions, progress: Progress) -> None:
    """Put a directory and all that is in it, or a single file.

    Args:
        path: here.
        remote: what it is to be called there; not where it is to be put into.

    Raises:
        SFTPError: the server refuses something, and there is no `TreeOptions.error_handler`.
        OSError: this machine does.
        ConnectionLost: the session ended.

    Cancelled, files are complete, or there are parts of them, or nothing.
    """
    with located(path):
        status = await trio.to_thread.run_sync(os.stat, path)
    if not stat.S_ISDIR(status.st_mode):
        await put_file(link, LocalReader(path, sparse=options.file.sparse), remote, options.file, progress)
        return
    await PutTree(link, options, progress).run(path, remote, status)
