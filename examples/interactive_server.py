"""A server to talk to: a prompt, lines that can be edited as they are typed, and a line for each answer.

python interactive_server.py         serve, use it once, and end
python interactive_server.py 2222    serve until Ctrl-C; then: ssh -p 2222 anyone@127.0.0.1
"""

from __future__ import annotations

import sys
from functools import partial

import trio

import trio_ssh


class Adder(trio_ssh.ServerInterface):
    """Adds up what is typed, for anybody: it is no secret."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        """Let everyone in."""
        return trio_ssh.AUTH_SUCCESSFUL

    def check_channel_pty_request(self, channel: trio_ssh.Channel, term: str, *size: object, **more: object) -> bool:
        """Let everyone have a terminal; without one, lines are read as they come."""
        return True

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Ask for numbers up to Ctrl-D.  Ctrl-C ends the session, as this asks for no signals."""
        editor = trio_ssh.LineEditor(process)
        total = 0.0
        while line := await editor.read_line("number> "):
            try:
                total += float(line or 0)
            except ValueError:
                await editor.write(f"{line.strip()!r} is no number.\n")
        await editor.write(f"\nIn all, {total:g}.\n")
        return 0


async def use_it(port: int, known_hosts: trio_ssh.HostKeys) -> None:
    """Type at a terminal, mistakes included."""
    async with trio_ssh.connect(
        "127.0.0.1", port, "alice", known_hosts=known_hosts, look_for_keys=False, allow_agent=False
    ) as client:
        keys = b"20\rfour\r21\x7f2\r\x04"  # a word that is no number, and a digit that was erased
        done = await client.run_process("add", stdin=keys, term="xterm", capture_stdout=True)
        print(done.stdout.decode().replace("\r\n", "\n").replace("\b \b", "<erased>"))


async def main() -> None:
    """Serve on the port that was named; or on a free one, and be a client of it."""
    host_key = trio_ssh.Ed25519Key.generate()
    if len(sys.argv) > 1:
        await trio_ssh.serve_tcp(Adder, int(sys.argv[1]), host="127.0.0.1", host_keys=[host_key])

    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, Adder, 0, host="127.0.0.1", host_keys=[host_key])
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        await use_it(port, known_hosts)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
