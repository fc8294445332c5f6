"""Connecting to where a peer wants to go: names that nobody answers for keep no thread that others need."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from trio_ssh import dialing
from trio_ssh.dialing import Dialer

LOOPBACK = "127.0.0.1"


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that end in ``.slow`` are looked up until the test is over; the others are not there."""
    over = threading.Event()
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def fake(host: str, port: int, *arguments: Any, flags: int = 0, **named: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return look_up(host, port, *arguments, flags=flags, **named)
        asked.append(host)
        if host.endswith(".slow"):
            over.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    yield asked
    over.set()


async def give_up(dialer: Dialer, host: str) -> None:
    with trio.move_on_after(0.05):
        await dialer.open_tcp_stream(host, 80)


async def test_names_that_nobody_answers_for_keep_few_threads(slow_names: list[str]) -> None:
    """Whoever gives up a lookup has its thread still, so it is this that counts."""
    default = trio.to_thread.current_default_thread_limiter()
    dialers = [Dialer() for _ in range(6)]
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for dialer in dialers:
                for number in range(10):
                    nursery.start_soon(give_up, dialer, f"{number}.slow")
    assert len(slow_names) == dialing._ALL_LOOKUPS
    assert default.borrowed_tokens == 0


async def test_one_peer_does_not_keep_the_others_from_looking_up(slow_names: list[str]) -> None:
    greedy, other = Dialer(), Dialer()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(give_up, greedy, f"{number}.slow")
        assert len(slow_names) == dialing._LOOKUPS
        with pytest.raises(OSError, match="Name or service not known"):
            await other.open_tcp_stream("quick", 80)


@pytest.mark.parametrize("host", ["x" * 256, "\u00e9" * 100_000])
async def test_a_name_that_is_too_long_is_not_even_encoded(host: str, slow_names: list[str]) -> None:
    with pytest.raises(OSError, match=r"no host has a name of \d+ characters"):
        await Dialer().open_tcp_stream(host, 80)
    assert slow_names == []


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "nul\0", "\u00e9" * 80])
async def test_what_can_be_no_name_is_no_host(host: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 -- some say so themselves, some are asked for
        await Dialer().open_tcp_stream(host, 80)


@pytest.mark.parametrize("silent", [(), ("192.0.2.1",), ("192.0.2.1", "192.0.2.2")])
@pytest.mark.parametrize("refusing", [0, 2])
async def test_the_first_address_that_answers_is_taken(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, ...], refusing: int
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
    port = listener.socket.getsockname()[1]
    tried: list[str] = []
    connect = trio.open_tcp_stream

    async def fake(host: str, port: int) -> trio.SocketStream:
        tried.append(host)
        if host.startswith("192."):
            await trio.sleep_forever()
        if host.startswith("refuses"):
            raise ConnectionRefusedError(host)
        return await connect(host, port)

    addresses = [*(f"refuses {number}" for number in range(refusing)), *silent, LOOPBACK]
    monkeypatch.setattr(trio, "open_tcp_stream", fake)
    monkeypatch.setattr(dialing, "_addresses_of", lambda *arguments: addresses)
    async with listener:
        with trio.fail_after(10):
            stream = await Dialer().open_tcp_stream("name", port)
            await stream.aclose()
    assert tried == addresses


async def test_where_none_answers_the_last_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(host: str, port: int) -> trio.SocketStream:
        raise ConnectionRefusedError(f"no {host}")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    monkeypatch.setattr(dialing, "_addresses_of", lambda *arguments: ["one", "two"])
    with pytest.raises(ConnectionRefusedError, match="no two"):
        await Dialer().open_tcp_stream("name", 80)
