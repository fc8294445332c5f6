"""What leaves an ``async with`` block of ours: the user's exception, as it was raised, and never a group."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, OpenDoor, serving, sleep
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.testing import FaultyStream, memory_pair, open_memory_client


async def raise_inside(error: BaseException, scope: trio.CancelScope | None = None) -> None:
    """Raise in the body of a block, with a cancellation on its way if there is a scope."""
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY):
        if scope is not None:
            scope.cancel()
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), trio.TooSlowError(), GeneratorExit()]
)
async def test_a_user_s_exception_leaves_bare(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        await raise_inside(error)
    assert raised.value is error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), trio.TooSlowError()], ids=repr)
@pytest.mark.parametrize("block", ["connect", "SSHClient", "Transport"])
async def test_it_leaves_each_block_of_ours_bare(block: str, error: BaseException) -> None:
    async def main(stream: trio.abc.Stream) -> None:
        if block == "connect":
            async with trio_ssh.connect("memory", 22, "user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=stream):
                raise error
        elif block == "SSHClient":
            async with trio_ssh.SSHClient() as client:
                await client.connect("memory", 22, "user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=stream)
                raise error
        else:
            async with trio_ssh.Transport(stream) as transport:
                await transport.start_client(check_host_key=lambda key: None)
                await transport.auth_none("user")
                raise error

    async with serving() as stream:
        with pytest.raises(type(error)) as raised:
            await main(stream)
        assert stream.is_closed
    assert raised.value is error


async def test_a_user_s_own_group_leaves_as_it_is() -> None:
    group = ExceptionGroup("mine", [ValueError(), KeyError()])
    with pytest.raises(Exception, match="mine") as raised:
        await raise_inside(group)
    assert raised.value is group


async def test_a_user_s_exception_is_worth_more_than_a_cancellation_beside_it() -> None:
    with pytest.raises(ValueError, match="mine"), trio.CancelScope() as scope:
        await raise_inside(ValueError("mine"), scope)


async def test_a_cancellation_leaves_as_one() -> None:
    with trio.CancelScope() as scope:
        async with open_memory_client(OpenDoor(), host_key=HOST_KEY):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_too_slow_is_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    async def main() -> None:
        async with open_memory_client(OpenDoor(sleep), host_key=HOST_KEY) as client:
            with trio.fail_after(60):
                await client.run_process("sleep", capture_stdout=True)

    with pytest.raises(trio.TooSlowError):
        await main()


async def test_a_block_inside_a_block_passes_the_exception_on() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with open_memory_client(OpenDoor(), host_key=HOST_KEY):
            await raise_inside(ValueError("mine"))


def test_an_interrupt_in_one_of_our_tasks_leaves_bare() -> None:
    """Control-C strikes whichever task is running, and during a transfer that is mostly one of ours."""

    class Interrupted(FaultyStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            if is_up.is_set():
                await trio.lowlevel.checkpoint()
                raise KeyboardInterrupt
            return await super().receive_some(max_bytes)

    is_up = trio.Event()

    async def main() -> None:
        ours, theirs = memory_pair()
        async with open_memory_client(OpenDoor(), host_key=HOST_KEY, streams=(Interrupted(ours), theirs)) as client:
            is_up.set()
            await client.run_process("anything", capture_stdout=True)
            await trio.sleep_forever()

    # Not in the test's own event loop: a cancellation that got loose would end the test there, and pass for success.
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


def test_an_interrupt_is_worth_more_than_the_cancellation_that_it_causes() -> None:
    async def interrupt() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    async def main() -> None:
        transport = trio_ssh.Transport(memory_pair()[0])
        async with transport:
            assert transport._nursery is not None
            transport._nursery.start_soon(interrupt)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_a_block_is_entered_once_at_a_time() -> None:
    client = trio_ssh.SSHClient()
    async with client:
        with pytest.raises(trio_ssh.LocalProtocolError, match="entered before"):
            await client.__aenter__()
    async with client:
        pass


async def test_a_bare_nursery_raises_what_its_task_raised() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("mine") from KeyError("its cause")

    async def main() -> None:
        async with bare_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(ValueError, match="mine") as raised:
        await main()
    assert isinstance(raised.value.__cause__, KeyError)


async def test_a_bare_nursery_prefers_an_error_to_the_cancellations_beside_it() -> None:
    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while leaving")

    async def main(scope: trio.CancelScope) -> None:
        async with bare_nursery() as nursery:
            for function in (trio.sleep_forever, fail_late, trio.sleep_forever):
                nursery.start_soon(function)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

    with pytest.raises(ValueError, match="while leaving"), trio.CancelScope() as scope:
        await main(scope)
