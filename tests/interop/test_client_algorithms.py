"""Our client and real sshd agree on each algorithm, and what then passes is what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import trio_ssh
from tests.interop.algorithms import COMPRESSIONS, HOST_KEYS, KEX, PROTECTIONS, SAMPLE, SSHD_OPTIONS
from tests.interop.peers import Account, KeyFolder, Sshd
from trio_ssh.core.negotiation import Negotiated

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def sshd(folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder) -> Iterator[Sshd]:
    """OpenSSH's server with everything enabled that it has, and we too."""
    with Sshd(folder, account, host_keys, user_keys, SSHD_OPTIONS) as server:
        yield server


async def negotiated_with(sshd: Sshd, **options: Sequence[str] | bool) -> Negotiated:
    async with sshd.connect(**options) as client:
        done = await client.run_process("cat; cat >&2", stdin=SAMPLE, capture_stdout=True, capture_stderr=True)
        assert done.stdout == SAMPLE
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert negotiated.client_to_server == negotiated.server_to_client
        return negotiated


@pytest.mark.parametrize("kex", KEX)
async def test_each_key_exchange(sshd: Sshd, kex: str) -> None:
    assert (await negotiated_with(sshd, kex=[kex])).kex == kex


@pytest.mark.parametrize("algorithm", HOST_KEYS)
async def test_each_host_key_algorithm(sshd: Sshd, algorithm: str) -> None:
    assert (await negotiated_with(sshd, host_key_algorithms=[algorithm])).host_key_algorithm == algorithm


@pytest.mark.parametrize(("cipher", "mac"), PROTECTIONS)
async def test_each_cipher_with_each_mac(sshd: Sshd, cipher: str, mac: str) -> None:
    options = {"ciphers": [cipher]} | ({"macs": [mac]} if mac else {})
    choice = (await negotiated_with(sshd, **options)).client_to_server
    assert (choice.cipher, choice.mac) == (cipher, mac)


@pytest.mark.parametrize("compression", COMPRESSIONS.values())
async def test_each_compression(sshd: Sshd, compression: str) -> None:
    assert (await negotiated_with(sshd, compressions=[compression])).client_to_server.compression == compression


async def test_compress_asks_for_compression(sshd: Sshd) -> None:
    assert (await negotiated_with(sshd, compress=True)).client_to_server.compression == "zlib@openssh.com"


async def test_keys_change_by_group_exchange_too(sshd: Sshd) -> None:
    async with sshd.connect(kex=["diffie-hellman-group-exchange-sha256"], ciphers=["aes128-cbc"]) as client:
        transport = client.get_transport()
        assert transport is not None
        for _ in range(2):
            await transport.renegotiate_keys()
            done = await client.run_process("cat", stdin=SAMPLE, capture_stdout=True)
            assert done.stdout == SAMPLE


async def test_an_explanation_names_what_sshd_lacks(sshd: Sshd) -> None:
    """OpenSSH 9.2 knows no ML-KEM; a later one does, and chooses it."""
    async with sshd.connect() as client:
        found = client.explain()
        [kex] = [choice for choice in found.choices if choice.kind == "key exchange"]
        ours = trio_ssh.SecurityOptions().kex
        assert kex.peer_lacks == tuple(ours[: ours.index(kex.name)])
        assert found.is_post_quantum == ("mlkem768x25519-sha256" in KEX)
        assert found.openssh_would_warn != found.is_post_quantum
        assert found.is_strict == ("Strict key exchange: yes." in str(found))
