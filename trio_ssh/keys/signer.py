"""`Signer`: whatever can sign for a public key, here or elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from trio_ssh.keys.public_key import PublicKey


class Signer(Protocol):
    """What a client logs in with: a `PKey`, an `AgentKey`, or a class of yours that asks a vault or a card.

    Attributes:
        public_key: the public half.
        comment: what a person calls the key.
    """

    public_key: PublicKey
    comment: str

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The signature algorithms it can sign with, best first."""
        ...

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half, ``SHA256:...``."""
        ...

    def asbytes(self) -> bytes:
        """Return the blob that is shown to the server."""
        ...

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes | Awaitable[bytes]:
        """Return the signature as on the wire; or an awaitable, where it takes its time.

        Raises:
            AgentException: it does not sign; the client goes on with the next key.
        """
        ...


class PublicFace:
    """What a private key tells of its public half: paramiko has one class for both.

    Attributes:
        public_key: the public half.
    """

    __slots__ = ()

    public_key: PublicKey

    @property
    def key_type(self) -> str:
        """The key's type on the wire, such as ``"ssh-ed25519"``."""
        return self.public_key.key_type

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The signature algorithms it can sign with, best first."""
        return self.public_key.algorithms

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half, ``SHA256:...``."""
        return self.public_key.fingerprint

    def get_name(self) -> str:
        """Return the key's type on the wire, such as ``"ssh-ed25519"``."""
        return self.public_key.key_type

    def get_bits(self) -> int:
        """Return the key's size in bits, or 0 for a kind that is not known here."""
        return self.public_key.bits

    def get_fingerprint(self) -> bytes:
        """Return the 16 bytes of the MD5 fingerprint.  Show `fingerprint` to people."""
        return self.public_key.get_fingerprint()

    def asbytes(self) -> bytes:
        """Return the blob of the public half."""
        return self.public_key.blob

    def get_base64(self) -> str:
        """Return the blob of the public half in base64, as in a ``.pub`` file."""
        return self.public_key.get_base64()


def public_half(key: PublicKey | Signer) -> PublicKey:
    """Return the public key that is meant: paramiko has one class for both halves, and so have those who come from it.

    Raises:
        TypeError: it is neither; a certificate is none.
    """
    public = getattr(key, "public_key", None) if hasattr(key, "sign") else key
    if not isinstance(public, PublicKey):
        raise TypeError(f"a key is wanted here, not {type(key).__name__}")
    return public
