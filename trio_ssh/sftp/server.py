"""An SFTP server on a channel: `SFTPServer` runs an interface of yours, each request in a task.

Requests are read in the connection's reader and answered from its writer, with no task between; in between, whoever
serves takes as many as may run at the same time.  Nothing is read of a client that has enough under way: what it sent
stays on its channel's window, which bounds it.  A client that doesn't take its replies is not served any further.
"""

from __future__ import annotations

import contextlib
import logging
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from typing import Final

import trio

from trio_ssh.core.channel import Batch
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel
from trio_ssh.session import ServerProcess, SubsystemHandler
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.dispatch import Answered, Dispatcher
from trio_ssh.sftp.interface import SFTPServerInterface
from trio_ssh.sftp.local_file import set_attributes
from trio_ssh.sftp.order import Job, Queue
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, SFTPLimits, StatusCode
from trio_ssh.sftp.session import ServerSession, WriteParts
from trio_ssh.sftp.status import CODES

_log = logging.getLogger("trio_ssh.sftp")

#: The exit status of a session that broke the protocol.
_BROKEN_STATUS: Final = 1

#: Seconds that an interface may take to close what a session left open.
_CLOSING_SECONDS: Final = 10.0


class ServerLink(ABC):
    """A session and its channel: what is under way, and what holds it back.  A `Tap`.

    Attributes:
        dispatcher: answers.
        queue: requests that were read and not answered.
        over: set when nothing is served any more.
        failure: how the client broke the protocol, or None.
    """

    def __init__(self, channel: Channel, dispatcher: Dispatcher, limits: SFTPLimits) -> None:
        self.dispatcher = dispatcher
        self.queue: Queue = Queue(dispatcher.path_of, limits.path_bytes)
        self.over: trio.Event = trio.Event()
        self.failure: RemoteProtocolError | None = None
        self._channel = channel
        self._limits = limits
        self._session = ServerSession(limits, dispatcher.extensions)
        #: What has arrived and was not walked; bytes that are on the window; and bytes of WRITEs that are not written.
        self._unread: deque[memoryview] = deque()
        self._owed = 0
        self._held_bytes = 0
        #: Bytes that the replies of what is under way may take.
        self._reserved = 0
        self._has_eof = False
        self._is_advancing = False

    @abstractmethod
    def serve(self) -> None:
        """Start what may be started of `queue`."""

    # -- what the channel tells: a `Tap`

    def on_data(self, batch: Batch) -> None:
        """Requests have arrived, or parts of some."""
        self._owed += batch.size
        self._unread.extend(memoryview(piece) for piece in batch.pieces())
        self.advance(now=False)

    def on_end(self) -> None:
        """The client sends no more; what it has sent is still served."""
        self._has_eof = True
        self._end_if_idle()

    def on_room(self) -> None:
        """There is room to send."""
        self.advance(now=False)

    # -- what goes on

    def advance(self, *, now: bool) -> None:
        """Read, serve and send as far as each may go.

        Args:
            now: send what can be sent; not where the reader or the writer calls, who send when they come back.
        """
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            self._send()
            self._read()
            self._send()
            # What was answered at once, and sent, leaves room that nobody else will notice.
            while self._session.arrived and not self._reserved and not self._session.outgoing:
                self._read()
                self._send()
        except RemoteProtocolError as error:
            self.failure = error
            self.stop()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.stop()  # the client is gone, and its handler is cancelled
        finally:
            self._is_advancing = False
        if not self.over.is_set():
            self._channel.flush(now=now)
            self._end_if_idle()

    def _read(self) -> None:
        while not self.over.is_set():
            self._admit()
            if not self._unread or self._session.is_full:
                break
            rest = self._session.receive_data(self._unread[0])
            if rest:
                self._unread[0] = rest
            else:
                self._unread.popleft()
        # What waits behind the end of a session isn't served: its tasks may be gone.
        if self.queue.waiting and not self.over.is_set():
            self.serve()
        # Measured by what it bounds: a WRITE that is held was on the window before, and leaves it to the next.
        if self._owed and not self._unread and self._held_bytes <= self._limits.reply_bytes:
            owed, self._owed = self._owed, 0
            self._channel.credit(owed)

    def _admit(self) -> None:
        """Take in what has arrived, as far as the limits allow."""
        arrived = self._session.arrived
        limits = self._limits
        queue = self.queue
        while arrived and queue.waiting + queue.running < limits.requests:
            number, request = arrived[0]
            cost = self.dispatcher.cost(request)
            held = self._session.outgoing_bytes + self._reserved
            # One request is always served: a single reply may be longer than all may be together.
            if held and held + cost > limits.reply_bytes:
                break
            arrived.popleft()
            self._reserved += cost
            if isinstance(request, WriteParts):
                self._held_bytes += request.size
            self.enqueue(Job(number, request, cost))

    def enqueue(self, job: Job) -> None:
        """Add a job to `queue`."""
        self.queue.add(job)

    def answered(self, job: Job, answer: Answered) -> None:
        """A job of `queue`, which has finished there, has its reply."""
        self._reserved -= job.cost
        if isinstance(job.request, WriteParts):
            self._held_bytes -= job.request.size
        if isinstance(answer, memoryview):
            self._session.data_in_place(job.number, answer)
        else:
            self._session.reply_in_frame(answer)

    def _send(self) -> None:
        session = self._session
        while session.outgoing:
            packet = session.outgoing[0]
            taken = self._channel.try_send(memoryview(packet))
            is_short = taken < len(packet)
            if taken:
                self.dispatcher.buffers.give_back(session.sent(taken))
            if is_short:
                return

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be served or sent."""
        session = self._session
        return not (self._unread or session.arrived or self._reserved or session.outgoing)

    def _end_if_idle(self) -> None:
        if self._has_eof and self.is_idle:
            self.over.set()

    def stop(self) -> None:
        """Serve nothing any more."""
        self.over.set()
        self._unread.clear()
        self._session.arrived.clear()


class TaskLink(ServerLink):
    """Serves each request in a task."""

    def __init__(self, channel: Channel, dispatcher: Dispatcher, limits: SFTPLimits, nursery: trio.Nursery) -> None:
        super().__init__(channel, dispatcher, limits)
        self._nursery = nursery

    def serve(self) -> None:
        """Start a task for each request that need not wait for another."""
        while (job := self.queue.take()) is not None:
            self._nursery.start_soon(self._serve, job)

    async def _serve(self, job: Job) -> None:
        answer = await self.dispatcher.answer(job.number, job.request)
        self.queue.finish(job)
        self.answered(job, answer)
        if self.queue.waiting:
            self.serve()
        if self.queue.running:
            # Others may be about to answer, too: all of it leaves together.
            self._channel.call_before_rest()
        else:
            self.advance(now=True)


class SFTPServer(SubsystemHandler):
    """Serves SFTP by an interface of yours; a handler for `ServerInterface.subsystems`.

        class Server(trio_ssh.ServerInterface):
            subsystems = {"sftp": trio_ssh.SFTPServer(MyFiles)}

    Args:
        make_interface: called with the session's `ServerProcess` for each session: an `SFTPServerInterface` subclass,
            or any function that returns an instance.
        limits: what one session may make us hold.

    An instance keeps nothing of a session, and may serve any number.
    """

    def __init__(
        self,
        make_interface: Callable[[ServerProcess], SFTPServerInterface],
        *,
        limits: SFTPLimits = DEFAULT_SFTP_LIMITS,
    ) -> None:
        self._make_interface = make_interface
        self._limits = limits

    @staticmethod
    def convert_errno(e: int) -> StatusCode:
        """Return the code that a client gets for an errno.

        For looking up alone: what a method of an `SFTPServerInterface` has to say, it raises, as `OSError`.
        """
        return CODES.get(e, StatusCode.FAILURE) if e else StatusCode.OK

    @staticmethod
    async def set_file_attr(filename: str | bytes | os.PathLike[str], attr: SFTPAttributes) -> None:
        """Set those attributes of a file of this machine that are not None, in a thread; links are followed.

        Raises:
            OSError: something can't be set; what comes before it is.
        """
        await trio.to_thread.run_sync(_set_file_attributes, os.fsencode(filename), attr)

    async def handle(self, process: ServerProcess) -> int:
        """Serve a session to its end; return its exit status."""
        interface = self._make_interface(process)
        dispatcher = Dispatcher(interface, self._limits)
        try:
            await interface.session_started()
            async with bare_nursery() as nursery:
                link = TaskLink(process.channel, dispatcher, self._limits, nursery)
                process.channel.attach(link)
                await link.over.wait()
                link.stop()
                nursery.cancel_scope.cancel()
        finally:
            try:
                with _in_time(process, "close its files"):
                    # One that takes long is not to keep another open.
                    async with bare_nursery() as closing:  # noqa: ASYNC102 -- `_in_time` shields it
                        for close in dispatcher.closings():
                            closing.start_soon(close)
            finally:
                with _in_time(process, "end its session"):
                    await interface.session_ended()  # noqa: ASYNC102 -- so here
        return exit_status(link, process)


@contextlib.contextmanager
def _in_time(process: ServerProcess, what: str) -> Generator[None]:
    """Let an interface clean up, whoever is cancelled, and not for ever."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING_SECONDS) as closing:
        yield
    if closing.cancelled_caught:
        _log.error("the interface of %r did not %s within %g seconds", process, what, _CLOSING_SECONDS)


def _set_file_attributes(path: bytes, attr: SFTPAttributes) -> None:
    if attr.st_size is not None:
        os.truncate(path, attr.st_size)
    set_attributes(path, attr)


def exit_status(link: ServerLink, process: ServerProcess) -> int:
    """Return a session's exit status, and log what the client did wrong."""
    if link.failure is None:
        return 0
    _log.info("%r was ended: %s", process, link.failure)
    return _BROKEN_STATUS
