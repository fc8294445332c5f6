from __future__ import annotations

import hashlib
from typing import Final

import pytest

from trio_ssh.crypto.derive import derive_key

SECRET: Final = b"\x00\x00\x00\x03\x00\xff\x01"
EXCHANGE_HASH: Final = bytes(range(32))
SESSION_ID: Final = bytes(range(100, 132))


@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("letter", [b"A", b"B", b"C", b"D", b"E", b"F"])
def test_keys_are_the_hashes_of_rfc_4253(hash_name: str, letter: bytes) -> None:
    def digest(data: bytes) -> bytes:
        return hashlib.new(hash_name, data).digest()

    # RFC 4253 s7.2, as it is written there.
    k1 = digest(SECRET + EXCHANGE_HASH + letter + SESSION_ID)
    k2 = digest(SECRET + EXCHANGE_HASH + k1)
    k3 = digest(SECRET + EXCHANGE_HASH + k1 + k2)
    whole = k1 + k2 + k3
    for size in (0, 1, 12, 16, 32, 33, 64, 65, len(whole)):
        assert derive_key(hash_name, SECRET, EXCHANGE_HASH, letter, SESSION_ID, size) == whole[:size]


def test_a_known_key() -> None:
    """Made with coreutils' sha256sum, of the same bytes."""
    key = derive_key("sha256", SECRET, EXCHANGE_HASH, b"C", SESSION_ID, 64)
    assert key.hex() == (
        "e4af7823a508c4f29ffc828d6b627aabac1a01ee30bdf01be40dfa36bf01bb3f"
        "4a1d811fa9f052d3bab113946a909bfbe175dffb4f914dc800b0ce2e8d7039e6"
    )


def test_in_a_rekey_the_session_id_is_not_the_exchange_hash() -> None:
    first = derive_key("sha256", SECRET, EXCHANGE_HASH, b"A", EXCHANGE_HASH, 32)
    later = derive_key("sha256", SECRET, EXCHANGE_HASH, b"A", SESSION_ID, 32)
    assert first != later
