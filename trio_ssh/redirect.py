"""Where a remote command's input comes from, and where its output goes: bytes, files and streams of this side.

Files are read and written in threads, a piece at a time, so that a slow disk holds up nothing else.
"""

from __future__ import annotations

import io
import subprocess
from typing import IO, Final, Protocol

import trio

from trio_ssh.runtime.arguments import Data
from trio_ssh.runtime.files import Reader, Writer


class BinaryFile(Protocol):
    """What output can be written to."""

    def write(self, data: memoryview, /) -> object:
        """Write all of it, or return how much was written."""
        ...

    def flush(self) -> object:
        """Let others see it."""
        ...


Input = Data | IO[bytes] | trio.abc.ReceiveStream
#: An int is one of `subprocess`'s constants.
Output = IO[bytes] | trio.abc.SendStream | int
Sink = BinaryFile | trio.abc.SendStream

#: Read of a file at once.
_PIECE_BYTES: Final = 256 * 1024


def checked_input(source: Input) -> Input:
    """Return what a command shall read, which can be read.

    Raises:
        TypeError: it can't: a str, a text file, an asynchronous file.
    """
    given: object = source
    if isinstance(given, bytes | bytearray | memoryview) or hasattr(given, "receive_some"):
        return source
    if isinstance(given, str):
        raise TypeError("stdin is bytes, a binary file or a stream, not str: encode it")
    if given is None or isinstance(given, int):
        raise TypeError(f'stdin is bytes, a binary file or a stream, not {given!r}: for no input leave it out, or b""')
    _check_file(given, "stdin", "read")
    return source


def checked_output(target: Output | None, what: str, *, is_captured: bool, may_join: bool = False) -> Output | None:
    """Return where output shall go, which can be written to; None for our own stdout or stderr.

    Args:
        what: ``"stdout"`` or ``"stderr"``.
        is_captured: it is to be returned, too, which can't be.
        may_join: it may be `subprocess.STDOUT`.

    Raises:
        TypeError: it can't be written to.
        ValueError: it is captured.
    """
    given: object = target
    if given is None:
        return target
    if is_captured:
        raise ValueError(f"either capture_{what}=True returns it, or {what}= says where it goes")
    if isinstance(given, int):
        if given == subprocess.DEVNULL or (may_join and given == subprocess.STDOUT):
            return target
        remedy = f"capture_{what}=True" if given == subprocess.PIPE else "a binary file or a stream"
        raise TypeError(f"{what} is not {given!r}: pass {remedy}")
    if not hasattr(given, "send_all"):
        _check_file(given, what, "write")
    return target


def _check_file(given: object, what: str, method: str) -> None:
    if isinstance(given, io.TextIOBase) or (hasattr(given, "encoding") and hasattr(given, "buffer")):
        raise TypeError(f"{what} is a text file: open it in binary mode, or pass its `buffer`")
    if hasattr(given, "wrapped"):
        raise TypeError(f"{what} is an asynchronous file: pass what it wraps, `file.wrapped`")
    if not hasattr(given, method):
        raise TypeError(f"{what} is a binary file or a stream, not {type(given).__name__}")


async def feed(source: Input, target: Writer) -> None:
    """Send all that can be read, and EOF.

    Cancelled, what was read last is lost.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        await target.send_all(source)
    elif isinstance(source, trio.abc.ReceiveStream):
        while data := await source.receive_some():
            await target.send_all(data)
    else:
        # What is there, where it can be had: the rest of a pipe's may take its time.
        read = getattr(source, "read1", source.read)
        while data := await trio.to_thread.run_sync(read, _PIECE_BYTES, abandon_on_cancel=True):
            await target.send_all(data)
    await target.aclose()


async def drain(source: Reader, target: Sink | bytearray) -> None:
    """Pass on output up to EOF."""
    while not source.at_eof and (data := await source.receive_some()):
        if isinstance(target, bytearray):
            target += data
        elif isinstance(target, trio.abc.SendStream):
            await target.send_all(data)
        else:
            # Whoever doesn't read what we write must not keep the call from being cancelled.
            await trio.to_thread.run_sync(_write, target, data, abandon_on_cancel=True)


def sink(target: Output | None, own: IO[str]) -> Sink | None:
    """Return where to write output, or None where it goes nowhere, or elsewhere.

    Args:
        target: as `checked_output` takes it.
        own: our own stdout or stderr, or whatever stands in its place.
    """
    if isinstance(target, int):
        return None
    return target or getattr(own, "buffer", None) or _Encoded(own)


class _Encoded:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.flush = stream.flush

    def write(self, data: memoryview, /) -> None:
        self._stream.write(bytes(data).decode("utf-8", "replace"))


def _write(file: BinaryFile, data: bytes) -> None:
    view = memoryview(data)
    while view:
        # A raw file may take a part, and somebody's own class may not say.
        written = file.write(view)
        view = view[written:] if isinstance(written, int) else view[:0]
    file.flush()
