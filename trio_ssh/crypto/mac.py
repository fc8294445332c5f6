"""Message authentication codes: RFC 4253 s6.4, RFC 6668, and OpenSSH's encrypt-then-mac variants.

A MAC covers the packet's sequence number and its bytes: those of the plaintext in RFC 4253, those that are
sent where the name ends in ``-etm@openssh.com``.  Which of them to feed it, and comparing in constant time,
is the cipher's part.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Protocol

import attrs
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

from trio_ssh.crypto.registry import Registry

_pack_uint32: Final = struct.Struct(">I").pack


class Mac(Protocol):
    """One direction's MAC under one key."""

    def tag(self, sequence: int, *parts: bytes | memoryview) -> bytes:
        """Return the whole tag of `sequence`, as a uint32, and the joined `parts`."""
        ...


@attrs.frozen
class MacAlgorithm:
    """A MAC by name.

    Attributes:
        name: on the wire.
        key_size: bytes of a key.
        tag_size: bytes of a tag.
        is_etm: the tag covers what is sent, not what was meant; a packet's length is then sent in the clear.
        new: from a key of `key_size` bytes to a `Mac`.
    """

    name: str
    key_size: int
    tag_size: int
    is_etm: bool
    new: Callable[[bytes], Mac]


class Hmac:
    """RFC 2104, keyed once: a packet takes a copy, which spares two compressions of the hash."""

    __slots__ = ("_keyed_copy",)

    def __init__(self, key: bytes, algorithm: HashAlgorithm) -> None:
        self._keyed_copy = HMAC(key, algorithm).copy

    def tag(self, sequence: int, *parts: bytes | memoryview) -> bytes:
        """Return the HMAC of `sequence`, as a uint32, and the joined `parts`."""
        context = self._keyed_copy()
        update = context.update
        update(_pack_uint32(sequence))
        for part in parts:
            update(part)
        return context.finalize()


class TruncatedHmac(Hmac):
    """As `Hmac`, of which 96 bits are sent."""

    __slots__ = ()

    def tag(self, sequence: int, *parts: bytes | memoryview) -> bytes:
        """Return the first 12 bytes of the HMAC."""
        return super().tag(sequence, *parts)[:12]


def _hmac_sha1(key: bytes) -> Hmac:
    return Hmac(key, SHA1())


def _hmac_sha1_96(key: bytes) -> Hmac:
    return TruncatedHmac(key, SHA1())


def _hmac_sha2_256(key: bytes) -> Hmac:
    return Hmac(key, SHA256())


def _hmac_sha2_512(key: bytes) -> Hmac:
    return Hmac(key, SHA512())


MACS: Final[Registry[MacAlgorithm]] = Registry("MAC")

for _algorithm in (
    MacAlgorithm("hmac-sha2-256-etm@openssh.com", 32, 32, True, _hmac_sha2_256),
    MacAlgorithm("hmac-sha2-512-etm@openssh.com", 64, 64, True, _hmac_sha2_512),
    MacAlgorithm("hmac-sha2-256", 32, 32, False, _hmac_sha2_256),
    MacAlgorithm("hmac-sha2-512", 64, 64, False, _hmac_sha2_512),
    MacAlgorithm("hmac-sha1-etm@openssh.com", 20, 20, True, _hmac_sha1),
    MacAlgorithm("hmac-sha1", 20, 20, False, _hmac_sha1),
    MacAlgorithm("hmac-sha1-96", 20, 12, False, _hmac_sha1_96),
):
    MACS.register(_algorithm.name, _algorithm)
