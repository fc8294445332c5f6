"""connections: many connections asked for at the same moment, one command in each."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.pairs import TRUE, Work, pairs
from tests.benchmarks.plan import Column, Comparison, Settings, Workload, quantity

CONNECTIONS: Final = 200

COLUMNS: Final = (
    Column("seconds", quantity("wall_seconds"), digits=2, shows_spread=True, shows_ratio=True),
    Column("client CPU s", quantity("client_cpu_seconds"), digits=2, shows_ratio=True),
    Column("server CPU s", quantity("server_cpu_seconds"), digits=2, shows_ratio=True),
)


def connections(settings: Settings) -> list[Comparison]:
    """Compare a rush of connections."""
    work = Work(role="connections", commands=TRUE, count=settings.count or CONNECTIONS)
    return [
        Comparison(
            workload="connections",
            title=f"connections: {work.count} at once, one command in each",
            contenders=pairs(settings, work),
            columns=COLUMNS,
            reference="asyncssh",
        )
    ]


WORKLOADS: Final = (Workload("connections", "connections all at once, one command in each", connections),)
