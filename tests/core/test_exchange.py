"""RFC 4253 sections 7 and 8, as dialogs that are fed by hand: who is believed, and when keys change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import attrs
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.core.fed import Fed, replaced
from trio_ssh.core.exchange import (
    Keys,
    SharedSecret,
    Transcript,
    agree_as_client,
    agree_as_server,
    choice_of,
    choose_host_key,
    compression,
    exchange,
)
from trio_ssh.core.negotiation import DirectionChoice, Negotiated
from trio_ssh.core.questions import HostKeyOffered, SignatureWanted
from trio_ssh.core.role import Role
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.agreement_dh import Group, oakley_group
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.compression import COMPRESSIONS
from trio_ssh.crypto.mac import MACS
from trio_ssh.crypto.moduli import NO_MODULI
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.rsa import RSAKey
from trio_ssh.wire.exchange import (
    KexDhGexGroup,
    KexDhGexInit,
    KexDhGexReply,
    KexDhGexRequest,
    KexEcdhInit,
    KexEcdhReply,
)
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import NewKeys

HOST_KEY: Final = Ed25519Key(bytes(32))
OTHER_KEY: Final = Ed25519Key(bytes(range(32)))
TRANSCRIPT: Final = Transcript(b"SSH-2.0-c", b"SSH-2.0-s", b"\x14client", b"\x14server")
PLAIN: Final = DirectionChoice("aes128-gcm@openssh.com", "", "none")


def choose(minimum: int, preferred: int, maximum: int) -> Group:
    """The group that every client of ours can do with."""
    return NO_MODULI.choose(minimum, preferred, maximum, bytes(8))


def agreed(kex: str = "curve25519-sha256", host_key: str = "ssh-ed25519") -> Negotiated:
    return Negotiated(kex, host_key, PLAIN, PLAIN, guess_was_wrong=False)


def sign(fed: Fed[SharedSecret]) -> list[DeclaredMessage]:
    question = fed.asked[-1]
    assert isinstance(question, SignatureWanted)
    return fed.answer(question.key.sign(question.data, question.algorithm))


def both(
    negotiated: Negotiated, known_key: PublicKey | None = None
) -> tuple[Fed[SharedSecret], Fed[SharedSecret], KexEcdhReply]:
    """A client that waits for the reply, the server that has given it, and the reply."""
    client = Fed(agree_as_client(negotiated, TRANSCRIPT, known_key))
    server = Fed(agree_as_server(negotiated, TRANSCRIPT, [HOST_KEY], choose))
    assert server.hear(client.sent[0]) == []
    [reply] = sign(server)
    assert isinstance(reply, KexEcdhReply)
    return client, server, reply


@pytest.mark.parametrize("kex", KEX.names())
def test_both_sides_agree_by_every_method(kex: str) -> None:
    client = Fed(agree_as_client(agreed(kex), TRANSCRIPT, None))
    server = Fed(agree_as_server(agreed(kex), TRANSCRIPT, [HOST_KEY], choose))
    [said] = client.sent
    while answers := server.hear(said):
        [said] = client.hear(answers[0])
    [reply] = sign(server)
    assert client.results == []
    assert client.hear(reply) == []
    assert client.asked == [HostKeyOffered(HOST_KEY.public_key)]
    assert client.results == [], "nothing is agreed before the host is trusted"
    client.answer(None)
    assert client.result == server.result
    assert client.result.hash_name == KEX[kex].hash_name
    assert client.result.host_key == HOST_KEY.public_key


def test_the_exchange_hash_is_the_rfc_s() -> None:
    """RFC 5656 s4, and RFC 8731 s3: V_C, V_S, I_C, I_S, K_S, Q_C, Q_S as strings, and K as it is encoded."""

    parts = [b"SSH-2.0-c", b"SSH-2.0-s", b"\x14client", b"\x14server", b"host key", b"client share", b"server share"]
    expected = b"".join(len(part).to_bytes(4, "big") + part for part in parts) + b"\0\0\0\1\x05"
    digest = TRANSCRIPT.digest("sha384", b"host key", b"client share", b"server share", b"\0\0\0\1\x05")
    assert digest == hashlib.sha384(expected).digest()


# -- what a client refuses

Change = Callable[[KexEcdhReply], KexEcdhReply]


def resigned(key: Ed25519Key) -> Change:
    """The reply of someone else, who can't have signed this exchange, but signs something."""
    return lambda reply: replaced(reply, host_key=key.asbytes(), signature=key.sign(b"x" * 32))


def flipped(field: str, position: int) -> Change:
    def change(reply: KexEcdhReply) -> KexEcdhReply:
        value = bytearray(getattr(reply, field))
        value[position] ^= 1
        return replaced(reply, **{field: bytes(value)})

    return change


LIES: Final[dict[str, Change]] = {
    "signed by another key": lambda reply: replaced(reply, host_key=OTHER_KEY.asbytes()),
    "another host key, another signature": resigned(OTHER_KEY),
    "the host's own signature of something else": resigned(HOST_KEY),
    "no signature": lambda reply: replaced(reply, signature=b""),
    "a signature cut short": lambda reply: replaced(reply, signature=reply.signature[:-1]),
    "a signature with a byte more": lambda reply: replaced(reply, signature=reply.signature + b"\0"),
    "a signature of another algorithm": lambda reply: replaced(
        reply, signature=reply.signature.replace(b"ssh-ed25519", b"ssh-ed25518")
    ),
    "no host key": lambda reply: replaced(reply, host_key=b""),
    "a host key with a byte more": lambda reply: replaced(reply, host_key=reply.host_key + b"\0"),
    "a host key of an unknown kind": lambda reply: replaced(reply, host_key=b"\0\0\0\x03foo"),
    "garbage for a host key": lambda reply: replaced(reply, host_key=b"\xff" * 60),
    "no share": lambda reply: replaced(reply, share=b""),
    "a share too short": lambda reply: replaced(reply, share=reply.share[:-1]),
    "a share too long": lambda reply: replaced(reply, share=reply.share + b"\0"),
    "a share of zeros": lambda reply: replaced(reply, share=bytes(len(reply.share))),
    "a share of ones": lambda reply: replaced(reply, share=b"\xff" * len(reply.share)),
    **{
        f"a bit of the {field} at {position}": flipped(field, position)
        for field, positions in {"share": (0, 15, 30), "signature": (-1, 20), "host_key": (-1, 4)}.items()
        for position in positions
    },
}


@pytest.mark.parametrize("lie", LIES)
def test_a_host_that_lies_is_refused_before_anyone_is_asked_to_trust_it(lie: str) -> None:
    """A policy that stores first-seen keys must never see a key whose owner has not signed."""
    for kex in ("curve25519-sha256", "ecdh-sha2-nistp256", "mlkem768x25519-sha256", "diffie-hellman-group14-sha256"):
        client, _, reply = both(agreed(kex))
        with pytest.raises(RemoteProtocolError):
            client.hear(LIES[lie](reply))
        assert (client.asked, client.results) == ([], [])


def test_a_reply_to_another_exchange_is_refused() -> None:
    client, _, _ = both(agreed())
    _, _, other = both(agreed())
    with pytest.raises(RemoteProtocolError, match="wrong"):
        client.hear(other)


@pytest.mark.parametrize("field", ["client_version", "server_version", "client_kexinit", "server_kexinit"])
def test_what_the_two_sides_saw_must_be_the_same(field: str) -> None:
    """Nothing that was said before can have been changed in between: versions, offers, markers."""
    client = Fed(agree_as_client(agreed(), attrs.evolve(TRANSCRIPT, **{field: b"changed"}), None))
    server = Fed(agree_as_server(agreed(), TRANSCRIPT, [HOST_KEY], choose))
    server.hear(client.sent[0])
    [reply] = sign(server)
    with pytest.raises(RemoteProtocolError, match="wrong"):
        client.hear(reply)


@pytest.mark.parametrize("algorithm", ["ecdsa-sha2-nistp256", "rsa-sha2-256", "ssh-rsa"])
def test_the_host_key_is_of_the_agreed_algorithm(algorithm: str) -> None:
    client = Fed(agree_as_client(agreed(host_key=algorithm), TRANSCRIPT, None))
    server = Fed(agree_as_server(agreed(), TRANSCRIPT, [HOST_KEY], choose))
    server.hear(client.sent[0])
    [reply] = sign(server)
    with pytest.raises(RemoteProtocolError, match=f"type ssh-ed25519, agreed was {algorithm}") as caught:
        client.hear(reply)
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED
    assert client.asked == []


@pytest.fixture(scope="module")
def rsa_key() -> RSAKey:
    return RSAKey.generate(2048)


@pytest.mark.parametrize("signed_with", ["rsa-sha2-256", "rsa-sha2-512"])
def test_an_rsa_signature_is_of_the_agreed_hash(rsa_key: RSAKey, signed_with: str) -> None:
    negotiated = agreed(host_key="rsa-sha2-512")
    client = Fed(agree_as_client(negotiated, TRANSCRIPT, None))
    server = Fed(agree_as_server(negotiated, TRANSCRIPT, [HOST_KEY, rsa_key], choose))
    server.hear(client.sent[0])
    [question] = server.asked
    assert isinstance(question, SignatureWanted)
    assert (question.key, question.algorithm) == (rsa_key, "rsa-sha2-512")
    [reply] = server.answer(rsa_key.sign(question.data, signed_with))
    if signed_with == "rsa-sha2-512":
        client.hear(reply)
        assert client.asked == [HostKeyOffered(rsa_key.public_key)]
    else:
        with pytest.raises(RemoteProtocolError, match="not of the agreed algorithm"):
            client.hear(reply)


def test_a_host_key_that_is_known_already_is_not_asked_about_again() -> None:
    client, server, reply = both(agreed(), known_key=HOST_KEY.public_key)
    client.hear(reply)
    assert client.asked == []
    assert client.result == server.result


def test_the_host_key_cannot_change_in_a_rekey() -> None:
    client, _, reply = both(agreed(), known_key=OTHER_KEY.public_key)
    with pytest.raises(RemoteProtocolError, match="changed during the connection") as caught:
        client.hear(reply)
    assert caught.value.reason is DisconnectReason.HOST_KEY_NOT_VERIFIABLE
    assert client.asked == []


# -- what a server refuses


BAD_SHARES: Final[dict[str, list[bytes]]] = {
    "curve25519-sha256": [b"", bytes(31), bytes(33), bytes(32), b"\1" + bytes(31), b"\x09" + bytes(32)],
    "ecdh-sha2-nistp256": [b"", bytes(65), b"\x04" + bytes(64), b"\x04" + b"\1" * 64, b"\x02" + b"\1" * 32, b"\0"],
    "ecdh-sha2-nistp384": [b"\x04" + b"\1" * 96, b"\x04" + b"\xff" * 96],
    "ecdh-sha2-nistp521": [b"\x04" + b"\1" * 132, b"\x04" + b"\xff" * 132],
    "diffie-hellman-group14-sha256": [b"", b"\1", b"\0\2", b"\xff" * 256, b"\0" + b"\xff" * 256, b"\2" * 258],
    "curve448-sha512": [b"", bytes(56), b"\1" + bytes(55), bytes(55), b"\5" * 57],
    "mlkem768nistp256-sha256": [b"", bytes(1249), b"\xff" * 1249, bytes(1248), bytes(65)],
    "mlkem1024nistp384-sha384": [b"", bytes(1665), b"\xff" * 1665, bytes(1664), bytes(97)],
    "mlkem768x25519-sha256": [b"", bytes(1216), b"\xff" * 1216, bytes(1215), bytes(1217), bytes(32)],
}


@pytest.mark.parametrize(("kex", "share"), [(kex, share) for kex, shares in BAD_SHARES.items() for share in shares])
def test_a_bad_share_is_the_client_s_error_and_nothing_is_signed(kex: str, share: bytes) -> None:
    server = Fed(agree_as_server(agreed(kex), TRANSCRIPT, [HOST_KEY], choose))
    with pytest.raises(RemoteProtocolError) as caught:
        server.hear(KexEcdhInit(share))
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED
    assert (server.asked, server.sent) == ([], [])


def test_the_first_key_that_can_sign_is_chosen() -> None:
    ecdsa = ECDSAKey.generate()
    keys = [ecdsa, HOST_KEY, OTHER_KEY]
    assert choose_host_key(keys, "ssh-ed25519") is HOST_KEY
    assert choose_host_key(keys, ecdsa.algorithms[0]) is ecdsa


# -- when keys change


class Taker:
    """Notes when keys change."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def take_outbound_keys(self, secret: SharedSecret, negotiated: Negotiated) -> None:
        self.taken.append("outbound")

    def take_inbound_keys(self, secret: SharedSecret, negotiated: Negotiated) -> None:
        self.taken.append("inbound")


def test_each_direction_changes_keys_behind_its_own_newkeys() -> None:
    client_taker, server_taker = Taker(), Taker()
    client = Fed(exchange(agree_as_client(agreed(), TRANSCRIPT, HOST_KEY.public_key), agreed(), client_taker))
    server = Fed(exchange(agree_as_server(agreed(), TRANSCRIPT, [HOST_KEY], choose), agreed(), server_taker))
    server.hear(client.sent[0])
    question = server.asked[0]
    assert isinstance(question, SignatureWanted)
    reply, newkeys = server.answer(HOST_KEY.sign(question.data))
    assert newkeys == NewKeys()
    assert (server_taker.taken, client_taker.taken) == (["outbound"], [])
    assert client.hear(reply) == [NewKeys()]
    assert client_taker.taken == ["outbound"]
    client.hear(NewKeys())
    server.hear(NewKeys())
    assert client_taker.taken == server_taker.taken == ["outbound", "inbound"]
    assert client.conversation.is_done
    assert server.conversation.is_done


@pytest.mark.parametrize("message", [NewKeys(), KexEcdhInit(b""), KexEcdhReply(b"", b"", b"")])
def test_no_step_of_an_exchange_is_skipped_or_doubled(message: DeclaredMessage) -> None:
    client_taker, server_taker = Taker(), Taker()
    client = Fed(exchange(agree_as_client(agreed(), TRANSCRIPT, HOST_KEY.public_key), agreed(), client_taker))
    if not isinstance(message, KexEcdhReply):
        with pytest.raises(RemoteProtocolError, match="where KexEcdhReply was due"):
            client.hear(message)
    server = Fed(exchange(agree_as_server(agreed(), TRANSCRIPT, [HOST_KEY], choose), agreed(), server_taker))
    if not isinstance(message, KexEcdhInit):
        with pytest.raises(RemoteProtocolError, match="where KexEcdhInit was due"):
            server.hear(message)
    assert client_taker.taken == server_taker.taken == []


@pytest.mark.parametrize("number", range(30, 50))
def test_a_wrong_guess_is_dropped_once(number: int) -> None:
    negotiated = attrs.evolve(agreed(), guess_was_wrong=True)
    server = Fed(exchange(agree_as_server(negotiated, TRANSCRIPT, [HOST_KEY], choose), negotiated, Taker()))
    server.conversation.receive(bytes((number,)) + b"whatever it is")
    assert (server.sent, server.asked) == ([], [])
    with pytest.raises(RemoteProtocolError):
        server.conversation.receive(bytes((number,)) + b"whatever it is")


def test_newkeys_is_no_guess() -> None:
    negotiated = attrs.evolve(agreed(), guess_was_wrong=True)
    server = Fed(exchange(agree_as_server(negotiated, TRANSCRIPT, [HOST_KEY], choose), negotiated, Taker()))
    with pytest.raises(RemoteProtocolError, match="guessed share"):
        server.hear(NewKeys())


# -- the keys

SECRET: Final = SharedSecret(b"\0\0\0\1\x2a", b"\x07" * 32, "sha256", HOST_KEY.public_key)
SUITES: Final = [
    *[(name, "") for name in CIPHERS.names() if CIPHERS[name].is_aead],
    *[(name, mac) for name in CIPHERS.names() if not CIPHERS[name].is_aead for mac in MACS.names()],
]


def letter(name: str, size: int, session_id: bytes = b"session") -> bytes:
    """RFC 4253 s7.2, for no more than one hash."""

    assert size <= 32
    return hashlib.sha256(SECRET.encoded + SECRET.digest + name.encode() + session_id).digest()[:size]


def test_the_letters_are_those_of_the_rfc() -> None:

    keys = Keys(SECRET, b"session", agreed())
    plain = (16).to_bytes(4, "big") + bytes(16)
    for sender, iv, key in ((Role.CLIENT, "A", "C"), (Role.SERVER, "B", "D")):
        out = bytearray(36)
        keys.sealer(sender).seal(0, memoryview(plain), memoryview(out))
        assert out[4:] == AESGCM(letter(key, 16)).encrypt(letter(iv, 12), plain[4:], plain[:4])


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
@pytest.mark.parametrize("sender", Role)
def test_what_one_side_seals_the_other_opens_and_nobody_else(cipher: str, mac: str, sender: Role) -> None:
    other = Role.SERVER if sender is Role.CLIENT else Role.CLIENT
    choices = {
        sender: DirectionChoice(cipher, mac, "zlib@openssh.com"),
        other: DirectionChoice("aes256-gcm@openssh.com", "", "none"),
    }
    negotiated = attrs.evolve(agreed(), client_to_server=choices[Role.CLIENT], server_to_client=choices[Role.SERVER])
    assert choice_of(negotiated, sender).cipher == cipher
    assert compression(negotiated, sender) is COMPRESSIONS["zlib@openssh.com"]
    assert compression(negotiated, other) is COMPRESSIONS["none"]

    keys = Keys(SECRET, b"session", negotiated)
    sealer, opener = keys.sealer(sender), keys.opener(sender)
    size = 48 - (4 if sealer.pads_length else 0)
    plain = size.to_bytes(4, "big") + bytes(range(size))
    out = bytearray(len(plain) + sealer.tag_size)
    sealer.seal(3, memoryview(plain), memoryview(out))
    assert opener.open_length(3, memoryview(out)) == size
    assert opener.open(3, memoryview(out), size) == plain[4:]

    stranger = Keys(SECRET, b"other session", negotiated).opener(sender)
    stranger.open_length(3, memoryview(out))
    with pytest.raises(RemoteProtocolError, match="tag"):
        stranger.open(3, memoryview(out), size)


def test_secrets_are_not_in_the_repr() -> None:
    keys = Keys(SharedSecret(b"K" * 20, b"H" * 32, "sha256", HOST_KEY.public_key), b"S" * 32, agreed())
    for secret in ("KKKK", "HHHH", "SSSS"):
        assert secret not in repr(keys)


def test_a_transcript_tells_fields_apart() -> None:
    """No byte can move from one field to the next."""
    first = TRANSCRIPT.digest("sha256", b"ab", b"c", b"", b"")
    second = TRANSCRIPT.digest("sha256", b"a", b"bc", b"", b"")
    assert first != second


# -- a group of the server's choice: RFC 4419

GEX: Final = "diffie-hellman-group-exchange-sha256"
GROUP: Final = oakley_group(2048)


def gex_client() -> Fed[SharedSecret]:
    return Fed(agree_as_client(agreed(GEX), TRANSCRIPT, None))


def gex_server() -> Fed[SharedSecret]:
    return Fed(agree_as_server(agreed(GEX), TRANSCRIPT, [HOST_KEY], lambda *wanted: GROUP))


def in_one_group() -> tuple[Fed[SharedSecret], Fed[SharedSecret], KexDhGexReply]:
    """A client that waits for the reply, the server that has given it, and the reply."""
    client, server = gex_client(), gex_server()
    [group] = server.hear(client.sent[0])
    [init] = client.hear(group)
    assert server.hear(init) == []
    [reply] = sign(server)
    assert isinstance(reply, KexDhGexReply)
    return client, server, reply


def test_a_client_asks_for_a_group_of_the_strength_of_aes() -> None:
    assert gex_client().sent == [KexDhGexRequest(2048, 3072, 8192)]


def test_the_server_s_group_is_what_the_client_asked_for() -> None:
    wishes: list[tuple[int, int, int]] = []

    def note(*wanted: int) -> Group:
        wishes.append((wanted[0], wanted[1], wanted[2]))
        return GROUP

    server = Fed(agree_as_server(agreed(GEX), TRANSCRIPT, [HOST_KEY], note))
    assert server.hear(KexDhGexRequest(1024, 2048, 4096)) == [KexDhGexGroup(GROUP.prime, 2)]
    assert wishes == [(1024, 2048, 4096)]


def test_the_exchange_hash_holds_the_request_and_the_group() -> None:
    """RFC 4419 s3: V_C, V_S, I_C, I_S, K_S, min, n, max, p, g, e, f, K."""
    strings = [b"SSH-2.0-c", b"SSH-2.0-s", b"\x14client", b"\x14server", b"host key"]
    expected = b"".join(len(part).to_bytes(4, "big") + part for part in strings)
    expected += b"".join(size.to_bytes(4, "big") for size in (1024, 2048, 8192))
    expected += b"\0\0\0\x02\0\x80" + b"\0\0\0\x01\x02" + b"\0\0\0\x01\x7f" + b"\0\0\0\x02\0\xff" + b"\0\0\0\x01\x05"
    digest = TRANSCRIPT.digest_in_group(
        "sha256", b"host key", KexDhGexRequest(1024, 2048, 8192), KexDhGexGroup(128, 2), 127, 255, b"\0\0\0\x01\x05"
    )
    assert digest == hashlib.sha256(expected).digest()


def test_a_changed_group_is_noticed_by_the_signature() -> None:
    client, server = gex_client(), gex_server()
    server.hear(client.sent[0])
    [init] = client.hear(KexDhGexGroup(GROUP.prime, 3))
    server.hear(init)
    [reply] = sign(server)
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        client.hear(reply)
    assert client.asked == []


def test_a_changed_request_is_noticed_by_the_signature() -> None:
    """Nobody in the middle can ask for a smaller group in the client's name."""
    client, server = gex_client(), gex_server()
    [group] = server.hear(KexDhGexRequest(2048, 2048, 8192))
    [init] = client.hear(group)
    server.hear(init)
    [reply] = sign(server)
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        client.hear(reply)


GEX_LIES: Final = {
    "signed by another key": {"host_key": OTHER_KEY.asbytes()},
    "no signature": {"signature": b""},
    "no host key": {"host_key": b""},
    "a value of 0": {"f": 0},
    "a value of 1": {"f": 1},
    "a value of p - 1": {"f": GROUP.prime - 1},
    "a value of p": {"f": GROUP.prime},
    "a value beyond p": {"f": GROUP.prime + 2},
    "a negative value": {"f": -5},
    "another value": {"f": 4},
}


@pytest.mark.parametrize("lie", GEX_LIES)
def test_a_host_that_lies_in_a_group_is_refused_before_anyone_is_asked_to_trust_it(lie: str) -> None:
    client, _, reply = in_one_group()
    with pytest.raises(RemoteProtocolError):
        client.hear(replaced(reply, **GEX_LIES[lie]))
    assert (client.asked, client.results) == ([], [])


@pytest.mark.parametrize(
    "group",
    [
        KexDhGexGroup(oakley_group(1024).prime, 2),
        KexDhGexGroup(GROUP.prime + 1, 2),
        KexDhGexGroup(GROUP.prime, 1),
        KexDhGexGroup(GROUP.prime, 0),
        KexDhGexGroup(0, 0),
        KexDhGexGroup(-GROUP.prime, 2),
        KexDhGexGroup((1 << 16_000) - 1, 2),
    ],
    ids=lambda group: f"{group.prime.bit_length()}-{group.generator}",
)
def test_a_bad_group_is_the_server_s_error_and_nothing_is_computed_in_it(group: KexDhGexGroup) -> None:
    client = gex_client()
    with pytest.raises(RemoteProtocolError) as caught:
        client.hear(group)
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED
    assert len(client.sent) == 1


@pytest.mark.parametrize("value", [0, 1, -1, GROUP.prime - 1, GROUP.prime, 2 * GROUP.prime])
def test_a_bad_value_is_the_client_s_error_and_nothing_is_signed(value: int) -> None:
    server = gex_server()
    server.hear(KexDhGexRequest(2048, 2048, 8192))
    with pytest.raises(RemoteProtocolError) as caught:
        server.hear(KexDhGexInit(value))
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED
    assert server.asked == []


def test_a_request_for_no_group_of_ours_is_the_client_s_error() -> None:
    server = Fed(agree_as_server(agreed(GEX), TRANSCRIPT, [HOST_KEY], choose))
    with pytest.raises(RemoteProtocolError, match="1024 to 1024 bits"):
        server.hear(KexDhGexRequest(1024, 1024, 1024))
    assert server.sent == []


def test_a_value_is_not_taken_for_a_request_nor_a_group_for_a_reply() -> None:
    for message in (KexDhGexInit(5), KexEcdhInit(b"\x05"), NewKeys()):
        with pytest.raises(RemoteProtocolError, match="KexDhGexRequest was due"):
            gex_server().hear(message)
    for message in (KexDhGexReply(b"", 5, b""), NewKeys()):
        with pytest.raises(RemoteProtocolError, match="KexDhGexGroup was due"):
            gex_client().hear(message)
    client, _, _ = in_one_group()
    with pytest.raises(RemoteProtocolError, match="KexDhGexReply was due"):
        client.hear(KexDhGexGroup(GROUP.prime, 2))


def test_the_host_key_cannot_change_in_a_rekey_by_group_exchange() -> None:
    client, server = Fed(agree_as_client(agreed(GEX), TRANSCRIPT, OTHER_KEY.public_key)), gex_server()
    [group] = server.hear(client.sent[0])
    [init] = client.hear(group)
    server.hear(init)
    [reply] = sign(server)
    with pytest.raises(RemoteProtocolError, match="changed during the connection"):
        client.hear(reply)
