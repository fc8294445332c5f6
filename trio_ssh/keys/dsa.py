"""DSA keys, for machines that have nothing else.  INSECURE: they sign SHA-1, by numbers of 160 bits.

Source: RFC 4253 s6.6 (the encodings), FIPS 186-2; the private half as in OpenSSH PROTOCOL.key.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import MPInt, Rest, Structure, Text, structure
from trio_ssh.wire.message import Message

KEY_TYPE: Final = "ssh-dss"

#: RFC 4253 s6.6: a signature is two numbers of 160 bits.  PuTTY makes p longer than FIPS 186-2 knows it.
_Q_BITS: Final = 160
_P_BITS: Final = (1024, 2048, 3072, 4096)

_HALF: Final = _Q_BITS // 8
_SHA1: Final = hashes.SHA1()


@structure
class DSSBlob(Structure):
    """The public key on the wire."""

    key_type: Text
    p: MPInt
    q: MPInt
    g: MPInt
    y: MPInt


@structure
class DSSFields(Structure):
    """The private key in openssh-key-v1."""

    p: MPInt
    q: MPInt
    g: MPInt
    y: MPInt
    x: MPInt = attrs.field(repr=False)
    comment: Text
    padding: Rest


@public_kind
class DSSPublicKey(PublicKey):
    """RFC 4253 s6.6: ``ssh-dss``.  Its one algorithm is a legacy: insecure, and used for who names it only."""

    __slots__ = ("_key",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, key: dsa.DSAPublicKey) -> None:
        """Take a key of cryptography's."""
        public = key.public_numbers()
        numbers = public.parameter_numbers
        blob = DSSBlob(KEY_TYPE, numbers.p, numbers.q, numbers.g, public.y).encode()
        super().__init__(KEY_TYPE, blob, (), key.key_size, (KEY_TYPE,))
        self._key = key

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        read = DSSBlob.decode(blob)
        p, q, g, y = read.p, read.q, read.g, read.y
        if p <= 0 or p.bit_length() not in _P_BITS or q <= 0 or q.bit_length() != _Q_BITS:
            raise RemoteProtocolError(
                f"a DSA key of {p.bit_length()} and {q.bit_length()} bits; 1024 and 160 are usual"
            )
        # Outside the group of order q there are signatures that fit any data.
        if (p - 1) % q or not 1 < g < p or pow(g, q, p) != 1 or not 1 < y < p or pow(y, q, p) != 1:
            raise RemoteProtocolError("a DSA key whose numbers don't belong together")
        try:
            key = cls(dsa.DSAPublicNumbers(y, dsa.DSAParameterNumbers(p, q, g)).public_key())
        except ValueError as error:
            raise RemoteProtocolError(f"an unusable DSA key ({error})") from None
        # RFC 4251 s5: an mpint has no needless leading zeros.  With them one key would have many blobs.
        if key.blob != blob:
            raise RemoteProtocolError("a DSA key whose numbers are not encoded in the shortest way")
        return key

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        if len(raw) != 2 * _HALF:
            return False
        r, s = int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big")
        try:
            self._key.verify(encode_dss_signature(r, s), data, _SHA1)
        except InvalidSignature:
            return False
        return True


class DSSKey(PKey):
    """A DSA key.  INSECURE: it signs SHA-1, which collides, by numbers of 160 bits; OpenSSH 10 dropped it.

    Nothing uses one by itself: `sign` and `verify` want ``"ssh-dss"`` by name.  Make another key.
    """

    __slots__ = ("_key",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, key: dsa.DSAPrivateKey, comment: str = "") -> None:
        """Take a key of cryptography's, whose q has 160 bits."""
        bits = key.private_numbers().public_numbers.parameter_numbers.q.bit_length()
        if bits != _Q_BITS:
            raise ValueError(f"SSH has no DSA keys whose q has {bits} bits, only {_Q_BITS}")
        super().__init__(DSSPublicKey(key.public_key()), comment)
        self._key = key

    @classmethod
    def generate(cls, bits: int = 1024, comment: str = "") -> Self:
        """Make a new key, to test against what knows no better; of 1,024 bits, as FIPS 186-2 had them."""
        if bits != 1024:
            raise ValueError(f"new DSA keys have 1024 bits, not {bits}")
        return cls(dsa.generate_private_key(bits), comment)

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        r, s = decode_dss_signature(self._key.sign(data, _SHA1))
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")

    def _library_key(self) -> dsa.DSAPrivateKey:
        return self._key

    def _private_fields(self) -> bytes:
        private = self._key.private_numbers()
        public = private.public_numbers
        numbers = public.parameter_numbers
        fields = Message()
        for number in (numbers.p, numbers.q, numbers.g, public.y, private.x):
            fields.add_mpint(number)
        return fields.asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read = DSSFields.decode(fields)
        check_padding(read.padding)
        DSSPublicKey.from_blob(DSSBlob(KEY_TYPE, read.p, read.q, read.g, read.y).encode())
        if not 0 < read.x < read.q or pow(read.g, read.x, read.p) != read.y:
            raise RemoteProtocolError("its numbers don't belong together")
        public = dsa.DSAPublicNumbers(read.y, dsa.DSAParameterNumbers(read.p, read.q, read.g))
        try:
            return cls(dsa.DSAPrivateNumbers(read.x, public).private_key(), read.comment)
        except ValueError:
            raise RemoteProtocolError("its numbers don't belong together") from None
