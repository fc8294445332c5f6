"""Every declared message and structure: it round-trips, and what is cut from it or added to it is the peer's error."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire import fields
from trio_ssh.wire.fields import DeclaredMessage, FieldType, Structure

MODULES: Final = ("transport", "exchange", "userauth", "connection")


def declared() -> list[type[Structure]]:
    """All that the modules of the wire declare, in the order of the text."""
    found: list[type[Structure]] = []
    for name in MODULES:
        module = importlib.import_module(f"trio_ssh.wire.{name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Structure) and cls.__module__ == module.__name__:
                found.append(cls)
    return found


DECLARED: Final = declared()
MESSAGES: Final = [cls for cls in DECLARED if issubclass(cls, DeclaredMessage)]

texts: Final = st.text(max_size=8) | st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
names: Final = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=8
)

STRATEGIES: Final[dict[FieldType, st.SearchStrategy[Any]]] = {
    fields.BYTE: st.integers(0, 255),
    fields.BOOLEAN: st.booleans(),
    fields.UINT32: st.integers(0, 2**32 - 1),
    fields.UINT64: st.integers(0, 2**64 - 1),
    fields.STRING: st.binary(max_size=12),
    fields.TEXT: texts,
    fields.MPINT: st.integers(-(2**80), 2**80),
    fields.NAME_LIST: st.lists(names, max_size=3).map(tuple),
    fields.REST: st.binary(max_size=12),
    fields.COOKIE: st.binary(min_size=16, max_size=16),
}


def instances(cls: type[Structure]) -> st.SearchStrategy[Structure]:
    return st.tuples(*(STRATEGIES[field] for _, field in cls.FIELDS)).map(lambda values: cls(*values))


def read(cls: type[Structure], data: bytes) -> Structure:
    return cls.from_payload(data) if issubclass(cls, DeclaredMessage) else cls.decode(data)


@pytest.mark.parametrize("cls", DECLARED, ids=lambda cls: cls.__name__)
@settings(max_examples=8)
@given(data=st.data())
def test_it_round_trips_and_neither_a_byte_less_nor_one_more_will_do(cls: type[Structure], data: st.DataObject) -> None:
    value = data.draw(instances(cls))
    encoded = value.encode()
    head = 1 if isinstance(value, DeclaredMessage) else 0
    assert read(cls, encoded) == cls.decode(b"any" + encoded, 3 + head) == value

    takes_the_rest = bool(value.FIELDS) and value.FIELDS[-1][1] is fields.REST
    end = len(encoded) - (len(getattr(value, value.FIELDS[-1][0])) if takes_the_rest else 0)
    for cut in range(head, end):
        with pytest.raises(RemoteProtocolError, match=cls.__name__):
            read(cls, encoded[:cut])
    if takes_the_rest:
        assert read(cls, encoded + b"\0").encode() == encoded + b"\0"
    else:
        with pytest.raises(RemoteProtocolError, match=f"{cls.__name__}: 1 bytes too many"):
            read(cls, encoded + b"\0")


@given(cls=st.sampled_from(DECLARED), garbage=st.binary(max_size=80))
@settings(max_examples=500)
def test_garbage_is_read_as_something_or_is_the_peer_s_error(cls: type[Structure], garbage: bytes) -> None:
    try:
        value = read(cls, b"?" + garbage if issubclass(cls, DeclaredMessage) else garbage)
    except RemoteProtocolError:
        return
    assert read(cls, value.encode()) == value


# Written from the RFCs and OpenSSH's PROTOCOL, not from the code.
NUMBERS: Final = {
    "Disconnect": 1,
    "Ignore": 2,
    "Unimplemented": 3,
    "Debug": 4,
    "ServiceRequest": 5,
    "ServiceAccept": 6,
    "ExtInfo": 7,
    "KexInit": 20,
    "NewKeys": 21,
    "KexEcdhInit": 30,
    "KexEcdhReply": 31,
    "KexDhGexGroup": 31,
    "KexDhGexInit": 32,
    "KexDhGexReply": 33,
    "KexGssInit": 30,
    "KexGssContinue": 31,
    "KexGssComplete": 32,
    "KexGssHostkey": 33,
    "KexGssError": 34,
    "KexDhGexRequest": 34,
    "UserauthRequest": 50,
    "UserauthFailure": 51,
    "UserauthSuccess": 52,
    "UserauthBanner": 53,
    "UserauthPkOk": 60,
    "UserauthPasswdChangereq": 60,
    "UserauthInfoRequest": 60,
    "UserauthInfoResponse": 61,
    "UserauthGssapiResponse": 60,
    "UserauthGssapiToken": 61,
    "UserauthGssapiExchangeComplete": 63,
    "UserauthGssapiError": 64,
    "UserauthGssapiErrtok": 65,
    "UserauthGssapiMic": 66,
    "GlobalRequest": 80,
    "RequestSuccess": 81,
    "RequestFailure": 82,
    "ChannelOpen": 90,
    "ChannelOpenConfirmation": 91,
    "ChannelOpenFailure": 92,
    "ChannelWindowAdjust": 93,
    "ChannelData": 94,
    "ChannelExtendedData": 95,
    "ChannelEof": 96,
    "ChannelClose": 97,
    "ChannelRequest": 98,
    "ChannelSuccess": 99,
    "ChannelFailure": 100,
    "Ping": 192,
    "Pong": 193,
}


def test_the_numbers_are_those_of_the_standards() -> None:
    assert {cls.__name__: cls.NUMBER for cls in MESSAGES} == NUMBERS


@pytest.mark.parametrize(
    ("name", "values", "encoded"),
    [
        ("transport.Disconnect", (11, "bye", ""), "01 0000000b 00000003 627965 00000000"),
        ("transport.ServiceRequest", ("ssh-userauth",), "05 0000000c 7373682d7573657261757468"),
        ("userauth.UserauthFailure", (("publickey", "x"), True), "33 0000000b 7075626c69636b65792c78 01"),
        ("connection.GlobalRequest", ("a", True, b"\x07"), "50 00000001 61 01 07"),
        ("connection.ChannelData", (1, b"abc"), "5e 00000001 00000003 616263"),
        ("connection.ChannelWindowAdjust", (2, 2**32 - 1), "5d 00000002 ffffffff"),
        ("connection.TcpipForwardReply", (8080,), "00001f90"),
    ],
)
def test_the_bytes_are_those_of_the_standards(name: str, values: tuple[object, ...], encoded: str) -> None:
    module, _, cls = name.partition(".")
    value = getattr(importlib.import_module(f"trio_ssh.wire.{module}"), cls)(*values)
    assert value.encode() == bytes.fromhex(encoded)


@pytest.mark.parametrize(
    ("module", "cls", "values", "secret"),
    [
        ("userauth", "UserauthRequest", ("u", "s", "password", b"hunter2"), "hunter2"),
        ("userauth", "PasswordDetails", (False, "hunter2"), "hunter2"),
        ("userauth", "PasswordChangeDetails", (True, "hunter2", "hunter3"), "hunter"),
        ("userauth", "UserauthInfoResponse", (1, b"hunter2"), "hunter2"),
    ],
)
def test_a_secret_is_not_in_the_repr(module: str, cls: str, values: tuple[object, ...], secret: str) -> None:
    value = getattr(importlib.import_module(f"trio_ssh.wire.{module}"), cls)(*values)
    assert cls in repr(value)
    assert secret not in repr(value)
