from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, strategies

from tests.keys.samples import ONE_OF_EACH, flips, load, string
from trio_ssh.errors import CertificateException, KeyFileException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys.authorized_keys import AuthorizedKeys
from trio_ssh.keys.certificate import Certificate, shown_time
from trio_ssh.keys.certification import (
    KEY_FIELDS,
    MAX_OPTIONS,
    MAX_PRINCIPALS,
    CertificatePermissions,
    certificate_name,
    is_certificate_type,
)
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.dsa import DSSKey
from trio_ssh.keys.ed25519 import Ed25519Key, Ed25519PublicKey
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.keys.mldsa import MLDSA44Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, decode_public_key, parse_public_key
from trio_ssh.keys.security_key import SecurityPublicKey
from trio_ssh.wire.message import Message

AUTHORITY: Final = Ed25519Key(bytes(range(32)))
KEY: Final = load("ecdsa256.openssh")
NOW: Final = 1_700_000_000
DAY: Final = 86_400


def for_user(key: PublicKey = KEY.public_key, **changed: Any) -> Certificate:
    arguments: dict[str, Any] = {"key_id": "alice's laptop", "principals": ["alice", "al"], "valid_before": NOW + DAY}
    return Certificate.issue_for_user(AUTHORITY, key, **(arguments | changed))


def for_host(**changed: Any) -> Certificate:
    arguments: dict[str, Any] = {"key_id": "web", "principals": ["web.example", "*.web.example"]}
    return Certificate.issue_for_host(AUTHORITY, KEY.public_key, **(arguments | {"valid_before": NOW + DAY} | changed))


def check(certificate: Certificate, username: str | list[str] = "alice", **changed: Any) -> None:
    arguments: dict[str, Any] = {"authorities": [AUTHORITY.public_key], "now": NOW}
    certificate.check_for_user(username, **(arguments | changed))


def check_host(certificate: Certificate, hostname: str = "web.example", **changed: Any) -> None:
    arguments: dict[str, Any] = {"authorities": [AUTHORITY.public_key], "now": NOW}
    certificate.check_for_host(hostname, **(arguments | changed))


def options(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(string(name) + string(data) for name, data in pairs)


def made(
    *,
    authority: PKey = AUTHORITY,
    key_type: bytes = b"ecdsa-sha2-nistp256-cert-v01@openssh.com",
    kind: int = 1,
    key_id: bytes = b"id",
    principals: bytes = string(b"alice"),
    critical: bytes = b"",
    extensions: bytes = b"",
    reserved: bytes = b"",
    signer: bytes | None = None,
    behind: bytes = b"",
    algorithm: str | None = None,
) -> bytes:
    """A certificate as an authority might make it that is not ours, rightly signed whatever it says."""
    fields = KEY.public_key.blob[4 + len(KEY.key_type) :]
    message = Message().add_string(key_type).add_string(b"nonce").add_bytes(fields).add_int64(1).add_int(kind)
    message.add_string(key_id).add_string(principals).add_int64(0).add_int64(NOW + DAY).add_string(critical)
    message.add_string(extensions).add_string(reserved)
    message.add_string(authority.public_key.blob if signer is None else signer)
    return message.add_string(authority.sign(message.asbytes(), algorithm)).asbytes() + behind


# -- what it is


@pytest.mark.parametrize("authority", ONE_OF_EACH)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_any_key_certifies_any_other(name: str, authority: str) -> None:
    key, signer = load(name), load(authority)
    certificate = Certificate.issue_for_user(signer, key.public_key, key_id="", principals=["a"], valid_before=NOW)
    again = Certificate.from_blob(certificate.blob)
    again.check_for_user("a", authorities=[signer.public_key], now=0)
    assert again == certificate
    assert (again.public_key, again.authority) == (key.public_key, signer.public_key)
    assert again.key_type == certificate_name(key.key_type)
    assert again.signature_algorithm == signer.algorithms[0]
    assert again.algorithms == tuple(map(certificate_name, key.algorithms))


def test_every_field_survives() -> None:
    certificate = for_user(
        serial=2**64 - 1,
        valid_after=NOW - DAY,
        force_command="ls -l",
        source_addresses=["10.0.0.0/8", "2001:db8::1"],
        verify_required=True,
        permissions=CertificatePermissions(pty=False, no_touch_required=True),
        critical_options={"strict@example.com": "yes"},
        extensions={"login@example.com": "alice", "flag@example.com": None},
    )
    assert certificate.kind == "user"
    assert certificate.serial == 2**64 - 1
    assert certificate.key_id == "alice's laptop"
    assert certificate.principals == ("alice", "al")
    assert (certificate.valid_after, certificate.valid_before) == (NOW - DAY, NOW + DAY)
    assert certificate.force_command == "ls -l"
    assert certificate.source_addresses == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1/128"))
    assert certificate.verify_required
    assert certificate.permissions == CertificatePermissions(pty=False, no_touch_required=True)
    assert list(certificate.critical_options) == sorted(certificate.critical_options)
    assert certificate.critical_options["strict@example.com"] == string(b"yes")
    assert certificate.extensions["login@example.com"] == string(b"alice")
    assert certificate.extensions["flag@example.com"] == b""
    assert list(certificate.extensions) == sorted(certificate.extensions)


def test_what_is_not_asked_for_is_what_ssh_keygen_gives() -> None:
    certificate = for_user()
    assert certificate.permissions == CertificatePermissions()
    assert dict(certificate.critical_options) == {}
    assert (certificate.serial, certificate.valid_after) == (0, 0)
    assert (certificate.force_command, certificate.source_addresses) == (None, None)


def test_a_hosts_certificate_grants_nothing() -> None:
    certificate = for_host(extensions={"note@example.com": "rack 4"})
    assert certificate.kind == "host"
    assert certificate.permissions == CertificatePermissions(
        x11_forwarding=False, agent_forwarding=False, port_forwarding=False, pty=False, user_rc=False
    )
    assert dict(certificate.extensions) == {"note@example.com": string(b"rack 4")}


def test_two_certificates_of_one_key_are_two() -> None:
    first, second = for_user(), for_user()
    assert first != second
    assert len({first, second, Certificate.from_blob(first.blob)}) == 2


def test_it_is_not_its_key_wherever_keys_are_compared() -> None:
    certificate: Any = for_user()
    assert certificate != KEY.public_key
    assert KEY.public_key != certificate
    assert certificate not in {KEY.public_key: None}
    assert certificate not in (KEY.public_key, AUTHORITY.public_key)
    assert not isinstance(certificate, PublicKey)
    assert AuthorizedKeys.from_text(KEY.public_key.to_openssh()).lookup(certificate) is None
    known = HostKeys()
    known.add("web.example", None, KEY.public_key)
    with pytest.raises(TypeError, match="a key is wanted here, not Certificate"):
        known.check("web.example", certificate)


def test_where_a_key_is_read_a_certificate_is_none() -> None:
    certificate = for_user()
    with pytest.raises(RemoteProtocolError, match="unknown type"):
        parse_public_key(certificate.blob)
    with pytest.raises(KeyFileException):
        decode_public_key(*certificate.to_openssh().split())


def test_the_repr_says_whose_it_is_without_letting_it_speak_to_the_terminal() -> None:
    shown = repr(for_user(key_id="\x1b[31m", serial=5))
    assert shown == rf"<user certificate '\x1b[31m' serial 5 of {KEY.key_type} {KEY.fingerprint}>"


@pytest.mark.parametrize("key_type", KEY_FIELDS)
def test_the_types_of_certificates_are_those_of_keys(key_type: str) -> None:
    assert is_certificate_type(certificate_name(key_type))
    assert not is_certificate_type(key_type)


@pytest.mark.parametrize("key_type", ["", "ssh-rsa", "x-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com"])
def test_others_are_none(key_type: str) -> None:
    assert not is_certificate_type(key_type)


# -- keys of all kinds


def test_a_dsa_key_can_be_certified_but_certifies_nothing() -> None:
    key = DSSKey.generate()
    certificate = for_user(key.public_key)
    assert certificate.algorithms == ()
    assert certificate.legacy_algorithms == ("ssh-dss-cert-v01@openssh.com",)
    with pytest.raises(ValueError, match="is not believed"):
        Certificate.issue_for_user(key, KEY.public_key, key_id="", principals=["a"], valid_before=1)
    with pytest.raises(LocalProtocolError, match="signs with"):
        CertifiedKey(key, certificate).sign(b"data")


def test_a_post_quantum_key_can_be_certified() -> None:
    key = MLDSA44Ed25519Key.generate()
    certificate = for_user(key.public_key)
    assert certificate.key_type == "ssh-mldsa44-ed25519-cert-v01@openssh.com"
    certificate.verify(b"data", key.sign(b"data"), certificate.algorithms[0])


def token_signature(flags: int, data: bytes) -> bytes:
    """What a token with `AUTHORITY`'s key answers (OpenSSH PROTOCOL.u2f)."""
    answered = bytes((flags,)) + bytes(4)
    signed = hashlib.sha256(b"ssh:").digest() + answered + hashlib.sha256(data).digest()
    raw = AUTHORITY.sign(signed)[4 + len("ssh-ed25519") + 4 :]
    return string(b"sk-ssh-ed25519@openssh.com") + string(raw) + answered


def token_key() -> SecurityPublicKey:
    key = AUTHORITY.public_key
    assert isinstance(key, Ed25519PublicKey)
    return SecurityPublicKey(key)


@pytest.mark.parametrize(
    ("flags", "asked", "heeded", "is_right"),
    [
        (0x01, {}, False, True),
        (0x00, {}, False, False),
        (0x00, {"permissions": CertificatePermissions(no_touch_required=True)}, False, False),
        (0x00, {"permissions": CertificatePermissions(no_touch_required=True)}, True, True),
        (0x00, {}, True, False),
        (0x01, {"verify_required": True}, False, False),
        (0x05, {"verify_required": True}, False, True),
        (0x04, {"verify_required": True}, False, False),
    ],
)
def test_a_token_is_held_to_what_its_certificate_wants(
    flags: int, asked: dict[str, Any], heeded: bool, is_right: bool
) -> None:
    certificate = for_user(token_key(), **asked)
    assert certificate.algorithms == ("sk-ssh-ed25519-cert-v01@openssh.com",)
    signature = token_signature(flags, b"data")
    if is_right:
        certificate.verify(b"data", signature, certificate.algorithms[0], allow_untouched=heeded)
    else:
        with pytest.raises(RemoteProtocolError, match="made without"):
            certificate.verify(b"data", signature, certificate.algorithms[0], allow_untouched=heeded)


def test_a_certificate_that_wants_its_user_verified_is_no_use_to_a_key_that_cannot() -> None:
    certificate = for_user(verify_required=True)
    with pytest.raises(RemoteProtocolError, match="wants a security key"):
        certificate.verify(b"data", KEY.sign(b"data"), certificate.algorithms[0])


def test_the_algorithms_of_a_browsers_token_have_their_names() -> None:
    assert certificate_name("webauthn-sk-ecdsa-sha2-nistp256@openssh.com") == (
        "webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com"
    )


# -- bytes that are no certificate


def test_a_certificate_cut_at_any_byte_or_with_one_too_many_is_refused() -> None:
    blob = for_user(source_addresses=["10.0.0.0/8"]).blob
    for damaged in [*(blob[:length] for length in range(len(blob))), blob + b"\0"]:
        with pytest.raises(RemoteProtocolError):
            Certificate.from_blob(damaged)


def test_no_bit_of_a_certificate_is_without_meaning() -> None:
    for damaged in flips(for_user().blob):
        with pytest.raises(RemoteProtocolError):
            Certificate.from_blob(damaged)


@given(strategies.binary(max_size=300), strategies.binary(max_size=100), strategies.binary(max_size=100))
def test_any_lists_are_read_or_refused(principals: bytes, critical: bytes, extensions: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        Certificate.from_blob(made(principals=principals, critical=critical, extensions=extensions))


@given(strategies.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Certificate.from_blob(string(b"ssh-ed25519-cert-v01@openssh.com") + data)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"key_type": b"ssh-ed25519-cert-v01@openssh.com"}, "instead of 32"),
        ({"key_type": b"ecdsa-sha2-nistp256"}, "unknown type 'ecdsa-sha2-nistp256'"),
        ({"key_type": b"rsa-sha2-512-cert-v01@openssh.com"}, "unknown type"),
        ({"key_type": b"ecdsa-sha2-nistp256-cert-v00@openssh.com"}, "unknown type"),
        ({"kind": 0}, "unknown kind 0"),
        ({"kind": 3}, "unknown kind 3"),
        ({"key_id": b"a\0b"}, "key id has a NUL"),
        ({"principals": string(b"alice\0")}, "a name with a NUL"),
        ({"principals": string(b"alice") + b"\0"}, "ends inside"),
        ({"principals": string(b"a") * (MAX_PRINCIPALS + 1)}, "more than 256 principals"),
        ({"critical": options((b"a", b""), (b"a", b""))}, "'a' twice among its critical options"),
        ({"extensions": options((b"a", b""), (b"a", b""))}, "'a' twice among its extensions"),
        ({"critical": string(b"a")}, "ends inside"),
        ({"critical": options(*((b"%d" % n, b"") for n in range(MAX_OPTIONS + 1)))}, "more than 256 critical options"),
        ({"extensions": options(*((b"%d" % n, b"") for n in range(MAX_OPTIONS + 1)))}, "more than 256 extensions"),
        ({"critical": options((b"force-command", b"ls"))}, "ends inside"),
        ({"critical": options((b"force-command", string(b"ls") + b"x"))}, "force-command is not one string"),
        ({"critical": options((b"force-command", string(b"l\0s")))}, "force-command is not one string"),
        ({"critical": options((b"verify-required", b"x"))}, "verify-required has data"),
        ({"critical": options((b"source-address", string(b"")))}, "no network"),
        ({"critical": options((b"source-address", string(b"example.com")))}, "'example.com' is no network"),
        ({"critical": options((b"source-address", string(b"10.0.0.1/8")))}, "no network"),
        ({"critical": options((b"source-address", string(b"10.0.0.0/255.0.0.0")))}, "no network"),
        ({"critical": options((b"source-address", string(b"!10.0.0.0/8")))}, "no network"),
        ({"critical": options((b"source-address", string(b"fe80::1%eth0")))}, "no network"),
        ({"critical": options((b"source-address", string(b"1.1.1.1," * 256 + b"1.1.1.1")))}, "more than 256 networks"),
        ({"extensions": options((b"permit-pty", b"x"))}, "permit-pty has data"),
        ({"signer": for_user().blob}, "signed by a certificate"),
        ({"signer": KEY.public_key.blob}, "can't sign with ssh-ed25519"),
        ({"signer": Ed25519Key(bytes(32)).public_key.blob}, "is wrong"),
        ({"signer": string(b"ssh-none")}, "unknown type 'ssh-none'"),
        ({"authority": load("rsa1024.openssh")}, "1024 bits"),
        ({"behind": b"\0"}, "1 bytes too many"),
    ],
    ids=lambda each: each if isinstance(each, str) else "-".join(each),
)
def test_what_an_authority_signed_is_refused_all_the_same(damage: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        Certificate.from_blob(made(**damage))


def test_as_many_names_and_options_as_allowed_are_read() -> None:
    many = options(*((b"%d" % number, b"") for number in range(MAX_OPTIONS)))
    certificate = Certificate.from_blob(
        made(principals=string(b"a") * MAX_PRINCIPALS, critical=many, extensions=many, reserved=b"later")
    )
    assert len(certificate.principals) == MAX_PRINCIPALS
    assert len(certificate.critical_options) == len(certificate.extensions) == MAX_OPTIONS


def test_options_that_are_not_in_order_are_read() -> None:
    certificate = Certificate.from_blob(made(extensions=options((b"permit-pty", b""), (b"a@b", b""))))
    assert certificate.permissions.pty


def test_short_rsa_keys_are_read_by_who_asks_for_them() -> None:
    blob = made(authority=load("rsa1024.openssh"))
    assert Certificate.from_blob(blob, minimum_rsa_bits=1024).authority.bits == 1024


# -- letting a user in


def test_a_certificate_lets_its_user_in() -> None:
    check(for_user())
    check(for_user(), "al")
    check(for_user(), ["root", "al"])
    check(for_user(), authorities={AUTHORITY.public_key, KEY.public_key})
    check(for_user(extensions={"unheard-of@example.com": "x"}))
    check(for_user(force_command="ls", verify_required=True))


@pytest.mark.parametrize(
    ("certificate", "changed", "complaint"),
    [
        (for_user, {"username": "bob"}, r"is not for bob, but for alice, al\. Have"),
        (for_user, {"username": "Alice"}, "is not for Alice"),
        (for_user, {"username": "alic"}, "is not for alic"),
        (for_user, {"username": []}, "is not for nobody"),
        (for_user, {"username": ["bob", "carol"]}, "is not for bob or carol"),
        (for_user, {"authorities": []}, "is by <ssh-ed25519 SHA256:.*>, which is no authority here"),
        (for_user, {"authorities": [KEY.public_key]}, "no authority here"),
        (for_user, {"now": NOW + DAY}, r"expired at 2023-11-15T22:13:20Z\. Have a new one issued"),
        (lambda: for_user(valid_after=NOW), {"now": NOW - 1}, r"not valid before 2023-11-14T22:13:20Z; it is .*19Z"),
        (lambda: for_user(principals=["*"]), {}, "is not for alice"),
        (for_host, {"username": "web.example"}, "is a host's, not a user's"),
        (
            lambda: for_user(critical_options={"new@example.com": None}),
            {},
            "option 'new@example.com', which is unknown",
        ),
        (lambda: for_user(critical_options={"\x1b[2J": None}), {}, r"option '\\x1b\[2J'"),
        (for_user, {"authority_algorithms": ["rsa-sha2-512"]}, "signed with ssh-ed25519, which is not accepted"),
        (lambda: for_user(source_addresses=["10.0.0.0/8"]), {}, "where the login comes from is not known"),
        (
            lambda: for_user(source_addresses=["10.0.0.0/8"]),
            {"address": "11.0.0.1"},
            r"only from 10\.0\.0\.0/8, and not from 11\.0\.0\.1",
        ),
        (lambda: for_user(source_addresses=["10.0.0.0/8"]), {"address": "localhost"}, "'localhost' is none"),
        (lambda: for_user(source_addresses=["10.0.0.0/8"]), {"address": "::1"}, "not from ::1"),
        (lambda: Certificate.from_blob(made(principals=b"")), {}, "but for no name at all"),
    ],
)
def test_a_certificate_lets_in_nobody_else(
    certificate: Callable[[], Certificate], changed: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CertificateException, match=complaint) as caught:
        check(certificate(), **({"username": "alice"} | changed))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5", "fe80::1%eth0"])
def test_a_login_from_where_it_may_come_is_let_in(address: str) -> None:
    check(for_user(source_addresses=["10.0.0.0/8", "2001:db8::/64", "fe80::1"]), address=address)


def test_a_certificate_that_never_expires_is_good_at_any_time() -> None:
    certificate = for_user(valid_before=Certificate.FOREVER)
    check(certificate, now=0)
    check(certificate, now=2.0**63)


def test_a_certificate_is_good_from_its_first_second_on() -> None:
    check(for_user(valid_after=NOW))
    check(for_user(), now=NOW + DAY - 0.001)


def test_a_certificate_for_no_name_is_for_all_only_to_who_says_so() -> None:
    certificate = Certificate.from_blob(made(principals=b""))
    check(certificate, "anybody", allow_any_principal=True)
    with pytest.raises(CertificateException):
        check(for_user(), "anybody", allow_any_principal=True)


def test_an_authority_that_signs_with_sha_1_is_not_believed() -> None:
    authority = load("rsa2048.openssh")
    certificate = Certificate.from_blob(made(authority=authority, algorithm="ssh-rsa"))
    arguments: dict[str, Any] = {"authorities": [authority.public_key], "now": NOW}
    with pytest.raises(CertificateException, match="signed with ssh-rsa, which is not accepted"):
        certificate.check_for_user("alice", **arguments)
    certificate.check_for_user("alice", authority_algorithms=["ssh-rsa"], **arguments)


def test_who_signs_data_is_asked_for_no_address() -> None:
    certificate = for_user(source_addresses=["10.0.0.0/8"], force_command="ls")
    certificate.check_for_signer("alice", authorities=[AUTHORITY.public_key], now=NOW)
    with pytest.raises(CertificateException, match="expired"):
        certificate.check_for_signer("alice", authorities=[AUTHORITY.public_key], now=NOW + DAY)


# -- believing a host


@pytest.mark.parametrize("hostname", ["web.example", "WEB.example", "a.web.example", "a.b.web.example"])
def test_a_certificate_shows_its_host(hostname: str) -> None:
    check_host(for_host(), hostname)


@pytest.mark.parametrize(
    ("certificate", "changed", "complaint"),
    [
        (for_host, {"hostname": "other.example"}, r"is not for other.example, but for web.example, \*.web.example"),
        (for_host, {"hostname": "xweb.example"}, "is not for xweb.example"),
        (lambda: for_host(principals=["WEB.example"]), {}, "is not for web.example"),
        (lambda: for_host(principals=["!*"]), {}, "is not for web.example"),
        (for_host, {"authorities": []}, "no authority here"),
        (for_host, {"now": NOW + DAY}, "expired at"),
        (lambda: for_host(valid_after=NOW + 1), {}, "not valid before"),
        (for_user, {"hostname": "alice"}, "is a user's, not a host's"),
        (for_host, {"authority_algorithms": []}, "not accepted"),
        (
            lambda: Certificate.from_blob(
                made(kind=2, principals=string(b"*"), critical=options((b"force-command", b"")))
            ),
            {},
            "option 'force-command', as no host's may",
        ),
        (lambda: Certificate.from_blob(made(kind=2, principals=string(b"*" * 1024))), {}, "is not for web.example"),
    ],
)
def test_a_certificate_shows_no_other_host(
    certificate: Callable[[], Certificate], changed: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CertificateException, match=complaint):
        check_host(certificate(), **changed)


def test_a_hosts_certificate_for_no_name_is_for_all_only_to_who_says_so() -> None:
    certificate = Certificate.from_blob(made(kind=2, principals=b""))
    with pytest.raises(CertificateException, match="no name at all"):
        check_host(certificate)
    check_host(certificate, allow_any_principal=True)


# -- issuing


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"principals": []}, "1 to 256 principals"),
        ({"principals": "alice"}, "a list of 1 to 256"),
        ({"principals": ["a"] * 257}, "1 to 256 principals"),
        ({"principals": [""]}, "a principal is a name"),
        ({"principals": ["a\0"]}, "a principal is a name"),
        ({"valid_before": 0}, "the first below the second"),
        ({"valid_before": 2**64}, "seconds since the epoch"),
        ({"valid_before": float("nan")}, "seconds since the epoch"),
        ({"valid_after": -1}, "seconds since the epoch"),
        ({"valid_after": NOW + DAY}, "the first below the second"),
        ({"serial": -1}, "from 0 to"),
        ({"serial": 2**64}, "from 0 to"),
        ({"source_addresses": ["10.0.0.1/8"]}, r"'10.0.0.1/8' is no network"),
        ({"source_addresses": ["localhost"]}, "no network"),
        ({"force_command": "a\0b"}, "NUL"),
        ({"key_id": "a\0b"}, "key id has a NUL"),
        ({"critical_options": {"force-command": "ls"}}, "'force-command' has an argument of its own"),
        ({"extensions": {"permit-pty": None}}, "'permit-pty' has an argument of its own"),
        ({"extensions": {f"{number}@x": None for number in range(257)}}, "more than 256 extensions"),
        ({"key": load("rsa1024.openssh").public_key}, "1024 bits"),
    ],
    ids=str,
)
def test_what_nobody_would_believe_is_not_issued(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        for_user(**wrong)


def test_an_authority_signs_with_the_algorithm_that_is_asked_for() -> None:
    authority = load("rsa2048.openssh")
    issue: dict[str, Any] = {"key_id": "", "principals": ["a"], "valid_before": NOW}
    certificate = Certificate.issue_for_host(authority, KEY.public_key, algorithm="rsa-sha2-256", **issue)
    assert certificate.signature_algorithm == "rsa-sha2-256"
    with pytest.raises(ValueError, match="signed with ssh-rsa is not believed"):
        Certificate.issue_for_host(authority, KEY.public_key, algorithm="ssh-rsa", **issue)
    with pytest.raises(LocalProtocolError, match="not ssh-ed25519"):
        Certificate.issue_for_host(authority, KEY.public_key, algorithm="ssh-ed25519", **issue)


# -- using


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_certified_key_signs_as_its_key_and_shows_its_certificate(name: str) -> None:
    key = load(name)
    certificate = for_user(key.public_key)
    certified = CertifiedKey(key, certificate)
    assert certified.asbytes() == certificate.blob
    assert certified.algorithms == certificate.algorithms
    assert (certified.public_key, certified.comment) == (key.public_key, key.comment)
    assert certified.fingerprint == key.fingerprint
    assert repr(certified) == f"<CertifiedKey with {certificate}>"
    for algorithm, plain in zip(certified.algorithms, key.algorithms, strict=True):
        signature = certified.sign(b"data", algorithm)
        assert isinstance(signature, bytes)
        assert signature.startswith(string(plain.encode()))
        certificate.verify(b"data", signature, algorithm)
        key.public_key.verify(b"data", signature, plain)
        with pytest.raises(RemoteProtocolError, match="is wrong"):
            certificate.verify(b"other data", signature, algorithm)
        with pytest.raises(RemoteProtocolError, match="can't be used with"):
            certificate.verify(b"data", signature, plain)
    assert isinstance(certified.sign(b"data"), bytes)
    with pytest.raises(LocalProtocolError, match=f"not {key.algorithms[0]}"):
        certified.sign(b"data", key.algorithms[0])


def test_a_signature_of_another_algorithm_than_agreed_is_refused() -> None:
    key = load("rsa2048.openssh")
    certificate = for_user(key.public_key)
    with pytest.raises(RemoteProtocolError, match="not of the agreed algorithm"):
        certificate.verify(b"data", key.sign(b"data", "rsa-sha2-256"), "rsa-sha2-512-cert-v01@openssh.com")
    assert certificate.plain_algorithm("ssh-rsa-cert-v01@openssh.com") == "ssh-rsa"
    assert certificate.legacy_algorithms == ("ssh-rsa-cert-v01@openssh.com",)


def test_a_certificate_of_another_key_is_not_given_to_a_key() -> None:
    key = load("ed25519.openssh")
    with pytest.raises(KeyFileException, match="is not one of the key <ssh-ed25519"):
        CertifiedKey(key, for_user())
    with pytest.raises(KeyFileException, match="is not one of the key <ssh-ed25519"):
        key.load_certificate(for_user())
    assert key.certificate is None


def test_a_key_keeps_the_certificate_that_is_loaded(tmp_path: Path) -> None:
    key = load("ecdsa256.openssh")
    path = tmp_path / "id_ecdsa-cert.pub"
    certificate = for_user()
    path.write_text(certificate.to_openssh("comment") + "\n")
    key.load_certificate(path)
    assert key.certificate == certificate
    key.load_certificate(for_user())
    assert key.certificate != certificate


# -- files


def test_a_line_survives_being_read() -> None:
    certificate = for_user()
    assert Certificate.from_line(f"  {certificate.to_openssh('Alice, at home')}\r\n") == certificate
    assert Certificate.from_line(certificate.to_openssh()) == certificate
    assert certificate.to_openssh("a\nb").endswith(r" a\nb")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "one line of type, base64 and comment"),
        ("ssh-ed25519-cert-v01@openssh.com", "one line of type, base64 and comment"),
        (for_user().to_openssh() + "\n" + for_user().to_openssh(), "one line of type"),
        (KEY.public_key.to_openssh(), "no certificate, but of the type ecdsa-sha2-nistp256. .*ssh-keygen -s"),
        ("x-cert-v01@openssh.com AAAA", "not a usable certificate"),
        ("ssh-rsa-cert-v01@openssh.com !", "it is not base64"),
        (for_user().to_openssh()[:-8], "not a usable certificate"),
        (f"ssh-rsa-cert-v01@openssh.com {for_user().to_openssh().split()[1]}", "the line says ssh-rsa-cert"),
    ],
)
def test_a_line_that_is_no_certificate_says_what_it_is(line: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileException, match=complaint):
        Certificate.from_line(line)
    path = tmp_path / "x-cert.pub"
    path.write_text(line)
    with pytest.raises(KeyFileException, match=f"^{path}: "):
        Certificate.from_path(path)


@given(strategies.text(max_size=80))
def test_any_line_is_read_or_refused(text: str) -> None:
    with pytest.raises(KeyFileException):
        Certificate.from_line(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileException, match="no such file"):
        Certificate.from_path(tmp_path / "x-cert.pub")


def test_times_are_shown_in_utc() -> None:
    assert shown_time(0) == "1970-01-01T00:00:00Z"
    assert shown_time(NOW + 0.9) == "2023-11-14T22:13:20Z"
    assert shown_time(Certificate.FOREVER) == "the end of time"
