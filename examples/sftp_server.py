"""Two SFTP servers: one of a directory, and one of files that don't exist anywhere.

python sftp_server.py         serve both, use each once, and end
python sftp_server.py DIR     serve a directory until Ctrl-C; then: sftp -P 2222 anyone@127.0.0.1

For nothing but a directory, `python -m trio_ssh serve DIR` does it.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile

import trio

import trio_ssh
from trio_ssh.testing import open_memory_client


class Shout(trio_ssh.SFTPHandle):
    """A file that is its own name, in capitals."""

    def __init__(self, name: str) -> None:
        super().__init__(os.O_RDONLY)
        self._data = f"{name.upper()}!\n".encode()

    async def read(self, offset: int, length: int) -> bytes:
        """Return a part."""
        await trio.lowlevel.checkpoint()
        return self._data[offset : offset + length]

    async def stat(self) -> trio_ssh.SFTPAttributes:
        """Tell how long it is."""
        await trio.lowlevel.checkpoint()
        return trio_ssh.SFTPAttributes(st_size=len(self._data), st_mode=0o100444)


class Shouts(trio_ssh.SFTPServerInterface):
    """Whatever file is asked for, it is there.  What isn't overridden, such as writing, is refused."""

    async def open(self, path: str, flags: int, attr: trio_ssh.SFTPAttributes) -> Shout:
        """Open a file for reading."""
        await trio.lowlevel.checkpoint()
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "you can't outshout this server")
        return Shout(path.rpartition("/")[2])

    async def stat(self, path: str) -> trio_ssh.SFTPAttributes:
        """Tell how long a file is."""
        return await Shout(path.rpartition("/")[2]).stat()


class Server(trio_ssh.ServerInterface):
    """Lets everyone in; a real one overrides `check_auth_password` or `check_auth_publickey` with a check."""

    def __init__(self, files: trio_ssh.SubsystemHandler) -> None:
        self.subsystems = {"sftp": files}

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        """Want no proof."""
        return trio_ssh.AUTH_SUCCESSFUL


async def main() -> None:
    """Serve the directory that was named; or both servers, in memory, and be a client of them."""
    if len(sys.argv) > 1:
        files = trio_ssh.LocalSFTPServer(sys.argv[1])
        key = trio_ssh.Ed25519Key.generate()
        await trio_ssh.serve_tcp(lambda: Server(files), 2222, host="127.0.0.1", host_keys=[key])

    with tempfile.TemporaryDirectory() as name:
        await trio.Path(name, "greeting.txt").write_text("hello\n")
        async with open_memory_client(Server(trio_ssh.LocalSFTPServer(name, read_only=True))) as client:
            sftp = await client.open_sftp()
            print("the directory has", ", ".join(await sftp.listdir(".")))
            try:
                await sftp.remove("greeting.txt")
            except PermissionError as error:
                print("and it is read-only:", error)

    async with open_memory_client(Server(trio_ssh.SFTPServer(Shouts))) as client:
        sftp = await client.open_sftp()
        async with await sftp.open("hello world") as file:
            print("a file that isn't there says", (await file.read()).decode().strip())


if __name__ == "__main__":
    trio.run(main)
