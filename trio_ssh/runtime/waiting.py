"""One-shot replies, and misuse detected instead of locked away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeAlias, TypeVar, cast

import trio

T = TypeVar("T")
R = TypeVar("R")
MaybeAwaitable: TypeAlias = T | Awaitable[T]


class Reply(Generic[T]):
    """A value that another task will bring, once, mostly for one task that waits.

    A waiter that is cancelled leaves the reply behind; bringing it later does no harm.
    """

    __slots__ = ("_error", "_lot", "_value", "is_done", "wake_follower")

    def __init__(self) -> None:
        #: See `lead.Awaited`.
        self.wake_follower: Callable[[], None] | None = None
        self._lot: trio.lowlevel.ParkingLot | None = None
        self._value: T | None = None
        self._error: Callable[[], Exception] | None = None
        self.is_done: bool = False

    def bring(self, value: T) -> None:
        """Wake the waiter with a value.  Only the first call counts."""
        if not self.is_done:
            self._value = value
            self._wake()

    def peek(self) -> T | None:
        """Return the value if it is there, without waiting."""
        return self._value

    def fail(self, error: Callable[[], Exception]) -> None:
        """Wake the waiter with an exception, made freshly because several tasks may raise theirs."""
        if not self.is_done:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        self.is_done = True
        if self.wake_follower is not None:
            self.wake_follower()
        if self._lot is not None:
            self._lot.unpark_all()

    async def sleep(self) -> None:
        """Wait until `is_done`."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    async def wait(self) -> T:
        """Return the value.  A checkpoint, always."""
        if self.is_done:
            await trio.lowlevel.checkpoint()
        else:
            await self.sleep()
        return self.result()

    def result(self) -> T:
        """Return the value, or raise what came instead; only once it `is_done`."""
        if self._error is not None:
            raise self._error()
        return self._value  # type: ignore[return-value]  # a brought value is a T


class OneSleeper:
    """Where one task sleeps until plain code wakes it, such as what runs in the reader's step."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    @property
    def is_asleep(self) -> bool:
        """Whether a task sleeps here."""
        return self._task is not None

    def wake(self) -> None:
        """Wake it, if there is one."""
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def sleep(self, leave: Callable[[], None] | None = None) -> None:
        """Sleep until `wake` is called.

        Args:
            leave: called where the task is cancelled instead.
        """
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            if leave is not None:
                leave()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class OneAtATime:
    """Raises `trio.BusyResourceError` where a second task does what only one can do at a time."""

    __slots__ = ("_is_held", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_held = False

    def check(self) -> None:
        """Raise where another task does it now.

        Raises:
            trio.BusyResourceError: it does.
        """
        if self._is_held:
            raise trio.BusyResourceError(self._text)

    def __enter__(self) -> None:
        if self._is_held:
            self.check()
        self._is_held = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_held = False


async def resolved(value: MaybeAwaitable[T]) -> T:
    """Await what is awaitable: users' checks and callbacks may be sync or async."""
    if isinstance(value, Awaitable):
        return await cast("Awaitable[T]", value)
    return value


def after(value: MaybeAwaitable[T], then: Callable[[T], R]) -> MaybeAwaitable[R]:
    """Apply `then` to a value: at once if it is there, else in an awaitable."""
    if not isinstance(value, Awaitable):
        return then(value)
    awaitable = cast("Awaitable[T]", value)

    async def wait() -> R:
        return then(await awaitable)

    return wait()
