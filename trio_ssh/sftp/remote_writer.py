"""A file on the server while a transfer writes it: a part beside its target, or the target itself."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

import trio

from trio_ssh.errors import SFTPError, SFTPNoSuchFile, SFTPUnsupported
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link, as_error
from trio_ssh.sftp.local import part_name
from trio_ssh.sftp.messages import (
    Attrs,
    Close,
    Extended,
    Fsetstat,
    Fstat,
    Handle,
    Lstat,
    Name,
    Open,
    Packet,
    Realpath,
    Remove,
    Rename,
    Setstat,
    Stat,
    Status,
    TwoPaths,
)
from trio_ssh.sftp.protocol import OpenFlags, StatusCode
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.round import Round, request_later

POSIX_RENAME: Final = b"posix-rename@openssh.com"

_NEW: Final = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE
_OVER: Final = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE
_KEEPING: Final = OpenFlags.READ | OpenFlags.WRITE | OpenFlags.CREATE


def remote_part(path: bytes) -> bytes:
    """Return the part's path beside that of its target."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + part_name(name)


def rename_over(link: Link, source: bytes, target: bytes) -> Packet:
    """Make the request that renames and replaces in one, on a server that has it."""
    return Extended(POSIX_RENAME.decode(), TwoPaths(source, target).encode())


def new_file(mode: int | None) -> SFTPAttributes:
    """Return what a file is made with: the permissions, and the owner's right to write, which a resumed part needs."""
    return SFTPAttributes() if mode is None else SFTPAttributes(st_mode=mode & 0o777 | stat.S_IRUSR | stat.S_IWUSR)


class RemoteWriter:
    """A file that is being written, from its start to its end.

    Args:
        path: of the target, as it goes over the wire.
        mode: permissions of a new file, as far as the server's umask lets them be; None for the server's own choice.
        atomic: write a part and rename it; else the target itself.
        resume: keep what an earlier transfer left.

    Attributes:
        handle: after `open`.
        kept_bytes: after `open`: what an earlier transfer left.
        path: of the target; after `open` where a symbolic link led.
        written: the path of what is written.
    """

    def __init__(
        self, link: Link, path: bytes, *, mode: int | None = None, atomic: bool = True, resume: bool = False
    ) -> None:
        self._link = link
        self._mode = mode
        self._atomic = atomic
        self._resume = resume
        self._replaced_mode: int | None = None
        self._has_part = False
        self._claimed = b""
        self.path: bytes = path
        self.written: bytes = path
        self.handle: bytes = b""
        self.kept_bytes: int = 0

    @property
    def part(self) -> str:
        """The path of what was written so far, or an empty string where that is the target itself."""
        return decoded(self.written) if self.written != self.path else ""

    async def open(self) -> None:
        """Open what is to be written.

        Raises:
            SFTPError: the server refuses.
            IsADirectoryError: the target is one.
        """
        if self._atomic:
            await self._open_part()
        else:
            await self._open_at(self.path)

    async def _open_part(self) -> None:
        # A link to a link leads where REALPATH says; another round would only meet a server that says otherwise.
        for _ in range(2):
            self.written = remote_part(self.path)
            self._claim()
            # Whoever is cancelled here has asked for a part, and doesn't know whether it is there.
            self._has_part = True
            round_ = Round(self._link)
            look = round_.add(Lstat(self.path), Attrs)
            opening = round_.add(self._open_request(self.written), Handle)
            await round_.wait()
            there = look.get_or_none(Attrs)
            attributes = there.attributes if there is not None else SFTPAttributes()
            handle = opening.get_or_none(Handle)
            if attributes.st_mode is None or attributes.is_file():
                if attributes.st_mode is not None:
                    self._replaced_mode = attributes.st_mode & 0o777
                await self._open_at(self.written, handle)
                return
            self._has_part = False
            if handle is not None:
                request_later(self._link, Close(handle.handle), Remove(self.written))
            if attributes.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), decoded(self.path))
            if not attributes.is_symlink():
                break
            try:
                answer = await self._link.ask(Realpath(self.path), Name, decoded(self.path))
            except SFTPError:
                break  # it leads nowhere: whoever opens it makes the file that it names
            if len(answer.names) != 1:
                break
            self.path = answer.names[0].filename
        # What has no parts, such as a device, is written as it is.
        self.written = self.path
        await self._open_at(self.path)

    def _claim(self) -> None:
        """Let no other transfer of this session write the same part: the first to end would rename half of the other's.

        Raises:
            OSError: another one does.
        """
        self._release()
        if self.written in self._link.parts:
            raise OSError(errno.ETXTBSY, "another transfer is writing it", decoded(self.path))
        self._link.parts.add(self.written)
        self._claimed = self.written

    def _release(self) -> None:
        self._link.parts.discard(self._claimed)
        self._claimed = b""

    def _open_request(self, path: bytes) -> Open:
        flags = _KEEPING if self._resume else _OVER if path == self.path else _NEW
        return Open(path, flags, new_file(self._mode))

    async def _open_at(self, path: bytes, opened: Handle | None = None) -> None:
        while opened is None:
            round_ = Round(self._link)
            if path != self.path and not self._resume:
                # Of an earlier transfer; or a link that somebody planted there.
                round_.add(Remove(path))
            opening = round_.add(self._open_request(path), Handle)
            await round_.wait()
            try:
                opened = opening.get(Handle, decoded(path))
            except SFTPNoSuchFile as error:
                error.filename = decoded(self.path)
                raise
            except SFTPError as error:
                if path != self.path:
                    error.add_note("the part can't be written beside its target; atomic=False writes the target itself")
                raise
        self.handle = opened.handle
        self._has_part = bool(self.part)
        if self._resume:
            reply = await self._link.ask(Fstat(self.handle), Attrs, decoded(path))
            self.kept_bytes = reply.attributes.st_size or 0

    async def restart(self) -> None:
        """Drop what an earlier transfer left."""
        await self._link.ask(Fsetstat(self.handle, SFTPAttributes(st_size=0)), Status, decoded(self.written))
        self.kept_bytes = 0

    async def finish(
        self,
        size: int | None,
        *,
        mode: int | None = None,
        times: tuple[int, int] | None = None,
        has_holes: bool = False,
        confirm: bool = True,
    ) -> SFTPAttributes:
        """Say that it is complete: it is closed, and gets its name.

        Args:
            size: what was written; None where that isn't known.
            mode: permissions, or None for those of the file that it replaces, if there is one.
            times: of access and modification, in seconds.
            has_holes: it may end in one, so that nobody has told the server its size.
            confirm: compare the size that the server states.

        Returns:
            What the server says of it; nothing without `confirm`.

        Raises:
            SFTPError: the server refuses; the target is as it was.
            OSError: the size is another one.
        """
        attributes = SFTPAttributes(st_size=size if has_holes or self.kept_bytes else None)
        attributes.st_mode = self._replaced_mode if mode is None and self.part else mode
        if times is not None:
            attributes.st_atime, attributes.st_mtime = times
        round_ = Round(self._link)
        setting = None
        if attributes != SFTPAttributes():
            setting = round_.add(Fsetstat(self.handle, attributes))
        closing = round_.add(Close(self.handle))
        stated = round_.add(Stat(self.written), Attrs) if confirm else None
        self.handle = b""
        await round_.wait()
        if setting is not None and not setting.is_ok:
            await self._set_one_by_one(attributes)
        closing.status(decoded(self.written))
        result = SFTPAttributes()
        if stated is not None:
            result = stated.get(Attrs, decoded(self.written)).attributes
            if size is not None and result.st_size is not None and result.st_size != size:
                text = f"{size} bytes were written, and the server says that it has {result.st_size}"
                raise OSError(errno.EIO, text, decoded(self.written))
        if self.part:
            await self._rename()
            self._has_part = False
        return result

    async def _set_one_by_one(self, attributes: SFTPAttributes) -> None:
        """Some servers refuse all where they can't do one: size and times must be, and the mode is tried."""
        if attributes.st_size is not None or attributes.st_mtime is not None:
            must = SFTPAttributes(
                st_size=attributes.st_size, st_atime=attributes.st_atime, st_mtime=attributes.st_mtime
            )
            await self._link.ask(Setstat(self.written, must), Status, decoded(self.written))
        round_ = Round(self._link)
        setting = round_.add(Setstat(self.written, SFTPAttributes(st_mode=attributes.st_mode)))
        await round_.wait()
        if attributes.st_mode not in (None, self._replaced_mode):
            setting.status(decoded(self.written))

    async def _rename(self) -> None:
        link = self._link
        names = decoded(self.written), decoded(self.path)
        if POSIX_RENAME in link.session.extensions:
            try:
                await link.ask(rename_over(link, self.written, self.path), Status, *names)
            except SFTPUnsupported:
                pass
            else:
                return
        round_ = Round(link)
        renaming = round_.add(Rename(self.written, self.path))
        await round_.wait()
        if renaming.is_ok:
            return
        assert isinstance(renaming.reply, Status), "a RENAME is answered by a status"
        if renaming.reply.code in (StatusCode.PERMISSION_DENIED, StatusCode.NO_SUCH_FILE):
            # Without a part to take its place, the target mustn't go.
            raise as_error(renaming.reply, *names)
        # Version 3 replaces nothing by RENAME.  Between these two the target is missing, and the part is whole.
        with trio.CancelScope(shield=True):
            round_ = Round(link)
            round_.add(Remove(self.path))
            renaming = round_.add(Rename(self.written, self.path))
            await round_.wait()
        renaming.status(names[1])

    def abandon(self, *, remove: bool = False) -> None:
        """Close it, and don't wait; what was written stays as a part, unless it is to be removed."""
        if self.handle and self._link.failure is None:
            self._link.close_later(self.handle)
            self.handle = b""
        if remove and self._has_part:
            self._has_part = False
            request_later(self._link, Remove(self.written))
        self._release()
