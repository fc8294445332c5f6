"""idle_memory: what a connection costs while nothing happens on it, without a channel and with one open.

The memory that each side has written to (anonymous, proportional) with all connections open, less that of the same
processes after one connection had been opened and closed, by their number.  Like peers only: a client does not change
what sshd keeps.
"""

from __future__ import annotations

from typing import Final

import attrs

from tests.benchmarks.pairs import ECHO, Work, pairs
from tests.benchmarks.plan import PEERS, Column, Comparison, Figure, Settings, Workload, quantity

CONNECTIONS: Final = 200


def kib(name: str) -> Figure:
    """Take a number of bytes out of a sample, in KiB."""
    return quantity(name, scale=1 / 1024)


COLUMNS: Final = (
    Column("server KiB", kib("server_idle_bytes"), digits=1, shows_spread=True, shows_ratio=True),
    Column("server, channel", kib("server_with_channel_bytes"), digits=1, shows_ratio=True),
    Column("client KiB", kib("client_idle_bytes"), digits=1, shows_ratio=True),
    Column("client, channel", kib("client_with_channel_bytes"), digits=1, shows_ratio=True),
)


def idle_memory(settings: Settings) -> list[Comparison]:
    """Compare idle connections."""
    work = Work(role="idle_memory", commands=ECHO, count=settings.count or CONNECTIONS)
    return [
        Comparison(
            workload="idle_memory",
            title=f"idle_memory: per connection, {work.count} of them open",
            contenders=pairs(attrs.evolve(settings, servers=(PEERS,)), work),
            columns=COLUMNS,
            reference="asyncssh",
        )
    ]


WORKLOADS: Final = (Workload("idle_memory", "memory of an idle connection, without and with a channel", idle_memory),)
