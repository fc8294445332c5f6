"""Cancelled at every checkpoint: nothing is left behind, nothing that a docstring keeps is lost, no group gets out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import (
    HOST_KEY,
    KIB,
    KNOWN_HOST,
    USER_KEY,
    Accepting,
    ChannelPairs,
    OpenDoor,
    cancel_everywhere,
    channel_pairs,
    echo,
    sleep,
)
from trio_ssh.testing import FaultyStream, memory_pair, open_memory_client

LogIn = Callable[[trio_ssh.Transport], Awaitable[None]]

#: A scenario that is cancelled this often was cancelled somewhere in every step that its name tells of.
MANY = 20


async def answer(title: str, instructions: str, prompts: object) -> list[str]:
    await trio.lowlevel.checkpoint()
    return ["secret"]


async def trust(key: trio_ssh.PublicKey) -> None:
    await trio.lowlevel.checkpoint()


def streams() -> tuple[FaultyStream, FaultyStream]:
    """Return the two ends of a pair that tell whether they were closed."""
    ours, theirs = memory_pair()
    return FaultyStream(ours), FaultyStream(theirs)


# -- the whole of a connection


async def test_a_client_and_its_server_leave_nothing() -> None:
    pairs: list[tuple[FaultyStream, FaultyStream]] = []

    async def scenario() -> None:
        pairs.append(streams())
        async with open_memory_client(OpenDoor(), host_key=HOST_KEY, streams=pairs[-1]) as client:
            await client.run_process("echo", stdin=b"hello", capture_stdout=True)

    async def check() -> None:
        assert all(stream.is_closed for stream in pairs[-1])

    assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= MANY


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param({}, id="none"),
        pytest.param({"password": "secret"}, id="password"),
        pytest.param({"pkey": USER_KEY}, id="publickey"),
        pytest.param({"prompt_handler": answer}, id="keyboard-interactive"),
    ],
)
async def test_connecting_closes_the_stream_wherever_it_is_cancelled(credentials: dict[str, object]) -> None:
    pairs: list[tuple[FaultyStream, FaultyStream]] = []

    async def scenario() -> None:
        pairs.append(streams())
        ours, theirs = pairs[-1]
        async with trio.open_nursery() as nursery:
            server = OpenDoor()
            nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, server, host_keys=[HOST_KEY]))
            async with trio_ssh.SSHClient() as client:
                await client.connect(
                    "memory",
                    username="user",
                    known_hosts=KNOWN_HOST,
                    look_for_keys=False,
                    sock=ours,
                    **credentials,  # type: ignore[arg-type]
                )
            nursery.cancel_scope.cancel()

    async def check() -> None:
        assert all(stream.is_closed for stream in pairs[-1])

    assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= MANY


async def test_a_client_whose_connect_was_cancelled_can_connect_again() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery, trio_ssh.SSHClient() as client:
            with trio.CancelScope() as scope:
                ours, _ = streams()
                nursery.start_soon(cancel_when_blocked, scope)  # noqa: ASYNC111 -- it ends before the scope
                await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, look_for_keys=False)
            assert scope.cancelled_caught
            assert ours.is_closed
            ours, theirs = streams()
            nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY]))
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, look_for_keys=False)
            done = await client.run_process("echo", stdin=b"hello", capture_stdout=True)
            assert done.stdout == b"hello"

    await scenario()


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


@pytest.mark.parametrize("role", ["client", "server"])
async def test_a_transport_leaves_nothing_in_either_role(role: str) -> None:
    pairs: list[tuple[FaultyStream, FaultyStream]] = []

    async def be_client(stream: trio.abc.Stream) -> None:
        async with trio_ssh.Transport(stream) as transport:
            await transport.start_client(check_host_key=trust)
            await transport.auth_password("user", "secret")
            channel = await transport.open_session()
            await channel.exec_command("anything")
            await channel.send_all(b"hello")
            await channel.send_eof()
            assert await channel.read() == b"hello"
            assert await channel.recv_exit_status() == 0
            await channel.aclose()
            await transport.ping()

    async def be_server(stream: trio.abc.Stream) -> None:
        async with trio_ssh.Transport(stream) as transport:
            transport.add_server_key(HOST_KEY)
            server = OpenDoor()
            server.transport = transport
            await transport.start_server(server)
            await transport.wait_authenticated()
            await transport.wait_closed()

    ours, theirs = (be_client, be_server) if role == "client" else (be_server, be_client)

    async def survive(function: Callable[[trio.abc.Stream], Awaitable[None]], stream: trio.abc.Stream) -> None:
        with suppress(trio_ssh.SSHException):  # the other side was cancelled
            await function(stream)

    async def scenario() -> None:
        pairs.append(streams())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(survive, theirs, pairs[-1][1])
            await ours(pairs[-1][0])

    async def check() -> None:
        assert all(stream.is_closed for stream in pairs[-1])

    assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= MANY


@pytest.mark.parametrize(
    "log_in",
    [
        pytest.param(lambda transport: transport.auth_none("user"), id="none"),
        pytest.param(lambda transport: transport.auth_password("user", "secret"), id="password"),
        pytest.param(lambda transport: transport.auth_publickey("user", USER_KEY), id="publickey"),
        pytest.param(lambda transport: transport.auth_interactive("user", answer), id="keyboard-interactive"),
    ],
)
async def test_an_authentication_that_was_cancelled_ends_the_connection(log_in: LogIn) -> None:
    async with trio.open_nursery() as servers:

        async def scenario() -> None:
            ours, theirs = streams()
            servers.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY]))
            async with trio_ssh.Transport(ours) as transport:
                with trio.CancelScope(shield=True):
                    await transport.start_client(check_host_key=trust)
                try:
                    await log_in(transport)
                except trio.Cancelled:
                    # Cancelled before anything was sent, it goes on; behind that it can't.
                    assert not transport.is_authenticated()
                    raise
                assert transport.is_authenticated()

        assert await cancel_everywhere(scenario, trio.testing.wait_all_tasks_blocked, at_steps_of_others=True) >= MANY


async def test_a_server_leaves_nothing_while_it_serves() -> None:
    pairs: list[tuple[FaultyStream, FaultyStream]] = []

    async def use(stream: trio.abc.Stream) -> None:
        try:
            async with trio_ssh.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, sock=stream, look_for_keys=False
            ) as client:
                await client.run_process("echo", stdin=b"hello", capture_stdout=True)
                await client.run_process("echo", capture_stdout=True)
        except trio_ssh.SSHException:
            pass  # the server was cancelled

    async def scenario() -> None:
        pairs.append(streams())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, pairs[-1][0])
            await trio_ssh.serve_stream(pairs[-1][1], OpenDoor(), host_keys=[HOST_KEY])

    async def check() -> None:
        assert all(stream.is_closed for stream in pairs[-1])

    assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= MANY


# -- one call on a connection that goes on


@asynccontextmanager
async def a_client(
    server: trio_ssh.ServerInterface | None = None,
) -> AsyncGenerator[tuple[trio_ssh.SSHClient, Callable[[], Awaitable[None]]], None]:
    """Log in, and make a check that the connection is as good as new: no channel is left, and it works."""
    server = server or OpenDoor()
    async with open_memory_client(server, host_key=HOST_KEY) as client:

        async def check() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert repr(client).endswith(", 0 channels>"), "a channel is left"
            assert repr(server.transport).endswith(", 0 channels>"), "the server has a channel left"

        yield client, check


async def test_opening_a_session_leaves_no_channel() -> None:
    async with a_client() as (client, check):

        async def scenario() -> None:
            channel = await client.open_session()
            with trio.CancelScope(shield=True):
                await channel.aclose()

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 3


class Forwarding(OpenDoor):
    """Agrees to forward, and leaves it to the test to open the channels."""

    def check_port_forward_request(self, address: str, port: int) -> int:
        return port


async def test_a_server_that_opens_a_channel_leaves_none() -> None:
    server = Forwarding()
    async with a_client(server) as (client, check), trio.open_nursery() as nursery:
        await client.transport.request_port_forward("", 4022)

        async def hang_up() -> None:
            while True:
                await (await client.transport.accept()).aclose()

        nursery.start_soon(hang_up)

        async def scenario() -> None:
            channel = await server.transport.open_channel("forwarded-tcpip", ("", 4022), ("192.0.2.1", 1))
            with trio.CancelScope(shield=True):
                await channel.aclose()

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("method", ["exec_command", "invoke_shell", "open_process"])
async def test_starting_a_command_leaves_no_channel(method: str) -> None:
    async with a_client() as (client, check):

        async def scenario() -> None:
            if method == "exec_command":
                channel = (await client.exec_command("echo", environment={}))[0].channel
            elif method == "invoke_shell":
                channel = await client.invoke_shell()
            else:
                channel = (await client.open_process("echo")).channel
            with trio.CancelScope(shield=True):
                await channel.aclose()

        if method == "invoke_shell":
            with pytest.raises(trio_ssh.RequestRefused, match="pty-req"):
                await cancel_everywhere(scenario, check)
            await check()
        else:
            assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 4


async def test_running_a_command_leaves_no_channel(autojump_clock: trio.testing.MockClock) -> None:
    begun: list[str | None] = []
    ended: dict[int, str] = {}

    async def handle(process: trio_ssh.ServerProcess) -> int:
        number = len(begun)
        begun.append(process.command)
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                async for name in process.signals:
                    process.exit_signal(name)
                    ended.setdefault(number, name)
                    nursery.cancel_scope.cancel()
                    return

            try:
                nursery.start_soon(obey)
                await echo(process)
                ended.setdefault(number, "by itself")
            except trio.Cancelled:
                ended.setdefault(number, "before it asked for signals")
                raise
            nursery.cancel_scope.cancel()
        return 0

    async with a_client(OpenDoor(handle)) as (client, check_client):

        async def check() -> None:
            await check_client()
            await trio.testing.wait_all_tasks_blocked()  # it may be on its way out
            assert len(begun) == len(ended), "a command was left to itself"

        async def scenario() -> None:
            done = await client.run_process("echo", stdin=bytes(300 * KIB), capture_stdout=True, capture_stderr=True)
            assert done.stdout == bytes(300 * KIB)

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 6
        assert set(ended.values()) >= {"TERM", "by itself"}


async def ends_of(pairs: ChannelPairs, role: str) -> tuple[trio_ssh.Channel, trio_ssh.Channel]:
    """Return a new channel's end of this role, and the other one."""
    client_end, server_end = await pairs.make()
    return (client_end, server_end) if role == "client" else (server_end, client_end)


@pytest.mark.parametrize("role", ["client", "server"])
async def test_sending_leaves_a_beginning_of_the_data_and_a_channel_that_works(role: str) -> None:
    data = bytes(range(256)) * (200 * KIB // 256)
    limits = trio_ssh.Limits(initial_window_bytes=64 * KIB, sessions=100)
    async with channel_pairs(limits=limits) as pairs:
        received: list[bytes] = []

        async def scenario() -> None:
            with trio.CancelScope(shield=True):
                ours, theirs = await ends_of(pairs, role)
            received.clear()

            async def drain() -> None:
                with trio.CancelScope(shield=True):
                    received.extend([chunk async for chunk in theirs])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain)
                try:
                    await ours.send_all(data)
                finally:
                    with trio.CancelScope(shield=True):
                        await ours.send_all(b"END")
                        await ours.aclose()

        async def check() -> None:
            if received:
                total = b"".join(received)
                assert total.endswith(b"END")
                assert data.startswith(total[:-3])

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 6
        assert b"".join(received) == data + b"END"


async def test_receiving_loses_nothing() -> None:
    data = bytes(range(256)) * (100 * KIB // 256)
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        received = bytearray()

        async def send() -> None:
            for _ in range(2):
                await theirs.send_all(data)
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for number in range(1, 100):
                with trio.CancelScope() as scope:
                    if number % 2:
                        nursery.start_soon(cancel_soon, scope, number % 5)  # noqa: ASYNC111 -- a late cancel is none
                    received += await ours.receive_some(3000)
                if len(received) == 2 * len(data):
                    break
                await trio.lowlevel.checkpoint()
        assert bytes(received) == data + data


@pytest.mark.parametrize("role", ["client", "server"])
async def test_receiving_loses_nothing_wherever_it_is_cancelled(role: str) -> None:
    data = bytes(range(256)) * (50 * KIB // 256)
    async with channel_pairs(limits=trio_ssh.Limits(initial_window_bytes=16 * KIB, sessions=100)) as pairs:
        received = bytearray()

        async def scenario() -> None:
            with trio.CancelScope(shield=True):
                ours, theirs = await ends_of(pairs, role)
            received.clear()

            async def send() -> None:
                with trio.CancelScope(shield=True):
                    await theirs.send_all(data)
                    await theirs.aclose()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                try:
                    while part := await ours.receive_some(7000):
                        received.extend(part)
                finally:
                    with trio.CancelScope(shield=True):
                        received.extend(await ours.read())
                        await ours.aclose()

        async def check() -> None:
            assert received in (b"", data)

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 6
        assert received == data


async def cancel_soon(scope: trio.CancelScope, checkpoints: int) -> None:
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("role", ["client", "server"])
async def test_closing_closes_wherever_it_is_cancelled(role: str) -> None:
    async with channel_pairs() as pairs:

        async def scenario() -> None:
            with trio.CancelScope(shield=True):
                ours, theirs = await ends_of(pairs, role)
            ends.append((ours, theirs))
            await ours.aclose()

        async def check() -> None:
            ours, theirs = ends[-1]
            assert ours.closed
            assert await theirs.receive_some() == b""
            with pytest.raises(trio.BrokenResourceError):
                await theirs.send_all(b"x")

        ends: list[tuple[trio_ssh.Channel, trio_ssh.Channel]] = []
        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 3


@pytest.mark.parametrize("method", ["ping", "renegotiate_keys", "global_request"])
async def test_a_request_that_was_cancelled_does_not_confuse_the_next(method: str) -> None:
    async with a_client() as (client, check):
        transport = client.get_transport()
        assert transport is not None

        async def scenario() -> None:
            if method == "global_request":
                await transport.global_request("no-more-sessions@openssh.com")
            else:
                await getattr(transport, method)()

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 3
        with pytest.raises(trio_ssh.RequestRefused, match="unheard"):
            await transport.global_request("unheard of")


async def test_accepting_loses_no_channel() -> None:
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        with trio.move_on_after(0):
            await server.transport.accept()
        ours = await client.open_session()
        with trio.CancelScope() as scope:
            scope.cancel()
            await server.transport.accept()
        theirs = await server.transport.accept()
        await theirs.send_all(b"hello")
        assert await ours.receive_some() == b"hello"


async def test_a_handler_is_cancelled_with_its_connection() -> None:
    endings: list[str] = []

    async def handle(process: trio_ssh.ServerProcess) -> int:
        try:
            return await sleep(process)
        finally:
            endings.append("cancelled")

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        await client.open_process("sleep")
    assert endings == ["cancelled"]
