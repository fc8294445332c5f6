"""handshake: key exchange, public key authentication and close, one connection after another.

`ssh` can't close a connection that it made for nothing, so it runs `true` as well.
"""

from __future__ import annotations

from typing import Final

from tests.benchmarks.pairs import TRUE, Work, pairs
from tests.benchmarks.plan import Column, Comparison, Settings, Workload, quantity, rate

CONNECTIONS: Final = 100

COLUMNS: Final = (
    Column("per second", rate("count"), digits=1, shows_spread=True, shows_ratio=True),
    Column("client CPU ms", quantity("client_cpu_seconds", scale=1e3, per="count"), digits=2, shows_ratio=True),
    Column("server CPU ms", quantity("server_cpu_seconds", scale=1e3, per="count"), digits=2, shows_ratio=True),
)


def handshake(settings: Settings) -> list[Comparison]:
    """Compare logging in."""
    work = Work(role="handshake", commands=TRUE, count=settings.count or CONNECTIONS)
    return [
        Comparison(
            workload="handshake",
            title=f"handshake: connect, curve25519-sha256, ed25519 public key, close; {work.count} in turn",
            contenders=pairs(settings, work),
            columns=COLUMNS,
            reference="asyncssh",
        )
    ]


WORKLOADS: Final = (Workload("handshake", "connect, authenticate, close: per second, CPU per side", handshake),)
