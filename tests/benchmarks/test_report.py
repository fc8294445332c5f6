from __future__ import annotations

import json

import attrs

from tests.benchmarks import report
from tests.benchmarks.adapters.roles import Sample
from tests.benchmarks.plan import Column, Comparison, Workspace, quantity, rate
from tests.benchmarks.runner import Outcome


@attrs.frozen
class Named:
    label: str
    library: str
    kind: str = "peers"

    def measure(self, workspace: Workspace) -> Sample:
        raise RuntimeError("never measured here")


RATE = Column("per second", rate("count"), shows_spread=True, shows_ratio=True)
MEMORY = Column("MiB", quantity("bytes", scale=2**-20), digits=1)


def outcome(**samples: list[Sample]) -> Outcome:
    contenders = [Named(label, library=label) for label in samples]
    comparison = Comparison(
        workload="race", title="race: once", contenders=contenders, columns=(RATE, MEMORY), reference="slow"
    )
    return Outcome(comparison, {label: taken for label, taken in samples.items() if taken})


def rounds(*walls: float) -> list[Sample]:
    return [{"wall_seconds": wall, "count": 100.0, "bytes": 2.0**20} for wall in walls]


def test_a_table_shows_medians_spread_and_ratios_to_the_reference() -> None:
    assert report.table(outcome(slow=rounds(1, 2, 4), quick=rounds(0.5, 1, 2))).splitlines() == [
        "race: once",
        "",
        "       per second  min..max  x slow  MiB",
        "slow           50   25..100    1.00  1.0",
        "quick         100   50..200    2.00  1.0",
    ]


def test_a_ratio_compares_within_a_round_before_it_takes_the_median() -> None:
    # The machine is four times slower in the second round, for both.
    assert report.ratio(RATE, rounds(1, 4, 1), rounds(2, 8, 2)) == 2.0
    assert report.ratio(RATE, rounds(1, 4), rounds(2, 8)) == 2.0


def test_other_references_can_be_asked_for() -> None:
    header = report.table(outcome(slow=rounds(1), quick=rounds(0.5)), ["quick", "slow"]).splitlines()[2]
    assert header.split("  ")[-3:] == ["x quick", "x slow", "MiB"]


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    without_memory = outcome(slow=[{"wall_seconds": 1.0, "count": 10.0}])
    assert report.table(without_memory).splitlines()[-1].split()[-1] == "-"


def test_a_reference_that_took_no_part_leaves_the_ratios_open() -> None:
    assert report.table(outcome(slow=[], quick=rounds(1))).splitlines()[-1].split()[-2] == "-"


def test_a_failure_is_told_below_the_table() -> None:
    failed = outcome(slow=rounds(1), quick=[])
    failed.failures["quick"] = "client: no output"
    assert report.table(failed).splitlines()[-1] == "quick failed: client: no output"


def test_a_reference_of_the_same_kind_is_preferred() -> None:
    with_sshd, with_itself, ours = (
        Named("a", "asyncssh", "sshd"),
        Named("b", "asyncssh"),
        Named("c", "trio_ssh"),
    )
    comparison = Comparison(
        workload="race",
        title="",
        contenders=[with_sshd, with_itself, ours],
        columns=(),
        reference="asyncssh",
    )
    assert Outcome(comparison).reference_of(ours, "asyncssh") == "b"
    assert Outcome(comparison).reference_of(attrs.evolve(ours, kind="sshd"), "asyncssh") == "a"
    assert Outcome(comparison).reference_of(ours, "paramiko") is None


def test_json_holds_every_sample() -> None:
    written = json.loads(json.dumps(report.as_json(report.environment(), [outcome(slow=rounds(1, 2))])))
    (comparison,) = written["comparisons"]
    (contender,) = comparison["contenders"]
    assert contender["samples"] == rounds(1, 2)
    assert contender["medians"] == {"per second": 75.0, "MiB": 1.0}
    assert "Python" in written["environment"]
