from __future__ import annotations

import pytest
from nacl import bindings

from tests.keys.samples import load, string
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key

P = 2**255 - 19


def blob(point: bytes) -> bytes:
    return string(b"ssh-ed25519") + string(point)


def small_order_points() -> list[bytes]:
    """The eight multiples of a point of order 8."""
    torsion = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    points, point = [], torsion
    for _ in range(8):
        points.append(point)
        point = bindings.crypto_core_ed25519_add(point, torsion)
    assert point == torsion
    assert len(set(points)) == 8
    return points


@pytest.mark.parametrize("point", small_order_points())
def test_a_point_of_small_order_is_no_key(point: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="no usable point"):
        parse_public_key(blob(point))


@pytest.mark.parametrize("y", [P, P + 1, P + 3, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_point_has_one_encoding(y: int, sign: int) -> None:
    with pytest.raises(RemoteProtocolError, match="no usable point"):
        parse_public_key(blob((y | sign << 255).to_bytes(32, "little")))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{length} bytes instead of 32"):
        parse_public_key(blob(bytes(range(length))))


def test_what_is_not_on_the_curve_verifies_nothing() -> None:
    off = next(
        point
        for point in (number.to_bytes(32, "little") for number in range(2, 100))
        if not bindings.crypto_core_ed25519_is_valid_point(point)
    )
    signature = string(b"ssh-ed25519") + string(bytes(64))
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        parse_public_key(blob(off)).verify(b"data", signature, "ssh-ed25519")


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_has_64_bytes(length: int) -> None:
    key = load("ed25519.openssh").public_key
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        key.verify(b"data", string(b"ssh-ed25519") + string(bytes(length)), "ssh-ed25519")


def test_signatures_are_those_of_rfc_8032() -> None:
    # RFC 8032 s7.1, test 2
    key = Ed25519Key(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.asbytes()[-32:].hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72")[-64:].hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(64)])
def test_a_seed_has_32_bytes(seed: bytes) -> None:
    with pytest.raises(ValueError, match="has 32 bytes"):
        Ed25519Key(seed)


@pytest.mark.parametrize(
    "fields",
    [
        string(bytes(32)) + string(bytes(63)),
        string(bytes(32)) + string(bytes(64)),
        string(Ed25519Key(bytes(32)).asbytes()[-32:]) + string(bytes(64)),
        string(bytes(32)) + string(bytes(32) + Ed25519Key(bytes(32)).asbytes()[-32:]),
    ],
)
def test_halves_that_do_not_belong_together_are_refused(fields: bytes) -> None:
    data = seal(PrivatePart("ssh-ed25519", fields + string(b""), Ed25519Key(bytes(32)).asbytes()), None)
    with pytest.raises(KeyFileException, match="damaged"):
        PKey.from_bytes(data)
