"""A server that gives its users real shells and commands on this machine, with real terminals.

    python local_shell_server.py         serve, use it once, and end
    python local_shell_server.py 2222    serve until Ctrl-C whoever has a key in your ~/.ssh/authorized_keys:
                                         ssh -p 2222 127.0.0.1

Everything runs as the user that this program runs as, whoever logs in: so it admits nobody but that user.
"""

from __future__ import annotations

import getpass
import logging
import sys
from functools import partial
from pathlib import Path

import trio

import trio_ssh


class Shells(trio_ssh.ServerInterface):
    """Runs shells and commands for one user."""

    def __init__(self, keys: trio_ssh.AuthorizedKeys) -> None:
        self._keys = keys

    def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys | None:
        """Admit the keys of one user, and hold each to the options of its line."""
        return self._keys if username == getpass.getuser() else None

    def check_channel_pty_request(self, *args: object, **kwargs: object) -> bool:
        """Grant a terminal to whoever asks; the default doesn't."""
        return True

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        """Accept what sshd accepts in Debian; LD_PRELOAD, PATH or BASH_ENV are ways to run something else."""
        return name == "LANG" or name.startswith("LC_")

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Run a shell, or a command."""
        return await trio_ssh.run_local_session(process)


async def serve_for_ever(port: int, keys: trio_ssh.AuthorizedKeys) -> None:
    """Serve until Ctrl-C."""
    host_key = trio_ssh.Ed25519Key.generate()
    print("serving on 127.0.0.1, host key", host_key.fingerprint)
    await trio_ssh.serve_tcp(partial(Shells, keys), port, host="127.0.0.1", host_keys=[host_key])


async def try_it() -> None:
    """Serve on a free port, and be a client of it."""
    host_key, key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    keys = trio_ssh.AuthorizedKeys.from_text(f"{key.get_name()} {key.get_base64()}")
    serve = partial(trio_ssh.serve_tcp, partial(Shells, keys), 0, host="127.0.0.1", host_keys=[host_key])
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        async with trio_ssh.connect("127.0.0.1", port, pkey=key, known_hosts=known_hosts) as client:
            done = await client.run_process("echo $LC_NAME", env={"LC_NAME": "a variable"}, capture_stdout=True)
            print("accepted:", done.stdout.decode().strip())
            try:
                await client.run_process("true", env={"LD_PRELOAD": "/tmp/trap.so"})
            except trio_ssh.RequestRefused as error:
                print("not accepted:", error)
            for term in (None, "xterm"):
                done = await client.run_process("tty >/dev/null || echo no terminal", term=term, capture_stdout=True)
                print(f"with term={term!r}:", done.stdout.decode().strip() or "a terminal")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        logging.basicConfig(level=logging.INFO)
        authorized_keys = Path("~/.ssh/authorized_keys").expanduser()
        trio.run(serve_for_ever, int(sys.argv[1]), trio_ssh.AuthorizedKeys.load(authorized_keys))
    else:
        trio.run(try_it)
