"""``copy`` does what scp does, says in a line what went wrong, and keeps what Ctrl-C interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

import trio_ssh
from tests.sftp.connected import held_up, noise
from trio_ssh.cli.copy import CannotCopy, Place, Settings, run
from trio_ssh.cli.main import main
from trio_ssh.testing import MemorySFTPServer

ROOT: Final = Path(__file__).parents[2]
KEY: Final = trio_ssh.Ed25519Key.generate()


class Files(trio_ssh.ServerInterface):
    def __init__(self, server: trio_ssh.SFTPServer) -> None:
        self.subsystems = {"sftp": lambda: server}

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if key == KEY.public_key else trio_ssh.AUTH_FAILED


@attrs.frozen
class Shell:
    """What a user has: a home with a key and known_hosts, a folder, and a server."""

    home: Path
    here: Path
    there: Path
    port: int

    def arguments(self, *arguments: str) -> list[str]:
        key = str(self.home / "key")
        return [sys.executable, "-m", "trio_ssh", "copy", "-P", str(self.port), "-i", key, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    async def copy(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return await trio.run_process(
            self.arguments(*arguments),
            cwd=self.here,
            env=self.environment,
            stdin=b"",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            start_new_session=True,  # no terminal to ask on
        )


@asynccontextmanager
async def shell(folder: Path, server: trio_ssh.SFTPServer | None = None) -> AsyncGenerator[Shell, None]:
    home, here, there = folder / "home", folder / "here", folder / "there"
    for path in (home / ".ssh", here, there):
        path.mkdir(parents=True)
    (home / "key").write_bytes(KEY.to_openssh())
    (home / "key").chmod(0o600)
    host_key = trio_ssh.Ed25519Key.generate()
    files = partial(Files, server or trio_ssh.LocalSFTPServer(there))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            serve = partial(trio_ssh.serve_tcp, files, 0, host="127.0.0.1", host_keys=[host_key])
            [listener] = await nursery.start(serve)
            port = listener.socket.getsockname()[1]
            line = f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n"
            (home / ".ssh" / "known_hosts").write_text(line)
            yield Shell(home, here, there, port)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("file", Place("file")),
        ("./a:b", Place("./a:b")),
        ("/a:b", Place("/a:b")),
        (":x", Place(":x")),
        ("host:path", Place("path", "host")),
        ("me@host:/p:q", Place("/p:q", "host", "me")),
        ("me@x@host:", Place(".", "host", "me@x")),
        ("host:~/x", Place("x", "host")),
        ("host:~", Place(".", "host")),
        ("[::1]:x", Place("x", "::1")),
        ("me@[::1]:x", Place("x", "::1", "me")),
    ],
)
def test_places_are_read_as_scp_reads_them(text: str, place: Place) -> None:
    assert Place.parse(text) == place


def test_a_place_without_a_host_is_refused() -> None:
    with pytest.raises(CannotCopy, match="names no host"):
        Place.parse("me@:x")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(source="a", target="b"), "both places are on this machine"),
        (Settings(source="h:a", target="i:b", resume=True), "--resume is for"),
        (Settings(source="me@:a", target="b"), "names no host"),
    ],
)
def test_what_makes_no_sense_is_said(settings: Settings, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings) == 1
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("a",), ("a", "b", "c"), ("-P", "many", "a", "h:b"), ("--fast", "a", "h:b")])
def test_what_is_not_understood_is_answered_with_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["copy", *arguments])
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


async def test_files_and_trees_go_both_ways(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        data = noise(1_000_000)
        (user.here / "file").write_bytes(data)
        (user.here / "tree" / "folder").mkdir(parents=True)
        (user.here / "tree" / "folder" / "one").write_bytes(b"1")
        os.utime(user.here / "tree" / "folder" / "one", (1000, 2000))
        for arguments in (
            ("file", "127.0.0.1:/put"),
            ("127.0.0.1:put", "got"),
            ("127.0.0.1:put", "127.0.0.1:copied"),
            ("-r", "-p", "tree", "127.0.0.1:/"),
            ("-r", "-p", "127.0.0.1:tree", "back"),
            ("127.0.0.1:put", "tree"),
        ):
            done = await user.copy(*arguments)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), arguments
        assert (user.there / "put").read_bytes() == data == (user.here / "got").read_bytes()
        assert (user.there / "copied").read_bytes() == data == (user.here / "tree" / "put").read_bytes()
        assert (user.here / "back" / "folder" / "one").read_bytes() == b"1"
        assert (user.here / "back" / "folder" / "one").stat().st_mtime == 2000


async def test_what_fails_is_said_in_a_line(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        (user.there / "tree").mkdir()
        (user.there / "tree" / "good").write_bytes(b"data")
        os.mkfifo(user.there / "tree" / "fifo")
        cases = {
            ("127.0.0.1:no", "x"): b"no such file",
            ("127.0.0.1:tree", "x"): b"which -r gets as a whole",
            ("no", "127.0.0.1:x"): b"No such file or directory",
            ("-r", "127.0.0.1:tree", "x"): b"neither a file nor a directory",
            ("127.0.0.1:tree/good", "no/x"): b"No such file or directory",
        }
        for arguments, complaint in cases.items():
            done = await user.copy(*arguments)
            assert done.returncode == 1
            assert complaint in done.stderr, arguments
            assert done.stderr.count(b"\n") == 1
        assert (user.here / "x" / "good").read_bytes() == b"data", "of a tree, the rest goes on"
        (user.home / ".ssh" / "known_hosts").write_text("")
        done = await user.copy("127.0.0.1:tree/good", "x")
        assert done.returncode == 1
        assert b"unknown" in done.stderr


async def test_a_passphrase_needs_a_terminal(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        (user.home / "key").write_bytes(KEY.to_openssh("secret"))
        done = await user.copy("127.0.0.1:x", "x")
        assert done.returncode == 1
        assert b"there is no terminal to ask on" in done.stderr


async def test_what_is_interrupted_is_kept_and_continued(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        data = noise(48 * 1024 * 1024)
        (user.there / "file").write_bytes(data)
        part = user.here / ".file.part"
        process = await trio.lowlevel.open_process(
            user.arguments("127.0.0.1:file", "file"), cwd=user.here, env=user.environment, stderr=subprocess.PIPE
        )
        while not part.exists() or part.stat().st_size < 1024 * 1024:  # noqa: ASYNC110  (no event of ours tells)
            await trio.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = b"".join([chunk async for chunk in process.stderr])
        assert await process.wait() == 130, said
        assert said == b"copy: interrupted: kept as .file.part; --resume goes on with it\n"
        assert not (user.here / "file").exists()
        done = await user.copy("--resume", "127.0.0.1:file", "file")
        assert done.returncode == 0
        assert (user.here / "file").read_bytes() == data
        assert not part.exists()


async def interrupted(user: Shell, *arguments: str, when: Callable[[], bool]) -> str:
    """Run the command, press Ctrl-C at a moment, and return what it says."""
    process = await trio.lowlevel.open_process(
        user.arguments(*arguments), cwd=user.here, env=user.environment, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        while not when() and process.poll() is None:  # noqa: ASYNC110  (no event of ours tells)
            await trio.sleep(0.001)
        process.send_signal(signal.SIGINT)
        said = b"".join([chunk async for chunk in process.stderr])
        assert await process.wait() == 130, said
    finally:
        process.kill()
        with trio.move_on_after(5, shield=True):
            await process.wait()
            await process.stderr.aclose()
    return said.decode()


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def inodes(folder: Path) -> dict[str, int]:
    if not folder.exists():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


async def test_a_file_on_its_way_to_the_server_that_is_interrupted_is_kept_and_continued(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        data = noise(96 * 1024 * 1024)
        (user.here / "file").write_bytes(data)
        (user.there / "file").write_bytes(b"old")
        part = user.there / ".file.part"
        # No more than 16 MiB are under way, so some of it is acknowledged then: else nothing would be kept.
        said = await interrupted(user, "file", "127.0.0.1:file", when=lambda: size_of(part) > 17 * 1024 * 1024)
        assert said == "copy: interrupted: kept as .file.part on 127.0.0.1; --resume goes on with it\n"
        assert (user.there / "file").read_bytes() == b"old"
        kept = part.stat()
        done = await user.copy("--resume", "file", "127.0.0.1:file")
        assert (done.returncode, done.stderr) == (0, b"")
        assert (user.there / "file").read_bytes() == data
        assert (user.there / "file").stat().st_ino == kept.st_ino, "it went on with the part"
        assert os.listdir(user.there) == ["file"]


async def test_of_a_file_that_never_arrived_nothing_is_kept_and_nothing_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks may be written in any order: before the first one is acknowledged, what is there has no known start."""
    server = MemorySFTPServer({"/file": b"old"})
    held_up(server, monkeypatch, "write")
    async with shell(tmp_path, server) as user:
        (user.here / "file").write_bytes(noise(1024 * 1024))
        said = await interrupted(user, "file", "127.0.0.1:file", when=lambda: len(server.files) > 1)
        assert said == "copy: interrupted\n"
        assert server.read_bytes("/file") == b"old"


@pytest.mark.parametrize(
    ("way", "target"),
    [("get", "tree"), ("get", "copies/"), ("get", "copies/tree"), ("put", "tree"), ("put", "copies/")],
)
async def test_a_tree_that_is_interrupted_is_continued_where_it_is(way: str, target: str, tmp_path: Path) -> None:
    """And what is complete isn't transferred again, although times were not asked to be kept."""
    async with shell(tmp_path) as user:
        source, copies = (user.there, user.here) if way == "get" else (user.here, user.there)
        (source / "tree" / "tree").mkdir(parents=True)
        for number in range(1500):
            (source / "tree" / str(number)).write_bytes(b"%d" % number * 500)
            os.utime(source / "tree" / str(number), (1000, 2000 + number))
        (source / "tree" / "tree" / "inner").write_bytes(b"inner")
        if target == "copies/tree":
            (copies / "copies").mkdir()
        tree = copies / ("tree" if target == "tree" else "copies/tree")
        places = ("127.0.0.1:tree", target) if way == "get" else ("tree", f"127.0.0.1:{target}")
        said = await interrupted(user, "-r", *places, when=lambda: len(inodes(tree)) > 300)
        where = "" if way == "get" else " on 127.0.0.1"
        path = tree.relative_to(copies)
        assert said == f"copy: interrupted: complete files are kept in {path}{where}; --resume goes on with it\n"
        before = {name: inode for name, inode in inodes(tree).items() if name.isdigit()}
        assert 100 < len(before) < 1500
        done = await user.copy("-r", "--resume", *places)
        assert (done.returncode, done.stderr) == (0, b"")
        after = inodes(tree)
        # What was just being written, and has its name already, may not have its times.
        again = [name for name, inode in before.items() if after[name] != inode]
        assert len(again) <= 64
        expected = {str(number): b"%d" % number * 500 for number in range(1500)}
        assert {name: (tree / name).read_bytes() for name in after if name != "tree"} == expected
        assert os.listdir(tree / "tree") == ["inner"]


async def test_a_tree_that_was_put_into_a_directory_is_continued_by_its_own_name(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        (user.there / "tree").mkdir()
        for number in range(1500):
            (user.there / "tree" / str(number)).write_bytes(b"x" * 500)
        (user.here / "copies").mkdir()
        tree = user.here / "copies" / "tree"
        said = await interrupted(user, "-r", "127.0.0.1:tree", "copies", when=lambda: len(inodes(tree)) > 300)
        kept = "complete files are kept in copies/tree; --resume goes on with it, if copies/tree is the target"
        assert said == f"copy: interrupted: {kept}\n"
        done = await user.copy("-r", "--resume", "127.0.0.1:tree", "copies/tree")
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(inodes(tree)) == 1500
        assert os.listdir(user.here / "copies") == ["tree"]


async def test_a_single_file_is_continued_in_a_directory_as_it_was_begun(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        (user.there / "file").write_bytes(b"whole")
        (user.here / "copies").mkdir()
        (user.here / "copies" / ".file.part").write_bytes(b"who")
        for options in (("--resume",), ("-r", "--resume")):
            done = await user.copy(*options, "127.0.0.1:file", "copies")
            assert (done.returncode, done.stderr) == (0, b"")
            assert (user.here / "copies" / "file").read_bytes() == b"whole"
