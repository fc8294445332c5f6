"""Many connections, and many sessions on one."""

from __future__ import annotations

import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, PATIENCE, LetsAnyoneIn, Ssh, Sshd

pytestmark = pytest.mark.interop


# -- our client, real sshd


async def test_a_hundred_connections_one_after_another(sshd: Sshd) -> None:
    for number in range(100):
        async with sshd.connect() as client:
            if number % 10 == 0:
                assert (await client.run_process("true")).returncode == 0


async def test_twenty_connections_at_once(sshd: Sshd) -> None:
    arrived = 0

    async def meet(number: int, all_are_there: trio.Event) -> None:
        nonlocal arrived
        async with sshd.connect() as client:
            arrived += 1
            if arrived == 20:
                all_are_there.set()
            await all_are_there.wait()
            done = await client.run_process(f"echo {number}", capture_stdout=True)
            assert done.stdout == f"{number}\n".encode()

    async with trio.open_nursery() as nursery:
        all_are_there = trio.Event()
        for number in range(20):
            nursery.start_soon(meet, number, all_are_there)


async def test_ten_sessions_at_once_on_one_connection(sshd: Sshd) -> None:
    async with sshd.connect() as client, trio.open_nursery() as nursery:

        async def talk(number: int) -> None:
            data = bytes((number,)) * 1_000_000
            done = await client.run_process("cat", stdin=data, capture_stdout=True)
            assert done.stdout == data

        for number in range(10):
            nursery.start_soon(talk, number)


@pytest.mark.parametrize("own_sshd", [["MaxSessions 3"]], indirect=True)
async def test_more_sessions_than_sshd_grants_are_refused_one_by_one(own_sshd: Sshd) -> None:
    async with own_sshd.connect() as client:
        sessions = [await client.open_session() for _ in range(3)]
        with pytest.raises(trio_ssh.ChannelException, match="open failed"):
            await client.open_session()
        await sessions.pop().aclose()
        # sshd frees a session some time after our CLOSE, and before it answers what came behind that.
        transport = client.get_transport()
        assert transport is not None
        await transport.ping()
        sessions.append(await client.open_session())
        await sessions[-1].exec_command("echo fine")
        assert await sessions[-1].read() == b"fine\n"


# -- real ssh, our server


async def test_ssh_calls_a_hundred_times(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    loop = 'for i in $(seq 100); do "$@" server "echo $i" || exit; done'
    done = await ssh.run_command(["/bin/bash", "-c", loop, "bash", *ssh.command()])
    assert done.stderr == b""
    assert done.stdout.decode().split() == [str(number) for number in range(1, 101)]


async def test_ssh_calls_twenty_times_at_once(ssh: Ssh, nursery: trio.Nursery) -> None:
    arrived = 0
    all_are_there = trio.Event()

    class Server(LetsAnyoneIn):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            nonlocal arrived
            arrived += 1
            if arrived == 20:
                all_are_there.set()
            await all_are_there.wait()
            await process.stdout.write(process.command or "")
            return 0

    # Fewer than OpenSSH's MaxStartups may be logging in at once: not what is tested here.
    await ssh.serve(nursery, Server, limits=trio_ssh.Limits(startups_begin=100))

    async def call(number: int) -> None:
        done = await ssh.run("server", str(number))
        assert (done.stdout, done.stderr, done.returncode) == (str(number).encode(), b"", 0)

    async with trio.open_nursery() as calls:
        for number in range(20):
            calls.start_soon(call, number)


async def test_ten_sessions_share_the_connection_of_a_master(ssh: Ssh, nursery: trio.Nursery) -> None:
    connections = 0

    class Server(LetsAnyoneIn):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            nonlocal connections
            connections += 1
            return trio_ssh.AUTH_SUCCESSFUL

    await ssh.serve(nursery, Server)
    shared = ["-o", f"ControlPath={ssh.folder}/master"]
    started = await ssh.run("-M", "-f", "-N", *shared, "server")
    assert started.returncode == 0
    try:

        async def call(number: int) -> None:
            data = bytes((number,)) * 1_000_000
            done = await ssh.run(*shared, "server", f"cat; echo {number} >&2; exit {number}", stdin=data)
            assert (done.stdout, done.stderr, done.returncode) == (data, f"{number}\n".encode(), number)

        for _ in range(2):
            async with trio.open_nursery() as calls:
                for number in range(10):
                    calls.start_soon(call, number)
        assert (await ssh.run(*shared, "-O", "check", "server")).returncode == 0
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            ended = await ssh.run(*shared, "-O", "exit", "server")
    assert ended.returncode == 0
    assert connections == 1


def without_banners(stderr: bytes) -> bytes:
    """What ssh-keyscan complains of: comments, which name the server and its version, are none."""
    return b"".join(line for line in stderr.splitlines(True) if not line.startswith(b"#"))


@pytest.mark.parametrize("kind", KINDS)
async def test_ssh_keyscan_gets_each_key(ssh: Ssh, nursery: trio.Nursery, kind: str) -> None:
    await ssh.serve(nursery, host_keys=[ssh.host_keys.load(kind)])
    keytype = kind.rstrip("0123456789") if kind.startswith("ecdsa") else kind
    done = await ssh.run_command(["ssh-keyscan", "-p", str(ssh.port), "-t", keytype, "127.0.0.1"])
    assert (done.returncode, without_banners(done.stderr)) == (0, b"")
    [line] = done.stdout.decode().splitlines()
    assert line.split()[1:] == ssh.host_keys.public(kind).split()[:2]


async def test_ssh_keyscan_gets_all_keys(ssh: Ssh, nursery: trio.Nursery) -> None:
    kinds = ("ed25519", "ecdsa256", "rsa")
    await ssh.serve(nursery)
    done = await ssh.run_command(["ssh-keyscan", "-p", str(ssh.port), "-t", "rsa,ecdsa,ed25519", "127.0.0.1"])
    assert (done.returncode, without_banners(done.stderr)) == (0, b"")
    scanned = {tuple(line.split()[1:]) for line in done.stdout.decode().splitlines()}
    assert scanned == {tuple(ssh.host_keys.public(kind).split()[:2]) for kind in kinds}
