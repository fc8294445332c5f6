"""A realm without a network: contexts that believe what a token says, and sign by what both sides know."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio

from trio_ssh.core.gssapi import GssRefused, GssStep
from trio_ssh.runtime.gss import GssAcceptor, GssIdentity, GssInitiator

PRINCIPAL = "alice@EXAMPLE.COM"


def signed_by(signer: str, data: bytes) -> bytes:
    return hashlib.sha256(signer.encode() + data).digest()


@attrs.define
class StandInRealm:
    """What there is of it.

    Attributes:
        has_ticket: whether the client has credentials.
        host: whom the server can prove to be.
        rounds: tokens that each side needs.
        is_mutual: whether the server proves anything.
        begun: the hosts for which a client's context was made, oldest first.
        accepted: how many contexts a server has made.
        wait: awaited by each step.
    """

    has_ticket: bool = True
    host: str = "memory"
    rounds: int = 1
    is_mutual: bool = True
    begun: list[str] = attrs.Factory(list[str])
    accepted: int = 0
    wait: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint


class StandInInitiator(GssInitiator):
    """A client's context."""

    realm: StandInRealm

    def __init__(self, host: str, *, delegates: bool = False) -> None:
        super().__init__(host, delegates=delegates)
        self.realm.begun.append(host)
        self._heard = 0

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        await self.realm.wait()
        if not self.realm.has_ticket:
            return GssRefused("there is no ticket")
        if token is None:
            return GssStep(b"alice", False)
        if token != self._host.encode():
            return GssRefused("it is another host")
        self._heard += 1
        is_complete = self._heard == self.realm.rounds
        return GssStep(b"" if is_complete else b"alice", is_complete, is_mutual=self.realm.is_mutual)

    def sign(self, data: bytes) -> bytes:
        return signed_by("alice", data)

    def verifies(self, data: bytes, mic: bytes) -> bool:
        return mic == signed_by(self._host, data)


class StandInAcceptor(GssAcceptor):
    """A server's."""

    realm: StandInRealm

    def __init__(self) -> None:
        super().__init__()
        self.realm.accepted += 1
        self._heard = 0

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        await self.realm.wait()
        if token != b"alice":
            return GssRefused("nobody is called so")
        self._heard += 1
        return GssStep(self.realm.host.encode(), self._heard == self.realm.rounds, is_mutual=self.realm.is_mutual)

    def sign(self, data: bytes) -> bytes:
        return signed_by(self.realm.host, data)

    def verifies(self, data: bytes, mic: bytes) -> bool:
        return mic == signed_by("alice", data)

    @property
    def identity(self) -> GssIdentity:
        return GssIdentity(PRINCIPAL)


async def _has_keytab() -> None:
    await trio.lowlevel.checkpoint()


def install(monkeypatch: pytest.MonkeyPatch) -> StandInRealm:
    """Have those of a realm in name only made wherever contexts are made, and the package not wanted."""
    realm = StandInRealm()
    initiator = type("Initiator", (StandInInitiator,), {"realm": realm})
    acceptor = type("Acceptor", (StandInAcceptor,), {"realm": realm})
    for place in ("gss", "runtime.gss_keying", "runtime.client_authentication"):
        monkeypatch.setattr(f"trio_ssh.{place}.GssInitiator", initiator)
    for place in ("runtime.gss_keying", "server_authentication"):
        monkeypatch.setattr(f"trio_ssh.{place}.GssAcceptor", acceptor)
    for place in ("runtime.gss_keying", "runtime.client_authentication"):
        monkeypatch.setattr(f"trio_ssh.{place}.load", lambda: None)
    monkeypatch.setattr("trio_ssh.gss.can_load", lambda: True)
    monkeypatch.setattr("trio_ssh.server.check_acceptor", _has_keytab)
    return realm
