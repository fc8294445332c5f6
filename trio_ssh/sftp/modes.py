"""How a file is opened, and what is written to it, as Python's `open` has both."""

from __future__ import annotations

from typing import Final, cast

from trio_ssh.sftp.protocol import OpenFlags

Data = bytes | bytearray | memoryview

_FLAGS: Final = {
    "r": OpenFlags.READ,
    "w": OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE,
    "a": OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.APPEND,
    "x": OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE,
}


def open_flags(mode: str) -> OpenFlags:
    """Return what a mode asks of the server.

    Raises:
        TypeError, ValueError: it is no mode.
    """
    given: object = mode
    if not isinstance(given, str):
        raise TypeError(f"a mode is 'r', 'w', 'a' or 'x', and not {given!r}; permissions are set by chmod")
    letters = mode.replace("b", "", 1).replace("+", "", 1)
    if letters in ("wx", "xw"):
        letters = "x"  # paramiko's spelling
    if "t" in letters:
        raise ValueError(f"{mode!r}: remote files are binary. Decode what is read; SFTPPath.read_text() does")
    if letters not in _FLAGS:
        raise ValueError(f"{mode!r}: a mode is one of 'r', 'w', 'a' and 'x', with a '+' for reading and writing")
    flags = _FLAGS[letters]
    return flags | OpenFlags.READ | OpenFlags.WRITE if "+" in mode else flags


def as_view(data: Data) -> memoryview:
    """Return the bytes of what is to be written, uncopied.

    Raises:
        TypeError: it is no bytes.
    """
    try:
        view = memoryview(data)
    except TypeError:
        hint = ": write(text.encode()), or SFTPPath.write_text(text)" if isinstance(cast("object", data), str) else ""
        raise TypeError(f"remote files take bytes, and not {type(data).__name__}{hint}") from None
    # A view of nothing has no shape to be cast from.
    return view.cast("B") if view.nbytes else memoryview(b"")
