"""RFC 4251 section 5: the data types, and how a message is declared.

A message is one declaration: its number, and its fields in order.

    @message(93)
    class ChannelWindowAdjust(DeclaredMessage):
        recipient: UInt32
        bytes_to_add: UInt32

The decorator makes of it an attrs class with `encode` and `decode`.  Decoding is strict: a field that reaches past the
end, a count that the remaining bytes can't hold, and a byte too many are all the peer's protocol errors; nothing is
ever filled up with zeros.  The decoders know nothing of what a value means.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import takewhile
from typing import Annotated, Any, ClassVar, Final, Protocol, Self, TypeVar, cast, dataclass_transform, get_type_hints

import attrs

from trio_ssh.errors import RemoteProtocolError

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")

#: Bytes of the longest multiple-precision integer that is read: an RSA modulus of 16,384 bits and its sign byte.
MPINT_BYTES: Final = 2049

Reading = tuple[Any, int]
"""A decoded value, and the offset behind it."""


class FieldType(Protocol):
    """One data type of RFC 4251 s5: how it is written, and how it is read."""

    def write(self, out: bytearray, value: Any) -> None:
        """Append `value` to `out`."""
        ...

    def read(self, data: bytes, offset: int) -> Reading:
        """Return the value that begins at `offset`, and the offset behind it."""
        ...


def _cut_short(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a message ends inside {what}")


class _Byte:
    def write(self, out: bytearray, value: int) -> None:
        out.append(value)

    def read(self, data: bytes, offset: int) -> Reading:
        if offset >= len(data):
            raise _cut_short("a byte")
        return data[offset], offset + 1


class _Boolean:
    def write(self, out: bytearray, value: bool) -> None:
        out.append(1 if value else 0)

    def read(self, data: bytes, offset: int) -> Reading:
        if offset >= len(data):
            raise _cut_short("a boolean")
        return data[offset] != 0, offset + 1  # RFC 4251 s5: every non-zero value is true


class _UInt32:
    def write(self, out: bytearray, value: int) -> None:
        out += _U32.pack(value)

    def read(self, data: bytes, offset: int) -> Reading:
        if offset + 4 > len(data):
            raise _cut_short("a uint32")
        return _U32.unpack_from(data, offset)[0], offset + 4


class _UInt64:
    def write(self, out: bytearray, value: int) -> None:
        out += _U64.pack(value)

    def read(self, data: bytes, offset: int) -> Reading:
        if offset + 8 > len(data):
            raise _cut_short("a uint64")
        return _U64.unpack_from(data, offset)[0], offset + 8


class _String:
    def write(self, out: bytearray, value: Any) -> None:
        out += _U32.pack(len(value))
        out += value

    def read(self, data: bytes, offset: int) -> Reading:
        start = offset + 4
        if start > len(data):
            raise _cut_short("a string's length")
        end = start + _U32.unpack_from(data, offset)[0]
        if end > len(data):
            raise _cut_short("a string")
        return data[start:end], end


class _Text(_String):
    """UTF-8.  Bytes that are not UTF-8 survive a round trip, as in file names: they are not ours to refuse here."""

    def write(self, out: bytearray, value: Any) -> None:
        super().write(out, value.encode("utf-8", "surrogateescape"))

    def read(self, data: bytes, offset: int) -> Reading:
        value, offset = super().read(data, offset)
        return value.decode("utf-8", "surrogateescape"), offset


class _MPInt(_String):
    def write(self, out: bytearray, value: Any) -> None:
        super().write(out, mpint_bytes(value))

    def read(self, data: bytes, offset: int) -> Reading:
        value, offset = super().read(data, offset)
        if len(value) > MPINT_BYTES:
            raise RemoteProtocolError(f"an integer of {len(value)} bytes; at most {MPINT_BYTES} are read")
        return int.from_bytes(value, "big", signed=True), offset


class _NameList(_String):
    def write(self, out: bytearray, value: Any) -> None:
        super().write(out, ",".join(value).encode("ascii"))

    def read(self, data: bytes, offset: int) -> Reading:
        value, offset = super().read(data, offset)
        # Told from one count, before a list is built: a name-list may be as long as a packet.
        if value.count(b",") >= MAX_NAMES:
            raise RemoteProtocolError(f"a name-list of more than {MAX_NAMES} names")
        if not value.isascii():
            raise RemoteProtocolError("a name-list with bytes that are not ASCII")
        return tuple(value.decode("ascii").split(",")) if value else (), offset


class _Rest:
    """All that remains of the message: what its reader decodes once it knows how."""

    def write(self, out: bytearray, value: bytes) -> None:
        out += value

    def read(self, data: bytes, offset: int) -> Reading:
        return data[offset:], len(data)


class _Cookie:
    """Sixteen bytes without a length: the cookie of a KEXINIT."""

    def write(self, out: bytearray, value: bytes) -> None:
        out += value

    def read(self, data: bytes, offset: int) -> Reading:
        if offset + 16 > len(data):
            raise _cut_short("a cookie")
        return data[offset : offset + 16], offset + 16


#: Names in the longest name-list that is read.
MAX_NAMES: Final = 1024

BYTE: Final[FieldType] = _Byte()
BOOLEAN: Final[FieldType] = _Boolean()
UINT32: Final[FieldType] = _UInt32()
UINT64: Final[FieldType] = _UInt64()
STRING: Final[FieldType] = _String()
TEXT: Final[FieldType] = _Text()
MPINT: Final[FieldType] = _MPInt()
NAME_LIST: Final[FieldType] = _NameList()
REST: Final[FieldType] = _Rest()
COOKIE: Final[FieldType] = _Cookie()

Byte = Annotated[int, BYTE]
Boolean = Annotated[bool, BOOLEAN]
UInt32 = Annotated[int, UINT32]
UInt64 = Annotated[int, UINT64]
String = Annotated[bytes, STRING]
Text = Annotated[str, TEXT]
MPInt = Annotated[int, MPINT]
NameList = Annotated[tuple[str, ...], NAME_LIST]
Rest = Annotated[bytes, REST]
Cookie = Annotated[bytes, COOKIE]


def mpint_bytes(value: int) -> bytes:
    """RFC 4251 s5: two's complement, the shortest that keeps the sign; nothing at all for zero."""
    if value == 0:
        return b""
    return value.to_bytes((value if value > 0 else ~value).bit_length() // 8 + 1, "big", signed=True)


class Structure:
    """What a declaration becomes: fields in order, without a number.  The data of channel requests are such."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[tuple[str, FieldType], ...]] = ()
    #: The numbers that most messages begin with, read and written in one go; and the fields behind them.
    HEAD: ClassVar[struct.Struct] = struct.Struct("")
    HEAD_NAMES: ClassVar[tuple[str, ...]] = ()
    TAIL: ClassVar[tuple[tuple[str, FieldType], ...]] = ()
    #: Fields that a repr leaves out: they may hold secrets.
    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name, _ in self.FIELDS)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name, _ in self.FIELDS)))

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, _ in self.FIELDS if name not in self.HIDDEN)
        return f"{type(self).__name__}({', '.join(shown)})"

    def encode_fields(self, out: bytearray) -> None:
        """Append the fields to `out`, in their order."""
        if self.HEAD_NAMES:
            out += self.HEAD.pack(*[getattr(self, name) for name in self.HEAD_NAMES])
        for name, field in self.TAIL:
            field.write(out, getattr(self, name))

    def encode(self) -> bytes:
        """Return the fields' bytes."""
        out = bytearray()
        self.encode_fields(out)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read the fields from `offset` to the end of `data`.

        Raises:
            RemoteProtocolError: a field is cut short or bytes are left over.
        """
        values: list[Any] = []
        fields = cls.FIELDS
        if offset + cls.HEAD.size <= len(data):
            values.extend(cls.HEAD.unpack_from(data, offset))
            offset += cls.HEAD.size
            fields = cls.TAIL
        for name, field in fields:
            try:
                value, offset = field.read(data, offset)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(f"{cls.__name__}.{name}: {error}") from None
            values.append(value)
        if offset != len(data):
            raise RemoteProtocolError(f"{cls.__name__}: {len(data) - offset} bytes too many")
        return cls(*values)


class DeclaredMessage(Structure):
    """A structure with a message number, which is the first byte of its payload."""

    __slots__ = ()
    NUMBER: ClassVar[int]

    def encode(self) -> bytes:
        """Return the payload: the number, then the fields' bytes."""
        out = bytearray((self.NUMBER,))
        self.encode_fields(out)
        return bytes(out)

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Read a whole payload, whose first byte the caller has looked at already."""
        return cls.decode(payload, 1)


T = TypeVar("T", bound=Structure)
M = TypeVar("M", bound=DeclaredMessage)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def structure(cls: type[T]) -> type[T]:
    """Make a value class of a declaration's fields, with `encode` and `decode`.

    Measured: attrs' own comparison, repr and freezing cost 0.3 ms a class at import, and freezing a microsecond a
    message.  The base class does the first two, and the type checkers know the values as frozen.
    """
    made: type[T] = attrs.define(eq=False, repr=False)(cls)
    hints = get_type_hints(made, include_extras=True)
    made.FIELDS = tuple(
        (field.name, hints[field.name].__metadata__[0])
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", made))
    )
    made.HIDDEN = frozenset(
        field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", made)) if not field.repr
    )
    head = [name for name, _ in takewhile(lambda field: field[1] is UINT32, made.FIELDS)]
    made.HEAD = struct.Struct(f">{len(head)}I")
    made.HEAD_NAMES = tuple(head)
    made.TAIL = made.FIELDS[len(head) :]
    return made


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def message(number: int) -> Callable[[type[M]], type[M]]:
    """Declare the message with this number; the class below it names its fields in order."""

    def declare(cls: type[M]) -> type[M]:
        made = structure(cls)
        made.NUMBER = number
        return made

    return declare
