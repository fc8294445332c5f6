"""File objects of the user's, read and written without holding up anything: binary ones, sync or async.

What is in memory is read and written at once, regular files in threads.  What may block for ever, such as a pipe, is
waited for where that is possible, and elsewhere its thread is left behind by whoever is cancelled.
"""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import trio


class Readable(Protocol):
    """A binary file object that can be read from, or an async one."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """Return so many bytes, fewer only where that is all for now, none at the end; or an awaitable of them."""
        ...


class Writable(Protocol):
    """A binary file object that can be written to, or an async one."""

    def write(self, data: memoryview, /) -> object:
        """Write it, and return how much was written, if it was less; or an awaitable of that."""
        ...


async def wait_readable(descriptor: int) -> None:
    """Wait until a FIFO or a device has something to read, or has come to its end.  A checkpoint, always."""
    try:
        await trio.lowlevel.wait_readable(descriptor)
    except OSError:
        # What the system can't wait for never has nothing.
        await trio.lowlevel.checkpoint()


def check_binary(file: object, method: str, what: str = "a file object") -> None:
    """Look at a file object before anything is done with it.

    Args:
        method: that is wanted of it: ``"read"`` or ``"write"``.

    Raises:
        TypeError: it hasn't got it, or is a text file.
    """
    wrapped: object = getattr(file, "wrapped", file)  # trio's files have what they stand for in there
    if isinstance(wrapped, io.TextIOBase) or (hasattr(wrapped, "encoding") and hasattr(wrapped, "buffer")):
        raise TypeError(f"{what} is a text file: open it as binary, by '{method[0]}b', or pass its `buffer`")
    if not callable(getattr(file, method, None)):
        raise TypeError(f"{what} has a `{method}` for bytes, and {type(file).__name__} has none")


def _is_plain(file: object, method: str) -> bool:
    """Whether a file object does as `io.BytesIO` does: it is in memory, and never blocks."""
    kind: type[object] = type(file)
    return getattr(kind, method, None) is getattr(io.BytesIO, method)


def _is_special(file: Any) -> bool:
    """Whether a file object stands for a pipe, a terminal or the like, which may block for ever."""
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError, ValueError, TypeError):
        return False


class ObjectSource:
    """A file object with a `read` that is sync, and then is called in a thread unless it is in memory, or async.

    Args:
        file: the object.
        piece_bytes: what is asked of it at once.

    Raises:
        TypeError: it gives no bytes.
    """

    def __init__(self, file: Any, piece_bytes: int) -> None:
        check_binary(file, "read")
        self._read = file.read
        self._piece_bytes = piece_bytes
        self._is_async = inspect.iscoroutinefunction(file.read)
        self._is_in_memory = _is_plain(file, "read")
        self._is_special = not self._is_in_memory and _is_special(file)
        self._waits_for = -1
        if self._is_special and type(file) in (io.BufferedReader, io.FileIO):
            # A thread that is left behind in there holds its lock, and ends the whole program in an abort.
            self._waits_for = file.fileno()
            self._read = getattr(file, "read1", file.read)

    async def read(self) -> memoryview:
        """Return the next bytes; none at the end."""
        if self._is_async:
            data = await self._read(self._piece_bytes)
        elif self._is_in_memory:
            data = self._read(self._piece_bytes)
        else:
            if self._waits_for >= 0:
                await wait_readable(self._waits_for)
            data = await trio.to_thread.run_sync(self._read, self._piece_bytes, abandon_on_cancel=self._is_special)
        if not data:
            return memoryview(b"")
        return _bytes_of(data)


class ObjectSink:
    """A file object with a `write` that is sync, and then is called in a thread unless it is in memory, or async.

    Args:
        file: the object.
        is_watched: somebody looks at it, such as our own stdout: it is flushed each time, and may block for ever.

    Raises:
        TypeError: it takes no bytes.
    """

    def __init__(self, file: Any, *, is_watched: bool = False) -> None:
        check_binary(file, "write")
        self._write = file.write
        self._flush = getattr(file, "flush", None)
        self._is_watched = is_watched
        self._is_async = inspect.iscoroutinefunction(file.write)
        self._is_in_memory = _is_plain(file, "write")
        self._is_special = not self._is_in_memory and (is_watched or _is_special(file))

    async def write(self, parts: Iterable[memoryview | bytearray]) -> None:
        """Write all of it.  A checkpoint only if it waits."""
        if self._is_async:
            for part in parts:
                await _write_all_async(self._write, part)
        elif self._is_in_memory:
            self._write_parts(parts)
        elif parts:
            await trio.to_thread.run_sync(self._write_parts, parts, abandon_on_cancel=self._is_special)

    async def flush(self) -> None:
        """Let others see all of it.  A checkpoint only if it waits."""
        if self._flush is None or self._is_in_memory:
            return
        if inspect.iscoroutinefunction(self._flush):
            await self._flush()
        else:
            await trio.to_thread.run_sync(self._flush, abandon_on_cancel=self._is_special)

    def _write_parts(self, parts: Iterable[memoryview | bytearray]) -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                written = self._write(view)
                # A raw file may write less than it is given; others return None, or all.
                view = view[written if isinstance(written, int) and written > 0 else len(view) :]
        if self._is_watched and self._flush is not None:
            self._flush()


async def _write_all_async(write: Callable[[memoryview], Awaitable[object]], part: memoryview | bytearray) -> None:
    view = memoryview(part)
    while view:
        written = await write(view)
        view = view[written if isinstance(written, int) and written > 0 else len(view) :]


def _bytes_of(data: Any) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError:
        text = f"a file object is to give bytes, and this one gives {type(data).__name__}: open it as binary, by 'rb'"
        raise TypeError(text) from None
