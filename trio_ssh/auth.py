"""Logging in: which credentials are tried, in which order, and what is said when none of them will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_ssh.core.auth_client import (
    AuthAnswer,
    interactive_as_client,
    none_as_client,
    password_as_client,
)
from trio_ssh.core.dialog import Dialog
from trio_ssh.core.questions import Prompt
from trio_ssh.errors import AuthenticationException, ConnectionLost, KeyFileException, PasswordRequiredException
from trio_ssh.keys.files import load_private_key_file
from trio_ssh.keys.private_key import PKey
from trio_ssh.runtime.handshake import PromptHandler
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.text import printable

#: What is looked for in ``~/.ssh``, as ssh does.
DEFAULT_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")


@attrs.frozen(kw_only=True)
class Credentials:
    """What a user can prove who they are with.

    Attributes:
        keys: each with where it came from.
        password: for ``password``, and for a single hidden prompt of ``keyboard-interactive``.
        prompt_handler: answers ``keyboard-interactive``.
        notes: why some keys that one might expect are not among `keys`.
        has_looked_for_keys: ``~/.ssh`` was searched.
    """

    keys: Sequence[tuple[PKey, str]] = ()
    password: str | None = attrs.field(default=None, repr=False)
    prompt_handler: PromptHandler | None = None
    notes: Sequence[str] = ()
    has_looked_for_keys: bool = False


async def load_credentials(
    *,
    pkey: PKey | Sequence[PKey] | None,
    key_filename: str | Path | Sequence[str | Path] | None,
    passphrase: str | None,
    look_for_keys: bool,
    password: str | None,
    prompt_handler: PromptHandler | None,
) -> Credentials:
    """Read the keys that the user named, and those in ``~/.ssh``.

    Raises:
        KeyFileException: a file that the user *named* can't be used.
        PasswordRequiredException: it is encrypted, and there is no passphrase.
    """
    given = [pkey] if isinstance(pkey, PKey) else list(pkey or ())
    names = [key_filename] if isinstance(key_filename, str | Path) else list(key_filename or ())
    loaded: list[tuple[PKey, str]] = []
    notes: list[str] = []
    if names or look_for_keys:
        loaded, notes = await trio.to_thread.run_sync(_load_keys, names, passphrase, look_for_keys)
    return Credentials(
        keys=[*((key, "given") for key in given), *loaded],
        password=password,
        prompt_handler=prompt_handler,
        notes=notes,
        has_looked_for_keys=look_for_keys,
    )


def _load_keys(
    names: Sequence[str | Path], passphrase: str | None, look_for_keys: bool
) -> tuple[list[tuple[PKey, str]], list[str]]:
    """Read the named keys and, if wanted, those in ``~/.ssh``; return them, and notes on those that weren't usable."""
    keys = [(load_private_key_file(name, passphrase), str(name)) for name in names]
    notes: list[str] = []
    for default in DEFAULT_KEYS if look_for_keys else ():
        path = Path("~/.ssh").expanduser() / default
        if not path.exists():
            continue
        try:
            keys.append((load_private_key_file(path, passphrase), str(path)))
        except PasswordRequiredException:
            notes.append(f"{path} was not tried: it is encrypted, and no passphrase was given")
        except KeyFileException as error:
            notes.append(f"{path} was not tried: {error}")
    return keys, notes


@attrs.frozen(eq=False)
class _Attempt:
    """One way in: its method, how the report calls it, and what runs it."""

    method: str
    what: str
    dialog: Callable[[], Dialog[AuthAnswer]] = attrs.field(repr=False)
    prompt_handler: PromptHandler | None = None
    #: Not tried where the server allows this method, which is another way to the same.
    unless: str = ""


def _attempts(transport: Transport, username: str, credentials: Credentials) -> list[_Attempt]:
    """Return everything that can be tried, in order: keys, answers to prompts, the password."""
    attempts = [
        _Attempt(
            "publickey",
            f"publickey {transport.choose_algorithm(key)} {key.fingerprint} ({source})",
            partial(transport.publickey_dialog, username, key),
        )
        for key, source in credentials.keys
    ]
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
    return attempts or [_Attempt("none", "none", partial(none_as_client, username))]


class _Login:
    """Tries one thing after another, and keeps the account of it."""

    def __init__(self, transport: Transport, username: str, credentials: Credentials) -> None:
        self._transport = transport
        self._username = username
        self._left = _attempts(transport, username, credentials)
        self.tried: list[str] = []
        self.allowed: tuple[str, ...] | None = None

    async def run(self) -> bool:
        """Tell whether the server is content in the end."""
        refused: list[_Attempt] = []
        while self._left:
            attempt = self._left.pop(0)
            if self.allowed is not None and (attempt.method not in self.allowed or attempt.unless in self.allowed):
                refused.append(attempt)
                continue
            answer = await self._transport.try_authenticate(self._username, attempt.dialog(), attempt.prompt_handler)
            if answer.is_success:
                return True
            self._note(attempt, answer)
            if answer.is_partial:
                # Something else is wanted besides: what was refused, or not allowed, may be just that.
                self._left = [*refused, *self._left]
                refused = []
            else:
                refused.append(attempt)
        return False

    def _note(self, attempt: _Attempt, answer: AuthAnswer) -> None:
        self.allowed = answer.allowed
        outcome = "accepted, but more is wanted" if answer.is_partial else "refused"
        self.tried.append(f"{attempt.what}: {outcome}" + (f" ({answer.remark})" if answer.remark else ""))


async def log_in(transport: Transport, username: str, credentials: Credentials) -> None:
    """Try keys, then prompts, then the password, until the server is content.

    Raises:
        AuthenticationException: it never was; the text tells every attempt, what the server still allows, and what to
            do.
    """
    login = _Login(transport, username, credentials)
    shown = printable(username, 64)
    try:
        if await login.run():
            return
    except ConnectionLost as error:
        if not login.tried:
            raise
        tried = [*login.tried, *credentials.notes]
        raise AuthenticationException(f"could not log in as {shown}: {error}", tried=tried) from error
    allowed = login.allowed or ()
    raise AuthenticationException(
        f"could not log in as {shown}{_hint(allowed, credentials)}",
        tried=[*login.tried, *credentials.notes],
        allowed=allowed,
    )


def _answer_with(password: str) -> PromptHandler:
    def answer(name: str, instructions: str, prompts: Sequence[Prompt]) -> Sequence[str]:
        return [password if len(prompts) == 1 and not prompt.echo else "" for prompt in prompts]

    return answer


def _hint(allowed: Sequence[str], credentials: Credentials) -> str:
    if "publickey" in allowed and not credentials.keys:
        searched = " and none could be used from ~/.ssh" if credentials.has_looked_for_keys else ""
        return f": no key was given{searched}; pass pkey= or key_filename="
    if "password" in allowed and credentials.password is None:
        return ": pass password="
    return ""
