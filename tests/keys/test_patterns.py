from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies

from trio_ssh.keys.patterns import matches, matches_any

few = strategies.text("ab*?", max_size=12)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("?", "", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "example.com", False),
        ("192.168.?.?", "192.168.0.1", True),
        ("192.168.?.?", "192.168.10.1", False),
        ("*a*b", "xaxbxaxb", True),
        ("*a*b", "xaxbx", False),
        ("[*]:22", "[host]:22", True),
        ("[ab]", "a", False),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_is_read_as_openssh_reads_it(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@given(few, strategies.text("ab", max_size=12))
def test_a_pattern_means_the_same_as_a_regular_expression(pattern: str, text: str) -> None:
    expression = re.escape(pattern).replace(r"\*", "(?s:.*)").replace(r"\?", "(?s:.)")
    assert matches(pattern, text) is (re.fullmatch(expression, text) is not None)


def test_a_pattern_of_many_stars_comes_to_an_end() -> None:
    # Tried star by star, this would take longer than the sun shines.
    assert not matches("a*" * 300 + "b", "a" * 1000)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.example.com", "!bad.example.com"], False),
        (["!bad.example.com", "*.example.com"], False),
        (["!good.example.com", "*.example.com"], True),
        (["!good.example.com"], False),
        (["!*"], False),
        ([], False),
        (["x", "b*"], True),
    ],
)
def test_a_pattern_that_is_negated_outweighs_all_others(patterns: list[str], expected: bool) -> None:
    assert matches_any(patterns, "bad.example.com") is expected
