from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, strategies

from tests.keys.samples import flips, string
from tests.keys.tokens import ORIGIN, Token, token
from trio_ssh.errors import AgentException, KeyFileException, RemoteProtocolError
from trio_ssh.keys import agent_protocol
from trio_ssh.keys.agent_constraints import NO_CONSTRAINTS
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key
from trio_ssh.keys.security_key import (
    ECDSA,
    ED25519,
    WEBAUTHN,
    SecurityKey,
    SecurityKeyDetails,
    SecurityPublicKey,
)

TYPES: Final = [ED25519, ECDSA]
TOKENS: Final = {key_type: token(key_type) for key_type in TYPES}


@pytest.fixture(params=TYPES)
def signer(request: pytest.FixtureRequest) -> Token:
    return TOKENS[request.param]


def test_a_signature_of_a_touched_token_is_right(signer: Token) -> None:
    public = parse_public_key(signer.public_key.blob)
    assert isinstance(public, SecurityPublicKey)
    assert (public, public.application, public.bits) == (signer.public_key, "ssh:", 256)
    signature = signer.sign(b"data")
    public.verify(b"data", signature, public.key_type)
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        public.verify(b"other data", signature, public.key_type)
    signer.key.verify(b"data", signature)


def test_no_bit_of_a_signature_is_without_meaning(signer: Token) -> None:
    signature = signer.sign(b"data")
    public = signer.public_key
    damaged = [*flips(signature), *(signature[:length] for length in range(len(signature))), signature + b"\0"]
    for wrong in damaged:
        with pytest.raises(RemoteProtocolError):
            public.verify_details(b"data", wrong, public.key_type, require_presence=False)


def test_a_token_must_have_been_touched_unless_the_caller_says_otherwise(signer: Token) -> None:
    public = signer.public_key
    untouched = signer.sign(b"data", flags=0)
    with pytest.raises(RemoteProtocolError, match="without a touch of the token"):
        public.verify(b"data", untouched, public.key_type)
    details = public.verify_details(b"data", untouched, public.key_type, require_presence=False)
    assert not details.user_present


def test_a_pin_can_be_asked_for(signer: Token) -> None:
    public = signer.public_key
    touched, verified = signer.sign(b"data", flags=1), signer.sign(b"data", flags=5)
    with pytest.raises(RemoteProtocolError, match="without a PIN or a finger"):
        public.verify_details(b"data", touched, public.key_type, require_verification=True)
    details = public.verify_details(b"data", verified, public.key_type, require_verification=True)
    assert details.user_present
    assert details.user_verified


def test_what_the_token_said_is_returned(signer: Token) -> None:
    public = signer.public_key
    first = public.verify_details(b"data", signer.sign(b"data", flags=1), public.key_type)
    second = public.verify_details(b"data", signer.sign(b"data", flags=5), public.key_type)
    assert (first.flags, second.flags, first.origin) == (1, 5, "")
    assert second.counter == first.counter + 1


def test_a_key_is_for_its_application_only() -> None:
    ours, theirs = token(ED25519), token(ED25519, "ssh:other")
    assert ours.public_key != theirs.public_key
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        ours.public_key.verify(b"data", theirs.sign(b"data"), ED25519)


@pytest.mark.parametrize("application", ["", "ssh:Grüße \udcff", "x" * 1024])
def test_an_application_survives(application: str) -> None:
    public = SecurityPublicKey(TOKENS[ED25519].public_key._key, application)
    again = parse_public_key(public.blob)
    assert isinstance(again, SecurityPublicKey)
    assert again.application == application


@pytest.mark.parametrize("application", ["a\0b", "x" * 1025])
def test_an_application_that_is_none_is_refused(application: str) -> None:
    for signer in TOKENS.values():
        with pytest.raises(ValueError, match="at most 1024 bytes, and no NUL"):
            SecurityPublicKey(signer.public_key._key, application)
        blob = signer.public_key.blob[:-8] + string(application.encode())
        with pytest.raises(RemoteProtocolError, match="at most 1024 bytes, and no NUL"):
            parse_public_key(blob)


def test_a_security_key_is_on_one_curve() -> None:
    other = ECDSAKey.generate("nistp384").public_key
    with pytest.raises(
        ValueError, match="sign with ssh-ed25519 and ecdsa-sha2-nistp256 keys, not with ecdsa-sha2-nistp384"
    ):
        SecurityPublicKey(other)
    point = other.blob[-97:]
    for curve in (b"nistp384", b"nistp256"):
        with pytest.raises(RemoteProtocolError):
            parse_public_key(string(ECDSA.encode()) + string(curve) + string(point) + string(b"ssh:"))


def test_a_blob_cut_at_any_byte_or_longer_is_refused(signer: Token) -> None:
    blob = signer.public_key.blob
    for length in range(len(blob)):
        with pytest.raises(RemoteProtocolError):
            parse_public_key(blob[:length])
    with pytest.raises(RemoteProtocolError):
        parse_public_key(blob + b"\0")


@given(strategies.binary(max_size=200))
def test_any_signature_is_survived(data: bytes) -> None:
    for signer in TOKENS.values():
        for algorithm in signer.public_key.algorithms:
            with pytest.raises(RemoteProtocolError):
                signer.public_key.verify(b"data", string(algorithm.encode()) + data, algorithm)


# -- made by a browser


BROWSER: Final = TOKENS[ECDSA]


def test_a_signature_by_a_browser_is_right_where_it_was_agreed_on() -> None:
    public = BROWSER.public_key
    signature = BROWSER.sign_webauthn(b"data\xff\xfe\xfb", flags=5)
    details = public.verify_details(b"data\xff\xfe\xfb", signature, WEBAUTHN)
    assert details == SecurityKeyDetails(5, details.counter, ORIGIN.decode())
    public.verify(b"data\xff\xfe\xfb", signature, WEBAUTHN)
    with pytest.raises(RemoteProtocolError, match="not of the agreed algorithm"):
        public.verify(b"data\xff\xfe\xfb", signature, ECDSA)
    with pytest.raises(RemoteProtocolError, match="can't sign with webauthn"):
        TOKENS[ED25519].public_key.verify(b"data", signature, WEBAUTHN)


def test_extensions_are_signed_too() -> None:
    public = BROWSER.public_key
    signature = BROWSER.sign_webauthn(b"data", flags=0x81, extensions=b"\xa0")
    public.verify(b"data", signature, WEBAUTHN)
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        public.verify(b"data", signature[:-1] + b"\xa1", WEBAUTHN)


@pytest.mark.parametrize(
    ("signature", "complaint"),
    [
        (BROWSER.sign_webauthn(b"other data"), "over other data"),
        (BROWSER.sign_webauthn(b"data", kind=b"webauthn.create"), "over other data"),
        (BROWSER.sign_webauthn(b"data", shown_origin=b"https://evil.com"), "over other data"),
        (BROWSER.sign_webauthn(b"data", origin=b'x"y'), "no origin"),
        (BROWSER.sign_webauthn(b"data", origin=b"x\0y"), "no origin"),
        (BROWSER.sign_webauthn(b"data", flags=0x41), "flags don't fit"),
        (BROWSER.sign_webauthn(b"data", flags=0x81), "flags don't fit"),
        (BROWSER.sign_webauthn(b"data", flags=0x01, extensions=b"\xa0"), "flags don't fit"),
        (BROWSER.sign_webauthn(b"data", flags=0), "without a touch"),
        (BROWSER.sign_webauthn(b"data") + b"\0", "too many"),
    ],
)
def test_a_browser_s_signature_that_is_not_about_the_data_is_wrong(signature: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        BROWSER.public_key.verify(b"data", signature, WEBAUTHN)


def test_no_bit_of_a_browser_s_signature_is_without_meaning() -> None:
    signature = BROWSER.sign_webauthn(b"data")
    for wrong in [*flips(signature), *(signature[:length] for length in range(len(signature)))]:
        with pytest.raises(RemoteProtocolError):
            BROWSER.public_key.verify_details(b"data", wrong, WEBAUTHN, require_presence=False)


# -- the private half


def test_a_security_key_does_not_sign_here_and_says_who_does(signer: Token) -> None:
    assert not signer.key.can_sign()
    for algorithm in (None, signer.key.key_type, "ssh-rsa"):
        with pytest.raises(AgentException, match=r"lives in a token, and only an agent .*`ssh-add`"):
            signer.key.sign(b"data", algorithm)


@pytest.mark.parametrize("passphrase", [None, "passphrase"])
def test_what_is_written_can_be_read(signer: Token, passphrase: str | None) -> None:
    key = SecurityKey(signer.public_key, b"handle\0", 0x25, "me", reserved=b"?")
    again = PKey.from_bytes(key.to_openssh(passphrase, rounds=1), passphrase)
    assert isinstance(again, SecurityKey)
    assert again == key
    assert (again.application, again.flags, again.key_handle, again.comment) == ("ssh:", 0x25, b"handle\0", "me")
    assert again._private_fields() == key._private_fields()
    for write in (key.to_pem, key.to_pkcs8):
        with pytest.raises(ValueError, match="only be written in OpenSSH's format"):
            write(passphrase)


def test_a_repr_shows_no_handle(signer: Token) -> None:
    assert repr(signer.key) == f"<SecurityKey {signer.key.key_type} {signer.key.fingerprint}>"


def test_fields_cut_at_any_byte_are_no_key(signer: Token) -> None:
    fields = signer.key._private_fields() + string(b"")
    for length in range(len(fields)):
        data = seal(PrivatePart(signer.key.key_type, fields[:length], signer.public_key.blob), None)
        with pytest.raises(KeyFileException):
            PKey.from_bytes(data)


def test_a_handle_for_another_key_is_no_key() -> None:
    fields = token(ECDSA).key._private_fields() + string(b"")
    with pytest.raises(KeyFileException, match="belongs to another private key"):
        PKey.from_bytes(seal(PrivatePart(ECDSA, fields, BROWSER.public_key.blob), None))


def test_an_agent_is_told_what_signs_for_a_token() -> None:
    """As ssh-add tells it: without, it takes the key and can't sign with it."""
    added = agent_protocol.write_added(Token(Ed25519Key.generate()).key, "", NO_CONSTRAINTS)
    assert added.fields.endswith(b"\xff" + string(b"sk-provider@openssh.com") + string(b"internal"))
