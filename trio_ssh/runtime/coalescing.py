"""When a reader does well to wait a little before it reads again, as a network card does before it interrupts.

A read costs the same two task switches and four system calls whether it brings one packet or eight.  Who sends as fast
as it can wakes us for each of its packets, and the faster we are, the more often.  Who receives as fast as it can wakes
us for each of its grants, and we send as little as it granted.
"""

from __future__ import annotations

import time
from typing import Final

#: Seconds to wait, of which the system's timer makes a millisecond.
PAUSE_SECONDS: Final = 0.0005

#: Bytes that a flow has brought, or was allowed to send, before it is waited for.
_EARNED_BYTES: Final = 16 * 1024 * 1024

#: The least that a read brings for which the wait before it was worth while.
_WORTH_BYTES: Final = 128 * 1024

#: The least that it grants, as two of sshd's: each costs a packet, and lets us send less at a time.
_WORTH_GRANT: Final = 32 * 1024

#: What of our data a peer must still have before it for us to wait for its grants: it won't run dry in a millisecond.
_BUSY_BYTES: Final = 1024 * 1024


class Coalescing:
    """Tells for each read whether to wait before the next one.

    Behind 16 MiB it tries.  Where the next read brings much it goes on so; else a millisecond was lost, and another 16
    MiB come first.

    Args:
        largest: bytes of the largest read: behind such a one more is there already.
    """

    __slots__ = ("_began", "_bytes", "_has_waited", "_largest", "_ticks_began")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._bytes = 0
        self._began = 0.0
        self._ticks_began = 0.0
        self._has_waited = False

    def waits(self, size: int, granted: int, used_window: int, now: float) -> bool:
        """A read brought `size` bytes: should the reader wait?

        Args:
            granted: bytes that it allowed to send.
            used_window: bytes under way on the channel to which it did so.
            now: trio's time in seconds.
        """
        if self._has_waited and size < _WORTH_BYTES and granted < _WORTH_GRANT:
            self._bytes = 0
        self._has_waited = False
        if not self._bytes:
            self._began, self._ticks_began = now, time.perf_counter()
        self._bytes += size + granted
        is_safe = used_window >= _BUSY_BYTES if granted else size < self._largest
        if is_safe and self._bytes >= _EARNED_BYTES:
            # A test's clock stands still and jumps: then nobody may ever wake us.
            ticks = time.perf_counter() - self._ticks_began
            self._has_waited = ticks / 2 < now - self._began < ticks * 2
        return self._has_waited
