"""A socket's descriptor: what the system is told, and what is written."""

from __future__ import annotations

import pytest
import trio

from trio_ssh.runtime.descriptor import Descriptor, descriptor_of
from trio_ssh.testing import memory_pair

UNSENT = getattr(trio.socket, "TCP_NOTSENT_LOWAT", None)


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return two ends of a TCP connection."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()


def test_only_a_socket_has_one() -> None:
    ours, _ = memory_pair()
    assert descriptor_of(ours) is None


@pytest.mark.skipif(UNSENT is None, reason="this system knows no bound of what is unsent")
async def test_little_waits_unsent_in_the_system() -> None:
    """What is said next, on whichever channel, waits behind it."""
    assert UNSENT is not None
    ours, theirs = await tcp_pair()
    async with ours, theirs:
        Descriptor(ours)
        assert ours.getsockopt(trio.socket.IPPROTO_TCP, UNSENT) == 256 * 1024


async def test_a_socket_that_knows_no_such_bound_is_as_good() -> None:
    ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair())
    async with ours, theirs:
        descriptor = Descriptor(ours)
        assert descriptor.try_write(memoryview(b"word")) == 4
        assert await theirs.receive_some() == b"word"


async def test_a_socket_that_is_closed_takes_nothing() -> None:
    ours, theirs = await tcp_pair()
    async with theirs:
        await ours.aclose()
        descriptor = Descriptor(ours)
        assert descriptor.try_write(memoryview(b"word")) == 0
        with pytest.raises(trio.ClosedResourceError):
            await descriptor.write_rest(memoryview(b"word"))
        with pytest.raises(trio.ClosedResourceError):
            await descriptor.read()
