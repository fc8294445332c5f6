"""What needs no realm: where the package is missing, and who is asked."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import KNOWN_HOST, OpenDoor, serving
from trio_ssh.core.gssapi import GssRefused, GssStep
from trio_ssh.errors import AuthOutcome
from trio_ssh.runtime.gss import GssAcceptor, GssIdentity, GssInitiator


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not installed."""
    monkeypatch.setitem(sys.modules, "gssapi", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


async def log_in(server: trio_ssh.ServerInterface, **options: Any) -> None:
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        await client.connect(
            "memory",
            username="user",
            known_hosts=KNOWN_HOST,
            sock=stream,
            look_for_keys=False,
            allow_agent=False,
            **options,
        )


@pytest.mark.usefixtures("missing")
async def test_who_asks_for_it_is_told_what_to_install() -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(ImportError, match=r"pip install 'trio_ssh\[gssapi\]'"):
            await client.connect("nowhere.invalid", gss_auth=True, config=None)


@pytest.mark.usefixtures("missing")
async def test_a_configuration_that_asks_for_it_is_no_mistake() -> None:
    config = await trio_ssh.SSHConfig.from_text("GSSAPIAuthentication yes\n")
    await log_in(OpenDoor(), password="x", config=config)


class Stand(GssInitiator):
    """A client's context that does as it is told."""

    def __init__(self, *steps: GssStep | GssRefused) -> None:
        super().__init__("memory")
        self._steps = list(steps)

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        await trio.lowlevel.checkpoint()
        return self._steps.pop(0)

    def sign(self, data: bytes) -> bytes:
        return b"mic"


class StandIn(GssAcceptor):
    """A server's, which lets in whoever has a token."""

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        await trio.lowlevel.checkpoint()
        return GssStep(b"", True) if token == b"token" else GssRefused("no")

    def verifies(self, data: bytes, mic: bytes) -> bool:
        return mic == b"mic"

    @property
    def identity(self) -> GssIdentity:
        return GssIdentity("alice@EXAMPLE.COM")


class Kerberized(trio_ssh.ServerInterface):
    def __init__(self) -> None:
        self.principals: list[str] = []

    def enable_auth_gssapi(self) -> bool:
        return True

    def check_auth_gssapi_with_mic(self, username: str, identity: GssIdentity) -> trio_ssh.AuthResult:
        self.principals.append(identity.principal)
        return trio_ssh.AUTH_SUCCESSFUL


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_ssh.server_authentication.GssAcceptor", StandIn)


@pytest.mark.usefixtures("stand_in")
async def test_a_context_logs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_ssh.gss.GssInitiator", lambda *a, **k: Stand(GssStep(b"token", True)))
    monkeypatch.setattr("trio_ssh.gss.can_load", lambda: True)
    server = Kerberized()
    await log_in(server, gss_auth=True)
    assert server.principals == ["alice@EXAMPLE.COM"]


@pytest.mark.usefixtures("stand_in")
async def test_a_context_that_is_refused_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_ssh.gss.can_load", lambda: True)
    for step, outcome in (
        (GssStep(b"wrong", True), AuthOutcome.REFUSED),
        (GssRefused("no ticket"), AuthOutcome.GIVEN_UP),
    ):
        monkeypatch.setattr("trio_ssh.gss.GssInitiator", lambda *a, step=step, **k: Stand(step))
        server = Kerberized()
        async with serving(server) as stream, trio_ssh.SSHClient() as client:
            with pytest.raises(trio_ssh.AuthenticationException) as raised:
                await client.connect(
                    "memory",
                    username="user",
                    known_hosts=KNOWN_HOST,
                    sock=stream,
                    look_for_keys=False,
                    allow_agent=False,
                    gss_auth=True,
                )
        assert raised.value.attempts[0].outcome is outcome
        assert raised.value.allowed == ("gssapi-with-mic",)
        assert server.principals == []


@pytest.mark.usefixtures("missing")
async def test_a_server_without_the_package_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trio_ssh.gss.GssInitiator", lambda *a, **k: Stand(GssStep(b"token", True)))
    monkeypatch.setattr("trio_ssh.gss.can_load", lambda: True)
    server = Kerberized()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException):
            await client.connect(
                "memory",
                username="user",
                known_hosts=KNOWN_HOST,
                sock=stream,
                look_for_keys=False,
                allow_agent=False,
                gss_auth=True,
            )
    assert "pip install 'trio_ssh[gssapi]'" in caplog.text
    assert server.principals == []


def test_what_is_shown_of_them() -> None:
    assert repr(GssInitiator("host\x1b")) == r"<GssInitiator for host@host\x1b>"
    assert repr(GssAcceptor()) == "<GssAcceptor>"
    assert "secret" not in repr(GssIdentity("alice@EXAMPLE.COM", "secret"))
