"""What a channel tells of its connection: the part of `Transport` that ``channel.get_transport()`` returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any


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
    def getpeername(self) -> object:
        """Return the peer's address as its socket tells it, or None where the stream has none."""
