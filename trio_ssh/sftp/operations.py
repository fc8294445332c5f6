"""What an SFTP client asks of its server, one request or a few at a time.

Files, paths, trees and transfers are built on it; `SFTPClient` is it, and they.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeVar, overload

import trio

from trio_ssh.errors import SFTPError, SFTPFileExists, SFTPNoSuchFile
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Answer, Link
from trio_ssh.sftp.listing import (
    DirectoryReader,
    Gathered,
    Listing,
    SFTPDirEntry,
    as_attributes,
    attributes_memory,
    entry_memory,
    name_memory,
)
from trio_ssh.sftp.messages import (
    Attrs,
    Extended,
    ExtendedReply,
    Handle,
    Lsetstat,
    Lstat,
    Mkdir,
    NamedFile,
    Open,
    Opendir,
    Packet,
    Readlink,
    Realpath,
    Remove,
    Rename,
    Rmdir,
    ServerLimits,
    Setstat,
    Stat,
    Status,
    Symlink,
    TwoPaths,
)
from trio_ssh.sftp.protocol import KIB, OpenFlags, StatusCode
from trio_ssh.sftp.pure_path import PureSFTPPath, RemotePath, as_bytes, as_text, decoded, shown

P = TypeVar("P", bound=Packet)
E = TypeVar("E")

_U32: Final = 0xFFFFFFFF
_U64: Final = 0xFFFFFFFFFFFFFFFF

#: The least that a READ or WRITE carries, whatever a server claims to allow: filexfer-02 s3 wants eight times as much.
_LEAST_BLOCK: Final = 4 * KIB

#: Requests that are under way at once where many are made.
_AT_ONCE: Final = 64


def checked_number(what: str, value: int, most: int = _U32) -> int:
    """Return a number that the protocol can carry.

    Raises:
        TypeError: it is none.
        ValueError: it can't.
    """
    given: object = value
    if not isinstance(given, int):
        raise TypeError(f"{what} is an int, and not {given!r}")
    if not 0 <= value <= most:
        raise ValueError(f"{what} is between 0 and {most}, and not {value}")
    return value


def times_attributes(times: tuple[float, float] | None) -> SFTPAttributes:
    """Return access and modification time as attributes; without any, those of now."""
    atime, mtime = times if times is not None else (time.time(),) * 2
    return SFTPAttributes(st_atime=checked_number("a time", int(atime)), st_mtime=checked_number("a time", int(mtime)))


def owner_attributes(uid: int, gid: int) -> SFTPAttributes:
    """Return an owner as attributes."""
    return SFTPAttributes(st_uid=checked_number("a uid", uid), st_gid=checked_number("a gid", gid))


def mode_attributes(mode: int) -> SFTPAttributes:
    """Return permissions as attributes."""
    return SFTPAttributes(st_mode=checked_number("a mode", mode))


def size_attributes(size: int) -> SFTPAttributes:
    """Return a size as attributes."""
    return SFTPAttributes(st_size=checked_number("a size", size, _U64))


class Operations:
    """Requests about paths.  Any number of tasks may make them.

    A path is a str, bytes or an `SFTPPath`; a relative one begins where the server lets its users begin, or where
    `chdir` went.  An empty one names nothing, and is refused with `FileNotFoundError`.  What fails raises an
    `SFTPError`, which is an `OSError`.  A request that is cancelled may or may not have been carried out; the session
    goes on.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._cwd: bytes | None = None
        self._server_limits = ServerLimits(0, 0, 0, 0)

    # -- what others build on

    def _wire(self, path: RemotePath) -> bytes:
        """Return a path as it is sent.

        Raises:
            TypeError, ValueError: it is no path, or has a NUL in it.
            FileNotFoundError: it is empty.
            OSError: it is too long.
        """
        name = as_bytes(path)
        if not name:
            # Servers differ: to some it is their root, which nobody means who says nothing.
            text = "an empty path names nothing; '.' is the directory where relative paths begin"
            raise FileNotFoundError(errno.ENOENT, text, shown(path))
        if self._cwd is not None and not name.startswith(b"/"):
            name = self._cwd.rstrip(b"/") + b"/" + name
        return self._checked_path(name)

    def _checked_path(self, name: bytes) -> bytes:
        limit = self._link.limits.path_bytes
        if len(name) > limit:
            text = f"a path has {limit} bytes at the most (SFTPLimits.path_bytes)"
            raise OSError(errno.ENAMETOOLONG, text, name)
        return name

    async def _open_handle(self, path: RemotePath, flags: OpenFlags, attributes: SFTPAttributes | None = None) -> bytes:
        """Open a file, and return its handle, which has to be given back.

        Args:
            attributes: of the file, if it is made by this.

        Raises:
            SFTPFileExists: it was to be made, and is there.
        """
        packet = Open(self._wire(path), flags, attributes or SFTPAttributes())
        name = shown(path)
        if flags & OpenFlags.EXCLUSIVE:
            return (await self._ask_to_make(packet, Handle, path, name)).handle
        return (await self._link.ask(packet, Handle, name)).handle

    async def _ask_to_make(self, packet: Packet, expects: type[P], path: RemotePath, *names: str | bytes) -> P:
        """Make a request that fails where `path` is there already; `names` are told with the error.

        Raises:
            SFTPFileExists: it is.  The protocol has no code for it, so that it takes a look.
        """
        try:
            return await self._link.ask(packet, expects, *names)
        except SFTPError as error:
            failure = error
        if failure.code == StatusCode.FAILURE and await self._is_there(path):
            raise SFTPFileExists(failure.code, failure.text, *names) from failure
        raise failure

    async def _is_there(self, path: RemotePath) -> bool:
        # Whatever has the name is in the way of the directory that a slash behind it asks for.
        name = as_bytes(path)
        try:
            await self.lstat(name.rstrip(b"/") or name)
        except SFTPError:
            return False
        return True

    async def _extended(
        self,
        name: str,
        details: bytes,
        expects: type[P],
        filename: str | bytes | None = None,
        filename2: str | bytes | None = None,
    ) -> P:
        """Make an extension's request."""
        return await self._link.ask(self._extension(name, details), expects, filename, filename2)

    def _extension(self, name: str, details: bytes) -> Extended:
        if len(details) > self._link.limits.packet_bytes:
            raise ValueError(f"{len(details)} bytes are too many for one request (SFTPLimits.packet_bytes)")
        return Extended(name, details)

    async def _ask_all(self, packets: Iterable[Packet], expects: type[Packet]) -> list[Packet]:
        """Make many requests, and return their replies in the same order; statuses are replies too.

        Cancelled, those that were made may or may not have been carried out.
        """
        await trio.lowlevel.checkpoint()
        replies: list[Packet] = []
        waiting: deque[Answer] = deque()
        for packet in packets:
            if len(waiting) == _AT_ONCE:
                replies.append(await waiting.popleft().wait())
            answer = Answer(self._link, expects)
            self._link.submit(packet, answer)
            waiting.append(answer)
        while waiting:
            replies.append(await waiting.popleft().wait())
        return replies

    async def _read_directory(self, path: RemotePath, read_aheads: int | None = None) -> DirectoryReader:
        """Open a directory.  Whoever calls it closes it."""
        name = shown(path)
        handle = (await self._link.ask(Opendir(self._wire(path)), Handle, name)).handle
        return DirectoryReader(self._link, handle, name, read_aheads)

    async def _gather(self, path: RemotePath, make: Callable[[NamedFile], E], cost: Callable[[E], int]) -> list[E]:
        """Return all that is in a directory.

        Args:
            make: what becomes of each entry.
            cost: the memory that it takes.

        Raises:
            OSError: it is more than `SFTPLimits.gathered_bytes`.
        """
        name = shown(path)
        gathered = Gathered(self._link.limits, ", or take the files as they come, by listdir_iter or scandir")
        reader = await self._read_directory(path)
        try:
            found: list[E] = []
            while names := await reader.next_names():
                more = [make(entry) for entry in names]
                gathered.add(sum(map(cost, more)), name)
                found += more
            return found
        finally:
            reader.close()

    async def _entries(self, path: RemotePath) -> list[NamedFile]:
        """Return all that is in a directory, and all that is told of it."""
        return await self._gather(path, lambda entry: entry, entry_memory)

    async def _ask_limits(self) -> None:
        """Learn what the server carries in one READ and one WRITE, and how much may be open."""
        if b"limits@openssh.com" not in self._link.session.extensions:
            return
        try:
            reply = await self._extended("limits@openssh.com", b"", ExtendedReply)
        except SFTPError:
            return  # it says that it does and it doesn't: what every server takes is enough
        limits = ServerLimits.decode(reply.details)
        most = self._link.limits.block_bytes
        self._server_limits = limits
        self._link.open_handles = limits.open_handles
        if limits.read_bytes:
            self._link.read_bytes = max(_LEAST_BLOCK, min(most, limits.read_bytes))
        if limits.write_bytes:
            self._link.write_bytes = max(_LEAST_BLOCK, min(most, limits.write_bytes))

    # -- looking

    async def stat(self, path: RemotePath, *, follow_symlinks: bool = True) -> SFTPAttributes:
        """Return a file's attributes.

        Args:
            follow_symlinks: of a symbolic link, those of what it leads to.
        """
        request = Stat(self._wire(path)) if follow_symlinks else Lstat(self._wire(path))
        return (await self._link.ask(request, Attrs, shown(path))).attributes

    async def lstat(self, path: RemotePath) -> SFTPAttributes:
        """Return a file's attributes; of a symbolic link, its own."""
        return await self.stat(path, follow_symlinks=False)

    @overload
    async def listdir(self, path: str | PureSFTPPath = ".") -> list[str]: ...
    @overload
    async def listdir(self, path: bytes) -> list[bytes]: ...
    async def listdir(self, path: RemotePath = ".") -> list[str] | list[bytes]:
        """Return the names in a directory, in the server's order, without ``.`` and ``..``; as bytes if `path` is."""
        if isinstance(path, bytes):
            return await self._gather(path, lambda entry: entry.filename, name_memory)
        return await self._gather(path, lambda entry: decoded(entry.filename), name_memory)

    async def listdir_attr(self, path: RemotePath = ".") -> list[SFTPAttributes]:
        """Return the files in a directory: attributes, with ``filename`` and ``longname``."""
        return await self._gather(path, as_attributes, attributes_memory)

    def listdir_iter(self, path: RemotePath = ".", read_aheads: int | None = None) -> Listing[SFTPAttributes]:
        """Return the files in a directory as they come, to be iterated over: see `Listing`.

        Args:
            read_aheads: requests that are under way at the most; None, and whatever is more, for as many as are of use.
        """
        if read_aheads is not None and read_aheads < 1:
            raise ValueError(f"read_aheads is at least 1, not {read_aheads}")
        return Listing(lambda: self._read_directory(path, read_aheads), as_attributes)

    def scandir(self, path: RemotePath = ".") -> Listing[SFTPDirEntry]:
        """Return the files in a directory as they come, as `os.scandir` does, to be iterated over: see `Listing`."""
        prefix = as_text(path)
        prefix = "" if prefix == "." else prefix if prefix.endswith("/") else prefix + "/"

        def make(entry: NamedFile) -> SFTPDirEntry:
            attributes = as_attributes(entry)
            return SFTPDirEntry(attributes.filename, prefix + attributes.filename, attributes)

        return Listing(lambda: self._read_directory(path), make)

    @overload
    async def readlink(self, path: str | PureSFTPPath) -> str: ...
    @overload
    async def readlink(self, path: bytes) -> bytes: ...
    async def readlink(self, path: RemotePath) -> str | bytes:
        """Return what a symbolic link leads to, as it stands there; as bytes if `path` is."""
        target = await self._link.ask_path(Readlink(self._wire(path)), shown(path))
        return target if isinstance(path, bytes) else decoded(target)

    @overload
    async def normalize(self, path: str | PureSFTPPath) -> str: ...
    @overload
    async def normalize(self, path: bytes) -> bytes: ...
    async def normalize(self, path: RemotePath) -> str | bytes:
        """Return the absolute path, without symbolic links and ``..``; as bytes if `path` is."""
        absolute = await self._real_path(path)
        return absolute if isinstance(path, bytes) else decoded(absolute)

    async def _real_path(self, path: RemotePath) -> bytes:
        return await self._real_bytes(self._wire(path), shown(path))

    async def _real_bytes(self, path: bytes, name: str | bytes | None = None) -> bytes:
        return await self._link.ask_path(Realpath(path), name)

    # -- where relative paths begin

    async def chdir(self, path: RemotePath | None = None) -> None:
        """Let relative paths begin there, on this side alone; None lets the server have them as they are again.

        Raises:
            NotADirectoryError: it is no directory.
        """
        if path is None:
            self._cwd = None
            await trio.lowlevel.checkpoint()
            return
        if not (await self.stat(path)).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown(path))
        self._cwd = await self._real_path(path)

    def getcwd(self) -> str | None:
        """Return where relative paths begin, as `chdir` has set it; None for wherever the server lets them begin."""
        return None if self._cwd is None else decoded(self._cwd)

    # -- changing

    async def mkdir(self, path: RemotePath, mode: int = 0o777) -> None:
        """Make a directory.

        Args:
            mode: permissions, from which the server takes away what its umask says.

        Raises:
            SFTPFileExists: the name is taken.
        """
        await self._ask_to_make(Mkdir(self._wire(path), mode_attributes(mode)), Status, path, shown(path))

    async def makedirs(self, path: RemotePath, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        """Make a directory, and those on the way to it.

        Args:
            mode: of all of them.
            exist_ok: don't mind if it is there.

        Raises:
            SFTPFileExists: the name is taken.
        """
        missing: list[RemotePath] = [path]
        while not await self._is_made(missing[-1], mode, exist_ok=exist_ok or len(missing) > 1):
            parent = PureSFTPPath(missing[-1]).parent
            if parent == PureSFTPPath(missing[-1]):
                break
            missing.append(parent)
        else:
            missing.pop()
        # Whatever is still missing now, behind its parent, is so for another reason.
        for number, one in enumerate(reversed(missing), start=1):
            if not await self._is_made(one, mode, exist_ok=exist_ok or number < len(missing)):
                raise SFTPNoSuchFile(StatusCode.NO_SUCH_FILE, "its parent is there, and it can't be made", shown(one))

    async def _is_made(self, path: RemotePath, mode: int, *, exist_ok: bool) -> bool:
        """Make a directory; tell whether it is there now, which it isn't if its parent is missing."""
        try:
            await self.mkdir(path, mode)
        except SFTPNoSuchFile:
            return False
        except SFTPError as error:
            failure = error
        else:
            return True
        # A server that is read-only, or whose disk is full, may say so of what is there already.
        if not exist_ok or not await self._is_directory(path):
            raise failure
        return True

    async def _is_directory(self, path: RemotePath) -> bool:
        try:
            return (await self.stat(path)).is_dir()
        except SFTPError:
            return False

    async def rmdir(self, path: RemotePath) -> None:
        """Remove an empty directory.

        Raises:
            SFTPError: whose ``errno`` is ``ENOTEMPTY`` if it isn't empty.
        """
        try:
            await self._link.ask(Rmdir(self._wire(path)), Status, shown(path))
        except SFTPError as error:
            failure = error
        else:
            return
        if failure.code == StatusCode.FAILURE and await self._has_entries(path):
            # The protocol has no code for this either.
            failure.errno, failure.strerror = errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY)
        raise failure

    async def _has_entries(self, path: RemotePath) -> bool:
        try:
            reader = await self._read_directory(path)
        except SFTPError:
            return False
        try:
            return bool(await reader.next_names())
        except SFTPError:
            return False
        finally:
            reader.close()

    async def remove(self, path: RemotePath) -> None:
        """Remove a file, or a symbolic link."""
        await self._link.ask(Remove(self._wire(path)), Status, shown(path))

    async def unlink(self, path: RemotePath) -> None:
        """Remove a file: `remove`, as `os` has both."""
        await self.remove(path)

    async def rename(self, oldpath: RemotePath, newpath: RemotePath) -> None:
        """Rename, unless the new name is taken.

        Raises:
            SFTPFileExists: it is; `posix_rename` would replace it.
        """
        request = Rename(self._wire(oldpath), self._wire(newpath))
        await self._ask_to_make(request, Status, newpath, shown(oldpath), shown(newpath))

    async def posix_rename(self, oldpath: RemotePath, newpath: RemotePath) -> None:
        """Rename, and replace in one step what has the new name: ``posix-rename@openssh.com``."""
        details = TwoPaths(self._wire(oldpath), self._wire(newpath)).encode()
        await self._extended("posix-rename@openssh.com", details, Status, shown(oldpath), shown(newpath))

    async def symlink(self, source: RemotePath, dest: RemotePath) -> None:
        """Make a symbolic link.

        Args:
            source: what it leads to, as it is to stand there; it need not exist.
            dest: the link.

        Raises:
            SFTPFileExists: the link's name is taken.
        """
        request = Symlink(self._checked_path(as_bytes(source)), self._wire(dest))
        await self._ask_to_make(request, Status, dest, shown(source), shown(dest))

    async def link(self, source: RemotePath, dest: RemotePath) -> None:
        """Give a file a second name, `dest`: ``hardlink@openssh.com``.

        Raises:
            SFTPFileExists: the name is taken.
        """
        request = Extended("hardlink@openssh.com", TwoPaths(self._wire(source), self._wire(dest)).encode())
        await self._ask_to_make(request, Status, dest, shown(source), shown(dest))

    async def _set(self, path: RemotePath, attributes: SFTPAttributes, *, follow_symlinks: bool = True) -> None:
        """Set those attributes that are there."""
        name = shown(path)
        if follow_symlinks:
            await self._link.ask(Setstat(self._wire(path), attributes), Status, name)
        else:
            details = Lsetstat(self._wire(path), attributes).encode()
            await self._extended("lsetstat@openssh.com", details, Status, name)

    async def setstat(self, path: RemotePath, attributes: SFTPAttributes, *, follow_symlinks: bool = True) -> None:
        """Set those attributes that are not None, in one request.

        Args:
            follow_symlinks: False for those of a symbolic link itself: ``lsetstat@openssh.com``.
        """
        await self._set(path, attributes, follow_symlinks=follow_symlinks)

    async def chmod(self, path: RemotePath, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change permissions.  `follow_symlinks` as for `setstat`."""
        await self._set(path, mode_attributes(mode), follow_symlinks=follow_symlinks)

    async def chown(self, path: RemotePath, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        """Change the owner; both numbers, as the protocol has it.  `follow_symlinks` as for `setstat`."""
        await self._set(path, owner_attributes(uid, gid), follow_symlinks=follow_symlinks)

    async def utime(
        self, path: RemotePath, times: tuple[float, float] | None = None, *, follow_symlinks: bool = True
    ) -> None:
        """Set access and modification time, in seconds since 1970; None is now.  `follow_symlinks` as for `setstat`.

        The protocol has whole seconds, from 1970 to 2106.
        """
        await self._set(path, times_attributes(times), follow_symlinks=follow_symlinks)

    async def truncate(self, path: RemotePath, size: int) -> None:
        """Cut a file to `size` bytes, or fill it up with zeros."""
        await self._set(path, size_attributes(size))
