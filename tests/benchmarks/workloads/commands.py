"""exec_sequential, exec_concurrent: commands that do nothing, over one connection, in turn and ten at a time.

At sshd each is a process, which bounds every client; what a library costs shows between like peers.
"""

from __future__ import annotations

from typing import Final

from tests.benchmarks.pairs import TRUE, Work, pairs
from tests.benchmarks.plan import Column, Comparison, Settings, Workload, quantity, rate

COMMANDS: Final = 500
AT_ONCE: Final = 10

COLUMNS: Final = (
    Column("per second", rate("count"), shows_spread=True, shows_ratio=True),
    Column("client CPU ms", quantity("client_cpu_seconds", scale=1e3, per="count"), digits=3, shows_ratio=True),
    Column("server CPU ms", quantity("server_cpu_seconds", scale=1e3, per="count"), digits=3, shows_ratio=True),
)


def sequential(settings: Settings) -> list[Comparison]:
    """Compare commands one after another."""
    return _comparisons("exec_sequential", 1, settings)


def concurrent(settings: Settings) -> list[Comparison]:
    """Compare commands several at a time."""
    return _comparisons("exec_concurrent", AT_ONCE, settings)


def _comparisons(role: str, at_once: int, settings: Settings) -> list[Comparison]:
    work = Work(role=role, commands=TRUE, count=settings.count or COMMANDS, at_once=at_once)
    return [
        Comparison(
            workload=role,
            title=f"{role}: {work.count} commands over one connection, {at_once} at a time",
            contenders=pairs(settings, work),
            columns=COLUMNS,
            reference="asyncssh",
        )
    ]


WORKLOADS: Final = (
    Workload("exec_sequential", "commands over one connection, one after another", sequential),
    Workload("exec_concurrent", f"commands over one connection, {AT_ONCE} at a time", concurrent),
)
