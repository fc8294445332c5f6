"""What the tests of the runtime share: servers that do as they are told, and cancellation at every checkpoint."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

import trio_ssh
from trio_ssh.core.auth_client import none_as_client
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.connection import Connection
from trio_ssh.core.events import LoggedIn, OpenRequested
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.role import Role
from trio_ssh.runtime import busy_poll
from trio_ssh.testing import FaultyStream, memory_pair, open_memory_client
from trio_ssh.testing.lockstep import CoreSide

#: Made once: a test that isn't about keys shouldn't pay for them.
HOST_KEY: Final = trio_ssh.Ed25519Key(b"\1" * 32)
USER_KEY: Final = trio_ssh.Ed25519Key(b"\2" * 32)
KNOWN_HOST: Final = trio_ssh.HostKeys()
KNOWN_HOST.add("memory", None, HOST_KEY.public_key)

KIB: Final = 1024
MIB: Final = 1024 * KIB


def poll_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connection over a socket poll from its second word on, worth it or not."""
    monkeypatch.setattr(busy_poll, "_WORDS", 1)
    monkeypatch.setattr(busy_poll, "_WORTH", math.inf)
    monkeypatch.setattr(busy_poll, "_SLOW_SECONDS", math.inf)
    monkeypatch.setattr(busy_poll, "_JUDGEMENTS", math.inf)
    monkeypatch.setattr(busy_poll, "_MOST_LOSS", math.inf)


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the others have their turns until something is the case."""
    for _ in iter(condition, True):
        await trio.lowlevel.checkpoint()


Handler = Callable[[trio_ssh.ServerProcess], Awaitable[int | None]]
ChannelHandler = Callable[[trio_ssh.Channel], Awaitable[None]]


class OpenDoor(trio_ssh.ServerInterface):
    """Lets everyone in by every method, for tests that are not about that, and grants every channel.

    Args:
        handle: runs sessions; by default, echoes.
        handle_channel: serves the other channels; by default, closes them.
    """

    def __init__(self, handle: Handler | None = None, handle_channel: ChannelHandler | None = None) -> None:
        self._handle: Handler = handle or echo
        self._handle_channel = handle_channel
        self.failures: list[Exception] = []

    async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_SUCCESSFUL

    async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_SUCCESSFUL

    async def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_SUCCESSFUL

    async def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
        await trio.lowlevel.checkpoint()
        return trio_ssh.InteractiveQuery("", "", ["Password: "])

    async def check_auth_interactive_response(self, responses: Sequence[str]) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
        return trio_ssh.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> trio_ssh.OpenResult:
        return trio_ssh.OPEN_SUCCEEDED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int | None:
        return await self._handle(process)

    async def handle_channel(self, channel: trio_ssh.Channel, destination: tuple[str, int] | None) -> None:
        if self._handle_channel is None:
            await channel.aclose()
        else:
            await self._handle_channel(channel)

    def handler_failed(self, error: Exception) -> None:
        self.failures.append(error)


class ElsewhereSigner:
    """A key that signs elsewhere, where somebody may have to touch something.

    Args:
        key: the key.
        sign: signs in its place.
    """

    def __init__(self, key: trio_ssh.PKey, sign: Callable[[bytes, str | None], Any] | None = None) -> None:
        self._sign = sign or key.sign
        self.public_key = key.public_key
        self.comment = ""
        self.algorithms = key.algorithms
        self.fingerprint = key.fingerprint
        self.signatures = 0

    def asbytes(self) -> bytes:
        return self.public_key.blob

    async def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        self.signatures += 1
        await trio.lowlevel.checkpoint()
        signature: bytes = self._sign(data, algorithm)
        return signature


async def echo(process: trio_ssh.ServerProcess) -> int:
    """Send back what comes, up to its end."""
    async for chunk in process.stdin:
        await process.stdout.send_all(chunk)
    return 0


async def sleep(process: trio_ssh.ServerProcess) -> int:
    """Do nothing, and read nothing, forever."""
    await trio.sleep_forever()
    return 0


class Accepting(trio_ssh.ServerInterface):
    """paramiko's way of serving: no handler, so that sessions come from ``transport.accept()``."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
        return trio_ssh.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
        return True


@attrs.frozen
class ChannelPairs:
    """Makes connected channels over one connection."""

    client: trio_ssh.SSHClient
    server: trio_ssh.ServerInterface

    async def make(self) -> tuple[trio_ssh.Channel, trio_ssh.Channel]:
        """Return a session's two ends, the client's first."""
        ours = await self.client.open_session()
        return ours, await self.server.transport.accept()


@asynccontextmanager
async def channel_pairs(
    streams: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
    limits: trio_ssh.Limits | None = None,
) -> AsyncGenerator[ChannelPairs, None]:
    """Connect a client to a server that accepts channels as they come."""
    server = Accepting()
    limits = limits or trio_ssh.Limits(sessions=1000, channels=1000)
    async with open_memory_client(
        server, host_key=HOST_KEY, streams=streams, client_limits=limits, server_limits=limits
    ) as client:
        yield ChannelPairs(client, server)


class _CancelAt(trio.abc.Instrument):
    """Cancels a scope behind the n-th step of one task, or of any."""

    def __init__(self, number: int, scope: trio.CancelScope, task: trio.lowlevel.Task | None) -> None:
        self._left = number
        self._scope = scope
        self._task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task is None or task is self._task:
            self._left -= 1
            if not self._left:
                self._scope.cancel()


async def cancel_everywhere(
    scenario: Callable[[], Awaitable[object]],
    check: Callable[[], Awaitable[object]] | None = None,
    *,
    at_steps_of_others: bool = False,
) -> int:
    """Run `scenario` again and again, cancelled at its first checkpoint, its second, ..., until one runs to its end.

    Args:
        check: what must hold after each run; that no task is left is checked without it.
        at_steps_of_others: cancel behind the steps of all tasks, not only of the one that runs the scenario.

    Returns:
        The number of checkpoints.
    """
    for number in range(1, 10_000):
        living = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as scope:
            task = None if at_steps_of_others else trio.lowlevel.current_task()
            instrument = _CancelAt(number, scope, task)
            trio.lowlevel.add_instrument(instrument)
            try:
                await scenario()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        if check is not None:
            await check()
        left = trio.lowlevel.current_statistics().tasks_living - living
        assert left == 0, f"{left} tasks are left of a run that was cancelled at checkpoint {number}"
        if not scope.cancel_called:
            return number - 1
    raise AssertionError("the scenario does not end")


class HandPeer:
    """The other side of a connection, moved by hand: a sealed core at the end of a stream; it does nothing by itself.

    Args:
        role: what to be.
        stream: the peer's end.

    Attributes:
        side: the core, its script of answers, and the record of its events.
    """

    def __init__(self, role: Role, stream: trio.abc.Stream) -> None:
        options = Options(random_bytes=os.urandom, host_keys=(HOST_KEY,) if role is Role.SERVER else ())
        self.side = CoreSide(Connection(role, options))
        self.stream = stream

    async def send(self) -> None:
        """Send what the core has sealed."""
        await self.stream.send_all(self.side.data_to_send())

    async def receive(self) -> bool:
        """Receive once; tell whether it was anything but EOF."""
        data = await self.stream.receive_some()
        self.side.receive(data)
        return bool(data)

    async def until(self, condition: Callable[[CoreSide], object]) -> None:
        """Answer the other side until something is the case; what was sealed last is sent too."""
        await self.send()
        while not condition(self.side):
            assert await self.receive(), "the other side closed the connection"
            await self.send()

    async def until_logged_in(self) -> None:
        """As a server: let a client in."""
        await self.until(lambda side: side.of(LoggedIn))

    async def log_in(self) -> None:
        """As a client: log in, by asking for it."""
        await self.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        self.side.record(self.side.connection.authenticate(none_as_client("user")))
        await self.until(lambda side: side.connection.phase is Phase.OPEN)

    async def accept(self) -> CoreChannel:
        """Confirm the next channel that the other side wants."""
        known = len(self.side.of(OpenRequested))
        await self.until(lambda side: len(side.of(OpenRequested)) > known)
        channel = self.side.of(OpenRequested)[-1].channel
        self.side.connection.confirm_open(channel)
        await self.send()
        return channel


@asynccontextmanager
async def client_of(
    peer_stream: trio.abc.Stream, stream: trio.abc.Stream
) -> AsyncGenerator[tuple[trio_ssh.SSHClient, HandPeer], None]:
    """Log a client in to a `HandPeer`.

    Args:
        peer_stream, stream: the two ends of a pair.
    """
    peer = HandPeer(Role.SERVER, peer_stream)
    async with trio_ssh.SSHClient() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.until_logged_in)
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=stream)
        yield client, peer


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what comes out of a memory channel."""

    def __init__(self, streams: trio.MemoryReceiveChannel[trio.abc.Stream]) -> None:
        self._streams = streams

    async def accept(self) -> trio.abc.Stream:
        return await self._streams.receive()

    async def aclose(self) -> None:
        await self._streams.aclose()


def listening() -> tuple[MemoryListener, Callable[[], Awaitable[trio.abc.Stream]]]:
    """Return a listener, and what connects to it."""
    sender, receiver = trio.open_memory_channel[trio.abc.Stream](100)

    async def connect_to() -> trio.abc.Stream:
        ours, theirs = memory_pair()
        await sender.send(theirs)
        return ours

    return MemoryListener(receiver), connect_to


@asynccontextmanager
async def serving(
    server: trio_ssh.ServerInterface | None = None, host_key: trio_ssh.PKey = HOST_KEY
) -> AsyncGenerator[FaultyStream, None]:
    """Serve one client in memory; the block's value is its end of the stream, which tells whether it was closed."""
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server or OpenDoor(), host_keys=[host_key]))
        yield FaultyStream(ours)
        nursery.cancel_scope.cancel()
