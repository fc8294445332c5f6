"""A channel passes trio's own tests of half-closeable streams, whatever carries the connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import KIB, channel_pairs
from trio_ssh.core.channel import Source
from trio_ssh.testing import memory_pair

Pair = tuple[trio.abc.Stream, trio.abc.Stream]

#: The smallest window that a channel can have, so that little is enough to clog it.
WINDOW: Final = 64 * KIB
SMALL_WINDOWS: Final = trio_ssh.Limits(
    sessions=1000, channels=1000, initial_window_bytes=WINDOW, largest_window_bytes=WINDOW
)

each_carrier = pytest.mark.parametrize(
    "carrier", [memory_pair, trio.testing.lockstep_stream_pair], ids=["memory", "lockstep"]
)
each_direction = pytest.mark.parametrize("is_swapped", [False, True], ids=["from client", "from server"])


@each_carrier
@each_direction
async def test_a_channel_is_a_half_closeable_stream(carrier: Callable[[], Pair], is_swapped: bool) -> None:
    with trio.fail_after(10):
        async with channel_pairs(carrier(), SMALL_WINDOWS) as pairs:

            async def make() -> tuple[trio_ssh.Channel, trio_ssh.Channel]:
                ours, theirs = await pairs.make()
                return (theirs, ours) if is_swapped else (ours, theirs)

            async def make_clogged() -> tuple[trio_ssh.Channel, trio_ssh.Channel]:
                ours, theirs = await make()
                await ours.send_all(bytes(WINDOW))
                await theirs.send_all(bytes(WINDOW))
                return ours, theirs

            await trio.testing.check_half_closeable_stream(make, make_clogged)


class SendsStderr(trio.abc.SendStream):
    """A channel of which only stderr is sent, as the one-way stream that trio's tests want."""

    def __init__(self, channel: trio_ssh.Channel) -> None:
        self._channel = channel

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._channel.send_stderr(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._channel._wait_to_send(Source.STDERR)

    async def aclose(self) -> None:
        await self._channel.aclose()


class ReceivesStderr(trio.abc.ReceiveStream):
    """A channel of which only stderr is received; closing it closes the channel, so that its sender notices."""

    def __init__(self, channel: trio_ssh.Channel) -> None:
        self._channel = channel

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._channel.stderr.receive_some(max_bytes)

    async def aclose(self) -> None:
        self._channel.close_later()
        await self._channel.stderr.aclose()


async def test_stderr_is_a_one_way_stream() -> None:
    with trio.fail_after(10):
        async with channel_pairs(limits=SMALL_WINDOWS) as pairs:

            async def make() -> tuple[SendsStderr, ReceivesStderr]:
                ours, theirs = await pairs.make()
                return SendsStderr(theirs), ReceivesStderr(ours)

            async def make_clogged() -> tuple[SendsStderr, ReceivesStderr]:
                sender, receiver = await make()
                await sender.send_all(bytes(WINDOW))
                return sender, receiver

            await trio.testing.check_one_way_stream(make, make_clogged)


async def test_closing_stderr_wakes_its_reader_and_leaves_the_channel_open() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.stderr.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await ours.stderr.aclose()
        await theirs.send_stderr(b"nobody reads this")
        await theirs.send_all(b"but this")
        assert await ours.receive_some() == b"but this"


@pytest.mark.parametrize("steps", range(8))
async def test_closing_stderr_at_the_moment_of_arrival_is_no_error(steps: int) -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        received: list[bytes] = []

        async def read() -> None:
            try:
                received.append(await ours.stderr.receive_some())
            except trio.ClosedResourceError:
                received.append(b"")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_stderr(b"data")
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            await ours.stderr.aclose()
        assert received in ([b""], [b"data"])


async def test_stderr_that_nobody_has_asked_for_yet_is_kept_when_its_end_comes_with_it() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        await theirs.send_stderr(b"last words")
        await theirs.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await ours.stderr.receive_some() == b"last words"
        assert await ours.stderr.receive_some() == b""
