"""What a key in an agent may be used for: constraints, as values and as they stand behind a key that is added.

Source: draft-ietf-sshm-ssh-agent; OpenSSH PROTOCOL.agent for ``restrict-destination``, whose reserved fields only
OpenSSH's authfd.c tells of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.patterns import LONGEST
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.wire.fields import STRING, Byte, Rest, String, Structure, Text, structure
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

SECURITY_KEY_PROVIDER: Final = "sk-provider@openssh.com"
RESTRICT_DESTINATION: Final = "restrict-destination-v00@openssh.com"

#: Destinations of one key, and keys of one hop: more than anyone writes down, and few enough to be looked through.
MAX_DESTINATIONS: Final = 256
MAX_HOP_KEYS: Final = 64


@attrs.frozen
class AgentHop:
    """A host on the way to a destination, as a key's constraint names it.

    Attributes:
        hostname: for people; what counts are the keys.
        host_keys: the keys of which the host must own one.
        authorities: keys whose host certificates for `hostname` will do as well.
        username: as whom one may log in there, as a pattern; empty for anyone.
    """

    hostname: str
    host_keys: Sequence[PublicKey] = ()
    authorities: Sequence[PublicKey] = ()
    username: str = ""


@attrs.frozen
class AgentDestination:
    """Where a key may be used: to log in to `to` from `origin`, or from the agent's own host if that is None."""

    to: AgentHop
    origin: AgentHop | None = None


@attrs.frozen(kw_only=True)
class Constraints:
    """What a key that is added may be used for.

    Attributes:
        lifetime: seconds after which it is forgotten; None for never.
        confirm: a person is asked before each signature.
        max_signatures: after which it is forgotten; None for no limit.
        destinations: where it may be used; None for everywhere.
    """

    lifetime: int | None = None
    confirm: bool = False
    max_signatures: int | None = None
    destinations: tuple[AgentDestination, ...] | None = None


NO_CONSTRAINTS: Final = Constraints()

_LIFETIME, _CONFIRM, _MAX_SIGNATURES, _EXTENSION = 1, 2, 3, 255


@structure
class _ConstraintHop(Structure):
    username: Text
    hostname: Text
    reserved: String
    keys: Rest


@structure
class _Constraint(Structure):
    origin: String
    to: String
    reserved: String


@structure
class _HopKey(Structure):
    blob: String
    is_authority: Byte


def write_constraints(constraints: Constraints, *, provider: str | None = None) -> bytes:
    """Return what stands behind the comment of a key that is added.

    Args:
        provider: the library by which the agent reaches a key in hardware; None for a key that is not.
    """
    content = Message()
    if constraints.lifetime is not None:
        content.add_byte(_LIFETIME).add_int(constraints.lifetime)
    if constraints.confirm:
        content.add_byte(_CONFIRM)
    if constraints.max_signatures is not None:
        content.add_byte(_MAX_SIGNATURES).add_int(constraints.max_signatures)
    if constraints.destinations is not None:
        listed = Message()
        for destination in constraints.destinations:
            origin = destination.origin or AgentHop("")
            listed.add_string(_Constraint(_write_hop(origin), _write_hop(destination.to), b"").encode())
        content.add_byte(_EXTENSION).add_string(RESTRICT_DESTINATION).add_string(listed.asbytes())
    if provider is not None:
        content.add_byte(_EXTENSION).add_string(SECURITY_KEY_PROVIDER).add_string(provider)
    return content.asbytes()


def _write_hop(hop: AgentHop) -> bytes:
    keys = b"".join(
        _HopKey(key.blob, is_authority).encode()
        for is_authority, listed in enumerate((hop.host_keys, hop.authorities))
        for key in listed
    )
    return _ConstraintHop(hop.username, hop.hostname, b"", keys).encode()


def read_constraints(data: bytes) -> Constraints:
    """Read what stands behind the comment of a key that is added.

    Raises:
        RemoteProtocolError: it is malformed; or a constraint is unknown, and therefore can't be kept; or comes twice.
    """
    content = Message(data)
    lifetime: int | None = None
    max_signatures: int | None = None
    destinations: tuple[AgentDestination, ...] | None = None
    seen: set[int] = set()
    while content.get_remainder():
        kind = content.get_byte()[0]
        if kind in seen:
            raise RemoteProtocolError(f"the constraint {kind} comes twice")
        seen.add(kind)
        match kind:
            case 1:
                lifetime = content.get_int()
            case 2:
                pass
            case 3:
                max_signatures = content.get_int()
            case 255:
                name = content.get_text()
                if name != RESTRICT_DESTINATION:
                    raise RemoteProtocolError(f"the constraint {printable(name, 64)!r} is not supported")
                destinations = _read_destinations(content.get_string())
            case _:
                raise RemoteProtocolError(f"the constraint {kind} is not supported")
    return Constraints(
        lifetime=lifetime, confirm=_CONFIRM in seen, max_signatures=max_signatures, destinations=destinations
    )


def _read_destinations(data: bytes) -> tuple[AgentDestination, ...]:
    found: list[AgentDestination] = []
    offset = 0
    while offset < len(data):
        if len(found) >= MAX_DESTINATIONS:
            raise RemoteProtocolError(f"a key for more than {MAX_DESTINATIONS} destinations")
        listed, offset = STRING.read(data, offset)
        constraint = _Constraint.decode(listed)
        if constraint.reserved:
            raise RemoteProtocolError("a destination with something that is not known yet")
        origin, to = _read_hop(constraint.origin), _read_hop(constraint.to)
        if origin.username:
            raise RemoteProtocolError("a destination that depends on the user whom one comes from")
        has_origin_keys = bool(origin.host_keys or origin.authorities)
        if bool(origin.hostname) != has_origin_keys:
            raise RemoteProtocolError("an origin needs a name and keys, or neither")
        if not to.hostname or not (to.host_keys or to.authorities):
            raise RemoteProtocolError("a destination needs a name and keys")
        found.append(AgentDestination(to, origin if has_origin_keys else None))
    if not found:
        raise RemoteProtocolError("a key for no destination at all")
    return tuple(found)


def _read_hop(data: bytes) -> AgentHop:
    hop = _ConstraintHop.decode(data)
    if hop.reserved:
        raise RemoteProtocolError("a hop with something that is not known yet")
    # Both are matched with patterns, in time that is the product of the lengths.
    if max(len(hop.hostname), len(hop.username)) > LONGEST:
        raise RemoteProtocolError(f"a hop whose names have more than {LONGEST} characters")
    host_keys: list[PublicKey] = []
    authorities: list[PublicKey] = []
    offset = 0
    while offset < len(hop.keys):
        if len(host_keys) + len(authorities) >= MAX_HOP_KEYS:
            raise RemoteProtocolError(f"a hop with more than {MAX_HOP_KEYS} keys")
        blob, offset = STRING.read(hop.keys, offset)
        if offset >= len(hop.keys):
            raise RemoteProtocolError("a message ends inside a hop's key")
        (authorities if hop.keys[offset] else host_keys).append(parse_public_key(blob))
        offset += 1
    return AgentHop(hop.hostname, tuple(host_keys), tuple(authorities), hop.username)
