"""A session that runs a real local process, with a real terminal where one was asked for.

    class Shells(trio_ssh.ServerInterface):
        ...
        async def handle_session(self, process):
            return await trio_ssh.run_local_session(process)

The process runs as the user that the *server* runs as, whoever logged in: authenticate accordingly.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import signal
import subprocess
import termios
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import trio

from trio_ssh.agent_forwarding import agent_socket
from trio_ssh.process import command_line
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.session import Pty, ServerProcess
from trio_ssh.terminal import set_modes, set_size

#: What a shell says of a command that it can't execute.
CANNOT_START_STATUS: Final = 126

#: Bytes that one read of a pipe or terminal asks for.
_READ_BYTES: Final = 64 * 1024

#: How long a terminal whose process is gone must be silent, and what it may bring until then: the kernel hands over
#: what was written a little later, and others may go on and on.
_SETTLE_SECONDS: Final = 0.2
_LEFT_BYTES: Final = 1024 * 1024

#: Seconds between HUP and KILL for a process whose client is gone.
_HANGUP_SECONDS: Final = 1.0


class _CannotStart(Exception):
    """The process could not be started; the text says why."""


@attrs.frozen
class _Program:
    """What is run: its arguments, and its path where the first of them isn't it."""

    arguments: list[str]
    path: str | None


async def run_local_session(
    process: ServerProcess,
    *,
    command: Sequence[str] | None = None,
    shell: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> int:
    """Run the command, or a login shell if there is none, and return its return code as `subprocess` has it.

    Args:
        process: the session; what is typed, shown, signalled and resized passes through.
        command: a program and its arguments to run instead of what the client wants, by no shell.
        shell: runs the command; None for the local user's own.
        env: the environment below what the client set; None for a small one of a login.
        cwd: where to start; None for the home directory.

    A client that forwards its agent, and may, finds it at ``$SSH_AUTH_SOCK``.

    Raises:
        TypeError, ValueError: `command` is no sequence of str, or has no words.

    A process that can't be started is told of on stderr, with status 126.  The process is gone when this returns,
    however it returns: cancelled, or left by its client, it gets HUP, and KILL a second later.
    """
    if isinstance(command, str):
        raise TypeError(f"command is a sequence of words, not {command!r}: shlex.split makes one of a str")
    if command is not None:
        command_line(command)  # it is looked at, and quoted for nobody
    account = _account()
    shell = shell or account.pw_shell or "/bin/sh"
    name = os.path.basename(shell)
    program = _Program([f"-{name}"] if process.command is None else [name, "-c", process.command], shell)
    if command is not None:
        program = _Program(list(command), None)
        name = program.arguments[0]
    environment = {
        "HOME": account.pw_dir,
        "LOGNAME": account.pw_name,
        "PATH": os.environ.get("PATH", os.defpath),
        "SHELL": shell,
        "USER": account.pw_name,
    }
    environment.update(env or {})
    environment.update(process.environment)
    directory = cwd or (account.pw_dir if await trio.Path(account.pw_dir).is_dir() else "/")
    try:
        async with contextlib.AsyncExitStack() as stack:
            if process.forwards_agent:
                environment["SSH_AUTH_SOCK"] = await stack.enter_async_context(agent_socket(process))
            if process.pty is None:
                return await _run_with_pipes(process, program, environment, directory)
            return await _run_with_terminal(process, process.pty, program, environment, directory)
    except _CannotStart as error:
        # A command that is too long is its client's affair, and no failure of the server's.
        await process.stderr.write(f"{name}: {error}\n")
        return CANNOT_START_STATUS


def _account() -> pwd.struct_passwd:
    """Return whose session it is: in a container, nobody's perhaps."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return pwd.struct_passwd((str(uid), "", uid, os.getgid(), "", "/", "/bin/sh"))


# -- without a terminal


async def _run_with_pipes(
    session: ServerProcess, program: _Program, environment: Mapping[str, str], directory: str
) -> int:
    try:
        child = await trio.lowlevel.open_process(
            program.arguments,
            executable=program.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _CannotStart(str(error)) from error  # too long, or with a NUL
    assert child.stdin is not None, "it is a pipe"
    assert child.stdout is not None, "it is a pipe"
    assert child.stderr is not None, "it is a pipe"
    async with _Ending(child), bare_nursery() as nursery:
        # Input and signals never end the session, nor hold it up.
        nursery.start_soon(_feed, session, child.stdin)
        nursery.start_soon(_pass_signals, session, child)
        async with bare_nursery() as outputs:
            outputs.start_soon(_pump, child.stdout, session.stdout)
            outputs.start_soon(_pump, child.stderr, session.stderr)
        status = await child.wait()
        nursery.cancel_scope.cancel()
    return status


async def _feed(session: ServerProcess, target: trio.abc.SendStream) -> None:
    """Client to process, up to EOF on either side."""
    try:
        while data := await session.stdin.receive_some():
            await target.send_all(data)
    except trio.BrokenResourceError:
        pass  # the process reads no more, or the client is gone; the outputs tell which
    finally:
        await trio.aclose_forcefully(target)


async def _pump(source: trio.abc.ReceiveStream, target: trio.abc.SendStream) -> None:
    """Process to client, up to EOF."""
    while data := await source.receive_some(_READ_BYTES):
        await target.send_all(data)


async def _pass_signals(session: ServerProcess, child: trio.Process) -> None:
    async for name in session.signals:
        number = getattr(signal, f"SIG{name}", None)
        if isinstance(number, signal.Signals):
            _signal_group(child, number)


def _signal_group(child: trio.Process, number: signal.Signals) -> None:
    """Signal the process and whatever it started: it leads a session of its own."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


class _Ending:
    """Sees to it that a process is gone when its block is left."""

    def __init__(self, child: trio.Process) -> None:
        self._child = child

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exception: object) -> None:
        child = self._child
        with trio.CancelScope(shield=True):
            if child.poll() is None:
                _signal_group(child, signal.SIGHUP)
                with trio.move_on_after(_HANGUP_SECONDS):
                    await child.wait()
            if child.poll() is None:
                _signal_group(child, signal.SIGKILL)
                await child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    await trio.aclose_forcefully(stream)


# -- with a terminal


async def _run_with_terminal(
    session: ServerProcess,
    pty: Pty,
    program: _Program,
    environment: Mapping[str, str],
    directory: str,
) -> int:
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise _CannotStart(f"no terminal: {error.strerror}") from error
    try:
        set_size(theirs, pty.width, pty.height, pty.width_pixels, pty.height_pixels)
        set_modes(theirs, pty.modes)
        terminal_name = os.ttyname(theirs)
        child = await trio.lowlevel.open_process(
            program.arguments,
            executable=program.path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": pty.term or "dumb", "SSH_TTY": terminal_name},
            cwd=directory,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
    except (OSError, ValueError) as error:
        os.close(ours)
        raise _CannotStart(str(error)) from error
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    terminal = trio.lowlevel.FdStream(ours)
    async with terminal, _Ending(child), bare_nursery() as nursery:
        nursery.start_soon(_type, session, terminal)
        nursery.start_soon(_pass_signals, session, child)
        nursery.start_soon(_resize, session, ours)
        await _show(terminal, session, child)
        status = await child.wait()
        nursery.cancel_scope.cancel()
    return status


def _take_terminal() -> None:
    """In the child, which leads a session: make stdin its controlling terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def _type(session: ServerProcess, terminal: trio.abc.SendStream) -> None:
    """Client to terminal.  EOF from the client is no key that was pressed: it is VEOF that ends a terminal's input."""
    last = b"\n"
    try:
        while data := await session.stdin.receive_some():
            await terminal.send_all(data)
            last = data[-1:]
        # In the middle of a line the first one only hands over what there is of it.
        await terminal.send_all(b"\x04" if last in (b"\n", b"\r") else b"\x04\x04")
    except trio.BrokenResourceError:
        pass


async def _show(terminal: trio.abc.ReceiveStream, session: ServerProcess, child: trio.Process) -> None:
    """Terminal to client, until nobody has the terminal open; or the process is gone, and what it wrote is shown.

    What it has left behind with the terminal open, such as a daemon, keeps nobody here; as with sshd.
    """
    waiting = trio.CancelScope()
    left = _LEFT_BYTES

    async def tell() -> None:
        await child.wait()
        waiting.deadline = trio.current_time() + _SETTLE_SECONDS

    async with bare_nursery() as nursery:
        nursery.start_soon(tell)
        while left > 0:
            data = b""
            with trio.CancelScope() as waiting:
                if child.poll() is not None:
                    waiting.deadline = trio.current_time() + _SETTLE_SECONDS
                try:
                    data = bytes(await terminal.receive_some(_READ_BYTES))
                except trio.BrokenResourceError as error:
                    # Linux says EIO where the others say EOF.
                    if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EIO:
                        raise
            if not data:
                break
            if child.poll() is not None:
                left -= len(data)
            await session.stdout.send_all(data)
        nursery.cancel_scope.cancel()


async def _resize(session: ServerProcess, descriptor: int) -> None:
    async for pty in session.window_changes:
        set_size(descriptor, pty.width, pty.height, pty.width_pixels, pty.height_pixels)
