"""trio_ssh as client and server."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar, Final

import trio

import trio_ssh
from tests.benchmarks.adapters import roles, sftp_with_trio_ssh
from tests.benchmarks.adapters.roles import CHUNK, ClientRole, ClientTask, Sample, ServerTask

Connect = Callable[[], trio_ssh.connect]

# As sshd is configured: many may log in at once, and a connection may have many sessions.
LIMITS: Final = trio_ssh.Limits(startups_begin=1000, startups_full=1000, startups_per_source=1000, sessions=1000)


class AnyHost(trio_ssh.MissingHostKeyPolicy):
    """Trusts a server whose key is new: every one here is."""

    def missing_host_key(self, client: object, hostname: str, key: trio_ssh.PublicKey) -> None:
        """Accept."""


def connecting(task: ClientTask) -> Connect:
    """Prepare what all connections of a run share, and return what opens one."""
    key = trio_ssh.Ed25519Key.from_private_key_file(task.client_key)
    return lambda: trio_ssh.connect(
        roles.HOST,
        port=task.port,
        username=task.user,
        pkey=key,
        look_for_keys=False,
        known_hosts=trio_ssh.HostKeys(),
        policy=AnyHost,
        kex=[roles.KEX],
        ciphers=[task.cipher],
        macs=[task.mac],
        config=None,
    )


async def run(client: trio_ssh.SSHClient, command: str) -> None:
    """Run a command to its end, and take what it writes."""
    await client.run_process(command, capture_stdout=True, capture_stderr=True)


async def bulk_down(task: ClientTask) -> Sample:
    """Read everything a command writes."""
    async with connecting(task)() as client:
        with task.window() as window:
            process = await client.open_process(task.command)
            received = 0
            while data := await process.stdout.receive_some():
                received += len(data)
            status = await process.wait()
        roles.check("bytes", received, task.size)
        roles.check("exit status", status, 0)
    return window.sample


async def bulk_up(task: ClientTask) -> Sample:
    """Write everything, and wait for the command to have read it."""
    async with connecting(task)() as client:
        with task.window() as window:
            process = await client.open_process(task.command)
            left = task.size
            while left:
                size = min(left, len(CHUNK))
                await process.stdin.send_all(memoryview(CHUNK)[:size])
                left -= size
            await process.stdin.aclose()
            status = await process.wait()
        roles.check("exit status", status, 0)
    return window.sample


async def handshake(task: ClientTask) -> Sample:
    """Connect, authenticate and close, one connection after another."""
    connect = connecting(task)
    async with connect():
        pass
    with task.window() as window:
        for _ in range(task.count):
            async with connect():
                pass
    return window.sample


async def exec_sequential(task: ClientTask) -> Sample:
    """Run commands on one connection, one after another."""
    async with connecting(task)() as client:
        await run(client, task.command)
        with task.window() as window:
            for _ in range(task.count):
                await run(client, task.command)
    return window.sample


async def exec_concurrent(task: ClientTask) -> Sample:
    """Run commands on one connection, some at a time."""
    async with connecting(task)() as client:
        await run(client, task.command)
        left = iter(range(task.count))

        async def work() -> None:
            for _ in left:
                await run(client, task.command)

        with task.window() as window:
            async with trio.open_nursery() as nursery:
                for _ in range(task.at_once):
                    nursery.start_soon(work)
    return window.sample


async def echo(task: ClientTask) -> Sample:
    """Send one byte and await it, again and again."""
    async with connecting(task)() as client:
        process = await client.open_process(task.command)

        async def round_trip() -> float:
            started = time.perf_counter()
            await process.stdin.send_all(b"x")
            roles.check("echo", await process.stdout.receive_some(), b"x")
            return time.perf_counter() - started

        for _ in range(roles.WARM_UP_ROUND_TRIPS):
            await round_trip()
        with task.window() as window:
            seconds = [await round_trip() for _ in range(task.count)]
        await process.stdin.aclose()
        await process.wait()
    return window.sample | roles.latencies(seconds)


async def connections(task: ClientTask) -> Sample:
    """Open connections all at once, and run one command in each."""
    connect = connecting(task)

    async def connect_and_run() -> None:
        async with connect() as client:
            await run(client, task.command)

    await connect_and_run()
    with task.window() as window:
        async with trio.open_nursery() as nursery:
            for _ in range(task.count):
                nursery.start_soon(connect_and_run)
    return window.sample


async def idle_memory(task: ClientTask) -> Sample:
    """Keep connections open, without a channel and then with one."""
    connect = connecting(task)
    async with connect() as client:
        await run(client, "true")
    before = task.footprints()
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connect()) for _ in range(task.count)]
        idle = task.footprints()
        processes = [await client.open_process(task.command) for client in held]
        with_channel = task.footprints()
        for process in processes:
            await process.stdin.aclose()
            await process.wait()
    return roles.per_connection(task.count, before, idle, with_channel)


def serve(task: ServerTask) -> None:
    """Serve until killed."""
    host_key = trio_ssh.Ed25519Key.from_private_key_file(task.host_key)
    authorized = base64.b64decode(Path(task.authorized_keys).read_text(encoding="ascii").split()[1])

    class Server(trio_ssh.ServerInterface):
        """Lets one key in, runs the benchmarks' commands, and serves files."""

        subsystems: ClassVar = {"sftp": sftp_with_trio_ssh.handler}

        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            """Let the one key in."""
            return trio_ssh.AUTH_SUCCESSFUL if key.blob == authorized else trio_ssh.AUTH_FAILED

        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            """Run a command of a client's."""
            command = process.command or ""
            if command.startswith("source"):
                left = roles.source_size(command)
                while left:
                    size = min(left, len(CHUNK))
                    await process.stdout.send_all(memoryview(CHUNK)[:size])
                    left -= size
            elif command == "sink":
                while await process.stdin.receive_some():
                    pass
            elif command == "echo":
                while data := await process.stdin.receive_some():
                    await process.stdout.send_all(data)
            return roles.exit_status(command)

    async def listen() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                lambda task_status: trio_ssh.serve_tcp(
                    Server,
                    0,
                    host=roles.HOST,
                    host_keys=[host_key],
                    kex=[roles.KEX],
                    ciphers=[task.cipher],
                    macs=[task.mac],
                    limits=LIMITS,
                    backlog=roles.LISTEN_BACKLOG,
                    task_status=task_status,
                )
            )
            roles.announce(listeners[0].socket.getsockname()[1])

    trio.run(listen)


def role(client: Callable[[ClientTask], Awaitable[Sample]]) -> ClientRole:
    """Make a plain function of a client that awaits."""

    async def run(task: ClientTask) -> Sample:
        return await client(task)

    return lambda task: trio.run(run, task)


if __name__ == "__main__":
    roles.main(
        {
            "bulk_down": role(bulk_down),
            "bulk_up": role(bulk_up),
            "handshake": role(handshake),
            "exec_sequential": role(exec_sequential),
            "exec_concurrent": role(exec_concurrent),
            "echo": role(echo),
            "connections": role(connections),
            "idle_memory": role(idle_memory),
            **{
                name: role(client)
                for name, client in sftp_with_trio_ssh.clients(lambda task: connecting(task)()).items()
            },
        },
        serve,
    )
