"""The public `SFTPClient`."""

from __future__ import annotations

from typing import Self

import trio

from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.transport import Transport
from trio_ssh.sftp.link import Link
from trio_ssh.sftp.operations import Operations
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, SFTPLimits


class SFTPClient(Operations, trio.abc.AsyncResource):
    """An SFTP session with paramiko's methods, awaited.

        async with await client.open_sftp() as sftp:
            await sftp.put("dist/app.tar.gz", "/srv/app.tar.gz")
            print(await sftp.listdir("/srv"))

    Get one from `SSHClient.open_sftp`.  Any number of tasks may use it; it has no task of its own.
    """

    @classmethod
    async def from_transport(cls, transport: Transport, *, limits: SFTPLimits = DEFAULT_SFTP_LIMITS) -> Self:
        """Open a session on a connection.

        Raises:
            ChannelException, RequestRefused: the server refuses the channel, or has no SFTP.
            RemoteProtocolError: what answers doesn't speak SFTP.
            ConnectionLost: the connection ended.

        Cancelled, the channel is closed.
        """
        channel = await transport.open_session()
        try:
            await channel.invoke_subsystem("sftp")
        except BaseException:
            channel.close_later()
            raise
        return await cls.from_channel(channel, limits=limits)

    @classmethod
    async def from_channel(cls, channel: Channel, *, limits: SFTPLimits = DEFAULT_SFTP_LIMITS) -> Self:
        """Open a session on a channel that leads to an SFTP server; it is the session's from now on.

        Raises:
            RemoteProtocolError: what answers doesn't speak SFTP.
            ConnectionLost: the connection ended.

        Cancelled, the channel is closed.
        """
        link = Link(channel, limits)
        client = cls(link)
        try:
            await link.begin()
            await client._ask_limits()
        except BaseException as error:
            link.fail(error if isinstance(error, Exception) else trio.ClosedResourceError("opening was cancelled"))
            raise
        return client

    def __repr__(self) -> str:
        state = "closed" if self._link.failure is not None else f"{self._link.session.pending} requests under way"
        return f"<SFTPClient on {self._link.channel!r}, {state}>"

    def get_channel(self) -> Channel:
        """Return the channel that the session uses; what it carries is not for others to touch."""
        return self._link.channel

    async def aclose(self) -> None:
        """End the session; requests that are under way fail with `trio.ClosedResourceError`."""
        await self._link.aclose()
