"""The names in a directory, as they come."""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, TypeVar

import attrs
import trio

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.runtime.waiting import OneAtATime, OneSleeper
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link, as_error
from trio_ssh.sftp.messages import Name, NamedFile, Packet, Readdir, Status
from trio_ssh.sftp.protocol import KIB, SFTPLimits, StatusCode
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.session import ReplyWaiter
from trio_ssh.wire.text import printable

#: READDIRs that are under way or answered and not taken: two at first, more once a directory proves to be large.
_FIRST_AHEAD: Final = 2
_MOST_AHEAD: Final = 4

#: Replies without a name that one listing may bring.
_EMPTY_REPLIES: Final = 64

#: What a pair of extended attributes costs besides its text.
_PAIR_BYTES: Final = 100

#: Of a path that a person sees: it may be as long as paths are, each byte of it escaped.
_SHOWN_CHARACTERS: Final = 16 * KIB

E = TypeVar("E")


def checked_name(name: bytes, longest: int) -> bytes:
    """Return a name that a server gave, if it is one: what is joined to a path must not lead elsewhere.

    Raises:
        RemoteProtocolError: it is empty, or too long, or has a ``/`` or a NUL in it.
    """
    if not name or b"/" in name or b"\0" in name:
        raise RemoteProtocolError(f"the server lists a file by the name '{printable(name)}', which is no name")
    if len(name) > longest:
        raise RemoteProtocolError(f"the server lists a file whose name has {len(name)} bytes")
    return name


def _extended_size(attributes: SFTPAttributes) -> int:
    # Eight bytes of a reply become a hundred in a dictionary.
    extended = attributes.extended
    return sum(_PAIR_BYTES + len(name) + len(data) for name, data in extended.items()) if extended else 0


def _size(entry: NamedFile) -> int:
    """Return about how many bytes an entry holds."""
    return len(entry.filename) + len(entry.longname) + _extended_size(entry.attributes)


#: What each thing that is gathered costs besides its text.  Measured: by tracemalloc, with sizes and times of today.
_ENTRY_BYTES: Final = 480
_NAME_BYTES: Final = 80


def text_memory(text: str | bytes) -> int:
    """Return about how many bytes a text costs that is gathered: one character may make four of each."""
    return len(text) if text.isascii() else 4 * len(text)


def name_memory(name: str | bytes) -> int:
    """Return about how many bytes a name or path costs that is gathered in a list."""
    return _NAME_BYTES + text_memory(name)


def attributes_memory(attributes: SFTPAttributes) -> int:
    """Return about how many bytes attributes cost that are gathered, with their name."""
    texts = text_memory(attributes.filename) + text_memory(attributes.longname)
    return _ENTRY_BYTES + texts + _extended_size(attributes)


def entry_memory(entry: NamedFile) -> int:
    """Return about how many bytes an entry costs that is gathered, with all that is told of it."""
    texts = text_memory(entry.filename) + text_memory(entry.longname)
    return _ENTRY_BYTES + texts + _extended_size(entry.attributes)


class Gathered:
    """What one call holds of what a server lists, and the bound of it: `SFTPLimits.gathered_bytes`.

    Args:
        advice: what else the user may do.
    """

    def __init__(self, limits: SFTPLimits, advice: str = "") -> None:
        self._most = limits.gathered_bytes
        self._advice = advice
        self._held = 0

    def add(self, size: int, path: str | bytes) -> None:
        """Hold so many bytes more.

        Args:
            path: of the directory, for the error.

        Raises:
            OSError: ``EFBIG``, they are too many.
        """
        if self._held + size > self._most:
            text = f"more to list than {self._most} bytes of memory hold: raise SFTPLimits.gathered_bytes{self._advice}"
            raise OSError(errno.EFBIG, text, decoded(path) if isinstance(path, bytes) else path)
        self._held += size

    def drop(self, size: int) -> None:
        """Hold so many bytes less."""
        self._held -= size


def as_attributes(entry: NamedFile) -> SFTPAttributes:
    """Return an entry's attributes, with its name."""
    attributes = entry.attributes
    attributes.filename = decoded(entry.filename)
    attributes.longname = decoded(entry.longname)
    return attributes


class DirectoryReader(ReplyWaiter):
    """Reads an open directory, several READDIRs at a time.  It is what waits for their replies.

    Args:
        most_ahead: READDIRs under way at the most, if fewer than usual.

    Attributes:
        expects, asked: see `Waiter`.
    """

    def __init__(self, link: Link, handle: bytes, filename: str | bytes, most_ahead: int | None = None) -> None:
        super().__init__(Name)
        self._link = link
        self._handle = handle
        self._filename = filename
        self._arrived: deque[tuple[NamedFile, ...]] = deque()
        self._most_ahead = min(most_ahead or _MOST_AHEAD, _MOST_AHEAD)
        self._ahead = min(_FIRST_AHEAD, self._most_ahead)
        self._under_way = 0
        self._names_left = link.limits.listing_names
        self._bytes_left = link.limits.listing_bytes
        self._empty_left = _EMPTY_REPLIES
        self._is_ended = False
        self._is_closed = False
        self._status: Status | None = None
        self._sleeper = OneSleeper()
        self._fill()

    def _fill(self) -> None:
        while not self._is_ended and self._under_way + len(self._arrived) < self._ahead:
            self._under_way += 1
            self._link.submit(Readdir(self._handle), self)

    # -- in the reader's step

    def on_reply(self, reply: Packet) -> None:
        """Names, or the end of them."""
        self._under_way -= 1
        if isinstance(reply, Name):
            self._ahead = self._most_ahead
            if not self._is_closed:
                self._arrived.append(reply.names)
        else:
            assert isinstance(reply, Status), "a READDIR is answered by names or a status"
            self._is_ended = True
            if reply.code != StatusCode.EOF and self._status is None:
                self._status = reply
        self._wake()

    def on_lost(self) -> None:
        """The session has ended."""
        self._under_way -= 1
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._arrived or not self._under_way:
            self._sleeper.wake()

    # -- in the user's task

    async def next_names(self) -> list[NamedFile]:
        """Return the next names, without ``.`` and ``..``; none at the end.  A checkpoint, always.

        Raises:
            SFTPError: the server can't read on.
            RemoteProtocolError: a name is none, or there are too many.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        has_waited = False
        names: list[NamedFile] = []
        while not names:
            if not self._is_ended:
                self._fill()
            if not self._arrived and self._under_way:
                has_waited = True
                await self._sleeper.sleep()
            if not self._arrived:
                if self._link.failure is not None:
                    raise self._link.lost()
                if self._status is not None:
                    raise as_error(self._status, self._filename)
                break
            names = self._checked(self._arrived.popleft())
        if not has_waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return names

    def _checked(self, names: tuple[NamedFile, ...]) -> list[NamedFile]:
        limits = self._link.limits
        if len(names) > limits.name_count:
            raise RemoteProtocolError(f"the server lists {len(names)} files in one reply")
        # Neither a reply without names nor one that repeats what was listed brings the end nearer.
        self._empty_left -= not names
        self._names_left -= len(names)
        self._bytes_left -= sum(map(_size, names))
        if self._empty_left < 0:
            raise RemoteProtocolError("a listing that does not end: one reply after another without a name")
        if self._names_left < 0:
            text = f"more than {limits.listing_names} names (SFTPLimits.listing_names)"
            raise RemoteProtocolError(f"a listing that does not end: {text}")
        if self._bytes_left < 0:
            text = f"more than {limits.listing_bytes} bytes of names (SFTPLimits.listing_bytes)"
            raise RemoteProtocolError(f"a listing that does not end: {text}")
        return [
            entry
            for entry in names
            if entry.filename not in (b".", b"..") and checked_name(entry.filename, limits.path_bytes)
        ]

    def close(self) -> None:
        """Give the directory back, and don't wait."""
        if not self._is_closed:
            self._is_closed = self._is_ended = True
            self._arrived.clear()
            self._link.close_later(self._handle)


@attrs.frozen
class SFTPDirEntry:
    """A file in a directory: `os.DirEntry`'s names, without a request for what the listing has told.

    Attributes:
        name: its name.
        path: the directory's path, and the name.
        attributes: what the server told; of a symbolic link, mostly its own.
    """

    name: str
    path: str
    attributes: SFTPAttributes

    def is_dir(self) -> bool:
        """Tell whether it is a directory; a symbolic link is none."""
        return self.attributes.is_dir()

    def is_file(self) -> bool:
        """Tell whether it is a regular file; a symbolic link is none."""
        return self.attributes.is_file()

    def is_symlink(self) -> bool:
        """Tell whether it is a symbolic link."""
        return self.attributes.is_symlink()

    def stat(self) -> SFTPAttributes:
        """Return `attributes`."""
        return self.attributes

    def __str__(self) -> str:
        return f"{stat.filemode(self.attributes.st_mode or 0)} {printable(self.path, _SHOWN_CHARACTERS)}"


class Listing(AsyncIterator[E], trio.abc.AsyncResource, Generic[E]):
    """The files in a directory, while they come: for directories that are too large to be held.

    It opens the directory when it is first asked, and gives it back at its end.  Whoever leaves before closes it, or
    the directory stays open as long as the session.
    """

    def __init__(
        self, open_directory: Callable[[], Awaitable[DirectoryReader]], make: Callable[[NamedFile], E]
    ) -> None:
        self._open_directory = open_directory
        self._make = make
        self._reader: DirectoryReader | None = None
        self._names: deque[NamedFile] = deque()
        self._conflict = OneAtATime("another task is reading this listing")
        self._is_closed = False

    async def __anext__(self) -> E:
        with self._conflict:
            if self._is_closed:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            if self._names:
                await trio.lowlevel.checkpoint()
            else:
                if self._reader is None:
                    self._reader = await self._open_directory()
                self._names.extend(await self._next_names(self._reader))
            return self._make(self._names.popleft())

    async def _next_names(self, reader: DirectoryReader) -> list[NamedFile]:
        try:
            names = await reader.next_names()
        except Exception:
            self._close()
            raise
        if not names:
            self._close()
            raise StopAsyncIteration
        return names

    def _close(self) -> None:
        self._is_closed = True
        self._names.clear()
        if self._reader is not None:
            self._reader.close()

    async def aclose(self) -> None:
        """Give the directory back."""
        self._close()
        await trio.lowlevel.checkpoint()
