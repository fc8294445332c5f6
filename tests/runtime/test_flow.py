"""What moves the bytes: one task switch per read, no channel that stalls another, and bounds on all that waits."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import (
    HOST_KEY,
    KIB,
    KNOWN_HOST,
    MIB,
    HandPeer,
    OpenDoor,
    channel_pairs,
    client_of,
    echo,
)
from tests.sftp.by_hand import door as sftp_door
from trio_ssh.core.events import GlobalRequestAnswered, OpenRequested
from trio_ssh.core.role import Role
from trio_ssh.testing import (
    FaultyStream,
    FragmentedStream,
    MemorySFTPServer,
    StalledStream,
    delayed_pair,
    memory_pair,
    open_memory_client,
)
from trio_ssh.wire.transport import Ignore

# -- the reader


class CountsSteps(trio.abc.Instrument):
    """Counts the steps of the tasks of one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task.name == self._name


class Pushed(FaultyStream):
    """Receives what a test pushes, waiting once for each piece; until `is_pushed`, what the stream below has."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.is_pushed = False
        self._sender, self._receiver = trio.open_memory_channel[bytes](1)

    async def push(self, data: bytes) -> None:
        await self._sender.send(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.is_pushed:
            return await super().receive_some(max_bytes)
        return await self._receiver.receive()

    async def aclose(self) -> None:
        self._sender.close()
        self._receiver.close()
        await super().aclose()


async def test_the_reader_takes_one_step_per_read_however_many_packets_that_holds() -> None:
    ours, theirs = memory_pair()
    pushed = Pushed(ours)
    steps = CountsSteps("trio_ssh reader")
    async with client_of(theirs, pushed) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        channel = await client.open_session()
        theirs_end = peer.side.of(OpenRequested)[-1].channel
        pushed.is_pushed = True
        peer.side.connection.send(Ignore(b"wakes the reader, which still waits for the stream below"))
        await peer.send()
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        for _ in range(20):
            for _ in range(50):
                peer.side.send(theirs_end, b"x" * 100)
            await pushed.push(peer.side.data_to_send())
            await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        assert steps.steps == 20
        received = 0
        while received < 20 * 50 * 100:
            received += len(await channel.receive_some())


async def test_the_reader_waits_for_nobody_who_does_not_read() -> None:
    """One channel's data fills its window unread; whatever else comes is dealt with."""
    async with channel_pairs() as pairs:
        stalled, stalling = await pairs.make()
        ours, theirs = await pairs.make()
        async with trio.open_nursery() as nursery:

            async def fill() -> None:
                while True:
                    await stalling.send_all(bytes(256 * KIB))

            nursery.start_soon(fill)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(100):
                await theirs.send_all(b"ping")
                assert await ours.receive_some() == b"ping"
            transport = pairs.client.get_transport()
            assert transport is not None
            await transport.ping()
            await transport.renegotiate_keys()
            other, _ = await pairs.make()
            assert other.get_id() != ours.get_id()
            nursery.cancel_scope.cancel()
        assert len(await stalled.receive_some()) > 0


async def test_an_unread_channel_holds_no_more_than_its_window() -> None:
    limits = trio_ssh.Limits(initial_window_bytes=128 * KIB)
    async with channel_pairs(limits=limits) as pairs:
        ours, theirs = await pairs.make()
        with trio.move_on_after(1) as scope:
            async with trio.open_nursery() as nursery:

                async def fill() -> None:
                    await theirs.send_all(bytes(MIB))

                nursery.start_soon(fill)
                await trio.testing.wait_all_tasks_blocked()
                assert ours.core.unread == 128 * KIB
                scope.cancel()


async def test_a_thousand_small_pieces_cost_one_receive() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        for _ in range(1000):
            await theirs.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert await ours.receive_some() == b"x" * 1000


# -- a peer that doesn't read


async def test_waiting_to_send_waits_for_the_outbox_too() -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    async with channel_pairs((stalled, theirs), trio_ssh.Limits()) as pairs:
        channel = (await pairs.make())[0]
        await channel.wait_send_all_might_not_block()
        await trio.testing.wait_all_tasks_blocked()
        stalled.stop_sending()
        # What the writer has in its hands, and what fills the other outbox.
        await channel.send_all(bytes(60 * KIB))
        await trio.testing.wait_all_tasks_blocked()
        while channel._engine.core.takes_data:
            await channel.send_all(bytes(60 * KIB))
        assert channel.core.outbound_window.left > 0
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.wait_send_all_might_not_block)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught, "there was no room, and nobody waited"
        stalled.go_on()
        await channel.wait_send_all_might_not_block()


async def test_what_we_send_to_a_peer_that_does_not_read_waits_within_a_bound() -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    async with channel_pairs((stalled, theirs)) as pairs:
        channels = [(await pairs.make())[0] for _ in range(20)]
        transport = pairs.client.get_transport()
        assert transport is not None
        await trio.testing.wait_all_tasks_blocked()
        stalled.stop_sending()
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(channel.send_all, bytes(MIB))
            await trio.testing.wait_all_tasks_blocked()
            # What the writer has in its hands, and what fills the other outbox meanwhile.
            assert transport._engine.core._outbound.queued_bytes <= 400 * KIB
            stalled.go_on()
            nursery.cancel_scope.cancel()


async def test_a_client_that_asks_and_does_not_listen_is_not_read_from_beyond_a_bound() -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(theirs)
    limits = trio_ssh.Limits(queued_output_bytes=32 * KIB, unanswered_requests=100_000)
    peer = HandPeer(Role.CLIENT, ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(stalled, OpenDoor(), host_keys=[HOST_KEY], limits=limits))
        await peer.log_in()
        await trio.testing.wait_all_tasks_blocked()
        stalled.stop_sending()
        before = stalled.received_bytes
        sent = 0
        for _ in range(100):
            for _ in range(60):
                peer.side.connection.mux.global_request("keepalive@openssh.com", b"", wants_reply=True)
            data = peer.side.data_to_send()
            await peer.stream.send_all(data)
            sent += len(data)
            await trio.testing.wait_all_tasks_blocked()
        assert stalled.received_bytes - before < sent / 2
        stalled.go_on()
        await peer.until(lambda side: len(side.of(GlobalRequestAnswered)) == 6000)
        await peer.stream.aclose()


# -- speed that a long path allows


async def test_one_stream_fills_a_path_of_a_tenth_of_a_second_with_a_gigabit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def pour(process: trio_ssh.ServerProcess) -> int:
        data = bytes(MIB)
        while True:
            await process.stdout.send_all(data)

    ours, theirs = delayed_pair(0.05)
    async with open_memory_client(OpenDoor(pour), host_key=HOST_KEY, streams=(ours, theirs)) as client:
        process = await client.open_process("x")
        while trio.current_time() < 1:  # windows open while their reader keeps up
            await process.stdout.receive_some()
        start, received = trio.current_time(), 0
        while trio.current_time() < start + 0.5:
            received += len(await process.stdout.receive_some())
        assert received / (trio.current_time() - start) >= 125_000_000
        assert theirs.in_flight_bytes >= 8 * MIB


async def test_a_login_takes_few_round_trips(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        ours, theirs = delayed_pair(0.5)
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(echo), host_keys=[HOST_KEY]))
        async with trio_ssh.SSHClient() as client:
            await client.connect(
                "memory", username="user", password="x", known_hosts=KNOWN_HOST, look_for_keys=False, sock=ours
            )
            assert trio.current_time() <= 5, "versions and KEXINITs cross, then keys, then the service and the password"
            start = trio.current_time()
            await client.run_process("x", capture_stdout=True, capture_stderr=True)
            assert trio.current_time() - start <= 3


# -- odd windows


async def test_a_peer_that_allows_one_byte_per_packet_gets_it_so() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        ours.core.outbound_window.maximum_packet = 1
        await ours.send_all(b"one by one")
        await ours.send_eof()
        assert await theirs.read() == b"one by one"


async def test_a_peer_that_allows_no_byte_per_packet_is_waited_for_without_spinning(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with channel_pairs() as pairs:
        ours, _ = await pairs.make()
        ours.core.outbound_window.maximum_packet = 0
        with trio.move_on_after(10) as scope:
            await ours.send_all(b"never")
        assert scope.cancelled_caught
        assert trio.current_time() == 10


async def test_a_window_of_small_grants_carries_everything() -> None:
    limits = trio_ssh.Limits(initial_window_bytes=64 * KIB, largest_window_bytes=64 * KIB)
    data = bytes(range(256)) * (MIB // 256)
    async with channel_pairs(limits=limits) as pairs, trio.open_nursery() as nursery:
        ours, theirs = await pairs.make()

        async def send() -> None:
            await theirs.send_all(data)
            await theirs.aclose()

        nursery.start_soon(send)
        received = bytearray()
        while chunk := await ours.receive_some(777):
            received += chunk
        assert received == data


async def test_streams_that_come_byte_by_byte_carry_everything() -> None:
    ours, theirs = memory_pair()
    async with channel_pairs((FragmentedStream(ours), FragmentedStream(theirs, 3))) as pairs:
        one, other = await pairs.make()
        await one.send_all(bytes(range(256)) * 8)
        await one.send_eof()
        assert await other.read() == bytes(range(256)) * 8


# -- shares of a slow path


@pytest.mark.parametrize(("channels", "written_bytes"), [(3, MIB), (9, MIB), (5, 64 * KIB), (20, 300_000)])
async def test_whoever_sends_much_has_a_share_of_a_slow_path(
    channels: int, written_bytes: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Trio runs those who are woken together in the order of their line, or from its end: no middle one must starve."""
    arrived: dict[str, int] = {}

    async def count(process: trio_ssh.ServerProcess) -> None:
        async for data in process.stdin:
            arrived[process.command or ""] = arrived.get(process.command or "", 0) + len(data)

    limits = trio_ssh.Limits(sessions=100)
    streams = delayed_pair(0.001, bytes_per_second=30e6)
    async with open_memory_client(OpenDoor(count), host_key=HOST_KEY, streams=streams, server_limits=limits) as client:

        async def send(name: str) -> None:
            channel = await client.open_session()
            await channel.exec_command(name)
            while True:
                await channel.send_all(bytes(written_bytes))

        with trio.move_on_after(4):
            async with trio.open_nursery() as nursery:
                for number in range(channels):
                    nursery.start_soon(send, str(number))
    assert len(arrived) == channels
    assert min(arrived.values()) > sum(arrived.values()) / channels / 3


async def test_sessions_that_transfer_have_a_share_of_a_slow_path_each(autojump_clock: trio.testing.MockClock) -> None:
    """They are called, and switch no tasks; the first in line must not be the first again and again."""
    server = MemorySFTPServer()
    sizes: dict[str, list[int]] = {}
    streams = delayed_pair(0.001, bytes_per_second=30e6)
    async with open_memory_client(sftp_door(server), host_key=HOST_KEY, streams=streams) as client:

        async def write(name: str) -> None:
            async with await client.open_sftp() as sftp, await sftp.open(name, "w") as file:
                for _ in range(16):
                    await file.write(bytes(MIB))
            sizes[name] = [len(data) for data in server.files.values()]

        async with trio.open_nursery() as nursery:
            for name in ("one", "two", "three"):
                nursery.start_soon(write, name)
        first = next(iter(sizes.values()))
        assert min(first) > 8 * MIB, "when one was done, the others were well under way"
        async with await client.open_sftp() as busy, await client.open_sftp() as sftp, trio.open_nursery() as nursery:
            nursery.start_soon(write_on, busy)
            await trio.sleep(0.3)
            asked = trio.current_time()
            await sftp.stat("one")
            assert trio.current_time() < asked + 0.5, "who asks little needn't wait until those who send much are done"
            nursery.cancel_scope.cancel()


async def write_on(sftp: trio_ssh.SFTPClient) -> None:
    """Write for ever, over and over."""
    async with await sftp.open("more", "w") as file:
        while True:
            await file.write(bytes(MIB))
            await file.seek(0)
