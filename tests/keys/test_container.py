from __future__ import annotations

import pytest

from tests.keys.samples import PASSPHRASE, armoured, content, load, opened, string, unarmoured
from trio_ssh.errors import AuthenticationException, KeyFileException, PasswordRequiredException, RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.files import load_private_key

MAGIC = b"openssh-key-v1\0"
CIPHERS = ["aes256-ctr", "aes256-cbc", "aes256-gcm", "chacha20-poly1305"]


def container(
    cipher: bytes = b"none",
    kdf: bytes = b"none",
    options: bytes = b"",
    count: int = 1,
    sealed: bytes = b"",
    tag: bytes = b"",
) -> bytes:
    head = MAGIC + string(cipher) + string(kdf) + string(options) + count.to_bytes(4, "big")
    return armoured("ed25519.openssh", head + string(b"public") + string(sealed) + tag)


def bcrypt(rounds: int, salt: bytes = bytes(16)) -> bytes:
    return string(salt) + rounds.to_bytes(4, "big")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_key_under_each_cipher_opens_with_its_passphrase(cipher: str) -> None:
    key = load_private_key(content(f"ed25519.{cipher}"), PASSPHRASE)
    assert key.comment == "alice@example"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_wrong_passphrase_is_called_one_and_is_no_refused_login(cipher: str) -> None:
    with pytest.raises(KeyFileException, match=r"^wrong passphrase for my\.key; or the file is damaged$") as told:
        load_private_key(content(f"ed25519.{cipher}"), "wrong", name="my.key")
    assert not isinstance(told.value, AuthenticationException)


@pytest.mark.parametrize("passphrase", [None, "", b""])
def test_an_encrypted_key_asks_for_its_passphrase(passphrase: str | bytes | None) -> None:
    with pytest.raises(PasswordRequiredException, match=r"my\.key is encrypted"):
        load_private_key(content("ed25519.aes256-ctr"), passphrase, name="my.key")


def test_a_passphrase_that_is_no_text_is_wrong() -> None:
    with pytest.raises(KeyFileException, match="wrong passphrase"):
        load_private_key(content("ed25519.aes256-ctr"), "\ud800")


def test_absurdly_many_rounds_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: object, **options: object) -> bytes:
        raise AssertionError("the rounds were begun")

    monkeypatch.setattr("bcrypt.kdf", run)
    data = container(b"aes256-ctr", b"bcrypt", bcrypt(2049), sealed=bytes(64))
    with pytest.raises(KeyFileException, match=r"asks for 2049 rounds of bcrypt; 1 to 2048 .*ssh-keygen -p -a 24"):
        load_private_key(data, "passphrase")
    with pytest.raises(AssertionError, match="begun"):
        load_private_key(container(b"aes256-ctr", b"bcrypt", bcrypt(2048), sealed=bytes(64)), "passphrase")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (container(b"3des-cbc", b"bcrypt", bcrypt(1), sealed=bytes(64)), "encrypted with 3des-cbc, which is not supp"),
        (container(b"\x1b[2J", b"bcrypt", bcrypt(1), sealed=bytes(64)), r"encrypted with \\x1b\[2J,"),
        (container(b"aes256-ctr", b"scrypt", bcrypt(1), sealed=bytes(64)), "'scrypt'; only bcrypt is supported"),
        (container(b"aes256-ctr", b"none", sealed=bytes(64)), "'none'; only bcrypt"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(0), sealed=bytes(64)), "0 rounds"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1, b""), sealed=bytes(64)), "salt has 0 bytes"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1, bytes(1025)), sealed=bytes(64)), "salt has 1025 bytes"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1) + b"x", sealed=bytes(64)), "1 bytes too many"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1)[:-1], sealed=bytes(64)), "ends inside"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1), sealed=bytes(63)), "a length that aes256-ctr"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1), sealed=b""), "a length that aes256-ctr"),
        (container(b"aes256-ctr", b"bcrypt", bcrypt(1), sealed=bytes(64), tag=b"x"), "a length that aes256-ctr"),
        (container(b"aes256-gcm@openssh.com", b"bcrypt", bcrypt(1), sealed=bytes(64)), "a length that aes256-gcm"),
        (container(count=0), "claims to hold 0 keys"),
        (container(count=2), "claims to hold 2 keys"),
        (container(kdf=b"bcrypt"), "names no cipher"),
        (container(options=b"x"), "names no cipher"),
        (container(tag=b"x"), "names no cipher"),
        (container(sealed=b"1234567"), "check numbers differ"),
        (container(sealed=b"12341235"), "check numbers differ"),
        (container(sealed=b"12341234"), "ends inside"),
        (container(sealed=b"12341234" + string(b"ssh-xmss")), "of the type ssh-xmss, which is not supported"),
        (armoured("ed25519.openssh", b"openssh-key-v2\0"), "does not begin with openssh-key-v1"),
        (armoured("ed25519.openssh", b""), "does not begin with openssh-key-v1"),
        (content("ed25519.openssh").replace(b"b3Bl", b"b3B!"), "damaged"),
    ],
)
def test_a_container_that_is_wrong_is_refused_with_its_fault(data: bytes, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=complaint) as told:
        load_private_key(data, "passphrase", name="my.key")
    assert str(told.value).startswith("my.key: ")


def test_the_public_copy_must_belong_to_the_private_key() -> None:
    inside = opened("ed25519.openssh")
    inside[inside.index(b"ssh-ed25519") + 20] ^= 1
    with pytest.raises(KeyFileException, match="the public key in it belongs to another private key"):
        load_private_key(armoured("ed25519.openssh", bytes(inside)))


@pytest.mark.parametrize("padding", [b"\2", b"\1\2\4", bytes(8), bytes(256)])
def test_padding_counts_from_one(padding: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="padding is wrong"):
        check_padding(padding)


@pytest.mark.parametrize("length", [0, 1, 7, 15, 255])
def test_padding_that_counts_from_one_is_accepted(length: int) -> None:
    check_padding(bytes(range(1, length + 1)))


@pytest.mark.parametrize("passphrase", [None, "", "correct horse", b"\xff\0binary", "Grüße"])
def test_what_is_sealed_opens_again_with_its_comment(passphrase: str | bytes | None) -> None:
    key = load("ed25519.openssh")
    key.comment = "Älice at \udcff"
    again = load_private_key(key.to_openssh(passphrase), passphrase)
    assert again == key
    assert again.comment == "Älice at \udcff"


def test_a_passphrase_hides_the_secret() -> None:
    seed = opened("ed25519.pkcs8")[-32:]
    key = load("ed25519.pkcs8")
    assert seed in unarmoured(key.to_openssh())
    assert seed not in unarmoured(key.to_openssh("passphrase"))


def test_the_same_passphrase_is_salted_each_time() -> None:
    key = load("ed25519.pkcs8")
    assert key.to_openssh("passphrase") != key.to_openssh("passphrase")


@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-gcm@openssh.com"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_what_is_sealed_says_with_what(cipher: str, rounds: int) -> None:
    key = load("ed25519.openssh")
    data = key.to_openssh("passphrase", cipher=cipher, rounds=rounds)
    inside = bytes(unarmoured(data))
    assert inside.startswith(MAGIC + string(cipher.encode()) + string(b"bcrypt"))
    assert rounds.to_bytes(4, "big") in inside[: len(MAGIC) + 100]
    assert load_private_key(data, "passphrase") == key
    with pytest.raises(KeyFileException, match="wrong passphrase"):
        load_private_key(data, "passphrasf")


@pytest.mark.parametrize("cipher", ["aes128-ctr", "3des-cbc", "none", ""])
def test_a_key_is_sealed_with_what_is_strong_only(cipher: str) -> None:
    with pytest.raises(ValueError, match=r"sealed with aes256-ctr or aes256-gcm@openssh\.com, not"):
        load("ed25519.openssh").to_openssh("passphrase", cipher=cipher)


@pytest.mark.parametrize("rounds", [0, -1, 2049])
def test_a_key_is_sealed_so_that_it_can_be_opened(rounds: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 2048 rounds of bcrypt, not {rounds}"):
        load("ed25519.openssh").to_openssh("passphrase", rounds=rounds)
