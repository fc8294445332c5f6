from __future__ import annotations

from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa

from tests.keys.samples import COMMENT, content, flips, opened, string
from trio_ssh.crypto.defaults import HOST_KEYS
from trio_ssh.errors import KeyFileException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.dsa import DSSKey
from trio_ssh.keys.files import load_private_key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key
from trio_ssh.wire.message import Message

KEY: Final = load_private_key(content("dsa.openssh"))
PUBLIC: Final = KEY.public_key
NAMES: Final = ("p", "q", "g", "y", "x")


def numbers() -> dict[str, int]:
    inside = opened("dsa.openssh")
    message = Message(inside[inside.rindex(b"ssh-dss") + 7 :])
    return {name: message.get_mpint() for name in NAMES}


NUMBERS: Final = numbers()


def fields(changes: dict[str, int], names: tuple[str, ...] = NAMES) -> Message:
    message = Message()
    for name in names:
        message.add_mpint(changes.get(name, NUMBERS[name]))
    return message


def blob(changes: dict[str, int]) -> bytes:
    return string(b"ssh-dss") + fields(changes, NAMES[:4]).asbytes()


def test_a_key_is_read_and_shown() -> None:
    assert isinstance(KEY, DSSKey)
    assert (KEY.key_type, KEY.get_bits(), KEY.comment) == ("ssh-dss", 1024, COMMENT)
    assert load_private_key(content("dsa.pem")).key_type == "ssh-dss"
    assert parse_public_key(KEY.asbytes()) == PUBLIC


def test_nothing_uses_it_that_does_not_name_its_algorithm() -> None:
    assert KEY.algorithms == PUBLIC.algorithms == ()
    assert KEY.legacy_algorithms == PUBLIC.legacy_algorithms == ("ssh-dss",)
    assert "ssh-dss" not in HOST_KEYS
    with pytest.raises(LocalProtocolError, match="signs only with ssh-dss, which is insecure: name it if"):
        KEY.sign(b"data")
    with pytest.raises(LocalProtocolError, match="which is insecure"):
        KEY.verify(b"data", KEY.sign(b"data", "ssh-dss"))
    with pytest.raises(LocalProtocolError, match="signs with ssh-dss, not ssh-rsa"):
        KEY.sign(b"data", "ssh-rsa")


def test_it_signs_and_verifies_where_it_is_named() -> None:
    signature = KEY.sign(b"data", "ssh-dss")
    assert signature.startswith(string(b"ssh-dss") + b"\0\0\0\x28")
    PUBLIC.verify(b"data", signature, "ssh-dss")
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        PUBLIC.verify(b"other", signature, "ssh-dss")
    for damaged in [*flips(signature), *(signature[:length] for length in range(len(signature))), signature + b"\0"]:
        with pytest.raises(RemoteProtocolError):
            PUBLIC.verify(b"data", damaged, "ssh-dss")
    for zero in (bytes(40), bytes(20) + signature[-20:], signature[-40:-20] + bytes(20)):
        with pytest.raises(RemoteProtocolError, match="is wrong"):
            PUBLIC.verify(b"data", string(b"ssh-dss") + string(zero), "ssh-dss")
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        PUBLIC.verify(b"data", string(b"ssh-dss") + string(signature[-40:] + b"\0"), "ssh-dss")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"p": 2**1023 + 1}, "don't belong together"),
        ({"p": 2**1024 + 1}, "1025 and 160 bits"),
        ({"p": -NUMBERS["p"]}, "bits"),
        ({"p": 2**16000 + 1}, "16001 and 160 bits"),
        ({"q": 2**159 + 1}, "don't belong together"),
        ({"q": 2**255 + 1}, "1024 and 256 bits"),
        ({"q": -NUMBERS["q"]}, "bits"),
        ({"q": 0}, "bits"),
        ({"g": 0}, "don't belong together"),
        ({"g": 1}, "don't belong together"),
        ({"g": NUMBERS["p"] - 1}, "don't belong together"),
        ({"g": NUMBERS["p"] + NUMBERS["g"]}, "don't belong together"),
        ({"y": 0}, "don't belong together"),
        ({"y": 1}, "don't belong together"),
        ({"y": NUMBERS["p"] - 1}, "don't belong together"),
        ({"y": -3}, "don't belong together"),
    ],
)
def test_numbers_that_make_no_key_are_refused(changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        parse_public_key(blob(changes))


def test_a_blob_cut_at_any_byte_padded_or_longer_is_refused() -> None:
    for length in range(len(PUBLIC.blob)):
        with pytest.raises(RemoteProtocolError):
            parse_public_key(PUBLIC.blob[:length])
    with pytest.raises(RemoteProtocolError, match="1 bytes too many"):
        parse_public_key(PUBLIC.blob + b"\0")
    y = NUMBERS["y"].to_bytes(130, "big")
    padded = string(b"ssh-dss") + fields({}, NAMES[:3]).asbytes() + string(y)
    with pytest.raises(RemoteProtocolError, match="not encoded in the shortest way"):
        parse_public_key(padded)


@pytest.mark.parametrize("x", [0, -1, NUMBERS["q"], NUMBERS["x"] + 1, NUMBERS["x"] + NUMBERS["q"]])
def test_a_secret_that_is_not_the_public_key_s_is_no_key(x: int) -> None:
    data = seal(PrivatePart("ssh-dss", fields({"x": x}).add_string("").asbytes(), KEY.asbytes()), None)
    with pytest.raises(KeyFileException, match="don't belong together"):
        PKey.from_bytes(data)


@pytest.mark.parametrize("passphrase", [None, "passphrase"])
def test_what_is_written_can_be_read(passphrase: str | None) -> None:
    for data in (KEY.to_openssh(passphrase), KEY.to_pem(passphrase), KEY.to_pkcs8(passphrase)):
        again = DSSKey.from_bytes(data, passphrase)
        assert again == KEY
        PUBLIC.verify(b"data", again.sign(b"data", "ssh-dss"), "ssh-dss")


def test_a_new_key_has_the_size_that_ssh_knows() -> None:
    key = DSSKey.generate(comment="me")
    assert (key.get_bits(), key.comment) == (1024, "me")
    with pytest.raises(ValueError, match="new DSA keys have 1024 bits, not 2048"):
        DSSKey.generate(bits=2048)
    with pytest.raises(ValueError, match="no DSA keys whose q has 256 bits"):
        DSSKey(dsa.generate_private_key(2048))
