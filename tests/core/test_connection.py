"""The whole core behind its verbs: what stands for itself, how it ends, and that it ends once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import pytest

from tests.core.by_hand import HOST_KEY, VERSION, HandPeer
from trio_ssh.core.auth_client import none_as_client, password_as_client
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.connection import Connection
from trio_ssh.core.events import (
    Asked,
    AuthAnswered,
    BannerArrived,
    Ended,
    ExchangeFinished,
    LoggedIn,
    OpenRequested,
    PongArrived,
)
from trio_ssh.core.limits import KIB, MIB, Limits
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import AllowedAuths, AuthResult, CheckNone, HostKeyOffered
from trio_ssh.core.role import Role
from trio_ssh.errors import (
    BadHostKeyException,
    ConnectionLost,
    IncompatiblePeer,
    InternalError,
    LocalProtocolError,
    PeerDisconnected,
    ProtocolError,
    RemoteProtocolError,
    SSHException,
    UnknownHostKeyException,
)
from trio_ssh.testing.lockstep import CorePair, counted_bytes
from trio_ssh.wire.connection import ChannelOpen
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason
from trio_ssh.wire.transport import (
    Debug,
    Disconnect,
    ExtInfo,
    Ignore,
    Ping,
    Pong,
    ServiceAccept,
    ServiceRequest,
    Unimplemented,
)
from trio_ssh.wire.userauth import UserauthBanner, UserauthFailure, UserauthRequest, UserauthSuccess


def core(role: Role = Role.CLIENT) -> Connection:
    return Connection(role, Options(random_bytes=counted_bytes()))


def logged_in(role: Role, limits: Limits | None = None) -> HandPeer:
    peer = HandPeer(role, limits=limits or Limits())
    peer.log_in()
    return peer


# Properties that change from one line to the next, which a type checker doesn't expect of them.


def has_data(connection: Connection) -> bool:
    return connection.has_data_to_send


def is_paused(connection: Connection) -> bool:
    return connection.is_paused


def is_backlogged(connection: Connection) -> bool:
    return connection.is_backlogged


# -- a session


def test_a_session_is_told_as_events_in_order() -> None:
    pair = CorePair()
    pair.server.answers[CheckNone] = lambda question: AuthResult.FAILED
    pair.pump()
    pair.authenticate(none_as_client("bob"))
    pair.log_in("bob", password_as_client("bob", "geheim"))
    assert [type(event) for event in pair.client.events] == [Asked, ExchangeFinished, AuthAnswered, AuthAnswered]
    assert [event.answer.is_success for event in pair.client.of(AuthAnswered)] == [False, True]
    questions = [type(event.question).__name__ for event in pair.server.of(Asked)]
    assert questions == ["SignatureWanted", "BannerWanted", "CheckNone", "AllowedAuths", "CheckPassword"]
    assert isinstance(pair.server.events[-1], LoggedIn)
    assert pair.client.connection.phase is pair.server.connection.phase is Phase.OPEN


@pytest.mark.parametrize("role", Role)
def test_it_greets_before_it_has_heard_anything(role: Role) -> None:
    connection = core(role)
    assert has_data(connection)
    data = bytes(connection.data_to_send())
    assert data.startswith(b"SSH-2.0-trio_ssh\r\n")
    assert data[18 + 5] == 20, "KEXINIT is the first packet"
    assert not has_data(connection)
    assert not connection.data_to_send()
    assert connection.phase is Phase.START


def test_a_view_of_what_is_to_be_sent_stays_while_more_is_sealed() -> None:
    pair = CorePair()
    pair.log_in()
    connection = pair.client.connection
    connection.send(Ignore(b"first" * 10))
    view = connection.data_to_send()
    before = bytes(view)
    for _ in range(1000):
        connection.send(Ignore(b"second" * 10))
    assert bytes(view) == before


# -- messages that stand for themselves


@pytest.mark.parametrize("role", Role)
def test_a_ping_is_answered(role: Role) -> None:
    peer = logged_in(role)
    for data in (b"", b"x", bytes(1000)):
        peer.say(Ping(data))
        assert peer.of(Pong)[-1] == Pong(data)


@pytest.mark.parametrize("role", Role)
def test_a_pong_is_told_and_one_that_nobody_asked_for_does_nothing(role: Role) -> None:
    peer = logged_in(role)
    peer.core.send(Ping(b"x"))
    peer.say(Pong(b"x"), Pong(b"unasked"))
    assert peer.side.of(PongArrived) == [PongArrived(b"x"), PongArrived(b"unasked")]
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_what_nobody_understands_is_said_to_be_so_with_its_number(role: Role) -> None:
    peer = logged_in(role)
    first = peer.sent_sequence
    unknown = [8, 19, 22, 29, 54, 59, 67, 79, 83, 89, 101, 127, 128, 191, 194, 255]
    for number in unknown:
        peer.say(bytes((number,)) + b"whatever")
    assert peer.of(Unimplemented) == [Unimplemented(first + count) for count in range(len(unknown))]
    peer.check()


@pytest.mark.parametrize("role", Role)
def test_before_authentication_is_complete_unknown_numbers_are_answered_up_to_79(role: Role) -> None:
    peer = HandPeer(role)
    peer.connect()
    first = peer.sent_sequence
    for number in (8, 79, 194, 255):
        peer.say(bytes((number,)))
    assert peer.of(Unimplemented) == [Unimplemented(first + count) for count in range(4)]
    peer.say(bytes((101,)))
    assert "message 101 arrived in phase" in str(peer.failure())


@pytest.mark.parametrize("role", Role)
def test_what_means_nothing_has_no_effect(role: Role, caplog: pytest.LogCaptureFixture) -> None:
    peer = logged_in(role)
    with caplog.at_level(logging.DEBUG, "trio_ssh"):
        before = len(peer.side.events), len(peer.heard)
        peer.say(Ignore(b"x" * 1000), Unimplemented(3), Unimplemented(2**32 - 1), Debug(True, "hm \x1b[5m", "en"))
    assert (len(peer.side.events), len(peer.heard)) == before
    assert [record.getMessage() for record in caplog.records] == ["the peer remarks: hm \\x1b[5m"]
    peer.check()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("number", [1, 2, 3, 4, 192, 193])
def test_even_what_means_nothing_must_be_well_formed(role: Role, number: int) -> None:
    peer = logged_in(role)
    peer.say(bytes((number,)) + b"\xff\xff")
    assert isinstance(peer.failure(), RemoteProtocolError)


# -- extensions and banners


def extensions(*pairs: tuple[str, str]) -> ExtInfo:
    content = Message()
    for name, value in pairs:
        content.add_string(name).add_string(value)
    return ExtInfo(len(pairs), content.asbytes())


@pytest.mark.parametrize("role", Role)
def test_extensions_are_kept_the_later_of_a_name(role: Role) -> None:
    peer = HandPeer(role)
    peer.connect()
    peer.say(extensions(("a", "1"), ("\x1b", "2"), ("a", "3")))
    assert peer.core.extensions == {"a": b"3", "\x1b": b"2"}


@pytest.mark.parametrize("role", Role)
def test_extensions_come_twice_from_a_server_and_once_from_a_client(role: Role) -> None:
    peer = HandPeer(role)
    peer.connect()
    allowed = 2 if role is Role.CLIENT else 1
    for _ in range(allowed):
        peer.say(extensions())
        peer.check()
    peer.say(extensions())
    assert "too often" in str(peer.failure())


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (extensions(*[("a", "")] * 4), "EXT_INFO of 4 entries"),
        (ExtInfo(2**32 - 1, b""), "EXT_INFO of 4294967295"),
        (ExtInfo(2, extensions(("a", "b")).extensions), "ends inside"),
        (ExtInfo(0, b"x"), "behind the last extension"),
    ],
)
def test_malformed_extensions_are_the_peer_s_error(message: ExtInfo, complaint: str) -> None:
    peer = HandPeer(Role.CLIENT, limits=Limits(extension_count=3))
    peer.connect()
    peer.say(message)
    assert complaint in str(peer.failure())


def test_a_banner_is_shown_without_its_escapes() -> None:
    peer = HandPeer(Role.CLIENT)
    peer.connect()
    peer.say(UserauthBanner("Welcome\r\nto \x1b]0;title\x07this \u202ehost\n", ""))
    assert peer.side.of(BannerArrived) == [BannerArrived("Welcome\nto \\x1b]0;title\\x07this \\u202ehost\n")]


# -- authentication, as far as the connection decides about it


def test_a_method_is_run_where_it_is_time_for_it() -> None:
    client, server = core(Role.CLIENT), core(Role.SERVER)
    for connection in (client, server):
        with pytest.raises(LocalProtocolError, match="can't authenticate in phase 'start'"):
            connection.authenticate(none_as_client("bob"))
    pair = CorePair()
    pair.pump()
    pair.client.record(pair.client.connection.authenticate(none_as_client("bob")))
    with pytest.raises(LocalProtocolError, match="another authentication method is under way"):
        pair.client.connection.authenticate(none_as_client("bob"))
    pair.pump()
    pair.check()
    with pytest.raises(LocalProtocolError, match="can't authenticate in phase 'open'"):
        pair.client.connection.authenticate(none_as_client("bob"))
    with pytest.raises(LocalProtocolError, match="can't authenticate"):
        pair.server.connection.authenticate(none_as_client("bob"))


def test_the_service_is_asked_for_once() -> None:
    peer = HandPeer(Role.CLIENT)
    peer.connect()
    peer.side.record(peer.core.authenticate(none_as_client("bob")))
    peer.listen()
    peer.say(ServiceAccept("ssh-userauth"), UserauthFailure((), False))
    peer.side.record(peer.core.authenticate(none_as_client("bob")))
    peer.listen()
    peer.say(UserauthSuccess())
    peer.check()
    assert len(peer.of(ServiceRequest)) == 1
    assert len(peer.of(UserauthRequest)) == 2


def test_requests_behind_a_success_are_ignored() -> None:
    peer = logged_in(Role.SERVER)
    before = len(peer.heard), len(peer.side.events)
    peer.say(UserauthRequest("root", "ssh-connection", "none", b""), ServiceRequest("ssh-userauth"), b"\x32")
    assert (len(peer.heard), len(peer.side.events)) == before
    peer.check()


# -- the end


ENDS: Final[list[tuple[Exception, DisconnectReason | None, str]]] = [
    (RemoteProtocolError("what they \x00 did"), DisconnectReason.PROTOCOL_ERROR, "what they \\x00 did"),
    (RemoteProtocolError("tag", DisconnectReason.MAC_ERROR), DisconnectReason.MAC_ERROR, "tag"),
    (LocalProtocolError("ours"), DisconnectReason.PROTOCOL_ERROR, "ours"),
    (IncompatiblePeer("cipher", ["a"], ["b"], "ciphers"), DisconnectReason.KEY_EXCHANGE_FAILED, "no common cipher"),
    (UnknownHostKeyException("h", "k", "f"), DisconnectReason.HOST_KEY_NOT_VERIFIABLE, "host key not trusted"),
    (BadHostKeyException("h", "k", "f"), DisconnectReason.HOST_KEY_NOT_VERIFIABLE, "host key not trusted"),
    (SSHException("secret"), DisconnectReason.BY_APPLICATION, ""),
    (PeerDisconnected(11, "bye"), None, ""),
    (ConnectionLost("gone"), None, ""),
]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("error", "reason", "text"), ENDS)
def test_an_error_ends_it_and_the_peer_is_told_what_concerns_it(
    role: Role, error: Exception, reason: DisconnectReason | None, text: str
) -> None:
    peer = logged_in(role)
    peer.side.record(peer.core.fail(error))
    assert peer.core.failure is error
    assert peer.core.phase is Phase.CLOSED
    assert peer.side.events[-1] == Ended(error)
    if reason is None:
        peer.listen()
        assert peer.of(Disconnect) == []
    else:
        told = peer.was_told()
        assert told.reason == reason
        assert told.description.startswith(text)
        assert len(told.description) <= 201


@pytest.mark.parametrize("role", Role)
def test_a_bug_of_ours_is_told_as_one_and_not_to_the_peer(role: Role, caplog: pytest.LogCaptureFixture) -> None:
    peer = logged_in(role)
    cause = ZeroDivisionError("details that are nobody's business")
    peer.side.record(peer.core.fail(cause))
    failure = peer.core.failure
    assert isinstance(failure, InternalError)
    assert failure.__cause__ is cause
    assert "ZeroDivisionError" in str(failure)
    assert peer.was_told() == Disconnect(DisconnectReason.BY_APPLICATION, "internal error", "")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_answer_that_can_t_be_used_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    pair = CorePair()
    pair.server.answers[CheckNone] = lambda question: AuthResult.FAILED
    pair.server.answers[AllowedAuths] = lambda question: 5
    pair.pump()
    pair.authenticate(none_as_client("bob"))
    assert isinstance(pair.server.connection.failure, InternalError)
    assert isinstance(pair.client.connection.failure, PeerDisconnected)


@pytest.mark.parametrize("role", Role)
def test_a_goodbye_is_said_and_nothing_follows_it(role: Role) -> None:
    peer = logged_in(role)
    peer.side.record(peer.core.disconnect(DisconnectReason.BY_APPLICATION, "see you \x07"))
    assert peer.was_told() == Disconnect(11, "see you \\x07", "")
    assert isinstance(peer.core.failure, LocalProtocolError)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("reason", [1, 11, 15, 99, 2**32 - 1])
def test_a_goodbye_is_heard_and_not_answered(role: Role, reason: int) -> None:
    peer = logged_in(role)
    peer.say(Disconnect(reason, "tschüß \x1b[31m", "de"), Ping(b"nothing follows"))
    failure = peer.core.failure
    assert isinstance(failure, PeerDisconnected)
    assert (failure.reason, failure.message) == (reason, "tschüß \\x1b[31m")
    assert str(failure).isprintable()
    assert peer.of(Disconnect) == []
    assert peer.of(Pong) == []


@pytest.mark.parametrize("role", Role)
def test_a_goodbye_is_heard_at_any_time(role: Role) -> None:
    goodbye = Disconnect(2, "no", "")
    peers = [HandPeer(role) for _ in range(5)]
    for steps, peer in enumerate(peers):
        if steps == 4:
            peer.log_in()
            peer.say_kexinit()
        elif steps == 3:
            peer.connect()
        else:
            peer.greet()
            if steps:
                peer.say_kexinit()
            if steps == 2:
                peer.say(peer.init() if role is Role.SERVER else peer.reply())
        peer.say(goodbye)
        assert isinstance(peer.core.failure, PeerDisconnected)


Verb = Callable[[HandPeer, CoreChannel], object]

VERBS: Final[dict[str, Verb]] = {
    "receive_data": lambda peer, channel: peer.core.receive_data(b"x"),
    "receive_eof": lambda peer, channel: peer.core.receive_eof(),
    "fail": lambda peer, channel: peer.core.fail(ConnectionLost("again")),
    "disconnect": lambda peer, channel: peer.core.disconnect(DisconnectReason.BY_APPLICATION, "again"),
    "answer": lambda peer, channel: peer.core.answer(None),
    "start_exchange": lambda peer, channel: peer.core.start_exchange(),
    "send": lambda peer, channel: peer.core.send(Ignore(b"x")),
    "send_data": lambda peer, channel: peer.core.send_data(channel, memoryview(b"data")),
    "confirm_open": lambda peer, channel: peer.core.confirm_open(channel),
    "refuse_open": lambda peer, channel: peer.core.refuse_open(channel, OpenFailureReason.CONNECT_FAILED),
    "open_channel": lambda peer, channel: peer.core.mux.open_channel("session", b""),
    "request": lambda peer, channel: peer.core.mux.request(channel, "shell", b"", wants_reply=True),
    "reply": lambda peer, channel: peer.core.mux.reply(channel, is_success=True, wants_reply=True),
    "credit": lambda peer, channel: peer.core.mux.credit(channel, 2**20),
    "send_eof": lambda peer, channel: peer.core.mux.send_eof(channel),
    "close": lambda peer, channel: peer.core.mux.close(channel),
    "global_request": lambda peer, channel: peer.core.mux.global_request("x", b"", wants_reply=True),
    "reply_global": lambda peer, channel: peer.core.mux.reply_global(is_success=True, wants_reply=True),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("is_during_exchange", [False, True])
def test_when_all_is_over_no_verb_says_or_tells_anything(verb: str, is_during_exchange: bool) -> None:
    """RFC 4253 s11.1: nothing is sent behind a DISCONNECT."""
    for role in Role:
        peer = logged_in(role)
        peer.say(ChannelOpen("session", 5, 100_000, 32_768, b""))
        [event] = peer.side.of(OpenRequested)
        if verb != "confirm_open":
            peer.core.confirm_open(event.channel)
        if is_during_exchange:
            peer.core.start_exchange()
        peer.side.record(peer.core.fail(RemoteProtocolError("over")))
        peer.was_told()
        told = VERBS[verb](peer, event.channel)
        assert told in ([], None, 0) or isinstance(told, CoreChannel)
        assert not peer.core.has_data_to_send
        assert str(peer.core.failure) == "over"


@pytest.mark.parametrize("role", Role)
def test_it_ends_once(role: Role) -> None:
    peer = logged_in(role)
    peer.say(Ignore(b"x"), b"\x34", b"\x34", Disconnect(11, "", ""))
    for _ in range(3):
        peer.side.record(peer.core.receive_eof())
        peer.side.record(peer.core.fail(ConnectionLost("again")))
        peer.say(b"\x34")
    assert len(peer.side.of(Ended)) == 1
    assert len(peer.of(Disconnect)) == 1


@pytest.mark.parametrize("role", Role)
def test_a_stream_that_ends_without_a_goodbye_is_a_lost_connection(role: Role) -> None:
    peer = logged_in(role)
    peer.side.record(peer.core.receive_eof())
    assert isinstance(peer.core.failure, ConnectionLost)
    assert not isinstance(peer.core.failure, PeerDisconnected)
    assert "without a word" in str(peer.core.failure)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"", "before it said anything"),
        (b"Exceeded MaxStartups\r\n", "it said: Exceeded MaxStartups"),
        (b"SSH-2.0-cut", "it said: SSH-2.0-cut"),
        (b"sorry \xff", "it said: sorry \\xff"),
    ],
)
def test_what_a_server_said_before_it_hung_up_is_shown(said: bytes, text: str) -> None:
    connection = core()
    connection.receive_data(said)
    [event] = connection.receive_eof()
    assert isinstance(event, Ended)
    assert isinstance(event.error, ConnectionLost)
    assert text in str(event.error)
    assert str(event.error).isprintable()


@pytest.mark.parametrize("role", Role)
def test_who_is_no_ssh_peer_is_told_nothing_in_ssh(role: Role) -> None:
    connection = core(role)
    greeting = bytes(connection.data_to_send())
    [event] = connection.receive_data(b"GET / HTTP/1.1\r\n" if role is Role.SERVER else b"HTTP/1.1 200 OK\r\n")
    assert isinstance(event, Ended)
    assert isinstance(event.error, ProtocolError)
    assert greeting
    assert not connection.has_data_to_send


# -- what piles up


@pytest.mark.parametrize("role", Role)
def test_a_peer_that_asks_and_does_not_listen_is_not_read_any_more(role: Role) -> None:
    """`is_backlogged` is what the runtime looks at before it reads: until then one read has been dealt with."""
    limits = Limits(queued_output_bytes=256 * KIB)
    peer = logged_in(role, limits)
    read = b"".join(peer.packet(Ping(b"?" * 20).encode()) for _ in range(1000))
    fed = 0
    while not is_backlogged(peer.core):
        peer.raw(read)
        fed += len(read)
        read = b"".join(peer.packet(Ping(b"?" * 20).encode()) for _ in range(1000))
        assert fed < 1 * MIB
    assert limits.queued_output_bytes < len(peer.side.data_to_send()) < limits.queued_output_bytes + 2 * len(read)
    assert not is_backlogged(peer.core)
    peer.check()


def test_an_open_question_pauses_what_comes() -> None:
    peer = HandPeer(Role.CLIENT)
    del peer.side.answers[HostKeyOffered]
    peer.greet()
    peer.say_kexinit()
    peer.say(peer.reply())
    assert is_paused(peer.core)
    assert peer.side.question == HostKeyOffered(HOST_KEY.public_key)
    peer.say_newkeys()
    peer.say(extensions(("later", "")), Ignore(b""))
    assert peer.core.extensions == {}
    assert peer.of(Disconnect) == []
    peer.side.answer(None)
    peer.listen()
    peer.check()
    assert not is_paused(peer.core)
    assert peer.core.extensions == {"later": b""}
    assert peer.core.phase is Phase.AUTHENTICATE


def test_a_question_that_is_open_when_all_ends_is_not_answered_any_more() -> None:
    peer = HandPeer(Role.CLIENT)
    del peer.side.answers[HostKeyOffered]
    peer.greet()
    peer.say_kexinit()
    peer.say(peer.reply())
    peer.side.record(peer.core.receive_eof())
    assert not is_paused(peer.core)
    assert peer.core.answer(None) == []
    assert not peer.core.has_data_to_send


def test_a_peer_that_says_why_it_goes_while_a_question_is_open_is_heard() -> None:
    """A disk, an agent or a person may be slower than whoever has lost patience."""
    peer = HandPeer(Role.CLIENT)
    del peer.side.answers[HostKeyOffered]
    peer.greet()
    peer.say_kexinit()
    peer.say(peer.reply())
    peer.say(Disconnect(2, "too\x1b late", ""))
    peer.check()
    peer.side.record(peer.core.receive_eof())
    failure = peer.core.failure
    assert isinstance(failure, PeerDisconnected)
    assert (failure.reason, failure.message) == (2, r"too\x1b late")


@pytest.mark.parametrize("message", [b"\x15", b"\x01", Disconnect(2, "x", "").encode()[:-1], Ignore(b"x").encode()])
def test_whatever_else_it_says_then_is_no_goodbye(message: bytes) -> None:
    peer = HandPeer(Role.CLIENT)
    del peer.side.answers[HostKeyOffered]
    peer.greet()
    peer.say_kexinit()
    peer.say(peer.reply())
    peer.say(message)
    peer.raw(b"\0\0\0\x0c garbage")
    peer.side.record(peer.core.receive_eof())
    failure = peer.core.failure
    assert isinstance(failure, ConnectionLost)
    assert not isinstance(failure, PeerDisconnected)


# -- options


def test_a_name_of_one_s_own_stands_in_the_version_line() -> None:
    connection = Connection(Role.CLIENT, Options(random_bytes=counted_bytes(), software="mine_1.0"))
    assert bytes(connection.data_to_send()).startswith(b"SSH-2.0-mine_1.0\r\n")


def test_the_versions_are_remembered() -> None:
    peer = HandPeer(Role.CLIENT)
    peer.greet()
    assert peer.core.keying.their_version == VERSION
    assert peer.core.keying.our_version == peer.their_version == b"SSH-2.0-trio_ssh"
