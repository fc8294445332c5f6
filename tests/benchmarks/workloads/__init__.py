"""What is measured, a module each.  `ALL` is the order in which they run."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.plan import Workload
from tests.benchmarks.workloads import bulk, commands, connections, echo, handshake, idle_memory, import_time, sftp

ALL: Final[tuple[Workload, ...]] = (
    *bulk.WORKLOADS,
    *handshake.WORKLOADS,
    *commands.WORKLOADS,
    *echo.WORKLOADS,
    *connections.WORKLOADS,
    *idle_memory.WORKLOADS,
    *import_time.WORKLOADS,
    *sftp.WORKLOADS,
)
