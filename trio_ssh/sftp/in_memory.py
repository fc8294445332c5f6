"""What of a local file is in memory, and can be read or written in trio's thread: no thread waits for nothing.

A hop into a thread costs 100 us, and what was read there stands in another processor's cache.  So a large file is read
here as far as the system has it in memory: Linux says whether it has (``RWF_NOWAIT``), on file systems that know.
tmpfs doesn't, and has nothing but memory, unless that is swapped out; it is written to as well.  That waits for
nobody but who writes to the same file or cuts it off at the same time, 50 us for each mebibyte.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from trio_ssh.sftp.protocol import MIB

#: It takes as long as a hop or two to find out whether a file needs them: larger ones are worth that.
PREPARED_BYTES: Final = 2 * MIB

#: preadv(2) fails instead of waiting for a disk.  Not every system has it.
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)

#: Reads that are left to threads where one would have waited: those read ahead of what is asked, but not by much.
_LEFT_TO_THREADS: Final = 8

_MOUNTS: Final = "/proc/self/mountinfo"
_MEMORY: Final = (b"tmpfs", b"ramfs")


def is_in_memory(descriptor: int) -> bool:
    """Tell whether a file is on a file system that is memory.  Reads a file: for threads."""
    device = os.fstat(descriptor).st_dev
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open(_MOUNTS, "rb") as mounts:
            # proc(5): fields of any number, a hyphen, and then the type.
            for line in mounts:
                fields, _, rest = line.partition(b" - ")
                if fields.split(b" ", 3)[2:3] == [number]:
                    return rest.split(b" ", 1)[0] in _MEMORY
    except OSError:
        pass
    return False


def _answers(descriptor: int) -> bool:
    """Tell whether the file system knows if it would have to wait."""
    try:
        os.preadv(descriptor, [bytearray(1)], 0, _NOWAIT)
    except BlockingIOError:
        pass
    except (OSError, NotImplementedError):
        return False
    return True


class CachedReads:
    """Reads an open file at any offset, as far as nothing is waited for."""

    __slots__ = ("_flags", "_is_prepared", "_left_to_threads")

    def __init__(self) -> None:
        self._is_prepared = False
        #: What preadv is told; None where nobody can say whether it would wait.
        self._flags: int | None = None
        self._left_to_threads = 0

    @property
    def is_worth_trying(self) -> bool:
        """Whether `read` may find something in memory."""
        return self._flags is not None and not self._left_to_threads

    def leave_to_threads(self) -> None:
        """Find nothing worth trying until threads have read some."""
        self._left_to_threads = _LEFT_TO_THREADS

    def note_thread(self) -> None:
        """A thread has read some."""
        self._left_to_threads = max(0, self._left_to_threads - 1)

    @property
    def is_in_memory(self) -> bool:
        """Whether all of the file is, so that to write to it waits for nothing either."""
        return self._flags == 0

    def prepare(self, descriptor: int) -> None:
        """Find out how it is to be read; a second time does nothing.  For threads."""
        if self._is_prepared:
            return
        self._is_prepared = True
        if _NOWAIT and _answers(descriptor):
            self._flags = _NOWAIT
        elif is_in_memory(descriptor):
            self._flags = 0

    def read(self, descriptor: int, views: Sequence[memoryview], offset: int) -> int | None:
        """Read into `views`, one behind the other.

        Returns:
            Bytes read; None where a thread must do it, as at the file's end and where it fails.
        """
        assert self._flags is not None, "it is worth trying"
        try:
            got = os.preadv(descriptor, views, offset, self._flags)
        except OSError:
            got = 0
        # Linux 5.9 and 5.10 say so in the middle of a file, where they would have to wait: preadv2(2), BUGS.
        if not got:
            self.leave_to_threads()
        return got or None
