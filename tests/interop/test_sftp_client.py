"""Our SFTP client and OpenSSH's server."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.peers import Account, Sshd

pytestmark = pytest.mark.interop

KIB: Final = 1024
MIB: Final = 1024 * KIB
BYTES: Final = random.Random(1).randbytes(3 * MIB + 17)


@pytest.fixture
def place(folder: Path, account: Account) -> Path:
    """A folder of the user's."""
    path = folder / f"sftp-{random.getrandbits(64):x}" / "place"
    path.mkdir(parents=True)
    if os.getuid() == 0:
        for each in (path, path.parent):
            os.chown(each, account.uid, account.uid)
    return path


@attrs.frozen
class Both:
    """One folder from both sides: the client's and this machine's."""

    sftp: trio_ssh.SFTPClient
    there: trio_ssh.SFTPPath
    here: Path


@asynccontextmanager
async def opened(sshd: Sshd, place: Path) -> AsyncGenerator[Both, None]:
    with trio.fail_after(60):
        async with sshd.connect() as client, await client.open_sftp() as sftp:
            yield Both(sftp, sftp.path(str(place)), place)


async def test_a_session_learns_what_the_server_allows(sshd: Sshd, place: Path) -> None:
    async with opened(sshd, place) as both:
        assert (both.sftp._link.read_bytes, both.sftp._link.write_bytes) == (255 * KIB, 255 * KIB)
        assert both.sftp.limits().open_handles > 0
        assert both.sftp.get_extensions()["posix-rename@openssh.com"] == b"1"


@pytest.mark.parametrize("size", [0, 1, 32 * KIB - 1, 32 * KIB, 32 * KIB + 1, 255 * KIB + 1, len(BYTES)])
async def test_files_arrive_as_they_are(sshd: Sshd, place: Path, size: int) -> None:
    data = BYTES[:size]
    async with opened(sshd, place) as both:
        await (both.there / "whole").write_bytes(data)
        assert (place / "whole").read_bytes() == data
        assert await (both.there / "whole").read_bytes() == data
        async with await both.sftp.open(both.there / "parts", "w") as file:
            for start in range(0, size, 10_000):
                await file.write(data[start : start + 10_000])
        assert (place / "parts").read_bytes() == data
        async with await both.sftp.open(both.there / "parts") as file:
            found = bytearray()
            while part := await file.read(10_000):
                found += part
            assert found == data
            await file.seek(0)
            assert b"".join([line async for line in file]) == data


async def test_a_file_that_is_read_and_written(sshd: Sshd, place: Path) -> None:
    (place / "f").write_bytes(BYTES)
    os.chmod(place / "f", 0o666)
    async with opened(sshd, place) as both:
        async with await (both.there / "f").open("r+") as file:
            chance = random.Random(2)
            model = bytearray(BYTES)
            for _ in range(100):
                at, size = chance.randrange(len(model)), chance.choice([1, 100, 70_000])
                await file.seek(at)
                if chance.random() < 0.5:
                    assert await file.read(size) == model[at : at + size]
                else:
                    data = chance.randbytes(size)
                    await file.write(data)
                    model[at : at + size] = data
            pieces = [(chance.randrange(len(model)), chance.randrange(300 * KIB)) for _ in range(20)]
            await file.flush()
            found = [data async for data in file.readv(pieces)]
            assert found == [model[at : at + size] for at, size in pieces]
            assert await file.seek(0, os.SEEK_END) == len(model)
            assert await file.truncate(1000) == 1000
            await file.fsync()
            assert (await file.statvfs()).f_bsize > 0
            assert (await file.stat()).st_size == 1000
        assert (place / "f").read_bytes() == model[:1000]


async def test_appending(sshd: Sshd, place: Path) -> None:
    async with opened(sshd, place) as both:
        for mode in ("a", "a+"):
            async with await (both.there / "log").open(mode) as file:
                for number in range(1000):
                    await file.write(b"%d\n" % number)
                await file.seek(0)
                await file.write(b"end\n")
        lines = [*(f"{number}\n" for number in range(1000)), "end\n"]
        assert (place / "log").read_text() == "".join(lines * 2)


async def test_files_that_lie_about_their_size(sshd: Sshd, place: Path) -> None:
    async with opened(sshd, place) as both:
        status = await both.sftp.path("/proc/self/status").read_text()
        assert status.startswith("Name:\tsftp-server")
        async with await both.sftp.open("/proc/self/status") as file:
            assert await file.readline() == b"Name:\tsftp-server\n"
            assert len(await file.readlines()) > 10


async def test_names_of_any_bytes(sshd: Sshd, place: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", "\u00e4\u6f22".encode(), b" ", b"-rf", b"*", b"x" * 255, b"tab\t", b"\\"]
    async with opened(sshd, place) as both:
        for name in names:
            await (both.there / name).write_bytes(name)
        assert sorted(os.listdir(bytes(place))) == sorted(names)
        assert sorted(await both.sftp.listdir(bytes(place))) == sorted(names)
        assert sorted(await both.sftp.listdir(str(place))) == sorted(map(os.fsdecode, names))
        for name in await both.sftp.listdir(str(place)):
            assert await (both.there / name).read_bytes() == os.fsencode(name)
        await both.sftp.rmtree(both.there)
        assert place.name not in os.listdir(place.parent)


async def test_errors(sshd: Sshd, place: Path) -> None:
    (place / "full").mkdir()
    (place / "full" / "f").write_bytes(b"")
    os.chmod(place / "full", 0o777)
    async with opened(sshd, place) as both:
        sftp, there = both.sftp, both.there
        with pytest.raises(FileNotFoundError, match="nothing"):
            await (there / "nothing").stat()
        with pytest.raises(FileExistsError):
            await (there / "full").mkdir()
        with pytest.raises(FileExistsError):
            await (there / "full" / "f").open("x")
        with pytest.raises(FileExistsError):
            await (there / "full").symlink_to("x")
        await (there / "g").touch()
        with pytest.raises(FileExistsError):
            await (there / "g").rename(there / "full" / "f")
        with pytest.raises(OSError, match="not empty") as caught:
            await (there / "full").rmdir()
        assert caught.value.errno == errno.ENOTEMPTY
        with pytest.raises(PermissionError):
            await sftp.open("/etc/shadow" if os.getuid() == 0 else "/etc/sudoers", "r+")
        with pytest.raises(OSError, match="failure"):
            await sftp.open(there, "w")
        with pytest.raises(trio_ssh.SFTPUnsupported):
            await sftp.check(there / "g", "md5")
        with pytest.raises(trio_ssh.SFTPUnsupported):
            await sftp.extended("unheard@of", b"")


async def test_paths(sshd: Sshd, place: Path) -> None:
    async with opened(sshd, place) as both:
        there = both.there
        await (there / "a" / "b" / "c").mkdir(parents=True)
        await (there / "a" / "f.txt").write_text("hello\n")
        assert await (there / "a" / "f.txt").read_text() == "hello\n"
        await (there / "link").symlink_to("a")
        await (there / "hard").hardlink_to(there / "a" / "f.txt")
        assert (place / "hard").stat().st_nlink == 2
        assert await (there / "link" / "f.txt").is_file()
        assert await (there / "link").is_symlink()
        assert await (there / "link").readlink() == both.sftp.path("a")
        assert await (there / "link" / ".." / "a").resolve() == await (there / "a").resolve()
        assert sorted([path.name async for path in there.iterdir()]) == ["a", "hard", "link"]
        assert await there.glob("**/*.txt") == [there / "a" / "f.txt"]
        assert [path async for path, _, _ in there.walk()] == [
            there,
            there / "a",
            there / "a" / "b",
            there / "a" / "b" / "c",
        ]
        await (there / "hard").unlink()
        await (there / "new.txt").touch()
        await (there / "new.txt").replace(there / "a" / "f.txt")
        moved = await (there / "a" / "f.txt").rename(there / "g")
        assert await moved.exists()
        await moved.chmod(0o400)
        assert stat.S_IMODE((place / "g").stat().st_mode) == 0o400
        await both.sftp.utime(moved, (100, 200))
        assert ((place / "g").stat().st_atime, (place / "g").stat().st_mtime) == (100, 200)
        await both.sftp.utime(there / "link", (7, 8), follow_symlinks=False)
        assert (place / "link").lstat().st_mtime == 8
        await moved.unlink()
        await moved.unlink(missing_ok=True)
        await both.sftp.rmtree(there / "a")
        assert os.listdir(place) == ["link"]


async def test_where_the_user_is(sshd: Sshd, place: Path, account: Account) -> None:
    async with opened(sshd, place) as both:
        sftp = both.sftp
        home = await sftp.normalize(".")
        assert await sftp.home_directory() == home
        assert await sftp.home_directory(account.name) == home
        assert await sftp.expand_path("~/y") == home + "/y"
        assert await sftp.expand_path(f"~{account.name}") == home
        assert await sftp.users_groups_by_id([account.uid, 0], [0]) == ([account.name, "root"], ["root"])
        assert (await sftp.statvfs(str(place))).f_namemax == 255
        await sftp.chdir(str(place))
        await sftp.mkdir("here")
        assert (place / "here").is_dir()


async def test_ten_thousand_files(sshd: Sshd, place: Path) -> None:
    for number in range(10_000):
        (place / f"{number:05}").touch()
    async with opened(sshd, place) as both:
        assert sorted(await both.sftp.listdir(str(place))) == [f"{number:05}" for number in range(10_000)]
        assert len([path async for path in both.there.iterdir()]) == 10_000
        await both.sftp.rmtree(both.there)
    assert place.name not in os.listdir(place.parent)


async def test_a_transfer_while_keys_change(sshd: Sshd, place: Path) -> None:
    async with opened(sshd, place) as both:
        transport = both.sftp.get_channel().get_transport()
        assert isinstance(transport, trio_ssh.Transport)
        data = BYTES * 8
        async with trio.open_nursery() as nursery:

            async def rekey() -> None:
                while True:
                    await transport.renegotiate_keys()
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(rekey)
            await (both.there / "f").write_bytes(data)
            assert await (both.there / "f").read_bytes() == data
            nursery.cancel_scope.cancel()
        assert (place / "f").read_bytes() == data


async def test_many_tasks_and_many_sessions(sshd: Sshd, place: Path) -> None:
    with trio.fail_after(60):
        async with sshd.connect() as client:
            sessions = [await client.open_sftp() for _ in range(20)]
            async with trio.open_nursery() as nursery:

                async def work(number: int) -> None:
                    path = sessions[number % 20].path(str(place), str(number))
                    await path.write_bytes(BYTES[: number * KIB])
                    assert await path.read_bytes() == BYTES[: number * KIB]
                    assert (await path.stat()).st_size == number * KIB

                for number in range(100):
                    nursery.start_soon(work, number)
            for sftp in sessions:
                await sftp.aclose()
    assert len(os.listdir(place)) == 100


async def test_a_server_that_is_killed(sshd: Sshd, own_sshd: Sshd, place: Path) -> None:
    with trio.fail_after(60):
        async with own_sshd.connect() as client, await client.open_sftp() as sftp:
            file = await sftp.open(str(place / "f"), "w")
            await file.write(BYTES)
            own_sshd.kill_connections()
            with pytest.raises(trio_ssh.ConnectionLost):
                while True:
                    await file.write(BYTES)
            with contextlib.suppress(trio_ssh.ConnectionLost):  # unless all that was sent happened to be acknowledged
                await file.aclose()
            with pytest.raises(trio_ssh.ConnectionLost):
                await sftp.stat("/")


@pytest.mark.parametrize("own_sshd", [("Subsystem sftp /bin/echo Welcome to this machine",)], indirect=True)
async def test_a_shell_that_prints_text(own_sshd: Sshd) -> None:
    with trio.fail_after(60):
        async with own_sshd.connect() as client:
            with pytest.raises(trio_ssh.RemoteProtocolError, match="'Welcome to this machine"):
                await client.open_sftp()
            done = await client.run_process("true")
            assert done.returncode == 0
