"""Private keys: what every kind of them can do, and how they come from files and go there."""

from __future__ import annotations

import base64
import hashlib
from abc import ABC, abstractmethod
from typing import IO, Any, ClassVar, Self

from trio_ssh.errors import KeyFileException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, reading, seal
from trio_ssh.keys.disk import KEY_FILE_BYTES, FilePath, shown_path, write_atomically
from trio_ssh.keys.formats import open_private_key, open_private_key_file
from trio_ssh.keys.public_key import PublicKey, signature_head
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable


class PKey(ABC):
    """A private key, with the public key that belongs to it.

    Called on `PKey`, the ``from_`` methods read a key of any kind; on one of its subclasses, a key of that
    kind only.

    Attributes:
        public_key: the public half.
        comment: what a person calls the key; often ``user@host``.
    """

    __slots__ = ("comment", "public_key")

    #: The types that are keys of this kind.
    KEY_TYPES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, public_key: PublicKey, comment: str = "") -> None:
        self.public_key: PublicKey = public_key
        self.comment: str = comment

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

    # -- what it is

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
        return self.public_key.fingerprint()

    def get_name(self) -> str:
        """Return the key's type on the wire, such as ``"ssh-ed25519"``."""
        return self.public_key.key_type

    def get_bits(self) -> int:
        """Return the key's size."""
        return self.public_key.bits

    def get_fingerprint(self) -> bytes:
        """Return the 16 bytes of the MD5 fingerprint.  Show `fingerprint` to people."""
        return hashlib.md5(self.public_key.blob, usedforsecurity=False).digest()

    def asbytes(self) -> bytes:
        """Return the blob of the public half."""
        return self.public_key.blob

    def get_base64(self) -> str:
        """Return the blob of the public half in base64, as in a ``.pub`` file."""
        return base64.b64encode(self.public_key.blob).decode("ascii")

    def __eq__(self, other: object) -> bool:
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
            algorithm: one of `algorithms`, by default the first.

        Returns:
            The signature as on the wire: the algorithm's name, and the signature proper, each a string.

        Raises:
            LocalProtocolError: the key can't sign with that algorithm.

        Source: RFC 4253 s6.6.
        """
        algorithm = algorithm or self.algorithms[0]
        if algorithm not in self.algorithms:
            raise LocalProtocolError(
                f"an {self.key_type} key signs with {' or '.join(self.algorithms)}, not {algorithm}"
            )
        raw = self._sign_raw(data, algorithm)
        return signature_head(algorithm) + len(raw).to_bytes(4, "big") + raw

    def verify(self, data: bytes, signature: bytes, algorithm: str | None = None) -> None:
        """As `PublicKey.verify`, of the public half; by default with the first of `algorithms`."""
        self.public_key.verify(data, signature, algorithm or self.algorithms[0])

    # -- reading

    @classmethod
    def from_private_key_file(
        cls, path: FilePath, password: str | bytes | None = None, *, check_permissions: bool = True
    ) -> Self:
        """Read a private key from a file.

        Args:
            path: the file, in OpenSSH's format or in PEM.
            password: the passphrase, if the key is encrypted.
            check_permissions: whether a file of ours that others may read is refused, as OpenSSH refuses it.

        Raises:
            PasswordRequiredException: the key is encrypted, and no passphrase was given.
            KeyFileException: for any other reason that there is no key; the text says what to do.
        """
        part = open_private_key_file(path, password, check_permissions=check_permissions)
        return cls._from_part(part, shown_path(path))

    @classmethod
    def from_path(cls, path: FilePath, passphrase: str | bytes | None = None) -> PKey:
        """As `from_private_key_file`, of any kind of key whatever the class it is called on."""
        return PKey.from_private_key_file(path, passphrase)

    @classmethod
    def from_private_key(cls, file_obj: IO[str] | IO[bytes], password: str | bytes | None = None) -> Self:
        """As `from_private_key_file`, from an open file, text or binary, such as an `io.StringIO`."""
        path: object = getattr(file_obj, "name", None)
        name = printable(path) if isinstance(path, str) else "the key"
        try:
            data: str | bytes = file_obj.read(KEY_FILE_BYTES + 1)
        except UnicodeDecodeError:
            raise KeyFileException(f"{name}: this is no text, and no key that we know of is anything else.") from None
        return cls.from_bytes(data, password, name=name)

    @classmethod
    def from_bytes(cls, data: str | bytes, password: str | bytes | None = None, *, name: str = "the key") -> Self:
        """As `from_private_key_file`, from the content of a file; `name` is how error messages call it."""
        if isinstance(data, str):
            data = data.encode("utf-8", "replace")  # a key is ASCII: what is replaced here was wrong before
        return cls._from_part(open_private_key(data, password, name), name)

    @classmethod
    def _from_part(cls, part: PrivatePart, name: str) -> Self:
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
        return key

    # -- writing

    def to_openssh(self, passphrase: str | bytes | None = None) -> bytes:
        """Return the content of a file in OpenSSH's format.

        Args:
            passphrase: encrypts the private half; None or an empty one leaves it readable.
        """
        if isinstance(passphrase, str):
            passphrase = passphrase.encode("utf-8", "surrogateescape")
        fields = Message(self._private_fields()).add_string(self.comment).asbytes()
        return seal(PrivatePart(self.key_type, fields, self.public_key.blob), passphrase)

    def write_private_key_file(self, path: FilePath, password: str | bytes | None = None) -> None:
        """Write the key to a file that only its owner can read, in OpenSSH's format.

        Args:
            path: the file.  It is created or replaced as a whole, with permissions 0600.
            password: encrypts the private half.

        Raises:
            OSError: the file is as it was.
        """
        write_atomically(path, self.to_openssh(password), mode=0o600)

    def write_private_key(self, file_obj: IO[str] | IO[bytes], password: str | bytes | None = None) -> None:
        """Write the key to an open file, text or binary, in OpenSSH's format."""
        data = self.to_openssh(password)
        file: IO[Any] = file_obj
        try:
            file.write(data)
        except TypeError:  # a text file takes no bytes, and says so before it writes any
            file.write(data.decode("ascii"))
