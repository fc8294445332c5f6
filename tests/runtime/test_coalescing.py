"""Reads of a large transfer are put together, and nobody else's are."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB
from trio_ssh.runtime import engine
from trio_ssh.runtime.coalescing import Coalescing
from trio_ssh.runtime.descriptor import Descriptor

#: What a read is to bring at the most.
MUCH = 512 * KIB


class Clocks:
    """Both clocks: trio's, and the machine's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trio = 0.0
        self.machine = 1000.0
        #: Between two reads: 32 KiB at a time are 1.6 GB a second.
        self.seconds = 0.00002
        monkeypatch.setattr(time, "perf_counter", lambda: self.machine)

    def tick(self) -> None:
        self.trio += self.seconds
        self.machine += self.seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def bring(coalescing: Coalescing, clocks: Clocks, total: int, size: int) -> list[int]:
    """Bring so much, in reads of one size; return what each wants the next to bring."""
    wishes: list[int] = []
    for _ in range(total // size):
        clocks.tick()
        wishes.append(coalescing.least(size, 0, 0, clocks.trio))
    return wishes


def grant(coalescing: Coalescing, clocks: Clocks, total: int, size: int, window: int = 2 * MIB) -> list[int]:
    """Grant so much, in reads of 36 bytes that grant so much each."""
    wishes: list[int] = []
    for _ in range(total // size):
        clocks.tick()
        wishes.append(coalescing.least(36, size, window, clocks.trio))
    return wishes


def test_a_large_transfer_is_waited_for(clocks: Clocks) -> None:
    coalescing = Coalescing()
    assert set(bring(coalescing, clocks, 15 * MIB, 32 * KIB)) == {1}
    bring(coalescing, clocks, 1 * MIB, 32 * KIB)
    assert set(bring(coalescing, clocks, 100 * MIB, 32 * KIB)) == {MUCH}


@pytest.mark.parametrize("milliseconds", [0.1, 1, 30, 100_000])
def test_no_more_is_waited_for_than_comes_in_a_millisecond_and_a_half(clocks: Clocks, milliseconds: float) -> None:
    coalescing = Coalescing()
    clocks.seconds = milliseconds / 1000
    bring(coalescing, clocks, 17 * MIB, 32 * KIB)
    for wish in bring(coalescing, clocks, 100 * MIB, 32 * KIB):
        assert wish == pytest.approx(max(1, 32 * KIB * 1.5 / milliseconds), rel=0.01)
    coalescing = Coalescing()
    grant(coalescing, clocks, 17 * MIB, 32 * KIB)
    for wish in grant(coalescing, clocks, 100 * MIB, 32 * KIB):
        assert wish == pytest.approx(max(1, 36 * 1.5 / milliseconds), abs=2)
        assert wish >= 1


@pytest.mark.parametrize("window", [2 * MIB, 64 * KIB])
def test_of_an_upload_it_is_what_grants_half_a_window(clocks: Clocks, window: int) -> None:
    coalescing = Coalescing()
    assert set(grant(coalescing, clocks, 15 * MIB, 32 * KIB, window)) == {1}
    grant(coalescing, clocks, 2 * MIB, 32 * KIB, window)
    for wish in grant(coalescing, clocks, 100 * MIB, 32 * KIB, window):
        assert wish == pytest.approx(36 * (window // 2) // (32 * KIB), abs=2)


def test_a_peer_that_grants_seldom_is_heard_at_once(clocks: Clocks) -> None:
    coalescing = Coalescing()
    for wish in grant(coalescing, clocks, 100 * MIB, 2 * MIB, 4 * MIB):
        assert wish <= 36


def test_an_upload_may_become_a_download_and_the_other_way(clocks: Clocks) -> None:
    coalescing = Coalescing()
    grant(coalescing, clocks, 1000 * MIB, 64 * KIB)
    assert bring(coalescing, clocks, 32 * MIB, 32 * KIB)[-1] == MUCH
    bring(coalescing, clocks, 1000 * MIB, 64 * KIB)
    # What each waits for is long in coming; that it is given up tells the one from the other.
    coalescing.give_up()
    assert grant(coalescing, clocks, 64 * MIB, 64 * KIB)[-1] < 1000


def next_price(coalescing: Coalescing, clocks: Clocks) -> int:
    """Return after how many MiB much is waited for."""
    mebibytes = 0
    while True:
        mebibytes += 1
        if bring(coalescing, clocks, MIB, 32 * KIB)[-1] > 1:
            return mebibytes


def test_what_was_in_vain_is_not_tried_again_soon(clocks: Clocks) -> None:
    coalescing = Coalescing()
    prices: list[int] = []
    for _ in range(7):
        prices.append(next_price(coalescing, clocks))
        coalescing.give_up()
        assert coalescing.least(32 * KIB, 0, 0, clocks.trio) == 1
    assert prices == [16, 32, 64, 128, 256, 256, 256]


def test_what_brought_much_before_it_was_in_vain_is(clocks: Clocks) -> None:
    coalescing = Coalescing()
    assert next_price(coalescing, clocks) == 16
    coalescing.give_up()
    assert next_price(coalescing, clocks) == 32
    bring(coalescing, clocks, 4 * 32 * MIB, 32 * KIB)
    coalescing.give_up()
    assert next_price(coalescing, clocks) == 16


@pytest.mark.parametrize("jump", [0.0, 10.0], ids=["stands still", "jumps"])
def test_nobody_waits_on_a_test_s_clock(clocks: Clocks, jump: float) -> None:
    coalescing = Coalescing()
    for read in range(400):
        clocks.machine += 0.0001
        clocks.trio += jump * (read % 50 == 0)
        assert coalescing.least(200 * KIB, 0, 0, clocks.trio) == 1


# -- with sockets


class Patient(Coalescing):
    """Wants much of every read."""

    given_up = 0

    def least(self, size: int, granted: int, window: int, now: float) -> int:
        return MUCH

    def give_up(self) -> None:
        Patient.given_up += 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> type[Patient]:
    Patient.given_up = 0
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
    if sys.platform == "linux":
        assert patient.given_up > 1


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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not told how much to wait for")
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


async def test_a_large_transfer_ends_on_a_clock_that_stands_still(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        [listener, *_] = await nursery.start(SERVE)
        port = listener.socket.getsockname()[1]
        async with trio_ssh.connect("127.0.0.1", port, "alice", known_hosts=_known(port), config=None) as client:
            done = await client.run_process("count", stdin=bytes(40 * MIB), capture_stdout=True)
        nursery.cancel_scope.cancel()
    assert done.stdout == b"%d" % (40 * MIB)
    assert mock_clock.current_time() == 0
