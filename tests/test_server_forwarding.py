"""What a server opens for a client that forwards: connections and ports, in their connection and no longer."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, MIB, OpenDoor
from tests.test_forwarding import LOOPBACK, ask, listens, shout
from trio_ssh import server_forwarding
from trio_ssh.testing import open_memory_client

Address = tuple[str, int]


class Gateway(OpenDoor):
    """Forwards whatever a client wants."""

    gateway_ports = False

    async def check_channel_direct_tcpip_request(
        self, chanid: int, origin: Address, destination: Address
    ) -> trio_ssh.OpenResult:
        return await self.connect_for_client(chanid, destination)

    async def check_port_forward_request(self, address: str, port: int) -> int:
        return await self.listen_for_client(address, port, gateway_ports=self.gateway_ports)


@asynccontextmanager
async def connected(server: trio_ssh.ServerInterface, **options: Any) -> AsyncGenerator[trio_ssh.SSHClient, None]:
    with trio.fail_after(30):
        async with open_memory_client(server, host_key=HOST_KEY, **options) as client:
            yield client


@asynccontextmanager
async def service(
    handler: Callable[[trio.SocketStream], Awaitable[None]] = shout,
) -> AsyncGenerator[int, None]:
    """Something that a client can reach through its server alone; at this port."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host=LOOPBACK))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def serving(client: trio_ssh.SSHClient, nursery: trio.Nursery, port: int = 0, host: str = "localhost") -> int:
    """Have a port at the server, whose connections are shouted at; at this port."""
    listeners = await client.open_tcp_listeners(port, host=host)
    nursery.start_soon(trio.serve_listeners, shout, listeners)
    return listeners[0].port


# -- connections


async def test_a_client_is_connected_to_where_it_wants_to_go() -> None:
    data = bytes(range(256)) * (MIB // 256)
    async with service() as port, connected(Gateway()) as client:
        assert await ask(await client.open_tcp_stream(LOOPBACK, port), data) == data.upper()
        assert await ask(await client.open_tcp_stream("localhost", port), b"again") == b"AGAIN"


async def test_each_direction_ends_by_itself_and_a_reset_ends_both(caplog: pytest.LogCaptureFixture) -> None:
    async def slam(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()

    caplog.set_level(logging.INFO)
    async with service(slam) as port, connected(Gateway()) as client:
        stream = await client.open_tcp_stream(LOOPBACK, port)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b""
        await stream.aclose()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("host", [LOOPBACK, "no.such.host.invalid", "", "nul\0", "." * 300, "é" * 80])
async def test_where_nobody_is_the_client_hears_so(host: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trio_ssh.forwarding")
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))  # and nobody listens there
        port = taken.getsockname()[1]
        async with connected(Gateway()) as client:
            with pytest.raises(trio_ssh.ChannelException) as refusal:
                await client.open_tcp_stream(host, port)
            assert refusal.value.code == trio_ssh.OPEN_FAILED_CONNECT_FAILED.value
            assert (await client.run_process("echo", stdin=b"on", capture_stdout=True)).stdout == b"on"
    assert "no connection to" in caplog.text
    assert "\0" not in caplog.text


async def test_who_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(server_forwarding, "CONNECT_SECONDS", 0.05)
    async with connected(Gateway()) as client:
        with monkeypatch.context() as patched:
            patched.setattr(trio, "open_tcp_stream", never)
            with pytest.raises(trio_ssh.ChannelException, match="connect failed"):
                await client.open_tcp_stream("10.0.0.1", 9)


async def test_a_connection_ends_with_the_client() -> None:
    ended = trio.Event()

    async def wait(stream: trio.SocketStream) -> None:
        assert await stream.receive_some() == b"x"
        await stream.send_all(b"y")
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        ended.set()

    async with service(wait) as port:
        async with connected(Gateway()) as client:
            stream = await client.open_tcp_stream(LOOPBACK, port)
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"y"
        with trio.fail_after(10):
            await ended.wait()


class ChangesItsMind(Gateway):
    """Connects, and then refuses, fails or hangs up."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    async def check_channel_direct_tcpip_request(
        self, chanid: int, origin: Address, destination: Address
    ) -> trio_ssh.OpenResult:
        result = await super().check_channel_direct_tcpip_request(chanid, origin, destination)
        assert result is trio_ssh.OPEN_SUCCEEDED
        match self._how:
            case "refuses":
                return trio_ssh.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
            case "fails":
                raise RuntimeError("a bug")
            case "hangs up":
                await self.transport.aclose()
        return result


@pytest.mark.parametrize("how", ["refuses", "fails", "hangs up"])
async def test_a_connection_that_nobody_serves_is_closed(how: str) -> None:
    gone = trio.Event()

    async def wait(stream: trio.SocketStream) -> None:
        assert await stream.receive_some() == b""
        gone.set()

    async with service(wait) as port, connected(ChangesItsMind(how)) as client:
        with pytest.raises(trio_ssh.ConnectionLost if how == "hangs up" else trio_ssh.ChannelException):
            await client.open_tcp_stream(LOOPBACK, port)
        with trio.fail_after(10):
            await gone.wait()


# -- ports


async def test_who_connects_to_a_port_of_the_client_s_is_connected_to_it() -> None:
    async with connected(Gateway()) as client, trio.open_nursery() as nursery:
        port = await serving(client, nursery)
        data = bytes(range(256)) * (MIB // 256)
        assert await ask(await trio.open_tcp_stream(LOOPBACK, port), data) == data.upper()
        assert await ask(await trio.open_tcp_stream("::1", port), b"six") == b"SIX"
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            wanted = free.getsockname()[1]
        assert await serving(client, nursery, wanted) == wanted
        assert await ask(await trio.open_tcp_stream(LOOPBACK, wanted), b"chosen") == b"CHOSEN"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("address", ["", "*", "0.0.0.0", "localhost", "127.0.0.2"])
@pytest.mark.parametrize("gateway_ports", [False, True])
async def test_only_this_machine_can_connect_unless_the_server_lets_others(address: str, gateway_ports: bool) -> None:
    server = Gateway()
    server.gateway_ports = gateway_ports
    async with connected(server) as client, trio.open_nursery() as nursery:
        port = await serving(client, nursery, host=address)
        assert listens(port, "127.0.0.3") is (gateway_ports and address in ("", "*", "0.0.0.0"))
        host = "127.0.0.2" if gateway_ports and address == "127.0.0.2" else LOOPBACK
        assert await ask(await trio.open_tcp_stream(host, port), b"x") == b"X"
        nursery.cancel_scope.cancel()


async def test_a_port_is_closed_when_the_client_wants_and_who_has_come_stays() -> None:
    async with connected(Gateway()) as client, trio.open_nursery() as nursery:
        [listener] = await client.open_tcp_listeners(0)
        visitor = await trio.open_tcp_stream(LOOPBACK, listener.port)
        channel = await listener.accept()
        await listener.aclose()
        await client.run_process("echo")  # the request is behind us
        assert not listens(listener.port)
        nursery.start_soon(shout, channel)
        assert await ask(visitor, b"still here") == b"STILL HERE"
        await client.get_transport().cancel_port_forward("localhost", listener.port)  # once more does nothing


async def test_ports_end_with_the_connection() -> None:
    server = Gateway()
    async with connected(server) as client:
        [listener] = await client.open_tcp_listeners(0)
        assert listens(listener.port)
        await server.transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not listens(listener.port)


async def test_a_port_that_cannot_be_had_is_refused() -> None:
    async with connected(Gateway()) as client:
        with socket.create_server((LOOPBACK, 0)) as taken:
            for address, port in (("localhost", taken.getsockname()[1]), ("localhost", 70000)):
                with pytest.raises((trio_ssh.RequestRefused, ValueError)):
                    await client.open_tcp_listeners(port, host=address)
    server = Gateway()
    server.gateway_ports = True
    async with connected(server) as client:
        for address in ("no.such.host.invalid", "192.0.2.1", "nul\0"):
            with pytest.raises(trio_ssh.RequestRefused):
                await client.open_tcp_listeners(0, host=address)


async def test_a_client_has_no_more_ports_than_its_limit() -> None:
    limits = trio_ssh.Limits(forwarded_ports=2)
    async with connected(Gateway(), server_limits=limits) as client:
        first, _ = [(await client.open_tcp_listeners(0))[0] for _ in range(2)]
        with pytest.raises(trio_ssh.RequestRefused):
            await client.open_tcp_listeners(0)
        await first.aclose()
        await client.open_tcp_listeners(0)


async def test_a_client_that_takes_no_more_channels_costs_its_visitors_and_nobody_else() -> None:
    async with connected(Gateway()) as client:
        [listener] = await client.open_tcp_listeners(0)
        limit = trio_ssh.Limits().forwarded_backlog
        visitors = [await trio.open_tcp_stream(LOOPBACK, listener.port) for _ in range(limit + 1)]
        ends = 0
        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:

                async def watch(visitor: trio.SocketStream) -> None:
                    nonlocal ends
                    assert await visitor.receive_some() == b""
                    ends += 1
                    nursery.cancel_scope.cancel()

                for visitor in visitors:
                    nursery.start_soon(watch, visitor)
        assert ends == 1
        assert (await client.run_process("echo", stdin=b"on", capture_stdout=True)).stdout == b"on"
        for visitor in visitors:
            await visitor.aclose()


async def test_visitors_who_do_not_read_are_held_to_the_number_of_channels(caplog: pytest.LogCaptureFixture) -> None:
    """The client has closed their channels, so these don't count any more."""
    limits = trio_ssh.Limits(channels=3, sessions=1)
    async with connected(Gateway(), server_limits=limits) as client:
        [listener] = await client.open_tcp_listeners(0)
        visitors: list[trio.SocketStream] = []
        for _ in range(3):
            visitors.append(await trio.open_tcp_stream(LOOPBACK, listener.port))
            visitors[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            channel = await listener.accept()
            with trio.move_on_after(0.2):
                await channel.send_all(bytes(16 * MIB))
            await channel.aclose()
        with trio.fail_after(5):
            turned_away = await trio.open_tcp_stream(LOOPBACK, listener.port)
            assert await turned_away.receive_some() == b""
            assert "3 others are" in caplog.text
            await visitors.pop().aclose()
            await trio.testing.wait_all_tasks_blocked(0.05)
            visitors.append(await trio.open_tcp_stream(LOOPBACK, listener.port))
            await listener.accept()
        for visitor in (*visitors, turned_away):
            await visitor.aclose()


async def test_a_port_that_breaks_is_logged_and_ends_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(trio.abc.Listener[trio.SocketStream]):
        def __init__(self, listener: trio.SocketListener) -> None:
            self.socket = listener.socket

        async def accept(self) -> trio.SocketStream:
            await trio.lowlevel.checkpoint()
            raise OSError("broken")

        async def aclose(self) -> None:
            self.socket.close()

    opening = server_forwarding._open_listeners

    async def broken(hosts: Any, port: int) -> Any:
        return [Breaks(listener) for listener in await opening(hosts, port)]

    monkeypatch.setattr(server_forwarding, "_open_listeners", broken)
    async with connected(Gateway()) as client:
        await client.open_tcp_listeners(0)
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.run_process("echo", stdin=b"on", capture_stdout=True)).stdout == b"on"
    assert "for a client failed" in caplog.text
    assert "broken" in caplog.text
