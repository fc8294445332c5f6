"""Reading a server's groups for Diffie-Hellman group exchange, in a thread."""

from __future__ import annotations

from pathlib import Path

import trio

from trio_ssh.crypto.moduli import NO_MODULI, Moduli


async def load_moduli(filename: str | Path | None) -> Moduli:
    """Return the groups of a file, or of the system's, if it has any.

    Raises:
        OSError: the named file can't be read.
        ConfigParseError: it is none of moduli(5)'s.
    """
    if filename is None:
        return await trio.to_thread.run_sync(Moduli.of_system)
    return await trio.to_thread.run_sync(Moduli.from_path, filename)


async def given_moduli(moduli: Moduli | str | Path | None) -> Moduli:
    """Return what a server was given: groups, or a file's, or none.

    Raises:
        As `load_moduli`.
    """
    if isinstance(moduli, str | Path):
        return await load_moduli(moduli)
    await trio.lowlevel.checkpoint()
    return NO_MODULI if moduli is None else moduli
