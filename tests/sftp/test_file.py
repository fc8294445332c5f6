"""Remote files against Python's own: in any order, by halves, one by one, and cancelled."""

from __future__ import annotations

import hashlib
import io
import os
import random
from typing import Final

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trio_ssh
from tests.runtime.helpers import KIB, MIB, cancel_everywhere
from tests.sftp.scripted import FAILURE, Reply, ScriptedServer, pause, using
from trio_ssh.sftp.messages import Attrs, Close, Data, Fstat, Read, Status
from trio_ssh.sftp.protocol import SFTPLimits, StatusCode
from trio_ssh.sftp.session import AnyRequest, WriteParts
from trio_ssh.testing import MemorySFTPServer

BYTES: Final = random.Random(1).randbytes(3 * MIB + 17)
#: Blocks of the least size, so that a few kilobytes are many blocks.
SMALL: Final = 4 * KIB


# -- modes


@pytest.mark.parametrize(
    ("mode", "readable", "writable"),
    [
        ("r", True, False),
        ("rb", True, False),
        ("r+", True, True),
        ("w", False, True),
        ("w+b", True, True),
        ("a", False, True),
        ("ab+", True, True),
        ("x", False, True),
        ("wx", False, True),
        ("x+", True, True),
    ],
)
async def test_a_mode_means_what_it_means_to_open(mode: str, readable: bool, writable: bool) -> None:
    async with using(MemorySFTPServer({} if "x" in mode else {"/f": b"there"})) as sftp:
        async with await sftp.open("/f", mode) as file:
            assert (file.readable(), file.writable(), file.seekable()) == (readable, writable, True)
            assert (file.name, file.mode, file.closed) == ("/f", mode, False)
            if not readable:
                with pytest.raises(trio_ssh.LocalProtocolError, match=r"use 'r\+'"):
                    await file.read()
            if not writable:
                with pytest.raises(trio_ssh.LocalProtocolError, match=r"use 'r\+'"):
                    await file.write(b"x")
                with pytest.raises(trio_ssh.LocalProtocolError, match=r"use 'r\+'"):
                    await file.truncate()
        assert file.closed
        assert "closed" in repr(file)


@pytest.mark.parametrize(("mode", "text"), [("rt", "binary"), ("", "a mode is one of"), ("rw", "a mode"), ("q", "'q'")])
async def test_a_wrong_mode_is_refused_here(mode: str, text: str) -> None:
    server = ScriptedServer({"f": b""})
    async with using(server) as sftp:
        with pytest.raises(ValueError, match=text):
            await sftp.open("f", mode)
    assert not [request for request in server.requests if not hasattr(request, "name")]


async def test_x_refuses_a_name_that_is_taken() -> None:
    async with using(MemorySFTPServer({"/f": b""})) as sftp:
        with pytest.raises(trio_ssh.SFTPFileExists, match="/f") as caught:
            await sftp.open("/f", "x")
        assert isinstance(caught.value, FileExistsError)
        assert caught.value.filename == "/f"


async def test_text_is_refused_with_a_hint() -> None:
    async with using(MemorySFTPServer()) as sftp, await sftp.open("/f", "w") as file:
        with pytest.raises(TypeError, match="encode"):
            await file.write("text")  # type: ignore[arg-type]
        with pytest.raises(OSError, match="descriptor"):
            file.fileno()


async def test_what_was_closed_says_so() -> None:
    async with using(MemorySFTPServer({"/f": b"x"})) as sftp:
        file = await sftp.open("/f", "r+")
        await file.aclose()
        await file.aclose()
        for use in (file.read, file.readline, file.flush, file.stat, file.fsync, file.truncate):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        with pytest.raises(trio.ClosedResourceError):
            await file.write(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await file.__anext__()
        with pytest.raises(trio.ClosedResourceError):
            file.readv([(0, 1)])


# -- reading


@pytest.mark.parametrize("most", [2**31, 5000, 100 * KIB])
@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, 300 * KIB + 3, len(BYTES)])
@pytest.mark.parametrize("way", ["read", "loop", "readinto", "lines", "prefetch"])
async def test_a_file_is_read_whole_however_the_replies_come(size: int, most: int, way: str) -> None:
    server = ScriptedServer({"f": BYTES[:size]}, most=most, order=random.Random(size))
    async with using(server) as sftp, await sftp.open("f") as file:
        assert await whole(file, way) == BYTES[:size]
        assert file.tell() == size
        assert await file.read(1) == b""
    assert not server.handles


async def whole(file: trio_ssh.SFTPFile, way: str) -> bytes:
    if way == "read":
        return await file.read()
    if way == "lines":
        return b"".join([line async for line in file])
    if way == "prefetch":
        await file.prefetch()
    if way == "readinto":
        parts = []
        buffer = bytearray(70_000)
        while got := await file.readinto(buffer):
            parts.append(bytes(buffer[:got]))
        return b"".join(parts)
    found = bytearray()
    while data := await file.read(32 * KIB):
        found += data
    return bytes(found)


class Lying(ScriptedServer):
    """Says that its files have another size."""

    said = 0

    def answer(self, request: AnyRequest) -> Reply:
        if isinstance(request, Fstat):
            return Attrs(trio_ssh.SFTPAttributes(st_size=self.said))
        return super().answer(request)


@pytest.mark.parametrize("said", [0, 1, 2**40, 2**64 - 1])
async def test_a_size_is_a_claim(said: int) -> None:
    server = Lying({"f": BYTES})
    server.said = said
    async with using(server) as sftp, await sftp.open("f") as file:
        assert await file.read() == BYTES


async def test_an_empty_reply_is_the_end_and_no_reason_to_ask_for_ever() -> None:
    class Empty(ScriptedServer):
        def read(self, file: bytearray, offset: int, length: int) -> Reply:
            return Data(b"")

    async with using(Empty({"f": b"x"})) as sftp, await sftp.open("f") as file:
        assert await file.read() == b""


async def test_an_error_in_the_middle_leaves_the_position_where_it_was() -> None:
    class Scratched(ScriptedServer):
        def read(self, file: bytearray, offset: int, length: int) -> Reply:
            return FAILURE if offset + length > 600_000 else super().read(file, offset, length)

    async with using(Scratched({"f": BYTES})) as sftp, await sftp.open("f") as file:
        with pytest.raises(trio_ssh.SFTPError, match="as told") as caught:
            await file.read()
        assert caught.value.filename == "f"
        assert file.tell() == 0
        assert await file.read(1000) == BYTES[:1000]
        await file.seek(500_000)
        assert await file.read(10) == BYTES[500_000:500_010]


async def test_a_file_that_grows_is_seen_to_grow() -> None:
    server = ScriptedServer({"f": b"one\n"})
    async with using(server) as sftp, await sftp.open("f") as file:
        assert await file.readline() == b"one\n"
        assert await file.readline() == b""
        server.files[b"f"] += b"two\n"
        assert await file.readline() == b"two\n"
        assert await file.read(5) == b""
        server.files[b"f"] += b"three"
        assert await file.read() == b"three"


async def test_lines() -> None:
    text = b"one\n\nthree\r\nno end"
    async with using(MemorySFTPServer({"/f": text})) as sftp, await sftp.open("/f") as file:
        assert await file.readline(2) == b"on"
        assert await file.readline() == b"e\n"
        assert file.tell() == 4
        assert await file.readlines() == [b"\n", b"three\r\n", b"no end"]
        await file.seek(0)
        assert await file.readlines(5) == [b"one\n", b"\n"]
        await file.seek(0)
        assert [line async for line in file] == text.splitlines(keepends=True)
        await file.seek(1)
        assert await file.readline() == b"ne\n"
        assert await file.read(3) == b"\nth"
        assert await file.readline() == b"ree\r\n"


async def test_lines_that_lie_in_several_blocks_and_never_end() -> None:
    line = b"x" * (17 * MIB)
    async with using(ScriptedServer({"f": line + b"\nend"})) as sftp, await sftp.open("f") as file:
        assert len(await file.readline()) == 16 * MIB
        assert await file.readline() == b"x" * MIB + b"\n"
        assert await file.readline() == b"end"


async def test_reading_here_and_there_asks_for_no_more_than_that() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp, await sftp.open("f") as file:
        places = random.Random(2).sample(range(len(BYTES) - 100), 50)
        for place in places:
            await file.seek(place)
            assert await file.read(100) == BYTES[place : place + 100]
    assert sum(read.length for read in server.asked(Read)) <= 50 * 8 * KIB


async def test_unbuffered_reading_asks_for_what_is_wanted() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp, await sftp.open("f", bufsize=0) as file:
        assert await file.read(10) == BYTES[:10]
        await file.seek(100)
        assert await file.read(10) == BYTES[100:110]
    assert [read.length for read in server.asked(Read)] == [10, 10]


async def test_reading_in_order_goes_ahead_further_and_further() -> None:
    server = ScriptedServer({"f": bytes(8 * MIB)})
    async with using(server) as sftp, await sftp.open("f") as file:
        for _ in range(8 * 32):
            assert len(await file.read(32 * KIB)) == 32 * KIB
    reads = server.asked(Read)
    assert reads[0].length == 32 * KIB
    assert max(read.length for read in reads) == 255 * KIB
    assert len(reads) < 50


class Waits(trio.abc.Instrument):
    """Counts the steps of one task."""

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task is self.task


async def test_reading_in_order_waits_once_for_many_blocks() -> None:
    reads = 64 * 32
    async with using(ScriptedServer({"f": bytes(64 * MIB)})) as sftp, await sftp.open("f") as file:
        waits = Waits()
        trio.lowlevel.add_instrument(waits)
        for _ in range(reads):
            assert len(await file.read(32 * KIB)) == 32 * KIB
        trio.lowlevel.remove_instrument(waits)
    # Each read lets others have their turn; beyond that it waits for one reply in so many.
    assert waits.steps - reads < reads / 8


async def test_seeking_a_little_ahead_asks_for_nothing_again() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp, await sftp.open("f") as file:
        assert await file.read(10) == BYTES[:10]
        await file.seek(100)
        assert await file.read(10) == BYTES[100:110]
        assert await file.seek(-5, os.SEEK_CUR) == 105
        assert await file.seek(0, os.SEEK_END) == len(BYTES)
        assert await file.read() == b""
        with pytest.raises(ValueError, match="a position"):
            await file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            await file.seek(0, 7)
    assert len(server.asked(Read)) == 2


async def test_pieces_from_here_and_there() -> None:
    wanted = [(0, 10), (len(BYTES) - 3, 10), (5, 0), (100, 2 * MIB), (len(BYTES) + 5, 7), (3, 3)]
    for most in (2**31, 7000):
        server = ScriptedServer({"f": BYTES}, most=most, order=random.Random(3))
        async with using(server) as sftp, await sftp.open("f") as file:
            found = [data async for data in file.readv(wanted)]
            assert found == [BYTES[offset : offset + size] for offset, size in wanted]
            assert file.tell() == 0


async def test_pieces_of_a_file_that_was_closed() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp:
        file = await sftp.open("f")
        server.gate = trio.Event()
        scatter = file.readv([(0, 10)] * 3)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await scatter.__anext__()

            nursery.start_soon(read)
            await pause()
            with pytest.raises(trio.BusyResourceError):
                await scatter.__anext__()
            nursery.start_soon(file.aclose)
            await pause()
            server.gate.set()
        assert sftp._link.used_bytes == 0


# -- writing


@pytest.mark.parametrize("step", [1000, 32 * KIB, 255 * KIB, 255 * KIB + 1, len(BYTES)])
async def test_what_is_written_arrives(step: int) -> None:
    server = ScriptedServer(order=random.Random(step))
    async with using(server) as sftp, await sftp.open("f", "w") as file:
        buffer = bytearray()
        for start in range(0, len(BYTES), step):
            buffer[:] = BYTES[start : start + step]
            assert await file.write(buffer) == len(buffer)
            buffer[:] = bytes(len(buffer))  # ours again
        assert file.tell() == len(BYTES)
        await file.flush()
        assert server.files[b"f"] == BYTES
        assert sftp._link.used_bytes == 0


async def test_small_writes_are_gathered() -> None:
    server = ScriptedServer()
    async with using(server) as sftp, await sftp.open("f", "w") as file:
        for _ in range(10_000):
            await file.write(b"0123456789")
        await pause()
        assert not server.asked(WriteParts)
        await file.flush()
        assert len(server.asked(WriteParts)) == 1
        await file.writelines([b"one", b"two"])
        assert (await file.stat()).st_size == 100_006
        await file.write(memoryview(b"abcd").cast("H"))
        assert await file.seek(0, os.SEEK_END) == 100_010


@pytest.mark.parametrize(("bufsize", "expected"), [(0, [1, 2, 3]), (1, [3, 3]), (4, [4, 2]), (-1, [6])])
async def test_the_size_of_the_buffer(bufsize: int, expected: list[int]) -> None:
    server = ScriptedServer()
    async with using(server) as sftp, await sftp.open("f", "w", bufsize) as file:
        await file.write(b"1")
        await file.write(b"2\n")
        await file.write(b"345")
    assert [write.size for write in server.asked(WriteParts)] == expected
    assert server.files[b"f"] == b"12\n345"


class Full(ScriptedServer):
    """Has no room behind some offset."""

    room = 0

    def write(self, file: bytearray, offset: int, data: bytes) -> Reply:
        if offset + len(data) > self.room:
            return Status(StatusCode.FAILURE, "no room", "")
        return super().write(file, offset, data)


@pytest.mark.parametrize("where", ["write", "flush", "aclose", "fsync", "truncate", "read", "stat"])
async def test_an_error_of_an_earlier_write_is_told_once_and_not_lost(where: str) -> None:
    async with using(Full({"f": b""})) as sftp:
        file = await sftp.open("f", "r+")
        await file.write(bytes(300 * KIB))  # a full block, which is sent, and some that is gathered
        await pause()
        use = getattr(file, where)
        with pytest.raises(trio_ssh.SFTPError, match="no room") as caught:
            await (use(b"x") if where == "write" else use())
        assert caught.value.filename == "f"
        if where != "aclose":
            with pytest.raises(trio_ssh.SFTPError, match="no room"):
                await file.write(b"x")
            await file.aclose()
        assert file.closed
        assert sftp._link.used_bytes == 0


async def test_a_block_keeps_the_error_that_came_first() -> None:
    async with using(Full({"f": b""})) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match="no room") as caught:
            async with await sftp.open("f", "w") as file:
                await file.write(bytes(300 * KIB))
                await file.flush()
        assert caught.value.__context__ is None


async def test_an_error_of_closing_is_told() -> None:
    class Quota(ScriptedServer):
        def answer(self, request: AnyRequest) -> Reply:
            return FAILURE if isinstance(request, Close) else super().answer(request)

    async with using(Quota({"f": b""})) as sftp:
        with pytest.raises(trio_ssh.SFTPError, match="as told"):
            async with await sftp.open("f"):
                pass


async def test_closing_a_file_costs_one_round_trip() -> None:
    server = ScriptedServer()
    async with using(server) as sftp:
        file = await sftp.open("f", "w")
        await file.write(b"x")
        before = len(server.requests)
        server.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.aclose)
            await pause()
            server.gate.set()
        assert [type(request) for request in server.requests[before:]] == [WriteParts, Close]


async def test_appending_is_at_the_end_wherever_the_position_is() -> None:
    storage = MemorySFTPServer({"/f": b"one"})
    async with using(storage) as sftp, await sftp.open("/f", "a+") as file:
        assert file.tell() == 3
        await file.write(b"two")
        await file.seek(0)
        assert await file.read(3) == b"one"
        await file.write(b"three")
        assert file.tell() == 11
        await file.seek(1)
        assert await file.read() == b"netwothree"
        assert await file.truncate(2) == 2
        await file.write(b"x")
    assert storage.read_bytes("/f") == b"onx"


async def test_reading_what_was_written_and_writing_what_was_read() -> None:
    storage = MemorySFTPServer({"/f": bytes(100)})
    async with using(storage) as sftp, await sftp.open("/f", "r+") as file:
        assert await file.read(10) == bytes(10)
        await file.write(b"a")
        assert await file.read(2) == bytes(2)
        await file.seek(9)
        assert await file.read(3) == b"\0a\0"
        await file.seek(99)
        await file.write(b"bc")
        await file.seek(98)
        assert await file.read() == b"\0bc"
        assert [data async for data in file.readv([(98, 9)])] == [b"\0bc"]
        await file.seek(50)
        assert await file.truncate() == 50
        assert await file.read() == b""
        assert file.tell() == 50


async def test_attributes_of_an_open_file() -> None:
    storage = MemorySFTPServer({"/f": b"x"})
    async with using(storage) as sftp, await sftp.open("/f", "r+") as file:
        await file.chmod(0o600)
        await file.chown(12, 13)
        await file.utime((1, 2))
        found = await file.stat()
        assert (found.st_mode or 0) & 0o777 == 0o600
        assert (found.st_uid, found.st_gid, found.st_atime, found.st_mtime) == (12, 13, 1, 2)
        await file.utime()
        assert ((await file.stat()).st_mtime or 0) > 2
        await file.setstat(trio_ssh.SFTPAttributes(st_size=3))
        assert await file.read() == b"x\0\0"
        await file.fsync()
        assert (await file.statvfs()).f_bsize > 0
        for wrong in (lambda: file.chmod(-1), lambda: file.chown(2**32, 0), lambda: file.utime((-1, 0))):
            with pytest.raises(ValueError, match="between 0 and"):
                await wrong()


async def test_the_server_hashes() -> None:
    async with using(MemorySFTPServer({"/f": BYTES})) as sftp, await sftp.open("/f") as file:
        assert await file.check("sha256") == hashlib.sha256(BYTES).digest()
        assert await file.check("md5", 10, 20) == hashlib.md5(BYTES[10:30]).digest()
        blocks = await sftp.check("/f", "sha1", 0, 1024, 512)
        assert blocks == hashlib.sha1(BYTES[:512]).digest() + hashlib.sha1(BYTES[512:1024]).digest()
    async with using(ScriptedServer({"f": b""})) as sftp:
        with pytest.raises(trio_ssh.SFTPUnsupported):
            await sftp.check("f", "md5")


# -- against Python's own

Step = tuple[str, int]
STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(
            ["read", "readall", "readline", "readinto", "write", "seek", "end", "truncate", "flush", "line"]
        ),
        st.integers(0, 12_000),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, seed=st.integers(0, 2**16), bufsize=st.sampled_from([-1, 0, 1, 100, 5000]))
def test_any_steps_do_what_they_do_to_a_local_file(steps: list[Step], seed: int, bufsize: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        start = b"".join(chance.randbytes(chance.randrange(200)) + b"\n" for _ in range(200))
        model = io.BytesIO(start)
        server = ScriptedServer({"f": start}, most=chance.choice([50, 5000, 2**31]), block_bytes=SMALL, order=chance)
        limits = SFTPLimits(file_bytes=16 * KIB, session_bytes=32 * KIB)
        async with using(server, limits=limits) as sftp:
            async with await sftp.open("f", "r+", bufsize) as file:
                for name, number in steps:
                    await step(file, model, name, number)
                    assert file.tell() == model.tell()
            assert bytes(server.files[b"f"]) == model.getvalue()
            assert sftp._link.used_bytes == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def step(file: trio_ssh.SFTPFile, model: io.BytesIO, name: str, number: int) -> None:
    match name:
        case "read":
            assert await file.read(number) == model.read(number)
        case "readall":
            assert await file.read() == model.read()
        case "readline":
            assert await file.readline(number) == model.readline(number)
        case "line":
            assert await anext(file, b"") == model.readline()
        case "readinto":
            ours, theirs = bytearray(number), bytearray(number)
            assert await file.readinto(ours) == model.readinto(theirs)
            assert ours == theirs
        case "write":
            data = (b"%d\n" % number) * (number // 10)
            assert await file.write(data) == model.write(data)
        case "seek":
            assert await file.seek(2 * number) == model.seek(2 * number)
        case "end":
            assert await file.seek(0, os.SEEK_END) == model.seek(0, os.SEEK_END)
        case "truncate":
            size = len(model.getvalue())
            if number > size:  # BytesIO doesn't fill up
                return
            assert await file.truncate(number) == model.truncate(number)
        case "flush":
            await file.flush()


# -- ceilings


@pytest.mark.parametrize("way", ["read", "loop", "lines", "prefetch", "readv"])
async def test_what_is_read_ahead_stays_below_the_file_s_ceiling(way: str) -> None:
    limits = SFTPLimits(file_bytes=512 * KIB, session_bytes=4 * MIB)
    server = ScriptedServer({"f": BYTES})
    async with using(server, limits=limits) as sftp, await sftp.open("f") as file:
        server.gate = trio.Event()
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                if way == "readv":
                    found = b"".join([data async for data in file.readv([(0, MIB), (MIB, MIB), (2 * MIB, 2 * MIB)])])
                else:
                    found = await whole(file, way)
                assert found == BYTES
                nursery.cancel_scope.cancel()

            async def look() -> None:
                while True:
                    assert sftp._link.used_bytes <= 512 * KIB
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(read)
            await pause()
            server.gate.set()
            nursery.start_soon(look)
        assert server.most_unanswered_bytes <= 512 * KIB
    assert sftp._link.used_bytes == 0


async def test_what_is_written_behind_stays_below_the_ceilings() -> None:
    limits = SFTPLimits(file_bytes=512 * KIB, session_bytes=700 * KIB)
    server = ScriptedServer()
    async with using(server, limits=limits) as sftp:
        files = [await sftp.open(name, "w") for name in "abc"]
        server.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(file.write, BYTES)
            await pause()
            # The session's ceiling, and a first block for each file in any case.
            assert sftp._link.used_bytes <= 700 * KIB + 2 * 255 * KIB
            server.gate.set()
        for file in files:
            await file.aclose()
        assert sftp._link.used_bytes == 0
        assert all(data == BYTES for data in server.files.values())


async def test_a_reader_who_never_comes_back_starves_nobody() -> None:
    limits = SFTPLimits(file_bytes=512 * KIB, session_bytes=512 * KIB)
    async with using(ScriptedServer({"f": BYTES}), limits=limits) as sftp:
        idle = await sftp.open("f")
        await idle.prefetch()
        await pause()
        assert sftp._link.used_bytes >= 256 * KIB
        async with await sftp.open("f") as file:
            assert await file.read() == BYTES
        await idle.aclose()
        assert sftp._link.used_bytes == 0


# -- tasks


async def test_one_task_at_a_time_uses_a_file() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp, await sftp.open("f", "r+") as file:
        server.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.read)
            await pause()
            for use in (file.read, file.readline, file.flush, file.stat, file.__anext__):
                with pytest.raises(trio.BusyResourceError, match="another task"):
                    await use()
            server.gate.set()


async def test_closing_wakes_whoever_reads() -> None:
    server = ScriptedServer({"f": BYTES})
    async with using(server) as sftp:
        file = await sftp.open("f")
        server.gate = trio.Event()
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await file.read()
                server.gate.set()

            nursery.start_soon(read)
            await pause()
            await file.aclose()


async def test_a_read_that_is_cancelled_anywhere_loses_nothing() -> None:
    server = ScriptedServer({"f": BYTES[: 600 * KIB]}, block_bytes=32 * KIB)
    limits = SFTPLimits(file_bytes=64 * KIB)
    async with using(server, limits=limits) as sftp, await sftp.open("f") as file:

        async def scenario() -> None:
            await file.seek(5)
            assert await file.read() == BYTES[5 : 600 * KIB]

        async def check() -> None:
            if file.tell() == 5:
                assert await file.read(100) == BYTES[5:105]
                await file.seek(0)

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 10
    assert not server.handles


async def test_a_line_whose_reading_is_cancelled_comes_whole() -> None:
    line = b"x" * (200 * KIB) + b"\n"
    server = ScriptedServer({"f": line * 3}, block_bytes=32 * KIB)
    async with using(server, limits=SFTPLimits(file_bytes=64 * KIB)) as sftp, await sftp.open("f") as file:
        lines: list[bytes] = []
        cancelled = 0
        for steps in (1, 3, 5, 9) * 3:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel(scope: trio.CancelScope = scope, steps: int = steps) -> None:
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    lines.append(await file.readline())  # it may be through before: trio decides who runs first
            cancelled += scope.cancelled_caught
        assert cancelled >= 6
        assert b"".join(lines) + await file.read() == line * 3
        assert all(read == line for read in lines if read)


async def test_a_write_that_is_cancelled_tells_by_the_position_what_was_taken() -> None:
    limits = SFTPLimits(file_bytes=64 * KIB, session_bytes=64 * KIB)
    server = ScriptedServer(block_bytes=32 * KIB)
    async with using(server, limits=limits) as sftp:

        async def scenario() -> None:
            async with await sftp.open("f", "w") as file:
                try:
                    await file.write(BYTES[: 200 * KIB])
                finally:
                    with trio.CancelScope(shield=True):
                        taken = file.tell()
                        await file.flush()
                        assert bytes(server.files[b"f"]) == BYTES[:taken]

        async def check() -> None:
            await pause()
            assert not server.handles
            assert sftp._link.used_bytes == 0

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 10


async def test_closing_closes_wherever_it_is_cancelled() -> None:
    server = ScriptedServer(block_bytes=32 * KIB)
    async with using(server) as sftp:

        async def scenario() -> None:
            async with await sftp.open("f", "w") as file:
                await file.write(b"gathered")

        async def check() -> None:
            await pause()
            assert not server.handles
            assert sftp._link.session.pending == 0

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 4
        with trio.CancelScope() as scope:
            file = await sftp.open("f", "w")
            await file.write(b"sent all the same")
            scope.cancel()
            await file.aclose()
        await pause()
        assert server.files[b"f"] == b"sent all the same"
        assert not server.handles


async def test_a_session_that_ends_is_heard_of_by_every_file() -> None:
    async with using(ScriptedServer({"f": BYTES})) as sftp:
        reader, writer, idle = [await sftp.open("f", mode) for mode in ("r", "r+", "r")]
        await reader.read(10)
        await writer.write(b"not sent")
        await sftp.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await reader.read()
        with pytest.raises(trio.ClosedResourceError):
            await writer.flush()
        with pytest.raises(trio.ClosedResourceError):
            await writer.aclose()
        await reader.aclose()
        await idle.aclose()


async def test_every_call_is_a_checkpoint() -> None:
    async with using(MemorySFTPServer({"/f": b"one\ntwo\nthree\n"})) as sftp, await sftp.open("/f", "r+") as file:
        await file.prefetch()
        await pause()
        calls = (
            lambda: file.read(1),
            lambda: file.read(0),
            file.readline,
            lambda: file.readinto(bytearray(1)),
            lambda: file.seek(1),
            lambda: file.write(b""),
            lambda: file.write(b"x"),
            lambda: file.writelines([]),
            file.flush,
            file.prefetch,
            file.stat,
            file.fsync,
            file.truncate,
            lambda: anext(file.readv([(0, 0)])),
            file.aclose,
            file.aclose,
        )
        for call in calls:
            with trio.testing.assert_checkpoints():
                await call()


async def test_pieces_that_were_read_are_not_remembered() -> None:
    async with using(ScriptedServer({"f": bytes(100)})) as sftp, await sftp.open("f") as file:
        for _ in range(100):
            assert [piece async for piece in file.readv([(0, 10), (95, 10)])] == [bytes(10), bytes(5)]
        assert len(file._scattered) <= 2
        assert sftp._link.used_bytes == 0
