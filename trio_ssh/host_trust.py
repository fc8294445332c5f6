"""Which hosts a client believes: `HostTrust`, the part of `SSHClient` that keeps its host keys and its policy."""

from __future__ import annotations

from pathlib import Path

import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.config.trust import KnownHosts, load_known_hosts, policy_of, read_known_hosts
from trio_ssh.host_keys import MissingHostKeyPolicy, RejectPolicy
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.runtime.arguments import paths_of


class HostTrust:
    """A client's host keys, and what it does about others; see `SSHClient`."""

    def __init__(self) -> None:
        self._policy: MissingHostKeyPolicy | None = None
        self._system_host_keys = HostKeys()
        self._host_keys = HostKeys()
        self._host_keys_filename: Path | None = None
        self._has_loaded_keys = False

    def set_missing_host_key_policy(self, policy: MissingHostKeyPolicy | type[MissingHostKeyPolicy]) -> None:
        """Decide what happens with servers whose key is unknown.

        The default refuses, unless the configuration says otherwise (``StrictHostKeyChecking``).
        """
        policy = policy() if isinstance(policy, type) else policy
        if not hasattr(policy, "missing_host_key"):
            raise TypeError(f"a policy is a MissingHostKeyPolicy, such as AutoAddPolicy(), not {policy!r}")
        self._policy = policy

    def get_host_keys(self) -> HostKeys:
        """Return this client's own host keys, without the system's; add to them at will."""
        return self._host_keys

    @property
    def host_keys_filename(self) -> Path | None:
        """The file that `load_host_keys` read, where `AutoAddPolicy` saves."""
        return self._host_keys_filename

    async def load_system_host_keys(self, filename: str | Path | None = None) -> None:
        """Read host keys that are never written: a file, or the user's and the system's known_hosts.

        Raises:
            OSError: the named file can't be read.
        """
        self._has_loaded_keys = True
        if filename is not None:
            [path] = paths_of(filename, "filename")
            self._system_host_keys.merge(await _read(path))
        else:
            self._system_host_keys.merge(await load_known_hosts(None))

    async def load_host_keys(self, filename: str | Path) -> None:
        """Read host keys, and remember the file for `save_host_keys`.

        Raises:
            OSError: it can't be read.
        """
        self._has_loaded_keys = True
        [path] = paths_of(filename, "filename")
        self._host_keys_filename = Path(path)
        self._host_keys.merge(await _read(path))

    async def save_host_keys(self, filename: str | Path | None = None) -> None:
        """Write this client's own host keys: atomically, and without losing a line that was not understood.

        Args:
            filename: None for the file that was loaded.
        """
        target = filename if filename is not None else self._host_keys_filename
        if target is None:
            raise ValueError("no file: name one, or load_host_keys first")
        await trio.to_thread.run_sync(self._host_keys.save, target)

    async def _known_hosts(self, known_hosts: KnownHosts | None, options: SSHOptions | None) -> HostKeys:
        known = HostKeys()
        if isinstance(known_hosts, HostKeys):
            known.merge(known_hosts)
        elif known_hosts is not None:
            for name in paths_of(known_hosts, "known_hosts"):
                known.merge(await _read(name))
        else:
            known.merge(self._system_host_keys if self._has_loaded_keys else await load_known_hosts(options))
            known.merge(self._host_keys)
        return known

    def _policy_for(self, known_hosts: KnownHosts | None, options: SSHOptions | None) -> MissingHostKeyPolicy:
        """Return the policy: a configuration has no say where the caller has said which hosts are known."""
        if self._policy is not None:
            return self._policy
        return RejectPolicy() if self._says_whom_to_trust(known_hosts) else policy_of(options)

    def _says_whom_to_trust(self, known_hosts: KnownHosts | None) -> bool:
        """The caller has said which hosts are known, or what becomes of others."""
        return self._policy is not None or known_hosts is not None or self._has_loaded_keys

    def _trust_as(self, other: HostTrust) -> None:
        """Know the hosts that `other` knows, and believe whom it believes."""
        self._policy = other._policy
        self._system_host_keys = other._system_host_keys
        self._host_keys = other._host_keys
        self._host_keys_filename = other._host_keys_filename
        self._has_loaded_keys = other._has_loaded_keys


async def _read(path: str | Path) -> HostKeys:
    """Read a file, in a thread that is left behind where it takes too long, with what it has read."""
    keys = HostKeys()
    await trio.to_thread.run_sync(read_known_hosts, keys, path, abandon_on_cancel=True)
    return keys
