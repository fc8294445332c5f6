"""A server in a screenful: a password, a banner, and a session that answers.

python greeter_server.py         serve, use it once, and end
python greeter_server.py 2222    serve until Ctrl-C; then: ssh -p 2222 anyone@127.0.0.1, password "open sesame"
"""

from __future__ import annotations

import hmac
import sys
from functools import partial

import trio

import trio_ssh


class Greeter(trio_ssh.ServerInterface):
    """Greets whoever knows the password.  Every connection has an instance of its own."""

    def get_banner(self) -> str:
        """Tell everyone who comes, before they log in."""
        return "The password is not 'friend'.\n"

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        """Compare in constant time."""
        is_right = hmac.compare_digest(password.encode(), b"open sesame")
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Serve `ssh host` and `ssh host some words`; the result is the exit status."""
        await process.stdout.write(f"Hello {process.username}!\n")
        if process.command is not None:
            await process.stdout.write(f"You said: {process.command}\n")
            return 0
        async for line in process.stdin.lines():
            if line.strip() == "bye":
                return 0
            await process.stdout.write(f"You said: {line}")
        await process.stderr.write("You left without a word.\n")
        return 1


async def main() -> None:
    """Serve on the port that was named; or on a free one, and be a client of it."""
    # A real server keeps its key: trio_ssh.load_private_key_file("/etc/my_server/host_key").
    host_key = trio_ssh.Ed25519Key.generate()
    if len(sys.argv) > 1:
        await trio_ssh.serve_tcp(Greeter, int(sys.argv[1]), host="127.0.0.1", host_keys=[host_key])

    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, Greeter, 0, host="127.0.0.1", host_keys=[host_key])
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        async with trio_ssh.connect(
            "127.0.0.1", port, "alice", "open sesame", known_hosts=known_hosts, look_for_keys=False
        ) as client:
            transport = client.get_transport()
            assert transport is not None
            print("banner:", transport.get_banner())
            done = await client.run_process("good morning", capture_stdout=True)
            print(done.stdout.decode())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
