"""The gate: for each of 256 numbers, in each phase and either role, what the RFCs say may arrive.

The expectation is written from RFC 4250 s4.1, RFC 4252 s6, RFC 4253 s7.1 and s11.4, RFC 8308 s2.3, and OpenSSH's
PROTOCOL (ping, strict key exchange), number by number, and shares nothing with the table but the names of the phases.
"""

from __future__ import annotations

from typing import Final

import pytest

from trio_ssh.core.phases import ADMITS, Phase, Verdict
from trio_ssh.core.role import Role

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG = 1, 2, 3, 4
SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 5, 6, 7
KEXINIT, NEWKEYS = 20, 21
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER = 50, 51, 52, 53
PING, PONG = 192, 193

ANY_TIME: Final = {DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG}
KEX_METHOD: Final = set(range(30, 50))
AUTH_METHOD: Final = set(range(60, 67))  # 60 .. 66 are the highest that any method was given (GSSAPI)
GLOBAL: Final = {80, 81, 82}
CHANNEL: Final = set(range(90, 101))
KNOWN: Final = (
    ANY_TIME
    | {SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO, KEXINIT, NEWKEYS, PING, PONG}
    | {USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER}
    | KEX_METHOD
    | AUTH_METHOD
    | GLOBAL
    | CHANNEL
)

#: A client talks to a server, so what arrives at it is what servers send.
MAY_ARRIVE: Final[dict[tuple[Role, Phase], set[int]]] = {}
for _role in Role:
    MAY_ARRIVE.update(
        {
            (_role, Phase.START): ANY_TIME | {KEXINIT},
            # "kex-strict": anything that is not strictly required ends the connection; a goodbye may always be said.
            (_role, Phase.EXCHANGE_STRICT): {DISCONNECT, NEWKEYS} | KEX_METHOD,
            (_role, Phase.EXCHANGE_LENIENT): ANY_TIME | {NEWKEYS} | KEX_METHOD,
            (_role, Phase.REEXCHANGE_AUTHENTICATE): ANY_TIME | {NEWKEYS} | KEX_METHOD,
            (_role, Phase.REEXCHANGE_OPEN): ANY_TIME | {NEWKEYS} | KEX_METHOD,
            (_role, Phase.OPEN): ANY_TIME | {KEXINIT, PING, PONG} | GLOBAL | CHANNEL,
            (_role, Phase.CLOSED): set(),
        }
    )
MAY_ARRIVE[Role.SERVER, Phase.AUTHENTICATE] = (
    # No KEXINIT: new keys before the login serve nobody, and cost the host a signature each.
    ANY_TIME | {SERVICE_REQUEST, EXT_INFO, USERAUTH_REQUEST, PING, PONG} | AUTH_METHOD
)
MAY_ARRIVE[Role.CLIENT, Phase.AUTHENTICATE] = (
    ANY_TIME
    | {SERVICE_ACCEPT, EXT_INFO, KEXINIT, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER, PING, PONG}
    | AUTH_METHOD
)


def expected(role: Role, phase: Phase, number: int) -> int:
    if number in MAY_ARRIVE[role, phase]:
        return Verdict.ADMIT
    if number in KNOWN:
        if role is Role.SERVER and phase is Phase.OPEN and number in (SERVICE_REQUEST, USERAUTH_REQUEST):
            return Verdict.IGNORE  # RFC 4252 s5.3
        return Verdict.REFUSE
    if phase is Phase.OPEN and number != 0:
        return Verdict.UNKNOWN  # RFC 4253 s11.4
    if phase is Phase.AUTHENTICATE and (0 < number < 80 or number >= 192):
        # RFC 4252 s6: what is reserved for protocols that run behind authentication (RFC 4250 s4.1: 80 to 191), and
        # comes before that is complete, is an error for which the server must disconnect.
        return Verdict.UNKNOWN
    return Verdict.REFUSE


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("role", Role)
def test_the_gate_is_as_the_rfcs_say(role: Role, phase: Phase) -> None:
    row = ADMITS[role][phase]
    assert len(row) == 256
    assert {number: row[number] for number in range(256)} == {
        number: expected(role, phase, number) for number in range(256)
    }


@pytest.mark.parametrize("role", Role)
def test_nothing_of_the_connection_layer_arrives_before_authentication_is_complete(role: Role) -> None:
    """libssh CVE-2018-10933, paramiko CVE-2018-7750, Erlang/OTP CVE-2025-32433."""
    for phase in set(Phase) - {Phase.OPEN}:
        row = ADMITS[role][phase]
        assert {row[number] for number in range(80, 192)} == {Verdict.REFUSE}
        assert {number for number in range(192, 256) if row[number] == Verdict.ADMIT} <= {PING, PONG}


@pytest.mark.parametrize("role", Role)
def test_authentication_is_only_decided_while_it_is_asked_for(role: Role) -> None:
    for phase in set(Phase) - {Phase.AUTHENTICATE}:
        assert all(ADMITS[role][phase][number] != Verdict.ADMIT for number in range(50, 80))


@pytest.mark.parametrize("phase", Phase)
def test_a_server_never_takes_what_only_servers_say(phase: Phase) -> None:
    for number in (SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER):
        assert ADMITS[Role.SERVER][phase][number] == Verdict.REFUSE
