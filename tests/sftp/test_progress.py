"""A line on a terminal: rarely drawn, never wider than the terminal, and nothing in it that a terminal obeys."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from trio_ssh.sftp.progress import human_size, human_time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def line_of(name: str = "file") -> tuple[trio_ssh.ProgressLine, Terminal, Clock]:
    terminal, clock = Terminal(), Clock()
    return trio_ssh.ProgressLine(name, terminal, clock), terminal, clock


def test_it_says_how_far_it_is_how_fast_and_how_long() -> None:
    line, terminal, clock = line_of()
    line(0, 4 * 1024 * 1024)
    clock.now = 1.0
    line(1024 * 1024, 4 * 1024 * 1024)
    shown = terminal.getvalue().split("\r")[-1]
    assert shown.split() == ["file", "25%", "1.0", "MiB", "1.0", "MiB/s", "0:03\x1b[K"]


def test_it_is_drawn_ten_times_a_second_at_the_most_and_in_the_end() -> None:
    line, terminal, clock = line_of()
    with line:
        for step in range(1000):
            clock.now = step / 1000
            line(step, 1000)
        clock.now = 0.9999
        line(1000, 1000)
    drawn = terminal.getvalue().count("\r")
    assert 8 <= drawn <= 11
    assert "100%" in terminal.getvalue().split("\r")[-1]
    assert terminal.getvalue().endswith("\n")


def test_it_is_silent_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    with trio_ssh.ProgressLine("file", text) as line:
        line(1, 2)
    assert text.getvalue() == ""


def test_a_transfer_that_never_began_draws_nothing() -> None:
    line, terminal, _ = line_of()
    with line:
        pass
    assert terminal.getvalue() == ""


def test_a_part_that_was_there_is_not_counted_as_fast() -> None:
    line, _, clock = line_of()
    line(1000 * 1024, 2000 * 1024)
    clock.now = 10
    line(1100 * 1024, 2000 * 1024)
    assert "10.0 KiB/s" in line.line(clock.now, 80)


@given(
    name=st.text(max_size=50),
    done=st.integers(0, 2**64),
    total=st.integers(0, 2**64),
    seconds=st.floats(0, 1e9),
    columns=st.integers(0, 200),
)
def test_a_line_fits_and_is_harmless(name: str, done: int, total: int, seconds: float, columns: int) -> None:
    line, _, _ = line_of(name)
    line(0, total)
    line(done, total)
    text = line.line(seconds, columns)
    assert len(text) < max(2, columns)
    assert text.isprintable()


@given(st.floats(0, 1e30))
def test_a_size_is_short(size: float) -> None:
    assert len(human_size(min(size, 2.0**64))) <= 9


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "1:00:00"), (1e12, "99:59:59")]
)
def test_a_time_is_short(seconds: float, text: str) -> None:
    assert human_time(seconds) == text
