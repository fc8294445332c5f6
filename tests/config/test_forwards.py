"""What a configuration forwards from the login on, and which sessions it gives a terminal."""

from __future__ import annotations

import contextlib
import logging
import socket
import stat
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, cancel_everywhere
from tests.test_forwarding import LOOPBACK, Server, ask, listens, request_4, request_5, shout, socks
from trio_ssh.config.forwards import UnixListener, _is_permitted
from trio_ssh.session import Pty
from trio_ssh.testing import memory_pair


class Terminals(Server):
    """Says whether a session has a terminal, and forwards."""

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write(process.pty.term if process.pty is not None else "none")
        return 0

    def check_channel_pty_request(self, channel: trio_ssh.Channel, term: str, *sizes: object) -> bool:
        return True


@contextlib.asynccontextmanager
async def connected(
    text: str, server: Server | None = None, seconds: float = 30
) -> AsyncGenerator[trio_ssh.SSHClient, None]:
    """A client whose configuration says so."""
    config = await trio_ssh.SSHConfig.from_text(f"User joe\n{text}\n")
    known = trio_ssh.HostKeys()
    known.add("alias", None, HOST_KEY.public_key)
    ours, theirs = memory_pair()
    failure: Exception | None = None
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server or Terminals(), host_keys=[HOST_KEY]))
            try:
                async with trio_ssh.connect(
                    "alias", sock=ours, config=config, known_hosts=known, look_for_keys=False, allow_agent=False
                ) as client:
                    yield client
            except trio_ssh.SSHException as error:
                failure = error
    if failure is not None:
        raise failure


def free_port() -> int:
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        port: int = found.getsockname()[1]
        return port


async def test_ports_are_forwarded_from_the_login_to_the_end() -> None:
    local, dynamic = free_port(), free_port()
    server = Terminals()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, shout, 0, host=LOOPBACK))
        target = listener.socket.getsockname()[1]
        text = f"LocalForward {local} web:80\nDynamicForward {dynamic}\nRemoteForward 9 {LOOPBACK}:{target}\n"
        async with connected(text, server):
            assert await ask(await trio.open_tcp_stream(LOOPBACK, local), b"local") == b"LOCAL"
            stream, _ = await socks(dynamic, request_5(b"db"), 12)
            assert await ask(stream, b"dynamic") == b"DYNAMIC"
            assert await ask(await server.forwarded(port=9), b"remote") == b"REMOTE"
        assert not listens(local)
        assert not listens(dynamic)
        nursery.cancel_scope.cancel()
    assert server.told == [("listen", "localhost", 9), (("web", 80), LOOPBACK), (("db", 80), LOOPBACK)]


async def test_they_end_where_the_client_is_closed_within_its_block() -> None:
    port = free_port()
    async with connected(f"LocalForward {port} web:80") as client:
        assert listens(port)
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not listens(port)


async def test_and_with_the_connection() -> None:
    port = free_port()
    server = Terminals()
    async with connected(f"LocalForward {port} web:80", server):
        await server.transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not listens(port)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("LocalForward {port} web:80", {LOOPBACK}),
        ("LocalForward localhost:{port} web:80", {LOOPBACK}),
        ("LocalForward 127.0.0.2:{port} web:80", {"127.0.0.2"}),
        ("LocalForward *:{port} web:80", {LOOPBACK, "127.0.0.2"}),
        ("LocalForward :{port} web:80", {LOOPBACK, "127.0.0.2"}),
        ("GatewayPorts yes\nLocalForward {port} web:80", {LOOPBACK, "127.0.0.2"}),
        ("GatewayPorts yes\nDynamicForward {port}", {LOOPBACK, "127.0.0.2"}),
        ("GatewayPorts yes\nDynamicForward localhost:{port}", {LOOPBACK}),
        ("ClearAllForwardings yes\nLocalForward {port} web:80\nDynamicForward {port}", set()),
    ],
)
async def test_whose_connections_are_taken_is_as_it_says(text: str, addresses: set[str]) -> None:
    port = free_port()
    async with connected(text.format(port=port)):
        assert {address for address in (LOOPBACK, "127.0.0.2") if listens(port, address)} == addresses


@pytest.mark.parametrize(
    ("said", "host"),
    [("9", "localhost"), ("localhost:9", "localhost"), ("*:9", ""), (":9", ""), ("192.0.2.1:9", "192.0.2.1")],
)
async def test_where_the_server_listens_is_as_it_says(said: str, host: str) -> None:
    server = Terminals()
    async with connected(f"RemoteForward {said} web:80", server):
        assert server.told == [("listen", host, 9)]


@pytest.mark.parametrize("is_remote", [False, True])
async def test_what_can_not_be_forwarded_is_a_line_in_the_log(
    is_remote: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port, free = taken.getsockname()[1], free_port()
        line = "RemoteForward forbidden:9 web:80" if is_remote else f"LocalForward {port} web:80"
        async with connected(f"LocalForward {free} web:80\n{line}\nDynamicForward {port}\n"):
            assert listens(free)
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    line = line.replace(" web:80", " [web]:80").replace("forbidden:9", "[forbidden]:9")
    assert any(text.startswith(f"{line} (ssh_config:3) is not forwarded: ") for text in found), found
    assert any(text.startswith(f"DynamicForward {port} (ssh_config:4) is not forwarded: ") for text in found), found


@pytest.mark.parametrize("is_remote", [False, True])
async def test_or_an_error_that_names_it_where_it_must_be(is_remote: bool) -> None:
    server = Terminals()
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        free = free_port()
        line = "RemoteForward forbidden:9 web:80" if is_remote else f"LocalForward {taken.getsockname()[1]} web:80"
        text = f"ExitOnForwardFailure yes\nLocalForward {free} web:80\n{line}\n"
        with pytest.raises(trio_ssh.ForwardingFailure, match=r"\(ssh_config:4\) is not forwarded") as raised:
            async with connected(text, server):
                raise AssertionError("it connected")
    assert isinstance(raised.value.__cause__, trio_ssh.RequestRefused if is_remote else OSError)
    assert raised.value.place == "ssh_config:4"
    assert raised.value.forwarding.startswith(line.partition(" ")[0])
    assert not listens(free)


async def test_a_client_on_the_way_to_another_host_forwards_nothing() -> None:
    port = free_port()
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, partial(Terminals, serve_inner), 0, host=LOOPBACK, host_keys=[HOST_KEY])
        [listener] = await nursery.start(serve)
        known = trio_ssh.HostKeys()
        known.add(f"[{LOOPBACK}]:{listener.socket.getsockname()[1]}", None, HOST_KEY.public_key)
        known.add("inner", None, HOST_KEY.public_key)
        config = await trio_ssh.SSHConfig.from_text(
            f"Host jump\nHostName {LOOPBACK}\nPort {listener.socket.getsockname()[1]}\nLocalForward {port} web:80\n"
            "Host inner\nProxyJump jump\nHost *\nUser joe\nIdentityAgent none\n"
        )
        async with trio_ssh.connect("inner", config=config, known_hosts=known, look_for_keys=False, allow_agent=False):
            assert not listens(port)
        async with trio_ssh.connect("jump", config=config, known_hosts=known, look_for_keys=False, allow_agent=False):
            assert listens(port)
        nursery.cancel_scope.cancel()


async def serve_inner(channel: trio_ssh.Channel) -> None:
    await trio_ssh.serve_stream(channel, Terminals(), host_keys=[HOST_KEY])


async def test_connecting_can_be_cancelled_anywhere_and_nothing_listens_then() -> None:
    local, dynamic = free_port(), free_port()

    async def scenario() -> None:
        async with connected(f"LocalForward {local} web:80\nRemoteForward 9 web:80\nDynamicForward {dynamic}"):
            pass

    async def check() -> None:
        assert not listens(local)
        assert not listens(dynamic)

    assert await cancel_everywhere(scenario, check) > 10


async def test_a_server_that_never_answers_has_the_time_of_a_login(autojump_clock: trio.testing.MockClock) -> None:
    class Silent(Terminals):
        async def check_port_forward_request(self, address: str, port: int) -> int | bool:  # type: ignore[override]
            await trio.sleep_forever()
            raise AssertionError

    with pytest.raises(trio_ssh.ConnectionLost, match="did not finish the login within 120 seconds"):
        async with connected("RemoteForward 9 web:80", Silent(), seconds=1000):
            raise AssertionError("it connected")


# -- UNIX sockets


async def test_a_socket_here_leads_to_a_port_there(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with connected(f"LocalForward {path} web:80"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await ask(await trio.open_unix_socket(path), b"hello") == b"HELLO"
    assert not path.exists()


async def test_who_may_use_it_is_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with connected(f"StreamLocalBindMask 0117\nLocalForward {path} web:80"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize("unlinks", [False, True])
async def test_a_socket_that_is_left_over_is_replaced_if_it_says_so(tmp_path: Path, unlinks: bool) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    text = f"ExitOnForwardFailure yes\nStreamLocalBindUnlink {'yes' if unlinks else 'no'}\nLocalForward {path} web:80"
    if unlinks:
        async with connected(text):
            assert await ask(await trio.open_unix_socket(path), b"hello") == b"HELLO"
    else:
        with pytest.raises(trio_ssh.ForwardingFailure, match="in use"):
            async with connected(text):
                raise AssertionError("it connected")
        assert path.exists()


def test_no_other_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="in use"):
        UnixListener.open(str(tmp_path / "file"), 0o177, unlinks=True)
    assert (tmp_path / "file").read_text() == "precious"


async def test_sockets_there_are_asked_for(tmp_path: Path) -> None:
    port = free_port()
    server = Terminals()
    async with trio.open_nursery() as nursery:
        listener = UnixListener.open(str(tmp_path / "here"), 0o177, unlinks=False)
        nursery.start_soon(trio.serve_listeners, shout, [listener])
        here = tmp_path / "here"
        text = f"LocalForward {port} /run/there\nRemoteForward /run/listen {here}\nRemoteForward 9 {here}"
        async with connected(text, server):
            assert await ask(await trio.open_tcp_stream(LOOPBACK, port), b"hello") == b"HELLO"
            assert server.told == [("streamlocal-forward@openssh.com", "/run/listen"), ("listen", "localhost", 9)]
            assert await ask(await server.forwarded(port=9), b"hello") == b"HELLO"
        nursery.cancel_scope.cancel()


# -- a SOCKS client at the server


@pytest.mark.parametrize(
    ("permit", "is_let"),
    [
        ("", True),
        ("PermitRemoteOpen any", True),
        (f"PermitRemoteOpen {LOOPBACK}:*", True),
        ("PermitRemoteOpen none", False),
        (f"PermitRemoteOpen other:1 {LOOPBACK}:1", False),
    ],
)
async def test_it_goes_from_here_where_it_may(permit: str, is_let: bool) -> None:
    server = Terminals()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, shout, 0, host=LOOPBACK))
        port = listener.socket.getsockname()[1]
        async with connected(f"RemoteForward 9\n{permit}", server):
            channel = await server.forwarded(port=9)
            await channel.send_all(b"\4\1" + port.to_bytes(2, "big") + b"\x7f\0\0\1\0" + b"hello")
            await channel.send_eof()
            answer = await channel.read()
            assert answer == (b"\0\x5a" + bytes(6) + b"HELLO" if is_let else b"\0\x5b" + bytes(6))
        nursery.cancel_scope.cancel()


async def test_where_nobody_answers_it_is_told_so() -> None:
    server = Terminals()
    async with connected("RemoteForward 9", server):
        channel = await server.forwarded(port=9)
        await channel.send_all(request_4(b"127.0.0.1"))  # port 80
        if not listens(80):
            assert await channel.read() == b"\0\x5b" + bytes(6)


def test_what_is_permitted() -> None:
    assert _is_permitted(("[2001:db8::1]:80", "*:22", "Web:*"), "2001:db8::1", 80)
    assert _is_permitted(("*:22",), "anywhere", 22)
    assert _is_permitted(("Web:*",), "web", 5)
    assert not _is_permitted(("web:80",), "web", 81)
    assert not _is_permitted((), "web", 80)


# -- terminals


@pytest.mark.parametrize(
    ("said", "process", "shell"),
    [
        ("", "none", "vt100"),
        ("RequestTTY auto", "none", "vt100"),
        ("RequestTTY yes", "vt100", "vt100"),
        ("RequestTTY force", "vt100", "vt100"),
        ("RequestTTY no", "none", "none"),
    ],
)
async def test_who_gets_a_terminal(said: str, process: str, shell: str) -> None:
    async with connected(said) as client:
        for command in (None, "x"):
            async with await client.open_process(command) as found:
                assert await found.stdout.read() == process.encode()
        assert await (await client.invoke_shell()).read() == shell.encode()
        # What is given wins, and a command whose output is data has none.
        for term in ("xterm", Pty("xterm")):
            async with await client.open_process("x", term=term) as found:
                assert await found.stdout.read() == b"xterm"
        assert (await client.run_process("x", capture_stdout=True)).stdout == b"none"
