"""Reading key files with care, and writing files so that a reader finds the old content or the new, whole.

What is in the files is not known here.  Everything that can go wrong while a key is read becomes a
`KeyFileException` which names the file, says what was found, and what to do about it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
import sys
from pathlib import Path
from typing import Final

from trio_ssh.errors import KeyFileException
from trio_ssh.wire.text import printable

FilePath = str | os.PathLike[str]

#: Bytes of the largest file that is taken for a key.  An RSA key of 16,384 bits has some 13 KiB.
KEY_FILE_BYTES: Final = 1 << 20

#: Bytes of the largest known_hosts or authorized_keys file that is read: some 600,000 keys.
LIST_FILE_BYTES: Final = 64 << 20


#: What nobody's path holds, and a key does that was given in a path's place.
_KEY_MARKS: Final = ("-----BEGIN", "PuTTY-User-Key-File")


def shown_path(path: FilePath) -> str:
    """Return `path` as error messages show it.

    Raises:
        KeyFileException: it is a file's content.  That may be secret, and is never shown.
        TypeError: it is no path.  `open` would take a number for a descriptor.
    """
    text = os.fsdecode(path)
    if any(mark in text for mark in _KEY_MARKS):
        raise KeyFileException(
            "a path was wanted, and this is the content of a file: load_private_key and load_public_key take that"
        )
    return printable(text)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody to write to a FIFO."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_file(path: FilePath, limit_bytes: int, *, is_plain: bool = False) -> tuple[bytes, os.stat_result]:
    """Read a whole file, of any type that ends.

    Args:
        is_plain: refuse all but plain files: whose it is could have whoever reads it wait for ever.

    Returns:
        Its content, and the status of the same open file: no other can be checked in its place.

    Raises:
        OSError: it can't be opened or read.
        KeyFileException: it has more than `limit_bytes`, or no file can have such a name.
    """
    shown_path(path)  # or it says that this is no path
    try:
        # The `with` is below; this `try` is about the name alone.
        file = open(path, "rb", opener=_open_at_once if is_plain else None)  # noqa: SIM115
    except ValueError:  # a NUL, or a lone surrogate
        raise KeyFileException(f"{shown_path(path)}: no file can have this name. Check the path.") from None
    with file:
        if is_plain and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise KeyFileException(f"{shown_path(path)}: this is no plain file. Check the path.")
        data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            limit = f"{limit_bytes >> 20} MiB" if limit_bytes >= 1 << 20 else f"{limit_bytes} bytes"
            raise KeyFileException(
                f"{shown_path(path)}: the file has more than {limit}, as no such file has. Check the path."
            )
        return data, os.fstat(file.fileno())


def read_key_file(path: FilePath) -> tuple[bytes, os.stat_result]:
    """Read a file that shall hold a private key; return its content and its status.

    Raises:
        KeyFileException: for whatever reason it can't be read.
    """
    name = shown_path(path)
    quoted = shlex.quote(name)
    made = shlex.quote(name.removesuffix(".pub"))
    try:
        return read_file(path, KEY_FILE_BYTES)
    except FileNotFoundError:
        raise KeyFileException(
            f"{name}: there is no such file. Check the path, or make a key: `ssh-keygen -t ed25519 -f {made}`."
        ) from None
    except IsADirectoryError:
        raise KeyFileException(
            f"{name}: this is a directory, not a key. Name the file in it, such as {os.path.join(name, 'id_ed25519')}."
        ) from None
    except PermissionError:
        raise KeyFileException(
            f"{name}: this user may not read the file. See `ls -l {quoted}`: it should belong to the user "
            "who runs this program."
        ) from None
    except OSError as error:
        raise KeyFileException(f"{name}: the file can't be read: {error.strerror or error}. Check the path.") from error


def refuse_open_permissions(name: str, status: os.stat_result) -> None:
    """Refuse a private key of ours that others may read.

    Raises:
        KeyFileException: the file with this status is such a one.
    """
    # Like OpenSSH: only of a file that is ours.  One that root keeps for a group, say, is root's to judge.
    if sys.platform == "win32" or status.st_uid != os.getuid():
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileException(
            f"{name}: UNPROTECTED PRIVATE KEY FILE: permissions {mode:04o} are too open, others than you can "
            f"read or change it. Run `chmod 600 {shlex.quote(name)}`; if others may have read the key, "
            "make a new one."
        )


def write_atomically(path: FilePath, data: bytes, *, mode: int | None = None) -> None:
    """Replace the content of `path`, or create it, in one step.

    Args:
        path: the file.  Where it is a symbolic link, what it points to is replaced, and the link stays.  A device, such
            as ``/dev/null``, is written to, and stays what it is.
        data: the whole content.
        mode: permissions of the result.  None keeps permissions and owner of the file that was there; a new
            file gets 0600.

    Raises:
        OSError: nothing has changed, and nothing is left behind.
    """
    target = os.path.realpath(os.fsdecode(path))
    if _is_device(target):
        # ``UserKnownHostsFile /dev/null`` is in many configurations, and root could put a file in its place.
        with open(target, "r+b", buffering=0) as device:
            device.write(data)
        return
    # Beside the target, since only within one file system is a rename one step.  O_EXCL follows no link that
    # lies in wait.
    temporary = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(temporary, flags, 0o600)
    except OSError as error:
        error.filename = target  # nobody has asked for the other
        raise
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _set_permissions(file.fileno(), target, mode)
            os.fsync(file.fileno())
        try:
            os.replace(temporary, target)
        except OSError as error:
            error.filename, error.filename2 = target, None
            raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _is_device(target: str) -> bool:
    """Tell whether this is a device.

    Raises:
        OSError: it is nothing that has a content, such as a pipe.
    """
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "this is no file that can be written anew", target)
    return stat.S_ISCHR(mode)


def _set_permissions(descriptor: int, target: str, mode: int | None) -> None:
    if sys.platform == "win32":
        return
    if mode is None:
        try:
            status = os.stat(target)
        except FileNotFoundError:
            return
        mode = stat.S_IMODE(status.st_mode)
        # Root may save a user's file, who must be able to read it afterwards.  Who may not give files away,
        # owns them already.
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, mode)


def read_list_file(
    path: FilePath, *, check_permissions: bool = False, is_plain: bool = False, limit_bytes: int | None = None
) -> str:
    """Read a file of lines, such as known_hosts.

    Bytes that are not UTF-8 become lone surrogates, so that they can be written back.

    Args:
        path: the file.
        check_permissions: whether a file that others may write to, or put another in the place of, is refused, as sshd
            refuses it (``StrictModes``).
        is_plain: as in `read_file`; of a file whose permissions are checked, always.
        limit_bytes: as in `read_file`; None for 64 MiB.

    Raises:
        OSError: it can't be read.
        KeyFileException: it is far too long, or in the hands of others.
    """
    data, status = read_file(path, limit_bytes or LIST_FILE_BYTES, is_plain=is_plain or check_permissions)
    if check_permissions and sys.platform != "win32":
        _refuse_in_hands_of_others(path, status)
    return data.decode("utf-8", "surrogateescape")


def _refuse_in_hands_of_others(path: FilePath, status: os.stat_result) -> None:
    """Refuse a file that others than its owner and root can change, by a way through its directories perhaps.

    The owner is us.  Root reads everybody's files: then it is the one user who has anything of the way.
    """
    owner = os.getuid() or status.st_uid
    _refuse_others(shown_path(path), status, owner)
    home = _home_of(owner)
    for directory in Path(os.path.realpath(path)).parents:
        status = os.stat(directory)
        if not owner and status.st_uid:
            owner, home = status.st_uid, _home_of(status.st_uid)
        _refuse_others(shown_path(directory), status, owner)
        if directory == home:
            return  # what lies above is the system's, as for sshd


def _refuse_others(name: str, status: os.stat_result, owner: int) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, owner):
        raise KeyFileException(
            f"{name}: it belongs to the user {status.st_uid}, who can change who may log in. Give it to the user "
            "whose keys they are, or to root; or read the file with check_permissions=False."
        )
    # In a directory like /tmp nobody can put a thing in the place of another's.
    is_shared = stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX
    if mode & 0o022 and not is_shared:
        raise KeyFileException(
            f"{name}: permissions {mode:04o} are too open: others than you can change who may log in. "
            f"Run `chmod go-w {shlex.quote(name)}`."
        )


def _home_of(user_id: int) -> Path | None:
    if sys.platform == "win32" or not user_id:
        return None
    import pwd  # noqa: PLC0415 -- it is not everywhere

    try:
        return Path(os.path.realpath(pwd.getpwuid(user_id).pw_dir))
    except KeyError:
        return None
