"""Connect by names that only a configuration knows, through a jump host.

    python examples/ssh_config.py [ALIAS]

With an alias it asks your own ``~/.ssh/config`` and connects; without one it writes a configuration for two servers of
its own, one of which lies behind the other.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import trio

import trio_ssh

Address = tuple[str, int]


async def connect(alias: str, config: trio_ssh.SSHConfig) -> None:
    """Show what the configuration says of a host, and go there."""
    options = await config.lookup(alias)
    print(f"{alias}: {options.user or 'you'}@{options.hostname}:{options.port or 22}")
    if options.proxy_jump:
        print("through:", ", ".join(map(str, options.proxy_jump)))
    async with trio_ssh.connect(alias, config=config) as client:
        done = await client.run_process("hostname", capture_stdout=True)
        print("arrived at:", done.stdout.decode().strip())


# -- the two servers


class Inner(trio_ssh.ServerInterface):
    """The host behind the bastion."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Say where this is."""
        await process.stdout.write("the inner host\n")
        return 0


class Bastion(Inner):
    """Forwards to wherever it is asked to."""

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: Address, destination: Address
    ) -> trio_ssh.OpenResult:
        """Admit everyone who is logged in."""
        return trio_ssh.OPEN_SUCCEEDED

    async def handle_channel(self, channel: trio_ssh.Channel, destination: Address | None) -> None:
        """Carry bytes both ways."""
        assert destination is not None
        async with await trio.open_tcp_stream(*destination) as target, trio.open_nursery() as nursery:
            nursery.start_soon(pump, channel, target)
            nursery.start_soon(pump, target, channel)


async def pump(source: trio.abc.HalfCloseableStream, target: trio.abc.HalfCloseableStream) -> None:
    """Carry bytes one way, up to their end."""
    try:
        async for data in source:
            await target.send_all(data)
        await target.send_eof()
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(target)


async def demonstrate(folder: Path) -> None:
    """Serve as both hosts, write the configuration, and use it."""
    key = trio_ssh.Ed25519Key.generate()
    key.write_private_key_file(folder / "key")
    known_hosts = trio_ssh.HostKeys()
    async with trio.open_nursery() as nursery:
        ports: list[int] = []
        for host in (Bastion, Inner):
            host_key = trio_ssh.Ed25519Key.generate()
            serve = partial(
                trio_ssh.serve_tcp, partial(host, key.public_key), 0, host="127.0.0.1", host_keys=[host_key]
            )
            [listener] = await nursery.start(serve)
            ports.append(listener.socket.getsockname()[1])
            known_hosts.add(f"[127.0.0.1]:{ports[-1]}", None, host_key.public_key)
        await trio.to_thread.run_sync(known_hosts.save, folder / "known_hosts")
        config = await trio_ssh.SSHConfig.from_text(
            f"""
            Host bastion
                Port {ports[0]}
            Host inner
                Port {ports[1]}
                ProxyJump bastion
            Host *
                HostName 127.0.0.1
                User alice
                IdentityFile {folder}/key
                IdentityAgent none
                UserKnownHostsFile {folder}/known_hosts
            """
        )
        await connect("inner", config)
        nursery.cancel_scope.cancel()


async def main() -> None:
    """Connect to the alias that was given, or show what there is to show."""
    if len(sys.argv) > 1:
        await connect(sys.argv[1], await trio_ssh.SSHConfig.load_default())
        return
    with tempfile.TemporaryDirectory() as folder:
        await demonstrate(Path(folder))


if __name__ == "__main__":
    trio.run(main)
