"""The line that ``ls -l`` would show of a file, as OpenSSH's server makes it."""

from __future__ import annotations

import functools
import stat
import sys
import time
from typing import Final

from trio_ssh.sftp.attributes import SFTPAttributes

if sys.platform != "win32":
    import grp
    import pwd

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: Half a year: older files are shown with their year instead of the time of day.
_RECENT_SECONDS: Final = 365 * 24 * 60 * 60 // 2

#: Names that are remembered.  Looking one up may ask a directory server, so a listing mustn't do it for each file.
_REMEMBERED: Final = 4096


@functools.lru_cache(_REMEMBERED)
def user_name(uid: int) -> str:
    """Return a user's name; empty if nobody has the number."""
    if sys.platform == "win32":
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


@functools.lru_cache(_REMEMBERED)
def group_name(gid: int) -> str:
    """Return a group's name; empty if none has the number."""
    if sys.platform == "win32":
        return ""
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return ""


@functools.lru_cache(_REMEMBERED)
def _date(minute: int, is_recent: bool) -> str:
    then = time.localtime(minute * 60)
    day = f"{_MONTHS[then.tm_mon - 1]} {then.tm_mday:2d}"
    return f"{day} {then.tm_hour:02d}:{then.tm_min:02d}" if is_recent else f"{day}  {then.tm_year:4d}"


_mode = functools.lru_cache(_REMEMBERED)(stat.filemode)


def long_name(attributes: SFTPAttributes, *, links: int = 1, by_name: bool = False, now: float | None = None) -> str:
    """Return the line for a file.

    Args:
        attributes: with its `filename`; of what is unknown a line has 0.
        links: how many names it has.
        by_name: show the users and groups of this machine, not their numbers.
        now: seconds since 1970; None for this moment.
    """
    uid, gid = attributes.st_uid or 0, attributes.st_gid or 0
    user = (user_name(uid) if by_name else "") or str(uid)
    group = (group_name(gid) if by_name else "") or str(gid)
    modified = attributes.st_mtime or 0
    now = time.time() if now is None else now
    date = _date(modified // 60, now - _RECENT_SECONDS < modified <= now)
    return (
        f"{_mode(attributes.st_mode or 0)} {links:3d} {user:<8} {group:<8} "
        f"{attributes.st_size or 0:8d} {date} {attributes.filename}"
    )
