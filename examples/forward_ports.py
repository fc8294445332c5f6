"""Forward ports: to a service behind a server (``ssh -L``), from a port of its own (``-R``), and by SOCKS (``-D``).

Each is a function that runs as long as it is wanted, so it is started in a nursery: `start` returns when it listens.
"""

from __future__ import annotations

import struct
from functools import partial

import trio

import trio_ssh

Address = tuple[str, int]
HOST = "127.0.0.1"
#: Nobody here knows this name; the server does.
SERVICE = ("service.internal", 80)


async def forward(server_port: int, known_hosts: trio_ssh.HostKeys, key: trio_ssh.PKey) -> None:
    """Reach a service that only the server can reach, and be reached through it."""
    async with (
        trio_ssh.connect(HOST, server_port, pkey=key, known_hosts=known_hosts) as client,
        trio.open_nursery() as nursery,
    ):
        # Whoever connects to this port of ours is connected to the service.
        [listener] = await nursery.start(client.forward_local_port, 0, *SERVICE)
        print("through a port here:", await ask(await trio.open_tcp_stream(*listener.socket.getsockname())))

        # A browser or curl would use this one, and say where it wants to go: here it is SOCKS 4a, by hand.
        [listener] = await nursery.start(client.serve_socks, 0)
        stream = await trio.open_tcp_stream(*listener.socket.getsockname())
        await stream.send_all(struct.pack(">BBHI", 4, 1, SERVICE[1], 1) + b"\0" + SERVICE[0].encode() + b"\0")
        assert await stream.receive_some(8) == struct.pack(">BBHI", 0, 0x5A, 0, 0)
        print("by SOCKS:", await ask(stream))

        # A port of the server's, whose connections come here: as streams, for whatever serves trio's listeners.
        listeners = await client.open_tcp_listeners(0)
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        print("through a port there:", await ask(await trio.open_tcp_stream(HOST, listeners[0].port)))
        nursery.cancel_scope.cancel()


async def answer(stream: trio.abc.HalfCloseableStream) -> None:
    """Be a service: answer when the question has ended."""
    question = b"".join([bytes(chunk) async for chunk in stream])
    await stream.send_all(b"you asked: " + question)
    await stream.send_eof()


async def ask(stream: trio.abc.HalfCloseableStream) -> str:
    """Ask the service, and return what it says."""
    async with stream:
        await stream.send_all(b"who is there?")
        await stream.send_eof()
        return b"".join([bytes(chunk) async for chunk in stream]).decode()


# -- the server, which listens for its clients too


class Gateway(trio_ssh.ServerInterface):
    """Is where the service is, and listens for whoever is logged in.

    Args:
        key: admits.
        service_port: where the service really is.
    """

    def __init__(self, key: trio_ssh.PublicKey, service_port: int) -> None:
        self._key = key
        self._service_port = service_port

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    async def check_channel_direct_tcpip_request(
        self, chanid: int, origin: Address, destination: Address
    ) -> trio_ssh.OpenResult:
        """Connect to the service, and to nothing else."""
        if destination != SERVICE:
            return trio_ssh.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return await self.connect_for_client(chanid, (HOST, self._service_port))

    async def check_port_forward_request(self, address: str, port: int) -> int:
        """Listen, for this machine's own programs alone; whoever comes is forwarded to the client."""
        return await self.listen_for_client(address, port)


async def main() -> None:
    """Serve, and be the client."""
    key, host_key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    async with trio.open_nursery() as nursery:
        [service] = await nursery.start(partial(trio.serve_tcp, answer, 0, host=HOST))
        factory = partial(Gateway, key.public_key, service.socket.getsockname()[1])
        [listener] = await nursery.start(partial(trio_ssh.serve_tcp, factory, 0, host=HOST, host_keys=[host_key]))
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[{HOST}]:{port}", None, host_key.public_key)
        await forward(port, known_hosts, key)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
