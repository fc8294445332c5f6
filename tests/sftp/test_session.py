"""Both ends of a session, byte by byte: however a stream is split, it says the same."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sftp.test_messages import any_message
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.messages import (
    Attrs,
    Close,
    Data,
    Fstat,
    Handle,
    Name,
    NamedFile,
    Packet,
    Read,
    Readdir,
    Stat,
    Status,
    Version,
    write_pairs,
)
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, EXTENSIONS, SFTPLimits
from trio_ssh.sftp.session import BadRequest, ClientSession, ServerSession, WriteParts


class Hearing:
    """Waits for one reply, and keeps what it hears."""

    def __init__(self, expects: type[Packet], asked: int = 0) -> None:
        self.expects = expects
        self.asked = asked
        self.heard: list[Any] = []
        self.data = bytearray()

    def on_reply(self, reply: Packet) -> None:
        self.heard.append(reply)

    def on_data(self, part: memoryview, left: int) -> None:
        self.data += part
        if not left:
            self.heard.append("data")

    def on_lost(self) -> None:
        self.heard.append("lost")


def version(number: int = 3, extensions: dict[bytes, bytes] | None = None) -> bytes:
    payload = Version(number, write_pairs(extensions or {})).encode()
    return struct.pack(">I", len(payload)) + payload


def begun_client() -> ClientSession:
    session = ClientSession(DEFAULT_SFTP_LIMITS)
    session.outgoing.clear()
    session.receive_data(memoryview(version()))
    assert session.has_begun
    return session


def split(data: bytes, chance: random.Random) -> list[bytes]:
    parts = []
    while data:
        size = chance.choice([1, 2, 5, 100, 10_000, 10**6])
        parts.append(data[:size])
        data = data[size:]
    return parts


def feed(session: ClientSession | ServerSession, parts: list[bytes]) -> None:
    for part in parts:
        rest = session.receive_data(memoryview(part))
        assert not rest


# -- the client's end


def test_the_first_packet_is_ours() -> None:
    session = ClientSession(DEFAULT_SFTP_LIMITS)
    assert b"".join(session.outgoing) == struct.pack(">IBI", 5, 1, 3)
    session.receive_data(memoryview(version(3, EXTENSIONS)))
    assert session.extensions == EXTENSIONS


REPLIES: list[tuple[Callable[[ClientSession, Hearing], None], type[Packet], int, Packet]] = [
    (lambda session, waiter: session.request(Stat(b"x"), waiter), Attrs, 0, Attrs(SFTPAttributes(st_size=1))),
    (lambda session, waiter: session.request(Close(b"x"), waiter), Status, 0, Status(0, "fine", "en")),
    (lambda session, waiter: session.request(Fstat(b"x"), waiter), Attrs, 0, Status(4, "no", "")),
    (lambda session, waiter: session.read(b"x", 0, 70_000, waiter), Data, 70_000, Data(bytes(70_000))),
    (lambda session, waiter: session.read(b"x", 0, 70_000, waiter), Data, 70_000, Data(b"short")),
    (lambda session, waiter: session.read(b"x", 0, 9, waiter), Data, 9, Data(b"")),
    (lambda session, waiter: session.read(b"x", 0, 9, waiter), Data, 9, Status(1, "", "")),
    (
        lambda session, waiter: session.request(Readdir(b"x"), waiter),
        Name,
        0,
        Name((NamedFile(b"a", b"b", SFTPAttributes()),)),
    ),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(REPLIES), max_size=12), st.randoms(use_true_random=False))
def test_replies_in_any_order_and_any_parts_reach_whoever_asked(replies: list[Any], chance: random.Random) -> None:
    session = begun_client()
    waiters = []
    for ask, expects, asked, _ in replies:
        waiters.append(Hearing(expects, asked))
        ask(session, waiters[-1])
    assert session.pending == len(replies)
    session.outgoing.clear()
    order = list(range(len(replies)))
    chance.shuffle(order)
    feed(session, split(b"".join(bytes(replies[number][3].frame(number)) for number in order), chance))
    for waiter, (_, _, _, reply) in zip(waiters, replies, strict=True):
        if isinstance(reply, Data):
            assert (waiter.heard, waiter.data) == (["data"], reply.data)
        else:
            assert waiter.heard == [reply]
    assert session.pending == 0


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_any_bytes_are_replies_or_an_error_of_the_peer(parts: list[bytes]) -> None:
    for session in (ClientSession(DEFAULT_SFTP_LIMITS), begun_client()):
        waiter = Hearing(Attrs)
        if session.has_begun:
            session.request(Stat(b"x"), waiter)
        try:
            feed(session, parts)
        except RemoteProtocolError:
            for left in session.abandon():
                left.on_lost()
            assert session.pending == 0


@settings(deadline=None)
@given(any_message(), st.integers(0, 5), st.sampled_from(REPLIES))
def test_any_packet_is_the_reply_or_an_error_and_whoever_waits_hears(packet: Any, number: int, request: Any) -> None:
    if not isinstance(packet, Packet):
        return
    session = begun_client()
    ask, expects, asked, _ = request
    waiter = Hearing(expects, asked)
    ask(session, waiter)
    try:
        session.receive_data(memoryview(packet.frame(number)))
    except RemoteProtocolError:
        for left in session.abandon():
            left.on_lost()
    assert len(waiter.heard) == 1


def test_a_status_that_is_remembered_answers_for_no_other() -> None:
    """Short ones are remembered, so one that only begins alike, or is cut, must be read for itself."""
    session = begun_client()
    said = [Status(0, "fine", ""), Status(4, "fine", ""), Status(4, "f" * 90, ""), Status(0, "", "")]
    for status in (*said, *said[::-1]):
        waiter = Hearing(Status)
        session.request(Close(b"x"), waiter)
        session.outgoing.clear()
        number = (session._next_id - 1) & 0xFFFFFFFF
        feed(session, [bytes(status.frame(number))])
        assert waiter.heard == [status]
    session.request(Close(b"x"), Hearing(Status))
    session.outgoing.clear()
    whole = bytes(Status(4, "f" * 90, "").frame((session._next_id - 1) & 0xFFFFFFFF))
    cut = whole[4:69]
    with pytest.raises(RemoteProtocolError):
        session.receive_data(memoryview(struct.pack(">I", len(cut)) + cut))


def test_what_is_lost_in_the_middle_of_data_is_told_too() -> None:
    session = begun_client()
    waiter, other = Hearing(Data, 100), Hearing(Attrs)
    session.read(b"x", 0, 100, waiter)
    session.request(Stat(b"x"), other)
    session.outgoing.clear()
    session.receive_data(memoryview(bytes(Data(bytes(100)).frame(0))[:50]))
    assert session.abandon() == [other, waiter]
    assert not session.outgoing


def test_nobody_answers_what_was_not_sent() -> None:
    session = begun_client()
    first, second = Hearing(Attrs), Hearing(Attrs)
    session.request(Stat(b"first"), first)
    session.request(Stat(b"second"), second)
    session.outgoing.popleft()
    session.sealed_bytes = session.queued_bytes - len(session.outgoing[0])
    reply = Attrs(SFTPAttributes())
    session.receive_data(memoryview(bytes(reply.frame(0))))
    assert first.heard == [reply]
    session.sealed_bytes += 5
    session.outgoing[0] = session.outgoing[0][5:]
    with pytest.raises(RemoteProtocolError, match="which was not sent yet"):
        session.receive_data(memoryview(bytes(reply.frame(1))))
    assert session.abandon() == [second]


def test_ids_come_round_and_skip_those_that_wait() -> None:
    session = begun_client()
    first = Hearing(Attrs)
    session.request(Stat(b"first"), first)
    session._next_id = 2**32 - 1
    for _ in range(2):
        session.request(Stat(b"x"), Hearing(Attrs))
    assert sorted(session._pending) == [0, 1, 2**32 - 1]


def test_a_write_in_place() -> None:
    session = begun_client()
    head = ClientSession.write_head_size(b"handle")
    packet = bytearray(head) + b"data"
    session.write_in_place(memoryview(packet), b"handle", 2**40, Hearing(Status))
    server = begun_server()
    server.receive_data(memoryview(b"".join(session.outgoing)))
    [(number, request)] = server.arrived
    assert number == 0
    assert isinstance(request, WriteParts)
    assert (request.handle, request.offset, request.parts.take(9)) == (b"handle", 2**40, b"data")


@pytest.mark.parametrize("length", [0, 257 * 1024 + 1, 2**32 - 1])
def test_a_length_is_told_from_itself(length: int) -> None:
    for data in (struct.pack(">I", length), struct.pack(">IB", length, 105)):
        with pytest.raises(RemoteProtocolError, match=f"{length} bytes"):
            begun_client().receive_data(memoryview(data))
        session = begun_client()
        with pytest.raises(RemoteProtocolError, match=f"{length} bytes"):
            feed(session, [data[at : at + 1] for at in range(len(data))])


# -- the server's end


def begun_server(limits: SFTPLimits = DEFAULT_SFTP_LIMITS) -> ServerSession:
    session = ServerSession(limits)
    session.receive_data(memoryview(struct.pack(">IBI", 5, 1, 3)))
    session.outgoing.clear()
    session.outgoing_bytes = 0
    return session


@settings(deadline=None)
@given(st.lists(any_message(), max_size=6), st.randoms(use_true_random=False))
def test_requests_in_any_parts_are_the_same(packets: list[Any], chance: random.Random) -> None:
    packets = [packet for packet in packets if isinstance(packet, Packet)]
    data = b"".join(bytes(packet.frame(number)) for number, packet in enumerate(packets))
    whole, parted = begun_server(), begun_server()
    whole.receive_data(memoryview(data))
    feed(parted, split(data, chance))
    assert [number for number, _ in parted.arrived] == list(range(len(packets)))
    for (_, ours), (_, theirs) in zip(whole.arrived, parted.arrived, strict=True):
        if isinstance(ours, WriteParts):
            assert isinstance(theirs, WriteParts)
            assert (ours.handle, ours.offset) == (theirs.handle, theirs.offset)
            assert ours.parts.take(10**9) == theirs.parts.take(10**9)
        elif isinstance(ours, BadRequest):
            assert isinstance(theirs, BadRequest)
            assert ours.text == theirs.text
        else:
            assert ours == theirs


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_are_requests_or_an_error_of_the_client(parts: list[bytes]) -> None:
    for session in (ServerSession(DEFAULT_SFTP_LIMITS), begun_server()):
        with contextlib.suppress(RemoteProtocolError):
            feed(session, parts)


def test_what_a_server_answers_reaches_the_client() -> None:
    client, server = ClientSession(DEFAULT_SFTP_LIMITS), ServerSession(DEFAULT_SFTP_LIMITS, {b"a": b"1"})

    def exchange() -> None:
        server.receive_data(memoryview(b"".join(client.outgoing)))
        client.outgoing.clear()
        while server.outgoing:
            data = bytes(server.outgoing[0])
            server.sent(len(data))
            client.receive_data(memoryview(data))

    exchange()
    assert client.extensions == {b"a": b"1"}
    waiters = [Hearing(Data, 100_000), Hearing(Data, 10), Hearing(Handle)]
    client.read(b"h", 5, 100_000, waiters[0])
    client.read(b"h", 5, 10, waiters[1])
    client.request(Stat(b"x"), waiters[2])
    exchange()
    assert [request for _, request in server.arrived] == [Read(b"h", 5, 100_000), Read(b"h", 5, 10), Stat(b"x")]
    for number, size in ((0, 100_000), (1, 10)):
        server.data_in_place(number, memoryview(bytearray(ServerSession.DATA_HEAD_SIZE) + bytes(size)))
    server.reply(2, Handle(b"new"))
    assert server.outgoing_bytes > 100_000
    exchange()
    assert [len(waiter.data) for waiter in waiters] == [100_000, 10, 0]
    assert waiters[2].heard == [Handle(b"new")]
    assert server.outgoing_bytes == 0
