"""What a client does with a server whose key it doesn't know: policies, with paramiko's names.

A policy is asked only about keys that are unknown, and whose owner has proven to have them.  A *changed* or *revoked*
key never comes here: it is refused.  So is every key about which a policy raises, is cancelled, or returns anything.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import logging
import os
import warnings
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, Protocol

import attrs
import trio

from trio_ssh.errors import HostKeyException, UnknownHostKeyException
from trio_ssh.keys.known_hosts import HostKeys, HostKeyStatus, name_without_port
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.sshfp import SSHFPRecord, match
from trio_ssh.runtime.waiting import MaybeAwaitable, resolved
from trio_ssh.wire.text import printable

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


@attrs.frozen
class HostKeyChange:
    """What a server, having proven that it owns them all, wants changed in the record of its keys.

    Attributes:
        hostname: as known_hosts spells it.
        added: keys that it has besides those on record.
        removed: keys on record that it no longer has.
    """

    hostname: str
    added: tuple[PublicKey, ...]
    removed: tuple[PublicKey, ...]


class MissingHostKeyPolicy:
    """Decides about a server whose key is unknown.

    Attributes:
        decides_known_keys: whether it is asked about keys on record too, which are otherwise simply good.
    """

    decides_known_keys: ClassVar[bool] = False

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> Awaitable[None] | None:
        """Return to accept the key, raise to refuse it.  It may be async.

        Args:
            client: the client that connects.
            hostname: as known_hosts spells it: ``host``, or ``[host]:port`` where the port is not 22.
            key: the key that the server has proven to own.
        """
        raise UnknownHostKeyException(hostname, key.key_type, key.fingerprint)

    def confirm_change(self, client: KnowsHosts, change: HostKeyChange) -> MaybeAwaitable[bool]:
        """Decide whether the record of a known host is changed, where ``update_host_keys="ask"``.  It may be async.

        The default says no.
        """
        return False


class RejectPolicy(MissingHostKeyPolicy):
    """Refuse: the default."""


class AutoAddPolicy(MissingHostKeyPolicy):
    """Accept, remember, and save where the client's keys were loaded from.

    Whoever stands between at the *first* connection is trusted ever after.  A key that can't be saved is not
    accepted.
    """

    async def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Accept."""
        await _remember(client, hostname, key, None, is_hashed=False)


class AcceptNewPolicy(MissingHostKeyPolicy):
    """Accept an unknown key and put it on record, as ``StrictHostKeyChecking accept-new`` does.

    Args:
        path: the file that it is added to; None for the client's own, if it has loaded one.
        is_hashed: add the host's name in a form that doesn't show it.
    """

    def __init__(self, path: str | Path | None = None, *, is_hashed: bool = False) -> None:
        self._path = path
        self._is_hashed = is_hashed

    async def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Accept."""
        await _remember(client, hostname, key, self._path, is_hashed=self._is_hashed)


class WarningPolicy(MissingHostKeyPolicy):
    """Accept with a warning, and forget."""

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Accept."""
        warnings.warn(
            f"the host key of {printable(hostname)} is unknown: {key.key_type} {key.fingerprint}. It was accepted "
            "unseen.",
            stacklevel=2,
        )


async def _remember(
    client: KnowsHosts, hostname: str, key: PublicKey, path: str | Path | None, *, is_hashed: bool
) -> None:
    """Put a key on record; where that fails, nothing has changed."""
    keys = client.get_host_keys()
    is_new = keys.check(hostname, key) is not HostKeyStatus.KNOWN
    if is_new:
        keys.add(hostname, None, key, is_hashed=is_hashed)
    try:
        if path is not None:
            await trio.to_thread.run_sync(_add_to_file, path, hostname, key, is_hashed)
        elif client.host_keys_filename is not None:
            await client.save_host_keys()
        else:
            await trio.lowlevel.checkpoint()
    except BaseException:
        # Kept in memory alone it would be trusted by the next connection, after a failure of this one.
        if is_new:
            keys.remove(hostname, key)
        raise
    _log.info("added the host key of %s: %s %s", printable(hostname), key.key_type, key.fingerprint)


def _add_to_file(path: str | Path, hostname: str, key: PublicKey, is_hashed: bool) -> None:
    path = os.path.expanduser(path)
    keys = HostKeys()
    if os.path.exists(path):
        keys.load(path)
    else:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    keys.add(hostname, None, key, is_hashed=is_hashed)
    keys.save(path)


# -- a fingerprint that is known by other means


_PINNED_HASHES: Final = ("SHA256", "SHA384", "SHA512")


class PinnedFingerprintPolicy(MissingHostKeyPolicy):
    """Accept the keys with these fingerprints, and no others: those that known_hosts knows neither.

    Args:
        fingerprints: as ``ssh-keygen -l`` shows them: ``SHA256:...``.

    Raises:
        ValueError: one is none, or by a hash that is broken.
    """

    decides_known_keys: ClassVar[bool] = True

    def __init__(self, *fingerprints: str) -> None:
        if not fingerprints:
            raise ValueError("no fingerprint: give those of the host's keys, as `ssh-keygen -l` shows them")
        self._shown = fingerprints
        self._pins = [_parse_fingerprint(fingerprint) for fingerprint in fingerprints]

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Accept the keys that were named."""
        if not any(_has_fingerprint(key, *pin) for pin in self._pins):
            raise HostKeyException(
                f"the host key of {printable(hostname)} is {key.key_type} {key.fingerprint}, and not "
                f"{' or '.join(self._shown)}, which was pinned. Someone may stand in between: ask the host's owner "
                "for its fingerprint, and pin that."
            )


def _parse_fingerprint(text: str) -> tuple[str, bytes]:
    name, _, encoded = text.strip().partition(":")
    if name not in _PINNED_HASHES:
        raise ValueError(
            f"no fingerprint by a sound hash: '{printable(text, 100)}'. Give one of the form SHA256:..., as "
            "`ssh-keygen -l` shows it."
        )
    try:
        digest = binascii.a2b_base64(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), strict_mode=True)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.new(name).digest_size:
        raise ValueError(f"a {name} fingerprint is cut short, or not base64: '{printable(text, 100)}'. Copy all of it.")
    return name, digest


def _has_fingerprint(key: PublicKey, hash_name: str, digest: bytes) -> bool:
    return hmac.compare_digest(hashlib.new(hash_name, key.blob).digest(), digest)


# -- a person


@attrs.frozen
class HostKeyPrompt:
    """What a person must know to decide about a key.

    Attributes:
        hostname: as known_hosts spells it, escaped.
        key: the key that the server has proven to own.
        hint: what else is known about it; may be empty.
    """

    hostname: str
    key: PublicKey
    hint: str = ""

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint, ``SHA256:...``: to be compared with the server's own."""
        return self.key.fingerprint

    @property
    def randomart(self) -> str:
        """The key's picture: eleven lines."""
        return self.key.randomart()

    @property
    def text(self) -> str:
        """The question as ``ssh`` asks it."""
        hint = f"{self.hint}\n" if self.hint else ""
        return (
            f"The authenticity of host '{self.hostname}' can't be established.\n"
            f"{self.key.key_type} key fingerprint is {self.fingerprint}.\n{self.randomart}\n{hint}"
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? "
        )


AskHostKey = Callable[[HostKeyPrompt], MaybeAwaitable[bool | str]]
AskHostKeyChange = Callable[[HostKeyChange], MaybeAwaitable[bool]]

#: Answers that are neither yes nor no before we stop asking.
_ATTEMPTS: Final = 3


class PromptPolicy(MissingHostKeyPolicy):
    """Ask a person, and put the key on record if they say yes.

    Args:
        ask: called with a `HostKeyPrompt`, sync or async.  It returns ``True`` or ``"yes"``, ``False`` or ``"no"``, or
            the fingerprint that the person has from elsewhere, which is compared.  After another answer it is asked
            again, three times in all.
        path, is_hashed: as for `AcceptNewPolicy`.
        ask_change: called with a `HostKeyChange` where ``update_host_keys="ask"``; returns whether the record is
            changed.  Without it, it isn't.
    """

    def __init__(
        self,
        ask: AskHostKey,
        *,
        path: str | Path | None = None,
        is_hashed: bool = False,
        ask_change: AskHostKeyChange | None = None,
    ) -> None:
        self._ask = ask
        self._path = path
        self._is_hashed = is_hashed
        self._ask_change = ask_change

    async def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Ask, with nothing else known about the key."""
        await self.ask_about(client, hostname, key)

    async def ask_about(self, client: KnowsHosts, hostname: str, key: PublicKey, hint: str = "") -> None:
        """Ask, and say `hint` besides.

        Raises:
            UnknownHostKeyException: the answer is no, or not an answer.
        """
        prompt = HostKeyPrompt(printable(hostname), key, hint)
        for _ in range(_ATTEMPTS):
            answer = await resolved(self._ask(prompt))
            if answer is True or (isinstance(answer, str) and _agrees(answer, key)):
                await _remember(client, hostname, key, self._path, is_hashed=self._is_hashed)
                return
            if not isinstance(answer, str) or answer.strip().lower() == "no":
                break
        raise UnknownHostKeyException(hostname, key.key_type, key.fingerprint)

    async def confirm_change(self, client: KnowsHosts, change: HostKeyChange) -> bool:
        """Ask, if there is somebody to ask."""
        return self._ask_change is not None and await resolved(self._ask_change(change)) is True


def _agrees(answer: str, key: PublicKey) -> bool:
    answer = answer.strip()
    if answer.lower() == "yes":
        return True
    try:
        return _has_fingerprint(key, *_parse_fingerprint(answer))
    except ValueError:
        return False


# -- the DNS


@attrs.frozen
class SSHFPAnswer:
    """What a resolver found.

    Attributes:
        records: the host's SSHFP records; none, where it has none.
        is_validated: whether DNSSEC proves them, and the way from the validating resolver to here is safe.
    """

    records: Sequence[SSHFPRecord]
    is_validated: bool


SSHFPResolver = Callable[[str], Awaitable[SSHFPAnswer]]


class SSHFPPolicy(MissingHostKeyPolicy):
    """Accept the keys whose fingerprints the DNS has, as ``VerifyHostKeyDNS yes`` does.

    Only what DNSSEC proves is believed.  A match without proof is a hint for whoever is asked then; a fingerprint of
    another key of the same type refuses, proven or not.

    Args:
        resolve: looks a host's SSHFP records up; async.  If it raises, the key is refused.
        fallback: decides where the DNS doesn't.  A `PromptPolicy` is given the hint.
    """

    def __init__(self, resolve: SSHFPResolver, fallback: MissingHostKeyPolicy | None = None) -> None:
        self._resolve = resolve
        self._fallback = fallback if fallback is not None else RejectPolicy()

    async def missing_host_key(self, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
        """Ask the DNS, and then the fallback."""
        answer = await self._resolve(name_without_port(hostname))
        verdict = match(key, answer.records)
        if verdict is False:
            raise HostKeyException(
                f"the host key of {printable(hostname)} is {key.key_type} {key.fingerprint}, and the DNS has the "
                f"fingerprint of another one. Someone may stand in between, or the SSHFP records are out of date: ask "
                "the host's owner."
            )
        if verdict and answer.is_validated is True:
            _log.info("the DNS vouches for the host key of %s: %s", printable(hostname), key.fingerprint)
            return
        hint = "Matching host key fingerprint found in DNS, which nothing proves." if verdict else ""
        if isinstance(self._fallback, PromptPolicy):
            await self._fallback.ask_about(client, hostname, key, hint)
        else:
            await decide(self._fallback, client, hostname, key)

    def confirm_change(self, client: KnowsHosts, change: HostKeyChange) -> MaybeAwaitable[bool]:
        """Ask the fallback."""
        return self._fallback.confirm_change(client, change)


async def decide(policy: MissingHostKeyPolicy, client: KnowsHosts, hostname: str, key: PublicKey) -> None:
    """Return if a policy accepts a key, and raise otherwise.

    Raises:
        TypeError: the policy returned something, which is neither yes nor no: the key is refused.
        Whatever the policy raises.
    """
    decision: object = policy.missing_host_key(client, hostname, key)
    if isinstance(decision, Awaitable):
        decision = await decision
    if decision is not None:
        raise TypeError(
            f"{type(policy).__name__}.missing_host_key returned {decision!r}: the key is refused. To accept it return "
            "nothing, to refuse it raise."
        )
