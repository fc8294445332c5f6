"""Ports that a client forwards, to and from a server in memory; tests/interop/test_forwarding.py does it with sshd."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB, OpenDoor, cancel_everywhere, client_of
from trio_ssh.config.forwards import _open_if_permitted
from trio_ssh.core.events import CloseArrived, GlobalRequestArrived, OpenAnswered
from trio_ssh.dialing import Dialer
from trio_ssh.forwarding import by_socks
from trio_ssh.runtime.pump import join_streams
from trio_ssh.socks import SocksError, SocksRequest
from trio_ssh.testing import memory_pair, open_memory_client
from trio_ssh.wire.connection import (
    ForwardedStreamlocalChannel,
    StreamlocalChannel,
    TcpipChannel,
    TcpipForward,
    TcpipForwardReply,
)

LOOPBACK = "127.0.0.1"

Serve = Callable[[trio_ssh.Channel], Awaitable[None]]


async def shout(channel: trio.abc.HalfCloseableStream) -> None:
    """Read all there is, and only then answer: for which each direction needs an EOF of its own."""
    data = b"".join([bytes(chunk) async for chunk in channel])
    await channel.send_all(data.upper())
    await channel.send_eof()


class Server(OpenDoor):
    """Forwards, and remembers what it was asked."""

    def __init__(self, serve: Serve = shout, port: int = 4022) -> None:
        super().__init__()
        self._serve = serve
        self._port = port
        self.told: list[object] = []

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> trio_ssh.OpenResult:
        self.told.append((destination, origin[0]))
        match destination[0]:
            case "forbidden":
                return trio_ssh.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
            case "dead":
                return trio_ssh.OPEN_FAILED_CONNECT_FAILED
            case _:
                return trio_ssh.OPEN_SUCCEEDED

    async def handle_channel(self, channel: trio_ssh.Channel, destination: tuple[str, int] | None) -> None:
        await self._serve(channel)

    def check_port_forward_request(self, address: str, port: int) -> int | bool:
        self.told.append(("listen", address, port))
        return False if address == "forbidden" else port or self._port

    def cancel_port_forward_request(self, address: str, port: int) -> None:
        self.told.append(("cancel", address, port))

    def check_global_request(self, kind: str, msg: trio_ssh.Message) -> bool:
        self.told.append((kind, msg.get_text()))
        return True

    async def forwarded(self, address: str = "localhost", port: int = 4022) -> trio_ssh.Channel:
        """Have somebody connect to a port that is forwarded."""
        return await self.transport.open_channel("forwarded-tcpip", (address, port), ("192.0.2.1", 5))


@asynccontextmanager
async def connected(
    serve: Serve = shout, **options: Any
) -> AsyncGenerator[tuple[trio_ssh.SSHClient, Server, trio.Nursery], None]:
    """A client, its server, and a nursery that is cancelled at the end."""
    server = Server(serve)
    with trio.fail_after(30):
        async with open_memory_client(server, host_key=HOST_KEY, **options) as client, trio.open_nursery() as nursery:
            yield client, server, nursery
            nursery.cancel_scope.cancel()


def port_of(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def ask(stream: trio.abc.HalfCloseableStream, data: bytes) -> bytes:
    """Send all there is, and only then read the answer up to its end."""
    async with stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        nursery.start_soon(send)
        chunks = [bytes(chunk) async for chunk in stream]
    return b"".join(chunks)


def listens(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody does there."""
    with socket.socket() as attempt:
        return attempt.connect_ex((host, port)) == 0


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- two streams, joined


async def test_each_direction_has_an_end_of_its_own() -> None:
    ours, left = memory_pair()
    right, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(join_streams, left, right)
        nursery.start_soon(shout, theirs)
        assert await ask(ours, b"hello " * 1000) == b"HELLO " * 1000
    with pytest.raises(trio.ClosedResourceError):
        await left.receive_some()


@pytest.mark.parametrize("is_first", [False, True])
async def test_a_side_that_goes_away_takes_the_other_with_it(is_first: bool) -> None:
    ours, left = memory_pair()
    right, theirs = memory_pair()
    gone, stays = (ours, theirs) if is_first else (theirs, ours)
    async with trio.open_nursery() as nursery:

        async def join() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await join_streams(left, right)

        nursery.start_soon(join)
        await gone.aclose()
        await stays.send_all(b"nobody is there")
        assert await stays.receive_some() == b""


async def test_joining_can_be_cancelled_anywhere_and_closes_both() -> None:
    async def scenario() -> None:
        ours, left = memory_pair()
        right, theirs = memory_pair()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(join_streams, left, right)
                nursery.start_soon(shout, theirs)
                await ours.send_all(b"hello")
                await ours.send_eof()
                assert await ours.receive_some() == b"HELLO"
        finally:
            for stream in (left, right):
                with trio.CancelScope(shield=True), pytest.raises(trio.ClosedResourceError):
                    await stream.receive_some()

    assert await cancel_everywhere(scenario) > 3
    assert await cancel_everywhere(scenario, at_steps_of_others=True) > 3


async def test_what_was_sent_before_a_channel_was_closed_arrives_though_the_other_side_never_ends() -> None:
    async def pour(channel: trio_ssh.Channel) -> None:
        await channel.send_all(bytes(MIB))

    async with connected(pour) as (client, _, nursery):
        ours, theirs = memory_pair()
        nursery.start_soon(join_streams, await client.open_tcp_stream("host", 1), theirs)
        await trio.testing.wait_all_tasks_blocked()  # EOF and CLOSE have come, and wait behind the data
        assert sum([len(chunk) async for chunk in ours]) == MIB


# -- a port here


async def test_a_port_here_leads_to_one_there() -> None:
    async with connected() as (client, server, nursery):
        listeners = await nursery.start(client.forward_local_port, 0, "web.internal", 80)
        assert [listener.socket.getsockname()[0] for listener in listeners] == [LOOPBACK]
        data = os.urandom(MIB)
        assert await ask(await trio.open_tcp_stream(LOOPBACK, port_of(listeners)), data) == data.upper()
        assert server.told == [(("web.internal", 80), LOOPBACK)]


async def test_many_go_through_at_once() -> None:
    async with connected() as (client, _, nursery):
        port = port_of(await nursery.start(client.forward_local_port, 0, "host", 1))

        async def go(data: bytes) -> None:
            assert await ask(await trio.open_tcp_stream(LOOPBACK, port), data * 10_000) == data.upper() * 10_000

        async with trio.open_nursery() as several:
            for number in range(30):
                several.start_soon(go, b"number %d;" % number)


@pytest.mark.parametrize("host", ["", "*"])
async def test_it_listens_for_everyone_if_it_is_told_to(host: str) -> None:
    async with connected() as (client, _, nursery):
        listeners = await nursery.start(partial(client.forward_local_port, 0, "host", 1, listen_host=host))
        assert {listener.socket.getsockname()[0] for listener in listeners} <= {"0.0.0.0", "::"}


async def test_who_is_refused_is_hung_up_on_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (client, _, nursery):
        port = port_of(await nursery.start(client.forward_local_port, 0, "forbidden", 1))
        for _ in range(2):
            async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                assert await stream.receive_some() == b""
        assert len(warnings_of(caplog)) == 2
        assert "not forwarded to forbidden:1: the peer refused the channel (administratively" in caplog.text


async def test_more_than_the_connection_may_have_are_refused_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(client_limits=trio_ssh.Limits(channels=2)) as (client, _, nursery):
        port = port_of(await nursery.start(client.forward_local_port, 0, "host", 1))
        kept = [await trio.open_tcp_stream(LOOPBACK, port) for _ in range(2)]
        while len(client.transport._channels) < 2:  # noqa: ASYNC110 -- nobody tells
            await trio.sleep(0.001)
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            assert await stream.receive_some() == b""
        assert "the limit is 2" in caplog.text
        for stream in kept:
            assert await ask(stream, b"hello") == b"HELLO"


async def test_it_can_not_listen_where_somebody_does() -> None:
    async with connected() as (client, _, nursery):
        port = port_of(await nursery.start(client.forward_local_port, 0, "host", 1))
        with pytest.raises(OSError, match="in use"):
            await client.forward_local_port(port, "host", 1)


def calls(client: trio_ssh.SSHClient) -> dict[str, Callable[..., Awaitable[None]]]:
    return {
        "local": partial(client.forward_local_port, 0, "host", 1),
        "remote": partial(client.forward_remote_port, 0, LOOPBACK, 1),
        "socks": partial(client.serve_socks, 0),
    }


@pytest.mark.parametrize("is_closed_here", [False, True])
@pytest.mark.parametrize("kind", ["local", "remote", "socks"])
async def test_it_ends_with_the_connection_and_says_so(kind: str, is_closed_here: bool) -> None:
    async with connected() as (client, server, nursery):
        ends: list[type[Exception]] = []

        async def forward(**options: Any) -> None:
            try:
                await calls(client)[kind](**options)
            except (trio_ssh.ConnectionLost, trio.ClosedResourceError) as error:
                ends.append(type(error))

        await nursery.start(forward)
        await (client if is_closed_here else server.transport).aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert ends == [trio.ClosedResourceError if is_closed_here else trio_ssh.PeerDisconnected]


@pytest.mark.parametrize("kind", ["local", "remote", "socks"])
async def test_nobody_forwards_who_is_not_connected(kind: str) -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.LocalProtocolError, match="not connected"):
            await calls(client)[kind]()


async def test_cancelled_in_the_middle_of_a_transfer_it_leaves_nothing() -> None:
    ended: list[str] = []

    async def pour(channel: trio_ssh.Channel) -> None:
        try:
            while True:
                await channel.send_all(bytes(64 * KIB))
        finally:
            ended.append("pour")

    async with connected(pour) as (client, _, nursery):
        transport = client.get_transport()
        assert transport is not None
        living = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as inner:
            port = port_of(await inner.start(client.forward_local_port, 0, "host", 1))
            stream = await trio.open_tcp_stream(LOOPBACK, port)
            await stream.receive_some()
            inner.cancel_scope.cancel()
        async with stream:
            with pytest.raises(trio.BrokenResourceError):  # what was unread is gone, and so is the other end
                while True:
                    await stream.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ended == ["pour"]
        assert not transport._channels
        # The writer was started meanwhile, and stays.
        assert trio.lowlevel.current_statistics().tasks_living <= living + 2
        assert not listens(port)
        assert not nursery.child_tasks


@pytest.mark.parametrize("kind", ["local", "remote", "socks"])
async def test_it_can_be_cancelled_anywhere_and_leaves_neither_socket_nor_channel(kind: str) -> None:
    async with connected() as (client, server, _):
        transport = client.get_transport()
        assert transport is not None

        async def scenario() -> None:
            async with trio.open_nursery() as nursery:
                target = port_of(await nursery.start(partial(trio.serve_tcp, shout, 0, host=LOOPBACK)))
                if kind == "remote":
                    await nursery.start(client.forward_remote_port, 0, LOOPBACK, target)
                    assert await ask(await server.forwarded(), b"hello") == b"HELLO"
                else:
                    port = port_of(await nursery.start(calls(client)[kind]))
                    async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                        if kind == "socks":
                            await stream.send_all(request_4(b"web"))
                            assert await stream.receive_some(8) == b"\0\x5a" + bytes(6)
                        assert await ask(stream, b"hello") == b"HELLO"
                nursery.cancel_scope.cancel()

        async def check() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert not transport._channels

        await scenario()  # starts what stays
        await check()
        assert await cancel_everywhere(scenario, check) > 5


# -- a port there


async def test_what_is_accepted_there_is_a_stream_here() -> None:
    async with connected() as (client, server, _):
        listeners = await client.open_tcp_listeners(0)
        [listener] = listeners
        assert (listener.host, listener.port, listener.path) == ("localhost", 4022, None)
        assert repr(listener) == "<RemoteListener at localhost:4022>"
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.serve_listeners, shout, listeners)
            data = os.urandom(MIB)
            assert await ask(await server.forwarded(), data) == data.upper()
            inner.cancel_scope.cancel()
        assert repr(listener) == "<RemoteListener at localhost:4022, closed>"
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        with pytest.raises(trio_ssh.ChannelException, match="administratively"):
            await server.forwarded()
        assert server.told == [("listen", "localhost", 0), ("cancel", "localhost", 4022)]


async def test_whoever_waits_hears_that_a_listener_was_closed() -> None:
    async with connected() as (client, _, _):
        [listener] = await client.open_tcp_listeners(0)

        async def accept() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        async with trio.open_nursery() as inner:
            inner.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            await listener.aclose()


async def test_a_channel_says_where_its_peer_comes_from() -> None:
    async with connected() as (client, server, _):
        [listener] = await client.open_tcp_listeners(0)
        await server.forwarded()
        assert (await listener.accept()).get_name() == "from 192.0.2.1:5"


async def test_a_port_there_leads_to_one_here() -> None:
    async with connected() as (client, server, nursery):
        listeners = await nursery.start(partial(trio.serve_tcp, shout, 0, host=LOOPBACK))
        target = port_of(listeners)
        assert await nursery.start(client.forward_remote_port, 0, LOOPBACK, target) == 4022
        assert await nursery.start(client.forward_remote_port, 9, LOOPBACK, target) == 9
        for port in (4022, 9):
            assert await ask(await server.forwarded(port=port), b"hello") == b"HELLO"


async def test_where_nobody_listens_here_the_connection_is_closed_there(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (client, server, nursery):
        await nursery.start(client.forward_remote_port, 0, LOOPBACK, 1)
        assert await ask(await server.forwarded(), b"") == b""
        assert "a connection was not forwarded from port 4022 of the server: " in caplog.text


async def test_cancelled_the_server_is_told_to_listen_no_more() -> None:
    async with connected() as (client, server, _):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(client.forward_remote_port, 0, LOOPBACK, 1, listen_host="*"))
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert server.told == [("listen", "", 0), ("cancel", "", 4022)]


async def test_a_server_that_does_not_listen_is_an_error() -> None:
    async with connected() as (client, server, _):
        with pytest.raises(trio_ssh.RequestRefused, match=r"does not listen at forbidden:7"):
            await client.open_tcp_listeners(7, host="forbidden")
        with pytest.raises(trio_ssh.RequestRefused):
            await client.forward_remote_port(7, "x", 1, listen_host="forbidden")
        assert [told for told in server.told if told[0] == "cancel"] == []  # type: ignore[index]
        for port in (-1, 65536):
            with pytest.raises(ValueError, match=r"a port is 0 \.\. 65535"):
                await client.open_tcp_listeners(port)


async def test_waiting_for_a_connection_ends_with_the_connection_to_the_server() -> None:
    async with connected() as (client, server, nursery):
        [listener] = await client.open_tcp_listeners(0)
        lost: list[Exception] = []

        async def accept() -> None:
            try:
                await listener.accept()
            except trio_ssh.ConnectionLost as error:
                lost.append(error)

        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        await server.transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(lost) == 1
        with pytest.raises(trio_ssh.ConnectionLost):
            await listener.accept()
        await listener.aclose()
        with pytest.raises(trio_ssh.ConnectionLost):
            await client.open_tcp_listeners(0)


async def test_a_client_that_connects_again_has_nothing_of_before() -> None:
    async with trio_ssh.SSHClient() as client:
        for _ in range(2):
            server = Server()
            ours, theirs = memory_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server, host_keys=[HOST_KEY]))
                known = trio_ssh.HostKeys()
                known.add("memory", None, HOST_KEY.public_key)
                await client.connect(
                    "memory", username="user", known_hosts=known, sock=ours, look_for_keys=False, config=None
                )
                [listener] = await client.open_tcp_listeners(0)
                await server.forwarded()
                await listener.accept()
                await client.aclose()


@pytest.mark.parametrize(
    ("asked", "said", "is_taken"),
    [
        ("localhost", "localhost", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("localhost", "192.0.2.1", False),
        ("localhost", "", False),
        ("", "", True),
        ("*", "", True),
        ("*", "0.0.0.0", True),
        ("", "192.0.2.1", True),
        ("0.0.0.0", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::1", "0:0::1", True),
        ("Host.example", "host.example", True),
        ("host.example", "192.0.2.1", False),
    ],
)
async def test_a_server_may_call_the_address_what_it_is(asked: str, said: str, is_taken: bool) -> None:
    async with connected() as (client, server, _):
        [listener] = await client.open_tcp_listeners(0, host=asked)
        if is_taken:
            await server.forwarded(said)
            await listener.accept()
        else:
            with pytest.raises(trio_ssh.ChannelException, match="administratively"):
                await server.forwarded(said)


async def test_of_two_listeners_at_one_port_each_has_its_own() -> None:
    async with connected() as (client, server, _):
        [everywhere] = await client.open_tcp_listeners(9, host="")
        [here] = await client.open_tcp_listeners(9)
        await server.forwarded("localhost", 9)
        await server.forwarded("192.0.2.1", 9)
        assert here._receiver.statistics().current_buffer_used == 1
        assert everywhere._receiver.statistics().current_buffer_used == 1


# -- UNIX sockets


async def test_sockets_with_paths_are_asked_for_as_openssh_has_it(tmp_path: Path) -> None:
    asked: list[tuple[str, bytes]] = []

    class Streamlocal(Server):
        def open_requested(self, channel: trio_ssh.Channel, details: bytes) -> Any:
            asked.append((channel.kind, details))
            return super().open_requested(channel, details)

    server = Streamlocal()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        assert await ask(await client.open_unix_stream(Path("/run/x.sock")), b"hello") == b"HELLO"
        assert asked == [("direct-streamlocal@openssh.com", StreamlocalChannel("/run/x.sock", b"", 0).encode())]
        [listener] = await client.open_unix_listeners("/run/y.sock")
        assert (listener.path, listener.port) == ("/run/y.sock", 0)
        assert repr(listener) == "<RemoteListener at /run/y.sock>"
        details = ForwardedStreamlocalChannel("/run/y.sock", b"").encode()
        theirs = await server.transport._open("forwarded-streamlocal@openssh.com", details)
        async with await listener.accept() as ours:
            await ours.send_all(b"x")
            assert await theirs.receive_some() == b"x"
        with pytest.raises(trio_ssh.ChannelException, match="administratively"):
            details = ForwardedStreamlocalChannel("/run/z.sock", b"").encode()
            await server.transport._open("forwarded-streamlocal@openssh.com", details)
        await listener.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.told == [
            ("streamlocal-forward@openssh.com", "/run/y.sock"),
            ("cancel-streamlocal-forward@openssh.com", "/run/y.sock"),
        ]


# -- SOCKS


async def socks(port: int, request: bytes, answer_bytes: int) -> tuple[trio.SocketStream, bytes]:
    stream = await trio.open_tcp_stream(LOOPBACK, port)
    await stream.send_all(request)
    answer = b""
    while len(answer) < answer_bytes and (data := await stream.receive_some(answer_bytes - len(answer))):
        answer += data
    return stream, answer


def request_5(host: bytes) -> bytes:
    return b"\5\1\0" + b"\5\1\0\3" + bytes([len(host)]) + host + b"\0\x50"


def request_4(host: bytes) -> bytes:
    return b"\4\1\0\x50\0\0\0\1me\0" + host + b"\0"


async def test_a_socks_client_goes_where_it_wants() -> None:
    async with connected() as (client, server, nursery):
        port = port_of(await nursery.start(client.serve_socks, 0))
        stream, answer = await socks(port, request_5(b"web.internal"), 12)
        assert answer == b"\5\0" + b"\5\0\0\1" + bytes(6)
        assert await ask(stream, b"hello") == b"HELLO"
        # Who doesn't wait for the answer loses nothing.
        stream, answer = await socks(port, request_4(b"web.internal") + b"first ", 8)
        assert answer == b"\0\x5a" + bytes(6)
        assert await ask(stream, b"and last") == b"FIRST AND LAST"
        assert server.told == [(("web.internal", 80), LOOPBACK)] * 2


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (request_5(b"forbidden"), b"\5\0" + b"\5\2\0\1" + bytes(6)),
        (request_5(b"dead"), b"\5\0" + b"\5\5\0\1" + bytes(6)),
        (request_4(b"forbidden"), b"\0\x5b" + bytes(6)),
        (b"\5\1\2", b"\5\xff"),
        (b"GET / HTTP/1.0\r\n\r\n", b""),
        (b"\4\1\0\x50\0\0\0\1" + b"u" * 256, b"\0\x5b" + bytes(6)),
    ],
)
async def test_who_asks_for_what_can_not_be_had_is_told_so(
    request_: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected() as (client, _, nursery):
        port = port_of(await nursery.start(client.serve_socks, 0))
        stream, told = await socks(port, request_, 100)
        async with stream:
            assert told == answer
        assert "a connection was not forwarded by SOCKS: " in caplog.text
        stream, told = await socks(port, request_5(b"web"), 12)
        assert await ask(stream, b"x") == b"X"


async def test_who_has_no_channel_left_is_told_so_too() -> None:
    async with connected(client_limits=trio_ssh.Limits(channels=1)) as (client, _, nursery):
        port = port_of(await nursery.start(client.serve_socks, 0))
        first, _ = await socks(port, request_5(b"web"), 12)
        second, told = await socks(port, request_5(b"web"), 12)
        assert told[2:4] == b"\5\1"
        await first.aclose()
        await second.aclose()


async def test_a_client_that_is_slow_to_say_what_it_wants_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def open_for(request: SocksRequest, stream: trio.abc.HalfCloseableStream) -> trio.abc.HalfCloseableStream:
        raise AssertionError("it never says all of it")

    ours, theirs = memory_pair()
    connect = by_socks(trio_ssh.Limits(socks_seconds=30), open_for)
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            await ours.send_all(b"\4\1\0\x50\0\0\0\1")
            while True:
                await ours.send_all(b"u")
                await trio.sleep(1)

        nursery.start_soon(drip)
        with pytest.raises(SocksError, match="within 30 seconds"):
            await connect(theirs)
        assert trio.current_time() >= 30
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_is_no_reason_to_complain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_ssh.forwarding")
    async with connected() as (client, _, nursery):
        port = port_of(await nursery.start(client.serve_socks, 0))
        for data in (b"", b"\5", request_5(b"web")[:-1]):
            stream, _ = await socks(port, data, 0)
            await stream.aclose()
        with trio.fail_after(10):
            while caplog.text.count("broke off") < 3:  # noqa: ASYNC110 -- a log sets no event
                await trio.sleep(0.001)
        assert warnings_of(caplog) == []


# -- servers that do what they like


async def hostile_open(client_: Any, details: bytes, kind: str = "forwarded-tcpip") -> int:
    """Have a hand-moved server open a channel; return the client's answer."""
    _, peer = client_
    peer.side.connection.mux.open_channel(kind, details)
    known = len(peer.side.of(OpenAnswered))
    await peer.until(lambda side: len(side.of(OpenAnswered)) > known)
    code: int = peer.side.of(OpenAnswered)[-1].code
    return code


CHANNEL = TcpipChannel("localhost", 4022, "192.0.2.1", 5).encode()


@asynccontextmanager
async def at_hand() -> AsyncGenerator[Any, None]:
    with trio.fail_after(30):
        ours, theirs = memory_pair()
        async with client_of(theirs, ours) as pair:
            yield pair


async def listening(pair: Any, reply: bytes = TcpipForwardReply(4022).encode(), *, behind: bytes = b"") -> Any:
    """Let the client ask for a port, and answer; with `behind`, open a channel in the same packet's breath."""
    client, peer = pair
    listeners: list[Any] = []

    async def listen() -> None:
        try:
            listeners.extend(await client.open_tcp_listeners(0))
        except trio_ssh.SSHException as error:
            listeners.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await peer.until(lambda side: side.of(GlobalRequestArrived))
        peer.side.connection.mux.reply_global(is_success=True, wants_reply=True, details=reply)
        if behind:
            peer.side.connection.mux.open_channel("forwarded-tcpip", behind)
        await peer.send()
    return listeners[0]


async def test_channels_that_nobody_asked_for_are_refused() -> None:
    async with at_hand() as pair:
        assert await hostile_open(pair, CHANNEL) == 1
        listener = await listening(pair)
        for details in (
            TcpipChannel("localhost", 4023, "x", 1).encode(),
            TcpipChannel("192.0.2.9", 4022, "x", 1).encode(),
            TcpipChannel("localhost", 0, "x", 1).encode(),
        ):
            assert await hostile_open(pair, details) == 1
        unix = ForwardedStreamlocalChannel("/run/x", b"").encode()
        assert await hostile_open(pair, unix, "forwarded-streamlocal@openssh.com") == 1
        assert await hostile_open(pair, b"", "session") == 1
        assert await hostile_open(pair, CHANNEL) == 0
        await listener.accept()


async def test_a_flood_of_them_is_held_to_the_backlog() -> None:
    async with at_hand() as pair:
        client, peer = pair
        listener = await listening(pair)
        for _ in range(200):
            peer.side.connection.mux.open_channel("forwarded-tcpip", CHANNEL)
        await peer.until(lambda side: len(side.of(OpenAnswered)) == 200)
        codes = [answered.code for answered in peer.side.of(OpenAnswered)]
        most = trio_ssh.Limits().forwarded_backlog
        assert codes == [0] * most + [4] * (200 - most)
        transport = client.get_transport()
        assert len(transport._channels) == most
        # One is taken: there is room for one again.
        taken = await listener.accept()
        assert await hostile_open(pair, CHANNEL) == 0
        assert await hostile_open(pair, CHANNEL) == 4
        await listener.aclose()
        await peer.until(lambda side: len(side.of(CloseArrived)) == most)
        assert not taken.closed
        assert await hostile_open(pair, CHANNEL) == 1


async def test_a_channel_that_comes_along_with_the_answer_is_taken() -> None:
    async with at_hand() as pair:
        listener = await listening(pair, behind=CHANNEL)
        with trio.fail_after(10):
            await listener.accept()


@pytest.mark.parametrize("port", [0, 65536, 2**32 - 1])
async def test_a_port_that_can_not_be_ends_the_connection(port: int) -> None:
    async with at_hand() as pair:
        error = await listening(pair, TcpipForwardReply(port).encode())
        assert isinstance(error, trio_ssh.RemoteProtocolError)
        assert not pair[0].get_transport().is_active()


@pytest.mark.parametrize("reply", [b"", b"\0\0\0", b"\0\0\x0f\xb6\0"])
async def test_so_does_an_answer_that_is_no_number(reply: bytes) -> None:
    async with at_hand() as pair:
        error = await listening(pair, reply)
        assert isinstance(error, trio_ssh.RemoteProtocolError)
        assert not pair[0].get_transport().is_active()


@pytest.mark.parametrize("details", [b"", CHANNEL[:-1], CHANNEL + b"\0"])
async def test_so_does_a_channel_whose_details_are_malformed(details: bytes) -> None:
    async with at_hand() as pair:
        client, peer = pair
        await listening(pair)
        peer.side.connection.mux.open_channel("forwarded-tcpip", details)
        await peer.send()
        await client.get_transport().wait_closed()
        assert isinstance(client.get_transport().get_exception(), trio_ssh.RemoteProtocolError)


async def test_who_is_cancelled_while_the_server_thinks_has_it_undone_when_it_answers() -> None:
    async with at_hand() as pair:
        client, peer = pair
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.open_tcp_listeners, 0)
            await peer.until(lambda side: side.of(GlobalRequestArrived))
            nursery.cancel_scope.cancel()
        peer.side.connection.mux.reply_global(
            is_success=True, wants_reply=True, details=TcpipForwardReply(4022).encode()
        )
        await peer.until(lambda side: len(side.of(GlobalRequestArrived)) == 2)
        request = peer.side.of(GlobalRequestArrived)[1]
        assert (request.name, request.wants_reply) == ("cancel-tcpip-forward", False)
        assert TcpipForward.decode(request.details) == TcpipForward("localhost", 4022)
        assert await hostile_open(pair, CHANNEL) == 1


async def test_listening_can_be_cancelled_anywhere_and_the_server_hears_of_it() -> None:
    async with connected() as (client, server, _):

        async def scenario() -> None:
            async with (await client.open_tcp_listeners(9))[0] as listener:
                channel = await server.forwarded(port=9)
                async with channel, await listener.accept():
                    pass

        async def check() -> None:
            await trio.testing.wait_all_tasks_blocked()
            told = [each[0] for each in server.told]  # type: ignore[index]
            assert told.count("listen") == told.count("cancel")
            transport = client.get_transport()
            assert transport is not None
            assert not transport._channels

        await scenario()  # starts what stays
        await check()
        assert await cancel_everywhere(scenario, check) > 3


async def test_a_name_that_nobody_can_have_is_refused_in_socks_own_words() -> None:
    async def open_for(request: SocksRequest, stream: trio.abc.HalfCloseableStream) -> trio.abc.HalfCloseableStream:
        return await _open_if_permitted(Dialer(), None, request, stream)

    for name in (b"a..b", b"x" * 64 + b".example"):
        ours, theirs = memory_pair()
        await ours.send_all(request_5(name))
        with pytest.raises(OSError, match="no host is called"):
            await by_socks(trio_ssh.Limits(), open_for)(theirs)
        told = b""
        while len(told) < 12:
            told += await ours.receive_some()
        assert told[:4] == b"\5\0\5\5"
