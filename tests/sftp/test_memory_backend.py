"""`MemorySFTPServer` fails, waits and shows its files as told; what it does besides is in test_filesystem.py."""

from __future__ import annotations

import errno
import os

import pytest
import trio
import trio.testing

from tests.sftp.by_hand import NO_ATTRIBUTES, R, W, serving
from trio_ssh.sftp.messages import Attrs, Close, Data, Open, Read, Rename, Stat, Symlink, Write
from trio_ssh.sftp.protocol import StatusCode
from trio_ssh.testing import MemorySFTPServer

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_test_sees_what_a_client_has_written() -> None:
    storage = MemorySFTPServer({"/a/b/c": b"made", "d": b"relative"})
    async with serving(storage) as hand:
        await hand.write("/a/new", b"by the client")
        await hand.do(Symlink(b"new", b"/a/soft"))
        storage.write_bytes("/later", b"by the test")
        assert await hand.read("/later") == b"by the test"
        assert await hand.read("d") == b"relative"
    assert storage.files == {"/a/b/c": b"made", "/d": b"relative", "/a/new": b"by the client", "/later": b"by the test"}
    assert storage.read_bytes("/a/soft") == b"by the client"
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("/missing")


async def test_a_path_fails_as_told_however_it_is_named() -> None:
    storage = MemorySFTPServer({"/f": b"data", "/g": b"data"})
    storage.fail_on("/f", PermissionError(errno.EACCES, "the test says no"))
    async with serving(storage) as hand:
        for path in (b"/f", b"f", b"//x/../f"):
            refused = await hand.refusal(Stat(path))
            assert (refused.code, refused.text) == (StatusCode.PERMISSION_DENIED, "the test says no")
        assert isinstance(await hand.ask(Stat(b"/g"), Attrs), Attrs)
        storage.clear_faults()
        assert isinstance(await hand.ask(Stat(b"/f"), Attrs), Attrs)


async def test_one_operation_fails_and_so_often() -> None:
    storage = MemorySFTPServer({"/f": b"data"})
    storage.fail_on("/f", FULL, operation="write", times=2)
    storage.fail_on("/f", OSError(errno.EIO, "lost"), operation="close")
    async with serving(storage) as hand:
        handle = await hand.open("/f", W)
        for _ in range(2):
            assert (await hand.refusal(Write(handle, 0, b"x"))).text == FULL.strerror
        await hand.do(Write(handle, 0, b"x"))
        assert (await hand.refusal(Close(handle))).text == "lost"
    assert storage.files == {"/f": b"x"}
    assert storage.open_handles == 0


async def test_a_path_takes_as_long_as_told(autojump_clock: trio.testing.MockClock) -> None:
    storage = MemorySFTPServer({"/slow": b"data", "/quick": b"data"})
    storage.delay_on("/slow", 20, operation="read", times=1)
    async with serving(storage) as hand:
        slow, quick = await hand.open("/slow"), await hand.open("/quick")
        number = await hand.start(Read(slow, 0, 4))
        await hand.ask(Read(quick, 0, 4), Data)
        assert trio.current_time() < 1
        assert await hand.reply(number) == Data(b"data")
        assert trio.current_time() == pytest.approx(20, abs=0.1)
        await hand.ask(Read(slow, 0, 4), Data)
        assert trio.current_time() == pytest.approx(20, abs=0.1)


async def test_a_file_that_was_removed_lives_on_while_it_is_open() -> None:
    storage = MemorySFTPServer({"/f": b"data", "/g": b"other"})
    async with serving(storage) as hand:
        handle = await hand.open("/f")
        await hand.do(Rename(b"/f", b"/h"))
        assert (await hand.ask(Read(handle, 0, 10), Data)).data == b"data"
        assert (await hand.refusal(Open(b"/f", R, NO_ATTRIBUTES))).code == StatusCode.NO_SUCH_FILE
