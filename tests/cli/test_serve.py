"""``serve`` says what it serves, to whom and how to get there; and serves it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

import trio_ssh
from tests.sftp.by_hand import W, session
from trio_ssh.cli import serve
from trio_ssh.cli.main import main
from trio_ssh.sftp.messages import Open
from trio_ssh.sftp.protocol import StatusCode

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "file").write_bytes(b"content")
    return path


@attrs.define
class Served:
    """What was printed, as label -> text, and how to get in."""

    port: int
    lines: list[str]

    @property
    def told(self) -> dict[str, str]:
        return {line[:10].strip(): line[10:] for line in self.lines}

    def connect(
        self, host_key: trio_ssh.PKey, password: str | None = None, pkey: trio_ssh.PKey | None = None
    ) -> trio_ssh.connect:
        """A client that knows the server's key and nothing else."""
        hosts = trio_ssh.HostKeys()
        hosts.add(f"[127.0.0.1]:{self.port}", None, host_key.public_key)
        return trio_ssh.connect(
            "127.0.0.1", self.port, "anyone", password, pkey=pkey, known_hosts=hosts, look_for_keys=False
        )


async def started(nursery: trio.Nursery, settings: serve.Settings) -> Served:
    lines: list[str] = []

    port: int = await nursery.start(partial(serve.serve, settings, lines.append))
    return Served(port, lines)


@pytest.fixture
def host_key(tmp_path: Path) -> trio_ssh.PKey:
    """A key that is kept in a file beside the folder."""
    key = trio_ssh.Ed25519Key.generate()
    path = tmp_path / "host_key"
    path.write_bytes(key.to_openssh())
    path.chmod(0o600)
    return key


async def test_without_more_a_password_is_made_up_and_shown(folder: Path, nursery: trio.Nursery) -> None:
    served = await started(nursery, serve.Settings(folder=str(folder)))
    told = served.told
    assert told["serving"] == f"{folder}, on 127.0.0.1 port {served.port}"
    assert re.fullmatch(r"ssh-ed25519 SHA256:[\w+/]{43}, made for this run", told["host key"])
    assert told["try"] == f"sftp -P {served.port} files@127.0.0.1"
    assert len(told["password"]) >= 20
    assert served.lines[-1] == "Ctrl-C ends it"


async def test_who_knows_the_password_gets_in(
    folder: Path, tmp_path: Path, host_key: trio_ssh.PKey, nursery: trio.Nursery
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("open sesame\r\nnot this\n")
    served = await started(
        nursery,
        serve.Settings(folder=str(folder), password_file=str(passwords), host_key=str(tmp_path / "host_key")),
    )
    assert served.told["password"] == f"the one of {passwords}"
    assert served.told["host key"] == f"ssh-ed25519 {host_key.fingerprint}"
    async with served.connect(host_key, "open sesame") as client, session(client) as hand:
        assert await hand.read("/file") == b"content"
        await hand.write("/new", b"x")
    assert (folder / "new").read_bytes() == b"x"
    for wrong in ("not this", "open sesame\r", ""):
        with pytest.raises(trio_ssh.AuthenticationException):
            async with served.connect(host_key, wrong):
                pass


async def test_who_has_a_key_gets_in_and_changes_nothing_that_is_read_only(
    folder: Path, tmp_path: Path, host_key: trio_ssh.PKey, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    key = trio_ssh.Ed25519Key.generate()
    keys = tmp_path / "authorized_keys"
    keys.write_text(f"{key.get_name()} {key.get_base64()} alice\nnonsense\n")
    keys.chmod(0o600)
    settings = serve.Settings(
        folder=str(folder), authorized_keys=str(keys), host_key=str(tmp_path / "host_key"), read_only=True
    )
    served = await started(nursery, settings)
    assert served.told["serving"] == f"{folder}, read-only, on 127.0.0.1 port {served.port}"
    assert served.told["log in"] == f"by a key of {keys}"
    assert "password" not in served.told
    assert f"a line of authorized_keys lets nobody in: {keys}:2: " in caplog.text
    async with served.connect(host_key, pkey=key) as client:
        async with session(client) as hand:
            assert await hand.read("/file") == b"content"
            refused = await hand.refusal(Open(b"/new", W, trio_ssh.SFTPAttributes()))
            assert refused.code == StatusCode.PERMISSION_DENIED
        with pytest.raises(trio_ssh.RequestRefused):
            await client.run_process("id")
    for stranger in (trio_ssh.Ed25519Key.generate(), None):
        with pytest.raises(trio_ssh.AuthenticationException):
            async with served.connect(host_key, "guess", stranger):
                pass


def test_what_can_t_be_served_is_said_in_a_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    cases = {
        (str(tmp_path / "missing"),): "is no directory: name one that shall be served",
        (str(folder / "file"),): "is no directory",
        ("",): "an empty path is no directory: name one that shall be served",
        (str(folder), "--authorized-keys", str(tmp_path / "missing")): "No such file",
        (str(folder), "--password-file", str(empty)): "the first line, which is the password, is empty",
        (str(folder), "--password-file", str(tmp_path / "missing")): "No such file",
        (str(folder), "--host-key", str(empty)): "empty",
        (str(folder), "--host", "192.0.2.1"): "192.0.2.1 port 0: Cannot assign requested address",
    }
    for arguments, complaint in cases.items():
        assert main(["serve", *arguments]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("can't serve: ")
        assert shown.err.count("\n") == 1
        assert complaint in shown.err


@pytest.mark.parametrize("port", ["-1", "65536", "ssh"])
def test_a_port_is_a_port(port: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["serve", str(folder), f"--port={port}"])
    assert exit_info.value.code == 2
    assert "--port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("127.0.0.2", "127.0.0.2"), ("name", "name")],
)
def test_the_command_to_try_names_what_a_client_can_reach(host: str, shown: str) -> None:
    assert serve._reachable(host) == shown


def test_ctrl_c_ends_it_well(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "trio_ssh", "serve", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "Ctrl-C" not in (line := process.stdout.readline()):
        assert line, "it ended before it began"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out == "\nended\n"


def test_the_secret_is_in_no_repr() -> None:
    assert "hunter2" not in repr(serve.Admission(None, "hunter2"))
