"""Serving: `serve_tcp`, `serve_listeners` and `serve_stream`, as trio has them for any stream.

Each connection's tasks live in a nursery of their own inside the handler's task, so that nothing of it outlives the
handler, and no bad connection harms another.
"""

from __future__ import annotations

import errno
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar, cast
from weakref import WeakSet

import attrs
import trio

from trio_ssh.core.limits import DEFAULT_LIMITS, Limits, as_limits
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.role import Role
from trio_ssh.crypto.moduli import Moduli
from trio_ssh.errors import LocalProtocolError, SSHException
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.private_key import PKey
from trio_ssh.penalties import Offence, Penalties, address_of, source_of
from trio_ssh.runtime.arguments import checked_stream
from trio_ssh.runtime.block import RAISED, is_failure
from trio_ssh.runtime.gss import KERBEROS, check_acceptor
from trio_ssh.runtime.handler import SubsystemSource, checked_subsystem
from trio_ssh.runtime.hints import with_argument_hints
from trio_ssh.runtime.link import shown_address
from trio_ssh.runtime.moduli import given_moduli
from trio_ssh.runtime.security_options import AlgorithmNames, Security, checked_algorithms
from trio_ssh.runtime.server_keys import ServerKeys
from trio_ssh.runtime.transport import Transport
from trio_ssh.server_authentication import ONE_EACH
from trio_ssh.server_interface import ServerInterface
from trio_ssh.wire.connection import check_port
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.server")

ServerFactory = Callable[[], ServerInterface]
L = TypeVar("L", bound="trio.abc.Listener[trio.abc.Stream]")


class _Startups:
    """Counts the connections that are not logged in, and refuses some when there are many: OpenSSH's MaxStartups."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.count = 0
        self._by_source: Counter[str] = Counter()

    def begin(self, source: str) -> Callable[[], None] | None:
        """Count a connection from `source`, and return what counts it off; None if it is one too many."""
        if not self._admits(source):
            return None
        self.count += 1
        self._by_source[source] += 1
        is_counted = True

        def end() -> None:
            nonlocal is_counted
            if is_counted:
                is_counted = False
                self.count -= 1
                self._by_source[source] -= 1
                if not self._by_source[source]:
                    del self._by_source[source]

        return end

    def _admits(self, source: str) -> bool:
        limits = self._limits
        if source and self._by_source[source] >= limits.startups_per_source:
            return False
        if self.count < limits.startups_begin:
            return True
        if self.count >= limits.startups_full:
            return False
        # From the configured rate at `begin` it rises to all at `full`.
        span = limits.startups_full - limits.startups_begin
        refused = limits.startups_rate + (100 - limits.startups_rate) * (self.count - limits.startups_begin) / span
        return random.random() * 100 >= refused


@with_argument_hints
async def serve_stream(
    stream: trio.abc.Stream,
    server: ServerInterface,
    *,
    host_keys: Sequence[PKey | CertifiedKey],
    security: Security | None = None,
    kex: AlgorithmNames | None = None,
    host_key_algorithms: AlgorithmNames | None = None,
    ciphers: AlgorithmNames | None = None,
    macs: AlgorithmNames | None = None,
    compressions: AlgorithmNames | None = None,
    moduli: Moduli | str | Path | None = None,
    gss_kex: bool = False,
    login_timeout: float | None = None,
    keepalive: float = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Serve one client on `stream`, until it is gone.

    Args:
        stream: any trio stream; closed on return.
        server: decides, and handles sessions; an instance for this connection alone.
        host_keys: who we are; the first of each kind is used.  A `CertifiedKey` shows its certificate to clients that
            ask for one.
        security: which algorithms to enable: a profile, or `SecurityOptions`; None for ``"modern"``.
        kex, host_key_algorithms, ciphers, macs, compressions: what to enable of one kind, best first, or a text as in
            ssh_config, such as ``"+diffie-hellman-group14-sha256"``; None for what `security` says.
        moduli: groups for ``diffie-hellman-group-exchange-*``, or the file that holds them; None for those of RFC 3526.
        gss_kex: exchange keys by GSS-API with clients that can; needs the extra ``gssapi``, and a keytab with the
            host's key.  Then `host_keys` may be empty, which turns all other clients away.
        login_timeout: seconds from now to the end of authentication; None for ``limits.login_seconds``.
        keepalive: seconds of silence after which a client that is logged in is asked for a sign of life; it is given up
            after four times as long.  0 for never: then a client that is cut off is noticed by TCP, in hours.
        limits: bounds on what the client may choose.

    Raises:
        TypeError, ValueError: an argument is no such thing, or the host keys have no algorithm that is enabled.
        OSError, ConfigParseError: the file of `moduli` can't be read.
        ImportError: `gss_kex` needs the extra ``gssapi``.

    A client that breaks the protocol, can't log in, or goes away is logged, not raised.  Cancelled, the client is
    disconnected.
    """
    checked_stream(stream)
    try:
        checked_server(server)
        settings = await _checked(
            host_keys,
            security,
            kex=kex,
            host_key_algorithms=host_key_algorithms,
            ciphers=ciphers,
            macs=macs,
            compressions=compressions,
            moduli=moduli,
            gss_kex=gss_kex,
            login_timeout=login_timeout,
            keepalive=keepalive,
            limits=limits,
        )
    except BaseException:
        await trio.aclose_forcefully(stream)  # noqa: ASYNC102 -- it doesn't wait
        raise
    await _serve(stream, server, settings, on_login=lambda: None, blame=lambda offence: None)


@attrs.frozen(kw_only=True)
class _Settings:
    """What all connections of a server have in common."""

    host_keys: Sequence[PKey | CertifiedKey]
    algorithms: Algorithms
    groups: Moduli
    gss_kex: bool
    login_seconds: float
    keepalive: float
    limits: Limits


async def _checked(
    host_keys: Sequence[PKey | CertifiedKey],
    security: Security | None,
    *,
    kex: AlgorithmNames | None,
    host_key_algorithms: AlgorithmNames | None,
    ciphers: AlgorithmNames | None,
    macs: AlgorithmNames | None,
    compressions: AlgorithmNames | None,
    moduli: Moduli | str | Path | None,
    gss_kex: bool,
    login_timeout: float | None,
    keepalive: float,
    limits: Limits,
) -> _Settings:
    """Find the mistakes in a server's arguments before its first client does."""
    as_limits(limits)
    if login_timeout is not None and not login_timeout > 0:
        raise ValueError(f"login_timeout is a number of seconds, not {login_timeout!r}")
    if not keepalive >= 0:
        raise ValueError(f"keepalive is a number of seconds, or 0 for none, not {keepalive!r}")
    algorithms = checked_algorithms(
        Role.SERVER,
        security,
        kex=kex,
        host_key_algorithms=host_key_algorithms,
        ciphers=ciphers,
        macs=macs,
        compressions=compressions,
    )
    host_keys = _checked_host_keys(host_keys, algorithms, gss_kex)
    groups = await given_moduli(moduli)
    if gss_kex:
        await _check_gss(host_keys, algorithms)
    return _Settings(
        host_keys=host_keys,
        algorithms=algorithms,
        groups=groups,
        gss_kex=gss_kex,
        login_seconds=limits.login_seconds if login_timeout is None else login_timeout,
        keepalive=keepalive,
        limits=limits,
    )


async def _serve(
    stream: trio.abc.Stream,
    server: ServerInterface,
    settings: _Settings,
    *,
    on_login: Callable[[], None],
    blame: Callable[[Offence], None],
) -> None:
    async with Transport(
        stream,
        limits=settings.limits,
        algorithms=settings.algorithms,
        moduli=settings.groups,
        gss_kex=settings.gss_kex,
    ) as transport:
        for key in settings.host_keys:
            transport.add_server_key(key)
        seconds = settings.login_seconds
        try:
            with trio.move_on_after(seconds) as login:
                await transport.start_server(server)
                await transport.wait_authenticated()
        except SSHException as error:
            _log.info("a client at %s did not log in: %s", shown_address(transport.getpeername()), error)
            blame(Offence.FAILED if server.has_attempted else Offence.SILENT)
            return
        finally:
            on_login()
        if login.cancelled_caught:
            where = shown_address(transport.getpeername())
            _log.info("a client at %s did not log in within %g seconds", where, seconds)
            blame(Offence.LATE)
            return
        await _see_out(transport, settings.keepalive)


async def _see_out(transport: Transport, keepalive: float) -> None:
    """Wait for the end of a connection whose user is logged in, and log it in the words of sshd."""
    began = trio.current_time()
    if keepalive:
        transport.set_keepalive(keepalive)
    try:
        await transport.wait_closed()
    finally:
        _log.info(
            "Disconnected from user %s %s after %.1f seconds: %s",
            printable(transport.get_username() or "", 64),
            shown_address(transport.getpeername()),
            trio.current_time() - began,
            transport.get_exception() or "closed here",
        )


@with_argument_hints
async def serve_listeners(  # noqa: ASYNC128 -- what it calls does
    server_factory: ServerFactory,
    listeners: Sequence[L],
    *,
    host_keys: Sequence[PKey | CertifiedKey],
    security: Security | None = None,
    kex: AlgorithmNames | None = None,
    host_key_algorithms: AlgorithmNames | None = None,
    ciphers: AlgorithmNames | None = None,
    macs: AlgorithmNames | None = None,
    compressions: AlgorithmNames | None = None,
    moduli: Moduli | str | Path | None = None,
    gss_kex: bool = False,
    login_timeout: float | None = None,
    keepalive: float = 0,
    limits: Limits = DEFAULT_LIMITS,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[L]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every client that connects to `listeners`, until cancelled.

    Args:
        server_factory: called without arguments for each connection: a `ServerInterface` subclass, or any function.
        listeners: any trio listeners; closed on return.
        handler_nursery, task_status: as in `trio.serve_listeners`.

    The other arguments are those of `serve_stream`.  Too many clients that aren't logged in are turned away; see
    ``Limits``.
    """
    try:
        _check_factory(server_factory)
        settings = await _checked(
            host_keys,
            security,
            kex=kex,
            host_key_algorithms=host_key_algorithms,
            ciphers=ciphers,
            macs=macs,
            compressions=compressions,
            moduli=moduli,
            gss_kex=gss_kex,
            login_timeout=login_timeout,
            keepalive=keepalive,
            limits=limits,
        )
    except BaseException:
        for listener in listeners:
            await trio.aclose_forcefully(listener)  # noqa: ASYNC102 -- it doesn't wait
        raise
    await _serve_listeners(
        server_factory, listeners, settings, handler_nursery=handler_nursery, task_status=task_status
    )


async def _serve_listeners(  # noqa: ASYNC114, ASYNC128 -- what calls it is startable, and what it calls
    server_factory: ServerFactory,
    listeners: Sequence[L],
    settings: _Settings,
    *,
    handler_nursery: trio.Nursery | None,
    task_status: trio.TaskStatus[list[L]],
) -> None:
    startups = _Startups(settings.limits)
    penalties = Penalties(settings.limits)

    async def handle(stream: trio.abc.Stream) -> None:
        address = address_of(stream)
        if penalties.is_refused(address):
            _log.info("a client at %s was turned away: too many logins from there have failed of late", address)
            await trio.aclose_forcefully(stream)
            return
        logged_in = startups.begin(source_of(address))
        if logged_in is None:
            _log.warning("a client was turned away: %d others are not logged in yet", startups.count)
            penalties.note(address, Offence.REFUSED)
            await trio.aclose_forcefully(stream)
            return

        def blame(offence: Offence) -> None:
            penalties.note(address, offence)

        try:
            if isinstance(stream, trio.SocketStream):
                # A client that is cut off says nothing any more, and nobody would notice.
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
            await _serve(stream, checked_server(server_factory()), settings, on_login=logged_in, blame=blame)
        except RAISED as error:
            # A server's author can fail in a factory or a check; other clients must not notice.
            if not is_failure(error):
                raise
            _log.exception("serving a client failed")
        finally:
            logged_in()

    await trio.serve_listeners(handle, list(listeners), handler_nursery=handler_nursery, task_status=task_status)


@with_argument_hints
async def serve_tcp(  # noqa: ASYNC128 -- what it calls does
    server_factory: ServerFactory,
    port: int,
    *,
    host: str | bytes | None = None,
    host_keys: Sequence[PKey | CertifiedKey],
    security: Security | None = None,
    kex: AlgorithmNames | None = None,
    host_key_algorithms: AlgorithmNames | None = None,
    ciphers: AlgorithmNames | None = None,
    macs: AlgorithmNames | None = None,
    compressions: AlgorithmNames | None = None,
    moduli: Moduli | str | Path | None = None,
    gss_kex: bool = False,
    login_timeout: float | None = None,
    keepalive: float = 0,
    limits: Limits = DEFAULT_LIMITS,
    backlog: int | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen on a port and serve every client, until cancelled; `trio.serve_tcp`, speaking SSH.

    Args:
        port: 0 for any free one; ``await nursery.start(serve_tcp, ...)`` returns the listeners, which know it.
        host: where to bind; None for all interfaces.
        backlog: as in `trio.open_tcp_listeners`.

    The other arguments are those of `serve_listeners`.
    """
    _check_factory(server_factory)
    check_port(port)
    settings = await _checked(
        host_keys,
        security,
        kex=kex,
        host_key_algorithms=host_key_algorithms,
        ciphers=ciphers,
        macs=macs,
        compressions=compressions,
        moduli=moduli,
        gss_kex=gss_kex,
        login_timeout=login_timeout,
        keepalive=keepalive,
        limits=limits,
    )
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        where = f"port {port}" if host is None else f"port {port} of {os.fsdecode(host)}"
        raise OSError(error.errno, f"{error.strerror}: {where}") from None
    await _serve_listeners(
        server_factory, listeners, settings, handler_nursery=handler_nursery, task_status=task_status
    )


async def _check_gss(host_keys: Sequence[PKey | CertifiedKey], algorithms: Algorithms) -> None:
    """As `_checked_host_keys`: are there methods, and a keytab?"""
    if not host_keys:
        from trio_ssh.core.gss_exchange import with_gss  # noqa: PLC0415 -- most never need it

        with_gss(algorithms, KERBEROS, offers_null=True, is_only=True)  # or it says what is missing
    await check_acceptor()


#: What lets somebody in, once it is overridden.
_LETS_IN: Final = (
    "check_auth_publickey",
    "get_authorized_keys",
    "check_auth_certificate",
    "check_auth_password",
    "check_auth_interactive",
    "check_auth_hostbased",
    "enable_auth_gssapi",
    "check_auth_none",
)


def _check_factory(factory: ServerFactory) -> None:
    """As `_checked_host_keys`."""
    given: object = factory
    if not callable(given):
        remedy = f": pass {type(given).__name__}, the class" if isinstance(given, ServerInterface) else ""
        raise TypeError(f"each connection has a server of its own, so what makes one is wanted, not {given!r}{remedy}")
    if isinstance(given, type) and issubclass(given, ServerInterface):
        _check_class(given)


_checked_classes: Final[WeakSet[type[ServerInterface]]] = WeakSet()


def _check_class(kind: type[ServerInterface]) -> None:
    """As `_checked_host_keys`, once for each class: connections come by the thousand."""
    if kind in _checked_classes:
        return
    _check_subsystems(kind.subsystems)
    if all(getattr(kind, name) is getattr(ServerInterface, name) for name in _LETS_IN):
        _log.warning("%s lets nobody in: override one of %s", kind.__name__, ", ".join(_LETS_IN))
    _checked_classes.add(kind)


def _check_subsystems(given: object) -> None:
    """As `_checked_host_keys`; a class may have a property there."""
    if isinstance(given, list | tuple | set | str):
        raise TypeError(f"subsystems are a handler for each name, such as {{'sftp': ...}}, not {given!r}")
    if isinstance(given, Mapping):
        for name, source in cast("Mapping[str, SubsystemSource]", given).items():
            checked_subsystem(name, source)


def checked_server(server: ServerInterface) -> ServerInterface:
    """Return the server of a connection, which is one.

    Raises:
        TypeError: it is something else, such as its class.
    """
    given: object = server
    if not isinstance(given, ServerInterface):
        remedy = f": call it, {given.__name__}()" if isinstance(given, type) else ""
        raise TypeError(f"a ServerInterface is wanted, not {given!r}{remedy}")
    if server._is_used:
        raise LocalProtocolError(ONE_EACH)
    _check_class(type(server))
    if server.subsystems is not type(server).subsystems:
        _check_subsystems(server.subsystems)
    return server


def _checked_host_keys(
    host_keys: Sequence[PKey | CertifiedKey], algorithms: Algorithms, gss_kex: bool
) -> Sequence[PKey | CertifiedKey]:
    """Return the keys, having found the mistake before the first client does."""
    given: object = host_keys
    if isinstance(given, PKey | CertifiedKey | str | bytes) or not isinstance(given, Iterable):
        raise TypeError("host_keys is a sequence of private keys, such as [Ed25519Key.generate()]")
    host_keys = tuple(host_keys)
    if not host_keys and not gss_kex:
        raise ValueError("a server needs at least one host key, such as host_keys=[Ed25519Key.generate()]")
    ring = ServerKeys()
    for key in host_keys:
        ring.add(key)
    if host_keys and not ring.restrict(algorithms).host_keys:
        raise ValueError(
            f"none of the host keys signs by an algorithm that is enabled: they are {', '.join(map(repr, ring.keys))}, "
            f"and enabled are {', '.join(algorithms.host_keys)}"
        )
    return host_keys
