"""Whose signatures of data are believed: ssh-keygen's allowed_signers file.

A line that is malformed lets nobody sign, and is named in `AllowedSigners.problems`.

Source: ssh-keygen(1), ALLOWED SIGNERS; what it leaves open is decided as OpenSSH's sshsig.c does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Self

import attrs

from trio_ssh.errors import CertificateException, KeyFileException, SignatureException
from trio_ssh.keys import patterns
from trio_ssh.keys.authorized_keys import is_unknown_key, parse_options
from trio_ssh.keys.certificate import Certificate, shown_time
from trio_ssh.keys.disk import FilePath, read_list_file, shown_path
from trio_ssh.keys.public_key import PublicKey, decode_public_key, is_known_type
from trio_ssh.keys.times import read_time
from trio_ssh.wire.text import printable

_BLANKS: Final = re.compile("[ \t]+")
_PRINCIPALS: Final = re.compile('(?:"([^"]*)"|([^ \t"]+))[ \t]+')


@attrs.frozen(kw_only=True)
class AllowedSigner:
    """One line: a key, and for whom and for what it may sign.

    Attributes:
        principals: patterns of the names that it may sign for.
        key: the key, or the authority whose certificates may sign.
        is_authority: which of the two it is.
        namespaces: patterns of what it may sign for; None for anything.
        valid_after: seconds since the epoch, before which it signs nothing; or None.
        valid_before: seconds since the epoch, after which it signs nothing; or None.
        source: where it stands: ``file:line``.
    """

    principals: tuple[str, ...]
    key: PublicKey
    is_authority: bool = False
    namespaces: tuple[str, ...] | None = None
    valid_after: int | None = None
    valid_before: int | None = None
    source: str = "added here"

    def is_for(self, key: PublicKey | Certificate) -> bool:
        """Whether the line is about this key; or about the authority of this certificate."""
        if isinstance(key, Certificate):
            return self.is_authority and key.authority == self.key
        return not self.is_authority and key == self.key

    def objection(self, namespace: str | None, now: float) -> str | None:
        """Return why the line lets nobody sign this, now; or None."""
        is_asked = self.namespaces is not None and namespace is not None
        if is_asked and not patterns.matches_any(self.namespaces or (), namespace or ""):
            return f"{self.source} is not for the namespace '{printable(namespace or '', 64)}'"
        if self.valid_after is not None and now < self.valid_after:
            return f"{self.source} is not valid before {shown_time(self.valid_after)}"
        if self.valid_before is not None and now > self.valid_before:
            return f"{self.source} expired at {shown_time(self.valid_before)}"
        return None


class AllowedSigners:
    """Whose signatures are believed, for whom and for what.

    Attributes:
        signers: the lines, in their order.
        problems: lines that let nobody sign though they seem to be meant to, each as ``file:line: why``.
    """

    def __init__(self) -> None:
        self.signers: list[AllowedSigner] = []
        self.problems: list[str] = []

    @classmethod
    def from_text(cls, text: str, source: str = "allowed_signers") -> Self:
        """Read the content of an allowed_signers file; `source` is what its lines say they come from."""
        made = cls()
        for number, line in enumerate(text.split("\n"), 1):
            content = line.strip(" \t\r")
            if content and not content.startswith("#"):
                try:
                    made.signers.append(_parse_line(content, f"{source}:{number}"))
                except KeyFileException as error:
                    made.problems.append(f"{source}:{number}: {error}")
        return made

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Read a file.

        Raises:
            OSError: there is no such file, or it can't be read.
            KeyFileException: it has more than 64 MiB.
        """
        return cls.from_text(read_list_file(path), shown_path(path))

    def check(self, principal: str, key: PublicKey | Certificate, *, namespace: str, now: float) -> None:
        """Do nothing if this key, or this certificate, may sign for `principal`.

        Args:
            principal: whose signature it is to be, such as ``alice@example.com``.
            key: what signed.
            namespace: what was signed for.
            now: seconds since the epoch: the time at which it was signed, or is checked.

        Raises:
            SignatureException: it may not; the text says why.
        """
        objections: list[str] = []
        for line in self._about(key):
            if not patterns.matches_any(line.principals, principal):
                continue
            objection = line.objection(namespace, now)
            if objection is None:
                try:
                    if isinstance(key, Certificate):
                        key.check_for_signer(principal, authorities=[line.key], now=now)
                    return
                except CertificateException as error:
                    objection = f"{line.source}: {error}"
            objections.append(objection)
        raise SignatureException(
            f"{key} may not sign for {printable(principal, 128)}: "
            + ("; ".join(objections) or "no line of allowed_signers says that it may")
        )

    def find_principals(
        self, key: PublicKey | Certificate, *, now: float, namespace: str | None = None
    ) -> tuple[str, ...]:
        """Return for whom this key, or this certificate, may sign, in the lines' order and each once.

        They are patterns, as they stand in the file; for a certificate, those of its own names that match them.

        Args:
            key: what signed.
            now: seconds since the epoch.
            namespace: what was signed for; None for anything.
        """
        found: dict[str, None] = {}
        for line in self._about(key):
            if line.objection(namespace, now) is None:
                found.update(dict.fromkeys(_principals_of(line, key, now)))
        return tuple(found)

    def _about(self, key: PublicKey | Certificate) -> Iterator[AllowedSigner]:
        return (line for line in self.signers if line.is_for(key))

    def __repr__(self) -> str:
        return f"<AllowedSigners: {len(self.signers)} keys, {len(self.problems)} problems>"


def _principals_of(line: AllowedSigner, key: PublicKey | Certificate, now: float) -> Iterator[str]:
    if not isinstance(key, Certificate):
        yield from line.principals
        return
    for principal in key.principals:
        if patterns.matches_any(line.principals, principal):
            try:
                key.check_for_signer(principal, authorities=[line.key], now=now)
            except CertificateException:
                continue
            yield principal


# -- one line


def _parse_line(content: str, source: str) -> AllowedSigner:
    """Read one line.

    Raises:
        KeyFileException: it is malformed.
    """
    found = _PRINCIPALS.match(content)
    if found is None:
        raise KeyFileException("the line is not principals, options, and a key")
    if is_known_type(found[2] or ""):
        raise KeyFileException("the line begins with a key. Put in front of it for whom it may sign.")
    principals = _pattern_list(found[1] or found[2] or "", "principals")
    rest = content[found.end() :]
    options: dict[str, str | None] = {}
    words = _BLANKS.split(rest, 2)
    if not (is_known_type(words[0]) or is_unknown_key(words)):
        read, rest = parse_options(rest)
        for name, value in read:
            if name in options:
                raise KeyFileException(f"the option {printable(name, 40)} stands there twice")
            options[name] = value
        words = _BLANKS.split(rest.lstrip(" \t"), 2)
    if len(words) < 2:
        raise KeyFileException("the line ends before a key")
    return _apply_options(options, principals, decode_public_key(words[0], words[1]), source)


def _apply_options(
    options: dict[str, str | None], principals: tuple[str, ...], key: PublicKey, source: str
) -> AllowedSigner:
    if options.keys() - {"cert-authority", "namespaces", "valid-after", "valid-before"}:
        raise KeyFileException(f"an option is unknown: {printable(', '.join(options), 200)}")
    if options.get("cert-authority") is not None:
        raise KeyFileException("cert-authority has no value")
    namespaces = _value(options, "namespaces")
    valid_after, valid_before = (_time(options, name) for name in ("valid-after", "valid-before"))
    if valid_after is not None and valid_before is not None and valid_before <= valid_after:
        raise KeyFileException("valid-before is not behind valid-after")
    return AllowedSigner(
        principals=principals,
        key=key,
        is_authority="cert-authority" in options,
        namespaces=None if namespaces is None else _pattern_list(namespaces, "namespaces"),
        valid_after=valid_after,
        valid_before=valid_before,
        source=source,
    )


def _value(options: dict[str, str | None], name: str) -> str | None:
    if name not in options:
        return None
    value = options[name]
    if not value:
        raise KeyFileException(f"{name} has no value")
    return value


def _pattern_list(text: str, what: str) -> tuple[str, ...]:
    every = tuple(filter(None, text.split(",")))
    if not every:
        raise KeyFileException(f"there is nothing among its {what}")
    if max(map(len, every)) > patterns.LONGEST:
        raise KeyFileException(f"one of its {what} has more than {patterns.LONGEST} characters")
    return every


def _time(options: dict[str, str | None], name: str) -> int | None:
    value = _value(options, name)
    return None if value is None else read_time(value, name)
