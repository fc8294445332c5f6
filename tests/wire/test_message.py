"""The public `Message`: fields by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire import message as message_module
from trio_ssh.wire.fields import UINT32
from trio_ssh.wire.message import Message

ADDERS: Final[dict[str, Callable[[Message, Any], Message]]] = {
    "byte": Message.add_byte,
    "boolean": Message.add_boolean,
    "int": Message.add_int,
    "int64": Message.add_int64,
    "mpint": Message.add_mpint,
    "string": Message.add_string,
    "text": Message.add_string,
    "list": Message.add_list,
}
GETTERS: Final[dict[str, Callable[[Message], Any]]] = {
    "byte": Message.get_byte,
    "boolean": Message.get_boolean,
    "int": Message.get_int,
    "int64": Message.get_int64,
    "mpint": Message.get_mpint,
    "string": Message.get_string,
    "text": Message.get_text,
    "list": Message.get_list,
}
VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "byte": st.binary(min_size=1, max_size=1),
    "boolean": st.booleans(),
    "int": st.integers(0, 2**32 - 1),
    "int64": st.integers(0, 2**64 - 1),
    "mpint": st.integers(-(2**70), 2**70),
    "string": st.binary(max_size=10),
    "text": st.text(max_size=10),
    "list": st.lists(st.sampled_from(["none", "zlib", "aes128-ctr"]), max_size=3),
}
items: Final = st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))


@given(st.lists(items, max_size=6))
def test_what_was_added_is_read_in_the_same_order(fields: list[tuple[str, Any]]) -> None:
    built = Message()
    for kind, value in fields:
        assert ADDERS[kind](built, value) is built
    assert bytes(built) == built.asbytes()
    assert len(built) == len(built.asbytes())

    reading = Message(built.asbytes())
    for kind, value in fields:
        before = reading.get_so_far()
        assert GETTERS[kind](reading) == value
        assert reading.get_so_far().startswith(before)
        assert reading.get_so_far() + reading.get_remainder() == built.asbytes()
    assert reading.get_remainder() == b""
    for kind in GETTERS:
        with pytest.raises(RemoteProtocolError):
            GETTERS[kind](reading)


def test_adding_goes_on_behind_what_was_read() -> None:
    content = Message(bytearray(b"\0\0\0\x01"))
    assert content.get_int() == 1
    content.add_int(2).add_bytes(b"\x00\x00").add_bytes(memoryview(b"\x00\x03"))
    assert (content.get_int(), content.get_int()) == (2, 3)
    content.rewind()
    assert content.get_bytes(12) == b"\0\0\0\1\0\0\0\2\0\0\0\3"
    assert repr(content) == "<Message of 12 bytes, read to 12>"


def test_bytes_without_a_length_are_all_there_or_none() -> None:
    content = Message(b"abc")
    with pytest.raises(RemoteProtocolError, match="ends inside 4 bytes"):
        content.get_bytes(4)
    with pytest.raises(RemoteProtocolError):
        content.get_bytes(-1)
    assert content.get_bytes(0) == b""
    assert content.get_bytes(3) == b"abc"


@pytest.mark.parametrize("value", [7, b"\x07", b"\x07ignored"])
def test_a_byte_is_a_number_or_a_byte_string(value: int | bytes) -> None:
    assert Message().add_byte(value).asbytes() == b"\x07"


@pytest.mark.parametrize("value", ["ä", "ä".encode(), bytearray("ä".encode()), memoryview("ä".encode())])
def test_a_string_is_text_or_bytes_of_any_kind(value: str | bytes) -> None:
    content = Message().add_string(value)
    assert content.asbytes() == b"\0\0\0\x02\xc3\xa4"
    assert content.get_text() == "ä"
    content.rewind()
    read = content.get_string()
    assert type(read) is bytes
    assert read == "ä".encode()


def test_reading_many_fields_does_not_copy_the_content_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer may send 1,024 extensions in a packet of 256 KiB: copied for each, that is half a gigabyte."""
    seen: list[bytes] = []

    class Spy:
        def write(self, out: bytearray, value: Any) -> None:
            UINT32.write(out, value)

        def read(self, data: bytes, offset: int) -> tuple[Any, int]:
            if not any(data is other for other in seen):
                seen.append(data)
            return UINT32.read(data, offset)

    monkeypatch.setattr(message_module, "UINT32", Spy())
    content = Message(bytes(400))
    assert [content.get_int() for _ in range(100)] == [0] * 100
    assert len(seen) == 1
    assert content.add_int(5).get_int() == 5
