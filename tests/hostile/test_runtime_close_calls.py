"""Peers, and authors of servers, that came close to doing harm: each has been seen to, once."""

from __future__ import annotations

import contextlib
import logging
import math
from functools import partial

import pytest
import trio
import trio.testing

import trio_ssh
from tests.hostile.test_runtime_client import open_session, send
from tests.hostile.test_runtime_server import besieged, channel_request
from tests.runtime.helpers import (
    HOST_KEY,
    KIB,
    MIB,
    Accepting,
    HandPeer,
    OpenDoor,
    channel_pairs,
    client_of,
)
from trio_ssh.auth import _Attempt
from trio_ssh.core.auth_client import AuthAnswer, none_as_client, password_as_client
from trio_ssh.core.channel import CoreChannel, Source
from trio_ssh.core.dialog import Dialog, expect
from trio_ssh.core.dialog import send as say
from trio_ssh.core.events import AuthAnswered, OpenAnswered, RequestAnswered, RequestArrived
from trio_ssh.core.phases import Phase
from trio_ssh.core.role import Role
from trio_ssh.runtime.engine import CLOSE_SECONDS
from trio_ssh.testing import FaultyStream, StalledStream, memory_pair, open_memory_client
from trio_ssh.wire.connection import (
    ChannelClose,
    ChannelRequest,
    ChannelWindowAdjust,
    EnvironmentRequest,
    ExecRequest,
    TcpipChannel,
    X11Request,
)
from trio_ssh.wire.userauth import PasswordDetails, PublicKeyDetails, UserauthFailure, UserauthRequest


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def open_channel(peer: HandPeer, kind: str = "session", details: bytes = b"") -> CoreChannel:
    """Open another channel by hand."""
    known = len(peer.side.of(OpenAnswered))
    channel = peer.side.connection.mux.open_channel(kind, details)
    await peer.until(lambda side: len(side.of(OpenAnswered)) > known)
    answer = peer.side.of(OpenAnswered)[-1]
    assert answer.code == 0, answer.text
    return channel


# -- ends of connections


async def test_three_malformed_reports_in_one_read_end_the_connection_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(*memory_pair()) as (client, peer):
        channel, theirs = await open_session(client, peer)
        await send(peer, *[ChannelRequest(theirs.remote_id, "exit-status", False, b"\0")] * 3)
        with trio.fail_after(10), pytest.raises(trio_ssh.ConnectionLost) as raised:
            await channel.recv_exit_status()
        assert isinstance(raised.value.__cause__, trio_ssh.RemoteProtocolError)
    assert trio.current_time() == 0


async def test_a_block_can_be_cancelled_behind_three_malformed_reports(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with client_of(*memory_pair()) as (client, peer):
            _, theirs = await open_session(client, peer)
            await send(peer, *[ChannelRequest(theirs.remote_id, "exit-status", False, b"\0")] * 3)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 1


@pytest.mark.parametrize("kind", ["session", "direct-tcpip"])
@pytest.mark.parametrize("ending", ["hang up", "violation", "close"])
async def test_a_handler_with_a_nursery_is_cancelled_when_its_client_leaves(
    kind: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    endings: list[str] = []

    async def note(what: str, stream: trio.abc.ReceiveStream | None) -> None:
        try:
            if stream is None:
                await trio.sleep_forever()
            else:
                await stream.receive_some()
            endings.append(f"{what}: eof")
        except trio.Cancelled:
            endings.append(f"{what}: cancelled")
            raise

    async def work(stream: trio.abc.ReceiveStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "reader", stream)
            nursery.start_soon(note, "sleeper", None)

    async def handle(process: trio_ssh.ServerProcess) -> int:
        await work(process.stdin)
        return 0

    async with besieged(OpenDoor(handle, work)) as siege:
        await siege.log_in()
        if kind == "session":
            channel = await open_channel(siege.peer)
            await siege.send(channel_request(channel, "exec", ExecRequest("x").encode()))
        else:
            channel = await open_channel(siege.peer, kind, TcpipChannel("host", 1, "origin", 2).encode())
        await trio.testing.wait_all_tasks_blocked()
        if ending == "hang up":
            await siege.peer.stream.aclose()
        elif ending == "violation":
            await siege.send(ChannelRequest(99, "x", False, b""))
        else:
            await siege.send(ChannelClose(channel.remote_id))
            await trio.testing.wait_all_tasks_blocked()
            await siege.peer.stream.aclose()
        await siege.is_over()
        assert sorted(endings) == ["reader: cancelled", "sleeper: cancelled"]
        assert siege.server.failures == []
    assert errors(caplog) == []


async def test_an_exchange_of_ours_that_the_peer_leaves_lying_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with besieged(limits=trio_ssh.Limits(rekey_bytes=100_000, exchange_seconds=30)) as siege:
        await siege.log_in()
        channel = await siege.open_session()
        siege.peer.side.send(channel, bytes(120_000))
        await siege.peer.send()
        await siege.ended.wait()
        assert trio.current_time() == pytest.approx(30)


class Endless(FaultyStream):
    """A stream whose closing waits for its peer, as TLS does."""

    async def aclose(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            await super().aclose()


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_stream_that_does_not_close_holds_its_server_for_seconds_only(
    hangs_up: bool, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(trio_ssh.serve_stream, Endless(theirs), OpenDoor(), host_keys=[HOST_KEY], login_timeout=5)
        )
        await trio.testing.wait_all_tasks_blocked()
        if hangs_up:
            await ours.aclose()
    assert trio.current_time() <= (0 if hangs_up else 5) + 2 * CLOSE_SECONDS


# -- flow


@pytest.mark.parametrize("frees", ["reads", "closes"])
async def test_what_nobody_took_of_closed_channels_counts_until_it_is_taken(frees: str) -> None:
    limits = trio_ssh.Limits(
        channels=8, sessions=8, initial_window_bytes=256 * KIB, all_windows_bytes=4 * MIB, largest_window_bytes=MIB
    )
    ours, theirs = memory_pair()
    server = Accepting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server, host_keys=[HOST_KEY], limits=limits))
        peer = HandPeer(Role.CLIENT, ours)
        await peer.log_in()

        async def fill() -> int:
            """Open a channel, fill its window, and close it; return how large the window was."""
            channel = await open_channel(peer)
            window = channel.outbound_window.left
            while channel.outbound_window.left:
                peer.side.send(channel, bytes(channel.outbound_window.left))
                await peer.send()
            peer.side.connection.mux.close(channel)
            await peer.until(lambda side: channel.local_id not in side.connection.mux.channels)
            return window

        windows = [await fill() for _ in range(limits.channels)]
        assert windows == sorted(windows, reverse=True)
        assert windows[-1] < windows[0]
        assert sum(windows) <= limits.all_windows_bytes
        # Taken over, but not read, they count still: each has the least that was kept back for it, and no more is.
        channels = [await server.transport.accept() for _ in windows]
        with pytest.raises(AssertionError, match="too many channels"):
            await fill()
        for channel, window in zip(channels, windows, strict=True):
            if frees == "reads":
                assert len(await channel.read()) == window
            await channel.aclose()
        assert [await fill() for _ in range(limits.channels)] == windows
        nursery.cancel_scope.cancel()


async def test_kept_stderr_holds_its_sender_up_beyond_the_bound_until_it_is_read() -> None:
    limits = trio_ssh.Limits(initial_window_bytes=64 * KIB, largest_window_bytes=64 * KIB)
    async with channel_pairs(limits=limits) as pairs:
        ours, theirs = await pairs.make()
        ours.keep_stderr(100 * KIB)
        sent = 0

        async def pour() -> None:
            nonlocal sent
            while sent < MIB:
                await theirs.send_stderr(bytes(KIB))
                sent += KIB
            await theirs.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour)
            await trio.testing.wait_all_tasks_blocked()
            assert 100 * KIB <= sent <= 164 * KIB
            assert theirs.core.outbound_window.left == 0
            received = 0
            while data := await ours.stderr.receive_some():
                received += len(data)
        assert received == MIB


async def test_stderr_that_is_captured_is_kept_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float | None] = []
    original = trio_ssh.Channel.keep_stderr

    def keep_stderr(channel: trio_ssh.Channel, at_most: float = 0) -> None:
        original(channel, at_most) if at_most else original(channel)
        bounds.append(channel._kept_at_most[Source.STDERR])

    async def handle(process: trio_ssh.ServerProcess) -> int:
        await process.stderr.write("noise")
        return 0

    monkeypatch.setattr(trio_ssh.Channel, "keep_stderr", keep_stderr)
    async with open_memory_client(OpenDoor(handle)) as client:
        done = await client.run_process("x", capture_stdout=True, capture_stderr=True)
    assert done.stderr == b"noise"
    assert bounds
    assert set(bounds) == {math.inf}


@pytest.mark.parametrize("closed_by", ["peer", "us"])
async def test_a_sender_that_waits_for_room_hears_of_a_close(
    closed_by: str, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs_stream = memory_pair()
    stalled = StalledStream(ours)
    heard: list[type[Exception]] = []
    async with client_of(theirs_stream, stalled) as (client, peer):
        channel, theirs = await open_session(client, peer)
        await send(peer, ChannelWindowAdjust(theirs.remote_id, 2**31))
        await trio.testing.wait_all_tasks_blocked()
        stalled.stop_sending()

        async def pour() -> None:
            try:
                await channel.send_all(bytes(8 * MIB))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                heard.append(type(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour)
            await trio.testing.wait_all_tasks_blocked()
            assert channel.core.outbound_window.left
            assert heard == []
            if closed_by == "peer":
                await send(peer, ChannelClose(theirs.remote_id))
            else:
                await channel.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert heard == [trio_ssh.ChannelClosed if closed_by == "peer" else trio.ClosedResourceError]
            nursery.cancel_scope.cancel()


def test_a_closed_channel_is_an_ssh_error_and_a_broken_resource() -> None:
    assert issubclass(trio_ssh.ChannelClosed, trio_ssh.SSHException)
    assert issubclass(trio_ssh.ChannelClosed, trio.BrokenResourceError)


# -- requests


async def test_a_check_that_raises_behind_one_that_waits_refuses_its_own_request_only() -> None:
    class Faulty(OpenDoor):
        async def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            await trio.lowlevel.checkpoint()
            return True

        def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
            raise ValueError("a fault of the author's")

    async with besieged(Faulty()) as siege:
        await siege.log_in()
        channel = await siege.open_session()
        mux = siege.peer.side.connection.mux
        for name, details in (
            ("env", EnvironmentRequest("A", "b").encode()),
            ("exec", ExecRequest("x").encode()),
            ("env", EnvironmentRequest("B", "c").encode()),
        ):
            mux.request(channel, name, details, wants_reply=True)
        await siege.peer.until(lambda side: len(side.of(RequestAnswered)) == 3)
        assert [event.is_success for event in siege.peer.side.of(RequestAnswered)] == [True, False, True]
        assert not siege.ended.is_set()


async def test_a_command_that_cannot_be_started_is_the_client_s_affair(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process, shell="/bin/sh")

    async with open_memory_client(OpenDoor(handle)) as client:
        channel = await client.open_session()
        await channel._request("exec", ExecRequest("echo \0").encode())  # our own client sends no such command
        assert await channel.recv_exit_status() == 126
        assert await channel.receive_some() == b""
        assert (await channel.stderr.receive_some()).startswith(b"sh: ")
    assert errors(caplog) == []


# -- logging in


class Strict(trio_ssh.ServerInterface):
    """Refuses every password, and takes its time for it with some."""

    def get_allowed_auths(self, username: str) -> str:
        return "password,publickey"

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL


class Slow(trio_ssh.ServerInterface):
    async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        await trio.sleep(1)
        return trio_ssh.AUTH_FAILED


def attempt(method: str, details: bytes) -> Dialog[AuthAnswer]:
    """Try to log in, and fail."""
    yield from say(UserauthRequest("user", "ssh-connection", method, details))
    yield from expect(UserauthFailure)
    return AuthAnswer(False)


NO_SIGNATURE = b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + bytes(64)
FAILURES = {
    "wrong": ("password", PasswordDetails(False, "x").encode()),
    "too long": ("password", PasswordDetails(False, "x" * 20_000).encode()),
    "badly signed": ("publickey", PublicKeyDetails(True, "ssh-ed25519", HOST_KEY.asbytes(), NO_SIGNATURE).encode()),
    "unknown": ("hostbased", b""),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("server", [Strict, Slow])
async def test_every_failure_is_answered_equally_late(
    failure: str, server: type[trio_ssh.ServerInterface], autojump_clock: trio.testing.MockClock
) -> None:
    limits = trio_ssh.Limits(auth_failure_seconds=3, auth_attempts=3)
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server(), host_keys=[HOST_KEY], limits=limits))
        peer = HandPeer(Role.CLIENT, ours)
        await peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)

        async def answered(dialog: Dialog[AuthAnswer]) -> float:
            known, began = len(peer.side.of(AuthAnswered)), trio.current_time()
            peer.side.record(peer.side.connection.authenticate(dialog))
            with contextlib.suppress(AssertionError):  # the last one ends the connection
                await peer.until(lambda side: len(side.of(AuthAnswered)) > known)
            return trio.current_time() - began

        assert await answered(none_as_client("user")) == 0
        for _ in range(limits.auth_attempts):
            assert await answered(attempt(*FAILURES[failure])) == pytest.approx(3)
        assert peer.side.connection.failure is not None


async def test_one_address_with_many_strangers_does_not_keep_another_out() -> None:
    limits = trio_ssh.Limits(startups_per_source=3)
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, OpenDoor, 0, host="127.0.0.1", host_keys=[HOST_KEY], limits=limits)
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]

        async def greeting(source: str) -> bytes:
            socket = trio.socket.socket()
            streams.push_async_callback(trio.aclose_forcefully, trio.SocketStream(socket))
            await socket.bind((source, 0))
            await socket.connect(("127.0.0.1", port))
            try:
                return await socket.recv(4)
            except ConnectionResetError:
                return b""

        async with contextlib.AsyncExitStack() as streams:
            with trio.fail_after(30):
                assert [await greeting("127.0.0.1") for _ in range(4)] == [b"SSH-", b"SSH-", b"SSH-", b""]
                assert await greeting("127.0.0.2") == b"SSH-"
        nursery.cancel_scope.cancel()


# -- what is shown


@pytest.mark.parametrize(
    "value",
    [
        _Attempt("password", "password", partial(password_as_client, "user", "s3cret")),
        X11Request(False, "MIT-MAGIC-COOKIE-1", b"s3cret", 0),
        EnvironmentRequest("TOKEN", "s3cret"),
        ChannelRequest(0, "env", False, EnvironmentRequest("TOKEN", "s3cret").encode()),
        RequestArrived(CoreChannel("session", 0, False, None), "env", False, b"s3cret"),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_repr_shows_no_secret(value: object) -> None:
    assert "s3cret" not in repr(value)
