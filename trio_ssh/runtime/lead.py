"""Who reads: the reader's task or, for a moment, whoever waits for what it would read.

A task that talks to the peer word by word waits for one answer after the other.  Where the reader's task reads each,
two tasks are woken for it: the reader by the socket, then the waiter by the reader, a turn of the scheduler later.  So
behind a short read the reader lends its place: it stays away from the socket for a few turns, and a task that comes
back meanwhile, to wait for the next answer, waits at the socket itself.  What it reads it hands to the core as the
reader would, in the reader's context, and then it gives the place back.  This is the pattern Leader/Followers, with one
follower.  Measured: it saves a ninth of an echo's round trip, and of a command's.

One of the two is always at the socket, or about to be: a follower gives the place back however it leaves, after one
read at the latest, and wakes the reader.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Final, Protocol

import trio

from trio_ssh.runtime.block import RAISED
from trio_ssh.runtime.descriptor import Descriptor
from trio_ssh.runtime.waiting import OneSleeper

#: Turns of the scheduler for which the reader stays away.  A task that was woken needs one to go on, another where it
#: sends what it says next, and may then be the last of its turn.
_TURNS: Final = 3


class Awaited(Protocol):
    """Something that one task waits for, and that a read may bring."""

    #: Where the task waits at the socket, what wakes it from there: for whoever brings the thing by other means.
    wake_follower: Callable[[], None] | None

    @property
    def is_done(self) -> bool:
        """Whether it is there, or nothing comes any more."""
        ...

    async def sleep(self) -> None:
        """Wait until that is so, for others to bring it."""
        ...


async def asleep(awaited: Awaited) -> None:
    """Wait for something that isn't there yet, where only the reader reads."""
    await awaited.sleep()


class Lead:
    """One connection's place at the socket.

    Args:
        descriptor: the socket's.
        take_in: deals with that.
        broke: deals with the end of a stream that broke.
        is_plain: tells whether nothing is left that only the reader can deal with.
    """

    __slots__ = (
        "_broke",
        "_context",
        "_descriptor",
        "_has_come",
        "_is_lent",
        "_is_offered",
        "_is_plain",
        "_reader",
        "_sleepers",
        "_take_in",
        "_trouble",
        "_turns",
    )

    def __init__(
        self,
        descriptor: Descriptor,
        take_in: Callable[[memoryview], None],
        broke: Callable[[Exception], None],
        is_plain: Callable[[], bool],
    ) -> None:
        self._descriptor = descriptor
        self._take_in = take_in
        self._broke = broke
        self._is_plain = is_plain
        self._reader = OneSleeper()
        self._context: contextvars.Context | None = None
        self._is_offered = False
        self._is_lent = False
        #: For how many turns it was on offer.
        self._turns = 0
        #: Tasks that wait, and not at the socket; and whether one has begun to since the place was lent.
        self._sleepers = 0
        self._has_come = False
        #: What a follower met and the reader has to raise.
        self._trouble: BaseException | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether to lend: one task waits, or did until this read, and has come since the last time.

        Where several wait, the next read may be anyone's.
        """
        return self._has_come and self._sleepers == 1

    async def lend(self) -> None:
        """The reader: stay away from the socket for a little, and then for as long as somebody else is there."""
        self._context = trio.lowlevel.current_task().context
        self._is_offered, self._turns, self._has_come = True, 0, False
        try:
            while self._is_lent or (self._is_offered and self._turns < _TURNS):
                if self._is_lent:
                    await self._reader.sleep()
                else:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    self._turns += 1
        finally:
            self._is_offered = False
            if self._trouble is not None:
                trouble, self._trouble = self._trouble, None
                raise trouble

    @trio.lowlevel.enable_ki_protection
    async def wait(self, awaited: Awaited) -> None:
        """Wait for something that isn't there yet: at the socket, if that is on offer, and else asleep."""
        if self._is_offered:
            await self._follow(awaited)
        if not awaited.is_done:
            self._sleepers += 1
            self._has_come = True
            try:
                await awaited.sleep()
            finally:
                self._sleepers -= 1

    async def _follow(self, awaited: Awaited) -> None:
        """Read once, in the reader's place."""
        self._is_offered, self._is_lent = False, True
        awaited.wake_follower = self._descriptor.wake
        data = None
        try:
            try:
                data = await self._descriptor.read(may_poll=True)
            finally:
                awaited.wake_follower = None
            if data is not None:
                self._in_readers_context(self._take_in, data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._in_readers_context(self._broke, error)
        finally:
            self._is_lent, self._turns = False, 0
            # Who leaves without having read may come back for nothing again and again, and then nobody would read.
            self._is_offered = data is not None and self._trouble is None and self._is_plain()
            self._reader.wake()

    def _in_readers_context(self, function: Callable[..., None], *args: object) -> None:
        """Call what a read causes: it starts tasks, which inherit a context, and the follower's is its user's own."""
        assert self._context is not None, "the reader has lent its place"
        try:
            self._context.run(function, *args)
        except (KeyboardInterrupt, *RAISED) as trouble:
            self._trouble = trouble
