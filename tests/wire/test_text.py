"""What a peer wrote does nothing to whoever reads it in a terminal, and is not long."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_ssh.wire.text import SHOWN_CHARACTERS, printable, printable_lines


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain text, 100 %", "plain text, 100 %"),
        ("grüße 漢字 😀", "grüße 漢字 😀"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("line\r\nline\tend", "line\\r\\nline\\tend"),
        ("\x9b31m", "\\x9b31m"),  # one byte that many terminals take for an escape
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),  # text that runs backwards
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\udc80\ud800", "\\udc80\\ud800"),  # what is left of bytes that were not UTF-8
        ("\U000e0041", "\\U000e0041"),
        (b"caf\xc3\xa9 \xff\x00", "café \\xff\\x00"),
        (b"", ""),
    ],
)
def test_what_is_unprintable_is_escaped(value: str | bytes, shown: str) -> None:
    assert printable(value) == shown


@given(st.text() | st.binary(), st.integers(1, 20))
def test_anything_is_printable_and_short(value: str | bytes, limit: int) -> None:
    shown = printable(value, limit)
    assert shown.isprintable()
    assert len(shown) <= limit + 1
    shown.encode("utf-8")


@example("😀" * 5, 4)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30), st.integers(1, 20))
def test_an_ellipsis_says_that_something_is_missing(value: str, limit: int) -> None:
    expected = value[:limit] + "…" if len(value) > limit else value
    assert printable(value, limit) == printable(value.encode(), limit) == expected


def test_a_megabyte_is_cut_before_it_is_looked_at() -> None:
    assert len(printable("\0" * 2**20)) == len(printable(b"\0" * 2**20)) == SHOWN_CHARACTERS + 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Welcome!\r\n\tto \x1b[1mhost\n", "Welcome!\n\tto \\x1b[1mhost\n"),
        (b"two\n\nlines\r", "two\n\nlines\\r"),
        ("", ""),
    ],
)
def test_lines_and_tabs_of_a_banner_stay(value: str | bytes, shown: str) -> None:
    assert printable_lines(value) == shown


@given(st.text() | st.binary(), st.integers(1, 50))
def test_any_banner_is_lines_of_printable_text(value: str | bytes, limit: int) -> None:
    shown = printable_lines(value, limit)
    assert len(shown) <= limit
    assert all(part.isprintable() for line in shown.split("\n") for part in line.split("\t"))
