"""New keys amid traffic: begun by either side, with 64 MiB under way in both directions."""

from __future__ import annotations

import hashlib
import random
from typing import Final

import pytest
import trio

import trio_ssh
from tests.interop.peers import LetsAnyoneIn, Ssh, Sshd

pytestmark = pytest.mark.interop

MIB: Final = 1024 * 1024
DATA: Final = random.Random(0).randbytes(MIB) * 64

# OpenSSH compares bytes with blocks here: with a limit of 1 MiB each packet of more than 64 KiB wants new keys.  So it
# begins some 500 times.
#: New keys after each MiB of either direction.  64 MiB want 64 exchanges, less what is under way while keys change:
#: some 60 are made, or 40 to 50 where others want the processors too.  A limit of 2 MiB would make 32 at the most.
OFTEN: Final = trio_ssh.Limits(rekey_bytes=1024 * 1024)
EXCHANGES: Final = 33


def digest(data: bytes | None) -> str:
    """Compared instead of the data, which is too much to be shown."""
    assert data is not None
    return hashlib.sha256(data).hexdigest()


async def echoed_by(sshd: Sshd, data: bytes = DATA, **options: object) -> int:
    """Send data to a real sshd and get it back; return how many key exchanges there were."""
    async with sshd.connect(**options) as client:
        done = await client.run_process("cat", stdin=data, capture_stdout=True)
        assert digest(done.stdout) == digest(data)
        transport = client.get_transport()
        assert transport is not None
        return transport._engine.exchanges


@pytest.mark.parametrize("own_sshd", [["RekeyLimit 1M"]], indirect=True)
async def test_sshd_begins(own_sshd: Sshd) -> None:
    assert await echoed_by(own_sshd) > EXCHANGES


async def test_our_client_begins(sshd: Sshd) -> None:
    assert await echoed_by(sshd, limits=OFTEN) > EXCHANGES


@pytest.mark.parametrize("own_sshd", [["RekeyLimit 1M"]], indirect=True)
async def test_sshd_and_our_client_begin_at_once(own_sshd: Sshd) -> None:
    options = {"limits": OFTEN, "compress": True, "ciphers": ["aes128-ctr"]}
    assert await echoed_by(own_sshd, DATA[: 16 * MIB], **options) > EXCHANGES // 4


async def test_our_client_begins_when_it_is_told(sshd: Sshd) -> None:
    async with sshd.connect() as client, trio.open_nursery() as nursery:
        transport = client.get_transport()
        assert transport is not None

        async def renegotiate() -> None:
            assert transport is not None
            while True:
                await transport.renegotiate_keys()

        nursery.start_soon(renegotiate)
        done = await client.run_process("cat", stdin=DATA[: 8 * MIB], capture_stdout=True)
        assert digest(done.stdout) == digest(DATA[: 8 * MIB])
        assert transport._engine.exchanges > 1
        nursery.cancel_scope.cancel()


async def echoed_to(ssh: Ssh, *options: str, data: bytes = DATA) -> int:
    """Send data from a real ssh and back; return how many key exchanges it speaks of."""
    done = await ssh.run("-v", *options, "server", "cat", stdin=data)
    assert digest(done.stdout) == digest(data)
    return done.stderr.count(b"SSH2_MSG_NEWKEYS received")


async def test_ssh_begins(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery)
    assert await echoed_to(ssh, "-o", "RekeyLimit=1M") > EXCHANGES


async def test_our_server_begins(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, limits=OFTEN)
    assert await echoed_to(ssh) > EXCHANGES


async def test_ssh_and_our_server_begin_at_once(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, limits=OFTEN)
    options = ["-o", "RekeyLimit=1M", "-C", "-c", "aes128-ctr"]
    assert await echoed_to(ssh, *options, data=DATA[: 16 * MIB]) > EXCHANGES // 4


class Counts(LetsAnyoneIn):
    """Takes all it is sent, at its own pace, then sends as much."""

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        seen = hashlib.sha256()
        async for chunk in process.stdin:
            seen.update(chunk)
        await process.stdout.send_all(DATA)
        await process.stderr.write(seen.hexdigest())
        return 0


async def test_keys_change_within_one_direction_too(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Counts, limits=OFTEN)
    done = await ssh.run("-T", "-v", "server", stdin=DATA)
    assert digest(done.stdout) == digest(DATA)
    assert digest(DATA).encode() in done.stderr
    assert done.stderr.count(b"SSH2_MSG_NEWKEYS received") > 2 * EXCHANGES


async def test_what_our_client_sends_is_enough_for_new_keys(sshd: Sshd) -> None:
    async with sshd.connect(limits=OFTEN) as client:
        done = await client.run_process("sha256sum", stdin=DATA, capture_stdout=True)
        assert done.stdout == digest(DATA).encode() + b"  -\n"
        assert client.transport._engine.exchanges > EXCHANGES
