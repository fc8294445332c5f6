"""What our client gets from real sshd: commands, streams, statuses, signals, terminals."""

from __future__ import annotations

import functools
import hashlib
import io
import signal
import subprocess
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.interop.peers import Sshd, eventually, is_alive

pytestmark = pytest.mark.interop

LARGE = 8 * 1024 * 1024


# -- run_process


async def test_status_and_both_streams_arrive(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        done = await client.run_process(
            "echo out; echo err >&2; exit 3", capture_stdout=True, capture_stderr=True, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
        with pytest.raises(trio_ssh.ProcessError, match="ended with exit status 3; its stderr ends: err"):
            await client.run_process("echo err >&2; exit 3", capture_stderr=True)


async def test_words_arrive_as_they_are(sshd: Sshd) -> None:
    words = ["printf", "%s\\n", "a b", "$HOME", "it's", "*", "", "é", "-n"]
    async with sshd.connect() as client:
        done = await client.run_process(words, capture_stdout=True)
    assert done.stdout is not None
    assert done.stdout.decode().split("\n") == [*words[2:], ""]


async def test_a_command_that_is_missing_is_reported_by_the_shell(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        with pytest.raises(trio_ssh.ProcessError, match="no-such-command: command not found") as raised:
            await client.run_process("no-such-command", capture_stderr=True)
    assert raised.value.returncode == 127


async def test_a_death_by_signal_is_a_negative_status(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        done = await client.run_process("kill -KILL $$", check=False)
        assert (done.returncode, done.exit_signal) == (-signal.SIGKILL, "KILL")
        with pytest.raises(trio_ssh.ProcessError, match="was ended by signal SEGV"):
            await client.run_process("kill -SEGV $$")


async def test_stdin_arrives_with_its_end(sshd: Sshd) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    async with sshd.connect() as client:
        done = await client.run_process("sha256sum", stdin=data, capture_stdout=True)
    assert done.stdout is not None
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_files_stand_for_stdin_and_stdout(sshd: Sshd, tmp_path: Path) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    (tmp_path / "in").write_bytes(data)
    async with sshd.connect() as client:
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
            await client.run_process("cat; echo err >&2", stdin=source, stdout=target, stderr=subprocess.STDOUT)
        assert (tmp_path / "out").read_bytes() == data + b"err\n"
        with pytest.raises(OSError, match="No space left"), io.FileIO("/dev/full", "wb") as full:
            await client.run_process("cat /dev/zero", stdout=full)
        await client.run_process("cat /dev/zero | head -c 99999999", stdout=subprocess.DEVNULL)


async def test_a_command_that_reads_nothing_ends_although_much_is_sent_to_it(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        done = await client.run_process("exec <&-; echo out", stdin=bytes(LARGE), capture_stdout=True)
    assert (done.stdout, done.returncode) == (b"out\n", 0)


async def test_much_on_stdout_and_stderr_at_once_arrives(sshd: Sshd) -> None:
    command = f"head -c {LARGE} /dev/zero & head -c {LARGE} /dev/zero >&2; wait"
    async with sshd.connect() as client:
        done = await client.run_process(command, capture_stdout=True, capture_stderr=True)
    assert done.stdout == done.stderr == bytes(LARGE)


async def test_variables_arrive_where_sshd_accepts_them(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        done = await client.run_process("echo $TEST_WORDS", env={"TEST_WORDS": "two words"}, capture_stdout=True)
        assert done.stdout == b"two words\n"
        with pytest.raises(trio_ssh.RequestRefused, match="it does not accept the variable LD_PRELOAD"):
            await client.run_process("true", env={"LD_PRELOAD": "/evil"})


@pytest.mark.usefixtures("as_root")
async def test_cancelling_a_command_ends_it(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        async with trio.open_nursery() as nursery:
            command = "echo $$ > ~/sleeper; exec sleep 3600"
            nursery.start_soon(functools.partial(client.run_process, command, capture_stdout=True))
            pid = int(await file_of(client, "sleeper"))
            assert is_alive(pid)
            nursery.cancel_scope.cancel()
        assert not is_alive(pid)
        assert (await client.run_process("true")).returncode == 0


async def file_of(client: trio_ssh.SSHClient, name: str) -> str:
    """Wait for a file in the home directory, remove it, and return what is in it."""
    command = f"until test -s ~/{name}; do sleep 0.01; done; cat ~/{name}; rm ~/{name}"
    done = await client.run_process(command, capture_stdout=True)
    assert done.stdout is not None
    return done.stdout.decode()


@pytest.mark.usefixtures("as_root")
async def test_cancelling_ends_a_command_that_heeds_no_term(sshd: Sshd) -> None:
    killed = trio.Event()

    async def kill_at_once(process: trio_ssh.Process) -> None:
        process.terminate()
        process.kill()
        await process.wait()
        killed.set()

    async with sshd.connect() as client, trio.open_nursery() as nursery:
        command = "trap '' TERM; echo $$ > ~/stubborn; while :; do sleep 0.01; done"
        run = functools.partial(client.run_process, capture_stdout=True, deliver_cancel=kill_at_once)
        nursery.start_soon(run, command)
        pid = int(await file_of(client, "stubborn"))
        nursery.cancel_scope.cancel()
    assert killed.is_set()
    assert not is_alive(pid)


class Deaf(trio.abc.Stream):
    """A stream on which nothing arrives any more, once it is told so, until `hears_again`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_deaf = False
        self.hears_again = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._stream.receive_some(max_bytes)
        if self.is_deaf:
            await self.hears_again.wait()
        return bytes(data)

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.usefixtures("as_root")
async def test_cancelling_ends_a_command_of_which_nobody_knows_yet_that_it_runs(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Deaf(await trio.open_tcp_stream("127.0.0.1", sshd.port))
    execute = trio_ssh.Channel._exec

    async def execute_unheard(channel: trio_ssh.Channel, command: str, *, then_eof: bool) -> None:
        stream.is_deaf = "unheard" in command
        await execute(channel, command, then_eof=then_eof)

    async with sshd.connect() as other, sshd.connect(sock=stream) as client:
        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(trio_ssh.Channel, "_exec", execute_unheard)
            command = "echo $$ > ~/unheard; exec sleep 3600"
            nursery.start_soon(functools.partial(client.run_process, command, capture_stdout=True))
            pid = int(await file_of(other, "unh''eard"))
            assert is_alive(pid)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await eventually(lambda: not is_alive(pid))
                stream.is_deaf = False
                stream.hears_again.set()
        assert (await client.run_process("true")).returncode == 0


# -- open_process


async def test_a_process_is_talked_to_while_it_runs(sshd: Sshd) -> None:
    async with sshd.connect() as client, await client.open_process("cat; echo done >&2; exit 4") as process:
        for number in range(50):
            await process.stdin.write(f"line {number}\n")
            assert await process.stdout.read_line() == f"line {number}\n"
        assert process.returncode is None
        await process.stdin.aclose()
        assert await process.stdout.receive_some() == b""
        assert await process.stderr.read() == b"done\n"
        assert await process.wait() == 4
        assert process.returncode == 4


@pytest.mark.usefixtures("as_root")
async def test_a_signal_reaches_the_command(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        command = "trap 'echo caught; exit 5' USR1; echo ready; read -r line"
        async with await client.open_process(command) as process:
            assert await process.stdout.read_line() == "ready\n"
            process.send_signal(signal.SIGUSR1)
            assert await process.stdout.read_line() == "caught\n"
            assert await process.wait() == 5


async def test_closing_a_process_early_lets_the_connection_go_on(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        for _ in range(20):
            async with await client.open_process("yes") as process:
                assert (await process.stdout.receive_some(4)) == b"y\ny\n"
        assert (await client.run_process("true")).returncode == 0


async def test_cancelling_at_any_moment_of_a_start_lets_the_connection_go_on(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        for turns in range(12):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def give_up(turns: int, scope: trio.CancelScope) -> None:
                        for _ in range(turns):
                            await trio.sleep(0.001)
                        scope.cancel()

                    nursery.start_soon(give_up, turns, scope)
                    async with await client.open_process("cat", env={"TEST_A": "1", "TEST_B": "2"}):
                        await trio.sleep_forever()
        done = await client.run_process("echo fine", capture_stdout=True)
        assert done.stdout == b"fine\n"


# -- paramiko's way


async def test_paramikos_readme_works(sshd: Sshd) -> None:
    client = trio_ssh.SSHClient()
    client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy())
    async with client:
        await client.connect(
            hostname="127.0.0.1",
            port=sshd.port,
            username=sshd.account.name,
            pkey=sshd.user_keys.load("ed25519"),
            known_hosts=trio_ssh.HostKeys(),
        )
        stdin, stdout, stderr = await client.exec_command("cat; echo err >&2; exit 6")
        await stdin.write("one\ntwo\n")
        await stdin.aclose()
        assert await stdout.readlines() == ["one\n", "two\n"]
        assert await stderr.read() == b"err\n"
        assert await stdout.channel.recv_exit_status() == 6
        await client.aclose()
        await client.connect(
            "127.0.0.1",
            sshd.port,
            sshd.account.name,
            key_filename=str(sshd.user_keys.file("rsa")),
            known_hosts=sshd.known_hosts,
        )
        stdin, stdout, stderr = await client.exec_command("echo again")
        assert await stdout.read() == b"again\n"


async def test_reading_stdout_to_its_end_does_not_wait_for_stderr_to_be_read(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        _, stdout, stderr = await client.exec_command(f"head -c {LARGE} /dev/zero >&2; echo out")
        assert await stdout.read() == b"out\n"
        assert await stderr.read() == bytes(LARGE)
        _, stdout, stderr = await client.exec_command(f"head -c {LARGE} /dev/zero; echo err >&2")
        assert await stderr.read() == b"err\n"
        assert await stdout.read() == bytes(LARGE)


@pytest.mark.usefixtures("as_root")
async def test_exec_command_with_a_terminal_and_variables(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        _, stdout, _ = await client.exec_command("tty; echo $TEST_X", get_pty=True, environment={"TEST_X": "x"})
        lines = await stdout.readlines()
        assert lines[0].startswith("/dev/")
        assert lines[1] == "x\r\n"


class Screen:
    """What a shell's channel shows."""

    def __init__(self, channel: trio_ssh.Channel) -> None:
        self.channel = channel
        self.text = ""

    async def wait_for(self, text: str) -> None:
        with trio.fail_after(30):
            while text not in self.text:
                chunk = await self.channel.receive_some()
                assert chunk, f"it ended: {self.text!r}"
                self.text += chunk.decode()

    async def type(self, text: str) -> None:
        self.text = ""
        await self.channel.send_all(text.encode())


@pytest.mark.usefixtures("as_root")
async def test_a_shell_has_a_terminal_that_can_be_resized_and_interrupted(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        channel = await client.invoke_shell(term="dumb", width=101, height=37, environment={"TEST_PROMPT": "ready> "})
        screen = Screen(channel)
        await screen.type("PS1=$TEST_PROMPT; stty -echo; stty size\n")
        await screen.wait_for("37 101\r\nready> ")
        channel.resize_pty(width=90, height=30)
        await screen.type("echo $TERM; stty size\n")
        await screen.wait_for("dumb\r\n30 90\r\nready> ")
        # Said by the sleeper itself: a shell that has not handed over its terminal yet may miss the key.
        await screen.type("sh -c 'echo asleep; exec sleep 3600'\n")
        await screen.wait_for("asleep\r\n")
        await screen.type("\x03")
        await screen.wait_for("ready> ")
        await screen.type("exit 9\n")
        assert await channel.recv_exit_status() == 9
        await channel.aclose()


@pytest.mark.usefixtures("as_root")
async def test_terminal_modes_arrive(sshd: Sshd) -> None:
    modes = {trio_ssh.TerminalMode.ECHO: 0, trio_ssh.TerminalMode.VINTR: 7}
    async with (
        sshd.connect() as client,
        await client.open_process("stty -a", term=trio_ssh.Pty("xterm", 70, 20, modes=modes)) as process,
    ):
        said = (await process.stdout.read()).decode()
    assert "rows 20; columns 70" in said
    assert " -echo " in said
    assert "intr = ^G" in said


# -- channels, and requests that concern none


async def test_a_ping_is_answered(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        transport = client.get_transport()
        assert transport is not None
        await transport.ping()
        await transport.send_ignore(1000)
        with pytest.raises(trio_ssh.RequestRefused, match="no-such-request"):
            await transport.global_request("no-such-request@example.com")
        with pytest.raises(trio_ssh.ChannelException, match="open failed"):
            await transport.open_channel("no-such-channel@example.com")
        await transport.ping()


async def test_a_keepalive_keeps_a_silent_connection(sshd: Sshd) -> None:
    async with sshd.connect(keepalive=0.02) as client:
        assert (await client.run_process("sleep 0.5")).returncode == 0


@pytest.mark.parametrize(
    "own_sshd", [["ClientAliveInterval 1", "ClientAliveCountMax 1", "RekeyLimit 1G 1"]], indirect=True
)
async def test_sshd_hears_that_a_silent_client_lives(own_sshd: Sshd) -> None:
    async with own_sshd.connect() as client:
        assert (await client.run_process("sleep 2.5")).returncode == 0


@pytest.mark.parametrize("own_sshd", [["PermitTTY no"]], indirect=True)
async def test_a_terminal_that_is_not_granted_is_refused(own_sshd: Sshd) -> None:
    async with own_sshd.connect() as client:
        with pytest.raises(trio_ssh.RequestRefused, match="the server grants no terminal"):
            await client.invoke_shell()
        assert (await client.run_process("true")).returncode == 0


async def test_a_subsystem_that_is_missing_is_refused(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        channel = await client.open_session()
        with pytest.raises(trio_ssh.RequestRefused, match="no such subsystem"):
            await channel.invoke_subsystem("no-such-subsystem")


async def test_a_tcp_stream_leads_where_sshd_sees_it(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        stream = await client.open_tcp_stream("127.0.0.1", sshd.port)
        assert (await stream.receive_some()).startswith(b"SSH-2.0-OpenSSH")
        await stream.aclose()
        # A connection in a connection.
        inner = await client.open_tcp_stream("localhost", sshd.port)
        async with sshd.connect(sock=inner) as second:
            done = await second.run_process("echo inside", capture_stdout=True)
        assert done.stdout == b"inside\n"
        with pytest.raises(trio_ssh.ChannelException, match=r"Connection refused"):
            await client.open_tcp_stream("127.0.0.1", 1)


async def test_sshd_is_met_on_the_pipes_of_a_process(own_sshd: Sshd) -> None:
    # As with ssh's ProxyCommand: a stream that is no socket.
    process = await trio.lowlevel.open_process(
        own_sshd.inetd_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with own_sshd.connect(sock=trio.StapledStream(process.stdin, process.stdout)) as client:
        done = await client.run_process("cat", stdin=bytes(LARGE), capture_stdout=True)
        assert done.stdout == bytes(LARGE)
    assert await process.wait() == 255  # sshd's way to say that the client has left
