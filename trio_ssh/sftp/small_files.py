"""Many small files at once, and no task for any of them.

A small file costs two or three requests.  Each next one is made where the reply to the last one is dealt with, in the
connection's reader, so that a file costs no task switch.  What is complete gathers, and one task deals with all of it
in one piece: a hop into a thread costs more than a small file does otherwise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import trio

from trio_ssh.core.channel import Batch
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link, Share, as_error
from trio_ssh.sftp.messages import Attrs, Close, Data, Fsetstat, Handle, Lstat, Open, Packet, Remove, Status
from trio_ssh.sftp.protocol import HANDLE_BYTES, KIB, MIB, OpenFlags, StatusCode
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.remote_writer import remote_part, rename_over
from trio_ssh.sftp.round import FORGOTTEN, request_later
from trio_ssh.sftp.session import ClientSession, ReplyWaiter

T = TypeVar("T")

#: The largest file that counts as small, if one READ or WRITE carries it.
SMALL_BYTES: Final = 64 * KIB

#: Files that wait for their turn at the most.
_WAITING: Final = 512

#: Whoever deals with what is complete is woken for so many files, or bytes, or where nothing else is under way.
_GATHERED: Final = 48
_GATHERED_BYTES: Final = 2 * MIB

#: Room for the head of a WRITE whose handle is as long as handles may be.
HEAD_ROOM: Final = ClientSession.write_head_size(bytes(HANDLE_BYTES))

_NO_ATTRIBUTES: Final = SFTPAttributes()


def small_bytes(link: Link) -> int:
    """Return the size of the largest file that is small to this server."""
    return min(SMALL_BYTES, link.read_bytes - 1, link.write_bytes)


class SmallFile(ReplyWaiter, Generic[T]):
    """One file on its way.  It is what waits for the replies.

    Attributes:
        item: what it is to whoever deals with it.
        path: on the server.
        error: why it failed.
        is_odd: it is not what it seemed to be, and has to be transferred as large files are.
        expects, asked: see `Waiter`.
    """

    def __init__(self, item: T, path: bytes, size: int) -> None:
        super().__init__(Handle)
        self.item: T = item
        self.path: bytes = path
        self.size: int = size
        self.error: Exception | None = None
        self.is_odd: bool = False
        self._pool: SmallFiles[T] | None = None

    @property
    def pool(self) -> SmallFiles[T]:
        """Whose it is, from `start` on."""
        assert self._pool is not None, "it was started"
        return self._pool

    def start(self, pool: SmallFiles[T]) -> None:
        """Make the first request."""
        self._pool = pool
        self.open(pool.link)

    @abstractmethod
    def open(self, link: Link) -> None:
        """Ask for a handle."""

    @abstractmethod
    def on_reply(self, reply: Packet) -> None:
        """Go on."""

    def release(self) -> None:
        """It is done, or nobody wants it any more: others may have its names."""

    def on_lost(self) -> None:
        """The session has ended."""
        if self.error is None:
            self.error = self.pool.link.lost()
            self.pool.on_done(self)

    def _expect(self, kind: type[Packet], *, asked: int = 0) -> None:
        self.expects = kind
        self.asked = asked

    def _done(self, *, is_odd: bool) -> None:
        self.is_odd = is_odd
        self.pool.on_done(self)

    def _fail(self, status: Status) -> None:
        self.error = as_error(status, decoded(self.path))
        self.pool.on_done(self)


class SmallGet(SmallFile[T]):
    """A file that is being read.

    Attributes:
        parts: what it holds.
    """

    def __init__(self, item: T, path: bytes, size: int) -> None:
        super().__init__(item, path, size)
        self.parts: Batch = Batch()

    def open(self, link: Link) -> None:
        """Ask for a handle."""
        link.session.request(Open(self.path, OpenFlags.READ, _NO_ATTRIBUTES), self)

    def on_reply(self, reply: Packet) -> None:
        """The handle: read, and close.  Or an error; or an EOF, where it is empty."""
        link = self.pool.link
        if isinstance(reply, Handle):
            if self.pool.is_stopped:
                request_later(link, Close(reply.handle))
                self.pool.on_done(self)
                return
            # filexfer-02 s6.4 guarantees that a regular file's READ brings all that there is.  To ask for one byte more
            # than there should be, and not to get it, is to see the file's end, at no cost.
            self._expect(Data, asked=self.size + 1)
            link.session.read(reply.handle, 0, self.asked, self)
            link.session.request(Close(reply.handle), FORGOTTEN)
            link.flush()
            return
        assert isinstance(reply, Status), "a handle or a status was due"
        if self.expects is Data and reply.code == StatusCode.EOF:
            self._done(is_odd=bool(self.size))
        else:
            self._fail(reply)

    def on_data(self, part: memoryview, left: int) -> None:
        """A part has come."""
        if not self.pool.is_stopped:
            self.parts.add(part)
        if not left:
            self._done(is_odd=self.parts.size != self.size)


class SmallPut(SmallFile[T]):
    """A file that is being written.

    Args:
        data: `HEAD_ROOM` bytes, and what the file holds.
        attributes: what it is made with.
        finish: what it gets in the end, or None; without permissions, those of the file that it replaces, if there is
            one.
        atomic: write a part and rename it; needs ``posix-rename``.
        looks: there may be something of its name already.
    """

    def __init__(
        self,
        item: T,
        path: bytes,
        data: memoryview,
        attributes: SFTPAttributes,
        finish: SFTPAttributes | None,
        *,
        atomic: bool,
        looks: bool,
    ) -> None:
        super().__init__(item, path, len(data) - HEAD_ROOM)
        self._data = data
        self._attributes = attributes
        self._finish = finish
        self._written = path
        self._is_atomic = atomic
        if atomic:
            self._written = remote_part(path)
        self._claimed: tuple[bytes, ...] = ()
        self._handle: bytes | None = None
        self._is_looking = atomic and looks
        self._there = _NO_ATTRIBUTES
        self._left = 0
        self._failure: Status | None = None
        self._is_renaming = False

    def open(self, link: Link) -> None:
        """Ask for a handle, and for what is to be replaced."""
        if self._is_atomic:
            names = self._written, self.path
            if not link.parts.isdisjoint(names):
                self._done(is_odd=True)  # whoever puts large files says what is wrong
                return
            link.parts.update(names)
            self._claimed = names
        if self._is_looking:
            link.session.request(Lstat(self.path), _Look(self))
        flags = OpenFlags.WRITE | OpenFlags.CREATE | (OpenFlags.EXCLUSIVE if self._is_atomic else OpenFlags.TRUNCATE)
        link.session.request(Open(self._written, flags, self._attributes), self)

    def release(self) -> None:
        """Others may have its names."""
        self.pool.link.parts.difference_update(self._claimed)
        self._claimed = ()

    def on_look(self, attributes: SFTPAttributes) -> None:
        """What is to be replaced is known, or that nothing is."""
        self._is_looking = False
        self._there = attributes
        if self._handle is not None:
            self._write(self._handle)

    def on_look_lost(self) -> None:
        """The session has ended; without a handle, the request for that hears of it, or it is done already."""
        if self._is_looking and self._handle is not None:
            self.on_lost()

    def on_reply(self, reply: Packet) -> None:
        """The handle: write, set, close.  Then rename.  Then that is all."""
        if isinstance(reply, Handle):
            self._handle = reply.handle
            if not self._is_looking:
                self._write(reply.handle)
            return
        assert isinstance(reply, Status), "a handle or a status was due"
        if self.expects is Handle:
            # A part may be there, or the server may have its reasons: whoever puts large files finds out.
            self.is_odd = True
            self.pool.on_done(self)
            return
        if reply.code != StatusCode.OK and self._failure is None:
            self._failure = reply
        self._left -= 1
        if self._left:
            return
        link = self.pool.link
        if self._failure is not None:
            if self._is_atomic:
                request_later(link, Remove(self._written))
            self._fail(self._failure)
        elif self._is_atomic and not self._is_renaming:
            self._is_renaming = True
            self._left = 1
            link.session.request(rename_over(link, self._written, self.path), self)
            link.flush()
        else:
            self.pool.on_done(self)

    def _write(self, handle: bytes) -> None:
        link = self.pool.link
        there = self._there
        is_odd = there.st_mode is not None and not there.is_file()
        if self.pool.is_stopped or is_odd:
            request_later(link, Close(handle), *((Remove(self._written),) if self._is_atomic else ()))
            self._done(is_odd=is_odd)
            return
        self._expect(Status)
        self._left = 1
        if there.st_mode is not None and (self._finish is None or self._finish.st_mode is None):
            # Before there is anything in it that others may not read.  Servers that can't are none the worse.
            replaced = SFTPAttributes(st_mode=there.st_mode & 0o777)
            link.session.request(Fsetstat(handle, replaced), FORGOTTEN)
        if self.size:
            self._left += 1
            head = link.session.write_head_size(handle)
            link.session.write_in_place(self._data[HEAD_ROOM - head :], handle, 0, self)
        if self._finish is not None:
            self._left += 1
            link.session.request(Fsetstat(handle, self._finish), self)
        link.session.request(Close(handle), self)
        link.flush()


class _Look(ReplyWaiter):
    """Waits for what is said of a file that is to be replaced."""

    __slots__ = ("_file",)

    def __init__(self, file: SmallPut[Any]) -> None:
        super().__init__(Attrs)
        self._file = file

    def on_reply(self, reply: Packet) -> None:
        """Tell the file."""
        self._file.on_look(reply.attributes if isinstance(reply, Attrs) else _NO_ATTRIBUTES)

    def on_lost(self) -> None:
        """The session has ended."""
        self._file.on_look_lost()


class SmallFiles(Generic[T]):
    """Files on their way, so many at a time.

    Args:
        at_once: files under way, from their first request to their last reply.
        deal: takes what is complete, in the task of `run`.

    Attributes:
        is_stopped: nobody wants them any more.
    """

    def __init__(self, link: Link, at_once: int, deal: Callable[[list[SmallFile[T]]], Awaitable[None]]) -> None:
        self.link = link
        self.is_stopped: bool = False
        self._at_once = at_once
        self._deal = deal
        self._share = Share(link)
        self._waiting: deque[SmallFile[T]] = deque()
        self._done: list[SmallFile[T]] = []
        self._done_bytes = 0
        self._under_way: set[SmallFile[T]] = set()
        self._has_all = False
        self._bell = trio.Event()
        self._room = trio.lowlevel.ParkingLot()

    async def wait_room(self) -> None:
        """Wait until more files may be added.  A checkpoint only if it waits."""
        while len(self._waiting) >= _WAITING:
            await self._room.park()

    def add(self, file: SmallFile[T]) -> None:
        """Transfer a file as soon as it is its turn."""
        self._waiting.append(file)

    def go(self) -> None:
        """Begin with what was added, as far as there is room."""
        has_begun = False
        while self._waiting and len(self._under_way) < self._at_once and not self.is_stopped:
            if self.link.failure is not None:
                self._bell.set()
                break
            file = self._waiting[0]
            if not self._share.take(file.size + 1):
                break
            self._waiting.popleft()
            self._under_way.add(file)
            file.start(self)
            has_begun = True
        if has_begun:
            self.link.flush()

    def add_no_more(self) -> None:
        """Let `run` end when all is done."""
        self._has_all = True
        self._bell.set()

    def on_done(self, file: SmallFile[T]) -> None:
        """A file is complete, or failed."""
        self._under_way.discard(file)
        file.release()
        if self.is_stopped:
            self._share.give_back(file.size + 1)
            return
        self._done.append(file)
        self._done_bytes += file.size
        self.go()
        if len(self._done) >= _GATHERED or self._done_bytes >= _GATHERED_BYTES or not self._under_way:
            self._bell.set()

    async def run(self) -> None:
        """Deal with what is complete, until `add_no_more`.

        Raises:
            ConnectionLost: the session ended.
        """
        try:
            while not (self._has_all and not self._waiting and not self._under_way and not self._done):
                await self._bell.wait()
                self._bell = trio.Event()
                done, self._done, self._done_bytes = self._done, [], 0
                try:
                    if done:
                        await self._deal(done)
                finally:
                    for file in done:
                        self._share.give_back(file.size + 1)
                if self.link.failure is not None:
                    raise self.link.lost()
                self.go()
                self._room.unpark_all()
        finally:
            self._stop()

    def _stop(self) -> None:
        self.is_stopped = True
        for file in self._under_way:
            file.release()
        for file in self._done:
            self._share.give_back(file.size + 1)
        self._done.clear()
        self._waiting.clear()
