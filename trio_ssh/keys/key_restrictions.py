"""`KeyRestrictions`: what a login may not do, because the line or the certificate that let it in says so.

Restrictions only ever add up: of two that apply, whatever either forbids is forbidden.

Source: OpenSSH's auth-options.c, for what sshd(8) leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Final, Self, TypeVar

import attrs

from trio_ssh.errors import CertificateException
from trio_ssh.keys import patterns
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import Network, networks

T = TypeVar("T")

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen
class ForwardingPermit:
    """One place that ``permitopen`` or ``permitlisten`` lets be forwarded to, or from.

    Attributes:
        host: a name or address; of ``permitlisten`` a pattern.
        port: None for any.
    """

    host: str
    port: int | None


@attrs.frozen(kw_only=True)
class KeyRestrictions:
    """What a login may do.  The default is everything.

    Attributes:
        pty, port_forwarding, agent_forwarding, x11_forwarding, user_rc: what is granted of what its name says.
        force_command: what runs in place of whatever was asked for; the client's wish is in ``$SSH_ORIGINAL_COMMAND``.
        environment: variables for sessions; a server takes them only where its ``permit_user_environment`` says so.
        permit_open: where connections may be opened to; None for anywhere.
        permit_listen: where the client may have us listen; None for anywhere.
        tunnel: the device that the line names.  There are no tunnels here: it forbids them.
        valid_before: seconds since the epoch behind which there is no login; None for never.
        from_patterns: addresses, networks and host names that a login may come from, with ``!`` those it may not.
        source_addresses: networks that a certificate lets a login come from.
        allow_untouched: whether a security key need not have been touched.
        require_verification: whether a security key must have verified its user.
    """

    pty: bool = True
    port_forwarding: bool = True
    agent_forwarding: bool = True
    x11_forwarding: bool = True
    user_rc: bool = True
    force_command: str | None = None
    environment: Mapping[str, str] = attrs.field(default=_NOTHING, repr=False)
    permit_open: tuple[ForwardingPermit, ...] | None = None
    permit_listen: tuple[ForwardingPermit, ...] | None = None
    tunnel: str | None = None
    valid_before: int | None = None
    from_patterns: tuple[str, ...] | None = None
    source_addresses: tuple[Network, ...] | None = None
    allow_untouched: bool = False
    require_verification: bool = False

    @classmethod
    def of_certificate(cls, certificate: Certificate) -> Self:
        """Return what a user's certificate says of whoever shows it."""
        granted = certificate.permissions
        return cls(
            pty=granted.pty,
            port_forwarding=granted.port_forwarding,
            agent_forwarding=granted.agent_forwarding,
            x11_forwarding=granted.x11_forwarding,
            user_rc=granted.user_rc,
            force_command=certificate.force_command,
            source_addresses=certificate.source_addresses,
            allow_untouched=granted.no_touch_required,
            require_verification=certificate.verify_required,
        )

    def merged(self, other: Self) -> Self:
        """Return what both of them grant.

        Raises:
            CertificateException: each forces another command.
        """
        commands = {self.force_command, other.force_command} - {None}
        if len(commands) > 1:
            raise CertificateException("two different commands are forced, so that neither can be run")
        return attrs.evolve(
            self,
            pty=self.pty and other.pty,
            port_forwarding=self.port_forwarding and other.port_forwarding,
            agent_forwarding=self.agent_forwarding and other.agent_forwarding,
            x11_forwarding=self.x11_forwarding and other.x11_forwarding,
            user_rc=self.user_rc and other.user_rc,
            force_command=next(iter(commands), None),
            environment=MappingProxyType({**other.environment, **self.environment}),
            permit_open=_both(self.permit_open, other.permit_open, _common),
            permit_listen=_both(self.permit_listen, other.permit_listen, _common),
            tunnel=self.tunnel if self.tunnel is not None else other.tunnel,
            valid_before=_both(self.valid_before, other.valid_before, min),
            from_patterns=self.from_patterns if self.from_patterns is not None else other.from_patterns,
            source_addresses=_both(self.source_addresses, other.source_addresses, _common),
            allow_untouched=self.allow_untouched and other.allow_untouched,
            require_verification=self.require_verification or other.require_verification,
        )

    def objection(self, *, now: float, address: str | None, hostname: str | None = None) -> str:
        """Return why nobody may log in from there now; empty if somebody may.

        Args:
            now: seconds since the epoch.
            address: where the login comes from, as numbers; None where that isn't known.
            hostname: its name, if it was looked up and checked; names in ``from`` match nothing else.
        """
        if self.valid_before is not None and self.valid_before < now:
            return "its expiry-time is over"
        if self.from_patterns is None and self.source_addresses is None:
            return ""
        source = plain_address(address)
        if source is None:
            return "it is bound to addresses, and where the login comes from is not known"
        if self.from_patterns is not None and not _is_from(self.from_patterns, source, hostname):
            return f"it is not for logins from {source}"
        if self.source_addresses is not None and not any(source in network for network in self.source_addresses):
            return f"it is not for logins from {source}"
        return ""

    def permits_open(self, host: str, port: int | None) -> bool:
        """Tell whether a connection may be opened to there; a port of None is a socket in the file system."""
        if not self.port_forwarding:
            return False
        return self.permit_open is None or any(
            permit.port in (None, port) and permit.host in ("*", host) for permit in self.permit_open
        )

    def permits_listen(self, host: str, port: int | None) -> bool:
        """Tell whether the client may have us listen there; a port of None is a socket in the file system."""
        if not self.port_forwarding:
            return False
        if self.permit_listen is None:
            return True
        return port is not None and any(
            permit.port in (None, port) and patterns.matches(permit.host, host.lower()) for permit in self.permit_listen
        )


def _both(one: T | None, other: T | None, of_two: Callable[[T, T], T]) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return of_two(one, other)


def _common(one: tuple[T, ...], other: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(each for each in one if each in other)


def plain_address(text: str | None) -> IPv4Address | IPv6Address | None:
    """Read an address as a socket tells it; None for what is none."""
    if text is None:
        return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket that takes both families shows a client of the old one so.
    return getattr(address, "ipv4_mapped", None) or address


def as_network(pattern: str) -> Network | None:
    """Read an entry of a ``from`` list as an address or a network; None for a pattern of names.

    Raises:
        ValueError: it is a network with bits behind its mask, or a mask that is too long.
    """
    head, slash, length = pattern.partition("/")
    try:
        ip_address(head)
    except ValueError:
        return None
    if slash and not (length.isascii() and length.isdecimal()):
        return None
    return networks([pattern])[0]


def _is_from(wanted: Sequence[str], source: IPv4Address | IPv6Address, hostname: str | None) -> bool:
    """Tell whether a login from there is meant.  A ``!`` that matches decides, wherever it stands."""
    # Without a name the address stands in for it, as for sshd with ``UseDNS no``.
    texts = {str(source), (hostname or str(source)).lower()}
    is_meant = False
    for entry in wanted:
        is_negated = entry.startswith("!")
        pattern = entry[1:] if is_negated else entry
        network = as_network(pattern)
        if network is not None:
            found = source in network
        else:
            found = any(patterns.matches(pattern.lower(), text) for text in texts)
        if found and is_negated:
            return False
        is_meant = is_meant or found
    return is_meant
