from __future__ import annotations

import pytest

from tests.keys.samples import ONE_OF_EACH, flips, load, string
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.ed25519 import Ed25519PublicKey
from trio_ssh.keys.public_key import (
    decode_public_key,
    is_known_type,
    load_public_key_line,
    parse_public_key,
    public_kind,
)
from trio_ssh.wire.message import Message

ED25519 = load("ed25519.openssh").public_key
LINE = ED25519.to_openssh()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_blob_survives_being_read(name: str) -> None:
    key = load(name)
    public = parse_public_key(key.asbytes())
    assert public == key.public_key
    assert public.blob == key.asbytes()
    assert (public.key_type, public.bits, public.algorithms) == (key.get_name(), key.get_bits(), key.algorithms)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_blob_cut_at_any_byte_is_refused(name: str) -> None:
    blob = load(name).asbytes()
    for length in range(len(blob)):
        with pytest.raises(RemoteProtocolError):
            parse_public_key(blob[:length])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_blob_with_a_byte_too_many_is_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="1 bytes too many"):
        parse_public_key(load(name).asbytes() + b"\0")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_damaged_blob_is_refused_or_is_another_key(name: str) -> None:
    key = load(name).public_key
    for damaged in flips(key.blob):
        try:
            other = parse_public_key(damaged)
        except RemoteProtocolError:
            continue
        assert other != key
        assert other.blob == damaged


@pytest.mark.parametrize(
    ("key_type", "shown"), [(b"", "''"), (b"ssh-xmss", "'ssh-xmss'"), (b"\x1b[31m", r"x1b\[31m"), (b"x" * 999, "x…'")]
)
def test_an_unknown_type_is_named_without_letting_it_speak_to_the_terminal(key_type: bytes, shown: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"unknown type .*{shown}"):
        parse_public_key(string(key_type) + bytes(32))


def test_an_rsa_key_must_be_as_long_as_the_caller_asks() -> None:
    blob = load("rsa1024.openssh").asbytes()
    with pytest.raises(RemoteProtocolError, match="1024 bits; at least 2048"):
        parse_public_key(blob)
    assert parse_public_key(blob, minimum_rsa_bits=1024).bits == 1024
    with pytest.raises(RemoteProtocolError, match="2048 bits; at least 3072"):
        parse_public_key(load("rsa2048.openssh").asbytes(), minimum_rsa_bits=3072)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_signature_is_of_these_data_this_key_and_this_algorithm(name: str) -> None:
    key = load(name)
    public = parse_public_key(key.asbytes())
    for algorithm in key.algorithms:
        signature = key.sign(b"data", algorithm)
        public.verify(b"data", signature, algorithm)
        with pytest.raises(RemoteProtocolError, match="is wrong"):
            public.verify(b"other data", signature, algorithm)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_no_bit_of_a_signature_is_without_meaning(name: str) -> None:
    key = load(name)
    signature = key.sign(b"data")
    for damaged in flips(signature):
        with pytest.raises(RemoteProtocolError):
            key.public_key.verify(b"data", damaged, key.algorithms[0])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_signature_cut_at_any_byte_or_with_one_too_many_is_refused(name: str) -> None:
    key = load(name)
    signature = key.sign(b"data")
    for damaged in [*(signature[:length] for length in range(len(signature))), signature + b"\0"]:
        with pytest.raises(RemoteProtocolError):
            key.public_key.verify(b"data", damaged, key.algorithms[0])


def test_a_signature_of_another_algorithm_than_agreed_is_refused_though_it_is_right() -> None:
    key = load("rsa2048.openssh")
    with pytest.raises(RemoteProtocolError, match="not of the agreed algorithm, rsa-sha2-512"):
        key.public_key.verify(b"data", key.sign(b"data", "rsa-sha2-256"), "rsa-sha2-512")


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "rsa-sha2-512", "", "ssh-ed25519\0"])
def test_an_algorithm_that_is_not_the_keys_is_refused(algorithm: str) -> None:
    signature = Message().add_string(algorithm).add_string(bytes(64)).asbytes()
    with pytest.raises(RemoteProtocolError, match="can't sign with"):
        ED25519.verify(b"data", signature, algorithm)


def test_another_key_of_the_same_kind_does_not_verify() -> None:
    signature = load("ed25519.pkcs8").sign(b"data")
    with pytest.raises(RemoteProtocolError, match=r"a signature by <ssh-ed25519 SHA256:.*> is wrong"):
        ED25519.verify(b"data", signature, "ssh-ed25519")


def test_keys_are_equal_by_their_blob() -> None:
    assert parse_public_key(ED25519.blob) == ED25519
    assert len({ED25519, parse_public_key(ED25519.blob), load("ed25519.pkcs8").public_key}) == 2
    assert ED25519.blob != ED25519


def test_the_repr_is_what_a_person_compares() -> None:
    assert repr(ED25519) == f"<ssh-ed25519 {ED25519.fingerprint}>"


def test_an_unknown_hash_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="unsupported hash"):
        ED25519.fingerprint_by("crc32")


def test_a_line_survives_being_read() -> None:
    assert load_public_key_line(f"  {ED25519.to_openssh('Alice, at home')}\r\n") == (ED25519, "Alice, at home")
    assert load_public_key_line(LINE) == (ED25519, "")


def test_a_comment_stays_on_its_line() -> None:
    line = ED25519.to_openssh("a\nssh-rsa AAAA\x1b")
    assert line.endswith(r" a\nssh-rsa AAAA\x1b")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "one line of type, base64"),
        ("ssh-ed25519", "one line of type, base64"),
        ("ssh-ed25519 ", "one line of type, base64"),
        (f"{LINE}\n{LINE}", "one line of text, and this is more"),
        (LINE[:-4], "not a usable public key"),
        (LINE[:-3], "not base64"),
        ("ssh-ed25519 Ä", "not base64"),
        ("ssh-ed25519 AAA=AAAA", "not base64"),
        (LINE + "=", "not base64"),
        (LINE.replace("ssh-ed25519", "ssh-rsa"), "the line says ssh-rsa, but the key is of the type ssh-ed25519"),
        (LINE.replace("ssh-ed25519", "\x1b[31m"), r"the line says \\x1b\[31m, but"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "this is a private key"),
        (load("rsa1024.openssh").public_key.to_openssh(), "1024 bits"),
    ],
)
def test_what_is_no_line_with_a_key_is_refused_with_its_fault(text: str, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=complaint):
        load_public_key_line(text)


def test_a_weaker_key_can_be_read_from_text_where_that_is_asked_for() -> None:
    weak = load("rsa1024.openssh")
    assert decode_public_key("ssh-rsa", weak.get_base64(), minimum_rsa_bits=1024) == weak.public_key


def test_known_types_are_those_that_can_be_read() -> None:
    assert is_known_type("ssh-ed25519")
    assert not is_known_type("ssh-xmss")
    assert not is_known_type("\ud800")


def test_a_type_is_not_replaced_behind_a_users_back() -> None:
    with pytest.raises(ValueError, match="'ssh-ed25519' is registered already"):
        public_kind(Ed25519PublicKey)


def test_tabs_separate_as_blanks_do() -> None:
    key = load("ed25519.openssh").public_key
    assert load_public_key_line("\t".join((*key.to_openssh().split(), "a comment"))) == (key, "a comment")
