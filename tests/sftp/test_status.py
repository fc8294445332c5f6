"""Every exception becomes a status that says what happened, and nothing of the server's own paths."""

from __future__ import annotations

import errno
import os

import pytest

from trio_ssh.errors import SFTPError, SFTPNoSuchFile
from trio_ssh.sftp.protocol import StatusCode
from trio_ssh.sftp.status import status_of


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, StatusCode.NO_SUCH_FILE),
        (errno.ENOTDIR, StatusCode.NO_SUCH_FILE),
        (errno.ELOOP, StatusCode.NO_SUCH_FILE),
        (errno.EACCES, StatusCode.PERMISSION_DENIED),
        (errno.EPERM, StatusCode.PERMISSION_DENIED),
        (errno.EROFS, StatusCode.PERMISSION_DENIED),
        (errno.EEXIST, StatusCode.FAILURE),
        (errno.ENOTEMPTY, StatusCode.FAILURE),
        (errno.ENOSPC, StatusCode.FAILURE),
        (errno.EBADF, StatusCode.FAILURE),
        (errno.EINVAL, StatusCode.FAILURE),
        (errno.ENOSYS, StatusCode.OP_UNSUPPORTED),
        (errno.EOPNOTSUPP, StatusCode.OP_UNSUPPORTED),
        (99_999, StatusCode.FAILURE),
    ],
)
def test_an_errno_has_its_code_and_the_system_s_words(number: int, code: StatusCode) -> None:
    status = status_of(OSError(number, os.strerror(number), "/srv/secret/name"))
    assert (status.code, status.text) == (code, os.strerror(number))


def test_the_end_of_a_file_is_no_failure() -> None:
    assert status_of(EOFError()).code == StatusCode.EOF


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError("quota exceeded"), StatusCode.FAILURE, "quota exceeded"),
        (OSError(), StatusCode.FAILURE, "Failure"),
        (FileNotFoundError(), StatusCode.NO_SUCH_FILE, "Failure"),
        (FileNotFoundError("gone"), StatusCode.NO_SUCH_FILE, "gone"),
        (PermissionError("not yours"), StatusCode.PERMISSION_DENIED, "not yours"),
        (NotADirectoryError("a file"), StatusCode.NO_SUCH_FILE, "a file"),
        (FileExistsError("there"), StatusCode.FAILURE, "there"),
    ],
)
def test_an_exception_without_an_errno_is_known_by_its_type(error: OSError, code: StatusCode, text: str) -> None:
    status = status_of(error)
    assert (status.code, status.text) == (code, text)


def test_what_another_server_said_is_passed_on() -> None:
    status = status_of(SFTPNoSuchFile(2, "no such bucket"))
    assert (status.code, status.text) == (2, "no such bucket")
    assert status_of(SFTPError(4, "disk on fire")).text == "disk on fire"


def test_a_text_has_a_bound() -> None:
    assert len(status_of(OSError(errno.EIO, "x" * 10**6)).text) == 1024
    assert len(status_of(SFTPError(4, "x" * 10**6)).text) <= 1024
