"""SFTP through paramiko, whose server wants its files served by whoever uses it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import paramiko  # type: ignore[import-untyped]

from tests.benchmarks.adapters import files, roles
from tests.benchmarks.adapters.roles import ClientRole, ClientTask, Sample


class Connected(Protocol):
    """Opens a connection for a block."""

    def __call__(self, task: ClientTask) -> AbstractContextManager[paramiko.SSHClient]:
        """Open it."""
        ...


def clients(connected: Connected) -> dict[str, ClientRole]:
    """Return the SFTP workloads; `connected` opens a connection."""

    @contextmanager
    def session(task: ClientTask) -> Iterator[paramiko.SFTPClient]:
        with connected(task) as client, client.open_sftp() as sftp:
            yield sftp

    def get(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_large(there / "large", task.size)
        with session(task) as sftp, task.window() as window:
            sftp.get(str(made), str(here / "large"))
        files.check_same(made, here / "large")
        return window.sample

    def put(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_large(here / "large", task.size)
        with session(task) as sftp, task.window() as window:
            sftp.put(str(made), str(there / "large"))
        files.check_same(made, there / "large")
        return window.sample

    def get_many(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_many(there / "many", task.count)
        with session(task) as sftp, task.window() as window:
            (here / "many").mkdir()
            for name in sftp.listdir(str(made)):
                sftp.get(f"{made}/{name}", str(here / "many" / name))
        files.check_same(made, here / "many")
        return window.sample

    def put_many(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_many(here / "many", task.count)
        with session(task) as sftp, task.window() as window:
            sftp.mkdir(str(there / "many"))
            for name in os.listdir(made):
                sftp.put(str(made / name), f"{there}/many/{name}")
        files.check_same(made, there / "many")
        return window.sample

    def read(task: ClientTask) -> Sample:
        _, there = files.sides(task)
        made = files.make_large(there / "large", task.size)
        received = 0
        with session(task) as sftp, task.window() as window, sftp.open(str(made), "rb") as file:
            while data := file.read(files.READ_BYTES):
                received += len(data)
        roles.check("bytes", received, task.size)
        return window.sample

    def stat(task: ClientTask) -> Sample:
        _, there = files.sides(task)
        path = str(files.make_large(there / "small", files.SMALL_BYTES))
        with session(task) as sftp, task.window() as window:
            for _ in range(task.count):
                roles.check("size", sftp.stat(path).st_size, files.SMALL_BYTES)
        return window.sample

    return {
        "sftp_get": get,
        "sftp_put": put,
        "sftp_get_many": get_many,
        "sftp_put_many": put_many,
        "sftp_read": read,
        "sftp_stat": stat,
    }


class _File(paramiko.SFTPHandle):  # type: ignore[misc]
    """An open file; paramiko reads and writes it."""

    def stat(self) -> Any:
        """Tell its attributes."""
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

    def chattr(self, attr: Any) -> int:
        """Set nothing."""
        return int(paramiko.SFTP_OK)


class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]
    """Serves all files."""

    def open(self, path: str, flags: int, attr: Any) -> Any:
        """Open a file."""
        handle = _File(flags)
        file = os.fdopen(os.open(path, flags, 0o666), "rb" if flags & 3 == os.O_RDONLY else "r+b")
        handle.readfile = handle.writefile = file
        return handle

    def list_folder(self, path: str) -> Any:
        """List a directory."""
        return [
            paramiko.SFTPAttributes.from_stat(os.lstat(os.path.join(path, name)), name) for name in os.listdir(path)
        ]

    def stat(self, path: str) -> Any:
        """Tell a file's attributes."""
        return paramiko.SFTPAttributes.from_stat(os.stat(path))

    lstat = stat

    def mkdir(self, path: str, attr: Any) -> int:
        """Make a directory."""
        os.mkdir(path)
        return int(paramiko.SFTP_OK)
