"""Logging in: which credentials are tried, in which order, and what is said when none of them will do."""

from __future__ import annotations

from collections.abc import Sequence
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
from trio_ssh.core.questions import Prompt
from trio_ssh.errors import AuthenticationException, ConnectionLost, KeyFileException, PasswordRequiredException
from trio_ssh.keys.files import load_private_key_file
from trio_ssh.keys.private_key import PKey
from trio_ssh.runtime.transport import PromptHandler, Transport
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
    """

    keys: Sequence[tuple[PKey, str]] = ()
    password: str | None = attrs.field(default=None, repr=False)
    prompt_handler: PromptHandler | None = None
    notes: Sequence[str] = ()


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
    keys = [(key, "given") for key in given]
    names = [key_filename] if isinstance(key_filename, str | Path) else list(key_filename or ())
    for name in names:
        keys.append((await trio.to_thread.run_sync(load_private_key_file, name, passphrase), str(name)))
    notes: list[str] = []
    if look_for_keys:
        for default in DEFAULT_KEYS:
            path = Path("~/.ssh").expanduser() / default
            if not path.exists():
                continue
            try:
                keys.append((await trio.to_thread.run_sync(load_private_key_file, path, passphrase), str(path)))
            except PasswordRequiredException:
                notes.append(f"{path} was not tried: it is encrypted, and no passphrase was given")
            except KeyFileException as error:
                notes.append(f"{path} was not tried: {error}")
    return Credentials(keys=keys, password=password, prompt_handler=prompt_handler, notes=notes)


class _Attempts:
    """Tries one thing after another, and keeps the account of it."""

    def __init__(self, transport: Transport, username: str) -> None:
        self._transport = transport
        self._username = username
        self.tried: list[str] = []
        self.allowed: tuple[str, ...] | None = None

    def may(self, method: str) -> bool:
        """Is it worth trying?  Before the first answer nobody knows."""
        return self.allowed is None or method in self.allowed

    def report(self, answer: AuthAnswer, what: str) -> bool:
        """Note an answer; tell whether the user is in."""
        if answer.is_success:
            return True
        self.allowed = answer.allowed
        outcome = "accepted, but more is wanted" if answer.is_partial else "refused"
        self.tried.append(f"{what}: {outcome}" + (f" ({answer.remark})" if answer.remark else ""))
        return False

    async def try_key(self, key: PKey, source: str) -> bool:
        algorithm = self._transport.choose_algorithm(key)
        dialog = self._transport.publickey_dialog(self._username, key)
        answer = await self._transport.try_authenticate(self._username, dialog)
        return self.report(answer, f"publickey {algorithm} {key.fingerprint} ({source})")

    async def try_password(self, password: str) -> bool:
        answer = await self._transport.try_authenticate(self._username, password_as_client(self._username, password))
        return self.report(answer, "password")

    async def try_interactive(self, handler: PromptHandler) -> bool:
        dialog = interactive_as_client(self._username, "", self._transport.limits)
        answer = await self._transport.try_authenticate(self._username, dialog, handler)
        return self.report(answer, "keyboard-interactive")

    async def try_none(self) -> bool:
        return self.report(
            await self._transport.try_authenticate(self._username, none_as_client(self._username)), "none"
        )


async def log_in(transport: Transport, username: str, credentials: Credentials) -> None:
    """Try keys, then prompts, then the password, until the server is content.

    Raises:
        AuthenticationException: it never was; the text tells every attempt, what the server still allows, and what to do.
    """
    attempts = _Attempts(transport, username)
    try:
        if await _try_all(attempts, credentials):
            return
    except ConnectionLost as error:
        if not attempts.tried:
            raise
        raise AuthenticationException(
            f"could not log in as {printable(username, 64)}: {error}", tried=[*attempts.tried, *credentials.notes]
        ) from error
    hint = _hint(attempts, credentials)
    raise AuthenticationException(
        f"could not log in as {printable(username, 64)}{hint}",
        tried=[*attempts.tried, *credentials.notes],
        allowed=attempts.allowed or (),
    )


async def _try_all(attempts: _Attempts, credentials: Credentials) -> bool:
    if not credentials.keys and credentials.password is None and credentials.prompt_handler is None:
        return await attempts.try_none()
    for key, source in credentials.keys:
        if attempts.may("publickey") and await attempts.try_key(key, source):
            return True
    if credentials.prompt_handler is not None and attempts.may("keyboard-interactive"):
        if await attempts.try_interactive(credentials.prompt_handler):
            return True
    password = credentials.password
    if password is not None:
        if attempts.may("password"):
            if await attempts.try_password(password):
                return True
        if (
            credentials.prompt_handler is None
            and attempts.allowed is not None
            and "keyboard-interactive" in attempts.allowed
        ):
            # Many servers ask for the password this way only.  One hidden prompt is it; anything else isn't ours to answer.
            if "password" not in attempts.allowed and await attempts.try_interactive(_answer_with(password)):
                return True
    return False


def _answer_with(password: str) -> PromptHandler:
    def answer(name: str, instructions: str, prompts: Sequence[Prompt]) -> Sequence[str]:
        return [password if len(prompts) == 1 and not prompt.echo else "" for prompt in prompts]

    return answer


def _hint(attempts: _Attempts, credentials: Credentials) -> str:
    allowed = attempts.allowed or ()
    if "publickey" in allowed and not credentials.keys:
        return ": no key was given and none found in ~/.ssh; pass pkey= or key_filename="
    if "password" in allowed and credentials.password is None and not credentials.keys:
        return ": pass password="
    return ""
