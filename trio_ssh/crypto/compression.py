"""Compression of payloads: RFC 4253 s6.2, and OpenSSH's ``zlib@openssh.com``.

One stream runs through all packets of a direction until keys change; each packet ends with a partial flush,
as OpenSSH's does.  Plain ``zlib``, which inflates what an unauthenticated peer sends, is not implemented.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, Protocol

import attrs

from trio_ssh.crypto.registry import Registry
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason


class Compressor(Protocol):
    """One direction's outbound stream."""

    def compress(self, payload: bytes | memoryview) -> bytes:
        """Return what inflates to `payload`, complete up to its last byte."""
        ...


class Decompressor(Protocol):
    """One direction's inbound stream."""

    def decompress(self, payload: bytes | memoryview, limit: int) -> bytes:
        """Inflate one packet's payload.

        Args:
            payload: as it was sent.
            limit: bytes that it may inflate to, at least 1; no more are ever allocated.

        Raises:
            RemoteProtocolError: it is malformed or inflates to more, with the reason COMPRESSION_ERROR.
        """
        ...


@attrs.frozen
class CompressionAlgorithm:
    """A compression by name.  Each begins when the user has been authenticated, and not with the keys.

    Attributes:
        name: on the wire.
        new_compressor: makes a `Compressor`; None where payloads stay as they are.
        new_decompressor: makes a `Decompressor`; None where payloads stay as they are.
    """

    name: str
    new_compressor: Callable[[], Compressor | None]
    new_decompressor: Callable[[], Decompressor | None]


class ZlibCompressor:
    """One direction's outbound zlib stream."""

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = zlib.compressobj()

    def compress(self, payload: bytes | memoryview) -> bytes:
        """Return what inflates to `payload`, complete up to its last byte."""
        stream = self._stream
        return stream.compress(payload) + stream.flush(zlib.Z_PARTIAL_FLUSH)


class ZlibDecompressor:
    """One direction's inbound zlib stream."""

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def decompress(self, payload: bytes | memoryview, limit: int) -> bytes:
        """Inflate one packet's payload to `limit` bytes at most; see `Decompressor.decompress`."""
        assert limit > 0, "to zlib, a limit of 0 is none"
        stream = self._stream
        try:
            inflated = stream.decompress(payload, limit)
            # At the limit zlib stops, with the rest of its input or of its output to come.  One byte more
            # tells both: the end of a flush gives none, and a bomb gives it.
            exceeds = len(inflated) == limit and bool(stream.decompress(stream.unconsumed_tail, 1))
        except zlib.error as error:
            raise _malformed(f"a compressed payload is malformed: {error}") from None
        if exceeds:
            raise _malformed(f"a compressed payload inflates to more than {limit} bytes")
        if stream.eof:
            # What follows an ended stream would be kept by zlib, unread and without bound.
            raise _malformed("a compressed stream ends inside a connection")
        return inflated


def _malformed(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, DisconnectReason.COMPRESSION_ERROR)


def _nothing() -> None:
    return None


COMPRESSIONS: Final[Registry[CompressionAlgorithm]] = Registry("compression")

for _algorithm in (
    CompressionAlgorithm("none", _nothing, _nothing),
    CompressionAlgorithm("zlib@openssh.com", ZlibCompressor, ZlibDecompressor),
):
    COMPRESSIONS.register(_algorithm.name, _algorithm)
