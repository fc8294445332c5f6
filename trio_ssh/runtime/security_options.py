"""Which algorithms are enabled, as paramiko's `SecurityOptions`: five settings that check what is assigned."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_ssh.core.negotiation import Algorithms
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.compression import COMPRESSIONS
from trio_ssh.crypto.defaults import HOST_KEYS, HOST_KEYS_BY_NAME
from trio_ssh.crypto.mac import MACS


def _checked(kind: str, names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"{kind} are a sequence of names, not one str")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {kind}: {', '.join(unknown)}. Known are: {', '.join(known)}")
    if not names:
        raise ValueError(f"no {kind}: at least one must stay enabled. Known are: {', '.join(known)}")
    return tuple(names)


def checked_algorithms(
    *,
    kex: Sequence[str] | None = None,
    host_key_algorithms: Sequence[str] | None = None,
    ciphers: Sequence[str] | None = None,
    macs: Sequence[str] | None = None,
    compressions: Sequence[str] | None = None,
) -> Algorithms:
    """Return the defaults with what was given in their place.

    Raises:
        ValueError: a name is unknown, or none is left; the text lists the known ones.
    """
    options = SecurityOptions(Algorithms())
    if kex is not None:
        options.kex = kex
    if host_key_algorithms is not None:
        options.key_types = host_key_algorithms
    if ciphers is not None:
        options.ciphers = ciphers
    if macs is not None:
        options.digests = macs
    if compressions is not None:
        options.compression = compressions
    return options.algorithms


class SecurityOptions:
    """What a connection enables, best first.  Assigning checks: unknown names and empty lists raise ValueError."""

    def __init__(self, algorithms: Algorithms) -> None:
        self.algorithms: Algorithms = algorithms

    def __repr__(self) -> str:
        return f"<SecurityOptions {self.algorithms!r}>"

    @property
    def kex(self) -> Sequence[str]:
        """Key exchange methods."""
        return self.algorithms.kex

    @kex.setter
    def kex(self, names: Sequence[str]) -> None:
        self.algorithms = attrs.evolve(self.algorithms, kex=_checked("key exchange methods", names, KEX.names()))

    @property
    def key_types(self) -> Sequence[str]:
        """Algorithms of host keys, and of users' signatures.  What is broken, such as SHA-1, must be named here."""
        return self.algorithms.host_keys

    @key_types.setter
    def key_types(self, names: Sequence[str]) -> None:
        known = (*HOST_KEYS, *HOST_KEYS_BY_NAME)
        self.algorithms = attrs.evolve(self.algorithms, host_keys=_checked("host key algorithms", names, known))

    @property
    def ciphers(self) -> Sequence[str]:
        """Ciphers, for both directions."""
        return self.algorithms.ciphers

    @ciphers.setter
    def ciphers(self, names: Sequence[str]) -> None:
        self.algorithms = attrs.evolve(self.algorithms, ciphers=_checked("ciphers", names, CIPHERS.names()))

    @property
    def digests(self) -> Sequence[str]:
        """MACs, for both directions."""
        return self.algorithms.macs

    @digests.setter
    def digests(self, names: Sequence[str]) -> None:
        self.algorithms = attrs.evolve(self.algorithms, macs=_checked("MACs", names, MACS.names()))

    @property
    def compression(self) -> Sequence[str]:
        """Compression methods, for both directions."""
        return self.algorithms.compressions

    @compression.setter
    def compression(self, names: Sequence[str]) -> None:
        self.algorithms = attrs.evolve(
            self.algorithms, compressions=_checked("compression methods", names, COMPRESSIONS.names())
        )
