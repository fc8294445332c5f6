"""What a peer wrote, made safe to show to a person.

Banners, disconnect messages, version lines, prompts and names come from the other side of a network: they may hold
terminal escapes, bidirectional overrides, and megabytes.  Whatever goes into an exception, a log line or a repr passes
through `printable` first.
"""

from __future__ import annotations

from typing import Final

SHOWN_CHARACTERS: Final = 512


def printable(value: str | bytes, limit: int = SHOWN_CHARACTERS) -> str:
    """Return `value` with everything unprintable escaped as Python would escape it, cut to `limit` characters.

    Args:
        value: text, or bytes that are read as UTF-8 (what is not UTF-8 is escaped too).
        limit: characters of the result, beyond which it ends in an ellipsis.
    """
    if isinstance(value, bytes):
        value = value[: (limit + 1) * 4].decode("utf-8", "backslashreplace")
    if len(value) <= limit and value.isprintable():
        return value
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in value[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[:limit] + "…"


def printable_lines(value: str | bytes, limit: int = 16 * SHOWN_CHARACTERS) -> str:
    """As `printable`, but line ends and tabs stay: for banners and instructions that a person is meant to read."""
    if isinstance(value, bytes):
        value = value[: limit * 4].decode("utf-8", "backslashreplace")
    lines = value.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(printable(part, limit) for part in line.split("\t")) for line in lines)[:limit]
