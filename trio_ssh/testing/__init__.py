"""What tests of programs that use trio_ssh are made of; nothing else in the package imports it.

``lockstep``  two sealed cores that exchange bytes by hand
``faults``    streams with faults: cut, stalled, delayed, fragmented, altered
``memory``    two peers in one process, without a socket
``sftp``      an SFTP server whose files are in memory
"""

from __future__ import annotations

from trio_ssh.testing.faults import (
    CutStream,
    DelayedStream,
    FaultyStream,
    FlippedStream,
    FragmentedStream,
    StalledStream,
    delayed_pair,
)
from trio_ssh.testing.memory import memory_pair, open_memory_client
from trio_ssh.testing.sftp import MemorySFTPServer

__all__ = [
    "CutStream",
    "DelayedStream",
    "FaultyStream",
    "FlippedStream",
    "FragmentedStream",
    "MemorySFTPServer",
    "StalledStream",
    "delayed_pair",
    "memory_pair",
    "open_memory_client",
]
