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
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import takewhile
from typing import Annotated, Any, ClassVar, Final, Protocol, Self, TypeVar, cast, dataclass_transform, get_type_hints

import attrs

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.values import Value, value, written

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
        out += _encoded_names(tuple(value))

    def read(self, data: bytes, offset: int) -> Reading:
        value, offset = super().read(data, offset)
        return (_decoded_names if len(value) <= _REMEMBERED_BYTES else _decode_names)(value), offset


def _encode_names(names: tuple[str, ...]) -> bytes:
    joined = ",".join(names).encode("ascii")
    return _U32.pack(len(joined)) + joined


def _decode_names(encoded: bytes) -> tuple[str, ...]:
    # Told from one count, before a list is built: a name-list may be as long as a packet.
    if encoded.count(b",") >= MAX_NAMES:
        raise RemoteProtocolError(f"a name-list of more than {MAX_NAMES} names")
    if not encoded.isascii():
        raise RemoteProtocolError("a name-list with bytes that are not ASCII")
    return tuple(encoded.decode("ascii").split(",")) if encoded else ()


#: Measured: the twenty name-lists of a key exchange cost 40 us, and are the same in nearly all of them.  What a peer
#: sent is remembered only where it is short.
_REMEMBERED_BYTES: Final = 1024
_encoded_names = lru_cache(maxsize=64)(_encode_names)
_decoded_names = lru_cache(maxsize=64)(_decode_names)


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


class Structure(Value):
    """What a declaration becomes: fields in order, without a number.  The data of channel requests are such."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[tuple[str, FieldType], ...]] = ()
    #: What was written for this declaration alone, when it was first wanted.
    ENCODER: ClassVar[Callable[[Any], bytes] | None] = None
    DECODER: ClassVar[Callable[[bytes, int], tuple[Any, ...] | None] | None] = None

    def encode_fields(self, out: bytearray) -> None:
        """Append the fields to `out`, in their order."""
        out += self.encode()

    def encode(self) -> bytes:
        """Return the fields' bytes.

        Raises:
            ValueError: a number is too large for its field, or negative.
        """
        cls = type(self)
        try:
            return (cls.ENCODER or _compile_encoder(cls))(self)
        except struct.error:
            raise self._out_of_range() from None

    def _out_of_range(self) -> ValueError:
        """Say which number can't be sent."""
        for name, field in self.FIELDS:
            if (code := _CODES.get(field)) is not None:
                value = getattr(self, name)
                try:
                    struct.pack(f">{code}", value)
                except struct.error:
                    most = 256 ** struct.calcsize(f">{code}") - 1
                    return ValueError(f"{type(self).__name__}: {name} is 0 .. {most}, not {value!r}")
        return ValueError(f"{type(self).__name__}: a field is too long")

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read the fields from `offset` to the end of `data`.

        Raises:
            RemoteProtocolError: a field is cut short or bytes are left over.
        """
        values = (cls.DECODER or _compile_decoder(cls))(data, offset)
        return cls(*(values if values is not None else cls._read_fields(data, offset)))

    @classmethod
    def _read_fields(cls, data: bytes, offset: int) -> list[Any]:
        """Read field by field, and say which one is wrong."""
        values: list[Any] = []
        for name, field in cls.FIELDS:
            try:
                value, offset = field.read(data, offset)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(f"{cls.__name__}.{name}: {error}") from None
            values.append(value)
        if offset != len(data):
            raise RemoteProtocolError(f"{cls.__name__}: {len(data) - offset} bytes too many")
        return values


class DeclaredMessage(Structure):
    """A structure with a message number, which is the first byte of its payload."""

    __slots__ = ()
    NUMBER: ClassVar[int]
    NUMBER_BYTE: ClassVar[bytes]

    def encode(self) -> bytes:
        """Return the payload: the number, then the fields' bytes.

        Raises:
            ValueError: as `Structure.encode`.
        """
        cls = type(self)
        try:
            return cls.NUMBER_BYTE + (cls.ENCODER or _compile_encoder(cls))(self)
        except struct.error:
            raise self._out_of_range() from None

    def encode_fields(self, out: bytearray) -> None:
        """Append the fields to `out`, in their order and without the number."""
        cls = type(self)
        out += (cls.ENCODER or _compile_encoder(cls))(self)

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Read a whole payload, whose first byte the caller has looked at already."""
        return cls.decode(payload, 1)


# -- one encoder and one decoder for each declaration, written as attrs writes its methods.  Measured: 1 us for a
# message of four fields, where a loop over them takes 4; a command's two round trips carry twenty messages.


def _compile_encoder(cls: type[Structure]) -> Callable[[Any], bytes]:
    """Write a function that joins the fields' bytes.  Numbers and lengths that are neighbours are packed in one go."""
    lines: list[str] = []
    parts: list[str] = []
    names: dict[str, Any] = {}
    codes: list[str] = []
    numbers: list[str] = []

    def pack() -> None:
        if codes:
            names[f"pack{len(parts)}"] = struct.Struct(">" + "".join(codes)).pack
            parts.append(f"pack{len(parts)}({', '.join(numbers)})")
            codes.clear()
            numbers.clear()

    for index, (name, field) in enumerate(cls.FIELDS):
        value = f"self.{name}"
        if field in _CODES:
            codes.append(_CODES[field])
            numbers.append(value)
        elif field is STRING or field is TEXT:
            encode = '.encode("utf-8", "surrogateescape")' if field is TEXT else ""
            lines.append(f"v{index} = {value}{encode}")
            codes.append("I")
            numbers.append(f"len(v{index})")
            pack()
            parts.append(f"v{index}")
        elif field is REST:
            pack()
            parts.append(value)
        else:
            pack()
            names[f"write{index}"] = field.write
            lines.append(f"v{index} = bytearray()")
            lines.append(f"write{index}(v{index}, {value})")
            parts.append(f"v{index}")
    pack()
    # Where the first part is bytes, so is the sum.
    lines.append("return " + " + ".join(["b''", *parts] if not parts or not parts[0].startswith("pack") else parts))
    cls.ENCODER = encoder = written("encode", "self", lines, names)
    return cast("Callable[[Any], bytes]", encoder)


def _compile_decoder(cls: type[Structure]) -> Callable[[bytes, int], tuple[Any, ...] | None]:
    """Write a function that reads the fields, or returns None where something is wrong; `_read_fields` says what."""
    lines = ["size = len(data)"]
    names: dict[str, Any] = {"length": _U32.unpack_from}
    fields = list(enumerate(cls.FIELDS))
    while fields:
        index, (_, field) = fields[0]
        run = len(list(takewhile(lambda item: item[1][1] in _CODES, fields)))
        if run:
            layout = struct.Struct(">" + "".join(_CODES[item[1][1]] for item in fields[:run]))
            names[f"unpack{index}"] = layout.unpack_from
            values = ", ".join(f"v{item[0]}" for item in fields[:run])
            lines.append(f"{values}, = unpack{index}(data, offset)")
            lines.append(f"offset += {layout.size}")
            del fields[:run]
            continue
        if field is STRING or field is TEXT:
            decode = '.decode("utf-8", "surrogateescape")' if field is TEXT else ""
            lines.append("start = offset + 4")
            lines.append("offset = start + length(data, offset)[0]")
            lines.append("if offset > size: return None")
            lines.append(f"v{index} = data[start:offset]{decode}")
        elif field is REST:
            lines.append(f"v{index} = data[offset:]")
            lines.append("offset = size")
        else:
            names[f"read{index}"] = field.read
            lines.append(f"v{index}, offset = read{index}(data, offset)")
        del fields[:1]
    body = [f"    {line}" for line in lines]
    result = "".join(f"v{index}, " for index in range(len(cls.FIELDS)))
    cls.DECODER = decoder = written(
        "decode",
        "data, offset",
        ["try:", *body, "except errors: return None", f"return ({result}) if offset == size else None"],
        {**names, "errors": (struct.error, RemoteProtocolError)},
    )
    return cast("Callable[[bytes, int], tuple[Any, ...] | None]", decoder)


#: The fields that `struct` reads, and what it calls them.
_CODES: Final[dict[FieldType, str]] = {BYTE: "B", BOOLEAN: "?", UINT32: "I", UINT64: "Q"}

T = TypeVar("T", bound=Structure)
M = TypeVar("M", bound=DeclaredMessage)


class _Fields:
    """Reads a declaration's fields from its annotations when they are first wanted."""

    def __get__(self, instance: object, owner: type[Structure]) -> tuple[tuple[str, FieldType], ...]:
        try:
            hints = {name: _named(owner, name) for name in owner.__match_args__}
        except (KeyError, TypeError):
            hints = get_type_hints(owner, include_extras=True)
        owner.FIELDS = tuple((name, hints[name].__metadata__[0]) for name in owner.__match_args__)
        return owner.FIELDS


def _named(owner: type, field: str) -> Any:
    """Return a field's type, which nearly always is a name of the module of its declaration.

    Measured: `get_type_hints` takes 190 us for a declaration, and a first connection needs forty.

    Raises:
        KeyError, TypeError: it is something else.
    """
    for cls in owner.__mro__:
        if field in (annotations := vars(cls).get("__annotations__", {})):
            return vars(sys.modules[cls.__module__])[annotations[field]]
    raise KeyError(field)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def structure(cls: type[T]) -> type[T]:
    """Make a value class of a declaration's fields, with `encode` and `decode`."""
    cls.FIELDS = cast("tuple[tuple[str, FieldType], ...]", _Fields())
    cls.ENCODER = cls.DECODER = None  # not those of a declaration that this one adds to
    return value(cls)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def message(number: int) -> Callable[[type[M]], type[M]]:
    """Declare the message with this number; the class below it names its fields in order."""

    def declare(cls: type[M]) -> type[M]:
        made = structure(cls)
        made.NUMBER = number
        made.NUMBER_BYTE = bytes((number,))
        return made

    return declare
