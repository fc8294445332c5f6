"""Two streams, joined: what comes from one goes to the other, with an EOF of its own for each direction."""

from __future__ import annotations

import trio

from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel


async def join_streams(one: trio.abc.HalfCloseableStream, other: trio.abc.HalfCloseableStream) -> None:
    """Carry bytes both ways until both directions have ended; then both streams are closed, as they always are.

    Raises:
        trio.BrokenResourceError: a side went away before both had said that they send no more.

    Cancelled, both are closed.  What was under way is lost.
    """
    async with one, other, bare_nursery() as nursery:
        nursery.start_soon(_carry, other, one)
        await _carry(one, other)


async def _carry(source: trio.abc.HalfCloseableStream, target: trio.abc.HalfCloseableStream) -> None:
    with trio.CancelScope() as scope:
        if isinstance(target, Channel):
            # Its peer takes no more: what the source would still say has no reader, and it may never say that it is
            # done.  What the peer has sent before it closed goes on in the other direction, up to its last byte.
            target.end_with_channel(scope)
        # A read is 64 KiB of a socket, and 256 KiB of a channel.
        while data := await source.receive_some():
            await target.send_all(data)
        await target.send_eof()
