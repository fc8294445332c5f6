"""Algorithms: which profiles there are, what two sides agree on, and why.

Run it, and it starts three servers of its own on this machine: one of today, one that is ten years old, and one that
can do nothing that is sound.
"""

from __future__ import annotations

import functools

import trio

import trio_ssh

HOST_KEY = trio_ssh.Ed25519Key.generate()

#: What a server that nobody has updated in ten years has, and one that nobody has updated in twenty.
OLD = trio_ssh.SecurityOptions(kex=["ecdh-sha2-nistp256"], ciphers=["aes256-ctr"], macs=["hmac-sha2-256"])
ANCIENT = trio_ssh.SecurityOptions(
    "legacy", kex=["diffie-hellman-group1-sha1"], ciphers=["3des-cbc"], macs=["hmac-sha1"]
)


class OpenDoor(trio_ssh.ServerInterface):
    """Lets anyone in."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        """Admit everyone: there is nothing behind the door."""
        return trio_ssh.AUTH_SUCCESSFUL


def known_hosts(port: int) -> trio_ssh.HostKeys:
    """Know the server's key, as a client that has met it does."""
    return trio_ssh.HostKeys.from_text(f"[127.0.0.1]:{port} {HOST_KEY.public_key.to_openssh()}\n")


async def main() -> None:
    """Serve three times, and connect to each."""
    print("What a server offers by default:")
    print(trio_ssh.SecurityOptions().describe("server"), end="\n\n")
    async with trio.open_nursery() as nursery:
        ports: list[int] = []
        for security in (trio_ssh.SecurityOptions(), OLD, ANCIENT):
            serve = functools.partial(
                trio_ssh.serve_tcp, OpenDoor, 0, host="127.0.0.1", host_keys=[HOST_KEY], security=security
            )
            [listener] = await nursery.start(serve)
            ports.append(listener.socket.getsockname()[1])
        today, old, ancient = ports

        for port in (today, old):
            async with trio_ssh.connect(
                "127.0.0.1", port, "alice", known_hosts=known_hosts(port), look_for_keys=False, config=None
            ) as client:
                explanation = client.explain()
                print(explanation, end="\n\n")
                if not explanation.is_post_quantum:
                    [kex] = [choice for choice in explanation.choices if choice.kind == "key exchange"]
                    print("Ask its owner to enable one of:", ", ".join(kex.peer_lacks), end="\n\n")

        try:
            async with trio_ssh.connect(
                "127.0.0.1", ancient, "alice", known_hosts=known_hosts(ancient), look_for_keys=False, config=None
            ):
                pass
        except trio_ssh.IncompatiblePeer as error:
            print("By default:", error, end="\n\n")
        async with trio_ssh.connect(
            "127.0.0.1",
            ancient,
            "alice",
            known_hosts=known_hosts(ancient),
            look_for_keys=False,
            config=None,
            security=trio_ssh.SecurityOptions(
                kex="+diffie-hellman-group1-sha1", ciphers="+3des-cbc", macs="+hmac-sha1"
            ),
        ) as client:
            for choice in client.explain().insecure:
                print(choice)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
