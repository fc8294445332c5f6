"""Ctrl-C strikes where a task waits, and not in the middle of a change.

Python raises `KeyboardInterrupt` between any two lines, and most of them are run while something is encrypted: the
cipher has counted on then, and the packet is lost.  Under trio's protection it waits for the main task's next
checkpoint.  What is protected calls nothing of the user's, who might never come back.
"""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

import trio

C = TypeVar("C", bound=type)


def uninterrupted(cls: C) -> C:
    """Protect all methods of a class; it costs them nothing."""
    for member in vars(cls).values():
        if isinstance(member, FunctionType):
            trio.lowlevel.enable_ki_protection(member)
    return cls
