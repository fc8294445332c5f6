"""RFC 4462: both dialogs fed by hand, with contexts that do as they are told."""

from __future__ import annotations

from typing import Final

import pytest

from tests.core.fed import Fed
from trio_ssh.core.auth_client import AuthAnswer
from trio_ssh.core.auth_server import authenticate_as_server
from trio_ssh.core.gssapi import (
    MAX_TOKENS,
    CheckGssapi,
    GssBegins,
    GssMicWanted,
    GssRefused,
    GssStep,
    GssStepWanted,
    gssapi_as_client,
    signed_by_context,
)
from trio_ssh.core.limits import DEFAULT_LIMITS
from trio_ssh.core.questions import AllowedAuths, AuthResult, BannerWanted, CheckPassword
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.transport import ServiceRequest
from trio_ssh.wire.userauth import (
    GssapiDetails,
    PasswordDetails,
    UserauthFailure,
    UserauthGssapiError,
    UserauthGssapiErrtok,
    UserauthGssapiExchangeComplete,
    UserauthGssapiMic,
    UserauthGssapiResponse,
    UserauthGssapiToken,
    UserauthInfoResponse,
    UserauthRequest,
    UserauthSuccess,
)

SESSION: Final = b"\x05" * 32
MECHANISM: Final = b"\x06\x03abc"
METHOD: Final = "gssapi-with-mic"


class Context:
    """A context in name only: the tests answer in its place."""

    mechanism = MECHANISM

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        raise AssertionError("nobody steps here")

    def sign(self, data: bytes) -> bytes:
        raise AssertionError("nobody signs here")


CONTEXT: Final = Context()
FIRST: Final = GssStep(b"first", False)


def request(*mechanisms: bytes, details: bytes | None = None) -> UserauthRequest:
    if details is None:
        content = Message()
        for mechanism in mechanisms:
            content.add_string(mechanism)
        details = GssapiDetails(len(mechanisms), content.asbytes()).encode()
    return UserauthRequest("bob", "ssh-connection", METHOD, details)


def test_what_a_context_signs_is_the_rfc_s() -> None:
    """RFC 4462 s3.5, field by field."""
    content = Message().add_string(SESSION).add_byte(50).add_string("bob").add_string("ssh-connection")
    assert signed_by_context(SESSION, "bob") == content.add_string(METHOD).asbytes()


# -- the client


def client(first: GssStep | GssRefused = FIRST) -> Fed[AuthAnswer]:
    fed = Fed(gssapi_as_client("bob", CONTEXT, SESSION))
    assert fed.asked == [GssStepWanted(CONTEXT, None)]
    assert fed.sent == []
    fed.answer(first)
    return fed


def chosen(first: GssStep = FIRST) -> Fed[AuthAnswer]:
    fed = client(first)
    assert fed.sent == [request(MECHANISM)]
    assert fed.hear(UserauthGssapiResponse(MECHANISM)) == [UserauthGssapiToken(b"first")]
    return fed


ANSWERS: Final = [
    (UserauthSuccess(), AuthAnswer(True)),
    (UserauthFailure(("password",), False), AuthAnswer(False, ("password",))),
    (UserauthFailure(("password",), True), AuthAnswer(False, ("password",), True)),
]


@pytest.mark.parametrize(("reply", "answer"), ANSWERS)
def test_tokens_go_to_and_fro_and_the_context_signs(reply: DeclaredMessage, answer: AuthAnswer) -> None:
    fed = chosen()
    fed.hear(UserauthGssapiToken(b"second"))
    assert fed.asked[-1] == GssStepWanted(CONTEXT, b"second")
    assert fed.answer(GssStep(b"third", True)) == [UserauthGssapiToken(b"third")]
    assert fed.asked[-1] == GssMicWanted(CONTEXT, signed_by_context(SESSION, "bob"))
    assert fed.answer(b"mic") == [UserauthGssapiMic(b"mic")]
    fed.hear(reply)
    assert fed.result == answer


def test_a_context_without_integrity_signs_nothing() -> None:
    fed = chosen()
    fed.hear(UserauthGssapiToken(b"second"))
    assert fed.answer(GssStep(b"", True, has_integrity=False)) == [UserauthGssapiExchangeComplete()]


def test_without_credentials_the_server_hears_nothing() -> None:
    fed = client(GssRefused("no credentials"))
    assert fed.sent == []
    assert fed.result == AuthAnswer(False, remark="no credentials", is_decided=False)


def test_a_server_without_the_mechanism_refuses() -> None:
    fed = client()
    fed.hear(UserauthFailure(("password",), False))
    assert fed.result == AuthAnswer(False, ("password",))


def test_a_mechanism_that_was_not_offered_is_not_taken() -> None:
    with pytest.raises(RemoteProtocolError, match="not offered"):
        client().hear(UserauthGssapiResponse(b"\x06\x01x"))


def test_the_server_s_error_is_a_remark_escaped() -> None:
    fed = chosen()
    fed.hear(UserauthGssapiError(1, 2, "no \x1b[2Jkey", ""))
    fed.hear(UserauthGssapiErrtok(b"token"))
    fed.hear(UserauthFailure(("password",), False))
    assert fed.result == AuthAnswer(False, ("password",), remark=r"no \x1b[2Jkey")


@pytest.mark.parametrize("message", [UserauthGssapiError(1, 2, "x", ""), UserauthGssapiErrtok(b"x")])
@pytest.mark.parametrize("is_complete", [False, True])
def test_errors_have_an_end(message: DeclaredMessage, is_complete: bool) -> None:
    fed = chosen()
    if is_complete:
        fed.hear(UserauthGssapiToken(b"second"))
        fed.answer(GssStep(b"", True))
        fed.answer(b"mic")
    with pytest.raises(RemoteProtocolError, match="goes on about"):
        for _ in range(MAX_TOKENS + 1):
            fed.hear(message)


def test_tokens_have_an_end() -> None:
    fed = chosen()
    with pytest.raises(RemoteProtocolError, match="more than 16 tokens"):
        for _ in range(MAX_TOKENS + 1):
            fed.hear(UserauthGssapiToken(b"again"))
            fed.answer(GssStep(b"and again", False))


def test_a_token_that_gss_api_refuses_ends_the_attempt() -> None:
    fed = chosen()
    fed.hear(UserauthGssapiToken(b"second"))
    assert fed.answer(GssRefused("it was tampered with")) == []
    assert fed.result == AuthAnswer(False, remark="it was tampered with", is_decided=False)


def test_a_success_in_the_midst_of_it_is_none() -> None:
    with pytest.raises(RemoteProtocolError, match="success in the midst"):
        chosen().hear(UserauthSuccess())


# -- the server

ALLOWED: Final = ("password",)
REFUSED: Final = [UserauthFailure(ALLOWED, False)]


class Server(Fed[str]):
    """The server's dialog; questions are answered by `answers`, in turn."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        super().__init__(authenticate_as_server(SESSION, (), DEFAULT_LIMITS))
        self.hear(ServiceRequest("ssh-userauth"))

    def hear(self, message: DeclaredMessage) -> list[DeclaredMessage]:
        before, answered = len(self.sent), len(self.asked)
        super().hear(message)
        while len(self.asked) > answered:
            question = self.asked[answered]
            answered += 1
            match question:
                case BannerWanted():
                    self.answer("")
                case AllowedAuths():
                    self.answer(ALLOWED)
                case _:
                    self.answer(self.answers.pop(0))
        return self.sent[before:]


@pytest.mark.parametrize(
    ("result", "sent"),
    [
        (AuthResult.SUCCESSFUL, [UserauthSuccess()]),
        (AuthResult.PARTIALLY_SUCCESSFUL, [UserauthFailure(ALLOWED, True)]),
        (AuthResult.FAILED, REFUSED),
        (AuthResult.PASSWORD_EXPIRED, REFUSED),
        (True, REFUSED),
        (None, REFUSED),
    ],
)
def test_a_signed_context_is_decided_about(result: object, sent: object) -> None:
    server = Server(CONTEXT, GssStep(b"answer", True), result)
    assert server.hear(request(b"\x06\x01x", MECHANISM)) == [UserauthGssapiResponse(MECHANISM)]
    assert server.asked[1] == GssBegins("bob", (b"\x06\x01x", MECHANISM))
    assert server.hear(UserauthGssapiToken(b"token")) == [UserauthGssapiToken(b"answer")]
    assert server.hear(UserauthGssapiMic(b"mic")) == sent
    assert CheckGssapi("bob", CONTEXT, signed_by_context(SESSION, "bob"), b"mic") in server.asked


def test_a_context_that_signs_nothing_proves_nothing() -> None:
    """RFC 4462 s3.5 would let it; but then somebody in between could pass its tokens on."""
    server = Server(CONTEXT, GssStep(b"answer", True, has_integrity=False))
    server.hear(request(MECHANISM))
    server.hear(UserauthGssapiToken(b"token"))
    assert server.hear(UserauthGssapiExchangeComplete()) == REFUSED
    assert not any(isinstance(question, CheckGssapi) for question in server.asked)


@pytest.mark.parametrize("message", [UserauthGssapiMic(b"mic"), UserauthGssapiExchangeComplete()])
def test_nothing_is_signed_before_the_context_is_there(message: DeclaredMessage) -> None:
    server = Server(CONTEXT, GssStep(b"answer", False))
    server.hear(request(MECHANISM))
    server.hear(UserauthGssapiToken(b"token"))
    with pytest.raises(RemoteProtocolError, match="was due"):
        server.hear(message)


@pytest.mark.parametrize("answer", [GssRefused("no"), None, True])
def test_a_token_that_is_refused_fails_the_attempt(answer: object) -> None:
    server = Server(CONTEXT, answer)
    server.hear(request(MECHANISM))
    assert server.hear(UserauthGssapiToken(b"token")) == REFUSED


def test_the_client_s_error_fails_the_attempt() -> None:
    server = Server(CONTEXT)
    server.hear(request(MECHANISM))
    assert server.hear(UserauthGssapiErrtok(b"token")) == REFUSED


@pytest.mark.parametrize("is_complete", [False, True])
def test_another_request_gives_the_attempt_up(is_complete: bool) -> None:
    password = UserauthRequest("bob", "ssh-connection", "password", PasswordDetails(False, "x").encode())
    server = Server(CONTEXT, *([GssStep(b"", True)] if is_complete else []), AuthResult.SUCCESSFUL)
    server.hear(request(MECHANISM))
    if is_complete:
        server.hear(UserauthGssapiToken(b"token"))
    assert server.hear(password) == [UserauthSuccess()]
    assert CheckPassword("bob", "x") in server.asked


def test_tokens_have_an_end_for_a_server_too() -> None:
    server = Server(CONTEXT, *[GssStep(b"", False)] * MAX_TOKENS)
    server.hear(request(MECHANISM))
    with pytest.raises(RemoteProtocolError, match="more than 16 tokens"):
        for _ in range(MAX_TOKENS):
            server.hear(UserauthGssapiToken(b"again"))


@pytest.mark.parametrize(
    "malformed",
    [
        request(),
        request(details=b""),
        request(details=GssapiDetails(33, Message().add_string(b"x").asbytes() * 33).encode()),
        request(details=GssapiDetails(2**32 - 1, b"").encode()),
        request(details=GssapiDetails(1, b"\0\0\0\x05abc").encode()),
        request(details=GssapiDetails(1, Message().add_string(b"x").asbytes() + b"x").encode()),
        request(b"x" * 65),
    ],
)
def test_mechanisms_that_are_malformed_or_too_many_are_refused_unasked(malformed: UserauthRequest) -> None:
    server = Server()
    assert server.hear(malformed) == REFUSED


def test_messages_of_other_methods_are_not_taken_for_tokens() -> None:
    server = Server(CONTEXT, GssRefused("no"))
    server.hear(request(MECHANISM))
    # Number 61 is a token here: its bytes are read as one, or are malformed.
    with pytest.raises(RemoteProtocolError):
        server.hear(UserauthInfoResponse(2**31, b"x"))
