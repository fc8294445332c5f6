"""A fault does what it says at the byte that it names, and nothing else to the stream."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
import trio.testing

from trio_ssh.testing.faults import (
    CutStream,
    DelayedStream,
    FaultyStream,
    FlippedStream,
    FragmentedStream,
    StalledStream,
    delayed_pair,
)
from trio_ssh.testing.memory import memory_pair

Wrap = Callable[[trio.abc.Stream], trio.abc.Stream]


@pytest.mark.parametrize(
    "wrap",
    [
        FaultyStream,
        lambda stream: FragmentedStream(stream, 5000),
        lambda stream: FlippedStream(stream, sent=10**9),
        CutStream,
        StalledStream,
    ],
    ids=["none", "fragmented", "flipped", "cut", "stalled"],
)
async def test_a_stream_whose_fault_does_not_strike_is_a_stream(wrap: Wrap) -> None:
    async def make() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        await trio.lowlevel.checkpoint()
        left, right = trio.testing.memory_stream_pair()
        return wrap(left), wrap(right)

    async def make_clogged() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        await trio.lowlevel.checkpoint()
        left, right = trio.testing.lockstep_stream_pair()
        return wrap(left), wrap(right)

    with trio.fail_after(5):
        await trio.testing.check_two_way_stream(make, make_clogged)


async def test_a_delayed_pair_is_a_pair_of_half_closeable_streams(autojump_clock: trio.testing.MockClock) -> None:
    async def make() -> tuple[DelayedStream, DelayedStream]:
        await trio.lowlevel.checkpoint()
        return delayed_pair(0.01)

    with trio.fail_after(60):
        await trio.testing.check_half_closeable_stream(make, None)


async def collect(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_a_fragmented_stream_receives_byte_by_byte() -> None:
    left, right = memory_pair()
    slow = FragmentedStream(right)
    await left.send_all(b"abc")
    assert [await slow.receive_some(), await slow.receive_some(10), await slow.receive_some()] == [b"a", b"b", b"c"]
    assert slow.received_bytes == 3


async def test_a_fragmented_stream_takes_the_smaller_of_two_bounds() -> None:
    left, right = memory_pair()
    slow = FragmentedStream(right, 4)
    await left.send_all(b"abcdefgh")
    assert await slow.receive_some(2) == b"ab"
    assert await slow.receive_some(5) == b"cdef"


@pytest.mark.parametrize("offset", [0, 2, 5])
async def test_one_byte_is_flipped_in_the_direction_that_was_named(offset: int) -> None:
    expected = bytearray(b"abcdef")
    expected[offset] ^= 0x81
    left, right = memory_pair()
    flipping = FlippedStream(left, sent=offset, received=offset, mask=0x81)
    for piece in (b"abc", b"def"):
        await flipping.send_all(piece)
        await right.send_all(piece)
    assert await right.receive_some() == expected
    assert await flipping.receive_some() == expected


@pytest.mark.parametrize("size", [0, 1, 4])
async def test_a_stream_is_cut_behind_so_many_sent_bytes(size: int) -> None:
    left, right = memory_pair()
    cut = CutStream(left, sent=size)
    with pytest.raises(trio.BrokenResourceError):
        await cut.send_all(b"abcd")
    assert await collect(right) == b"abcd"[:size]
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await cut.send_all(b"more")
        with pytest.raises(trio.BrokenResourceError):
            await cut.receive_some()
    await cut.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await cut.receive_some()


@pytest.mark.parametrize("size", [0, 1, 4])
async def test_a_stream_ends_behind_so_many_received_bytes(size: int) -> None:
    left, right = memory_pair()
    cut = CutStream(right, received=size, how="eof")
    await left.send_all(b"abcdefgh")
    assert await collect(cut) == b"abcdefgh"[:size]
    assert await cut.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await cut.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await left.send_all(b"x")


@pytest.mark.parametrize("how", ["eof", "break"])
async def test_a_cut_by_hand_wakes_whoever_waits(how: str) -> None:
    left, right = memory_pair()
    cut = CutStream(left, how="eof" if how == "eof" else "break")
    endings: list[object] = []

    async def receive() -> None:
        try:
            endings.append(await cut.receive_some())
        except trio.BrokenResourceError:
            endings.append("broken")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await cut.cut()
    assert endings == [b"" if how == "eof" else "broken"]
    assert await collect(right) == b""


async def test_a_stalled_stream_sends_what_is_in_front_of_the_stall_and_then_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = memory_pair()
    stalled = StalledStream(left, sent=3, received=2)
    await right.send_all(b"123456")
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):
        await stalled.send_all(b"abcdef")
    assert await right.receive_some() == b"abc"
    assert await stalled.receive_some() == b"12"
    for method in (stalled.wait_send_all_might_not_block, stalled.receive_some):
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            await method()


async def test_a_stall_ends_when_it_is_told_to() -> None:
    left, right = memory_pair()
    stalled = StalledStream(left)
    stalled.stop_sending()
    stalled.stop_receiving()
    await right.send_all(b"back")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalled.send_all, b"there")
        await trio.testing.wait_all_tasks_blocked()
        assert stalled.sent_bytes == 0
        stalled.go_on()
    assert await right.receive_some() == b"there"
    assert await stalled.receive_some() == b"back"


async def test_closing_a_stalled_stream_wakes_whoever_waits() -> None:
    left, _ = memory_pair()
    stalled = StalledStream(left, sent=0, received=0)

    async def expect_closed(method: Callable[[], object]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await method()  # type: ignore[misc]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed, stalled.receive_some)
        nursery.start_soon(expect_closed, lambda: stalled.send_all(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        await stalled.aclose()


async def test_a_long_path_delays_each_piece_and_not_the_sum(autojump_clock: trio.testing.MockClock) -> None:
    left, right = delayed_pair(0.05)
    for piece in (b"ab", b"cd"):
        await left.send_all(piece)
    assert trio.current_time() == 0
    assert left.in_flight_bytes == 4
    assert await right.receive_some(1) == b"a"
    assert await right.receive_some() == b"b"
    assert await right.receive_some() == b"cd"
    assert trio.current_time() == pytest.approx(0.05)
    await left.send_eof()
    assert await right.receive_some() == b""
    assert trio.current_time() == pytest.approx(0.1)


async def test_a_narrow_path_takes_as_long_as_the_line_needs(autojump_clock: trio.testing.MockClock) -> None:
    left, right = delayed_pair(1, bytes_per_second=100)
    await left.send_all(bytes(200))
    assert trio.current_time() == pytest.approx(2)
    await left.send_all(bytes(100))
    assert trio.current_time() == pytest.approx(3)
    assert len(await right.receive_some()) == 200
    assert len(await right.receive_some()) == 100
    assert trio.current_time() == pytest.approx(4)


async def test_what_is_under_way_still_arrives_when_the_sender_closes(autojump_clock: trio.testing.MockClock) -> None:
    left, right = delayed_pair(1)
    await left.send_all(b"last words")
    await left.aclose()
    assert await collect(right) == b"last words"
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"too late")


async def test_an_idle_path_has_no_timer() -> None:
    left, right = delayed_pair(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        nursery.cancel_scope.cancel()
    await left.aclose()


def test_a_faulty_stream_tells_what_has_passed() -> None:
    assert repr(FaultyStream(memory_pair()[0])) == "<FaultyStream, 0 bytes sent, 0 received>"
