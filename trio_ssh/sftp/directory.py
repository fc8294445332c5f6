"""A directory of this machine as an SFTP interface whose methods never wait: for threads.

Each method is one or a few system calls on descriptors that `beneath` has opened; nothing is done by a path of ours.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import math
import os
import secrets
import stat
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final, cast

from trio_ssh.session import ServerProcess
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.beneath import Beneath, by_descriptor
from trio_ssh.sftp.budget import DESCRIPTORS
from trio_ssh.sftp.interface import SFTPHandle, SFTPServerInterface
from trio_ssh.sftp.local_file import (
    MODE_BITS,
    STEP_BYTES,
    LocalFile,
    checked,
    closing,
    copy_hole,
    copy_range,
    plain,
    read_only,
    rename_to_new,
    set_attributes,
)
from trio_ssh.sftp.longname import group_name, long_name, user_name
from trio_ssh.sftp.messages import StatVFS

#: What a file being uploaded is called until it is closed.  Nobody gets to see, open or make such names.
HIDDEN: Final = b".trio_ssh-upload-"


#: Threads of this process that hash or copy at once, whatever sessions they are of: what takes the processor for as
#: long as a client likes must leave some of it to everybody else.  Beyond so many seconds it is a disk that hangs.
_LONG_WORK: Final = threading.BoundedSemaphore(2)
_TURN_SECONDS: Final = 1.0


@contextlib.contextmanager
def _in_turn() -> Generator[None]:
    """Take one step of something that may go on and on."""
    is_taken = _LONG_WORK.acquire(timeout=_TURN_SECONDS)
    try:
        yield
    finally:
        if is_taken:
            _LONG_WORK.release()


class LocalFiles(SFTPServerInterface):
    """One session's view of a directory.

    Args:
        root: served, and nothing outside of it.
        umask: permissions that nothing gets that is made; None for the process' own.

    The other arguments are `LocalSFTPServer`'s.
    """

    def __init__(
        self,
        process: ServerProcess,
        root: str | bytes | os.PathLike[str],
        *,
        read_only: bool,
        umask: int | None,
        follow_symlinks: bool,
        atomic_uploads: bool,
        by_kernel: bool | None = None,
    ) -> None:
        super().__init__(process)
        self._beneath: Beneath | None = None
        self._make_beneath = functools.partial(Beneath, root, follow_symlinks=follow_symlinks, by_kernel=by_kernel)
        self._is_read_only = read_only
        self._umask = umask
        self._is_atomic = atomic_uploads
        #: Whether the session has ended: what takes long looks from time to time.
        self.is_over: Callable[[], bool] = lambda: False
        self._uploads: set[LocalFile] = set()
        self._descriptors = DESCRIPTORS.part()

    async def session_started(self) -> None:
        """Open the root, which stays the same directory whatever becomes of its name."""
        self._beneath = self._make_beneath()

    async def session_ended(self) -> None:
        """Let go of the root."""
        if self._beneath is not None:
            self._beneath.close()
            self._beneath = None

    @property
    def _files(self) -> Beneath:
        assert self._beneath is not None, "a session has started"
        return self._beneath

    # -- files

    async def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle:
        """Open a plain file; anything else is refused, and doesn't block."""
        name = _encoded(path)
        is_changing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if is_changing:
            self._check_writable()
        flags |= os.O_NONBLOCK  # a FIFO's other end may never come
        mode = 0o666 if attr.st_mode is None else attr.st_mode & MODE_BITS
        # scp doesn't truncate what it makes.
        is_new = flags & os.O_CREAT and not flags & (os.O_EXCL | os.O_APPEND)
        is_upload = self._is_atomic and bool(is_new)
        # An upload holds its directory, too.
        with self._taking(2 if is_upload else 1) as give_back:
            if is_upload:
                upload = self._open_upload(name, flags, mode, give_back)
                if upload is not None:
                    return upload
            descriptor = self._open_or_make(name, flags, mode) if flags & os.O_CREAT else self._files.open(name, flags)
            return LocalFile(plain(descriptor), flags, is_read_only=self._is_read_only, on_close=lambda _: give_back())

    @contextlib.contextmanager
    def _taking(self, count: int) -> Generator[Callable[[], None]]:
        """Take so many descriptors for what a block opens; whoever closes it calls what the block is given.

        Raises:
            OSError: ``ENFILE``, the sessions of this process have as many as they may.
        """
        if not self._descriptors.take(count):
            raise OSError(errno.ENFILE, "too many files are open on this server: close some, or try again later")
        try:
            yield functools.partial(self._descriptors.give_back, count)
        except BaseException:
            self._descriptors.give_back(count)
            raise

    def _open_or_make(self, name: bytes, flags: int, mode: int) -> int:
        if self._umask is None:
            return self._files.open(name, flags, mode)
        # The process' umask can't be had around: it belongs to all threads.  So what we made is told from what was
        # there, and given its mode afterwards.
        mode &= ~self._umask
        try:
            descriptor = self._files.open(name, flags | os.O_EXCL, mode)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return self._files.open(name, flags, mode)
        os.fchmod(descriptor, mode)
        return descriptor

    def _open_upload(self, name: bytes, flags: int, mode: int, give_back: Callable[[], None]) -> LocalFile | None:
        """Make a hidden file that takes its name on closing; None if what has the name is to be written into."""
        if name.endswith(b"/"):
            return None  # opening it says what is wrong
        place = self._files.parent(name)
        kept_mode: int | None = None
        try:
            entry = place.entry()
            try:
                existing = os.stat(entry, dir_fd=place.folder, follow_symlinks=False)
            except FileNotFoundError:
                pass
            else:
                if not stat.S_ISREG(existing.st_mode) or not flags & os.O_TRUNC:
                    os.close(place.folder)
                    return None
                # Whoever may not write a file may not replace it, and it keeps the mode that it has.
                os.close(self._files.open(name, os.O_WRONLY | os.O_NONBLOCK))
                kept_mode = existing.st_mode & 0o777
            hidden = HIDDEN + secrets.token_hex(8).encode()
            wanted = (flags & ~os.O_TRUNC) | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            mode = mode & ~(self._umask or 0) if kept_mode is None else kept_mode
            descriptor = os.open(hidden, wanted, mode, dir_fd=place.folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(place.folder)
            raise
        if self._umask is not None or kept_mode is not None:
            os.fchmod(descriptor, mode)

        def closed(upload: LocalFile) -> None:
            self._uploads.discard(upload)
            give_back()

        upload = LocalFile(descriptor, flags, place, hidden, on_close=closed)
        self._uploads.add(upload)
        return upload

    def abandon_uploads(self) -> None:
        """The session is over: what wasn't closed by now is thrown away."""
        while self._uploads:
            self._uploads.pop().abandon()

    # -- directories

    async def list_folder(self, path: str) -> Iterator[SFTPAttributes]:
        """Open a directory, and list it as its names are asked for."""
        name = _encoded(path)
        with self._taking(_FOLDER_DESCRIPTORS) as give_back:
            descriptor = self._files.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
            # A generator that was never asked doesn't clean up behind itself: the descriptor has its own keeper.
            return _Folder(descriptor, give_back)

    async def mkdir(self, path: str, attr: SFTPAttributes) -> None:
        """Make a directory."""
        self._check_writable()
        mode = 0o777 if attr.st_mode is None else attr.st_mode & MODE_BITS
        with self._files.parent(_encoded(path)) as place:
            if not place.name:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.mkdir(place.name, mode & ~(self._umask or 0), dir_fd=place.folder)
            if self._umask is not None:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(place.name, flags, dir_fd=place.folder)
                try:
                    # It has its parent's group if that one's bit was set, and then the bit, too: so the next ones have.
                    kept = os.fstat(descriptor).st_mode & stat.S_ISGID
                    os.fchmod(descriptor, mode & ~self._umask | kept)
                finally:
                    os.close(descriptor)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._check_writable()
        with self._files.parent(_encoded(path)) as place:
            os.rmdir(place.entry(), dir_fd=place.folder)

    # -- paths

    async def stat(self, path: str) -> SFTPAttributes:
        """Return attributes, of what a link leads to."""
        with closing(self._files.hold(_encoded(path))) as descriptor:
            return SFTPAttributes.from_stat(os.fstat(descriptor))

    async def lstat(self, path: str) -> SFTPAttributes:
        """Return attributes, of a link itself."""
        encoded = _encoded(path)
        if encoded.endswith(b"/"):
            return await self.stat(path)  # POSIX: the slash follows
        with self._files.parent(encoded) as place:
            if not place.name:
                return SFTPAttributes.from_stat(os.fstat(place.folder))
            return SFTPAttributes.from_stat(os.stat(place.name, dir_fd=place.folder, follow_symlinks=False))

    async def remove(self, path: str) -> None:
        """Remove a file or a link; a directory is refused."""
        self._check_writable()
        with self._files.parent(_encoded(path)) as place:
            os.unlink(place.existing(), dir_fd=place.folder)

    async def rename(self, oldpath: str, newpath: str) -> None:
        """Rename, unless there is something of the new name."""
        self._check_writable()
        with self._files.parent(_encoded(oldpath)) as old, self._files.parent(_encoded(newpath)) as new:
            old.existing()
            if new.is_folder and not old.is_directory():
                new.vacant()
            rename_to_new(old, new)

    async def posix_rename(self, oldpath: str, newpath: str) -> None:
        """Rename, as rename(2): what had the new name is gone."""
        self._check_writable()
        with self._files.parent(_encoded(oldpath)) as old, self._files.parent(_encoded(newpath)) as new:
            name = old.existing()
            if new.is_folder and not old.is_directory():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            os.rename(name, new.entry(), src_dir_fd=old.folder, dst_dir_fd=new.folder)

    async def link(self, oldpath: str, newpath: str) -> None:
        """Make a hard link; one of a symbolic link is of the link itself."""
        self._check_writable()
        with self._files.parent(_encoded(oldpath)) as old, self._files.parent(_encoded(newpath)) as new:
            name, new_name = old.existing(), new.vacant()
            os.link(name, new_name, src_dir_fd=old.folder, dst_dir_fd=new.folder, follow_symlinks=False)

    async def symlink(self, target_path: str, path: str) -> None:
        """Make a symbolic link; whatever it says, it is followed inside only."""
        self._check_writable()
        with self._files.parent(_encoded(path)) as place:
            os.symlink(target_path.encode("utf-8", "surrogateescape"), place.vacant(), dir_fd=place.folder)

    async def readlink(self, path: str) -> str:
        """Return what a symbolic link says."""
        encoded = _encoded(path)
        if encoded.endswith(b"/"):
            os.close(self._files.hold(encoded))  # the slash follows, to what is no link
            raise OSError(errno.EINVAL, "this is no symbolic link")
        with self._files.parent(encoded) as place:
            if not place.name:
                raise OSError(errno.EINVAL, "this is no symbolic link")
            return os.readlink(place.name, dir_fd=place.folder).decode("utf-8", "surrogateescape")

    async def chattr(self, path: str, attr: SFTPAttributes) -> None:
        """Set attributes, of what a link leads to."""
        self._check_writable()
        name = _encoded(path)
        if attr.st_size is not None:
            with closing(plain(self._files.open(name, os.O_WRONLY | os.O_NONBLOCK))) as descriptor:
                os.ftruncate(descriptor, checked(attr.st_size, 0))
        with closing(self._files.hold(name)) as descriptor:
            set_attributes(by_descriptor(descriptor), attr)

    async def lchattr(self, path: str, attr: SFTPAttributes) -> None:
        """Set attributes, of a link itself."""
        self._check_writable()
        if attr.st_size is not None:
            raise OSError(errno.EINVAL, "a size can't be set by lsetstat")
        encoded = _encoded(path)
        if encoded.endswith(b"/"):
            await self.chattr(path, attr)  # as in `lstat`
            return
        with self._files.parent(encoded) as place:
            name, folder = place.name or b".", place.folder
            if attr.st_mode is not None:
                if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise OSError(errno.EOPNOTSUPP, "a symbolic link has no permissions of its own")
                # What is no link is opened as no link: a race ends in an error.
                with closing(os.open(name, os.O_NOFOLLOW | _HOLD, dir_fd=folder)) as descriptor:
                    if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                        raise OSError(errno.EOPNOTSUPP, "a symbolic link has no permissions of its own")
                    os.chmod(by_descriptor(descriptor), attr.st_mode & MODE_BITS)
            if attr.st_atime is not None and attr.st_mtime is not None:
                os.utime(name, (attr.st_atime, attr.st_mtime), dir_fd=folder, follow_symlinks=False)
            if attr.st_uid is not None and attr.st_gid is not None:
                os.chown(name, attr.st_uid, attr.st_gid, dir_fd=folder, follow_symlinks=False)

    async def canonicalize(self, path: str) -> str:
        """Return the path without links and ``..``; its last name need not be there, as with OpenSSH's server."""
        found = self._canonical(_encoded(path))
        return found.decode("utf-8", "surrogateescape")

    def _canonical(self, path: bytes) -> bytes:
        done: list[bytes] = []
        names = [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
        is_folder = path.endswith((b"/", b"/."))
        links = 0
        while names:
            name = names.pop()
            if name == b"..":
                del done[-1:]
                continue
            here = b"/" + b"/".join([*done, name])
            try:
                with self._files.parent(here) as place:
                    mode = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False).st_mode
                    target = os.readlink(place.name, dir_fd=place.folder) if stat.S_ISLNK(mode) else None
            except FileNotFoundError:
                if names or is_folder:
                    raise
                target = None
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith(b"/"):
                done.clear()
            is_folder = is_folder or (not names and target.endswith((b"/", b"/.")))
            names.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
        return b"/" + b"/".join(done)

    # -- extensions

    async def expand_path(self, path: str) -> str:
        """Return the absolute path; everyone's home is the root."""
        if path.startswith("~"):
            user, _, rest = path[1:].partition("/")
            path = f"{await self.home_directory(user)}/{rest}"
        return await self.canonicalize(path)

    async def home_directory(self, username: str) -> str:
        """Return the home of whoever is logged in, which is the root; others have none here."""
        if username not in ("", self.process.username):
            raise FileNotFoundError(errno.ENOENT, "nobody else has a home here")
        return "/"

    async def users_groups_by_id(self, users: Sequence[int], groups: Sequence[int]) -> tuple[list[str], list[str]]:
        """Look names up on this machine."""
        return [user_name(number) for number in users], [group_name(number) for number in groups]

    async def statvfs(self, path: str) -> StatVFS:
        """Describe the file system of a path."""
        with closing(self._files.hold(_encoded(path))) as descriptor:
            found = os.statvfs(by_descriptor(descriptor))
        return StatVFS(
            found.f_bsize,
            found.f_frsize,
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            found.f_favail,
            found.f_fsid & 0xFFFFFFFFFFFFFFFF,
            found.f_flag & 0x03,  # read-only, and no setuid: the two that the extension has
            found.f_namemax,
        )

    async def fsync(self, handle: SFTPHandle) -> None:
        """Have a file on its disk."""
        os.fsync(cast("LocalFile", handle).descriptor)

    async def copy_data(
        self, source: SFTPHandle, source_offset: int, length: int, target: SFTPHandle, target_offset: int
    ) -> None:
        """Copy in the kernel where it can."""
        reading, writing = cast("LocalFile", source).descriptor, cast("LocalFile", target).descriptor
        left = length or math.inf
        status = os.fstat(reading)
        if os.path.samestat(status, os.fstat(writing)):
            # What is copied to its end would be copied again, until the disk is full.
            left = min(left, max(0, status.st_size - source_offset))
        while left:
            self._check_wanted()
            step = int(min(left, STEP_BYTES))
            try:
                with _in_turn():
                    if target.flags & os.O_APPEND:
                        data = await source.read(source_offset, step)
                        await target.write(target_offset, data)
                        copied = len(data)
                    else:
                        copied = copy_hole(reading, writing, left, source_offset, target_offset) or copy_range(
                            reading, writing, step, source_offset, target_offset
                        )
            except OSError:
                cast("LocalFile", target).has_failed = True
                raise
            if not copied:
                return
            source_offset += copied
            target_offset += copied
            left -= copied

    async def check_file(
        self, handle: SFTPHandle, hash_name: str, offset: int, length: int, block_size: int
    ) -> Sequence[bytes]:
        """Read and hash, as long as anyone wants it."""
        descriptor = cast("LocalFile", handle).descriptor
        digests: list[bytes] = []
        buffer = memoryview(bytearray(min(block_size or STEP_BYTES, STEP_BYTES)))
        end = offset + length if length else None
        at_end = False
        while not at_end and (end is None or offset < end or not digests):
            digest = hashlib.new(hash_name, usedforsecurity=False)
            start = offset
            stop = end if not block_size else offset + block_size if end is None else min(end, offset + block_size)
            while stop is None or offset < stop:
                self._check_wanted()
                size = len(buffer) if stop is None else min(len(buffer), stop - offset)
                with _in_turn():
                    got = os.preadv(descriptor, [buffer[:size]], checked(offset, size))
                    digest.update(buffer[:got])
                if not got:
                    at_end = True
                    break
                offset += got
            if offset > start or not digests:
                digests.append(digest.digest())
            at_end = at_end or not block_size
        return digests

    def _check_wanted(self) -> None:
        if self.is_over():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    def _check_writable(self) -> None:
        if self._is_read_only:
            raise read_only()


_HOLD: Final[int] = getattr(os, "O_PATH", 0) | os.O_NONBLOCK | os.O_CLOEXEC


#: The one that is listed, and the one that scandir makes of it.
_FOLDER_DESCRIPTORS: Final = 2


class _Folder(Iterator[SFTPAttributes]):
    """A directory's entries, each looked at when it is asked for."""

    def __init__(self, descriptor: int, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._descriptor = descriptor
        try:
            self._entries = os.scandir(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def __next__(self) -> SFTPAttributes:
        while True:
            entry = next(self._entries)
            name = os.fsencode(entry.name)
            if name.startswith(HIDDEN):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it has just been removed
            attributes = SFTPAttributes.from_stat(found, name.decode("utf-8", "surrogateescape"))
            attributes.longname = long_name(attributes, links=found.st_nlink, by_name=True)
            return attributes

    def close(self) -> None:
        """Give up the directory."""
        self._entries.close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            self._on_close()


def _encoded(path: str) -> bytes:
    """Return a path as the system has it, whatever this process' locale says."""
    encoded = path.encode("utf-8", "surrogateescape")
    if HIDDEN in encoded:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return encoded
