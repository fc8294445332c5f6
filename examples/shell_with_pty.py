"""An interactive shell: a terminal on the other side, and this one in its place.

python shell_with_pty.py                      a server of its own, and a few commands typed by this program
python shell_with_pty.py example.com alice    yours: type `exit` or Ctrl-D to leave
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Generator
from functools import partial

import trio

import trio_ssh


async def use_this_terminal(client: trio_ssh.SSHClient) -> None:
    """Be a terminal, as `ssh` is: every key goes there, and everything comes back here."""
    size = shutil.get_terminal_size()
    channel = await client.invoke_shell(os.environ.get("TERM", "vt100"), size.columns, size.lines)
    with raw_terminal():
        async with channel, trio.open_nursery() as nursery:
            nursery.start_soon(send_keys, channel)
            nursery.start_soon(follow_size, channel)
            async for data in channel:
                os.write(sys.stdout.fileno(), data)
            nursery.cancel_scope.cancel()


async def send_keys(channel: trio_ssh.Channel) -> None:
    """Send what is typed, as it is typed."""
    while True:
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        keys = os.read(sys.stdin.fileno(), 4096)
        if not keys:
            return
        await channel.send_all(keys)


async def follow_size(channel: trio_ssh.Channel) -> None:
    """Tell the other side when the window changes its size."""
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _ in signals:
            size = shutil.get_terminal_size()
            channel.resize_pty(size.columns, size.lines)


@contextlib.contextmanager
def raw_terminal() -> Generator[None]:
    """Leave line editing, echo and Ctrl-C to the terminal on the other side."""
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def type_some_commands(client: trio_ssh.SSHClient) -> None:
    """Use a terminal from a program: what is typed comes back as an echo, as on any terminal."""
    channel = await client.invoke_shell("xterm", width=100, height=30)
    async with channel:
        await channel.send_all(b"echo I am a $TERM of $(stty size)\n")
        shown = bytearray()
        while b"of 30 100" not in shown:
            shown += await channel.receive_some()
        channel.resize_pty(width=132, height=50)
        await channel.send_all(b"exit 7\n")
        shown += await channel.read()
        print(shown.decode().replace("\r\n", "\n"))
        print("the shell's exit status:", await channel.recv_exit_status())


# -- a server to try it on


class Shells(trio_ssh.ServerInterface):
    """Runs shells on this machine for whoever has the key."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    def check_channel_pty_request(self, *args: object, **kwargs: object) -> bool:
        """Grant a terminal to whoever asks; the default doesn't."""
        return True

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Run a shell, or a command."""
        return await trio_ssh.run_local_session(process, shell="/bin/sh")


async def main() -> None:
    """Use the host that was named, or a server on a free port."""
    if len(sys.argv) > 1:
        async with trio_ssh.connect(sys.argv[1], username=sys.argv[2] if len(sys.argv) > 2 else None) as client:
            await use_this_terminal(client)
        return

    host_key, key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    serve = partial(trio_ssh.serve_tcp, partial(Shells, key.public_key), 0, host="127.0.0.1", host_keys=[host_key])
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        async with trio_ssh.connect("127.0.0.1", port, pkey=key, known_hosts=known_hosts) as client:
            await type_some_commands(client)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
