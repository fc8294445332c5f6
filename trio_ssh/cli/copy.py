"""``copy``: files and trees from a host, to one, or from one to another.

A place is ``[user@]host:path`` or a local path; what has a ``/`` before its first ``:`` is local.  Hosts are looked up
in the user's configuration and known_hosts.  What is asked is asked on the terminal, and never on stdin.

A target that is a directory is what is put into, as with cp.  To go on with a tree, that rule is of no use: the first
run has made the directory.  So with ``--resume`` a tree's target is the copy itself, as with ``cp -T``, unless it is
written as a directory: by a ``/`` at its end, or as ``.`` or ``..``.  Files of trees always keep their times, by which
those that are complete are known.
"""

from __future__ import annotations

import getpass
import io
import os
import posixpath
import sys
from collections.abc import Awaitable, Callable
from typing import Final, Self

import attrs
import trio

import trio_ssh
from trio_ssh.sftp.local import part_name
from trio_ssh.sftp.progress import ProgressLine
from trio_ssh.wire.text import printable

if sys.platform != "win32":
    import termios

#: What a shell says of a command that Ctrl-C ended.
INTERRUPTED: Final = 130

#: How often a password is asked for.
_TRIES: Final = 3


class CannotCopy(Exception):
    """What the user asked for can't be done; the text says why."""


@attrs.frozen
class Place:
    """Where something is, or is to be.

    Attributes:
        host: None on this machine; else what the user calls it.
        path: as it was written; on a host, relative ones begin at the user's home.
    """

    path: str
    host: str | None = None
    username: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a place as scp does: ``[user@]host:path``, an IPv6 address in brackets, or a local path."""
        head, colon, path = text.partition(":")
        if text.startswith("[") or "@[" in head:
            bracket = text.find("]:")
            if bracket >= 0:
                head, colon, path = text[: bracket + 1], ":", text[bracket + 2 :]
        if not colon or "/" in head or not head:
            return cls(text)
        username, at, host = head.rpartition("@")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host:
            raise CannotCopy(f"{printable(text)} names no host: write host:path, or ./ before a local name")
        # The protocol knows no ~, and relative paths begin there.
        path = path[2:].lstrip("/") if path.startswith("~/") else "" if path == "~" else path
        return cls(path or ".", host, username if at else None)

    @property
    def is_directory(self) -> bool:
        """Whether it is written as a directory to put something into, and can't be the name of a copy."""
        return self.path.endswith("/") or not self.name

    @property
    def name(self) -> str:
        """The last part of the path; empty where that is no name, as in ``/`` or ``..``."""
        name = posixpath.basename(self.path.rstrip("/"))
        return "" if name in (".", "..") else name

    def inside(self, name: str) -> Place:
        """Return the place of a name in this directory."""
        return attrs.evolve(self, path=posixpath.join(self.path, name)) if name else self


@attrs.frozen(kw_only=True)
class Settings:
    """What the command line says."""

    source: str
    target: str
    recurse: bool = False
    preserve: bool = False
    port: int | None = None
    key: str | None = None
    resume: bool = False
    quiet: bool = False


# -- the terminal


def _read_secret(prompt: str, descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "w") as terminal:
        return getpass.getpass(prompt, stream=terminal)


async def ask(prompt: str) -> str:
    """Ask on the terminal for what is not to be seen.

    Raises:
        CannotCopy: there is no terminal, or its user says nothing.
    """
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        saved = termios.tcgetattr(descriptor)
    except (OSError, termios.error):
        raise CannotCopy(f"{prompt.rstrip(': ')} is wanted, and there is no terminal to ask on") from None
    try:
        return await trio.to_thread.run_sync(_read_secret, prompt, descriptor, abandon_on_cancel=True)
    except EOFError:
        raise CannotCopy("nothing was said") from None
    finally:
        # Whoever presses Ctrl-C leaves the thread reading, and would not see what he types from now on.
        termios.tcsetattr(descriptor, termios.TCSANOW, saved)
        os.close(descriptor)


# -- connecting


class Login:
    """What it takes to log in to one host: asked for when the server, or the key, wants it."""

    def __init__(self, place: Place, settings: Settings) -> None:
        assert place.host is not None, "a login is somewhere else"
        self._host = place.host
        self._username = place.username
        self._settings = settings
        self._passphrase: str | None = None
        self._password: str | None = None
        self._tries = 0

    async def use(self, use: Callable[[trio_ssh.SFTPClient], Awaitable[None]]) -> None:
        """Connect, and do something with SFTP."""
        is_in = False
        while True:
            connection = trio_ssh.connect(
                self._host,
                self._settings.port,
                self._username,
                self._password,
                key_filename=self._settings.key,
                passphrase=self._passphrase,
            )
            connection._client._clears_forwardings = True  # as scp and sftp do
            try:
                async with connection as client:
                    is_in = True
                    async with await client.open_sftp() as sftp:
                        await use(sftp)
                    return
            except trio_ssh.AuthenticationException as error:
                if is_in:
                    raise  # of another host
                refused = error
            await self._ask(refused)

    async def _ask(self, refused: trio_ssh.AuthenticationException) -> None:
        if isinstance(refused, trio_ssh.PasswordRequiredException):
            if self._passphrase is not None:
                raise refused
            self._passphrase = await ask(f"Passphrase of {printable(self._settings.key or 'the key')}: ")
            return
        if self._tries >= _TRIES or "password" not in refused.allowed:
            raise refused
        self._tries += 1
        name = f"{self._username}@{self._host}" if self._username else self._host
        self._password = await ask(f"Password of {printable(name)}: ")


# -- copying


class Copy:
    """One run of the command.

    Attributes:
        kept: what is left of a transfer that was interrupted, for the user to read.
        failures: how many files of a tree were not transferred.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source = Place.parse(settings.source)
        self._target = Place.parse(settings.target)
        self.kept: str = ""
        self.failures: int = 0
        if self._source.host is None and self._target.host is None:
            raise CannotCopy("both places are on this machine: name a host, as in host:path")
        if settings.resume and self._source.host is not None and self._target.host is not None:
            raise CannotCopy("--resume is for copies from or to this machine")

    async def run(self) -> None:
        """Copy."""
        source, target, settings = self._source, self._target, self._settings
        if source.host is None:
            await Login(target, settings).use(self._put)
        elif target.host is None:
            await Login(source, settings).use(self._get)
        elif (source.host, source.username) == (target.host, target.username):
            await Login(source, settings).use(lambda sftp: self._copy(sftp, sftp))
        else:
            await Login(source, settings).use(
                lambda sftp: Login(target, settings).use(lambda other: self._copy(sftp, other))
            )

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        complain(error)

    def _progress(self) -> ProgressLine:
        return ProgressLine(self._source.name or self._source.path, io.StringIO() if self._settings.quiet else None)

    def note_part(self, target: Place) -> None:
        """Something has arrived: from now on there is a part to go on with."""
        where = "" if target.host is None else f" on {printable(target.host)}"
        resumes = self._source.host is None or self._target.host is None
        going_on = "; --resume goes on with it" if resumes else ""
        if self._settings.recurse:
            path = printable(target.path)
            is_elsewhere = resumes and target != self._target and not self._target.is_directory
            named = f", if {path} is the target" if is_elsewhere else ""
            self.kept = f"complete files are kept in {path}{where}{going_on}{named}"
            return
        folder, name = posixpath.split(target.path)
        part = os.fsdecode(part_name(os.fsencode(name)))
        self.kept = f"kept as {printable(posixpath.join(folder, part))}{where}{going_on}"

    def _aim(self, *, is_tree: bool, is_there: bool) -> Place:
        """Return what the copy is to be called.

        Args:
            is_tree: a directory is copied.
            is_there: the target is a directory that is there.
        """
        target = self._target
        if is_tree and (self._settings.resume or not is_there):
            # Whatever the first run has found and made, it is the same again.
            return target.inside(self._source.name) if target.is_directory else target
        return target.inside(self._source.name) if is_there else target

    async def _get(self, sftp: trio_ssh.SFTPClient) -> None:
        settings = self._settings
        is_tree = settings.recurse and await _is_directory(sftp, self._source)
        folder = trio.Path(self._target.path)
        is_there = await folder.is_dir()
        target = self._aim(is_tree=is_tree, is_there=is_there)
        if target != self._target and not is_there:
            await folder.mkdir(exist_ok=True)
        with self._progress() as line:
            await sftp.get(
                self._source.path,
                target.path,
                _Tell(self, line, target),
                recurse=settings.recurse,
                preserve=settings.preserve,
                preserve_times=settings.recurse,
                resume=settings.resume,
                error_handler=self._failed if settings.recurse else None,
            )

    async def _put(self, sftp: trio_ssh.SFTPClient) -> None:
        settings = self._settings
        is_tree = settings.recurse and await trio.Path(self._source.path).is_dir()
        target = await self._aim_there(sftp, is_tree=is_tree)
        with self._progress() as line:
            await sftp.put(
                self._source.path,
                target.path,
                _Tell(self, line, target),
                recurse=settings.recurse,
                preserve=settings.preserve,
                preserve_times=settings.recurse,
                resume=settings.resume,
                error_handler=self._failed if settings.recurse else None,
            )

    async def _aim_there(self, sftp: trio_ssh.SFTPClient, *, is_tree: bool) -> Place:
        is_there = await _is_directory(sftp, self._target)
        target = self._aim(is_tree=is_tree, is_there=is_there)
        if target != self._target and not is_there:
            await sftp.mkdir(self._target.path)
        return target

    async def _copy(self, sftp: trio_ssh.SFTPClient, other: trio_ssh.SFTPClient) -> None:
        settings = self._settings
        is_tree = settings.recurse and await _is_directory(sftp, self._source)
        target = await self._aim_there(other, is_tree=is_tree)
        with self._progress() as line:
            await sftp.copy(
                self._source.path,
                target.path,
                line,
                recurse=settings.recurse,
                preserve=settings.preserve,
                error_handler=self._failed if settings.recurse else None,
                target_client=other,
            )


class _Tell:
    """A transfer's callback: the line, and the note that there is something to keep."""

    def __init__(self, copy: Copy, line: ProgressLine, target: Place) -> None:
        self._copy = copy
        self._line = line
        self._target = target

    def __call__(self, done: int, total: int) -> None:
        # Of what is only under way nothing is kept.
        if done and not self._copy.kept:
            self._copy.note_part(self._target)
        self._line(done, total)


async def _is_directory(sftp: trio_ssh.SFTPClient, place: Place) -> bool:
    try:
        return (await sftp.stat(place.path)).is_dir()
    except trio_ssh.SFTPError:
        return False


def complain(error: BaseException) -> None:
    """Say in one line what went wrong."""
    if isinstance(error, IsADirectoryError) and error.strerror:
        error.strerror = error.strerror.replace("recurse=True", "-r")  # as it is called on a command line
    text = str(error) or type(error).__name__
    print("\r\x1b[K" * sys.stderr.isatty() + f"copy: {text}", file=sys.stderr)


def run(settings: Settings) -> int:
    """Copy; return the exit status."""
    copy: Copy | None = None
    try:
        copy = Copy(settings)
        # A signal is noticed where a task waits, so that no file is left half open or half renamed.
        trio.run(copy.run, restrict_keyboard_interrupt_to_checkpoints=True)
    except KeyboardInterrupt:
        kept = f": {copy.kept}" if copy is not None and copy.kept else ""
        print(f"copy: interrupted{kept}", file=sys.stderr)
        return INTERRUPTED
    except (CannotCopy, OSError, ValueError, trio_ssh.SSHException) as error:
        complain(error)
        return 1
    return 1 if copy.failures else 0
