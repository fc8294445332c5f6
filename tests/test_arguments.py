"""What callers give by mistake: told at once, in words, and before anything was done."""

from __future__ import annotations

import functools
import io
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY, USER_KEY, OpenDoor, echo
from trio_ssh.testing import MemorySFTPServer, memory_pair, open_memory_client


class Server(OpenDoor):
    """Echoes, and has files in memory."""

    subsystems: ClassVar = {"sftp": MemorySFTPServer}


@asynccontextmanager
async def served(factory: Any = Server, **options: Any) -> AsyncGenerator[int, None]:
    """A server at a port."""
    options = {"host": "127.0.0.1", "host_keys": [HOST_KEY]} | options
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            functools.partial(trio_ssh.serve_tcp, factory, 0, **options)
        )
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def connect(port: Any, host: Any = "127.0.0.1", **options: Any) -> trio_ssh.connect:
    given = {"username": "alice", "known_hosts": [], "policy": trio_ssh.AutoAddPolicy(), "config": None}
    return trio_ssh.connect(host, port, **(given | {"look_for_keys": False, "allow_agent": False} | options))


async def refused(block: trio_ssh.connect, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        async with block:
            raise AssertionError("it connected")


# -- where to


@pytest.mark.parametrize(
    ("host", "port", "kind", "text"),
    [
        ("127.0.0.1", 70000, ValueError, r"a port is 0 \.\. 65535, not 70000"),
        ("localhost", 65536 + 22, ValueError, r"a port is 0 \.\. 65535"),
        ("localhost", "22", TypeError, "a port is an int, not '22'"),
        (b"localhost", 22, TypeError, "a host name is a str, not bytes: decode it"),
        (("localhost", 22), None, TypeError, "a host name is a str, not tuple"),
        ("root@localhost", 22, ValueError, "give the user as username="),
        ("ssh://root@localhost", 22, ValueError, "and not a URL"),
    ],
)
async def test_a_place_that_cannot_be_one(host: Any, port: Any, kind: type[Exception], text: str) -> None:
    await refused(connect(port, host), kind, text)


async def test_a_name_that_has_no_address_is_named() -> None:
    class NoNames(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *arguments: Any) -> Any:
            await trio.lowlevel.checkpoint()
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *arguments: Any) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(NoNames())
    await refused(
        connect(None, "host.example:2222"),
        socket.gaierror,
        r"no address is known of 'host\.example:2222': .*; is it 'host\.example' and port=2222\?",
    )
    await refused(
        connect(None, "host.example"), socket.gaierror, r"known of 'host\.example': Name or service not known$"
    )


async def test_what_is_no_stream_is_told_what_makes_one() -> None:
    async with served() as port:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            await refused(connect(port, sock=plain), TypeError, "from_stdlib_socket")
        with trio.socket.socket() as ours:
            await refused(connect(port, sock=ours), TypeError, r"trio\.SocketStream\(sock\)")
        with pytest.raises(TypeError, match=r"this is a tuple: await trio\.open_tcp_stream"):
            trio_ssh.Transport(("127.0.0.1", port))  # type: ignore[arg-type]
        await refused(connect(port, via="bastion"), TypeError, "via= takes a client that is connected, not a str")
        coroutine = trio.open_tcp_stream("127.0.0.1", port)  # noqa: ASYNC105 -- that is the mistake
        with pytest.raises(TypeError, match="await it first"):
            trio_ssh.Transport(coroutine)  # type: ignore[arg-type]
        coroutine.close()


# -- who


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"password": b"pw"}, "a secret is a str, or a function that gets it, not bytes: decode it"),
        ({"passphrase": 5}, "a secret is a str"),
        ({"pkey": USER_KEY.public_key}, "is a public one, which can't sign"),
        ({"pkey": "/home/alice/.ssh/id"}, r"a private key is wanted, not a str: load_private_key_file\(path\)"),
        ({"pkey": [b"content"]}, "a private key is wanted, not a bytes"),
        ({"username": b"alice"}, "a user name is a str, not bytes"),
        ({"policy": "auto"}, r"a policy is a MissingHostKeyPolicy, such as AutoAddPolicy\(\)"),
        ({"policy": lambda *given: None}, "a policy is a MissingHostKeyPolicy"),
        ({"known_hosts": False}, "known_hosts is a path or several, not a bool"),
        ({"known_hosts": [trio_ssh.HostKeys()]}, "known_hosts is a path or several, and this is a HostKeys"),
        ({"key_filename": [5]}, "key_filename is a path or several, and this is an int"),
    ],
)
async def test_who_is_to_log_in_is_told_by_the_right_types(options: dict[str, Any], text: str) -> None:
    async with served() as port:
        with pytest.raises(TypeError, match=text):
            async with connect(port, **options):
                raise AssertionError("it connected")


@pytest.mark.parametrize("as_path", [str, os.fsencode, Path, trio.Path])
async def test_paths_may_be_of_any_kind(as_path: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    USER_KEY.write_private_key_file(tmp_path / "id")
    async with served() as port:
        known, key = as_path(str(tmp_path / "known")), as_path(str(tmp_path / "id"))
        async with connect(port, known_hosts=known, key_filename=key) as client:
            assert client.get_transport() is not None


async def test_a_tilde_is_the_user_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    USER_KEY.write_private_key_file(tmp_path / "id")
    async with served() as port:
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {HOST_KEY.public_key.to_openssh()}\n")
        async with connect(port, known_hosts="~/known", policy=None, key_filename="~/id") as client:
            assert client.get_transport() is not None


async def test_a_key_s_content_in_a_path_s_place_is_never_shown(tmp_path: Path) -> None:
    content = USER_KEY.to_openssh().decode()
    with pytest.raises(trio_ssh.KeyFileException, match="this is the content of a file") as raised:
        trio_ssh.load_private_key_file(content)
    assert content[60:80] not in str(raised.value)
    async with served() as port:
        await refused(connect(port, key_filename=content), trio_ssh.KeyFileException, "the content of a file")
    with pytest.raises(trio_ssh.KeyFileException, match=r"looks like a path.*load_private_key_file"):
        trio_ssh.load_private_key("/home/alice/.ssh/id")
    (tmp_path / "id").write_text(content)
    with pytest.raises(trio_ssh.KeyFileException, match=r"id: this is a private key\. Give the \.pub file"):
        trio_ssh.load_public_key_file(tmp_path / "id")


async def test_numbers_are_no_paths() -> None:
    with pytest.raises(TypeError):
        trio_ssh.HostKeys.load(trio_ssh.HostKeys(), 0)  # type: ignore[arg-type]


# -- commands


async def test_a_command_is_looked_at_before_it_is_sent() -> None:
    seen: list[str | None] = []

    async def handle(process: trio_ssh.ServerProcess) -> int:
        seen.append(process.command)
        return await echo(process)

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        for command, kind, text in (
            ([], ValueError, "the command has no words"),
            ("", ValueError, "the command is empty: it would run nothing, and succeed"),
            ("echo a\0b", ValueError, "a command holds no NUL"),
            (["echo", 1], TypeError, "and 1 is none"),
            (None, TypeError, "not NoneType"),
        ):
            with pytest.raises(kind, match=text):
                await client.run_process(command)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="stdin is bytes, a binary file or a stream, not str: encode it"):
            await client.run_process("sort", stdin="b\na\n")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"stdin is bytes, .* not None: for no input leave it out"):
            await client.run_process("sort", stdin=None)  # type: ignore[arg-type]
        assert seen == []
        words = (word for word in ["rm", "a b"])
        await client.run_process(words, capture_stdout=True)  # type: ignore[arg-type]
        assert seen == ["rm 'a b'"]


async def test_a_refused_command_says_whether_it_was_the_first() -> None:
    class Refuses(OpenDoor):
        def check_channel_exec_request(self, channel: trio_ssh.Channel, command: str) -> bool:
            return False

    async with open_memory_client(Refuses(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        with pytest.raises(trio_ssh.RequestRefused, match="does not allow this user a command"):
            await channel.exec_command("ls")
        with pytest.raises(trio_ssh.RequestRefused, match="a channel runs one command"):
            await channel.exec_command("ls")


async def test_signals_may_be_numbers() -> None:
    async with (
        open_memory_client(OpenDoor(), host_key=HOST_KEY) as client,
        await client.open_process("cat") as process,
    ):
        process.send_signal(15)
        process.send_signal("WINCH@example.com")
        with pytest.raises(ValueError, match="999"):
            process.send_signal(999)
        for name in ("", "SIG", "not a name"):
            with pytest.raises(ValueError, match=f"such as 'TERM', and not {name!r}"):
                process.send_signal(name)


async def test_a_channel_that_was_closed_says_so() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.exec_command("cat")
        await channel.aclose()
        with pytest.raises(trio.ClosedResourceError, match="this channel was closed"):
            await channel.recv_exit_status()


# -- servers


async def test_a_server_s_mistakes_are_found_when_it_starts() -> None:
    for factory, text in ((Server(), "pass Server, the class"), (None, "what makes one is wanted, not None")):
        with pytest.raises(TypeError, match=text):
            await trio_ssh.serve_tcp(factory, 0, host="127.0.0.1", host_keys=[HOST_KEY])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a port is"):
        await trio_ssh.serve_tcp(Server, 65536 + 22, host_keys=[HOST_KEY])
    with pytest.raises(TypeError, match=r"call it, Server\(\)"):
        open_memory_client(Server)  # type: ignore[arg-type]
    ours, theirs = memory_pair()
    with pytest.raises(TypeError, match=r"call it, Server\(\)"):
        await trio_ssh.serve_stream(theirs, Server, host_keys=[HOST_KEY])  # type: ignore[arg-type]
    await ours.aclose()


async def test_host_keys_may_be_given_once() -> None:
    async with served(host_keys=(key for key in [HOST_KEY])) as port:
        for _ in range(2):
            async with connect(port) as client:
                assert client.get_transport() is not None


async def test_a_factory_that_makes_something_else_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with served(lambda: Server) as port:
        await refused(connect(port), trio_ssh.ConnectionLost, "the peer")
    assert "a ServerInterface is wanted" in caplog.text


async def test_a_status_that_does_not_fit_is_no_success() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        with pytest.raises(ValueError, match=r"an exit status is 0 \.\. 255"):
            process.channel.send_exit_status(-1)
        return 2**32

    with pytest.raises(ValueError, match="and not 4294967296"):
        async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
            assert (await client.run_process("x", check=False)).returncode == 255


async def test_a_handler_that_never_waits_may_be_no_coroutine_function() -> None:
    class Sync(OpenDoor):
        def handle_session(self, process: trio_ssh.ServerProcess) -> int:  # type: ignore[override]
            return 3

    async with open_memory_client(Sync(), host_key=HOST_KEY) as client:
        assert (await client.run_process("x", check=False)).returncode == 3


async def test_prompts_are_a_list() -> None:
    for prompts in ("PIN: ", 5):
        with pytest.raises(TypeError, match="prompts is a list"):
            trio_ssh.InteractiveQuery("t", "i", prompts).as_prompts()  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a prompt is a Prompt, a text"):
        trio_ssh.InteractiveQuery("t", "i", ["PIN: ", False]).as_prompts()  # type: ignore[list-item]
    assert trio_ssh.InteractiveQuery("t", "i", [("PIN: ", False)]).as_prompts()[0].text == "PIN: "


async def test_what_checks_return_by_mistake_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(OpenDoor):
        def check_port_forward_request(self, address: str, port: int) -> Any:
            return True

    async with open_memory_client(Wrong(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.RequestRefused):
            await client.open_tcp_listeners(0)
    assert "returns the port that it listens at, not True" in caplog.text


# -- forwarding and files


async def test_forwarding_begins_only_where_it_can_lead() -> None:
    async with open_memory_client(Server(), host_key=HOST_KEY) as client:
        for port, kind in (("22", TypeError), (-5, ValueError), (70000, ValueError)):
            with pytest.raises(kind, match="a port is"):
                await client.forward_local_port(0, "host", port)  # type: ignore[arg-type]
            with pytest.raises(kind, match="a port is"):
                await client.open_tcp_listeners(port)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a host name is a str"):
            await client.forward_local_port(0, b"host", 22)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a port is"):
            await client.forward_local_port(70000, "host", 22)


async def test_files_take_what_the_protocol_can_carry() -> None:
    async with open_memory_client(Server(), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
        await sftp.putfo(io.BytesIO(b"x"), "/file")
        with pytest.raises(TypeError, match="a mode is an int, and not '600'"):
            await sftp.chmod("/file", "600")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="permissions are set by chmod"):
            await sftp.open("/file", 0o644)  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError, match="an empty path names nothing"):
            await sftp.putfo(io.BytesIO(b"x"), "")
        assert await sftp.listdir("/") == ["file"]


async def test_a_session_whose_connection_was_closed_here_says_so() -> None:
    async with open_memory_client(Server(), host_key=HOST_KEY) as client:
        sftp = await client.open_sftp()
    with pytest.raises(trio.ClosedResourceError, match="this connection was closed here"):
        await sftp.listdir("/")


async def test_what_cannot_be_resumed_leaves_no_part_though_its_session_is_left() -> None:
    files = MemorySFTPServer()

    class Files(OpenDoor):
        subsystems: ClassVar = {"sftp": lambda: files}

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        async with open_memory_client(Files(), host_key=HOST_KEY) as client, await client.open_sftp() as sftp:
            await sftp.putfo(Broken(), "/file")
    assert files.files == {}


async def test_a_subsystem_is_a_handler_or_what_makes_one() -> None:
    files = MemorySFTPServer({"/motd": b"hello"})

    class Files(OpenDoor):
        subsystems: ClassVar = {"sftp": files, "other": lambda: files}

    async with open_memory_client(Files(), host_key=HOST_KEY) as client:
        async with await client.open_sftp() as sftp:
            assert await sftp.listdir() == ["motd"]
        channel = await client.open_session()
        await channel.invoke_subsystem("other")


@pytest.mark.parametrize("source", ["sftp-server", None])
async def test_anything_else_is_found_before_the_first_client_comes(source: Any) -> None:
    class Wrong(OpenDoor):
        subsystems: ClassVar = {"sftp": source}

    with pytest.raises(TypeError, match=f"'sftp' is served by a handler, or by what makes one, not by {source!r}"):
        await trio_ssh.serve_tcp(Wrong, 0, host="127.0.0.1", host_keys=[HOST_KEY])
    with pytest.raises(TypeError, match="'sftp' is served by a handler"):
        async with open_memory_client(Wrong(), host_key=HOST_KEY):
            pass
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(theirs) as transport, ours:
        with pytest.raises(TypeError, match="'mine' is served by a handler"):
            transport.set_subsystem_handler("mine", source)


def test_public_keys_answer_to_paramiko_s_names() -> None:
    key = USER_KEY.public_key
    assert (key.get_name(), key.get_bits(), key.get_base64()) == ("ssh-ed25519", 256, USER_KEY.get_base64())
    assert key.get_fingerprint() == USER_KEY.get_fingerprint()
    assert key.asbytes() == USER_KEY.asbytes()


# -- tests


async def test_a_test_hears_of_the_handler_that_failed() -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        raise KeyError("soup")

    with pytest.raises(trio_ssh.ProcessError) as raised:
        async with open_memory_client(OpenDoorThatTells(handle), host_key=HOST_KEY) as client:
            await client.run_process("soup")
    assert raised.value.__notes__ == ["the server's handler failed with KeyError('soup')"]


class OpenDoorThatTells(OpenDoor):
    """Doesn't keep its failures to itself."""

    handler_failed = trio_ssh.ServerInterface.handler_failed


async def test_a_test_hears_why_its_server_is_not_there() -> None:
    class NoKey:
        public_key = HOST_KEY.public_key

    with pytest.raises(TypeError, match="a host key is a private key, not NoKey") as raised:
        async with open_memory_client(OpenDoor(), host_key=NoKey()):  # type: ignore[arg-type]
            raise AssertionError("it connected")
    assert isinstance(raised.value.__cause__, trio_ssh.ConnectionLost)


async def test_what_paramiko_s_programs_say_next_is_answered() -> None:
    ours, _ = memory_pair()
    with pytest.raises(AttributeError, match=r"await `start_client\(check_host_key=\.\.\.\)`"):
        trio_ssh.Transport(ours).connect  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError, match=r"async with open_memory_client\(\.\.\.\) as client:"):
        await open_memory_client(OpenDoor())
    with pytest.raises(TypeError, match="the size of a key is an int, in bits, not '2048'"):
        trio_ssh.RSAKey.generate("2048")  # type: ignore[arg-type]


async def test_an_empty_user_name_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="a user name is empty: leave it out for your own"):
        async with trio_ssh.connect("host.invalid", username=""):
            pass


async def test_a_subsystem_that_is_overridden_and_not_served_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Homes(OpenDoor):
        async def handle_subsystem(self, process: trio_ssh.ServerProcess) -> int:
            return 0

    caplog.set_level(logging.INFO, "trio_ssh.server")
    async with open_memory_client(Homes(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.RequestRefused):
            await client.open_sftp()
    assert "the subsystem sftp is not served: it is not in `subsystems`" in caplog.text


async def test_host_keys_are_updated_by_a_word() -> None:
    with pytest.raises(ValueError, match="update_host_keys is 'yes', 'no' or 'ask', not True"):
        async with trio_ssh.connect("host.invalid", update_host_keys=True):  # type: ignore[arg-type]
            pass
