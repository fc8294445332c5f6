"""Peers that make work: what may come before a login, and how much of what comes is dealt with at once."""

from __future__ import annotations

import gc

import pytest

from tests.core.by_hand import HandPeer, arrive
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.events import LoggedIn, OpenRequested
from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, MIB, Limits
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import AuthResult, CheckNone
from trio_ssh.core.role import Role
from trio_ssh.wire.connection import ChannelClose, ChannelData, ChannelOpen, ChannelOpenFailure, ChannelRequest
from trio_ssh.wire.transport import Debug, Ignore, Ping, Pong, ServiceRequest
from trio_ssh.wire.userauth import UserauthRequest, UserauthSuccess

#: The most packets that one call deals with, and the most that it inflates beyond what it is asked for.
PACKETS = 2048
LARGEST = DEFAULT_LIMITS.packet_bytes


def is_unfinished(peer: HandPeer) -> bool:
    return peer.core.is_unfinished


# -- before the login


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", ["KEXINIT", "authentication"])
@pytest.mark.parametrize("message", [Ignore(bytes(200_000)), Debug(False, "x" * 10_000, "")], ids=["ignore", "debug"])
def test_bytes_before_a_login_have_an_end(role: Role, stage: str, message: Ignore | Debug) -> None:
    peer = arrive(role, stage, is_strict=False)
    said = 0
    while peer.core.failure is None:
        packet = peer.packet(message.encode())
        peer.raw(packet)
        said += len(packet)
        assert said < 2 * DEFAULT_LIMITS.login_bytes
    assert "and no login" in str(peer.failure())


@pytest.mark.parametrize("role", Role)
def test_all_that_comes_before_a_login_counts_and_what_is_just_enough_passes(role: Role) -> None:
    def said_by(limits: Limits) -> HandPeer:
        peer = HandPeer(role, limits=limits, is_strict=False)
        peer.greet()
        peer.say(Ignore(bytes(40_000)))
        peer.exchange()
        return peer

    fed = said_by(Limits()).core._login_bytes
    assert fed > 40_000
    said_by(Limits(login_bytes=fed)).check()
    assert "and no login" in str(said_by(Limits(login_bytes=fed - 1)).failure())


def test_what_comes_in_one_read_with_the_end_of_the_login_counts() -> None:
    for size in (10, 20_000):
        peer = arrive(Role.CLIENT, "an attempt's end", limits=Limits(login_bytes=10_000))
        peer.say(Ignore(bytes(size)), UserauthSuccess())
        if size < 10_000:
            peer.check()
            assert peer.core.phase is Phase.OPEN
        else:
            assert "and no login" in str(peer.failure())


def test_what_travels_with_a_login_and_belongs_behind_it_is_not_counted() -> None:
    peer = HandPeer(Role.SERVER, limits=Limits(login_bytes=5000))
    peer.connect()
    del peer.side.answers[CheckNone]
    peer.say(
        ServiceRequest("ssh-userauth"),
        UserauthRequest("alice", "ssh-connection", "none", b""),
        *[Ignore(bytes(10_000))] * 10,
    )
    peer.check()
    peer.side.answer(AuthResult.SUCCESSFUL)
    peer.check()
    assert peer.side.of(LoggedIn)


def test_a_connection_that_is_logged_in_may_say_what_it_likes() -> None:
    peer = arrive(Role.SERVER, "anything", limits=Limits(login_bytes=10_000))
    peer.say(*[Ignore(bytes(100_000))] * 10)
    peer.check()
    assert peer.core.phase is Phase.OPEN


# -- in one step


@pytest.mark.parametrize("role", Role)
def test_what_inflates_a_thousandfold_is_dealt_with_in_steps(role: Role) -> None:
    peer = HandPeer(role, compression="zlib@openssh.com")
    peer.log_in()
    before = len(peer.of(Pong))
    count, size = 100, 250_000
    read = b"".join(peer.packet(Ping(bytes(size)).encode()) for _ in range(count))
    assert len(read) < 256 * KIB
    peer.core.receive_data(read)
    steps = 1
    answered = 0
    while is_unfinished(peer):
        peer.listen()
        assert (len(peer.of(Pong)) - before - answered) * size <= MIB + LARGEST
        answered = len(peer.of(Pong)) - before
        peer.core.resume()
        steps += 1
    peer.listen()
    assert len(peer.of(Pong)) - before == count
    assert steps >= count * size / (MIB + LARGEST)
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_a_read_of_the_smallest_packets_is_dealt_with_in_steps(role: Role) -> None:
    peer = arrive(role, "anything")
    count = 3 * PACKETS
    read = b"".join(peer.packet(Ping(b"").encode()) for _ in range(count))
    assert len(read) < 256 * KIB
    peer.core.receive_data(read)
    assert is_unfinished(peer)
    peer.listen()
    assert 0 < len(peer.of(Pong)) <= PACKETS
    while is_unfinished(peer):
        before = len(peer.of(Pong))
        peer.core.resume()
        peer.listen()
        assert len(peer.of(Pong)) <= before + PACKETS
    assert len(peer.of(Pong)) == count
    peer.check()


def test_a_read_of_a_bulk_transfer_is_one_step() -> None:
    peer = arrive(Role.SERVER, "anything")
    channel = opened(peer)
    read = b"".join(peer.packet(ChannelData(channel.local_id, bytes(32 * KIB)).encode()) for _ in range(8))
    peer.core.receive_data(read)
    assert not is_unfinished(peer)
    assert channel.unread == 256 * KIB


def test_what_waited_for_an_answer_is_dealt_with_in_steps_as_well() -> None:
    peer = HandPeer(Role.SERVER)
    peer.connect()
    del peer.side.answers[CheckNone]
    peer.say(ServiceRequest("ssh-userauth"), UserauthRequest("alice", "ssh-connection", "none", b""))
    before = len(peer.of(Pong))
    peer.raw(b"".join(peer.packet(Ping(b"").encode()) for _ in range(2 * PACKETS)))
    assert not is_unfinished(peer)
    peer.core.answer(AuthResult.SUCCESSFUL)
    assert is_unfinished(peer)
    peer.listen()
    assert len(peer.of(Pong)) - before <= PACKETS


def test_what_comes_meanwhile_joins_what_is_left() -> None:
    peer = arrive(Role.SERVER, "anything")
    peer.core.receive_data(b"".join(peer.packet(Ping(b"").encode()) for _ in range(PACKETS + 10)))
    assert is_unfinished(peer)
    last = peer.packet(Ping(b"last").encode())
    peer.core.receive_data(last[:7])
    assert not is_unfinished(peer)
    peer.core.receive_data(last[7:])
    peer.listen()
    assert peer.of(Pong)[-1].data == b"last"
    assert len(peer.of(Pong)) == PACKETS + 11


def test_a_connection_that_ended_has_nothing_left_to_do() -> None:
    peer = arrive(Role.SERVER, "anything")
    peer.core.receive_data(b"".join(peer.packet(Ping(b"").encode()) for _ in range(2 * PACKETS)))
    assert is_unfinished(peer)
    peer.core.receive_eof()
    assert not is_unfinished(peer)
    assert peer.core.resume() == []


# -- channels that come and go


def opened(peer: HandPeer) -> CoreChannel:
    peer.say(ChannelOpen("session", 0, 100_000, 32_768, b""))
    channel = peer.side.of(OpenRequested)[-1].channel
    peer.side.events.clear()
    peer.core.confirm_open(channel)
    peer.listen()
    return channel


@pytest.mark.parametrize("limit", ["sessions", "channels"])
def test_a_channel_counts_until_what_was_asked_on_it_is_decided(limit: str) -> None:
    limits = Limits(sessions=10) if limit == "sessions" else Limits(sessions=100, channels=10)
    peer = arrive(Role.SERVER, "anything", limits=limits)
    channels: list[CoreChannel] = []
    for _ in range(10):
        channels.append(opened(peer))
        peer.say(ChannelRequest(channels[-1].local_id, "exec", True, b"\0\0\0\1x"), ChannelClose(channels[-1].local_id))
    assert peer.core.mux.channels == {}
    peer.say(ChannelOpen("session", 0, 0, 0, b""))
    assert len(peer.of(ChannelOpenFailure)) == 1, "a slow check must not be asked again and again"
    peer.core.mux.reply(channels[0], is_success=True, wants_reply=True)
    opened(peer)
    peer.say(ChannelOpen("session", 0, 0, 0, b""))
    assert len(peer.of(ChannelOpenFailure)) == 2
    peer.check()


def test_what_nobody_can_read_any_more_gives_its_window_back() -> None:
    peer = arrive(Role.SERVER, "anything")
    for _ in range(200):
        channel = opened(peer)
        peer.say(ChannelData(channel.local_id, b"unread"), ChannelClose(channel.local_id))
        peer.heard.clear()
        peer.side.events.clear()
        del channel
    gc.collect()
    assert opened(peer).inbound_window.size == DEFAULT_LIMITS.initial_window_bytes
    peer.check()
