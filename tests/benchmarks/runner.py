"""Runs a comparison: every contender once per round, in the same order in each round."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.benchmarks.adapters.roles import Sample
from tests.benchmarks.plan import Comparison, Contender, Workspace


@attrs.frozen
class Outcome:
    """What a comparison gave."""

    comparison: Comparison
    samples: dict[str, list[Sample]] = attrs.field(factory=dict[str, list[Sample]])  # by label, in turn
    failures: dict[str, str] = attrs.field(factory=dict[str, str])  # by label; these have no samples

    def reference_of(self, contender: Contender, library: str) -> str | None:
        """Name the contender of a library to compare another to: one of its own kind if there is one."""
        candidates = [other for other in self.comparison.contenders if other.library == library]
        candidates.sort(key=lambda other: other.kind != contender.kind)
        return candidates[0].label if candidates else None


def run(comparison: Comparison, rounds: int, workspace: Workspace, progress: Callable[[str], None]) -> Outcome:
    """Measure every contender, in turns.

    Args:
        rounds: how often; the comparison may ask for more.
        progress: told what happens next.

    Returns:
        As many samples of each contender as rounds.  One that fails is not asked again and leaves none.
    """
    outcome = Outcome(comparison)
    rounds = max(rounds, comparison.least_rounds)
    for turn in range(1, rounds + 1):
        for contender in comparison.contenders:
            if contender.label in outcome.failures:
                continue
            progress(f"{comparison.workload} {turn}/{rounds} {contender.label}")
            try:
                sample = contender.measure(workspace)
            except RuntimeError as error:
                outcome.failures[contender.label] = str(error)
                outcome.samples.pop(contender.label, None)
            else:
                outcome.samples.setdefault(contender.label, []).append(sample)
    return outcome


def make_workspace(directory: Path) -> Workspace:
    """Generate the keys that all runs use."""
    host_key, client_key = directory / "host_key", directory / "client_key"
    for key in (host_key, client_key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    return Workspace(
        directory=directory,
        host_key=host_key,
        client_key=client_key,
        authorized_keys=client_key.with_suffix(".pub"),
        user=getpass.getuser(),
    )
