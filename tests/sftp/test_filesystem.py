"""`LocalSFTPServer`, by both walks, and `MemorySFTPServer`: what one does the others do, and what only a disk can."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

import trio_ssh
from tests.sftp.by_hand import NO_ATTRIBUTES, HandClient, R, W, encoded, serving
from trio_ssh.sftp import beneath, budget, directory, filesystem, local_file
from trio_ssh.sftp.messages import (
    Attrs,
    CheckFile,
    CheckFileReply,
    Close,
    CopyData,
    Data,
    Extended,
    ExtendedReply,
    Fsetstat,
    Fstat,
    Handle,
    Lsetstat,
    Lstat,
    Mkdir,
    Name,
    OneHandle,
    OnePath,
    Open,
    Opendir,
    Packet,
    Read,
    Readdir,
    Readlink,
    Realpath,
    Remove,
    Rename,
    Rmdir,
    Setstat,
    Stat,
    Status,
    StatVFS,
    Symlink,
    TwoPaths,
    UsersGroups,
    Write,
)
from trio_ssh.sftp.protocol import EXTENSIONS, OpenFlags, StatusCode
from trio_ssh.testing import MemorySFTPServer

RW = OpenFlags.READ | OpenFlags.WRITE
ODD_NAMES = [b"with\nnewline", b"caf\xe9", b"x" * 255, b" ", b"-rf", "\N{SNOWMAN}".encode(), b"a*b?[c]", b'q"\\']


@attrs.frozen
class Backend:
    """A server, and what its clients see at first."""

    server: trio_ssh.SFTPServer
    root: Path | None


@pytest.fixture(params=["kernel", "ours", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "memory":
        return Backend(MemorySFTPServer({"/file": b"content", "/folder/inner": b"inner content"}), None)
    if request.param == "ours":
        monkeypatch.setattr(beneath, "kernel_walk", lambda: None)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder" / "inner").write_bytes(b"inner content")
    return Backend(trio_ssh.LocalSFTPServer(tmp_path), tmp_path)


@pytest.fixture
async def hand(backend: Backend) -> AsyncIterator[HandClient]:
    async with serving(backend.server) as client:
        yield client


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    return tmp_path


async def attributes(hand: HandClient, packet: Packet) -> trio_ssh.SFTPAttributes:
    return (await hand.ask(packet, Attrs)).attributes


def xattr(name: str, *paths: str) -> Extended:
    """A request of an extension about two paths."""
    return Extended(name, TwoPaths(*map(encoded, paths)).encode())


def looked_at(root: Path) -> dict[str, os.stat_result]:
    """What is in a directory."""
    return {name: (root / name).lstat() for name in os.listdir(root)}


# -- what all do


@pytest.mark.parametrize("size", [0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 255 * 1024, 1_000_003])
async def test_what_is_written_is_read_back(hand: HandClient, size: int) -> None:
    data = os.urandom(size)
    await hand.write("/new", data)
    assert await hand.read("/new") == data
    found = await attributes(hand, Stat(b"/new"))
    assert (found.st_size, found.is_file()) == (size, True)


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_any_name_that_a_file_may_have_is_kept(hand: HandClient, name: bytes) -> None:
    await hand.write(b"/" + name, b"x")
    assert name in await hand.list("/")
    await hand.do(Rename(b"/" + name, b"/folder/" + name))
    assert set(await hand.list("/folder")) == {b"inner", name}
    await hand.do(Remove(b"/folder/" + name))


async def test_all_extensions_are_advertised(hand: HandClient) -> None:
    assert hand.extensions.items() >= EXTENSIONS.items()
    assert {b"check-file-name", b"check-file-handle"} < hand.extensions.keys()


async def test_files_are_opened_as_the_flags_say(hand: HandClient) -> None:
    assert (await hand.refusal(Open(b"/missing", R, NO_ATTRIBUTES))).code == StatusCode.NO_SUCH_FILE
    exclusive = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE
    assert (await hand.refusal(Open(b"/file", exclusive, NO_ATTRIBUTES))).text == os.strerror(errno.EEXIST)
    handle = await hand.open("/file", OpenFlags.WRITE | OpenFlags.APPEND)
    await hand.do(Write(handle, 0, b", more"))
    await hand.close(handle)
    assert await hand.read("/file") == b"content, more"
    handle = await hand.open("/file", RW)
    await hand.do(Write(handle, 3, b"CEN"))
    assert (await hand.ask(Read(handle, 0, 7), Data)).data == b"conCENt"
    await hand.close(handle)
    for packet in (Write(await hand.open("/file", R), 0, b"x"), Read(await hand.open("/file", W), 0, 1)):
        assert (await hand.refusal(packet)).code == StatusCode.FAILURE
    for path in (b"/folder", b"/"):
        assert (await hand.refusal(Open(path, RW, NO_ATTRIBUTES))).code == StatusCode.FAILURE


async def test_a_gap_is_filled_with_zeros(hand: HandClient) -> None:
    handle = await hand.open("/new", W)
    await hand.do(Write(handle, 5, b"x"))
    await hand.close(handle)
    assert await hand.read("/new") == b"\0\0\0\0\0x"


async def test_directories_are_made_listed_and_removed(hand: HandClient) -> None:
    await hand.do(Mkdir(b"/new", trio_ssh.SFTPAttributes(st_mode=0o750)))
    assert stat.S_IMODE((await attributes(hand, Stat(b"/new"))).st_mode or 0) == 0o750
    assert (await hand.refusal(Mkdir(b"/new", NO_ATTRIBUTES))).text == os.strerror(errno.EEXIST)
    assert (await hand.refusal(Mkdir(b"/", NO_ATTRIBUTES))).code == StatusCode.FAILURE
    assert await hand.list("/new") == {}
    assert set(await hand.list("/")) == {b"file", b"folder", b"new"}
    assert (await hand.refusal(Rmdir(b"/folder"))).text == os.strerror(errno.ENOTEMPTY)
    assert (await hand.refusal(Rmdir(b"/file"))).code == StatusCode.NO_SUCH_FILE
    assert (await hand.refusal(Remove(b"/new"))).code in (StatusCode.FAILURE, StatusCode.PERMISSION_DENIED)
    await hand.do(Rmdir(b"/new/"))
    assert (await hand.refusal(Opendir(b"/new"))).code == StatusCode.NO_SUCH_FILE
    assert (await hand.refusal(Opendir(b"/file"))).code == StatusCode.NO_SUCH_FILE
    for path in (b"/", b".", b"folder/.."):
        assert (await hand.refusal(Rmdir(path))).code == StatusCode.FAILURE


async def test_a_listing_has_the_line_of_ls(hand: HandClient) -> None:
    await hand.do(Setstat(b"/file", trio_ssh.SFTPAttributes(st_mode=0o640, st_atime=0, st_mtime=86400 * 365)))
    entry = (await hand.list("/"))[b"file"]
    fields = entry.longname.decode().split()
    assert fields[0] == "-rw-r-----"
    assert fields[-5:] in (["7", "Jan", "1", "1971", "file"], ["7", "Dec", "31", "1970", "file"])
    assert entry.attributes.st_size == 7


async def test_many_names_come_in_several_replies(hand: HandClient) -> None:
    for number in range(1100):
        handle = await hand.open(f"/folder/file number {number:05d}", W)
        await hand.close(handle)
    handle = (await hand.ask(Opendir(b"/folder"), Handle)).handle
    first = await hand.ask(Readdir(handle), Name)
    assert 100 <= len(first.names) <= 1024
    assert len(await hand.list("/folder")) == 1101


async def test_rename_never_replaces_and_posix_rename_does(hand: HandClient) -> None:
    for path in ("/a", "/b"):
        await hand.write(path, path.encode())
    assert (await hand.refusal(Rename(b"/a", b"/b"))).text == os.strerror(errno.EEXIST)
    assert (await hand.refusal(Rename(b"/a", b"/a"))).code == StatusCode.FAILURE
    assert (await hand.refusal(Rename(b"/folder", b"/a"))).code == StatusCode.FAILURE
    assert await hand.read("/b") == b"/b"
    await hand.do(xattr("posix-rename@openssh.com", "/a", "/b"))
    assert await hand.read("/b") == b"/a"
    await hand.do(Rename(b"/folder", b"/renamed"))
    assert await hand.read("/renamed/inner") == b"inner content"
    assert (await hand.refusal(Rename(b"/missing", b"/x"))).code == StatusCode.NO_SUCH_FILE
    assert (await hand.refusal(xattr("posix-rename@openssh.com", "/renamed", "/renamed/x"))).code == StatusCode.FAILURE


async def test_links_lead_where_they_say(hand: HandClient) -> None:
    await hand.do(Symlink(b"file", b"/soft"))
    await hand.do(Symlink(b"/folder", b"/to_folder"))
    await hand.do(Symlink(b"ring", b"/ring"))
    assert (await hand.ask(Readlink(b"/soft"), Name)).names[0].filename == b"file"
    assert await hand.read("/soft") == b"content"
    assert await hand.read("/to_folder/../to_folder/inner") == b"inner content"
    assert (await attributes(hand, Lstat(b"/soft"))).is_symlink()
    assert (await attributes(hand, Stat(b"/soft"))).is_file()
    assert (await attributes(hand, Stat(b"/to_folder"))).is_dir()
    assert (await hand.refusal(Stat(b"/ring"))).code == StatusCode.NO_SUCH_FILE
    assert (await hand.refusal(Readlink(b"/file"))).code == StatusCode.FAILURE
    assert (await hand.refusal(Symlink(b"x", b"/soft"))).code == StatusCode.FAILURE
    await hand.do(Remove(b"/soft"))
    assert await hand.read("/file") == b"content"
    await hand.do(xattr("hardlink@openssh.com", "/file", "/hard"))
    await hand.write("/hard", b"through the other name")
    assert await hand.read("/file") == b"through the other name"
    assert (await hand.refusal(xattr("hardlink@openssh.com", "/file", "/hard"))).code == StatusCode.FAILURE


async def test_links_do_not_lead_out(hand: HandClient) -> None:
    for number, target in enumerate((b"/etc/passwd", b"../../../../etc/passwd", b"/proc/self/environ")):
        path = b"/link%d" % number
        await hand.do(Symlink(target, path))
        for packet in (Open(path, R, NO_ATTRIBUTES), Stat(path), Setstat(path, trio_ssh.SFTPAttributes(st_mode=0))):
            assert (await hand.refusal(packet)).code == StatusCode.NO_SUCH_FILE


async def test_an_empty_path_names_nothing(hand: HandClient) -> None:
    for packet in [
        Open(b"", R, NO_ATTRIBUTES),
        Open(b"", W, NO_ATTRIBUTES),
        Opendir(b""),
        Stat(b""),
        Lstat(b""),
        Setstat(b"", trio_ssh.SFTPAttributes(st_mode=0)),
        Extended("lsetstat@openssh.com", Lsetstat(b"", trio_ssh.SFTPAttributes(st_mode=0)).encode()),
        Extended("statvfs@openssh.com", OnePath(b"").encode()),
        Mkdir(b"", NO_ATTRIBUTES),
        Rmdir(b""),
        Remove(b""),
        Readlink(b""),
        Symlink(b"file", b""),
        Rename(b"", b"/new"),
        Rename(b"/file", b""),
        xattr("posix-rename@openssh.com", "", "/new"),
        xattr("posix-rename@openssh.com", "/file", ""),
        xattr("hardlink@openssh.com", "", "/new"),
        xattr("hardlink@openssh.com", "/file", ""),
    ]:
        assert (await hand.refusal(packet)).code == StatusCode.NO_SUCH_FILE
    assert set(await hand.list("/")) == {b"file", b"folder"}


#: What is asked by a name with a slash behind it that is no directory's, and the code that OpenSSH's server answers.
SLASHES: list[tuple[Packet, StatusCode]] = [
    (Remove(b"/file/"), StatusCode.NO_SUCH_FILE),
    (Remove(b"/to_file/"), StatusCode.NO_SUCH_FILE),
    (Remove(b"/to_folder/"), StatusCode.NO_SUCH_FILE),
    (Remove(b"/dangling/"), StatusCode.NO_SUCH_FILE),
    (Remove(b"/folder/"), StatusCode.FAILURE),
    (Rmdir(b"/to_folder/"), StatusCode.NO_SUCH_FILE),
    (Readlink(b"/to_folder/"), StatusCode.FAILURE),
    (Readlink(b"/to_file/"), StatusCode.NO_SUCH_FILE),
    (Readlink(b"/dangling/"), StatusCode.NO_SUCH_FILE),
    (Mkdir(b"/file/", NO_ATTRIBUTES), StatusCode.FAILURE),
    (Symlink(b"x", b"/new/"), StatusCode.NO_SUCH_FILE),
    (Symlink(b"x", b"/file/"), StatusCode.FAILURE),
    (xattr("hardlink@openssh.com", "/file/", "/new"), StatusCode.NO_SUCH_FILE),
    (xattr("hardlink@openssh.com", "/file", "/new/"), StatusCode.NO_SUCH_FILE),
    (xattr("hardlink@openssh.com", "/file", "/other/"), StatusCode.FAILURE),
    *((Rename(old, b"/new"), StatusCode.NO_SUCH_FILE) for old in (b"/file/", b"/to_file/", b"/to_folder/")),
    (Rename(b"/file", b"/new/"), StatusCode.NO_SUCH_FILE),
    (Rename(b"/to_folder", b"/new/"), StatusCode.NO_SUCH_FILE),
    (Rename(b"/file", b"/other/"), StatusCode.FAILURE),
    (Rename(b"/file", b"/folder/"), StatusCode.FAILURE),
    *(
        (xattr("posix-rename@openssh.com", old, new), StatusCode.NO_SUCH_FILE)
        for old, new in [
            ("/file/", "/new"),
            ("/to_folder/", "/new"),
            ("/file", "/new/"),
            ("/file", "/other/"),
            ("/file", "/folder/"),
            ("/folder", "/other/"),
            ("/folder", "/to_folder/"),
        ]
    ),
    (Open(b"/file/", R, NO_ATTRIBUTES), StatusCode.NO_SUCH_FILE),
    (Open(b"/file/", W, NO_ATTRIBUTES), StatusCode.FAILURE),
    (Open(b"/new/", W, NO_ATTRIBUTES), StatusCode.FAILURE),
    (Stat(b"/file/"), StatusCode.NO_SUCH_FILE),
    (Lstat(b"/to_file/"), StatusCode.NO_SUCH_FILE),
    (
        Extended("lsetstat@openssh.com", Lsetstat(b"/to_file/", trio_ssh.SFTPAttributes(st_mode=0)).encode()),
        StatusCode.NO_SUCH_FILE,
    ),
]


async def test_what_has_a_slash_behind_its_name_is_a_directory_or_nothing(hand: HandClient) -> None:
    await hand.write("/other", b"other content")
    for target, path in {b"file": b"/to_file", b"folder": b"/to_folder", b"missing": b"/dangling"}.items():
        await hand.do(Symlink(target, path))
    before = {name: entry.attributes.st_mode for name, entry in (await hand.list("/")).items()}
    for packet, code in SLASHES:
        assert (await hand.refusal(packet)).code == code, packet
    assert {name: entry.attributes.st_mode for name, entry in (await hand.list("/")).items()} == before
    assert [await hand.read(name) for name in ("/file", "/other")] == [b"content", b"other content"]


async def test_a_directory_may_have_a_slash_behind_its_name(hand: HandClient) -> None:
    await hand.do(Symlink(b"folder", b"/to_folder"))
    await hand.do(Mkdir(b"/new/", NO_ATTRIBUTES))
    await hand.do(Rename(b"/new/", b"/renamed/"))
    await hand.do(xattr("posix-rename@openssh.com", "/renamed/", "/again//"))
    assert (await attributes(hand, Lstat(b"/again/"))).is_dir()
    await hand.do(Rmdir(b"/again/"))
    mode = trio_ssh.SFTPAttributes(st_mode=0o711)
    await hand.do(Extended("lsetstat@openssh.com", Lsetstat(b"/to_folder/", mode).encode()))
    assert stat.S_IMODE((await attributes(hand, Lstat(b"/folder"))).st_mode or 0) == 0o711
    assert set(await hand.list("/to_folder/")) == {b"inner"}


async def test_attributes_are_set(hand: HandClient) -> None:
    wanted = trio_ssh.SFTPAttributes(st_mode=0o604, st_atime=1_000_000_000, st_mtime=1_100_000_000, st_size=3)
    await hand.do(Setstat(b"/file", wanted))
    found = await attributes(hand, Stat(b"/file"))
    assert (found.st_mode, found.st_atime, found.st_mtime, found.st_size) == (0o100604, 10**9, 11 * 10**8, 3)
    handle = await hand.open("/file", RW)
    await hand.do(Fsetstat(handle, trio_ssh.SFTPAttributes(st_mode=0o600, st_size=10)))
    assert (await attributes(hand, Fstat(handle))).st_size == 10
    await hand.do(Fsetstat(handle, trio_ssh.SFTPAttributes(st_atime=5, st_mtime=2**32 - 1)))
    assert (await attributes(hand, Fstat(handle))).st_mtime == 2**32 - 1
    await hand.close(handle)
    assert await hand.read("/file") == b"con" + bytes(7)
    owner = trio_ssh.SFTPAttributes(st_uid=os.getuid(), st_gid=os.getgid())
    await hand.do(Setstat(b"/folder", owner))
    assert (await attributes(hand, Stat(b"/folder"))).st_uid == os.getuid()
    assert (await hand.refusal(Setstat(b"/folder", trio_ssh.SFTPAttributes(st_size=0)))).code == StatusCode.FAILURE
    huge = trio_ssh.SFTPAttributes(st_size=2**64 - 1)
    assert (await hand.refusal(Setstat(b"/file", huge))).code == StatusCode.FAILURE


async def test_attributes_of_a_link_are_its_own(hand: HandClient) -> None:
    await hand.do(Symlink(b"file", b"/soft"))
    before = await attributes(hand, Stat(b"/file"))
    times = trio_ssh.SFTPAttributes(st_atime=7, st_mtime=8, st_uid=os.getuid(), st_gid=os.getgid())
    await hand.do(Extended("lsetstat@openssh.com", Lsetstat(b"/soft", times).encode()))
    assert (await attributes(hand, Lstat(b"/soft"))).st_mtime == 8
    assert (await attributes(hand, Stat(b"/file"))).st_mtime == before.st_mtime
    mode = trio_ssh.SFTPAttributes(st_mode=0o640)
    await hand.do(Extended("lsetstat@openssh.com", Lsetstat(b"/file", mode).encode()))
    assert (await attributes(hand, Stat(b"/file"))).st_mode == 0o100640


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", b"/"),
        (b".", b"/"),
        (b"/..", b"/"),
        (b"folder/../file", b"/file"),
        (b"//folder//./inner", b"/folder/inner"),
        (b"folder/new", b"/folder/new"),
    ],
)
async def test_the_real_path_is_absolute(hand: HandClient, path: bytes, expected: bytes) -> None:
    assert (await hand.ask(Realpath(path), Name)).names[0].filename == expected


async def test_the_file_system_is_described(hand: HandClient) -> None:
    handle = await hand.open("/file")
    replies = [
        await hand.extended("statvfs@openssh.com", OnePath(b"/").encode()),
        await hand.extended("fstatvfs@openssh.com", OneHandle(handle).encode()),
    ]
    for reply in replies:
        found = StatVFS.decode(reply)
        assert found.f_blocks > 0
        assert found.f_namemax >= 255
    missing = Extended("statvfs@openssh.com", OnePath(b"/missing").encode())
    assert (await hand.refusal(missing)).code == StatusCode.NO_SUCH_FILE
    assert (await hand.refusal(Extended("fstatvfs@openssh.com", OneHandle(b"?").encode()))).code == StatusCode.FAILURE


async def test_a_file_can_be_put_on_its_disk(
    backend: Backend, hand: HandClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await hand.open("/file", RW)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    await hand.do(Extended("fsync@openssh.com", OneHandle(handle).encode()))
    assert len(synced) == (not isinstance(backend.server, MemorySFTPServer))


@pytest.mark.parametrize(
    ("offset", "length", "target"), [(0, 0, 0), (3, 0, 2), (2, 4, 10), (100, 0, 0), (0, 2**64 - 1, 0)]
)
async def test_data_is_copied_without_passing_the_client(
    hand: HandClient, offset: int, length: int, target: int
) -> None:
    data = os.urandom(3_000_000)
    await hand.write("/source", data)
    source, copy = await hand.open("/source"), await hand.open("/copy", W)
    await hand.do(Extended("copy-data", CopyData(source, offset, length, copy, target).encode()))
    expected = data[offset : offset + length] if length else data[offset:]
    assert await hand.read("/copy") == (bytes(target) + expected if expected else b"")


async def test_the_server_s_own_memory_is_no_file_of_its(tmp_path: Path) -> None:
    """Served from the root, or with a /proc somewhere below, it would be: it looks like a plain file."""
    async with serving(trio_ssh.LocalSFTPServer("/", read_only=True)) as hand:
        for name in ("mem", "environ", "status"):
            refusal = await hand.refusal(Open(f"/proc/self/{name}".encode(), R, NO_ATTRIBUTES))
            assert (refusal.code, refusal.text) == (StatusCode.PERMISSION_DENIED, "this is no plain file")
        assert (await attributes(hand, Stat(b"/proc/self/mem"))).is_file()
        (tmp_path / "empty").touch()
        assert await hand.read(str(tmp_path / "empty")) == b""


class Hashing:
    """Counts who hashes at once, and holds them until enough have come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_once = self.most = 0
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        preadv = os.preadv

        def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
            with self.lock:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            self.go_on.wait(5)
            with self.lock:
                self.at_once -= 1
            return preadv(descriptor, buffers, offset)

        monkeypatch.setattr(os, "preadv", counted)


async def digest(files: directory.LocalFiles, path: str) -> None:
    """Have a file hashed in a thread, as a session does."""

    def check() -> None:
        handle = filesystem.run_at_once(files.open(path, os.O_RDONLY, NO_ATTRIBUTES))
        filesystem.run_at_once(files.check_file(handle, "sha256", 0, 0, 0))
        filesystem.run_at_once(handle.close())

    await trio.to_thread.run_sync(check)


@pytest.mark.parametrize(("seconds", "most"), [(60.0, 2), (0.01, 6)])
async def test_what_may_take_for_ever_takes_two_threads_unless_a_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    monkeypatch.setattr(directory, "_TURN_SECONDS", seconds)
    (tmp_path / "file").write_bytes(bytes(1000))
    server = trio_ssh.LocalSFTPServer(tmp_path)
    files = server._make_files(None)  # type: ignore[arg-type]
    filesystem.run_at_once(files.session_started())
    hashing = Hashing(monkeypatch)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(digest, files, "/file")
            while hashing.at_once < most:  # noqa: ASYNC110 -- threads set no event
                await trio.sleep(0.001)
            hashing.go_on.set()
    assert hashing.most == most
    filesystem.run_at_once(files.session_ended())


async def test_digests_of_what_no_file_reaches_are_no_mistake_of_ours(
    hand: HandClient, caplog: pytest.LogCaptureFixture
) -> None:
    for offset in (2**63 - 1, 2**63, 2**64 - 1):
        details = CheckFile(b"/file", "sha512", offset, 0, 0).encode()
        # A directory's file can't be read there; in memory nothing is found.
        reply = await hand.reply(await hand.start(Extended("check-file-name", details)))
        assert isinstance(reply, ExtendedReply) or (isinstance(reply, Status) and reply.code == StatusCode.FAILURE)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("block_size", [0, 256, 100_000])
async def test_digests_need_no_download(hand: HandClient, block_size: int) -> None:
    data = os.urandom(200_001)
    await hand.write("/data", data)
    details = CheckFile(b"/data", "sha512", 1, 150_000, block_size).encode()
    reply = CheckFileReply.decode(await hand.extended("check-file-name", details))
    part = data[1:150_001]
    step = block_size or len(part)
    blocks = [part[start : start + step] for start in range(0, len(part), step)]
    assert reply.hash_name == "sha512"
    assert reply.digests == b"".join(hashlib.sha512(block).digest() for block in blocks)


async def test_homes_and_names_are_looked_up(hand: HandClient) -> None:
    [entry] = (await hand.ask(Extended("home-directory", OnePath(b"").encode()), Name)).names
    assert entry.filename in (b"/", b"/home/user")
    [entry] = (await hand.ask(Extended("expand-path@openssh.com", OnePath(b"~").encode()), Name)).names
    assert entry.filename in (b"/", b"/home/user")
    numbers = (0).to_bytes(4, "big") + (4_000_000_000).to_bytes(4, "big")
    reply = UsersGroups.decode(
        await hand.extended("users-groups-by-id@openssh.com", UsersGroups(numbers, numbers[:4]).encode())
    )
    assert reply.users == b"\0\0\0\x04root\0\0\0\0"
    assert reply.groups == b"\0\0\0\x04root"
    for bad in (UsersGroups(b"123", b""), UsersGroups(b"", bytes(4 * 2000))):
        refused = await hand.refusal(Extended("users-groups-by-id@openssh.com", bad.encode()))
        assert refused.code in (StatusCode.BAD_MESSAGE, StatusCode.FAILURE)


async def test_many_things_at_once_all_come_about(hand: HandClient) -> None:
    """Pipelined, as fast clients ask."""
    data = os.urandom(3_000_000)
    handle = await hand.open("/big", W)
    numbers = [
        await hand.start(Write(handle, offset, data[offset : offset + 100_000]))
        for offset in range(0, len(data), 100_000)
    ]
    for number in numbers:
        assert (await hand.reply(number)).code == StatusCode.OK  # type: ignore[attr-defined]
    await hand.close(handle)
    handle = await hand.open("/big")
    numbers = [await hand.start(Read(handle, offset, 100_000)) for offset in range(0, len(data), 100_000)]
    others = [await hand.start(Stat(b"/big")) for _ in range(50)]
    parts = [await hand.reply(number) for number in numbers]
    assert b"".join(part.data for part in parts) == data  # type: ignore[attr-defined]
    for number in others:
        assert isinstance(await hand.reply(number), Attrs)


# -- what only a disk can


async def test_modes_obey_the_umask_that_was_given(root: Path) -> None:
    previous = os.umask(0)
    os.umask(previous)
    async with serving(trio_ssh.LocalSFTPServer(root, umask=0o027)) as hand:
        await hand.close(await hand.open("/plain", W))
        await hand.close(await hand.open("/wide", W, 0o777))
        await hand.do(Mkdir(b"/folder", NO_ATTRIBUTES))
        (root / "file").chmod(0o666)
        await hand.close(await hand.open("/file", W))
        (root / "soft").symlink_to("made")
        await hand.close(await hand.open("/soft", W, 0o666))
    modes = {name: stat.S_IMODE(found.st_mode) for name, found in looked_at(root).items() if name != "soft"}
    assert modes == {"plain": 0o640, "wide": 0o750, "folder": 0o750, "file": 0o666, "made": 0o640}
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        await hand.close(await hand.open("/own", W))
    assert stat.S_IMODE((root / "own").stat().st_mode) == 0o666 & ~previous


@pytest.mark.parametrize("umask", [0o027, None])
async def test_a_directory_keeps_the_group_of_its_parent_for_what_is_in_it(root: Path, umask: int | None) -> None:
    (root / "shared").mkdir()
    (root / "shared").chmod(0o2770)
    async with serving(trio_ssh.LocalSFTPServer(root, umask=umask)) as hand:
        await hand.do(Mkdir(b"/shared/new", trio_ssh.SFTPAttributes(st_mode=0o750)))
    assert stat.S_IMODE((root / "shared" / "new").stat().st_mode) == 0o2750


CHANGES: list[Packet] = [
    Open(b"/file", W, NO_ATTRIBUTES),
    Open(b"/file", RW, NO_ATTRIBUTES),
    Open(b"/new", OpenFlags.READ | OpenFlags.CREATE, NO_ATTRIBUTES),
    Open(b"/file", OpenFlags.READ | OpenFlags.TRUNCATE, NO_ATTRIBUTES),
    Setstat(b"/file", trio_ssh.SFTPAttributes(st_mode=0)),
    Remove(b"/file"),
    Mkdir(b"/new", NO_ATTRIBUTES),
    Rmdir(b"/folder"),
    Rename(b"/file", b"/new"),
    Symlink(b"file", b"/new"),
    xattr("posix-rename@openssh.com", "/file", "/new"),
    xattr("hardlink@openssh.com", "/file", "/new"),
    Extended("lsetstat@openssh.com", Lsetstat(b"/file", trio_ssh.SFTPAttributes(st_mode=0)).encode()),
]


async def test_nothing_changes_that_is_read_only(root: Path) -> None:
    (root / "folder").mkdir()
    before = looked_at(root)
    async with serving(trio_ssh.LocalSFTPServer(root, read_only=True)) as hand:
        for packet in CHANGES:
            refused = await hand.refusal(packet)
            assert (refused.code, refused.text) == (StatusCode.PERMISSION_DENIED, "this server is read-only")
        handle = await hand.open("/file")
        for packet in (Fsetstat(handle, trio_ssh.SFTPAttributes(st_mode=0)), Write(handle, 0, b"x")):
            await hand.refusal(packet)
        assert (await hand.ask(Read(handle, 0, 100), Data)).data == b"content"
        await hand.close(handle)
    changed = [name for name, found in looked_at(root).items() if found[:7] != before[name][:7]]
    assert (changed, looked_at(root).keys()) == ([], before.keys())


async def test_special_files_are_seen_and_not_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(root / "socket"))
        async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
            listed = await hand.list("/")
            assert listed[b"fifo"].longname.startswith(b"p")
            assert listed[b"socket"].longname.startswith(b"s")
            for path in (b"/fifo", b"/socket"):
                for flags in (R, W, RW):
                    await hand.refusal(Open(path, flags, NO_ATTRIBUTES))
                await hand.refusal(Setstat(path, trio_ssh.SFTPAttributes(st_size=0)))
                await hand.do(Setstat(path, trio_ssh.SFTPAttributes(st_mode=0o600)))
                await hand.do(Rename(path, path + b"2"))
                await hand.do(Remove(path + b"2"))


async def test_the_root_stays_the_same_directory_whatever_becomes_of_its_name(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        root.rename(tmp_path / "elsewhere")
        root.symlink_to("/etc")
        await hand.write("/f", b"x")
        assert (tmp_path / "elsewhere" / "f").read_bytes() == b"x"
        assert set(await hand.list("/")) == {b"f"}


async def test_a_root_that_is_not_there_fails_the_session(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with serving(trio_ssh.LocalSFTPServer(tmp_path / "missing"), begin=False) as hand:
            assert await hand.channel.recv_exit_status() == 255


async def test_links_can_be_left_alone(root: Path) -> None:
    (root / "soft").symlink_to("file")
    async with serving(trio_ssh.LocalSFTPServer(root, follow_symlinks=False)) as hand:
        assert (await hand.refusal(Stat(b"/soft"))).code == StatusCode.NO_SUCH_FILE
        assert (await hand.refusal(Open(b"/soft", R, NO_ATTRIBUTES))).code == StatusCode.NO_SUCH_FILE
        assert (await attributes(hand, Lstat(b"/soft"))).is_symlink()
        assert (await hand.ask(Readlink(b"/soft"), Name)).names[0].filename == b"file"
        assert await hand.read("/file") == b"content"


async def test_the_real_path_has_no_links(root: Path) -> None:
    (root / "folder").mkdir()
    (root / "soft").symlink_to("/folder/../folder")
    (root / "out").symlink_to("../../..")
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        for path, expected in {b"/soft/new": b"/folder/new", b"out/file": b"/file", b"soft/..": b"/"}.items():
            assert (await hand.ask(Realpath(path), Name)).names[0].filename == expected
        (root / "ring").symlink_to("ring")
        (root / "dangling").symlink_to("missing")
        (root / "slash").symlink_to("missing/")
        assert (await hand.ask(Realpath(b"dangling"), Name)).names[0].filename == b"/missing"
        assert (await hand.ask(Realpath(b"soft/"), Name)).names[0].filename == b"/folder"
        for path in (b"ring", b"missing/new", b"file/new", b"missing/", b"missing/.", b"dangling/", b"slash"):
            assert (await hand.refusal(Realpath(path))).code == StatusCode.NO_SUCH_FILE


# -- uploads that appear whole


async def test_an_upload_appears_when_it_is_closed(root: Path) -> None:
    (root / "file").chmod(0o604)
    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True)) as hand:
        handle = await hand.open("/file", W)
        await hand.do(Write(handle, 0, b"new"))
        assert (root / "file").read_bytes() == b"content"
        assert set(await hand.list("/")) == {b"file"}
        [hidden] = set(os.listdir(root)) - {"file"}
        for packet in (Stat(encoded(hidden)), Remove(encoded(hidden)), Open(encoded(hidden), W, NO_ATTRIBUTES)):
            assert (await hand.refusal(packet)).code == StatusCode.NO_SUCH_FILE
        assert (await attributes(hand, Fstat(handle))).st_size == 3
        await hand.close(handle)
        assert (root / "file").read_bytes() == b"new"
        assert stat.S_IMODE((root / "file").stat().st_mode) == 0o604
        await hand.write("/other", b"x")
        for path in (b"/new/", b"/file/"):
            assert (await hand.refusal(Open(path, W, NO_ATTRIBUTES))).text == os.strerror(errno.EISDIR)
        assert sorted(os.listdir(root)) == ["file", "other"]


@pytest.mark.parametrize("mode", [0o664, 0o600, 0o604])
async def test_an_upload_keeps_the_mode_of_what_it_replaces(root: Path, mode: int) -> None:
    """The umask is for what is made."""
    (root / "file").chmod(mode)
    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True, umask=0o077)) as hand:
        await hand.write("/file", b"new")
        await hand.write("/other", b"new")
    assert (root / "file").read_bytes() == b"new"
    assert stat.S_IMODE((root / "file").stat().st_mode) == mode
    assert stat.S_IMODE((root / "other").stat().st_mode) == 0o600


async def test_an_upload_that_is_broken_off_leaves_nothing(root: Path) -> None:
    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True)) as hand:
        for path in ("/file", "/new"):
            handle = await hand.open(path, W)
            await hand.do(Write(handle, 0, b"half of it"))
        assert len(os.listdir(root)) == 3
    assert os.listdir(root) == ["file"]
    assert (root / "file").read_bytes() == b"content"


async def test_what_scp_makes_without_truncating_it_is_an_upload_too(root: Path) -> None:
    flags = OpenFlags.WRITE | OpenFlags.CREATE
    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True)) as hand:
        handle = await hand.open("/new", flags)
        await hand.do(Write(handle, 0, b"new"))
        assert not (root / "new").exists()
        await hand.close(handle)
        assert (root / "new").read_bytes() == b"new"
        handle = await hand.open("/file", flags)
        await hand.do(Write(handle, 0, b"C"))
        assert (root / "file").read_bytes() == b"Content", "what is there is written into"
        handle = await hand.open("/log", flags | OpenFlags.APPEND)
        assert (root / "log").exists()


async def test_what_is_no_new_file_is_written_in_place(root: Path) -> None:
    (root / "soft").symlink_to("file")
    os.mkfifo(root / "fifo")
    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True)) as hand:
        handle = await hand.open("/soft", W)
        await hand.do(Write(handle, 0, b"through"))
        assert (root / "file").read_bytes() == b"through"
        assert (await hand.refusal(Open(b"/fifo", W, NO_ATTRIBUTES))).code in (
            StatusCode.FAILURE,
            StatusCode.PERMISSION_DENIED,
        )
        assert (await hand.refusal(Open(b"/missing/x", W, NO_ATTRIBUTES))).code == StatusCode.NO_SUCH_FILE
        assert (await hand.refusal(Open(b"/", W, NO_ATTRIBUTES))).code == StatusCode.FAILURE


# -- systems without what Linux has


async def test_rename_does_without_renameat2(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_file, "_renameat2", lambda: None)
    (root / "folder").mkdir()
    (root / "other").write_bytes(b"other")
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        await hand.do(Rename(b"/file", b"/new"))
        await hand.do(Rename(b"/folder", b"/moved"))
        for old, new in ((b"/new", b"/other"), (b"/moved", b"/other")):
            assert (await hand.refusal(Rename(old, new))).text == os.strerror(errno.EEXIST)
    assert sorted(os.listdir(root)) == ["moved", "new", "other"]
    assert (root / "other").read_bytes() == b"other"


async def test_copying_does_without_copy_file_range(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        source, copy = await hand.open("/file"), await hand.open("/copy", W)
        await hand.do(Extended("copy-data", CopyData(source, 3, 0, copy, 1).encode()))
        copy = await hand.open("/copy", OpenFlags.WRITE | OpenFlags.APPEND)
        await hand.do(Extended("copy-data", CopyData(source, 0, 2, copy, 0).encode()))
    assert (root / "copy").read_bytes() == b"\0tentco"


async def test_a_write_that_the_disk_takes_in_parts_is_finished(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwritev

    def write_little(descriptor: int, parts: list[memoryview], offset: int) -> int:
        return write(descriptor, [parts[0][:1000]], offset)

    monkeypatch.setattr(os, "pwritev", write_little)
    data = os.urandom(100_000)
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        await hand.write("/new", data)
    assert (root / "new").read_bytes() == data


# -- threads


class Gate:
    """Stands in for a disk that hangs: a system call waits until it is opened."""

    def __init__(self, call: Callable[..., int], hangs: Callable[..., bool]) -> None:
        self._call = call
        self._hangs = hangs
        self.open = threading.Event()
        self.reached = threading.Event()
        self.waiting = 0

    def __call__(self, *arguments: object) -> int:
        if self._hangs(*arguments):
            self.waiting += 1
            self.reached.set()
            assert self.open.wait(30)
        return self._call(*arguments)


@pytest.fixture
def gate(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Reads at offset 666 hang."""
    gate = Gate(os.preadv, lambda descriptor, buffers, offset: offset == 666)
    monkeypatch.setattr(os, "preadv", gate)
    yield gate
    gate.open.set()


async def test_a_disk_that_hangs_stalls_only_what_depends_on_it(root: Path, gate: Gate) -> None:
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        stuck, other = await hand.open("/file"), await hand.open("/file")
        numbers = [await hand.start(packet) for packet in (Read(stuck, 666, 1), Read(stuck, 0, 1))]
        for _ in range(20):
            assert (await hand.ask(Read(other, 0, 7), Data)).data == b"content"
            assert (await attributes(hand, Stat(b"/file"))).st_size == 7
        assert not set(numbers) & set(hand._replies)
        gate.open.set()
        assert (await hand.reply(numbers[1])) == Data(b"c")
        assert (await hand.reply(numbers[0])).code == StatusCode.EOF  # type: ignore[attr-defined]


async def test_no_more_threads_hang_than_a_session_may_have(
    root: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first, and as many as are there for all sessions, of which one takes no more than it leaves."""
    monkeypatch.setattr(filesystem, "STUCK_SECONDS", 0)
    monkeypatch.setattr(filesystem, "THREADS", budget.Budget(lambda: 6))
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        handles = [await hand.open("/file") for _ in range(6)]
        for handle in handles:
            await hand.start(Read(handle, 666, 1))
        await eventually(lambda: gate.waiting == 4)
        for _ in range(200):
            await trio.lowlevel.checkpoint()
        assert gate.waiting == 4
        gate.open.set()
        for _ in handles:
            await hand.next()


async def test_a_disk_that_hangs_stalls_no_other_request_of_its_session(
    root: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "STUCK_SECONDS", 0)
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        handles = [await hand.open("/file") for _ in range(40)]
        for handle in handles:
            await hand.start(Read(handle, 666, 1))
        await eventually(lambda: gate.waiting == len(handles))
        assert (await attributes(hand, Stat(b"/file"))).st_size == 7
        gate.open.set()
        for _ in handles:
            await hand.next()
    await eventually(lambda: not budget.THREADS._taken)


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for a thread, of which nothing tells us."""
    with trio.fail_after(30):
        while not is_so():  # noqa: ASYNC110 -- see above
            await trio.sleep(0.001)


async def test_a_session_that_ends_while_its_disk_hangs_closes_what_it_had(
    root: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_PATIENCE_SECONDS", 0.01)
    before = set(os.listdir("/proc/self/fd"))
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        handle = await hand.open("/file")
        await hand.ask(Opendir(b"/"), Handle)
        await hand.start(Read(handle, 666, 1))
        await trio.to_thread.run_sync(gate.reached.wait)
    gate.open.set()
    await eventually(lambda: set(os.listdir("/proc/self/fd")) <= before)


async def test_a_long_digest_ends_with_its_session(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse terabyte would take an hour."""
    with (root / "sparse").open("wb") as file:
        file.truncate(2**40)
    gate = Gate(os.preadv, lambda descriptor, buffers, offset: offset == 0)
    monkeypatch.setattr(os, "preadv", gate)
    before = set(os.listdir("/proc/self/fd"))
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        await hand.start(Extended("check-file-name", CheckFile(b"/sparse", "md5", 0, 0, 0).encode()))
        await trio.to_thread.run_sync(gate.reached.wait)
        gate.open.set()
    await eventually(lambda: set(os.listdir("/proc/self/fd")) <= before)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="umask is between 0 and 0o777, not 0o1000"):
        trio_ssh.LocalSFTPServer(tmp_path, umask=0o1000)
    with pytest.raises(ValueError, match="max_handles is at least 1, not 0"):
        trio_ssh.LocalSFTPServer(tmp_path, max_handles=0)


async def test_handles_are_capped(root: Path) -> None:
    async with serving(trio_ssh.LocalSFTPServer(root, max_handles=2)) as hand:
        for _ in range(2):
            await hand.open("/file")
        assert "at most 2 handles" in (await hand.refusal(Open(b"/file", R, NO_ATTRIBUTES))).text


async def test_one_session_leaves_descriptors_to_the_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = budget.Budget(lambda: 20)
    monkeypatch.setattr(directory, "DESCRIPTORS", descriptors)
    server = trio_ssh.LocalSFTPServer(root, atomic_uploads=True)
    before = set(os.listdir("/proc/self/fd"))
    async with serving(server) as greedy, serving(server) as other:
        used = set(os.listdir("/proc/self/fd"))
        handles: list[bytes] = []
        requests: list[Packet] = [Open(b"/file", R, NO_ATTRIBUTES), Open(b"/new", W, NO_ATTRIBUTES), Opendir(b"/")]
        while True:
            reply = await greedy.reply(await greedy.start(requests[len(handles) % 3]))
            if not isinstance(reply, Handle):
                break
            handles.append(reply.handle)
        assert isinstance(reply, Status)
        assert "too many files are open on this server" in reply.text
        assert len(handles) == 6
        assert len(set(os.listdir("/proc/self/fd")) - used) == 10, "what is counted is what is there"
        assert (await greedy.refusal(Open(b"/file", R, NO_ATTRIBUTES))).code == StatusCode.FAILURE
        # What fails for another reason, and what needs nothing for long, goes on as ever.
        assert (await attributes(greedy, Stat(b"/file"))).st_size == 7
        assert set(await other.list("/")) == {b"file"}
        assert await other.read("/file") == b"content"
        for handle in handles:
            await greedy.close(handle)
        for _ in range(40):
            assert (await greedy.refusal(Open(b"/no", R, NO_ATTRIBUTES))).code == StatusCode.NO_SUCH_FILE
            assert (await greedy.refusal(Open(b"/no/x", W, NO_ATTRIBUTES))).code == StatusCode.NO_SUCH_FILE
            assert (await greedy.refusal(Opendir(b"/file"))).code == StatusCode.NO_SUCH_FILE
            assert await greedy.read("/file") == b"content"
            await greedy.write("/more", b"x")
    await eventually(lambda: set(os.listdir("/proc/self/fd")) <= before)
    assert descriptors._taken == 0


async def test_a_session_that_ends_gives_back_what_it_had(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = budget.Budget(lambda: 20)
    monkeypatch.setattr(directory, "DESCRIPTORS", descriptors)
    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True)) as hand:
        await hand.open("/file")
        await hand.open("/new", W)
        await hand.ask(Opendir(b"/"), Handle)
        assert descriptors._taken == 5
    assert descriptors._taken == 0


def test_half_of_the_descriptors_is_for_sftp() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert budget.half_of_descriptors() == soft // 2


def test_hidden_names_are_like_no_others() -> None:
    assert directory.HIDDEN.startswith(b".")


@pytest.mark.parametrize("offset", [0, 7])
@pytest.mark.parametrize("is_appending", [True, False])
@pytest.mark.parametrize("alias", ["file", "soft", "hard"])
async def test_a_file_is_not_copied_to_its_own_end_for_ever(
    alias: str, is_appending: bool, offset: int, root: Path
) -> None:
    (root / "soft").symlink_to("file")
    (root / "hard").hardlink_to(root / "file")
    flags = OpenFlags.WRITE | (OpenFlags.APPEND if is_appending else 0)
    for length in (0, 2**62):
        (root / "file").write_bytes(b"content")
        async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
            reading, writing = await hand.open("/file", R), await hand.open(f"/{alias}", flags)
            # It is refused, or ends where the file ended.
            details = CopyData(reading, 0, length, writing, offset).encode()
            await hand.reply(await hand.start(Extended("copy-data", details)))
            await hand.close(writing)
        assert (root / "file").stat().st_size <= 14


async def test_the_default_copy_ends_where_the_file_ended(autojump_clock: trio.testing.MockClock) -> None:
    server = MemorySFTPServer({"/file": b"content"})
    async with serving(server) as hand:
        await hand.do(xattr("hardlink@openssh.com", "/file", "/alias"))
        reading, writing = await hand.open("/file", R), await hand.open("/alias", OpenFlags.WRITE | OpenFlags.APPEND)
        await hand.do(Extended("copy-data", CopyData(reading, 0, 0, writing, 0).encode()))
    assert server.read_bytes("/file") == b"contentcontent"


@pytest.mark.parametrize("by", ["write", "copy", "close"])
async def test_an_upload_of_which_something_is_missing_does_not_appear(
    by: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with serving(trio_ssh.LocalSFTPServer(root, atomic_uploads=True)) as hand:
        source = await hand.open("/file", R)
        for path in ("/file", "/new"):
            handle = await hand.open(path, W)
            await hand.do(Write(handle, 0, b"the beginning"))
            with monkeypatch.context() as patch:
                if by == "write":
                    patch.setattr(os, "pwritev", fail)
                    await hand.refusal(Write(handle, 13, b", and the rest"))
                elif by == "copy":
                    patch.setattr(directory, "copy_range", fail)
                    await hand.refusal(Extended("copy-data", CopyData(source, 0, 0, handle, 13).encode()))
                else:
                    patch.setattr(os, "replace", fail)
                    await hand.refusal(Close(handle))
            await hand.refusal(Close(handle))
        assert os.listdir(root) == ["file"]
    assert (root / "file").read_bytes() == b"content"


async def test_what_is_copied_on_the_server_keeps_its_holes(root: Path) -> None:
    size = 64 * 1024 * 1024
    with (root / "sparse").open("wb") as file:
        file.truncate(size)
        for offset in (10_000, 40 * 1024 * 1024):
            file.seek(offset)
            file.write(b"data")
    expected = (root / "sparse").read_bytes()
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        reading = await hand.open("/sparse", R)
        for length in (0, 2**62):
            writing = await hand.open("/copy", W)
            await hand.do(Extended("copy-data", CopyData(reading, 0, length, writing, 0).encode()))
            await hand.close(writing)
            assert (root / "copy").read_bytes() == expected
            assert (root / "copy").stat().st_blocks * 512 < 1024 * 1024


@pytest.mark.parametrize("there", [0, 1_000_000, 3_000_000, 9_000_000])
async def test_a_hole_that_is_copied_over_data_is_zeros(root: Path, there: int) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(4_000_000)
        file.seek(1_999_999)
        file.write(b"data")
    expected = (root / "sparse").read_bytes()
    (root / "target").write_bytes(b"x" * there)
    async with serving(trio_ssh.LocalSFTPServer(root)) as hand:
        reading, writing = await hand.open("/sparse", R), await hand.open("/target", OpenFlags.WRITE)
        for source, target, length in ((0, 1_500_000, 0), (3_000_000, 6_000_000, 500_000)):
            await hand.do(Extended("copy-data", CopyData(reading, source, length, writing, target).encode()))
        await hand.close(writing)
    model = bytearray(b"x" * there)
    for start, data in ((1_500_000, expected), (6_000_000, expected[3_000_000:3_500_000])):
        model.extend(bytes(max(0, start + len(data) - len(model))))
        model[start : start + len(data)] = data
    assert (root / "target").read_bytes() == model
