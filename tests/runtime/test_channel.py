"""A channel, as its users on both sides see it."""

from __future__ import annotations

import array
import signal
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, MIB, Accepting, OpenDoor, channel_pairs, echo, sleep
from trio_ssh.core.channel import Batch
from trio_ssh.testing import open_memory_client

# -- streams


async def test_two_readers_and_two_writers_are_told_apart_from_one() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        calls: list[tuple[Callable[[], Awaitable[object]], str]] = [
            (ours.receive_some, "another task is reading this channel"),
            (ours.stderr.receive_some, "another task is reading this channel's stderr"),
            (lambda: ours.send_all(bytes(8 * MIB)), "another task is sending on this channel"),
        ]
        for call, text in calls:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError, match=text):
                    await call()
                nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: theirs.send_stderr(bytes(8 * MIB)))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="sending on this channel's stderr"):
                await theirs.send_stderr(b"x")
            with pytest.raises(trio.BusyResourceError):
                await theirs.send_eof()
            nursery.cancel_scope.cancel()


async def test_who_taps_a_channel_is_handed_all_that_was_not_received() -> None:
    class Tap:
        taken = b""

        def on_data(self, batch: Batch) -> None:
            self.taken += batch.take(batch.size)

        def on_end(self) -> None: ...

        def on_room(self) -> None: ...

    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        await theirs.send_all(b"abcdef")
        assert await ours.receive_some(3) == b"abc"
        await theirs.send_all(b"GHI")
        await trio.testing.wait_all_tasks_blocked()
        tap = Tap()
        ours.attach(tap)
        assert tap.taken == b"defGHI"


async def test_stdout_and_stderr_have_a_writer_each() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, b"o" * (5 * MIB))
            nursery.start_soon(theirs.send_stderr, b"e" * (5 * MIB))
            received = {"o": 0, "e": 0}

            async def drain(name: str, stream: trio.abc.ReceiveStream) -> None:
                while received[name] < 5 * MIB:
                    data = await stream.receive_some()
                    assert set(data) == {ord(name)}
                    received[name] += len(data)

            nursery.start_soon(drain, "o", ours)
            nursery.start_soon(drain, "e", ours.stderr)
        assert received == {"o": 5 * MIB, "e": 5 * MIB}


@pytest.mark.parametrize("data", [b"", b"bytes", bytearray(b"array"), memoryview(b"view")[1:3]])
async def test_all_sorts_of_bytes_can_be_sent(data: bytes) -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        await ours.send_all(data)
        await ours.send_eof()
        assert await theirs.read() == bytes(data)


async def test_the_sender_s_buffer_is_its_own_again_on_return() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        buffer = bytearray(b"before")
        await ours.send_all(buffer)
        buffer[:] = b"after!"
        await ours.send_eof()
        assert await theirs.read() == b"before"


async def test_wide_items_are_sent_byte_by_byte() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        items = array.array("I", [1, 2, 3])
        await ours.send_all(memoryview(items))
        await ours.send_eof()
        assert await theirs.read() == items.tobytes()


async def test_eof_ends_one_direction() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        await ours.send_eof()
        await ours.send_eof()
        assert ours.eof_sent
        assert await theirs.receive_some() == b""
        assert theirs.eof_received
        with pytest.raises(trio.ClosedResourceError, match="EOF was sent"):
            await ours.send_all(b"x")
        await theirs.send_all(b"still")
        assert await ours.receive_some() == b"still"


async def test_reading_so_many_bytes_waits_for_them_or_for_the_end() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        async with trio.open_nursery() as nursery:

            async def trickle() -> None:
                for byte in b"abcdefg":
                    await theirs.send_all(bytes((byte,)))
                    await trio.testing.wait_all_tasks_blocked()
                await theirs.send_eof()

            nursery.start_soon(trickle)
            assert await ours.read(3) == b"abc"
            assert await ours.read(10) == b"defg"
            assert await ours.read(10) == b""


async def test_stderr_can_be_combined_with_stdout_in_the_order_of_arrival() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        assert ours.set_combine_stderr(True) is False
        assert ours.set_combine_stderr(True) is True
        for _ in range(3):
            await theirs.send_all(b"o")
            await theirs.send_stderr(b"e")
        await theirs.send_eof()
        assert await ours.read() == b"oeoeoe"
        assert await ours.stderr.receive_some() == b""


async def test_combined_and_absorbed_streams_give_the_whole_window_back() -> None:
    limits = trio_ssh.Limits(initial_window_bytes=64 * KIB, largest_window_bytes=64 * KIB)
    async with channel_pairs(limits=limits) as pairs:
        ours, theirs = await pairs.make()
        ours.set_combine_stderr(True)
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                for _ in range(40):
                    await theirs.send_all(bytes(10 * KIB))
                    await theirs.send_stderr(bytes(10 * KIB))
                await theirs.send_eof()

            nursery.start_soon(pour)
            assert len(await ours.read()) == 800 * KIB


async def test_a_channel_iterates_over_chunks() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        await theirs.send_all(b"one\ntwo")
        await theirs.send_eof()
        assert b"".join([chunk async for chunk in ours]) == b"one\ntwo"


async def test_a_channel_that_was_closed_is_closed_to_every_call() -> None:
    async with channel_pairs() as pairs:
        ours, _ = await pairs.make()
        await ours.aclose()
        await ours.aclose()
        assert ours.closed
        calls: list[Callable[[], Awaitable[object]]] = [
            ours.receive_some,
            ours.stderr.receive_some,
            lambda: ours.send_all(b"x"),
            ours.send_eof,
            ours.wait_send_all_might_not_block,
            lambda: ours.exec_command("x"),
            ours.recv_exit_status,
        ]
        for call in calls:
            with pytest.raises(trio.ClosedResourceError):
                await call()
        with pytest.raises(trio.ClosedResourceError):
            ours.send_signal("TERM")
        with pytest.raises(trio.ClosedResourceError):
            ours.resize_pty()


async def test_a_channel_that_the_peer_closed_is_broken_to_whoever_sends() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        await theirs.send_all(b"last words")
        await theirs.aclose()
        assert await ours.read() == b"last words"
        await trio.testing.wait_all_tasks_blocked()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: ours.send_all(b"x"),
            ours.wait_send_all_might_not_block,
            lambda: ours.exec_command("x"),
        ]
        for call in calls:
            with pytest.raises(trio.BrokenResourceError):
                await call()
        assert await ours.recv_exit_status() == -1
        assert await ours.recv_exit_report() == trio_ssh.ExitReport()
        await ours.send_eof()


async def test_closing_wakes_whoever_waits_in_any_call() -> None:
    async with channel_pairs() as pairs:
        ours, _ = await pairs.make()

        async def expect_closed(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await call()

        async with trio.open_nursery() as nursery:
            for call in (
                ours.receive_some,
                ours.stderr.receive_some,
                lambda: ours.send_all(bytes(8 * MIB)),
                ours.recv_exit_status,
            ):
                nursery.start_soon(expect_closed, call)
            await trio.testing.wait_all_tasks_blocked()
            await ours.aclose()


async def test_closing_wakes_whoever_waits_for_an_answer() -> None:
    class Slow(OpenDoor):
        async def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            await trio.sleep_forever()
            return True

    async with open_memory_client(Slow(), host_key=HOST_KEY) as client, trio.open_nursery() as nursery:
        channel = await client.open_session()

        async def ask() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await channel.set_environment_variable("A", "B")

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await channel.aclose()


# -- files


async def test_files_read_and_write_as_paramiko_s_do() -> None:
    async with open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as client:
        stdin, stdout, stderr = await client.exec_command("cat")
        assert stdin.channel is stdout.channel
        await stdin.write("first\n")
        await stdin.writelines(["second\n", b"third\n"])
        await stdin.flush()
        assert await stdout.readline() == "first\n"
        assert await stdout.read(3) == b"sec"
        await stdin.aclose()
        assert [line async for line in stdout] == ["ond\n", "third\n"]
        assert await stderr.readlines() == []
        assert repr(stdout) == f"<ChannelFile of {stdout.channel!r}>"
        with pytest.raises(OSError, match="for writing"):
            await stdin.read()
        with pytest.raises(OSError, match="for reading"):
            await stdout.write("x")


async def test_a_binary_file_gives_lines_of_bytes() -> None:
    async with open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as client:
        channel = (await client.exec_command("cat"))[0].channel
        file = channel.makefile("rwb")
        await file.write(b"\xff\n")
        await file.aclose()
        assert await file.readlines() == [b"\xff\n"]


async def test_a_mode_that_there_is_not_is_told() -> None:
    async with open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        for mode in ("", "b", "a", "x", "rt"):
            with pytest.raises(ValueError, match=f"a channel's file has no mode {mode!r}: there are "):
                channel.makefile(mode)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="what ends a line is left as it is"):
            channel.makefile("rU")  # type: ignore[call-overload]
        with pytest.raises(ValueError, match='has no mode \'w\': there are "r" or "rb"'):
            channel.makefile_stderr("w")  # type: ignore[call-overload]


async def test_a_process_s_lines_may_stay_as_they_came() -> None:
    async with (
        open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as client,
        await client.open_process("cat") as process,
    ):
        await process.stdin.send_all(b"\xff\r\nrest")
        await process.stdin.aclose()
        assert await process.stdout.read_line_bytes() == b"\xff\r\n"
        assert await process.stdout.read_line() == "rest"
        assert await process.stdout.read_line_bytes() == b""


# -- requests


async def test_a_channel_runs_one_command_only() -> None:
    async with open_memory_client(OpenDoor(sleep), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.exec_command("x")
        for again in (lambda: channel.exec_command("y"), channel.invoke_shell, lambda: channel.invoke_subsystem("z")):
            with pytest.raises(trio_ssh.RequestRefused):
                await again()
        with pytest.raises(trio_ssh.RequestRefused, match=r"'pty-req'.*grants no terminal"):
            await channel.get_pty()


async def test_replies_come_in_the_order_of_the_requests() -> None:
    granted = {"A": True, "B": False, "C": True, "D": False}

    class Choosy(OpenDoor):
        async def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            await trio.sleep(float(value))
            return granted[name]

    answers: dict[str, bool] = {}
    async with open_memory_client(Choosy(), host_key=HOST_KEY) as client:
        channel = await client.open_session()

        async def ask(name: str, delay: str) -> None:
            try:
                await channel.set_environment_variable(name, delay)
                answers[name] = True
            except trio_ssh.RequestRefused:
                answers[name] = False

        async with trio.open_nursery() as nursery:
            for name, delay in zip(granted, ("0.01", "0", "0.005", "0"), strict=True):
                nursery.start_soon(ask, name, delay)
    assert answers == granted


async def test_an_unknown_kind_of_channel_is_refused_with_its_reason() -> None:
    class Refusing(OpenDoor):
        def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
            return trio_ssh.OPEN_FAILED_RESOURCE_SHORTAGE

    async with open_memory_client(Refusing(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.ChannelException, match="resource shortage") as raised:
            await client.open_session()
        assert raised.value.code == trio_ssh.OpenFailureReason.RESOURCE_SHORTAGE
        with pytest.raises(trio_ssh.ChannelException, match="resource shortage"):
            await client.get_transport().open_channel("odd")  # type: ignore[union-attr]
        assert repr(client).endswith(", 0 channels>")


async def test_a_client_refuses_what_a_server_wants_of_it() -> None:
    server = OpenDoor()
    async with open_memory_client(server, host_key=HOST_KEY):
        for kind in ("session", "x11", "auth-agent@openssh.com", "odd"):
            with pytest.raises(trio_ssh.ChannelException, match="administratively prohibited"):
                await server.transport.open_channel(kind)
        with pytest.raises(trio_ssh.ChannelException):
            await server.transport.open_channel("forwarded-tcpip", ("host", 1), ("host", 2))
        with pytest.raises(trio_ssh.RequestRefused):
            await server.transport.global_request("tcpip-forward", b"")


async def test_a_server_cannot_run_commands_on_a_client() -> None:
    server = OpenDoor(sleep)
    channels: list[trio_ssh.Channel] = []

    async def handle(process: trio_ssh.ServerProcess) -> int:
        channels.append(process.channel)
        for call in (
            lambda: process.channel.exec_command("x"),
            process.channel.invoke_shell,
            lambda: process.channel.invoke_subsystem("sftp"),
            process.channel.get_pty,
            lambda: process.channel.set_environment_variable("A", "B"),
        ):
            with pytest.raises(trio_ssh.RequestRefused):
                await call()
        return 7

    server = OpenDoor(handle)
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        done = await client.run_process("x", check=False, capture_stdout=True)
        assert done.returncode == 7


async def test_a_tcp_channel_needs_to_know_where_it_goes() -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        with pytest.raises(ValueError, match=r"needs dest_addr=\(host, port\)"):
            await client.get_transport().open_channel("direct-tcpip")  # type: ignore[union-attr]


async def test_a_connection_has_so_many_channels_and_no_more() -> None:
    limits = trio_ssh.Limits(channels=3)
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY, client_limits=limits) as client:
        channels = [await client.open_session() for _ in range(3)]
        with pytest.raises(trio_ssh.LocalProtocolError, match="has 3 channels, the limit is 3"):
            await client.open_session()
        await channels[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        await client.open_session()


# -- how a command ended


async def test_the_first_report_counts() -> None:
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        ours = await client.open_session()
        theirs = await server.transport.accept()
        assert not ours.exit_status_ready()
        theirs.send_exit_status(3)
        theirs.send_exit_signal("SIGKILL", core_dumped=True, message="late")
        theirs.send_exit_status(0)
        await theirs.aclose()
        assert await ours.recv_exit_status() == 3
        assert ours.exit_status_ready()
        assert await ours.recv_exit_report() == trio_ssh.ExitReport(status=3)


async def test_a_malformed_exit_status_is_no_success_and_ends_the_connection() -> None:
    server = Accepting()
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        ours = await client.open_session()
        theirs = await server.transport.accept()
        server.transport._engine.core.mux.request(theirs.core, "exit-status", b"\0\0", wants_reply=False)
        server.transport._engine.flush()
        with pytest.raises(trio_ssh.ConnectionLost) as raised:
            await ours.recv_exit_status()
        assert isinstance(raised.value.__cause__, trio_ssh.RemoteProtocolError)


async def test_a_status_is_kept_when_the_channel_is_closed() -> None:
    async with open_memory_client(OpenDoor(echo), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.exec_command("x")
        await channel.send_eof()
        assert await channel.recv_exit_status() == 0
        await channel.aclose()
        assert await channel.recv_exit_status() == 0


# -- about it


async def test_a_channel_tells_about_itself() -> None:
    async with channel_pairs() as pairs:
        ours, theirs = await pairs.make()
        transport = pairs.client.get_transport()
        assert ours.get_transport() is transport
        assert transport is not None
        assert ours.getpeername() == transport.getpeername() is None
        assert ours.kind == theirs.kind == "session"
        assert ours.get_name() == ""
        ours.set_name("mine")
        assert ours.get_name() == "mine"
        assert repr(ours) == f"<Channel {ours.get_id()} 'mine' (session), open>"
        await ours.aclose()
        assert repr(ours) == f"<Channel {ours.get_id()} 'mine' (session), closed>"


async def test_a_kind_that_the_peer_chose_is_shown_escaped() -> None:
    shown: list[str] = []

    async def show(channel: trio_ssh.Channel) -> None:
        await trio.lowlevel.checkpoint()
        shown.append(repr(channel))

    async with open_memory_client(OpenDoor(handle_channel=show), host_key=HOST_KEY) as client:
        await client.get_transport().open_channel("\x1b[31m@example.com")  # type: ignore[union-attr]
    assert shown == [r"<Channel 0 (\x1b[31m@example.com), open>"]


@pytest.mark.parametrize("sig", ["HUP", "SIGHUP", signal.SIGHUP])
async def test_signals_are_sent_by_their_bare_names(sig: str | signal.Signals) -> None:
    names: list[str] = []

    async def note(process: trio_ssh.ServerProcess) -> int:
        names.append(await process.signals.receive())
        return 0

    async with open_memory_client(OpenDoor(note), host_key=HOST_KEY) as client:
        process = await client.open_process("x")
        process.send_signal(sig)
        assert await process.wait() == 0
    assert names == ["HUP"]
