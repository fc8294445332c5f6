"""Ed25519 keys.

Source: RFC 8709 (the SSH encodings), RFC 8032 (the signature); the private half as in OpenSSH PROTOCOL.key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

import attrs
from nacl import bindings as sodium
from nacl.exceptions import BadSignatureError

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import Rest, String, Structure, Text, structure
from trio_ssh.wire.message import Message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

KEY_TYPE: Final = "ssh-ed25519"

_P: Final = 2**255 - 19

# The y coordinates of the points of order 1, 2, 4 and 8.  A key that is one of them has signatures that fit
# any data.
_Y_OF_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})


@structure
class Ed25519Blob(Structure):
    """The public key on the wire."""

    key_type: Text
    point: String


@structure
class Ed25519Fields(Structure):
    """The private key in openssh-key-v1."""

    point: String
    secret: String = attrs.field(repr=False)
    comment: Text
    padding: Rest


@public_kind
class Ed25519PublicKey(PublicKey):
    """RFC 8709 s4: ``ssh-ed25519``."""

    __slots__ = ("_point",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, point: bytes) -> None:
        """Take the 32 bytes of a public key."""
        super().__init__(KEY_TYPE, Ed25519Blob(KEY_TYPE, point).encode(), (KEY_TYPE,), 256)
        self._point = point

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        point = Ed25519Blob.decode(blob).point
        if len(point) != 32:
            raise RemoteProtocolError(f"an ssh-ed25519 key of {len(point)} bytes instead of 32")
        # Measured: whether there is such a point costs 59 us to tell, more than to verify a signature, which
        # tells it too.
        y = int.from_bytes(point, "little") & (2**255 - 1)
        if y >= _P or y in _SMALL_ORDER:
            raise RemoteProtocolError("an ssh-ed25519 key that is no usable point of the curve")
        return cls(point)

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        if len(raw) != 64:
            return False
        try:
            sodium.crypto_sign_open(raw + data, self._point)
        except BadSignatureError:
            return False
        return True


class Ed25519Key(PKey):
    """An Ed25519 key: small, fast, and the one to choose."""

    __slots__ = ("_secret",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, seed: bytes, comment: str = "") -> None:
        """Take the 32 bytes that RFC 8032 calls the private key."""
        if len(seed) != 32:
            raise ValueError(f"an Ed25519 private key has 32 bytes, not {len(seed)}")
        point, self._secret = sodium.crypto_sign_seed_keypair(seed)
        super().__init__(Ed25519PublicKey(point), comment)

    @classmethod
    def generate(cls, comment: str = "") -> Self:
        """Make a new key."""
        return cls(sodium.randombytes(32), comment)

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        return sodium.crypto_sign(data, self._secret)[:64]

    def _library_key(self) -> ed25519.Ed25519PrivateKey:
        # It is wanted where a key is written as PEM, and nowhere else.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return Ed25519PrivateKey.from_private_bytes(self._secret[:32])

    def _private_fields(self) -> bytes:
        return Message().add_string(self._secret[32:]).add_string(self._secret).asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read = Ed25519Fields.decode(fields)
        check_padding(read.padding)
        if len(read.secret) != 64:
            raise RemoteProtocolError(f"its secret has {len(read.secret)} bytes instead of 64")
        key = cls(read.secret[:32], read.comment)
        # A signature made with a public half that isn't this secret's would give the secret away.
        if key._secret != read.secret or read.point != read.secret[32:]:
            raise RemoteProtocolError("its halves don't belong together")
        return key
