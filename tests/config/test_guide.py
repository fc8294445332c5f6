"""The guide's tables hold every keyword, once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

from trio_ssh.config.keywords import BY_ATTRIBUTE

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guide" / "config.rst"


def test_every_keyword_is_in_the_tables_once() -> None:
    names = {keyword.name for keyword in BY_ATTRIBUTE.values()}
    tables = re.findall(r"^   \* - (.*?)\n     - ", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    found = Counter(name for cell in tables for name in re.findall(r"``(\w+)``", cell))
    assert {name: found[name] for name in names} == dict.fromkeys(names, 1)
    assert set(found) == names
