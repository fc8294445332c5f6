"""Flow control: nobody is starved, a long fat path is filled, and what can wait for readers has a bound."""

from __future__ import annotations

from collections import deque
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, MIB, Limits
from trio_ssh.core.window import WINDOW_LIMIT, InboundWindow, OutboundWindow, WindowBudget
from trio_ssh.errors import RemoteProtocolError

LIMITS: Final = Limits(initial_window_bytes=64 * KIB, largest_window_bytes=512 * KIB, all_windows_bytes=24 * MIB)


def stream(window: InboundWindow, size: int, packet: int = 32 * KIB) -> None:
    """The peer sends `size` bytes to a reader that takes them as they come."""
    while size:
        taken = min(packet, size, window.left)
        assert taken, "a reader that keeps up never finds its window shut"
        window.receive(taken)
        window.take(taken, 0)
        size -= taken


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300 * KIB)), max_size=60))
def test_what_was_granted_is_what_may_come_and_what_came(steps: list[tuple[bool, int]]) -> None:
    """However a peer sends and a reader takes: left + unread + taken and not granted again = size."""
    window = WindowBudget(LIMITS).open_window()
    granted, arrived, taken = window.left, 0, 0
    for is_arrival, size in steps:
        if is_arrival:
            coming = min(size, window.left)
            window.receive(coming)
            arrived += coming
        else:
            wanted = min(size, arrived - taken)
            taken += wanted
            grant = window.take(wanted, arrived - taken)
            assert grant >= 0
            granted += grant
        assert window.left == granted - arrived
        assert window.left + (arrived - taken) <= window.size <= LIMITS.largest_window_bytes
        if arrived == taken:
            assert window.left > window.size - max(1, min(window.size // 2, MIB))


@pytest.mark.parametrize("excess", [1, 2**31])
def test_more_than_was_granted_is_the_peer_s_error(excess: int) -> None:
    window = WindowBudget(DEFAULT_LIMITS).open_window()
    window.receive(window.left - 1)
    with pytest.raises(RemoteProtocolError, match="the window has 1 left"):
        window.receive(1 + excess)
    window.receive(1)
    assert window.left == 0


def test_a_window_grows_while_its_reader_keeps_up() -> None:
    window = WindowBudget(DEFAULT_LIMITS).open_window()
    sizes = {window.size}
    for _ in range(100):
        stream(window, MIB)
        sizes.add(window.size)
    assert sizes == {3 * MIB, 6 * MIB, 12 * MIB, 16 * MIB}


def test_a_window_does_not_grow_for_a_reader_that_lags_behind() -> None:
    window = WindowBudget(DEFAULT_LIMITS).open_window()
    window.receive(MIB)
    for _ in range(1000):
        window.receive(32 * KIB)
        window.take(32 * KIB, MIB)
    assert window.size == DEFAULT_LIMITS.initial_window_bytes


def test_a_path_of_100_ms_and_1_gbit_is_filled() -> None:
    """Counted, not timed: slots of 1 ms, 125,000 bytes each, that take 50 slots each way."""
    per_slot, delay = 125_000, 50
    window = WindowBudget(DEFAULT_LIMITS).open_window()
    allowed = window.left
    coming: deque[int] = deque([0] * delay)
    returning: deque[int] = deque([0] * delay)
    sent: list[int] = []
    in_flight: list[int] = []
    for _ in range(4000):
        allowed += returning.popleft()
        size = min(per_slot, allowed)
        allowed -= size
        sent.append(size)
        coming.append(size)
        grant = 0
        left = coming.popleft()
        while left:
            packet = min(32 * KIB, left)
            window.receive(packet)
            grant += window.take(packet, 0)
            left -= packet
        returning.append(grant)
        in_flight.append(allowed + sum(coming) + sum(returning))
    assert sum(sent[-1000:]) == 1000 * per_slot, "once it is warm, the path is never idle"
    assert min(in_flight[-1000:]) > 12_500_000
    assert max(in_flight) <= DEFAULT_LIMITS.largest_window_bytes


@pytest.mark.parametrize(
    "limits",
    [
        DEFAULT_LIMITS,
        LIMITS,
        Limits(channels=1),
        Limits(channels=1000),  # more than the least window of each would allow
        Limits(channels=7, all_windows_bytes=1 * MIB),
        Limits(initial_window_bytes=1000),
        Limits(initial_window_bytes=4 * MIB, largest_window_bytes=1 * MIB),
    ],
)
def test_all_windows_together_have_a_bound(limits: Limits) -> None:
    budget = WindowBudget(limits)
    windows = [budget.open_window() for _ in range(limits.channels)]
    for window in windows:
        assert 0 < window.size <= limits.initial_window_bytes
        stream(window, 4 * window.size)
    for window in windows:
        stream(window, 40 * window.size)
    assert sum(window.size for window in windows) <= limits.all_windows_bytes


def test_the_first_channels_are_given_much_and_the_last_enough() -> None:
    budget = WindowBudget(DEFAULT_LIMITS)
    windows = [budget.open_window() for _ in range(DEFAULT_LIMITS.channels)]
    assert windows[0].size == DEFAULT_LIMITS.initial_window_bytes
    assert windows[9].size >= 1 * MIB
    assert min(window.size for window in windows) >= 64 * KIB


def test_three_streams_fill_a_long_fat_path_at_once() -> None:
    budget = WindowBudget(DEFAULT_LIMITS)
    windows = [budget.open_window() for _ in range(3)]
    for _ in range(20):
        for window in windows:
            stream(window, 8 * MIB)
    assert [window.size for window in windows] == [16 * MIB] * 3


def test_a_closed_channel_gives_its_share_back_once() -> None:
    budget = WindowBudget(DEFAULT_LIMITS)
    for _ in range(10):
        window = budget.open_window()
        assert window.size == DEFAULT_LIMITS.initial_window_bytes
        stream(window, 100 * MIB, 128 * KIB)
        assert window.size == DEFAULT_LIMITS.largest_window_bytes
        window.close()
        window.close()
    windows = [budget.open_window() for _ in range(DEFAULT_LIMITS.channels)]
    assert sum(window.size for window in windows) <= DEFAULT_LIMITS.all_windows_bytes


def test_what_we_may_send_never_passes_the_rfc_s_limit() -> None:
    window = OutboundWindow(5, 100)
    window.grant(WINDOW_LIMIT - 6)
    assert window.left == 2**32 - 1
    with pytest.raises(RemoteProtocolError, match="2\\*\\*32"):
        window.grant(1)
    assert window.left == 2**32 - 1


def test_what_the_peer_lets_be_under_way_is_known_from_what_was_left_when_it_was_most() -> None:
    window = OutboundWindow(100, 50)
    assert window.most == 100
    window.left -= 70
    window.grant(50)
    assert window.most == 100
    window.grant(60)  # it has dealt with all, and widens
    assert window.most == 140
