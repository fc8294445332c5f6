"""filexfer-02 s7: which status an exception becomes.  One table, errno to code.

The protocol knows nine codes where POSIX knows a hundred, so the text says what the code can't.  A path never stands in
it: the client knows which one it named, and those of the server's own are not its business.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

from trio_ssh.errors import SFTPError
from trio_ssh.sftp.messages import Status
from trio_ssh.sftp.protocol import StatusCode

#: errno -> code; whatever isn't here is a FAILURE.  Where several would do, it is the one that OpenSSH's server sends.
CODES: Final[Mapping[int, StatusCode]] = {
    errno.ENOENT: StatusCode.NO_SUCH_FILE,
    errno.ENOTDIR: StatusCode.NO_SUCH_FILE,
    errno.ELOOP: StatusCode.NO_SUCH_FILE,
    errno.EPERM: StatusCode.PERMISSION_DENIED,
    errno.EACCES: StatusCode.PERMISSION_DENIED,
    errno.EROFS: StatusCode.PERMISSION_DENIED,
    errno.EBADMSG: StatusCode.BAD_MESSAGE,
    errno.ENOSYS: StatusCode.OP_UNSUPPORTED,
    errno.ENOTSUP: StatusCode.OP_UNSUPPORTED,
    errno.EOPNOTSUPP: StatusCode.OP_UNSUPPORTED,
}

#: Bytes of a status' text: an exception's may be of any length.
_TEXT_BYTES: Final = 1024

OK: Final = Status(StatusCode.OK, "Success", "")
END_OF_FILE: Final = Status(StatusCode.EOF, "End of file", "")
FAILURE: Final = Status(StatusCode.FAILURE, "Failure", "")


def status_of(error: OSError | EOFError) -> Status:
    """Return what a client is told of an exception.

    An `SFTPError` stays what it is: a server that passes requests on to another has it from there.
    """
    if isinstance(error, EOFError):
        return END_OF_FILE
    if isinstance(error, SFTPError):
        return Status(error.code, _spelled(error.text[:_TEXT_BYTES]), "")
    code = CODES.get(error.errno or 0, StatusCode.FAILURE)
    if error.errno is None:
        # Raised with a text alone, as `OSError("quota exceeded")`, or with its type alone.
        code = next((CODES[number] for kind, number in _KINDS if isinstance(error, kind)), code)
        text = str(error)
    else:
        text = error.strerror or os.strerror(error.errno)
    return Status(code, _spelled(text[:_TEXT_BYTES]) or "Failure", "")


def _spelled(text: str) -> str:
    """Return a text that UTF-8 can spell: an interface's exception may say anything, and is to be heard."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


_KINDS: Final = (
    (FileNotFoundError, errno.ENOENT),
    (NotADirectoryError, errno.ENOTDIR),
    (PermissionError, errno.EACCES),
)


def unsupported(what: str) -> OSError:
    """Make the exception for what a server doesn't do."""
    return OSError(errno.EOPNOTSUPP, f"{what} is not supported here")
