"""Private keys: what every kind of them can do, and how they come from files and go there.

What reads, writes or derives here takes its time, a passphrase a second and more: those who run an event loop
call it from a thread.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from trio_ssh.errors import KeyFileException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys.certificate import Certificate, refuse_anothers
from trio_ssh.keys.container import CIPHER, PrivatePart, reading, seal
from trio_ssh.keys.disk import KEY_FILE_BYTES, FilePath, shown_path, write_atomically
from trio_ssh.keys.formats import open_private_key, open_private_key_file, write_pem
from trio_ssh.keys.public_key import PublicKey, signature_head
from trio_ssh.keys.signer import PublicFace
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

#: Bits of the shortest RSA key that is read unless the caller takes less.
MINIMUM_RSA_BITS: Final = 2048

_CERTIFICATE_SUFFIX: Final = "-cert.pub"

KeyFormat = Literal["openssh", "pem", "pkcs8"]
"""How a private key is written: OpenSSH's own format; PKCS#1 or SEC1, as it was before; or PKCS#8."""


class PKey(PublicFace, ABC):
    """A private key, with the public key that belongs to it.

    Called on `PKey`, the ``from_`` methods read a key of any kind; on one of its subclasses, a key of that
    kind only.

    Attributes:
        public_key: the public half.
        comment: what a person calls the key; often ``user@host``.
        certificate: what an authority certifies of it, once `load_certificate` was called; else None.
    """

    __slots__ = ("certificate", "comment", "public_key")

    #: The types that are keys of this kind.
    KEY_TYPES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, public_key: PublicKey, comment: str = "") -> None:
        self.public_key: PublicKey = public_key
        self.comment: str = comment
        self.certificate: Certificate | None = None

    # -- what a kind provides

    @abstractmethod
    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        """Return the signature proper, with one of `algorithms`."""

    @abstractmethod
    def _private_fields(self) -> bytes:
        """Return what stands between the key's type and its comment in openssh-key-v1."""

    @classmethod
    @abstractmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        """Make a key of what stands behind its type in openssh-key-v1: fields, comment, padding.

        Raises:
            RemoteProtocolError: the fields are not those of a key, or don't belong together.
        """

    def _library_key(self) -> PrivateKeyTypes:
        """Return the key as cryptography has it, for the formats that cryptography writes."""
        raise ValueError(f"an {self.key_type} key can only be written in OpenSSH's format")

    # -- what it is

    @property
    def legacy_algorithms(self) -> tuple[str, ...]:
        """The broken signature algorithms that it signs with for who names them."""
        return self.public_key.legacy_algorithms

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PublicKey):
            return self.public_key == other  # one class is both, in paramiko
        return self.public_key == other.public_key if isinstance(other, PKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key_type} {self.fingerprint}>"

    # -- what it does

    def can_sign(self) -> bool:
        """Whether the private half is at hand, as it is for every key that was read from a file."""
        return True

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Sign `data`.

        Args:
            data: any length.
            algorithm: one of `algorithms`, by default the first; or one of `legacy_algorithms`.

        Returns:
            The signature as on the wire: the algorithm's name, and the signature proper, each a string.

        Raises:
            LocalProtocolError: the key can't sign with that algorithm.

        Source: RFC 4253 s6.6.
        """
        if algorithm is None:
            algorithm = self._best_algorithm()
        elif not self.public_key.can_verify(algorithm):
            able = " or ".join((*self.algorithms, *self.legacy_algorithms))
            raise LocalProtocolError(f"an {self.key_type} key signs with {able}, not {algorithm}")
        raw = self._sign_raw(data, algorithm)
        return signature_head(algorithm) + len(raw).to_bytes(4, "big") + raw

    def verify(self, data: bytes, signature: bytes, algorithm: str | None = None) -> None:
        """As `PublicKey.verify`, of the public half; by default with the first of `algorithms`."""
        self.public_key.verify(data, signature, algorithm or self._best_algorithm())

    def _best_algorithm(self) -> str:
        if not self.algorithms:
            raise LocalProtocolError(
                f"an {self.key_type} key signs only with {' or '.join(self.legacy_algorithms)}, which is insecure: "
                "name it if you want it, or make a new key (`ssh-keygen -t ed25519`)"
            )
        return self.algorithms[0]

    def load_certificate(self, value: FilePath | Certificate) -> None:
        """Keep a certificate of this key with it, as `certificate`.

        Args:
            value: the certificate, or the ``-cert.pub`` file that it stands in.

        Raises:
            KeyFileException: there is no usable certificate, or it is one of another key.
        """
        certificate = value if isinstance(value, Certificate) else Certificate.from_path(value)
        refuse_anothers(certificate, self.public_key)
        self.certificate = certificate

    # -- reading

    @classmethod
    def from_private_key_file(
        cls,
        path: FilePath,
        password: str | bytes | None = None,
        *,
        check_permissions: bool = True,
        minimum_rsa_bits: int = MINIMUM_RSA_BITS,
    ) -> Self:
        """Read a private key from a file.  This blocks, for a second and more where there is a passphrase.

        Args:
            path: the file, in OpenSSH's format, in PEM, or PuTTY's.
            password: the passphrase, if the key is encrypted.
            check_permissions: whether a file of ours that others may read is refused, as OpenSSH refuses it.
            minimum_rsa_bits: below which an RSA key is refused; less than 1,024 is in any case.

        Raises:
            PasswordRequiredException: the key is encrypted, and no passphrase was given.
            KeyFileException: for any other reason that there is no key; the text says what to do.
        """
        part = open_private_key_file(path, password, check_permissions=check_permissions)
        return cls._from_part(part, shown_path(path), minimum_rsa_bits)

    @classmethod
    def from_path(cls, path: FilePath, password: str | bytes | None = None) -> PKey:
        """Read a key of any kind, whatever the class it is called on, and the certificate beside it, if there is one.

        Args:
            path: the key's file, or its certificate's: ``NAME`` or ``NAME-cert.pub``.
            password: the passphrase, if the key is encrypted.

        Raises:
            As `from_private_key_file`, and KeyFileException too where the certificate can't be used.
        """
        name = os.fspath(path).removesuffix(_CERTIFICATE_SUFFIX)
        key = PKey.from_private_key_file(name, password)
        certificate = name + _CERTIFICATE_SUFFIX
        if os.path.exists(certificate) or name != os.fspath(path):
            key.load_certificate(certificate)
        return key

    @classmethod
    def from_private_key(
        cls,
        file_obj: IO[str] | IO[bytes],
        password: str | bytes | None = None,
        *,
        minimum_rsa_bits: int = MINIMUM_RSA_BITS,
    ) -> Self:
        """As `from_private_key_file`, from an open file, text or binary, such as an `io.StringIO`."""
        path: object = getattr(file_obj, "name", None)
        name = printable(path) if isinstance(path, str) else "the key"
        try:
            data: str | bytes = file_obj.read(KEY_FILE_BYTES + 1)
        except UnicodeDecodeError:
            raise KeyFileException(f"{name}: this is no text, and no key that we know of is anything else.") from None
        return cls.from_bytes(data, password, name=name, minimum_rsa_bits=minimum_rsa_bits)

    @classmethod
    def from_bytes(
        cls,
        data: str | bytes,
        password: str | bytes | None = None,
        *,
        name: str = "the key",
        minimum_rsa_bits: int = MINIMUM_RSA_BITS,
    ) -> Self:
        """As `from_private_key_file`, from the content of a file; `name` is how error messages call it."""
        if isinstance(data, str):
            data = data.encode("utf-8", "replace")  # a key is ASCII: what is replaced here was wrong before
        return cls._from_part(open_private_key(data, password, name), name, minimum_rsa_bits)

    @classmethod
    def _from_part(cls, part: PrivatePart, name: str, minimum_rsa_bits: int) -> Self:
        for kind in (cls, *cls.__subclasses__()):
            if part.key_type in kind.KEY_TYPES:
                break
        else:
            wanted = f"not of {cls.__name__}'s" if cls.KEY_TYPES else "which is not supported"
            raise KeyFileException(
                f"{name}: the key is of the type {printable(part.key_type)}, {wanted}. Give another key."
            )
        with reading(name):
            key = kind._from_fields(part.key_type, part.fields)
            # OpenSSH looks up keys by the public copy, which is readable without the passphrase: it must not
            # speak of another.
            if part.public_blob is not None and part.public_blob != key.public_key.blob:
                raise RemoteProtocolError("the public key in it belongs to another private key")
        if key.key_type == "ssh-rsa" and key.get_bits() < minimum_rsa_bits:
            raise KeyFileException(
                f"{name}: the RSA key has {key.get_bits()} bits, and {minimum_rsa_bits} are asked for: shorter ones "
                "can be broken. Make a new key (`ssh-keygen -t ed25519`), or pass minimum_rsa_bits= to read it still."
            )
        return key

    # -- writing

    def to_openssh(
        self, passphrase: str | bytes | None = None, *, cipher: str = CIPHER, rounds: int | None = None
    ) -> bytes:
        """Return the content of a file in OpenSSH's format, the one that keeps the comment.

        Args:
            passphrase: encrypts the private half; None or an empty one leaves it readable.
            cipher: ``"aes256-ctr"`` or ``"aes256-gcm@openssh.com"``.
            rounds: of bcrypt, 1 to 2,048, for whoever guesses as for whoever knows.  None for OpenSSH's 24, which
                take 0.2 s.

        Raises:
            ValueError: there is no such cipher, or not so many rounds.
        """
        fields = Message(self._private_fields()).add_string(self.comment).asbytes()
        part = PrivatePart(self.key_type, fields, self.public_key.blob)
        return seal(part, _passphrase_bytes(passphrase), cipher, rounds)

    def to_pem(self, passphrase: str | bytes | None = None) -> bytes:
        """Return the content of a file as OpenSSL wrote it of old: PKCS#1, SEC1, or its like for DSA.

        Args:
            passphrase: encrypts the private half, but with a key that one round of MD5 makes of it: guessing is
                cheap.  Prefer `to_openssh` or `to_pkcs8`.

        Raises:
            ValueError: keys of this kind are not written so.
        """
        return write_pem(self._library_key(), _passphrase_bytes(passphrase), is_pkcs8=False)

    def to_pkcs8(self, passphrase: str | bytes | None = None) -> bytes:
        """Return the content of a PKCS#8 file, which most other programs read.

        Args:
            passphrase: encrypts the private half.

        Raises:
            ValueError: keys of this kind are not written so.
        """
        return write_pem(self._library_key(), _passphrase_bytes(passphrase), is_pkcs8=True)

    def _to_file_format(self, file_format: KeyFormat, password: str | bytes | None) -> bytes:
        match file_format:
            case "openssh":
                return self.to_openssh(password)
            case "pem":
                return self.to_pem(password)
            case "pkcs8":
                return self.to_pkcs8(password)
            case _:
                raise ValueError(f"private keys are written as 'openssh', 'pem' or 'pkcs8', not {file_format!r}")

    def write_private_key_file(
        self, path: FilePath, password: str | bytes | None = None, *, file_format: KeyFormat = "openssh"
    ) -> None:
        """Write the key to a file that only its owner can read.

        Args:
            path: the file.  It is created or replaced as a whole, with permissions 0600.
            password: encrypts the private half.
            file_format: OpenSSH's own, unless another program wants another.

        Raises:
            OSError: the file is as it was.
            ValueError: keys of this kind are not written in this format.
        """
        write_atomically(path, self._to_file_format(file_format, password), mode=0o600)

    def write_private_key(
        self,
        file_obj: IO[str] | IO[bytes],
        password: str | bytes | None = None,
        *,
        file_format: KeyFormat = "openssh",
    ) -> None:
        """As `write_private_key_file`, to an open file, text or binary."""
        data = self._to_file_format(file_format, password)
        file: IO[Any] = file_obj
        try:
            file.write(data)
        except TypeError:  # a text file takes no bytes, and says so before it writes any
            file.write(data.decode("ascii"))


def _passphrase_bytes(passphrase: str | bytes | None) -> bytes | None:
    return passphrase.encode("utf-8", "surrogateescape") if isinstance(passphrase, str) else passphrase
