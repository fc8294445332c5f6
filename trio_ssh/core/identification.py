"""RFC 4253 section 4.2: the version exchange.

Owns the bytes up to the end of the peer's version line, and refuses to know what comes behind them.  A server may greet
a client with other lines first; a client may not.
"""

from __future__ import annotations

from typing import Final

from trio_ssh.core.limits import Limits
from trio_ssh.core.role import Role
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable

_NOT_SSH: Final = (b"HTTP/", b"220 ", b"220-", b"+OK", b"* OK", b"\x15\x03", b"\x16\x03", b"RFB ")


def our_version_line(software: str) -> bytes:
    """Return our identification, without CR LF.

    Args:
        software: RFC 4253 s4.2 softwareversion: printable ASCII without blanks and minus signs.
    """
    if not software or not all(33 <= ord(character) < 127 and character != "-" for character in software):
        raise ValueError(f"a software version is printable ASCII without blanks and '-', not {software!r}")
    return b"SSH-2.0-" + software.encode("ascii")


class Identification:
    """Reads the peer's version line."""

    __slots__ = ("_buffer", "_limits", "_lines", "_lines_bytes", "_role", "_said", "version_line")

    def __init__(self, role: Role, limits: Limits) -> None:
        self._role = role
        self._limits = limits
        self._buffer = bytearray()
        self._lines = 0
        self._lines_bytes = 0
        self._said = b""
        #: The peer's line without CR LF, once it is there.
        self.version_line: bytes | None = None

    def receive(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Take bytes; return those behind the version line when it is complete, else None.

        Raises:
            RemoteProtocolError: this is not SSH, or not a version that we speak; the text quotes what was said.
        """
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            if self._take(line):
                return bytes(self._buffer)
        self._check_unfinished()
        return None

    def what_was_said(self) -> str:
        """Return the beginning of what the peer said so far, safe to show."""
        return printable(bytes(self._said + self._buffer), 200)

    def _take(self, line: bytes) -> bool:
        if line.startswith(b"SSH-"):
            self._check_version(line)
            self.version_line = line
            return True
        self._said = (self._said + line + b"\n")[:800]
        self._lines += 1
        self._lines_bytes += len(line) + 1
        self._check_not_ssh(line)
        return False

    def _check_not_ssh(self, line: bytes) -> None:
        if self._role is Role.SERVER:
            raise self._refusal("a client must send its version line first")
        if line.startswith(_NOT_SSH) or any(byte < 32 and byte != 9 for byte in line):
            raise self._refusal("this is not an SSH server")
        if self._lines > self._limits.lines_before_version or self._lines_bytes > self._limits.bytes_before_version:
            raise self._refusal("too much text before the version line")

    def _check_unfinished(self) -> None:
        """Refuse as soon as it can be told, rather than wait for an end of line that may never come."""
        head = bytes(self._buffer[: self._limits.version_line_bytes + 1])
        if head and not b"SSH-".startswith(head[:4]):
            if self._role is Role.SERVER or head.startswith(_NOT_SSH) or b"\0" in head:
                raise self._refusal("this is not SSH")
            if self._lines_bytes + len(self._buffer) > self._limits.bytes_before_version:
                raise self._refusal("too much text before the version line")
        elif len(self._buffer) > self._limits.version_line_bytes + 1:
            raise self._refusal(f"a version line of more than {self._limits.version_line_bytes} bytes")

    def _check_version(self, line: bytes) -> None:
        if len(line) > self._limits.version_line_bytes:
            raise self._refusal(f"a version line of more than {self._limits.version_line_bytes} bytes", line)
        if not (line.isascii() and line.decode("ascii").isprintable()):
            raise self._refusal("a version line with bytes that are not printable ASCII", line)
        # RFC 4253 s5.1: 1.99 is a server that also speaks the old protocol.  No client has a reason to say so.
        speaks_two = line.startswith(b"SSH-2.0-") or (self._role is Role.CLIENT and line.startswith(b"SSH-1.99-"))
        if not speaks_two or not line.split(b"-", 2)[2].strip():
            raise self._refusal("a protocol version that is not 2.0", line)

    def _refusal(self, why: str, line: bytes = b"") -> RemoteProtocolError:
        said = printable(line, 200) if line else self.what_was_said()
        return RemoteProtocolError(f"{why}; it said: {said}", DisconnectReason.PROTOCOL_VERSION_NOT_SUPPORTED)
