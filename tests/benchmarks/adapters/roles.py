"""The two roles of an adapter, the tasks they are given, and the window in which a client is measured.

A server prints one JSON line, `{"port": ..., "pid": ...}`, when it listens, and ends with its standard input.
A client prints one JSON line, its sample: measurements by name, with the unit in the name.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import attrs

from tests.benchmarks import accounting

Sample = dict[str, float]

HOST: Final = "127.0.0.1"
KEX: Final = "curve25519-sha256"
LISTEN_BACKLOG: Final = 1024
CHUNK: Final = bytes(256 * 1024)
WARM_UP_ROUND_TRIPS: Final = 100


@attrs.frozen(kw_only=True)
class ServerTask:
    """What a server is told on its command line."""

    host_key: str  # file of a private key
    authorized_keys: str  # file of the one public key that may log in
    cipher: str
    mac: str
    directory: str  # for files of its own; there when it starts, removed after it


@attrs.frozen(kw_only=True)
class ClientTask:
    """What a client is told on its command line; a workload reads the fields it needs."""

    port: int
    server_pid: int  # its family is the server's side of the account
    user: str
    client_key: str  # file of a private key
    cipher: str
    mac: str
    command: str  # what to execute, in the server's own words
    size: int  # bytes to transfer
    count: int  # connections, commands or round trips
    at_once: int  # commands in flight
    directory: str

    def window(self, *, in_children: bool = False) -> Window:
        """Open the measured part of this run.

        Args:
            in_children: the client is the programs that this process has started, and not this process.
        """
        return Window(Side("client", os.getpid(), without_root=in_children), Side("server", self.server_pid))

    def footprints(self, *, in_children: bool = False) -> tuple[int, int]:
        """Measure the memory of the client's side and the server's, in bytes, once the server has settled."""
        accounting.settle(self.server_pid)
        client = Side("client", os.getpid(), without_root=in_children)
        return (
            accounting.footprint_bytes(client.processes()),
            accounting.footprint_bytes(Side("server", self.server_pid).processes()),
        )


ClientRole = Callable[[ClientTask], Sample]
ServerRole = Callable[[ServerTask], None]


@attrs.frozen
class Side:
    """A process and its descendants, as one party of a measurement."""

    name: str
    pid: int
    without_root: bool = attrs.field(default=False, kw_only=True)

    def processes(self) -> list[int]:
        """List who is living now."""
        return accounting.family(self.pid)[1 if self.without_root else 0 :]

    def cpu_seconds(self) -> float:
        """Sum what they, and those that have ended, used so far."""
        used = accounting.cpu_seconds(accounting.family(self.pid))
        return used - time.process_time() if self.without_root else used


class Window:
    """The part of a client's run that counts: wall time, and what both sides used meanwhile.

    The server is left to settle before the window opens, so that setting up is not counted, and after it
    closes, so that what the server does late is.  Neither wait is in the wall time or the client's account.
    """

    def __init__(self, client: Side, server: Side) -> None:
        self.sample: Sample = {}
        self._client = client
        self._server = server
        self._used: dict[str, float] = {}
        self._resident: dict[str, int] = {}
        self._started = 0.0

    def __enter__(self) -> Self:
        accounting.settle(self._server.pid)
        self._open(self._server)
        self._open(self._client)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        self.sample["wall_seconds"] = time.perf_counter() - self._started
        self._close(self._client)
        accounting.settle(self._server.pid)
        self._close(self._server)

    def _open(self, side: Side) -> None:
        processes = side.processes()
        accounting.reset_peak(processes)
        self._resident[side.name] = accounting.resident_bytes(processes)
        self._used[side.name] = side.cpu_seconds()

    def _close(self, side: Side) -> None:
        self.sample[f"{side.name}_cpu_seconds"] = side.cpu_seconds() - self._used[side.name]
        # A side whose programs have all ended leaves nothing to read.
        if peak := accounting.peak_bytes(side.processes()):
            self.sample[f"{side.name}_peak_bytes"] = peak
            self.sample[f"{side.name}_growth_bytes"] = max(0, peak - self._resident[side.name])


def per_connection(count: int, before: tuple[int, int], idle: tuple[int, int], with_channel: tuple[int, int]) -> Sample:
    """Turn three `footprints` into bytes per connection."""
    return {
        "client_idle_bytes": (idle[0] - before[0]) / count,
        "server_idle_bytes": (idle[1] - before[1]) / count,
        "client_with_channel_bytes": (with_channel[0] - before[0]) / count,
        "server_with_channel_bytes": (with_channel[1] - before[1]) / count,
    }


def latencies(seconds: Sequence[float]) -> Sample:
    """Summarise round trips: the median and the 99th percentile."""
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_seconds": percentiles[49], "p99_seconds": percentiles[98]}


def check(name: str, got: object, expected: object) -> None:
    """Refuse to report a figure for work that was not done.

    Raises:
        RuntimeError: `got` is not what was expected.
    """
    if got != expected:
        raise RuntimeError(f"{name}: expected {expected!r}, got {got!r}")


def source_size(command: str) -> int:
    """Read the number of bytes a `source` command asks for."""
    return int(command.split()[1])


def exit_status(command: str) -> int:
    """Choose what a server's command ends with: success if it is one of those a server knows."""
    return 0 if command.partition(" ")[0] in {"source", "sink", "echo", "true"} else 127


def announce(port: int, *, pid: int | None = None, end: Callable[[], None] = lambda: os._exit(0)) -> None:
    """Tell the runner that the server listens, and watch for its wish that the server end.

    Args:
        port: where it listens.
        pid: the process to account for, unless it is this one.
        end: called from another thread when standard input ends.
    """
    threading.Thread(target=_call_after_stdin, args=(end,), daemon=True).start()
    print(json.dumps({"port": port, "pid": pid or os.getpid()}), flush=True)


def main(clients: Mapping[str, ClientRole], serve: ServerRole) -> None:
    """Play the role named on the command line."""
    parser = argparse.ArgumentParser(description="One side of a benchmark; started by `python -m tests.benchmarks`.")
    roles = parser.add_subparsers(dest="role", required=True)
    client = roles.add_parser("client")
    client.add_argument("workload", choices=sorted(clients))
    _add_fields(client, ClientTask)
    _add_fields(roles.add_parser("server"), ServerTask)
    options = vars(parser.parse_args())
    if options.pop("role") == "client":
        role = clients[options.pop("workload")]
        print(json.dumps(role(ClientTask(**options))), flush=True)
    else:
        serve(ServerTask(**options))


def arguments(task: ServerTask | ClientTask) -> list[str]:
    """Write a task as the command line that `main` reads."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in attrs.asdict(task).items()]


def _add_fields(parser: argparse.ArgumentParser, task: type[ServerTask | ClientTask]) -> None:
    for field in attrs.fields(attrs.resolve_types(task)):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, required=True)


def _call_after_stdin(end: Callable[[], None]) -> None:
    sys.stdin.buffer.read()
    end()
