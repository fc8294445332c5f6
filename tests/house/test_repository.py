"""What a reader may expect of every file, kept true by looking at every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = sorted((ROOT / "trio_ssh").rglob("*.py"))
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.py"))

LINES_AT_MOST: Final = 700
ABBREVIATIONS: Final = {"buf", "chan", "conn", "hdr", "msg", "pkt"}

# What only the machine knows that a line was written on.  In halves, or this file would be its own first hit.
PRIVATE_TEXT: Final = re.compile("|".join(["/" + "root/", "/" + "work/", "pypi" + r"\.org", "python" + "hosted"]))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text(path: Path) -> str:
    return path.read_text("utf-8")


def written_files() -> Iterator[Path]:
    """Every file that a person wrote: no cache, no environment, no build."""
    yield from (path for path in ROOT.iterdir() if path.is_file())
    for folder in (".ci", "docs", "examples", "tests", "trio_ssh"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and {"__pycache__", "_build"}.isdisjoint(path.parts):
                yield path


def chosen_names(tree: ast.AST) -> Iterator[str]:
    """Every name that the code binds, as opposed to the names of others that it uses."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=chosen) | ast.AsyncFunctionDef(name=chosen) | ast.ClassDef(name=chosen):
                yield chosen
            case ast.Name(id=chosen, ctx=ast.Store()) | ast.Attribute(attr=chosen, ctx=ast.Store()):
                yield chosen
            case ast.arg(arg=chosen):
                yield chosen


def test_every_module_begins_by_saying_what_it_is() -> None:
    assert [name(path) for path in MODULES + EXAMPLES if not ast.get_docstring(ast.parse(text(path)))] == []


def test_every_module_is_short_enough_to_be_read() -> None:
    assert [name(path) for path in MODULES if len(text(path).splitlines()) > LINES_AT_MOST] == []


def test_names_are_spelled_out() -> None:
    short = [
        f"{name(path)}: {chosen}"
        for path in MODULES
        for chosen in sorted(set(chosen_names(ast.parse(text(path)))))
        if not ABBREVIATIONS.isdisjoint(chosen.lower().split("_"))
    ]
    assert short == []


def test_what_is_left_to_do_comes_with_its_reason() -> None:
    marks = [
        f"{name(path)}: {mark}"
        for path in MODULES + EXAMPLES
        for mark in re.findall(r"\b(?:TODO|FIXME|XXX)\b.*", text(path))
        if not re.match(r"\w+: (?:\S+ +){3,}", mark)
    ]
    assert marks == []


def test_every_limit_limits_something() -> None:
    sources = [ast.parse(text(path)) for path in MODULES]
    classes = [node for source in sources for node in source.body if isinstance(node, ast.ClassDef)]
    fields = {
        field.target.id
        for node in classes
        if node.name in ("Limits", "SFTPLimits")
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
    read: set[object] = set()
    for source in sources:
        for node in ast.walk(source):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            elif isinstance(node, ast.Constant):
                read.add(node.value)  # those of penalties are got by their names
    assert len(fields) > 50
    assert fields - read == set()


def test_no_file_knows_where_it_was_written() -> None:
    knowing = [name(path) for path in written_files() if PRIVATE_TEXT.search(path.read_text("latin-1"))]
    assert knowing == []


def test_the_readme_holds_the_two_commands_that_the_ci_runs() -> None:
    blocks = dict(re.findall(r"(?ms)^<!-- run: (\w+) -->\n```\w*\n(.+?)\n```$", text(ROOT / "README.md")))
    assert blocks.keys() == {"demo", "tests"}
    # Each must work alone, from a fresh clone.
    assert all(block.startswith("python3 -m venv .venv && ") for block in blocks.values())


def test_every_example_can_be_found_from_the_documentation() -> None:
    pages = "\n".join(map(text, [ROOT / "README.md", *(ROOT / "docs").rglob("*.rst")]))
    assert [name(path) for path in EXAMPLES if path.name not in pages] == []
