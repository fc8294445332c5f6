"""RFC 4252 and RFC 4256, the server's dialog fed by hand: who gets in, and what counts against whom."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import pytest

from tests.core.fed import Fed, replaced
from trio_ssh.core.auth_client import signed_by_host, signed_data
from trio_ssh.core.auth_server import authenticate_as_server
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.questions import (
    AllowedAuths,
    AuthResult,
    BannerWanted,
    CheckCertificate,
    CheckHostbased,
    CheckInteractive,
    CheckInteractiveResponse,
    CheckNone,
    CheckPassword,
    CheckPasswordChange,
    CheckPublicKey,
    InteractiveQuery,
    KeyDemands,
    KeyDemandsWanted,
    Prompt,
    Question,
)
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.rsa import RSAKey
from trio_ssh.keys.security_key import SecurityPublicKey
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
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
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)

KEY: Final = Ed25519Key(bytes(32))
OTHER: Final = Ed25519Key(bytes(range(32)))
SESSION: Final = b"\x05" * 32
HOST_BLOB: Final = Ed25519Key(b"\x07" * 32).asbytes()
ED25519: Final = "ssh-ed25519"
ALGORITHMS: Final = (
    ED25519,
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "rsa-sha2-512-cert-v01@openssh.com",
)
ALLOWED: Final = ("publickey", "password")

SUCCESSFUL, PARTIAL, FAILED = AuthResult.SUCCESSFUL, AuthResult.PARTIALLY_SUCCESSFUL, AuthResult.FAILED


class Server(Fed[str]):
    """The server's dialog; about banner and methods it is always answered alike, else by `decisions`, in turn."""

    def __init__(
        self,
        *decisions: object,
        limits: Limits = DEFAULT_LIMITS,
        banner: object = "",
        algorithms: tuple[str, ...] = ALGORITHMS,
    ) -> None:
        self.decisions = list(decisions)
        self.banner = banner
        super().__init__(authenticate_as_server(SESSION, algorithms, limits, HOST_BLOB))
        assert self.hear(ServiceRequest("ssh-userauth")) == [ServiceAccept("ssh-userauth")]

    def hear(self, message: DeclaredMessage) -> list[DeclaredMessage]:
        before, answered = len(self.sent), len(self.asked)
        super().hear(message)
        while len(self.asked) > answered:
            question = self.asked[answered]
            answered += 1
            match question:
                case BannerWanted():
                    self.answer(self.banner)
                case AllowedAuths():
                    self.answer(ALLOWED)
                case _:
                    self.answer(self.decisions.pop(0))
        return self.sent[before:]

    def decided(self) -> list[Question]:
        """The questions about the user, which are not about banner and methods."""
        return [question for question in self.asked if not isinstance(question, BannerWanted | AllowedAuths)]


REFUSED: Final = [UserauthFailure(ALLOWED, False)]
PARTLY: Final = [UserauthFailure(ALLOWED, True)]
GRANTED: Final = [UserauthSuccess()]


def request(method: str, details: bytes = b"", username: str = "bob") -> UserauthRequest:
    return UserauthRequest(username, "ssh-connection", method, details)


def password(text: str = "geheim") -> UserauthRequest:
    return request("password", PasswordDetails(False, text).encode())


def probe(key: PKey = KEY, algorithm: str = ED25519) -> UserauthRequest:
    return request("publickey", PublicKeyProbe(False, algorithm, key.asbytes()).encode())


def signed(
    key: PKey = KEY,
    algorithm: str = ED25519,
    *,
    signer: PKey | None = None,
    session: bytes = SESSION,
    username: str = "bob",
    service: str = "ssh-connection",
    signed_algorithm: str | None = None,
    signed_blob: bytes | None = None,
    signature_algorithm: str | None = None,
) -> UserauthRequest:
    """A request with a signature; each of the other arguments makes it a lie."""
    data = signed_data(session, username, signed_algorithm or algorithm, signed_blob or key.asbytes(), service)
    signature = (signer or key).sign(data, signature_algorithm or algorithm)
    return request("publickey", PublicKeyDetails(True, algorithm, key.asbytes(), signature).encode())


INTERACTIVE: Final = request("keyboard-interactive", InteractiveDetails("", "").encode())


# -- the order of things


def test_it_begins_with_the_service() -> None:
    with pytest.raises(RemoteProtocolError, match="where ServiceRequest was due"):
        Fed(authenticate_as_server(SESSION, ALGORITHMS, DEFAULT_LIMITS)).hear(password())


@pytest.mark.parametrize("service", ["ssh-connection", "", "ssh-userauth\0", "\x1b[2J"])
def test_another_service_is_not_available(service: str) -> None:
    with pytest.raises(RemoteProtocolError, match="before authentication") as caught:
        Fed(authenticate_as_server(SESSION, ALGORITHMS, DEFAULT_LIMITS)).hear(ServiceRequest(service))
    assert caught.value.reason is DisconnectReason.SERVICE_NOT_AVAILABLE
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("message", [ServiceRequest("ssh-userauth"), UserauthInfoResponse(0, b""), UserauthSuccess()])
def test_nothing_but_requests_follows(message: DeclaredMessage) -> None:
    with pytest.raises(RemoteProtocolError, match="where UserauthRequest was due"):
        Server().hear(message)


@pytest.mark.parametrize("service", ["ssh-userauth", "ssh-connection2", ""])
def test_a_login_to_another_service_ends_the_connection(service: str) -> None:
    server = Server(FAILED)
    server.hear(request("none"))
    with pytest.raises(RemoteProtocolError, match="login to the service") as caught:
        server.hear(replaced(password(), service=service))
    assert caught.value.reason is DisconnectReason.SERVICE_NOT_AVAILABLE


def test_a_change_of_user_ends_the_connection() -> None:
    server = Server(FAILED)
    server.hear(request("none"))
    with pytest.raises(RemoteProtocolError, match="changed the user name"):
        server.hear(replaced(password(), username="root"))
    assert len(server.decided()) == 1


@pytest.mark.parametrize("username", ["x" * 1025, "ä" * 513, "\udc80" * 1025])
def test_a_user_name_has_a_longest(username: str) -> None:
    server = Server()
    with pytest.raises(RemoteProtocolError, match="user name") as caught:
        server.hear(request("none", username=username))
    assert caught.value.reason is DisconnectReason.ILLEGAL_USER_NAME
    assert server.asked == []


def test_the_banner_is_shown_once_before_the_first_answer() -> None:
    server = Server(FAILED, FAILED, banner="Bonjour\n")
    assert server.hear(request("none")) == [UserauthBanner("Bonjour\n", ""), *REFUSED]
    assert server.hear(password()) == REFUSED
    assert server.asked[0] == BannerWanted("bob")


@pytest.mark.parametrize("banner", [None, "", 0, b"bytes"])
def test_no_banner_is_no_banner(banner: object) -> None:
    assert Server(FAILED, banner=banner).hear(request("none")) == REFUSED


# -- decisions

METHODS: Final[dict[str, Callable[[], UserauthRequest]]] = {
    "none": lambda: request("none"),
    "password": password,
    "publickey": signed,
    "keyboard-interactive": lambda: INTERACTIVE,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("result", "sent"), [(SUCCESSFUL, GRANTED), (PARTIAL, PARTLY), (FAILED, REFUSED)])
def test_a_decision_is_carried_out(method: str, result: AuthResult, sent: list[DeclaredMessage]) -> None:
    server = Server(result)
    assert server.hear(METHODS[method]()) == sent
    assert server.results == (["bob"] if result is SUCCESSFUL else [])


class Sly:
    """Equal to whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Sly()"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("answer", [True, False, 1, 0, None, "successful", b"", [], AuthResult, Sly()], ids=repr)
def test_an_answer_that_is_no_member_of_the_enum_refuses(
    method: str, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(answer)
    assert server.hear(METHODS[method]()) == REFUSED
    assert server.results == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR], "it is told as a mistake"


def test_what_is_asked_about_each_method() -> None:
    server = Server(*[FAILED] * 5)
    for message in (request("none"), password("pä"), probe(), signed(), INTERACTIVE):
        server.hear(message)
    assert server.decided() == [
        CheckNone("bob"),
        CheckPassword("bob", "pä"),
        CheckPublicKey("bob", KEY.public_key, False),
        CheckPublicKey("bob", KEY.public_key, True),
        CheckInteractive("bob", ""),
    ]


def test_a_password_is_not_in_the_repr() -> None:
    assert "geheim" not in repr(CheckPassword("bob", "geheim"))
    assert "geheim" not in repr(CheckInteractiveResponse("bob", ("geheim",)))


def test_a_method_that_nobody_knows_is_refused_unasked() -> None:
    server = Server()
    for method in ("external-keyx", "publickey2", "", "password\0"):
        assert server.hear(request(method)) == REFUSED
    assert server.decided() == []


# -- passwords


def change(old: str = "old", new: str = "new") -> UserauthRequest:
    return request("password", PasswordChangeDetails(True, old, new).encode())


EXPIRED: Final = AuthResult.PASSWORD_EXPIRED


def test_an_expired_password_has_to_be_changed() -> None:
    server = Server(EXPIRED, EXPIRED, SUCCESSFUL)
    assert [type(message) for message in server.hear(password())] == [UserauthPasswdChangereq]
    assert [type(message) for message in server.hear(change())] == [UserauthPasswdChangereq], "it won't do either"
    assert server.hear(change(new="better")) == GRANTED
    assert server.decided()[1:] == [
        CheckPasswordChange("bob", "old", "new"),
        CheckPasswordChange("bob", "old", "better"),
    ]
    assert "better" not in repr(server.decided())


@pytest.mark.parametrize(("result", "sent"), [(PARTIAL, PARTLY), (FAILED, REFUSED), (True, REFUSED)])
def test_a_change_of_password_is_decided_about(result: object, sent: object) -> None:
    assert Server(result).hear(change()) == sent


def test_a_new_password_has_a_longest() -> None:
    server = Server(limits=Limits(password_bytes=105))
    assert server.hear(change(new="x" * 100)) == REFUSED
    assert server.decided() == []


@pytest.mark.parametrize("method", ["none", "publickey", "keyboard-interactive"])
def test_only_passwords_expire(method: str) -> None:
    assert Server(EXPIRED).hear(METHODS[method]()) == REFUSED


def test_a_password_has_a_longest() -> None:
    server = Server(FAILED, limits=Limits(password_bytes=105))
    assert server.hear(password("x" * 100)) == REFUSED
    assert server.hear(password("x" * 101)) == REFUSED
    assert [type(question) for question in server.decided()] == [CheckPassword]


@pytest.mark.parametrize(
    "details",
    [
        b"",
        b"\0",
        PasswordDetails(False, "geheim").encode() + b"\0",
        PasswordDetails(False, "geheim").encode()[:-1],
        PasswordDetails(True, "geheim").encode(),
    ],
)
def test_a_malformed_password_is_the_client_s_error(details: bytes) -> None:
    server = Server()
    with pytest.raises(RemoteProtocolError, match="Password"):
        server.hear(request("password", details))
    assert server.decided() == []


# -- public keys


def test_a_probe_is_answered_and_proves_nothing() -> None:
    """Go CVE-2024-45337: what was signed last is what counts."""
    server = Server(SUCCESSFUL, FAILED)
    assert server.hear(probe()) == [UserauthPkOk(ED25519, KEY.asbytes())]
    assert server.results == []
    assert server.hear(signed(OTHER)) == REFUSED
    assert server.decided() == [
        CheckPublicKey("bob", KEY.public_key, False),
        CheckPublicKey("bob", OTHER.public_key, True),
    ]


def test_a_probe_of_a_key_that_will_not_do_is_refused() -> None:
    assert Server(FAILED).hear(probe()) == REFUSED


def test_a_probe_of_a_key_that_does_only_in_part_is_answered() -> None:
    assert Server(PARTIAL).hear(probe()) == [UserauthPkOk(ED25519, KEY.asbytes())]


FORGERIES: Final[dict[str, UserauthRequest]] = {
    "by another key": signed(signer=OTHER),
    "in another session": signed(session=b"\x06" * 32),
    "for another user": signed(username="root"),
    "for another service": signed(service="ssh-userauth"),
    "for another algorithm": signed(signed_algorithm="ssh-ed25518"),
    "for another key": signed(signed_blob=OTHER.asbytes()),
    "of nothing": request("publickey", PublicKeyDetails(True, ED25519, KEY.asbytes(), b"").encode()),
    "of zeros": request(
        "publickey",
        PublicKeyDetails(
            True, ED25519, KEY.asbytes(), Message().add_string(ED25519).add_string(bytes(64)).asbytes()
        ).encode(),
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_signature_lets_nobody_in_and_is_not_asked_about(forgery: str) -> None:
    server = Server()
    assert server.hear(FORGERIES[forgery]) == REFUSED
    assert server.decided() == [], "a proof is asked about once it is one"


def test_every_bit_of_a_signature_counts() -> None:
    details = PublicKeyDetails.decode(signed().details)
    for position in range(len(details.signature)):
        signature = bytearray(details.signature)
        signature[position] ^= 0x40
        server = Server()
        assert server.hear(request("publickey", replaced(details, signature=bytes(signature)).encode())) == REFUSED


@pytest.fixture(scope="module")
def rsa_key() -> RSAKey:
    return RSAKey.generate(2048)


def test_the_announced_algorithm_is_the_signature_s(rsa_key: RSAKey) -> None:
    for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
        assert Server(SUCCESSFUL).hear(signed(rsa_key, algorithm)) == GRANTED
    assert Server().hear(signed(rsa_key, "rsa-sha2-512", signature_algorithm="rsa-sha2-256")) == REFUSED


@pytest.mark.parametrize(
    "algorithm", ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-ed25519-cert-v01@openssh.com", "", "\0"]
)
def test_a_key_of_another_algorithm_is_refused_unasked(algorithm: str) -> None:
    """Whether the algorithm is not accepted at all, or not this key's."""
    server = Server()
    assert server.hear(probe(KEY, algorithm)) == REFUSED
    details = PublicKeyDetails(True, algorithm, KEY.asbytes(), KEY.sign(b"x"))
    assert server.hear(request("publickey", details.encode())) == REFUSED
    assert server.decided() == []


def test_an_algorithm_that_is_not_accepted_is_refused_unasked_whatever_the_key() -> None:
    key = ECDSAKey.generate(bits=384)
    server = Server()
    assert server.hear(probe(key, "ecdsa-sha2-nistp384")) == REFUSED
    assert server.hear(signed(key, "ecdsa-sha2-nistp384")) == REFUSED
    assert server.decided() == []


def test_an_ecdsa_key_is_of_the_announced_curve() -> None:
    key = ECDSAKey.generate(bits=384)
    server = Server()
    assert server.hear(probe(key, "ecdsa-sha2-nistp256")) == REFUSED
    assert server.decided() == []


@pytest.mark.parametrize(
    "blob",
    [b"", b"\0\0\0\x0bssh-ed25519", KEY.asbytes() + b"\0", KEY.asbytes()[:-1], b"\0\0\0\x03foo", b"\xff" * 50],
)
def test_a_key_that_is_none_is_refused_unasked(blob: bytes) -> None:
    server = Server()
    assert server.hear(request("publickey", PublicKeyProbe(False, ED25519, blob).encode())) == REFUSED
    assert server.decided() == []


@pytest.mark.parametrize(
    "details",
    [
        b"",
        b"\1",
        probe().details + b"\0",
        b"\1" + probe().details[1:],  # says it is signed, and is not
        b"\0" + signed().details[1:],  # is signed, and says it is not
        signed().details + b"\0",
        signed().details[:-1],
    ],
)
def test_a_malformed_request_is_the_client_s_error(details: bytes) -> None:
    server = Server()
    with pytest.raises(RemoteProtocolError, match="PublicKey"):
        server.hear(request("publickey", details))
    assert server.decided() == []


# -- keyboard-interactive


def responses(*texts: str) -> UserauthInfoResponse:
    content = Message()
    for text in texts:
        content.add_string(text)
    return UserauthInfoResponse(len(texts), content.asbytes())


QUERY: Final = InteractiveQuery("title", "both", ["Password: ", ("Token: ", True), Prompt("PIN: ", False)])


def test_a_query_is_asked_and_its_responses_are_decided_about() -> None:
    server = Server(QUERY, InteractiveQuery(), SUCCESSFUL)
    prompts = Message().add_string("Password: ").add_boolean(False).add_string("Token: ").add_boolean(True)
    prompts.add_string("PIN: ").add_boolean(False)
    assert server.hear(INTERACTIVE) == [UserauthInfoRequest("title", "both", "", 3, prompts.asbytes())]
    assert server.hear(responses("ä", "", "3")) == [UserauthInfoRequest("", "", "", 0, b"")]
    assert server.hear(responses()) == GRANTED
    assert server.decided() == [
        CheckInteractive("bob", ""),
        CheckInteractiveResponse("bob", ("ä", "", "3")),
        CheckInteractiveResponse("bob", ()),
    ]


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (responses("a", "b"), "2 responses to 3 prompts"),
        (responses("a", "b", "c", "d"), "4 responses to 3 prompts"),
        (UserauthInfoResponse(2**32 - 1, b""), "4294967295 responses"),
        (UserauthInfoResponse(3, b"\0\0\0\0"), "ends inside"),
        (UserauthInfoResponse(3, bytes(13)), "behind the last response"),
        (responses("a" * 200, "", ""), "responses"),
    ],
)
def test_responses_are_as_many_as_prompts(reply: UserauthInfoResponse, complaint: str) -> None:
    server = Server(QUERY, limits=Limits(interactive_bytes=200))
    server.hear(INTERACTIVE)
    with pytest.raises(RemoteProtocolError, match=complaint):
        server.hear(reply)
    assert len(server.decided()) == 1


def test_a_client_may_give_up_a_round_and_try_something_else() -> None:
    server = Server(QUERY, SUCCESSFUL)
    server.hear(INTERACTIVE)
    assert server.hear(password()) == GRANTED


def test_giving_up_counts_as_a_failure() -> None:
    server = Server(*[QUERY] * 3, limits=Limits(auth_attempts=3))
    for _ in range(3):
        server.hear(INTERACTIVE)
    with pytest.raises(RemoteProtocolError, match="too many"):
        server.hear(INTERACTIVE)


def test_a_request_that_interrupts_a_round_is_checked_as_any_other() -> None:
    server = Server(QUERY)
    server.hear(INTERACTIVE)
    with pytest.raises(RemoteProtocolError, match="changed the user name"):
        server.hear(replaced(password(), username="root"))


def test_rounds_have_a_most() -> None:
    server = Server(*[InteractiveQuery()] * 4, limits=Limits(interactive_rounds=3))
    server.hear(INTERACTIVE)
    server.hear(responses())
    server.hear(responses())
    assert server.hear(responses()) == REFUSED


def test_a_response_that_nobody_waits_for_is_the_client_s_error() -> None:
    server = Server(QUERY, FAILED)
    server.hear(INTERACTIVE)
    server.hear(responses("", "", ""))
    with pytest.raises(RemoteProtocolError, match="where UserauthRequest was due"):
        server.hear(responses("", "", ""))


# -- what counts


COUNTED: Final[list[tuple[Callable[[int], UserauthRequest], AuthResult, int]]] = [
    (lambda count: password(str(count)), FAILED, 6),
    (lambda count: signed(OTHER), FAILED, 6),
    (lambda count: signed(signer=OTHER), SUCCESSFUL, 6),
    (lambda count: probe(), FAILED, 6),
    (lambda count: INTERACTIVE, FAILED, 6),
    (lambda count: request("rot13"), FAILED, 6),
    (lambda count: request("password", PasswordChangeDetails(True, "a", "b").encode()), FAILED, 6),
    (lambda count: password() if count % 2 else request("none"), FAILED, 12),
    # what an honest client meets on its way is no failure, but has an end too
    (lambda count: request("none"), FAILED, 128),
    (lambda count: probe(), SUCCESSFUL, 128),
    (lambda count: password(), PARTIAL, 128),
]


@pytest.mark.parametrize(("message", "decision", "tries"), COUNTED)
def test_every_request_counts(message: Callable[[int], UserauthRequest], decision: AuthResult, tries: int) -> None:
    server = Server(*[decision] * tries)
    for count in range(tries - 1):
        assert len(server.hear(message(count))) == 1
    with pytest.raises(RemoteProtocolError, match="too many") as caught:
        server.hear(message(tries - 1))
    assert caught.value.reason is DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE
    assert server.results == []


def test_the_last_attempt_that_is_allowed_may_succeed() -> None:
    server = Server(*[FAILED] * 5, SUCCESSFUL)
    for _ in range(5):
        assert server.hear(password()) == REFUSED
    assert server.hear(password()) == GRANTED


# -- certificates

AUTHORITY: Final = Ed25519Key(b"\x09" * 32)
CERTIFICATE: Final = Certificate.issue_for_user(
    AUTHORITY, KEY.public_key, key_id="bob", principals=["bob"], valid_before=2_000_000_000
)
CERTIFIED: Final = "ssh-ed25519-cert-v01@openssh.com"


def with_certificate(
    certificate: Certificate = CERTIFICATE,
    algorithm: str = CERTIFIED,
    *,
    signer: PKey = KEY,
    signed_blob: bytes | None = None,
    signature_algorithm: str = ED25519,
) -> UserauthRequest:
    data = signed_data(SESSION, "bob", algorithm, signed_blob or certificate.blob)
    signature = signer.sign(data, signature_algorithm)
    return request("publickey", PublicKeyDetails(True, algorithm, certificate.blob, signature).encode())


def test_a_certificate_is_decided_about_as_one() -> None:
    server = Server(SUCCESSFUL, SUCCESSFUL)
    asked = request("publickey", PublicKeyProbe(False, CERTIFIED, CERTIFICATE.blob).encode())
    assert server.hear(asked) == [UserauthPkOk(CERTIFIED, CERTIFICATE.blob)]
    assert server.hear(with_certificate()) == GRANTED
    assert server.decided() == [
        CheckCertificate("bob", CERTIFICATE, False),
        CheckCertificate("bob", CERTIFICATE, True),
    ]


@pytest.mark.parametrize(
    "lie",
    [
        with_certificate(signer=OTHER),
        with_certificate(signed_blob=KEY.asbytes()),
        with_certificate(algorithm=ED25519),
        with_certificate(algorithm="rsa-sha2-512-cert-v01@openssh.com"),
        with_certificate(algorithm="ssh-rsa-cert-v01@openssh.com"),
        replaced(
            signed(),
            details=PublicKeyDetails(
                True, CERTIFIED, KEY.asbytes(), KEY.sign(signed_data(SESSION, "bob", CERTIFIED, KEY.asbytes()))
            ).encode(),
        ),
    ],
    ids=["another's signature", "over the bare key", "plain name", "another kind", "not enabled", "a bare key"],
)
def test_what_is_no_certificate_of_the_signer_s_is_refused_unasked(lie: UserauthRequest) -> None:
    server = Server()
    assert server.hear(lie) == REFUSED
    assert server.decided() == []


def test_a_certificate_that_was_tampered_with_is_refused_unasked() -> None:
    server = Server()
    for offset in range(0, len(CERTIFICATE.blob), 7):
        changed = bytearray(CERTIFICATE.blob)
        changed[offset] ^= 1
        signature = KEY.sign(signed_data(SESSION, "bob", CERTIFIED, bytes(changed)))
        details = PublicKeyDetails(True, CERTIFIED, bytes(changed), signature).encode()
        server = Server()
        assert server.hear(request("publickey", details)) == REFUSED
        assert server.decided() == []


# -- signatures that are bound to our host key

HOSTBOUND: Final = "publickey-hostbound-v00@openssh.com"


def bound(host_key: bytes = HOST_BLOB, signed_host_key: bytes | None = None) -> UserauthRequest:
    data = signed_data(SESSION, "bob", ED25519, KEY.asbytes(), host_key=signed_host_key or host_key)
    return request(HOSTBOUND, HostboundDetails(True, ED25519, KEY.asbytes(), host_key, KEY.sign(data)).encode())


def test_a_signature_may_be_bound_to_the_host_key() -> None:
    server = Server(SUCCESSFUL, SUCCESSFUL)
    asked = request(HOSTBOUND, HostboundProbe(False, ED25519, KEY.asbytes(), HOST_BLOB).encode())
    assert server.hear(asked) == [UserauthPkOk(ED25519, KEY.asbytes())]
    assert server.hear(bound()) == GRANTED
    assert server.decided()[-1] == CheckPublicKey("bob", KEY.public_key, True)


def test_one_that_is_bound_to_another_s_host_key_is_refused_unasked() -> None:
    server = Server()
    plain = signed_data(SESSION, "bob", ED25519, KEY.asbytes())
    unbound = HostboundDetails(True, ED25519, KEY.asbytes(), HOST_BLOB, KEY.sign(plain)).encode()
    for lie in (bound(OTHER.asbytes()), bound(signed_host_key=OTHER.asbytes()), request(HOSTBOUND, unbound)):
        assert server.hear(lie) == REFUSED
    assert server.decided() == []


# -- what a token has to attest

TOKEN: Final = SecurityPublicKey(KEY.public_key)
SK: Final = TOKEN.key_type


def by_token(flags: int) -> UserauthRequest:
    data = signed_data(SESSION, "bob", SK, TOKEN.blob)
    attested = sha256(b"ssh:").digest() + bytes((flags,)) + bytes(4) + sha256(data).digest()
    raw = Message(KEY.sign(attested))
    raw.get_text()
    signature = Message().add_string(SK).add_string(raw.get_string()).add_byte(flags).add_int(0).asbytes()
    return request("publickey", PublicKeyDetails(True, SK, TOKEN.blob, signature).encode())


@pytest.mark.parametrize(
    ("demands", "flags", "is_enough"),
    [
        (None, 1, True),
        (None, 0, False),
        (KeyDemands(), 0, False),
        (KeyDemands(presence=False), 0, True),
        (KeyDemands(verification=True), 1, False),
        (KeyDemands(verification=True), 5, True),
        (KeyDemands(presence=False, verification=True), 4, True),
        ("anything else", 0, False),
    ],
)
def test_a_token_attests_what_is_demanded(demands: object, flags: int, is_enough: bool) -> None:
    server = Server(demands, *([SUCCESSFUL] if is_enough else []), algorithms=(SK,))
    assert server.hear(by_token(flags)) == (GRANTED if is_enough else REFUSED)
    assert server.decided()[0] == KeyDemandsWanted("bob", TOKEN)


# -- hosts that vouch for their users


def vouched(
    *, signer: PKey = KEY, session: bytes = SESSION, username: str = "bob", signed_user: str = "robert"
) -> UserauthRequest:
    subject = HostbasedSubject(ED25519, KEY.asbytes(), "client.example.com.", signed_user)
    signature = signer.sign(signed_by_host(session, username, subject))
    details = HostbasedDetails(ED25519, KEY.asbytes(), "client.example.com.", "robert", signature)
    return request("hostbased", details.encode())


@pytest.mark.parametrize(("result", "sent"), [(SUCCESSFUL, GRANTED), (PARTIAL, PARTLY), (FAILED, REFUSED)])
def test_a_host_vouches_for_its_user(result: AuthResult, sent: object) -> None:
    server = Server(result)
    assert server.hear(vouched()) == sent
    assert server.decided() == [CheckHostbased("bob", KEY.public_key, "client.example.com", "robert")]


@pytest.mark.parametrize(
    "lie",
    [
        vouched(signer=OTHER),
        vouched(session=b"\x06" * 32),
        vouched(username="root"),
        vouched(signed_user="root"),
        replaced(vouched(), method="publickey"),
    ],
    ids=["signer", "session", "user here", "user there", "as a key"],
)
def test_a_host_that_did_not_sign_this_is_refused_unasked(lie: UserauthRequest) -> None:
    server = Server()
    try:
        assert server.hear(lie) == REFUSED
    except RemoteProtocolError:
        assert lie.method == "publickey"
    assert server.decided() == []


@pytest.mark.parametrize(
    "whole",
    [
        HostbasedDetails(ED25519, b"k", "h", "u", b"s").encode(),
        HostboundDetails(True, ED25519, b"k", b"h", b"s").encode(),
        HostboundProbe(False, ED25519, b"k", b"h").encode(),
        PasswordChangeDetails(True, "old", "new").encode(),
    ],
    ids=["hostbased", HOSTBOUND, f"{HOSTBOUND} probe", "password"],
)
def test_a_request_that_is_cut_anywhere_is_malformed(whole: bytes) -> None:
    for method in ("hostbased", HOSTBOUND, "password"):
        for length in range(len(whole)):
            server = Server(FAILED, FAILED)
            with contextlib.suppress(RemoteProtocolError):
                server.hear(request(method, whole[:length]))
            assert UserauthSuccess() not in server.sent
