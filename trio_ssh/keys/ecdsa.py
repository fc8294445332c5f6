"""ECDSA keys on the three NIST curves that RFC 5656 requires.

Source: RFC 5656 s3 (the encodings), SEC1 s2.3 (points); the private half as in OpenSSH PROTOCOL.key.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import MPInt, Rest, String, Structure, Text, structure
from trio_ssh.wire.message import Message


@attrs.frozen
class _Curve:
    """A curve of RFC 5656: its name there, itself, and how it signs."""

    name: str
    curve: ec.EllipticCurve
    scheme: ec.ECDSA

    @property
    def key_type(self) -> str:
        return f"ecdsa-sha2-{self.name}"

    @property
    def bits(self) -> int:
        return self.curve.key_size


#: Key type -> curve, and the hash that RFC 5656 s6.2.1 prescribes for it.
_CURVES: Final = {
    curve.key_type: curve
    for curve in (
        _Curve("nistp256", ec.SECP256R1(), ec.ECDSA(hashes.SHA256())),
        _Curve("nistp384", ec.SECP384R1(), ec.ECDSA(hashes.SHA384())),
        _Curve("nistp521", ec.SECP521R1(), ec.ECDSA(hashes.SHA512())),
    )
}


@structure
class ECDSABlob(Structure):
    """The public key on the wire."""

    key_type: Text
    curve: Text
    point: String


@structure
class ECDSASignature(Structure):
    """RFC 5656 s3.1.2: the signature proper."""

    r: MPInt
    s: MPInt


@structure
class ECDSAFields(Structure):
    """The private key in openssh-key-v1."""

    curve: Text
    point: String
    secret: MPInt = attrs.field(repr=False)
    comment: Text
    padding: Rest


def _encode_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """SEC1 s2.3.3, uncompressed.  By hand: cryptography does it in a module that costs 11 ms to import."""
    numbers = key.public_numbers()
    length = (key.key_size + 7) // 8
    return b"\4" + numbers.x.to_bytes(length, "big") + numbers.y.to_bytes(length, "big")


@public_kind
class ECDSAPublicKey(PublicKey):
    """RFC 5656 s3.1: ``ecdsa-sha2-nistp256``, ``-nistp384`` and ``-nistp521``."""

    __slots__ = ("_curve", "_key")
    KEY_TYPES: ClassVar[tuple[str, ...]] = tuple(_CURVES)

    def __init__(self, curve: _Curve, blob: bytes, key: ec.EllipticCurvePublicKey) -> None:
        super().__init__(curve.key_type, blob, (curve.key_type,), curve.bits)
        self._curve = curve
        self._key = key

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        read = ECDSABlob.decode(blob)
        curve = _CURVES[read.key_type]
        if read.curve != curve.name:
            raise RemoteProtocolError(f"an {curve.key_type} key on another curve")
        # RFC 5656 s3.1 lets points be compressed.  Nobody does, OpenSSH refuses them, and one key would have
        # two blobs.
        if not read.point.startswith(b"\4"):
            raise RemoteProtocolError(f"an {curve.key_type} key that is not an uncompressed point")
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, read.point)
        except ValueError:
            raise RemoteProtocolError(f"an {curve.key_type} key that is no point of its curve") from None
        return cls(curve, blob, key)

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        numbers = ECDSASignature.decode(raw)
        if numbers.r <= 0 or numbers.s <= 0:
            return False
        try:
            self._key.verify(encode_dss_signature(numbers.r, numbers.s), data, self._curve.scheme)
        except InvalidSignature:
            return False
        return True


class ECDSAKey(PKey):
    """An ECDSA key on a NIST curve."""

    __slots__ = ("_curve", "_key")
    KEY_TYPES: ClassVar[tuple[str, ...]] = tuple(_CURVES)

    def __init__(self, key: ec.EllipticCurvePrivateKey, comment: str = "") -> None:
        """Take a key of cryptography's, on one of the three curves."""
        self._curve = curve = _curve_of(key.curve)
        self._key = key
        public = key.public_key()
        blob = ECDSABlob(curve.key_type, curve.name, _encode_point(public)).encode()
        super().__init__(ECDSAPublicKey(curve, blob, public), comment)

    @classmethod
    def generate(cls, curve: str = "nistp256", comment: str = "", *, bits: int | None = None) -> Self:
        """Make a new key.

        Args:
            curve: ``"nistp256"``, ``"nistp384"`` or ``"nistp521"``.
            comment: what a person shall call it.
            bits: 256, 384 or 521, instead of a curve's name.
        """
        name = f"ecdsa-sha2-nistp{bits}" if bits is not None else f"ecdsa-sha2-{curve}"
        if name not in _CURVES:
            raise ValueError(
                f"ECDSA keys are on nistp256, nistp384 or nistp521, not {name.removeprefix('ecdsa-sha2-')}"
            )
        return cls(ec.generate_private_key(_CURVES[name].curve), comment)

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        return ECDSASignature(*decode_dss_signature(self._key.sign(data, self._curve.scheme))).encode()

    def _library_key(self) -> ec.EllipticCurvePrivateKey:
        return self._key

    def _private_fields(self) -> bytes:
        fields = Message().add_string(self._curve.name).add_string(_encode_point(self._key.public_key()))
        return fields.add_mpint(self._key.private_numbers().private_value).asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read = ECDSAFields.decode(fields)
        check_padding(read.padding)
        curve = _CURVES[key_type]
        if read.curve != curve.name:
            raise RemoteProtocolError("its curve is not that of its type")
        try:
            key = cls(ec.derive_private_key(read.secret, curve.curve), read.comment)
        except ValueError:
            raise RemoteProtocolError("its secret is out of range") from None
        if _encode_point(key._key.public_key()) != read.point:
            raise RemoteProtocolError("its halves don't belong together")
        return key


def _curve_of(curve: ec.EllipticCurve) -> _Curve:
    for known in _CURVES.values():
        if known.curve.name == curve.name:
            return known
    raise ValueError(f"SSH has no ECDSA keys on the curve {curve.name}")
