"""Both ends of an SFTP session, sealed: bytes in, replies or requests out; no task, no file, no clock.

A session cuts its stream into packets by walking what arrives, which may end anywhere.  What carries files is never
joined: the bytes of a DATA reply go to whoever asked as they come, and those of a WRITE are kept as the slices they
are.

The client's end knows which request each reply belongs to, whatever their order, and holds the server to what was
asked: an id that nobody waits for, a reply of another kind, or more data than a READ wanted ends the session.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import attrs

from trio_ssh.core.channel import Batch
from trio_ssh.core.dialog import Conversation, Dialog, expect, send
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp.messages import (
    Attrs,
    Close,
    Data,
    Extended,
    ExtendedReply,
    Fsetstat,
    Fstat,
    Handle,
    Init,
    Lstat,
    Mkdir,
    Name,
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
    Setstat,
    Stat,
    Status,
    Symlink,
    Version,
    Write,
    read_pairs,
    write_pairs,
)
from trio_ssh.sftp.protocol import EXTENSIONS, HANDLE_BYTES, VERSION, SFTPLimits
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.text import printable

_U32: Final = struct.Struct(">I")
_TYPE: Final = struct.Struct(">IB")
_DATA_HEAD: Final = struct.Struct(">IBII")
_WRITE_TAIL: Final = struct.Struct(">QI")
_READ_TAIL: Final = _WRITE_TAIL

#: What a packet may have beyond the bytes of a file that it carries.
_HEAD_BYTES: Final = 1024

_EMPTY: Final = memoryview(b"")

#: A status of so many bytes is remembered, to be told again.
_SHORT_STATUS: Final = 64

#: Replies are joined up to so many bytes: what one SSH packet carries of most clients.
_JOINED_BYTES: Final = 32 * 1024


def _take_none(part: memoryview, left: int) -> None:
    raise AssertionError("no bulk packet has begun")


class _PacketWalk(ABC):
    """Cuts a stream into packets.  Those of one type, the bulk, are passed on in parts as they come."""

    __slots__ = ("_bulk_left", "_bulk_type", "_limit", "_needed", "_partial", "_take_part", "has_begun")

    def __init__(self, limits: SFTPLimits, bulk_type: int) -> None:
        self._limit = limits.packet_bytes + _HEAD_BYTES
        self._bulk_type = bulk_type
        self._bulk_left = 0
        #: Takes a part that isn't the last, and how much follows it.
        self._take_part: Callable[[memoryview, int], None] = _take_none
        #: A packet, or a bulk packet's head, that is not complete; and how long it has to be to go on.
        self._partial = bytearray()
        self._needed = 0
        #: The version is agreed on.
        self.has_begun: bool = False

    def receive_data(self, data: memoryview) -> memoryview:
        """Walk what has arrived.

        Returns:
            What was not walked, because enough has gathered for now; nothing, mostly.

        Raises:
            RemoteProtocolError: it is no packet, or none that may arrive now.
        """
        size = len(data)
        # What nearly every piece of a transfer is: in the middle of a packet that has begun.  The loop knows the rest.
        if 0 < size < self._bulk_left:
            self._bulk_left -= size
            self._take_part(data, self._bulk_left)
            return _EMPTY
        while not self.is_full:
            if self._bulk_left:
                part = data[: self._bulk_left]
                if not part:
                    break
                self._bulk_left -= len(part)
                data = data[len(part) :]
                if not self._bulk_left:
                    self._take_part = _take_none  # who took them isn't held on to
                self._on_bulk(part)
            elif self._partial:
                missing = self._needed - len(self._partial)
                self._partial += data[:missing]
                data = data[missing:]
                if len(self._partial) < self._needed:
                    break
                packet = memoryview(bytes(self._partial))
                if self._take(packet):
                    self._partial = bytearray()
            else:
                if not data:
                    break
                taken = self._take(data)
                if not taken:
                    self._partial = bytearray(data)
                    return _EMPTY
                data = data[taken:]
        return data

    @property
    def is_full(self) -> bool:
        """Tell whether to stop walking: only a server has to."""
        return False

    def _take(self, data: memoryview) -> int:
        """Deal with the packet, or the bulk packet's head, that `data` begins with.

        Returns:
            Its length; 0 if it isn't complete, and `_needed` tells what would do.
        """
        if len(data) < _TYPE.size:
            # A length that is none is told from itself: what would be behind it may never come.
            if len(data) == _U32.size and not 1 <= _U32.unpack_from(data)[0] <= self._limit:
                raise self._bad_length(_U32.unpack_from(data)[0], data)
            self._needed = _U32.size if len(data) < _U32.size else _TYPE.size
            return 0
        length, kind = _TYPE.unpack_from(data)
        if not 1 <= length <= self._limit:
            raise self._bad_length(length, data)
        if kind == self._bulk_type and self.has_begun:
            return self._begin_bulk(data, length)
        total = 4 + int(length)
        if len(data) < total:
            self._needed = total
            return 0
        self._on_packet(bytes(data[4:total]))
        return total

    def _bad_length(self, length: int, data: memoryview) -> RemoteProtocolError:
        text = f"an SFTP packet of {length} bytes; at most {self._limit} are read"
        if not self.has_begun:
            # OpenSSH's users meet this as "Received message too long 1466264675".
            start = printable(bytes(data[:64]))
            text = f"SFTP was due and something else came: '{start}'. Does a startup file of the shell print something?"
        return RemoteProtocolError(text)

    @abstractmethod
    def _begin_bulk(self, data: memoryview, length: int) -> int:
        """Read a bulk packet's head, as `_take` does, and set `_bulk_left` and `_take_part`."""

    @abstractmethod
    def _on_bulk(self, part: memoryview) -> None:
        """Take the next part; the last if `_bulk_left` is 0."""

    @abstractmethod
    def _on_packet(self, payload: bytes) -> None:
        """Take a whole packet, without its length: at least the type."""


# -- the client's end


class Waiter(Protocol):
    """What waits for the reply to one request.

    Attributes:
        expects: the reply that it wants; a `Status` may always come in its place.
        asked: bytes that a READ asked for; 0 for every other request.
    """

    expects: type[Packet]
    asked: int

    def on_reply(self, reply: Packet) -> None:
        """The reply has come, and it is one of `expects` or a `Status`."""
        ...

    def on_data(self, part: memoryview, left: int) -> None:
        """A part of the DATA that a READ asked for has come, and so many bytes of it follow; both may be 0."""
        ...

    def on_lost(self) -> None:
        """The session has ended: no reply comes any more."""
        ...


class ReplyWaiter(ABC):
    """A `Waiter` for a reply that is no data."""

    __slots__ = ("asked", "expects")

    def __init__(self, expects: type[Packet]) -> None:
        self.expects: type[Packet] = expects
        self.asked: int = 0

    @abstractmethod
    def on_reply(self, reply: Packet) -> None:
        """The reply has come, and it is one of `expects` or a `Status`."""

    def on_data(self, part: memoryview, left: int) -> None:
        """Nothing was asked that brings data."""
        raise AssertionError("nobody waits for data")

    @abstractmethod
    def on_lost(self) -> None:
        """The session has ended: no reply comes any more."""


_REPLIES: Final[dict[int, type[Packet]]] = {
    reply.NUMBER: reply for reply in (Status, Handle, Data, Name, Attrs, ExtendedReply)
}


def begin_as_client(limits: SFTPLimits) -> Dialog[dict[bytes, bytes]]:
    """filexfer-02 s4: tell our version, learn the server's; return its extensions."""
    yield from send(Init(VERSION, b""))
    reply = yield from expect(Version)
    if reply.version != VERSION:
        raise RemoteProtocolError(f"the server speaks version {reply.version} of SFTP, and we speak {VERSION} only")
    return read_pairs(reply.extensions, limits.extension_count)


class ClientSession(_PacketWalk):
    """The client's end.  `request` and its kin seal packets into `outgoing`; replies go to those who wait.

    Attributes:
        outgoing: packets to be sent, in order, oldest first; whoever sends takes them out, whole or in parts.
        queued_bytes: of all packets that ever were in there.
        sealed_bytes: of those, what has left it; whoever takes them out counts.
        extensions: the server's, once `has_begun`.
    """

    __slots__ = (
        "_begin",
        "_last_status",
        "_last_text",
        "_marks",
        "_next_id",
        "_pending",
        "_reading",
        "extensions",
        "outgoing",
        "queued_bytes",
        "sealed_bytes",
    )

    def __init__(self, limits: SFTPLimits) -> None:
        super().__init__(limits, Data.NUMBER)
        self._pending: dict[int, Waiter] = {}
        self._next_id = 0
        self._reading: Waiter | None = None
        #: What the last status said, if that was short, and what was made of it.
        self._last_text = bytes(12)
        self._last_status = Status(0, "", "")
        self.outgoing: deque[memoryview] = deque()
        self.queued_bytes: int = 0
        self.sealed_bytes: int = 0
        #: Of requests that may not have left yet, in order: what `sealed_bytes` is when they have.
        self._marks: deque[int] = deque()
        self.extensions: dict[bytes, bytes] = {}
        self._begin: Conversation[dict[bytes, bytes]] | None = Conversation(
            begin_as_client(limits), self._send_plain, _ask_nobody, self._begun
        )
        self._begin.start()

    @property
    def pending(self) -> int:
        """How many requests wait for their replies."""
        return len(self._pending)

    def _queue(self, packet: memoryview) -> None:
        self.outgoing.append(packet)
        self.queued_bytes += len(packet)
        self._marks.append(self.queued_bytes)

    def _send_plain(self, message: DeclaredMessage) -> None:
        payload = message.encode()
        self._queue(memoryview(_U32.pack(len(payload)) + payload))

    def _begun(self, extensions: dict[bytes, bytes]) -> None:
        self.extensions = extensions
        self.has_begun = True
        self._begin = None

    # -- what is asked

    def request(self, packet: Packet, waiter: Waiter) -> None:
        """Ask for something; the reply goes to `waiter`."""
        self._queue(memoryview(packet.frame(self._register(waiter))))

    def read(self, handle: bytes, offset: int, size: int, waiter: Waiter) -> None:
        """Ask for `size` bytes, which `waiter` knows as `asked`."""
        tail = _READ_TAIL.pack(offset, size)  # first: where it fails, nobody waits
        head = _DATA_HEAD.pack(21 + len(handle), Read.NUMBER, self._register(waiter), len(handle))
        self._queue(memoryview(head + handle + tail))

    @staticmethod
    def write_head_size(handle: bytes) -> int:
        """Return the bytes that `write_in_place` needs before the data."""
        return _DATA_HEAD.size + len(handle) + _WRITE_TAIL.size

    def write_in_place(self, packet: memoryview, handle: bytes, offset: int, waiter: Waiter) -> None:
        """Send a WRITE whose data stands in `packet` already, behind room for its head.

        Args:
            packet: `write_head_size` bytes, then the data; it must not change before it was taken out of `outgoing`.
            offset: of the data in the file.
        """
        start = _DATA_HEAD.size + len(handle)
        _WRITE_TAIL.pack_into(packet, start, offset, len(packet) - start - _WRITE_TAIL.size)  # first, as above
        _DATA_HEAD.pack_into(packet, 0, len(packet) - 4, Write.NUMBER, self._register(waiter), len(handle))
        packet[_DATA_HEAD.size : start] = handle
        self._queue(packet)

    def _register(self, waiter: Waiter) -> int:
        assert self.has_begun, "nothing is asked before the version is agreed on"
        number = self._next_id
        while number in self._pending:
            number = (number + 1) & 0xFFFFFFFF
        self._next_id = (number + 1) & 0xFFFFFFFF
        self._pending[number] = waiter
        return number

    def abandon(self) -> list[Waiter]:
        """No reply comes any more: return those who wait, and drop what was to be sent."""
        waiting = list(self._pending.values())
        if self._reading is not None:
            waiting.append(self._reading)
        self._pending.clear()
        self._reading = None
        self._bulk_left = 0
        self._take_part = _take_none
        self.outgoing.clear()
        return waiting

    # -- what arrives

    def _awaited(self, number: int) -> Waiter:
        # It stays pending until the reply has proved to be one, so that it hears of the session's end if it isn't.
        waiter = self._pending.get(number)
        if waiter is None:
            raise RemoteProtocolError(f"an SFTP reply to request {number}, for which nobody waits")
        # Requests are numbered in order, so a server can guess the next ones; and an answer lets one more be made.
        marks = self._marks
        if not self.outgoing:
            marks.clear()
        while marks and marks[0] <= self.sealed_bytes:
            marks.popleft()
        if marks and (self._next_id - number) & 0xFFFFFFFF <= len(marks):
            raise RemoteProtocolError(f"an SFTP reply to request {number}, which was not sent yet")
        return waiter

    def _begin_bulk(self, data: memoryview, length: int) -> int:
        if len(data) < _DATA_HEAD.size:
            self._needed = _DATA_HEAD.size
            return 0
        _, _, number, size = _DATA_HEAD.unpack_from(data)
        if length != size + 9:
            raise RemoteProtocolError("Data: its length is not that of its data")
        waiter = self._awaited(number)
        if size > waiter.asked or not waiter.asked:
            raise RemoteProtocolError(f"{size} bytes of data where {waiter.asked} were asked for")
        del self._pending[number]
        if size:
            self._reading = waiter
            self._bulk_left = size
            self._take_part = waiter.on_data
        else:
            waiter.on_data(_EMPTY, 0)
        return _DATA_HEAD.size

    def _on_bulk(self, part: memoryview) -> None:
        waiter = self._reading
        assert waiter is not None, "data has a reader"
        if not self._bulk_left:
            self._reading = None
        waiter.on_data(part, self._bulk_left)

    def _on_packet(self, payload: bytes) -> None:
        if self._begin is not None:
            self._begin.receive(payload)
            return
        if len(payload) < 5:
            raise RemoteProtocolError("an SFTP reply without an id")
        reply_class = _REPLIES.get(payload[0])
        if reply_class is None:
            raise RemoteProtocolError(f"an SFTP packet of type {payload[0]} where a reply was due")
        number = int(_U32.unpack_from(payload, 1)[0])
        waiter = self._awaited(number)
        if reply_class is not Status and reply_class is not waiter.expects:
            raise RemoteProtocolError(f"{reply_class.__name__} where {waiter.expects.__name__} was due")
        if payload[0] == Status.NUMBER:
            reply: Packet = self._read_status(payload)
        else:
            reply = reply_class.from_payload(payload)
        if isinstance(reply, Handle) and len(reply.handle) > HANDLE_BYTES:
            raise RemoteProtocolError(f"a handle of {len(reply.handle)} bytes; it has {HANDLE_BYTES} at the most")
        del self._pending[number]
        waiter.on_reply(reply)

    def _read_status(self, payload: bytes) -> Status:
        # A server that acknowledges says the same again and again.  Measured: to read it costs 3 us.
        text = payload[5:]
        if text == self._last_text:
            return self._last_status
        status = Status.from_payload(payload)
        if len(text) <= _SHORT_STATUS:
            self._last_text, self._last_status = text, status
        return status


def _ask_nobody(question: object) -> None:
    raise AssertionError("the version of SFTP needs no decision")


# -- the server's end


@attrs.frozen(eq=False)
class BadRequest:
    """A request that can't be read; it is answered by `code`."""

    is_unknown: bool
    text: str


@attrs.frozen(eq=False)
class WriteParts:
    """A WRITE, its data in the parts that it arrived in."""

    handle: bytes
    offset: int
    parts: Batch

    @property
    def size(self) -> int:
        """Bytes of data."""
        return self.parts.size


AnyRequest = Packet | WriteParts | BadRequest

_REQUESTS: Final[dict[int, type[Packet]]] = {
    request.NUMBER: request
    for request in (
        Open,
        Close,
        Read,
        Lstat,
        Fstat,
        Setstat,
        Fsetstat,
        Opendir,
        Readdir,
        Remove,
        Mkdir,
        Rmdir,
        Realpath,
        Stat,
        Rename,
        Readlink,
        Symlink,
        Extended,
    )
}


def begin_as_server(extensions: dict[bytes, bytes]) -> Dialog[None]:
    """filexfer-02 s4: learn the client's version, tell ours and what we can do besides."""
    first = yield from expect(Init)
    if first.version < VERSION:
        raise RemoteProtocolError(f"the client speaks version {first.version} of SFTP, and we speak {VERSION} only")
    yield from send(Version(VERSION, write_pairs(extensions)))


class ServerSession(_PacketWalk):
    """The server's end.  Requests gather in `arrived`; `reply` seals what answers them.

    Attributes:
        arrived: (id, request), oldest first; whoever serves takes them out.
        outgoing: what is to be sent, oldest first; `sent` tells what was taken of the first.
        outgoing_bytes: of all that is in `outgoing`.
    """

    __slots__ = ("_begin", "_most", "_surplus", "_writing", "arrived", "outgoing", "outgoing_bytes")

    def __init__(self, limits: SFTPLimits, extensions: dict[bytes, bytes] = EXTENSIONS) -> None:
        super().__init__(limits, Write.NUMBER)
        self._most = limits.requests
        self._writing: tuple[int, WriteParts] | None = None
        self._surplus = 0
        self.arrived: deque[tuple[int, AnyRequest]] = deque()
        self.outgoing: deque[bytearray | memoryview] = deque()
        self.outgoing_bytes: int = 0
        self._begin: Conversation[None] | None = Conversation(
            begin_as_server(extensions), self._send_plain, _ask_nobody, self._begun
        )
        self._begin.start()

    def _send_plain(self, message: DeclaredMessage) -> None:
        payload = message.encode()
        self._add(bytearray(_U32.pack(len(payload)) + payload))

    def _begun(self, _: None) -> None:
        self.has_begun = True
        self._begin = None

    # -- what is answered

    def reply(self, request_id: int, packet: Packet) -> None:
        """Answer a request."""
        self.reply_in_frame(packet.frame(request_id))

    def reply_in_frame(self, frame: bytearray) -> None:
        """Answer a request with a packet that is made already; it isn't yours any more."""
        self._add(frame)

    def _add(self, frame: bytearray) -> None:
        self.outgoing_bytes += len(frame)
        last = self.outgoing[-1] if self.outgoing else None
        # A client that asks much and reads nothing must not cost an object for each reply of a few bytes.
        if isinstance(last, bytearray) and len(last) + len(frame) <= _JOINED_BYTES:
            last += frame
        else:
            self.outgoing.append(frame)

    #: Bytes that `data_in_place` needs before the data.
    DATA_HEAD_SIZE: Final = _DATA_HEAD.size

    def data_in_place(self, request_id: int, packet: memoryview) -> None:
        """Answer a READ with data that stands in `packet` already, behind `DATA_HEAD_SIZE` bytes for its head."""
        size = len(packet) - _DATA_HEAD.size
        _DATA_HEAD.pack_into(packet, 0, size + 9, Data.NUMBER, request_id, size)
        if len(packet) <= _JOINED_BYTES // 4:
            self._add(bytearray(packet))
        else:
            self.outgoing_bytes += len(packet)
            self.outgoing.append(packet)

    def sent(self, taken: int) -> object:
        """Drop the first `taken` bytes of what `outgoing` begins with.

        Returns:
            The buffer that `data_in_place` was given a view of, if nothing of it is left to be sent; else None.
        """
        self.outgoing_bytes -= taken
        first = self.outgoing[0]
        if taken < len(first):
            self.outgoing[0] = memoryview(first)[taken:]
            return None
        del self.outgoing[0]
        return first.obj if isinstance(first, memoryview) else None

    # -- what arrives

    @property
    def is_full(self) -> bool:
        """Tell whether so many requests wait that no more are read."""
        return len(self.arrived) >= self._most

    def _begin_bulk(self, data: memoryview, length: int) -> int:
        if len(data) < _DATA_HEAD.size:
            self._needed = _DATA_HEAD.size
            return 0
        _, _, number, handle_size = _DATA_HEAD.unpack_from(data)
        head = _DATA_HEAD.size + int(handle_size) + _WRITE_TAIL.size
        if head > 4 + length:
            raise RemoteProtocolError("Write: a message ends inside its handle")
        if len(data) < head:
            self._needed = head
            return 0
        start = head - _WRITE_TAIL.size
        offset, size = _WRITE_TAIL.unpack_from(data, start)
        # Bytes behind the data are dropped, as by OpenSSH.  Go's client sends some: its last packet is as long as the
        # others, and says that less of it is data.
        self._surplus = 4 + length - head - size
        if self._surplus < 0:
            raise RemoteProtocolError("Write: a message ends inside its data")
        request = WriteParts(bytes(data[_DATA_HEAD.size : start]), offset, Batch())
        if size or self._surplus:
            self._writing = number, request
            self._bulk_left = size + self._surplus
            self._take_part = self._add_part
        else:
            self.arrived.append((number, request))
        return head

    def _add_part(self, part: memoryview, left: int) -> None:
        assert self._writing is not None, "data has a request"
        if left < self._surplus:
            part = part[: max(0, len(part) + left - self._surplus)]
        if part:
            self._writing[1].parts.add(part)

    def _on_bulk(self, part: memoryview) -> None:
        self._add_part(part, self._bulk_left)
        if not self._bulk_left:
            assert self._writing is not None, "as above"
            self.arrived.append(self._writing)
            self._writing = None

    def _on_packet(self, payload: bytes) -> None:
        if self._begin is not None:
            self._begin.receive(payload)
            return
        if len(payload) < 5:
            raise RemoteProtocolError("an SFTP request without an id")
        number = int(_U32.unpack_from(payload, 1)[0])
        request_class = _REQUESTS.get(payload[0])
        request: AnyRequest
        if request_class is None:
            request = BadRequest(True, f"no request has the type {payload[0]}")
        else:
            try:
                request = request_class.from_payload(payload)
            except RemoteProtocolError as error:
                request = BadRequest(False, str(error))
        self.arrived.append((number, request))
