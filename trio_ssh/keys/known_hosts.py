"""Which host has which key: OpenSSH's known_hosts, read, searched, added to and saved.

A line that is not understood, and a comment, is kept as it is.  A line that is malformed is named in
`HostKeys.problems` and otherwise treated like one: a file that was damaged in one place goes on protecting
all other hosts.

Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; what it leaves open is decided as OpenSSH's hostfile.c and
sshconnect.c do.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hmac
import os
import re
from collections.abc import Iterator
from typing import Final, Literal, Self

import attrs

from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys import patterns
from trio_ssh.keys.disk import FilePath, read_list_file, shown_path, write_atomically
from trio_ssh.keys.public_key import PublicKey, decode_blob, decode_public_key, is_known_type
from trio_ssh.keys.rsa import SMALLEST_BITS
from trio_ssh.wire.fields import STRING
from trio_ssh.wire.text import printable

Marker = Literal["cert-authority", "revoked"]

_MARKERS: Final[dict[str, Marker]] = {"@cert-authority": "cert-authority", "@revoked": "revoked"}
_BLANKS: Final = re.compile("[ \t]+")
_SALT_BYTES: Final = 20

#: What a name that is added must not have: it would become a pattern, a list, a marker, a comment or another
#: line.
_NOT_IN_NAMES: Final = re.compile(r"[\x00-\x20\x7f,*?!|#@\ud800-\udfff]")


class HostKeyStatus(enum.Enum):
    """What is on record about a host and a key."""

    #: This key is on record for the host.
    KNOWN = "known"
    #: No key is on record for the host.
    UNKNOWN = "unknown"
    #: Other keys are on record for the host, and this one is not.
    CHANGED = "changed"
    #: This key must not be trusted for the host, whatever else is on record.
    REVOKED = "revoked"


@attrs.frozen
class KnownKey:
    """A key on record.

    Attributes:
        key: the key of the host, or of the authority that certifies hosts.
        marker: None for a host's own key; ``"cert-authority"`` or ``"revoked"``.
        source: where it stands: ``file:line``.
    """

    key: PublicKey
    marker: Marker | None
    source: str


@attrs.define
class _Line:
    """One line of a file.

    Attributes:
        text: the line as it was read, without its line end.
        known: the key in it, or None if there is none that we understand.
        names: the names that it is for: all of them, exactly.
        name_patterns: patterns of names, where there are any; then `names` is empty.
        hashed: salt and digest of the name, where it was hashed; then `names` is empty.
        path: the file that it stands in already.
    """

    text: str
    known: KnownKey | None = None
    names: frozenset[str] = frozenset()
    name_patterns: tuple[str, ...] = ()
    hashed: tuple[bytes, bytes] | None = None
    path: str | None = None

    def is_for(self, hostname: str) -> bool:
        if self.hashed is not None:
            salt, digest = self.hashed
            return _digest(salt, hostname) == digest
        if self.name_patterns:
            return patterns.matches_any(self.name_patterns, hostname)
        return hostname in self.names


def known_hosts_name(host: str, port: int) -> str:
    """Return the name that OpenSSH looks up: ``host`` for port 22, else ``[host]:port``; in lower case."""
    host = _lower(host)
    return host if port == 22 else f"[{host}]:{port}"


class HostKeys:
    """What is known of hosts' keys.

    Host names are those of `known_hosts_name`.  They are compared in lower case.

    Attributes:
        problems: lines that were not understood, each as ``file:line: why``.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._lines: list[_Line] = []

    @classmethod
    def from_text(cls, text: str, source: str = "known_hosts") -> Self:
        """Read the content of a known_hosts file; `source` is what its lines say they come from."""
        made = cls()
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        for number, line in enumerate(lines, 1):
            try:
                made._lines.append(_parse_line(line, f"{source}:{number}"))
            except (KeyFileException, RemoteProtocolError) as error:
                made._lines.append(_Line(line))
                made.problems.append(f"{source}:{number}: {error}")
        return made

    def __repr__(self) -> str:
        return f"<HostKeys: {sum(1 for _ in self._known())} keys, {len(self.problems)} problems>"

    def _known(self) -> Iterator[KnownKey]:
        return (line.known for line in self._lines if line.known is not None)

    def to_text(self) -> str:
        """Return all lines, as a file would have them."""
        return "".join(line.text + "\n" for line in self._lines)

    # -- asking

    def lookup(self, hostname: str) -> tuple[KnownKey, ...]:
        """Return all that is on record for a host, authorities and revoked keys too, in the lines' order."""
        hostname = _lower(hostname)
        return tuple(line.known for line in self._lines if line.known is not None and line.is_for(hostname))

    def check(self, hostname: str, key: PublicKey) -> HostKeyStatus:
        """Say what is on record about this host and this key.

        As OpenSSH's check_host_key does:

        * A key that was revoked is, even if the same key is on record besides.
        * A host with other keys on record has *changed*, also where they are of other types: who stands in
          between must not get away with a key of a type that was never seen.  (An honest server is spared
          this by a client that asks for a type on record first; see `key_types`.)
        * A host on another port than 22, of which nothing is on record, is known by its key for port 22.
        """
        status = self._check_name(hostname, key)
        portless = _without_port(hostname)
        if status is HostKeyStatus.UNKNOWN and portless is not None:
            fallback = self._check_name(portless, key)
            if fallback is not HostKeyStatus.CHANGED:  # other ports may well be other servers
                return fallback
        return status

    def _check_name(self, hostname: str, key: PublicKey) -> HostKeyStatus:
        known = self.lookup(hostname)
        if any(entry.marker == "revoked" and entry.key == key for entry in known):
            return HostKeyStatus.REVOKED
        own = [entry.key for entry in known if entry.marker is None]
        if key in own:
            return HostKeyStatus.KNOWN
        return HostKeyStatus.CHANGED if own else HostKeyStatus.UNKNOWN

    def key_types(self, hostname: str) -> tuple[str, ...]:
        """Return the types of the host's own keys on record, each once; a client asks for them first."""
        return tuple(dict.fromkeys(entry.key.key_type for entry in self.lookup(hostname) if entry.marker is None))

    # -- changing

    def add(self, hostname: str, key_type: str | None, key: PublicKey) -> None:
        """Put a key on record for a host, beside those that are; nothing changes if it is.

        Args:
            hostname: a name as `known_hosts_name` returns it, or one that `hash_host` has hashed.
            key_type: None, or the type of `key`.
            key: the host's key.

        Raises:
            ValueError: the name can't be one host's, or the type is not the key's.
        """
        if key_type is not None and key_type != key.key_type:
            raise ValueError(f"the key is of the type {key.key_type}, not {key_type}")
        try:
            if hostname.startswith("|"):
                _parse_hashed(hostname)
            elif _NOT_IN_NAMES.search(hostname) or not hostname:
                raise KeyFileException(f"no host has the name '{printable(hostname)}'")
            else:
                hostname = _lower(hostname)
            line = _parse_line(f"{hostname} {key.to_openssh()}", "added here")
        except KeyFileException as error:
            raise ValueError(str(error)) from None
        if not any(entry.marker is None and entry.key == key for entry in self.lookup(hostname)):
            self._lines.append(line)

    def merge(self, other: HostKeys) -> None:
        """Take over all lines and problems of `other`, behind ours."""
        self._lines.extend(attrs.evolve(line) for line in other._lines)
        self.problems.extend(other.problems)

    @staticmethod
    def hash_host(hostname: str, salt: bytes | None = None) -> str:
        """Return a name in the form that doesn't show it: ``|1|salt|hash``.

        Args:
            hostname: the name, as `known_hosts_name` returns it.
            salt: 20 bytes; random ones unless given.
        """
        if salt is None:
            salt = os.urandom(_SALT_BYTES)
        if len(salt) != _SALT_BYTES:
            raise ValueError(f"the salt has {_SALT_BYTES} bytes, not {len(salt)}")
        digest = _digest(salt, _lower(hostname))
        return f"|1|{base64.b64encode(salt).decode('ascii')}|{base64.b64encode(digest).decode('ascii')}"

    # -- files

    def load(self, path: FilePath) -> None:
        """Read a file, behind what is known already.

        Raises:
            OSError: there is no such file, or it can't be read.
            KeyFileException: it has more than 64 MiB.
        """
        read = HostKeys.from_text(read_list_file(path), shown_path(path))
        target = os.path.realpath(path)
        for line in read._lines:
            line.path = target
        self.merge(read)

    def save(self, path: FilePath) -> None:
        """Write all lines to a file, in one step; a file that is there keeps its permissions.

        What other programs have written to the file since it was loaded stays as it is, and only the lines
        that it lacks are put behind.  A line that was loaded from this very file and is gone by now was
        removed by someone, and stays away.

        Raises:
            OSError: the file is as it was.
        """
        target = os.path.realpath(path)
        missing = self._lines
        on_disk = ""
        try:
            on_disk = read_list_file(path)
        except FileNotFoundError:
            pass
        else:
            present = set(on_disk.split("\n"))
            missing = [line for line in missing if line.path != target and line.text not in present]
            if not missing:
                return
            if on_disk and not on_disk.endswith("\n"):
                on_disk += "\n"
        text = on_disk + "".join(line.text + "\n" for line in missing)
        write_atomically(path, text.encode("utf-8", "surrogateescape"))
        for line in missing:
            line.path = target


def _digest(salt: bytes, hostname: str) -> bytes:
    return hmac.digest(salt, hostname.encode("utf-8", "surrogatepass"), "sha1")


def _lower(hostname: str) -> str:
    """Lower ASCII letters only, as OpenSSH does: no other character may become one of them."""
    return hostname.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _without_port(hostname: str) -> str | None:
    host, separator, _ = hostname.rpartition("]:")
    return host[1:] if separator and host.startswith("[") else None


# -- one line ------------------------------------------------------------------------------------------------


def _parse_line(text: str, source: str) -> _Line:
    """Read one line.

    Raises:
        KeyFileException, RemoteProtocolError: it is malformed.
    """
    content = text.strip(" \t\r")
    if not content or content.startswith("#"):
        return _Line(text)
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
    if is_known_type(key_type):
        # A short RSA key on record may be a revoked one.  Whether a server may show one is decided where it
        # is shown.
        key = decode_public_key(key_type, encoded, minimum_rsa_bits=SMALLEST_BITS)
        line.known = KnownKey(key, marker, source)
    else:
        _check_foreign_key(key_type, encoded)
    return line


def _parse_names(names: str, text: str) -> _Line:
    if names.startswith("|"):
        return _Line(text, hashed=_parse_hashed(names))
    every = _lower(names).split(",")
    if max(map(len, every)) > patterns.LONGEST:
        raise KeyFileException(f"a host name of more than {patterns.LONGEST} characters")
    if any(character in names for character in "*?!"):
        return _Line(text, name_patterns=tuple(every))
    return _Line(text, names=frozenset(every) - {""})


def _parse_hashed(names: str) -> tuple[bytes, bytes]:
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


def _check_foreign_key(key_type: str, encoded: str) -> None:
    """Accept a key of a type that we can't use, as long as it may be one: others read the file too."""
    if key_type.isdecimal():
        raise KeyFileException("a key of SSH 1")
    name, _ = STRING.read(decode_blob(encoded), 0)
    if name != key_type.encode("utf-8", "surrogateescape"):
        raise KeyFileException(f"the line says {printable(key_type, 64)}, but the key is of another type")
