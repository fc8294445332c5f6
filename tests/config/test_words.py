"""Lines and words, as OpenSSH divides them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.config.words import split_line, split_words


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("", None),
        ("  \t", None),
        ("# comment", None),
        ("   # comment", None),
        ("Host a b", ("Host", "a b")),
        ("  Host   a b  \r", ("Host", "a b")),
        ("Host=a", ("Host", "a")),
        ("Host = a", ("Host", "a")),
        ("Host\t=\ta", ("Host", "a")),
        ("Host == a", ("Host", "= a")),
        ('"Host" a', ("Host", "a")),
        ('"Host"=a', ("Host", "=a")),
        ("Host", ("Host", "")),
        ("Host=", ("Host", "")),
    ],
)
def test_a_line_is_a_keyword_and_the_rest(line: str, parts: tuple[str, str] | None) -> None:
    assert split_line(line) == parts


@pytest.mark.parametrize("line", ["= a", '"" a', '"Host a', "=", '"'])
def test_a_line_without_a_keyword_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        split_line(line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b\tc", ["a", "b", "c"]),
        ("  a  ", ["a"]),
        ("", []),
        ("# a", []),
        ("a # b", ["a"]),
        ("a#b #", ["a#b"]),
        ('"a b" c', ["a b", "c"]),
        ("'a b' c", ["a b", "c"]),
        ("a'b c'd", ["ab cd"]),
        ('"a\'b"', ["a'b"]),
        ("'a\"b'", ['a"b']),
        (r"\"a\"", ['"a"']),
        (r"\'a\'", ["'a'"]),
        (r"a\ b", ["a b"]),
        (r"'a\ b'", [r"a\ b"]),
        (r"a\\b", [r"a\b"]),
        (r"a\n", [r"a\n"]),
        (r'"a\"b"', ['a"b']),
        ("a\\", ["a\\"]),
        ('""', [""]),
        ("'' a", ["", "a"]),
        ('"#" a', ["#", "a"]),
    ],
)
def test_words_are_those_of_openssh(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("text", ['"a', "a'b", '"a\\"', "'\\'"])
def test_an_open_quote_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"a quote is not closed: add a [\"'] at its end"):
        split_words(text)


@given(st.lists(st.text(min_size=1).filter(lambda word: "\\" not in word)))
def test_what_is_quoted_comes_back_whole(words: list[str]) -> None:
    quoted = " ".join('"' + word.replace('"', '\\"') + '"' for word in words)
    assert split_words(quoted) == words


@given(st.text())
def test_any_text_is_words_or_an_error(text: str) -> None:
    try:
        split_words(text)
        split_line(text)
    except ValueError:
        pass
