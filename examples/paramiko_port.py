"""A program written for paramiko, ported: the names stay, and what waits is awaited.

Each comment is the line as it was.  The rest of the difference: a client's tasks live in its ``async with`` block, and
there are no timeouts to pass, as `trio.fail_after` goes around anything.
"""

# ruff: noqa: ERA001 -- the comments are code, and have to be

from __future__ import annotations

import hmac
import tempfile
from functools import partial
from pathlib import Path

import trio

import trio_ssh


async def ported(port: int, known_hosts: Path) -> None:
    """Do what the first page of paramiko's documentation does."""
    # client = paramiko.SSHClient()
    client = trio_ssh.SSHClient()
    # client.load_host_keys(known_hosts)
    await client.load_host_keys(known_hosts)
    # client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy())

    async with client:
        # client.connect("127.0.0.1", port, username="alice", password="open sesame", timeout=10)
        with trio.fail_after(10):
            await client.connect("127.0.0.1", port, username="alice", password="open sesame")

        # stdin, stdout, stderr = client.exec_command("shout")
        stdin, stdout, stderr = await client.exec_command("shout")
        # stdin.write("hello\nworld\n")
        await stdin.write("hello\nworld\n")
        # stdin.channel.shutdown_write()
        await stdin.aclose()
        # for line in stdout:
        async for line in stdout:
            print("stdout:", repr(line))
        # stderr.read()
        print("stderr:", await stderr.read())
        # stdout.channel.recv_exit_status()
        print("exit status:", await stdout.channel.recv_exit_status())

        # channel = client.get_transport().open_session()
        channel = await client.open_session()
        # channel.exec_command("shout")
        await channel.exec_command("shout")
        # channel.sendall(b"below the client\n"); channel.shutdown_write()
        await channel.send_all(b"below the client\n")
        await channel.send_eof()
        # channel.recv(1024)
        print("channel:", await channel.receive_some(1024))
        # channel.close()
        await channel.aclose()
    # client.close() has happened: the block is left.


# -- a server to try it on


class Shouter(trio_ssh.ServerInterface):
    """Shouts what it is told."""

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        """Compare in constant time."""
        is_right = hmac.compare_digest(password.encode(), b"open sesame")
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Shout, up to EOF."""
        async for line in process.stdin.lines():
            await process.stdout.write(line.upper())
        await process.stderr.write("that was all")
        return 0


async def main(known_hosts: Path) -> None:
    """Serve on a free port, and be a client of it."""
    host_key = trio_ssh.Ed25519Key.generate()
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, Shouter, 0, host="127.0.0.1", host_keys=[host_key])
        [listener] = await nursery.start(serve)
        await ported(listener.socket.getsockname()[1], known_hosts)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "known_hosts")
        file.touch()
        trio.run(main, file)
        print("AutoAddPolicy saved", len(file.read_text(encoding="utf-8").splitlines()), "key")
