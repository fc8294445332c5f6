"""RFC 4253 section 6, sending: payloads become packets in an outbox.

Owns sequence numbers, padding, compression, the sealing key and the bytes that wait to be sent.  Refuses to know what a
payload means, except for one rule: between our KEXINIT and our NEWKEYS only the transport's and the exchange's own
messages pass, and the rest waits in order (RFC 4253 s7.1).

Two outboxes swap: one fills while the other is being sent.
"""

from __future__ import annotations

import struct
from typing import Final, cast

from trio_ssh.core.buffers import LENT_BYTES, borrow, give_back
from trio_ssh.crypto.cipher import NullSealer, Sealer
from trio_ssh.crypto.compression import Compressor
from trio_ssh.errors import LocalProtocolError
from trio_ssh.wire.text import printable

_HEAD: Final = struct.Struct(">IB")
_ZEROS: Final = tuple(bytes(count) for count in range(256))

#: An outbox begins with this, which holds the small talk of an idle connection; the first large packet borrows another.
_SMALL_BYTES: Final = 512

#: What a held payload costs beside its bytes: an object's head and its place in a list.
_HELD_OVERHEAD: Final = 48

#: Answers to the peer, and grants of windows: what it can make us hold.  Our own requests are bounded by who makes
#: them.
_ANSWERS: Final = frozenset((81, 82, 91, 92, 93, 99, 100, 193))

#: Messages that pass during a key exchange: RFC 4253 s7.1.
_PASSES: Final = frozenset((1, 2, 3, 4, 7, 20, 21, *range(30, 50)))

#: The longest payload that we send of our own accord.  OpenSSH hangs up at packets of more than 256 KiB; this is less
#: by what padding, and a compression that doesn't, may add.
LARGEST_PAYLOAD: Final = 255 * 1024

#: What a message has beside its name and its details: numbers, lengths.
_HEADER_BYTES: Final = 64


def check_size(what: str, size: int) -> None:
    """Refuse to say what no peer would take: it would end the connection.

    Args:
        what: the name of a request or a channel type, or what else the message is.
        size: of what it carries.

    Raises:
        LocalProtocolError: that is too much for one message.
    """
    if size + len(what) + _HEADER_BYTES > LARGEST_PAYLOAD:
        raise LocalProtocolError(
            f"{size} bytes are too many for {printable(what, 64)!r}: a message has {LARGEST_PAYLOAD} at the most"
        )


class Outbound:
    """The sending half of a connection's transport layer."""

    __slots__ = (
        "_compressor",
        "_filling",
        "_filling_view",
        "_held",
        "_is_shut",
        "_sealer",
        "_sent",
        "_sent_view",
        "_small_view",
        "bytes_since_keys",
        "held_bytes",
        "is_gated",
        "packets_since_keys",
        "ready_bytes",
        "sequence",
    )

    def __init__(self) -> None:
        self._sealer: Sealer = NullSealer()
        self._compressor: Compressor | None = None
        self._filling = bytearray(_SMALL_BYTES)
        self._filling_view = memoryview(self._filling)
        #: Bytes that `data_to_send` would return now.
        self.ready_bytes: int = 0
        self._sent = bytearray(_SMALL_BYTES)
        self._sent_view: memoryview | None = None
        #: Where small packets are put together.
        self._small_view = memoryview(bytearray(_SMALL_BYTES))
        self._held: list[bytes] = []
        #: What the answers among them cost.
        self.held_bytes: int = 0
        #: True between our KEXINIT and our NEWKEYS, and when all is over.
        self.is_gated: bool = False
        self._is_shut = False
        self.sequence: int = 0
        self.bytes_since_keys: int = 0
        self.packets_since_keys: int = 0

    @property
    def queued_bytes(self) -> int:
        """Bytes sealed and not yet taken, and the memory that answers take which a key exchange holds back."""
        return self.ready_bytes + self.held_bytes

    # -- keys

    def use(self, sealer: Sealer, compressor: Compressor | None, *, reset_sequence: bool) -> None:
        """Seal with new keys from here on.

        Args:
            reset_sequence: strict key exchange numbers packets from 0 behind each NEWKEYS.
        """
        self._sealer = sealer
        self._compressor = compressor
        if reset_sequence:
            self.sequence = 0
        self.bytes_since_keys = 0
        self.packets_since_keys = 0

    def compress_with(self, compressor: Compressor | None) -> None:
        """Compress payloads from here on: ``zlib@openssh.com`` begins behind USERAUTH_SUCCESS."""
        self._compressor = compressor

    def open_gate(self) -> None:
        """Our NEWKEYS is sealed: seal what waited, in order."""
        self.is_gated = False
        held, self._held, self.held_bytes = self._held, [], 0
        for payload in held:
            self.seal(payload)

    def shut(self) -> None:
        """Nothing follows our goodbye (RFC 4253 s11.1): what is sent from here on is dropped."""
        self.is_gated = self._is_shut = True
        self._held, self.held_bytes = [], 0

    # -- sealing

    def send(self, payload: bytes) -> None:
        """Seal a payload, or hold it while a key exchange keeps it from passing."""
        if self._is_shut:
            return
        if self.is_gated and payload[0] not in _PASSES:
            self._held.append(payload)
            if payload[0] in _ANSWERS:
                self.held_bytes += len(payload) + _HELD_OVERHEAD
        else:
            self.seal(payload)

    def seal(self, payload: bytes) -> None:
        """Make a packet of `payload` and append it to the outbox."""
        if self._compressor is not None:
            payload = self._compressor.compress(payload)
        total, padding = self._measure(5 + len(payload))
        start = self.ready_bytes
        stop = start + total + self._sealer.tag_size
        if stop > len(self._filling):
            self._grow(stop)
        plain = self._small_view if total <= _SMALL_BYTES else self._scratch(total)
        _HEAD.pack_into(plain, 0, total - 4, padding)
        plain[5 : total - padding] = payload
        plain[total - padding : total] = _ZEROS[padding]
        self._sealer.seal(self.sequence, plain[:total], self._filling_view[start:stop])
        self._count(stop, 1, total)
        if total > _SMALL_BYTES:
            self._give_back_scratch(plain)

    def seal_data(self, head: bytes, data: memoryview, size: int, most: int) -> int:
        """Make packets of channel data, without a message object or a join: `head` and `size` bytes of `data` in each.

        Args:
            data: it is the caller's again on return.
            size: 1 .. len(data).
            most: bytes in the outbox from which on no more is sealed; there is room for one packet when this is called.

        Returns:
            Bytes taken: a multiple of `size`.
        """
        if self._compressor is not None:
            self.seal(head + data[:size])
            return size
        # The cipher wants padding_length, payload and padding in one run.  Measured: this copy of 32 KiB costs 1 us,
        # and feeding an AEAD in parts costs more.
        start = 5 + len(head)
        end = start + size
        total, padding = self._measure(end)
        # Packets of one size differ in nothing but their data.  Measured: a third of Python's share in each is saved.
        step = total + self._sealer.tag_size
        filled = self.ready_bytes
        count = min(len(data) // size, -(-(most - filled) // step))
        taken, stop = count * size, filled + count * step
        if stop > len(self._filling):
            self._grow(stop)
        plain = self._small_view if total <= _SMALL_BYTES else self._scratch(total)
        _HEAD.pack_into(plain, 0, total - 4, padding)
        plain[5:start] = head
        plain[end:total] = _ZEROS[padding]
        self._sealer.seal_run(
            self.sequence, plain[:total], plain[start:end], data[:taken], self._filling_view[filled:stop]
        )
        self._count(stop, count, total)
        if total > _SMALL_BYTES:
            self._give_back_scratch(plain)
        return taken

    def _measure(self, end: int) -> tuple[int, int]:
        """Return how long a packet is whose payload ends at `end`, and how much of that is padding.

        The padding is zeros, where RFC 4253 s6 suggests random bytes: under encryption the payload's own first bytes
        are as well known, and what the last packet left in the buffer must not travel to another reader.
        """
        sealer = self._sealer
        block = sealer.block_size
        padding = block - (end if sealer.pads_length else end - 4) % block
        if padding < 4:
            padding += block
        return end + padding, padding

    def _count(self, stop: int, count: int, total: int) -> None:
        """`count` packets of `total` bytes were sealed, up to `stop`."""
        self.ready_bytes = stop
        self.sequence = (self.sequence + count) & 0xFFFFFFFF
        self.packets_since_keys += count
        self.bytes_since_keys += count * total

    def _scratch(self, size: int) -> memoryview:
        """Borrow a buffer in which a large packet is put together, behind what the outbox may borrow.

        Measured: borrowed in this order, each has the memory that it had before, which is warm.
        """
        return memoryview(borrow() if size <= LENT_BYTES else bytearray(size))

    def _give_back_scratch(self, view: memoryview) -> None:
        buffer = cast("bytearray", view.obj)
        if len(buffer) == LENT_BYTES:
            give_back(buffer)

    def _grow(self, needed: int) -> None:
        """Go on in a larger outbox: a lent one, or beyond that one of our own."""
        larger = borrow() if needed <= LENT_BYTES else bytearray(needed + needed // 2)
        view = memoryview(larger)
        view[: self.ready_bytes] = self._filling_view[: self.ready_bytes]
        old = self._filling
        self._filling_view.release()
        self._filling, self._filling_view = larger, view
        if len(old) == LENT_BYTES:
            give_back(old)

    def _let_go_of_sent(self) -> None:
        if len(self._sent) > _SMALL_BYTES:
            if len(self._sent) == LENT_BYTES:
                give_back(self._sent)
            self._sent = bytearray(_SMALL_BYTES)

    def _swap(self) -> None:
        self._filling_view.release()
        self._sent, self._filling = self._filling, self._sent
        self._filling_view = memoryview(self._filling)

    # -- sending

    def fill_again(self) -> None:
        """All that `data_to_send` returned is sent, and more will be sealed: it is filled again, warm as it is."""
        if self._sent_view is not None:
            self._sent_view.release()
            self._sent_view = None
        if not self.ready_bytes and len(self._sent) == LENT_BYTES:
            self._swap()
            self._let_go_of_sent()

    def data_to_send(self) -> memoryview:
        """Return everything sealed since the last call, and begin to fill the other outbox.

        The view is valid until the next call; an empty one means that nothing waits and no memory is borrowed any more.
        """
        if self._sent_view is not None:
            self._sent_view.release()
            self._sent_view = None
        if self.ready_bytes == 0:
            if len(self._filling) > _SMALL_BYTES:
                self._swap()
            self._let_go_of_sent()
            return memoryview(b"")
        self._let_go_of_sent()
        self._swap()
        self._sent_view = memoryview(self._sent)[: self.ready_bytes]
        self.ready_bytes = 0
        return self._sent_view
