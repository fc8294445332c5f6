"""Many requests at once: what runs together, what waits, what is bounded, and how a session ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor
from tests.sftp.by_hand import NO_ATTRIBUTES, HandClient, R, W, door, serving, session
from trio_ssh.errors import LocalProtocolError
from trio_ssh.sftp.messages import Attrs, Close, Data, Handle, Lstat, Open, Opendir, Read, Remove, Stat, Status, Write
from trio_ssh.sftp.protocol import KIB, MIB, OpenFlags, SFTPLimits, StatusCode
from trio_ssh.sftp.server import ServerLink
from trio_ssh.testing import MemorySFTPServer, memory_pair, open_memory_client


class Slow(trio_ssh.SFTPServerInterface):
    """Each path or handle takes as many seconds as its name says; what happens is noted."""

    sessions: ClassVar[list[Slow]] = []

    def __init__(self, process: trio_ssh.ServerProcess) -> None:
        super().__init__(process)
        self.events: list[str] = []
        Slow.sessions.append(self)

    async def session_started(self) -> None:
        self.events.append("started")

    async def session_ended(self) -> None:
        self.events.append("ended")

    async def take(self, what: str, path: str) -> None:
        self.events.append(f"{what} {path}")
        try:
            await trio.sleep(float(path))
        except trio.Cancelled:
            self.events.append(f"{what} {path} cancelled")
            raise
        self.events.append(f"{what} {path} done")

    async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
        await self.take("stat", path)
        return trio_ssh.SFTPAttributes()

    async def remove(self, path: str) -> None:
        await self.take("remove", path)

    async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
        return SlowFile(self, path)


class SlowFile(trio_ssh.SFTPHandle):
    def __init__(self, files: Slow, path: str) -> None:
        super().__init__()
        self.files = files
        self.path = path

    async def read(self, offset: int, length: int) -> bytes:
        await self.files.take("read", self.path)
        return b"x" * length

    async def close(self) -> None:
        self.files.events.append(f"close {self.path}")


async def order(hand: HandClient, count: int) -> list[int]:
    """The ids of the replies that come next."""
    return [(await hand.next())[0] for _ in range(count)]


async def test_a_slow_request_holds_up_no_other(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(trio_ssh.SFTPServer(Slow)) as hand:
        for path in (b"30", b"20", b"10"):
            await hand.start(Stat(path))
        assert await order(hand, 3) == [3, 2, 1]
        assert trio.current_time() == pytest.approx(30, abs=0.1)


async def test_requests_on_one_handle_keep_their_order(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(trio_ssh.SFTPServer(Slow)) as hand:
        slow, quick = await hand.open("10"), await hand.open("1")
        hand._number = 0
        for packet in (Read(slow, 0, 1), Read(slow, 1, 1), Close(slow), Read(quick, 0, 1), Read(quick, 0, 1)):
            await hand.start(packet)
        assert await order(hand, 5) == [4, 5, 1, 2, 3]


async def test_requests_on_one_path_keep_their_order(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(trio_ssh.SFTPServer(Slow)) as hand:
        for packet in (Remove(b"10"), Stat(b"10"), Stat(b"1")):
            await hand.start(packet)
        assert await order(hand, 3) == [3, 1, 2]


async def test_what_has_arrived_before_the_end_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(trio_ssh.SFTPServer(Slow)) as hand:
        await hand.start(Stat(b"30"))
        await hand.channel.send_eof()
        assert isinstance((await hand.next())[1], Attrs)
        with pytest.raises(EOFError):
            await hand.packet()
        assert await hand.channel.recv_exit_status() == 0
        assert Slow.sessions[-1].events[-2:] == ["stat 30 done", "ended"]


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_client_that_goes_away_ends_everything(autojump_clock: trio.testing.MockClock, is_lost: bool) -> None:
    async with open_memory_client(door(trio_ssh.SFTPServer(Slow)), host_key=HOST_KEY) as client:
        async with session(client) as hand:
            handle = await hand.open("7")
            await hand.start(Stat(b"3600"))
            await hand.start(Read(handle, 0, 1))
            await hand.start(Read(handle, 0, 1))
            await trio.sleep(1)
            if is_lost:
                await client.aclose()
        await trio.sleep(1)
        events = Slow.sessions[-1].events
        assert {"stat 3600 cancelled", "read 7 cancelled"} <= set(events)
        assert events[-2:] == ["close 7", "ended"]
        assert "stat 3600 done" not in events


async def test_an_interface_that_hangs_at_the_end_is_left_behind(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(trio_ssh.SFTPServerInterface):
        async def session_ended(self) -> None:
            await trio.sleep_forever()

    async with serving(trio_ssh.SFTPServer(Hangs)) as hand:
        await hand.channel.send_eof()
        assert await hand.channel.recv_exit_status() == 0
    assert "did not end its session" in caplog.text


class Closes(trio_ssh.SFTPHandle):
    """A file that is closed as a test says.

    Args:
        close: does it.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._close = close

    async def close(self) -> None:
        await self._close()


async def test_a_handle_that_cannot_be_closed_keeps_no_other_open(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    async def close(path: str) -> None:
        closed.append(path)
        raise ValueError("stuck")

    class Files(trio_ssh.SFTPServerInterface):
        async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
            return Closes(partial(close, path))

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        for path in "abc":
            await hand.open(path)
        await hand.channel.send_eof()
        assert await hand.channel.recv_exit_status() == 0
    assert sorted(closed) == ["a", "b", "c"]
    assert "could not be closed" in caplog.text


async def test_a_handle_that_takes_long_to_close_keeps_no_other_open(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []

    async def close(path: str) -> None:
        if path == "b":
            await trio.sleep_forever()
        if path == "c":
            raise SystemExit
        closed.append(path)

    class Files(trio_ssh.SFTPServerInterface):
        async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
            return Closes(partial(close, path))

        async def session_ended(self) -> None:
            closed.append("the session")

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        for path in "abcd":
            await hand.open(path)
        await hand.channel.send_eof()
        assert await hand.channel.recv_exit_status() == 0
    assert sorted(closed[:-1]) == ["a", "d"]
    assert closed[-1] == "the session"
    assert "did not close its files" in caplog.text


async def test_sys_exit_in_a_method_fails_its_request(caplog: pytest.LogCaptureFixture) -> None:
    class Files(trio_ssh.SFTPServerInterface):
        async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
            raise SystemExit(3)

    async with serving(trio_ssh.SFTPServer(Files)) as hand:
        for _ in range(2):
            assert (await hand.refusal(Stat(b"x"))).code == StatusCode.FAILURE
    assert "a request failed: Stat" in caplog.text


# -- bounds


async def test_no_more_requests_run_than_the_limit_says(autojump_clock: trio.testing.MockClock) -> None:
    server = trio_ssh.SFTPServer(Slow, limits=SFTPLimits(requests=5))
    async with serving(server) as hand:
        for number in range(20):
            await hand.start(Stat(b"4.%02d" % number))
        await trio.sleep(2)
        running = [event for event in Slow.sessions[-1].events if event.startswith("stat")]
        assert len(running) == 5
        assert sorted(await order(hand, 20)) == list(range(1, 21))


async def test_handles_are_counted_and_never_used_twice() -> None:
    storage = MemorySFTPServer({"/f": b"data"}, limits=SFTPLimits(handles=3))
    async with serving(storage) as hand:
        handles = [await hand.open("/f") for _ in range(3)]
        for packet in (Open(b"/f", R, NO_ATTRIBUTES), Opendir(b"/")):
            refused = await hand.refusal(packet)
            assert (refused.code, refused.text) == (StatusCode.FAILURE, "at most 3 handles are open at once")
        await hand.close(handles[0])
        assert (await hand.refusal(Close(handles[0]))).code == StatusCode.FAILURE
        await hand.refusal(Open(b"/missing", R, NO_ATTRIBUTES))
        new = (await hand.ask(Opendir(b"/"), Handle)).handle
        assert new not in handles
        assert max(map(len, [new, *handles])) <= 256
        assert storage.open_handles == 2
    assert storage.open_handles == 0


async def test_a_client_that_does_not_read_is_not_served_any_further() -> None:
    reads = 0

    class File(trio_ssh.SFTPHandle):
        async def read(self, offset: int, length: int) -> bytes:
            nonlocal reads
            reads += 1
            return bytes(length)

    class Files(trio_ssh.SFTPServerInterface):
        async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
            return File()

    limits = SFTPLimits(reply_bytes=1 * MIB, block_bytes=64 * KIB)
    window = trio_ssh.Limits(initial_window_bytes=256 * KIB, largest_window_bytes=256 * KIB)
    async with serving(trio_ssh.SFTPServer(Files, limits=limits), client_limits=window) as hand:
        handle = await hand.open("x")
        for _ in range(500):
            await hand.start(Read(handle, 0, 64 * KIB))
        await trio.testing.wait_all_tasks_blocked()
        # What may wait, what is on the window and what the outbox holds.
        assert reads * 64 * KIB < 1 * MIB + 256 * KIB + 1 * MIB
        for _ in range(500):
            assert isinstance((await hand.next())[1], Data)
        assert reads == 500


async def test_a_client_that_only_writes_is_held_to_what_was_written(autojump_clock: trio.testing.MockClock) -> None:
    storage = MemorySFTPServer({"/f": b""}, limits=SFTPLimits(reply_bytes=512 * KIB))
    storage.delay_on("/f", 60, operation="write")
    sent = 0
    async with serving(storage) as hand:
        handle = await hand.open("/f", W)
        with trio.move_on_after(59):
            for number in range(200):
                await hand.start(Write(handle, number * 200 * KIB, bytes(200 * KIB)))
                sent += 200 * KIB
        # One is being written, and what waits is bounded: the rest stays with the client, on its window.
        assert sent < 8 * MIB


async def test_small_replies_leave_together() -> None:
    async with serving(MemorySFTPServer({"/f": b"x"})) as hand:
        packets = b"".join(Stat(b"/f").frame(number) for number in range(1, 41))
        await hand.send(packets)
        await trio.testing.wait_all_tasks_blocked()
        first = await hand.channel.receive_some()
        assert len(first) == 40 * (4 + 5 + 4 + 28)


async def test_limits_are_told() -> None:
    limits = SFTPLimits(block_bytes=100_000, handles=7, packet_bytes=200_000)
    async with serving(MemorySFTPServer(limits=limits)) as hand:
        assert struct.unpack(">4Q", await hand.extended("limits@openssh.com", b"")) == (200_000, 100_000, 100_000, 7)


async def test_a_read_is_bounded_by_our_limit_and_not_by_what_is_asked() -> None:
    async with serving(MemorySFTPServer({"/f": bytes(10**6)})) as hand:
        handle = await hand.open("/f")
        reply = await hand.ask(Read(handle, 0, 2**32 - 1), Data)
        assert len(reply.data) == 255 * KIB
        assert (await hand.refusal(Read(handle, 0, 0))).code == StatusCode.EOF
        assert (await hand.refusal(Read(handle, 2**64 - 1, 10))).code == StatusCode.EOF


async def test_one_server_serves_many_sessions() -> None:
    storage = MemorySFTPServer({"/f": b"x"})
    async with (
        open_memory_client(door(storage), host_key=HOST_KEY) as client,
        session(client) as one,
        session(client) as other,
    ):
        await one.write("/g", b"y")
        assert await other.read("/g") == b"y"
        handle = await one.open("/g")
        assert (await other.refusal(Read(handle, 0, 1))).code == StatusCode.FAILURE


async def test_what_came_before_the_handler_looked_is_not_lost() -> None:
    """A client may send its first packets right behind the request for the subsystem."""

    class Late(trio_ssh.SFTPServerInterface):
        async def session_started(self) -> None:
            await trio.testing.wait_all_tasks_blocked()

    async with serving(trio_ssh.SFTPServer(Late)) as hand:
        assert hand.extensions


async def test_a_session_that_breaks_the_protocol_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_ssh")
    async with serving(MemorySFTPServer()) as hand:
        await hand.send(b"\xff" * 100)
        assert await hand.channel.recv_exit_status() == 1
    assert "an SFTP packet of 4294967295 bytes" in caplog.text


async def test_statuses_have_words() -> None:
    async with serving(MemorySFTPServer({"/f": b""})) as hand:
        reply = await hand.reply(await hand.start(Remove(b"/f")))
        assert reply == Status(0, "Success", "")
        assert (await hand.refusal(Remove(b"/f"))).text == "No such file or directory"


async def test_nothing_is_written_while_the_reader_or_the_writer_is_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer holds a view of what it is about to send: whoever wrote within its call would take it away."""
    depth = 0
    flushes: list[tuple[bool, bool]] = []
    flush = trio_ssh.Channel.flush

    def noted(name: str) -> None:
        call = getattr(ServerLink, name)

        def wrapped(self: ServerLink, *arguments: object) -> None:
            nonlocal depth
            depth += 1
            try:
                call(self, *arguments)
            finally:
                depth -= 1

        monkeypatch.setattr(ServerLink, name, wrapped)

    def spy(self: trio_ssh.Channel, *, now: bool) -> None:
        flushes.append((depth > 0, now))
        flush(self, now=now)

    noted("on_data")
    noted("on_room")
    monkeypatch.setattr(trio_ssh.Channel, "flush", spy)
    async with serving(MemorySFTPServer({"/f": bytes(3 * MIB)})) as hand:
        assert len(await hand.read("/f")) == 3 * MIB
        await hand.write("/g", bytes(MIB))
    assert {is_within for is_within, _ in flushes} == {True, False}
    assert (True, True) not in flushes


@pytest.mark.parametrize("limits", [SFTPLimits(requests=1), SFTPLimits(reply_bytes=1)])
async def test_what_is_answered_at_once_makes_room_for_what_waits(limits: SFTPLimits, tmp_path: Path) -> None:
    for server in (trio_ssh.LocalSFTPServer(tmp_path, limits=limits), MemorySFTPServer(limits=limits)):
        async with serving(server) as hand:
            for _ in range(20):
                await hand.send(b"".join(bytes(Stat(b"/").frame(number)) for number in range(5)))
                assert sorted(await order(hand, 5)) == list(range(5))


async def test_a_path_is_not_looked_at_while_it_is_being_closed(autojump_clock: trio.testing.MockClock) -> None:
    server = MemorySFTPServer()
    server.delay_on("/f", 5, operation="close")
    async with serving(server) as hand:
        closing = await hand.start(Close(await hand.open("/f", W)))
        await trio.testing.wait_all_tasks_blocked()
        looking = await hand.start(Stat(b"/f"))
        assert await order(hand, 2) == [closing, looking]


async def test_a_file_that_is_opened_twice_is_one_file(autojump_clock: trio.testing.MockClock) -> None:
    server = MemorySFTPServer({"/f": b"old"})
    server.delay_on("/f", 5, operation="write")
    async with serving(server) as hand:
        one, other = await hand.open("/f", OpenFlags.WRITE), await hand.open("/f", R)
        writing = await hand.start(Write(one, 0, b"new"))
        reading = await hand.start(Read(other, 0, 3))
        assert await hand.next() == (writing, Status(StatusCode.OK, "Success", ""))
        assert await hand.next() == (reading, Data(b"new"))


async def test_an_error_whose_text_is_no_text_is_told_all_the_same() -> None:
    class Odd(trio_ssh.SFTPServerInterface):
        async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
            raise OSError(f"{path} \ud83d")

        async def lstat(self, path: str) -> trio_ssh.SFTPAttributes:
            raise trio_ssh.SFTPError(StatusCode.FAILURE, "\ud83d \udcff")

    async with serving(trio_ssh.SFTPServer(Odd)) as hand:
        assert (await hand.refusal(Stat(b"\xff"))).text == "\\udcff \\ud83d"
        assert (await hand.refusal(Lstat(b"x"))).text == "\\ud83d \\udcff"


async def test_a_transport_serves_what_it_is_told_to() -> None:
    ours, theirs = memory_pair()
    server = MemorySFTPServer({"/f": b"content"})
    async with trio_ssh.Transport(ours) as client, trio_ssh.Transport(theirs) as transport:
        transport.add_server_key(HOST_KEY)
        transport.set_subsystem_handler("sftp", lambda: server)
        interface = OpenDoor()
        interface.transport = transport
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.start_server, interface)
            await client.start_client(check_host_key=lambda key: None)
        await client.auth_none("alice")
        async with await trio_ssh.SFTPClient.from_transport(client) as sftp:
            assert (await sftp.stat("/f")).st_size == 7
        with pytest.raises(trio_ssh.RequestRefused):
            await (await client.open_session()).invoke_subsystem("later")
        transport.set_subsystem_handler("later", MemorySFTPServer)
        await (await client.open_session()).invoke_subsystem("later")
        assert not OpenDoor.subsystems
        with pytest.raises(LocalProtocolError):
            client.set_subsystem_handler("sftp", MemorySFTPServer)
    transport.set_subsystem_handler("too late", MemorySFTPServer)


async def test_helpers_of_paramiko_s_server_are_there(tmp_path: Path) -> None:
    assert trio_ssh.SFTPServer.convert_errno(errno.EACCES) == StatusCode.PERMISSION_DENIED
    assert trio_ssh.SFTPServer.convert_errno(errno.ENOSPC) == StatusCode.FAILURE
    assert trio_ssh.SFTPServer.convert_errno(0) == StatusCode.OK
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    wanted = trio_ssh.SFTPAttributes(st_size=4, st_mode=0o100604, st_atime=1000, st_mtime=2000)
    await trio_ssh.SFTPServer.set_file_attr(tmp_path / "link", wanted)
    found = (tmp_path / "file").stat()
    assert (found.st_size, found.st_mode & 0o7777, found.st_mtime) == (4, 0o604, 2000)
    await trio_ssh.SFTPServer.set_file_attr(str(tmp_path / "file"), trio_ssh.SFTPAttributes())
    assert (tmp_path / "file").stat().st_size == 4
    with pytest.raises(FileNotFoundError):
        await trio_ssh.SFTPServer.set_file_attr(tmp_path / "missing", wanted)


# -- what authors return


class Coded(trio_ssh.SFTPServerInterface):
    """Returns codes as paramiko's servers do, and listings in every way there is."""

    async def remove(self, path: str) -> None:
        return trio_ssh.SFTPServer.convert_errno(errno.EACCES)  # type: ignore[return-value]

    async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> trio_ssh.SFTPHandle:
        return 2  # type: ignore[return-value]

    async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
        return 3  # type: ignore[return-value]

    async def canonicalize(self, path: str) -> str:
        return path

    def rmdir(self, path: str) -> None:  # type: ignore[override]
        return None

    def list_folder(self, path: str) -> object:  # type: ignore[override]
        entry = trio_ssh.SFTPAttributes(filename="entry")
        if path == "async":
            return self._listed(entry)
        return iter([entry])

    async def _listed(self, entry: trio_ssh.SFTPAttributes) -> AsyncIterator[trio_ssh.SFTPAttributes]:  # noqa: ASYNC900 -- as an author writes it
        yield entry


@pytest.mark.parametrize("name", ["remove", "open", "stat"])
async def test_a_code_that_is_returned_is_no_success(name: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = trio_ssh.SFTPServer(Coded)
    async with open_memory_client(door(handler), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        with pytest.raises(OSError, match="failure"):
            await getattr(sftp, name)("/file")
    assert "raises an OSError where it fails; it doesn't return" in caplog.text


async def test_a_method_that_is_not_async_is_told(caplog: pytest.LogCaptureFixture) -> None:
    handler = trio_ssh.SFTPServer(Coded)
    async with open_memory_client(door(handler), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        with pytest.raises(OSError, match="folder"):
            await sftp.rmdir("/folder")
    assert "write `async def`" in caplog.text


@pytest.mark.parametrize("path", ["sync", "async"])
async def test_a_listing_may_be_a_generator_of_either_kind(path: str) -> None:
    handler = trio_ssh.SFTPServer(Coded)
    async with open_memory_client(door(handler), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        assert await sftp.listdir(path) == ["entry"]


async def test_what_waited_is_not_served_behind_the_end(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Slow):
        async def session_ended(self) -> None:
            await trio.sleep(0.5)

    handler = trio_ssh.SFTPServer(Stubborn)
    async with serving(handler) as hand:
        requests = b"".join(Stat(b"0").frame(number) for number in range(64))
        await hand.channel.send_all(requests + bytes(4))
        await trio.sleep(0.1)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await hand.channel.send_all(b"x")
        await trio.sleep(0.1)
        other = await hand.channel.get_transport().open_session()  # type: ignore[attr-defined]
        await other.aclose()
    assert "please report it" not in caplog.text
