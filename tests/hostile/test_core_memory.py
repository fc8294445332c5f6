"""What a hostile peer can make a core hold: measured as heap, never as time."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from typing import Final, Self

import pytest

from tests.core.by_hand import HandPeer, arrive
from tests.core.fed import replaced
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.events import OpenRequested
from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, MIB, Limits
from trio_ssh.core.questions import HostKeyOffered
from trio_ssh.core.role import Role
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.connection import ChannelClose, ChannelData, ChannelExtendedData, ChannelOpen, ChannelRequest
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import Debug, ExtInfo, Ignore, Ping


class Heap:
    """Heap that a block of code took: at its end, and at its worst."""

    def __enter__(self) -> Self:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        self.kept = self.worst = 0
        return self

    def __exit__(self, *exception: object) -> None:
        worst = tracemalloc.get_traced_memory()[1]
        gc.collect()  # cycles aren't kept, they wait
        now = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        self.kept, self.worst = now - self._before, worst - self._before


def sealed(peer: HandPeer, messages: Iterable[DeclaredMessage | bytes], per_read: int = 200) -> list[bytes]:
    """Reads of so many packets each, made beforehand."""
    packets = [peer.packet(message if isinstance(message, bytes) else message.encode()) for message in messages]
    return [b"".join(packets[start : start + per_read]) for start in range(0, len(packets), per_read)]


def feed(peer: HandPeer, reads: list[bytes]) -> None:
    """Give the reads away as they are fed, so that only what the core keeps of them is counted."""
    for read in reads:
        peer.core.receive_data(read)


def opened(peer: HandPeer, number: int = 0) -> CoreChannel:
    peer.say(ChannelOpen("direct-tcpip", number, 100_000, 32_768, b""))
    channel = peer.side.of(OpenRequested)[-1].channel
    peer.core.confirm_open(channel)
    peer.listen()
    return channel


# -- data that nobody reads

Kinds = Callable[[int], DeclaredMessage]

TRICKLES: Final[dict[str, tuple[int, list[Kinds]]]] = {
    "a byte each": (4 * KIB, [lambda n: ChannelData(n, b"x")]),
    "a byte of each stream": (4 * KIB, [lambda n: ChannelData(n, b"x"), lambda n: ChannelExtendedData(n, 1, b"y")]),
    "two kilobytes and a byte": (32 * KIB, [lambda n: ChannelData(n, bytes(2047)), lambda n: ChannelData(n, b"x")]),
    "two kilobytes each": (32 * KIB, [lambda n: ChannelData(n, bytes(2048))]),
    "large packets": (64 * KIB, [lambda n: ChannelData(n, bytes(8192))]),
}


@pytest.mark.parametrize("trickle", TRICKLES)
@pytest.mark.parametrize("per_read", [1, 200])
def test_unread_data_costs_its_window_in_whatever_packets_it_comes(trickle: str, per_read: int) -> None:
    """A slice for each byte would cost 250 times that."""
    window, kinds = TRICKLES[trickle]
    peer = arrive(Role.SERVER, "anything", limits=Limits(initial_window_bytes=window))
    channel = opened(peer)
    messages: list[DeclaredMessage] = []
    left = window
    while True:
        message = kinds[len(messages) % len(kinds)](channel.local_id)
        left -= len(message.encode()) - (9 if isinstance(message, ChannelData) else 13)
        if left < 0:
            break
        messages.append(message)
    reads = sealed(peer, messages, per_read)
    with Heap() as heap:
        feed(peer, reads)
    peer.check()
    assert channel.unread > window - 2048
    assert heap.kept < 2 * window + 4 * KIB


def test_unread_data_of_all_channels_costs_the_windows_of_all() -> None:
    limits = Limits(channels=32, all_windows_bytes=2 * MIB)
    peer = arrive(Role.SERVER, "anything", limits=limits)
    channels = [opened(peer, number) for number in range(32)]
    assert sum(channel.inbound_window.left for channel in channels) <= limits.all_windows_bytes
    reads = [
        read
        for channel in channels
        for read in sealed(
            peer, [ChannelData(channel.local_id, bytes(4096))] * (channel.inbound_window.left // 4096), 60
        )
    ]
    with Heap() as heap:
        feed(peer, reads)
    peer.check()
    assert sum(channel.unread for channel in channels) > 1 * MIB
    assert heap.kept < 1.3 * limits.all_windows_bytes


# -- what is claimed and does not come


@pytest.mark.parametrize("stage", ["KEXINIT", "authentication", "anything"])
def test_a_length_is_a_claim_and_not_an_allocation(stage: str) -> None:
    peer = arrive(Role.SERVER, stage)
    claim = (DEFAULT_LIMITS.packet_bytes - (4 if stage == "KEXINIT" else 0)).to_bytes(4, "big")
    with Heap() as heap:
        peer.core.receive_data(claim + b"x")
    peer.check()
    assert heap.worst < 4 * KIB


@pytest.mark.parametrize("piece", [1000, 60_000])
def test_a_packet_that_never_ends_costs_what_has_come_of_it(piece: int) -> None:
    peer = arrive(Role.SERVER, "anything")
    claim = DEFAULT_LIMITS.packet_bytes.to_bytes(4, "big")
    with Heap() as heap:
        peer.core.receive_data(claim)
        for _ in range(DEFAULT_LIMITS.packet_bytes // piece):
            peer.core.receive_data(bytes(piece))
    peer.check()
    assert heap.kept < 1.3 * DEFAULT_LIMITS.packet_bytes


def test_a_rest_of_a_read_does_not_keep_the_read() -> None:
    peer = arrive(Role.SERVER, "anything")
    packets = b"".join(peer.packet(Ignore(bytes(20_000)).encode()) for _ in range(12)) + bytes(3)
    with Heap() as heap:
        peer.core.receive_data(bytes(bytearray(packets)))
    peer.check()
    assert heap.kept < 8 * KIB


# -- what is said and means nothing


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", ["authentication", "anything"])
def test_chatter_leaves_nothing_behind(role: Role, stage: str) -> None:
    peer = arrive(role, stage)
    reads = sealed(peer, [Ignore(bytes(1000)), Debug(True, "x" * 1000, "")] * 500)
    with Heap() as heap:
        feed(peer, reads)
    peer.check()
    assert heap.kept < 8 * KIB


@pytest.mark.parametrize("role", Role)
def test_extensions_are_kept_once_and_not_at_any_size(role: Role) -> None:
    peer = arrive(role, "authentication")
    content = Message()
    for number in range(1024):
        content.add_string(f"extension-{number}").add_string(bytes(200))
    reads = sealed(peer, [ExtInfo(1024, content.asbytes())])
    with Heap() as heap:
        feed(peer, reads)
    peer.check()
    assert heap.kept < 3 * DEFAULT_LIMITS.packet_bytes
    assert heap.worst < 6 * DEFAULT_LIMITS.packet_bytes


@pytest.mark.parametrize("role", Role)
def test_name_lists_of_a_whole_packet_are_not_split_to_pieces(role: Role) -> None:
    peer = arrive(role, "KEXINIT")
    commas = peer.packet(replaced(peer.kexinit(), languages_client_to_server=("",) * 200_000).encode())
    with Heap() as heap:
        peer.core.receive_data(commas)
    assert isinstance(peer.core.failure, RemoteProtocolError)
    assert heap.worst < 6 * DEFAULT_LIMITS.packet_bytes


@pytest.mark.parametrize("role", Role)
def test_a_version_that_never_ends_is_not_kept(role: Role) -> None:
    peer = HandPeer(role)
    with Heap() as heap:
        for _ in range(100):
            peer.core.receive_data(b"SSH-2.0-" + b"x" * 1000)
    assert isinstance(peer.core.failure, RemoteProtocolError)
    assert heap.worst < 64 * KIB


# -- what a peer asks and does not wait for


@pytest.mark.parametrize("role", Role)
def test_answers_that_an_exchange_holds_back_are_bounded_by_what_they_cost(role: Role) -> None:
    limits = Limits(queued_output_bytes=128 * KIB)
    peer = arrive(role, "anything", limits=limits)
    peer.side.record(peer.core.start_exchange())
    reads = sealed(peer, [Ping(b"")] * 10_000, 100)
    with Heap() as heap:
        feed(peer, reads)
    assert "asks on and on" in str(peer.failure())
    assert heap.worst < 2 * limits.queued_output_bytes + 64 * KIB


def test_input_that_waits_for_an_answer_is_bounded() -> None:
    limits = Limits(paused_input_bytes=128 * KIB)
    peer = HandPeer(Role.CLIENT, limits=limits)
    del peer.side.answers[HostKeyOffered]
    peer.greet()
    peer.say_kexinit()
    peer.say(peer.reply())
    assert peer.core.is_paused
    with Heap() as heap:
        for _ in range(1000):
            peer.core.receive_data(bytes(1000))
    assert "on and on" in str(peer.failure())
    assert heap.worst < 3 * limits.paused_input_bytes


def test_channels_that_come_and_go_leave_nothing_behind() -> None:
    peer = arrive(Role.SERVER, "anything")

    def churn(count: int) -> None:
        for _ in range(count):
            channel = opened(peer)
            peer.say(ChannelRequest(channel.local_id, "exec", False, bytes(100)), ChannelClose(channel.local_id))
            peer.core.mux.reply(channel, is_success=True, wants_reply=False)
            peer.heard.clear()
            peer.side.events.clear()

    churn(20)
    with Heap() as heap:
        churn(200)
    peer.check()
    assert heap.kept < 8 * KIB


# -- compression


def bomb(size: int) -> bytes:
    compressor = zlib.compressobj()
    return compressor.compress(b"\x02" + bytes(size)) + compressor.flush(zlib.Z_PARTIAL_FLUSH)


@pytest.mark.parametrize("role", Role)
def test_a_bomb_is_not_inflated(role: Role) -> None:
    peer = HandPeer(role, compression="zlib@openssh.com")
    peer.log_in()
    payload = bomb(16 * MIB)
    assert len(payload) < DEFAULT_LIMITS.packet_bytes
    packet = peer.packet_of_bytes(payload)
    with Heap() as heap:
        peer.core.receive_data(packet)
    failure = peer.failure()
    assert isinstance(failure, RemoteProtocolError)
    assert failure.reason is DisconnectReason.COMPRESSION_ERROR
    assert heap.worst < 8 * DEFAULT_LIMITS.packet_bytes


@pytest.mark.parametrize("role", Role)
def test_nothing_is_inflated_before_authentication_is_complete(role: Role) -> None:
    peer = HandPeer(role, compression="zlib@openssh.com")
    peer.connect()
    peer.raw(peer.packet_of_bytes(bomb(1000)))
    assert "message 120 arrived" in str(peer.failure()), "120 is how a zlib stream begins"
