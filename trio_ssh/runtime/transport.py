"""The public `Transport`: one SSH connection over any trio stream.

The engine moves bytes; here the core's events become wake-ups, and the user's calls become the core's verbs.  What a
handshake asks is answered in the task of whoever awaits the handshake, so that their exceptions and their cancellation
are their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

import trio

from trio_ssh.core.connection import ClosedHere, Connection
from trio_ssh.core.events import (
    Asked,
    AuthAnswered,
    BannerArrived,
    CloseArrived,
    DataArrived,
    Ended,
    EofArrived,
    Event,
    ExchangeFinished,
    ExchangeStarted,
    GlobalRequestAnswered,
    GlobalRequestArrived,
    LoggedIn,
    OpenAnswered,
    OpenRequested,
    PongArrived,
    RequestAnswered,
    RequestArrived,
    WindowOpened,
)
from trio_ssh.core.gssapi import GssExchangeQuestion
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits, as_limits
from trio_ssh.core.negotiation import Algorithms, Negotiated
from trio_ssh.core.options import Options
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import SignatureWanted
from trio_ssh.core.role import Role
from trio_ssh.crypto.moduli import NO_MODULI, Moduli
from trio_ssh.errors import LocalProtocolError, RequestRefused
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.runtime.arguments import checked_stream
from trio_ssh.runtime.asked_ports import AskedPorts
from trio_ssh.runtime.block import Block
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.client_authentication import ClientAuthentication
from trio_ssh.runtime.engine import KEEPALIVE, KEEPALIVE_COUNT, Engine
from trio_ssh.runtime.explain import Explanation, explain
from trio_ssh.runtime.gss_keying import GssKeying
from trio_ssh.runtime.handler import PeerHandler, SubsystemSource, call_plainly, checked_subsystem
from trio_ssh.runtime.handshake import Handshake, HostKeyCheck
from trio_ssh.runtime.hints import TRANSPORT_HINTS, Hints, HintTable, with_argument_hints
from trio_ssh.runtime.link import PeerAddress
from trio_ssh.runtime.moduli import load_moduli
from trio_ssh.runtime.requests import PeerRequests
from trio_ssh.runtime.security_options import DisabledAlgorithms, Security, SecurityOptions, options_of
from trio_ssh.runtime.server_keys import ServerKeys
from trio_ssh.wire.connection import TcpipChannel, check_port
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable
from trio_ssh.wire.transport import Ignore

#: Why a session is refused, mostly.
_TOO_MANY_SESSIONS: Final = (
    "there may be as many sessions as the server allows at once: ten by default, by MaxSessions of sshd or "
    "`Limits.sessions`"
)


def _is_first_exchange(event: Event) -> bool:
    return isinstance(event, ExchangeFinished) and event.is_first


class Transport(ClientAuthentication, Hints):
    """One SSH connection, as client or server, attached to any `trio.abc.Stream`.

        async with Transport(stream) as transport:
            await transport.start_client(check_host_key=...)
            await transport.auth_password("alice", "secret")
            channel = await transport.open_session()

    Leaving the block disconnects, closes the stream, and ends every task of the connection.

    Args:
        stream: carries the connection; it is the transport's from now on.
        limits: bounds on what the peer may choose.
        algorithms: what to enable, best first, in either role; or else
        security: a profile, or `SecurityOptions`, which are copied; None for ``"modern"``.
        disabled_algorithms: what to take away, as in `SecurityOptions.disable`.
        moduli: a server's groups for ``diffie-hellman-group-exchange-*``; see also `load_server_moduli`.
        gss_kex: exchange keys by GSS-API where both can; needs the extra ``gssapi``.  A client calls `set_gss_host`
            too.
        gss_deleg_creds: a client lets the server use the user's credentials elsewhere, if keys are exchanged so.
        software: how to name ourselves in the version line.
        log_channel: the name of the logger to which it writes.
        nursery: where its tasks run, for an object that owns a transport and sees to it that `aclose` is called: the
            tasks are shielded until then.  Without one, use ``async with``.
    """

    _HINTS: ClassVar[HintTable] = TRANSPORT_HINTS

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        limits: Limits = DEFAULT_LIMITS,
        algorithms: Algorithms | None = None,
        security: Security | None = None,
        disabled_algorithms: DisabledAlgorithms | None = None,
        moduli: Moduli = NO_MODULI,
        gss_kex: bool = False,
        gss_deleg_creds: bool = False,
        software: str = "trio_ssh",
        log_channel: str = "trio_ssh.transport",
        nursery: trio.Nursery | None = None,
    ) -> None:
        self._stream = checked_stream(stream)
        self._limits = as_limits(limits)
        self._log = logging.getLogger(log_channel)
        self._algorithms = algorithms
        self._chosen: Security | None = security
        self._options: SecurityOptions | None = None
        self._moduli = moduli
        self._gss_keying = GssKeying(is_wanted=gss_kex, delegates=gss_deleg_creds)
        self._software = software
        self._server_keys = ServerKeys()
        self._subsystems: dict[str, SubsystemSource] = {}
        self._block = Block()
        self._nursery = nursery
        self._running: Engine | None = None
        self._requests: PeerRequests | None = None
        self._channels: dict[int, Channel] = {}
        self._handshake = Handshake()
        #: Channels for `accept`; most connections have none.
        self._acceptance: tuple[trio.MemorySendChannel[Channel], trio.MemoryReceiveChannel[Channel]] | None = None
        self._banner = ""
        self._username: str | None = None
        #: Where the peer is: a socket that is closed can't tell any more.
        self._peer_name: PeerAddress | None = None
        self._asked_ports: AskedPorts | None = None
        if disabled_algorithms:
            self.get_security_options().disable(disabled_algorithms)

    def __repr__(self) -> str:
        if self._running is None:
            return "<Transport, not started>"
        core = self._running.core
        negotiated = core.keying.negotiated
        cipher = f", {negotiated.client_to_server.cipher}" if negotiated else ""
        return f"<Transport {core.role.value}{cipher}, {core.phase.value}, {len(self._channels)} channels>"

    @property
    def _engine(self) -> Engine:
        if self._running is None:
            raise LocalProtocolError("this transport was not started: call start_client or start_server first")
        return self._running

    # -- its life

    async def __aenter__(self) -> Self:
        self._nursery = await self._block.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._block.close(error, self.aclose)  # noqa: ASYNC102 -- `aclose` has bounds of its own
        self._nursery = None

    async def aclose(self) -> None:
        """Say goodbye, send what waits (for two seconds at the most), and close the stream.

        Cancelled, it closes at once.
        """
        if self._running is None:
            await self._stream.aclose()
            return
        try:
            await self._running.aclose()
        finally:
            self._peer.detach()

    async def wait_closed(self) -> None:
        """Wait until the connection is over, for whatever reason; `get_exception` tells which."""
        await self._engine.over.wait()

    @property
    def limits(self) -> Limits:
        """What the peer may choose."""
        return self._limits

    def get_exception(self) -> Exception | None:
        """Return why the connection ended, or None while it lasts or where it was closed here."""
        failure = self._running.core.failure if self._running is not None else None
        return None if isinstance(failure, ClosedHere) else failure

    # -- about it

    def is_active(self) -> bool:
        """Tell whether the connection is negotiated and lasts."""
        running = self._running
        return running is not None and running.core.keying.negotiated is not None and not running.is_over

    def is_authenticated(self) -> bool:
        """Tell whether the connection is active and a user is logged in."""
        return self.is_active() and self._engine.core.phase in (Phase.OPEN, Phase.REEXCHANGE_OPEN)

    def get_username(self) -> str | None:
        """Return the user's name, once it is authenticated."""
        return self._username

    def get_banner(self) -> str | None:
        """Return the server's banner, escaped, or None."""
        return self._banner or None

    def getpeername(self) -> PeerAddress | None:
        """Return the peer's address as its socket tells it, or None where the stream has none."""
        if self._peer_name is None and isinstance(self._stream, trio.SocketStream):
            with contextlib.suppress(OSError):
                self._peer_name = self._stream.socket.getpeername()
        return self._peer_name

    def get_remote_server_key(self) -> PublicKey:
        """Return the key that the server proved to own.

        Raises:
            LocalProtocolError: there was no key exchange yet, or GSS-API vouches for the server instead of a key.
        """
        key = self._engine.core.keying.host_key
        if key is None:
            if self.gss_kex_used:
                raise LocalProtocolError("the server has shown no key: GSS-API vouches for it")
            raise LocalProtocolError("no key exchange has finished yet")
        return key

    @property
    def session_id(self) -> bytes:
        """RFC 4253 s7.2: what names this connection and no other; empty before the first key exchange."""
        return self._running.core.keying.session_id if self._running is not None else b""

    def get_security_options(self) -> SecurityOptions:
        """Return what is enabled; change it before the connection starts."""
        if self._options is None:
            self._options = options_of(self._algorithms if self._algorithms is not None else self._chosen)
        return self._options

    def get_negotiated(self) -> Negotiated | None:
        """Return what was agreed in the latest key exchange, or None before the first."""
        return self._running.core.keying.negotiated if self._running is not None else None

    def explain(self) -> Explanation:
        """Say what was agreed in the latest key exchange, and why; ``str`` of it is for people.

        Raises:
            LocalProtocolError: there was no key exchange yet.
        """
        return explain(self._engine.core)

    @property
    def remote_version(self) -> str:
        """The peer's version line, such as ``SSH-2.0-OpenSSH_9.2``; empty before it was read."""
        return self._running.core.keying.their_version.decode("ascii") if self._running is not None else ""

    # -- starting

    def add_server_key(self, key: PKey | CertifiedKey) -> None:
        """Add a host key, of which a server needs at least one; the first of a kind is used.

        A `CertifiedKey` is shown with its certificate to clients that ask for one, and bare to the others.

        Raises:
            TypeError: it is none, or its key is elsewhere, in an agent for instance.
        """
        self._server_keys.add(key)

    def get_server_keys(self) -> tuple[PKey, ...]:
        """Return a server's host keys, in the order in which they were added."""
        return tuple(self._server_keys.keys)

    def set_gss_host(self, gss_host: str) -> None:
        """Say by which name the realm knows the server; whoever can't prove to be that is not talked to."""
        self._gss_keying.host = gss_host

    def _notify(self, name: str, details: bytes) -> None:
        """Seal a global request that wants no reply; it leaves with whatever is said next."""
        self._engine.core.mux.global_request(name, details, wants_reply=False)

    def set_subsystem_handler(self, name: str, source: SubsystemSource) -> None:
        """Serve a subsystem on this connection, besides those in ``ServerInterface.subsystems``.

        Args:
            source: a handler, such as ``LocalSFTPServer("/srv")``; or what makes one for each session that asks for it,
                such as a `SubsystemHandler` subclass.

        Call it before `start_server`, or sessions that came first don't have it.
        """
        self._subsystems[name] = checked_subsystem(name, source)
        if self._running is not None and not self._running.is_over:
            self._peer.handler.add_subsystem(name, source)

    async def load_server_moduli(self, filename: str | Path | None = None) -> bool:
        """Read a server's groups for group exchange, or else the system's; return whether there are any.

        Raises:
            OSError, ConfigParseError: the named file can't be read, or is none of moduli(5)'s.
        """
        self._moduli = await load_moduli(filename)
        return bool(self._moduli.groups)

    def _start(self, role: Role, handler: PeerHandler) -> None:
        if self._nursery is None:
            raise LocalProtocolError(
                "a Transport's tasks need its block: write `async with Transport(stream) as transport:`"
            )
        if self._running is not None:
            raise LocalProtocolError("this transport was started before")
        self.getpeername()  # it is remembered
        # Most say what they want when they make it, and never look again.
        given = self._algorithms if self._options is None else None
        algorithms = self.get_security_options().for_role(role) if given is None else given
        if role is Role.SERVER:
            algorithms = self._server_keys.restrict(algorithms)
            if not algorithms.host_keys and not self._gss_keying.is_wanted:
                raise LocalProtocolError("a server needs a host key: call add_server_key, or pass host_keys=")
        options = Options(
            random_bytes=os.urandom,
            log=self._log,
            algorithms=algorithms,
            limits=self._limits,
            software=self._software,
            host_keys=tuple(self._server_keys.keys),
            certificates=tuple(self._server_keys.certificates),
            moduli=self._moduli,
            signature_algorithms=algorithms.every_pubkey,
            new_gss_context=self._gss_keying.contexts(role),
        )
        self._running = Engine(Connection(role, options), self._stream, self._limits, self._nursery, self._on_event)
        self._requests = PeerRequests(self._running, handler, self._limits, self._put_accepted, self._forget)
        self._running.start()

    @with_argument_hints
    async def start_client(self, *, check_host_key: HostKeyCheck, handler: PeerHandler | None = None) -> None:
        """Be the client: exchange versions and keys.

        Args:
            check_host_key: called with the server's key, once it has proven to own it; sync or async.  It raises to
                refuse; to return anything but None refuses too.  Not called where GSS-API vouches for the server: see
                `gss_kex_used`.
            handler: what to do when the server opens channels or makes requests; the default refuses.

        Raises:
            RemoteProtocolError: the peer is no SSH server, or breaks the protocol.
            IncompatiblePeer: no common algorithms.
            ConnectionLost: it went away.
            Whatever `check_host_key` raises.

        Cancelled, or left by an exception, the connection is over: leave the block.
        """
        await self._exchange_as_client(check_host_key, handler)
        self._engine.flush()

    async def _exchange_as_client(self, check_host_key: HostKeyCheck, handler: PeerHandler | None) -> None:
        """As `start_client`, for a caller who logs in at once: our NEWKEYS travels with the first request."""
        self._start(Role.CLIENT, handler or PeerHandler())
        try:
            await self._handshake.converse(self._engine, _is_first_exchange, check_host_key=check_host_key)
        except BaseException as error:
            self._abandon(error, DisconnectReason.KEY_EXCHANGE_FAILED)
            raise

    async def start_server(self, server: PeerHandler) -> None:
        """Be the server: exchange versions and keys.  Authentication goes on in the background, asking `server`.

        Raises:
            TypeError: it is no `ServerInterface`, but its class for instance.
            LocalProtocolError: it has served another connection, or this transport was started before.
            As `start_client`.
        """
        given: object = server
        if not isinstance(given, PeerHandler):
            remedy = f": call it, {given.__name__}()" if isinstance(given, type) else ""
            raise TypeError(f"a ServerInterface is wanted, not {given!r}{remedy}")
        server.attach(self)
        for name, source in self._subsystems.items():
            server.add_subsystem(name, source)
        self._start(Role.SERVER, server)
        try:
            await self._handshake.converse(self._engine, _is_first_exchange)
            self._engine.flush()
        except BaseException as error:
            self._abandon(error, DisconnectReason.KEY_EXCHANGE_FAILED)
            raise

    async def wait_authenticated(self) -> str:
        """Server: wait until a client is logged in, and return its user name.

        Raises:
            ConnectionLost: it gave up, or failed too often.
        """
        await trio.lowlevel.checkpoint()
        while self._username is None:
            if self._engine.is_over:
                raise self._engine.lost()
            await self._engine.room.park()
        return self._username

    # -- channels

    @with_argument_hints
    async def open_session(self) -> Channel:
        """Open a channel for a command, a shell or a subsystem.

        Raises:
            ChannelException: the server refuses.
            ConnectionLost: the connection ended.

        Cancelled, a channel that the server opens nevertheless is closed at once.
        """
        return await self._open("session", b"", _TOO_MANY_SESSIONS)

    @with_argument_hints
    async def open_channel(
        self, kind: str, dest_addr: tuple[str, int] | None = None, src_addr: tuple[str, int] | None = None
    ) -> Channel:
        """Open a channel.

        Args:
            kind: ``"session"``, ``"direct-tcpip"``, ``"forwarded-tcpip"``, ``"x11"``, or any other without details.
            dest_addr: for ``-tcpip``: host and port to connect to.
            src_addr: for ``-tcpip`` and ``x11``: where the connection comes from.

        Raises:
            As `open_session`.
        """
        details, hint = Message(), ""
        # A socket of IPv6 gives two numbers more.
        originator = src_addr[:2] if src_addr else ("127.0.0.1", 0)
        for _, port in (originator, *([dest_addr[:2]] if dest_addr is not None else ())):
            check_port(port)
        if kind in ("direct-tcpip", "forwarded-tcpip"):
            if dest_addr is None:
                raise ValueError(f"a {kind} channel needs dest_addr=(host, port)")
            details.add_bytes(TcpipChannel(*dest_addr[:2], *originator).encode())
            hint = f"it was to connect to {printable(dest_addr[0], 255)} port {dest_addr[1]}"
        elif kind == "x11":
            details.add_string(originator[0]).add_int(originator[1])
        return await self._open(kind, details.asbytes(), hint if kind == "direct-tcpip" else "")

    @trio.lowlevel.enable_ki_protection
    async def _open(self, kind: str, details: bytes, hint: str = "") -> Channel:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        engine = self._engine
        channel = Channel(engine, engine.core.mux.open_channel(kind, details), self)
        channel.refusal_hint = hint
        self._channels[channel.get_id()] = channel
        engine.hurry()
        engine.flush_now()
        try:
            await engine.answer_to(channel._opened)
        except BaseException:
            channel.close_later()
            raise
        return channel

    def _check_open(self) -> None:
        engine = self._engine
        engine.check_thread()
        if engine.is_over:
            raise engine.lost()
        if engine.core.phase not in (Phase.OPEN, Phase.REEXCHANGE_OPEN):
            raise LocalProtocolError("authenticate first")

    async def open_tcp_stream(self, host: str, port: int) -> Channel:
        """Connect to a host and port as the peer sees them; the channel is a trio stream.

        Raises:
            ChannelException: the peer refuses, or can't connect.
        """
        return await self.open_channel("direct-tcpip", (host, port))

    @property
    def _accepting(self) -> tuple[trio.MemorySendChannel[Channel], trio.MemoryReceiveChannel[Channel]]:
        if self._acceptance is None:
            self._acceptance = trio.open_memory_channel[Channel](self._limits.channels)
            if self._engine.is_over:
                self._acceptance[0].close()
        return self._acceptance

    def _put_accepted(self, channel: Channel) -> None:
        self._accepting[0].send_nowait(channel)

    async def accept(self) -> Channel:
        """Wait for a channel that the peer opened and the handler granted.

        Raises:
            ConnectionLost: the connection ended.
        """
        try:
            return await self._accepting[1].receive()
        except trio.EndOfChannel:
            lost = self._engine.lost()
        raise lost  # outside of the handler, so that its cause is the reason for the loss

    # -- requests that concern no channel

    async def global_request(self, name: str, details: bytes = b"", *, wait: bool = True) -> bytes | None:
        """Ask something of the connection; return what came with the success, or None if `wait` is false.

        Raises:
            RequestRefused: the answer is no.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if not wait:
            self._engine.core.mux.global_request(name, details, wants_reply=False)
            self._engine.flush()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return None
        is_success, answer = await self._engine.answer_to(self._engine.ask(name, details))
        if not is_success:
            raise RequestRefused(name)
        return answer

    async def request_port_forward(self, address: str, port: int) -> int:
        """Ask the server to listen; return the port, chosen by it if `port` is 0.

        The connections it takes come from `accept`, unless a handler decides about channels itself.

        Raises:
            RequestRefused: the server doesn't.

        Cancelled, the server may listen all the same.
        """
        return await self._ports.listen(address, port)

    async def cancel_port_forward(self, address: str, port: int) -> None:
        """Ask the server to listen no more."""
        await self._ports.cancel(address, port)

    @property
    def _ports(self) -> AskedPorts:
        self._check_open()
        if self._asked_ports is None:
            self._asked_ports = AskedPorts(self.global_request, self._peer.handler, self._peer.deciding)
        return self._asked_ports

    @trio.lowlevel.enable_ki_protection
    async def send_ignore(self, size: int = 0) -> None:
        """Send a message that means nothing, with `size` random bytes; with 0, a random number of them."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        self._engine.core.send(Ignore(os.urandom(size or 10 + os.urandom(1)[0] % 32)))
        self._engine.flush()

    async def ping(self) -> None:
        """Ask the peer for a sign of life, and wait for it.

        Raises:
            ConnectionLost: the connection ended first.  Put a `trio.fail_after` around it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        await self._engine.answer_to(self._engine.ask(KEEPALIVE, b""))

    async def renegotiate_keys(self) -> None:
        """Exchange keys now, and wait until both directions use the new ones."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        await self._engine.exchange_keys()

    def set_keepalive(self, interval: float, count: int = KEEPALIVE_COUNT) -> None:
        """Ask the peer for a sign of life every `interval` seconds in which nothing came; 0 turns it off.

        `count` of them that nothing follows end the connection with `ConnectionLost`.
        """
        self._engine.set_keepalive(interval, count)

    # -- events

    def _on_event(self, event: Event) -> None:
        """Turn an event into a wake-up.  Plain code: it never waits, so the reader doesn't."""
        match event:
            case DataArrived(core, source):
                self._channels[core.local_id]._on_data(source)
            case WindowOpened(core):
                self._channels[core.local_id]._on_window()
            case EofArrived(core):
                self._channels[core.local_id]._on_eof()
            case CloseArrived(core):
                self._channels.pop(core.local_id)._on_close()
            case OpenAnswered(core, code, text):
                channel = self._channels[core.local_id]
                channel._on_open_answered(code, text)
                if code:
                    self._forget(channel)
            case RequestAnswered(core, is_success):
                self._channels[core.local_id]._on_request_answered(is_success)
            case RequestArrived(core, name, wants_reply, details):
                self._on_request(self._channels[core.local_id], name, wants_reply, details)
            case OpenRequested(core, details):
                channel = self._channels[core.local_id] = Channel(self._engine, core, self)
                self._peer.open_request(channel, details)
            case GlobalRequestArrived(name, wants_reply, details):
                self._peer.global_request(name, wants_reply, details)
            case GlobalRequestAnswered(is_success, details):
                self._engine.answered(is_success, details)
            case BannerArrived(text):
                self._banner += text
            case Asked(SignatureWanted(key, data, algorithm)) if isinstance(key, PKey) and key.can_sign():
                self._engine.answer(key.sign(data, algorithm))
            case Asked(GssExchangeQuestion() as question):
                self._gss_keying.ask(self._engine, question)
            case ExchangeStarted(is_hasty):
                self._engine.exchanging(is_hasty)
            case ExchangeFinished():
                self._engine.exchanged()
                if event.is_first:
                    self._handshake.put(event)
            case LoggedIn(username):
                self._username = username
                self._peer.handler.announce()
                self._tell_handler(self._peer.handler.logged_in)
                self._engine.room.unpark_all()
            case Asked(question) if self._engine.core.role is Role.SERVER:
                self._peer.question(question)
            case Asked() | AuthAnswered():
                self._handshake.put(event)
            case Ended(error):
                self._log.debug("%r ended: %s", self, error)
                self._on_ended(event)
            case PongArrived():
                pass
            case _:
                raise AssertionError(f"an event that nobody handles: {event!r}")

    def _serve_channels(self, kind: str, serve: Callable[[Channel], Awaitable[None]]) -> Callable[[], None]:
        """Have what serves channels that the peer opens; return what takes it back."""
        served = self._peer.served
        before = served.get(kind)
        served[kind] = serve

        def undo() -> None:
            if before is None:
                served.pop(kind, None)
            else:
                served[kind] = before

        return undo

    @property
    def _peer(self) -> PeerRequests:
        assert self._requests is not None, "a started transport has what answers its peer"
        return self._requests

    def _on_request(self, channel: Channel, name: str, wants_reply: bool, details: bytes) -> None:
        engine = self._engine
        if name in ("exit-status", "exit-signal") and engine.core.role is Role.CLIENT:
            channel._on_exit_request(name, details)
            engine.core.mux.reply(channel.core, is_success=True, wants_reply=wants_reply)
        else:
            self._peer.channel_request(channel, name, wants_reply, details)

    def _on_ended(self, event: Event) -> None:
        for channel in self._channels.values():
            channel._on_lost()
        if self._acceptance is not None:
            self._acceptance[0].close()
        self._gss_keying.end()
        self._handshake.put(event)
        self._engine.ended()
        if self._engine.core.role is Role.SERVER and self._username is not None:
            self._tell_handler(self._peer.handler.logged_out)

    def _tell_handler(self, hook: Callable[[], None]) -> None:
        try:
            call_plainly(hook)
        except (Exception, SystemExit):
            self._log.exception("%s of %r failed", hook.__name__, self._peer.handler)

    def _forget(self, channel: Channel) -> None:
        del self._channels[channel.get_id()]
