"""import_time: what `python -X importtime` says of importing each library, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import attrs

from tests.benchmarks.adapters.roles import Sample
from tests.benchmarks.pairs import ROOT, last_lines
from tests.benchmarks.plan import Column, Comparison, Settings, Workload, Workspace, quantity

ROUNDS: Final = 10

#: What a program that connects loads besides: `import trio_ssh` alone defers it to the first use of a name.
CLIENTS: Final = {"trio_ssh": "trio_ssh.client"}

COLUMNS: Final = (
    Column("import ms", quantity("import_seconds", scale=1e3), digits=1, shows_spread=True, shows_ratio=True),
    Column("of it trio ms", quantity("trio_seconds", scale=1e3), digits=1),
    Column("modules", quantity("modules")),
)


@attrs.frozen
class Import:
    """A module to import."""

    label: str
    kind: str = "import"

    @property
    def library(self) -> str:
        """The module."""
        return self.label

    def measure(self, workspace: Workspace) -> Sample:
        """Import it in a new interpreter.

        Raises:
            RuntimeError: it can't be imported.
        """
        command = [sys.executable, "-X", "importtime", "-c", f"import {self.label}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(last_lines(done.stderr))
        return parse(done.stderr, self.label)


def parse(report: str, module: str) -> Sample:
    """Read the report of `-X importtime`: a line per module, after those that it imported.

    Source: Python's documentation of -X importtime.  Columns: own and cumulative microseconds, and the name.
    """
    cumulative_seconds: dict[str, float] = {}
    for line in report.splitlines():
        columns = line.removeprefix("import time:").split("|")
        if len(columns) == 3 and columns[1].strip().isdecimal():
            cumulative_seconds[columns[2].strip()] = int(columns[1]) / 1e6
    sample = {"import_seconds": cumulative_seconds[module], "modules": float(len(cumulative_seconds))}
    if "trio" in cumulative_seconds:
        sample["trio_seconds"] = cumulative_seconds["trio"]
    return sample


def import_time(settings: Settings) -> list[Comparison]:
    """Compare the imports of the chosen libraries, and of trio."""
    chosen = [library.module for library in settings.libraries if library.module]
    modules = dict.fromkeys(["trio", *chosen, *(CLIENTS[module] for module in chosen if module in CLIENTS)])
    return [
        Comparison(
            workload="import_time",
            title="import_time: an interpreter each",
            contenders=[Import(module) for module in modules],
            columns=COLUMNS,
            reference="trio",
            least_rounds=ROUNDS,
        )
    ]


WORKLOADS: Final = (Workload("import_time", "importing the library, as -X importtime counts it", import_time),)
