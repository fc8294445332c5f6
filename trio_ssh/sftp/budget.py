"""What the sessions of one process share, such as its descriptors: for threads.

Every session, and everything else that the process does, lives on the same few descriptors.  So what one session may
have is measured by what is left, and not by a number that is right for one session alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final

if sys.platform != "win32":
    import resource

#: What a process has where the system sets no limit.
_UNLIMITED: Final = 1 << 20

#: Threads that may work for sessions whose first one is stuck.
_THREADS: Final = 256


class Budget:
    """So many things of one kind for all sessions together.

    Args:
        most: how many there are; asked each time, since the answer may change.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._taken = 0

    def part(self) -> Part:
        """Return the part of a session that has begun."""
        return Part(self)

    def _take(self, count: int, had: int) -> bool:
        with self._lock:
            left = self._most() - self._taken
            # No session has more than it leaves to all others: whatever one takes, the next gets something, too.
            if had >= left or count > left:
                return False
            self._taken += count
            return True

    def _give_back(self, count: int) -> None:
        with self._lock:
            self._taken -= count


class Part:
    """What one session has of a `Budget`."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, count: int = 1) -> bool:
        """Take so many, all or none; tell whether they are there."""
        with self._lock:
            is_there = self._budget._take(count, self._taken)
            self._taken += count if is_there else 0
            return is_there

    def give_back(self, count: int = 1) -> None:
        """Give back so many of those that were taken."""
        with self._lock:
            self._taken -= count
            self._budget._give_back(count)


def half_of_descriptors() -> int:
    """Return how many descriptors all SFTP sessions may hold: the rest is for connections and the process itself."""
    if sys.platform == "win32":
        return _UNLIMITED // 2
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_UNLIMITED if soft == resource.RLIM_INFINITY else soft) // 2


DESCRIPTORS: Final = Budget(half_of_descriptors)
THREADS: Final = Budget(lambda: _THREADS)
