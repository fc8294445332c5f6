"""What a client runs on its server: `ClientSessions`, the part of `SSHClient` for commands, shells and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.forwarding import PortForwarding
from trio_ssh.process import Command, CompletedProcess, DeliverCancel, Process, command_line, run
from trio_ssh.redirect import Input, Output, checked_input, checked_output
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.files import ChannelFile
from trio_ssh.runtime.hints import with_argument_hints
from trio_ssh.session import Pty
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, SFTPLimits
from trio_ssh.wire.connection import EnvironmentRequest

if TYPE_CHECKING:
    from trio_ssh.sftp.client import SFTPClient

#: The type of terminals of which nothing is known.
_TERMINAL: Final = "vt100"


class ClientSessions(PortForwarding):
    """What a client runs; see `SSHClient`."""

    #: What the configuration says of the connection, and which variables each session gets.
    _options: SSHOptions | None = None
    _environment: Mapping[str, str] = {}

    async def open_session(self) -> Channel:
        """Open a channel on which one command, shell or subsystem can be started.

        Raises:
            ChannelException: the server refuses.
            ConnectionLost: the connection ended.
        """
        return await self._connected().open_session()

    async def open_sftp(self, *, limits: SFTPLimits = DEFAULT_SFTP_LIMITS) -> SFTPClient:
        """Open an SFTP session; close it when you are done: it is an async context manager.

        Args:
            limits: bounds on what the server may make us hold, and on what is under way.

        Raises:
            RequestRefused: the server has no SFTP.
            ChannelException: the server refuses a session.
            RemoteProtocolError: what answers doesn't speak SFTP.
        """
        from trio_ssh.sftp.client import SFTPClient  # noqa: PLC0415 -- a fifth of the package, which most never use

        return await SFTPClient.from_transport(self._connected(), limits=limits)

    @with_argument_hints
    async def exec_command(
        self,
        command: str,
        *,
        get_pty: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[ChannelFile[Channel, str], ChannelFile[Channel, str], ChannelFile[Channel, str]]:
        """Start a command; return files for its stdin, stdout and stderr, as paramiko does.

        Reading one of them to its end never waits for the other.  `run_process` and `open_process` are trio's way.

        Raises:
            RequestRefused: the server refuses the command, the terminal or a variable.
        """
        channel = await self._start(command, Pty(_TERMINAL) if get_pty else None, environment)
        return channel.makefile("w"), channel.makefile("r"), channel.makefile_stderr("r")

    async def invoke_shell(
        self,
        term: str = _TERMINAL,
        width: int = 80,
        height: int = 24,
        width_pixels: int = 0,
        height_pixels: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> Channel:
        """Start the user's login shell in a terminal; its channel carries what is typed and shown.

        A configuration that says ``RequestTTY no`` gets a shell without one.

        Raises:
            RequestRefused: the server grants no terminal or no shell.
        """
        pty = Pty(term, width, height, width_pixels, height_pixels)
        return await self._start(None, None if self._wants_terminal is False else pty, environment)

    @property
    def _wants_terminal(self) -> bool | None:
        """What ``RequestTTY`` says, if it says anything; ``auto`` leaves it to the caller."""
        said = self._options.request_tty if self._options is not None else None
        return {"yes": True, "force": True, "no": False}.get(said or "auto")

    async def _start(
        self,
        command: str | None,
        pty: Pty | None,
        environment: Mapping[str, str] | None,
    ) -> Channel:
        channel = await self._prepare(pty, environment)
        try:
            if command is None:
                await channel.invoke_shell()
            else:
                await channel.exec_command(command)
        except BaseException:
            channel.close_later()
            raise
        return channel

    async def _prepare(self, pty: Pty | None, environment: Mapping[str, str] | None) -> Channel:
        """Open a session in which only the command is missing."""
        channel = await self.open_session()
        try:
            for name, value in self._environment.items():
                if name not in (environment or {}):
                    # Without a reply, as ssh sends them: most servers take few.
                    channel._seal_notice("env", EnvironmentRequest(name, value).encode())
            if environment:
                await channel.update_environment(environment)
            if pty is not None:
                await channel.get_pty(pty.term, pty.width, pty.height, pty.width_pixels, pty.height_pixels, pty.modes)
        except BaseException:
            channel.close_later()
            raise
        return channel

    @with_argument_hints
    async def open_process(
        self,
        command: Command | None = None,
        *,
        env: Mapping[str, str] | None = None,
        term: str | Pty | None = None,
    ) -> Process:
        """Start a command; without one, the configuration's ``RemoteCommand``, or else a shell.

        Args:
            command: a str for the server's shell, or a sequence of words that are quoted for it.
            env: variables to set; the server has to accept them.
            term: ask for a terminal of this type, or of this type and size; None for none, unless the configuration's
                ``RequestTTY`` wants one, which is a vt100.

        Raises:
            RequestRefused: the server refuses the command, the terminal or a variable.

        Cancelled, the channel is closed.  So it should be when you are done: `Process` is an async context manager.
        """
        line = None if command is None else command_line(command)
        if line is None and self._options is not None:
            line = self._options.remote_command
        if term is None and self._wants_terminal:
            term = _TERMINAL
        pty = Pty(term) if isinstance(term, str) else term
        return Process(await self._start(line, pty, env), line or "")

    @with_argument_hints
    async def run_process(  # noqa: ASYNC128 -- what it calls does
        self,
        command: Command,
        *,
        stdin: Input = b"",
        stdout: Output | None = None,
        stderr: Output | None = None,
        capture_stdout: bool = False,
        capture_stderr: bool = False,
        check: bool = True,
        deliver_cancel: DeliverCancel | None = None,
        env: Mapping[str, str] | None = None,
        term: str | Pty | None = None,
        task_status: trio.TaskStatus[Process] = trio.TASK_STATUS_IGNORED,
    ) -> CompletedProcess:
        """Run a command to its end; `trio.run_process`, elsewhere.

        Args:
            command, env, term: as in `open_process`.
            stdin: what the command reads, and then EOF: bytes, a binary file, or a stream, neither of which is closed.
            stdout, stderr: where its output goes: a binary file, or a stream; None for our own stdout and stderr,
                `subprocess.DEVNULL` for nowhere.  ``stderr=subprocess.STDOUT`` lets it come with stdout.
            capture_stdout, capture_stderr: return the output.
            check: raise unless the command succeeds.
            deliver_cancel: an async function of the `Process` that ends it when the call is cancelled.  It runs to its
                end, shielded; then the command has five seconds to end, before the channel is closed.  The default
                sends TERM, five seconds later KILL, and closes the channel then.
            task_status: with ``nursery.start`` the call returns the `Process` as soon as it runs.

        Raises:
            ProcessError: the status is not 0, or a signal ended the command, or the server never said.
            RequestRefused, ConnectionLost: it was not started, or the connection ended.
            OSError, trio.BrokenResourceError: a file or a stream fails.

        Cancelled, or left by Ctrl-C, the command was ended.  What is being read from a file, or written to one, may
        still be, by a thread.
        """
        line = command_line(command)
        checked_input(stdin)
        checked_output(stdout, "stdout", is_captured=capture_stdout)
        checked_output(stderr, "stderr", is_captured=capture_stderr, may_join=True)
        pty = Pty(term) if isinstance(term, str) else term
        process = Process(await self._prepare(pty, env), line)
        return await run(
            process,
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            capture_stdout=capture_stdout,
            capture_stderr=capture_stderr,
            check=check,
            deliver_cancel=deliver_cancel,
            started=task_status.started,
        )
