"""echo: one byte there and back over one channel, again and again.  At sshd `cat` answers."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.pairs import ECHO, Work, pairs
from tests.benchmarks.plan import Column, Comparison, Settings, Workload, quantity

ROUND_TRIPS: Final = 2000

COLUMNS: Final = (
    Column("p50 us", quantity("p50_seconds", scale=1e6), shows_spread=True, shows_ratio=True),
    Column("p99 us", quantity("p99_seconds", scale=1e6), shows_ratio=True),
    Column("client CPU us", quantity("client_cpu_seconds", scale=1e6, per="count"), shows_ratio=True),
    Column("server CPU us", quantity("server_cpu_seconds", scale=1e6, per="count"), shows_ratio=True),
)


def echo(settings: Settings) -> list[Comparison]:
    """Compare round trips."""
    work = Work(role="echo", commands=ECHO, count=settings.count or ROUND_TRIPS)
    return [
        Comparison(
            workload="echo",
            title=f"echo: 1 byte there and back, {work.count} times over one channel",
            contenders=pairs(settings, work),
            columns=COLUMNS,
            reference="asyncssh",
        )
    ]


WORKLOADS: Final = (Workload("echo", "1-byte round trips over one channel: p50 and p99", echo),)
