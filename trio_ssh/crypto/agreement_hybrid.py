"""``mlkem768x25519-sha256``: ML-KEM-768 beside Curve25519, secret as long as one of them holds.

The client's share is an encapsulation key and an X25519 key, the server's a ciphertext and an X25519 key.  K
is the hash of both secrets and is encoded as a string, not as an mpint.

Source: draft-ietf-sshm-mlkem-hybrid-kex, FIPS 203.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from nacl.bindings import crypto_scalarmult_base

from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm, bad_share
from trio_ssh.crypto.agreement_ecdh import X25519_SIZE, x25519
from trio_ssh.wire.fields import STRING

NAME: Final = "mlkem768x25519-sha256"

_ENCAPSULATION_KEY_SIZE: Final = 1184
_CIPHERTEXT_SIZE: Final = 1088


def _split(share: bytes, first_size: int) -> tuple[bytes, bytes]:
    """Divide a share into ML-KEM's part, of `first_size` bytes, and X25519's."""
    size = first_size + X25519_SIZE
    if len(share) != size:
        raise bad_share(f"has {len(share)} bytes, not {size}")
    return share[:first_size], share[first_size:]


def _combine(encapsulated: bytes, shared: bytes) -> bytes:
    """Return K = SHA-256 of both secrets, encoded as a string."""
    out = bytearray()
    STRING.write(out, hashlib.sha256(encapsulated + shared).digest())
    return bytes(out)


class HybridClientAgreement:
    """The client's side: makes the encapsulation key.

    Args:
        kem_private: to be used for one exchange only.
        x25519_private: 32 bytes, to be used for one exchange only.
    """

    __slots__ = ("_kem_private", "_x25519_private", "our_share")

    def __init__(self, kem_private: MLKEM768PrivateKey, x25519_private: bytes) -> None:
        self._kem_private = kem_private
        self._x25519_private = x25519_private
        self.our_share: bytes = kem_private.public_key().public_bytes_raw() + crypto_scalarmult_base(x25519_private)

    def finish(self, their_share: bytes) -> bytes:
        """Return K; see `ClientAgreement.finish`.

        A ciphertext that was made for another key is not told from a good one here: it gives a secret that
        nobody knows (FIPS 203 s6.3), and the exchange fails at its signature.
        """
        ciphertext, their_x25519 = _split(their_share, _CIPHERTEXT_SIZE)
        shared = x25519(self._x25519_private, their_x25519)
        return _combine(self._kem_private.decapsulate(ciphertext), shared)


class HybridServerAgreement:
    """The server's side: encapsulates to the client's key.

    Args:
        x25519_private: 32 bytes, to be used for one exchange only.
    """

    __slots__ = ("_x25519_private",)

    def __init__(self, x25519_private: bytes) -> None:
        self._x25519_private = x25519_private

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share and K; see `ServerAgreement.respond`."""
        encapsulation_key, their_x25519 = _split(their_share, _ENCAPSULATION_KEY_SIZE)
        shared = x25519(self._x25519_private, their_x25519)
        try:
            public_key = MLKEM768PublicKey.from_public_bytes(encapsulation_key)
        except ValueError:  # FIPS 203 s7.2, the modulus check
            raise bad_share("holds no ML-KEM-768 encapsulation key") from None
        encapsulated, ciphertext = public_key.encapsulate()
        return ciphertext + crypto_scalarmult_base(self._x25519_private), _combine(encapsulated, shared)


def _new_client() -> HybridClientAgreement:
    return HybridClientAgreement(MLKEM768PrivateKey.generate(), os.urandom(X25519_SIZE))


def _new_server() -> HybridServerAgreement:
    return HybridServerAgreement(os.urandom(X25519_SIZE))


def is_supported() -> bool:
    """Whether cryptography's OpenSSL knows ML-KEM, which builds against older ones don't."""
    try:
        MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        return False
    return True


if is_supported():  # what we can't do is never offered
    KEX.register(NAME, AgreementAlgorithm(NAME, "sha256", _new_client, _new_server))
