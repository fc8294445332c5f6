"""One line of a known_hosts file: for which hosts it is, and the key in it.

Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; what it leaves open is decided as OpenSSH's hostfile.c does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from typing import Final, Literal

import attrs

from trio_ssh.errors import KeyFileException
from trio_ssh.keys import patterns
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import is_certificate_type
from trio_ssh.keys.public_key import PublicKey, decode_blob, decode_public_key, is_known_type
from trio_ssh.keys.rsa import SMALLEST_BITS
from trio_ssh.wire.fields import STRING
from trio_ssh.wire.text import printable

Marker = Literal["cert-authority", "revoked", "certificate"]

_MARKERS: Final[dict[str, Marker]] = {"@cert-authority": "cert-authority", "@revoked": "revoked"}
_BLANKS: Final = re.compile("[ \t]+")
_SALT_BYTES: Final = 20

#: What a name that is added must not have: it would become a pattern, a list, a marker, a comment or another
#: line.
_NOT_IN_NAMES: Final = re.compile(r"[\x00-\x20\x7f,*?!|#@\ud800-\udfff]")


@attrs.frozen
class KnownKey:
    """A key on record.

    Attributes:
        key: the key of the host, or of the authority that certifies hosts.
        marker: None for a host's own key; ``"cert-authority"`` or ``"revoked"``; ``"certificate"`` where a certificate
            stands in the key's place, which shows the key to be nobody's.
        source: where it stands: ``file:line``.
    """

    key: PublicKey
    marker: Marker | None
    source: str


@attrs.define
class Line:
    """One line of a file.

    Attributes:
        text: the line as it was read, without its line end.
        known: the key in it, or None if there is none that we understand.
        spelled: the names as they are spelled; empty where the line is for nobody.
        names: the names that it is for: all of them, exactly.
        name_patterns: patterns of names, where there are any; then `names` is empty.
        hashed: salt and digest of the name, where it was hashed; then `names` is empty.
        is_marked: it has a marker, so that its key is not simply a host's.
        path: the file that it stands in already.
    """

    text: str
    known: KnownKey | None = None
    spelled: str = ""
    names: frozenset[str] = frozenset()
    name_patterns: tuple[str, ...] = ()
    hashed: tuple[bytes, bytes] | None = None
    is_marked: bool = False
    path: str | None = None

    def is_for(self, hostname: str) -> bool:
        """Whether it is about this host, whose name is in lower case."""
        if self.hashed is not None:
            salt, digest = self.hashed
            return _digest(salt, hostname) == digest
        if self.name_patterns:
            return patterns.matches_any(self.name_patterns, hostname)
        return hostname in self.names

    @property
    def is_plain(self) -> bool:
        """Whether it says nothing but one host's key."""
        is_key = self.known is None or self.known.marker is None
        return not self.is_marked and is_key and (self.hashed is not None or len(self.names) == 1)

    def with_hashed_names(self) -> list[Line]:
        """Return what takes the line's place where names shall not be shown: a line per name, each as good as before.

        A line that is for patterns, or marked, or for nobody, stays as it is, as for ``ssh-keygen -H``.
        """
        if self.is_marked or not self.names:
            return [self]
        _, behind = _BLANKS.split(self.text.strip(" \t\r"), 1)
        # A set has no order, and the file shall have one.
        names = [name for name in dict.fromkeys(lower(self.spelled).split(",")) if name]
        return [
            attrs.evolve(
                self,
                text=f"{spelled} {behind}",
                spelled=spelled,
                names=frozenset[str](),
                hashed=parse_hashed(spelled),
            )
            for spelled in map(hash_name, names)
        ]


def hash_name(hostname: str, salt: bytes | None = None) -> str:
    """Return a name as ``|1|salt|hash``; the salt has 20 bytes, and is random unless given."""
    if salt is None:
        salt = os.urandom(_SALT_BYTES)
    if len(salt) != _SALT_BYTES:
        raise ValueError(f"the salt has {_SALT_BYTES} bytes, not {len(salt)}")
    digest = _digest(salt, lower(hostname))
    return f"|1|{base64.b64encode(salt).decode('ascii')}|{base64.b64encode(digest).decode('ascii')}"


def checked_name(hostname: str) -> str:
    """Return a name as it may stand in a line, in lower case or hashed.

    Raises:
        KeyFileException: it can't be one host's name.
    """
    if hostname.startswith("|"):
        parse_hashed(hostname)
        return hostname
    if _NOT_IN_NAMES.search(hostname) or not hostname:
        raise KeyFileException(f"no host has the name '{printable(hostname)}'")
    return lower(hostname)


def lower(hostname: str) -> str:
    """Lower ASCII letters only, as OpenSSH does: no other character may become one of them."""
    if hostname.isascii():
        return hostname.lower()
    return hostname.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def parse_line(text: str, source: str) -> Line:
    """Read one line.

    Raises:
        KeyFileException, RemoteProtocolError: it is malformed.
    """
    content = text.strip(" \t\r")
    if not content or content.startswith("#"):
        return Line(text)
    marker: Marker | None = None
    if content.startswith("@"):
        word, *rest = _BLANKS.split(content, 1)
        if word not in _MARKERS:
            raise KeyFileException(f"the marker {printable(word, 40)} is unknown")
        marker = _MARKERS[word]
        content = rest[0] if rest else ""
        if content.startswith("@"):
            raise KeyFileException("a line has one marker at most")
    words = _BLANKS.split(content, 3)
    if len(words) < 3 or words[1].startswith("#") or words[2].startswith("#"):
        raise KeyFileException("the line ends before a key")
    names, key_type, encoded = words[:3]
    line = _parse_names(names, text)
    line.is_marked = marker is not None
    if is_known_type(key_type):
        # A short RSA key on record may be a revoked one.  Whether a server may show one is decided where it
        # is shown.
        key = decode_public_key(key_type, encoded, minimum_rsa_bits=SMALLEST_BITS)
        line.known = KnownKey(key, marker, source)
    elif is_certificate_type(key_type) and marker != "cert-authority":
        line.known = KnownKey(_certified_key(key_type, encoded), marker or "certificate", source)
    else:
        _check_foreign_key(key_type, encoded)
    return line


def _parse_names(names: str, text: str) -> Line:
    if names.startswith("|"):
        return Line(text, spelled=names, hashed=parse_hashed(names))
    every = lower(names).split(",")
    if max(map(len, every)) > patterns.LONGEST:
        raise KeyFileException(f"a host name of more than {patterns.LONGEST} characters")
    if any(character in names for character in "*?!"):
        return Line(text, spelled=names, name_patterns=tuple(every))
    return Line(text, spelled=names, names=frozenset(every) - {""})


def parse_hashed(names: str) -> tuple[bytes, bytes]:
    """Read a hashed name: its salt and its digest.

    Raises:
        KeyFileException: it is none.
    """
    parts = names.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise KeyFileException("the hashed host name is not |1|salt|hash")
    try:
        salt, digest = (binascii.a2b_base64(part, strict_mode=True) for part in parts[2:])
    except ValueError:
        raise KeyFileException("the hashed host name is not base64") from None
    if len(salt) != _SALT_BYTES or len(digest) != 20:
        raise KeyFileException("the hashed host name is not of the length that SHA-1 has")
    return salt, digest


def _digest(salt: bytes, hostname: str) -> bytes:
    return hmac.digest(salt, hostname.encode("utf-8", "surrogatepass"), "sha1")


def _certified_key(key_type: str, encoded: str) -> PublicKey:
    """Return the key of a certificate.  A line that revokes it revokes the key, as for ssh."""
    certificate = Certificate.from_blob(decode_blob(encoded), minimum_rsa_bits=SMALLEST_BITS)
    if certificate.key_type != key_type:
        raise KeyFileException(f"the line says {printable(key_type, 64)}, but the key is of another type")
    return certificate.public_key


def _check_foreign_key(key_type: str, encoded: str) -> None:
    """Accept a key of a type that we can't use, as long as it may be one: others read the file too."""
    if key_type.isdecimal():
        raise KeyFileException("a key of SSH 1")
    name, _ = STRING.read(decode_blob(encoded), 0)
    if name != key_type.encode("utf-8", "surrogateescape"):
        raise KeyFileException(f"the line says {printable(key_type, 64)}, but the key is of another type")
