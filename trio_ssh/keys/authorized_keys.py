"""Which keys may log in: OpenSSH's authorized_keys.

Options restrict what a key may do.  A line with any option is refused, and named in
`AuthorizedKeys.problems`: a restriction that isn't enforced would be a permission.

Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT.
"""

from __future__ import annotations

import re
from typing import Final, Self

import attrs

from trio_ssh.errors import KeyFileException
from trio_ssh.keys.disk import FilePath, read_list_file, shown_path
from trio_ssh.keys.public_key import PublicKey, decode_public_key, is_known_type
from trio_ssh.wire.text import printable

_BLANKS: Final = re.compile("[ \t]+")

#: A name, and perhaps a value in quotes, in which \" is a quote.  No two of its parts can match the same
#: text, so it is linear.
_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\"|\\(?!"))*)")?')

Options = tuple[tuple[str, str | None], ...]
"""Name and value of each option; None where there is no value."""


@attrs.frozen
class AuthorizedKey:
    """A key that may log in.

    Attributes:
        key: the key.
        comment: what stands behind it on its line.
        source: where it stands: ``file:line``.
        options: what stands before it on its line.
    """

    key: PublicKey
    comment: str
    source: str
    options: Options = ()


class AuthorizedKeys:
    """The keys that may log in as one user.

    Attributes:
        problems: lines that let nobody in though they seem to be meant to, each as ``file:line: why``.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._entries: dict[PublicKey, AuthorizedKey] = {}

    @classmethod
    def from_text(cls, text: str, source: str = "authorized_keys") -> Self:
        """Read the content of an authorized_keys file; `source` is what its lines say they come from."""
        made = cls()
        for number, line in enumerate(text.split("\n"), 1):
            content = line.strip(" \t\r")
            if content and not content.startswith("#"):
                made._read_line(content, f"{source}:{number}")
        return made

    @classmethod
    def load(cls, path: FilePath, *, check_permissions: bool = True) -> Self:
        """Read a file.

        Args:
            path: the file.
            check_permissions: whether a file that others than its owner may write to is refused, as sshd
                refuses it.

        Raises:
            OSError: there is no such file, or it can't be read.
            KeyFileException: it has more than 64 MiB, or others may write to it.
        """
        return cls.from_text(read_list_file(path, check_permissions=check_permissions), shown_path(path))

    def lookup(self, key: PublicKey) -> AuthorizedKey | None:
        """Return the line that lets this key in, or None."""
        entry = self._entries.get(key)
        return entry if entry is not None and not entry.options else None

    def __repr__(self) -> str:
        accepted = sum(1 for entry in self._entries.values() if not entry.options)
        return f"<AuthorizedKeys: {accepted} keys, {len(self.problems)} problems>"

    def _read_line(self, content: str, source: str) -> None:
        try:
            options, key_type, encoded, comment = _parse_line(content)
            key = decode_public_key(key_type, encoded)
        except KeyFileException as error:
            self.problems.append(f"{source}: {error}")
            return
        if options:
            names = ", ".join(name for name, _ in options)
            self.problems.append(
                f"{source}: options are not supported, so the key is refused ({printable(names, 200)})"
            )
        # The first line that names a key counts, as for sshd.  So a line with options is remembered as well:
        # a later one without would otherwise give the key what the first was to keep from it.
        self._entries.setdefault(key, AuthorizedKey(key, comment, source, options))


def _parse_line(content: str) -> tuple[Options, str, str, str]:
    """Split a line into options, the key's type, its base64, and the comment.

    Raises:
        KeyFileException: it is malformed.
    """
    options: Options = ()
    words = _BLANKS.split(content, 2)
    # The base64 of every key begins with AAAA, the length of a short type; so this tells a key of an unknown
    # type, too.
    is_key = is_known_type(words[0]) or (len(words) > 1 and words[1].startswith("AAAA"))
    if not is_key:
        options, rest = parse_options(content)
        words = _BLANKS.split(rest.lstrip(" \t"), 2)
    if len(words) < 2:
        raise KeyFileException("the line ends before a key")
    return options, words[0], words[1], words[2] if len(words) > 2 else ""


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
            raise KeyFileException(f"neither a key nor an option: '{printable(text[offset : offset + 40])}'")
        value = found[2]
        options.append((found[1].lower(), None if value is None else value.replace('\\"', '"')))
        offset = found.end()
        following = text[offset : offset + 1]
        if following in ("", " ", "\t"):
            return tuple(options), text[offset:]
        if following != ",":
            raise KeyFileException(f"an option goes on with '{printable(text[offset : offset + 40])}'")
        offset += 1
