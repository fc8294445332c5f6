"""An SFTP server whose files are in memory: for tests of programs that use SFTP, under trio's autojump clock too.

It does all that `LocalSFTPServer` does, extensions included, and fails or waits where it is told to.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs
import trio

from trio_ssh.session import ServerProcess
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.interface import SFTPHandle, SFTPServerInterface
from trio_ssh.sftp.messages import StatVFS
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, SFTPLimits
from trio_ssh.sftp.server import SFTPServer

#: Links that are followed on one path.
_LINKS: Final = 40

#: What the file system says that it has, and what a file may have.
_CAPACITY_BYTES: Final = 2**40
_BLOCK_BYTES: Final = 4096

_MODE_BITS: Final = 0o7777


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@attrs.define(eq=False)
class _Node:
    """A file, a directory or a symbolic link."""

    mode: int
    data: bytearray = attrs.field(factory=bytearray)
    children: dict[str, _Node] = attrs.field(factory=dict[str, "_Node"])
    target: str = ""
    uid: int = 0
    gid: int = 0
    atime: int = attrs.field(factory=lambda: int(time.time()))
    mtime: int = attrs.field(factory=lambda: int(time.time()))

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    def attributes(self, name: str = "") -> SFTPAttributes:
        size = len(self.target) if self.is_link else len(self.data)
        return SFTPAttributes(size, self.uid, self.gid, self.mode, self.atime, self.mtime, filename=name)

    def change(self, attr: SFTPAttributes) -> None:
        if attr.st_size is not None:
            if self.is_folder:
                raise _error(errno.EISDIR)
            self.resize(attr.st_size)
        if attr.st_mode is not None:
            self.mode = stat.S_IFMT(self.mode) | (attr.st_mode & _MODE_BITS)
        if attr.st_atime is not None and attr.st_mtime is not None:
            self.atime, self.mtime = int(attr.st_atime), int(attr.st_mtime)
        if attr.st_uid is not None and attr.st_gid is not None:
            self.uid, self.gid = attr.st_uid, attr.st_gid

    def resize(self, size: int) -> None:
        if size > _CAPACITY_BYTES:
            raise _error(errno.EFBIG)
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))


@attrs.define
class _Fault:
    """What happens to requests on a path, before they are carried out."""

    operation: str | None
    error: OSError | None
    seconds: float
    left: int | None


class MemorySFTPServer(SFTPServer):
    """Serves files that are in memory; a handler for `ServerInterface.subsystems`.

        storage = MemorySFTPServer({"/motd": b"hello"})

        class Server(trio_ssh.ServerInterface):
            subsystems = {"sftp": storage}

    All sessions of one instance see the same files.

    Args:
        files: what is there at the beginning, by absolute path; the directories on the way are made.
        limits: what one session may make us hold.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None, *, limits: SFTPLimits = DEFAULT_SFTP_LIMITS) -> None:
        super().__init__(self._make_session, limits=limits)
        self._root = _Node(stat.S_IFDIR | 0o755)
        self._faults: dict[str, list[_Fault]] = {}
        #: Handles that are open now, in all sessions.
        self.open_handles: int = 0
        for path, data in (files or {}).items():
            self.write_bytes(path, data)

    def _make_session(self, process: ServerProcess) -> SFTPServerInterface:
        return _MemoryFiles(process, self)

    # -- for tests

    def fail_on(self, path: str, error: OSError, *, operation: str | None = None, times: int | None = None) -> None:
        """Let requests on a path fail.

        Args:
            path: absolute, as the client names it; requests on a file that was opened by it fail, too.
            error: raised, and sent as its status.
            operation: the method of `SFTPServerInterface` or `SFTPHandle` that fails, such as ``"write"``; None is all.
            times: how often; None for always.
        """
        self._faults.setdefault(_normal(path), []).append(_Fault(operation, error, 0.0, times))

    def delay_on(self, path: str, seconds: float, *, operation: str | None = None, times: int | None = None) -> None:
        """Let requests on a path take so long, by trio's clock; the arguments are those of `fail_on`."""
        self._faults.setdefault(_normal(path), []).append(_Fault(operation, None, seconds, times))

    def clear_faults(self) -> None:
        """Let everything succeed again, at once."""
        self._faults.clear()

    def read_bytes(self, path: str) -> bytes:
        """Return what is in a file."""
        return bytes(self._find(path).data)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Make a file, and the directories on the way, or replace what is in it."""
        *folders, name = _split(path)
        node = self._root
        for folder in folders:
            node = node.children.setdefault(folder, _Node(stat.S_IFDIR | 0o755))
        child = node.children.setdefault(name, _Node(stat.S_IFREG | 0o644))
        child.data[:] = data

    @property
    def files(self) -> dict[str, bytes]:
        """All files and what is in them, by path."""

        def walk(folder: _Node, path: str) -> Iterator[tuple[str, bytes]]:
            for name, node in folder.children.items():
                if node.is_folder:
                    yield from walk(node, f"{path}/{name}")
                elif not node.is_link:
                    yield f"{path}/{name}", bytes(node.data)

        return dict(walk(self._root, ""))

    # -- for sessions

    async def _happen(self, operation: str, path: str) -> None:
        """Fail or wait as told.  A checkpoint, always."""
        await trio.lowlevel.checkpoint()
        for fault in self._faults.get(_normal(path), ()):
            if fault.operation in (None, operation) and fault.left != 0:
                if fault.left is not None:
                    fault.left -= 1
                await trio.sleep(fault.seconds)
                if fault.error is not None:
                    raise fault.error

    def _find(self, path: str, *, follow: bool = True) -> _Node:
        # POSIX: a slash behind a name follows, and what it leads to is a directory.
        is_folder = _is_of_folder(path)
        folder, name = self._place(path, follow=follow or is_folder)
        if not name:
            return folder
        node = folder.children.get(name)
        if node is None:
            raise _error(errno.ENOENT)
        if is_folder and not node.is_folder:
            raise _error(errno.ENOTDIR)
        return node

    def _place(self, path: str, *, follow: bool = False) -> tuple[_Node, str]:
        """Return the directory that holds, or would hold, what `path` names, and its name there; empty for the root."""
        if not path:
            raise _error(errno.ENOENT)
        trail = [self._root]
        place = (self._root, "")
        names = _split(path)[::-1]
        links = 0
        while names:
            name = names.pop()
            here = trail[-1]
            if not here.is_folder:
                raise _error(errno.ENOTDIR)
            if name == "..":
                if len(trail) > 1:
                    trail.pop()
                place = (trail[-1], "")
                continue
            place = (here, name)
            node = here.children.get(name)
            if node is None:
                if names:
                    raise _error(errno.ENOENT)
                break
            if node.is_link and (names or follow):
                links += 1
                if links > _LINKS:
                    raise _error(errno.ELOOP)
                if node.target.startswith("/"):
                    del trail[1:]
                # Where it leads to its own directory or the root, that is what is meant, and no entry of it.
                place = (trail[-1], "")
                names.extend(_split(node.target)[::-1])
                continue
            if node.is_folder:
                trail.append(node)
            elif names:
                raise _error(errno.ENOTDIR)
        return place


def _split(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _is_of_folder(path: str) -> bool:
    """Whether a path can only be a directory's, by how it ends."""
    return path.endswith(("/", "/."))


def _normal(path: str) -> str:
    return os.path.normpath("/" + path).replace("//", "/")


class _MemoryFile(SFTPHandle):
    """An open file."""

    def __init__(self, server: MemorySFTPServer, path: str, node: _Node, flags: int) -> None:
        super().__init__(flags)
        self._server = server
        self._path = path
        self._node = node
        server.open_handles += 1

    async def close(self) -> None:
        """Give it up."""
        self._server.open_handles -= 1
        await self._server._happen("close", self._path)

    async def read(self, offset: int, length: int) -> bytes:
        """Read a part."""
        await self._server._happen("read", self._path)
        if self.flags & os.O_ACCMODE == os.O_WRONLY:
            raise _error(errno.EBADF)
        return bytes(self._node.data[offset : offset + length])

    async def write(self, offset: int, data: bytes) -> None:
        """Write a part; a gap before it is filled with zeros."""
        await self._server._happen("write", self._path)
        if self.flags & os.O_ACCMODE == os.O_RDONLY:
            raise _error(errno.EBADF)
        contents = self._node.data
        if self.flags & os.O_APPEND:
            offset = len(contents)
        if offset > len(contents):
            self._node.resize(offset)
        contents[offset : offset + len(data)] = data
        self._node.mtime = int(time.time())

    async def stat(self) -> SFTPAttributes:
        """Return its attributes."""
        await self._server._happen("stat", self._path)
        return self._node.attributes()

    async def chattr(self, attr: SFTPAttributes) -> None:
        """Set attributes."""
        await self._server._happen("chattr", self._path)
        self._node.change(attr)


class _MemoryFiles(SFTPServerInterface):
    """One session's view of the files."""

    def __init__(self, process: ServerProcess, server: MemorySFTPServer) -> None:
        super().__init__(process)
        self._server = server

    async def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle:
        """Open a file."""
        server = self._server
        await server._happen("open", path)
        is_exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        folder, name = server._place(path, follow=not is_exclusive)
        if not name:
            raise _error(errno.EISDIR)
        node = folder.children.get(name)
        if _is_of_folder(path):
            if not flags & os.O_CREAT:
                server._find(path)
            raise _error(errno.EISDIR)
        if node is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT)
            mode = 0o644 if attr.st_mode is None else attr.st_mode & _MODE_BITS
            node = folder.children[name] = _Node(stat.S_IFREG | mode)
        elif is_exclusive:
            raise _error(errno.EEXIST)
        elif node.is_folder:
            raise _error(errno.EISDIR)
        if flags & os.O_TRUNC:
            node.resize(0)
        return _MemoryFile(server, path, node, flags)

    async def list_folder(self, path: str) -> list[SFTPAttributes]:
        """List a directory."""
        await self._server._happen("list_folder", path)
        node = self._server._find(path)
        if not node.is_folder:
            raise _error(errno.ENOTDIR)
        return [child.attributes(name) for name, child in node.children.items()]

    async def stat(self, path: str) -> SFTPAttributes:
        """Return attributes."""
        await self._server._happen("stat", path)
        return self._server._find(path).attributes()

    async def lstat(self, path: str) -> SFTPAttributes:
        """Return attributes, of a link itself."""
        await self._server._happen("lstat", path)
        return self._server._find(path, follow=False).attributes()

    async def chattr(self, path: str, attr: SFTPAttributes) -> None:
        """Set attributes."""
        await self._server._happen("chattr", path)
        self._server._find(path).change(attr)

    async def lchattr(self, path: str, attr: SFTPAttributes) -> None:
        """Set attributes, of a link itself."""
        await self._server._happen("lchattr", path)
        self._server._find(path, follow=False).change(attr)

    async def remove(self, path: str) -> None:
        """Remove a file or a link."""
        await self._server._happen("remove", path)
        folder, name = self._existing(path)
        if folder.children[name].is_folder:
            raise _error(errno.EISDIR)
        del folder.children[name]

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self._server._happen("rmdir", path)
        folder, name = self._existing(path)
        node = folder.children[name]
        if not node.is_folder:
            raise _error(errno.ENOTDIR)
        if node.children:
            raise _error(errno.ENOTEMPTY)
        del folder.children[name]

    async def mkdir(self, path: str, attr: SFTPAttributes) -> None:
        """Make a directory."""
        await self._server._happen("mkdir", path)
        folder, name = self._free(path, for_folder=True)
        mode = 0o755 if attr.st_mode is None else attr.st_mode & _MODE_BITS
        folder.children[name] = _Node(stat.S_IFDIR | mode)

    async def rename(self, oldpath: str, newpath: str) -> None:
        """Rename to a name that is free."""
        await self._server._happen("rename", oldpath)
        folder, name = self._existing(oldpath)
        self._free(newpath, for_folder=folder.children[name].is_folder)
        self._move(oldpath, newpath)

    async def posix_rename(self, oldpath: str, newpath: str) -> None:
        """Rename, and replace."""
        await self._server._happen("posix_rename", oldpath)
        self._move(oldpath, newpath)

    def _move(self, oldpath: str, newpath: str) -> None:
        folder, name = self._existing(oldpath)
        target, new_name = self._server._place(newpath)
        if not new_name:
            raise _error(errno.EBUSY)
        node = folder.children[name]
        if _is_of_folder(newpath) and not node.is_folder:
            raise _error(errno.ENOTDIR)
        if node.is_folder and _contains(node, target):
            raise _error(errno.EINVAL)
        existing = target.children.get(new_name)
        if existing is node:
            return
        if existing is not None:
            if existing.is_folder and not node.is_folder:
                raise _error(errno.EISDIR)
            if node.is_folder and not existing.is_folder:
                raise _error(errno.ENOTDIR)
            if existing.children:
                raise _error(errno.ENOTEMPTY)
        del folder.children[name]
        target.children[new_name] = node

    async def link(self, oldpath: str, newpath: str) -> None:
        """Give a file a second name."""
        await self._server._happen("link", oldpath)
        node = self._server._find(oldpath, follow=False)
        if node.is_folder:
            raise _error(errno.EPERM)
        folder, name = self._free(newpath)
        folder.children[name] = node

    async def symlink(self, target_path: str, path: str) -> None:
        """Make a symbolic link."""
        await self._server._happen("symlink", path)
        folder, name = self._free(path)
        folder.children[name] = _Node(stat.S_IFLNK | 0o777, target=target_path)

    async def readlink(self, path: str) -> str:
        """Return where a link leads."""
        await self._server._happen("readlink", path)
        node = self._server._find(path, follow=False)
        if not node.is_link:
            raise _error(errno.EINVAL)
        return node.target

    async def canonicalize(self, path: str) -> str:
        """Return the absolute path, by the text alone."""
        await self._server._happen("canonicalize", path)
        return _normal(path)

    async def statvfs(self, path: str) -> StatVFS:
        """Describe a file system of a terabyte."""
        await self._server._happen("statvfs", path)
        self._server._find(path)
        total = _CAPACITY_BYTES // _BLOCK_BYTES
        used = sum(-(-len(data) // _BLOCK_BYTES) for data in self._server.files.values())
        free = total - used
        return StatVFS(_BLOCK_BYTES, _BLOCK_BYTES, total, free, free, 2**32, 2**32, 2**32, 0, 0, 255)

    async def fsync(self, handle: SFTPHandle) -> None:
        """Memory is all there is."""
        await self._server._happen("fsync", "" if not isinstance(handle, _MemoryFile) else handle._path)

    async def expand_path(self, path: str) -> str:
        """Return the absolute path; everyone's home is ``/home/`` and the name."""
        await self._server._happen("expand_path", path)
        if path.startswith("~"):
            user, _, rest = path[1:].partition("/")
            path = f"{await self.home_directory(user)}/{rest}"
        return _normal(path)

    async def home_directory(self, username: str) -> str:
        """Return ``/home/`` and the name."""
        await trio.lowlevel.checkpoint()
        return f"/home/{username or self.process.username}"

    async def users_groups_by_id(self, users: Sequence[int], groups: Sequence[int]) -> tuple[list[str], list[str]]:
        """Everyone is called by number, but root."""
        await trio.lowlevel.checkpoint()
        return ["" if uid else "root" for uid in users], ["" if gid else "root" for gid in groups]

    def _existing(self, path: str) -> tuple[_Node, str]:
        folder, name = self._server._place(path)
        if not name:
            raise _error(errno.EBUSY)
        if name not in folder.children:
            raise _error(errno.ENOENT)
        if _is_of_folder(path) and not folder.children[name].is_folder:
            raise _error(errno.ENOTDIR)
        return folder, name

    def _free(self, path: str, *, for_folder: bool = False) -> tuple[_Node, str]:
        folder, name = self._server._place(path)
        if not name or name in folder.children:
            raise _error(errno.EEXIST)
        if _is_of_folder(path) and not for_folder:
            raise _error(errno.ENOENT)
        return folder, name


def _contains(node: _Node, other: _Node) -> bool:
    return node is other or any(_contains(child, other) for child in node.children.values() if child.is_folder)
