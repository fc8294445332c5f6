"""Remote commands: `Process`, `run_process` and `CompletedProcess`, with trio's names and semantics.

What a caller can rely on: stdout and stderr are drained together, so neither holds up the other; and cancelling
`run_process` ends the remote command, within a bound.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import ClassVar, Final, Self

import trio

from trio_ssh.core.channel import Half
from trio_ssh.errors import ConnectionLost, ProcessError, RequestRefused
from trio_ssh.redirect import Input, Output, drain, feed, sink
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.files import Reader, Writer
from trio_ssh.runtime.hints import COMPLETED_HINTS, PROCESS_HINTS, Hints, HintTable
from trio_ssh.runtime.session_requests import ExitReport
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.process")

Command = str | Sequence[str]
DeliverCancel = Callable[["Process"], Awaitable[object]]

#: Seconds between TERM and KILL, and between KILL and giving the channel up.
TERMINATE_SECONDS: Final = 5.0
KILL_SECONDS: Final = 1.0

#: What a command is not waited for any more: its connection or its channel is gone.
_GONE: Final = (ConnectionLost, trio.ClosedResourceError)

#: The return code of a command ended by a signal whose name means nothing here.
UNKNOWN_SIGNAL: Final = -255


def command_line(command: Command) -> str:
    """Return what the remote shell is given: a str as it is, a sequence quoted word by word.

    Raises:
        TypeError: it is neither, or some of its words are no str.
        ValueError: it has no words, or a NUL.
    """
    given: object = command
    if isinstance(given, str):
        if not given:
            raise ValueError("the command is empty: it would run nothing, and succeed")
        line = given
    elif isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise TypeError(f"a command is a str, or a sequence of str, not {type(given).__name__}")
    else:
        words = list(given)
        strange = next((word for word in words if not isinstance(word, str)), None)
        if strange is not None:
            raise TypeError(f"a command is a str, or a sequence of str, and {strange!r} is none")
        if not words:
            raise ValueError("the command has no words: an empty one would run nothing, and succeed")
        line = shlex.join(words)
    if "\0" in line:
        # No program can get one, and sshd hangs up.
        raise ValueError("a command holds no NUL")
    return line


class CompletedProcess(subprocess.CompletedProcess[bytes], Hints):
    """A remote command that has ended.

    Attributes:
        args, returncode, stdout, stderr: as in `subprocess.CompletedProcess`; the return code is negative if a signal
            ended the command, and None if the server never said.
        exit_signal: that signal's name without ``SIG``, or None.
    """

    _HINTS: ClassVar[HintTable] = COMPLETED_HINTS

    # None says that the server never reported how the command ended.
    returncode: int | None  # type: ignore[assignment]

    def __init__(
        self,
        args: Command,
        returncode: int | None,
        stdout: bytes | None,
        stderr: bytes | None,
        report: ExitReport,
        command: str,
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)  # type: ignore[arg-type] # as above
        self.exit_signal: str | None = report.signal
        self._report = report
        self._command = command

    def check_returncode(self) -> None:
        """Raise `ProcessError` unless the command succeeded; one whose end the server never told has not."""
        if self.returncode != 0:
            report = self._report
            raise ProcessError(self.returncode, self._command, self.stdout, self.stderr, report.signal, report.message)


class Process(trio.abc.AsyncResource, Hints):
    r"""A command that runs on the server.  Get one from `SSHClient.open_process`; close it when you are done.

        async with await client.open_process("sort") as process:
            await process.stdin.send_all(b"b\na\n")
            await process.stdin.aclose()
            print(await process.stdout.read())

    Attributes:
        command: what was asked for, as the server's shell got it; empty for a shell.
        stdin: a send stream; closing it sends EOF.
        stdout, stderr: receive streams that also know ``lines()`` and ``read()``.
        channel: the channel itself.
    """

    _HINTS: ClassVar[HintTable] = PROCESS_HINTS

    def __init__(self, channel: Channel, command: str) -> None:
        self.channel = channel
        self.command = command
        self.stdin: Writer = Writer(channel.send_all, channel.send_eof, channel.wait_send_all_might_not_block)
        self.stdout: Reader = Reader(channel, channel.drop_stdout, channel.keep_stderr)
        self.stderr: Reader = Reader(channel.stderr, channel.drop_stderr, channel.keep_stdout)
        self._report: ExitReport | None = None

    def __repr__(self) -> str:
        state = f"returned {self.returncode}" if self._known_report() is not None else "running"
        return f"<Process {self.command!r}, {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal's number; None while it runs, or where the server never said."""
        report = self._known_report()
        return _returncode(report) if report is not None else None

    @property
    def exit_signal(self) -> str | None:
        """The name, without ``SIG``, of the signal that ended the command."""
        report = self._known_report()
        return report.signal if report is not None else None

    def _known_report(self) -> ExitReport | None:
        """Return what the server has said so far, waited for or not."""
        if self._report is None and self.channel.exit_status_ready():
            self._report = self.channel._exit_report
        return self._report

    async def wait(self) -> int | None:
        """Wait for the command to end; return the return code.

        Read stdout and stderr meanwhile: a command that can't write doesn't end.  Cancelled, the command goes on.

        Raises:
            ConnectionLost: the connection ended first.
        """
        self._report = await self.channel.recv_exit_report()
        return _returncode(self._report)

    def send_signal(self, sig: signal.Signals | int | str) -> None:
        """Send a signal.  Servers may ignore it: sshd sends it to the commands of ordinary users."""
        self.channel.send_signal(sig)

    def terminate(self) -> None:
        """Send TERM."""
        self.send_signal("TERM")

    def kill(self) -> None:
        """Send KILL."""
        self.send_signal("KILL")

    def resize_pty(self, width: int = 80, height: int = 24, width_pixels: int = 0, height_pixels: int = 0) -> None:
        """Tell the command that its terminal has another size, in characters and pixels."""
        self.channel.resize_pty(width, height, width_pixels, height_pixels)

    async def aclose(self) -> None:
        """Close the channel.  The command sees EOF and broken pipes; what it makes of them is its own affair."""
        await self.channel.aclose()

    async def end(self) -> None:
        """Terminate, wait, kill, wait, close: at most six seconds in all, even where the caller is cancelled.

        A server need not pass a signal on: where it says nothing of the command's end, a warning is logged.
        """
        with trio.CancelScope(shield=True):
            for name, seconds in (("TERM", TERMINATE_SECONDS), ("KILL", KILL_SECONDS)):
                if self.channel.exit_status_ready():
                    break
                try:
                    self.send_signal(name)
                    with trio.move_on_after(seconds):
                        await self.channel.recv_exit_report()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    break
            else:
                if not self.channel.exit_status_ready():
                    _log.warning(
                        "%r may still run: the server said nothing of its end after TERM and KILL, as sshd does where "
                        "it runs commands as root",
                        printable(self.command, 80),
                    )
            await self.aclose()


def _returncode(report: ExitReport) -> int | None:
    if report.signal is None:
        return report.status
    try:
        return -signal.Signals[f"SIG{report.signal}"].value
    except KeyError:
        return UNKNOWN_SIGNAL


async def run(
    process: Process,
    args: Command,
    *,
    stdin: Input,
    stdout: Output | None,
    stderr: Output | None,
    capture_stdout: bool,
    capture_stderr: bool,
    check: bool,
    deliver_cancel: DeliverCancel | None,
    started: Callable[[Process], None],
) -> CompletedProcess:
    """Start a process, feed it, drain it and wait for it; see `SSHClient.run_process`."""
    channel = process.channel
    out = bytearray() if capture_stdout else sink(stdout, sys.stdout)
    err = bytearray() if capture_stderr else sink(stderr, sys.stderr)
    has_input = not isinstance(stdin, bytes | bytearray | memoryview) or len(stdin) > 0
    feeding = trio.CancelScope()

    async def feed_stdin() -> None:
        with feeding:
            await feed(stdin, process.stdin)

    async def follow() -> None:
        if out is not None:
            await drain(process.stdout, out)
        if isinstance(err, bytearray):
            await drain(process.stderr, err)
        if process.returncode is None:
            await process.wait()
        feeding.cancel()

    beside: list[Callable[[], Awaitable[None]]] = []
    if has_input:
        beside.append(feed_stdin)
    if out is None:
        channel.drop_stdout()
    if isinstance(err, bytearray):
        # What is captured needs no task of its own: it is kept as it comes.
        channel.keep_stderr(math.inf)
    elif err is not None:
        beside.append(lambda: drain(process.stderr, err))
    elif stderr == subprocess.STDOUT:
        channel.set_combine_stderr(True)
    else:
        channel.drop_stderr()

    async def see_through() -> None:
        # A command without input gets its EOF along with the request.
        await channel._exec(process.command, then_eof=not has_input)
        started(process)
        await (_together(*beside, follow) if beside else follow())

    try:
        await trio.lowlevel.checkpoint_if_cancelled()  # here, nothing has been started
        await _or_end(process, see_through, deliver_cancel)
    finally:
        process.channel.close_later()
    done = CompletedProcess(
        args,
        process.returncode,
        bytes(out) if isinstance(out, bytearray) else None,
        bytes(err) if isinstance(err, bytearray) else None,
        process._report or ExitReport(),
        process.command,
    )
    if check:
        done.check_returncode()
    return done


async def _or_end(
    process: Process, function: Callable[[], Awaitable[None]], deliver_cancel: DeliverCancel | None
) -> None:
    """Run `function`; if it is left early, end the command, which may run although the server has not said so yet."""
    try:
        await function()
    except RequestRefused:
        raise  # nothing runs
    except BaseException:  # Ctrl-C, where this is the main task; or what is read from, or written to, has broken
        channel = process.channel
        if channel.core.inbound is Half.CLOSED or not channel.get_transport().is_active():
            raise  # nobody hears of it
        with trio.CancelScope(shield=True):
            if deliver_cancel is None:
                await process.end()
            else:
                await deliver_cancel(process)
                # As trio does, but not for ever: closing the channel would cut short what it does in the end.
                with trio.move_on_after(TERMINATE_SECONDS), contextlib.suppress(*_GONE):
                    await process.wait()
        raise


async def _together(*functions: Callable[[], Awaitable[object]]) -> None:
    """Run all of them; the first exception cancels the others and leaves bare."""
    async with bare_nursery(keeps_groups=True) as nursery:
        for function in functions[:-1]:
            nursery.start_soon(function)
        await functions[-1]()
