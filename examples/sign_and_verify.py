"""Sign a file with the key that you log in with, and believe only those who may sign: what ``ssh-keygen -Y`` does.

A signature is for a namespace: one that was made for ``file`` is none for ``git``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import trio_ssh


def sign(path: Path, key: trio_ssh.PKey) -> Path:
    """Sign a file, and put the signature beside it."""
    with path.open("rb") as file:
        signature = trio_ssh.sign_data(key, file, namespace="file")
    beside = path.with_name(f"{path.name}.sig")
    beside.write_text(signature.to_openssh())
    return beside


def verify(path: Path, principal: str, signers: trio_ssh.AllowedSigners) -> None:
    """Raise a SignatureException unless `principal` signed the file as it is now."""
    signature = trio_ssh.SSHSignature.from_path(path.with_name(f"{path.name}.sig"))
    with path.open("rb") as file:
        trio_ssh.verify_data(file, signature, namespace="file", principal=principal, signers=signers, now=time.time())


def main() -> None:
    """Sign, verify, and fail to."""
    alice, mallory = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    signers = trio_ssh.AllowedSigners.from_text(
        f'alice@example.com namespaces="file,git" {alice.public_key.to_openssh()}\n'
        f"*@other.example {mallory.public_key.to_openssh()}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "release.tar"
        path.write_bytes(b"what is released")
        print(sign(path, alice).read_text())
        verify(path, "alice@example.com", signers)
        print("signed by alice@example.com")
        who = signers.find_principals(trio_ssh.SSHSignature.from_path(f"{path}.sig").signer, now=time.time())
        print("who is it? ", *who)

        path.write_bytes(b"what was put in its place")
        for what, key in (("changed", None), ("signed by somebody else", mallory)):
            if key is not None:
                sign(path, key)
            try:
                verify(path, "alice@example.com", signers)
            except trio_ssh.SignatureException as error:
                print(f"{what}: {error}")


if __name__ == "__main__":
    main()
