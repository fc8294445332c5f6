"""A client and a server, started as two processes: the contender of all workloads that go over a network."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

import attrs

from tests.benchmarks.adapters import roles
from tests.benchmarks.adapters.roles import ClientTask, Sample, ServerTask
from tests.benchmarks.plan import AES_GCM, MAC, MIB, OPENSSH, PEERS, SSHD, Library, Settings, Workspace

ROOT: Final = Path(__file__).resolve().parents[2]
RUN_SECONDS: Final = 900
END_SECONDS: Final = 10
SHOWN_ERROR_LINES: Final = 3


@attrs.frozen(kw_only=True)
class Work:
    """What a client is to do, whoever it is."""

    role: str  # a key of an adapter's clients
    commands: Mapping[str, str]  # what it executes, in the words of SSHD and of PEERS; may name {size}, {mebibytes}
    size: int = 0
    count: int = 1
    at_once: int = 1
    cipher: str = AES_GCM
    round_trip_seconds: float = 0.0  # of a path that is made longer than it is


TRUE: Final = {SSHD: "true", PEERS: "true"}
ECHO: Final = {SSHD: "cat", PEERS: "echo"}


@attrs.frozen
class Pair:
    """One library's client with one library's server."""

    client: Library
    server: Library
    work: Work

    @property
    def label(self) -> str:
        """Whom it pairs."""
        names = f"{self.client.name} -> sshd" if self.kind == SSHD else f"{self.client.name} <-> {self.server.name}"
        return names if self.size == self.work.size else f"{names} ({self.size // MIB} MiB)"

    @property
    def size(self) -> int:
        """Bytes of a bulk transfer: what the work asks for, or what both can do."""
        return min(self.work.size, *(library.most_bytes or self.work.size for library in (self.client, self.server)))

    @property
    def library(self) -> str:
        """The client's library."""
        return self.client.name

    @property
    def kind(self) -> str:
        """Whether the server is OpenSSH's."""
        return SSHD if self.server is OPENSSH else PEERS

    def measure(self, workspace: Workspace) -> Sample:
        """Start the server, let the client do its work, and end both.

        Raises:
            RuntimeError: one of them failed.
        """
        with tempfile.TemporaryDirectory(dir=workspace.directory) as directory:
            server_task = ServerTask(
                host_key=str(workspace.host_key),
                authorized_keys=str(workspace.authorized_keys),
                cipher=self.work.cipher,
                mac=MAC,
                directory=directory,
            )
            with (
                serving(self.server, server_task, Path(directory, "log")) as (port, pid),
                lengthened(port, self.work.round_trip_seconds) as port,
            ):
                client_task = ClientTask(
                    port=port,
                    server_pid=pid,
                    user=workspace.user,
                    client_key=str(workspace.client_key),
                    cipher=self.work.cipher,
                    mac=MAC,
                    command=self.work.commands[self.kind].format(size=self.size, mebibytes=self.size // MIB),
                    size=self.size,
                    count=self.work.count,
                    at_once=self.work.at_once,
                    directory=directory,
                )
                sample = run_client(self.client, self.work.role, client_task)
        return sample | {"size": self.size, "count": self.work.count}


def pairs(settings: Settings, work: Work) -> list[Pair]:
    """Pair every library that can do the work with sshd, if it speaks SSH, and with itself."""
    able = [library for library in settings.libraries if can_do(library, work)]
    # OpenSSH's peer is sshd, so its one pair stands for both kinds.
    programs = [library for library in able if library.module is None]
    with_sshd = [library for library in able if library.speaks_ssh] if SSHD in settings.servers else programs
    with_itself = [library for library in able if library not in programs and PEERS in settings.servers]
    return [Pair(library, OPENSSH, work) for library in with_sshd] + [
        Pair(library, library, work) for library in with_itself
    ]


def can_do(library: Library, work: Work) -> bool:
    """Tell whether a library has what the work needs."""
    has_role = work.role not in library.cannot if library.only is None else work.role in library.only
    return has_role and work.cipher not in library.lacks and work.at_once <= library.most_at_once


def adapter(library: Library) -> list[str]:
    """Write the beginning of the command line that starts a library's adapter."""
    return [sys.executable, "-m", f"tests.benchmarks.adapters.{library.adapter}"]


@contextlib.contextmanager
def serving(library: Library, task: ServerTask, log: Path) -> Generator[tuple[int, int], None, None]:
    """Run a server, and give its port and the process to account for.

    Args:
        log: a file for what it writes to standard error.

    Raises:
        RuntimeError: it did not start, or the block raised one; with the end of the log.
    """
    command = [*adapter(library), "server", *roles.arguments(task)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process without the pipes it was given")
    try:
        announced = process.stdout.readline()
        if not announced:
            raise RuntimeError("server: did not start")
        address = json.loads(announced)
        yield address["port"], address["pid"]
    except RuntimeError as error:
        raise RuntimeError(f"{error}; server's log: {last_lines(log.read_text(errors='replace'))}") from error
    finally:
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def lengthened(port: int, round_trip_seconds: float) -> Generator[int, None, None]:
    """Put a long path before a server; give the port at its near end.

    Raises:
        RuntimeError: it did not start.
    """
    if not round_trip_seconds:
        yield port
        return
    command = [sys.executable, "-m", "tests.benchmarks.delay", f"--port={port}", f"--seconds={round_trip_seconds / 2}"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("a process without the pipe it was given")
        announced = process.stdout.readline()
        if not announced:
            raise RuntimeError("the long path did not start")
        try:
            yield json.loads(announced)["port"]
        finally:
            process.kill()


def run_client(library: Library, role: str, task: ClientTask) -> Sample:
    """Run a client to its end and return its sample.

    Raises:
        RuntimeError: it failed, or took longer than `RUN_SECONDS`.
    """
    command = [*adapter(library), "client", role, *roles.arguments(task)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"client: not done after {RUN_SECONDS} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"client: {last_lines(done.stderr)}")
    sample: Sample = json.loads(done.stdout)
    return sample


def last_lines(text: str) -> str:
    """Shorten what a failed program wrote to its end."""
    lines = [line.strip() for line in text.splitlines()]
    # A traceback's markers point at nothing once the lines are joined.
    telling = [line for line in lines if line.strip("^~ ")]
    return " / ".join(telling[-SHOWN_ERROR_LINES:]) or "nothing"
