"""The way to a host: TCP, a ``ProxyCommand``, or other hosts that lie in between.

Whoever connects closes what they were given; what lies under it ends then.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Protocol

import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.config.values import JumpHost
from trio_ssh.errors import ProxyCommandFailure, ProxyJumpFailure, SSHException
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.client")

#: Hosts that lead to each other, before they are taken for a circle.
JUMPS: Final = 16
#: Between a ProxyCommand's TERM and its KILL.
_GRACE_SECONDS: Final = 1.0
#: Between two attempts, as ssh has it.
_PAUSE_SECONDS: Final = 1.0

_FAMILIES: Final = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


# -- TCP


async def open_direct(hostname: str, port: int, options: SSHOptions | None = None) -> trio.SocketStream:
    """Connect by TCP.

    Raises:
        OSError: it has no address, or none answers.
        TimeoutError: none does within ``ConnectTimeout``.
    """
    try:
        return await _open_direct(hostname, port, options)
    except socket.gaierror as error:
        # The resolver doesn't say of whom it speaks.
        host, colon, digits = hostname.rpartition(":")
        hint = f"; is it {host!r} and port={digits}?" if colon and digits.isdecimal() and ":" not in host else ""
        text = f"no address is known of {printable(hostname, 64)!r}: {error.strerror}{hint}"
        raise socket.gaierror(error.errno, text) from None


async def _open_direct(hostname: str, port: int, options: SSHOptions | None) -> trio.SocketStream:
    if options is None:
        return _kept_alive(await _connect(hostname, port, None, None))
    family = _FAMILIES.get(options.address_family or "any")
    seconds = options.connect_timeout or math.inf
    left = options.connection_attempts or 1
    while True:
        left -= 1
        try:
            with trio.move_on_after(seconds):
                stream = await _connect(hostname, port, family, options.bind_address)
                return stream if options.tcp_keep_alive is False else _kept_alive(stream)
            raise TimeoutError(
                f"{printable(hostname, 64)}:{port} did not answer within {seconds:g} seconds: "
                f"{options.place('connect_timeout')}"
            )
        except OSError:
            if not left:
                raise
        await trio.sleep(_PAUSE_SECONDS)


def _kept_alive(stream: trio.SocketStream) -> trio.SocketStream:
    # A server that is cut off says nothing any more, and nobody would notice.
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
    return stream


async def _connect(
    hostname: str, port: int, family: socket.AddressFamily | None, bind_address: str | None
) -> trio.SocketStream:
    """Connect as `trio.open_tcp_stream` does; to an address, which has nothing to race with, in a third of the time."""
    if family is None:
        if bind_address is not None:
            return await trio.open_tcp_stream(hostname, port, local_address=bind_address)
        return await _connect_to_address(hostname, port) or await trio.open_tcp_stream(hostname, port)
    found = await trio.socket.getaddrinfo(hostname, port, family=family, type=socket.SOCK_STREAM)
    problem: OSError | None = None
    for _, _, _, _, address in found:
        try:
            # Behind an IPv6 address stands its scope: by which link one gets there.
            scope = f"%{address[3]}" if len(address) == 4 and address[3] else ""
            return await trio.open_tcp_stream(f"{address[0]}{scope}", port, local_address=bind_address)
        except OSError as error:
            problem = error
    raise problem or OSError(f"{printable(hostname, 64)} has no address of this family")


def _family_of(hostname: str) -> socket.AddressFamily | None:
    """Return the family of an address, or None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, hostname)
            return family
    return None


async def _connect_to_address(hostname: str, port: int) -> trio.SocketStream | None:
    family = _family_of(hostname)
    if family is None:
        await trio.lowlevel.checkpoint()
        return None
    endpoint = trio.socket.socket(family)
    try:
        await endpoint.connect((hostname, port))
    except BaseException:
        endpoint.close()
        raise
    return trio.SocketStream(endpoint)


# -- a command


class ProxyCommandStream(trio.abc.Stream):
    """What a command reads and writes.  Closing it ends the command; get one from `open_proxy_command`."""

    def __init__(self, process: trio.Process, command: str) -> None:
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        self._process = process
        self._command = command
        self._stdin: trio.abc.SendStream = process.stdin
        self._stdout: trio.abc.ReceiveStream = process.stdout
        self._has_spoken = False

    def __repr__(self) -> str:
        return f"<ProxyCommandStream of '{printable(self._command, 64)}'>"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the command."""
        try:
            await self._stdin.send_all(data)
        except trio.BrokenResourceError:
            if self._has_spoken:
                raise
            raise await self._failure() from None

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the command reads."""
        await self._stdin.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read what it writes."""
        data = await self._stdout.receive_some(max_bytes)
        if not data and not self._has_spoken:
            raise await self._failure()
        self._has_spoken = True
        return data

    async def _failure(self) -> ProxyCommandFailure:
        with trio.move_on_after(_GRACE_SECONDS):
            await self._process.wait()
        status = self._process.returncode
        how = "closed its output" if status is None else f"ended with status {status}"
        return ProxyCommandFailure(self._command, status, f"{how} before the server said anything")

    async def aclose(self) -> None:
        """Close both ends, and end the command: by TERM, and a second later by KILL.  Cancelled, by KILL at once."""
        process = self._process
        try:
            try:
                await self._stdin.aclose()
            finally:
                await self._stdout.aclose()  # noqa: ASYNC102 -- cancelled, it closes all the same
            if process.returncode is None:
                process.terminate()
                with trio.move_on_after(_GRACE_SECONDS):
                    await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def open_proxy_command(command: str) -> ProxyCommandStream:
    """Start a command through the user's shell.  Its stderr is ours.

    Args:
        command: for the shell as it is; whoever fills names in sees to it that a shell takes them as they are.

    Raises:
        ProxyCommandFailure: there is no such shell.

    Cancelled, it is not left running.
    """
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        # `exec`, so that what is ended is the command, not a shell that leaves it behind.
        process = await trio.lowlevel.open_process(
            [shell, "-c", f"exec {command}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    except OSError as error:
        raise ProxyCommandFailure(command, None, f"was not started: {shell}: {error.strerror or error}") from error
    return ProxyCommandStream(process, command)


# -- other hosts


class JumpClient(Protocol):
    """What is asked of a client of a host in between."""

    async def open_tcp_stream(self, host: str, port: int) -> trio.abc.Stream:
        """Connect to `host` and `port` as that host sees them."""
        ...


#: Makes the client of a jump host, which goes there through another one, or on its own; as a block.
OpenJump = Callable[[JumpHost, JumpClient | None], AbstractAsyncContextManager[JumpClient]]

#: The hosts to which a way is being looked for, the outermost first.
_on_the_way: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("trio_ssh_on_the_way", default=())


class JumpStream(trio.abc.Stream):
    """A stream through jump hosts, whose errors name them."""

    def __init__(self, stream: trio.abc.Stream, names: str) -> None:
        self._stream = stream
        self._names = names

    def __repr__(self) -> str:
        return f"<JumpStream through {self._names}>"

    def _broken(self, error: Exception) -> trio.BrokenResourceError:
        return trio.BrokenResourceError(f"the way through {self._names} broke: {error}")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise self._broken(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the next host reads."""
        try:
            await self._stream.wait_send_all_might_not_block()
        except trio.BrokenResourceError as error:
            raise self._broken(error) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        try:
            return await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise self._broken(error) from error

    async def aclose(self) -> None:
        """Close the channel.  The hosts stay connected until their block ends."""
        await self._stream.aclose()


class JumpRoute:
    """The clients of jump hosts, each through the one before it; they live in a task until `aclose`.

    Args:
        jumps: the hosts, the nearest first.
        destination: what lies behind them, as its user calls it.
        hostname, port: where it is, as the last host sees it.
        open_jump: makes their clients.
    """

    def __init__(
        self, jumps: Sequence[JumpHost], destination: str, hostname: str, port: int, open_jump: OpenJump
    ) -> None:
        self._jumps = jumps
        self._destination = destination
        self._hostname = hostname
        self._port = port
        self._open_jump = open_jump
        self._has_begun = False
        self._is_unneeded = trio.Event()
        self._ended = trio.Event()

    def __repr__(self) -> str:
        return f"<JumpRoute to {printable(self._destination, 64)} through {self._names}>"

    @property
    def _names(self) -> str:
        return ", ".join(printable(str(jump), 64) for jump in self._jumps)

    async def open(self, nursery: trio.Nursery) -> JumpStream:
        """Connect to one after the other, in a task of `nursery`, and return the stream at the end.

        Raises:
            ProxyJumpFailure: one of them can't be reached, or doesn't let us in or through.
        """
        stream: JumpStream = await nursery.start(self._hold, name="trio_ssh jump hosts")
        return stream

    async def _hold(self, *, task_status: trio.TaskStatus[JumpStream]) -> None:  # noqa: ASYNC114 -- `open` starts it
        self._has_begun = True
        try:
            async with AsyncExitStack() as stack:
                task_status.started(JumpStream(await self._go(stack), self._names))
                # Whoever was cancelled just now did not get the stream, and nobody will tell when it is unneeded.
                await trio.lowlevel.checkpoint_if_cancelled()
                # Not before the connection that they carry is over: whoever is cancelled still says goodbye.
                with trio.CancelScope(shield=True):
                    await self._is_unneeded.wait()
        except Exception as error:
            if not self._is_unneeded.is_set():
                raise  # to whoever waits for the stream
            _log.warning("closing the way through %s failed: %s", self._names, error)
        finally:
            self._ended.set()

    async def _go(self, stack: AsyncExitStack) -> trio.abc.Stream:
        before = _on_the_way.get()
        if self._destination in before or len(before) >= JUMPS:
            circle = " -> ".join(printable(name, 64) for name in (*before, self._destination))
            raise ProxyJumpFailure(str(self._jumps[0]), self._destination, f"ProxyJump goes in a circle: {circle}")
        _on_the_way.set((*before, self._destination))
        client: JumpClient | None = None
        for place, jump in enumerate(self._jumps):
            is_last = place == len(self._jumps) - 1
            try:
                client = await stack.enter_async_context(self._open_jump(jump, client))
                if is_last:
                    return await client.open_tcp_stream(self._hostname, self._port)
            except (SSHException, OSError, ValueError) as error:
                raise ProxyJumpFailure(str(jump), self._destination, str(error)) from error
        raise AssertionError("there is a jump host, or nobody would ask")

    async def aclose(self) -> None:
        """Leave the hosts, the farthest first.  Cancelled, they are left at once."""
        self._is_unneeded.set()
        if self._has_begun:
            await self._ended.wait()
        else:
            await trio.lowlevel.checkpoint()
