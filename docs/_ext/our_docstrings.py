"""What our docstrings and signatures mean, told to Sphinx.

They have Google's sections, with three habits of their own: a line may name several arguments or attributes at once,
what stands under ``Raises:`` may be a sentence, and a block that is indented behind a blank line is code.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import Any, Final

import attrs

import trio_ssh

_SECTIONS: Final = {"Args:": "Parameters", "Attributes:": "Attributes", "Returns:": "Returns", "Raises:": "Raises"}
_NAMED: Final = re.compile(r"([\w.]+(?:, [\w.]+)*): (.*)")
_EXCEPTION: Final = re.compile(r"(?:trio\.)?[A-Z]\w+")


def _linked(name: str) -> str:
    """Return an exception's name as a link, if it leads anywhere."""
    if hasattr(trio_ssh, name):
        return f":exc:`~trio_ssh.{name}`"
    return f":exc:`{name}`" if name.startswith("trio.") or hasattr(builtins, name) else f"``{name}``"


def _items(lines: list[str]) -> Iterator[list[str]]:
    """Divide a section, with its indentation gone, where a line stands at its left edge."""
    item: list[str] = []
    for line in lines:
        if line and not line.startswith(" ") and item:
            yield item
            item = []
        item.append(line)
    yield item


def _item(title: str, text: str) -> str:
    found = _NAMED.match(text)
    if found is None or title == "Returns":
        return text
    names = found[1].split(", ")
    if title != "Raises":
        return f"{', '.join(f'**{name}**' for name in names)} -- {found[2]}"
    return f"{', '.join(map(_linked, names))} -- {found[2]}" if all(map(_EXCEPTION.fullmatch, names)) else text


def _section(title: str, lines: list[str]) -> Iterator[str]:
    yield f":{title}:"
    for first, *rest in _items(lines):
        bullet = "" if title == "Returns" else "* "
        yield f"    {bullet}{_item(title, first)}"
        yield from (f"    {' ' * len(bullet)}{line.strip()}" for line in rest)
    yield ""


def _rewritten(lines: list[str]) -> Iterator[str]:
    index = 0
    while index < len(lines):
        line = lines[index]
        end = index + 1
        while end < len(lines) and (not lines[end] or lines[end].startswith("    ")):
            end += 1
        block = lines[index + 1 : end]
        if line in _SECTIONS:
            yield ""
            yield from _section(_SECTIONS[line], [text[4:] for text in block if text])
        else:
            yield line
            if any(block):
                yield ""
                yield ".. code-block:: python"
                yield ""
            yield from block
        index = end


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place."""
    lines[:] = _rewritten(lines)


def show_defaults(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Show the defaults of an attrs class, where its generated constructor shows where it keeps them."""
    if signature is None or not attrs.has(thing):
        return None
    defaults = {field.name: field.default for field in attrs.fields(thing)}

    def default(found: re.Match[str]) -> str:
        # What a factory makes is shown as an ellipsis; the constructor has NOTHING there.
        return repr(defaults[found[1]]) if found[1] else "..."

    return re.sub(r"attr_dict\['(\w+)'\]\.default|NOTHING", default, signature), returns


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", show_defaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
