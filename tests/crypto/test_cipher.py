"""What is promised of every sealer and opener, whatever is inside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import pytest

from trio_ssh.crypto import defaults
from trio_ssh.crypto.cipher import CIPHERS, NullOpener, NullSealer, Opener, Sealer
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

Keyed = Callable[[], tuple[Sealer, Opener]]

SEQUENCES: Final = (0, 1, 2**31, 2**32 - 1, 0)
PAYLOAD_SIZES: Final = (1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 255, 256, 1000, 32768, 262_000)


def keyed(cipher: str, mac: str | None, first: int = 1) -> Keyed:
    """Make what makes a pair under one set of keys, which begin with the byte `first`."""
    suite = CIPHERS[cipher]
    algorithm = None if mac is None else MACS[mac]

    def new() -> tuple[Sealer, Opener]:
        key = bytes(range(first, first + suite.key_size))
        iv = bytes(range(101, 101 + suite.iv_size))
        mac_key = b"" if algorithm is None else bytes(range(first + 50, first + 50 + algorithm.key_size))
        return suite.new_sealer(key, iv, algorithm, mac_key), suite.new_opener(key, iv, algorithm, mac_key)

    return new


def pairs() -> list[tuple[str, str | None]]:
    aead: list[tuple[str, str | None]] = [(name, None) for name in CIPHERS.names() if CIPHERS[name].is_aead]
    others = [name for name in CIPHERS.names() if not CIPHERS[name].is_aead]
    return aead + list(itertools.product(others, MACS.names()))


PROTECTING: Final = [
    pytest.param(keyed(cipher, mac), id=cipher if mac is None else f"{cipher}+{mac}") for cipher, mac in pairs()
]
ALL: Final = [pytest.param(lambda: (NullSealer(), NullOpener()), id="nothing"), *PROTECTING]


def packet(sealer: Sealer, payload: bytes) -> bytes:
    """Pad as RFC 4253 s6 says, with padding that shows."""
    counted = 1 + len(payload) + (4 if sealer.pads_length else 0)
    padding = 4 + -(counted + 4) % sealer.block_size
    body = bytes((padding,)) + payload + b"\xee" * padding
    return len(body).to_bytes(4, "big") + body


def seal(sealer: Sealer, sequence: int, plain: bytes) -> bytearray:
    out = bytearray(b"\xa5" * (len(plain) + sealer.tag_size))
    sealer.seal(sequence, memoryview(plain), memoryview(out))
    return out


def unseal(opener: Opener, sequence: int, sealed: bytes | bytearray) -> bytes:
    data = memoryview(sealed).toreadonly()
    length = opener.open_length(sequence, data[: opener.header_size])
    assert len(data) == 4 + length + opener.tag_size
    return opener.open(sequence, data, length)


def opened_despite(opener: Opener, sequence: int, sealed: bytes | bytearray, length: int) -> bytes:
    """Open with the packet's true length, as if a reader had found nothing wrong with the told one."""
    data = memoryview(sealed).toreadonly()
    opener.open_length(sequence, data[: opener.header_size])
    return opener.open(sequence, data, length)


@pytest.mark.parametrize("new", ALL)
def test_what_was_sealed_opens_packet_after_packet(new: Keyed) -> None:
    sealer, opener = new()
    for number, size in enumerate(PAYLOAD_SIZES):
        plain = packet(sealer, bytes((size + at) & 0xFF for at in range(size)))
        assert unseal(opener, number, seal(sealer, number, plain)) == plain[4:]


@pytest.mark.parametrize("new", ALL)
def test_sequence_numbers_may_be_any_and_wrap(new: Keyed) -> None:
    sealer, opener = new()
    plain = packet(sealer, b"same bytes")
    for sequence in SEQUENCES:
        assert unseal(opener, sequence, seal(sealer, sequence, plain)) == plain[4:]


@pytest.mark.parametrize("new", ALL)
def test_sealer_and_opener_agree_on_their_layout(new: Keyed) -> None:
    sealer, opener = new()
    assert (sealer.block_size, sealer.tag_size, sealer.pads_length) == (
        opener.block_size,
        opener.tag_size,
        opener.pads_length,
    )
    assert sealer.block_size >= 8
    assert opener.header_size in {4, opener.block_size}


@pytest.mark.parametrize("new", ALL)
def test_a_length_that_is_said_to_be_clear_stands_in_the_first_four_bytes(new: Keyed) -> None:
    sealer, opener = new()
    plain = packet(sealer, b"how long is this")
    sealed = seal(sealer, 3, plain)
    assert opener.has_clear_length == (sealed[:4] == plain[:4])


@pytest.mark.parametrize("new", ALL)
def test_what_was_opened_outlives_the_reader_s_buffer(new: Keyed) -> None:
    sealer, opener = new()
    plain = packet(sealer, b"to be kept")
    sealed = seal(sealer, 5, plain)
    opened = unseal(opener, 5, sealed)
    sealed[:] = bytes(len(sealed))
    assert opened == plain[4:]
    assert type(opened) is bytes


@pytest.mark.parametrize("new", ALL)
def test_a_packet_in_the_middle_of_the_outbox_touches_nothing_else(new: Keyed) -> None:
    sealer, opener = new()
    plain = packet(sealer, b"in the middle")
    outbox = bytearray(b"\x77" * 300)
    size = len(plain) + sealer.tag_size
    sealer.seal(9, memoryview(plain).toreadonly(), memoryview(outbox)[100 : 100 + size])
    assert outbox[:100] == b"\x77" * 100
    assert outbox[100 + size :] == b"\x77" * (200 - size)
    assert unseal(opener, 9, bytes(outbox[100 : 100 + size])) == plain[4:]


@pytest.mark.parametrize("new", PROTECTING)
def test_a_flipped_bit_anywhere_is_a_mac_error(new: Keyed) -> None:
    sealer, _ = new()
    plain = packet(sealer, b"transfer 100")
    sealed = seal(sealer, 3, plain)
    for at, bit in itertools.product(range(len(sealed)), (0x01, 0x80)):
        _, opener = new()
        sealed[at] ^= bit
        with pytest.raises(RemoteProtocolError) as caught:
            opened_despite(opener, 3, sealed, len(plain) - 4)
        assert caught.value.reason is DisconnectReason.MAC_ERROR
        assert caught.value.__cause__ is None
        sealed[at] ^= bit
    _, opener = new()
    assert unseal(opener, 3, sealed) == plain[4:]


@pytest.mark.parametrize("new", PROTECTING)
def test_neither_a_replayed_nor_a_skipped_packet_opens(new: Keyed) -> None:
    sealer, opener = new()
    plain = packet(sealer, b"once only")
    first, second, third = (seal(sealer, number, plain) for number in range(3))
    assert unseal(opener, 0, first) == plain[4:]
    with pytest.raises(RemoteProtocolError):
        opened_despite(opener, 1, first, len(plain) - 4)

    sealer, opener = new()
    assert unseal(opener, 0, first) == plain[4:]
    with pytest.raises(RemoteProtocolError):
        opened_despite(opener, 1, third, len(plain) - 4)

    _, opener = new()
    assert [unseal(opener, n, sealed) for n, sealed in enumerate((first, second, third))] == [plain[4:]] * 3


@pytest.mark.parametrize(("cipher", "mac"), [pair for pair in pairs() if not pair[0].endswith("gcm@openssh.com")])
def test_a_wrong_sequence_number_is_a_mac_error(cipher: str, mac: str | None) -> None:
    sealer, opener = keyed(cipher, mac)()
    plain = packet(sealer, b"counted")
    sealed = seal(sealer, 7, plain)
    with pytest.raises(RemoteProtocolError) as caught:
        opened_despite(opener, 8, sealed, len(plain) - 4)
    assert caught.value.reason is DisconnectReason.MAC_ERROR


@pytest.mark.parametrize("name", [name for name in CIPHERS.names() if name.endswith("gcm@openssh.com")])
def test_gcm_counts_packets_itself_through_a_rekey_s_reset_of_sequence_numbers(name: str) -> None:
    sealer, opener = keyed(name, None)()
    plain = packet(sealer, b"uncounted")
    assert unseal(opener, 1000, seal(sealer, 7, plain)) == plain[4:]


@pytest.mark.parametrize(("cipher", "mac"), pairs())
def test_other_keys_do_not_open_it(cipher: str, mac: str | None) -> None:
    sealer, _ = keyed(cipher, mac)()
    _, opener = keyed(cipher, mac, first=2)()
    plain = packet(sealer, b"for another")
    with pytest.raises(RemoteProtocolError) as caught:
        opened_despite(opener, 0, seal(sealer, 0, plain), len(plain) - 4)
    assert caught.value.reason is DisconnectReason.MAC_ERROR


@pytest.mark.parametrize("new", PROTECTING)
def test_equal_packets_look_different(new: Keyed) -> None:
    sealer, _ = new()
    plain = packet(sealer, bytes(64))
    sealed = {bytes(seal(sealer, number, plain)[4:]) for number in range(8)}
    assert len(sealed) == 8


@pytest.mark.parametrize("new", ALL)
def test_the_length_is_told_as_it_was_sent_however_absurd(new: Keyed) -> None:
    for length in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        sealer, opener = new()
        sealed = seal(sealer, 11, length.to_bytes(4, "big") + bytes(28 if sealer.pads_length else 32))
        assert opener.open_length(11, memoryview(sealed)[: opener.header_size]) == length


@pytest.mark.parametrize(
    ("name", "key_size", "iv_size", "is_aead"),
    [
        ("aes128-gcm@openssh.com", 16, 12, True),
        ("aes256-gcm@openssh.com", 32, 12, True),
        ("chacha20-poly1305@openssh.com", 64, 0, True),
        ("aes128-ctr", 16, 16, False),
        ("aes192-ctr", 24, 16, False),
        ("aes256-ctr", 32, 16, False),
        ("aes128-cbc", 16, 16, False),
        ("aes192-cbc", 24, 16, False),
        ("aes256-cbc", 32, 16, False),
        ("3des-cbc", 24, 8, False),
    ],
)
def test_the_sizes_of_keys(name: str, key_size: int, iv_size: int, is_aead: bool) -> None:
    suite = CIPHERS[name]
    assert (suite.name, suite.key_size, suite.iv_size, suite.is_aead) == (name, key_size, iv_size, is_aead)


def test_every_cipher_that_exists_is_offered_by_some_profile() -> None:
    legacy = defaults.PROFILES["legacy"].client
    assert set(legacy.ciphers) == set(CIPHERS.names())
    assert set(legacy.macs) == set(MACS.names())


@pytest.mark.parametrize("new", ALL)
def test_no_key_is_seen_in_a_repr(new: Keyed) -> None:
    for one in new():
        assert repr(one).startswith(f"<{type(one).__module__}.{type(one).__name__} object")


def test_nothing_is_what_protects_the_first_packets() -> None:
    plain = packet(NullSealer(), b"in the clear")
    assert seal(NullSealer(), 0, plain) == plain
    assert NullOpener().open(0, memoryview(plain), len(plain) - 4) == plain[4:]


@pytest.mark.parametrize("name", ["aes128-ctr", "aes128-cbc", "3des-cbc"])
def test_a_cipher_that_needs_a_mac_is_refused_without(name: str) -> None:
    suite = CIPHERS[name]
    with pytest.raises(AssertionError, match="protects nothing"):
        suite.new_sealer(bytes(suite.key_size), bytes(suite.iv_size), None, b"")
    with pytest.raises(AssertionError, match="protects nothing"):
        suite.new_opener(bytes(suite.key_size), bytes(suite.iv_size), None, b"")
