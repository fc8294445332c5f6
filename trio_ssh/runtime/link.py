"""What a channel tells of its connection: the part of `Transport` that ``channel.get_transport()`` returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from trio_ssh.wire.text import printable

#: Where a peer is, as its socket tells it: host and port, and of IPv6 two numbers more; or the path of a UNIX socket.
PeerAddress = tuple[str, int] | tuple[str, int, int, int] | str | bytes


def shown_address(peer: PeerAddress | None) -> str:
    """Return an address in sshd's words, for the log."""
    if isinstance(peer, tuple):
        return f"{printable(peer[0], 64)} port {peer[1]}"
    return "an unknown address"


class Link(ABC):
    """A connection, seen from one of its channels.  `Transport` is the one that exists."""

    @abstractmethod
    def is_active(self) -> bool:
        """Tell whether the connection is negotiated and lasts."""

    @abstractmethod
    def is_authenticated(self) -> bool:
        """Tell whether the connection is active and a user is logged in."""

    @abstractmethod
    def get_username(self) -> str | None:
        """Return the user's name, once there is one."""

    @abstractmethod
    def _serve_channels(self, kind: str, serve: Callable[[Any], Awaitable[None]]) -> Callable[[], None]:
        """Grant channels of this kind from now on, and serve each with a function of it, the latest that was given."""

    @abstractmethod
    def getpeername(self) -> PeerAddress | None:
        """Return the peer's address as its socket tells it, or None where the stream has none."""
