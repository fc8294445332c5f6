"""An SFTP server that does as a test tells it: in its own order, by halves, or wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY
from tests.sftp.by_hand import door
from trio_ssh.sftp.messages import (
    Attrs,
    Close,
    Data,
    Extended,
    ExtendedReply,
    Fsetstat,
    Fstat,
    Handle,
    Lstat,
    Name,
    NamedFile,
    Open,
    Opendir,
    Packet,
    Read,
    Readdir,
    Realpath,
    ServerLimits,
    Stat,
    Status,
)
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, KIB, OpenFlags, SFTPLimits, StatusCode
from trio_ssh.sftp.session import AnyRequest, BadRequest, ServerSession, WriteParts
from trio_ssh.testing import open_memory_client

OK: Final = Status(StatusCode.OK, "", "")
EOF: Final = Status(StatusCode.EOF, "", "")
FAILURE: Final = Status(StatusCode.FAILURE, "as told", "")
NO_SUCH_FILE: Final = Status(StatusCode.NO_SUCH_FILE, "", "")

LIMITS: Final = b"limits@openssh.com"


class Silence:
    """No reply at all."""


class Raw:
    """Bytes in place of a reply.

    Args:
        make: from the request's id to what is sent.
        then_end: and the session ends.
    """

    def __init__(self, make: Callable[[int], bytes], *, then_end: bool = False) -> None:
        self.make = make
        self.then_end = then_end


SILENCE: Final = Silence()
Reply = Packet | Silence | Raw


class ScriptedServer(trio_ssh.SubsystemHandler):
    """A few files, and what goes wrong with them.

    Args:
        files: their contents.
        extensions: what is offered.
        most: bytes that a READ brings at the most.
        block_bytes: what ``limits@openssh.com`` says, if that is offered.
        order: shuffles the replies to requests that are there at once; None for the order of the requests.
        first: sent before anything else.

    Attributes:
        requests: all that came, in order.
        handles: those that are open, and what they stand for.
        reads: how often something came.
        gate: no reply leaves while it is closed.
        most_unanswered_bytes: the largest sum of READs and WRITEs that waited for their replies at once.
    """

    def __init__(
        self,
        files: dict[str, bytes] | None = None,
        *,
        extensions: dict[bytes, bytes] | None = None,
        most: int = 2**31,
        block_bytes: int = 255 * KIB,
        order: random.Random | None = None,
        first: bytes = b"",
    ) -> None:
        self.files = {path.encode(): bytearray(data) for path, data in (files or {}).items()}
        self.extensions = {LIMITS: b"1"} if extensions is None else extensions
        self.most = most
        self.block_bytes = block_bytes
        self.order = order
        self.first = first
        self.requests: list[AnyRequest] = []
        self.handles: dict[bytes, bytes] = {}
        self.gate = trio.Event()
        self.gate.set()
        self.most_unanswered_bytes = 0
        self.reads = 0
        self._next_handle = 0
        self._listed: set[bytes] = set()

    # -- what a test overrides

    def answer(self, request: AnyRequest) -> Reply:
        """Return the reply to a request."""
        match request:
            case Open(path=path, flags=flags):
                if flags & OpenFlags.EXCLUSIVE and path in self.files:
                    return FAILURE
                if path not in self.files and not flags & OpenFlags.CREATE:
                    return NO_SUCH_FILE
                file = self.files.setdefault(path, bytearray())
                if flags & OpenFlags.TRUNCATE:
                    file.clear()
                return self._opened(path)
            case Opendir(path=path):
                return self._opened(path)
            case Close(handle=handle):
                return OK if self.handles.pop(handle, None) is not None else FAILURE
            case Read(handle=handle, offset=offset, length=length):
                return self.read(self.file_of(handle), offset, length)
            case WriteParts(handle=handle, offset=offset, parts=parts):
                return self.write(self.file_of(handle), offset, b"".join(parts.pieces()))
            case Fstat(handle=handle):
                return Attrs(trio_ssh.SFTPAttributes(st_size=len(self.file_of(handle))))
            case Fsetstat(handle=handle, attributes=attributes):
                file = self.file_of(handle)
                if attributes.st_size is not None:
                    del file[attributes.st_size :]
                    file += bytes(attributes.st_size - len(file))
                return OK
            case Stat(path=path) | Lstat(path=path):
                found = self.files.get(path)
                return NO_SUCH_FILE if found is None else Attrs(trio_ssh.SFTPAttributes(st_size=len(found)))
            case Readdir(handle=handle):
                if handle in self._listed:
                    return EOF
                self._listed.add(handle)
                return Name(tuple(entry(path.rpartition(b"/")[2]) for path in self.files))
            case Realpath(path=path):
                return Name((entry(path),))
            case Extended(name="limits@openssh.com"):
                return ExtendedReply(ServerLimits(256 * KIB, self.block_bytes, self.block_bytes, 100).encode())
            case BadRequest():
                raise AssertionError(request.text)
            case _:
                return Status(StatusCode.OP_UNSUPPORTED, "", "")

    def read(self, file: bytearray, offset: int, length: int) -> Reply:
        data = bytes(file[offset : offset + min(length, self.most)])
        return Data(data) if data or not length else EOF

    def write(self, file: bytearray, offset: int, data: bytes) -> Reply:
        file += bytes(max(0, offset - len(file)))
        file[offset : offset + len(data)] = data
        return OK

    def _opened(self, path: bytes) -> Handle:
        self._next_handle += 1
        handle = b"%d" % self._next_handle
        self.handles[handle] = path
        return Handle(handle)

    def file_of(self, handle: bytes) -> bytearray:
        return self.files[self.handles[handle]]

    def asked(self, kind: type[AnyRequest]) -> list[Any]:
        """The requests of one kind."""
        return [request for request in self.requests if isinstance(request, kind)]

    # -- serving

    async def handle(self, process: trio_ssh.ServerProcess) -> int:
        session = ServerSession(SFTPLimits(requests=100_000), self.extensions)
        channel = process.channel
        if self.first:
            await channel.send_all(self.first)
        while data := await channel.receive_some():
            self.reads += 1
            session.receive_data(memoryview(data))
            arrived = list(session.arrived)
            session.arrived.clear()
            while not self.gate.is_set():
                await self._gather(session, arrived, channel)
            self._note(arrived)
            replies = [(number, self._take(request)) for number, request in arrived]
            if self.order is not None:
                self.order.shuffle(replies)
            for number, reply in replies:
                if isinstance(reply, Raw):
                    self._flush_into(session)
                    session.outgoing.append(memoryview(reply.make(number)))
                elif isinstance(reply, Packet):
                    session.reply(number, reply)
            while session.outgoing:
                await channel.send_all(bytes(session.outgoing.popleft()))
            if any(isinstance(reply, Raw) and reply.then_end for _, reply in replies):
                break
        return 0

    async def _gather(
        self, session: ServerSession, arrived: list[tuple[int, AnyRequest]], channel: trio_ssh.Channel
    ) -> None:
        """While the gate is closed, requests gather."""
        self._note(arrived)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await self.gate.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait)
            data = await channel.receive_some()
            if not data:
                raise trio.BrokenResourceError
            session.receive_data(memoryview(data))
            arrived += session.arrived
            session.arrived.clear()
            nursery.cancel_scope.cancel()

    def _note(self, arrived: list[tuple[int, AnyRequest]]) -> None:
        waiting = sum(
            request.length if isinstance(request, Read) else request.size if isinstance(request, WriteParts) else 0
            for _, request in arrived
        )
        self.most_unanswered_bytes = max(self.most_unanswered_bytes, waiting)

    def _take(self, request: AnyRequest) -> Reply:
        self.requests.append(request)
        return self.answer(request)

    @staticmethod
    def _flush_into(session: ServerSession) -> None:
        """Keep what was sealed apart from the bytes that follow."""
        session.outgoing = type(session.outgoing)(memoryview(bytes(part)) for part in session.outgoing)


def entry(name: bytes, mode: int | None = None) -> NamedFile:
    return NamedFile(name, name, trio_ssh.SFTPAttributes(st_mode=mode))


@asynccontextmanager
async def using(
    handler: trio_ssh.SubsystemHandler, *, limits: SFTPLimits = DEFAULT_SFTP_LIMITS
) -> AsyncGenerator[trio_ssh.SFTPClient, None]:
    """A client of ours, and a server in memory."""
    async with (
        open_memory_client(door(handler), host_key=HOST_KEY) as client,
        await client.open_sftp(limits=limits) as sftp,
    ):
        yield sftp


async def pause() -> None:
    """Let everybody do what there is to do."""
    await trio.testing.wait_all_tasks_blocked()
