"""AES-GCM against an implementation written from its specification, and itself held to NIST's vectors."""

from __future__ import annotations

from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from trio_ssh.crypto.cipher import CIPHERS

REDUCTION: Final = 0xE1 << 120


def multiply(x: int, y: int) -> int:
    """NIST SP 800-38D s6.3: the product in GF(2^128)."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (REDUCTION if y & 1 else 0)
    return product


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def reference_gcm(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """NIST SP 800-38D s7.1: ciphertext and tag, for a nonce of 12 bytes."""
    block = Cipher(AES(key), ECB()).encryptor()
    stream = b"".join(
        block.update(nonce + counter.to_bytes(4, "big")) for counter in range(1, 2 + -(-len(plain) // 16))
    )
    sealed = bytes(a ^ b for a, b in zip(plain, stream[16:], strict=False))
    lengths = (8 * len(associated)).to_bytes(8, "big") + (8 * len(plain)).to_bytes(8, "big")
    hashed = padded(associated) + padded(sealed) + lengths
    subkey = int.from_bytes(block.update(bytes(16)), "big")
    y = 0
    for at in range(0, len(hashed), 16):
        y = multiply(y ^ int.from_bytes(hashed[at : at + 16], "big"), subkey)
    tag = bytes(a ^ b for a, b in zip(y.to_bytes(16, "big"), stream[:16], strict=True))
    return sealed + tag


# Test cases 4 and 16 of the GCM submission to NIST: AES-128 and AES-256, with associated data.
GCM_PLAIN: Final = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
GCM_KEY: Final = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
GCM_NONCE: Final = bytes.fromhex("cafebabefacedbaddecaf888")
GCM_ASSOCIATED: Final = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")


@pytest.mark.parametrize(
    ("key", "sealed"),
    [
        (
            GCM_KEY,
            (
                "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
                "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
                "5bc94fbc3221a5db94fae95ae7121a47"
            ),
        ),
        (
            GCM_KEY + GCM_KEY,
            (
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
                "76fc6ece0f4e1768cddf8853bb2d551b"
            ),
        ),
    ],
)
def test_the_reference_is_gcm(key: bytes, sealed: str) -> None:
    assert reference_gcm(key, GCM_NONCE, GCM_PLAIN, GCM_ASSOCIATED).hex() == sealed


@pytest.mark.parametrize("name", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"])
@pytest.mark.parametrize("first", [0, 1, 0xFFFFFFFF, 2**63, 2**64 - 2])
def test_each_packet_is_gcm_under_the_next_nonce(name: str, first: int) -> None:
    """RFC 5647 s7.1: four bytes stay, eight count, modulo 2**64."""
    suite = CIPHERS[name]
    key = bytes(range(200, 200 + suite.key_size))
    iv = b"stay" + first.to_bytes(8, "big")
    sealer = suite.new_sealer(key, iv, None, b"")
    opener = suite.new_opener(key, iv, None, b"")
    for number in range(4):
        plain = (32).to_bytes(4, "big") + bytes((number,)) * 32
        out = bytearray(len(plain) + sealer.tag_size)
        sealer.seal(99, memoryview(plain), memoryview(out))
        nonce = b"stay" + ((first + number) % 2**64).to_bytes(8, "big")
        assert out == plain[:4] + reference_gcm(key, nonce, plain[4:], plain[:4])
        assert opener.open_length(99, memoryview(out)) == 32
        assert opener.open(99, memoryview(out), 32) == plain[4:]


def test_a_nonce_is_spent_even_if_sealing_fails() -> None:
    suite = CIPHERS["aes128-gcm@openssh.com"]
    plain = memoryview((16).to_bytes(4, "big") + bytes(16))
    sealer = suite.new_sealer(bytes(16), bytes(12), None, b"")
    with pytest.raises(ValueError, match="buf"):
        sealer.seal(0, plain, memoryview(bytearray(30)))
    out = bytearray(36)
    sealer.seal(0, plain, memoryview(out))
    assert out[4:] == reference_gcm(bytes(16), bytes(11) + b"\x01", bytes(16), plain[:4].tobytes())
