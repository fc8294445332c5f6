"""An SFTP client by hand: it sends what packets it likes, and reads what comes, in any order."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor
from trio_ssh.sftp.messages import (
    Attrs,
    Close,
    Data,
    Extended,
    ExtendedReply,
    Handle,
    Init,
    Name,
    NamedFile,
    Open,
    Opendir,
    Packet,
    Read,
    Readdir,
    Status,
    Version,
    Write,
    read_pairs,
)
from trio_ssh.sftp.protocol import OpenFlags, StatusCode
from trio_ssh.testing import open_memory_client

P = TypeVar("P", bound=Packet)

_REPLIES: Final[dict[int, type[Packet]]] = {
    reply.NUMBER: reply for reply in (Status, Handle, Data, Name, Attrs, ExtendedReply)
}

NO_ATTRIBUTES: Final = trio_ssh.SFTPAttributes()
R: Final = OpenFlags.READ
W: Final = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE


class Refused(Exception):
    """A status that is no success."""

    def __init__(self, status: Status) -> None:
        super().__init__(StatusCode(status.code).name, status.text)
        self.code = StatusCode(status.code)
        self.text = status.text


class HandClient:
    """One SFTP session, by hand."""

    def __init__(self, channel: trio_ssh.Channel) -> None:
        self.channel = channel
        self.extensions: dict[bytes, bytes] = {}
        self._unread = bytearray()
        self._number = 0
        self._replies: dict[int, Packet] = {}

    async def begin(self) -> None:
        await self.send(struct.pack(">I", 5) + Init(3, b"").encode())
        version = Version.from_payload(await self.packet())
        assert version.version == 3
        self.extensions = read_pairs(version.extensions, 100)

    async def send(self, data: bytes) -> None:
        await self.channel.send_all(data)

    async def packet(self) -> bytes:
        """Return the next packet without its length."""
        head = await self._exactly(4)
        return await self._exactly(struct.unpack(">I", head)[0])

    async def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            data = await self.channel.receive_some()
            if not data:
                raise EOFError
            self._unread += data
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    async def start(self, packet: Packet) -> int:
        """Ask, and return the request's id."""
        self._number += 1
        await self.send(packet.frame(self._number))
        return self._number

    async def next(self) -> tuple[int, Packet]:
        """Return the reply that comes next, and its id."""
        payload = await self.packet()
        return struct.unpack_from(">I", payload, 1)[0], _REPLIES[payload[0]].from_payload(payload)

    async def reply(self, number: int) -> Packet:
        """Return a request's reply; others are kept."""
        while number not in self._replies:
            other, packet = await self.next()
            assert other not in self._replies, "one reply each"
            self._replies[other] = packet
        return self._replies.pop(number)

    async def ask(self, packet: Packet, expects: type[P]) -> P:
        """Ask, and return the reply."""
        reply = await self.reply(await self.start(packet))
        if isinstance(reply, Status) and (expects is not Status or reply.code != StatusCode.OK):
            raise Refused(reply)
        assert isinstance(reply, expects), reply
        return reply

    async def refusal(self, packet: Packet) -> Refused:
        """Ask what must be refused."""
        reply = await self.reply(await self.start(packet))
        assert isinstance(reply, Status), reply
        assert reply.code != StatusCode.OK
        return Refused(reply)

    # -- what is asked most

    async def open(self, path: str | bytes, flags: int = R, mode: int | None = None) -> bytes:
        attributes = trio_ssh.SFTPAttributes(st_mode=mode)
        return (await self.ask(Open(encoded(path), flags, attributes), Handle)).handle

    async def close(self, handle: bytes) -> None:
        await self.ask(Close(handle), Status)

    async def read(self, path: str | bytes) -> bytes:
        handle = await self.open(path)
        data = bytearray()
        while True:
            reply = await self.reply(await self.start(Read(handle, len(data), 2**31)))
            if isinstance(reply, Status):
                assert reply.code == StatusCode.EOF, reply
                break
            assert isinstance(reply, Data)
            data += reply.data
        await self.close(handle)
        return bytes(data)

    async def write(self, path: str | bytes, data: bytes, flags: int = W) -> None:
        handle = await self.open(path, flags)
        for offset in range(0, len(data), 200_000):
            await self.ask(Write(handle, offset, data[offset : offset + 200_000]), Status)
        await self.close(handle)

    async def list(self, path: str | bytes) -> dict[bytes, NamedFile]:
        handle = (await self.ask(Opendir(encoded(path)), Handle)).handle
        found: dict[bytes, NamedFile] = {}
        while True:
            reply = await self.reply(await self.start(Readdir(handle)))
            if isinstance(reply, Status):
                assert reply.code == StatusCode.EOF, reply
                break
            assert isinstance(reply, Name)
            assert reply.names
            found.update({entry.filename: entry for entry in reply.names})
        await self.close(handle)
        return found

    async def extended(self, name: str, details: bytes) -> bytes:
        return (await self.ask(Extended(name, details), ExtendedReply)).details

    async def do(self, packet: Packet) -> None:
        """Ask for what is answered by OK."""
        await self.ask(packet, Status)


def encoded(path: str | bytes) -> bytes:
    return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")


def door(handler: trio_ssh.SubsystemHandler) -> OpenDoor:
    """A server that lets everyone in and serves one subsystem."""
    server = OpenDoor()
    server.subsystems = {"sftp": lambda: handler}
    return server


@asynccontextmanager
async def session(client: trio_ssh.SSHClient, *, begin: bool = True) -> AsyncGenerator[HandClient, None]:
    """A session of a client that is connected."""
    channel = await client.open_session()
    await channel.invoke_subsystem("sftp")
    hand = HandClient(channel)
    if begin:
        await hand.begin()
    yield hand
    await channel.aclose()


@asynccontextmanager
async def serving(
    handler: trio_ssh.SubsystemHandler, *, begin: bool = True, **options: Any
) -> AsyncGenerator[HandClient, None]:
    """Serve SFTP to a client by hand, in memory."""
    with trio.fail_after(60):
        async with (
            open_memory_client(door(handler), host_key=HOST_KEY, **options) as client,
            session(client, begin=begin) as hand,
        ):
            yield hand
