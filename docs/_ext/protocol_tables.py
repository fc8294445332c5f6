"""Directives that draw the code's own tables, so that the documentation can't tell another story than the code.

``phase-table``      `ADMITS`: which message may arrive in which phase, for one role
``half-graph``       `NEXT` as a picture: the states of one half of a channel
``half-table``       `NEXT` as a table
``limits-table``     the fields of `Limits`, with their defaults and their comments
``algorithm-table``  what is offered of one kind, best first
``message-table``    every declared message, or with the argument ``sftp`` every packet: its number and its fields
``module-table``     the modules of a package, as its docstring lists them
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from types import ModuleType
from typing import Any, ClassVar, Final, TypeAlias

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from half_graph import half_graph
from sphinx.util.docutils import SphinxDirective

from trio_ssh.core import limits
from trio_ssh.core.channel import NEXT, Half, Passing
from trio_ssh.core.phases import ADMITS, Phase, Verdict
from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.mac import MACS
from trio_ssh.wire.fields import DeclaredMessage

MESSAGE_MODULES: Final = tuple(f"trio_ssh.wire.{name}" for name in ("transport", "exchange", "userauth", "connection"))
PACKET_MODULES: Final = ("trio_ssh.sftp.messages",)

SIGNS: Final = {Verdict.REFUSE: "", Verdict.ADMIT: "●", Verdict.UNKNOWN: "?", Verdict.IGNORE: "○"}

Cell: TypeAlias = nodes.Node | str


# -- reading the code


def declared_messages(modules: Sequence[str] = MESSAGE_MODULES) -> dict[int, list[type[DeclaredMessage]]]:
    """Return every declared message by its number; several may share one."""
    found: dict[int, list[type[DeclaredMessage]]] = {}
    for name in modules:
        module: ModuleType = importlib.import_module(name)
        for value in vars(module).values():
            if not (inspect.isclass(value) and issubclass(value, DeclaredMessage) and value.__module__ == name):
                continue
            if "NUMBER" in vars(value):  # what others are derived from has none of its own
                found.setdefault(value.NUMBER, []).append(value)
    return dict(sorted(found.items()))


def phase_rows(role: Role) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield (numbers, names, verdict in each phase), neighbours that have no name and are alike in one row."""
    names = {number: ", ".join(cls.__name__ for cls in classes) for number, classes in declared_messages().items()}

    def likeness(number: int) -> tuple[str, tuple[int, ...], int]:
        verdicts = tuple(ADMITS[role][phase][number] for phase in Phase)
        return names.get(number, ""), verdicts, number if number in names else -1

    for (name, verdicts, _), group in groupby(range(1, 256), likeness):
        numbers = list(group)
        shown = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        yield shown, name, verdicts


def limit_groups() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Yield each comment of `Limits` with the fields that stand below it, and their defaults."""
    source = inspect.getsource(limits.Limits)
    [declaration] = ast.parse(source).body
    assert isinstance(declaration, ast.ClassDef)
    lines = source.splitlines()
    fields = {
        statement.lineno: statement.target.id
        for statement in declaration.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    comment: list[str] = []
    members: list[tuple[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if line.strip().startswith("#:"):
            if members:
                yield " ".join(comment), members
                comment, members = [], []
            comment.append(line.strip().removeprefix("#:").strip())
        elif number in fields:
            members.append((fields[number], getattr(limits.DEFAULT_LIMITS, fields[number])))
    yield " ".join(comment), members


def shown_default(name: str, value: float | tuple[str, ...]) -> str:
    """Return a limit as people write it, with its unit."""
    if isinstance(value, tuple):
        return ", ".join(value)
    if name.endswith("_bytes"):
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value >= size and value % size == 0:
                return f"{value // size:g} {unit}"
        return f"{value:g} B"
    if name.endswith("_seconds"):
        return f"{value:g} s"
    if name.endswith("_rate"):
        return f"{value:g} %"
    return "2\N{SUPERSCRIPT THREE}\N{SUPERSCRIPT ONE}" if value == 2**31 else f"{value:,g}"


def listed_modules(package: str) -> list[tuple[str, str]]:
    """Return the modules of a package and what its docstring says of each."""
    docstring = importlib.import_module(package).__doc__ or ""
    return re.findall(r"^``(\w+)``  +(\S.*)$", docstring, re.MULTILINE)


# -- making tables


def literal(text: str) -> nodes.Node:
    """Return code."""
    return nodes.literal(text, text)


def table(head: Sequence[str], rows: Sequence[Sequence[Cell | None]], *, classes: Sequence[str] = ()) -> nodes.table:
    """Make a table.  A cell that is None belongs to the one above it."""
    made = nodes.table(classes=[*classes, "colwidths-auto"])
    group = nodes.tgroup(cols=len(head))
    made += group
    # Relative widths, which count where a builder doesn't choose them itself.
    cells = [
        [cell if isinstance(cell, str) else cell.astext() if cell else "" for cell in row] for row in (head, *rows)
    ]
    group += [
        nodes.colspec(colwidth=max(2, *(min(len(cell), 60) for cell in column))) for column in zip(*cells, strict=True)
    ]
    heading = nodes.thead()
    heading += nodes.row("", *(entry(text, 0) for text in head))
    body = nodes.tbody()
    for index, row in enumerate(rows):
        made_row = nodes.row()
        for column, cell in enumerate(row):
            if cell is not None:
                below = 0
                while index + below + 1 < len(rows) and rows[index + below + 1][column] is None:
                    below += 1
                made_row += entry(cell, below)
        body += made_row
    group += heading
    group += body
    return made


def entry(cell: Cell, rows_below: int) -> nodes.entry:
    """Make one cell that reaches over so many rows below it."""
    made = nodes.entry(morerows=rows_below) if rows_below else nodes.entry()
    made += nodes.paragraph("", cell) if isinstance(cell, str) else nodes.paragraph("", "", cell)
    return made


# -- the directives


class PhaseTable(Directive):
    """`ADMITS`, for us in the role that the argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        role = Role(self.arguments[0])
        head = ["", "message", *(phase.value for phase in Phase)]
        rows: list[list[Cell | None]] = [
            [numbers, literal(name) if name else nodes.emphasis("", "none of ours"), *(SIGNS[v] for v in verdicts)]
            for numbers, name, verdicts in phase_rows(role)
        ]
        return [table(head, rows, classes=["phases"])]


class HalfGraph(Directive):
    """`NEXT` as a picture."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        edges: dict[tuple[str, str], list[str]] = {}
        for (half, passing), following in NEXT.items():
            edges.setdefault((half.name, following.name), []).append(passing.name)
        svg = half_graph([half.name for half in Half], edges)
        return [nodes.raw("", svg, format="html")]


class HalfTable(Directive):
    """`NEXT` as a table."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        rows: list[list[Cell | None]] = []
        for half in Half:
            following = [NEXT.get((half, passing)) for passing in Passing]
            rows.append([literal(half.name), *(literal(to.name) if to else "violation" for to in following)])
        return [table(["half", *(passing.name for passing in Passing)], rows)]


class LimitsTable(Directive):
    """The fields of `Limits`."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        rows: list[list[Cell | None]] = []
        for comment, members in limit_groups():
            text: Cell | None = self._inline(comment)
            for name, value in members:
                rows.append([literal(name), shown_default(name, value), text])
                text = None
        return [table(["field", "default", "what it bounds"], rows)]

    def _inline(self, text: str) -> nodes.Node:
        children, _ = self.state.inline_text(text, self.lineno)
        return nodes.inline("", "", *children)


class AlgorithmTable(Directive):
    """What is offered of one kind, best first, with what the registry knows of each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        kind = self.arguments[0]
        head, describe = {
            "KEX": (["hash"], lambda name: [KEX[name].hash_name]),
            "HOST_KEYS": ([], lambda name: []),
            "CIPHERS": (["key", "MAC"], self._describe_cipher),
            "MACS": (["key", "tag", "covers"], self._describe_mac),
            "COMPRESSIONS": ([], lambda name: []),
        }[kind]
        names: tuple[str, ...] = getattr(defaults, kind)
        return [table(["name", *head], [[literal(name), *describe(name)] for name in names])]

    @staticmethod
    def _describe_cipher(name: str) -> list[str]:
        suite = CIPHERS[name]
        return [f"{suite.key_size} bytes", "is in it" if suite.is_aead else "is negotiated"]

    @staticmethod
    def _describe_mac(name: str) -> list[str]:
        mac = MACS[name]
        return [f"{mac.key_size} bytes", f"{mac.tag_size} bytes", "what is sent" if mac.is_etm else "the plaintext"]


class MessageTable(Directive):
    """Every declared message, or every packet of SFTP."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        rows: list[list[Cell | None]] = []
        modules = PACKET_MODULES if self.arguments == ["sftp"] else MESSAGE_MODULES
        for number, classes in declared_messages(modules).items():
            for index, cls in enumerate(classes):
                fields = ", ".join(name for name, _ in cls.FIELDS) or "none"
                source = (cls.__doc__ or "").split(":", 1)[0]
                rows.append([None if index else str(number), literal(cls.__name__), fields, source])
        return [table(["", "message", "fields", "source"], rows)]


class ModuleTable(SphinxDirective):
    """The modules of a package."""

    required_arguments = 1
    option_spec: ClassVar = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        rows: list[list[Cell | None]] = []
        for name, text in listed_modules(self.arguments[0]):
            children, _ = self.state.inline_text(text, self.lineno)
            rows.append([literal(name), nodes.inline("", "", *children)])
        return [table(["module", "what it holds"], rows)]


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx the directives."""
    for name, directive in (
        ("phase-table", PhaseTable),
        ("half-graph", HalfGraph),
        ("half-table", HalfTable),
        ("limits-table", LimitsTable),
        ("algorithm-table", AlgorithmTable),
        ("message-table", MessageTable),
        ("module-table", ModuleTable),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
