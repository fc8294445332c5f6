from __future__ import annotations

from pathlib import Path

import attrs

from tests.benchmarks import runner
from tests.benchmarks.adapters.roles import Sample
from tests.benchmarks.plan import Comparison, Workspace

WORKSPACE = Workspace(directory=Path(), host_key=Path(), client_key=Path(), authorized_keys=Path(), user="")


@attrs.frozen
class Recorded:
    label: str
    history: list[str]
    fails: bool = False
    library: str = "any"
    kind: str = "peers"

    def measure(self, workspace: Workspace) -> Sample:
        self.history.append(self.label)
        if self.fails:
            raise RuntimeError("broke down")
        return {"turn": float(len(self.history))}


def comparison(*contenders: Recorded, least_rounds: int = 1) -> Comparison:
    return Comparison(
        workload="race",
        title="race",
        contenders=contenders,
        columns=(),
        reference="any",
        least_rounds=least_rounds,
    )


def test_contenders_take_turns() -> None:
    history: list[str] = []
    told: list[str] = []
    outcome = runner.run(comparison(Recorded("a", history), Recorded("b", history)), 3, WORKSPACE, told.append)
    assert history == ["a", "b", "a", "b", "a", "b"]
    assert outcome.samples["b"] == [{"turn": 2.0}, {"turn": 4.0}, {"turn": 6.0}]
    assert told[3] == "race 2/3 b"


def test_a_contender_that_fails_is_not_asked_again_and_stops_nobody() -> None:
    history: list[str] = []
    both = comparison(Recorded("a", history, fails=True), Recorded("b", history))
    outcome = runner.run(both, 2, WORKSPACE, lambda _: None)
    assert history == ["a", "b", "b"]
    assert outcome.failures == {"a": "broke down"}
    assert list(outcome.samples) == ["b"]


def test_a_comparison_can_ask_for_more_rounds() -> None:
    history: list[str] = []
    runner.run(comparison(Recorded("a", history), least_rounds=10), 2, WORKSPACE, lambda _: None)
    assert len(history) == 10
