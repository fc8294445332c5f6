"""Files, read into lines that are understood; which of them count for a host is decided elsewhere.

Every line is checked when it is read, whichever hosts it is for, and every error says file, line and what would have
been right.

Source: ssh_config(5).
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Sequence
from typing import Final

import attrs

from trio_ssh.config.keywords import DEPRECATED, KEYWORDS, Keyword
from trio_ssh.config.match import Criterion, parse_criteria
from trio_ssh.config.tokens import LocalFacts, expand_home, expand_variables
from trio_ssh.config.values import Forwarding, Listen
from trio_ssh.config.words import split_line, split_words
from trio_ssh.errors import ConfigParseError, KeyFileException
from trio_ssh.keys import patterns
from trio_ssh.keys.disk import FilePath, read_file, shown_path
from trio_ssh.wire.text import printable

#: Files in files in files, as OpenSSH allows it.
INCLUDE_DEPTH: Final = 16
#: Files in all; two that include each other twice would be 65,536.
INCLUDE_FILES: Final = 1024
#: Bytes of one file, and of all.
FILE_BYTES: Final = 4 << 20
ALL_BYTES: Final = 16 << 20


@attrs.frozen
class Setting:
    """A keyword with its value."""

    keyword: Keyword
    value: object
    place: str


@attrs.frozen
class HostLine:
    """``Host``: what follows is for hosts of these patterns."""

    patterns: tuple[str, ...]
    place: str


@attrs.frozen
class MatchLine:
    """``Match``: what follows is for where all of this is so."""

    criteria: tuple[Criterion, ...]
    place: str


@attrs.frozen
class IncludeLine:
    """``Include``: the lines of other files."""

    files: tuple[tuple[Line, ...], ...]


@attrs.frozen
class UnknownLine:
    """A keyword that nobody knows, which an ``IgnoreUnknown`` in front of it may excuse."""

    name: str
    place: str

    def error(self) -> ConfigParseError:
        """Make the error that it is where nothing excuses it."""
        import difflib  # noqa: PLC0415 -- only who errs needs it

        near = difflib.get_close_matches(self.name.lower(), [*KEYWORDS, "host", "match", "include"], 1)
        known = {"host": "Host", "match": "Match", "include": "Include"}
        hint = f"did you mean {known.get(near[0]) or KEYWORDS[near[0]].name}?" if near else "check its spelling."
        return ConfigParseError(
            f"{self.place}: the keyword '{printable(self.name, 64)}' is unknown: {hint} "
            f"If another program needs it, put `IgnoreUnknown {printable(self.name, 64)}` in front"
        )


Line = Setting | HostLine | MatchLine | IncludeLine | UnknownLine


class Parser:
    """Reads text and files.

    Args:
        local: this side, for ``~`` and variables.
        folder: where relative names in ``Include`` lead.
        is_user: the files are the user's: ``~`` may stand in ``Include``.
        checks_permissions: refuse files that others may write to.
        excused: what an ``IgnoreUnknown`` of another file has said.

    Attributes:
        excused: all that any ``IgnoreUnknown`` has said so far.  Whether it counts for a host is seen later.
    """

    def __init__(
        self,
        local: LocalFacts,
        *,
        folder: str,
        is_user: bool = True,
        checks_permissions: bool = False,
        excused: Sequence[str] = (),
    ) -> None:
        self._local = local
        self._folder = folder
        self._is_user = is_user
        self._checks_permissions = checks_permissions
        self._files = self._bytes = 0
        self.excused: list[str] = list(excused)

    def read_file(self, path: FilePath) -> tuple[Line, ...]:
        """Read a file, and what it includes.

        Raises:
            OSError: it can't be read.
            ConfigParseError: there is a mistake in it.
        """
        return self._read_file(path, 0, checks_permissions=self._checks_permissions)

    def read_text(self, text: str, source: str, depth: int = 0) -> tuple[Line, ...]:
        """Read text; `source` is what its lines say they come from."""
        lines: list[Line] = []
        for number, line in enumerate(text.split("\n"), 1):
            place = f"{source}:{number}"
            try:
                found = self._read_line(line, place, depth)
            except ValueError as error:
                raise ConfigParseError(f"{place}: {error}") from None
            if found is not None:
                lines.append(found)
        return tuple(lines)

    def _read_file(self, path: FilePath, depth: int, *, checks_permissions: bool) -> tuple[Line, ...]:
        self._files += 1
        if self._files > INCLUDE_FILES:
            raise ConfigParseError(f"{shown_path(path)}: more than {INCLUDE_FILES} files. Do they include each other?")
        try:
            data, status = read_file(path, FILE_BYTES)
        except KeyFileException as error:
            raise ConfigParseError(str(error)) from None
        if checks_permissions:
            _check_permissions(path, status)
        self._bytes += len(data)
        if self._bytes > ALL_BYTES:
            raise ConfigParseError(f"{shown_path(path)}: with this file they have more than {ALL_BYTES >> 20} MiB")
        return self.read_text(data.decode("utf-8", "surrogateescape"), shown_path(path), depth)

    def _read_line(self, line: str, place: str, depth: int) -> Line | None:
        if "\0" in line:
            raise ValueError("the line holds a NUL. Is this a text file?")
        parts = split_line(line)
        if parts is None:
            return None
        name, rest = parts
        if not rest.strip():
            raise ValueError(f"'{printable(name, 64)}' has no value")
        words = split_words(rest)
        match name.lower():
            case "host":
                if not words or not all(words):
                    raise ValueError("Host needs a pattern; `Host *` is for all")
                return HostLine(tuple(words), place)
            case "match":
                return MatchLine(parse_criteria(words), place)
            case "include":
                return self._include(words, place, depth)
            case lower if lower in KEYWORDS:
                return self._setting(KEYWORDS[lower], rest, words, place)
            case lower if lower in DEPRECATED:
                return None
            case lower:
                unknown = UnknownLine(name, place)
                if not any(patterns.matches_any(each.split(","), lower) for each in self.excused):
                    raise unknown.error()
                return unknown

    def _setting(self, keyword: Keyword, rest: str, words: Sequence[str], place: str) -> Setting:
        try:
            if not keyword.is_raw:
                value = keyword.read(words)
            elif raw := rest.lstrip(" \t\r="):
                value = raw
            else:
                raise ValueError("the value is missing")
        except ValueError as error:
            raise ValueError(f"{keyword.name}: {error}") from None
        if keyword.attribute == "ignore_unknown":
            self.excused.append(str(value).lower())
        if isinstance(value, Forwarding | Listen):
            value = attrs.evolve(value, place=place)  # of several, each may fail
        return Setting(keyword, value, place)

    def _include(self, words: Sequence[str], place: str, depth: int) -> IncludeLine:
        if depth >= INCLUDE_DEPTH:
            raise ValueError(f"files include each other to a depth of more than {INCLUDE_DEPTH}")
        if not words or not all(words):
            raise ValueError("Include needs the name of a file")
        files: list[tuple[Line, ...]] = []
        for word in words:
            if word.startswith("~") and not self._is_user:
                raise ValueError("the system's configuration can't include a file from ~: whose would it be?")
            pattern = expand_home(expand_variables(word, self._local, place), self._local, place)
            # A pattern that matches nothing is no mistake: it may be a folder that somebody may put files into.
            for path in sorted(glob.glob(os.path.join(self._folder, pattern), include_hidden=False)):
                try:
                    files.append(self._read_file(path, depth + 1, checks_permissions=True))
                except OSError as error:
                    if isinstance(error, FileNotFoundError | IsADirectoryError) and glob.has_magic(pattern):
                        continue  # it wasn't named: in most folders there are others, and links to nothing
                    raise ValueError(f"{shown_path(path)} can't be read: {error.strerror or error}") from error
        return IncludeLine(tuple(files))


def _check_permissions(path: FilePath, status: os.stat_result) -> None:
    """Refuse a file that others can change: its ProxyCommand would be theirs."""
    if sys.platform == "win32":
        return
    name = shown_path(path)
    if status.st_uid not in (0, os.getuid()):
        raise ConfigParseError(f"{name}: the file belongs to another user, who could run commands as you. Copy it")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigParseError(
            f"{name}: others than you may write to the file, and could run commands as you. Run `chmod go-w` on it"
        )
