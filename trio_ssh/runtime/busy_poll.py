"""Busy polling: to look at a socket again and again for a moment, before the system is asked to wait for it.

Whoever waits sleeps.  To be woken takes 25 us in a virtual machine; and what the processor's caches held is gone then,
so that each line of Python costs three times as much.  Where each side waits for the other's next word, that is most of
the time.  Measured, where both sides poll: a byte there and back takes a third of the time, and no more CPU.

It doesn't pay everywhere: not where the network takes the time, or a disk of the peer's, or where all processors are
busy.  So nobody guesses: it is tried now and then, and goes on only where words come faster by it.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

#: Words by which one way is judged, and judgements after which both are tried again.
_WORDS: Final = 32
_JUDGEMENTS: Final = 64

#: What of the time may be left for it to be worth a busy processor.
_WORTH: Final = 0.85

#: Seconds from one word to the next beyond which neither way makes a difference.
_SLOW_SECONDS: Final = 0.001

#: What a poll in which nothing came costs, counted in those in which something did; and at what loss it is over.
_VAIN_COST: Final = 8
_MOST_LOSS: Final = 32


class BusyPoll:
    """Finds out whether polling pays, for one connection.

    Args:
        seconds: how long one poll takes at the most; 0 for never.

    Attributes:
        seconds: that, or a millisecond if it is more: what comes later is none of an exchange of words.
        is_on: whether to poll before the next sleep.
    """

    __slots__ = ("_at", "_bytes", "_judgements", "_loss", "_slept", "_took", "_words", "is_on", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds: float = min(seconds, _SLOW_SECONDS)
        self.is_on: bool = False
        #: When the last word was read.
        self._at = 0.0
        #: What is measured at present: words, their bytes, and what they took.
        self._words = 0
        self._bytes = 0
        self._took = 0.0
        #: Seconds for each byte, slept.
        self._slept = 0.0
        self._judgements = 0
        self._loss = 0

    def note_word(self, size: int) -> None:
        """A word was read, of so many bytes."""
        now = perf_counter()
        took, self._at = now - self._at, now
        if took < _SLOW_SECONDS:
            self._took += took
            self._bytes += size
            self._words += 1
            if self._words == _WORDS:
                self._judge()

    def note_poll(self, *, in_vain: bool) -> None:
        """A poll is over, in which something has come, or nothing."""
        self._loss = max(0, self._loss + (_VAIN_COST if in_vain else -1))
        if self._loss >= _MOST_LOSS:
            self._stop()

    def _judge(self) -> None:
        # By the byte: where several talk at once, who polls reads sooner, and less.
        pace = self._took / self._bytes
        self._measure()
        self._judgements += 1
        if self._judgements == 1:
            self._slept = pace
            self.is_on = self.seconds > 0
        elif self._judgements == _JUDGEMENTS:
            self._judgements = 0
            self.is_on = False
        elif self.is_on and self._judgements == 2 and pace > _WORTH * self._slept:
            self._stop()

    def _measure(self) -> None:
        self._words = self._bytes = 0
        self._took = 0.0

    def _stop(self) -> None:
        """Sleep, and try again when it is time."""
        self.is_on = False
        self._loss = 0
        self._judgements = 2
        self._measure()
