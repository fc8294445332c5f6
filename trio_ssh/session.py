"""What a server's handler is given: a session's command, terminal, environment and streams."""

from __future__ import annotations

import logging
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import ClassVar, Final, Generic, Self, TypeVar, cast

import attrs
import trio

from trio_ssh.core.channel import Half, Source
from trio_ssh.errors import LocalProtocolError
from trio_ssh.runtime.block import RAISED, leaves, sort_out
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.files import Reader, Writer
from trio_ssh.runtime.hints import SERVER_PROCESS_HINTS, Hints, HintTable
from trio_ssh.runtime.session_requests import LARGEST_STATUS, ExitReport
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import resolved
from trio_ssh.terminal import modes_of, size_of
from trio_ssh.wire.connection import PtyRequest
from trio_ssh.wire.numbers import TerminalMode
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.server")

T = TypeVar("T")

#: The exit status of a session whose handler failed, as ssh itself reports its own failures.
FAILED_STATUS: Final = 255

#: What ends a process that catches nothing, and is meant to.
_ENDING: Final = frozenset(("HUP", "INT", "QUIT", "ABRT", "KILL", "TERM"))

#: Signals that wait for a handler; more are refused.
_WAITING: Final = 64

#: How long a session waits for the place of one whose client has left it.
LEAVING_SECONDS: Final = 0.5

_OPCODES: Final = {mode.value: mode for mode in TerminalMode}


@attrs.frozen
class Pty:
    """The terminal that a client asked for.

    Attributes:
        term: the terminal's type, as in ``$TERM``.
        width, height: in characters; width_pixels, height_pixels: in pixels, 0 if unknown.
        modes: RFC 4254 s8 modes and their values; opcodes that have no name are left out.
    """

    term: str
    width: int = 80
    height: int = 24
    width_pixels: int = 0
    height_pixels: int = 0
    modes: Mapping[TerminalMode, int] = attrs.field(factory=dict[TerminalMode, int])

    @classmethod
    def from_terminal(cls, descriptor: int = 0, term: str | None = None) -> Self:
        """Describe a terminal of this machine, for one like it on the other side.

        Args:
            descriptor: of the terminal; 0 is stdin.
            term: its type; None for what ``$TERM`` says.

        Raises:
            OSError: it is no terminal.
        """
        try:
            width, height, width_pixels, height_pixels = size_of(descriptor)
        except OSError as error:
            raise OSError(error.errno, f"descriptor {descriptor} is no terminal") from None
        modes = modes_of(descriptor)
        return cls(
            term or os.environ.get("TERM") or "vt100", width or 80, height or 24, width_pixels, height_pixels, modes
        )

    @classmethod
    def from_request(cls, request: PtyRequest) -> Self:
        """Read a ``pty-req``."""
        return cls(
            request.term,
            request.width,
            request.height,
            request.width_pixels,
            request.height_pixels,
            decode_modes(request.modes),
        )


def decode_modes(encoded: bytes) -> dict[TerminalMode, int]:
    """RFC 4254 s8: opcodes 1 to 159 have a uint32 each; reading ends at TTY_OP_END, at 160, or where the bytes do."""
    modes: dict[TerminalMode, int] = {}
    offset = 0
    while offset + 5 <= len(encoded) and 0 < encoded[offset] < 160:
        mode = _OPCODES.get(encoded[offset])
        if mode is not None:
            modes[mode] = int.from_bytes(encoded[offset + 1 : offset + 5], "big")
        offset += 5
    return modes


class Inbox(Generic[T]):
    """Values for a handler, who may never look: a memory channel that is made when it is first wanted.

    Args:
        keeps_newest: of values that wait, only the newest counts; otherwise the first `_WAITING` are kept, and later
            ones refused.

    Attributes:
        is_wanted: the handler has asked for them.
    """

    def __init__(self, *, keeps_newest: bool) -> None:
        self._keeps_newest = keeps_newest
        self.is_wanted: bool = False
        self._ends: tuple[trio.MemorySendChannel[T], trio.MemoryReceiveChannel[T]] | None = None

    def _open(self) -> tuple[trio.MemorySendChannel[T], trio.MemoryReceiveChannel[T]]:
        if self._ends is None:
            self._ends = trio.open_memory_channel[T](_WAITING)
        return self._ends

    @property
    def receiver(self) -> trio.MemoryReceiveChannel[T]:
        """Where the handler takes them."""
        self.is_wanted = True
        return self._open()[1]

    def put(self, value: T) -> bool:
        """Keep a value; tell whether there was room."""
        sender, receiver = self._open()
        if self._keeps_newest:
            while receiver.statistics().current_buffer_used:
                receiver.receive_nowait()
        try:
            sender.send_nowait(value)
        except trio.WouldBlock:
            return False
        return True


class SessionState:
    """What is known of a session, from its opening on."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.pty: Pty | None = None
        self.is_started = False
        self.forwards_agent = False
        #: What the client wanted to run, where something else was forced upon it.
        self.original_command = ""
        self.signals: Inbox[str] = Inbox(keeps_newest=False)
        self.sizes: Inbox[Pty] = Inbox(keeps_newest=True)
        #: What the handler runs in, once it does; and the signal that it was ended by.
        self.scope: trio.CancelScope | None = None
        self.ended_by: str = ""

    def deliver_signal(self, name: str) -> bool:
        """Keep a signal for the handler; one that has asked for none is ended by what ends a process."""
        if not self.is_started or not name.isalnum() or len(name) > 32:
            return False
        if name not in _ENDING or self.signals.is_wanted:
            return self.signals.put(name)
        self.ended_by = self.ended_by or name
        if self.scope is not None:
            self.scope.cancel()
        return True

    def resize(self, width: int, height: int, width_pixels: int, height_pixels: int) -> None:
        """Keep a terminal's new size for the handler; only the newest counts."""
        if self.pty is None:
            return
        self.pty = attrs.evolve(
            self.pty, width=width, height=height, width_pixels=width_pixels, height_pixels=height_pixels
        )
        self.sizes.put(self.pty)


class SessionPlaces:
    """Which sessions of a connection have their handlers at work.

    Closing a channel cancels its handler, but that may take its time: the core's count of channels is not enough.

    Args:
        count: how many may be at work at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken: set[Channel] = set()
        self._freed = trio.lowlevel.ParkingLot()

    @property
    def are_all_taken(self) -> bool:
        """Whether no other session can start now."""
        return len(self._taken) >= self._count

    @property
    def is_one_being_left(self) -> bool:
        """Whether a client has closed a session whose handler hasn't got so far yet."""
        return any(channel.core.inbound is Half.CLOSED for channel in self._taken)

    async def wait(self) -> None:
        """Wait for a place that is being left, though not for long: whoever closes a session may start the next."""
        with trio.move_on_after(LEAVING_SECONDS):
            while self.are_all_taken and self.is_one_being_left:
                await self._freed.park()

    def take(self, channel: Channel) -> None:
        """A session's handler starts."""
        self._taken.add(channel)

    def free(self, channel: Channel) -> None:
        """It has ended."""
        self._taken.remove(channel)
        self._freed.unpark_all()


class ServerProcess(Hints):
    """A command, shell or subsystem that a client wants to be run.

    Attributes:
        command: what to run, as one str; None for a shell or a subsystem.
        subsystem: its name, or None.
        username: who is logged in.
        environment: the variables that the client set and the server granted.
        channel: the channel itself.
        stdin: a receive stream that also knows ``lines()``.
        stdout, stderr: send streams that also take text by ``write``.
    """

    _HINTS: ClassVar[HintTable] = SERVER_PROCESS_HINTS

    def __init__(
        self, channel: Channel, state: SessionState, command: str | None, subsystem: str | None, username: str
    ) -> None:
        self.channel = channel
        self.command = command
        self.subsystem = subsystem
        self.username = username
        self.environment: dict[str, str] = state.environment.copy()
        self._state = state
        self.stdin: Reader = Reader(channel, channel.drop_stdout)
        self.stdout: Writer = Writer(channel.send_all, channel.send_eof, channel.wait_send_all_might_not_block)
        self.stderr: Writer = Writer(
            channel.send_stderr, trio.lowlevel.checkpoint, partial(channel._wait_to_send, Source.STDERR)
        )
        self._is_exited = False

    def __repr__(self) -> str:
        what = f"subsystem {self.subsystem!r}" if self.subsystem is not None else repr(self.command or "shell")
        return f"<ServerProcess {printable(what, 80)} of {printable(self.username, 40)}>"

    @property
    def signals(self) -> trio.MemoryReceiveChannel[str]:
        """The signals that the client sends: names without ``SIG``.

        Whoever never asks for them is cancelled by HUP, INT, QUIT, ABRT, KILL or TERM, as a process that catches
        nothing is ended, and the client is told that it was the signal.
        """
        return self._state.signals.receiver

    @property
    def window_changes(self) -> trio.MemoryReceiveChannel[Pty]:
        """The terminal's new sizes; of those not yet taken, the newest."""
        return self._state.sizes.receiver

    @property
    def pty(self) -> Pty | None:
        """The terminal, with its newest size, or None."""
        return self._state.pty

    @property
    def forwards_agent(self) -> bool:
        """Whether the client lets the session use its agent, and the server let it."""
        return self._state.forwards_agent

    async def open_agent(self) -> Channel:
        """Open a channel to the client's agent; ``Agent(stream=...)`` speaks with it.

        Raises:
            LocalProtocolError: the client didn't offer its agent, or the server refused it.
            ChannelException: the client refuses now.
        """
        if not self.forwards_agent:
            await trio.lowlevel.checkpoint()
            raise LocalProtocolError("this session has no agent: its client did not ask for it to be forwarded")
        transport = self.channel.get_transport()
        assert isinstance(transport, Transport), "there is no other link"
        return await transport.open_channel("auth-agent@openssh.com")

    def exit(self, status: int) -> None:
        """Report an exit status; the first report counts.  The session goes on until its handler returns."""
        if not self._is_exited and self._can_report:
            self.channel.send_exit_status(status)
            self._is_exited = True

    def exit_signal(self, name: str, *, core_dumped: bool = False, message: str = "") -> None:
        """Report that a signal ended the command; its name without ``SIG``."""
        if not self._is_exited and self._can_report:
            self.channel.send_exit_signal(name, core_dumped=core_dumped, message=message)
            self._is_exited = True

    def _begin(self, scope: trio.CancelScope) -> None:
        """The handler runs in this."""
        self._state.scope = scope
        if self._state.ended_by:
            scope.cancel()

    def _note_end(self) -> None:
        """The handler was cancelled: report the signal, if it was one."""
        if self._state.ended_by:
            self.exit_signal(self._state.ended_by)

    def _finish(self, returncode: int) -> None:
        """End the session; report a return code (negative for a signal, as in `subprocess`) unless one was reported."""
        self.channel._finish(ExitReport() if self._is_exited else _as_report(returncode))

    @property
    def _can_report(self) -> bool:
        core = self.channel.core
        return (
            core.outbound is not Half.CLOSED
            and core.inbound is not Half.CLOSED
            and self.channel.get_transport().is_active()
        )


def _as_report(returncode: int) -> ExitReport:
    if returncode >= 0:
        return ExitReport(status=returncode)
    try:
        return ExitReport(signal=signal.Signals(-returncode).name.removeprefix("SIG"))
    except ValueError:
        return ExitReport(status=FAILED_STATUS)


class SubsystemHandler(ABC):
    """Serves one subsystem of one session."""

    @abstractmethod
    async def handle(self, process: ServerProcess) -> int | None:
        """Serve it, and return the exit status (None is 0)."""


async def run_session(
    process: ServerProcess,
    handle: Callable[[ServerProcess], Awaitable[int | None]],
    on_failure: Callable[[Exception], None],
) -> None:
    """Run a handler, and end its channel in good order: status, EOF, CLOSE.

    Args:
        on_failure: takes the handler's exception, after it was logged.
    """
    status = FAILED_STATUS
    try:
        # A client that closes the channel, or hangs up, has ended its session: the handler gets a cancellation.
        with trio.CancelScope() as scope:
            process.channel.end_with_channel(scope)
            process._begin(scope)
            # One that never waits may be no coroutine function, as the checks may.
            status = _as_status(await resolved(handle(process)))
        if scope.cancelled_caught:
            process._note_end()
    except RAISED as error:
        failure, exited, rest = sort_out(error)
        if failure is not None:
            note_failure(repr(process), process.channel, failure, on_failure)
        elif exited is not None:
            _log.warning("the handler of %r called sys.exit", process)
            is_status = isinstance(exited.code, int) and 0 <= exited.code <= LARGEST_STATUS
            status = cast("int", exited.code) if is_status else FAILED_STATUS
        if rest is not None:
            raise rest  # noqa: B904 -- it is what was caught, less what is dealt with
    finally:
        process._finish(status)


def note_failure(what: str, channel: Channel, error: Exception, on_failure: Callable[[Exception], None]) -> None:
    """Log why a handler failed, and tell whoever wants to know, unless its client merely went away."""
    if is_left_by_client(channel, error):
        _log.debug("%s ended with its client: %s", what, error)
        return
    _log.error("the handler of %s failed", what, exc_info=error)
    try:
        on_failure(error)
    except (Exception, SystemExit):
        _log.exception("handler_failed failed, told of %s", what)


def is_left_by_client(channel: Channel, error: Exception) -> bool:
    """Tell whether a handler failed for no other reason than that its client went away, which is nobody's mistake.

    A stream of the handler's own may break too, and that one is not for us to overlook.
    """
    is_gone = channel.core.inbound is Half.CLOSED or not channel.get_transport().is_active()
    return is_gone and all(
        isinstance(leaf, trio.BrokenResourceError | trio.ClosedResourceError) for leaf in leaves(error)
    )


def _as_status(result: object) -> int:
    if result is None:
        return 0
    if not isinstance(result, int) or isinstance(result, bool):
        raise TypeError(f"a handler returns an exit status, that is an int or None, and not {result!r}")
    if result > LARGEST_STATUS:
        # The wire carries more, but ssh looks at eight bits: 256 would be a success.
        raise ValueError(f"a handler returns an exit status, 0 .. 255 as processes have it, and not {result}")
    return int(result)
