"""What is said of a connection: what was agreed on, whose wish it was, and what is wrong with it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import trio_ssh
from trio_ssh.errors import LocalProtocolError
from trio_ssh.runtime.explain import AlgorithmChoice, Explanation
from trio_ssh.testing import memory_pair, open_memory_client

HOST_KEY = trio_ssh.Ed25519Key.generate()


class OpenDoor(trio_ssh.ServerInterface):
    """Lets anyone in."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL


@asynccontextmanager
async def both(client: Any = None, server: Any = None) -> AsyncIterator[tuple[trio_ssh.Transport, trio_ssh.Transport]]:
    """A client and a server that have exchanged keys."""
    ours, theirs = memory_pair()
    async with (
        trio_ssh.Transport(ours, security=client) as one,
        trio_ssh.Transport(theirs, security=server) as other,
        trio.open_nursery() as nursery,
    ):
        other.add_server_key(HOST_KEY)
        interface = trio_ssh.ServerInterface()
        interface.transport = other
        nursery.start_soon(other.start_server, interface)
        await one.start_client(check_host_key=lambda key: None)
        await trio.testing.wait_all_tasks_blocked()
        yield one, other
        nursery.cancel_scope.cancel()


def choice(explanation: Explanation, kind: str, direction: str = "") -> AlgorithmChoice:
    [found] = [each for each in explanation.choices if (each.kind, each.direction) == (kind, direction)]
    return found


async def test_two_of_our_own_agree_on_the_first_of_each_kind() -> None:
    async with both() as transports:
        for transport, role in zip(transports, ("client", "server"), strict=True):
            found = transport.explain()
            assert found.role == role
            assert found.is_post_quantum
            assert found.is_strict
            assert not found.openssh_would_warn
            assert found.insecure == ()
            assert len(found.choices) == 8
            assert choice(found, "key exchange").remark == "post-quantum"
            assert choice(found, "MAC", "client to server").name == ""
            assert choice(found, "MAC", "client to server").reason == "The cipher needs none."
            assert HOST_KEY.fingerprint in found.host_key
        assert choice(transports[0].explain(), "cipher", "client to server").reason == "Our first choice."
        assert choice(transports[1].explain(), "host key").reason == "The client's first choice, and ours."


async def test_either_side_says_what_the_other_lacks() -> None:
    client = trio_ssh.SecurityOptions(kex=["mlkem768x25519-sha256", "ecdh-sha2-nistp256", "curve25519-sha256"])
    server = trio_ssh.SecurityOptions(kex=["curve448-sha512", "curve25519-sha256", "ecdh-sha2-nistp256"])
    async with both(client, server) as (one, other):
        ours = choice(one.explain(), "key exchange")
        assert ours.name == "ecdh-sha2-nistp256"
        assert (ours.peer_lacks, ours.we_lack, ours.outvoted) == (("mlkem768x25519-sha256",), (), ())
        assert ours.reason == "Our first that the server has; it lacks mlkem768x25519-sha256."
        theirs = choice(other.explain(), "key exchange")
        assert theirs.name == ours.name
        assert theirs.peer_lacks == ("curve448-sha512",)
        assert theirs.we_lack == ("mlkem768x25519-sha256",)
        assert theirs.outvoted == ("curve25519-sha256",)
        assert theirs.reason == (
            "The client's first that we have enabled, behind mlkem768x25519-sha256; we prefer curve25519-sha256; "
            "it lacks curve448-sha512."
        )
        for transport in (one, other):
            assert not transport.explain().is_post_quantum
            assert transport.explain().openssh_would_warn


async def test_what_is_broken_is_called_so() -> None:
    legacy = trio_ssh.SecurityOptions(
        "legacy", kex=["diffie-hellman-group14-sha1"], ciphers=["aes128-cbc"], macs=["hmac-sha1"]
    )
    async with both(legacy, legacy) as (one, _):
        found = one.explain()
        assert [each.name for each in found.insecure] == [
            "diffie-hellman-group14-sha1",
            "aes128-cbc",
            "hmac-sha1",
            "aes128-cbc",
            "hmac-sha1",
        ]
        lines = str(found).splitlines()
        assert lines[0] == "key exchange: diffie-hellman-group14-sha1 (insecure: SHA-1 is broken). Our first choice."
        assert lines[3].startswith("MAC, client to server: hmac-sha1 (insecure: SHA-1 is broken")
        assert "what is recorded today may be read by one; OpenSSH 10.1 and later warns." in lines[-2]
        assert lines[-1] == "Strict key exchange: yes."


async def test_there_is_nothing_to_explain_before_the_first_exchange() -> None:
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(ours) as transport:
        with pytest.raises(LocalProtocolError, match="not started"):
            transport.explain()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(transport.start_client, check_host_key=lambda key: None))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(LocalProtocolError, match="no key exchange has finished yet"):
                transport.explain()
            nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(theirs)


async def test_a_client_explains_its_connection() -> None:
    async with open_memory_client(OpenDoor()) as client:
        assert "key exchange: mlkem768x25519-sha256 (post-quantum)" in str(client.explain())
    with pytest.raises(LocalProtocolError, match="not connected"):
        trio_ssh.SSHClient().explain()
