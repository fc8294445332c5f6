"""Key exchanges of whole connections: the first, those amid traffic, and what lasts from one to the next."""

from __future__ import annotations

import itertools
from typing import Final

import attrs
import pytest

from tests.core.by_hand import HOST_KEY, KEX_NAME, SUITES, HandPeer
from tests.core.fed import replaced
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.events import Ended, ExchangeFinished
from trio_ssh.core.limits import KIB, MIB, Limits
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import SignatureWanted
from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.errors import IncompatiblePeer, RemoteProtocolError
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.testing.lockstep import CorePair, CoreSide, counted_bytes
from trio_ssh.wire.connection import ChannelData, ChannelOpen, ChannelOpenConfirmation
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import Debug, ExtInfo, Ignore, NewKeys, Ping, Pong, Unimplemented

FAST: Final = Algorithms(kex=(KEX_NAME,))
UNKNOWN: Final = bytes((200,))


def options(limits: Limits | None = None, algorithms: Algorithms = FAST) -> Options:
    return Options(random_bytes=counted_bytes(), limits=limits or Limits(), algorithms=algorithms)


def of_suite(suite: tuple[str, str], compression: str = "none") -> Algorithms:
    return attrs.evolve(FAST, ciphers=(suite[0],), macs=(suite[1] or "hmac-sha2-256",), compressions=(compression,))


def pattern(seed: int, size: int) -> bytes:
    return bytes((seed + 7 * (position // 251) + position) & 0xFF for position in range(1000)) * (size // 1000)


class Load:
    """Data in both directions at once, in the order in which it was sent."""

    def __init__(self, pair: CorePair, size: int) -> None:
        self.pair = pair
        self.ours, self.theirs = pair.open_channel()
        self.up, self.down = pattern(1, size), pattern(2, size)
        self.sizes = itertools.cycle((5_000, 1, 20_000, 700))
        self.sent = [0, 0]
        self.arrived = [bytearray(), bytearray()]

    def _send(self, side: CoreSide, channel: CoreChannel, data: bytes, index: int, most: int) -> None:
        start = self.sent[index]
        self.sent[index] += side.send(channel, data[start : start + most])

    def step(self) -> None:
        """Each side sends, what was sent is carried, each side reads."""
        pair = self.pair
        most = next(self.sizes)
        self._send(pair.client, self.ours, self.up, 0, most)
        self._send(pair.server, self.theirs, self.down, 1, most)
        pair.carry_to_server()
        self.arrived[0] += pair.server.read(self.theirs)
        pair.carry_to_client()
        self.arrived[1] += pair.client.read(self.ours)

    def finish(self) -> None:
        steps = 0
        while (len(self.arrived[0]), len(self.arrived[1])) != (len(self.up), len(self.down)):
            self.step()
            self.pair.check()
            steps += 1
            assert steps < 1000, "the data goes on"
        assert (bytes(self.arrived[0]), bytes(self.arrived[1])) == (self.up, self.down)
        self.pair.pump()
        self.pair.check()


def exchanges(pair: CorePair) -> int:
    counts = {len(pair.client.of(ExchangeFinished)), len(pair.server.of(ExchangeFinished))}
    assert len(counts) == 1
    return counts.pop()


SMALL: Final = Limits(rekey_bytes=100_000)
FEW: Final = Limits(rekey_packets=10)


@pytest.mark.parametrize(
    ("client", "server"),
    [(SMALL, None), (None, SMALL), (SMALL, SMALL), (FEW, None), (None, FEW), (FEW, FEW), (SMALL, FEW)],
    ids=["client, bytes", "server, bytes", "both, bytes", "client, packets", "server, packets", "both", "either"],
)
def test_keys_change_under_load_and_the_data_does_not(client: Limits | None, server: Limits | None) -> None:
    pair = CorePair(options(client), options(server))
    pair.log_in()
    Load(pair, 600_000).finish()
    assert exchanges(pair) >= 5


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("compression", defaults.COMPRESSIONS)
def test_keys_change_under_load_with_every_cipher_and_compression(suite: tuple[str, str], compression: str) -> None:
    algorithms = of_suite(suite, compression)
    pair = CorePair(options(FEW, algorithms), options(SMALL, algorithms))
    pair.log_in()
    Load(pair, 200_000).finish()
    assert exchanges(pair) >= 4
    for side in (pair.client, pair.server):
        negotiated = side.connection.keying.negotiated
        assert negotiated is not None
        assert negotiated.client_to_server == negotiated.server_to_client
        assert (negotiated.client_to_server.cipher, negotiated.client_to_server.compression) == (suite[0], compression)


@pytest.mark.parametrize("order", ["client", "server", "both"])
@pytest.mark.parametrize("piece_bytes", [0, 1, 100])
def test_either_side_begins_or_both_at_once(order: str, piece_bytes: int) -> None:
    pair = CorePair(options(), options())
    pair.log_in()
    for round_number in range(2, 5):
        if order != "server":
            pair.client.record(pair.client.connection.start_exchange())
        if order != "client":
            pair.server.record(pair.server.connection.start_exchange())
        pair.pump(piece_bytes)
        pair.check()
        assert exchanges(pair) == round_number
    assert [event.is_first for event in pair.client.of(ExchangeFinished)] == [True, False, False, False]
    Load(pair, 10_000).finish()


def test_a_second_wish_for_new_keys_is_the_same_exchange() -> None:
    pair = CorePair(options(), options())
    pair.log_in()
    for _ in range(3):
        pair.client.record(pair.client.connection.start_exchange())
    pair.pump()
    assert exchanges(pair) == 2


def test_no_exchange_is_begun_before_authentication_is_complete() -> None:
    pair = CorePair(options(FEW), options(FEW))
    pair.pump()
    for _ in range(30):
        pair.client.connection.send(Ignore(b""))
        pair.pump()
        pair.client.record(pair.client.connection.start_exchange())
        pair.server.record(pair.server.connection.start_exchange())
    pair.pump()
    assert exchanges(pair) == 1
    pair.log_in()
    pair.pump()
    assert exchanges(pair) == 2


def test_every_exchange_gives_other_keys_and_the_session_keeps_its_id() -> None:
    pair = CorePair(options(), options())
    pair.log_in()
    session_id = pair.client.connection.keying.session_id
    sent: list[bytes] = []

    def note(data: bytes) -> bytes:
        sent.append(data)
        return data

    pair.to_client = note
    for _ in range(2):
        pair.client.record(pair.client.connection.start_exchange())
        pair.pump()
    assert pair.client.connection.keying.session_id == pair.server.connection.keying.session_id == session_id
    assert len(session_id) == 32
    assert len(set(sent)) == len(sent)


@pytest.mark.parametrize("kex", [*defaults.KEX, "curve448-sha512", "diffie-hellman-group-exchange-sha1"])
def test_every_method_carries_a_session(kex: str) -> None:
    algorithms = Algorithms(kex=(kex,))
    pair = CorePair(options(None, algorithms), options(None, algorithms))
    pair.log_in()
    pair.client.record(pair.client.connection.start_exchange())
    Load(pair, 5000).finish()
    assert exchanges(pair) == 2


def test_what_is_said_during_an_exchange_waits_and_comes_in_order() -> None:
    pair = CorePair(options(), options())
    pair.log_in()
    ours, theirs = pair.open_channel()
    client = pair.client.connection
    pair.client.record(client.start_exchange())
    assert client.send_data(ours, memoryview(b"too early")) == 0
    client.mux.request(ours, "one", b"", wants_reply=False)
    client.mux.request(ours, "two", b"", wants_reply=False)
    client.mux.send_eof(ours)
    client.mux.close(ours)
    before = len(pair.server.events)
    pair.pump()
    pair.check()
    assert [type(event).__name__ for event in pair.server.events[before:]] == [
        "ExchangeStarted",
        "Asked",
        "ExchangeFinished",
        "RequestArrived",
        "RequestArrived",
        "EofArrived",
        "CloseArrived",
    ]
    assert theirs.local_id not in pair.server.connection.mux.channels


def test_a_server_offers_what_it_can_sign_and_nothing_else() -> None:
    server = Options(random_bytes=counted_bytes(), host_keys=(HOST_KEY,))
    pair = CorePair(options(None, Algorithms(kex=(KEX_NAME,), host_keys=("ecdsa-sha2-nistp256",))), server)
    pair.pump()
    for side in (pair.client, pair.server):
        failure = side.connection.failure
        assert isinstance(failure, IncompatiblePeer)
        assert failure.kind == "host key"
    assert isinstance(pair.server.connection.failure, IncompatiblePeer)
    assert pair.server.connection.failure.ours == ("ssh-ed25519",)


def test_the_client_s_wish_chooses_among_a_server_s_keys() -> None:
    ecdsa = ECDSAKey.generate()
    server = Options(random_bytes=counted_bytes(), host_keys=(HOST_KEY, ecdsa))
    for wanted, key in ((("ssh-ed25519",), HOST_KEY), (ecdsa.algorithms, ecdsa)):
        pair = CorePair(options(None, Algorithms(kex=(KEX_NAME,), host_keys=wanted)), server)
        pair.log_in()
        assert pair.client.connection.keying.host_key == key.public_key


# -- by hand: strictness, sequence numbers, extensions


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("compression", defaults.COMPRESSIONS)
def test_a_peer_without_strictness_is_served_too(role: Role, suite: tuple[str, str], compression: str) -> None:
    peer = HandPeer(role, suite=suite, compression=compression, is_strict=False)
    peer.log_in()
    assert not peer.core.keying.is_strict
    for _ in range(2):
        peer.exchange()
        peer.say(Ping(b"still there"))
        assert peer.of(Pong)[-1] == Pong(b"still there")
    peer.check()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("is_strict", [True, False])
def test_strictness_counts_packets_from_zero_behind_each_newkeys(role: Role, is_strict: bool) -> None:
    peer = HandPeer(role, is_strict=is_strict)
    peer.log_in()
    assert peer.core.keying.is_strict == is_strict
    peer.exchange()
    counted = peer.sent_sequence  # by the peer itself, from its own NEWKEYS or from the beginning
    assert (counted == 0) == is_strict
    peer.say(Ignore(b""), UNKNOWN, Ignore(b""), UNKNOWN)
    assert peer.of(Unimplemented) == [Unimplemented(counted + 1), Unimplemented(counted + 3)]


@pytest.mark.parametrize("role", Role)
def test_the_marker_counts_in_the_first_exchange_only(role: Role) -> None:
    peer = HandPeer(role, is_strict=False)
    peer.log_in()
    marker = "kex-strict-c-v00@openssh.com" if role is Role.SERVER else "kex-strict-s-v00@openssh.com"
    peer.say_kexinit(peer.kexinit(extra=(marker, "ext-info-c")))
    peer.say(Debug(False, "allowed, where it is not strict", ""))
    peer.say(peer.init() if role is Role.SERVER else peer.reply())
    peer.say_newkeys()
    peer.say(Ping(b"x"))
    peer.check()
    assert not peer.core.keying.is_strict
    assert peer.of(ExtInfo) == []


@pytest.mark.parametrize("role", Role)
def test_strictness_allows_the_usual_in_later_exchanges(role: Role) -> None:
    peer = HandPeer(role)
    peer.log_in()
    peer.say_kexinit()
    peer.say(Ignore(b"x"), Debug(False, "", ""), Unimplemented(0))
    peer.say(peer.init() if role is Role.SERVER else peer.reply())
    peer.say_newkeys()
    peer.say(Ping(b"x"))
    peer.check()


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_server_s_extensions_are_the_first_message_under_the_new_keys(is_wanted: bool) -> None:
    peer = HandPeer(Role.SERVER)
    peer.greet()
    peer.say_kexinit(peer.kexinit(extra=("ext-info-c",) if is_wanted else ()))
    peer.say(peer.init())
    peer.say_newkeys()
    peer.check()
    assert [payload[0] for payload in peer.heard] == [20, 31, 21] + [7] * is_wanted
    if is_wanted:
        [info] = peer.of(ExtInfo)
        content = Message(info.extensions)
        found = {content.get_text(): content.get_text() for _ in range(info.count)}
        assert content.get_remainder() == b""
        assert found == {
            "server-sig-algs": ",".join(defaults.HOST_KEYS),
            "ping@openssh.com": "0",
            "publickey-hostbound@openssh.com": "0",
        }


def test_a_client_knows_what_a_server_announced() -> None:
    pair = CorePair(options(), attrs.evolve(options(), signature_algorithms=("ssh-ed25519", "rsa-sha2-512")))
    pair.log_in()
    assert pair.client.connection.extensions["server-sig-algs"] == b"ssh-ed25519,rsa-sha2-512"
    assert pair.server.connection.extensions == {}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("is_right", [True, False])
def test_a_guess_is_used_if_right_and_dropped_if_wrong(role: Role, is_right: bool) -> None:
    peer = HandPeer(role)
    peer.greet()
    first = peer.kexinit(follows=True)
    peer.say_kexinit(first if is_right else replaced(first, kex_algorithms=("rot13", *first.kex_algorithms)))
    if not is_right:
        peer.say(b"\x1eanything of the wrong method")
    peer.say(peer.init() if role is Role.SERVER else peer.reply())
    peer.say_newkeys()
    peer.check()
    assert peer.core.phase is Phase.AUTHENTICATE


# -- in the middle of things


def opened(peer: HandPeer) -> CoreChannel:
    """A channel between the peer, who opens it, and the core."""
    peer.say(ChannelOpen("session", 5, 100_000, 32_768, b""))
    [channel] = peer.core.mux.channels.values()
    peer.core.confirm_open(channel)
    peer.listen()
    assert peer.of(ChannelOpenConfirmation)
    return channel


@pytest.mark.parametrize("role", Role)
def test_data_that_was_on_its_way_still_arrives(role: Role) -> None:
    peer = HandPeer(role)
    peer.log_in()
    channel = opened(peer)
    peer.side.record(peer.core.start_exchange())
    peer.say(ChannelData(channel.local_id, b"on its way"))
    assert peer.side.read(channel) == b"on its way"
    peer.exchange()
    peer.say(ChannelData(channel.local_id, b"under new keys"))
    assert peer.side.read(channel) == b"under new keys"
    peer.check()


def test_the_input_pauses_while_a_signature_is_awaited() -> None:
    peer = HandPeer(Role.SERVER)
    peer.log_in()
    del peer.side.answers[SignatureWanted]
    peer.say_kexinit()
    peer.say(peer.init(), Ignore(b"waits"), Ignore(b"waits, too"))
    question = peer.side.question
    assert isinstance(question, SignatureWanted)
    assert peer.core.is_paused
    assert not peer.of(NewKeys)[1:]
    peer.side.answer(question.key.sign(question.data))
    peer.listen()
    peer.say_newkeys()
    peer.say(Ping(b"on it goes"))
    peer.check()
    assert peer.of(Pong)


def test_the_host_key_cannot_change_in_a_rekey() -> None:
    peer = HandPeer(Role.CLIENT)
    peer.log_in()
    peer.say_kexinit()
    peer.say(peer.reply(Ed25519Key(bytes(32))))
    failure = peer.failure()
    assert isinstance(failure, RemoteProtocolError)
    assert failure.reason is DisconnectReason.HOST_KEY_NOT_VERIFIABLE
    assert peer.was_told().reason == DisconnectReason.HOST_KEY_NOT_VERIFIABLE
    assert len(peer.side.of(ExchangeFinished)) == 1


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("answers_kexinit", [True, False])
def test_a_peer_that_never_finishes_an_exchange_but_sends_is_stopped(role: Role, answers_kexinit: bool) -> None:
    limits = Limits(rekey_bytes=64 * KIB, all_windows_bytes=2 * MIB)
    peer = HandPeer(role, limits=limits)
    peer.log_in()
    if answers_kexinit:
        peer.say_kexinit()
    sent = 0
    while peer.core.failure is None:
        peer.say(*[Ignore(bytes(30_000))] * 4)
        sent += 120_000
        assert sent < 2 * limits.rekey_bytes + limits.all_windows_bytes + 300_000, "there is an end to it"
    assert sent >= 2 * limits.rekey_bytes + limits.all_windows_bytes - 300_000, "what may be on its way is waited for"
    assert "without finishing the key exchange" in str(peer.failure())
    assert len(peer.side.of(Ended)) == 1


def test_a_peer_that_never_finishes_an_exchange_is_stopped_by_its_packets_too() -> None:
    peer = HandPeer(Role.SERVER, limits=Limits(rekey_packets=100))
    peer.log_in()
    read = b"".join(peer.packet(Ignore(b"").encode()) for _ in range(2**16 - 100))
    peer.raw(read)
    peer.check()
    peer.say(*[Ignore(b"")] * 200)
    assert "without finishing the key exchange" in str(peer.failure())


@pytest.mark.parametrize("role", Role)
def test_a_peer_that_asks_without_finishing_an_exchange_is_stopped(role: Role) -> None:
    """Its answers are held back, and to stop reading would not bring the end of the exchange nearer."""
    limits = Limits(queued_output_bytes=100_000)
    peer = HandPeer(role, limits=limits)
    peer.log_in()
    peer.side.record(peer.core.start_exchange())
    for _ in range(10_000):
        if peer.core.failure is not None:
            break
        peer.say(*[Ping(b"?")] * 50)
        assert not peer.of(Pong)
    assert "asks on and on" in str(peer.failure())
    assert peer.was_told().reason == DisconnectReason.PROTOCOL_ERROR
