"""Sources that fail to log in wait, and nobody else does."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Final

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, MemoryListener, OpenDoor, listening
from trio_ssh.penalties import Offence, Penalties, source_of

HERE: Final = IPv4Address("192.0.2.7")
THERE: Final = IPv4Address("192.0.2.8")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def penalties(clock: Clock, **limits: object) -> Penalties:
    return Penalties(trio_ssh.Limits(**limits), clock)  # type: ignore[arg-type]


def test_one_failure_is_forgiven_and_three_are_not(clock: Clock) -> None:
    kept = penalties(clock)
    for _ in range(2):
        kept.note(HERE, Offence.FAILED)
        assert not kept.is_refused(HERE)
    kept.note(HERE, Offence.FAILED)
    assert kept.is_refused(HERE)
    assert not kept.is_refused(THERE)


def test_penalties_pass(clock: Clock) -> None:
    kept = penalties(clock)
    for _ in range(3):
        kept.note(HERE, Offence.FAILED)
    clock.now += 14.9
    assert kept.is_refused(HERE), "to their end, though less is left than what they began at"
    clock.now += 0.2
    assert not kept.is_refused(HERE)
    assert len(kept) == 0
    kept.note(HERE, Offence.FAILED)
    assert not kept.is_refused(HERE), "and nothing is left of them"


def test_failures_that_are_far_apart_do_not_add_up(clock: Clock) -> None:
    kept = penalties(clock)
    for _ in range(100):
        kept.note(HERE, Offence.FAILED)
        clock.now += 5.1
        assert not kept.is_refused(HERE)


def test_penalties_have_an_end_however_often_somebody_fails(clock: Clock) -> None:
    kept = penalties(clock)
    for _ in range(10_000):
        kept.note(HERE, Offence.FAILED)
    clock.now += 600
    assert not kept.is_refused(HERE)


@pytest.mark.parametrize(("offence", "forgiven"), [(Offence.SILENT, 14), (Offence.LATE, 1), (Offence.REFUSED, 14)])
def test_what_an_offence_costs(clock: Clock, offence: Offence, forgiven: int) -> None:
    kept = penalties(clock)
    for _ in range(forgiven):
        kept.note(HERE, offence)
    assert not kept.is_refused(HERE)
    kept.note(HERE, offence)
    assert kept.is_refused(HERE)


@pytest.mark.parametrize("limit", ["penalty_failed_login_seconds", "penalty_most_seconds"])
def test_they_can_be_turned_off(clock: Clock, limit: str) -> None:
    kept = penalties(clock, **{limit: 0})
    for _ in range(100):
        kept.note(HERE, Offence.FAILED)
    assert not kept.is_refused(HERE)
    assert len(kept) == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_is_exempt(clock: Clock, address: str) -> None:
    kept = penalties(clock)
    for _ in range(100):
        kept.note(ip_address(address), Offence.FAILED)
    assert not kept.is_refused(ip_address(address))


def test_others_can_be_exempt(clock: Clock) -> None:
    kept = penalties(clock, penalty_exempt=("192.0.2.0/29",))
    for _ in range(100):
        kept.note(HERE, Offence.FAILED)
        kept.note(THERE, Offence.FAILED)
    assert not kept.is_refused(HERE)
    assert kept.is_refused(THERE)


def test_what_is_not_known_is_not_counted(clock: Clock) -> None:
    kept = penalties(clock)
    for _ in range(100):
        kept.note(None, Offence.FAILED)
    assert not kept.is_refused(None)
    assert len(kept) == 0


def test_an_ipv6_network_is_one_source(clock: Clock) -> None:
    kept = penalties(clock)
    for number in range(3):
        kept.note(ip_address(f"2001:db8::{number + 1}"), Offence.FAILED)
    assert kept.is_refused(ip_address("2001:db8::ffff"))
    assert not kept.is_refused(ip_address("2001:db8:0:1::1"))
    assert source_of(ip_address("2001:db8::1")) == "2001:db8::/64"
    assert source_of(None) == ""


def test_only_so_many_sources_are_remembered_and_the_worst_stay(clock: Clock) -> None:
    kept = penalties(clock, penalty_sources=100)
    for _ in range(10):
        kept.note(HERE, Offence.LATE)
    for number in range(10_000):
        kept.note(IPv4Address(0x0A000000 + number), Offence.FAILED)
        assert len(kept) <= 100
    assert kept.is_refused(HERE)


def test_a_source_that_fails_forever_takes_no_more_memory(clock: Clock) -> None:
    kept = penalties(clock)
    for _ in range(10_000):
        kept.note(HERE, Offence.FAILED)
        clock.now += 0.001
    assert len(kept._ends) < 100


# -- in a server


async def attempt(connect_to: object, server_class: type[trio_ssh.ServerInterface], **credentials: object) -> str:
    """Log in once; tell how it went."""
    stream = await connect_to()  # type: ignore[operator]
    async with trio_ssh.SSHClient() as client:
        try:
            await client.connect(
                "memory",
                username="user",
                known_hosts=KNOWN_HOST,
                sock=stream,
                look_for_keys=False,
                allow_agent=False,
                config=None,
                **credentials,  # type: ignore[arg-type]
            )
        except trio_ssh.AuthenticationException:
            return "failed"
        except trio_ssh.ConnectionLost:
            return "turned away"
        return "in"


class Doors(OpenDoor):
    async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_FAILED

    async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_SUCCESSFUL if password == "right" else trio_ssh.AUTH_FAILED

    async def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.AuthResult:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_FAILED


async def test_who_fails_to_log_in_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HERE
    monkeypatch.setattr("trio_ssh.server.address_of", lambda stream: source)
    listener, connect_to = listening()
    assert isinstance(listener, MemoryListener)
    serve = partial(trio_ssh.serve_listeners, Doors, [listener], host_keys=[HOST_KEY])
    await nursery.start(serve)
    for _ in range(20):
        assert await attempt(connect_to, Doors, password="right") == "in", "a login costs nothing"
    for _ in range(4):
        assert await attempt(connect_to, Doors, password="wrong") == "failed"
    assert await attempt(connect_to, Doors, password="right") == "turned away"
    source = THERE
    assert await attempt(connect_to, Doors, password="right") == "in"
    source = HERE
    await trio.sleep(20)
    assert await attempt(connect_to, Doors, password="right") == "in"


async def test_who_says_nothing_waits_in_the_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_ssh.server.address_of", lambda stream: HERE)
    listener, connect_to = listening()
    limits = trio_ssh.Limits(login_seconds=1)
    await nursery.start(partial(trio_ssh.serve_listeners, Doors, [listener], host_keys=[HOST_KEY], limits=limits))
    for _ in range(2):
        stream = await connect_to()
        while await stream.receive_some():
            pass
    assert await attempt(connect_to, Doors, password="right") == "turned away"
