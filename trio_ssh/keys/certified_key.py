"""`CertifiedKey`: a private key that shows its certificate in place of itself."""

from __future__ import annotations

from collections.abc import Awaitable

from trio_ssh.errors import LocalProtocolError
from trio_ssh.keys.certificate import Certificate, refuse_anothers
from trio_ssh.keys.certification import certificate_name
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.signer import Signer


class CertifiedKey:
    """A private key that shows its certificate: what to log in with where the server knows the authority.

    It is a `Signer`, and shows the certificate where a bare key would show itself.

    Args:
        key: what signs: a `PKey`, an agent's key, or another `Signer`.
        certificate: one of that key.

    Raises:
        KeyFileException: it is one of another key.

    Attributes:
        key: what signs.
        certificate: what is shown.
        public_key: the key that is certified.
        comment: what a person calls the key.
    """

    __slots__ = ("certificate", "comment", "key", "public_key")

    def __init__(self, key: Signer, certificate: Certificate) -> None:
        refuse_anothers(certificate, key.public_key)
        self.key: Signer = key
        self.certificate: Certificate = certificate
        self.public_key: PublicKey = key.public_key
        self.comment: str = key.comment

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The names under which its signatures are negotiated, those of certificates, best first."""
        return tuple(map(certificate_name, self.key.algorithms))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that is certified, ``SHA256:...``."""
        return self.public_key.fingerprint

    def asbytes(self) -> bytes:
        """Return the blob of the certificate."""
        return self.certificate.blob

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes | Awaitable[bytes]:
        """Sign with the key, in the key's own way.

        Args:
            data: any length.
            algorithm: the negotiated one of `algorithms`, by default the first.

        Raises:
            LocalProtocolError: it is none of them.
        """
        algorithm = algorithm or next(iter(self.algorithms), "")
        for plain in self.key.algorithms:
            if certificate_name(plain) == algorithm:
                return self.key.sign(data, plain)
        raise LocalProtocolError(f"{self} signs with {' or '.join(self.algorithms)}, not {algorithm}")

    def __repr__(self) -> str:
        return f"<CertifiedKey with {self.certificate}>"


def signs_here(key: Signer) -> bool:
    """Tell whether a key signs at once and in this process, so that nobody is bothered in vain."""
    return isinstance(key.key if isinstance(key, CertifiedKey) else key, PKey)
