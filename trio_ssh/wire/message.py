"""The public `Message`: fields built and read one by one, for what is not declared.

Extensions, key blobs and hand-made requests are written with it.  The names are paramiko's; the reading is stricter:
what is not there raises, and nothing is filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.fields import BOOLEAN, BYTE, MPINT, NAME_LIST, STRING, UINT32, UINT64, FieldType


class Message:
    """A byte string under construction, or under reading, as a sequence of RFC 4251 s5 fields.

    Args:
        content: bytes to read from, or to go on appending to.

    Every ``add_`` returns the message, so that calls chain; every ``get_`` moves on behind what it read and raises
    `RemoteProtocolError` where the content ends too early.
    """

    __slots__ = ("_content", "_frozen", "_offset")

    def __init__(self, content: bytes | bytearray | memoryview = b"") -> None:
        self._content = bytearray(content)
        #: The content as it is read.  Copied once, not per field: a peer may send a thousand fields in a large packet.
        self._frozen: bytes | None = None
        self._offset = 0

    def __bytes__(self) -> bytes:
        return bytes(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"<Message of {len(self._content)} bytes, read to {self._offset}>"

    def asbytes(self) -> bytes:
        """Return everything that was added, whatever has been read."""
        return bytes(self._content)

    def rewind(self) -> None:
        """Read from the beginning again."""
        self._offset = 0

    def get_remainder(self) -> bytes:
        """Return the bytes not yet read, without moving on."""
        return bytes(self._content[self._offset :])

    def get_so_far(self) -> bytes:
        """Return the bytes already read."""
        return bytes(self._content[: self._offset])

    # -- building

    def _add(self, field: FieldType, value: object) -> Self:
        self._frozen = None
        field.write(self._content, value)
        return self

    def add_bytes(self, value: bytes | bytearray | memoryview) -> Self:
        """Append bytes as they are, without a length."""
        self._frozen = None
        self._content += value
        return self

    def add_byte(self, value: int | bytes) -> Self:
        """Append one byte, given as 0 .. 255 or as a byte string of length 1."""
        return self._add(BYTE, value if isinstance(value, int) else value[0])

    def add_boolean(self, value: bool) -> Self:
        """Append a boolean: one byte, 0 or 1."""
        return self._add(BOOLEAN, value)

    def add_int(self, value: int) -> Self:
        """Append a uint32."""
        return self._add(UINT32, value)

    def add_int64(self, value: int) -> Self:
        """Append a uint64."""
        return self._add(UINT64, value)

    def add_mpint(self, value: int) -> Self:
        """Append an integer of any size, as an mpint."""
        return self._add(MPINT, value)

    def add_string(self, value: str | bytes | bytearray | memoryview) -> Self:
        """Append a string with its length; text becomes UTF-8."""
        return self._add(STRING, value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value)

    def add_list(self, value: Iterable[str]) -> Self:
        """Append a name-list: ASCII names without commas."""
        return self._add(NAME_LIST, value)

    # -- reading

    def _get(self, field: FieldType) -> Any:
        if self._frozen is None:
            self._frozen = bytes(self._content)
        value, self._offset = field.read(self._frozen, self._offset)
        return value

    def get_bytes(self, count: int) -> bytes:
        """Read `count` bytes without a length."""
        end = self._offset + count
        if not self._offset <= end <= len(self._content):
            raise RemoteProtocolError(f"a message ends inside {count} bytes")
        value = bytes(self._content[self._offset : end])
        self._offset = end
        return value

    def get_byte(self) -> bytes:
        """Read one byte, as a byte string of length 1."""
        return self.get_bytes(1)

    def get_boolean(self) -> bool:
        """Read a boolean; any byte but 0 is true."""
        return bool(self._get(BOOLEAN))

    def get_int(self) -> int:
        """Read a uint32."""
        return int(self._get(UINT32))

    def get_int64(self) -> int:
        """Read a uint64."""
        return int(self._get(UINT64))

    def get_mpint(self) -> int:
        """Read an mpint of at most 2049 bytes."""
        return int(self._get(MPINT))

    def get_string(self) -> bytes:
        """Read a string as bytes."""
        value: bytes = self._get(STRING)
        return value

    def get_text(self) -> str:
        """Read a string as text; bytes that are not UTF-8 become lone surrogates, as in file names."""
        return self.get_string().decode("utf-8", "surrogateescape")

    def get_list(self) -> list[str]:
        """Read a name-list."""
        return list(self._get(NAME_LIST))
