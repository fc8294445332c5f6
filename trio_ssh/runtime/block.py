"""A nursery behind an object's ``async with`` block, which no exception group leaves.

The tasks in it don't raise.  The body's own exception, a cancellation from outside or an interrupt leave the block as they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import trio


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
            raise RuntimeError("this block was entered before")
        self._manager = trio.open_nursery()
        self.nursery = await self._manager.__aenter__()
        return self.nursery

    async def close(self, error: BaseException | None) -> None:
        """Cancel the tasks and wait for their end: call it at the end of ``__aexit__``.

        Args:
            error: what leaves the block; it does so by itself, and is worth more than a cancellation beside it.
        """
        assert self._manager is not None and self.nursery is not None, "the block was entered"
        self.nursery.cancel_scope.cancel()
        try:
            # The body's exception isn't shown to the nursery, which would wrap it in a group.
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            if error is None:
                raise first_of(group) from None
        finally:
            self._manager = self.nursery = None


@asynccontextmanager
async def bare_nursery() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery that no exception group leaves: of several exceptions the first, as it is."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception in a group that is no group."""
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return first_of(cast("BaseExceptionGroup[BaseException]", first))
    return first
