"""RFC 4254 section 5: one channel: its two halves, its two windows, and the data that has arrived.

Both halves follow the same table; this file doesn't know which role we play, so no rule can differ between ours and
theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum
from typing import ClassVar, Final

import attrs

from trio_ssh.core.window import InboundWindow, OutboundWindow


class Half(Enum):
    """One direction of a channel."""

    # An Enum's own is written in Python, and the table is asked for every message.
    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    OPEN = "open"
    EOF = "eof"
    CLOSED = "closed"


class Passing(Enum):
    """What passes through a half."""

    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    DATA = "data"
    REQUEST = "request"
    EOF = "eof"
    CLOSE = "close"


#: One half of a channel, RFC 4254 s5.3: (half, what passes) -> half.  Every other pair is a violation.
NEXT: Final[Mapping[tuple[Half, Passing], Half]] = {
    (Half.OPEN, Passing.DATA): Half.OPEN,
    (Half.OPEN, Passing.REQUEST): Half.OPEN,
    (Half.OPEN, Passing.EOF): Half.EOF,
    (Half.OPEN, Passing.CLOSE): Half.CLOSED,
    (Half.EOF, Passing.REQUEST): Half.EOF,  # exit-status arrives after EOF
    (Half.EOF, Passing.CLOSE): Half.CLOSED,
}


class Source(IntEnum):
    """Which of a channel's two inbound streams."""

    DATA = 0
    STDERR = 1


#: Chunks shorter than this are joined as they arrive.
JOINED_BELOW: Final = 2048


class Batch:
    """Received data on its way to a reader: chunks in order.

    A peer may send one byte per packet.  As slices that is 250 bytes of heap per byte of window; joined, one.
    """

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[memoryview | bytearray] = deque()
        self.size: int = 0

    def add(self, chunk: memoryview) -> None:
        """Append a chunk; a large one is kept as the slice that it is."""
        size = len(chunk)
        self.size += size
        if size >= JOINED_BELOW:
            self._chunks.append(chunk)
            return
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) < 16 * JOINED_BELOW:
            last += chunk
        else:
            self._chunks.append(bytearray(chunk))

    def append(self, chunk: memoryview, size: int) -> None:
        """Append a large chunk, as the slice that it is."""
        self._chunks.append(chunk)
        self.size += size

    def absorb(self, other: Batch) -> None:
        """Append all of `other`, which is empty afterwards."""
        chunks, other._chunks = other._chunks, deque()
        other.size = 0
        for chunk in chunks:
            self.add(chunk if isinstance(chunk, memoryview) else memoryview(chunk))

    def pieces(self) -> list[memoryview | bytearray]:
        """Return the chunks in order, for whoever writes them without joining them."""
        return list(self._chunks)

    def take(self, limit: int) -> bytes:
        """Remove and return the first bytes, `limit` of them or fewer; nothing only where the batch is empty."""
        chunks = self._chunks
        if self.size <= limit:
            self.size = 0
            taken = bytes(chunks.popleft()) if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            return taken
        parts: list[memoryview | bytearray] = []
        left = limit
        while left and len(chunks[0]) <= left:
            left -= len(chunks[0])
            parts.append(chunks.popleft())
        if left:
            first = chunks[0]
            if isinstance(first, bytearray):
                parts.append(first[:left])
                del first[:left]
            else:
                parts.append(first[:left])
                chunks[0] = first[left:]
        self.size -= limit
        return b"".join(parts)


@attrs.define(eq=False)
class CoreChannel:
    """What the mux keeps of a channel.

    Attributes:
        kind: the channel type, such as ``"session"``.
        local_id, remote_id: the numbers that we and they chose; remote_id is -1 until the opening is confirmed.
        is_ours: we opened it.
        pending: names of our requests that await replies, oldest first (RFC 4254 s5.4 answers in order).
        unanswered: the sizes of their requests that we haven't dealt with yet; of the opening before all.
        combine_stderr: stderr arrives in the data stream.
        wants_room: what was to be sent last could not all be taken.
        has_told_window: `WindowOpened` was emitted, and nobody has tried to send since.
    """

    kind: str
    local_id: int
    is_ours: bool
    inbound_window: InboundWindow
    remote_id: int = -1
    outbound_window: OutboundWindow = attrs.field(factory=lambda: OutboundWindow(0, 0))
    inbound: Half = Half.OPEN
    outbound: Half = Half.OPEN
    is_confirmed: bool = False
    pending: deque[str] = attrs.field(factory=deque[str])
    unanswered: deque[int] = attrs.field(factory=deque[int])
    arrived: list[Batch | None] = attrs.field(factory=lambda: [None, None])
    unread: int = 0
    data_head: bytes = b""
    combine_stderr: bool = False
    wants_room: bool = False
    has_told_window: bool = False

    def receive(self, source: Source, chunk: memoryview) -> bool:
        """Keep a chunk for the runtime to fetch; tell whether it is the first since it did."""
        index = Source.DATA if self.combine_stderr else source
        batch = self.arrived[index]
        is_first = batch is None
        if batch is None:
            batch = self.arrived[index] = Batch()
        batch.add(chunk)
        self.unread += len(chunk)
        return is_first

    def fetch(self, source: Source) -> Batch | None:
        """Return what has arrived since the last call."""
        batch = self.arrived[source]
        self.arrived[source] = None
        return batch
