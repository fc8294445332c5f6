"""AES-CTR beside a MAC: RFC 4344 s4, and the two orders in which a MAC is applied.

Encrypt-and-mac (RFC 4253 s6.4): the whole packet is encrypted, its length included, and the tag covers the
plaintext.
Encrypt-then-mac (the ``-etm@openssh.com`` MACs): the length is sent in the clear, and the tag covers what is
sent.

The counter runs on from packet to packet, so one context serves a direction until its keys change.
"""

from __future__ import annotations

import struct
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from trio_ssh.crypto.cipher import CIPHERS, CipherSuite, OneByOne, Opener, Sealer, bad_tag
from trio_ssh.crypto.mac import MacAlgorithm

_unpack_uint32: Final = struct.Struct(">I").unpack_from

_BLOCK_SIZE: Final = 16


def _context(key: bytes, iv: bytes) -> CipherContext:
    return Cipher(AES(key), CTR(iv)).encryptor()  # in counter mode decrypting is encrypting


class EncryptThenMacSealer(OneByOne):
    """One direction's AES-CTR, authenticated as it is sent."""

    __slots__ = ("_encrypt_into", "_tag", "tag_size")
    block_size = _BLOCK_SIZE
    pads_length = False

    def __init__(self, key: bytes, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        self._encrypt_into = _context(key, iv).update_into
        self._tag = mac.new(mac_key).tag
        self.tag_size: int = mac.tag_size

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Encrypt behind the length, and append the tag of both."""
        end = len(plain)
        out[:4] = plain[:4]
        self._encrypt_into(plain[4:], out[4:])
        out[end:] = self._tag(sequence, out[:end])


class EncryptThenMacOpener:
    """One direction's AES-CTR, authenticated as it is sent."""

    __slots__ = ("_decrypt", "_tag", "tag_size")
    block_size = _BLOCK_SIZE
    pads_length = False
    header_size = 4
    has_clear_length = True
    hides_length = False

    def __init__(self, key: bytes, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        self._decrypt = _context(key, iv).update
        self._tag = mac.new(mac_key).tag
        self.tag_size: int = mac.tag_size

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Read the length that is sent in the clear; a lie in it is found out with the tag."""
        length: int = _unpack_uint32(data)[0]
        return length

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Authenticate what was sent, and only then decrypt it."""
        end = 4 + length
        if not compare_digest(self._tag(sequence, data[:end]), data[end:]):
            raise bad_tag()
        return self._decrypt(data[4:end])


class EncryptAndMacSealer(OneByOne):
    """One direction's AES-CTR, authenticated as it was before encryption."""

    __slots__ = ("_encrypt_into", "_tag", "tag_size")
    block_size = _BLOCK_SIZE
    pads_length = True

    def __init__(self, key: bytes, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        self._encrypt_into = _context(key, iv).update_into
        self._tag = mac.new(mac_key).tag
        self.tag_size: int = mac.tag_size

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Encrypt everything, and append the tag of the plaintext."""
        self._encrypt_into(plain, out)
        out[len(plain) :] = self._tag(sequence, plain)


class EncryptAndMacOpener:
    """One direction's AES-CTR, authenticated as it was before encryption."""

    __slots__ = ("_decrypt", "_first", "_tag", "tag_size")
    block_size = _BLOCK_SIZE
    pads_length = True
    header_size = _BLOCK_SIZE
    has_clear_length = False
    hides_length = False

    def __init__(self, key: bytes, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        self._decrypt = _context(key, iv).update
        self._tag = mac.new(mac_key).tag
        self.tag_size: int = mac.tag_size
        self._first = b""

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Decrypt the first block and keep it: the counter moves on, and `open` goes on behind it."""
        self._first = first = self._decrypt(data[:_BLOCK_SIZE])
        length: int = _unpack_uint32(first)[0]
        return length

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Decrypt the other blocks, and authenticate the plaintext."""
        first = self._first
        end = 4 + length
        rest = self._decrypt(data[_BLOCK_SIZE:end])
        if not compare_digest(self._tag(sequence, first, rest), data[end:]):
            raise bad_tag()
        return first[4:] + rest


def _new_sealer(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> Sealer:
    assert mac is not None, "AES-CTR protects nothing without a MAC"
    return (EncryptThenMacSealer if mac.is_etm else EncryptAndMacSealer)(key, iv, mac, mac_key)


def _new_opener(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> Opener:
    assert mac is not None, "AES-CTR protects nothing without a MAC"
    return (EncryptThenMacOpener if mac.is_etm else EncryptAndMacOpener)(key, iv, mac, mac_key)


for _suite in (
    CipherSuite("aes128-ctr", 16, _BLOCK_SIZE, False, _new_sealer, _new_opener),
    CipherSuite("aes192-ctr", 24, _BLOCK_SIZE, False, _new_sealer, _new_opener),
    CipherSuite("aes256-ctr", 32, _BLOCK_SIZE, False, _new_sealer, _new_opener),
):
    CIPHERS.register(_suite.name, _suite)
