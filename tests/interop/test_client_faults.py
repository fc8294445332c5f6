"""Our client where the server breaks off, or is none."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio

import trio_ssh
from tests.interop.peers import Sshd, free_port

pytestmark = pytest.mark.interop


# -- sshd is killed


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_whoever_waits_hears_that_sshd_was_killed(own_sshd: Sshd) -> None:
    heard: list[str] = []

    async with own_sshd.connect() as client:
        transport = client.get_transport()
        assert transport is not None

        async def hears(name: str, function: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(trio_ssh.ConnectionLost) as raised:
                await function()
            assert isinstance(raised.value, trio.BrokenResourceError)
            heard.append(name)

        downloading = await client.open_process("cat /dev/zero")
        uploading = await client.open_process("cat > /dev/null")
        silent = await client.open_process("sleep 3600")

        async def download() -> None:
            while await downloading.stdout.receive_some():
                pass

        async def upload() -> None:
            while True:
                await uploading.stdin.send_all(bytes(1_000_000))

        async def run(  # noqa: ASYNC114, ASYNC128 -- run_process calls it started
            task_status: trio.TaskStatus[trio_ssh.Process],
        ) -> None:
            await hears("run", functools.partial(client.run_process, "sleep 3600", task_status=task_status))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hears, "download", download)
            nursery.start_soon(hears, "upload", upload)
            nursery.start_soon(hears, "wait", silent.wait)
            nursery.start_soon(hears, "stderr", silent.stderr.receive_some)
            nursery.start_soon(transport.wait_closed)
            await nursery.start(run)
            own_sshd.kill_connections()
        assert sorted(heard) == ["download", "run", "stderr", "upload", "wait"]
        assert not transport.is_active()
        with pytest.raises(trio_ssh.ConnectionLost):
            await client.run_process("true")
    # The listening process lives, and so does a new connection.
    async with own_sshd.connect() as client:
        assert (await client.run_process("true")).returncode == 0


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_sshd_is_killed_while_the_host_key_is_looked_at(own_sshd: Sshd) -> None:
    class Killing(trio_ssh.MissingHostKeyPolicy):
        def missing_host_key(self, client: object, hostname: str, key: trio_ssh.PublicKey) -> None:
            own_sshd.kill()

    with pytest.raises(trio_ssh.ConnectionLost):
        async with own_sshd.connect(known_hosts=trio_ssh.HostKeys(), policy=Killing):
            pass


@pytest.mark.parametrize("own_sshd", [["UsePAM yes", "PasswordAuthentication no"]], indirect=True)
async def test_sshd_is_killed_while_a_prompt_is_answered(own_sshd: Sshd, password: str) -> None:
    def kill(name: str, instructions: str, prompts: Sequence[trio_ssh.Prompt]) -> list[str]:
        own_sshd.kill_connections()
        return [password]

    with pytest.raises(trio_ssh.ConnectionLost):
        async with own_sshd.connect(pkey=None, prompt_handler=kill, look_for_keys=False):
            pass


@pytest.mark.parametrize("own_sshd", [["LoginGraceTime 1"]], indirect=True)
async def test_a_prompt_that_is_answered_too_late_finds_the_connection_lost(own_sshd: Sshd) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", own_sshd.port)
    async with trio_ssh.Transport(stream) as transport:
        await transport.start_client(check_host_key=lambda key: None)
        await transport.wait_closed()
        with pytest.raises(trio_ssh.ConnectionLost):
            await transport.auth_publickey(own_sshd.account.name, own_sshd.user_keys.load("ed25519"))


# -- sshd does nothing any more


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_a_keepalive_finds_out_that_sshd_does_nothing(own_sshd: Sshd) -> None:
    async with own_sshd.connect(keepalive=0.05) as client:
        process = await client.open_process("sleep 3600")
        own_sshd.stop_connections()
        with pytest.raises(trio_ssh.ConnectionLost, match=r"the peer has been silent for 0\.\d+ seconds"):
            await process.wait()


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_a_login_is_given_up_in_time(own_sshd: Sshd) -> None:
    class Stopping(trio_ssh.MissingHostKeyPolicy):
        def missing_host_key(self, client: object, hostname: str, key: trio_ssh.PublicKey) -> None:
            own_sshd.stop_connections()

    options = {"known_hosts": trio_ssh.HostKeys(), "policy": Stopping}
    with pytest.raises(trio_ssh.ConnectionLost, match=r"did not finish the login within 0\.5 seconds"):
        async with own_sshd.connect(limits=trio_ssh.Limits(login_seconds=0.5), **options):
            pass
    own_sshd.kill_connections()
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.5):
        async with own_sshd.connect(**options):
            pass


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_leaving_a_block_does_not_wait_for_an_sshd_that_does_nothing(own_sshd: Sshd) -> None:
    with trio.fail_after(20):
        async with own_sshd.connect() as client:
            process = await client.open_process("cat > /dev/null")
            own_sshd.stop_connections()
            with trio.move_on_after(0.2):
                while True:
                    await process.stdin.send_all(bytes(1_000_000))


async def test_giving_up_at_any_moment_of_a_connection_leaves_nothing_behind(sshd: Sshd) -> None:
    async with sshd.connect() as client:
        assert (await client.run_process("true")).returncode == 0
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(40):
        with trio.move_on_after(turn / 1000):
            async with sshd.connect() as client:
                await client.run_process("true")
    assert len(os.listdir("/proc/self/fd")) == before


# -- no sshd


async def says(nursery: trio.Nursery, first: bytes, *, then_wait: bool) -> int:
    """Listen on the port that is returned, and greet each client with `first`."""

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(first)
        if then_wait:
            while await stream.receive_some():
                pass

    serve = functools.partial(trio.serve_tcp, greet, 0, host="127.0.0.1")
    [listener] = await nursery.start(serve)
    port: int = listener.socket.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("greeting", "quoted"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: \x1b[31mx\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"220 mail.example.com ESMTP\r\n", "220 mail.example.com ESMTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", r"\x15\x03\x01\x00\x02\x02F"),
        (bytes(range(256)), r"\x00\x01\x02"),
        (b"SSH-1.5-old\r\n", "SSH-1.5-old"),
        (b"SSH-2.0-\x1b]0;title\x07\r\n", r"\x1b]0;title\x07"),
    ],
)
async def test_what_is_not_ssh_is_quoted_escaped(nursery: trio.Nursery, greeting: bytes, quoted: str) -> None:
    port = await says(nursery, greeting, then_wait=True)
    with pytest.raises(trio_ssh.RemoteProtocolError) as raised:
        async with trio_ssh.connect("127.0.0.1", port, look_for_keys=False):
            pass
    assert quoted in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("greeting", [b"", b"go away\r\n", b"SSH-2.0-incomplete"])
async def test_a_server_that_hangs_up_is_quoted_too(nursery: trio.Nursery, greeting: bytes) -> None:
    port = await says(nursery, greeting, then_wait=False)
    # It hangs up on what we have sent unread: the reset that follows must not swallow its words.
    with pytest.raises(trio_ssh.ConnectionLost) as raised:
        async with trio_ssh.connect("127.0.0.1", port, look_for_keys=False):
            pass
    assert greeting.decode().strip() in str(raised.value)


async def test_a_port_where_nobody_listens_is_an_oserror() -> None:
    with pytest.raises(OSError, match=r"Connection refused"):
        async with trio_ssh.connect("127.0.0.1", free_port(), look_for_keys=False):
            pass


async def test_a_name_that_does_not_exist_is_an_oserror() -> None:
    with pytest.raises(socket.gaierror):
        async with trio_ssh.connect("no-such-host.invalid", look_for_keys=False):
            pass


@pytest.mark.parametrize("own_sshd", [["Ciphers aes128-ctr"]], indirect=True)
async def test_without_a_common_algorithm_both_lists_are_shown(own_sshd: Sshd) -> None:
    with pytest.raises(trio_ssh.IncompatiblePeer) as raised:
        async with own_sshd.connect(ciphers=["aes128-gcm@openssh.com"]):
            pass
    assert (raised.value.ours, raised.value.theirs) == (("aes128-gcm@openssh.com",), ("aes128-ctr",))
