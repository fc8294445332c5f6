"""Keys from a shared secret: RFC 4253 s7.2."""

from __future__ import annotations

import hashlib


def derive_key(
    hash_name: str, secret: bytes, exchange_hash: bytes, letter: bytes, session_id: bytes, size: int
) -> bytes:
    """Return one of the keys or vectors that an exchange gives.

    Args:
        hash_name: hashlib's name of the exchange's hash.
        secret: K, encoded as its key agreement says.
        exchange_hash: H of this exchange.
        letter: ``b"A"`` to ``b"F"``, which of the six is wanted.
        session_id: H of the connection's first exchange.
        size: bytes wanted; 0 gives none.

    Source: RFC 4253 s7.2.
    """
    base = hashlib.new(hash_name, secret + exchange_hash)
    block = base.copy()
    block.update(letter + session_id)
    key = block.digest()
    # More than one hash gives: each further block hashes all the blocks before it.
    while len(key) < size:
        block = base.copy()
        block.update(key)
        key += block.digest()
    return key[:size]
