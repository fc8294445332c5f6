from __future__ import annotations

from typing import Final

import pytest

from tests.keys.samples import content, load, opened, string
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.files import load_private_key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key
from trio_ssh.keys.rsa import RSAKey
from trio_ssh.wire.message import Message

KEY: Final = load("rsa2048.openssh")
NAMES: Final = ("n", "e", "d", "iqmp", "p", "q")


def numbers() -> dict[str, int]:
    inside = opened("rsa2048.openssh")
    message = Message(inside[inside.rindex(b"ssh-rsa") + 7 :])
    return {name: message.get_mpint() for name in NAMES}


NUMBERS: Final = numbers()
N: Final = NUMBERS["n"]


def blob(e: int = 65537, n: int = N) -> bytes:
    return Message().add_string("ssh-rsa").add_mpint(e).add_mpint(n).asbytes()


@pytest.mark.parametrize(
    ("n", "complaint"),
    [
        (0, "no product of two primes"),
        (-N, "no product of two primes"),
        (N + 1, "no product of two primes"),
        (2**1022 + 1, "1023 bits; from 1024 to 16384"),
        (3, "2 bits"),
    ],
)
def test_a_modulus_is_odd_and_neither_too_short_nor_too_long(n: int, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        parse_public_key(blob(n=n), minimum_rsa_bits=0)


def test_the_longest_modulus_is_read_and_an_endless_one_is_refused_by_its_length() -> None:
    assert parse_public_key(blob(n=2**16383 + 1)).bits == 16384
    with pytest.raises(RemoteProtocolError, match="16385 bits"):
        parse_public_key(blob(n=2**16384 + 1))
    with pytest.raises(RemoteProtocolError, match="at most 2049"):
        parse_public_key(blob(n=2**100_000 + 1))


@pytest.mark.parametrize("e", [0, 1, 2, -3, 65536, 2**64 + 1, 2**2000 + 1])
def test_an_absurd_exponent_is_refused(e: int) -> None:
    with pytest.raises(RemoteProtocolError, match="absurd exponent"):
        parse_public_key(blob(e))


@pytest.mark.parametrize("e", [3, 17, 2**64 - 1])
def test_an_unusual_exponent_is_read(e: int) -> None:
    assert parse_public_key(blob(e)).bits == 2048


def test_a_key_has_one_blob() -> None:
    padded = string(b"ssh-rsa") + string(b"\0\1\0\1") + Message().add_mpint(N).asbytes()
    with pytest.raises(RemoteProtocolError, match="not encoded in the shortest way"):
        parse_public_key(padded)


def test_sha_1_signs_and_verifies_for_who_names_it_and_nobody_else() -> None:
    assert KEY.algorithms == KEY.public_key.algorithms == ("rsa-sha2-512", "rsa-sha2-256")
    assert KEY.legacy_algorithms == KEY.public_key.legacy_algorithms == ("ssh-rsa",)
    assert KEY.sign(b"data").startswith(string(b"rsa-sha2-512"))
    signature = KEY.sign(b"data", "ssh-rsa")
    KEY.public_key.verify(b"data", signature, "ssh-rsa")
    with pytest.raises(RemoteProtocolError, match="not of the agreed algorithm, rsa-sha2-512"):
        KEY.public_key.verify(b"data", signature, "rsa-sha2-512")
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        KEY.public_key.verify(b"other data", signature, "ssh-rsa")


def test_a_short_key_is_read_only_for_who_takes_less() -> None:
    data = content("rsa1024.openssh")
    with pytest.raises(KeyFileException, match=r"my key: the RSA key has 1024 bits, and 2048 .* minimum_rsa_bits="):
        PKey.from_bytes(data, name="my key")
    with pytest.raises(KeyFileException, match="and 3072 are asked for"):
        PKey.from_bytes(content("rsa2048.openssh"), minimum_rsa_bits=3072)
    assert PKey.from_bytes(data, minimum_rsa_bits=1024).get_bits() == 1024
    assert load_private_key(data, minimum_rsa_bits=0).get_bits() == 1024


def test_a_signature_without_its_leading_zeros_is_accepted_as_by_openssh() -> None:
    for number in range(5000):
        data = str(number).encode()
        raw = KEY.sign(data)[-256:]
        if raw[0] == 0:
            break
    head = string(b"rsa-sha2-512")
    KEY.public_key.verify(data, head + string(raw.lstrip(b"\0")), "rsa-sha2-512")
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        KEY.public_key.verify(data, head + string(b"\0" + raw), "rsa-sha2-512")
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        KEY.public_key.verify(data, head + string(b""), "rsa-sha2-512")


@pytest.mark.parametrize("bits", [0, 1024, 2047, 16385])
def test_a_new_key_is_neither_too_short_nor_too_long(bits: int) -> None:
    with pytest.raises(ValueError, match=f"have 2048 to 16384 bits, not {bits}"):
        RSAKey.generate(bits)


@pytest.mark.parametrize(
    "changes",
    [
        {"d": NUMBERS["d"] + 2},
        {"d": 1},
        {"d": -NUMBERS["d"]},
        {"d": N},
        {"iqmp": NUMBERS["iqmp"] + 1},
        {"iqmp": 0},
        {"p": NUMBERS["q"], "q": NUMBERS["p"]},
        {"p": 1, "q": N},
        {"p": N, "q": 1},
        {"p": -NUMBERS["p"], "q": -NUMBERS["q"]},
        {"p": 0},
        {"e": 3},
        {"n": N + 2},
    ],
)
def test_numbers_that_do_not_fit_each_other_are_no_key(changes: dict[str, int]) -> None:
    fields = Message()
    for name in NAMES:
        fields.add_mpint(changes.get(name, NUMBERS[name]))
    data = seal(PrivatePart("ssh-rsa", fields.add_string("").asbytes(), KEY.asbytes()), None)
    with pytest.raises(KeyFileException, match="don't belong together"):
        PKey.from_bytes(data)


def test_factors_that_are_not_prime_are_found_by_a_signature() -> None:
    # Each factor is a product of two primes and d is right for neither, but the arithmetic between them holds.
    p, q = 3 * NUMBERS["p"], NUMBERS["q"]
    e = 65537
    totient = (p - 1) * (q - 1)
    try:
        d, iqmp = pow(e, -1, totient), pow(q, -1, p)
    except ValueError:  # pragma: no cover  (the numbers are fixed, and have inverses)
        raise AssertionError("choose another factor") from None
    fields = Message()
    for number in (p * q, e, d, iqmp, p, q):
        fields.add_mpint(number)
    data = seal(PrivatePart("ssh-rsa", fields.add_string("").asbytes(), blob(e, p * q)), None)
    with pytest.raises(KeyFileException, match="don't belong together"):
        PKey.from_bytes(data)
