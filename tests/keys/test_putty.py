from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, strategies

from tests.keys.samples import COMMENT, PASSPHRASE
from trio_ssh.errors import KeyFileException, PasswordRequiredException
from trio_ssh.keys.files import load_private_key, load_private_key_file
from trio_ssh.keys.private_key import PKey

DATA: Final = Path(__file__).parent / "putty"
FILES: Final = sorted(path.name for path in DATA.iterdir())
ENCRYPTED: Final = [name for name in FILES if "encrypted" in name]
PLAIN: Final = [name for name in FILES if "encrypted" not in name]
TYPES: Final = {
    "ed25519": "ssh-ed25519",
    "ed448": "ssh-ed448",
    "ecdsa256": "ecdsa-sha2-nistp256",
    "ecdsa384": "ecdsa-sha2-nistp384",
    "ecdsa521": "ecdsa-sha2-nistp521",
    "rsa2048": "ssh-rsa",
    "dsa1024": "ssh-dss",
}


def content(name: str) -> bytes:
    return (DATA / name).read_bytes()


def attempt(data: bytes) -> PKey | None:
    try:
        return load_private_key(data, PASSPHRASE)
    except (KeyFileException, PasswordRequiredException):
        return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_putty_s_holds_the_key_it_is_named_after(name: str) -> None:
    kind = name.partition(".")[0]
    key = load_private_key(content(name), PASSPHRASE)
    assert key.key_type == TYPES[kind]
    assert key.comment == COMMENT
    assert key == load_private_key(content(f"{kind}.v3.ppk"))
    algorithm = (*key.algorithms, *key.legacy_algorithms)[0]
    key.verify(b"data", key.sign(b"data", algorithm), algorithm)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_file_wants_its_passphrase_and_no_other(name: str) -> None:
    for nothing in (None, "", b""):
        with pytest.raises(PasswordRequiredException, match=f"{name} is encrypted"):
            load_private_key(content(name), nothing, name=name)
    with pytest.raises(KeyFileException, match=f"^wrong passphrase for {name}; or the file is damaged$"):
        load_private_key(content(name), "wrong", name=name)


@pytest.mark.parametrize("name", PLAIN)
def test_a_needless_passphrase_is_not_looked_at(name: str) -> None:
    assert load_private_key(content(name)) == load_private_key(content(name), "needless")


@pytest.mark.parametrize("name", ["ed25519.v2.ppk", "rsa2048.v3-encrypted.ppk"])
@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_line_ends_of_other_systems_do_no_harm(name: str, end: bytes) -> None:
    key = attempt(content(name))
    assert key is not None
    assert attempt(content(name).replace(b"\n", end)) == key
    assert attempt(b"\xef\xbb\xbf\n" + content(name)) is not None


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_byte_is_no_key(name: str) -> None:
    data = content(name).rstrip()
    for length in range(0, len(data), 1 if len(data) < 900 else 7):
        assert attempt(data[:length]) is None
    assert attempt(data) is not None


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_character_makes_no_other_key(name: str) -> None:
    data = content(name)
    original = attempt(data)
    for position in range(0, len(data), 1 if len(data) < 900 else 7):
        for bit in (0x01, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= bit
            key = attempt(bytes(damaged))
            # What is left: the case of a hexadecimal digit, and a count of lines that was a blank.
            assert key is None or (key == original and key.comment == COMMENT)


@given(strategies.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert attempt(b"PuTTY-User-Key-File-" + data) is None
    assert attempt(b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: \nPublic-Lines: " + data) is None


PLAIN_ED: Final = content("ed25519.v3.ppk")
SEALED_ED: Final = content("ed25519.v3-encrypted.ppk")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (PLAIN_ED.replace(b"File-3", b"File-1"), "a PuTTY key of version 1, and 2 and 3 are supported"),
        (PLAIN_ED.replace(b"File-3", b"File-33"), "a PuTTY key of version 3, and"),
        (PLAIN_ED.replace(b"File-3", b"File-\x1b"), r"of version \\x1b"),
        (PLAIN_ED.replace(b"none", b"3des-cbc\x1b"), r"encrypted with 3des-cbc\\x1b, which is not supported"),
        (PLAIN_ED.replace(b"Encryption", b"Encoding"), "line Encryption is missing"),
        (PLAIN_ED.replace(b"Public-Lines: 2", b"Public-Lines: two"), "line Public-Lines holds no number"),
        (PLAIN_ED.replace(b"Public-Lines: 2", b"Public-Lines: 999999999"), "cut short"),
        (PLAIN_ED.replace(b"Public-Lines: 2", b"Public-Lines: " + b"9" * 5000), "holds no number"),
        (PLAIN_ED.replace(b"Public-Lines: 2", b"Public-Lines: 1"), "damaged"),
        (PLAIN_ED.replace(b"MAC: ", b"MAC: g"), "line Private-MAC is not hexadecimal"),
        (PLAIN_ED.replace(b"alice", b"mallory"), "its checksum is wrong"),
        (SEALED_ED.replace(b"alice", b"mallory"), "wrong passphrase for my key; or the file is damaged"),
        (SEALED_ED.replace(b"Argon2id", b"Argon3"), "goes through 'Argon3', which is not known"),
        (SEALED_ED.replace(b"Passes: 1", b"Passes: 0"), "iterations"),
        (SEALED_ED.replace(b"Memory: 64", b"Memory: 1"), "memory_cost"),
        (SEALED_ED.replace(b"Parallelism: 1", b"Parallelism: 0"), "lanes"),
    ],
)
def test_what_is_wrong_is_refused_with_its_fault(data: bytes, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=complaint):
        load_private_key(data, PASSPHRASE, name="my key")


@pytest.mark.parametrize(
    ("memory", "passes", "lanes"), [(1 << 21, 1, 1), (1 << 20, 33, 1), (64, 999_999_999, 1), (64, 1, 65)]
)
def test_absurdly_much_work_is_refused_from_the_header(
    memory: int, passes: int, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: object) -> bytes:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("trio_ssh.keys.putty._argon2", run)
    data = SEALED_ED.replace(b"Memory: 64", b"Memory: %d" % memory)
    data = data.replace(b"Passes: 1", b"Passes: %d" % passes).replace(b"Parallelism: 1", b"Parallelism: %d" % lanes)
    with pytest.raises(KeyFileException, match=f"absurdly long .{memory} KiB, {passes} passes, {lanes} lanes"):
        load_private_key(data, PASSPHRASE)
    with pytest.raises(AssertionError, match="was begun"):
        load_private_key(SEALED_ED.replace(b"Passes: 1", b"Passes: 32"), PASSPHRASE)


def test_a_file_of_putty_s_that_others_may_read_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "key.ppk"
    path.write_bytes(PLAIN_ED)
    path.chmod(0o644)
    with pytest.raises(KeyFileException, match="UNPROTECTED"):
        load_private_key_file(path)
    path.chmod(0o600)
    assert load_private_key_file(path) == load_private_key(PLAIN_ED)
