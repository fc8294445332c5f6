"""What an SFTP server decides and does: `SFTPServerInterface` and `SFTPHandle`, with paramiko's names, async.

A method returns its result or raises an `OSError`; a table maps errno to SFTP's codes.  Whatever isn't overridden is
refused, and an extension that isn't overridden isn't advertised.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from trio_ssh.session import ServerProcess
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.messages import StatVFS
from trio_ssh.sftp.protocol import OpenFlags
from trio_ssh.sftp.status import unsupported

#: What `SFTPServerInterface.list_folder` returns: entries whose `filename` is set, all at once or as they come.
Listing = Iterable[SFTPAttributes] | AsyncIterable[SFTPAttributes]

#: Serves an extension: from the request's details to the reply's.
ExtensionHandler = Callable[[bytes], Awaitable[bytes]]

#: The hashes of ``check-file``, best known first; `hashlib` has all of them.
HASHES: Final = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")

#: Bytes that are copied or hashed in one step.
_STEP_BYTES: Final = 256 * 1024


class SFTPHandle:
    """An open file.  Subclass it; `SFTPServerInterface.open` returns one.

    Requests on one handle come one after the other, in the client's order.

    Attributes:
        flags: as it was opened, of ``os.O_RDONLY`` and its kin.
    """

    def __init__(self, flags: int = 0) -> None:
        self.flags = flags

    async def close(self) -> None:
        """Give up the file.  Called once, also where the client goes away without closing it."""

    async def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on; none at the end of the file.

        Fewer than `length` mean that the rest is asked for again, which is slow: return all there are.
        """
        raise unsupported("reading this file")

    async def readinto(self, offset: int, buffer: memoryview) -> int:
        """Read into `buffer`, and return how many bytes; the default calls `read`.

        Override it to save a copy; `buffer` isn't yours any more on return.
        """
        data = await self.read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` to `offset`; with ``os.O_APPEND`` in `flags`, to the end."""
        raise unsupported("writing this file")

    async def writev(self, offset: int, parts: Sequence[bytearray | memoryview]) -> None:
        """Write all `parts`, in order, from `offset` on; the default joins them for `write`."""
        await self.write(offset, b"".join(parts))

    async def stat(self) -> SFTPAttributes:
        """Return the file's attributes."""
        raise unsupported("the status of an open file")

    async def chattr(self, attr: SFTPAttributes) -> None:
        """Set the attributes that are not None."""
        raise unsupported("setting attributes of an open file")


class AtHand(SFTPHandle, ABC):
    """A handle that is used in threads, and of whose file a part or all may be in memory."""

    @abstractmethod
    def is_at_hand(self, *, for_writing: bool) -> bool:
        """Whether `writev` waits for nothing, or `readinto_now` is worth trying."""

    @abstractmethod
    def readinto_now(self, offset: int, buffer: memoryview) -> int | None:
        """As `readinto`, where that waits for nothing and fills all of `buffer`; else None, and not at hand for now."""


class SFTPServerInterface:
    """One session's view of the files.  Subclass it; each session has an instance of its own.

    Paths are what the client sent: ``str``, absolute or not, with surrogate escapes where it isn't UTF-8.  No NUL is in
    them, and they are no longer than ``SFTPLimits.path_bytes``; beyond that nothing is checked. `canonicalize` is no
    protection either, since clients need not use it.

    Requests that name the same path, or one below the other, come one after the other if one of them changes something;
    all else may run at the same time.  When the session ends, what runs is cancelled, handles are closed, and
    `session_ended` is called.

    Attributes:
        process: the session; ``process.username`` is who it is.
        extensions: serves what no method is for, by name; each is advertised.
    """

    extensions: Mapping[str, ExtensionHandler] = {}

    def __init__(self, process: ServerProcess) -> None:
        self.process = process

    async def session_started(self) -> None:
        """Do what is due before the first request."""

    async def session_ended(self) -> None:
        """Do what is due after the last request; every handle is closed."""

    async def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle:
        """Open a file.

        Args:
            flags: ``os.O_RDONLY``, ``os.O_WRONLY`` or ``os.O_RDWR``, and of ``os.O_APPEND``, ``os.O_CREAT``,
                ``os.O_TRUNC`` and ``os.O_EXCL``.
            attr: wanted of a file that is made.
        """
        raise unsupported("opening files")

    async def list_folder(self, path: str) -> Listing:
        """List a directory: a sequence, a generator, or an async generator, which is closed if it isn't exhausted.

        Each entry's `filename` is its name; `longname` is made up where it is empty.
        """
        raise unsupported("listing directories")

    async def stat(self, path: str) -> SFTPAttributes:
        """Return attributes, of what a symbolic link leads to."""
        raise unsupported("stat")

    async def lstat(self, path: str) -> SFTPAttributes:
        """Return attributes, of a symbolic link itself."""
        raise unsupported("lstat")

    async def remove(self, path: str) -> None:
        """Remove a file."""
        raise unsupported("removing files")

    async def rename(self, oldpath: str, newpath: str) -> None:
        """Rename a file or directory; fail with `FileExistsError` where there is a `newpath`."""
        raise unsupported("renaming")

    async def mkdir(self, path: str, attr: SFTPAttributes) -> None:
        """Make a directory."""
        raise unsupported("making directories")

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        raise unsupported("removing directories")

    async def chattr(self, path: str, attr: SFTPAttributes) -> None:
        """Set the attributes that are not None, of what a symbolic link leads to."""
        raise unsupported("setting attributes")

    async def canonicalize(self, path: str) -> str:
        """Return the absolute path; the default does it by the text alone, and starts at ``/``."""
        return posixpath.normpath("/" + path).replace("//", "/")

    async def readlink(self, path: str) -> str:
        """Return where a symbolic link leads, as it was made."""
        raise unsupported("reading symbolic links")

    async def symlink(self, target_path: str, path: str) -> None:
        """Make a symbolic link at `path`."""
        raise unsupported("making symbolic links")

    # -- OpenSSH's extensions, and others; one that is overridden is advertised

    async def posix_rename(self, oldpath: str, newpath: str) -> None:
        """Rename, and replace what `newpath` was: ``posix-rename@openssh.com``."""
        raise unsupported("posix-rename")

    async def link(self, oldpath: str, newpath: str) -> None:
        """Make a hard link at `newpath`: ``hardlink@openssh.com``."""
        raise unsupported("hardlink")

    async def statvfs(self, path: str) -> StatVFS:
        """Describe the file system of `path`: ``statvfs@openssh.com``.

        For an open file (``fstatvfs@openssh.com``) it is called with the path that was opened.
        """
        raise unsupported("statvfs")

    async def fsync(self, handle: SFTPHandle) -> None:
        """Have an open file's data on its disk: ``fsync@openssh.com``."""
        raise unsupported("fsync")

    async def lchattr(self, path: str, attr: SFTPAttributes) -> None:
        """Set attributes, of a symbolic link itself: ``lsetstat@openssh.com``."""
        raise unsupported("lsetstat")

    async def expand_path(self, path: str) -> str:
        """Return the absolute path; ``~`` and ``~user`` may begin it: ``expand-path@openssh.com``."""
        raise unsupported("expand-path")

    async def home_directory(self, username: str) -> str:
        """Return a user's home; an empty name is whoever is logged in: ``home-directory``."""
        raise unsupported("home-directory")

    async def users_groups_by_id(self, users: Sequence[int], groups: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return the names of users and groups, empty where there is none: ``users-groups-by-id@openssh.com``."""
        raise unsupported("users-groups-by-id")

    async def copy_data(
        self, source: SFTPHandle, source_offset: int, length: int, target: SFTPHandle, target_offset: int
    ) -> None:
        """Copy from one open file to another: ``copy-data``.  The default reads and writes, and is advertised.

        Args:
            length: bytes; 0 for all there are.
        """
        left = length or math.inf
        with contextlib.suppress(OSError):
            size = (await source.stat()).st_size
            if size is not None and size > source_offset:
                # Two handles may be of one file: what is copied to its end would be copied again, without an end.
                left = min(left, size - source_offset)
        while left:
            data = await source.read(source_offset, int(min(left, _STEP_BYTES)))
            if not data:
                return
            await target.write(target_offset, data)
            source_offset += len(data)
            target_offset += len(data)
            left -= len(data)

    async def check_file(
        self, handle: SFTPHandle, hash_name: str, offset: int, length: int, block_size: int
    ) -> Sequence[bytes]:
        """Return digests of an open file: ``check-file`` and its kin.  The default reads, and is advertised.

        Args:
            hash_name: one of `HASHES`.
            length: bytes; 0 for all there are.
            block_size: 0 for one digest of all; else each is of so many bytes, the last of what is left.
        """
        digests: list[bytes] = []
        end = offset + length if length else None
        while True:
            block_end = offset + block_size if block_size else end
            if end is not None and block_end is not None:
                block_end = min(end, block_end)
            digest = hashlib.new(hash_name, usedforsecurity=False)
            start = offset
            while block_end is None or offset < block_end:
                step = _STEP_BYTES if block_end is None else min(_STEP_BYTES, block_end - offset)
                data = await handle.read(offset, step)
                if not data:
                    break
                digest.update(data)
                offset += len(data)
            if offset > start or not digests:
                digests.append(digest.digest())
            if offset in (start, end) or offset != block_end:
                return digests


#: Extensions of the protocol, and the methods that serve them; an empty name is served whatever the interface is.
EXTENSION_METHODS: Final[Mapping[str, str]] = {
    "posix-rename@openssh.com": "posix_rename",
    "statvfs@openssh.com": "statvfs",
    "fstatvfs@openssh.com": "statvfs",
    "hardlink@openssh.com": "link",
    "fsync@openssh.com": "fsync",
    "lsetstat@openssh.com": "lchattr",
    "limits@openssh.com": "",
    "expand-path@openssh.com": "expand_path",
    "copy-data": "",
    "home-directory": "home_directory",
    "users-groups-by-id@openssh.com": "users_groups_by_id",
    "check-file": "",
    "check-file-handle": "",
    "check-file-name": "",
}

_VERSIONS: Final = {"statvfs@openssh.com": b"2", "fstatvfs@openssh.com": b"2"}


def offered_extensions(interface: SFTPServerInterface) -> dict[bytes, bytes]:
    """Return the extensions to advertise, and their versions: those that `interface` does something about."""
    cls = type(interface)
    names = [
        name
        for name, method in EXTENSION_METHODS.items()
        if not method or getattr(cls, method) is not getattr(SFTPServerInterface, method)
    ]
    offered = {name.encode(): _VERSIONS.get(name, b"1") for name in names}
    offered.update({name.encode("utf-8"): b"1" for name in interface.extensions})
    return offered


# As plain numbers: an operation on a flag costs as much as the rest of the function.
_ACCESS_BITS: Final = int(OpenFlags.READ | OpenFlags.WRITE)
_ACCESS: Final = {int(OpenFlags.READ): os.O_RDONLY, int(OpenFlags.WRITE): os.O_WRONLY, _ACCESS_BITS: os.O_RDWR}
_BESIDES: Final = (
    (int(OpenFlags.APPEND), os.O_APPEND),
    (int(OpenFlags.CREATE), os.O_CREAT),
    (int(OpenFlags.TRUNCATE), os.O_TRUNC),
    (int(OpenFlags.EXCLUSIVE), os.O_EXCL),
)


def os_flags(flags: int) -> int:
    """Return ``os.O_`` flags for `OpenFlags`."""
    access = _ACCESS.get(flags & _ACCESS_BITS)
    if access is None:
        raise OSError(errno.EINVAL, "a file is opened to be read or to be written")
    for theirs, ours in _BESIDES:
        if flags & theirs:
            access |= ours
    return access
