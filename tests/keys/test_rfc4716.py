from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies

from tests.keys.samples import ONE_OF_EACH, load
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.files import load_public_key, load_public_key_file
from trio_ssh.keys.rfc4716 import BEGIN, armour, unarmour

KEY = load("ed25519.openssh").public_key
TEXT = KEY.to_rfc4716("alice@example")
END = "---- END SSH2 PUBLIC KEY ----"


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("comment", ["", "alice@example", 'in "quotes"', "Grüße " * 40, "x" * 1000, "a: b\\"])
def test_a_key_and_its_comment_survive_being_armoured(name: str, comment: str) -> None:
    key = load(name).public_key
    text = key.to_rfc4716(comment)
    assert load_public_key(text) == (key, comment)
    assert all(len(line.encode()) <= 72 for line in text.split("\n"))


def test_a_comment_stays_in_its_header() -> None:
    assert "\x1b" not in KEY.to_rfc4716("a\nb\x1b")
    assert load_public_key(KEY.to_rfc4716("a\nb")) == (KEY, r"a\nb")
    assert len(unarmour(KEY.to_rfc4716("ü" * 5000))[1].encode()) <= 1024


def test_headers_are_read_in_any_case_and_others_skipped() -> None:
    text = TEXT.replace("Comment: ", "Subject: me\nx-more: a\\\nb\\\nc\nCOMMENT:   ")
    assert load_public_key(text) == (KEY, "alice@example")
    assert load_public_key(TEXT.replace('"', "")) == (KEY, "alice@example")
    assert load_public_key(TEXT.replace('Comment: "alice@example"', 'Comment: "')) == (KEY, '"')


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("\n", "\r\n"),
        f"\ufeff{TEXT}",
        f"\n# a comment\n\n{TEXT}behind it",
        TEXT.replace("\n", " \n"),
        TEXT.rstrip(),
    ],
)
def test_what_others_make_of_a_file_does_no_harm(text: str) -> None:
    assert load_public_key(text)[0] == KEY
    assert load_public_key(text.encode())[0] == KEY


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TEXT.replace(END, ""), "END line is missing"),
        (f"{BEGIN} \nAAAA\n", "END line is missing"),
        (f"{BEGIN}x\nAAAA\n{END}", "does not begin with a BEGIN line"),
        (f"{BEGIN}\nComment: a\\\n{END}", "its header has no end"),
        (f"{BEGIN}\n!\n{END}", "not base64"),
        (f"{BEGIN}\nÄ\n{END}", "not base64"),
        (f"{BEGIN}\n{END}", "a message ends inside"),
        (load("rsa1024.openssh").public_key.to_rfc4716(), "1024 bits"),
    ],
)
def test_what_is_wrong_is_refused_with_its_fault(text: str, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=complaint) as told:
        load_public_key(text, name="my key")
    assert str(told.value).startswith("my key: not a usable public key: ")


def test_a_file_cut_at_any_byte_is_no_key() -> None:
    for length in range(len(TEXT.rstrip())):
        with pytest.raises(KeyFileException):
            load_public_key(TEXT[:length])


@given(strategies.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    for text in (data, BEGIN.encode() + data, BEGIN.encode() + b"\n" + data + b"\n" + END.encode()):
        with pytest.raises(KeyFileException):
            load_public_key(text)


@given(strategies.text(max_size=100), strategies.binary(max_size=100))
def test_what_is_armoured_can_be_read(comment: str, blob: bytes) -> None:
    text = armour(blob, comment)
    assert unarmour(text)[0] == blob
    with pytest.raises(RemoteProtocolError):
        unarmour(f"x{text}")


def test_a_public_key_is_read_from_either_sort_of_file(tmp_path: Path) -> None:
    for text in (TEXT, KEY.to_openssh("alice@example") + "\n", f"# mine\n{KEY.to_openssh('alice@example')}\n"):
        (tmp_path / "key.pub").write_text(text)
        assert load_public_key_file(tmp_path / "key.pub") == (KEY, "alice@example")


def test_a_public_key_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key.pub"
    with pytest.raises(KeyFileException, match=r"key\.pub: there is no such file"):
        load_public_key_file(path)
    path.write_text("")
    with pytest.raises(KeyFileException, match=r"key\.pub: a public key is one line"):
        load_public_key_file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeyFileException, match=r"key\.pub: "):
        load_public_key_file(path)
