"""Transfers from OpenSSH's SFTP server and to it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.interop.peers import SFTP_SERVER, Account, KeyFolder, Sshd
from tests.sftp.connected import noise
from tests.sftp.test_local import largest_file, part_of

pytestmark = pytest.mark.interop

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(scope="module")
def sftp_sshd(folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder) -> Iterator[Sshd]:
    """OpenSSH's server with its own SFTP server."""
    with Sshd(folder, account, host_keys, user_keys, ["Subsystem sftp internal-sftp"]) as server:
        yield server


@pytest.fixture
def there(folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder that whoever logs in may write to."""
    path = folder / f"there-{abs(hash(request.node.nodeid))}"
    path.mkdir()
    path.chmod(0o777)
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


@asynccontextmanager
async def connected(sshd: Sshd) -> AsyncGenerator[trio_ssh.SFTPClient, None]:
    with trio.fail_after(60):
        async with sshd.connect() as client, await client.open_sftp() as sftp:
            yield sftp


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(root: Path) -> dict[bytes, object]:
    """What is in a tree: contents, and where links lead."""
    found: dict[bytes, object] = {}
    for folder, folders, names in os.walk(os.fsencode(root)):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, os.fsencode(root))
            if os.path.islink(path):
                found[key] = os.readlink(path)
            elif os.path.isdir(path):
                found[key] = None
            else:
                found[key] = Path(os.fsdecode(path)).read_bytes()
    return found


@pytest.mark.parametrize("size", [0, 1, 32 * KIB - 1, 32 * KIB, 32 * KIB + 1, 10 * MIB + 1])
async def test_a_file_goes_there_and_back(size: int, sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(noise(size))
    async with connected(sftp_sshd) as sftp:
        assert (await sftp.put(tmp_path / "file", str(there / "put"))).st_size == size
        await sftp.copy(str(there / "put"), str(there / "copy"))
        await sftp.get(str(there / "copy"), tmp_path / "got")
    assert digest(there / "put") == digest(tmp_path / "file") == digest(tmp_path / "got")
    assert sorted(os.listdir(there)) == ["copy", "put"]
    assert sorted(os.listdir(tmp_path)) == ["file", "got"]


async def test_a_gigabyte_of_holes_stays_one(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:  # noqa: ASYNC230, RUF100 -- it is short
        file.truncate(1024 * MIB)
        file.seek(700 * MIB)
        file.write(noise(MIB))
    async with connected(sftp_sshd) as sftp:
        await sftp.put(tmp_path / "file", str(there / "file"))
        assert (there / "file").stat().st_blocks * 512 < 4 * MIB
        await sftp.get(str(there / "file"), tmp_path / "back")
    status = (tmp_path / "back").stat()
    assert (status.st_size, status.st_blocks * 512 < 4 * MIB) == (1024 * MIB, True)
    with (tmp_path / "back").open("rb") as file:  # noqa: ASYNC230, RUF100 -- it is short
        file.seek(700 * MIB)
        assert file.read(MIB) == noise(MIB)


async def test_ten_thousand_files_go_there(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    for number in range(10_000):
        if not number % 1000:
            (tmp_path / "tree" / f"{number}").mkdir(parents=True)
            folder = tmp_path / "tree" / f"{number}"
        (folder / f"{number}").write_bytes(b"%d" % number)
    async with connected(sftp_sshd) as sftp:
        await sftp.put(tmp_path / "tree", str(there / "tree"), recurse=True)
    assert tree(there / "tree") == tree(tmp_path / "tree")


async def test_ten_thousand_files_come_here(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    (there / "tree").mkdir()
    for number in range(10_000):
        (there / "tree" / f"{number}").write_bytes(b"%d" % number)
    async with connected(sftp_sshd) as sftp:
        await sftp.get(str(there / "tree"), tmp_path / "tree", recurse=True)
    assert tree(tmp_path / "tree") == tree(there / "tree")


async def test_a_tree_with_everything_in_it(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    deep = root.joinpath(*["down"] * 60)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (root / "new\nline").write_bytes(b"a")
    (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"b")
    (root / ("n" * 255)).write_bytes(b"c")
    (root / ("m" * 255)).write_bytes(noise(MIB))
    (root / "link").symlink_to("down")
    (root / "broken").symlink_to("nowhere")
    (root / "large").write_bytes(noise(5 * MIB))
    (root / "run").write_bytes(b"#!/bin/sh")
    (root / "run").chmod(0o755)
    (root / "empty").mkdir()
    os.utime(root / "large", (1000, 2000))
    async with connected(sftp_sshd) as sftp:
        await sftp.put(root, str(there / "put"), recurse=True, preserve=True)
        await sftp.copy(str(there / "put"), str(there / "copy"), recurse=True, preserve=True)
        await sftp.get(str(there / "copy"), tmp_path / "back", recurse=True, preserve=True)
    assert tree(root) == tree(there / "put") == tree(there / "copy") == tree(tmp_path / "back")
    for path in (there / "put", there / "copy", tmp_path / "back"):
        assert (path / "large").stat().st_mtime == 2000
        assert stat.S_IMODE((path / "run").stat().st_mode) == 0o755


async def test_a_part_is_continued(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    data = noise(8 * MIB)
    (tmp_path / "source").write_bytes(data)
    (there / "file").write_bytes(data)
    async with connected(sftp_sshd) as sftp:
        for transfer in (
            partial(sftp.get, str(there / "file"), tmp_path / "file"),
            partial(sftp.put, tmp_path / "source", str(there / "back")),
        ):
            with trio.CancelScope() as scope:

                def stop(done: int, total: int, scope: trio.CancelScope = scope) -> None:
                    if done > MIB:
                        scope.cancel()

                await transfer(callback=stop)
            assert scope.cancelled_caught
        assert not (tmp_path / "file").exists()
        assert not (there / "back").exists()
        assert part_of(tmp_path / "file").stat().st_size > MIB
        assert part_of(there / "back").stat().st_size > MIB
        seen: list[int] = []
        await sftp.get(str(there / "file"), tmp_path / "file", lambda done, _: seen.append(done), resume=True)
        assert seen[0] > MIB
        await sftp.put(tmp_path / "source", str(there / "back"), resume=True)
    assert (tmp_path / "file").read_bytes() == data == (there / "back").read_bytes()


@pytest.mark.parametrize("own_sshd", [(f"Subsystem sftp ulimit -n 40; exec {SFTP_SERVER}",)], indirect=True, ids=["40"])
async def test_a_tree_needs_no_more_descriptors_than_there_are(own_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / "source" / str(number)).write_bytes(noise(number, number))
    async with connected(own_sshd) as sftp:
        await sftp.put(tmp_path / "source", str(there / "put"), recurse=True)
        await sftp.copy(str(there / "put"), str(there / "copied"), recurse=True)
        await sftp.get(str(there / "copied"), tmp_path / "got", recurse=True)
    assert tree(tmp_path / "got") == tree(tmp_path / "source")


@pytest.mark.parametrize("own_sshd", [("Subsystem sftp internal-sftp",)], indirect=True, ids=["sftp"])
async def test_a_connection_that_is_cut_leaves_parts(own_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    data = noise(32 * MIB)
    (tmp_path / "source").write_bytes(data)
    (there / "file").write_bytes(data)

    def kill(done: int, total: int) -> None:
        if done > MIB:
            own_sshd.kill_connections()

    for is_get in (True, False):
        with pytest.raises(trio_ssh.ConnectionLost):
            async with connected(own_sshd) as sftp:
                if is_get:
                    await sftp.get(str(there / "file"), tmp_path / "file", kill)
                else:
                    await sftp.put(tmp_path / "source", str(there / "back"), kill)
    assert not (tmp_path / "file").exists()
    assert not (there / "back").exists()
    async with connected(own_sshd) as sftp:
        await sftp.get(str(there / "file"), tmp_path / "file", resume=True)
        await sftp.put(tmp_path / "source", str(there / "back"), resume=True)
    assert digest(tmp_path / "file") == digest(tmp_path / "source") == digest(there / "back")


async def test_a_full_disk_there_keeps_the_old_file(
    folder: Path, sftp_sshd: Sshd, as_root: None, tmp_path: Path
) -> None:
    disk = folder / "disk"
    disk.mkdir()
    await trio.run_process(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", str(disk)])
    try:
        (tmp_path / "file").write_bytes(noise(4 * MIB))
        async with connected(sftp_sshd) as sftp:
            await sftp.putfo(_Gives(b"old"), str(disk / "file"))
            with pytest.raises(trio_ssh.SFTPError):
                await sftp.put(tmp_path / "file", str(disk / "file"))
            assert (disk / "file").read_bytes() == b"old"
            with pytest.raises(trio_ssh.SFTPError):
                await sftp.putfo(_Gives(noise(4 * MIB)), str(disk / "file"))
            await sftp.normalize(".")
            assert os.listdir(disk) == ["file"], "nobody could resume what a file object gave"
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["umount", str(disk)])
        disk.rmdir()


async def test_a_disk_that_was_full_for_a_moment_leaves_nothing_that_looks_whole(
    folder: Path, sftp_sshd: Sshd, as_root: None, tmp_path: Path
) -> None:
    data = noise(12 * MIB)
    (tmp_path / "file").write_bytes(data)
    disk = folder / "disk"
    disk.mkdir()
    await trio.run_process(["mount", "-t", "tmpfs", "-o", "size=16m,mode=777", "tmpfs", str(disk)])
    try:
        (disk / "filler").write_bytes(bytes(14 * MIB))

        def make_room() -> None:
            # As soon as a WRITE has failed: those behind it succeed.
            while os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize >= 8 * KIB:
                time.sleep(0)
            (disk / "filler").unlink()

        async with connected(sftp_sshd) as sftp, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, make_room)
            with pytest.raises(trio_ssh.SFTPError):
                await sftp.put(tmp_path / "file", str(disk / "file"))
            await sftp.normalize(".")
            assert data.startswith(part_of(disk / "file").read_bytes())
            await sftp.put(tmp_path / "file", str(disk / "file"), resume=True)
        assert (disk / "file").read_bytes() == data
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["umount", str(disk)])
        disk.rmdir()


async def test_a_file_is_put_through_a_link(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(noise(MIB))
    (there / "folder").mkdir()
    (there / "folder").chmod(0o777)
    (there / "link").symlink_to("folder/file")
    async with connected(sftp_sshd) as sftp:
        for _ in range(2):
            await sftp.put(tmp_path / "file", str(there / "link"))
    assert (there / "link").is_symlink()
    assert digest(there / "folder" / "file") == digest(tmp_path / "file")
    assert os.listdir(there / "folder") == ["file"]


class _Gives:
    """Gives some bytes, once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        taken, self._data = self._data[:size], self._data[size:]
        return taken


async def test_a_full_disk_here_keeps_the_old_file(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    (there / "file").write_bytes(noise(4 * MIB))
    (tmp_path / "file").write_bytes(b"old")
    async with connected(sftp_sshd) as sftp:
        with largest_file(MIB), pytest.raises(OSError, match="too large") as raised:
            await sftp.get(str(there / "file"), tmp_path / "file")
        assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == b"old"
        await sftp.get(str(there / "file"), tmp_path / "file", resume=True)
    assert digest(tmp_path / "file") == digest(there / "file")


async def test_new_keys_in_the_middle_change_nothing(sftp_sshd: Sshd, there: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(noise(16 * MIB))
    with trio.fail_after(60):
        async with sftp_sshd.connect() as client, await client.open_sftp() as sftp:
            rekeyed = 0

            async def rekey(done: int, total: int) -> None:
                nonlocal rekeyed
                if done * 4 > total * (rekeyed + 1):
                    rekeyed += 1
                    await client.get_transport().renegotiate_keys()

            await sftp.put(tmp_path / "file", str(there / "file"), rekey)
            rekeyed_before = rekeyed
            rekeyed = 0
            await sftp.get(str(there / "file"), tmp_path / "back", rekey)
            assert rekeyed_before
            assert rekeyed
    assert digest(tmp_path / "file") == digest(there / "file") == digest(tmp_path / "back")


async def test_special_files_are_what_they_are(sftp_sshd: Sshd, tmp_path: Path) -> None:
    async with connected(sftp_sshd) as sftp:
        await sftp.get("/proc/version", tmp_path / "version")
        (tmp_path / "empty").touch()
        await sftp.put(tmp_path / "empty", "/dev/null")
        await sftp.get("/dev/null", tmp_path / "nothing")
    assert (tmp_path / "version").read_bytes().startswith(b"Linux")
    assert (tmp_path / "nothing").read_bytes() == b""
