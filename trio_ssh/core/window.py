"""RFC 4254 section 5.2: flow control.  How much may still come, how much may still go, and when to grant more.

The window is the only bound on received data.  Credit is given when the *user* takes bytes, never when they arrive.
"""

from __future__ import annotations

from typing import Final

from trio_ssh.core.limits import KIB, MIB, Limits
from trio_ssh.errors import RemoteProtocolError

#: RFC 4254 s5.2: a window's size stays below this.
WINDOW_LIMIT: Final = 2**32

_SMALLEST_WINDOW: Final = 64 * KIB
_LARGEST_GRANT: Final = 1 * MIB

#: What a stream may reach on any path: a window that carries this much per round trip is large enough.
_BYTES_PER_SECOND: Final = 320 * MIB


class WindowBudget:
    """What all inbound windows of a connection may add up to, and how a new channel's share is found.

    A little is kept back for every channel that the limits allow, so that the sum holds however many are opened; the
    rest is shared out.
    """

    __slots__ = ("_initial", "_largest", "_least", "_remaining", "_useful")

    def __init__(self, limits: Limits) -> None:
        self._initial = limits.initial_window_bytes
        self._largest = limits.largest_window_bytes
        #: What a window may grow to on this path; everything allowed, as long as nothing is known of it.
        self._useful = self._largest
        self._least = min(_SMALLEST_WINDOW, self._initial, limits.all_windows_bytes // max(1, limits.channels))
        self._remaining = limits.all_windows_bytes - self._least * limits.channels

    def open_window(self) -> InboundWindow:
        """Share out a new channel's window: generous to a few, small to hundreds.

        No more than a twelfth of what is left: so the first few have all that they may, and the hundredth has some.
        """
        size = max(self._least, min(self._initial, self._remaining // 12))
        self._remaining -= size - self._least
        return InboundWindow(self, size)

    def note_round_trip(self, seconds: float) -> None:
        """Take note of how long the path is.

        Measured: over a short one, a window of 16 MiB makes sshd keep 16 MiB of output, at twice its cost per byte.
        """
        self._useful = max(self._initial, min(self._largest, int(seconds * _BYTES_PER_SECOND)))

    def widen(self, size: int) -> int:
        """Return how many bytes a window of `size` may grow by: it doubles, if there is so much left."""
        growth = max(0, min(size, self._useful - size))
        if growth > self._remaining:
            return 0
        self._remaining -= growth
        return growth

    def give_back(self, size: int) -> None:
        """A channel with a window of `size` is gone."""
        self._remaining += size - self._least


class InboundWindow:
    """How much the peer may still send, and how much of it was taken since the last grant.

    A window starts small and doubles while its reader keeps up, as far as the path's length makes it useful: so one
    stream fills a long fat path without being told to (16 MiB on a path of 100 ms carries 1 Gbit/s), and a short one
    isn't clogged.
    """

    __slots__ = ("_budget", "_taken", "_taken_at_this_size", "left", "size")

    def __init__(self, budget: WindowBudget, size: int) -> None:
        self._budget = budget
        self._taken = 0
        self._taken_at_this_size = 0
        #: Bytes that the peer may still send.
        self.left: int = size
        #: Bytes that may be on their way or unread at once.
        self.size: int = size

    def receive(self, size: int) -> None:
        """Count data that has arrived.

        Raises:
            RemoteProtocolError: it is more than was granted.
        """
        if size > self.left:
            raise RemoteProtocolError(f"{size} bytes of channel data, where the window has {self.left} left")
        self.left -= size

    def take(self, size: int, unread: int) -> int:
        """Count data that the user took; return the bytes to grant now, mostly 0.

        Args:
            unread: bytes that have arrived and were not taken.
        """
        self._taken += size
        self._taken_at_this_size += size
        # Half a window, as everyone does; but of a large one no more than this, so that most of it stays in flight.
        if self._taken < min(self.size // 2, _LARGEST_GRANT):
            return 0
        grant = self._taken
        self._taken = 0
        if self._taken_at_this_size >= self.size and unread < self.size // 4:
            growth = self._budget.widen(self.size)
            self.size += growth
            grant += growth
            self._taken_at_this_size = 0
        self.left += grant
        return grant

    def close(self) -> None:
        """Give the window's share back; a second time does nothing."""
        if self.size:
            self._budget.give_back(self.size)
            self.size = 0


class OutboundWindow:
    """How much we may still send, as the peer said."""

    __slots__ = ("left", "maximum_packet", "most")

    def __init__(self, left: int, maximum_packet: int) -> None:
        self.left: int = left
        #: What `left` was when it was largest: what the peer lets be under way.
        self.most: int = left
        self.maximum_packet: int = maximum_packet

    def grant(self, size: int) -> None:
        """The peer grants more.

        Raises:
            RemoteProtocolError: the sum passes what RFC 4254 allows.
        """
        left = self.left + size
        if left > self.most:
            if left >= WINDOW_LIMIT:
                raise RemoteProtocolError("a channel's window grew past 2**32 - 1")
            self.most = left
        self.left = left
