"""RFC 4253 section 7.1: choosing algorithms from two KEXINITs.

Pure functions of two messages.  Nothing is ever picked that we did not enable ourselves, and the order that counts is
the client's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import attrs

from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.errors import IncompatiblePeer
from trio_ssh.keys.certification import certificate_name, plain_algorithm
from trio_ssh.wire.transport import KexInit

STRICT_CLIENT: Final = "kex-strict-c-v00@openssh.com"
STRICT_SERVER: Final = "kex-strict-s-v00@openssh.com"
EXT_INFO_CLIENT: Final = "ext-info-c"
EXT_INFO_SERVER: Final = "ext-info-s"
#: What is kept of a peer's wishes that were not met: it is kept as long as the connection lasts.  RFC 4251 s6 has no
#: longer names.
_NAMES_KEPT: Final = 16
_NAME_BYTES: Final = 64
#: RFC 4462 s5: the host key algorithm of a server that shows no host key, because GSS-API vouches for it.
NULL_HOST_KEY: Final = "null"
#: How the names of key exchange methods begin in which GSS-API signs: RFC 4462 s2.
GSS_PREFIX: Final = "gss-"
_MARKERS: Final = frozenset((STRICT_CLIENT, STRICT_SERVER, EXT_INFO_CLIENT, EXT_INFO_SERVER))


def _as_for_hosts(algorithms: Algorithms) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(plain_algorithm, algorithms.host_keys)))


def _with_certificates(algorithms: Algorithms) -> tuple[str, ...]:
    if "pubkeys" in algorithms.names_certificates:
        return algorithms.pubkeys
    return (*map(certificate_name, algorithms.pubkeys), *algorithms.pubkeys)


@attrs.frozen(kw_only=True)
class Algorithms:
    """What one side enables, best first, by wire name.

    Attributes:
        pubkeys: of users' signatures; the same as of hosts' unless they are given.
        names_certificates: those of ``"host_keys"`` and ``"pubkeys"`` in which the algorithms of certificates stand one
            by one, or don't.  In the others each name stands for its certificate's as well.
        every_pubkey: the algorithms of users' signatures, those of certificates in front.
    """

    kex: tuple[str, ...] = defaults.KEX
    host_keys: tuple[str, ...] = defaults.HOST_KEYS
    ciphers: tuple[str, ...] = defaults.CIPHERS
    macs: tuple[str, ...] = defaults.MACS
    compressions: tuple[str, ...] = defaults.COMPRESSIONS
    pubkeys: tuple[str, ...] = attrs.field(default=attrs.Factory(_as_for_hosts, takes_self=True))
    names_certificates: frozenset[str] = frozenset()
    every_pubkey: tuple[str, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_with_certificates, takes_self=True)
    )


@attrs.frozen
class DirectionChoice:
    """What protects one direction; `mac` is empty where the cipher authenticates by itself."""

    cipher: str
    mac: str
    compression: str


@attrs.frozen
class PassedOver:
    """What stood before a choice in either list.

    Attributes:
        peer_lacks: ours that the peer has not enabled.
        we_lack: the peer's that we have not enabled; a client doesn't care.
        outvoted: ours that both have, and that the client wants less.
    """

    peer_lacks: tuple[str, ...] = ()
    we_lack: tuple[str, ...] = ()
    outvoted: tuple[str, ...] = ()


@attrs.frozen
class Negotiated:
    """What two KEXINITs agree on.

    Attributes:
        guess_was_wrong: the peer sent a first kex packet for another method, which must be dropped unread.
        passed_over: by kind, and by whose packets it concerns (None for both's): nothing where the first choice of
            both was the same.
    """

    kex: str
    host_key_algorithm: str
    client_to_server: DirectionChoice
    server_to_client: DirectionChoice
    guess_was_wrong: bool
    passed_over: Mapping[tuple[str, Role | None], PassedOver] = attrs.field(
        factory=dict[tuple[str, Role | None], PassedOver], eq=False, repr=False
    )


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


def negotiate_payloads(role: Role, ours: bytes, theirs: bytes) -> tuple[tuple[str, ...], Negotiated]:
    """Read the peer's KEXINIT; return its names of key exchange methods, markers among them, and what both agree on.

    Raises:
        RemoteProtocolError: the peer's is malformed.
        IncompatiblePeer: there is nothing in common of some kind.
    """
    agree = _agree if len(theirs) <= _REMEMBERED_BYTES else _agree.__wrapped__
    return agree(role, ours[_LISTS_BEGIN:], theirs[_LISTS_BEGIN:])


#: Where a payload has its name-lists, behind its number and its cookie.
_LISTS_BEGIN: Final = 17

#: What a peer sent is remembered only where it is short.
_REMEMBERED_BYTES: Final = 4096


@lru_cache(maxsize=16)
def _agree(role: Role, ours: bytes, theirs: bytes) -> tuple[tuple[str, ...], Negotiated]:
    """As `negotiate_payloads`.  Measured: 3 % of a login's CPU, and it is the same for each connection to a server."""
    head = bytes((KexInit.NUMBER,)).ljust(_LISTS_BEGIN, b"\0")
    read = KexInit.from_payload(head + theirs)
    return read.kex_algorithms, negotiate(role, KexInit.from_payload(head + ours), read)


def negotiate(role: Role, ours: KexInit, theirs: KexInit) -> Negotiated:
    """Choose: of each kind, the client's first that the server has too.

    Raises:
        IncompatiblePeer: there is none of some kind.
    """
    is_client = role is Role.CLIENT
    client, server = (ours, theirs) if is_client else (theirs, ours)
    passed_over: dict[tuple[str, Role | None], PassedOver] = {}

    def pick(kind: str, setting: str, wanted: Sequence[str], offered: Sequence[str], sender: Role | None = None) -> str:
        for name in wanted:
            if name in offered and name not in _MARKERS:
                if name != wanted[0] or name != offered[0]:
                    passed_over[kind, sender] = _passed_over(is_client, name, wanted, offered)
                return name
        mine, other = (wanted, offered) if is_client else (offered, wanted)
        raise IncompatiblePeer(kind, _algorithms(mine), _algorithms(other), setting)

    def direction(sender: Role, cipher_lists: Lists, mac_lists: Lists, compression_lists: Lists) -> DirectionChoice:
        cipher = pick("cipher", "ciphers", *cipher_lists, sender)
        mac = "" if CIPHERS[cipher].is_aead else pick("MAC", "macs", *mac_lists, sender)
        return DirectionChoice(cipher, mac, pick("compression", "compressions", *compression_lists, sender))

    kex = pick("key exchange", "kex", client.kex_algorithms, server.kex_algorithms)
    host_key = pick(
        "host key", "host_key_algorithms", client.server_host_key_algorithms, server.server_host_key_algorithms
    )
    if host_key == NULL_HOST_KEY and not kex.startswith(GSS_PREFIX):
        # Nobody would sign: RFC 4462 s5 has it for GSS-API alone.
        raise IncompatiblePeer("host key", [NULL_HOST_KEY], [NULL_HOST_KEY], "host_key_algorithms")
    guess_was_right = (
        theirs.kex_algorithms[:1] == ours.kex_algorithms[:1]
        and theirs.server_host_key_algorithms[:1] == ours.server_host_key_algorithms[:1]
    )
    return Negotiated(
        kex,
        host_key,
        direction(
            Role.CLIENT,
            (client.encryption_client_to_server, server.encryption_client_to_server),
            (client.mac_client_to_server, server.mac_client_to_server),
            (client.compression_client_to_server, server.compression_client_to_server),
        ),
        direction(
            Role.SERVER,
            (client.encryption_server_to_client, server.encryption_server_to_client),
            (client.mac_server_to_client, server.mac_server_to_client),
            (client.compression_server_to_client, server.compression_server_to_client),
        ),
        theirs.first_kex_packet_follows and not guess_was_right,
        passed_over,
    )


def _algorithms(names: Sequence[str]) -> list[str]:
    """Leave out what only looks like an algorithm."""
    return [name for name in names if name not in _MARKERS]


def _passed_over(is_client: bool, name: str, wanted: Sequence[str], offered: Sequence[str]) -> PassedOver:
    """Say what stood before `name`, in the client's list and in the server's."""
    before = _algorithms(wanted[: wanted.index(name)])  # the server has none of them
    if is_client:
        return PassedOver(peer_lacks=tuple(before))
    ours = _algorithms(offered[: offered.index(name)])
    return PassedOver(
        peer_lacks=tuple(other for other in ours if other not in wanted),
        we_lack=tuple(other for other in before if len(other) <= _NAME_BYTES)[:_NAMES_KEPT],
        outvoted=tuple(other for other in ours if other in wanted),
    )


Lists = tuple[Sequence[str], Sequence[str]]


def is_strict(role: Role, their_kex: Sequence[str]) -> bool:
    """Does the peer's first KEXINIT carry the marker of strict key exchange?  Ours always does."""
    return (STRICT_SERVER if role is Role.CLIENT else STRICT_CLIENT) in their_kex
