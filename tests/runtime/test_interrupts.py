"""Ctrl-C, caught by whoever pressed it: the connection goes on, whatever it struck."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, MIB, OpenDoor
from trio_ssh.crypto.aes_ctr import EncryptThenMacSealer
from trio_ssh.crypto.aes_gcm import AesGcmSealer
from trio_ssh.runtime.interrupts import uninterrupted
from trio_ssh.testing import MemorySFTPServer, open_memory_client

Operation = Callable[["Things"], Awaitable[object]]


class Things:
    """What there is to do something with."""

    def __init__(
        self, client: trio_ssh.SSHClient, process: trio_ssh.Process, sftp: trio_ssh.SFTPClient, file: trio_ssh.SFTPFile
    ) -> None:
        transport = client.get_transport()
        assert transport is not None
        self.client, self.transport, self.process, self.sftp, self.file = client, transport, process, sftp, file


async def _resize(things: Things) -> None:
    things.process.channel.resize_pty(100, 30)
    await trio.lowlevel.checkpoint()


async def _close(things: Things) -> None:
    await (await things.client.open_session()).aclose()
    await trio.lowlevel.checkpoint()


OPERATIONS: dict[str, Operation] = {
    "send much": lambda things: things.process.stdin.send_all(bytes(4 * MIB)),
    "send little": lambda things: things.process.stdin.send_all(b"x"),
    "open": lambda things: things.client.open_session(),
    "close": _close,
    "exec": lambda things: things.client.run_process("x", check=False, capture_stdout=True),
    "notify": _resize,
    "ping": lambda things: things.transport.ping(),
    "ignore": lambda things: things.transport.send_ignore(100),
    "new keys": lambda things: things.transport.renegotiate_keys(),
    "a request of SFTP": lambda things: things.sftp.stat("/"),
    "a round of SFTP": lambda things: things.sftp.put(__file__, "/copy"),
    "write a file": lambda things: things.file.write(bytes(4 * MIB)),
    "read a file": lambda things: things.sftp.getfo("/large", _Nowhere()),
}


class _Nowhere:
    async def write(self, data: memoryview) -> None:
        await trio.lowlevel.checkpoint()


async def _serve(process: trio_ssh.ServerProcess) -> int:
    async for _ in process.stdin:
        pass
    return 0


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes128-ctr"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_ctrl_c_costs_no_connection(operation: Operation, cipher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It strikes where the cipher has counted on, and the packet is not in the outbox yet."""
    door = OpenDoor(_serve)
    door.subsystems = {"sftp": MemorySFTPServer({"/large": bytes(4 * MIB)})}
    sealer: Any = AesGcmSealer if "gcm" in cipher else EncryptThenMacSealer
    is_armed = False
    strikes = 0

    def struck(name: str) -> Callable[..., None]:
        seal = getattr(sealer, name)

        def strike(self: Any, *args: object) -> None:
            nonlocal is_armed, strikes
            seal(self, *args)
            if is_armed and trio.lowlevel.current_task() is main_task:
                is_armed = False
                strikes += 1
                signal.raise_signal(signal.SIGINT)

        return strike

    main_task: trio.lowlevel.Task | None = None

    async def main() -> None:
        nonlocal is_armed, main_task
        main_task = trio.lowlevel.current_task()
        async with (
            open_memory_client(door, host_key=HOST_KEY, ciphers=[cipher]) as client,
            await client.open_process("x") as process,
            await client.open_sftp() as sftp,
            await sftp.open("/written", "w") as file,
        ):
            things = Things(client, process, sftp, file)
            is_armed = True
            with pytest.raises(KeyboardInterrupt):
                await operation(things)
                await trio.lowlevel.checkpoint()
            assert strikes == 1
            await things.transport.ping()
            await things.transport.renegotiate_keys()
            assert (await client.run_process("x", stdin=b"more")).returncode == 0
            assert (await sftp.stat("/large")).st_size == 4 * MIB
            await process.stdin.send_all(b"more")

    for name in ("seal", "seal_run"):
        monkeypatch.setattr(sealer, name, struck(name))
    trio.run(main)


def test_methods_of_every_kind_are_protected() -> None:
    @uninterrupted
    class Sample:
        def plain(self) -> bool:
            return trio.lowlevel.currently_ki_protected()

        async def waiting(self) -> bool:
            await trio.lowlevel.checkpoint()
            return trio.lowlevel.currently_ki_protected()

    async def main() -> None:
        assert not trio.lowlevel.currently_ki_protected()
        assert Sample().plain()
        assert await Sample().waiting()

    trio.run(main)
