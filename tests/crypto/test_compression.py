from __future__ import annotations

import itertools
import tracemalloc
import zlib
from typing import Final

import pytest

from trio_ssh.crypto import defaults
from trio_ssh.crypto.compression import COMPRESSIONS, Compressor, Decompressor, ZlibDecompressor
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

LIMIT: Final = 256 * 1024


def zlib_pair() -> tuple[Compressor, Decompressor]:
    algorithm = COMPRESSIONS["zlib@openssh.com"]
    compressor, decompressor = algorithm.new_compressor(), algorithm.new_decompressor()
    assert compressor is not None
    assert decompressor is not None
    return compressor, decompressor


def refuses(decompressor: Decompressor, payload: bytes, limit: int = LIMIT) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decompressor.decompress(payload, limit)
    assert caught.value.reason is DisconnectReason.COMPRESSION_ERROR


def test_every_payload_is_complete_when_its_packet_is() -> None:
    compressor, decompressor = zlib_pair()
    for size in (1, 2, 100, 16384, 16385, 32768, 100_000):
        payload = b"\x5e" + bytes(at * at & 0xFF for at in range(size - 1))
        assert decompressor.decompress(compressor.compress(payload), LIMIT) == payload


def test_one_stream_runs_through_all_packets() -> None:
    compressor, decompressor = zlib_pair()
    line = bytes(range(250))
    first, second = compressor.compress(line), compressor.compress(memoryview(line))
    assert len(second) < 20 < len(first)
    assert decompressor.decompress(first, LIMIT) == line
    assert decompressor.decompress(memoryview(second), LIMIT) == line


@pytest.mark.parametrize("flush", [zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_any_peer_s_way_to_flush_is_understood(flush: int, level: int) -> None:
    stream = zlib.compressobj(level)
    decompressor = ZlibDecompressor()
    for size in (1, 257, 32768):
        payload = bytes(size)
        assert decompressor.decompress(stream.compress(payload) + stream.flush(flush), LIMIT) == payload


@pytest.mark.parametrize("flush", [zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH])
@pytest.mark.parametrize("size", [1, 2, 257, 258, 259, 517, 16383, 16384, 16385])
def test_the_limit_may_be_reached_and_not_passed(size: int, flush: int) -> None:
    for filler, limit in itertools.product((b"a", b"abcdefghijk"), (size - 1, size, size + 1)):
        payload = (filler * size)[:size]
        stream = zlib.compressobj()
        decompressor = ZlibDecompressor()
        for _ in range(3):
            packet = stream.compress(payload) + stream.flush(flush)
            if 0 < limit < size:
                refuses(decompressor, packet, limit)
                break
            assert decompressor.decompress(packet, max(limit, size)) == payload


def test_a_bomb_is_refused_before_it_has_grown() -> None:
    stream = zlib.compressobj(9)
    bomb = stream.compress(bytes(64 * 1024 * 1024)) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < LIMIT
    decompressor = ZlibDecompressor()
    tracemalloc.start()
    try:
        refuses(decompressor, bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The result, and once more of it while zlib's chunks are joined; the input's unread rest.
    assert peak < 2 * LIMIT + 2 * len(bomb)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00",
        b"not zlib at all",
        b"\x78\x9c\xff\xff\xff",
        b"\x78\xbb\x00\x00\x00\x00",  # asks for a preset dictionary
    ],
)
def test_what_is_not_zlib_is_refused(payload: bytes) -> None:
    _, decompressor = zlib_pair()
    refuses(decompressor, payload + bytes(40))


def test_a_stream_never_ends() -> None:
    refuses(ZlibDecompressor(), zlib.compress(b"the end"))
    refuses(ZlibDecompressor(), zlib.compress(b"the end") + b"and what would be kept without bound")
    refuses(ZlibDecompressor(), zlib.compress(b"the end"), limit=7)


def test_every_flipped_byte_is_an_error_or_other_data_but_nothing_worse() -> None:
    compressor, _ = zlib_pair()
    packet = bytearray(compressor.compress(b"some text, some more text, and some more text"))
    refused = 0
    for at in range(len(packet)):
        packet[at] ^= 0xFF
        try:
            assert len(ZlibDecompressor().decompress(bytes(packet), 100)) <= 100
        except RemoteProtocolError:
            refused += 1
        packet[at] ^= 0xFF
    assert 0 < refused < len(packet)


def test_none_leaves_payloads_alone() -> None:
    none = COMPRESSIONS["none"]
    assert none.new_compressor() is None
    assert none.new_decompressor() is None


def test_nothing_is_offered_that_inflates_before_authentication() -> None:
    assert "zlib" not in COMPRESSIONS


def test_a_client_prefers_none() -> None:
    assert defaults.COMPRESSIONS == ("none", "zlib@openssh.com")
    assert set(COMPRESSIONS.names()) == set(defaults.COMPRESSIONS)
