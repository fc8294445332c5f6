"""RFC 4251 section 5: each data type, by the RFC's own examples and at its edges."""

from __future__ import annotations

import struct
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire import fields
from trio_ssh.wire.fields import (
    BOOLEAN,
    BYTE,
    COOKIE,
    MAX_NAMES,
    MPINT,
    MPINT_BYTES,
    NAME_LIST,
    REST,
    STRING,
    TEXT,
    UINT32,
    UINT64,
    DeclaredMessage,
    FieldType,
    String,
    Structure,
    UInt32,
    message,
    mpint_bytes,
    structure,
)


def written(field: FieldType, value: Any) -> bytes:
    out = bytearray(b"before")
    field.write(out, value)
    assert out.startswith(b"before")
    return bytes(out[6:])


def read_back(field: FieldType, data: bytes) -> Any:
    """Read `data` from the middle of a longer byte string, and check where that ends."""
    value, end = field.read(b"xyz" + data, 3)
    assert end == 3 + len(data)
    return value


# RFC 4251 s5, value and representation.
MPINTS: Final = [
    (0, "00000000"),
    (0x9A378F9B2E332A7, "00000008 09a378f9b2e332a7"),
    (0x80, "00000002 0080"),
    (-0x1234, "00000002 edcc"),
    (-0xDEADBEEF, "00000005 ff21524111"),
    # and beside the RFC's: around each place where a byte more is needed
    (1, "00000001 01"),
    (0x7F, "00000001 7f"),
    (0xFF, "00000002 00ff"),
    (0x7FFF, "00000002 7fff"),
    (0x8000, "00000003 008000"),
    (-1, "00000001 ff"),
    (-0x80, "00000001 80"),
    (-0x81, "00000002 ff7f"),
    (-0x8000, "00000002 8000"),
]


@pytest.mark.parametrize(("value", "encoded"), MPINTS)
def test_an_mpint_is_as_in_the_rfc(value: int, encoded: str) -> None:
    assert written(MPINT, value) == bytes.fromhex(encoded)
    assert read_back(MPINT, bytes.fromhex(encoded)) == value


@given(st.integers(-(2**300), 2**300))
def test_an_mpint_is_the_shortest_that_keeps_its_sign(value: int) -> None:
    encoded = mpint_bytes(value)
    assert int.from_bytes(encoded, "big", signed=True) == value
    assert not encoded or int.from_bytes(encoded[1:], "big", signed=True) != value


def test_an_mpint_has_a_longest() -> None:
    longest = 2 ** (8 * (MPINT_BYTES - 1)) - 1
    assert read_back(MPINT, written(MPINT, longest)) == longest
    with pytest.raises(RemoteProtocolError, match=f"{MPINT_BYTES + 1} bytes"):
        MPINT.read(written(MPINT, longest << 8), 0)


@pytest.mark.parametrize(
    ("field", "value", "encoded"),
    [
        (BYTE, 0, "00"),
        (BYTE, 255, "ff"),
        (BOOLEAN, True, "01"),
        (BOOLEAN, False, "00"),
        (UINT32, 699921578, "29b7f4aa"),  # the RFC's example
        (UINT32, 2**32 - 1, "ffffffff"),
        (UINT64, 2**64 - 1, "ffffffffffffffff"),
        (STRING, b"testing", "00000007 74657374696e67"),  # the RFC's example
        (STRING, b"\0\xff", "00000002 00ff"),
        (TEXT, "ä€😀", "00000009 c3a4e282acf09f9880"),
        (NAME_LIST, (), "00000000"),  # the RFC's three examples
        (NAME_LIST, ("zlib",), "00000004 7a6c6962"),
        (NAME_LIST, ("zlib", "none"), "00000009 7a6c69622c6e6f6e65"),
        (COOKIE, bytes(range(16)), "000102030405060708090a0b0c0d0e0f"),
        (REST, b"anything", "616e797468696e67"),
    ],
)
def test_a_value_is_as_in_the_rfc(field: FieldType, value: object, encoded: str) -> None:
    assert written(field, value) == bytes.fromhex(encoded)
    assert read_back(field, bytes.fromhex(encoded)) == value


@pytest.mark.parametrize("byte", [1, 2, 0x80, 0xFF])
def test_every_byte_but_zero_is_true(byte: int) -> None:
    assert read_back(BOOLEAN, bytes((byte,))) is True


@pytest.mark.parametrize("field", [BYTE, BOOLEAN, UINT32, UINT64, STRING, TEXT, MPINT, NAME_LIST, COOKIE])
@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_nothing_is_read_behind_the_end(field: FieldType, offset: int) -> None:
    with pytest.raises(RemoteProtocolError, match="ends inside"):
        field.read(b"xyz"[:offset], offset)


@pytest.mark.parametrize("field", [STRING, TEXT, MPINT, NAME_LIST])
@pytest.mark.parametrize("claimed", [5, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1])
def test_a_length_that_reaches_past_the_end_is_never_believed(field: FieldType, claimed: int) -> None:
    with pytest.raises(RemoteProtocolError, match="ends inside a string"):
        field.read(claimed.to_bytes(4, "big") + b"four", 0)


@given(st.binary(max_size=40))
def test_text_that_is_not_utf_8_survives(raw: bytes) -> None:
    encoded = written(STRING, raw)
    assert written(TEXT, read_back(TEXT, encoded)) == encoded


def test_a_name_list_has_a_most() -> None:
    assert len(read_back(NAME_LIST, written(NAME_LIST, ("n",) * MAX_NAMES))) == MAX_NAMES
    with pytest.raises(RemoteProtocolError, match=f"more than {MAX_NAMES} names"):
        NAME_LIST.read(written(NAME_LIST, ("n",) * (MAX_NAMES + 1)), 0)


@pytest.mark.parametrize("raw", [b"z\xc3\xbc,none", b"\xff", b"none,\x80"])
def test_a_name_list_is_ascii(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not ASCII"):
        NAME_LIST.read(written(STRING, raw), 0)


@pytest.mark.parametrize(
    ("field", "value"), [(UINT32, -1), (UINT32, 2**32), (UINT64, 2**64), (BYTE, 256), (NAME_LIST, ("ä",))]
)
def test_a_value_of_ours_that_does_not_fit_is_never_sent_as_another(field: FieldType, value: object) -> None:
    with pytest.raises((ValueError, struct.error)):
        written(field, value)


@structure
class Pair(Structure):
    left: UInt32
    right: String


@message(200)
class Sample(DeclaredMessage):
    number: UInt32


def test_a_declaration_makes_a_value() -> None:
    pair = Pair(1, b"x")
    assert pair == Pair(1, b"x") != Pair(2, b"x")
    assert repr(pair) == "Pair(left=1, right=b'x')"


def test_a_message_begins_with_its_number() -> None:
    assert Sample(7).encode() == b"\xc8\0\0\0\x07"
    assert Sample.from_payload(b"\xc8\0\0\0\x07") == Sample(7)


def test_an_error_names_the_field_it_is_in() -> None:
    with pytest.raises(RemoteProtocolError, match=r"^Pair\.right: a message ends inside a string's length$"):
        Pair.decode(b"\0\0\0\1\0")
    with pytest.raises(RemoteProtocolError, match=r"^Sample: 2 bytes too many$"):
        Sample.from_payload(b"\xc8\0\0\0\x07ab")


@structure
class SaidOtherwise(Structure):
    """Types that are no names of this module."""

    number: fields.UInt32
    flag: fields.Boolean


def test_a_field_s_type_need_not_be_a_name() -> None:
    assert SaidOtherwise(7, True).encode() == b"\0\0\0\7\1"
    assert SaidOtherwise.decode(b"\0\0\0\7\1") == SaidOtherwise(7, True)
