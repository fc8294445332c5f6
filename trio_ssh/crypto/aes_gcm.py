"""AES-GCM: RFC 5647 under OpenSSH's names, which negotiate it as a cipher that needs no MAC.

The length is sent in the clear and authenticated as associated data.  The nonce is the derived vector, whose
last eight bytes count packets; sequence numbers don't enter into it.
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trio_ssh.crypto.cipher import CIPHERS, CipherSuite, bad_tag
from trio_ssh.crypto.mac import MacAlgorithm

_UINT64: Final = struct.Struct(">Q")
_pack_counter_into: Final = _UINT64.pack_into
_unpack_uint32: Final = struct.Struct(">I").unpack_from

_COUNTER_OFFSET: Final = 4
_COUNTER_MASK: Final = 2**64 - 1


class AesGcmSealer:
    """One direction's AES-GCM."""

    __slots__ = ("_counter", "_encrypt_into", "_nonce")
    block_size = 16
    tag_size = 16
    pads_length = False

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._encrypt_into = AESGCM(key).encrypt_into
        self._nonce = bytearray(iv)
        self._counter: int = _UINT64.unpack_from(iv, _COUNTER_OFFSET)[0]

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Encrypt behind the length, and append the tag of both."""
        nonce = self._nonce
        counter = self._counter
        # Counted on before anything can fail: a nonce that was used twice would give the authentication key
        # away.
        self._counter = (counter + 1) & _COUNTER_MASK
        _pack_counter_into(nonce, _COUNTER_OFFSET, counter)
        out[:4] = length = plain[:4]
        self._encrypt_into(nonce, plain[4:], length, out[4:])

    def seal_run(self, sequence: int, plain: memoryview, gap: memoryview, data: memoryview, out: memoryview) -> None:
        """As `seal`, of packet after packet.  Measured: half a microsecond less for each, of the five for 32 KiB."""
        nonce, counter, encrypt_into = self._nonce, self._counter, self._encrypt_into
        length, body = plain[:4], plain[4:]
        size, step = len(gap), len(plain) + self.tag_size
        start = 0
        for taken in range(0, len(data), size):
            gap[:] = data[taken : taken + size]
            _pack_counter_into(nonce, _COUNTER_OFFSET, counter)
            self._counter = counter = (counter + 1) & _COUNTER_MASK  # before anything can fail, as above
            out[start : start + 4] = length
            encrypt_into(nonce, body, length, out[start + 4 : start + step])
            start += step


class AesGcmOpener:
    """One direction's AES-GCM."""

    __slots__ = ("_counter", "_decrypt", "_nonce")
    block_size = 16
    tag_size = 16
    pads_length = False
    header_size = 4
    has_clear_length = True
    hides_length = False

    def __init__(self, key: bytes, iv: bytes) -> None:
        # Measured: `decrypt` of 32 KiB costs 3.7 us, `decrypt_into` a kept buffer and a copy out of it 4.6
        # us.
        self._decrypt = AESGCM(key).decrypt
        self._nonce = bytearray(iv)
        self._counter: int = _UINT64.unpack_from(iv, _COUNTER_OFFSET)[0]

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Read the length that is sent in the clear; a lie in it is found out with the tag."""
        length: int = _unpack_uint32(data)[0]
        return length

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Authenticate the length and what is behind it, and decrypt the latter."""
        nonce = self._nonce
        counter = self._counter
        self._counter = (counter + 1) & _COUNTER_MASK
        _pack_counter_into(nonce, _COUNTER_OFFSET, counter)
        try:
            return self._decrypt(nonce, data[4:], data[:4])
        except InvalidTag:
            raise bad_tag() from None


def _new_sealer(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> AesGcmSealer:
    return AesGcmSealer(key, iv)


def _new_opener(key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> AesGcmOpener:
    return AesGcmOpener(key, iv)


for _suite in (
    CipherSuite("aes128-gcm@openssh.com", 16, 12, True, _new_sealer, _new_opener),
    CipherSuite("aes256-gcm@openssh.com", 32, 12, True, _new_sealer, _new_opener),
):
    CIPHERS.register(_suite.name, _suite)
