from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from hypothesis import given, strategies

from tests.keys.samples import ONE_OF_EACH, flips, load, string
from trio_ssh.errors import KeyFileException, RemoteProtocolError, SignatureException
from trio_ssh.keys.allowed_signers import AllowedSigners
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.sshsig import SSHSignature, sign_data, verify_data
from trio_ssh.wire.message import Message

KEY: Final = load("ed25519.openssh")
AUTHORITY: Final = Ed25519Key(bytes(range(32)))
DATA: Final = b"what is signed"
NOW: Final = 1_700_000_000
SIGNERS: Final = AllowedSigners.from_text(
    f"alice {KEY.public_key.to_openssh()}\n*@example.com cert-authority {AUTHORITY.public_key.to_openssh()}\n"
)
CERTIFICATE: Final = Certificate.issue_for_user(
    AUTHORITY, KEY.public_key, key_id="", principals=["alice@example.com"], valid_before=NOW + 1
)
SIGNATURE: Final = sign_data(KEY, DATA, namespace="file")


def believe(signature: SSHSignature | str = SIGNATURE, data: bytes = DATA, **changed: Any) -> SSHSignature:
    arguments: dict[str, Any] = {"namespace": "file", "principal": "alice", "signers": SIGNERS, "now": NOW}
    return verify_data(data, signature, **(arguments | changed))


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_what_any_key_signed_verifies(name: str, hash_name: str) -> None:
    key = load(name)
    signature = SSHSignature.from_text(sign_data(key, DATA, namespace="file", hash_name=hash_name).to_openssh())
    signature.check(DATA, namespace="file")
    assert (signature.signer, signature.namespace, signature.hash_name) == (key.public_key, "file", hash_name)
    with pytest.raises(SignatureException, match=r"does not fit the data: .* is wrong"):
        signature.check(DATA + b".", namespace="file")


def test_who_may_sign_is_believed() -> None:
    assert believe() == SIGNATURE
    assert believe(SIGNATURE.to_openssh()) == SIGNATURE


def test_an_open_file_is_signed_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"skipped" + bytes(1_000_000))
    with path.open("rb") as file:
        file.seek(7)
        signature = sign_data(KEY, file, namespace="file")
    signature.check(bytes(1_000_000), namespace="file")
    signature.check(io.BytesIO(bytes(1_000_000)), namespace="file")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"data": b"other"}, "does not fit the data"),
        ({"namespace": "git"}, "was made for 'file', not for 'git'"),
        ({"principal": "bob"}, "may not sign for bob"),
        ({"signers": AllowedSigners()}, "may not sign for alice"),
        ({"signature": "no signature"}, "this is no signature"),
    ],
)
def test_nobody_else_is_believed(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SignatureException, match=complaint):
        believe(**changed)


def test_a_revoked_key_is_not_believed() -> None:
    revoked = KeyRevocationList()
    believe(revoked=revoked)
    revoked.revoke(KEY.public_key)
    with pytest.raises(SignatureException, match=r"by <ssh-ed25519 .*>, which was revoked"):
        believe(revoked=revoked)


def test_a_certificate_signs_in_its_keys_place() -> None:
    signature = sign_data(KEY, DATA, namespace="file", certificate=CERTIFICATE)
    read = SSHSignature.from_text(signature.to_openssh())
    assert read.signer == CERTIFICATE
    believe(read, principal="alice@example.com")
    for principal, now in (("alice", NOW), ("bob@example.com", NOW), ("alice@example.com", NOW + 1)):
        with pytest.raises(SignatureException, match="may not sign"):
            believe(read, principal=principal, now=now)
    with pytest.raises(SignatureException, match="does not fit"):
        believe(read, b"other", principal="alice@example.com")
    with pytest.raises(KeyFileException, match="is not one of the key"):
        sign_data(load("ecdsa256.openssh"), DATA, namespace="file", certificate=CERTIFICATE)


def test_a_signature_by_another_key_than_it_shows_is_refused() -> None:
    forged = attrs.evolve(SIGNATURE, signer=AUTHORITY.public_key)
    with pytest.raises(SignatureException, match="does not fit"):
        forged.check(DATA, namespace="file")


def test_what_was_signed_for_a_login_is_no_signature_of_data() -> None:
    forged = attrs.evolve(SIGNATURE, signature=KEY.sign(DATA))
    with pytest.raises(SignatureException, match="does not fit"):
        forged.check(DATA, namespace="file")


def test_a_broken_algorithm_is_not_believed_though_the_key_knows_it() -> None:
    key = load("rsa2048.openssh")

    class Old:
        """Signs with SHA-1, whatever is asked for."""

        public_key: PublicKey = key.public_key

        def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
            return key.sign(data, "ssh-rsa")

    with pytest.raises(SignatureException, match="signature by ssh-rsa"):
        sign_data(Old(), DATA, namespace="file").check(DATA, namespace="file")


def test_what_is_reserved_is_signed_and_kept() -> None:
    signed = b"SSHSIG" + string(b"file") + string(b"tag") + string(b"sha256")
    digest = hashlib.sha256(DATA).digest()
    made = SSHSignature(
        signer=KEY.public_key,
        namespace="file",
        hash_name="sha256",
        signature=KEY.sign(signed + string(digest)),
        reserved=b"tag",
    )
    read = SSHSignature.from_text(made.to_openssh())
    read.check(DATA, namespace="file")
    assert read.reserved == b"tag"
    with pytest.raises(SignatureException, match="does not fit"):
        attrs.evolve(read, reserved=b"").check(DATA, namespace="file")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({"namespace": ""}, "give it a namespace"), ({"namespace": "file", "hash_name": "sha1"}, "not sha1")],
)
def test_what_nobody_would_verify_is_not_signed(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sign_data(KEY, DATA, **wrong)


# -- bytes that are no signature


def made(
    version: int = 1, signer: bytes = KEY.public_key.blob, namespace: str = "file", hash_name: str = "sha512"
) -> bytes:
    message = Message(b"SSHSIG").add_int(version).add_string(signer).add_string(namespace).add_string(b"")
    return message.add_string(hash_name).add_string(b"").asbytes()


@pytest.mark.parametrize(
    ("blob", "complaint"),
    [
        (b"", "does not begin with SSHSIG"),
        (b"SSHSIG", "ends inside"),
        (made(version=2), "unknown version 2"),
        (made(version=0), "unknown version 0"),
        (made(namespace=""), "without a namespace"),
        (made(hash_name="md5"), "through the hash 'md5'"),
        (made(hash_name="\x1b"), r"the hash '\\x1b'"),
        (made(signer=string(b"ssh-none")), "unknown type"),
        (made(signer=string(b"ssh-ed25519-cert-v01@openssh.com")), "ends inside"),
        (made() + b"\0", "1 bytes too many"),
    ],
)
def test_what_is_no_signature_says_why(blob: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        SSHSignature.from_blob(blob)
    armour = "-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob).decode() + "\n-----END SSH SIGNATURE-----\n"
    with pytest.raises(SignatureException, match=f"damaged, or can't be verified here: .*{complaint}"):
        SSHSignature.from_text(armour)


def test_an_empty_signature_does_not_fit() -> None:
    with pytest.raises(SignatureException, match="does not fit"):
        SSHSignature.from_blob(made()).check(DATA, namespace="file")


def test_a_signature_cut_at_any_byte_is_refused() -> None:
    blob = SIGNATURE.to_blob()
    for length in range(len(blob)):
        with pytest.raises(RemoteProtocolError):
            SSHSignature.from_blob(blob[:length])
    text = SIGNATURE.to_openssh()
    for length in range(len(text) - 1):
        with pytest.raises(SignatureException):
            SSHSignature.from_text(text[:length])


@pytest.mark.parametrize("name", ["ed25519.openssh", "ecdsa256.openssh", "rsa2048.openssh"])
def test_no_bit_of_a_signature_is_without_meaning(name: str) -> None:
    key: PKey = load(name)
    for damaged in flips(sign_data(key, DATA, namespace="file").to_blob()):
        with pytest.raises((RemoteProtocolError, SignatureException)):
            SSHSignature.from_blob(damaged).check(DATA, namespace="file")


@given(strategies.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for blob in (data, b"SSHSIG\0\0\0\1" + data):
        with pytest.raises(RemoteProtocolError):
            SSHSignature.from_blob(blob)


@given(strategies.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for armour in (text, f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"):
        with pytest.raises(SignatureException):
            SSHSignature.from_text(armour)


def test_the_armour_may_have_other_line_ends_and_widths() -> None:
    text = SIGNATURE.to_openssh()
    assert SSHSignature.from_text(text.replace("\n", "\r\n")) == SIGNATURE
    begin, *lines, end, _ = text.split("\n")
    assert SSHSignature.from_text("\n".join((begin, "".join(lines), end))) == SIGNATURE
    assert max(map(len, lines)) <= 76


def test_a_text_that_is_far_too_long_is_refused() -> None:
    with pytest.raises(SignatureException, match="this is no signature"):
        SSHSignature.from_text(SIGNATURE.to_openssh() + " " * (1 << 20))


def test_a_file_is_named_in_what_comes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "data.sig"
    path.write_text(SIGNATURE.to_openssh())
    assert SSHSignature.from_path(path) == SIGNATURE
    path.write_bytes(b"\xff")
    with pytest.raises(SignatureException, match=f"^{path}: this is no signature"):
        SSHSignature.from_path(path)
    with pytest.raises(FileNotFoundError):
        SSHSignature.from_path(tmp_path / "none")


def test_who_signs_elsewhere_is_no_key_for_files() -> None:
    class Remote:
        public_key = KEY.public_key

        async def sign(self, data: bytes) -> bytes:
            raise AssertionError("nobody waits for it")

    with pytest.raises(TypeError, match="Remote signs elsewhere"):
        sign_data(Remote(), b"data", namespace="file")  # type: ignore[arg-type]
