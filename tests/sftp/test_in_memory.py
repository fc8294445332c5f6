"""Large local files: read and written without a thread where that waits for nothing, and the same bytes in any case."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from tests.sftp.connected import connected, held_up, noise
from trio_ssh.sftp import blocks, in_memory, local
from trio_ssh.sftp.in_memory import CachedReads, is_in_memory
from trio_ssh.sftp.local import LocalReader, LocalWriter
from trio_ssh.sftp.protocol import MIB, SFTPLimits
from trio_ssh.testing import MemorySFTPServer

PREADV = os.preadv


class Hops:
    """How often a thread has read, and written; and how often none was needed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.reads_here = self.writes = self.writes_here = 0
        fill, fill_now, write = LocalReader.fill, LocalReader.fill_now, LocalWriter.write

        def counted_fill(reader: LocalReader, views: Sequence[memoryview], offset: int) -> tuple[int, int]:
            self.reads += 1
            return fill(reader, views, offset)

        def counted_fill_now(reader: LocalReader, views: Sequence[memoryview], offset: int) -> int | None:
            self.reads_here += 1
            return fill_now(reader, views, offset)

        def counted_write(writer: LocalWriter, parts: local.Parts, offset: int) -> bool:
            try:
                trio.lowlevel.current_task()
            except RuntimeError:
                self.writes += 1
            else:
                self.writes_here += 1
            return write(writer, parts, offset)

        monkeypatch.setattr(LocalReader, "fill", counted_fill)
        monkeypatch.setattr(LocalReader, "fill_now", counted_fill_now)
        monkeypatch.setattr(LocalWriter, "write", counted_write)


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> Hops:
    return Hops(monkeypatch)


@pytest.mark.parametrize("size", [2 * MIB, 2 * MIB + 1, 20 * MIB + 5])
@pytest.mark.usefixtures("memory")
async def test_what_is_in_memory_takes_a_hop_at_its_start_and_one_at_its_end(
    size: int, tmp_path: Path, hops: Hops
) -> None:
    data = noise(size)
    server = MemorySFTPServer({"/file": data})
    path = tmp_path / "file"
    async with connected(server) as sftp:
        await sftp.get("/file", path)
        assert path.read_bytes() == data
        await sftp.put(path, "/back")
    assert server.read_bytes("/back") == data
    is_large = size > 4 * MIB
    assert bool(hops.reads_here) == (size > 2 * MIB)
    assert bool(hops.writes_here) == is_large
    if is_large:
        assert hops.reads == 2, "the first, which tells how the rest is to be read, and the end"
        assert hops.writes <= 12, "the first and the last; where the machine is busy, the first comes in pieces"


async def test_what_is_not_in_memory_is_left_to_threads(
    tmp_path: Path, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system is asked now and then, and tells of some of it that it is."""
    data = noise(64 * MIB + 5)
    path = tmp_path / "file"
    path.write_bytes(data)
    asked = 0

    def preadv(descriptor: int, views: Sequence[memoryview], offset: int, flags: int) -> int:
        nonlocal asked
        asked += 1
        assert flags == 1234
        if asked % 2:
            raise BlockingIOError
        # A part of what is asked for is there.
        return PREADV(descriptor, [views[0][:1000]], offset)

    monkeypatch.setattr(in_memory, "_NOWAIT", 1234)
    monkeypatch.setattr(in_memory, "os", SimpleNamespace(preadv=preadv))
    server = MemorySFTPServer()
    async with connected(server) as sftp:
        await sftp.put(path, "/file")
    assert server.read_bytes("/file") == data
    assert 2 <= hops.reads_here < hops.reads // 3
    assert hops.reads < 50


async def test_a_file_system_that_does_not_know_is_left_to_threads(
    tmp_path: Path, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory, "_NOWAIT", 1 << 30)  # a flag that no system has
    monkeypatch.setattr(in_memory, "is_in_memory", lambda descriptor: False)
    path = tmp_path / "file"
    path.write_bytes(noise(9 * MIB))
    server = MemorySFTPServer()
    async with connected(server) as sftp:
        await sftp.put(path, "/file")
    assert server.read_bytes("/file") == path.read_bytes()
    assert hops.reads_here == 0


@pytest.mark.usefixtures("memory")
async def test_a_file_that_fails_in_the_middle_says_so(
    tmp_path: Path, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(noise(9 * MIB))

    def read(descriptor: int, views: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if offset > 5 * MIB:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return PREADV(descriptor, views, offset)

    monkeypatch.setattr(os, "preadv", read)
    server = MemorySFTPServer()
    async with connected(server) as sftp:
        with pytest.raises(OSError, match="Input/output error") as raised:
            await sftp.put(path, "/file")
    assert os.fsencode(raised.value.filename) == os.fsencode(path)
    assert "/file" not in server.files
    assert hops.reads_here


@pytest.mark.parametrize("answer", ["an end", "an error"])
async def test_a_system_that_says_the_wrong_thing_where_it_would_wait_is_not_believed(
    answer: str, tmp_path: Path, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux 5.9 and 5.10 say that the file ends there."""
    data = noise(20 * MIB + 5)
    path = tmp_path / "file"
    path.write_bytes(data)
    asked = 0

    def preadv(descriptor: int, views: Sequence[memoryview], offset: int, flags: int) -> int:
        nonlocal asked
        asked += 1
        if asked % 3:
            return PREADV(descriptor, views, offset)
        if answer == "an end":
            return 0
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(in_memory, "_NOWAIT", 1234)
    monkeypatch.setattr(in_memory, "os", SimpleNamespace(preadv=preadv))
    server = MemorySFTPServer()
    async with connected(server) as sftp:
        assert (await sftp.put(path, "/file")).st_size == len(data)
    assert server.read_bytes("/file") == data
    assert hops.reads_here > 2


@pytest.mark.usefixtures("memory")
async def test_a_disk_in_memory_that_is_full_says_so(
    tmp_path: Path, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, parts: local.Parts, offset: int) -> None:
        if offset > 6 * MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.pwritev(descriptor, parts, offset)

    monkeypatch.setattr(local, "_write_around_holes", full)
    async with connected(MemorySFTPServer({"/file": noise(20 * MIB)})) as sftp:
        with pytest.raises(OSError, match="No space left"):
            await sftp.get("/file", tmp_path / "file")
    assert hops.writes_here
    assert os.listdir(tmp_path) == [".file.part"]


@pytest.mark.usefixtures("memory")
async def test_others_have_their_turn(tmp_path: Path) -> None:
    """Between two pieces that are read or written here."""
    data = noise(32 * MIB)
    path = tmp_path / "file"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with connected(MemorySFTPServer({"/file": data})) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await sftp.get("/file", path)
        assert turns >= 16
        turns = 0
        await sftp.put(path, "/back")
        assert turns >= 16
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_memory", [True, False])
async def test_what_is_read_and_not_sealed_is_bounded(
    is_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A server that takes nothing for a while: a few buffers wait, and what is in them stays what it is."""
    if is_memory:
        request.getfixturevalue("memory")
    data = noise(40 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    sizes: list[int] = []
    init = blocks.Buffer.__init__

    def counted(buffer: blocks.Buffer, head: int, block: int, count: int) -> None:
        sizes.append(block * count)
        init(buffer, head, block, count)

    monkeypatch.setattr(blocks.Buffer, "__init__", counted)
    server = MemorySFTPServer(limits=SFTPLimits(requests=4))
    gate = held_up(server, monkeypatch, "write")
    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.put, path, "/file")
        seen = -1
        while len(sizes) != seen:
            seen = len(sizes)
            await trio.testing.wait_all_tasks_blocked(0.1)
        assert sum(sizes) <= 6 * MIB
        assert sftp._link.used_bytes < 20 * MIB
        gate.set()
    assert server.read_bytes("/file") == data
    assert sum(sizes) <= 6 * MIB


# -- which file systems are memory


def test_tmpfs_is_told_from_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(in_memory, "_MOUNTS", os.fspath(mounts))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert not is_in_memory(descriptor), "there is no such list"
        for line, expected in (
            (f"36 35 {number} / /mnt rw,noatime - tmpfs tmpfs rw,size=1k\n", True),
            (f"36 35 {number} / /mnt rw shared:1 master:2 - ramfs none rw\n", True),
            (f"36 35 {number} / /mnt\\040x rw,noatime shared:1 - ext4 /dev/sda1 rw\n", False),
            (f"36 35 {number} / /mnt rw - overlay tmpfs rw\n", False),
            (f"36 35 9{number} / /mnt rw - tmpfs tmpfs rw\n", False),
            (f"36 35 99:99 / {number} rw - tmpfs tmpfs rw\n", False),
            (f"36 35 {number} / /mnt rw\n", False),
            ("\n", False),
            ("", False),
        ):
            mounts.write_text(f"25 1 98:{os.minor(device)} / / rw - ext4 /dev/root rw\n{line}", encoding="ascii")
            assert is_in_memory(descriptor) is expected, line
    finally:
        os.close(descriptor)


def test_a_real_disk_in_memory_is_one() -> None:
    folder = Path("/dev/shm")
    mounts = Path("/proc/self/mountinfo")
    if not mounts.is_file() or " /dev/shm " not in mounts.read_text(encoding="utf-8", errors="replace"):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        assert is_in_memory(descriptor)
    finally:
        os.close(descriptor)


def test_where_the_system_would_wait_threads_have_the_next_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    reads = CachedReads()
    assert not reads.is_worth_trying, "nobody has looked"
    monkeypatch.setattr(in_memory, "_NOWAIT", 0)
    monkeypatch.setattr(in_memory, "is_in_memory", lambda descriptor: True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        reads._flags = 0
        buffer = memoryview(bytearray(60))
        assert reads.is_worth_trying
        assert reads.read(descriptor, [buffer[:30], buffer[30:]], 50) == 50
        assert bytes(buffer[:50]) == bytes(range(50, 100))
        assert reads.read(descriptor, [buffer], 100) is None, "the end is a thread's to find"
        assert not reads.is_worth_trying
        reads = CachedReads()
        reads._flags = 0

        def would_wait(*arguments: object) -> int:
            raise BlockingIOError

        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", would_wait)
            assert reads.read(descriptor, [buffer], 0) is None
        tries = 0
        while not reads.is_worth_trying:
            tries += 1
            reads.note_thread()
        assert tries == 8
        reads.note_thread()
        assert reads.is_worth_trying
    finally:
        os.close(descriptor)
