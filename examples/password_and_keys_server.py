"""A server with three ways in: a key from an authorized_keys file, a password, and prompts.

Passwords are kept as scrypt hashes, which take a while to check on purpose.  A check may be async, so that a thread can
do it; other connections go on meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from functools import partial

import attrs
import trio

import trio_ssh


@attrs.frozen
class Account:
    """What is on record about a user."""

    salt: bytes
    password_hash: bytes
    keys: trio_ssh.AuthorizedKeys


def scrypt(password: str, salt: bytes) -> bytes:
    """Hash a password, slowly."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def make_account(password: str, authorized_keys: str) -> Account:
    """Put a user on record."""
    salt = os.urandom(16)
    return Account(salt, scrypt(password, salt), trio_ssh.AuthorizedKeys.from_text(authorized_keys))


#: Checked for users who don't exist: how long an answer takes must not tell who does.
NOBODY = make_account(os.urandom(16).hex(), "")


class Gate(trio_ssh.ServerInterface):
    """Lets users in by what is on record about them.

    What needn't be overridden: the methods that a client is told of are those whose check is here.
    """

    def __init__(self, accounts: dict[str, Account]) -> None:
        self._accounts = accounts
        self._username = ""

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Look the key up.  That its owner is there is trio_ssh's to check, by a signature over this very session."""
        account = self._accounts.get(username, NOBODY)
        return trio_ssh.AUTH_SUCCESSFUL if account.keys.lookup(key) else trio_ssh.AUTH_FAILED

    async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        """Hash what was given, in a thread."""
        account = self._accounts.get(username, NOBODY)
        given = await trio.to_thread.run_sync(scrypt, password, account.salt)
        return trio_ssh.AUTH_SUCCESSFUL if hmac.compare_digest(given, account.password_hash) else trio_ssh.AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
        """Ask for the password by a prompt: many clients know no other way to show one."""
        self._username = username
        return trio_ssh.InteractiveQuery("Welcome", "", [trio_ssh.Prompt("Password: ", echo=False)])

    async def check_auth_interactive_response(self, responses: Sequence[str]) -> trio_ssh.AuthResult:
        """Decide about the answer; there are as many as there were prompts."""
        return await self.check_auth_password(self._username, responses[0])

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Say who is in."""
        await process.stdout.write(f"{process.username} is in")
        return 0


# -- and its users


async def log_in(port: int, known_hosts: trio_ssh.HostKeys, key: trio_ssh.PKey) -> None:
    """Try every way in, and none of them."""
    connect = partial(trio_ssh.connect, "127.0.0.1", port, known_hosts=known_hosts, config=None)

    def answer(name: str, instructions: str, prompts: Sequence[trio_ssh.Prompt]) -> list[str]:
        print("asked:", [prompt.text for prompt in prompts])
        return ["open sesame"]

    for how, client in (
        ("by key", connect(username="alice", pkey=key)),
        ("by password", connect(username="alice", password="open sesame")),
        ("by prompt", connect(username="alice", prompt_handler=answer)),
    ):
        async with client as session:
            done = await session.run_process("whoami", capture_stdout=True)
            print(f"{how}: {done.stdout.decode()}")
    try:
        async with connect(username="alice", pkey=trio_ssh.Ed25519Key.generate(), password="friend"):
            pass
    except trio_ssh.AuthenticationException as error:
        print("neither:", "; ".join(what.split(" ")[0] for what in error.tried), "were refused")


async def main() -> None:
    """Serve on a free port, and log in."""
    key = trio_ssh.Ed25519Key.generate()
    accounts = {"alice": make_account("open sesame", f"{key.get_name()} {key.get_base64()} alice@laptop\n")}
    host_key = trio_ssh.Ed25519Key.generate()
    serve = partial(trio_ssh.serve_tcp, partial(Gate, accounts), 0, host="127.0.0.1", host_keys=[host_key])
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        await log_in(port, known_hosts, key)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
