"""What a channel needs of its connection, so that it can be read and tested without it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import trio

from trio_ssh.core.connection import Connection


class Link(ABC):
    """A connection, seen from one of its channels.  `Transport` is the one that exists."""

    #: The sealed core; only while the connection lasts.
    _core: Connection
    #: Where senders wait for the outbox to drain.
    _room: trio.lowlevel.ParkingLot

    @abstractmethod
    def _flush(self) -> None:
        """Something was sealed: wake the writer."""

    @abstractmethod
    def _lost(self) -> Exception:
        """Make the exception for whoever finds the connection over."""

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
    def getpeername(self) -> object:
        """Return the peer's address as its socket tells it, or None where the stream has none."""
