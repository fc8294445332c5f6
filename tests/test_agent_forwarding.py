"""Forwarding an agent: only after it was asked for, only where it was granted, and no longer than the session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

import trio_ssh
from trio_ssh.testing import memory_pair, open_memory_client

KEY: Final = trio_ssh.Ed25519Key(bytes(32), "mine")

Handle = Callable[[trio_ssh.ServerProcess], Awaitable[int | None]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, for sockets."""
    path = Path(tempfile.mkdtemp(prefix="a-"))
    yield path
    shutil.rmtree(path)


class Host(trio_ssh.ServerInterface):
    """Runs a session that may have an agent."""

    def __init__(self, handle: Handle, *, is_granted: bool = True) -> None:
        self._handle = handle
        self._is_granted = is_granted

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    def check_channel_forward_agent_request(self, channel: trio_ssh.Channel) -> bool:
        return self._is_granted

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int | None:
        return await self._handle(process)


async def list_keys(process: trio_ssh.ServerProcess) -> None:
    """Say which keys there are, and sign with each."""
    async with trio_ssh.Agent(stream=await process.open_agent()) as agent:
        for key in await agent.get_keys():
            key.public_key.verify(b"data", await key.sign(b"data"), key.algorithms[0])
            await process.stdout.write(f"{key.comment}\n")


async def run(client: trio_ssh.SSHClient, agent: Callable[[trio_ssh.Channel], Awaitable[None]]) -> str:
    """Run a session with an agent; return what it says."""
    channel = await client.open_session()
    await channel.request_forward_agent(agent)
    await channel.exec_command("")
    said = await channel.read()
    assert await channel.recv_exit_status() == 0
    return said.decode()


async def test_keys_for_some_destinations_are_kept_from_a_host_that_is_none_of_them() -> None:
    """It need not say that it is elsewhere, and may say that it is a program of this machine."""
    here, target = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    to_here = trio_ssh.AgentHop("here", host_keys=[here.public_key])
    to_target = trio_ssh.AgentHop("target", host_keys=[target.public_key])
    agent_server = trio_ssh.AgentServer()
    straight, onwards = trio_ssh.Ed25519Key.generate("straight"), trio_ssh.Ed25519Key.generate("onwards")
    agent_server.add(straight, destinations=[trio_ssh.AgentDestination(to_target)])
    through = [trio_ssh.AgentDestination(to_here), trio_ssh.AgentDestination(to_target, origin=to_here)]
    agent_server.add(onwards, destinations=through)
    seen: list[list[str]] = []

    class Target(trio_ssh.ServerInterface):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL

    async def go_on(process: trio_ssh.ServerProcess) -> None:
        agent = trio_ssh.Agent(stream=await process.open_agent())
        seen.append([key.comment for key in await agent.get_keys()])
        ours, theirs = memory_pair()
        async with agent, trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio_ssh.serve_stream, theirs, Target(), host_keys=[target]))
            async with trio_ssh.Transport(ours) as transport:
                await transport.start_client(check_host_key=lambda key: None)
                await agent.bind_session(transport)
                keys = await agent.get_keys()
                seen.append([key.comment for key in keys])
                await transport.auth_publickey("root", keys[0])
                assert transport.is_authenticated()
                stolen = trio_ssh.AgentKey(agent, straight.public_key.asbytes())
                with pytest.raises(trio_ssh.AgentException):
                    await stolen.sign(b"data")
            nursery.cancel_scope.cancel()

    async with open_memory_client(Host(go_on), host_key=here) as client:
        await run(client, agent_server.serve_stream)
    assert seen == [["onwards"], ["onwards"]]


async def test_a_session_uses_the_keys_of_its_client() -> None:
    async with open_memory_client(Host(list_keys)) as client:
        assert await run(client, trio_ssh.AgentServer([KEY]).serve_stream) == "mine\n"


async def test_a_session_uses_its_clients_running_agent(place: Path, nursery: trio.Nursery) -> None:
    await nursery.start(trio_ssh.AgentServer([KEY]).serve_unix, place / "agent")
    async with open_memory_client(Host(list_keys)) as client:
        assert await run(client, trio_ssh.forwarded_agent(place / "agent")) == "mine\n"


async def test_the_agent_knows_to_which_host_it_is_forwarded(place: Path, nursery: trio.Nursery) -> None:
    host, beyond = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    hop = trio_ssh.AgentHop("host", [host.public_key])
    way = [trio_ssh.AgentDestination(hop), trio_ssh.AgentDestination(trio_ssh.AgentHop("b", [beyond.public_key]), hop)]
    server = trio_ssh.AgentServer()
    server.add(KEY, comment="goes on", destinations=way)
    server.add(trio_ssh.Ed25519Key.generate(), comment="ends here", destinations=way[:1])
    await nursery.start(server.serve_unix, place / "agent")

    async def list_names(process: trio_ssh.ServerProcess) -> None:
        async with trio_ssh.Agent(stream=await process.open_agent()) as agent:
            for key in await agent.get_keys():
                await process.stdout.write(f"{key.comment}\n")

    for key, seen in ((host, "goes on\n"), (trio_ssh.Ed25519Key.generate(), "")):
        async with open_memory_client(Host(list_names), host_key=key) as client:
            assert await run(client, trio_ssh.forwarded_agent(place / "agent")) == seen


async def test_where_the_client_has_no_agent_the_session_is_told(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def find_none(process: trio_ssh.ServerProcess) -> None:
        async with trio_ssh.Agent(stream=await process.open_agent()) as agent:
            with pytest.raises(trio_ssh.AgentException, match="hung up"):
                await agent.get_keys()

    async with open_memory_client(Host(find_none)) as client:
        assert await run(client, trio_ssh.forwarded_agent(place / "nowhere")) == ""
    assert "an agent could not be forwarded: no agent listens" in caplog.text


async def test_a_server_refuses_by_default() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> None:
        assert not process.forwards_agent

    class Default(Host):
        check_channel_forward_agent_request = trio_ssh.ServerInterface.check_channel_forward_agent_request

    async with open_memory_client(Default(handle)) as client:
        channel = await client.open_session()
        with pytest.raises(trio_ssh.RequestRefused, match="does not forward agents"):
            await channel.request_forward_agent(trio_ssh.AgentServer([KEY]).serve_stream)


async def test_a_session_that_was_offered_no_agent_opens_no_channel() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> None:
        assert not process.forwards_agent
        with pytest.raises(trio_ssh.LocalProtocolError, match="did not ask for it"):
            await process.open_agent()

    async with open_memory_client(Host(handle)) as client:
        await client.run_process("x")


async def test_a_client_that_offered_no_agent_accepts_no_channel() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> None:
        transport = process.channel.get_transport()
        assert isinstance(transport, trio_ssh.Transport)
        with pytest.raises(trio_ssh.ChannelException, match="administratively prohibited"):
            await transport.open_channel("auth-agent@openssh.com")

    async with open_memory_client(Host(handle)) as client:
        await client.run_process("x")


async def test_an_agent_that_fails_ends_its_channel_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(channel: trio_ssh.Channel) -> None:
        raise ZeroDivisionError("a bug of the user's")

    async def find_none(process: trio_ssh.ServerProcess) -> None:
        if not process.forwards_agent:
            return
        channel = await process.open_agent()
        assert await channel.receive_some() == b""
        await channel.aclose()

    async with open_memory_client(Host(find_none)) as client:
        assert await run(client, fail) == ""
        await client.run_process("the connection goes on")
    assert "what serves auth-agent@openssh.com channels failed" in caplog.text


async def test_several_sessions_use_it_at_once() -> None:
    server = trio_ssh.AgentServer([KEY])
    async with open_memory_client(Host(list_keys)) as client, trio.open_nursery() as nursery:

        async def check() -> None:
            assert await run(client, server.serve_stream) == "mine\n"

        for _ in range(5):
            nursery.start_soon(check)


async def test_programs_of_a_session_find_it_in_their_environment(nursery: trio.Nursery) -> None:
    paths: list[str] = []

    async def handle(process: trio_ssh.ServerProcess) -> None:
        async with trio_ssh.agent_socket(process) as path:
            paths.append(path)
            assert (await trio.Path(path).stat()).st_mode & 0o777 == 0o600
            assert (await trio.Path(path).parent.stat()).st_mode & 0o777 == 0o700
            for _ in range(3):
                async with trio_ssh.Agent(path) as agent:
                    await process.stdout.write(f"{[key.comment for key in await agent.get_keys()]}\n")

    async with open_memory_client(Host(handle)) as client:
        assert await run(client, trio_ssh.AgentServer([KEY]).serve_stream) == "['mine']\n" * 3
    assert not await trio.Path(paths[0]).parent.exists()


async def test_a_client_that_closes_the_agents_channel_ends_the_programs_connection() -> None:
    async def hang_up(channel: trio_ssh.Channel) -> None:
        await channel.receive_some()

    async def handle(process: trio_ssh.ServerProcess) -> None:
        async with trio_ssh.agent_socket(process) as path, trio_ssh.Agent(path) as agent:
            with pytest.raises(trio_ssh.AgentException, match="hung up"):
                await agent.get_keys()

    async with open_memory_client(Host(handle)) as client:
        assert await run(client, hang_up) == ""


async def test_a_socket_is_gone_when_its_session_is_cancelled() -> None:
    is_there = trio.Event()
    paths: list[str] = []

    async def handle(process: trio_ssh.ServerProcess) -> None:
        async with trio_ssh.agent_socket(process) as path:
            paths.append(path)
            is_there.set()
            await trio.sleep_forever()

    async with open_memory_client(Host(handle)) as client:
        channel = await client.open_session()
        await channel.request_forward_agent(trio_ssh.AgentServer([KEY]).serve_stream)
        await channel.exec_command("")
        await is_there.wait()
        assert await trio.Path(paths[0]).exists()
    assert not await trio.Path(paths[0]).parent.exists()
