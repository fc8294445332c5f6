"""Remote commands, as trio's users and paramiko's expect them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB, Accepting, OpenDoor, echo, sleep
from trio_ssh.testing import delayed_pair, open_memory_client

Handler = Callable[[trio_ssh.ServerProcess], Awaitable[int | None]]


def client_of(handle: Handler) -> open_memory_client:
    return open_memory_client(OpenDoor(handle), host_key=HOST_KEY)


async def obey(process: trio_ssh.ServerProcess) -> int | None:
    """End by the first signal that the client sends, as a command does that catches none."""
    async for name in process.signals:
        process.exit_signal(name, message="as you wish\x1b[2J")
        return None
    return None


class Stubborn:
    """Runs until it is told to end by a signal that it can't refuse.

    Attributes:
        signals: what came, and when.
    """

    def __init__(self, *ends_by: str) -> None:
        self._ends_by = ends_by
        self.signals: list[tuple[str, float]] = []

    async def __call__(self, process: trio_ssh.ServerProcess) -> int | None:
        async for name in process.signals:
            self.signals.append((name, trio.current_time()))
            if name in self._ends_by:
                process.exit_signal(name)
                return None
        return None


# -- running to the end


async def greet(process: trio_ssh.ServerProcess) -> int:
    await process.stdout.write(f"stdout of {process.command}")
    await process.stderr.write("stderr \u2603")
    return 3 if process.command == "fail" else 0


async def test_output_and_status_come_back() -> None:
    async with client_of(greet) as client:
        done = await client.run_process("hello", capture_stdout=True, capture_stderr=True)
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.args, done.returncode, done.exit_signal) == ("hello", 0, None)
    assert (done.stdout, done.stderr) == (b"stdout of hello", "stderr \u2603".encode())
    done.check_returncode()


async def test_what_is_not_captured_is_passed_on(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with client_of(greet) as client:
        done = await client.run_process("hello")
        assert (done.stdout, done.stderr) == (None, None)
        done = await client.run_process("hello", capture_stderr=True)
        assert done.stderr == "stderr \u2603".encode()
    assert capfdbinary.readouterr() == (b"stdout of hello" * 2, "stderr \u2603".encode())


async def test_output_is_passed_on_to_whatever_stands_for_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    async with client_of(greet) as client:
        await client.run_process("hello")
    assert capsys.readouterr() == ("stdout of hello", "stderr \u2603")


async def test_a_sequence_is_quoted_for_the_shell() -> None:
    async with client_of(greet) as client:
        done = await client.run_process(["ls", "-l", "/srv/my files", "it's"], capture_stdout=True, capture_stderr=True)
    assert done.stdout == b"""stdout of ls -l '/srv/my files' 'it'"'"'s'"""
    assert done.args == ["ls", "-l", "/srv/my files", "it's"]


async def test_a_failure_is_an_exception_that_tells_what_it_said() -> None:
    async with client_of(greet) as client:
        with pytest.raises(
            trio_ssh.ProcessError, match="'fail' ended with exit status 3; its stderr ends: stderr"
        ) as raised:
            await client.run_process("fail", capture_stdout=True, capture_stderr=True)
        error = raised.value
        assert isinstance(error, subprocess.CalledProcessError)
        assert (error.returncode, error.cmd, error.stdout) == (3, "fail", b"stdout of fail")
        done = await client.run_process("fail", check=False, capture_stdout=True, capture_stderr=True)
        assert done.returncode == 3


async def test_a_signal_gives_a_negative_return_code(autojump_clock: trio.testing.MockClock) -> None:
    async def die(process: trio_ssh.ServerProcess) -> int:
        return -int(process.command or 0)

    async with client_of(die) as client:
        done = await client.run_process(
            str(signal.SIGSEGV.value), check=False, capture_stdout=True, capture_stderr=True
        )
        assert (done.returncode, done.exit_signal) == (-signal.SIGSEGV, "SEGV")
        with pytest.raises(trio_ssh.ProcessError, match="was ended by signal KILL") as raised:
            await client.run_process("9", capture_stdout=True, capture_stderr=True)
        assert raised.value.exit_signal == "KILL"
        done = await client.run_process("100", check=False, capture_stdout=True, capture_stderr=True)
        assert done.returncode == 255, "the handler named no signal at all"


async def test_a_signal_that_we_do_not_know_is_still_no_success() -> None:
    async def die(process: trio_ssh.ServerProcess) -> None:
        process.exit_signal("SIGodd@example.com", core_dumped=True, message="it\x1b[31m was odd")

    async with client_of(die) as client:
        with pytest.raises(trio_ssh.ProcessError, match=r"ended by signal odd@example\.com") as raised:
            await client.run_process("x", capture_stdout=True, capture_stderr=True)
        assert raised.value.returncode == -255
        assert raised.value.exit_message == r"it\x1b[31m was odd"
        process = await client.open_process("x")
        report = await process.channel.recv_exit_report()
        assert report.core_dumped
        assert await process.channel.recv_exit_status() == -1


async def test_a_channel_that_is_closed_instead_of_an_answer_is_broken() -> None:
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY) as client, trio.open_nursery() as nursery:

        async def hang_up() -> None:
            await (await server.transport.accept()).aclose()

        nursery.start_soon(hang_up)
        with pytest.raises(trio.BrokenResourceError, match="the peer closed this channel"):
            await client.run_process("x", capture_stdout=True, capture_stderr=True)


async def test_a_command_that_ends_without_a_status_raises() -> None:
    async def end(process: trio_ssh.ServerProcess) -> int:
        await process.channel.aclose()
        return 0

    async with client_of(end) as client:
        with pytest.raises(trio_ssh.ProcessError, match="ended without an exit status") as raised:
            await client.run_process("x", capture_stdout=True, capture_stderr=True)
        assert raised.value.returncode is None
        done = await client.run_process("x", check=False, capture_stdout=True, capture_stderr=True)
        assert done.returncode is None
        with pytest.raises(trio_ssh.ProcessError, match="'x' ended without an exit status"):
            done.check_returncode()


async def test_a_refused_command_says_so() -> None:
    class Refusing(OpenDoor):
        def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
            return False

    async with open_memory_client(Refusing(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.RequestRefused, match="refused the request 'exec'"):
            await client.run_process("x")
        with pytest.raises(trio_ssh.RequestRefused, match=r"'env'.*the variable LANG"):
            await client.run_process("x", env={"LANG": "C"})
        with pytest.raises(trio_ssh.RequestRefused, match=r"'pty-req'.*no terminal"):
            await client.run_process("x", term="xterm")
        await trio.testing.wait_all_tasks_blocked()
        assert repr(client).endswith(", 0 channels>")


async def test_environment_and_terminal_reach_the_command() -> None:
    class Granting(OpenDoor):
        def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            return True

        def check_channel_pty_request(self, channel: trio_ssh.Channel, term: str, *sizes: object) -> bool:
            return True

    async def show(process: trio_ssh.ServerProcess) -> int:
        assert process.pty is not None
        await process.stdout.write(f"{process.environment} {process.pty.term} {process.pty.width}")
        return 0

    async with open_memory_client(Granting(show), host_key=HOST_KEY) as client:
        done = await client.run_process("x", env={"A": "1", "B": "2"}, term="xterm", capture_stdout=True)
        assert done.stdout == b"{'A': '1', 'B': '2'} xterm 80"
        done = await client.run_process("x", term=trio_ssh.Pty("vt220", width=132), capture_stdout=True)
        assert done.stdout == b"{} vt220 132"


# -- much data


async def test_stdin_stdout_and_stderr_do_not_hold_up_each_other() -> None:
    async def three_ways(process: trio_ssh.ServerProcess) -> int:
        async def send(stream: trio.abc.SendStream, byte: bytes) -> None:
            for _ in range(12):
                await stream.send_all(byte * (512 * KIB))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, process.stdout, b"o")
            nursery.start_soon(send, process.stderr, b"e")
            received = sum([len(chunk) async for chunk in process.stdin])
        return 0 if received == 6 * MIB else 1

    async with client_of(three_ways) as client:
        with trio.fail_after(20):
            done = await client.run_process("x", stdin=b"i" * (6 * MIB), capture_stdout=True, capture_stderr=True)
        assert done.stdout == b"o" * (6 * MIB)
        assert done.stderr == b"e" * (6 * MIB)


async def test_a_command_that_writes_before_it_reads_gets_all_of_its_input() -> None:
    async def write_then_read(process: trio_ssh.ServerProcess) -> int:
        await process.stdout.send_all(bytes(6 * MIB))
        return 0 if len(await process.stdin.read()) == 6 * MIB else 1

    async with client_of(write_then_read) as client:
        with trio.fail_after(20):
            await client.run_process("x", stdin=bytes(6 * MIB), capture_stdout=True)


async def test_a_command_may_end_without_reading_its_input() -> None:
    async def ignore(process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write("done")
        return 0

    async with client_of(ignore) as client:
        with trio.fail_after(20):
            done = await client.run_process("x", stdin=bytes(6 * MIB), capture_stdout=True)
        assert done.stdout == b"done"


async def stderr_first(process: trio_ssh.ServerProcess) -> int:
    await process.stderr.send_all(b"e" * (8 * MIB))
    await process.stdout.write("at last")
    return 0


async def test_reading_stdout_to_its_end_does_not_wait_for_a_reader_of_stderr() -> None:
    async with client_of(stderr_first) as client:
        with trio.fail_after(20):
            _, stdout, stderr = await client.exec_command("x")
            assert await stdout.read() == b"at last"
            assert len(await stderr.read()) == 8 * MIB
            async with await client.open_process("x") as process:
                assert await process.stdout.read() == b"at last"
                assert len(await process.stderr.read()) == 8 * MIB
            channel = await client.open_session()
            await channel.exec_command("x")
            assert await channel.read() == b"at last"


async def test_lines_of_stdout_do_not_wait_for_a_reader_of_stderr() -> None:
    async with client_of(stderr_first) as client:
        with trio.fail_after(20):
            _, stdout, _ = await client.exec_command("x")
            assert await stdout.readlines() == ["at last"]


async def test_reading_stderr_to_its_end_does_not_wait_for_a_reader_of_stdout() -> None:
    async def stdout_first(process: trio_ssh.ServerProcess) -> int:
        await process.stdout.send_all(b"o" * (8 * MIB))
        await process.stderr.write("at last")
        return 0

    async with client_of(stdout_first) as client:
        with trio.fail_after(20):
            _, stdout, stderr = await client.exec_command("x")
            assert await stderr.read() == b"at last"
            assert len(await stdout.read()) == 8 * MIB
            async with await client.open_process("x") as process:
                assert await process.stderr.read() == b"at last"
                assert len(await process.stdout.read()) == 8 * MIB


async def test_closing_stderr_drops_what_comes_there() -> None:
    async with client_of(stderr_first) as client:
        with trio.fail_after(20):
            process = await client.open_process("x")
            await process.channel.stderr.aclose()
            assert await process.stdout.receive_some() == b"at last"


# -- cancelling


async def test_a_cancelled_command_is_terminated(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = Stubborn("TERM")
    async with client_of(stubborn) as client:
        with trio.move_on_after(10) as scope:
            await client.run_process("sleep", capture_stdout=True)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(10)
        await trio.testing.wait_all_tasks_blocked()
        assert repr(client).endswith(", 0 channels>")
    assert stubborn.signals == [("TERM", pytest.approx(10))]
    assert "may still run" not in caplog.text


async def test_a_cancelled_command_that_does_not_listen_is_killed(autojump_clock: trio.testing.MockClock) -> None:
    stubborn = Stubborn("KILL")
    async with client_of(stubborn) as client:
        with trio.move_on_after(10):
            await client.run_process("sleep", stdin=bytes(8 * MIB), capture_stdout=True)
        assert trio.current_time() == pytest.approx(15)
    assert stubborn.signals == [("TERM", pytest.approx(10)), ("KILL", pytest.approx(15))]


async def test_a_cancelled_command_that_can_not_be_killed_is_left_after_six_seconds(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = Stubborn()
    async with client_of(stubborn) as client:
        with trio.move_on_after(10):
            await client.run_process("sleep", capture_stdout=True)
        assert trio.current_time() == pytest.approx(16)
    assert [name for name, _ in stubborn.signals] == ["TERM", "KILL"]
    assert "'sleep' may still run: the server said nothing of its end after TERM and KILL" in caplog.text


async def test_a_command_is_terminated_when_its_whole_connection_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stubborn = Stubborn("TERM")
    async with trio.open_nursery() as nursery:
        ours, theirs = trio_ssh.testing.memory_pair()
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(stubborn), host_keys=[HOST_KEY]))
        with trio.move_on_after(10) as scope:
            async with trio_ssh.connect(
                "memory", username="user", policy=trio_ssh.AutoAddPolicy, known_hosts=[], look_for_keys=False, sock=ours
            ) as client:
                await client.run_process("sleep", capture_stdout=True)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(10)
    assert stubborn.signals == [("TERM", pytest.approx(10))]


@pytest.mark.parametrize("half_seconds", range(7))
async def test_a_command_that_was_asked_for_is_ended_although_the_server_has_not_said_that_it_runs(
    half_seconds: int, autojump_clock: trio.testing.MockClock
) -> None:
    # Each way takes half a second: the channel is there behind one, and the answer to what starts the command behind
    # two.
    stubborn = Stubborn("TERM")
    async with open_memory_client(OpenDoor(stubborn), host_key=HOST_KEY, streams=delayed_pair(0.5)) as client:
        begin = trio.current_time()
        with trio.move_on_after(0.1 + 0.5 * half_seconds) as scope:
            await client.run_process("sleep", capture_stdout=True)
        assert scope.cancelled_caught
        if half_seconds < 2:
            assert trio.current_time() < begin + 1
            assert stubborn.signals == []
        else:
            assert trio.current_time() == pytest.approx(begin + 1.1 + 0.5 * half_seconds)
            assert [name for name, _ in stubborn.signals] == ["TERM"]


async def test_the_caller_may_deliver_the_cancellation(autojump_clock: trio.testing.MockClock) -> None:
    stubborn = Stubborn("INT")

    async def interrupt(process: trio_ssh.Process) -> None:
        await trio.sleep(1)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == -signal.SIGINT

    async with client_of(stubborn) as client:
        with trio.move_on_after(10):
            await client.run_process("sleep", capture_stdout=True, deliver_cancel=interrupt)
    assert stubborn.signals == [("INT", pytest.approx(11))]


@pytest.mark.parametrize("stdin", [b"", b"input"])
def test_ctrl_c_in_the_main_task_ends_the_command_too(stdin: bytes) -> None:
    """There trio raises `KeyboardInterrupt` where the task waits, and cancels nothing."""
    stubborn = Stubborn("TERM")

    async def main() -> None:
        async with client_of(stubborn) as client, trio.open_nursery() as nursery:
            started = trio.Event()

            @trio.lowlevel.enable_ki_protection  # or it would strike here
            async def press() -> None:
                await started.wait()
                await trio.testing.wait_all_tasks_blocked()
                signal.raise_signal(signal.SIGINT)

            class Status(trio.TaskStatus[trio_ssh.Process]):
                def started(self, value: trio_ssh.Process | None = None) -> None:
                    started.set()

            nursery.start_soon(press)
            with pytest.raises(KeyboardInterrupt):
                await client.run_process("sleep", stdin=stdin, capture_stdout=True, task_status=Status())

    trio.run(main)
    assert [name for name, _ in stubborn.signals] == ["TERM"]


async def test_a_command_whose_output_nobody_takes_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    signals: list[str] = []

    async def talk(process: trio_ssh.ServerProcess) -> int | None:
        await process.stdout.write("something")
        async for name in process.signals:
            signals.append(name)
            process.exit_signal(name)
            break
        return None

    monkeypatch.setattr("sys.stdout", Gone())
    async with client_of(talk) as client:
        with pytest.raises(BrokenPipeError):
            await client.run_process("talk")
    assert signals == ["TERM"]


async def test_a_cancelled_command_whose_connection_is_gone_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = OpenDoor(sleep)
    async with open_memory_client(server, host_key=HOST_KEY) as client, trio.open_nursery() as nursery:
        nursery.start_soon(server.transport.aclose)
        with trio.move_on_after(0), pytest.raises(trio_ssh.ConnectionLost):
            await client.run_process("sleep", capture_stdout=True)
    assert trio.current_time() == 0


async def test_a_lost_connection_is_told_as_such() -> None:
    server = OpenDoor(sleep)
    async with open_memory_client(server, host_key=HOST_KEY) as client, trio.open_nursery() as nursery:

        async def hang_up() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await server.transport.aclose()

        nursery.start_soon(hang_up)
        with pytest.raises(trio_ssh.PeerDisconnected, match="closed by the application"):
            await client.run_process("sleep", stdin=bytes(8 * MIB))


# -- processes


async def test_a_nursery_can_start_a_command(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(obey) as client, trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[trio_ssh.Process]) -> None:  # noqa: ASYNC114, ASYNC128 -- it passes it on
            done = await client.run_process("sleep", check=False, capture_stdout=True, task_status=task_status)
            assert done.returncode == -signal.SIGHUP

        process = await nursery.start(run)
        assert isinstance(process, trio_ssh.Process)
        assert process.returncode is None
        process.send_signal(signal.SIGHUP)
        assert await process.wait() == -signal.SIGHUP


async def test_a_process_is_closed_at_the_end_of_its_block() -> None:
    async with client_of(echo) as client:
        async with await client.open_process("cat") as process:
            assert repr(process) == "<Process 'cat', running>"
            await process.stdin.write("line 1\nline 2\n")
            assert await process.stdout.read_line() == "line 1\n"
            await process.stdin.aclose()
            assert [line async for line in process.stdout.lines()] == ["line 2\n"]
            assert await process.wait() == 0
            assert process.returncode == 0
            assert repr(process) == "<Process 'cat', returned 0>"
        assert process.channel.closed
        with pytest.raises(trio.ClosedResourceError):
            await process.stdout.receive_some()


@pytest.mark.parametrize(("method", "name"), [("terminate", "TERM"), ("kill", "KILL")])
async def test_a_process_is_ended_by_a_signal(method: str, name: str) -> None:
    async with client_of(obey) as client, await client.open_process("sleep") as process:
        getattr(process, method)()
        assert await process.wait() == -signal.Signals[f"SIG{name}"]
        assert process.exit_signal == name


async def test_a_shell_has_no_command() -> None:
    async with client_of(greet) as client, await client.open_process() as process:
        assert await process.stdout.read() == b"stdout of None"


async def test_bytes_that_a_line_reader_has_read_too_much_are_not_lost() -> None:
    async with client_of(echo) as client, await client.open_process("cat") as process:
        await process.stdin.send_all(b"one\ntwo\nthree")
        assert await process.stdout.read_line() == "one\n"
        assert await process.stdout.receive_some(2) == b"tw"
        assert await process.stdout.read(3) == b"o\nt"
        await process.stdin.aclose()
        assert await process.stdout.read() == b"hree"
        assert await process.stdout.read() == b""
        assert await process.stdout.receive_some() == b""


async def test_what_is_not_utf_8_survives_as_text() -> None:
    async with client_of(echo) as client, await client.open_process("cat") as process:
        await process.stdin.write("\udcff\n")
        await process.stdin.aclose()
        assert await process.stdout.read_line() == "\udcff\n"


async def test_a_command_whose_cancellation_was_delivered_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    cleaned: list[float] = []

    async def clean(process: trio_ssh.ServerProcess) -> int | None:
        async for _ in process.signals:
            await trio.sleep(2)
            cleaned.append(trio.current_time())
            return 0
        return None

    async def tell(process: trio_ssh.Process) -> None:
        process.terminate()
        await trio.lowlevel.checkpoint()

    async with client_of(clean) as client:
        with trio.move_on_after(1):
            await client.run_process("x", capture_stdout=True, deliver_cancel=tell)
        assert trio.current_time() == pytest.approx(3)
    assert cleaned == [pytest.approx(3)]


async def test_a_command_that_was_told_nothing_is_not_waited_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async def say_nothing(process: trio_ssh.Process) -> None:
        await trio.lowlevel.checkpoint()

    async with client_of(sleep) as client:
        with trio.move_on_after(1):
            await client.run_process("x", capture_stdout=True, deliver_cancel=say_nothing)
        assert trio.current_time() == pytest.approx(6)


async def test_a_command_that_ends_without_reading_is_not_fed_any_more(autojump_clock: trio.testing.MockClock) -> None:
    async def leave(process: trio_ssh.ServerProcess) -> int:
        process.exit(3)
        await process.stdout.aclose()
        await process.stderr.aclose()
        await trio.sleep(60)
        return 0

    async with client_of(leave) as client:
        with trio.fail_after(5):
            done = await client.run_process("x", stdin=bytes(64 * 1024 * 1024), capture_stdout=True, check=False)
        assert done.returncode == 3


@contextlib.contextmanager
def unread_pipe() -> Iterator[tuple[io.RawIOBase, io.RawIOBase]]:
    """Both ends of a pipe, its reader's first."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer


async def test_output_that_nobody_reads_here_keeps_no_cancellation_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pour(process: trio_ssh.ServerProcess) -> int | None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, process)
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await process.stdout.send_all(bytes(65536))
        return None

    with unread_pipe() as (pipe, stuck):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stuck, write_through=True))
        async with client_of(pour) as client:
            with trio.fail_after(20), trio.move_on_after(0.3) as scope:
                await client.run_process("pour", check=False)
            assert scope.cancelled_caught
        os.set_blocking(pipe.fileno(), False)
        pipe.read()  # lets the thread go that was left behind
