"""bulk_down, bulk_up: as much as one channel carries, in one direction.

The window holds the command's start, the transfer and the command's end, not the login.  Every client takes and
gives bytes in a program's memory; `ssh` does so through pipes, and the program's own share is not on its account.
The source at sshd is `dd` with large blocks, which costs half of what `head -c` does.  CPU is given per GiB, as
not everyone moves the same volume.
"""

from __future__ import annotations

from typing import Final

from tests.benchmarks.pairs import Work, pairs
from tests.benchmarks.plan import (
    GIB,
    MIB,
    PEERS,
    SSHD,
    Column,
    Comparison,
    Settings,
    Workload,
    quantity,
    rate,
)

COLUMNS: Final = (
    Column("MB/s", rate("size", scale=1e-6), shows_spread=True, shows_ratio=True),
    Column("client s/GiB", quantity("client_cpu_seconds", scale=GIB, per="size"), digits=2, shows_ratio=True),
    Column("server s/GiB", quantity("server_cpu_seconds", scale=GIB, per="size"), digits=2, shows_ratio=True),
    Column("client MiB", quantity("client_peak_bytes", scale=1 / MIB)),
    Column("client grew", quantity("client_growth_bytes", scale=1 / MIB), digits=1),
    Column("server MiB", quantity("server_peak_bytes", scale=1 / MIB)),
    Column("server grew", quantity("server_growth_bytes", scale=1 / MIB), digits=1),
)


def down(settings: Settings) -> list[Comparison]:
    """Compare reading, once for each cipher."""
    source = f"dd if=/dev/zero bs={MIB} count={{mebibytes}} status=none"
    return _comparisons("bulk_down", {SSHD: source, PEERS: "source {size}"}, settings)


def up(settings: Settings) -> list[Comparison]:
    """Compare writing, once for each cipher."""
    return _comparisons("bulk_up", {SSHD: "cat >/dev/null", PEERS: "sink"}, settings)


def _comparisons(role: str, commands: dict[str, str], settings: Settings) -> list[Comparison]:
    return [
        Comparison(
            workload=role,
            title=f"{role}: {settings.size // MIB} MiB over one channel, {cipher}",
            contenders=pairs(settings, Work(role=role, commands=commands, size=settings.size, cipher=cipher)),
            columns=COLUMNS,
            reference="openssh",
        )
        for cipher in settings.ciphers
    ]


WORKLOADS: Final = (
    Workload("bulk_down", "server to client over one channel, by cipher", down),
    Workload("bulk_up", "client to server over one channel, by cipher", up),
)
