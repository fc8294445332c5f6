"""How far a transfer is: one line on a terminal, as the callback of `get`, `put` and `copy`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

from trio_ssh.wire.text import printable

#: Updates a second at the most.
_UPDATES: Final = 10

#: Where a terminal doesn't say how wide it is.
_COLUMNS: Final = 80

#: The least that is left of a name before numbers are left out.
_LEAST_NAME: Final = 8

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(size: float) -> str:
    """Return a number of bytes as a person reads it, in at most eight characters."""
    power = 0
    while size >= 999.5 and power + 1 < len(_UNITS):
        size /= 1024
        power += 1
    unit = _UNITS[power]
    return f"{size:.0f} {unit}" if not power or size >= 99.5 else f"{size:.1f} {unit}"


def human_time(seconds: float) -> str:
    """Return a duration as a person reads it."""
    whole = int(min(seconds, 359999))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class ProgressLine:
    """A line that says how far a transfer is, in percent, bytes, bytes a second and time left.

        with trio_ssh.ProgressLine("app.tar.gz") as progress:
            await sftp.put("app.tar.gz", "/srv/app.tar.gz", progress)

    It is shown only where `file` is a terminal, and drawn ten times a second at the most.

    Args:
        name: what is transferred; escaped, and cut where there is no room.
        file: where to; None for stderr.
        clock: seconds, from any start.
    """

    def __init__(self, name: str, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = printable(name)
        self._file: TextIO = file if file is not None else sys.stderr
        self._clock = clock
        self._is_shown = self._file.isatty()
        self._started: float | None = None
        self._first = 0
        self._drawn = float("-inf")
        self._done = self._total = 0
        self._is_dirty = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish()

    def __call__(self, done: int, total: int) -> None:
        """Take note of how far it is, and show it if it is time to."""
        now = self._clock()
        if self._started is None:
            # Of a transfer that goes on with a part, what was there says nothing of the rate.
            self._started, self._first = now, done if done < total else 0
        self._done, self._total = done, total
        self._is_dirty = True
        if self._is_shown and now - self._drawn >= 1 / _UPDATES:
            self._draw(now)

    def finish(self) -> None:
        """Show the last state, and go to the next line."""
        if not self._is_shown or self._started is None:
            return
        if self._is_dirty:
            self._draw(self._clock())
        self._file.write("\n")
        self._file.flush()
        self._started = None

    def _draw(self, now: float) -> None:
        self._drawn = now
        self._is_dirty = False
        self._file.write("\r" + self.line(now, self._columns()) + "\x1b[K")
        self._file.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._file.fileno()).columns or _COLUMNS
        except (OSError, ValueError):
            return shutil.get_terminal_size((_COLUMNS, 24)).columns

    def line(self, now: float, columns: int) -> str:
        """Return the line as it would be at some time on a terminal of some width, the last column left free."""
        seconds = max(1e-6, now - (now if self._started is None else self._started))
        rate = (self._done - self._first) / seconds
        percent = 100 if self._done >= self._total else 100 * self._done // self._total
        is_done = self._done >= self._total
        left = human_time(seconds if is_done else (self._total - self._done) / rate) if rate > 0 or is_done else "-:--"
        width = max(1, columns - 1)
        # From the right, the least telling is left out first.
        numbers = [f"{percent:3}%", f"{human_size(self._done):>8}", f"{human_size(rate):>8}/s", f"{left:>7}"]
        while len(numbers) > 1 and width - sum(map(len, numbers)) - 2 * len(numbers) < _LEAST_NAME:
            numbers.pop()
        text = "  ".join(numbers)
        room = width - len(text) - 2
        if room < 1:
            return text[:width]
        name = self._name if len(self._name) <= room else self._name[: room - 1] + "…"
        return f"{name:<{room}}  {text}"
