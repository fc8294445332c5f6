"""Hostile peers of an open connection: what they say of one channel never touches another, and floods have an end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import pytest

from tests.core.by_hand import HandPeer, arrive
from trio_ssh.core.channel import CoreChannel, Source
from trio_ssh.core.events import (
    CloseArrived,
    DataArrived,
    Ended,
    EofArrived,
    ExchangeFinished,
    GlobalRequestArrived,
    OpenAnswered,
    OpenRequested,
    RequestAnswered,
    RequestArrived,
    WindowOpened,
)
from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, Limits
from trio_ssh.core.mux import HIGH_WATER
from trio_ssh.core.role import Role
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.connection import (
    ChannelClose,
    ChannelData,
    ChannelEof,
    ChannelExtendedData,
    ChannelFailure,
    ChannelOpen,
    ChannelOpenConfirmation,
    ChannelOpenFailure,
    ChannelRequest,
    ChannelSuccess,
    ChannelWindowAdjust,
    GlobalRequest,
    RequestFailure,
    RequestSuccess,
)
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason
from trio_ssh.wire.transport import Ping

Make = Callable[[int], DeclaredMessage]


def logged_in(role: Role, limits: Limits = DEFAULT_LIMITS) -> HandPeer:
    return arrive(role, "anything", limits=limits)


def by_peer(peer: HandPeer, *, window: int = 100_000, packet: int = 32_768, kind: str = "session") -> CoreChannel:
    """A channel that the peer opened and the core confirmed."""
    peer.say(ChannelOpen(kind, 1000, window, packet, b""))
    channel = peer.side.of(OpenRequested)[-1].channel
    peer.core.confirm_open(channel)
    peer.listen()
    return channel


def by_core(peer: HandPeer, *, window: int = 100_000, packet: int = 32_768) -> CoreChannel:
    """A channel that the core opened and the peer confirmed."""
    channel = peer.core.mux.open_channel("session", b"")
    peer.say(ChannelOpenConfirmation(channel.local_id, 1000, window, packet, b""))
    return channel


def ended(peer: HandPeer) -> str:
    failure = peer.failure()
    assert isinstance(failure, RemoteProtocolError)
    assert failure.reason is DisconnectReason.PROTOCOL_ERROR
    assert peer.was_told().reason == DisconnectReason.PROTOCOL_ERROR
    assert len(peer.side.of(Ended)) == 1
    return str(failure)


# -- numbers

ADDRESSED: Final[list[Make]] = [
    lambda n: ChannelData(n, b"x"),
    lambda n: ChannelExtendedData(n, 1, b"x"),
    lambda n: ChannelExtendedData(n, 2, b"x"),
    lambda n: ChannelWindowAdjust(n, 1),
    ChannelEof,
    ChannelClose,
    lambda n: ChannelRequest(n, "exec", True, b""),
    ChannelSuccess,
    ChannelFailure,
    lambda n: ChannelOpenConfirmation(n, 7, 100, 100, b""),
    lambda n: ChannelOpenFailure(n, 1, "", ""),
]


PLACES: Final = ("never used", "closed", "refused", "their own number", "undecided", "huge")


def to_no_channel(peer: HandPeer, make: Make, place: str) -> None:
    other, gone = by_peer(peer), by_core(peer)
    peer.say(ChannelClose(gone.local_id))
    refused = peer.core.mux.open_channel("session", b"")
    peer.say(ChannelOpenFailure(refused.local_id, 1, "", ""))
    peer.say(ChannelOpen("session", 1001, 0, 0, b""))
    undecided = peer.side.of(OpenRequested)[-1].channel
    numbers = (99, gone.local_id, refused.local_id, other.remote_id, undecided.local_id, 2**32 - 1)
    happened = len(peer.side.events)
    peer.say(make(numbers[PLACES.index(place)]))
    ended(peer)
    assert [type(event) for event in peer.side.events[happened:]] == [Ended]
    assert (other.unread, other.outbound_window.left) == (0, 100_000)


@pytest.mark.parametrize("make", ADDRESSED)
@pytest.mark.parametrize("role", Role)
def test_what_is_for_no_channel_reaches_none(role: Role, make: Make) -> None:
    for place in PLACES:
        to_no_channel(logged_in(role), make, place)


CLOSED: Final[list[Make]] = [ChannelClose]
ENDED: Final[list[Make]] = [ChannelEof]
BOTH: Final[list[Make]] = [ChannelEof, ChannelClose]

BEHIND: Final[list[tuple[list[Make], Make]]] = [
    (ENDED, lambda n: ChannelData(n, b"x")),
    (ENDED, lambda n: ChannelData(n, b"")),
    (ENDED, lambda n: ChannelExtendedData(n, 1, b"x")),
    (ENDED, ChannelEof),
    *[(CLOSED, make) for make in ADDRESSED[:9]],
    *[(BOTH, make) for make in ADDRESSED[:9]],
]


def behind_an_end(peer: HandPeer, before: list[Make], make: Make, *, has_closed: bool) -> None:
    channel = by_peer(peer)
    if has_closed:
        peer.core.mux.close(channel)
    peer.say(*[step(channel.local_id) for step in before])
    peer.check()
    happened = len(peer.side.events)
    peer.say(make(channel.local_id))
    ended(peer)
    assert [type(event) for event in peer.side.events[happened:]] == [Ended]


@pytest.mark.parametrize(("before", "make"), BEHIND)
def test_nothing_comes_behind_an_end(before: list[Make], make: Make) -> None:
    for role, has_closed in itertools.product(Role, (False, True)):
        behind_an_end(logged_in(role), before, make, has_closed=has_closed)


@pytest.mark.parametrize("role", Role)
def test_a_number_of_theirs_that_comes_twice_is_their_own_affair(role: Role) -> None:
    """Both channels stay two channels of ours."""
    peer = logged_in(role)
    one, two = by_peer(peer), by_peer(peer)
    assert one.remote_id == two.remote_id
    assert one.local_id != two.local_id
    peer.say(ChannelData(one.local_id, b"for one"))
    assert peer.side.read(one) == b"for one"
    assert peer.side.read(two) == b""


@pytest.mark.parametrize("role", Role)
def test_a_channel_of_theirs_is_not_answered_as_if_it_were_ours(role: Role) -> None:
    peer = logged_in(role)
    channel = by_peer(peer)
    peer.say(ChannelOpenConfirmation(channel.local_id, 5, 2**32 - 1, 2**32 - 1, b""))
    ended(peer)
    assert peer.side.of(OpenAnswered) == []


@pytest.mark.parametrize("role", Role)
def test_an_opening_is_answered_once(role: Role) -> None:
    for second in (ChannelOpenConfirmation(0, 5, 1, 1, b""), ChannelOpenFailure(0, 1, "", "")):
        peer = logged_in(role)
        channel = by_core(peer)
        assert channel.local_id == 0
        peer.say(second)
        ended(peer)
        assert len(peer.side.of(OpenAnswered)) == 1


# -- replies


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("cls", [ChannelSuccess, ChannelFailure])
def test_replies_nobody_asked_for_end_it(role: Role, cls: type[ChannelSuccess | ChannelFailure]) -> None:
    peer = logged_in(role)
    channel, other = by_core(peer), by_core(peer)
    peer.core.mux.request(other, "exec", b"", wants_reply=True)
    peer.say(cls(channel.local_id))
    ended(peer)
    assert peer.side.of(RequestAnswered) == []


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("message", [RequestSuccess(b""), RequestFailure()])
def test_global_replies_nobody_asked_for_end_it(role: Role, message: DeclaredMessage) -> None:
    peer = logged_in(role)
    channel = by_core(peer)
    peer.core.mux.request(channel, "exec", b"", wants_reply=True)
    peer.core.mux.global_request("hostkeys-00@openssh.com", b"", wants_reply=False)
    peer.say(message)
    ended(peer)


@pytest.mark.parametrize("role", Role)
def test_more_replies_than_requests_end_it(role: Role) -> None:
    peer = logged_in(role)
    channel = by_core(peer)
    for _ in range(3):
        peer.core.mux.request(channel, "exec", b"", wants_reply=True)
    peer.say(*[ChannelSuccess(channel.local_id)] * 4)
    ended(peer)
    assert len(peer.side.of(RequestAnswered)) == 3


# -- windows and packets


@pytest.mark.parametrize("role", Role)
def test_more_than_the_window_allows_ends_it_and_is_not_delivered(role: Role) -> None:
    limits = Limits(initial_window_bytes=64 * KIB)
    peer = logged_in(role, limits)
    channel = by_peer(peer)
    peer.say(ChannelData(channel.local_id, bytes(60 * KIB)))
    peer.say(ChannelData(channel.local_id, b"\1" * (4 * KIB + 1)))
    assert "window" in ended(peer)
    assert peer.side.read(channel) == bytes(60 * KIB)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("source", [1, 0, 2, 2**32 - 1])
def test_data_that_nobody_reads_stops_at_the_window_in_whatever_packets_it_comes(role: Role, source: int) -> None:
    limits = Limits(initial_window_bytes=16 * KIB)
    peer = logged_in(role, limits)
    channel = by_peer(peer)
    for _ in range(16):
        peer.say(*[ChannelExtendedData(channel.local_id, 1, b"x"), ChannelData(channel.local_id, b"y")] * 512)
    peer.check()
    assert channel.unread == 16 * KIB
    assert peer.of(ChannelWindowAdjust) == []
    last = ChannelExtendedData(channel.local_id, source, b"x") if source else ChannelData(channel.local_id, b"x")
    peer.say(last)
    ended(peer)


@pytest.mark.parametrize("role", Role)
def test_a_packet_beyond_what_we_allowed_ends_it(role: Role) -> None:
    peer = logged_in(role)
    channel = by_peer(peer)
    peer.say(ChannelData(channel.local_id, bytes(DEFAULT_LIMITS.channel_packet_bytes)))
    peer.check()
    peer.say(ChannelData(channel.local_id, bytes(DEFAULT_LIMITS.channel_packet_bytes + 1)))
    ended(peer)


@pytest.mark.parametrize("role", Role)
def test_a_window_that_overflows_ends_it(role: Role) -> None:
    for steps in ([2**32 - 1], [2**31, 2**31], [2**32 - 1 - 100_000, 1]):
        peer = logged_in(role)
        channel = by_peer(peer)
        for step in steps:
            peer.say(ChannelWindowAdjust(channel.local_id, step))
        assert "2**32" in ended(peer)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("packet", [0, 1])
def test_a_maximum_packet_of_nothing_or_one_neither_spins_nor_crashes(role: Role, packet: int) -> None:
    peer = logged_in(role)
    channel = by_peer(peer, window=1_000_000, packet=packet)
    data = bytes(100_000)
    assert peer.side.send(channel, data) <= HIGH_WATER
    peer.listen()
    sent = peer.of(ChannelData)
    assert {len(message.data) for message in sent} <= {packet}
    if packet == 0:
        # Each grant wakes the sender at most once, and what it then sends is nothing.
        for _ in range(3):
            woken = len(peer.side.of(WindowOpened))
            peer.say(ChannelWindowAdjust(channel.local_id, 100))
            assert len(peer.side.of(WindowOpened)) <= woken + 1
            assert peer.side.send(channel, data) == 0
    assert not peer.core.has_data_to_send
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_a_window_of_nothing_waits_quietly(role: Role) -> None:
    peer = logged_in(role)
    channel = by_peer(peer, window=0)
    for _ in range(100):
        assert peer.side.send(channel, b"data") == 0
    peer.say(*[ChannelWindowAdjust(channel.local_id, 0)] * 1000)
    assert peer.side.of(WindowOpened) == []
    assert not peer.core.has_data_to_send
    peer.say(ChannelWindowAdjust(channel.local_id, 1))
    assert len(peer.side.of(WindowOpened)) == 1
    assert peer.side.send(channel, b"data") == 1
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_data_of_no_length_is_no_news_and_no_credit(role: Role) -> None:
    peer = logged_in(role)
    channel = by_peer(peer)
    before = channel.inbound_window.left
    peer.say(*[ChannelData(channel.local_id, b""), ChannelExtendedData(channel.local_id, 1, b"")] * 1000)
    assert peer.side.of(DataArrived) == []
    assert channel.inbound_window.left == before
    peer.check()


# -- floods


@pytest.mark.parametrize("role", Role)
def test_openings_beyond_the_limits_are_refused_and_cost_nothing_more(role: Role) -> None:
    limits = Limits(channels=20, sessions=3)
    peer = logged_in(role, limits)
    peer.say(*[ChannelOpen("session", number, 0, 0, b"") for number in range(100)])
    assert len(peer.side.of(OpenRequested)) == 3
    peer.say(*[ChannelOpen("x" * 60, number, 0, 0, b"") for number in range(100)])
    assert len(peer.side.of(OpenRequested)) == 20
    assert len(peer.core.mux.channels) == 20
    refusals = peer.of(ChannelOpenFailure)
    assert len(refusals) == 180
    assert {refusal.reason for refusal in refusals} == {4}
    peer.check()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("wants_reply", [True, False])
def test_requests_that_are_not_answered_yet_have_a_most(role: Role, wants_reply: bool) -> None:
    peer = logged_in(role)
    channel = by_peer(peer)
    message = ChannelRequest(channel.local_id, "env", wants_reply, b"")
    peer.say(*[message] * 1000)
    ended(peer)
    assert len(peer.side.of(RequestArrived)) == DEFAULT_LIMITS.unanswered_requests


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("wants_reply", [True, False])
def test_global_requests_that_are_not_answered_yet_have_a_most(role: Role, wants_reply: bool) -> None:
    peer = logged_in(role)
    peer.say(*[GlobalRequest("tcpip-forward", wants_reply, b"")] * 1000)
    ended(peer)
    assert len(peer.side.of(GlobalRequestArrived)) == DEFAULT_LIMITS.unanswered_requests


@pytest.mark.parametrize("role", Role)
def test_bytes_of_requests_that_are_not_answered_yet_have_a_most(role: Role) -> None:
    peer = logged_in(role)
    channels = [by_peer(peer) for _ in range(4)]
    large = bytes(100 * KIB)
    peer.say(*[ChannelRequest(channel.local_id, "env", True, large) for channel in channels for _ in range(2)])
    peer.say(GlobalRequest("x", True, large), GlobalRequest("x", True, large))
    peer.check()
    peer.core.mux.reply(channels[0], is_success=False, wants_reply=True)
    peer.say(GlobalRequest("x", True, large))
    peer.check()
    peer.say(GlobalRequest("x", True, large))
    ended(peer)


Flood = Callable[[HandPeer, int], list[DeclaredMessage | bytes]]

FLOODS: Final[dict[str, Flood]] = {
    "pings": lambda peer, count: [Ping(b"")] * count,
    "long pings": lambda peer, count: [Ping(bytes(20_000))] * (count // 100),
    "unknown messages": lambda peer, count: [b"\xc8"] * count,
    "refused channels": lambda peer, count: [ChannelOpen("session", 1, 0, 0, b"")] * count,
    "channels with absurd names": lambda peer, count: [ChannelOpen("x" * 100, 1, 0, 0, b"")] * count,
    "unknown extended data": lambda peer, count: [ChannelExtendedData(0, 9, bytes(1000))] * (count // 10),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("flood", FLOODS)
def test_a_peer_that_floods_and_does_not_read_is_not_read(role: Role, flood: str) -> None:
    """The runtime looks at `is_backlogged` before each read of at most 256 KiB, so that what is queued has a bound."""
    limits = Limits(queued_output_bytes=256 * KIB, sessions=1, channels=5, initial_window_bytes=64 * KIB)
    peer = logged_in(role, limits)
    by_peer(peer)
    reads = 0
    while not peer.core.is_backlogged and reads < 40:
        read = b"".join(
            peer.packet(message if isinstance(message, bytes) else message.encode())
            for message in FLOODS[flood](peer, 2000)
        )
        assert len(read) <= 512 * KIB
        peer.raw(read[: 256 * KIB])
        peer.raw(read[256 * KIB :])
        peer.check()
        reads += 1
    queued = len(peer.side.data_to_send())
    assert queued <= limits.queued_output_bytes + 512 * KIB


@pytest.mark.parametrize("role", Role)
def test_channels_that_come_and_go_leave_nothing_behind(role: Role) -> None:
    peer = logged_in(role)
    unread: list[CoreChannel] = []
    for _ in range(200):
        channel = by_peer(peer)
        peer.say(ChannelData(channel.local_id, b"x"), ChannelClose(channel.local_id))
        peer.heard.clear()
        unread.append(channel)
    assert peer.core.mux.channels == {}
    # What nobody has read yet is held to the sum of all windows, closed or not.
    assert by_peer(peer).inbound_window.size < DEFAULT_LIMITS.initial_window_bytes
    for channel in unread:
        peer.core.mux.drop_unread(channel)
    channel = by_peer(peer)
    assert channel.inbound_window.size == DEFAULT_LIMITS.initial_window_bytes
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_every_way_that_a_channel_ends_gives_its_window_back(role: Role) -> None:
    peer = logged_in(role)
    first = by_peer(peer).inbound_window.size
    for _ in range(100):
        for gone in (by_peer(peer), by_core(peer)):
            peer.say(ChannelClose(gone.local_id))
        refused = peer.core.mux.open_channel("session", b"")
        peer.say(ChannelOpenFailure(refused.local_id, 1, "", ""))
        peer.say(ChannelOpen("session", 1001, 0, 0, b""))
        peer.core.refuse_open(peer.side.of(OpenRequested)[-1].channel, OpenFailureReason.CONNECT_FAILED)
        peer.heard.clear()
    assert by_peer(peer).inbound_window.size == first
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_exchange_upon_exchange_leaves_nothing_behind(role: Role) -> None:
    peer = logged_in(role)
    channel = by_peer(peer)
    for _ in range(50):
        peer.exchange()
        peer.heard.clear()
    peer.say(ChannelData(channel.local_id, b"still there"))
    assert peer.side.read(channel) == b"still there"
    assert len(peer.side.of(ExchangeFinished)) == 51
    assert not peer.core.has_data_to_send


# -- what is in flight when a side goes


@pytest.mark.parametrize("role", Role)
def test_what_was_on_its_way_when_we_closed_is_dropped_and_counted(role: Role) -> None:
    limits = Limits(initial_window_bytes=64 * KIB)
    peer = logged_in(role, limits)
    channel = by_peer(peer)
    peer.core.mux.close(channel)
    happened = len(peer.side.events)
    peer.say(
        ChannelData(channel.local_id, bytes(32 * KIB)),
        ChannelExtendedData(channel.local_id, 1, bytes(1000)),
        ChannelRequest(channel.local_id, "exec", True, b""),
        ChannelWindowAdjust(channel.local_id, 1000),
    )
    peer.check()
    assert peer.side.events[happened:] == []
    assert channel.unread == 0
    assert channel.fetch(Source.DATA) is None
    assert not peer.of(ChannelSuccess)
    assert not peer.of(ChannelFailure)
    peer.say(ChannelData(channel.local_id, bytes(32 * KIB)))
    assert "window" in ended(peer)


@pytest.mark.parametrize("role", Role)
def test_eof_and_close_are_told_once_each(role: Role) -> None:
    peer = logged_in(role)
    channel = by_peer(peer)
    peer.say(ChannelEof(channel.local_id), ChannelClose(channel.local_id))
    assert [type(event) for event in peer.side.events[-2:]] == [EofArrived, CloseArrived]
    assert len(peer.of(ChannelClose)) == 1
