"""SFTP servers that lie, flood, or say nothing: the session ends, or the call; the connection and its others go on."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB, Handler, OpenDoor
from tests.sftp.by_hand import door
from tests.sftp.scripted import (
    OK,
    SILENCE,
    Raw,
    Reply,
    ScriptedServer,
    entry,
    pause,
    using,
)
from trio_ssh.errors import ConnectionLost, RemoteProtocolError
from trio_ssh.sftp import listing
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.messages import (
    Attrs,
    Data,
    Fstat,
    Handle,
    Lstat,
    Mkdir,
    Name,
    NamedFile,
    Packet,
    Read,
    Readdir,
    Stat,
    Status,
    write_pairs,
)
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, SFTPLimits, StatusCode
from trio_ssh.sftp.round import Forgotten
from trio_ssh.sftp.session import AnyRequest, ServerSession
from trio_ssh.testing import MemorySFTPServer, open_memory_client

ATTRIBUTES = Attrs(trio_ssh.SFTPAttributes(st_size=1))


class Answering(ScriptedServer):
    """Answers one kind of request wrong."""

    def __init__(self, kind: type[Packet], reply: Reply) -> None:
        super().__init__({"f": bytes(MIB)})
        self.kind = kind
        self.reply = reply

    def answer(self, request: AnyRequest) -> Reply:
        return self.reply if isinstance(request, self.kind) else super().answer(request)


def packet(kind: int, number: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">IBI", len(body) + 5 if length is None else length, kind, number) + body


WRONG = {
    "an id that nobody waits for": Raw(lambda number: bytes(ATTRIBUTES.frame(number + 7))),
    "an id twice": Raw(lambda number: bytes(ATTRIBUTES.frame(number)) * 2),
    "a reply of another kind": Handle(b"x"),
    "data for a stat": Data(b"x"),
    "a type that is no reply": Raw(lambda number: packet(3, number, b"")),
    "an unknown type": Raw(lambda number: packet(99, number, b"")),
    "a length of 0": Raw(lambda number: struct.pack(">I", 0)),
    "a length of 4 GiB": Raw(lambda number: struct.pack(">IBI", 2**32 - 1, 105, number)),
    "no id": Raw(lambda number: struct.pack(">IB", 1, 105)),
    "attributes that are cut short": Raw(lambda number: packet(105, number, b"\0\0")),
    "attributes with unknown flags": Raw(lambda number: packet(105, number, b"\x7f\xff\xff\xff")),
    "attributes and a byte": Raw(lambda number: packet(105, number, bytes(5))),
    "4 Gi extended attributes": Raw(lambda number: packet(105, number, b"\x80\0\0\0\xff\xff\xff\xff")),
    "a string of 4 GiB": Raw(lambda number: packet(101, number, bytes(4) + b"\xff\xff\xff\xff")),
    "4 Gi names": Raw(lambda number: packet(104, number, b"\xff\xff\xff\xff")),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_reply_that_is_none_ends_the_session_and_nothing_else(what: str) -> None:
    server = Answering(Stat, WRONG[what])
    async with open_memory_client(door(server), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        file = await sftp.open("f")
        with pytest.raises(RemoteProtocolError):
            await sftp.stat("f")
            await sftp.stat("f")  # the second of two replies comes later than the first
        with pytest.raises(RemoteProtocolError):
            await sftp.listdir("/")
        with pytest.raises(RemoteProtocolError):
            await file.read()
        assert sftp._link.session.pending == 0
        assert sftp._link.used_bytes == 0
        async with await client.open_sftp() as other:
            assert (await other.lstat("f")).st_size == MIB


class LongHandles(ScriptedServer):
    """Its handles are as long as it is told."""

    def __init__(self, size: int) -> None:
        super().__init__({})
        self.size = size

    def _opened(self, path: bytes) -> Handle:
        short = super()._opened(path).handle
        long = short.zfill(self.size)
        self.handles[long] = self.handles.pop(short)
        return Handle(long)

    def answer(self, request: AnyRequest) -> Reply:
        return OK if isinstance(request, Mkdir) else super().answer(request)


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("size", [256, 257])
async def test_a_handle_is_as_long_as_handles_are_and_no_longer(size: int, is_small: bool, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(10 if is_small else MIB))
    server = LongHandles(size)
    async with open_memory_client(door(server), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        if size == 256:
            await sftp.put(tmp_path, "d", recurse=True, atomic=False)
            assert server.files == {b"d/f": (tmp_path / "f").read_bytes()}
        else:
            with pytest.raises(RemoteProtocolError, match="a handle of 257 bytes; it has 256 at the most"):
                await sftp.put(tmp_path, "d", recurse=True, atomic=False)


class Boundless(ScriptedServer):
    """Says that its file has more bytes than any file can."""

    def answer(self, request: AnyRequest) -> Reply:
        return Attrs(SFTPAttributes(st_size=self.size)) if isinstance(request, Fstat) else super().answer(request)

    size = 2**64 - 1


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
async def test_a_size_that_no_file_has_is_no_place_to_append_at(size: int) -> None:
    server = Boundless({"f": b"data"})
    server.size = size
    async with open_memory_client(door(server), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        with trio.fail_after(5):
            for mode in ("a", "a+"):
                with pytest.raises(OSError, match=f"the server says that it has {size} bytes"):
                    await sftp.open("f", mode)
            async with await sftp.open("f") as file:
                with pytest.raises(OSError, match=f"the server says that it has {size} bytes"):
                    await file.seek(0, os.SEEK_END)
                assert await file.read() == b"data"
        assert sftp._link.session.pending == 0


async def test_a_request_that_can_not_be_made_leaves_nobody_waiting() -> None:
    async with open_memory_client(door(ScriptedServer({"f": b""})), host_key=HOST_KEY) as client:
        sftp = await client.open_sftp()
        session = sftp._link.session
        waiter = Forgotten()
        with pytest.raises(struct.error):
            session.read(b"handle", 2**64, 1, waiter)
        with pytest.raises(struct.error):
            session.write_in_place(memoryview(bytearray(session.write_head_size(b"handle") + 1)), b"handle", -1, waiter)
        assert session.pending == 0
        with trio.fail_after(5):
            await sftp.aclose()


async def test_everyone_who_waits_hears_of_the_end() -> None:
    server = Answering(Stat, WRONG["a length of 0"])
    async with using(server) as sftp:
        file = await sftp.open("f", "r+")
        writer = await sftp.open("g", "w")
        server.gate = trio.Event()

        async def hear(use: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(RemoteProtocolError, match="0 bytes"):
                await use()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear, lambda: sftp.stat("f"))
            await pause()
            nursery.start_soon(hear, lambda: sftp.listdir("/"))
            nursery.start_soon(hear, lambda: sftp.open("f"))
            nursery.start_soon(hear, file.read)

            async def write() -> None:
                await writer.write(b"x")
                await writer.aclose()

            nursery.start_soon(hear, write)
            await pause()
            server.gate.set()
        await file.aclose()
        assert sftp._link.used_bytes == 0


@pytest.mark.parametrize(
    "reply",
    [
        Data(bytes(4 * MIB)[: 9 * KIB]),
        Raw(lambda number: packet(103, number, struct.pack(">I", 2**32 - 1) + bytes(9), 9 + 10)),
        Raw(lambda number: packet(103, number, struct.pack(">I", 3) + bytes(9))),
        Raw(lambda number: packet(103, number + 99, struct.pack(">I", 1) + bytes(1))),
        Raw(lambda number: bytes(Data(b"x").frame(number)) + bytes(Data(b"x").frame(number))),
        Handle(b"x"),
        ATTRIBUTES,
    ],
    ids=["longer than asked", "4 GiB", "two lengths", "unknown id", "twice", "a handle", "attributes"],
)
async def test_data_that_nobody_asked_for_ends_the_session(reply: Reply) -> None:
    async with using(Answering(Read, reply)) as sftp, await sftp.open("f") as file:
        with pytest.raises(RemoteProtocolError):
            while True:
                await file.read(8 * KIB)
        assert sftp._link.used_bytes == 0


async def test_an_ok_for_a_read_is_no_data() -> None:
    async with using(Answering(Read, OK)) as sftp, await sftp.open("f") as file:
        with pytest.raises(trio_ssh.SFTPError):
            await file.read(10)


async def test_one_byte_at_a_time_costs_no_memory() -> None:
    class Drops(ScriptedServer):
        def read(self, file: bytearray, offset: int, length: int) -> Reply:
            return Data(b"x") if offset < 3000 else Status(StatusCode.EOF, "", "")

    server = Drops({"f": b""})
    async with using(server) as sftp, await sftp.open("f") as file:
        assert await file.read() == b"x" * 3000
        assert len(server.asked(Read)) < 3100


# -- listings


@pytest.mark.parametrize("name", [b"", b"/", b"a/b", b"../x", b"/etc/passwd", b"a\0b", b"x" * 5000])
@pytest.mark.parametrize("way", ["listdir", "listdir_attr", "scandir", "walk", "glob", "rmtree"])
async def test_a_name_that_leads_elsewhere_ends_the_listing(name: bytes, way: str) -> None:
    server = Answering(Readdir, Name((entry(b"fine"), entry(name))))
    async with using(server) as sftp:
        uses: dict[str, Callable[[], Awaitable[object]]] = {
            "listdir": lambda: sftp.listdir("d"),
            "listdir_attr": lambda: sftp.listdir_attr("d"),
            "scandir": lambda: anext(sftp.scandir("d")),
            "walk": lambda: anext(sftp.walk("d")),
            "glob": lambda: sftp.glob("d/*"),
            "rmtree": lambda: _rmtree(sftp, server),
        }
        with pytest.raises(RemoteProtocolError, match="the server lists"):
            await uses[way]()
        await pause()
        assert not server.handles
        # Nothing is wrong with the session.
        assert (await sftp.lstat("f")).st_size == MIB


async def _rmtree(sftp: trio_ssh.SFTPClient, server: Answering) -> None:
    """Remove what is said to be a directory."""
    usual = server.answer

    def answer(request: AnyRequest) -> Reply:
        if isinstance(request, Lstat) and request.path == b"d":
            return Attrs(trio_ssh.SFTPAttributes(st_mode=stat.S_IFDIR))
        return usual(request)

    server.answer = answer  # type: ignore[method-assign]
    await sftp.rmtree("d")


async def test_a_listing_without_end_ends() -> None:
    limits = SFTPLimits(listing_names=1000)
    server = Answering(Readdir, Name(tuple(entry(b"%d" % number) for number in range(64))))
    async with using(server, limits=limits) as sftp:
        with pytest.raises(RemoteProtocolError, match="1000 names"):
            await sftp.listdir("/")
        await pause()
        assert not server.handles
        assert len(server.asked(Readdir)) < 1000 // 64 + 8


@pytest.mark.parametrize("where", ["filename", "longname", "extended"])
async def test_a_listing_of_much_about_little_ends(where: str) -> None:
    attributes = trio_ssh.SFTPAttributes()
    if where == "extended":
        attributes.extended = {b"%d" % number: b"" for number in range(1000)}
    long = b"x" * 4000
    name = NamedFile(long if where == "filename" else b"x", long if where == "longname" else b"", attributes)
    server = Answering(Readdir, Name((name,) * 10))
    async with using(server, limits=SFTPLimits(listing_bytes=1_000_000)) as sftp:
        with pytest.raises(RemoteProtocolError, match="1000000 bytes"):
            await sftp.listdir("/")
        await pause()
        assert not server.handles
    assert len(server.asked(Readdir)) < 40


@pytest.mark.parametrize("way", ["listdir", "listdir_attr", "walk", "glob", "rmtree"])
async def test_no_more_of_a_listing_is_gathered_than_memory_is_for(way: str) -> None:
    """A server that lists without an end: long before the listing is given up, whoever gathers it is."""
    server = Answering(Readdir, Name(tuple(entry(b"%d" % number) for number in range(64))))
    async with using(server, limits=SFTPLimits(gathered_bytes=1_000_000)) as sftp:
        uses: dict[str, Callable[[], Awaitable[object]]] = {
            "listdir": lambda: sftp.listdir("d"),
            "listdir_attr": lambda: sftp.listdir_attr("d"),
            "walk": lambda: anext(sftp.walk("d", onerror=raised)),
            "glob": lambda: sftp.glob("d/*"),
            "rmtree": lambda: _rmtree(sftp, server),
        }
        with pytest.raises(OSError, match=r"1000000 bytes.*SFTPLimits.gathered_bytes.*listdir_iter") as failure:
            await uses[way]()
        assert failure.value.errno == errno.EFBIG
        assert failure.value.filename in ("d", b"d")
        await pause()
        assert not server.handles
        assert len(server.asked(Readdir)) < 1_000_000 // 80 // 64 + 8
        assert (await sftp.lstat("f")).st_size == MIB


def raised(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("way", ["listdir_iter", "scandir"])
async def test_what_is_taken_as_it_comes_is_not_gathered(way: str) -> None:
    server = Answering(Readdir, Name(tuple(entry(b"%d" % number) for number in range(64))))
    async with using(server, limits=SFTPLimits(gathered_bytes=10_000, listing_names=5000)) as sftp:
        seen = 0
        with pytest.raises(RemoteProtocolError, match=r"5000 names \(SFTPLimits.listing_names\)"):
            async for _ in getattr(sftp, way)("d"):
                seen += 1
        assert seen == 5000 // 64 * 64


@pytest.mark.parametrize("topdown", [True, False])
async def test_a_walk_keeps_no_more_directories_in_mind_than_memory_is_for(topdown: bool) -> None:
    """Each directory fits, and those that wait do not."""
    names = [entry(b"%d" % number) for number in range(100)]
    for name in names:
        name.attributes.st_mode = stat.S_IFDIR
    server = Answering(Readdir, Name(tuple(names)))
    usual = server.answer
    turns: dict[bytes, int] = {}

    def answer(request: AnyRequest) -> Reply:
        if not isinstance(request, Readdir):
            return usual(request)
        turns[request.handle] = turns.get(request.handle, 0) + 1
        return server.reply if turns[request.handle] == 1 else Status(StatusCode.EOF, "", "")

    server.answer = answer  # type: ignore[method-assign]
    async with using(server, limits=SFTPLimits(gathered_bytes=100_000)) as sftp:
        visits = 0
        with pytest.raises(OSError, match=r"SFTPLimits.gathered_bytes"):
            async for _ in sftp.walk("/", topdown=topdown):
                visits += 1
        assert visits < 30
        assert visits or not topdown


def test_by_default_a_listing_of_a_hundred_thousand_long_names_is_gathered() -> None:
    long = SFTPAttributes(filename="n" * 255, longname="-" * 65 + "n" * 255)
    assert 100_000 * listing.attributes_memory(long) < DEFAULT_SFTP_LIMITS.gathered_bytes
    assert 100_000 * listing.name_memory("\u20ac" * 85) < DEFAULT_SFTP_LIMITS.gathered_bytes
    # And what is endless ends far from what a machine has.
    assert DEFAULT_SFTP_LIMITS.gathered_bytes <= 128 * MIB


async def test_what_a_listing_costs_is_what_was_estimated() -> None:
    names = tuple(
        NamedFile(b"file-%026d" % number, b"-rw-r--r--    1 1000     1000     %020d" % number, SFTPAttributes(*values))
        for number in range(2000)
        for values in [(10_000 + number, 1000, 1000, stat.S_IFREG, 1_700_000_000 + number, 1_700_000_000 + number)]
    )
    server = Answering(Readdir, Name(names))
    async with using(server, limits=SFTPLimits(gathered_bytes=16 * MIB)) as sftp:
        with pytest.raises(OSError, match="gathered_bytes"):
            await sftp.listdir_attr("/")  # what is loaded and kept the first time
        tracemalloc.start()
        try:
            with pytest.raises(OSError, match="gathered_bytes"):
                await sftp.listdir_attr("/")
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # And what is under way: four replies, and the server's.
    assert most < 1.5 * 16 * MIB


@pytest.mark.parametrize("names", [(), (b".", b".."), (b".",)])
async def test_a_listing_of_nothing_without_end_ends(names: tuple[bytes, ...]) -> None:
    server = Answering(Readdir, Name(tuple(map(entry, names))))
    async with using(server, limits=SFTPLimits(listing_names=1000)) as sftp:
        with pytest.raises(RemoteProtocolError, match="does not end"):
            await sftp.listdir("/")


async def test_a_reply_has_so_many_names_and_no_more() -> None:
    server = Answering(Readdir, Name(tuple(entry(b"%d" % number) for number in range(20))))
    async with using(server, limits=SFTPLimits(name_count=19)) as sftp:
        with pytest.raises(RemoteProtocolError, match="20 files"):
            await sftp.listdir("/")


# -- before the session


def speaking(data: bytes, stderr: bytes = b"", *, then_wait: bool = False) -> Handler:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        if stderr:
            await process.stderr.send_all(stderr)
        await process.stdout.send_all(data)
        if then_wait:
            await trio.sleep_forever()
        return 1

    return handle


EXTENSIONS = write_pairs({b"%d" % number: b"1" for number in range(257)})


class Speaking(trio_ssh.SubsystemHandler):
    def __init__(self, handle: Handler) -> None:
        self._handle = handle

    async def handle(self, process: trio_ssh.ServerProcess) -> int | None:
        return await self._handle(process)


@pytest.mark.parametrize(
    ("said", "stderr", "error", "text"),
    [
        (b"Welcome to example.com!\n", b"", RemoteProtocolError, "Welcome to example.com.*startup file"),
        (b"\x1b[2J\x1b[1;1H", b"", RemoteProtocolError, r"\\x1b\[2J"),
        (b"", b"no sftp-server here", ConnectionLost, "no sftp-server here"),
        (b"", b"", ConnectionLost, "before it began"),
        (packet(2, 2, b"")[:9], b"", RemoteProtocolError, "version 2"),
        (struct.pack(">IBI", 5, 2, 99), b"", RemoteProtocolError, "version 99"),
        (bytes(Name(()).frame(0)), b"", RemoteProtocolError, "."),
        (struct.pack(">IBI", 13, 2, 3) + struct.pack(">II", 2**32 - 1, 0), b"", RemoteProtocolError, "."),
        (struct.pack(">IBI", 6, 2, 3) + b"x", b"", RemoteProtocolError, "."),
        (packet(2, 3, EXTENSIONS), b"", RemoteProtocolError, "256 extensions"),
    ],
)
async def test_what_answers_in_place_of_sftp(said: bytes, stderr: bytes, error: type[Exception], text: str) -> None:
    server = door(Speaking(speaking(said, stderr)))
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        with pytest.raises(error, match=text):
            await client.open_sftp()
        await pause()
        assert repr(client).endswith(", 0 channels>")


async def test_silence_can_be_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_client(door(Speaking(speaking(b"", then_wait=True))), host_key=HOST_KEY) as client:
        with pytest.raises(trio.TooSlowError), trio.fail_after(60):
            await client.open_sftp()
        await pause()
        assert repr(client).endswith(", 0 channels>")


@pytest.mark.parametrize("way", ["stat", "listdir", "open", "read", "flush", "aclose", "readv", "rmtree"])
async def test_silence_in_the_middle_can_be_given_up(autojump_clock: trio.testing.MockClock, way: str) -> None:
    server = ScriptedServer({"f": bytes(MIB)})
    async with using(server) as sftp:
        file = await sftp.open("f", "r+")
        await file.write(b"x")
        server.answer = lambda request: SILENCE  # type: ignore[method-assign]
        uses: dict[str, Callable[[], Awaitable[object]]] = {
            "stat": lambda: sftp.stat("f"),
            "listdir": lambda: sftp.listdir("/"),
            "open": lambda: sftp.open("f"),
            "read": file.read,
            "flush": file.flush,
            "aclose": file.aclose,
            "readv": lambda: anext(file.readv([(0, 10)])),
            "rmtree": lambda: sftp.rmtree("/"),
        }
        with pytest.raises(trio.TooSlowError), trio.fail_after(60):
            await uses[way]()
        with trio.move_on_after(1):
            await file.aclose()


@pytest.mark.parametrize("cut", range(1, 22, 4))
async def test_an_end_in_the_middle_of_a_reply(cut: int) -> None:
    frame = bytes(Data(bytes(100)).frame(0))

    ending = Raw(lambda number: frame[:5] + struct.pack(">I", number) + frame[9:cut], then_end=True)
    async with using(Answering(Read, ending)) as sftp, await sftp.open("f") as file:
        with pytest.raises((ConnectionLost, RemoteProtocolError)):
            await file.read()
        with pytest.raises((ConnectionLost, RemoteProtocolError)):
            await sftp.stat("f")
    assert sftp._link.used_bytes == 0


async def test_a_session_that_breaks_leaves_the_others_alone() -> None:
    """20 sessions on one connection: one after the other is broken by its server, the rest goes on."""
    good = MemorySFTPServer({"/f": bytes(300 * KIB)})
    bad = Answering(Stat, WRONG["a length of 0"])
    handlers = [good, bad] * 10
    server = OpenDoor()
    server.subsystems = {"sftp": lambda: handlers.pop(0)}
    limits = trio_ssh.Limits(sessions=30)
    async with open_memory_client(server, host_key=HOST_KEY, client_limits=limits, server_limits=limits) as client:
        sessions = [await client.open_sftp() for _ in range(20)]
        async with trio.open_nursery() as nursery:

            async def use(number: int) -> None:
                if number % 2:
                    with pytest.raises(RemoteProtocolError):
                        await sessions[number].stat("/f")
                else:
                    async with await sessions[number].open("/f") as file:
                        assert len(await file.read()) == 300 * KIB

            for number in range(20):
                nursery.start_soon(use, number)
        for sftp in sessions:
            await sftp.aclose()


class Hasty(trio_ssh.SubsystemHandler):
    """Acknowledges what it has not been asked for: a WRITE that the window has held back, and others behind it."""

    async def handle(self, process: trio_ssh.ServerProcess) -> int:
        session = ServerSession(DEFAULT_SFTP_LIMITS, {})
        channel, asked = process.channel, -1
        while data := await channel.receive_some():
            if asked >= 0:
                # Requests are numbered in order.
                await channel.send_all(b"".join(OK.frame(asked + number) for number in range(1, 5)))
                await trio.sleep_forever()
            session.receive_data(memoryview(data))
            while session.arrived:
                asked, _ = session.arrived.popleft()
                session.reply(asked, Handle(b"h"))
            while session.outgoing:
                await channel.send_all(bytes(session.outgoing.popleft()))
        return 0


async def test_an_answer_to_what_was_not_sent_ends_the_session() -> None:
    """Each would let one more request be made, and nothing would bound how much waits to be sent."""
    small = trio_ssh.Limits(initial_window_bytes=4096, largest_window_bytes=4096)
    async with (
        open_memory_client(door(Hasty()), host_key=HOST_KEY, server_limits=small) as client,
        await client.open_sftp() as sftp,
    ):
        file = await sftp.open("f", "w")
        with pytest.raises(RemoteProtocolError, match="not sent yet"):
            for _ in range(100):
                await file.write(bytes(MIB))
        assert sftp._link.session.queued_bytes < 32 * MIB
        assert not sftp._link.session.outgoing
