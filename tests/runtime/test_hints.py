"""Names of paramiko's, asyncssh's and `subprocess`'s that are others here: the old name answers with a hint."""

from __future__ import annotations

import copy
import inspect
import re

import pytest

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor
from trio_ssh.runtime.hints import (
    ARGUMENT_HINTS,
    CHANNEL_HINTS,
    CLIENT_HINTS,
    COMPLETED_HINTS,
    CONFIG_HINTS,
    MODULE_HINTS,
    PROCESS_HINTS,
    READER_HINTS,
    SERVER_PROCESS_HINTS,
    SFTP_HINTS,
    TRANSPORT_HINTS,
    WRITER_HINTS,
    Hints,
)
from trio_ssh.testing import MemorySFTPServer, memory_pair, open_memory_client


async def test_paramiko_s_names_say_what_to_use() -> None:
    server = OpenDoor()
    server.subsystems = {"sftp": MemorySFTPServer}
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.get_transport()
        channel = await client.open_session()
        _, stdout, _ = await client.exec_command("x")
        sftp = await client.open_sftp()
        file = await sftp.open("file", "w")
        for thing, name, hint in (
            (client, "close", "aclose"),
            (transport, "close", "aclose"),
            (transport, "open_sftp_client", "from_transport"),
            (channel, "close", "aclose"),
            (channel, "recv", "receive_some"),
            (channel, "recv_stderr", "stderr.receive_some"),
            (channel, "send", "send_all"),
            (channel, "sendall", "send_all"),
            (channel, "settimeout", "trio.fail_after"),
            (channel, "shutdown_write", "send_eof"),
            (stdout, "close", "aclose"),
            (sftp, "close", "aclose"),
            (file, "close", "aclose"),
        ):
            with pytest.raises(AttributeError, match=hint) as raised:
                getattr(thing, name)
            assert str(raised.value).startswith(f"{type(thing).__name__!r} object has no attribute {name!r}: ")
            assert not hasattr(thing, name)
            with pytest.raises(AttributeError, match=r"no attribute 'recvv'$"):
                thing.recvv  # type: ignore[union-attr]  # noqa: B018
        await file.aclose()
        await sftp.aclose()


@pytest.mark.parametrize(
    ("cls", "hints"),
    [
        (trio_ssh.Channel, CHANNEL_HINTS),
        (trio_ssh.Transport, TRANSPORT_HINTS),
        (trio_ssh.SSHConfig, CONFIG_HINTS),
        (trio_ssh.SSHClient, CLIENT_HINTS),
        (trio_ssh.Process, PROCESS_HINTS),
        (trio_ssh.ServerProcess, SERVER_PROCESS_HINTS),
        (trio_ssh.CompletedProcess("x", 0, b"", b"", trio_ssh.ExitReport(), "x"), COMPLETED_HINTS),
        (trio_ssh.Reader, READER_HINTS),
        (trio_ssh.Writer, WRITER_HINTS),
        (trio_ssh.SFTPClient, SFTP_HINTS),
        (trio_ssh, MODULE_HINTS),
    ],
)
def test_no_hint_is_in_the_way_of_what_is_there(cls: object, hints: dict[str, str]) -> None:
    assert [name for name in hints if hasattr(cls, name)] == []


async def test_names_of_asyncssh_s_are_answered_on_both_sides() -> None:
    seen: list[str] = []

    async def handle(process: trio_ssh.ServerProcess) -> int:
        with pytest.raises(AttributeError) as raised:
            process.get_extra_info  # type: ignore[attr-defined]  # noqa: B018
        seen.append(str(raised.value))
        return 0

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        done = await client.run_process("x")
    assert "get_username()" in seen[0]
    with pytest.raises(AttributeError, match="look at `returncode`"):
        done.exit_status  # type: ignore[attr-defined]  # noqa: B018


async def test_a_misspelt_argument_is_guessed() -> None:
    with pytest.raises(TypeError, match=r"^connect takes no usernmae; is `username=` meant\?$"):
        trio_ssh.connect("host", usernmae="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^connect takes no qqq$"):
        trio_ssh.connect("host", qqq=1)  # type: ignore[call-arg]
    for what, call in {
        "serve_tcp": lambda **named: trio_ssh.serve_tcp(OpenDoor, 0, **named),
        "serve_listeners": lambda **named: trio_ssh.serve_listeners(OpenDoor, [], **named),
        "serve_stream": lambda **named: trio_ssh.serve_stream(memory_pair()[0], OpenDoor(), **named),
    }.items():
        with pytest.raises(TypeError, match=f"^{what} takes no server_host_keys: pass `host_keys=`"):
            await call(server_host_keys=[HOST_KEY])


@pytest.mark.parametrize("name", MODULE_HINTS)
def test_what_the_module_has_no_more_is_told_by_its_name(name: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(f"module 'trio_ssh' has no attribute {name!r}: ")) as raised:
        getattr(trio_ssh, name)
    assert raised.value.name == name
    with pytest.raises(AttributeError, match=r"no attribute 'Nonsense'$"):
        trio_ssh.Nonsense  # type: ignore[attr-defined]  # noqa: B018


async def test_a_configuration_says_how_it_is_read() -> None:
    config = await trio_ssh.SSHConfig.from_text("Host *\n  Port 2222\n")
    with pytest.raises(AttributeError, match="from_path"):
        config.parse  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ARGUMENT_HINTS)
async def test_an_argument_of_another_library_s_says_what_to_pass(name: str) -> None:
    hint = re.escape(ARGUMENT_HINTS[name])
    with pytest.raises(TypeError, match=f"^connect takes no {name}: {hint}"):
        trio_ssh.connect("host", **{name: 3})
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        transport = client.transport
        for what, call in {
            "connect": lambda **named: trio_ssh.SSHClient().connect("host", **named),
            "exec_command": lambda **named: client.exec_command("x", **named),
            "run_process": lambda **named: client.run_process("x", **named),
            "open_process": lambda **named: client.open_process("x", **named),
            "open_session": transport.open_session,
            "open_channel": lambda **named: transport.open_channel("session", **named),
            "start_client": lambda **named: transport.start_client(check_host_key=print, **named),
        }.items():
            with pytest.raises(TypeError, match=f"^{what} takes no {name}: {hint}"):
                await call(**{name: 3})


def test_no_argument_that_there_is_has_a_hint() -> None:
    for function in (
        trio_ssh.connect,
        trio_ssh.SSHClient.connect,
        trio_ssh.SSHClient.exec_command,
        trio_ssh.SSHClient.run_process,
        trio_ssh.SSHClient.open_process,
        trio_ssh.Transport.open_session,
        trio_ssh.Transport.open_channel,
        trio_ssh.Transport.start_client,
    ):
        assert set(inspect.signature(function).parameters).isdisjoint(ARGUMENT_HINTS)


def test_with_says_async_with() -> None:
    for block in (trio_ssh.SSHClient(), trio_ssh.connect("host")):
        text = f"use `async with {type(block).__name__}(...)`, not `with`"
        with pytest.raises(TypeError, match=re.escape(text)), block:  # type: ignore[attr-defined]
            pass


async def test_names_of_asyncssh_s_say_what_to_use() -> None:
    async with (
        open_memory_client(OpenDoor(), host_key=HOST_KEY) as client,
        await client.open_process("x") as process,
    ):
        for thing, name, hint in (
            (client, "run", "run_process"),
            (client, "start_sftp_client", "open_sftp"),
            (process, "communicate", "run_process"),
            (process, "exit_status", "returncode"),
            (process.stdout, "readline", "read_line"),
            (process.stdin, "write_eof", "aclose"),
        ):
            with pytest.raises(AttributeError, match=f"no attribute {name!r}: .*{hint}"):
                getattr(thing, name)


async def test_arguments_of_paramiko_s_that_mean_nothing_here_are_taken_or_told() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.exec_command("x")
        with pytest.raises(TypeError, match="bytes are sent, not str: encode it"):
            await channel.send_all("text")  # type: ignore[arg-type]
        async with channel.makefile("wb", -1) as file:
            await file.write(b"text\n")
        assert await channel.makefile("r", 1).readline() == "text\n"
        assert await channel.makefile_stderr("r", -1).read() == b""
        with pytest.raises(trio_ssh.RequestRefused, match="AcceptEnv"):
            await client.exec_command("x", environment={"LC_ALL": "C"})
        tunnel = await client.get_transport().open_channel(  # type: ignore[union-attr]
            "direct-tcpip",
            ("::1", 80, 0, 0),  # type: ignore[arg-type]
            ("::1", 4000, 0, 0),  # type: ignore[arg-type]
        )
        await tunnel.aclose()


def test_exceptions_have_paramiko_s_names() -> None:
    for kind in (trio_ssh.BadAuthenticationType, trio_ssh.PartialAuthentication):
        assert kind("no", tried=[], allowed=["publickey"]).allowed_types == ("publickey",)


def test_what_python_looks_for_is_not_found_without_ado() -> None:
    thing = Hints()
    assert type(copy.copy(thing)) is Hints
    assert not hasattr(thing, "__fspath__")
