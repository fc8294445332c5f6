"""What a configuration forwards, from the login on: ``LocalForward``, ``RemoteForward`` and ``DynamicForward``."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.config.values import Forwarding, Listen
from trio_ssh.dialing import Dialer
from trio_ssh.errors import ChannelException, ConnectionLost, ForwardingFailure, SSHException
from trio_ssh.forwarding import (
    WILDCARDS,
    Connect,
    Listeners,
    by_socks,
    open_for_client,
    open_listeners,
    serve,
    to_local_path,
    to_local_port,
    to_remote_path,
    to_remote_port,
)
from trio_ssh.runtime.remote_listener import RemoteListener, remote_forwards
from trio_ssh.runtime.transport import Transport
from trio_ssh.socks import SocksRequest
from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.forwarding")

#: As ssh's: nobody but this user gets through to a socket.
_BIND_MASK: Final = 0o177
_BACKLOG: Final = 128


@attrs.frozen
class _Planned:
    """Something to forward.

    Attributes:
        text: the keyword and its value.
        place: where they stand.
        listen: opens what accepts.
        connect: connects what was accepted.
    """

    text: str
    place: str
    listen: Callable[[], Awaitable[Listeners]]
    connect: Connect


async def start_forwardings(transport: Transport, options: SSHOptions | None) -> None:
    """Forward what the options say, as tasks of the connection; return when all of it listens.

    Raises:
        ForwardingFailure: something can't be, and ``ExitOnForwardFailure`` is on.  Otherwise the log says so.
        ConnectionLost: the connection ended.
    """
    if options is None or options.clear_all_forwardings:
        return
    for planned in _plans(transport, options):
        try:
            listeners = await planned.listen()
        except (ConnectionLost, trio.ClosedResourceError):
            raise
        except (SSHException, OSError, ValueError) as error:
            if options.exit_on_forward_failure:
                raise ForwardingFailure(planned.text, planned.place, str(error)) from error
            _log.warning("%s (%s) is not forwarded: %s", printable(planned.text), planned.place, error)
        else:
            run = partial(_serve, transport, listeners, planned)
            transport._engine.spawn(run, name=f"trio_ssh {planned.text.partition(' ')[0]}")


async def _serve(transport: Transport, listeners: Listeners, planned: _Planned) -> None:
    try:
        await serve(transport, listeners, planned.connect, f"by {printable(planned.text)} ({planned.place})")
    except (ConnectionLost, trio.ClosedResourceError):
        pass  # as long as the connection lasts, and no longer
    except Exception:
        _log.exception("%s (%s) is not forwarded any more", printable(planned.text), planned.place)


def _plans(transport: Transport, options: SSHOptions) -> Iterator[_Planned]:
    for each in options.local_forward:
        connect = (
            to_remote_port(transport, each.host, each.port)
            if each.host is not None
            else to_remote_path(transport, each.path or "")
        )
        yield _Planned(f"LocalForward {each}", each.place, partial(_listen_here, each.listen, options), connect)
    for listen in options.dynamic_forward:
        connect = by_socks(transport.limits, partial(open_for_client, transport))
        yield _Planned(f"DynamicForward {listen}", listen.place, partial(_listen_here, listen, options), connect)
    for each in options.remote_forward:
        listen_there = partial(_listen_there, transport, each.listen)
        yield _Planned(f"RemoteForward {each}", each.place, listen_there, _to_local(transport, each, options))


def _to_local(transport: Transport, forwarding: Forwarding, options: SSHOptions) -> Connect:
    if forwarding.path is not None:
        return to_local_path(forwarding.path)
    if forwarding.host is not None:
        return to_local_port(forwarding.host, forwarding.port)
    return by_socks(transport.limits, partial(_open_if_permitted, Dialer(), options.permit_remote_open))


# -- listening


async def _listen_there(transport: Transport, listen: Listen) -> list[RemoteListener]:
    forwards = remote_forwards(transport)
    if listen.path is not None:
        return [await forwards.listen_unix(listen.path)]
    return [await forwards.listen("localhost" if listen.host is None else listen.host, listen.port)]


async def _listen_here(listen: Listen, options: SSHOptions) -> Listeners:
    if listen.path is not None:
        mask = _BIND_MASK if options.stream_local_bind_mask is None else options.stream_local_bind_mask
        await trio.lowlevel.checkpoint()
        return [UnixListener.open(listen.path, mask, unlinks=bool(options.stream_local_bind_unlink))]
    host = listen.host
    if host is None:
        host = WILDCARDS[0] if options.gateway_ports else "localhost"
    if host != "localhost":
        return await open_listeners(host, listen.port)
    # As ssh: programs that are told "localhost" try either, and not every machine has both.
    listeners = await open_listeners("127.0.0.1", listen.port)
    try:
        with suppress(OSError):
            listeners += await open_listeners("::1", listen.port)
    except BaseException:
        for listener in listeners:
            await trio.aclose_forcefully(listener)
        raise
    return listeners


class UnixListener(trio.abc.Listener[trio.SocketStream]):
    """Listens at a UNIX socket, and removes it when it is closed."""

    def __init__(self, listener: trio.SocketListener, path: str) -> None:
        self._listener = listener
        self._path = path

    @classmethod
    def open(cls, path: str, mask: int, *, unlinks: bool) -> UnixListener:
        """Make the socket.

        Args:
            mask: permissions that nobody has.
            unlinks: a socket that is there already is removed.

        Raises:
            OSError: there is such a file, or there can't be.
        """
        if unlinks:
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(path)
            # Nobody gets through to a socket that doesn't listen yet.
            Path(path).chmod(0o777 & ~mask)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
        return cls(trio.SocketListener(trio.socket.from_stdlib_socket(listening)), path)

    async def accept(self) -> trio.SocketStream:
        """Wait for a connection."""
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Stop listening, and remove the socket."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        finally:
            await self._listener.aclose()  # noqa: ASYNC102 -- it doesn't wait


# -- a SOCKS client at the server


async def _open_if_permitted(
    dialer: Dialer, permitted: tuple[str, ...] | None, request: SocksRequest, stream: trio.abc.HalfCloseableStream
) -> trio.SocketStream:
    """Connect from here, if ``PermitRemoteOpen`` lets it."""
    if not _is_permitted(permitted, request.host, request.port):
        await trio.lowlevel.checkpoint()
        raise ChannelException(
            OpenFailureReason.ADMINISTRATIVELY_PROHIBITED,
            f"PermitRemoteOpen does not let it go to {request.host}:{request.port}",
        )
    return await dialer.open_tcp_stream(request.host, request.port)


def _is_permitted(permitted: tuple[str, ...] | None, host: str, port: int) -> bool:
    if permitted is None or [each.lower() for each in permitted] == ["any"]:
        return True
    for each in permitted:
        name, _, number = each.rpartition(":")
        if name.strip("[]").lower() in ("*", host.lower()) and number in ("*", str(port)):
            return True
    return False
