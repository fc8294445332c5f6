"""The host keys that a server's connection is given, with the certificates of some of them."""

from __future__ import annotations

import functools

import attrs

from trio_ssh.core.exchange import offered_algorithms
from trio_ssh.core.keying import signable
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import certificate_name
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.private_key import PKey


class ServerKeys:
    """Host keys, in the order in which they were added.

    Attributes:
        keys: each once.
        certificates: of some of them.
    """

    __slots__ = ("certificates", "keys")

    def __init__(self) -> None:
        self.keys: list[PKey] = []
        self.certificates: list[Certificate] = []

    def add(self, key: PKey | CertifiedKey) -> None:
        """Add a key, and its certificate where it has one.

        Raises:
            TypeError: it is none, or is elsewhere, in an agent for instance.
        """
        given: object = key
        if not isinstance(given, PKey | CertifiedKey):
            raise TypeError(
                f"a host key is a private key, not {type(given).__name__}: load one with "
                "`PKey.from_private_key_file(path)`, or make one with `Ed25519Key.generate()`"
            )
        if isinstance(key, CertifiedKey):
            self.certificates.append(key.certificate)
            key = private_key_of(key)
        if all(key.public_key != other.public_key for other in self.keys):
            self.keys.append(key)

    def restrict(self, algorithms: Algorithms) -> Algorithms:
        """Leave of the host key algorithms those that these keys can sign with."""
        return signable(_with_certificates(algorithms), offered_algorithms(self.keys, self.certificates))


def private_key_of(key: CertifiedKey) -> PKey:
    """Return what a server's certified host key signs with.

    Raises:
        TypeError: it is not at hand.
    """
    if not isinstance(key.key, PKey):
        raise TypeError("a certified host key is made of a private key that is at hand: CertifiedKey(key, certificate)")
    return key.key


@functools.lru_cache(maxsize=32)
def _with_certificates(algorithms: Algorithms) -> Algorithms:
    """Put the certificate's algorithm in front of each that a host key may have, unless they are named one by one."""
    if "host_keys" in algorithms.names_certificates:
        return algorithms
    names = [each for name in algorithms.host_keys for each in (certificate_name(name), name)]
    return attrs.evolve(algorithms, host_keys=tuple(names))
