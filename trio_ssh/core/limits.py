"""Every bound on what a peer may choose, in one frozen object.

The defaults are OpenSSH's where it has one.  A limit is checked where the number is counted, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

KIB: Final = 1024
MIB: Final = 1024 * KIB


def repr_of_changes(limits: attrs.AttrsInstance) -> str:
    """Write what is not as by default: of some forty numbers, the rest says nothing."""
    kind = type(limits)
    defaults: dict[str, object] = {field.name: field.default for field in attrs.fields(kind)}
    changes = [
        f"{name}={getattr(limits, name)!r}" for name, default in defaults.items() if getattr(limits, name) != default
    ]
    return f"{kind.__name__}({', '.join(changes)})"


def check_limits(limits: attrs.AttrsInstance) -> None:
    """Look at whether each is a number of its default's kind.

    Raises:
        TypeError, ValueError: one is not.
    """
    kind = type(limits)
    for field in attrs.fields(kind):
        value: object = getattr(limits, field.name)
        text = f"{kind.__name__}({field.name}=...) is"
        if isinstance(field.default, tuple):
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise TypeError(f"{text} a sequence of networks, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int if isinstance(field.default, int) else int | float):
            wanted = "an int" if isinstance(field.default, int) else "a number"
            raise TypeError(f"{text} {wanted}, not {value!r}")
        elif not value >= 0:
            raise ValueError(f"{text} not negative, as {value!r} is")


@attrs.frozen(kw_only=True)
class Limits:
    """What a peer may make us hold, count or wait for.  All sizes are bytes, all times seconds."""

    #: RFC 4253 s4.2: the version line, without CR LF.
    version_line_bytes: int = 255
    #: Lines, and bytes of all lines, that a client reads before the version line.  A server reads none.
    lines_before_version: int = 1024
    bytes_before_version: int = 8 * KIB

    #: ``packet_length`` of RFC 4253 s6, as OpenSSH's PACKET_MAX_SIZE.  Also the bound of an inflated payload.
    packet_bytes: int = 256 * KIB
    #: Input kept while a question is open.
    paused_input_bytes: int = 512 * KIB
    #: All that comes before the login is complete: versions, key exchange, banners, attempts.
    login_bytes: int = 2 * MIB
    #: Sealed and held output, replies included, beyond which nothing more is read.
    queued_output_bytes: int = 2 * MIB

    #: Extensions in one EXT_INFO.
    extension_count: int = 1024
    #: Banners, and bytes of all banners.
    banner_count: int = 32
    banner_bytes: int = 64 * KIB

    #: Channels at once, theirs and ours, and sessions among theirs.  A peer that wants another is held to those, too,
    #: that are closed and not read to the end.
    channels: int = 256
    sessions: int = 10
    #: Ports at once at which a server listens for one client.
    forwarded_ports: int = 64
    #: Connections at a port that is forwarded to us that nobody has accepted yet; the next is refused.
    forwarded_backlog: int = 64
    #: From a connection at a port that serves SOCKS to the end of what its client asks for.
    socks_seconds: float = 30.0
    #: Requests on one channel, or on the connection, that we have not answered yet.  More than `environment_names`,
    #: which clients send all at once.
    unanswered_requests: int = 256
    #: Bytes of all that a connection's peer asks and nobody has answered yet: requests, openings, global requests.
    unanswered_bytes: int = 1 * MIB
    #: Received bytes that wait for a reader: of a new channel, of one that has long kept up, and of all channels.
    initial_window_bytes: int = 3 * MIB
    largest_window_bytes: int = 16 * MIB
    all_windows_bytes: int = 64 * MIB
    #: Data of one packet that we let the peer send; less where `packet_bytes` is too small for it.
    channel_packet_bytes: int = 128 * KIB

    #: New keys after so much of either direction, or so long.  From then on we send nothing else until they are there;
    #: a peer that goes on without is disconnected at twice the counts, and what all windows hold, which may be on its
    #: way.
    rekey_bytes: int = 1024 * MIB
    rekey_packets: int = 2**31
    rekey_seconds: float = 3600.0
    #: How long a read of a socket polls before it sleeps, where each side waits for the other's short messages and that
    #: makes them faster: 0.001 at the most, 0 for never.
    busy_poll_seconds: float = 0.0005
    #: From the beginning of a later key exchange to its end; the first is part of the login.
    exchange_seconds: float = 120.0
    #: Exchanges in a row that a peer may begin although hardly anything, 64 KiB, has passed under the keys in use.  Two
    #: a second are not counted.
    hasty_exchanges: int = 64

    #: From accept to the end of authentication; for a client, unless the caller's own scope is shorter.
    login_seconds: float = 120.0
    #: Failed attempts, and requests of any outcome.
    auth_attempts: int = 6
    auth_requests: int = 128
    #: The least time between a failed attempt's arrival and its answer.
    auth_failure_seconds: float = 0.01
    #: A user name, and a password.
    user_name_bytes: int = 1 * KIB
    password_bytes: int = 16 * KIB
    #: Prompts of one keyboard-interactive round, bytes of a round, and rounds of one attempt.
    interactive_prompts: int = 16
    interactive_bytes: int = 64 * KIB
    interactive_rounds: int = 32

    #: Connections that are not logged in: beyond `begin` some are refused at random, `rate` percent at first; at
    #: `full`, all.
    startups_begin: int = 10
    startups_rate: int = 30
    startups_full: int = 100
    #: The same of one source: an IPv4 address, or an IPv6 network of 64 bits.
    startups_per_source: int = 50

    #: What a connection that ends without a login costs its source: because an attempt failed, without any attempt,
    #: because its time was up, or because it was turned away.
    penalty_failed_login_seconds: float = 5.0
    penalty_no_login_seconds: float = 1.0
    penalty_late_login_seconds: float = 10.0
    penalty_refused_seconds: float = 1.0
    #: From when on a source is refused, at what its penalties end (0 turns them off), and how many are remembered.
    penalty_begin_seconds: float = 15.0
    penalty_most_seconds: float = 600.0
    penalty_sources: int = 10_000
    #: Networks that pay nothing.  This machine's own users would pay for each other.
    penalty_exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")

    #: A session's environment, as a client may set it.
    environment_names: int = 128
    environment_bytes: int = 32 * KIB

    def __repr__(self) -> str:
        return repr_of_changes(self)

    def __attrs_post_init__(self) -> None:
        """Refuse what is no such number, where it is given; see `check_limits`."""
        check_limits(self)


DEFAULT_LIMITS: Final = Limits()


def as_limits(value: object) -> Limits:
    """Return what was given as ``limits=``.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, Limits):
        raise TypeError(f"limits= takes a trio_ssh.Limits(...), not {value!r}")
    return value
