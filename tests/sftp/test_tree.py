"""Trees, from a server in memory and to it: all of it, only what was asked for, and nothing outside."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from tests.sftp.connected import connected, held_up, noise
from tests.sftp.test_local import largest_file
from trio_ssh.sftp.local import part_name
from trio_ssh.sftp.local_tree import LocalTree
from trio_ssh.sftp.messages import Packet
from trio_ssh.sftp.protocol import KIB, MIB, SFTPLimits
from trio_ssh.sftp.session import ClientSession, Waiter
from trio_ssh.sftp.tree import Selection
from trio_ssh.testing import CutStream, MemorySFTPServer, memory_pair
from trio_ssh.testing.sftp import _MemoryFiles

FILES = {
    "/tree/empty": b"",
    "/tree/small": noise(4 * KIB),
    "/tree/block": noise(64 * KIB),
    "/tree/more": noise(64 * KIB + 1),
    "/tree/large": noise(3 * MIB),
    "/tree/one/file": b"one",
    "/tree/one/two/three/file": b"deep",
    "/tree/new\nline": b"odd",
    "/tree/" + "n" * 255: b"long",
    "/tree/caf\u00e9": b"text",
}


def local_files(root: Path) -> dict[str, bytes]:
    return {f"/tree/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}


def remote_files(server: MemorySFTPServer, root: str) -> dict[str, bytes]:
    return {"/tree" + path.removeprefix(root): data for path, data in server.files.items() if path.startswith(root)}


class Served(trio_ssh.SFTPServerInterface):
    """Lists what it is told to list, whatever that is, in every directory."""

    entries: Sequence[trio_ssh.SFTPAttributes] = ()

    async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
        if path.rpartition("/")[2] in ("", "d"):
            return trio_ssh.SFTPAttributes(st_mode=stat.S_IFDIR | 0o755)
        return trio_ssh.SFTPAttributes(st_mode=stat.S_IFREG | 0o644, st_size=4)

    async def lstat(self, path: str) -> trio_ssh.SFTPAttributes:
        return await self.stat(path)

    async def list_folder(self, path: str) -> Sequence[trio_ssh.SFTPAttributes]:
        return self.entries

    async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
        return Evil()

    async def readlink(self, path: str) -> str:
        return "/etc"


class Evil(trio_ssh.SFTPHandle):
    async def read(self, offset: int, length: int) -> bytes:
        return b"evil"[offset : offset + length]


def serving(*entries: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPServer:
    class Server(Served):
        pass

    Server.entries = entries
    return trio_ssh.SFTPServer(Server)


def entry(name: str, kind: int = stat.S_IFREG, size: int = 4) -> trio_ssh.SFTPAttributes:
    return trio_ssh.SFTPAttributes(st_size=size, st_mode=kind | 0o644, filename=name)


# -- all of it


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("without", [(), (b"posix-rename@openssh.com", b"copy-data")])
async def test_a_tree_is_the_same_on_both_sides(atomic: bool, without: tuple[bytes, ...], tmp_path: Path) -> None:
    server = MemorySFTPServer(FILES)
    async with connected(server, without=without) as sftp:
        await sftp.mkdir("/tree/nothing")
        await sftp.get("/tree", tmp_path / "tree", recurse=True, atomic=atomic)
        assert local_files(tmp_path / "tree") == FILES
        assert (tmp_path / "tree" / "nothing").is_dir()
        await sftp.put(tmp_path / "tree", "/back", recurse=True, atomic=atomic)
        await sftp.copy("/tree", "/copied", recurse=True)
        # And once more, over what is there.
        await sftp.put(tmp_path / "tree", "/back", recurse=True, atomic=atomic)
        await sftp.get("/back", tmp_path / "tree", recurse=True, atomic=atomic)
        assert (await sftp.stat("/back/nothing")).is_dir()
    assert remote_files(server, "/back") == FILES == remote_files(server, "/copied")
    assert local_files(tmp_path / "tree") == FILES
    assert server.open_handles == 0


async def test_a_single_file_may_be_asked_for_as_a_tree(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/file": b"data"})
    async with connected(server) as sftp:
        await sftp.get("/file", tmp_path / "file", recurse=True)
        await sftp.put(tmp_path / "file", "/back", recurse=True)
        await sftp.copy("/file", "/copied", recurse=True)
    assert set(server.files.values()) == {b"data"}
    assert len(server.files) == 3


async def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = b"\xff\xfe\n\x1b[2J"
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / os.fsdecode(name)).write_bytes(b"data")
    async with connected(trio_ssh.LocalSFTPServer(tmp_path)) as sftp:
        await sftp.put(tmp_path / "tree", "/there", recurse=True)
        await sftp.get("/there", tmp_path / "back", recurse=True)
    assert os.listdir(os.fsencode(tmp_path / "there")) == [name] == os.listdir(os.fsencode(tmp_path / "back"))


async def test_many_files_are_counted_as_they_come(tmp_path: Path) -> None:
    files = {f"/tree/{number % 7}/{number}": noise(number, number) for number in range(600)}
    server = MemorySFTPServer(files)
    size = sum(map(len, files.values()))
    calls: list[tuple[int, int]] = []
    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "tree", lambda *now: calls.append(now), recurse=True, parallel=5)
        assert calls[-1] == (size, size)
        assert calls == sorted(calls)
        calls.clear()
        await sftp.put(tmp_path / "tree", "/back", lambda *now: calls.append(now), recurse=True, parallel=5)
        assert calls[-1] == (size, size)
    assert local_files(tmp_path / "tree") == files == remote_files(server, "/back")


@pytest.mark.parametrize(
    ("kind", "handles", "own"), [("disk", 3, 0), ("disk", 10, 2), ("disk", 40, 4), ("memory", 10, 2), ("memory", 40, 4)]
)
async def test_a_tree_needs_no_more_handles_than_the_server_has(
    kind: str, handles: int, own: int, tmp_path: Path
) -> None:
    files = {f"/tree/{number % 6}/{number}": noise(number % 99, number) for number in range(200)}
    files |= {f"/tree/{number}/large": noise(100 * KIB, number) for number in range(6)}
    server: trio_ssh.SFTPServer = MemorySFTPServer(files, limits=SFTPLimits(handles=handles))
    if kind == "disk":
        for path, data in files.items():
            (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path[1:]).write_bytes(data)
        server = trio_ssh.LocalSFTPServer(tmp_path, max_handles=handles)
    async with connected(server) as sftp, AsyncExitStack() as stack:
        for number in range(own):
            await stack.enter_async_context(await sftp.open(f"/tree/{number}/large"))
        await sftp.get("/tree", tmp_path / "got", recurse=True)
        assert local_files(tmp_path / "got") == files
        await sftp.put(tmp_path / "got", "/put", recurse=True)
        await sftp.put(tmp_path / "got", "/put", recurse=True, resume=True)
        await sftp.copy("/put", "/copied", recurse=True)
        async with connected(server) as other:
            await sftp.copy("/copied", "/again", recurse=True, target_client=other)
        await sftp.get("/again", tmp_path / "back", recurse=True)
    assert local_files(tmp_path / "back") == files


async def test_a_file_that_is_not_as_large_as_listed_is_got_as_it_is(tmp_path: Path) -> None:
    async with connected(serving(entry("less", size=100), entry("more", size=1), entry("none", size=0))) as sftp:
        await sftp.get("/", tmp_path / "tree", recurse=True)
    assert set(local_files(tmp_path / "tree").values()) == {b"evil"}


# -- attributes


async def test_permissions_and_times_of_directories_are_kept(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/tree/one/file": b"data"})
    async with connected(server) as sftp:
        await sftp.utime("/tree/one/file", (1, 2))
        await sftp.chmod("/tree/one", 0o500)
        await sftp.utime("/tree/one", (3, 4))
        await sftp.get("/tree", tmp_path / "tree", recurse=True, preserve=True)
        status = (tmp_path / "tree" / "one").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o500, 4)
        assert (tmp_path / "tree" / "one" / "file").stat().st_mtime == 2
        await sftp.put(tmp_path / "tree", "/back", recurse=True, preserve=True)
        await sftp.copy("/tree", "/copied", recurse=True, preserve=True)
        for root in ("/back", "/copied"):
            attributes = await sftp.stat(f"{root}/one")
            assert (stat.S_IMODE(attributes.st_mode or 0), attributes.st_mtime) == (0o500, 4)
            assert (await sftp.stat(f"{root}/one/file")).st_mtime == 2


async def test_small_files_are_replaced_as_large_ones_are(tmp_path: Path) -> None:
    contents = {"small": b"new", "large": noise(MIB)}
    server = MemorySFTPServer({f"/tree/{name}": b"old" for name in contents})
    (tmp_path / "source").mkdir()
    for name, data in contents.items():
        (tmp_path / "source" / name).write_bytes(data)
    async with connected(server) as sftp:
        for name in contents:
            await sftp.chmod(f"/tree/{name}", 0o600)
            (tmp_path / "source" / name).chmod(0o755)
        for resume in (False, True):
            await sftp.put(tmp_path / "source", "/tree", recurse=True, resume=resume)
            for name in contents:
                assert stat.S_IMODE((await sftp.stat(f"/tree/{name}")).st_mode or 0) == 0o600
                (tmp_path / "source" / name).touch()
        # And a link that is there is followed.
        await sftp.mkdir("/linked")
        for name in contents:
            server.write_bytes(f"/elsewhere/{name}", b"old")
            await sftp.symlink(f"/elsewhere/{name}", f"/linked/{name}")
        await sftp.put(tmp_path / "source", "/linked", recurse=True)
        for name, data in contents.items():
            assert (await sftp.lstat(f"/linked/{name}")).is_symlink()
            assert server.read_bytes(f"/elsewhere/{name}") == data
            assert server.read_bytes(f"/tree/{name}") == data


async def test_a_small_file_costs_no_request_for_what_cannot_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    for number in range(10):
        (tmp_path / "source" / str(number)).write_bytes(b"data")
    asked: list[str] = []
    request = ClientSession.request

    def note(self: ClientSession, packet: Packet, waiter: Waiter) -> None:
        asked.append(type(packet).__name__)
        request(self, packet, waiter)

    async with connected(MemorySFTPServer()) as sftp:
        monkeypatch.setattr(ClientSession, "request", note)
        for looks in (0, 10):
            asked.clear()
            await sftp.put(tmp_path / "source", "/tree", recurse=True)
            assert asked.count("Lstat") == looks
            assert asked.count("Open") == asked.count("Close") == asked.count("Extended") == 10


# -- files that are called as parts are


@pytest.mark.parametrize("size", [100, MIB])
@pytest.mark.parametrize("is_turned", [False, True])
async def test_what_is_called_as_a_part_comes_through_beside_its_file(
    is_turned: bool, size: int, tmp_path: Path
) -> None:
    files = {
        "/tree/big": noise(MIB, 1),
        "/tree/.big.part": noise(size, 2),
        "/tree/..big.part.part": noise(size, 3),
        "/tree/small": b"small",
        "/tree/.small.part": noise(size, 4),
        "/tree/" + "n" * 255: noise(MIB, 5),
        "/tree/" + os.fsdecode(part_name(b"n" * 255)): noise(size, 6),
    }
    server = MemorySFTPServer(dict(list(files.items())[:: -1 if is_turned else 1]))
    calls: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        calls.append((done, total))

    async with connected(server) as sftp:
        for resume in (False, False, True):
            await sftp.get("/tree", tmp_path / "tree", note, recurse=True, resume=resume)
            assert local_files(tmp_path / "tree") == files
            assert calls[-1][0] == calls[-1][1]
            await sftp.put(tmp_path / "tree", "/back", recurse=True, resume=resume)
            assert remote_files(server, "/back") == files
            await sftp.copy("/tree", "/copied", recurse=True)
            assert remote_files(server, "/copied") == files


async def test_a_tree_with_parts_in_it_is_gone_on_with(tmp_path: Path) -> None:
    files = {"/tree/big": noise(3 * MIB, 1), "/tree/.big.part": noise(MIB, 2)}
    server = MemorySFTPServer(files)
    async with connected(server) as sftp:
        for is_get in (True, False):
            with trio.CancelScope() as scope:

                def stop(done: int, total: int, scope: trio.CancelScope = scope) -> None:
                    if done > MIB:
                        scope.cancel()

                if is_get:
                    await sftp.get("/tree", tmp_path / "tree", stop, recurse=True)
                else:
                    await sftp.put(tmp_path / "tree", "/back", stop, recurse=True)
            if is_get:
                await sftp.get("/tree", tmp_path / "tree", recurse=True, resume=True)
                assert local_files(tmp_path / "tree") == files
            else:
                await sftp.put(tmp_path / "tree", "/back", recurse=True, resume=True)
    assert remote_files(server, "/back") == files


async def test_a_small_file_and_another_transfer_to_its_place_do_not_mix(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"small")
    (tmp_path / "large").write_bytes(noise(9 * MIB))
    server = MemorySFTPServer({"/tree/file": b"old"})
    server.delay_on("/tree/.file.part", 1, operation="write", times=1)
    is_half_done, may_go_on = trio.Event(), trio.Event()

    async def stop(done: int, total: int) -> None:
        is_half_done.set()
        await may_go_on.wait()

    async with connected(server) as sftp:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(sftp.put, tmp_path / "tree", "/tree", recurse=True))
            await trio.sleep(0.5)
            with pytest.raises(OSError, match="another transfer is writing it"):
                await sftp.put(tmp_path / "large", "/tree/file")
        assert server.files == {"/tree/file": b"small"}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(sftp.put, tmp_path / "large", "/tree/file", stop))
            await is_half_done.wait()
            with pytest.raises(OSError, match="another transfer is writing it"):
                await sftp.put(tmp_path / "tree", "/tree", recurse=True)
            may_go_on.set()
    assert server.files == {"/tree/file": noise(9 * MIB)}


async def test_a_tree_that_was_cancelled_claims_no_names(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "small").write_bytes(b"new")
    server = MemorySFTPServer({"/tree/small": b"old"})
    server.delay_on("/tree/.small.part", 5, operation="write", times=1)
    async with connected(server) as sftp:
        with trio.move_on_after(1) as scope:
            await sftp.put(tmp_path, "/tree", recurse=True)
        assert scope.cancelled_caught
        assert not sftp._link.parts
        await sftp.put(tmp_path, "/tree", recurse=True)
    assert server.files == {"/tree/small": b"new"}


# -- links


@pytest.mark.parametrize("tells_modes", [True, False])
async def test_links_stay_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tells_modes: bool) -> None:
    server = MemorySFTPServer({"/tree/file": b"data"})
    if not tells_modes:
        list_folder = _MemoryFiles.list_folder

        async def list_names(files: _MemoryFiles, path: str) -> list[trio_ssh.SFTPAttributes]:
            return [trio_ssh.SFTPAttributes(filename=entry.filename) for entry in await list_folder(files, path)]

        monkeypatch.setattr(_MemoryFiles, "list_folder", list_names)
    async with connected(server) as sftp:
        await sftp.symlink("file", "/tree/link")
        await sftp.symlink("nowhere", "/tree/broken")
        for _ in range(2):
            await sftp.get("/tree", tmp_path / "tree", recurse=True)
            await sftp.put(tmp_path / "tree", "/back", recurse=True)
            await sftp.copy("/tree", "/copied", recurse=True)
        for root in ("/back", "/copied"):
            assert await sftp.readlink(f"{root}/link") == "file"
            assert await sftp.readlink(f"{root}/broken") == "nowhere"
    assert (tmp_path / "tree" / "link").readlink() == Path("file")


async def test_links_are_followed_where_asked_and_loops_end(tmp_path: Path) -> None:
    served = tmp_path / "served"
    for name, data in {"tree/folder/file": b"data", "other/file": b"other"}.items():
        (served / name).parent.mkdir(parents=True)
        (served / name).write_bytes(data)
    (served / "tree" / "link").symlink_to("folder/file")
    (served / "tree" / "directory").symlink_to("/other")
    (served / "tree" / "folder" / "up").symlink_to("..")
    server = trio_ssh.LocalSFTPServer(served)
    errors: list[Exception] = []
    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "tree", recurse=True, follow_symlinks=True, error_handler=errors.append)
        await sftp.copy("/tree", "/copied", recurse=True, follow_symlinks=True, error_handler=errors.append)
    assert [getattr(error, "filename", None) for error in errors] == ["/tree/folder/up"] * 2
    assert {getattr(error, "errno", None) for error in errors} == {errno.ELOOP}
    expected = {"/tree/folder/file": b"data", "/tree/link": b"data", "/tree/directory/file": b"other"}
    assert local_files(tmp_path / "tree") == expected == local_files(served / "copied")

    (tmp_path / "tree" / "folder" / "up").symlink_to("..")
    (tmp_path / "tree" / "again").symlink_to("link")
    async with connected(server) as sftp:
        with pytest.raises(OSError, match="directory that it is in"):
            await sftp.put(tmp_path / "tree", "/back", recurse=True, follow_symlinks=True)


# -- only some of it


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), {"a.py", "b.txt", "one/c.py", "one/two/d.py", "old/e.py"}),
        (("*.py",), (), {"a.py", "one/c.py", "one/two/d.py", "old/e.py"}),
        (("*.py",), ("old",), {"a.py", "one/c.py", "one/two/d.py"}),
        ((), ("one/two", "*.txt"), {"a.py", "one/c.py", "old/e.py"}),
        (("one/*",), (), {"one/c.py", "one/two/d.py"}),
        (("/a.py", "[bc].*"), (), {"a.py", "b.txt", "one/c.py"}),
    ],
)
async def test_patterns_choose(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: set[str], tmp_path: Path
) -> None:
    names = ("a.py", "b.txt", "one/c.py", "one/two/d.py", "old/e.py")
    server = MemorySFTPServer({f"/tree/{name}": b"" for name in names})
    (tmp_path / "all").mkdir()
    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "all", recurse=True)
        await sftp.get("/tree", tmp_path / "some", recurse=True, include=include, exclude=exclude)
        await sftp.put(tmp_path / "all", "/back", recurse=True, include=include, exclude=exclude)
        await sftp.copy("/tree", "/copied", recurse=True, include=include, exclude=exclude)
    wanted = {f"/tree/{name}" for name in expected}
    assert set(local_files(tmp_path / "some")) == wanted
    assert set(remote_files(server, "/back")) == wanted == set(remote_files(server, "/copied"))


async def test_a_pattern_that_is_a_string_is_a_mistake() -> None:
    async with connected(MemorySFTPServer()) as sftp:
        with pytest.raises(TypeError, match=r"exclude=\('\*\.pyc',\)"):
            await sftp.get("/", "x", recurse=True, exclude="*.pyc")
        with pytest.raises(ValueError, match="at least 1"):
            await sftp.get("/", "x", recurse=True, parallel=0)


@given(st.binary(max_size=20), st.text(max_size=10), st.booleans())
def test_any_pattern_meets_any_name(path: bytes, pattern: str, is_directory: bool) -> None:
    Selection((pattern,), (pattern,)).is_wanted(path, is_directory=is_directory)


async def test_files_that_are_there_are_passed_over_when_going_on(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/tree/one": b"1", "/tree/two": b"2"})
    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "tree", recurse=True, preserve=True)
        await sftp.put(tmp_path / "tree", "/back", recurse=True, preserve=True)
        server.fail_on("/tree/one", OSError(errno.EIO, "read again"), operation="open")
        server.fail_on("/back/.one.part", OSError(errno.EIO, "written again"), operation="open")
        (tmp_path / "tree" / "two").unlink()
        await sftp.remove("/back/two")
        await sftp.get("/tree", tmp_path / "tree", recurse=True, preserve=True, resume=True)
        await sftp.put(tmp_path / "tree", "/back", recurse=True, preserve=True, resume=True)
    assert local_files(tmp_path / "tree") == {"/tree/one": b"1", "/tree/two": b"2"} == remote_files(server, "/back")


# -- errors


async def test_the_first_error_is_the_end_and_comes_bare(tmp_path: Path) -> None:
    server = MemorySFTPServer({f"/tree/{number}": b"data" for number in range(100)})
    server.fail_on("/tree/50", PermissionError(errno.EACCES, "not this one"), operation="open")
    async with connected(server) as sftp:
        with pytest.raises(trio_ssh.SFTPPermissionDenied) as raised:
            await sftp.get("/tree", tmp_path / "tree", recurse=True)
        assert raised.value.filename == "/tree/50"
        with pytest.raises(trio_ssh.SFTPPermissionDenied):
            await sftp.copy("/tree", "/copied", recurse=True)
    assert server.open_handles == 0


@pytest.mark.parametrize("target", ["/file", "/file/", "/to_file"])
async def test_a_tree_does_not_take_the_place_of_a_file(target: str, tmp_path: Path) -> None:
    server = MemorySFTPServer({"/tree/file": b"data", "/tree/folder/file": b"data", "/file": b"precious"})
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    (tmp_path / "file").touch()
    async with connected(server) as sftp:
        await sftp.symlink("/file", "/to_file")
        for transfer in (
            partial(sftp.put, tmp_path / "tree", target),
            partial(sftp.copy, "/tree", target),
            partial(sftp.get, "/tree", tmp_path / "file"),
        ):
            with pytest.raises(NotADirectoryError):
                await transfer(recurse=True)
    assert server.files["/file"] == b"precious"


async def test_a_tree_that_is_not_there_is_told_by_a_str(tmp_path: Path) -> None:
    async with connected(MemorySFTPServer()) as sftp:
        for path in (tmp_path / "missing", os.fsencode(tmp_path / "missing")):
            with pytest.raises(FileNotFoundError) as raised:
                await sftp.put(path, "/there", recurse=True)
            assert raised.value.filename == str(tmp_path / "missing")


async def test_a_handler_hears_of_each_error_and_the_rest_goes_on(tmp_path: Path) -> None:
    server = MemorySFTPServer({f"/tree/{number}": b"data" for number in range(100)})
    server.write_bytes("/tree/folder/file", b"data")
    server.write_bytes("/tree/large", noise(MIB))
    for name in ("50", "60", "large", "folder"):
        server.fail_on(f"/tree/{name}", PermissionError(errno.EACCES, "not this one"), operation="open")
        server.fail_on(f"/tree/{name}", PermissionError(errno.EACCES, "nor this"), operation="list_folder")
    errors: list[Exception] = []

    async def hear(error: Exception) -> None:
        await trio.lowlevel.checkpoint()
        errors.append(error)

    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "tree", recurse=True, error_handler=hear)
        assert sorted(str(getattr(error, "filename", "")) for error in errors) == [
            "/tree/50",
            "/tree/60",
            "/tree/folder",
            "/tree/large",
        ]
        assert len(local_files(tmp_path / "tree")) == 98
        errors.clear()
        (tmp_path / "tree" / "pipe").parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / "tree" / "pipe")
        server.fail_on("/back/7", PermissionError(errno.EACCES, "not this one"))
        server.fail_on("/back/.7.part", PermissionError(errno.EACCES, "not this one"))
        await sftp.put(tmp_path / "tree", "/back", recurse=True, error_handler=hear)
        assert len(errors) == 2
        assert len(remote_files(server, "/back")) == 97


@pytest.mark.parametrize("operation", ["write", "chattr", "close", "posix_rename"])
async def test_a_small_file_that_there_is_no_room_for_leaves_the_old_one(operation: str, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    for number in range(100):
        (source / str(number)).write_bytes(noise(4 * KIB, number))
    server = MemorySFTPServer({"/tree/50": b"old"})
    server.fail_on("/tree/.50.part", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), operation=operation)
    errors: list[Exception] = []
    async with connected(server) as sftp:
        await sftp.put(source, "/tree", recurse=True, preserve=True, error_handler=errors.append)
        assert [getattr(error, "filename", "") for error in errors] == ["/tree/50"]
        with pytest.raises(trio_ssh.SFTPError) as raised:
            await sftp.put(source, "/tree", recurse=True, preserve=True)
        assert raised.value.filename == "/tree/50"
    assert server.files == local_files(source) | {"/tree/50": b"old"}
    assert server.open_handles == 0


@pytest.mark.parametrize("operation", ["write", "close"])
async def test_a_small_file_written_in_place_says_that_there_is_no_room(operation: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"data")
    server = MemorySFTPServer()
    server.fail_on("/tree/file", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), operation=operation)
    async with connected(server) as sftp:
        with pytest.raises(trio_ssh.SFTPError) as raised:
            await sftp.put(tmp_path / "tree", "/tree", recurse=True, atomic=False)
        assert raised.value.filename == "/tree/file"


async def test_a_small_file_that_cannot_be_read_is_not_made(tmp_path: Path) -> None:
    server = MemorySFTPServer({f"/tree/{number}": noise(4 * KIB, number) for number in range(100)})
    server.fail_on("/tree/50", OSError(errno.EIO, os.strerror(errno.EIO)), operation="read")
    errors: list[Exception] = []
    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "tree", recurse=True, error_handler=errors.append)
        assert [getattr(error, "filename", "") for error in errors] == ["/tree/50"]
        with pytest.raises(trio_ssh.SFTPError) as raised:
            await sftp.get("/tree", tmp_path / "again", recurse=True)
        assert raised.value.filename == "/tree/50"
    files = server.files
    del files["/tree/50"]
    assert local_files(tmp_path / "tree") == files


async def test_a_local_disk_without_room_for_a_small_file_keeps_the_old_one(tmp_path: Path) -> None:
    server = MemorySFTPServer({f"/tree/{number}": noise(4 * KIB, number) for number in range(100)})
    server.write_bytes("/tree/50", noise(16 * KIB))
    target = tmp_path / "tree" / "50"
    target.parent.mkdir()
    target.write_bytes(b"old")
    errors: list[Exception] = []
    async with connected(server) as sftp:
        with largest_file(8 * KIB):
            await sftp.get("/tree", target.parent, recurse=True, error_handler=errors.append)
            assert [getattr(error, "filename", "") for error in errors] == [str(target)]
            with pytest.raises(OSError, match="too large") as raised:
                await sftp.get("/tree", target.parent, recurse=True)
        assert raised.value.filename == str(target)
    assert local_files(target.parent) == server.files | {"/tree/50": b"old"}


async def test_permissions_of_directories_that_cannot_be_kept_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utime = os.utime

    def refuse(descriptor: int, times: tuple[int, int]) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise PermissionError(errno.EPERM, "not this directory")
        utime(descriptor, times)

    errors: list[Exception] = []
    async with connected(MemorySFTPServer({"/tree/folder/file": b"data"})) as sftp:
        monkeypatch.setattr("trio_ssh.sftp.local_tree.os.utime", refuse)
        await sftp.get("/tree", tmp_path / "tree", recurse=True, preserve=True, error_handler=errors.append)
    folders = [str(tmp_path / "tree" / "folder"), str(tmp_path / "tree")]
    assert [(type(error), getattr(error, "filename", "").rstrip("/")) for error in errors] == [
        (PermissionError, folder) for folder in folders
    ]


async def test_files_that_fail_leave_no_descriptors(tmp_path: Path) -> None:
    server = MemorySFTPServer({f"/tree/{number}": noise(100_000) for number in range(20)})
    async with connected(server) as sftp:
        await sftp.get("/tree", tmp_path / "tree", recurse=True)
        for number in range(20):
            server.fail_on(f"/tree/{number}", PermissionError(errno.EACCES, "no more"), operation="open")
        before = len(os.listdir("/proc/self/fd"))
        errors: list[Exception] = []
        await sftp.get("/tree", tmp_path / "tree", recurse=True, error_handler=errors.append)
        assert len(errors) == 20
        assert len(os.listdir("/proc/self/fd")) == before


async def test_what_a_handler_raises_is_the_end(tmp_path: Path) -> None:
    server = MemorySFTPServer({"/tree/file": b"data"})
    server.fail_on("/tree/file", PermissionError(errno.EACCES, "not this one"), operation="open")

    def refuse(error: Exception) -> None:
        raise KeyError("mine")

    async with connected(server) as sftp:
        with pytest.raises(KeyError, match="mine"):
            await sftp.get("/tree", tmp_path / "tree", recurse=True, error_handler=refuse)


async def test_a_lost_connection_is_the_end_whoever_listens(tmp_path: Path) -> None:
    files = {f"/tree/{number}": noise(4 * KIB, number) for number in range(500)}
    server = MemorySFTPServer(files)
    heard: list[Exception] = []
    for is_get in (True, False):
        client_end, server_end = memory_pair()
        cut = CutStream(client_end, received=MIB) if is_get else CutStream(client_end, sent=MIB)
        with pytest.raises(trio_ssh.ConnectionLost):
            async with connected(server, streams=(cut, server_end)) as sftp:
                if is_get:
                    await sftp.get("/tree", tmp_path / "tree", recurse=True, error_handler=heard.append)
                else:
                    await sftp.put(tmp_path / "tree", "/back", recurse=True, error_handler=heard.append)
        if is_get:
            partial_tree = local_files(tmp_path / "tree")
            assert 0 < len(partial_tree) < 500
            assert all(files[path] == data for path, data in partial_tree.items())
            async with connected(server) as sftp:
                await sftp.get("/tree", tmp_path / "tree", recurse=True)
    whole = {path: data for path, data in remote_files(server, "/back").items() if not path.endswith(".part")}
    assert all(files[path] == data for path, data in whole.items())
    async with connected(server) as sftp:
        await sftp.put(tmp_path / "tree", "/back", recurse=True)
    assert remote_files(server, "/back") == files


@pytest.mark.parametrize("after", [0, 1, 3, 10, 30, 100, 300])
async def test_a_tree_may_be_cancelled_at_every_step(after: int, tmp_path: Path) -> None:
    files = {f"/tree/{number}": noise(4 * KIB, number) for number in range(100)}
    (tmp_path / "source").mkdir()
    for number in range(100):
        (tmp_path / "source" / str(number)).write_bytes(files[f"/tree/{number}"])
    for number in range(3):
        server = MemorySFTPServer(files)
        async with connected(server) as sftp:
            transfer = [
                partial(sftp.get, "/tree", tmp_path / "tree", recurse=True),
                partial(sftp.put, tmp_path / "source", "/back", recurse=True),
                partial(sftp.copy, "/tree", "/back", recurse=True),
            ][number]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transfer)
                for _ in range(after):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await sftp.stat("/tree")
        assert server.open_handles == 0
        # No part is left either: all of these are small, and there is nothing to go on with.
        assert all(files.get(path) == data for path, data in remote_files(server, "/back").items())
    if (tmp_path / "tree").exists():
        assert all(files[path] == data for path, data in local_files(tmp_path / "tree").items())


async def test_a_small_file_that_is_opened_after_it_was_given_up_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"data")
    server = MemorySFTPServer()
    gate = held_up(server, monkeypatch, "open")
    async with connected(server) as sftp:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(sftp.put, tmp_path / "tree", "/back", recurse=True))
            while not sftp._link.parts:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        gate.set()
    assert server.files == {}
    assert server.open_handles == 0


# -- what a hostile server describes


@pytest.mark.parametrize("name", ["../evil", "a/b", "/etc/evil", "", "a\0b", "x" * 5000])
async def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    async with connected(serving(entry("good"), entry(name))) as sftp:
        with pytest.raises(trio_ssh.RemoteProtocolError, match="the server lists a file"):
            await sftp.get("/", tmp_path / "tree", recurse=True)
    assert set(os.listdir(tmp_path)) <= {"tree"}
    assert set(local_files(tmp_path / "tree")) <= {"/tree/good"}


async def test_a_link_and_then_a_directory_of_one_name_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "d").symlink_to(outside)
    (tree / "f").symlink_to(outside / "f")
    errors: list[Exception] = []
    async with connected(serving(entry("d", stat.S_IFDIR), entry("f"), entry("f", stat.S_IFLNK))) as sftp:
        await sftp.get("/", tree, recurse=True, error_handler=errors.append)
    assert len(errors) == 1
    assert os.listdir(outside) == []
    assert (tree / "f").read_bytes() == b"evil"


async def test_a_tree_without_a_bottom_ends(tmp_path: Path) -> None:
    async with connected(serving(entry("d", stat.S_IFDIR))) as sftp:
        with pytest.raises(OSError, match="more than 64 directories"):
            await sftp.get("/", tmp_path / "tree", recurse=True)
    depth = len(list((tmp_path / "tree").rglob("*")))
    assert depth == 64


async def test_a_listing_without_an_end_ends(tmp_path: Path) -> None:
    limits = SFTPLimits(listing_names=50)
    server = serving(*(entry(f"{number}") for number in range(100)))
    async with connected(server) as client:
        sftp = await trio_ssh.SFTPClient.from_transport(client.get_channel().get_transport(), limits=limits)  # type: ignore[arg-type]
        async with sftp:
            with pytest.raises(trio_ssh.RemoteProtocolError, match="does not end"):
                await sftp.get("/", tmp_path / "tree", recurse=True)


@pytest.mark.parametrize(
    ("way", "kind", "count"), [("get", stat.S_IFDIR, 60), ("copy", stat.S_IFDIR, 60), ("get", stat.S_IFREG, 1000)]
)
async def test_no_more_of_a_tree_waits_than_there_is_memory_for(
    way: str, kind: int, count: int, tmp_path: Path
) -> None:
    """Directories that each fit into memory, with such in each of them; and one that doesn't fit."""
    limits = SFTPLimits(gathered_bytes=100_000)
    server = serving(*(entry(f"{number}", kind) for number in range(count)))
    async with connected(server) as client, connected(MemorySFTPServer()) as target:
        sftp = await trio_ssh.SFTPClient.from_transport(client.get_channel().get_transport(), limits=limits)  # type: ignore[arg-type]
        async with sftp:
            with pytest.raises(OSError, match=r"100000 bytes.*SFTPLimits\.gathered_bytes") as failure:
                if way == "get":
                    await sftp.get("/", tmp_path / "tree", recurse=True)
                else:
                    await sftp.copy("/", "/x", recurse=True, target_client=target)
            assert failure.value.errno == errno.EFBIG


async def test_a_server_that_lists_too_much_of_what_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    limits = SFTPLimits(gathered_bytes=100_000)
    async with connected(serving(*(entry(f"{number}") for number in range(1000)))) as client:
        sftp = await trio_ssh.SFTPClient.from_transport(client.get_channel().get_transport(), limits=limits)  # type: ignore[arg-type]
        async with sftp:
            with pytest.raises(OSError, match=r"SFTPLimits\.gathered_bytes"):
                await sftp.put(tmp_path, "/", recurse=True, resume=True)


@pytest.mark.parametrize("preserve", [False, True])
async def test_what_was_gathered_for_a_tree_is_dropped_when_it_is_dealt_with(preserve: bool, tmp_path: Path) -> None:
    """A hundred directories of ten files each fit where ten directories do at once."""
    files = {f"/tree/{number // 10}/{number % 10}/{name}": b"x" for number in range(100) for name in range(10)}
    limits = SFTPLimits(gathered_bytes=100 * KIB if preserve else 40 * KIB)
    server = MemorySFTPServer(files)
    async with connected(server) as client:
        sftp = await trio_ssh.SFTPClient.from_transport(client.get_channel().get_transport(), limits=limits)  # type: ignore[arg-type]
        async with sftp:
            for resume in (False, True):
                await sftp.get("/tree", tmp_path / "tree", recurse=True, preserve=preserve, resume=resume)
                await sftp.put(tmp_path / "tree", "/back", recurse=True, preserve=preserve, resume=resume)
            await sftp.copy("/tree", "/copied", recurse=True, preserve=preserve)
    assert local_files(tmp_path / "tree") == files == remote_files(server, "/back") == remote_files(server, "/copied")


async def test_one_name_twice_is_one_file(tmp_path: Path) -> None:
    async with connected(serving(entry("a"), entry("a"), entry("A"), entry("A"))) as sftp:
        await sftp.get("/", tmp_path / "tree", recurse=True)
    assert sorted(os.listdir(tmp_path / "tree")) == ["A", "a"]


async def test_names_that_are_one_on_this_disk_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalTree, "folds_case", lambda self, path: True)
    errors: list[Exception] = []
    async with connected(serving(entry("a"), entry("A"), entry("\u00e9"), entry("e\u0301"))) as sftp:
        await sftp.get("/", tmp_path / "tree", recurse=True, error_handler=errors.append)
    assert [type(error) for error in errors] == [FileExistsError] * 2
    assert sorted(os.listdir(tmp_path / "tree")) == ["a", "\u00e9"]


async def test_a_device_is_not_a_file(tmp_path: Path) -> None:
    async with connected(serving(entry("fifo", stat.S_IFIFO), entry("disk", stat.S_IFBLK))) as sftp:
        with pytest.raises(OSError, match="neither a file nor a directory"):
            await sftp.get("/", tmp_path / "tree", recurse=True)


async def test_a_tree_is_not_copied_into_itself() -> None:
    server = MemorySFTPServer({"/tree/file": b"data", "/tree/folder/file": b"data"})
    async with connected(server) as sftp:
        for target in ("/tree/copy", "/tree/folder/copy/", "/tree", "/tree/folder", "tree/../tree/./copy"):
            with pytest.raises(ValueError, match="into itself"):
                await sftp.copy("/tree", target, recurse=True)
        with pytest.raises(ValueError, match="into itself"):
            await sftp.copy("/", "/new", recurse=True)
        assert [names for _, names, _ in [visit async for visit in sftp.walk("/tree")]] == [["folder"], []]
        await sftp.copy("/tree/folder", "/tree/folder2", recurse=True)
    assert server.files["/tree/folder2/file"] == b"data"


@pytest.mark.parametrize("target", ["tree/copy", "to_tree/copy", "to_tree", "to_tree/folder", "folder/../tree/copy"])
async def test_a_tree_is_not_copied_into_itself_through_a_link(target: str, tmp_path: Path) -> None:
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_tree").symlink_to("tree")
    async with connected(trio_ssh.LocalSFTPServer(tmp_path)) as sftp:
        with pytest.raises(ValueError, match="into itself"):
            await sftp.copy("tree", target, recurse=True)
        with pytest.raises(FileNotFoundError, match="missing/copy"):
            await sftp.copy("tree", "missing/copy", recurse=True)
    assert os.listdir(tmp_path / "tree") == ["folder"]
    assert os.listdir(tmp_path / "tree" / "folder") == []
