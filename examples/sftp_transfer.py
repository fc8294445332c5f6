"""Transfers: files and trees by SFTP, cut and continued, with a line that says how far they are.

    python sftp_transfer.py

A server on this machine serves a temporary folder, and a client puts files there and gets them back.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import trio

import trio_ssh


class Files(trio_ssh.ServerInterface):
    """Serves a folder to whoever has the key."""

    def __init__(self, folder: Path, key: trio_ssh.PublicKey) -> None:
        self._key = key
        self.subsystems = {"sftp": trio_ssh.LocalSFTPServer(folder)}

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit the one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED


def make_files(folder: Path) -> None:
    """Make something to transfer."""
    (folder / "site" / "pages").mkdir(parents=True)
    for number in range(200):
        (folder / "site" / "pages" / f"{number}.html").write_text(f"<h1>Page {number}</h1>\n")
        (folder / "site" / f"{number}.pyc").write_text("of no use there")
    (folder / "image.iso").write_bytes(os.urandom(32 * 1024 * 1024))


async def transfer(sftp: trio_ssh.SFTPClient, here: Path) -> None:
    """Put and get."""
    with trio_ssh.ProgressLine("image.iso") as progress:
        await sftp.put(here / "image.iso", "image.iso", progress)
    print("put      ", (await sftp.stat("image.iso")).st_size, "bytes")

    await sftp.put(here / "site", "www", recurse=True, preserve=True, exclude=["*.pyc"])
    print("put      ", len(await sftp.listdir("www/pages")), "pages and no", "*.pyc")

    with trio.CancelScope() as scope:

        def stop_halfway(done: int, total: int) -> None:
            if done >= total // 2:
                scope.cancel()

        await sftp.get("image.iso", here / "back.iso", stop_halfway)
    print("cancelled", "with a target" if (here / "back.iso").exists() else "with a part and no target")

    seen: list[int] = []
    await sftp.get("image.iso", here / "back.iso", lambda done, total: seen.append(done), resume=True)
    print("continued", "behind what was there" if seen[0] > 16 * 1024 * 1024 else "at the start")
    print("the same " if (here / "back.iso").read_bytes() == (here / "image.iso").read_bytes() else "different")

    await sftp.copy("www", "www.backup", recurse=True)
    print("copied   ", len(await sftp.listdir("www.backup/pages")), "pages on the server")

    failures: list[Exception] = []
    await sftp.chmod("www/pages/7.html", 0)
    (here / "page").mkdir()
    (here / "page" / "8.html").mkdir()
    await sftp.get("www/pages", here / "page", recurse=True, include=["[7-9].html"], error_handler=failures.append)
    print("failed   ", len(failures) > 0, "and the others are there:", (here / "page" / "9.html").exists())


async def main() -> None:
    """Serve a folder, and be a client of it."""
    host_key, key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    with tempfile.TemporaryDirectory() as name:
        here, there = Path(name) / "here", Path(name) / "there"
        there.mkdir()
        await trio.to_thread.run_sync(make_files, here)
        serve = partial(trio_ssh.serve_tcp, partial(Files, there, key.public_key), 0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(serve, host_keys=[host_key]))
            port = listener.socket.getsockname()[1]
            known_hosts = trio_ssh.HostKeys()
            known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
            async with (
                trio_ssh.connect("127.0.0.1", port, pkey=key, known_hosts=known_hosts) as client,
                await client.open_sftp() as sftp,
            ):
                await transfer(sftp, here)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
