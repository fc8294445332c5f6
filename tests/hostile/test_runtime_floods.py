"""Clients that make work for a server with its tasks: the others have their turn, and what is asked has an end."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trio_ssh
from tests.hostile.test_runtime_close_calls import open_channel
from tests.hostile.test_runtime_server import besieged
from tests.runtime.helpers import OpenDoor
from trio_ssh.core.connection import Connection
from trio_ssh.core.phases import Phase
from trio_ssh.wire.connection import ExecRequest
from trio_ssh.wire.transport import Ping, Pong, ServiceRequest
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
