"""The SFTP client's requests: what they do, what they say when they fail, and what a server may make of them."""

from __future__ import annotations

import errno
import io
import os
import pathlib
import random
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, OpenDoor, cancel_everywhere
from tests.sftp.by_hand import door
from tests.sftp.scripted import (
    EOF,
    FAILURE,
    LIMITS,
    NO_SUCH_FILE,
    OK,
    SILENCE,
    Reply,
    ScriptedServer,
    entry,
    pause,
    using,
)
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp.messages import (
    Attrs,
    Close,
    Extended,
    ExtendedReply,
    Lstat,
    Mkdir,
    Name,
    Opendir,
    Readdir,
    Realpath,
    Remove,
    Rmdir,
    ServerLimits,
    Stat,
    Status,
)
from trio_ssh.sftp.protocol import SFTPLimits, StatusCode
from trio_ssh.sftp.session import AnyRequest
from trio_ssh.testing import MemorySFTPServer, open_memory_client

TREE = {
    "/srv/a.txt": b"a",
    "/srv/b.log": b"bb",
    "/srv/.hidden/x.txt": b"x",
    "/srv/deep/er/c.txt": b"ccc",
    "/srv/deep/d.txt": b"",
}


# -- beginning


async def test_opening_a_session() -> None:
    async with open_memory_client(door(MemorySFTPServer()), host_key=HOST_KEY) as client:
        sftp = await client.open_sftp()
        assert "0 requests under way" in repr(sftp)
        assert await sftp.listdir("/") == []
        await sftp.aclose()
        await sftp.aclose()
        assert "closed" in repr(sftp)
        with pytest.raises(trio.ClosedResourceError):
            await sftp.stat("/")
        transport = client.get_transport()
        assert transport is not None
        async with await trio_ssh.SFTPClient.from_transport(transport) as other:
            assert await other.listdir("/") == []
        channel = await client.open_session()
        await channel.invoke_subsystem("sftp")
        async with await trio_ssh.SFTPClient.from_channel(channel) as third:
            assert third.get_channel() is channel
        await pause()
        assert repr(client).endswith(", 0 channels>")


async def test_a_server_without_sftp() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.RequestRefused, match="subsystem"):
            await client.open_sftp()
        await pause()
        assert repr(client).endswith(", 0 channels>")


@pytest.mark.parametrize(
    ("said", "read", "write"),
    [
        ((256 * KIB, 255 * KIB, 255 * KIB, 9), 255 * KIB, 255 * KIB),
        ((0, 0, 0, 0), 32 * KIB, 32 * KIB),
        ((0, 2**63, 64 * KIB, 0), 255 * KIB, 64 * KIB),
        ((0, 1, 1, 0), 4 * KIB, 4 * KIB),
    ],
)
async def test_what_the_server_allows(said: tuple[int, int, int, int], read: int, write: int) -> None:
    class Stating(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            if isinstance(request, Extended):
                return ExtendedReply(ServerLimits(*said).encode())
            return super().answer(request)

    async with using(Stating()) as sftp:
        assert (sftp._link.read_bytes, sftp._link.write_bytes) == (read, write)
        assert sftp.limits() == ServerLimits(*said)
        assert sftp.get_extensions() == {"limits@openssh.com": b"1"}


async def test_limits_that_are_offered_and_not_told() -> None:
    class Refusing(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            return FAILURE if isinstance(request, Extended) else super().answer(request)

    async with using(Refusing()) as sftp:
        assert sftp._link.read_bytes == 32 * KIB
    async with using(ScriptedServer(extensions={})) as sftp:
        assert sftp.limits() == ServerLimits(0, 0, 0, 0)


async def test_limits_that_are_none_end_the_session() -> None:
    class Wrong(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            return ExtendedReply(b"short") if isinstance(request, Extended) else super().answer(request)

    async with open_memory_client(door(Wrong()), host_key=HOST_KEY) as client:
        with pytest.raises(RemoteProtocolError, match="ServerLimits"):
            await client.open_sftp()
        await pause()
        assert repr(client).endswith(", 0 channels>")


async def test_opening_leaves_no_channel_wherever_it_is_cancelled() -> None:
    async with open_memory_client(door(ScriptedServer()), host_key=HOST_KEY) as client:

        async def scenario() -> None:
            sftp = await client.open_sftp()
            with trio.CancelScope(shield=True):
                await sftp.aclose()

        async def check() -> None:
            await pause()
            assert repr(client).endswith(", 0 channels>")

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 10


# -- looking and changing


async def test_files_and_directories() -> None:
    storage = MemorySFTPServer(TREE)
    async with using(storage) as sftp:
        assert sorted(await sftp.listdir("/srv")) == [".hidden", "a.txt", "b.log", "deep"]
        assert sorted(await sftp.listdir(b"/srv")) == [b".hidden", b"a.txt", b"b.log", b"deep"]
        found = {entry.filename: entry for entry in await sftp.listdir_attr("/srv")}
        assert found["b.log"].st_size == 2
        assert found["b.log"].is_file()
        assert found["deep"].is_dir()
        assert (await sftp.stat(b"/srv/b.log")).st_size == 2

        await sftp.mkdir("/srv/new", 0o700)
        assert stat.S_IMODE((await sftp.stat("/srv/new")).st_mode or 0) == 0o700
        await sftp.rmdir("/srv/new")
        await sftp.rename("/srv/b.log", "/srv/c.log")
        await sftp.posix_rename("/srv/c.log", "/srv/a.txt")
        assert storage.read_bytes("/srv/a.txt") == b"bb"
        await sftp.remove("/srv/a.txt")
        await sftp.unlink("/srv/deep/d.txt")
        await sftp.symlink("../deep", "/srv/to")
        assert await sftp.readlink("/srv/to") == "../deep"
        assert await sftp.readlink(b"/srv/to") == b"../deep"
        assert (await sftp.lstat("/srv/to")).is_symlink()
        await sftp.link("/srv/deep/er/c.txt", "/srv/second")
        assert storage.read_bytes("/srv/second") == b"ccc"
        await sftp.truncate("/srv/second", 1)
        assert storage.read_bytes("/srv/deep/er/c.txt") == b"c"


async def test_attributes() -> None:
    async with using(MemorySFTPServer({"/f": b"x"})) as sftp:
        await sftp.chmod("/f", 0o640)
        await sftp.chown("/f", 1, 2)
        await sftp.utime("/f", (3.9, 4))
        found = await sftp.stat("/f")
        assert stat.S_IMODE(found.st_mode or 0) == 0o640
        assert (found.st_uid, found.st_gid, found.st_atime, found.st_mtime) == (1, 2, 3, 4)
        await sftp.utime("/f")
        assert ((await sftp.stat("/f")).st_mtime or 0) > 4
        await sftp.symlink("f", "/to")
        await sftp.chown("/to", 7, 8, follow_symlinks=False)
        await sftp.chmod("/to", 0o777, follow_symlinks=False)
        await sftp.utime("/to", (9, 9), follow_symlinks=False)
        assert (await sftp.lstat("/to")).st_uid == 7
        assert (await sftp.lstat("/to")).st_mtime == 9
        assert (await sftp.stat("/to")).st_uid == 1
        await sftp.setstat("/f", trio_ssh.SFTPAttributes(st_size=0, st_mode=0o600))
        assert (await sftp.stat("/f")).st_size == 0
        for wrong in (
            lambda: sftp.chmod("/f", 2**32),
            lambda: sftp.chown("/f", -1, 0),
            lambda: sftp.utime("/f", (0, 2**32)),
            lambda: sftp.truncate("/f", -1),
        ):
            with pytest.raises(ValueError, match="between 0 and"):
                await wrong()


async def test_names_of_any_bytes() -> None:
    name = b"/\xff\xfe\n\xc3\xa4"
    async with using(MemorySFTPServer()) as sftp:
        async with await sftp.open(name, "w") as file:
            await file.write(b"x")
        [text] = await sftp.listdir("/")
        assert text == os.fsdecode(name[1:])
        assert await sftp.listdir(b"/") == [name[1:]]
        assert (await sftp.stat("/" + text)).st_size == 1
        assert await sftp.normalize(b"/./\xff") == b"/\xff"
        await sftp.remove("/" + text)


#: What must not do to a whole server what was meant for a name that a program has left out.
EMPTY_PATHS: list[Callable[[trio_ssh.SFTPClient], Awaitable[object]]] = [
    lambda sftp: sftp.stat(""),
    lambda sftp: sftp.lstat(b""),
    lambda sftp: sftp.listdir(""),
    lambda sftp: sftp.scandir("").__anext__(),
    lambda sftp: sftp.normalize(""),
    lambda sftp: sftp.chdir(""),
    lambda sftp: sftp.mkdir(""),
    lambda sftp: sftp.makedirs("", exist_ok=True),
    lambda sftp: sftp.rmdir(""),
    lambda sftp: sftp.remove(""),
    lambda sftp: sftp.rmtree(""),
    lambda sftp: sftp.rename("", "a"),
    lambda sftp: sftp.rename("a", ""),
    lambda sftp: sftp.posix_rename("a", ""),
    lambda sftp: sftp.symlink("a", ""),
    lambda sftp: sftp.link("", "a"),
    lambda sftp: sftp.chmod("", 0),
    lambda sftp: sftp.chmod("", 0, follow_symlinks=False),
    lambda sftp: sftp.statvfs(""),
    lambda sftp: sftp.expand_path(""),
    lambda sftp: sftp.open("", "w"),
    lambda sftp: sftp.get("", "nowhere", recurse=True),
    lambda sftp: sftp.put("nowhere", "", recurse=True),
    lambda sftp: sftp.putfo(io.BytesIO(), ""),
    lambda sftp: sftp.copy("", "a", recurse=True),
    lambda sftp: sftp.copy("a", ""),
]


async def test_paths_that_are_none() -> None:
    server = ScriptedServer()
    async with using(server) as sftp:
        before = len(server.requests)
        for uses in EMPTY_PATHS:
            with pytest.raises(FileNotFoundError, match="an empty path names nothing") as empty:
                await uses(sftp)
            assert empty.value.errno == errno.ENOENT
            assert empty.value.filename in ("", b"")
        for path in ("a\0b", b"\0", sftp.path("x", "\0")):
            with pytest.raises(ValueError, match="NUL"):
                await sftp.stat(path)
        with pytest.raises(ValueError, match="NUL"):
            await sftp.symlink("a\0", "b")
        with pytest.raises(ValueError, match="UTF-8"):
            await sftp.stat("\ud800")
        with pytest.raises(TypeError, match="as_posix"):
            await sftp.stat(pathlib.Path("x"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not int"):
            await sftp.stat(3)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="4096 bytes") as caught:
            await sftp.stat("x" * 4097)
        assert caught.value.errno == errno.ENAMETOOLONG
        with pytest.raises(OSError, match="4096 bytes"):
            await sftp.symlink("x" * 4097, "y")
        with pytest.raises(ValueError, match="too many"):
            await sftp.extended("x@example.com", bytes(257 * KIB))
        assert len(server.requests) == before


async def test_where_relative_paths_begin() -> None:
    async with using(MemorySFTPServer(TREE)) as sftp:
        assert sftp.getcwd() is None
        await sftp.chdir("/srv/deep")
        assert sftp.getcwd() == "/srv/deep"
        assert await sftp.listdir() == await sftp.listdir("/srv/deep")
        await sftp.chdir("er")
        assert await sftp.normalize("..") == "/srv/deep"
        assert (await sftp.stat("c.txt")).st_size == 3
        assert (await sftp.stat("/srv/a.txt")).st_size == 1
        with pytest.raises(NotADirectoryError, match=r"c\.txt"):
            await sftp.chdir("c.txt")
        with pytest.raises(FileNotFoundError):
            await sftp.chdir("nowhere")
        await sftp.chdir()
        assert sftp.getcwd() is None
        assert await sftp.normalize(sftp.path("")) == "/"


# -- errors


async def test_errors_are_python_s_own_and_name_the_path() -> None:
    async with using(MemorySFTPServer(TREE)) as sftp:
        with pytest.raises(FileNotFoundError, match="'/nowhere'") as missing:
            await sftp.stat("/nowhere")
        assert isinstance(missing.value, trio_ssh.SFTPNoSuchFile)
        assert missing.value.filename == "/nowhere"
        taken: list[Any] = [
            lambda: sftp.mkdir("/srv/deep"),
            lambda: sftp.mkdir("/srv/a.txt/"),
            lambda: sftp.rename("/srv/b.log", "/srv/a.txt/"),
            lambda: sftp.rename("/srv/a.txt", "/srv/b.log"),
            lambda: sftp.symlink("x", "/srv/b.log"),
            lambda: sftp.link("/srv/a.txt", "/srv/b.log"),
            lambda: sftp.makedirs("/srv/deep"),
        ]
        for use in taken:
            with pytest.raises(FileExistsError) as exists:
                await use()
            assert isinstance(exists.value, trio_ssh.SFTPFileExists)
            assert exists.value.errno == errno.EEXIST
        assert "'/srv/a.txt' -> '/srv/b.log'" in str(exists.value) or exists.value.filename == "/srv/deep"
        with pytest.raises(OSError, match="'/srv/deep'") as full:
            await sftp.rmdir("/srv/deep")
        assert full.value.errno == errno.ENOTEMPTY
        with pytest.raises(OSError, match=r"b\.log"):
            await sftp.rmdir("/srv/b.log")


async def test_a_denial_is_a_permission_error() -> None:
    storage = MemorySFTPServer(TREE)
    storage.fail_on("/srv/a.txt", PermissionError(errno.EACCES, "not for you"))
    async with using(storage) as sftp:
        with pytest.raises(PermissionError, match=r"a\.txt") as caught:
            await sftp.stat("/srv/a.txt")
        assert isinstance(caught.value, trio_ssh.SFTPPermissionDenied)
        assert caught.value.text == "not for you"


class Failing(ScriptedServer):
    """Fails, and knows nothing of what is there."""

    def answer(self, request: AnyRequest) -> Reply:
        if isinstance(request, Lstat | Opendir):
            return NO_SUCH_FILE
        return super().answer(request) if isinstance(request, Extended) and request.name == LIMITS.decode() else FAILURE


async def test_a_failure_stays_one_where_nothing_is_in_the_way() -> None:
    async with using(Failing()) as sftp:
        for use in (
            lambda: sftp.mkdir("a"),
            lambda: sftp.rename("a", "b"),
            lambda: sftp.rmdir("a"),
            lambda: sftp.open("a", "x"),
        ):
            with pytest.raises(trio_ssh.SFTPError, match="as told") as caught:
                await use()
            assert type(caught.value) is trio_ssh.SFTPError
            assert caught.value.errno == errno.EIO


async def test_what_a_server_says_is_escaped() -> None:
    class Rude(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            return Status(StatusCode.FAILURE, "\x1b[2J", "") if isinstance(request, Stat) else super().answer(request)

    async with using(Rude()) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match=r"\\x1b\[2J"):
            await sftp.stat("x")


# -- trees


async def test_making_directories_on_the_way() -> None:
    async with using(MemorySFTPServer(TREE)) as sftp:
        await sftp.makedirs("/srv/x/y/z")
        assert await sftp.listdir("/srv/x/y") == ["z"]
        await sftp.makedirs("/srv/x/y/z", exist_ok=True)
        with pytest.raises(FileExistsError):
            await sftp.makedirs("/srv/x/y/z")
        with pytest.raises(FileExistsError):
            await sftp.makedirs("/srv/a.txt", exist_ok=True)
        with pytest.raises(OSError, match=r"a\.txt"):
            await sftp.makedirs("/srv/a.txt/below")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EOPNOTSUPP])
async def test_a_directory_that_is_there_need_not_be_makable(number: int) -> None:
    storage = MemorySFTPServer(TREE)
    for path in ("/srv/deep", "/srv/a.txt", "/srv/new"):
        storage.fail_on(path, OSError(number, "as told"), operation="mkdir")
    async with using(storage) as sftp:
        await sftp.makedirs("/srv/deep", exist_ok=True)
        await sftp.makedirs("/srv/deep/new")
        await sftp.path("/srv/deep").mkdir(exist_ok=True)
        uses: list[Callable[[str], Awaitable[object]]] = [
            sftp.makedirs,
            lambda path: sftp.makedirs(path, exist_ok=True),
            lambda path: sftp.path(path).mkdir(exist_ok=True),
        ]
        for use in uses:
            for path in ("/srv/a.txt", "/srv/new"):
                with pytest.raises(trio_ssh.SFTPError):
                    await use(path)


async def test_walking() -> None:
    storage = MemorySFTPServer(TREE)
    async with using(storage) as sftp:
        await sftp.symlink("deep", "/srv/link")
        found = {path: (sorted(names), sorted(others)) async for path, names, others in sftp.walk("/srv")}
        assert found == {
            "/srv": ([".hidden", "deep", "link"], ["a.txt", "b.log"]),
            "/srv/.hidden": ([], ["x.txt"]),
            "/srv/deep": (["er"], ["d.txt"]),
            "/srv/deep/er": ([], ["c.txt"]),
        }
        order = [path async for path, _, _ in sftp.walk(b"/srv", topdown=False)]
        assert order.index("/srv/deep/er") < order.index("/srv/deep") < order.index("/srv")
        followed = [path async for path, _, _ in sftp.walk("/srv", followlinks=True)]
        assert "/srv/link/er" in followed
        pruned = []
        async for path, names, _ in sftp.walk("/srv"):
            pruned.append(path)
            names[:] = [name for name in names if name in ("deep", "er")]
        assert pruned == ["/srv", "/srv/deep", "/srv/deep/er"]


async def test_walking_where_something_cannot_be_read() -> None:
    storage = MemorySFTPServer(TREE)
    storage.fail_on("/srv/deep", PermissionError(errno.EACCES, "no"), operation="list_folder")
    async with using(storage) as sftp:
        errors: list[OSError] = []
        found = [path async for path, _, _ in sftp.walk("/srv", onerror=errors.append)]
        assert sorted(found) == ["/srv", "/srv/.hidden"]
        assert [error.filename for error in errors] == ["/srv/deep"]
        assert len([path async for path, _, _ in sftp.walk("/srv")]) == 2


async def test_a_tree_without_end_ends() -> None:
    async with using(MemorySFTPServer({"/a/f": b""}), limits=SFTPLimits(depth=8)) as sftp:
        await sftp.symlink("/a", "/a/again")
        with pytest.raises(OSError, match="8 directories") as caught:
            [path async for path in sftp.walk("/a", followlinks=True)]
        assert caught.value.errno == errno.ELOOP
        await sftp.makedirs("/b/" + "/".join("123456789"))
        for use in (lambda: sftp.rmtree("/b"), lambda: sftp.glob("/b/**")):
            with pytest.raises(OSError, match="8 directories"):
                await use()


async def test_patterns() -> None:
    async with using(MemorySFTPServer(TREE)) as sftp:
        await sftp.symlink("deep", "/srv/link")
        cases = {
            "/srv/*.txt": ["/srv/a.txt"],
            "/srv/*": ["/srv/a.txt", "/srv/b.log", "/srv/deep", "/srv/link"],
            "/srv/.*": ["/srv/.hidden"],
            "/srv/*/": ["/srv/deep", "/srv/link"],
            "/srv/*/d.txt": ["/srv/deep/d.txt", "/srv/link/d.txt"],
            "/srv/[ab].*": ["/srv/a.txt", "/srv/b.log"],
            "/srv/?.log": ["/srv/b.log"],
            "/srv/**/*.txt": ["/srv/a.txt", "/srv/deep/d.txt", "/srv/deep/er/c.txt"],
            "/srv/deep/**": ["/srv/deep", "/srv/deep/d.txt", "/srv/deep/er", "/srv/deep/er/c.txt"],
            "/srv/a.txt": ["/srv/a.txt"],
            "/srv/nothing": [],
            "/nowhere/*": [],
            "srv/*.log": ["srv/b.log"],
            "*": ["srv"],
            "/": ["/"],
            "": [],
        }
        for pattern, expected in cases.items():
            assert sorted(await sftp.glob(pattern)) == expected, pattern


async def test_patterns_look_at_so_many_names_and_no_more() -> None:
    async with using(MemorySFTPServer(TREE), limits=SFTPLimits(listing_names=4)) as sftp:
        with pytest.raises(OSError, match="listing_names"):
            await sftp.glob("/**/*")


async def test_removing_a_tree() -> None:
    storage = MemorySFTPServer(TREE | {"/keep/f": b"precious"})
    async with using(storage) as sftp:
        await sftp.symlink("/keep", "/srv/deep/link")
        await sftp.symlink("/keep/f", "/srv/deep/file-link")
        await sftp.rmtree("/srv")
        assert storage.files == {"/keep/f": b"precious"}
        assert await sftp.listdir("/") == ["keep"]
        await sftp.symlink("/keep", "/link")
        for path, text in (("/link", "symbolic link"), ("/link/", "symbolic link"), ("/keep/f", "no directory")):
            with pytest.raises(NotADirectoryError, match=text) as caught:
                await sftp.rmtree(path)
            assert caught.value.filename == path
        with pytest.raises(FileNotFoundError):
            await sftp.rmtree("/nowhere")
        await sftp.rmtree("/nowhere", ignore_errors=True)
        assert storage.files == {"/keep/f": b"precious"}


async def test_removing_what_cannot_all_be_removed() -> None:
    storage = MemorySFTPServer(TREE)
    storage.fail_on("/srv/deep/er/c.txt", PermissionError(errno.EACCES, "no"), operation="remove")
    async with using(storage) as sftp:
        with pytest.raises(PermissionError, match=r"c\.txt"):
            await sftp.rmtree("/srv")
        errors: list[OSError] = []
        await sftp.rmtree("/srv", onerror=errors.append)
        assert storage.files == {"/srv/deep/er/c.txt": b"ccc"}
        assert [error.filename for error in errors] == [
            "/srv/deep/er/c.txt",
            "/srv/deep/er",
            "/srv/deep",
            "/srv",
        ]


async def test_what_cannot_be_removed_is_named_as_the_tree_was() -> None:
    storage = MemorySFTPServer({"/deep/1/2/3/file": b"", "/denied/1/file": b"", "/kept/1/file": b""})
    storage.fail_on("/denied/1", PermissionError(errno.EACCES, "no"), operation="list_folder")
    storage.fail_on("/kept/1/file", PermissionError(errno.EACCES, "no"), operation="remove")
    errors: list[OSError] = []
    async with using(storage, limits=SFTPLimits(depth=3)) as sftp:
        await sftp.chdir("/denied/..")
        for path in ("deep", "denied", "/kept", "missing"):
            await sftp.rmtree(path, onerror=errors.append)
            named = [error.filename for error in errors]
            errors.clear()
            await sftp.rmtree(path.encode(), onerror=errors.append)
            assert [error.filename for error in errors] == [name.encode() for name in named] != []
            errors.clear()


async def test_a_server_that_lists_links_as_directories_does_not_mislead_us() -> None:
    class Misleading(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            match request:
                case Lstat(path=b"/tree"):
                    return Attrs(trio_ssh.SFTPAttributes(st_mode=stat.S_IFDIR | 0o755))
                case Lstat():
                    return Attrs(trio_ssh.SFTPAttributes(st_mode=stat.S_IFLNK | 0o777))
                case Readdir(handle=handle) if handle not in self._listed:
                    self._listed.add(handle)
                    return Name((entry(b"link", stat.S_IFDIR | 0o755), entry(b"unknown")))
                case Remove() | Rmdir():
                    return OK
            return super().answer(request)

    server = Misleading()
    async with using(server) as sftp:
        await sftp.rmtree("/tree")
    assert [request.path for request in server.asked(Opendir)] == [b"/tree"]
    assert [request.path for request in server.asked(Remove)] == [b"/tree/link", b"/tree/unknown"]
    assert [request.path for request in server.asked(Rmdir)] == [b"/tree"]


# -- listings


async def test_a_listing_that_is_read_as_it_comes() -> None:
    storage = MemorySFTPServer(TREE)
    async with using(storage) as sftp:
        assert sorted([entry.filename async for entry in sftp.listdir_iter("/srv")]) == sorted(
            await sftp.listdir("/srv")
        )
        found = {item.name: item async for item in sftp.scandir("/srv")}
        item = found["a.txt"]
        assert (item.path, item.is_file(), item.is_dir(), item.is_symlink()) == ("/srv/a.txt", True, False, False)
        assert item.stat().st_size == 1
        assert str(item).endswith("/srv/a.txt")
        assert [item.path async for item in sftp.scandir("/")] == ["/srv"]
        await sftp.chdir("/srv/deep/er")
        assert [item.path async for item in sftp.scandir()] == ["c.txt"]
        async with sftp.listdir_iter("/srv") as listing:
            async for _ in listing:
                break
        assert [item async for item in listing] == []
        await pause()
        assert storage.open_handles == 0
        with pytest.raises(FileNotFoundError, match="/nowhere"):
            await anext(sftp.listdir_iter("/nowhere"))


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
async def test_a_listing_of_many_replies(count: int) -> None:
    class Slow(ScriptedServer):
        """One name a reply, and the two that every directory has."""

        left = count

        def answer(self, request: AnyRequest) -> Reply:
            if isinstance(request, Readdir):
                if not self.left:
                    return EOF
                self.left -= 1
                return Name((entry(b"."), entry(b"..")) if self.left == 3 else (entry(b"%d" % self.left),))
            return super().answer(request)

    server = Slow(order=random.Random(count))
    async with using(server) as sftp:
        assert len(await sftp.listdir("/")) == count - (count > 3)
    # It asks ahead, and not for ever.
    assert count < len(server.asked(Readdir)) <= count + 4
    assert len(server.asked(Close)) == 1


async def test_a_listing_that_fails_in_the_middle() -> None:
    class Breaking(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            if isinstance(request, Readdir) and len(self.asked(Readdir)) > 2:
                return FAILURE
            if isinstance(request, Readdir):
                return Name((entry(b"x"),))
            return super().answer(request)

    server = Breaking()
    async with using(server) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match="as told") as caught:
            await sftp.listdir("/dir")
        assert caught.value.filename == "/dir"
        await pause()
        assert not server.handles


async def test_a_listing_that_is_cancelled_gives_its_handle_back() -> None:
    server = ScriptedServer({str(number): b"" for number in range(10)})
    async with using(server) as sftp:

        async def scenario() -> None:
            assert len(await sftp.listdir("/")) == 10

        async def check() -> None:
            await pause()
            assert not server.handles
            assert sftp._link.session.pending == 0

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 4


# -- extensions


async def test_extensions() -> None:
    async with using(MemorySFTPServer(TREE)) as sftp:
        assert (await sftp.statvfs("/")).f_bsize > 0
        assert await sftp.home_directory() == await sftp.expand_path("~")
        home = await sftp.home_directory()
        assert await sftp.expand_path("~/x") == home.rstrip("/") + "/x"
        assert await sftp.expand_path("srv/..") == "/"
        users, groups = await sftp.users_groups_by_id([0, 12345], [0])
        assert (len(users), len(groups)) == (2, 1)
        assert "posix-rename@openssh.com" in sftp.get_extensions()
        with pytest.raises(trio_ssh.SFTPUnsupported):
            await sftp.extended("nobody@knows.this", b"")


async def test_extensions_that_a_server_lacks() -> None:
    async with using(ScriptedServer({"f": b""})) as sftp:
        for use in (
            lambda: sftp.statvfs("/"),
            lambda: sftp.posix_rename("a", "b"),
            lambda: sftp.link("a", "b"),
            lambda: sftp.home_directory("alice"),
            lambda: sftp.users_groups_by_id([0], []),
            lambda: sftp.chmod("f", 0, follow_symlinks=False),
        ):
            with pytest.raises(trio_ssh.SFTPUnsupported):
                await use()
        assert await sftp.home_directory() == "."
        assert await sftp.expand_path("~/x") == "./x"
        assert await sftp.expand_path("/y") == "/y"


async def test_an_extension_of_one_s_own() -> None:
    class Extending(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            if isinstance(request, Extended) and request.name == "ok@example.com":
                return OK
            if isinstance(request, Extended) and request.name == "echo@example.com":
                return ExtendedReply(request.details)
            return super().answer(request)

    async with using(Extending()) as sftp:
        assert await sftp.extended("echo@example.com", b"\0hello") == b"\0hello"
        assert await sftp.extended("ok@example.com", b"") == b""


@pytest.mark.parametrize("details", [b"", b"\0\0\0\0" * 2, b"\0\0\0\4\0\0\0\0\0\0\0\4\0\0\0\0", b"\xff" * 30])
async def test_names_of_numbers_that_do_not_fit(details: bytes) -> None:
    class Wrong(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            if isinstance(request, Extended) and request.name.startswith("users"):
                return ExtendedReply(details)
            return super().answer(request)

    async with using(Wrong()) as sftp:
        with pytest.raises(RemoteProtocolError):
            await sftp.users_groups_by_id([0, 1], [])
        with pytest.raises(RemoteProtocolError):
            await sftp.users_groups_by_id([0], [])


async def test_a_path_that_the_server_gives_must_be_one() -> None:
    class Wrong(ScriptedServer):
        names: tuple[bytes, ...] = ()

        def answer(self, request: AnyRequest) -> Reply:
            return Name(tuple(map(entry, self.names))) if isinstance(request, Realpath) else super().answer(request)

    server = Wrong()
    async with using(server) as sftp:
        for server.names in ((), (b"a", b"b"), (b"a\0b",), (b"x" * 5000,)):
            with pytest.raises(RemoteProtocolError):
                await sftp.normalize(".")


# -- many


async def test_many_tasks_on_one_session() -> None:
    data = random.Random(5).randbytes(100 * KIB)
    server = ScriptedServer({str(number): data for number in range(64)}, order=random.Random(6))
    async with using(server) as sftp, trio.open_nursery() as nursery:

        async def work(number: int) -> None:
            path = str(number)
            assert (await sftp.stat(path)).st_size == len(data)
            async with await sftp.open(path, "r+") as file:
                assert await file.read() == data
                await file.seek(number)
                await file.write(data)
            assert server.files[path.encode()] == data[:number] + data

        for number in range(64):
            nursery.start_soon(work, number)


async def test_a_request_whose_reply_never_comes_can_be_given_up(autojump_clock: trio.testing.MockClock) -> None:
    class Silent(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            return SILENCE if isinstance(request, Stat) else super().answer(request)

    async with using(Silent({"f": b"x"})) as sftp:
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await sftp.stat("f")
        assert (await sftp.lstat("f")).st_size == 1


async def test_every_call_is_a_checkpoint() -> None:
    async with using(MemorySFTPServer(TREE)) as sftp:
        for call in (
            lambda: sftp.stat("/"),
            lambda: sftp.listdir("/"),
            sftp.chdir,
            lambda: sftp.glob("/*"),
            lambda: sftp.glob(""),
            lambda: anext(sftp.walk("/")),
            lambda: anext(sftp.scandir("/")),
            lambda: sftp.extended("limits@openssh.com", b""),
            lambda: sftp.open("/srv/a.txt"),
            sftp.listdir_iter("/").aclose,
            lambda: sftp.rmtree("/srv"),
            sftp.aclose,
            sftp.aclose,
        ):
            with trio.testing.assert_checkpoints():
                await call()


async def test_directories_are_made_however_many_are_missing() -> None:
    deep = "/" + "/".join("a" * 1500)
    async with using(MemorySFTPServer()) as sftp:  # type: ignore[arg-type]
        await sftp.makedirs(deep)
        assert (await sftp.stat(deep)).is_dir()
        with pytest.raises(trio_ssh.SFTPFileExists):
            await sftp.makedirs(deep)
        await sftp.makedirs(deep, exist_ok=True)


async def test_a_server_that_misses_every_parent_is_not_asked_for_ever() -> None:
    class Forgetful(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            if isinstance(request, Mkdir):
                is_deep = request.path.count(b"/") > 1
                return Status(StatusCode.NO_SUCH_FILE, "", "") if is_deep else OK
            return super().answer(request)

    server = Forgetful()
    async with using(server) as sftp:
        with pytest.raises(trio_ssh.SFTPNoSuchFile, match="'/a/b'"):
            await sftp.makedirs("/a/b/c")
    assert len(server.asked(Mkdir)) == 4
