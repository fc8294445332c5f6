"""Lines that are typed at a terminal: what the handler gets of them, and what the terminal shows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor
from trio_ssh import TerminalMode
from trio_ssh.line_editor import LONGEST_LINE
from trio_ssh.testing import open_memory_client


class Terminals(OpenDoor):
    def check_channel_pty_request(self, channel: trio_ssh.Channel, term: str, *sizes: object) -> bool:
        return True


async def show_lines(process: trio_ssh.ServerProcess) -> int:
    """Read all lines, and say what they were."""
    editor = trio_ssh.LineEditor(process)
    while line := await editor.read_line("> "):
        await editor.write(f"{line!r}\n")
    await editor.write("the end\n")
    return 0


@asynccontextmanager
async def typing(
    handle: Callable[[trio_ssh.ServerProcess], Awaitable[int | None]] = show_lines,
    modes: Mapping[TerminalMode, int] | None = None,
) -> AsyncGenerator[trio_ssh.Process, None]:
    with trio.fail_after(10):
        async with (
            open_memory_client(Terminals(handle), host_key=HOST_KEY) as client,
            await client.open_process("x", term=trio_ssh.Pty("xterm", modes=modes or {})) as process,
        ):
            yield process


async def screen_after(keys: str | bytes, modes: Mapping[TerminalMode, int] | None = None) -> str:
    """Return what a terminal has been sent when all of this was typed."""
    async with typing(modes=modes) as process:
        await process.stdin.write(keys)
        await process.stdin.aclose()
        return (await process.stdout.read()).decode("utf-8", "surrogateescape")


def displayed(sent: str) -> list[str]:
    """Return the lines that a terminal shows of it."""
    lines, line, column = [], list[str](), 0
    for character in sent:
        match character:
            case "\r":
                column = 0
            case "\n":
                lines.append("".join(line).rstrip())
                line, column = [], 0
            case "\b":
                column -= 1
            case "\a":
                pass
            case _:
                line[column : column + 1] = [character]
                column += 1
    return [*lines, "".join(line).rstrip()]


async def test_what_is_typed_is_shown_and_returned_with_its_end() -> None:
    assert await screen_after("one\rtwo\n\r\x04") == (
        "> one\r\n'one\\n'\r\n> two\r\n'two\\n'\r\n> \r\n'\\n'\r\n> the end\r\n"
    )


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("ab\x7fc", "ac"),
        ("ab\bc", "ac"),
        ("\x7f\x7fa", "a"),
        ("one two\x17three", "one three"),
        ("one two  \x17\x17x", "x"),
        ("one two\x15three", "three"),
        ("caf\u00e9\x7fe", "cafe"),
        ("\u4e2d\u6587\x7f.", "\u4e2d."),
        ("e\u0301\x7f", "e"),
        ("a\tb\x7f\x7fc", "ac"),
        ("a\x1b[Ab\x1b[1;5Cc\x1bOHd\x1bxe", "abcde"),
        ("a\x1b[3~b", "ab"),
        ("a\x01\x02\x00\x1ab\u0085", "ab"),
        ("ab\x04c", "abc"),
    ],
)
async def test_keys_change_the_line_and_what_is_shown(keys: str, line: str) -> None:
    sent = await screen_after(keys + "\r")
    shown = displayed(sent.replace("\u4e2d\u6587", "CCDD").replace("\u4e2d", "CC"))
    assert shown[1] == repr(line + "\n").replace("\u4e2d", "CC")
    if "\u0301" not in keys:
        assert shown[0] == f"> {line}".rstrip().replace("\u4e2d", "CC")


async def test_enter_may_be_two_characters_at_any_time() -> None:
    async with typing() as process:
        for part in ("one\r", "\ntwo", "\r", "\n", "\n"):
            await process.stdin.write(part)
            await trio.testing.wait_all_tasks_blocked()
        await process.stdin.write("\x04")
        said = (await process.stdout.read()).decode()
    assert [line for line in displayed(said) if line.startswith("'")] == ["'one\\n'", "'two\\n'", "'\\n'"]


async def test_a_character_may_come_in_pieces() -> None:
    async with typing() as process:
        for byte in "\u20ac\r\x04".encode():
            await process.stdin.send_all(bytes((byte,)))
            await trio.testing.wait_all_tasks_blocked()
        assert "'\u20ac\\n'" in (await process.stdout.read()).decode()


async def test_what_is_no_text_is_kept() -> None:
    assert r"'\udcff\n'" in await screen_after(b"\xff\r\x04")


async def test_the_line_is_shown_anew() -> None:
    assert displayed(await screen_after("one\x7f\x12!\r"))[:2] == ["> on^R", "> on!"]


async def test_input_that_ends_within_a_line_is_a_line() -> None:
    assert displayed(await screen_after("rest")) == ["> rest'rest'", "> the end", ""]


async def test_a_line_has_an_end_however_long_it_is_typed() -> None:
    sent = await screen_after("x" * (LONGEST_LINE + 3) + "\r")
    assert sent.count("\a") == 3
    assert repr("x" * LONGEST_LINE + "\n") in sent


@pytest.mark.parametrize("key", ["\x12", "\x03"])
async def test_keys_that_show_much_are_shown_one_by_one(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "p" * LONGEST_LINE
    lengths: list[int] = []
    show = trio_ssh.LineEditor._show

    async def measured(editor: trio_ssh.LineEditor, text: str) -> None:
        lengths.append(len(text))
        await show(editor, text)

    async def handle(process: trio_ssh.ServerProcess) -> int:
        async with trio.open_nursery() as nursery:
            signals = process.signals
            nursery.start_soon(consume, signals)
            line = await trio_ssh.LineEditor(process).read_line(prompt)
            assert line == ("last\n" if key == "\x03" else "x" * LONGEST_LINE + "\n")
            nursery.cancel_scope.cancel()
        return 3

    async def consume(signals: AsyncIterable[str]) -> None:
        async for _ in signals:
            pass

    monkeypatch.setattr(trio_ssh.LineEditor, "_show", measured)
    async with typing(handle) as process, trio.open_nursery() as nursery:
        nursery.start_soon(process.stdout.read)
        await process.stdin.write("x" * LONGEST_LINE + key * 300 + ("last" if key == "\x03" else "") + "\r")
        assert await process.wait() == 3
    assert len(lengths) > 300
    assert max(lengths) <= 3 * LONGEST_LINE


async def test_a_password_is_not_shown() -> None:
    async def ask(process: trio_ssh.ServerProcess) -> int:
        password = await trio_ssh.LineEditor(process).read_line("Password: ", echo=False)
        await process.stdout.write(f"{len(password)} characters")
        return 0

    async with typing(ask) as process:
        await process.stdin.write("secrex\x7ft\r")
        assert await process.stdout.read() == b"Password: \r\n7 characters"


async def test_a_terminal_that_echoes_nothing_is_obeyed() -> None:
    assert "quiet" not in (await screen_after("quiet\r\x04", {TerminalMode.ECHO: 0})).split("'")[0]


async def test_keys_are_those_of_the_client_s_terminal() -> None:
    modes = {TerminalMode.VERASE: ord("#"), TerminalMode.VKILL: ord("@"), TerminalMode.VEOF: 255}
    sent = await screen_after("ax#bc@de\x04\r", modes)
    assert displayed(sent)[1] == "'de\\n'"


async def test_control_c_cancels_a_handler_that_wants_no_signals() -> None:
    async with typing() as process:
        await process.stdin.write("half a l\x03")
        assert await process.wait() == -2
        assert displayed((await process.stdout.read()).decode())[0] == "> half a l^C"


async def test_control_c_is_a_signal_to_who_wants_them() -> None:
    async def listen(process: trio_ssh.ServerProcess) -> int:
        signals = process.signals
        line = await trio_ssh.LineEditor(process).read_line("> ")
        await process.stdout.write(f"{line!r} {signals.receive_nowait()} {signals.receive_nowait()}")
        return 0

    async with typing(listen) as process:
        await process.stdin.write("half\x03whole\x1cline\r")
        assert displayed((await process.stdout.read()).decode()) == [
            "> half^C",
            "> whole^\\",
            "> line",
            "'line\\n' INT QUIT",
        ]


async def test_cancelled_it_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async def patient(process: trio_ssh.ServerProcess) -> int:
        editor = trio_ssh.LineEditor(process)
        for _ in range(5):
            with trio.move_on_after(10):
                line = await editor.read_line("> ")
                await editor.write(f"{line!r}\n")
                return 0
            await editor.write("\nstill there?\n")
        return 1

    async with (
        open_memory_client(Terminals(patient), host_key=HOST_KEY) as client,
        await client.open_process("x", term="xterm") as process,
    ):
        for part in ("ha", "lf", "\r"):
            await process.stdin.write(part)
            await trio.sleep(12)
        assert displayed((await process.stdout.read()).decode())[-2] == "'half\\n'"


async def test_without_a_terminal_lines_are_read_and_nothing_is_shown() -> None:
    async with open_memory_client(OpenDoor(show_lines), host_key=HOST_KEY) as client:
        done = await client.run_process("x", stdin=b"one\ntwo\x7f\n", capture_stdout=True)
    assert done.stdout == b"'one\\n'\n'two\\x7f\\n'\nthe end\n"
