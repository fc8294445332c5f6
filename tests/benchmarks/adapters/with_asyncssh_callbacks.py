"""asyncssh as client and server, through its callback API instead of streams.  Bulk transfers only."""

from __future__ import annotations

import asyncio

import asyncssh

from tests.benchmarks.adapters import roles
from tests.benchmarks.adapters.roles import CHUNK, ClientTask, Sample, ServerTask
from tests.benchmarks.adapters.with_asyncssh import connecting, role, serving


class Source:
    """Writes a number of bytes to a channel while the channel wants more, then EOF."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._is_wanted = True
        self._is_writing = False

    def pause(self) -> None:
        """Stop after the chunk being written."""
        self._is_wanted = False

    def resume(self, channel: asyncssh.SSHClientChannel[bytes] | asyncssh.SSHServerChannel[bytes]) -> bool:
        """Write until told to pause, and return whether everything has been written."""
        self._is_wanted = True
        # The channel resumes us from inside our own write; the loop below goes on by itself then.
        if self._is_writing:
            return False
        self._is_writing = True
        while self._left and self._is_wanted:
            size = min(self._left, len(CHUNK))
            self._left -= size
            channel.write(CHUNK[:size])
        self._is_writing = False
        return not self._left


class DownSession(asyncssh.SSHClientSession[bytes]):
    """Counts what arrives."""

    def __init__(self) -> None:
        self.received = 0

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Take a packet's data."""
        self.received += len(data)


class UpSession(asyncssh.SSHClientSession[bytes]):
    """Writes what there is to write."""

    def __init__(self, size: int) -> None:
        self._source = Source(size)
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Remember the channel."""
        self._channel = chan

    def session_started(self) -> None:
        """Begin."""
        self.resume_writing()

    def pause_writing(self) -> None:
        """Stop for now."""
        self._source.pause()

    def resume_writing(self) -> None:
        """Go on, and say when all is written."""
        if self._channel is not None and self._source.resume(self._channel):
            self._channel.write_eof()


class ServerSession(asyncssh.SSHServerSession[bytes]):
    """Runs `source` and `sink`."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Remember the channel."""
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        """Accept a command."""
        if command.startswith("source"):
            self._source = Source(roles.source_size(command))
        return self._source is not None or command == "sink"

    def session_started(self) -> None:
        """Begin."""
        self.resume_writing()

    def pause_writing(self) -> None:
        """Stop for now."""
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        """Go on, and end the session when all is written."""
        if self._source is not None and self._channel is not None and self._source.resume(self._channel):
            self._channel.exit(0)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Take a packet's data."""

    def eof_received(self) -> bool:
        """End the session of a `sink`."""
        if self._source is None and self._channel is not None:
            self._channel.exit(0)
        return True


class Server(asyncssh.SSHServer):
    """Opens a session for everyone."""

    def session_requested(self) -> ServerSession:
        """Accept a session."""
        return ServerSession()


async def bulk_down(task: ClientTask) -> Sample:
    """Count everything a command writes."""
    async with await connecting(task)() as connection:
        with task.window() as window:
            session = DownSession()
            channel, _ = await connection.create_session(lambda: session, task.command, encoding=None)
            await channel.wait_closed()
        roles.check("bytes", session.received, task.size)
    return window.sample


async def bulk_up(task: ClientTask) -> Sample:
    """Write everything, and wait for the command to have read it."""
    async with await connecting(task)() as connection:
        with task.window() as window:
            channel, _ = await connection.create_session(lambda: UpSession(task.size), task.command, encoding=None)
            await channel.wait_closed()
        roles.check("exit status", channel.get_exit_status(), 0)
    return window.sample


def serve(task: ServerTask) -> None:
    """Serve until killed."""

    async def listen() -> None:
        acceptor = await asyncssh.create_server(
            Server, roles.HOST, 0, config=None, options=serving(task), backlog=roles.LISTEN_BACKLOG
        )
        roles.announce(acceptor.get_port())
        await acceptor.wait_closed()

    asyncio.run(listen())


if __name__ == "__main__":
    roles.main({"bulk_down": role(bulk_down), "bulk_up": role(bulk_up)}, serve)
