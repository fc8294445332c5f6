"""Lines that a person types: `LineEditor`, for handlers whose sessions have a terminal and no system's own behind it.

A client with a terminal sends each key as it is pressed and shows nothing by itself.  What a terminal driver does on a
system's own terminal is done here: echo, erasing, and the keys that end a line, the input, or the command.
"""

from __future__ import annotations

import codecs
import unicodedata
from typing import Final

from trio_ssh.session import Pty, ServerProcess
from trio_ssh.wire.numbers import TerminalMode

#: The longest line, as a system's own terminal has it.
LONGEST_LINE: Final = 4096

#: Looked at together: what is behind a line's end is copied for each line.
_READ_BYTES: Final = 4096

_ESCAPE: Final = "\x1b"
_BELL: Final = "\a"

#: Keys that stand for something, where the client's terminal doesn't say which they are.
_KEYS: Final = {
    TerminalMode.VINTR: "\x03",
    TerminalMode.VQUIT: "\x1c",
    TerminalMode.VERASE: "\x7f",
    TerminalMode.VWERASE: "\x17",
    TerminalMode.VKILL: "\x15",
    TerminalMode.VEOF: "\x04",
    TerminalMode.VREPRINT: "\x12",
}
_SIGNALS: Final = {TerminalMode.VINTR: "INT", TerminalMode.VQUIT: "QUIT"}


class LineEditor:
    r"""Reads lines from a session and shows them as they are typed, as a system's own terminal does.

        async def handle_session(self, process):
            editor = trio_ssh.LineEditor(process)
            while line := await editor.read_line("> "):
                await editor.write(f"{line.strip()}? Indeed.\n")

    Backspace, Ctrl-W and Ctrl-U erase a character, a word and the line, and Ctrl-R shows it anew.  Ctrl-D at the start
    of a line ends the input.  Ctrl-C and Ctrl-\ are what the signals INT and QUIT are: `ServerProcess.signals` has
    them, or else the handler is cancelled.  Where the client's terminal has other keys for it, it is those.  Arrows do
    nothing.

    A session without a terminal has its lines read and nothing shown, so one handler serves people and programs.

    Args:
        process: the session.  Nobody else reads its stdin.
    """

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        #: What was typed and not looked at yet, and what there is of the line.
        self._typed: str = ""
        self._line: list[str] = []
        #: A line whose end couldn't be shown yet.
        self._ready: str | None = None
        #: To be delivered when what stands for it was shown: the handler may be cancelled by it.
        self._signal = ""
        self._escape = ""
        self._is_behind_return = False
        self._is_at_end = False

    async def read_line(self, prompt: str = "", *, echo: bool = True) -> str:
        """Return the next line with its end, which is a newline; empty at the end of the input.

        Args:
            prompt: shown before it, at a terminal.
            echo: show what is typed; False for passwords.

        Raises:
            trio.BrokenResourceError: the client is gone.

        Cancelled, what there is of the line is kept for the next call.
        """
        pty = self._process.pty
        if pty is None:
            return await self._process.stdin.read_line()
        echo = echo and pty.modes.get(TerminalMode.ECHO, 1) != 0
        keys = _keys_of(pty)
        await self._show(prompt + (_shown(self._line) if echo else ""))
        while True:
            shown: list[str] = []
            if self._ready is None:
                self._ready = self._edit(keys, prompt, shown, echo=echo)
            try:
                if shown:
                    await self._show("".join(shown))
            finally:
                signal, self._signal = self._signal, ""
                if signal:
                    self._process._state.deliver_signal(signal)
            if self._ready is not None:
                line, self._ready = self._ready, None
                return line
            if self._typed:
                continue
            if self._is_at_end:
                return self._take_line("")
            data = await self._process.stdin.receive_some(_READ_BYTES)
            self._is_at_end = not data
            self._typed += self._decoder.decode(data, final=not data)

    async def write(self, text: str) -> None:
        """Show text; at a terminal, each newline returns to the margin, too."""
        await self._show(text if self._process.pty is None else text.replace("\r\n", "\n").replace("\n", "\r\n"))

    async def _show(self, text: str) -> None:
        await self._process.stdout.write(text)

    def _take_line(self, end: str) -> str:
        line, self._line = "".join(self._line), []
        return line + end

    def _edit(self, keys: dict[str, TerminalMode], prompt: str, shown: list[str], *, echo: bool) -> str | None:
        """Look at what was typed, up to the end of a line; return the line, if it has come, or empty for no more.

        It stops as well behind a key that shows more than itself: a client that sends many must take what they show.
        """
        typed, self._typed = self._typed, ""
        for index, key in enumerate(typed):
            if self._is_part_of_escape(key):
                continue
            is_newline_of_return = key == "\n" and self._is_behind_return
            self._is_behind_return = key == "\r"
            if is_newline_of_return:
                continue
            meaning = keys.get(key)
            if key in "\r\n":
                shown.append("\r\n")
                self._typed = typed[index + 1 :]
                return self._take_line("\n")
            if meaning is TerminalMode.VEOF and not self._line:
                self._typed = typed[index + 1 :]
                return ""
            if meaning is not None and meaning in _SIGNALS:
                shown.append(f"{_caret(key)}\r\n{prompt}")
                self._line = []
                self._signal = _SIGNALS[meaning]
                self._typed = typed[index + 1 :]
                return None
            if meaning is TerminalMode.VREPRINT:
                if echo:
                    shown.append(f"{_caret(key)}\r\n{prompt}{_shown(self._line)}")
                self._typed = typed[index + 1 :]
                return None
            if meaning is not None:
                self._erase(meaning, shown, echo=echo)
            elif key == "\t" or unicodedata.category(key) != "Cc":
                self._insert(key, shown, echo=echo)
        return None

    def _is_part_of_escape(self, key: str) -> bool:
        """Pass over what an arrow, or another key without a character, sends: ESC, mostly a ``[``, and a letter."""
        before, self._escape = self._escape, ""
        if not before:
            self._escape = key if key == _ESCAPE else ""
            return key == _ESCAPE
        if before == _ESCAPE and key in "[O":
            self._escape = key
        elif before == "[" and not "@" <= key <= "~":
            self._escape = before  # a number
        return True

    def _insert(self, key: str, shown: list[str], *, echo: bool) -> None:
        if len(self._line) >= LONGEST_LINE:
            shown.append(_BELL)
            return
        self._line.append(key)
        if echo:
            shown.append(_shown([key]))

    def _erase(self, meaning: TerminalMode, shown: list[str], *, echo: bool) -> None:
        count = 0
        match meaning:
            case TerminalMode.VERASE:
                count = min(1, len(self._line))
            case TerminalMode.VKILL:
                count = len(self._line)
            case TerminalMode.VWERASE:
                kept = "".join(self._line).rstrip()
                count = len(self._line) - max(kept.rfind(" "), kept.rfind("\t")) - 1
            case _:
                pass
        if count:
            erased = self._line[-count:]
            del self._line[-count:]
            if echo:
                shown.append("\b \b" * sum(map(_columns, erased)))


def _keys_of(pty: Pty) -> dict[str, TerminalMode]:
    """Return what keys of a client's terminal stand for; 255 is no key."""
    keys = {"\b": TerminalMode.VERASE, "\x7f": TerminalMode.VERASE}
    for mode, usual in _KEYS.items():
        value = pty.modes.get(mode, ord(usual))
        if 0 < value < 128:
            keys[chr(value)] = mode
    return keys


def _caret(key: str) -> str:
    return "^" + chr(ord(key) ^ 0x40)


def _shown(line: list[str]) -> str:
    """Return what a line looks like: a tab is a space, so that it can be erased."""
    return "".join(line).replace("\t", " ")


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
