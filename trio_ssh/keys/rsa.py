"""RSA keys.  They sign and verify with SHA-2; with SHA-1, which ``ssh-rsa`` names, only for who asks for it.

Source: RFC 8332 (the signatures), RFC 4253 s6.6 (the blob); the private half as in OpenSSH PROTOCOL.key.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import MPInt, Rest, Structure, Text, structure
from trio_ssh.wire.message import Message

KEY_TYPE: Final = "ssh-rsa"

#: Bits of the shortest modulus that is read at all.  What a peer shows is held to more: see
#: `parse_public_key`.
SMALLEST_BITS: Final = 1024

#: Bits of the longest, which bounds what a signature costs to verify.
LARGEST_BITS: Final = 16384

_PADDING: Final = PKCS1v15()
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "rsa-sha2-512": hashes.SHA512(),
    "rsa-sha2-256": hashes.SHA256(),
}

#: RFC 4253 s6.6.  Who has a key sign something for him can make it a signature of something else besides: SHA-1
#: collides for the price of a car.
_LEGACY_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {KEY_TYPE: hashes.SHA1()}

_ALL_HASHES: Final = _HASHES | _LEGACY_HASHES


@structure
class RSABlob(Structure):
    """The public key on the wire."""

    key_type: Text
    e: MPInt
    n: MPInt


@structure
class RSAFields(Structure):
    """The private key in openssh-key-v1."""

    n: MPInt
    e: MPInt
    d: MPInt = attrs.field(repr=False)
    iqmp: MPInt = attrs.field(repr=False)
    p: MPInt = attrs.field(repr=False)
    q: MPInt = attrs.field(repr=False)
    comment: Text
    padding: Rest


@public_kind
class RSAPublicKey(PublicKey):
    """RFC 8332 s3: ``ssh-rsa``, with signatures ``rsa-sha2-512`` and ``rsa-sha2-256``; ``ssh-rsa`` is a legacy."""

    __slots__ = ("_key",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, key: rsa.RSAPublicKey) -> None:
        """Take a key of cryptography's."""
        numbers = key.public_numbers()
        blob = RSABlob(KEY_TYPE, numbers.e, numbers.n).encode()
        super().__init__(KEY_TYPE, blob, tuple(_HASHES), key.key_size, tuple(_LEGACY_HASHES))
        self._key = key

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        read = RSABlob.decode(blob)
        bits = read.n.bit_length()
        if read.n <= 0 or read.n % 2 == 0:
            raise RemoteProtocolError("an RSA key whose modulus is no product of two primes")
        if not SMALLEST_BITS <= bits <= LARGEST_BITS:
            raise RemoteProtocolError(f"an RSA key of {bits} bits; from {SMALLEST_BITS} to {LARGEST_BITS} are read")
        # An even exponent has no inverse, 1 encrypts nothing, and a long one serves only to make verifying
        # slow.
        if read.e < 3 or read.e % 2 == 0 or read.e.bit_length() > 64:
            raise RemoteProtocolError("an RSA key with an absurd exponent")
        try:
            key = cls(rsa.RSAPublicNumbers(read.e, read.n).public_key())
        except ValueError as error:
            raise RemoteProtocolError(f"an unusable RSA key ({error})") from None
        # RFC 4251 s5: an mpint has no needless leading zeros.  With them one key would have many blobs and
        # fingerprints.
        if key.blob != blob:
            raise RemoteProtocolError("an RSA key whose numbers are not encoded in the shortest way")
        return key

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        # RFC 8332 s3 wants all the modulus' bytes; some signers leave leading zeros away.  OpenSSH puts them
        # back; so do we.
        length = (self.bits + 7) // 8
        if len(raw) > length:
            return False
        try:
            self._key.verify(raw.rjust(length, b"\0"), data, _PADDING, _ALL_HASHES[algorithm])
        except InvalidSignature:
            return False
        return True


class RSAKey(PKey):
    """An RSA key, which signs with SHA-2; with SHA-1, as ``ssh-rsa``, where that is asked for by name."""

    __slots__ = ("_key",)
    KEY_TYPES: ClassVar[tuple[str, ...]] = (KEY_TYPE,)

    def __init__(self, key: rsa.RSAPrivateKey, comment: str = "") -> None:
        """Take a key of cryptography's."""
        super().__init__(RSAPublicKey(key.public_key()), comment)
        self._key = key

    @classmethod
    def generate(cls, bits: int = 3072, comment: str = "") -> Self:
        """Make a new key of 2,048 to 16,384 bits.  It takes 0.1 s for 3,072, minutes for the longest."""
        given: object = bits
        if not isinstance(given, int):
            raise TypeError(f"the size of a key is an int, in bits, not {given!r}")
        if not 2048 <= bits <= LARGEST_BITS:
            raise ValueError(f"new RSA keys have 2048 to {LARGEST_BITS} bits, not {bits}")
        return cls(rsa.generate_private_key(65537, bits), comment)

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        return self._key.sign(data, _PADDING, _ALL_HASHES[algorithm])

    def _library_key(self) -> rsa.RSAPrivateKey:
        return self._key

    def _private_fields(self) -> bytes:
        numbers = self._key.private_numbers()
        public = numbers.public_numbers
        fields = Message()
        for number in (public.n, public.e, numbers.d, numbers.iqmp, numbers.p, numbers.q):
            fields.add_mpint(number)
        return fields.asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read = RSAFields.decode(fields)
        check_padding(read.padding)
        public = RSAPublicKey.from_blob(RSABlob(KEY_TYPE, read.e, read.n).encode())
        try:
            key = cls(_private_key(read), read.comment)
            # Measured: OpenSSL's own check tests p and q for primality, 110 ms for 3,072 bits and 250 ms for
            # 4,096.  Arithmetic and one signature find every key that is damaged, in 1 ms.
            public.verify(b"", key.sign(b""), key.algorithms[0])
        except (ValueError, RemoteProtocolError):
            raise RemoteProtocolError("its numbers don't belong together") from None
        return key


def _private_key(read: RSAFields) -> rsa.RSAPrivateKey:
    """Make the key, or raise ValueError if its numbers don't fit each other."""
    n, e, d, p, q = read.n, read.e, read.d, read.p, read.q
    if p < 3 or q < 3 or p * q != n or not 1 < d < n or not 0 < read.iqmp < p or read.iqmp * q % p != 1:
        raise ValueError("p, q, n")
    dmp1, dmq1 = d % (p - 1), d % (q - 1)
    if e * dmp1 % (p - 1) != 1 or e * dmq1 % (q - 1) != 1:
        raise ValueError("d, e")
    numbers = rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, read.iqmp, rsa.RSAPublicNumbers(e, n))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
