"""What a connection is told at birth: all that it knows of its user and of the machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import attrs

from trio_ssh.core.gssapi import GssContext
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.crypto.moduli import NO_MODULI, Moduli
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.private_key import PKey

_LOG: Final = logging.getLogger("trio_ssh.transport")
_ALGORITHMS: Final = Algorithms()


@attrs.frozen(kw_only=True)
class Options:
    """What a connection is told at birth.

    Attributes:
        random_bytes: makes so many random bytes; the core knows no operating system.
        log: where it says what nobody needs to act on.
        host_keys: a server's keys.
        certificates: of some of them.
        moduli: a server's groups for the key exchange of RFC 4419.
        signature_algorithms: public-key algorithms that a server accepts from users, certificates' among them.
        new_gss_context: makes a context for each key exchange by GSS-API; None to offer none.
    """

    random_bytes: Callable[[int], bytes]
    log: logging.Logger = _LOG
    algorithms: Algorithms = _ALGORITHMS
    limits: Limits = DEFAULT_LIMITS
    software: str = "trio_ssh"
    host_keys: tuple[PKey, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    moduli: Moduli = NO_MODULI
    signature_algorithms: tuple[str, ...] = _ALGORITHMS.every_pubkey
    new_gss_context: Callable[[], GssContext] | None = None
