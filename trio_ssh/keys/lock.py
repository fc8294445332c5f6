"""One writer of a file at a time, so that two that change it at once both have their way.

What is locked is the directory: the file itself is replaced by every change, and a lock file beside it would stay
behind.  Programs that don't ask for the lock, as OpenSSH's don't, are not held up by it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Generator
from typing import Final

from trio_ssh.keys.disk import FilePath, shown_path

#: How long another writer may take, and how often it is looked at.  Each is done in milliseconds.
PATIENCE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.005

if sys.platform == "win32":

    def _try_to_lock(directory: str) -> int | None:
        import msvcrt  # noqa: PLC0415 -- there is one on Windows only

        # There is no opening a directory.  The file stays: to remove it would let two writers have a lock each.
        descriptor = os.open(os.path.join(directory, ".trio_ssh.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
else:
    import fcntl

    def _try_to_lock(directory: str) -> int | None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                return None
            # A file system without locks.  To write without one is what everybody else does.
        return descriptor


@contextlib.contextmanager
def locked(path: FilePath) -> Generator[None]:
    """Be the only one, of all who ask here, to change files in the directory of `path`.

    A symbolic link stands for what it points to.

    Raises:
        OSError: there is no such directory, or another writer doesn't finish.
    """
    directory = os.path.dirname(os.path.realpath(path))
    patience = time.monotonic() + PATIENCE_SECONDS
    while (descriptor := _try_to_lock(directory)) is None:
        if time.monotonic() >= patience:
            raise TimeoutError(
                errno.ETIMEDOUT, f"{shown_path(path)}: another program has kept the lock of this directory for too long"
            )
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)
