"""Keys: made, written under a passphrase, read again, shown to a person, and used for a login."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

import trio_ssh
import trio_ssh.testing

PASSPHRASE = "correct horse battery staple"


class Doorkeeper(trio_ssh.ServerInterface):
    """Admits whoever owns one of some keys, and tells each which one it was."""

    def __init__(self, admitted: dict[trio_ssh.PublicKey, str]) -> None:
        self.admitted = admitted
        self.name = ""

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Look the key up."""
        self.name = self.admitted.get(key, "")
        return trio_ssh.AUTH_SUCCESSFUL if self.name else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Greet."""
        await process.stdout.write(f"welcome, {self.name}\n")
        return 0


def make(directory: Path) -> list[Path]:
    """Make a key of each kind that is worth making, with its public half beside it."""
    keys: dict[str, trio_ssh.PKey] = {
        "id_ed25519": trio_ssh.Ed25519Key.generate("alice@example.com"),
        "id_ecdsa": trio_ssh.ECDSAKey.generate(bits=384, comment="alice@work"),
        "id_rsa": trio_ssh.RSAKey.generate(bits=2048, comment="alice@museum"),
    }
    for name, key in keys.items():
        path = directory / name
        key.write_private_key_file(path, PASSPHRASE)
        path.with_suffix(".pub").write_text(key.public_key.to_openssh(key.comment) + "\n")
    return [directory / name for name in keys]


def show(path: Path) -> None:
    """Print what ssh-keygen -lv prints."""
    key, comment = trio_ssh.load_public_key_file(path.with_suffix(".pub"))
    print(key.bits, key.fingerprint, comment)
    print(key.randomart())


def refuse(path: Path) -> None:
    """Try the wrong passphrase, and none."""
    for passphrase in ("wrong", None):
        try:
            trio_ssh.load_private_key_file(path, passphrase)
        except (trio_ssh.KeyFileException, trio_ssh.PasswordRequiredException) as error:
            print(type(error).__name__ + ":", str(error).replace(str(path.parent), "..."))


def convert(path: Path) -> None:
    """Write a key for programs that don't read OpenSSH's files."""
    key = trio_ssh.load_private_key_file(path, PASSPHRASE)
    print(key.to_pkcs8(PASSPHRASE).decode().splitlines()[0])
    print(key.public_key.to_rfc4716(key.comment).splitlines()[0])


async def log_in(paths: list[Path]) -> None:
    """Log in with each of the keys.  Passphrases are slow on purpose: they are undone on a thread."""
    keys = [await trio.to_thread.run_sync(trio_ssh.load_private_key_file, path, PASSPHRASE) for path in paths]
    for key in keys:
        server = Doorkeeper({key.public_key: key.comment for key in keys})
        async with trio_ssh.testing.open_memory_client(server, pkey=key) as client:
            done = await client.run_process("hello", capture_stdout=True)
            print(done.stdout.decode(), end="")


def main() -> None:
    """Do it all in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        paths = make(Path(directory))
        for path in paths:
            show(path)
        refuse(paths[0])
        convert(paths[0])
        trio.run(log_in, paths)


if __name__ == "__main__":
    main()
