"""A server with its tasks, and clients that mean it no good: each ends its own connection at the most."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, HandPeer, OpenDoor, echo, listening, sleep
from trio_ssh.core.auth_client import none_as_client, password_as_client
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.events import AuthAnswered, OpenAnswered, RequestAnswered
from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, MIB
from trio_ssh.core.phases import Phase
from trio_ssh.core.role import Role
from trio_ssh.testing import memory_pair
from trio_ssh.wire.connection import (
    ChannelClose,
    ChannelData,
    ChannelEof,
    ChannelOpen,
    ChannelRequest,
    ChannelSuccess,
    ChannelWindowAdjust,
    EnvironmentRequest,
    ExecRequest,
    GlobalRequest,
    PtyRequest,
    RequestSuccess,
    SignalRequest,
    WindowChange,
)
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.userauth import UserauthRequest, UserauthSuccess


@attrs.frozen
class Siege:
    """A server in one task, a client by hand in another."""

    peer: HandPeer
    server: OpenDoor
    started: list[str]
    ended: trio.Event

    async def log_in(self) -> None:
        await self.peer.log_in()

    async def open_session(self) -> CoreChannel:
        """Open a channel, as a well-behaved client does."""
        connection = self.peer.side.connection
        channel = connection.mux.open_channel("session", b"")
        await self.peer.until(lambda side: side.of(OpenAnswered))
        return channel

    async def send(self, *messages: DeclaredMessage) -> None:
        """Seal messages that our own core would never send, all in one flight."""
        for message in messages:
            self.peer.side.connection._outbound.send(message.encode())
        await self.peer.send()

    async def is_over(self) -> None:
        """Wait for the server to end the connection."""
        with trio.fail_after(10):
            await self.ended.wait()


@asynccontextmanager
async def besieged(
    server: OpenDoor | None = None, limits: trio_ssh.Limits = DEFAULT_LIMITS
) -> AsyncGenerator[Siege, None]:
    """Serve a client by hand; what its sessions run is noted."""
    started: list[str] = []

    async def handle(process: trio_ssh.ServerProcess) -> int:
        started.append(process.command or "")
        return await sleep(process)

    ended = trio.Event()
    ours, theirs = memory_pair()
    server = server or OpenDoor(handle)

    async def play() -> None:
        await trio_ssh.serve_stream(theirs, server, host_keys=[HOST_KEY], limits=limits)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        yield Siege(HandPeer(Role.CLIENT, ours), server, started, ended)
        nursery.cancel_scope.cancel()


def channel_request(
    channel: CoreChannel, name: str, details: bytes = b"", *, wants_reply: bool = False
) -> ChannelRequest:
    return ChannelRequest(channel.remote_id, name, wants_reply, details)


# -- before the login

EXEC = ChannelRequest(0, "exec", True, ExecRequest("id").encode())
OPEN = ChannelOpen("session", 0, 100_000, 32_768, b"")


@pytest.mark.parametrize(
    "messages",
    [
        (OPEN,),
        (EXEC,),
        (OPEN, EXEC),
        (ChannelData(0, b"id\n"),),
        (GlobalRequest("tcpip-forward", True, b""),),
        (UserauthSuccess(),),
        (UserauthSuccess(), OPEN, EXEC),
    ],
    ids=lambda messages: "+".join(type(message).__name__ for message in messages),
)
async def test_nothing_is_done_for_a_client_that_skips_the_login(messages: tuple[DeclaredMessage, ...]) -> None:
    async with besieged() as siege:
        await siege.peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        await siege.send(*messages)
        await siege.is_over()
        assert siege.started == []
        assert not siege.server.transport.is_authenticated()


async def test_a_channel_behind_a_login_that_fails_is_not_opened() -> None:
    class Closed(OpenDoor):
        async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            await trio.lowlevel.checkpoint()
            return trio_ssh.AUTH_FAILED

    async with besieged(Closed()) as siege:
        await siege.peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        siege.peer.side.record(siege.peer.side.connection.authenticate(none_as_client("user")))
        await siege.send(UserauthRequest("user", "ssh-connection", "none", b""), OPEN, EXEC)
        await siege.is_over()
        assert siege.started == []


async def test_a_name_with_terminal_escapes_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with besieged() as siege:
        await siege.peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        dialog = password_as_client("\x1b]0;owned\x07", "x")
        siege.peer.side.record(siege.peer.side.connection.authenticate(dialog))
        await siege.peer.until(lambda side: side.of(AuthAnswered))
        channel = await siege.open_session()
        siege.peer.side.connection.mux.request(channel, "\x1b[2J", b"", wants_reply=True)
        await siege.peer.until(lambda side: side.of(RequestAnswered))
        await siege.peer.stream.aclose()
        await siege.is_over()
    assert "\x1b" not in caplog.text


# -- on an open connection

VIOLATIONS: dict[str, Callable[[CoreChannel], list[DeclaredMessage]]] = {
    "data for no channel": lambda channel: [ChannelData(77, b"x")],
    "data behind EOF": lambda channel: [ChannelEof(channel.remote_id), ChannelData(channel.remote_id, b"x")],
    "EOF twice": lambda channel: [ChannelEof(channel.remote_id)] * 2,
    "CLOSE twice": lambda channel: [ChannelClose(channel.remote_id)] * 2,
    "more than the window": lambda channel: [
        ChannelData(channel.remote_id, bytes(100 * KIB))
        for _ in range(DEFAULT_LIMITS.largest_window_bytes // (100 * KIB) + 1)
    ],
    "more than a packet": lambda channel: [ChannelData(channel.remote_id, bytes(200 * KIB))],
    "a window beyond all bounds": lambda channel: [ChannelWindowAdjust(channel.remote_id, 2**32 - 1)] * 2,
    "an answer to nothing": lambda channel: [ChannelSuccess(channel.remote_id)],
    "a global answer to nothing": lambda channel: [RequestSuccess(b"")],
    "a malformed request": lambda channel: [channel_request(channel, "exec", b"\0\0\0\xffx", wants_reply=True)],
    "a malformed terminal": lambda channel: [channel_request(channel, "pty-req", b"\0", wants_reply=True)],
    "a malformed direct-tcpip": lambda channel: [ChannelOpen("direct-tcpip", 5, 1000, 1000, b"\0\0")],
    "a malformed global request": lambda channel: [GlobalRequest("tcpip-forward", True, b"\0")],
}


@pytest.mark.parametrize("violation", VIOLATIONS)
async def test_a_violation_ends_the_connection_and_its_handlers_and_no_other(
    violation: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener, connect_to = listening()
    endings: list[str] = []

    async def linger(process: trio_ssh.ServerProcess) -> int:
        if process.command == "echo":
            return await echo(process)
        try:
            return await sleep(process)
        finally:
            endings.append("ended")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(trio_ssh.serve_listeners, lambda: OpenDoor(linger), [listener], host_keys=[HOST_KEY])
        )
        async with trio_ssh.SSHClient() as bystander:
            await bystander.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=await connect_to()
            )
            process = await bystander.open_process("echo")
            peer = HandPeer(Role.CLIENT, await connect_to())
            await peer.log_in()
            channel = peer.side.connection.mux.open_channel("session", b"")
            await peer.until(lambda side: side.of(OpenAnswered))
            peer.side.connection.mux.request(channel, "exec", ExecRequest("linger").encode(), wants_reply=True)
            await peer.until(lambda side: side.of(RequestAnswered))
            await trio.testing.wait_all_tasks_blocked()
            for message in VIOLATIONS[violation](channel):
                peer.side.connection._outbound.send(message.encode())
            await peer.send()
            with trio.fail_after(10):
                while await peer.receive():
                    pass
            await trio.testing.wait_all_tasks_blocked()
            assert endings == ["ended"]
            assert isinstance(peer.side.connection.failure, trio_ssh.PeerDisconnected)
            await process.stdin.write("unharmed")
            await process.stdin.aclose()
            assert await process.stdout.read() == b"unharmed"
        nursery.cancel_scope.cancel()
    assert "please report" not in caplog.text


async def test_channels_opened_without_end_are_refused_and_cost_no_tasks() -> None:
    async with besieged() as siege:
        await siege.log_in()
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(1000):
            siege.peer.side.connection._outbound.send(ChannelOpen("session", number, 0, 0, b"").encode())
        await siege.peer.send()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living - before <= DEFAULT_LIMITS.sessions + 2
        assert not siege.ended.is_set()


async def test_odd_values_in_good_requests_do_no_harm() -> None:
    seen: list[object] = []

    class Granting(OpenDoor):
        def check_channel_pty_request(self, channel: trio_ssh.Channel, term: str, *sizes: object) -> bool:
            return True

        def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            return True

    async def handle(process: trio_ssh.ServerProcess) -> int:
        await process.stdin.read()
        assert not process.channel.exit_status_ready()  # that is the server's to say
        seen.extend((process.command, process.pty, process.environment, repr(process)))
        return 0

    largest = 2**32 - 1
    async with besieged(Granting(handle)) as siege:
        await siege.log_in()
        channel = await siege.open_session()
        pty = PtyRequest("\x1b", largest, largest, largest, largest, b"\xff" * 500)
        await siege.send(
            channel_request(channel, "pty-req", pty.encode(), wants_reply=True),
            channel_request(channel, "env", EnvironmentRequest("\udcff", "\udcfe").encode(), wants_reply=True),
            channel_request(channel, "exec", ExecRequest("a\0b\udcff").encode(), wants_reply=True),
            channel_request(channel, "window-change", WindowChange(largest, 0, largest, 0).encode()),
            channel_request(channel, "signal", SignalRequest("\x1b[2J").encode()),
            channel_request(channel, "exit-status", b"\0\0\0\0"),
            channel_request(channel, "x" * 10_000, wants_reply=False),
            ChannelEof(channel.remote_id),
        )
        await trio.testing.wait_all_tasks_blocked()
        assert not siege.ended.is_set()
    command, pty_seen, environment, shown = seen
    assert command == "a\0b\udcff"
    assert isinstance(pty_seen, trio_ssh.Pty)
    assert (pty_seen.width, pty_seen.height, pty_seen.modes) == (largest, 0, {})
    assert environment == {"\udcff": "\udcfe"}
    assert isinstance(shown, str)
    assert shown.isprintable()


async def test_a_client_that_reads_nothing_holds_up_its_own_output_only() -> None:
    async def pour(process: trio_ssh.ServerProcess) -> int:
        while True:
            await process.stdout.send_all(bytes(MIB))

    async with besieged(OpenDoor(pour)) as siege:
        await siege.log_in()
        channel = await siege.open_session()
        await siege.send(channel_request(channel, "exec", ExecRequest("x").encode()))
        await trio.testing.wait_all_tasks_blocked()
        # The window is the bound: nothing was granted since.
        assert siege.server.transport._engine.core._outbound.queued_bytes == 0
        assert not siege.ended.is_set()


# -- noise


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.lists(st.binary(min_size=1, max_size=300), max_size=5), stage=st.sampled_from(["start", "keys", "open"])
)
async def test_noise_ends_the_connection_quietly(
    noise: list[bytes], stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    async with besieged() as siege:
        if stage == "keys":
            await siege.peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        elif stage == "open":
            await siege.log_in()
        with contextlib.suppress(trio.BrokenResourceError):  # the server may have seen enough
            for piece in noise:
                await siege.peer.stream.send_all(piece)
        await siege.peer.stream.aclose()
        await siege.is_over()
        assert siege.started == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8), logs_in=st.booleans())
async def test_packets_of_noise_end_the_connection_quietly(
    payloads: list[bytes], logs_in: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a key exchange whatever is in a packet is authentic; that doesn't make it sensible."""
    caplog.clear()
    async with besieged() as siege:
        if logs_in:
            await siege.log_in()
        else:
            await siege.peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        for payload in payloads:
            siege.peer.side.connection._outbound.seal(payload)
        await siege.peer.send()
        await siege.peer.stream.aclose()
        await siege.is_over()
    assert "please report" not in caplog.text


async def test_hundreds_of_silent_clients_do_not_keep_one_out() -> None:
    limits = trio_ssh.Limits(startups_begin=1000, startups_full=1000)
    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_listeners, OpenDoor, [listener], host_keys=[HOST_KEY], limits=limits))
        silent = [await connect_to() for _ in range(300)]
        async with trio_ssh.SSHClient() as client:
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=await connect_to()
            )
            assert (await client.run_process("x", stdin=b"hello", capture_stdout=True)).stdout == b"hello"
        assert len(silent) == 300
        nursery.cancel_scope.cancel()
