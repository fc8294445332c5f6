"""Ports forwarded by OpenSSH's server for our client; curl and sockets are at the ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ssh
from tests.interop.peers import PATIENCE, Sshd, eventually, free_port
from tests.test_forwarding import LOOPBACK, ask, listens, port_of, shout

pytestmark = pytest.mark.interop

MIB = 1024 * 1024


@asynccontextmanager
async def shouting() -> AsyncGenerator[int, None]:
    """A service of this machine's; the value is its port."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            yield port_of(await nursery.start(partial(trio.serve_tcp, shout, 0, host=LOOPBACK)))
            nursery.cancel_scope.cancel()


async def shouts_at(port: int, size: int = 8 * MIB) -> None:
    """Whoever listens there is the service, at the other end of whatever lies in between."""
    data = os.urandom(size)
    assert await ask(await trio.open_tcp_stream(LOOPBACK, port), data) == data.upper()


async def test_a_port_here_leads_through_sshd(sshd: Sshd) -> None:
    async with shouting() as target, sshd.connect() as client, trio.open_nursery() as nursery:
        port = port_of(await nursery.start(client.forward_local_port, 0, LOOPBACK, target))
        await shouts_at(port)
        async with trio.open_nursery() as several:
            for _ in range(20):
                several.start_soon(shouts_at, port, 100_000)
        nursery.cancel_scope.cancel()


async def test_where_sshd_reaches_nobody_the_others_go_on(sshd: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    async with shouting() as target, sshd.connect() as client, trio.open_nursery() as nursery:
        dead = port_of(await nursery.start(client.forward_local_port, 0, LOOPBACK, free_port()))
        port = port_of(await nursery.start(client.forward_local_port, 0, LOOPBACK, target))
        assert await ask(await trio.open_tcp_stream(LOOPBACK, dead), b"") == b""
        await shouts_at(port, 1000)
        assert "the peer refused the channel (connect failed)" in caplog.text
        nursery.cancel_scope.cancel()


async def test_a_port_that_sshd_chooses_leads_here(sshd: Sshd) -> None:
    async with shouting() as target, sshd.connect() as client, trio.open_nursery() as nursery:
        port: int = await nursery.start(client.forward_remote_port, 0, LOOPBACK, target)
        await shouts_at(port)
        nursery.cancel_scope.cancel()
    await eventually(lambda: not listens(port))


@pytest.mark.parametrize("host", ["localhost", "", "*", LOOPBACK])
async def test_a_port_that_is_named_does_and_may_be_had_again(sshd: Sshd, host: str) -> None:
    wanted = free_port()
    async with shouting() as target, sshd.connect() as client:
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                forward = partial(client.forward_remote_port, wanted, LOOPBACK, target, listen_host=host)
                assert await nursery.start(forward) == wanted
                await shouts_at(wanted, 1000)
                nursery.cancel_scope.cancel()


async def test_listeners_there_are_trio_s(sshd: Sshd) -> None:
    async with sshd.connect() as client, trio.open_nursery() as nursery:
        listeners = [*await client.open_tcp_listeners(0), *await client.open_tcp_listeners(0)]
        nursery.start_soon(trio.serve_listeners, shout, listeners)
        for listener in listeners:
            await shouts_at(listener.port)
        with pytest.raises(trio_ssh.RequestRefused):
            await client.open_tcp_listeners(listeners[0].port)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("own_sshd", [["AllowTcpForwarding no"]], indirect=True)
async def test_a_server_that_forwards_nothing_says_so(own_sshd: Sshd) -> None:
    async with own_sshd.connect() as client:
        with pytest.raises(trio_ssh.RequestRefused, match="does not listen at localhost:0"):
            await client.open_tcp_listeners(0)


async def test_sockets_of_sshd_s_machine_are_reached_and_made(sshd: Sshd, folder: Path) -> None:
    path = folder / f"forwarded-{os.getpid()}"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    async with sshd.connect() as client, trio.open_nursery() as nursery:
        [listener] = await client.open_unix_listeners(path / "socket")
        nursery.start_soon(trio.serve_listeners, shout, [listener])
        # Through the socket that sshd has made, and by sshd once more.
        assert await ask(await trio.open_unix_socket(path / "socket"), b"hello") == b"HELLO"
        assert await ask(await client.open_unix_stream(path / "socket"), b"hello") == b"HELLO"
        with pytest.raises(trio_ssh.ChannelException):
            await client.open_unix_stream(path / "missing")
        nursery.cancel_scope.cancel()
    shutil.rmtree(path)


async def http(stream: trio.SocketStream) -> None:
    """Answer one request with its own first line."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += await stream.receive_some()
    body = request.splitlines()[0] * 10_000
    await stream.send_all(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("option", ["--socks5", "--socks5-hostname", "--socks4", "--socks4a"])
async def test_curl_is_a_socks_client(sshd: Sshd, option: str) -> None:
    with trio.fail_after(PATIENCE):
        async with sshd.connect() as client, trio.open_nursery() as nursery:
            target = port_of(await nursery.start(partial(trio.serve_tcp, http, 0, host=LOOPBACK)))
            proxy = port_of(await nursery.start(client.serve_socks, 0))
            host = "localhost" if option.endswith(("name", "4a")) else LOOPBACK
            command = ["curl", "-qsS", "--noproxy", "", option, f"{LOOPBACK}:{proxy}", f"http://{host}:{target}/path"]
            done = await trio.run_process(command, capture_stdout=True)
            assert done.stdout == b"GET /path HTTP/1.1" * 10_000
            command[-1] = f"http://{host}:{free_port()}/"
            done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
            assert done.returncode == 97, done.stdout  # "Proxy handshake error"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_sshd_that_is_killed_ends_it(own_sshd: Sshd) -> None:
    with trio.fail_after(PATIENCE):
        async with own_sshd.connect() as client, trio.open_nursery() as nursery:
            lost: list[Exception] = []

            async def forward(**options: Any) -> None:
                try:
                    await client.forward_local_port(0, LOOPBACK, own_sshd.port, **options)
                except trio_ssh.ConnectionLost as error:
                    lost.append(error)

            port = port_of(await nursery.start(forward))
            async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                assert (await stream.receive_some()).startswith(b"SSH-2.0-OpenSSH")
                await trio.to_thread.run_sync(own_sshd.kill)
                assert await stream.receive_some() == b""
        assert len(lost) == 1


async def test_a_configuration_is_forwarded_through_sshd(sshd: Sshd) -> None:
    local, dynamic, remote = free_port(), free_port(), free_port()
    async with shouting() as target:
        config = await trio_ssh.SSHConfig.from_text(
            f"ExitOnForwardFailure yes\nLocalForward {local} {LOOPBACK}:{target}\nDynamicForward {dynamic}\n"
            f"RemoteForward {remote} {LOOPBACK}:{target}\n"
        )
        async with sshd.connect(config=config):
            await shouts_at(local)
            await shouts_at(remote)
            request = b"\4\1" + target.to_bytes(2, "big") + b"\x7f\0\0\1\0"
            stream = await trio.open_tcp_stream(LOOPBACK, dynamic)
            assert await ask(stream, request + b"hello") == b"\0\x5a" + bytes(6) + b"HELLO"
        assert not listens(local)
        assert not listens(dynamic)
        await eventually(lambda: not listens(remote))  # sshd takes its time


async def test_ssh_forwards_the_same_file_the_same_way(sshd: Sshd, tmp_path: Path) -> None:
    """OpenSSH's client in our place: what the tests above ask of ours holds of it as well."""
    local, remote = free_port(), free_port()
    key = tmp_path / "key"
    shutil.copy(sshd.user_keys.file("ed25519"), key)
    key.chmod(0o600)
    (tmp_path / "known_hosts").write_text(sshd.known_hosts.to_text())
    async with shouting() as target, trio.open_nursery() as nursery:
        (tmp_path / "config").write_text(
            f"Host server\nHostName {LOOPBACK}\nPort {sshd.port}\nUser {sshd.account.name}\nIdentityFile {key}\n"
            f"IdentityAgent none\nUserKnownHostsFile {tmp_path}/known_hosts\nExitOnForwardFailure yes\n"
            f"LocalForward {local} {LOOPBACK}:{target}\nRemoteForward {remote} {LOOPBACK}:{target}\n"
        )
        command = ["ssh", "-F", str(tmp_path / "config"), "-oBatchMode=yes", "server", "echo here; cat"]
        process = await nursery.start(partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert process.stdout is not None
        assert process.stdin is not None
        assert await process.stdout.receive_some() == b"here\n"
        await shouts_at(local, 100_000)
        await shouts_at(remote, 100_000)
        await process.stdin.aclose()
