"""A client and a server in one process: what users' tests are made of."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, USER_KEY, OpenDoor, echo, sleep
from trio_ssh.testing import FragmentedStream, memory_pair, open_memory_client


async def test_the_example_of_the_documentation_works(autojump_clock: trio.testing.MockClock) -> None:
    class Greeter(trio_ssh.ServerInterface):
        async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL if password == "x" else trio_ssh.AUTH_FAILED

        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            if process.command == "sleep 3600":
                await trio.sleep(3600)
            async for line in process.stdin.lines():
                await process.stdout.write(line.upper())
            return 0

    async with open_memory_client(Greeter(), password="x") as client:
        done = await client.run_process("shout", stdin=b"hello\n", capture_stdout=True)
        assert done.stdout == b"HELLO\n"
        with pytest.raises(trio.TooSlowError), trio.fail_after(60):
            await client.run_process("sleep 3600")
        assert trio.current_time() == pytest.approx(60), "a handler that asks for no signals is ended by TERM"


async def test_the_host_key_is_known_whichever_it_is() -> None:
    for key in (None, HOST_KEY, trio_ssh.ECDSAKey.generate()):
        async with open_memory_client(OpenDoor(), host_key=key) as client:
            transport = client.get_transport()
            assert transport is not None
            if key is not None:
                assert transport.get_remote_server_key() == key.public_key


async def test_every_credential_can_be_given() -> None:
    for credentials in ({"password": "x"}, {"pkey": USER_KEY}, {"prompt_handler": lambda *prompts: ["x"]}, {}):
        async with open_memory_client(OpenDoor(), username="alice", **credentials) as client:  # type: ignore[arg-type]
            transport = client.get_transport()
            assert transport is not None
            assert transport.get_username() == "alice"


async def test_streams_and_algorithms_can_be_given() -> None:
    ours, theirs = memory_pair()
    async with open_memory_client(
        OpenDoor(echo),
        streams=(FragmentedStream(ours, 100), theirs),
        ciphers=["aes256-ctr"],
        macs=["hmac-sha2-512-etm@openssh.com"],
        kex=["curve25519-sha256"],
        compressions=["zlib@openssh.com"],
    ) as client:
        negotiated = client.get_transport().get_negotiated()  # type: ignore[union-attr]
        assert negotiated is not None
        assert negotiated.kex == "curve25519-sha256"
        assert negotiated.client_to_server.cipher == "aes256-ctr"
        assert negotiated.client_to_server.compression == "zlib@openssh.com"
        done = await client.run_process("x", stdin=b"hello" * 1000, capture_stdout=True)
        assert done.stdout == b"hello" * 1000


async def test_a_refused_login_leaves_the_block_and_no_task_behind() -> None:
    living = trio.lowlevel.current_statistics().tasks_living

    async def main() -> None:
        async with open_memory_client(trio_ssh.ServerInterface(), password="x"):
            raise AssertionError("let in")

    with pytest.raises(trio_ssh.AuthenticationException):
        await main()
    assert trio.lowlevel.current_statistics().tasks_living == living


async def test_a_handler_s_exception_is_not_overlooked() -> None:
    async def fail(process: trio_ssh.ServerProcess) -> int:
        await trio.lowlevel.checkpoint()
        raise ValueError("mine")

    async def main() -> None:
        async with open_memory_client(OpenDoor(fail), host_key=HOST_KEY) as client:
            await client.run_process("x", check=False, capture_stdout=True)

    with pytest.raises(ValueError, match="mine"):
        await main()


async def test_a_server_s_own_note_of_its_failures_is_taken_as_well() -> None:
    noted: list[Exception] = []

    class Careful(OpenDoor):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            raise ValueError("a mistake in the handler")

        def handler_failed(self, error: Exception) -> None:
            noted.append(error)

    with pytest.raises(ValueError, match="a mistake") as raised:
        async with open_memory_client(Careful()) as client:
            await client.run_process("work", check=False)
    assert noted == [raised.value]


async def test_the_body_s_exception_comes_before_the_handler_s() -> None:
    async def fail(process: trio_ssh.ServerProcess) -> int:
        await trio.lowlevel.checkpoint()
        raise ValueError("the handler's")

    async def main() -> None:
        async with open_memory_client(OpenDoor(fail), host_key=HOST_KEY) as client:
            await client.run_process("x", capture_stdout=True)

    with pytest.raises(trio_ssh.ProcessError):
        await main()


async def test_a_mistake_in_the_server_s_settings_is_raised() -> None:
    async def main() -> None:
        async with open_memory_client(OpenDoor(), ciphers=["rot13"]):
            raise AssertionError("let in")

    with pytest.raises(ValueError, match="unknown ciphers"):
        await main()


async def test_two_clients_of_two_servers_live_side_by_side() -> None:
    async with (
        open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as one,
        open_memory_client(OpenDoor(sleep), host_key=HOST_KEY) as other,
    ):
        await other.open_process("sleep")
        assert (await one.run_process("x", stdin=b"hello", capture_stdout=True)).stdout == b"hello"


async def test_a_pair_breaks_off_like_a_socket() -> None:
    ours, theirs = memory_pair()
    await ours.send_all(b"x")
    await ours.aclose()
    assert await theirs.receive_some() == b"x"
    assert await theirs.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"y")
