"""The connection itself: how it is started, asked, and misused."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, USER_KEY, Accepting, OpenDoor, echo, sleep
from trio_ssh.testing import FaultyStream, memory_pair, open_memory_client


def trust(key: trio_ssh.PublicKey) -> None:
    """Trust whatever key comes."""


async def serve(stream: trio.abc.Stream, server: trio_ssh.ServerInterface | None = None) -> None:
    await trio_ssh.serve_stream(stream, server or OpenDoor(), host_keys=[HOST_KEY])


# -- misuse


async def test_a_transport_needs_its_block() -> None:
    transport = trio_ssh.Transport(memory_pair()[0])
    with pytest.raises(trio_ssh.LocalProtocolError, match="async with Transport"):
        await transport.start_client(check_host_key=trust)
    with pytest.raises(trio_ssh.LocalProtocolError, match="async with Transport"):
        transport.add_server_key(HOST_KEY)
        await transport.start_server(OpenDoor())
    await transport.aclose()


CALLS: list[Callable[[trio_ssh.Transport], Awaitable[object]]] = [
    lambda t: t.open_session(),
    lambda t: t.accept(),
    lambda t: t.ping(),
    lambda t: t.renegotiate_keys(),
    lambda t: t.global_request("x"),
    lambda t: t.global_request("x", wait=False),
    lambda t: t.send_ignore(),
    lambda t: t.request_port_forward("", 0),
    lambda t: t.cancel_port_forward("", 0),
    lambda t: t.auth_none("user"),
    lambda t: t.auth_password("user", "x"),
    lambda t: t.auth_publickey("user", USER_KEY),
    lambda t: t.auth_interactive("user", lambda *prompts: []),
    lambda t: t.wait_authenticated(),
    lambda t: t.wait_closed(),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
async def test_nothing_works_before_the_start_and_the_text_says_so(number: int) -> None:
    async with trio_ssh.Transport(memory_pair()[0]) as transport:
        with trio.fail_after(1), pytest.raises(trio_ssh.LocalProtocolError, match="call start_client or start_server"):
            await CALLS[number](transport)


async def test_what_can_be_told_before_the_start_is() -> None:
    async with trio_ssh.Transport(memory_pair()[0]) as transport:
        assert repr(transport) == "<Transport, not started>"
        assert not transport.is_active()
        assert not transport.is_authenticated()
        assert transport.get_username() is None
        assert transport.get_banner() is None
        assert transport.get_exception() is None
        assert transport.get_negotiated() is None
        assert transport.getpeername() is None
        assert transport.remote_version == ""
        with pytest.raises(trio_ssh.LocalProtocolError):
            transport.get_remote_server_key()


async def test_a_server_needs_a_host_key() -> None:
    async with trio_ssh.Transport(memory_pair()[0]) as transport:
        with pytest.raises(trio_ssh.LocalProtocolError, match="call add_server_key"):
            await transport.start_server(OpenDoor())


async def test_a_transport_is_started_once() -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=trust)
            with pytest.raises(trio_ssh.LocalProtocolError, match="started before"):
                await transport.start_client(check_host_key=trust)
            assert transport.is_active()


async def test_a_client_logs_in_before_it_opens_channels() -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=trust)
            for call in (transport.open_session, transport.ping, transport.renegotiate_keys):
                with pytest.raises(trio_ssh.LocalProtocolError, match="authenticate first"):
                    await call()
            await transport.auth_none("user")
            await transport.ping()
            with pytest.raises(trio_ssh.LocalProtocolError, match="can't authenticate"):
                await transport.auth_none("user")


async def test_two_authentications_at_once_are_refused() -> None:
    class Slow(OpenDoor):
        async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            await trio.sleep_forever()
            return trio_ssh.AUTH_FAILED

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, Slow())
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=trust)
            nursery.start_soon(transport.auth_password, "user", "x")  # noqa: ASYNC111 -- cancelled before it closes
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio_ssh.LocalProtocolError, match="another authentication method is under way"):
                await transport.auth_none("user")
            nursery.cancel_scope.cancel()


# -- what the caller's own code raises


class Mine(Exception):
    """An exception of the user's."""


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_host_key_check_raises_comes_out_and_is_not_taken_for_our_bug(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse_slowly(key: trio_ssh.PublicKey) -> None:
        await trio.lowlevel.checkpoint()
        raise Mine

    def refuse(key: trio_ssh.PublicKey) -> None:
        raise Mine

    ours, theirs = memory_pair()
    stream = FaultyStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        async with trio_ssh.Transport(stream) as transport:
            with pytest.raises(Mine):
                await transport.start_client(check_host_key=refuse_slowly if is_async else refuse)
            assert not transport.is_active()
            await trio.testing.wait_all_tasks_blocked()
            assert stream.is_closed
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("decision", [False, True, 0])
async def test_a_check_of_the_host_key_that_returns_what_it_found_has_refused(is_async: bool, decision: object) -> None:
    async def compare_slowly(key: trio_ssh.PublicKey) -> object:
        await trio.lowlevel.checkpoint()
        return decision

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, trio_ssh.ServerInterface(), host_keys=[HOST_KEY]))
        async with trio_ssh.Transport(ours) as transport:
            with pytest.raises(TypeError, match=f"returned {decision}: the key is refused"):
                await transport.start_client(
                    check_host_key=compare_slowly if is_async else lambda key: decision  # type: ignore[arg-type, return-value]
                )
            assert not transport.is_active()


async def test_what_a_prompt_handler_raises_comes_out() -> None:
    def fail(title: str, instructions: str, prompts: object) -> list[str]:
        raise Mine

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=trust)
            with pytest.raises(Mine):
                await transport.auth_interactive("user", fail)
            with pytest.raises((trio_ssh.ConnectionLost, trio.ClosedResourceError)):
                await transport.auth_none("user")


@pytest.mark.parametrize("answers", ["secret", [], ["a", "b"]], ids=["a str", "too few", "too many"])
async def test_prompts_want_a_list_with_an_answer_each(answers: object) -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=trust)
            with pytest.raises(trio_ssh.LocalProtocolError, match="1 prompts want as many answers"):
                await transport.auth_interactive("user", lambda *prompts: answers)  # type: ignore[arg-type, return-value]


async def test_a_password_is_not_sent_before_the_host_is_trusted() -> None:
    asked: list[str] = []

    class Asking(OpenDoor):
        async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            asked.append(password)
            return trio_ssh.AUTH_SUCCESSFUL

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, Asking())
        async with trio_ssh.Transport(ours) as transport:

            async def ponder(key: trio_ssh.PublicKey) -> None:
                with pytest.raises(trio_ssh.LocalProtocolError):
                    await transport.auth_password("user", "secret")
                await trio.testing.wait_all_tasks_blocked()

            await transport.start_client(check_host_key=ponder)
            assert asked == []


# -- about it


async def test_both_ends_tell_what_was_agreed() -> None:
    server = OpenDoor()
    async with open_memory_client(server, host_key=HOST_KEY, username="alice") as client:
        transport = client.get_transport()
        assert transport is not None
        for end in (transport, server.transport):
            assert end.is_active()
            assert end.is_authenticated()
            assert end.get_username() == "alice"
            assert end.remote_version == "SSH-2.0-trio_ssh"
            assert end.get_exception() is None
            assert end.limits == trio_ssh.Limits()
        assert transport.get_negotiated() == server.transport.get_negotiated()
        assert transport.get_remote_server_key() == HOST_KEY.public_key
        assert repr(transport) == "<Transport client, aes128-gcm@openssh.com, open, 0 channels>"
        assert repr(server.transport) == "<Transport server, aes128-gcm@openssh.com, open, 0 channels>"


async def test_a_banner_is_kept_escaped() -> None:
    class Welcoming(OpenDoor):
        def get_banner(self) -> str:
            return "Welcome!\n\x1b[31mred\tend\n"

    async with open_memory_client(Welcoming(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.get_banner() == "Welcome!\n\\x1b[31mred\tend\n"


async def test_ignored_messages_are_ignored() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        await transport.send_ignore()
        await transport.send_ignore(70_000)
        await transport.ping()


async def test_a_custom_version_is_announced() -> None:
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(ours, software="mine_1.0") as client, trio_ssh.Transport(theirs) as server:
        server.add_server_key(HOST_KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.start_server, OpenDoor())
            await client.start_client(check_host_key=trust)
        assert server.remote_version == "SSH-2.0-mine_1.0"


# -- global requests


class Global(OpenDoor):
    """Answers global requests in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, bytes]] = []

    def check_global_request(self, kind: str, msg: trio_ssh.Message) -> bool | bytes:
        self.asked.append((kind, msg.get_remainder()))
        return {"yes": True, "bytes": b"answer"}.get(kind, False)

    async def check_port_forward_request(self, address: str, port: int) -> int | bool:
        await trio.lowlevel.checkpoint()
        return False if address == "never" else port or 4022

    def cancel_port_forward_request(self, address: str, port: int) -> None:
        self.asked.append((address, b"%d" % port))


async def test_global_requests_are_answered() -> None:
    server = Global()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        assert await transport.global_request("yes", b"details") == b""
        assert await transport.global_request("bytes") == b"answer"
        with pytest.raises(trio_ssh.RequestRefused, match="'no'"):
            await transport.global_request("no")
        assert await transport.global_request("no", wait=False) is None
        assert await transport.request_port_forward("", 0) == 4022
        assert await transport.request_port_forward("", 8022) == 8022
        with pytest.raises(trio_ssh.RequestRefused, match="'tcpip-forward'"):
            await transport.request_port_forward("never", 0)
        await transport.cancel_port_forward("here", 8022)
    assert server.asked == [("yes", b"details"), ("bytes", b""), ("no", b""), ("no", b""), ("here", b"8022")]


async def test_global_requests_that_are_under_way_together_get_each_its_own_answer() -> None:
    class Slow(Global):
        async def check_global_request(self, kind: str, msg: trio_ssh.Message) -> bytes:  # type: ignore[override] # is async here
            await trio.sleep(0.01)
            return b"answer to " + kind.encode()

    answers: dict[str, bytes | None] = {}
    async with open_memory_client(Slow(), host_key=HOST_KEY) as client:
        transport = client.transport

        async def ask(kind: str) -> None:
            answers[kind] = await transport.global_request(kind)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, f"request {number}")
    assert answers == {f"request {number}": b"answer to request %d" % number for number in range(5)}


async def test_no_more_sessions_are_opened_when_the_client_has_said_so() -> None:
    async with open_memory_client(OpenDoor(sleep), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        transport = client.get_transport()
        assert transport is not None
        await transport.global_request("no-more-sessions@openssh.com")
        with pytest.raises(trio_ssh.ChannelException, match="prohibited"):
            await client.open_session()
        assert process.returncode is None


async def test_many_pings_at_once_are_all_answered() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(transport.ping)


# -- accepting


async def test_channels_that_nobody_accepts_are_refused_in_the_end() -> None:
    limits = trio_ssh.Limits(channels=5, sessions=100)
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY, server_limits=limits) as client:
        for _ in range(5):
            await client.open_session()
        with pytest.raises(trio_ssh.ChannelException, match="resource shortage"):
            await client.open_session()
        for _ in range(5):
            await (await server.transport.accept()).aclose()
        await trio.testing.wait_all_tasks_blocked()
        await client.open_session()


async def test_paramiko_s_way_of_serving_works() -> None:
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY) as client, trio.open_nursery() as nursery:

        async def serve_one() -> None:
            channel = await server.transport.accept()
            assert channel.kind == "session"
            await channel.send_all((await channel.read()).upper())
            channel.send_exit_status(5)
            await channel.aclose()

        nursery.start_soon(serve_one)
        done = await client.run_process("x", stdin=b"hello", check=False, capture_stdout=True)
        assert (done.stdout, done.returncode) == (b"HELLO", 5)


# -- misuse that must not cost the connection


async def test_a_message_that_no_peer_would_take_is_refused_and_harms_nothing() -> None:
    async with open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        other = await client.open_process("innocent")
        too_long = "x" * 300_000
        channel = await client.open_session()
        for call in (
            lambda: client.run_process(["rm", too_long]),
            lambda: client.exec_command(too_long),
            lambda: client.run_process("x", env={"A": too_long}),
            lambda: channel.exec_command(too_long),
            lambda: channel.invoke_subsystem(too_long),
            lambda: transport.send_ignore(300_000),
            lambda: transport.global_request("x", too_long.encode()),
            lambda: transport.global_request("x", too_long.encode(), wait=False),
            lambda: transport.open_channel("direct-tcpip", (too_long, 1)),
        ):
            with pytest.raises(trio_ssh.LocalProtocolError, match="261120 at the most"):
                await call()
        await transport.send_ignore(255_000)
        await transport.ping()
        await channel.exec_command("after all")
        await channel.aclose()
        await other.stdin.write("unharmed")
        await other.stdin.aclose()
        assert await other.stdout.read() == b"unharmed"
        assert await other.wait() == 0
        await trio.testing.wait_all_tasks_blocked()
        assert repr(client).endswith(", 0 channels>")


@pytest.mark.parametrize("port", [-1, 65536, 2**32])
async def test_a_number_that_is_no_port_is_told_before_anything_is_sent(port: int) -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        for call in (
            lambda: client.open_tcp_stream("host", port),
            lambda: transport.open_channel("forwarded-tcpip", ("host", 1), ("host", port)),
            lambda: transport.open_channel("x11", src_addr=("host", port)),
            lambda: transport.request_port_forward("", port),
            lambda: transport.cancel_port_forward("", port),
        ):
            with pytest.raises(ValueError, match=r"a port is 0 \.\. 65535"):
                await call()
        await transport.ping()


async def test_a_size_that_no_terminal_has_is_told_before_anything_is_sent() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        with pytest.raises(ValueError, match=r"WindowChange: width is 0 \.\. 4294967295, not -1"):
            channel.resize_pty(-1, 10)
        with pytest.raises(ValueError, match=r"PtyRequest: height_pixels is 0 \.\. 4294967295, not 4294967296"):
            await channel.get_pty(height_pixels=2**32)
        await channel.exec_command("x")


async def test_a_command_of_bytes_is_a_type_error_that_says_what_to_pass() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        for call in (
            lambda: client.run_process(b"ls"),  # type: ignore[arg-type]
            lambda: client.run_process([b"ls"]),  # type: ignore[list-item]
            lambda: client.open_process(b"ls"),  # type: ignore[arg-type]
            lambda: client.exec_command(b"ls"),  # type: ignore[arg-type]
            lambda: channel.exec_command(b"ls"),  # type: ignore[arg-type]
        ):
            with pytest.raises(TypeError, match="a command is a str"):
                await call()
        await channel.exec_command("ls")


@pytest.mark.parametrize(("banner", "text"), [(("Welcome!", "en-US"), "Welcome!"), ((None, None), None)])
async def test_a_banner_as_paramiko_s_servers_return_it_is_sent(
    banner: tuple[str | None, str | None], text: str | None
) -> None:
    class Welcoming(OpenDoor):
        def get_banner(self) -> tuple[str | None, str | None]:
            return banner

    async with open_memory_client(Welcoming(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.get_banner() == text
