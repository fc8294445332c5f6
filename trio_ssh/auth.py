"""Logging in: which credentials are tried, in which order, and what is said when none of them will do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_ssh.agent import Agent, AgentKey, default_path
from trio_ssh.config.applied import Applied
from trio_ssh.core.auth_client import (
    AuthAnswer,
    interactive_as_client,
    none_as_client,
    password_as_client,
)
from trio_ssh.core.dialog import Dialog
from trio_ssh.core.questions import Prompt
from trio_ssh.errors import (
    AgentException,
    AuthenticationException,
    ConnectionLost,
    KeyFileException,
    LocalProtocolError,
    PasswordRequiredException,
    RemoteProtocolError,
    SSHException,
)
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.disk import read_key_file
from trio_ssh.keys.files import load_private_key_file
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, load_public_key_line
from trio_ssh.keys.signer import Signer
from trio_ssh.runtime.handshake import PromptHandler
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.text import printable

#: What is looked for in ``~/.ssh``, as ssh does.
DEFAULT_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")
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
        return _note_on(self.source, self.problem)


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
        prompt_handler: answers ``keyboard-interactive``.
        notes: why some keys that one might expect are not among `keys`.
        has_looked_for_keys: ``~/.ssh`` was searched.
        methods: what is tried, in this order; None for everything.
        accepts_algorithm: whether a key may sign by this algorithm; None for all.
    """

    keys: Sequence[tuple[Signer, str]] = ()
    found_keys: Sequence[tuple[Signer, str]] = ()
    certificates: Sequence[tuple[Certificate, str]] = ()
    public_halves: Sequence[PublicHalf] = ()
    agent_path: str | None = None
    identities_only: bool = False
    password: str | None = attrs.field(default=None, repr=False)
    prompt_handler: PromptHandler | None = None
    notes: Sequence[str] = ()
    has_looked_for_keys: bool = False
    methods: Sequence[str] | None = None
    accepts_algorithm: Callable[[str], bool] | None = None


async def load_credentials(
    *,
    pkey: Signer | Sequence[Signer] | None,
    key_filename: str | Path | Sequence[str | Path] | None,
    passphrase: str | None,
    look_for_keys: bool,
    allow_agent: bool | str | Path,
    identities_only: bool,
    password: str | None,
    prompt_handler: PromptHandler | None,
    applied: Applied,
) -> Credentials:
    """Read the keys that the user named, and those of the configuration or in ``~/.ssh``.

    Args:
        allow_agent: whether the user's agent may be asked, or where another is.
        applied: what a configuration says: where keys are, and how to log in.

    Raises:
        KeyFileException: a file that the user *named* can't be used, and the agent doesn't have its key.
        PasswordRequiredException: it is encrypted, there is no passphrase, and the agent doesn't have its key.
    """
    given = list(pkey) if isinstance(pkey, Sequence) else [] if pkey is None else [pkey]
    names = [key_filename] if isinstance(key_filename, str | Path) else list(key_filename or ())
    agent_path = _agent_path(allow_agent)
    loaded = _Loaded()
    if names or look_for_keys:
        places = () if not look_for_keys else applied.key_files if applied.key_files is not None else _USUAL_KEYS
        await trio.to_thread.run_sync(loaded.load, names, passphrase, places, agent_path is not None)
    if applied.certificate_files:
        await trio.to_thread.run_sync(loaded.load_certificates, applied.certificate_files)
    if agent_path is not None and any(half.is_named for half in loaded.public_halves):
        await _demand_from_agent(agent_path, loaded.public_halves)
    return Credentials(
        keys=[*((key, "given") for key in given), *loaded.keys],
        found_keys=[each for key, source in loaded.found_keys for each in _certified(key, source, loaded.certificates)],
        certificates=loaded.certificates,
        public_halves=loaded.public_halves,
        agent_path=agent_path,
        identities_only=identities_only,
        password=password,
        prompt_handler=prompt_handler,
        notes=[*loaded.notes, *applied.method_notes],
        has_looked_for_keys=look_for_keys,
        methods=applied.methods,
        accepts_algorithm=applied.accepts_algorithm,
    )


def _agent_path(allow_agent: bool | str | Path) -> str | None:
    if isinstance(allow_agent, bool):
        return default_path() if allow_agent else None
    return os.path.expanduser(allow_agent)


async def _demand_from_agent(path: str, halves: Sequence[PublicHalf]) -> None:
    """Raise what is wrong with the first file that was named whose key the agent doesn't have either."""
    async with Agent(path) as agent:
        try:
            held = {blob for key in await agent.get_keys() for blob in (key.asbytes(), _certified_blob(key))}
        except (AgentException, RemoteProtocolError):
            held = set[bytes]()
    for half in halves:
        if half.is_named and half.key.blob not in held:
            raise half.problem


class _Loaded:
    """Keys from files."""

    def __init__(self) -> None:
        self.keys: list[tuple[PKey, str]] = []
        self.found_keys: list[tuple[PKey, str]] = []
        self.public_halves: list[PublicHalf] = []
        self.certificates: list[tuple[Certificate, str]] = []
        self.notes: list[str] = []

    def load(self, names: Sequence[str | Path], passphrase: str | None, places: Sequence[str], has_agent: bool) -> None:
        """Read the named keys, and those that may be at `places`; take notes on those that weren't usable."""
        for name in names:
            try:
                self.keys.append((load_private_key_file(name, passphrase), str(name)))
            except (PasswordRequiredException, KeyFileException) as error:
                public = _public_key(name) if has_agent else None
                if public is None:
                    raise
                self.public_halves.append(PublicHalf(public, str(name), error, is_named=True))
        for place in places:
            path = Path(place).expanduser()
            if not path.exists():
                continue
            try:
                self.found_keys.append((load_private_key_file(path, passphrase), str(path)))
            except (PasswordRequiredException, KeyFileException) as error:
                public = _public_key(path) if has_agent else None
                if public is not None:
                    self.public_halves.append(PublicHalf(public, str(path), error, is_named=False))
                else:
                    self.notes.append(_note_on(str(path), error))

    def load_certificates(self, names: Sequence[str]) -> None:
        """Read certificates; take notes on those that can't be used."""
        for name in names:
            try:
                self.certificates.append((Certificate.from_path(name), name))
            except (KeyFileException, RemoteProtocolError) as error:
                self.notes.append(f"{name} was not tried: {error}")


def _certified(
    key: Signer, source: str, certificates: Sequence[tuple[Certificate, str]]
) -> Iterator[tuple[Signer, str]]:
    """Iterate over what a key can be shown as: with each of its certificates, and then bare."""
    for certificate, path in certificates:
        if certificate.public_key == key.public_key:
            yield CertifiedKey(key, certificate), f"{source}, with {path}"
    yield key, source


def _note_on(source: str, problem: SSHException) -> str:
    if isinstance(problem, PasswordRequiredException):
        return f"{source} was not tried: it is encrypted, and no passphrase was given"
    return f"{source} was not tried: {problem}"


def _public_key(name: str | Path) -> PublicKey | None:
    """Return the public key in a file, or in the one of that name and ``.pub``, as ssh looks for it."""
    for path in (Path(name).expanduser(), Path(f"{name}.pub").expanduser()):
        try:
            data, _ = read_key_file(path)
            return load_public_key_line(data.decode("utf-8", "replace"))[0]
        except KeyFileException:
            continue
    return None


@attrs.frozen(eq=False)
class _Attempt:
    """One way in: its method, how the report calls it, and what runs it."""

    method: str
    what: str
    dialog: Callable[[], Dialog[AuthAnswer]] = attrs.field(repr=False)
    prompt_handler: PromptHandler | None = None
    #: Not tried where the server allows this method, which is another way to the same.
    unless: str = ""
    #: Of a key, and what it would sign by.
    blob: bytes = b""
    algorithm: str = ""


class _AskAgent:
    """Stands where the agent's keys will be tried: it is asked for them when their turn comes, and not before."""

    method: Final = "publickey"
    unless: Final = ""


def _key_attempt(transport: Transport, username: str, key: Signer, source: str) -> _Attempt:
    return _Attempt(
        "publickey",
        f"publickey {transport.choose_algorithm(key)} {key.fingerprint} ({source})",
        partial(transport.publickey_dialog, username, key),
        blob=key.asbytes(),
        algorithm=transport.choose_algorithm(key),
    )


def _key_attempts(
    transport: Transport, username: str, keys: Sequence[tuple[Signer, str]], notes: list[str]
) -> list[_Attempt]:
    """Return an attempt for each key; and take a note of each that signs with nothing that is enabled."""
    attempts: list[_Attempt] = []
    for key, source in keys:
        try:
            attempts.append(_key_attempt(transport, username, key, source))
        except LocalProtocolError as error:
            notes.append(f"{key.fingerprint} ({source}) was not tried: {error}")
    return attempts


def _attempts(
    transport: Transport, username: str, credentials: Credentials, notes: list[str]
) -> list[_Attempt | _AskAgent]:
    """Return everything that can be tried, in order: keys, answers to prompts, the password."""
    attempts: list[_Attempt | _AskAgent] = [*_key_attempts(transport, username, credentials.keys, notes)]
    if credentials.agent_path is not None:
        attempts.append(_AskAgent())
    attempts += _key_attempts(transport, username, credentials.found_keys, notes)
    handler, password = credentials.prompt_handler, credentials.password
    interactive = partial(interactive_as_client, username, "", transport.limits)
    if handler is not None:
        attempts.append(_Attempt("keyboard-interactive", "keyboard-interactive", interactive, handler))
    if password is not None:
        attempts.append(_Attempt("password", "password", partial(password_as_client, username, password)))
        if handler is None:
            # Many servers ask for the password this way only.  One hidden prompt is it; anything else isn't ours to
            # answer.
            answer = _answer_with(password)
            attempts.append(
                _Attempt("keyboard-interactive", "password, as the answer to a prompt", interactive, answer, "password")
            )
    return attempts


def _wanted(
    attempts: Sequence[_Attempt | _AskAgent], credentials: Credentials, notes: list[str]
) -> list[_Attempt | _AskAgent]:
    """Return the attempts that a configuration leaves, in its order; and take a note of each key that it doesn't."""
    methods, accepts = credentials.methods, credentials.accepts_algorithm
    wanted: list[_Attempt | _AskAgent] = []
    for attempt in attempts:
        if methods is not None and attempt.method not in methods:
            continue
        if isinstance(attempt, _AskAgent):
            wanted.append(attempt)
        elif accepts is not None and attempt.algorithm and not accepts(attempt.algorithm):
            notes.append(f"{attempt.what} was not tried: PubkeyAcceptedAlgorithms leaves its algorithm out")
        elif methods is not None and attempt.unless not in methods:
            wanted.append(attrs.evolve(attempt, unless=""))
        else:
            wanted.append(attempt)
    if methods is not None:
        wanted.sort(key=lambda attempt: methods.index(attempt.method))
    return wanted


class _Login:
    """Tries one thing after another, and keeps the account of it."""

    def __init__(self, transport: Transport, username: str, credentials: Credentials, agent: Agent | None) -> None:
        self._transport = transport
        self._username = username
        self._credentials = credentials
        self._agent = agent
        self._key_notes: list[str] = []
        attempts = _attempts(transport, username, credentials, self._key_notes)
        self._left = _wanted(attempts, credentials, self._key_notes)
        self._halves = list(credentials.public_halves)
        self._agent_notes: list[str] = []
        self.tried: list[str] = []
        self.allowed: tuple[str, ...] | None = None
        self.has_key: bool = bool(credentials.keys or credentials.found_keys)

    @property
    def notes(self) -> list[str]:
        """What was not tried, and why."""
        return [*self._agent_notes, *self._key_notes, *self._credentials.notes, *(half.note for half in self._halves)]

    async def run(self) -> bool:
        """Tell whether the server is content in the end."""
        refused: list[_Attempt | _AskAgent] = []
        while self._left or self.allowed is None:
            attempt = self._left.pop(0) if self._left else self._nothing()
            if self.allowed is not None and (attempt.method not in self.allowed or attempt.unless in self.allowed):
                refused.append(attempt)
                continue
            if isinstance(attempt, _AskAgent):
                await self._ask_agent()
                continue
            answer = await self._transport.try_authenticate(self._username, attempt.dialog(), attempt.prompt_handler)
            if answer.is_success:
                return True
            self._note(attempt, answer)
            if answer.is_partial:
                # Something else is wanted besides: what was refused, or not allowed, may be just that.
                self._left = [*refused, *self._left]
                refused = []
            elif answer.is_decided:
                refused.append(attempt)
        return False

    def _nothing(self) -> _Attempt:
        """Return what is tried where there is nothing to try: a server tells by it what it would like."""
        return _Attempt("none", "none", partial(none_as_client, self._username))

    async def _ask_agent(self) -> None:
        """Put the agent's keys in front of what is left, and drop files of the same keys."""
        agent, credentials = self._agent, self._credentials
        assert agent is not None, "where there is none, nobody asks it"
        try:
            # Keys that may be used for some hosts only want to know the host.  Most agents refuse; they have none such.
            with contextlib.suppress(AgentException):
                await agent.bind_session(self._transport)
            keys = list(await agent.get_keys())
        except (AgentException, RemoteProtocolError) as error:
            self._agent_notes.append(str(error))
            return
        given = {key.asbytes() for key, _ in credentials.keys}
        named = {half.key.blob for half in self._halves}
        identities = given | named | {key.asbytes() for key, _ in credentials.found_keys}
        if credentials.identities_only:
            keys = [key for key in keys if not identities.isdisjoint((key.asbytes(), _certified_blob(key)))]
        keys = [key for key in keys if key.asbytes() not in given and key.algorithms]
        # A key that was asked for comes first: servers are patient with a few only.
        keys.sort(key=lambda key: key.asbytes() not in named)
        held = {key.asbytes() for key in keys}
        self._halves = [half for half in self._halves if half.key.blob not in held]
        self.has_key = self.has_key or bool(keys)
        sources = [
            each
            for key in keys
            for each in _certified(
                key, f"of the agent, {printable(key.comment, 64) or 'nameless'}", credentials.certificates
            )
        ]
        attempts = _key_attempts(self._transport, self._username, sources, self._key_notes)
        left = [attempt for attempt in self._left if not isinstance(attempt, _Attempt) or attempt.blob not in held]
        self._left = [*_wanted(attempts, credentials, self._key_notes), *left]

    def _note(self, attempt: _Attempt, answer: AuthAnswer) -> None:
        if answer.is_decided:
            self.allowed = answer.allowed
        outcome = "accepted, but more is wanted" if answer.is_partial else "refused"
        if not answer.is_decided:
            outcome = "accepted, but not signed"
        self.tried.append(f"{attempt.what}: {outcome}" + (f" ({answer.remark})" if answer.remark else ""))


async def log_in(transport: Transport, username: str, credentials: Credentials) -> None:
    """Try keys, the agent's among them, then prompts, then the password, until the server is content.

    Raises:
        AuthenticationException: it never was; the text tells every attempt, what the server still allows, and what to
            do.
    """
    if credentials.agent_path is None:
        await _log_in(transport, username, credentials, None)
        return
    # A connection to the agent of its own: it is bound to this session.
    async with Agent(credentials.agent_path) as agent:
        await _log_in(transport, username, credentials, agent)


async def _log_in(transport: Transport, username: str, credentials: Credentials, agent: Agent | None) -> None:
    login = _Login(transport, username, credentials, agent)
    shown = printable(username, 64)
    try:
        if await login.run():
            return
    except ConnectionLost as error:
        if not login.tried:
            raise
        tried = [*login.tried, *login.notes]
        raise AuthenticationException(f"could not log in as {shown}: {error}", tried=tried) from error
    allowed = login.allowed or ()
    raise AuthenticationException(
        f"could not log in as {shown}{_hint(allowed, credentials, login.has_key)}",
        tried=[*login.tried, *login.notes],
        allowed=allowed,
    )


def _certified_blob(key: AgentKey) -> bytes:
    """Return the blob of the key that a certificate is of, or nothing."""
    try:
        return Certificate.from_blob(key.asbytes()).public_key.blob
    except RemoteProtocolError:
        return b""


def _answer_with(password: str) -> PromptHandler:
    def answer(name: str, instructions: str, prompts: Sequence[Prompt]) -> Sequence[str]:
        return [password if len(prompts) == 1 and not prompt.echo else "" for prompt in prompts]

    return answer


def _hint(allowed: Sequence[str], credentials: Credentials, has_key: bool) -> str:
    if "publickey" in allowed and not has_key:
        searched = " and none could be used from ~/.ssh" if credentials.has_looked_for_keys else ""
        return f": no key was given{searched}; pass pkey= or key_filename="
    if "password" in allowed and credentials.password is None:
        return ": pass password="
    return ""
