"""Reads of a large transfer are put together, and nobody else's are."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB
from trio_ssh.runtime import engine
from trio_ssh.runtime.coalescing import Coalescing
from trio_ssh.runtime.descriptor import KNOWS_LEAST, Descriptor, knows_least

#: What a read is to bring at the most.
MUCH = 512 * KIB


class Clock:
    """Trio's time."""

    def __init__(self) -> None:
        self.now = 0.0
        #: Between two reads: 32 KiB at a time are 1.6 GB a second.
        self.seconds = 0.00002

    def tick(self) -> None:
        self.now += self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bring(coalescing: Coalescing, clock: Clock, total: int, size: int) -> list[int]:
    """Bring so much, in reads of one size; return what each wants the next to bring."""
    wishes: list[int] = []
    for _ in range(total // size):
        clock.tick()
        wishes.append(coalescing.least(size, 0, 0, clock.now))
    return wishes


def grant(coalescing: Coalescing, clock: Clock, total: int, size: int, window: int = 2 * MIB) -> list[int]:
    """Grant so much, in reads of 36 bytes that grant so much each."""
    wishes: list[int] = []
    for _ in range(total // size):
        clock.tick()
        wishes.append(coalescing.least(36, size, window, clock.now))
    return wishes


def test_a_large_transfer_is_waited_for(clock: Clock) -> None:
    coalescing = Coalescing()
    assert set(bring(coalescing, clock, 15 * MIB, 32 * KIB)) == {1}
    bring(coalescing, clock, 1 * MIB, 32 * KIB)
    assert set(bring(coalescing, clock, 100 * MIB, 32 * KIB)) == {MUCH}


@pytest.mark.parametrize("milliseconds", [0.1, 1, 30, 100_000])
def test_no_more_is_waited_for_than_comes_in_a_millisecond_and_a_half(clock: Clock, milliseconds: float) -> None:
    coalescing = Coalescing()
    clock.seconds = milliseconds / 1000
    bring(coalescing, clock, 17 * MIB, 32 * KIB)
    for wish in bring(coalescing, clock, 100 * MIB, 32 * KIB):
        assert wish == pytest.approx(max(1, 32 * KIB * 1.5 / milliseconds), rel=0.01)
    coalescing = Coalescing()
    grant(coalescing, clock, 17 * MIB, 32 * KIB)
    for wish in grant(coalescing, clock, 100 * MIB, 32 * KIB):
        assert wish == pytest.approx(max(1, 36 * 1.5 / milliseconds), abs=2)
        assert wish >= 1


@pytest.mark.parametrize("window", [2 * MIB, 64 * KIB])
def test_of_an_upload_it_is_what_grants_half_a_window(clock: Clock, window: int) -> None:
    coalescing = Coalescing()
    assert set(grant(coalescing, clock, 15 * MIB, 32 * KIB, window)) == {1}
    grant(coalescing, clock, 2 * MIB, 32 * KIB, window)
    for wish in grant(coalescing, clock, 100 * MIB, 32 * KIB, window):
        assert wish == pytest.approx(36 * (window // 2) // (32 * KIB), abs=2)


def test_a_peer_that_grants_seldom_is_heard_at_once(clock: Clock) -> None:
    coalescing = Coalescing()
    for wish in grant(coalescing, clock, 100 * MIB, 2 * MIB, 4 * MIB):
        assert wish <= 36


def test_an_upload_may_become_a_download_and_the_other_way(clock: Clock) -> None:
    coalescing = Coalescing()
    grant(coalescing, clock, 1000 * MIB, 64 * KIB)
    assert bring(coalescing, clock, 32 * MIB, 32 * KIB)[-1] == MUCH
    bring(coalescing, clock, 1000 * MIB, 64 * KIB)
    # What each waits for is long in coming; that it is given up tells the one from the other.
    coalescing.give_up()
    assert grant(coalescing, clock, 64 * MIB, 64 * KIB)[-1] < 1000


def next_price(coalescing: Coalescing, clock: Clock) -> int:
    """Return after how many MiB much is waited for."""
    mebibytes = 0
    while True:
        mebibytes += 1
        if bring(coalescing, clock, MIB, 32 * KIB)[-1] > 1:
            return mebibytes


def test_what_was_in_vain_is_not_tried_again_soon(clock: Clock) -> None:
    coalescing = Coalescing()
    prices: list[int] = []
    for _ in range(7):
        prices.append(next_price(coalescing, clock))
        coalescing.give_up()
        assert coalescing.least(32 * KIB, 0, 0, clock.now) == 1
    assert prices == [16, 32, 64, 128, 256, 256, 256]


def test_what_brought_much_before_it_was_in_vain_is(clock: Clock) -> None:
    coalescing = Coalescing()
    assert next_price(coalescing, clock) == 16
    coalescing.give_up()
    assert next_price(coalescing, clock) == 32
    bring(coalescing, clock, 4 * 32 * MIB, 32 * KIB)
    coalescing.give_up()
    assert next_price(coalescing, clock) == 16


def test_time_that_does_not_pass_is_no_measure(clock: Clock) -> None:
    coalescing = Coalescing()
    clock.seconds = 0
    assert set(bring(coalescing, clock, 64 * MIB, 32 * KIB)) == {1}


def test_a_window_that_is_claimed_lets_nobody_wait_for_more(clock: Clock) -> None:
    coalescing = Coalescing()
    clock.seconds = 0.0000001
    assert max(grant(coalescing, clock, 2**40, 2**20, 2**32 - 1)) <= MUCH


# -- with sockets


class Patient(Coalescing):
    """Wants much of every read."""

    wishes = 0

    def least(self, size: int, granted: int, window: int, now: float) -> int:
        Patient.wishes += 1
        return MUCH

    def give_up(self) -> None:
        pass


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> type[Patient]:
    Patient.wishes = 0
    monkeypatch.setattr(engine, "Coalescing", Patient)
    return Patient


class Server(trio_ssh.ServerInterface):
    def check_auth_none(self, username: str) -> int:
        return trio_ssh.AUTH_SUCCESSFUL

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        received = 0
        while data := await process.stdin.receive_some():
            received += len(data)
        await process.stdout.send_all(b"%d" % received)
        return 0


@contextlib.asynccontextmanager
async def client_of_server() -> AsyncIterator[trio_ssh.SSHClient]:
    """Two of ours over TCP."""
    async with trio.open_nursery() as nursery:
        [listener, *_] = await nursery.start(SERVE)
        port = listener.socket.getsockname()[1]
        with trio.fail_after(60):
            async with trio_ssh.connect("127.0.0.1", port, "alice", known_hosts=_known(port), config=None) as client:
                yield client
        nursery.cancel_scope.cancel()


async def test_everything_works_where_each_read_is_to_bring_much(patient: type[Patient]) -> None:
    async with client_of_server() as client:
        done = await client.run_process("count", stdin=bytes(2 * MIB), capture_stdout=True)
    assert done.stdout == b"%d" % (2 * MIB)
    assert patient.wishes > 1


async def test_whoever_asks_has_the_answer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 3600)
    async with client_of_server() as client:
        transport = client.get_transport()
        assert transport is not None
        transport._engine._coalescing = Patient()
        for _ in range(3):
            await transport.ping()
            channel = await transport.open_session()
            await channel.exec_command("count")
            await channel.aclose()


@pytest.mark.skipif(not KNOWS_LEAST, reason="other systems are not told how much to wait for")
async def test_it_is_taken_back_when_the_transfer_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes: list[int] = []
    is_over = trio.Event()
    wake_for = Descriptor.wake_for

    def note(descriptor: Descriptor, least: int) -> None:
        if least == 1 < descriptor.least:
            is_over.set()
        wake_for(descriptor, least)
        wishes.append(descriptor.least)

    monkeypatch.setattr(Descriptor, "wake_for", note)
    left = 64 * MIB
    async with client_of_server() as client:
        process = await client.open_process("count")
        while left:
            await process.stdin.send_all(bytes(MIB))
            left -= MIB
        # Nobody says anything, and the server's reader stops waiting for much.
        await is_over.wait()
        assert max(wishes) == MUCH
        await process.stdin.aclose()
        assert await process.stdout.receive_some() == b"%d" % (64 * MIB)


SERVE = functools.partial(trio_ssh.serve_tcp, Server, 0, host="127.0.0.1", host_keys=[HOST_KEY])


def _known(port: int) -> trio_ssh.HostKeys:
    known = trio_ssh.HostKeys()
    known.add(f"[127.0.0.1]:{port}", HOST_KEY.get_name(), HOST_KEY)
    return known


@contextlib.asynccontextmanager
async def within_real_seconds(seconds: float) -> AsyncIterator[None]:
    """Fail when so much time has passed outside: by a clock that nobody moves, no timeout of trio's ever runs out."""
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        timer = threading.Timer(seconds, token.run_sync_soon, (scope.cancel,))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
    assert not scope.cancelled_caught, f"it hung for {seconds} seconds"


async def test_a_large_transfer_ends_on_a_clock_that_is_moved_as_time_passes(
    mock_clock: trio.testing.MockClock,
) -> None:
    """It looks like a real one, and nobody who sleeps by it ever wakes."""
    async with within_real_seconds(60), trio.open_nursery() as nursery:
        [listener, *_] = await nursery.start(SERVE)
        port = listener.socket.getsockname()[1]
        async with trio_ssh.connect("127.0.0.1", port, "alice", known_hosts=_known(port), config=None) as client:
            process = await client.open_process("count")
            for _ in range(60):
                started = time.perf_counter()
                await process.stdin.send_all(bytes(MIB))
                mock_clock.jump(time.perf_counter() - started)
            await process.stdin.aclose()
            assert await process.stdout.receive_some() == b"%d" % (60 * MIB)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("system", "release", "does"),
    [
        ("linux", "6.18.44-fc", True),
        ("linux", "4.18.0-553.el8_10.x86_64", True),
        ("linux", "4.4.0", False),
        ("linux", "3.10.0-1160.el7.x86_64", False),
        ("linux", "unknown", False),
        ("darwin", "24.1.0", False),
    ],
)
def test_it_is_known_which_systems_wake_whoever_waits(system: str, release: str, does: bool) -> None:
    assert knows_least(system, release) is does


async def test_a_large_transfer_ends_on_a_clock_that_stands_still(mock_clock: trio.testing.MockClock) -> None:
    async with within_real_seconds(60), trio.open_nursery() as nursery:
        [listener, *_] = await nursery.start(SERVE)
        port = listener.socket.getsockname()[1]
        async with trio_ssh.connect("127.0.0.1", port, "alice", known_hosts=_known(port), config=None) as client:
            done = await client.run_process("count", stdin=bytes(40 * MIB), capture_stdout=True)
        nursery.cancel_scope.cancel()
    assert done.stdout == b"%d" % (40 * MIB)
    assert mock_clock.current_time() == 0
