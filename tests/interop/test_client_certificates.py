"""Our client, which shows sshd a certificate in a key's place."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trio_ssh
from tests.interop.peers import KINDS, Account, KeyFolder, Ssh, Sshd

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


@pytest.mark.parametrize(
    ("wanted", "is_let_in"),
    [
        ("ecdsa-sha2-nistp384-cert-v01@openssh.com", True),
        ("-ecdsa-sha2-nistp384", True),
        ("ecdsa-sha2-nistp384", False),
        ("-*-cert-*", False),
    ],
)
async def test_a_certificate_is_shown_where_ssh_shows_it(
    trusting: Sshd, authority: trio_ssh.Ed25519Key, tmp_path: Path, wanted: str, is_let_in: bool
) -> None:
    key = certified(trusting, authority, "ecdsa384")
    config = await trio_ssh.SSHConfig.from_text(f"PubkeyAcceptedAlgorithms {wanted}\nIdentityAgent none\n")
    if is_let_in:
        async with trusting.connect(pkey=key, config=config):
            pass
    else:
        with pytest.raises(trio_ssh.AuthenticationException):
            async with trusting.connect(pkey=key, config=config):
                raise AssertionError("somebody was let in")
    # Of a certificate that is elsewhere ssh doesn't find the key, once that itself is left out.
    shutil.copy(trusting.user_keys.file("ecdsa384"), tmp_path / "key")
    (tmp_path / "key-cert.pub").write_text(key.certificate.to_openssh() + "\n")
    ssh = Ssh(
        tmp_path,
        trusting.host_keys,
        trusting.user_keys,
        trusting.port,
        (
            f"PubkeyAcceptedAlgorithms={wanted}",
            f"IdentityFile={tmp_path / 'key'}",
            f"User={trusting.account.name}",
        ),
    )
    ssh.known_hosts.write_text(trusting.known_hosts.to_text())
    done = await ssh.run("server", "true")
    assert (done.returncode == 0) == is_let_in, done.stderr.decode()


@pytest.fixture(scope="module")
def certified_host(
    folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder, authority: trio_ssh.Ed25519Key
) -> Iterator[Sshd]:
    """Has a certificate of one of its keys."""
    issued = trio_ssh.Certificate.issue_for_host(
        authority,
        host_keys.load("ecdsa256").public_key,
        key_id="",
        principals=["127.0.0.1"],
        valid_before=trio_ssh.Certificate.FOREVER,
    )
    (folder / "host_certificate").write_text(issued.to_openssh() + "\n")
    with Sshd(folder, account, host_keys, user_keys, [f"HostCertificate {folder / 'host_certificate'}"]) as server:
        yield server


@pytest.mark.parametrize("is_key_known", [False, True])
@pytest.mark.parametrize(
    "wanted",
    [
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "^ecdsa-sha2-nistp256",
        "+ssh-rsa",
        "-ecdsa-sha2-nistp256",
        "-*-cert-*",
        "ecdsa-*",
        "ssh-ed25519",
    ],
)
async def test_the_host_key_is_agreed_on_as_by_ssh(
    certified_host: Sshd, authority: trio_ssh.Ed25519Key, tmp_path: Path, wanted: str, is_key_known: bool
) -> None:
    sshd = certified_host
    known = f"@cert-authority [127.0.0.1]:{sshd.port} {authority.public_key.to_openssh()}\n"
    if is_key_known:
        known += sshd.known_hosts.to_text()
    ssh = Ssh(
        tmp_path,
        sshd.host_keys,
        sshd.user_keys,
        sshd.port,
        (
            f"HostKeyAlgorithms={wanted}",
            f"IdentityFile={sshd.user_keys.file('ed25519')}",
            f"User={sshd.account.name}",
            "LogLevel=DEBUG1",
        ),
    )
    ssh.known_hosts.write_text(known)
    done = await ssh.run("server", "true")
    [agreed] = [
        line.rstrip("\r").rpartition(" ")[2]
        for line in done.stderr.decode().splitlines()
        if "kex: host key algorithm: " in line
    ]
    config = await trio_ssh.SSHConfig.from_text(f"HostKeyAlgorithms {wanted}\nIdentityAgent none\n")
    arguments: dict[str, Any] = {"known_hosts": trio_ssh.HostKeys.from_text(known), "config": config}
    if done.returncode != 0:
        with pytest.raises(trio_ssh.HostKeyException):
            async with sshd.connect(**arguments):
                raise AssertionError("ssh refuses")
        return
    async with sshd.connect(**arguments) as client:
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert negotiated.host_key_algorithm == agreed
