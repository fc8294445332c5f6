"""Turns outcomes into tables and into JSON."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.adapters.roles import Sample
from tests.benchmarks.plan import Column, Contender
from tests.benchmarks.runner import Outcome

ABSENT: Final = "-"
PACKAGES: Final = ("trio", "trio-ssh", "asyncssh", "paramiko", "cryptography", "PyNaCl")


def table(outcome: Outcome, references: Sequence[str] = ()) -> str:
    """Write an outcome as text: a line per contender, medians, spread and ratios.

    Args:
        references: libraries to give ratios to, in place of the comparison's own.
    """
    comparison = outcome.comparison
    references = references or (comparison.reference,)
    rows = [_header(comparison.columns, references)]
    rows += [
        _row(outcome, contender, references)
        for contender in comparison.contenders
        if contender.label in outcome.samples
    ]
    lines = [comparison.title, ""]
    lines += _aligned(rows) if len(rows) > 1 else ["(nobody took part)"]
    lines += [f"{label} failed: {why}" for label, why in outcome.failures.items()]
    return "\n".join(lines) + "\n"


def legend() -> str:
    """Explain what the tables show."""
    return "Medians of all rounds, with min..max; x NAME: the median of the ratios to NAME inside each round.\n"


def environment() -> dict[str, str]:
    """Say what is measured, on what kind of machine, and how busy that is already."""
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions | {
        "OpenSSH": _openssh_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{os.cpu_count()} x {_processor()}",
        # Some send by a clock, on loopback as well, and then every timer counts.
        "TCP": _congestion_control(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def as_json(environment: Mapping[str, str], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Give everything that was measured as values for JSON, every sample included."""
    return {
        "environment": dict(environment),
        "comparisons": [
            {
                "workload": outcome.comparison.workload,
                "title": outcome.comparison.title,
                "reference": outcome.comparison.reference,
                "contenders": [_contender_as_json(outcome, each) for each in outcome.comparison.contenders],
            }
            for outcome in outcomes
        ],
    }


def median(column: Column, samples: Sequence[Mapping[str, float]]) -> float | None:
    """Take the median of a column, or None if a sample has no such figure."""
    figures = _figures(column, samples)
    return statistics.median(figures) if figures else None


def ratio(column: Column, samples: Sequence[Sample], reference: Sequence[Sample]) -> float | None:
    """Take the median of the ratios to a reference, each within one round.

    Shared machines drift by tens of percent from one round to the next, and less within one.
    """
    ours, theirs = _figures(column, samples), _figures(column, reference)
    quotients = [our / their for our, their in zip(ours, theirs, strict=False) if their]
    return statistics.median(quotients) if quotients else None


def _figures(column: Column, samples: Sequence[Mapping[str, float]]) -> list[float]:
    figures = [column.figure(sample) for sample in samples]
    present = [figure for figure in figures if figure is not None]
    return present if len(present) == len(figures) else []


def _header(columns: Sequence[Column], references: Sequence[str]) -> list[str]:
    header = [""]
    for column in columns:
        header.append(column.title)
        if column.shows_spread:
            header.append("min..max")
        if column.shows_ratio:
            header += [f"x {reference}" for reference in references]
    return header


def _row(outcome: Outcome, contender: Contender, references: Sequence[str]) -> list[str]:
    samples = outcome.samples[contender.label]
    row = [contender.label]
    for column in outcome.comparison.columns:
        row.append(_number(median(column, samples), column.digits))
        if column.shows_spread:
            figures = _figures(column, samples)
            row.append(f"{min(figures):,.{column.digits}f}..{max(figures):,.{column.digits}f}" if figures else ABSENT)
        if column.shows_ratio:
            for reference in references:
                other = outcome.samples.get(outcome.reference_of(contender, reference) or "", [])
                row.append(_number(ratio(column, samples, other), 2))
    return row


def _number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:,.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in cells).rstrip()
        for cells in (enumerate(zip(row, widths, strict=True)) for row in rows)
    ]


def _contender_as_json(outcome: Outcome, contender: Contender) -> dict[str, Any]:
    samples = outcome.samples.get(contender.label, [])
    return {
        "label": contender.label,
        "library": contender.library,
        "failure": outcome.failures.get(contender.label),
        "medians": {column.title: median(column, samples) for column in outcome.comparison.columns},
        "samples": samples,
    }


def _openssh_version() -> str:
    try:
        return (
            subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True)
            .stderr.split(",")[0]
            .removeprefix("OpenSSH_")
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _congestion_control() -> str:
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
