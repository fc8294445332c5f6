"""What the documentation says is so: its code compiles and runs, its tables are the code's, and it leaves nothing out.

Every block of Python compiles.  Blocks of definitions are executed, page by page, so that their names exist.  A block
which has a mark is run besides: ``runs``, as a program; ``with-client``, with a client that is connected to shells on
this machine; ``tests``, as tests under the autojump clock.  In rst the mark is the block's class, in Markdown a comment
in front of it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Final, Literal, cast

import attrs
import pytest
import trio
import trio.testing

import trio_ssh
import trio_ssh.testing

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))]
REFERENCE: Final = sorted((ROOT / "docs" / "reference").glob("*.rst"))

Mark = Literal["", "runs", "with-client", "tests"]


@attrs.frozen
class Block:
    """A block of Python in a page."""

    page: Path
    line: int
    mark: Mark
    source: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def compile(self) -> CodeType:
        """Return its code, whose lines are those of the page; ``await`` may stand outside of functions."""
        source = "\n" * (self.line - 1) + self.source
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return cast("CodeType", compile(source, str(self.page), "exec", flags=flags, dont_inherit=True))

    @property
    def awaits(self) -> bool:
        """Whether it waits outside of functions."""
        return bool(self.compile().co_flags & inspect.CO_COROUTINE)


_MARKDOWN: Final = re.compile(
    r"(?:^<!-- (?P<mark>[\w-]+) -->\n)?^```python\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL
)
_RST: Final = re.compile(
    r"^\.\. code-block:: python\n(?:   :class: (?P<mark>[\w-]+)\n)?\n(?P<source>(?:(?:   .*)?\n)+)", re.MULTILINE
)


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8") + "\n"
    for found in (_MARKDOWN if page.suffix == ".md" else _RST).finditer(text):
        line = text.count("\n", 0, found.start("source")) + 1
        mark = cast("Mark", found["mark"] or "")
        assert mark in ("", "runs", "with-client", "tests"), f"{page}:{line} has the mark {mark}"
        yield Block(page, line, mark, textwrap.dedent(found["source"]))


BLOCKS: Final = [block for page in PAGES for block in blocks_of(page)]


def marked(mark: Mark) -> list[Block]:
    return [block for block in BLOCKS if block.mark == mark]


def definitions_before(block: Block) -> dict[str, Any]:
    """Execute what a page defines up to a block, and return its names: a reader has read it too."""
    names: dict[str, Any] = {"__name__": "a_page", "trio": trio, "trio_ssh": trio_ssh, "pytest": pytest}
    for earlier in BLOCKS:
        if earlier.page == block.page and earlier.line <= block.line and not earlier.awaits and earlier.mark != "runs":
            exec(earlier.compile(), names)
    return names


# -- the code in it


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_of_python_is_python(block: Block) -> None:
    block.compile()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_defines_can_be_defined(page: Path) -> None:
    blocks = [block for block in BLOCKS if block.page == page]
    if blocks:
        definitions_before(blocks[-1])


def test_no_block_of_python_is_overlooked() -> None:
    fences = sum(
        len(re.findall(r"^ *(?:```python|\.\. code-block:: python)", page.read_text("utf-8"), re.MULTILINE))
        for page in PAGES
    )
    assert fences == len(BLOCKS)


@pytest.mark.parametrize("block", marked("runs"), ids=str)
def test_a_program_runs(block: Block, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.source],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


class Shells(trio_ssh.ServerInterface):
    """Runs what the pages run."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process, shell="/bin/sh")


@pytest.mark.parametrize("block", marked("with-client"), ids=str)
async def test_what_is_done_with_a_client_does_what_it_says(block: Block) -> None:
    names = definitions_before(block)
    with trio.fail_after(60):
        async with trio_ssh.testing.open_memory_client(Shells()) as client:
            await eval(block.compile(), names | {"client": client})


def shown_tests(block: Block) -> list[str]:
    return re.findall(r"^async def (test_\w+)", block.source, re.MULTILINE)


@pytest.mark.parametrize(
    ("block", "name"), [(block, name) for block in marked("tests") for name in shown_tests(block)], ids=str
)
def test_a_test_that_is_shown_passes(block: Block, name: str) -> None:
    test: Callable[..., Any] = definitions_before(block)[name]
    clock = trio.testing.MockClock(autojump_threshold=0)
    arguments = [clock] if inspect.signature(test).parameters else []
    trio.run(test, *arguments, clock=clock)


def test_every_mark_is_in_use() -> None:
    assert {block.mark for block in BLOCKS} == {"", "runs", "with-client", "tests"}


# -- what the README claims


class Claims(trio_ssh.ServerInterface):
    """Does what it takes to try a claim."""

    def __init__(self) -> None:
        self.ended = trio.Event()

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        if process.command == "complain":
            await process.stderr.send_all(bytes(8 * 2**20))
            await process.stdout.write("done")
        elif process.command == "pour":
            while True:
                await process.stdout.send_all(bytes(2**20))
        elif process.command == "hang":
            assert await process.signals.receive() == "TERM"
            self.ended.set()
        return 0


async def test_reading_stdout_comes_back_however_much_is_on_stderr(autojump_clock: trio.testing.MockClock) -> None:
    async with trio_ssh.testing.open_memory_client(Claims()) as client:
        with trio.fail_after(60):
            _, stdout, stderr = await client.exec_command("complain")
            assert await stdout.read() == b"done"
            assert len(await stderr.read()) == 8 * 2**20


async def test_a_reader_that_stops_stalls_no_other(autojump_clock: trio.testing.MockClock) -> None:
    async with trio_ssh.testing.open_memory_client(Claims()) as client:
        with trio.fail_after(60):
            async with await client.open_process("pour") as process:
                await process.stdout.receive_some()
                done = await client.run_process("quick", capture_stdout=True)
                assert done.returncode == 0


async def test_cancelling_run_process_ends_the_command(autojump_clock: trio.testing.MockClock) -> None:
    server = Claims()
    async with trio_ssh.testing.open_memory_client(server) as client:
        with trio.move_on_after(60) as patience:
            await client.run_process("hang")
        assert patience.cancelled_caught
        assert server.ended.is_set()


async def test_key_agreement_is_post_quantum_first() -> None:
    async with trio_ssh.testing.open_memory_client(Claims()) as client:
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert negotiated.kex == "mlkem768x25519-sha256"


# -- what it points to


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for page in PAGES:
        for path, name in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text("utf-8")):
            file = ROOT / path
            if not file.is_file() or (
                name and not re.search(rf"^(async )?def {name}\(", file.read_text("utf-8"), re.MULTILINE)
            ):
                missing.append(f"{page.name}: {path}::{name}")
    assert missing == []


def test_every_file_that_is_named_exists() -> None:
    missing = []
    for page in PAGES:
        text = page.read_text("utf-8")
        named = re.findall(r"``((?:examples|core|runtime|crypto|wire)/\w+\.py)``", text) + re.findall(
            r"\]\(([^:)#]+)\)", text
        )
        missing += [
            f"{page.name}: {name}"
            for name in named
            if not any((base / name).exists() for base in (ROOT, ROOT / "trio_ssh"))
        ]
    assert missing == []


#: What a page calls by what name.
CALLED: Final[dict[str, object]] = {
    **{name: getattr(trio_ssh, name) for name in trio_ssh.__all__},
    "agent": trio_ssh.Agent,
    "agent_key": trio_ssh.AgentKey,
    "channel": trio_ssh.Channel,
    "client": trio_ssh.SSHClient,
    "conf": trio_ssh.SSHOptions,
    "config": trio_ssh.SSHConfig,
    "file": trio_ssh.SFTPFile,
    "host_keys": trio_ssh.HostKeys,
    "key": trio_ssh.PKey,
    "process": trio_ssh.ServerProcess,
    "self": trio_ssh.ServerInterface,
    "sftp": trio_ssh.SFTPClient,
    "stdin": trio_ssh.ChannelFile,
    "stdout": trio_ssh.ChannelFile,
    "transport": trio_ssh.Transport,
    "trio": trio,
    "trio_ssh": trio_ssh,
}
_MEMBER: Final = re.compile(r"(?<![\w./\"'-])(\w+)\.([A-Za-z_]\w*)")
_LITERAL: Final = re.compile(r"``(.+?)``")


def members_to_write(page: str) -> list[tuple[str, str]]:
    """Return each ``name.member`` that the tables for another library's users say to write."""
    text = (ROOT / "docs" / "guide" / page).read_text("utf-8")
    named: list[tuple[str, str]] = []
    for before, after in re.findall(r"^   \* - (.+)\n     - (.+)$", text, re.MULTILINE):
        literals = _LITERAL.findall(after) + (_LITERAL.findall(before) if after.startswith("the same") else [])
        named += [found for literal in literals for found in _MEMBER.findall(literal) if found[0] in CALLED]
    return named


def has_member(place: object, name: str) -> bool:
    # What belongs to each object is not there before the first one.
    return hasattr(place, name) or (
        isinstance(place, type) and re.search(rf"self\.{name}\b.* = ", inspect.getsource(place))
    )


def test_what_users_of_paramiko_are_told_to_write_exists() -> None:
    named = members_to_write("porting.rst")
    assert {name for name, _ in named} >= {"channel", "client", "conf", "config", "key", "sftp", "stdin", "transport"}
    assert [f"{name}.{member}" for name, member in named if not has_member(CALLED[name], member)] == []


def test_what_users_of_asyncssh_are_told_to_write_exists() -> None:
    # Their tables of clients and of servers both have a process.
    called = {**CALLED, "process": (trio_ssh.Process, trio_ssh.ServerProcess)}
    named = members_to_write("porting_asyncssh.rst")
    assert {name for name, _ in named} >= {"client", "process", "sftp", "trio_ssh"}
    unknown = [
        f"{name}.{member}"
        for name, member in named
        if not any(has_member(place, member) for place in (called[name] if name == "process" else (called[name],)))
    ]
    assert unknown == []


# -- that it leaves nothing out


def documented() -> set[str]:
    """Return what the reference's directives name, without the packages in front of it."""
    names: set[str] = set()
    for page in REFERENCE:
        for directive, name in re.findall(r"\.\. (auto\w+|py:data):: ([\w.]+)", page.read_text("utf-8")):
            if directive == "automodule":
                module = importlib.import_module(name)
                names |= {key for key, value in vars(module).items() if getattr(value, "__module__", "") == name}
            else:
                names.add(name.rpartition(".")[2])
    return names


@pytest.mark.parametrize("module", [trio_ssh, trio_ssh.testing], ids=lambda module: module.__name__)
def test_the_reference_has_every_public_name(module: Any) -> None:
    assert sorted(set(module.__all__) - documented()) == []


def test_the_errors_table_has_every_exception() -> None:
    table = (ROOT / "docs" / "guide" / "client.rst").read_text("utf-8").partition(".. _client-errors:")[2]
    raised = {
        name
        for name in trio_ssh.__all__
        if isinstance(value := getattr(trio_ssh, name), type) and issubclass(value, trio_ssh.SSHException)
    }
    raised.remove("ProtocolError")  # a base that is never raised itself
    assert sorted(name for name in raised if f"trio_ssh.{name}`" not in table) == []


def test_the_log_knows_the_version_that_comes_next() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
