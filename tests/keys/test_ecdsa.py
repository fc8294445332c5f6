from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, strategies

from tests.keys.samples import load, string
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key
from trio_ssh.wire.message import Message

TYPE = "ecdsa-sha2-nistp256"
KEY = load("ecdsa256.openssh")
POINT = KEY.asbytes()[-65:]
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def blob(point: bytes, curve: bytes = b"nistp256", key_type: bytes = TYPE.encode()) -> bytes:
    return string(key_type) + string(curve) + string(point)


def signature(r: int, s: int) -> bytes:
    inside = Message().add_mpint(r).add_mpint(s).asbytes()
    return string(TYPE.encode()) + string(inside)


@pytest.mark.parametrize(
    "point",
    [
        b"",
        b"\0",
        b"\4",
        POINT[:-1],
        POINT + b"\0",
        b"\2" + POINT[1:33],
        b"\3" + POINT[1:33],
        b"\6" + POINT[1:],
        b"\4" + bytes(64),
        b"\4" + b"\xff" * 64,
        POINT[:-1] + bytes((POINT[-1] ^ 1,)),
    ],
)
def test_a_key_is_an_uncompressed_point_of_its_curve(point: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{TYPE} key that is n"):
        parse_public_key(blob(point))


def test_type_and_curve_say_the_same() -> None:
    with pytest.raises(RemoteProtocolError, match="on another curve"):
        parse_public_key(blob(POINT, b"nistp384"))
    with pytest.raises(RemoteProtocolError, match="no point of its curve"):
        parse_public_key(blob(POINT, b"nistp384", b"ecdsa-sha2-nistp384"))


@pytest.mark.parametrize("r", [0, -1, ORDER, 2**256, 2**4096])
def test_numbers_out_of_range_sign_nothing(r: int) -> None:
    for pair in [(r, 1), (1, r), (r, r)]:
        with pytest.raises(RemoteProtocolError, match="is wrong"):
            KEY.public_key.verify(b"data", signature(*pair), TYPE)


def test_a_signature_has_two_numbers_and_no_more() -> None:
    good = KEY.sign(b"data")
    inside = good[-int.from_bytes(good[len(TYPE) + 4 : len(TYPE) + 8], "big") :]
    with pytest.raises(RemoteProtocolError, match="1 bytes too many"):
        KEY.public_key.verify(b"data", string(TYPE.encode()) + string(inside + b"\0"), TYPE)


@given(strategies.binary(max_size=90))
def test_any_bytes_as_a_signature_are_refused(inside: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        KEY.public_key.verify(b"data", string(TYPE.encode()) + string(inside), TYPE)


def test_a_new_key_is_on_one_of_three_curves() -> None:
    with pytest.raises(ValueError, match="not nistp224"):
        ECDSAKey.generate("nistp224")
    with pytest.raises(ValueError, match="not nistp255"):
        ECDSAKey.generate(bits=255)
    with pytest.raises(ValueError, match="no ECDSA keys on the curve secp256k1"):
        ECDSAKey(ec.derive_private_key(7, ec.SECP256K1()))


@pytest.mark.parametrize(
    ("curve", "point", "secret", "complaint"),
    [
        ("nistp384", POINT, 7, "curve is not that of its type"),
        ("nistp256", POINT, 7, "don't belong together"),
        ("nistp256", POINT, 0, "out of range"),
        ("nistp256", POINT, -7, "out of range"),
        ("nistp256", POINT, ORDER, "out of range"),
        ("nistp256", POINT, 2**8000, "out of range"),
    ],
)
def test_a_private_key_whose_parts_do_not_fit_is_refused(curve: str, point: bytes, secret: int, complaint: str) -> None:
    fields = Message().add_string(curve).add_string(point).add_mpint(secret).add_string("").asbytes()
    with pytest.raises(KeyFileException, match=complaint):
        PKey.from_bytes(seal(PrivatePart(TYPE, fields, KEY.asbytes()), None))
