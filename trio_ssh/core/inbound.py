"""RFC 4253 section 6, receiving: bytes become packets.

A buffer walked by an offset.  Owns sequence numbers, lengths, the opening key and the bytes not yet walked; refuses to
know what a payload means.  The walk is lazy: a packet is opened when it is asked for, so that new keys act in the
middle of a read.
"""

from __future__ import annotations

import struct
from typing import Final

from trio_ssh.core.limits import Limits
from trio_ssh.crypto.cipher import NullOpener, Opener, bad_tag
from trio_ssh.crypto.compression import Decompressor
from trio_ssh.errors import RemoteProtocolError

_EMPTY = memoryview(b"")

_unpack_uint32: Final = struct.Struct(">I").unpack_from


class _Discarding:
    """Waits until the longest packet would be over, and fails as the opener in whose place it stands.

    RFC 4253 s6 lets a receiver tell at once that a length or a tag is wrong.  Under CBC that tells one in the middle
    what the length was, and with it four bytes of any block (CVE-2008-5161); OpenSSH reads on, and so do we.  The rest
    is decrypted and authenticated too: the time that it takes must not tell either.

    Args:
        opener: whose packet is bad.
        size: bytes that are left of the longest packet; a multiple of the block size.
    """

    pads_length = True
    has_clear_length = False
    hides_length = False

    def __init__(self, opener: Opener, size: int) -> None:
        self._opener = opener
        self._rest = size
        self.block_size: int = opener.block_size
        self.tag_size: int = opener.tag_size
        self.header_size: int = size

    def open_length(self, sequence: int, data: memoryview) -> int:
        """Fail: all of the rest is here.

        Raises:
            RemoteProtocolError: that there is a bad tag.
        """
        self._opener.open(sequence, data[: self._rest], self._rest - 4 - self.tag_size)
        raise bad_tag()

    def open(self, sequence: int, data: memoryview, length: int) -> bytes:
        """Fail likewise; `open_length` has done so before.

        Raises:
            RemoteProtocolError: that there is a bad tag.
        """
        raise bad_tag()


class Inbound:
    """The receiving half of a connection's transport layer.

    `feed` gives bytes, `next_packet` takes packets one at a time until it returns None.
    """

    __slots__ = (
        "_decompressor",
        "_length",
        "_offset",
        "_opener",
        "_packet_bytes",
        "_padded_head",
        "_partial",
        "_view",
        "bytes_since_keys",
        "packets_since_keys",
        "sequence",
    )

    def __init__(self, limits: Limits) -> None:
        self._packet_bytes = limits.packet_bytes
        self._opener: Opener = NullOpener()
        #: Bytes of the length that count towards whole blocks.
        self._padded_head = 4
        self._decompressor: Decompressor | None = None
        #: The newest read, and how far it is walked.
        self._view = _EMPTY
        self._offset = 0
        #: A packet that began in an earlier read, as far as it is there; it comes before `_view`.
        self._partial = bytearray()
        #: packet_length of the packet at hand, or -1 while it can't be told.
        self._length = -1
        self.sequence: int = 0
        self.bytes_since_keys: int = 0
        self.packets_since_keys: int = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes fed and not walked yet."""
        return len(self._partial) + len(self._view) - self._offset

    def use(self, opener: Opener, decompressor: Decompressor | None, *, reset_sequence: bool) -> None:
        """Open the next packet with new keys.  Called between two packets."""
        self._opener = opener
        self._padded_head = 4 if opener.pads_length else 0
        self._decompressor = decompressor
        if reset_sequence:
            self.sequence = 0
        self.bytes_since_keys = 0
        self.packets_since_keys = 0

    def decompress_with(self, decompressor: Decompressor | None) -> None:
        """Inflate payloads from the next packet on."""
        self._decompressor = decompressor

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Give bytes to walk; they are not copied, and mustn't change before `keep`."""
        if self._offset < len(self._view):
            # Only while a question paused the walk: whole reads pile up, and the caller bounds them.
            data = b"".join((self._view[self._offset :], data))
        self._view = memoryview(data)
        self._offset = 0

    def keep(self) -> None:
        """Copy what was fed and is not walked yet: its owner uses it again."""
        if self._view:
            self._view = memoryview(bytes(self._view[self._offset :]))
            self._offset = 0

    def next_packet(self) -> tuple[bytes, int] | None:
        """Open the next packet, or return None where it isn't complete.

        Returns:
            (plain, end): the payload is ``plain[1:end]``, at least one byte long.  It is not cut out here because bulk
            data would be copied by that.

        Raises:
            RemoteProtocolError: a length, the padding, the MAC or the compression is wrong.
        """
        opener = self._opener
        if self._partial:
            packet = self._complete_partial()
            if packet is None:
                return None
        else:
            offset = self._offset
            view = self._view
            available = len(view) - offset
            if not available:
                self._view, self._offset = _EMPTY, 0
                return None
            length = self._length
            if length < 0:
                if available < opener.header_size:
                    self._keep_rest()
                    return None
                if opener.has_clear_length:
                    length = _unpack_uint32(view, offset)[0]
                else:
                    length = opener.open_length(self.sequence, view[offset:])
                # As `_checked` says; a call for each small packet is a tenth of what it costs.
                if length < 5 or length > self._packet_bytes or (length + self._padded_head) % opener.block_size:
                    length = self._checked(length)
                self._length = length
            end = offset + 4 + length + opener.tag_size
            if end > len(view):
                self._keep_rest()
                return None
            self._offset = end
            packet = view[offset:end]
        length = self._length
        self._length = -1
        try:
            plain = opener.open(self.sequence, packet, length)
        except RemoteProtocolError:
            left = self._longest - length
            if not opener.hides_length or left <= 0:
                raise
            self._opener = _Discarding(opener, left)
            return self.next_packet()
        self.sequence = (self.sequence + 1) & 0xFFFFFFFF
        self.packets_since_keys += 1
        self.bytes_since_keys += length
        padding = plain[0]
        end = length - padding
        if padding < 4 or end < 2:
            raise RemoteProtocolError(f"a packet of {length} bytes with {padding} bytes of padding")
        if self._decompressor is not None:
            payload = self._decompressor.decompress(plain[1:end], self._packet_bytes)
            if not payload:
                raise RemoteProtocolError("a compressed packet without a payload")
            return b"\0" + payload, 1 + len(payload)
        return plain, end

    @property
    def _longest(self) -> int:
        """The longest packet_length that is told behind a first block: where all bad ones end."""
        return self._packet_bytes - (self._packet_bytes + 4) % self._opener.block_size

    def _checked(self, length: int) -> int:
        """Return a length that a packet may have, as told from it alone: before more is waited for or decrypted."""
        opener = self._opener
        if not (length < 5 or length > self._packet_bytes or (length + self._padded_head) % opener.block_size):
            return length
        if opener.hides_length:
            return self._longest
        if 5 <= length <= self._packet_bytes:
            raise RemoteProtocolError(f"a packet length of {length}, which doesn't fill blocks of {opener.block_size}")
        raise RemoteProtocolError(f"a packet length of {length}; 5 to {self._packet_bytes} are allowed")

    def _keep_rest(self) -> None:
        """The read ends inside a packet: keep its beginning, so that the read itself can go."""
        if self._offset < len(self._view):
            self._partial += self._view[self._offset :]
        self._view = _EMPTY
        self._offset = 0

    def _complete_partial(self) -> memoryview | None:
        opener = self._opener
        partial = self._partial
        if self._length < 0:
            self._move(opener.header_size)
            if len(partial) < opener.header_size:
                return None
            self._length = self._checked(opener.open_length(self.sequence, memoryview(bytes(partial))))
        total = 4 + self._length + opener.tag_size
        self._move(total)
        if len(partial) < total:
            return None
        self._partial = bytearray()
        return memoryview(partial)

    def _move(self, size: int) -> None:
        """Move bytes from the read to the partial packet until that has `size`."""
        missing = size - len(self._partial)
        if missing > 0:
            self._partial += self._view[self._offset : self._offset + missing]
            self._offset = min(self._offset + missing, len(self._view))
            if self._offset == len(self._view):
                self._view = _EMPTY
                self._offset = 0
