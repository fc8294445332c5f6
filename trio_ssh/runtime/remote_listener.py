"""Ports that a server listens at for us: `RemoteListener`, a trio listener whose connections are channels.

A client accepts only what it asked for: a channel for another port is refused, and so is one that finds too many
waiting.

Source: RFC 4254 s7.1, s7.2; OpenSSH PROTOCOL s2.4 for UNIX sockets.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import Final

import trio

from trio_ssh.errors import ConnectionLost, RemoteProtocolError, RequestRefused
from trio_ssh.runtime.arguments import checked_place
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.handler import Answer, PeerHandler
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import MaybeAwaitable, Reply
from trio_ssh.wire.connection import (
    ForwardedStreamlocalChannel,
    StreamlocalForward,
    TcpipChannel,
    TcpipForward,
    TcpipForwardReply,
)
from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.forwarding")

_TCP: Final = "forwarded-tcpip"
_UNIX: Final = "forwarded-streamlocal@openssh.com"
_EVERYWHERE: Final = ("", "0.0.0.0", "::")


class RemoteListener(trio.abc.Listener[Channel]):
    """Something that the server listens at for this client; get one from `SSHClient.open_tcp_listeners`.

    Attributes:
        host: where the server was asked to listen; empty for everywhere.
        path: of the UNIX socket at which it listens instead.
    """

    def __init__(self, forwards: RemoteForwards, host: str, port: int, path: str | None, backlog: int) -> None:
        self.host = host
        self.path = path
        self._forwards = forwards
        self._asked_port = port
        self._answer: Reply[tuple[bool, bytes]] = Reply()
        self._sender, self._receiver = trio.open_memory_channel[Channel](backlog)
        self._is_closed = False

    def __repr__(self) -> str:
        where = f"{self.host or '*'}:{self.port}" if self.path is None else self.path
        return f"<RemoteListener at {printable(where, 64)}{', closed' if self._is_closed else ''}>"

    @property
    def port(self) -> int:
        """The port that the server listens at; 0 for a UNIX socket."""
        answer = self._answer.peek()
        # A channel may come along with the answer, before the task that waits for it has seen it.
        if self._asked_port or self.path is not None or answer is None or not answer[0]:
            return self._asked_port
        port = TcpipForwardReply.decode(answer[1]).port
        if not 0 < port < 65536:
            raise RemoteProtocolError(f"the server says that it listens at port {port}")
        return port

    async def accept(self) -> Channel:
        """Wait for a connection: a channel, which is a trio stream.

        Raises:
            ConnectionLost: the connection to the server ended.
            trio.ClosedResourceError: this listener was closed.
        """
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            lost = self._forwards.lost()
        raise lost

    async def aclose(self) -> None:
        """Tell the server to listen no more, and close what nobody has accepted.  Accepted channels go on."""
        self._forwards.close(self)
        await trio.lowlevel.checkpoint()


class RemoteForwards(PeerHandler):
    """What a server listens at for one connection, and who may open channels because of it.

    Get it from `remote_forwards`.

    Args:
        before: is asked about the channels of other ports.
    """

    def __init__(self, transport: Transport, before: PeerHandler | None) -> None:
        self._transport = transport
        self._before = before or PeerHandler()
        self._listeners: list[RemoteListener] = []

    async def listen(self, host: str, port: int) -> RemoteListener:
        """Ask the server to listen at a port.

        Raises:
            RequestRefused: it doesn't.
            RemoteProtocolError: it says that it does at a port that there can't be.

        Cancelled, it is told to listen no more.
        """
        checked_place(host, port)
        host = "" if host == "*" else host
        return await self._listen(self._new(host, port, None))

    async def listen_unix(self, path: str) -> RemoteListener:
        """Ask the server to listen at a UNIX socket.

        Raises:
            RequestRefused: it doesn't.
        """
        return await self._listen(self._new("", 0, path))

    def _new(self, host: str, port: int, path: str | None) -> RemoteListener:
        return RemoteListener(self, host, port, path, self._transport.limits.forwarded_backlog)

    async def _listen(self, listener: RemoteListener) -> RemoteListener:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._transport._check_open()
        # Before the answer: a channel may come along with it.
        self._listeners.append(listener)
        name, details = _request(listener)
        listener._answer = self._transport._engine.ask(name, details)
        try:
            is_granted, _ = await listener._answer.wait()
            if not is_granted:
                raise RequestRefused(name, f"it does not listen at {printable(_shown(listener), 64)}")
            _ = listener.port  # raises, if it can't be one
        except RemoteProtocolError as error:
            self._transport._engine.fail(error)
            raise
        except BaseException:
            self.close(listener)
            raise
        return listener

    def close(self, listener: RemoteListener) -> None:
        """Take no more channels, close those that wait, and tell the server."""
        if listener._is_closed:
            return
        listener._is_closed = True
        self._listeners.remove(listener)
        while listener._receiver.statistics().current_buffer_used:
            listener._receiver.receive_nowait().close_later()
        listener._receiver.close()  # first: whoever waits hears that it was closed, and not that the connection was
        listener._sender.close()
        if listener._answer.is_done:
            self._cancel(listener)
        elif not self._transport._engine.is_over:
            # Which port that is, the answer will tell.
            self._transport._engine.spawn(lambda: self._cancel_later(listener), name="trio_ssh cancel-tcpip-forward")

    async def _cancel_later(self, listener: RemoteListener) -> None:
        try:
            with trio.CancelScope(shield=True):  # until the connection ends
                await listener._answer.wait()
        except (ConnectionLost, trio.ClosedResourceError):
            return
        self._cancel(listener)

    def _cancel(self, listener: RemoteListener) -> None:
        answer = listener._answer.peek()
        if answer is None or not answer[0] or self._transport._engine.is_over:
            return
        name, details = _request(listener)
        # Without a reply: a server that gives none must not keep us.
        self._transport._notify(f"cancel-{name}", details)
        self._transport._engine.flush()

    # -- what the connection tells

    def lost(self) -> Exception:
        """Make the exception for whoever finds the connection over."""
        return self._transport._engine.lost()

    async def watch(self) -> None:
        """Wait for the end of the connection, and let everyone know who waits for another at one of its ports."""
        with trio.CancelScope(shield=True):
            await self._transport._engine.over.wait()
        for listener in self._listeners:
            listener._sender.close()

    def open_requested(self, channel: Channel, details: bytes) -> MaybeAwaitable[OpenFailureReason | Answer]:
        """Take a channel for something that the server was asked to listen at, and no other."""
        if channel.kind == _UNIX:
            path = ForwardedStreamlocalChannel.decode(details).path
            found = next((each for each in self._listeners if each.path == path), None)
        else:
            asked = TcpipChannel.decode(details)
            found = self._find(asked.host, asked.port)
            channel.origin = asked.originator_host, asked.originator_port
            channel.set_name(f"from {printable(asked.originator_host, 64)}:{asked.originator_port}")
        # No more than a debug line: how often it happens is the peer's choice.
        if found is None:
            _log.debug("the server opened a channel for a port that it was not asked to listen at: refused")
            return self._before.open_requested(channel, details)
        try:
            found._sender.send_nowait(channel)
        except trio.WouldBlock:
            _log.debug("%r has as many connections waiting as it may: refused", found)
            return OpenFailureReason.RESOURCE_SHORTAGE
        return Answer(True, is_served=True)

    def _find(self, host: str, port: int) -> RemoteListener | None:
        # RFC 4254 s7.2 wants the address that was connected to; sshd says where it was asked to listen.  Take both.
        there = [each for each in self._listeners if each.path is None and each.port == port]
        return next(
            (each for each in there if each.host == host),
            next((each for each in there if _covers(each.host, host)), None),
        )


def _covers(asked: str, said: str) -> bool:
    """Tell whether a server that listens where it was `asked` to may call the address `said`."""
    if asked in _EVERYWHERE or asked.lower() == said.lower():
        return True
    try:
        address = ipaddress.ip_address(said)
        return address.is_loopback if asked == "localhost" else address == ipaddress.ip_address(asked)
    except ValueError:
        return False


def _request(listener: RemoteListener) -> tuple[str, bytes]:
    if listener.path is not None:
        return "streamlocal-forward@openssh.com", StreamlocalForward(listener.path).encode()
    return "tcpip-forward", TcpipForward(listener.host, listener.port).encode()


def _shown(listener: RemoteListener) -> str:
    return listener.path if listener.path is not None else f"{listener.host or '*'}:{listener._asked_port}"


def remote_forwards(transport: Transport) -> RemoteForwards:
    """Return what a server listens at for this connection; at first nothing.

    Raises:
        ConnectionLost, trio.ClosedResourceError: the connection has ended.
    """
    transport._check_open()
    deciding = transport._peer.deciding
    found = deciding.get(_UNIX)
    if not isinstance(found, RemoteForwards):
        found = deciding[_TCP] = deciding[_UNIX] = RemoteForwards(transport, deciding.get(_TCP))
        transport._engine.spawn(found.watch, name="trio_ssh forwarded ports")
    return found
