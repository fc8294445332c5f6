"""RFC 4254 on a mux alone: what a peer sends is called straight in, what we send is read back in the clear."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from trio_ssh.core.channel import CoreChannel, Source
from trio_ssh.core.events import (
    CloseArrived,
    DataArrived,
    EofArrived,
    Event,
    GlobalRequestAnswered,
    GlobalRequestArrived,
    OpenAnswered,
    OpenRequested,
    RequestAnswered,
    RequestArrived,
    WindowOpened,
)
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.mux import HIGH_WATER, Mux
from trio_ssh.core.outbound import LARGEST_PAYLOAD, Outbound
from trio_ssh.errors import LocalProtocolError, RemoteProtocolError
from trio_ssh.wire import connection as wire
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
from trio_ssh.wire.numbers import OpenFailureReason

Make = Callable[[int], DeclaredMessage]
Verb = Callable[[Mux, CoreChannel], None]

CLASSES: Final[dict[int, type[DeclaredMessage]]] = {
    cls.NUMBER: cls
    for cls in vars(wire).values()
    if isinstance(cls, type) and issubclass(cls, DeclaredMessage) and cls is not DeclaredMessage
}

#: The number that the peer chooses, so that it is never taken for one of ours.
REMOTE: Final = 77
WINDOW: Final = 100_000
PACKET: Final = 32_768


def _padded(payload: bytes) -> tuple[bytes, int]:
    padding = 5
    return bytes((padding,)) + payload + bytes(padding), 1 + len(payload)


class Alone:
    """A mux, its events, and what it sent."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.outbound = Outbound()
        self.events: list[Event] = []
        self.mux = Mux(self.outbound, limits, self.events.append)
        mux = self.mux
        self.targets: dict[type[DeclaredMessage], Callable[[bytes], None]] = {
            GlobalRequest: mux.on_global_request,
            RequestSuccess: mux.on_request_success,
            RequestFailure: mux.on_request_failure,
            ChannelOpen: mux.on_open,
            ChannelOpenConfirmation: mux.on_open_confirmation,
            ChannelOpenFailure: mux.on_open_failure,
            ChannelWindowAdjust: lambda payload: mux.on_window_adjust(*_padded(payload)),
            ChannelData: lambda payload: mux.on_data(*_padded(payload)),
            ChannelExtendedData: mux.on_extended_data,
            ChannelEof: mux.on_eof,
            ChannelClose: mux.on_close,
            ChannelRequest: mux.on_request,
            ChannelSuccess: mux.on_success,
            ChannelFailure: mux.on_failure,
        }

    def hear(self, message: DeclaredMessage) -> list[Event]:
        """The peer sends a message; return what comes of it."""
        before = len(self.events)
        self.targets[type(message)](message.encode())
        return self.events[before:]

    def sent(self) -> list[DeclaredMessage]:
        """Return what was sent since the last call."""
        return list(self._sent())

    def _sent(self) -> Iterator[DeclaredMessage]:
        data = bytes(self.outbound.data_to_send())
        while data:
            length, padding = int.from_bytes(data[:4], "big"), data[4]
            payload = data[5 : 4 + length - padding]
            yield CLASSES[payload[0]].from_payload(payload)
            data = data[4 + length :]

    def opened(self, *, by_peer: bool = False, window: int = WINDOW, packet: int = PACKET) -> CoreChannel:
        """Open a channel, from either side."""
        if by_peer:
            [event] = self.hear(ChannelOpen("session", REMOTE, window, packet, b""))
            assert isinstance(event, OpenRequested)
            channel = event.channel
            self.mux.confirm_open(channel, b"")
        else:
            channel = self.mux.open_channel("session", b"")
            self.hear(ChannelOpenConfirmation(channel.local_id, REMOTE, window, packet, b""))
        self.sent()
        return channel


# -- opening


def test_our_channel_is_opened() -> None:
    alone = Alone()
    channel = alone.mux.open_channel("direct-tcpip", b"details")
    assert alone.sent() == [
        ChannelOpen(
            "direct-tcpip",
            channel.local_id,
            channel.inbound_window.left,
            DEFAULT_LIMITS.channel_packet_bytes,
            b"details",
        )
    ]
    assert alone.hear(ChannelOpenConfirmation(channel.local_id, 5, 10, 20, b"ignored")) == [OpenAnswered(channel)]
    assert (channel.remote_id, channel.outbound_window.left, channel.outbound_window.maximum_packet) == (5, 10, 20)
    assert alone.sent() == []


@pytest.mark.parametrize("code", [1, 2, 3, 4, 0xFE000000, 0])
def test_our_channel_is_refused(code: int) -> None:
    alone = Alone()
    channel = alone.mux.open_channel("session", b"")
    [event] = alone.hear(ChannelOpenFailure(channel.local_id, code, "no \x1b[5m", "en"))
    assert isinstance(event, OpenAnswered)
    assert event.text == "no \\x1b[5m"
    assert event.code == (code or 2), "a refusal is never taken for a success"
    assert alone.mux.channels == {}


def test_the_peer_s_channel_is_opened() -> None:
    alone = Alone()
    [event] = alone.hear(ChannelOpen("x11", 9, 10, 20, b"details"))
    assert isinstance(event, OpenRequested)
    assert (event.channel.kind, event.details, event.channel.remote_id) == ("x11", b"details", 9)
    assert alone.sent() == [], "nothing is promised before it is decided"
    alone.mux.confirm_open(event.channel, b"more")
    assert alone.sent() == [
        ChannelOpenConfirmation(
            9,
            event.channel.local_id,
            event.channel.inbound_window.left,
            DEFAULT_LIMITS.channel_packet_bytes,
            b"more",
        )
    ]


def test_the_peer_s_channel_is_refused() -> None:
    alone = Alone()
    [event] = alone.hear(ChannelOpen("x11", 9, 10, 20, b""))
    assert isinstance(event, OpenRequested)
    alone.mux.refuse_open(event.channel, OpenFailureReason.UNKNOWN_CHANNEL_TYPE, "never heard of it")
    assert alone.sent() == [ChannelOpenFailure(9, 3, "never heard of it", "")]
    assert alone.mux.channels == {}


ANSWERS: Final[list[Make]] = [
    lambda n: ChannelOpenConfirmation(n, 1, 2, 3, b""),
    lambda n: ChannelOpenFailure(n, 1, "", ""),
]


@pytest.mark.parametrize("make", ANSWERS)
def test_an_answer_to_an_opening_that_is_not_under_way_is_the_peer_s_error(
    make: Make,
) -> None:
    alone = Alone()
    ours, theirs = alone.opened(), alone.opened(by_peer=True)
    [event] = alone.hear(ChannelOpen("x11", 9, 10, 20, b""))
    assert isinstance(event, OpenRequested)
    refused = alone.mux.open_channel("session", b"")
    alone.hear(ChannelOpenFailure(refused.local_id, 1, "", ""))
    for number in (ours.local_id, theirs.local_id, event.channel.local_id, refused.local_id, 1000, 2**32 - 1, REMOTE):
        with pytest.raises(RemoteProtocolError, match="isn't being opened"):
            alone.hear(make(number))


def test_a_channel_that_we_gave_up_is_closed_as_soon_as_it_opens() -> None:
    alone = Alone()
    channel = alone.mux.open_channel("session", b"")
    alone.mux.close(channel)
    alone.mux.close(channel)
    assert [type(message) for message in alone.sent()] == [ChannelOpen]
    alone.hear(ChannelOpenConfirmation(channel.local_id, 5, 10, 20, b""))
    assert alone.sent() == [ChannelClose(5)]
    assert alone.hear(ChannelData(channel.local_id, b"too late")) == []
    assert alone.hear(ChannelClose(channel.local_id)) == [CloseArrived(channel)]
    assert alone.sent() == []
    assert alone.mux.channels == {}


def test_a_channel_that_we_gave_up_may_be_refused_as_well() -> None:
    alone = Alone()
    channel = alone.mux.open_channel("session", b"")
    alone.mux.close(channel)
    assert [type(event) for event in alone.hear(ChannelOpenFailure(channel.local_id, 1, "", ""))] == [OpenAnswered]
    assert alone.mux.channels == {}


VERBS: Final[list[Verb]] = [
    lambda mux, channel: mux.request(channel, "shell", b"", wants_reply=True),
    lambda mux, channel: mux.send_eof(channel),
]


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_asked_of_a_channel_that_is_not_open_yet(verb: Verb) -> None:
    alone = Alone()
    channel = alone.mux.open_channel("session", b"")
    with pytest.raises(LocalProtocolError, match="not open yet"):
        verb(alone.mux, channel)
    assert not channel.pending
    assert alone.mux.send_data(channel, memoryview(b"data"), Source.DATA) == 0
    alone.hear(ChannelOpenConfirmation(channel.local_id, 5, 10, 20, b""))
    assert [type(message) for message in alone.sent()] == [ChannelOpen]


def test_numbers_are_not_used_again() -> None:
    """A late message for a channel that is gone never meets another one."""
    alone = Alone()
    seen: set[int] = set()
    for by_peer in [False, True] * 200:
        channel = alone.opened(by_peer=by_peer)
        assert channel.local_id not in seen
        seen.add(channel.local_id)
        alone.hear(ChannelClose(channel.local_id))
        with pytest.raises(RemoteProtocolError, match="not open"):
            alone.hear(ChannelData(channel.local_id, b"late"))


def test_sessions_have_a_most() -> None:
    alone = Alone(Limits(sessions=3))
    channels = [alone.opened(by_peer=True) for _ in range(3)]
    assert alone.hear(ChannelOpen("session", 9, 10, 20, b"")) == []
    assert alone.sent() == [ChannelOpenFailure(9, 4, "too many channels", "")]
    assert len(alone.hear(ChannelOpen("direct-tcpip", 9, 10, 20, b""))) == 1
    alone.hear(ChannelClose(channels[0].local_id))
    assert len(alone.hear(ChannelOpen("session", 9, 10, 20, b""))) == 1


@pytest.mark.parametrize("ours", [0, 3, 7])
def test_channels_have_a_most_whoever_opens_them(ours: int) -> None:
    alone = Alone(Limits(channels=7))
    channels = [alone.opened() for _ in range(ours)]
    for number in range(7 - ours):
        [event] = alone.hear(ChannelOpen("x", number, 10, 20, b""))
        assert isinstance(event, OpenRequested)
        channels.append(event.channel)  # undecided ones count
    alone.sent()
    assert alone.hear(ChannelOpen("x", 9, 10, 20, b"")) == []
    assert alone.sent() == [ChannelOpenFailure(9, 4, "too many channels", "")]
    with pytest.raises(LocalProtocolError, match="has 7 channels"):
        alone.mux.open_channel("session", b"")
    assert alone.sent() == []
    assert sum(channel.inbound_window.size for channel in channels) <= DEFAULT_LIMITS.all_windows_bytes


def test_a_kind_with_an_absurd_name_is_refused_unasked() -> None:
    alone = Alone()
    assert alone.hear(ChannelOpen("x" * 65, 9, 10, 20, b"")) == []
    assert alone.sent() == [ChannelOpenFailure(9, 3, "", "")]


# -- a channel's life


class Model:
    """RFC 4254 s5.3 in four flags: what either side may still do."""

    def __init__(self) -> None:
        self.our_eof = self.our_close = self.their_eof = self.their_close = False

    def apply(self, step: str) -> str:
        """Take a step; return ``"ok"``, or whose mistake it is, or ``"silent"`` where it has no effect."""
        match step:
            case "their data" | "their eof" | "their request" | "their close":
                if self.their_close or (self.their_eof and step in ("their data", "their eof")):
                    return "their mistake"
                if step == "their eof":
                    self.their_eof = True
                elif step == "their close":
                    self.their_close = True
                    self.our_close = True  # answered in kind
                elif self.our_close:
                    return "silent"
            case "our data":
                return "our mistake" if self.our_eof or self.our_close else "ok"
            case "our request":
                return "our mistake" if self.our_close else "ok"
            case "our eof":
                if self.our_eof or self.our_close:
                    return "silent"
                self.our_eof = True
            case _:
                if self.our_close:
                    return "silent"
                self.our_close = True
        return "ok"


STEPS: Final = tuple(f"{whose} {what}" for whose in ("our", "their") for what in ("data", "request", "eof", "close"))


def take(alone: Alone, channel: CoreChannel, step: str) -> list[Event]:
    before = len(alone.events)
    match step:
        case "our data":
            assert alone.mux.send_data(channel, memoryview(b"x"), Source.DATA) == 1
        case "our request":
            alone.mux.request(channel, "signal", b"", wants_reply=False)
        case "our eof":
            alone.mux.send_eof(channel)
        case "our close":
            alone.mux.close(channel)
        case "their data":
            alone.hear(ChannelData(channel.local_id, b"y"))
            channel.fetch(Source.DATA)
        case "their request":
            alone.hear(ChannelRequest(channel.local_id, "exit-status", False, b"\0\0\0\0"))
        case "their eof":
            alone.hear(ChannelEof(channel.local_id))
        case _:
            alone.hear(ChannelClose(channel.local_id))
    return alone.events[before:]


HEARD: Final[dict[str, type[Event]]] = {
    "their data": DataArrived,
    "their request": RequestArrived,
    "their eof": EofArrived,
    "their close": CloseArrived,
}
SAID: Final[dict[str, type[DeclaredMessage]]] = {
    "our data": ChannelData,
    "our request": ChannelRequest,
    "our eof": ChannelEof,
    "our close": ChannelClose,
}


@pytest.mark.parametrize("by_peer", [False, True], ids=["ours", "theirs"])
def test_a_channel_s_life_in_every_order(by_peer: bool) -> None:
    """Every sequence of four steps, whosever they are: 4,096 lives."""
    for life in itertools.product(STEPS, repeat=4):
        alone, model = Alone(), Model()
        channel = alone.opened(by_peer=by_peer)
        for step in life:
            had_closed = model.our_close
            verdict = model.apply(step)
            if verdict == "their mistake":
                with pytest.raises(RemoteProtocolError):
                    take(alone, channel, step)
                assert alone.sent() == []
                break
            if verdict == "our mistake":
                with pytest.raises(LocalProtocolError):
                    take(alone, channel, step)
                assert alone.sent() == []
                continue
            events = take(alone, channel, step)
            sent = [type(message) for message in alone.sent()]
            if verdict == "silent":
                assert (events, sent) == ([], [])
            elif step == "their close":
                assert [type(event) for event in events] == [CloseArrived]
                assert sent == ([] if had_closed else [ChannelClose])
            else:
                assert [type(event) for event in events] == ([HEARD[step]] if step in HEARD else [])
                assert sent == ([SAID[step]] if step in SAID else [])
        assert (channel.local_id in alone.mux.channels) is not (model.our_close and model.their_close)


def test_each_side_closes_once() -> None:
    alone = Alone()
    channel = alone.opened()
    alone.mux.close(channel)
    alone.hear(ChannelClose(channel.local_id))
    alone.mux.close(channel)
    assert alone.sent() == [ChannelClose(REMOTE)]


def test_what_arrived_before_a_close_can_still_be_read() -> None:
    alone = Alone()
    channel = alone.opened()
    alone.hear(ChannelData(channel.local_id, b"last words"))
    alone.hear(ChannelClose(channel.local_id))
    batch = channel.fetch(Source.DATA)
    assert batch is not None
    assert batch.take(100) == b"last words"


# -- data


def test_data_is_announced_once_until_it_is_fetched() -> None:
    alone = Alone()
    channel = alone.opened()
    assert alone.hear(ChannelData(channel.local_id, b"one ")) == [DataArrived(channel, Source.DATA)]
    assert alone.hear(ChannelData(channel.local_id, b"two")) == []
    assert alone.hear(ChannelExtendedData(channel.local_id, 1, b"err")) == [DataArrived(channel, Source.STDERR)]
    assert channel.unread == 10
    for source, expected in ((Source.DATA, b"one two"), (Source.STDERR, b"err")):
        batch = channel.fetch(source)
        assert batch is not None
        assert batch.take(100) == expected
        assert channel.fetch(source) is None
    assert alone.hear(ChannelData(channel.local_id, b"three")) == [DataArrived(channel, Source.DATA)]


def test_stderr_can_arrive_among_the_data() -> None:
    alone = Alone()
    channel = alone.opened()
    channel.combine_stderr = True
    assert alone.hear(ChannelExtendedData(channel.local_id, 1, b"err ")) == [DataArrived(channel, Source.DATA)]
    assert alone.hear(ChannelData(channel.local_id, b"out")) == []
    batch = channel.fetch(Source.DATA)
    assert batch is not None
    assert batch.take(100) == b"err out"


@pytest.mark.parametrize("source", [None, *Source])
def test_no_more_may_come_than_the_window_allows(source: Source | None) -> None:
    alone = Alone(Limits(initial_window_bytes=1000))
    channel = alone.opened()

    def message(size: int) -> DeclaredMessage:
        data = bytes(size)
        if source is Source.DATA:
            return ChannelData(channel.local_id, data)
        return ChannelExtendedData(channel.local_id, 1 if source else 7, data)

    if source is None:  # of which nothing is kept, so nothing can pile up
        for _ in range(100):
            assert alone.hear(message(999)) == []
        assert channel.unread == 0
        return
    alone.hear(message(999))
    with pytest.raises(RemoteProtocolError, match="the window has 1 left"):
        alone.hear(message(2))


@pytest.mark.parametrize("size", [0, 1, 127, 128])
def test_a_packet_as_large_as_we_allowed_is_taken(size: int) -> None:
    alone = Alone(Limits(channel_packet_bytes=128))
    channel = alone.opened()
    assert len(alone.hear(ChannelData(channel.local_id, bytes(size)))) == (1 if size else 0)
    with pytest.raises(RemoteProtocolError, match="we allowed 128"):
        alone.hear(ChannelData(channel.local_id, bytes(129)))
    with pytest.raises(RemoteProtocolError, match="we allowed 128"):
        alone.hear(ChannelExtendedData(channel.local_id, 1, bytes(129)))


@pytest.mark.parametrize("claimed", [0, 3, 5, 2**32 - 1])
def test_a_length_that_lies_is_the_peer_s_error(claimed: int) -> None:
    alone = Alone()
    channel = alone.opened()
    payload = b"\x5e" + channel.local_id.to_bytes(4, "big") + claimed.to_bytes(4, "big") + b"four"
    with pytest.raises(RemoteProtocolError, match="ChannelData"):
        alone.targets[ChannelData](payload)
    for cut in range(1, 9):
        with pytest.raises(RemoteProtocolError, match="ChannelData"):
            alone.targets[ChannelData](payload[:cut])


def test_credit_is_given_for_what_was_taken_and_not_for_what_arrived() -> None:
    alone = Alone(Limits(initial_window_bytes=1000))
    channel = alone.opened()
    alone.hear(ChannelData(channel.local_id, bytes(900)))
    assert alone.sent() == []
    alone.mux.credit(channel, 499)
    assert alone.sent() == []
    alone.mux.credit(channel, 1)
    assert alone.sent() == [ChannelWindowAdjust(REMOTE, 500)]


@pytest.mark.parametrize("end", [ChannelEof, ChannelClose])
def test_no_credit_is_given_where_no_more_can_come(end: type[ChannelEof | ChannelClose]) -> None:
    alone = Alone(Limits(initial_window_bytes=1000))
    channel = alone.opened()
    alone.hear(ChannelData(channel.local_id, bytes(900)))
    alone.hear(end(channel.local_id))
    alone.sent()
    alone.mux.credit(channel, 900)
    assert alone.sent() == []


def test_a_peer_that_takes_a_byte_in_a_packet_gets_so_many_at_once() -> None:
    alone = Alone()
    channel = alone.opened(window=2**20, packet=1)
    for number in range(1, 4):
        assert alone.mux.send_data(channel, memoryview(bytes(2**20)), Source.DATA) == 1024
        assert channel.outbound_window.left == 2**20 - number * 1024
        assert len(alone.sent()) == 1024
    assert channel.wants_room


def test_data_is_cut_to_packets_that_the_peer_takes() -> None:
    alone = Alone()
    channel = alone.opened(window=1000, packet=300)
    assert alone.mux.send_data(channel, memoryview(bytes(range(200)) * 10), Source.DATA) == 1000
    sent = [message.data for message in alone.sent() if isinstance(message, ChannelData)]
    assert [len(data) for data in sent] == [300, 300, 300, 100]
    assert b"".join(sent) == bytes(range(200)) * 5
    assert alone.mux.send_data(channel, memoryview(b"x"), Source.DATA) == 0
    assert alone.sent() == []


def test_stderr_counts_as_data_does() -> None:
    alone = Alone()
    channel = alone.opened(window=1000, packet=300)
    assert alone.mux.send_data(channel, memoryview(bytes(400)), Source.STDERR) == 400
    assert alone.mux.send_data(channel, memoryview(bytes(700)), Source.DATA) == 600
    sent = alone.sent()
    assert sent[:2] == [ChannelExtendedData(REMOTE, 1, bytes(300)), ChannelExtendedData(REMOTE, 1, bytes(100))]
    assert sent[2:] == [ChannelData(REMOTE, bytes(300))] * 2


@pytest.mark.parametrize("packet", [0, 1, 2, 2**32 - 1])
@pytest.mark.parametrize("window", [0, 1, 5, 2**32 - 1])
def test_windows_and_packets_of_any_size_neither_spin_nor_crash(window: int, packet: int) -> None:
    alone = Alone()
    channel = alone.opened(window=window, packet=packet)
    data = memoryview(bytes(2**20))
    taken = alone.mux.send_data(channel, data, Source.DATA)
    assert taken <= window
    assert (taken == 0) == (window == 0 or packet == 0)
    sent = alone.sent()
    assert sum(len(message.data) for message in sent if isinstance(message, ChannelData)) == taken
    assert all(len(message.data) <= packet for message in sent if isinstance(message, ChannelData))
    assert sum(len(message.encode()) for message in sent) < HIGH_WATER + 2**17 + 1000


def test_no_more_data_is_sealed_than_one_write_wants() -> None:
    alone = Alone()
    channel = alone.opened(window=2**31, packet=PACKET)
    data = memoryview(bytes(2**21))
    taken = alone.mux.send_data(channel, data, Source.DATA)
    assert HIGH_WATER - PACKET < taken < HIGH_WATER + PACKET
    assert alone.mux.send_data(channel, data, Source.DATA) == 0
    alone.sent()
    assert alone.mux.send_data(channel, data, Source.DATA) == taken


def test_data_waits_while_keys_are_exchanged() -> None:
    alone = Alone()
    channel = alone.opened()
    alone.outbound.is_gated = True
    assert alone.mux.send_data(channel, memoryview(b"data"), Source.DATA) == 0
    assert channel.wants_room
    assert channel.outbound_window.left == WINDOW
    alone.outbound.open_gate()
    assert alone.mux.send_data(channel, memoryview(b"data"), Source.DATA) == 4


def test_a_sender_hears_of_room_if_it_waits_for_it() -> None:
    alone = Alone()
    channel = alone.opened(window=0)
    grant = ChannelWindowAdjust(channel.local_id, 10)
    assert alone.hear(ChannelWindowAdjust(channel.local_id, 0)) == []
    assert alone.hear(grant) == [WindowOpened(channel)]
    assert alone.hear(grant) == [], "there was room, and nobody waited"
    assert alone.mux.send_data(channel, memoryview(bytes(30)), Source.DATA) == 20
    assert alone.hear(grant) == [WindowOpened(channel)]


def test_it_is_known_what_was_granted_and_for_which_window() -> None:
    alone = Alone()
    channel = alone.opened(window=100)
    assert (alone.mux.granted_bytes, alone.mux.granted_window) == (0, None)
    alone.mux.send_data(channel, memoryview(bytes(90)), Source.DATA)
    for size in (30, 10):
        alone.hear(ChannelWindowAdjust(channel.local_id, size))
    assert (alone.mux.granted_bytes, alone.mux.granted_window) == (40, channel.outbound_window)


def test_a_window_never_passes_the_rfc_s_limit() -> None:
    alone = Alone()
    channel = alone.opened(window=2**32 - 1)
    with pytest.raises(RemoteProtocolError, match="2\\*\\*32"):
        alone.hear(ChannelWindowAdjust(channel.local_id, 1))


ADDRESSED: Final[list[Make]] = [
    lambda n: ChannelData(n, b"x"),
    lambda n: ChannelExtendedData(n, 1, b"x"),
    lambda n: ChannelWindowAdjust(n, 1),
    ChannelEof,
    ChannelClose,
    lambda n: ChannelRequest(n, "shell", True, b""),
    ChannelSuccess,
    ChannelFailure,
]


@pytest.mark.parametrize("make", ADDRESSED)
def test_what_is_for_no_open_channel_is_the_peer_s_error(make: Make) -> None:
    alone = Alone()
    alone.opened()
    opening = alone.mux.open_channel("session", b"")
    [event] = alone.hear(ChannelOpen("x11", 9, 10, 20, b""))
    assert isinstance(event, OpenRequested)
    gone = alone.opened()
    alone.hear(ChannelClose(gone.local_id))
    for number in (opening.local_id, event.channel.local_id, gone.local_id, 999, 2**32 - 1):
        with pytest.raises(RemoteProtocolError, match=f"channel {number}, which is not open"):
            alone.hear(make(number))


# -- requests


def test_replies_come_in_the_order_of_the_requests() -> None:
    alone = Alone()
    channel = alone.opened()
    for name in ("pty-req", "env", "shell"):
        alone.mux.request(channel, name, b"", wants_reply=name != "env")
    assert alone.sent() == [
        ChannelRequest(REMOTE, "pty-req", True, b""),
        ChannelRequest(REMOTE, "env", False, b""),
        ChannelRequest(REMOTE, "shell", True, b""),
    ]
    assert list(channel.pending) == ["pty-req", "shell"]
    assert alone.hear(ChannelFailure(channel.local_id)) == [RequestAnswered(channel, False)]
    assert alone.hear(ChannelSuccess(channel.local_id)) == [RequestAnswered(channel, True)]


@pytest.mark.parametrize("cls", [ChannelSuccess, ChannelFailure])
def test_a_reply_that_nobody_asked_for_is_the_peer_s_error(cls: type[ChannelSuccess | ChannelFailure]) -> None:
    alone = Alone()
    channel, other = alone.opened(), alone.opened()
    alone.mux.request(other, "shell", b"", wants_reply=True)
    alone.mux.request(channel, "signal", b"", wants_reply=False)
    with pytest.raises(RemoteProtocolError, match="nobody made"):
        alone.hear(cls(channel.local_id))
    assert list(other.pending) == ["shell"]


def test_a_reply_may_come_behind_eof_and_behind_our_close() -> None:
    alone = Alone()
    channel = alone.opened()
    alone.mux.request(channel, "shell", b"", wants_reply=True)
    alone.hear(ChannelEof(channel.local_id))
    alone.mux.close(channel)
    assert alone.hear(ChannelSuccess(channel.local_id)) == [RequestAnswered(channel, True)]


@pytest.mark.parametrize(("is_success", "cls"), [(True, ChannelSuccess), (False, ChannelFailure)])
def test_a_request_is_answered_if_it_wants_that(is_success: bool, cls: type[ChannelSuccess | ChannelFailure]) -> None:
    alone = Alone()
    channel = alone.opened(by_peer=True)
    for wants_reply in (True, False):
        [event] = alone.hear(ChannelRequest(channel.local_id, "exec", wants_reply, b"ls"))
        assert event == RequestArrived(channel, "exec", wants_reply, b"ls")
        alone.mux.reply(channel, is_success=is_success, wants_reply=wants_reply)
        assert alone.sent() == ([cls(REMOTE)] if wants_reply else [])


def test_no_reply_follows_our_close() -> None:
    alone = Alone()
    channel = alone.opened(by_peer=True)
    alone.hear(ChannelRequest(channel.local_id, "exec", True, b"ls"))
    alone.mux.close(channel)
    alone.mux.reply(channel, is_success=True, wants_reply=True)
    assert alone.sent() == [ChannelClose(REMOTE)]


@pytest.mark.parametrize("wants_reply", [True, False])
def test_unanswered_requests_have_a_most(wants_reply: bool) -> None:
    alone = Alone(Limits(unanswered_requests=5))
    channel, other = alone.opened(by_peer=True), alone.opened(by_peer=True)
    request = ChannelRequest(channel.local_id, "env", wants_reply, b"")
    for _ in range(20):
        alone.hear(request)
        alone.mux.reply(channel, is_success=True, wants_reply=wants_reply)
    for _ in range(5):
        alone.hear(request)
        alone.hear(ChannelRequest(other.local_id, "env", wants_reply, b""))
    with pytest.raises(RemoteProtocolError, match="more than 5 requests"):
        alone.hear(request)


def test_a_global_request_is_answered_if_it_wants_that() -> None:
    alone = Alone()
    [event] = alone.hear(GlobalRequest("tcpip-forward", True, b"details"))
    assert event == GlobalRequestArrived("tcpip-forward", True, b"details")
    alone.mux.reply_global(is_success=True, wants_reply=True, details=b"port")
    alone.hear(GlobalRequest("keepalive@openssh.com", True, b""))
    alone.mux.reply_global(is_success=False, wants_reply=True)
    alone.hear(GlobalRequest("hostkeys-00@openssh.com", False, b""))
    alone.mux.reply_global(is_success=False, wants_reply=False)
    assert alone.sent() == [RequestSuccess(b"port"), RequestFailure()]


def test_global_replies_come_in_order_and_only_if_asked_for() -> None:
    alone = Alone()
    alone.mux.global_request("a", b"x", wants_reply=True)
    alone.mux.global_request("b", b"", wants_reply=False)
    alone.mux.global_request("c", b"", wants_reply=True)
    assert alone.sent() == [
        GlobalRequest("a", True, b"x"),
        GlobalRequest("b", False, b""),
        GlobalRequest("c", True, b""),
    ]
    assert alone.hear(RequestFailure()) == [GlobalRequestAnswered(False, b"")]
    assert alone.hear(RequestSuccess(b"details")) == [GlobalRequestAnswered(True, b"details")]
    for reply in (RequestSuccess(b""), RequestFailure()):
        with pytest.raises(RemoteProtocolError, match="nobody made"):
            alone.hear(reply)


@pytest.mark.parametrize("wants_reply", [True, False])
def test_unanswered_global_requests_have_a_most(wants_reply: bool) -> None:
    alone = Alone(Limits(unanswered_requests=5))
    for _ in range(5):
        alone.hear(GlobalRequest("x", wants_reply, b""))
    alone.mux.reply_global(is_success=True, wants_reply=wants_reply)
    alone.hear(GlobalRequest("x", wants_reply, b""))
    with pytest.raises(RemoteProtocolError, match="more than 5 requests"):
        alone.hear(GlobalRequest("x", wants_reply, b""))


# -- what is too long for a message


@pytest.mark.parametrize("wants_reply", [True, False])
def test_what_no_peer_would_take_is_refused_before_anything_is_sent(wants_reply: bool) -> None:
    alone = Alone()
    channel = alone.opened()
    too_long = bytes(LARGEST_PAYLOAD)
    for ask in (
        lambda: alone.mux.open_channel("direct-tcpip", too_long),
        lambda: alone.mux.request(channel, "exec", too_long, wants_reply=wants_reply),
        lambda: alone.mux.global_request("x", too_long, wants_reply=wants_reply),
    ):
        with pytest.raises(LocalProtocolError, match="261120 at the most"):
            ask()
    assert alone.sent() == []
    assert list(alone.mux.channels) == [channel.local_id]
    assert not channel.pending
    with pytest.raises(RemoteProtocolError, match="nobody made"):
        alone.hear(RequestSuccess(b""))


def test_the_longest_request_that_is_sent_is_one_that_openssh_takes() -> None:
    alone = Alone()
    channel = alone.opened()
    alone.mux.request(channel, "exec", bytes(LARGEST_PAYLOAD - 100), wants_reply=True)
    assert 255_000 < alone.outbound.ready_bytes < 256 * 1024


@pytest.mark.parametrize("by_peer", [True, False])
def test_no_more_data_is_asked_for_than_a_packet_may_have(by_peer: bool) -> None:
    alone = Alone(Limits(packet_bytes=64 * 1024))
    if by_peer:
        [event] = alone.hear(ChannelOpen("session", REMOTE, WINDOW, PACKET, b""))
        assert isinstance(event, OpenRequested)
        alone.mux.confirm_open(event.channel, b"")
        [confirmation] = alone.sent()
        assert isinstance(confirmation, ChannelOpenConfirmation)
        most = confirmation.maximum_packet
    else:
        alone.mux.open_channel("session", b"")
        [opening] = alone.sent()
        assert isinstance(opening, ChannelOpen)
        most = opening.maximum_packet
    assert 60 * 1024 < most < 64 * 1024 - 300
