from __future__ import annotations

from typing import Final

import pytest

from tests.keys.samples import load, string
from trio_ssh.crypto.defaults import HOST_KEYS
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.ed448 import Ed448Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key

P: Final = 2**448 - 2**224 - 1

#: RFC 8032 s7.4, "1 octet".
SECRET: Final = bytes.fromhex(
    "c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463afbea67c5e8d2877c5e3bc397a659949ef8021e954e0a12274e"
)
POINT: Final = bytes.fromhex(
    "43ba28f430cdff456ae531545f7ecd0ac834a55d9358c0372bfa0c6c6798c0866aea01eb00742802b8438ea4cb82169c235160627b4c3a9480"
)
SIGNATURE: Final = bytes.fromhex(
    "26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f4352541b143c4b981b7e18f62de8ccdf633fc1bf037ab7cd779805e"
    "0dbcc0aae1cbcee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e799f1953d2a0ff3348ab21aa4adafd1d234441cf807c03a00"
)


def blob(point: bytes) -> bytes:
    return string(b"ssh-ed448") + string(point)


def test_the_example_of_rfc_8032_signs_as_it_says() -> None:
    key = Ed448Key(SECRET, "me")
    assert key.asbytes() == blob(POINT)
    assert key.sign(b"\x03") == string(b"ssh-ed448") + string(SIGNATURE)
    parse_public_key(blob(POINT)).verify(b"\x03", string(b"ssh-ed448") + string(SIGNATURE), "ssh-ed448")
    assert "ssh-ed448" not in HOST_KEYS


@pytest.mark.parametrize("length", [0, 56, 58])
def test_a_point_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"of {length} bytes instead of 57"):
        parse_public_key(blob(bytes(length)))


@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1, 2**448 - 1, 2**448, 2**454])
@pytest.mark.parametrize("sign", [0, 2**455])
def test_a_point_for_which_any_signature_fits_and_one_that_is_none_are_refused(y: int, sign: int) -> None:
    with pytest.raises(RemoteProtocolError, match="no usable point"):
        parse_public_key(blob((y | sign).to_bytes(57, "little")))


@pytest.mark.parametrize("seed", [b"", bytes(56), bytes(58)])
def test_a_seed_of_another_length_is_the_callers_mistake(seed: bytes) -> None:
    with pytest.raises(ValueError, match="has 57 bytes, not"):
        Ed448Key(seed)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (string(POINT) + string(SECRET), "secret has 57 bytes instead of 114"),
        (string(bytes(57)) + string(SECRET + POINT), "halves don't belong together"),
        (string(POINT) + string(SECRET + bytes(57)), "halves don't belong together"),
        (string(POINT) + string(SECRET[:-1] + b"\0" + POINT), "halves don't belong together"),
    ],
)
def test_halves_that_do_not_fit_are_no_key(fields: bytes, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=complaint):
        PKey.from_bytes(seal(PrivatePart("ssh-ed448", fields + string(b""), blob(POINT)), None))


def test_it_is_written_to_pkcs8_and_to_no_older_format() -> None:
    key = load("ed448.openssh")
    assert PKey.from_bytes(key.to_pkcs8("passphrase"), "passphrase") == key
    with pytest.raises(ValueError, match="no PEM format but PKCS#8"):
        key.to_pem()
    assert Ed448Key.generate("me").comment == "me"
