"""SFTP through OpenSSH's `sftp`, over a connection that is there already.

It has no way to ask for attributes alone, or to read a file without keeping it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.benchmarks.adapters import files
from tests.benchmarks.adapters.roles import ClientRole, ClientTask, Sample

Connected = Callable[[ClientTask], AbstractContextManager[Path]]


def clients(connected: Connected) -> dict[str, ClientRole]:
    """Return the SFTP workloads; `connected` holds a connection behind a control socket."""

    def run(task: ClientTask, commands: str) -> Sample:
        with connected(task) as control, task.window(in_children=True) as window:
            subprocess.run(
                ["sftp", "-q", "-b", "-", f"-oControlPath={control}", "-oControlMaster=no", "peer"],
                input=commands.encode(),
                stdout=subprocess.DEVNULL,
                check=True,
            )
        return window.sample

    def get(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_large(there / "large", task.size)
        sample = run(task, f"get {made} {here}/large\n")
        files.check_same(made, here / "large")
        return sample

    def put(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_large(here / "large", task.size)
        sample = run(task, f"put {made} {there}/large\n")
        files.check_same(made, there / "large")
        return sample

    def get_many(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_many(there / "many", task.count)
        sample = run(task, f"get -r {made} {here}\n")
        files.check_same(made, here / "many")
        return sample

    def put_many(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_many(here / "many", task.count)
        sample = run(task, f"put -r {made} {there}\n")
        files.check_same(made, there / "many")
        return sample

    return {"sftp_get": get, "sftp_put": put, "sftp_get_many": get_many, "sftp_put_many": put_many}
