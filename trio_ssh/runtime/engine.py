"""One connection's tasks: they move bytes between a stream and the sealed core, and nothing else.

Theory of operation.  A connection has these kinds of task, of which only the reader always lives:

* the reader awaits nothing but the stream.  It feeds the core, turns the events of one read into wake-ups, and reads
  on.  It never waits to send, takes no lock and waits for no channel.  (One exception.  A peer that asks and asks
  without listening to the answers has filled the outbox, so nothing more is read before that has drained; the writer
  doesn't depend on the reader, so it will.)  Where a read makes much work, the others have their turn in between.  In
  the middle of a large transfer it has the system wait for much, and another task sees to it that this ends; see
  `Coalescing`.
  Where one task talks with the peer word by word, that may wait for the stream in the reader's place, and the reader
  stays away from it so long; see `lead`.
* the writer sends what was sealed meanwhile, by whomever, as one piece.  Where the stream is a socket and the writer
  has nothing to do, whoever has sealed something, the reader included, may try to write it at once (`flush_now`): that
  saves two task switches a message, and since nobody waits in it, it changes nothing of who may wait where.  It is
  started when there is first something for it to do.
* the rekey scheduler is started by the first traffic that meets keys which are too old.  An idle connection has no
  timer; counts of bytes and packets are noticed where they are counted.
* a watcher sees each later key exchange through, in time, and the keepalive asks for a sign of life, where it is on.

Background tasks never raise into the nursery: a failure is recorded, every waiter wakes and raises `ConnectionLost`
from it.

A cancellation from outside doesn't reach the reader and the writer: whatever it interrupts may still have something to
say, and wait for the answer.  They end with the connection, which `aclose` ends at the latest.

What runs in a user's task, seals and writes is protected from Ctrl-C, here and in `Transport`: `interrupts` says why.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import trio

from trio_ssh.core.connection import ClosedHere, Connection
from trio_ssh.core.events import Ended, Event
from trio_ssh.core.limits import Limits
from trio_ssh.core.mux import HIGH_WATER
from trio_ssh.core.phases import Phase
from trio_ssh.errors import ConnectionLost, InternalError, PeerDisconnected, RemoteProtocolError
from trio_ssh.runtime.block import RAISED, leaves, sort_out
from trio_ssh.runtime.coalescing import PATIENCE_SECONDS, Coalescing
from trio_ssh.runtime.descriptor import LARGEST_READ, Descriptor, descriptor_of
from trio_ssh.runtime.lead import Awaited, Lead, asleep
from trio_ssh.runtime.waiting import Reply
from trio_ssh.wire.numbers import DisconnectReason

T = TypeVar("T")

_SMALLEST_READ: Final = 8 * 1024

#: Seconds that a connection which has ended goes on sending its last words.
CLOSE_SECONDS: Final = 2.0

#: Keepalives without any sign of life before the connection is given up, as OpenSSH's ServerAliveCountMax.
KEEPALIVE_COUNT: Final = 3

#: Outboxes that the writer writes, or has filled, in one go.
_ROUNDS: Final = 8

#: What each of many who wait for room may take at the least.
_LEAST_SHARE: Final = 1024

_FIRST_EXCHANGE: Final = frozenset((Phase.EXCHANGE_STRICT, Phase.EXCHANGE_LENIENT))

#: Key exchanges for nothing that a peer may begin for ever: it may have been told to change keys every second.
_EXCHANGES_PER_SECOND: Final = 2

KEEPALIVE: Final = "keepalive@openssh.com"

# What the reader spends its time in.  The core knows no trio, and calls nothing of the user's.
trio.lowlevel.enable_ki_protection(Connection.receive_data)
trio.lowlevel.enable_ki_protection(Connection.resume)
trio.lowlevel.enable_ki_protection(Connection.answer)


def _stands_still(now: float) -> bool:
    """Tell whether trio's clock is one of a test's, by which nobody who sleeps ever wakes."""
    return trio.lowlevel.current_clock().deadline_to_sleep_time(now + PATIENCE_SECONDS) > 1


def _ignore(_: Event) -> None:
    """Hear of an event when nobody wants to any more."""


class Engine:
    """Runs a core over a stream.

    Args:
        core: the connection; whoever calls a verb of it that returns events hands them to `handle`, and then calls
            `flush`.
        stream: carries it.
        limits: for the age of keys.
        nursery: where the tasks live.
        on_event: turns one event into wake-ups; plain code, which never waits.

    Attributes:
        room: where whoever waits for the outbox to drain, or for new keys, is parked.
        share_bytes: how much room each of those has who were woken last.
        exchanges: how many key exchanges have finished.
        is_closing: we ended it ourselves.
        over: set when the connection has ended.
        wait: waits for something that isn't there yet and that the peer may bring.
        read_at: when something last came, on trio's clock.
    """

    def __init__(
        self,
        core: Connection,
        stream: trio.abc.Stream,
        limits: Limits,
        nursery: trio.Nursery,
        on_event: Callable[[Event], None],
    ) -> None:
        self.core = core
        self.room: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.share_bytes: int = HIGH_WATER
        self.over: trio.Event = trio.Event()
        self.exchanges: int = 0
        self.is_closing: bool = False
        self._thread = threading.get_ident()
        self._now = trio.lowlevel.current_clock().current_time
        self._stream = stream
        self._descriptor = descriptor = descriptor_of(stream, limits.busy_poll_seconds)
        self._lead = lead = Lead(descriptor, self._take_in, self._break, self._is_plain) if descriptor else None
        self.wait: Callable[[Awaited], Awaitable[None]] = lead.wait if lead else asleep
        self._limits = limits
        self._nursery = nursery
        self._on_event = on_event
        self._writer = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        #: Whom to call when the outbox has room: each once.
        self._callers: deque[Callable[[], None]] = deque()
        self._is_turn_of_tasks = True
        self._is_writing = False
        self._has_writer = False
        self._is_resting = False
        self._has_written_all = False
        self._is_closed = False
        self._holds_back = False
        #: What `flush_now` could not write, for the writer to begin with.
        self._unsent: memoryview | None = None
        self._keys_expire_at = math.inf
        self._is_rekeying = False
        #: Exchanges that the peer began for nothing, less those that time has excused; and when the last was.
        self._haste = 0.0
        self._hasty_at = -math.inf
        self._reads = 0
        self.read_at: float = 0.0
        self._round_trip = 0.0
        self._keepalive: trio.CancelScope | None = None
        self._coalescing = Coalescing()
        self._watch: trio.CancelScope | None = None
        self._reading = trio.CancelScope(shield=True)
        self._last_words = trio.CancelScope(shield=True)
        self._replies: deque[Reply[tuple[bool, bytes]]] = deque()
        self._events: deque[Event] = deque()
        self._is_handling = False
        self._is_going_on = False

    def start(self) -> None:
        """Start reading, and send what is sealed already."""
        self.spawn(self._read, name="trio_ssh reader")
        self.flush_now()

    def _wake_writer(self) -> None:
        if self._has_writer:
            # Measured: while much is sent it is woken a dozen times a read, and awake already.
            if self._is_resting:
                self._is_resting = False
                self._writer.unpark()
        elif not self._is_closed:
            # Measured: a task and its scope cost 60 us and a kibibyte, and a connection whose messages all go out at
            # once, as a login's do, never needs this one.
            self._has_writer = True
            self.spawn(self._write, name="trio_ssh writer")

    def spawn(self, function: Callable[[], Awaitable[object]], *, name: str) -> None:
        """Run a task of the connection: what it raises ends the connection, and never reaches the nursery."""
        self._nursery.start_soon(self._guard, function, name=name)

    async def _guard(self, function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except (KeyboardInterrupt, *RAISED) as error:
            failure, exited, rest = sort_out(error)
            if failure is not None:
                self.fail(failure)
            elif exited is not None:
                self.fail(InternalError("something that serves this connection called sys.exit"))
            elif any(not isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):
                # Whoever waits must hear that nobody reads any more, and not wait for ever.
                self.fail(ConnectionLost("Ctrl-C ended one of its tasks"))
            if rest is not None:
                raise rest  # noqa: B904 -- it is what was caught, less what is dealt with

    # -- what the rest of the runtime calls

    def check_thread(self) -> None:
        """Find out who uses a connection in another thread, before that changes anything.

        Raises:
            RuntimeError: this isn't the thread in which it was made, and its `trio.run` runs.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError("this connection lives in another trio.run: use it there, as by trio.from_thread.run")

    @property
    def is_over(self) -> bool:
        """The connection has ended, for whatever reason."""
        return self.core.failure is not None

    def answer(self, value: object) -> None:
        """Resolve the core's open question, and deal with the input that waited; whoever calls this flushes."""
        self.handle(self.core.answer(value))
        # The reader may be waiting for more to come.
        if self.core.is_unfinished and not self._is_going_on:
            self._is_going_on = True
            self.spawn(self._go_on_alone, name="trio_ssh input")

    async def _go_on_alone(self) -> None:
        try:
            # Shielded, as the reader is whose work it does.  The connection's end is its end.
            with trio.CancelScope(shield=True):
                await self._go_on()
        finally:
            self._is_going_on = False

    async def _go_on(self) -> None:
        """Deal with the rest of what was read, a step at a time."""
        core = self.core
        while core.is_unfinished:
            await trio.lowlevel.cancel_shielded_checkpoint()
            while core.is_backlogged and core.failure is None:
                await self.room.park()
            self.handle(core.resume())
            self.flush_now()

    def handle(self, events: Sequence[Event]) -> None:
        """Turn what happened into wake-ups, and sometimes into answers: whoever calls this flushes."""
        # An answer makes new events.  They join the list instead of going deeper: a peer may ask a hundred times in one
        # read.
        self._events.extend(events)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._events:
                try:
                    self._on_event(self._events.popleft())
                except Exception as error:
                    # What follows an event that could not be dealt with mustn't be; but the end must be heard of.
                    ended = [event for event in self._events if isinstance(event, Ended)]
                    self._events.clear()
                    self._events.extend(ended or self.core.fail(error))
        finally:
            self._is_handling = False

    def flush(self) -> None:
        """Something may have been sealed, and more may follow: wake the writer."""
        # Whoever has events handled flushes behind them, and mostly writes at once: the writer would wake for nothing.
        if not self._is_handling and (self.core.has_data_to_send or self.is_over):
            self._wake_writer()

    @trio.lowlevel.enable_ki_protection
    def flush_now(self) -> None:
        """Something may have been sealed, and its sender is going to wait: write it now, if that needs no waiting.

        Measured: 50 us less in a round trip of one byte than by way of the writer's task.
        """
        core = self.core
        if self._descriptor is None or self._is_writing or (self._has_writer and core.failure is not None):
            self.flush()  # the writer says the last words, and ends
        elif core.has_data_to_send:
            self._write_now(self._descriptor)

    def _write_now(self, descriptor: Descriptor) -> None:
        had_callers = bool(self._callers)
        rest = self._try_write(descriptor, self.core.data_to_send())
        if rest:
            self._unsent = rest
            self._is_writing = True
            self._wake_writer()
        self._wake_room()
        if self._callers:
            self._wake_writer()
        elif had_callers and not rest and not self.core.has_data_to_send:
            self.core.data_to_send()  # they had nothing to send: the outbox isn't filled again

    def _try_write(self, descriptor: Descriptor, data: memoryview) -> memoryview:
        """Write what the system takes at once, and return the rest.

        Where there is none, the outbox is given back.  Measured: whoever is called for room then seals into the memory
        that was just written, and that saves 2 to 6 % of the CPU of a put.
        """
        rest = data[descriptor.try_write(data) :]
        if not rest and not self.core.has_data_to_send:
            if self._callers:
                self.core.fill_again()  # given back behind them
            else:
                self.core.data_to_send()
        return rest

    def hold_back(self) -> None:
        """Let a task that was just started, and may send at once, take its first step before this read's answers leave.

        Measured: a command that ends at once then costs one packet and one wake-up of the peer instead of two.
        """
        self._holds_back = True

    def _wake_room(self) -> None:
        # In turns: those who are called fill the outbox at once, before a task that is woken can.
        if self.room and (self._is_turn_of_tasks or not self._callers):
            self._is_turn_of_tasks = False
            # Trio runs them in the order of their line, or in the opposite one: the first mustn't take it all.
            self.share_bytes = max(_LEAST_SHARE, HIGH_WATER // len(self.room))
            self.room.unpark_all()
        elif self._callers:
            self._call()

    def _call(self) -> None:
        self._is_turn_of_tasks = True
        for _ in range(len(self._callers)):
            # Whoever goes on goes to the end of the line, and whoever finds no room is the first the next time.
            self._callers.popleft()()
            if not self.core.takes_data:
                break

    def call_for_room(self, call: Callable[[], None]) -> None:
        """Call `call` once, as soon as the outbox has room, and before the writer rests: plain code that sends.

        A task that sends much is switched to for every outbox; a function that has much to send isn't.
        """
        if call not in self._callers:
            self._callers.append(call)
        self._wake_writer()

    async def wait_room(self) -> None:
        """Wait until the outbox has room for channel data."""
        self.flush()
        if self.core.has_data_to_send or self.core.keying.is_running:
            await self.room.park()
        else:
            # All of it was written meanwhile, by `flush_now`: nobody is left who would wake us.
            await trio.lowlevel.checkpoint()

    def fail(self, error: Exception) -> None:
        """End the connection because of `error`."""
        self.handle(self.core.fail(error))
        self.flush()

    def disconnect(self, reason: DisconnectReason, text: str) -> None:
        """End the connection with a goodbye."""
        self.handle(self.core.disconnect(reason, text))
        self.flush()

    @trio.lowlevel.enable_ki_protection
    def ask(self, name: str, details: bytes) -> Reply[tuple[bool, bytes]]:
        """Make a global request; the reply brings its success and what came with it."""
        reply: Reply[tuple[bool, bytes]] = Reply()
        self.core.mux.global_request(name, details, wants_reply=True)
        self.hurry()
        self._replies.append(reply)
        self.flush_now()
        return reply

    def answered(self, is_success: bool, details: bytes) -> None:
        """The oldest global request has its answer."""
        self._replies.popleft().bring((is_success, details))

    def exchanging(self, is_hasty: bool) -> None:
        """A later key exchange has begun.  It holds back what others send, so the peer must see it through in time."""
        if is_hasty:
            # Each costs us a signature, or half a millisecond of other mathematics, and the peer a kibibyte.
            now = trio.current_time()
            self._haste = max(0.0, self._haste - (now - self._hasty_at) * _EXCHANGES_PER_SECOND) + 1
            self._hasty_at = now
            if self._haste > self._limits.hasty_exchanges:
                self.fail(RemoteProtocolError("the peer exchanges keys again and again"))
                return
        # Counted now: it may be over before its watcher's first step.
        before = self.exchanges
        self.spawn(lambda: self._watch_exchange(before), name="trio_ssh key exchange")

    async def _watch_exchange(self, before: int) -> None:
        seconds = self._limits.exchange_seconds
        with trio.move_on_after(seconds) as patience:
            while self.exchanges == before and not self.is_over:
                await self.room.park()
        if patience.cancelled_caught:
            self.fail(ConnectionLost(f"the peer did not finish a key exchange within {seconds:g} seconds"))

    def exchanged(self) -> None:
        """A key exchange has finished."""
        self.exchanges += 1
        self._keys_expire_at = trio.current_time() + self._limits.rekey_seconds
        self.room.unpark_all()
        if self._callers:
            self._wake_writer()

    def ended(self) -> None:
        """The connection is over: end what waits here, and give the last words a little time."""
        while self._replies:
            self._replies.popleft().fail(self.lost)
        for scope in (self._keepalive, self._watch):
            if scope is not None:
                scope.cancel()
        self._last_words.deadline = trio.current_time() + CLOSE_SECONDS
        self.room.unpark_all()
        self.over.set()

    def lost(self) -> Exception:
        """Make the exception for whoever finds the connection over."""
        failure = self.core.failure
        if isinstance(failure, ClosedHere):
            return trio.ClosedResourceError("this connection was closed here")
        lost: ConnectionLost
        if isinstance(failure, PeerDisconnected):
            lost = PeerDisconnected(failure.reason, failure.message)
        else:
            lost = ConnectionLost(f"the connection was lost: {failure}")
        lost.__cause__ = failure
        return lost

    @trio.lowlevel.enable_ki_protection
    async def exchange_keys(self) -> None:
        """Begin a key exchange, unless one is running, and wait for its end."""
        before = self.exchanges
        self.handle(self.core.start_exchange())
        self.hurry()
        self.flush()
        while self.exchanges == before:
            if self.is_over:
                raise self.lost()
            await self.room.park()

    async def aclose(self) -> None:
        """Say goodbye, let the writer send it, and close the stream.  Cancelled, close at once."""
        self.is_closing = True
        try:
            self.handle(self.core.disconnect(DisconnectReason.BY_APPLICATION, "closed by the application"))
            if self._descriptor is not None and not self._is_writing:
                self._write_now(self._descriptor)
            if self._has_writer or self.core.has_data_to_send:
                self.flush()
                with trio.move_on_after(CLOSE_SECONDS):
                    while not self._has_written_all and (self.core.has_data_to_send or self._is_writing):
                        await self._drained.park()
        except trio.Cancelled:
            await trio.aclose_forcefully(self._stream)
            raise
        finally:
            self._is_closed = True
            if self._has_writer:
                self._last_words.cancel()
            self._reading.cancel()
            # What holds this and is held by it.  Measured: the collector's rounds were a twentieth of a login's CPU.
            self._on_event, self._lead, self.wait = _ignore, None, asleep
        if self._descriptor is not None:
            await self._stream.aclose()
            return
        # TLS waits for a close_notify, which the peer may withhold; cancelled, trio's streams close all the same.
        with trio.move_on_after(CLOSE_SECONDS):
            await self._stream.aclose()

    def set_keepalive(self, interval: float, count: int = KEEPALIVE_COUNT) -> None:
        """Ask for a sign of life after every `interval` seconds of silence, `count` times; 0 turns it off."""
        self.check_thread()
        if self._keepalive is not None:
            self._keepalive.cancel()
        if interval > 0:
            self._keepalive = scope = trio.CancelScope()
            self.spawn(lambda: self._keep_alive(interval, count, scope), name="trio_ssh keepalive")

    # -- the tasks

    async def _read(self) -> None:
        """The reader.  It awaits the stream and nothing else; see the top of this file for the exception."""
        with self._reading:
            await self._read_all()

    async def _read_all(self) -> None:
        core = self.core
        descriptor, lead, receive_some = self._descriptor, self._lead, self._stream.receive_some
        size = _SMALLEST_READ
        while core.failure is None:
            if lead is not None and lead.is_wanted and self._is_plain():
                await lead.lend()
            if core.is_unfinished:
                await self._go_on()
            while core.is_backlogged and not self.is_over:
                await self.room.park()
            if self.is_over:
                break
            is_exchanging = core.phase in _FIRST_EXCHANGE
            asked = trio.current_time() if is_exchanging else 0.0
            try:
                if descriptor is None:
                    data: bytes | bytearray | memoryview | None = await receive_some(size)
                else:
                    data = await descriptor.read(may_poll=core.phase is Phase.OPEN)
                if data is None:
                    continue
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._break(error)
                return
            if is_exchanging and data:
                # Each side has sent its part and waits for the other's: the longest wait is at least a round trip.
                self._round_trip = max(self._round_trip, trio.current_time() - asked)
                core.mux.note_round_trip(self._round_trip)
            # Measured: asking a stream for 256 KiB when 100 bytes come costs an allocation that is thrown away.
            if len(data) == size:
                size = LARGEST_READ
            elif len(data) < _SMALLEST_READ:
                size = _SMALLEST_READ
            self._take_in(data)
            # While it waits, the reader holds neither a buffer nor the channels of the last read.
            del data
        if self._descriptor is not None and not self._has_writer and not self.is_closing:
            self._is_closed = True
            self._descriptor.close()  # our last words, if there were any, are written; else the writer closes it

    def _take_in(self, data: bytes | bytearray | memoryview) -> None:
        """Deal with one read, whoever has read it."""
        core, descriptor = self.core, self._descriptor
        if data:
            self._reads += 1
            self.read_at = now = self._now()
            if now >= self._keys_expire_at:
                self._check_keys(now)
            granted = core.mux.granted_bytes
            self.handle(core.receive_data(data))
            granted = core.mux.granted_bytes - granted
            if descriptor is not None and (granted or not descriptor.is_short):
                self._coalesce(descriptor, len(data), granted, now)
        else:
            self.handle(core.receive_eof())
        if descriptor is not None:
            descriptor.give_back()
        if self._holds_back:
            self.flush()
        else:
            self.flush_now()

    def _is_plain(self) -> bool:
        """Whether nothing is on hand but word by word: no login, no transfer, no rest of a read."""
        core, descriptor = self.core, self._descriptor
        return (
            descriptor is not None
            and descriptor.is_short
            and core.phase is Phase.OPEN
            and not core.is_unfinished
            and not core.is_backlogged
        )

    async def answer_to(self, reply: Reply[T]) -> T:
        """Wait for a reply that the peer brings, and return it.  A checkpoint, always."""
        if reply.is_done:
            await trio.lowlevel.checkpoint()
        else:
            await self.wait(reply)
        return reply.result()

    def _coalesce(self, descriptor: Descriptor, size: int, granted: int, now: float) -> None:
        window = self.core.mux.granted_window
        least = self._coalescing.least(size, granted, 0 if window is None else window.most, now)
        descriptor.wake_for(1 if least > 1 and _stands_still(now) else least)
        if descriptor.least > 1 and self._watch is None and not self.is_over:
            # Shielded, as the reader is that depends on it.
            self._watch = scope = trio.CancelScope(shield=True)
            self.spawn(lambda: self._watch_reads(descriptor, scope), name="trio_ssh coalescing")

    async def _watch_reads(self, descriptor: Descriptor, scope: trio.CancelScope) -> None:
        """Wake the reader where what the system waits for doesn't come."""
        with scope:
            while descriptor.least > 1:
                reads = self._reads
                await trio.sleep(PATIENCE_SECONDS)
                if self._reads == reads:
                    # Where others took so long, it may be about to read.
                    await trio.lowlevel.checkpoint()
                if self._reads == reads:
                    self._coalescing.give_up()
                    descriptor.wake_for(1)
        self._watch = None

    def hurry(self) -> None:
        """Something was asked that is no part of a transfer: what comes next is read at once, however short it is."""
        if self._descriptor is not None:
            self._descriptor.wake_for(1)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        """The writer: sends what was sealed meanwhile as one piece, while senders fill the other outbox."""
        try:
            with self._last_words:
                await self._write_all()
        finally:
            self._has_written_all = True
            self._drained.unpark_all()
        # Whoever closes the connection closes the stream; else this is its end, and wakes the reader.
        if not self.is_closing:
            await trio.aclose_forcefully(self._stream)

    async def _write_all(self) -> None:
        core, stream, descriptor = self.core, self._stream, self._descriptor
        rounds = 0
        while True:
            # A socket that takes everything, and callers who always have more: the others must have their turn.
            rounds += 1
            if rounds % _ROUNDS == 0 or self._holds_back:
                self._holds_back = False
                await trio.lowlevel.cancel_shielded_checkpoint()
            unsent, self._unsent = self._unsent, None
            data = unsent or core.data_to_send()
            # Before anyone is called: who flushes at once would give away the view that is about to be written.
            self._is_writing = True
            is_idle = not data
            if descriptor is not None and not is_idle and not unsent:
                data = self._try_write(descriptor, data)
            self._wake_room()
            if data:
                try:
                    await (stream.send_all(data) if descriptor is None else descriptor.write_rest(data))
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    # The peer's last words may still be on their way to the reader, and they say more than this.
                    with trio.move_on_after(CLOSE_SECONDS):
                        await self.over.wait()
                    self._break(error)
                    return
            if not is_idle:
                self._check_keys(trio.current_time())
            elif core.failure is not None:
                return
            elif self._callers and not core.keying.is_running:
                self._call()
            elif core.has_data_to_send:
                pass  # whoever was called for room has used it
            else:
                self._is_writing = False
                self._drained.unpark_all()
                self._is_resting = True
                await self._writer.park()

    def _break(self, error: Exception) -> None:
        self.handle(self.core.receive_eof(error))
        self.flush()

    def _check_keys(self, now: float) -> None:
        """There is traffic: see to it that it doesn't go on under keys that are too old."""
        core = self.core
        # `is_due` is noticed where events are taken; but a peer that grants much and says nothing brings none.
        is_old = now >= self._keys_expire_at or core.keying.is_due
        if is_old and not self._is_rekeying and core.phase is Phase.OPEN and not core.keying.is_running:
            self._is_rekeying = True
            self.spawn(self._rekey, name="trio_ssh rekey scheduler")

    async def _rekey(self) -> None:
        """The rekey scheduler: new keys when traffic meets keys of an hour.  No traffic, no exchange."""
        try:
            await self.exchange_keys()
        finally:
            self._is_rekeying = False

    async def _keep_alive(self, interval: float, count: int, scope: trio.CancelScope) -> None:
        with scope:
            unanswered = 0
            while not self.is_over:
                reads = self._reads
                await trio.sleep(interval)
                if self._reads != reads:
                    unanswered = 0
                elif unanswered >= count:
                    self.fail(ConnectionLost(f"the peer has been silent for {interval * (unanswered + 1):g} seconds"))
                else:
                    unanswered += 1
                    if self.core.phase is Phase.OPEN:
                        self.ask(KEEPALIVE, b"")
