"""Ports that `Transport.request_port_forward` asks for, as paramiko's does: their connections wait to be accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.handler import Answer, PeerHandler
from trio_ssh.runtime.waiting import MaybeAwaitable
from trio_ssh.wire.connection import TcpipChannel, TcpipForward, TcpipForwardReply, check_port
from trio_ssh.wire.numbers import OpenFailureReason

_KIND: Final = "forwarded-tcpip"


class AskedPorts(PeerHandler):
    """Asks a server to listen, and grants what comes of it, for whoever calls `Transport.accept`.

    Args:
        ask: makes a global request.
        handler: the connection's; where it decides about channels itself, it does so about these.
        deciding: who decides about channels of a kind in its place.
    """

    def __init__(
        self,
        ask: Callable[[str, bytes], Awaitable[bytes | None]],
        handler: PeerHandler,
        deciding: dict[str, PeerHandler],
    ) -> None:
        self._ask = ask
        self._ports: set[int] = set()
        self._asking = 0
        self._before = deciding.get(_KIND, handler)
        if type(handler).open_requested is PeerHandler.open_requested:
            deciding[_KIND] = self

    async def listen(self, address: str, port: int) -> int:
        """Ask the server to listen; return the port, which it chooses if `port` is 0."""
        details = TcpipForward(address, check_port(port)).encode()
        # A connection may come along with the answer, which tells the port.
        self._asking += 1
        try:
            answer = await self._ask("tcpip-forward", details)
        finally:
            self._asking -= 1
        bound = TcpipForwardReply.decode(answer).port if port == 0 and answer is not None else port
        self._ports.add(bound)
        return bound

    async def cancel(self, address: str, port: int) -> None:
        """Ask the server to listen no more."""
        details = TcpipForward(address, check_port(port)).encode()
        self._ports.discard(port)
        await self._ask("cancel-tcpip-forward", details)

    def open_requested(self, channel: Channel, details: bytes) -> MaybeAwaitable[OpenFailureReason | Answer]:
        """Take a channel for a port that was asked for."""
        asked = TcpipChannel.decode(details)
        if asked.port not in self._ports and not self._asking:
            return self._before.open_requested(channel, details)
        channel.origin = asked.originator_host, asked.originator_port
        return Answer(True)
