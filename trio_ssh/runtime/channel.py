"""The public `Channel`: a trio stream, and RFC 4254's requests.

Receiving takes batches from a lane and gives credit for what the *user* took.  Sending seals straight into the
connection's outbox and waits only where the window is empty or the outbox full.  There is no task per channel.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, Literal, Protocol, overload

import trio

from trio_ssh.core.channel import Batch, CoreChannel, Half, Source
from trio_ssh.errors import ChannelClosed, ChannelException, RequestRefused
from trio_ssh.runtime.arguments import Data
from trio_ssh.runtime.engine import Engine
from trio_ssh.runtime.files import BinaryMode, ChannelFile, EndingStream, TextMode, check_mode
from trio_ssh.runtime.hints import CHANNEL_HINTS, Hints, HintTable
from trio_ssh.runtime.interrupts import uninterrupted
from trio_ssh.runtime.lane import RECEIVE_BYTES, Lane
from trio_ssh.runtime.link import Link, PeerAddress
from trio_ssh.runtime.session_requests import ExitReport, SessionRequests
from trio_ssh.runtime.waiting import OneAtATime, Reply
from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

#: Bytes of an unread stream that are kept in memory while its sibling is read to the end.
KEPT_BYTES: Final = 64 * 1024 * 1024


class Tap(Protocol):
    """Takes a channel's data in the reader's own step, and sends from the writer's, without a task between.

    What it does is plain code and raises nothing; whoever taps a channel bounds by other means what the peer may make
    it hold.
    """

    def on_data(self, batch: Batch) -> None:
        """Data has arrived.  It is on the window until `Channel.credit` is called."""
        ...

    def on_end(self) -> None:
        """No more data comes: EOF, the end of the channel, or of the connection.  May be called more than once."""
        ...

    def on_room(self) -> None:
        """After `Channel.try_send` took less than all: there is room again."""
        ...


class StderrStream(EndingStream):
    """A channel's second inbound stream.  Closing it drops what is unread and unsent; the channel stays open."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._conflict = OneAtATime("another task is reading this channel's stderr")
        self._is_closed = False

    @property
    def at_eof(self) -> bool:
        """Has everything been received that ever comes?"""
        return self._channel._is_at_eof(Source.STDERR)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return 1 .. `max_bytes` bytes, or ``b""`` at EOF.  Cancelled, it loses nothing."""
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        with self._conflict:
            return await self._channel._receive(Source.STDERR, max_bytes)

    async def aclose(self) -> None:
        """Drop what is unread, and whatever still comes."""
        self._is_closed = True
        self._channel._absorb(Source.STDERR, 0)
        await trio.lowlevel.checkpoint()


@uninterrupted
class Channel(SessionRequests, trio.abc.HalfCloseableStream, EndingStream, Hints):
    """One channel of an SSH connection.

    Receive stdout by `receive_some`, stderr by ``channel.stderr.receive_some``; send by `send_all`.  Iterating gives
    chunks. Get one from `Transport.open_session`, `Transport.open_channel` or, for those that the peer opens,
    `Transport.accept`.
    """

    _HINTS: ClassVar[HintTable] = CHANNEL_HINTS

    def __init__(self, engine: Engine, core: CoreChannel, transport: Link) -> None:
        super().__init__()
        self._engine = engine
        self._transport = transport
        #: What the mux knows of it.
        self.core = core
        self._name = ""
        #: Of a forwarded connection: who has opened it, as the peer says.
        self.origin: tuple[str, int] | None = None
        self._is_closed = False
        self._lanes: list[Lane | None] = [Lane(engine.wait), None]
        #: Of streams that are not read now and must not hold up their sibling: how much of them is kept; 0 drops them.
        self._kept_at_most: list[float | None] = [None, None]
        #: Bytes that were delivered and not paid for by a window grant: those a reader still has to take.
        self._owed = [0, 0]
        self._window_waiters: trio.lowlevel.ParkingLot | None = None
        #: One for stdout and one for stderr: a server's two streams are two, for whoever writes.
        self._send_conflicts = (
            OneAtATime("another task is sending on this channel"),
            OneAtATime("another task is sending on this channel's stderr"),
        )
        self._receive_conflict = OneAtATime("another task is reading this channel")
        self._replies: deque[Reply[bool]] = deque()
        self._opened: Reply[None] = Reply()
        #: What is said besides to whoever is refused it.
        self.refusal_hint: str = ""
        #: What a server's handler keeps of a session before it starts, and what answers the peer's requests.
        self.session: object = None
        self.request_pump: object = None
        self._serving_scope: trio.CancelScope | None = None
        self._stderr: StderrStream | None = None
        self._tap: Tap | None = None

    def __repr__(self) -> str:
        state = "closed" if self._is_closed or self.core.inbound is Half.CLOSED else "open"
        name = f" {self._name!r}" if self._name else ""
        return f"<Channel {self.core.local_id}{name} ({printable(self.core.kind, 40)}), {state}>"

    # -- about it

    def get_id(self) -> int:
        """Return the number that we chose for it."""
        return self.core.local_id

    @property
    def kind(self) -> str:
        """The channel type, such as ``"session"``."""
        return self.core.kind

    def get_name(self) -> str:
        """Return the name given by `set_name`."""
        return self._name

    def set_name(self, name: str) -> None:
        """Give it a name, for reprs and logs."""
        self._name = name

    def get_transport(self) -> Link:
        """Return the `Transport` that it belongs to."""
        return self._transport

    def getpeername(self) -> PeerAddress | None:
        """Return the connection's peer address."""
        return self._transport.getpeername()

    @property
    def closed(self) -> bool:
        """Tell whether either side has closed it, or the connection is over; what has arrived can still be received."""
        return self._is_closed or self.core.inbound is Half.CLOSED or self._engine.is_over

    @property
    def eof_received(self) -> bool:
        """Tell whether the peer said that it sends no more."""
        return self.core.inbound is not Half.OPEN

    @property
    def eof_sent(self) -> bool:
        """Tell whether we said that we send no more."""
        return self.core.outbound is not Half.OPEN

    # -- receiving

    @property
    def stderr(self) -> StderrStream:
        """The second inbound stream."""
        stream = self._stderr or StderrStream(self)
        if self.core.inbound is not Half.CLOSED:
            self._stderr = stream
        return stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return 1 .. `max_bytes` bytes of stdout, or ``b""`` at EOF.

        Args:
            max_bytes: at least 1; None for whatever is there, 256 KiB at the most.

        Raises:
            ConnectionLost: the connection ended before EOF; it is a `trio.BrokenResourceError`.
            trio.ClosedResourceError: the channel was closed here.
            trio.BusyResourceError: another task is reading.

        Cancelled, it loses nothing.
        """
        with self._receive_conflict:
            return await self._receive(Source.DATA, max_bytes)

    @property
    def at_eof(self) -> bool:
        """Has everything on stdout been received that ever comes?"""
        return self._is_at_eof(Source.DATA)

    def _is_at_eof(self, source: Source) -> bool:
        lane = self._lane(source)
        return lane.is_ended and not lane.unread_bytes and self.core.inbound is not Half.OPEN

    def _lane(self, source: Source) -> Lane:
        lane = self._lanes[source]
        if lane is None:
            lane = self._lanes[source] = Lane(self._engine.wait)
            if self.core.inbound is not Half.OPEN or self._engine.is_over:
                lane.end()
        return lane

    async def _receive(self, source: Source, max_bytes: int | None) -> bytes:
        self._engine.check_thread()
        if max_bytes is None:
            max_bytes = RECEIVE_BYTES
        elif operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this channel was closed")
        data = await self._lane(source).receive(max_bytes)
        if data:
            self._credit(source, len(data))
        elif self.core.inbound is Half.OPEN and self._engine.is_over:
            raise self._engine.lost()
        return data

    def _credit(self, source: Source, size: int) -> None:
        """The user took `size` bytes: pay for what was not paid for as it came."""
        paid = min(size, self._owed[source])
        if paid and self._pay(source, paid):
            self._engine.flush()

    def _pay(self, source: Source, size: int) -> bool:
        """Tell whether anything is to be sent."""
        self._owed[source] -= size
        return self._engine.core.mux.credit(self.core, size)

    def _absorb(self, source: Source, kept_at_most: float) -> None:
        """Take a stream's data off the window as it comes, so that an unread stream can't hold up the other.

        Args:
            kept_at_most: bytes that are kept for a later reader and paid for; with 0, what comes is dropped.
        """
        lane = self._lane(source)
        self._kept_at_most[source] = max(kept_at_most, self._kept_at_most[source] or 0)
        if not kept_at_most:
            self._kept_at_most[source] = 0
            lane.clear()
        owed = self._owed[source]
        if owed and (not kept_at_most or lane.unread_bytes <= kept_at_most) and self._pay(source, owed):
            self._engine.flush()

    def keep_stderr(self, at_most: float = KEPT_BYTES) -> None:
        """Keep stderr in memory as it comes, for a later reader, so that it doesn't hold up stdout.

        Args:
            at_most: bytes; beyond them it holds up stdout after all, until someone reads.
        """
        self._absorb(Source.STDERR, at_most)

    def keep_stdout(self, at_most: float = KEPT_BYTES) -> None:
        """As `keep_stderr`, the other way round."""
        self._absorb(Source.DATA, at_most)

    def drop_stdout(self) -> None:
        """Drop what is unread of stdout, and whatever still comes: nobody will read it."""
        self._absorb(Source.DATA, 0)

    def drop_stderr(self) -> None:
        """As `drop_stdout`, of stderr."""
        self._absorb(Source.STDERR, 0)

    async def read(self, size: int = -1) -> bytes:
        """Read stdout up to EOF, or `size` bytes.

        Reading up to EOF never waits for somebody to read stderr: meanwhile stderr is kept in memory, see
        `keep_stderr`. Cancelled, it loses what it had read; files and processes keep it.
        """
        if size < 0:
            self.keep_stderr()
        parts = bytearray()
        if not size:
            await trio.lowlevel.checkpoint()
        while size < 0 or len(parts) < size:
            data = await self.receive_some(None if size < 0 else size - len(parts))
            if not data:
                break
            parts += data
        return bytes(parts)

    def set_combine_stderr(self, combine: bool) -> bool:
        """Let stderr arrive in the stdout stream, in the order of arrival; return the previous setting.

        What has arrived as stderr before stays there.
        """
        previous = self.core.combine_stderr
        self.core.combine_stderr = combine
        return previous

    # -- sending

    async def send_all(self, data: Data) -> None:
        """Send all of `data`.

        Raises:
            ConnectionLost, trio.BrokenResourceError: the connection ended, or the peer closed the channel.
            trio.ClosedResourceError: EOF was sent or the channel closed here.
            trio.BusyResourceError: another task is sending.

        Cancelled, an unknown part of `data` was sent.  `data` is yours again on return.
        """
        await self._send(data, Source.DATA)

    async def send_stderr(self, data: Data) -> None:
        """As `send_all`, to the peer's stderr: for servers."""
        await self._send(data, Source.STDERR)

    async def _send(self, data: Data, source: Source) -> None:
        self._engine.check_thread()
        with self._send_conflicts[source]:
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                view = memoryview(data).cast("B") if len(data) else memoryview(b"")
            except TypeError:
                raise TypeError(f"bytes are sent, not {type(data).__name__}: encode it") from None
            has_waited = False
            while True:
                self._check_sending()
                if view:
                    # Others may have been woken beside us; who wasn't may have it all.
                    most = self._engine.share_bytes if has_waited else len(view)
                    taken = self._engine.core.mux.send_data(self.core, view[:most], source)
                    if taken:
                        self._engine.flush_now()
                        view = view[taken:]
                if not view:
                    break
                has_waited = True
                await self._wait_room()
            if not has_waited:
                await trio.lowlevel.cancel_shielded_checkpoint()

    def attach(self, tap: Tap) -> None:
        """Hand what arrives on stdout to `tap` from now on, and what has arrived, instead of to `receive_some`."""
        lane, self._lanes[Source.DATA] = self._lanes[Source.DATA], None
        self._tap = tap
        if lane is not None and lane.unread_bytes:
            batch = Batch()
            batch.add(memoryview(lane.take_all()))
            tap.on_data(batch)
        if self.core.inbound is not Half.OPEN or self._engine.is_over:
            tap.on_end()

    def credit(self, size: int) -> None:
        """Let the peer send so many bytes more: for a tap, of what it was handed."""
        self._pay(Source.DATA, size)

    def try_send(self, data: memoryview) -> int:
        """Seal as much of `data` as there is room for; `flush` sends it.  For a tap.

        Returns:
            Bytes taken.  If not all were, the tap's `on_room` is called when more may be.

        Raises:
            ConnectionLost, trio.BrokenResourceError, trio.ClosedResourceError: nothing can be sent any more.
        """
        self._check_sending()
        taken = self._engine.core.mux.send_data(self.core, data, Source.DATA)
        window = self.core.outbound_window
        if taken < len(data) and self._tap is not None and window.left and window.maximum_packet:
            self._engine.call_for_room(self._tap.on_room)
        return taken

    def call_before_rest(self) -> None:
        """Have the tap's `on_room` called once before the writer rests, so that several may add to what it sends."""
        if self._tap is not None:
            self._engine.call_for_room(self._tap.on_room)

    def close_later(self) -> None:
        """Send EOF and CLOSE when the writer comes to it; `aclose` for those who can't wait."""
        self._seal_close()
        self._engine.flush()

    def stderr_kept(self) -> bytes:
        """Return what stderr has brought so far, without waiting."""
        return self._lane(Source.STDERR).take_all()

    def flush(self, *, now: bool) -> None:
        """Send what `try_send` took: at once if nothing else will follow, or by the writer's task."""
        if now:
            self._engine.flush_now()
        else:
            self._engine.flush()

    def _check_sending(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this channel was closed")
        if self._engine.core.failure is not None:
            raise self._engine.lost()
        if self.core.inbound is Half.CLOSED:
            raise ChannelClosed("the peer closed this channel")
        if self.core.outbound is not Half.OPEN:
            raise trio.ClosedResourceError("EOF was sent on this channel")

    async def _wait_window(self) -> None:
        if self._window_waiters is None:
            self._window_waiters = trio.lowlevel.ParkingLot()
        await self._window_waiters.park()

    async def _wait_room(self) -> None:
        if self.core.outbound_window.left and self.core.outbound_window.maximum_packet:
            await self._engine.wait_room()
        else:
            await self._wait_window()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the window and the outbox have room; what is sent then may be more than that."""
        await self._wait_to_send(Source.DATA)

    async def _wait_to_send(self, source: Source) -> None:
        with self._send_conflicts[source]:
            await trio.lowlevel.checkpoint()
            self._check_sending()
            while not (self.core.outbound_window.left and self._engine.core.takes_data):
                await self._wait_room()
                self._check_sending()

    async def send_eof(self) -> None:
        """Say that no more data comes.  Receiving goes on; a second call does nothing."""
        # EOF ends both streams, so neither may have a sender.
        with self._send_conflicts[0], self._send_conflicts[1]:
            if self._is_closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("this channel was closed")
            if not self._engine.is_over:
                self._engine.core.mux.send_eof(self.core)
                self._engine.hurry()
                self._engine.flush()
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Send EOF and CLOSE.  Doesn't wait for the peer's CLOSE, which sshd sends only when the command has ended."""
        self.close_later()
        await trio.lowlevel.checkpoint()

    def _seal_close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if not self._engine.is_over:
            if self.core.is_confirmed:
                self._engine.core.mux.send_eof(self.core)
            self._engine.core.mux.close(self.core)
            self._engine.hurry()
            self._engine.core.mux.drop_unread(self.core)
        for lane in self._lanes:
            if lane is not None:
                lane.clear()
        self._wake(lambda: trio.ClosedResourceError("this channel was closed"))

    @overload
    def makefile(self, mode: TextMode = "r", bufsize: int = -1) -> ChannelFile[Channel, str]: ...
    @overload
    def makefile(self, mode: BinaryMode, bufsize: int = -1) -> ChannelFile[Channel, bytes]: ...
    def makefile(
        self, mode: TextMode | BinaryMode = "r", bufsize: int = -1
    ) -> ChannelFile[Channel, str] | ChannelFile[Channel, bytes]:
        """Return a file over this channel: "r" reads stdout, "w" writes stdin, "rw" both; with "b", lines are bytes.

        `bufsize` is paramiko's, and nothing is done about it.
        """
        check_mode(mode)
        is_read, is_written = ("r" in mode or "+" in mode), ("w" in mode or "+" in mode)
        return ChannelFile(
            self, ReadToEnd(self, Source.DATA) if is_read else None, self if is_written else None, text="b" not in mode
        )

    @overload
    def makefile_stderr(self, mode: Literal["r"] = "r", bufsize: int = -1) -> ChannelFile[Channel, str]: ...
    @overload
    def makefile_stderr(self, mode: Literal["rb"], bufsize: int = -1) -> ChannelFile[Channel, bytes]: ...
    def makefile_stderr(
        self, mode: Literal["r", "rb"] = "r", bufsize: int = -1
    ) -> ChannelFile[Channel, str] | ChannelFile[Channel, bytes]:
        """Return a file that reads stderr."""
        check_mode(mode, is_read_only=True)
        return ChannelFile(self, ReadToEnd(self, Source.STDERR), None, text="b" not in mode)

    # -- requests to the peer

    async def _request(self, name: str, details: bytes, hint: str = "", *, then_eof: bool = False) -> None:
        """Ask, and wait for the reply.

        Args:
            then_eof: send EOF along with the request: whoever has no input for a command saves a packet and a wake-up.

        Raises:
            RequestRefused: the answer is no.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_requesting()
        reply: Reply[bool] = Reply()
        self._engine.core.mux.request(self.core, name, details, wants_reply=True)
        self._replies.append(reply)
        if then_eof:
            self._engine.core.mux.send_eof(self.core)
        self._engine.hurry()
        self._engine.flush_now()
        if not await self._engine.answer_to(reply):
            raise RequestRefused(name, hint)

    def _notify(self, name: str, details: bytes) -> None:
        self._seal_notice(name, details)
        self._engine.flush()

    def _seal_notice(self, name: str, details: bytes) -> None:
        self._check_requesting()
        self._engine.core.mux.request(self.core, name, details, wants_reply=False)

    def _check_requesting(self) -> None:
        self._engine.check_thread()
        if self._is_closed:
            raise trio.ClosedResourceError("this channel was closed")
        if self._engine.is_over:
            raise self._engine.lost()
        if self.core.inbound is Half.CLOSED:
            raise ChannelClosed("the peer closed this channel")

    def _finish(self, report: ExitReport) -> None:
        """Server: report, EOF and CLOSE, in one piece."""
        if not self._is_closed and not self._engine.is_over and self.core.inbound is not Half.CLOSED:
            self._send_exit(report)
        self._seal_close()
        self._engine.flush_now()

    # -- what the connection's tasks tell it

    def _on_data(self, source: Source) -> None:
        batch = self.core.fetch(source)
        if batch is None or self._is_closed:
            return
        self._owed[source] += batch.size
        if self._tap is not None and source is Source.DATA:
            self._tap.on_data(batch)
            return
        most = self._kept_at_most[source]
        if most is not None:
            unread = self._lane(source).unread_bytes
            if unread + batch.size <= most or not most:
                self._pay(source, batch.size)
            if not most:
                return
        lane = self._lanes[source]
        if lane is None:
            # Open, even where the core knows of an EOF: that came later in this read, and its own event will say so.
            lane = self._lanes[source] = Lane(self._engine.wait)
        lane.deliver(batch)

    def _on_eof(self) -> None:
        if self._tap is not None:
            self._tap.on_end()
        for lane in self._lanes:
            if lane is not None:
                lane.end()

    async def request_forward_agent(self, handler: Callable[[Channel], Awaitable[None]] | None = None) -> None:
        """Ask the server to let the session use an agent of ours.

        The server then opens channels whenever a program there wants the agent, as long as the connection lasts.
        Whoever is root there can use it too, and so have signed what they like: forward to hosts that you trust.

        Args:
            handler: serves each of these channels until it returns: `forwarded_agent`, for the user's agent;
                `AgentServer.serve_stream`, for keys of this process; or any async function of a channel.  Without one
                they come from `Transport.accept`, if the transport's own handler grants them.

        Raises:
            RequestRefused: the server doesn't forward agents.
        """
        if handler is None:
            await self._request("auth-agent-req@openssh.com", b"", "it does not forward agents")
            return
        if not callable(handler):
            raise TypeError(
                f"what serves a forwarded agent is an async function, such as forwarded_agent(), not {handler!r}"
            )
        # Before the request: a channel may come along with the answer.
        undo = self._transport._serve_channels("auth-agent@openssh.com", handler)
        try:
            await self._request("auth-agent-req@openssh.com", b"", "it does not forward agents")
        except BaseException:
            undo()
            raise

    def end_with_channel(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the peer closes this channel: what serves it has nobody to serve any more."""
        self._serving_scope = scope
        if self.core.inbound is Half.CLOSED or self._engine.is_over:
            scope.cancel()

    def _on_close(self) -> None:
        # First: whoever serves the channel is to be cancelled, not to meet its end in the middle of something.
        if self._serving_scope is not None:
            self._serving_scope.cancel()
        self._on_eof()
        # Both refer to this channel: two cycles less for the collector.
        self.request_pump = self._stderr = None
        self._exit.bring(ExitReport())  # unless there was a report
        self._wake(lambda: ChannelClosed("the peer closed this channel"))

    def _on_request_answered(self, is_success: bool) -> None:
        self._replies.popleft().bring(is_success)

    def _on_window(self) -> None:
        if self._tap is not None:
            self._engine.call_for_room(self._tap.on_room)  # not now: more grants may follow in this read
        if self._window_waiters is not None:
            self._window_waiters.unpark_all()

    def _on_lost(self) -> None:
        if self._serving_scope is not None:
            self._serving_scope.cancel()
        self._on_eof()
        self._wake(self._engine.lost)
        self._opened.fail(self._engine.lost)

    def _wake(self, make: Callable[[], Exception]) -> None:
        """Nothing more comes: everyone who waits hears it."""
        # They stay in line: where it was we who closed, the peer may still answer, and its answers are counted off.
        for reply in self._replies:
            reply.fail(make)
        self._exit.fail(make)
        if self._window_waiters is not None:
            self._window_waiters.unpark_all()
        self._engine.room.unpark_all()  # senders who wait for the outbox look around

    def _on_open_answered(self, code: int, text: str) -> None:
        if code:
            self._is_closed = True
            # A session that is prohibited, or unknown, isn't one too many.
            is_refused = self.kind == "session" and code in (
                OpenFailureReason.ADMINISTRATIVELY_PROHIBITED,
                OpenFailureReason.UNKNOWN_CHANNEL_TYPE,
            )
            hint = "" if is_refused else self.refusal_hint
            self._opened.fail(lambda: ChannelException(code, text, hint))
        else:
            self._opened.bring(None)


class ReadToEnd(trio.abc.ReceiveStream):
    """A channel's inbound stream whose reader means to read it up to its end: meanwhile the sibling may fill memory."""

    def __init__(self, channel: Channel, source: Source) -> None:
        self._channel = channel
        self._source = source

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return 1 .. `max_bytes` bytes, or ``b""`` at EOF."""
        sibling = Source.STDERR if self._source is Source.DATA else Source.DATA
        self._channel._absorb(sibling, KEPT_BYTES)
        if self._source is Source.DATA:
            return await self._channel.receive_some(max_bytes)
        return await self._channel.stderr.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Leave the channel as it is."""
        await trio.lowlevel.checkpoint()
