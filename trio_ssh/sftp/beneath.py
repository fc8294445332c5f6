"""Opening files beneath a directory, and never outside of it, whatever a path, a symbolic link or a race says.

Everything is done by descriptors: a path is walked from the root's own, and what is found is held by one while it is
worked on.  The root is a root, as for a process after chroot(2): ``..`` of it is itself, and links, absolute ones
included, are followed inside.

Where the kernel has openat2(2) it does the walk, with RESOLVE_IN_ROOT.  Elsewhere we do it, name by name: each is
opened without following it, a link is read by itself, and ``..`` goes back to a descriptor from which we came, never to
the file system's idea of a parent, which may have been moved away meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

#: Links that are followed on one path: Linux' own number.
_LINKS: Final = 40

#: Opens a thing without opening the file: only Linux can.
_PATH: Final[int] = getattr(os, "O_PATH", 0)
_FOLDER: Final = (_PATH or os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# openat2 is strict: with O_PATH it takes nothing that would matter only to what is opened.
_THING: Final = (_PATH or (os.O_RDONLY | os.O_NONBLOCK)) | os.O_CLOEXEC

#: The number of openat2(2), the same on every architecture.
_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_IN_ROOT: Final = 0x10

#: A walk through ``..`` while directories are renamed is to be tried again, says the kernel; this often, and no more.
_TRIES: Final = 16


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_Openat2 = Callable[[int, bytes, int, int, int], int]


@functools.cache
def kernel_walk() -> _Openat2 | None:
    """Return openat2(2) as a function, or None where there is none, or a sandbox forbids it."""
    if sys.platform != "linux":
        return None
    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)

    def openat2(folder: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
        how = _OpenHow(flags, mode, resolve)
        descriptor: int = syscall(_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return descriptor

    try:
        os.close(openat2(-100, b"/", _FOLDER, 0, _RESOLVE_IN_ROOT))
    except OSError:
        return None
    return openat2


class Beneath:
    """A directory that is a root.

    Args:
        root: its path, which is trusted.
        follow_symlinks: whether links are followed, which they are inside only.
        by_kernel: whether to use openat2(2); None for where there is one.
    """

    def __init__(
        self, root: str | bytes | os.PathLike[str], *, follow_symlinks: bool = True, by_kernel: bool | None = None
    ) -> None:
        self._follows = follow_symlinks
        self._openat2 = None if by_kernel is False else kernel_walk()
        if by_kernel and self._openat2 is None:
            raise OSError(errno.ENOSYS, "this system has no openat2")
        self.root: int = os.open(root, _FOLDER)

    def close(self) -> None:
        """Let go of the root."""
        os.close(self.root)

    # -- opening

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """Open a file and return its descriptor.

        Args:
            flags: with ``os.O_NOFOLLOW``, a link that is the last name isn't followed, as in open(2).
            mode: of a file that is made.

        Raises:
            FileNotFoundError: an empty path names nothing, and not the root either.
            OSError: as open(2) says.
        """
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        flags |= os.O_CLOEXEC
        if not flags & _PATH:
            flags |= os.O_NOCTTY
        if self._openat2 is None:
            return self._walk(path, flags, mode)
        resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
        if not self._follows:
            resolve |= _RESOLVE_NO_SYMLINKS
        made = mode if flags & os.O_CREAT else 0
        for _ in range(_TRIES):
            try:
                return self._openat2(self.root, path, flags, made, resolve)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
        return self._walk(path, flags, mode)

    def hold(self, path: bytes) -> int:
        """Open whatever is there, for its status and its attributes alone."""
        return self.open(path, _THING)

    def parent(self, path: bytes) -> Place:
        """Find the directory that holds what `path` names, which itself isn't followed, and need not be there."""
        stripped = path.rstrip(b"/")
        folder, _, name = stripped.rpartition(b"/")
        if name in (b"", b".", b".."):
            # It names a directory by another's entry, or the root, which has none.
            return Place(self.open(path, _FOLDER), b"")
        return Place(self.open(folder or b"/", _FOLDER), name, is_folder=stripped != path)

    # -- the walk where the kernel has none

    def _walk(self, path: bytes, flags: int, mode: int) -> int:
        trail: list[int] = []
        try:
            return self._walk_along(trail, path, flags, mode)
        finally:
            for descriptor in trail:
                os.close(descriptor)

    def _walk_along(self, trail: list[int], path: bytes, flags: int, mode: int) -> int:
        """Walk; `trail` has the directories below the root through which we came."""
        names = _names(path)
        links = 0
        is_folder = path.endswith((b"/", b"/.", b"/.."))
        while names:
            name = names.popleft()
            here = trail[-1] if trail else self.root
            if name == b"..":
                if trail:
                    os.close(trail.pop())
                continue
            is_last = not names
            target = self._link(here, name)
            if target is not None and not (is_last and not is_folder and flags & os.O_NOFOLLOW):
                links += 1
                if links > _LINKS or not self._follows:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if is_last and flags & os.O_CREAT and flags & os.O_EXCL:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                if target.startswith(b"/"):
                    while trail:
                        os.close(trail.pop())
                if is_last:
                    is_folder = is_folder or target.endswith((b"/", b"/.", b"/.."))
                names.extendleft(reversed(_names(target)))
                continue
            if not is_last:
                trail.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here))
                continue
            if is_folder and flags & os.O_CREAT:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))  # some kernels would make a file
            wanted = flags | os.O_NOFOLLOW | (os.O_DIRECTORY if is_folder else 0)
            try:
                return os.open(name, wanted, mode, dir_fd=here)
            except OSError as error:
                # It was no link when we looked, and is one now: look again.
                if error.errno != errno.ELOOP or flags & os.O_NOFOLLOW or links >= _LINKS:
                    raise
                links += 1
                names.append(name)
        return os.open(b".", flags & ~os.O_CREAT, dir_fd=trail[-1] if trail else self.root)

    @staticmethod
    def _link(folder: int, name: bytes) -> bytes | None:
        """Return where a link leads; None of what is no link, or not there."""
        try:
            return os.readlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise


def _names(path: bytes) -> deque[bytes]:
    return deque(name for name in path.split(b"/") if name not in (b"", b"."))


class Place:
    """A name in a directory that is held open, as a block.

    Attributes:
        folder: the directory's descriptor.
        name: the entry's; empty where the directory itself is meant, and no entry of it.
        is_folder: a slash is behind the name, which so is a directory's and nothing else's.  The kernel doesn't get to
            see it: it would follow a link, and not beneath the root.
    """

    __slots__ = ("folder", "is_folder", "name")

    def __init__(self, folder: int, name: bytes, *, is_folder: bool = False) -> None:
        self.folder: int = folder
        self.name: bytes = name
        self.is_folder: bool = is_folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.folder)

    def entry(self) -> bytes:
        """Return the name of what is to be made, moved or removed.

        Raises:
            OSError: the directory itself is meant, which is nothing that could be.
        """
        if not self.name:
            raise OSError(errno.EBUSY, "this names a directory by another name than its own")
        return self.name

    def existing(self) -> bytes:
        """Return the name of what is to be moved or removed.

        Raises:
            NotADirectoryError: it is named as a directory, and is none.
            OSError: as `entry`; or it is named so, and isn't there.
        """
        name = self.entry()
        if self.is_folder and not self.is_directory():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return name

    def vacant(self) -> bytes:
        """Return the name of what is to be made, and is no directory.

        Raises:
            OSError: as `entry`; or it is named as a directory: ``EEXIST`` if anything is there, else ``ENOENT``.
        """
        name = self.entry()
        if self.is_folder:
            self._status()
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return name

    def is_directory(self) -> bool:
        """Tell whether the entry is a directory itself, and no link to one."""
        return stat.S_ISDIR(self._status().st_mode)

    def _status(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)


def by_descriptor(descriptor: int) -> int | str:
    """Return what names an open thing for functions that change it: Linux' O_PATH descriptors do nothing themselves."""
    return f"/proc/self/fd/{descriptor}" if _PATH else descriptor
