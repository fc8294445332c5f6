"""Public keys, from the wire and from a line of text.

A kind of key is a module with a subclass of `PublicKey` and one of `PKey`.  It says what its blob looks like
and how it signs; names of signatures, fingerprints and files are alike for all kinds, and not its business.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from abc import ABC, abstractmethod
from typing import ClassVar, Final, Self, TypeVar

from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.randomart import draw
from trio_ssh.keys.rfc4716 import BEGIN, armour, unarmour
from trio_ssh.wire.fields import STRING
from trio_ssh.wire.text import printable

_U32: Final = struct.Struct(">I")


def signature_head(algorithm: str) -> bytes:
    """Return what every signature of this algorithm begins with: its name, as a string of RFC 4251."""
    return _U32.pack(len(algorithm)) + algorithm.encode("ascii")


class PublicKey(ABC):
    """A public key: of a host, of a user, of an authority.

    Attributes:
        key_type: its type on the wire, such as ``"ssh-ed25519"``.
        blob: the key as RFC 4253 s6.6 encodes it.  Two keys are equal if their blobs are.
        algorithms: the signature algorithms it verifies, best first.
        legacy_algorithms: those that are broken, or about to be.  Nothing chooses them by itself: they verify
            and sign only for who names them.
        bits: its size.
    """

    __slots__ = ("_heads", "algorithms", "bits", "blob", "key_type", "legacy_algorithms")

    #: The types that are keys of this kind.
    KEY_TYPES: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        key_type: str,
        blob: bytes,
        algorithms: tuple[str, ...],
        bits: int,
        legacy_algorithms: tuple[str, ...] = (),
    ) -> None:
        self.key_type: str = key_type
        self.blob: bytes = blob
        self.algorithms: tuple[str, ...] = algorithms
        self.legacy_algorithms: tuple[str, ...] = legacy_algorithms
        self.bits: int = bits
        self._heads = {algorithm: signature_head(algorithm) for algorithm in (*algorithms, *legacy_algorithms)}

    @classmethod
    @abstractmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob of one of `KEY_TYPES`.

        Raises:
            RemoteProtocolError: it is not exactly the encoding of a usable key.
        """

    @abstractmethod
    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        """Whether `raw`, what follows the algorithm's name in a signature, is this key's over `data`."""

    def verify(self, data: bytes, signature: bytes, algorithm: str) -> None:
        """Do nothing if `signature` was made over `data` with this key's private half.

        Args:
            data: what was signed.
            signature: as on the wire: the algorithm's name, and the signature proper, each a string.
            algorithm: the one that was agreed on or announced; the name in the signature must be the same.
                Never take it from the signature alone: whoever made that could choose a legacy one.

        Raises:
            RemoteProtocolError: it is anything else.

        Source: RFC 4253 s6.6.
        """
        offset = self._past_head(signature, algorithm)
        start = offset + 4
        if len(signature) < start or _U32.unpack_from(signature, offset)[0] != len(signature) - start:
            raise RemoteProtocolError(f"an {algorithm} signature is not of the length it says")
        if not self._is_valid(signature[start:], data, algorithm):
            raise RemoteProtocolError(f"a signature by {self} is wrong")

    def _past_head(self, signature: bytes, algorithm: str) -> int:
        """Return where a signature goes on behind its algorithm's name, which must be this one."""
        head = self._heads.get(algorithm)
        if head is None:
            raise RemoteProtocolError(f"an {self.key_type} key can't sign with {printable(algorithm)}")
        if not signature.startswith(head):
            raise RemoteProtocolError(f"a signature is not of the agreed algorithm, {algorithm}")
        return len(head)

    def can_verify(self, algorithm: str) -> bool:
        """Whether it verifies signatures of this algorithm, be it a legacy one."""
        return algorithm in self._heads

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` shows it, ``SHA256:...``."""
        return self.fingerprint_by("sha256")

    def fingerprint_by(self, hash_name: str) -> str:
        """Return the fingerprint by another hash, as ``ssh-keygen -l -E`` shows it: ``SHA512:...``, ``MD5:aa:bb:...``.

        Args:
            hash_name: a hash that hashlib knows.
        """
        digest = hashlib.new(hash_name, self.blob, usedforsecurity=False).digest()
        if hash_name.lower() == "md5":
            return "MD5:" + digest.hex(":")
        return f"{hash_name.upper()}:{base64.b64encode(digest).decode('ascii').rstrip('=')}"

    # -- paramiko's names: there, one class is both halves

    def get_name(self) -> str:
        """Return the key's type on the wire, such as ``"ssh-ed25519"``."""
        return self.key_type

    def get_bits(self) -> int:
        """Return the key's size in bits."""
        return self.bits

    def get_fingerprint(self) -> bytes:
        """Return the 16 bytes of the MD5 fingerprint.  Show `fingerprint` to people."""
        return hashlib.md5(self.blob, usedforsecurity=False).digest()

    def get_base64(self) -> str:
        """Return the blob in base64, as in a ``.pub`` file."""
        return base64.b64encode(self.blob).decode("ascii")

    def asbytes(self) -> bytes:
        """Return the blob."""
        return self.blob

    def randomart(self, hash_name: str = "sha256") -> str:
        """Return the picture of the key that `ssh-keygen -lv` draws: eleven lines, the last one without its end.

        Args:
            hash_name: a hash that hashlib knows; ssh-keygen draws other pictures of other hashes.
        """
        digest = hashlib.new(hash_name, self.blob, usedforsecurity=False).digest()
        return draw(digest, self.key_type, self.bits, hash_name)

    def to_rfc4716(self, comment: str = "") -> str:
        """Return the key in the armour of RFC 4716, as `ssh-keygen -e` writes it."""
        return armour(self.blob, comment)

    def to_openssh(self, comment: str = "") -> str:
        """Return the line that stands in a ``.pub`` file, without its end; control characters are escaped."""
        line = f"{self.key_type} {base64.b64encode(self.blob).decode('ascii')}"
        return f"{line} {printable(comment, 4096)}" if comment else line

    def __eq__(self, other: object) -> bool:
        return self.blob == other.blob if isinstance(other, PublicKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.blob)

    def __repr__(self) -> str:
        return f"<{self.key_type} {self.fingerprint}>"


Kind = TypeVar("Kind", bound=type[PublicKey])

_KINDS: Final[dict[bytes, type[PublicKey]]] = {}


def public_kind(kind: Kind) -> Kind:
    """Make a kind of key known to `parse_public_key`, under each of its types.

    Raises:
        ValueError: a type is known already.
    """
    for key_type in kind.KEY_TYPES:
        if key_type.encode("ascii") in _KINDS:
            raise ValueError(f"the key type {key_type!r} is registered already")
        _KINDS[key_type.encode("ascii")] = kind
    return kind


def is_known_type(key_type: str) -> bool:
    """Whether keys of this type can be read."""
    return key_type.encode("utf-8", "surrogatepass") in _KINDS


def parse_public_key(blob: bytes, *, minimum_rsa_bits: int = 2048) -> PublicKey:
    """Read a public key as it is on the wire.

    Args:
        blob: the whole of it: type, and what the type prescribes.
        minimum_rsa_bits: below which an RSA key is refused; less than 1,024 is in any case.

    Raises:
        RemoteProtocolError: the type is unknown; the key is cut short, too long, too weak, or no key at all.

    Source: RFC 4253 s6.6.
    """
    key_type, _ = STRING.read(blob, 0)
    kind = _KINDS.get(key_type)
    if kind is None:
        raise RemoteProtocolError(f"a public key of the unknown type '{printable(key_type, 64)}'")
    key = kind.from_blob(blob)
    if key.key_type == "ssh-rsa" and key.bits < minimum_rsa_bits:
        raise RemoteProtocolError(f"an RSA key of {key.bits} bits; at least {minimum_rsa_bits} are asked for")
    return key


def decode_public_key(key_type: str, encoded: str, *, minimum_rsa_bits: int = 2048) -> PublicKey:
    """Read a public key as it stands in text files: its type, and base64 of the blob, which says it again.

    Raises:
        KeyFileException: it is not a key.  The text names no file.
    """
    try:
        key = parse_public_key(decode_blob(encoded), minimum_rsa_bits=minimum_rsa_bits)
    except RemoteProtocolError as error:
        raise KeyFileException(f"not a usable public key: {error}") from None
    if key.key_type != key_type:
        raise KeyFileException(f"the line says {printable(key_type, 64)}, but the key is of the type {key.key_type}")
    return key


def decode_blob(encoded: str) -> bytes:
    """Undo the base64 of a key in a text file.

    Raises:
        RemoteProtocolError: it is not base64.
    """
    try:
        blob = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:  # binascii.Error, or text that isn't ASCII
        raise RemoteProtocolError("it is not base64") from None
    if len(encoded) % 4:  # padding that nothing wants, which the library passes over
        raise RemoteProtocolError("it is not base64")
    return blob


def load_public_key_line(text: str) -> tuple[PublicKey, str]:
    """Read the line of a ``.pub`` file.

    Returns:
        The key and its comment.

    Raises:
        KeyFileException: it is not one line of type, base64 and perhaps a comment, or no usable key.
    """
    line = text.strip()
    if "PRIVATE KEY" in line:
        raise KeyFileException("this is a private key. Give the .pub file beside it, or its content.")
    if "\n" in line or "\r" in line:
        raise KeyFileException("a public key is one line of text, and this is more. Give the content of a .pub file.")
    words = line.split(None, 2)
    if len(words) < 2:
        raise KeyFileException("a public key is one line of type, base64 and comment. Give the content of a .pub file.")
    return decode_public_key(words[0], words[1]), words[2].strip() if len(words) > 2 else ""


def load_public_key_text(text: str) -> tuple[PublicKey, str]:
    """Read a public key, be it a line or in the armour of RFC 4716; lines with comments may stand before it.

    Returns:
        The key and its comment.

    Raises:
        KeyFileException: there is no usable key in it.  The text names no file.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        del lines[0]
    text = "\n".join(lines)
    if not text.startswith(BEGIN):
        return load_public_key_line(text)
    try:
        blob, comment = unarmour(text)
        return parse_public_key(blob), comment
    except RemoteProtocolError as error:
        raise KeyFileException(f"not a usable public key: {error}. Restore it from a copy.") from None
