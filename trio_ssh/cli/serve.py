"""``serve``: a directory by SFTP, for as long as the command runs.

Nothing but SFTP is served: no shell, no command, no forwarding.  Without a file that says who may come, a password is
made up and shown, and forgotten when the command ends.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

import trio_ssh
from trio_ssh.runtime.block import leaves
from trio_ssh.wire.text import printable

#: Bytes of a password that is made up: as hard to guess as a key of 128 bits.
_PASSWORD_BYTES: Final = 16


class CannotServe(Exception):
    """Something that the user named isn't there, or isn't what it should be; the text says what."""


@attrs.frozen(kw_only=True)
class Settings:
    """What the command line says.

    Attributes:
        folder: what is served.
        authorized_keys, password_file, host_key: files, or None.
    """

    folder: str
    host: str = "127.0.0.1"
    port: int = 0
    authorized_keys: str | None = None
    password_file: str | None = None
    host_key: str | None = None
    read_only: bool = False


@attrs.frozen
class Admission:
    """Who may log in: whoever has one of the keys or knows the password, under any name."""

    keys: trio_ssh.AuthorizedKeys | None
    password: str | None = attrs.field(repr=False)


class FileServer(trio_ssh.ServerInterface):
    """Serves a directory to whoever is admitted."""

    def __init__(self, admission: Admission, files: trio_ssh.SubsystemHandler) -> None:
        self._admission = admission
        self.subsystems: Mapping[str, trio_ssh.SubsystemHandler | Callable[[], trio_ssh.SubsystemHandler]] = {
            "sftp": files
        }

    def get_allowed_auths(self, username: str) -> list[str]:
        """Name the methods that someone could log in by."""
        admission = self._admission
        return [
            *(["publickey"] if admission.keys is not None else []),
            *(["password"] if admission.password is not None else []),
        ]

    def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys | None:
        """Admit the keys of the file, and hold them to its options."""
        return self._admission.keys

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        """Admit whoever knows the password."""
        expected = self._admission.password
        is_right = expected is not None and hmac.compare_digest(
            password.encode("utf-8", "surrogateescape"), expected.encode("utf-8", "surrogateescape")
        )
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED


def _admission(settings: Settings) -> Admission:
    keys: trio_ssh.AuthorizedKeys | None = None
    password: str | None = None
    if settings.authorized_keys is not None:
        keys = trio_ssh.AuthorizedKeys.load(settings.authorized_keys)
    if settings.password_file is not None:
        text = Path(settings.password_file).read_text("utf-8", "surrogateescape")
        password = text.split("\n", 1)[0].removesuffix("\r")
        if not password:
            raise CannotServe(f"{printable(settings.password_file)}: the first line, which is the password, is empty")
    if keys is None and password is None:
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
    return Admission(keys, password)


def _host_key(settings: Settings) -> trio_ssh.PKey:
    if settings.host_key is None:
        return trio_ssh.Ed25519Key.generate()
    return trio_ssh.load_private_key_file(settings.host_key)


def _reachable(host: str) -> str:
    """Return what a client on this machine calls a server that listens at `host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


async def serve(
    settings: Settings,
    say: Callable[[str], None],
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; the port is what `nursery.start` returns.

    Args:
        say: prints a line.

    Raises:
        CannotServe, OSError, trio_ssh.SSHException: a file or the address can't be used; the text says which.
    """
    if not settings.folder:
        raise CannotServe("an empty path is no directory: name one that shall be served, or . for this one")
    if not await trio.Path(settings.folder).is_dir():
        raise CannotServe(f"{printable(settings.folder)} is no directory: name one that shall be served")
    admission = _admission(settings)
    host_key = _host_key(settings)
    files = trio_ssh.LocalSFTPServer(settings.folder, read_only=settings.read_only)
    async with trio.open_nursery() as nursery:
        start = partial(
            trio_ssh.serve_tcp,
            partial(FileServer, admission, files),
            settings.port,
            host=settings.host,
            host_keys=[host_key],
        )
        try:
            [listener, *_] = await nursery.start(start)
        except OSError as error:
            raise CannotServe(f"{printable(settings.host)} port {settings.port}: {error.strerror or error}") from error
        port: int = listener.socket.getsockname()[1]
        _announce(settings, admission, host_key, port, say)
        task_status.started(port)


def _announce(
    settings: Settings, admission: Admission, host_key: trio_ssh.PKey, port: int, say: Callable[[str], None]
) -> None:
    folder = printable(os.path.abspath(settings.folder))
    say(f"serving   {folder}{', read-only' if settings.read_only else ''}, on {settings.host} port {port}")
    kept = "" if settings.host_key else ", made for this run"
    say(f"host key  {host_key.get_name()} {host_key.fingerprint}{kept}")
    if admission.keys is not None:
        say(f"log in    by a key of {printable(str(settings.authorized_keys))}")
    if admission.password is not None:
        shown = "the one of " + printable(settings.password_file) if settings.password_file else admission.password
        say(f"password  {shown}")
    say(f"try       sftp -P {port} {shlex.quote(f'files@{_reachable(settings.host)}')}")
    say("Ctrl-C ends it")


def run(settings: Settings) -> int:
    """Serve until Ctrl-C; return the exit status."""

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        # A signal is noticed where a task waits: between the making of a coroutine and its first step, Ctrl-C would
        # leave one that was never awaited.
        trio.run(serve, settings, say, restrict_keyboard_interrupt_to_checkpoints=True)
    except KeyboardInterrupt:
        pass
    except (CannotServe, OSError, trio_ssh.SSHException) as error:
        print(f"can't serve: {error}", file=sys.stderr)
        return 1
    except BaseExceptionGroup as group:
        found = list(leaves(group))
        if any(isinstance(error, KeyboardInterrupt) for error in found):
            pass
        elif all(isinstance(error, CannotServe | OSError | trio_ssh.SSHException) for error in found):
            print(f"can't serve: {found[0]}", file=sys.stderr)
            return 1
        else:
            raise
    say("\nended")
    return 0
