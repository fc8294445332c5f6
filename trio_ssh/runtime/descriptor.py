"""A socket's reads and writes without the detour through an async method for what can be done at once.

`trio.SocketStream` makes every send and every receive that succeeds at once yield to the scheduler, which is right for
its users and costs two task switches per message here, where whoever writes is going to wait anyway.  Its descriptor
takes and gives the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_ssh.core.buffers import borrow, give_back
from trio_ssh.runtime.busy_poll import BusyPoll

#: The largest read.  Measured: a read of 256 KiB holds eight large packets and costs one task switch.
LARGEST_READ: Final = 256 * 1024

#: Bytes that wait in the system unsent, at most about so many: what is said next, on whichever channel, is behind them.
#: Measured: without a bound they are up to 4 MiB, and an upload to a peer nearby costs a sixth more CPU.
_UNSENT_BYTES: Final = 256 * 1024

#: Fewer bytes, read or written, are none of a transfer.
_WORD_BYTES: Final = 8 * 1024


def knows_least(system: str, release: str) -> bool:
    """Tell whether a system wakes who waits for much when it is told that little will do: Linux does since 4.18."""
    numbers = [int(digits) for digits in re.findall(r"\d+", release)[:2]]
    return system == "linux" and numbers >= [4, 18]


_UNSENT_OPTION: Final[int | None] = getattr(trio.socket, "TCP_NOTSENT_LOWAT", None)

KNOWS_LEAST: Final = sys.platform == "linux" and knows_least(sys.platform, os.uname().release)


#: The threads in which somebody polls.  A second one there would see nothing sooner.
_polling: Final[set[int]] = set()


class Descriptor:
    """The non-blocking descriptor of a socket stream, which stays its owner and closes it.

    Args:
        stream: the stream.
        poll_seconds: how long a read may poll before it sleeps; 0 for not at all.

    Attributes:
        least: bytes that `read` waits for, unless there were more than it could take the last time.
        is_short: the last read was, and so is what is waited for: this is no transfer.
    """

    __slots__ = (
        "_buffer",
        "_busy_poll",
        "_has_more",
        "_is_woken",
        "_knows_least",
        "_said",
        "_socket",
        "is_short",
        "least",
    )

    def __init__(self, stream: trio.SocketStream, poll_seconds: float = 0.0) -> None:
        self._socket = stream.socket
        self._busy_poll = BusyPoll(poll_seconds)
        self._is_woken = False
        #: Bytes written since the last read.
        self._said = 0
        self._buffer: bytearray | None = None
        #: The last read was as large as one can be, and what is left may be less than `least`.
        self._has_more = False
        is_tcp = stream.socket.family in (trio.socket.AF_INET, trio.socket.AF_INET6)
        self._knows_least = KNOWS_LEAST and is_tcp
        if is_tcp and _UNSENT_OPTION is not None:
            with contextlib.suppress(OSError):  # it is closed, or the system doesn't know
                stream.setsockopt(trio.socket.IPPROTO_TCP, _UNSENT_OPTION, _UNSENT_BYTES)
        self.least: int = 1
        self.is_short: bool = False

    def wake_for(self, least: int) -> None:
        """Let `read` wait for so many bytes, or for the end; where the system can't, for one.

        A read that is waiting already is woken for fewer, too.
        """
        if least != self.least and self._knows_least:
            with contextlib.suppress(OSError):  # it is closed
                self._socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVLOWAT, least)
            self.least = least

    def try_write(self, data: memoryview) -> int:
        """Write what fits without waiting; return how many bytes that were.

        0 also where the socket is broken: whoever goes on by `write_rest` finds out.
        """
        try:
            size = os.write(self._socket.fileno(), data)
        except OSError:
            return 0
        self._said += size
        return size

    async def write_rest(self, data: memoryview) -> None:
        """Wait for room, and write what `try_write` has left, all of it.

        Raises:
            trio.ClosedResourceError: the stream was closed here meanwhile.
            trio.BrokenResourceError: the connection broke.
        """
        while data:
            await self._wait(trio.lowlevel.wait_writable)
            try:
                size = os.write(self._socket.fileno(), data)
                self._said += size
                data = data[size:]
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._broken(error) from error

    async def _wait(self, until_ready: Callable[[trio.socket.SocketType], Awaitable[None]]) -> bool:
        """Wait for the socket; tell whether it is ready, and not only `wake` was called, which wakes both sides."""
        if self._socket.fileno() >= 0:
            try:
                await until_ready(self._socket)
            except trio.ClosedResourceError:
                if self._socket.fileno() >= 0:
                    return False
                raise
            return True
        raise trio.ClosedResourceError("this stream was closed here")

    def _broken(self, error: OSError) -> Exception:
        if self._socket.fileno() < 0:
            return trio.ClosedResourceError("this stream was closed here")
        return trio.BrokenResourceError(f"the socket connection broke: {error}")

    def close(self) -> None:
        """Close the socket at once; whoever waits for it is woken."""
        self._socket.close()

    def wake(self) -> None:
        """Let `read` return None, if it waits."""
        # Nothing is closed.  Measured: a cancel scope around each wait would do the same, for 15 us a round trip.
        trio.lowlevel.notify_closing(self._socket)
        self._is_woken = True

    async def _poll(self) -> bool:
        """Look again and again, for as long as polling may take: is there something, or was `wake` called?

        Others have their turns meanwhile.
        """
        thread = threading.get_ident()
        if thread in _polling or self._socket.fileno() < 0:
            return False
        self._is_woken = False
        until = time.perf_counter() + self._busy_poll.seconds
        sight = select.poll()
        sight.register(self._socket.fileno(), select.POLLIN)
        has_come = False
        try:
            _polling.add(thread)
            while not has_come and time.perf_counter() < until:
                await trio.lowlevel.checkpoint()
                has_come = self._is_woken or self._socket.fileno() < 0 or bool(sight.poll(0))
        finally:
            _polling.discard(thread)
        self._busy_poll.note_poll(in_vain=not has_come)
        return has_come

    async def read(self, *, may_poll: bool = False) -> memoryview | None:
        """Wait until `least` bytes can be read, and return what there is; nothing at EOF.

        None after `wake`, and where there is nothing after all.

        Args:
            may_poll: whether it may poll before it sleeps, where that pays: see `busy_poll`.

        It is in a buffer that is borrowed, up to `give_back`.  Measured: to take a fresh one for each read costs 5 % of
        a transfer's CPU.

        Raises:
            trio.ClosedResourceError: the stream was closed here meanwhile.
            trio.BrokenResourceError: the connection broke.
        """
        is_word = may_poll and self.is_short and self._said < _WORD_BYTES
        if self._has_more:
            self._has_more = False
            await trio.lowlevel.checkpoint()
        elif is_word and self._busy_poll.is_on and await self._poll():
            if self._is_woken:
                return None
        elif not await self._wait(trio.lowlevel.wait_readable):
            return None
        self._buffer = borrow()
        view = memoryview(self._buffer)[:LARGEST_READ]
        try:
            size = os.readv(self._socket.fileno(), (view,))
        except BlockingIOError:
            self.give_back()
            return None
        except OSError as error:
            self.give_back()
            raise self._broken(error) from error
        self._said = 0
        if is_word and size:
            self._busy_poll.note_word(size)
        self._has_more = size == LARGEST_READ
        self.is_short = size < _WORD_BYTES and self.least == 1
        return view[:size]

    def give_back(self) -> None:
        """What was read is dealt with.  To be called before anything is waited for: buffers belong to traffic."""
        if self._buffer is not None:
            give_back(self._buffer)
            self._buffer = None


def descriptor_of(stream: trio.abc.Stream, poll_seconds: float = 0.0) -> Descriptor | None:
    """Return a stream's descriptor, if it is a socket whose descriptor is like that of a file."""
    return Descriptor(stream, poll_seconds) if isinstance(stream, trio.SocketStream) and os.name == "posix" else None
