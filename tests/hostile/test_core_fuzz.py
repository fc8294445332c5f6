"""Bytes and messages by chance, at every stage: nothing but a recorded failure comes of them, and it is the peer's."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.by_hand import STAGES, HandPeer, arrive
from tests.wire.test_declarations import MESSAGES, STRATEGIES, instances
from trio_ssh.core.auth_client import none_as_client
from trio_ssh.core.events import Ended, GlobalRequestArrived, OpenRequested, RequestArrived
from trio_ssh.core.limits import Limits
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import AuthResult, CheckInteractive, CheckNone, CheckPassword, InteractiveQuery
from trio_ssh.core.role import Role
from trio_ssh.errors import IncompatiblePeer, InternalError, PeerDisconnected, RemoteProtocolError, SSHException
from trio_ssh.testing.lockstep import CorePair
from trio_ssh.wire.fields import UINT32, DeclaredMessage, Structure
from trio_ssh.wire.userauth import UserauthRequest

#: Small ones, which chance has a chance to hit.
LIMITS: Final = Limits(
    channels=4, sessions=2, unanswered_requests=3, initial_window_bytes=2000, channel_packet_bytes=300
)


def is_lawful(peer: HandPeer) -> None:
    """Whatever was said: the core goes on, or has ended once for a reason that is not its own."""
    failure = peer.core.failure
    assert not isinstance(failure, InternalError), repr(failure.__cause__)
    assert failure is None or isinstance(failure, RemoteProtocolError | IncompatiblePeer | PeerDisconnected)
    ends = peer.side.of(Ended)
    assert len(ends) == (failure is not None)
    assert not ends or peer.side.events[-1] is ends[0]
    assert (peer.core.phase is Phase.CLOSED) == (failure is not None)


def throw(peer: HandPeer, payload: bytes) -> None:
    """Send a payload, and don't care for the answer."""
    peer.raw(peer.packet(payload))
    peer.side.data_to_send()


def act(peer: HandPeer, seen: int) -> int:
    """Do what a runtime does about the news, and return how many events there have been."""
    while seen < len(peer.side.events):
        event = peer.side.events[seen]
        seen += 1
        if peer.core.failure is not None:
            continue
        match event:
            case OpenRequested(channel, _) if len(peer.side.events) % 3:
                peer.core.confirm_open(channel)
            case RequestArrived(channel, _, wants_reply, _):
                peer.core.mux.reply(channel, is_success=True, wants_reply=wants_reply)
            case GlobalRequestArrived(_, wants_reply, _):
                peer.core.mux.reply_global(is_success=False, wants_reply=wants_reply)
            case _:
                pass
    return seen


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("role", Role)
@given(pieces=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
@settings(max_examples=8)
def test_bytes_by_chance(role: Role, stage: str, pieces: list[bytes]) -> None:
    peer = arrive(role, stage)
    for piece in pieces:
        peer.raw(piece)
        is_lawful(peer)


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("role", Role)
@given(payloads=st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=4))
@settings(max_examples=8)
def test_payloads_by_chance(role: Role, stage: str, payloads: list[bytes]) -> None:
    peer = arrive(role, stage, limits=LIMITS)
    for payload in payloads:
        throw(peer, payload)
        is_lawful(peer)


def numbered(cls: type[Structure]) -> st.SearchStrategy[Structure]:
    """Instances whose numbers are small, so that they meet the channels that there are."""
    small = st.integers(0, 5) | st.integers(0, 2**32 - 1)
    return st.tuples(*(small if field is UINT32 else STRATEGIES[field] for _, field in cls.FIELDS)).map(
        lambda values: cls(*values)
    )


def one_of(classes: list[type[DeclaredMessage]]) -> st.SearchStrategy[Structure]:
    return st.sampled_from(classes).flatmap(lambda cls: st.one_of(numbered(cls), instances(cls)))


ANY: Final = one_of(MESSAGES)
TALK: Final = one_of([cls for cls in MESSAGES if cls.NUMBER in (2, 5, 6, 7, 50, 51, 52, 53, 60, 61)])
CHANNELS: Final = one_of([cls for cls in MESSAGES if 80 <= cls.NUMBER <= 100])


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("role", Role)
@given(messages=st.lists(ANY, min_size=1, max_size=4))
@settings(max_examples=8)
def test_messages_by_chance(role: Role, stage: str, messages: list[Structure]) -> None:
    peer = arrive(role, stage, limits=LIMITS)
    for message in messages:
        throw(peer, message.encode())
        is_lawful(peer)


@pytest.mark.parametrize("role", Role)
@given(messages=st.lists(TALK, min_size=1, max_size=8))
@settings(max_examples=50)
def test_talk_about_authentication_by_chance(role: Role, messages: list[Structure]) -> None:
    peer = HandPeer(role)
    peer.side.answers[CheckNone] = lambda question: AuthResult.FAILED
    peer.side.answers[CheckPassword] = lambda question: True
    peer.side.answers[CheckInteractive] = lambda question: InteractiveQuery("", "", ["?"])
    peer.connect()
    if role is Role.CLIENT:
        peer.side.record(peer.core.authenticate(none_as_client("alice")))
    for message in messages:
        if isinstance(message, UserauthRequest):
            throw(peer, UserauthRequest("alice", "ssh-connection", message.method, message.details).encode())
        throw(peer, message.encode())
        is_lawful(peer)
        if role is Role.SERVER:
            assert peer.core.phase is not Phase.OPEN, "nobody was let in"


@pytest.mark.parametrize("role", Role)
@given(messages=st.lists(CHANNELS, min_size=1, max_size=20), by_core=st.integers(0, 2))
@settings(max_examples=60)
def test_talk_about_channels_by_chance(role: Role, messages: list[Structure], by_core: int) -> None:
    peer = arrive(role, "anything", limits=LIMITS)
    for _ in range(by_core):
        channel = peer.core.mux.open_channel("session", b"")
        peer.core.mux.global_request("x", b"", wants_reply=True)
        assert channel.local_id < by_core
    seen = 0
    for message in messages:
        throw(peer, message.encode())
        is_lawful(peer)
        seen = act(peer, seen)
        peer.side.data_to_send()
        windows = [channel.inbound_window for channel in peer.core.mux.channels.values()]
        assert sum(window.size for window in windows) <= LIMITS.all_windows_bytes
        assert all(0 <= window.left <= window.size for window in windows)
        assert len(windows) <= LIMITS.channels


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "a version"])
@pytest.mark.parametrize("role", Role)
@given(data=st.data())
@settings(max_examples=8)
def test_what_would_be_said_with_a_bit_changed(role: Role, stage: str, data: st.DataObject) -> None:
    """In the clear before NEWKEYS, and in a payload that is sealed well behind it."""
    peer = arrive(role, stage)
    if "share" in stage:
        lawful: DeclaredMessage = peer.init() if role is Role.SERVER else peer.reply()
    else:
        lawful = peer.kexinit()
    message = bytearray(lawful.encode())
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    throw(peer, bytes(message))
    is_lawful(peer)


@given(seed=st.lists(st.tuples(st.booleans(), st.integers(0, 2500), st.integers(0, 7)), min_size=1, max_size=3))
@settings(max_examples=50)
def test_two_of_our_own_with_a_bad_line_between_them(seed: list[tuple[bool, int, int]]) -> None:
    """Bits flip anywhere in the first exchange or behind it, and neither side breaks."""
    pair = CorePair()
    passed = {True: 0, False: 0}

    def flipping(is_to_server: bool, data: bytes) -> bytes:
        changed = bytearray(data)
        start = passed[is_to_server]
        for direction, offset, bit in seed:
            if direction == is_to_server and 0 <= offset - start < len(changed):
                changed[offset - start] ^= 1 << bit
        passed[is_to_server] += len(data)
        return bytes(changed)

    pair.to_server = lambda data: flipping(True, data)
    pair.to_client = lambda data: flipping(False, data)
    pair.pump()
    if pair.client.connection.phase is Phase.AUTHENTICATE:
        pair.authenticate(none_as_client("alice"))
    for side in (pair.client, pair.server):
        failure = side.connection.failure
        assert failure is None or isinstance(failure, SSHException)
        assert not isinstance(failure, InternalError)
