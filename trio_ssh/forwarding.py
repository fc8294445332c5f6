"""Ports that a client forwards: `PortForwarding`, the part of `SSHClient` for ``ssh -L``, ``-R`` and ``-D``.

Two things are joined in each: what accepts connections, which is sockets here or a `RemoteListener`, and what connects
each of them to where it goes.  A connection that fails ends alone.

Source: RFC 4254 s7; OpenSSH PROTOCOL s2.4 for UNIX sockets.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import trio

from trio_ssh.core.limits import Limits
from trio_ssh.errors import ChannelException, LocalProtocolError, SSHException
from trio_ssh.runtime.arguments import checked_place
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.pump import join_streams
from trio_ssh.runtime.remote_listener import RemoteListener, remote_forwards
from trio_ssh.runtime.transport import Transport
from trio_ssh.socks import SocksError, SocksHandshake, SocksRequest
from trio_ssh.wire.connection import StreamlocalChannel, check_port
from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.forwarding")

#: Connects what was accepted to where it goes.
Connect = Callable[[trio.abc.HalfCloseableStream], Awaitable[trio.abc.HalfCloseableStream]]
Listeners = Sequence[trio.abc.Listener[Any]]

#: What the listening host may be called for all addresses that there are.
WILDCARDS: Final = ("", "*")
#: A handshake is read in pieces of this size: it is short, and what comes behind it waits.
_HANDSHAKE_BYTES: Final = 1024


class PortForwarding:
    """What a client forwards; see `SSHClient`."""

    _transport: Transport | None = None
    #: Not even what the configuration says is forwarded: for a client on the way to another host.
    _clears_forwardings: bool = False

    def _connected(self) -> Transport:
        if self._transport is None:
            raise LocalProtocolError("this client is not connected")
        return self._transport

    async def open_tcp_stream(self, host: str, port: int) -> Channel:
        """Connect to `host` and `port` as the server sees them: a trio stream, for anything that takes one.

        Raises:
            ChannelException: the server refuses, or can't connect.
        """
        return await self._connected().open_tcp_stream(host, port)

    async def open_unix_stream(self, path: str | os.PathLike[str]) -> Channel:
        """Connect to a UNIX socket of the server's: a trio stream.  It takes OpenSSH, or a server that knows its ways.

        Raises:
            ChannelException: the server refuses, or can't connect.
        """
        return await open_unix_channel(self._connected(), os.fspath(path))

    async def forward_local_port(  # noqa: ASYNC114 -- a user starts it
        self,
        listen_port: int,
        host: str,
        port: int,
        *,
        listen_host: str = "127.0.0.1",
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen here, and connect whoever comes to `host` and `port` as the server sees them (``ssh -L``).

            listeners = await nursery.start(client.forward_local_port, 0, "web.internal", 80)

        Args:
            listen_port: 0 for a free one.
            listen_host: whose connections are taken; ``"*"`` for everyone's.  Whoever can connect there is where you
                are, as far as `host` can tell.
            task_status: with ``nursery.start`` the call returns the listeners as soon as they listen.

        Raises:
            OSError: it can't listen there.
            ConnectionLost: the connection to the server ended; trio.ClosedResourceError: it was closed here.

        A connection that the server refuses to forward is closed, with a line in the log, and the others go on.  It
        listens until it is cancelled, and then closes what it has forwarded.
        """
        transport = self._connected()
        connect = to_remote_port(transport, host, port)
        listeners = await open_listeners(listen_host, listen_port)
        task_status.started(listeners)
        await serve(transport, listeners, connect, f"to {printable(host, 64)}:{port}")

    async def forward_remote_port(  # noqa: ASYNC114 -- a user starts it
        self,
        listen_port: int,
        host: str,
        port: int,
        *,
        listen_host: str = "localhost",
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Have the server listen, and connect whoever comes there to `host` and `port` as they are seen here (``-R``).

            port = await nursery.start(client.forward_remote_port, 0, "127.0.0.1", 8000)

        Args:
            listen_port: 0 to have the server choose.
            listen_host: where the server listens; ``"*"`` for everywhere.  sshd listens for its own host alone, unless
                ``GatewayPorts`` lets it.
            task_status: with ``nursery.start`` the call returns the port that the server listens at.

        Raises:
            RequestRefused: the server doesn't listen.
            ConnectionLost: the connection to the server ended; trio.ClosedResourceError: it was closed here.

        A connection that can't be made here is closed, with a line in the log, and the others go on.  Cancelled, the
        server is told to listen no more, and what was forwarded is closed.
        """
        transport = self._connected()
        connect = to_local_port(host, port)
        listener = await remote_forwards(transport).listen(listen_host, listen_port)
        async with listener:
            task_status.started(listener.port)
            await serve(transport, [listener], connect, f"from port {listener.port} of the server")

    async def serve_socks(  # noqa: ASYNC114 -- a user starts it
        self,
        listen_port: int,
        *,
        listen_host: str = "127.0.0.1",
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Be a SOCKS proxy here, whose clients are connected to wherever they ask, by the server (``ssh -D``).

            listeners = await nursery.start(client.serve_socks, 1080)

        It speaks versions 4, 4a and 5, takes no login, and does CONNECT alone.  Names are looked up by the server,
        where the client leaves that to the proxy.

        Args:
            listen_port, listen_host, task_status: as for `forward_local_port`.

        Raises:
            As `forward_local_port`.

        Who asks for what can't be had is told so.  A client has ``limits.socks_seconds`` to say what it wants.
        """
        transport = self._connected()
        listeners = await open_listeners(listen_host, listen_port)
        task_status.started(listeners)
        await serve(transport, listeners, by_socks(transport.limits, partial(open_for_client, transport)), "by SOCKS")

    async def open_tcp_listeners(self, port: int, *, host: str = "localhost") -> list[RemoteListener]:
        """Have the server listen; what it accepts are channels here.

            await trio.serve_listeners(handler, await client.open_tcp_listeners(8080))

        Args:
            port: 0 to have the server choose; the listener's `port` tells.
            host: where the server listens, as for `forward_remote_port`.

        Returns:
            A list of one listener, as trio's functions return and take them.

        Raises:
            RequestRefused: the server doesn't listen.

        Cancelled, the server is told to listen no more.
        """
        return [await remote_forwards(self._connected()).listen(host, port)]

    async def open_unix_listeners(self, path: str | os.PathLike[str]) -> list[RemoteListener]:
        """As `open_tcp_listeners`, at a UNIX socket that the server makes.  It takes OpenSSH, or who knows its ways.

        Raises:
            RequestRefused: the server doesn't listen, for instance because there is such a file.
        """
        return [await remote_forwards(self._connected()).listen_unix(os.fspath(path))]


# -- what accepts


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listen here.

    Raises:
        OSError: it can't.
    """
    return await trio.open_tcp_listeners(check_port(port), host=None if host in WILDCARDS else host)


async def serve(transport: Transport, listeners: Listeners, connect: Connect, what: str) -> None:
    """Connect whoever comes, until the connection ends.

    Args:
        listeners: closed at the end.
        connect: makes the other end of what was accepted.
        what: says in the log what is forwarded.

    Raises:
        ConnectionLost, trio.ClosedResourceError: the connection ended.
    """
    # How many come to a port of the server's is the server's choice.
    is_there = any(isinstance(listener, RemoteListener) for listener in listeners)
    visitors = Visitors(transport.limits.channels if is_there else math.inf)
    async with bare_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(visitors.forward, connect, what), list(listeners))
        await transport.wait_closed()
        raise transport._engine.lost()


class Visitors:
    """Those who are forwarded at once.

    A channel that its peer has closed doesn't count any more, but whoever reads slowly, or never, is still there.

    Args:
        most: others are turned away.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._count = 0

    async def forward(self, connect: Connect, what: str, stream: trio.abc.HalfCloseableStream) -> None:
        """Forward one connection.  Whatever becomes of it, the others go on."""
        if self._count >= self._most:
            _log.warning("a connection was not forwarded %s: %d others are", what, self._count)
            await trio.aclose_forcefully(stream)
            return
        self._count += 1
        try:
            await _forward(connect, what, stream)
        finally:
            self._count -= 1


async def _forward(connect: Connect, what: str, stream: trio.abc.HalfCloseableStream) -> None:
    try:
        async with stream:
            await join_streams(stream, await connect(stream))
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        _log.debug("a connection that was forwarded %s broke off: %s", what, error)
    except (SSHException, OSError, SocksError) as error:
        _log.warning("a connection was not forwarded %s: %s", what, error)
    except Exception:
        _log.exception("forwarding a connection %s failed", what)


# -- what connects


def to_remote_port(transport: Transport, host: str, port: int) -> Connect:
    """Connect to a port as the server sees it."""
    checked_place(host, port)

    async def connect(stream: trio.abc.HalfCloseableStream) -> Channel:
        return await transport.open_channel("direct-tcpip", (host, port), origin_of(stream))

    return connect


def to_remote_path(transport: Transport, path: str) -> Connect:
    """Connect to a UNIX socket of the server's."""

    async def connect(stream: trio.abc.HalfCloseableStream) -> Channel:
        return await open_unix_channel(transport, path)

    return connect


def to_local_port(host: str, port: int) -> Connect:
    """Connect to a port from here."""
    checked_place(host, port)

    async def connect(stream: trio.abc.HalfCloseableStream) -> trio.SocketStream:
        return await trio.open_tcp_stream(host, port)

    return connect


def to_local_path(path: str) -> Connect:
    """Connect to a UNIX socket here."""

    async def connect(stream: trio.abc.HalfCloseableStream) -> trio.SocketStream:
        return await trio.open_unix_socket(path)

    return connect


async def open_unix_channel(transport: Transport, path: str) -> Channel:
    """Connect to a UNIX socket of the server's.

    Raises:
        ChannelException: the server refuses.
    """
    return await transport._open("direct-streamlocal@openssh.com", StreamlocalChannel(path, b"", 0).encode())


def origin_of(stream: trio.abc.HalfCloseableStream) -> tuple[str, int] | None:
    """Return where a connection comes from, for the server to know; None where it has no address."""
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        address = stream.socket.getpeername()
    except OSError:
        return None  # it has left already
    # IPv6 has two numbers more, and a UNIX socket a path.
    return cast("tuple[str, int]", address[:2]) if isinstance(address, tuple) else None


# -- SOCKS

#: Connects a client to where it asks, on its stream.
OpenFor = Callable[[SocksRequest, trio.abc.HalfCloseableStream], Awaitable[trio.abc.HalfCloseableStream]]


def by_socks(limits: Limits, open_for: OpenFor) -> Connect:
    """Connect to wherever a SOCKS client asks to be connected to."""

    async def connect(stream: trio.abc.HalfCloseableStream) -> trio.abc.HalfCloseableStream:
        handshake = SocksHandshake()
        request: SocksRequest | None = None
        with trio.move_on_after(limits.socks_seconds):
            request = await _read_request(handshake, stream)
        if request is None:
            raise SocksError(f"a client did not say within {limits.socks_seconds:g} seconds where it wants to go")
        try:
            target = await open_for(request, stream)
        except (SSHException, OSError) as error:
            refusal = error
        else:
            await _grant(handshake, request, stream, target)
            return target
        await stream.send_all(request.refused(_reason(refusal)))
        raise refusal

    return connect


async def _grant(
    handshake: SocksHandshake,
    request: SocksRequest,
    stream: trio.abc.HalfCloseableStream,
    target: trio.abc.HalfCloseableStream,
) -> None:
    try:
        await stream.send_all(request.granted())
        if handshake.rest:
            await target.send_all(handshake.rest)
    except BaseException:
        await trio.aclose_forcefully(target)
        raise


def _reason(error: Exception) -> int:
    match error:
        case ChannelException():
            return error.code
        case OSError():
            return OpenFailureReason.CONNECT_FAILED
        case _:
            return OpenFailureReason.RESOURCE_SHORTAGE


async def _read_request(handshake: SocksHandshake, stream: trio.abc.HalfCloseableStream) -> SocksRequest:
    while handshake.request is None:
        data = await stream.receive_some(_HANDSHAKE_BYTES)
        if not data:
            raise trio.BrokenResourceError("a client left before it said where it wants to go")
        mistake: SocksError | None = None
        try:
            answer = handshake.receive(data)
        except SocksError as error:
            mistake, answer = error, error.reply
        if answer:
            await stream.send_all(answer)
        if mistake is not None:
            raise mistake
    return handshake.request


async def open_for_client(transport: Transport, request: SocksRequest, stream: trio.abc.HalfCloseableStream) -> Channel:
    """Connect by the server."""
    return await transport.open_channel("direct-tcpip", (request.host, request.port), origin_of(stream))
