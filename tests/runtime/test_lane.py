"""A lane: from the reader, which never waits, to the user, who may."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ssh.core.channel import Batch
from trio_ssh.runtime.lane import Lane
from trio_ssh.runtime.lead import asleep


def batch(data: bytes) -> Batch:
    new = Batch()
    new.add(memoryview(data))
    return new


async def test_what_is_delivered_is_received_in_pieces_of_the_asked_size() -> None:
    lane = Lane(asleep)
    lane.deliver(batch(b"abcdef"))
    assert lane.unread_bytes == 6
    assert await lane.receive(4) == b"abcd"
    assert lane.unread_bytes == 2
    assert await lane.receive(4) == b"ef"
    assert lane.unread_bytes == 0


async def test_what_comes_while_nobody_reads_joins_what_waits() -> None:
    lane = Lane(asleep)
    for _ in range(1000):
        lane.deliver(batch(b"x"))
    assert lane.unread_bytes == 1000
    assert await lane.receive(10_000) == b"x" * 1000


async def test_what_comes_while_the_reader_is_in_the_middle_waits_behind_it() -> None:
    lane = Lane(asleep)
    lane.deliver(batch(b"first"))
    assert await lane.receive(2) == b"fi"
    lane.deliver(batch(b"second"))
    lane.deliver(batch(b"third"))
    assert await lane.receive(100) == b"rst"
    assert await lane.receive(100) == b"secondthird"


@pytest.mark.parametrize("steps", range(5))
async def test_what_joins_a_batch_on_its_way_to_a_reader_is_not_lost(steps: int) -> None:
    lane = Lane(asleep)
    received = bytearray()

    async def read() -> None:
        while len(received) < 6:
            received.extend(await lane.receive(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        lane.deliver(batch(b"abc"))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        lane.deliver(batch(b"def"))
    assert received == b"abcdef"


@pytest.mark.parametrize("steps", range(5))
async def test_a_reader_that_is_cancelled_loses_nothing(steps: int) -> None:
    lane = Lane(asleep)
    received = bytearray()

    async def read(scope: trio.CancelScope) -> None:
        with scope:
            received.extend(await lane.receive(100))

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, scope)
        await trio.testing.wait_all_tasks_blocked()
        lane.deliver(batch(b"abc"))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()
    lane.deliver(batch(b"def"))
    while len(received) < 6:
        received.extend(await lane.receive(100))
    assert received == b"abcdef"


async def test_the_end_comes_behind_what_was_delivered() -> None:
    lane = Lane(asleep)
    lane.deliver(batch(b"abc"))
    lane.end()
    lane.end()
    lane.deliver(batch(b"too late"))
    assert await lane.receive(2) == b"ab"
    assert await lane.receive(2) == b"c"
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            assert await lane.receive(2) == b""


async def test_the_end_wakes_a_reader() -> None:
    lane = Lane(asleep)
    received: list[bytes] = []

    async def read() -> None:
        received.append(await lane.receive(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        lane.end()
    assert received == [b""]


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_clearing_drops_what_waits_and_tells_the_reader_that_it_was_closed(is_waiting: bool) -> None:
    lane = Lane(asleep)

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await lane.receive(100)

    async with trio.open_nursery() as nursery:
        if is_waiting:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
        else:
            lane.deliver(batch(b"abc"))
        lane.clear()
    assert lane.unread_bytes == 0
    await read()
    lane.deliver(batch(b"too late"))
    await read()
