"""Below the client: a Transport over any stream, a channel type of one's own, and a global request.

Here the stream is one of a pair in memory.  A socket, a TLS stream, or a channel of another connection do as well.
"""

from __future__ import annotations

import trio
import trio.testing

import trio_ssh

#: RFC 4251 s6: names of one's own carry a domain of one's own.
CHAT = "chat@example.com"
MOTTO = "motto@example.com"


class ChatServer(trio_ssh.ServerInterface):
    """Opens chat channels, and runs nothing."""

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit whoever owns a key, whichever it is."""
        return trio_ssh.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
        """Open chats, and nothing else."""
        return trio_ssh.OPEN_SUCCEEDED if kind == CHAT else trio_ssh.OPEN_FAILED_UNKNOWN_CHANNEL_TYPE

    async def handle_channel(self, channel: trio_ssh.Channel, destination: tuple[str, int] | None) -> None:
        """Answer each chunk that comes, until EOF."""
        async for data in channel:
            await channel.send_all(b"you said " + data)
        await channel.send_all(b"goodbye")

    def check_global_request(self, kind: str, details: trio_ssh.Message) -> bool | bytes:
        """Answer with bytes of our own."""
        if kind != MOTTO:
            return False
        language = details.get_text()
        return trio_ssh.Message().add_string({"la": "festina lente"}.get(language, "make haste slowly")).asbytes()


async def serve(stream: trio.abc.Stream, host_key: trio_ssh.PKey) -> None:
    """Be the server."""
    await trio_ssh.serve_stream(stream, ChatServer(), host_keys=[host_key])


async def chat(stream: trio.abc.Stream, expected: trio_ssh.PublicKey) -> None:
    """Be the client."""

    def check_host_key(key: trio_ssh.PublicKey) -> None:
        if key != expected:
            raise trio_ssh.BadHostKeyException("the chat", key.key_type, key.fingerprint)

    async with trio_ssh.Transport(stream) as transport:
        options = transport.get_security_options()
        options.ciphers = ["chacha20-poly1305@openssh.com"]
        await transport.start_client(check_host_key=check_host_key)
        await transport.auth_publickey("alice", trio_ssh.Ed25519Key.generate())
        print(transport)

        answer = await transport.global_request(MOTTO, trio_ssh.Message().add_string("la").asbytes())
        assert answer is not None
        print("motto:", trio_ssh.Message(answer).get_text())

        async with await transport.open_channel(CHAT) as channel:
            await channel.send_all(b"hello")
            print("answer:", await channel.receive_some())
            await channel.send_eof()
            print("answer:", await channel.read())

        await transport.renegotiate_keys()
        try:
            await transport.open_session()
        except trio_ssh.ChannelException as error:
            print("no session:", error)


async def main() -> None:
    """Be both."""
    host_key = trio_ssh.Ed25519Key.generate()
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, host_key)
        await chat(ours, host_key.public_key)


if __name__ == "__main__":
    trio.run(main)
