"""A client of ours on an SFTP server of ours, in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY
from tests.sftp.by_hand import door
from trio_ssh.testing import MemorySFTPServer, open_memory_client


@asynccontextmanager
async def connected(
    handler: trio_ssh.SubsystemHandler, *, without: tuple[bytes, ...] = (), **options: Any
) -> AsyncGenerator[trio_ssh.SFTPClient, None]:
    """A client, on a server that doesn't know some extensions; nothing is under way or open when it ends."""
    with trio.fail_after(60):
        async with (
            open_memory_client(door(handler), host_key=HOST_KEY, **options) as client,
            await client.open_sftp() as sftp,
        ):
            for name in without:
                del sftp._link.session.extensions[name]
            yield sftp
            if sftp._link.failure is None:
                # What is closed later has been closed.
                while sftp._link.session.pending:
                    await sftp.normalize(".")
                assert sftp._link.used_bytes == 0


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no hole is made of, the same in every run."""
    return random.Random(seed).randbytes(size)


def held_up(server: MemorySFTPServer, monkeypatch: pytest.MonkeyPatch, held: str) -> trio.Event:
    """Have a server answer no such request, ``"write"`` or another, before the event that this returns is set."""
    happen, gate = server._happen, trio.Event()

    async def wait(operation: str, path: str) -> None:
        await happen(operation, path)
        if operation == held:
            await gate.wait()

    monkeypatch.setattr(server, "_happen", wait)
    return gate
