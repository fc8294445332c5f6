"""What ``python -m trio_ssh serve`` prints is true, and the command that it prints works when it is pasted."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

import trio_ssh

pytestmark = pytest.mark.interop

ROOT: Final = Path(__file__).parents[2]


@contextmanager
def served(*arguments: str) -> Iterator[dict[str, str]]:
    """Serve; what was printed, as label -> text."""
    with subprocess.Popen(
        [sys.executable, "-m", "trio_ssh", "serve", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told: dict[str, str] = {}
        try:
            while "Ctrl-C" not in (line := process.stdout.readline()):
                assert line, "it ended before it began"
                told[line[:10].strip()] = line[10:].rstrip("\n")
            yield told
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()


def paste(folder: Path, command: str, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would whose ssh_config is the folder's, and type these lines."""
    program, *arguments = shlex.split(command)
    return subprocess.run(
        [program, "-F", str(folder / "config"), "-b", "-", *arguments],
        cwd=folder,
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_works_when_it_is_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    user, host = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    for name, key in {"id": user, "host": host}.items():
        (tmp_path / name).write_bytes(key.to_openssh())
        (tmp_path / name).chmod(0o600)
    (tmp_path / "authorized_keys").write_text(f"{user.get_name()} {user.get_base64()}\n")
    (tmp_path / "authorized_keys").chmod(0o600)
    (tmp_path / "config").write_text(
        f"IdentityFile {tmp_path}/id\nIdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\n"
        f"UserKnownHostsFile {tmp_path}/known_hosts\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
    )
    shared = (str(folder), "--authorized-keys", str(tmp_path / "authorized_keys"), "--host-key", str(tmp_path / "host"))
    for options, is_read_only in ((("--read-only",), True), ((), False)):
        with served(*shared, *options) as told:
            port = told["try"].split()[2]
            scanned = subprocess.run(
                ["ssh-keyscan", "-t", "ed25519", "-p", port, "127.0.0.1"], capture_output=True, timeout=60, check=True
            ).stdout
            (tmp_path / "known_hosts").write_bytes(scanned)
            shown = subprocess.run(
                ["ssh-keygen", "-lf", str(tmp_path / "known_hosts")],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            assert told["host key"] == f"ssh-ed25519 {shown.split()[1]}"
            got = paste(tmp_path, told["try"], "get file got")
            assert got.returncode == 0, got
            assert (tmp_path / "got").read_bytes() == b"content"
            put = paste(tmp_path, told["try"], "put got new")
            assert (put.returncode != 0) == is_read_only, put
            assert (folder / "new").exists() != is_read_only
            gone = paste(tmp_path, told["try"], "rm file")
            assert (folder / "file").exists() == is_read_only, gone
