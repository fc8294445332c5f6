"""The formats that other programs read and write, and what ssh-keygen and puttygen say of ours."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.keys.samples import COMMENT, OPENSSHS, PASSPHRASE, content, load, string
from tests.keys.tokens import token
from trio_ssh.keys.dsa import DSSKey
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed448 import Ed448Key
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.files import load_private_key, load_private_key_file, load_public_key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import load_public_key_line
from trio_ssh.keys.rsa import RSAKey
from trio_ssh.keys.security_key import ECDSA, ED25519, SecurityKey
from trio_ssh.wire.message import Message

pytestmark = pytest.mark.interop

DSA = load_private_key(content("dsa.openssh"))
TOKENS = {key_type: token(key_type) for key_type in (ED25519, ECDSA)}
KEYS: dict[str, PKey] = {
    **{name.removesuffix(".openssh"): load(name) for name in OPENSSHS},
    "dsa": DSA,
    **{key_type: made.key for key_type, made in TOKENS.items()},
}
PEM_KINDS = [name for name in KEYS if name not in (ED25519, ECDSA, "ed25519")]
PASSPHRASES = pytest.mark.parametrize("passphrase", ["", PASSPHRASE], ids=["plain", "encrypted"])


def run(*command: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "id"


# -- ssh-keygen


@PASSPHRASES
@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-gcm@openssh.com"])
@pytest.mark.parametrize("kind", KEYS)
def test_ssh_keygen_opens_what_we_seal(kind: str, cipher: str, passphrase: str, path: Path) -> None:
    key = KEYS[kind]
    path.write_bytes(key.to_openssh(passphrase, cipher=cipher, rounds=1))
    path.chmod(0o600)
    assert run("ssh-keygen", "-y", "-P", passphrase, "-f", path).rstrip() == key.public_key.to_openssh(COMMENT)


@PASSPHRASES
@pytest.mark.parametrize("file_format", ["pem", "pkcs8"])
@pytest.mark.parametrize("kind", PEM_KINDS)
def test_ssh_keygen_opens_what_we_write_for_others(kind: str, file_format: str, passphrase: str, path: Path) -> None:
    key = KEYS[kind]
    path.write_bytes(key.to_pem(passphrase) if file_format == "pem" else key.to_pkcs8(passphrase))
    path.chmod(0o600)
    assert run("ssh-keygen", "-y", "-P", passphrase, "-f", path).split()[:2] == key.public_key.to_openssh().split()


@PASSPHRASES
@pytest.mark.parametrize("name", ["ed25519.openssh", "ed448.openssh"])
def test_openssl_opens_those_that_ssh_keygen_reads_in_its_own_format_only(name: str, passphrase: str) -> None:
    key = load(name)
    point = Message(key.asbytes()[4 + len(key.key_type) :]).get_string()
    shown = run(
        "openssl", "pkey", "-noout", "-text_pub", "-passin", f"pass:{passphrase}", stdin=key.to_pkcs8(passphrase)
    )
    assert "".join(shown.partition("pub:")[2].split()).replace(":", "") == point.hex()


@PASSPHRASES
@pytest.mark.parametrize("form", [(), ("-m", "PEM"), ("-m", "PKCS8")], ids=["OpenSSH", "PEM", "PKCS8"])
def test_a_dsa_key_of_ssh_keygen_s_is_read(form: tuple[str, ...], passphrase: str, path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "dsa", *form, "-N", passphrase, "-C", COMMENT, "-a", "1", "-f", path)
    key = DSSKey.from_private_key_file(path, passphrase)
    public, comment = load_public_key_line(path.with_suffix(".pub").read_text())
    assert (key.public_key, comment) == (public, COMMENT)
    assert run("ssh-keygen", "-l", "-f", path.with_suffix(".pub")).split()[:2] == ["1024", key.fingerprint]


@pytest.mark.parametrize("kind", KEYS)
def test_public_keys_are_exchanged_in_rfc_4716(kind: str, path: Path) -> None:
    public = KEYS[kind].public_key
    path.write_text(public.to_openssh(COMMENT) + "\n")
    exported = run("ssh-keygen", "-e", "-m", "RFC4716", "-f", path)
    read, comment = load_public_key(exported)
    assert read == public
    assert comment.startswith(f"{public.bits}-bit ")
    path.write_text(public.to_rfc4716("a comment that is so long that it must go on in the next line, as it does here"))
    assert run("ssh-keygen", "-i", "-m", "RFC4716", "-f", path).split()[:2] == public.to_openssh().split()


@pytest.mark.parametrize("hash_name", ["sha256", "md5", "sha1", "sha512"])
def test_the_picture_is_that_of_ssh_keygen(hash_name: str, path: Path) -> None:
    keys = [key.public_key for key in KEYS.values()] + [Ed25519Key.generate().public_key for _ in range(20)]
    path.write_text("".join(f"{key.to_openssh(COMMENT)}\n" for key in keys))
    shown = run("ssh-keygen", "-l", "-v", "-E", hash_name, "-f", path).rstrip("\n").split("\n")
    pictures = ["\n".join(shown[start + 1 : start + 12]) for start in range(0, len(shown), 12)]
    assert pictures == [key.randomart(hash_name) for key in keys]
    assert [line.split()[1] for line in shown[::12]] == [key.fingerprint_by(hash_name) for key in keys]


@pytest.mark.parametrize("kind", TOKENS)
def test_ssh_keygen_finds_a_token_s_signature_as_right_as_we_do(kind: str, path: Path) -> None:
    made = TOKENS[kind]
    digest = hashlib.sha512(b"data").digest()
    signed = b"SSHSIG" + string(b"file") + string(b"") + string(b"sha512") + string(digest)
    signatures = [made.sign(signed), made.sign(signed, flags=5)]
    if kind == ECDSA:
        signatures.append(made.sign_webauthn(signed))
        signatures.append(made.sign_webauthn(signed, flags=0x85, extensions=b"\xa0"))
    for signature in signatures:
        message = Message(b"SSHSIG\0\0\0\1").add_string(made.public_key.blob).add_string("file").add_string("")
        message.add_string("sha512").add_string(signature)
        encoded = base64.encodebytes(message.asbytes())
        path.write_bytes(b"-----BEGIN SSH SIGNATURE-----\n" + encoded + b"-----END SSH SIGNATURE-----\n")
        run("ssh-keygen", "-Y", "check-novalidate", "-n", "file", "-s", path, stdin=b"data")
        algorithm = Message(signature).get_text()
        made.public_key.verify(signed, signature, algorithm)


def test_a_security_key_s_file_survives_ssh_keygen(path: Path) -> None:
    for made in TOKENS.values():
        made.key.write_private_key_file(path)
        run("ssh-keygen", "-q", "-p", "-a", "1", "-P", "", "-N", PASSPHRASE, "-f", path)
        again = load_private_key_file(path, PASSPHRASE)
        assert isinstance(again, SecurityKey)
        assert (again, again.comment) == (made.key, COMMENT)
        assert again._private_fields() == made.key._private_fields()


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "ssh-dss"])
def test_openssl_finds_a_legacy_signature_as_right_as_we_do(algorithm: str, path: Path) -> None:
    key = KEYS["rsa2048" if algorithm == "ssh-rsa" else "dsa"]
    raw = Message(key.sign(b"data", algorithm)[4 + len(algorithm) :]).get_string()
    if algorithm == "ssh-dss":
        halves = [int.from_bytes(raw[:20], "big"), int.from_bytes(raw[20:], "big")]
        encoded = [value.to_bytes(value.bit_length() // 8 + 1, "big") for value in halves]
        inside = b"".join(b"\x02" + bytes((len(value),)) + value for value in encoded)
        raw = b"\x30" + bytes((len(inside),)) + inside
    path.write_bytes(key.to_pkcs8())
    path.with_suffix(".sig").write_bytes(raw)
    run("openssl", "dgst", "-sha1", "-prverify", path, "-signature", path.with_suffix(".sig"), stdin=b"data")


# -- puttygen


PUTTY_KINDS: dict[str, tuple[tuple[str, ...], type[PKey]]] = {
    "ed25519": (("-t", "ed25519"), Ed25519Key),
    "ed448": (("-t", "ed448"), Ed448Key),
    "ecdsa256": (("-t", "ecdsa", "-b", "256"), ECDSAKey),
    "ecdsa384": (("-t", "ecdsa", "-b", "384"), ECDSAKey),
    "ecdsa521": (("-t", "ecdsa", "-b", "521"), ECDSAKey),
    "rsa": (("-t", "rsa", "-b", "2048"), RSAKey),
    "dsa": (("-t", "dsa", "-b", "1024"), DSSKey),
}


def passphrase_file(path: Path, passphrase: str) -> Path:
    file = path.with_suffix(".passphrase")
    file.write_text(passphrase)
    return file


@PASSPHRASES
@pytest.mark.parametrize("kind", PUTTY_KINDS)
@pytest.mark.parametrize(
    "parameters", ["version=2", "version=3,memory=64,passes=1", "version=3,kdf=argon2d,memory=64,passes=1"]
)
def test_a_key_that_puttygen_makes_is_read(kind: str, parameters: str, passphrase: str, path: Path) -> None:
    arguments, kind_class = PUTTY_KINDS[kind]
    secret = passphrase_file(path, passphrase)
    puttygen = ("puttygen", "-q", *arguments, "-C", COMMENT, "-o", path, "--ppk-param", parameters)
    run(*puttygen, "--random-device", "/dev/urandom", "--new-passphrase", secret)
    path.chmod(0o600)
    key = kind_class.from_private_key_file(path, passphrase)
    assert key.comment == COMMENT
    public = run("puttygen", path, "-L", "--old-passphrase", secret).rstrip()
    assert public == key.public_key.to_openssh(COMMENT)
    exported = run("puttygen", path, "-p", "--old-passphrase", secret)
    assert load_public_key(exported) == (key.public_key, COMMENT)


@PASSPHRASES
@pytest.mark.parametrize("kind", [*(kind for kind in KEYS if kind not in TOKENS), "ed448"])
def test_puttygen_reads_what_we_write(kind: str, passphrase: str, path: Path) -> None:
    key = KEYS.get(kind) or load("ed448.openssh")
    path.write_bytes(key.to_openssh(passphrase, rounds=1))
    secret = passphrase_file(path, passphrase)
    assert run("puttygen", path, "-L", "--old-passphrase", secret).rstrip() == key.public_key.to_openssh(COMMENT)
    other = path.with_suffix(".ppk")
    puttygen = ("puttygen", "-q", path, "--old-passphrase", secret, "-O", "private", "-o", other, "--reencrypt")
    run(*puttygen, "--new-passphrase", secret, "--ppk-param", "memory=64,passes=1")
    other.chmod(0o600)
    assert load_private_key_file(other, passphrase) == key
