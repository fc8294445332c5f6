"""Real ssh and our server agree on each algorithm, and what then passes is what was sent."""

from __future__ import annotations

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.algorithms import COMPRESSIONS, HOST_KEYS, KEX, PROTECTIONS, SAMPLE
from tests.interop.peers import LetsAnyoneIn, Ssh

pytestmark = pytest.mark.interop


class Echoes(LetsAnyoneIn):
    """Tells what was negotiated on stderr, and sends back what it gets."""

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        negotiated = self.transport.get_negotiated()
        assert negotiated is not None
        there, back = negotiated.client_to_server, negotiated.server_to_client
        assert there == back
        words = [negotiated.kex, negotiated.host_key_algorithm, there.cipher, there.mac, there.compression]
        async for chunk in process.stdin:
            await process.stdout.send_all(chunk)
        await process.stderr.write(" ".join(words))
        return 0


async def negotiated_by(ssh: Ssh, nursery: trio.Nursery, *options: str) -> list[str]:
    """kex, host key algorithm, cipher, mac, compression."""
    ssh = attrs.evolve(ssh, options=options)
    await ssh.serve(nursery, Echoes, security="legacy")
    done = await ssh.run("server", "echo", stdin=SAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAMPLE
    return done.stderr.decode().split(" ")


@pytest.mark.parametrize("kex", KEX)
async def test_each_key_exchange(ssh: Ssh, nursery: trio.Nursery, kex: str) -> None:
    assert (await negotiated_by(ssh, nursery, f"KexAlgorithms={kex}"))[0] == kex


@pytest.mark.parametrize("algorithm", HOST_KEYS)
async def test_each_host_key_algorithm(ssh: Ssh, nursery: trio.Nursery, algorithm: str) -> None:
    assert (await negotiated_by(ssh, nursery, f"HostKeyAlgorithms={algorithm}"))[1] == algorithm


@pytest.mark.parametrize(("cipher", "mac"), PROTECTIONS)
async def test_each_cipher_with_each_mac(ssh: Ssh, nursery: trio.Nursery, cipher: str, mac: str) -> None:
    options = [f"Ciphers={cipher}", *([f"MACs={mac}"] if mac else [])]
    assert (await negotiated_by(ssh, nursery, *options))[2:4] == [cipher, mac]


@pytest.mark.parametrize(("setting", "compression"), COMPRESSIONS.items())
async def test_each_compression(ssh: Ssh, nursery: trio.Nursery, setting: str, compression: str) -> None:
    assert (await negotiated_by(ssh, nursery, f"Compression={setting}"))[4] == compression


async def test_without_a_common_algorithm_ssh_is_told_what_there_is(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = attrs.evolve(ssh, options=("Ciphers=aes256-ctr",))
    await ssh.serve(nursery, ciphers=["aes128-gcm@openssh.com"])
    done = await ssh.run("server", "true")
    assert done.returncode == 255
    assert b"no matching cipher found. Their offer: aes128-gcm@openssh.com" in done.stderr


@pytest.mark.parametrize("kex", [name for name in KEX if "group-exchange" in name])
async def test_a_group_of_the_moduli_file_is_agreed_in(ssh: Ssh, nursery: trio.Nursery, kex: str) -> None:
    """Two connections, and keys that change: a group of its own each time."""
    ssh = attrs.evolve(ssh, options=(f"KexAlgorithms={kex}", "RekeyLimit=100K"))
    await ssh.serve(nursery, Echoes, security="legacy", moduli="/etc/ssh/moduli")
    for _ in range(2):
        done = await ssh.run("server", "echo", stdin=SAMPLE)
        assert done.returncode == 0, done.stderr
        assert done.stdout == SAMPLE
        assert done.stderr.decode().startswith(kex)


@pytest.mark.parametrize("profile", ["modern", "compatible", "legacy", "fips"])
async def test_ssh_as_it_is_reaches_every_profile(ssh: Ssh, nursery: trio.Nursery, profile: str) -> None:
    await ssh.serve(nursery, Echoes, security=profile)
    done = await ssh.run("server", "echo", stdin=SAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAMPLE


async def test_an_old_client_is_told_what_a_modern_server_has(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = attrs.evolve(ssh, options=("KexAlgorithms=ecdh-sha2-nistp256",))
    await ssh.serve(nursery)
    done = await ssh.run("server", "true")
    assert done.returncode == 255
    assert b"no matching key exchange method found. Their offer: mlkem768x25519-sha256,curve25519-sha256" in done.stderr
