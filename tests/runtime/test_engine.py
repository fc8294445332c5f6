"""The tasks of a connection: what they wait for, when they end, and what they cost."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from functools import partial

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, KNOWN_HOST, MIB, HandPeer, OpenDoor, channel_pairs, client_of
from trio_ssh.core.events import GlobalRequestArrived
from trio_ssh.core.mux import HIGH_WATER
from trio_ssh.core.role import Role
from trio_ssh.runtime.descriptor import Descriptor
from trio_ssh.testing import CutStream, StalledStream, memory_pair, open_memory_client

YEAR = 365 * 86400.0


# -- closing


async def test_leaving_while_the_peer_does_not_read_takes_two_seconds(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    async with client_of(theirs, stalled) as (_, _):
        stalled.stop_sending()
    assert trio.current_time() == pytest.approx(2)
    assert stalled.is_closed


async def test_a_cancelled_close_closes_the_stream_at_once(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    with trio.CancelScope() as scope:
        async with client_of(theirs, stalled) as (_, _):
            stalled.stop_sending()
            scope.cancel()
    assert trio.current_time() == 0
    assert stalled.is_closed


async def test_a_close_cancelled_midway_closes_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    async with client_of(theirs, stalled) as (client, _):
        stalled.stop_sending()
        with trio.move_on_after(1):
            await client.aclose()
        assert stalled.is_closed
    assert trio.current_time() == pytest.approx(1)


async def test_leaving_a_broken_connection_does_not_wait_for_what_can_no_longer_be_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    cut = CutStream(stalled)
    async with client_of(theirs, cut) as (client, _):
        stalled.stop_sending()
        transport = client.get_transport()
        assert transport is not None
        await transport.send_ignore(100)  # on its way
        await trio.testing.wait_all_tasks_blocked()
        await transport.send_ignore(100)  # behind it
        await cut.cut()
        await transport.wait_closed()
    assert trio.current_time() == 0


async def test_closing_twice_is_closing_once() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        await transport.aclose()
        await transport.aclose()
        await client.aclose()
        await client.aclose()
        assert transport.get_exception() is None


async def test_why_a_connection_was_lost_is_known_after_it_was_closed_too() -> None:
    ours, theirs = memory_pair()
    async with client_of(theirs, ours) as (client, peer):
        transport = client.get_transport()
        assert transport is not None
        await peer.stream.aclose()
        await transport.wait_closed()
        await client.aclose()
        assert isinstance(transport.get_exception(), trio_ssh.ConnectionLost)


@pytest.mark.parametrize("writer", ["try_write", "write_rest"])
def test_ctrl_c_while_something_is_written_leaves_no_half_of_it(writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is heard where the user waits, what was begun is sent to its end, and so the server hears the goodbye."""

    async def swallow(process: trio_ssh.ServerProcess) -> int:
        async for _ in process.stdin:
            pass
        return 0

    door = OpenDoor(swallow)
    write, client_socket, strikes = os.write, -1, 0

    def interrupted(descriptor: int, data: memoryview) -> int:
        nonlocal strikes
        written = write(descriptor, data)
        if descriptor == client_socket and sys._getframe(1).f_code.co_name == writer and not strikes:
            strikes += 1
            signal.raise_signal(signal.SIGINT)
        return written

    async def main() -> None:
        nonlocal client_socket
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio_ssh.serve_stream, theirs, door, host_keys=[HOST_KEY]))
            with pytest.raises(KeyboardInterrupt):
                async with trio_ssh.SSHClient() as client:
                    await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, config=None)
                    process = await client.open_process("swallow")
                    client_socket = ours.socket.fileno()
                    while True:
                        await process.stdin.send_all(bytes(MIB))

    monkeypatch.setattr(os, "write", interrupted)
    trio.run(main)
    assert strikes == 1
    assert isinstance(door.transport.get_exception(), trio_ssh.PeerDisconnected)


# -- writing


async def test_a_command_s_first_output_leaves_with_the_word_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a connection's first command, for which the writer is started."""

    async def answer(process: trio_ssh.ServerProcess) -> int:
        await process.stdout.send_all(b"done")
        return 0

    write, writes = os.write, 0
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    server_socket = theirs.socket.fileno()

    def counted(descriptor: int, data: memoryview) -> int:
        nonlocal writes
        writes += descriptor == server_socket
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, OpenDoor(answer), host_keys=[HOST_KEY]))
        async with trio_ssh.SSHClient() as client:
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, config=None)
            pieces: list[int] = []
            for _ in range(3):
                channel = await client.open_session()
                before = writes
                await channel.exec_command("answer")
                await channel.read()
                await channel.recv_exit_status()
                pieces.append(writes - before)
    assert pieces == [2, 2, 2]  # the other one is the end


async def test_what_the_system_took_whole_makes_room_in_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called for room fills the outbox that is still in the processor's cache, and no second one."""
    outboxes: list[object] = []

    def take(descriptor: Descriptor, data: memoryview) -> int:
        outboxes.append(data.obj)
        return len(data)

    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    async with channel_pairs((ours, theirs), limits=trio_ssh.Limits()) as pairs:
        channel, _ = await pairs.make()
        engine = channel._engine
        monkeypatch.setattr(Descriptor, "try_write", take)  # and the server gets nothing more

        def send() -> None:
            engine.core.send_data(channel.core, memoryview(bytes(HIGH_WATER)))
            if len(outboxes) < 4:
                engine.call_for_room(send)

        engine.call_for_room(send)
        await trio.testing.wait_all_tasks_blocked()
        assert len(outboxes) >= 4
        assert len(set(map(id, outboxes))) == 1


# -- keepalive


async def test_a_silent_peer_is_given_up_after_four_silent_intervals(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    async with client_of(theirs, ours) as (client, _):
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(10)
        await transport.wait_closed()
        assert trio.current_time() == pytest.approx(40)
        with pytest.raises(trio_ssh.ConnectionLost, match="silent for 40 seconds") as raised:
            await client.open_session()
        assert isinstance(raised.value, trio.BrokenResourceError)


async def test_a_peer_that_falls_silent_during_a_key_exchange_is_given_up_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = memory_pair()
    async with client_of(theirs, ours) as (client, peer):
        transport = client.get_transport()
        assert transport is not None
        peer.side.record(peer.side.connection.start_exchange())
        await peer.send()
        await trio.testing.wait_all_tasks_blocked()
        transport.set_keepalive(10)
        await transport.wait_closed()
        assert trio.current_time() == pytest.approx(40)


async def test_a_peer_that_answers_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(10)
        await trio.sleep(1000)
        assert transport.is_active()
        transport.set_keepalive(0)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf


async def test_whatever_the_peer_sends_is_a_sign_of_life(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    async with client_of(theirs, ours) as (client, peer):
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(10)
        for _ in range(10):
            await trio.sleep(7)
            peer.side.connection.mux.global_request("hello", b"", wants_reply=False)
            await peer.send()
        assert transport.is_active()
        with trio.move_on_after(0):
            await peer.receive()
        assert not peer.side.of(GlobalRequestArrived), "nobody was asked"


async def test_keepalive_needs_a_connection() -> None:
    async with trio_ssh.Transport(memory_pair()[0]) as transport:
        with pytest.raises(trio_ssh.LocalProtocolError, match="start_client"):
            transport.set_keepalive(10)


# -- new keys


class CountsExchanges(OpenDoor):
    """Knows how many key exchanges there were."""

    @property
    def exchanges(self) -> int:
        return self.transport._engine.exchanges


async def test_keys_are_changed_when_an_hour_old_and_used(autojump_clock: trio.testing.MockClock) -> None:
    server = CountsExchanges()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        for expected in (1, 2, 3):
            for _ in range(10):
                await client.run_process("echo", stdin=b"hello", capture_stdout=True)
            assert server.exchanges == expected
            await trio.sleep(3601)
            await client.run_process("echo", stdin=b"hello", capture_stdout=True)
            await trio.testing.wait_all_tasks_blocked()
            assert server.exchanges == expected + 1


async def test_keys_are_changed_when_a_one_way_stream_has_used_them_for_an_hour(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        for _ in range(70):
            await trio.sleep(60)
            await theirs.send_all(b"tick")
            assert await ours.receive_some() == b"tick"
        transport = pairs.client.get_transport()
        assert transport is not None
        assert transport._engine.exchanges == 2


async def test_an_idle_connection_has_no_timer_and_changes_no_keys(autojump_clock: trio.testing.MockClock) -> None:
    server = CountsExchanges()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        await client.run_process("echo", stdin=b"hello", capture_stdout=True)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        await trio.sleep(10 * YEAR)
        assert server.exchanges == 1
        await client.run_process("echo", stdin=b"hello", capture_stdout=True)
        await trio.testing.wait_all_tasks_blocked()
        assert server.exchanges == 2


async def test_keys_are_changed_after_so_many_bytes() -> None:
    server = CountsExchanges()
    limits = trio_ssh.Limits(rekey_bytes=256 * KIB)
    async with open_memory_client(server, host_key=HOST_KEY, client_limits=limits) as client:
        data = bytes(8 * MIB)
        done = await client.run_process("echo", stdin=data, capture_stdout=True)
        assert done.stdout == data
        # What one window holds may pass before the peer has heard of it.
        assert 4 <= server.exchanges <= 2 + 8 * MIB // (256 * KIB)


async def test_keys_are_changed_for_a_peer_that_takes_much_and_says_nothing() -> None:
    """What is sent stops there by itself: nothing but the exchange passes until the peer takes part in it."""
    ours, theirs = memory_pair()
    peer = HandPeer(Role.SERVER, theirs)
    limits = trio_ssh.Limits(rekey_bytes=512 * KIB)
    async with trio_ssh.SSHClient() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.until_logged_in)
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=ours, limits=limits
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.accept)
            channel = await client.open_session()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await channel.send_all(bytes(64 * KIB))
                sent += 64 * KIB

        async def take() -> None:
            while True:
                await theirs.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            transport = client.get_transport()
            assert transport is not None
            assert transport._engine.core.keying.is_running
            assert 512 * KIB <= sent < MIB
            nursery.cancel_scope.cancel()


async def test_data_flows_while_both_sides_keep_changing_keys() -> None:
    server = CountsExchanges()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None

        async def change_keys() -> None:
            for _ in range(5):
                await transport.renegotiate_keys()
                await server.transport.renegotiate_keys()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change_keys)
            data = bytes(range(256)) * 4096
            done = await client.run_process("echo", stdin=data, capture_stdout=True)
            assert done.stdout == data
        # The second to ask for new keys finds an exchange running, mostly, and waits for that one.
        assert 6 <= server.exchanges <= 11


async def test_what_we_say_ourselves_during_a_key_exchange_waits_however_much_it_is() -> None:
    limits = trio_ssh.Limits(queued_output_bytes=32 * KIB)
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY, client_limits=limits) as client:
        transport = client.get_transport()
        assert transport is not None
        done: list[trio_ssh.CompletedProcess] = []

        async def run() -> None:
            done.append(await client.run_process("x" * 20_000, stdin=b"hello", capture_stdout=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.renegotiate_keys)
            for _ in range(10):
                nursery.start_soon(run)
            for _ in range(200):
                nursery.start_soon(lambda: transport.global_request("odd", bytes(2000), wait=False))
        assert [process.stdout for process in done] == [b"hello"] * 10
