"""RFC 4253 section 4.2: who is taken for an SSH peer, and how soon everyone else is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.core.identification import Identification, our_version_line
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.core.role import Role
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

CLIENT: Final = Role.CLIENT
SERVER: Final = Role.SERVER
BOTH: Final = [CLIENT, SERVER]


def told(role: Role, pieces: Iterable[bytes], limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, bytes]:
    """Feed pieces; return the version line and all that came behind it."""
    identification = Identification(role, limits)
    rest: bytes | None = None
    for piece in pieces:
        if rest is None:
            rest = identification.receive(piece)
        else:
            rest += piece
    assert rest is not None
    assert identification.version_line is not None
    return identification.version_line, rest


def refused(role: Role, data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        Identification(role, limits).receive(data)
    assert caught.value.reason is DisconnectReason.PROTOCOL_VERSION_NOT_SUPPORTED
    return str(caught.value)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
        b"SSH-2.0-x",
        b"SSH-2.0--",
        b"SSH-2.0-" + b"v" * 247,  # 255 bytes in all
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_version_line_is_taken_without_its_end(role: Role, line: bytes, end: bytes) -> None:
    assert told(role, [line + end + b"\0\0\1packet\n"]) == (line, b"\0\0\1packet\n")


def test_a_server_that_speaks_both_versions_is_taken_and_a_client_is_not() -> None:
    assert told(CLIENT, [b"SSH-1.99-Cisco-1.25\n"])[0] == b"SSH-1.99-Cisco-1.25"
    assert "not 2.0" in refused(SERVER, b"SSH-1.99-Cisco-1.25\n")


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize(
    "line",
    [
        b"SSH-1.5-OpenSSH_2",
        b"SSH-2.1-x",
        b"SSH-2.00-x",
        b"SSH-3.0-x",
        b"SSH-2.0",
        b"SSH-2.0-",
        b"SSH-2.0- ",
        b"SSH--x",
        b"SSH-",
        b"SSH-2.0 x-y",
        b"SSH-2.0-x\0y",
        b"SSH-2.0-x\x1b[2Jy",
        b"SSH-2.0-x\ty",
        b"SSH-2.0-x\x7f",
        b"SSH-2.0-\xff",
        b"SSH-2.0-x\ry",
        b"SSH-2.0-x\r",
        b"SSH-2.0-" + b"v" * 248,
    ],
)
def test_any_other_version_line_is_refused_and_quoted_without_its_escapes(role: Role, line: bytes) -> None:
    text = refused(role, line + b"\r\n")
    assert "it said: SSH-" in text
    assert text.isprintable()


@pytest.mark.parametrize("role", BOTH)
def test_a_version_line_that_does_not_end_is_refused_from_its_length(role: Role) -> None:
    limits = DEFAULT_LIMITS
    identification = Identification(role, limits)
    assert identification.receive(b"SSH-2.0-" + b"x" * (limits.version_line_bytes - 8)) is None
    assert identification.receive(b"\r") is None
    with pytest.raises(RemoteProtocolError, match="more than 255 bytes"):
        identification.receive(b"x")


def test_a_client_reads_what_a_server_says_before_its_version() -> None:
    greeting = "Grüße\r\n\tSSH is below\nSSL-2.0-no\n\n".encode()
    assert told(CLIENT, [greeting + b"SSH-2.0-x\r\nrest"]) == (b"SSH-2.0-x", b"rest")


def test_a_server_reads_nothing_before_a_client_s_version() -> None:
    assert "must send its version line first" in refused(SERVER, b"hello\nSSH-2.0-x\r\n")
    assert "must send its version line first" in refused(SERVER, b"\r\nSSH-2.0-x\r\n")


@pytest.mark.parametrize("first", [b"G", b"\x16", b"\0", b"ssh-", b"SSH_", b"SH"])
def test_a_server_refuses_at_the_first_byte_that_is_not_ssh(first: bytes) -> None:
    assert "not SSH" in refused(SERVER, first)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"HTTP/1.1",  # no end of line may ever come
        b"220 mail ESMTP\r\n",
        b"220-ftp\r\n",
        b"+OK POP3\r\n",
        b"* OK IMAP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"RFB 003.008\n",
        b"binary\0without a line's end",
        b"line with \x1b[31m escapes\n",
        b"\x01\x02\x03\n",
    ],
)
def test_a_client_refuses_what_is_no_ssh_server_and_quotes_it(said: bytes) -> None:
    text = refused(CLIENT, said)
    assert "not SSH" in text or "not an SSH server" in text
    assert text.isprintable()
    assert repr(said[:3])[2:-1] in text


def test_the_lines_before_the_version_are_counted() -> None:
    limits = Limits(lines_before_version=3)
    assert told(CLIENT, [b"a\n" * 3 + b"SSH-2.0-x\n"], limits)[0] == b"SSH-2.0-x"
    assert "too much text" in refused(CLIENT, b"a\n" * 4, limits)


@pytest.mark.parametrize("line_bytes", [1, 10, 100])
def test_the_bytes_before_the_version_are_counted(line_bytes: int) -> None:
    limits = Limits(bytes_before_version=100)
    greeting = (b"a" * (line_bytes - 1) + b"\n") * (100 // line_bytes)
    assert told(CLIENT, [greeting + b"SSH-2.0-x\n"], limits)[0] == b"SSH-2.0-x"
    assert "too much text" in refused(CLIENT, greeting + b"a\n", limits)
    assert "too much text" in refused(CLIENT, greeting + b"a", limits)


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    identification = Identification(CLIENT, DEFAULT_LIMITS)
    for _ in range(DEFAULT_LIMITS.bytes_before_version // 128):
        assert identification.receive(b"a" * 128) is None
    with pytest.raises(RemoteProtocolError, match="too much text"):
        identification.receive(b"a")


@pytest.mark.parametrize("role", BOTH)
def test_a_version_is_taken_byte_by_byte(role: Role) -> None:
    data = b"SSH-2.0-some thing\r\n\0\1\2rest\r\nSSH-2.0-y\n"
    assert told(role, [data[i : i + 1] for i in range(len(data))]) == (b"SSH-2.0-some thing", data[20:])


@pytest.mark.parametrize("role", BOTH)
def test_a_version_is_taken_wherever_it_is_cut(role: Role) -> None:
    data = (b"" if role is SERVER else b"hello\r\n\nSSH\n") + b"SSH-2.0-x\r\nrest"
    for cut in range(len(data) + 1):
        assert told(role, [data[:cut], data[cut:]]) == (b"SSH-2.0-x", b"rest")


lines: Final = st.binary(max_size=20).map(lambda line: line.replace(b"\n", b""))


@given(
    st.sampled_from(BOTH),
    st.lists(lines | st.sampled_from([b"SSH-2.0-x", b"SSH-2.0-x\r", b"SSH-1.5-x", b"hello"]), max_size=4),
    st.lists(st.integers(0, 80), max_size=6),
)
def test_how_the_bytes_are_cut_changes_nothing(role: Role, said: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in said)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    whole, cut = Identification(role, DEFAULT_LIMITS), Identification(role, DEFAULT_LIMITS)
    try:
        rest = whole.receive(data)
    except RemoteProtocolError:
        rest = None
    try:
        for position, piece in enumerate(pieces):
            behind = cut.receive(piece)
            if behind is not None:
                assert behind + b"".join(pieces[position + 1 :]) == rest
                break
    except RemoteProtocolError:
        pass
    assert cut.version_line == whole.version_line


def test_what_was_said_is_shown_shortened_and_escaped() -> None:
    identification = Identification(CLIENT, DEFAULT_LIMITS)
    assert identification.what_was_said() == ""
    identification.receive(b"who are you?\nI am \xe2\x80\xae")
    assert identification.what_was_said() == "who are you?\\nI am \\u202e"
    identification.receive(b"x" * 4000)
    assert len(identification.what_was_said()) == 201


def test_our_own_line_is_one_that_we_would_take() -> None:
    line = our_version_line("trio_ssh_1.0")
    assert line == b"SSH-2.0-trio_ssh_1.0"
    for role in BOTH:
        assert told(role, [line + b"\r\n"])[0] == line


@pytest.mark.parametrize("software", ["", "two words", "mi-nus", "ü", "nul\0", "line\n"])
def test_a_name_that_would_make_a_bad_line_is_refused(software: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        our_version_line(software)
