"""Which message may arrive when: one table, phase x role x message number, and nothing else decides.

The gate stands before every dispatch.  What it lets pass, a dialog may still not be waiting for; what it stops never
reaches any code that acts.  This closes by construction the class of holes in which a peer skips a step by sending a
later step's message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from trio_ssh.core.role import Role


class Phase(Enum):
    """Where the connection is, as far as it concerns what may *arrive*."""

    #: Before their first KEXINIT.
    START = "start"
    #: From their first KEXINIT to their first NEWKEYS; strict if both sides said so.
    EXCHANGE_STRICT = "first exchange, strict"
    EXCHANGE_LENIENT = "first exchange"
    #: From their first NEWKEYS to the end of authentication.
    AUTHENTICATE = "authentication"
    #: Authenticated.
    OPEN = "open"
    #: From their next KEXINIT to their next NEWKEYS.
    REEXCHANGE_AUTHENTICATE = "exchange during authentication"
    REEXCHANGE_OPEN = "exchange"
    CLOSED = "closed"


class Verdict:
    """The values of the table."""

    REFUSE: Final = 0
    ADMIT: Final = 1
    #: Nobody knows this number; RFC 4253 s11.4 wants UNIMPLEMENTED for it.
    UNKNOWN: Final = 2
    #: RFC 4252 s5.3: authentication requests behind a success are ignored without an answer.
    IGNORE: Final = 3


def _numbers(*parts: int | Iterable[int]) -> frozenset[int]:
    return frozenset(number for part in parts for number in ((part,) if isinstance(part, int) else part))


_GENERIC: Final = _numbers(range(1, 5))
_EXCHANGE: Final = _numbers(21, range(30, 50))
_PING: Final = _numbers(192, 193)

#: Numbers that neither an RFC nor OpenSSH gives a meaning.
_UNASSIGNED: Final = _numbers(
    range(8, 20), range(22, 30), range(54, 60), range(67, 80), range(83, 90), range(101, 192), range(194, 256)
)

#: RFC 4252 s6: reserved for what runs behind authentication.  Before that is complete they end the connection, known or
#: not.
_AFTER_AUTHENTICATION: Final = _numbers(range(80, 192))

_FROM_SERVER: Final = {
    Phase.START: _GENERIC | _numbers(20),
    Phase.EXCHANGE_STRICT: _EXCHANGE | _numbers(1),
    Phase.EXCHANGE_LENIENT: _EXCHANGE | _GENERIC,
    Phase.AUTHENTICATE: _GENERIC | _PING | _numbers(6, 7, 20, 51, 52, 53, range(60, 67)),
    Phase.OPEN: _GENERIC | _PING | _numbers(20, 80, 81, 82, range(90, 101)),
    Phase.REEXCHANGE_AUTHENTICATE: _EXCHANGE | _GENERIC,
    Phase.REEXCHANGE_OPEN: _EXCHANGE | _GENERIC,
    Phase.CLOSED: frozenset[int](),
}
_FROM_CLIENT: Final = _FROM_SERVER | {
    # No KEXINIT: no client needs new keys before it has logged in, and each costs a signature of the host's.
    Phase.AUTHENTICATE: _GENERIC | _PING | _numbers(5, 7, 50, range(60, 67)),
}
_TOLERATED: Final = {Phase.AUTHENTICATE: _UNASSIGNED - _AFTER_AUTHENTICATION, Phase.OPEN: _UNASSIGNED}


def _row(admitted: frozenset[int], phase: Phase, our_role: Role) -> bytes:
    row = bytearray(256)
    for number in _TOLERATED.get(phase, ()):
        row[number] = Verdict.UNKNOWN
    for number in admitted:
        row[number] = Verdict.ADMIT
    if phase is Phase.OPEN and our_role is Role.SERVER:
        row[5] = row[50] = Verdict.IGNORE
    return bytes(row)


#: ADMITS[our role][phase][message number] is a `Verdict`.
ADMITS: Final[Mapping[Role, Mapping[Phase, bytes]]] = {
    Role.CLIENT: {phase: _row(_FROM_SERVER[phase], phase, Role.CLIENT) for phase in Phase},
    Role.SERVER: {phase: _row(_FROM_CLIENT[phase], phase, Role.SERVER) for phase in Phase},
}
