"""Every public coroutine of the SFTP client is a checkpoint, on its fast path too."""

from __future__ import annotations

import inspect
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY
from tests.sftp.by_hand import door
from trio_ssh.testing import MemorySFTPServer, open_memory_client


@attrs.frozen
class Stage:
    """What the calls below are made on; all of it is made anew for each."""

    client: trio_ssh.SSHClient
    sftp: trio_ssh.SFTPClient
    file: trio_ssh.SFTPFile
    path: trio_ssh.SFTPPath
    directory: Path


Call = Callable[[Stage], Awaitable[object]]


async def from_channel(stage: Stage) -> None:
    channel = await stage.client.open_session()
    await channel.invoke_subsystem("sftp")
    with trio.testing.assert_checkpoints():
        await trio_ssh.SFTPClient.from_channel(channel)


def transport_of(stage: Stage) -> trio_ssh.Transport:
    transport = stage.client.get_transport()
    assert transport is not None
    return transport


CALLS: Final[dict[type, dict[str, list[Call]]]] = {
    trio_ssh.SFTPClient: {
        "aclose": [lambda s: s.sftp.aclose()],
        "chdir": [lambda s: s.sftp.chdir(), lambda s: s.sftp.chdir("/d")],
        "check": [lambda s: s.sftp.check("/f", "md5")],
        "chmod": [lambda s: s.sftp.chmod("/f", 0)],
        "chown": [lambda s: s.sftp.chown("/f", 0, 0)],
        "copy": [lambda s: s.sftp.copy("/f", "/g")],
        "expand_path": [lambda s: s.sftp.expand_path("~")],
        "extended": [lambda s: s.sftp.extended("limits@openssh.com", b"")],
        "file": [lambda s: s.sftp.file("/f")],
        "from_channel": [from_channel],
        "from_transport": [lambda s: trio_ssh.SFTPClient.from_transport(transport_of(s))],
        "get": [lambda s: s.sftp.get("/f", s.directory / "f")],
        "getfo": [lambda s: s.sftp.getfo("/f", io.BytesIO())],
        "glob": [lambda s: s.sftp.glob(""), lambda s: s.sftp.glob("/*")],
        "home_directory": [lambda s: s.sftp.home_directory()],
        "link": [lambda s: s.sftp.link("/f", "/g")],
        "listdir": [lambda s: s.sftp.listdir("/")],
        "listdir_attr": [lambda s: s.sftp.listdir_attr("/")],
        "lstat": [lambda s: s.sftp.lstat("/f")],
        "makedirs": [lambda s: s.sftp.makedirs("/x/y")],
        "mkdir": [lambda s: s.sftp.mkdir("/x")],
        "normalize": [lambda s: s.sftp.normalize(".")],
        "open": [lambda s: s.sftp.open("/f")],
        "posix_rename": [lambda s: s.sftp.posix_rename("/f", "/g")],
        "put": [lambda s: s.sftp.put(s.directory / "local", "/g")],
        "putfo": [lambda s: s.sftp.putfo(io.BytesIO(b"x"), "/g")],
        "readlink": [lambda s: s.sftp.readlink("/l")],
        "remove": [lambda s: s.sftp.remove("/f")],
        "rename": [lambda s: s.sftp.rename("/f", "/g")],
        "rmdir": [lambda s: s.sftp.rmdir("/e")],
        "rmtree": [lambda s: s.sftp.rmtree("/d"), lambda s: s.sftp.rmtree("/nothing", ignore_errors=True)],
        "setstat": [lambda s: s.sftp.setstat("/f", trio_ssh.SFTPAttributes())],
        "stat": [lambda s: s.sftp.stat("/f")],
        "statvfs": [lambda s: s.sftp.statvfs()],
        "symlink": [lambda s: s.sftp.symlink("x", "/g")],
        "truncate": [lambda s: s.sftp.truncate("/f", 0)],
        "unlink": [lambda s: s.sftp.unlink("/f")],
        "users_groups_by_id": [lambda s: s.sftp.users_groups_by_id([0], [])],
        "utime": [lambda s: s.sftp.utime("/f")],
    },
    trio_ssh.SFTPFile: {
        "aclose": [lambda s: s.file.aclose()],
        "check": [lambda s: s.file.check("md5")],
        "chmod": [lambda s: s.file.chmod(0)],
        "chown": [lambda s: s.file.chown(0, 0)],
        "flush": [lambda s: s.file.flush()],
        "fsync": [lambda s: s.file.fsync()],
        "prefetch": [lambda s: s.file.prefetch(), lambda s: s.file.prefetch(5)],
        "read": [lambda s: s.file.read(), lambda s: s.file.read(0), lambda s: s.file.read(1)],
        "readinto": [lambda s: s.file.readinto(bytearray(3)), lambda s: s.file.readinto(bytearray())],
        "readline": [lambda s: s.file.readline(), lambda s: s.file.readline(0)],
        "readlines": [lambda s: s.file.readlines()],
        "seek": [lambda s: s.file.seek(0), lambda s: s.file.seek(1), lambda s: s.file.seek(0, 2)],
        "setstat": [lambda s: s.file.setstat(trio_ssh.SFTPAttributes())],
        "stat": [lambda s: s.file.stat()],
        "statvfs": [lambda s: s.file.statvfs()],
        "truncate": [lambda s: s.file.truncate()],
        "utime": [lambda s: s.file.utime()],
        "write": [lambda s: s.file.write(b""), lambda s: s.file.write(b"x"), lambda s: s.file.write(bytes(2**19))],
        "writelines": [lambda s: s.file.writelines([]), lambda s: s.file.writelines([b"x"])],
    },
    trio_ssh.SFTPPath: {
        "absolute": [lambda s: s.path.absolute()],
        "chmod": [lambda s: s.path.chmod(0)],
        "exists": [lambda s: s.path.exists()],
        "glob": [lambda s: s.path.parent.glob("*")],
        "hardlink_to": [lambda s: (s.path.parent / "g").hardlink_to(s.path)],
        "is_dir": [lambda s: s.path.is_dir()],
        "is_file": [lambda s: s.path.is_file()],
        "is_symlink": [lambda s: s.path.is_symlink()],
        "lstat": [lambda s: s.path.lstat()],
        "mkdir": [lambda s: (s.path.parent / "x").mkdir(), lambda s: (s.path.parent / "d").mkdir(exist_ok=True)],
        "open": [lambda s: s.path.open()],
        "read_bytes": [lambda s: s.path.read_bytes()],
        "read_text": [lambda s: s.path.read_text()],
        "readlink": [lambda s: (s.path.parent / "l").readlink()],
        "rename": [lambda s: s.path.rename("/g")],
        "replace": [lambda s: s.path.replace("/g")],
        "resolve": [lambda s: s.path.resolve(), lambda s: s.path.resolve(strict=True)],
        "rglob": [lambda s: s.path.parent.rglob("*")],
        "rmdir": [lambda s: (s.path.parent / "e").rmdir()],
        "samefile": [lambda s: s.path.samefile("/f")],
        "stat": [lambda s: s.path.stat()],
        "symlink_to": [lambda s: (s.path.parent / "g").symlink_to("x")],
        "touch": [lambda s: s.path.touch(), lambda s: (s.path.parent / "g").touch()],
        "unlink": [lambda s: s.path.unlink(), lambda s: (s.path.parent / "g").unlink(missing_ok=True)],
        "write_bytes": [lambda s: s.path.write_bytes(b"")],
        "write_text": [lambda s: s.path.write_text("x")],
    },
}

ITERATORS: Final[dict[str, Call]] = {
    "listdir_iter": lambda s: anext(s.sftp.listdir_iter("/")),
    "scandir": lambda s: anext(s.sftp.scandir("/")),
    "iterdir": lambda s: anext(s.path.parent.iterdir()),
    "aclose": lambda s: s.sftp.scandir("/").aclose(),
    "walk": lambda s: anext(s.sftp.walk("/")),
    "path.walk": lambda s: anext(aiter(s.path.parent.walk())),
    "readv": lambda s: anext(s.file.readv([(0, 0)])),
}

CASES: Final = [
    pytest.param(call, id=f"{cls.__name__}.{name}-{number}")
    for cls, calls in CALLS.items()
    for name, variants in calls.items()
    for number, call in enumerate(variants)
]


@pytest.mark.parametrize("call", [*CASES, *(pytest.param(call, id=name) for name, call in ITERATORS.items())])
async def test_it_is_a_checkpoint(call: Call, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x")
    storage = MemorySFTPServer({"/f": b"line\n" * 100, "/d/f": b"", "/e/f": b""})
    async with (
        open_memory_client(door(storage), host_key=HOST_KEY) as client,
        await client.open_sftp() as sftp,
        await sftp.open("/f", "r+") as file,
    ):
        await sftp.remove("/e/f")
        await sftp.symlink("f", "/l")
        # Everything is there that could be waited for.
        await file.prefetch()
        await trio.testing.wait_all_tasks_blocked()
        assert await file.readline() == b"line\n"
        with trio.testing.assert_checkpoints():
            await call(Stage(client, sftp, file, sftp.path("/f"), tmp_path))


async def test_each_line_may_be_cancelled_and_others_have_their_turn_every_so_often() -> None:
    """A million lines would cost a million switches of tasks, which is what they cost altogether otherwise."""
    storage = MemorySFTPServer({"/f": b"line\n" * 1000})
    async with (
        open_memory_client(door(storage), host_key=HOST_KEY) as client,
        await client.open_sftp() as sftp,
        await sftp.open("/f") as file,
    ):
        assert await anext(file) == b"line\n"
        with trio.testing.assert_checkpoints():
            for _ in range(64):
                await anext(file)
        for number in range(100):
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(file)
            assert scope.cancelled_caught, number
        assert len([line async for line in file]) == 1000 - 65


@pytest.mark.parametrize("cls", CALLS, ids=lambda cls: cls.__name__)
def test_no_coroutine_was_forgotten(cls: Any) -> None:
    public = {name for name, _ in inspect.getmembers(cls, inspect.iscoroutinefunction) if not name.startswith("_")}
    assert public == set(CALLS[cls])
