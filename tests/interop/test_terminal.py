"""A person at a terminal: real ssh in tmux, at a shell that our server runs."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator

import pytest
import trio

import trio_ssh
from tests.interop.peers import PATIENCE, LetsAnyoneIn, Ssh

pytestmark = pytest.mark.interop


class SimpleShell(LetsAnyoneIn):
    """Runs the simplest of shells."""

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process, shell="/bin/sh")


class Terminal:
    """A tmux with one window, in which a command runs."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh
        self._socket = str(ssh.folder / "tmux")

    async def tmux(self, *arguments: str) -> str:
        done = await self._ssh.run_command(["tmux", "-f", "/dev/null", "-S", self._socket, *arguments])
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    async def start(self, *command: str, width: int, height: int) -> None:
        """Run a command, show what it returned, and wait."""
        line = f"{shlex.join(command)}; echo returned $?; read -r line"
        await self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), line)

    async def type(self, text: str) -> None:
        await self.tmux("send-keys", "-l", text)

    async def press(self, key: str) -> None:
        await self.tmux("send-keys", key)

    async def resize(self, width: int, height: int) -> None:
        await self.tmux("resize-window", "-x", str(width), "-y", str(height))

    async def screen(self) -> list[str]:
        """The lines that are not empty."""
        return [line.rstrip() for line in (await self.tmux("capture-pane", "-p")).splitlines() if line.strip()]

    async def shows(self, *lines: str) -> None:
        """Wait until the last lines end in these."""

        def matches(screen: list[str]) -> bool:
            last = screen[-len(lines) :]
            return len(last) == len(lines) and all(map(str.endswith, last, lines))

        with trio.move_on_after(20):
            while not matches(await self.screen()):  # noqa: ASYNC110  (the screen is another program's)
                await trio.sleep(0.02)
        screen = await self.screen()
        assert matches(screen), screen


@pytest.fixture
async def terminal(ssh: Ssh, nursery: trio.Nursery) -> AsyncIterator[Terminal]:
    """A terminal of 93 x 31 in which ssh is logged in to a server of ours, and the shell has shown its prompt."""
    await ssh.serve(nursery, SimpleShell)
    terminal = Terminal(ssh)
    await terminal.start(*ssh.command("-tt", "server"), width=93, height=31)
    try:
        await terminal.type("PS1='ready> '; clear\n")
        await terminal.shows("ready>")
        yield terminal
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await terminal.tmux("kill-server")


async def test_the_shell_knows_the_terminals_size_and_follows_it(terminal: Terminal) -> None:
    await terminal.type("stty size\n")
    await terminal.shows("ready> stty size", "31 93", "ready>")
    await terminal.resize(70, 20)
    await terminal.type("clear; stty size\n")
    await terminal.shows("20 70", "ready>")


async def test_what_is_typed_is_echoed_once_and_a_password_never(terminal: Terminal) -> None:
    await terminal.type("read -r name; stty -echo; read -r secret; stty echo; echo $name,$secret\n")
    await terminal.type("bob\n")
    await terminal.shows("bob")
    await terminal.type("hidden\n")
    await terminal.shows("bob", "bob,hidden", "ready>")


async def test_control_c_interrupts_what_runs(terminal: Terminal) -> None:
    await terminal.type("sh -c 'echo sleeping; exec sleep 3600'; echo $?\n")
    await terminal.shows("sleeping")
    await terminal.press("C-c")
    await terminal.shows("sleeping", "^C", "ready>")
    await terminal.type("echo still here\n")
    await terminal.shows("ready> echo still here", "still here", "ready>")


async def test_control_d_ends_the_shell(terminal: Terminal) -> None:
    await terminal.press("C-d")
    await terminal.shows("Connection to 127.0.0.1 closed.", "returned 0")


async def test_exit_ends_ssh_with_its_status(terminal: Terminal) -> None:
    await terminal.type("exit 7\n")
    await terminal.shows("Connection to 127.0.0.1 closed.", "returned 7")


async def test_ssh_hangs_up_at_its_escape(terminal: Terminal) -> None:
    await terminal.press("Enter")
    await terminal.type("~.")
    await terminal.shows("Connection to 127.0.0.1 closed.", "returned 255")


async def test_a_full_screen_program_draws(terminal: Terminal) -> None:
    await terminal.type("printf '\\033[2J\\033[5;10Hhere\\033[31;1H'; read -r line\n")
    await terminal.shows("here")
    assert (await terminal.screen())[0] == "         here"


class Asker(LetsAnyoneIn):
    """Reads lines with no system's terminal behind it."""

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        editor = trio_ssh.LineEditor(process)
        while line := await editor.read_line("> "):
            await editor.write(f"[{line.strip()}]\n")
        await editor.write("bye\n")
        return 7


@pytest.fixture
async def asked(ssh: Ssh, nursery: trio.Nursery) -> AsyncIterator[Terminal]:
    """A terminal in which ssh is logged in, and a handler has shown its prompt."""
    await ssh.serve(nursery, Asker)
    terminal = Terminal(ssh)
    await terminal.start(*ssh.command("-tt", "server"), width=80, height=24)
    try:
        await terminal.shows(">")
        yield terminal
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await terminal.tmux("kill-server")


async def test_lines_are_edited_without_a_terminal_of_the_system_s(asked: Terminal) -> None:
    await asked.type("hallo wrld")
    await asked.press("C-w")
    await asked.type("worlx")
    await asked.press("BSpace")
    await asked.type("d caf\u00e9")
    await asked.shows("> hallo world caf\u00e9")
    await asked.press("Enter")
    await asked.shows("[hallo world caf\u00e9]", ">")
    await asked.press("Up")
    await asked.type("all of it")
    await asked.press("C-u")
    await asked.shows("[hallo world caf\u00e9]", ">")
    await asked.press("C-d")
    await asked.shows("bye", "Connection to 127.0.0.1 closed.", "returned 7")


async def test_control_c_ends_a_handler_as_it_ends_a_command(asked: Terminal) -> None:
    await asked.type("half")
    await asked.press("C-c")
    await asked.shows("returned 255")
    assert any(line.startswith("> half^C") for line in await asked.screen())
