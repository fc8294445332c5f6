"""OpenSSH's host patterns: ``*`` and ``?``, alternatives, and ``!`` for what shall not match after all.

Source: ssh_config(5), PATTERNS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Characters of the longest pattern that OpenSSH takes; a list with a longer one matches nothing there.
LONGEST: Final = 1023


def matches(pattern: str, text: str) -> bool:
    """Whether all of `text` is of the form `pattern`; ``*`` stands for any characters and ``?`` for one.

    Only the last ``*`` is ever tried again, since an earlier one can't help where a later one has failed.  So
    the cost is at most the product of both lengths.  Trying them all is exponential in the number of stars.
    """
    at_pattern = at_text = 0
    star, resume = -1, 0
    while at_text < len(text):
        expected = pattern[at_pattern] if at_pattern < len(pattern) else ""
        if expected == "*":
            star, resume = at_pattern, at_text
            at_pattern += 1
        elif expected == "?" or expected == text[at_text]:
            at_pattern += 1
            at_text += 1
        elif star >= 0:
            resume += 1
            at_pattern, at_text = star + 1, resume
        else:
            return False
    return pattern.count("*", at_pattern) == len(pattern) - at_pattern


def matches_any(patterns: Iterable[str], text: str) -> bool:
    """Whether `text` matches one of `patterns`, and none of those that begin with ``!``."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if matches(pattern[1:], text):
                return False
        elif not found:
            found = matches(pattern, text)
    return found
