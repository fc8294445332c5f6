"""Remote paths as text alone: what `SFTPPath` knows without asking anyone, and how a path goes over the wire.

A name on a server is bytes.  As a str it is UTF-8, where bytes that aren't become lone surrogates (PEP 383), so that
every name survives the way there and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath, PurePosixPath
from typing import Any, Self

from trio_ssh.wire.text import printable


class PureSFTPPath:
    """A remote path, taken apart and put together as `pathlib.PurePosixPath` does it.

    It has no ``__fspath__``: a remote path that is given to `open` by mistake would open a local file.
    """

    __slots__ = ("_pure",)

    def __init__(self, *segments: RemotePath) -> None:
        self._pure = PurePosixPath(*[as_text(segment) for segment in segments])

    def _with(self, pure: PurePosixPath) -> Self:
        made = type(self)()
        made._pure = pure
        return made

    def __str__(self) -> str:
        return str(self._pure)

    def __bytes__(self) -> bytes:
        return encoded(str(self._pure))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._pure)!r})"

    def __eq__(self, other: object) -> bool:
        return self._pure == other._pure if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._pure)

    def __lt__(self, other: Self) -> bool:
        return self._pure < other._pure if type(other) is type(self) else NotImplemented

    def __truediv__(self, other: RemotePath) -> Self:
        return self._with(self._pure / as_text(other))

    def __rtruediv__(self, other: str | bytes) -> Self:
        return self._with(as_text(other) / self._pure)

    def joinpath(self, *others: RemotePath) -> Self:
        """Append; what is absolute replaces all that is before it."""
        return self._with(self._pure.joinpath(*[as_text(other) for other in others]))

    @property
    def parts(self) -> tuple[str, ...]:
        """The components; the first of an absolute path is ``/``."""
        return self._pure.parts

    @property
    def name(self) -> str:
        """The last component."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last component without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The last component from its last dot on."""
        return self._pure.suffix

    @property
    def suffixes(self) -> Sequence[str]:
        """All suffixes of the last component."""
        return self._pure.suffixes

    @property
    def root(self) -> str:
        """``/`` for an absolute path, else empty."""
        return self._pure.root

    @property
    def anchor(self) -> str:
        """As `root`."""
        return self._pure.anchor

    @property
    def parent(self) -> Self:
        """The path without its last component."""
        return self._with(self._pure.parent)

    @property
    def parents(self) -> tuple[Self, ...]:
        """The path without its last component, without its last two, and so on."""
        return tuple(self._with(parent) for parent in self._pure.parents)

    def as_posix(self) -> str:
        """Return it as a str; there is no other separator."""
        return str(self._pure)

    def is_absolute(self) -> bool:
        """Tell whether it begins with ``/``."""
        return self._pure.is_absolute()

    def is_relative_to(self, other: RemotePath) -> bool:
        """Tell whether it lies below `other`, as far as the text tells."""
        return self._pure.is_relative_to(as_text(other))

    def relative_to(self, other: RemotePath) -> Self:
        """Return it as seen from `other`.

        Raises:
            ValueError: it doesn't lie below it.
        """
        return self._with(self._pure.relative_to(as_text(other)))

    def match(self, pattern: str) -> bool:
        """Tell whether it matches a pattern of ``*``, ``?`` and ``[...]``; a relative one from the right."""
        return self._pure.match(pattern)

    def with_name(self, name: str) -> Self:
        """Return it with another last component."""
        return self._with(self._pure.with_name(name))

    def with_stem(self, stem: str) -> Self:
        """Return it with another stem."""
        return self._with(self._pure.with_stem(stem))

    def with_suffix(self, suffix: str) -> Self:
        """Return it with another suffix."""
        return self._with(self._pure.with_suffix(suffix))


RemotePath = str | bytes | PureSFTPPath
"""Whatever names a file on a server."""


def encoded(text: str) -> bytes:
    """Return a name's bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"the name '{printable(text)}' is no text that UTF-8 can spell") from error


def decoded(name: bytes) -> str:
    """Return a name's text."""
    return name.decode("utf-8", "surrogateescape")


def as_text(path: RemotePath) -> str:
    """Return a path's text.

    Raises:
        TypeError: it is no remote path.
    """
    if isinstance(path, str):
        return path
    if isinstance(path, bytes):
        return decoded(path)
    if isinstance(path, PureSFTPPath):
        return str(path)
    raise _no_path(path)


def as_bytes(path: RemotePath) -> bytes:
    """Return a path's bytes, as they go over the wire.

    Raises:
        TypeError: it is no remote path.
        ValueError: it contains NUL.
    """
    name = path if isinstance(path, bytes) else encoded(as_text(path))
    # To most servers a NUL ends the name: they would do what was asked to another file.
    if b"\0" in name:
        raise ValueError(f"the path '{printable(name)}' contains a NUL, which no file's name can")
    return name


def shown(path: RemotePath) -> str | bytes:
    """Return a path as an exception's ``filename`` has it."""
    return path if isinstance(path, str | bytes) else str(path)


def _no_path(path: Any) -> TypeError:
    hint = ": a local path is not a remote one; give its as_posix()" if isinstance(path, PurePath) else ""
    return TypeError(f"a remote path is a str, bytes or an SFTPPath, and not {type(path).__name__}{hint}")
