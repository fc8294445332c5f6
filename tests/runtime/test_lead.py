"""Who reads: over a socket, a task that talks with the peer word by word reads in the reader's place."""

from __future__ import annotations

import contextlib
import contextvars
import math
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB, OpenDoor, channel_pairs, echo, poll_always, turns_until
from trio_ssh.core.connection import Connection
from trio_ssh.core.role import Role
from trio_ssh.runtime import busy_poll
from trio_ssh.runtime.descriptor import Descriptor
from trio_ssh.runtime.lead import Lead
from trio_ssh.testing import MemorySFTPServer, open_memory_client

WORDS = 5


def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return two connected streams that are sockets."""
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


@pytest.fixture(autouse=True, params=("sleeping", "polling"))
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads sleeps at the socket, or polls before it does."""
    if request.param == "polling":
        poll_always(monkeypatch)
    else:
        monkeypatch.setattr(busy_poll, "_WORDS", math.inf)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks in which a client's core was fed, one for each read."""
    names: list[str] = []
    feed = Connection.receive_data

    def receive_data(connection: Connection, data: bytes | bytearray | memoryview) -> object:
        if connection.role is Role.CLIENT:
            names.append(trio.lowlevel.current_task().name)
        return feed(connection, data)

    monkeypatch.setattr(Connection, "receive_data", receive_data)
    return names


async def repeat(channel: trio_ssh.Channel) -> None:
    """Send back what comes, as long as there is a connection."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await channel.receive_some():
            await channel.send_all(data)


async def talk(channel: trio_ssh.Channel, words: int = WORDS) -> None:
    """Say a word, and wait for its echo."""
    for number in range(words):
        word = b"word %d" % number
        await channel.send_all(word)
        assert await channel.receive_some() == word


@asynccontextmanager
async def talking() -> AsyncGenerator[tuple[trio_ssh.Channel, trio_ssh.Channel], None]:
    """Two ends of a channel, of which one repeats what the other says; the reader's place is on offer to this task."""
    with trio.fail_after(10):
        async with channel_pairs(sockets()) as pairs, trio.open_nursery() as nursery:
            ours, theirs = await pairs.make()
            nursery.start_soon(repeat, theirs)
            await talk(ours, 2)
            yield ours, theirs
            nursery.cancel_scope.cancel()


async def follows(channel: trio_ssh.Channel) -> None:
    """Wait until somebody waits at the socket of this channel's connection, in the reader's place."""
    lead = channel._engine._lead
    assert lead is not None
    await turns_until(lambda: lead._is_lent)


async def test_who_talks_word_by_word_reads_the_answers_itself(readers: list[str]) -> None:
    async with talking() as (ours, _):
        readers.clear()
        await talk(ours)
        assert readers == [trio.lowlevel.current_task().name] * WORDS


async def test_one_who_comes_back_late_finds_the_reader_at_the_socket(readers: list[str]) -> None:
    async with talking() as (ours, _):
        await trio.testing.wait_all_tasks_blocked()
        readers.clear()
        await talk(ours, 1)
        assert readers == ["trio_ssh reader"]


#: Who polls reads sooner, and so less at a time: before the others have come, and before much has.
only_sleeping = pytest.mark.parametrize("how", ["sleeping"], indirect=True)


@only_sleeping
async def test_of_several_who_wait_none_reads(readers: list[str]) -> None:
    with trio.fail_after(10):
        async with channel_pairs(sockets()) as pairs, trio.open_nursery() as nursery:
            ends = [await pairs.make() for _ in range(3)]
            await trio.testing.wait_all_tasks_blocked()
            readers.clear()
            for _, theirs in ends:
                nursery.start_soon(repeat, theirs)
            async with trio.open_nursery() as talkers:
                for ours, _ in ends:
                    talkers.start_soon(talk, ours, 50)
            nursery.cancel_scope.cancel()
    assert readers.count("trio_ssh reader") > len(readers) // 4


async def test_requests_and_openings_are_answered_to_who_waits(readers: list[str]) -> None:
    server = OpenDoor(echo)
    with trio.fail_after(10):
        async with open_memory_client(server, host_key=HOST_KEY, streams=sockets()) as client:
            await client.run_process("cat", stdin=b"")
            readers.clear()
            done = await client.run_process("cat", capture_stdout=True, stdin=b"word")
            assert done.stdout == b"word"
    assert trio.lowlevel.current_task().name in readers


async def test_answers_of_sftp_are_read_by_who_asks(readers: list[str]) -> None:
    class Serving(OpenDoor):
        subsystems: ClassVar[dict[str, trio_ssh.SubsystemHandler]] = {"sftp": MemorySFTPServer()}

    with trio.fail_after(10):
        async with (
            open_memory_client(Serving(), host_key=HOST_KEY, streams=sockets()) as client,
            await client.open_sftp() as sftp,
        ):
            await sftp.stat(".")
            readers.clear()
            for _ in range(WORDS):
                await sftp.stat(".")
    assert readers.count(trio.lowlevel.current_task().name) >= WORDS


# -- whoever leaves the place gives it back


async def test_a_follower_that_is_cancelled_loses_nothing(readers: list[str]) -> None:
    async with talking() as (ours, theirs):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def cancel() -> None:
                    await follows(ours)
                    scope.cancel()

                await ours.receive_some()
        assert scope.cancelled_caught
        readers.clear()
        await theirs.send_all(b"unasked")
        await trio.testing.wait_all_tasks_blocked()
        assert readers == ["trio_ssh reader"]
        assert await ours.receive_some() == b"unasked"
        await talk(ours)


@pytest.mark.parametrize("turns", range(3))
async def test_one_who_looks_again_and_again_and_never_waits_keeps_nobody_from_reading(turns: int) -> None:
    async with talking() as (ours, theirs), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def look() -> None:
            while True:
                with trio.move_on_after(0):
                    await ours.receive_some()
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()

        transport = ours.get_transport()
        assert isinstance(transport, trio_ssh.Transport)
        await transport.ping()
        await theirs.send_all(b"unasked")
        await transport.ping()
        nursery.cancel_scope.cancel()


async def cancel_while_following(ours: trio_ssh.Channel, act: Callable[[], object]) -> None:
    """Call `act` while this task waits at the socket."""
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def later() -> None:
            await follows(ours)
            act()

        await ours.receive_some()


async def test_closing_a_channel_wakes_its_follower() -> None:
    async with talking() as (ours, _):
        with pytest.RaisesGroup(trio.ClosedResourceError):
            await cancel_while_following(ours, ours.close_later)


async def test_the_end_of_the_connection_wakes_a_follower() -> None:
    async with talking() as (ours, _):
        failure = trio_ssh.RemoteProtocolError("a test's")
        with pytest.RaisesGroup(trio_ssh.ConnectionLost):
            await cancel_while_following(ours, partial(ours._engine.fail, failure))


async def test_a_connection_that_is_closed_here_wakes_a_follower() -> None:
    async with talking() as (ours, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def later() -> None:
            await follows(ours)
            await ours._engine.aclose()

        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()


async def test_a_follower_sees_the_peer_go() -> None:
    async with talking() as (ours, theirs), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def later() -> None:
            await follows(ours)
            await trio.aclose_forcefully(theirs._engine._stream)

        with pytest.raises(trio_ssh.ConnectionLost):
            await ours.receive_some()


async def test_a_follower_that_reads_garbage_ends_the_connection() -> None:
    async with talking() as (ours, theirs), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def later() -> None:
            await follows(ours)
            await theirs._engine._stream.send_all(bytes(64))

        with pytest.raises(trio_ssh.ConnectionLost) as caught:
            await ours.receive_some()
        assert isinstance(caught.value.__cause__, trio_ssh.RemoteProtocolError)
        assert ours._engine.is_over


async def test_what_a_follower_reads_for_others_reaches_them() -> None:
    with trio.fail_after(10):
        async with channel_pairs(sockets()) as pairs, trio.open_nursery() as nursery:
            ours, theirs = await pairs.make()
            other, their_other = await pairs.make()
            nursery.start_soon(repeat, theirs)
            await talk(ours, 2)

            @nursery.start_soon
            async def later() -> None:
                await follows(ours)
                await their_other.send_all(b"for another")
                assert await other.receive_some() == b"for another"
                await theirs.send_all(b"at last")

            assert await ours.receive_some() == b"at last"
            await talk(ours)
            nursery.cancel_scope.cancel()


@only_sleeping
async def test_a_transfer_that_a_follower_begins_goes_on_by_the_reader(readers: list[str]) -> None:
    async with talking() as (ours, theirs):
        size = 4 * MIB
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await follows(ours)
                await theirs.send_all(bytes(size))

            readers.clear()
            left = size
            while left:
                left -= len(await ours.receive_some())
        assert readers.count("trio_ssh reader") > len(readers) // 4
        await talk(ours)


async def test_keys_change_under_a_follower() -> None:
    async with talking() as (ours, theirs):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def change() -> None:
                await follows(ours)
                await theirs._engine.exchange_keys()
                await theirs.send_all(b"under new keys")

            assert await ours.receive_some() == b"under new keys"
        await talk(ours)


@pytest.mark.parametrize("seed", range(6))
async def test_every_word_arrives_whoever_reads_and_whenever_he_is_cancelled(seed: int) -> None:
    chance = random.Random(seed)

    async def talk_at_random(ours: trio_ssh.Channel) -> None:
        for number in range(60):
            word = bytes((number,)) * chance.choice((1, 1, 1, 100, 40_000))
            await ours.send_all(word)
            echo = b""
            while len(echo) < len(word):
                with trio.move_on_after(chance.choice((0, 0.0003, 0.001, 10, 10, 10))):
                    echo += await ours.receive_some()
            assert echo == word
            if chance.random() < 0.1:
                await trio.sleep(0.001)
            if chance.random() < 0.02:
                await ours._engine.exchange_keys()

    with trio.fail_after(20):
        async with channel_pairs(sockets()) as pairs, trio.open_nursery() as nursery:
            async with trio.open_nursery() as talkers:
                for _ in range(chance.choice((1, 1, 2, 3))):
                    ours, theirs = await pairs.make()
                    nursery.start_soon(repeat, theirs)
                    talkers.start_soon(talk_at_random, ours)
            nursery.cancel_scope.cancel()


# -- what is done in the reader's place is done as the reader does it

whose = contextvars.ContextVar("whose", default="nobody's")


async def test_what_a_follower_reads_starts_tasks_in_the_reader_s_context() -> None:
    seen: list[str] = []
    talked = trio.Event()

    async def handle(process: trio_ssh.ServerProcess) -> int:
        seen.append(whose.get())
        if process.command == "first":
            whose.set("the first handler's")
            while data := await process.stdin.receive_some():
                await process.stdout.send_all(data)
                talked.set()
        return 0

    ours, theirs = sockets()
    with trio.fail_after(10):
        async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY, streams=(ours, theirs)) as client:
            first = await client.open_process("first")
            for _ in range(3):
                await first.stdin.send_all(b"word")
                await first.stdout.receive_some()
            # The handler of the first is at the server's socket now, and reads the opening of the second.
            await client.run_process("second")
            await first.stdin.aclose()
            await first.wait()
    assert seen == ["nobody's", "nobody's"]


async def test_what_breaks_a_follower_s_read_is_raised_by_the_reader() -> None:
    """Ctrl-C, and a user's sys.exit: they end the connection, and not the task that happened to read."""
    ours, theirs = sockets()
    async with ours, theirs:
        descriptor = Descriptor(ours)
        taken: list[bytes] = []

        def take_in(data: memoryview) -> None:
            taken.append(bytes(data))
            descriptor.give_back()
            raise KeyboardInterrupt

        class Never:
            wake_follower = None
            is_done = False
            slept = 0

            async def sleep(self) -> None:
                self.slept += 1
                assert not lead._is_offered, "the reader raises what was met, before anyone else reads"
                await trio.lowlevel.checkpoint()

        lead = Lead(descriptor, take_in, lambda _: None, lambda: True)
        never = Never()
        await theirs.send_all(b"word")
        with trio.fail_after(10), pytest.RaisesGroup(KeyboardInterrupt):
            async with trio.open_nursery() as reading:
                reading.start_soon(lead.lend)
                await turns_until(lambda: lead._is_offered)
                with contextlib.suppress(trio.Cancelled):
                    await lead.wait(never)
                assert never.slept
        assert taken == [b"word"]


async def test_a_writer_that_waits_for_room_does_not_mind_that_a_reader_is_woken() -> None:
    ours, theirs = sockets()
    async with ours, theirs:
        descriptor = Descriptor(ours)
        sent = bytes(4 * MIB)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(descriptor.write_rest, memoryview(sent))
                await trio.testing.wait_all_tasks_blocked()
                descriptor.wake()
                received = 0
                while received < len(sent):
                    received += len(await theirs.receive_some(256 * KIB))
    assert received == len(sent)


async def test_a_reader_that_is_woken_has_read_nothing() -> None:
    ours, theirs = sockets()
    async with ours, theirs:
        descriptor = Descriptor(ours)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def wake() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    descriptor.wake()

                assert await descriptor.read() is None
            await theirs.send_all(b"later")
            data = await descriptor.read()
            assert data is not None
            assert bytes(data) == b"later"
            descriptor.give_back()
