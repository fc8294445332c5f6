from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x448
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.keys.samples import COMMENT, ENCRYPTED, FILES, KINDS, PASSPHRASE, content, load
from trio_ssh.errors import KeyFileException, PasswordRequiredException
from trio_ssh.keys.disk import KEY_FILE_BYTES
from trio_ssh.keys.files import load_private_key, load_private_key_file

PUBLIC = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMLGUOHQH5NiAdxyxQ7RkwvKhl0p6t3FF3UfMLKvXpM1 alice@example\n"


@pytest.mark.parametrize("name", FILES)
def test_every_format_holds_the_key_it_is_named_after(name: str) -> None:
    key = load(name)
    assert (key.get_name(), key.get_bits()) == KINDS[name.partition(".")[0]]
    key.verify(b"data", key.sign(b"data"))


@pytest.mark.parametrize("name", FILES)
def test_the_comment_is_kept_where_the_format_has_one(name: str) -> None:
    openssh = content(name).startswith(b"-----BEGIN OPENSSH")
    assert load(name).comment == (COMMENT if openssh else "")


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_key_of_any_format_asks_for_its_passphrase(name: str) -> None:
    with pytest.raises(PasswordRequiredException, match=f"{name} is encrypted"):
        load_private_key(content(name), name=name)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_a_wrong_passphrase_of_any_format_is_called_one(name: str) -> None:
    with pytest.raises(KeyFileException, match=f"^wrong passphrase for {name}; or the file is damaged"):
        load_private_key(content(name), "wrong", name=name)


@pytest.mark.parametrize("name", sorted(set(FILES) - set(ENCRYPTED)))
def test_a_needless_passphrase_is_not_looked_at(name: str) -> None:
    assert load_private_key(content(name), "needless", minimum_rsa_bits=1024) == load(name)


def test_one_key_is_the_same_in_every_format() -> None:
    assert load("ed25519.pkcs8") == load("ed25519.pkcs8-encrypted") == load("ed25519.pkcs8-scrypt")


@pytest.mark.parametrize("name", ["ed25519.openssh", "rsa2048.pkcs1", "ecdsa256.sec1-encrypted"])
def test_line_ends_of_windows_and_text_around_the_key_do_no_harm(name: str) -> None:
    text = b"Bag Attributes\n  friendlyName: key\n" + content(name) + b"trailing words\n"
    assert load_private_key(text.replace(b"\n", b"\r\n"), PASSPHRASE) == load(name)


def test_parameters_before_an_elliptic_key_are_skipped() -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert load_private_key(parameters + content("ecdsa256.sec1")) == load("ecdsa256.sec1")


@pytest.mark.parametrize(
    "headers",
    [
        b"Proc-Type: 4,ENCRYPTED",
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,",
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566",
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0011223344556677",
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," + b"0" * 34,
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC," + b"0" * 32,
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: DES-CBC,0011223344556677",
        b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," + b"g" * 32,
        b"Proc-Type: 4,ENCRYPTED\n" + 2 * (b"DEK-Info: AES-128-CBC," + b"0" * 32 + b"\n"),
        b"DEK-Info: AES-128-CBC,0011\nProc-Type: 4,ENCRYPTED",
    ],
)
def test_headers_that_would_make_the_library_panic_are_refused_before_it_sees_them(headers: bytes) -> None:
    body = content("rsa2048.pkcs1-encrypted").split(b"\n\n")[1]
    with pytest.raises(KeyFileException, match="damaged, or encrypted in a way that is not supported"):
        load_private_key(b"-----BEGIN RSA PRIVATE KEY-----\n" + headers + b"\n\n" + body, PASSPHRASE)


def test_headers_that_do_not_speak_of_encryption_are_skipped() -> None:
    begin = b"-----BEGIN RSA PRIVATE KEY-----\n"
    data = content("rsa2048.pkcs1").replace(begin, begin + b"Comment: of a person's\nX-Other: header\n\n")
    assert load_private_key(data) == load("rsa2048.pkcs1")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \n", "the file is empty"),
        (b"SSH PRIVATE KEY FILE FORMAT 1.1\n\0", "a key of SSH 1"),
        (b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", "a key of ssh.com's"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\n", "this is a public key"),
        (b"-----BEGIN PUBLIC KEY-----\n", "this is a public key"),
        (b"-----BEGIN RSA PUBLIC KEY-----\n", "this is a public key"),
        (b"-----BEGIN CERTIFICATE-----\n", "an X.509 certificate"),
        (PUBLIC, "this is a public key. .* without .pub"),
        (b"ssh-ed25519-cert-v01@openssh.com AAAAIH", "this is a public key"),
        (b"sk-ssh-ed25519@openssh.com AAAAGn", "this is a public key"),
        ("-----BEGIN".encode("utf-16"), "UTF-16"),
        (b"\x30\x82\x04\xa4", "a key in DER. Convert it: `openssl pkey -inform DER -in 'my key' "),
        (b"hello\n", "no private key in it"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nMII", "cut short, its END line is missing"),
        (b"-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n", "damaged or unsupported"),
        (b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "damaged or unsupported"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n!\n-----END OPENSSH PRIVATE KEY-----\n", "damaged"),
        (bytes(KEY_FILE_BYTES + 1), "more than 1 MiB"),
    ],
)
def test_what_is_no_usable_key_is_told_with_the_remedy(data: bytes, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=complaint) as told:
        load_private_key(data, name="my key")
    assert str(told.value).startswith("my key: ")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ec.derive_private_key(7, ec.SECP256K1()), "EC on secp256k1"),
        (x448.X448PrivateKey.from_private_bytes(bytes(56)), "X448PrivateKey"),
    ],
)
def test_a_key_of_a_kind_that_ssh_lacks_is_named(key: ec.EllipticCurvePrivateKey, kind: str) -> None:
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyFileException, match=rf"SSH has no keys of this kind \({kind}\)"):
        load_private_key(data)


PBKDF2 = "2a864886f70d01050c"
SCRYPT = "2b06010401da47040b"


def derivation(*parameters: int, function_name: str = PBKDF2, salt: bytes = bytes(8)) -> bytes:
    """An encrypted PKCS#8 key whose derivation has these parameters."""

    def element(tag: int, value: bytes) -> bytes:
        return (
            bytes((tag,))
            + (bytes((len(value),)) if len(value) < 128 else b"\x82" + len(value).to_bytes(2, "big"))
            + value
        )

    numbers = b"".join(element(2, value.to_bytes(value.bit_length() // 8 + 1, "big")) for value in parameters)
    pbkdf2, pbes2 = (element(6, bytes.fromhex(name)) for name in (function_name, "2a864886f70d01050d"))
    cipher = element(0x30, element(6, bytes.fromhex("60864801650304012a")) + element(4, bytes(16)))
    function = element(0x30, pbkdf2 + element(0x30, element(4, salt) + numbers))
    inside = element(0x30, element(0x30, pbes2 + element(0x30, function + cipher)) + element(4, bytes(64)))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n%s\n-----END ENCRYPTED PRIVATE KEY-----\n" % base64.b64encode(
        inside
    )


@pytest.mark.parametrize("parameters", [(1 << 25,), (1 << 62,), (1 << 1000,), (1 << 20, 1 << 12)])
def test_a_derivation_without_end_is_not_begun(parameters: tuple[int, ...]) -> None:
    with pytest.raises(KeyFileException, match="would take absurdly long"):
        load_private_key(derivation(*parameters), "passphrase")


@pytest.mark.parametrize("parameters", [(1 << 20, 16, 1), (1 << 10, 1 << 14, 1), (1 << 14, 8, 1 << 7)])
def test_a_derivation_that_takes_all_memory_is_not_begun(parameters: tuple[int, ...]) -> None:
    with pytest.raises(KeyFileException, match="would take absurdly long"):
        load_private_key(derivation(*parameters, function_name=SCRYPT), "passphrase")


def test_a_derivation_by_scrypt_of_the_usual_cost_is_run() -> None:
    with pytest.raises(KeyFileException, match="wrong passphrase"):
        load_private_key(derivation(1 << 10, 8, 1, function_name=SCRYPT), "passphrase")


def test_a_number_of_rounds_does_not_hide_behind_a_long_salt() -> None:
    with pytest.raises(KeyFileException, match=r"takes 1\d{3} bytes to say"):
        load_private_key(derivation(1 << 30, salt=bytes(1100)), "passphrase")


def test_a_derivation_of_reasonable_length_is_run() -> None:
    with pytest.raises(KeyFileException, match="wrong passphrase"):
        load_private_key(derivation(1000), "passphrase")


@pytest.mark.parametrize("depth", [10, 100, 5000])
def test_nesting_in_a_derivation_costs_no_more_than_its_length(depth: int) -> None:
    body = base64.b64encode(b"\x30\x80\x30\x80" + b"\x30\x02" * depth)
    with pytest.raises(KeyFileException):
        load_private_key(
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n%s\n-----END ENCRYPTED PRIVATE KEY-----\n" % body, "passphrase"
        )


def test_a_public_key_that_all_may_read_is_called_public_not_unprotected(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519.pub"
    path.write_bytes(PUBLIC)
    path.chmod(0o644)
    with pytest.raises(KeyFileException, match="this is a public key"):
        load_private_key_file(path)


def test_a_private_key_that_others_may_read_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    path.write_bytes(content("ed25519.aes256-ctr"))
    path.chmod(0o644)
    with pytest.raises(KeyFileException, match="UNPROTECTED"):
        load_private_key_file(path)
    with pytest.raises(PasswordRequiredException):
        load_private_key_file(path, check_permissions=False)
    assert load_private_key_file(path, PASSPHRASE, check_permissions=False) == load("ed25519.aes256-ctr")
