"""Lines of a configuration file, and the words in them.

Source: ssh_config(5), DESCRIPTION; what it leaves open is decided as `ssh -G` decides it.
"""

from __future__ import annotations

import re
from typing import Final

#: A keyword, bare or in double quotes.  One `=` may stand between it and its value, but not behind a quoted one.
_KEYWORD: Final = re.compile(r'[ \t\r]*(?:"(?P<quoted>[^"]*)"[ \t\r]*|(?P<bare>[^ \t\r"=]+)[ \t\r]*(?:=[ \t\r]*)?)')
_BLANKS: Final = " \t"
_QUOTES: Final = "\"'"


def split_line(line: str) -> tuple[str, str] | None:
    """Return keyword and value of a line, or None if it is blank or a comment.

    Raises:
        ValueError: there is no keyword.
    """
    line = line.strip(" \t\r\f")
    if not line or line.startswith("#"):
        return None
    found = _KEYWORD.match(line)
    if found is None:
        raise ValueError("the line does not begin with a keyword")
    keyword: str = found["bare"] or found["quoted"] or ""
    if not keyword:
        raise ValueError("the line begins with an empty keyword")
    return keyword, line[found.end() :]


def split_words(text: str) -> list[str]:
    """Split a value into words: at blanks, up to a comment.

    Single and double quotes group.  A backslash takes the meaning from a quote, from a backslash and, outside of
    quotes, from a blank; anywhere else it is a character as any other.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[str] = []
    at, end = 0, len(text)
    while True:
        while at < end and text[at] in _BLANKS:
            at += 1
        if at == end or text[at] == "#":
            return words
        word: list[str] = []
        quote = ""
        while at < end:
            character = text[at]
            following = text[at + 1 : at + 2]
            if character == "\\" and following and (following in "\"'\\" or (following == " " and not quote)):
                word.append(following)
                at += 1
            elif not quote and character in _BLANKS:
                break
            elif not quote and character in _QUOTES:
                quote = character
            elif character == quote:
                quote = ""
            else:
                word.append(character)
            at += 1
        if quote:
            raise ValueError(f"a quote is not closed: add a {quote} at its end")
        words.append("".join(word))
