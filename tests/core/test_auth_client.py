"""RFC 4252 and RFC 4256, the client's dialogs fed by hand."""

from __future__ import annotations

from typing import Final

import pytest

from tests.core.fed import Fed
from trio_ssh.core.auth_client import (
    AuthAnswer,
    hostbased_as_client,
    interactive_as_client,
    none_as_client,
    password_as_client,
    publickey_as_client,
    request_service,
    signed_by_host,
    signed_data,
    with_service,
)
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.questions import NewPasswordWanted, Prompt, PromptsArrived, SignatureRefused, SignatureWanted
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.transport import ServiceAccept, ServiceRequest
from trio_ssh.wire.userauth import (
    HostbasedDetails,
    HostbasedSubject,
    HostboundDetails,
    HostboundProbe,
    InteractiveDetails,
    PasswordChangeDetails,
    PasswordDetails,
    PublicKeyDetails,
    PublicKeyProbe,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)

KEY: Final = Ed25519Key(bytes(32))
BLOB: Final = KEY.asbytes()
OTHER: Final = Ed25519Key(bytes(range(32)))
SESSION: Final = b"\x05" * 32
ALGORITHM: Final = "ssh-ed25519"

FAILURE: Final = UserauthFailure(("publickey", "password"), False)
PARTIAL: Final = UserauthFailure(("password",), True)


def request(method: str, details: bytes = b"") -> UserauthRequest:
    return UserauthRequest("bob", "ssh-connection", method, details)


def test_the_service_is_asked_for_by_name() -> None:
    fed = Fed(request_service())
    assert fed.sent == [ServiceRequest("ssh-userauth")]
    fed.hear(ServiceAccept("ssh-userauth"))
    assert fed.conversation.is_done


def test_an_answer_before_the_service_was_accepted_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="ServiceAccept was due"):
        Fed(request_service()).hear(UserauthSuccess())


def test_another_service_than_the_one_asked_for_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        Fed(request_service()).hear(ServiceAccept("ssh-connection"))


ACCEPT: Final = ServiceAccept("ssh-userauth")


def test_a_first_request_can_travel_with_that_for_the_service() -> None:
    fed = Fed(with_service(password_as_client("bob", "secret")))
    assert fed.sent == [
        ServiceRequest("ssh-userauth"),
        request("password", PasswordDetails(False, "secret").encode()),
    ]
    fed.hear(ACCEPT)
    fed.hear(UserauthSuccess())
    assert fed.result == AuthAnswer(True)


def test_so_can_one_that_must_be_signed() -> None:
    fed = Fed(with_service(publickey_as_client("bob", KEY, ALGORITHM, SESSION, probe=False)))
    assert fed.sent == [ServiceRequest("ssh-userauth")]
    assert fed.answer(b"signature") == [
        request("publickey", PublicKeyDetails(True, ALGORITHM, BLOB, b"signature").encode())
    ]
    fed.hear(ACCEPT)
    fed.hear(FAILURE)
    assert fed.result == AuthAnswer(False, ("publickey", "password"))


def test_a_dialog_that_goes_on_is_not_disturbed_by_the_service() -> None:
    fed = Fed(with_service(publickey_as_client("bob", KEY, ALGORITHM, SESSION)))
    assert len(fed.sent) == 2
    fed.hear(ACCEPT)
    fed.hear(UserauthPkOk(ALGORITHM, BLOB))
    assert len(fed.answer(b"signature")) == 1
    fed.hear(UserauthSuccess())
    assert fed.result == AuthAnswer(True)


def test_one_that_gives_up_before_its_first_request_leaves_the_service_ready() -> None:
    fed = Fed(with_service(publickey_as_client("bob", KEY, ALGORITHM, SESSION, probe=False)))
    assert fed.answer(SignatureRefused("no")) == []
    assert not fed.conversation.is_done
    fed.hear(ACCEPT)
    assert fed.result == AuthAnswer(False, remark="no", is_decided=False)


@pytest.mark.parametrize("probe", [True, False])
def test_with_a_request_another_service_is_refused_too(probe: bool) -> None:
    fed = Fed(with_service(publickey_as_client("bob", KEY, ALGORITHM, SESSION, probe=probe)))
    if not probe:
        fed.answer(b"signature")
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        fed.hear(ServiceAccept("ssh-connection"))


ANSWERS: Final = [
    (UserauthSuccess(), AuthAnswer(True)),
    (FAILURE, AuthAnswer(False, ("publickey", "password"))),
    (PARTIAL, AuthAnswer(False, ("password",), True)),
]


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
def test_none(reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = Fed(none_as_client("bob"))
    assert fed.sent == [request("none")]
    fed.hear(reply)
    assert fed.result == answer


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
def test_password(reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = Fed(password_as_client("bob", "pässword"))
    assert fed.sent == [request("password", PasswordDetails(False, "pässword").encode())]
    fed.hear(reply)
    assert fed.result == answer


CHANGE: Final = UserauthPasswdChangereq("choose a new one", "")


def changed(new_password: str) -> UserauthRequest:
    return request("password", PasswordChangeDetails(True, "old", new_password).encode())


def test_an_expired_password_that_nobody_changes_is_a_failure_with_a_remark() -> None:
    fed = Fed(password_as_client("bob", "old"))
    fed.hear(CHANGE)
    assert fed.asked == [NewPasswordWanted("choose a new one")]
    assert fed.answer(None) == []
    assert not fed.result.is_success
    assert "expired" in fed.result.remark


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
def test_an_expired_password_is_changed(reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = Fed(password_as_client("bob", "old"))
    fed.hear(CHANGE)
    assert fed.answer("new") == [changed("new")]
    fed.hear(reply)
    assert fed.result == answer


def test_a_server_that_likes_no_new_password_is_given_three() -> None:
    fed = Fed(password_as_client("bob", "old"))
    fed.hear(CHANGE)
    for number in range(3):
        assert fed.answer(f"new{number}") == [changed(f"new{number}")]
        fed.hear(CHANGE)
    assert "none of 3 new passwords" in fed.result.remark
    assert len(fed.asked) == 3


def test_what_a_key_signs_is_the_rfc_s() -> None:
    """RFC 4252 s7, field by field."""
    content = Message().add_string(SESSION).add_byte(50).add_string("bob").add_string("ssh-connection")
    content.add_string("publickey").add_boolean(True).add_string(ALGORITHM).add_string(BLOB)
    assert signed_data(SESSION, "bob", ALGORITHM, BLOB) == content.asbytes()


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
@pytest.mark.parametrize("probe", [True, False])
def test_publickey(probe: bool, reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = Fed(publickey_as_client("bob", KEY, ALGORITHM, SESSION, probe=probe))
    if probe:
        assert fed.sent == [request("publickey", PublicKeyProbe(False, ALGORITHM, BLOB).encode())]
        assert fed.asked == [], "nothing is signed before the server wants it"
        fed.hear(UserauthPkOk(ALGORITHM, BLOB))
    assert fed.asked == [SignatureWanted(KEY, signed_data(SESSION, "bob", ALGORITHM, BLOB), ALGORITHM)]
    details = PublicKeyDetails(True, ALGORITHM, BLOB, b"signature").encode()
    assert fed.answer(b"signature") == [request("publickey", details)]
    fed.hear(reply)
    assert fed.result == answer


@pytest.mark.parametrize("reply", [FAILURE, PARTIAL, UserauthSuccess()])
def test_a_key_that_will_not_do_signs_nothing(reply: DeclaredMessage) -> None:
    fed = Fed(publickey_as_client("bob", KEY, ALGORITHM, SESSION))
    fed.hear(reply)
    assert fed.asked == []
    assert fed.result.is_success == isinstance(reply, UserauthSuccess)


@pytest.mark.parametrize(
    "reply",
    [UserauthPkOk(ALGORITHM, OTHER.asbytes()), UserauthPkOk("ssh-rsa", BLOB), UserauthPkOk(ALGORITHM, b"")],
)
def test_a_key_that_was_not_offered_signs_nothing(reply: UserauthPkOk) -> None:
    fed = Fed(publickey_as_client("bob", KEY, ALGORITHM, SESSION))
    with pytest.raises(RemoteProtocolError, match="not offered"):
        fed.hear(reply)
    assert fed.asked == []


def test_a_second_approval_is_no_answer_to_a_signature() -> None:
    fed = Fed(publickey_as_client("bob", KEY, ALGORITHM, SESSION))
    fed.hear(UserauthPkOk(ALGORITHM, BLOB))
    fed.answer(b"signature")
    with pytest.raises(RemoteProtocolError, match="where UserauthSuccess or UserauthFailure was due"):
        fed.hear(UserauthPkOk(ALGORITHM, BLOB))


def info_request(*prompts: tuple[str, bool], name: str = "", instruction: str = "") -> UserauthInfoRequest:
    content = Message()
    for text, echo in prompts:
        content.add_string(text).add_boolean(echo)
    return UserauthInfoRequest(name, instruction, "", len(prompts), content.asbytes())


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
def test_interactive(reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = Fed(interactive_as_client("bob", "otp,pam", DEFAULT_LIMITS))
    assert fed.sent == [request("keyboard-interactive", InteractiveDetails("", "otp,pam").encode())]
    fed.hear(info_request(("Password: ", False), ("Token: ", True), name="title", instruction="both"))
    assert fed.asked == [PromptsArrived("title", "both", (Prompt("Password: ", False), Prompt("Token: ", True)))]
    responses = Message().add_string("geheim").add_string("123ä").asbytes()
    assert fed.answer(["geheim", "123ä"]) == [UserauthInfoResponse(2, responses)]
    fed.hear(info_request())  # RFC 4256 s3.4 allows a round without prompts
    assert fed.answer([]) == [UserauthInfoResponse(0, b"")]
    fed.hear(reply)
    assert fed.result == answer


def test_rounds_have_a_most() -> None:
    fed = Fed(interactive_as_client("bob", "", Limits(interactive_rounds=3)))
    for _ in range(2):
        fed.hear(info_request())
        fed.answer([])
    fed.hear(info_request())
    with pytest.raises(RemoteProtocolError, match="more than 3 rounds"):
        fed.answer([])


MANY: Final = info_request(*[("?", False)] * 3)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (MANY, "3 prompts"),
        (UserauthInfoRequest("", "", "", 2**32 - 1, b""), "4294967295 prompts"),
        (UserauthInfoRequest("", "", "", 2, b"\0\0\0\1?\0"), "ends inside"),
        (UserauthInfoRequest("", "", "", 1, b"\0\0\0\1?"), "ends inside"),
        (UserauthInfoRequest("", "", "", 1, b"\0\0\0\1?\0\0"), "behind the last prompt"),
        (UserauthInfoRequest("", "", "", 0, b"\0"), "behind the last prompt"),
        (info_request(("x" * 100, False)), "105 bytes"),
    ],
)
def test_an_absurd_round_is_refused_before_anyone_is_asked(message: UserauthInfoRequest, complaint: str) -> None:
    fed = Fed(interactive_as_client("bob", "", Limits(interactive_prompts=2, interactive_bytes=100)))
    with pytest.raises(RemoteProtocolError, match=complaint):
        fed.hear(message)
    assert fed.asked == []


@pytest.mark.parametrize("message", [UserauthInfoResponse(0, b""), request("none"), ServiceAccept("ssh-userauth")])
def test_no_method_takes_what_is_no_answer(message: DeclaredMessage) -> None:
    dialogs = [
        none_as_client("bob"),
        password_as_client("bob", "p"),
        publickey_as_client("bob", KEY, ALGORITHM, SESSION),
        interactive_as_client("bob", "", DEFAULT_LIMITS),
    ]
    for dialog in dialogs:
        with pytest.raises(RemoteProtocolError, match="was due"):
            Fed(dialog).hear(message)


def test_no_method_takes_another_method_s_question() -> None:
    with pytest.raises(RemoteProtocolError, match="was due"):
        Fed(none_as_client("bob")).hear(UserauthPkOk(ALGORITHM, BLOB))
    with pytest.raises(RemoteProtocolError, match="UserauthPasswdChangereq"):
        Fed(password_as_client("bob", "p")).hear(info_request(("Password: ", False)))
    with pytest.raises(RemoteProtocolError, match="UserauthInfoRequest"):
        Fed(interactive_as_client("bob", "", DEFAULT_LIMITS)).hear(UserauthPkOk(ALGORITHM, BLOB))


# -- a signature that is bound to the server's host key

HOSTBOUND: Final = "publickey-hostbound-v00@openssh.com"


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
@pytest.mark.parametrize("probe", [True, False])
def test_publickey_bound_to_the_host_key(probe: bool, reply: DeclaredMessage, answer: AuthAnswer) -> None:
    host_key = OTHER.asbytes()
    fed = Fed(publickey_as_client("bob", KEY, ALGORITHM, SESSION, host_key=host_key, probe=probe))
    if probe:
        assert fed.sent == [request(HOSTBOUND, HostboundProbe(False, ALGORITHM, BLOB, host_key).encode())]
        fed.hear(UserauthPkOk(ALGORITHM, BLOB))
    signed = signed_data(SESSION, "bob", ALGORITHM, BLOB, host_key=host_key)
    assert fed.asked == [SignatureWanted(KEY, signed, ALGORITHM)]
    details = HostboundDetails(True, ALGORITHM, BLOB, host_key, b"signature").encode()
    assert fed.answer(b"signature") == [request(HOSTBOUND, details)]
    fed.hear(reply)
    assert fed.result == answer


def test_what_a_key_signs_for_a_host_is_openssh_s() -> None:
    """OpenSSH PROTOCOL s3.1, field by field."""
    content = Message().add_string(SESSION).add_byte(50).add_string("bob").add_string("ssh-connection")
    content.add_string(HOSTBOUND).add_boolean(True).add_string(ALGORITHM).add_string(BLOB).add_string(OTHER.asbytes())
    assert signed_data(SESSION, "bob", ALGORITHM, BLOB, host_key=OTHER.asbytes()) == content.asbytes()


# -- a host that vouches for its user

SUBJECT: Final = HostbasedSubject(ALGORITHM, BLOB, "client.example.com.", "robert")


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
def test_hostbased(reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = Fed(hostbased_as_client("bob", KEY, ALGORITHM, SESSION, "client.example.com.", "robert"))
    assert fed.sent == []
    assert fed.asked == [SignatureWanted(KEY, signed_by_host(SESSION, "bob", SUBJECT), ALGORITHM)]
    details = HostbasedDetails(ALGORITHM, BLOB, "client.example.com.", "robert", b"signature").encode()
    assert fed.answer(b"signature") == [request("hostbased", details)]
    fed.hear(reply)
    assert fed.result == answer


def test_a_host_that_does_not_sign_is_not_sent_for() -> None:
    fed = Fed(hostbased_as_client("bob", KEY, ALGORITHM, SESSION, "client.example.com.", "robert"))
    assert fed.answer(SignatureRefused("locked")) == []
    assert fed.result == AuthAnswer(False, remark="locked", is_decided=False)


def test_what_a_host_signs_is_the_rfc_s() -> None:
    """RFC 4252 s9, field by field."""
    content = Message().add_string(SESSION).add_byte(50).add_string("bob").add_string("ssh-connection")
    content.add_string("hostbased").add_string(ALGORITHM).add_string(BLOB)
    content.add_string("client.example.com.").add_string("robert")
    assert signed_by_host(SESSION, "bob", SUBJECT) == content.asbytes()
