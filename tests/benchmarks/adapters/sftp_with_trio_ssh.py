"""SFTP through trio_ssh."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

import trio_ssh
from tests.benchmarks.adapters import files, roles
from tests.benchmarks.adapters.roles import ClientTask, Sample

Connect = Callable[[ClientTask], trio_ssh.connect]
Client = Callable[[ClientTask], Awaitable[Sample]]


def clients(connecting: Connect) -> dict[str, Client]:
    """Return the SFTP workloads; `connecting` opens a connection."""

    async def get(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_large(there / "large", task.size)
        async with connecting(task) as client, await client.open_sftp() as sftp:
            with task.window() as window:
                await sftp.get(str(made), str(here / "large"))
        files.check_same(made, here / "large")
        return window.sample

    async def put(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_large(here / "large", task.size)
        async with connecting(task) as client, await client.open_sftp() as sftp:
            with task.window() as window:
                await sftp.put(str(made), str(there / "large"))
        files.check_same(made, there / "large")
        return window.sample

    async def get_many(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_many(there / "many", task.count)
        async with connecting(task) as client, await client.open_sftp() as sftp:
            with task.window() as window:
                await sftp.get(str(made), str(here / "many"), recurse=True)
        files.check_same(made, here / "many")
        return window.sample

    async def put_many(task: ClientTask) -> Sample:
        here, there = files.sides(task)
        made = files.make_many(here / "many", task.count)
        async with connecting(task) as client, await client.open_sftp() as sftp:
            with task.window() as window:
                await sftp.put(str(made), str(there / "many"), recurse=True)
        files.check_same(made, there / "many")
        return window.sample

    async def read(task: ClientTask) -> Sample:
        _, there = files.sides(task)
        made = files.make_large(there / "large", task.size)
        received = 0
        async with connecting(task) as client, await client.open_sftp() as sftp:
            with task.window() as window:
                async with await sftp.open(str(made), "r") as file:
                    while data := await file.read(files.READ_BYTES):
                        received += len(data)
        roles.check("bytes", received, task.size)
        return window.sample

    async def stat(task: ClientTask) -> Sample:
        _, there = files.sides(task)
        path = str(files.make_large(there / "small", files.SMALL_BYTES))
        left = iter(range(task.count))
        async with connecting(task) as client, await client.open_sftp() as sftp:

            async def work() -> None:
                for _ in left:
                    roles.check("size", (await sftp.stat(path)).st_size, files.SMALL_BYTES)

            with task.window() as window:
                async with trio.open_nursery() as nursery:
                    for _ in range(task.at_once):
                        nursery.start_soon(work)
        return window.sample

    return {
        "sftp_get": get,
        "sftp_put": put,
        "sftp_get_many": get_many,
        "sftp_put_many": put_many,
        "sftp_read": read,
        "sftp_stat": stat,
    }


def handler() -> trio_ssh.SubsystemHandler:
    """Serve all files, as sshd's does."""
    return trio_ssh.LocalSFTPServer(ROOT)


ROOT: Final = Path("/")
