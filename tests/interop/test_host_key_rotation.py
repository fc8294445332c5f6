"""Rotation of host keys between OpenSSH and us, in either role."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, LetsAnyoneIn, Ssh, Sshd, eventually, run
from trio_ssh.crypto import defaults

pytestmark = pytest.mark.interop


def keys_in(path: Path, name: str) -> set[str]:
    """The keys that ssh-keygen finds for a host."""
    found = run("ssh-keygen", "-F", name, "-f", path).splitlines()
    return {" ".join(line.split()[1:3]) for line in found if not line.startswith("#")}


def plain(key: str) -> str:
    return " ".join(key.split()[:2])


def public(key: trio_ssh.PKey) -> str:
    return key.public_key.to_openssh()


@pytest.mark.parametrize("is_hashed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_knows_sshd_by_one_key_learns_the_others(
    sshd: Sshd, tmp_path: Path, kind: str, is_hashed: bool
) -> None:
    path, name = tmp_path / "known_hosts", f"[127.0.0.1]:{sshd.port}"
    stale = public(trio_ssh.Ed25519Key.generate()) if kind != "ed25519" else public(trio_ssh.ECDSAKey.generate())
    path.write_text(f"# mine\n{name} {sshd.host_keys.public(kind)}\n{name} {stale}\n")
    if is_hashed:
        run("ssh-keygen", "-H", "-f", path)
    expected = {plain(sshd.host_keys.public(each)) for each in KINDS}
    # A key of its own kind is shown first, so that the stale one of another kind is not asked for.
    algorithm = {"rsa": "rsa-sha2-512", "ed25519": "ssh-ed25519"}.get(kind, f"ecdsa-sha2-nistp{kind[5:]}")
    others = [each for each in defaults.HOST_KEYS if each != algorithm]
    async with sshd.connect(known_hosts=path, update_host_keys="yes", host_key_algorithms=[algorithm, *others]):
        await eventually(lambda: keys_in(path, name) == expected)
    assert (name in path.read_text()) is not is_hashed
    # And ssh is content with what we wrote.
    async with sshd.connect(known_hosts=path) as client:
        assert (await client.run_process("true")).returncode == 0


async def test_ssh_learns_our_other_keys_and_forgets_those_that_we_no_longer_have(ssh: Ssh) -> None:
    stale = trio_ssh.Ed25519Key.generate()
    first, second, third = ssh.host_keys.load("ecdsa256"), ssh.host_keys.load("rsa"), ssh.host_keys.load("ed25519")
    async with trio.open_nursery() as nursery:
        await ssh.serve(nursery, host_keys=[first, second, third])
        name = f"[127.0.0.1]:{ssh.port}"
        await trio.Path(ssh.known_hosts).write_text(f"{name} {public(first)}\n{name} {public(stale)}\n")
        ssh.options = ("UpdateHostKeys=yes", "HostKeyAlgorithms=ecdsa-sha2-nistp256,rsa-sha2-512,ssh-ed25519")
        # It learns while it runs: a command that ended at once might be done before.
        wait = f"until test $(grep -c '' {ssh.known_hosts}) -ge 3; do sleep 0.01; done"
        done = await ssh.run("server", wait)
        assert done.returncode == 0, done.stderr
        assert keys_in(ssh.known_hosts, name) == {public(key) for key in (first, second, third)}
        nursery.cancel_scope.cancel()


async def test_ssh_learns_nothing_from_a_server_that_keeps_its_keys_to_itself(ssh: Ssh) -> None:
    class Silent(LetsAnyoneIn):
        announces_host_keys = False

    async with trio.open_nursery() as nursery:
        await ssh.serve(nursery, Silent)
        name = f"[127.0.0.1]:{ssh.port}"
        known = f"{name} {ssh.host_keys.public('ed25519')}\n"
        await trio.Path(ssh.known_hosts).write_text(known)
        ssh.options = ("UpdateHostKeys=yes",)
        assert (await ssh.run("server", "true")).returncode == 0
        assert await trio.Path(ssh.known_hosts).read_text() == known
        nursery.cancel_scope.cancel()
