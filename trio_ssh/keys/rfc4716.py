"""RFC 4716: public keys in the armour that ssh.com's, PuTTY's and many appliances' programs exchange.

Lines with headers, of which only the comment is of use, and base64.  What the blob in it means is not known here.
"""

from __future__ import annotations

import binascii
from typing import Final

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.text import printable

BEGIN: Final = "---- BEGIN SSH2 PUBLIC KEY ----"
_END: Final = "---- END SSH2 PUBLIC KEY ----"

#: RFC 4716 s3: bytes of the longest line that is written.
_LINE_BYTES: Final = 72

#: RFC 4716 s3.3: bytes of the longest value of a header.
_VALUE_BYTES: Final = 1024

_BODY_CHARACTERS: Final = 70


def armour(blob: bytes, comment: str) -> str:
    """Return a key's blob in its armour, with a line's end behind the last line.

    Args:
        blob: the key as on the wire.
        comment: left away if it is empty, and cut to 1,024 bytes; control characters are escaped.
    """
    lines = [BEGIN]
    if comment:
        text = printable(comment, _VALUE_BYTES).encode("utf-8", "replace")[: _VALUE_BYTES - 2]
        lines += _folded(f'Comment: "{text.decode("utf-8", "ignore")}"')
    encoded = binascii.b2a_base64(blob, newline=False).decode("ascii")
    lines += [encoded[start : start + _BODY_CHARACTERS] for start in range(0, len(encoded), _BODY_CHARACTERS)]
    return "\n".join((*lines, _END, ""))


def _folded(header: str) -> list[str]:
    """RFC 4716 s3.3: a line that is too long goes on behind a backslash.  Lines are counted in bytes."""
    lines = [""]
    used = 0
    for character in header:
        size = len(character.encode("utf-8"))
        if used + size > _LINE_BYTES - 1:
            lines[-1] += "\\"
            lines.append("")
            used = 0
        lines[-1] += character
        used += size
    return lines


def unarmour(text: str) -> tuple[bytes, str]:
    """Return the blob of the key in `text`, and its comment.

    Args:
        text: begins with the BEGIN line; what stands behind the END line is not looked at.

    Raises:
        RemoteProtocolError: it is not in this form.
    """
    # Blanks at an end are stripped where a line is whole: in a folded header they are part of the value.
    lines = [line.removesuffix("\r") for line in text.strip().split("\n")]
    if lines[0].strip() != BEGIN:
        raise RemoteProtocolError("it does not begin with a BEGIN line")
    ends = [place for place, line in enumerate(lines) if line.strip() == _END]
    if not ends:
        raise RemoteProtocolError("it is cut short, its END line is missing")
    comment = ""
    body = lines[1 : ends[0]]
    place = 0
    while place < len(body) and ":" in body[place]:
        parts = [body[place]]
        while parts[-1].endswith("\\"):
            parts[-1] = parts[-1][:-1]
            place += 1
            if place == len(body):
                raise RemoteProtocolError("its header has no end")
            parts.append(body[place])
        place += 1
        tag, _, value = "".join(parts).partition(":")
        if tag.strip().lower() == "comment":
            comment = _unquoted(value.strip())
    try:
        return binascii.a2b_base64("".join("".join(body[place:]).split()), strict_mode=True), comment
    except ValueError:  # binascii.Error, or text that isn't ASCII
        raise RemoteProtocolError("it is not base64") from None


def _unquoted(value: str) -> str:
    """RFC 4716 s3.3.2: quotes around a comment are not part of it."""
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value
