"""The public `SFTPClient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import trio

from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.hints import SFTP_HINTS, Hints, HintTable
from trio_ssh.runtime.transport import Transport
from trio_ssh.sftp.extensions import Extensions
from trio_ssh.sftp.file import SFTPFile, open_file
from trio_ssh.sftp.link import Link
from trio_ssh.sftp.path import SFTPPath
from trio_ssh.sftp.protocol import DEFAULT_SFTP_LIMITS, SFTPLimits
from trio_ssh.sftp.pure_path import RemotePath
from trio_ssh.sftp.transfers import Transfers
from trio_ssh.sftp.walking import Walk, find, remove_tree


class SFTPClient(Extensions, Transfers, trio.abc.AsyncResource, Hints):
    """An SFTP session with paramiko's methods, awaited.

        async with await client.open_sftp() as sftp:
            await sftp.put("dist/app.tar.gz", "/srv/app.tar.gz")
            print(await sftp.listdir("/srv"))

    Get one from `SSHClient.open_sftp`.  Any number of tasks may use it; it has no task of its own.

    A path is a str, bytes or an `SFTPPath`; a relative one begins where the server lets its users begin, or where
    `chdir` went.  What the server refuses raises an `SFTPError`, which is an `OSError`; a lost connection raises
    `ConnectionLost`.  A request that is cancelled may or may not have been carried out, and the session goes on.
    """

    _HINTS: ClassVar[HintTable] = SFTP_HINTS

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

    # -- files

    def path(self, *segments: RemotePath) -> SFTPPath:
        """Return a path on this server, with pathlib's methods, awaited."""
        return SFTPPath(self, *segments)

    async def open(
        self, filename: RemotePath, mode: str = "r", bufsize: int = -1, *, permissions: int | None = None
    ) -> SFTPFile:
        """Open a file.  It is binary; close it when you are done: it is an async context manager.

        Args:
            mode: ``"r"``, ``"w"``, ``"a"`` (append) or ``"x"`` (make it, it must not be there), with a ``"+"`` for
                reading and writing.
            bufsize: what is read at the least, and small writes are gathered up to; 0 to send each as it is, 1 to send
                each line.
            permissions: of a new file, from which the server takes away what its umask says; None for its own idea.

        Raises:
            SFTPNoSuchFile, SFTPPermissionDenied, SFTPFileExists, SFTPError: it can't be opened.

        Cancelled, the file is closed again.
        """
        return await open_file(self, filename, mode, bufsize, permissions=permissions)

    async def file(
        self, filename: RemotePath, mode: str = "r", bufsize: int = -1, *, permissions: int | None = None
    ) -> SFTPFile:
        """Open a file: `open`, by paramiko's other name for it."""
        return await open_file(self, filename, mode, bufsize, permissions=permissions)

    async def check(
        self, path: RemotePath, hash_algorithm: str, offset: int = 0, length: int = 0, block_size: int = 0
    ) -> bytes:
        """Have the server hash a file, without fetching it: see `SFTPFile.check`."""
        async with await open_file(self, path) as file:
            return await file.check(hash_algorithm, offset, length, block_size)

    # -- trees

    def walk(
        self,
        top: RemotePath = ".",
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
        followlinks: bool = False,
    ) -> Walk:
        """Iterate over a tree's directories, as `os.walk`: path, names of directories, names of others.

            async for directory, names, others in sftp.walk("/srv"):
                ...

        Args:
            topdown: each directory before those in it; names that you take out of the list are not visited.
            onerror: told of directories that can't be listed, which are passed over.
            followlinks: visit directories that links lead to, too.

        Raises:
            OSError: ``ELOOP``, more than `SFTPLimits.depth` directories lie below each other.
        """
        return Walk(self, top, topdown=topdown, onerror=onerror, followlinks=followlinks)

    async def glob(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern, as `glob.glob`: ``*``, ``?``, ``[...]``, and ``**`` for any tree."""
        return await find(self, pattern)

    async def rmtree(
        self,
        path: RemotePath,
        ignore_errors: bool = False,
        onerror: Callable[[OSError], object] | None = None,
    ) -> None:
        """Remove a directory and all that is in it; of symbolic links, the links alone.

        Args:
            ignore_errors: pass over what can't be removed.
            onerror: told of it, one after another.

        Raises:
            SFTPError: something can't be removed; other things may have been.
            NotADirectoryError: `path` is a file or a symbolic link.

        Cancelled, some of it is removed.
        """
        await remove_tree(self, path, ignore_errors=ignore_errors, onerror=onerror)

    async def aclose(self) -> None:
        """End the session; requests that are under way fail with `trio.ClosedResourceError`."""
        await self._link.aclose()


#: paramiko's other name for it.
SFTP = SFTPClient
