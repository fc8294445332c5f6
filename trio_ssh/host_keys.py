"""What a client does with a server whose key it doesn't know: policies, with paramiko's names.

A policy is asked only about keys that are unknown, and whose owner has proven to have them.  A *changed* or *revoked*
key never comes here: it is refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import trio

from trio_ssh.errors import UnknownHostKeyException
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.keys.public_key import PublicKey

_log = logging.getLogger("trio_ssh.client")


class KnowsHosts(Protocol):
    """What a policy may use of the client that asks it."""

    def get_host_keys(self) -> HostKeys:
        """Return the keys that belong to this client."""
        ...

    async def save_host_keys(self, filename: str | Path | None = None) -> None:
        """Write them to the file that they were loaded from."""

    @property
    def host_keys_filename(self) -> Path | None:
        """The file that they were loaded from, if any."""


class MissingHostKeyPolicy:
    """Decides about a server whose key is unknown."""

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> Awaitable[None] | None:
        """Return to accept the key, raise to refuse it.  It may be async.

        Args:
            client: the client that connects.
            hostname: as known_hosts spells it: ``host``, or ``[host]:port`` where the port is not 22.
            key: the key that the server has proven to own.
        """
        raise UnknownHostKeyException(hostname, key.key_type, key.fingerprint())


class RejectPolicy(MissingHostKeyPolicy):
    """Refuse: the default."""


class AutoAddPolicy(MissingHostKeyPolicy):
    """Accept, remember, and save where the client's keys were loaded from.

    Whoever stands between at the *first* connection is trusted ever after.
    """

    async def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Accept."""
        client.get_host_keys().add(hostname, None, key)
        _log.info("added the host key of %s: %s %s", hostname, key.key_type, key.fingerprint())
        if client.host_keys_filename is not None:
            await client.save_host_keys()
        else:
            await trio.lowlevel.checkpoint()


class WarningPolicy(MissingHostKeyPolicy):
    """Accept with a warning, and forget."""

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Accept."""
        warnings.warn(
            f"the host key of {hostname} is unknown: {key.key_type} {key.fingerprint()}. It was accepted unseen.",
            stacklevel=2,
        )
