"""Logging in: which credentials are tried, in which order, and what is said when none of them will do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from trio_ssh.agent import Agent
from trio_ssh.core.auth_client import (
    AuthAnswer,
    interactive_as_client,
    none_as_client,
    password_as_client,
)
from trio_ssh.core.dialog import Dialog
from trio_ssh.core.gssapi import KEYEX, WITH_MIC
from trio_ssh.core.questions import Prompt
from trio_ssh.credentials import Credentials, LockedKey, Secret, certified_blob, certified_forms
from trio_ssh.errors import (
    AgentException,
    AuthAttempt,
    AuthenticationException,
    AuthOutcome,
    ConnectionLost,
    LocalProtocolError,
    PeerDisconnected,
    RemoteProtocolError,
)
from trio_ssh.keys.signer import Signer
from trio_ssh.runtime.handshake import PromptHandler
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable


@attrs.frozen(eq=False)
class _Attempt:
    """One way in: its method, how the report calls it, and what runs it."""

    method: str
    what: str
    dialog: Callable[[], Dialog[AuthAnswer]] = attrs.field(repr=False)
    prompt_handler: PromptHandler | None = None
    #: Not tried where the server allows this method, which is another way to the same.
    unless: str = ""
    #: Of a key: what is shown, what it would sign by, which it is, and where it came from.
    blob: bytes = b""
    algorithm: str = ""
    fingerprint: str = ""
    source: str = ""
    #: What has to be known first.
    secret: Secret | None = None

    def ended(self, outcome: AuthOutcome, *, allowed: Sequence[str] = (), remark: str = "") -> AuthAttempt:
        """Return what became of it."""
        return AuthAttempt(
            method=self.method,
            what=self.what,
            outcome=outcome,
            algorithm=self.algorithm,
            fingerprint=self.fingerprint,
            source=self.source,
            allowed=tuple(allowed),
            remark=remark,
        )


class _AskAgent:
    """Stands where the agent's keys will be tried: it is asked for them when their turn comes, and not before."""

    method: Final = "publickey"
    unless: Final = ""


def _key_attempt(transport: Transport, username: str, key: Signer, source: str, *, binds_to_host: bool) -> _Attempt:
    algorithm, fingerprint = transport.choose_algorithm(key), key.fingerprint
    return _Attempt(
        "publickey",
        f"publickey {algorithm} {fingerprint} ({source})",
        partial(transport.publickey_dialog, username, key, binds_to_host=binds_to_host),
        blob=key.asbytes(),
        algorithm=algorithm,
        fingerprint=fingerprint,
        source=source,
    )


def _host_attempt(transport: Transport, username: str, key: Signer, credentials: Credentials) -> _Attempt:
    host, user = credentials.client_host, credentials.client_username
    algorithm = transport.choose_algorithm(key)
    return _Attempt(
        "hostbased",
        f"hostbased {algorithm} {key.fingerprint} (as {printable(user, 64)} at {printable(host, 64)})",
        partial(transport.hostbased_dialog, username, key, host, user),
        blob=key.asbytes(),
        algorithm=algorithm,
        fingerprint=key.fingerprint,
        source=host,
    )


def _key_attempts(
    transport: Transport,
    username: str,
    keys: Sequence[tuple[Signer, str]],
    notes: list[str],
    credentials: Credentials,
) -> list[_Attempt]:
    """Return an attempt for each key; and take a note of each that is too short, or signs with nothing enabled."""
    attempts: list[_Attempt] = []
    smallest_rsa_bits = credentials.smallest_rsa_bits
    for key, source in keys:
        public = key.public_key
        if public.key_type == "ssh-rsa" and public.bits < smallest_rsa_bits:
            notes.append(f"{key.fingerprint} ({source}) was not tried: RequiredRSASize wants {smallest_rsa_bits} bits")
            continue
        try:
            attempts.append(_key_attempt(transport, username, key, source, binds_to_host=credentials.binds_to_host))
        except LocalProtocolError as error:
            notes.append(f"{key.fingerprint} ({source}) was not tried: {error}")
    return attempts


def _attempts(
    transport: Transport, username: str, credentials: Credentials, notes: list[str]
) -> list[_Attempt | _AskAgent]:
    """Return everything that can be tried, in order: keys, answers to prompts, the password."""
    attempts: list[_Attempt | _AskAgent] = []
    if transport.gss_kex_used:
        attempts.append(_Attempt(KEYEX, KEYEX, partial(transport.gssapi_keyex_dialog, username)))
    if credentials.gss is not None:
        attempts.append(_Attempt(WITH_MIC, WITH_MIC, partial(transport.gssapi_dialog, username, credentials.gss)))
    for key in credentials.client_host_keys:
        try:
            attempts.append(_host_attempt(transport, username, key, credentials))
        except LocalProtocolError as error:
            notes.append(f"{key.fingerprint} (of this host) was not tried: {error}")
    attempts += _key_attempts(transport, username, credentials.keys, notes, credentials)
    if credentials.agent_path is not None:
        attempts.append(_AskAgent())
    attempts += _key_attempts(transport, username, credentials.found_keys, notes, credentials)
    handler, password = credentials.prompt_handler, credentials.password
    interactive = partial(interactive_as_client, username, "", transport.limits)
    if handler is not None:
        attempts.append(_Attempt("keyboard-interactive", "keyboard-interactive", interactive, handler))
    if password is not None:
        dialog = partial(_password_dialog, username, password)
        attempts.append(_Attempt("password", "password", dialog, secret=password))
        if handler is None:
            # Many servers ask for the password this way only.  One hidden prompt is it; anything else isn't ours to
            # answer.
            answer, what = _answer_with(password), "password, as the answer to a prompt"
            attempts.append(
                _Attempt("keyboard-interactive", what, interactive, answer, unless="password", secret=password)
            )
    return attempts


def _password_dialog(username: str, password: Secret) -> Dialog[AuthAnswer]:
    assert password.known is not None, "whoever has it was asked before"
    return password_as_client(username, password.known)


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
        self._not_allowed: dict[str, str] = {}
        self.attempts: list[AuthAttempt] = []
        self.allowed: tuple[str, ...] | None = None
        self.has_key: bool = bool(credentials.keys or credentials.found_keys)

    @property
    def notes(self) -> list[str]:
        """What was not tried, and why."""
        allowed = self.allowed or ()
        not_allowed = [note for what, note in self._not_allowed.items() if what not in allowed]
        return [
            *not_allowed,
            *self._agent_notes,
            *self._key_notes,
            *self._credentials.notes,
            *(half.note for half in self._halves),
        ]

    async def run(self) -> bool:
        """Tell whether the server is content in the end."""
        refused: list[_Attempt | _AskAgent] = []
        while self._left or self.allowed is None:
            attempt = self._left.pop(0) if self._left else self._nothing()
            if self.allowed is not None and (attempt.method not in self.allowed or attempt.unless in self.allowed):
                self._pass_over(attempt)
                refused.append(attempt)
                continue
            if isinstance(attempt, _AskAgent):
                await self._ask_agent()
                continue
            if attempt.secret is not None and await attempt.secret() is None:
                self._key_notes.append(f"{attempt.what} was not tried: whoever was asked for it gave none")
                continue
            answer = await self._try(attempt)
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

    async def _try(self, attempt: _Attempt) -> AuthAnswer:
        new_password = self._credentials.new_password
        try:
            return await self._transport.try_authenticate(
                self._username, attempt.dialog(), attempt.prompt_handler, new_password
            )
        except (ConnectionLost, RemoteProtocolError):
            self.attempts.append(attempt.ended(AuthOutcome.LOST))
            raise

    def _pass_over(self, attempt: _Attempt | _AskAgent) -> None:
        method = attempt.method
        if method != "none" and not attempt.unless and method not in {each.method for each in self.attempts}:
            self._not_allowed[method] = f"{method} was not tried: the server doesn't allow it"

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
        locked = {key.asbytes() for key, _ in credentials.found_keys if isinstance(key, LockedKey)}
        named = {half.key.blob for half in self._halves} | locked
        identities = given | named | {key.asbytes() for key, _ in credentials.found_keys}
        if credentials.identities_only:
            keys = [key for key in keys if not identities.isdisjoint((key.asbytes(), certified_blob(key)))]
        keys = [key for key in keys if key.asbytes() not in given and key.algorithms]
        # A key that was asked for comes first: servers are patient with a few only.
        keys.sort(key=lambda key: key.asbytes() not in named)
        held = {key.asbytes() for key in keys}
        self._halves = [half for half in self._halves if half.key.blob not in held]
        self.has_key = self.has_key or bool(keys)
        sources = [
            each
            for key in keys
            for each in certified_forms(
                key, f"of the agent, {printable(key.comment, 64) or 'nameless'}", credentials.certificates
            )
        ]
        attempts = _key_attempts(self._transport, self._username, sources, self._key_notes, credentials)
        left = [attempt for attempt in self._left if not isinstance(attempt, _Attempt) or attempt.blob not in held]
        self._left = [*_wanted(attempts, credentials, self._key_notes), *left]

    def _note(self, attempt: _Attempt, answer: AuthAnswer) -> None:
        if answer.is_decided:
            self.allowed = answer.allowed
        outcome = AuthOutcome.PARTIAL if answer.is_partial else AuthOutcome.REFUSED
        if not answer.is_decided:
            outcome = AuthOutcome.NOT_SIGNED if attempt.blob else AuthOutcome.GIVEN_UP
        self.attempts.append(attempt.ended(outcome, allowed=answer.allowed, remark=printable(answer.remark, 400)))


async def log_in(transport: Transport, username: str, credentials: Credentials) -> None:
    """Try keys, the agent's among them, then prompts, then the password, until the server is content.

    Raises:
        AuthenticationException: it never was; the text tells every attempt, what the server still allows, and what to
            do.
        ConnectionLost: the connection ended before the first answer.
        RemoteProtocolError: the server broke the protocol.
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
        if all(attempt.outcome is AuthOutcome.LOST for attempt in login.attempts):
            raise  # before the first answer: nothing was refused
        raise AuthenticationException(
            f"could not log in as {shown}: {error}{_hint_for_the_impatient(error, login.attempts)}",
            attempts=login.attempts,
            tried=login.notes,
        ) from error
    allowed = login.allowed or ()
    raise AuthenticationException(
        f"could not log in as {shown}{_hint(allowed, credentials, login)}",
        attempts=login.attempts,
        tried=login.notes,
        allowed=allowed,
    )


def _hint_for_the_impatient(error: ConnectionLost, attempts: Sequence[AuthAttempt]) -> str:
    """Say what to do about a server whose patience ended before the keys did."""
    keys = sum(1 for attempt in attempts if attempt.method == "publickey")
    told = error.__cause__ if isinstance(error.__cause__, PeerDisconnected) else error
    is_impatient = isinstance(told, PeerDisconnected) and (
        told.reason == DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE or "too many" in told.message.lower()
    )
    if not is_impatient or keys < 2:
        return ""
    return (
        f". {keys} keys were offered, and the server wanted no more of them: name the right one (pkey= or "
        "key_filename=; IdentityFile), and keep the agent's others back with identities_only=True (IdentitiesOnly yes)"
    )


def _answer_with(password: Secret) -> PromptHandler:
    def answer(name: str, instructions: str, prompts: Sequence[Prompt]) -> Sequence[str]:
        assert password.known is not None, "whoever has it was asked before"
        return [password.known if len(prompts) == 1 and not prompt.echo else "" for prompt in prompts]

    return answer


def _hint(allowed: Sequence[str], credentials: Credentials, login: _Login) -> str:
    is_partly_in = any(attempt.outcome is AuthOutcome.PARTIAL for attempt in login.attempts)
    begin = ": what it accepted is not enough for this server" if is_partly_in else ""
    if "publickey" in allowed and not login.has_key:
        searched = " and none could be used from ~/.ssh" if credentials.has_looked_for_keys else ""
        refused = {attempt.method for attempt in login.attempts if attempt.outcome is AuthOutcome.REFUSED}
        if "password" in refused and not begin:
            return f": the password was refused, and no key was given{searched}"
        return f"{begin}: no key was given{searched}; pass pkey= or key_filename="
    if "password" in allowed and credentials.password is None:
        return f"{begin}: pass password="
    if "keyboard-interactive" in allowed and credentials.prompt_handler is None and is_partly_in:
        return f"{begin}: pass prompt_handler= to answer its questions"
    return begin
