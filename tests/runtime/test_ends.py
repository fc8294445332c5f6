"""Ends: of streams, channels, connections and logins, and what is left after each."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, USER_KEY, ElsewhereSigner, OpenDoor, echo, serving
from trio_ssh import client as client_module
from trio_ssh.testing import memory_pair, open_memory_client

# -- streams of a process


async def test_a_handler_that_closes_its_stdin_goes_on_writing() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        async with process.stdin:
            first = await process.stdin.read_line()
        with pytest.raises(trio.ClosedResourceError):
            await process.stdin.receive_some()
        await process.stdout.write(f"heard {first}")
        return 3

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        done = await client.run_process("x", stdin=b"hello\n" + bytes(4_000_000), capture_stdout=True, check=False)
        assert (done.stdout, done.returncode) == (b"heard hello\n", 3)


async def test_a_client_that_closes_stdout_gets_the_rest() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write(bytes(8_000_000).decode())
        await process.stderr.write("done")
        return 4

    async with (
        open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client,
        await client.open_process("x") as process,
    ):
        await process.stdout.aclose()
        await process.stdout.aclose()
        assert await process.stderr.read() == b"done"
        assert await process.wait() == 4
        for call in (process.stdout.receive_some, process.stdout.read, process.stdout.read_line):
            with pytest.raises(trio.ClosedResourceError):
                await call()


async def test_stdin_can_be_closed_after_its_channel() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        async with process.stdin:
            await process.channel.aclose()
        stdin, stdout, stderr = await client.exec_command("x")
        await stdin.channel.aclose()
        for file in (stdin, stdout, stderr):
            await file.aclose()


@pytest.mark.parametrize("size", [0, -1])
async def test_a_reader_takes_no_size_that_means_nothing(size: int) -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        await process.stdin.write("one\ntwo\n")
        assert await process.stdout.read_line() == "one\n"
        with pytest.raises(ValueError, match="at least 1"):
            await process.stdout.receive_some(size)
        await process.channel.aclose()


async def test_the_signal_that_ended_a_command_is_known_as_soon_as_its_status() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        process.exit_signal("KILL")
        return 0

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        await process.stdout.read()
        await trio.testing.wait_all_tasks_blocked()
        assert process.exit_signal == "KILL"
        assert "running" not in repr(process)


async def test_a_report_that_could_not_be_sent_is_none() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        with pytest.raises(trio_ssh.LocalProtocolError, match="too many"):
            process.exit_signal("TERM", message="x" * 300_000)
        for status in (256, -1, True):
            with pytest.raises(ValueError, match=r"0 \.\. 255"):
                process.exit(status)
        return 5

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        assert (await client.run_process("x", check=False)).returncode == 5


async def test_a_channel_is_closed_when_either_side_has_closed_it() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.invoke_shell()
        assert not channel.closed
        await channel.send_eof()
        while await channel.receive_some():
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert channel.closed


# -- sys.exit


@pytest.mark.parametrize(("code", "status"), [(2, 2), (0, 0), (None, 255), ("usage", 255), (300, 255)])
async def test_sys_exit_ends_a_session_and_not_the_server(code: Any, status: int) -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        if process.command == "exit":
            raise SystemExit(code)
        return await echo(process)

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        assert (await client.run_process("exit", check=False)).returncode == status
        assert (await client.run_process("echo", stdin=b"on", capture_stdout=True)).stdout == b"on"


async def test_sys_exit_in_a_check_is_a_refusal() -> None:
    class Exits(OpenDoor):
        async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            raise SystemExit(1)

        def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
            raise SystemExit(1)

        async def handle_channel(self, channel: trio_ssh.Channel, destination: object) -> None:
            raise SystemExit(1)

    async with open_memory_client(Exits(), host_key=HOST_KEY, password="x") as client:
        with pytest.raises(trio_ssh.RequestRefused):
            await client.run_process("x")
        channel = await client.open_tcp_stream("127.0.0.1", 9)
        assert await channel.receive_some() == b""
        await (await client.open_session()).invoke_shell()


# -- one server, one connection


async def test_a_server_serves_one_connection_and_no_second() -> None:
    server = OpenDoor()
    async with open_memory_client(server, host_key=HOST_KEY):
        pass
    ours, theirs = memory_pair()
    with pytest.raises(trio_ssh.LocalProtocolError, match="a server of its own"):
        await trio_ssh.serve_stream(theirs, server, host_keys=[HOST_KEY])
    async with trio_ssh.Transport(ours) as transport:
        transport.add_server_key(HOST_KEY)
        with pytest.raises(trio_ssh.LocalProtocolError, match="a server of its own"):
            await transport.start_server(server)


async def test_a_factory_that_gives_one_server_to_all_lets_in_the_first_alone(caplog: pytest.LogCaptureFixture) -> None:
    server = OpenDoor()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            partial(trio_ssh.serve_tcp, lambda: server, 0, host="127.0.0.1", host_keys=[HOST_KEY])
        )
        port = listener.socket.getsockname()[1]
        options: dict[str, Any] = {
            "username": "a",
            "policy": trio_ssh.AutoAddPolicy(),
            "known_hosts": [],
            "config": None,
        }
        options |= {"look_for_keys": False, "allow_agent": False}
        async with trio_ssh.connect("127.0.0.1", port, **options):
            with pytest.raises(trio_ssh.ConnectionLost):
                async with trio_ssh.connect("127.0.0.1", port, **options):
                    raise AssertionError("it connected")
        nursery.cancel_scope.cancel()
    assert "a server of its own" in caplog.text


# -- a transport of one's own, as in paramiko's demos


class Demo(trio_ssh.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if password == "foo" else trio_ssh.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
        return trio_ssh.OPEN_SUCCEEDED

    def check_channel_shell_request(self, channel: trio_ssh.Channel) -> bool:
        return True


async def test_a_transport_that_is_started_as_a_server_serves() -> None:
    ours, theirs = memory_pair()

    async def serve() -> None:
        async with trio_ssh.Transport(theirs) as transport:
            transport.add_server_key(HOST_KEY)
            await transport.start_server(Demo())
            channel = await transport.accept()
            await channel.send_all(b"welcome")
            await channel.send_eof()
            await transport.wait_closed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with trio_ssh.SSHClient() as client:
            await client.connect("memory", username="u", password="foo", known_hosts=KNOWN_HOST, sock=ours, config=None)
            channel = await client.open_session()
            await channel.invoke_shell()
            assert await channel.read() == b"welcome"


@pytest.mark.parametrize(
    ("server", "text"), [(Demo, r"call it, Demo\(\)"), (None, "a ServerInterface is wanted, not None")]
)
async def test_what_is_no_server_is_told(server: Any, text: str) -> None:
    ours, _ = memory_pair()
    async with trio_ssh.Transport(ours) as transport:
        for key in ("/etc/key", HOST_KEY.public_key):
            with pytest.raises(TypeError, match="a host key is a private key"):
                transport.add_server_key(key)  # type: ignore[arg-type]
        transport.add_server_key(HOST_KEY)
        with pytest.raises(TypeError, match=text):
            await transport.start_server(server)


# -- logins


@asynccontextmanager
async def started(server: trio_ssh.ServerInterface) -> Any:
    """A client's transport whose keys are exchanged, and nobody is logged in."""
    async with serving(server) as stream, trio_ssh.Transport(stream) as transport:
        await transport.start_client(check_host_key=lambda key: None)
        yield transport


@pytest.mark.parametrize("text", ["\ud800", b"alice"])
@pytest.mark.parametrize(
    "log_in",
    [
        lambda transport, text: transport.auth_none(text),
        lambda transport, text: transport.auth_password("alice", text),
        lambda transport, text: transport.auth_password(text, "secret"),
        lambda transport, text: transport.auth_publickey(text, USER_KEY),
        lambda transport, text: transport.auth_interactive("alice", lambda *prompts: [], text),
        lambda transport, text: transport.auth_hostbased("alice", USER_KEY, text, "root"),
    ],
)
async def test_a_text_that_cannot_be_sent_is_told_before_anything_is(
    log_in: Callable[[trio_ssh.Transport, Any], Awaitable[None]], text: Any
) -> None:
    async with started(OpenDoor()) as transport:
        with pytest.raises((TypeError, ValueError), match=r"is a str|lone surrogate") as told:
            await log_in(transport, text)
        assert "ud800" not in str(told.value)
        await transport.auth_none("alice")


@pytest.mark.parametrize(
    "log_in",
    [
        lambda transport: transport.auth_none(b"alice"),
        lambda transport: transport.auth_interactive(b"alice", lambda *prompts: []),
        lambda transport: transport.auth_hostbased("alice", USER_KEY, b"host", "root"),
        lambda transport: transport.auth_hostbased("alice", USER_KEY, "host", None),
    ],
)
async def test_a_login_that_is_given_nonsense_leaves_the_next_one_possible(
    log_in: Callable[[trio_ssh.Transport], Awaitable[None]],
) -> None:
    async with started(OpenDoor()) as transport:
        with pytest.raises(TypeError, match="is a str"):
            await log_in(transport)
        await transport.auth_none("alice")


@pytest.mark.parametrize("answers", [[None], [b"secret"]])
async def test_an_answer_that_is_no_text_is_its_giver_s_mistake(answers: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with started(OpenDoor()) as transport:
        with pytest.raises(trio_ssh.LocalProtocolError, match="an answer to a prompt is a str"):
            await transport.auth_interactive("alice", lambda *prompts: answers)
    assert "please report it" not in caplog.text


async def test_a_signature_that_is_none_is_its_signer_s_mistake(caplog: pytest.LogCaptureFixture) -> None:
    async with started(OpenDoor()) as transport:
        with pytest.raises(TypeError, match="bytes are wanted"):
            await transport.auth_publickey("alice", ElsewhereSigner(USER_KEY, lambda data, algorithm: None))
    assert "please report it" not in caplog.text


async def test_who_logs_in_while_the_transport_is_closed_hears_so() -> None:
    class Slow(OpenDoor):
        async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            await trio.sleep_forever()
            raise AssertionError

    async with started(Slow()) as transport, trio.open_nursery() as nursery:

        async def log_in() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await transport.auth_none("alice")

        nursery.start_soon(log_in)
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()
        assert transport.get_exception() is None


async def test_a_client_that_is_closed_in_the_last_moment_of_its_connect_is(monkeypatch: pytest.MonkeyPatch) -> None:
    client = trio_ssh.SSHClient()

    async def close(*arguments: object) -> None:
        with trio.CancelScope(shield=True):
            await client.aclose()

    monkeypatch.setattr(client_module, "start_forwardings", close)
    with trio.fail_after(10):
        async with serving() as stream, client:
            with pytest.raises(trio.ClosedResourceError, match="closed while it connected"):
                await client.connect(
                    "memory", username="u", pkey=USER_KEY, known_hosts=KNOWN_HOST, sock=stream, config=None
                )
            assert client.get_transport() is None
            assert stream.is_closed


async def test_a_stream_that_a_client_was_given_is_closed_whatever_is_wrong() -> None:
    async with serving() as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(ValueError, match="user"):
            await client.connect("alice@memory", sock=stream, config=None)
        assert stream.is_closed
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client, serving() as stream:
        with pytest.raises(trio_ssh.LocalProtocolError, match="aclose"):
            await client.connect("memory", sock=stream, config=None)
        assert stream.is_closed


# -- requests


async def test_nothing_more_is_asked_of_a_server_whose_client_is_gone() -> None:
    asked: list[int] = []
    go_on = trio.Event()

    class Slow(OpenDoor):
        async def check_port_forward_request(self, address: str, port: int) -> int:
            asked.append(port)
            await go_on.wait()
            return port

    server = Slow()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        async with trio.open_nursery() as nursery:
            for port in (1, 2, 3):
                nursery.start_soon(_ignoring_loss, partial(transport.request_port_forward, "localhost", port))
            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        await trio.testing.wait_all_tasks_blocked()
    assert len(asked) == 1


async def _ignoring_loss(call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises((trio_ssh.ConnectionLost, trio.ClosedResourceError)):
        await call()


class Listening(OpenDoor):
    """Says that it listens, and opens channels as it is told."""

    port = 4022

    def check_port_forward_request(self, address: str, port: int) -> int:
        return port or self.port

    async def come(self, port: int) -> trio_ssh.Channel:
        return await self.transport.open_channel("forwarded-tcpip", ("localhost", port), ("192.0.2.7", 999))


async def test_the_connections_of_a_port_that_was_asked_for_are_accepted() -> None:
    server = Listening()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.transport
        assert await transport.request_port_forward("localhost", 0) == 4022
        there = await server.come(4022)
        here = await transport.accept()
        assert here.origin == ("192.0.2.7", 999)
        await there.send_all(b"hello")
        assert await here.receive_some() == b"hello"
        with pytest.raises(trio_ssh.ChannelException, match="prohibited"):
            await server.come(4023)
        await transport.cancel_port_forward("localhost", 4022)
        with pytest.raises(trio_ssh.ChannelException, match="prohibited"):
            await server.come(4022)


@pytest.mark.parametrize("is_first", [True, False])
async def test_both_ways_to_ask_for_a_port_get_along(is_first: bool) -> None:
    server = Listening()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.transport
        if is_first:
            await transport.request_port_forward("localhost", 4022)
        [listener] = await client.open_tcp_listeners(4023)
        await transport.request_port_forward("localhost", 4024)
        if not is_first:
            await transport.request_port_forward("localhost", 4022)
        [second] = await client.open_tcp_listeners(4025)
        for port in (4022, 4024):
            await server.come(port)
            assert (await transport.accept()).origin == ("192.0.2.7", 999)
        await server.come(4023)
        assert (await listener.accept()).origin == ("192.0.2.7", 999)
        await server.come(4025)
        await second.accept()
        with pytest.raises(trio_ssh.ChannelException, match="prohibited"):
            await server.come(4026)


async def test_no_more_connections_wait_than_there_may_be_channels() -> None:
    server = Listening()
    limits = trio_ssh.Limits(channels=3)
    async with open_memory_client(server, host_key=HOST_KEY, client_limits=limits) as client:
        await client.transport.request_port_forward("localhost", 4022)
        for _ in range(3):
            await server.come(4022)
        with pytest.raises(trio_ssh.ChannelException, match="resource shortage"):
            await server.come(4022)


async def test_an_agent_s_channels_are_not_served_where_the_server_said_no() -> None:
    served: list[trio_ssh.Channel] = []

    async def serve(channel: trio_ssh.Channel) -> None:
        served.append(channel)

    server = OpenDoor()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        channel = await client.open_session()
        with pytest.raises(trio_ssh.RequestRefused):
            await channel.request_forward_agent(serve)
        with pytest.raises(TypeError, match="what serves a forwarded agent is an async function"):
            await channel.request_forward_agent(trio_ssh.Agent())  # type: ignore[arg-type]
        with pytest.raises(trio_ssh.ChannelException):
            await server.transport.open_channel("auth-agent@openssh.com")
    assert not served


# -- what is told when a server starts


async def test_host_keys_that_no_enabled_algorithm_signs_with_are_found_at_the_start() -> None:
    _, theirs = memory_pair()
    with pytest.raises(ValueError, match=r"none of the host keys signs by an algorithm that is enabled.*rsa-sha2-256"):
        await trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY], host_key_algorithms=["rsa-sha2-256"])


async def test_a_server_that_lets_nobody_in_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    class Locked(trio_ssh.ServerInterface):
        def check_auth_pasword(self, username: str, password: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL

    caplog.set_level(logging.WARNING)
    for factory in (OpenDoor, Locked):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio_ssh.serve_tcp, factory, 0, host="127.0.0.1", host_keys=[HOST_KEY]))
            nursery.cancel_scope.cancel()
    assert [record.message.split()[0] for record in caplog.records] == ["Locked"]
    assert "check_auth_password" in caplog.text


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"sessions": "3"}, TypeError),
        ({"sessions": -1}, ValueError),
        ({"sessions": 1.5}, TypeError),
        ({"sessions": True}, TypeError),
        ({"login_seconds": None}, TypeError),
        ({"login_seconds": -1}, ValueError),
        ({"penalty_exempt": "127.0.0.1"}, TypeError),
        ({"penalty_exempt": 5}, TypeError),
        ({"penalty_exempt": iter(["192.0.2.0/29"])}, TypeError),  # the second server would find it empty
    ],
)
def test_a_limit_that_is_none_is_told_by_its_name(limits: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"Limits\({next(iter(limits))}="):
        trio_ssh.Limits(**limits)


@pytest.mark.parametrize(
    ("limits", "kind"), [({"handles": "x"}, TypeError), ({"depth": -1}, ValueError), ({"file_bytes": 1.5}, TypeError)]
)
def test_so_is_one_of_sftp_s(limits: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^SFTPLimits\({next(iter(limits))}="):
        trio_ssh.SFTPLimits(**limits)


async def test_limits_of_a_client_are_looked_at_before_anything_is_done() -> None:
    stream, _ = memory_pair()
    with pytest.raises(TypeError, match=r"^limits= takes a trio_ssh\.Limits\(\.\.\.\), not 5$"):
        async with trio_ssh.connect("host", sock=stream, limits=5):  # type: ignore[arg-type]
            pass
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")


async def test_limits_and_login_timeout_are_looked_at_when_a_server_starts() -> None:
    for options, text in (
        ({"limits": {"sessions": 3}}, "takes a trio_ssh.Limits"),
        ({"login_timeout": 0}, "login_timeout"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            await trio_ssh.serve_tcp(OpenDoor, 0, host="127.0.0.1", host_keys=[HOST_KEY], **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stream"):
        await trio_ssh.serve_stream(OpenDoor, memory_pair()[0], host_keys=[HOST_KEY])  # type: ignore[arg-type]


# -- what is left of it


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_a_closed_connection_is_freed_without_the_collector(over: str) -> None:
    """A server that many come to and leave would have it run all the time."""
    left: list[weakref.ref[object]] = []

    class Server(OpenDoor):
        def logged_in(self) -> None:
            left.extend(map(weakref.ref, (self, self.transport, self.transport._engine)))

    async def use_one() -> None:
        streams: tuple[trio.abc.Stream, trio.abc.Stream] = memory_pair()
        if over == "sockets":
            ours, theirs = trio.socket.socketpair()
            streams = trio.SocketStream(ours), trio.SocketStream(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio_ssh.serve_stream, streams[1], Server(), host_keys=[HOST_KEY]))
            async with trio_ssh.connect(
                "memory", username="u", pkey=USER_KEY, known_hosts=KNOWN_HOST, sock=streams[0], config=None
            ) as client:
                assert (await client.run_process("cat", stdin=b"word", capture_stdout=True)).stdout == b"word"
                transport = client.get_transport()
                assert transport is not None
                left.extend(map(weakref.ref, (client, transport, transport._engine)))

    gc.disable()
    try:
        with trio.fail_after(10):
            await use_one()
            await trio.testing.wait_all_tasks_blocked()
        assert len(left) == 6
        assert [reference() for reference in left] == [None] * 6
    finally:
        gc.enable()
