"""Connecting to where a peer wants to go, and not this program's own user.

A name is looked up in threads of their own, of which no peer gets all: a name server that doesn't answer, which a peer
may own, must not keep this program's other threads.  So `trio.socket.set_custom_hostname_resolver` isn't asked.
"""

from __future__ import annotations

import socket
from typing import Final, cast

import trio

from trio_ssh.runtime.block import bare_nursery
from trio_ssh.wire.text import printable

#: The longest name of a host, as RFC 1035 has it; a longer one keeps whoever encodes it busy.
LONGEST_HOST: Final = 255

#: Names that are looked up at once: of one peer, and of all.
_LOOKUPS: Final = 4
_ALL_LOOKUPS: Final = 16

#: Addresses of one name that are tried, and when the next is while one doesn't answer: RFC 8305 s5.
_ADDRESSES: Final = 16
_STAGGER_SECONDS: Final = 0.25

_all_lookups: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("trio_ssh lookups")


def check_host(host: str) -> None:
    """Refuse what can be no host's name.

    Raises:
        OSError: it is too long.
    """
    if len(host) > LONGEST_HOST:
        raise OSError(f"no host has a name of {len(host)} characters")


class Dialer:
    """Connects for one peer."""

    def __init__(self) -> None:
        self._lookups = trio.CapacityLimiter(_LOOKUPS)

    async def open_tcp_stream(self, host: str, port: int) -> trio.SocketStream:
        """Connect as `trio.open_tcp_stream` does.

        Raises:
            OSError: there is no such host, or nobody answers there.
        """
        check_host(host)
        addresses = await self._look_up(host, port)
        if len(addresses) == 1:
            return await trio.open_tcp_stream(addresses[0], port)
        return await _race(addresses, port)

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            return _addresses_of(host, port, socket.AI_NUMERICHOST)
        except (OSError, ValueError):
            pass  # it is a name
        try:
            everybody = _all_lookups.get()
        except LookupError:
            everybody = trio.CapacityLimiter(_ALL_LOOKUPS)
            _all_lookups.set(everybody)
        both = cast("trio.CapacityLimiter", _Both(self._lookups, everybody))
        try:
            return await trio.to_thread.run_sync(_addresses_of, host, port, 0, limiter=both, abandon_on_cancel=True)
        except ValueError as error:  # a label of no or of too many letters
            raise OSError(f"no host is called {printable(host, 64)!r}: {error}") from None


def _addresses_of(host: str, port: int, flags: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    addresses: dict[str, None] = {}
    for *_, address in found:
        # Behind an IPv6 address stands its scope: by which link one gets there.
        scope = f"%{address[3]}" if len(address) == 4 and address[3] else ""
        addresses[f"{address[0]}{scope}"] = None
    return list(addresses)[:_ADDRESSES]


class _Both:
    """Two limits for one thread, which holds its places for as long as it runs, whoever has given it up."""

    def __init__(self, one: trio.CapacityLimiter, other: trio.CapacityLimiter) -> None:
        self._one = one
        self._other = other

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._one.acquire_on_behalf_of(borrower)
        try:
            await self._other.acquire_on_behalf_of(borrower)
        except BaseException:
            self._one.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        self._other.release_on_behalf_of(borrower)
        self._one.release_on_behalf_of(borrower)


async def _race(addresses: list[str], port: int) -> trio.SocketStream:
    """Connect to the first that answers; the next is tried when one has failed, or keeps silent."""
    winner: trio.SocketStream | None = None
    problems: list[OSError] = []

    async def attempt(address: str, failed: trio.Event) -> None:
        nonlocal winner
        try:
            stream = await trio.open_tcp_stream(address, port)
        except OSError as error:
            problems.append(error)
            failed.set()
            return
        if winner is None:
            winner = stream
            nursery.cancel_scope.cancel()
        else:
            stream.socket.close()

    try:
        async with bare_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(_STAGGER_SECONDS):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.socket.close()
        raise
    if winner is None:
        raise problems[-1] if problems else OSError("there is no address to connect to")
    return winner
