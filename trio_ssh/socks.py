"""SOCKS 4, 4a and 5, the server's side of a handshake: what a client asks for, and what it is told.

Sealed like the core: bytes go in and come out, and whoever has them decides what is connected.  CONNECT without a login
is all there is; whoever may connect here may use it.

Source: RFC 1928; "SOCKS: A protocol for TCP proxy across firewalls", and its extension 4A.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Generator
from typing import Final

import attrs

from trio_ssh.wire.numbers import OpenFailureReason
from trio_ssh.wire.text import printable

#: A name's length is one byte in version 5.  Version 4 says nothing of how long its texts may be.
LONGEST_TEXT: Final = 255

_CONNECT: Final = 1
_NOT_IN_NAMES: Final = re.compile(r"[\x00-\x20\x7f]")

_GENERAL_FAILURE: Final = 1
_COMMAND_UNKNOWN: Final = 7
_ADDRESS_TYPE_UNKNOWN: Final = 8
_REASONS: Final = {
    OpenFailureReason.ADMINISTRATIVELY_PROHIBITED: 2,  # "connection not allowed by ruleset"
    OpenFailureReason.CONNECT_FAILED: 5,  # "connection refused"; SSH has one code for all that may go wrong
}

#: What to tell the client first, and how many bytes to read then.
_Step = tuple[bytes, int]


class SocksError(Exception):
    """The client speaks no SOCKS, or wants what there is not.

    Attributes:
        reply: what it is told before the connection is closed; empty if it wouldn't understand.
    """

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(text)
        self.reply = reply


@attrs.frozen
class SocksRequest:
    """Where a client wants to be connected to.

    Attributes:
        version: 4 or 5.
        host: a name, or an address.
    """

    version: int
    host: str
    port: int

    def granted(self) -> bytes:
        """Return the reply of success.  What follows it is between the client and whom it is connected to."""
        return _reply_4(is_granted=True) if self.version == 4 else _reply_5(0)

    def refused(self, reason: int) -> bytes:
        """Return the reply of failure.

        Args:
            reason: an `OpenFailureReason`, or any other number that a server has made up.
        """
        if self.version == 4:
            return _reply_4(is_granted=False)
        return _reply_5(next((code for known, code in _REASONS.items() if known == reason), _GENERAL_FAILURE))


def _reply_4(*, is_granted: bool) -> bytes:
    return struct.pack(">BBHI", 0, 0x5A if is_granted else 0x5B, 0, 0)


def _reply_5(code: int) -> bytes:
    # The address is that of our end of the connection, which nobody here knows.
    return struct.pack(">BBBBIH", 5, code, 0, 1, 0, 0)


def _host(name: bytes, refusal: bytes) -> str:
    try:
        host = name.decode("utf-8")
    except UnicodeDecodeError:
        host = ""
    if not host or _NOT_IN_NAMES.search(host):
        raise SocksError(f"no host is called '{printable(name, 64)}'", refusal)
    return host


def _negotiate() -> Generator[_Step, bytes, SocksRequest]:
    """Read a request, from its first byte to its last."""
    (version,) = yield b"", 1
    match version:
        case 5:
            return (yield from _version_5())
        case 4:
            return (yield from _version_4())
        case _:
            raise SocksError(f"what connects here speaks no SOCKS: it began with the byte 0x{version:02x}")


def _version_5() -> Generator[_Step, bytes, SocksRequest]:
    (count,) = yield b"", 1
    methods = yield b"", count
    if 0 not in methods:
        raise SocksError("the client wants to log in, and there is nothing to log in to", b"\x05\xff")
    version, command, _, kind = yield b"\x05\x00", 4
    if version != 5:
        raise SocksError(f"a request of version {version} in a handshake of version 5", _reply_5(_GENERAL_FAILURE))
    match kind:
        case 1:
            host = str(ipaddress.IPv4Address((yield b"", 4)))
        case 3:
            (length,) = yield b"", 1
            host = _host((yield b"", length), _reply_5(_GENERAL_FAILURE))
        case 4:
            host = str(ipaddress.IPv6Address((yield b"", 16)))
        case _:
            raise SocksError(f"there is no type of address {kind}", _reply_5(_ADDRESS_TYPE_UNKNOWN))
    (port,) = struct.unpack(">H", (yield b"", 2))
    # Not before the rest was read: a socket that is closed with something unread takes its last words with it.
    if command != _CONNECT:
        raise SocksError(f"the client wants command {command}, which is not CONNECT", _reply_5(_COMMAND_UNKNOWN))
    return SocksRequest(5, host, port)


def _version_4() -> Generator[_Step, bytes, SocksRequest]:
    command, port, address = struct.unpack(">BHI", (yield b"", 7))
    yield from _text()  # the user's name, which proves nothing
    refusal = _reply_4(is_granted=False)
    # 4a: an address that can't be, 0.0.0.x, stands for a name behind it.
    host = _host((yield from _text()), refusal) if 0 < address < 256 else str(ipaddress.IPv4Address(address))
    if command != _CONNECT:
        raise SocksError(f"the client wants command {command}, which is not CONNECT", refusal)
    return SocksRequest(4, host, port)


def _text() -> Generator[_Step, bytes, bytes]:
    """Read a text up to the NUL that ends it."""
    found = bytearray()
    while (byte := (yield b"", 1)) != b"\0":
        found += byte
        if len(found) > LONGEST_TEXT:
            raise SocksError(f"a text of more than {LONGEST_TEXT} bytes", _reply_4(is_granted=False))
    return bytes(found)


class SocksHandshake:
    """One client's handshake, fed with what comes.

    Attributes:
        request: what the client asks for, once all of it has come.
        rest: what came behind the request: the first bytes for whom it is connected to.
    """

    def __init__(self) -> None:
        self.request: SocksRequest | None = None
        self.rest: bytes = b""
        self._steps = _negotiate()
        _, self._wanted = next(self._steps)
        self._unread = bytearray()

    def receive(self, data: bytes | bytearray) -> bytes:
        """Read what has come, and return what the client is to be told now.

        Raises:
            SocksError: nothing comes of it.  Tell the client the error's `reply`, and close.
        """
        self._unread += data
        answer = bytearray()
        while len(self._unread) >= self._wanted:
            taken = bytes(self._unread[: self._wanted])
            del self._unread[: self._wanted]
            try:
                said, self._wanted = self._steps.send(taken)
            except StopIteration as end:
                self.request = end.value
                self.rest = bytes(self._unread)
                break
            except SocksError as error:
                # What was said before it, in the same step of the client's, is not lost.
                error.reply = bytes(answer) + error.reply
                raise
            answer += said
        return bytes(answer)
