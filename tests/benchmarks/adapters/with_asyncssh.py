"""asyncssh as client and server, through its stream API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import asyncssh

from tests.benchmarks.adapters import roles, sftp_with_asyncssh
from tests.benchmarks.adapters.roles import CHUNK, ClientRole, ClientTask, Sample, ServerTask

LOGIN_SECONDS: Final = 120
Connect = Callable[[], Awaitable[asyncssh.SSHClientConnection]]


def connecting(task: ClientTask) -> Connect:
    """Prepare what all connections of a run share, and return what opens one."""
    options = asyncssh.SSHClientConnectionOptions(
        username=task.user,
        client_keys=[asyncssh.read_private_key(task.client_key)],
        known_hosts=None,
        agent_path=None,
        config=None,
        kex_algs=[roles.KEX],
        encryption_algs=[task.cipher],
        mac_algs=[task.mac],
        compression_algs=["none"],
        login_timeout=LOGIN_SECONDS,
        connect_timeout=LOGIN_SECONDS,
    )

    async def connect() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(roles.HOST, task.port, config=None, options=options)

    return connect


def serving(task: ServerTask) -> asyncssh.SSHServerConnectionOptions:
    """Prepare what a server's connections share."""
    return asyncssh.SSHServerConnectionOptions(
        server_host_keys=[task.host_key],
        authorized_client_keys=task.authorized_keys,
        encoding=None,
        line_editor=False,
        kex_algs=[roles.KEX],
        encryption_algs=[task.cipher],
        mac_algs=[task.mac],
        compression_algs=["none"],
        login_timeout=LOGIN_SECONDS,
    )


def exit_status(channel: object) -> int | None:
    """Ask a client's channel what its command ended with."""
    return channel.get_exit_status() if isinstance(channel, asyncssh.SSHClientChannel) else None


async def bulk_down(task: ClientTask) -> Sample:
    """Read everything a command writes."""
    async with await connecting(task)() as connection:
        with task.window() as window:
            stdin, stdout, _ = await connection.open_session(task.command, encoding=None)
            received = 0
            while chunk := await stdout.read(len(CHUNK)):
                received += len(chunk)
            await stdin.channel.wait_closed()
        roles.check("bytes", received, task.size)
        roles.check("exit status", exit_status(stdin.channel), 0)
    return window.sample


async def bulk_up(task: ClientTask) -> Sample:
    """Write everything, and wait for the command to have read it."""
    async with await connecting(task)() as connection:
        with task.window() as window:
            stdin, _, _ = await connection.open_session(task.command, encoding=None)
            left = task.size
            while left:
                stdin.write(CHUNK[:left])
                await stdin.drain()
                left -= min(left, len(CHUNK))
            stdin.write_eof()
            await stdin.channel.wait_closed()
        roles.check("exit status", exit_status(stdin.channel), 0)
    return window.sample


async def handshake(task: ClientTask) -> Sample:
    """Connect, authenticate and close, one connection after another."""
    connect = connecting(task)

    async def connect_and_close() -> None:
        async with await connect():
            pass

    await connect_and_close()
    with task.window() as window:
        for _ in range(task.count):
            await connect_and_close()
    return window.sample


async def exec_sequential(task: ClientTask) -> Sample:
    """Run commands on one connection, one after another."""
    async with await connecting(task)() as connection:
        await connection.run(task.command, encoding=None, check=True)
        with task.window() as window:
            for _ in range(task.count):
                await connection.run(task.command, encoding=None, check=True)
    return window.sample


async def exec_concurrent(task: ClientTask) -> Sample:
    """Run commands on one connection, some at a time."""
    async with await connecting(task)() as connection:
        await connection.run(task.command, encoding=None, check=True)
        left = iter(range(task.count))

        async def work() -> None:
            for _ in left:
                await connection.run(task.command, encoding=None, check=True)

        with task.window() as window:
            await asyncio.gather(*(work() for _ in range(task.at_once)))
    return window.sample


async def echo(task: ClientTask) -> Sample:
    """Send one byte and await it, again and again."""
    async with await connecting(task)() as connection:
        stdin, stdout, _ = await connection.open_session(task.command, encoding=None)

        async def round_trip() -> float:
            started = time.perf_counter()
            stdin.write(b"x")
            roles.check("echo", await stdout.read(1), b"x")
            return time.perf_counter() - started

        for _ in range(roles.WARM_UP_ROUND_TRIPS):
            await round_trip()
        with task.window() as window:
            seconds = [await round_trip() for _ in range(task.count)]
        stdin.write_eof()
        await stdin.channel.wait_closed()
    return window.sample | roles.latencies(seconds)


async def connections(task: ClientTask) -> Sample:
    """Open connections all at once, and run one command in each."""
    connect = connecting(task)

    async def connect_and_run() -> None:
        async with await connect() as connection:
            await connection.run(task.command, encoding=None, check=True)

    await connect_and_run()
    with task.window() as window:
        await asyncio.gather(*(connect_and_run() for _ in range(task.count)))
    return window.sample


async def idle_memory(task: ClientTask) -> Sample:
    """Keep connections open, without a channel and then with one."""
    connect = connecting(task)
    async with await connect() as connection:
        await connection.run("true")
    before = task.footprints()
    held = [await connect() for _ in range(task.count)]
    idle = task.footprints()
    sessions = [await connection.open_session(task.command, encoding=None) for connection in held]
    with_channel = task.footprints()
    for stdin, _, _ in sessions:
        stdin.write_eof()
    for connection in held:
        connection.close()
        await connection.wait_closed()
    return roles.per_connection(task.count, before, idle, with_channel)


async def on_session(
    stdin: asyncssh.SSHReader[bytes], stdout: asyncssh.SSHWriter[bytes], stderr: asyncssh.SSHWriter[bytes]
) -> None:
    """Run a command of a client's."""
    channel = stdout.channel
    if not isinstance(channel, asyncssh.SSHServerChannel):
        raise TypeError("a client's channel in a server")
    command = channel.get_command() or ""
    if command.startswith("source"):
        left = roles.source_size(command)
        while left:
            stdout.write(CHUNK[:left])
            await stdout.drain()
            left -= min(left, len(CHUNK))
    elif command == "sink":
        while await stdin.read(len(CHUNK)):
            pass
    elif command == "echo":
        while data := await stdin.read(len(CHUNK)):
            stdout.write(data)
            await stdout.drain()
    channel.exit(roles.exit_status(command))


def serve(task: ServerTask) -> None:
    """Serve until killed."""

    async def listen() -> None:
        acceptor = await asyncssh.create_server(
            asyncssh.SSHServer,
            roles.HOST,
            0,
            config=None,
            options=serving(task),
            session_factory=on_session,
            sftp_factory=True,
            encoding=None,
            backlog=roles.LISTEN_BACKLOG,
        )
        roles.announce(acceptor.get_port())
        await acceptor.wait_closed()

    asyncio.run(listen())


def role(client: Callable[[ClientTask], Awaitable[Sample]]) -> ClientRole:
    """Make a plain function of a client that awaits."""

    async def run(task: ClientTask) -> Sample:
        return await client(task)

    return lambda task: asyncio.run(run(task))


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
                for name, client in sftp_with_asyncssh.clients(lambda task: connecting(task)()).items()
            },
        },
        serve,
    )
