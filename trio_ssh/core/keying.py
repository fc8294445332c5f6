"""What lasts from one key exchange to the next: the session id, the host's key, the keys in use, when to change them.

Owns the running exchange and hands new keys to the inbound and outbound halves at the moments that the dialog names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import attrs

from trio_ssh.core.dialog import Conversation, Dialog
from trio_ssh.core.exchange import (
    Keys,
    SharedSecret,
    Transcript,
    agree_as_client,
    agree_as_server,
    compression,
    exchange,
    offered_algorithms,
)
from trio_ssh.core.gssapi import GssContext
from trio_ssh.core.inbound import Inbound
from trio_ssh.core.limits import KIB
from trio_ssh.core.negotiation import (
    EXT_INFO_CLIENT,
    GSS_PREFIX,
    Algorithms,
    Negotiated,
    is_strict,
    kexinit,
    negotiate_payloads,
)
from trio_ssh.core.options import Options
from trio_ssh.core.outbound import Outbound
from trio_ssh.core.questions import Question
from trio_ssh.core.role import Role
from trio_ssh.crypto.agreement_dh import Group
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.wire.fields import DeclaredMessage

#: The hard stop by packets is at twice the limit, but not below this: small limits are for tests and for the curious.
_FEW_PACKETS: Final = 2**16

#: What has to pass between two exchanges that a peer begins, or the second is a hasty one.
_FEW_BYTES: Final = 64 * KIB


@lru_cache(maxsize=32)
def signable(algorithms: Algorithms, able: frozenset[str]) -> Algorithms:
    """Leave out what no host key of ours can sign by: it must not be offered.

    Remembered, because a server asks the same for every connection.
    """
    return attrs.evolve(algorithms, host_keys=tuple(name for name in algorithms.host_keys if name in able))


def _call_nobody(*_: object) -> None:
    """Take the place of whom to call, once there is nobody."""


class Keying:
    """Runs key exchanges, one at a time, whichever side begins.

    Args:
        on_outbound_keys: called when our NEWKEYS of the first exchange is sealed, before anything else may pass.
        on_started: called when an exchange other than the first begins; told whether it is a hasty one of the peer's.
        on_finished: called when both directions use new keys.
    """

    __slots__ = (
        "_agreed",
        "_algorithms",
        "_conversation",
        "_inbound",
        "_on_ask",
        "_on_finished",
        "_on_outbound_keys",
        "_on_started",
        "_options",
        "_our_payload",
        "_outbound",
        "_role",
        "gss_context",
        "host_key",
        "host_key_shown",
        "is_running",
        "is_strict",
        "negotiated",
        "our_version",
        "session_id",
        "session_signature",
        "takes_ext_info",
        "their_version",
        "wants_delayed_compression",
    )

    def __init__(
        self,
        role: Role,
        options: Options,
        *,
        inbound: Inbound,
        outbound: Outbound,
        on_ask: Callable[[Question, Conversation[None]], None],
        on_outbound_keys: Callable[[], None],
        on_started: Callable[[bool], None],
        on_finished: Callable[[bool], None],
    ) -> None:
        self._role = role
        self._options = options
        self._algorithms = options.algorithms
        if role is Role.SERVER:
            able = offered_algorithms(options.host_keys, options.certificates)
            self._algorithms = signable(options.algorithms, able)
        if options.new_gss_context is not None:
            self._offer_gss(options.new_gss_context().mechanism)
        self._inbound = inbound
        self._outbound = outbound
        self._on_ask = on_ask
        self._on_outbound_keys = on_outbound_keys
        self._on_started = on_started
        self._on_finished = on_finished
        #: Our KEXINIT, while an exchange runs.
        self._our_payload = b""
        self._conversation: Conversation[None] | None = None
        self._agreed: Negotiated | None = None
        self.our_version: bytes = b""
        self.their_version: bytes = b""
        self.session_id: bytes = b""
        #: The host key's signature of the session id, by which an agent can tell whom it signs for.
        self.session_signature: bytes = b""
        self.is_strict: bool = False
        #: The peer said that it understands EXT_INFO.
        self.takes_ext_info: bool = False
        self.host_key: PublicKey | None = None
        #: What was hashed as the host's key: the key, or its certificate.
        self.host_key_shown: bytes = b""
        self.negotiated: Negotiated | None = None
        #: Between our KEXINIT and the end of the exchange.
        self.is_running: bool = False
        #: Of the first exchange, if it was by GSS-API: who is at the other side.
        self.gss_context: GssContext | None = None
        #: True behind authentication, when zlib@openssh.com begins.
        self.wants_delayed_compression: bool = False

    @property
    def is_first_exchange(self) -> bool:
        """No exchange has finished yet."""
        return self.negotiated is None

    @property
    def is_due(self) -> bool:
        """Enough bytes or packets have passed under the present keys."""
        limits, inbound, outbound = self._options.limits, self._inbound, self._outbound
        most = limits.rekey_bytes
        if inbound.bytes_since_keys >= most or outbound.bytes_since_keys >= most:
            return True
        most = limits.rekey_packets
        return inbound.packets_since_keys >= most or outbound.packets_since_keys >= most

    def check_overdue(self) -> None:
        """Refuse to go on where the peer lets an exchange hang while it sends, or has us hold back reply upon reply.

        Raises:
            RemoteProtocolError: twice what the present keys should carry has passed, or too much waits for new ones.
        """
        inbound, limits = self._inbound, self._options.limits
        # What was on its way when we began may be as much as all windows hold, in packets that are smaller than usual.
        if (
            inbound.bytes_since_keys >= 2 * limits.rekey_bytes + limits.all_windows_bytes
            or inbound.packets_since_keys >= max(2 * limits.rekey_packets, _FEW_PACKETS)
        ):
            raise RemoteProtocolError("the peer sends on and on without finishing the key exchange")
        # To stop reading would not help: what could end the exchange would not be read either.
        if self._outbound.held_bytes > limits.queued_output_bytes:
            raise RemoteProtocolError("the peer asks on and on without finishing the key exchange")

    def start(self, *, by_peer: bool = False) -> None:
        """Seal our KEXINIT; from here on nothing but the exchange passes until our NEWKEYS."""
        if self.is_running:
            return
        self.is_running = True
        self._our_payload = kexinit(
            self._role, self._algorithms, self._options.random_bytes(16), is_first_exchange=self.is_first_exchange
        ).encode()
        self._outbound.seal(self._our_payload)
        self._outbound.is_gated = True
        if not self.is_first_exchange:
            passed = max(self._inbound.bytes_since_keys, self._outbound.bytes_since_keys)
            self._on_started(by_peer and passed < _FEW_BYTES)

    def receive_kexinit(self, payload: bytes) -> None:
        """The peer begins, or answers, an exchange."""
        self.start(by_peer=True)
        their_kex, negotiated = negotiate_payloads(self._role, self._our_payload, payload)
        if self.is_first_exchange:
            self.is_strict = is_strict(self._role, their_kex)
            self.takes_ext_info = EXT_INFO_CLIENT in their_kex
            # Strict key exchange: KEXINIT is the very first packet, so that no forged one can hide before it
            # (Terrapin).
            if self.is_strict and self._inbound.sequence != 1:
                raise RemoteProtocolError("a packet came before the first KEXINIT of a strict key exchange")
        if self._role is Role.CLIENT:
            transcript = Transcript(self.our_version, self.their_version, self._our_payload, payload)
        else:
            transcript = Transcript(self.their_version, self.our_version, payload, self._our_payload)
        if negotiated.kex.startswith(GSS_PREFIX):
            agree = self._agree_by_gss(negotiated, transcript)
        elif self._role is Role.CLIENT:
            agree = agree_as_client(negotiated, transcript, self.host_key)
        else:
            agree = agree_as_server(
                negotiated, transcript, self._options.host_keys, self._choose_group, self._options.certificates
            )
        conversation = Conversation(exchange(agree, negotiated, self), self._send, self._ask, self._finish)
        self._conversation = conversation
        conversation.start()

    def _offer_gss(self, mechanism: bytes) -> None:
        from trio_ssh.core.gss_exchange import with_gss  # noqa: PLC0415 -- most never need it

        is_without_keys = self._role is Role.SERVER and not self._algorithms.host_keys
        # RFC 4462 s5 has a server name it only where it has nothing else.
        offers_null = self._role is Role.CLIENT or is_without_keys
        self._algorithms = with_gss(self._algorithms, mechanism, offers_null=offers_null, is_only=is_without_keys)

    def _agree_by_gss(self, negotiated: Negotiated, transcript: Transcript) -> Dialog[SharedSecret]:
        from trio_ssh.core.gss_exchange import gss_agree_as_client, gss_agree_as_server  # noqa: PLC0415 -- as above

        new_context = self._options.new_gss_context
        assert new_context is not None, "nothing is agreed on that was not offered"
        context = new_context()
        # RFC 4462 s4: users are authenticated by the first one, to which the session id belongs.
        if self.is_first_exchange:
            self.gss_context = context
        if self._role is Role.CLIENT:
            return gss_agree_as_client(negotiated, transcript, self.host_key, context)
        return gss_agree_as_server(negotiated, transcript, context)

    def receive(self, payload: bytes) -> None:
        """One of the exchange's own messages."""
        if self._conversation is None:
            raise RemoteProtocolError(f"message {payload[0]} arrived outside a key exchange")
        self._conversation.receive(payload)

    def _send(self, message: DeclaredMessage) -> None:
        self._outbound.seal(message.encode())

    def _ask(self, question: Question) -> None:
        assert self._conversation is not None, "a dialog that asks is running"
        self._on_ask(question, self._conversation)

    def _choose_group(self, minimum: int, preferred: int, maximum: int) -> Group:
        return self._options.moduli.choose(minimum, preferred, maximum, self._options.random_bytes(8))

    # -- the moments at which keys change

    def take_outbound_keys(self, secret: SharedSecret, negotiated: Negotiated) -> None:
        """Our NEWKEYS is sealed: the next packet is under the new key."""
        if not self.session_id:
            self.session_id = secret.digest
            self.session_signature = secret.signature
        keys = Keys(secret, self.session_id, negotiated)
        sender = self._role
        compressor = compression(negotiated, sender).new_compressor() if self.wants_delayed_compression else None
        self._outbound.use(keys.sealer(sender), compressor, reset_sequence=self.is_strict)
        if self.is_first_exchange:
            self._on_outbound_keys()
        self._outbound.open_gate()

    def take_inbound_keys(self, secret: SharedSecret, negotiated: Negotiated) -> None:
        """Their NEWKEYS was opened: the next packet is under the new key."""
        keys = Keys(secret, self.session_id, negotiated)
        sender = Role.SERVER if self._role is Role.CLIENT else Role.CLIENT
        decompressor = compression(negotiated, sender).new_decompressor() if self.wants_delayed_compression else None
        self._inbound.use(keys.opener(sender), decompressor, reset_sequence=self.is_strict)
        if self.is_first_exchange:
            self.host_key_shown = secret.shown
        if secret.host_key is not None:
            self.host_key = secret.host_key
        self._agreed = negotiated

    def _finish(self, result: None) -> None:
        was_first = self.is_first_exchange
        self.negotiated = self._agreed
        if was_first and self._options.new_gss_context is not None and self._role is Role.CLIENT:
            self._keep_to_first_method()
        self._conversation = None
        self._our_payload = b""
        self.is_running = False
        self._on_finished(was_first)

    def detach(self) -> None:
        """Call nobody any more: the connection is over, and what is held in a circle isn't freed by itself."""
        self._on_ask = self._on_outbound_keys = self._on_started = self._on_finished = _call_nobody
        self._conversation = None

    def _keep_to_first_method(self) -> None:
        """Client: nobody who vouches for the server otherwise may slip in behind the first exchange."""
        from trio_ssh.core.gss_exchange import as_in_first_exchange  # noqa: PLC0415 -- as above

        assert self.negotiated is not None, "the first exchange has finished"
        self._algorithms = as_in_first_exchange(self._algorithms, self.negotiated.kex)

    def begin_delayed_compression(self) -> None:
        """Authentication is complete: both directions compress from here on, if that was agreed."""
        assert self.negotiated is not None, "authentication follows an exchange"
        self.wants_delayed_compression = True
        them = Role.SERVER if self._role is Role.CLIENT else Role.CLIENT
        self._outbound.compress_with(compression(self.negotiated, self._role).new_compressor())
        self._inbound.decompress_with(compression(self.negotiated, them).new_decompressor())
