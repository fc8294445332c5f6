"""Keep keys in an agent: list them, sign with them, log in by them, and lend them to a session elsewhere.

The agent and the server are this program's own, so that it runs anywhere and changes nothing.  With a running ssh-agent
the first line of `main` would be ``trio_ssh.Agent()``, and ``connect`` would ask it by itself.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import trio

import trio_ssh


class Gate(trio_ssh.ServerInterface):
    """Lets one key in, and shows what the client lends its session."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Decide about a key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    def check_channel_forward_agent_request(self, channel: trio_ssh.Channel) -> bool:
        """Let a session use its client's agent."""
        return True

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """List the keys of the client's agent.  ``agent_socket`` would offer them to programs that run here."""
        async with trio_ssh.Agent(stream=await process.open_agent()) as agent:
            for key in await agent.get_keys():
                await process.stdout.write(f"the session could sign with {key.comment}\n")
        return 0


def may_sign(key: trio_ssh.PublicKey, comment: str) -> bool:
    """Ask the user; this one always says yes."""
    print(f"allowed: a signature by {comment}")
    return True


async def log_in(port: int, known_hosts: trio_ssh.HostKeys, agent_path: Path) -> None:
    """Log in without ever having a private key, and forward the agent."""
    connect = partial(trio_ssh.connect, "127.0.0.1", port, username="alice", known_hosts=known_hosts)
    async with connect(allow_agent=agent_path, look_for_keys=False) as client:
        channel = await client.open_session()
        await channel.request_forward_agent(trio_ssh.forwarded_agent(agent_path))
        await channel.exec_command("list")
        print((await channel.read()).decode(), end="")


async def main() -> None:
    """Run an agent, use it, and log in by it."""
    key = trio_ssh.Ed25519Key.generate("alice@laptop")
    host_key = trio_ssh.Ed25519Key.generate()
    agent_server = trio_ssh.AgentServer(confirm=may_sign)
    serve = partial(trio_ssh.serve_tcp, partial(Gate, key.public_key), 0, host="127.0.0.1", host_keys=[host_key])
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        path = Path(folder, "agent")
        async with trio.open_nursery() as nursery:
            await nursery.start(agent_server.serve_unix, path)
            async with trio_ssh.Agent(path) as agent:
                await agent.add(key, lifetime=3600, confirm=True)
                [held] = await agent.get_keys()
                held.public_key.verify(b"data", await held.sign(b"data"), "ssh-ed25519")
            [listener] = await nursery.start(serve)
            port = listener.socket.getsockname()[1]
            known_hosts = trio_ssh.HostKeys()
            known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
            await log_in(port, known_hosts, path)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
