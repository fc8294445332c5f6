"""SSHFP records: fingerprints of hosts' keys in the DNS.

Who asks the DNS, and whether its answer can be believed, is not known here.

Source: RFC 4255; RFC 6594 (ECDSA, SHA-256), RFC 7479 (Ed25519), RFC 8709 (Ed448).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from typing import Final, Self

import attrs

from trio_ssh.keys.public_key import PublicKey

_ALGORITHMS: Final = {
    "ssh-rsa": 1,
    "ssh-dss": 2,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "ssh-ed25519": 4,
    "ssh-ed448": 6,
}

#: Fingerprint type -> hash.
_HASHES: Final = {1: "sha1", 2: "sha256"}

#: Records of one host that are looked at.
_MOST: Final = 64


@attrs.frozen
class SSHFPRecord:
    """One SSHFP record, as a resolver returns it.

    Attributes:
        algorithm: the number of the key's type; 4 is Ed25519.
        fingerprint_type: 1 for SHA-1, 2 for SHA-256.
        fingerprint: the hash of the key's blob.
    """

    algorithm: int
    fingerprint_type: int
    fingerprint: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a record as zone files and ``dig`` show it: two numbers, and the fingerprint in hex.

        Raises:
            ValueError: it is none.
        """
        try:
            algorithm, fingerprint_type, *digits = text.split()
            return cls(int(algorithm), int(fingerprint_type), bytes.fromhex("".join(digits)))
        except ValueError:
            raise ValueError(f"no SSHFP record: {text[:80]!r}. One is two numbers and hex digits.") from None

    @classmethod
    def from_rdata(cls, rdata: bytes) -> Self:
        """Read a record as it is on the wire of the DNS, RFC 4255 s3.1.

        Raises:
            ValueError: it is cut short.
        """
        if len(rdata) < 3:
            raise ValueError(f"an SSHFP record of {len(rdata)} bytes; the shortest has 3")
        return cls(rdata[0], rdata[1], bytes(rdata[2:]))

    @classmethod
    def of(cls, key: PublicKey) -> tuple[Self, ...]:
        """Return the records that a host with this key publishes, SHA-1 first; none for a type without a number."""
        number = _ALGORITHMS.get(key.key_type)
        if number is None:
            return ()
        return tuple(
            cls(number, kind, hashlib.new(name, key.blob, usedforsecurity=False).digest())
            for kind, name in _HASHES.items()
        )

    def __str__(self) -> str:
        return f"{self.algorithm} {self.fingerprint_type} {self.fingerprint.hex()}"


def match(key: PublicKey, records: Collection[SSHFPRecord]) -> bool | None:
    """Tell whether a host's records name this key: None if they say nothing of keys of its type.

    RFC 6594 s4: where there are fingerprints by SHA-256, those by SHA-1 don't count.
    """
    expected = {record.fingerprint_type: record for record in SSHFPRecord.of(key)}
    relevant = [
        record
        for record in list(records)[:_MOST]
        if record.fingerprint_type in expected and record.algorithm == expected[record.fingerprint_type].algorithm
    ]
    if not relevant:
        return None
    best = max(record.fingerprint_type for record in relevant)
    return any(
        hmac.compare_digest(record.fingerprint, expected[best].fingerprint)
        for record in relevant
        if record.fingerprint_type == best
    )
