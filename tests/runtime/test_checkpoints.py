"""Every public coroutine is a checkpoint, on its fast path too: a loop over it can be cancelled, and starves nobody."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

import attrs
import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, USER_KEY, OpenDoor
from trio_ssh.runtime.channel import StderrStream
from trio_ssh.runtime.files import Reader, Writer
from trio_ssh.testing import MemorySFTPServer, memory_pair, open_memory_client


async def chatter(process: trio_ssh.ServerProcess) -> int:
    """Have everything ready, so that nothing has to be waited for."""
    await process.stdout.send_all(b"line\n" * 20)
    await process.stderr.send_all(b"line\n" * 20)
    await process.stdin.read()
    return 0


class Generous(OpenDoor):
    """Grants whatever is asked."""

    subsystems = {"sftp": MemorySFTPServer, "chatter": lambda: Chatter()}  # noqa: PLW0108, RUF012 -- the class comes later; a test's class is not shared

    def check_channel_pty_request(self, channel: trio_ssh.Channel, term: str, *sizes: object) -> bool:
        return True

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        return True

    def check_channel_x11_request(self, channel: trio_ssh.Channel, *details: object) -> bool:
        return True

    def check_channel_forward_agent_request(self, channel: trio_ssh.Channel) -> bool:
        return True

    def check_port_forward_request(self, address: str, port: int) -> int:
        return 2222

    def check_global_request(self, kind: str, msg: trio_ssh.Message) -> bool:
        return True


class Chatter(trio_ssh.SubsystemHandler):
    async def handle(self, process: trio_ssh.ServerProcess) -> int | None:
        return await chatter(process)


@attrs.frozen
class Stage:
    """What the calls below are made on; all of it is made anew for each."""

    client: trio_ssh.SSHClient
    transport: trio_ssh.Transport
    fresh: trio_ssh.Channel
    ours: trio_ssh.Channel
    theirs: trio_ssh.Channel
    process: trio_ssh.Process
    directory: Path

    def file(self, mode: Literal["r", "w"] = "r") -> trio_ssh.ChannelFile[trio_ssh.Channel, str]:
        return self.process.channel.makefile(mode)


async def connect(stage: Stage) -> None:
    await stage.client.aclose()
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, Generous(), host_keys=[HOST_KEY]))
        with trio.testing.assert_checkpoints():
            await stage.client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, sock=ours, look_for_keys=False
            )
        await stage.client.aclose()


async def close_and_wait(stage: Stage) -> None:
    with trio.CancelScope(shield=True):
        await stage.transport.aclose()
    with trio.testing.assert_checkpoints():
        await stage.transport.wait_closed()


async def close_and_wait_for_the_client(stage: Stage) -> None:
    with trio.CancelScope(shield=True):
        await stage.transport.aclose()
    with trio.testing.assert_checkpoints():
        await stage.client.wait_closed()


async def close_twice(channel: trio_ssh.Channel) -> None:
    await channel.aclose()
    with trio.testing.assert_checkpoints():
        await channel.aclose()


async def ended(stage: Stage, function: Callable[[], Awaitable[object]]) -> None:
    """Call `function` when the process has ended."""
    await stage.process.stdin.aclose()
    await trio.testing.wait_all_tasks_blocked()
    with trio.testing.assert_checkpoints():
        await function()


async def receive_rest(stage: Stage) -> None:
    """Receive from what a small receive has left."""
    await stage.ours.receive_some(1)
    with trio.testing.assert_checkpoints():
        await stage.ours.receive_some(1)


async def receive_left(stage: Stage) -> None:
    """Receive what a line reader has left."""
    await stage.process.stdout.read_line()
    with trio.testing.assert_checkpoints():
        await stage.process.stdout.receive_some(1)


async def read_ended(stage: Stage) -> None:
    """Read at EOF."""
    await stage.theirs.send_eof()
    await stage.ours.read()
    with trio.testing.assert_checkpoints():
        assert await stage.ours.read() == b""
    with trio.testing.assert_checkpoints():
        assert await stage.ours.receive_some() == b""


async def started(function: Callable[..., Awaitable[object]]) -> None:
    """Have something begin that goes on for ever, and end it."""
    async with trio.open_nursery() as nursery:
        await nursery.start(function)
        nursery.cancel_scope.cancel()


async def remote_listener(stage: Stage) -> trio_ssh.RemoteListener:
    [listener] = await stage.client.open_tcp_listeners(0)
    assert listener.port == 2222
    return listener


async def accept_what_is_there(stage: Stage) -> None:
    listener = await remote_listener(stage)
    server = stage.theirs.get_transport()
    assert isinstance(server, trio_ssh.Transport)
    await server.open_channel("forwarded-tcpip", ("localhost", 2222))
    with trio.testing.assert_checkpoints():
        await listener.accept()


async def close_listener(stage: Stage) -> None:
    listener = await remote_listener(stage)
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await listener.aclose()


Call = Callable[[Stage], Awaitable[object]]

CALLS: Final[dict[type, dict[str, list[Call]]]] = {
    trio_ssh.SSHClient: {
        "aclose": [lambda s: s.client.aclose()],
        "connect": [connect],
        "exec_command": [lambda s: s.client.exec_command("x")],
        "forward_local_port": [lambda s: started(lambda **t: s.client.forward_local_port(0, "host", 1, **t))],
        "forward_remote_port": [lambda s: started(lambda **t: s.client.forward_remote_port(0, "host", 1, **t))],
        "serve_socks": [lambda s: started(lambda **t: s.client.serve_socks(0, **t))],
        "open_tcp_listeners": [lambda s: s.client.open_tcp_listeners(0)],
        "open_unix_listeners": [lambda s: s.client.open_unix_listeners("path")],
        "open_unix_stream": [lambda s: s.client.open_unix_stream("path")],
        "invoke_shell": [lambda s: s.client.invoke_shell()],
        "wait_closed": [close_and_wait_for_the_client],
        "load_host_keys": [lambda s: s.client.load_host_keys(s.directory / "known_hosts")],
        "load_system_host_keys": [lambda s: s.client.load_system_host_keys(s.directory / "known_hosts")],
        "save_host_keys": [lambda s: s.client.save_host_keys(s.directory / "saved")],
        "open_process": [lambda s: s.client.open_process("x"), lambda s: s.client.open_process()],
        "open_session": [lambda s: s.client.open_session()],
        "open_sftp": [lambda s: s.client.open_sftp()],
        "open_tcp_stream": [lambda s: s.client.open_tcp_stream("host", 1)],
        "run_process": [
            lambda s: s.client.run_process("x", capture_stdout=True, capture_stderr=True),
            lambda s: s.client.run_process("x", stdin=b"x", capture_stdout=True, capture_stderr=True),
        ],
    },
    trio_ssh.Transport: {
        "aclose": [lambda s: s.transport.aclose()],
        "cancel_port_forward": [lambda s: s.transport.cancel_port_forward("", 0)],
        "load_server_moduli": [lambda s: s.transport.load_server_moduli()],
        "global_request": [
            lambda s: s.transport.global_request("x"),
            lambda s: s.transport.global_request("x", wait=False),
        ],
        "open_channel": [lambda s: s.transport.open_channel("session")],
        "open_session": [lambda s: s.transport.open_session()],
        "open_tcp_stream": [lambda s: s.transport.open_tcp_stream("host", 1)],
        "ping": [lambda s: s.transport.ping()],
        "renegotiate_keys": [lambda s: s.transport.renegotiate_keys()],
        "request_port_forward": [lambda s: s.transport.request_port_forward("", 0)],
        "send_ignore": [lambda s: s.transport.send_ignore(), lambda s: s.transport.send_ignore(10)],
        "wait_authenticated": [lambda s: s.theirs.get_transport().wait_authenticated()],  # type: ignore[attr-defined]
        "wait_closed": [close_and_wait],
    },
    trio_ssh.Channel: {
        "aclose": [lambda s: s.ours.aclose(), lambda s: close_twice(s.ours)],
        "exec_command": [lambda s: s.fresh.exec_command("x")],
        "get_pty": [lambda s: s.fresh.get_pty()],
        "invoke_shell": [lambda s: s.fresh.invoke_shell()],
        "invoke_subsystem": [lambda s: s.fresh.invoke_subsystem("chatter")],
        "read": [lambda s: s.ours.read(0), lambda s: s.ours.read(4), read_ended],
        "receive_some": [lambda s: s.ours.receive_some(), lambda s: s.ours.receive_some(1), receive_rest],
        "recv_exit_report": [lambda s: ended(s, s.process.channel.recv_exit_report)],
        "recv_exit_status": [lambda s: ended(s, s.process.channel.recv_exit_status)],
        "request_forward_agent": [lambda s: s.fresh.request_forward_agent()],
        "request_x11": [lambda s: s.fresh.request_x11()],
        "send_all": [lambda s: s.ours.send_all(b""), lambda s: s.ours.send_all(b"x")],
        "send_eof": [lambda s: s.ours.send_eof()],
        "send_stderr": [lambda s: s.theirs.send_stderr(b""), lambda s: s.theirs.send_stderr(b"x")],
        "set_environment_variable": [lambda s: s.fresh.set_environment_variable("A", "B")],
        "update_environment": [
            lambda s: s.fresh.update_environment({}),
            lambda s: s.fresh.update_environment({"A": ""}),
        ],
        "wait_send_all_might_not_block": [lambda s: s.ours.wait_send_all_might_not_block()],
    },
    trio_ssh.RemoteListener: {"accept": [accept_what_is_there], "aclose": [close_listener]},
    StderrStream: {
        "receive_some": [lambda s: s.ours.stderr.receive_some(), lambda s: s.ours.stderr.receive_some(1)],
        "aclose": [lambda s: s.ours.stderr.aclose()],
    },
    trio_ssh.Process: {
        "aclose": [lambda s: s.process.aclose()],
        "end": [lambda s: ended(s, s.process.end)],
        "wait": [lambda s: ended(s, s.process.wait)],
    },
    trio_ssh.ChannelFile: {
        "aclose": [lambda s: s.file("r").aclose(), lambda s: s.file("w").aclose()],
        "flush": [lambda s: s.file("w").flush()],
        "read": [lambda s: s.file().read(0), lambda s: s.file().read(3)],
        "readline": [lambda s: s.file().readline()],
        "readlines": [lambda s: ended(s, s.file().readlines)],
        "write": [lambda s: s.file("w").write(""), lambda s: s.file("w").write(b"x")],
        "writelines": [lambda s: s.file("w").writelines([]), lambda s: s.file("w").writelines(["a", b"b"])],
    },
    Reader: {
        "aclose": [lambda s: s.process.stderr.aclose()],
        "read": [lambda s: s.process.stdout.read(0), lambda s: s.process.stdout.read(3)],
        "read_line": [lambda s: s.process.stdout.read_line()],
        "read_line_bytes": [lambda s: s.process.stdout.read_line_bytes()],
        "receive_some": [lambda s: s.process.stdout.receive_some(), receive_left],
    },
    Writer: {
        "aclose": [lambda s: s.process.stdin.aclose()],
        "send_all": [lambda s: s.process.stdin.send_all(b""), lambda s: s.process.stdin.send_all(b"x")],
        "wait_send_all_might_not_block": [lambda s: s.process.stdin.wait_send_all_might_not_block()],
        "write": [lambda s: s.process.stdin.write(""), lambda s: s.process.stdin.write("x")],
    },
}

#: Coroutines that need more of a stage than there is here, and the test that sees to them.
ELSEWHERE: Final = {
    (trio_ssh.Transport, name)
    for name in (
        "accept",
        "auth_gssapi_keyex",
        "auth_gssapi_with_mic",
        "auth_hostbased",
        "auth_interactive",
        "auth_none",
        "auth_password",
        "auth_publickey",
        "start_client",
        "start_server",
        "try_authenticate",
    )
}


CASES: Final = [
    pytest.param(call, id=f"{cls.__name__}.{name}-{number}")
    for cls, calls in CALLS.items()
    for name, variants in calls.items()
    for number, call in enumerate(variants)
]


@pytest.mark.parametrize("call", CASES)
async def test_it_is_a_checkpoint(call: Call, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    accepted: list[trio_ssh.Channel] = []

    async def keep(channel: trio_ssh.Channel) -> None:
        accepted.append(channel)
        await channel.send_all(b"data " * 10)
        await channel.send_stderr(b"data " * 10)
        await trio.sleep_forever()

    async with open_memory_client(Generous(chatter, keep), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        ours = await transport.open_channel("conversation@example.com")
        fresh = await client.open_session()
        process = await client.open_process("x")
        await trio.testing.wait_all_tasks_blocked()
        stage = Stage(client, transport, fresh, ours, accepted[0], process, tmp_path)
        with trio.testing.assert_checkpoints():
            await call(stage)


async def answer(title: str, instructions: str, prompts: object) -> list[str]:
    await trio.lowlevel.checkpoint()
    return ["secret"]


class Credulous(OpenDoor):
    async def check_auth_hostbased(
        self, username: str, key: trio_ssh.PublicKey, client_host: str, client_username: str
    ) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_SUCCESSFUL


@pytest.mark.parametrize("method", ["none", "password", "publickey", "interactive", "hostbased"])
async def test_each_step_of_a_login_is_a_checkpoint(method: str) -> None:
    ours, theirs = memory_pair()
    arguments: dict[str, tuple[object, ...]] = {
        "none": (),
        "password": ("secret",),
        "publickey": (USER_KEY,),
        "interactive": (answer,),
        "hostbased": (USER_KEY, "here", "me"),
    }
    async with trio_ssh.Transport(ours) as client, trio_ssh.Transport(theirs) as server:
        server.add_server_key(HOST_KEY)
        interface = Credulous()
        interface.transport = server

        async def start_server() -> None:
            with trio.testing.assert_checkpoints():
                await server.start_server(interface)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_server)
            with trio.testing.assert_checkpoints():
                await client.start_client(check_host_key=lambda key: None)
        with trio.testing.assert_checkpoints():
            await getattr(client, f"auth_{method}")("user", *arguments[method])


async def test_accepting_what_is_there_is_a_checkpoint() -> None:
    class Accepting(Generous):
        @property
        def _handles_sessions(self) -> bool:
            return False

        subsystems = {}  # noqa: RUF012 -- a test's class is not shared

    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        await client.open_session()
        with trio.testing.assert_checkpoints():
            await server.transport.accept()


@pytest.mark.parametrize("cls", CALLS, ids=lambda cls: cls.__name__)
def test_no_coroutine_was_forgotten(cls: type) -> None:
    public = {name for name, _ in inspect.getmembers(cls, inspect.iscoroutinefunction) if not name.startswith("_")}
    named = set(CALLS[cls]) | {name for owner, name in ELSEWHERE if owner is cls}
    assert public == named
