"""Legacy algorithms and DSA with real ssh and sshd: used where both sides name them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.peers import Account, KeyFolder, LetsAnyoneIn, Ssh, Sshd, run

pytestmark = pytest.mark.interop


class Knows(trio_ssh.ServerInterface):
    """Lets one key in."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        return 0


@pytest.fixture
def dsa(tmp_path: Path) -> Path:
    path = tmp_path / "id_dsa"
    run("ssh-keygen", "-q", "-t", "dsa", "-N", "", "-f", path)
    return path


async def test_ssh_logs_in_by_sha_1_and_dsa_where_both_name_them(ssh: Ssh, nursery: trio.Nursery, dsa: Path) -> None:
    rsa = ssh.user_keys.file("rsa")
    for path, name in ((rsa, "ssh-rsa"), (dsa, "ssh-dss")):
        key, _ = trio_ssh.load_public_key_file(f"{path}.pub")
        named = attrs.evolve(
            ssh,
            options=(f"PubkeyAcceptedAlgorithms={name}", f"IdentityFile={path}", "PreferredAuthentications=publickey"),
        )
        await named.serve(nursery, lambda key=key: Knows(key), host_key_algorithms=["ssh-ed25519", name])
        done = await named.run("server", "true")
        assert done.returncode == 0, done.stderr
        await named.serve(nursery, lambda key=key: Knows(key))
        assert (await named.run("server", "true")).returncode == 255


async def test_ssh_believes_a_host_that_signs_with_sha_1_or_dsa_where_both_name_them(
    ssh: Ssh, nursery: trio.Nursery, dsa: Path
) -> None:
    rsa = ssh.host_keys.file("rsa")
    for path, name in ((rsa, "ssh-rsa"), (dsa, "ssh-dss")):
        key = trio_ssh.load_private_key_file(path)
        named = attrs.evolve(ssh, options=(f"HostKeyAlgorithms={name}",))
        await named.serve(nursery, LetsAnyoneIn, host_keys=[key], host_key_algorithms=[name])
        named.known_hosts.write_text(f"[127.0.0.1]:{named.port} {key.public_key.to_openssh()}\n")
        done = await named.run("server", "true")
        assert done.returncode == 0, done.stderr


async def test_sshd_takes_sha_1_and_dsa_where_both_name_them(
    folder: Path, account: Account, sshd: Sshd, dsa: Path
) -> None:
    users = KeyFolder.create(folder / "legacy")
    rsa = users.load("rsa")
    keys = [(rsa, "ssh-rsa"), (trio_ssh.load_private_key_file(dsa), "ssh-dss")]
    users.authorized_keys.write_text("".join(f"{key.public_key.to_openssh()}\n" for key, _ in keys))
    options = ["PubkeyAcceptedAlgorithms ssh-rsa,ssh-dss", "HostKeyAlgorithms +ssh-rsa"]
    with Sshd(folder, account, sshd.host_keys, users, options) as legacy:
        for key, name in keys:
            async with legacy.connect(pkey=key, host_key_algorithms=[name, "ssh-ed25519"]) as client:
                await client.run_process("true")
            with pytest.raises(trio_ssh.AuthenticationException):
                async with legacy.connect(pkey=key):
                    raise AssertionError("logged in")
        async with legacy.connect(pkey=rsa, host_key_algorithms=["ssh-rsa"]) as client:
            transport = client.get_transport()
            assert transport is not None
            negotiated = transport.get_negotiated()
            assert negotiated is not None
            assert negotiated.host_key_algorithm == "ssh-rsa"
