"""Times as OpenSSH's files of keys have them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from trio_ssh.errors import KeyFileException
from trio_ssh.wire.text import printable

_TIME: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{2})([0-9]{2})?)?(Z|UTC)?", re.IGNORECASE)


def read_time(value: str, name: str) -> int:
    """Read ``YYYYMMDD[HHMM[SS]][Z]``; without the Z it is this machine's local time, as for ssh-keygen.

    Args:
        value: the text.
        name: the option that it is the value of.

    Returns:
        Seconds since the epoch.

    Raises:
        KeyFileException: it is no time.
    """
    found = _TIME.fullmatch(value)
    try:
        if found is None:
            raise ValueError("its form")
        year, month, day, hour, minute, second = (int(field or 0) for field in found.groups()[:6])
        zone = UTC if found[7] else None
        seconds = datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp()
        if seconds < 0:
            raise ValueError("before the epoch")
    except (ValueError, OverflowError):
        raise KeyFileException(
            f"{name} is no time such as 20300131 or 20300131120000Z: {printable(value, 40)}"
        ) from None
    return int(seconds)
