"""``chacha20-poly1305@openssh.com``: OpenSSH's PROTOCOL.chacha20poly1305.

Of 64 bytes of key, the first 32 encrypt the packet and the last 32 its length.  The nonce is the sequence
number.  Block 0 of the packet's key stream is the Poly1305 key, and encryption begins at block 1; the tag
covers what is sent, the length included.  This is not the AEAD of RFC 8439, which pads what it authenticates
and counts in 32 bits.
"""

from __future__ import annotations

import struct
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from trio_ssh.crypto.cipher import CIPHERS, CipherSuite, OneByOne, bad_tag
from trio_ssh.crypto.mac import MacAlgorithm

# The state's last four words: a block counter of 64 bits, little-endian, and the nonce of 64 bits.
_pack_nonce: Final = struct.Struct(">QQ").pack
_unpack_uint32: Final = struct.Struct(">I").unpack
_make_tag: Final = Poly1305.generate_tag

# Encrypting a block of zeros tells its key stream and leaves the context at block 1, which spares a second
# reset.
_BLOCK: Final = bytes(64)
_KEY_SIZE: Final = 32


def _context(key: bytes) -> CipherContext:
    # Measured, at 32 KiB: 21.6 us a packet with fresh contexts, 13.6 us with two that are kept and reset.
    return Cipher(ChaCha20(key, bytes(16)), None).encryptor()


class ChaCha20Sealer(OneByOne):
    """One direction's chacha20-poly1305."""

    __slots__ = ("_body", "_body_into", "_length_into", "_reset_body", "_reset_length")
    block_size = 8
    tag_size = 16
    pads_length = False

    def __init__(self, key: bytes) -> None:
        body = _context(key[:_KEY_SIZE])
        length = _context(key[_KEY_SIZE:])
        self._reset_body = body.reset_nonce
        self._body = body.update
        self._body_into = body.update_into
        self._reset_length = length.reset_nonce
        self._length_into = length.update_into

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Encrypt the length, then what is behind it, and append the tag of both."""
        nonce = _pack_nonce(0, sequence)
        end = len(plain)
        self._reset_length(nonce)
        self._length_into(plain[:4], out)
        self._reset_body(nonce)
        tag_key = self._body(_BLOCK)[:32]
        self._body_into(plain[4:], out[4:])
        out[end:] = _make_tag(tag_key, out[:end])


class ChaCha20Opener:
    """One direction's chacha20-poly1305."""

    __slots__ = ("_body", "_length", "_reset_body", "_reset_length")
    block_size = 8
    tag_size = 16
    pads_length = False
    header_size = 4
    has_clear_length = False
    hides_length = False

    def __init__(self, key: bytes) -> None:
        body = _context(key[:_KEY_SIZE])
        length = _context(key[_KEY_SIZE:])
        self._reset_body = body.reset_nonce
        self._body = body.update
        self._reset_length = length.reset_nonce
        self._length = length.update

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Decrypt the length, which nothing vouches for until the tag is there."""
        self._reset_length(_pack_nonce(0, sequence))
        length: int = _unpack_uint32(self._length(data[:4]))[0]
        return length

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Authenticate what was sent, and only then decrypt it."""
        self._reset_body(_pack_nonce(0, sequence))
        tag_key = self._body(_BLOCK)[:32]
        end = 4 + length
        if not compare_digest(_make_tag(tag_key, data[:end]), data[end:]):
            raise bad_tag()
        return self._body(data[4:end])


def _new_sealer(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> ChaCha20Sealer:
    return ChaCha20Sealer(key)


def _new_opener(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> ChaCha20Opener:
    return ChaCha20Opener(key)


_SUITE: Final = CipherSuite("chacha20-poly1305@openssh.com", 64, 0, True, _new_sealer, _new_opener)
CIPHERS.register(_SUITE.name, _SUITE)
