"""RFC 4253 section 7.1: choosing algorithms from two KEXINITs.

Pure functions of two messages.  Nothing is ever picked that we did not enable ourselves, and the order that counts is
the client's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.errors import IncompatiblePeer
from trio_ssh.wire.transport import KexInit

STRICT_CLIENT: Final = "kex-strict-c-v00@openssh.com"
STRICT_SERVER: Final = "kex-strict-s-v00@openssh.com"
EXT_INFO_CLIENT: Final = "ext-info-c"
EXT_INFO_SERVER: Final = "ext-info-s"
_MARKERS: Final = frozenset((STRICT_CLIENT, STRICT_SERVER, EXT_INFO_CLIENT, EXT_INFO_SERVER))


@attrs.frozen(kw_only=True)
class Algorithms:
    """What one side enables, best first, by wire name."""

    kex: tuple[str, ...] = defaults.KEX
    host_keys: tuple[str, ...] = defaults.HOST_KEYS
    ciphers: tuple[str, ...] = defaults.CIPHERS
    macs: tuple[str, ...] = defaults.MACS
    compressions: tuple[str, ...] = defaults.COMPRESSIONS


@attrs.frozen
class DirectionChoice:
    """What protects one direction; `mac` is empty where the cipher authenticates by itself."""

    cipher: str
    mac: str
    compression: str


@attrs.frozen
class Negotiated:
    """What two KEXINITs agree on.

    Attributes:
        guess_was_wrong: the peer sent a first kex packet for another method, which must be dropped unread.
    """

    kex: str
    host_key_algorithm: str
    client_to_server: DirectionChoice
    server_to_client: DirectionChoice
    guess_was_wrong: bool


def kexinit(role: Role, algorithms: Algorithms, cookie: bytes, *, is_first_exchange: bool) -> KexInit:
    """Say what we can.  The markers of strict key exchange and EXT_INFO count in the first exchange only."""
    kex = algorithms.kex
    if is_first_exchange:
        kex += (EXT_INFO_CLIENT, STRICT_CLIENT) if role is Role.CLIENT else (STRICT_SERVER,)
    return KexInit(
        cookie,
        kex,
        algorithms.host_keys,
        algorithms.ciphers,
        algorithms.ciphers,
        algorithms.macs,
        algorithms.macs,
        algorithms.compressions,
        algorithms.compressions,
        (),
        (),
        False,
        0,
    )


def negotiate(role: Role, ours: KexInit, theirs: KexInit) -> Negotiated:
    """Choose: of each kind, the client's first that the server has too.

    Raises:
        IncompatiblePeer: there is none of some kind.
    """
    client, server = (ours, theirs) if role is Role.CLIENT else (theirs, ours)

    def pick(kind: str, setting: str, wanted: Sequence[str], offered: Sequence[str]) -> str:
        for name in wanted:
            if name in offered and name not in _MARKERS:
                return name
        mine, other = (wanted, offered) if role is Role.CLIENT else (offered, wanted)
        raise IncompatiblePeer(
            kind,
            [name for name in mine if name not in _MARKERS],
            [name for name in other if name not in _MARKERS],
            setting,
        )

    def direction(cipher_lists: Lists, mac_lists: Lists, compression_lists: Lists) -> DirectionChoice:
        cipher = pick("cipher", "ciphers", *cipher_lists)
        mac = "" if CIPHERS[cipher].is_aead else pick("MAC", "macs", *mac_lists)
        return DirectionChoice(cipher, mac, pick("compression", "compressions", *compression_lists))

    kex = pick("key exchange", "kex", client.kex_algorithms, server.kex_algorithms)
    host_key = pick(
        "host key", "host_key_algorithms", client.server_host_key_algorithms, server.server_host_key_algorithms
    )
    guess_was_right = (
        theirs.kex_algorithms[:1] == ours.kex_algorithms[:1]
        and theirs.server_host_key_algorithms[:1] == ours.server_host_key_algorithms[:1]
    )
    return Negotiated(
        kex,
        host_key,
        direction(
            (client.encryption_client_to_server, server.encryption_client_to_server),
            (client.mac_client_to_server, server.mac_client_to_server),
            (client.compression_client_to_server, server.compression_client_to_server),
        ),
        direction(
            (client.encryption_server_to_client, server.encryption_server_to_client),
            (client.mac_server_to_client, server.mac_server_to_client),
            (client.compression_server_to_client, server.compression_server_to_client),
        ),
        theirs.first_kex_packet_follows and not guess_was_right,
    )


Lists = tuple[Sequence[str], Sequence[str]]


def is_strict(role: Role, theirs: KexInit) -> bool:
    """Does the peer's first KEXINIT carry the marker of strict key exchange?  Ours always does."""
    return (STRICT_SERVER if role is Role.CLIENT else STRICT_CLIENT) in theirs.kex_algorithms
