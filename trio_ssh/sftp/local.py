"""Files of this machine, as transfers read and write them: plain calls that block, for threads unless it says so.

A hop into a thread costs as much as ten system calls, so that each call here does a lot: one gathers what several READs
brought, opens or finishes a file besides, or deals with a whole batch of small files.

Whatever is written goes to a part beside its target and is renamed over it when it is complete.  The part of ``name``
is ``.name.part``.  All of it happens below a descriptor of the directory, and no symbolic link is followed there: not
one that was planted under the part's name, nor one in a tree that a server described.

Errors are `OSError`s that name the whole local path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Generator, Sequence
from typing import Final

import attrs

from trio_ssh.sftp.in_memory import PREPARED_BYTES, CachedReads, is_in_memory
from trio_ssh.sftp.protocol import MIB

if sys.platform != "win32":
    import fcntl

#: What is said of a target that is one.
IS_DIRECTORY: Final = "Is a directory, and the path of the file itself is wanted"

#: What one readv or writev takes: POSIX promises 16, Linux and macOS have 1024.
_VECTORS: Final = 1024

#: What says that a file system knows no locks: NFS without its daemon, Lustre, network mounts of macOS.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

#: Names are bytes of at most so many on every file system that matters.
_NAME_BYTES: Final = 255

#: Of the hash that stands for a name with no room for what is added to it.
_HASH_DIGITS: Final = 32
_HEX: Final = frozenset(b"0123456789abcdef")

if sys.platform != "win32":
    DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    #: A FIFO that someone planted must not hold up a thread for ever.
    CAREFULLY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

#: How often a part is opened that others put away meanwhile.
_OPENINGS: Final = 20

_ZEROS: Final = bytes(256 * 1024)

Parts = Sequence[memoryview | bytearray]


def part_name(name: bytes) -> bytes:
    """Return what a file is called, in the directory of `name`, until it is complete.

    A name with no room for the rest is replaced by its hash.
    """
    return b".%s.part" % _shortened(name, 6)


def aside_name(name: bytes, ending: bytes) -> bytes:
    """Return a new name beside `name` that nothing else has."""
    return b".%s.%s.%s" % (_shortened(name, 11 + len(ending)), secrets.token_hex(4).encode(), ending)


def _shortened(name: bytes, more: int) -> bytes:
    return name if len(name) + more <= _NAME_BYTES else hashlib.sha256(name).hexdigest()[:_HASH_DIGITS].encode()


def part_level(name: bytes) -> int:
    """Tell whose part a name may be: 0 for nothing's, 1 for that of a name with 0, and so on.

    A file that is written before those of higher levels harms none of them by its part.
    """
    name = name.lower()  # there are disks on which that makes no difference
    if len(name) <= 6 or not name.startswith(b".") or not name.endswith(b".part"):
        return 0
    inner = name[1:-5]
    # A hash may be that of any long name, and only a name with a hash in it can be the part of this one.
    return _NAME_BYTES if len(inner) == _HASH_DIGITS and _HEX.issuperset(inner) else 1 + part_level(inner)


@contextlib.contextmanager
def located(path: bytes) -> Generator[None]:
    """Let an `OSError` name the whole path, and not what a call below a descriptor knows of it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), os.fsdecode(path)) from None


def is_zero(part: memoryview | bytearray) -> bool:
    """Tell whether nothing but zeros is there; cheap where it isn't so."""
    size = len(part)
    # Almost everything that is no hole is told from one by three bytes.
    if not size or part[0] or part[-1] or part[size // 2]:
        return False
    return size <= len(_ZEROS) and bytes(part) == _ZEROS[:size]


def write_parts(descriptor: int, parts: Parts, offset: int) -> None:
    """Write all of `parts`, one behind the other, to `offset`; the sum must not be 0."""
    views = list(parts)
    while views:
        batch = views[:_VECTORS]
        written = os.pwritev(descriptor, batch, offset)
        offset += written
        views = _rest(views, written)


def _rest(views: list[memoryview | bytearray], written: int) -> list[memoryview | bytearray]:
    for index, view in enumerate(views):
        if written < len(view):
            return [memoryview(view)[written:], *views[index + 1 :]]
        written -= len(view)
    return []


def _write_around_holes(descriptor: int, parts: Parts, offset: int) -> None:
    start = offset
    gathered: list[memoryview | bytearray] = []
    for part in parts:
        if is_zero(part):
            if gathered:
                write_parts(descriptor, gathered, start)
                gathered = []
            offset += len(part)
            start = offset
        else:
            gathered.append(part)
            offset += len(part)
    if gathered:
        write_parts(descriptor, gathered, start)


@attrs.frozen(kw_only=True)
class Finish:
    """What a file gets when it is complete.

    Attributes:
        mode: permissions, or None for those of the file that it replaces, if there is one.
        times: of access and modification, in seconds; None for now.
    """

    mode: int | None = None
    times: tuple[int, int] | None = None


class LocalWriter:
    """A file that is being written, from its start to its end.

    Args:
        directory: an open directory, which belongs to the writer from now on; None for that of `name`, which is a path.
        name: of the target.
        shown: the path that errors name.
        mode: permissions of a new file, as far as the process's umask lets them be.
        atomic: write a part and rename it; else the target itself, which then may be a device or a FIFO.
        resume: keep what an earlier transfer left.
        sparse: leave out what is zeros.

    Attributes:
        mode: as given; it may be changed before the file is opened.
        kept_bytes: after `open`: what an earlier transfer left.
        is_open: whether there is something to close.
        is_in_memory: to `write` to it waits for nothing; known behind the first large write.
    """

    def __init__(
        self,
        directory: int | None,
        name: bytes,
        shown: bytes,
        *,
        mode: int = 0o666,
        atomic: bool = True,
        resume: bool = False,
        sparse: bool = True,
    ) -> None:
        self._directory = directory
        self._name = name
        self._shown = shown
        self._atomic = atomic
        self._resume = resume
        self._sparse = sparse
        self._descriptor = -1
        self._part = b""
        self._replaced_mode: int | None = None
        self._has_unlinked = False
        self._is_seekable = True
        #: What a FIFO or a device had no room for.
        self._rest: list[memoryview | bytearray] = []
        self._end = 0
        self._is_prepared = False
        self.mode: int = mode
        self.kept_bytes: int = 0
        self.is_in_memory: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return self._descriptor >= 0 or self._directory is not None

    @property
    def part(self) -> str:
        """The path of what was written so far, or an empty string where that is the target itself."""
        return os.fsdecode(os.path.join(os.path.dirname(self._shown), self._part)) if self._part else ""

    @property
    def is_begun(self) -> bool:
        """Whether `open` has been called: a FIFO that nobody reads isn't open even then."""
        return self._descriptor >= 0 or not self._is_seekable

    @property
    def descriptor(self) -> int:
        """What is written to; -1 for what isn't open, such as a FIFO that nobody reads."""
        return self._descriptor

    @property
    def _written_name(self) -> bytes:
        return self._part or self._name

    def open(self) -> None:
        """Open what is to be written.

        Raises:
            OSError: it is a directory, can't be opened, or is being written by another transfer.
        """
        try:
            with located(self._shown):
                self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        is_users_path = self._directory is None
        if self._directory is None:
            # The user's own path means what the system makes of it, symbolic links included.
            path = os.path.realpath(self._name) if os.path.islink(self._name) else self._name
            parent, self._name = os.path.split(path)
            if not self._name:
                raise OSError(errno.EISDIR, IS_DIRECTORY)
            self._directory = os.open(parent or b".", DIRECTORY)
        status = self._status(self._name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, IS_DIRECTORY)
        is_special = status is not None and not stat.S_ISREG(status.st_mode)
        if is_special and is_users_path:
            self._is_seekable = False
            self._open_special()
            return
        if status is not None and not is_special:
            self._replaced_mode = stat.S_IMODE(status.st_mode) & 0o777
        if self._atomic:
            self._part = part_name(self._name)
        self._open_regular()

    def _status(self, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _open_special(self) -> None:
        """Open a device, or a FIFO if somebody reads it; else leave it for later, and hold up no thread."""
        try:
            self._descriptor = os.open(self._name, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._directory)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise

    def _open_regular(self) -> None:
        mode = self.mode if self._replaced_mode is None else self.mode & self._replaced_mode
        mode |= stat.S_IRUSR | stat.S_IWUSR
        for _ in range(_OPENINGS):
            if self._open_once(mode):
                return
        raise OSError(errno.ETXTBSY, "its part is being replaced again and again")

    def _open_once(self, mode: int) -> bool:
        """Open and lock what is to be written; tell whether it still has its name."""
        name, directory = self._written_name, self._directory
        access = os.O_RDWR if self._resume else os.O_WRONLY
        try:
            self._descriptor = descriptor = os.open(name, access | os.O_CREAT | CAREFULLY, mode, dir_fd=directory)
        except IsADirectoryError:
            if not self._part:
                raise
            # Trees may have both names in them.  What has a name that nobody knows can't be gone on with.
            self._part = aside_name(self._name, b"part")
            return False
        except OSError as error:
            if error.errno != errno.ELOOP or not self._part:
                raise
            text = f"a symbolic link has the name of its part, {os.fsdecode(self._part)!r}, and is not followed"
            raise OSError(errno.ELOOP, text) from None
        status = os.fstat(descriptor)
        # A part with a second name may be anything of the user's.
        if not stat.S_ISREG(status.st_mode) or (self._part and (status.st_uid != os.geteuid() or status.st_nlink > 1)):
            raise OSError(errno.EEXIST, "what is there is no file of this user's")
        try:
            # Two transfers that write one part would rename a mixture.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.ETXTBSY, "another transfer is writing it") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        # Between the two calls another transfer may have ended, and this be its whole file.
        there = self._status(name)
        if there is None or not os.path.samestat(there, status):
            self._drop()
            return False
        status = there
        if self._resume:
            self.kept_bytes = self._end = status.st_size
            self._take_away(status.st_mode & 0o777 & ~mode)
        elif not self._part:
            os.ftruncate(descriptor, 0)
        elif not self._has_unlinked and (status.st_size or status.st_mode & 0o777 & ~mode):
            # An old part has permissions of its own; what the umask leaves, only a new file gets.
            os.unlink(name, dir_fd=directory)
            self._has_unlinked = True
            self._drop()
            return False
        elif status.st_size:
            os.ftruncate(descriptor, 0)
        return True

    def _take_away(self, bits: int) -> None:
        """Let nobody read in a part who may not read what it becomes."""
        if self._part and bits:
            os.fchmod(self._descriptor, os.fstat(self._descriptor).st_mode & 0o777 & ~bits)

    def _drop(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def restart(self) -> None:
        """Drop what an earlier transfer left."""
        with located(self._shown):
            os.ftruncate(self._descriptor, 0)
        self.kept_bytes = self._end = 0

    def read(self, offset: int, size: int) -> bytes:
        """Read back what was written; fewer bytes where it ends."""
        with located(self._shown):
            return os.pread(self._descriptor, size, offset)

    def write(self, parts: Parts, offset: int) -> bool:
        """Write one behind the other; the first time, open the file if it isn't open.

        Returns:
            Whether all of it is written.  If not, it is a FIFO or a device without room, or a FIFO that nobody reads
            yet: `write_rest` goes on.

        Raises:
            OSError: as the system says; the disk may be full.
        """
        if not self.is_begun:
            self.open()
        if not self._is_seekable:
            self._rest.extend(part for part in parts if part)
            return self.write_rest()
        with located(self._shown):
            if self._sparse:
                _write_around_holes(self._descriptor, parts, offset)
            else:
                write_parts(self._descriptor, parts, offset)
            self._end = offset + sum(map(len, parts))
            if not self._is_prepared and self._end > PREPARED_BYTES:
                self._is_prepared = True
                self.is_in_memory = is_in_memory(self._descriptor)
        return True

    def write_rest(self) -> bool:
        """Go on with what had no room; return as `write` does."""
        with located(self._shown):
            if self._descriptor < 0:
                self._open_special()
            if self._descriptor < 0:
                return False
            while self._rest:
                try:
                    written = os.writev(self._descriptor, self._rest[:_VECTORS])
                except BlockingIOError:
                    return False
                self._rest = _rest(self._rest, written)
        return True

    def finish(self, finish: Finish) -> None:
        """Say that it is complete: it gets its name, and is closed.

        Raises:
            OSError: as the system says; the target is as it was.
        """
        if not self.is_begun:
            self.open()
        try:
            with located(self._shown):
                if self._is_seekable:
                    self._finish(finish)
        except OSError:
            self.abandon()
            raise
        self._close()

    def _finish(self, finish: Finish) -> None:
        descriptor = self._descriptor
        # What was left out as zeros, or an old file that was longer.
        if os.fstat(descriptor).st_size != self._end:
            os.ftruncate(descriptor, self._end)
        mode = self._replaced_mode if finish.mode is None and self._part else finish.mode
        if mode is not None:
            os.fchmod(descriptor, mode)
        if finish.times is not None:
            os.utime(descriptor, finish.times)
        if self._part:
            self._check_unchanged()
            os.rename(self._part, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _check_unchanged(self) -> None:
        """Whoever replaced the part since would have something else renamed."""
        status = self._status(self._part)
        if status is None or not os.path.samestat(status, os.fstat(self._descriptor)):
            raise OSError(errno.ESTALE, "its part was replaced by somebody else")

    def abandon(self) -> None:
        """Close it; what was written stays as a part, unless that is nothing."""
        with contextlib.suppress(OSError):
            if self._part and self._descriptor >= 0 and not os.fstat(self._descriptor).st_size:
                os.unlink(self._part, dir_fd=self._directory)
        self._close()

    def _close(self) -> None:
        for descriptor in (self._descriptor, -1 if self._directory is None else self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = -1
        self._directory = None


class LocalReader:
    """A file that is being read.

    Args:
        path: as the system reads it.
        sparse: pass over holes.
        follow_symlinks: open what a link leads to; else fail.

    Attributes:
        status: after `open`.
    """

    def __init__(self, path: bytes, *, sparse: bool = True, follow_symlinks: bool = True) -> None:
        self._path = path
        # A FIFO that nobody writes holds up no thread: whoever reads waits until there is something.
        self._flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_symlinks else os.O_NOFOLLOW)
        self._sparse = sparse
        self._descriptor = -1
        self._is_regular = True
        self._cached = CachedReads()
        self.status: os.stat_result = os.stat_result([0] * 10)

    @property
    def path(self) -> bytes:
        """What was opened."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return self._descriptor >= 0

    @property
    def descriptor(self) -> int:
        """What is read from."""
        return self._descriptor

    @property
    def has_holes(self) -> bool:
        """Whether some of it may be passed over."""
        return self._sparse

    @property
    def is_regular(self) -> bool:
        """Whether it can be read at any offset."""
        return self._is_regular

    def open(self) -> None:
        """Open it.

        Raises:
            OSError: it can't be opened, or is a directory.
        """
        with located(self._path):
            self._descriptor = os.open(self._path, self._flags)
            self.status = status = os.fstat(self._descriptor)
            if stat.S_ISDIR(status.st_mode):
                self.close()
                raise OSError(errno.EISDIR, "Is a directory, which recurse=True puts as a whole")
            self._is_regular = stat.S_ISREG(status.st_mode)
            # Fewer blocks than bytes: there are holes, or it is compressed, which costs two calls for nothing.
            # None at all: a hole, unless it is so small that some file systems keep it beside its name.
            has_holes = status.st_blocks * 512 < status.st_size and (status.st_blocks > 0 or status.st_size >= MIB)
            self._sparse = self._sparse and self._is_regular and has_holes

    @property
    def is_at_hand(self) -> bool:
        """Whether `fill_now` is worth trying."""
        return self._cached.is_worth_trying

    def fill_now(self, views: Sequence[memoryview], offset: int) -> int | None:
        """Read as `fill` does, but for no thread: only what nothing has to be waited for.

        Returns:
            How many bytes they are; None if something has to, or at the end.
        """
        return self._cached.read(self._descriptor, views[:_VECTORS], offset)

    def fill(self, views: Sequence[memoryview], offset: int) -> tuple[int, int]:
        """Read the next bytes into `views`, one behind the other.

        Args:
            views: where to.
            offset: where the file was read up to.

        Returns:
            Where the bytes lie, behind `offset` if a hole was passed over; and how many they are.  None are left in a
            file that ends at the first.

        Raises:
            BlockingIOError: there is nothing yet in a FIFO or a device.
        """
        with located(self._path):
            if not self._is_regular:
                return offset, self._fill_in_order(views)
            if not self._sparse:
                self._cached.note_thread()
                if self.status.st_size > PREPARED_BYTES:
                    self._cached.prepare(self._descriptor)
                return offset, os.preadv(self._descriptor, views[:_VECTORS], offset)
            return self._fill_around_holes(views, offset)

    def _fill_in_order(self, views: Sequence[memoryview]) -> int:
        total = 0
        for view in views:
            filled = 0
            while filled < len(view):
                try:
                    size = os.readv(self._descriptor, [view[filled:]])
                except BlockingIOError:
                    if total:
                        return total
                    raise
                if not size:
                    return total
                filled += size
                total += size
        return total

    def _fill_around_holes(self, views: Sequence[memoryview], offset: int) -> tuple[int, int]:
        try:
            start = os.lseek(self._descriptor, offset, os.SEEK_DATA)
            end = os.lseek(self._descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                # The file system can't tell.
                return offset, os.preadv(self._descriptor, views[:_VECTORS], offset)
            return max(offset, os.fstat(self._descriptor).st_size), 0
        wanted: list[memoryview] = []
        left = end - start
        for view in views[:_VECTORS]:
            if left > 0:
                wanted.append(view[:left])
            left -= len(view)
        return start, os.preadv(self._descriptor, wanted, start)

    def read(self, offset: int, size: int) -> bytes:
        """Read from anywhere; fewer bytes where it ends."""
        with located(self._path):
            return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
