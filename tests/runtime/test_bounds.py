"""What a peer can make the runtime hold or wait for, beyond what its core bounds."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, HandPeer, OpenDoor, client_of
from trio_ssh.core.phases import Phase
from trio_ssh.core.role import Role
from trio_ssh.testing import memory_pair, open_memory_client
from trio_ssh.wire.transport import ServiceRequest
from trio_ssh.wire.userauth import UserauthRequest


async def test_a_later_key_exchange_that_the_peer_leaves_lying_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(*memory_pair()) as (client, peer):
        began = trio.current_time()
        peer.side.connection.keying.start()
        await peer.send()
        with pytest.raises(trio_ssh.ConnectionLost, match="did not finish a key exchange within 120 seconds"):
            await client.run_process("x", capture_stdout=True, capture_stderr=True)
        assert trio.current_time() - began == pytest.approx(120)


async def test_handlers_of_closed_channels_do_not_pile_up(autojump_clock: trio.testing.MockClock) -> None:
    running = 0
    most = 0

    async def lingers(process: trio_ssh.ServerProcess) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            running -= 1
        return 0

    limits = trio_ssh.Limits(sessions=3)
    async with open_memory_client(OpenDoor(lingers), host_key=HOST_KEY, server_limits=limits) as client:
        refused = 0
        for _ in range(30):
            try:
                process = await client.open_process("x")
            except (trio_ssh.ChannelException, trio_ssh.RequestRefused):
                refused += 1
                await trio.sleep(0.1)
            else:
                await process.aclose()
        assert most == 3
        assert 0 < refused < 30


async def test_a_hundred_questions_in_one_read_are_answered_at_one_depth() -> None:
    depths: list[int] = []

    class Asked(trio_ssh.ServerInterface):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            depths.append(len(inspect.stack(0)))
            return trio_ssh.AUTH_FAILED

    ours, theirs = memory_pair()
    peer = HandPeer(Role.CLIENT, ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, Asked(), host_keys=[HOST_KEY]))
        await peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
        peer.side.connection.send(ServiceRequest("ssh-userauth"))
        for _ in range(100):
            peer.side.connection.send(UserauthRequest("user", "ssh-connection", "none", b""))
        await peer.send()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(depths) == 100
    assert len(set(depths)) == 1
