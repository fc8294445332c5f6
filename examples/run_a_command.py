"""Run commands on another machine: arguments, input, output, failures, several at once, and a dialogue.

python run_a_command.py                      a server of its own, on this machine
python run_a_command.py example.com alice    yours: by your keys in ~/.ssh, if it is in your known_hosts
"""

from __future__ import annotations

import sys
from functools import partial

import trio

import trio_ssh


async def run_commands(client: trio_ssh.SSHClient) -> None:
    """Show what a client does with commands."""
    # A sequence is quoted word by word; a str is for the remote shell to take apart.
    done = await client.run_process(["echo", "two words", "semi;colon"], capture_stdout=True)
    print("a sequence:", done.stdout.decode().strip())
    done = await client.run_process("echo $((6 * 7)) | tr 4 9", capture_stdout=True)
    print("a str:", done.stdout.decode().strip())

    done = await client.run_process("sort", stdin=b"pear\napple\nfig\n", capture_stdout=True)
    print("sorted:", done.stdout.decode().split())

    try:
        await client.run_process("echo 'no such disk' >&2; exit 3", capture_stderr=True)
    except trio_ssh.ProcessError as error:
        print("a failure:", error)
    done = await client.run_process("kill -KILL $$", check=False)
    print("a signal:", done.returncode, done.exit_signal)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(partial(client.run_process, f"test {number} -lt 3"))
    print("three at once: all succeeded")

    async with await client.open_process("cat") as process:
        for word in ("ping", "pong"):
            await process.stdin.write(f"{word}\n")
            print("a dialogue:", (await process.stdout.read_line()).strip())
        await process.stdin.aclose()
        print("cat returned", await process.wait())


# -- a server to try it on


class Shells(trio_ssh.ServerInterface):
    """Runs commands on this machine for whoever has the key."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Run what the client asked for."""
        return await trio_ssh.run_local_session(process, shell="/bin/sh")


async def main() -> None:
    """Use the host that was named, or a server on a free port."""
    if len(sys.argv) > 1:
        async with trio_ssh.connect(sys.argv[1], username=sys.argv[2] if len(sys.argv) > 2 else None) as client:
            await run_commands(client)
        return

    host_key, key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    serve = partial(trio_ssh.serve_tcp, partial(Shells, key.public_key), 0, host="127.0.0.1", host_keys=[host_key])
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        async with trio_ssh.connect("127.0.0.1", port, pkey=key, known_hosts=known_hosts) as client:
            await run_commands(client)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
