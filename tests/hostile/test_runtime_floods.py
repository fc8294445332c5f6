"""Clients that make work for a server with its tasks: the others have their turn, and what is asked has an end."""

from __future__ import annotations

import errno
import os
import resource
import socket
from functools import partial

import pytest
import trio
import trio.testing

import trio_ssh
from tests.hostile.test_runtime_close_calls import open_channel
from tests.hostile.test_runtime_server import Siege, besieged
from tests.runtime.helpers import HOST_KEY, KIB, KNOWN_HOST, MemoryListener, OpenDoor, listening
from trio_ssh.core.connection import Connection
from trio_ssh.core.events import ExchangeFinished
from trio_ssh.core.phases import Phase
from trio_ssh.testing import memory_pair
from trio_ssh.wire.connection import ExecRequest
from trio_ssh.wire.transport import Ignore, Ping, Pong, ServiceRequest
from trio_ssh.wire.userauth import UserauthRequest


class PacketsPerStep(trio.abc.Instrument):
    """Counts the packets that a core opens in one step of one task: the most of all steps."""

    def __init__(self, connection: Connection) -> None:
        self._inbound = connection._inbound
        self._before = 0
        self.most = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._inbound.packets_since_keys

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.most = max(self.most, self._inbound.packets_since_keys - self._before)


async def test_others_have_their_turn_in_the_middle_of_a_flood() -> None:
    count = 20_000
    async with besieged() as siege:
        await siege.log_in()
        counter = PacketsPerStep(siege.server.transport._engine.core)
        trio.lowlevel.add_instrument(counter)
        try:
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    side = siege.peer.side
                    while side.connection._inbound.packets_since_keys < count:
                        assert await siege.peer.receive()

                nursery.start_soon(listen)
                await siege.send(*[Ping(b"")] * count)
        finally:
            trio.lowlevel.remove_instrument(counter)
        assert 1000 < counter.most <= 2048


async def test_what_came_with_a_login_that_takes_its_time_is_dealt_with_in_steps() -> None:
    class Slow(OpenDoor):
        async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            await trio.testing.wait_all_tasks_blocked()
            return trio_ssh.AUTH_SUCCESSFUL

    async with besieged(Slow()) as siege:
        await siege.peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        counter = PacketsPerStep(siege.server.transport._engine.core)
        trio.lowlevel.add_instrument(counter)
        side = siege.peer.side
        count = 7000
        side.connection._outbound.send(ServiceRequest("ssh-userauth").encode())
        side.connection._outbound.send(UserauthRequest("user", "ssh-connection", "none", b"").encode())
        for _ in range(count):
            side.connection._outbound.send(Ping(b"").encode())
        pongs = 0
        try:
            await siege.peer.stream.send_all(side.data_to_send())
            opener = side.connection._inbound
            # By hand: what comes is not for a core that has asked for nothing.
            while pongs < count:
                data = await siege.peer.stream.receive_some()
                assert data
                opener.feed(data)
                while (packet := opener.next_packet()) is not None:
                    pongs += packet[0][1] == Pong.NUMBER
        finally:
            trio.lowlevel.remove_instrument(counter)
        assert 1000 < counter.most <= 2048


async def test_checks_of_channels_that_were_closed_meanwhile_do_not_pile_up() -> None:
    asked: list[str] = []
    goes_on = trio.Event()

    class Slow(OpenDoor):
        async def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
            asked.append(command)
            await goes_on.wait()
            return False

    limits = trio_ssh.Limits(sessions=10)
    async with besieged(Slow(), limits) as siege:
        await siege.log_in()
        mux = siege.peer.side.connection.mux

        async def ask_and_leave() -> None:
            channel = await open_channel(siege.peer)
            mux.request(channel, "exec", ExecRequest("slow").encode(), wants_reply=True)
            mux.close(channel)
            await siege.peer.until(lambda side: channel.local_id not in mux.channels)

        for _ in range(limits.sessions):
            await ask_and_leave()
        living = trio.lowlevel.current_statistics().tasks_living
        for _ in range(20):
            with pytest.raises(AssertionError, match="too many channels"):
                await ask_and_leave()
        assert len(asked) == limits.sessions
        assert trio.lowlevel.current_statistics().tasks_living == living
        goes_on.set()
        await trio.testing.wait_all_tasks_blocked()
        await ask_and_leave()
        assert len(asked) == limits.sessions + 1


# -- key exchanges


async def exchange(siege: Siege) -> bool:
    """Begin a key exchange as the client, and see it through; tell whether the server goes on."""
    side = siege.peer.side
    known = len(side.of(ExchangeFinished))
    side.record(side.connection.start_exchange())
    await siege.peer.send()
    while len(side.of(ExchangeFinished)) == known:
        if not await siege.peer.receive() or side.connection.failure is not None:
            return False
        if side.connection.has_data_to_send:
            await siege.peer.send()
    return True


async def test_a_client_that_exchanges_keys_again_and_again_is_left(autojump_clock: trio.testing.MockClock) -> None:
    limits = trio_ssh.Limits()
    async with besieged(limits=limits) as siege:
        await siege.log_in()
        for _ in range(limits.hasty_exchanges):
            assert await exchange(siege)
        assert not await exchange(siege)
        assert isinstance(siege.peer.side.connection.failure, trio_ssh.PeerDisconnected)
        assert "again and again" in str(siege.peer.side.connection.failure)


@pytest.mark.parametrize("excuse", ["time", "data"])
async def test_a_client_that_has_a_reason_may_exchange_keys_for_ever(
    excuse: str, autojump_clock: trio.testing.MockClock
) -> None:
    limits = trio_ssh.Limits(hasty_exchanges=5)
    async with besieged(limits=limits) as siege:
        await siege.log_in()
        for _ in range(20):
            if excuse == "time":
                await trio.sleep(1)
            else:
                await siege.send(Ignore(bytes(64 * KIB)))
            assert await exchange(siege)


# -- crowds


async def test_a_thousand_clients_at_once_are_served_and_leave_nothing() -> None:
    limits = trio_ssh.Limits(startups_begin=2000, startups_full=2000)
    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_listeners, OpenDoor, [listener], host_keys=[HOST_KEY], limits=limits))
        await trio.testing.wait_all_tasks_blocked()
        living = trio.lowlevel.current_statistics().tasks_living
        crowd = [await connect_to() for _ in range(1000)]
        for stream in crowd:
            assert (await stream.receive_some()).startswith(b"SSH-2.0-")
        async with trio_ssh.SSHClient() as client:
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=await connect_to()
            )
            assert (await client.run_process("x", stdin=b"hello", capture_stdout=True)).stdout == b"hello"
        for stream in crowd:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == living
        nursery.cancel_scope.cancel()


async def test_a_thousand_clients_at_once_are_too_many_and_harm_nobody_who_is_in() -> None:
    limits = trio_ssh.Limits()
    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_listeners, OpenDoor, [listener], host_keys=[HOST_KEY], limits=limits))
        async with trio_ssh.SSHClient() as client:
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=await connect_to()
            )
            crowd = [await connect_to() for _ in range(1000)]
            greeted = [await stream.receive_some() for stream in crowd]
            assert limits.startups_begin <= sum(map(bool, greeted)) <= limits.startups_full
            assert (await client.run_process("x", stdin=b"hello", capture_stdout=True)).stdout == b"hello"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_accepting_goes_on_when_there_are_descriptors_again(
    number: int, autojump_clock: trio.testing.MockClock
) -> None:
    class Exhausted(MemoryListener):
        refusals = 3

        async def accept(self) -> trio.abc.Stream:
            if self.refusals:
                self.refusals -= 1
                raise OSError(number, os.strerror(number))
            return await super().accept()

    sender, receiver = trio.open_memory_channel[trio.abc.Stream](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_listeners, OpenDoor, [Exhausted(receiver)], host_keys=[HOST_KEY]))
        ours, theirs = memory_pair()
        await sender.send(theirs)
        assert (await ours.receive_some()).startswith(b"SSH-2.0-")
        assert 0 < trio.current_time() < 1
        nursery.cancel_scope.cancel()


async def test_a_server_whose_descriptors_are_used_up_goes_on_when_some_are_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            partial(trio_ssh.serve_tcp, OpenDoor, 0, host="127.0.0.1", host_keys=[HOST_KEY])
        )
        address = listener.socket.getsockname()
        clients = [socket.socket() for _ in range(3)]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.dup(0)
        os.close(spare)
        try:
            # The lowest free number is beyond what is allowed: what is open stays so, and nothing can be opened.
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
            for client in clients:
                client.connect(address)
            with trio.fail_after(10):
                while "EMFILE" not in caplog.text:  # noqa: ASYNC110 -- nothing rings when a log has a line
                    await trio.sleep(0.001)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        with trio.fail_after(10):
            for client in clients:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
                assert (await stream.receive_some()).startswith(b"SSH-2.0-")
                await stream.aclose()
        nursery.cancel_scope.cancel()
