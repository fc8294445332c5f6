"""The client's end on a channel: who waits, who is woken, what is left of those who went away."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KIB, cancel_everywhere
from tests.sftp.by_hand import door
from tests.sftp.scripted import ScriptedServer, pause, using
from trio_ssh.sftp.link import Link, Share, as_error
from trio_ssh.sftp.messages import Attrs, Handle, Open, Stat, Status
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, OpenFlags, SFTPLimits, StatusCode
from trio_ssh.testing import open_memory_client


async def test_requests_that_are_made_at_once_leave_in_one_piece() -> None:
    server = ScriptedServer({"f": b"x"})
    async with using(server) as sftp:
        before = server.reads
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(sftp.stat, "f")
        # One for whoever asked first, and the others together.
        assert server.reads - before <= 2
        assert len(server.asked(Stat)) == 100


async def test_an_answer_that_nobody_waits_for_any_more_is_closed() -> None:
    server = ScriptedServer({"f": b"x"})
    async with using(server) as sftp:

        async def scenario() -> None:
            await sftp._open_handle("f", OpenFlags.READ)
            server.handles.clear()

        async def check() -> None:
            await pause()
            assert not server.handles
            assert sftp._link.session.pending == 0

        assert await cancel_everywhere(scenario, check, at_steps_of_others=True) >= 3


async def test_a_session_that_is_over_says_so_to_everybody() -> None:
    async with using(ScriptedServer({"f": b"x"})) as sftp:
        link = sftp._link
        link.fail(trio_ssh.RemoteProtocolError("as told"))
        link.fail(trio_ssh.RemoteProtocolError("too late"))
        for _ in range(2):
            with pytest.raises(trio_ssh.RemoteProtocolError, match="as told"):
                await link.ask(Stat(b"f"), Attrs)
        link.close_later(b"1")
        await link.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await link.ask(Stat(b"f"), Attrs)


async def test_a_connection_that_is_lost_is_the_cause() -> None:
    async with open_memory_client(door(ScriptedServer()), host_key=HOST_KEY) as client:
        sftp = await client.open_sftp()
        await client.aclose()
        with pytest.raises((trio_ssh.ConnectionLost, trio.ClosedResourceError)):
            await sftp.stat("f")
        await sftp.aclose()


async def test_a_channel_that_ends_before_the_session_begins() -> None:
    async with open_memory_client(door(ScriptedServer()), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        await channel.invoke_subsystem("sftp")
        await channel.aclose()
        with pytest.raises(trio.ClosedResourceError, match="this channel was closed"):
            await Link(channel, DEFAULT_SFTP_LIMITS).begin()


async def test_a_share_has_two_ceilings() -> None:
    limits = SFTPLimits(file_bytes=100, session_bytes=150)
    async with using(ScriptedServer(), limits=limits) as sftp:
        first, second = Share(sftp._link), Share(sftp._link)
        assert first.take(1000)  # a first block in any case
        assert not first.take(1)
        first.give_back(1000)
        assert first.take(60)
        assert not first.take(41)
        assert first.take(40)
        assert second.take(60)
        assert not second.take(10)
        second.limit = 5
        second.give_back(60)
        assert second.take(7)
        assert not second.take(1)
        first.give_back(100)
        second.give_back(7)
        assert sftp._link.used_bytes == 0


def test_statuses_become_exceptions() -> None:
    kinds = {
        StatusCode.NO_SUCH_FILE: trio_ssh.SFTPNoSuchFile,
        StatusCode.PERMISSION_DENIED: trio_ssh.SFTPPermissionDenied,
        StatusCode.OP_UNSUPPORTED: trio_ssh.SFTPUnsupported,
        StatusCode.FAILURE: trio_ssh.SFTPError,
        4711: trio_ssh.SFTPError,
    }
    for code, kind in kinds.items():
        error = as_error(Status(code, "words", ""), "one", "two")
        assert type(error) is kind
        assert (error.code, error.text, error.filename, error.filename2) == (code, "words", "one", "two")
        assert "words" in str(error)
        assert "'one' -> 'two'" in str(error)


@pytest.mark.parametrize("size", [1, 100 * KIB])
async def test_handles_of_any_length_are_given_back_as_they_came(size: int) -> None:
    class Long(ScriptedServer):
        def _opened(self, path: bytes) -> Handle:
            handle = random.Random(size).randbytes(min(size, 256))
            self.handles[handle] = path
            return Handle(handle)

    server = Long({"f": bytes(300 * KIB)})
    async with using(server) as sftp, await sftp.open("f", "r+") as file:
        assert len(await file.read()) == 300 * KIB
        await file.write(bytes(300 * KIB))
    assert not server.handles
    assert len(server.asked(Open)) == 1


async def test_a_server_that_goes_on_logging_to_stderr_does_not_stop_itself() -> None:
    class Loud(ScriptedServer):
        async def handle(self, process: trio_ssh.ServerProcess) -> int:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.log, process)
                status = await super().handle(process)
                nursery.cancel_scope.cancel()
            return status

        async def log(self, process: trio_ssh.ServerProcess) -> None:
            while True:
                await process.stderr.write(b"debug\n" * 5000)

    with trio.fail_after(60):
        async with using(Loud({"f": bytes(KIB)})) as sftp:
            window = sftp.get_channel().core.inbound_window.left
            for _ in range(3 * window // 30_000):
                assert (await sftp.stat("f")).st_size == KIB
