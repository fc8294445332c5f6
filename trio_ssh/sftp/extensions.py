"""What some servers can do besides: OpenSSH's extensions, and others'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from trio_ssh.errors import RemoteProtocolError, SFTPUnsupported
from trio_ssh.sftp.link import Answer, as_error
from trio_ssh.sftp.messages import (
    ExtendedReply,
    OnePath,
    ServerLimits,
    Status,
    StatVFS,
    UsersGroups,
)
from trio_ssh.sftp.operations import Operations, checked_number
from trio_ssh.sftp.protocol import StatusCode
from trio_ssh.sftp.pure_path import RemotePath, as_bytes, decoded, encoded, shown
from trio_ssh.wire.fields import STRING, UINT32

_TILDE: Final = b"~"


class Extensions(Operations):
    """Requests that not every server knows.  One that doesn't raises `SFTPUnsupported`."""

    def get_extensions(self) -> dict[str, bytes]:
        """Return the extensions that the server offers, with their versions; some know more than they offer."""
        return {decoded(name): data for name, data in self._link.session.extensions.items()}

    def limits(self) -> ServerLimits:
        """Return what the server allows, as it said when the session began; 0 is what it did not say."""
        return self._server_limits

    async def extended(self, name: str, data: bytes) -> bytes:
        """Make a request of any extension whose reply is its own.

        Args:
            data: the request's details, encoded.

        Returns:
            The reply's details; nothing if it is plain success.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        answer = Answer(self._link, ExtendedReply)
        self._link.submit(self._extension(name, data), answer)
        reply = await answer.wait()
        if isinstance(reply, Status) and reply.code != StatusCode.OK:
            raise as_error(reply)
        return reply.details if isinstance(reply, ExtendedReply) else b""

    async def statvfs(self, path: RemotePath = ".") -> StatVFS:
        """Return what is known of the filesystem that a path lies on: ``statvfs@openssh.com``."""
        details = OnePath(self._wire(path)).encode()
        reply = await self._extended("statvfs@openssh.com", details, ExtendedReply, shown(path))
        return StatVFS.decode(reply.details)

    async def home_directory(self, username: str = "") -> str:
        """Return a user's home directory: ``home-directory``.

        Args:
            username: empty for the user who is logged in, whom ``expand-path@openssh.com`` knows too.  A server without
                either is asked where relative paths begin, which mostly is the same.
        """
        if not username:
            # OpenSSH's server looks for a user whose name is empty, and finds none.
            return await self.expand_path("~")
        request = self._extension("home-directory", OnePath(encoded(username)).encode())
        return decoded(await self._link.ask_path(request))

    async def expand_path(self, path: RemotePath) -> str:
        """Return the absolute path, where ``~`` and ``~user`` stand for home directories.

        A server without ``expand-path@openssh.com`` is asked for the home directory instead.
        """
        name = as_bytes(path)
        is_of_home = name.startswith(_TILDE)
        if not is_of_home:
            name = self._wire(path)
        try:
            request = self._extension("expand-path@openssh.com", OnePath(name).encode())
            return decoded(await self._link.ask_path(request, shown(path)))
        except SFTPUnsupported:
            if not is_of_home:
                return decoded(await self._real_path(path))
            first, slash, rest = name.partition(b"/")
            user = decoded(first[1:])
            home = encoded(await self.home_directory(user)) if user else await self._real_bytes(b".")
            return decoded(await self._real_bytes(home + slash + rest)) if rest else decoded(home)

    async def users_groups_by_id(self, users: Sequence[int], groups: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return the names of users and groups: ``users-groups-by-id@openssh.com``.  Unknown ones are empty."""
        encodings: list[bytes] = []
        for numbers in (users, groups):
            out = bytearray()
            for number in numbers:
                UINT32.write(out, checked_number("an id", number))
            encodings.append(bytes(out))
        details = UsersGroups(*encodings).encode()
        reply = await self._extended("users-groups-by-id@openssh.com", details, ExtendedReply)
        found = UsersGroups.decode(reply.details)
        return _names(found.users, len(users)), _names(found.groups, len(groups))


def _names(data: bytes, count: int) -> list[str]:
    names: list[str] = []
    offset = 0
    while offset < len(data):
        if len(names) == count:
            raise RemoteProtocolError(f"more than {count} names for as many numbers")
        name, offset = STRING.read(data, offset)
        names.append(decoded(name))
    if len(names) != count:
        raise RemoteProtocolError(f"{len(names)} names for {count} numbers")
    return names
