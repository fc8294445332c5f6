"""RFC 4253 sections 7 and 8, RFC 4419: the key exchange, as two dialogs and what they agree on.

Reads like the message chart: shares, signature, trust, NEWKEYS.  Refuses to know how bytes travel and which keys are in
use; it hands new ones to `take_keys`, whose two calls stand where the keys change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from trio_ssh.core.dialog import Dialog, ask, discard, expect, send
from trio_ssh.core.negotiation import DirectionChoice, Negotiated
from trio_ssh.core.questions import HostKeyOffered, SignatureWanted
from trio_ssh.core.role import Role
from trio_ssh.crypto.agreement import KEX, GroupExchangeAlgorithm
from trio_ssh.crypto.agreement_dh import (
    MAXIMUM_BITS,
    MINIMUM_BITS,
    PREFERRED_BITS,
    Group,
    new_agreement,
    refuse_unsafe_group,
)
from trio_ssh.crypto.cipher import CIPHERS, Opener, Sealer
from trio_ssh.crypto.compression import COMPRESSIONS, CompressionAlgorithm
from trio_ssh.crypto.derive import derive_key
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import is_certificate_algorithm, plain_algorithm
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.wire.exchange import (
    KexDhGexGroup,
    KexDhGexInit,
    KexDhGexReply,
    KexDhGexRequest,
    KexEcdhInit,
    KexEcdhReply,
)
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.transport import NewKeys

GroupChooser = Callable[[int, int, int], Group]

#: RFC 4253 s7.2: the letters from which iv, encryption key and integrity key of each direction are derived.
_LETTERS: Final = {Role.CLIENT: (b"A", b"C", b"E"), Role.SERVER: (b"B", b"D", b"F")}


@attrs.frozen
class Transcript:
    """What both sides saw: the first four items of the exchange hash, RFC 5656 s4."""

    client_version: bytes
    server_version: bytes
    client_kexinit: bytes
    server_kexinit: bytes

    def digest(
        self, hash_name: str, host_key: bytes, client_share: bytes, server_share: bytes, encoded_secret: bytes
    ) -> bytes:
        """Return the exchange hash H."""
        content = self._begun(host_key)
        content.add_string(client_share).add_string(server_share).add_bytes(encoded_secret)
        return hashlib.new(hash_name, content.asbytes()).digest()

    def digest_in_group(
        self,
        hash_name: str,
        host_key: bytes,
        request: KexDhGexRequest,
        group: KexDhGexGroup,
        client_value: int,
        server_value: int,
        encoded_secret: bytes,
    ) -> bytes:
        """Return the exchange hash H of RFC 4419 s3, in which the request and the group stand too."""
        content = self._begun(host_key)
        for size in (request.minimum, request.preferred, request.maximum):
            content.add_int(size)
        for number in (group.prime, group.generator, client_value, server_value):
            content.add_mpint(number)
        content.add_bytes(encoded_secret)
        return hashlib.new(hash_name, content.asbytes()).digest()

    def _begun(self, host_key: bytes) -> Message:
        content = Message()
        for part in (self.client_version, self.server_version, self.client_kexinit, self.server_kexinit, host_key):
            content.add_string(part)
        return content


@attrs.frozen
class SharedSecret:
    """What an exchange yields: K as it is hashed, H, the hash's name, the host key that signed H, and how it did.

    Attributes:
        host_key: None where the server showed none, and GSS-API vouches for it.
        signature: empty where GSS-API signed.
        certificate: what was shown of the host key, and hashed in its place.
    """

    encoded: bytes = attrs.field(repr=False)
    digest: bytes = attrs.field(repr=False)
    hash_name: str
    host_key: PublicKey | None
    signature: bytes = attrs.field(default=b"", repr=False)
    certificate: Certificate | None = None

    @property
    def shown(self) -> bytes:
        """What the server has shown: the blob of its certificate, or else of its key."""
        shown = self.host_key if self.certificate is None else self.certificate
        return b"" if shown is None else shown.blob


@attrs.frozen
class Keys:
    """All keys of one exchange, from which either direction's cipher is made."""

    secret: SharedSecret
    session_id: bytes = attrs.field(repr=False)
    negotiated: Negotiated

    def _material(self, sender: Role) -> tuple[DirectionChoice, bytes, bytes, bytes]:
        choice = choice_of(self.negotiated, sender)
        suite = CIPHERS[choice.cipher]
        sizes = (suite.iv_size, suite.key_size, MACS[choice.mac].key_size if choice.mac else 0)
        iv, key, mac_key = (
            derive_key(self.secret.hash_name, self.secret.encoded, self.secret.digest, letter, self.session_id, size)
            for letter, size in zip(_LETTERS[sender], sizes, strict=True)
        )
        return choice, key, iv, mac_key

    def sealer(self, sender: Role) -> Sealer:
        """Make what seals the packets of `sender`."""
        choice, key, iv, mac_key = self._material(sender)
        return CIPHERS[choice.cipher].new_sealer(key, iv, MACS[choice.mac] if choice.mac else None, mac_key)

    def opener(self, sender: Role) -> Opener:
        """Make what opens the packets of `sender`."""
        choice, key, iv, mac_key = self._material(sender)
        return CIPHERS[choice.cipher].new_opener(key, iv, MACS[choice.mac] if choice.mac else None, mac_key)


def choice_of(negotiated: Negotiated, sender: Role) -> DirectionChoice:
    """Return what protects the packets of `sender`."""
    return negotiated.client_to_server if sender is Role.CLIENT else negotiated.server_to_client


def compression(negotiated: Negotiated, sender: Role) -> CompressionAlgorithm:
    """Tell how the payloads of `sender` are compressed."""
    return COMPRESSIONS[choice_of(negotiated, sender).compression]


class KeyTaker(Protocol):
    """Whoever seals and opens packets, for the moments at which keys change."""

    def take_outbound_keys(self, secret: SharedSecret, negotiated: Negotiated) -> None:
        """Our NEWKEYS is sealed."""

    def take_inbound_keys(self, secret: SharedSecret, negotiated: Negotiated) -> None:
        """Their NEWKEYS was opened."""


def exchange(agree: Dialog[SharedSecret], negotiated: Negotiated, taker: KeyTaker) -> Dialog[None]:
    """RFC 4253 s7: agree on a secret, then change keys, each side behind its own NEWKEYS."""
    if negotiated.guess_was_wrong and (yield from discard()) == NewKeys.NUMBER:
        raise RemoteProtocolError("NEWKEYS arrived where a guessed share was due")
    secret = yield from agree
    yield from send(NewKeys())
    taker.take_outbound_keys(secret, negotiated)
    yield from expect(NewKeys)
    taker.take_inbound_keys(secret, negotiated)


def agree_as_client(
    negotiated: Negotiated, transcript: Transcript, known_key: PublicKey | None
) -> Dialog[SharedSecret]:
    """RFC 5656 s4: send our share, check theirs and the host's signature, then the host.

    Args:
        known_key: the key of an earlier exchange on this connection, which may not change (a peer that shows another
            would slip in behind the user's decision); None in the first exchange.
    """
    algorithm = KEX[negotiated.kex]
    if isinstance(algorithm, GroupExchangeAlgorithm):
        return (yield from _agree_in_their_group(negotiated, transcript, known_key, algorithm.hash_name))
    agreement = algorithm.new_client()
    yield from send(KexEcdhInit(agreement.our_share))
    reply = yield from expect(KexEcdhReply)
    host_key, certificate = read_host_key(reply.host_key, negotiated)
    encoded_secret = agreement.finish(reply.share)
    digest = transcript.digest(algorithm.hash_name, reply.host_key, agreement.our_share, reply.share, encoded_secret)
    secret = SharedSecret(encoded_secret, digest, algorithm.hash_name, host_key, reply.signature, certificate)
    yield from _believe(secret, host_key, negotiated, known_key)
    return secret


def agree_as_server(
    negotiated: Negotiated,
    transcript: Transcript,
    host_keys: Sequence[PKey],
    choose_group: GroupChooser,
    certificates: Sequence[Certificate] = (),
) -> Dialog[SharedSecret]:
    """RFC 5656 s4: take the client's share, answer with ours, the host key and its signature.

    Args:
        choose_group: called with the bits that a client wants of a group: at least, preferably, at the most.
        certificates: of some of our host keys.
    """
    algorithm = KEX[negotiated.kex]
    identity = choose_identity(host_keys, certificates, negotiated.host_key_algorithm)
    if isinstance(algorithm, GroupExchangeAlgorithm):
        return (yield from _agree_in_our_group(transcript, identity, algorithm.hash_name, choose_group))
    init = yield from expect(KexEcdhInit)
    our_share, encoded_secret = algorithm.new_server().respond(init.share)
    blob = identity.blob
    digest = transcript.digest(algorithm.hash_name, blob, init.share, our_share, encoded_secret)
    signature = yield from ask(SignatureWanted(identity.key, digest, identity.algorithm))
    yield from send(KexEcdhReply(blob, our_share, signature))
    return identity.secret(encoded_secret, digest, algorithm.hash_name, signature)


def _agree_in_their_group(
    negotiated: Negotiated, transcript: Transcript, known_key: PublicKey | None, hash_name: str
) -> Dialog[SharedSecret]:
    """RFC 4419 s3: ask for a group, look at it, and go on in it as in any other."""
    request = KexDhGexRequest(MINIMUM_BITS, PREFERRED_BITS, MAXIMUM_BITS)
    yield from send(request)
    offered = yield from expect(KexDhGexGroup)
    group = Group(offered.prime, offered.generator)
    refuse_unsafe_group(group, request.minimum, request.maximum)
    agreement = new_agreement(group)
    yield from send(KexDhGexInit(agreement.our_value))
    reply = yield from expect(KexDhGexReply)
    host_key, certificate = read_host_key(reply.host_key, negotiated)
    encoded_secret = agreement.secret(reply.f)
    digest = transcript.digest_in_group(
        hash_name, reply.host_key, request, offered, agreement.our_value, reply.f, encoded_secret
    )
    secret = SharedSecret(encoded_secret, digest, hash_name, host_key, reply.signature, certificate)
    yield from _believe(secret, host_key, negotiated, known_key)
    return secret


def _agree_in_our_group(
    transcript: Transcript, identity: Identity, hash_name: str, choose_group: GroupChooser
) -> Dialog[SharedSecret]:
    """RFC 4419 s3: choose a group as the client asks, and go on in it as in any other."""
    request = yield from expect(KexDhGexRequest)
    group = choose_group(request.minimum, request.preferred, request.maximum)
    offered = KexDhGexGroup(group.prime, group.generator)
    yield from send(offered)
    init = yield from expect(KexDhGexInit)
    agreement = new_agreement(group)
    encoded_secret = agreement.secret(init.e)
    blob = identity.blob
    digest = transcript.digest_in_group(hash_name, blob, request, offered, init.e, agreement.our_value, encoded_secret)
    signature = yield from ask(SignatureWanted(identity.key, digest, identity.algorithm))
    yield from send(KexDhGexReply(blob, agreement.our_value, signature))
    return identity.secret(encoded_secret, digest, hash_name, signature)


def read_host_key(blob: bytes, negotiated: Negotiated) -> tuple[PublicKey, Certificate | None]:
    """Read a host's key, which can do what was agreed on, and its certificate, if that is what was."""
    if is_certificate_algorithm(negotiated.host_key_algorithm):
        certificate = Certificate.from_blob(blob)
        certificate.plain_algorithm(negotiated.host_key_algorithm)  # or it is of another type than was agreed
        return certificate.public_key, certificate
    host_key = parse_public_key(blob)
    if not host_key.can_verify(negotiated.host_key_algorithm):
        raise RemoteProtocolError(
            f"the host key is of type {host_key.key_type}, agreed was {negotiated.host_key_algorithm}",
            DisconnectReason.KEY_EXCHANGE_FAILED,
        )
    return host_key, None


def _believe(
    secret: SharedSecret, host_key: PublicKey, negotiated: Negotiated, known_key: PublicKey | None
) -> Dialog[None]:
    """Go on if the host's key has signed this exchange, and is the host's."""
    # Verify before asking.  A policy that stores first-seen keys must never see a key whose owner has not signed.
    host_key.verify(secret.digest, secret.signature, plain_algorithm(negotiated.host_key_algorithm))
    if known_key is None:
        yield from ask(HostKeyOffered(host_key, secret.certificate))
    elif host_key != known_key:
        raise RemoteProtocolError(
            "the host key changed during the connection", DisconnectReason.HOST_KEY_NOT_VERIFIABLE
        )


@attrs.frozen
class Identity:
    """What a server shows of itself, and signs with.

    Attributes:
        key: signs.
        certificate: is shown in the key's place.
        algorithm: the signature's, as a signature is named.
    """

    key: PKey
    certificate: Certificate | None
    algorithm: str

    @property
    def blob(self) -> bytes:
        """What is shown."""
        return self.key.asbytes() if self.certificate is None else self.certificate.blob

    def secret(self, encoded: bytes, digest: bytes, hash_name: str, signature: bytes) -> SharedSecret:
        """Return what an exchange with this identity yields."""
        return SharedSecret(encoded, digest, hash_name, self.key.public_key, signature, self.certificate)


def choose_identity(host_keys: Sequence[PKey], certificates: Sequence[Certificate], algorithm: str) -> Identity:
    """Return the first key, or certificate, that goes with `algorithm`, which was offered because there is one."""
    plain = plain_algorithm(algorithm)
    if plain == algorithm:
        return Identity(choose_host_key(host_keys, algorithm), None, algorithm)
    keys = {key.public_key: key for key in host_keys if key.can_sign()}
    certificate = next(each for each in certificates if algorithm in each.algorithms and each.public_key in keys)
    return Identity(keys[certificate.public_key], certificate, plain)


def offered_algorithms(host_keys: Sequence[PKey], certificates: Sequence[Certificate]) -> frozenset[str]:
    """Return the names of all that a server's keys and certificates can do."""
    keys = {key.public_key: key for key in host_keys if key.can_sign()}
    names = {name for key in keys.values() for name in (*key.algorithms, *key.legacy_algorithms)}
    return frozenset(names.union(*(each.algorithms for each in certificates if each.public_key in keys)))


def choose_host_key(host_keys: Sequence[PKey], algorithm: str) -> PKey:
    """Return the first key that can sign by `algorithm`, which was offered because there is one."""
    return next(key for key in host_keys if key.can_sign() and key.public_key.can_verify(algorithm))
