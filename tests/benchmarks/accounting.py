"""What processes and their descendants cost in CPU time and memory, as the operating system counts it.

Knows nothing of SSH.  Linux only: it reads /proc.

Source: proc(5), clock_getcpuclockid(3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
PROCESS_CPU_CLOCK: Final = 2

SETTLE_INTERVAL_SECONDS: Final = 0.02
SETTLE_QUIET_SECONDS: Final = 0.002
SETTLE_LIMIT_SECONDS: Final = 5.0


def family(pid: int) -> list[int]:
    """List a process and all of its living descendants."""
    members = [pid]
    for member in members:
        members.extend(_children(member))
    return members


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sum the CPU time that processes, and the children they have waited for, have used so far.

    Args:
        pids: a whole family.  A process that has ended counts nothing itself, because its parent counts it.
    """
    return sum(_own_cpu_seconds(pid) + _waited_cpu_seconds(pid) for pid in pids)


def reset_peak(pids: Iterable[int]) -> None:
    """Make the resident size of this moment the peak that `peak_bytes` starts from."""
    for pid in pids:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            continue


def resident_bytes(pids: Iterable[int]) -> int:
    """Sum the resident memory of processes; pages that they share count once for each."""
    return sum(_kibibytes(Path(f"/proc/{pid}/status"), "VmRSS") * 1024 for pid in pids)


def peak_bytes(pids: Iterable[int]) -> int:
    """Sum the largest resident memory of processes since `reset_peak`; one that has ended counts nothing."""
    return sum(_kibibytes(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 for pid in pids)


def footprint_bytes(pids: Iterable[int]) -> int:
    """Sum the memory that processes have written to; pages that they share count once for all of them."""
    # Not all of PSS: whoever else starts a Python on this machine takes over a part of its program's pages, and a
    # connection then seems to cost less than nothing.
    return sum(_kibibytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss_Anon") * 1024 for pid in pids)


def settle(pid: int) -> None:
    """Wait until a family has next to nothing left to do, but no longer than `SETTLE_LIMIT_SECONDS`."""
    deadline = time.monotonic() + SETTLE_LIMIT_SECONDS
    used = cpu_seconds(family(pid))
    while time.monotonic() < deadline:
        time.sleep(SETTLE_INTERVAL_SECONDS)
        before, used = used, cpu_seconds(family(pid))
        if used - before < SETTLE_QUIET_SECONDS:
            return


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in _tasks(pid):
        try:
            found.extend(int(child) for child in (task / "children").read_text(encoding="ascii").split())
        except OSError:
            continue
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _own_cpu_seconds(pid: int) -> float:
    # The kernel's name for the CPU clock of another process, as clock_getcpuclockid(3) computes it; Python
    # binds only the one for threads.  It counts nanoseconds, /proc/PID/stat hundredths of a second.
    try:
        return time.clock_gettime((~pid << 3) | PROCESS_CPU_CLOCK)
    except OSError:
        return 0.0


def _waited_cpu_seconds(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    # The second field is the program's name in parentheses and may hold anything.  cutime and cstime are the
    # fields 16 and 17.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND


def _kibibytes(path: Path, field: str) -> int:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    return 0
