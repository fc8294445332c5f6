"""A tree of directories on this machine, as transfers write and read it: plain calls that block, for threads.

A tree that a server described is written below a descriptor of its root, one name at a time, and no symbolic link is
followed on the way: neither one that the same server put there before, nor one that anybody swaps in meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from trio_ssh.sftp.local import CAREFULLY, DIRECTORY, Finish, Parts, located
from trio_ssh.sftp.small_files import HEAD_ROOM

#: Directories that are known to have been empty; of more than that, each file is looked for.
_NEW_DIRECTORIES: Final = 10_000


def joined(folder: bytes, name: bytes) -> bytes:
    """Return the path of a name in a folder; the folder's own without one."""
    return name if not folder else folder if not name else folder.rstrip(b"/") + b"/" + name


@attrs.define(eq=False)
class NewFile:
    """A small file that is to be written in one piece.

    Attributes:
        folder: its directory, relative to the root; empty for the root.
        name: a single name.
        mode: of a new file, as far as the umask lets it be.
        error: why it was not written.
    """

    folder: bytes
    name: bytes
    parts: Parts
    mode: int
    finish: Finish
    error: OSError | None = None


class LocalTree:
    """A tree that is being written.

    Args:
        root: its path, which may be a symbolic link to a directory: it is the user's own.
        atomic: write each file beside its target and rename it.
    """

    def __init__(self, root: bytes, *, atomic: bool = True) -> None:
        self._root = root
        self._atomic = atomic
        self._descriptor = -1
        self._folds: bool | None = None
        self._new: set[bytes] = set()
        self._token = b".%s-" % secrets.token_hex(8).encode()
        self._numbers = itertools.count()

    def shown(self, path: bytes) -> bytes:
        """Return the path that errors name."""
        return joined(self._root, path)

    def make_root(self, mode: int) -> None:
        """Make the root unless it is there, and open it.

        Raises:
            OSError: it can't be made, or is no directory.
        """
        with located(self._root):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._root, mode & 0o777 | stat.S_IRWXU)
                self._new.add(b"")
            self._descriptor = os.open(self._root, DIRECTORY)

    def close(self) -> None:
        """Close the root."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open_directory(self, path: bytes) -> int:
        """Open a directory of the tree; the descriptor is the caller's.

        Raises:
            OSError: it isn't there, or a symbolic link is on the way.
        """
        with located(self.shown(path)):
            return self._open(path)

    def _open(self, path: bytes) -> int:
        descriptor = os.dup(self._descriptor)
        for name in path.split(b"/") if path else ():
            assert name not in (b"", b".", b".."), "names were checked"
            try:
                inner = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def make_directory(self, path: bytes, mode: int) -> None:
        """Make a directory unless it is there.

        Raises:
            OSError: something else is there, a symbolic link included.
        """
        folder, _, name = path.rpartition(b"/")
        with located(self.shown(path)):
            parent = self._open(folder)
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, mode & 0o777 | stat.S_IRWXU, dir_fd=parent)
                    if len(self._new) < _NEW_DIRECTORIES:
                        self._new.add(path)
                os.close(os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent))
            finally:
                os.close(parent)

    def write_files(self, files: Sequence[NewFile]) -> None:
        """Write small files; those that can't be written have an `error` afterwards."""
        descriptor, folder = -1, None
        try:
            for file in files:
                try:
                    with located(self.shown(joined(file.folder, file.name))):
                        if folder != file.folder:
                            if descriptor >= 0:
                                os.close(descriptor)
                                descriptor, folder = -1, None
                            descriptor, folder = self._open(file.folder), file.folder
                        self._write_file(descriptor, file)
                except OSError as error:
                    file.error = error
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _write_file(self, directory: int, file: NewFile) -> None:
        if not self._atomic:
            descriptor = os.open(file.name, os.O_WRONLY | os.O_CREAT | CAREFULLY, file.mode, dir_fd=directory)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EEXIST, "what is there is no file")
                os.ftruncate(descriptor, 0)
                self._fill(descriptor, file)
            finally:
                os.close(descriptor)
            return
        # It is complete a moment later, so that nobody ever finds a part of it to resume: its name need not be known.
        part = b"%s%d.part" % (self._token, next(self._numbers))
        replaced = None if file.folder in self._new else self._mode_of(file.name, directory)
        mode = file.mode if replaced is None else file.mode & replaced | stat.S_IRUSR | stat.S_IWUSR
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CAREFULLY, mode, dir_fd=directory)
        try:
            try:
                self._fill(descriptor, file)
                if replaced is not None and file.finish.mode is None:
                    os.fchmod(descriptor, replaced)
            finally:
                os.close(descriptor)
            os.rename(part, file.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=directory)
            raise

    @staticmethod
    def _mode_of(name: bytes, directory: int) -> int | None:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_mode & 0o777 if stat.S_ISREG(status.st_mode) else None

    @staticmethod
    def _fill(descriptor: int, file: NewFile) -> None:
        for part in file.parts:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
        if file.finish.mode is not None:
            os.fchmod(descriptor, file.finish.mode)
        if file.finish.times is not None:
            os.utime(descriptor, file.finish.times)

    def make_symlink(self, folder: bytes, name: bytes, target: bytes) -> None:
        """Make a symbolic link, in place of a file or link of that name.

        Raises:
            OSError: it can't be made; a directory is never replaced.
        """
        with located(self.shown(joined(folder, name))):
            if not target or b"\0" in target:
                raise OSError(errno.EINVAL, "the server's link leads to what is no path")
            directory = self._open(folder)
            part = b"%s%d.part" % (self._token, next(self._numbers))
            try:
                os.symlink(target, part, dir_fd=directory)
                try:
                    os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
                except OSError:
                    os.unlink(part, dir_fd=directory)
                    raise
            finally:
                os.close(directory)

    def finish_directories(self, directories: Sequence[tuple[bytes, Finish]]) -> list[OSError]:
        """Give directories their permissions and times, after all that is in them was written."""
        errors: list[OSError] = []
        for path, finish in directories:
            try:
                with located(self.shown(path)):
                    descriptor = self._open(path)
                    try:
                        if finish.times is not None:
                            os.utime(descriptor, finish.times)
                        if finish.mode is not None:
                            os.fchmod(descriptor, finish.mode)
                    finally:
                        os.close(descriptor)
            except OSError as error:
                errors.append(error)
        return errors

    def states(self, path: bytes) -> dict[bytes, tuple[int, int]]:
        """Return size and time of modification, in whole seconds, of the regular files in a directory."""
        with located(self.shown(path)):
            descriptor = self._open(path)
            try:
                with os.scandir(descriptor) as entries:
                    found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
            finally:
                os.close(descriptor)
        return {
            os.fsencode(name): (status.st_size, int(status.st_mtime) & 0xFFFFFFFF)
            for name, status in found
            if stat.S_ISREG(status.st_mode)
        }

    def folds_case(self, path: bytes) -> bool:
        """Tell whether two names that differ in case only are one name here."""
        if self._folds is None:
            with located(self.shown(path)):
                descriptor = self._open(path)
                name = b"%sA.part" % self._token
                try:
                    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CAREFULLY, 0o600, dir_fd=descriptor))
                    try:
                        os.stat(name.replace(b"A", b"a"), dir_fd=descriptor, follow_symlinks=False)
                        self._folds = True
                    except FileNotFoundError:
                        self._folds = False
                    finally:
                        os.unlink(name, dir_fd=descriptor)
                finally:
                    os.close(descriptor)
        return self._folds


# -- reading one


@attrs.define(eq=False)
class Found:
    """An entry of a local directory.

    Attributes:
        name: a single name.
        path: of it.
        status: its own, or that of what a link leads to where links are followed.
        target: of a link that isn't followed.
        data: `HEAD_ROOM` bytes and all that is in it, if it is a small regular file.
        error: why it can't be read.
    """

    name: bytes
    path: bytes
    status: os.stat_result | None = None
    target: bytes = b""
    data: memoryview | None = None
    error: OSError | None = None


class LocalScan:
    """Reads a local directory: so many entries at a time, and the small files among them.

    Args:
        follow_symlinks: take a link for what it leads to.
        small_bytes: files up to this size are read.
        is_wanted: told a name and whether it is a directory's; what it doesn't want is passed over.
    """

    def __init__(
        self, path: bytes, *, follow_symlinks: bool, small_bytes: int, is_wanted: Callable[[bytes, bool], bool]
    ) -> None:
        self._is_wanted = is_wanted
        self._path = path
        self._follow = follow_symlinks
        self._small_bytes = small_bytes
        self._entries: Iterator[os.DirEntry[bytes]] | None = None
        self._scan: contextlib.AbstractContextManager[object] | None = None

    def next_entries(self, count: int) -> list[Found] | None:
        """Return the next entries that are wanted; None at the end.

        Raises:
            OSError: the directory can't be read.
        """
        with located(self._path):
            if self._entries is None:
                scan = os.scandir(self._path)
                self._scan, self._entries = scan, scan
            entries = list(itertools.islice(self._entries, count))
        if not entries:
            return None
        return [self._look(entry) for entry in entries if self._is_wanted(entry.name, self._is_directory(entry))]

    def _is_directory(self, entry: os.DirEntry[bytes]) -> bool:
        try:
            return entry.is_dir(follow_symlinks=self._follow)
        except OSError:
            return False

    def _look(self, entry: os.DirEntry[bytes]) -> Found:
        found = Found(entry.name, entry.path)
        try:
            with located(entry.path):
                if not self._follow and entry.is_symlink():
                    found.target = os.readlink(entry.path)
                found.status = entry.stat(follow_symlinks=self._follow)
                if stat.S_ISREG(found.status.st_mode) and found.status.st_size <= self._small_bytes:
                    found.data = self._read(entry.path, found.status.st_size)
        except OSError as error:
            found.error = error
        return found

    def _read(self, path: bytes, size: int) -> memoryview | None:
        # It may have become something else since it was looked at.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if self._follow else os.O_NOFOLLOW)
        descriptor = os.open(path, flags)
        try:
            data = memoryview(bytearray(HEAD_ROOM + size + 1))
            got = os.preadv(descriptor, [data[HEAD_ROOM:]], 0)
        finally:
            os.close(descriptor)
        # One that has grown is no longer small; one whose size is a lie has to be read to its end.
        return data[: HEAD_ROOM + got] if got == size else None

    def close(self) -> None:
        """Give the directory back."""
        if self._scan is not None:
            self._scan.__exit__(None, None, None)
            self._scan = self._entries = None
