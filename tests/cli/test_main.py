"""The command line says what it can do, and does it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from trio_ssh.cli import demo
from trio_ssh.cli.main import main

ROOT: Final = Path(__file__).parents[2]


def python_m(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m trio_ssh`` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "trio_ssh", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_module_runs_and_says_its_version() -> None:
    done = python_m("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("trio_ssh ")


@pytest.mark.parametrize("arguments", [(), ("dance",), ("demo", "--fast")])
def test_a_command_that_is_not_understood_is_answered_with_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m trio_ssh")


def test_an_unknown_command_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["dance"])
    complaint = capsys.readouterr().err
    assert "'dance'" in complaint
    assert "demo" in complaint


@pytest.mark.parametrize("seconds", ["0", "-1", "1000", "soon", "nan"])
def test_a_measurement_has_a_length_that_makes_sense(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["demo", f"--seconds={seconds}"])
    assert exit_info.value.code == 2
    assert "--seconds" in capsys.readouterr().err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])
    assert exit_info.value.code == 0
    assert demo.HOST in capsys.readouterr().out


@pytest.mark.parametrize(("command", "start"), [("serve", "Serve a directory by SFTP"), ("copy", "Copy a file")])
def test_help_of_a_command_is_a_sentence(command: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"\n\n{start}" in capsys.readouterr().out
