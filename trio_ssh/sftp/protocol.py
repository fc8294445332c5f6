"""The numbers of SFTP, and the bounds on what a peer may make us hold.

Version 3, as OpenSSH speaks it: draft-ietf-secsh-filexfer-02, and what OpenSSH's PROTOCOL file adds and changes.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import attrs

from trio_ssh.core.limits import check_limits, repr_of_changes

KIB: Final = 1024
MIB: Final = 1024 * KIB

#: The only version that is spoken.
VERSION: Final = 3

#: The longest handle: filexfer-02 s3.
HANDLE_BYTES: Final = 256


class StatusCode(IntEnum):
    """How a request ended: filexfer-02 s7."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlags(IntFlag):
    """How a file is opened: filexfer-02 s6.3."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


#: The extensions that both our roles know, and the version of each that they speak.  The order is OpenSSH's.
EXTENSIONS: Final[dict[bytes, bytes]] = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
    b"copy-data": b"1",
    b"home-directory": b"1",
    b"users-groups-by-id@openssh.com": b"1",
    b"check-file": b"1",
}


@attrs.frozen(kw_only=True)
class SFTPLimits:
    """What one SFTP session holds at the most.  All sizes are bytes.

    The two ceilings, of a file and of a session, count what was asked for and not yet taken by the user or written to
    the local disk, and what was given to be written and not yet acknowledged.
    """

    #: The ceiling of one file.
    file_bytes: int = 16 * MIB
    #: The ceiling of all files of one session together.
    session_bytes: int = 48 * MIB

    #: The longest packet, as OpenSSH's SFTP_MAX_MSG_LENGTH.
    packet_bytes: int = 256 * KIB
    #: What a READ or WRITE carries unless the server allows less, which is what OpenSSH's server allows.
    block_bytes: int = 255 * KIB
    #: The same with a server that states no limits: what every one takes.
    plain_block_bytes: int = 32 * KIB

    #: A path, on the wire.
    path_bytes: int = 4 * KIB
    #: Extensions in a VERSION.
    extension_count: int = 256
    #: Entries in one NAME.
    name_count: int = 16 * KIB
    #: Names in one listing, however it is read: what ends one without an end.
    listing_names: int = 4 * MIB
    #: Bytes of all that is said of them.
    listing_bytes: int = 1024 * MIB
    #: Memory that one call gathers of what is listed, such as `SFTPClient.listdir_attr`, a walk, or a tree that is
    #: transferred: some 200,000 files, or as many directories that wait for their turn.
    gathered_bytes: int = 128 * MIB
    #: Directories below each other in a tree.
    depth: int = 64

    #: Server: open handles.
    handles: int = 1024
    #: Server: requests under way.
    requests: int = 64
    #: Server: replies that the client has not taken.
    reply_bytes: int = 4 * MIB

    def __repr__(self) -> str:
        return repr_of_changes(self)

    def __attrs_post_init__(self) -> None:
        """Refuse what is no such number, where it is given; see `check_limits`."""
        check_limits(self)


DEFAULT_SFTP_LIMITS: Final = SFTPLimits()
