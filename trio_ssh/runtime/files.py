"""File-like reading and writing over a stream: what `exec_command` returns, with paramiko's names, awaited."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import ClassVar, Final, Generic, Literal, NoReturn, TypeVar, cast

import trio

from trio_ssh.runtime.hints import CLOSE, NO_TIMEOUT, READER_HINTS, WRITER_HINTS, Hints, HintTable
from trio_ssh.runtime.waiting import OneAtATime

C = TypeVar("C")
L = TypeVar("L", str, bytes)

#: The longest line that is collected; a peer that never ends a line can't fill the memory with it.
LINE_BYTES: Final = 16 * 1024 * 1024


class LineReader:
    """Splits a stream's bytes into lines, and gives back what it read too much."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        #: Held while somebody reads: whoever took what is left meanwhile would tear a line.
        self.conflict: OneAtATime = OneAtATime("another task is reading this stream")
        self._buffer = bytearray()
        self._searched = 0
        self._is_at_end = False

    async def read_line(self, limit: int = LINE_BYTES) -> bytes:
        """Return the next line with its end, or what there is at EOF; ``b""`` when nothing is left.

        Cancelled, it loses nothing: what was read stays for the next call.

        Raises:
            trio.BusyResourceError: another task is reading.
        """
        with self.conflict:
            while True:
                end = self._buffer.find(b"\n", self._searched)
                if end >= 0 or self._is_at_end or len(self._buffer) >= limit:
                    size = min(end + 1 if end >= 0 else len(self._buffer), limit)
                    if size or self._is_at_end:
                        await trio.lowlevel.checkpoint()
                        return self._take(size)
                self._searched = len(self._buffer)
                await self._fill()

    async def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer only at EOF; all there is up to EOF if `size` is negative.

        Raises:
            trio.BusyResourceError: another task is reading.
        """
        with self.conflict:
            while not self._is_at_end and (size < 0 or len(self._buffer) < size):
                await self._fill()
            await trio.lowlevel.checkpoint()
            return self._take(len(self._buffer) if size < 0 else min(size, len(self._buffer)))

    @property
    def has_left(self) -> bool:
        """Were bytes read that were not given out?"""
        return bool(self._buffer)

    def take_left(self, limit: int | None) -> bytes:
        """Return up to `limit` bytes that were read and not given out."""
        return self._take(len(self._buffer) if limit is None else min(limit, len(self._buffer)))

    async def _fill(self) -> None:
        data = await self._stream.receive_some()
        self._buffer += data
        if not data:
            self._is_at_end = True

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return data


class EndingStream(trio.abc.ReceiveStream):
    """A receive stream that can tell its end without waiting."""

    @property
    @abstractmethod
    def at_eof(self) -> bool:
        """Has everything been received that ever comes?"""


class Reader(trio.abc.ReceiveStream, Hints):
    """A receive stream that also knows lines: the stdin of a server's process, the stdout and stderr of a client's.

    Args:
        stream: where to read.
        drop: called when it is closed: drops what is unread, and what still comes.
        keep_sibling: called before a read to the end: keeps in memory what must not hold it up.
    """

    _HINTS: ClassVar[HintTable] = READER_HINTS

    def __init__(
        self, stream: EndingStream, drop: Callable[[], None], keep_sibling: Callable[[], None] | None = None
    ) -> None:
        self._stream = stream
        self._lines = LineReader(stream)
        self._drop = drop
        self._keep_sibling = keep_sibling
        self._is_closed = False

    @property
    def at_eof(self) -> bool:
        """Has everything been received that ever comes?"""
        return self._stream.at_eof and not self._lines.has_left

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return 1 .. `max_bytes` bytes, or ``b""`` at EOF; as the stream below, after what a line reader left."""
        if self._lines.has_left or self._is_closed:
            if max_bytes is not None and max_bytes < 1:
                raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
            with self._lines.conflict:
                await trio.lowlevel.checkpoint()
                self._check_open()
                return self._lines.take_left(max_bytes)
        return bytes(await self._stream.receive_some(max_bytes))

    async def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at EOF; up to EOF if `size` is negative.

        Reading a process's output up to EOF never waits for somebody to read the other one, which is kept in memory
        meanwhile.
        """
        self._check_open()
        if size < 0 and self._keep_sibling is not None:
            self._keep_sibling()
        return await self._lines.read(size)

    async def read_line(self) -> str:
        """Read a line with its end, as text; empty at EOF.  One of more than 16 MiB comes in pieces."""
        return (await self.read_line_bytes()).decode("utf-8", "surrogateescape")

    async def read_line_bytes(self) -> bytes:
        """Read a line with its end, as it came; empty at EOF.  One of more than 16 MiB comes in pieces."""
        self._check_open()
        return await self._lines.read_line()

    def lines(self) -> AsyncIterator[str]:
        """Iterate over lines, each with its end, as text (what is not UTF-8 becomes lone surrogates).

        A line of more than 16 MiB comes in pieces.
        """
        return _Lines(self)

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")

    async def aclose(self) -> None:
        """Drop what is unread, and whatever still comes.  The channel stays open for its other streams."""
        if not self._is_closed:
            self._is_closed = True
            self._lines.take_left(None)
            self._drop()
        await trio.lowlevel.checkpoint()


class _Lines(AsyncIterator[str]):
    """The lines of a reader.  A generator would have to be closed by whoever breaks out of a loop over it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def __anext__(self) -> str:
        line = await self._reader.read_line()
        if not line:
            raise StopAsyncIteration
        return line


class Writer(trio.abc.SendStream, Hints):
    """A send stream that also takes text.

    Args:
        send: sends all of some bytes.
        end: called when the stream is closed.
        wait: waits until a send might not block.
    """

    _HINTS: ClassVar[HintTable] = WRITER_HINTS

    def __init__(
        self,
        send: Callable[[bytes | bytearray | memoryview], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        wait: Callable[[], Awaitable[None]],
    ) -> None:
        self._send = send
        self._end = end
        self._wait = wait
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""
        if self._is_closed:
            await self._refuse()
        await self._send(data)

    async def write(self, data: str | bytes) -> None:
        """Send all of `data`; text becomes UTF-8."""
        if self._is_closed:
            await self._refuse()
        await self._send(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        if self._is_closed:
            await self._refuse()
        await self._wait()

    async def _refuse(self) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise trio.ClosedResourceError("this stream was closed")

    async def aclose(self) -> None:
        """Say that no more comes; once more, or where the channel is closed, it does nothing."""
        self._is_closed = True
        with contextlib.suppress(trio.ClosedResourceError):
            await self._end()


class BufferedFile(trio.abc.AsyncResource, Hints):
    """What the files of this library have in common, a channel's and SFTP's: Python's binary files, awaited.

    For annotations and for `isinstance`; its subclasses say the rest.
    """

    _HINTS: ClassVar[HintTable] = {
        "close": CLOSE,
        "settimeout": NO_TIMEOUT,
        "set_pipelined": "nothing to do: files always are",
    }

    @abstractmethod
    async def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at the end; up to the end if `size` is negative."""

    @abstractmethod
    async def readline(self) -> str | bytes:
        """Read one line with its end; empty at the end of the file."""

    @abstractmethod
    async def readlines(self) -> Sequence[str | bytes]:
        """Read all lines up to the end."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over the lines."""

    @abstractmethod
    async def write(self, data: bytes) -> int | None:
        """Write all of `data`."""

    @abstractmethod
    async def writelines(self, lines: Iterable[bytes]) -> None:
        """Write each of `lines`."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until what was written is sent."""


#: How a file may be opened: with "b" its lines are bytes.
TextMode = Literal["r", "w", "rw", "r+", "w+"]
BinaryMode = Literal["rb", "wb", "rwb", "r+b", "rb+", "w+b", "wb+"]


def check_mode(mode: str, *, is_read_only: bool = False) -> None:
    """Look at a mode.

    Raises:
        ValueError: it is none of `TextMode` and `BinaryMode`; of `is_read_only` one that writes.
    """
    letters = set(mode)
    if not letters <= (set("rb") if is_read_only else set("rwb+")) or not letters & set("rw"):
        known = '"r" or "rb"' if is_read_only else '"r", "w" or "rw", and "b" besides for lines as bytes'
        remedy = "; what ends a line is left as it is" if "U" in letters else ""
        raise ValueError(f"a channel's file has no mode {mode!r}: there are {known}{remedy}")


class ChannelFile(BufferedFile, Generic[C, L]):
    """A channel's stream as a file.

    Args:
        channel: the channel, for whoever holds only the file.
        receive_stream: where to read, or None if the file is for writing only.
        send_stream: where to write, or None if the file is for reading only.
        text: whether lines are str, decoded from UTF-8 (what is not UTF-8 becomes lone surrogates).

    ``read`` returns bytes always; lines are text unless the mode was binary, as in paramiko.
    """

    def __init__(
        self,
        channel: C,
        receive_stream: trio.abc.ReceiveStream | None,
        send_stream: trio.abc.HalfCloseableStream | None,
        *,
        text: bool = True,
    ) -> None:
        self.channel = channel
        self._reader = LineReader(receive_stream) if receive_stream is not None else None
        self._send_stream = send_stream
        self._text = text
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<ChannelFile of {self.channel!r}>"

    def _reading(self) -> LineReader:
        if self._reader is None:
            raise OSError("this file is for writing")
        if self._is_closed:
            raise trio.ClosedResourceError("this file was closed")
        return self._reader

    def _writing(self) -> trio.abc.HalfCloseableStream:
        if self._send_stream is None:
            raise OSError("this file is for reading")
        return self._send_stream

    async def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at EOF; up to EOF if `size` is negative."""
        return await self._reading().read(size)

    async def readline(self) -> L:
        """Read one line with its end; empty at EOF."""
        line = await self._reading().read_line()
        return cast("L", line.decode("utf-8", "surrogateescape") if self._text else line)

    async def readlines(self) -> list[L]:
        """Read all lines up to EOF."""
        return [line async for line in self]

    def __aiter__(self) -> AsyncIterator[L]:
        return self

    async def __anext__(self) -> L:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def write(self, data: str | bytes) -> None:
        """Write all of `data`; text becomes UTF-8.  Nothing is kept back, so there is nothing to flush."""
        await self._writing().send_all(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)

    async def writelines(self, lines: Iterable[str | bytes]) -> None:
        """Write each of `lines`."""
        await trio.lowlevel.checkpoint()
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Do nothing but checkpoint: writes are sent as they are made."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Send EOF if the file is for writing; what it reads besides can still be read.  The channel stays open."""
        if self._send_stream is not None:
            with contextlib.suppress(trio.ClosedResourceError):
                await self._send_stream.send_eof()
        else:
            self._is_closed = True
            await trio.lowlevel.checkpoint()
