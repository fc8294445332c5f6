"""Whether a host is the right one, as far as a configuration decides it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, cast

import attrs
import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.errors import (
    BadHostKeyException,
    CertificateException,
    ConfigParseError,
    HostKeyException,
    KeyFileException,
)
from trio_ssh.host_key_rotation import HostKeyUpdates, UpdateHostKeys
from trio_ssh.host_keys import AcceptNewPolicy, KnowsHosts, MissingHostKeyPolicy, RejectPolicy, decide
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import AUTHORITY_ALGORITHMS
from trio_ssh.keys.known_hosts import HostKeys, HostKeyStatus, known_hosts_name, name_without_port
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.text import printable

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

    await trio.to_thread.run_sync(load)
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
        return await trio.to_thread.run_sync(KeyRevocationList.load, path)
    except (OSError, KeyFileException) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ConfigParseError(f"{options.place('revoked_host_keys')}: {path} can't be read: {why}") from error


@attrs.frozen
class HostCheck:
    """Decides whether a host that has proven to own a key is the one that is meant.

    Attributes:
        client: who connects, for the policy.
        known: what is on record.
        name: the host's, there.
        policy: decides about a host of which nothing is on record.
        revoked: keys that nobody may show.
        authority_algorithms: with what an authority may have signed a host's certificate.
        smallest_rsa_bits: below which no RSA key is believed, whatever is on record.
    """

    client: KnowsHosts
    known: HostKeys
    name: str
    policy: MissingHostKeyPolicy
    revoked: KeyRevocationList | None
    authority_algorithms: Collection[str] = AUTHORITY_ALGORITHMS
    smallest_rsa_bits: int = 0

    async def check_certificate(self, certificate: Certificate) -> None:
        """Return if the certificate shows its key to be the host's, or else if the bare key is the host's, as for ssh.

        Raises:
            As for a bare key, with a note that tells what is wrong with the certificate.
        """
        self._check_size(certificate.public_key)
        is_revoked = self.known.is_revoked(self.name, certificate)
        if is_revoked or (self.revoked is not None and self.revoked.is_revoked(certificate)):
            key = certificate.public_key
            raise BadHostKeyException(self.name, key.key_type, key.fingerprint, is_revoked=True)
        try:
            certificate.check_for_host(
                name_without_port(self.name),
                authorities=self.known.authorities(self.name),
                now=time.time(),
                authority_algorithms=self.authority_algorithms,
            )
        except CertificateException as error:
            _log.info("the certificate of %s is of no use: %s", printable(self.name), error)
            try:
                await self(certificate.public_key)
            except HostKeyException as refusal:
                refusal.add_note(f"Its certificate is of no use either: {error}")
                raise
            return
        if self.policy.decides_known_keys:
            await decide(self.policy, self.client, self.name, certificate.public_key)

    async def __call__(self, key: PublicKey) -> None:
        """Return if it is.

        Raises:
            BadHostKeyException: it has another key, or a revoked one.
            Whatever the policy raises.
        """
        self._check_size(key)
        status = self.known.check(self.name, key)
        if self.revoked is not None and self.revoked.is_revoked(key):
            status = HostKeyStatus.REVOKED
        match status:
            case HostKeyStatus.KNOWN:
                if self.policy.decides_known_keys:
                    await decide(self.policy, self.client, self.name, key)
            case HostKeyStatus.REVOKED:
                raise BadHostKeyException(self.name, key.key_type, key.fingerprint, is_revoked=True)
            case HostKeyStatus.CHANGED:
                expected = [
                    f"{'a certificate of ' * (entry.marker is not None)}{entry.key.fingerprint} ({entry.source})"
                    for entry in self.known.lookup(self.name)
                    if entry.marker in (None, "certificate")
                ]
                raise BadHostKeyException(self.name, key.key_type, key.fingerprint, expected)
            case HostKeyStatus.UNKNOWN:
                await decide(self.policy, self.client, self.name, key)

    def _check_size(self, key: PublicKey) -> None:
        if key.key_type == "ssh-rsa" and key.bits < self.smallest_rsa_bits:
            raise HostKeyException(
                f"the host key of {printable(self.name)} is an RSA key of {key.bits} bits, and RequiredRSASize wants "
                f"{self.smallest_rsa_bits}. Ask the host's owner for a longer one, or for an Ed25519 key."
            )


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
