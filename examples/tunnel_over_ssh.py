"""A connection inside a connection: SSH to a host that only a bastion can reach.

`open_tcp_stream` returns a trio stream, so whatever takes a trio stream goes over it: TLS, HTTP, a database's protocol,
or SSH again.  The bastion sees nothing of what it forwards but bytes.
"""

from __future__ import annotations

from functools import partial

import trio

import trio_ssh

Address = tuple[str, int]


async def use_the_tunnel(bastion_port: int, inner: Address, known_hosts: trio_ssh.HostKeys, key: trio_ssh.PKey) -> None:
    """Connect to the bastion, and through it."""
    async with trio_ssh.connect("127.0.0.1", bastion_port, pkey=key, known_hosts=known_hosts) as bastion:
        stream = await bastion.open_tcp_stream(*inner)
        # The host's key is looked up under the name that is given here; no name is resolved and no socket opened.
        async with trio_ssh.connect("inner.example", pkey=key, known_hosts=known_hosts, sock=stream) as client:
            done = await client.run_process("hostname", capture_stdout=True)
            print("inside:", done.stdout.decode())
        try:
            await bastion.open_tcp_stream("127.0.0.1", 25)
        except trio_ssh.ChannelException as error:
            print("elsewhere:", error)


# -- the bastion, and the host behind it


class Inner(trio_ssh.ServerInterface):
    """The host behind the bastion."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Say where this is."""
        await process.stdout.write("inner.example")
        return 0


class Bastion(trio_ssh.ServerInterface):
    """Forwards to one place, and runs nothing."""

    def __init__(self, key: trio_ssh.PublicKey, inner: Address) -> None:
        self._key = key
        self._inner = inner

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: Address, destination: Address
    ) -> trio_ssh.OpenResult:
        """Forward to the one place."""
        if destination != self._inner:
            return trio_ssh.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return trio_ssh.OPEN_SUCCEEDED

    async def handle_channel(self, channel: trio_ssh.Channel, destination: Address | None) -> None:
        """Carry bytes both ways until both sides have said that they are done."""
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
        await trio.aclose_forcefully(target)  # one side is gone; so is the tunnel


async def main() -> None:
    """Serve as both hosts, and be the client."""
    key = trio_ssh.Ed25519Key.generate()
    bastion_key, inner_key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    async with trio.open_nursery() as nursery:
        serve_inner = partial(
            trio_ssh.serve_tcp, partial(Inner, key.public_key), 0, host="127.0.0.1", host_keys=[inner_key]
        )
        [listener] = await nursery.start(serve_inner)
        inner = ("127.0.0.1", listener.socket.getsockname()[1])
        serve_bastion = partial(
            trio_ssh.serve_tcp, partial(Bastion, key.public_key, inner), 0, host="127.0.0.1", host_keys=[bastion_key]
        )
        [listener] = await nursery.start(serve_bastion)
        bastion_port = listener.socket.getsockname()[1]

        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{bastion_port}", None, bastion_key.public_key)
        known_hosts.add("inner.example", None, inner_key.public_key)
        await use_the_tunnel(bastion_port, inner, known_hosts, key)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
