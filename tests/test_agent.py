"""`Agent`: what it asks, and what it makes of an agent that dies, lies, is slow or says nothing."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

import trio_ssh
from trio_ssh.agent import RawFile, checked_destinations, default_path, open_named_pipe
from trio_ssh.agent_server import listening_socket
from trio_ssh.keys import agent_protocol as protocol
from trio_ssh.testing import memory_pair, open_memory_client

KEY: Final = trio_ssh.Ed25519Key(bytes(32), "first")
RSA_KEY: Final = trio_ssh.RSAKey.generate(2048, "second")

FAILURE: Final = protocol.frame(protocol.AgentFailure().encode())
SUCCESS: Final = protocol.frame(protocol.AgentSuccess(b"").encode())


@asynccontextmanager
async def served(server: trio_ssh.AgentServer) -> AsyncGenerator[trio_ssh.Agent]:
    """An agent of ours, in memory."""
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        async with trio_ssh.Agent(stream=ours) as agent:
            yield agent
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncGenerator[trio_ssh.Agent]:
    """An agent that says what it is told to, request by request, and then nothing more."""
    ours, theirs = memory_pair()

    async def answer() -> None:
        async with theirs:
            for said in answers:
                await theirs.receive_some()
                await theirs.send_all(said)
            while await theirs.receive_some():
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with trio_ssh.Agent(stream=ours) as agent:
            yield agent
        nursery.cancel_scope.cancel()


# -- what it does


async def test_keys_are_listed_with_what_is_known_of_them() -> None:
    async with served(trio_ssh.AgentServer([KEY, RSA_KEY])) as agent:
        first, second = await agent.get_keys()
        assert (first.get_name(), first.comment, first.get_bits()) == ("ssh-ed25519", "first", 256)
        assert (first.fingerprint, first.get_base64()) == (KEY.fingerprint, KEY.get_base64())
        assert first.get_fingerprint() == KEY.get_fingerprint()
        assert first.asbytes() == KEY.asbytes()
        assert first.can_sign()
        assert first != second
        assert first == (await agent.get_keys())[0]
        assert len({first, second, first}) == 2
        assert second.algorithms == ("rsa-sha2-512", "rsa-sha2-256")
        assert repr(first) == f"<AgentKey ssh-ed25519 {KEY.fingerprint} 'first'>"
        assert repr(agent) == "<Agent at a stream, connected>"
    assert repr(agent) == "<Agent at a stream, closed>"


async def test_a_key_signs_where_it_is() -> None:
    async with served(trio_ssh.AgentServer([KEY, RSA_KEY])) as agent:
        first, second = await agent.get_keys()
        KEY.verify(b"data", await first.sign(b"data"))
        for algorithm in second.algorithms:
            RSA_KEY.verify(b"data", await second.sign(b"data", algorithm), algorithm)
        with pytest.raises(trio_ssh.LocalProtocolError, match="signs with ssh-ed25519, not rsa-sha2-512"):
            await first.sign(b"data", "rsa-sha2-512")
        with pytest.raises(trio_ssh.LocalProtocolError, match="more than an agent takes"):
            await first.sign(bytes(protocol.PAYLOAD_BYTES))
        assert len(await agent.get_keys()) == 2, "neither has harmed the connection"


async def test_keys_are_added_and_removed() -> None:
    server = trio_ssh.AgentServer()
    async with served(server) as agent:
        await agent.add(KEY)
        await agent.add(RSA_KEY, comment="another")
        assert [key.comment for key in await agent.get_keys()] == ["first", "another"]
        assert server.get_keys() == (KEY, RSA_KEY)
        await agent.remove(KEY.public_key)
        await agent.remove(RSA_KEY)
        with pytest.raises(trio_ssh.AgentException, match=f"has no key {KEY.fingerprint}"):
            await agent.remove(KEY)
        await agent.add(KEY)
        await agent.remove_all()
        assert await agent.get_keys() == ()


@pytest.mark.parametrize(
    "arguments", [{"lifetime": 0}, {"lifetime": 2**32}, {"max_signatures": 0}, {"destinations": []}]
)
async def test_constraints_that_make_no_sense_are_the_callers_mistake(arguments: dict[str, Any]) -> None:
    async with served(trio_ssh.AgentServer()) as agent:
        with pytest.raises(ValueError, match=r"from 1 to|of no use"):
            await agent.add(KEY, **arguments)


def test_destinations_are_checked() -> None:
    hop = trio_ssh.AgentHop("a", [KEY.public_key])
    good = trio_ssh.AgentDestination(hop)
    assert checked_destinations([good]) == (good,)
    for bad in (
        trio_ssh.AgentDestination(trio_ssh.AgentHop("a")),
        trio_ssh.AgentDestination(trio_ssh.AgentHop("", [KEY.public_key])),
        trio_ssh.AgentDestination(hop, trio_ssh.AgentHop("a")),
        trio_ssh.AgentDestination(hop, trio_ssh.AgentHop("a", [KEY.public_key], username="alice")),
    ):
        with pytest.raises(ValueError, match=r"hop needs|origin is a host"):
            checked_destinations([bad])


async def test_it_is_locked_with_a_passphrase_that_is_not_empty() -> None:
    async with served(trio_ssh.AgentServer([KEY])) as agent:
        with pytest.raises(ValueError, match="not empty"):
            await agent.lock("")
        await agent.lock(b"open sesame")
        assert await agent.get_keys() == ()
        await agent.unlock("open sesame")
        assert len(await agent.get_keys()) == 1


async def test_extensions_are_listed() -> None:
    async with served(trio_ssh.AgentServer()) as agent:
        assert await agent.query_extensions() == ("query", "session-bind@openssh.com")
        with pytest.raises(trio_ssh.AgentException, match="'unheard-of'"):
            await agent.request_extension("unheard-of")


async def test_an_older_agents_answer_to_a_query_is_understood() -> None:
    names = b"\0\0\0\1a\0\0\0\2bc"
    async with answering(protocol.frame(b"\6" + names)) as agent:
        assert await agent.query_extensions() == ("a", "bc")


async def test_tasks_take_turns() -> None:
    server = trio_ssh.AgentServer([KEY])
    signatures: list[bytes] = []
    async with served(server) as agent:
        [key] = await agent.get_keys()

        async def sign(data: bytes) -> None:
            signature = await key.sign(data)
            KEY.verify(data, signature)
            signatures.append(signature)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(sign, b"%d" % number)
    assert len(set(signatures)) == 20


async def test_every_coroutine_is_a_checkpoint() -> None:
    async with served(trio_ssh.AgentServer([KEY])) as agent:
        [key] = await agent.get_keys()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "get_keys": agent.get_keys,
            "add": lambda: agent.add(RSA_KEY),
            "remove": lambda: agent.remove(RSA_KEY),
            "lock": lambda: agent.lock("x"),
            "unlock": lambda: agent.unlock("x"),
            "query_extensions": agent.query_extensions,
            "request_extension": lambda: agent.request_extension("query"),
            "sign": lambda: key.sign(b"data"),
            "remove_all": agent.remove_all,
            "aclose": agent.aclose,
        }
        public = {
            name
            for cls in (trio_ssh.Agent, trio_ssh.AgentKey)
            for name, _ in inspect.getmembers(cls, inspect.iscoroutinefunction)
            if not name.startswith("_")
        }
        assert public == calls.keys() | {"bind_session"}, "which asks like the others"
        for call in calls.values():
            with trio.testing.assert_checkpoints():
                await call()
    with trio.testing.assert_checkpoints():
        await agent.aclose()


# -- keys of other kinds


def blob(key_type: str) -> bytes:
    return len(key_type).to_bytes(4, "big") + key_type.encode() + b"whatever"


def listing(*blobs: bytes) -> bytes:
    listed = protocol.write_identities([protocol.ListedKey(blob, "") for blob in blobs])
    return protocol.frame(listed.encode())


@pytest.mark.parametrize(
    ("key_type", "algorithms"),
    [
        ("ssh-unheard-of", ("ssh-unheard-of",)),
        ("ssh-ed25519-cert-v01@openssh.com", ("ssh-ed25519-cert-v01@openssh.com",)),
        (
            "ssh-rsa-cert-v01@openssh.com",
            ("rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com"),
        ),
        ("ssh-rsa", ("rsa-sha2-512", "rsa-sha2-256")),
    ],
)
async def test_keys_that_nothing_here_can_verify_are_passed_through(key_type: str, algorithms: Sequence[str]) -> None:
    plain = protocol.plain_algorithm(algorithms[0])
    signature = len(plain).to_bytes(4, "big") + plain.encode() + b"\0\0\0\1s"
    signed = protocol.frame(protocol.SignResponse(signature).encode())
    async with answering(listing(blob(key_type)), signed) as agent:
        [key] = await agent.get_keys()
        assert (key.key_type, key.algorithms, key.asbytes()) == (key_type, algorithms, blob(key_type))
        assert await key.sign(b"data") == signature
        with pytest.raises(trio_ssh.RemoteProtocolError):
            key.public_key.verify(b"data", signature, plain)


@pytest.mark.parametrize("key_type", ["", "a,b", "\x1b[31m", "é", "x" * 65])
async def test_a_key_whose_type_is_no_name_is_refused(key_type: str) -> None:
    async with answering(listing(blob(key_type))) as agent:
        with pytest.raises(trio_ssh.RemoteProtocolError, match="whose type is no name"):
            await agent.get_keys()


async def test_a_comment_with_escapes_is_shown_harmlessly() -> None:
    listed = protocol.write_identities([protocol.ListedKey(KEY.asbytes(), "\x1b[31mred\n")])
    async with answering(protocol.frame(listed.encode())) as agent:
        [key] = await agent.get_keys()
        assert "\x1b" not in repr(key)
        assert "\n" not in repr(key)


# -- agents that die, lie, or say nothing


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"\xff\xff\xff\xff", "a message of 4294967295 bytes"),
        (b"\0\0\0\0", "a message of 0 bytes"),
        (b"\0\4\0\1", "a message of 262145 bytes"),
        (b"HTTP/1.1 400 Bad Request", "a message of 1213486160 bytes"),
        (protocol.frame(b"\0"), "message 0 is no answer to RequestIdentities"),
        (SUCCESS, "message 6 is no answer to RequestIdentities"),
        (protocol.frame(b"\x0e\0\0\0\0"), "message 14 is no answer"),
        (protocol.frame(b"\x0c"), "IdentitiesAnswer.count"),
        (FAILURE + FAILURE, "says more than it was asked"),
    ],
)
async def test_an_answer_that_is_none_is_told_and_ends_the_connection(answer: bytes, complaint: str) -> None:
    async with answering(answer) as agent:
        with pytest.raises(trio_ssh.RemoteProtocolError, match=f"the agent at a stream: .*{complaint}"):
            await agent.get_keys()
        with pytest.raises(trio_ssh.AgentException, match="make a new Agent"):
            await agent.get_keys()


async def test_a_signature_by_another_algorithm_is_refused() -> None:
    """Old agents don't know the flags by which SHA-2 is asked for, and sign with SHA-1."""
    signature = b"\0\0\0\7ssh-rsa\0\0\0\1s"
    async with answering(
        listing(RSA_KEY.asbytes()), protocol.frame(protocol.SignResponse(signature).encode())
    ) as agent:
        [key] = await agent.get_keys()
        with pytest.raises(trio_ssh.RemoteProtocolError, match="signs with ssh-rsa and was asked for rsa-sha2-512"):
            await key.sign(b"data")


@pytest.mark.parametrize("answer", [b"", FAILURE[:-1], FAILURE[:2], listing(KEY.asbytes())[:-1]])
async def test_an_agent_that_hangs_up_in_the_middle_is_told(answer: bytes) -> None:
    ours, theirs = memory_pair()

    async def answer_and_hang_up() -> None:
        await theirs.receive_some()
        if answer:
            await theirs.send_all(answer)
        await theirs.aclose()

    async with trio.open_nursery() as nursery, trio_ssh.Agent(stream=ours) as agent:
        nursery.start_soon(answer_and_hang_up)
        with pytest.raises(trio_ssh.AgentException, match="the agent at a stream hung up without an answer"):
            await agent.get_keys()


async def test_an_agent_that_is_gone_is_told() -> None:
    ours, theirs = memory_pair()
    await theirs.aclose()
    async with trio_ssh.Agent(stream=ours) as agent:
        with pytest.raises(trio_ssh.AgentException, match="hung up"):
            await agent.get_keys()


async def test_silence_ends_with_the_callers_patience(autojump_clock: trio.testing.MockClock) -> None:
    async with answering() as agent:
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await agent.get_keys()
        with pytest.raises(trio_ssh.AgentException, match="make a new Agent"):
            await agent.get_keys()


async def test_a_slow_agent_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()

    async def answer() -> None:
        await theirs.receive_some()
        for byte in listing(KEY.asbytes()):
            await trio.sleep(60)
            await theirs.send_all(bytes((byte,)))

    async with trio.open_nursery() as nursery, trio_ssh.Agent(stream=ours) as agent:
        nursery.start_soon(answer)
        assert len(await agent.get_keys()) == 1


async def test_closing_wakes_whoever_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with answering() as agent:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await agent.get_keys()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await agent.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await agent.get_keys()


# -- where it is


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A name for a socket, in a folder that is made the current one: it must be short, and pytest's are long."""
    folder = tmp_path_factory.mktemp("a")
    before = Path.cwd()
    os.chdir(folder)
    yield Path("agent")
    os.chdir(before)


async def test_it_is_found_by_the_environment(
    path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await nursery.start(trio_ssh.AgentServer([KEY]).serve_unix, path)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    assert default_path() == str(path)
    async with trio_ssh.Agent() as agent:
        assert repr(agent) == "<Agent at agent, not connected>"
        assert len(await agent.get_keys()) == 1
        assert repr(agent) == "<Agent at agent, connected>"
    nursery.cancel_scope.cancel()


async def test_where_there_is_none_the_error_says_what_to_do(path: Path) -> None:
    async with trio_ssh.Agent() as agent:
        with pytest.raises(trio_ssh.AgentException, match="SSH_AUTH_SOCK is not set"):
            await agent.get_keys()
    async with trio_ssh.Agent(path) as agent:
        with pytest.raises(trio_ssh.AgentException, match="no agent listens at agent: No such file"):
            await agent.get_keys()
    with listening_socket(path):
        os.rename(path, "left")
    async with trio_ssh.Agent("left") as agent:
        with pytest.raises(trio_ssh.AgentException, match="Connection refused"):
            await agent.get_keys()
    with pytest.raises(ValueError, match="not both"):
        trio_ssh.Agent(path, stream=memory_pair()[0])


async def test_a_request_that_was_cancelled_costs_its_connection_and_no_more(path: Path) -> None:
    """The answer that comes late must not be taken for the next one's."""
    connections = 0
    is_asked = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await stream.receive_some()
            is_asked.set()
            assert await stream.receive_some() == b"", "a connection in which an answer is due is not used again"
        else:
            await trio_ssh.AgentServer([KEY]).serve_stream(stream)

    with listening_socket(path) as listener:
        async with trio.open_nursery() as nursery, trio_ssh.Agent(path) as agent:
            await nursery.start(trio.serve_listeners, serve, [listener])
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as asking:
                    asking.start_soon(agent.get_keys)
                    await is_asked.wait()
                    scope.cancel()
            assert [key.comment for key in await agent.get_keys()] == ["first"]
            assert connections == 2
            nursery.cancel_scope.cancel()


class LetsAnyoneIn(trio_ssh.ServerInterface):
    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_an_agent_that_hangs_up_when_it_is_told_the_server_is_not_asked_anew_without(
    path: Path, hangs_up: bool
) -> None:
    """A new connection would pass for one of a local program, and see the keys that are for other servers."""
    connections = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal connections
        connections += 1
        await stream.receive_some()
        if not hangs_up:
            await stream.send_all(FAILURE)
            await trio_ssh.AgentServer([KEY]).serve_stream(stream)
        await stream.aclose()

    with listening_socket(path) as listener:
        async with (
            open_memory_client(LetsAnyoneIn()) as client,
            trio.open_nursery() as nursery,
            trio_ssh.Agent(path) as agent,
        ):
            await nursery.start(trio.serve_listeners, serve, [listener])
            transport = client.get_transport()
            assert transport is not None
            with pytest.raises(trio_ssh.AgentException, match="hung up" if hangs_up else "refuses"):
                await agent.bind_session(transport)
            if hangs_up:
                with pytest.raises(trio_ssh.AgentException, match="another would not be the same"):
                    await agent.get_keys()
            else:
                assert [key.comment for key in await agent.get_keys()] == ["first"]
            assert connections == 1
            nursery.cancel_scope.cancel()


# -- named pipes


class PipeEnd:
    """What Windows opens a named pipe as, on a socket."""

    def __init__(self, end: socket.socket, most: int) -> None:
        self._end = end
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._end.recv(min(size, self._most))

    def write(self, data: bytes, /) -> int:
        return self._end.send(data[: self._most])

    def close(self) -> None:
        self._end.close()


@pytest.mark.parametrize("most", [1, 5, 4096])
async def test_a_named_pipe_is_spoken_to_from_threads(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    near, far = socket.socketpair()
    opened: list[str] = []

    def opener(name: str) -> RawFile:
        opened.append(name)
        return PipeEnd(near, most)

    async def open_pipe(name: str) -> trio.abc.Stream:
        return await open_named_pipe(name, opener)

    monkeypatch.setattr("trio_ssh.agent.open_named_pipe", open_pipe)
    far.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(far))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio_ssh.AgentServer([KEY]).serve_stream, stream)
        async with trio_ssh.Agent(r"\\.\pipe\openssh-ssh-agent") as agent:
            [key] = await agent.get_keys()
            KEY.verify(b"data", await key.sign(b"data"))
        nursery.cancel_scope.cancel()
    assert opened == [r"\\.\pipe\openssh-ssh-agent"]


async def test_a_pipe_is_a_stream_like_others() -> None:
    near, far = socket.socketpair()
    stream = await open_named_pipe("pipe", lambda name: PipeEnd(near, 4096))
    await stream.send_all(b"ping")
    assert far.recv(10) == b"ping"
    await stream.wait_send_all_might_not_block()
    with trio.move_on_after(0):
        await stream.receive_some()
    far.close()  # ends the read that was left to its thread
    assert await stream.receive_some() == b""
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")


async def test_a_pipe_that_breaks_is_told() -> None:
    near, far = socket.socketpair()
    stream = await open_named_pipe("pipe", lambda name: PipeEnd(near, 4096))
    far.close()
    with pytest.raises(trio.BrokenResourceError):
        for _ in range(3):
            await stream.send_all(bytes(1000))
    await stream.aclose()


async def test_where_there_is_no_pipe_the_error_says_so() -> None:
    async with trio_ssh.Agent(r"\\.\pipe\none") as agent:
        with pytest.raises(trio_ssh.AgentException, match="no agent listens at"):
            await agent.get_keys()


# -- cancelled at any moment


@pytest.mark.parametrize("seconds", range(1, len(FAILURE) + 1))
async def test_a_request_can_be_cancelled_anywhere(seconds: int, autojump_clock: trio.testing.MockClock) -> None:
    """The answer comes at a byte a second: whenever patience ends before it is whole, the connection ends too."""
    ours, theirs = memory_pair()

    async def answer() -> None:
        await theirs.receive_some()
        for byte in FAILURE:
            await trio.sleep(1)
            await theirs.send_all(bytes((byte,)))

    async with trio.open_nursery() as nursery, trio_ssh.Agent(stream=ours) as agent:
        nursery.start_soon(answer)
        with trio.move_on_after(seconds - 0.5) as scope:
            await agent.get_keys()
        assert scope.cancelled_caught
        with pytest.raises(trio_ssh.AgentException, match="make a new Agent"):
            await agent.get_keys()
        nursery.cancel_scope.cancel()
