"""How much is worth waking up for in the middle of a large transfer, as a network card asks before it interrupts.

A read costs the same two task switches and four system calls whether it brings one packet or eight.  Who sends as fast
as it can wakes us for each of its packets, and the faster we are, the more often.  Who receives as fast as it can wakes
us for each of its grants, and we send as little as it granted.  So the system is told not to wake us for less than some
number of bytes.

The system knows no time, and what it is told to wait for may never come.  So whoever says it watches the reader, and
takes it back where nothing was read for `PATIENCE_SECONDS`.
"""

from __future__ import annotations

from typing import Final

from trio_ssh.core.limits import KIB, MIB

#: What comes in so many seconds is waited for.
AHEAD_SECONDS: Final = 0.0015

#: Seconds without a read behind which less is taken.
PATIENCE_SECONDS: Final = 0.003

#: Bytes that a flow has brought, or was allowed to send, before much is waited for; and where that was in vain again
#: and again.
_FIRST_PRICE: Final = 16 * MIB
_LAST_PRICE: Final = 256 * MIB

#: What a wait in vain is worth: so many times its price, brought by waits that were not.
_WORTH: Final = 4

#: No more data is waited for: two of the largest reads.
_MOST_DATA: Final = 512 * KIB

#: A flow whose reads allow to send so many times what they bring is an upload.
_UPLOAD: Final = 8


class Coalescing:
    """Tells for each read how much the next one is to bring, from what those before it brought.

    That is what comes in a millisecond or two.  Of an upload it is no more than what grants half of the window: while
    the peer says nothing, the other half is there to be sent, and so neither side waits long for the other.
    """

    __slots__ = ("_began", "_data", "_earned", "_granted", "_least", "_price")

    def __init__(self) -> None:
        self._price = _FIRST_PRICE
        self._data = 0
        self._granted = 0
        #: Bytes since more than one was waited for.
        self._earned = 0
        self._least = 1
        self._began = 0.0

    def least(self, size: int, granted: int, window: int, now: float) -> int:
        """Return the bytes that the next read is to bring.

        Args:
            size: what this one has brought.
            granted: bytes that it allowed to send.
            window: what the peer lets be under way on the channel on which it did so.
            now: trio's time in seconds.
        """
        if not self._data:
            self._began = now
        self._data += size
        self._granted += granted
        if self._least > 1:
            self._earned += size + granted
        if self._data + self._granted >= self._price:
            self._choose(window, now)
        return self._least

    def _choose(self, window: int, now: float) -> None:
        seconds = now - self._began
        most = _MOST_DATA
        if self._granted > _UPLOAD * self._data:
            most = min(most, self._data * (window // 2) // self._granted)
        self._least = max(1, min(most, int(self._data * AHEAD_SECONDS / seconds))) if seconds > 0 else 1
        # What was long ago counts less.
        self._data //= 2
        self._granted //= 2
        self._began += seconds / 2

    def give_up(self) -> None:
        """What was to come did not.  The next time must be earned, and costs more if this one brought little."""
        self._price = _FIRST_PRICE if self._earned >= _WORTH * self._price else min(2 * self._price, _LAST_PRICE)
        self._restart()

    def _restart(self) -> None:
        self._data = self._granted = self._earned = 0
        self._least = 1
