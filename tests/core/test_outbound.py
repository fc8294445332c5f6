"""RFC 4253 section 6, sending: well-formed packets, memory that comes and goes with the traffic, and the gate."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.by_hand import SUITES
from tests.core.test_inbound import ALL_SUITES, ciphers, inbound, packets
from trio_ssh.core import buffers, outbound
from trio_ssh.core.buffers import LENT_BYTES
from trio_ssh.core.limits import KIB, MIB, Limits
from trio_ssh.core.outbound import Outbound
from trio_ssh.crypto.compression import ZlibCompressor, ZlibDecompressor
from trio_ssh.crypto.mac import MACS

WIDE: Final = Limits(packet_bytes=4 * MIB)

#: Around each size at which a payload goes another way: a small outbox, a lent one, one of its own.
SIZES: Final = (
    1,
    15,
    16,
    1700,
    1724,
    1725,
    2048,
    32768,
    LENT_BYTES - 400,
    LENT_BYTES - 324,
    LENT_BYTES,
    LENT_BYTES + 9,
)


#: Bytes in an outbox that never stop a run of packets.
NO_MOST: Final = 2**30


@pytest.mark.parametrize("suite", ALL_SUITES)
def test_what_is_sealed_is_opened(suite: tuple[str, str]) -> None:
    sealer, opener = ciphers(suite)
    sending, reading = Outbound(), inbound(opener, WIDE)
    sending.use(sealer, None, reset_sequence=False)
    sent = [bytes((size & 0xFF,)) * size for size in SIZES]
    for payload in sent:
        sending.seal(payload)
    for payload in reversed(sent):
        half = len(payload) // 2
        assert (
            sending.seal_data(payload[:half], memoryview(payload)[half:], len(payload) - half, NO_MOST)
            == len(payload) - half
        )
    assert sending.ready_bytes == sending.queued_bytes
    reading.feed(bytes(sending.data_to_send()))
    assert packets(reading) == [*sent, *reversed(sent)]
    assert (sending.ready_bytes, sending.sequence) == (0, 2 * len(sent))


@pytest.mark.parametrize("suite", ALL_SUITES)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["seal", "data", "send", "take"]), st.sampled_from(SIZES[:8])), max_size=25
    )
)
@settings(max_examples=25)
def test_whenever_it_is_taken_it_is_the_same_stream(suite: tuple[str, str], steps: list[tuple[str, int]]) -> None:
    sealer, opener = ciphers(suite)
    sending, reading = Outbound(), inbound(opener)
    sending.use(sealer, None, reset_sequence=False)
    sent: list[bytes] = []
    found: list[bytes] = []
    view = memoryview(b"")
    for number, (step, size) in enumerate(steps):
        payload = bytes((94, number)) + b"x" * size
        match step:
            case "take":
                # The last view is valid up to here, whatever was sealed meanwhile.
                reading.feed(bytes(view))
                found += packets(reading)
                view = sending.data_to_send()
                continue
            case "data":
                sending.seal_data(payload[:2], memoryview(payload)[2:], size, NO_MOST)
            case "seal":
                sending.seal(payload)
            case _:
                sending.send(payload)
        sent.append(payload)
    for _ in range(2):
        reading.feed(bytes(view))
        found += packets(reading)
        view = sending.data_to_send()
    assert found == sent
    assert not view


def test_the_padding_is_the_least_that_is_lawful_and_tells_nothing() -> None:
    sending = Outbound()
    for size in range(1, 300):
        sending.seal(b"secret" * 50)  # whose bytes stay in the buffer
        sending.data_to_send()
        sending.seal(b"p" * size)
        data = bytes(sending.data_to_send())
        length, padding = int.from_bytes(data[:4], "big"), data[4]
        assert len(data) == 4 + length
        assert len(data) % 8 == 0
        assert 4 <= padding < 12
        assert data[5:] == b"p" * size + bytes(padding)


@pytest.mark.parametrize("suite", SUITES)
def test_sealed_packets_fill_blocks(suite: tuple[str, str]) -> None:
    sealer, _ = ciphers(suite)
    sending = Outbound()
    sending.use(sealer, None, reset_sequence=False)
    tag_size = MACS[suite[1]].tag_size if suite[1] else 16
    for size in range(1, 40):
        before = sending.bytes_since_keys
        sending.seal(bytes(size))
        data = bytes(sending.data_to_send())
        assert sending.bytes_since_keys - before == len(data) - tag_size
        assert (len(data) - tag_size - (0 if sealer.pads_length else 4)) % sealer.block_size == 0


def test_counters_are_those_of_the_present_keys() -> None:
    sending = Outbound()
    sending.seal(b"a")
    sending.seal(b"b")
    assert (sending.sequence, sending.packets_since_keys, sending.bytes_since_keys) == (2, 2, 32)
    sending.use(ciphers(SUITES[0])[0], None, reset_sequence=False)
    assert (sending.sequence, sending.packets_since_keys, sending.bytes_since_keys) == (2, 0, 0)
    sending.use(ciphers(SUITES[0])[0], None, reset_sequence=True)
    assert sending.sequence == 0


def test_a_sequence_number_goes_on_behind_its_last() -> None:
    sending = Outbound()
    sending.sequence = 2**32 - 1
    sending.seal(b"last")
    assert sending.sequence == 0


def test_payloads_are_compressed() -> None:
    sending, reading = Outbound(), inbound(ciphers(("", ""))[1])
    sending.compress_with(ZlibCompressor())
    reading.decompress_with(ZlibDecompressor())
    sending.seal(b"a" * 5000)
    assert sending.seal_data(b"head", memoryview(b"b" * 9000), 5000, NO_MOST) == 5000, "a packet at a time"
    data = bytes(sending.data_to_send())
    assert len(data) < 200
    reading.feed(data)
    assert packets(reading) == [b"a" * 5000, b"head" + b"b" * 5000]


@pytest.mark.parametrize("suite", ALL_SUITES)
@pytest.mark.parametrize("size", [1, 15, 1700, 32768])
def test_a_run_of_packets_is_the_same_as_one_after_the_other(suite: tuple[str, str], size: int) -> None:
    data = memoryview(bytes(range(256)) * (9 * size // 256 + 1))[: 9 * size - 1]
    (sealer, opener), run = ciphers(suite), Outbound()
    run.use(sealer, None, reset_sequence=False)
    run.sequence = 2**32 - 3
    run.seal(b"before")
    assert run.seal_data(b"head", data, size, NO_MOST) == 8 * size, "whole packets only"
    run.seal(b"behind")
    assert (run.sequence, run.packets_since_keys) == (7, 10)
    reading = inbound(opener)
    reading.sequence = 2**32 - 3
    reading.feed(bytes(run.data_to_send()))
    expected = [b"head" + bytes(data[start : start + size]) for start in range(0, 8 * size, size)]
    assert packets(reading) == [b"before", *expected, b"behind"]
    assert reading.bytes_since_keys + 4 * 10 == run.bytes_since_keys


def test_what_was_sent_is_filled_again_and_given_back_when_nothing_follows() -> None:
    sending = Outbound()
    data = memoryview(bytes(40_000))
    sending.seal_data(b"head", data, 20_000, NO_MOST)
    first = sending.data_to_send()
    memory, size = first.obj, len(first)
    sending.fill_again()
    sending.seal_data(b"head", data, 20_000, NO_MOST)
    again = sending.data_to_send()
    assert again.obj is memory
    assert len(again) == size
    sending.fill_again()
    assert not sending.data_to_send()
    assert len(sending._filling) == len(sending._sent) == 512, "nothing is borrowed any more"


def test_what_is_sealed_while_another_outbox_is_sent_stays_when_that_is_filled_again() -> None:
    sending = Outbound()
    data = memoryview(bytes(40_000))
    sending.seal_data(b"head", data, 20_000, NO_MOST)
    size = len(sending.data_to_send())
    sending.seal(b"meanwhile")
    sending.fill_again()
    rest = bytes(sending.data_to_send())
    assert b"meanwhile" in rest
    assert len(rest) < size
    assert not sending.data_to_send()


@pytest.mark.parametrize("suite", ALL_SUITES)
def test_a_run_ends_where_the_outbox_is_full(suite: tuple[str, str]) -> None:
    """With the packet that makes it so, be there one that fits or not."""
    data = memoryview(bytes(1000))
    for most in range(1, 500):
        sending = Outbound()
        sending.use(ciphers(suite)[0], None, reset_sequence=False)
        taken = sending.seal_data(b"head", data, 10, most)
        packet = sending.ready_bytes // (taken // 10)
        assert most <= sending.ready_bytes < most + packet


# -- the gate

PASSING: Final = {1, 2, 3, 4, 7, 20, 21, *range(30, 50)}


def numbers_sent(sending: Outbound) -> list[int]:
    reading = inbound(ciphers(("", ""))[1])
    reading.feed(bytes(sending.data_to_send()))
    return [payload[0] for payload in packets(reading)]


def test_during_an_exchange_nothing_passes_but_what_belongs_to_it() -> None:
    """RFC 4253 s7.1, of what we ever send: generic messages but service requests, and the exchange's own."""
    sending = Outbound()
    sending.is_gated = True
    for number in range(1, 256):
        sending.send(bytes((number,)))
    assert numbers_sent(sending) == sorted(PASSING)
    held = [number for number in range(1, 256) if number not in PASSING]
    assert sending.ready_bytes == 0
    assert sending.queued_bytes == sending.held_bytes > len(held)
    sending.open_gate()
    assert not sending.is_gated
    assert sending.held_bytes == 0
    assert numbers_sent(sending) == held, "in the order in which it came"


def test_what_is_held_counts_as_what_it_costs() -> None:
    """A reply of five bytes is an object of its own: a peer that asks during an exchange must not get it cheaper."""
    sending = Outbound()
    sending.is_gated = True
    for _ in range(1000):
        sending.send(b"\x63\0\0\0\1")
    assert sending.held_bytes >= 1000 * (len(b"\x63\0\0\0\1") + 40)


def test_when_all_is_over_nothing_is_taken_any_more() -> None:
    sending = Outbound()
    sending.is_gated = True
    sending.send(b"\x63held")
    sending.seal(b"\x01goodbye")
    sending.shut()
    for number in range(1, 256):
        sending.send(bytes((number,)))
    assert sending.is_gated, "which keeps channel data back"
    assert sending.held_bytes == 0
    assert numbers_sent(sending) == [1]


# -- memory


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many large buffers are out, as a list of one number."""
    count = [0]

    def borrow() -> bytearray:
        count[0] += 1
        return buffers.borrow()

    def give_back(buffer: bytearray) -> None:
        count[0] -= 1
        buffers.give_back(buffer)

    monkeypatch.setattr(outbound, "borrow", borrow)
    monkeypatch.setattr(outbound, "give_back", give_back)
    return count


def test_small_talk_borrows_nothing(lent: list[int]) -> None:
    sending = Outbound()
    for _ in range(1000):
        sending.seal(b"x" * 100)
        sending.data_to_send()
    assert lent == [0]


@pytest.mark.parametrize("size", [1 * KIB, 32 * KIB, 300 * KIB, 600 * KIB])
def test_a_connection_that_falls_silent_gives_everything_back(lent: list[int], size: int) -> None:
    sending = Outbound()
    for count in (1, 5, 1, 40):
        for _ in range(count):
            sending.seal(b"x" * size)
        assert lent[0] <= 3, "two outboxes, and where packets are put together"
        sending.data_to_send()
        assert lent[0] <= 3
    assert not sending.data_to_send()
    assert lent == [0]


def test_buffers_are_reused_and_not_hoarded() -> None:
    taken = [buffers.borrow() for _ in range(20)]
    assert {len(buffer) for buffer in taken} == {LENT_BYTES}
    assert len({id(buffer) for buffer in taken}) == 20
    for buffer in taken:
        buffers.give_back(buffer)
    again = [buffers.borrow() for _ in range(20)]
    reused = {id(buffer) for buffer in taken} & {id(buffer) for buffer in again}
    assert 0 < len(reused) <= 8
    buffers.give_back(again.pop())
