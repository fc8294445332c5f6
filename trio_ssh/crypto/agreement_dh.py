"""Diffie-Hellman over finite fields: the groups of RFC 3526 that RFC 4253, RFC 8268 and RFC 4419 use.

On the wire a value is an mpint, which is a string of the shortest two's complement: the messages, and the
place in the exchange hash, are those of any other share.

Decided: `pow` computes the powers, not `cryptography`.  That deprecates these groups, with a warning which is
an error where users make it one; and in a group that it doesn't know it tests both primes at every exchange,
1.5 s for 3,072 bits, which is a present to an attacker.  `pow` takes 7 ms a power.  It is not constant in time;
what it could give away is an exponent that was used once.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from typing import Final

import attrs

from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm, GroupExchangeAlgorithm, bad_share
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.fields import MPINT, mpint_bytes
from trio_ssh.wire.numbers import DisconnectReason

#: RFC 8270: no group of fewer bits; and none whose powers would take a server's time.
MINIMUM_BITS: Final = 2048
MAXIMUM_BITS: Final = 8192
#: What our client asks for: the strength of AES-128.
PREFERRED_BITS: Final = 3072

#: RFC 3526: what makes a prime of the formula below, by its number of bits.
_OFFSETS: Final = {1024: 129093, 2048: 124476, 3072: 1690314, 4096: 240904, 6144: 929484, 8192: 4743158}

#: A safe prime has no factor below it, and neither has the half of what is below the prime.
_SMALL: Final = 2000


@attrs.frozen
class Group:
    """A prime field's multiplicative group, by its modulus and a generator."""

    prime: int
    generator: int

    @property
    def bits(self) -> int:
        """The size of the prime."""
        return self.prime.bit_length()


def _pi(bits: int) -> int:
    """Return pi * 2**bits, rounded down, by Machin's formula."""
    unity = 1 << bits + 64

    def arccot(number: int) -> int:
        term = total = unity // number
        square, divisor = number * number, 1
        while term:
            term //= -square
            divisor += 2
            total += term // divisor
        return total

    return 4 * (4 * arccot(5) - arccot(239)) >> 64


@functools.cache
def oakley_group(bits: int) -> Group:
    """Return the group of RFC 3526, or of RFC 2409 s6.2, with a prime of so many bits.

    The primes are what their formula makes of pi; 256 to 1,024 bytes each need not stand here.
    """
    prime = (1 << bits) - (1 << bits - 64) - 1 + (_pi(bits - 130) + _OFFSETS[bits] << 64)
    return Group(prime, 2)


@functools.cache
def _small_primes() -> int:
    """Return the product of the odd primes that are small."""
    return math.prod(
        number
        for number in range(3, _SMALL, 2)
        if all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))
    )


def refuse_unsafe_group(group: Group, minimum: int, maximum: int) -> None:
    """Do nothing if a server's group looks as RFC 4419 wants it, as far as a glance can tell.

    Whether the prime is one takes longer than the exchange itself; a server that lies gives away what it could
    give away anyhow.  This finds mistakes.

    Raises:
        RemoteProtocolError: it is of another size than was asked for, or no safe prime, or its generator none.
    """
    prime = group.prime
    if prime < 0 or not minimum <= prime.bit_length() <= maximum:
        problem = f"has {prime.bit_length()} bits; {minimum} to {maximum} were asked for"
    elif prime % 4 != 3 or math.gcd(prime * (prime >> 1), _small_primes()) > 1:
        problem = "has no safe prime"
    elif not 1 < group.generator < prime - 1:
        problem = "has a generator that generates nothing"
    else:
        return
    raise RemoteProtocolError(f"the server's group {problem}", DisconnectReason.KEY_EXCHANGE_FAILED)


def choose_group(groups: Sequence[Group], minimum: int, preferred: int, maximum: int, random_bytes: bytes) -> Group:
    """Return the group that a client's request of RFC 4419 s3 deserves.

    Args:
        groups: those that there are; without any, those of RFC 3526.
        minimum, preferred, maximum: bits, as the client asks.
        random_bytes: eight or more, which choose among those of one size.

    Raises:
        RemoteProtocolError: there is none: the request asks for nothing that we would do.
    """
    low, high = max(minimum, MINIMUM_BITS), min(maximum, MAXIMUM_BITS)
    usable = [group for group in groups if low <= group.bits <= high]
    sizes = {group.bits for group in usable} or {bits for bits in _OFFSETS if low <= bits <= high}
    if not minimum <= preferred <= maximum or not sizes:
        raise RemoteProtocolError(
            f"a group of {minimum} to {maximum} bits is asked for, preferably of {preferred}; there is none",
            DisconnectReason.KEY_EXCHANGE_FAILED,
        )
    size = min((bits for bits in sizes if bits >= preferred), default=max(sizes))
    candidates = [group for group in usable if group.bits == size]
    if not candidates:
        return oakley_group(size)
    return candidates[int.from_bytes(random_bytes, "big") % len(candidates)]


class DHAgreement:
    """Diffie-Hellman in one group, for either side: RFC 4253 s8, RFC 4419 s3.

    Args:
        group: where.
        exponent: to be used for one exchange only; greater than 1.
    """

    __slots__ = ("_exponent", "_group", "our_value")

    def __init__(self, group: Group, exponent: int) -> None:
        self._group = group
        self._exponent = exponent
        self.our_value: int = pow(group.generator, exponent, group.prime)

    @property
    def our_share(self) -> bytes:
        """Our value, as the bytes of an mpint."""
        return mpint_bytes(self.our_value)

    def secret(self, their_value: int) -> bytes:
        """Return K, encoded as an mpint.

        Raises:
            RemoteProtocolError: their value is not between 1 and p-1, or of small order.
        """
        prime = self._group.prime
        # RFC 4253 s8.  1 and p-1 make a secret that everyone knows, and what is beyond is no element.
        if not 1 < their_value < prime - 1:
            raise bad_share("is not between 1 and p-1")
        secret = pow(their_value, self._exponent, prime)
        if not 1 < secret < prime - 1:
            raise bad_share("is of small order")
        out = bytearray()
        MPINT.write(out, secret)
        return bytes(out)

    def finish(self, their_share: bytes) -> bytes:
        """Return K; see `ClientAgreement.finish`."""
        # Told before a number is made of it.
        if len(their_share) > self._group.bits // 8 + 1:
            raise bad_share(f"has {len(their_share)} bytes, which are more than the group's")
        value = int.from_bytes(their_share, "big", signed=True)
        # RFC 4251 s5 allows one form only; another would be a second share of the same value.
        if mpint_bytes(value) != their_share:
            raise bad_share("is not in the shortest form")
        return self.secret(value)

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share and K; see `ServerAgreement.respond`."""
        secret = self.finish(their_share)
        return self.our_share, secret


def new_agreement(group: Group) -> DHAgreement:
    """Return one side of one exchange, with an exponent of twice the group's strength: RFC 7919 s5.2 and more."""
    size = (192 + group.bits // 24 + 7) // 8
    # The highest bit is set, so that no exponent is a small one.
    return DHAgreement(group, int.from_bytes(os.urandom(size), "big") | 1 << 8 * size - 1)


def _algorithm(name: str, hash_name: str, bits: int) -> AgreementAlgorithm:
    def new() -> DHAgreement:
        return new_agreement(oakley_group(bits))

    return AgreementAlgorithm(name, hash_name, new, new)


for _made in (
    _algorithm("diffie-hellman-group14-sha256", "sha256", 2048),
    _algorithm("diffie-hellman-group15-sha512", "sha512", 3072),
    _algorithm("diffie-hellman-group16-sha512", "sha512", 4096),
    _algorithm("diffie-hellman-group17-sha512", "sha512", 6144),
    _algorithm("diffie-hellman-group18-sha512", "sha512", 8192),
    _algorithm("diffie-hellman-group14-sha1", "sha1", 2048),
    _algorithm("diffie-hellman-group1-sha1", "sha1", 1024),
    GroupExchangeAlgorithm("diffie-hellman-group-exchange-sha256", "sha256"),
    GroupExchangeAlgorithm("diffie-hellman-group-exchange-sha1", "sha1"),
):
    KEX.register(_made.name, _made)
