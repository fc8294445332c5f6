"""`get`, `getfo` and their kin, called as programs call them that were written for paramiko."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import trio_ssh
from tests.sftp.connected import connected, noise
from tests.sftp.scripted import ScriptedServer, using
from trio_ssh.sftp.messages import Readdir
from trio_ssh.sftp.protocol import KIB
from trio_ssh.testing import MemorySFTPServer

BLOCK = 32 * KIB
DATA = noise(40 * BLOCK)

Call = Callable[[trio_ssh.SFTPClient, Path], Awaitable[object]]


async def read_prefetched(sftp: trio_ssh.SFTPClient, most: int | None) -> None:
    async with await sftp.open("f") as file:
        await file.prefetch(len(DATA), most)
        assert await file.read() == DATA


CALLS: dict[str, tuple[Call, int]] = {
    "get in order": (lambda sftp, path: sftp.get("f", path, None, False), 1),
    "get by three": (lambda sftp, path: sftp.get("f", path, None, True, 3), 3),
    "get by keyword": (lambda sftp, path: sftp.get("f", path, max_concurrent_prefetch_requests=5), 5),
    "in order whatever else is said": (lambda sftp, path: sftp.get("f", path, None, False, 5), 1),
    "getfo in order": (lambda sftp, path: sftp.getfo("f", io.BytesIO(), None, False), 1),
    "getfo by three": (lambda sftp, path: sftp.getfo("f", io.BytesIO(), None, True, 3), 3),
    "a tree": (lambda sftp, path: sftp.get("f", path, None, True, 3, recurse=True), 3),
    "prefetch in order": (lambda sftp, path: read_prefetched(sftp, 1), 1),
    "prefetch by three": (lambda sftp, path: read_prefetched(sftp, 3), 3),
}


@pytest.mark.parametrize("name", CALLS)
async def test_no_more_blocks_are_asked_for_at_once_than_was_said(name: str, tmp_path: Path) -> None:
    call, most = CALLS[name]
    server = ScriptedServer({"f": DATA})
    server.block_bytes = BLOCK
    async with using(server) as sftp:
        await call(sftp, tmp_path / "f")
    assert server.most_unanswered_bytes == most * BLOCK
    if (tmp_path / "f").exists():
        assert (tmp_path / "f").read_bytes() == DATA


async def test_without_a_word_many_blocks_are_asked_for_at_once(tmp_path: Path) -> None:
    server = ScriptedServer({"f": DATA})
    server.block_bytes = BLOCK
    async with using(server) as sftp:
        await sftp.get("f", tmp_path / "f", None, True, None)
    assert server.most_unanswered_bytes > 5 * BLOCK


@pytest.mark.parametrize("most", [0, -1])
async def test_less_than_one_request_is_none(most: int, tmp_path: Path) -> None:
    async with connected(MemorySFTPServer({"/f": b"data"})) as sftp:
        for call in (
            lambda: sftp.get("/f", tmp_path / "f", max_concurrent_prefetch_requests=most),
            lambda: sftp.getfo("/f", io.BytesIO(), max_concurrent_prefetch_requests=most),
        ):
            with pytest.raises(ValueError, match="max_concurrent_prefetch_requests is at least 1"):
                await call()
        with pytest.raises(ValueError, match="read_aheads is at least 1"):
            sftp.listdir_iter("/", most)
        async with await sftp.open("/f") as file:
            with pytest.raises(ValueError, match="max_concurrent_requests is at least 1"):
                await file.prefetch(4, most)


@pytest.mark.parametrize(("read_aheads", "most"), [(1, {1}), (2, {2}), (50, {3, 4})])
async def test_a_listing_is_asked_for_no_further_ahead_than_was_said(read_aheads: int, most: set[int]) -> None:
    names = {f"/d/{'n' * 200}{number:05}": b"" for number in range(3000)}
    async with connected(MemorySFTPServer(names)) as sftp:
        waiting: list[int] = []
        submit = sftp._link.submit

        def counted(packet: object, waiter: object) -> None:
            if isinstance(packet, Readdir):
                waiting.append(sftp._link.session.pending + 1)
            submit(packet, waiter)  # type: ignore[arg-type]

        sftp._link.submit = counted  # type: ignore[method-assign]
        listing = sftp.listdir_iter("/d", read_aheads)
        assert len([entry async for entry in listing]) == 3000
        assert max(waiting) in most


@pytest.mark.parametrize("ends_in_hole", [True, False])
async def test_what_is_copied_through_us_keeps_its_holes(ends_in_hole: bool, tmp_path: Path) -> None:
    size = 64 * 1024 * KIB
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
        for offset in (10_000, 40_000_000, *(() if ends_in_hole else (size - 1,))):
            file.seek(offset)
            file.write(b"x")
    expected = (tmp_path / "sparse").read_bytes()
    async with connected(trio_ssh.LocalSFTPServer(tmp_path), without=(b"copy-data",)) as sftp:
        await sftp.copy("/sparse", "/copy")
        await sftp.copy("/sparse", "/full", sparse=False)
    assert (tmp_path / "copy").read_bytes() == expected == (tmp_path / "full").read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 <= 4 * 256 * KIB
    assert (tmp_path / "full").stat().st_blocks * 512 >= size


async def test_times_alone_are_kept(tmp_path: Path) -> None:
    for recurse in (False, True):
        server = MemorySFTPServer({"/d/small": b"data", "/d/large": noise(100 * KIB)})
        here = tmp_path / str(recurse)
        async with connected(server) as sftp:
            for name in ("small", "large"):
                await sftp.chmod(f"/d/{name}", 0o604)
                await sftp.utime(f"/d/{name}", (1000, 2000))
            if recurse:
                await sftp.get("/d", here, recurse=True, preserve_times=True)
                await sftp.put(here, "/e", recurse=True, preserve_times=True)
            else:
                here.mkdir()
                await sftp.mkdir("/e")
                for name in ("small", "large"):
                    await sftp.get(f"/d/{name}", here / name, preserve_times=True)
                    await sftp.put(here / name, f"/e/{name}", preserve_times=True)
            for name in ("small", "large"):
                found, there = (here / name).stat(), await sftp.stat(f"/e/{name}")
                assert (int(found.st_mtime), there.st_mtime) == (2000, 2000)


@pytest.mark.parametrize(
    ("name", "hint"),
    {
        "close": "aclose",
        "settimeout": "fail_after",
        "gettimeout": "fail_after",
        "setblocking": "fail_after",
        "set_pipelined": "nothing to do",
        "xreadlines": "async for line in file",
    }.items(),
)
async def test_an_old_name_is_answered_by_what_to_write(name: str, hint: str) -> None:
    async with connected(MemorySFTPServer({"/f": b""})) as sftp, await sftp.open("/f") as file:
        for one in (file, sftp) if name == "close" else (file,):
            with pytest.raises(AttributeError, match=hint):
                getattr(one, name)
        assert not hasattr(file, name)
