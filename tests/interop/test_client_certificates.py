"""Our client, which shows sshd a certificate in a key's place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trio_ssh
from tests.interop.peers import KINDS, Account, KeyFolder, Sshd

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def authority() -> trio_ssh.Ed25519Key:
    return trio_ssh.Ed25519Key.generate("authority")


@pytest.fixture(scope="module")
def trusting(
    folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder, authority: trio_ssh.Ed25519Key
) -> Iterator[Sshd]:
    """Takes certificates of the authority, and no bare key; what was revoked it doesn't take."""
    (folder / "authority.pub").write_text(authority.public_key.to_openssh() + "\n")
    revoked = trio_ssh.KeyRevocationList()
    revoked.revoke_serials(authority.public_key, 13)
    revoked.save(folder / "revoked_certificates")
    options = (
        f"TrustedUserCAKeys {folder / 'authority.pub'}",
        f"RevokedKeys {folder / 'revoked_certificates'}",
        "AuthorizedKeysFile none",
    )
    with Sshd(folder, account, host_keys, user_keys, options) as server:
        yield server


def certified(sshd: Sshd, authority: trio_ssh.Ed25519Key, kind: str, **changed: Any) -> trio_ssh.CertifiedKey:
    key = sshd.user_keys.load(kind)
    name = sshd.account.name
    arguments: dict[str, Any] = {"key_id": "test", "principals": [name], "valid_before": time.time() + 60, "serial": 1}
    return trio_ssh.CertifiedKey(
        key, trio_ssh.Certificate.issue_for_user(authority, key.public_key, **(arguments | changed))
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certified_key_logs_in(trusting: Sshd, authority: trio_ssh.Ed25519Key, kind: str) -> None:
    async with trusting.connect(pkey=certified(trusting, authority, kind)) as client:
        done = await client.run_process("id -un", capture_stdout=True)
        assert done.stdout == f"{trusting.account.name}\n".encode()


async def test_what_the_certificate_says_is_heeded(trusting: Sshd, authority: trio_ssh.Ed25519Key) -> None:
    key = certified(trusting, authority, "ed25519", force_command="echo forced", source_addresses=["127.0.0.0/8"])
    async with trusting.connect(pkey=key) as client:
        done = await client.run_process("id -un", capture_stdout=True)
        assert done.stdout == b"forced\n"


@pytest.mark.parametrize(
    "changed",
    [
        {"principals": ["nobody-else"]},
        {"valid_before": 1_000_000_000},
        {"source_addresses": ["192.0.2.0/24"]},
        {"critical_options": {"unknown@example.com": None}},
        {"serial": 13},
    ],
    ids=str,
)
async def test_what_is_refused_here_is_refused_there(
    trusting: Sshd, authority: trio_ssh.Ed25519Key, changed: dict[str, Any]
) -> None:
    key = certified(trusting, authority, "ed25519", **changed)
    with pytest.raises(trio_ssh.AuthenticationException):
        async with trusting.connect(pkey=key):
            pass
