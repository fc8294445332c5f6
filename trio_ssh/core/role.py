"""Client or server: the one thing about a connection that its core is told and most of it doesn't look at."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """Which side of the connection we are."""

    CLIENT = "client"
    SERVER = "server"
