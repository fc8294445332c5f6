"""RFC 4254 section 6: what one side asks of a session's channel, and how the command in it ended.

A part of the public `Channel`: its requests, spelled and typed.  Refuses to know how a request travels and how its
reply is awaited.
"""

from __future__ import annotations

import operator
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

import attrs
import trio

from trio_ssh.runtime.arguments import checked_text
from trio_ssh.runtime.interrupts import uninterrupted
from trio_ssh.runtime.waiting import Reply
from trio_ssh.wire.connection import (
    EnvironmentRequest,
    ExecRequest,
    ExitSignal,
    ExitStatus,
    PtyRequest,
    SignalRequest,
    SubsystemRequest,
    WindowChange,
    X11Request,
)
from trio_ssh.wire.numbers import TerminalMode
from trio_ssh.wire.text import printable

#: RFC 4254 s6.10 has four bytes for an exit status, and processes have eight bits, which is what ssh looks at.
LARGEST_STATUS: Final = 255

#: RFC 4254 s8: no modes at all.
_NO_MODES: Final = bytes((TerminalMode.END,))


@attrs.frozen
class ExitReport:
    """How the server says that a command ended: by a status, or by a signal, or neither.

    Attributes:
        status: the exit status, or None.
        signal: the signal's name without ``SIG``, or None.
        message: what the server says of that signal, escaped.
        core_dumped: whether there is a dump.
    """

    status: int | None = None
    signal: str | None = None
    message: str = ""
    core_dumped: bool = False


@uninterrupted
class SessionRequests(ABC):
    """The requests of a session's channel."""

    def __init__(self) -> None:
        self._exit: Reply[ExitReport] = Reply()
        self._exit_report: ExitReport | None = None
        self._has_begun = False

    @abstractmethod
    async def _request(self, name: str, details: bytes, hint: str = "", *, then_eof: bool = False) -> None:
        """Ask, and wait for the reply; raise RequestRefused if it is no."""

    @abstractmethod
    def _notify(self, name: str, details: bytes) -> None:
        """Ask without a reply."""

    @abstractmethod
    def _seal_notice(self, name: str, details: bytes) -> None:
        """As `_notify`, for whoever has more to send at once."""

    # -- requests to the peer

    async def exec_command(self, command: str) -> None:
        """Run `command` by the user's shell on the server.

        Raises:
            RequestRefused: the server refuses; a channel runs one command, shell or subsystem only.

        Cancelled, the command may have been started: close the channel.
        """
        await self._exec(command, then_eof=False)

    async def _exec(self, command: str, *, then_eof: bool) -> None:
        if "\0" in checked_text(command, "a command"):  # type checkers know; paramiko takes bytes
            raise ValueError("a command holds no NUL")  # no program can get one, and sshd hangs up
        details = ExecRequest(command).encode()
        await self._request("exec", details, self._hint("command"), then_eof=then_eof)

    def _hint(self, what: str) -> str:
        """Say why the request may be refused; and note that it was made."""
        is_first, self._has_begun = not self._has_begun, True
        return (
            f"the server does not allow this user a {what}" if is_first else "a channel runs one command or shell only"
        )

    async def invoke_shell(self) -> None:
        """Start the user's login shell; ask for a pty first if it shall be interactive."""
        await self._request("shell", b"", self._hint("shell"))

    async def invoke_subsystem(self, name: str) -> None:
        """Start a subsystem, such as ``sftp``."""
        await self._request(
            "subsystem", SubsystemRequest(name).encode(), "the server has no such subsystem, or forbids it"
        )

    async def get_pty(
        self,
        term: str = "vt100",
        width: int = 80,
        height: int = 24,
        width_pixels: int = 0,
        height_pixels: int = 0,
        modes: Mapping[TerminalMode, int] | None = None,
    ) -> None:
        """Ask for a pseudo-terminal, before the command or shell.

        Args:
            width, height: in characters.
            modes: RFC 4254 s8 terminal modes and their values.
        """
        encoded = (
            b"".join(bytes((mode,)) + value.to_bytes(4, "big") for mode, value in (modes or {}).items()) + _NO_MODES
        )
        details = PtyRequest(term, width, height, width_pixels, height_pixels, encoded).encode()
        await self._request("pty-req", details, "the server grants no terminal")

    def resize_pty(self, width: int = 80, height: int = 24, width_pixels: int = 0, height_pixels: int = 0) -> None:
        """Tell the server that the terminal has another size, in characters and pixels."""
        self._notify("window-change", WindowChange(width, height, width_pixels, height_pixels).encode())

    async def set_environment_variable(self, name: str, value: str) -> None:
        """Set a variable for the command.  Most servers accept few names (sshd: AcceptEnv).

        Raises:
            RequestRefused: the server doesn't accept this one.
        """
        hint = f"it does not accept the variable {name}: it needs AcceptEnv there, or to be set in the command"
        await self._request("env", EnvironmentRequest(name, value).encode(), hint)

    async def update_environment(self, environment: Mapping[str, str]) -> None:
        """Set several variables."""
        await trio.lowlevel.checkpoint()
        for name, value in environment.items():
            await self.set_environment_variable(name, value)

    async def request_x11(
        self,
        screen_number: int = 0,
        auth_protocol: str = "MIT-MAGIC-COOKIE-1",
        auth_cookie: bytes = b"",
        single_connection: bool = False,
    ) -> None:
        """Ask the server to forward X11; the channels that it then opens come from `Transport.accept`."""
        details = X11Request(single_connection, auth_protocol, auth_cookie, screen_number).encode()
        await self._request("x11-req", details)

    def send_signal(self, signum: signal.Signals | int | str) -> None:
        """Send the command a signal: a `signal.Signals` member or its number here, or a name.  There is no answer.

        Raises:
            ValueError: no signal has this number, or the name is none.
        """
        name = (signum if isinstance(signum, str) else signal.Signals(signum).name).removeprefix("SIG")
        # RFC 4254 s6.10 lets anybody have signals of their own: name@domain.
        if not name.partition("@")[0].isalnum():
            raise ValueError(f"a signal is named as signal.Signals names it, such as 'TERM', and not {signum!r}")
        self._notify("signal", SignalRequest(name).encode())

    # -- how the command ended

    def exit_status_ready(self) -> bool:
        """Tell whether `recv_exit_status` would return at once."""
        return self._exit.is_done

    async def recv_exit_report(self) -> ExitReport:
        """Wait for the server to say how the command ended; an empty report if it closes the channel without saying.

        Raises:
            ConnectionLost: the connection ended first.
        """
        if self._exit_report is None:
            # stdout and stderr must not hold it up: RFC 4254 puts it behind the data.
            return await self._exit.wait()
        await trio.lowlevel.checkpoint()
        return self._exit_report

    async def recv_exit_status(self) -> int:
        """Wait for the command's exit status; -1 if it was ended by a signal or the server never said.

        Read the output before, or meanwhile: a command that can't write doesn't end.
        """
        report = await self.recv_exit_report()
        return -1 if report.status is None else report.status

    def send_exit_status(self, status: int) -> None:
        """Server: report how the command ended; 0 .. 255, as processes have it.

        Raises:
            TypeError, ValueError: it is no such status.
        """
        if isinstance(status, bool) or not 0 <= operator.index(status) <= LARGEST_STATUS:
            raise ValueError(f"an exit status is 0 .. 255, as processes have it, not {status}")
        self._notify(*_encoded(ExitReport(status=status)))

    def send_exit_signal(self, name: str, *, core_dumped: bool = False, message: str = "") -> None:
        """Server: report that a signal ended the command; its name without ``SIG``."""
        report = ExitReport(signal=name.removeprefix("SIG"), core_dumped=core_dumped, message=message)
        self._notify(*_encoded(report))

    def _send_exit(self, report: ExitReport) -> None:
        """Seal a report, unless it has nothing to say."""
        if report.signal is not None or report.status is not None:
            self._seal_notice(*_encoded(report))

    # -- what the connection's tasks tell it

    def _on_exit_request(self, name: str, details: bytes) -> None:
        """Keep how the command ended; only the first report counts."""
        if self._exit_report is not None:
            return
        if name == "exit-status":
            self._exit_report = ExitReport(status=ExitStatus.decode(details).status)
        else:
            report = ExitSignal.decode(details)
            self._exit_report = ExitReport(
                signal=printable(report.name, 64), message=printable(report.message), core_dumped=report.core_dumped
            )
        self._exit.bring(self._exit_report)


def _encoded(report: ExitReport) -> tuple[str, bytes]:
    """Return a report's request and its details; the report says one or the other."""
    if report.signal is not None:
        return "exit-signal", ExitSignal(report.signal, report.core_dumped, report.message, "").encode()
    return "exit-status", ExitStatus(report.status or 0).encode()
