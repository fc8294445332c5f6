"""Many READs and WRITEs at once: in order for whoever reads, and never more than may be."""

from __future__ import annotations

import random
from typing import Final

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import KIB, MIB
from tests.sftp.scripted import FAILURE, SILENCE, Reply, ScriptedServer, pause, using
from trio_ssh.sftp.link import Share
from trio_ssh.sftp.messages import Read, Status
from trio_ssh.sftp.pipeline import ReadPipeline, WritePipeline
from trio_ssh.sftp.protocol import OpenFlags, SFTPLimits
from trio_ssh.sftp.session import WriteParts

BYTES: Final = random.Random(1).randbytes(2 * MIB + 5)


async def handle_of(sftp: trio_ssh.SFTPClient) -> bytes:
    return await sftp._open_handle("f", OpenFlags.READ | OpenFlags.WRITE | OpenFlags.CREATE)


async def drain(pipeline: ReadPipeline, limit: int = 300 * KIB) -> bytes:
    found = bytearray()
    while True:
        await pipeline.wait()
        blocks = pipeline.take(limit)
        if not blocks:
            return bytes(found)
        for block in blocks:
            assert block.offset == len(found) or not block.parts.size
            found += b"".join(block.parts.pieces())
            pipeline.give_back(block)


@pytest.mark.parametrize("known", [0, 1, len(BYTES) - 1, len(BYTES), len(BYTES) + 1, 2**60])
@pytest.mark.parametrize("most", [2**31, 100 * KIB, 5000])
async def test_a_file_comes_in_order_however_long_it_is_said_to_be(known: int, most: int) -> None:
    server = ScriptedServer({"f": BYTES}, most=most, order=random.Random(known % 1000))
    async with using(server) as sftp:
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), await handle_of(sftp), 0, known)
        assert await drain(pipeline) == BYTES
        assert pipeline.is_ended
        await pause()
        assert sftp._link.used_bytes == 0


async def test_later_reads_ask_for_what_the_server_gives() -> None:
    server = ScriptedServer({"f": BYTES}, most=10_000)
    async with using(server) as sftp:
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), await handle_of(sftp), 0, len(BYTES))
        assert await drain(pipeline) == BYTES
    assert server.asked(Read)[-1].length <= 10_000
    assert len(server.asked(Read)) < 2 * len(BYTES) / 10_000


async def test_a_size_that_is_heard_of_later_lets_more_be_asked_for() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp:
        handle = await handle_of(sftp)
        server.gate = trio.Event()
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), handle, 0)
        await pause()
        assert sftp._link.session.pending == 1
        pipeline.expect_size(len(BYTES))
        await pause()
        assert sftp._link.session.pending == 4  # as much as is asked for in the beginning
        pipeline.expect_size(5)
        server.gate.set()
        assert await drain(pipeline) == BYTES


async def test_a_session_that_ends_is_not_the_end_of_the_file() -> None:
    """All that came was taken, and nothing asked for, when the session ended: what was read is not all there is."""
    limits = SFTPLimits(file_bytes=255 * KIB)
    async with using(ScriptedServer({"f": BYTES}), limits=limits) as sftp:
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), await handle_of(sftp), 0, len(BYTES))
        await pipeline.wait()
        [block] = pipeline.take(MIB)
        sftp._link.fail(trio_ssh.RemoteProtocolError("as told"))
        pipeline.give_back(block)
        with pytest.raises(trio_ssh.RemoteProtocolError, match="as told"):
            await pipeline.wait()


@pytest.mark.parametrize("then", ["fails", "is given back"])
async def test_whoever_waits_for_room_is_woken(then: str) -> None:
    limits = SFTPLimits(file_bytes=255 * KIB)
    async with using(ScriptedServer({"f": BYTES}), limits=limits) as sftp:
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), await handle_of(sftp), 0, len(BYTES))
        await pipeline.wait()
        [block] = pipeline.take(MIB)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                if then == "fails":
                    with pytest.raises(trio_ssh.RemoteProtocolError):
                        await pipeline.wait()
                else:
                    await pipeline.wait()
                    assert pipeline.take(1)[0].offset == 255 * KIB

            nursery.start_soon(wait)
            await pause()
            if then == "fails":
                sftp._link.fail(trio_ssh.RemoteProtocolError("as told"))
            pipeline.give_back(block)


async def test_whoever_pays_for_each_step_gets_much_at_once() -> None:
    async with using(ScriptedServer({"f": BYTES * 4})) as sftp:
        pipeline = ReadPipeline(
            sftp._link, Share(sftp._link), await handle_of(sftp), 0, 4 * len(BYTES), gathered_bytes=MIB
        )
        sizes: list[int] = []
        while not pipeline.is_closed:
            await pipeline.wait()
            blocks = pipeline.take(2 * MIB)
            sizes.append(sum(block.parts.size for block in blocks))
            for block in blocks:
                pipeline.give_back(block)
        assert sum(sizes) == 4 * len(BYTES)
        assert min(sizes[1:-1]) >= MIB


@pytest.mark.parametrize("why", ["time has passed", "nothing else is under way"])
async def test_who_waits_for_much_gets_little_where(why: str, autojump_clock: trio.testing.MockClock) -> None:
    class Halting(ScriptedServer):
        def read(self, file: bytearray, offset: int, length: int) -> Reply:
            if not offset:
                self.gate = trio.Event()
            return SILENCE if offset >= 2 * 255 * KIB else super().read(file, offset, length)

    server = Halting({"f": BYTES})
    limits = SFTPLimits(file_bytes=255 * KIB if why.startswith("nothing") else MIB)
    async with using(server, limits=limits) as sftp:
        pipeline = ReadPipeline(
            sftp._link,
            Share(sftp._link),
            await handle_of(sftp),
            0,
            len(BYTES),
            ahead_bytes=255 * KIB,
            gathered_bytes=MIB,
        )
        await pipeline.wait()
        [first] = pipeline.take(MIB)
        pipeline.give_back(first)
        if why.startswith("time"):
            await trio.sleep(0.2)
        server.gate.set()
        with trio.fail_after(1):
            await pipeline.wait()
        [second] = pipeline.take(MIB)
        assert second.offset == 255 * KIB
        pipeline.give_back(second)
        pipeline.close()
        sftp._link.fail(trio_ssh.RemoteProtocolError("as told"))


async def test_an_error_comes_behind_what_was_read_before_it() -> None:
    class Scratched(ScriptedServer):
        def read(self, file: bytearray, offset: int, length: int) -> Reply:
            return FAILURE if offset >= MIB else super().read(file, offset, min(length, MIB - offset))

    async with using(Scratched({"f": BYTES}, order=random.Random(4))) as sftp:
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), await handle_of(sftp), 0, len(BYTES))
        size = 0
        with pytest.raises(trio_ssh.SFTPError, match="as told"):
            while True:
                await pipeline.wait()
                for block in pipeline.take(1):
                    size += block.parts.size
                    pipeline.give_back(block)
        assert size == MIB // (255 * KIB) * 255 * KIB
        pipeline.close()
        await pause()
        assert sftp._link.used_bytes == 0


async def test_a_pipeline_that_is_closed_drops_what_comes() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp:
        server_gate = trio.Event()
        handle = await handle_of(sftp)
        server.gate = server_gate
        pipeline = ReadPipeline(sftp._link, Share(sftp._link), handle, 0, len(BYTES))
        assert pipeline.next_offset == 0
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await pipeline.wait()

            nursery.start_soon(wait)
            await pause()
            pipeline.close()
            pipeline.close()
        server_gate.set()
        await pause()
        assert sftp._link.used_bytes == 0
        assert sftp._link.session.pending == 0


# -- writing


async def test_writes_in_any_order_and_their_acknowledgements_in_another() -> None:
    server = ScriptedServer(order=random.Random(5))
    async with using(server) as sftp:
        pipeline = WritePipeline(sftp._link, Share(sftp._link), await handle_of(sftp))
        head = bytes(pipeline.head_size)
        offsets = list(range(0, len(BYTES), 50_000))
        random.Random(6).shuffle(offsets)
        for offset in offsets:
            data = BYTES[offset : offset + 50_000]
            await pipeline.wait_room(len(data))
            pipeline.write(memoryview(bytearray(head + data)), offset)
        await pipeline.wait_below(0)
        assert pipeline.under_way == sftp._link.used_bytes == 0
    assert server.files[b"f"] == BYTES


async def test_a_write_that_fails_is_told_by_all_that_follow() -> None:
    class Full(ScriptedServer):
        def write(self, file: bytearray, offset: int, data: bytes) -> Reply:
            return FAILURE

    server = Full()
    async with using(server) as sftp:
        pipeline = WritePipeline(sftp._link, Share(sftp._link), await handle_of(sftp))
        pipeline.check()
        await pipeline.wait_room(1)
        pipeline.write(memoryview(bytearray(pipeline.head_size + 1)), 0)
        for _ in range(2):
            with pytest.raises(trio_ssh.SFTPError, match="as told"):
                await pipeline.wait_below(0)
        with pytest.raises(trio_ssh.SFTPError, match="as told"):
            await pipeline.wait_room(1)
        assert sftp._link.used_bytes == 0
    assert len(server.asked(WriteParts)) == 1


async def test_what_is_sealed_is_known_and_may_be_written_over() -> None:
    server = ScriptedServer()
    async with using(server) as sftp:
        pipeline = WritePipeline(sftp._link, Share(sftp._link), await handle_of(sftp))
        packet = memoryview(bytearray(pipeline.head_size + 50_000))
        for number in range(100):
            await pipeline.wait_room(50_000)
            packet[pipeline.head_size :] = bytes([number]) * 50_000
            pipeline.write(packet, number * 50_000)
            mark = pipeline.queued_bytes
            assert mark == sftp._link.session.queued_bytes
            await pipeline.wait_sealed(mark)
            assert pipeline.has_sealed(mark)
            assert not pipeline.has_sealed(mark + 1)
        await pipeline.wait_below(0)
    assert server.files[b"f"] == b"".join(bytes([number]) * 50_000 for number in range(100))


@pytest.mark.parametrize("end", ["refusal", "loss"])
async def test_whoever_waits_until_something_is_sealed_hears_of_the_end(end: str) -> None:
    async with using(ScriptedServer()) as sftp:
        pipeline = WritePipeline(sftp._link, Share(sftp._link), await handle_of(sftp))
        heard = False

        async def wait() -> None:
            nonlocal heard
            with pytest.raises(trio_ssh.SFTPError if end == "refusal" else trio.ClosedResourceError):
                await pipeline.wait_sealed(2**60)
            heard = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await pause()
            if end == "refusal":
                pipeline.on_done(0, 0, Status(4, "no", ""))
            else:
                await sftp.aclose()
        assert heard


async def test_whoever_waits_for_room_hears_of_the_end() -> None:
    limits = SFTPLimits(file_bytes=10)
    server = ScriptedServer()
    async with using(server, limits=limits) as sftp:
        pipeline = WritePipeline(sftp._link, Share(sftp._link), await handle_of(sftp))
        server.gate = trio.Event()
        await pipeline.wait_room(10)
        pipeline.write(memoryview(bytearray(pipeline.head_size + 10)), 0)
        assert not pipeline.has_room(1)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio_ssh.RemoteProtocolError):
                    await pipeline.wait_room(1)

            nursery.start_soon(wait)
            await pause()
            sftp._link.fail(trio_ssh.RemoteProtocolError("as told"))
        with pytest.raises(trio_ssh.LocalProtocolError):
            pipeline.write(memoryview(bytearray(pipeline.head_size + 1)), 0)
        server.gate.set()
