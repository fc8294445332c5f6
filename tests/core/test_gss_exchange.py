"""RFC 4462 s2 and RFC 8732: both dialogs fed by hand, and whole connections in lockstep."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import pytest

from tests.core.fed import Fed, replaced
from trio_ssh.core.events import ExchangeFinished
from trio_ssh.core.exchange import SharedSecret, Transcript
from trio_ssh.core.gss_exchange import (
    METHODS,
    as_in_first_exchange,
    gss_agree_as_client,
    gss_agree_as_server,
    method_suffix,
    with_gss,
)
from trio_ssh.core.gssapi import (
    MAX_TOKENS,
    CheckGssapiKeyex,
    GssExchangeMic,
    GssExchangeProof,
    GssExchangeQuestion,
    GssExchangeStep,
    GssMicWanted,
    GssRefused,
    GssStep,
    keyex_as_client,
    keyex_as_server,
    signed_by_context,
)
from trio_ssh.core.negotiation import Algorithms, DirectionChoice, Negotiated
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import AuthResult, HostKeyOffered, SignatureWanted
from trio_ssh.core.role import Role
from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm
from trio_ssh.errors import IncompatiblePeer, LocalProtocolError, RemoteProtocolError, SSHException
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.testing.lockstep import DEFAULT_ANSWERS, CorePair, CoreSide, counted_bytes
from trio_ssh.wire.exchange import KexGssComplete, KexGssContinue, KexGssError, KexGssHostkey, KexGssInit
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import KexInit, NewKeys
from trio_ssh.wire.userauth import GssapiKeyexDetails, UserauthFailure, UserauthRequest, UserauthSuccess

KERBEROS: Final = bytes.fromhex("06092a864886f712010202")
#: As RFC 4462 s2 would have it, and as OpenSSH sends it.
SUFFIX: Final = "toWM5Slw5Ew8Mqkay+al2g=="
METHOD: Final = f"gss-curve25519-sha256-{SUFFIX}"
HOST_KEY: Final = Ed25519Key(bytes(32))
OTHER_KEY: Final = Ed25519Key(bytes(range(32)))
TRANSCRIPT: Final = Transcript(b"SSH-2.0-c", b"SSH-2.0-s", b"\x14client", b"\x14server")
PLAIN: Final = DirectionChoice("aes128-gcm@openssh.com", "", "none")
DONE: Final = GssStep(b"", True, is_mutual=True)
LAST: Final = GssStep(b"last", True, is_mutual=True)


def signed(data: bytes) -> bytes:
    return hashlib.sha256(b"the server" + data).digest()


class Context:
    """A context of one token each; where a dialog is fed, the tests answer in its place."""

    mechanism = KERBEROS

    def __init__(self, *, is_client: bool = True) -> None:
        self._is_client = is_client

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        raise AssertionError("nobody waits here")

    def taken(self, token: bytes | None) -> GssStep | GssRefused:
        if self._is_client:
            return GssStep(b"hello", False) if token is None else DONE if token == b"last" else GssRefused("no")
        return LAST if token == b"hello" else GssRefused("no")

    def sign(self, data: bytes) -> bytes:
        return signed(data)

    def verifies(self, data: bytes, mic: bytes) -> bool:
        return mic == signed(data)


CONTEXT: Final = Context()


def agreed(kex: str = METHOD, host_key: str = "ssh-ed25519") -> Negotiated:
    return Negotiated(kex, host_key, PLAIN, PLAIN, guess_was_wrong=False)


def client(
    negotiated: Negotiated | None = None, known_key: Ed25519Key | None = None, first: object = GssStep(b"hello", False)
) -> Fed[SharedSecret]:
    """A client that has its first token."""
    known = None if known_key is None else known_key.public_key
    fed = Fed(gss_agree_as_client(negotiated or agreed(), TRANSCRIPT, known, CONTEXT))
    assert fed.asked == [GssExchangeStep(CONTEXT, None)]
    assert fed.sent == []
    fed.answer(first)
    return fed


def server(negotiated: Negotiated | None = None) -> Fed[SharedSecret]:
    return Fed(gss_agree_as_server(negotiated or agreed(), TRANSCRIPT, CONTEXT))


def init_of(fed: Fed[SharedSecret]) -> KexGssInit:
    [init] = fed.sent
    assert isinstance(init, KexGssInit)
    return init


def completion(fed: Fed[SharedSecret], host_key: bytes = b"", last_token: bytes | None = b"last") -> KexGssComplete:
    """What a server that is what it says answers to a client's share, if it showed this key."""
    twin = KEX["curve25519-sha256"]
    assert isinstance(twin, AgreementAlgorithm)
    share = init_of(fed).share
    our_share, secret = twin.new_server().respond(share)
    digest = TRANSCRIPT.digest("sha256", host_key, share, our_share, secret)
    rest = b"" if last_token is None else Message().add_string(last_token).asbytes()
    return KexGssComplete(our_share, signed(digest), last_token is not None, rest)


def refused(fed: Fed[SharedSecret], match: str | None, *messages: DeclaredMessage) -> RemoteProtocolError:
    """The last of these messages ends it, and nothing was agreed on."""
    for message in messages[:-1]:
        fed.hear(message)
    with pytest.raises(RemoteProtocolError, match=match) as raised:
        fed.hear(messages[-1])
    assert fed.results == []
    return raised.value


def answer_refused(fed: Fed[SharedSecret], value: object, match: str | None) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError, match=match) as raised:
        fed.answer(value)
    assert fed.results == []
    assert raised.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED
    return raised.value


# -- names


def test_the_methods_are_named_as_elsewhere() -> None:
    """The MD5 of the OID in DER, in base 64: RFC 4462 s2; these are OpenSSH's, character by character."""
    assert method_suffix(KERBEROS) == SUFFIX


def test_methods_stand_before_the_others_in_the_order_of_their_twins() -> None:
    plain = Algorithms(kex=("diffie-hellman-group14-sha256", "mlkem768x25519-sha256", "curve25519-sha256"))
    found = with_gss(plain, KERBEROS, offers_null=True)
    assert found.kex == (f"gss-group14-sha256-{SUFFIX}", METHOD, *plain.kex)
    assert found.host_keys == (*plain.host_keys, "null")
    assert found.pubkeys == plain.pubkeys, "no user signs by it"
    assert with_gss(plain, KERBEROS, offers_null=False).host_keys == plain.host_keys
    assert with_gss(plain, KERBEROS, offers_null=True, is_only=True).kex == found.kex[:2]


def test_a_method_whose_twin_is_off_is_off() -> None:
    plain = Algorithms(kex=("mlkem768x25519-sha256",))
    assert with_gss(plain, KERBEROS, offers_null=True) == plain
    with pytest.raises(LocalProtocolError, match="enable one of curve25519-sha256"):
        with_gss(plain, KERBEROS, offers_null=True, is_only=True)


def test_who_vouched_first_does_so_for_ever() -> None:
    offered = with_gss(Algorithms(), KERBEROS, offers_null=True)
    assert as_in_first_exchange(offered, METHOD).kex == (METHOD,)
    assert as_in_first_exchange(offered, "curve25519-sha256") == Algorithms()


# -- both


@pytest.mark.parametrize("prefix", METHODS)
@pytest.mark.parametrize("host_key", ["ssh-ed25519", "null"])
@pytest.mark.parametrize("rounds", [1, 2, MAX_TOKENS])
def test_both_sides_agree_by_every_method(prefix: str, host_key: str, rounds: int) -> None:
    negotiated = agreed(prefix + SUFFIX, host_key)
    ours = client(negotiated)
    theirs = server(negotiated)
    theirs.hear(init_of(ours))
    for _ in range(1, rounds):
        [their_token] = theirs.answer(GssStep(b"more", False))
        assert their_token == KexGssContinue(b"more")
        ours.hear(their_token)
        assert ours.asked[-1] == GssExchangeStep(CONTEXT, b"more")
        [our_token] = ours.answer(GssStep(b"and more", False))
        theirs.hear(our_token)
        assert theirs.asked[-1] == GssExchangeStep(CONTEXT, b"and more")
    theirs.answer(LAST)
    to_sign = theirs.asked[-1]
    assert isinstance(to_sign, GssExchangeMic)
    [complete] = theirs.answer(b"mic")
    assert isinstance(complete, KexGssComplete)
    assert complete.has_token
    ours.hear(complete)
    assert ours.asked[-1] == GssExchangeStep(CONTEXT, b"last")
    ours.answer(DONE)
    assert ours.asked[-1] == GssExchangeProof(CONTEXT, to_sign.digest, b"mic")
    assert ours.results == [], "nothing is agreed before the MIC is verified"
    ours.answer(True)
    assert ours.result == theirs.result
    assert ours.result.hash_name == KEX[METHODS[prefix]].hash_name
    assert ours.result.host_key is None
    assert ours.result.signature == ours.result.shown == b""
    assert not any(isinstance(question, HostKeyOffered) for question in ours.asked)


def test_a_context_may_be_complete_without_a_last_token() -> None:
    theirs = server()
    theirs.hear(init_of(client()))
    theirs.answer(DONE)
    [complete] = theirs.answer(b"mic")
    assert isinstance(complete, KexGssComplete)
    assert (complete.has_token, complete.last_token) == (False, b"")
    ours = client()
    complete = completion(ours, last_token=None)
    ours.hear(KexGssContinue(b"more"))
    assert ours.answer(LAST) == [KexGssContinue(b"last")]
    ours.hear(complete)
    ours.answer(True)
    assert ours.result.host_key is None


def test_the_exchange_hash_has_an_empty_string_where_no_key_was_shown() -> None:
    ours = client()
    complete = completion(ours)
    ours.hear(complete)
    ours.answer(DONE)
    proof = ours.asked[-1]
    assert isinstance(proof, GssExchangeProof)
    assert signed(proof.digest) == complete.mic


def test_a_host_key_may_be_shown_of_which_nobody_is_asked() -> None:
    for known in (None, HOST_KEY):
        ours = client(known_key=known)
        ours.hear(KexGssHostkey(HOST_KEY.asbytes()))
        ours.hear(completion(ours, HOST_KEY.asbytes()))
        ours.answer(DONE)
        proof = ours.asked[-1]
        assert isinstance(proof, GssExchangeProof)
        ours.answer(CONTEXT.verifies(proof.digest, proof.mic))
        assert ours.result.host_key == HOST_KEY.public_key
        assert ours.result.shown == HOST_KEY.asbytes()
        assert ours.result.signature == b""


def test_a_certificate_may_be_shown() -> None:
    certificate = Certificate.issue_for_host(
        OTHER_KEY, HOST_KEY.public_key, key_id="memory", principals=["memory"], valid_before=2**32
    )
    name = certificate.algorithms[0]
    ours = client(agreed(host_key=name))
    ours.hear(KexGssHostkey(certificate.blob))
    ours.hear(completion(ours, certificate.blob))
    ours.answer(DONE)
    ours.answer(True)
    assert ours.result.host_key == HOST_KEY.public_key
    assert ours.result.certificate == certificate
    assert ours.result.shown == certificate.blob


# -- what a client refuses


@pytest.mark.parametrize("answer", [GssRefused("no ticket"), GssStep(b"", False), GssStep(b"", True), None, True])
def test_without_credentials_the_server_hears_nothing(answer: object) -> None:
    fed = Fed(gss_agree_as_client(agreed(), TRANSCRIPT, None, CONTEXT))
    with pytest.raises(SSHException, match="can't begin a key exchange") as raised:
        fed.answer(answer)
    assert not isinstance(raised.value, RemoteProtocolError), "that is not the server's fault"
    assert fed.sent == []


def test_a_second_host_key_is_refused() -> None:
    key = KexGssHostkey(HOST_KEY.asbytes())
    refused(client(), "a host key twice", key, key)


def test_a_host_key_that_was_not_agreed_on_is_refused() -> None:
    fed = client(agreed(host_key="null"))
    refused(fed, "none was agreed on", KexGssHostkey(HOST_KEY.asbytes()), completion(fed, HOST_KEY.asbytes()))


@pytest.mark.parametrize("blob", [b"", b"\xff" * 60, HOST_KEY.asbytes() + b"\0", ECDSAKey.generate().asbytes()])
def test_a_host_key_of_another_kind_is_refused(blob: bytes) -> None:
    fed = client()
    refused(fed, None, KexGssHostkey(blob), completion(fed, blob))


def test_the_host_key_cannot_change_in_a_rekey() -> None:
    fed = client(known_key=OTHER_KEY)
    error = refused(
        fed,
        "changed during the connection",
        KexGssHostkey(HOST_KEY.asbytes()),
        completion(fed, HOST_KEY.asbytes()),
    )
    assert error.reason is DisconnectReason.HOST_KEY_NOT_VERIFIABLE


def test_a_host_key_need_not_be_shown_again() -> None:
    fed = client(known_key=OTHER_KEY)
    fed.hear(completion(fed))
    fed.answer(DONE)
    fed.answer(True)
    assert fed.result.host_key is None


@pytest.mark.parametrize("answer", [False, None, 1, b"mic", GssStep(b"", True)])
def test_a_mic_that_is_not_said_to_be_right_is_wrong(answer: object) -> None:
    fed = client()
    fed.hear(completion(fed))
    fed.answer(DONE)
    answer_refused(fed, answer, "MIC of the key exchange is wrong")


@pytest.mark.parametrize(
    "step",
    [
        GssStep(b"", False, is_mutual=True),
        GssStep(b"", True, is_mutual=False),
        GssStep(b"", True, has_integrity=False, is_mutual=True),
    ],
)
def test_a_context_that_does_not_authenticate_the_server_is_refused(step: GssStep) -> None:
    """Anybody could complete it."""
    fed = client()
    fed.hear(completion(fed))
    answer_refused(fed, step, "has not authenticated it")
    assert not any(isinstance(question, GssExchangeProof) for question in fed.asked)


@pytest.mark.parametrize(
    "first",
    [
        GssStep(b"hello", False, is_mutual=True),
        GssStep(b"hello", True, is_mutual=False),
        GssStep(b"hello", True, has_integrity=False, is_mutual=True),
    ],
)
def test_a_server_cannot_skip_its_token(first: GssStep) -> None:
    fed = client(first=first)
    refused(fed, "has not authenticated it", completion(fed, last_token=None))


def test_a_token_behind_the_last_one_is_refused() -> None:
    for message in (KexGssContinue(b"more"), None):
        fed = client(first=GssStep(b"hello", True, is_mutual=True))
        error = refused(fed, "for a context that is complete", message or completion(fed))
        assert error.reason is DisconnectReason.KEY_EXCHANGE_FAILED
        assert fed.asked == [GssExchangeStep(CONTEXT, None)]


@pytest.mark.parametrize("answer", [GssRefused("it was tampered with"), None, True])
@pytest.mark.parametrize("is_last", [True, False])
def test_a_token_that_gss_api_refuses_ends_it(answer: object, is_last: bool) -> None:
    fed = client()
    fed.hear(completion(fed) if is_last else KexGssContinue(b"more"))
    answer_refused(fed, answer, "refuses the server's token")


def test_who_has_another_token_is_not_done() -> None:
    fed = client()
    fed.hear(completion(fed))
    answer_refused(fed, LAST, "another token for it")
    fed = client()
    fed.hear(KexGssContinue(b"more"))
    answer_refused(fed, DONE, "GSS-API has none for it")


@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0\4last"])
def test_bytes_behind_the_end_are_refused_where_there_is_no_token(rest: bytes) -> None:
    fed = client(first=GssStep(b"hello", True, is_mutual=True))
    refused(fed, "bytes behind the end", replaced(completion(fed, last_token=None), last_token=rest))


@pytest.mark.parametrize("rest", [b"", b"\0\0\0", b"\0\0\0\5last", b"\xff" * 8, b"\0\0\0\4last\0"])
def test_a_last_token_that_is_cut_or_followed_is_refused(rest: bytes) -> None:
    fed = client()
    refused(fed, None, replaced(completion(fed), last_token=rest))
    assert len(fed.asked) == 1


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(31), bytes(33)])
def test_a_bad_share_is_refused(share: bytes) -> None:
    fed = client()
    fed.hear(replaced(completion(fed), share=share))
    answer_refused(fed, DONE, None)


def test_tokens_have_an_end() -> None:
    fed = client()
    with pytest.raises(RemoteProtocolError, match="wants more than 16 tokens"):
        for _ in range(MAX_TOKENS + 1):
            fed.hear(KexGssContinue(b"again"))
            fed.answer(GssStep(b"and again", False))


def test_the_server_s_error_is_shown_escaped_and_not_at_length() -> None:
    error = refused(client(), "refuses", KexGssError(1, 2, "no \x1b[2Jkey\n" + "x" * 10_000, ""))
    assert r"no \x1b[2Jkey\n" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize("message", [KexGssInit(b"hello", bytes(32)), NewKeys()])
def test_a_message_that_is_not_the_server_s_is_refused(message: DeclaredMessage) -> None:
    refused(client(), "was due", message)


def _flipped(payload: bytes, offset: int) -> bytes:
    changed = bytearray(payload)
    changed[offset] ^= 1 << offset % 8
    return bytes(changed)


def _hear_a_server(offset: int) -> None:
    """A client hears a server, one bit of whose words was changed, and its context is asked."""
    fed = client()
    words = [KexGssHostkey(HOST_KEY.asbytes()).encode(), completion(fed, HOST_KEY.asbytes()).encode()]
    for index, payload in enumerate(words):
        changed = _flipped(payload, offset) if 0 <= offset < len(payload) else payload
        offset -= len(payload)
        fed.conversation.receive(changed)
        assert index or len(fed.asked) == 1
    step = fed.asked[-1]
    assert isinstance(step, GssExchangeStep)
    fed.answer(CONTEXT.taken(step.token))
    proof = fed.asked[-1]
    assert isinstance(proof, GssExchangeProof)
    fed.answer(CONTEXT.verifies(proof.digest, proof.mic))
    assert fed.results


def test_no_bit_of_what_a_server_says_can_be_changed() -> None:
    _hear_a_server(-1)
    shown = len(KexGssHostkey(HOST_KEY.asbytes()).encode())
    boolean = shown + 1 + 4 + 32 + 4 + 32
    for offset in range(boolean + 1 + 4 + len(b"last")):
        if offset == boolean:  # any number but 0 is true
            continue
        with pytest.raises(RemoteProtocolError):
            _hear_a_server(offset)


@pytest.mark.parametrize("field", ["client_version", "server_version", "client_kexinit", "server_kexinit"])
def test_what_the_two_sides_saw_must_be_the_same(field: str) -> None:
    fed = Fed(gss_agree_as_client(agreed(), attrs.evolve(TRANSCRIPT, **{field: b"changed"}), None, CONTEXT))
    fed.answer(CONTEXT.taken(None))
    complete = completion(fed)
    fed.hear(complete)
    fed.answer(DONE)
    proof = fed.asked[-1]
    assert isinstance(proof, GssExchangeProof)
    assert not CONTEXT.verifies(proof.digest, proof.mic)


# -- what a server refuses


@pytest.mark.parametrize("answer", [GssRefused("/etc/krb5.keytab can't be read"), None, True])
def test_a_client_whose_token_is_refused_is_not_told_our_secrets(answer: object) -> None:
    fed = server()
    fed.hear(init_of(client()))
    answer_refused(fed, answer, "refuses the client's token")
    [told] = fed.sent
    assert isinstance(told, KexGssError)
    assert told.text == "the token was refused"


def test_a_client_whose_token_is_refused_is_told_what_gss_api_tells() -> None:
    fed = server()
    fed.hear(init_of(client()))
    answer_refused(fed, GssRefused("clock skew", b"the time is 12:00"), "refuses the client's token")
    assert fed.sent == [KexGssContinue(b"the time is 12:00")]


@pytest.mark.parametrize(
    "step", [GssStep(b"", True, is_mutual=False), GssStep(b"", True, has_integrity=False, is_mutual=True)]
)
def test_a_client_that_wants_no_proof_is_refused_before_we_compute_anything(step: GssStep) -> None:
    fed = server()
    fed.hear(KexGssInit(b"hello", b"not even a share"))
    answer_refused(fed, step, "wants no proof of who we are")
    assert fed.sent == []


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(31), bytes(33)])
def test_a_client_s_bad_share_is_refused_and_nothing_is_signed(share: bytes) -> None:
    fed = server()
    fed.hear(KexGssInit(b"hello", share))
    answer_refused(fed, LAST, None)
    assert fed.sent == []
    assert not any(isinstance(question, GssExchangeMic) for question in fed.asked)


def test_tokens_have_an_end_for_a_server_too() -> None:
    fed = server()
    fed.hear(KexGssInit(b"hello", bytes(32)))
    with pytest.raises(RemoteProtocolError, match="more than 16 tokens"):
        for _ in range(MAX_TOKENS):
            fed.answer(GssStep(b"again", False))
            fed.hear(KexGssContinue(b"and again"))
    assert len(fed.asked) == MAX_TOKENS


@pytest.mark.parametrize(
    "message", [NewKeys(), KexGssContinue(b"x"), KexGssComplete(b"", b"", False, b""), KexGssHostkey(b"")]
)
def test_a_message_that_is_not_the_client_s_is_refused(message: DeclaredMessage) -> None:
    refused(server(), "where KexGssInit was due", message)


def test_a_second_share_is_refused() -> None:
    fed = server()
    fed.hear(KexGssInit(b"hello", bytes(32)))
    fed.answer(GssStep(b"again", False))
    refused(fed, "where KexGssContinue was due", KexGssInit(b"hello", bytes(32)))


# -- gssapi-keyex

SESSION: Final = b"\x05" * 32


def test_what_is_signed_for_the_login_is_the_rfc_s() -> None:
    """RFC 4462 s4, field by field."""
    content = Message().add_string(SESSION).add_byte(50).add_string("bob").add_string("ssh-connection")
    expected = content.add_string("gssapi-keyex").asbytes()
    assert signed_by_context(SESSION, "bob", "gssapi-keyex") == expected
    fed = Fed(keyex_as_client("bob", CONTEXT, SESSION))
    assert fed.asked == [GssMicWanted(CONTEXT, expected)]
    details = GssapiKeyexDetails(b"mic").encode()
    assert fed.answer(b"mic") == [UserauthRequest("bob", "ssh-connection", "gssapi-keyex", details)]


@pytest.mark.parametrize("reply", [UserauthSuccess(), UserauthFailure(("password",), True)])
def test_the_server_s_answer_to_a_login_is_the_answer(reply: DeclaredMessage) -> None:
    fed = Fed(keyex_as_client("bob", CONTEXT, SESSION))
    fed.answer(b"mic")
    fed.hear(reply)
    assert fed.result.is_success is isinstance(reply, UserauthSuccess)
    assert fed.result.is_partial is isinstance(reply, UserauthFailure)


def request(details: bytes) -> UserauthRequest:
    return UserauthRequest("bob", "ssh-connection", "gssapi-keyex", details)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (AuthResult.SUCCESSFUL, AuthResult.SUCCESSFUL),
        (AuthResult.PARTIALLY_SUCCESSFUL, AuthResult.PARTIALLY_SUCCESSFUL),
        (AuthResult.FAILED, AuthResult.FAILED),
        (AuthResult.PASSWORD_EXPIRED, AuthResult.FAILED),
        (True, AuthResult.FAILED),
        (None, AuthResult.FAILED),
    ],
)
def test_a_login_by_the_exchange_s_context_is_decided_about(answer: object, result: AuthResult) -> None:
    fed = Fed(keyex_as_server(request(GssapiKeyexDetails(b"mic").encode()), SESSION, CONTEXT))
    assert fed.asked == [CheckGssapiKeyex("bob", CONTEXT, signed_by_context(SESSION, "bob", "gssapi-keyex"), b"mic")]
    fed.answer(answer)
    assert fed.result is result


@pytest.mark.parametrize("details", [b"", b"\0\0\0\5mic", GssapiKeyexDetails(b"mic").encode() + b"\0"])
def test_a_login_that_is_malformed_or_without_a_context_is_refused_unasked(details: bytes) -> None:
    for fed in (
        Fed(keyex_as_server(request(details), SESSION, CONTEXT)),
        Fed(keyex_as_server(request(GssapiKeyexDetails(b"mic").encode()), SESSION, None)),
    ):
        assert fed.asked == []
        assert fed.result is AuthResult.FAILED


# -- whole connections


def _step(question: GssExchangeStep) -> object:
    assert isinstance(question.context, Context)
    return question.context.taken(question.token)


ANSWERS: Final[dict[type, Callable[[Any], object]]] = {
    **DEFAULT_ANSWERS,
    GssExchangeStep: _step,
    GssExchangeMic: lambda question: question.context.sign(question.digest),
    GssExchangeProof: lambda question: question.context.verifies(question.digest, question.mic),
}


def pair(
    client_gss: bool = True,
    server_gss: bool = True,
    *,
    algorithms: Algorithms | None = None,
    server_algorithms: Algorithms | None = None,
    answers: Mapping[type, Callable[[Any], object]] = ANSWERS,
) -> CorePair:
    plain = algorithms or Algorithms(kex=("curve25519-sha256",), host_keys=("ssh-ed25519",))
    options = Options(random_bytes=counted_bytes(), algorithms=plain)
    new_client = Context if client_gss else None
    new_server = (lambda: Context(is_client=False)) if server_gss else None
    made = CorePair(
        attrs.evolve(options, new_gss_context=new_client),
        attrs.evolve(options, host_keys=(HOST_KEY,), algorithms=server_algorithms or plain, new_gss_context=new_server),
    )
    for side in (made.client, made.server):
        side.answers.update(answers)
    return made


def asked(side: CoreSide, kind: type) -> int:
    return sum(isinstance(getattr(event, "question", None), kind) for event in side.events)


WITHOUT_KEY: Final = Algorithms(kex=("curve25519-sha256",), host_keys=())


@pytest.mark.parametrize("has_key", [True, False])
def test_a_pair_logs_in_and_changes_keys_by_either_side(has_key: bool) -> None:
    both = pair(server_algorithms=None if has_key else WITHOUT_KEY)
    both.log_in()
    first = both.client.connection.keying.gss_context
    for number, side in enumerate((both.client, both.server, both.client)):
        side.record(side.connection.start_exchange())
        both.pump()
        both.check()
        assert len(both.client.of(ExchangeFinished)) == len(both.server.of(ExchangeFinished)) == number + 2
    for side in (both.client, both.server):
        keying = side.connection.keying
        assert {event.negotiated.kex for event in side.of(ExchangeFinished)} == {METHOD}
        assert keying.host_key is None, "there may be one, and it isn't shown"
        assert keying.host_key_shown == keying.session_signature == b""
    assert both.client.connection.keying.gss_context is first is not None
    assert asked(both.client, HostKeyOffered) == asked(both.server, SignatureWanted) == 0
    assert asked(both.client, GssExchangeProof) == asked(both.server, GssExchangeMic) == 4


@pytest.mark.parametrize(("client_gss", "server_gss"), [(True, False), (False, True)])
def test_who_meets_one_without_it_goes_on_as_ever(client_gss: bool, server_gss: bool) -> None:
    both = pair(client_gss, server_gss)
    both.log_in()
    for side in (both.client, both.server):
        assert side.connection.keying.gss_context is None
        assert side.connection.keying.session_signature
        assert asked(side, GssExchangeQuestion) == 0
    assert asked(both.client, HostKeyOffered) == 1


def kex_of(side: CoreSide) -> tuple[str, ...]:
    """What a side offers in its next exchange."""
    side.record(side.connection.start_exchange())
    ours = KexInit.from_payload(side.connection.keying._our_payload)
    return ours.kex_algorithms + ours.server_host_key_algorithms


def test_a_client_offers_nothing_from_its_second_exchange_on_by_which_another_could_slip_in() -> None:
    both = pair()
    both.log_in()
    assert kex_of(both.client) == (METHOD, "ssh-ed25519", "null")
    both = pair(server_gss=False)
    both.log_in()
    assert kex_of(both.client) == ("curve25519-sha256", "ssh-ed25519")


def test_a_server_without_keys_meets_no_client_without_gss_api() -> None:
    both = pair(client_gss=False, server_algorithms=WITHOUT_KEY)
    both.pump()
    for side in (both.client, both.server):
        assert isinstance(side.connection.failure, SSHException)
        assert side.of(ExchangeFinished) == []


@pytest.mark.parametrize(
    ("role", "kind", "answer"),
    [
        (Role.CLIENT, GssExchangeProof, lambda question: False),
        (Role.CLIENT, GssExchangeStep, lambda question: GssRefused("no")),
        (Role.SERVER, GssExchangeStep, lambda question: GssRefused("no")),
        (Role.SERVER, GssExchangeMic, lambda question: b"nonsense"),
    ],
)
@pytest.mark.parametrize("is_rekey", [True, False])
def test_whatever_is_wrong_ends_both(role: Role, kind: type, answer: Callable[[Any], object], is_rekey: bool) -> None:
    both = pair()
    if is_rekey:
        both.log_in()
    side = both.client if role is Role.CLIENT else both.server
    side.answers[kind] = answer
    before = len(both.client.of(ExchangeFinished))
    if is_rekey:
        both.client.record(both.client.connection.start_exchange())
    both.pump()
    for each in (both.client, both.server):
        assert each.connection.phase is Phase.CLOSED
        assert isinstance(each.connection.failure, SSHException)
    assert len(both.client.of(ExchangeFinished)) == before


class _Edited:
    """A man in the middle who replaces some bytes by as many others, as often as they pass."""

    def __init__(self, old: bytes, new: bytes) -> None:
        assert len(old) == len(new), "a packet keeps its length"
        self.old, self.new = old, new

    def __call__(self, data: bytes) -> bytes:
        return data.replace(self.old, self.new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (METHOD.encode(), METHOD.encode()[:-1] + b"x"),
        (b"null", b"nulx"),
        (b"hello", b"hallo"),
        (b"kex-strict-s-v00", b"kex-string-s-v00"),
        (b"kex-strict-c-v00", b"kex-string-c-v00"),
    ],
)
@pytest.mark.parametrize("direction", ["to_client", "to_server"])
def test_what_passes_cannot_be_changed_on_its_way(old: bytes, new: bytes, direction: str) -> None:
    both = pair(server_algorithms=WITHOUT_KEY if old == b"null" else None)
    edited = _Edited(old, new)
    setattr(both, direction, edited)
    seen: list[bytes] = []

    def tamper(data: bytes) -> bytes:
        seen.append(data)
        return edited(data)

    setattr(both, direction, tamper)
    both.pump()
    if old not in b"".join(seen):
        both.check()
        return
    if old == METHOD.encode():  # they go on without it, and the host's signature, or theirs, finds the change
        assert asked(both.client, HostKeyOffered) == 0
    assert both.client.of(ExchangeFinished) == []
    for side in (both.client, both.server):
        assert isinstance(side.connection.failure, SSHException)


def test_a_null_host_key_is_for_gss_api_alone() -> None:
    both = pair(server_gss=False, server_algorithms=Algorithms(kex=("curve25519-sha256",), host_keys=("ssh-ed25519",)))
    both.to_client = _Edited(b"\0\0\0\x0bssh-ed25519", b"\0\0\0\x0bnull,null,1")
    both.pump()
    assert isinstance(both.client.connection.failure, IncompatiblePeer)
    assert asked(both.client, HostKeyOffered) == 0
