"""AES and triple DES in CBC mode beside a MAC: RFC 4253 s6.3, for peers that know nothing else.

Enabled where somebody asks for it, and never by itself.  Without encrypt-then-mac, the length of a packet is
known as soon as its first block is decrypted and long before anything vouches for it: a peer in the middle who
learns what became of the length learns the first bytes of any block of the plaintext (CVE-2008-5161).  So those
openers say that their length must not show; the reader then treats a bad length as a long packet with a bad tag.

Each packet's vector is the last block of the packet before, which one in the middle has seen.  Against what
follows from that, there is nothing but another cipher.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from trio_ssh.crypto.cipher import CIPHERS, CipherSuite, OneByOne, Opener, Sealer, bad_tag
from trio_ssh.crypto.mac import MacAlgorithm

_unpack_uint32: Final = struct.Struct(">I").unpack_from


class _Sealer(OneByOne):
    """One direction, sealing; the context goes on from packet to packet, which chains them."""

    __slots__ = ("_encrypt", "_tag", "block_size", "tag_size")

    def __init__(self, algorithm: BlockCipherAlgorithm, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        self._encrypt = Cipher(algorithm, CBC(iv)).encryptor().update
        self._tag = mac.new(mac_key).tag
        self.block_size: int = len(iv)
        self.tag_size: int = mac.tag_size


class _Opener:
    """One direction, opening."""

    __slots__ = ("_decrypt", "_tag", "block_size", "header_size", "tag_size")

    def __init__(self, algorithm: BlockCipherAlgorithm, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        self._decrypt = Cipher(algorithm, CBC(iv)).decryptor().update
        self._tag = mac.new(mac_key).tag
        self.block_size: int = len(iv)
        self.header_size: int = 4
        self.tag_size: int = mac.tag_size


class EncryptThenMacSealer(_Sealer):
    """One direction's CBC, authenticated as it is sent."""

    __slots__ = ()
    pads_length = False

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Encrypt behind the length, and append the tag of both."""
        end = len(plain)
        out[:4] = plain[:4]
        out[4:end] = self._encrypt(plain[4:])
        out[end:] = self._tag(sequence, out[:end])


class EncryptThenMacOpener(_Opener):
    """One direction's CBC, authenticated as it is sent."""

    __slots__ = ()
    pads_length = False
    has_clear_length = True
    hides_length = False

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


class EncryptAndMacSealer(_Sealer):
    """One direction's CBC, authenticated as it was before encryption."""

    __slots__ = ()
    pads_length = True

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Encrypt everything, and append the tag of the plaintext."""
        end = len(plain)
        out[:end] = self._encrypt(plain)
        out[end:] = self._tag(sequence, plain)


class EncryptAndMacOpener(_Opener):
    """One direction's CBC, authenticated as it was before encryption."""

    __slots__ = ("_first", "_told")
    pads_length = True
    has_clear_length = False
    hides_length = True

    def __init__(self, algorithm: BlockCipherAlgorithm, iv: bytes, mac: MacAlgorithm, mac_key: bytes) -> None:
        super().__init__(algorithm, iv, mac, mac_key)
        self.header_size: int = len(iv)
        self._first = b""
        self._told = -1

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Decrypt the first block and keep it: `open` goes on behind it."""
        self._first = first = self._decrypt(data[: self.block_size])
        self._told = _unpack_uint32(first)[0]
        return self._told

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Decrypt the other blocks, and authenticate the plaintext; with another length than was told, in vain."""
        first = self._first
        end = 4 + length
        rest = self._decrypt(data[self.block_size : end])
        is_authentic = compare_digest(self._tag(sequence, first, rest), data[end:])
        if not is_authentic or length != self._told:
            raise bad_tag()
        return first[4:] + rest


def _triple_des(key: bytes) -> BlockCipherAlgorithm:
    # Imported where somebody enables it: the library keeps it among what it means to remove.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES  # noqa: PLC0415

    return TripleDES(key)


def _suite(
    name: str, key_size: int, block_size: int, algorithm: Callable[[bytes], BlockCipherAlgorithm]
) -> CipherSuite:
    def new_sealer(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> Sealer:
        assert mac is not None, "CBC protects nothing without a MAC"
        return (EncryptThenMacSealer if mac.is_etm else EncryptAndMacSealer)(algorithm(key), iv, mac, mac_key)

    def new_opener(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> Opener:
        assert mac is not None, "CBC protects nothing without a MAC"
        return (EncryptThenMacOpener if mac.is_etm else EncryptAndMacOpener)(algorithm(key), iv, mac, mac_key)

    return CipherSuite(name, key_size, block_size, False, new_sealer, new_opener)


for _made in (
    _suite("aes128-cbc", 16, 16, AES),
    _suite("aes192-cbc", 24, 16, AES),
    _suite("aes256-cbc", 32, 16, AES),
    _suite("3des-cbc", 24, 8, _triple_des),
):
    CIPHERS.register(_made.name, _made)
