"""SFTP's packets: each arrives as it was sent, and none that is cut, or has a byte too many."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sftp.test_attributes import attributes
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp import messages
from trio_ssh.sftp.attributes import ATTRS, SFTPAttributes
from trio_ssh.sftp.messages import NAMES, NamedFile, Packet, Status, read_pairs, write_pairs
from trio_ssh.wire.fields import REST, STRING, TEXT, UINT32, UINT64, DeclaredMessage, Structure

DECLARED = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Structure) and value.FIELDS and value not in (Structure, Packet)
]
FIELDS: dict[object, st.SearchStrategy[Any]] = {
    UINT32: st.integers(0, 2**32 - 1),
    UINT64: st.integers(0, 2**64 - 1),
    STRING: st.binary(max_size=20),
    TEXT: st.text(max_size=10),
    REST: st.binary(max_size=20),
    ATTRS: attributes(),
    NAMES: st.lists(st.builds(NamedFile, st.binary(max_size=5), st.binary(max_size=5), attributes()), max_size=3).map(
        tuple
    ),
}


@st.composite
def any_message(draw: st.DrawFn) -> Structure:
    """A value of any declared message."""
    cls = draw(st.sampled_from(DECLARED))
    return cls(*[draw(FIELDS[field]) for _, field in cls.FIELDS])


def test_all_of_them_are_tried() -> None:
    assert len(DECLARED) == 37
    numbers = [cls.NUMBER for cls in DECLARED if issubclass(cls, DeclaredMessage)]
    assert len(numbers) == len(set(numbers)) == 27


@given(any_message())
def test_it_arrives_as_it_was_sent(value: Structure) -> None:
    encoded = value.encode()
    start = 1 if isinstance(value, DeclaredMessage) else 0
    assert type(value).decode(encoded, start) == value
    if isinstance(value, Packet):
        frame = bytes(value.frame(7))
        assert struct.unpack_from(">IBI", frame) == (len(frame) - 4, value.NUMBER, 7)
        assert type(value).from_payload(frame[4:]) == value


@given(any_message())
def test_it_is_refused_wherever_it_is_cut_and_with_a_byte_too_many(value: Structure) -> None:
    encoded = value.encode()
    start = 1 if isinstance(value, DeclaredMessage) else 0
    cuts = range(start, len(encoded))
    if any(field is REST for _, field in value.FIELDS):
        cuts = range(start, len(encoded) - len(getattr(value, value.FIELDS[-1][0])))
    else:
        with pytest.raises(RemoteProtocolError):
            type(value).decode(encoded + b"x", start)
    for cut in cuts:
        with pytest.raises(RemoteProtocolError):
            type(value).decode(encoded[:cut], start)


@given(st.sampled_from(DECLARED), st.binary(max_size=80))
def test_any_bytes_are_a_message_or_an_error_of_the_peer(cls: type[Structure], data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        cls.decode(data)


def test_a_status_of_old_servers_ends_behind_its_code() -> None:
    assert Status.from_payload(struct.pack(">BII", 101, 7, 4)) == Status(4, "", "")
    with pytest.raises(RemoteProtocolError):
        Status.from_payload(struct.pack(">BI", 101, 7) + bytes(3))
    with pytest.raises(RemoteProtocolError):
        Status.from_payload(struct.pack(">BII", 101, 7, 4) + bytes(4))


def test_a_count_of_names_that_the_bytes_cannot_hold_is_refused() -> None:
    for count in (2**32 - 1, 9):
        with pytest.raises(RemoteProtocolError, match="names in 100 bytes"):
            NAMES.read(struct.pack(">I", count) + bytes(100), 0)


@given(st.dictionaries(st.binary(max_size=9), st.binary(max_size=9), max_size=5))
def test_extensions_arrive_as_they_were_sent(pairs: dict[bytes, bytes]) -> None:
    encoded = write_pairs(pairs)
    assert read_pairs(encoded, 5) == pairs
    for cut in range(len(encoded)):
        with contextlib.suppress(RemoteProtocolError):
            assert read_pairs(encoded[:cut], 5).items() <= pairs.items()


def test_extensions_are_so_many_and_no_more() -> None:
    assert len(read_pairs(write_pairs({b"%d" % number: b"" for number in range(9)}), 9)) == 9
    with pytest.raises(RemoteProtocolError, match="more than 8"):
        read_pairs(write_pairs({b"%d" % number: b"" for number in range(9)}), 8)


def test_names_without_attributes() -> None:
    entry = NamedFile(b"a", b"-rw a", SFTPAttributes())
    out = bytearray()
    NAMES.write(out, (entry,))
    assert NAMES.read(bytes(out), 0) == ((entry,), len(out))
