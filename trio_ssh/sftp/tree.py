"""Trees of files from the server, and what transfers of trees in either direction have in common.

A few tasks list directories, a few transfer large files and links, and one deals with all small files, see
`small_files`.  Directories are made before what is in them, and get their permissions and times after.
"""

from __future__ import annotations

import errno
import fnmatch
import inspect
import os
import re
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Self, TypeVar, cast

import attrs
import trio

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link
from trio_ssh.sftp.listing import DirectoryReader, Gathered, name_memory
from trio_ssh.sftp.local import Finish, LocalWriter, part_level
from trio_ssh.sftp.local_tree import LocalTree, NewFile, joined
from trio_ssh.sftp.messages import Attrs, Handle, Lstat, NamedFile, Opendir, Readlink, Realpath, Stat
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.small_files import SmallFile, SmallFiles, SmallGet, small_bytes
from trio_ssh.sftp.transfer import DEFAULT_OPTIONS, Options, Progress, get_file, mode_of, times_of

D = TypeVar("D")
J = TypeVar("J")

#: Told of each file that could not be transferred, if the transfer is to go on.
ErrorHandler = Callable[[Exception], object]

#: Small files that are under way at once, unless the user says otherwise.
AT_ONCE: Final = 64

#: Tasks that list directories, and that transfer large files: these fill the network one by one already.
_LISTERS: Final = 4
_LARGE_AT_ONCE: Final = 4

#: Files that are copied at once.
_COPIED_AT_ONCE: Final = 8

#: Of the handles that a server allows, what is left to the user's own files, but no more than this part of them.
_OWN_HANDLES: Final = 4
_OWN_SHARE: Final = 4

#: What a task has open: one file or directory, and the last one besides, where a server lets the next request overtake
#: its CLOSE, which waits for what was asked ahead.
_TASK_HANDLES: Final = 2

#: What a directory costs besides its paths.  Measured: by tracemalloc.
_DIRECTORY_BYTES: Final = 600

#: Large files and links that wait for their turn.
_WAITING: Final = 64


@attrs.frozen(kw_only=True)
class TreeOptions:
    """How a tree is transferred.

    Attributes:
        file: how its files are.
        follow_symlinks: take a link for what it leads to; else it is made again as it is.
        include: patterns; where there are any, a file has to match one.
        exclude: patterns; a file or directory that matches one is left out, with all that is in it.
        at_once: small files under way.
        error_handler: told of each failure; without one, the first failure is the end.
    """

    file: Options = DEFAULT_OPTIONS
    follow_symlinks: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    at_once: int = AT_ONCE
    error_handler: ErrorHandler | None = None


@attrs.frozen(kw_only=True)
class AtOnce:
    """What of a tree is under way at once, so that a server doesn't run out of handles: at least one of each.

    Attributes:
        listers: tasks that list directories.
        large: tasks that transfer a file.
        small: small files.
    """

    listers: int
    large: int
    small: int

    @classmethod
    def of_transfer(cls, link: Link, at_once: int) -> Self:
        """Decide for a tree that is got or put."""
        free = _free_handles(link)
        listers = _share(_LISTERS, free)
        large = min(_share(_LARGE_AT_ONCE, free), at_once)
        if free is not None:
            at_once = max(1, min(at_once, free - _TASK_HANDLES * (listers + large)))
        return cls(listers=listers, large=large, small=at_once)

    @classmethod
    def of_copy(cls, link: Link, target_link: Link) -> Self:
        """Decide for a tree that is copied: where a file is written, a task has one thing more open."""
        free = _free_handles(link)
        listers, large = _share(_LISTERS, free), _COPIED_AT_ONCE
        if free is not None:
            each = _TASK_HANDLES + (link is target_link)
            large = min(large, (free - _TASK_HANDLES * listers) // each)
        target_free = _free_handles(target_link)
        if link is not target_link and target_free is not None:
            large = min(large, target_free)
        return cls(listers=listers, large=max(1, large), small=0)


def _free_handles(link: Link) -> int | None:
    """Return how many of a server's handles a tree may have; None for as many as it likes."""
    most = link.open_handles
    return most - min(_OWN_HANDLES, most // _OWN_SHARE) if most else None


def _share(most: int, free: int | None) -> int:
    """Return how many tasks of one kind there may be: a quarter of what is free is theirs."""
    return most if free is None else max(1, min(most, free // (4 * _TASK_HANDLES)))


def remote_memory(*paths: bytes) -> int:
    """Return about how many bytes a directory on a server costs, with its attributes, while it waits."""
    return _DIRECTORY_BYTES + sum(map(len, paths))


async def real_path(link: Link, path: bytes) -> bytes:
    """Ask where a path leads, through all links."""
    return await link.ask_path(Realpath(path), decoded(path))


def too_deep(link: Link, path: bytes) -> OSError:
    """Make the exception for a directory below too many others."""
    text = f"more than {link.limits.depth} directories below each other (SFTPLimits.depth)"
    return OSError(errno.ELOOP, text, decoded(path))


def loop(path: bytes) -> OSError:
    """Make the exception for a tree that contains itself."""
    return OSError(errno.ELOOP, "a symbolic link to a directory that it is in", decoded(path))


def not_a_file(path: bytes) -> OSError:
    """Make the exception for a socket, a device, or a FIFO."""
    return OSError(errno.EINVAL, "neither a file nor a directory nor a symbolic link", decoded(path))


class Selection:
    """Which files of a tree are wanted.

    A pattern with a ``/`` in it is compared with the path below the root, another one with the name alone; ``*``, ``?``
    and ``[...]`` are `fnmatch`'s, and ``*`` matches a ``/`` too.
    """

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = [self._compile(pattern) for pattern in include]
        self._exclude = [self._compile(pattern) for pattern in exclude]

    @staticmethod
    def _compile(pattern: str) -> tuple[bool, re.Pattern[str]]:
        return "/" in pattern, re.compile(fnmatch.translate(pattern.strip("/") if "/" in pattern else pattern))

    @staticmethod
    def _matches(patterns: list[tuple[bool, re.Pattern[str]]], path: str) -> bool:
        name = path.rpartition("/")[2]
        return any(pattern.match(path if is_whole else name) for is_whole, pattern in patterns)

    def is_wanted(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell whether a file, or directory, of this path below the root is to be transferred."""
        if not self._include and not self._exclude:
            return True
        text = decoded(path)
        if self._matches(self._exclude, text):
            return False
        return is_directory or not self._include or self._matches(self._include, text)


class TreeTransfer(ABC, Generic[D, J]):
    """What transfers of trees have in common: tasks, errors, and how far it is.

    `D` is a directory that is still to be listed, `J` a file that a task of its own transfers.
    """

    def __init__(self, link: Link, options: TreeOptions, progress: Progress, at_once: AtOnce) -> None:
        self.link = link
        self.options = options
        self.at_once = at_once
        self.progress = progress
        self.selection: Selection = Selection(options.include, options.exclude)
        self.done_bytes: int = 0
        self.total_bytes: int = 0
        self.gathered: Gathered = Gathered(link.limits)
        self._directories: list[tuple[D, int]] = []
        self._unfinished = 0
        self._news = trio.lowlevel.ParkingLot()
        self._jobs: deque[J] = deque()
        self._held: dict[int, list[J]] = {}
        self._has_all = False
        self._jobs_changed = trio.lowlevel.ParkingLot()

    def count(self, size: int) -> None:
        """So many more bytes are to be done, or fewer."""
        self.total_bytes += size

    async def failed(self, error: Exception) -> None:
        """Tell the user of a failure, and go on; or end with it, if nobody wants to know or nothing can go on."""
        if self.options.error_handler is None or self.link.failure is not None:
            raise error
        result = self.options.error_handler(error)
        if inspect.isawaitable(result):
            await result

    async def tell(self, done: int) -> None:
        """So many more bytes are done."""
        self.done_bytes += done
        await self.progress.tell(self.done_bytes, self.total_bytes)

    def file_progress(self) -> Progress:
        """Return what tells of one file's bytes as of the tree's."""
        before = 0

        async def tell(done: int, total: int) -> None:
            nonlocal before
            more, before = done - before, done
            await self.tell(more)

        return Progress(tell)

    # -- directories

    def add_directory(self, directory: D, memory: int = 0, path: bytes = b"") -> None:
        """List a directory when it is its turn.

        Args:
            memory: that it takes until then, if it is a server that says so.

        Raises:
            OSError: too much waits already.
        """
        self.gathered.add(memory, path)
        self._directories.append((directory, memory))
        self._unfinished += 1
        self._news.unpark()

    async def _list(self) -> None:
        while self._unfinished:
            if not self._directories:
                await self._news.park()
                continue
            # The latest first: what waits is what lies beside the way down, and not a whole level of the tree.
            directory, memory = self._directories.pop()
            self.gathered.drop(memory)
            try:
                await self.list_directory(directory)
            except (OSError, RemoteProtocolError) as error:
                await self.failed(error)
            self._unfinished -= 1
        self._news.unpark_all()

    @abstractmethod
    async def list_directory(self, directory: D) -> None:
        """Make a directory, and find out what is in it."""

    async def look(self, path: bytes, listed: SFTPAttributes) -> tuple[SFTPAttributes, bool]:
        """Return what a file of the server's is to this transfer, and whether it is a symbolic link.

        Args:
            listed: what the listing told of it.
        """
        attributes = listed
        if attributes.st_mode is None:
            attributes = (await self.link.ask(Lstat(path), Attrs, decoded(path))).attributes
        is_link = attributes.is_symlink()
        if is_link and self.options.follow_symlinks:
            attributes = (await self.link.ask(Stat(path), Attrs, decoded(path))).attributes
        return attributes, is_link

    # -- files with tasks

    async def add_job(self, job: J) -> None:
        """Transfer a file when it is its turn.  A checkpoint only if it waits."""
        while len(self._jobs) >= _WAITING:
            await self._jobs_changed.park()
        self.add_job_nowait(job)

    def add_job_nowait(self, job: J) -> None:
        """As `add_job`, where there may be no room: for what isn't large."""
        self._jobs.append(job)
        self._jobs_changed.unpark_all()

    def hold_job(self, job: J, level: int, memory: int = 0, path: bytes = b"") -> None:
        """Transfer a file after all others of lower levels: by its name it could be the part of one of them.

        Args:
            level: see `part_level`.
            memory, path: see `add_directory`.

        Raises:
            OSError: too much waits already.
        """
        self.gathered.add(memory, path)
        self._held.setdefault(level, []).append(job)

    async def _work(self) -> None:
        while True:
            if self._jobs:
                job = self._jobs.popleft()
                self._jobs_changed.unpark_all()
                try:
                    await self.do_job(job)
                except (OSError, RemoteProtocolError) as error:
                    await self.failed(error)
            elif self._has_all:
                return
            else:
                await self._jobs_changed.park()

    @abstractmethod
    async def do_job(self, job: J) -> None:
        """Transfer a file."""

    # -- all of it

    async def transfer(self, first: D, small: SmallFiles[J] | None) -> None:
        """Transfer everything below a directory."""
        workers = self.at_once.large
        self.add_directory(first)
        async with bare_nursery() as workers_nursery:
            for _ in range(workers):
                workers_nursery.start_soon(self._work)
            async with bare_nursery() as nursery:
                if small is not None:
                    nursery.start_soon(small.run)
                async with bare_nursery() as listers:
                    for _ in range(self.at_once.listers):
                        listers.start_soon(self._list)
                if small is not None:
                    small.add_no_more()
            # What seemed to be small may have turned out to be a job.
            self._has_all = True
            self._jobs_changed.unpark_all()
        for level in sorted(self._held):
            self._jobs.extend(self._held.pop(level))
            async with bare_nursery() as nursery:
                for _ in range(workers):
                    nursery.start_soon(self._work)


# -- from the server


@attrs.frozen(eq=False)
class _RemoteDirectory:
    """A directory that is still to be listed.

    Attributes:
        path: on the server.
        below: its path below the root.
        real_paths: where links are followed: what REALPATH says of it and of those above it.
    """

    path: bytes
    below: bytes
    depth: int
    attributes: SFTPAttributes
    real_paths: tuple[bytes, ...] = ()


@attrs.frozen(eq=False)
class _RemoteFile:
    """A file or link that is to be transferred."""

    path: bytes
    folder: bytes
    name: bytes
    attributes: SFTPAttributes


class GetTree(TreeTransfer[_RemoteDirectory, _RemoteFile]):
    """Gets a tree."""

    def __init__(self, link: Link, local: LocalTree, options: TreeOptions, progress: Progress) -> None:
        super().__init__(link, options, progress, AtOnce.of_transfer(link, options.at_once))
        self._local = local
        self._small = SmallFiles[_RemoteFile](link, self.at_once.small, self._deal)
        self._small_bytes = small_bytes(link)
        self._made: list[tuple[bytes, Finish]] = []

    async def run(self, path: bytes, attributes: SFTPAttributes) -> None:
        """Get all of it."""
        local = self._local
        mode = attributes.st_mode
        await trio.to_thread.run_sync(local.make_root, 0o777 if mode is None else mode)
        try:
            real_paths = (await real_path(self.link, path),) if self.options.follow_symlinks else ()
            first = _RemoteDirectory(path, b"", 0, attributes, real_paths)
            await self.transfer(first, self._small)
            if self.options.file.preserve:
                # What is inside first: a directory may lose the right to be entered.
                self._made.sort(key=lambda made: made[0].count(b"/") if made[0] else -1, reverse=True)
                for error in await trio.to_thread.run_sync(local.finish_directories, self._made):
                    await self.failed(error)
        finally:
            local.close()

    async def list_directory(self, directory: _RemoteDirectory) -> None:
        """Make a directory, and find out what is in it."""
        local = self._local
        mode = directory.attributes.st_mode
        if directory.below:
            await trio.to_thread.run_sync(local.make_directory, directory.below, 0o777 if mode is None else mode)
        if self.options.file.preserve:
            self.gathered.add(remote_memory(directory.below), directory.path)
            self._made.append((directory.below, self._finish(directory.attributes)))
        is_resuming = self.options.file.resume
        states = await trio.to_thread.run_sync(local.states, directory.below) if is_resuming else {}
        name = decoded(directory.path)
        reader = DirectoryReader(self.link, (await self.link.ask(Opendir(directory.path), Handle, name)).handle, name)
        seen: dict[str, bytes] = {}
        memory = 0
        try:
            while entries := await reader.next_names():
                more = sum(2 * name_memory(entry.filename) for entry in entries)
                self.gathered.add(more, directory.path)
                memory += more
                for entry in entries:
                    if is_resuming and self._is_there(entry, states):
                        continue
                    try:
                        await self._add(directory, entry, seen)
                    except OSError as error:
                        await self.failed(error)
                self._small.go()
                await self._small.wait_room()
        finally:
            reader.close()
            self.gathered.drop(memory)

    @staticmethod
    def _is_there(entry: NamedFile, states: dict[bytes, tuple[int, int]]) -> bool:
        """Whether an earlier transfer, which kept the times, has got it; and no other file takes it for its part."""
        attributes = entry.attributes
        if part_level(entry.filename):
            return False
        return attributes.is_file() and states.get(entry.filename) == (attributes.st_size, attributes.st_mtime)

    async def _add(self, directory: _RemoteDirectory, entry: NamedFile, seen: dict[str, bytes]) -> None:
        name = entry.filename
        if not await self._is_first(directory, name, seen):
            return
        path, below = joined(directory.path, name), joined(directory.below, name)
        attributes, is_link = await self.look(path, entry.attributes)
        if not self.selection.is_wanted(below, is_directory=attributes.is_dir()):
            return
        if attributes.is_dir():
            await self._add_directory(directory, path, below, attributes, is_link=is_link)
            return
        if not attributes.is_file() and not attributes.is_symlink():
            raise not_a_file(path)
        file = _RemoteFile(path, directory.below, name, attributes)
        size = attributes.st_size
        if level := part_level(name):
            self.count(0 if attributes.is_symlink() else size or 0)
            self.hold_job(file, level, remote_memory(path, name), path)
            return
        if attributes.is_symlink():
            await self.add_job(file)
            return
        self.count(size or 0)
        if size is None or size > self._small_bytes:
            await self.add_job(file)
        else:
            self._small.add(SmallGet(file, path, size))

    async def _is_first(self, directory: _RemoteDirectory, name: bytes, seen: dict[str, bytes]) -> bool:
        """Whether nothing else of this listing has the name, or has it on this machine.

        Raises:
            FileExistsError: it has.
        """
        if name.isascii():
            folded = name.decode("ascii").lower()
        else:
            folded = unicodedata.normalize("NFC", decoded(name)).casefold()
        other = seen.get(folded)
        if other is None:
            seen[folded] = name
            return True
        if other == name:
            return False
        if await trio.to_thread.run_sync(self._local.folds_case, directory.below):
            text = f"is the same name as {decoded(other)!r} in this directory"
            raise FileExistsError(errno.EEXIST, text, os.fsdecode(self._local.shown(joined(directory.below, name))))
        # More than two of a kind.  No name has a slash, so that the key is nobody else's.
        whole = f"{folded}/{decoded(name)}"
        is_new = whole not in seen
        seen[whole] = name
        return is_new

    async def _add_directory(
        self, directory: _RemoteDirectory, path: bytes, below: bytes, attributes: SFTPAttributes, *, is_link: bool
    ) -> None:
        depth = directory.depth + 1
        if depth > self.link.limits.depth:
            raise too_deep(self.link, path)
        real_paths = directory.real_paths
        if self.options.follow_symlinks:
            real = await real_path(self.link, path) if is_link else joined(real_paths[-1], path.rpartition(b"/")[2])
            if real in real_paths:
                raise loop(path)
            real_paths += (real,)
        memory = remote_memory(path, below, *real_paths[-1:])
        self.add_directory(_RemoteDirectory(path, below, depth, attributes, real_paths), memory, path)

    def _finish(self, attributes: SFTPAttributes) -> Finish:
        file = self.options.file
        return Finish(
            mode=mode_of(attributes) if file.preserve else None,
            times=times_of(attributes) if file.keeps_times else None,
        )

    async def _deal(self, done: list[SmallFile[_RemoteFile]]) -> None:
        files: list[NewFile] = []
        sizes = 0
        for small in done:
            if small.error is not None:
                await self.failed(small.error)
            elif small.is_odd:
                self.count(-small.size)
                self.add_job_nowait(small.item)
            else:
                item = small.item
                mode = item.attributes.st_mode
                new = NewFile(
                    item.folder,
                    item.name,
                    cast("SmallGet[_RemoteFile]", small).parts.pieces(),
                    0o666 if mode is None else mode & 0o777 | stat.S_IRUSR | stat.S_IWUSR,
                    self._finish(item.attributes),
                )
                files.append(new)
                sizes += small.size
        if files:
            await trio.to_thread.run_sync(self._local.write_files, files)
            for file in files:
                if file.error is not None:
                    await self.failed(file.error)
            await self.tell(sizes)

    async def do_job(self, job: _RemoteFile) -> None:
        """Get a large file, or make a link."""
        local = self._local
        if job.attributes.is_symlink():
            target = await self.link.ask_path(Readlink(job.path), decoded(job.path))
            await trio.to_thread.run_sync(local.make_symlink, job.folder, job.name, target)
            return
        options = self.options.file
        directory = await trio.to_thread.run_sync(local.open_directory, job.folder)
        writer = LocalWriter(
            directory,
            job.name,
            local.shown(joined(job.folder, job.name)),
            atomic=options.atomic,
            resume=options.resume,
            sparse=options.sparse,
        )
        await get_file(self.link, job.path, writer, options, self.file_progress())


async def get_tree(link: Link, path: bytes, root: bytes, options: TreeOptions, progress: Progress) -> None:
    """Get a directory and all that is in it, or a single file.

    Args:
        path: on the server.
        root: what it is to be called here; not where it is to be put into.

    Raises:
        SFTPError: the server refuses something, and there is no `TreeOptions.error_handler`.
        OSError: this machine does.
        RemoteProtocolError: the server lists what are no names.
        ConnectionLost: the session ended.

    Cancelled, files are complete, or there are parts of them, or nothing.
    """
    attributes = (await link.ask(Stat(path), Attrs, decoded(path))).attributes
    file = options.file
    if not attributes.is_dir():
        writer = LocalWriter(None, root, root, atomic=file.atomic, resume=file.resume, sparse=file.sparse)
        await get_file(link, path, writer, file, progress)
        return
    local = LocalTree(root, atomic=file.atomic)
    await GetTree(link, local, options, progress).run(path, attributes)
