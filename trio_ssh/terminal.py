"""Terminals of this machine: their sizes, and RFC 4254's modes of them."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Mapping
from typing import Final

from trio_ssh.wire.numbers import TerminalMode

_SIZE: Final = struct.Struct("HHHH")

#: RFC 4254 s8 names and those of termios, where they differ in nothing but the place where they are kept.
_CHARACTERS: Final = (
    "VINTR",
    "VQUIT",
    "VERASE",
    "VKILL",
    "VEOF",
    "VEOL",
    "VEOL2",
    "VSTART",
    "VSTOP",
    "VSUSP",
    "VREPRINT",
    "VWERASE",
    "VLNEXT",
    "VDISCARD",
)
_FLAGS: Final = {
    0: (
        "IGNPAR",
        "PARMRK",
        "INPCK",
        "ISTRIP",
        "INLCR",
        "IGNCR",
        "ICRNL",
        "IUCLC",
        "IXON",
        "IXANY",
        "IXOFF",
        "IMAXBEL",
        "IUTF8",
    ),
    1: ("OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET"),
    3: (
        "ISIG",
        "ICANON",
        "XCASE",
        "ECHO",
        "ECHOE",
        "ECHOK",
        "ECHONL",
        "NOFLSH",
        "TOSTOP",
        "IEXTEN",
        "ECHOCTL",
        "ECHOKE",
        "PENDIN",
    ),
}

#: What a termios array has at its indices 4 and 5, the speeds, by number.
_SPEEDS: Final = {
    getattr(termios, f"B{speed}"): speed
    for speed in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
    if hasattr(termios, f"B{speed}")
}


def size_of(descriptor: int) -> tuple[int, int, int, int]:
    """Return a terminal's width and height in characters, and in pixels, which mostly are 0.

    Raises:
        OSError: it is no terminal.
    """
    height, width, width_pixels, height_pixels = _SIZE.unpack(
        fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(_SIZE.size))
    )
    return width, height, width_pixels, height_pixels


def set_size(descriptor: int, width: int, height: int, width_pixels: int, height_pixels: int) -> None:
    """Set a terminal's size, as `size_of` returns it."""
    size = (height, width, width_pixels, height_pixels)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, _SIZE.pack(*(min(value, 0xFFFF) for value in size)))


def _bit(name: str) -> int | None:
    return getattr(termios, name, 0x4000 if name == "IUTF8" else None)


def modes_of(descriptor: int) -> dict[TerminalMode, int]:
    """Return what a terminal is set to: RFC 4254 s8.

    Raises:
        termios.error: it is no terminal.
    """
    attributes = termios.tcgetattr(descriptor)
    modes: dict[TerminalMode, int] = {}
    for index, names in _FLAGS.items():
        for name in names:
            bit = _bit(name)
            if bit is not None:
                modes[TerminalMode[name]] = int(bool(attributes[index] & bit))
    for name in _CHARACTERS:
        place: int | None = getattr(termios, name, None)
        if place is not None:
            character = attributes[6][place]
            value = character if isinstance(character, int) else character[0]
            modes[TerminalMode[name]] = value or 255  # which is no character
    for mode, index in ((TerminalMode.TTY_OP_ISPEED, 4), (TerminalMode.TTY_OP_OSPEED, 5)):
        if attributes[index] in _SPEEDS:
            modes[mode] = _SPEEDS[attributes[index]]
    return modes


def set_modes(descriptor: int, modes: Mapping[TerminalMode, int]) -> None:
    """Set a terminal to what another one is set to, as far as this system knows it."""
    if not modes:
        return
    attributes = termios.tcgetattr(descriptor)
    for index, names in _FLAGS.items():
        for name in names:
            bit = _bit(name)
            value = modes.get(TerminalMode[name])
            if bit is not None and value is not None:
                attributes[index] = attributes[index] | bit if value else attributes[index] & ~bit
    characters = attributes[6]
    for name in _CHARACTERS:
        place: int | None = getattr(termios, name, None)
        value = modes.get(TerminalMode[name])
        if place is not None and value is not None:
            characters[place] = bytes((value & 0xFF,)) if value < 255 else b"\0"
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
