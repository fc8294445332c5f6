"""Peers besides OpenSSH, for what the OpenSSH of this machine may lack: ML-KEM above all.

Both run in threads of their own, and as little of them is used as will do.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import asyncssh
import paramiko
import pytest
import trio

import trio_ssh
from tests.interop.algorithms import ALL, SAMPLE
from tests.interop.peers import PATIENCE, KeyFolder, LetsAnyoneIn, Ssh

pytestmark = pytest.mark.interop

ML_KEM: Final = "mlkem768x25519-sha256"


class Echoes(LetsAnyoneIn):
    """Sends back what it gets, and tells the key exchange on stderr."""

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        async for chunk in process.stdin:
            await process.stdout.send_all(chunk)
        negotiated = self.transport.get_negotiated()
        assert negotiated is not None
        await process.stderr.write(negotiated.kex)
        return 3


# -- asyncssh


class OpenDoor(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class WantsKey(asyncssh.SSHServer):
    """Lets in whoever signs by a key that its options name."""


async def echo_for_asyncssh(process: asyncssh.SSHServerProcess[bytes]) -> None:
    while data := await process.stdin.read(65536):
        process.stdout.write(data)
        await process.stdout.drain()
    process.exit(3)


@contextmanager
def asyncssh_server(factory: type[asyncssh.SSHServer], host_keys: KeyFolder, **options: object) -> Iterator[int]:
    """A server of asyncssh's in a thread; the value is its port."""
    started = threading.Event()
    ports: list[int] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=factory,
            server_host_keys=[str(host_keys.file("ed25519"))],
            process_factory=echo_for_asyncssh,
            encoding=None,
            **options,
        )
        ports.append(server.get_port())
        loops.append((asyncio.get_running_loop(), stop))
        started.set()
        await stop.wait()
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield ports[0]
    finally:
        [(loop, stop)] = loops
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def known(port: int, host_keys: KeyFolder) -> trio_ssh.HostKeys:
    return trio_ssh.HostKeys.from_text(f"[127.0.0.1]:{port} {host_keys.public('ed25519')}\n")


async def echoed(port: int, host_keys: KeyFolder, kex: str) -> None:
    """Be the client of an echoing server that must choose this key exchange, twice."""
    async with trio_ssh.connect(
        "127.0.0.1", port, "alice", known_hosts=known(port, host_keys), look_for_keys=False, kex=[kex]
    ) as client:
        done = await client.run_process("echo", stdin=SAMPLE, capture_stdout=True, check=False)
        assert (done.stdout, done.returncode) == (SAMPLE, 3)
        transport = client.get_transport()
        assert transport is not None
        await transport.renegotiate_keys()
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert negotiated.kex == kex
        done = await client.run_process("echo", stdin=SAMPLE, capture_stdout=True, check=False)
        assert (done.stdout, done.returncode) == (SAMPLE, 3)


#: asyncssh has its groups from a library that is about to drop them.
OLD_GROUPS: Final = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")


@OLD_GROUPS
@pytest.mark.parametrize("kex", ALL.kex)
async def test_asyncssh_serves_us(host_keys: KeyFolder, kex: str) -> None:
    with asyncssh_server(OpenDoor, host_keys, kex_algs=[kex]) as port:
        await echoed(port, host_keys, kex)


@OLD_GROUPS
@pytest.mark.parametrize("kex", ALL.kex)
async def test_we_serve_asyncssh(ssh: Ssh, nursery: trio.Nursery, kex: str) -> None:
    await ssh.serve(nursery, Echoes, security="legacy")

    async def call() -> tuple[bytes, bytes, int]:
        options = {"known_hosts": str(ssh.known_hosts), "username": "alice", "client_keys": None, "config": None}
        async with asyncssh.connect("127.0.0.1", ssh.port, kex_algs=[kex], **options) as connection:
            done = await connection.run("echo", input=SAMPLE, encoding=None)
            assert isinstance(done.stdout, bytes)
            assert isinstance(done.stderr, bytes)
            assert done.exit_status is not None
            return done.stdout, done.stderr, done.exit_status

    assert await trio.to_thread.run_sync(asyncio.run, call()) == (SAMPLE, kex.encode(), 3)


@pytest.mark.parametrize("algorithms", [["rsa-sha2-256"], ["rsa-sha2-512"], ["ssh-ed25519", "rsa-sha2-256"]])
async def test_an_rsa_key_signs_as_the_server_announces(
    host_keys: KeyFolder, user_keys: KeyFolder, algorithms: Sequence[str]
) -> None:
    options = {"signature_algs": algorithms, "authorized_client_keys": str(user_keys.authorized_keys)}
    with asyncssh_server(WantsKey, host_keys, **options) as port:
        key = user_keys.load("rsa")
        async with trio_ssh.connect("127.0.0.1", port, "alice", pkey=key, known_hosts=known(port, host_keys)) as client:
            done = await client.run_process("echo", stdin=b"in", capture_stdout=True, check=False)
            assert done.stdout == b"in"


# -- paramiko


class ParamikoServer(paramiko.ServerInterface):
    def __init__(self, threads: list[threading.Thread]) -> None:
        self.threads = threads

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        thread = threading.Thread(target=self.echo, args=(channel,))
        thread.start()
        self.threads.append(thread)
        return True

    def echo(self, channel: paramiko.Channel) -> None:
        while data := channel.recv(65536):
            channel.sendall(data)
        channel.send_exit_status(3)
        channel.close()


@contextmanager
def paramiko_server(host_keys: KeyFolder, kex: str) -> Iterator[int]:
    """A server of paramiko's for one client, in threads; the value is its port."""
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
        transport = paramiko.Transport(connection)
        transport.get_security_options().kex = (kex,)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(host_keys.file("ed25519"))))
        transport.start_server(server=ParamikoServer(threads))
        transport.join(PATIENCE)

    threads.append(threading.Thread(target=serve))
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        for thread in threads:
            thread.join()


async def test_paramiko_serves_us(host_keys: KeyFolder) -> None:
    with paramiko_server(host_keys, ML_KEM) as port:
        await echoed(port, host_keys, ML_KEM)


async def test_we_serve_paramiko(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Echoes)

    def call() -> tuple[bytes, bytes, int]:
        with socket.create_connection(("127.0.0.1", ssh.port)) as connection:
            transport = paramiko.Transport(connection)
            transport.get_security_options().kex = (ML_KEM,)
            transport.start_client(timeout=PATIENCE)
            transport.auth_none("alice")
            channel = transport.open_session()
            channel.exec_command("echo")
            sender = threading.Thread(target=functools.partial(channel.sendall, SAMPLE))
            sender.start()
            received = b""
            while len(received) < len(SAMPLE):
                chunk = channel.recv(65536)
                assert chunk, "it ended early"
                received += chunk
            sender.join()
            transport.renegotiate_keys()
            channel.shutdown_write()
            status = channel.recv_exit_status()
            said = channel.recv_stderr(1000)
            transport.close()
            return received, said, status

    assert await trio.to_thread.run_sync(call) == (SAMPLE, ML_KEM.encode(), 3)
