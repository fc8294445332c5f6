"""The public `Transport`: one SSH connection over any trio stream, its nursery and its tasks.

Theory of operation.  The sealed core does all the protocol's work; this file moves bytes and wakes waiters.  Three tasks live as
long as the connection:

* the reader awaits nothing but the stream.  It feeds the core, turns the events of one read into wake-ups, and reads on.  It never
  sends, takes no lock and waits for no channel.  (One exception: a peer that asks and asks without listening to the answers has
  filled the outbox, so nothing more is read before that has drained; the writer doesn't depend on the reader, so it will.)
* the writer sends what was sealed meanwhile, by whomever, as one piece.
* the rekey scheduler sleeps, and only while there is traffic; counts are noticed where they are counted.

Background tasks never raise into the nursery: a failure is recorded, every waiter wakes and raises `ConnectionLost` from it.
What a handshake asks is answered in the task of whoever awaits the handshake, so that their exceptions and their cancellation
are their own.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import attrs
import trio

from trio_ssh.core.auth_client import (
    AuthAnswer,
    interactive_as_client,
    none_as_client,
    password_as_client,
    publickey_as_client,
)
from trio_ssh.core.channel import CoreChannel
from trio_ssh.core.connection import Connection, Options
from trio_ssh.core.dialog import Dialog
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
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.negotiation import Algorithms, Negotiated
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import HostKeyOffered, Prompt, PromptsArrived, Question, SignatureWanted
from trio_ssh.core.role import Role
from trio_ssh.errors import (
    AuthenticationException,
    BadAuthenticationType,
    ConnectionLost,
    LocalProtocolError,
    PartialAuthentication,
    PeerDisconnected,
    RemoteProtocolError,
    RequestRefused,
    SSHException,
)
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.runtime.block import Block
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.handler import Answer, PeerHandler
from trio_ssh.runtime.link import Link
from trio_ssh.runtime.security_options import SecurityOptions
from trio_ssh.runtime.waiting import Reply
from trio_ssh.wire.connection import TcpipChannel, TcpipForward, TcpipForwardReply
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason
from trio_ssh.wire.text import printable
from trio_ssh.wire.transport import Ignore, Ping

_log = logging.getLogger("trio_ssh.transport")

#: The largest read.  Measured: a read of 256 KiB holds eight large packets and costs one task switch.
LARGEST_READ: Final = 256 * 1024
_SMALLEST_READ: Final = 8 * 1024

#: Seconds that a close in good order waits for the last bytes to leave.
CLOSE_SECONDS: Final = 2.0

#: Keepalives without any sign of life before the connection is given up, as OpenSSH's ServerAliveCountMax.
KEEPALIVE_COUNT: Final = 3

HostKeyCheck = Callable[[PublicKey], Awaitable[None] | None]
PromptHandler = Callable[[str, str, Sequence[Prompt]], Awaitable[Sequence[str]] | Sequence[str]]


class Transport(Link):
    """One SSH connection, as client or server, attached to any `trio.abc.Stream`.

        async with Transport(stream) as transport:
            await transport.start_client(check_host_key=...)
            await transport.auth_password("alice", "secret")
            channel = await transport.open_session()

    Leaving the block disconnects, closes the stream, and ends every task of the connection.

    Args:
        stream: carries the connection; it is the transport's from now on.
        limits: bounds on what the peer may choose.
        algorithms: what to enable, best first.
        software: how to name ourselves in the version line.
        nursery: where its tasks run, for an object that owns a transport; without one, use ``async with``.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        limits: Limits = DEFAULT_LIMITS,
        algorithms: Algorithms | None = None,
        software: str = "trio_ssh",
        nursery: trio.Nursery | None = None,
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._security = SecurityOptions(algorithms or Algorithms())
        self._software = software
        self._host_keys: list[PKey] = []
        self._handler: PeerHandler = PeerHandler()
        self._block = Block()
        self._nursery = nursery
        self._room = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._is_writing = False
        self._channels: dict[int, Channel] = {}
        self._news: trio.MemorySendChannel[Event]
        self._handshake: trio.MemoryReceiveChannel[Event]
        self._news, self._handshake = trio.open_memory_channel[Event](math.inf)
        self._accepting: trio.MemorySendChannel[Channel]
        self._accepted: trio.MemoryReceiveChannel[Channel]
        self._accepting, self._accepted = trio.open_memory_channel[Channel](limits.channels)
        self._global_replies: deque[Reply[tuple[bool, bytes]]] = deque()
        self._global_requests: deque[tuple[str, bool, bytes]] = deque()
        self._is_serving_requests = False
        self._banner = ""
        self._username: str | None = None
        self._is_closing = False
        self._over = trio.Event()
        self._traffic = trio.Event()
        self._heard = 0
        self._keepalive = trio.CancelScope()
        self._timer = trio.CancelScope()
        self._last_words = trio.CancelScope()
        self._exchanges = 0

    def __repr__(self) -> str:
        core: Connection | None = getattr(self, "_core", None)
        if core is None:
            return "<Transport, not started>"
        state = core.phase.value
        negotiated = core.keying.negotiated
        cipher = f", {negotiated.client_to_server.cipher}" if negotiated else ""
        return f"<Transport {core.role.value}{cipher}, {state}, {len(self._channels)} channels>"

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
        try:
            await self.aclose()
        finally:
            self._nursery = None
            await self._block.close(error)

    async def aclose(self) -> None:
        """Say goodbye, send what waits (for two seconds at the most), and close the stream.

        Cancelled, it closes at once.
        """
        self._is_closing = True
        if self._has_core:
            self._handle(self._core.disconnect(DisconnectReason.BY_APPLICATION, "closed by the application"))
            self._flush()
            with trio.move_on_after(CLOSE_SECONDS):
                while self._nursery is not None and (self._core.has_data_to_send or self._is_writing):
                    await self._drained.park()
        await self._stream.aclose()

    @property
    def _has_core(self) -> bool:
        return hasattr(self, "_core")

    async def wait_closed(self) -> None:
        """Wait until the connection is over, for whatever reason; `get_exception` tells which."""
        await self._over.wait()

    @property
    def limits(self) -> Limits:
        """What the peer may choose."""
        return self._limits

    def get_exception(self) -> Exception | None:
        """Return why the connection ended, or None while it lasts or where it was closed here."""
        if not self._has_core or self._is_closing:
            return None
        return self._core.failure

    # -- about it

    def is_active(self) -> bool:
        """Tell whether the connection is negotiated and lasts."""
        return self._has_core and self._core.keying.negotiated is not None and self._core.failure is None

    def is_authenticated(self) -> bool:
        """Tell whether the connection is active and a user is logged in."""
        return self.is_active() and self._username is not None and self._core.keying.wants_delayed_compression

    def get_username(self) -> str | None:
        """Return the user's name, once it is authenticated."""
        return self._username

    def get_banner(self) -> str | None:
        """Return the server's banner, escaped, or None."""
        return self._banner or None

    def getpeername(self) -> object:
        """Return the peer's address as its socket tells it, or None where the stream has none."""
        stream = self._stream
        if isinstance(stream, trio.SocketStream):
            try:
                return stream.socket.getpeername()
            except OSError:
                return None
        return None

    def get_remote_server_key(self) -> PublicKey:
        """Return the key that the server proved to own.

        Raises:
            LocalProtocolError: there was no key exchange yet.
        """
        if not self._has_core or self._core.keying.host_key is None:
            raise LocalProtocolError("no key exchange has finished yet")
        return self._core.keying.host_key

    def get_security_options(self) -> SecurityOptions:
        """Return what is enabled; change it before the connection starts."""
        return self._security

    def get_negotiated(self) -> Negotiated | None:
        """Return what was agreed in the latest key exchange, or None before the first."""
        return self._core.keying.negotiated if self._has_core else None

    @property
    def remote_version(self) -> str:
        """The peer's version line, such as ``SSH-2.0-OpenSSH_9.2``; empty before it was read."""
        return self._core.keying.their_version.decode("ascii") if self._has_core else ""

    # -- starting

    def add_server_key(self, key: PKey) -> None:
        """Add a host key, of which a server needs at least one; the first of a kind is used."""
        self._host_keys.append(key)

    def _start(self, role: Role) -> None:
        if self._nursery is None:
            raise LocalProtocolError(
                "a Transport's tasks need its block: write `async with Transport(stream) as transport:`"
            )
        if self._has_core:
            raise LocalProtocolError("this transport was started before")
        algorithms = self._security.algorithms
        if role is Role.SERVER:
            able = {algorithm for key in self._host_keys for algorithm in key.algorithms}
            algorithms = attrs.evolve(
                algorithms, host_keys=tuple(name for name in algorithms.host_keys if name in able)
            )
            if not algorithms.host_keys:
                raise LocalProtocolError("a server needs a host key: call add_server_key, or pass host_keys=")
        options = Options(
            random_bytes=os.urandom,
            algorithms=algorithms,
            limits=self._limits,
            software=self._software,
            host_keys=tuple(self._host_keys),
            signature_algorithms=self._security.algorithms.host_keys,
        )
        self._core = Connection(role, options)
        self._nursery.start_soon(self._guard, self._read, name="trio_ssh reader")
        self._nursery.start_soon(self._guard, self._write, name="trio_ssh writer")
        self._nursery.start_soon(self._guard, self._schedule_rekeys, name="trio_ssh rekey scheduler")

    async def start_client(self, *, check_host_key: HostKeyCheck, handler: PeerHandler | None = None) -> None:
        """Be the client: exchange versions and keys.

        Args:
            check_host_key: called with the server's key, once it has proven to own it; sync or async.  It raises to refuse.
            handler: what to do when the server opens channels or makes requests; the default refuses.

        Raises:
            RemoteProtocolError: the peer is no SSH server, or breaks the protocol.
            IncompatiblePeer: no common algorithms.
            ConnectionLost: it went away.
            Whatever `check_host_key` raises.

        Cancelled, or left by an exception, the connection is over: leave the block.
        """
        if handler is not None:
            self._handler = handler
        self._start(Role.CLIENT)
        try:
            await self._converse(lambda event: isinstance(event, ExchangeFinished) and event.is_first, check_host_key)
        except BaseException as error:
            self._abandon(error, DisconnectReason.KEY_EXCHANGE_FAILED)
            raise

    async def start_server(self, server: PeerHandler) -> None:
        """Be the server: exchange versions and keys.  Authentication goes on in the background, asking `server`.

        Raises:
            As `start_client`.
        """
        self._handler = server
        self._start(Role.SERVER)
        assert self._nursery is not None, "a started transport has its nursery"
        try:
            await self._converse(lambda event: isinstance(event, ExchangeFinished) and event.is_first, None)
        except BaseException as error:
            self._abandon(error, DisconnectReason.KEY_EXCHANGE_FAILED)
            raise
        self._nursery.start_soon(self._guard, self._decide, name="trio_ssh authentication")

    async def wait_authenticated(self) -> str:
        """Server: wait until a client is logged in, and return its user name.

        Raises:
            ConnectionLost: it gave up, or failed too often.
        """
        await trio.lowlevel.checkpoint()
        while self._username is None:
            if self._core.failure is not None:
                raise self._lost()
            await self._room.park()
        return self._username

    def _abandon(self, error: BaseException, reason: DisconnectReason) -> None:
        """A handshake ended by its caller's exception can't go on: end the connection with it."""
        if isinstance(error, Exception):
            self._handle(self._core.fail(error))
        else:
            self._handle(self._core.disconnect(reason, "given up"))
        self._flush()

    # -- authentication, as a client

    async def auth_none(self, username: str) -> None:
        """Log in without proof.

        Raises:
            BadAuthenticationType: the server wants one of `allowed`; servers nearly always do.
        """
        await self._authenticate(username, "none", none_as_client(username))

    async def auth_password(self, username: str, password: str) -> None:
        """Log in with a password.

        Raises:
            AuthenticationException: wrong, or not enough (`PartialAuthentication`), or not allowed (`BadAuthenticationType`).
            ConnectionLost: the server hung up.

        Cancelled, the connection is over.
        """
        await self._authenticate(username, "password", password_as_client(username, password))

    async def auth_publickey(self, username: str, key: PKey) -> None:
        """Log in with a key.

        Raises:
            As `auth_password`.
        """
        algorithm = self._choose_algorithm(key)
        dialog = publickey_as_client(username, key, algorithm, self._core.keying.session_id)
        await self._authenticate(username, f"publickey {key.fingerprint} ({algorithm})", dialog)

    async def auth_interactive(self, username: str, handler: PromptHandler, submethods: str = "") -> None:
        """Log in by answering the server's questions.

        Args:
            handler: called with title, instructions and prompts; returns one str per prompt; sync or async.

        Raises:
            As `auth_password`; and whatever `handler` raises.
        """
        dialog = interactive_as_client(username, submethods, self._limits)
        await self._authenticate(username, "keyboard-interactive", dialog, handler)

    def _choose_algorithm(self, key: PKey) -> str:
        """RFC 8308 s3.1: of those that the key can sign with, the first that the server says it takes."""
        announced = self._core.extensions.get("server-sig-algs")
        taken = announced.decode("ascii", "replace").split(",") if announced is not None else ()
        for algorithm in key.algorithms:
            if algorithm in taken:
                return algorithm
        return key.algorithms[0]

    async def try_authenticate(
        self, username: str, dialog: Dialog[AuthAnswer], prompt_handler: PromptHandler | None = None
    ) -> AuthAnswer:
        """Run one authentication dialog and return the server's answer, whatever it is."""
        if not self._has_core:
            raise LocalProtocolError("start the connection first: start_client")
        if self._core.failure is not None:
            await trio.lowlevel.checkpoint()
            raise self._lost()
        self._handle(self._core.authenticate(dialog))
        self._flush()
        try:
            event = await self._converse(lambda event: isinstance(event, AuthAnswered), None, prompt_handler)
        except BaseException as error:
            self._abandon(error, DisconnectReason.AUTH_CANCELLED_BY_USER)
            raise
        assert isinstance(event, AuthAnswered), "that is what was waited for"
        if event.answer.is_success:
            self._username = username
        return event.answer

    async def _authenticate(
        self, username: str, method: str, dialog: Dialog[AuthAnswer], prompt_handler: PromptHandler | None = None
    ) -> None:
        answer = await self.try_authenticate(username, dialog, prompt_handler)
        if answer.is_success:
            return
        name = method.split(" ", 1)[0]
        shown = printable(username, 64)
        if answer.is_partial:
            raise PartialAuthentication(
                f"{name} was accepted for {shown}, and another method is wanted", tried=[method], allowed=answer.allowed
            )
        if name not in answer.allowed:
            raise BadAuthenticationType(f"{name} is not allowed for {shown}", tried=[method], allowed=answer.allowed)
        remark = f": {answer.remark}" if answer.remark else ""
        raise AuthenticationException(f"{name} failed for {shown}{remark}", tried=[method], allowed=answer.allowed)

    # -- answering what a handshake asks

    async def _converse(
        self,
        is_awaited: Callable[[Event], bool],
        check_host_key: HostKeyCheck | None,
        prompt_handler: PromptHandler | None = None,
    ) -> Event:
        """Answer questions until the awaited event, in the caller's own task."""
        while True:
            event = await self._handshake.receive()
            if is_awaited(event):
                return event
            match event:
                case Ended(error):
                    raise error if isinstance(error, SSHException) else self._lost()
                case Asked(question):
                    answer = await self._answer(question, check_host_key, prompt_handler)
                    self._handle(self._core.answer(answer))
                    self._flush()
                case _:
                    pass

    async def _answer(
        self, question: Question, check_host_key: HostKeyCheck | None, prompt_handler: PromptHandler | None
    ) -> object:
        match question:
            case HostKeyOffered(key):
                if check_host_key is None:
                    raise LocalProtocolError("a host key came where none was due")
                await _resolved(check_host_key(key))
                return None
            case PromptsArrived(name, instruction, prompts):
                if prompt_handler is None:
                    raise LocalProtocolError("prompts came where nobody answers them")
                answers = await _resolved(
                    prompt_handler(
                        printable(name),
                        printable(instruction, 4096),
                        [Prompt(printable(prompt.text), prompt.echo) for prompt in prompts],
                    )
                )
                if isinstance(answers, str) or len(answers) != len(prompts):
                    raise LocalProtocolError(f"{len(prompts)} prompts want as many answers, in a list")
                return answers
            case _:
                return await self._handler.answer_question(question)

    async def _decide(self) -> None:
        """Server: ask the handler about each request to authenticate, until someone is logged in."""
        await self._converse(lambda event: isinstance(event, LoggedIn), None)

    # -- channels

    async def open_session(self) -> Channel:
        """Open a channel for a command, a shell or a subsystem.

        Raises:
            ChannelException: the server refuses.
            ConnectionLost: the connection ended.

        Cancelled, a channel that the server opens nevertheless is closed at once.
        """
        return await self.open_channel("session")

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
        details = Message()
        originator = src_addr or ("127.0.0.1", 0)
        if kind in ("direct-tcpip", "forwarded-tcpip"):
            if dest_addr is None:
                raise ValueError(f"a {kind} channel needs dest_addr=(host, port)")
            details.add_bytes(TcpipChannel(*dest_addr, *originator).encode())
        elif kind == "x11":
            details.add_string(originator[0]).add_int(originator[1])
        return await self._open(kind, details.asbytes())

    async def _open(self, kind: str, details: bytes) -> Channel:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        channel = Channel(self, self._core.mux.open_channel(kind, details))
        self._channels[channel.get_id()] = channel
        self._flush()
        try:
            await channel._opened.wait()
        except BaseException:
            channel._close()
            raise
        return channel

    def _check_open(self) -> None:
        if not self._has_core:
            raise LocalProtocolError("this transport was not started")
        if self._core.failure is not None:
            raise self._lost()
        if self._core.phase not in (Phase.OPEN, Phase.REEXCHANGE_OPEN):
            raise LocalProtocolError("authenticate first")

    async def open_tcp_stream(self, host: str, port: int) -> Channel:
        """Connect to a host and port as the peer sees them; the channel is a trio stream.

        Raises:
            ChannelException: the peer refuses, or can't connect.
        """
        return await self.open_channel("direct-tcpip", (host, port))

    async def accept(self) -> Channel:
        """Wait for a channel that the peer opened and the handler granted.

        Raises:
            ConnectionLost: the connection ended.
        """
        try:
            return await self._accepted.receive()
        except trio.EndOfChannel:
            raise self._lost() from None

    # -- requests that concern no channel

    async def global_request(self, name: str, details: bytes = b"", *, wait: bool = True) -> bytes | None:
        """Ask something of the connection; return what came with the success, or None if `wait` is false.

        Raises:
            RequestRefused: the answer is no.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        reply = self._ask_globally(name, details) if wait else None
        if reply is None:
            self._core.mux.global_request(name, details, wants_reply=False)
            self._flush()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return None
        is_success, answer = await reply.wait()
        if not is_success:
            raise RequestRefused(name)
        return answer

    def _ask_globally(self, name: str, details: bytes) -> Reply[tuple[bool, bytes]]:
        reply: Reply[tuple[bool, bytes]] = Reply()
        self._global_replies.append(reply)
        self._core.mux.global_request(name, details, wants_reply=True)
        self._flush()
        return reply

    async def request_port_forward(self, address: str, port: int) -> int:
        """Ask the server to listen; return the port, chosen by it if `port` is 0.

        The connections it takes come from `accept`, if the handler grants ``forwarded-tcpip`` channels.

        Raises:
            RequestRefused: the server doesn't.
        """
        answer = await self.global_request("tcpip-forward", TcpipForward(address, port).encode())
        return TcpipForwardReply.decode(answer).port if port == 0 and answer is not None else port

    async def cancel_port_forward(self, address: str, port: int) -> None:
        """Ask the server to listen no more."""
        await self.global_request("cancel-tcpip-forward", TcpipForward(address, port).encode())

    async def send_ignore(self, size: int = 0) -> None:
        """Send a message that means nothing, with `size` random bytes; with 0, a random number of them."""
        await trio.lowlevel.checkpoint()
        self._core.send(Ignore(os.urandom(size or 10 + os.urandom(1)[0] % 32)))
        self._flush()

    async def ping(self) -> None:
        """Ask the peer for a sign of life, and wait for it.

        Raises:
            ConnectionLost: the connection ended first.  Put a `trio.fail_after` around it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        await self._ask_globally("keepalive@openssh.com", b"").wait()

    async def renegotiate_keys(self) -> None:
        """Exchange keys now, and wait until both directions use the new ones."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        before = self._exchanges
        self._handle(self._core.start_exchange())
        self._flush()
        while self._exchanges == before:
            if self._core.failure is not None:
                raise self._lost()
            await self._room.park()

    def set_keepalive(self, interval: float) -> None:
        """Ask the peer for a sign of life every `interval` seconds in which nothing came; 0 turns it off.

        Three that nothing follows end the connection with `ConnectionLost`.
        """
        self._keepalive.cancel()
        if interval > 0 and self._nursery is not None:
            self._keepalive = trio.CancelScope()
            self._nursery.start_soon(self._guard, self._keep_alive, interval, name="trio_ssh keepalive")

    async def _keep_alive(self, interval: float) -> None:
        with self._keepalive:
            unanswered = 0
            while self._core.failure is None:
                heard = self._heard
                await trio.sleep(interval)
                if self._heard != heard:
                    unanswered = 0
                elif unanswered >= KEEPALIVE_COUNT:
                    silent = interval * (unanswered + 1)
                    self._handle(self._core.fail(ConnectionLost(f"the peer has been silent for {silent:g} seconds")))
                    self._flush()
                elif self._core.phase is Phase.OPEN:
                    unanswered += 1
                    self._ask_globally("keepalive@openssh.com", b"")

    # -- the tasks

    async def _guard(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a background task: what it raises ends the connection, and never reaches the nursery."""
        try:
            await function(*args)
        except Exception as error:
            self._handle(self._core.fail(error))
            self._flush()

    async def _read(self) -> None:
        """The reader.  It awaits the stream and nothing else; see the top of this file for the one exception."""
        core, stream = self._core, self._stream
        size = _SMALLEST_READ
        while core.failure is None:
            while core.is_backlogged:
                await self._room.park()
            try:
                data = await stream.receive_some(size)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._break(error)
                return
            if data:
                self._heard += 1
                # Measured: asking a socket for 256 KiB when 100 bytes come costs an allocation that is thrown away.
                if len(data) == size:
                    size = LARGEST_READ
                elif len(data) < _SMALLEST_READ:
                    size = _SMALLEST_READ
                self._handle(core.receive_data(data))
            else:
                self._handle(core.receive_eof())
            self._flush()

    async def _write(self) -> None:
        """The writer: sends what was sealed meanwhile as one piece, while senders fill the other outbox."""
        try:
            with self._last_words:
                await self._write_all()
        finally:
            self._is_writing = False
            self._drained.unpark_all()
        # Whoever closes the transport closes the stream; else this is its end, and wakes the reader.
        if not self._is_closing:
            await trio.aclose_forcefully(self._stream)

    async def _write_all(self) -> None:
        core, stream = self._core, self._stream
        while True:
            data = core.data_to_send()
            self._room.unpark_all()
            if data:
                self._is_writing = True
                try:
                    await stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    self._break(error)
                    return
                self._traffic.set()
            elif core.failure is not None:
                return
            else:
                self._is_writing = False
                self._drained.unpark_all()
                await self._writer.park()

    def _break(self, error: Exception) -> None:
        lost = ConnectionLost(f"the stream broke: {error}" if str(error) else "the stream broke")
        lost.__cause__ = error
        self._handle(self._core.fail(lost))
        self._flush()

    async def _schedule_rekeys(self) -> None:
        """The rekey scheduler: new keys an hour after the first traffic under the old.  No traffic, no timer."""
        with self._timer:
            while True:
                await self._traffic.wait()
                await trio.sleep(self._limits.rekey_seconds)
                exchanges = self._exchanges
                self._handle(self._core.start_exchange())
                self._flush()
                while self._exchanges == exchanges:
                    await self._room.park()
                self._traffic = trio.Event()

    def _flush(self) -> None:
        if self._core.has_data_to_send or self._core.failure is not None:
            self._writer.unpark()

    # -- events

    def _handle(self, events: Sequence[Event]) -> None:
        """Turn what happened into wake-ups.  Plain code: it never waits, so the reader doesn't."""
        for event in events:
            match event:
                case DataArrived(core, source):
                    self._channel(core)._on_data(source)
                case WindowOpened(core):
                    self._channel(core)._on_window()
                case EofArrived(core):
                    self._channel(core)._on_eof()
                case CloseArrived(core):
                    self._channel(core)._on_close()
                    del self._channels[core.local_id]
                case OpenAnswered(core, code, text):
                    self._channel(core)._on_open_answered(code, text)
                    if code:
                        del self._channels[core.local_id]
                case RequestAnswered(core, is_success):
                    self._channel(core)._on_request_answered(is_success)
                case RequestArrived(core, name, wants_reply, details):
                    self._on_request(self._channel(core), name, wants_reply, details)
                case OpenRequested(core, details):
                    self._on_open_requested(core, details)
                case GlobalRequestArrived(name, wants_reply, details):
                    self._on_global_request(name, wants_reply, details)
                case GlobalRequestAnswered(is_success, details):
                    self._global_replies.popleft().bring((is_success, details))
                case BannerArrived(text):
                    self._banner += text
                case Asked(SignatureWanted(key, data, algorithm)):
                    self._handle(self._core.answer(key.sign(data, algorithm)))
                case ExchangeFinished():
                    self._exchanges += 1
                    self._room.unpark_all()
                    if event.is_first:
                        self._news.send_nowait(event)
                case LoggedIn(username):
                    self._username = username
                    self._room.unpark_all()
                    self._news.send_nowait(event)
                case Asked() | AuthAnswered():
                    self._news.send_nowait(event)
                case Ended(error):
                    self._on_ended(event, error)
                case PongArrived():
                    pass
                case _:
                    raise AssertionError(f"an event that nobody handles: {event!r}")

    def _channel(self, core: CoreChannel) -> Channel:
        return self._channels[core.local_id]

    def _lost(self) -> Exception:
        if self._is_closing:
            return trio.ClosedResourceError("this connection was closed here")
        failure = self._core.failure
        lost: ConnectionLost
        if isinstance(failure, PeerDisconnected):
            lost = PeerDisconnected(failure.reason, failure.message)
        else:
            lost = ConnectionLost(f"the connection was lost: {failure}")
        lost.__cause__ = failure
        return lost

    def _on_ended(self, event: Event, error: Exception) -> None:
        _log.debug("%r ended: %s", self, error)
        for channel in self._channels.values():
            channel._on_lost()
        while self._global_replies:
            self._global_replies.popleft().fail(self._lost)
        self._accepting.close()
        self._news.send_nowait(event)
        self._room.unpark_all()
        self._timer.cancel()
        self._keepalive.cancel()
        self._last_words.deadline = trio.current_time() + CLOSE_SECONDS
        self._over.set()

    # -- what the peer asks

    def _on_open_requested(self, core: CoreChannel, details: bytes) -> None:
        channel = Channel(self, core)
        self._channels[core.local_id] = channel
        assert self._nursery is not None, "a started transport has its nursery"
        self._nursery.start_soon(self._guard, self._decide_open, channel, details, name="trio_ssh channel open")

    async def _decide_open(self, channel: Channel, details: bytes) -> None:
        try:
            answer = await self._handler.open_requested(channel, details)
        except RemoteProtocolError:
            raise
        except Exception:
            _log.exception("a handler failed to decide about a %s channel: refused", printable(channel.kind, 64))
            answer = OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if self._core.failure is not None:
            return
        if isinstance(answer, Answer) and answer.is_granted and answer.then is None:
            try:
                self._accepting.send_nowait(channel)
            except trio.WouldBlock:
                answer = OpenFailureReason.RESOURCE_SHORTAGE  # nobody accepts
        if isinstance(answer, Answer) and answer.is_granted:
            self._core.confirm_open(channel._core)
            self._flush()
            if answer.then is not None:
                await answer.then()
        else:
            reason = answer if isinstance(answer, OpenFailureReason) else OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
            del self._channels[channel.get_id()]
            self._core.refuse_open(channel._core, reason, reason.name.lower().replace("_", " "))
            self._flush()

    def _on_request(self, channel: Channel, name: str, wants_reply: bool, details: bytes) -> None:
        if name in ("exit-status", "exit-signal") and self._core.role is Role.CLIENT:
            channel._on_exit_request(name, details)
            self._core.mux.reply(channel._core, is_success=True, wants_reply=wants_reply)
            return
        channel._requests.append((name, wants_reply, details))
        if not channel._is_serving_requests:
            channel._is_serving_requests = True
            assert self._nursery is not None, "a started transport has its nursery"
            self._nursery.start_soon(self._guard, self._serve_requests, channel, name="trio_ssh channel requests")

    async def _serve_requests(self, channel: Channel) -> None:
        """A channel's pump of requests: one after the other, each answered before what it started runs."""
        assert self._nursery is not None, "a started transport has its nursery"
        while channel._requests:
            name, wants_reply, details = channel._requests.popleft()
            try:
                answer = await self._handler.channel_requested(channel, name, details)
            except RemoteProtocolError:
                raise
            except Exception:
                _log.exception("a handler failed to decide about the request %s: refused", printable(name, 64))
                answer = Answer(False)
            if self._core.failure is not None:
                return
            self._core.mux.reply(channel._core, is_success=answer.is_granted, wants_reply=wants_reply)
            self._flush()
            if answer.is_granted and answer.then is not None:
                self._nursery.start_soon(self._guard, answer.then, name=f"trio_ssh {printable(name, 32)}")
        channel._is_serving_requests = False

    def _on_global_request(self, name: str, wants_reply: bool, details: bytes) -> None:
        self._global_requests.append((name, wants_reply, details))
        if not self._is_serving_requests:
            self._is_serving_requests = True
            assert self._nursery is not None, "a started transport has its nursery"
            self._nursery.start_soon(self._guard, self._serve_global_requests, name="trio_ssh global requests")

    async def _serve_global_requests(self) -> None:
        assert self._nursery is not None, "a started transport has its nursery"
        while self._global_requests:
            name, wants_reply, details = self._global_requests.popleft()
            try:
                answer = await self._handler.global_requested(name, details)
            except RemoteProtocolError:
                raise
            except Exception:
                _log.exception("a handler failed to decide about the request %s: refused", printable(name, 64))
                answer = Answer(False)
            if self._core.failure is not None:
                return
            self._core.mux.reply_global(is_success=answer.is_granted, wants_reply=wants_reply, details=answer.details)
            self._flush()
            if answer.is_granted and answer.then is not None:
                self._nursery.start_soon(self._guard, answer.then, name=f"trio_ssh {printable(name, 32)}")
        self._is_serving_requests = False


async def _resolved(value: object) -> object:
    """Await what is awaitable: handlers may be sync or async."""
    return await value if isinstance(value, Awaitable) else value
