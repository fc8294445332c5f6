"""Our client and real sshd agree on each algorithm, and what then passes is what was sent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.interop.algorithms import COMPRESSIONS, HOST_KEYS, KEX, PROTECTIONS, SAMPLE
from tests.interop.peers import Sshd
from trio_ssh.core.negotiation import Negotiated

pytestmark = pytest.mark.interop


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
