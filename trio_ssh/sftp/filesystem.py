"""A directory of this machine, served: `LocalSFTPServer`.

A disk may be slow, so files are used in threads.  Measured: going to a thread and back costs 70 to 220 us, as much as
reading 255 KiB twice.  So a thread takes request after request from the session's queue until none is left, and replies
come back by the batch.  While all that a session has are stuck, such as on a disk that hangs, another thread takes
those requests that don't depend on theirs: up to one for each request that may be under way.  A thread that finds
nothing to do ends.

Blocks of large files that are in memory wait for nothing (`in_memory`), and trio's thread answers them itself, as there
is room to send: then what is sealed is still in the processor's cache.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio

from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel
from trio_ssh.session import ServerProcess
from trio_ssh.sftp.budget import THREADS
from trio_ssh.sftp.directory import LocalFiles
from trio_ssh.sftp.dispatch import Answered, Dispatcher, run_at_once
from trio_ssh.sftp.messages import Read
from trio_ssh.sftp.order import Job
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, KIB, MIB, SFTPLimits
from trio_ssh.sftp.server import ServerLink, SFTPServer, exit_status
from trio_ssh.sftp.session import WriteParts

#: Seconds without an answer after which a session's threads are taken for stuck, and one more is started.
STUCK_SECONDS: Final = 0.02

#: Seconds that trio's thread waits for a single answer: the disk may take longer, and others mustn't notice.
AWAITED_SECONDS: Final = 0.0003

#: Bytes that are read or written in trio's thread, where they are in memory, before others have their turn; and what
#: each request counts besides, in time: 25 us.
_NOW_BYTES: Final = 512 * KIB
_NOW_COST: Final = 16 * KIB

#: Blocks in a row that a thread finds in memory before it leaves them to trio's.  To come back costs 100 us.
_AT_HAND: Final = 8

#: Bytes of replies that a thread gathers before it hands them over while it has more to do: what fills an outbox twice.
_HANDED_BYTES: Final = 1 * MIB

#: Seconds that a session's end waits for threads; those that are stuck close what is open when they come back.
_PATIENCE_SECONDS: Final = 1.0


class ThreadLink(ServerLink):
    """Serves requests in threads, by an interface whose methods never wait; and in trio's what needs none."""

    def __init__(self, channel: Channel, dispatcher: Dispatcher, limits: SFTPLimits, files: LocalFiles) -> None:
        super().__init__(channel, dispatcher, limits)
        self._files = files
        self._token = trio.lowlevel.current_trio_token()
        #: Guards the queue and what is counted here; nothing is done while it is held that takes time.
        self._lock = threading.Lock()
        self._workers = 0
        #: Threads besides the first.
        self._threads = THREADS.part()
        self._is_bulk = False
        #: What trio's thread may still do in this step; and whether it has left something for the next.
        self._now_left = 0
        self._has_left_over = False
        self._is_stopped = False
        self._finished: deque[tuple[Job, Answered]] = deque()
        #: Whether trio's thread waits for this one, and what it waits at.
        self._is_awaited = False
        self._handed = threading.Lock()
        self._handed.acquire()
        self._progress = 0
        self._wakeup = trio.Event()
        #: Set when no thread is at work and everything is closed.
        self.closed: trio.Event = trio.Event()

    # -- in trio's thread

    def enqueue(self, job: Job) -> None:
        """Add a job to `queue`, which a thread may be looking through."""
        request = job.request
        # Whoever sends or wants a block has others under way: trio's thread has better things to do than to wait.
        self._is_bulk = isinstance(request, WriteParts | Read)
        with self._lock:
            self.queue.add(job)

    def serve(self) -> None:
        """Have a thread take what there is, unless nothing in it waits."""
        with self._lock:
            if self._workers or self._is_stopped:
                return
        # There is no thread, and only this one starts any.
        if self._serve_now():
            return
        with self._lock:
            self._workers = 1
            self._is_awaited = self.queue.waiting == 1 and not self._is_bulk
            is_awaited = self._is_awaited
        self._start()
        self._wakeup.set()
        if is_awaited:
            # A client that asks one thing after another waits for each answer: let it leave with this read's, if it is
            # there in a moment.  Measured: two thirds of the time, and of the work, of waking trio's thread for it.
            self._handed.acquire(timeout=AWAITED_SECONDS)
            with self._lock:
                self._is_awaited = False
                self._handed.acquire(blocking=False)
            self._take_over()

    def advance(self, *, now: bool) -> None:
        """Read, serve and send as far as each may go in one step."""
        self._now_left = _NOW_BYTES
        super().advance(now=now)
        # What waits to be sent calls again when there is room; where all of it was sent, nobody else does.
        if self._has_left_over and not self._session.outgoing:
            self._has_left_over = False
            self._channel.call_before_rest()

    def _serve_now(self) -> bool:
        """Answer what is about files in memory; tell whether no thread is wanted."""
        queue = self.queue
        while (job := queue.first) is not None:
            if not self.dispatcher.is_at_hand(job.request):
                return False
            # What is read when there is room to send it is sealed while it is in the cache.
            if self._now_left <= 0 or self._session.outgoing_bytes >= _NOW_BYTES:
                self._has_left_over = True
                return True
            answered = self.dispatcher.answer_now(job.number, job.request)
            if answered is None:
                return False
            queue.drop_first()
            self.answered(job, answered)
            size = job.request.size if isinstance(job.request, WriteParts) else len(answered)
            self._now_left -= _NOW_COST + size
        return True

    def _start(self) -> None:
        trio.lowlevel.start_thread_soon(self._work, lambda outcome: outcome.unwrap(), "trio_ssh SFTP")

    async def watch(self) -> None:
        """Start another thread when all that there are seem stuck, and something waits that need not."""
        while True:
            await self._wakeup.wait()
            before = self._progress
            await trio.sleep(STUCK_SECONDS)
            with self._lock:
                if not self._workers:
                    self._wakeup = trio.Event()
                    continue
                is_stuck = self._progress == before and bool(self.queue.waiting)
                is_stuck = is_stuck and self._workers < self._limits.requests and self._threads.take()
                if is_stuck:
                    self._workers += 1
            if is_stuck:
                self._start()

    def _take_over(self) -> None:
        finished = self._finished
        while finished:
            self.answered(*finished.popleft())

    def _deliver(self) -> None:
        """Take over what threads have finished."""
        self._take_over()
        if not self.over.is_set():
            self.advance(now=True)

    def end(self) -> None:
        """Serve nothing any more; whoever is last closes what is open."""
        self.stop()
        with self._lock:
            self._is_stopped = True
            self.queue.clear()
            if self._workers:
                return
            self._workers = 1
        self._start()

    # -- in a thread

    def _work(self) -> None:
        """Serve what need not wait, until there is no more of it."""
        queue = self.queue
        answer, is_at_hand = self.dispatcher.answer, self.dispatcher.is_at_hand
        gathered = at_hand = 0
        while True:
            with self._lock:
                first = queue.first
                at_hand = at_hand + 1 if first is not None and is_at_hand(first.request) else 0
                job = queue.take() if at_hand <= _AT_HAND else None
                if job is None:
                    self._workers -= 1
                    if self._workers:
                        self._threads.give_back()
                    is_last = self._is_stopped and not self._workers
                    break
            answered = run_at_once(answer(job.number, job.request))
            with self._lock:
                queue.finish(job)
                self._progress += 1
            self._finished.append((job, answered))
            gathered += len(answered)
            if gathered >= _HANDED_BYTES:
                gathered = 0
                self._hand_over()
        if is_last:
            self._close()
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            if self._is_awaited:
                self._is_awaited = False
                self._handed.release()
                return
        self._run_soon(self._deliver)

    def _run_soon(self, function: Callable[[], None]) -> None:
        # Trio may have ended while this thread was stuck.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, idempotent=True)

    def _close(self) -> None:
        """Close everything: no other thread is at work any more."""
        try:
            self._files.abandon_uploads()
            run_at_once(self.dispatcher.close_all())
            run_at_once(self._files.session_ended())
        finally:
            self._run_soon(self.closed.set)


class LocalSFTPServer(SFTPServer):
    """Serves a directory of this machine, and nothing outside of it; a handler for `ServerInterface.subsystems`.

        class Server(trio_ssh.ServerInterface):
            subsystems = {"sftp": trio_ssh.LocalSFTPServer("/srv/files")}

    To the client the directory is ``/``.  No path, symbolic link or race leads out of it: links are followed as after
    chroot(2).  Files belong to whoever runs the server, whoever logged in.

    Args:
        root: the directory.
        read_only: whether everything is refused that would change something.
        umask: permissions that nothing gets that is made, such as ``0o077``; None for the process' own.
        follow_symlinks: whether links are followed at all.
        atomic_uploads: whether a file that is written anew appears under its name only when it is closed, whole; until
            then it has a name that clients don't see. What is broken off leaves nothing behind, and where a write has
            failed, closing does, too.
        max_handles: files and directories that are open at once, of each session; None for ``limits.handles``.
        limits: what one session may make us hold.

    The sessions of all servers of one process have half of its descriptors (``RLIMIT_NOFILE``) for what is open, and
    none of them has more than it leaves to the others: beyond that, opening is refused, and all else goes on.

    Files are used in threads, so that a disk that hangs stalls the requests that need it, and no others, until as many
    hang as ``limits.requests`` says.  There are two exceptions.  The answer to a request that is alone under way is
    waited for in trio's thread, for 0.3 milliseconds at the most.  And what Linux says is in memory of a large file is
    read there; on tmpfs it is written there, too.

    Plain files and directories are served.  FIFOs, sockets, devices and what is in /proc can be listed, renamed and
    removed, not opened.
    """

    def __init__(
        self,
        root: str | bytes | os.PathLike[str],
        *,
        read_only: bool = False,
        umask: int | None = None,
        follow_symlinks: bool = True,
        atomic_uploads: bool = False,
        max_handles: int | None = None,
        limits: SFTPLimits = DEFAULT_SFTP_LIMITS,
    ) -> None:
        if umask is not None and not 0 <= umask <= 0o777:
            raise ValueError(f"umask is between 0 and 0o777, not {umask:#o}")
        if max_handles is not None:
            if max_handles < 1:
                raise ValueError(f"max_handles is at least 1, not {max_handles}")
            limits = attrs.evolve(limits, handles=max_handles)

        def make(process: ServerProcess) -> LocalFiles:
            return LocalFiles(
                process,
                root,
                read_only=read_only,
                umask=umask,
                follow_symlinks=follow_symlinks,
                atomic_uploads=atomic_uploads,
            )

        super().__init__(make, limits=limits)
        self._make_files = make

    async def handle(self, process: ServerProcess) -> int:
        """Serve a session to its end; return its exit status.

        Raises:
            OSError: the directory can't be opened.
        """
        files = self._make_files(process)
        dispatcher = Dispatcher(files, self._limits)
        await trio.to_thread.run_sync(lambda: run_at_once(files.session_started()))
        link = ThreadLink(process.channel, dispatcher, self._limits, files)
        files.is_over = link.over.is_set
        try:
            async with bare_nursery() as nursery:
                nursery.start_soon(link.watch)
                process.channel.attach(link)
                await link.over.wait()
                nursery.cancel_scope.cancel()
        finally:
            link.end()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _PATIENCE_SECONDS):
                await link.closed.wait()
        return exit_status(link, process)
