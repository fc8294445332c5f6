"""Keys that ssh-keygen makes, and what it says of ours."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.keys.samples import COMMENT, OPENSSHS, PASSPHRASE, armoured, load, string
from trio_ssh.errors import KeyFileException
from trio_ssh.keys.files import load_private_key_file
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import load_public_key_line, parse_public_key
from trio_ssh.wire.message import Message

pytestmark = pytest.mark.interop

KINDS = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa384": ("-t", "ecdsa", "-b", "384"),
    "ecdsa521": ("-t", "ecdsa", "-b", "521"),
    "rsa2048": ("-t", "rsa", "-b", "2048"),
}
CIPHERS = [
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
]


def keygen(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["ssh-keygen", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "id"


@pytest.mark.parametrize("form", [(), ("-m", "PEM"), ("-m", "PKCS8")], ids=["OpenSSH", "PEM", "PKCS8"])
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE], ids=["plain", "encrypted"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_ssh_keygen_makes_is_read(kind: str, passphrase: str, form: tuple[str, ...], path: Path) -> None:
    keygen("-q", *KINDS[kind], *form, "-N", passphrase, "-C", COMMENT, "-a", "1", "-f", path)
    key = load_private_key_file(path, passphrase)
    public, comment = load_public_key_line(path.with_suffix(".pub").read_text())
    assert key.public_key == public
    assert comment == COMMENT
    assert key.comment in (COMMENT, "")
    shown = keygen("-l", "-f", path.with_suffix(".pub")).split()
    assert shown[:2] == [str(key.get_bits()), key.fingerprint]
    for name in ("md5", "sha1", "sha256", "sha512"):
        assert keygen("-l", "-E", name, "-f", path.with_suffix(".pub")).split()[1] == public.fingerprint_by(name)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_key_under_any_cipher_of_openssh_is_read(cipher: str, path: Path) -> None:
    keygen("-q", "-t", "ed25519", "-N", PASSPHRASE, "-C", COMMENT, "-a", "1", "-Z", cipher, "-f", path)
    assert load_private_key_file(path, PASSPHRASE).comment == COMMENT
    with pytest.raises(KeyFileException, match="wrong passphrase for"):
        load_private_key_file(path, "wrong")


def test_a_key_under_a_cipher_that_is_not_supported_can_be_converted_as_the_error_says(path: Path) -> None:
    keygen("-q", "-t", "ed25519", "-N", PASSPHRASE, "-a", "1", "-Z", "3des-cbc", "-f", path)
    with pytest.raises(KeyFileException, match=f"`ssh-keygen -p -Z aes256-ctr -f {path}`"):
        load_private_key_file(path, PASSPHRASE)
    keygen("-q", "-p", "-Z", "aes256-ctr", "-P", PASSPHRASE, "-N", PASSPHRASE, "-a", "1", "-f", path)
    load_private_key_file(path, PASSPHRASE)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "encrypted"])
@pytest.mark.parametrize("name", OPENSSHS)
def test_ssh_keygen_reads_what_we_write(name: str, passphrase: str | None, path: Path) -> None:
    key = load(name)
    key.write_private_key_file(path, passphrase)
    assert keygen("-y", "-P", passphrase or "", "-f", path).rstrip() == key.public_key.to_openssh(COMMENT)
    assert keygen("-l", "-f", path).split()[:2] == [str(key.get_bits()), key.fingerprint]


def test_a_wrong_passphrase_does_not_open_what_we_wrote_for_ssh_keygen_either(path: Path) -> None:
    load("ed25519.openssh").write_private_key_file(path, PASSPHRASE)
    done = subprocess.run(["ssh-keygen", "-y", "-P", "wrong", "-f", path], capture_output=True, check=False)
    assert b"incorrect passphrase" in done.stderr


def signed_data(data: bytes) -> bytes:
    """OpenSSH PROTOCOL.sshsig: what a signature in that format is made over."""
    return b"SSHSIG" + string(b"file") + string(b"") + string(b"sha512") + string(hashlib.sha512(data).digest())


@pytest.mark.parametrize("name", OPENSSHS)
def test_a_signature_of_ssh_keygens_verifies(name: str, path: Path) -> None:
    key = load(name)
    key.write_private_key_file(path)
    (path.parent / "data").write_bytes(b"data")
    keygen("-q", "-Y", "sign", "-n", "file", "-f", path, path.parent / "data")
    lines = (path.parent / "data.sig").read_text().splitlines()[1:-1]
    message = Message(base64.b64decode("".join(lines))[len(b"SSHSIG") + 4 :])
    public = parse_public_key(message.get_string())
    assert public == key.public_key
    for _ in ("namespace", "reserved", "hash"):
        message.get_string()
    public.verify(signed_data(b"data"), message.get_string(), key.algorithms[0])


@pytest.mark.parametrize("name", OPENSSHS)
def test_ssh_keygen_verifies_a_signature_of_ours(name: str, path: Path) -> None:
    key = load(name)
    for algorithm in key.algorithms:
        message = Message(b"SSHSIG\0\0\0\1").add_string(key.asbytes()).add_string("file").add_string("")
        message.add_string("sha512").add_string(key.sign(signed_data(b"data"), algorithm))
        encoded = base64.encodebytes(message.asbytes())
        path.write_bytes(b"-----BEGIN SSH SIGNATURE-----\n" + encoded + b"-----END SSH SIGNATURE-----\n")
        keygen("-Y", "check-novalidate", "-n", "file", "-s", path, stdin=b"data")


@pytest.mark.parametrize("name", ["ed25519.openssh", "rsa2048.openssh", "ecdsa256.openssh"])
def test_ssh_keygen_reads_every_damaged_key_that_we_read(name: str, path: Path) -> None:
    key = load(name)
    inside = bytearray(base64.b64decode(b"".join(key.to_openssh().splitlines()[1:-1])))
    for position in range(0, len(inside), max(1, len(inside) // 40)):
        damaged = bytearray(inside)
        damaged[position] ^= 1
        data = armoured(name, bytes(damaged))
        try:
            read = PKey.from_bytes(data)
        except KeyFileException:
            continue
        path.write_bytes(data)
        path.chmod(0o600)
        assert keygen("-l", "-f", path).split()[1] == read.fingerprint
