"""sftp_*: files, large and small, and what is asked about them; all of them in memory.

The window holds the transfer, not the login and not the session's start.  `sftp` is started in it, which costs it some
milliseconds.  Over the long path, which is a program that delays every byte, nobody's account counts but the wall's.
"""

from __future__ import annotations

from typing import Final

from tests.benchmarks.adapters import files
from tests.benchmarks.pairs import Work, pairs
from tests.benchmarks.plan import GIB, MIB, PEERS, SSHD, Column, Comparison, Settings, Workload, quantity, rate

FILES: Final = 2000
STATS: Final = 3000
AT_ONCE: Final = 64
READ: Final = 64 * MIB
LONG_PATH_SECONDS: Final = 0.05
LONG_PATH_BYTES: Final = 128 * MIB

_NONE: Final = {SSHD: "", PEERS: ""}

BULK: Final = (
    Column("MB/s", rate("size", scale=1e-6), shows_spread=True, shows_ratio=True),
    Column("client s/GiB", quantity("client_cpu_seconds", scale=GIB, per="size"), digits=2, shows_ratio=True),
    Column("server s/GiB", quantity("server_cpu_seconds", scale=GIB, per="size"), digits=2, shows_ratio=True),
    Column("client MiB", quantity("client_peak_bytes", scale=1 / MIB)),
    Column("client grew", quantity("client_growth_bytes", scale=1 / MIB), digits=1),
    Column("server grew", quantity("server_growth_bytes", scale=1 / MIB), digits=1),
)
LONG_PATH: Final = (Column("MB/s", rate("size", scale=1e-6), digits=1, shows_spread=True, shows_ratio=True),)
COUNTED: Final = (
    Column("per second", rate("count"), shows_spread=True, shows_ratio=True),
    Column("client CPU ms", quantity("client_cpu_seconds", scale=1e3, per="count"), digits=3, shows_ratio=True),
    Column("server CPU ms", quantity("server_cpu_seconds", scale=1e3, per="count"), digits=3, shows_ratio=True),
)


def _compared(settings: Settings, title: str, work: Work, columns: tuple[Column, ...], reference: str) -> Comparison:
    return Comparison(
        workload=work.role, title=title, contenders=pairs(settings, work), columns=columns, reference=reference
    )


def get(settings: Settings) -> list[Comparison]:
    """Compare reading one large file."""
    work = Work(role="sftp_get", commands=_NONE, size=settings.size)
    return [_compared(settings, f"sftp_get: one file of {settings.size // MIB} MiB", work, BULK, "openssh")]


def put(settings: Settings) -> list[Comparison]:
    """Compare writing one large file."""
    work = Work(role="sftp_put", commands=_NONE, size=settings.size)
    return [_compared(settings, f"sftp_put: one file of {settings.size // MIB} MiB", work, BULK, "openssh")]


def many(settings: Settings) -> list[Comparison]:
    """Compare small files, both ways."""
    count = settings.count or FILES
    return [
        _compared(
            settings,
            f"{role}: {count} files of {files.SMALL_BYTES} bytes",
            Work(role=role, commands=_NONE, count=count),
            COUNTED,
            "asyncssh",
        )
        for role in ("sftp_get_many", "sftp_put_many")
    ]


def stat(settings: Settings) -> list[Comparison]:
    """Compare asking for attributes, in turn and many at a time."""
    count = settings.count or STATS
    return [
        _compared(
            settings,
            f"sftp_stat: {count} times, {at_once} at a time",
            Work(role="sftp_stat", commands=_NONE, count=count, at_once=at_once),
            COUNTED,
            "asyncssh",
        )
        for at_once in (1, AT_ONCE)
    ]


def read(settings: Settings) -> list[Comparison]:
    """Compare a loop of small reads with fetching the file."""
    size = min(READ, settings.size)
    return [
        _compared(settings, f"{role}: {size // MIB} MiB, {how}", Work(role=role, commands=_NONE, size=size), BULK, name)
        for role, how, name in (
            ("sftp_read", f"by read({files.READ_BYTES}) in a loop", "asyncssh"),
            ("sftp_get", "fetched", "openssh"),
        )
    ]


def long_path(settings: Settings) -> list[Comparison]:
    """Compare one file each way over a path with a round trip of 50 ms."""
    size = min(LONG_PATH_BYTES, settings.size)
    return [
        _compared(
            settings,
            f"{role}: {size // MIB} MiB over a round trip of {LONG_PATH_SECONDS * 1e3:.0f} ms",
            Work(role=role, commands=_NONE, size=size, round_trip_seconds=LONG_PATH_SECONDS),
            LONG_PATH,
            "openssh",
        )
        for role in ("sftp_get", "sftp_put")
    ]


WORKLOADS: Final = (
    Workload("sftp_get", "one large file from the server", get),
    Workload("sftp_put", "one large file to the server", put),
    Workload("sftp_many", "many small files, both ways", many),
    Workload("sftp_stat", "attributes, in turn and 64 at a time", stat),
    Workload("sftp_read", "a file by small reads, and the same fetched", read),
    Workload("sftp_long_path", "one file each way, 50 ms away", long_path),
)
