"""``ssh-mldsa44-ed25519@openssh.com``: ML-DSA-44 beside Ed25519, unforgeable as long as one of them is.

Both sign the same bytes, which no signature by either half alone is made over.  It is offered to nobody by default:
OpenSSH, which has it since 10.4, calls it experimental.

Source: draft-miller-sshm-mldsa44-ed25519-composite-sigs; draft-ietf-lamps-pq-composite-sigs s3
(MLDSA44-Ed25519-SHA512); FIPS 204.  The private half as OpenSSH writes it: two seeds.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, Final, Self

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from nacl import bindings as sodium

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys import ed25519
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import Rest, String, Structure, Text, structure
from trio_ssh.wire.message import Message

KEY_TYPE: Final = "ssh-mldsa44-ed25519@openssh.com"

_PREFIX: Final = b"CompositeAlgorithmSignatures2025"
_LABEL: Final = b"COMPSIG-MLDSA44-Ed25519-SHA512"

_MLDSA_PUBLIC_SIZE: Final = 1312
_PUBLIC_SIZE: Final = _MLDSA_PUBLIC_SIZE + 32
_MLDSA_SIGNATURE_SIZE: Final = 2420
_SIGNATURE_SIZE: Final = _MLDSA_SIGNATURE_SIZE + 64
_SEED_SIZE: Final = 32


@structure
class CompositeBlob(Structure):
    """The public key on the wire."""

    key_type: Text
    keys: String


@structure
class CompositeFields(Structure):
    """The private key in openssh-key-v1."""

    keys: String
    seeds: String = attrs.field(repr=False)
    comment: Text
    padding: Rest


def _representative(data: bytes) -> bytes:
    """draft-ietf-lamps-pq-composite-sigs s3.2: what both halves sign.  The context, whose length is 0, is empty."""
    return _PREFIX + _LABEL + b"\0" + hashlib.sha512(data).digest()


class MLDSA44Ed25519PublicKey(PublicKey):
    """``ssh-mldsa44-ed25519@openssh.com``: 1,312 bytes of ML-DSA-44 and 32 of Ed25519."""

    __slots__ = ("_ed25519", "_mldsa")
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, keys: bytes) -> None:
        """Take the 1,344 bytes of both keys."""
        # 256 is what OpenSSH shows for its size.
        super().__init__(KEY_TYPE, CompositeBlob(KEY_TYPE, keys).encode(), (KEY_TYPE,), 256)
        self._mldsa = MLDSA44PublicKey.from_public_bytes(keys[:_MLDSA_PUBLIC_SIZE])
        self._ed25519 = ed25519.Ed25519PublicKey.from_blob(
            ed25519.Ed25519Blob(ed25519.KEY_TYPE, keys[_MLDSA_PUBLIC_SIZE:]).encode()
        )

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        keys = CompositeBlob.decode(blob).keys
        if len(keys) != _PUBLIC_SIZE:
            raise RemoteProtocolError(f"an {KEY_TYPE} key of {len(keys)} bytes instead of {_PUBLIC_SIZE}")
        try:
            return cls(keys)
        except ValueError:
            raise RemoteProtocolError(f"an {KEY_TYPE} key whose half is none of ML-DSA's") from None

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        if len(raw) != _SIGNATURE_SIZE:
            return False
        signed = _representative(data)
        try:
            self._mldsa.verify(raw[:_MLDSA_SIGNATURE_SIZE], signed, _LABEL)
        except InvalidSignature:
            return False
        return self._ed25519._is_valid(raw[_MLDSA_SIGNATURE_SIZE:], signed, ed25519.KEY_TYPE)


class MLDSA44Ed25519Key(PKey):
    """A key that a quantum computer alone does not forge.  Experimental: OpenSSH has it since 10.4, few others do.

    Its signatures have 2.4 KiB.  It needs a cryptography whose OpenSSL is 3.5 or newer.
    """

    __slots__ = ("_ed25519_secret", "_mldsa")
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, seeds: bytes, comment: str = "") -> None:
        """Take the 32 bytes that ML-DSA's key grows from, and the 32 of Ed25519's."""
        if len(seeds) != 2 * _SEED_SIZE:
            raise ValueError(f"an {KEY_TYPE} private key has {2 * _SEED_SIZE} bytes, not {len(seeds)}")
        self._mldsa = MLDSA44PrivateKey.from_seed_bytes(seeds[:_SEED_SIZE])
        point, self._ed25519_secret = sodium.crypto_sign_seed_keypair(seeds[_SEED_SIZE:])
        super().__init__(MLDSA44Ed25519PublicKey(self._mldsa.public_key().public_bytes_raw() + point), comment)

    @classmethod
    def generate(cls, comment: str = "") -> Self:
        """Make a new key."""
        return cls(sodium.randombytes(2 * _SEED_SIZE), comment)

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        signed = _representative(data)
        return self._mldsa.sign(signed, _LABEL) + sodium.crypto_sign(signed, self._ed25519_secret)[:64]

    def _private_fields(self) -> bytes:
        keys = CompositeBlob.decode(self.public_key.blob).keys
        seeds = self._mldsa.private_bytes_raw() + self._ed25519_secret[:_SEED_SIZE]
        return Message().add_string(keys).add_string(seeds).asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read = CompositeFields.decode(fields)
        check_padding(read.padding)
        if len(read.seeds) != 2 * _SEED_SIZE:
            raise RemoteProtocolError(f"its seeds have {len(read.seeds)} bytes instead of {2 * _SEED_SIZE}")
        key = cls(read.seeds, read.comment)
        if CompositeBlob.decode(key.public_key.blob).keys != read.keys:
            raise RemoteProtocolError("its halves don't belong together")
        return key


def is_supported() -> bool:
    """Whether cryptography's OpenSSL knows ML-DSA, which builds against older ones don't."""
    try:
        MLDSA44PublicKey.from_public_bytes(bytes(_MLDSA_PUBLIC_SIZE))
    except UnsupportedAlgorithm:
        return False
    return True


if is_supported():  # what we can't do is never understood
    public_kind(MLDSA44Ed25519PublicKey)
