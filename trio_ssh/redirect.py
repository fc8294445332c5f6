"""Where a remote command's input comes from, and where its output goes: bytes, files and streams of this side."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable
from typing import IO, Final

import trio

from trio_ssh.runtime.arguments import Data
from trio_ssh.runtime.file_objects import ObjectSink, ObjectSource, Readable, Writable, check_binary
from trio_ssh.runtime.files import Reader, Writer

Input = Data | Readable | trio.abc.ReceiveStream
#: An int is one of `subprocess`'s constants.
Output = Writable | trio.abc.SendStream | int
Sink = ObjectSink | trio.abc.SendStream

#: Read of a file at once.
_PIECE_BYTES: Final = 256 * 1024


def checked_input(source: Input) -> Input:
    """Return what a command shall read, which can be read.

    Raises:
        TypeError: it can't, such as a str or a text file.
    """
    given: object = source
    if isinstance(given, bytes | bytearray | memoryview | trio.abc.ReceiveStream):
        return source
    if isinstance(given, str):
        raise TypeError("stdin is bytes, a binary file or a stream, not str: encode it")
    if given is None or isinstance(given, int):
        raise TypeError(f'stdin is bytes, a binary file or a stream, not {given!r}: for no input leave it out, or b""')
    check_binary(given, "read", "stdin")
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
    if not isinstance(given, trio.abc.SendStream):
        check_binary(given, "write", what)
    return target


async def feed(source: Input, target: Writer) -> None:
    """Send all that can be read, and EOF; or as much as the command takes, which may end before, as with any pipe.

    Cancelled, what was read last is lost.

    Raises:
        Whatever the source raises.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        await _takes(target.send_all(source))
    elif isinstance(source, trio.abc.ReceiveStream):
        while data := await source.receive_some():
            if not await _takes(target.send_all(data)):
                return
    else:
        file = ObjectSource(source, _PIECE_BYTES)
        while piece := await file.read():
            if not await _takes(target.send_all(piece)):
                return
    await _takes(target.aclose())


async def _takes(sending: Awaitable[None]) -> bool:
    """Tell whether a command still reads; that a connection was lost is told by others."""
    try:
        await sending
    except trio.BrokenResourceError:
        return False
    return True


def sink(target: Output | None, own: IO[str]) -> Sink | None:
    """Return what to write output to, or None where it goes nowhere, or elsewhere.

    Args:
        target: as `checked_output` takes it.
        own: our own stdout or stderr, or whatever stands in its place.
    """
    if target is None:
        return ObjectSink(getattr(own, "buffer", None) or _Encoded(own), is_watched=True)
    if isinstance(target, int):
        return None
    return target if isinstance(target, trio.abc.SendStream) else ObjectSink(target)


async def drain(source: Reader, target: Sink | bytearray) -> None:
    """Pass on output up to EOF."""
    has_written = False
    while not source.at_eof and (data := await source.receive_some()):
        has_written = True
        if isinstance(target, bytearray):
            target += data
        elif isinstance(target, ObjectSink):
            await target.write([memoryview(data)])
        else:
            await target.send_all(data)
    # Where nothing was written, no thread is asked for, which a test's clock wouldn't wait for.
    if isinstance(target, ObjectSink) and has_written:
        await target.flush()


class _Encoded:
    """A text stream, as what takes bytes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.flush = stream.flush

    def write(self, data: memoryview, /) -> None:
        self._stream.write(bytes(data).decode("utf-8", "replace"))
