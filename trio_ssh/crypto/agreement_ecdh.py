"""Elliptic-curve Diffie-Hellman: the NIST curves of RFC 5656 s4, Curve25519 and Curve448 of RFC 8731.

Both sides do the same, so one class serves both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm, bad_share
from trio_ssh.wire.fields import MPINT

X25519_SIZE: Final = 32
X448_SIZE: Final = 56

_UNCOMPRESSED: Final = b"\x04"


def x25519(private: bytes, their_share: bytes) -> bytes:
    """Return the shared point of RFC 7748 s6.1, 32 bytes.

    Raises:
        RemoteProtocolError: the share is of another length, or of small order.
    """
    # Told before the library sees it: libsodium reads 32 bytes, however many there are.
    if len(their_share) != X25519_SIZE:
        raise bad_share(f"has {len(their_share)} bytes, not {X25519_SIZE}")
    try:
        shared = crypto_scalarmult(private, their_share)
    except CryptoError:  # how libsodium reports an all-zero result
        shared = bytes(X25519_SIZE)
    # RFC 8731 s3: a share of small order makes a secret that everyone knows.
    if not any(shared):
        raise bad_share("is a point of small order")
    return shared


def encode_secret(shared: bytes) -> bytes:
    """Encode a shared coordinate, big-endian, as the mpint K of RFC 5656 s4."""
    out = bytearray()
    MPINT.write(out, int.from_bytes(shared, "big"))
    return bytes(out)


class X25519Agreement:
    """Curve25519, for either side: RFC 8731.

    Args:
        private: 32 bytes, to be used for one exchange only.
    """

    __slots__ = ("_private", "our_share")

    def __init__(self, private: bytes) -> None:
        self._private = private
        self.our_share: bytes = crypto_scalarmult_base(private)

    def shared(self, their_share: bytes) -> bytes:
        """Return the shared point, which a hybrid hashes as it is."""
        return x25519(self._private, their_share)

    def finish(self, their_share: bytes) -> bytes:
        """Return K; see `ClientAgreement.finish`."""
        return encode_secret(x25519(self._private, their_share))

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share and K; see `ServerAgreement.respond`."""
        return self.our_share, self.finish(their_share)


class NistAgreement:
    """A NIST curve, for either side: RFC 5656 s4.

    Args:
        private: a key on the curve, to be used for one exchange only.
    """

    __slots__ = ("_private", "our_share")

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        # Written by hand: the package that would write it costs 4 ms to import.
        point = private.public_key().public_numbers()
        size = (private.curve.key_size + 7) // 8
        self.our_share: bytes = _UNCOMPRESSED + point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")

    def shared(self, their_share: bytes) -> bytes:
        """Return the shared point's x in as many bytes as the field has, which a hybrid hashes as it is."""
        # RFC 5656 s4 leaves compressed points to the peers' agreement, and there is no way to agree: nobody
        # sends them.
        if len(their_share) != len(self.our_share) or their_share[:1] != _UNCOMPRESSED:
            raise bad_share(f"is not an uncompressed point of {len(self.our_share)} bytes")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._private.curve, their_share)
            return self._private.exchange(ec.ECDH(), point)
        except ValueError:
            raise bad_share(f"is no point on the curve {self._private.curve.name}") from None

    def finish(self, their_share: bytes) -> bytes:
        """Return K; see `ClientAgreement.finish`."""
        return encode_secret(self.shared(their_share))

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share and K; see `ServerAgreement.respond`."""
        return self.our_share, self.finish(their_share)


class X448Agreement:
    """Curve448, for either side: RFC 8731.

    Args:
        private: to be used for one exchange only.
    """

    __slots__ = ("_private", "our_share")

    def __init__(self, private: X448PrivateKey) -> None:
        self._private = private
        self.our_share: bytes = private.public_key().public_bytes_raw()

    def finish(self, their_share: bytes) -> bytes:
        """Return K; see `ClientAgreement.finish`."""
        if len(their_share) != X448_SIZE:
            raise bad_share(f"has {len(their_share)} bytes, not {X448_SIZE}")
        try:
            shared = self._private.exchange(X448PublicKey.from_public_bytes(their_share))
        except ValueError:  # how OpenSSL reports an all-zero result
            shared = bytes(X448_SIZE)
        # RFC 8731 s3, as for Curve25519.
        if not any(shared):
            raise bad_share("is a point of small order")
        return encode_secret(shared)

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share and K; see `ServerAgreement.respond`."""
        return self.our_share, self.finish(their_share)


def _new_x448() -> X448Agreement:
    return X448Agreement(X448PrivateKey.generate())


def _new_x25519() -> X25519Agreement:
    return X25519Agreement(os.urandom(X25519_SIZE))


def _new_on(curve: ec.EllipticCurve) -> Callable[[], NistAgreement]:
    return lambda: NistAgreement(ec.generate_private_key(curve))


for _name, _hash_name, _new in (
    ("curve25519-sha256", "sha256", _new_x25519),
    ("curve25519-sha256@libssh.org", "sha256", _new_x25519),
    ("curve448-sha512", "sha512", _new_x448),
    ("ecdh-sha2-nistp256", "sha256", _new_on(ec.SECP256R1())),
    ("ecdh-sha2-nistp384", "sha384", _new_on(ec.SECP384R1())),
    ("ecdh-sha2-nistp521", "sha512", _new_on(ec.SECP521R1())),
):
    KEX.register(_name, AgreementAlgorithm(_name, _hash_name, _new, _new))
