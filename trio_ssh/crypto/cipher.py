"""What protects one direction of a connection under one set of keys: RFC 4253 s6.

A packet is ``uint32 packet_length | byte padding_length | payload | padding``, and behind it a tag.  Sealers
and openers turn it into what is sent and back.  They refuse to know what a length may be, how much padding
there must be, and when keys change: a length that `Opener.open_length` tells is the peer's claim, which the
reader judges before it waits for so many bytes.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

import attrs

from trio_ssh.crypto.mac import MacAlgorithm
from trio_ssh.crypto.registry import Registry
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

_unpack_uint32: Final = struct.Struct(">I").unpack_from


class Sealer(Protocol):
    """Outbound protection of one direction.

    Attributes:
        block_size: the padded size is a multiple of it; at least 8.
        tag_size: bytes behind the packet.
        pads_length: True: the 4 bytes of the length count towards the multiple (RFC 4253 s6).  False: they
            don't (AEAD, ETM).
    """

    block_size: int
    tag_size: int
    pads_length: bool

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Protect one packet.

        Args:
            sequence: the packet's number, a uint32.
            plain: ``uint32 packet_length | byte padding_length | payload | padding``; read only.
            out: ``len(plain) + tag_size`` bytes, filled completely; never overlaps `plain`.
        """
        ...

    def seal_run(self, sequence: int, plain: memoryview, gap: memoryview, data: memoryview, out: memoryview) -> None:
        """Protect packets that differ in nothing but one stretch of their payloads.

        Args:
            sequence: the first one's number; the others follow it.
            plain: a packet, as `seal` takes it.
            gap: the stretch, a part of `plain`'s memory; it is filled for each packet, and holds the last one's then.
            data: what is in it, one packet's behind the other's: a multiple of ``len(gap)`` bytes.
            out: ``len(plain) + tag_size`` bytes for each, filled completely.
        """
        ...


class Opener(Protocol):
    """Inbound protection of one direction.

    Attributes:
        block_size, tag_size, pads_length: as of a `Sealer`.
        header_size: bytes of a packet that must be there before its length can be told.
        has_clear_length: the length is sent as it is: what `open_length` tells stands in the first four bytes.
        hides_length: nobody may learn what became of a length, or of a tag, before the longest packet is over;
            see ``aes_cbc``.
    """

    block_size: int
    tag_size: int
    pads_length: bool
    header_size: int
    has_clear_length: bool
    hides_length: bool

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Tell the next packet's length; to be asked exactly once per packet.

        Args:
            sequence: the packet's number, a uint32.
            data: the packet from its first byte on, at least `header_size` bytes of it.

        Returns:
            packet_length: any uint32, and not yet authenticated.
        """
        ...

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Authenticate and decrypt the packet whose length was told.

        Args:
            sequence: as given to `open_length`.
            data: the whole packet, ``4 + length + tag_size`` bytes; read only.
            length: what `open_length` told.

        Returns:
            The `length` bytes behind packet_length: padding_length, payload, padding.

        Raises:
            RemoteProtocolError: the tag is not this packet's, with the reason MAC_ERROR.
        """
        ...


class SealerFactory(Protocol):
    """Makes a `Sealer` from keys of the sizes that its suite and MAC name."""

    def __call__(self, key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> Sealer:
        """Return a sealer; `mac` is None, and `mac_key` unused, where the suite is an AEAD."""
        ...


class OneByOne:
    """Seals a run as so many packets: for sealers that know no shorter way."""

    __slots__ = ()

    def seal_run(
        self: Sealer, sequence: int, plain: memoryview, gap: memoryview, data: memoryview, out: memoryview
    ) -> None:
        """See `Sealer`."""
        size, step = len(gap), len(plain) + self.tag_size
        for number in range(len(data) // size):
            gap[:] = data[number * size : (number + 1) * size]
            self.seal((sequence + number) & 0xFFFFFFFF, plain, out[number * step : (number + 1) * step])


class OpenerFactory(Protocol):
    """Makes an `Opener` from keys of the sizes that its suite and MAC name."""

    def __call__(self, key: bytes, iv: bytes, mac: MacAlgorithm | None, mac_key: bytes) -> Opener:
        """Return an opener; `mac` is None, and `mac_key` unused, where the suite is an AEAD."""
        ...


@attrs.frozen
class CipherSuite:
    """A cipher by name.

    Attributes:
        name: on the wire.
        key_size: bytes of a key.
        iv_size: bytes of an initial vector; 0 where there is none.
        is_aead: it authenticates by itself: no MAC is negotiated, and `mac` is None below.
        new_sealer: from ``(key, iv, mac, mac_key)`` to a `Sealer`.
        new_opener: from ``(key, iv, mac, mac_key)`` to an `Opener`.
    """

    name: str
    key_size: int
    iv_size: int
    is_aead: bool
    new_sealer: SealerFactory
    new_opener: OpenerFactory


CIPHERS: Final[Registry[CipherSuite]] = Registry("cipher")


def bad_tag() -> RemoteProtocolError:
    """Return what every opener raises for a packet that is not authentic; no more is told of it."""
    return RemoteProtocolError("a packet's authentication tag is wrong", DisconnectReason.MAC_ERROR)


class NullSealer(OneByOne):
    """No protection, which is all there is before the first NEWKEYS: RFC 4253 s6.3."""

    __slots__ = ()
    block_size = 8
    tag_size = 0
    pads_length = True

    def seal(self, sequence: int, plain: memoryview, out: memoryview) -> None:
        """Copy."""
        out[:] = plain


class NullOpener:
    """No protection, which is all there is before the first NEWKEYS: RFC 4253 s6.3."""

    __slots__ = ()
    block_size = 8
    tag_size = 0
    pads_length = True
    header_size = 4
    has_clear_length = True
    hides_length = False

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Read the length that is sent in the clear."""
        length: int = _unpack_uint32(data)[0]
        return length

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Copy: `data` is the reader's buffer, and soon holds something else."""
        return bytes(data[4:])
