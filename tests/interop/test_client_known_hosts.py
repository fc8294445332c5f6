"""What our client makes of real sshd's keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, Sshd, run

pytestmark = pytest.mark.interop


@pytest.fixture
def file(sshd: Sshd, tmp_path: Path) -> Path:
    """known_hosts as ssh-keyscan writes it."""
    path = tmp_path / "known_hosts"
    path.write_text(run("ssh-keyscan", "-p", str(sshd.port), "127.0.0.1"))
    return path


async def connects(sshd: Sshd, known_hosts: Path | trio_ssh.HostKeys, **options: object) -> bool:
    async with sshd.connect(known_hosts=known_hosts, **options) as client:
        return (await client.run_process("true")).returncode == 0


def name_of(sshd: Sshd) -> str:
    return f"[127.0.0.1]:{sshd.port}"


async def test_a_scanned_host_is_known(sshd: Sshd, file: Path) -> None:
    assert await connects(sshd, file)


async def test_a_hashed_name_is_known(sshd: Sshd, file: Path) -> None:
    run("ssh-keygen", "-H", "-f", file)
    assert "127.0.0.1" not in await trio.Path(file).read_text()
    assert await connects(sshd, file)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_key_of_any_kind_is_enough(sshd: Sshd, kind: str) -> None:
    known = trio_ssh.HostKeys.from_text(f"{name_of(sshd)} {sshd.host_keys.public(kind)}\n")
    async with sshd.connect(known_hosts=known) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.get_remote_server_key() == sshd.host_keys.load(kind).public_key


async def test_an_unknown_host_is_refused_and_told_how_to_trust_it(sshd: Sshd) -> None:
    with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
        await connects(sshd, trio_ssh.HostKeys())
    assert raised.value.hostname == name_of(sshd)
    assert raised.value.fingerprint == sshd.host_keys.load("ed25519").fingerprint


async def test_a_changed_key_is_refused_and_its_line_named(sshd: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    old = trio_ssh.Ed25519Key.generate().public_key
    path.write_text(f"# comment\n{name_of(sshd)} {old.to_openssh()}\n")
    with pytest.raises(trio_ssh.BadHostKeyException) as raised:
        await connects(sshd, path, policy=trio_ssh.AutoAddPolicy)
    assert raised.value.expected == (f"{old.fingerprint()} ({path}:2)",)
    assert path.read_text().count("\n") == 2


async def test_a_revoked_key_is_refused(sshd: Sshd, file: Path) -> None:
    revoked = "".join(f"@revoked * {sshd.host_keys.public(kind)}\n" for kind in KINDS)
    await trio.Path(file).write_text(await trio.Path(file).read_text() + revoked)
    with pytest.raises(trio_ssh.BadHostKeyException, match="REVOKED"):
        await connects(sshd, file, policy=trio_ssh.AutoAddPolicy)


async def test_what_auto_add_saves_is_what_ssh_keygen_finds_and_the_next_client_trusts(
    sshd: Sshd, tmp_path: Path
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("# mine\n")
    client = trio_ssh.SSHClient()
    client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy())
    await client.load_host_keys(path)
    async with client:
        await client.connect("127.0.0.1", sshd.port, sshd.account.name, pkey=sshd.user_keys.load("ed25519"))
    assert path.read_text().startswith("# mine\n")
    found = run("ssh-keygen", "-F", name_of(sshd), "-l", "-f", path)
    assert sshd.host_keys.load("ed25519").fingerprint in found
    assert await connects(sshd, path)


async def test_a_warning_policy_warns_and_forgets(sshd: Sshd) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="is unknown: ssh-ed25519 SHA256:"):
            assert await connects(sshd, trio_ssh.HostKeys(), policy=trio_ssh.WarningPolicy)


async def test_a_policy_of_ones_own_is_asked_once_the_key_is_proven(sshd: Sshd) -> None:
    class Fingerprint(trio_ssh.MissingHostKeyPolicy):
        async def missing_host_key(self, client: object, hostname: str, key: trio_ssh.PublicKey) -> None:
            if key.fingerprint() != sshd.host_keys.load("ed25519").fingerprint:
                raise AssertionError("not the key")

    assert await connects(sshd, trio_ssh.HostKeys(), policy=Fingerprint)
