"""`SSHConfig`: ssh_config(5), read and asked."""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar, Final, Self

import trio

from trio_ssh.config.evaluation import Evaluation
from trio_ssh.config.options import SSHOptions
from trio_ssh.config.parser import HostLine, IncludeLine, Line, Parser
from trio_ssh.config.tokens import LocalFacts
from trio_ssh.runtime.hints import CONFIG_HINTS, Hints, HintTable

USER_CONFIG: Path = Path("~/.ssh/config")
SYSTEM_CONFIG: Path = Path("/etc/ssh/ssh_config")
_VERSION: Final = "trio_ssh"
_NOBODY: Final = LocalFacts("", "", "", "", {})


class ConfigSource(enum.Enum):
    """Which configuration `connect` reads, where it is given none."""

    #: ``~/.ssh/config`` and ``/etc/ssh/ssh_config``, as `SSHConfig.load_default` does.
    DEFAULT = "the user's and the system's"


class SSHConfig(Hints):
    """A configuration in the form of ssh_config(5).

        config = await SSHConfig.from_path("~/.ssh/config")
        options = await config.lookup("alias")
        print(options.hostname, options.identity_file)

    The names are paramiko's.  Reading waits for files, and looking up may wait for commands (``Match exec``) and DNS
    (``CanonicalizeHostname``), so both are awaited.
    """

    _HINTS: ClassVar[HintTable] = CONFIG_HINTS

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._local: LocalFacts | None = None

    def __repr__(self) -> str:
        return f"<SSHConfig of {len(self.get_hostnames())} host patterns>"

    # -- reading

    @classmethod
    async def from_text(cls, text: str, *, name: str = "ssh_config") -> Self:
        """Read text; `name` is what error messages call it.

        Raises:
            ConfigParseError: there is a mistake in it, or in a file that it includes.
        """
        config = cls()

        def read() -> None:
            parser = config._parser()
            config._lines.extend(parser.read_text(text, name))

        await trio.to_thread.run_sync(read, abandon_on_cancel=True)
        return config

    @classmethod
    async def from_path(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file, as ``ssh -F`` does: without the system's.

        Raises:
            OSError: it can't be read.
            ConfigParseError: there is a mistake in it, or in a file that it includes.
        """
        config = cls()

        def read() -> None:
            config._lines.extend(config._parser().read_file(os.path.expanduser(path)))

        await trio.to_thread.run_sync(read, abandon_on_cancel=True)
        return config

    @classmethod
    async def from_file(cls, file: IO[str]) -> Self:
        """Read an open file; it stays open.

        Raises:
            As `from_path`.
        """
        text = await trio.to_thread.run_sync(file.read)
        return await cls.from_text(text, name=str(getattr(file, "name", "ssh_config")))

    @classmethod
    async def load_default(cls) -> Self:
        """Read the user's file and then the system's, where there are such files.

        Raises:
            OSError: there is one, and it can't be read.
            ConfigParseError: there is a mistake in it, or others may write to the user's.
        """
        config = cls()
        await trio.to_thread.run_sync(config._load_default, abandon_on_cancel=True)
        return config

    def _gathered(self) -> LocalFacts:
        if self._local is None:
            self._local = LocalFacts.gather()
        return self._local

    def _parser(self) -> Parser:
        local = self._gathered()
        return Parser(local, folder=os.path.join(local.home, ".ssh"))

    def _load_default(self) -> None:
        local = self._gathered()
        user = Parser(local, folder=os.path.join(local.home, ".ssh"), checks_permissions=True)
        self._add_if_there(user, USER_CONFIG.expanduser())
        system = Parser(local, folder=os.fspath(SYSTEM_CONFIG.parent), is_user=False, excused=user.excused)
        self._add_if_there(system, SYSTEM_CONFIG)

    def _add_if_there(self, parser: Parser, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            # As if it was included: the last block of one file does not go on in the next.
            self._lines.append(IncludeLine((parser.read_file(path),)))

    # -- asking

    async def lookup(self, hostname: str, *, port: int | None = None, user: str | None = None) -> SSHOptions:
        """Return what the configuration says of a host.

        Args:
            hostname: a name, alias or address, as it would be given to ssh.
            port, user: what would be given with it; these win, and ``Match user`` sees them.

        Raises:
            ValueError: no host has such a name, or a shell would interpret it in the middle of a command.
            ConfigParseError: a token or variable stands for nothing, or a command of ``Match exec`` can't be run.
            CouldNotCanonicalize: no domain knows the host, and the configuration says not to go on.
        """
        await trio.lowlevel.checkpoint()
        local = self._local
        if local is None:
            # Where nothing is said, nothing has to be known to fill it in.
            local = await trio.to_thread.run_sync(self._gathered, abandon_on_cancel=True) if self._lines else _NOBODY
        evaluation = Evaluation(self._lines, local=local, version=_VERSION, hostname=hostname, port=port, user=user)
        return await evaluation.run()

    def get_hostnames(self) -> set[str]:
        """Return every pattern of every ``Host`` line, included files' too."""
        return set(_host_patterns(self._lines))


def _host_patterns(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, HostLine):
            yield from line.patterns
        elif isinstance(line, IncludeLine):
            for included in line.files:
                yield from _host_patterns(included)
