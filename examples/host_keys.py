"""Trust a server by its fingerprint, remember it, and follow it to its next host key.

Nobody has to accept anything by hand but the first fingerprint, and nobody notices that the old key has gone.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import trio

import trio_ssh


class Greeter(trio_ssh.ServerInterface):
    """Lets everyone in, and greets them."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        """Nobody needs a proof here."""
        return trio_ssh.AUTH_SUCCESSFUL

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Say hello."""
        await process.stdout.write("hello\n")
        return 0


async def visit(name: str, host_keys: list[trio_ssh.PKey], known_hosts: Path, expected: set[str]) -> None:
    """Serve with these host keys, log in, and wait until what is known of them is as expected."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, Greeter, 0, host="127.0.0.1", host_keys=host_keys)
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]

        # The first fingerprint comes from the server's owner.  Whoever answers `ask` compares it.
        policy = trio_ssh.PromptPolicy(lambda prompt: host_keys[0].fingerprint, path=known_hosts)
        async with trio_ssh.connect(
            "127.0.0.1",
            port,
            "guest",
            known_hosts=known_hosts,
            host_key_alias="greeter",  # the port changes from visit to visit
            policy=policy,
            update_host_keys="yes",
            look_for_keys=False,
            allow_agent=False,
            config=None,
        ) as client:
            await client.run_process("greet", capture_stdout=True)
            with trio.fail_after(10):
                while (found := await trio.to_thread.run_sync(fingerprints, known_hosts)) != expected:  # noqa: ASYNC110 -- no event tells
                    await trio.sleep(0.01)
        print(f"{name}: {len(found)} on record")
        nursery.cancel_scope.cancel()


def fingerprints(known_hosts: Path) -> set[str]:
    """Return the fingerprints on record."""
    keys = trio_ssh.HostKeys()
    keys.load(known_hosts)
    return {entry.key.fingerprint for entry in keys.lookup("greeter")}


async def main() -> None:
    """Meet a server, and see it change its key."""
    old, new = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    with tempfile.TemporaryDirectory() as folder:
        known_hosts = Path(folder) / "known_hosts"
        known_hosts.touch()
        await visit("the first visit", [old], known_hosts, {old.fingerprint})
        await visit("the server has a second key", [old, new], known_hosts, {old.fingerprint, new.fingerprint})
        await visit("the old key has gone", [new], known_hosts, {new.fingerprint})
        try:
            await visit("somebody else answers", [trio_ssh.Ed25519Key.generate()], known_hosts, set())
        except* trio_ssh.BadHostKeyException:
            print("somebody else answers: refused")


if __name__ == "__main__":
    trio.run(main)
