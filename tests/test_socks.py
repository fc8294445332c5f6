"""What a SOCKS client says, however it is cut, and what it is told."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.socks import LONGEST_TEXT, SocksError, SocksHandshake, SocksRequest
from trio_ssh.wire.numbers import OpenFailureReason

GREETING = b"\5\1\0"
WELCOME = b"\5\0"
NAME = b"web.internal"

#: What a client says, what it is told meanwhile, and what it asks for.
GOOD = {
    "5, a name": (GREETING + b"\5\1\0\3\x0c" + NAME + b"\0\x50", WELCOME, SocksRequest(5, "web.internal", 80)),
    "5, IPv4": (GREETING + b"\5\1\0\1\xc0\0\2\7\x1f\x90", WELCOME, SocksRequest(5, "192.0.2.7", 8080)),
    "5, IPv6": (
        GREETING + b"\5\1\0\4" + socket.inet_pton(socket.AF_INET6, "2001:db8::7") + b"\0\x16",
        WELCOME,
        SocksRequest(5, "2001:db8::7", 22),
    ),
    "5, many methods": (b"\5\3\2\1\0\5\1\0\3\1x\xff\xff", WELCOME, SocksRequest(5, "x", 65535)),
    "5, a long name": (GREETING + b"\5\1\0\3\xff" + b"x" * 255 + b"\0\1", WELCOME, SocksRequest(5, "x" * 255, 1)),
    "5, a name that is not ASCII": (
        GREETING + b"\5\1\0\3\7b\xc3\xbccher\0\1",
        WELCOME,
        SocksRequest(5, "bücher", 1),
    ),
    "4": (b"\4\1\0\x50\xc0\0\2\7me\0", b"", SocksRequest(4, "192.0.2.7", 80)),
    "4, nobody": (b"\4\1\0\x50\xc0\0\2\7\0", b"", SocksRequest(4, "192.0.2.7", 80)),
    "4, an address of zeros": (b"\4\1\0\x50\0\0\0\0\0", b"", SocksRequest(4, "0.0.0.0", 80)),
    "4a": (b"\4\1\0\x50\0\0\0\1me\0" + NAME + b"\0", b"", SocksRequest(4, "web.internal", 80)),
    "4a, long": (
        b"\4\1\0\x50\0\0\0\xff" + b"u" * LONGEST_TEXT + b"\0" + b"x" * LONGEST_TEXT + b"\0",
        b"",
        SocksRequest(4, "x" * 255, 80),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_request_is_read_however_it_is_cut(name: str) -> None:
    data, welcome, request = GOOD[name]
    for cut in range(len(data) + 1):
        for rest in (b"", b"first bytes"):
            handshake = SocksHandshake()
            answer = handshake.receive(data[:cut])
            if cut < len(data):
                assert handshake.request is None
                answer += handshake.receive(data[cut:] + rest)
            else:
                assert handshake.request == request
                continue
            assert (answer, handshake.request, handshake.rest) == (welcome, request, rest)
    handshake = SocksHandshake()
    assert b"".join(handshake.receive(data[at : at + 1]) for at in range(len(data))) == welcome
    assert handshake.request == request


REFUSED_4 = b"\0\x5b" + bytes(6)


def refused_5(code: int) -> bytes:
    return b"\5" + bytes([code]) + b"\0\1" + bytes(6)


@pytest.mark.parametrize(
    ("data", "reply", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"", "speaks no SOCKS: it began with the byte 0x47"),
        (b"\0", b"", "0x00"),
        (b"SSH-2.0-x\r\n", b"", "0x53"),
        (b"\5\0", b"\5\xff", "wants to log in"),
        (b"\5\1\2", b"\5\xff", "wants to log in"),
        (b"\5\2\1\2", b"\5\xff", "wants to log in"),
        (GREETING + b"\4\1\0\1", WELCOME + refused_5(1), "version 4 in a handshake of version 5"),
        (GREETING + b"\5\2\0\1\x7f\0\0\1\0\1", WELCOME + refused_5(7), "command 2"),
        (GREETING + b"\5\3\0\1\x7f\0\0\1\0\1", WELCOME + refused_5(7), "command 3"),
        (GREETING + b"\5\1\0\2", WELCOME + refused_5(8), "no type of address 2"),
        (GREETING + b"\5\1\0\3\0\0\1", WELCOME + refused_5(1), "no host is called ''"),
        (GREETING + b"\5\1\0\3\2a\0\0\1", WELCOME + refused_5(1), r"no host is called 'a\\x00'"),
        (GREETING + b"\5\1\0\3\2\xff\xfe\0\1", WELCOME + refused_5(1), "no host is called"),
        (GREETING + b"\5\1\0\3\2a\n\0\1", WELCOME + refused_5(1), r"no host is called 'a\\n'"),
        (b"\4\2\0\x50\xc0\0\2\7\0", REFUSED_4, "command 2"),
        (b"\4\1\0\x50\0\0\0\1\0\0", REFUSED_4, "no host is called ''"),
        (b"\4\1\0\x50\0\0\0\1\0a b\0", REFUSED_4, "no host is called 'a b'"),
        (b"\4\1\0\x50\xc0\0\2\7" + b"u" * (LONGEST_TEXT + 1), REFUSED_4, "more than 255 bytes"),
        (b"\4\1\0\x50\0\0\0\1\0" + b"x" * (LONGEST_TEXT + 1), REFUSED_4, "more than 255 bytes"),
    ],
)
def test_what_can_not_be_is_refused_as_its_version_has_it(data: bytes, reply: bytes, text: str) -> None:
    with pytest.raises(SocksError, match=text) as raised:
        SocksHandshake().receive(data)
    assert raised.value.reply == reply
    handshake, told = SocksHandshake(), b""
    with pytest.raises(SocksError) as raised:
        for at in range(len(data)):
            told += handshake.receive(data[at : at + 1])
    assert told + raised.value.reply == reply


def test_replies_are_those_of_the_version() -> None:
    five, four = SocksRequest(5, "x", 1), SocksRequest(4, "x", 1)
    assert five.granted() == b"\5\0\0\1" + bytes(6)
    assert four.granted() == b"\0\x5a" + bytes(6)
    codes = {reason: five.refused(reason)[1] for reason in OpenFailureReason}
    assert codes == {
        OpenFailureReason.ADMINISTRATIVELY_PROHIBITED: 2,
        OpenFailureReason.CONNECT_FAILED: 5,
        OpenFailureReason.UNKNOWN_CHANNEL_TYPE: 1,
        OpenFailureReason.RESOURCE_SHORTAGE: 1,
    }
    assert five.refused(2**32 - 1)[1] == 1
    assert {four.refused(reason) for reason in OpenFailureReason} == {REFUSED_4}


PIECES = st.lists(st.binary(max_size=40), max_size=40)
#: Something that begins well: else most of what is tried ends with its first byte.
BEGINNINGS = st.sampled_from([b"", b"\4", b"\4\1\0\1\0\0\0\1", b"\5", GREETING, GREETING + b"\5\1\0\3", b"\5\xff"])


@given(BEGINNINGS, PIECES)
def test_whatever_comes_is_a_request_or_a_mistake_and_little_is_kept(beginning: bytes, pieces: list[bytes]) -> None:
    handshake = SocksHandshake()
    for piece in [beginning, *pieces]:
        try:
            answer = handshake.receive(piece)
        except SocksError:
            break
        assert len(answer) <= len(WELCOME)
        if handshake.request is not None:
            assert handshake.request.host
            assert 0 <= handshake.request.port < 65536
            break
        assert len(handshake._unread) <= 255


@given(
    st.text(
        st.characters(min_codepoint=0x21, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1, max_size=60
    ),
    st.integers(0, 65535),
)
def test_every_name_that_can_be_one_comes_through(host: str, port: int) -> None:
    name = host.encode()
    for data in (
        GREETING + b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", port),
        b"\4\1" + struct.pack(">H", port) + b"\0\0\0\1\0" + name + b"\0",
    ):
        handshake = SocksHandshake()
        handshake.receive(data)
        assert handshake.request is not None
        assert (handshake.request.host, handshake.request.port) == (host, port)
