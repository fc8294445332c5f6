"""Reads of a large transfer are put together, and nobody else's are."""

from __future__ import annotations

import functools
import time

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB
from trio_ssh.runtime import engine
from trio_ssh.runtime.coalescing import Coalescing

FULL = 256 * KIB


class Clocks:
    """Both clocks: trio's, and the machine's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trio = 0.0
        self.machine = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.machine)

    def tick(self) -> None:
        self.trio += 0.0001
        self.machine += 0.0001


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def bring(coalescing: Coalescing, clocks: Clocks, total: int, size: int) -> list[bool]:
    """Bring so much, in reads of one size."""
    decisions: list[bool] = []
    for _ in range(total // size):
        clocks.tick()
        decisions.append(coalescing.waits(size, 0, 0, clocks.trio))
    return decisions


def grant(coalescing: Coalescing, clocks: Clocks, total: int, size: int, used: int) -> list[bool]:
    """Grant so much, in reads that grant so much each, while so much is under way."""
    decisions: list[bool] = []
    for _ in range(total // size):
        clocks.tick()
        decisions.append(coalescing.waits(72, size, used, clocks.trio))
    return decisions


def test_a_large_transfer_is_waited_for(clocks: Clocks) -> None:
    coalescing = Coalescing(FULL)
    assert not any(bring(coalescing, clocks, 15 * MIB, 32 * KIB))
    bring(coalescing, clocks, 1 * MIB, 32 * KIB)
    assert all(bring(coalescing, clocks, 16 * MIB, 200 * KIB))


def test_behind_a_full_read_more_is_there_already(clocks: Clocks) -> None:
    coalescing = Coalescing(FULL)
    bring(coalescing, clocks, 20 * MIB, 200 * KIB)
    assert coalescing.waits(FULL, 0, 0, clocks.trio) is False
    assert coalescing.waits(FULL - 1, 0, 0, clocks.trio) is True


def test_a_wait_that_brought_little_is_not_repeated_before_another_16_mib(clocks: Clocks) -> None:
    coalescing = Coalescing(FULL)
    decisions = bring(coalescing, clocks, 160 * MIB, 100 * KIB)
    assert 8 <= sum(decisions) <= 10


def test_the_grants_of_a_peer_that_has_much_to_do_are_waited_for(clocks: Clocks) -> None:
    coalescing = Coalescing(FULL)
    assert not any(grant(coalescing, clocks, 15 * MIB, 64 * KIB, 2 * MIB))
    grant(coalescing, clocks, 1 * MIB, 64 * KIB, 2 * MIB)
    assert all(grant(coalescing, clocks, 16 * MIB, 64 * KIB, 1 * MIB))


def test_those_of_a_peer_that_could_run_dry_are_not(clocks: Clocks) -> None:
    coalescing = Coalescing(FULL)
    assert not any(grant(coalescing, clocks, 32 * MIB, 64 * KIB, 1 * MIB - 1))
    assert coalescing.waits(72, 64 * KIB, 1 * MIB, clocks.trio) is True


def test_a_wait_that_brought_a_small_grant_is_not_repeated_before_another_16_mib(clocks: Clocks) -> None:
    coalescing = Coalescing(FULL)
    decisions = grant(coalescing, clocks, 160 * MIB, 16 * KIB, 2 * MIB)
    assert 8 <= sum(decisions) <= 10


@pytest.mark.parametrize("jump", [0.0, 10.0], ids=["stands still", "jumps"])
def test_nobody_waits_on_a_test_s_clock(clocks: Clocks, jump: float) -> None:
    coalescing = Coalescing(FULL)
    decisions: list[bool] = []
    for read in range(200):
        clocks.machine += 0.0001
        clocks.trio += jump * (read == 50)
        decisions.append(coalescing.waits(200 * KIB, 0, 0, clocks.trio))
    assert not any(decisions)


class Patient:
    """Waits behind each read."""

    waits_made = 0

    def __init__(self, largest: int) -> None:
        assert largest == FULL

    def waits(self, size: int, granted: int, used_window: int, now: float) -> bool:
        Patient.waits_made += 1
        return True


class Server(trio_ssh.ServerInterface):
    def check_auth_none(self, username: str) -> int:
        return trio_ssh.AUTH_SUCCESSFUL

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        received = 0
        while data := await process.stdin.receive_some():
            received += len(data)
        await process.stdout.send_all(b"%d" % received)
        return 0


async def test_everything_works_where_each_read_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Coalescing", Patient)
    async with trio.open_nursery() as nursery:
        [listener, *_] = await nursery.start(SERVE)
        port = listener.socket.getsockname()[1]
        with trio.fail_after(60):
            async with trio_ssh.connect("127.0.0.1", port, "alice", known_hosts=_known(port), config=None) as client:
                done = await client.run_process("count", stdin=bytes(2 * MIB), capture_stdout=True)
        nursery.cancel_scope.cancel()
    assert done.stdout == b"%d" % (2 * MIB)
    assert Patient.waits_made > 10


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
