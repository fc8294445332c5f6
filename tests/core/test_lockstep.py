"""The pair of cores that the other tests are built on does what it says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ssh.core.events import Asked, ExchangeFinished, LoggedIn
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import AuthResult, CheckNone
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.testing.lockstep import CorePair, CoreSide, counted_bytes


@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 1000])
def test_a_pair_logs_in_and_carries_data_however_it_is_cut(piece_bytes: int) -> None:
    pair = CorePair()
    pair.pump(piece_bytes)
    pair.log_in("bob")
    assert [event.username for event in pair.server.of(LoggedIn)] == ["bob"]
    ours, theirs = pair.open_channel()
    assert pair.client.send(ours, b"hello") == 5
    assert pair.server.send(theirs, b"and back") == 8
    pair.pump(piece_bytes)
    assert (pair.server.read(theirs), pair.client.read(ours)) == (b"hello", b"and back")
    assert pair.server.read(theirs) == b""


def cut(side: CoreSide, sizes: Iterator[int]) -> None:
    """Let a side receive pieces of these sizes."""
    receive_whole = side.receive

    def receive(data: bytes) -> None:
        while data:
            size = next(sizes)
            receive_whole(data[:size])
            data = data[size:]

    side.receive = receive  # type: ignore[method-assign]


def lived(sizes: Sequence[int]) -> list[list[str]]:
    """Let a connection live its life, cut into these pieces over and over; return what befell either side."""
    pair = CorePair()
    for side in (pair.client, pair.server):
        cut(side, itertools.cycle(sizes))
    pair.log_in()
    ours, theirs = pair.open_channel()
    data = bytes(range(256)) * 20
    got = b"", b""
    for number in range(4):
        pair.client.connection.mux.request(ours, f"number {number}", b"details", wants_reply=True)
        assert pair.client.send(ours, data) == pair.server.send(theirs, data) == len(data)
        if number == 1:
            pair.client.record(pair.client.connection.start_exchange())
        pair.pump()
        pair.server.connection.mux.reply(theirs, is_success=bool(number % 2), wants_reply=True)
        got = got[0] + pair.server.read(theirs), got[1] + pair.client.read(ours)
        pair.pump()
    assert got == (data * 4, data * 4)
    pair.client.connection.mux.send_eof(ours)
    pair.server.connection.mux.close(theirs)
    pair.pump()
    pair.check()
    # That there is data is said once for all that came in one read.
    told = [[f"{event!r:.40}" for event in side.events] for side in (pair.client, pair.server)]
    return [[name for name, _ in itertools.groupby(names)] for names in told]


@given(st.lists(st.integers(1, 3000) | st.integers(1, 20), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_the_same_befalls_both_sides_however_all_is_cut(sizes: list[int]) -> None:
    assert lived(sizes) == lived([10**9])


def test_either_side_opens_channels_and_the_client_s_end_comes_first() -> None:
    pair = CorePair()
    pair.log_in()
    ours, theirs = pair.open_channel("forwarded-tcpip", b"details", by_server=True)
    assert pair.client.connection.mux.channels[ours.local_id] is ours
    assert pair.server.connection.mux.channels[theirs.local_id] is theirs
    assert theirs.is_ours
    assert not ours.is_ours


def test_a_question_without_a_script_stays_open() -> None:
    pair = CorePair()
    del pair.server.answers[CheckNone]
    with pytest.raises(AssertionError, match="nobody was let in"):
        pair.log_in()
    assert pair.server.question == CheckNone("alice")
    assert pair.server.connection.is_paused
    assert pair.server.of(Asked)[-1].question == CheckNone("alice")
    pair.server.answer(AuthResult.SUCCESSFUL)
    pair.pump()
    assert pair.client.connection.phase is Phase.OPEN


def test_what_a_hook_changes_is_what_arrives() -> None:
    pair = CorePair()
    pair.to_server = lambda data: data.replace(b"SSH-2.0", b"SSH-3.0")
    with pytest.raises(RemoteProtocolError, match="not 2\\.0"):
        pair.log_in()


def test_what_ended_a_side_is_raised() -> None:
    pair = CorePair()
    pair.pump()
    pair.client.record(pair.client.connection.fail(RemoteProtocolError("enough")))
    with pytest.raises(RemoteProtocolError, match="enough"):
        pair.check()


def test_counted_bytes_are_the_same_in_every_run() -> None:
    def cookies() -> bytes:
        pair = CorePair(
            Options(random_bytes=counted_bytes()), random_bytes=counted_bytes()
        )  # the server's options are made of the second
        return pair.client.data_to_send() + pair.server.data_to_send()

    assert cookies() == cookies()
    assert len(cookies()) > 500


def test_a_pair_says_what_state_it_is_in() -> None:
    pair = CorePair()
    pair.log_in()
    assert len(pair.client.of(ExchangeFinished)) == 1
    assert repr(pair) == "<CorePair <CoreSide client, open, 3 events>, <CoreSide server, open, 5 events>>"
