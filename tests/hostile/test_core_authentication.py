"""Hostile peers during authentication: nobody is let in, or lets in, out of turn, and everything has an end."""

from __future__ import annotations

import logging
from typing import Final

import pytest

from tests.core.by_hand import HandPeer, arrive
from trio_ssh.core.auth_client import interactive_as_client, none_as_client, password_as_client, publickey_as_client
from trio_ssh.core.events import Asked, AuthAnswered, BannerArrived, Ended, LoggedIn, OpenRequested
from trio_ssh.core.limits import DEFAULT_LIMITS, KIB, Limits
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import (
    AuthResult,
    CheckCertificate,
    CheckNone,
    CheckPassword,
    CheckPasswordChange,
    InteractiveQuery,
    NewPasswordWanted,
    PromptsArrived,
    SignatureWanted,
)
from trio_ssh.core.role import Role
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.wire.connection import ChannelOpen, ChannelRequest, GlobalRequest
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import Disconnect, Ignore, NewKeys, Ping, ServiceAccept, ServiceRequest
from trio_ssh.wire.userauth import (
    HostbasedDetails,
    HostboundProbe,
    PasswordChangeDetails,
    PasswordDetails,
    PublicKeyProbe,
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)

SERVICE: Final = ServiceRequest("ssh-userauth")
OPEN: Final = ChannelOpen("session", 0, 100_000, 32_768, b"")
EXEC: Final = ChannelRequest(0, "exec", True, Message().add_string("id").asbytes())


def request(method: str, details: bytes = b"", username: str = "alice") -> UserauthRequest:
    return UserauthRequest(username, "ssh-connection", method, details)


def password(text: str) -> UserauthRequest:
    return request("password", PasswordDetails(False, text).encode())


def fails(question: object) -> AuthResult:
    return AuthResult.FAILED


def refusing(limits: Limits = DEFAULT_LIMITS) -> HandPeer:
    """A client by hand, of a server that lets nobody in."""
    peer = HandPeer(Role.SERVER, limits=limits)
    for kind in list(peer.side.answers):
        if kind.__name__.startswith("Check"):
            peer.side.answers[kind] = fails
    peer.connect()
    return peer


def ended(peer: HandPeer, reason: DisconnectReason = DisconnectReason.PROTOCOL_ERROR) -> str:
    failure = peer.failure()
    assert isinstance(failure, RemoteProtocolError)
    assert failure.reason is reason
    assert peer.was_told().reason == reason
    assert peer.side.of(LoggedIn) == []
    return str(failure)


# -- a client that doesn't wait to be let in

EARLY: Final[list[DeclaredMessage]] = [
    OPEN,
    EXEC,
    GlobalRequest("tcpip-forward", True, Message().add_string("").add_int(0).asbytes()),
]


@pytest.mark.parametrize("message", EARLY)
@pytest.mark.parametrize("stage", ["authentication", "an attempt's end"])
def test_nothing_is_served_before_authentication(message: DeclaredMessage, stage: str) -> None:
    """libssh CVE-2018-10933, paramiko CVE-2018-7750, Erlang/OTP CVE-2025-32433."""
    peer = arrive(Role.SERVER, stage)
    peer.say(message)
    ended(peer)
    assert peer.side.of(OpenRequested) == []


def test_what_is_sent_along_with_a_failed_attempt_is_not_served() -> None:
    peer = refusing()
    peer.say(SERVICE, request("none"), password("guess"), OPEN, EXEC)
    ended(peer)
    assert len(peer.of(UserauthFailure)) == 2
    assert peer.side.of(OpenRequested) == []


def test_what_is_sent_along_with_an_attempt_waits_for_its_end() -> None:
    peer = HandPeer(Role.SERVER)
    del peer.side.answers[CheckNone]
    peer.connect()
    peer.say(SERVICE, request("none"), OPEN)
    assert peer.side.question == CheckNone("alice")
    assert peer.side.of(OpenRequested) == []
    peer.side.answer(AuthResult.SUCCESSFUL)
    peer.check()
    assert [type(event) for event in peer.side.events[-2:]] == [LoggedIn, OpenRequested]

    peer = HandPeer(Role.SERVER)
    del peer.side.answers[CheckNone]
    peer.connect()
    peer.say(SERVICE, request("none"), OPEN)
    peer.side.answer(AuthResult.FAILED)
    ended(peer)


@pytest.mark.parametrize(
    "message",
    [UserauthSuccess(), UserauthFailure((), False), UserauthBanner("hi", ""), ServiceAccept("ssh-userauth")],
)
@pytest.mark.parametrize("stage", ["authentication", "an attempt's end", "anything"])
def test_a_client_cannot_decide_for_the_server(message: DeclaredMessage, stage: str) -> None:
    peer = arrive(Role.SERVER, stage)
    peer.say(message)
    assert f"message {message.NUMBER} arrived" in str(peer.failure())
    assert len(peer.side.of(LoggedIn)) == (1 if stage == "anything" else 0)


@pytest.mark.parametrize("message", [UserauthInfoResponse(0, b""), UserauthPkOk("x", b""), b"\x3e", b"\x42"])
def test_what_no_method_waits_for_is_refused(message: DeclaredMessage | bytes) -> None:
    peer = arrive(Role.SERVER, "an attempt's end")
    peer.say(message)
    assert "where UserauthRequest was due" in ended(peer)


def test_an_attempt_begins_with_the_service() -> None:
    peer = arrive(Role.SERVER, "authentication")
    peer.say(request("none"))
    ended(peer)
    peer = arrive(Role.SERVER, "authentication")
    peer.say(ServiceRequest("ssh-connection"))
    ended(peer, DisconnectReason.SERVICE_NOT_AVAILABLE)


def test_a_service_is_asked_for_once() -> None:
    peer = arrive(Role.SERVER, "an attempt's end")
    peer.say(SERVICE)
    ended(peer)


def test_what_one_user_earned_is_not_another_s() -> None:
    peer = HandPeer(Role.SERVER)
    peer.side.answers[CheckNone] = lambda question: AuthResult.PARTIALLY_SUCCESSFUL
    peer.connect()
    peer.say(SERVICE, request("none"))
    assert peer.of(UserauthFailure)[-1].partial_success
    peer.say(request("none", username="root"))
    assert "changed the user name" in ended(peer)


# -- guessing


def test_a_thousand_guesses_in_one_write_are_six() -> None:
    peer = refusing()
    peer.say(SERVICE, *[password(str(number)) for number in range(1000)])
    ended(peer, DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE)
    guessed = [event.question for event in peer.side.of(Asked) if isinstance(event.question, CheckPassword)]
    assert guessed == [CheckPassword("alice", str(number)) for number in range(6)]


def test_requests_of_any_kind_have_an_end() -> None:
    peer = refusing()
    peer.say(SERVICE, *[request("none")] * 127)
    peer.check()
    peer.say(request("none"))
    ended(peer, DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE)


def test_new_keys_before_the_login_are_refused() -> None:
    """Each would cost a signature of the host's, and none serves anybody."""
    peer = refusing()
    peer.say(SERVICE, password("1"))
    peer.check()
    peer.say_kexinit()
    assert "message 20 arrived" in ended(peer)


def test_rounds_of_questions_have_an_end() -> None:
    peer = HandPeer(Role.SERVER, limits=Limits(interactive_rounds=4, auth_requests=3))
    for kind in list(peer.side.answers):
        if "Interactive" in kind.__name__:
            peer.side.answers[kind] = lambda question: InteractiveQuery()
    peer.connect()
    peer.say(SERVICE)
    begin = request("keyboard-interactive", Message().add_string("").add_string("").asbytes())
    said = 0
    while peer.core.failure is None:
        peer.say(begin)
        for _ in range(4):
            if peer.core.failure is None:
                peer.say(UserauthInfoResponse(0, b""))
                said += 1
        assert said < 20
    ended(peer, DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE)


@pytest.mark.parametrize("text", ["x" * 20_000, "\x1b[2J", "\udcff" * 100])
def test_passwords_are_bounded_and_never_logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    peer = refusing()
    with caplog.at_level(logging.DEBUG, "trio_ssh"):
        peer.say(SERVICE, password(text))
    peer.check()
    assert len(peer.of(UserauthFailure)) == 1
    assert not any(text[:50] in record.getMessage() for record in caplog.records)
    assert text[:50] not in repr(peer.side.events)
    asked = [event for event in peer.side.of(Asked) if isinstance(event.question, CheckPassword)]
    assert len(asked) == (len(text) < 16 * KIB)


# -- a server that decides out of turn


@pytest.mark.parametrize(
    "message", [UserauthSuccess(), UserauthFailure(("none",), False), UserauthPkOk("ssh-ed25519", b""), b"\x3c"]
)
def test_an_answer_that_nobody_asked_for_lets_nobody_in(message: DeclaredMessage | bytes) -> None:
    peer = arrive(Role.CLIENT, "authentication")
    peer.say(message)
    assert "outside authentication" in ended(peer)
    assert peer.core.phase is Phase.CLOSED


def test_success_is_not_taken_before_the_service_is() -> None:
    peer = arrive(Role.CLIENT, "authentication")
    peer.side.record(peer.core.authenticate(none_as_client("alice")))
    peer.say(UserauthSuccess())
    assert "where ServiceAccept was due" in ended(peer)
    assert peer.side.of(AuthAnswered) == []


def test_success_is_not_taken_behind_a_failure() -> None:
    peer = arrive(Role.CLIENT, "an attempt's end")
    peer.say(UserauthFailure(("password",), False), UserauthSuccess())
    assert "where none was due" in ended(peer)
    assert [event.answer.is_success for event in peer.side.of(AuthAnswered)] == [False]


def test_success_is_not_taken_twice() -> None:
    peer = arrive(Role.CLIENT, "anything")
    peer.say(UserauthSuccess())
    assert "message 52 arrived" in str(peer.failure())


@pytest.mark.parametrize("service", ["ssh-connection", "", "ssh-userauth "])
def test_another_service_than_the_one_asked_for_is_refused(service: str) -> None:
    peer = arrive(Role.CLIENT, "authentication")
    peer.side.record(peer.core.authenticate(none_as_client("alice")))
    peer.say(ServiceAccept(service))
    assert "not asked for" in ended(peer)


@pytest.mark.parametrize("message", EARLY)
@pytest.mark.parametrize("stage", ["authentication", "an attempt's end"])
def test_a_server_opens_nothing_before_it_has_let_us_in(message: DeclaredMessage, stage: str) -> None:
    peer = arrive(Role.CLIENT, stage)
    peer.say(message)
    ended(peer)
    assert peer.side.of(OpenRequested) == []


@pytest.mark.parametrize("stage", ["authentication", "an attempt's end"])
def test_a_server_asks_a_client_for_nothing(stage: str) -> None:
    for message in (SERVICE, request("none")):
        peer = arrive(Role.CLIENT, stage)
        peer.say(message)
        ended(peer)


KEY: Final = Ed25519Key(bytes(32))
OTHER: Final = Ed25519Key(bytes(range(32)))


@pytest.mark.parametrize("blob", [OTHER.asbytes(), KEY.asbytes() + b"\0", b""])
def test_a_client_signs_for_no_key_but_the_one_it_offered(blob: bytes) -> None:
    peer = arrive(Role.CLIENT, "authentication")
    dialog = publickey_as_client("alice", KEY, "ssh-ed25519", peer.core.keying.session_id)
    peer.side.record(peer.core.authenticate(dialog))
    peer.say(ServiceAccept("ssh-userauth"), UserauthPkOk("ssh-ed25519", blob))
    ended(peer)
    assert not any(isinstance(event.question, SignatureWanted) for event in peer.side.of(Asked))
    assert all(KEY.sign(b"")[:20] not in payload for payload in peer.heard)


def prompts(count: int, size: int = 0) -> UserauthInfoRequest:
    content = Message()
    for _ in range(count):
        content.add_string("?" * size).add_boolean(False)
    return UserauthInfoRequest("", "", "", count, content.asbytes())


@pytest.mark.parametrize(
    "message",
    [prompts(17), prompts(2, 40_000), UserauthInfoRequest("", "", "", 2**32 - 1, b""), prompts(16, 4096)],
)
def test_absurd_prompts_are_refused(message: UserauthInfoRequest) -> None:
    peer = arrive(Role.CLIENT, "authentication")
    peer.side.record(peer.core.authenticate(interactive_as_client("alice", "", DEFAULT_LIMITS)))
    peer.say(ServiceAccept("ssh-userauth"), message)
    ended(peer)
    assert not any(isinstance(event.question, PromptsArrived) for event in peer.side.of(Asked))


def test_a_server_that_asks_and_asks_is_left() -> None:
    peer = arrive(Role.CLIENT, "authentication")
    peer.side.answers[PromptsArrived] = lambda question: []
    peer.side.record(peer.core.authenticate(interactive_as_client("alice", "", DEFAULT_LIMITS)))
    peer.say(ServiceAccept("ssh-userauth"), *[prompts(0)] * 1000)
    assert "rounds of questions" in ended(peer)
    assert len(peer.of(UserauthInfoResponse)) == DEFAULT_LIMITS.interactive_rounds


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (UserauthBanner("hello\n", ""), DEFAULT_LIMITS.banner_count),
        (UserauthBanner("", ""), DEFAULT_LIMITS.banner_count),
        (UserauthBanner("x" * 30_000, ""), 2),
        (UserauthBanner("x" * 200_000, ""), 0),
    ],
)
@pytest.mark.parametrize("stage", ["authentication", "an attempt's end"])
def test_banners_have_an_end(stage: str, message: UserauthBanner, most: int) -> None:
    peer = arrive(Role.CLIENT, stage)
    for _ in range(most):
        peer.say(message)
        peer.check()
    peer.say(message)
    assert "banners" in ended(peer)
    shown = peer.side.of(BannerArrived)
    assert len(shown) == most
    assert all(len(event.text) <= 10_000 for event in shown)


# -- while someone is asked


def waiting(role: Role, limits: Limits = DEFAULT_LIMITS) -> HandPeer:
    """A core that waits for an answer in the middle of authentication."""
    peer = HandPeer(role, limits=limits)
    if role is Role.SERVER:
        del peer.side.answers[CheckNone]
        peer.connect()
        peer.say(SERVICE, request("none"))
    else:
        peer.connect()
        peer.side.record(peer.core.authenticate(interactive_as_client("alice", "", limits)))
        peer.say(ServiceAccept("ssh-userauth"), prompts(1, 3))
    assert peer.side.question is not None
    return peer


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("size", [10, 1000, 200_000])
def test_what_comes_while_someone_is_asked_is_bounded(role: Role, size: int) -> None:
    limits = Limits(paused_input_bytes=400_000)
    peer = waiting(role, limits)
    said = len(peer.heard)
    packet_size = len(peer.packet(Ping(bytes(size)).encode()))
    peer = waiting(role, limits)
    fed = 0
    while fed + packet_size * (1 + 1000 // size) <= limits.paused_input_bytes:
        data = b"".join(peer.packet(Ping(bytes(size)).encode()) for _ in range(1 + 1000 // size))
        peer.raw(data)
        fed += len(data)
        peer.check()
    assert len(peer.heard) == said, "nothing is dealt with meanwhile"
    peer.raw(bytes(200_000 + packet_size))
    assert "on and on" in ended(peer)
    assert len(peer.side.of(Ended)) == 1


@pytest.mark.parametrize("role", Role)
def test_a_goodbye_is_heard_once_the_question_is_answered(role: Role) -> None:
    peer = waiting(role)
    peer.say(Ignore(b""), Disconnect(11, "tired of waiting", ""))
    assert peer.core.failure is None
    peer.side.answer(AuthResult.SUCCESSFUL if role is Role.SERVER else ["x"])
    assert "tired of waiting" in str(peer.failure())


@pytest.mark.parametrize("role", Role)
def test_a_new_exchange_waits_for_the_answer(role: Role) -> None:
    peer = waiting(role)
    peer.say(peer.kexinit())
    peer.say(NewKeys())
    assert peer.core.failure is None
    peer.side.answer(AuthResult.FAILED if role is Role.SERVER else ["x"])
    assert isinstance(peer.failure(), RemoteProtocolError)


# -- methods that are rare


def test_endless_partial_successes_end_with_what_there_is() -> None:
    """Each thing is given once, however often the server says that it wants more."""
    peer = arrive(Role.CLIENT, "authentication")
    for given in range(3):
        peer.side.record(peer.core.authenticate(password_as_client("alice", "once")))
        peer.listen()
        if not given:
            peer.say(ServiceAccept("ssh-userauth"))
        peer.say(UserauthFailure(("password",), True))
        peer.check()
    assert [event.answer.is_partial for event in peer.side.of(AuthAnswered)] == [True] * 3
    assert peer.core.phase is Phase.AUTHENTICATE, "only a success opens the connection"


def test_a_password_that_is_never_good_enough_is_given_up() -> None:
    peer = arrive(Role.CLIENT, "authentication")
    peer.side.answers[NewPasswordWanted] = lambda question: "another"
    peer.side.record(peer.core.authenticate(password_as_client("alice", "old")))
    peer.listen()
    peer.say(ServiceAccept("ssh-userauth"))
    for _ in range(4):
        peer.say(UserauthPasswdChangereq("choose another", ""))
    peer.check()
    [answered] = peer.side.of(AuthAnswered)
    assert not answered.answer.is_success
    assert "none of 3 new passwords would do" in answered.answer.remark
    peer.say(UserauthPasswdChangereq("once more", ""))
    ended(peer)


def test_a_change_of_password_out_of_the_blue_is_none() -> None:
    """Number 60 is PK_OK to a client that offers a key: what a password's server sends is no answer to it."""
    key = Ed25519Key.generate()
    peer = arrive(Role.CLIENT, "authentication")
    dialog = publickey_as_client("alice", key, "ssh-ed25519", peer.core.keying.session_id)
    peer.side.record(peer.core.authenticate(dialog))
    peer.listen()
    peer.say(ServiceAccept("ssh-userauth"))
    peer.say(UserauthPasswdChangereq("give me your password", ""))
    ended(peer)
    assert peer.side.of(AuthAnswered) == []


def test_passwords_that_expire_again_and_again_have_an_end() -> None:
    peer = refusing()
    peer.side.answers[CheckPasswordChange] = lambda question: AuthResult.PASSWORD_EXPIRED
    change = request("password", PasswordChangeDetails(True, "old", "new").encode())
    peer.say(SERVICE, *[change] * (DEFAULT_LIMITS.auth_requests + 1))
    ended(peer, DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE)


@pytest.mark.parametrize("method", ["hostbased", "gssapi-with-mic", "publickey-hostbound-v00@openssh.com"])
def test_rare_methods_run_into_the_limit_too(method: str) -> None:
    peer = refusing()
    details = {
        "hostbased": HostbasedDetails("ssh-ed25519", b"k", "h", "u", b"s").encode(),
        "gssapi-with-mic": b"\0\0\0\0",
        "publickey-hostbound-v00@openssh.com": HostboundProbe(False, "ssh-ed25519", b"k", b"h").encode(),
    }[method]
    peer.say(SERVICE, *[request(method, details)] * 100)
    ended(peer, DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE)
    assert len(peer.of(UserauthFailure)) == DEFAULT_LIMITS.auth_attempts - 1


def test_a_chain_of_certificates_is_no_certificate() -> None:
    """PROTOCOL.certkeys: an authority is a key, never a certificate."""
    authority, middle, key = (Ed25519Key.generate() for _ in range(3))
    issue = {"key_id": "x", "principals": ["alice"], "valid_before": 4_000_000_000}
    link = Certificate.issue_for_user(authority, middle.public_key, **issue)  # type: ignore[arg-type]
    last = Certificate.issue_for_user(middle, key.public_key, **issue)  # type: ignore[arg-type]
    forged = last.blob.replace(middle.asbytes(), link.blob)
    peer = HandPeer(Role.SERVER)
    peer.connect()
    probe = PublicKeyProbe(False, "ssh-ed25519-cert-v01@openssh.com", forged).encode()
    peer.say(SERVICE, request("publickey", probe))
    peer.check()
    assert len(peer.of(UserauthFailure)) == 1
    assert not [event for event in peer.side.of(Asked) if isinstance(event.question, CheckCertificate)]


@pytest.mark.parametrize("length", range(0, 400, 9))
def test_a_certificate_that_is_cut_lets_nobody_in(length: int) -> None:
    authority, key = Ed25519Key(bytes(32)), Ed25519Key(bytes(range(32)))
    certificate = Certificate.issue_for_user(
        authority, key.public_key, key_id="x", principals=["alice"], valid_before=4_000_000_000
    )
    peer = HandPeer(Role.SERVER)
    peer.connect()
    blob = certificate.blob[:length]
    probe = PublicKeyProbe(False, "ssh-ed25519-cert-v01@openssh.com", blob).encode()
    peer.say(SERVICE, request("publickey", probe))
    peer.check()
    assert len(peer.of(UserauthFailure)) == 1
