"""filexfer-02 s5: a file's attributes, each of which may be left out."""

from __future__ import annotations

import stat
import struct
from typing import Any, Final, Protocol, Self

import attrs

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.fields import STRING, Reading
from trio_ssh.wire.text import printable

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_PAIR: Final = struct.Struct(">II")
#: What nearly every server sends: size, owner, mode and times.
_ALL: Final = struct.Struct(">QIIIII")

FLAG_SIZE: Final = 0x01
FLAG_UIDGID: Final = 0x02
FLAG_PERMISSIONS: Final = 0x04
FLAG_ACMODTIME: Final = 0x08
FLAG_EXTENDED: Final = 0x80000000

#: Of the line that a person sees: more than a name of 255 bytes takes, each of them escaped.
_SHOWN_CHARACTERS: Final = 2048

_USUAL: Final = FLAG_SIZE | FLAG_UIDGID | FLAG_PERMISSIONS | FLAG_ACMODTIME
_KNOWN: Final = _USUAL | FLAG_EXTENDED


class FileStatus(Protocol):
    """`os.stat_result`, as far as it counts: this module opens no file, and knows of no operating system."""

    @property
    def st_size(self) -> int:
        """Bytes."""
        ...

    @property
    def st_uid(self) -> int:
        """The owner."""
        ...

    @property
    def st_gid(self) -> int:
        """The owner's group."""
        ...

    @property
    def st_mode(self) -> int:
        """Type and permissions."""
        ...

    @property
    def st_atime(self) -> float:
        """When it was read."""
        ...

    @property
    def st_mtime(self) -> float:
        """When it was written."""
        ...


@attrs.define
class SFTPAttributes:
    """What is known of a file, or is to be set: `os.stat_result`'s names, None for what is left out.

    Attributes:
        st_size: bytes.
        st_uid, st_gid: the owner; both or neither.
        st_mode: type and permissions.
        st_atime, st_mtime: seconds since 1970, whole ones below 2**32; both or neither.
        extended: pairs that an extension defines.
        filename: from a listing, the name; surrogateescape where it isn't UTF-8.
        longname: from a listing, the line that ``ls -l`` would show.
    """

    st_size: int | None = None
    st_uid: int | None = None
    st_gid: int | None = None
    st_mode: int | None = None
    st_atime: int | None = None
    st_mtime: int | None = None
    extended: dict[bytes, bytes] = attrs.field(factory=dict[bytes, bytes])
    filename: str = ""
    longname: str = ""

    @classmethod
    def from_stat(cls, result: FileStatus, filename: str = "", longname: str = "") -> Self:
        """Take over what the operating system tells of a file."""
        return cls(
            st_size=result.st_size,
            st_uid=result.st_uid,
            st_gid=result.st_gid,
            st_mode=result.st_mode,
            st_atime=int(result.st_atime) & 0xFFFFFFFF,
            st_mtime=int(result.st_mtime) & 0xFFFFFFFF,
            filename=filename,
            longname=longname,
        )

    def is_dir(self) -> bool:
        """Tell whether it is a directory; not knowing is no."""
        return self.st_mode is not None and stat.S_ISDIR(self.st_mode)

    def is_file(self) -> bool:
        """Tell whether it is a regular file; not knowing is no."""
        return self.st_mode is not None and stat.S_ISREG(self.st_mode)

    def is_symlink(self) -> bool:
        """Tell whether it is a symbolic link; not knowing is no."""
        return self.st_mode is not None and stat.S_ISLNK(self.st_mode)

    def _line(self) -> str:
        return self.longname or f"{stat.filemode(self.st_mode or 0)} {self.st_size} {self.filename}"

    def __str__(self) -> str:
        # For people: a name may hold what a terminal obeys.
        return printable(self._line(), _SHOWN_CHARACTERS)

    def asbytes(self) -> bytes:
        """Return the line that ``ls -l`` would show, as it is: whoever shows it escapes it, as ``str`` does."""
        return self._line().encode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """Return the ATTRS structure."""
        out = bytearray()
        ATTRS.write(out, self)
        return bytes(out)


class _Attrs:
    """The ATTRS structure as a field of a message."""

    def write(self, out: bytearray, value: Any) -> None:
        flags = 0
        body = bytearray()
        if value.st_size is not None:
            flags |= FLAG_SIZE
            body += _U64.pack(value.st_size)
        if value.st_uid is not None and value.st_gid is not None:
            flags |= FLAG_UIDGID
            body += _PAIR.pack(value.st_uid, value.st_gid)
        if value.st_mode is not None:
            flags |= FLAG_PERMISSIONS
            body += _U32.pack(value.st_mode)
        if value.st_atime is not None and value.st_mtime is not None:
            flags |= FLAG_ACMODTIME
            body += _PAIR.pack(int(value.st_atime), int(value.st_mtime))
        if value.extended:
            flags |= FLAG_EXTENDED
            body += _U32.pack(len(value.extended))
            for name, data in value.extended.items():
                STRING.write(body, name)
                STRING.write(body, data)
        out += _U32.pack(flags)
        out += body

    def read(self, data: bytes, offset: int) -> Reading:
        if offset + 4 > len(data):
            raise RemoteProtocolError("a message ends inside the flags of attributes")
        flags = _U32.unpack_from(data, offset)[0]
        offset += 4
        if flags == _USUAL and offset + _ALL.size <= len(data):
            return SFTPAttributes(*_ALL.unpack_from(data, offset)), offset + _ALL.size
        if flags & ~_KNOWN:
            # Each flag announces fields; behind unknown ones nothing could be found any more.
            raise RemoteProtocolError(f"attributes with the unknown flags {flags & ~_KNOWN:#x}")
        return self._read_fields(flags, data, offset)

    def _read_fields(self, flags: int, data: bytes, offset: int) -> Reading:
        value = SFTPAttributes()
        try:
            if flags & FLAG_SIZE:
                (value.st_size,) = _U64.unpack_from(data, offset)
                offset += 8
            if flags & FLAG_UIDGID:
                value.st_uid, value.st_gid = _PAIR.unpack_from(data, offset)
                offset += 8
            if flags & FLAG_PERMISSIONS:
                (value.st_mode,) = _U32.unpack_from(data, offset)
                offset += 4
            if flags & FLAG_ACMODTIME:
                value.st_atime, value.st_mtime = _PAIR.unpack_from(data, offset)
                offset += 8
            count = 0
            if flags & FLAG_EXTENDED:
                (count,) = _U32.unpack_from(data, offset)
                offset += 4
        except struct.error:
            raise RemoteProtocolError("a message ends inside attributes") from None
        if count * 8 > len(data) - offset:
            raise RemoteProtocolError(f"{count} extended attributes in {len(data) - offset} bytes")
        for _ in range(count):
            name, offset = STRING.read(data, offset)
            value.extended[name], offset = STRING.read(data, offset)
        return value, offset


ATTRS: Final = _Attrs()
