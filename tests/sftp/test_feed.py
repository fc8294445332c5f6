"""An upload of what is in memory: fed by the step that has room, and told of as a task's would be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST
from tests.sftp.by_hand import door
from tests.sftp.connected import connected, held_up, noise
from trio_ssh.sftp.feed import Feed
from trio_ssh.sftp.local import LocalReader
from trio_ssh.sftp.protocol import KIB, MIB, SFTPLimits
from trio_ssh.testing import CutStream, MemorySFTPServer, memory_pair

pytestmark = pytest.mark.usefixtures("memory")

SIZE = 20 * MIB + 5
DATA = noise(SIZE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Feed]:
    """Those that are made."""
    made: list[Feed] = []
    init = Feed.__init__

    def noted(feed: Feed, *arguments: object) -> None:
        made.append(feed)
        init(feed, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Feed, "__init__", noted)
    return made


async def test_one_task_s_step_is_enough_for_many_blocks(file: Path, feeds: list[Feed]) -> None:
    steps = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += task is here

    server = MemorySFTPServer()
    async with connected(server) as sftp:
        here = trio.lowlevel.current_task()
        instrument = Steps()
        trio.lowlevel.add_instrument(instrument)
        await sftp.put(file, "/file")
        trio.lowlevel.remove_instrument(instrument)
        assert not sftp._link.feeders
    assert server.read_bytes("/file") == DATA
    assert len(feeds) == 1
    blocks = SIZE // (256 * KIB)
    assert steps < blocks // 2, "it opens, has a thread read the beginning, waits, and closes"


async def test_no_more_is_read_than_the_block_that_is_being_sealed(
    file: Path, feeds: list[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read where the last one was, so that one must have been sealed."""
    server = MemorySFTPServer(limits=SFTPLimits(requests=4))
    gate = held_up(server, monkeypatch, "write")
    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.put, file, "/file")
        seen = -1
        while not feeds or feeds[0].offset != seen:
            seen = feeds[0].offset if feeds else -1
            await trio.testing.wait_all_tasks_blocked(0.05)
        session = sftp._link.session
        assert 0 < sum(map(len, session.outgoing)) <= sftp._link.write_bytes + 64
        assert seen < SIZE - MIB, "or nothing was held up"
        gate.set()
    assert server.read_bytes("/file") == DATA


async def test_a_write_that_fails_ends_it(file: Path, feeds: list[Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemorySFTPServer({"/file": b"old"})
    happen, writes = server._happen, 0

    async def fill_up(operation: str, path: str) -> None:
        nonlocal writes
        await happen(operation, path)
        writes += operation == "write"
        if writes > 30:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(server, "_happen", fill_up)
    async with connected(server) as sftp:
        with pytest.raises(trio_ssh.SFTPError):
            await sftp.put(file, "/file")
        assert not sftp._link.feeders
        monkeypatch.undo()
        assert (await sftp.stat("/file")).st_size == 3
    assert feeds
    assert feeds[0].offset < SIZE


async def test_a_connection_that_is_cut_ends_it(file: Path, feeds: list[Feed]) -> None:
    ours, theirs = memory_pair()
    cut = CutStream(ours, sent=8 * MIB)
    server = MemorySFTPServer()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, door(server), host_keys=[HOST_KEY]))
            with pytest.raises(trio_ssh.ConnectionLost):
                async with trio_ssh.SSHClient() as client:
                    await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=cut, config=None)
                    sftp = await client.open_sftp()
                    await sftp.put(file, "/file")
    assert feeds
    assert not feeds[0].is_over
    assert "/file" not in server.files


async def test_cancelled_it_stops_reading(file: Path, feeds: list[Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemorySFTPServer(limits=SFTPLimits(requests=4))
    gate = held_up(server, monkeypatch, "write")
    async with connected(server) as sftp:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sftp.put, file, "/file")
                while not feeds:
                    await trio.testing.wait_all_tasks_blocked(0.05)
                scope.cancel()
        assert not sftp._link.feeders
        read = feeds[0].offset
        gate.set()
        assert (await sftp.stat("/")).is_dir(), "the session is as good as before"
        assert feeds[0].offset == read < SIZE
    assert "/file" not in server.files


async def test_a_file_that_was_cut_off_meanwhile_is_told(file: Path, feeds: list[Feed]) -> None:
    server = MemorySFTPServer()

    def cut_off(done: int, total: int) -> None:
        os.truncate(file, 6 * MIB)

    async with connected(server) as sftp:
        attributes = await sftp.put(file, "/file", cut_off)
    assert attributes.st_size == len(server.read_bytes("/file")) < SIZE
    assert DATA.startswith(server.read_bytes("/file"))
    assert feeds


async def test_two_of_them_take_turns(file: Path, feeds: list[Feed]) -> None:
    server = MemorySFTPServer()
    behind: list[int] = []
    async with connected(server) as sftp, trio.open_nursery() as nursery:

        async def put(name: str) -> None:
            await sftp.put(file, name)
            behind.append(min(feed.offset for feed in feeds))

        nursery.start_soon(put, "/one")
        nursery.start_soon(put, "/two")
    assert server.read_bytes("/one") == server.read_bytes("/two") == DATA
    assert len(feeds) == 2
    assert behind[0] > SIZE // 2, "when one was complete, the other was well under way"


async def test_what_is_slow_is_told_all_the_same(file: Path) -> None:
    """Ten times a second, where so much doesn't arrive that it is worth a word."""
    os.truncate(file, 4 * MIB)
    server = MemorySFTPServer(limits=SFTPLimits(requests=1))
    server.delay_on("/.file.part", 0.03, operation="write")
    calls: list[int] = []
    async with connected(server) as sftp:
        await sftp.put(file, "/file", lambda done, total: calls.append(done))
    assert calls == sorted(set(calls))
    assert (calls[0], calls[-1]) == (0, 4 * MIB)
    assert len(calls) > 4


async def test_nobody_who_is_not_told_is_woken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that brings a whole file's acknowledgements is none of the task's business before the end."""
    wakes = 0
    wake = Feed.wake

    def counted(feed: Feed) -> None:
        nonlocal wakes
        wakes += 1
        wake(feed)

    monkeypatch.setattr(Feed, "wake", counted)
    reads: list[int] = []
    fill_now = LocalReader.fill_now

    def noted(reader: LocalReader, views: list[memoryview], offset: int) -> int | None:
        got = fill_now(reader, views, offset)
        reads.append(got or 0)
        return got

    monkeypatch.setattr(LocalReader, "fill_now", noted)
    async with connected(MemorySFTPServer()) as sftp:
        await sftp.put(file, "/file")
    assert wakes == 1
    assert len(reads) > 60
