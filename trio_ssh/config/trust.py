"""What a configuration says of trusting hosts: where they are on record, and what becomes of those that aren't."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, cast

import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.errors import (
    ConfigParseError,
    KeyFileException,
)
from trio_ssh.host_check import HostCheck
from trio_ssh.host_key_rotation import HostKeyUpdates, UpdateHostKeys
from trio_ssh.host_keys import AcceptNewPolicy, MissingHostKeyPolicy, RejectPolicy
from trio_ssh.keys.certification import AUTHORITY_ALGORITHMS
from trio_ssh.keys.known_hosts import HostKeys, known_hosts_name
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.runtime.transport import Transport

_log = logging.getLogger("trio_ssh.client")

KnownHosts = HostKeys | str | Path | Sequence[str | Path]

USER_KNOWN_HOSTS: Final = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_KNOWN_HOSTS: Final = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


def policy_of(options: SSHOptions | None) -> MissingHostKeyPolicy:
    """Return what to do with keys that are unknown.

    ``ask`` refuses: there is nobody to ask.  A key that has *changed* is refused whatever the options say, ``no``
    included, where ssh would go on.
    """
    if options is None or options.strict_host_key_checking not in ("no", "accept-new"):
        return RejectPolicy()
    files = user_known_hosts(options)
    return AcceptNewPolicy(files[0] if files else None, is_hashed=bool(options.hash_known_hosts))


def name_on_record(options: SSHOptions | None, hostname: str, port: int, alias: str | None = None) -> str:
    """Return the name under which a host's key is looked up."""
    if alias is None and options is not None:
        alias = options.host_key_alias
    # An alias has no port.
    return known_hosts_name(hostname, port) if alias is None else known_hosts_name(alias, 22)


def user_known_hosts(options: SSHOptions | None) -> tuple[str, ...]:
    """Return the files of the user's own, of which the first is added to."""
    files = options.user_known_hosts_file if options is not None else None
    return USER_KNOWN_HOSTS if files is None else files


def _update_mode(options: SSHOptions | None) -> UpdateHostKeys:
    """Return what ``UpdateHostKeys`` says, or else ssh's default: yes, in the user's usual file."""
    if options is None:
        return "yes"
    if options.update_host_keys is not None:
        return cast("UpdateHostKeys", options.update_host_keys)
    is_usual = options.user_known_hosts_file is None and options.verify_host_key_dns in (None, "no")
    return "yes" if is_usual else "no"


async def load_known_hosts(options: SSHOptions | None) -> HostKeys:
    """Read the user's and the system's known_hosts, where there are such files.

    Raises:
        OSError: there is one, and it can't be read.
    """
    system = options.global_known_hosts_file if options is not None else None
    keys = HostKeys()

    def load() -> None:
        for path in (
            *user_known_hosts(options),
            *(system if system is not None else SYSTEM_KNOWN_HOSTS),
        ):
            expanded = Path(path).expanduser()
            if expanded.is_file():
                read_known_hosts(keys, expanded)

    await trio.to_thread.run_sync(load, abandon_on_cancel=True)
    return keys


def read_known_hosts(keys: HostKeys, path: str | Path) -> None:
    """Read a file behind what `keys` know already, and log what in it can't be read.

    Raises:
        OSError: there is no such file, or it can't be read.
    """
    known = len(keys.problems)
    keys.load(path)
    for problem in keys.problems[known:]:
        _log.warning("a line of known_hosts counts for nothing: %s", problem)


def authority_algorithms(options: SSHOptions | None) -> Collection[str]:
    """Return with what an authority may sign: ``CASignatureAlgorithms``."""
    wanted = options.ca_signature_algorithms if options is not None else None
    if wanted is None:
        return AUTHORITY_ALGORITHMS
    every = sorted(AUTHORITY_ALGORITHMS)
    return wanted.apply(every, every)


async def load_revoked(options: SSHOptions | None) -> KeyRevocationList | None:
    """Read ``RevokedHostKeys``.

    Raises:
        ConfigParseError: it can't be read, so that no host can be trusted.
    """
    path = options.revoked_host_keys if options is not None else None
    if options is None or path is None:
        return None
    try:
        return await trio.to_thread.run_sync(KeyRevocationList.load, path, abandon_on_cancel=True)
    except (OSError, KeyFileException) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ConfigParseError(f"{options.place('revoked_host_keys')}: {path} can't be read: {why}") from error


def host_key_updates(
    transport: Transport,
    check: HostCheck,
    wanted: UpdateHostKeys | None,
    options: SSHOptions | None,
    known_hosts: KnownHosts | None,
    has_loaded_keys: bool,
) -> HostKeyUpdates | None:
    """Return what keeps the record of a host's keys up to date; None where it is left alone.

    Args:
        wanted: what the caller says.
        known_hosts: what the caller gave in place of the usual files.
        has_loaded_keys: the client has files of its own.
    """
    is_given = known_hosts is not None or has_loaded_keys
    mode = wanted or ("no" if is_given else _update_mode(options))
    if mode == "no":
        return None
    files: Sequence[str | Path] | None
    match known_hosts:
        case HostKeys():
            files = None
        case str() | Path():
            files = [known_hosts]
        case None if has_loaded_keys:
            own = check.client.host_keys_filename
            files = [own] if own is not None else []
        case None:
            files = user_known_hosts(options)
        case _:
            files = known_hosts
    return HostKeyUpdates(
        transport,
        check.client,
        check.name,
        check.known,
        files=files,
        mode=mode,
        policy=check.policy,
        is_hashed=options is not None and bool(options.hash_known_hosts),
        revoked=check.revoked,
    )
