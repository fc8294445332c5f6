"""The client's end of an SFTP session on a channel: who waits for which reply, and how much is under way.

No task of its own.  Replies are dealt with in the connection's reader, which wakes whoever waits; requests are sealed
by whoever asks or, where several ask at once, by the connection's writer in one piece.  Any number of tasks may ask.

The channel's window is granted as data comes, since it bounds nothing here: a server can send only what was asked for,
and what may be asked for is counted in bytes, for each file and for the session.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Protocol, TypeVar, cast

import trio

from trio_ssh.core.channel import Batch
from trio_ssh.errors import (
    ConnectionLost,
    RemoteProtocolError,
    SFTPError,
    SFTPNoSuchFile,
    SFTPPermissionDenied,
    SFTPUnsupported,
)
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.interrupts import uninterrupted
from trio_ssh.runtime.waiting import OneSleeper
from trio_ssh.sftp.messages import Close, Handle, Name, Packet, Status
from trio_ssh.sftp.protocol import SFTPLimits, StatusCode
from trio_ssh.sftp.session import ClientSession, ReplyWaiter, Waiter
from trio_ssh.wire.text import printable

P = TypeVar("P", bound=Packet)

#: Packets shorter than this are joined with their neighbours, up to so many bytes, and leave as one SSH packet.
_JOINED_BELOW: Final = 4 * 1024
_JOINED_BYTES: Final = 32 * 1024

#: Bytes of stderr that are kept to explain a session which never began.
_STDERR_BYTES: Final = 64 * 1024

_ERRORS: Final[dict[int, type[SFTPError]]] = {
    StatusCode.NO_SUCH_FILE: SFTPNoSuchFile,
    StatusCode.PERMISSION_DENIED: SFTPPermissionDenied,
    StatusCode.OP_UNSUPPORTED: SFTPUnsupported,
}


def as_error(status: Status, filename: object = None, filename2: object = None) -> SFTPError:
    """Make the exception for a status that is no success."""
    return _ERRORS.get(status.code, SFTPError)(status.code, status.text, filename, filename2)


class Answer(ReplyWaiter):
    """The reply that one task waits for.

    A task that is cancelled leaves its request behind; if that opens something, it is closed when it comes.
    """

    __slots__ = ("_is_left", "_link", "_reply", "_sleeper", "wake_follower")

    def __init__(self, link: Link, expects: type[Packet]) -> None:
        super().__init__(expects)
        self._link = link
        self._reply: Packet | None = None
        self._sleeper = OneSleeper()
        self._is_left = False
        #: See `lead.Awaited`.
        self.wake_follower: Callable[[], None] | None = None

    def on_reply(self, reply: Packet) -> None:
        """Wake the task."""
        self._reply = reply
        if self._is_left and isinstance(reply, Handle):
            self._link.close_later(reply.handle)
        self._wake()

    def on_lost(self) -> None:
        """Nothing comes any more."""
        self._wake()

    def _wake(self) -> None:
        self._sleeper.wake()
        if self.wake_follower is not None:
            self.wake_follower()

    @property
    def is_done(self) -> bool:
        """It has come, or nothing does any more."""
        return self._reply is not None or self._link.failure is not None

    async def sleep(self) -> None:
        """Wait until `is_done`."""
        await self._sleeper.sleep()

    async def wait(self) -> Packet:
        """Return the reply.  A checkpoint, always."""
        if self.is_done:
            await trio.lowlevel.checkpoint()
        else:
            try:
                await self._link.channel._engine.wait(self)
            except BaseException:
                self._leave()
                raise
        if self._reply is None:
            raise self._link.lost()
        return self._reply

    def _leave(self) -> None:
        self._is_left = True
        if isinstance(self._reply, Handle):  # it came, and its task was cancelled before it could go on
            self._link.close_later(self._reply.handle)


class Share:
    """One file's part of what a session may have under way, in bytes.

    A file that has nothing under way always gets its first block: others may hold the session's whole share for a
    reader who never comes back.

    Attributes:
        limit: of `used`; a reader that has little use for more sets it lower.
    """

    __slots__ = ("_link", "limit", "used")

    def __init__(self, link: Link) -> None:
        self._link = link
        self.limit: int = link.limits.file_bytes
        self.used: int = 0

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are free."""
        link = self._link
        if self.used and (self.used + size > self.limit or link.used_bytes + size > link.limits.session_bytes):
            return False
        self.used += size
        link.used_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """The user took them, or they are written."""
        self.used -= size
        self._link.used_bytes -= size


class Feeder(Protocol):
    """What writes by itself as long as there is room."""

    def feed(self) -> bool:
        """Queue a request, if there is one."""
        ...

    def wake(self) -> None:
        """Something has happened: whoever waits is to look around."""


@uninterrupted
class Link:
    """A session and its channel.

    Attributes:
        session: what is pending.
        limits: what is held at the most.
        used_bytes: of `SFTPLimits.session_bytes`.
        parts: paths of what transfers are writing.
        read_bytes, write_bytes: what one READ and one WRITE carry.
        open_handles: files and directories that the server lets this session have open; 0 for no limit that is known.
        feeders: those whose turn it is where everything queued is sealed, one after the other.
        failure: why the session has ended, or None.
    """

    def __init__(self, channel: Channel, limits: SFTPLimits) -> None:
        self.channel = channel
        self.limits = limits
        self.session: ClientSession = ClientSession(limits)
        self.used_bytes: int = 0
        self.parts: set[bytes] = set()
        self.read_bytes: int = limits.plain_block_bytes
        self.write_bytes: int = limits.plain_block_bytes
        self.open_handles: int = 0
        self.feeders: deque[Feeder] = deque()
        self.failure: Exception | None = None
        #: Who waits until more is sealed, and how much that is in all for the first of them.
        self._sealing = trio.lowlevel.ParkingLot()
        self._seals_at = sys.maxsize
        self._is_closed = False
        self._is_flushing = False
        self._begun = trio.Event()
        channel.keep_stderr(_STDERR_BYTES)
        channel.attach(self)

    async def begin(self) -> None:
        """Agree on the version.

        Raises:
            RemoteProtocolError: what answers doesn't speak SFTP.
            ConnectionLost: the session ended first.
        """
        self._flush(now=True)
        if self.failure is None:
            await self._begun.wait()
        if self.failure is not None:
            raise self.lost()
        # Both streams share the channel's window: a server that logs to stderr would stop its own replies some day.
        self.channel.drop_stderr()

    # -- asking

    async def ask(self, packet: Packet, expects: type[P], filename: object = None, filename2: object = None) -> P:
        """Make a request and return its reply; for `Status`, only OK is one.

        Raises:
            SFTPError: the server's status says so; the paths are in its text.
            ConnectionLost: the session ended.
            trio.ClosedResourceError: it was closed here.

        Cancelled, the request may or may not have been carried out.
        """
        self.channel._engine.check_thread()
        await trio.lowlevel.checkpoint_if_cancelled()
        answer = Answer(self, expects)
        self.submit(packet, answer)
        reply = await answer.wait()
        if isinstance(reply, Status) and (expects is not Status or reply.code != StatusCode.OK):
            raise as_error(reply, filename, filename2)
        return cast("P", reply)

    async def ask_path(self, packet: Packet, filename: object = None) -> bytes:
        """Make a request whose reply is a path, and return that.

        Raises:
            RemoteProtocolError: it is more than one, or none.

        Beyond that as `ask`.
        """
        reply = await self.ask(packet, Name, filename)
        if len(reply.names) != 1:
            raise RemoteProtocolError(f"{len(reply.names)} names where one was due")
        path = reply.names[0].filename
        if b"\0" in path or len(path) > self.limits.path_bytes:
            raise RemoteProtocolError("a path with a NUL in it, or too long to be one")
        return path

    def submit(self, packet: Packet, waiter: Waiter) -> None:
        """Make a request whose reply goes to `waiter`, and don't wait.

        Raises:
            ConnectionLost, trio.ClosedResourceError: the session is over.
        """
        if self.failure is not None:
            raise self.lost()
        self.session.request(packet, waiter)
        self.flush()

    def flush(self) -> None:
        """Send what the session has sealed: at once if nothing is under way; else together with what others ask."""
        if self._is_flushing:
            pass  # it is a feeder who asks, and what it asks is sent next
        elif self.session.pending <= 1:
            self._flush(now=True)
        else:
            self.channel.call_before_rest()

    def close_later(self, handle: bytes) -> None:
        """Give back a handle that nobody has any more, and don't wait."""
        if self.failure is None:
            self.submit(Close(handle), Answer(self, Status))

    def _flush(self, *, now: bool) -> None:
        if self._is_flushing or self.failure is not None:
            return
        self._is_flushing = True  # what is sent may wake others who send
        try:
            outgoing = self.session.outgoing
            while outgoing or (self.feeders and self._feed()):
                if len(outgoing) > 1 and len(outgoing[0]) < _JOINED_BELOW:
                    self._join()
                packet = outgoing[0]
                taken = self.channel.try_send(packet)
                self.session.sealed_bytes += taken
                if taken < len(packet):
                    outgoing[0] = packet[taken:]
                    break
                outgoing.popleft()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.fail(error)
            return
        finally:
            self._is_flushing = False
        self.channel.flush(now=now)
        if self.session.sealed_bytes >= self._seals_at:
            self._seals_at = sys.maxsize
            self._sealing.unpark_all()

    def _feed(self) -> bool:
        for _ in range(len(self.feeders)):
            feeder = self.feeders[0]
            self.feeders.rotate(-1)
            if feeder.feed():
                return True
        return False

    @contextlib.contextmanager
    def fed_by(self, feeder: Feeder) -> Generator[None]:
        """Let `feeder` write whenever there is room, in this block."""
        self.feeders.append(feeder)
        try:
            self._flush(now=True)
            yield
        finally:
            self.feeders.remove(feeder)

    async def park_until_sealed(self, mark: int) -> None:
        """Sleep until so much in all may have been sealed, or something else has happened: look then."""
        self._seals_at = min(self._seals_at, mark)
        await self._sealing.park()

    def look_around(self) -> None:
        """Wake those who wait until more is sealed: there may be no point in waiting any more."""
        self._sealing.unpark_all()
        for feeder in self.feeders:
            feeder.wake()

    def _join(self) -> None:
        """Make one of the small packets that are to be sent next."""
        outgoing = self.session.outgoing
        joined = bytearray()
        while outgoing and len(outgoing[0]) < _JOINED_BELOW and len(joined) < _JOINED_BYTES:
            joined += outgoing.popleft()
        outgoing.appendleft(memoryview(joined))

    # -- what the channel tells: a `Tap`

    def on_data(self, batch: Batch) -> None:
        """Replies have arrived, or parts of some."""
        self.channel.credit(batch.size)
        if self.failure is not None:
            return
        try:
            receive_data = self.session.receive_data
            for piece in batch.pieces():
                receive_data(piece if isinstance(piece, memoryview) else memoryview(piece))
        except RemoteProtocolError as error:
            self.fail(error)
            return
        if self.session.has_begun:
            self._begun.set()
        self._flush(now=False)

    def on_end(self) -> None:
        """The server sends no more."""
        if self.failure is None:
            engine = self.channel._engine
            if engine.is_over and isinstance(lost := engine.lost(), trio.ClosedResourceError):
                self.fail(lost)
                return
            text = "the SFTP session ended"
            if engine.is_over:
                text += f", because {engine.lost()}"
            if not self.session.has_begun:
                said = printable(self.channel.stderr_kept(), 400)
                text = "the server ended the SFTP session before it began" + (f": {said}" if said else "")
            self.fail(ConnectionLost(text))

    def on_room(self) -> None:
        """There is room to send."""
        self._flush(now=False)

    # -- its end

    def fail(self, error: Exception) -> None:
        """End the session: everyone who waits hears why.  The connection goes on."""
        if self.failure is not None:
            return
        self.failure = error
        self._begun.set()
        self.look_around()
        for waiter in self.session.abandon():
            waiter.on_lost()
        self.channel.close_later()

    def lost(self) -> Exception:
        """Make the exception for whoever finds the session over."""
        if self._is_closed:
            return trio.ClosedResourceError("this SFTP session was closed here")
        failure = self.failure
        if isinstance(failure, trio.ClosedResourceError):
            return trio.ClosedResourceError(str(failure))
        if isinstance(failure, RemoteProtocolError):
            return RemoteProtocolError(str(failure))
        lost = ConnectionLost(str(failure))
        lost.__cause__ = failure
        return lost

    async def aclose(self) -> None:
        """End the session; requests that are under way fail with `trio.ClosedResourceError`."""
        self._is_closed = True
        self.fail(trio.ClosedResourceError("this SFTP session was closed here"))
        await self.channel.aclose()
