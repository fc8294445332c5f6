"""A module imports only from lower layers, or from siblings that its package lists earlier.

docs/architecture.rst says why.  What counts is the text: an import inside a function or under TYPE_CHECKING
binds two modules as firmly as any other.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

# A module belongs to the innermost of these rooms that it lies in.
LAYERS: Final = {
    "trio_ssh.wire": 0,
    "trio_ssh.errors": 0,
    "trio_ssh.crypto": 1,
    "trio_ssh.keys": 1,
    "trio_ssh.core": 2,
    "trio_ssh.sftp.attributes": 2,
    "trio_ssh.sftp.messages": 2,
    "trio_ssh.sftp.protocol": 2,
    "trio_ssh.sftp.session": 2,
    "trio_ssh.socks": 2,
    "trio_ssh.runtime": 3,
    # 4: client, process, server, sftp, and whatever else is not named here
    "trio_ssh.testing": 5,
    "trio_ssh.types": 5,
    "trio_ssh.cli": 5,
    "trio_ssh.__main__": 5,
}
UNNAMED: Final = 4
TOP: Final = 5  # of the root too: it gathers the public names, so nothing that it gathers may lean on it
TRIO_BEGINS: Final = 3

# Third-party packages, and the rooms that may import them.  Anything else is not a dependency.
ADMITTED: Final = {
    "attrs": ("trio_ssh",),
    "bcrypt": ("trio_ssh.crypto", "trio_ssh.keys"),
    "cryptography": ("trio_ssh.crypto", "trio_ssh.keys"),
    "nacl": ("trio_ssh.crypto", "trio_ssh.keys"),
}

# The sealed core is told the time, the bytes and the random numbers; it never fetches them.
UNSEALED: Final = {
    "asyncio",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}


def read_tree(root: Path) -> dict[str, str]:
    """Module name -> source, packages by their own name."""
    sources = {}
    for path in sorted((root / "trio_ssh").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    return sources


def imports(source: str, modules: Mapping[str, str]) -> set[str]:
    """Every module that `source` names in an import, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "a relative import hides its layer"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules else node.module)
    return found


def is_within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def layer(module: str) -> int:
    if module == "trio_ssh":
        return TOP
    return LAYERS[max(rooms, key=len)] if (rooms := [r for r in LAYERS if is_within(module, r)]) else UNNAMED


def listed(docstring: str) -> list[str]:
    """The modules of a package, in the order of its docstring's lines ``name``  what it is."""
    return re.findall(r"^``(\w+)``  +\S", docstring, re.MULTILINE)


def violations(sources: Mapping[str, str]) -> Iterator[str]:
    """Every import that breaks the rule, as a sentence."""
    for module, source in sources.items():
        for target in sorted(imports(source, sources)):
            top = target.partition(".")[0]
            if top == "trio_ssh":
                if layer(target) > layer(module):
                    yield f"{module} (layer {layer(module)}) imports {target} (layer {layer(target)})"
            elif top == "trio":
                if layer(module) < TRIO_BEGINS and module != "trio_ssh.errors":
                    yield f"{module} (layer {layer(module)}) imports trio"
            elif top in sys.stdlib_module_names:
                if layer(module) == layer("trio_ssh.core") and top in UNSEALED:
                    yield f"{module} is sealed, and imports {top}"
            elif not any(is_within(module, room) for room in ADMITTED.get(top, ())):
                yield f"{module} may not import {top}"


def disorder(sources: Mapping[str, str]) -> Iterator[str]:
    """Every package whose list is not its modules, and every import of a sibling that is listed later."""
    for package in sources:
        children = {name for name in sources if name.rpartition(".")[0] == package}
        if package == "trio_ssh" or not children:
            continue
        order = [f"{package}.{name}" for name in listed(ast.get_docstring(ast.parse(sources[package])) or "")]
        if wrong := set(order) ^ children:
            yield f"{package} lists what it does not hold, or does not list what it holds: {sorted(wrong)}"
            continue
        for module in filter(lambda name: is_within(name, package) and name != package, sources):
            place = next(place for place, sibling in enumerate(order) if is_within(module, sibling))
            for target in sorted(imports(sources[module], sources)):
                if any(is_within(target, later) for later in order[place + 1 :]):
                    yield f"{module} imports {target}, which {package} lists after it"


def ring(sources: Mapping[str, str]) -> list[str]:
    """Some modules that import each other in a ring, the first one again at the end; or none."""
    graph = {module: imports(source, sources) - {module} for module, source in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


SOURCES: Final = read_tree(ROOT)


def test_every_import_goes_down() -> None:
    assert list(violations(SOURCES)) == []


def test_every_package_lists_its_modules_in_the_order_of_their_imports() -> None:
    assert list(disorder(SOURCES)) == []


def test_no_modules_import_each_other_in_a_ring() -> None:
    assert ring(SOURCES) == []


def test_nothing_waits_below_trio() -> None:
    waiting = [
        f"{module}:{node.lineno}"
        for module, source in SOURCES.items()
        # A signer may be elsewhere, so keys may be awaited for; nobody down there does.
        if layer(module) < TRIO_BEGINS
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.AsyncFunctionDef)
    ]
    assert waiting == []


def test_of_trio_the_errors_know_only_an_exception() -> None:
    tree = ast.parse(SOURCES["trio_ssh.errors"])
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "trio"
    }
    assert used <= {"BrokenResourceError"}


WIRE: Final = '"""``numbers``  a\n\n``fields``  b\n"""'


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("trio_ssh.wire.fields", "import trio_ssh.core", "(layer 0) imports trio_ssh.core (layer 2)"),
        ("trio_ssh.wire.fields", "from trio_ssh import core", "(layer 0) imports trio_ssh.core (layer 2)"),
        ("trio_ssh.wire.fields", "from trio_ssh import connect", "(layer 0) imports trio_ssh (layer 5)"),
        (
            "trio_ssh.core",
            "if TYPE_CHECKING:\n    import trio_ssh.client",
            "imports trio_ssh.client (layer 4)",
        ),
        ("trio_ssh.core", "def now():\n    import time", "is sealed, and imports time"),
        ("trio_ssh.core", "from trio.abc import Stream", "(layer 2) imports trio"),
        ("trio_ssh.core", "import cryptography.exceptions", "may not import cryptography"),
        ("trio_ssh.client", "import asyncssh", "may not import asyncssh"),
        ("trio_ssh.wire.numbers", "import trio_ssh.wire.fields", "which trio_ssh.wire lists after it"),
        ("trio_ssh.wire.text", "", "does not list what it holds: ['trio_ssh.wire.text']"),
    ],
)
def test_a_broken_rule_is_noticed(module: str, source: str, complaint: str) -> None:
    sources = dict.fromkeys(
        ["trio_ssh", "trio_ssh.wire.numbers", "trio_ssh.wire.fields", "trio_ssh.core", "trio_ssh.client"], ""
    )
    sources |= {"trio_ssh.wire": WIRE, module: source}
    [found] = [*violations(sources), *disorder(sources)]
    assert complaint in found


def test_a_ring_is_noticed() -> None:
    sources = {
        "trio_ssh.wire": "",
        "trio_ssh.crypto": "import trio_ssh.wire\ndef f(): import trio_ssh.keys",
        "trio_ssh.keys": "import trio_ssh.crypto",
        "trio_ssh.core": "import trio_ssh.keys",
    }
    assert set(ring(sources)) == {"trio_ssh.crypto", "trio_ssh.keys"}
