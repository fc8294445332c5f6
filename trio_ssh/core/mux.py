"""RFC 4254: all channels of a connection, and its global requests.

Owns channel numbers, which half of which channel is open, the windows, and the queues of requests that await a reply.
Refuses to know what a channel is for.  `on_<message>` is called for each message that the gate has admitted.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakSet, finalize

from trio_ssh.core.channel import JOINED_BELOW, NEXT, CoreChannel, Half, Passing, Source
from trio_ssh.core.events import (
    CloseArrived,
    DataArrived,
    EofArrived,
    Event,
    GlobalRequestAnswered,
    GlobalRequestArrived,
    OpenAnswered,
    OpenRequested,
    RequestAnswered,
    RequestArrived,
    WindowOpened,
)
from trio_ssh.core.limits import Limits
from trio_ssh.core.outbound import Outbound, check_size
from trio_ssh.core.window import WINDOW_LIMIT, InboundWindow, OutboundWindow, WindowBudget
from trio_ssh.errors import LocalProtocolError, RemoteProtocolError
from trio_ssh.wire.connection import (
    ChannelClose,
    ChannelData,
    ChannelEof,
    ChannelExtendedData,
    ChannelFailure,
    ChannelOpen,
    ChannelOpenConfirmation,
    ChannelOpenFailure,
    ChannelRequest,
    ChannelSuccess,
    ChannelWindowAdjust,
    GlobalRequest,
    RequestFailure,
    RequestSuccess,
)
from trio_ssh.wire.numbers import ExtendedDataType, OpenFailureReason
from trio_ssh.wire.text import printable

_STDERR_HEAD: Final = struct.Struct(">BIII")
_TWO: Final = struct.Struct(">II")

#: Sealed bytes beyond which no more channel data is taken: enough for one large write, little enough to stay fair and
#: in cache.
HIGH_WATER: Final = 256 * 1024

#: Packets of data that are sealed in one step: a peer that takes a byte in each must not hold everything up.
_MOST_PACKETS: Final = 1024

#: Data of one packet that we send at the most, whatever the peer would take.
_LARGEST_CHUNK: Final = 128 * 1024

#: What a packet of data has beside the data: the message's head, padding, a tag.
_DATA_OVERHEAD: Final = 512


class Mux:
    """The connection layer.

    Args:
        outbound: seals what is sent.
        limits: bounds on channels and requests.
        emit: takes events.
    """

    __slots__ = (
        "_budget",
        "_emit",
        "_examined",
        "_limits",
        "_lingering",
        "_lost_windows",
        "_next_id",
        "_outbound",
        "_packet_bytes",
        "_pending_global",
        "_unanswered_bytes",
        "_unanswered_global",
        "channels",
        "granted_bytes",
        "granted_window",
    )

    def __init__(self, outbound: Outbound, limits: Limits, emit: Callable[[Event], None]) -> None:
        self._outbound = outbound
        self._limits = limits
        self._packet_bytes = max(1, min(limits.channel_packet_bytes, limits.packet_bytes - _DATA_OVERHEAD))
        self._emit = emit
        self._budget = WindowBudget(limits)
        #: Channels that are closed on both sides, and of which something is unread.
        self._lingering: WeakSet[CoreChannel] = WeakSet()
        #: Windows of those among them that nobody can read any more, because nobody has them.
        self._lost_windows: deque[InboundWindow] = deque()
        #: Channels that are closed on both sides, and of which a request of the peer is still being decided.
        self._examined: set[CoreChannel] = set()
        self._next_id = 0
        self._pending_global = 0
        self._unanswered_global: deque[int] = deque()
        self._unanswered_bytes = 0
        #: What the peer has granted in all, and for which window it last did.
        self.granted_bytes: int = 0
        self.granted_window: OutboundWindow | None = None
        #: By our number.  Numbers are not used again until 2**32 were: a late message never meets another channel.
        self.channels: dict[int, CoreChannel] = {}

    def note_round_trip(self, seconds: float) -> None:
        """Take note of how long the path to the peer is, which decides how large windows may grow."""
        self._budget.note_round_trip(seconds)

    # -- opening

    def open_channel(self, kind: str, details: bytes) -> CoreChannel:
        """Ask for a channel; `OpenAnswered` follows.

        Raises:
            LocalProtocolError: there are as many as `Limits.channels` allows, or the details are too long.
        """
        if len(self.channels) >= self._limits.channels:
            raise LocalProtocolError(
                f"this connection has {len(self.channels)} channels, the limit is {self._limits.channels}"
            )
        check_size(kind, len(details))
        channel = self._new_channel(kind, is_ours=True)
        self._outbound.send(
            ChannelOpen(
                kind,
                channel.local_id,
                channel.inbound_window.size,
                self._packet_bytes,
                details,
            ).encode()
        )
        return channel

    def _new_channel(self, kind: str, *, is_ours: bool) -> CoreChannel:
        local_id = self._next_id
        while local_id in self.channels:
            local_id = (local_id + 1) % WINDOW_LIMIT
        self._next_id = (local_id + 1) % WINDOW_LIMIT
        while self._lost_windows:
            self._lost_windows.popleft().close()
        channel = CoreChannel(kind, local_id, is_ours, self._budget.open_window())
        self.channels[local_id] = channel
        return channel

    def on_open(self, payload: bytes) -> None:
        """The peer wants a channel."""
        message = ChannelOpen.from_payload(payload)
        # Each window has a least size, so a peer that opens, fills and closes channels must not do so without end; nor
        # one that closes them while a slow check still works at what it has asked.
        count = len(self.channels) + len(self._lingering) + len(self._examined)
        if count >= self._limits.channels or (message.kind == "session" and self._has_all_sessions()):
            self._refuse(message.sender, OpenFailureReason.RESOURCE_SHORTAGE, "too many channels")
            return
        if len(message.kind) > 64:
            self._refuse(message.sender, OpenFailureReason.UNKNOWN_CHANNEL_TYPE, "")
            return
        channel = self._new_channel(message.kind, is_ours=False)
        channel.remote_id = message.sender
        channel.outbound_window = OutboundWindow(message.initial_window, message.maximum_packet)
        self._count(channel.unanswered, payload)
        self._emit(OpenRequested(channel, message.details))

    def _count(self, unanswered: deque[int], payload: bytes) -> None:
        """The peer asks for something: hold it to how much may wait for us.

        Raises:
            RemoteProtocolError: too much does.
        """
        unanswered.append(len(payload))
        self._unanswered_bytes += len(payload)
        if len(unanswered) > self._limits.unanswered_requests:
            raise RemoteProtocolError(f"more than {self._limits.unanswered_requests} requests before an answer")
        if self._unanswered_bytes > self._limits.unanswered_bytes:
            raise RemoteProtocolError(f"more than {self._limits.unanswered_bytes} bytes of requests before an answer")

    def _discount(self, unanswered: deque[int]) -> None:
        """The oldest of the peer's requests is dealt with."""
        if unanswered:
            self._unanswered_bytes -= unanswered.popleft()

    def _has_all_sessions(self) -> bool:
        theirs = sum(
            channel.kind == "session" and not channel.is_ours for channel in (*self.channels.values(), *self._examined)
        )
        return theirs >= self._limits.sessions

    def confirm_open(self, channel: CoreChannel, details: bytes) -> None:
        """Accept the peer's channel."""
        self._discount(channel.unanswered)
        channel.is_confirmed = True
        channel.data_head = struct.pack(">BI", ChannelData.NUMBER, channel.remote_id)
        self._outbound.send(
            ChannelOpenConfirmation(
                channel.remote_id,
                channel.local_id,
                channel.inbound_window.size,
                self._packet_bytes,
                details,
            ).encode()
        )

    def refuse_open(self, channel: CoreChannel, reason: OpenFailureReason, text: str) -> None:
        """Refuse the peer's channel."""
        self._discount(channel.unanswered)
        self._forget(channel)
        self._refuse(channel.remote_id, reason, text)

    def _refuse(self, sender: int, reason: OpenFailureReason, text: str) -> None:
        self._outbound.send(ChannelOpenFailure(sender, reason, text, "").encode())

    def on_open_confirmation(self, payload: bytes) -> None:
        """Our channel is open."""
        message = ChannelOpenConfirmation.from_payload(payload)
        channel = self._opening(message.recipient)
        channel.is_confirmed = True
        channel.remote_id = message.sender
        channel.outbound_window = OutboundWindow(message.initial_window, message.maximum_packet)
        channel.data_head = struct.pack(">BI", ChannelData.NUMBER, channel.remote_id)
        self._emit(OpenAnswered(channel))
        if channel.outbound is Half.CLOSED:  # its opener gave up while it waited
            self._outbound.send(ChannelClose(channel.remote_id).encode())

    def on_open_failure(self, payload: bytes) -> None:
        """Our channel is refused."""
        message = ChannelOpenFailure.from_payload(payload)
        channel = self._opening(message.recipient)
        self._forget(channel)
        self._emit(
            OpenAnswered(channel, message.reason or OpenFailureReason.CONNECT_FAILED, printable(message.description))
        )

    def _opening(self, local_id: int) -> CoreChannel:
        channel = self.channels.get(local_id)
        if channel is None or channel.is_confirmed or not channel.is_ours:
            raise RemoteProtocolError(f"an answer to the opening of channel {local_id}, which isn't being opened")
        return channel

    # -- data that arrives

    def _find(self, local_id: int, what: str) -> CoreChannel:
        channel = self.channels.get(local_id)
        if channel is None or not channel.is_confirmed:
            raise RemoteProtocolError(f"{what} for channel {local_id}, which is not open")
        return channel

    def on_data(self, plain: bytes, end: int) -> None:
        """Bulk data: the payload ``plain[1:end]``, not cut out and never made into a message object."""
        if end < 10:
            raise RemoteProtocolError("ChannelData: a message ends inside its lengths")
        local_id, size = _TWO.unpack_from(plain, 2)
        if end != 10 + size:
            raise RemoteProtocolError("ChannelData: its length is not that of its data")
        channel = self.channels.get(local_id)
        if channel is None or not channel.is_confirmed:
            raise RemoteProtocolError(f"data for channel {local_id}, which is not open")
        data = memoryview(plain)[10:end]
        # What nearly every packet of a transfer is; `_receive` knows the rest.  Measured: 1 us less for each.
        if (
            size >= JOINED_BELOW
            and channel.inbound is Half.OPEN
            and channel.outbound is not Half.CLOSED
            and size <= self._packet_bytes
            and size <= channel.inbound_window.left
            and (batch := channel.arrived[0]) is not None
        ):
            channel.inbound_window.left -= size
            channel.unread += size
            batch.append(data, size)
        else:
            self._receive(channel, Source.DATA, data)

    def on_extended_data(self, payload: bytes) -> None:
        """Data of another type, of which only stderr has a meaning; the rest is counted and dropped."""
        message = ChannelExtendedData.from_payload(payload)
        channel = self._find(message.recipient, "extended data")
        data = memoryview(message.data)
        if message.type_code == ExtendedDataType.STDERR:
            self._receive(channel, Source.STDERR, data)
        else:
            self._receive(channel, None, data)

    def _receive(self, channel: CoreChannel, source: Source | None, data: memoryview) -> None:
        if channel.inbound is not Half.OPEN:
            raise RemoteProtocolError(f"data for channel {channel.local_id} behind its {channel.inbound.value}")
        size = len(data)
        if size > self._packet_bytes:
            raise RemoteProtocolError(f"{size} bytes in one packet; we allowed {self._packet_bytes}")
        channel.inbound_window.receive(size)
        if not size or channel.outbound is Half.CLOSED:
            return  # we have closed; what was on its way has no reader any more
        if source is None:
            self._grant(channel, size)
        elif channel.receive(source, data):
            self._emit(DataArrived(channel, Source.DATA if channel.combine_stderr else source))

    def credit(self, channel: CoreChannel, size: int) -> bool:
        """The user took `size` bytes of what is unread; grant the peer more when it is worth a message.

        Returns:
            Whether anything is to be sent.
        """
        channel.unread -= size
        self._grant(channel, size)
        return self._outbound.ready_bytes > 0

    def _grant(self, channel: CoreChannel, size: int) -> None:
        if channel.inbound is Half.CLOSED and not channel.unread:
            self._release(channel)
        if channel.inbound is not Half.OPEN or channel.outbound is Half.CLOSED:
            return
        grant = channel.inbound_window.take(size, channel.unread)
        if grant:
            self._outbound.send(ChannelWindowAdjust(channel.remote_id, grant).encode())

    def on_window_adjust(self, plain: bytes, end: int) -> None:
        """The peer grants more: the payload ``plain[1:end]``.  What uploads bring is as many of these as packets."""
        if end != 10:
            raise RemoteProtocolError("ChannelWindowAdjust: it has two numbers, and nothing else")
        local_id, size = _TWO.unpack_from(plain, 2)
        channel = self.channels.get(local_id)
        if channel is None or not channel.is_confirmed:
            raise RemoteProtocolError(f"window for channel {local_id}, which is not open")
        if channel.inbound is Half.CLOSED:
            raise RemoteProtocolError("a window grant behind the close of its channel")
        window = channel.outbound_window
        was_shut = window.left == 0
        window.grant(size)
        self.granted_bytes += size
        self.granted_window = window
        # Measured: sshd grants a dozen times a read, and one word of it is enough.
        if not channel.has_told_window and (was_shut or channel.wants_room) and size:
            channel.has_told_window = True
            self._emit(WindowOpened(channel))

    # -- data that leaves

    def send_data(self, channel: CoreChannel, data: memoryview, source: Source) -> int:
        """Seal as much of `data` as the peer and the outbox take now.

        Args:
            data: any length; copied while encrypting, so it is yours again on return.

        Returns:
            Bytes taken, 0 .. len(data).  0 means that the window is empty or the outbox full: wait for WindowOpened or
            for the outbox to drain.

        Raises:
            LocalProtocolError: the outbound half has sent EOF or CLOSE.

        Source: RFC 4254 s5.2 (window), RFC 4253 s6.1 (packet size).
        """
        if channel.outbound is not Half.OPEN:
            raise LocalProtocolError(f"channel {channel.local_id} has sent its {channel.outbound.value}")
        outbound = self._outbound
        window = channel.outbound_window
        channel.has_told_window = False
        largest = min(window.maximum_packet, _LARGEST_CHUNK)
        if outbound.is_gated or not largest:
            channel.wants_room = True
            return 0
        taken = 0
        total = min(len(data), window.left, largest * _MOST_PACKETS)
        while taken < total and outbound.ready_bytes < HIGH_WATER:
            size = min(total - taken, largest)
            if source is Source.DATA:
                head = channel.data_head + size.to_bytes(4, "big")
            else:
                head = _STDERR_HEAD.pack(ChannelExtendedData.NUMBER, channel.remote_id, ExtendedDataType.STDERR, size)
            taken += outbound.seal_data(head, data[taken:total], size, HIGH_WATER)
        window.left -= taken
        channel.wants_room = taken < len(data)
        return taken

    def _check_confirmed(self, channel: CoreChannel) -> None:
        if not channel.is_confirmed:
            raise LocalProtocolError(f"channel {channel.local_id} is not open yet")

    def send_eof(self, channel: CoreChannel) -> None:
        """Say that no more data comes; a second time does nothing.

        Raises:
            LocalProtocolError: the channel is not open yet.
        """
        if channel.outbound is Half.OPEN:
            self._check_confirmed(channel)
            channel.outbound = NEXT[channel.outbound, Passing.EOF]
            self._outbound.send(ChannelEof(channel.remote_id).encode())

    def close(self, channel: CoreChannel) -> None:
        """Say that nothing more comes; a second time does nothing."""
        if channel.outbound is Half.CLOSED:
            return
        channel.outbound = NEXT[channel.outbound, Passing.CLOSE]
        channel.arrived = [None, None]
        if channel.is_confirmed:
            self._outbound.send(ChannelClose(channel.remote_id).encode())
        if channel.inbound is Half.CLOSED:
            self._forget(channel)

    def _forget(self, channel: CoreChannel) -> None:
        """Both halves are closed: the number is free, and its window's share once nothing of it is unread."""
        channel.inbound = channel.outbound = Half.CLOSED
        del self.channels[channel.local_id]
        if channel.unanswered:
            self._examined.add(channel)
        if channel.unread:
            self._lingering.add(channel)
            # Whoever has the channel may drop it without reading.  The collector may run in any thread, at any moment.
            finalize(channel, self._lost_windows.append, channel.inbound_window).atexit = False
        else:
            self._release(channel)

    def drop_unread(self, channel: CoreChannel) -> None:
        """The user will not take what has arrived."""
        channel.unread = 0
        if channel.inbound is Half.CLOSED:
            self._release(channel)

    def _release(self, channel: CoreChannel) -> None:
        """Give its window's share back."""
        channel.inbound_window.close()
        self._lingering.discard(channel)

    # -- ends

    def on_eof(self, payload: bytes) -> None:
        """No more data comes."""
        channel = self._find(ChannelEof.from_payload(payload).recipient, "EOF")
        self._step(channel, Passing.EOF)
        self._emit(EofArrived(channel))

    def on_close(self, payload: bytes) -> None:
        """Nothing more comes; answer in kind (RFC 4254 s5.3)."""
        channel = self._find(ChannelClose.from_payload(payload).recipient, "CLOSE")
        self._step(channel, Passing.CLOSE)
        self._emit(CloseArrived(channel))
        if channel.outbound is not Half.CLOSED:
            channel.outbound = NEXT[channel.outbound, Passing.CLOSE]
            self._outbound.send(ChannelClose(channel.remote_id).encode())
        self._forget(channel)

    def _step(self, channel: CoreChannel, passing: Passing) -> None:
        following = NEXT.get((channel.inbound, passing))
        if following is None:
            raise RemoteProtocolError(
                f"{passing.value} on channel {channel.local_id} behind its {channel.inbound.value}"
            )
        channel.inbound = following

    # -- requests

    def request(self, channel: CoreChannel, name: str, details: bytes, *, wants_reply: bool) -> None:
        """Ask something of a channel; if a reply is wanted, `RequestAnswered` follows, in order.

        Raises:
            LocalProtocolError: we have closed the channel, or it is not open yet, or the details are too long.
        """
        if channel.outbound is Half.CLOSED:
            raise LocalProtocolError(f"channel {channel.local_id} is closed")
        self._check_confirmed(channel)
        check_size(name, len(details))
        if wants_reply:
            channel.pending.append(name)
        self._outbound.send(ChannelRequest(channel.remote_id, name, wants_reply, details).encode())

    def on_request(self, payload: bytes) -> None:
        """The peer asks something of a channel."""
        message = ChannelRequest.from_payload(payload)
        channel = self._find(message.recipient, "a request")
        self._step(channel, Passing.REQUEST)
        # RFC 4254 s5.4 says nothing of a request that arrives after our CLOSE but before theirs.  OpenSSH drops it; so
        # do we.
        if channel.outbound is Half.CLOSED:
            return
        self._count(channel.unanswered, payload)
        self._emit(RequestArrived(channel, message.name, message.want_reply, message.details))

    def reply(self, channel: CoreChannel, *, is_success: bool, wants_reply: bool) -> None:
        """The oldest request of the peer on this channel is dealt with; answer it if it wanted that."""
        self._discount(channel.unanswered)
        if not channel.unanswered:
            self._examined.discard(channel)
        if wants_reply and channel.outbound is not Half.CLOSED:
            cls = ChannelSuccess if is_success else ChannelFailure
            self._outbound.send(cls(channel.remote_id).encode())

    def on_success(self, payload: bytes) -> None:
        """Our oldest request on a channel succeeded."""
        self._on_answer(ChannelSuccess.from_payload(payload).recipient, is_success=True)

    def on_failure(self, payload: bytes) -> None:
        """Our oldest request on a channel failed."""
        self._on_answer(ChannelFailure.from_payload(payload).recipient, is_success=False)

    def _on_answer(self, local_id: int, *, is_success: bool) -> None:
        channel = self._find(local_id, "a reply")
        if not channel.pending or channel.inbound is Half.CLOSED:
            raise RemoteProtocolError(f"a reply on channel {local_id} to a request that nobody made")
        channel.pending.popleft()
        self._emit(RequestAnswered(channel, is_success))

    # -- global requests

    def global_request(self, name: str, details: bytes, *, wants_reply: bool) -> None:
        """Ask something of the connection; if a reply is wanted, `GlobalRequestAnswered` follows, in order.

        Raises:
            LocalProtocolError: the details are too long.
        """
        check_size(name, len(details))
        if wants_reply:
            self._pending_global += 1
        self._outbound.send(GlobalRequest(name, wants_reply, details).encode())

    def on_global_request(self, payload: bytes) -> None:
        """The peer asks something of the connection."""
        message = GlobalRequest.from_payload(payload)
        self._count(self._unanswered_global, payload)
        self._emit(GlobalRequestArrived(message.name, message.want_reply, message.details))

    def reply_global(self, *, is_success: bool, wants_reply: bool, details: bytes = b"") -> None:
        """The peer's oldest global request is dealt with; answer it if it wanted that."""
        self._discount(self._unanswered_global)
        if wants_reply:
            self._outbound.send((RequestSuccess(details) if is_success else RequestFailure()).encode())

    def on_request_success(self, payload: bytes) -> None:
        """Our oldest global request succeeded."""
        self._on_global_answer(is_success=True, details=RequestSuccess.from_payload(payload).details)

    def on_request_failure(self, payload: bytes) -> None:
        """Our oldest global request failed."""
        RequestFailure.from_payload(payload)
        self._on_global_answer(is_success=False, details=b"")

    def _on_global_answer(self, *, is_success: bool, details: bytes) -> None:
        if not self._pending_global:
            raise RemoteProtocolError("a reply to a global request that nobody made")
        self._pending_global -= 1
        self._emit(GlobalRequestAnswered(is_success, details))
