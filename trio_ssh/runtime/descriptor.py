"""A socket's reads and writes without the detour through an async method for what can be done at once.

`trio.SocketStream` makes every send and every receive that succeeds at once yield to the scheduler, which is right for
its users and costs two task switches per message here, where whoever writes is going to wait anyway.  Its descriptor
takes and gives the same bytes.
"""

from __future__ import annotations

import os

import trio


class Descriptor:
    """The non-blocking descriptor of a socket stream, which stays its owner and closes it."""

    __slots__ = ("_socket",)

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket

    def try_write(self, data: memoryview) -> int:
        """Write what fits without waiting; return how many bytes that were.

        0 also where the socket is broken: whoever goes on by way of the stream finds out.
        """
        try:
            return os.write(self._socket.fileno(), data)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the socket at once; whoever waits for it is woken."""
        self._socket.close()

    async def read(self, size: int) -> bytes:
        """Wait until something can be read; return 1 .. `size` bytes, or ``b""`` at EOF.

        Raises:
            trio.ClosedResourceError: the stream was closed here meanwhile.
            trio.BrokenResourceError: the connection broke.
        """
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), size)
            except BlockingIOError:
                continue
            except OSError as error:
                if self._socket.fileno() < 0:
                    raise trio.ClosedResourceError("this stream was closed here") from None
                raise trio.BrokenResourceError(f"the socket connection broke: {error}") from error


def descriptor_of(stream: trio.abc.Stream) -> Descriptor | None:
    """Return a stream's descriptor, if it is a socket whose descriptor is like that of a file."""
    return Descriptor(stream) if isinstance(stream, trio.SocketStream) and os.name == "posix" else None
