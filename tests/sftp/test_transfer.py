"""Single files, from a server in memory and to it: whole, or not there, whatever happens meanwhile."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

import trio_ssh
from tests.sftp.connected import connected, held_up, noise
from tests.sftp.scripted import SILENCE, Reply, ScriptedServer, using
from tests.sftp.test_local import largest_file, part_of
from trio_ssh.sftp.local import LocalReader
from trio_ssh.sftp.protocol import KIB, MIB, SFTPLimits
from trio_ssh.sftp.session import ClientSession, Waiter
from trio_ssh.sftp.transfer import OVERLAP_BYTES
from trio_ssh.testing import CutStream, MemorySFTPServer, memory_pair
from trio_ssh.testing.sftp import _MemoryFile

SIZES = [0, 1, 32 * KIB - 1, 32 * KIB, 32 * KIB + 1, 255 * KIB, 255 * KIB + 1, 5 * MIB + 7]

Transfer = Callable[[trio_ssh.SFTPClient], Awaitable[object]]


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_is_the_same_on_both_sides(size: int, tmp_path: Path) -> None:
    data = noise(size)
    server = MemorySFTPServer({"/file": data})
    local = tmp_path / "file"
    async with connected(server) as sftp:
        await sftp.get("/file", local)
        assert local.read_bytes() == data
        attributes = await sftp.put(local, "/back")
        assert attributes.st_size == size
        await sftp.copy("/file", "/copied")
        fetched = io.BytesIO()
        assert await sftp.getfo("/file", fetched) == size
        assert fetched.getvalue() == data
        fetched.seek(0)
        assert (await sftp.putfo(fetched, "/sent")).st_size == size
    assert server.files == {"/file": data, "/back": data, "/copied": data, "/sent": data}
    assert server.open_handles == 0
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("block_bytes", [4 * KIB, 32 * KIB])
async def test_small_blocks_do(block_bytes: int, tmp_path: Path) -> None:
    data = noise(300 * KIB + 1)
    server = MemorySFTPServer({"/file": data})
    async with connected(server) as sftp:
        sftp._link.read_bytes = sftp._link.write_bytes = block_bytes
        await sftp.get("/file", tmp_path / "file")
        await sftp.put(tmp_path / "file", "/back")
    assert server.read_bytes("/back") == data


async def test_a_server_that_reads_little_at_a_time_is_read_to_the_end(tmp_path: Path) -> None:
    data = noise(MIB)
    server = MemorySFTPServer({"/file": data}, limits=SFTPLimits(block_bytes=10_000))
    async with connected(server) as sftp:
        sftp._link.read_bytes = 255 * KIB
        await sftp.get("/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data


async def test_an_async_file_object_is_awaited(tmp_path: Path) -> None:
    data = noise(MIB)
    server = MemorySFTPServer({"/file": data})
    async with connected(server) as sftp:
        async with await trio.open_file(tmp_path / "file", "wb") as file:
            await sftp.getfo("/file", file)
        async with await trio.open_file(tmp_path / "file", "rb") as file:
            await sftp.putfo(file, "/back")
    assert server.read_bytes("/back") == data


class Raw(io.RawIOBase):
    """Takes and gives little at a time, as raw files may."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        self.data += data[:1000]
        return min(1000, len(data))

    def read(self, size: int = -1) -> bytes:
        taken = bytes(self.data[:999])
        del self.data[:999]
        return taken


async def test_a_raw_file_object_may_take_and_give_less() -> None:
    data = noise(50_000)
    server = MemorySFTPServer({"/file": data})
    raw = Raw()
    async with connected(server) as sftp:
        await sftp.getfo("/file", raw)
        assert raw.data == data
        await sftp.putfo(raw, "/back")
    assert server.read_bytes("/back") == data


# -- progress


async def test_the_callback_counts_up_to_the_size(tmp_path: Path) -> None:
    data = noise(2 * MIB)
    server = MemorySFTPServer({"/file": data})
    calls: list[tuple[int, int]] = []

    async def also_async(done: int, total: int) -> None:
        await trio.lowlevel.checkpoint()
        calls.append((done, total))

    async with connected(server) as sftp:
        transfers: list[Transfer] = [
            lambda sftp: sftp.get("/file", tmp_path / "file", lambda *now: calls.append(now)),
            lambda sftp: sftp.put(tmp_path / "file", "/back", also_async),
            lambda sftp: sftp.getfo("/file", io.BytesIO(), also_async),
            lambda sftp: sftp.putfo(io.BytesIO(data), "/sent", len(data), also_async),
            lambda sftp: sftp.copy("/file", "/copied", also_async),
        ]
        for transfer in transfers:
            calls.clear()
            await transfer(sftp)
            done = [now for now, _ in calls]
            assert done == sorted(set(done)), "never twice the same"
            assert calls[-1] == (len(data), len(data))
            assert {total for _, total in calls} == {len(data)}


async def test_what_a_get_gathers_is_a_part_of_what_may_be_under_way() -> None:
    """Else a small ceiling would have it wait until everything has come, and only then ask for more."""
    block = 255 * KIB

    class Halting(ScriptedServer):
        def read(self, file: bytearray, offset: int, length: int) -> Reply:
            return SILENCE if offset >= 3 * block else super().read(file, offset, length)

    told: list[int] = []
    async with using(Halting({"f": noise(2 * MIB)}), limits=SFTPLimits(file_bytes=MIB)) as sftp:
        with trio.fail_after(5), trio.CancelScope() as scope:

            def tell(done: int, total: int) -> None:
                told.append(done)
                if len(told) == 2:
                    scope.cancel()

            await sftp.getfo("f", io.BytesIO(), tell)
    assert told == [block, 3 * block], "the first as soon as it is there"


async def test_what_is_under_way_in_the_end_is_told_as_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may be all of the file, and its way a slow one: here two blocks arrive whenever something was told."""
    data = noise(2 * MIB)
    (tmp_path / "file").write_bytes(data)
    server = MemorySFTPServer()
    happen, arrivals = server._happen, trio.Semaphore(2)

    async def arrive(operation: str, path: str) -> None:
        await happen(operation, path)
        if operation == "write":
            await arrivals.acquire()

    monkeypatch.setattr(server, "_happen", arrive)
    calls: list[int] = []

    def told(done: int, total: int) -> None:
        calls.append(done)
        arrivals.release()
        arrivals.release()

    async with connected(server) as sftp:
        with trio.fail_after(10):
            await sftp.put(tmp_path / "file", "/file", told)
    assert server.read_bytes("/file") == data
    assert (calls[0], calls[-1]) == (0, len(data))
    assert len(calls) >= 4


async def test_what_a_callback_raises_ends_the_transfer(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": noise(MIB)})
    (tmp_path / "source").write_bytes(noise(MIB))

    def refuse(done: int, total: int) -> None:
        raise KeyError("mine")

    async with connected(server) as sftp:
        for transfer in (
            sftp.get("/file", tmp_path / "file", refuse),
            sftp.put(tmp_path / "source", "/back", refuse),
            sftp.getfo("/file", io.BytesIO(), refuse),
            sftp.putfo(io.BytesIO(noise(MIB)), "/sent", 0, refuse),
        ):
            with pytest.raises(KeyError, match="mine"):
                await transfer
    assert not (tmp_path / "file").exists()
    assert set(server.files) <= {"/file", "/.back.part"}


# -- attributes


async def test_permissions_and_times_are_kept_where_asked(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"data"})
    async with connected(server) as sftp:
        await sftp.chmod("/file", 0o4640)
        await sftp.utime("/file", (1000, 2000))
        await sftp.get("/file", tmp_path / "file", preserve=True)
        status = (tmp_path / "file").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_atime, status.st_mtime) == (0o640, 1000, 2000)
        for path, transfer in {
            "/put": partial(sftp.put, tmp_path / "file", "/put", preserve=True),
            "/copy": partial(sftp.copy, "/file", "/copy", preserve=True),
        }.items():
            await transfer()
            attributes = await sftp.stat(path)
            assert stat.S_IMODE(attributes.st_mode or 0) == 0o640
            assert (attributes.st_atime, attributes.st_mtime) == (1000, 2000)


async def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old", "/source": b"new"})
    (tmp_path / "file").write_bytes(b"new")
    (tmp_path / "file").chmod(0o755)
    async with connected(server) as sftp:
        await sftp.chmod("/file", 0o600)
        await sftp.put(tmp_path / "file", "/file")
        assert stat.S_IMODE((await sftp.stat("/file")).st_mode or 0) == 0o600
        await sftp.copy("/source", "/file")
        assert stat.S_IMODE((await sftp.stat("/file")).st_mode or 0) == 0o600
    assert server.read_bytes("/file") == b"new"


async def test_a_new_file_can_be_run_where_the_old_one_can(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/tool": b"#!/bin/sh"})
    async with connected(server) as sftp:
        await sftp.chmod("/tool", 0o755)
        await sftp.get("/tool", tmp_path / "tool")
        assert os.access(tmp_path / "tool", os.X_OK)
        await sftp.put(tmp_path / "tool", "/back")
        assert (await sftp.stat("/back")).st_mode == stat.S_IFREG | stat.S_IMODE((tmp_path / "tool").stat().st_mode)


# -- what can't be


async def test_errors_name_the_path_and_leave_nothing(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/folder/file": b"data"})
    (tmp_path / "file").write_bytes(b"data")
    async with connected(server) as sftp:
        cases: list[tuple[type[OSError], str, Transfer]] = [
            (FileNotFoundError, "/no", lambda sftp: sftp.get("/no", tmp_path / "x")),
            (IsADirectoryError, "/folder", lambda sftp: sftp.get("/folder", tmp_path / "x")),
            (FileNotFoundError, "no/x", lambda sftp: sftp.get("/folder/file", tmp_path / "no" / "x")),
            (IsADirectoryError, tmp_path.name, lambda sftp: sftp.get("/folder/file", tmp_path)),
            (FileNotFoundError, "nothing", lambda sftp: sftp.put(tmp_path / "nothing", "/x")),
            (FileNotFoundError, "/no/x", lambda sftp: sftp.put(tmp_path / "file", "/no/x")),
            (IsADirectoryError, "/folder", lambda sftp: sftp.put(tmp_path / "file", "/folder")),
            (IsADirectoryError, tmp_path.name, lambda sftp: sftp.put(tmp_path, "/x")),
            (FileNotFoundError, "/no", lambda sftp: sftp.copy("/no", "/x")),
        ]
        for kind, name, transfer in cases:
            with pytest.raises(kind) as raised:
                await transfer(sftp)
            assert str(raised.value.filename).endswith(name)
    assert server.files == {"/folder/file": b"data"}
    assert server.open_handles == 0
    assert os.listdir(tmp_path) == ["file"]


async def test_paths_that_are_none_are_refused() -> None:
    async with connected(MemorySFTPServer({"/file": b""})) as sftp:
        with pytest.raises(ValueError, match="NUL"):
            await sftp.get("/file", "a\0b")
        with pytest.raises(ValueError, match="empty"):
            await sftp.put("", "/file")
        with pytest.raises(TypeError):
            await sftp.get("/file", sftp.path("/remote"))  # type: ignore[arg-type]


class Full(MemorySFTPServer):
    """A disk that has no room for one WRITE, and then has room again: somebody's log was rotated.

    Args:
        at: the WRITE of the byte with this offset fails, once.
    """

    def __init__(self, files: dict[str, bytes], at: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(files)
        left = [at]
        write = _MemoryFile.write

        async def write_or_not(file: _MemoryFile, offset: int, data: bytes) -> None:
            if left and offset <= left[0] < offset + len(data):
                left.clear()
                raise OSError(errno.ENOSPC, "No space left on device")
            await write(file, offset, data)

        monkeypatch.setattr(_MemoryFile, "write", write_or_not)


@pytest.mark.parametrize("how", ["put", "putfo", "copy"])
async def test_a_server_without_room_keeps_the_old_file(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(4 * MIB)
    server = Full({"/file": b"old", "/source": data}, MIB, monkeypatch)
    (tmp_path / "file").write_bytes(data)
    async with connected(server, without=(b"copy-data",)) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match="No space") as raised:
            if how == "put":
                await sftp.put(tmp_path / "file", "/file")
            elif how == "putfo":
                await sftp.putfo(io.BytesIO(data), "/file")
            else:
                await sftp.copy("/source", "/file")
        assert raised.value.filename in ("/.file.part", "/file", "/source")
    assert server.read_bytes("/file") == b"old"
    if how == "put":
        # Though what came behind was written.
        assert 0 < len(server.files["/.file.part"]) <= MIB
        assert data.startswith(server.files["/.file.part"])
    else:
        assert set(server.files) == {"/file", "/source"}


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("without", [(), (b"check-file",)])
async def test_what_goes_on_after_a_write_that_failed_is_whole(
    atomic: bool, without: tuple[bytes, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(12 * MIB)
    server = Full({}, 2 * MIB, monkeypatch)
    (tmp_path / "file").write_bytes(data)
    async with connected(server, without=without) as sftp:
        with pytest.raises(trio_ssh.SFTPError):
            await sftp.put(tmp_path / "file", "/file", atomic=atomic)
        await sftp.normalize(".")
        assert [data.startswith(left) for left in server.files.values()] == [True], "and it doesn't look whole"
        calls: list[int] = []
        await sftp.put(tmp_path / "file", "/file", lambda done, total: calls.append(done), atomic=atomic, resume=True)
        assert calls[0] > MIB
    assert server.files == {"/file": data}


async def test_a_disk_without_room_keeps_the_old_file(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": noise(MIB)})
    local = tmp_path / "file"
    local.write_bytes(b"old")
    async with connected(server) as sftp:
        with largest_file(300_000), pytest.raises(OSError, match="too large") as raised:
            await sftp.get("/file", local)
        assert raised.value.filename == str(local)
        assert local.read_bytes() == b"old"
        assert part_of(local).stat().st_size == 300_000
        await sftp.get("/file", local, resume=True)
    assert local.read_bytes() == server.read_bytes("/file")


@pytest.mark.parametrize("size", [4 * KIB, MIB])
async def test_a_file_that_the_server_cannot_close_does_not_get_its_name(size: int, tmp_path: Path) -> None:
    # File systems over a network say as late as this that there is no room.
    server = MemorySFTPServer({"/file": b"old"})
    server.fail_on("/.file.part", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), operation="close")
    (tmp_path / "file").write_bytes(noise(size))
    async with connected(server) as sftp:
        with pytest.raises(trio_ssh.SFTPError):
            await sftp.put(tmp_path / "file", "/file")
    assert server.read_bytes("/file") == b"old"


async def test_what_cannot_be_set_all_at_once_is_set_one_by_one(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old"})
    local = tmp_path / "file"
    local.write_bytes(noise(MIB))
    local.chmod(0o640)
    os.utime(local, (1_000_000, 2_000_000))
    refusal = PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    async with connected(server) as sftp:
        server.fail_on("/.file.part", refusal, operation="chattr")
        with pytest.raises(trio_ssh.SFTPPermissionDenied):
            await sftp.put(local, "/file", preserve=True)
        assert server.read_bytes("/file") == b"old"
        server.clear_faults()
        server.fail_on("/.file.part", refusal, operation="chattr", times=1)
        await sftp.put(local, "/file", preserve=True)
        there = await sftp.stat("/file")
    assert (there.st_size, stat.S_IMODE(there.st_mode or 0), there.st_mtime) == (MIB, 0o640, 2_000_000)


@pytest.mark.parametrize("size", [4 * KIB, 3 * MIB])
async def test_a_file_that_grows_while_it_is_put_is_put_with_what_came(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MemorySFTPServer(limits=SFTPLimits(requests=4))
    gate = held_up(server, monkeypatch, "write")
    local = tmp_path / "file"
    before, more = noise(size), noise(size, 2)
    local.write_bytes(before)
    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.put, local, "/file")
        while not sftp._link.session.pending:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with local.open("ab") as file:
            file.write(more)
        gate.set()
    there = server.read_bytes("/file")
    assert there.startswith(before)
    assert (before + more).startswith(there)


async def test_a_read_that_fails_keeps_what_came_before(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": noise(MIB)})
    server.fail_on("/file", OSError(errno.EIO, "bad disk"), operation="read", times=1)
    async with connected(server) as sftp:
        with pytest.raises(trio_ssh.SFTPError) as raised:
            await sftp.get("/file", tmp_path / "file")
        assert raised.value.filename == "/file"
        await sftp.get("/file", tmp_path / "file", resume=True)
    assert (tmp_path / "file").read_bytes() == server.read_bytes("/file")


async def test_a_size_that_is_wrong_in_the_end_is_an_error(tmp_path: Path) -> None:
    class Liar(trio_ssh.SFTPServerInterface):
        async def lstat(self, path: str) -> trio_ssh.SFTPAttributes:
            raise FileNotFoundError

        async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
            return trio_ssh.SFTPAttributes(st_size=3)

        async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
            return Drain()

        async def remove(self, path: str) -> None:
            return

    class Drain(trio_ssh.SFTPHandle):
        async def write(self, offset: int, data: bytes) -> None:
            return

    (tmp_path / "file").write_bytes(b"four")
    async with connected(trio_ssh.SFTPServer(Liar)) as sftp:
        with pytest.raises(OSError, match="4 bytes were written, and the server says that it has 3"):
            await sftp.put(tmp_path / "file", "/file")
        with pytest.raises(OSError, match="4 bytes were written"):
            await sftp.putfo(io.BytesIO(b"four"), "/file")


# -- sizes that are not what they seem


class Growing(trio_ssh.SFTPServerInterface):
    """A file whose size is said to be something else than it is."""

    said = 0
    data = b""

    async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
        return trio_ssh.SFTPAttributes(st_size=self.said, st_mode=stat.S_IFREG | 0o644)

    async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
        return GrowingFile(self.data)


class GrowingFile(trio_ssh.SFTPHandle):
    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    async def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@pytest.mark.parametrize("said", [0, 1, 4096, 2**40, 2**63])
@pytest.mark.parametrize("size", [0, 5, 400_000])
async def test_a_file_ends_where_reading_it_ends(said: int, size: int, tmp_path: Path) -> None:
    data = noise(size)

    class Server(Growing):
        pass

    Server.said, Server.data = said, data
    async with connected(trio_ssh.SFTPServer(Server)) as sftp:
        await sftp.get("/file", tmp_path / "file")
        file = io.BytesIO()
        await sftp.getfo("/file", file)
    assert (tmp_path / "file").read_bytes() == data == file.getvalue()


async def test_local_files_whose_size_is_a_lie_are_read_to_their_end() -> None:
    server = MemorySFTPServer()
    async with connected(server) as sftp:
        await sftp.put("/proc/self/status", "/status")
        await sftp.put("/proc/version", "/version")
    assert b"State:" in server.read_bytes("/status")
    assert server.read_bytes("/version").startswith(b"Linux")


async def test_a_pipe_is_sent_to_its_end() -> None:
    server = MemorySFTPServer()
    receiver, sender = os.pipe()
    os.write(sender, b"from a pipe")
    os.close(sender)
    async with connected(server) as sftp:
        await sftp.put(f"/proc/self/fd/{receiver}", "/file")
    os.close(receiver)
    assert server.read_bytes("/file") == b"from a pipe"


# -- holes


async def test_holes_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = tmp_path / "file"
    with local.open("wb") as file:
        file.truncate(20 * MIB)
        file.seek(7 * MIB)
        file.write(noise(1000))
    server = MemorySFTPServer()
    sent = 0
    write_in_place = ClientSession.write_in_place

    def count(self: ClientSession, packet: memoryview, handle: bytes, offset: int, waiter: Waiter) -> None:
        nonlocal sent
        sent += len(packet)
        write_in_place(self, packet, handle, offset, waiter)

    monkeypatch.setattr(ClientSession, "write_in_place", count)
    async with connected(server) as sftp:
        await sftp.put(local, "/file")
    assert server.read_bytes("/file") == local.read_bytes()
    assert sent < MIB


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTTY, errno.ENOTSUP])
async def test_a_file_system_that_knows_nothing_of_holes_is_read_plainly(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(3 * MIB) + bytes(4 * MIB) + noise(1000, 2)
    with (tmp_path / "file").open("wb") as file:
        file.write(data[: 3 * MIB])
        file.seek(4 * MIB, os.SEEK_CUR)
        file.write(data[-1000:])

    def lseek(descriptor: int, offset: int, whence: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "lseek", lseek)
    server = MemorySFTPServer()
    async with connected(server) as sftp:
        await sftp.put(tmp_path / "file", "/file")
    assert server.read_bytes("/file") == data


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EIO])
async def test_a_file_system_without_locks_does(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    async with connected(MemorySFTPServer({"/file": b"data"})) as sftp:
        if error == errno.EIO:
            with pytest.raises(OSError, match="Input/output error"):
                await sftp.get("/file", tmp_path / "file")
        else:
            await sftp.get("/file", tmp_path / "file")
            assert (tmp_path / "file").read_bytes() == b"data"


async def test_holes_are_not_written(tmp_path: Path) -> None:
    data = bytes(4 * MIB) + noise(1000) + bytes(4 * MIB)
    server = MemorySFTPServer({"/file": data})
    async with connected(server) as sftp:
        await sftp.get("/file", tmp_path / "sparse")
        await sftp.get("/file", tmp_path / "full", sparse=False)
    assert (tmp_path / "sparse").read_bytes() == data == (tmp_path / "full").read_bytes()
    assert (tmp_path / "sparse").stat().st_blocks * 512 < MIB
    assert (tmp_path / "full").stat().st_blocks * 512 >= 8 * MIB


# -- going on


@pytest.mark.parametrize("kept", [1, 1000, OVERLAP_BYTES, OVERLAP_BYTES + 1, 3 * MIB])
@pytest.mark.parametrize("without", [(), (b"check-file",)])
async def test_a_part_is_continued(kept: int, without: tuple[bytes, ...], tmp_path: Path) -> None:
    data = noise(3 * MIB)
    server = MemorySFTPServer({"/file": data, "/.back.part": data[:kept]})
    local = tmp_path / "file"
    part_of(local).write_bytes(data[:kept])
    calls: list[int] = []
    async with connected(server, without=without) as sftp:
        await sftp.get("/file", local, lambda done, total: calls.append(done), resume=True)
        assert local.read_bytes() == data
        assert calls[0] >= kept
        calls.clear()
        await sftp.put(local, "/back", lambda done, total: calls.append(done), resume=True)
        assert calls[0] >= kept
    assert server.files == {"/file": data, "/back": data}
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("without", [(), (b"check-file",)])
@pytest.mark.parametrize("part", [noise(1000, seed=2), noise(2 * MIB, seed=2), b"x" * 4 * MIB])
async def test_a_part_of_something_else_is_dropped(part: bytes, without: tuple[bytes, ...], tmp_path: Path) -> None:
    data = noise(3 * MIB)
    server = MemorySFTPServer({"/file": data, "/.back.part": part})
    local = tmp_path / "file"
    part_of(local).write_bytes(part)
    async with connected(server, without=without) as sftp:
        await sftp.get("/file", local, resume=True)
        await sftp.put(local, "/back", resume=True)
    assert local.read_bytes() == data
    assert server.files == {"/file": data, "/back": data}


async def test_all_of_a_part_is_compared_where_the_server_has_hashes(tmp_path: Path) -> None:
    data = noise(3 * MIB)
    spoilt = b"?" + data[1 : 2 * MIB]
    local = tmp_path / "file"
    async with connected(MemorySFTPServer({"/file": data})) as sftp:
        part_of(local).write_bytes(spoilt)
        await sftp.get("/file", local, resume=True)
        assert local.read_bytes() == data
    async with connected(MemorySFTPServer({"/file": data}), without=(b"check-file",)) as sftp:
        part_of(local).write_bytes(spoilt)
        await sftp.get("/file", local, resume=True)
        assert local.read_bytes() == spoilt + data[2 * MIB :], "the last MiB is what the guide says"


async def test_without_parts_the_target_itself_is_continued(tmp_path: Path) -> None:
    data = noise(2 * MIB)
    server = MemorySFTPServer({"/file": data, "/back": data[:MIB]})
    local = tmp_path / "file"
    local.write_bytes(data[:MIB])
    async with connected(server) as sftp:
        await sftp.get("/file", local, resume=True, atomic=False)
        await sftp.put(local, "/back", resume=True, atomic=False)
    assert local.read_bytes() == data == server.read_bytes("/back")


async def test_a_hole_that_a_cut_connection_left_in_a_part_is_filled(tmp_path: Path) -> None:
    data = noise(20 * MIB)
    hole = slice(5 * MIB, 5 * MIB + 255 * KIB)
    part = bytearray(data[: 19 * MIB])
    part[hole] = bytes(255 * KIB)
    server = MemorySFTPServer({"/.file.part": bytes(part)})
    (tmp_path / "file").write_bytes(data)
    calls: list[int] = []
    async with connected(server, without=(b"check-file",)) as sftp:
        await sftp.put(tmp_path / "file", "/file", lambda done, total: calls.append(done), resume=True)
    assert server.files == {"/file": data}
    assert calls[0] >= 5 * MIB, "what is before the hole was not sent again"


@pytest.mark.parametrize("hole_bytes", [0, 4 * MIB])
@pytest.mark.parametrize("is_memory", [True, False])
async def test_what_is_written_is_never_far_from_what_is_not(
    is_memory: bool,
    hole_bytes: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A server may carry out WRITEs in any order: one hangs, and what goes on behind it must be compared one day."""
    if is_memory:
        request.getfixturevalue("memory")
    data = noise(6 * MIB) + bytes(hole_bytes) + noise(6 * MIB, 2)
    with (tmp_path / "file").open("wb") as file:
        file.write(data[: 6 * MIB])
        file.seek(hole_bytes, os.SEEK_CUR)
        file.write(data[6 * MIB + hole_bytes :])

    class Forgetful(ScriptedServer):
        """Carries out all WRITEs but the second, of which nothing is ever heard."""

        offsets: ClassVar[list[int]] = []

        def write(self, file: bytearray, offset: int, data: bytes) -> Reply:
            self.offsets.append(offset)
            return SILENCE if len(self.offsets) == 2 else super().write(file, offset, data)

    server = Forgetful()
    with trio.fail_after(60):
        async with (
            using(server, limits=trio_ssh.SFTPLimits(file_bytes=3 * MIB)) as sftp,
            trio.open_nursery() as nursery,
        ):

            async def cut() -> None:
                seen = -1
                while len(server.offsets) != seen or seen < 2:
                    seen = len(server.offsets)
                    await trio.testing.wait_all_tasks_blocked(0.1)
                sftp._link.fail(trio_ssh.ConnectionLost("cut"))

            nursery.start_soon(cut)
            with pytest.raises(trio_ssh.ConnectionLost):
                await sftp.put(tmp_path / "file", "/file")
    part = bytes(server.files.pop(b"/.file.part"))
    assert MIB < max(server.offsets) < server.offsets[1] + 3 * MIB
    assert not data.startswith(part), "a block is missing in the middle"
    other = MemorySFTPServer({"/.file.part": part})
    async with connected(other, without=(b"check-file",)) as sftp:
        await sftp.put(tmp_path / "file", "/file", resume=True)
    assert other.files == {"/file": data}


async def test_two_files_that_end_alike_are_not_taken_for_one(tmp_path: Path) -> None:
    data = noise(20 * MIB) + bytes(2 * MIB)
    server = MemorySFTPServer({"/.file.part": noise(20 * MIB, 2) + bytes(MIB)})
    (tmp_path / "file").write_bytes(data)
    async with connected(server, without=(b"check-file",)) as sftp:
        await sftp.put(tmp_path / "file", "/file", resume=True)
    assert server.files == {"/file": data}


# -- names on the server


@pytest.mark.parametrize("how", ["put", "putfo", "copy"])
@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EIO, errno.EXDEV, errno.EACCES])
async def test_a_rename_that_fails_costs_neither_file(how: str, error: int, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old", "/source": b"new"})
    server.fail_on("/.file.part", OSError(error, "not so"), operation="rename")
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server, without=(b"posix-rename@openssh.com",)) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match="not so") as raised:
            await (
                sftp.put(tmp_path / "file", "/file")
                if how == "put"
                else sftp.putfo(io.BytesIO(b"new"), "/file")
                if how == "putfo"
                else sftp.copy("/source", "/file")
            )
        assert raised.value.filename2 == "/file"
        assert ("atomic=False" in str(getattr(raised.value, "__notes__", ""))) == (error == errno.EACCES)
    kept = {"/.file.part": b"new"} if how == "put" else {}
    assert server.files == {"/file": b"old", "/source": b"new", **kept}


@pytest.mark.parametrize("how", ["put", "putfo"])
async def test_where_the_old_file_cannot_come_back_both_are_kept_and_named(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_ssh.sftp.local.secrets.token_hex", lambda size: "0" * 2 * size)
    server = MemorySFTPServer({"/file": b"old"})
    for path in ("/.file.part", "/.file.00000000.old"):
        server.fail_on(path, OSError(errno.EIO, "bad disk"), operation="rename")
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server, without=(b"posix-rename@openssh.com",)) as sftp:
        with pytest.raises(trio_ssh.SFTPError) as raised:
            await (sftp.put(tmp_path / "file", "/file") if how == "put" else sftp.putfo(io.BytesIO(b"new"), "/file"))
    assert "/.file.00000000.old" in raised.value.__notes__[0]
    assert server.files == {"/.file.00000000.old": b"old", "/.file.part": b"new"}


async def test_a_posix_rename_that_is_refused_tells_of_the_other_way(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old"})
    server.fail_on("/.file.part", PermissionError(errno.EACCES, "no renaming"), operation="posix_rename")
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server) as sftp:
        with pytest.raises(PermissionError) as raised:
            await sftp.put(tmp_path / "file", "/file")
    assert "atomic=False" in raised.value.__notes__[0]
    assert server.files == {"/file": b"old", "/.file.part": b"new"}


@pytest.mark.parametrize("how", ["put", "putfo"])
async def test_a_server_that_renames_for_ever_can_be_left(
    how: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "file").write_bytes(b"new")
    for path, seconds in (("/.file.part", 5), ("/file", 5)):
        server = MemorySFTPServer({"/file": b"old"})
        server.delay_on(path, seconds, operation="rename")
        async with connected(server, without=(b"posix-rename@openssh.com",)) as sftp:
            started = trio.current_time()
            with trio.move_on_after(1 if path == "/.file.part" else 2) as scope:
                await (
                    sftp.put(tmp_path / "file", "/file") if how == "put" else sftp.putfo(io.BytesIO(b"new"), "/file")
                )
            assert scope.cancelled_caught
            assert trio.current_time() - started < 3
            await trio.sleep(30)
        # What was begun has come to its end, and nothing is lost.
        if path == "/file":
            assert server.files == {"/file": b"new"}
        else:
            assert server.files == {"/file": b"old"} | ({"/.file.part": b"new"} if how == "put" else {})


async def test_a_link_to_a_link_is_followed_where_only_readlink_tells(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(noise(4 * MIB))
    with pytest.MonkeyPatch.context() as monkeypatch:
        server = Full({"/folder/file": b"old"}, 2 * MIB, monkeypatch)
        async with connected(server) as sftp:
            await sftp.symlink("file", "/folder/inner")
            await sftp.symlink("folder/inner", "/link")
            with pytest.raises(trio_ssh.SFTPError, match="No space"):
                await sftp.put(tmp_path / "file", "/link")
            assert server.read_bytes("/folder/file") == b"old"
            await sftp.put(tmp_path / "file", "/link")
            assert (await sftp.lstat("/link")).is_symlink()
            assert (await sftp.lstat("/folder/inner")).is_symlink()
    assert server.files == {"/folder/file": noise(4 * MIB)}


async def test_a_link_that_leads_nowhere_is_written_as_a_part_too(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        server = Full({"/folder/other": b""}, 2 * MIB, monkeypatch)
        (tmp_path / "file").write_bytes(noise(4 * MIB))
        async with connected(server) as sftp:
            await sftp.symlink("/folder/file", "/link")
            with pytest.raises(trio_ssh.SFTPError, match="No space"):
                await sftp.put(tmp_path / "file", "/link")
            assert "/folder/file" not in server.files
            await sftp.put(tmp_path / "file", "/link")
    assert server.files["/folder/file"] == noise(4 * MIB)


@pytest.mark.parametrize("target", ["/link", "/other"])
async def test_a_link_that_goes_round_is_refused_and_the_way_out_is_told(target: str, tmp_path: Path) -> None:
    server = MemorySFTPServer()
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server) as sftp:
        await sftp.symlink(target, "/link")
        await sftp.symlink("/link", "/other")
        with pytest.raises(OSError, match="symbolic link") as raised:
            await sftp.put(tmp_path / "file", "/link")
        assert raised.value.errno == errno.ELOOP
        assert "atomic=False" in raised.value.__notes__[0]
        server.fail_on("/link", OSError(errno.EACCES, "no"), operation="readlink")
        with pytest.raises(OSError, match="symbolic link"):
            await sftp.put(tmp_path / "file", "/link")
        assert not sftp._link.parts
    assert server.files == {}


@pytest.mark.parametrize("planted", ["/victim", "/missing"])
async def test_a_link_that_is_planted_as_a_part_is_not_gone_on_with(planted: str, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/victim": b"new"})
    (tmp_path / "file").write_bytes(b"new and longer")
    async with connected(server) as sftp:
        await sftp.symlink(planted, "/.file.part")
        await sftp.put(tmp_path / "file", "/file", resume=True)
        assert (await sftp.lstat("/file")).is_file()
    assert server.files == {"/victim": b"new", "/file": b"new and longer"}


@pytest.mark.parametrize("resume", [True, False])
async def test_a_directory_with_the_name_of_a_part_is_left_alone(resume: bool, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/.file.part/inside": b"precious", "/source": b"data"})
    (tmp_path / "file").write_bytes(b"data")
    part_of(tmp_path / "got").mkdir()
    async with connected(server) as sftp:
        await sftp.put(tmp_path / "file", "/file", resume=resume)
        await sftp.get("/source", tmp_path / "got", resume=resume)
    assert server.files == {"/.file.part/inside": b"precious", "/source": b"data", "/file": b"data"}
    assert sorted(os.listdir(tmp_path)) == [".got.part", "file", "got"]


@pytest.mark.parametrize("how", ["put", "putfo", "resume"])
async def test_a_part_is_never_more_readable_than_what_it_becomes(how: str, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"private"})
    data = noise(MIB)
    (tmp_path / "file").write_bytes(data)
    modes: list[int] = []

    async def look(done: int, total: int) -> None:
        modes.append((await sftp.stat("/.file.part")).st_mode or 0)

    async with connected(server) as sftp:
        await sftp.chmod("/file", 0o600)
        if how == "resume":
            server.write_bytes("/.file.part", data[:1000])
        if how == "putfo":
            await sftp.putfo(io.BytesIO(data), "/file", callback=look)
        else:
            await sftp.put(tmp_path / "file", "/file", look, resume=how == "resume")
        modes.append((await sftp.stat("/file")).st_mode or 0)
    assert {stat.S_IMODE(mode) for mode in modes} == {0o600}


async def test_an_old_part_is_replaced_and_a_planted_link_not_followed(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/.file.part": b"old and long", "/victim": b"precious"})
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server) as sftp:
        await sftp.put(tmp_path / "file", "/file")
        await sftp.symlink("/victim", "/.other.part")
        await sftp.put(tmp_path / "file", "/other")
    assert server.files == {"/file": b"new", "/other": b"new", "/victim": b"precious"}


@pytest.mark.parametrize("resume", [False, True])
async def test_a_link_that_is_planted_as_a_part_here_is_told_of(resume: bool, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"new"})
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".file.part").symlink_to("victim")
    async with connected(server) as sftp:
        with pytest.raises(OSError, match=r"a symbolic link has the name of its part, '\.file\.part'") as raised:
            await sftp.get("/file", tmp_path / "file", resume=resume)
        assert raised.value.errno == errno.ELOOP
        assert raised.value.filename == str(tmp_path / "file")
    assert (tmp_path / "victim").read_bytes() == b"precious"


async def test_a_link_that_is_the_target_is_followed(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/folder/file": b"old"})
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server) as sftp:
        await sftp.symlink("/folder/file", "/link")
        await sftp.put(tmp_path / "file", "/link")
        assert (await sftp.lstat("/link")).is_symlink()
    assert server.files == {"/folder/file": b"new"}


@pytest.mark.parametrize("without", [(), (b"posix-rename@openssh.com",)])
async def test_a_file_is_replaced_on_every_server(without: tuple[bytes, ...], tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old"})
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server, without=without) as sftp:
        await sftp.put(tmp_path / "file", "/file")
        await sftp.put(tmp_path / "file", "/other")
    assert server.files == {"/file": b"new", "/other": b"new"}


async def test_a_part_that_is_refused_tells_of_the_other_way(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old"})
    server.fail_on("/.file.part", PermissionError(errno.EACCES, "no new files here"), operation="open")
    (tmp_path / "file").write_bytes(b"new")
    async with connected(server) as sftp:
        with pytest.raises(PermissionError) as raised:
            await sftp.put(tmp_path / "file", "/file")
        assert "atomic=False" in raised.value.__notes__[0]
        assert server.read_bytes("/file") == b"old"
        await sftp.put(tmp_path / "file", "/file", atomic=False)
    assert server.files == {"/file": b"new"}


@pytest.mark.parametrize("without", [(), (b"copy-data",)])
async def test_a_copy_onto_itself_changes_nothing(without: tuple[bytes, ...]) -> None:
    server = MemorySFTPServer({"/file": noise(MIB)})
    async with connected(server, without=without) as sftp:
        await sftp.copy("/file", "/file")
    assert server.files == {"/file": noise(MIB)}


@pytest.mark.parametrize("without", [(), (b"copy-data",)])
@pytest.mark.parametrize("size", [1, 9 * MIB])
async def test_a_copy_that_there_is_no_room_for_names_the_copy(size: int, without: tuple[bytes, ...]) -> None:
    server = MemorySFTPServer({"/file": noise(size)})
    server.fail_on("/.copy.part", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), operation="write")
    async with connected(server, without=without) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match="No space left") as raised:
            await sftp.copy("/file", "/copy")
        assert raised.value.filename == "/copy"
        server.fail_on("/file", OSError(errno.EIO, os.strerror(errno.EIO)), operation="read")
        if without:
            with pytest.raises(trio_ssh.SFTPError) as raised:
                await sftp.copy("/file", "/other")
            assert raised.value.filename == "/file"
    assert list(server.files) == ["/file"]


async def test_a_copy_goes_to_another_server() -> None:
    data = noise(5 * MIB)
    source, target = MemorySFTPServer({"/file": data}), MemorySFTPServer()
    async with connected(source) as sftp, connected(target) as other:
        await sftp.copy("/file", "/file", target_client=other)
    assert target.files == {"/file": data}


# -- the end comes early


async def test_a_transfer_that_is_cancelled_leaves_the_old_file_and_a_part(tmp_path: Path) -> None:
    data = noise(8 * MIB)
    server = MemorySFTPServer({"/file": data, "/back": b"old"})
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "source").write_bytes(data)
    async with connected(server) as sftp:
        for transfer in (
            partial(sftp.get, "/file", tmp_path / "file"),
            partial(sftp.put, tmp_path / "source", "/back"),
        ):
            with trio.CancelScope() as scope:

                def stop(done: int, total: int, scope: trio.CancelScope = scope) -> None:
                    if done > MIB:
                        scope.cancel()

                await transfer(callback=stop)
            assert scope.cancelled_caught
        assert (tmp_path / "file").read_bytes() == b"old"
        assert server.read_bytes("/back") == b"old"
        part = part_of(tmp_path / "file").read_bytes()
        assert len(part) > MIB
        assert data.startswith(part)
        await sftp.get("/file", tmp_path / "file", resume=True)
        await sftp.put(tmp_path / "source", "/back", resume=True)
    assert (tmp_path / "file").read_bytes() == data
    assert server.files == {"/file": data, "/back": data}
    assert server.open_handles == 0


@pytest.mark.parametrize("after", [0, 1, 2, 5, 10, 20, 50, 100])
async def test_a_transfer_may_be_cancelled_at_every_step(after: int, tmp_path: Path) -> None:
    data = noise(MIB)
    server = MemorySFTPServer({"/file": data})
    (tmp_path / "source").write_bytes(data)
    for number in range(4):
        async with connected(server) as sftp:
            transfer = [
                partial(sftp.get, "/file", tmp_path / "file"),
                partial(sftp.put, tmp_path / "source", "/back"),
                partial(sftp.putfo, io.BytesIO(data), "/sent"),
                partial(sftp.copy, "/file", "/copied"),
            ][number]
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(transfer)
                    for _ in range(after):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            # The session is as good as before.
            assert (await sftp.stat("/file")).st_size == MIB
            await sftp.put(tmp_path / "source", "/again")
        assert server.open_handles == 0
    for path in ("/back", "/sent", "/copied"):
        assert server.files.get(path, data) == data
    assert not (tmp_path / "file").exists() or (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("passed", [30_000, 500_000, 1_500_000])
async def test_a_connection_that_is_cut_leaves_a_part(passed: int, tmp_path: Path) -> None:
    data = noise(2 * MIB)
    server = MemorySFTPServer({"/file": data})
    (tmp_path / "source").write_bytes(data)
    for is_get in (True, False):
        client_end, server_end = memory_pair()
        cut = CutStream(client_end, received=passed) if is_get else CutStream(client_end, sent=passed)
        with pytest.raises(trio_ssh.ConnectionLost):
            async with connected(server, streams=(cut, server_end)) as sftp:
                if is_get:
                    await sftp.get("/file", tmp_path / "file")
                else:
                    await sftp.put(tmp_path / "source", "/back")
        assert not (tmp_path / "file").exists()
        assert "/back" not in server.files
    async with connected(server) as sftp:
        await sftp.get("/file", tmp_path / "file", resume=True)
        await sftp.put(tmp_path / "source", "/back", resume=True)
    assert (tmp_path / "file").read_bytes() == data == server.read_bytes("/back")


async def test_two_transfers_to_one_file_do_not_mix(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/a": noise(4 * MIB, 1), "/b": noise(8 * MIB, 2)})
    is_half_done, may_go_on = trio.Event(), trio.Event()

    async def stop(done: int, total: int) -> None:
        is_half_done.set()
        await may_go_on.wait()

    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.get, "/a", tmp_path / "file", stop)
        await is_half_done.wait()
        with pytest.raises(OSError, match="another transfer is writing it") as raised:
            await sftp.get("/b", tmp_path / "file")
        assert raised.value.errno == errno.ETXTBSY
        may_go_on.set()
    assert (tmp_path / "file").read_bytes() == server.read_bytes("/a")
    assert os.listdir(tmp_path) == ["file"]


# -- what is held


async def test_what_is_under_way_is_bounded(tmp_path: Path) -> None:
    limits = SFTPLimits(file_bytes=MIB, session_bytes=2 * MIB)
    data = noise(16 * MIB)
    server = MemorySFTPServer({f"/{number}": data for number in range(4)})
    most = 0

    def look(done: int, total: int) -> None:
        nonlocal most
        most = max(most, sftp._link.used_bytes)

    async with connected(server) as client:
        sftp = await trio_ssh.SFTPClient.from_transport(client.get_channel().get_transport(), limits=limits)  # type: ignore[arg-type]
        async with sftp:
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(partial(sftp.get, f"/{number}", tmp_path / str(number), look))
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(partial(sftp.put, tmp_path / str(number), f"/back{number}", look))
    assert most <= 2 * MIB + 4 * 255 * KIB
    assert all(server.read_bytes(f"/back{number}") == data for number in range(4))


async def test_a_small_file_costs_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemorySFTPServer({"/file": b"data"})
    asked = 0
    register = ClientSession._register

    def count(self: ClientSession, waiter: Waiter) -> int:
        nonlocal asked
        asked += 1
        return register(self, waiter)

    async with connected(server) as sftp:
        monkeypatch.setattr(ClientSession, "_register", count)
        await sftp.get("/file", tmp_path / "file")
        assert asked == 5, "STAT, OPEN; READ, READ behind it; CLOSE"
        asked = 0
        await sftp.put(tmp_path / "file", "/back")
        assert asked == 6, "LSTAT, OPEN; WRITE; CLOSE, STAT; RENAME"


async def test_small_pieces_between_holes_stay_what_they_are_until_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces, step, size = 200, 512 * KIB, 360 * KIB
    local = tmp_path / "file"
    with local.open("wb") as file:
        for number in range(pieces):
            file.seek(number * step)
            # Some of them are small enough to be copied, some aren't.
            file.write(bytes([number + 1]) * (size if number % 3 else 64 * KIB))
    fills = 0
    fill = LocalReader.fill

    def counted(reader: LocalReader, views: Sequence[memoryview], offset: int) -> tuple[int, int]:
        nonlocal fills
        fills += 1
        return fill(reader, views, offset)

    monkeypatch.setattr(LocalReader, "fill", counted)
    server = MemorySFTPServer(limits=SFTPLimits(requests=4))
    gate = held_up(server, monkeypatch, "write")
    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.put, local, "/file")
        seen = -1
        # As much is read as ever will be before something is written.
        while fills != seen:
            seen = fills
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert fills < pieces
        gate.set()
    assert server.read_bytes("/file") == local.read_bytes()


@pytest.mark.parametrize("operation", ["open", "write", "close"])
async def test_what_a_file_object_gave_leaves_no_part_wherever_it_is_cancelled(
    operation: str, autojump_clock: trio.testing.MockClock
) -> None:
    server = MemorySFTPServer({"/f": b"old"})
    server.delay_on("/.f.part", 5, operation=operation)
    async with connected(server) as sftp:
        with trio.move_on_after(1) as scope:
            await sftp.putfo(io.BytesIO(b"x"), "/f")
        assert scope.cancelled_caught
        await trio.sleep(10)
    assert server.files == {"/f": b"old"}


@pytest.mark.parametrize("without", [(), (b"posix-rename@openssh.com",)])
async def test_two_transfers_to_one_file_there_do_not_mix(
    without: tuple[bytes, ...], tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    contents = noise(2 * MIB, 1), noise(4 * MIB, 2)
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    server = MemorySFTPServer({"/file": b"old"})
    server.delay_on("/.file.part", 0.1, operation="write")
    outcomes: list[object] = []

    async def put(number: int) -> None:
        try:
            outcomes.append(await sftp.put(tmp_path / str(number), "/file", confirm=False))
        except OSError as error:
            outcomes.append(error.errno)

    async with connected(server, without=without) as sftp:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, 0)
            nursery.start_soon(put, 1)
        assert errno.ETXTBSY in outcomes
        assert server.files["/file"] in contents
        outcomes.clear()
        await put(1)
        assert outcomes != [errno.ETXTBSY]
        # What the one that was refused is to leave alone.
        with pytest.raises(trio_ssh.SFTPError):
            await sftp.putfo(io.BytesIO(b"x"), "/missing/file")
        assert not sftp._link.parts
    assert server.files == {"/file": contents[1]}


async def test_a_part_of_another_session_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    contents = noise(2 * MIB, 1), noise(9 * MIB, 2)
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    server = MemorySFTPServer({"/file": b"old"})
    is_there, may_go_on = trio.Event(), trio.Event()

    async def stop(done: int, total: int) -> None:
        is_there.set()
        await may_go_on.wait()

    async with connected(server) as one, connected(server) as other, trio.open_nursery() as nursery:
        is_first_there, may_first_go_on = trio.Event(), trio.Event()

        async def stop_first(done: int, total: int) -> None:
            is_first_there.set()
            await may_first_go_on.wait()

        async def put_first() -> None:
            with pytest.raises(OSError, match="2097152 bytes were written, and the server says that it has"):
                await one.put(tmp_path / "0", "/file", stop_first, confirm=False)
            assert server.files["/file"] == b"old"
            may_go_on.set()

        nursery.start_soon(put_first)
        await is_first_there.wait()
        nursery.start_soon(partial(other.put, tmp_path / "1", "/file", stop, confirm=False))
        await is_there.wait()
        may_first_go_on.set()
    assert server.files == {"/file": contents[1]}


async def test_what_is_the_part_of_one_file_is_no_target_of_another_meanwhile(tmp_path: Path) -> None:
    server = MemorySFTPServer()
    (tmp_path / "file").write_bytes(noise(9 * MIB))
    is_half_done, may_go_on = trio.Event(), trio.Event()

    async def stop(done: int, total: int) -> None:
        is_half_done.set()
        await may_go_on.wait()

    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(partial(sftp.put, tmp_path / "file", "/file", stop))
        await is_half_done.wait()
        for atomic in (True, False):
            with pytest.raises(OSError, match="another transfer is writing it"):
                await sftp.put(tmp_path / "file", "/.file.part", atomic=atomic)
        may_go_on.set()
    assert server.files == {"/file": noise(9 * MIB)}


async def test_a_target_is_not_removed_for_a_part_that_is_gone(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"old"})
    async with connected(server, without=(b"posix-rename@openssh.com",)) as sftp:

        async def remove(done: int, total: int) -> None:
            await sftp.remove("/.file.part")

        with pytest.raises(trio_ssh.SFTPNoSuchFile):
            await sftp.putfo(io.BytesIO(b"new"), "/file", callback=remove, confirm=False)
    assert server.files == {"/file": b"old"}


async def test_a_text_file_is_not_taken_for_bytes() -> None:
    class Texts:
        def read(self, size: int) -> str:
            return "text"

    server = MemorySFTPServer({"/there": b"bytes"})
    async with connected(server) as sftp:
        with pytest.raises(TypeError, match="is a text file: open it as binary, by 'rb'"):
            await sftp.putfo(io.StringIO("text"), "/file")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="gives str: open it as binary"):
            await sftp.putfo(Texts(), "/file")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is a text file: open it as binary, by 'wb'"):
            await sftp.getfo("/there", io.StringIO())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="has a `write` for bytes, and object has none"):
            await sftp.getfo("/there", object())  # type: ignore[arg-type]
    assert server.files == {"/there": b"bytes"}


# -- what may block for ever


async def test_what_is_in_memory_needs_no_thread(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    data = noise(5 * MIB)
    server = MemorySFTPServer({"/file": data})
    server.delay_on("/back", 3600, operation="open")
    async with connected(server) as sftp:

        async def refuse(*arguments: object, **options: object) -> None:
            raise AssertionError("a thread")

        monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
        file = io.BytesIO()
        await sftp.getfo("/file", file)
        assert file.getvalue() == data
        file.seek(1000)
        await sftp.putfo(file, "/back")
    assert server.read_bytes("/back") == data[1000:]


@pytest.mark.parametrize("is_get", [True, False])
async def test_a_fifo_without_another_end_can_be_left(is_get: bool, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"data"})
    os.mkfifo(tmp_path / "fifo")
    async with connected(server) as sftp:
        with trio.move_on_after(0.2) as scope:
            if is_get:
                await sftp.get("/file", tmp_path / "fifo")
            else:
                await sftp.put(tmp_path / "fifo", "/back")
        assert scope.cancelled_caught
        assert trio.testing.active_thread_count() == 0
    assert server.files == {"/file": b"data"}


async def test_a_fifo_is_read_when_somebody_writes_it(tmp_path: Path) -> None:
    server = MemorySFTPServer()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = noise(3 * MIB)
    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.put, fifo, "/file")
        await trio.testing.wait_all_tasks_blocked(0.05)
        await trio.to_thread.run_sync(fifo.write_bytes, data)
    assert server.files == {"/file": data}


@pytest.mark.parametrize("size", [0, 1, 3 * MIB])
async def test_a_fifo_is_written_when_somebody_reads_it(size: int, tmp_path: Path) -> None:
    data = noise(size)
    server = MemorySFTPServer({"/file": data})
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with connected(server) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(sftp.get, "/file", fifo)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await trio.to_thread.run_sync(fifo.read_bytes) == data
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_a_pipe_as_a_file_object_can_be_left_and_is_read_to_its_end(buffering: int) -> None:
    server = MemorySFTPServer()
    receiver, sender = os.pipe()
    with open(receiver, "rb", buffering=buffering) as file:  # noqa: ASYNC230, RUF100 -- it is what users have
        async with connected(server) as sftp:
            with trio.move_on_after(0.2) as scope:
                await sftp.putfo(file, "/file")
            assert scope.cancelled_caught
            assert trio.testing.active_thread_count() == 0
            os.write(sender, b"from a pipe")
            os.close(sender)
            await sftp.putfo(file, "/file")
    assert server.files == {"/file": b"from a pipe"}


async def test_a_pipe_that_nobody_reads_can_be_left() -> None:
    server = MemorySFTPServer({"/file": noise(MIB)})
    receiver, sender = os.pipe()
    with open(sender, "wb", buffering=0) as file:  # noqa: ASYNC230, RUF100 -- it is what users have
        async with connected(server) as sftp:
            with trio.move_on_after(0.2) as scope:
                await sftp.getfo("/file", file)
            assert scope.cancelled_caught
        # The thread that was left behind ends with the pipe.
        os.close(receiver)


async def test_a_comparison_may_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(3 * MIB)
    server = MemorySFTPServer({"/.file.part": data[: 2 * MIB]})
    (tmp_path / "file").write_bytes(data)
    async with connected(server, without=(b"check-file",)) as sftp:
        with trio.CancelScope() as scope:
            read = LocalReader.read

            def cancel(reader: LocalReader, offset: int, size: int) -> bytes:
                trio.from_thread.run_sync(scope.cancel)
                return read(reader, offset, size)

            monkeypatch.setattr(LocalReader, "read", cancel)
            await sftp.put(tmp_path / "file", "/file", resume=True)
        assert scope.cancelled_caught
    assert server.files == {"/.file.part": data[: 2 * MIB]}
