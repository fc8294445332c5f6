"""Whole trees of directories: walking, patterns, and removing.

How deep a tree goes is bounded by `SFTPLimits.depth`, and what is held of it by `gathered_bytes`.
"""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import attrs
import trio

from trio_ssh.errors import SFTPError
from trio_ssh.runtime.waiting import OneAtATime
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import as_error
from trio_ssh.sftp.listing import Gathered, name_memory
from trio_ssh.sftp.messages import Attrs, Lstat, NamedFile, Packet, Remove, Rmdir, Stat, Status
from trio_ssh.sftp.operations import Operations
from trio_ssh.sftp.protocol import StatusCode
from trio_ssh.sftp.pure_path import RemotePath, as_text, decoded, shown

_MAGIC: Final = re.compile(r"[*?\[]")

Visit = tuple[str, list[str], list[str]]


def joined(directory: str, name: str) -> str:
    """Return the path of a name in a directory."""
    return directory + name if not directory or directory.endswith("/") else f"{directory}/{name}"


def too_deep(operations: Operations, path: str | bytes) -> OSError:
    """Make the exception for a tree that goes on and on, as one does in which a link leads upwards."""
    depth = operations._link.limits.depth
    return OSError(errno.ELOOP, f"more than {depth} directories below each other (SFTPLimits.depth)", path)


async def are_directories(operations: Operations, directory: str, entries: list[SFTPAttributes]) -> list[bool]:
    """Tell which of a directory's files are directories, or links to one."""
    asked = [entry for entry in entries if entry.st_mode is None or entry.is_symlink()]
    found = {id(entry): entry.is_dir() for entry in entries}
    if asked:
        requests = [Stat(operations._wire(joined(directory, entry.filename))) for entry in asked]
        for entry, reply in zip(asked, await operations._ask_all(requests, Attrs), strict=True):
            found[id(entry)] = isinstance(reply, Attrs) and reply.attributes.is_dir()
    return [found[id(entry)] for entry in entries]


@attrs.frozen
class _Todo:
    """A directory to be visited, or one whose turn has come to be told."""

    path: str
    depth: int
    visit: Visit | None = None
    memory: int = 0


class Walk(AsyncIterator[Visit]):
    """The directories of a tree: see `SFTPClient.walk`."""

    def __init__(
        self,
        operations: Operations,
        top: RemotePath,
        *,
        topdown: bool,
        onerror: Callable[[OSError], object] | None,
        followlinks: bool,
    ) -> None:
        self._operations = operations
        self._topdown = topdown
        self._onerror = onerror
        self._followlinks = followlinks
        self._todo = [_Todo(as_text(top), 1)]
        self._told: _Todo | None = None
        self._links: set[str] = set()
        self._gathered = Gathered(operations._link.limits)
        self._conflict = OneAtATime("another task is walking here")

    async def __anext__(self) -> Visit:
        with self._conflict:
            await trio.lowlevel.checkpoint()
            if self._told is not None and self._told.visit is not None:
                # Only now: the user may have taken names away meanwhile.
                self._plan(self._told, self._told.visit)
                self._told = None
            while self._todo:
                todo = self._todo[-1]
                visit = todo.visit or await self._look(todo)
                self._todo.pop()
                self._gathered.drop(todo.memory)
                if visit is None:
                    continue
                if self._topdown:
                    self._told = _Todo(todo.path, todo.depth, visit)
                    return visit
                if todo.visit is not None:
                    return visit
                self._add(_Todo(todo.path, todo.depth, visit, sum(map(name_memory, visit[1] + visit[2]))))
                self._plan(todo, visit)
            raise StopAsyncIteration

    def _plan(self, todo: _Todo, visit: Visit) -> None:
        for name in reversed(visit[1]):
            path = joined(todo.path, name)
            if path not in self._links:
                self._add(_Todo(path, todo.depth + 1, memory=name_memory(path)))
        self._links.clear()

    def _add(self, todo: _Todo) -> None:
        self._gathered.add(todo.memory, todo.path)
        self._todo.append(todo)

    async def _look(self, todo: _Todo) -> Visit | None:
        try:
            if todo.depth > self._operations._link.limits.depth:
                raise too_deep(self._operations, todo.path)
            entries = await self._operations.listdir_attr(todo.path)
        except OSError as error:
            if self._onerror is not None:
                self._onerror(error)
            elif todo.depth > self._operations._link.limits.depth:
                raise
            return None
        kinds = await are_directories(self._operations, todo.path, entries)
        names: list[str] = []
        others: list[str] = []
        for entry, is_directory in zip(entries, kinds, strict=True):
            (names if is_directory else others).append(entry.filename)
            if is_directory and not self._followlinks and not entry.is_dir() and entry.st_mode is not None:
                self._links.add(joined(todo.path, entry.filename))
        return todo.path, names, others


# -- patterns


async def find(operations: Operations, pattern: str, *, start: str = "", has_hidden: bool = False) -> list[str]:
    """Return the paths that match a pattern.

    Args:
        start: where a relative pattern begins; the paths that are returned begin with it.
        has_hidden: whether a wildcard matches names that begin with a dot.
    """
    await trio.lowlevel.checkpoint()
    search = _Search(operations, has_hidden)
    components = [component for component in pattern.split("/") if component]
    if not components:
        return ["/"] if pattern else []
    paths = ["/" if pattern.startswith("/") else start]
    is_certain = True
    for number, component in enumerate(components):
        is_last = number == len(components) - 1
        if component == "**":
            paths = await search.below(paths, with_files=is_last and not pattern.endswith("/"))
            is_certain = True
        elif _MAGIC.search(component):
            paths = await search.matching(paths, component, directories_only=not is_last or pattern.endswith("/"))
            is_certain = True
        else:
            paths = [joined(path, component) for path in paths]
            is_certain = False
    paths = [path for path in paths if path and path != start]
    return paths if is_certain else await search.existing(paths)


class _Search:
    """Looks for what matches.  What can't be read is passed over, as `glob` does."""

    def __init__(self, operations: Operations, has_hidden: bool) -> None:
        self._operations = operations
        self._has_hidden = has_hidden
        self._names_left = operations._link.limits.listing_names
        self._gathered = Gathered(operations._link.limits)

    def _found(self, path: str) -> str:
        self._gathered.add(name_memory(path), path)
        return path

    async def _list(self, path: str) -> list[SFTPAttributes]:
        try:
            entries = await self._operations.listdir_attr(path or ".")
        except SFTPError:
            return []
        self._names_left -= len(entries)
        if self._names_left < 0:
            most = self._operations._link.limits.listing_names
            raise OSError(errno.E2BIG, f"more than {most} files to look at (SFTPLimits.listing_names)", path)
        return entries

    async def matching(self, paths: list[str], pattern: str, *, directories_only: bool) -> list[str]:
        expression = re.compile(fnmatch.translate(pattern))
        is_hidden_wanted = self._has_hidden or pattern.startswith(".")
        found: list[str] = []
        for path in paths:
            entries = [
                entry
                for entry in await self._list(path)
                if expression.match(entry.filename) and (is_hidden_wanted or not entry.filename.startswith("."))
            ]
            if directories_only:
                kinds = await are_directories(self._operations, path, entries)
                entries = [entry for entry, is_directory in zip(entries, kinds, strict=True) if is_directory]
            found += [self._found(joined(path, entry.filename)) for entry in entries]
        return found

    async def below(self, paths: list[str], *, with_files: bool) -> list[str]:
        """Return the directories themselves, and all below them that are no links; and the files, if wanted."""
        found: list[str] = []
        todo = [(path, 1) for path in reversed(paths)]
        while todo:
            path, depth = todo.pop()
            if depth > self._operations._link.limits.depth:
                raise too_deep(self._operations, path)
            found.append(path)
            deeper: list[tuple[str, int]] = []
            for entry in await self._list(path):
                if entry.filename.startswith(".") and not self._has_hidden:
                    continue
                if entry.is_dir():
                    deeper.append((self._found(joined(path, entry.filename)), depth + 1))
                elif with_files:
                    found.append(self._found(joined(path, entry.filename)))
            todo += reversed(deeper)
        return found

    async def existing(self, paths: list[str]) -> list[str]:
        requests = [Lstat(self._operations._wire(path)) for path in paths]
        replies = await self._operations._ask_all(requests, Attrs)
        return [path for path, reply in zip(paths, replies, strict=True) if isinstance(reply, Attrs)]


# -- removing


async def remove_tree(
    operations: Operations,
    path: RemotePath,
    *,
    ignore_errors: bool,
    onerror: Callable[[OSError], object] | None,
) -> None:
    """Remove a directory and all that is in it, and never what a symbolic link leads to."""

    def fail(error: OSError) -> None:
        if onerror is not None:
            onerror(error)
        elif not ignore_errors:
            raise error

    try:
        # Without the slash behind it, which would follow a link.
        directory = operations._wire(path).rstrip(b"/") or b"/"
        attributes = (await operations._link.ask(Lstat(directory), Attrs, shown(path))).attributes
        if not attributes.is_dir():
            text = "a symbolic link, which rmtree doesn't follow" if attributes.is_symlink() else "no directory"
            raise NotADirectoryError(errno.ENOTDIR, text, shown(path))
    except OSError as error:
        fail(error)
        return
    await _Removal(operations, fail, (lambda name: name) if isinstance(path, bytes) else decoded).remove(directory, 1)


class _Removal:
    """Empties directories, the requests of one directory all at once.

    Args:
        fail: told of what can't be removed.
        shown: makes of a path what errors have: bytes or a str, as the user has named the tree.
    """

    def __init__(
        self, operations: Operations, fail: Callable[[OSError], None], shown: Callable[[bytes], str | bytes]
    ) -> None:
        self._operations = operations
        self._fail = fail
        self._shown = shown
        self._gathered = Gathered(operations._link.limits)

    async def remove(self, directory: bytes, depth: int) -> None:
        if depth > self._operations._link.limits.depth:
            self._fail(too_deep(self._operations, self._shown(directory)))
            return
        try:
            entries = await self._operations._entries(self._shown(directory))
        except OSError as error:
            self._fail(error)
            return
        directories = await self._empty(directory, entries)
        # Of those above each other, only the directories are kept.
        del entries
        memory = sum(map(name_memory, directories))
        try:
            self._gathered.add(memory, self._shown(directory))
        except OSError as error:
            self._fail(error)
            return
        for path in directories:
            await self.remove(path, depth + 1)
        self._gathered.drop(memory)
        await self._ask_all(Rmdir, [directory])

    async def _empty(self, directory: bytes, entries: list[NamedFile]) -> list[bytes]:
        """Remove all but the directories in a directory; return those."""
        paths = [directory.rstrip(b"/") + b"/" + entry.filename for entry in entries]
        directories = await self._directories(entries, paths)
        kept = set(directories)
        await self._ask_all(Remove, [path for path in paths if path not in kept])
        return directories

    async def _directories(self, entries: list[NamedFile], paths: list[bytes]) -> list[bytes]:
        """Return those that are directories.

        Some servers list a link to a directory as a directory, and what is behind it is not ours to remove.  Between
        this look and the next request a directory may still become a link: the protocol has nothing against that.
        """
        asked = [
            path
            for entry, path in zip(entries, paths, strict=True)
            if entry.attributes.st_mode is None or entry.attributes.is_dir()
        ]
        replies = await self._operations._ask_all([Lstat(path) for path in asked], Attrs)
        return [
            path
            for path, reply in zip(asked, replies, strict=True)
            if isinstance(reply, Attrs) and reply.attributes.is_dir()
        ]

    async def _ask_all(self, make: type[Remove | Rmdir], paths: Iterable[bytes]) -> None:
        paths = list(paths)
        requests: list[Packet] = [make(path) for path in paths]
        for path, reply in zip(paths, await self._operations._ask_all(requests, Status), strict=True):
            if isinstance(reply, Status) and reply.code != StatusCode.OK:
                self._fail(as_error(reply, self._shown(path)))
