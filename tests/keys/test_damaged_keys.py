"""Whatever bytes a key file has: a key, or the documented exception."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies

from tests.keys.samples import (
    ENCRYPTED,
    FILES,
    PASSPHRASE,
    armoured,
    content,
    flips,
    load,
    opened,
    string,
    unarmoured,
)
from tests.keys.tokens import token
from trio_ssh.errors import KeyFileException, PasswordRequiredException, RemoteProtocolError
from trio_ssh.keys.dsa import DSSKey
from trio_ssh.keys.files import load_private_key
from trio_ssh.keys.mldsa import MLDSA44Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.keys.security_key import ECDSA, ED25519

KEY_TYPES = {key_type for kind in PublicKey.__subclasses__() for key_type in kind.KEY_TYPES}

#: bcrypt runs once per damaged file that looks sound: some 8 ms each.
SLOW = ("ed25519.aes256-ctr", "ed25519.aes256-cbc", "ed25519.aes256-gcm", "ed25519.chacha20-poly1305")


def attempt(data: bytes, passphrase: str | None = PASSPHRASE) -> PKey | None:
    try:
        return load_private_key(data, passphrase, minimum_rsa_bits=1024)
    except (KeyFileException, PasswordRequiredException):
        return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_byte_is_no_key(name: str) -> None:
    data = content(name)
    end = data.rindex(b"-----END") + len(data.splitlines()[-1])
    for length in range(end):
        assert attempt(data[:length]) is None
    assert attempt(data[:end]) is not None


@pytest.mark.parametrize("name", FILES)
def test_a_key_cut_inside_its_armour_is_no_key(name: str) -> None:
    inside = bytes(opened(name))
    for length in range(0, len(inside), 31 if name in SLOW else 1):
        assert attempt(armoured(name, inside[:length])) is None


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_byte_makes_no_other_key_of_the_same_name(name: str) -> None:
    original = load(name)
    for damaged in flips(bytes(opened(name)), step=31 if name in SLOW else 1):
        key = attempt(armoured(name, damaged))
        if key is not None and key != original:
            assert key.comment in ("", original.comment)
            key.verify(b"data", key.sign(b"data"))


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_character_is_survived(name: str) -> None:
    for damaged in flips(content(name), step=31 if name in SLOW else 3 if name.startswith("rsa") else 1):
        attempt(damaged)
        if name in ENCRYPTED:
            attempt(damaged, None)


@given(strategies.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    attempt(data)
    attempt(armoured("ed25519.openssh", b"openssh-key-v1\0" + data))


@pytest.mark.parametrize("label", [b"RSA ", b"EC ", b"", b"ENCRYPTED ", b"DSA "])
@given(inside=strategies.binary(max_size=100), headers=strategies.binary(max_size=30))
def test_any_bytes_in_pem_are_survived(label: bytes, inside: bytes, headers: bytes) -> None:
    name = label + b"PRIVATE KEY"
    for body in (headers, armoured("rsa2048.pkcs1", inside).split(b"\n", 1)[1]):
        attempt(b"-----BEGIN " + name + b"-----\n" + body + b"\n-----END " + name + b"-----\n")


#: Kinds that no file here holds, or whose keys sign for nobody who doesn't name their algorithm.
RARE = [token(ED25519).key, token(ECDSA).key, DSSKey.generate(), MLDSA44Ed25519Key.generate()]


@pytest.mark.parametrize("key", RARE, ids=lambda key: key.key_type)
def test_a_rare_key_that_is_cut_or_damaged_is_no_other_key(key: PKey) -> None:
    inside = bytes(unarmoured(key.to_openssh()))
    step = 1 if len(inside) < 1000 else 7
    for length in range(0, len(inside), step):
        assert attempt(armoured("ed25519.openssh", inside[:length])) is None
    for damaged in flips(inside, step=step):
        other = attempt(armoured("ed25519.openssh", damaged))
        assert other is None or other.key_type == key.key_type
    assert attempt(armoured("ed25519.openssh", inside)) == key


@pytest.mark.parametrize("key_type", sorted(KEY_TYPES))
@given(data=strategies.binary(max_size=200))
def test_any_blob_of_a_known_type_is_survived(key_type: str, data: bytes) -> None:
    for blob in (data, string(data), string(data[:20]) + string(data[20:])):
        with contextlib.suppress(RemoteProtocolError):
            key = parse_public_key(string(key_type.encode()) + blob)
            with pytest.raises(RemoteProtocolError):
                key.verify(b"data", string(key_type.encode()) + blob, (*key.algorithms, *key.legacy_algorithms)[0])
