"""A client with its tasks, and servers that mean it no good."""

from __future__ import annotations

import contextlib
import logging

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trio_ssh
from tests.runtime.helpers import KIB, KNOWN_HOST, MIB, HandPeer, OpenDoor, client_of, open_memory_client
from trio_ssh.core.auth_server import InteractiveQuery
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.limits import DEFAULT_LIMITS
from trio_ssh.core.questions import CheckInteractive, CheckInteractiveResponse
from trio_ssh.core.role import Role
from trio_ssh.testing import FlippedStream, StalledStream, memory_pair
from trio_ssh.wire.connection import (
    ChannelClose,
    ChannelData,
    ChannelEof,
    ChannelExtendedData,
    ChannelFailure,
    ChannelOpenConfirmation,
    ChannelOpenFailure,
    ChannelRequest,
    ChannelSuccess,
    ExitSignal,
    RequestFailure,
)
from trio_ssh.wire.fields import DeclaredMessage


async def send(peer: HandPeer, *messages: DeclaredMessage) -> None:
    """Send what our own core would never send."""
    for message in messages:
        peer.side.connection._outbound.send(message.encode())
    await peer.send()


async def open_session(client: trio_ssh.SSHClient, peer: HandPeer) -> tuple[trio_ssh.Channel, CoreChannel]:
    """Open a session; return both ends."""
    channels: list[trio_ssh.Channel] = []
    async with trio.open_nursery() as nursery:

        async def start() -> None:
            channels.append(await client.open_session())

        nursery.start_soon(start)
        theirs = await peer.accept()
    return channels[0], theirs


VIOLATIONS = {
    "more than the window": lambda n: [ChannelData(n, bytes(100 * KIB)) for _ in range(1000)],
    "data behind EOF": lambda n: [ChannelEof(n), ChannelData(n, b"x")],
    "data for another channel": lambda n: [ChannelData(n + 1, b"x")],
    "EOF twice": lambda n: [ChannelEof(n)] * 2,
    "CLOSE twice": lambda n: [ChannelClose(n)] * 2,
    "success of nothing": lambda n: [ChannelSuccess(n)],
    "failure of nothing": lambda n: [ChannelFailure(n)],
    "failure of nothing global": lambda n: [RequestFailure()],
    "a channel confirmed twice": lambda n: [ChannelOpenConfirmation(n, 9, 1000, 1000, b"")],
    "an open channel refused": lambda n: [ChannelOpenFailure(n, 1, "", "")],
    "a channel confirmed that nobody wanted": lambda n: [ChannelOpenConfirmation(n + 7, 9, 1000, 1000, b"")],
    "a malformed status": lambda n: [ChannelRequest(n, "exit-status", False, b"\0")],
    "a malformed signal": lambda n: [ChannelRequest(n, "exit-signal", False, b"\0\0\0\xff")],
}


@pytest.mark.parametrize("violation", VIOLATIONS)
async def test_a_violation_loses_the_connection_and_says_why(violation: str, caplog: pytest.LogCaptureFixture) -> None:
    async with client_of(*memory_pair()) as (client, peer):
        channel, theirs = await open_session(client, peer)
        await send(peer, *VIOLATIONS[violation](theirs.remote_id))
        with trio.fail_after(10), pytest.raises((trio_ssh.ConnectionLost, trio.BrokenResourceError)) as raised:
            while True:
                await channel.send_all(b"x")
                await trio.lowlevel.checkpoint()
        transport = client.get_transport()
        assert transport is not None
        await transport.wait_closed()
        assert isinstance(transport.get_exception(), trio_ssh.RemoteProtocolError), raised.value
    assert "please report" not in caplog.text


async def test_what_a_server_says_of_an_end_is_escaped_and_is_no_success() -> None:
    async with client_of(*memory_pair()) as (client, peer):
        channel, theirs = await open_session(client, peer)
        report = ExitSignal("\x1b[31mKILL", True, "\x1b]0;owned\x07", "")
        await send(
            peer,
            ChannelRequest(theirs.remote_id, "exit-signal", False, report.encode()),
            ChannelRequest(theirs.remote_id, "exit-status", False, b"\0\0\0\0"),
            ChannelClose(theirs.remote_id),
        )
        got = await channel.recv_exit_report()
        assert got.status is None
        assert (got.signal, got.message) == (r"\x1b[31mKILL", r"\x1b]0;owned\x07")
        assert await channel.recv_exit_status() == -1


async def test_data_for_a_channel_that_was_closed_is_dropped_and_costs_no_memory() -> None:
    async with client_of(*memory_pair()) as (client, peer):
        channel, theirs = await open_session(client, peer)
        await channel.aclose()
        await send(peer, *[ChannelData(theirs.remote_id, bytes(32 * KIB)) for _ in range(20)])
        await send(peer, *[ChannelExtendedData(theirs.remote_id, 1, bytes(32 * KIB)) for _ in range(20)])
        await trio.testing.wait_all_tasks_blocked()
        assert channel.core.unread == 0
        assert channel.core.arrived == [None, None]
        transport = client.get_transport()
        assert transport is not None
        assert transport.is_active()


async def test_extended_data_of_an_unknown_kind_is_dropped_and_its_window_given_back() -> None:
    async with client_of(*memory_pair()) as (client, peer):
        channel, theirs = await open_session(client, peer)
        for _ in range(20):
            await send(peer, *[ChannelExtendedData(theirs.remote_id, 7, bytes(100 * KIB)) for _ in range(5)])
            await trio.testing.wait_all_tasks_blocked()
        await send(peer, ChannelData(theirs.remote_id, b"and this"))
        assert await channel.receive_some() == b"and this"


async def test_a_server_that_never_closes_keeps_nobody_waiting(autojump_clock: trio.testing.MockClock) -> None:
    limits = trio_ssh.Limits(channels=5)
    ours, theirs_stream = memory_pair()
    peer = HandPeer(Role.SERVER, theirs_stream)
    async with trio_ssh.SSHClient() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.until_logged_in)
            await client.connect(
                "memory", 22, "user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=ours, limits=limits
            )
        channels = [(await open_session(client, peer))[0] for _ in range(5)]
        for channel in channels:
            await channel.aclose()
        with pytest.raises(trio_ssh.LocalProtocolError, match="the limit is 5"):
            await client.open_session()
    assert trio.current_time() == 0


async def test_questions_without_end_are_answered_so_often_and_no_more() -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.SERVER, theirs)
    query = InteractiveQuery("", "", ["again: "])
    peer.side.answers[CheckInteractive] = peer.side.answers[CheckInteractiveResponse] = lambda question: query
    asked = 0

    def answer(title: str, instructions: str, prompts: object) -> list[str]:
        nonlocal asked
        asked += 1
        return ["x"]

    async def play() -> None:
        with contextlib.suppress(trio.BrokenResourceError, AssertionError):  # the client hangs up
            await peer.until(lambda side: False)

    async with trio.open_nursery() as nursery, trio_ssh.SSHClient() as client:
        nursery.start_soon(play)
        with trio.fail_after(10), pytest.raises(trio_ssh.SSHException):
            await client.connect(
                "memory", 22, "user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=ours, prompt_handler=answer
            )
    assert asked <= DEFAULT_LIMITS.interactive_rounds


async def test_output_that_nobody_reads_is_bounded_by_the_window() -> None:
    async def pour(process: trio_ssh.ServerProcess) -> int:
        async def send_on(stream: trio.abc.SendStream) -> None:
            while True:
                await stream.send_all(bytes(MIB))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_on, process.stdout)
            nursery.start_soon(send_on, process.stderr)
        return 0

    async with open_memory_client(OpenDoor(pour)) as client:
        processes = [await client.open_process("x") for _ in range(5)]
        await trio.testing.wait_all_tasks_blocked()
        held = sum(process.channel.core.unread for process in processes)
        assert 0 < held <= 5 * DEFAULT_LIMITS.largest_window_bytes
        assert held <= DEFAULT_LIMITS.all_windows_bytes


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8))
async def test_packets_of_noise_lose_the_connection_quietly(
    payloads: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    async with client_of(*memory_pair()) as (client, peer):
        channel, _ = await open_session(client, peer)
        for payload in payloads:
            peer.side.connection._outbound.seal(payload)
        await peer.send()
        await peer.stream.aclose()
        with trio.fail_after(10):
            with contextlib.suppress(trio.BrokenResourceError):
                while await channel.receive_some():
                    pass
        transport = client.get_transport()
        assert transport is not None
        await transport.wait_closed()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"])
async def test_one_bit_flipped_on_an_open_connection_loses_it(cipher: str) -> None:
    data = bytes(range(256)) * 40
    noticed = 0
    for offset in range(0, 9000, 500):
        ours, theirs = memory_pair()
        flipping = FlippedStream(ours)
        received = bytearray()
        try:
            async with open_memory_client(OpenDoor(), streams=(flipping, theirs), ciphers=[cipher]) as client:
                flipping._received = flipping.received_bytes + offset
                with trio.move_on_after(0.5):  # a length that grew makes it wait for more
                    process = await client.open_process("echo")
                    await process.stdin.send_all(data)
                    await process.stdin.aclose()
                    async for part in process.stdout:
                        received += part
                    await process.wait()
        except trio_ssh.ConnectionLost:
            noticed += 1
        assert data.startswith(received), "altered data was delivered"
    assert noticed >= 15


async def test_a_stalled_server_s_silence_costs_no_more_than_the_caller_allows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    async with open_memory_client(OpenDoor(), streams=(stalled, theirs)) as client:
        stalled.stop_sending()
        stalled.stop_receiving()
        for call in (
            client.open_session,
            lambda: client.run_process("x", stdin=bytes(8 * MIB), capture_stdout=True),
            lambda: client.exec_command("x"),
        ):
            before = trio.current_time()
            with pytest.raises(trio.TooSlowError), trio.fail_after(5):
                await call()
            assert trio.current_time() - before == pytest.approx(5)
