"""The way to a host: through other hosts, through a command, and by TCP as the configuration wants it."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import trio_ssh
from trio_ssh import proxy
from trio_ssh.config import SSHOptions
from trio_ssh.config.values import JumpHost
from trio_ssh.proxy import _connect

USER_KEY = trio_ssh.Ed25519Key.generate()


class Host(trio_ssh.ServerInterface):
    """Lets one key in, connects to wherever it is asked to, and says its name."""

    def __init__(self, name: str, journal: list[str], *, forwards: bool = True, user: str | None = None) -> None:
        self.name = name
        self._journal = journal
        self._forwards = forwards
        self._user = user

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        is_right = key == USER_KEY.public_key and self._user in (None, username)
        entry = f"{self.name} lets {username} in"
        if is_right and entry not in self._journal:  # a key is shown before it signs
            self._journal.append(entry)
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> trio_ssh.OpenResult:
        if not self._forwards:
            return trio_ssh.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return trio_ssh.OPEN_SUCCEEDED

    async def handle_channel(self, channel: trio_ssh.Channel, destination: tuple[str, int] | None) -> None:
        assert destination is not None
        self._journal.append(f"{self.name} forwards")
        try:
            async with await trio.open_tcp_stream(*destination) as target, trio.open_nursery() as nursery:
                nursery.start_soon(pump, channel, target, nursery)
                nursery.start_soon(pump, target, channel, nursery)
        finally:
            self._journal.append(f"{self.name} has forwarded")

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        self._journal.append(f"{name}={value}")
        return True

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write(f"{self.name}: {process.command or 'shell'}")
        return 0


async def pump(source: trio.abc.ReceiveStream, target: trio.abc.SendStream, nursery: trio.Nursery) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await target.send_all(data)
    nursery.cancel_scope.cancel()


@attrs.define
class Network:
    """Hosts on this machine, and the configuration that knows them."""

    folder: Path
    nursery: trio.Nursery
    journal: list[str] = attrs.field(factory=list)
    ports: dict[str, int] = attrs.field(factory=dict)

    async def add(self, name: str, **options: object) -> None:
        host = partial(Host, name, self.journal, **options)
        key = trio_ssh.Ed25519Key.generate()
        serve = partial(trio_ssh.serve_tcp, host, 0, host="127.0.0.1", host_keys=[key])
        [listener] = await self.nursery.start(serve)
        self.ports[name] = listener.socket.getsockname()[1]
        with (self.folder / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{self.ports[name]} {key.public_key.to_openssh()}\n")

    async def config(self, text: str = "") -> trio_ssh.SSHConfig:
        hosts = "".join(
            f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User {name}-user\n" for name, port in self.ports.items()
        )
        common = f"Host *\n IdentityFile {self.folder}/key\n UserKnownHostsFile {self.folder}/known_hosts\n"
        common += " GlobalKnownHostsFile none\n IdentityAgent none\n"
        return await trio_ssh.SSHConfig.from_text(text + hosts + common)


@pytest.fixture
async def network(tmp_path: Path, nursery: trio.Nursery) -> Network:
    USER_KEY.write_private_key_file(tmp_path / "key")
    made = Network(tmp_path, nursery)
    for name in ("a", "b", "c"):
        await made.add(name)
    return made


async def said(client: trio_ssh.SSHClient) -> str:
    done = await client.run_process("hello", capture_stdout=True)
    return done.stdout.decode()


# -- jump hosts


async def test_a_jump_host_is_on_the_way(network: Network) -> None:
    config = await network.config("Host b\nProxyJump a\n")
    async with trio_ssh.connect("b", config=config) as client:
        assert await said(client) == "b: hello"
        assert network.journal == ["a lets a-user in", "a forwards", "b lets b-user in"]


async def test_several_are_used_one_through_the_other(network: Network) -> None:
    config = await network.config("Host c\nProxyJump joe@a,b\n")
    async with trio_ssh.connect("c", config=config) as client:
        assert await said(client) == "c: hello"
        assert network.journal == [
            "a lets joe in",
            "a forwards",
            "b lets b-user in",
            "b forwards",
            "c lets c-user in",
        ]


async def test_a_jump_host_may_lie_behind_another(network: Network) -> None:
    config = await network.config("Host b\nProxyJump a\nHost c\nProxyJump b\n")
    async with trio_ssh.connect("c", config=config) as client:
        assert await said(client) == "c: hello"
        assert [line for line in network.journal if "lets" in line] == [
            "a lets a-user in",
            "b lets b-user in",
            "c lets c-user in",
        ]


async def test_the_way_ends_when_the_client_does_the_farthest_host_first(network: Network) -> None:
    config = await network.config("Host c\nProxyJump a,b\n")
    async with trio_ssh.SSHClient() as client:
        for _ in range(2):
            network.journal.clear()
            await client.connect("c", config=config)
            await client.aclose()
            with trio.fail_after(30):
                while "a has forwarded" not in network.journal:  # noqa: ASYNC110 -- servers tell nobody
                    await trio.sleep(0.01)
            assert network.journal[-2:] == ["b has forwarded", "a has forwarded"]


async def test_a_cancelled_user_leaves_no_way_behind(network: Network) -> None:
    config = await network.config("Host c\nProxyJump a,b\n")
    with trio.CancelScope() as scope:
        async with trio_ssh.connect("c", config=config) as client:
            scope.cancel()
            await client.run_process("never")
    assert scope.cancelled_caught


async def test_cancelled_at_any_moment_on_the_way_it_ends(network: Network) -> None:
    """However far it got: nothing hangs, and nothing but the cancellation leaves the block."""
    config = await network.config("Host c\nProxyJump a,b\n")
    for checkpoints in range(0, 400, 7):
        with trio.CancelScope() as scope:

            async def cancel_later(scope: trio.CancelScope = scope, count: int = checkpoints) -> None:
                for _ in range(count):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            network.nursery.start_soon(cancel_later)
            with trio.fail_after(60):
                async with trio_ssh.connect("c", config=config):
                    pass


async def test_a_refusal_names_the_jump_host(network: Network) -> None:
    await network.add("strict", user="nobody")
    config = await network.config("Host b\nProxyJump strict\n")
    with pytest.raises(trio_ssh.ProxyJumpFailure, match="no way to b through strict: could not log in") as raised:
        async with trio_ssh.connect("b", config=config):
            raise AssertionError("connected")
    assert (raised.value.jump_host, raised.value.hostname) == ("strict", "b")
    assert isinstance(raised.value.__cause__, trio_ssh.AuthenticationException)


async def test_a_jump_host_that_does_not_forward_is_named(network: Network) -> None:
    await network.add("closed", forwards=False)
    config = await network.config("Host b\nProxyJump a,closed\n")
    with pytest.raises(
        trio_ssh.ProxyJumpFailure,
        match=r"through closed: the peer refused the channel .* it was to connect to \S+ port \d+",
    ) as raised:
        async with trio_ssh.connect("b", config=config):
            raise AssertionError("connected")
    assert isinstance(raised.value.__cause__, trio_ssh.ChannelException)


async def test_a_jump_host_that_is_not_there_is_named(network: Network) -> None:
    config = await network.config("Host b\nProxyJump [127.0.0.1]:9,a\n")
    with pytest.raises(trio_ssh.ProxyJumpFailure, match=r"no way to b through 127\.0\.0\.1:9: ") as raised:
        async with trio_ssh.connect("b", config=config):
            raise AssertionError("connected")
    assert isinstance(raised.value.__cause__, OSError)


async def test_an_unknown_jump_host_is_not_trusted(network: Network) -> None:
    config = await network.config("Host b\nProxyJump a\n")
    known = network.folder / "known_hosts"
    lines = known.read_text().splitlines(keepends=True)
    known.write_text("".join(line for line in lines if f":{network.ports['a']} " not in line))
    with pytest.raises(trio_ssh.ProxyJumpFailure) as raised:
        async with trio_ssh.connect("b", config=config):
            raise AssertionError("connected")
    assert isinstance(raised.value.__cause__, trio_ssh.UnknownHostKeyException)
    assert network.journal == []


async def test_what_is_said_of_trust_holds_on_the_way_too(network: Network) -> None:
    config = await network.config("Host b\nProxyJump a\n")
    client = trio_ssh.SSHClient()
    client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)
    async with client:
        await client.connect("b", config=config, known_hosts=trio_ssh.HostKeys())
        assert await said(client) == "b: hello"
    assert len(client.get_host_keys().lookup(f"[127.0.0.1]:{network.ports['a']}")) == 1


async def test_neither_password_nor_key_for_a_host_goes_to_one_on_the_way(network: Network, tmp_path: Path) -> None:
    class Curious(trio_ssh.ServerInterface):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            self.seen.append(password)
            return trio_ssh.AUTH_FAILED

        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            self.seen.append(key.fingerprint)
            return trio_ssh.AUTH_FAILED

    server = Curious()
    serve = partial(trio_ssh.serve_tcp, lambda: server, 0, host="127.0.0.1", host_keys=[USER_KEY])
    [listener] = await network.nursery.start(serve)
    config = await trio_ssh.SSHConfig.from_text(
        f"ProxyJump 127.0.0.1:{listener.socket.getsockname()[1]}\nIdentityFile none\nIdentityAgent none\n"
    )
    with pytest.raises(trio_ssh.ProxyJumpFailure):
        async with trio_ssh.connect(
            "b", password="secret", pkey=USER_KEY, config=config, policy=trio_ssh.AutoAddPolicy
        ):
            raise AssertionError("connected")
    assert server.seen == []


async def test_hosts_that_lead_to_each_other_are_a_circle(network: Network) -> None:
    config = await network.config("Host a\nProxyJump b\nHost b\nProxyJump c\nHost c\nProxyJump a\n")
    with pytest.raises(trio_ssh.ProxyJumpFailure, match="in a circle: a -> b -> c -> a"):
        async with trio_ssh.connect("a", config=config):
            raise AssertionError("connected")


async def test_a_jump_host_that_is_lost_ends_the_connection_behind_it(network: Network) -> None:
    config = await network.config("Host b\nProxyJump a\n")
    async with trio_ssh.connect("b", config=config) as client:
        assert client._route is not None
        transport = client.get_transport()
        assert transport is not None
        # As if the jump host had broken.
        stream = transport._stream
        assert isinstance(stream, proxy.JumpStream)
        stream._stream._engine.fail(trio_ssh.RemoteProtocolError("it broke"))  # type: ignore[attr-defined]
        with pytest.raises(trio_ssh.ConnectionLost):
            await client.run_process("never")
        assert "a" in repr(stream)
        assert "b" in repr(client._route)


async def test_via_takes_a_client_that_stays_connected(network: Network) -> None:
    config = await network.config("Host b\nProxyJump nowhere.invalid\n")
    async with trio_ssh.connect("a", config=config) as bastion:
        for _ in range(2):
            async with trio_ssh.connect("b", via=bastion, config=config) as client:
                assert await said(client) == "b: hello"
        assert await said(bastion) == "a: hello"


async def test_two_ways_are_one_too_many() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(ValueError, match=r"sock= and via= are two ways"):
            await client.connect("b", sock=ours, via=client)


# -- a command

RELAY = """
import os, socket, sys, threading
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        peer.sendall(data)
    os._exit(0)
threading.Thread(target=up, daemon=True).start()
while data := peer.recv(65536):
    os.write(1, data)
"""


@pytest.fixture
def relay(tmp_path: Path) -> str:
    path = tmp_path / "relay.py"
    path.write_text(RELAY)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")


def children() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    yield int(folder.name)


async def test_a_command_is_the_way(network: Network, relay: str) -> None:
    config = await network.config(f"Host b\nProxyCommand {relay} %h %p\n")
    before = set(children())
    async with trio_ssh.connect("b", config=config) as client:
        assert await said(client) == "b: hello"
        assert len(set(children()) - before) == 1
    assert set(children()) <= before


async def test_a_command_that_does_not_listen_to_reason_is_killed(network: Network, relay: str) -> None:
    # The shell ignores TERM, and so does what it becomes.
    config = await network.config(f"Host b\nProxyCommand sh -c 'trap \"\" TERM; exec {relay} %h %p'\n")
    before = set(children())
    async with trio_ssh.connect("b", config=config) as client:
        assert await said(client) == "b: hello"
    assert set(children()) <= before


async def test_a_command_is_not_left_behind_by_who_is_cancelled(network: Network, relay: str) -> None:
    config = await network.config(f"Host b\nProxyCommand {relay} %h %p\n")
    before = set(children())
    with trio.CancelScope() as scope:
        async with trio_ssh.connect("b", config=config):
            scope.cancel()
            await trio.sleep_forever()
    assert set(children()) <= before


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("sh -c 'exit 3'", "ended with status 3"),
        ("no-such-command-anywhere 2>/dev/null", "ended with status 127"),
        ("cat >/dev/null", "gone"),
    ],
)
async def test_a_command_that_fails_is_told_with_its_status(command: str, how: str) -> None:
    config = await trio_ssh.SSHConfig.from_text(f"ProxyCommand {command}\nIdentityFile none\nIdentityAgent none\n")
    if how == "gone":
        with trio.move_on_after(0.05) as scope:
            async with trio_ssh.connect("b", config=config):
                raise AssertionError("connected")
        assert scope.cancelled_caught
        return
    with pytest.raises(trio_ssh.ProxyCommandFailure, match=how) as raised:
        async with trio_ssh.connect("b", config=config):
            raise AssertionError("connected")
    assert raised.value.command == command


async def test_a_shell_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/no/such/shell")
    with pytest.raises(trio_ssh.ProxyCommandFailure, match="was not started: /no/such/shell: No such file"):
        await proxy.open_proxy_command("true")


# -- injection

EVIL = [
    "$(touch {x})",
    "`touch {x}`",
    "a;touch {x}",
    "a|touch {x}",
    "a&touch {x}",
    "a>{x}",
    "a'b",
    'a"b',
    "a\\b",
    "a*",
    "{{a,b}}",
    "a#b",
    "!a",
    "~root",
]


@pytest.fixture
def evil(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(x=tmp_path / "touched").replace(" ", "${IFS}")


@pytest.mark.parametrize("evil", EVIL, indirect=True)
@pytest.mark.parametrize("quotes", ["%s", '"%s"', "'%s'"])
async def test_no_host_s_name_reaches_a_shell_as_more_than_a_name(evil: str, quotes: str, tmp_path: Path) -> None:
    for line in ("ProxyCommand echo {}", 'Match exec "echo {}"', "HostName x\nProxyCommand echo {}"):
        token = "%n" if "HostName" in line else "%h"
        written = quotes.replace("%s", token).replace('"', '\\"' if "Match" in line else '"')
        config = await trio_ssh.SSHConfig.from_text(line.format(written) + "\n")
        with pytest.raises(ValueError, match="a shell interprets"):
            async with trio_ssh.connect(evil, config=config, username="joe"):
                raise AssertionError("connected")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("evil", EVIL, indirect=True)
async def test_no_user_s_name_reaches_a_shell_as_more_than_a_name(evil: str, tmp_path: Path) -> None:
    for line in ("ProxyCommand echo %r", 'Match exec "echo %r"'):
        config = await trio_ssh.SSHConfig.from_text(line + "\n")
        with pytest.raises(ValueError, match=r"the user name .* a shell interprets"):
            async with trio_ssh.connect("host", username=evil, config=config):
                raise AssertionError("connected")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "-", "a\nb", "a b", "a\tb", "a\0b", "", "a\x1b[1m", "a" * 1024])
async def test_no_host_has_such_a_name(name: str) -> None:
    config = await trio_ssh.SSHConfig.from_text("ProxyCommand echo hello\n")
    with pytest.raises(ValueError, match=r"host name is empty|no host has|no host is called") as raised:
        await config.lookup(name)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("line", ["UserKnownHostsFile ~/known/%h", "ControlPath /tmp/%n", "LocalForward /tmp/%h a:1"])
@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/b", "/etc/passwd"])
async def test_no_host_s_name_leads_elsewhere_in_a_path(line: str, name: str) -> None:
    config = await trio_ssh.SSHConfig.from_text(line)
    with pytest.raises(ValueError, match="would lead elsewhere in the path of"):
        await config.lookup(name)


async def test_no_user_s_name_leads_elsewhere_in_a_path() -> None:
    config = await trio_ssh.SSHConfig.from_text("IdentityFile ~/keys/%r")
    with pytest.raises(ValueError, match=r"the name '\.\./x' would lead elsewhere"):
        await config.lookup("host", user="../x")


async def test_a_user_that_looks_like_an_option_is_none() -> None:
    config = await trio_ssh.SSHConfig.from_text("ProxyCommand echo %r\n")
    with pytest.raises(ValueError, match="the user name '-x'"):
        await config.lookup("host", user="-x")


async def test_names_that_a_shell_takes_as_they_are_do_no_harm() -> None:
    config = await trio_ssh.SSHConfig.from_text("ProxyCommand nc %h %p %r %n %%\n")
    options = await config.lookup("2001:db8::1", user="joe.doe+x@realm")
    assert options.proxy_command == "nc 2001:db8::1 22 joe.doe+x@realm 2001:db8::1 %"


async def test_a_jump_host_s_name_reaches_no_shell(network: Network) -> None:
    config = await trio_ssh.SSHConfig.from_text("ProxyJump bastion\n")
    options = await config.lookup("$(touch x)".replace(" ", "_"))
    assert options.proxy_jump == (JumpHost("bastion"),)


# -- TCP


@contextlib.asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[trio.SocketListener]:
    [listener] = await trio.open_tcp_listeners(0, host=host)
    async with listener:
        yield listener


def options(**values: object) -> SSHOptions:
    return SSHOptions(original_hostname="x", hostname="x", **values)  # type: ignore[arg-type]


async def test_the_address_to_come_from_can_be_chosen() -> None:
    async with listening() as listener:
        port = listener.socket.getsockname()[1]
        wanted = options(bind_address="127.0.0.7")
        async with await proxy.open_direct("127.0.0.1", port, wanted), await listener.accept() as accepted:
            assert accepted.socket.getpeername()[0] == "127.0.0.7"


async def test_a_family_can_be_chosen() -> None:
    async with listening() as listener:
        port = listener.socket.getsockname()[1]
        async with await proxy.open_direct("localhost", port, options(address_family="inet")) as stream:
            assert stream.socket.family == socket.AF_INET
        with pytest.raises(OSError, match=r"."):
            await proxy.open_direct("127.0.0.1", port, options(address_family="inet6"))


@pytest.mark.parametrize(("said", "expected"), [(None, 1), (True, 1), (False, 0)])
async def test_the_kernel_asks_for_signs_of_life_unless_told_not_to(said: bool | None, expected: int) -> None:
    async with listening() as listener:
        port = listener.socket.getsockname()[1]
        async with await proxy.open_direct("127.0.0.1", port, options(tcp_keep_alive=said)) as stream:
            assert bool(stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(expected)


async def test_it_is_tried_as_often_as_wanted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    async def refuse(*arguments: object) -> trio.SocketStream:
        tried.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("no")

    monkeypatch.setattr(proxy, "_connect", refuse)
    with pytest.raises(ConnectionRefusedError):
        await proxy.open_direct("127.0.0.1", 1, options(connection_attempts=3))
    assert len(tried) == 3


async def test_who_does_not_answer_is_given_up(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*arguments: object) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(proxy, "_connect", hang)
    with pytest.raises(TimeoutError, match="x:1 did not answer within 5 seconds: ConnectTimeout"):
        await proxy.open_direct("x", 1, options(connect_timeout=5))


async def test_who_answers_and_says_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    config = await trio_ssh.SSHConfig.from_text("ConnectTimeout 5\nIdentityFile none\nIdentityAgent none\n")
    options = await config.lookup("x")
    assert options.connect_timeout == 5
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(TimeoutError, match="x:22 did not exchange keys within 5 seconds"):
        async with trio_ssh.connect(
            "x", sock=ours, config=config, known_hosts=trio_ssh.HostKeys(), look_for_keys=False, allow_agent=False
        ):
            raise AssertionError("connected")


# -- streams


async def test_a_command_s_stream_is_one_of_trio_s(relay: str) -> None:
    async with listening() as listener:
        port = listener.socket.getsockname()[1]
        stream = await proxy.open_proxy_command(f"{relay} 127.0.0.1 {port}")
        async with stream, await listener.accept() as peer:
            assert repr(stream).startswith("<ProxyCommandStream of '")
            with trio.testing.assert_checkpoints():
                await stream.wait_send_all_might_not_block()
            with trio.testing.assert_checkpoints():
                await stream.send_all(b"hello")
            assert await peer.receive_some() == b"hello"
            await peer.send_all(b"world")
            with trio.testing.assert_checkpoints():
                assert await stream.receive_some() == b"world"
            with trio.testing.assert_checkpoints():
                await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


async def test_every_step_is_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host a\n")
    with trio.testing.assert_checkpoints():
        config = await trio_ssh.SSHConfig.from_path(path)
    with trio.testing.assert_checkpoints():
        await trio_ssh.SSHConfig.from_text("")
    with path.open() as file, trio.testing.assert_checkpoints():
        await trio_ssh.SSHConfig.from_file(file)
    with trio.testing.assert_checkpoints():
        await config.lookup("a")
    with trio.testing.assert_checkpoints():
        await trio_ssh.SSHConfig().lookup("a")
    with trio.testing.assert_checkpoints():
        await proxy.JumpRoute([JumpHost("a")], "b", "b", 22, lambda jump, before: trio_ssh.connect("a")).aclose()


async def test_an_address_of_a_family_keeps_its_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneLink(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *arguments: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 22, 0, 3))]

        async def getnameinfo(self, *arguments: Any) -> Any:
            raise NotImplementedError

    reached: list[str] = []

    async def open_tcp_stream(host: str, port: int, *, local_address: str | None) -> None:
        await trio.lowlevel.checkpoint()
        reached.append(host)

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    trio.socket.set_custom_hostname_resolver(OneLink())
    await _connect("host", 22, socket.AF_INET6, None)
    assert reached == ["fe80::1%3"]
