"""An interface of one's own: what is overridden is served and advertised, and nothing else."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from typing import ClassVar

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from tests.sftp.by_hand import NO_ATTRIBUTES, R, W, serving
from trio_ssh.sftp.dispatch import run_at_once
from trio_ssh.sftp.interface import EXTENSION_METHODS, HASHES, Listing, offered_extensions, os_flags
from trio_ssh.sftp.messages import (
    Attrs,
    CheckFile,
    CheckFileReply,
    CopyData,
    Extended,
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
    Symlink,
    TwoPaths,
    UsersGroups,
    Write,
)
from trio_ssh.sftp.protocol import OpenFlags, StatusCode

ALWAYS = {"limits@openssh.com", "copy-data", "check-file", "check-file-handle", "check-file-name"}


class Blob(trio_ssh.SFTPHandle):
    """A file that is a value."""

    def __init__(self, data: bytes = b"", flags: int = os.O_RDONLY) -> None:
        super().__init__(flags)
        self.data = bytearray(data)
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    async def write(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data

    async def stat(self) -> trio_ssh.SFTPAttributes:
        return trio_ssh.SFTPAttributes(st_size=len(self.data))


class Blobs(trio_ssh.SFTPServerInterface):
    """Every name is a file, whose content is the name."""

    def __init__(self, process: trio_ssh.ServerProcess) -> None:
        super().__init__(process)
        self.opened: list[Blob] = []
        LAST.append(self)

    async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> Blob:
        await trio.lowlevel.checkpoint()
        self.opened.append(Blob(path.encode("utf-8", "surrogateescape"), flags))
        return self.opened[-1]


LAST: list[Blobs] = []


@pytest.mark.parametrize(
    "packet",
    [
        Open(b"x", R, NO_ATTRIBUTES),
        Lstat(b"x"),
        Stat(b"x"),
        Setstat(b"x", NO_ATTRIBUTES),
        Opendir(b"x"),
        Remove(b"x"),
        Mkdir(b"x", NO_ATTRIBUTES),
        Rmdir(b"x"),
        Rename(b"x", b"y"),
        Readlink(b"x"),
        Symlink(b"x", b"y"),
        Extended("posix-rename@openssh.com", TwoPaths(b"x", b"y").encode()),
        Extended("hardlink@openssh.com", TwoPaths(b"x", b"y").encode()),
        Extended("statvfs@openssh.com", OnePath(b"x").encode()),
        Extended("lsetstat@openssh.com", Lsetstat(b"x", NO_ATTRIBUTES).encode()),
        Extended("expand-path@openssh.com", OnePath(b"x").encode()),
        Extended("home-directory", OnePath(b"x").encode()),
        Extended("users-groups-by-id@openssh.com", UsersGroups(b"", b"").encode()),
        Extended("fsync@openssh.com", OneHandle(b"x").encode()),
        Extended("nobody@example.com", b"has heard of it"),
    ],
    ids=lambda packet: packet.name if isinstance(packet, Extended) else type(packet).__name__,
)
async def test_what_is_not_overridden_is_refused(packet: Packet) -> None:
    async with serving(trio_ssh.SFTPServer(trio_ssh.SFTPServerInterface)) as hand:
        assert (await hand.refusal(packet)).code == StatusCode.OP_UNSUPPORTED


async def test_what_is_not_overridden_is_not_advertised() -> None:
    async with serving(trio_ssh.SFTPServer(trio_ssh.SFTPServerInterface)) as hand:
        assert {name.decode() for name in hand.extensions} == ALWAYS


@pytest.mark.parametrize("name", sorted(set(EXTENSION_METHODS) - ALWAYS))
def test_what_is_overridden_is_advertised(name: str) -> None:
    async def method(self: object) -> None: ...

    cls = type("Some", (trio_ssh.SFTPServerInterface,), {EXTENSION_METHODS[name]: method})
    assert name.encode() in offered_extensions(cls(None))


async def test_paths_are_text_and_made_absolute_by_default() -> None:
    async with serving(trio_ssh.SFTPServer(trio_ssh.SFTPServerInterface)) as hand:
        for path, expected in {b"": b"/", b".": b"/", b"a/../b": b"/b", b"//x": b"/x", b"../\xff": b"/\xff"}.items():
            [name] = (await hand.ask(Realpath(path), Name)).names
            assert name.filename == expected


async def test_files_are_read_and_written_by_the_simplest_handle() -> None:
    async with serving(trio_ssh.SFTPServer(Blobs)) as hand:
        assert await hand.read(b"caf\xe9") == b"caf\xe9"
        handle = await hand.open("x", W)
        await hand.do(Write(handle, 1, b"y" * 100_000))
        assert LAST[-1].opened[-1].data == b"x" + b"y" * 100_000
        assert LAST[-1].opened[-1].flags & os.O_TRUNC
        assert (await hand.refusal(Fsetstat(handle, NO_ATTRIBUTES))).code == StatusCode.OP_UNSUPPORTED
        assert (await hand.ask(Fstat(handle), Attrs)).attributes.st_size == 100_001
        await hand.close(handle)
        assert LAST[-1].opened[-1].is_closed


class Wrong(Blobs):
    """Makes an author's mistakes."""

    async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
        if path == "bug":
            raise KeyError("a bug in the author's code")
        if path == "negative":
            return trio_ssh.SFTPAttributes(st_size=-1)
        return trio_ssh.SFTPAttributes(st_size=7)

    async def readlink(self, path: str) -> str:
        return "x" * 300_000


async def test_an_author_s_mistake_fails_one_request_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(trio_ssh.SFTPServer(Wrong)) as hand:
        for path in (b"bug", b"negative"):
            refused = await hand.refusal(Stat(path))
            assert (refused.code, refused.text) == (StatusCode.FAILURE, "Failure")
        assert (await hand.ask(Stat(b"x"), Attrs)).attributes.st_size == 7
        assert (await hand.refusal(Readlink(b"x"))).code == StatusCode.FAILURE
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in failures] == ["a request failed: Stat"] * 2
    assert "a bug in the author's code" in caplog.text


async def test_a_read_that_returns_too_much_fails(caplog: pytest.LogCaptureFixture) -> None:
    class Generous(Blob):
        async def read(self, offset: int, length: int) -> bytes:
            return bytes(length + 1)

    class Files(Blobs):
        async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> Blob:
            return Generous()

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        handle = await hand.open("x")
        assert (await hand.refusal(Read(handle, 0, 10))).code == StatusCode.FAILURE
    assert "a request failed: Read" in caplog.text


async def test_extensions_of_one_s_own_are_advertised_and_served() -> None:
    async def shout(details: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if not details:
            raise PermissionError("say something")
        return details.upper()

    class Files(trio_ssh.SFTPServerInterface):
        extensions: ClassVar = {"shout@example.com": shout}

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        assert hand.extensions[b"shout@example.com"] == b"1"
        assert await hand.extended("shout@example.com", b"hello") == b"HELLO"
        refused = await hand.refusal(Extended("shout@example.com", b""))
        assert (refused.code, refused.text) == (StatusCode.PERMISSION_DENIED, "say something")


class Entries:
    """A listing that waits, as an async generator does."""

    def __init__(self, events: list[str]) -> None:
        self._names = iter(range(3000))
        self._events = events

    def __aiter__(self) -> Entries:
        return self

    async def __anext__(self) -> trio_ssh.SFTPAttributes:
        await trio.lowlevel.checkpoint()
        number = next(self._names, None)
        if number is None:
            raise StopAsyncIteration
        return trio_ssh.SFTPAttributes(filename=f"f{number}", st_mode=0o100644, st_size=number)

    async def aclose(self) -> None:
        self._events.append("closed")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_listing_may_come_as_it_is_asked_for_and_is_closed(is_async: bool) -> None:
    events: list[str] = []

    class Files(trio_ssh.SFTPServerInterface):
        async def list_folder(self, path: str) -> Listing:
            if is_async:
                return Entries(events)
            return [trio_ssh.SFTPAttributes(filename=f"f{number}") for number in range(3000)]

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        assert list(await hand.list("/")) == [b"f%d" % number for number in range(3000)]
        handle = (await hand.ask(Opendir(b"/"), Handle)).handle
        names = (await hand.ask(Readdir(handle), Name)).names
        assert len(names) == 1024
        if is_async:
            assert names[5].longname == b"-rw-r--r--   1 0        0               5 Jan  1  1970 f5"
        await hand.close(handle)
    assert events == (["closed"] * 2 if is_async else [])


async def test_files_of_the_wrong_kind_of_handle_are_refused() -> None:
    class Files(Blobs):
        async def list_folder(self, path: str) -> list[trio_ssh.SFTPAttributes]:
            return []

        async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
            return trio_ssh.SFTPAttributes(st_uid=1, st_gid=2)

        async def chattr(self, path: str, attr: trio_ssh.SFTPAttributes) -> None:
            assert (path, attr.st_mode) == ("d", 0o700)

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        folder = (await hand.ask(Opendir(b"d"), Handle)).handle
        file = await hand.open("x")
        for packet in (Read(folder, 0, 1), Write(folder, 0, b"x"), Readdir(file), Read(b"nonsense", 0, 1)):
            assert (await hand.refusal(packet)).code == StatusCode.FAILURE
        assert (await hand.ask(Fstat(folder), Attrs)).attributes.st_gid == 2
        await hand.do(Fsetstat(folder, trio_ssh.SFTPAttributes(st_mode=0o700)))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (OpenFlags.READ, os.O_RDONLY),
        (OpenFlags.WRITE | OpenFlags.APPEND, os.O_WRONLY | os.O_APPEND),
        (OpenFlags.READ | OpenFlags.WRITE, os.O_RDWR),
        (W, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (W | OpenFlags.EXCLUSIVE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_EXCL),
        (OpenFlags.READ | 0x40, os.O_RDONLY),
    ],
)
def test_flags_become_the_system_s(theirs: int, ours: int) -> None:
    assert os_flags(theirs) == ours


def test_a_file_is_opened_for_something() -> None:
    with pytest.raises(OSError, match="to be read or to be written"):
        os_flags(OpenFlags.CREATE)


# -- check-file and copy-data, as they are by default


def digests(data: bytes, hash_name: str, offset: int, length: int, block_size: int) -> list[bytes]:
    part = data[offset : offset + length] if length else data[offset:]
    step = block_size or len(part) or 1
    blocks = [part[start : start + step] for start in range(0, len(part), step)] or [b""]
    return [hashlib.new(hash_name, block).digest() for block in blocks]


@given(
    st.binary(max_size=40),
    st.sampled_from(HASHES),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 20),
)
def test_digests_are_those_of_the_blocks(data: bytes, hash_name: str, offset: int, length: int, block: int) -> None:
    interface = trio_ssh.SFTPServerInterface(None)  # type: ignore[arg-type]
    found: Sequence[bytes] = run_at_once(interface.check_file(Blob(data), hash_name, offset, length, block))
    assert list(found) == digests(data, hash_name, offset, length, block)


@given(st.binary(max_size=40), st.integers(0, 50), st.integers(0, 50), st.integers(0, 20))
def test_what_is_copied_is_the_part_that_was_named(data: bytes, start: int, length: int, target_start: int) -> None:
    interface = trio_ssh.SFTPServerInterface(None)  # type: ignore[arg-type]
    target = Blob(bytes(target_start))
    run_at_once(interface.copy_data(Blob(data), start, length, target, target_start))
    assert target.data == bytes(target_start) + (data[start : start + length] if length else data[start:])


@pytest.mark.parametrize("name", ["check-file", "check-file-handle", "check-file-name"])
async def test_check_file_answers_as_paramiko_expects(name: str) -> None:
    async with serving(trio_ssh.SFTPServer(Blobs)) as hand:
        handle = b"some text" if name == "check-file-name" else await hand.open("some text")
        reply = await hand.extended(name, CheckFile(handle, "crc32,sha256,md5", 5, 0, 0).encode())
        expected = CheckFileReply("check-file", "sha256", hashlib.sha256(b"text").digest())
        assert CheckFileReply.decode(reply) == expected
        assert LAST[-1].opened[-1].is_closed is (name == "check-file-name")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (("crc32", 0, 0, 0), StatusCode.OP_UNSUPPORTED),
        (("md5", 0, 0, 255), StatusCode.FAILURE),
        (("md5", 0, 2**50, 256), StatusCode.FAILURE),
        (("md5", 0, 2**64 - 1, 256), StatusCode.FAILURE),
    ],
)
async def test_check_file_refuses_what_would_cost_too_much(
    request_: tuple[str, int, int, int], code: StatusCode
) -> None:
    async with serving(trio_ssh.SFTPServer(Blobs)) as hand:
        handle = await hand.open("x")
        assert (await hand.refusal(Extended("check-file", CheckFile(handle, *request_).encode()))).code == code


async def test_a_file_is_not_copied_onto_what_is_read_of_it() -> None:
    async with serving(trio_ssh.SFTPServer(Blobs)) as hand:
        handle = await hand.open("abcdef", OpenFlags.READ | OpenFlags.WRITE)
        for offset, length, target in ((0, 0, 0), (0, 0, 5), (2, 3, 4)):
            details = CopyData(handle, offset, length, handle, target).encode()
            assert (await hand.refusal(Extended("copy-data", details))).code == StatusCode.FAILURE
        await hand.do(Extended("copy-data", CopyData(handle, 3, 3, handle, 0).encode()))
        assert LAST[-1].opened[-1].data == b"defdef"


def test_paramiko_s_names_are_there() -> None:
    methods = "session_started session_ended open list_folder stat lstat remove rename posix_rename mkdir rmdir chattr"
    methods += " canonicalize readlink symlink"
    assert [name for name in methods.split() if not hasattr(trio_ssh.SFTPServerInterface, name)] == []
    for name in ("close", "read", "write", "stat", "chattr"):
        assert hasattr(trio_ssh.SFTPHandle, name)
