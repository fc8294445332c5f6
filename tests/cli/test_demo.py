"""The demo shows what it promises, and says so when it can't."""

from __future__ import annotations

import re

import pytest
import trio

import trio_ssh
from trio_ssh.cli import demo
from trio_ssh.cli.main import main

LABELS = [
    "server",
    "unknown host",
    "changed host",
    "wrong user",
    "login",
    "stdin",
    "exit status",
    "at once",
    "timeout",
    "download",
    "upload",
    "rates",
]


def run_quickly() -> int:
    return main(["demo", "--seconds", "0.01"])


def test_the_demo_tells_in_a_dozen_aligned_lines_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_quickly() == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    first, *lines, last = shown.out.splitlines()
    assert first.startswith("trio_ssh ")
    assert last == "all of it worked"
    assert [line[2:16].rstrip() for line in lines] == LABELS
    assert all(line[:2] == "  " and line[15] == " " and line[16] != " " for line in lines)
    assert max(map(len, lines)) <= 120
    told = dict(zip(LABELS, lines, strict=True))
    assert re.search(r"SHA256:[\w+/]{43}$", told["server"])
    assert "publickey" in told["wrong user"]
    assert "exit status 3" in told["exit status"]
    assert "the disk is full" in told["exit status"]


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ("sort", "stdin"),
        ("fail", "exit status"),
        ("drain", "upload"),
    ],
)
def test_a_server_that_does_something_else_fails_the_demo(
    broken: str, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = demo.DemoServer.handle_session

    async def handle_session(self: demo.DemoServer, process: trio_ssh.ServerProcess) -> int:
        if process.command != broken:
            return await honest(self, process)
        while await process.stdin.receive_some():
            pass
        await process.stdout.write("0")
        return 0

    monkeypatch.setattr(demo.DemoServer, "handle_session", handle_session)
    assert run_quickly() == 1
    shown = capsys.readouterr()
    assert re.fullmatch(rf"the demo failed at '{step}': DemoFailure: .+\n", shown.err)
    assert "all of it worked" not in shown.out


def test_a_server_that_lets_everyone_in_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check_auth_publickey(self: demo.DemoServer, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    monkeypatch.setattr(demo.DemoServer, "check_auth_publickey", check_auth_publickey)
    assert run_quickly() == 1
    assert "the demo failed at 'wrong user': DemoFailure" in capsys.readouterr().err


def test_an_exception_is_told_with_the_step_that_it_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def open_tcp_listeners(*args: object, **kwargs: object) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("no port is free")

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)
    assert run_quickly() == 1
    assert capsys.readouterr().err == "the demo failed at 'start': OSError: no port is free\n"


def test_an_interrupt_ends_the_demo_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def sort(self: demo.Demo, client: trio_ssh.SSHClient) -> str:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.Demo, "_sort", sort)
    assert run_quickly() == 130
    assert capsys.readouterr().err == "interrupted\n"
