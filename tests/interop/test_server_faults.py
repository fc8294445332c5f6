"""Our server where a client breaks off, is killed, stops, or is none."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
import trio

import trio_ssh
from tests.interop.peers import LetsAnyoneIn, Ssh, eventually, is_alive

pytestmark = pytest.mark.interop


class Watched(LetsAnyoneIn):
    """Counts the sessions that run."""

    running = 0

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        Watched.running += 1
        try:
            return await super().handle_session(process)
        finally:
            Watched.running -= 1


@pytest.fixture(autouse=True)
def no_session_is_left() -> Iterator[None]:
    Watched.running = 0
    yield
    assert Watched.running == 0


async def start(ssh: Ssh, *arguments: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        ssh.command(*arguments),
        env=ssh.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


async def kill(process: trio.Process) -> None:
    process.kill()
    await process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.aclose()
    await process.stdout.aclose()


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
async def test_a_client_that_is_killed_ends_its_silent_command(ssh: Ssh, nursery: trio.Nursery, terminal: str) -> None:
    await ssh.serve(nursery, Watched)
    process = await start(ssh, terminal, "server", "echo $$; exec sleep 3600")
    assert process.stdout is not None
    pid = int(await process.stdout.receive_some())
    assert is_alive(pid)
    await kill(process)
    await eventually(lambda: Watched.running == 0)
    assert not is_alive(pid)


async def test_a_client_that_is_killed_amid_a_download_ends_its_command(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Watched)
    process = await start(ssh, "-T", "server", "exec cat /dev/zero")
    assert process.stdout is not None
    await process.stdout.receive_some()
    await kill(process)
    await eventually(lambda: Watched.running == 0)


async def test_a_client_that_is_killed_amid_an_upload_ends_its_command(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Watched)
    process = await start(ssh, "-T", "server", "echo; exec cat > /dev/null")
    assert process.stdout is not None
    assert process.stdin is not None
    await process.stdout.receive_some()
    for _ in range(100):
        await process.stdin.send_all(bytes(100_000))
    await kill(process)
    await eventually(lambda: Watched.running == 0)


async def test_a_client_that_is_stopped_stops_its_command_and_no_one_else(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Watched)
    process = await start(ssh, "-T", "server", "exec cat /dev/zero")
    assert process.stdout is not None
    await process.stdout.receive_some()
    process.send_signal(signal.SIGSTOP)
    done = await ssh.run("server", "echo fine")
    assert (done.stdout, done.returncode) == (b"fine\n", 0)
    process.send_signal(signal.SIGCONT)
    seen = 0
    while seen < 10_000_000:
        seen += len(await process.stdout.receive_some())
    await kill(process)
    await eventually(lambda: Watched.running == 0)


async def test_closing_one_of_several_sessions_ends_its_command_alone(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Watched)
    shared = ["-o", f"ControlPath={ssh.folder}/master"]
    assert (await ssh.run("-M", "-f", "-N", *shared, "server")).returncode == 0
    try:
        sessions = [await start(ssh, *shared, "-T", "server", "echo $$; exec sleep 3600") for _ in range(2)]
        pids = []
        for session in sessions:
            assert session.stdout is not None
            pids.append(int(await session.stdout.receive_some()))
        await kill(sessions[0])
        # The master tells it when it next has something else to tell.
        assert (await ssh.run(*shared, "server", "true")).returncode == 0
        await eventually(lambda: not is_alive(pids[0]))
        assert is_alive(pids[1])
        await kill(sessions[1])
    finally:
        with trio.CancelScope(shield=True):
            await ssh.run(*shared, "-O", "exit", "server")
    await eventually(lambda: Watched.running == 0)


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"SSH-1.5-old\r\n", b"\0" * 300],
)
async def test_who_speaks_no_ssh_is_hung_up_on(ssh: Ssh, nursery: trio.Nursery, said: bytes) -> None:
    await ssh.serve(nursery)
    async with await trio.open_tcp_stream("127.0.0.1", ssh.port) as stream:
        await stream.send_all(said)
        heard = b""
        try:
            while chunk := await stream.receive_some():
                heard += chunk
        except trio.BrokenResourceError:
            pass  # a reset, for what was sent and not read
        assert heard.startswith(b"SSH-2.0-")
    assert (await ssh.run("server", "true")).returncode == 0


async def test_who_says_nothing_is_hung_up_on_in_time(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, login_timeout=1)
    async with await trio.open_tcp_stream("127.0.0.1", ssh.port) as stream:
        heard = b""
        while chunk := await stream.receive_some():
            heard += chunk
        assert heard.startswith(b"SSH-2.0-")
    # Those who are logged in have all the time that they want.
    assert (await ssh.run("server", "sleep 1.1")).returncode == 0


async def test_a_handler_that_fails_ends_its_session_alone(
    ssh: Ssh, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    class Server(Watched):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            if process.command == "fail":
                await process.stdout.write("so far")
                raise RuntimeError("a mistake of the server's author")
            return await super().handle_session(process)

    await ssh.serve(nursery, Server)
    shared = ["-o", f"ControlPath={ssh.folder}/master"]
    assert (await ssh.run("-M", "-f", "-N", *shared, "server")).returncode == 0
    try:
        failed = await ssh.run(*shared, "server", "fail")
        assert (failed.stdout, failed.returncode) == (b"so far", 255)
        fine = await ssh.run(*shared, "server", "echo fine")
        assert (fine.stdout, fine.returncode) == (b"fine\n", 0)
    finally:
        with trio.CancelScope(shield=True):
            await ssh.run(*shared, "-O", "exit", "server")
    assert "a mistake of the server's author" in caplog.text
    caplog.clear()


async def test_a_server_that_ends_says_goodbye(ssh: Ssh) -> None:
    async with trio.open_nursery() as nursery:
        await ssh.serve(nursery, Watched)
        process = await start(ssh, "-T", "server", "echo $$; exec sleep 3600")
        assert process.stdout is not None
        pid = int(await process.stdout.receive_some())
        nursery.cancel_scope.cancel()
    assert not is_alive(pid)
    with trio.fail_after(10):
        assert await process.wait() == 255
    await kill(process)


async def test_descriptors_and_processes_are_given_back(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Watched)

    async def call(*arguments: str) -> None:
        assert (await ssh.run(*arguments)).returncode == 0

    await call("server", "true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await call("server", "true")
        await call("-tt", "server", "true")
    await eventually(lambda: len(os.listdir("/proc/self/fd")) == before)
