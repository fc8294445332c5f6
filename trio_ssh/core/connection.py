"""A whole SSH connection, sealed: bytes in, events and bytes out.

Owns the phase and the one walk over the input; everything else it hands to the rooms around it.  It is blind to its
role but for the choice of dialogs.  Its verbs never wait, and time is always an argument.  `receive_data` never raises:
whatever goes wrong ends the connection, once, with an `Ended` event that says why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from trio_ssh.core.auth_client import HOSTBOUND_EXTENSION, SENDS_AT_ONCE, AuthAnswer, request_service, with_service
from trio_ssh.core.auth_server import authenticate_as_server
from trio_ssh.core.channel import CoreChannel, Source
from trio_ssh.core.dialog import Conversation, Dialog
from trio_ssh.core.events import (
    Asked,
    AuthAnswered,
    BannerArrived,
    Ended,
    Event,
    ExchangeFinished,
    ExchangeStarted,
    LoggedIn,
    PongArrived,
)
from trio_ssh.core.identification import Identification, our_version_line
from trio_ssh.core.inbound import Inbound
from trio_ssh.core.keying import Keying
from trio_ssh.core.mux import HIGH_WATER, Mux
from trio_ssh.core.options import Options
from trio_ssh.core.outbound import Outbound, check_size
from trio_ssh.core.phases import ADMITS, Phase, Verdict
from trio_ssh.core.questions import Question
from trio_ssh.core.role import Role
from trio_ssh.errors import (
    ConnectionLost,
    HostKeyException,
    IncompatiblePeer,
    InternalError,
    LocalProtocolError,
    PeerDisconnected,
    ProtocolError,
    RemoteProtocolError,
    SSHException,
)
from trio_ssh.keys.certification import plain_algorithm
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason
from trio_ssh.wire.text import printable, printable_lines
from trio_ssh.wire.transport import Debug, Disconnect, ExtInfo, Ignore, Ping, Pong, Unimplemented
from trio_ssh.wire.userauth import UserauthBanner

_CHANNEL_DATA: Final = 94
_WINDOW_ADJUST: Final = 93
_ADMIT: Final = Verdict.ADMIT

#: What one call may walk: bytes of payloads, inflated ones too, and what a packet counts beside its own.  A peer can
#: make a read of 246 KB inflate to a thousand times that, or hold 7,000 packets: the others must have their turn
#: before all of it is dealt with.  Measured: a bulk transfer never comes near it.
_STEP_BYTES: Final = 1024 * 1024
_PACKET_COST: Final = 512


@functools.lru_cache(maxsize=32)
def _ext_info(signature_algorithms: tuple[str, ...]) -> bytes:
    """Return a server's EXT_INFO, which is the same for each connection."""
    extensions = (
        # What signs, as OpenSSH announces it: a certificate is only shown.
        ("server-sig-algs", ",".join(dict.fromkeys(map(plain_algorithm, signature_algorithms)))),
        ("ping@openssh.com", "0"),
        (HOSTBOUND_EXTENSION, "0"),
    )
    content = Message()
    for name, value in extensions:
        content.add_string(name).add_string(value)
    return ExtInfo(len(extensions), content.asbytes()).encode()


class ClosedHere(LocalProtocolError):
    """The connection ended because it was closed on this side, and nothing went wrong."""


class Connection:
    """One side of an SSH connection.

    Args:
        role: client or server.
        options: what it is told at birth.
    """

    def __init__(self, role: Role, options: Options) -> None:
        self.role = role
        self.options = options
        self.phase: Phase = Phase.START
        #: Why the connection ended, once it has.
        self.failure: Exception | None = None
        #: RFC 8308 extensions that the peer announced.
        self.extensions: dict[str, bytes] = {}
        self._gate = ADMITS[role][Phase.START]
        self._events: list[Event] = []
        self._identification: Identification | None = Identification(role, options.limits)
        self._inbound = Inbound(options.limits)
        self._outbound = Outbound()
        self._greeting = b""
        self.keying: Keying = Keying(
            role,
            options,
            inbound=self._inbound,
            outbound=self._outbound,
            on_ask=self._ask,
            on_outbound_keys=self._announce_extensions,
            on_started=self._exchange_started,
            on_finished=self._exchange_finished,
        )
        self.mux: Mux = Mux(self._outbound, options.limits, self._events.append)
        self._auth: Conversation[Any] | None = None
        self._service_requested = False
        self._asking: Conversation[Any] | None = None
        self._banners = 0
        self._banner_bytes = 0
        self._ext_infos = 0
        #: What came before the login was complete, the part that isn't walked yet included.
        self._login_bytes = 0
        self._is_logged_in = False
        #: The walk stopped because it was long: `resume` goes on.
        self.is_unfinished: bool = False
        self._greet()

    # -- the verbs

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Feed bytes from the peer, run every complete packet, and return what happened.

        Args:
            data: yours again on return.

        Never raises: a violation seals a DISCONNECT, and the last event is `Ended`.  Where the bytes make more work
        than one call should do, `is_unfinished` is true afterwards, and `resume` does the rest.
        """
        if self.phase is not Phase.CLOSED:
            try:
                self._receive(data)
            except Exception as error:
                self._fail(error)
        return self._take_events()

    def resume(self) -> list[Event]:
        """Go on with what `receive_data` or `answer` has left, as far as one call should."""
        if self.is_unfinished:
            try:
                self._go_on()
            except Exception as error:
                self._fail(error)
        return self._take_events()

    def receive_eof(self, broken: Exception | None = None) -> list[Event]:
        """The peer closed the stream, or it broke."""
        if self.phase is not Phase.CLOSED:
            lost = self._last_words() or ConnectionLost(self._how_it_ended(broken))
            lost.__cause__ = broken
            self._fail(lost)
        return self._take_events()

    def _last_words(self) -> PeerDisconnected | None:
        """Why the peer went, if it said so while a question was open, to which it won't hear the answer any more."""
        try:
            while self._asking is not None and (packet := self._inbound.next_packet()) is not None:
                plain, end = packet
                if plain[1] == Disconnect.NUMBER:
                    message = Disconnect.from_payload(plain[1:end])
                    return PeerDisconnected(message.reason, message.description)
        except SSHException:
            pass  # it is under keys that aren't in use yet, or malformed
        return None

    def _how_it_ended(self, broken: Exception | None) -> str:
        how = "the peer closed the connection" if broken is None else "the peer's stream broke"
        remark = f" ({broken})" if broken is not None and str(broken) else ""
        if self._identification is None:
            return f"{how} without a word{remark}"
        said = self._identification.what_was_said()
        if said:
            return f"{how} before its SSH version line{remark}; it said: {said}"
        # What a client may have dialled wrong is nothing to ask of those who come to a server.
        hint = "; is an SSH server listening there, and does it admit this address?" if self.role is Role.CLIENT else ""
        return f"{how} before it said anything{remark}{hint}"

    def data_to_send(self) -> memoryview:
        """Return everything sealed since the last call; valid until the next call."""
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return memoryview(greeting + bytes(self._outbound.data_to_send()))
        return self._outbound.data_to_send()

    def fill_again(self) -> None:
        """All that `data_to_send` returned is sent, and there is more to seal: take no other memory for it."""
        self._outbound.fill_again()

    @property
    def has_data_to_send(self) -> bool:
        """Would `data_to_send` return any bytes?"""
        return self._outbound.ready_bytes > 0 or bool(self._greeting)

    @property
    def is_backlogged(self) -> bool:
        """So much waits to be sent that nothing more should be read: the peer asks and doesn't listen."""
        return self._outbound.queued_bytes > self.options.limits.queued_output_bytes

    @property
    def takes_data(self) -> bool:
        """Channel data that a window allows would be taken now, as far as the outbox goes."""
        return not self._outbound.is_gated and self._outbound.ready_bytes < HIGH_WATER

    @property
    def is_paused(self) -> bool:
        """A question is open."""
        return self._asking is not None

    def answer(self, value: object) -> list[Event]:
        """Resolve the open question and go on with the input that waited."""
        conversation, self._asking = self._asking, None
        if self.phase is not Phase.CLOSED and conversation is not None:
            try:
                conversation.answer(value)
                self._go_on()
            except Exception as error:
                self._fail(error)
        return self._take_events()

    def fail(self, error: Exception) -> list[Event]:
        """End the connection because of `error`, which stands in the `Ended` event and, in short, in the DISCONNECT."""
        if self.phase is not Phase.CLOSED:
            self._fail(error)
        return self._take_events()

    def disconnect(self, reason: DisconnectReason, text: str) -> list[Event]:
        """Say goodbye."""
        if self.phase is not Phase.CLOSED:
            self._close(ClosedHere("the connection was closed here", reason), reason, text)
        return self._take_events()

    def start_exchange(self) -> list[Event]:
        """Begin a key exchange now, unless one is running.  None is begun before authentication is complete."""
        if self.phase is Phase.OPEN:
            self.keying.start()
        return self._take_events()

    def authenticate(self, dialog: Dialog[AuthAnswer]) -> list[Event]:
        """Client: run one authentication method; `AuthAnswered` follows.

        Raises:
            LocalProtocolError: another method is under way, or this isn't the time for it.
        """
        if self.phase not in (Phase.AUTHENTICATE, Phase.REEXCHANGE_AUTHENTICATE) or self.role is not Role.CLIENT:
            raise LocalProtocolError(f"can't authenticate in phase {self.phase.value!r}")
        if self._auth is not None and not self._auth.is_done:
            raise LocalProtocolError("another authentication method is under way")
        self._auth = Conversation(self._request_service(dialog), self._send, self._ask_auth, self._auth_answered)
        self._auth.start()
        return self._take_events()

    def send(self, message: DeclaredMessage) -> None:
        """Seal a message that stands for itself: IGNORE, DEBUG, a ping.

        Raises:
            LocalProtocolError: it is too long.
        """
        if self.phase is not Phase.CLOSED:
            payload = message.encode()
            check_size(type(message).__name__, len(payload))
            self._outbound.send(payload)

    # -- channel verbs

    def confirm_open(self, channel: CoreChannel, details: bytes = b"") -> None:
        """Accept a channel that the peer wants."""
        if self.phase is not Phase.CLOSED:
            self.mux.confirm_open(channel, details)

    def refuse_open(self, channel: CoreChannel, reason: OpenFailureReason, text: str = "") -> None:
        """Refuse a channel that the peer wants."""
        if self.phase is not Phase.CLOSED:
            self.mux.refuse_open(channel, reason, text)

    def send_data(self, channel: CoreChannel, data: memoryview, source: Source = Source.DATA) -> int:
        """See `Mux.send_data`; a connection that has ended takes nothing."""
        return self.mux.send_data(channel, data, source)

    # -- the walk

    def _receive(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_logged_in:
            self._login_bytes += len(data)
        if self._identification is not None:
            rest = self._identification.receive(data)
            if rest is None:
                return
            assert self._identification.version_line is not None, "a complete identification has its line"
            self.keying.their_version = self._identification.version_line
            self._identification = None
            data = rest
        self._inbound.feed(data)
        if self._asking is not None and self._inbound.waiting_bytes > self.options.limits.paused_input_bytes:
            raise RemoteProtocolError("the peer sends on and on while an answer is awaited")
        self._go_on()
        self._inbound.keep()

    def _go_on(self) -> None:
        self._walk()
        if self.phase is not Phase.CLOSED:
            if not self._is_logged_in:
                self._check_login()
            if self.keying.is_running:
                self.keying.check_overdue()

    def _check_login(self) -> None:
        """Hold the peer to what may be said before the login is complete, whatever it consists of."""
        # How the bytes were cut mustn't matter: what is not walked yet may belong behind the login.
        if self._login_bytes - self._inbound.waiting_bytes > self.options.limits.login_bytes:
            raise RemoteProtocolError(f"more than {self.options.limits.login_bytes} bytes came, and no login")

    def _walk(self) -> None:
        """Run the complete packets, one after the other: packet n+1 is opened after packet n was dealt with."""
        next_packet = self._inbound.next_packet
        on_data, on_window_adjust = self.mux.on_data, self.mux.on_window_adjust
        self.is_unfinished = False
        left = _STEP_BYTES
        while self._asking is None:
            if left <= 0:
                self.is_unfinished = True
                return
            packet = next_packet()
            if packet is None:
                return
            plain, end = packet
            left -= end + _PACKET_COST
            number = plain[1]
            verdict = self._gate[number]
            if verdict == _ADMIT:
                if number == _CHANNEL_DATA:
                    on_data(plain, end)
                elif number == _WINDOW_ADJUST:
                    on_window_adjust(plain, end)
                else:
                    _DISPATCH[number](self, plain[1:end])
                    if self.phase is Phase.CLOSED:
                        return
            elif verdict == Verdict.UNKNOWN:
                self._send(Unimplemented((self._inbound.sequence - 1) & 0xFFFFFFFF))
            elif verdict == Verdict.REFUSE:
                raise RemoteProtocolError(f"message {number} arrived in phase {self.phase.value!r}")

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._gate = ADMITS[self.role][phase]

    def _take_events(self) -> list[Event]:
        if self.keying.is_due and self.phase is Phase.OPEN and not self.keying.is_running:
            self.keying.start()
        events = self._events.copy()
        self._events.clear()
        return events

    def _send(self, message: DeclaredMessage) -> None:
        self._outbound.send(message.encode())

    # -- the end

    def _fail(self, error: Exception) -> None:
        match error:
            case ConnectionLost():
                self._end(error)
            case ProtocolError():
                self._close(error, error.reason, str(error))
            case IncompatiblePeer():
                self._close(error, DisconnectReason.KEY_EXCHANGE_FAILED, str(error))
            case HostKeyException():
                self._close(error, DisconnectReason.HOST_KEY_NOT_VERIFIABLE, "host key not trusted")
            case SSHException():
                self._close(error, DisconnectReason.BY_APPLICATION, "")
            case _:
                bug = InternalError(f"a bug of trio_ssh, please report it: {type(error).__name__}: {error}")
                bug.__cause__ = error
                self.options.log.error("%s", bug, exc_info=error)
                self._close(bug, DisconnectReason.BY_APPLICATION, "internal error")

    def _close(self, error: Exception, reason: DisconnectReason, text: str) -> None:
        if self._identification is None:
            # A peer that isn't told why can't be helped; but nothing of ours that is long or odd travels.
            self._outbound.seal(Disconnect(reason, printable(text, 200), "").encode())
        self._end(error)

    def _end(self, error: Exception) -> None:
        self.failure = error
        self._asking = None
        self.is_unfinished = False
        self._outbound.shut()
        self.keying.detach()
        self._enter(Phase.CLOSED)
        self._events.append(Ended(error))

    # -- the version exchange, and key exchanges

    def _greet(self) -> None:
        line = our_version_line(self.options.software)
        self.keying.our_version = line
        self._greeting = line + b"\r\n"
        self.keying.start()

    def _on_kexinit(self, payload: bytes) -> None:
        phase = self.phase
        self.keying.receive_kexinit(payload)
        if phase is Phase.START:
            self._enter(Phase.EXCHANGE_STRICT if self.keying.is_strict else Phase.EXCHANGE_LENIENT)
        elif phase is Phase.AUTHENTICATE:
            self._enter(Phase.REEXCHANGE_AUTHENTICATE)
        else:
            self._enter(Phase.REEXCHANGE_OPEN)

    def _announce_extensions(self) -> None:
        """RFC 8308 s2.4: EXT_INFO is the first message behind our first NEWKEYS."""
        if self.role is Role.SERVER and self.keying.takes_ext_info:
            self._outbound.seal(_ext_info(self.options.signature_algorithms))

    def _exchange_started(self, is_hasty: bool) -> None:
        self._events.append(ExchangeStarted(is_hasty))

    def _exchange_finished(self, is_first: bool) -> None:
        assert self.keying.negotiated is not None, "a finished exchange has a result"
        if is_first:
            self._enter(Phase.AUTHENTICATE)
            if self.role is Role.SERVER:
                dialog = authenticate_as_server(
                    self.keying.session_id,
                    self.options.signature_algorithms,
                    self.options.limits,
                    self.keying.host_key_shown,
                    self.keying.gss_context,
                )
                self._auth = Conversation(dialog, self._send, self._ask_auth, self._logged_in)
                self._auth.start()
        elif self.phase is Phase.REEXCHANGE_AUTHENTICATE:
            self._enter(Phase.AUTHENTICATE)
        else:
            self._enter(Phase.OPEN)
        self._events.append(ExchangeFinished(self.keying.negotiated, is_first))

    # -- questions

    def _ask(self, question: Question, conversation: Conversation[Any]) -> None:
        self._asking = conversation
        self._events.append(Asked(question))

    def _ask_auth(self, question: Question) -> None:
        assert self._auth is not None, "a dialog that asks is running"
        self._ask(question, self._auth)

    # -- authentication

    def _request_service(self, dialog: Dialog[AuthAnswer]) -> Dialog[AuthAnswer]:
        if self._service_requested:
            return (yield from dialog)
        self._service_requested = True
        if self.keying.their_version.startswith(SENDS_AT_ONCE):
            return (yield from with_service(dialog))
        yield from request_service()
        return (yield from dialog)

    def _on_auth(self, payload: bytes) -> None:
        if self._auth is None:
            raise RemoteProtocolError(f"message {payload[0]} arrived outside authentication")
        self._auth.receive(payload)

    def _auth_answered(self, answer: AuthAnswer) -> None:
        if answer.is_success:
            self._open()
        self._events.append(AuthAnswered(answer))

    def _logged_in(self, username: str) -> None:
        self._open()
        self._events.append(LoggedIn(username))

    def _open(self) -> None:
        self._check_login()
        self._is_logged_in = True
        self._auth = None
        self._enter(Phase.OPEN)
        self.keying.begin_delayed_compression()

    def _on_banner(self, payload: bytes) -> None:
        banner = UserauthBanner.from_payload(payload)
        limits = self.options.limits
        self._banners += 1
        self._banner_bytes += len(payload)
        if self._banners > limits.banner_count or self._banner_bytes > limits.banner_bytes:
            raise RemoteProtocolError("the server doesn't stop sending banners")
        self._events.append(BannerArrived(printable_lines(banner.text)))

    # -- messages that stand for themselves

    def _on_disconnect(self, payload: bytes) -> None:
        message = Disconnect.from_payload(payload)
        self._fail(PeerDisconnected(message.reason, message.description))

    def _on_ignore(self, payload: bytes) -> None:
        Ignore.from_payload(payload)

    def _on_unimplemented(self, payload: bytes) -> None:
        Unimplemented.from_payload(payload)

    def _on_debug(self, payload: bytes) -> None:
        message = Debug.from_payload(payload)
        self.options.log.debug("the peer remarks: %s", printable(message.text))

    def _on_ext_info(self, payload: bytes) -> None:
        message = ExtInfo.from_payload(payload)
        self._ext_infos += 1
        if self._ext_infos > (2 if self.role is Role.CLIENT else 1):
            raise RemoteProtocolError("EXT_INFO came too often")
        if message.count > self.options.limits.extension_count:
            raise RemoteProtocolError(f"EXT_INFO of {message.count} entries")
        content = Message(message.extensions)
        for _ in range(message.count):
            name = content.get_text()
            self.extensions[name] = content.get_string()
        if content.get_remainder():
            raise RemoteProtocolError("bytes behind the last extension")

    def _on_ping(self, payload: bytes) -> None:
        self._send(Pong(Ping.from_payload(payload).data))

    def _on_pong(self, payload: bytes) -> None:
        self._events.append(PongArrived(Pong.from_payload(payload).data))

    def _on_exchange(self, payload: bytes) -> None:
        self.keying.receive(payload)


def _to_mux(handle: Callable[[Mux, bytes], None]) -> Callable[[Connection, bytes], None]:
    return lambda connection, payload: handle(connection.mux, payload)


#: What an admitted message does, but for the two that a transfer consists of.
_DISPATCH: Final[Mapping[int, Callable[[Connection, bytes], None]]] = {
    1: Connection._on_disconnect,
    2: Connection._on_ignore,
    3: Connection._on_unimplemented,
    4: Connection._on_debug,
    5: Connection._on_auth,
    6: Connection._on_auth,
    7: Connection._on_ext_info,
    20: Connection._on_kexinit,
    **dict.fromkeys((21, *range(30, 50)), Connection._on_exchange),
    **dict.fromkeys((50, 51, 52, *range(60, 67)), Connection._on_auth),
    53: Connection._on_banner,
    80: _to_mux(Mux.on_global_request),
    81: _to_mux(Mux.on_request_success),
    82: _to_mux(Mux.on_request_failure),
    90: _to_mux(Mux.on_open),
    91: _to_mux(Mux.on_open_confirmation),
    92: _to_mux(Mux.on_open_failure),
    95: _to_mux(Mux.on_extended_data),
    96: _to_mux(Mux.on_eof),
    97: _to_mux(Mux.on_close),
    98: _to_mux(Mux.on_request),
    99: _to_mux(Mux.on_success),
    100: _to_mux(Mux.on_failure),
    192: Connection._on_ping,
    193: Connection._on_pong,
}
