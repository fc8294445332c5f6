"""What the SFTP workloads transfer: made before the window opens, and compared after it has closed.

Everything lies in the run's own directory, which is on a filesystem in memory where there is one: `here` is the
client's side of it, and `there` the server's.
"""

from __future__ import annotations

import filecmp
import os
import random
from pathlib import Path
from typing import Final

from tests.benchmarks.adapters import roles
from tests.benchmarks.adapters.roles import ClientTask

SMALL_BYTES: Final = 4096
READ_BYTES: Final = 32 * 1024
_BLOCK: Final = 8 * 1024 * 1024


def sides(task: ClientTask) -> tuple[Path, Path]:
    """Make the two directories: the client's, and the server's."""
    here, there = Path(task.directory, "here"), Path(task.directory, "there")
    here.mkdir()
    there.mkdir()
    return here, there


def make_large(path: Path, size: int) -> Path:
    """Write a file of `size` bytes that neither compress nor are zeros."""
    block = random.Random(1).randbytes(_BLOCK)
    with path.open("wb") as file:
        left = size
        while left:
            left -= file.write(block[:left])
    return path


def make_many(directory: Path, count: int) -> Path:
    """Make a directory with `count` files of `SMALL_BYTES`."""
    directory.mkdir()
    for number in range(count):
        (directory / f"file-{number:05}").write_bytes(os.urandom(SMALL_BYTES))
    return directory


def check_same(made: Path, arrived: Path) -> None:
    """Refuse to report a figure for a transfer that went wrong.

    Raises:
        RuntimeError: the files differ.
    """
    if made.is_dir():
        names = sorted(os.listdir(made))
        roles.check("names", sorted(os.listdir(arrived)), names)
        _, differing, failed = filecmp.cmpfiles(made, arrived, names, shallow=False)
        roles.check("files that differ", (differing, failed), ([], []))
    else:
        roles.check("same content", filecmp.cmp(made, arrived, shallow=False), True)
