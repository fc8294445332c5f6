"""OpenSSH's `ssh` without a program behind it: it writes to /dev/null and reads a sparse file.  Bulk transfers only.

No library can be used like that.  It is here as the floor: what `ssh` costs when it hands the bytes to nobody.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.benchmarks.adapters import roles
from tests.benchmarks.adapters.roles import ClientTask, Sample
from tests.benchmarks.adapters.with_openssh import connected, over, run, serve


def bulk_down(task: ClientTask) -> Sample:
    """Have `ssh` write everything to /dev/null."""
    with connected(task) as control, task.window(in_children=True) as window:
        run(over(control, task.command))
    return window.sample


def bulk_up(task: ClientTask) -> Sample:
    """Have `ssh` read everything from a sparse file."""
    zeros = Path(task.directory, "zeros")
    with zeros.open("wb") as file:
        file.truncate(task.size)
    with connected(task) as control, zeros.open("rb") as file, task.window(in_children=True) as window:
        subprocess.run(over(control, task.command), stdin=file, stdout=subprocess.DEVNULL, check=True)
    return window.sample


if __name__ == "__main__":
    roles.main({"bulk_down": bulk_down, "bulk_up": bulk_up}, serve)
