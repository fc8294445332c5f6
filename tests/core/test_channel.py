"""A channel's two halves, and the data on its way to a reader."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.core.channel import NEXT, Batch, CoreChannel, Half, Passing, Source
from trio_ssh.core.limits import DEFAULT_LIMITS
from trio_ssh.core.window import WindowBudget

# RFC 4254 s5.3: EOF ends data and nothing else; CLOSE ends everything.
LAWFUL: Final = {
    (Half.OPEN, Passing.DATA, Half.OPEN),
    (Half.OPEN, Passing.REQUEST, Half.OPEN),
    (Half.OPEN, Passing.EOF, Half.EOF),
    (Half.OPEN, Passing.CLOSE, Half.CLOSED),
    (Half.EOF, Passing.REQUEST, Half.EOF),
    (Half.EOF, Passing.CLOSE, Half.CLOSED),
}


@pytest.mark.parametrize("half", Half)
@pytest.mark.parametrize("passing", Passing)
def test_a_half_goes_on_as_the_rfc_says_or_not_at_all(half: Half, passing: Passing) -> None:
    following = {after for before, what, after in LAWFUL if (before, what) == (half, passing)}
    assert {NEXT[half, passing]} == following if following else (half, passing) not in NEXT


def test_the_table_holds_nothing_else() -> None:
    assert {(*before, after) for before, after in NEXT.items()} == LAWFUL


PATTERN: Final = bytes(range(256)) * 200
sizes: Final = st.one_of(st.integers(0, 20), st.integers(2040, 2056), st.sampled_from([5000, 32768, 40000]))
steps: Final = st.lists(st.tuples(st.sampled_from(["add", "take", "absorb"]), st.lists(sizes, max_size=4)), max_size=30)


@given(steps)
def test_a_batch_is_the_bytes_that_were_added(script: list[tuple[str, list[int]]]) -> None:
    batch, expected, counter = Batch(), b"", 0

    def fresh(size: int) -> bytes:
        nonlocal counter
        counter += 1
        return PATTERN[counter : counter + size]

    for step, amounts in script:
        if step == "add":
            for size in amounts:
                chunk = fresh(size)
                batch.add(memoryview(chunk))
                expected += chunk
        elif step == "absorb":
            other = Batch()
            for size in amounts:
                chunk = fresh(size)
                other.add(memoryview(chunk))
                expected += chunk
            batch.absorb(other)
            assert other.size == 0
            assert other.take(100) == b""
        else:
            for limit in amounts:
                taken = batch.take(limit)
                assert type(taken) is bytes
                assert taken == expected[:limit]
                assert len(taken) == min(limit, len(expected))
                expected = expected[limit:]
        assert batch.size == len(expected)
    assert batch.take(sys.maxsize) == expected
    assert batch.size == 0


def test_what_was_taken_stays_what_it_was() -> None:
    batch = Batch()
    batch.add(memoryview(b"abc"))
    taken = batch.take(2)
    batch.add(memoryview(b"def"))
    assert (taken, batch.take(10)) == (b"ab", b"cdef")


def heap_of(make: Any) -> int:
    """Bytes that stay allocated for what `make` returns."""
    make()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        after = tracemalloc.get_traced_memory()[0]
        del kept
        return after - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunk_bytes", [1, 2, 100, 2047, 2048, 2049, 32768])
def test_data_costs_no_more_heap_than_twice_its_size(chunk_bytes: int) -> None:
    """A peer may send one byte per packet: as slices that would be 250 bytes of heap for each."""
    total = max(32 * 1024, 4 * chunk_bytes)

    def fill() -> Batch:
        batch = Batch()
        for _ in range(total // chunk_bytes):
            batch.add(memoryview(bytes(chunk_bytes + 20))[10:-10])  # as it lies in an opened packet
        return batch

    assert heap_of(fill) < 2 * total


def test_batches_of_one_byte_cost_no_more_when_they_are_joined() -> None:
    total = 4 * 1024

    def fill() -> Batch:
        waiting = Batch()
        for _ in range(total):
            arrived = Batch()
            arrived.add(memoryview(b"x"))
            waiting.absorb(arrived)
        return waiting

    assert heap_of(fill) < 2 * total


def test_a_channel_tells_its_first_chunk_from_the_next() -> None:
    channel = CoreChannel("session", 1, True, WindowBudget(DEFAULT_LIMITS).open_window())
    assert channel.receive(Source.DATA, memoryview(b"a"))
    assert not channel.receive(Source.DATA, memoryview(b"b"))
    assert channel.receive(Source.STDERR, memoryview(b"c"))
    assert channel.unread == 3
    for source, expected in ((Source.DATA, b"ab"), (Source.STDERR, b"c")):
        batch = channel.fetch(source)
        assert batch is not None
        assert batch.take(9) == expected
        assert channel.fetch(source) is None
    assert channel.receive(Source.DATA, memoryview(b"d"))
    assert channel == channel
    assert channel != CoreChannel("session", 1, True, channel.inbound_window), "two channels are never alike"
