"""filexfer-02 s4 to s8 and OpenSSH's extensions: the packets, declared field by field.

A packet is a length, a type, the request's id, and fields.  WRITE and DATA, which carry files, are read and written
without a message object; see `trio_ssh.sftp.session`.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final, Self

import attrs

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp.attributes import ATTRS, SFTPAttributes
from trio_ssh.wire.fields import (
    STRING,
    DeclaredMessage,
    FieldType,
    Reading,
    Rest,
    String,
    Structure,
    Text,
    UInt32,
    UInt64,
    message,
    structure,
)

_U32: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">IBI")

Attributes = Annotated[SFTPAttributes, ATTRS]


@attrs.frozen
class NamedFile:
    """One entry of a NAME: a name as it is on the wire, the line that ``ls -l`` would show, and the attributes."""

    filename: bytes
    longname: bytes
    attributes: SFTPAttributes


class _Names:
    """NAME's count and entries."""

    def write(self, out: bytearray, value: Any) -> None:
        out += _U32.pack(len(value))
        for entry in value:
            STRING.write(out, entry.filename)
            STRING.write(out, entry.longname)
            ATTRS.write(out, entry.attributes)

    def read(self, data: bytes, offset: int) -> Reading:
        if offset + 4 > len(data):
            raise RemoteProtocolError("a message ends inside a count of names")
        count = _U32.unpack_from(data, offset)[0]
        offset += 4
        if count * 12 > len(data) - offset:
            raise RemoteProtocolError(f"{count} names in {len(data) - offset} bytes")
        entries: list[NamedFile] = []
        for _ in range(count):
            filename, offset = STRING.read(data, offset)
            longname, offset = STRING.read(data, offset)
            attributes, offset = ATTRS.read(data, offset)
            entries.append(NamedFile(filename, longname, attributes))
        return tuple(entries), offset


NAMES: Final[FieldType] = _Names()
Names = Annotated[tuple[NamedFile, ...], NAMES]


# -- the version


@message(1)
class Init(DeclaredMessage):
    """s4: the client's version; the extensions are pairs of strings, which nobody sends."""

    version: UInt32
    extensions: Rest


@message(2)
class Version(DeclaredMessage):
    """s4: the server's version, and its extensions as pairs of strings."""

    version: UInt32
    extensions: Rest


class Packet(DeclaredMessage):
    """A request or a reply: a type, the request's id, and the fields that a declaration names."""

    __slots__ = ()

    def frame(self, request_id: int) -> bytearray:
        """Return the whole packet, its length included."""
        out = bytearray(_HEAD.size)
        self.encode_fields(out)
        _HEAD.pack_into(out, 0, len(out) - 4, self.NUMBER, request_id)
        return out

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Read what follows the length, whose type and id the caller has looked at already."""
        return cls.decode(payload, 5)


# -- requests


@message(3)
class Open(Packet):
    """s6.3: open a file; `flags` are `OpenFlags`."""

    path: String
    flags: UInt32
    attributes: Attributes


@message(4)
class Close(Packet):
    """s6.3: give a handle back."""

    handle: String


@message(5)
class Read(Packet):
    """s6.4: at most `length` bytes from `offset` on."""

    handle: String
    offset: UInt64
    length: UInt32


@message(6)
class Write(Packet):
    """s6.4: `data` to `offset`."""

    handle: String
    offset: UInt64
    data: String


@message(7)
class Lstat(Packet):
    """s6.8: attributes, of a symbolic link itself."""

    path: String


@message(8)
class Fstat(Packet):
    """s6.8: attributes of an open file."""

    handle: String


@message(9)
class Setstat(Packet):
    """s6.9: set the attributes that are there."""

    path: String
    attributes: Attributes


@message(10)
class Fsetstat(Packet):
    """s6.9: the same of an open file."""

    handle: String
    attributes: Attributes


@message(11)
class Opendir(Packet):
    """s6.7: open a directory to list it."""

    path: String


@message(12)
class Readdir(Packet):
    """s6.7: the next names of a listing."""

    handle: String


@message(13)
class Remove(Packet):
    """s6.5: remove a file."""

    path: String


@message(14)
class Mkdir(Packet):
    """s6.6: make a directory."""

    path: String
    attributes: Attributes


@message(15)
class Rmdir(Packet):
    """s6.6: remove an empty directory."""

    path: String


@message(16)
class Realpath(Packet):
    """s6.11: the absolute path."""

    path: String


@message(17)
class Stat(Packet):
    """s6.8: attributes, of what a symbolic link leads to."""

    path: String


@message(18)
class Rename(Packet):
    """s6.5: rename; fails where the new name exists."""

    oldpath: String
    newpath: String


@message(19)
class Readlink(Packet):
    """s6.10: where a symbolic link leads."""

    path: String


@message(20)
class Symlink(Packet):
    """s6.10 has linkpath first.  OpenSSH sends the target first, and so does everyone since."""

    targetpath: String
    linkpath: String


@message(200)
class Extended(Packet):
    """s8: a request by name; the details are the extension's."""

    name: Text
    details: Rest


# -- replies


@message(101)
class Status(Packet):
    """s7: how it ended.  Some old servers leave out text and language, which is read as empty."""

    code: UInt32
    text: Text
    language: Text

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Read what follows the length."""
        return cls.decode(payload + bytes(8) if len(payload) == 9 else payload, 5)


@message(102)
class Handle(Packet):
    """s7: an open file or directory."""

    handle: String


@message(103)
class Data(Packet):
    """s7: what was read."""

    data: String


@message(104)
class Name(Packet):
    """s7: names with their attributes."""

    names: Names


@message(105)
class Attrs(Packet):
    """s7: attributes."""

    attributes: Attributes


@message(201)
class ExtendedReply(Packet):
    """s8: an extension's own reply."""

    details: Rest


# -- what the extensions carry: OpenSSH's PROTOCOL s4, filexfer-extensions-00


@structure
class TwoPaths(Structure):
    """posix-rename@openssh.com and hardlink@openssh.com: from the old name to the new."""

    oldpath: String
    newpath: String


@structure
class OnePath(Structure):
    """statvfs@openssh.com and expand-path@openssh.com; home-directory, whose path is a user's name."""

    path: String


@structure
class OneHandle(Structure):
    """fstatvfs@openssh.com and fsync@openssh.com."""

    handle: String


@structure
class Lsetstat(Structure):
    """lsetstat@openssh.com: set attributes, of a symbolic link itself."""

    path: String
    attributes: Attributes


@structure
class CopyData(Structure):
    """copy-data: from one open file to another; a length of 0 is all there is."""

    read_handle: String
    read_offset: UInt64
    length: UInt64
    write_handle: String
    write_offset: UInt64


@structure
class UsersGroups(Structure):
    """users-groups-by-id@openssh.com, and its reply: each string holds uint32s, or strings in the reply."""

    users: String
    groups: String


@structure
class CheckFile(Structure):
    """check-file: hashes of an open file, of blocks of it, or of all in one; `hashes` is a name-list."""

    handle: String
    hashes: Text
    offset: UInt64
    length: UInt64
    block_size: UInt32


@structure
class CheckFileReply(Structure):
    """check-file's reply: the hash that was chosen, and the digests."""

    name: Text
    hash_name: Text
    digests: Rest


@structure
class StatVFS(Structure):
    """statvfs@openssh.com's reply: `os.statvfs_result`, and the filesystem's id."""

    f_bsize: UInt64
    f_frsize: UInt64
    f_blocks: UInt64
    f_bfree: UInt64
    f_bavail: UInt64
    f_files: UInt64
    f_ffree: UInt64
    f_favail: UInt64
    f_fsid: UInt64
    f_flag: UInt64
    f_namemax: UInt64


@structure
class ServerLimits(Structure):
    """limits@openssh.com's reply; 0 is no limit that is known."""

    packet_bytes: UInt64
    read_bytes: UInt64
    write_bytes: UInt64
    open_handles: UInt64


def write_pairs(pairs: dict[bytes, bytes]) -> bytes:
    """Encode the extensions of a VERSION."""
    out = bytearray()
    for name, data in pairs.items():
        STRING.write(out, name)
        STRING.write(out, data)
    return bytes(out)


def read_pairs(encoded: bytes, limit: int) -> dict[bytes, bytes]:
    """Decode the extensions of a VERSION.

    Raises:
        RemoteProtocolError: they are cut short, or more than `limit`.
    """
    pairs: dict[bytes, bytes] = {}
    offset = 0
    while offset < len(encoded):
        if len(pairs) >= limit:
            raise RemoteProtocolError(f"more than {limit} extensions")
        name, offset = STRING.read(encoded, offset)
        pairs[name], offset = STRING.read(encoded, offset)
    return pairs
