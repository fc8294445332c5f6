"""A served directory that is in memory: large files take no thread, and the answers are what threads would give."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.sftp.by_hand import R, W, serving
from tests.sftp.connected import connected, noise
from trio_ssh.sftp import in_memory
from trio_ssh.sftp.dispatch import Answered, Dispatcher
from trio_ssh.sftp.filesystem import ThreadLink
from trio_ssh.sftp.in_memory import PREPARED_BYTES
from trio_ssh.sftp.messages import Close, Data, Fstat, Packet, Read, Status, Write
from trio_ssh.sftp.protocol import KIB, MIB, OpenFlags, StatusCode
from trio_ssh.sftp.session import AnyRequest


class Answers:
    """How many requests trio's thread has answered, and how many it has tried to; and the others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = self.tried = self.in_threads = 0
        answer, answer_now = Dispatcher.answer, Dispatcher.answer_now
        trios = threading.get_ident()

        async def counted(dispatcher: Dispatcher, number: int, request: AnyRequest) -> Answered:
            self.in_threads += threading.get_ident() != trios
            return await answer(dispatcher, number, request)

        def counted_now(dispatcher: Dispatcher, number: int, request: AnyRequest) -> Answered | None:
            answered = answer_now(dispatcher, number, request)
            self.tried += 1
            self.here += answered is not None
            return answered

        monkeypatch.setattr(Dispatcher, "answer", counted)
        monkeypatch.setattr(Dispatcher, "answer_now", counted_now)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


@pytest.mark.usefixtures("memory")
async def test_large_files_take_few_threads(tmp_path: Path, answers: Answers) -> None:
    data = noise(40 * MIB + 5)
    (tmp_path / "file").write_bytes(data)
    target = tmp_path / "got"
    async with connected(trio_ssh.LocalSFTPServer(tmp_path)) as sftp:
        await sftp.get("/file", target)
        assert target.read_bytes() == data
        assert answers.here >= 100
        assert answers.in_threads < 60
        answers.here = answers.in_threads = 0
        await sftp.put(target, "/back")
        assert answers.here >= 100
        assert answers.in_threads < 60
    assert (tmp_path / "back").read_bytes() == data


async def test_small_files_are_the_threads(tmp_path: Path, answers: Answers) -> None:
    (tmp_path / "file").write_bytes(noise(PREPARED_BYTES))
    async with connected(trio_ssh.LocalSFTPServer(tmp_path)) as sftp:
        await sftp.get("/file", tmp_path / "got")
        await sftp.put(tmp_path / "got", "/back")
    assert answers.here == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


async def test_what_would_wait_is_left_to_threads(
    tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second read would, and some of the others find only a part in memory."""
    data = noise(40 * MIB + 5)
    (tmp_path / "file").write_bytes(data)
    preadv = os.preadv
    asked = 0

    def reads(descriptor: int, views: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        nonlocal asked
        if flags != 1234:
            return preadv(descriptor, views, offset)
        asked += 1
        if asked % 2:
            raise BlockingIOError
        return preadv(descriptor, views if asked % 4 else [views[0][:1000]], offset)

    monkeypatch.setattr(in_memory, "_NOWAIT", 1234)
    monkeypatch.setattr(os, "preadv", reads)
    async with connected(trio_ssh.LocalSFTPServer(tmp_path)) as sftp:
        await sftp.get("/file", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == data
    assert 0 < answers.here < answers.tried
    assert answers.in_threads > answers.here


@pytest.mark.usefixtures("memory")
async def test_the_answers_are_those_of_threads(tmp_path: Path, answers: Answers) -> None:
    """At the end, behind it, of nothing, and from a handle that may not."""
    data = noise(3 * MIB + 5)
    (tmp_path / "file").write_bytes(data)
    async with serving(trio_ssh.LocalSFTPServer(tmp_path)) as hand:
        reading, writing = await hand.open("/file", R), await hand.open("/new", W)
        # Behind so much it is known where the file is.
        assert (await hand.ask(Read(reading, PREPARED_BYTES, 10), Data)).data == data[PREPARED_BYTES:][:10]
        await hand.do(Write(writing, PREPARED_BYTES, b"x"))
        tried = answers.tried
        for offset, length in ((0, 100), (3 * MIB, 5), (3 * MIB, 6), (3 * MIB + 4, 255 * KIB), (5, 255 * KIB)):
            assert (await hand.ask(Read(reading, offset, length), Data)).data == data[offset : offset + length]
        assert answers.here > 1
        assert answers.tried > tried
        for offset, length in ((3 * MIB + 5, 1), (2**62, 100), (0, 0)):
            for _ in range(10):
                reply = await hand.reply(await hand.start(Read(reading, offset, length)))
                assert isinstance(reply, Status)
                assert reply.code == StatusCode.EOF
        for packet in (Read(writing, 0, 10), Read(b"none", 0, 10), Write(reading, 0, b"x"), Read(reading, 2**63, 10)):
            assert (await hand.refusal(packet)).code != StatusCode.EOF, packet
        here = answers.here
        await hand.do(Write(writing, 7, b"abc"))
        assert answers.here == here + 1
        await hand.do(Close(reading))
        assert (await hand.refusal(Read(reading, 0, 10))).code == StatusCode.FAILURE
        await hand.do(Close(writing))
    assert (tmp_path / "new").read_bytes()[7:10] == b"abc"


@pytest.mark.usefixtures("memory")
async def test_requests_stay_in_order(tmp_path: Path, answers: Answers) -> None:
    """What threads and trio's thread do in turns: each read finds what was written before it."""
    async with serving(trio_ssh.LocalSFTPServer(tmp_path)) as hand:
        handle = await hand.open("/file", R | W)
        await hand.do(Write(handle, PREPARED_BYTES, b"x"))
        expected: dict[int, bytes] = {}
        packets: list[Packet] = []
        for number in range(50):
            data = bytes([number]) * 1000
            packets.append(Write(handle, 0, data))
            packets.append(Read(handle, 0, 1000))
            packets.append(Fstat(handle))
        numbers = [await hand.start(packet) for packet in packets]
        for number, packet in zip(numbers, packets, strict=True):
            reply = await hand.reply(number)
            if isinstance(packet, Read):
                assert isinstance(reply, Data)
                expected[number] = reply.data
    assert [data[0] for data in expected.values()] == list(range(50))
    assert answers.here
    assert answers.in_threads


@pytest.mark.usefixtures("memory")
async def test_a_full_disk_is_told(tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev

    def full(descriptor: int, parts: Sequence[memoryview], offset: int) -> int:
        if offset > 3 * MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwritev(descriptor, parts, offset)

    monkeypatch.setattr(os, "pwritev", full)
    async with serving(trio_ssh.LocalSFTPServer(tmp_path)) as hand:
        handle = await hand.open("/file", W)
        await hand.do(Write(handle, PREPARED_BYTES, b"x"))
        await hand.do(Write(handle, 3 * MIB, b"x"))
        refused = await hand.refusal(Write(handle, 3 * MIB + 1, b"x"))
        assert os.strerror(errno.ENOSPC) in refused.text
    assert answers.here == 2


@pytest.mark.usefixtures("memory")
async def test_others_have_their_turn(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(noise(32 * MIB))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with connected(trio_ssh.LocalSFTPServer(tmp_path)) as sftp, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await sftp.getfo("/file", Nowhere())
        assert turns > 32
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("compressions", [["none"], ["zlib@openssh.com"]])
async def test_what_compresses_well_comes_to_its_end(compressions: list[str], tmp_path: Path, answers: Answers) -> None:
    """All that was answered is sent at once then, and nobody would call for the rest."""
    data = bytes(range(256)) * (20 * MIB // 256)
    (tmp_path / "file").write_bytes(data)
    server = trio_ssh.LocalSFTPServer(tmp_path)
    async with connected(server, compressions=compressions) as sftp:
        await sftp.get("/file", tmp_path / "got")
        await sftp.put(tmp_path / "got", "/back")
    assert (tmp_path / "back").read_bytes() == data
    assert answers.here > 50


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("is_writing", [False, True])
async def test_small_requests_leave_others_their_turn(is_writing: bool, tmp_path: Path, answers: Answers) -> None:
    """They are counted as well as their bytes: a client may send thousands in one piece."""
    (tmp_path / "file").write_bytes(noise(3 * MIB))
    most = gap = turns = 0
    async with serving(trio_ssh.LocalSFTPServer(tmp_path)) as hand, trio.open_nursery() as nursery:
        handle = await hand.open("/file", R | OpenFlags.WRITE)
        await hand.ask(Read(handle, PREPARED_BYTES, 1), Data)
        await hand.do(Write(handle, PREPARED_BYTES, b"x"))

        async def count() -> None:
            nonlocal most, gap, turns
            while True:
                turns += 1
                most, gap = max(most, answers.here - gap), answers.here
                await trio.lowlevel.checkpoint()

        nursery.start_soon(count)
        packet = Write(handle, 5, b"x") if is_writing else Read(handle, 5, 1)
        await hand.send(b"".join(packet.frame(number) for number in range(2000)))
        for _ in range(2000):
            await hand.packet()
        nursery.cancel_scope.cancel()
    assert answers.here > 1900
    assert most <= 300, "eight rounds of the writer, of 32 each"


@pytest.mark.usefixtures("memory")
async def test_a_mixture_is_left_to_one_thread(
    tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(noise(3 * MIB))
    (tmp_path / "small").write_bytes(noise(MIB))
    started = 0
    start = ThreadLink._start

    def counted(link: ThreadLink) -> None:
        nonlocal started
        started += 1
        start(link)

    async with serving(trio_ssh.LocalSFTPServer(tmp_path)) as hand:
        handles = [await hand.open("/large"), await hand.open("/small")]
        await hand.ask(Read(handles[0], PREPARED_BYTES, 1), Data)
        monkeypatch.setattr(ThreadLink, "_start", counted)
        await hand.send(b"".join(Read(handles[number % 2], 0, 10).frame(number) for number in range(1000)))
        for _ in range(1000):
            await hand.packet()
    assert started < 200


class Nowhere:
    """A file object that keeps nothing."""

    async def write(self, data: object) -> None:
        await trio.lowlevel.checkpoint()
