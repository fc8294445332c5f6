"""Log in with a certificate, to a server that has no list of its users' keys.

The server knows an authority.  Whoever shows a certificate by it is whom the certificate names, may do what it grants,
and no more; what was revoked lets nobody in.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial

import trio

import trio_ssh


class Believer(trio_ssh.ServerInterface):
    """Takes an authority's word for who its users are.

    A user's own authorized_keys would be read here as well, in a thread: the file's options are obeyed alike.
    """

    def __init__(self, authorities: Collection[trio_ssh.PublicKey], revoked: trio_ssh.KeyRevocationList) -> None:
        self._keys = trio_ssh.AuthorizedKeys(authorities=authorities, revoked=revoked)

    def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys:
        """Return what lets this user in; here, the same for all."""
        return self._keys

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Say what would run, and in whose name."""
        wanted = process.environment.get("SSH_ORIGINAL_COMMAND")
        await process.stdout.write(f"{process.username} runs {process.command!r}")
        await process.stdout.write(f" in place of {wanted!r}" if wanted is not None else "")
        return 0


async def run(port: int, known_hosts: trio_ssh.HostKeys, username: str, key: trio_ssh.Signer, command: str) -> str:
    """Log in, and run a command."""
    connect = partial(trio_ssh.connect, "127.0.0.1", port, known_hosts=known_hosts, config=None, allow_agent=False)
    async with connect(username=username, pkey=key) as client:
        return (await client.run_process(command, capture_stdout=True)).stdout.decode()


async def show(
    port: int, known_hosts: trio_ssh.HostKeys, authority: trio_ssh.PKey, revoked: trio_ssh.KeyRevocationList
) -> None:
    """Log in with several certificates of one key."""
    key = trio_ssh.Ed25519Key.generate("alice@laptop")
    issue = partial(
        trio_ssh.Certificate.issue_for_user, authority, key.public_key, key_id="alice", principals=["alice"]
    )
    until = time.time() + 3600

    plain = issue(valid_before=until, serial=1)
    print(await run(port, known_hosts, "alice", trio_ssh.CertifiedKey(key, plain), "uptime"))

    forced = issue(valid_before=until, serial=2, force_command="backup")
    print(await run(port, known_hosts, "alice", trio_ssh.CertifiedKey(key, forced), "uptime"))

    for what, username, certificate in (
        ("another name", "root", plain),
        ("an old one", "alice", issue(valid_before=1_000_000_000)),
        ("from elsewhere", "alice", issue(valid_before=until, source_addresses=["192.0.2.0/24"])),
    ):
        try:
            await run(port, known_hosts, username, trio_ssh.CertifiedKey(key, certificate), "uptime")
        except trio_ssh.AuthenticationException as error:
            print(f"{what}: {error.attempts[0].outcome.value}")

    revoked.revoke(plain)
    try:
        await run(port, known_hosts, "alice", trio_ssh.CertifiedKey(key, plain), "uptime")
    except trio_ssh.AuthenticationException as error:
        print(f"revoked: {error.attempts[0].outcome.value}")


async def main() -> None:
    """Serve on a free port, and log in."""
    authority, host_key = trio_ssh.Ed25519Key.generate("authority"), trio_ssh.Ed25519Key.generate()
    revoked = trio_ssh.KeyRevocationList()
    factory = partial(Believer, [authority.public_key], revoked)
    serve = partial(trio_ssh.serve_tcp, factory, 0, host="127.0.0.1", host_keys=[host_key])
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        await show(port, known_hosts, authority, revoked)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
