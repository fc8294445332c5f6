"""Where a command's input comes from and where its output goes: files and streams of this side."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, MIB, OpenDoor, echo
from trio_ssh.testing import open_memory_client


def client_of(
    handle: Callable[[trio_ssh.ServerProcess], Awaitable[int | None]],
) -> AbstractAsyncContextManager[trio_ssh.SSHClient]:
    return open_memory_client(OpenDoor(handle), host_key=HOST_KEY)


async def say_both(process: trio_ssh.ServerProcess) -> int:
    await process.stdout.write("out 1\n")
    await process.stderr.write("err 2\n")
    await process.stdout.write("out 3\n")
    return 0


class Raw(io.BytesIO):
    """Takes a part of what it is given, as raw files may."""

    def write(self, data: object, /) -> int:
        return super().write(memoryview(data)[:1000])  # type: ignore[arg-type]


class Silent:
    """A class of somebody's own, which doesn't say how much it has written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: memoryview) -> None:
        self.data += data

    def flush(self) -> None:
        pass


async def test_files_are_read_and_written(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 1)
    (tmp_path / "in").write_bytes(data)
    async with client_of(echo) as client:
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
            done = await client.run_process("cat", stdin=source, stdout=target)
            assert (tmp_path / "out").read_bytes() == data, "flushed before it returns"
            assert not source.closed
            assert not target.closed
    assert done.stdout is None


async def test_what_is_like_a_file_will_do() -> None:
    data = os.urandom(MIB)
    raw, silent = Raw(), Silent()
    async with client_of(echo) as client:
        await client.run_process("cat", stdin=io.BytesIO(data), stdout=raw)
        await client.run_process("cat", stdin=data, stdout=silent)
    assert raw.getvalue() == silent.data == data


async def test_a_pipe_is_read_as_it_comes() -> None:
    """A program that writes and waits for what becomes of it must not wait for a full piece."""
    reading, writing = os.pipe()
    heard = trio.Event()

    async def listen(process: trio_ssh.ServerProcess) -> int:
        assert await process.stdin.receive_some() == b"a few"
        heard.set()
        return len(await process.stdin.read())

    async with client_of(listen) as client, trio.open_nursery() as nursery:
        with io.BufferedReader(io.FileIO(reading, "rb")) as source:
            done: list[trio_ssh.CompletedProcess] = []

            async def run() -> None:
                done.append(await client.run_process("listen", stdin=source, check=False))

            nursery.start_soon(run)
            os.write(writing, b"a few")
            with trio.fail_after(5):
                await heard.wait()
            os.write(writing, b"more")
            os.close(writing)
            with trio.fail_after(5):
                while not done:  # noqa: ASYNC110 -- the other task is at its end
                    await trio.sleep(0.001)
    assert done[0].returncode == 4


async def test_streams_are_read_and_written() -> None:
    feed, source = trio.testing.memory_stream_one_way_pair()
    target, result = trio.testing.memory_stream_one_way_pair()
    async with client_of(echo) as client, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.run_process("cat", stdin=source, stdout=target))
        await feed.send_all(b"there and back")
        assert await result.receive_some() == b"there and back"
        await feed.aclose()


async def test_one_command_s_output_is_another_s_input() -> None:
    async def upper(process: trio_ssh.ServerProcess) -> int:
        async for line in process.stdin.lines():
            await process.stdout.write(line.upper() if process.command == "upper" else line[::-1].strip() + "\n")
        return 0

    async with client_of(upper) as client, await client.open_process("upper") as first:
        await first.stdin.write("abc\n")
        await first.stdin.aclose()
        done = await client.run_process("reverse", stdin=first.stdout, capture_stdout=True)
    assert done.stdout == b"CBA\n"


async def test_stderr_may_come_with_stdout(tmp_path: Path) -> None:
    async with client_of(say_both) as client:
        done = await client.run_process("x", stderr=subprocess.STDOUT, capture_stdout=True)
        assert (done.stdout, done.stderr) == (b"out 1\nerr 2\nout 3\n", None)
        with (tmp_path / "log").open("wb") as log:
            await client.run_process("x", stdout=log, stderr=subprocess.STDOUT)
        assert (tmp_path / "log").read_bytes() == b"out 1\nerr 2\nout 3\n"


async def test_either_may_go_nowhere_or_to_a_file(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with client_of(say_both) as client:
        done = await client.run_process("x", stdout=subprocess.DEVNULL, capture_stderr=True)
        assert (done.stdout, done.stderr) == (None, b"err 2\n")
        await client.run_process("x", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with (tmp_path / "err").open("wb") as file:
            await client.run_process("x", stdout=subprocess.DEVNULL, stderr=file)
        assert (tmp_path / "err").read_bytes() == b"err 2\n"
    assert capfdbinary.readouterr() == (b"", b"")


async def test_what_goes_nowhere_holds_up_nothing() -> None:
    async def pour(process: trio_ssh.ServerProcess) -> int:
        for _ in range(64):
            await process.stdout.send_all(bytes(MIB))
            await process.stderr.send_all(bytes(MIB))
        return 0

    with trio.fail_after(30):
        async with client_of(pour) as client:
            await client.run_process("pour", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_a_full_disk_ends_the_command() -> None:
    signals: list[str] = []

    class Full(io.RawIOBase):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def talk(process: trio_ssh.ServerProcess) -> int | None:
        await process.stdout.write("something")
        async for name in process.signals:
            signals.append(name)
            process.exit_signal(name)
            break
        return None

    async with client_of(talk) as client:
        with pytest.raises(OSError, match="No space left"):
            await client.run_process("talk", stdout=Full())
    assert signals == ["TERM"]


async def test_a_command_that_reads_no_more_ends_the_reading() -> None:
    """Whoever writes to the pipe may never write again."""
    reading, writing = os.pipe()

    async def enough(process: trio_ssh.ServerProcess) -> int:
        await process.stdin.receive_some()
        return 0

    async with client_of(enough) as client:
        with io.FileIO(reading, "rb") as source:
            os.write(writing, b"first")
            with trio.fail_after(5):
                await client.run_process("head", stdin=source, stdout=subprocess.DEVNULL)
            os.close(writing)  # lets the thread go


class LooksLikeStream:
    """Has a stream's methods, and is none to trio."""

    receive_some = send_all = None


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"stdin": sys.stdin}, TypeError, "stdin is a text file: open it as binary, by 'rb', or pass its `buffer`"),
        ({"stdin": io.StringIO("x")}, TypeError, "stdin is a text file"),
        ({"stdin": 7}, TypeError, "stdin is bytes, a binary file or a stream, not 7"),
        ({"stdin": object()}, TypeError, "stdin has a `read` for bytes, and object has none"),
        ({"stdin": LooksLikeStream()}, TypeError, "stdin has a `read` for bytes, and LooksLikeStream has none"),
        ({"stdout": LooksLikeStream()}, TypeError, "stdout has a `write` for bytes, and LooksLikeStream has none"),
        ({"stdout": io.StringIO()}, TypeError, "stdout is a text file"),
        ({"stdout": subprocess.PIPE}, TypeError, "stdout is not -1: pass capture_stdout=True"),
        ({"stdout": subprocess.STDOUT}, TypeError, "stdout is not -2: pass a binary file or a stream"),
        ({"stderr": object()}, TypeError, "stderr has a `write` for bytes, and object has none"),
        ({"stdout": io.BytesIO(), "capture_stdout": True}, ValueError, "either capture_stdout=True returns it, or"),
        ({"stderr": subprocess.STDOUT, "capture_stderr": True}, ValueError, "either capture_stderr=True"),
    ],
)
async def test_what_is_neither_a_file_nor_a_stream_is_told(
    arguments: dict[str, object], kind: type[Exception], text: str
) -> None:
    seen: list[object] = []

    async def handle(process: trio_ssh.ServerProcess) -> int:
        seen.append(process)
        return 0

    async with client_of(handle) as client:
        with pytest.raises(kind, match=text):
            await client.run_process("x", **arguments)  # type: ignore[arg-type]
    assert seen == []


async def test_asynchronous_files_are_read_and_written(tmp_path: Path) -> None:
    data = os.urandom(MIB)
    (tmp_path / "in").write_bytes(data)
    async with (
        client_of(echo) as client,
        await trio.open_file(tmp_path / "in", "rb") as source,
        await trio.open_file(tmp_path / "out", "wb") as target,
        await trio.open_file(tmp_path / "in") as text,
    ):
        await client.run_process("x", stdin=source, stdout=target)
        assert (tmp_path / "out").read_bytes() == data
        with pytest.raises(TypeError, match="stdin is a text file"):
            await client.run_process("x", stdin=text)  # type: ignore[arg-type]


class Broken(trio.abc.ReceiveStream):
    """Gives something, and breaks."""

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = None
        self._next = error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error
        self._error = self._next
        return b"data"

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    "error",
    [trio.BrokenResourceError("there"), trio.ClosedResourceError("there"), trio_ssh.ConnectionLost("another one")],
)
async def test_a_source_that_breaks_is_told_and_ends_the_command(error: Exception) -> None:
    signals: list[str] = []

    async def note(process: trio_ssh.ServerProcess) -> int:
        async for name in process.signals:
            signals.append(name)
            return 1
        return 0

    async with client_of(note) as client:
        with trio.fail_after(5), pytest.raises(type(error)) as raised:
            await client.run_process("x", stdin=Broken(error), capture_stdout=True)
        assert raised.value is error
    assert signals == ["TERM"]


async def test_where_nothing_is_written_no_thread_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own stderr is not flushed for nothing: a test's clock doesn't wait for threads."""

    async def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a thread")

    async with client_of(echo) as client:
        monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
        done = await client.run_process("x", stdin=b"out", capture_stdout=True)
        assert done.stdout == b"out"
