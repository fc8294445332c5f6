"""What a benchmark is made of: libraries, contenders, and comparisons of them in columns."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import attrs

from tests.benchmarks.adapters.roles import Sample

Figure = Callable[[Mapping[str, float]], float | None]

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

AES_GCM: Final = "aes128-gcm@openssh.com"
CHACHA20: Final = "chacha20-poly1305@openssh.com"
AES_CTR: Final = "aes256-ctr"
CIPHERS: Final = (AES_GCM, CHACHA20, AES_CTR)
MAC: Final = "hmac-sha2-256-etm@openssh.com"

SSHD: Final = "sshd"
PEERS: Final = "peers"


@attrs.frozen(kw_only=True)
class Library:
    """Something that speaks SSH, as a client and as a server; or what a library is built on, which speaks to itself."""

    name: str
    adapter: str  # a module of `tests.benchmarks.adapters`
    module: str | None  # what a program imports; None for one that is not a Python package
    only: frozenset[str] | None = None  # roles that its adapter has, where it has few
    lacks: frozenset[str] = frozenset()  # ciphers it has not
    cannot: frozenset[str] = frozenset()  # roles that its adapter has not
    speaks_ssh: bool = True
    most_at_once: int = 10_000
    most_bytes: int | None = None  # what it can transfer in one go

    @property
    def is_installed(self) -> bool:
        """Whether it can take part on this machine."""
        if self.module is None:
            return shutil.which("ssh") is not None
        return importlib.util.find_spec(self.module) is not None


BULK: Final = frozenset({"bulk_down", "bulk_up"})

OPENSSH: Final = Library(
    name="openssh", adapter="with_openssh", module=None, cannot=frozenset({"sftp_stat", "sftp_read"})
)
OPENSSH_FILES: Final = Library(name="openssh-files", adapter="with_openssh_files", module=None, only=BULK)
TRIO_SSH: Final = Library(name="trio_ssh", adapter="with_trio_ssh", module="trio_ssh")
ASYNCSSH: Final = Library(name="asyncssh", adapter="with_asyncssh", module="asyncssh")
ASYNCSSH_CALLBACKS: Final = Library(
    name="asyncssh-callbacks", adapter="with_asyncssh_callbacks", module="asyncssh", only=BULK
)
# paramiko 5.1 asks for new keys after 512 MiB, and loses the connection when data is in flight then.
PARAMIKO: Final = Library(
    name="paramiko",
    adapter="with_paramiko",
    module="paramiko",
    lacks=frozenset({CHACHA20}),
    most_at_once=10,  # an SFTP session serves one thread at a time
    most_bytes=256 * MIB,
)
BARE_TRIO: Final = Library(
    name="bare_trio",
    adapter="bare_trio",
    module="trio",
    only=BULK | {"echo", "exec_sequential"},
    lacks=frozenset({CHACHA20, AES_CTR}),
    speaks_ssh=False,
)
LIBRARIES: Final = (OPENSSH, OPENSSH_FILES, TRIO_SSH, ASYNCSSH, ASYNCSSH_CALLBACKS, PARAMIKO, BARE_TRIO)


@attrs.frozen(kw_only=True)
class Settings:
    """What the command line asked for."""

    rounds: int
    libraries: Sequence[Library]
    servers: Sequence[str]  # SSHD, PEERS or both
    ciphers: Sequence[str]
    size: int  # bytes of a bulk transfer
    count: int | None  # repetitions, in place of each workload's own number


@attrs.frozen(kw_only=True)
class Workspace:
    """Files that every run of a session shares."""

    directory: Path
    host_key: Path
    client_key: Path
    authorized_keys: Path
    user: str


class Contender(Protocol):
    """Who is compared: something that can be measured again and again."""

    @property
    def label(self) -> str:
        """How tables name it."""
        ...

    @property
    def library(self) -> str:
        """By which name it can be the reference."""
        ...

    @property
    def kind(self) -> str:
        """Against whom it ran: a reference of the same kind is preferred."""
        ...

    def measure(self, workspace: Workspace) -> Sample:
        """Run once, in processes of its own.

        Raises:
            RuntimeError: the run failed; the text says how.
        """
        ...


@attrs.frozen
class Column:
    """One figure of a sample, as a table shows it."""

    title: str
    figure: Figure
    digits: int = attrs.field(default=0, kw_only=True)
    shows_spread: bool = attrs.field(default=False, kw_only=True)
    shows_ratio: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen(kw_only=True)
class Comparison:
    """Contenders that take turns at one thing: one table."""

    workload: str
    title: str
    contenders: Sequence[Contender]
    columns: Sequence[Column]
    reference: str  # a library
    least_rounds: int = 1


@attrs.frozen
class Workload:
    """A thing to measure, under the name the command line has for it."""

    name: str
    summary: str
    comparisons: Callable[[Settings], list[Comparison]]


def quantity(name: str, *, scale: float = 1.0, per: str | None = None) -> Figure:
    """Take a measurement out of a sample.

    Args:
        name: the measurement; a sample without it has no such figure.
        scale: what to multiply it by.
        per: another measurement to divide it by.
    """

    def figure(sample: Mapping[str, float]) -> float | None:
        if name not in sample:
            return None
        return sample[name] * scale / (sample[per] if per else 1.0)

    return figure


def rate(work: str, *, scale: float = 1.0) -> Figure:
    """Divide a measurement by the wall time."""
    return quantity(work, scale=scale, per="wall_seconds")
