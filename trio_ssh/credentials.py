"""What a client can prove with who its user is: keys from files, an agent's, secrets, and this host's word."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, cast

import attrs
import trio

from trio_ssh.agent import Agent, AgentKey, default_path
from trio_ssh.config.applied import Applied
from trio_ssh.config.tokens import local_user
from trio_ssh.errors import (
    AgentException,
    KeyFileException,
    PasswordRequiredException,
    RemoteProtocolError,
    SSHException,
)
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.disk import read_key_file
from trio_ssh.keys.files import load_private_key_file
from trio_ssh.keys.formats import public_blob_in
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, load_public_key_line, parse_public_key
from trio_ssh.keys.signer import PublicFace, Signer
from trio_ssh.runtime.arguments import checked_signer, paths_of
from trio_ssh.runtime.gss import GssInitiator
from trio_ssh.runtime.handshake import NewPasswordHandler, PromptHandler
from trio_ssh.runtime.waiting import resolved

SecretSource = str | Callable[[], Awaitable[str | None] | str | None]
"""A password or a passphrase, or a function that gets it where it is needed, sync or async; None from it gives up."""


class Secret:
    """A password or a passphrase; what gets it is called once, and only when it is needed."""

    __slots__ = ("_is_known", "_source", "_value")

    def __init__(self, source: SecretSource) -> None:
        given: object = source
        if not isinstance(given, str) and not callable(given):
            remedy = ": decode it" if isinstance(given, bytes) else ""
            raise TypeError(f"a secret is a str, or a function that gets it, not {type(given).__name__}{remedy}")
        self._source = source
        self._is_known = isinstance(source, str)
        self._value: str | None = source if isinstance(source, str) else None

    @classmethod
    def of(cls, source: SecretSource | None) -> Secret | None:
        """Return the secret of an argument; one that was made before stays the same one."""
        return source if source is None or isinstance(source, Secret) else cls(source)

    @property
    def known(self) -> str | None:
        """What it is, if nobody need be asked."""
        return self._value

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody has to be asked."""
        return not isinstance(self._source, str)

    async def __call__(self) -> str | None:
        """Return it; None where whoever was asked gives up."""
        if not self._is_known:
            assert not isinstance(self._source, str), "a str is known"
            value = await resolved(self._source())
            if not isinstance(value, str | None):
                raise TypeError(f"a secret is a str, or None to give up, and not {type(value).__name__}")
            self._value = value
            self._is_known = True
        return self._value

    def __repr__(self) -> str:
        return "<Secret>"


class LockedKey(PublicFace):
    """An encrypted key file whose passphrase is asked for when the server wants a signature by the key: a `Signer`.

    Attributes:
        public_key: of the ``.pub`` file beside it, or in front of it.
        comment: where the file is.
    """

    __slots__ = ("_passphrase", "_path", "comment", "public_key")

    def __init__(self, public_key: PublicKey, path: str, passphrase: Secret) -> None:
        self.public_key: PublicKey = public_key
        self.comment: str = path
        self._path = path
        self._passphrase = passphrase

    async def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Ask for the passphrase, open the file, and sign.

        Raises:
            AgentException: nobody gives it, it is wrong, or the file holds another key.
        """
        passphrase = await self._passphrase()
        if passphrase is None:
            raise AgentException("its passphrase was not given")
        try:
            key = await trio.to_thread.run_sync(load_private_key_file, self._path, passphrase, abandon_on_cancel=True)
        except (KeyFileException, PasswordRequiredException) as error:
            raise AgentException(str(error)) from error
        if key.public_key != self.public_key:
            raise AgentException(f"{self._path} holds another key than the one that was shown for it")
        return key.sign(data, algorithm)

    def __repr__(self) -> str:
        return f"<LockedKey {self.public_key}>"


#: What is looked for in ``~/.ssh``, as ssh does.
DEFAULT_KEYS: Final = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")
_USUAL_KEYS: Final = tuple(f"~/.ssh/{name}" for name in DEFAULT_KEYS)


@attrs.frozen
class PublicHalf:
    """A key of which only the public half could be read; an agent may hold the other.

    Attributes:
        source: the file that was named, or found.
        problem: why the private half was not read.
        is_named: the user asked for it, so that it must be usable.
    """

    key: PublicKey
    source: str
    problem: SSHException
    is_named: bool

    @property
    def note(self) -> str:
        """What to say of it in the end, unless the agent had it."""
        return note_on(self.source, self.problem)


@attrs.frozen(kw_only=True)
class Credentials:
    """What a user can prove who they are with.

    Attributes:
        keys: those that were given, each with where it came from.
        found_keys: those of ``~/.ssh``, which are tried behind the agent's.
        certificates: of the agent's keys, perhaps, each with where it came from.
        public_halves: keys that an agent may have.
        agent_path: where the agent is; None for none.
        identities_only: of the agent's keys, only those that are also given, named or found are tried.
        password: for ``password``, and for a single hidden prompt of ``keyboard-interactive``.
        new_password: asked for another one, where that has expired.
        client_host_keys: this host's, for ``hostbased``.
        client_host, client_username: what this host calls itself, and its user.
        gss: logs in by GSS-API.
        prompt_handler: answers ``keyboard-interactive``.
        notes: why some keys that one might expect are not among `keys`.
        has_looked_for_keys: ``~/.ssh`` was searched.
        methods: what is tried, in this order; None for everything.
        binds_to_host: signatures name the host's key where the server can.
        accepts_algorithm: whether a key may sign by this algorithm; None for all.
        smallest_rsa_bits: below which RSA keys are not tried.
    """

    keys: Sequence[tuple[Signer, str]] = ()
    found_keys: Sequence[tuple[Signer, str]] = ()
    certificates: Sequence[tuple[Certificate, str]] = ()
    public_halves: Sequence[PublicHalf] = ()
    agent_path: str | None = None
    identities_only: bool = False
    password: Secret | None = None
    new_password: NewPasswordHandler | None = None
    client_host_keys: Sequence[Signer] = ()
    client_host: str = ""
    client_username: str = ""
    gss: GssInitiator | None = None
    prompt_handler: PromptHandler | None = None
    notes: Sequence[str] = ()
    has_looked_for_keys: bool = False
    methods: Sequence[str] | None = None
    binds_to_host: bool = True
    accepts_algorithm: Callable[[str], bool] | None = None
    smallest_rsa_bits: int = 0


async def load_credentials(
    *,
    pkey: Signer | Sequence[Signer] | None,
    key_filename: str | Path | Sequence[str | Path] | None,
    passphrase: Secret | None,
    look_for_keys: bool,
    allow_agent: bool | str | Path,
    identities_only: bool,
    password: Secret | None,
    new_password: NewPasswordHandler | None,
    prompt_handler: PromptHandler | None,
    client_host_keys: Signer | Sequence[Signer] | None,
    client_host: str | None,
    client_username: str | None,
    gss: GssInitiator | None,
    applied: Applied,
) -> Credentials:
    """Read the keys that the user named, and those of the configuration or in ``~/.ssh``.

    Args:
        passphrase: opens encrypted files; without, a password that is known does.
        allow_agent: whether the user's agent may be asked, or where another is.
        applied: what a configuration says: where keys are, and how to log in.

    Raises:
        KeyFileException: a file that the user *named* can't be used, and the agent doesn't have its key.
        PasswordRequiredException: it is encrypted, there is no passphrase, and the agent doesn't have its key.
    """
    names = [] if key_filename is None else paths_of(key_filename, "key_filename")
    agent_path = _agent_path(allow_agent)
    opener = passphrase
    if passphrase is None and password is not None and not password.is_asked_for:
        opener = password
    loaded = _Loaded(opener, has_agent=agent_path is not None)
    if names or look_for_keys:
        places = () if not look_for_keys else applied.key_files if applied.key_files is not None else _USUAL_KEYS
        await trio.to_thread.run_sync(loaded.load, names, places, abandon_on_cancel=True)
        if loaded.nameless and opener is not None:
            await opener()
            await trio.to_thread.run_sync(loaded.load_nameless, abandon_on_cancel=True)
    if applied.certificate_files:
        await trio.to_thread.run_sync(loaded.load_certificates, applied.certificate_files, abandon_on_cancel=True)
    if agent_path is not None and any(half.is_named for half in loaded.public_halves):
        await _demand_from_agent(agent_path, loaded.public_halves)
    own = _as_list(client_host_keys)
    if own and client_host is None:
        # It may ask the DNS.
        client_host = await trio.to_thread.run_sync(socket.getfqdn, abandon_on_cancel=True)
    if own and client_username is None:
        client_username = local_user()
    certified = partial(certified_forms, certificates=loaded.certificates)
    return Credentials(
        keys=[
            *(each for key in _as_list(pkey) for each in certified(key, "given")),
            *(each for key, source in loaded.keys for each in certified(key, source)),
        ],
        found_keys=[each for key, source in loaded.found_keys for each in certified(key, source)],
        certificates=loaded.certificates,
        public_halves=loaded.public_halves,
        agent_path=agent_path,
        identities_only=identities_only,
        password=password,
        new_password=new_password,
        client_host_keys=own,
        client_host=client_host or "",
        client_username=client_username or "",
        gss=gss,
        prompt_handler=prompt_handler,
        notes=[*loaded.notes, *applied.method_notes],
        has_looked_for_keys=look_for_keys,
        methods=applied.methods,
        binds_to_host=applied.binds_to_host,
        accepts_algorithm=applied.accepts_algorithm,
        smallest_rsa_bits=applied.smallest_rsa_bits,
    )


def _as_list(keys: Signer | Sequence[Signer] | None) -> list[Signer]:
    if keys is None:
        return []
    given: object = keys
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        given = [given]
    return [checked_signer(key) for key in cast("Sequence[Signer]", given)]


def _agent_path(allow_agent: bool | str | Path) -> str | None:
    if isinstance(allow_agent, bool):
        return default_path() if allow_agent else None
    return os.path.expanduser(allow_agent)


async def _demand_from_agent(path: str, halves: Sequence[PublicHalf]) -> None:
    """Raise what is wrong with the first file that was named whose key the agent doesn't have either."""
    async with Agent(path) as agent:
        try:
            held = {blob for key in await agent.get_keys() for blob in (key.asbytes(), certified_blob(key))}
        except (AgentException, RemoteProtocolError):
            held = set[bytes]()
    for half in halves:
        if half.is_named and half.key.blob not in held:
            raise half.problem


class _Loaded:
    """Keys from files.

    Args:
        passphrase: opens those that are encrypted.
        has_agent: there is an agent, which may have the keys of files that can't be read.
    """

    def __init__(self, passphrase: Secret | None, *, has_agent: bool) -> None:
        self._passphrase = passphrase
        self._has_agent = has_agent
        self.keys: list[tuple[PKey, str]] = []
        self.found_keys: list[tuple[Signer, str]] = []
        self.public_halves: list[PublicHalf] = []
        self.certificates: list[tuple[Certificate, str]] = []
        self.notes: list[str] = []
        #: Encrypted files without a public half, and whether the user named them: nobody knows whether they will do.
        self.nameless: list[tuple[str, bool]] = []

    def load(self, names: Sequence[str | Path], places: Sequence[str]) -> None:
        """Read the named keys, and those that may be at `places`; take notes on those that weren't usable."""
        for name in names:
            self._load(str(name), is_named=True)
        for place in places:
            path = os.path.expanduser(place)
            # Of a key that an agent has, or a token, the public half may be all that is there.
            if os.path.exists(path) or (self._has_agent and os.path.exists(f"{path}.pub")):
                self._load(path, is_named=False)

    def load_nameless(self) -> None:
        """Read those that only their passphrase tells anything of, which is known by now."""
        nameless, self.nameless = self.nameless, []
        for path, is_named in nameless:
            self._load(path, is_named=is_named, may_ask=False)

    def _load(self, path: str, *, is_named: bool, may_ask: bool = True) -> None:
        passphrase = self._passphrase
        try:
            key = load_private_key_file(path, passphrase.known if passphrase is not None else None)
        except PasswordRequiredException as error:
            if passphrase is not None and may_ask:
                self._lock(path, passphrase, is_named=is_named)
            else:
                self._look_for_half(path, error, is_named=is_named)
        except KeyFileException as error:
            self._look_for_half(path, error, is_named=is_named)
        else:
            if is_named or key.can_sign() or not self._has_agent:
                (self.keys if is_named else self.found_keys).append((key, path))
            else:
                problem = AgentException(
                    "it lives in a token, and the agent doesn't have it: run `ssh-add` with the file"
                )
                self.public_halves.append(PublicHalf(key.public_key, path, problem, is_named=False))
        certificate = f"{os.path.expanduser(path)}-cert.pub"
        if os.path.exists(certificate):
            self.load_certificates([certificate])

    def _lock(self, path: str, passphrase: Secret, *, is_named: bool) -> None:
        public = _public_key(path)
        if public is None:
            self.nameless.append((path, is_named))
        else:
            # Behind the agent's: if that has the key, nobody need be asked.
            self.found_keys.append((LockedKey(public, path, passphrase), path))

    def _look_for_half(self, path: str, error: KeyFileException | PasswordRequiredException, *, is_named: bool) -> None:
        public = _public_key(path) if self._has_agent else None
        if public is not None:
            self.public_halves.append(PublicHalf(public, path, error, is_named=is_named))
        elif is_named:
            raise error
        else:
            self.notes.append(note_on(path, error))

    def load_certificates(self, names: Sequence[str]) -> None:
        """Read certificates; take notes on those that can't be used."""
        for name in names:
            try:
                self.certificates.append((Certificate.from_path(name), name))
            except (KeyFileException, RemoteProtocolError) as error:
                self.notes.append(f"{name} was not tried: {error}")


def certified_forms(
    key: Signer, source: str, certificates: Sequence[tuple[Certificate, str]]
) -> Iterator[tuple[Signer, str]]:
    """Iterate over what a key can be shown as: with each of its certificates, and then bare."""
    own = key.certificate if isinstance(key, PKey) else None
    if own is not None:
        yield CertifiedKey(key, own), f"{source}, with its certificate"
    shown = {own}
    for certificate, path in certificates:
        if certificate not in shown and certificate.public_key == key.public_key:
            shown.add(certificate)
            yield CertifiedKey(key, certificate), f"{source}, with {path}"
    yield key, source


def note_on(source: str, problem: SSHException) -> str:
    """Say that a file was not tried, and why."""
    if isinstance(problem, PasswordRequiredException):
        return f"{source} was not tried: it is encrypted, and no passphrase was given"
    return f"{source} was not tried: {problem}"


def _public_key(name: str | Path) -> PublicKey | None:
    """Return the public key in a file, in the one of that name and ``.pub``, or in front of a private one."""
    path = Path(name).expanduser()
    for each in (path, Path(f"{path}.pub")):
        try:
            data, _ = read_key_file(each)
            return load_public_key_line(data.decode("utf-8", "replace"))[0]
        except KeyFileException:
            continue
    try:
        data, _ = read_key_file(path)
        blob = public_blob_in(data, str(path))
        return None if blob is None else parse_public_key(blob)
    except (KeyFileException, RemoteProtocolError):
        return None


def certified_blob(key: AgentKey) -> bytes:
    """Return the blob of the key that a certificate is of, or nothing."""
    try:
        return Certificate.from_blob(key.asbytes()).public_key.blob
    except RemoteProtocolError:
        return b""
