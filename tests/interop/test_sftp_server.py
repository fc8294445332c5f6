"""Everyone's SFTP clients, at a directory that we serve."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncssh
import attrs
import paramiko
import pytest
import trio

import trio_ssh
from tests.interop.peers import LetsAnyoneIn, Ssh

pytestmark = pytest.mark.interop

SIZES = (0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 1_000_003)
ODD_NAMES = (b"with\nnewline", b"caf\xe9", b"x" * 255, b" ", b"-rf", "\N{SNOWMAN}".encode(), b"q\"uo'te")


Macs = Sequence[str] | None

#: What curl's library can do, besides the default.
OLD_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256")


@attrs.frozen
class Site:
    """A directory that is served, another beside it for the client, and what runs clients.

    Attributes:
        served, local: the two directories.
    """

    ssh: Ssh
    served: Path
    local: Path

    @property
    def port(self) -> int:
        return self.ssh.port

    async def sftp(self, *lines: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run OpenSSH's sftp by a batch of commands."""
        batch = "".join(f"{line}\n" for line in lines).encode()
        command = self.ssh.command("-q", "-b", "-", "server", program="sftp")
        done = await self.ssh.run_command(["env", "-C", os.fspath(self.local), *command], stdin=batch)
        if check:
            assert done.returncode == 0, done
        return done

    async def scp(self, *arguments: str) -> None:
        command = self.ssh.command("-q", "-s", *arguments, program="scp")
        done = await self.ssh.run_command(["env", "-C", os.fspath(self.local), *command])
        assert done.returncode == 0, done

    async def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        done = await self.ssh.run_command(["env", "-C", os.fspath(self.local), *command])
        assert done.returncode == 0, done
        return done


class Files(LetsAnyoneIn):
    """Serves a directory to everyone, with a password too: some clients don't know that none may be needed."""

    def __init__(self, files: trio_ssh.SubsystemHandler) -> None:
        self.subsystems = {"sftp": lambda: files}

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if password == "secret" else trio_ssh.AUTH_FAILED


async def begin(
    ssh: Ssh, nursery: trio.Nursery, tmp_path: Path, factory: Callable[[Path], Files], macs: Sequence[str] | None = None
) -> Site:
    served, local = tmp_path / "served", tmp_path / "local"
    served.mkdir()
    local.mkdir()
    await ssh.serve(nursery, lambda: factory(served), macs=macs)
    return Site(ssh, served, local)


@pytest.fixture
async def site(ssh: Ssh, nursery: trio.Nursery, tmp_path: Path) -> Site:
    return await begin(ssh, nursery, tmp_path, lambda served: Files(trio_ssh.LocalSFTPServer(served)), macs=OLD_MACS)


def fill(folder: Path) -> None:
    """Make files of every size, odd names, and a deep tree."""
    for size in SIZES:
        (folder / f"size {size}").write_bytes(os.urandom(size))
    deep = folder
    for depth in range(20):
        deep = deep / f"depth {depth}"
        deep.mkdir()
        (deep / "file").write_bytes(b"%d" % depth)
    (folder / "empty").mkdir()
    odd = folder / "odd"
    odd.mkdir()
    for name in ODD_NAMES:
        (odd / os.fsdecode(name)).write_bytes(name)


def digests(folder: Path) -> dict[str, str]:
    """What is in a tree: relative path -> digest."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = os.fspath(path.relative_to(folder))
        found[name] = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# -- OpenSSH


async def test_sftp_s_commands_do_what_they_say(site: Site) -> None:
    content = os.urandom(100_000)
    (site.local / "a").write_bytes(content)
    done = await site.sftp(
        "put a",
        "mkdir folder",
        "put a folder/b",
        "rename a renamed",
        "ln -s folder/b soft",
        "ln renamed hard",
        "chmod 640 renamed",
        "get soft through",
        "copy folder/b folder/copied",
        "df",
        "df -i",
        "ls -ln",
        "ls folder",
        "rm soft",
        "cd folder",
        "pwd",
        "lcd ..",
        "ls -la ..",
    )
    assert (site.local / "through").read_bytes() == content
    assert (site.served / "folder" / "copied").read_bytes() == content
    assert (site.served / "renamed").stat().st_mode & 0o777 == 0o640
    assert (site.served / "hard").samefile(site.served / "renamed")
    assert sorted(os.listdir(site.served)) == ["folder", "hard", "renamed"]
    assert b"Remote working directory: /folder" in done.stdout
    assert b"%Capacity" in done.stdout


async def test_sftp_goes_on_where_it_stopped(site: Site) -> None:
    content = os.urandom(3_000_000)
    (site.local / "up").write_bytes(content)
    (site.served / "up").write_bytes(content[:1_000_001])
    (site.served / "down").write_bytes(content)
    (site.local / "down").write_bytes(content[:999_999])
    await site.sftp("reput up", "reget down")
    assert (site.served / "up").read_bytes() == content
    assert (site.local / "down").read_bytes() == content


async def test_sftp_keeps_times_and_modes_where_it_is_told_to(site: Site) -> None:
    (site.local / "a").write_bytes(b"a")
    (site.local / "a").chmod(0o751)
    os.utime(site.local / "a", (10**9, 11 * 10**8))
    await site.sftp("put -p a", "get -p a b", "put -f a synced")
    for path in (site.served / "a", site.local / "b"):
        assert (path.stat().st_mtime, path.stat().st_mode & 0o777) == (11 * 10**8, 0o751)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("get missing", b'File "/missing" not found.'),
        ("rm missing", b"No such file or directory"),
        ("rmdir folder", b"Failure"),
        ("mkdir folder", b"Failure"),
        ("put a missing/a", b"No such file or directory"),
        ("ls ../../../etc/passwd", b"not found"),
    ],
)
async def test_sftp_is_told_what_went_wrong(site: Site, line: str, complaint: bytes) -> None:
    (site.local / "a").write_bytes(b"a")
    (site.served / "folder").mkdir()
    (site.served / "folder" / "file").write_bytes(b"")
    done = await site.sftp(line, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr + done.stdout


async def test_sftp_is_told_of_a_server_that_is_read_only(ssh: Ssh, nursery: trio.Nursery, tmp_path: Path) -> None:
    site = await begin(ssh, nursery, tmp_path, lambda served: Files(trio_ssh.LocalSFTPServer(served, read_only=True)))
    (site.served / "a").write_bytes(b"a")
    await site.sftp("get a")
    done = await site.sftp("put a b", check=False)
    assert b"Permission denied" in done.stderr
    assert os.listdir(site.served) == ["a"]


async def test_a_tree_goes_there_and_back_by_sftp(site: Site) -> None:
    tree = site.local / "tree"
    tree.mkdir()
    fill(tree)
    await site.sftp("put -R tree", "get -R tree back")
    assert digests(site.served / "tree") == digests(tree)
    assert digests(site.local / "back") == digests(tree)


async def test_a_tree_goes_there_and_back_by_scp(site: Site) -> None:
    tree = site.local / "tree"
    tree.mkdir()
    fill(tree)
    await site.scp("-r", "-p", "tree", "server:/there")
    await site.scp("-r", "server:there", "back")
    assert digests(site.served / "there") == digests(tree)
    assert digests(site.local / "back") == digests(tree)
    assert (site.served / "there" / "size 1").stat().st_mtime == int((tree / "size 1").stat().st_mtime)


async def test_a_sparse_gigabyte_goes_there_and_back(site: Site) -> None:
    marks = {0: b"begin", 2**29 + 12_345: b"middle", 2**30 - 3: b"end"}
    with (site.local / "big").open("wb") as file:
        for offset, mark in marks.items():
            file.seek(offset)
            file.write(mark)
    await site.sftp("put big", "get big back")
    for path in (site.served / "big", site.local / "back"):
        assert path.stat().st_size == 2**30
        with path.open("rb") as file:
            for offset, mark in marks.items():
                file.seek(offset)
                assert file.read(len(mark)) == mark
    await site.run("cmp", "big", "back")


async def test_ten_thousand_files_are_listed_and_fetched(site: Site) -> None:
    many = site.served / "many"
    many.mkdir()
    for number in range(10_000):
        (many / f"file {number:05d}").write_bytes(b"%d" % number)
    done = await site.sftp("ls -1 many")
    assert done.stdout.count(b"many/file ") == 10_000
    await site.scp("-r", "server:many", "fetched")
    assert digests(site.local / "fetched") == digests(many)


async def test_the_lines_of_a_listing_are_those_of_openssh_s_server(site: Site) -> None:
    for mode, name in ((0o644, "file"), (0o4755, "setuid"), (0o600, "a name with spaces")):
        (site.served / name).write_bytes(b"x" * mode)
        (site.served / name).chmod(mode)
    os.utime(site.served / "file", (0, 10**9))
    (site.served / "folder").mkdir()
    (site.served / "link").symlink_to("file")
    ours = await site.sftp("ls -la")
    theirs = await site.run(
        "sh", "-c", f"printf 'ls -la {site.served}\\n' | sftp -q -b - -D /usr/lib/openssh/sftp-server"
    )
    wanted = {line.replace(os.fsencode(site.served) + b"/", b"") for line in theirs.stdout.splitlines()}
    shown = {line.strip() for line in ours.stdout.splitlines() if b"sftp>" not in line}
    assert shown
    assert shown <= {line.strip() for line in wanted}


# -- others


async def test_lftp_mirrors_both_ways(site: Site) -> None:
    tree = site.local / "tree"
    tree.mkdir()
    fill(tree)
    shutil.rmtree(tree / "odd")  # it has ideas of its own about names
    command = " ".join(site.ssh.command("-a", "-x"))
    script = (
        f'set sftp:connect-program "{command}"; set sftp:auto-confirm yes; set net:max-retries 1;'
        "open sftp://alice:secret@server; mirror -R tree there; mirror there back; ls; bye"
    )
    await site.run("lftp", "-c", script)
    assert digests(site.served / "there") == digests(tree)
    assert digests(site.local / "back") == digests(tree)


async def test_curl_fetches_and_stores(site: Site) -> None:
    content = os.urandom(3_000_000)
    (site.local / "a").write_bytes(content)
    url = f"sftp://127.0.0.1:{site.port}"
    options = ("curl", "-sS", "--insecure", "-u", "alice:secret")
    await site.run(*options, "-T", "a", f"{url}/b")
    await site.run(*options, "-o", "back", f"{url}/b")
    await site.run(*options, "-o", "part", "-r", "1000-1999", f"{url}/b")
    done = await site.run(*options, "-Q", "rename /b /c", f"{url}/")
    assert b" c\n" in done.stdout
    assert (site.served / "c").read_bytes() == content
    assert (site.local / "back").read_bytes() == content
    assert (site.local / "part").read_bytes() == content[1000:2000]


async def test_rclone_syncs_and_checks(site: Site) -> None:
    tree = site.local / "tree"
    tree.mkdir()
    fill(tree)
    (tree / "odd" / os.fsdecode(b"caf\xe9")).unlink()
    (tree / "odd" / "with\nnewline").unlink()
    password = (await site.run("rclone", "obscure", "secret")).stdout.decode().strip()
    remote = f":sftp,host=127.0.0.1,port={site.port},user=alice,pass={password},shell_type=none:"
    await site.run("rclone", "--config=", "sync", "--create-empty-src-dirs", "tree", remote + "there")
    await site.run("rclone", "--config=", "check", "--download", "tree", remote + "there")
    await site.run("rclone", "--config=", "moveto", remote + "there/size 1", remote + "moved")
    await site.run("rclone", "--config=", "sync", "--create-empty-src-dirs", remote + "there", "back")
    (tree / "size 1").unlink()
    assert digests(site.local / "back") == digests(tree)
    assert (site.served / "moved").stat().st_size == 1


async def test_psftp_works_by_a_batch(site: Site) -> None:
    (site.local / "a").write_bytes(os.urandom(300_000))
    (site.local / "batch").write_text("put a b\nget b c\nmkdir d\nmv b d/b\nchmod 600 d/b\nls d\nquit\n")
    key = site.ssh.host_keys.load("ed25519").public_key.fingerprint
    await site.run(
        "psftp", "-batch", "-hostkey", key, "-P", str(site.port), "-pw", "secret", "-b", "batch", "alice@127.0.0.1"
    )
    assert (site.local / "c").read_bytes() == (site.local / "a").read_bytes()
    assert (site.served / "d" / "b").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this machine mounts nothing by FUSE")
async def test_sshfs_is_a_file_system(site: Site) -> None:
    tree, mounted = site.local / "tree", site.local / "mounted"
    tree.mkdir()
    mounted.mkdir()
    fill(tree)
    command = " ".join(site.ssh.command())
    await site.run("sshfs", "-o", f"ssh_command={command},dir_cache=no", "alice@server:/", str(mounted))
    try:
        await site.run("cp", "-a", "tree", "mounted/there")
        assert digests(site.served / "there") == digests(tree)
        await site.run("diff", "-r", "tree", "mounted/there")
        # Random access, appending, cutting, replacing by a rename, and links.
        await site.run("dd", "if=/dev/zero", "of=mounted/there/size 1", "bs=1", "count=3", "seek=70000", "conv=notrunc")
        assert (site.served / "there" / "size 1").stat().st_size == 70_003
        await site.run("sh", "-c", "printf more >> 'mounted/there/size 0'; truncate -s 10 'mounted/there/size 1'")
        assert (site.served / "there" / "size 0").read_bytes() == b"more"
        assert (site.served / "there" / "size 1").stat().st_size == 10
        await site.run("mv", "mounted/there/size 0", "mounted/there/size 1")
        assert (site.served / "there" / "size 1").read_bytes() == b"more"
        await site.run("ln", "-s", "there/size 1", "mounted/link")
        assert os.readlink(site.served / "link") == "there/size 1"
        await site.run("cat", "mounted/link")
        await site.run("rm", "-r", "mounted/there", "mounted/link")
        assert os.listdir(site.served) == []
    finally:
        with trio.CancelScope(shield=True):
            await site.run("fusermount3", "-u", str(mounted))


async def test_paramiko_does_all_that_it_can(site: Site) -> None:
    content = os.urandom(1_000_000)
    (site.local / "a").write_bytes(content)

    def work() -> None:
        with paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            client.connect(
                "127.0.0.1", site.port, "alice", "secret", allow_agent=False, look_for_keys=False, timeout=30
            )
            with client.open_sftp() as sftp:
                sftp.put(os.fspath(site.local / "a"), "/b")
                sftp.get("b", os.fspath(site.local / "c"))
                sftp.mkdir("d", 0o700)
                sftp.rename("b", "d/b")
                sftp.posix_rename("d/b", "d/c")
                sftp.symlink("c", "d/soft")
                assert sftp.readlink("d/soft") == "c"
                assert sftp.normalize("d/../d/soft") == "/d/c"
                sftp.chmod("d/c", 0o600)
                sftp.utime("d/c", (1, 2))
                sftp.truncate("d/c", 999_999)
                assert sftp.stat("d/c").st_mtime is not None
                assert [entry.filename for entry in sorted(sftp.listdir_attr("d"), key=str)]
                with sftp.open("d/c") as file:
                    file.prefetch()
                    assert file.read() == content[:-1]
                    assert file.check("sha256") == hashlib.sha256(content[:-1]).digest()
                    assert len(file.check("md5", 0, 0, 256 * 1024)) == 4 * 16
                    assert file.readv([(5, 7), (900_000, 3)])
                for call, path in ((sftp.stat, "/missing"), (sftp.open, "/missing")):
                    with pytest.raises(FileNotFoundError):
                        call(path)
                sftp.remove("d/soft")
                sftp.remove("d/c")
                sftp.rmdir("d")

    await trio.to_thread.run_sync(work)
    assert (site.local / "c").read_bytes() == content
    assert os.listdir(site.served) == []


async def test_asyncssh_does_all_that_it_can(site: Site) -> None:
    tree = site.local / "tree"
    tree.mkdir()
    fill(tree)

    async def work() -> None:
        async with (
            asyncssh.connect(
                "127.0.0.1",
                site.port,
                username="alice",
                password="secret",
                known_hosts=None,
                client_keys=None,
                config=[],
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            await sftp.put(os.fspath(tree), "/there", recurse=True)
            await sftp.get("/there", os.fspath(site.local / "back"), recurse=True)
            assert (await sftp.statvfs("/")).bsize > 0
            await sftp.link("/there/size 1", "/hard")
            await sftp.posix_rename("/hard", "/there/size 0")
            assert (await sftp.stat("/there/size 0")).size == 1
            await sftp.remote_copy("/there/size 1000003", "/copied")
            async with sftp.open("/copied", "rb+") as file:
                await file.fsync()
            assert await sftp.realpath("/there/../copied") == "/copied"
            assert len(await sftp.glob("/there/size*")) == len(SIZES)
            await sftp.rmtree("/there")

    await trio.to_thread.run_sync(asyncio_run, work)
    assert digests(site.local / "back") == digests(tree)
    assert (site.served / "copied").read_bytes() == (tree / "size 1000003").read_bytes()
    assert os.listdir(site.served) == ["copied"]


def asyncio_run(function: Callable[[], object]) -> None:
    import asyncio  # noqa: PLC0415 -- only here

    asyncio.run(function())  # type: ignore[arg-type]
