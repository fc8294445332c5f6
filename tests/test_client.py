"""The client: how it connects, and what it says when it is misused."""

from __future__ import annotations

import inspect
import logging

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, OpenDoor, echo, serving
from trio_ssh.runtime.engine import CLOSE_SECONDS
from trio_ssh.testing import CutStream, FaultyStream, StalledStream, memory_pair, open_memory_client


async def test_connect_is_a_block() -> None:
    async with serving() as stream:
        async with trio_ssh.connect(
            "memory", username="alice", known_hosts=KNOWN_HOST, look_for_keys=False, sock=stream
        ) as client:
            assert isinstance(client, trio_ssh.SSHClient)
            done = await client.run_process("x", stdin=b"hello", capture_stdout=True)
            assert done.stdout == b"hello"
        assert stream.is_closed
        with pytest.raises(trio_ssh.LocalProtocolError, match="not connected"):
            await client.run_process("x")


async def test_awaiting_connect_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"write `async with trio_ssh\.connect\(\.\.\.\) as client:`"):
        await trio_ssh.connect("example.com")


async def test_with_instead_of_async_with_is_an_error_of_python_s() -> None:
    with pytest.raises((TypeError, AttributeError)), trio_ssh.connect("example.com"):  # type: ignore[attr-defined]
        raise AssertionError("entered")


async def test_a_misspelled_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="usrename"):
        trio_ssh.connect("example.com", usrename="alice")  # type: ignore[call-arg]


def test_connect_and_the_client_s_method_take_the_same_arguments() -> None:
    method = inspect.signature(trio_ssh.SSHClient.connect).parameters
    block = inspect.signature(trio_ssh.connect).parameters
    assert set(block) - {"policy"} == set(method) - {"self"}
    for name, parameter in method.items():
        if name != "self":
            assert block[name].default == parameter.default
            assert block[name].annotation == parameter.annotation
            assert block[name].kind == parameter.kind


async def test_a_client_connects_inside_its_block_only() -> None:
    client = trio_ssh.SSHClient()
    with pytest.raises(trio_ssh.LocalProtocolError, match="`async with client:`"):
        await client.connect("example.com")
    async with client:
        pass
    with pytest.raises(trio_ssh.LocalProtocolError, match="`async with client:`"):
        await client.connect("example.com")


async def test_a_client_connects_once_at_a_time_and_again_when_it_was_closed() -> None:
    async with trio_ssh.SSHClient() as client:
        for _ in range(2):
            async with serving() as stream:
                await client.connect(
                    "memory", username="user", known_hosts=KNOWN_HOST, sock=stream, look_for_keys=False
                )
                with pytest.raises(trio_ssh.LocalProtocolError, match=r"is connected: aclose\(\) first"):
                    await client.connect("memory")
                await client.aclose()
                assert stream.is_closed


async def test_two_tasks_do_not_connect_one_client() -> None:
    async with trio_ssh.SSHClient() as client, trio.open_nursery() as nursery:
        first, second = memory_pair()[0], memory_pair()[0]

        async def connect(sock: trio.abc.Stream) -> None:
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=sock, look_for_keys=False)

        nursery.start_soon(connect, first)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="another task is connecting"):
            await connect(second)
        with pytest.raises(trio.ClosedResourceError):
            await second.send_all(b"the stream is the client's from the call on")
        nursery.cancel_scope.cancel()


async def test_nothing_works_before_it_is_connected() -> None:
    async with trio_ssh.SSHClient() as client:
        assert client.get_transport() is None
        for call in (
            client.open_session,
            client.invoke_shell,
            lambda: client.exec_command("x"),
            lambda: client.run_process("x"),
            lambda: client.open_process("x"),
            lambda: client.open_tcp_stream("host", 1),
        ):
            with pytest.raises(trio_ssh.LocalProtocolError, match="this client is not connected"):
                await call()


@pytest.mark.parametrize(
    ("setting", "names", "text"),
    [
        ("ciphers", ["rot13"], r"unknown ciphers: rot13\. Known are: .*aes128-gcm@openssh\.com"),
        ("kex", ["diffie"], "unknown key exchange methods: diffie"),
        ("macs", [], "no MACs: at least one must stay enabled"),
        ("host_key_algorithms", ["ssh-xmss"], "unknown host key algorithms: ssh-xmss"),
        ("compressions", ["lzma"], "unknown compression methods: lzma"),
    ],
)
async def test_a_mistake_about_algorithms_is_found_before_anything_is_sent(
    setting: str, names: list[str], text: str
) -> None:
    ours, _ = memory_pair()
    stream = FaultyStream(ours)
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(ValueError, match=text):
            await client.connect("memory", sock=stream, known_hosts=[], **{setting: names})  # type: ignore[arg-type]
    assert stream.sent_bytes == 0
    assert stream.is_closed


async def test_what_is_no_name_is_a_type_error() -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(TypeError, match="ciphers are names: a sequence of str, or one str as in ssh_config"):
            await client.connect("memory", sock=memory_pair()[0], known_hosts=[], ciphers=[1])  # type: ignore[list-item]


@pytest.mark.parametrize("compress", [False, True])
async def test_compression_is_offered_first_where_it_is_asked_for(compress: bool) -> None:
    async with serving() as stream, trio_ssh.SSHClient() as client:
        await client.connect(
            "memory", username="user", known_hosts=KNOWN_HOST, sock=stream, look_for_keys=False, compress=compress
        )
        negotiated = client.get_transport().get_negotiated()  # type: ignore[union-attr]
        assert negotiated is not None
        assert negotiated.client_to_server.compression == ("zlib@openssh.com" if compress else "none")
        done = await client.run_process("x", stdin=b"hello" * 10_000, capture_stdout=True)
        assert done.stdout == b"hello" * 10_000


async def test_no_common_algorithm_names_both_lists_and_the_setting() -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery, trio_ssh.SSHClient() as client:
        nursery.start_soon(
            lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY], ciphers=["aes256-ctr"])
        )
        with pytest.raises(trio_ssh.IncompatiblePeer, match=r"aes256-ctr.*name it in `ciphers=`") as raised:
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, sock=ours, ciphers=["aes128-gcm@openssh.com"]
            )
        assert raised.value.ours == ("aes128-gcm@openssh.com",)
        assert raised.value.theirs == ("aes256-ctr",)


async def test_what_is_no_ssh_server_is_quoted_escaped() -> None:
    ours, theirs = memory_pair()
    await theirs.send_all(b"HTTP/1.1 400 \x1b[31mBad Request\r\n\r\n")
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.RemoteProtocolError, match=r"HTTP/1\.1 400 \\x1b\[31mBad") as raised:
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, look_for_keys=False)
    assert "\x1b" not in str(raised.value)


async def test_a_port_where_nobody_listens_is_an_os_error() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(OSError, match=str(port)):
            await client.connect("127.0.0.1", port, username="user", known_hosts=[], look_for_keys=False)


async def test_a_client_tells_about_itself() -> None:
    client = trio_ssh.SSHClient()
    assert repr(client) == "<SSHClient, not connected>"
    ours, theirs = memory_pair()
    cut = CutStream(ours)
    async with trio.open_nursery() as nursery, client:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(echo), host_keys=[HOST_KEY]))
        known = trio_ssh.HostKeys()
        known.add("[host]:2222", None, HOST_KEY.public_key)
        await client.connect("host", 2222, "al\x1bice", known_hosts=known, sock=cut, look_for_keys=False)
        assert repr(client) == r"<SSHClient al\x1bice@host:2222 aes128-gcm, 0 channels>"
        await client.open_session()
        assert repr(client).endswith(" 1 channels>")
        await cut.cut()
        await trio.testing.wait_all_tasks_blocked()
        assert repr(client) == r"<SSHClient al\x1bice@host:2222, not connected>"


async def test_a_log_channel_of_one_s_own_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as stream, trio_ssh.SSHClient() as client:
        client.set_log_channel("my.program")
        await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=stream, look_for_keys=False)
        await client.aclose()
    assert any(record.name.startswith("my.program") for record in caplog.records)


async def test_ssh_runs_through_a_channel_of_ssh() -> None:
    """Any trio stream carries SSH, and a channel is any trio stream."""

    async def relay(channel: trio_ssh.Channel) -> None:
        await trio_ssh.serve_stream(channel, OpenDoor(echo), host_keys=[HOST_KEY])

    async with open_memory_client(OpenDoor(echo, relay), host_key=HOST_KEY) as bastion:
        async with trio_ssh.connect(
            "memory",
            username="user",
            known_hosts=KNOWN_HOST,
            look_for_keys=False,
            sock=await bastion.open_tcp_stream("inner", 22),
        ) as inner:
            done = await inner.run_process("x", stdin=b"two layers" * 100_000, capture_stdout=True)
            assert done.stdout == b"two layers" * 100_000
        assert (await bastion.run_process("x", stdin=b"one layer", capture_stdout=True)).stdout == b"one layer"


# -- closed while it connects


@pytest.mark.parametrize("where", ["no version", "key exchange", "login"])
@pytest.mark.parametrize("by", ["leaving", "cancelling", "aclose"])
async def test_who_leaves_while_another_task_connects_is_not_held_up(
    where: str, by: str, autojump_clock: trio.testing.MockClock
) -> None:
    class Slow(OpenDoor):
        async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            await trio.sleep_forever()
            return trio_ssh.AUTH_FAILED

    ours, theirs = memory_pair()
    stream = StalledStream(ours, received=None if where == "login" else 100) if where != "no version" else ours
    watched = FaultyStream(stream)
    outcome: list[Exception] = []
    async with trio.open_nursery() as nursery:
        if where != "no version":
            nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, Slow(), host_keys=[HOST_KEY]))
        client = trio_ssh.SSHClient()

        async def connect() -> None:
            try:
                await client.connect(
                    "memory", username="u", known_hosts=KNOWN_HOST, look_for_keys=False, sock=watched, config=None
                )
            except Exception as error:
                outcome.append(error)

        with trio.CancelScope() as scope:
            async with client:
                nursery.start_soon(connect)
                await trio.sleep(1)
                if by == "aclose":
                    await client.aclose()
                    await trio.testing.wait_all_tasks_blocked()
                    assert outcome
                elif by == "cancelling":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert [type(error) for error in outcome] == [trio.ClosedResourceError]
        assert watched.is_closed
        nursery.cancel_scope.cancel()
    assert trio.current_time() < 1 + 2 * CLOSE_SECONDS


async def test_a_client_that_was_closed_while_it_connected_can_connect_again() -> None:
    async with trio_ssh.SSHClient() as client:
        silent, _ = memory_pair()
        async with trio.open_nursery() as nursery:

            async def connect() -> None:
                with pytest.raises(trio.ClosedResourceError, match="closed while it connected"):
                    await client.connect("memory", username="u", known_hosts=KNOWN_HOST, sock=silent, config=None)

            nursery.start_soon(connect)
            await trio.testing.wait_all_tasks_blocked()
            await client.aclose()
        async with serving() as stream:
            await client.connect("memory", username="u", known_hosts=KNOWN_HOST, sock=stream, look_for_keys=False)
            assert (await client.run_process("x", stdin=b"again", capture_stdout=True)).stdout == b"again"
