"""Hostile peers before and during a key exchange: what is said where it is not due has no effect, and ends it all.

The peers are byte streams written by hand; see `tests.core.by_hand`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.core.by_hand import HOST_KEY, KEX_NAME, PHASES, STAGES, HandPeer, arrive, frame
from tests.core.fed import replaced
from tests.core.test_phases import expected
from trio_ssh.core.events import Asked, Ended, ExchangeFinished
from trio_ssh.core.limits import DEFAULT_LIMITS
from trio_ssh.core.phases import Phase, Verdict
from trio_ssh.core.role import Role
from trio_ssh.crypto.cipher import NullSealer
from trio_ssh.errors import IncompatiblePeer, InternalError, RemoteProtocolError, SSHException
from trio_ssh.testing.lockstep import CorePair
from trio_ssh.wire.exchange import (
    KexEcdhInit,
    KexEcdhReply,
    KexGssComplete,
    KexGssContinue,
    KexGssError,
    KexGssHostkey,
)
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import Ignore, KexInit, NewKeys, Unimplemented

EXCHANGING: Final = ("KEXINIT", "a share", "NEWKEYS")


def ended(peer: HandPeer, reason: DisconnectReason = DisconnectReason.PROTOCOL_ERROR) -> str:
    """The core has ended the connection for the peer's fault and told it so; return how it says it."""
    failure = peer.failure()
    assert isinstance(failure, RemoteProtocolError)
    assert failure.reason is reason
    assert peer.was_told().reason == reason
    return str(failure)


# -- the version


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "line",
    [
        b"SSH-1.5-x\r\n",
        b"SSH-2.0-" + b"x" * 300,
        b"SSH-2.0-x\0y\r\n",
        b"SSH-2.0-x\x1b[2J\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.0\r\n\r\n" * 600,
        b"\0" * 100,
        b"\xff" * 100_000,
    ],
)
def test_who_is_no_ssh_peer_is_refused_quoted_and_told_nothing(role: Role, line: bytes) -> None:
    peer = HandPeer(role)
    peer.side.data_to_send()
    peer.raw(line)
    failure = peer.failure()
    assert isinstance(failure, RemoteProtocolError)
    assert str(failure).isprintable()
    assert len(str(failure)) < 400
    assert peer.side.data_to_send() == b""


def test_a_server_is_not_made_to_read_lines_before_a_version() -> None:
    peer = HandPeer(Role.SERVER)
    peer.raw(b"hello\r\nSSH-2.0-x\r\n")
    assert "first" in str(peer.failure())


# -- every number at every stage


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("role", Role)
def test_a_message_has_no_effect_where_it_is_not_due(role: Role, stage: str) -> None:
    """All 256 numbers.  libssh CVE-2018-10933, paramiko CVE-2018-7750, asyncssh CVE-2023-46445 and 46446, Erlang
    CVE-2025-32433, and the strictness that Terrapin (CVE-2023-48795) made necessary.
    """
    phase = PHASES[stage]
    assert phase is not None
    for number in range(256):
        verdict = expected(role, phase, number)
        peer = arrive(role, stage)
        said, happened = len(peer.heard), len(peer.side.events)
        if verdict == Verdict.ADMIT:
            peer.say(bytes((number,)) + bytes(40))
            assert not isinstance(peer.core.failure, InternalError)
            continue
        peer.say(bytes((number,)) + bytes(40))
        news = peer.side.events[happened:]
        if verdict == Verdict.REFUSE:
            assert f"message {number} arrived" in ended(peer)
            assert [type(event) for event in news] == [Ended]
            assert len(peer.heard) == said + 1
        elif verdict == Verdict.UNKNOWN:
            assert news == []
            assert [payload[0] for payload in peer.heard[said:]] == [Unimplemented.NUMBER]
            peer.check()
        else:
            assert (news, len(peer.heard)) == ([], said)
            peer.check()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", EXCHANGING)
def test_where_it_is_not_strict_only_what_means_nothing_may_come_in_between(role: Role, stage: str) -> None:
    phase = Phase.START if stage == "KEXINIT" else Phase.EXCHANGE_LENIENT
    for number in range(256):
        if expected(role, phase, number) == Verdict.ADMIT:
            continue
        peer = arrive(role, stage, is_strict=False)
        peer.say(bytes((number,)) + bytes(40))
        assert f"message {number} arrived" in ended(peer)


# -- Terrapin


def inserted(number_of_packet: int, extra: bytes, *, behind_version: bool = True) -> Callable[[bytes], bytes]:
    """A man in the middle who inserts a packet before the n-th one of a plain stream."""
    seen = bytearray()

    def tamper(data: bytes) -> bytes:
        start = len(seen)
        seen.extend(data)
        offset = seen.index(b"\r\n") + 2
        for _ in range(number_of_packet):
            if offset >= len(seen):
                return data
            offset += 4 + int.from_bytes(seen[offset : offset + 4], "big")
        if start <= offset < len(seen) or (start == offset == len(seen)):
            return data[: offset - start] + extra + data[offset - start :]
        return data

    return tamper


@pytest.mark.parametrize("is_to_client", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("message", [Ignore(b""), Ignore(b"x" * 40), Unimplemented(0)])
def test_nothing_can_be_slipped_into_a_strict_exchange(
    is_to_client: bool, place: int, message: DeclaredMessage
) -> None:
    """A packet inserted in the clear would let another one be cut off behind NEWKEYS without a trace."""
    pair = CorePair()
    tamper = inserted(place, frame(NullSealer(), 0, message.encode()))
    if is_to_client:
        pair.to_client = tamper
    else:
        pair.to_server = tamper
    pair.pump()
    victim = pair.client if is_to_client else pair.server
    assert isinstance(victim.connection.failure, RemoteProtocolError)
    assert victim.of(ExchangeFinished) == []


class Edited:
    """A man in the middle who replaces some bytes by as many others."""

    def __init__(self, old: bytes, new: bytes) -> None:
        assert len(old) == len(new), "a packet keeps its length"
        self.old, self.new = old, new
        self.found = 0

    def __call__(self, data: bytes) -> bytes:
        self.found += data.count(self.old)
        return data.replace(self.old, self.new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"kex-strict-c-v00@openssh.com", b"kex-string-c-v00@openssh.com"),
        (b"kex-strict-s-v00@openssh.com", b"kex-string-s-v00@openssh.com"),
        (b"ext-info-c", b"ext-info-x"),
        (b"aes128-gcm@openssh.com", b"aes128-gcx@openssh.com"),
        (b"hmac-sha2-256-etm@openssh.com", b"hmac-sha2-256-xtm@openssh.com"),
        (b"mlkem768x25519-sha256", b"mlkem768x25519-sha255"),
        (b"ssh-ed25519,", b"ssh-ed2551x,"),
        (b"SSH-2.0-trio_ssh\r\n", b"SSH-2.0-trio_shh\r\n"),
    ],
)
@pytest.mark.parametrize("direction", ["to_client", "to_server", "both"])
def test_what_was_offered_cannot_be_changed_on_its_way(old: bytes, new: bytes, direction: str) -> None:
    """A marker or an algorithm that is removed in between is missed in the exchange hash: the signature is wrong."""
    pair = CorePair()
    edited = Edited(old, new)
    if direction != "to_server":
        pair.to_client = edited
    if direction != "to_client":
        pair.to_server = edited
    pair.pump()
    if not edited.found:  # it is only said in the other direction
        pair.check()
        return
    for side in (pair.client, pair.server):
        assert isinstance(side.connection.failure, SSHException)
        assert not isinstance(side.connection.failure, InternalError)
        assert side.of(ExchangeFinished) == []
    assert pair.client.of(Asked) == [], "nobody is asked to trust a host that saw something else"


# -- the order of an exchange


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", ["a share", "NEWKEYS", "a share again", "NEWKEYS again"])
def test_an_exchange_has_one_kexinit(role: Role, stage: str) -> None:
    peer = arrive(role, stage)
    peer.say(peer.kexinit())
    assert "message 20 arrived" in ended(peer)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("is_strict", [True, False])
@pytest.mark.parametrize("stage", ["KEXINIT", "a share", "authentication", "anything", "a share again"])
def test_newkeys_has_its_place(role: Role, is_strict: bool, stage: str) -> None:
    peer = arrive(role, stage, is_strict=is_strict)
    before = len(peer.side.of(ExchangeFinished))
    peer.say(NewKeys())
    ended(peer)
    assert len(peer.side.of(ExchangeFinished)) == before


@pytest.mark.parametrize("role", Role)
def test_a_second_newkeys_is_one_too_many(role: Role) -> None:
    peer = arrive(role, "NEWKEYS")
    peer.say_newkeys()
    peer.check()
    peer.say(NewKeys())
    ended(peer)


@pytest.mark.parametrize("stage", ["a share", "NEWKEYS", "a share again", "NEWKEYS again"])
def test_a_client_s_share_comes_once_and_a_server_s_never(stage: str) -> None:
    peer = arrive(Role.SERVER, stage)
    share: DeclaredMessage = peer.init() if stage.startswith("NEWKEYS") else KexEcdhReply(b"", b"", b"")
    peer.say(share)
    ended(peer)


@pytest.mark.parametrize("stage", ["a share", "NEWKEYS", "a share again", "NEWKEYS again"])
def test_a_server_s_share_comes_once_and_a_client_s_never(stage: str) -> None:
    peer = arrive(Role.CLIENT, stage)
    share: DeclaredMessage = peer.reply() if stage.startswith("NEWKEYS") else KexEcdhInit(bytes(32))
    peer.say(share)
    ended(peer)


@pytest.mark.parametrize("role", Role)
def test_a_guess_that_was_announced_and_never_sent_swallows_the_next_message(role: Role) -> None:
    peer = HandPeer(role)
    peer.greet()
    peer.say_kexinit(replaced(peer.kexinit(follows=True), kex_algorithms=("rot13", KEX_NAME)))
    said = len(peer.heard)
    peer.say(peer.init() if role is Role.SERVER else KexEcdhReply(b"", b"", b""))
    assert [payload[0] for payload in peer.heard[said:]] == ([] if role is Role.SERVER else [30])
    peer.say(NewKeys())
    ended(peer)


@pytest.mark.parametrize("role", Role)
def test_only_one_guess_is_dropped(role: Role) -> None:
    peer = HandPeer(role)
    peer.greet()
    peer.say_kexinit(replaced(peer.kexinit(follows=True), kex_algorithms=("rot13", KEX_NAME)))
    for _ in range(2):
        peer.say(b"\x1e\0\0\0\x05wrong")
    ended(peer, DisconnectReason.KEY_EXCHANGE_FAILED if role is Role.SERVER else DisconnectReason.PROTOCOL_ERROR)


# -- KEXINIT


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", ["KEXINIT", "anything"])
def test_a_kexinit_cut_anywhere_is_refused(role: Role, stage: str) -> None:
    whole = arrive(role, stage).kexinit().encode()
    for cut in (*range(1, 60), *range(60, len(whole), 9), len(whole) - 1):
        peer = arrive(role, stage)
        peer.say(whole[:cut])
        assert "KexInit" in ended(peer)
    peer = arrive(role, stage)
    peer.say(whole + b"\0")
    assert "1 bytes too many" in ended(peer)


LISTS: Final = [name for name, _ in KexInit.FIELDS[1:11]]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", LISTS)
def test_name_lists_beyond_the_limit_are_refused_before_they_are_split(role: Role, name: str) -> None:
    peer = arrive(role, "KEXINIT")
    peer.say(replaced(peer.kexinit(), **{name: ("x",) * 1025}))
    assert "more than 1024 names" in ended(peer)


@pytest.mark.parametrize("role", Role)
def test_name_lists_of_the_largest_size_cost_little_and_are_not_shown_at_length(role: Role) -> None:
    peer = arrive(role, "KEXINIT")
    long = tuple(f"name-{number}" + "x" * 20 for number in range(1024))
    message = peer.kexinit()
    everywhere = {name: (*long[:-2], *getattr(message, name)) for name in LISTS[:-2]}
    peer.say_kexinit(replaced(message, **everywhere))
    peer.check()
    assert peer.core.phase is Phase.EXCHANGE_STRICT

    peer = arrive(role, "KEXINIT")
    peer.say(replaced(message, kex_algorithms=("x" * 200_000,)))
    failure = peer.failure()
    assert isinstance(failure, IncompatiblePeer)
    assert len(str(failure)) < 2000
    assert peer.was_told().reason == DisconnectReason.KEY_EXCHANGE_FAILED


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", [name for name in LISTS if "mac" not in name and "lang" not in name])
def test_nothing_is_negotiated_that_we_did_not_enable(role: Role, name: str) -> None:
    """Not even what we could do."""
    disabled = {
        "kex_algorithms": "ecdh-sha2-nistp256",
        "server_host_key_algorithms": "rsa-sha2-512",
        "encryption_client_to_server": "aes256-ctr",
        "encryption_server_to_client": "aes256-ctr",
        "compression_client_to_server": "zlib@openssh.com",
        "compression_server_to_client": "zlib@openssh.com",
    }
    peer = arrive(role, "KEXINIT")
    peer.say(replaced(peer.kexinit(), **{name: (disabled[name], "none\0", "")}))
    assert isinstance(peer.failure(), IncompatiblePeer)


GSS: Final = "gss-curve25519-sha256-toWM5Slw5Ew8Mqkay+al2g=="


@pytest.mark.parametrize("role", Role)
def test_nobody_exchanges_keys_by_gss_api_who_was_not_told_to(role: Role) -> None:
    """A server that needn't sign could be anyone."""
    peer = arrive(role, "KEXINIT")
    peer.say(replaced(peer.kexinit(), kex_algorithms=(GSS,), server_host_key_algorithms=("null",)))
    assert isinstance(peer.failure(), IncompatiblePeer)
    peer = arrive(role, "KEXINIT")
    message = peer.kexinit()
    peer.say(replaced(message, server_host_key_algorithms=("null",)))
    assert isinstance(peer.failure(), IncompatiblePeer)
    peer = arrive(role, "KEXINIT")
    markers = message.kex_algorithms[1:]
    peer.say_kexinit(replaced(message, kex_algorithms=(GSS, KEX_NAME, *markers)))
    peer.say(peer.init() if role is Role.SERVER else peer.reply())
    peer.check()
    assert peer.core.keying.gss_context is None


def test_a_server_that_offered_gss_api_unasked_and_goes_on_by_it_is_left() -> None:
    for message in (
        KexGssHostkey(HOST_KEY.asbytes()),
        KexGssContinue(b"token"),
        KexGssComplete(bytes(32), b"mic", False, b""),
        KexGssError(0, 0, "", ""),
    ):
        peer = HandPeer(Role.CLIENT)
        peer.greet()
        markers = peer.kexinit().kex_algorithms
        peer.say_kexinit(replaced(peer.kexinit(), kex_algorithms=(GSS, *markers)))
        peer.say(message)
        assert isinstance(peer.failure(), RemoteProtocolError)
        assert peer.side.of(Asked) == []


# -- shares and host keys, through a whole connection


@pytest.mark.parametrize(
    "share", [b"", bytes(31), bytes(33), bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]
)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", ["a share", "a share again"])
def test_a_bad_share_ends_the_exchange_before_anything_is_signed_or_trusted(
    role: Role, stage: str, share: bytes
) -> None:
    peer = arrive(role, stage)
    asked = len(peer.side.of(Asked))
    peer.say(KexEcdhInit(share) if role is Role.SERVER else KexEcdhReply(HOST_KEY.asbytes(), share, b""))
    ended(peer, DisconnectReason.KEY_EXCHANGE_FAILED)
    assert len(peer.side.of(Asked)) == asked


def test_a_host_that_cannot_sign_is_never_shown_to_anyone() -> None:
    peer = arrive(Role.CLIENT, "a share")
    peer.say(replaced(peer.reply(), signature=HOST_KEY.sign(b"something else")))
    assert "signature" in ended(peer)
    assert peer.side.of(Asked) == []


def test_a_server_without_a_key_for_the_client_s_wish_says_so() -> None:
    peer = HandPeer(Role.SERVER)
    peer.greet()
    peer.say(replaced(peer.kexinit(), server_host_key_algorithms=("rsa-sha2-512", "ssh-rsa")))
    assert isinstance(peer.failure(), IncompatiblePeer)


# -- framing, at every stage


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_an_absurd_length_is_refused_from_four_bytes(role: Role, stage: str) -> None:
    """AES-GCM sends it in the clear, so that it can be forged behind NEWKEYS as well."""
    for length in (0, 4, 6, DEFAULT_LIMITS.packet_bytes + 4, 2**31, 2**32 - 1):
        peer = arrive(role, stage)
        peer.raw(length.to_bytes(4, "big")[:3])
        peer.check()
        peer.raw(length.to_bytes(4, "big")[3:])
        assert "packet length" in ended(peer)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_packet_without_a_payload_is_refused(role: Role, stage: str) -> None:
    peer = arrive(role, stage)
    peer.raw(peer.packet(b"", padding=11 if stage in EXCHANGING else 15))
    assert "bytes of padding" in ended(peer)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("stage", STAGES[4:])
def test_a_packet_that_is_sent_again_is_not_authentic(role: Role, stage: str) -> None:
    peer = arrive(role, stage)
    packet = peer.packet(Ignore(b"x").encode())
    peer.raw(packet)
    peer.check()
    peer.raw(packet)
    ended(peer, DisconnectReason.MAC_ERROR)


@pytest.mark.parametrize("role", Role)
def test_what_is_sent_in_the_clear_behind_newkeys_is_not_authentic(role: Role) -> None:
    peer = arrive(role, "authentication")
    peer.raw(frame(NullSealer(), 0, Ignore(b"x" * 10).encode()) + bytes(100))
    assert isinstance(peer.failure(), RemoteProtocolError)
