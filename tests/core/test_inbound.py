"""RFC 4253 section 6, receiving: the same packets however the bytes are cut, and a refusal as soon as one is due."""

from __future__ import annotations

import itertools
import os
import zlib
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.by_hand import SUITES, frame
from trio_ssh.core.inbound import Inbound
from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, Limits
from trio_ssh.crypto.cipher import CIPHERS, NullOpener, NullSealer, Opener, Sealer
from trio_ssh.crypto.compression import ZlibCompressor, ZlibDecompressor
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

ALL_SUITES: Final = (("", ""), *SUITES)


def ciphers(suite: tuple[str, str], key_byte: int = 1) -> tuple[Sealer, Opener]:
    """A sealer and the opener that fits; of no protection at all for an empty name."""
    name, mac_name = suite
    if not name:
        return NullSealer(), NullOpener()
    cipher = CIPHERS[name]
    mac = MACS[mac_name] if mac_name else None
    key, iv = bytes((key_byte,)) * cipher.key_size, bytes(cipher.iv_size)
    mac_key = bytes(mac.key_size if mac else 0)
    return cipher.new_sealer(key, iv, mac, mac_key), cipher.new_opener(key, iv, mac, mac_key)


def inbound(opener: Opener, limits: Limits = DEFAULT_LIMITS) -> Inbound:
    reading = Inbound(limits)
    reading.use(opener, None, reset_sequence=False)
    return reading


def packets(reading: Inbound) -> list[bytes]:
    """Every payload that is complete."""
    found: list[bytes] = []
    while (packet := reading.next_packet()) is not None:
        plain, end = packet
        found.append(plain[1:end])
    return found


payloads: Final = st.lists(
    st.binary(min_size=1, max_size=40) | st.integers(1, 3000).map(lambda size: b"\x5e" * size), max_size=8
)


@pytest.mark.parametrize("suite", ALL_SUITES)
@given(payloads=payloads, cuts=st.lists(st.integers(0, 20_000), max_size=10))
@settings(max_examples=40)
def test_how_the_bytes_are_cut_changes_nothing(suite: tuple[str, str], payloads: list[bytes], cuts: list[int]) -> None:
    sealer, opener = ciphers(suite)
    data = b"".join(frame(sealer, number, payload) for number, payload in enumerate(payloads))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reading = inbound(opener)
    found: list[bytes] = []
    fed = 0
    for start, end in itertools.pairwise(edges):
        reading.feed(data[start:end])
        fed += end - start
        found += packets(reading)
        assert found == payloads[: len(found)]
    assert found == payloads
    assert reading.waiting_bytes == 0
    assert (reading.sequence, reading.packets_since_keys) == (len(payloads), len(payloads))
    assert reading.bytes_since_keys == len(data) - len(payloads) * (4 + opener.tag_size)


@pytest.mark.parametrize("suite", ALL_SUITES)
def test_the_bytes_may_come_one_by_one(suite: tuple[str, str]) -> None:
    sealer, opener = ciphers(suite)
    sent = [b"a", b"bc" * 30, b"d" * 5]
    data = b"".join(frame(sealer, number, payload) for number, payload in enumerate(sent))
    reading = inbound(opener)
    found: list[bytes] = []
    for position in range(len(data)):
        reading.feed(data[position : position + 1])
        found += packets(reading)
    assert found == sent


def test_a_packet_is_opened_when_it_is_asked_for_and_not_before() -> None:
    """So that new keys, and open questions, act in the middle of a read."""
    old, new = ciphers(SUITES[0], 1), ciphers(SUITES[1], 2)
    reading = inbound(old[1])
    reading.feed(frame(old[0], 0, b"old") + frame(new[0], 0, b"new") + frame(new[0], 1, b"newer") + b"rst")
    first = reading.next_packet()
    assert first is not None
    assert first[0][1 : first[1]] == b"old"
    reading.use(new[1], None, reset_sequence=True)
    assert (reading.sequence, reading.bytes_since_keys, reading.packets_since_keys) == (0, 0, 0)
    assert packets(reading) == [b"new", b"newer"]
    assert reading.waiting_bytes == 3


@pytest.mark.parametrize("piece", [1, 7, 30, 1000])
def test_reads_pile_up_while_nobody_asks(piece: int) -> None:
    sealer, opener = ciphers(SUITES[0])
    data = b"".join(frame(sealer, number, b"x" * (number + 1)) for number in range(20))
    reading = inbound(opener)
    for start in range(0, len(data), piece):
        reading.feed(data[start : start + piece])
        assert reading.waiting_bytes == min(start + piece, len(data))
    assert packets(reading) == [b"x" * (number + 1) for number in range(20)]


@pytest.mark.parametrize("suite", ALL_SUITES)
def test_a_sequence_number_goes_on_behind_its_last(suite: tuple[str, str]) -> None:
    sealer, opener = ciphers(suite)
    reading = inbound(opener)
    reading.sequence = 2**32 - 1
    reading.feed(frame(sealer, 2**32 - 1, b"last") + frame(sealer, 0, b"first"))
    assert packets(reading) == [b"last", b"first"]
    assert reading.sequence == 1


# -- what is refused from the length alone


class TellsLength:
    """An opener whose packets claim to have one length."""

    tag_size = 16
    header_size = 4
    has_clear_length = False
    hides_length = False

    def __init__(self, length: int, block_size: int, *, pads_length: bool) -> None:
        self.length = length
        self.block_size = block_size
        self.pads_length = pads_length

    def open_length(self, sequence: int, data: memoryview) -> int:
        return self.length

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        raise AssertionError("nothing is opened")


LARGEST: Final = DEFAULT_LIMITS.packet_bytes


@pytest.mark.parametrize("length", [0, 1, 4, LARGEST + 1, LARGEST + 16, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_an_absurd_length_is_refused_before_another_byte_is_waited_for(length: int, cut: int) -> None:
    reading = inbound(NullOpener())
    data = length.to_bytes(4, "big")
    reading.feed(data[:cut])
    assert packets(reading) == []
    reading.feed(data[cut:])
    with pytest.raises(RemoteProtocolError, match=f"a packet length of {length}; 5 to {LARGEST}"):
        packets(reading)


@pytest.mark.parametrize("block_size", [8, 16])
@pytest.mark.parametrize("pads_length", [True, False])
def test_a_length_fills_blocks(block_size: int, pads_length: bool) -> None:
    for length in range(5, 70):
        reading = inbound(TellsLength(length, block_size, pads_length=pads_length))
        reading.feed(bytes(4))
        if (length + 4 * pads_length) % block_size == 0:
            assert reading.next_packet() is None
        else:
            with pytest.raises(RemoteProtocolError, match="fill blocks"):
                reading.next_packet()


def test_the_largest_packet_is_taken() -> None:
    limits = Limits(packet_bytes=1 * KIB)
    sealer, opener = ciphers(("", ""))
    reading = inbound(opener, limits)
    reading.feed(frame(sealer, 0, bytes(1020 - 5), padding=4))
    assert packets(reading) == [bytes(1015)]
    reading.feed(frame(sealer, 1, bytes(1028 - 5), padding=4)[:4])
    with pytest.raises(RemoteProtocolError, match="length of 1028"):
        packets(reading)


# -- what is refused of an opened packet


@pytest.mark.parametrize("suite", ALL_SUITES)
def test_the_padding_is_at_least_four_and_leaves_a_payload(suite: tuple[str, str]) -> None:
    sealer, _ = ciphers(suite)
    size = 64 - 1 - (4 if sealer.pads_length else 0)
    for padding in range(256):
        sealer, opener = ciphers(suite)
        total = size + (1 if padding > size else 0) * 256  # room for the largest
        plain = bytearray((1 + total).to_bytes(4, "big") + bytes((padding,)) + b"p" * total)
        sealed = bytearray(len(plain) + sealer.tag_size)
        sealer.seal(0, memoryview(plain), memoryview(sealed))
        reading = inbound(opener)
        reading.feed(bytes(sealed))
        if 4 <= padding < total:
            assert packets(reading) == [b"p" * (total - padding)]
        else:
            with pytest.raises(RemoteProtocolError, match=f"with {padding} bytes of padding"):
                packets(reading)


@pytest.mark.parametrize("padding", [63, 64, 65, 255])
def test_padding_beyond_the_packet_is_refused(padding: int) -> None:
    reading = inbound(NullOpener())
    reading.feed((60).to_bytes(4, "big") + bytes((padding,)) + bytes(59))
    with pytest.raises(RemoteProtocolError, match=f"a packet of 60 bytes with {padding} bytes of padding"):
        packets(reading)


@pytest.mark.parametrize("suite", SUITES)
def test_a_packet_of_another_number_is_not_authentic(suite: tuple[str, str]) -> None:
    """Nothing can be left out, doubled or put in another order."""
    sealer, opener = ciphers(suite)
    one, two = frame(sealer, 0, b"one"), frame(sealer, 1, b"two")
    for data in (two, two + one, one + one):
        _, opener = ciphers(suite)
        reading = inbound(opener)
        reading.feed(data + bytes(2 * LARGEST))
        with pytest.raises(RemoteProtocolError) as caught:
            packets(reading)
        assert caught.value.reason in (DisconnectReason.MAC_ERROR, DisconnectReason.PROTOCOL_ERROR)


# -- compression


def compressed(data: bytes) -> tuple[Inbound, bytes]:
    reading = Inbound(DEFAULT_LIMITS)
    reading.decompress_with(ZlibDecompressor())
    return reading, frame(NullSealer(), 0, data)


def test_payloads_are_inflated() -> None:
    compressor = ZlibCompressor()
    sent = [b"one", b"one again", os.urandom(3000), b"\0" * LARGEST]
    reading = Inbound(DEFAULT_LIMITS)
    reading.decompress_with(ZlibDecompressor())
    for number, payload in enumerate(sent):
        reading.feed(frame(NullSealer(), number, compressor.compress(payload)))
        assert packets(reading) == [payload]


@pytest.mark.parametrize("size", [LARGEST + 1, 100 * LARGEST])
def test_a_payload_that_inflates_beyond_the_limit_is_refused(size: int) -> None:
    reading, data = compressed(ZlibCompressor().compress(b"\0" * size))
    reading.feed(data)
    with pytest.raises(RemoteProtocolError, match="inflates to more") as caught:
        packets(reading)
    assert caught.value.reason is DisconnectReason.COMPRESSION_ERROR


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x78\x9c\xff\xff\xff", zlib.compress(b"ended"), zlib.compress(b"")])
def test_a_payload_that_does_not_inflate_is_refused(payload: bytes) -> None:
    reading, data = compressed(payload)
    reading.feed(data)
    with pytest.raises(RemoteProtocolError) as caught:
        packets(reading)
    assert caught.value.reason is DisconnectReason.COMPRESSION_ERROR


def test_a_payload_that_inflates_to_nothing_is_refused() -> None:
    compressor = zlib.compressobj()
    for payload in (b"\x78", compressor.compress(b"") + compressor.flush(zlib.Z_SYNC_FLUSH)):
        reading, data = compressed(payload)
        reading.feed(data)
        with pytest.raises(RemoteProtocolError, match="without a payload"):
            packets(reading)


# -- CBC without encrypt-then-mac: what became of a length must not show


def cbc(cipher: str = "aes128-cbc", mac: str = "hmac-sha1") -> tuple[Sealer, Opener]:
    return ciphers((cipher, mac))


def eaten_before_the_end(cipher: str, mac: str, sealed: bytes, piece: int) -> tuple[int, str]:
    """How many bytes a peer can send before it is told that something is wrong, and what it is told."""
    reading = inbound(cbc(cipher, mac)[1])
    for fed in range(0, 2 * LARGEST, piece):
        reading.feed(sealed[fed : fed + piece].ljust(piece, b"\x17"))
        try:
            assert reading.next_packet() is None
        except RemoteProtocolError as error:
            return fed, f"{error.reason.name}: {error}"
    raise AssertionError("it reads on and on")


@pytest.mark.parametrize(
    ("cipher", "mac"), [("aes128-cbc", "hmac-sha1"), ("aes256-cbc", "hmac-sha2-512"), ("3des-cbc", "hmac-sha1-96")]
)
@pytest.mark.parametrize("piece", [4096, 10_000])
def test_a_bad_length_ends_like_a_bad_tag_where_the_longest_packet_would(cipher: str, mac: str, piece: int) -> None:
    sealer, _ = cbc(cipher, mac)
    good = frame(sealer, 0, b"\x5e" + bytes(999))
    bad_tag = good[:-1] + bytes((good[-1] ^ 1,))
    bad_body = good[:200] + bytes((good[200] ^ 1,)) + good[201:]
    lengths = []
    for length in (0, 4, 5, 13, LARGEST + 1, LARGEST + 12, 2**31, 2**32 - 1):
        sealer, _ = cbc(cipher, mac)
        plain = length.to_bytes(4, "big") + bytes(28)
        out = bytearray(len(plain) + sealer.tag_size)
        sealer.seal(0, memoryview(plain), memoryview(out))
        lengths.append(bytes(out))
    ends = {eaten_before_the_end(cipher, mac, sealed, piece) for sealed in (bad_tag, bad_body, *lengths)}
    [(fed, text)] = ends
    assert LARGEST - piece <= fed <= LARGEST + piece
    assert text == "MAC_ERROR: a packet's authentication tag is wrong"


def test_a_length_that_is_no_packet_s_is_refused_even_if_its_tag_is_right() -> None:
    """Only who has the keys can do that; it gets no further for it."""
    sealer, opener = cbc()
    longest = LARGEST - 4
    plain = (13).to_bytes(4, "big") + bytes(longest)
    out = bytearray(len(plain) + sealer.tag_size)
    sealer.seal(0, memoryview(plain), memoryview(out))
    reading = inbound(opener)
    reading.feed(out)
    with pytest.raises(RemoteProtocolError, match="tag is wrong"):
        reading.next_packet()


def test_the_longest_packet_opens_under_cbc_and_one_with_a_bad_tag_fails_at_its_own_end() -> None:
    for flip in (0, 1):
        sealer, opener = cbc()
        plain = (LARGEST - 4).to_bytes(4, "big") + b"\x0b\x5e" + bytes(LARGEST - 6)
        out = bytearray(len(plain) + sealer.tag_size)
        sealer.seal(0, memoryview(plain), memoryview(out))
        out[-1] ^= flip
        reading = inbound(opener)
        reading.feed(out)
        if flip:
            with pytest.raises(RemoteProtocolError, match="tag is wrong"):
                reading.next_packet()
        else:
            assert [len(payload) for payload in packets(reading)] == [LARGEST - 4 - 1 - 11]


def test_behind_encrypt_then_mac_a_bad_length_is_told_at_once() -> None:
    reading = inbound(cbc("aes128-cbc", "hmac-sha1-etm@openssh.com")[1])
    reading.feed((LARGEST + 16).to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match="a packet length of"):
        reading.next_packet()
