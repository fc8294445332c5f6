"""One bit of one byte changes on its way, at every offset behind NEWKEYS: nothing that was touched has any effect."""

from __future__ import annotations

import functools
from typing import Final

import attrs
import pytest

from tests.core.by_hand import HOST_KEY, KEX_NAME, SUITES
from trio_ssh.core.auth_client import none_as_client
from trio_ssh.core.events import Ended, Event, OpenRequested
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.role import Role
from trio_ssh.errors import PeerDisconnected, RemoteProtocolError
from trio_ssh.testing.lockstep import CorePair, counted_bytes
from trio_ssh.wire.transport import Ignore

UP: Final = b"to the server"
DOWN: Final = b"to the client"

#: More than the longest packet, so that whoever was made to wait for one has it.
FILLER_BYTES: Final = 300 * 1024


class Wire:
    """One direction: counts what passes, and flips a bit at one offset."""

    def __init__(self, flip_at: int = -1) -> None:
        self.flip_at = flip_at
        self.passed = 0
        self.seen = b""

    def __call__(self, data: bytes) -> bytes:
        offset = self.flip_at - self.passed
        self.passed += len(data)
        self.seen += data
        if 0 <= offset < len(data):
            changed = bytearray(data)
            changed[offset] ^= 1 << (self.flip_at % 8)
            return bytes(changed)
        return data

    def newkeys_end(self) -> int:
        """The offset behind NEWKEYS: what is before it is in the clear."""
        offset = self.seen.index(b"\r\n") + 2
        while True:
            end = offset + 4 + int.from_bytes(self.seen[offset : offset + 4], "big")
            if self.seen[offset + 5] == 21:
                return end
            offset = end


def run(suite: tuple[str, str], to_server: Wire, to_client: Wire) -> tuple[CorePair, bytes, bytes]:
    """A short session; return the pair, and what the server and the client read."""
    algorithms = Algorithms(
        kex=(KEX_NAME,), host_keys=("ssh-ed25519",), ciphers=(suite[0],), macs=(suite[1] or "hmac-sha2-256",)
    )
    options = Options(
        random_bytes=counted_bytes(),
        algorithms=algorithms,
        host_keys=(HOST_KEY,),
        signature_algorithms=("ssh-ed25519",),
    )
    pair = CorePair(attrs.evolve(options, host_keys=()), options)
    pair.to_server, pair.to_client = to_server, to_client
    pair.pump()
    up, down = b"", b""
    client, server = pair.client.connection, pair.server.connection
    if client.phase is Phase.AUTHENTICATE:
        pair.authenticate(none_as_client("bob"))
    if client.phase is Phase.OPEN:
        ours = client.mux.open_channel("session", b"")
        pair.pump()
        for event in pair.server.of(OpenRequested):
            theirs = event.channel
            server.confirm_open(theirs)
            pair.pump()
            client.send_data(ours, memoryview(UP))
            pair.pump()
            up += pair.server.read(theirs)
            server.send_data(theirs, memoryview(DOWN))
            server.mux.send_eof(theirs)
            pair.pump()
            down += pair.client.read(ours)
            server.mux.close(theirs)
            pair.pump()
    return pair, up, down


def told(events: list[Event]) -> list[str]:
    """Events, as far as they are the same in every run."""
    return [type(event).__name__ for event in events]


@functools.cache
def undisturbed(suite: tuple[str, str]) -> tuple[CorePair, Wire, Wire]:
    to_server, to_client = Wire(), Wire()
    pair, up, down = run(suite, to_server, to_client)
    assert (up, down) == (UP, DOWN)
    pair.check()
    return pair, to_server, to_client


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("receiver", Role)
def test_a_flipped_bit_ends_the_connection_where_it_is(suite: tuple[str, str], receiver: Role) -> None:
    calm, *calm_wires = undisturbed(suite)
    index = 0 if receiver is Role.SERVER else 1
    expected = told((calm.server if receiver is Role.SERVER else calm.client).events)
    start, end = calm_wires[index].newkeys_end(), calm_wires[index].passed
    assert end - start > 200
    lengths: set[int] = set()
    for offset in range(start, end):
        wires = [Wire(), Wire()]
        wires[index] = Wire(offset)
        pair, *read = run(suite, *wires)
        victim, other = (pair.server, pair.client) if receiver is Role.SERVER else (pair.client, pair.server)
        if victim.connection.failure is None:  # it waits for the end of a packet that seems to be long
            for _ in range(FILLER_BYTES // 30_000):
                other.connection.send(Ignore(bytes(30_000)))
            pair.pump()
        assert isinstance(victim.connection.failure, RemoteProtocolError)
        assert other.connection.failure is None or isinstance(other.connection.failure, PeerDisconnected)
        # Whatever happened before is what would have happened; nothing happened behind it.
        *before, last = victim.events
        assert isinstance(last, Ended)
        assert told(before) == expected[: len(before)]
        assert len(before) < len(expected) or offset >= end - 100
        assert (UP if index == 0 else DOWN).startswith(read[index])
        lengths.add(len(before))
    assert len(lengths) > 2, "the flips are spread over the session"
