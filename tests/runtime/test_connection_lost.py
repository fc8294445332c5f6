"""The connection is lost: at every stage, in every way.  Whoever waits hears it, and hears why."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Literal

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import (
    HOST_KEY,
    KIB,
    KNOWN_HOST,
    MIB,
    Accepting,
    HandPeer,
    OpenDoor,
    client_of,
    echo,
    listening,
    sleep,
)
from trio_ssh.core.questions import CheckPassword
from trio_ssh.core.role import Role
from trio_ssh.testing import CutStream, FlippedStream, FragmentedStream, StalledStream, memory_pair, open_memory_client

How = Literal["eof", "break"]
Ending = Callable[[HandPeer], Awaitable[None]]


async def connect(stream: trio.abc.Stream) -> None:
    async with trio_ssh.SSHClient() as client:
        await client.connect(
            "memory", username="user", password="secret", known_hosts=KNOWN_HOST, look_for_keys=False, sock=stream
        )


# -- while connecting


STAGES = ("nothing", "version", "key exchange", "authentication")


async def reach(peer: HandPeer, stage: str) -> None:
    """Go on up to a stage, and stop there."""
    if stage == "version":
        # The version line alone: what is behind it stays unsent.
        await peer.stream.send_all(peer.side.data_to_send().partition(b"\n")[0] + b"\n")
    elif stage == "key exchange":
        await peer.send()
        await peer.receive()
    elif stage == "authentication":
        del peer.side.answers[CheckPassword]
        await peer.until(lambda side: side.question)


async def hang_up(peer: HandPeer) -> None:
    await peer.stream.aclose()


async def disconnect(peer: HandPeer) -> None:
    peer.side.connection.disconnect(trio_ssh.DisconnectReason.TOO_MANY_CONNECTIONS, "come back\x1b[2J later")
    await peer.send()
    await peer.stream.aclose()


@pytest.mark.parametrize("stage", STAGES)
async def test_a_server_that_hangs_up_while_we_connect_is_lost(stage: str) -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.SERVER, theirs)

    async def play() -> None:
        await reach(peer, stage)
        await hang_up(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        with pytest.raises(trio_ssh.ConnectionLost) as raised:
            await connect(ours)
        if stage == "nothing":
            assert "is an SSH server listening there" in str(raised.value)
        else:
            assert "closed the connection without a word" in str(raised.value)


@pytest.mark.parametrize("stage", ["key exchange", "authentication"])
async def test_a_server_s_goodbye_while_we_connect_is_told(stage: str) -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.SERVER, theirs)

    async def play() -> None:
        await reach(peer, stage)
        await disconnect(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        with pytest.raises(
            trio_ssh.PeerDisconnected, match=r"too many connections\): come back\\x1b\[2J later"
        ) as raised:
            await connect(ours)
        assert raised.value.reason == trio_ssh.DisconnectReason.TOO_MANY_CONNECTIONS


@pytest.mark.parametrize("stage", STAGES)
async def test_a_server_that_falls_silent_while_we_connect_is_given_up(
    stage: str, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.SERVER, theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reach, peer, stage)
        with pytest.raises(trio_ssh.ConnectionLost, match="did not finish the login within 120 seconds"):
            await connect(ours)
    assert trio.current_time() == pytest.approx(120, abs=2)


async def test_a_server_that_is_slow_at_first_has_no_more_time_afterwards(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.SERVER, theirs)

    async def play() -> None:
        await trio.sleep(100)
        await reach(peer, "authentication")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        with pytest.raises(trio_ssh.ConnectionLost, match="did not finish the login within 120 seconds"):
            await connect(ours)
    assert peer.side.question
    assert trio.current_time() == pytest.approx(120, abs=2)


@pytest.mark.parametrize("how", ["eof", "break"])
async def test_the_connection_may_be_cut_at_any_byte_while_we_connect(how: How) -> None:
    """Whichever byte is the last, the user gets an exception of ours, and the server ends too."""
    async with trio.open_nursery() as nursery:
        for received in range(0, 10_000, 61):
            ours, theirs = memory_pair()
            nursery.start_soon(lambda stream=theirs: trio_ssh.serve_stream(stream, OpenDoor(), host_keys=[HOST_KEY]))
            cut = CutStream(ours, received=received, how=how)
            try:
                with trio.fail_after(10):
                    await connect(cut)
            except trio_ssh.ConnectionLost as error:
                assert isinstance(error, trio.BrokenResourceError)  # noqa: PT017 -- the last round raises nothing
            else:
                break
        assert received > 1000


@pytest.mark.parametrize("direction", ["sent", "received"])
async def test_a_flipped_bit_anywhere_in_the_handshake_lets_nobody_in(direction: str) -> None:
    """What is altered is found by the exchange hash or by a MAC, and never taken for anything else than a fault."""
    logins: list[str] = []
    unnoticed: list[int] = []

    class Counting(OpenDoor):
        async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            logins.append(f"{username}:{password}")
            return trio_ssh.AUTH_SUCCESSFUL

    async with trio.open_nursery() as nursery:
        for offset in range(0, 3000, 29):
            ours, theirs = memory_pair()
            nursery.start_soon(lambda stream=theirs: trio_ssh.serve_stream(stream, Counting(), host_keys=[HOST_KEY]))
            flipping = FlippedStream(ours, **{direction: offset}, mask=0x04)  # type: ignore[arg-type]
            ending = await outcome_of(lambda stream=flipping: connect(stream))
            if ending is None:
                # The padding of the first packets, which nothing protects or reads; or the goodbye behind the login.
                unnoticed.append(offset)
            else:
                assert isinstance(ending, trio_ssh.SSHException), (offset, ending)
                assert not isinstance(ending, trio_ssh.InternalError), (offset, ending)
            if getattr(flipping, f"{direction}_bytes") <= offset and ending is None:
                break
    assert len(unnoticed) < 12
    assert set(logins) <= {"user:secret"}


async def outcome_of(function: Callable[[], Awaitable[object]]) -> Exception | None:
    """Return what a function raises; a length field that grew makes it wait, which is an outcome too."""
    try:
        with trio.move_on_after(0.05) as scope:
            await function()
    except Exception as error:
        return error
    return trio_ssh.ConnectionLost("it waits for more") if scope.cancelled_caught else None


async def test_a_handshake_byte_by_byte_is_a_handshake() -> None:
    ours, theirs = memory_pair()
    streams = FragmentedStream(ours), FragmentedStream(theirs)
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY, streams=streams) as client:
        done = await client.run_process("echo", stdin=b"hello", capture_stdout=True)
        assert done.stdout == b"hello"


# -- while it is open


class Waiters:
    """Everything that a client can wait for, all at once."""

    def __init__(self, client: trio_ssh.SSHClient) -> None:
        self._client = client
        self.endings: dict[str, BaseException] = {}

    async def start(self, nursery: trio.Nursery) -> None:
        client = self._client
        transport = client.get_transport()
        assert transport is not None
        one = await client.open_session()
        await one.exec_command("sleep")
        other = await client.open_session()
        await other.exec_command("sleep")
        await other.send_eof()
        _, stdout, _ = await client.exec_command("sleep")
        waiting: dict[str, Callable[[], Awaitable[object]]] = {
            "receive_some": one.receive_some,
            "stderr.receive_some": one.stderr.receive_some,
            "send_all": lambda: one.send_all(bytes(8 * MIB)),
            "recv_exit_status": one.recv_exit_status,
            "read": other.read,
            "readlines": stdout.readlines,
            "run_process": lambda: client.run_process("sleep", stdin=bytes(8 * MIB), capture_stdout=True),
            "accept": transport.accept,
        }
        for name, function in waiting.items():
            nursery.start_soon(self._wait, name, function)
        await trio.testing.wait_all_tasks_blocked()
        assert not self.endings
        self.names = set(waiting)

    async def start_requests(self, nursery: trio.Nursery) -> None:
        """Those whose answers the server owes us: start them when it has stopped answering."""
        client = self._client
        transport = client.get_transport()
        assert transport is not None
        requests: dict[str, Callable[[], Awaitable[object]]] = {
            "open_session": client.open_session,
            "exec_command": lambda: client.exec_command("x"),
            "ping": transport.ping,
            "global_request": lambda: transport.global_request("x"),
            "renegotiate_keys": transport.renegotiate_keys,
        }
        for name, function in requests.items():
            nursery.start_soon(self._wait, name, function)
        await trio.testing.wait_all_tasks_blocked()
        self.names |= set(requests)

    async def _wait(self, name: str, function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except Exception as error:
            self.endings[name] = error


@pytest.mark.parametrize("how", ["eof", "break", "silence", "disconnect", "nonsense"])
async def test_everyone_who_waits_hears_that_the_connection_is_lost_and_why(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    server = OpenDoor(sleep)
    ours, theirs = memory_pair()
    stalled = StalledStream(ours)
    cut = CutStream(stalled, how="eof" if how == "eof" else "break")
    async with open_memory_client(server, host_key=HOST_KEY, streams=(cut, theirs)) as client:
        waiters = Waiters(client)
        async with trio.open_nursery() as nursery:
            await waiters.start(nursery)
            stalled.stop_sending()
            await waiters.start_requests(nursery)
            expected: tuple[type[Exception], str]
            if how in ("eof", "break"):
                await cut.cut()
                expected = trio_ssh.ConnectionLost, "without a word" if how == "eof" else "cut on purpose"
            elif how == "silence":
                transport = client.get_transport()
                assert transport is not None
                transport.set_keepalive(15)
                expected = trio_ssh.ConnectionLost, "silent for 60 seconds"
            elif how == "disconnect":
                await server.transport.aclose()
                expected = trio_ssh.PeerDisconnected, "closed by the application"
            else:
                await theirs.send_all(b"\xff" * 64)
                expected = trio_ssh.RemoteProtocolError, ""
        assert set(waiters.endings) == waiters.names
        for name, ending in waiters.endings.items():
            assert isinstance(ending, trio_ssh.ConnectionLost), name
            assert isinstance(ending, trio.BrokenResourceError), name
            assert isinstance(ending.__cause__, expected[0]), (name, ending.__cause__)
            assert expected[1] in str(ending), (name, str(ending))
        assert len({id(ending) for ending in waiters.endings.values()}) == len(waiters.endings), "each has its own"
        transport = client.get_transport()
        assert transport is not None
        assert isinstance(transport.get_exception(), expected[0])
        assert not transport.is_active()
        for function in (client.open_session, transport.ping, transport.accept, lambda: client.run_process("x")):
            with pytest.raises(trio_ssh.ConnectionLost):
                await function()


async def test_those_who_wait_when_we_close_ourselves_are_told_so() -> None:
    async with open_memory_client(OpenDoor(sleep), host_key=HOST_KEY) as client:
        waiters = Waiters(client)
        async with trio.open_nursery() as nursery:
            await waiters.start(nursery)
            await client.aclose()
        for name, ending in waiters.endings.items():
            assert isinstance(ending, trio.ClosedResourceError), (name, ending)


async def test_the_connection_may_be_lost_during_a_key_exchange() -> None:
    ours, theirs = memory_pair()
    async with client_of(theirs, ours) as (client, peer):
        transport = client.get_transport()
        assert transport is not None

        async def change_keys() -> None:
            with pytest.raises(trio_ssh.ConnectionLost):
                await transport.renegotiate_keys()

        async def send() -> None:
            with pytest.raises(trio_ssh.ConnectionLost):
                await channel.send_all(bytes(8 * MIB))

        async with trio.open_nursery() as nursery:
            opening = await start_in(nursery, client.open_session)
            await peer.accept()
            channel = await opening()
            nursery.start_soon(change_keys)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            await peer.stream.aclose()


async def start_in(
    nursery: trio.Nursery, function: Callable[[], Awaitable[trio_ssh.Channel]]
) -> Callable[[], Awaitable[trio_ssh.Channel]]:
    """Start a function, and return what waits for its result."""
    sender, receiver = trio.open_memory_channel[trio_ssh.Channel](1)

    async def run() -> None:
        await sender.send(await function())

    nursery.start_soon(run)
    await trio.lowlevel.checkpoint()
    return receiver.receive


async def test_what_arrived_before_the_end_can_still_be_read() -> None:
    ours, theirs = memory_pair()
    cut = CutStream(ours)
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY, streams=(cut, theirs)) as client:
        channel = await client.open_session()
        await (await server.transport.accept()).send_all(b"last words")
        await trio.testing.wait_all_tasks_blocked()
        await cut.cut()
        transport = client.get_transport()
        assert transport is not None
        await transport.wait_closed()
        assert await channel.receive_some() == b"last words"
        with pytest.raises(trio_ssh.ConnectionLost):
            await channel.receive_some()


async def test_a_channel_that_was_complete_before_the_end_stays_complete() -> None:
    ours, theirs = memory_pair()
    cut = CutStream(ours)
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY, streams=(cut, theirs)) as client:
        process = await client.open_process("echo")
        await process.stdin.send_all(b"hello")
        await process.stdin.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await cut.cut()
        await trio.testing.wait_all_tasks_blocked()
        assert await process.stdout.read() == b"hello"
        assert await process.wait() == 0


# -- on the server


async def test_a_server_goes_on_serving_others_when_one_client_is_lost() -> None:
    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_listeners(lambda: OpenDoor(echo), [listener], host_keys=[HOST_KEY]))
        async with trio_ssh.SSHClient() as survivor:
            await survivor.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=await connect_to()
            )
            for end in (b"\xff" * 64, b"", b"GET / HTTP/1.0\r\n\r\n"):
                stream = await connect_to()
                await stream.send_all(end)
                await stream.aclose()
            for received in (100, 1500, 2000):
                with pytest.raises(trio_ssh.ConnectionLost):
                    await connect(CutStream(await connect_to(), received=received))
            done = await survivor.run_process("echo", stdin=b"still here", capture_stdout=True)
            assert done.stdout == b"still here"
        nursery.cancel_scope.cancel()


async def test_a_handler_whose_client_is_lost_is_cancelled_and_blamed_for_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endings: list[str] = []

    async def write_on(process: trio_ssh.ServerProcess) -> int:
        try:
            while True:
                await process.stdout.send_all(bytes(MIB))
        except BaseException as error:
            endings.append(type(error).__name__)
            raise

    for _ in range(10):  # in whichever order the tasks wake up
        ours, theirs = memory_pair()
        cut = CutStream(ours)
        server = OpenDoor(write_on)
        async with open_memory_client(server, host_key=HOST_KEY, streams=(cut, theirs)) as client:
            await client.open_process("x")
            await trio.testing.wait_all_tasks_blocked()
            await cut.cut()
            await trio.testing.wait_all_tasks_blocked()
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert endings == ["Cancelled"] * 10


async def test_a_lost_connection_is_collected() -> None:
    """Nothing global holds on to it."""
    transports: list[trio_ssh.Transport | None] = []
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        await client.run_process("echo", stdin=bytes(10 * KIB), capture_stdout=True)
        transports.append(client.get_transport())
    reference = weakref.ref(transports.pop())  # type: ignore[arg-type]
    await trio.lowlevel.checkpoint()
    gc.collect()
    assert reference() is None
