"""One-shot replies, and misuse that is detected."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ssh.runtime.waiting import OneAtATime, Reply, after, resolved


async def test_a_reply_comes_before_or_after_its_waiter() -> None:
    early: Reply[int] = Reply()
    early.bring(1)
    with trio.testing.assert_checkpoints():
        assert await early.wait() == 1
    late: Reply[int] = Reply()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await late.wait() == 2

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not late.is_done
        late.bring(2)
        assert late.is_done


async def test_only_the_first_word_counts() -> None:
    reply: Reply[int] = Reply()
    reply.bring(1)
    reply.bring(2)
    reply.fail(ValueError)
    assert await reply.wait() == 1


async def test_a_failure_is_made_anew_for_each_waiter() -> None:
    reply: Reply[int] = Reply()
    caught: list[BaseException] = []

    async def wait() -> None:
        try:
            await reply.wait()
        except ValueError as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        reply.fail(lambda: ValueError("mine"))
    await wait()
    assert len({id(error) for error in caught}) == 3


async def test_a_waiter_that_was_cancelled_does_no_harm() -> None:
    reply: Reply[int] = Reply()
    with trio.move_on_after(0):
        await reply.wait()
    reply.bring(1)
    assert await reply.wait() == 1


def test_what_one_can_do_at_a_time_two_cannot() -> None:
    one = OneAtATime("busy with it")
    with one, pytest.raises(trio.BusyResourceError, match="busy with it"), one:
        raise AssertionError("entered twice")
    with one:
        pass
    with pytest.raises(ValueError, match="mine"), one:
        raise ValueError("mine")
    with one:
        pass


async def test_values_are_resolved_now_or_later() -> None:
    async def later() -> int:
        await trio.lowlevel.checkpoint()
        return 1

    assert await resolved(1) == 1
    assert await resolved(later()) == 1
    assert after(1, str) == "1"
    assert await resolved(after(later(), str)) == "1"
