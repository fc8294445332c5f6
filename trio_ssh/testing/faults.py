"""Streams with faults: what networks do to a connection, done on purpose, at an exact byte and in no time.

Each wraps a stream and passes everything on, but for its one fault.  They nest:

    ours, theirs = memory_pair()
    slow = FragmentedStream(CutStream(ours, received=700))

Offsets count from the first byte that passes.  `sent` and `received` are meant from where the wrapper is held: what the
program under test sends, and what it receives.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from typing import Final, Literal

import trio

from trio_ssh.runtime.waiting import OneAtATime

Data = bytes | bytearray | memoryview

_NEVER: Final = math.inf


class FaultyStream(trio.abc.Stream):
    """Passes everything on, and counts: the base of the faults, and of your own.

    Args:
        stream: any stream; the wrapper's from now on.

    Attributes:
        sent_bytes, received_bytes: what has passed.
        is_closed: it was closed, or cut.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.sent_bytes: int = 0
        self.received_bytes: int = 0
        self.is_closed: bool = False

    def __repr__(self) -> str:
        state = ", closed" if self.is_closed else ""
        return f"<{type(self).__name__}, {self.sent_bytes} bytes sent, {self.received_bytes} received{state}>"

    async def send_all(self, data: Data) -> None:
        """Send all of `data`."""
        await self._stream.send_all(data)
        self.sent_bytes += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream below might take more."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what the stream below has."""
        data = bytes(await self._stream.receive_some(max_bytes))
        self.received_bytes += len(data)
        return data

    async def aclose(self) -> None:
        """Close the stream below."""
        self.is_closed = True
        await self._stream.aclose()


class FragmentedStream(FaultyStream):
    """Receives little at a time, as from a peer that writes byte by byte.

    Args:
        piece_bytes: the most that one receive returns.
    """

    def __init__(self, stream: trio.abc.Stream, piece_bytes: int = 1) -> None:
        super().__init__(stream)
        self._piece_bytes = piece_bytes

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive `piece_bytes` at the most."""
        largest = self._piece_bytes if max_bytes is None else min(operator.index(max_bytes), self._piece_bytes)
        return await super().receive_some(largest)


class FlippedStream(FaultyStream):
    """Changes one byte on its way.

    Args:
        sent, received: the offset of the byte, in one direction or the other.
        mask: which of its bits to flip.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, sent: int | None = None, received: int | None = None, mask: int = 1
    ) -> None:
        super().__init__(stream)
        self._sent = sent
        self._received = received
        self._mask = mask

    def _flip(self, data: bytes, start: int, offset: int | None) -> bytes:
        if offset is None or not start <= offset < start + len(data):
            return data
        flipped = bytearray(data)
        flipped[offset - start] ^= self._mask
        return bytes(flipped)

    async def send_all(self, data: Data) -> None:
        """Send all of `data`, the chosen byte flipped."""
        await super().send_all(self._flip(bytes(data), self.sent_bytes, self._sent))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive, with the chosen byte flipped."""
        start = self.received_bytes
        return self._flip(await super().receive_some(max_bytes), start, self._received)


class CutStream(FaultyStream):
    """Ends at a chosen byte, for both sides; the peer's side finds it closed.

    Args:
        sent, received: bytes that pass in either direction before the end.
        how: whether receiving then returns EOF, as from a peer that closed, or breaks, as from one that was reset.
            Sending breaks in both cases.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        sent: int | None = None,
        received: int | None = None,
        how: Literal["eof", "break"] = "break",
    ) -> None:
        super().__init__(stream)
        self._sent: float = _NEVER if sent is None else sent
        self._received: float = _NEVER if received is None else received
        self._how = how
        self._is_cut = False

    async def cut(self) -> None:
        """End it now, at whatever byte that is.  Not a checkpoint that can be cancelled."""
        self._is_cut = True
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def _ending(self, error: Exception) -> Exception:
        """What a sender finds: behind the cut a broken stream, else what the stream below says."""
        return trio.BrokenResourceError("cut on purpose") if self._is_cut and not self.is_closed else error

    async def send_all(self, data: Data) -> None:
        """Send `data`, or its part in front of the cut."""
        room = self._sent - self.sent_bytes
        try:
            if len(data) < room:
                await super().send_all(data)
                return
            await super().send_all(memoryview(data)[: int(room)])
        except trio.ClosedResourceError as error:
            raise self._ending(error) from None
        await self.cut()
        raise trio.BrokenResourceError("cut on purpose")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is in front of the cut; then EOF, or a break."""
        room = self._received - self.received_bytes
        if room <= 0:
            await self.cut()
        elif room < _NEVER:
            max_bytes = int(room) if max_bytes is None else min(max_bytes, int(room))
        try:
            return await super().receive_some(max_bytes)
        except trio.ClosedResourceError as error:
            ending = self._ending(error)
            if self._how != "eof" or ending is error:
                raise ending from None
        await trio.lowlevel.checkpoint()
        return b""


class StalledStream(FaultyStream):
    """Passes nothing any more from a chosen byte on, and doesn't end: a peer that stops reading, or falls silent.

    Args:
        sent, received: bytes that pass in either direction before it stalls.
    """

    def __init__(self, stream: trio.abc.Stream, *, sent: int | None = None, received: int | None = None) -> None:
        super().__init__(stream)
        self._sent: float = _NEVER if sent is None else sent
        self._received: float = _NEVER if received is None else received
        self._changed = trio.lowlevel.ParkingLot()

    def stop_sending(self) -> None:
        """From now on the peer doesn't read."""
        self._sent = self.sent_bytes

    def stop_receiving(self) -> None:
        """From now on the peer is silent; a receive that is under way may still return something."""
        self._received = self.received_bytes

    def go_on(self) -> None:
        """End the stall."""
        self._sent = self._received = _NEVER
        self._changed.unpark_all()

    async def _stall(self) -> None:
        if self.is_closed:
            await trio.lowlevel.checkpoint()
        else:
            await self._changed.park()
        if self.is_closed:
            raise trio.ClosedResourceError

    async def send_all(self, data: Data) -> None:
        """Send `data`, or wait forever with what is behind the chosen byte."""
        view = memoryview(data)
        while len(view) > self._sent - self.sent_bytes:
            room = int(self._sent - self.sent_bytes)
            if room:
                await super().send_all(view[:room])
                view = view[room:]
            await self._stall()
        await super().send_all(view)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until sending is no longer stalled."""
        while self.sent_bytes >= self._sent:
            await self._stall()
        await super().wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is in front of the chosen byte, or wait forever."""
        while self.received_bytes >= self._received:
            await self._stall()
        room = self._received - self.received_bytes
        if room < _NEVER:
            max_bytes = int(room) if max_bytes is None else min(max_bytes, int(room))
        return await super().receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream below, and wake whoever is stalled."""
        self.is_closed = True
        self._changed.unpark_all()
        await super().aclose()


class _Path:
    """One direction of a delayed pair: what was sent, each piece with the time of its arrival."""

    def __init__(self, seconds: float, bytes_per_second: float) -> None:
        self._seconds = seconds
        self._bytes_per_second = bytes_per_second
        self._under_way: deque[tuple[float, memoryview]] = deque()
        self._free_at = -math.inf
        self._ends_at: float | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self.in_flight_bytes: int = 0
        self.is_sender_closed: bool = False
        self.is_receiver_closed: bool = False

    def put(self, data: Data) -> float:
        """Send a piece; return when the line is free for the next one."""
        self._free_at = max(trio.current_time(), self._free_at) + len(data) / self._bytes_per_second
        if data:
            self._under_way.append((self._free_at + self._seconds, memoryview(bytes(data))))
            self.in_flight_bytes += len(data)
            self._changed.unpark_all()
        return self._free_at

    def end(self) -> None:
        """Send EOF."""
        if self._ends_at is None:
            self._ends_at = max(trio.current_time(), self._free_at) + self._seconds
            self._changed.unpark_all()

    def close(self, *, by_receiver: bool) -> None:
        """One of the two has closed its end."""
        if by_receiver:
            self.is_receiver_closed = True
        else:
            self.is_sender_closed = True
            self.end()
        self._changed.unpark_all()

    def _next_arrival(self) -> float:
        if self._under_way:
            return self._under_way[0][0]
        return math.inf if self._ends_at is None else self._ends_at

    async def take(self, max_bytes: int | None) -> bytes:
        """Wait for the next piece to arrive; return it, a part of it, or EOF."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
        await trio.lowlevel.checkpoint()
        while not self.is_receiver_closed and (arrival := self._next_arrival()) > trio.current_time():
            with trio.CancelScope(deadline=arrival):
                await self._changed.park()
        if self.is_receiver_closed:
            raise trio.ClosedResourceError
        if not self._under_way:
            return b""
        arrival, piece = self._under_way.popleft()
        if max_bytes is not None and len(piece) > max_bytes:
            self._under_way.appendleft((arrival, piece[max_bytes:]))
            piece = piece[:max_bytes]
        self.in_flight_bytes -= len(piece)
        return bytes(piece)

    async def wait_free(self) -> None:
        """Wait until the line has taken what was put, or one end is closed."""
        await trio.lowlevel.checkpoint()
        while self._free_at > trio.current_time() and not self.is_sender_closed and not self.is_receiver_closed:
            with trio.CancelScope(deadline=self._free_at):
                await self._changed.park()
        self.check_sending()

    def check_sending(self) -> None:
        """Raise what a sender finds."""
        if self.is_sender_closed or self._ends_at is not None:
            raise trio.ClosedResourceError
        if self.is_receiver_closed:
            raise trio.BrokenResourceError


class DelayedStream(trio.abc.HalfCloseableStream):
    """One end of a path that takes time; see `delayed_pair`."""

    def __init__(self, outbound: _Path, inbound: _Path) -> None:
        self._outbound = outbound
        self._inbound = inbound
        self._send_conflict = OneAtATime("another task is sending on this stream")
        self._receive_conflict = OneAtATime("another task is receiving from this stream")

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that were sent and have not been received."""
        return self._outbound.in_flight_bytes

    async def send_all(self, data: Data) -> None:
        """Send all of `data`; returns when the line is free again, long before it arrives."""
        with self._send_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._outbound.check_sending()
            self._outbound.put(data)
            await self._outbound.wait_free()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the line is free."""
        with self._send_conflict:
            self._outbound.check_sending()
            await self._outbound.wait_free()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what has arrived."""
        with self._receive_conflict:
            return await self._inbound.take(max_bytes)

    async def send_eof(self) -> None:
        """Send EOF behind what was sent."""
        with self._send_conflict:
            if self._outbound.is_sender_closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError
            self._outbound.end()
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close this end.  What was sent still arrives; what comes has no reader."""
        self._outbound.close(by_receiver=False)
        self._inbound.close(by_receiver=True)
        await trio.lowlevel.checkpoint()


def delayed_pair(seconds: float, *, bytes_per_second: float = math.inf) -> tuple[DelayedStream, DelayedStream]:
    """Return two connected streams with a long path between them; under trio's autojump clock it costs no time.

    Args:
        seconds: on the way in one direction; half of a round trip.
        bytes_per_second: what the line takes in one direction.
    """
    there, back = _Path(seconds, bytes_per_second), _Path(seconds, bytes_per_second)
    return DelayedStream(there, back), DelayedStream(back, there)
