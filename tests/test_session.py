"""What a server's handler is given, and a session that runs a real process."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, MIB, OpenDoor, echo
from trio_ssh.session import decode_modes
from trio_ssh.terminal import modes_of, set_modes, set_size
from trio_ssh.testing import open_memory_client
from trio_ssh.wire.connection import ExecRequest, SignalRequest

SIZES = (100, 40, 800, 600)
MODES = {trio_ssh.TerminalMode.ECHO: 0, trio_ssh.TerminalMode.VINTR: 3}


class Terminals(OpenDoor):
    """Grants terminals and variables, and remembers what it was asked."""

    asked: tuple[object, ...] = ()

    def check_channel_pty_request(
        self,
        channel: trio_ssh.Channel,
        term: str,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: Mapping[trio_ssh.TerminalMode, int],
    ) -> bool:
        self.asked = (term, width, height, pixelwidth, pixelheight, modes)
        return True

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        return name != "LD_PRELOAD"


# -- terminals of this machine


def test_a_terminal_of_this_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-color")
    ours, theirs = os.openpty()
    try:
        set_size(theirs, *SIZES)
        set_modes(theirs, MODES)
        pty = trio_ssh.Pty.from_terminal(theirs)
        assert (pty.term, pty.width, pty.height, pty.width_pixels, pty.height_pixels) == ("xterm-color", *SIZES)
        assert {mode: pty.modes[mode] for mode in MODES} == MODES
        assert pty.modes[trio_ssh.TerminalMode.ICANON] == 1
        assert pty.modes[trio_ssh.TerminalMode.TTY_OP_OSPEED] > 0
        # As it is, another one can be made of it.
        other, another = os.openpty()
        try:
            set_modes(another, pty.modes)
            assert modes_of(another) == pty.modes
        finally:
            os.close(other)
            os.close(another)
        assert trio_ssh.Pty.from_terminal(theirs, "dumb").term == "dumb"
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_is_no_terminal_is_told(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=r"descriptor \d+ is no terminal"):
        trio_ssh.Pty.from_terminal(file.fileno())


# -- what a handler knows


async def test_a_handler_knows_what_the_client_wants() -> None:
    seen: list[trio_ssh.ServerProcess] = []

    async def note(process: trio_ssh.ServerProcess) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(process)

    server = Terminals(note)
    async with open_memory_client(server, host_key=HOST_KEY, username="al\x1bice") as client:
        channel = await client.open_session()
        await channel.set_environment_variable("LANG", "C")
        with pytest.raises(trio_ssh.RequestRefused):
            await channel.set_environment_variable("LD_PRELOAD", "x")
        await channel.get_pty("xterm", *SIZES, MODES)
        await channel.exec_command("ls\x1b")
        assert await channel.recv_exit_status() == 0
    process = seen[0]
    assert (process.command, process.subsystem, process.username) == ("ls\x1b", None, "al\x1bice")
    assert process.environment == {"LANG": "C"}
    assert process.pty == trio_ssh.Pty("xterm", *SIZES, MODES)
    assert server.asked == ("xterm", *SIZES, MODES)
    assert repr(process) == r"<ServerProcess 'ls\x1b' of al\x1bice>"


async def test_a_shell_is_a_session_without_a_command() -> None:
    shown: list[str] = []

    async def note(process: trio_ssh.ServerProcess) -> None:
        await trio.lowlevel.checkpoint()
        shown.append(repr(process))
        assert process.pty is not None
        assert process.pty.term == "vt100"

    async with open_memory_client(Terminals(note), host_key=HOST_KEY) as client:
        channel = await client.invoke_shell()
        assert await channel.recv_exit_status() == 0
    assert shown == ["<ServerProcess 'shell' of user>"]


async def test_a_terminal_is_asked_for_once_and_before_the_command() -> None:
    async with open_memory_client(Terminals(echo), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.get_pty()
        with pytest.raises(trio_ssh.RequestRefused):
            await channel.get_pty()
        other = await client.open_session()
        await other.exec_command("x")
        with pytest.raises(trio_ssh.RequestRefused):
            await other.get_pty()


async def test_a_terminal_s_new_sizes_arrive_the_newest_at_least() -> None:
    sizes: list[trio_ssh.Pty] = []

    async def follow(process: trio_ssh.ServerProcess) -> int:
        await process.stdin.read()
        sizes.append(await process.window_changes.receive())
        assert process.pty == sizes[-1]
        with pytest.raises(trio.WouldBlock):
            process.window_changes.receive_nowait()
        return 0

    async with open_memory_client(Terminals(follow), host_key=HOST_KEY) as client:
        process = await client.open_process("x", term=trio_ssh.Pty("xterm", 80, 24))
        for width in range(90, 200):
            process.channel.resize_pty(width, 50, 900, 500)
        await process.stdin.aclose()
        assert await process.wait() == 0
    assert sizes == [trio_ssh.Pty("xterm", 199, 50, 900, 500)]


async def test_a_size_without_a_terminal_is_no_size() -> None:
    async def look(process: trio_ssh.ServerProcess) -> int:
        await process.stdin.read()
        with pytest.raises(trio.WouldBlock):
            process.window_changes.receive_nowait()
        return 0 if process.pty is None else 1

    async with open_memory_client(OpenDoor(look), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        process.channel.resize_pty(100, 50)
        await process.stdin.aclose()
        assert await process.wait() == 0


async def test_signals_arrive_in_order_and_within_a_bound() -> None:
    async def collect(process: trio_ssh.ServerProcess) -> int:
        signals, names = process.signals, list[str]()
        await process.stdin.read()
        while True:
            try:
                names.append(signals.receive_nowait())
            except trio.WouldBlock:
                break
        await process.stdout.write(" ".join(names))
        return 0

    async with open_memory_client(OpenDoor(collect), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        for name in ("not a name", "X" * 33):
            process.channel._notify("signal", SignalRequest(name).encode())
        process.send_signal(signal.SIGUSR1)
        for _ in range(100):
            process.send_signal("HUP")
        await process.stdin.aclose()
        names = (await process.stdout.read()).decode().split()
    assert names == ["USR1"] + ["HUP"] * 63


@pytest.mark.parametrize("name", ["TERM", "INT", "KILL", "HUP"])
async def test_a_handler_that_asks_for_no_signals_is_ended_by_them(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """As a process that catches none; else whoever cancels a command waits for one that can't hear him."""
    is_cancelled = False

    async def deaf(process: trio_ssh.ServerProcess) -> int:
        nonlocal is_cancelled
        try:
            await trio.sleep(3600)
        except trio.Cancelled:
            is_cancelled = True
            raise
        return 0

    async with open_memory_client(OpenDoor(deaf), host_key=HOST_KEY) as client:
        async with await client.open_process("x") as process:
            process.send_signal("USR1")
            await trio.testing.wait_all_tasks_blocked()
            assert not is_cancelled
            process.send_signal(name)
            assert await process.wait() == -signal.Signals[f"SIG{name}"]
            assert process.exit_signal == name
        assert is_cancelled
        with trio.move_on_after(10) as scope:
            await client.run_process("x", capture_stdout=True)
        assert scope.cancelled_caught
        assert trio.current_time() == 10
    assert trio.current_time() == 10


async def test_a_handler_that_is_ended_may_have_the_last_word() -> None:
    async def polite(process: trio_ssh.ServerProcess) -> int:
        with trio.CancelScope() as scope:
            await trio.sleep_forever()
        assert not scope.cancelled_caught
        return 0

    async def stubborn(process: trio_ssh.ServerProcess) -> int:
        try:
            await trio.sleep_forever()
        finally:
            process.exit(7)
        return 0

    for handle, returned in ((polite, -signal.SIGTERM), (stubborn, 7)):
        async with (
            open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client,
            await client.open_process("x") as process,
        ):
            process.terminate()
            assert await process.wait() == returned


async def test_a_signal_that_comes_before_the_first_step_counts() -> None:
    started = False

    async def late(process: trio_ssh.ServerProcess) -> int:
        nonlocal started
        started = True
        await trio.sleep_forever()
        return 0

    async with open_memory_client(OpenDoor(late), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        mux = channel._engine.core.mux
        mux.request(channel.core, "exec", ExecRequest("x").encode(), wants_reply=False)
        mux.request(channel.core, "signal", SignalRequest("TERM").encode(), wants_reply=False)
        channel._engine.flush_now()
        assert (await channel.recv_exit_report()).signal == "TERM"
    assert started


async def test_a_handler_may_report_before_it_ends() -> None:
    async def report(process: trio_ssh.ServerProcess) -> int:
        process.exit(7)
        process.exit(8)
        process.exit_signal("TERM")
        await process.stdout.write("still here")
        return 9

    async with open_memory_client(OpenDoor(report), host_key=HOST_KEY) as client:
        done = await client.run_process("x", check=False, capture_stdout=True)
        assert (done.returncode, done.stdout) == (7, b"still here")


async def test_a_handler_is_cancelled_when_its_client_closes_the_channel() -> None:
    endings: list[str] = []

    async def wait(process: trio_ssh.ServerProcess) -> int:
        try:
            await trio.sleep_forever()
        finally:
            endings.append("left")
            process.exit(0)  # to nobody; no error
        return 0

    async with open_memory_client(OpenDoor(wait), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        await process.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert endings == ["left"]


async def test_whoever_leaves_a_session_may_begin_the_next_at_once() -> None:
    """What leaves and what comes may be in one read, before the handler has heard that it is cancelled."""
    at_work = most = 0

    async def count(process: trio_ssh.ServerProcess) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            async for _ in process.stdin.lines():
                pass
        finally:
            at_work -= 1

    limits = trio_ssh.Limits(sessions=2)
    async with open_memory_client(OpenDoor(count), host_key=HOST_KEY, server_limits=limits) as client:
        for _ in range(20):
            async with await client.open_process("x"), await client.open_process("y") as process:
                await process.stdin.write("hi\n")
        async with await client.open_process("x"), await client.open_process("y"):
            with pytest.raises(trio_ssh.ChannelException, match=r"(resource shortage|too many).*MaxSessions"):
                await client.open_process("z")
    assert most == 2


async def test_closing_stdout_ends_both_outputs() -> None:
    async def half(process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write("out")
        await process.stdout.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await process.stderr.write("err")
        return len(await process.stdin.read())

    async with open_memory_client(OpenDoor(half), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        assert await process.stdout.read() == b"out"
        await process.stdin.write("four")
        await process.stdin.aclose()
        assert await process.wait() == 4


# -- terminal modes


@pytest.mark.parametrize(
    ("encoded", "modes"),
    [
        (b"", {}),
        (b"\0", {}),
        (b"\x35\0\0\0\1\0", {trio_ssh.TerminalMode.ECHO: 1}),
        (b"\x35\0\0\0\1", {trio_ssh.TerminalMode.ECHO: 1}),
        (b"\x35\0\0\0", {}),
        (b"\x35\0\0\0\1\xff\0\0\0\1", {trio_ssh.TerminalMode.ECHO: 1}),
        (b"\x9f\0\0\0\1\x35\0\0\0\0", {trio_ssh.TerminalMode.ECHO: 0}),
        (b"\xa0\0\0\0\1\x35\0\0\0\0", {}),
    ],
)
def test_terminal_modes_are_read_as_far_as_they_go(encoded: bytes, modes: dict[trio_ssh.TerminalMode, int]) -> None:
    assert decode_modes(encoded) == modes


# -- a real process


class Shells(Terminals):
    """Runs real processes."""

    def __init__(self) -> None:
        super().__init__(lambda process: trio_ssh.run_local_session(process, shell="/bin/sh", cwd="/"))


async def test_a_real_command_runs() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            done = await client.run_process(
                "cat; echo error >&2; echo $LANG $USER; pwd; exit 3",
                stdin=b"input\n",
                env={"LANG": "C.UTF-8"},
                check=False,
                capture_stdout=True,
                capture_stderr=True,
            )
    assert done.returncode == 3
    assert done.stderr == b"error\n"
    lines = (done.stdout or b"").decode().splitlines()
    assert lines[0] == "input"
    assert lines[1].startswith("C.UTF-8 ")
    assert lines[2] == "/"


async def test_a_real_command_carries_much() -> None:
    data = os.urandom(2 * MIB)
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(20):
            done = await client.run_process("cat", stdin=data, capture_stdout=True)
    assert done.stdout == data


async def test_a_real_command_is_ended_by_a_signal() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            process = await client.open_process("echo ready; sleep 1000")
            assert await process.stdout.read_line() == "ready\n"
            process.terminate()
            assert await process.wait() == -signal.SIGTERM


async def test_a_real_command_that_only_sleeps_does_not_outlive_its_client() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            process = await client.open_process("echo $$; exec sleep 1000")
            pid = int(await process.stdout.read_line())
            await process.aclose()
            while True:
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    break
                await trio.sleep(0.01)


async def test_a_real_terminal_is_one() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            modes = {trio_ssh.TerminalMode.ECHO: 0}
            pty = trio_ssh.Pty("vt100", 123, 45, modes=modes)
            async with await client.open_process(
                "tty; stty size; echo $TERM; read x; stty size; exit 5", term=pty
            ) as p:
                assert (await p.stdout.read_line()).startswith("/dev/")
                assert await p.stdout.read_line() == "45 123\r\n"
                assert await p.stdout.read_line() == "vt100\r\n"
                p.channel.resize_pty(77, 33)
                await trio.testing.wait_all_tasks_blocked()
                await p.stdin.write("go\n")
                assert await p.stdout.read_line() == "33 77\r\n"
                assert await p.wait() == 5


async def test_the_end_of_a_terminal_s_input_is_typed() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            pty = trio_ssh.Pty("vt100", modes={trio_ssh.TerminalMode.ECHO: 0})
            async with await client.open_process("echo ready; cat", term=pty) as process:
                assert await process.stdout.read_line() == "ready\r\n"
                await process.stdin.write("one line\n")
                await process.stdin.aclose()
                assert await process.stdout.read() == b"one line\r\n"
                assert await process.wait() == 0


async def test_control_c_interrupts_what_runs_in_a_terminal() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            async with await client.open_process("echo ready; exec sleep 1000", term="vt100") as process:
                assert await process.stdout.read_line() == "ready\r\n"
                await process.stdin.write("\x03")
                assert await process.wait() == -signal.SIGINT


@pytest.mark.parametrize("term", [None, "vt100"])
async def test_a_program_may_run_in_place_of_what_the_client_wants(term: str | None) -> None:
    class Fixed(Terminals):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            words = ["printf", "%s.", "$HOME", "it's; exit 1", process.command or ""]
            return await trio_ssh.run_local_session(process, command=words)

    async with open_memory_client(Fixed(), host_key=HOST_KEY) as client:
        done = await client.run_process("anything; exit 3", term=term, capture_stdout=True)
    assert done.stdout == b"$HOME.it's; exit 1.anything; exit 3."


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["no-such-program"], "no-such-program: "),
        ([], "the command has no words"),
        ("ls -l", "a sequence of words"),
        (["ls", 1], "and 1 is none"),
    ],
)
async def test_a_program_that_can_not_run_is_told(
    command: list[str], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process, command=command)

    failed: list[Exception] = []
    server = OpenDoor(handle)
    server.failures = failed
    with contextlib.suppress(TypeError, ValueError):
        async with open_memory_client(server, host_key=HOST_KEY) as client:
            done = await client.run_process("x", capture_stderr=True, check=False)
            assert done.returncode == (126 if not failed else 255)
            assert text in (done.stderr.decode() if not failed else str(failed[0]))
    assert bool(failed) == (command != ["no-such-program"])


async def test_a_terminal_that_is_not_to_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        monkeypatch.setattr(os, "openpty", refuse)
        done = await client.run_process("true", term="vt100", capture_stdout=True, capture_stderr=True, check=False)
    assert (done.returncode, done.stderr) == (126, b"sh: no terminal: Too many open files\n")


async def test_a_user_without_an_account_has_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"uid not found: {uid}")

    async def handle(process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        done = await client.run_process('echo "$HOME $USER"', capture_stdout=True)
    assert done.stdout == f"/ {os.getuid()}\n".encode()


async def test_input_that_ends_within_a_line_ends_at_a_terminal_too() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            done = await client.run_process("wc -c", stdin=b"abc", term="vt100", capture_stdout=True)
    assert done.stdout.strip().endswith(b"3")


async def test_what_is_left_behind_at_a_terminal_keeps_nobody_there() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(10):
            # A session of its own isn't hung up with the terminal's.
            command = "setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.3; echo done; exit 5"
            done = await client.run_process(command, term="vt100", capture_stdout=True, check=False)
    pid, said = done.stdout.split()
    os.kill(int(pid), signal.SIGKILL)
    assert (done.returncode, said) == (5, b"done")


async def test_all_that_a_process_wrote_to_its_terminal_is_shown() -> None:
    async with open_memory_client(Shells(), host_key=HOST_KEY) as client:
        with trio.fail_after(30):
            done = await client.run_process("seq 1 100000", term="vt100", capture_stdout=True)
    assert done.stdout.split() == [b"%d" % number for number in range(1, 100001)]
