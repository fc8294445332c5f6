from __future__ import annotations

import base64
import hashlib
import io
import stat
from pathlib import Path
from typing import Any

import paramiko
import pytest

from tests.keys.samples import COMMENT, ONE_OF_EACH, content, load
from trio_ssh.errors import KeyFileException, LocalProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.private_key import KeyFormat, PKey
from trio_ssh.keys.rsa import RSAKey

KEY = load("ed25519.openssh")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "id"
    file.write_bytes(content("ed25519.openssh"))
    file.chmod(0o600)
    return file


def test_the_names_that_paramiko_gave_tell_the_same_things() -> None:
    blob = KEY.asbytes()
    assert KEY.get_name() == KEY.key_type == "ssh-ed25519"
    assert KEY.get_bits() == 256
    assert KEY.can_sign()
    assert KEY.get_base64() == base64.b64encode(blob).decode()
    assert KEY.get_fingerprint() == hashlib.md5(blob).digest()
    assert KEY.fingerprint == "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    assert blob == KEY.public_key.blob


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_repr_shows_the_fingerprint_and_nothing_secret(name: str) -> None:
    key = load(name)
    assert repr(key) == f"<{type(key).__name__} {key.key_type} {key.fingerprint}>"


def test_keys_are_equal_if_their_public_halves_are() -> None:
    assert load("ed25519.openssh") == KEY
    assert len({KEY, load("ed25519.openssh"), load("ed25519.pkcs8")}) == 2
    assert KEY.public_key == KEY, "one class is both, in paramiko"
    assert load("ecdsa256.openssh").public_key != KEY


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_best_algorithm_signs_unless_one_is_asked_for(name: str) -> None:
    key = load(name)
    best = key.algorithms[0].encode()
    assert key.sign(b"data").startswith(len(best).to_bytes(4, "big") + best)
    key.verify(b"data", key.sign(b"data"))
    worst = key.algorithms[-1]
    key.verify(b"data", key.sign(b"data", worst), worst)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_signing_with_a_foreign_algorithm_is_the_callers_mistake(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=r"an .* key signs with .*, not ssh-xmss"):
        load(name).sign(b"data", "ssh-xmss")


def test_a_key_is_read_from_a_path_or_an_open_file_of_either_sort(path: Path) -> None:
    assert PKey.from_private_key_file(path) == KEY
    assert PKey.from_path(str(path)) == KEY
    assert Ed25519Key.from_private_key_file(path) == KEY
    assert PKey.from_private_key(io.StringIO(path.read_text())) == KEY
    assert PKey.from_private_key(io.BytesIO(path.read_bytes())) == KEY
    with open(path) as text:
        assert PKey.from_private_key(text) == KEY


def test_a_class_reads_keys_of_its_kind_only_and_a_path_any(path: Path) -> None:
    with pytest.raises(KeyFileException, match=r"id: the key is of the type ssh-ed25519, not of RSAKey's"):
        RSAKey.from_private_key_file(path)
    assert RSAKey.from_path(path) == KEY


def test_a_subclass_of_a_kind_reads_that_kind(path: Path) -> None:
    class Special(Ed25519Key):
        pass

    assert type(Special.from_private_key_file(path)) is Special
    assert type(PKey.from_private_key_file(path)) is Ed25519Key


def test_an_open_file_is_named_in_errors() -> None:
    file = io.StringIO("nonsense")
    file.name = "some\x1bwhere"
    with pytest.raises(KeyFileException, match=r"^some\\x1bwhere: there is no private key"):
        PKey.from_private_key(file)
    with pytest.raises(KeyFileException, match=r"^the key: there is no private key"):
        PKey.from_private_key(io.StringIO("\ud800"))


def test_a_text_file_that_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe-")
    with open(path, encoding="utf-8") as file, pytest.raises(KeyFileException, match="this is no text"):
        PKey.from_private_key(file)


def test_permissions_are_looked_at_unless_they_are_not_to_be(path: Path) -> None:
    path.chmod(0o644)
    with pytest.raises(KeyFileException, match="UNPROTECTED"):
        PKey.from_private_key_file(path)
    assert PKey.from_private_key_file(path, check_permissions=False) == KEY


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("passphrase", [None, "passphrase"])
def test_what_is_written_can_be_read(name: str, passphrase: str | None, tmp_path: Path) -> None:
    key = load(name)
    file = tmp_path / "new"
    key.write_private_key_file(file, passphrase)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = type(key).from_private_key_file(file, passphrase)
    assert again == key
    assert again.comment == COMMENT
    again.verify(b"data", key.sign(b"data"))
    key.verify(b"data", again.sign(b"data"))


def test_a_key_that_is_written_over_another_file_takes_its_openness_away(path: Path) -> None:
    path.chmod(0o666)
    KEY.write_private_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_written_to_an_open_file_of_either_sort() -> None:
    text, binary = io.StringIO(), io.BytesIO()
    KEY.write_private_key(text)
    KEY.write_private_key(binary)
    assert PKey.from_bytes(text.getvalue()) == PKey.from_bytes(binary.getvalue()) == KEY


@pytest.mark.parametrize(
    ("key", "key_type", "bits"),
    [
        (Ed25519Key.generate("me"), "ssh-ed25519", 256),
        (ECDSAKey.generate(), "ecdsa-sha2-nistp256", 256),
        (ECDSAKey.generate("nistp384", "me"), "ecdsa-sha2-nistp384", 384),
        (ECDSAKey.generate(bits=521), "ecdsa-sha2-nistp521", 521),
        (RSAKey.generate(2048, "me"), "ssh-rsa", 2048),
    ],
)
def test_a_new_key_is_of_the_kind_that_was_asked_for(key: PKey, key_type: str, bits: int) -> None:
    assert (key.get_name(), key.get_bits()) == (key_type, bits)
    assert PKey.from_bytes(key.to_openssh()) == key
    key.verify(b"data", key.sign(b"data"))


@pytest.mark.parametrize("passphrase", [None, "", "passphrase", "Grüße"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_key_is_written_to_pkcs8_and_read_again(name: str, passphrase: str | None) -> None:
    key = load(name)
    data = key.to_pkcs8(passphrase)
    head = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" if passphrase else b"-----BEGIN PRIVATE KEY-----"
    assert data.startswith(head)
    assert type(key).from_bytes(data, passphrase) == key


@pytest.mark.parametrize("passphrase", [None, "passphrase"])
@pytest.mark.parametrize(("name", "label"), [("rsa2048.openssh", b"RSA"), ("ecdsa384.openssh", b"EC")])
def test_a_key_is_written_to_the_format_of_its_kind(name: str, label: bytes, passphrase: str | None) -> None:
    key = load(name)
    data = key.to_pem(passphrase)
    assert data.startswith(b"-----BEGIN " + label + b" PRIVATE KEY-----")
    assert (b"ENCRYPTED" in data) == bool(passphrase)
    assert type(key).from_bytes(data, passphrase) == key


def test_a_kind_without_an_older_format_says_what_to_write() -> None:
    with pytest.raises(ValueError, match="no PEM format but PKCS#8: write that, or OpenSSH's"):
        KEY.to_pem()


@pytest.mark.parametrize("file_format", ["openssh", "pem", "pkcs8"])
def test_a_file_is_written_in_the_format_that_was_asked_for(file_format: KeyFormat, tmp_path: Path) -> None:
    key = load("ecdsa256.openssh")
    file, text = tmp_path / "id", io.StringIO()
    key.write_private_key_file(file, "passphrase", file_format=file_format)
    key.write_private_key(text, "passphrase", file_format=file_format)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_text().split("\n", 1)[0]
    assert text.getvalue().startswith(first)
    assert ("OPENSSH" in first, "EC" in first.split(), "ENCRYPTED" in first) == tuple(
        file_format == name for name in ("openssh", "pem", "pkcs8")
    )
    assert PKey.from_private_key_file(file, "passphrase") == key


def test_a_format_that_there_is_not_is_the_callers_mistake_and_writes_nothing(tmp_path: Path) -> None:
    wrong: Any = "ppk"
    with pytest.raises(ValueError, match="'openssh', 'pem' or 'pkcs8', not 'ppk'"):
        KEY.write_private_key_file(tmp_path / "id", file_format=wrong)
    assert list(tmp_path.iterdir()) == []


def test_the_legacy_algorithms_of_a_key_are_its_public_half_s() -> None:
    assert KEY.legacy_algorithms == KEY.public_key.legacy_algorithms == ()
    assert KEY.public_key.can_verify("ssh-ed25519")
    assert not KEY.public_key.can_verify("ssh-rsa")
    assert load("rsa2048.openssh").public_key.can_verify("ssh-rsa")


def test_a_certificate_beside_a_key_comes_with_it_as_for_paramiko(tmp_path: Path) -> None:
    key, other = Ed25519Key.generate(), Ed25519Key.generate()
    path, beside = tmp_path / "key", tmp_path / "key-cert.pub"
    key.write_private_key_file(path, password="x")
    assert PKey.from_path(path, password="x").certificate is None
    with pytest.raises(KeyFileException, match="key-cert"):
        PKey.from_path(beside, "x")
    issued = Certificate.issue_for_user(other, key.public_key, key_id="", principals=["a"], valid_before=2**63)
    beside.write_text(issued.to_openssh() + "\n")
    for name in (path, str(beside)):
        found = Ed25519Key.from_path(name, "x")
        assert (found, found.certificate) == (key, issued)
    assert paramiko.PKey.from_path(beside, b"x").public_blob.key_blob == issued.blob
    for text in (
        "nonsense\n",
        Certificate.issue_for_user(key, other.public_key, key_id="", principals=["a"], valid_before=2**63).to_openssh(),
    ):
        beside.write_text(text)
        with pytest.raises(KeyFileException):
            PKey.from_path(path, "x")
