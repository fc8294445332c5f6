"""Which keys may log in, and what with: OpenSSH's authorized_keys.

Every option is read, and what it says is in the `KeyRestrictions` that come with a login; `ServerInterface` obeys them.
A line with an option that is unknown or malformed lets nobody in, and is named in `AuthorizedKeys.problems`: a
restriction that isn't enforced would be a permission.

Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT; OpenSSH's auth-options.c and auth2-pubkeyfile.c.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

import attrs

from trio_ssh.errors import CertificateException, KeyFileException
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.disk import FilePath, read_list_file, shown_path
from trio_ssh.keys.key_restrictions import ForwardingPermit, KeyRestrictions, as_network
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.patterns import LONGEST
from trio_ssh.keys.public_key import PublicKey, decode_public_key, is_known_type
from trio_ssh.keys.times import read_time
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.auth")

_BLANKS: Final = re.compile("[ \t]+")

#: A name, and perhaps a value in quotes, in which \" is a quote.  No two of its parts can match the same
#: text, so it is linear.
_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\"|\\(?!"))*)")?')

Options = tuple[tuple[str, str | None], ...]
"""Name and value of each option; None where there is no value."""


#: Variables, and places to forward to or from, in one line; as OpenSSH has it.
MAX_ENVIRONMENT: Final = 1024
MAX_PERMITS: Final = 4096

_UNRESTRICTED: Final = KeyRestrictions()


def _shown(options: Options) -> str:
    """Return options as a `repr` shows them: the value of a variable may be a secret."""
    return repr(tuple((name, "..." if name == "environment" else value) for name, value in options))


@attrs.frozen
class AuthorizedKey:
    """A key that may log in, or an authority whose certificates may.

    Attributes:
        key: the key.
        comment: what stands behind it on its line.
        source: where it stands: ``file:line``.
        options: what stands before it on its line.
        restrictions: what the options say of a login.
        is_authority: ``cert-authority``: the key itself lets nobody in, but the certificates that it signed do.
        principals: the names of which such a certificate must have one; None for the user's own.
    """

    key: PublicKey
    comment: str
    source: str
    options: Options = attrs.field(default=(), repr=_shown)
    restrictions: KeyRestrictions = _UNRESTRICTED
    is_authority: bool = False
    principals: tuple[str, ...] | None = None

    def authorize(
        self,
        key: PublicKey | Certificate,
        username: str,
        *,
        now: float,
        address: str | None = None,
        hostname: str | None = None,
    ) -> KeyRestrictions:
        """Return what a login by this key or certificate may do.  The line must be one about it: see `AuthorizedKeys`.

        Raises:
            CertificateException: there is no such login; the text says why.
        """
        if self.principals is not None and not self.is_authority:
            raise CertificateException(f"{self.source}: principals= is for lines with cert-authority")
        restrictions = self.restrictions
        if isinstance(key, Certificate):
            # Its own names, times and networks are checked here as well; only what it grants is left to do.
            names: str | Collection[str] = username if self.principals is None else self.principals
            key.check_for_user(names, authorities=(self.key,), now=now, address=address)
            restrictions = restrictions.merged(KeyRestrictions.of_certificate(key))
        objection = restrictions.objection(now=now, address=address, hostname=hostname)
        if objection:
            raise CertificateException(f"{self.source}: {objection}")
        return restrictions


#: Problems that are told of one list: whose it is may not be whoever reads the log.
_MOST_PROBLEMS: Final = 100


class AuthorizedKeys:
    """The keys that may log in as one user, and the authorities whose certificates may.

    Args:
        authorities: keys that certify users beside those with ``cert-authority`` in the file; what sshd's
            ``TrustedUserCAKeys`` names.  A certificate of theirs must name the user.
        revoked: keys and certificates that let nobody in, whatever else says so.

    Attributes:
        problems: lines that let nobody in though they seem to be meant to, each as ``file:line: why``, the first
            hundred; logged as well.
    """

    def __init__(self, *, authorities: Collection[PublicKey] = (), revoked: KeyRevocationList | None = None) -> None:
        self.problems: list[str] = []
        self._entries: dict[PublicKey, list[AuthorizedKey]] = {}
        self._refused: set[PublicKey] = set()
        self._revoked = revoked
        self._authorities = {
            # sshd heeds what such a certificate says of touching; there is no line that could say otherwise.
            key: AuthorizedKey(
                key, "", "the trusted authorities", (), KeyRestrictions(allow_untouched=True), is_authority=True
            )
            for key in authorities
        }

    @classmethod
    def from_text(
        cls,
        text: str,
        source: str = "authorized_keys",
        *,
        authorities: Collection[PublicKey] = (),
        revoked: KeyRevocationList | None = None,
    ) -> Self:
        """Read the content of an authorized_keys file; `source` is what its lines say they come from."""
        made = cls(authorities=authorities, revoked=revoked)
        for number, line in enumerate(text.split("\n"), 1):
            content = line.strip(" \t\r")
            if content and not content.startswith("#"):
                made._read_line(content, f"{source}:{number}")
        for problem in made.problems:
            _log.warning("a line of authorized_keys lets nobody in: %s", problem)
        return made

    @classmethod
    def load(
        cls,
        path: FilePath,
        *,
        check_permissions: bool = True,
        max_bytes: int = 1 << 20,
        authorities: Collection[PublicKey] = (),
        revoked: KeyRevocationList | None = None,
    ) -> Self:
        """Read a file.

        Args:
            path: the file.
            check_permissions: whether a file is refused that others than its owner and root may write to, or put
                another in the place of, as sshd refuses it.  The owner is the user who runs this program, unless that
                is root.
            max_bytes: of the file, which is read anew for each key that anybody shows: a mebibyte are ten thousand
                keys, and with options a second's work.
            authorities, revoked: as for the class.

        Raises:
            OSError: there is no such file, or it can't be read.
            KeyFileException: it has more than `max_bytes`, or is in the hands of others, or no plain file, or a private
                key.
        """
        text = read_list_file(path, check_permissions=check_permissions, is_plain=True, limit_bytes=max_bytes)
        if text.lstrip().startswith("-----BEGIN"):
            # Its lines would be told as problems, and are secret.
            raise KeyFileException(f"{shown_path(path)}: this is a private key, and not a list of public ones.")
        return cls.from_text(text, shown_path(path), authorities=authorities, revoked=revoked)

    def lookup(self, key: PublicKey) -> AuthorizedKey | None:
        """Return the line that lets this key in whatever it does, or None.

        For a decision that enforces no options: a key whose first line has any is not found.  `authorize` finds it.
        """
        if key in self._refused or self._is_revoked(key):
            return None
        entry = next(iter(self._entries.get(key, ())), None)
        return entry if entry is not None and not entry.options else None

    def authorize(
        self,
        key: PublicKey | Certificate,
        username: str,
        *,
        now: float,
        address: str | None = None,
        hostname: str | None = None,
    ) -> KeyRestrictions | None:
        """Return what a login by this key or certificate may do, or None if there is no such login.

        The first line counts that is about the key and lets it in from there, now.  Why others don't is logged.

        Args:
            key: what the client has, or says it has.
            username: whom it wants to be.
            now: seconds since the epoch.
            address: where it comes from, as numbers; without it, whatever is bound to addresses is refused.
            hostname: its name, if it was looked up and checked.
        """
        if self._is_revoked(key):
            _log.info("%s was refused: it is revoked", key)
            return None
        for entry in self._about(key):
            try:
                return entry.authorize(key, username, now=now, address=address, hostname=hostname)
            except CertificateException as error:
                _log.info("%s does not log %s in: %s", key, printable(username, 64), error)
        return None

    def _about(self, key: PublicKey | Certificate) -> Iterator[AuthorizedKey]:
        if not isinstance(key, Certificate):
            yield from (entry for entry in self._entries.get(key, ()) if not entry.is_authority)
            return
        if key.authority in self._authorities:
            yield self._authorities[key.authority]
        yield from (entry for entry in self._entries.get(key.authority, ()) if entry.is_authority)

    def _is_revoked(self, key: PublicKey | Certificate) -> bool:
        revoked = self._revoked
        if revoked is None:
            return False
        return revoked.is_revoked(key) or (isinstance(key, Certificate) and revoked.is_revoked(key.authority))

    def __repr__(self) -> str:
        accepted = sum(map(len, self._entries.values()))
        return f"<AuthorizedKeys: {accepted} keys, {len(self.problems)} problems>"

    def _note(self, problem: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)
        elif len(self.problems) == _MOST_PROBLEMS:
            self.problems.append(f"{problem}; of whatever follows, nothing is said")

    def _read_line(self, content: str, source: str) -> None:
        try:
            options, key_type, encoded, comment = _parse_line(content)
            key = decode_public_key(key_type, encoded)
        except KeyFileException as error:
            self._note(f"{source}: {error}")
            return
        try:
            read = _Read(options)
        except KeyFileException as error:
            self._note(f"{source}: {error}, so the key is refused")
            if key not in self._entries:
                self._refused.add(key)
            return
        restrictions = KeyRestrictions(**read.values) if options else _UNRESTRICTED
        entry = AuthorizedKey(key, comment, source, options, restrictions, read.is_authority, read.principals)
        self._entries.setdefault(key, []).append(entry)


# -- options

#: Name -> attribute of `KeyRestrictions`; with ``no-`` in front each is taken away.
_GRANTS: Final = {
    "port-forwarding": "port_forwarding",
    "agent-forwarding": "agent_forwarding",
    "x11-forwarding": "x11_forwarding",
    "pty": "pty",
    "user-rc": "user_rc",
}

_VARIABLE: Final = re.compile(r"([A-Za-z0-9_]+)=(.*)", re.DOTALL)
_PERMIT: Final = re.compile(r"(?:\[([^\]\s]*)\]|([^:\s]*)):(\*|[0-9]{1,5})")


def _shown_name(name: str) -> str:
    """Return an option's name for the log, unless it is none: the file may be another than it should be, and secret."""
    return f" {name}" if name in _GRANTS or re.fullmatch(r"[a-z]+(-[a-z]+)*", name[:40]) else ""


class _Read:
    """What the options of one line say, in their order: a later ``pty`` gives back what ``restrict`` took."""

    def __init__(self, options: Options) -> None:
        self.values: dict[str, Any] = {}
        self.is_authority = False
        self.principals: tuple[str, ...] | None = None
        for name, value in options:
            if value is None:
                self._flag(name)
            else:
                self._value(name, value)
        if "environment" in self.values:
            self.values["environment"] = MappingProxyType(self.values["environment"])

    def _flag(self, name: str) -> None:
        plain = name.removeprefix("no-")
        if plain in _GRANTS:
            self.values[_GRANTS[plain]] = plain == name
        elif name == "restrict":
            self.values.update(dict.fromkeys(_GRANTS.values(), False))
        elif name == "cert-authority":
            self.is_authority = True
        elif plain == "touch-required":
            self.values["allow_untouched"] = plain != name
        elif plain == "verify-required":
            self.values["require_verification"] = plain == name
        else:
            raise KeyFileException(f"the option{_shown_name(name)} is unknown, or wants a value")

    def _value(self, name: str, value: str) -> None:
        reader = _READERS.get(name)
        if reader is None:
            raise KeyFileException(f"the option{_shown_name(name)} is unknown, or has no value")
        reader(self, value)

    def _once(self, name: str, value: object) -> None:
        if name in self.values:
            raise KeyFileException(f"{name.replace('_', '-')} stands there twice")
        self.values[name] = value

    def read_command(self, value: str) -> None:
        if "\0" in value:
            raise KeyFileException("command has a NUL in it")
        self._once("force_command", value)

    def read_from(self, value: str) -> None:
        entries = tuple(value.split(","))
        for entry in entries:
            if not entry.removeprefix("!"):
                raise KeyFileException("from has a comma too many")  # sshd lets nobody in by it either
            if len(entry) > LONGEST:
                raise KeyFileException(f"an entry of from has more than {LONGEST} characters")
            try:
                as_network(entry.removeprefix("!"))
            except ValueError as error:
                raise KeyFileException(f"from: {error}") from None
        self._once("from_patterns", entries)

    def read_principals(self, value: str) -> None:
        if self.principals is not None:
            raise KeyFileException("principals stands there twice")
        self.principals = tuple(filter(None, value.split(",")))

    def read_expiry(self, value: str) -> None:
        seconds = read_time(value, "expiry-time")
        self.values["valid_before"] = min(seconds, self.values.get("valid_before", seconds))

    def read_environment(self, value: str) -> None:
        found = _VARIABLE.fullmatch(value)
        if found is None or "\0" in value:
            raise KeyFileException("environment is not NAME=value")
        environment: dict[str, str] = self.values.setdefault("environment", {})
        if len(environment) >= MAX_ENVIRONMENT:
            raise KeyFileException(f"there are more than {MAX_ENVIRONMENT} variables")
        environment.setdefault(found[1], found[2])

    def read_permit_open(self, value: str) -> None:
        self._permit("permit_open", value)

    def read_permit_listen(self, value: str) -> None:
        self._permit("permit_listen", value if ":" in value else f"*:{value}")

    def _permit(self, attribute: str, value: str) -> None:
        found = _PERMIT.fullmatch(value)
        port = 0 if found is None else None if found[3] == "*" else int(found[3])
        if found is None or (port is not None and not 0 < port < 65536):
            raise KeyFileException(
                f"{attribute.replace('_', '')} is no host and port such as localhost:80: {printable(value, 80)}"
            )
        permits: tuple[ForwardingPermit, ...] = self.values.get(attribute, ())
        if len(permits) >= MAX_PERMITS:
            raise KeyFileException(f"there are more than {MAX_PERMITS} of {attribute.replace('_', '')}")
        self.values[attribute] = (*permits, ForwardingPermit(found[1] or found[2] or "", port))

    def read_tunnel(self, value: str) -> None:
        if value != "any" and not (value.isascii() and value.isdecimal() and len(value) <= 10):
            raise KeyFileException("tunnel names no device")
        self.values["tunnel"] = value


_READERS: Final[Mapping[str, Callable[[_Read, str], None]]] = {
    "command": _Read.read_command,
    "from": _Read.read_from,
    "principals": _Read.read_principals,
    "expiry-time": _Read.read_expiry,
    "environment": _Read.read_environment,
    "permitopen": _Read.read_permit_open,
    "permitlisten": _Read.read_permit_listen,
    "tunnel": _Read.read_tunnel,
}


def _parse_line(content: str) -> tuple[Options, str, str, str]:
    """Split a line into options, the key's type, its base64, and the comment.

    Raises:
        KeyFileException: it is malformed.
    """
    options: Options = ()
    words = _BLANKS.split(content, 2)
    is_key = is_known_type(words[0]) or is_unknown_key(words)
    if not is_key:
        options, rest = parse_options(content)
        words = _BLANKS.split(rest.lstrip(" \t"), 2)
    if len(words) < 2:
        raise KeyFileException("the line ends before a key")
    return options, words[0], words[1], words[2] if len(words) > 2 else ""


def is_unknown_key(words: Sequence[str]) -> bool:
    """Tell whether words begin with a key of a type that is not known, and not with options.

    The base64 of every key begins with AAAA, the length of a short type; so may a word of an option, in quotes.
    """
    return len(words) > 1 and words[1].startswith("AAAA") and not ('"' in words[0] or "=" in words[0])


def parse_options(text: str) -> tuple[Options, str]:
    """Read the options at the beginning of a line.

    Returns:
        The options, at least one, and the rest of the line behind them.

    Raises:
        KeyFileException: they are not names, and values in quotes, with commas between.
    """
    options: list[tuple[str, str | None]] = []
    offset = 0
    while True:
        found = _OPTION.match(text, offset)
        if found is None:
            raise KeyFileException(f"neither a key nor an option, at character {offset + 1}")
        value = found[2]
        options.append((found[1].lower(), None if value is None else value.replace('\\"', '"')))
        offset = found.end()
        following = text[offset : offset + 1]
        if following in ("", " ", "\t"):
            return tuple(options), text[offset:]
        if following != ",":
            raise KeyFileException(f"an option ends at character {offset} in neither a comma nor a blank")
        offset += 1
