"""A nursery behind an object's ``async with`` block, which no exception group leaves.

The tasks in it don't raise.  The body's own exception, a cancellation from outside or an interrupt leave the block as
they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import trio

from trio_ssh.errors import LocalProtocolError


class Block:
    """Opens and closes the nursery of an object that is an async context manager."""

    __slots__ = ("_manager", "nursery")

    def __init__(self) -> None:
        self._manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        #: Where the object's tasks live; None outside the block.
        self.nursery: trio.Nursery | None = None

    async def open(self) -> trio.Nursery:
        """Enter: call it in ``__aenter__``."""
        if self._manager is not None:
            raise LocalProtocolError("this block was entered before: each `async with` needs an object of its own")
        self._manager = trio.open_nursery()
        self.nursery = await self._manager.__aenter__()
        return self.nursery

    async def close(self, error: BaseException | None, aclose: Callable[[], Awaitable[None]] | None = None) -> None:
        """Close the object, cancel the tasks and wait for their end: all that ``__aexit__`` does.

        Args:
            error: what leaves the body; it does so by itself, unless `aclose` or a task raised something worse.
            aclose: closes the object.
        """
        manager, nursery = self._manager, self.nursery
        assert manager is not None, "the block was entered"
        assert nursery is not None, "an entered block has its nursery"
        raised = [] if error is None else [error]
        try:
            if aclose is not None:
                await aclose()
        except BaseException as closing:  # noqa: ASYNC103 -- leaves below
            raised.append(closing)
        leaving = max(raised, key=badness, default=None)
        # A cancellation may be what an interrupt in one of the tasks has caused, and only the nursery knows.  Anything
        # else is not shown to it, because it would come back wrapped in a group.
        shown = leaving if isinstance(leaving, trio.Cancelled) else None
        found = [] if leaving is None or leaving is shown else [leaving]
        try:
            nursery.cancel_scope.cancel()
            await manager.__aexit__(type(shown) if shown else None, shown, None)
        except BaseExceptionGroup as group:
            found.extend(leaves(group))
        finally:
            self._manager = self.nursery = None
        worst = max(found, key=badness, default=None)
        if worst is not None and worst is not error:
            raise worst


@asynccontextmanager
async def bare_nursery() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery that no exception group leaves: of several exceptions the worst, as it is."""
    worst: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        worst = worst_of(group)
    if worst is not None:
        raise worst  # outside of the handler, so that it keeps its own cause and context


def worst_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception of a group that tells most: an interrupt, else an error, else a cancellation."""
    return max(leaves(group), key=badness)


def badness(error: BaseException) -> int:
    """Rank an exception: an interrupt is worse than an error, which is worse than a cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return badness(worst_of(cast("BaseExceptionGroup[BaseException]", error)))
    return 0 if isinstance(error, trio.Cancelled) else 1 if isinstance(error, Exception) else 2


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Iterate over what is in a group, however deep, and is no group itself; another exception is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
        yield from leaves(inner)
