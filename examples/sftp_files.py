"""Files on a server: paths, lines, pieces, trees, and what goes wrong.

The server is in this process and its files are in memory, so that the example needs nothing.  In a program of yours
the client comes from `trio_ssh.connect`, and all the rest is the same.
"""

from __future__ import annotations

import os

import trio

import trio_ssh
from trio_ssh.testing import MemorySFTPServer, open_memory_client


async def paths(sftp: trio_ssh.SFTPClient) -> None:
    """Pathlib's names, awaited."""
    app = sftp.path("/srv") / "app"
    await app.mkdir(parents=True)
    config = app / "config.ini"
    await config.write_text("port = 8080\n")
    print(config, "says", (await config.read_text()).strip())
    print("there are", sorted([path.name async for path in sftp.path("/srv").iterdir()]))
    print("logs:", await sftp.path("/srv").glob("**/*.log"))


async def files(sftp: trio_ssh.SFTPClient) -> None:
    """Python's binary files, awaited.  Reading goes ahead, and writing behind, as far as it may."""
    async with await sftp.open("/srv/log/app.log", "a") as log:
        for number in range(3):
            await log.write(b"line %d\n" % number)

    async with await sftp.open("/srv/log/app.log") as log:
        async for line in log:
            print("read", line)
        await log.seek(-7, os.SEEK_END)
        print("the end is", await log.read())
        # Many pieces cost one round trip together.
        print("pieces:", [piece async for piece in log.readv([(0, 4), (8, 6), (16, 100)])])


async def trees(sftp: trio_ssh.SFTPClient) -> None:
    """os.walk and shutil.rmtree, awaited."""
    async for directory, _, names in sftp.walk("/srv"):
        print(f"{directory}: {', '.join(sorted(names)) or 'no files'}")
    await sftp.rmtree("/srv/app")


async def errors(sftp: trio_ssh.SFTPClient) -> None:
    """Errors are Python's own, and name the remote path."""
    try:
        await sftp.open("/srv/app/config.ini")
    except FileNotFoundError as error:
        print("no such file:", error.filename)
    try:
        await sftp.mkdir("/srv/log")
    except FileExistsError as error:
        print("there already:", error.filename)


async def main() -> None:
    """Serve and use it."""
    storage = MemorySFTPServer({"/srv/log/app.log": b"started\n"})

    class Server(trio_ssh.ServerInterface):
        subsystems = {"sftp": storage}  # noqa: RUF012 -- nobody changes it

        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL

    async with open_memory_client(Server()) as client, await client.open_sftp() as sftp:
        await paths(sftp)
        await files(sftp)
        await trees(sftp)
        await errors(sftp)


if __name__ == "__main__":
    trio.run(main)
