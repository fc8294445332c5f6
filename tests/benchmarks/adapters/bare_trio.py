"""No SSH at all: what trio, the system and AES-GCM take by themselves, in the shape that every library on trio has.

A reader's task waits for the socket, opens packets and hands what is in them to its user by a memory channel; the user
seals and writes.  There are no keys to agree on, no windows, channels or limits, and no check of anything.  So the
difference to it is about what SSH costs.  It is written plainly, not tuned: a library may use less CPU in places.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.benchmarks.adapters import roles
from tests.benchmarks.adapters.roles import CHUNK, ClientTask, Sample, ServerTask
from tests.benchmarks.adapters.with_trio_ssh import role

KEY: Final = bytes(16)
NONCE: Final = bytes(12)  # one for all, which SSH mustn't
TAG_BYTES: Final = 16
PACKET_BYTES: Final = 32 * 1024
READ_BYTES: Final = 256 * 1024
LENGTH: Final = struct.Struct(">I")


class Connection:
    """Packets over a socket: a length in the clear, AES-GCM behind it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cipher = AESGCM(KEY)
        self._plain = bytearray(PACKET_BYTES)
        self._sealed = bytearray(len(CHUNK) + len(CHUNK) // PACKET_BYTES * (LENGTH.size + TAG_BYTES))
        self._sender, self.arrived = trio.open_memory_channel[bytes](8)

    async def read(self) -> None:
        """Hand over what arrives, up to EOF."""
        buffer = bytearray(READ_BYTES)
        rest = b""
        with self._sender:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                size = os.readv(self._socket.fileno(), (buffer,))
                if not size:
                    return
                view = memoryview(buffer)[:size]
                data = memoryview(rest + view) if rest else view
                parts: list[bytes] = []
                offset = 0
                for end in ends(data):
                    parts.append(self._cipher.decrypt(NONCE, data[offset + LENGTH.size : end], None))
                    offset = end
                rest = bytes(data[offset:])
                # Bulk data is joined, as its user wants large pieces; the packet that names a command stands alone.
                if len(parts) > 1 and len(parts[0]) == PACKET_BYTES:
                    parts = [b"".join(parts)]
                for part in parts:
                    await self._sender.send(part)

    async def send(self, data: memoryview) -> None:
        """Seal and write up to a chunk, in packets."""
        end = 0
        for start in range(0, len(data), PACKET_BYTES):
            piece = data[start : start + PACKET_BYTES]
            self._plain[: len(piece)] = piece
            begin, end = end, end + LENGTH.size + len(piece) + TAG_BYTES
            LENGTH.pack_into(self._sealed, begin, len(piece) + TAG_BYTES)
            out = memoryview(self._sealed)[begin + LENGTH.size : end]
            self._cipher.encrypt_into(NONCE, memoryview(self._plain)[: len(piece)], None, out)
        view = memoryview(self._sealed)[:end]
        while view:
            try:
                view = view[os.write(self._socket.fileno(), view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """Say that no more comes."""
        self._socket.shutdown(socket.SHUT_WR)


def ends(data: memoryview) -> Iterator[int]:
    """Find where the complete packets end."""
    offset = 0
    while offset + LENGTH.size <= len(data):
        offset += LENGTH.size + LENGTH.unpack_from(data, offset)[0]
        if offset > len(data):
            return
        yield offset


@asynccontextmanager
async def connected(task: ClientTask) -> AsyncGenerator[Connection, None]:
    """Connect, and name the command in the first packet."""
    stream = await trio.open_tcp_stream(roles.HOST, task.port)
    connection = Connection(stream)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(connection.read)
        await connection.send(memoryview(task.command.encode()))
        yield connection
        nursery.cancel_scope.cancel()


async def echo(task: ClientTask) -> Sample:
    """Send one byte and await it, again and again."""
    async with connected(task) as connection:

        async def round_trip() -> float:
            started = time.perf_counter()
            await connection.send(memoryview(b"x"))
            roles.check("echo", await connection.arrived.receive(), b"x")
            return time.perf_counter() - started

        for _ in range(roles.WARM_UP_ROUND_TRIPS):
            await round_trip()
        with task.window() as window:
            seconds = [await round_trip() for _ in range(task.count)]
    return window.sample | roles.latencies(seconds)


async def exec_sequential(task: ClientTask) -> Sample:
    """Make the two round trips that a command takes: one for its channel, one for itself."""
    async with connected(attrs.evolve(task, command="echo")) as connection:
        with task.window() as window:
            for _ in range(2 * task.count):
                await connection.send(memoryview(b"x"))
                await connection.arrived.receive()
    return window.sample


async def bulk_down(task: ClientTask) -> Sample:
    """Read everything."""
    with task.window() as window:
        async with connected(task) as connection:
            received = 0
            async for data in connection.arrived:
                received += len(data)
        roles.check("bytes", received, task.size)
    return window.sample


async def bulk_up(task: ClientTask) -> Sample:
    """Write everything, and wait for the other side to have read it."""
    with task.window() as window:
        async with connected(task) as connection:
            left = task.size
            while left:
                size = min(left, len(CHUNK))
                await connection.send(memoryview(CHUNK)[:size])
                left -= size
            connection.end()
            roles.check("answer", await connection.arrived.receive(), b"x")
    return window.sample


async def handle(stream: trio.SocketStream) -> None:
    """Serve one connection."""
    connection = Connection(stream)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(connection.read)
        command = (await connection.arrived.receive()).decode()
        if command.startswith("source"):
            left = roles.source_size(command)
            while left:
                size = min(left, len(CHUNK))
                await connection.send(memoryview(CHUNK)[:size])
                left -= size
            connection.end()
        elif command == "echo":
            async for data in connection.arrived:
                await connection.send(memoryview(data))
        else:
            async for _ in connection.arrived:
                pass
            await connection.send(memoryview(b"x"))


def serve(task: ServerTask) -> None:
    """Serve until killed."""

    async def listen() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(functools.partial(trio.serve_tcp, handle, 0, host=roles.HOST))
            roles.announce(listeners[0].socket.getsockname()[1])

    trio.run(listen)


if __name__ == "__main__":
    roles.main(
        {
            "echo": role(echo),
            "exec_sequential": role(exec_sequential),
            "bulk_down": role(bulk_down),
            "bulk_up": role(bulk_up),
        },
        serve,
    )
