from __future__ import annotations

import hashlib
from typing import Final

import asyncssh.kex_dh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.crypto import agreement_dh
from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm, GroupExchangeAlgorithm
from trio_ssh.crypto.agreement_dh import (
    DHAgreement,
    Group,
    choose_group,
    new_agreement,
    oakley_group,
    refuse_unsafe_group,
)
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.fields import mpint_bytes
from trio_ssh.wire.numbers import DisconnectReason

#: RFC 2409 s6.2, RFC 3526: number, bits.
NUMBERS: Final = {1: 1024, 14: 2048, 15: 3072, 16: 4096, 17: 6144, 18: 8192}

FIXED: Final = {
    "diffie-hellman-group14-sha256": ("sha256", 2048),
    "diffie-hellman-group15-sha512": ("sha512", 3072),
    "diffie-hellman-group16-sha512": ("sha512", 4096),
    "diffie-hellman-group17-sha512": ("sha512", 6144),
    "diffie-hellman-group18-sha512": ("sha512", 8192),
    "diffie-hellman-group14-sha1": ("sha1", 2048),
    "diffie-hellman-group1-sha1": ("sha1", 1024),
}

#: 23 is a safe prime, and 2 is a square in its field: too small for anybody but a test.
TINY: Final = Group(23, 5)


def algorithm(name: str) -> AgreementAlgorithm:
    found = KEX[name]
    assert isinstance(found, AgreementAlgorithm)
    return found


def looks_prime(number: int) -> bool:
    """Fermat's test to four bases: enough to find a digit that is wrong."""
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7))


# -- the groups


@pytest.mark.parametrize(("number", "bits"), NUMBERS.items())
def test_the_groups_are_those_of_the_rfcs(number: int, bits: int) -> None:
    group = oakley_group(bits)
    assert group.prime == getattr(asyncssh.kex_dh, f"_group{number}_p")
    assert (group.generator, group.bits) == (2, bits)


@pytest.mark.parametrize("bits", [1024, 2048])
def test_their_primes_are_safe(bits: int) -> None:
    prime = oakley_group(bits).prime
    assert looks_prime(prime)
    assert looks_prime(prime >> 1)


def test_group_14_begins_and_ends_as_rfc_3526_prints_it() -> None:
    text = f"{oakley_group(2048).prime:X}"
    assert text.startswith("FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74")
    assert text.endswith("3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF")


def test_pi_is_rounded_down() -> None:
    assert f"{agreement_dh._pi(64):X}" == "3243F6A8885A308D3"


# -- the agreement


@pytest.mark.parametrize("name", FIXED)
def test_both_sides_agree_in_every_fixed_group(name: str) -> None:
    found = algorithm(name)
    assert (found.name, found.hash_name) == (name, FIXED[name][0])
    client, server = found.new_client(), found.new_server()
    share, secret = server.respond(client.our_share)
    assert client.finish(share) == secret
    assert int.from_bytes(share, "big").bit_length() <= FIXED[name][1]


def test_the_secret_is_an_mpint_of_the_power() -> None:
    ours, theirs = DHAgreement(TINY, 6), DHAgreement(TINY, 15)
    assert (ours.our_value, theirs.our_value) == (8, 19)
    assert ours.secret(19) == theirs.secret(8) == b"\0\0\0\1\2"
    assert ours.finish(b"\x13") == b"\0\0\0\1\2"


def test_a_secret_with_a_high_bit_has_a_zero_before_it() -> None:
    """RFC 4251 s5: an mpint is signed; of a thousand secrets, half need that."""
    group = oakley_group(1024)
    agreements = [DHAgreement(group, exponent) for exponent in range(200, 230)]
    sizes = {int.from_bytes(each.secret(12345)[:4], "big") for each in agreements}
    assert sizes <= {127, 128, 129}
    assert {128, 129} <= sizes


def test_exponents_are_fresh_and_twice_as_long_as_the_group_is_strong() -> None:
    """RFC 7919 s5.2: 225 to 400 bits, and ours are longer."""
    for bits, least in ((2048, 225), (3072, 275), (4096, 325), (6144, 375), (8192, 400)):
        group = oakley_group(bits)
        first, second = new_agreement(group), new_agreement(group)
        assert first._exponent != second._exponent
        assert least < first._exponent.bit_length() == second._exponent.bit_length() < 560


def bad_values(prime: int) -> dict[str, int]:
    return {
        "zero": 0,
        "one": 1,
        "p - 1": prime - 1,
        "p": prime,
        "p + 1": prime + 1,
        "minus one": -1,
        "2 p - 1": 2 * prime - 1,
        "negative": -prime + 2,
    }


@pytest.mark.parametrize("name", ["diffie-hellman-group14-sha256", "diffie-hellman-group1-sha1"])
@pytest.mark.parametrize("value", bad_values(3))
def test_what_is_not_between_1_and_p_minus_1_is_the_peer_s_error(name: str, value: str) -> None:
    """RFC 4253 s8."""
    number = bad_values(oakley_group(FIXED[name][1]).prime)[value]
    for refuse in (algorithm(name).new_client().finish, algorithm(name).new_server().respond):
        with pytest.raises(RemoteProtocolError) as caught:
            refuse(mpint_bytes(number))
        assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED


def test_a_value_whose_power_everyone_knows_is_refused() -> None:
    """Only a group that is no safe prime's has such: here 3 has order 3 in the field of 13."""
    group = Group(13, 2)
    for exponent in (3, 6, 9):
        with pytest.raises(RemoteProtocolError, match="small order"):
            DHAgreement(group, exponent).secret(3)
    with pytest.raises(RemoteProtocolError, match="small order"):
        DHAgreement(group, 2).secret(5)  # 25 = p - 1


@pytest.mark.parametrize(
    "share",
    [
        b"\0\x05",
        b"\0\0\0\x05",
        b"\xff\xff\x05",
        b"\0" * 257,
        b"\0",
        b"\x05" * 258,
        b"\x05" * 100_000,
    ],
    ids=len,
)
def test_a_value_in_another_form_than_the_shortest_is_the_peer_s_error(share: bytes) -> None:
    client = algorithm("diffie-hellman-group14-sha256").new_client()
    with pytest.raises(RemoteProtocolError) as caught:
        client.finish(share)
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED


@given(st.binary(max_size=300))
def test_any_bytes_are_a_share_or_an_error(share: bytes) -> None:
    try:
        secret = DHAgreement(oakley_group(2048), 3).finish(share)
    except RemoteProtocolError:
        return
    assert mpint_bytes(int.from_bytes(share, "big")) == share
    assert secret[:4] == (len(secret) - 4).to_bytes(4, "big")


def test_no_exponent_is_seen_in_a_repr() -> None:
    assert repr(new_agreement(oakley_group(2048))).startswith("<trio_ssh.crypto.agreement_dh.DHAgreement object")


# -- a group of a server's choice


def test_group_exchange_is_known_by_its_hash() -> None:
    for name, hash_name in (("sha256", "sha256"), ("sha1", "sha1")):
        found = KEX[f"diffie-hellman-group-exchange-{name}"]
        assert isinstance(found, GroupExchangeAlgorithm)
        assert found.hash_name == hash_name
        assert hashlib.new(found.hash_name)


@pytest.mark.parametrize("bits", [2048, 3072, 4096, 6144, 8192])
def test_a_group_as_it_was_asked_for_is_taken(bits: int) -> None:
    refuse_unsafe_group(oakley_group(bits), 2048, 8192)
    refuse_unsafe_group(oakley_group(bits), bits, bits)


P: Final = oakley_group(2048).prime

UNSAFE: Final = {
    "too small": (oakley_group(1024), "has 1024 bits; 2048 to 8192"),
    "too large": (Group((1 << 8192) + 7, 2), "has 8193 bits"),
    "nothing": (Group(0, 2), "has 0 bits"),
    "negative": (Group(-P, 2), "has 2048 bits"),
    "even": (Group(P - 1, 2), "no safe prime"),
    "one modulo four": (Group(P - 2, 2), "no safe prime"),
    "a multiple of three": (Group(3 * ((P // 3) | 1), 2), "no safe prime"),
    "a product of small primes": (Group(1999**200 | 3, 2), "bits|no safe prime"),
    "a generator of 0": (Group(P, 0), "generates nothing"),
    "a generator of 1": (Group(P, 1), "generates nothing"),
    "a generator of p - 1": (Group(P, P - 1), "generates nothing"),
    "a generator of p": (Group(P, P), "generates nothing"),
    "a negative generator": (Group(P, -2), "generates nothing"),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_a_group_that_looks_unsafe_is_the_server_s_error(kind: str) -> None:
    group, text = UNSAFE[kind]
    with pytest.raises(RemoteProtocolError, match=text) as caught:
        refuse_unsafe_group(group, 2048, 8192)
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED


def test_a_prime_that_is_not_safe_is_found_where_its_half_has_a_small_factor() -> None:
    prime = (1 << 2048) - 1
    while not (prime % 4 == 3 and (prime >> 1) % 3 == 0 and looks_prime_quickly(prime)):
        prime -= 2
    with pytest.raises(RemoteProtocolError, match="no safe prime"):
        refuse_unsafe_group(Group(prime, 2), 2048, 8192)


def looks_prime_quickly(number: int) -> bool:
    """No small factor: what refuses it then is its half."""
    return all(number % divisor for divisor in range(3, 2000, 2))


GROUPS: Final = tuple(Group((1 << bits) - offset, 2) for bits in (2048, 3072, 4096, 8192) for offset in (1, 3, 5))


@pytest.mark.parametrize(
    ("minimum", "preferred", "maximum", "bits"),
    [
        (2048, 3072, 8192, 3072),
        (2048, 2048, 2048, 2048),
        (1024, 1024, 8192, 2048),
        (1024, 2048, 16384, 2048),
        (2048, 3073, 8192, 4096),
        (2048, 4097, 4100, 4096),
        (0, 5000, 2**32 - 1, 8192),
        (2048, 8192, 8192, 8192),
        (8192, 16384, 2**32 - 1, 8192),
    ],
)
def test_the_smallest_group_that_is_large_enough_is_chosen(
    minimum: int, preferred: int, maximum: int, bits: int
) -> None:
    for choice in range(3):
        group = choose_group(GROUPS, minimum, preferred, maximum, choice.to_bytes(8, "big"))
        assert group == Group((1 << bits) - (1 + 2 * choice), 2)
    fixed = choose_group((), minimum, preferred, maximum, bytes(8))
    assert fixed.bits >= min(bits, preferred)
    assert fixed == oakley_group(fixed.bits)


@pytest.mark.parametrize(
    ("minimum", "preferred", "maximum"),
    [
        (0, 0, 0),
        (1024, 1024, 1024),
        (1024, 1024, 2047),
        (8193, 8193, 2**32 - 1),
        (2049, 2050, 2060),
        (4096, 2048, 8192),
        (2048, 8192, 4096),
        (8192, 4096, 2048),
    ],
)
def test_a_request_for_nothing_that_we_would_do_is_the_client_s_error(
    minimum: int, preferred: int, maximum: int
) -> None:
    for groups in (GROUPS, ()):
        with pytest.raises(RemoteProtocolError, match=f"{minimum} to {maximum} bits") as caught:
            choose_group(groups, minimum, preferred, maximum, bytes(8))
        assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED


def test_where_no_group_of_the_file_will_do_one_of_the_rfc_does() -> None:
    assert choose_group(GROUPS, 6000, 6144, 7000, bytes(8)) == oakley_group(6144)
