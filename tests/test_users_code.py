"""Users' handlers, checks and blocks: what they raise, from which thread they call, and what that may end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, OpenDoor
from trio_ssh.core.mux import Mux
from trio_ssh.runtime.block import sort_out
from trio_ssh.testing import MemorySFTPServer, memory_pair, open_memory_client


async def leave() -> NoReturn:
    """Call sys.exit as it comes out of a user's own nursery: in a group."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        sys.exit(3)
    raise AssertionError("nobody gets here")


class Leaving(OpenDoor):
    """Calls sys.exit in a nursery, in one of its methods.

    Args:
        where: in which.
    """

    def __init__(self, where: str) -> None:
        super().__init__(self._handle_one, self._handle_other)
        self._where = where

    async def _handle_one(self, process: trio_ssh.ServerProcess) -> int:
        if self._where == "handler":
            await leave()
        return 0

    async def _handle_other(self, channel: trio_ssh.Channel) -> None:
        await leave()

    async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        if self._where == "auth":
            await leave()
        return trio_ssh.AUTH_SUCCESSFUL

    async def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
        if self._where == "exec":
            await leave()
        return True


@pytest.mark.parametrize("where", ["handler", "auth", "exec", "channel"])
async def test_sys_exit_in_a_nursery_of_a_user_s_ends_what_called_it(where: str) -> None:
    """It arrives in a group, and must end no more than it does without one."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, partial(Leaving, where), 0, host="127.0.0.1", host_keys=[HOST_KEY])
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known = trio_ssh.HostKeys()
        known.add(f"[127.0.0.1]:{port}", None, HOST_KEY.public_key)
        connect = partial(trio_ssh.connect, "127.0.0.1", port, username="x", known_hosts=known, config=None)
        for _ in range(2):  # the second finds the server there
            if where == "auth":
                with pytest.raises(trio_ssh.AuthenticationException):
                    await connect(allow_agent=False, look_for_keys=False).__aenter__()
                continue
            async with connect(allow_agent=False, look_for_keys=False) as client:
                if where == "exec":
                    with pytest.raises(trio_ssh.RequestRefused):
                        await client.run_process("x")
                elif where == "channel":
                    stream = await client.open_tcp_stream("host", 1)
                    assert await stream.receive_some() == b""
                else:
                    assert (await client.run_process("x", check=False)).returncode == 3
        nursery.cancel_scope.cancel()


async def test_sys_exit_where_a_server_is_made_costs_one_client() -> None:
    made = 0

    def make() -> trio_ssh.ServerInterface:
        nonlocal made
        made += 1
        if made == 1:
            sys.exit(3)
        return OpenDoor()

    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, make, 0, host="127.0.0.1", host_keys=[HOST_KEY])
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        for is_served in (False, True):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                assert (await stream.receive_some(4) == b"SSH-") is is_served
        nursery.cancel_scope.cancel()


async def test_what_a_cancelled_handler_s_nursery_raises_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def clean_up_badly(process: trio_ssh.ServerProcess) -> int:
        async def child() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("in its end")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await trio.sleep_forever()
        return 0

    ours, theirs = memory_pair()
    door = OpenDoor(clean_up_badly)
    with trio.CancelScope() as serving:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio_ssh.serve_stream, theirs, door, host_keys=[HOST_KEY]))
            async with trio_ssh.SSHClient() as client:
                await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, config=None)
                await client.open_process("x")
                await trio.testing.wait_all_tasks_blocked()
                serving.cancel()
    assert serving.cancelled_caught
    assert [str(error.exceptions[0]) for error in door.failures if isinstance(error, ExceptionGroup)] == ["in its end"]
    assert "the handler of" in caplog.text


@pytest.mark.parametrize("wrong", [ValueError("wrong"), SystemExit(1)])
async def test_a_hook_that_fails_in_turn_is_logged(wrong: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    class Door(OpenDoor):
        def handler_failed(self, error: Exception) -> None:
            raise wrong

    async def fail(process: trio_ssh.ServerProcess) -> int:
        if process.command == "fail":
            raise KeyError("first")
        return 0

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, Door(fail), host_keys=[HOST_KEY]))
        async with trio_ssh.SSHClient() as client:
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, config=None)
            with pytest.raises(trio_ssh.ProcessError):
                await client.run_process("fail")
            await client.run_process("succeed")  # the connection goes on
    assert "handler_failed failed" in caplog.text


async def test_a_hook_that_would_have_to_be_awaited_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Door(OpenDoor):
        async def logged_in(self) -> None:  # type: ignore[override]
            raise AssertionError("nobody awaits it")

    async with open_memory_client(Door(), host_key=HOST_KEY):
        pass
    assert "logged_in of" in caplog.text
    assert "no coroutine function" in caplog.text


def test_what_comes_out_of_a_user_s_code_is_told_apart() -> None:
    value, exited, interrupt = ValueError(), SystemExit(4), KeyboardInterrupt()
    assert sort_out(value) == (value, None, None)
    assert sort_out(exited) == (None, exited, None)
    assert sort_out(interrupt) == (None, None, interrupt)
    mixed = BaseExceptionGroup("mixed", [value, BaseExceptionGroup("deeper", [exited, interrupt])])
    failure, found, rest = sort_out(mixed)
    assert isinstance(failure, ExceptionGroup)
    assert failure.exceptions == (value,)
    assert found is exited
    assert isinstance(rest, BaseExceptionGroup)
    assert rest.subgroup(KeyboardInterrupt) is not None
    assert rest.subgroup(SystemExit) is None


async def test_a_user_s_own_group_leaves_a_block_whole() -> None:
    mine = ExceptionGroup("mine", [ValueError("one"), KeyError("two")])
    with pytest.RaisesGroup(ValueError, KeyError):
        async with open_memory_client(OpenDoor(), host_key=HOST_KEY):
            raise mine

    async def use_agent(process: trio_ssh.ServerProcess) -> int:
        async with trio_ssh.agent_socket(process):
            raise mine

    with pytest.RaisesGroup(ValueError, KeyError):  # as a handler's failure leaves this block
        async with open_memory_client(OpenDoor(use_agent), host_key=HOST_KEY) as client:
            await client.run_process("x", check=False)

    class Breaking(trio.abc.ReceiveStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise mine

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        with pytest.RaisesGroup(ValueError, KeyError):
            await client.run_process("x", stdin=Breaking(), capture_stdout=True)


# -- Ctrl-C


def test_ctrl_c_in_the_middle_of_a_read_strikes_where_the_user_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    on_data, strikes = Mux.on_data, 0

    def interrupted(mux: Mux, plain: bytes, end: int) -> None:
        nonlocal strikes
        strikes += 1
        if strikes == 1:
            signal.raise_signal(signal.SIGINT)
        on_data(mux, plain, end)

    async def main() -> None:
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio_ssh.serve_stream, theirs, OpenDoor(), host_keys=[HOST_KEY]))
            async with trio_ssh.SSHClient() as client:
                await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, config=None)
                process = await client.open_process("echo")
                monkeypatch.setattr(Mux, "on_data", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    await process.stdin.send_all(b"x")
                    while True:
                        await process.stdout.receive_some()
                # What was interrupted is whole, and the connection with it.
                await process.stdin.send_all(b"y")
                with trio.fail_after(5):
                    assert (await process.stdout.receive_some()).endswith((b"x", b"y"))
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert strikes >= 1


async def test_a_task_that_ctrl_c_ends_leaves_nobody_waiting() -> None:
    async def interrupt() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
            transport = client.transport
            transport._engine.spawn(interrupt, name="interrupted")
            with (
                trio.CancelScope(shield=True),
                trio.fail_after(5),
                pytest.raises(trio_ssh.ConnectionLost, match="Ctrl-C"),
            ):
                await client.run_process("x")
    assert not transport.is_active()


# -- threads


async def test_a_connection_is_no_other_thread_s() -> None:
    door = OpenDoor()
    door.subsystems = {"sftp": MemorySFTPServer()}
    async with open_memory_client(door, host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        process = await client.open_process("x")
        for call in (
            lambda: process.resize_pty(80, 24),
            lambda: process.send_signal("TERM"),
            lambda: client.transport.set_keepalive(3),
            lambda: trio.run(client.run_process, "x"),
            lambda: trio.run(process.stdin.send_all, b"x"),
            lambda: trio.run(process.stdout.receive_some),
            lambda: trio.run(process.stderr.read),
            lambda: trio.run(sftp.stat, "/"),
        ):
            with pytest.raises(RuntimeError, match=r"lives in another trio\.run"):
                await trio.to_thread.run_sync(call)
        await process.stdin.send_all(b"here it works")
        assert await process.stdout.receive_some() == b"here it works"


# -- misuse


async def test_a_second_reader_does_not_tear_a_line() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        await process.stdin.send_all(b"par")
        async with trio.open_nursery() as nursery:
            lines: list[str] = []

            async def read_one() -> None:
                lines.append(await process.stdout.read_line())

            nursery.start_soon(read_one)
            await trio.testing.wait_all_tasks_blocked()
            for read in (process.stdout.receive_some, process.stdout.read, process.stdout.read_line):
                with pytest.raises(trio.BusyResourceError, match="another task is reading this stream"):
                    await read()
            await process.stdin.send_all(b"tial\n")
        assert lines == ["partial\n"]
        stdin, stdout, _ = await client.exec_command("x")
        await stdin.write("par")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stdout.readline)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await stdout.read(2)
            await stdin.write("tial\n")


async def test_what_is_closed_is_used_no_more() -> None:
    async def use_after_close(process: trio_ssh.ServerProcess) -> int:
        await process.stderr.aclose()
        for call in (process.stderr.write, process.stderr.send_all):
            with pytest.raises(trio.ClosedResourceError):
                await call(b"late")
        with pytest.raises(trio.ClosedResourceError):
            await process.stderr.wait_send_all_might_not_block()
        await process.stderr.aclose()
        await process.stdout.write("on time")
        return 0

    async with open_memory_client(OpenDoor(use_after_close), host_key=HOST_KEY) as client:
        _, stdout, stderr = await client.exec_command("x")
        await stderr.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stderr.read()
        assert await stdout.read() == b"on time"
        await stdout.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stdout.readline()


# -- time


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("argument", ["key_filename", "known_hosts", "config"])
async def test_a_file_that_hangs_holds_up_nobody(argument: str, tmp_path: Path) -> None:
    """As on a network's disk that is gone: the thread stays behind, and whoever has set a limit is told in time."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ours, _ = memory_pair()
    try:
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
            async with trio_ssh.connect("host", sock=ours, **{"config": None, argument: str(fifo)}):  # type: ignore[arg-type]
                pass
    finally:
        os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))  # lets the thread go
        with contextlib.suppress(OSError):
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
