"""Busy polling: it is tried, and goes on where words come faster by it; and nothing else changes."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor, poll_always, turns_until
from trio_ssh.runtime import busy_poll, descriptor
from trio_ssh.runtime.busy_poll import BusyPoll
from trio_ssh.runtime.descriptor import Descriptor
from trio_ssh.testing import open_memory_client

#: Words by which one way is judged, and until both are tried again.
STRETCH = 32
ROUND = 64 * STRETCH

#: Seconds; a machine of any speed has done then what it does at once.
LONG = 60.0

#: Bytes that are no word.
MUCH = 8 * 1024


class Exchange:
    """Words that come so fast, slept and polled, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slept: float, polled: float, seconds: float = 0.0005) -> None:
        self.now = 1000.0
        self.slept = slept
        self.polled = polled
        self.poll = BusyPoll(seconds)
        self.polls = 0
        monkeypatch.setattr(busy_poll, "perf_counter", lambda: self.now)
        self.poll.note_word(1)  # from here on there is a word before each

    def words(self, count: int, size: int = 1) -> None:
        """Read some words."""
        for _ in range(count):
            if self.poll.is_on:
                self.polls += 1
                self.poll.note_poll(in_vain=self.polled > self.poll.seconds)
            self.now += self.polled if self.poll.is_on else self.slept
            self.poll.note_word(size)


# -- the judgement


def test_it_sleeps_first_and_then_polls_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(STRETCH - 1)
    assert not exchange.poll.is_on
    exchange.words(1)
    assert exchange.poll.is_on
    assert exchange.polls == 0


def test_it_goes_on_where_words_come_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(10 * STRETCH)
    assert exchange.poll.is_on
    assert exchange.polls == 9 * STRETCH


@pytest.mark.parametrize("polled", [180e-6, 200e-6, 300e-6])
def test_it_ends_where_they_don_t_come_much_faster(monkeypatch: pytest.MonkeyPatch, polled: float) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=polled)
    exchange.words(ROUND)
    assert exchange.polls == STRETCH


def test_it_is_tried_again_a_long_time_later(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=200e-6)
    exchange.words(3 * ROUND)
    assert exchange.polls == 3 * STRETCH
    # The peer is not so busy any more.
    exchange.polled = 50e-6
    exchange.words(3 * STRETCH)
    assert exchange.poll.is_on


def test_what_pays_no_more_ends_when_it_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(ROUND - STRETCH)
    exchange.polled = 190e-6
    exchange.words(3 * STRETCH)
    assert not exchange.poll.is_on


def test_less_at_a_time_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where several talk at once, who polls reads each word by itself."""
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(STRETCH, size=2000)
    exchange.words(STRETCH, size=1000)
    assert not exchange.poll.is_on


def test_slow_words_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=0.002, polled=0.002)
    exchange.words(10 * ROUND)
    assert exchange.polls == 0


def test_where_nothing_comes_it_is_soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as behind an exchange of words, where a person goes on typing."""
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(4 * STRETCH)
    assert exchange.poll.is_on
    exchange.slept = exchange.polled = 0.3
    exchange.polls = 0
    exchange.words(1000)
    assert exchange.polls == 4


def test_a_word_that_is_late_now_and_then_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(4 * STRETCH)
    for _ in range(20):
        exchange.poll.note_poll(in_vain=True)
        exchange.words(9)
    assert exchange.poll.is_on


def test_a_peer_that_is_mostly_late_ends_it_and_a_word_in_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=100e-6)
    exchange.words(4 * STRETCH)
    polls = 0
    while exchange.poll.is_on:
        exchange.poll.note_poll(in_vain=polls % 4 != 0)
        polls += 1
    assert polls < 10


def test_none_takes_longer_than_a_word_may() -> None:
    assert BusyPoll(math.inf).seconds == 0.001


def test_a_limit_of_0_is_never(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(monkeypatch, slept=200e-6, polled=1e-6, seconds=0.0)
    exchange.words(3 * ROUND)
    assert exchange.polls == 0


# -- the socket


@asynccontextmanager
async def pair(seconds: float = LONG) -> AsyncGenerator[tuple[Descriptor, trio.SocketStream], None]:
    """A descriptor that polls for words, and the stream's other end; nothing here takes ten seconds."""
    with trio.fail_after(10), pytest.MonkeyPatch.context() as monkeypatch:
        poll_always(monkeypatch)
        ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair())
        async with ours, theirs:
            reading = Descriptor(ours, seconds)
            for _ in range(2):  # the first read is short, and the second that of a word
                await theirs.send_all(b"word")
                assert await read(reading) == b"word"
            yield reading, theirs


async def read(reading: Descriptor) -> bytes | None:
    """Read, and give the buffer back."""
    view = await reading.read(may_poll=True)
    data = None if view is None else bytes(view)
    reading.give_back()
    return data


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sockets for which the system was asked to wait."""
    asked: list[object] = []
    wait_readable = trio.lowlevel.wait_readable

    async def wait(sock: trio.socket.SocketType) -> None:
        asked.append(sock)
        await wait_readable(sock)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait)
    return asked


async def while_it_polls(act: Callable[[], object]) -> None:
    """Act once somebody polls in this thread."""
    await turns_until(lambda: threading.get_ident() in descriptor._polling)
    act()


async def test_what_comes_while_it_polls_is_read_without_sleep(sleeps: list[object]) -> None:
    async with pair() as (reading, theirs), trio.open_nursery() as nursery:
        sleeps.clear()
        nursery.start_soon(while_it_polls, partial(os.write, theirs.socket.fileno(), b"another"))
        assert await read(reading) == b"another"
        assert not sleeps
        assert not descriptor._polling


async def test_it_sleeps_in_the_end(sleeps: list[object]) -> None:
    async with pair(0.001) as (reading, theirs), trio.open_nursery() as nursery:
        sleeps.clear()

        @nursery.start_soon
        async def send() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(b"late")

        assert await read(reading) == b"late"
        assert sleeps == [reading._socket]


async def test_of_two_in_a_thread_one_polls(sleeps: list[object]) -> None:
    async with pair() as (first, first_peer), pair() as (second, second_peer), trio.open_nursery() as nursery:
        sleeps.clear()
        nursery.start_soon(read, first)
        await while_it_polls(lambda: None)
        nursery.start_soon(read, second)
        await turns_until(lambda: bool(sleeps))
        await second_peer.send_all(b"to who sleeps")
        await first_peer.send_all(b"to who polls")
    assert sleeps == [second._socket]


async def test_a_transfer_is_slept_for(sleeps: list[object]) -> None:
    async with pair() as (reading, theirs):
        sleeps.clear()
        written = 0
        while written < MUCH:
            written += reading.try_write(memoryview(bytes(1024)))
        await theirs.send_all(b"word")
        assert await read(reading) == b"word"
        assert len(sleeps) == 1
        await theirs.send_all(bytes(MUCH))
        assert await read(reading) == bytes(MUCH)
        assert len(sleeps) == 1, "what is there is there at the first look"
        await theirs.send_all(b"word")
        assert await read(reading) == b"word"
        assert len(sleeps) == 2


@pytest.mark.parametrize("seconds", [LONG, 0.0001])
async def test_who_polls_can_be_woken(seconds: float) -> None:
    async with pair(seconds) as (reading, theirs):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wake() -> None:
                if seconds == LONG:
                    await while_it_polls(reading.wake)
                else:
                    await trio.testing.wait_all_tasks_blocked()
                    reading.wake()

            assert await read(reading) is None
        await theirs.send_all(b"word")
        assert await read(reading) == b"word"


async def test_who_polls_can_be_cancelled_and_loses_nothing() -> None:
    async with pair() as (reading, theirs):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(while_it_polls, scope.cancel)
                await read(reading)
        assert scope.cancelled_caught
        assert not descriptor._polling
        await theirs.send_all(b"word")
        assert await read(reading) == b"word"


async def test_who_polls_sees_the_peer_go() -> None:
    async with pair() as (reading, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(while_it_polls, theirs.socket.close)
        assert await read(reading) == b""


async def test_who_polls_sees_the_socket_closed_here() -> None:
    async with pair() as (reading, _), trio.open_nursery() as nursery:
        nursery.start_soon(while_it_polls, reading.close)
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError):
                await read(reading)


# -- a connection


@pytest.mark.parametrize("seconds", [0.0005, 0.0])
async def test_a_connection_polls_for_words_as_its_limits_say(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    poll_always(monkeypatch)
    polls = 0
    poll = Descriptor._poll

    async def count(reading: Descriptor) -> bool:
        nonlocal polls
        polls += 1
        return await poll(reading)

    monkeypatch.setattr(Descriptor, "_poll", count)
    ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair())
    limits = trio_ssh.Limits(busy_poll_seconds=seconds)
    with trio.fail_after(10):
        async with open_memory_client(
            OpenDoor(), host_key=HOST_KEY, streams=(ours, theirs), client_limits=limits, server_limits=limits
        ) as client:
            assert polls == 0, "there is no polling before the login"
            for number in range(10):
                done = await client.run_process("cat", stdin=b"%d" % number, capture_stdout=True)
                assert done.stdout == b"%d" % number
    assert bool(polls) == bool(seconds)


async def test_a_peer_that_sends_and_sends_words_holds_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling is a turn among the others' turns, for however long it goes on."""
    poll_always(monkeypatch)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair())
    limits = trio_ssh.Limits(busy_poll_seconds=LONG)
    with trio.fail_after(10):
        async with open_memory_client(
            OpenDoor(), host_key=HOST_KEY, streams=(ours, theirs), client_limits=limits
        ) as client:
            process = await client.open_process("cat")
            for _ in range(3):
                await process.stdin.send_all(b"word")
                assert await process.stdout.receive_some() == b"word"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_turns)
                with trio.move_on_after(0.01):
                    await process.stdout.receive_some()  # nothing comes
                nursery.cancel_scope.cancel()
    assert turns > 10
