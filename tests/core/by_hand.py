"""A peer without a state machine: what it is told to say, it says, sealed and numbered as it should be.

It shares with the core the declarations of messages and the mathematics, and nothing else: framing, exchange hash and
keys are written again here, from RFC 4253, so that a mistake of the core's is not made twice.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, TypeVar

from trio_ssh.core.auth_client import none_as_client
from trio_ssh.core.connection import Connection
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.role import Role
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.cipher import CIPHERS, NullOpener, NullSealer, Opener, Sealer
from trio_ssh.crypto.compression import COMPRESSIONS, Compressor, Decompressor
from trio_ssh.crypto.derive import derive_key
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import SSHException
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.testing.lockstep import CoreSide, counted_bytes
from trio_ssh.wire.exchange import KexEcdhInit, KexEcdhReply
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.transport import Disconnect, KexInit, NewKeys, ServiceAccept, ServiceRequest
from trio_ssh.wire.userauth import UserauthRequest, UserauthSuccess

M = TypeVar("M", bound=DeclaredMessage)

KEX_NAME: Final = "curve25519-sha256"
HOST_KEY: Final = Ed25519Key(bytes(range(32)))
VERSION: Final = b"SSH-2.0-by_hand"

STRICT: Final = {Role.CLIENT: "kex-strict-c-v00@openssh.com", Role.SERVER: "kex-strict-s-v00@openssh.com"}

#: One cipher of each kind, and a MAC for those that need one.
SUITES: Final = (
    ("aes128-gcm@openssh.com", ""),
    ("chacha20-poly1305@openssh.com", ""),
    ("aes256-ctr", "hmac-sha2-256-etm@openssh.com"),
    ("aes128-ctr", "hmac-sha2-512"),
    ("aes128-cbc", "hmac-sha1"),
    ("3des-cbc", "hmac-sha1-etm@openssh.com"),
)


def frame(sealer: Sealer, sequence: int, payload: bytes, *, padding: int | None = None) -> bytes:
    """One packet: RFC 4253 s6."""
    if padding is None:
        size = 1 + len(payload) + (4 if sealer.pads_length else 0)
        padding = -size % sealer.block_size
        padding += sealer.block_size if padding < 4 else 0
    plain = struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)
    out = bytearray(len(plain) + sealer.tag_size)
    sealer.seal(sequence, memoryview(plain), memoryview(out))
    return bytes(out)


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def encoded(message: bytes | DeclaredMessage) -> bytes:
    return message if isinstance(message, bytes) else message.encode()


class HandPeer:
    """Talks to the core under test, which is `side`.

    Args:
        role: of the core under test; the peer plays the other one.
        limits: of the core.
        suite: cipher and MAC of both directions.
        compression: of both directions.
        is_strict: the peer says that it knows strict key exchange.
        algorithms: what the core enables; by default what the peer will offer.

    Attributes:
        heard: payloads that the core sent, opened, oldest first.
    """

    def __init__(
        self,
        role: Role,
        *,
        limits: Limits = DEFAULT_LIMITS,
        suite: tuple[str, str] = SUITES[0],
        compression: str = "none",
        is_strict: bool = True,
        algorithms: Algorithms | None = None,
    ) -> None:
        self.cipher, self.mac = suite
        self.compression = compression
        self.is_strict = is_strict
        options = Options(
            random_bytes=counted_bytes(),
            algorithms=algorithms
            or Algorithms(
                kex=(KEX_NAME,),
                host_keys=("ssh-ed25519",),
                ciphers=(self.cipher,),
                macs=(self.mac or "hmac-sha2-256",),
                compressions=(compression,),
            ),
            limits=limits,
            host_keys=(HOST_KEY,) if role is Role.SERVER else (),
        )
        self.side = CoreSide(Connection(role, options))
        self.core = self.side.connection
        self.role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
        self.heard: list[bytes] = []
        self.session_id = b""
        self.their_version = b""
        self.sent_sequence = 0
        self.heard_sequence = 0
        self._agreement = KEX[KEX_NAME].new_client()
        self._ours = b""
        self._theirs = b""
        self._init: KexEcdhInit | None = None
        self._sealer: Sealer = NullSealer()
        self._opener: Opener = NullOpener()
        self._next_sealer: Sealer | None = None
        self._next_opener: Opener | None = None
        self._compressor: Compressor | None = None
        self._decompressor: Decompressor | None = None
        self._buffer = b""

    # -- saying

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.side.receive(data)

    def packet(self, payload: bytes, *, padding: int | None = None) -> bytes:
        """Seal a payload under the keys in use, and count it."""
        if self._compressor is not None:
            payload = self._compressor.compress(payload)
        return self.packet_of_bytes(payload, padding=padding)

    def packet_of_bytes(self, payload: bytes, *, padding: int | None = None) -> bytes:
        """Seal and count what may have been compressed by other means."""
        sealed = frame(self._sealer, self.sent_sequence, payload, padding=padding)
        self.sent_sequence += 1
        return sealed

    def say(self, *messages: bytes | DeclaredMessage) -> None:
        """Send messages in one write, and listen to what the core has to say to that."""
        self.raw(b"".join(self.packet(encoded(message)) for message in messages))
        self.listen()

    # -- hearing

    def listen(self) -> None:
        """Open all that the core has sent."""
        self._buffer += self.side.data_to_send()
        if not self.their_version and b"\r\n" in self._buffer:
            self.their_version, self._buffer = self._buffer.split(b"\r\n", 1)
        if self.their_version:
            while self._buffer:
                self._open_packet()

    def _open_packet(self) -> None:
        view = memoryview(self._buffer)
        length = self._opener.open_length(self.heard_sequence, view)
        total = 4 + length + self._opener.tag_size
        assert len(view) >= total, "the core sends whole packets"
        plain = self._opener.open(self.heard_sequence, view[:total], length)
        self._buffer = bytes(view[total:])
        self.heard_sequence += 1
        payload = plain[1 : length - plain[0]]
        if self._decompressor is not None:
            payload = self._decompressor.decompress(payload, 2**20)
        self.heard.append(payload)
        match payload[0]:
            case 20:
                self._theirs = payload
            case 21:
                assert self._next_opener is not None, "the core changes keys when there are some"
                self._opener, self._next_opener = self._next_opener, None
                self.heard_sequence = 0 if self.is_strict else self.heard_sequence
                if self._decompressor is not None:  # RFC 4253 s6.2: begun again behind each exchange
                    self._decompressor = COMPRESSIONS[self.compression].new_decompressor()
            case 30:
                self._init = KexEcdhInit.from_payload(payload)
            case 31:
                self._on_reply(KexEcdhReply.from_payload(payload))
            case _:
                pass

    def of(self, cls: type[M]) -> list[M]:
        """Return what was heard of one class, oldest first."""
        return [cls.from_payload(payload) for payload in self.heard if payload[0] == cls.NUMBER]

    # -- a key exchange, step by step

    def kexinit(self, *, extra: tuple[str, ...] = (), follows: bool = False) -> KexInit:
        """A KEXINIT that will do; markers in the first exchange only."""
        markers = () if self.session_id else (STRICT[self.role],) * self.is_strict
        macs = (self.mac or "hmac-sha2-256",)
        return KexInit(
            bytes(16),
            (KEX_NAME, *markers, *extra),
            ("ssh-ed25519",),
            (self.cipher,),
            (self.cipher,),
            macs,
            macs,
            (self.compression,),
            (self.compression,),
            (),
            (),
            follows,
            0,
        )

    def greet(self) -> None:
        """Say the version line, and hear theirs."""
        self.raw(VERSION + b"\r\n")
        self.listen()

    def say_kexinit(self, message: KexInit | None = None) -> None:
        """Send KEXINIT, and remember it for the exchange hash."""
        self._ours = (message or self.kexinit()).encode()
        self.say(self._ours)

    def init(self) -> KexEcdhInit:
        """As a client: a fresh share."""
        self._agreement = KEX[KEX_NAME].new_client()
        return KexEcdhInit(self._agreement.our_share)

    def reply(self, host_key: Ed25519Key = HOST_KEY) -> KexEcdhReply:
        """As a server: the answer to the share that was heard; the keys are ready then."""
        assert self._init is not None, "a reply answers a share"
        share, secret = KEX[KEX_NAME].new_server().respond(self._init.share)
        digest = self._digest(host_key.asbytes(), self._init.share, share, secret)
        self._derive(secret, digest)
        return KexEcdhReply(host_key.asbytes(), share, host_key.sign(digest, "ssh-ed25519"))

    def _on_reply(self, reply: KexEcdhReply) -> None:
        secret = self._agreement.finish(reply.share)
        digest = self._digest(reply.host_key, self._agreement.our_share, reply.share, secret)
        HOST_KEY.public_key.verify(digest, reply.signature, "ssh-ed25519")
        self._derive(secret, digest)

    def _digest(self, host_key: bytes, client_share: bytes, server_share: bytes, secret: bytes) -> bytes:
        versions, kexinits = (VERSION, self.their_version), (self._ours, self._theirs)
        if self.role is Role.SERVER:
            versions, kexinits = versions[::-1], kexinits[::-1]
        parts = (*versions, *kexinits, host_key, client_share, server_share)
        return hashlib.sha256(b"".join(map(_string, parts)) + secret).digest()

    def _derive(self, secret: bytes, digest: bytes) -> None:
        self.session_id = self.session_id or digest
        suite = CIPHERS[self.cipher]
        mac = MACS[self.mac] if self.mac else None
        sizes = (suite.iv_size, suite.key_size, mac.key_size if mac else 0)

        def keys(letters: str) -> list[bytes]:
            return [
                derive_key("sha256", secret, digest, letter.encode(), self.session_id, size)
                for letter, size in zip(letters, sizes, strict=True)
            ]

        ours, theirs = ("ACE", "BDF") if self.role is Role.CLIENT else ("BDF", "ACE")
        iv, key, mac_key = keys(ours)
        self._next_sealer = suite.new_sealer(key, iv, mac, mac_key)
        iv, key, mac_key = keys(theirs)
        self._next_opener = suite.new_opener(key, iv, mac, mac_key)

    def say_newkeys(self) -> None:
        """Send NEWKEYS, and use the new keys from there on."""
        data = self.packet(NewKeys().encode())
        assert self._next_sealer is not None, "new keys were agreed on"
        self._sealer, self._next_sealer = self._next_sealer, None
        self.sent_sequence = 0 if self.is_strict else self.sent_sequence
        if self._compressor is not None:
            self._compressor = COMPRESSIONS[self.compression].new_compressor()
        self.raw(data)
        self.listen()

    def exchange(self) -> None:
        """Exchange keys: KEXINIT, shares, NEWKEYS."""
        self.say_kexinit()
        self.say(self.init() if self.role is Role.CLIENT else self.reply())
        self.say_newkeys()

    # -- further on

    def connect(self) -> None:
        """Go up to where authentication begins."""
        self.greet()
        self.exchange()
        self.check()
        assert self.core.phase is Phase.AUTHENTICATE

    def log_in(self) -> None:
        """Go up to where channels can be opened."""
        self.connect()
        if self.role is Role.CLIENT:
            self.say(ServiceRequest("ssh-userauth"))
            self.say(UserauthRequest("alice", "ssh-connection", "none", b""))
            assert self.of(UserauthSuccess)
        else:
            self.side.record(self.core.authenticate(none_as_client("alice")))
            self.listen()
            self.say(ServiceAccept("ssh-userauth"))
            self.say(UserauthSuccess())
        self.check()
        assert self.core.phase is Phase.OPEN
        if self.compression != "none":
            self._compressor = COMPRESSIONS[self.compression].new_compressor()
            self._decompressor = COMPRESSIONS[self.compression].new_decompressor()

    def check(self) -> None:
        """Raise what ended the core, if anything did."""
        if self.core.failure is not None:
            raise self.core.failure

    def failure(self) -> SSHException:
        """What ended the core, which something did; the peer has been told, once, unless it was told first."""
        failure = self.core.failure
        assert isinstance(failure, SSHException), f"the core goes on, in {self.core.phase}"
        assert self.core.phase is Phase.CLOSED
        return failure

    def was_told(self) -> Disconnect:
        """The core's last word."""
        self.listen()
        assert self.heard[-1][0] == Disconnect.NUMBER
        [message] = self.of(Disconnect)
        return message


#: How far a connection has come, by what the core waits for.
STAGES: Final[tuple[str, ...]] = (
    "a version",
    "KEXINIT",
    "a share",
    "NEWKEYS",
    "authentication",
    "an attempt's end",
    "anything",
    "a share again",
    "NEWKEYS again",
)

#: The phase in which the core is at each of them, if the exchange is strict.
PHASES: Final[dict[str, Phase | None]] = dict(
    zip(
        STAGES,
        (
            None,
            Phase.START,
            Phase.EXCHANGE_STRICT,
            Phase.EXCHANGE_STRICT,
            Phase.AUTHENTICATE,
            Phase.AUTHENTICATE,
            Phase.OPEN,
            Phase.REEXCHANGE_OPEN,
            Phase.REEXCHANGE_OPEN,
        ),
        strict=True,
    )
)


def _say_share(peer: HandPeer) -> None:
    peer.say(peer.init() if peer.role is Role.CLIENT else peer.reply())


def arrive(role: Role, stage: str, *, limits: Limits = DEFAULT_LIMITS, is_strict: bool = True) -> HandPeer:
    """Bring a core of this role to a stage."""
    peer = HandPeer(role, limits=limits, is_strict=is_strict)
    steps = STAGES.index(stage)
    if 0 < steps < 4:
        peer.greet()
        if steps > 1:
            peer.say_kexinit()
        if steps > 2:
            _say_share(peer)
    elif steps in (4, 5):
        peer.connect()
        if steps == 5 and role is Role.SERVER:
            peer.say(ServiceRequest("ssh-userauth"))
        elif steps == 5:
            peer.side.record(peer.core.authenticate(none_as_client("alice")))
            peer.say(ServiceAccept("ssh-userauth"))
    elif steps > 5:
        peer.log_in()
        if steps > 6:
            peer.say_kexinit()
        if steps > 7:
            _say_share(peer)
    peer.check()
    assert PHASES[stage] in (None, peer.core.phase) or not is_strict
    return peer
