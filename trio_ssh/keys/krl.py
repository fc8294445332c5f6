"""Which keys and certificates are revoked: OpenSSH's key revocation lists, read and written.

A list is binary, or a text with a public key on each line.  A list that is damaged is refused as a whole: what can't be
read of it might have revoked the very key that is asked about.

Signatures of lists are read over, as OpenSSH does: a list is as good as whoever may write the file.

Source: OpenSSH PROTOCOL.krl; sshd_config(5), RevokedKeys.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, Self

from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import is_certificate_type
from trio_ssh.keys.disk import FilePath, read_file, shown_path, write_atomically
from trio_ssh.keys.public_key import PublicKey, decode_blob
from trio_ssh.keys.rsa import SMALLEST_BITS
from trio_ssh.wire.fields import (
    BYTE,
    STRING,
    TEXT,
    Boolean,
    MPInt,
    Rest,
    String,
    Structure,
    Text,
    UInt32,
    UInt64,
    structure,
)
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

_MAGIC: Final = b"SSHKRL\n\0"
_FORMAT: Final = 1
_U64: Final = struct.Struct(">Q")
_LARGEST_SERIAL: Final = 2**64 - 1

#: Bytes of the largest list that is read: some two million serial numbers, or 400,000 fingerprints.
KRL_BYTES: Final = 16 << 20


class Section(enum.IntEnum):
    """The kinds of sections that a list has."""

    CERTIFICATES = 1
    EXPLICIT_KEYS = 2
    FINGERPRINT_SHA1 = 3
    SIGNATURE = 4
    FINGERPRINT_SHA256 = 5
    EXTENSION = 255


class Subsection(enum.IntEnum):
    """The kinds of what is said of one authority's certificates."""

    SERIAL_LIST = 0x20
    SERIAL_RANGE = 0x21
    SERIAL_BITMAP = 0x22
    KEY_ID = 0x23
    EXTENSION = 0x39


@structure
class RevocationHeader(Structure):
    """What a list begins with, behind its magic words."""

    format_version: UInt32
    version: UInt64
    generated: UInt64
    flags: UInt64
    reserved: String
    comment: Text
    sections: Rest


@structure
class AuthoritySection(Structure):
    """What is revoked of one authority's certificates."""

    authority: String
    reserved: String
    subsections: Rest


@structure
class SerialRange(Structure):
    """All serial numbers from `first` to `last`."""

    first: UInt64
    last: UInt64


@structure
class SerialBitmap(Structure):
    """Serial numbers as bits, the lowest of which is `offset`."""

    offset: UInt64
    bits: MPInt


@structure
class Extension(Structure):
    """What a later version of the format may say, and whether it may be passed over."""

    name: Text
    is_critical: Boolean
    content: String


class _Serials:
    """A set of serial numbers that may have very many, most of them next to each other."""

    def __init__(self) -> None:
        #: Each an offset, and bits.
        self.bitmaps: list[tuple[int, int]] = []
        # Disjoint ranges in order, once they are settled.  A number takes 8 bytes here, and 40 in a list.
        self._firsts: array[int] = array("Q")
        self._lasts: array[int] = array("Q")
        self._is_settled = True

    def add(self, first: int, last: int) -> None:
        self._firsts.append(first)
        self._lasts.append(last)
        self._is_settled = False

    def add_bitmap(self, offset: int, bits: int) -> None:
        self.bitmaps.append((offset, bits))

    def ranges(self) -> Iterator[tuple[int, int]]:
        if not self._is_settled:
            self.settle()
        return zip(self._firsts, self._lasts, strict=True)

    def settle(self) -> None:
        """Put what was added in order; who reads a list does it, in a thread, rather than who asks first."""
        firsts: array[int] = array("Q")
        lasts: array[int] = array("Q")
        ordered: Iterable[tuple[int, int]]
        if self._firsts == self._lasts:
            # Measured: a list of 2 million numbers takes 7 s to be sorted as pairs, and 2 s as numbers.
            numbers = sorted(set(self._firsts))
            ordered = zip(numbers, numbers, strict=True)
        else:
            ordered = sorted(zip(self._firsts, self._lasts, strict=True))
        for first, last in ordered:
            if lasts and first <= lasts[-1] + 1:
                lasts[-1] = max(last, lasts[-1])
            else:
                firsts.append(first)
                lasts.append(last)
        self._firsts, self._lasts, self._is_settled = firsts, lasts, True

    def __contains__(self, serial: int) -> bool:
        if not self._is_settled:
            self.settle()
        place = bisect_right(self._firsts, serial) - 1
        if place >= 0 and serial <= self._lasts[place]:
            return True
        return any(serial >= offset and bits >> (serial - offset) & 1 for offset, bits in self.bitmaps)


class _Revoked:
    """What is revoked of one authority's certificates, or of all authorities'."""

    def __init__(self) -> None:
        self.serials = _Serials()
        self.key_ids: set[str] = set()

    def has(self, certificate: Certificate) -> bool:
        if certificate.key_id in self.key_ids:
            return True
        # 0 is what all the certificates have whose authority doesn't number them.  OpenSSH revokes none by it.
        return certificate.serial != 0 and certificate.serial in self.serials


class KeyRevocationList:
    """Keys and certificates that are no longer to be trusted, whatever else is on record.

    Args:
        version: the list's own number, which grows from one issue to the next.
        comment: what a person shall know of it.

    Attributes:
        version, comment: as above.
    """

    def __init__(self, version: int = 0, comment: str = "") -> None:
        self.version: int = version
        self.comment: str = comment
        self._blobs: set[bytes] = set()
        self._sha1: set[bytes] = set()
        self._sha256: set[bytes] = set()
        #: Blob of the authority, or b"" for any, to what is revoked.
        self._certified: dict[bytes, _Revoked] = {}

    # -- asking

    def is_revoked(self, key: PublicKey | Certificate) -> bool:
        """Whether the key is revoked; or, of a certificate, it itself, its key, or its authority."""
        if isinstance(key, PublicKey):
            return self._has(key)
        if self._has(key.public_key) or self._has(key.authority):
            return True
        sections = (self._certified.get(blob) for blob in (key.authority.blob, b""))
        return any(section is not None and section.has(key) for section in sections)

    def _has(self, key: PublicKey) -> bool:
        return (
            key.blob in self._blobs
            or (bool(self._sha256) and hashlib.sha256(key.blob).digest() in self._sha256)
            or (bool(self._sha1) and hashlib.sha1(key.blob, usedforsecurity=False).digest() in self._sha1)
        )

    def __repr__(self) -> str:
        keys = len(self._blobs) + len(self._sha1) + len(self._sha256)
        return f"<KeyRevocationList: {keys} keys, certificates of {len(self._certified)} authorities>"

    # -- revoking

    def revoke(self, key: PublicKey | Certificate) -> None:
        """Revoke a key, and every certificate of it; or one certificate, as ``ssh-keygen -k`` does.

        A certificate is revoked by its serial number; where it has none, by its key id, and so is every other of its
        authority's with that id.
        """
        if isinstance(key, PublicKey):
            self._blobs.add(key.blob)
        elif key.serial:
            self.revoke_serials(key.authority, key.serial)
        else:
            self.revoke_key_id(key.authority, key.key_id)

    def revoke_serials(self, authority: PublicKey | None, first: int, last: int | None = None) -> None:
        """Revoke certificates by their serial numbers.

        Args:
            authority: whose certificates; None for every authority's.
            first: a number from 1.
            last: the last number, if there are several.

        Raises:
            ValueError: the numbers are none, or not in order.
        """
        last = first if last is None else last
        if not 1 <= first <= last <= _LARGEST_SERIAL:
            raise ValueError(f"serial numbers are from 1 to 2**64 - 1 and in order, not {first} to {last}")
        self._of(authority).serials.add(first, last)

    def revoke_key_id(self, authority: PublicKey | None, key_id: str) -> None:
        """Revoke an authority's certificates, or with None every authority's, by their key id."""
        self._of(authority).key_ids.add(key_id)

    def _of(self, authority: PublicKey | None) -> _Revoked:
        given: object = authority
        if not isinstance(given, PublicKey | None):
            raise TypeError(f"an authority is a public key, or None for every one, not {type(given).__name__}")
        return self._certified.setdefault(b"" if authority is None else authority.blob, _Revoked())

    # -- files

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Read a list, binary or text.

        Raises:
            OSError: there is no such file, or it can't be read.  Trust no key then.
            KeyFileException: it is no such list, or damaged, or has more than 16 MiB.
        """
        return cls.from_bytes(read_file(path, KRL_BYTES)[0], shown_path(path))

    @classmethod
    def from_bytes(cls, data: bytes, source: str = "the revocation list") -> Self:
        """Read the content of a list; `source` is how errors call it.

        Raises:
            KeyFileException: it is no such list, or damaged.
        """
        if len(data) > KRL_BYTES:
            raise KeyFileException(f"{source}: it has more than {KRL_BYTES >> 20} MiB, as no such list has.")
        made = cls()
        if not data.startswith(_MAGIC):
            made._read_lines(data.decode("utf-8", "surrogateescape"), source)
            return made
        try:
            made._read_sections(data)
        except RemoteProtocolError as error:
            raise KeyFileException(
                f"{source}: the revocation list is damaged ({error}). Restore it, and trust no key until then."
            ) from None
        return made

    def to_bytes(self, generated: float = 0) -> bytes:
        """Return the list in its binary form.

        Args:
            generated: seconds since the epoch, as the time at which it was made.
        """
        out = Message(_MAGIC).add_int(_FORMAT).add_int64(self.version).add_int64(int(generated)).add_int64(0)
        out.add_string(b"").add_string(self.comment)
        for authority, revoked in sorted(self._certified.items()):
            section = Message().add_string(authority).add_string(b"").add_bytes(_pack_revoked(revoked))
            out.add_byte(Section.CERTIFICATES).add_string(section.asbytes())
        for kind, values in (
            (Section.EXPLICIT_KEYS, self._blobs),
            (Section.FINGERPRINT_SHA1, self._sha1),
            (Section.FINGERPRINT_SHA256, self._sha256),
        ):
            if values:
                out.add_byte(kind).add_string(_pack_strings(sorted(values)))
        return out.asbytes()

    def save(self, path: FilePath, *, generated: float = 0) -> None:
        """Write the list to a file, in its binary form and in one step.

        Args:
            path: the file.
            generated: seconds since the epoch, as the time at which it was made.

        Raises:
            OSError: the file is as it was.
        """
        write_atomically(path, self.to_bytes(generated))

    # -- reading

    def _read_lines(self, text: str, source: str) -> None:
        for number, line in enumerate(text.split("\n"), 1):
            content = line.strip(" \t\r")
            if not content or content.startswith("#"):
                continue
            words = content.split(maxsplit=2)
            try:
                if len(words) < 2:
                    raise RemoteProtocolError("the line ends before a key")
                blob = decode_blob(words[1])
                if TEXT.read(blob, 0)[0] != words[0]:
                    raise RemoteProtocolError("it is of another type than the line says")
                self._blobs.add(_plain_blob(blob))
            except RemoteProtocolError as error:
                raise KeyFileException(
                    f"{source}:{number}: '{printable(content, 40)}' revokes no key: {error}. "
                    "Correct the line, and trust no key until then."
                ) from None

    def _read_sections(self, data: bytes) -> None:
        header = RevocationHeader.decode(data, len(_MAGIC))
        if header.format_version != _FORMAT:
            raise RemoteProtocolError(f"its format is of the version {header.format_version}")
        self.version = header.version
        self.comment = header.comment
        is_signed = False
        for kind, content in _sections(header.sections):
            if kind == Section.SIGNATURE:
                is_signed = True
            elif is_signed:
                raise RemoteProtocolError("something stands behind its signature")
            else:
                self._read_section(kind, content)
        for revoked in self._certified.values():
            revoked.serials.settle()

    def _read_section(self, kind: int, content: bytes) -> None:
        match kind:
            case Section.CERTIFICATES:
                section = AuthoritySection.decode(content)
                if section.authority:
                    _check_blob(section.authority)
                _read_revoked(self._certified.setdefault(section.authority, _Revoked()), section.subsections)
            case Section.EXPLICIT_KEYS:
                self._blobs.update(map(_plain_blob, _strings(content)))
            case Section.FINGERPRINT_SHA1:
                self._sha1.update(_digests(content, 20))
            case Section.FINGERPRINT_SHA256:
                self._sha256.update(_digests(content, 32))
            case Section.EXTENSION:
                _refuse_if_critical(content)
            case _:
                raise RemoteProtocolError(f"a section of the unknown kind {kind}")


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the content of each section; of a signature, the key that made it."""
    offset = 0
    while offset < len(data):
        kind, offset = BYTE.read(data, offset)
        content, offset = STRING.read(data, offset)
        if kind == Section.SIGNATURE:
            _, offset = STRING.read(data, offset)
        yield kind, content


def _strings(data: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        value, offset = STRING.read(data, offset)
        yield value


def _digests(data: bytes, length: int) -> Iterator[bytes]:
    for digest in _strings(data):
        if len(digest) != length:
            raise RemoteProtocolError(f"a fingerprint of {len(digest)} bytes instead of {length}")
        yield digest


def _check_blob(blob: bytes) -> None:
    """Refuse what is no key of any kind: all of them are strings, one after the other, a type first.

    That it is one of a kind that we can use is not asked: a short RSA key may be revoked too.
    """
    if sum(1 for _ in _strings(blob)) < 2:
        raise RemoteProtocolError("a key that is none")


def _plain_blob(blob: bytes) -> bytes:
    """Return the blob of the key that is to be revoked; of a certificate, that of its key, as OpenSSH does."""
    key_type, _ = TEXT.read(blob, 0)
    if is_certificate_type(key_type):
        return Certificate.from_blob(blob, minimum_rsa_bits=SMALLEST_BITS).public_key.blob
    _check_blob(blob)
    return blob


def _read_revoked(revoked: _Revoked, data: bytes) -> None:
    for kind, content in _sections(data):
        match kind:
            case Subsection.SERIAL_LIST:
                if len(content) % _U64.size:
                    raise RemoteProtocolError("a list of serial numbers ends inside one")
                for (serial,) in _U64.iter_unpack(content):
                    revoked.serials.add(serial, serial)
            case Subsection.SERIAL_RANGE:
                numbers = SerialRange.decode(content)
                if numbers.first > numbers.last:
                    raise RemoteProtocolError("a range of serial numbers ends before it begins")
                revoked.serials.add(numbers.first, numbers.last)
            case Subsection.SERIAL_BITMAP:
                bitmap = SerialBitmap.decode(content)
                if bitmap.bits < 0 or bitmap.offset + bitmap.bits.bit_length() > _LARGEST_SERIAL + 1:
                    raise RemoteProtocolError("a bitmap of what are no serial numbers")
                revoked.serials.add_bitmap(bitmap.offset, bitmap.bits)
            case Subsection.KEY_ID:
                revoked.key_ids.update(key_id.decode("utf-8", "surrogateescape") for key_id in _strings(content))
            case Subsection.EXTENSION:
                _refuse_if_critical(content)
            case _:
                raise RemoteProtocolError(f"something of the unknown kind {kind} about an authority's certificates")


def _refuse_if_critical(content: bytes) -> None:
    extension = Extension.decode(content)
    if extension.is_critical:
        raise RemoteProtocolError(f"the extension '{printable(extension.name, 64)}', which must not be passed over")


# -- writing


def _pack_revoked(revoked: _Revoked) -> bytes:
    out = Message()
    singles = b"".join(_U64.pack(first) for first, last in revoked.serials.ranges() if first == last)
    if singles:
        out.add_byte(Subsection.SERIAL_LIST).add_string(singles)
    for first, last in revoked.serials.ranges():
        if first != last:
            out.add_byte(Subsection.SERIAL_RANGE).add_string(SerialRange(first, last).encode())
    for offset, bits in revoked.serials.bitmaps:
        out.add_byte(Subsection.SERIAL_BITMAP).add_string(SerialBitmap(offset, bits).encode())
    if revoked.key_ids:
        key_ids = sorted(key_id.encode("utf-8", "surrogateescape") for key_id in revoked.key_ids)
        out.add_byte(Subsection.KEY_ID).add_string(_pack_strings(key_ids))
    return out.asbytes()


def _pack_strings(values: Iterable[bytes]) -> bytes:
    packed = Message()
    for value in values:
        packed.add_string(value)
    return packed.asbytes()
