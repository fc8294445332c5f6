"""Each example does what a reader would have it do: it runs as it is, and ends well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.py"))

#: Whoever hangs is told apart from whoever is slow by this; each takes a second.
PATIENCE_SECONDS: Final = 60


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as a user does who has no keys, no known hosts and no package installed."""
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_without_arguments_and_without_a_complaint(path: Path, tmp_path: Path) -> None:
    done = run(str(path), home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert list(tmp_path.iterdir()) == [], "an example leaves the user's home as it was"


def test_the_example_of_a_test_is_one(tmp_path: Path) -> None:
    path = ROOT / "examples" / "test_your_server.py"
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(path), home=tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"{path.read_text('utf-8').count('async def test_')} passed" in done.stdout
