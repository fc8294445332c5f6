"""paramiko as client and server, with TCP_NODELAY, which it leaves off."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

import paramiko  # type: ignore[import-untyped]

from tests.benchmarks.adapters import roles, sftp_with_paramiko
from tests.benchmarks.adapters.roles import CHUNK, ClientTask, Sample, ServerTask

# The same algorithm as `roles.KEX`, under the only name paramiko has for it.
KEX: Final = "curve25519-sha256@libssh.org"
LOGIN_SECONDS: Final = 120


def connect(task: ClientTask, key: paramiko.PKey) -> paramiko.SSHClient:
    """Connect and authenticate."""

    def transport(sock: socket.socket, **options: Any) -> paramiko.Transport:
        return prepared(paramiko.Transport(sock, **options), task)

    sock = socket.create_connection((roles.HOST, task.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        roles.HOST,
        task.port,
        username=task.user,
        pkey=key,
        sock=sock,
        allow_agent=False,
        look_for_keys=False,
        banner_timeout=LOGIN_SECONDS,
        auth_timeout=LOGIN_SECONDS,
        transport_factory=transport,
    )
    return client


def prepared(transport: paramiko.Transport, task: ClientTask | ServerTask) -> paramiko.Transport:
    """Give a transport the algorithms of the task."""
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = LOGIN_SECONDS
    security = transport.get_security_options()
    security.kex = (KEX,)
    security.ciphers = (task.cipher,)
    security.digests = (task.mac,)
    return transport


def read_key(task: ClientTask) -> paramiko.PKey:
    """Read the key that logs in."""
    return paramiko.Ed25519Key.from_private_key_file(task.client_key)


@contextlib.contextmanager
def connected(task: ClientTask) -> Iterator[paramiko.SSHClient]:
    """Connect, and close at the end."""
    client = connect(task, read_key(task))
    try:
        yield client
    finally:
        client.close()


def start(client: paramiko.SSHClient, command: str) -> paramiko.Channel:
    """Start a command on a channel of its own."""
    transport = client.get_transport()
    if transport is None:
        raise RuntimeError("not connected")
    channel = transport.open_session()
    channel.exec_command(command)
    return channel


def run(client: paramiko.SSHClient, command: str) -> None:
    """Run a command to its end."""
    channel = start(client, command)
    while channel.recv(len(CHUNK)):
        pass
    roles.check("exit status", channel.recv_exit_status(), 0)
    channel.close()


def bulk_down(task: ClientTask) -> Sample:
    """Read everything a command writes."""
    with connected(task) as client:
        with task.window() as window:
            channel = start(client, task.command)
            received = 0
            while chunk := channel.recv(len(CHUNK)):
                received += len(chunk)
            status = channel.recv_exit_status()
        roles.check("bytes", received, task.size)
        roles.check("exit status", status, 0)
    return window.sample


def bulk_up(task: ClientTask) -> Sample:
    """Write everything, and wait for the command to have read it."""
    with connected(task) as client:
        with task.window() as window:
            channel = start(client, task.command)
            left = task.size
            while left:
                size = min(left, len(CHUNK))
                channel.sendall(memoryview(CHUNK)[:size])
                left -= size
            channel.shutdown_write()
            status = channel.recv_exit_status()
        roles.check("exit status", status, 0)
    return window.sample


def handshake(task: ClientTask) -> Sample:
    """Connect, authenticate and close, one connection after another."""
    key = read_key(task)
    connect(task, key).close()
    with task.window() as window:
        for _ in range(task.count):
            connect(task, key).close()
    return window.sample


def exec_sequential(task: ClientTask) -> Sample:
    """Run commands on one connection, one after another."""
    with connected(task) as client:
        run(client, task.command)
        with task.window() as window:
            for _ in range(task.count):
                run(client, task.command)
    return window.sample


def exec_concurrent(task: ClientTask) -> Sample:
    """Run commands on one connection, some at a time."""
    with connected(task) as client, ThreadPoolExecutor(task.at_once) as pool:
        list(pool.map(lambda _: run(client, task.command), range(task.at_once)))
        with task.window() as window:
            list(pool.map(lambda _: run(client, task.command), range(task.count)))
    return window.sample


def echo(task: ClientTask) -> Sample:
    """Send one byte and wait for it, again and again."""
    with connected(task) as client:
        channel = start(client, task.command)

        def round_trip() -> float:
            started = time.perf_counter()
            channel.sendall(b"x")
            roles.check("echo", channel.recv(1), b"x")
            return time.perf_counter() - started

        for _ in range(roles.WARM_UP_ROUND_TRIPS):
            round_trip()
        with task.window() as window:
            seconds = [round_trip() for _ in range(task.count)]
        channel.shutdown_write()
    return window.sample | roles.latencies(seconds)


def connections(task: ClientTask) -> Sample:
    """Open connections all at once, and run one command in each."""
    key = read_key(task)

    def connect_and_run(_: int) -> None:
        client = connect(task, key)
        run(client, task.command)
        client.close()

    connect_and_run(0)
    with task.window() as window, ThreadPoolExecutor(task.count) as pool:
        list(pool.map(connect_and_run, range(task.count)))
    return window.sample


def idle_memory(task: ClientTask) -> Sample:
    """Keep connections open, without a channel and then with one."""
    key = read_key(task)
    first = connect(task, key)
    run(first, "true")
    first.close()
    before = task.footprints()
    held = [connect(task, key) for _ in range(task.count)]
    idle = task.footprints()
    channels = [start(client, task.command) for client in held]
    with_channel = task.footprints()
    for channel, client in zip(channels, held, strict=True):
        channel.close()
        client.close()
    return roles.per_connection(task.count, before, idle, with_channel)


class Server(paramiko.ServerInterface):  # type: ignore[misc]
    """Lets one key in and runs a thread per command."""

    def __init__(self, authorized: str) -> None:
        self._authorized = authorized
        self._accepted: threading.Thread | None = None

    def get_allowed_auths(self, username: str) -> str:
        """Offer public keys."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Let the one key in."""
        allowed = key.get_base64() == self._authorized
        return int(paramiko.AUTH_SUCCESSFUL if allowed else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Open every channel."""
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Start a command."""
        self._accepted = threading.Thread(target=run_command, args=(channel, command.decode()), daemon=True)
        return True

    def start_accepted(self) -> None:
        """Start the command accepted last."""
        if self._accepted is not None:
            self._accepted.start()
            self._accepted = None


def on_channel_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Answer a request, and only then start what it asked for."""
    channel._handle_request(message)
    channel.get_transport().server_object.start_accepted()


class ServerTransport(paramiko.Transport):  # type: ignore[misc]
    """Keeps a quick command from closing its channel before the client has heard that it runs.

    paramiko asks its server, answers the client, and does not say when it has.  A thread for `true` that is
    started from the question is often done first, and paramiko's client then takes the command for refused.
    """

    _channel_handler_table: ClassVar = {
        **paramiko.Transport._channel_handler_table,
        paramiko.common.MSG_CHANNEL_REQUEST: on_channel_request,
    }


def run_command(channel: paramiko.Channel, command: str) -> None:
    """Run a command of a client's."""
    # A client that has gone takes its commands with it.
    with contextlib.suppress(OSError, EOFError):
        if command.startswith("source"):
            left = roles.source_size(command)
            while left:
                size = min(left, len(CHUNK))
                channel.sendall(memoryview(CHUNK)[:size])
                left -= size
        elif command == "sink":
            while channel.recv(len(CHUNK)):
                pass
        elif command == "echo":
            while data := channel.recv(len(CHUNK)):
                channel.sendall(data)
        channel.send_exit_status(roles.exit_status(command))
        channel.close()


def serve(task: ServerTask) -> None:
    """Serve until killed, with a thread that starts each connection and leaves it to paramiko's own."""
    host_key = paramiko.Ed25519Key.from_private_key_file(task.host_key)
    authorized = Path(task.authorized_keys).read_text(encoding="ascii").split()[1]
    listener = socket.create_server((roles.HOST, 0), backlog=roles.LISTEN_BACKLOG)
    roles.announce(listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve_connection, args=(sock, task, host_key, authorized), daemon=True).start()


def serve_connection(sock: socket.socket, task: ServerTask, host_key: paramiko.PKey, authorized: str) -> None:
    """Start a connection; its transport's thread does the rest."""
    transport = prepared(ServerTransport(sock), task)
    transport.add_server_key(host_key)
    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, sftp_with_paramiko.Files)
    with contextlib.suppress(paramiko.SSHException, EOFError):
        transport.start_server(server=Server(authorized))


if __name__ == "__main__":
    roles.main(
        {
            "bulk_down": bulk_down,
            "bulk_up": bulk_up,
            "handshake": handshake,
            "exec_sequential": exec_sequential,
            "exec_concurrent": exec_concurrent,
            "echo": echo,
            "connections": connections,
            "idle_memory": idle_memory,
            **sftp_with_paramiko.clients(connected),
        },
        serve,
    )
