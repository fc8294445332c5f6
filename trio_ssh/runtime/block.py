"""A nursery behind an object's ``async with`` block, which no exception group leaves.

The tasks in it don't raise.  The body's own exception, a cancellation from outside or an interrupt leave the block as
they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, cast

import trio

from trio_ssh.errors import LocalProtocolError

#: What a user's code may raise that isn't merely to be raised again; see `sort_out`.
RAISED: Final = (Exception, SystemExit, BaseExceptionGroup)

#: The least bad thing that can leave a task.
_CANCELLED: Final = 0


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
            found.append(worst_of(group))
        finally:
            self._manager = self.nursery = None
        worst = max(found, key=badness, default=None)
        if worst is not None and worst is not error:
            raise worst


def bare_nursery(*, keeps_groups: bool = False) -> AbstractAsyncContextManager[trio.Nursery]:
    """Open a nursery that no exception group leaves: of several exceptions the worst, as it is.

    Args:
        keeps_groups: a user's code runs in it, whose own groups leave it whole.
    """
    return _BareNursery(keeps_groups)


class _BareNursery(AbstractAsyncContextManager[trio.Nursery]):
    """See `bare_nursery`.  No generator: Ctrl-C in one would leave trio's nursery half open."""

    __slots__ = ("_keeps_groups", "_manager")

    def __init__(self, keeps_groups: bool) -> None:
        self._keeps_groups = keeps_groups

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> trio.Nursery:
        self._manager = trio.open_nursery()
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            return bool(await self._manager.__aexit__(kind, error, traceback))  # noqa: ASYNC102 -- as a nursery's own
        except BaseExceptionGroup as group:
            worst = max(group.exceptions, key=badness) if self._keeps_groups else worst_of(group)
            if badness(worst) == _CANCELLED:
                worst = next(leaves(worst))
        if worst is error:
            return False
        raise worst  # outside of the handler, so that it keeps its own cause and context


def worst_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception of a group that tells most: an interrupt, else an error, else a cancellation."""
    return max(leaves(group), key=badness)


def sort_out(error: BaseException) -> tuple[Exception | None, SystemExit | None, BaseException | None]:
    """Tell apart what has come out of a user's code, which may be a group, as of a nursery of its own.

    Returns:
        (failure, exit, rest): what went wrong; a call of ``sys.exit``, as argparse makes them, which ends no more than
        what has called it; and what is to be raised again, such as a cancellation or Ctrl-C.
    """
    if isinstance(error, Exception):
        return error, None, None
    if isinstance(error, SystemExit):
        return None, error, None
    if not isinstance(error, BaseExceptionGroup):
        return None, None, error
    group = cast("BaseExceptionGroup[BaseException]", error)
    failure, others = group.split(Exception)
    exits, rest = (None, None) if others is None else others.split(SystemExit)
    return failure, None if exits is None else cast("SystemExit", next(leaves(exits))), rest


def is_failure(error: BaseException) -> bool:
    """Tell whether a user's code has merely failed, or called ``sys.exit``: nothing of it is to be raised again."""
    return sort_out(error)[2] is None


def badness(error: BaseException) -> int:
    """Rank an exception: an interrupt is worse than an error, which is worse than a cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return badness(worst_of(cast("BaseExceptionGroup[BaseException]", error)))
    return _CANCELLED if isinstance(error, trio.Cancelled) else 1 if isinstance(error, Exception) else 2


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Iterate over what is in a group, however deep, and is no group itself; another exception is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
        yield from leaves(inner)
