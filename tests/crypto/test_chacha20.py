"""chacha20-poly1305@openssh.com against an implementation written from OpenSSH's PROTOCOL.chacha20poly1305.

The block function below is RFC 8439's, with the counter and nonce of 64 bits each that OpenSSH uses.
"""

from __future__ import annotations

import struct
from typing import Final

import pytest

from trio_ssh.crypto.cipher import CIPHERS

NAME: Final = "chacha20-poly1305@openssh.com"
MASK: Final = 0xFFFFFFFF
ROUNDS: Final = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def chacha20_block(key: bytes, position: bytes) -> bytes:
    """RFC 8439 s2.3; `position` is the state's last 16 bytes."""
    start = list(struct.unpack("<16I", b"expand 32-byte k" + key + position))
    state = list(start)
    for _ in range(10):
        for a, b, c, d in ROUNDS:
            for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                state[x] = (state[x] + state[y]) & MASK
                mixed = state[z] ^ state[x]
                state[z] = (mixed << turn | mixed >> 32 - turn) & MASK
    return struct.pack("<16I", *((x + y) & MASK for x, y in zip(start, state, strict=True)))


def chacha20(key: bytes, sequence: int, counter: int, data: bytes) -> bytes:
    stream = b"".join(
        chacha20_block(key, struct.pack("<Q", counter + number) + struct.pack(">Q", sequence))
        for number in range(-(-len(data) // 64))
    )
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def poly1305(key: bytes, data: bytes) -> bytes:
    """RFC 8439 s2.5."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    accumulator = 0
    for at in range(0, len(data), 16):
        accumulator = (accumulator + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((accumulator + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def reference_seal(key: bytes, sequence: int, plain: bytes) -> bytes:
    body_key, length_key = key[:32], key[32:]
    sealed = chacha20(length_key, sequence, 0, plain[:4]) + chacha20(body_key, sequence, 1, plain[4:])
    return sealed + poly1305(chacha20(body_key, sequence, 0, bytes(32)), sealed)


def test_the_reference_is_chacha20() -> None:
    """RFC 8439 s2.3.2."""
    position = bytes.fromhex("01000000000000090000004a00000000")
    assert chacha20_block(bytes(range(32)), position).hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_the_reference_is_poly1305() -> None:
    """RFC 8439 s2.5.2."""
    key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    tag = poly1305(key, b"Cryptographic Forum Research Group")
    assert tag.hex() == "a8061dc1305136c6c22b8baf0c0127a9"


@pytest.mark.parametrize("sequence", [0, 1, 255, 2**31, 2**32 - 1])
@pytest.mark.parametrize("length", [8, 16, 56, 64, 72, 1000])
def test_each_packet_is_what_the_specification_makes_of_it(sequence: int, length: int) -> None:
    suite = CIPHERS[NAME]
    key = bytes(range(17, 17 + 64))
    plain = length.to_bytes(4, "big") + bytes(7 * at & 0xFF for at in range(length))
    expected = reference_seal(key, sequence, plain)
    sealer = suite.new_sealer(key, b"", None, b"")
    opener = suite.new_opener(key, b"", None, b"")
    for _ in range(2):  # the contexts are kept: a second packet finds them as the first left them
        out = bytearray(len(plain) + 16)
        sealer.seal(sequence, memoryview(plain), memoryview(out))
        assert out == expected
        assert opener.open_length(sequence, memoryview(out)[:4]) == length
        assert opener.open(sequence, memoryview(out), length) == plain[4:]
