"""What a server opens for a client that forwards: `ClientForwards`, behind `ServerInterface`.

For ``ssh -L``, ``-D``, ``-W`` and ``-J`` that is a connection to somewhere, for ``-R`` a port.  All of it lives in the
client's connection, and ends with it.

Source: RFC 4254 s7.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

import attrs
import trio

from trio_ssh.dialing import Dialer, check_host
from trio_ssh.forwarding import WILDCARDS, Visitors, origin_of
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.pump import join_streams
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.forwarding")

#: How long it may take to connect to where a client wants to go.
CONNECT_SECONDS: Final = 30.0

_LOOPBACK: Final = ("127.0.0.1", "::1")
_EVERYWHERE: Final = ("0.0.0.0", "::")


@attrs.frozen(eq=False)
class _Port:
    """A port at which is listened for a client."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    closed: trio.Event = attrs.field(factory=trio.Event)


class ClientForwards:
    """What is open for the client of one connection."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        #: Connections whose channel isn't served yet, by the channel's number.
        self._streams: dict[int, trio.SocketStream] = {}
        #: By the address that the client named, and the port.
        self._ports: dict[tuple[str, int], _Port] = {}
        self._opening = 0
        self._dialer = Dialer()
        self._visitors = Visitors(transport.limits.channels)

    # -- connections that the client wants

    async def connect(self, chanid: int, host: str, port: int) -> bool:
        """Connect to a port for a channel; return whether that could be done."""
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await self._dialer.open_tcp_stream(host, port)
        except (OSError, trio.TooSlowError) as error:
            _log.info("no connection to %s:%d for a client: %s", printable(host, 255), port, error)
            return False
        self._streams[chanid] = stream
        return True

    async def serve(self, channel: Channel) -> bool:
        """Carry bytes between a channel and its connection until both have ended; return False where it has none."""
        stream = self._streams.pop(channel.get_id(), None)
        if stream is None:
            return False
        try:
            await join_streams(channel, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.debug("a connection for a client broke off: %s", error)
        return True

    def drop(self, chanid: int) -> None:
        """Close a channel's connection, if it has one that isn't served."""
        stream = self._streams.pop(chanid, None)
        if stream is not None:
            stream.socket.close()

    # -- ports that the client wants

    async def listen(self, address: str, port: int, *, gateway_ports: bool) -> int:
        """Listen for the client; return the port, or 0 where that can't be done."""
        if len(self._ports) + self._opening >= self._transport.limits.forwarded_ports:
            _log.info("a client may not have more than %d ports", self._transport.limits.forwarded_ports)
            return 0
        hosts = _LOOPBACK if not gateway_ports else _EVERYWHERE if address in WILDCARDS else (address,)
        self._opening += 1
        try:
            check_host(address)
            listeners = await _open_listeners(hosts, port)
        except (OSError, ValueError) as error:
            _log.info("port %d can't be had for a client: %s", port, error)
            return 0
        finally:
            self._opening -= 1
        bound: int = listeners[0].socket.getsockname()[1]
        if not self._transport.is_active():
            for listener in listeners:
                listener.socket.close()
            return 0
        entry = self._ports[address, bound] = _Port()
        self._transport._engine.spawn(
            lambda: self._serve_port(address, bound, listeners, entry), name="trio_ssh forwarded port"
        )
        return bound

    async def close(self, address: str, port: int) -> None:
        """Listen no more; connections that have come go on."""
        entry = self._ports.get((address, port))
        if entry is None:
            await trio.lowlevel.checkpoint()
        else:
            entry.scope.cancel()
            await entry.closed.wait()

    async def _serve_port(
        self, address: str, port: int, listeners: Sequence[trio.SocketListener], entry: _Port
    ) -> None:
        async def connect(stream: trio.abc.HalfCloseableStream) -> Channel:
            return await self._transport.open_channel("forwarded-tcpip", (address, port), origin_of(stream))

        what = f"from port {port} to a client"
        try:
            # Who has come stays when nobody else is let in any more.
            async with bare_nursery() as visiting, bare_nursery() as accepting:
                accepting.start_soon(self._end_with_connection, entry.scope)
                try:
                    with entry.scope:
                        handle = partial(self._visitors.forward, connect, what)
                        await trio.serve_listeners(handle, list(listeners), handler_nursery=visiting)
                finally:
                    del self._ports[address, port]
                    entry.closed.set()
                    accepting.cancel_scope.cancel()
        except OSError:
            _log.exception("listening at port %d for a client failed", port)

    async def _end_with_connection(self, scope: trio.CancelScope) -> None:
        """A connection may be over long before its block is left."""
        await self._transport.wait_closed()
        scope.cancel()


async def _open_listeners(hosts: Sequence[str], port: int) -> list[trio.SocketListener]:
    """Listen at one port of several addresses, of which the first must be had.

    Raises:
        OSError: it can't.
    """
    listeners = await trio.open_tcp_listeners(port, host=hosts[0])
    try:
        for host in hosts[1:]:
            bound: int = listeners[0].socket.getsockname()[1]
            with contextlib.suppress(OSError):  # there is no IPv6 here, or somebody else has the port there
                listeners += await trio.open_tcp_listeners(bound, host=host)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners
