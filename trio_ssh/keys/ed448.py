"""Ed448 keys: Ed25519's larger sister.  PuTTY and others have them; OpenSSH does not.

Source: RFC 8709 (the SSH encodings), RFC 8032 (the signature); the private half as PuTTY writes it.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey as LibraryPublicKey

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import Rest, String, Structure, Text, structure
from trio_ssh.wire.message import Message

KEY_TYPE: Final = "ssh-ed448"

_SIZE: Final = 57
_P: Final = 2**448 - 2**224 - 1

# The y coordinates of the points of order 1, 2 and 4.  A key that is one of them has signatures that fit any data.
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1})


@structure
class Ed448Blob(Structure):
    """The public key on the wire."""

    key_type: Text
    point: String


@structure
class Ed448Fields(Structure):
    """The private key in openssh-key-v1."""

    point: String
    secret: String = attrs.field(repr=False)
    comment: Text
    padding: Rest


@public_kind
class Ed448PublicKey(PublicKey):
    """RFC 8709 s4: ``ssh-ed448``."""

    __slots__ = ("_key",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, point: bytes) -> None:
        """Take the 57 bytes of a public key."""
        super().__init__(KEY_TYPE, Ed448Blob(KEY_TYPE, point).encode(), (KEY_TYPE,), 448)
        self._key = LibraryPublicKey.from_public_bytes(point)

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        point = Ed448Blob.decode(blob).point
        if len(point) != _SIZE:
            raise RemoteProtocolError(f"an ssh-ed448 key of {len(point)} bytes instead of {_SIZE}")
        y = int.from_bytes(point, "little") & (2**455 - 1)  # without the sign of x
        if y >= _P or y in _SMALL_ORDER:
            raise RemoteProtocolError("an ssh-ed448 key that is no usable point of the curve")
        try:
            return cls(point)
        except ValueError:
            raise RemoteProtocolError("an ssh-ed448 key that is no usable point of the curve") from None

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        try:
            self._key.verify(raw, data)
        except InvalidSignature:
            return False
        return True


class Ed448Key(PKey):
    """An Ed448 key.  Few servers take them; Ed25519 is the one to choose where nobody prescribes this one."""

    __slots__ = ("_key",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, seed: bytes, comment: str = "") -> None:
        """Take the 57 bytes that RFC 8032 calls the private key."""
        if len(seed) != _SIZE:
            raise ValueError(f"an Ed448 private key has {_SIZE} bytes, not {len(seed)}")
        self._key = Ed448PrivateKey.from_private_bytes(seed)
        super().__init__(Ed448PublicKey(self._key.public_key().public_bytes_raw()), comment)

    @classmethod
    def generate(cls, comment: str = "") -> Self:
        """Make a new key."""
        return cls(Ed448PrivateKey.generate().private_bytes_raw(), comment)

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        return self._key.sign(data)

    def _library_key(self) -> Ed448PrivateKey:
        return self._key

    def _private_fields(self) -> bytes:
        point = self._key.public_key().public_bytes_raw()
        return Message().add_string(point).add_string(self._key.private_bytes_raw() + point).asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read = Ed448Fields.decode(fields)
        check_padding(read.padding)
        if len(read.secret) != 2 * _SIZE:
            raise RemoteProtocolError(f"its secret has {len(read.secret)} bytes instead of {2 * _SIZE}")
        key = cls(read.secret[:_SIZE], read.comment)
        if read.point != key._key.public_key().public_bytes_raw() or read.point != read.secret[_SIZE:]:
            raise RemoteProtocolError("its halves don't belong together")
        return key
