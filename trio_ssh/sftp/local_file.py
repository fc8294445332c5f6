"""An open file of this machine as an SFTP handle, and system calls on descriptors: for threads, unless it is at hand.

Whoever calls has resolved the path; nothing here follows one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Final, Protocol, cast

from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.beneath import Place
from trio_ssh.sftp.in_memory import PREPARED_BYTES, CachedReads
from trio_ssh.sftp.interface import AtHand
from trio_ssh.sftp.local import write_parts

#: Bytes that are copied or hashed in one call.
STEP_BYTES: Final = 1024 * 1024

MODE_BITS: Final = 0o7777

#: What statfs(2) says of /proc.
_PROC: Final = 0x9FA0

#: What off_t can't be.
_OFFSETS: Final = 2**63

_RENAME_NOREPLACE: Final = 1


class LocalFile(AtHand):
    """An open file.

    Args:
        descriptor: its own from now on.
        place, hidden: where it is to appear on closing, and its name until then; None for a file that is there already.
        on_close: told that it is closed.

    Attributes:
        has_failed: something could not be written.
    """

    def __init__(
        self,
        descriptor: int,
        flags: int,
        place: Place | None = None,
        hidden: bytes = b"",
        *,
        on_close: Callable[[LocalFile], None] = lambda _: None,
        is_read_only: bool = False,
    ) -> None:
        super().__init__(flags)
        self._on_close = on_close
        self.descriptor: int = descriptor
        self._place = place
        self._hidden = hidden
        self._is_read_only = is_read_only
        self._cached = CachedReads()
        self.has_failed: bool = False

    async def close(self) -> None:
        """Close it; an upload appears under its name, unless something of it is missing."""
        descriptor = self.descriptor
        self.descriptor = -1
        self._on_close(self)
        try:
            os.close(descriptor)
            if self._place is not None:
                if self.has_failed:
                    raise OSError(errno.EIO, "a write has failed: what had the name before is kept")
                place = self._place
                os.replace(self._hidden, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except OSError:
            self.abandon()
            raise
        if self._place is not None:
            os.close(self._place.folder)
            self._place = None

    def abandon(self) -> None:
        """An upload was broken off, or something of it is missing: its file isn't wanted."""
        place, self._place = self._place, None
        if place is not None:
            with place, contextlib.suppress(OSError):
                os.unlink(self._hidden, dir_fd=place.folder)

    async def read(self, offset: int, length: int) -> bytes:
        """Read, as pread(2)."""
        return os.pread(self.descriptor, length, checked(offset, length))

    async def readinto(self, offset: int, buffer: memoryview) -> int:
        """Read into `buffer`, as preadv(2)."""
        self._prepare(offset)
        self._cached.note_thread()
        return os.preadv(self.descriptor, [buffer], checked(offset, len(buffer)))

    def _prepare(self, offset: int) -> None:
        """Find out whether the rest of a large file needs a thread."""
        if offset >= PREPARED_BYTES:
            self._cached.prepare(self.descriptor)

    def is_at_hand(self, *, for_writing: bool) -> bool:
        """Whether `writev` waits for nothing, or `readinto_now` is worth trying."""
        return self._cached.is_in_memory if for_writing else self._cached.is_worth_trying

    def readinto_now(self, offset: int, buffer: memoryview) -> int | None:
        """As `readinto`, where that waits for nothing and fills all of `buffer`; else None, and not at hand for now."""
        # An offset that is none is found out by a thread.
        got = self._cached.read(self.descriptor, [buffer], offset) if offset < _OFFSETS else None
        if got and got == len(buffer):
            return got
        self._cached.leave_to_threads()
        return None

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`."""
        await self.writev(offset, [memoryview(data)])

    async def writev(self, offset: int, parts: Sequence[bytearray | memoryview]) -> None:
        """Write all `parts`, as pwritev(2) does until the disk is full."""
        self._prepare(offset)
        size = sum(map(len, parts))
        try:
            checked(offset, size)
            if size:
                write_parts(self.descriptor, parts, offset)
        except OSError:
            self.has_failed = True
            raise

    async def stat(self) -> SFTPAttributes:
        """Return the file's attributes, as fstat(2)."""
        return SFTPAttributes.from_stat(os.fstat(self.descriptor))

    async def chattr(self, attr: SFTPAttributes) -> None:
        """Set attributes by the descriptor."""
        if self._is_read_only:
            raise read_only()
        if attr.st_size is not None:
            os.ftruncate(self.descriptor, checked(attr.st_size, 0))
        set_attributes(self.descriptor, attr)


def checked(offset: int, size: int) -> int:
    """Return an offset that the system can count to, with `size` bytes behind it."""
    if offset + size >= _OFFSETS:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return offset


def plain(descriptor: int) -> int:
    """Return the descriptor of a plain file; another is closed and refused."""
    status = os.fstat(descriptor)
    # Files of /proc look plain and empty.  One of them is this process' memory, with its host keys.
    if stat.S_ISREG(status.st_mode) and (status.st_size or not _is_of_proc(descriptor)):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise PermissionError(errno.EACCES, "this is no plain file")


@functools.cache
def _fstatfs() -> Callable[[int, ctypes.Array[ctypes.c_long]], int] | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).fstatfs
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_void_p)
    return cast("Callable[[int, ctypes.Array[ctypes.c_long]], int]", function)


def _is_of_proc(descriptor: int) -> bool:
    function = _fstatfs()
    described = (ctypes.c_long * 32)()  # statfs(2): the type comes first
    return function is not None and function(descriptor, described) == 0 and described[0] == _PROC


def read_only() -> OSError:
    """Make the exception for what would change something."""
    return OSError(errno.EROFS, "this server is read-only")


@contextlib.contextmanager
def closing(descriptor: int) -> Generator[int]:
    """Close a descriptor behind a block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def set_attributes(thing: int | str | bytes, attr: SFTPAttributes) -> None:
    """Set all but the size, in OpenSSH's order."""
    if attr.st_mode is not None:
        os.chmod(thing, attr.st_mode & MODE_BITS)
    if attr.st_atime is not None and attr.st_mtime is not None:
        os.utime(thing, (attr.st_atime, attr.st_mtime))
    if attr.st_uid is not None and attr.st_gid is not None:
        os.chown(thing, attr.st_uid, attr.st_gid)


class _Rename(Protocol):
    """renameat2(2)."""

    def __call__(self, old_folder: int, old: bytes, new_folder: int, new: bytes, flags: int, /) -> int: ...


@functools.cache
def _renameat2() -> _Rename | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return cast("_Rename", function)


def rename_to_new(old: Place, new: Place) -> None:
    """Rename, and never replace; in one step, or where the system has none, by a link, which fails as it should."""
    renameat2 = _renameat2()
    if renameat2 is not None:
        if renameat2(old.folder, old.entry(), new.folder, new.entry(), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(number, os.strerror(number))
    mode = os.stat(old.entry(), dir_fd=old.folder, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        # A directory has no second name.  rename(2) replaces an empty one only, so little is lost by a race.
        try:
            os.stat(new.entry(), dir_fd=new.folder, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(old.entry(), new.entry(), src_dir_fd=old.folder, dst_dir_fd=new.folder)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.link(old.entry(), new.entry(), src_dir_fd=old.folder, dst_dir_fd=new.folder, follow_symlinks=False)
    os.unlink(old.entry(), dir_fd=old.folder)


def copy_hole(reading: int, writing: int, most: float, source_offset: int, target_offset: int) -> int:
    """Leave a hole in one file where there is one in the other; return its size, 0 where there is none.

    Only behind the target's end: elsewhere what is there has to become zeros.
    """
    size = os.fstat(reading).st_size
    try:
        data = os.lseek(reading, checked(source_offset, 0), os.SEEK_DATA)
    except OSError as error:
        # ENXIO: nothing but a hole is left.  Whatever else it is, the file system can't tell.
        data = size if error.errno == errno.ENXIO else source_offset
    hole = int(min(most, data - source_offset))
    if hole <= 0 or os.fstat(writing).st_size > target_offset:
        return 0
    os.ftruncate(writing, checked(target_offset, hole) + hole)
    return hole


def copy_range(reading: int, writing: int, size: int, source_offset: int, target_offset: int) -> int:
    """Copy up to `size` bytes, and none of a hole behind them; return how many, 0 at the end."""
    with contextlib.suppress(OSError):
        hole = os.lseek(reading, checked(source_offset, 0), os.SEEK_HOLE)
        size = min(size, hole - source_offset) if hole > source_offset else size
    if sys.platform == "linux":
        try:
            return os.copy_file_range(
                reading, writing, size, checked(source_offset, size), checked(target_offset, size)
            )
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    data = os.pread(reading, size, checked(source_offset, size))
    done = 0
    while done < len(data):
        done += os.pwrite(writing, data[done:], target_offset + done)
    return done
