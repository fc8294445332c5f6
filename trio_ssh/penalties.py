"""Who fails to log in too often waits: OpenSSH's PerSourcePenalties.

Each connection that ends without a login costs its source some seconds, which add up and pass with time.  Once they
have added up to enough, its connections are refused until they are over.

Source: sshd_config(5), PerSourcePenalties.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import attrs
import trio

from trio_ssh.core.limits import Limits
from trio_ssh.keys.key_restrictions import plain_address

Address = IPv4Address | IPv6Address


class Offence(Enum):
    """How a connection ended that was none of a user's; the value is the limit that says what it costs."""

    FAILED = "penalty_failed_login_seconds"
    SILENT = "penalty_no_login_seconds"
    LATE = "penalty_late_login_seconds"
    REFUSED = "penalty_refused_seconds"


def address_of(stream: trio.abc.Stream) -> Address | None:
    """Return where a connection comes from, or None where that can't be told."""
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        return plain_address(str(stream.socket.getpeername()[0]))
    except (OSError, IndexError):
        return None


def source_of(address: Address | None) -> str:
    """Return what is counted as one source: an IPv4 address, or an IPv6 network of 64 bits; empty where unknown."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address) if address is not None else ""


@attrs.define
class _Debt:
    """What a source has to wait off, until when, and whether that is enough for it to be refused."""

    until: float
    is_active: bool


class Penalties:
    """The sources that have offended of late.

    Args:
        limits: what offences cost.
        clock: the time in seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = trio.current_time) -> None:
        self._limits = limits
        self._clock = clock
        self._exempt = tuple(ip_network(text) for text in limits.penalty_exempt)
        self._debts: dict[str, _Debt] = {}
        #: When a debt may be over, and whose: to forget first what would end first.
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return how many sources are remembered."""
        return len(self._debts)

    def is_refused(self, address: Address | None) -> bool:
        """Tell whether connections from there have to wait."""
        source = source_of(address)
        debt = self._debts.get(source)
        if debt is None:
            return False
        if debt.until <= self._clock():
            del self._debts[source]
            return False
        return debt.is_active

    def note(self, address: Address | None, offence: Offence) -> None:
        """Make a source pay for a connection."""
        limits = self._limits
        seconds: float = getattr(limits, offence.value)
        if address is None or seconds <= 0 or limits.penalty_most_seconds <= 0:
            return
        if any(address in network for network in self._exempt):
            return
        now = self._clock()
        source = source_of(address)
        debt = self._debts.get(source)
        if debt is None or debt.until <= now:
            debt = self._debts[source] = _Debt(now, is_active=False)
        debt.until = min(debt.until + seconds, now + limits.penalty_most_seconds)
        if debt.until - now >= limits.penalty_begin_seconds:
            debt.is_active = True
        heapq.heappush(self._ends, (debt.until, source))
        self._forget(now)

    def _forget(self, now: float) -> None:
        # An attacker has more addresses than we have memory.  What would soonest be over is the least loss.
        while self._ends and (self._ends[0][0] <= now or len(self._debts) > self._limits.penalty_sources):
            until, source = heapq.heappop(self._ends)
            debt = self._debts.get(source)
            if debt is not None and debt.until <= until:
                del self._debts[source]
        # One source that offends again and again leaves an entry each time.
        if len(self._ends) > 2 * len(self._debts) + 16:
            self._ends = [(debt.until, source) for source, debt in self._debts.items()]
            heapq.heapify(self._ends)
