"""What real ssh gets from our server: commands, streams, statuses, environments, subsystems."""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence

import pytest
import trio

import trio_ssh
from tests.interop.peers import LetsAnyoneIn, Ssh, eventually, free_port

pytestmark = pytest.mark.interop

LARGE = 8 * 1024 * 1024

#: Words that ssh uses, with -v, for what it does not like.
COMPLAINTS = ("error", "unexpected", "bad", "corrupt", "Connection reset", "invalid", "mismatch")


async def test_status_and_both_streams_arrive(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("server", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)


@pytest.mark.parametrize("status", [0, 1, 127, 254])
async def test_the_handlers_return_value_is_the_status(ssh: Ssh, nursery: trio.Nursery, status: int) -> None:
    class Server(LetsAnyoneIn):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            await process.stdout.write(f"{process.username} asks for {process.command}\n")
            return int(process.command or 0)

    await ssh.serve(nursery, Server)
    done = await ssh.run("server", str(status))
    assert (done.stdout, done.returncode) == (f"alice asks for {status}\n".encode(), status)


async def test_a_command_that_is_missing_is_reported_by_the_shell(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("server", "no-such-command")
    assert done.returncode == 127
    assert b"no-such-command: command not found" in done.stderr


async def test_a_death_by_signal_is_no_status(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-v", "server", "kill -TERM $$")
    assert done.returncode == 255
    assert b"rtype exit-signal reply 0" in done.stderr
    assert b"Exit status -1" in done.stderr


async def test_stdin_arrives_with_its_end(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    data = bytes(range(256)) * (LARGE // 256)
    done = await ssh.run("server", "sha256sum", stdin=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_a_command_that_reads_nothing_ends_although_much_is_sent_to_it(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("server", "exec <&-; echo out", stdin=bytes(LARGE))
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"", 0)


async def test_a_handler_that_reads_nothing_ends_its_session_although_much_is_sent_to_it(
    ssh: Ssh, nursery: trio.Nursery
) -> None:
    class Server(LetsAnyoneIn):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            await process.stdout.write("enough")
            return 4

    await ssh.serve(nursery, Server)
    done = await ssh.run("server", "read", stdin=bytes(LARGE))
    assert (done.stdout, done.stderr, done.returncode) == (b"enough", b"", 4)


async def test_much_on_stdout_and_stderr_at_once_arrives(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("server", f"head -c {LARGE} /dev/zero & head -c {LARGE} /dev/zero >&2; wait")
    assert (len(done.stdout), len(done.stderr), done.returncode) == (LARGE, LARGE, 0)


async def test_variables_arrive_where_the_server_grants_them(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    options = ["-o", "SetEnv=TEST_SET=1 LD_PRELOAD=/evil", "-o", "SendEnv=TEST_*"]
    done = await ssh.run(*options, "server", "env", env={"TEST_SENT": "two words"})
    environment = dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
    assert environment["TEST_SET"] == "1"
    assert environment["TEST_SENT"] == "two words"
    assert "LD_PRELOAD" not in environment


async def test_a_shell_reads_its_commands_from_stdin(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-T", "server", stdin=b"echo $((6 * 7))\nexit 5\n")
    # A login shell may clear the screen when it ends.
    assert done.stdout.startswith(b"42\n")
    assert done.returncode == 5


class Reverse(trio_ssh.SubsystemHandler):
    async def handle(self, process: trio_ssh.ServerProcess) -> int:
        async for line in process.stdin.lines():
            await process.stdout.write(line[-2::-1] + "\n")
        return 7


class ServesReverse(LetsAnyoneIn):
    def __init__(self) -> None:
        self.subsystems = {"reverse@example.com": Reverse}


async def test_a_subsystem_runs(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, ServesReverse)
    done = await ssh.run("-s", "server", "reverse@example.com", stdin=b"abc\ndef\n")
    assert (done.stdout, done.returncode) == (b"cba\nfed\n", 7)


async def test_an_unknown_subsystem_is_refused(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, ServesReverse)
    done = await ssh.run("-s", "server", "sftp")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"subsystem request failed on channel 0" in done.stderr


class GrantsNothing(trio_ssh.ServerInterface):
    """Serves sessions, and refuses whatever is asked for in them."""

    def __init__(self) -> None:
        self.subsystems = {"reverse@example.com": Reverse}

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["server", "true"], b"exec request failed on channel 0"),
        (["-T", "server"], b"shell request failed on channel 0"),
        (["-tt", "server"], b"PTY allocation request failed on channel 0"),
    ],
)
async def test_what_is_refused_ends_ssh_with_a_word(
    ssh: Ssh, nursery: trio.Nursery, arguments: Sequence[str], words: bytes
) -> None:
    await ssh.serve(nursery, GrantsNothing)
    done = await ssh.run(*arguments)
    assert done.returncode == 255
    assert words in done.stderr


async def test_a_terminal_is_a_terminal(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run(
        "-tt", "server", "test -t 0 && test -t 1 && test -t 2 && echo $TERM; tty", env={"TERM": "xterm"}
    )
    lines = done.stdout.decode().split("\r\n")
    assert lines[0] == "xterm"
    assert lines[1].startswith("/dev/")


async def test_without_a_terminal_there_is_none(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-T", "server", 'tty; echo "[$SSH_TTY]"')
    assert done.stdout == b"not a tty\n[]\n"


async def test_forwarding_that_is_refused_ends_ssh_with_a_word(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-W", "127.0.0.1:9", "server")
    assert done.returncode == 255
    assert b"administratively prohibited" in done.stderr
    assert b"stdio forwarding failed" in done.stderr


async def test_forwarding_that_is_granted_leads_to_the_handler(ssh: Ssh, nursery: trio.Nursery) -> None:
    class Server(LetsAnyoneIn):
        def check_channel_direct_tcpip_request(
            self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
        ) -> trio_ssh.OpenResult:
            return trio_ssh.OPEN_SUCCEEDED

        async def handle_channel(self, channel: trio_ssh.Channel, destination: tuple[str, int] | None) -> None:
            await channel.send_all(f"{destination}\n".encode())
            async for chunk in channel:
                await channel.send_all(chunk)

    await ssh.serve(nursery, Server)
    data = bytes(range(256)) * (LARGE // 256)
    done = await ssh.run("-W", "db.internal:5432", "server", stdin=data)
    assert done.stdout == b"('db.internal', 5432)\n" + data
    assert done.returncode == 0


class Gateway(LetsAnyoneIn):
    """Forwards whatever a client wants."""

    gateway_ports = False

    async def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> trio_ssh.OpenResult:
        return await self.connect_for_client(chanid, destination)

    async def check_port_forward_request(self, address: str, port: int) -> int:
        return await self.listen_for_client(address, port, gateway_ports=self.gateway_ports)


class OpenGateway(Gateway):
    """Listens at all addresses."""

    gateway_ports = True


async def shouting(nursery: trio.Nursery) -> int:
    """A service that answers when all is said."""

    async def shout(stream: trio.SocketStream) -> None:
        data = b"".join([bytes(chunk) async for chunk in stream])
        await stream.send_all(data.upper())
        await stream.send_eof()

    [listener] = await nursery.start(functools.partial(trio.serve_tcp, shout, 0, host="127.0.0.1"))
    port: int = listener.socket.getsockname()[1]
    return port


def listens(port: int) -> bool:
    """Whether somebody does there."""
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


async def shouts_at(port: int, size: int) -> None:
    data = b"hello" * (size // 5)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        nursery.start_soon(send)
        assert b"".join([bytes(chunk) async for chunk in stream]) == data.upper()


@pytest.mark.parametrize("bind", ["", "localhost:", "127.0.0.1:", "*:"])
@pytest.mark.parametrize("factory", [Gateway, OpenGateway])
async def test_ssh_forwards_ports_in_both_directions(
    ssh: Ssh, nursery: trio.Nursery, factory: type[Gateway], bind: str
) -> None:
    await ssh.serve(nursery, factory)
    target, local, remote = await shouting(nursery), free_port(), free_port()
    forwards = ("-L", f"{local}:127.0.0.1:{target}", "-R", f"{bind}{remote}:127.0.0.1:{target}")
    command = ssh.command("-o", "ExitOnForwardFailure=yes", *forwards, "server", "echo here; cat")
    process = await nursery.start(
        functools.partial(
            trio.run_process, command, env=ssh.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    )
    assert await process.stdout.receive_some() == b"here\n"
    for port in (local, remote):
        await shouts_at(port, 5)
        await shouts_at(port, LARGE)
    await process.stdin.aclose()
    await process.wait()
    await eventually(lambda: not listens(remote))


async def test_ssh_is_told_the_port_that_was_chosen_for_it(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Gateway)
    done = await ssh.run("-R", "0:127.0.0.1:9", "server", "true")
    assert b"Allocated port" in done.stderr


async def test_ssh_goes_on_to_the_next_host_and_hears_where_there_is_none(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Gateway)
    target = await shouting(nursery)
    done = await ssh.run("-W", f"127.0.0.1:{target}", "server", stdin=b"x" * LARGE)
    assert (done.returncode, done.stdout) == (0, b"X" * LARGE)
    done = await ssh.run("-W", f"127.0.0.1:{free_port()}", "server")
    assert done.returncode == 255
    assert b"connect failed" in done.stderr


async def test_a_remote_forward_that_is_refused_is_told(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9", "server", "true")
    assert done.returncode == 255
    assert b"remote port forwarding failed" in done.stderr


async def test_ssh_without_a_command_stays_until_it_is_ended(ssh: Ssh, nursery: trio.Nursery) -> None:
    logged_in = trio.Event()
    gone = trio.Event()

    class Server(LetsAnyoneIn):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            logged_in.set()
            nursery.start_soon(self.wait)
            return trio_ssh.AUTH_SUCCESSFUL

        async def wait(self) -> None:
            await self.transport.wait_closed()
            gone.set()

    await ssh.serve(nursery, Server)
    process = await trio.lowlevel.open_process(ssh.command("-N", "server"), env=ssh.environment())
    await logged_in.wait()
    process.terminate()
    await process.wait()
    await gone.wait()


async def test_a_verbose_ssh_has_no_complaint(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-vvv", "-C", "-o", "RekeyLimit=1M", "server", f"head -c {LARGE} /dev/zero; cat", stdin=b"end")
    assert done.stdout == bytes(LARGE) + b"end"
    lines = [line for line in done.stderr.decode().splitlines() if any(word in line for word in COMPLAINTS)]
    assert lines == []


async def test_a_client_that_is_killed_ends_the_handler_and_its_command(ssh: Ssh, nursery: trio.Nursery) -> None:
    ended = trio.Event()
    pid = 0

    class Server(LetsAnyoneIn):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            try:
                return await super().handle_session(process)
            finally:
                ended.set()

    await ssh.serve(nursery, Server)
    command = ssh.command("server", "echo $$; exec sleep 3600")
    process = await trio.lowlevel.open_process(command, env=ssh.environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(await process.stdout.receive_some())
    process.kill()
    await process.wait()
    await process.stdout.aclose()
    await ended.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_signal_that_a_client_sends_reaches_the_command(ssh: Ssh, nursery: trio.Nursery) -> None:
    # No option of ssh's sends one; its server's side is tested by ours.
    await ssh.serve(nursery)
    async with trio_ssh.connect(
        "127.0.0.1", ssh.port, "alice", known_hosts=ssh.known_hosts, look_for_keys=False
    ) as client:
        process = await client.open_process("trap 'echo caught; exit 4' USR1; echo ready; read -r line")
        assert await process.stdout.read_line() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert await process.stdout.read_line() == "caught\n"
        assert await process.wait() == 4


async def test_signs_of_life_are_answered(ssh: Ssh, nursery: trio.Nursery) -> None:
    asked = 0

    class Server(LetsAnyoneIn):
        def global_requested(self, name: str, details: bytes) -> object:
            nonlocal asked
            asked += name == "keepalive@openssh.com"
            return super().global_requested(name, details)

        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            # A second one comes only if the first was answered.
            await eventually(lambda: asked == 2)
            return 6

    await ssh.serve(nursery, Server)
    done = await ssh.run("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1", "server", "wait")
    assert done.returncode == 6


async def test_an_idle_session_gets_new_keys_when_ssh_finds_them_old(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    done = await ssh.run("-v", "-o", "RekeyLimit=1G 1", "-o", "ServerAliveInterval=1", "server", "sleep 2.5; echo fine")
    assert (done.stdout, done.returncode) == (b"fine\n", 0)
    assert done.stderr.count(b"SSH2_MSG_NEWKEYS received") > 1
