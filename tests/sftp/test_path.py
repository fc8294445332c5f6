"""Remote paths: their text is pathlib's, and the rest is asked of the server."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePosixPath
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from tests.sftp.scripted import ScriptedServer, using
from trio_ssh.sftp.pure_path import PureSFTPPath, as_bytes, as_text, decoded, encoded
from trio_ssh.testing import MemorySFTPServer

PATHS = st.text(alphabet="ab./-é\udcff ", max_size=12)


# -- text


@given(PATHS, PATHS)
def test_a_path_is_taken_apart_as_pathlib_does(first: str, second: str) -> None:
    ours, theirs = PureSFTPPath(first, second), PurePosixPath(first, second)
    assert str(ours) == str(theirs) == ours.as_posix()
    assert ours.parts == theirs.parts
    assert (ours.name, ours.stem, ours.suffix, ours.suffixes) == (
        theirs.name,
        theirs.stem,
        theirs.suffix,
        theirs.suffixes,
    )
    assert (ours.root, ours.anchor, ours.is_absolute()) == (theirs.root, theirs.anchor, theirs.is_absolute())
    assert str(ours.parent) == str(theirs.parent)
    assert list(map(str, ours.parents)) == list(map(str, theirs.parents))
    assert str(ours / second) == str(theirs / second) == str(ours.joinpath(second))
    assert str(first / ours) == str(first / theirs)
    assert ours.is_relative_to(first) == theirs.is_relative_to(first)
    assert ours == PureSFTPPath(str(ours))
    assert hash(ours) == hash(PureSFTPPath(str(ours)))
    assert PureSFTPPath(bytes(ours)) == ours


@given(st.binary(max_size=20))
def test_any_bytes_survive_as_text(name: bytes) -> None:
    assert encoded(decoded(name)) == name
    assert as_text(name) == decoded(name)


def test_what_changes_a_name() -> None:
    path = PureSFTPPath("/srv/app.tar.gz")
    assert path.with_name("b") == PureSFTPPath("/srv/b")
    assert path.with_stem("b") == PureSFTPPath("/srv/b.gz")
    assert path.with_suffix("") == PureSFTPPath("/srv/app.tar")
    assert path.relative_to("/srv") == PureSFTPPath("app.tar.gz")
    assert path.match("*.gz")
    assert sorted([PureSFTPPath("b"), PureSFTPPath("a")]) == [PureSFTPPath("a"), PureSFTPPath("b")]
    assert path != PurePosixPath("/srv/app.tar.gz")
    assert repr(path) == "PureSFTPPath('/srv/app.tar.gz')"
    with pytest.raises(ValueError, match="srv"):
        path.relative_to("/etc")
    with pytest.raises(TypeError):
        assert path < 3
    with pytest.raises(TypeError, match="not NoneType"):
        as_bytes(None)  # type: ignore[arg-type]


def test_a_remote_path_opens_no_local_file() -> None:
    assert not hasattr(PureSFTPPath, "__fspath__")
    with pytest.raises(TypeError):
        os.fspath(PureSFTPPath("/etc/passwd"))  # type: ignore[call-overload]


# -- the server


async def test_paths_of_two_sessions_are_two() -> None:
    async with using(MemorySFTPServer()) as sftp, using(MemorySFTPServer()) as other:
        path = sftp.path("/srv") / "app"
        assert path == sftp.path("/srv", b"app")
        assert hash(path) == hash(sftp.path("/srv/app"))
        assert path != other.path("/srv/app")
        assert path != "/srv/app"
        assert isinstance(path.parent, trio_ssh.SFTPPath)
        assert repr(path) == "SFTPPath('/srv/app')"
        assert {path: 1}[sftp.path("/srv/app")] == 1


async def test_looking() -> None:
    async with using(MemorySFTPServer({"/srv/f": b"hello\n"})) as sftp:
        file, folder, nothing = sftp.path("/srv/f"), sftp.path("/srv"), sftp.path("/nothing")
        link, broken = sftp.path("/link"), sftp.path("/broken")
        await link.symlink_to("srv")
        await broken.symlink_to("nothing")
        found = [
            (await path.exists(), await path.is_file(), await path.is_dir(), await path.is_symlink())
            for path in (file, folder, nothing, link, broken)
        ]
        assert found == [
            (True, True, False, False),
            (True, False, True, False),
            (False, False, False, False),
            (True, False, True, True),
            (False, False, False, True),
        ]
        assert await broken.exists(follow_symlinks=False)
        assert (await link.lstat()).is_symlink()
        assert (await link.stat()).is_dir()
        assert (await file.stat()).st_size == 6
        assert await link.readlink() == sftp.path("srv")
        assert await sftp.path("/srv/../srv/./f").resolve() == file
        assert await file.resolve(strict=True) == file
        with pytest.raises(FileNotFoundError):
            await nothing.resolve(strict=True)
        await sftp.chdir("/srv")
        assert await sftp.path("f").absolute() == file
        assert await sftp.path("f").samefile("/srv/f")
        assert not await sftp.path("f").samefile(folder)


async def test_what_cannot_be_looked_at_is_an_error_and_no_answer() -> None:
    storage = MemorySFTPServer({"/f": b""})
    storage.fail_on("/f", PermissionError(errno.EACCES, "no"))
    async with using(storage) as sftp:
        with pytest.raises(PermissionError):
            await sftp.path("/f").exists()


async def test_contents() -> None:
    storage = MemorySFTPServer()
    async with using(storage) as sftp:
        path = sftp.path("/f")
        assert await path.write_text("grüße\n") == 8
        assert await path.read_text() == "grüße\n"
        assert await path.write_bytes(b"\xff") == 1
        assert await path.read_bytes() == b"\xff"
        with pytest.raises(UnicodeDecodeError):
            await path.read_text()
        assert await path.read_text("latin-1") == "\xff"
        async with await path.open("a") as file:
            await file.write(b"x")
        assert storage.read_bytes("/f") == b"\xffx"
        async with await sftp.path("/new").open("w", permissions=0o600):
            pass
        assert stat.S_IMODE((await sftp.stat("/new")).st_mode or 0) == 0o600


async def test_touching() -> None:
    async with using(MemorySFTPServer({"/f": b"keep"})) as sftp:
        await sftp.utime("/f", (1, 1))
        await sftp.path("/f").touch()
        assert ((await sftp.stat("/f")).st_mtime or 0) > 1
        assert await sftp.path("/f").read_bytes() == b"keep"
        await sftp.path("/g").touch(0o600)
        assert stat.S_IMODE((await sftp.stat("/g")).st_mode or 0) == 0o600
        with pytest.raises(FileExistsError):
            await sftp.path("/f").touch(exist_ok=False)
        await sftp.path("/h").touch(exist_ok=False)


async def test_directories() -> None:
    storage = MemorySFTPServer({"/srv/a.txt": b"", "/srv/.b.txt": b"", "/srv/sub/c.txt": b""})
    async with using(storage) as sftp:
        srv = sftp.path("/srv")
        assert sorted([path async for path in srv.iterdir()]) == [srv / ".b.txt", srv / "a.txt", srv / "sub"]
        assert sorted(await srv.glob("*.txt")) == [srv / ".b.txt", srv / "a.txt"]
        assert sorted(await srv.rglob("*.txt")) == [srv / ".b.txt", srv / "a.txt", srv / "sub" / "c.txt"]
        await sftp.chdir("/srv")
        assert await sftp.path("sub").glob("*") == [sftp.path("sub/c.txt")]
        assert sorted(await sftp.path(".").glob("*b*")) == [sftp.path(".b.txt"), sftp.path("sub")]
        for pattern in ("", "/x"):
            with pytest.raises(ValueError, match="relative"):
                await srv.glob(pattern)
        walked = [(path, names, sorted(others)) async for path, names, others in srv.walk()]
        assert walked == [(srv, ["sub"], [".b.txt", "a.txt"]), (srv / "sub", [], ["c.txt"])]
        assert [path async for path, _, _ in srv.walk(top_down=False)] == [srv / "sub", srv]

        await (srv / "new").mkdir(0o700)
        await (srv / "new").mkdir(exist_ok=True)
        with pytest.raises(FileExistsError):
            await (srv / "new").mkdir()
        with pytest.raises(FileExistsError):
            await (srv / "a.txt").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError):
            await (srv / "x" / "y").mkdir()
        await (srv / "x" / "y").mkdir(parents=True)
        await (srv / "x" / "y").mkdir(parents=True, exist_ok=True)
        await (srv / "x" / "y").rmdir()
        assert not await (srv / "x" / "y").exists()


async def test_names() -> None:
    storage = MemorySFTPServer({"/a": b"a", "/b": b"b"})
    async with using(storage) as sftp:
        a, b = sftp.path("/a"), sftp.path("/b")
        with pytest.raises(FileExistsError):
            await a.rename(b)
        assert await a.rename("/c") == sftp.path("/c")
        assert await sftp.path("/c").replace(b) == b
        assert storage.files == {"/b": b"a"}
        await sftp.path("/d").hardlink_to(b)
        await b.chmod(0o400)
        assert stat.S_IMODE((await sftp.path("/d").stat()).st_mode or 0) == 0o400
        await b.unlink()
        await b.unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            await b.unlink()


async def test_every_call_is_a_checkpoint() -> None:
    async with using(ScriptedServer({"f": b"x"})) as sftp:
        path = sftp.path("f")
        calls: list[Any] = [path.exists, path.is_file, path.read_bytes, path.resolve, lambda: path.write_bytes(b"x")]
        for call in calls:
            with trio.testing.assert_checkpoints():
                await call()
