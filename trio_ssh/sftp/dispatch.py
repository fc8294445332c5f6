"""From a request to its reply, by way of an interface: one table for all that is asked, whoever serves it.

`Dispatcher.answer` is a coroutine that awaits nothing but the interface's methods.  A task of trio's runs it for an
interface whose methods may wait.  A thread runs it for one whose methods never do: `run_at_once` takes its only step.
"""

from __future__ import annotations

import errno
import functools
import itertools
import logging
import struct
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar, cast

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.runtime.block import RAISED, is_failure
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.interface import (
    EXTENSION_METHODS,
    HASHES,
    AtHand,
    SFTPHandle,
    SFTPServerInterface,
    offered_extensions,
    os_flags,
)
from trio_ssh.sftp.longname import long_name
from trio_ssh.sftp.messages import (
    Attrs,
    CheckFile,
    CheckFileReply,
    Close,
    CopyData,
    Extended,
    ExtendedReply,
    Fsetstat,
    Fstat,
    Handle,
    Lsetstat,
    Lstat,
    Mkdir,
    Name,
    NamedFile,
    OneHandle,
    OnePath,
    Open,
    Opendir,
    Packet,
    Read,
    Readdir,
    Readlink,
    Realpath,
    Remove,
    Rename,
    Rmdir,
    ServerLimits,
    Setstat,
    Stat,
    Status,
    Symlink,
    TwoPaths,
    UsersGroups,
)
from trio_ssh.sftp.order import DETAILS, Parts, cut
from trio_ssh.sftp.protocol import KIB, OpenFlags, SFTPLimits, StatusCode
from trio_ssh.sftp.session import AnyRequest, BadRequest, ServerSession, WriteParts
from trio_ssh.sftp.status import END_OF_FILE, FAILURE, OK, status_of
from trio_ssh.wire.fields import STRING

_log = logging.getLogger("trio_ssh.sftp")

T = TypeVar("T")

#: A reply's whole packet; or a DATA packet whose head is still to be written.
Answered = bytearray | memoryview

#: Bytes and names after which a NAME is full.  A client reads 256 KiB at the most.
NAME_BYTES: Final = 128 * KIB
_NAMES: Final = 1024
#: The longest name and line that are sent.
_ENTRY_BYTES: Final = 32 * KIB

#: Buffers that are kept for the next READ.
_KEPT_BUFFERS: Final = 32

_EMPTY_ATTRIBUTES: Final = SFTPAttributes()


def run_at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise AssertionError("an interface that is served by threads waits")


class Buffers:
    """Reused memory for the data of READs; threads may take and give back.

    Measured: a fresh one of 255 KiB costs 30 us and more in page faults, as much as reading into it.
    """

    __slots__ = ("_free", "_size")

    def __init__(self, size: int) -> None:
        self._size = ServerSession.DATA_HEAD_SIZE + size
        self._free: list[bytearray] = []

    def borrow(self) -> bytearray:
        """Return one of them, with whatever its last user left in it."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self._size)

    def give_back(self, buffer: object) -> None:
        """Take back a buffer, if it is one of ours; no view of it may be in use."""
        if isinstance(buffer, bytearray) and len(buffer) == self._size and len(self._free) < _KEPT_BUFFERS:
            self._free.append(buffer)


class _OpenFile:
    """A handle of a file."""

    __slots__ = ("handle", "parts", "path")

    def __init__(self, handle: SFTPHandle, path: str, parts: Parts) -> None:
        self.handle = handle
        self.path = path
        self.parts = parts


class _OpenFolder:
    """A handle of a directory: its listing, and the entry that didn't fit into the last NAME."""

    __slots__ = ("_ahead", "_listing", "parts", "path")

    def __init__(
        self, listing: Iterator[SFTPAttributes] | AsyncIterator[SFTPAttributes], path: str, parts: Parts
    ) -> None:
        self._listing = listing
        self.path = path
        self.parts = parts

    async def next(self) -> SFTPAttributes | None:
        """Return the next entry, or None at the end."""
        if isinstance(self._listing, AsyncIterator):
            return await anext(self._listing, None)
        return next(self._listing, None)

    async def close(self) -> None:
        """End a listing that was not read to its end."""
        close: Callable[[], Awaitable[None] | None] | None = getattr(
            self._listing, "aclose", getattr(self._listing, "close", None)
        )
        if close is not None:
            closing = close()
            if closing is not None:
                await closing


class Dispatcher:
    """One session's handles, and what answers its requests.

    Attributes:
        extensions: what is advertised.
        buffers: where READs are read into; whoever has sent a reply gives its buffer back.
    """

    def __init__(self, interface: SFTPServerInterface, limits: SFTPLimits) -> None:
        self._interface = interface
        self._limits = limits
        self._handles: dict[bytes, _OpenFile | _OpenFolder] = {}
        self._free_handles = threading.BoundedSemaphore(limits.handles)
        #: Threads take from it.
        self._numbers = itertools.count(1)
        self._block_bytes = min(limits.block_bytes, limits.packet_bytes - KIB)
        self.extensions: dict[bytes, bytes] = offered_extensions(interface)
        self.buffers: Buffers = Buffers(self._block_bytes)

    # -- about requests

    def cost(self, request: AnyRequest) -> int:
        """Return the bytes that a request's reply may take."""
        if isinstance(request, Read):
            return min(request.length, self._block_bytes) + 64
        if isinstance(request, Readdir):
            return NAME_BYTES
        return 256

    def path_of(self, handle: bytes) -> Parts | None:
        """Return where a handle was opened."""
        entry = self._handles.get(handle)
        return None if entry is None else entry.parts

    async def answer(self, number: int, request: AnyRequest) -> Answered:
        """Serve a request.  Whatever the interface raises becomes a status."""
        try:
            if type(request) is Read:
                return await self._read(number, request)
            packet = await self._serve(request)
            frame = packet.frame(number)
            if len(frame) > self._limits.packet_bytes:
                raise OSError(errno.EMSGSIZE, "the reply is longer than a packet may be")
            return frame
        except RemoteProtocolError as error:
            packet = Status(StatusCode.BAD_MESSAGE, str(error), "")
        except (OSError, EOFError) as error:
            packet = status_of(error)
        except RAISED as error:
            if not is_failure(error):
                raise
            _log.exception("a request failed: %s", type(request).__name__)
            packet = FAILURE
        return packet.frame(number)

    def is_at_hand(self, request: AnyRequest) -> bool:
        """Tell whether `answer_now` is worth trying."""
        if not isinstance(request, Read | WriteParts):
            return False
        entry = self._handles.get(request.handle)
        handle = entry.handle if isinstance(entry, _OpenFile) else None
        return isinstance(handle, AtHand) and handle.is_at_hand(for_writing=isinstance(request, WriteParts))

    def answer_now(self, number: int, request: AnyRequest) -> Answered | None:
        """Serve a request in trio's thread that others are served in threads for; None where it might have to wait."""
        if not self.is_at_hand(request):
            return None
        if not isinstance(request, Read):
            return run_at_once(self.answer(number, request))
        handle = cast("AtHand", self._file(request.handle).handle)
        head = ServerSession.DATA_HEAD_SIZE
        size = min(request.length, self._block_bytes)
        buffer = self.buffers.borrow()
        with memoryview(buffer) as view:
            got = handle.readinto_now(request.offset, view[head : head + size])
        if got:
            return memoryview(buffer)[: head + got]
        self.buffers.give_back(buffer)
        return None

    async def _serve(self, request: AnyRequest) -> Packet:
        if isinstance(request, BadRequest):
            code = StatusCode.OP_UNSUPPORTED if request.is_unknown else StatusCode.BAD_MESSAGE
            return Status(code, request.text, "")
        return await _REQUESTS[type(request)](self, request)

    async def close_all(self) -> None:
        """Close every handle; one that can't be closed keeps no other open."""
        for close in self.closings():
            await close()

    def closings(self) -> list[Callable[[], Awaitable[None]]]:
        """Forget every handle, and return what closes each, for whoever has them closed at the same time."""
        entries = list(self._handles.values())
        self._handles.clear()
        return [functools.partial(_close_in_the_end, entry) for entry in entries]

    # -- paths and handles

    def _path(self, path: bytes) -> str:
        """Check a path, and return it as text."""
        if b"\0" in path:
            raise RemoteProtocolError("a path with a NUL in it")
        if len(path) > self._limits.path_bytes:
            raise OSError(errno.ENAMETOOLONG, f"a path has at most {self._limits.path_bytes} bytes here")
        return path.decode("utf-8", "surrogateescape")

    def _file(self, handle: bytes) -> _OpenFile:
        entry = self._handles.get(handle)
        if not isinstance(entry, _OpenFile):
            raise _no_such_handle(entry)
        return entry

    async def _add(self, make: Awaitable[_OpenFile | _OpenFolder]) -> Handle:
        """Open something, unless too much is open already, and give it a handle that this session never had."""
        if not self._free_handles.acquire(blocking=False):
            cast("Coroutine[Any, Any, object]", make).close()
            raise OSError(errno.EMFILE, f"at most {self._limits.handles} handles are open at once")
        try:
            entry = await make
        except BaseException:
            self._free_handles.release()
            raise
        number = next(self._numbers).to_bytes(8, "big")
        self._handles[number] = entry
        return Handle(number)

    # -- files

    async def _open(self, request: Open) -> Packet:
        return await self._add(self._open_file(request))

    async def _open_file(self, request: Open) -> _OpenFile:
        path = self._path(request.path)
        handle = await self._interface.open(path, os_flags(request.flags), request.attributes)
        return _OpenFile(_given(handle), path, cut(request.path))

    async def _close(self, request: Close) -> Packet:
        entry = self._handles.pop(request.handle, None)
        if entry is None:
            raise _no_such_handle(entry)
        self._free_handles.release()
        await _close(entry)
        return OK

    async def _read(self, number: int, request: Read) -> Answered:
        handle = self._file(request.handle).handle
        head = ServerSession.DATA_HEAD_SIZE
        size = min(request.length, self._block_bytes)
        buffer = self.buffers.borrow()
        with memoryview(buffer) as view:
            got = await handle.readinto(request.offset, view[head : head + size]) if size else 0
        if got:
            return memoryview(buffer)[: head + got]
        self.buffers.give_back(buffer)
        return END_OF_FILE.frame(number)

    async def _write(self, request: WriteParts) -> Packet:
        handle = self._file(request.handle).handle
        if request.size:
            await handle.writev(request.offset, request.parts.pieces())
        return OK

    async def _fstat(self, request: Fstat) -> Packet:
        entry = self._handles.get(request.handle)
        if isinstance(entry, _OpenFolder):
            return Attrs(_given(await self._interface.stat(entry.path)))
        return Attrs(_given(await self._file(request.handle).handle.stat()))

    async def _fsetstat(self, request: Fsetstat) -> Packet:
        entry = self._handles.get(request.handle)
        if isinstance(entry, _OpenFolder):
            return await _done(self._interface.chattr(entry.path, request.attributes))
        return await _done(self._file(request.handle).handle.chattr(request.attributes))

    # -- directories

    async def _opendir(self, request: Opendir) -> Packet:
        return await self._add(self._open_folder(request))

    async def _open_folder(self, request: Opendir) -> _OpenFolder:
        path = self._path(request.path)
        given: object = self._interface.list_folder(path)
        # A method that yields its entries is a generator itself, and nothing to await.
        if not isinstance(given, AsyncIterator | Iterator):
            given = _given(await cast("Awaitable[object]", given))
        listing = cast("Iterable[SFTPAttributes] | AsyncIterable[SFTPAttributes]", given)
        iterator = iter(listing) if isinstance(listing, Iterable) else aiter(listing)
        return _OpenFolder(iterator, path, cut(request.path))

    async def _readdir(self, request: Readdir) -> Packet:
        entry = self._handles.get(request.handle)
        if not isinstance(entry, _OpenFolder):
            raise _no_such_handle(entry)
        names: list[NamedFile] = []
        size = 0
        while size < NAME_BYTES and len(names) < _NAMES:
            attributes = await entry.next()
            if attributes is None:
                break
            name = _named(attributes)
            length = len(name.filename) + len(name.longname)
            if length <= _ENTRY_BYTES:
                names.append(name)
                size += length + 64
        return Name(tuple(names)) if names else END_OF_FILE

    # -- paths

    async def _stat(self, request: Stat) -> Packet:
        return Attrs(_given(await self._interface.stat(self._path(request.path))))

    async def _lstat(self, request: Lstat) -> Packet:
        return Attrs(_given(await self._interface.lstat(self._path(request.path))))

    async def _setstat(self, request: Setstat) -> Packet:
        return await _done(self._interface.chattr(self._path(request.path), request.attributes))

    async def _remove(self, request: Remove) -> Packet:
        return await _done(self._interface.remove(self._path(request.path)))

    async def _mkdir(self, request: Mkdir) -> Packet:
        return await _done(self._interface.mkdir(self._path(request.path), request.attributes))

    async def _rmdir(self, request: Rmdir) -> Packet:
        return await _done(self._interface.rmdir(self._path(request.path)))

    async def _realpath(self, request: Realpath) -> Packet:
        return self._one_name(await self._interface.canonicalize(self._path(request.path)))

    async def _rename(self, request: Rename) -> Packet:
        return await _done(self._interface.rename(self._path(request.oldpath), self._path(request.newpath)))

    async def _readlink(self, request: Readlink) -> Packet:
        return self._one_name(await self._interface.readlink(self._path(request.path)))

    async def _symlink(self, request: Symlink) -> Packet:
        return await _done(self._interface.symlink(self._path(request.targetpath), self._path(request.linkpath)))

    @staticmethod
    def _one_name(path: str) -> Name:
        encoded = _given(path).encode("utf-8", "surrogateescape")
        return Name((NamedFile(encoded, encoded, _EMPTY_ATTRIBUTES),))

    # -- extensions

    async def _extended(self, request: Extended) -> Packet:
        handler = self._interface.extensions.get(request.name)
        if handler is not None:
            return ExtendedReply(await handler(request.details))
        name = request.name.encode("utf-8", "surrogateescape")
        if name not in self.extensions:
            return Status(StatusCode.OP_UNSUPPORTED, "this extension is not supported here", "")
        return await _EXTENSIONS[request.name](self, request.name, request.details)

    async def _posix_rename(self, name: str, details: bytes) -> Packet:
        paths = TwoPaths.decode(details)
        return await _done(self._interface.posix_rename(self._path(paths.oldpath), self._path(paths.newpath)))

    async def _hardlink(self, name: str, details: bytes) -> Packet:
        paths = TwoPaths.decode(details)
        return await _done(self._interface.link(self._path(paths.oldpath), self._path(paths.newpath)))

    async def _statvfs(self, name: str, details: bytes) -> Packet:
        return ExtendedReply((await self._interface.statvfs(self._path(OnePath.decode(details).path))).encode())

    async def _fstatvfs(self, name: str, details: bytes) -> Packet:
        entry = self._handles.get(OneHandle.decode(details).handle)
        if entry is None:
            raise _no_such_handle(entry)
        return ExtendedReply((await self._interface.statvfs(entry.path)).encode())

    async def _fsync(self, name: str, details: bytes) -> Packet:
        return await _done(self._interface.fsync(self._file(OneHandle.decode(details).handle).handle))

    async def _lsetstat(self, name: str, details: bytes) -> Packet:
        asked = Lsetstat.decode(details)
        return await _done(self._interface.lchattr(self._path(asked.path), asked.attributes))

    async def _server_limits(self, name: str, details: bytes) -> Packet:
        if details:
            raise RemoteProtocolError("limits@openssh.com has no details")
        limits = self._limits
        return ExtendedReply(
            ServerLimits(limits.packet_bytes, self._block_bytes, self._block_bytes, limits.handles).encode()
        )

    async def _expand_path(self, name: str, details: bytes) -> Packet:
        return self._one_name(await self._interface.expand_path(self._path(OnePath.decode(details).path)))

    async def _home_directory(self, name: str, details: bytes) -> Packet:
        return self._one_name(await self._interface.home_directory(self._path(OnePath.decode(details).path)))

    async def _copy_data(self, name: str, details: bytes) -> Packet:
        asked = CopyData.decode(details)
        source, target = self._file(asked.read_handle), self._file(asked.write_handle)
        end = asked.read_offset + asked.length if asked.length else None
        if source is target and (asked.write_offset >= asked.read_offset) and (end is None or asked.write_offset < end):
            # What is read would be what was just written, and with a length of 0 there would be no end to it.
            raise OSError(errno.EINVAL, "a file can't be copied onto what is being read of it")
        return await _done(
            self._interface.copy_data(source.handle, asked.read_offset, asked.length, target.handle, asked.write_offset)
        )

    async def _users_groups(self, name: str, details: bytes) -> Packet:
        asked = UsersGroups.decode(details)
        users, groups = await self._interface.users_groups_by_id(_numbers(asked.users), _numbers(asked.groups))
        return ExtendedReply(UsersGroups(_strings(users), _strings(groups)).encode())

    async def _check_file(self, name: str, details: bytes) -> Packet:
        asked = CheckFile.decode(details)
        wanted = asked.hashes.split(",")
        hash_name = next((one for one in wanted if one in HASHES), None)
        if hash_name is None:
            raise OSError(errno.EOPNOTSUPP, f"the hashes that are supported here are {', '.join(HASHES)}")
        if 0 < asked.block_size < _LEAST_BLOCK_BYTES:
            raise OSError(errno.EINVAL, f"a block has at least {_LEAST_BLOCK_BYTES} bytes")
        if name != "check-file-name":
            return await self._digests(self._file(asked.handle).handle, asked, hash_name)
        handle = await self._interface.open(self._path(asked.handle), os_flags(OpenFlags.READ), SFTPAttributes())
        try:
            return await self._digests(handle, asked, hash_name)
        finally:
            # Plain files close at once; whoever waits here while being cancelled is asked to shield it.
            await handle.close()  # noqa: ASYNC102 -- see above

    async def _digests(self, handle: SFTPHandle, asked: CheckFile, hash_name: str) -> Packet:
        length = asked.length
        if asked.block_size:
            # Bounded before anything is read: digests are many times what the request has.
            most = NAME_BYTES // 64 * asked.block_size
            if not length:
                size = (await handle.stat()).st_size
                length = max(0, size - asked.offset) if size is not None else most + 1
            if length > most:
                raise OSError(errno.EFBIG, f"at most {NAME_BYTES // 64} digests are sent: ask for larger blocks")
        digests = await self._interface.check_file(handle, hash_name, asked.offset, length, asked.block_size)
        return ExtendedReply(CheckFileReply("check-file", hash_name, b"".join(digests)).encode())


#: filexfer-extensions-00 s3: a server refuses smaller ones.
_LEAST_BLOCK_BYTES: Final = 256


async def _done(call: Awaitable[None]) -> Packet:
    """Have something done.  It raises if it can't be: a code that is returned would be taken for a success."""
    given: object = call
    if not isinstance(given, Awaitable):
        raise TypeError(f"an SFTP server's methods are async: write `async def`; this one has returned {given!r}")
    _given(await cast("Awaitable[object]", given))
    return OK


def _given(value: T) -> T:
    """Return what an interface gave, if it is no code such as paramiko's servers return."""
    if isinstance(value, int):
        raise TypeError(f"an SFTP server's method raises an OSError where it fails; it doesn't return {value!r}")
    return value


def _no_such_handle(entry: object) -> OSError:
    return OSError(errno.EBADF, "no such handle" if entry is None else "a handle of the other kind")


async def _close(entry: _OpenFile | _OpenFolder) -> None:
    if isinstance(entry, _OpenFile):
        await entry.handle.close()
    else:
        await entry.close()


async def _close_in_the_end(entry: _OpenFile | _OpenFolder) -> None:
    try:
        await _close(entry)
    except RAISED as error:
        if not is_failure(error):
            raise
        _log.exception("a handle could not be closed at the end of its session")


def _named(attributes: SFTPAttributes) -> NamedFile:
    filename = attributes.filename.encode("utf-8", "surrogateescape")
    longname = attributes.longname or long_name(attributes)
    return NamedFile(filename, longname.encode("utf-8", "surrogateescape"), attributes)


def _numbers(encoded: bytes) -> list[int]:
    if len(encoded) % 4:
        raise RemoteProtocolError("numbers of users or groups that are no multiple of 4 bytes")
    if len(encoded) > 4 * _NAMES:
        raise OSError(errno.E2BIG, f"at most {_NAMES} numbers are looked up at once")
    return list(struct.unpack(f">{len(encoded) // 4}I", encoded))


def _strings(names: Iterable[str]) -> bytes:
    out = bytearray()
    for name in names:
        STRING.write(out, name.encode("utf-8", "surrogateescape"))
    return bytes(out)


#: Request -> what serves it.
_REQUESTS: Final[dict[type[object], Callable[[Dispatcher, Any], Awaitable[Packet]]]] = {
    Open: Dispatcher._open,
    Close: Dispatcher._close,
    WriteParts: Dispatcher._write,
    Lstat: Dispatcher._lstat,
    Fstat: Dispatcher._fstat,
    Setstat: Dispatcher._setstat,
    Fsetstat: Dispatcher._fsetstat,
    Opendir: Dispatcher._opendir,
    Readdir: Dispatcher._readdir,
    Remove: Dispatcher._remove,
    Mkdir: Dispatcher._mkdir,
    Rmdir: Dispatcher._rmdir,
    Realpath: Dispatcher._realpath,
    Stat: Dispatcher._stat,
    Rename: Dispatcher._rename,
    Readlink: Dispatcher._readlink,
    Symlink: Dispatcher._symlink,
    Extended: Dispatcher._extended,
}


class _Extension(Protocol):
    """Serves an extension by the name that it was asked for."""

    def __call__(self, dispatcher: Dispatcher, name: str, details: bytes, /) -> Awaitable[Packet]: ...


#: Extension -> what serves it.
_EXTENSIONS: Final[dict[str, _Extension]] = {
    "posix-rename@openssh.com": Dispatcher._posix_rename,
    "statvfs@openssh.com": Dispatcher._statvfs,
    "fstatvfs@openssh.com": Dispatcher._fstatvfs,
    "hardlink@openssh.com": Dispatcher._hardlink,
    "fsync@openssh.com": Dispatcher._fsync,
    "lsetstat@openssh.com": Dispatcher._lsetstat,
    "limits@openssh.com": Dispatcher._server_limits,
    "expand-path@openssh.com": Dispatcher._expand_path,
    "copy-data": Dispatcher._copy_data,
    "home-directory": Dispatcher._home_directory,
    "users-groups-by-id@openssh.com": Dispatcher._users_groups,
    "check-file": Dispatcher._check_file,
    "check-file-handle": Dispatcher._check_file,
    "check-file-name": Dispatcher._check_file,
}
assert _EXTENSIONS.keys() == EXTENSION_METHODS.keys() >= DETAILS.keys()
