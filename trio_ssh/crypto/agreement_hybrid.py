"""ML-KEM beside an elliptic curve, secret as long as one of them holds.

The client's share is an encapsulation key and a point, the server's a ciphertext and a point.  K is the hash
of both secrets and is encoded as a string, not as an mpint; a NIST curve's part of it is the shared point's x
in as many bytes as the field has.

Source: draft-ietf-sshm-mlkem-hybrid-kex, FIPS 203.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final, Protocol

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm, bad_share
from trio_ssh.crypto.agreement_ecdh import X25519_SIZE, NistAgreement, X25519Agreement
from trio_ssh.wire.fields import STRING


class Classical(Protocol):
    """The part that is not new: one side of an agreement on a curve.

    Attributes:
        our_share: made on construction; shares of both sides are of one length.
    """

    our_share: bytes

    def shared(self, their_share: bytes) -> bytes:
        """Return the shared secret, in bytes of a fixed number.

        Raises:
            RemoteProtocolError: their share is unusable.
        """
        ...


@attrs.frozen
class Kem:
    """A parameter set of FIPS 203.

    Attributes:
        name: of the set.
        generate: makes a key for one exchange.
        read: makes a public key of its encoding; raises ValueError if it fails the modulus check of s7.2.
        key_size, ciphertext_size: bytes of an encapsulation key, and of a ciphertext.
    """

    name: str
    generate: Callable[[], MLKEM768PrivateKey | MLKEM1024PrivateKey]
    read: Callable[[bytes], MLKEM768PublicKey | MLKEM1024PublicKey]
    key_size: int
    ciphertext_size: int


ML_KEM_768: Final = Kem("ML-KEM-768", MLKEM768PrivateKey.generate, MLKEM768PublicKey.from_public_bytes, 1184, 1088)
ML_KEM_1024: Final = Kem("ML-KEM-1024", MLKEM1024PrivateKey.generate, MLKEM1024PublicKey.from_public_bytes, 1568, 1568)


def _split(share: bytes, first_size: int, second_size: int) -> tuple[bytes, bytes]:
    """Divide a share into ML-KEM's part, of `first_size` bytes, and the curve's."""
    size = first_size + second_size
    if len(share) != size:
        raise bad_share(f"has {len(share)} bytes, not {size}")
    return share[:first_size], share[first_size:]


def _combine(hash_name: str, encapsulated: bytes, shared: bytes) -> bytes:
    """Return K, the hash of both secrets, encoded as a string."""
    out = bytearray()
    STRING.write(out, hashlib.new(hash_name, encapsulated + shared).digest())
    return bytes(out)


class HybridClientAgreement:
    """The client's side: makes the encapsulation key.

    Args:
        kem: the parameter set.
        hash_name: the exchange's hash.
        kem_private: to be used for one exchange only.
        classical: likewise.
    """

    __slots__ = ("_classical", "_hash_name", "_kem", "_kem_private", "our_share")

    def __init__(
        self,
        kem: Kem,
        hash_name: str,
        kem_private: MLKEM768PrivateKey | MLKEM1024PrivateKey,
        classical: Classical,
    ) -> None:
        self._kem = kem
        self._hash_name = hash_name
        self._kem_private = kem_private
        self._classical = classical
        self.our_share: bytes = kem_private.public_key().public_bytes_raw() + classical.our_share

    def finish(self, their_share: bytes) -> bytes:
        """Return K; see `ClientAgreement.finish`.

        A ciphertext that was made for another key is not told from a good one here: it gives a secret that
        nobody knows (FIPS 203 s6.3), and the exchange fails at its signature.
        """
        ciphertext, their_point = _split(their_share, self._kem.ciphertext_size, len(self._classical.our_share))
        shared = self._classical.shared(their_point)
        return _combine(self._hash_name, self._kem_private.decapsulate(ciphertext), shared)


class HybridServerAgreement:
    """The server's side: encapsulates to the client's key.

    Args:
        kem: the parameter set.
        hash_name: the exchange's hash.
        classical: to be used for one exchange only.
    """

    __slots__ = ("_classical", "_hash_name", "_kem")

    def __init__(self, kem: Kem, hash_name: str, classical: Classical) -> None:
        self._kem = kem
        self._hash_name = hash_name
        self._classical = classical

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share and K; see `ServerAgreement.respond`."""
        classical = self._classical
        encapsulation_key, their_point = _split(their_share, self._kem.key_size, len(classical.our_share))
        shared = classical.shared(their_point)
        try:
            public_key = self._kem.read(encapsulation_key)
        except ValueError:  # FIPS 203 s7.2, the modulus check
            raise bad_share(f"holds no {self._kem.name} encapsulation key") from None
        encapsulated, ciphertext = public_key.encapsulate()
        return ciphertext + classical.our_share, _combine(self._hash_name, encapsulated, shared)


def _new_x25519() -> X25519Agreement:
    return X25519Agreement(os.urandom(X25519_SIZE))


def _new_p256() -> NistAgreement:
    return NistAgreement(ec.generate_private_key(ec.SECP256R1()))


def _new_p384() -> NistAgreement:
    return NistAgreement(ec.generate_private_key(ec.SECP384R1()))


def _algorithm(name: str, hash_name: str, kem: Kem, new_classical: Callable[[], Classical]) -> AgreementAlgorithm:
    return AgreementAlgorithm(
        name,
        hash_name,
        lambda: HybridClientAgreement(kem, hash_name, kem.generate(), new_classical()),
        lambda: HybridServerAgreement(kem, hash_name, new_classical()),
    )


def is_supported() -> bool:
    """Whether cryptography's OpenSSL knows ML-KEM, which builds against older ones don't."""
    try:
        MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        return False
    return True


if is_supported():  # what we can't do is never offered
    for _made in (
        _algorithm("mlkem768x25519-sha256", "sha256", ML_KEM_768, _new_x25519),
        _algorithm("mlkem768nistp256-sha256", "sha256", ML_KEM_768, _new_p256),
        _algorithm("mlkem1024nistp384-sha384", "sha384", ML_KEM_1024, _new_p384),
    ):
        KEX.register(_made.name, _made)
