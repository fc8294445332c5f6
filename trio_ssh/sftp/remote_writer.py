"""A file on the server while a transfer writes it: a part beside its target, or the target itself."""

from __future__ import annotations

import contextlib
import errno
import stat
from typing import Final

import trio

from trio_ssh.errors import ConnectionLost, SFTPError, SFTPNoSuchFile, SFTPPermissionDenied, SFTPUnsupported
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.link import Link, Share
from trio_ssh.sftp.local import IS_DIRECTORY, aside_name, part_name
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
    Readlink,
    Realpath,
    Remove,
    Rename,
    Setstat,
    Stat,
    Status,
    TwoPaths,
)
from trio_ssh.sftp.pipeline import WritePipeline
from trio_ssh.sftp.protocol import OpenFlags, StatusCode
from trio_ssh.sftp.pure_path import decoded
from trio_ssh.sftp.round import Asked, Round, request_later

POSIX_RENAME: Final = b"posix-rename@openssh.com"

_NEW: Final = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE
_OVER: Final = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE
_KEEPING: Final = OpenFlags.READ | OpenFlags.WRITE | OpenFlags.CREATE
_OLD: Final = OpenFlags.READ | OpenFlags.WRITE

#: Links that lead to links are followed so far.
_LINKS: Final = 16

#: What servers answer that don't rename to a name which is taken: what version 3 has, and what version 4 added.
_IS_TAKEN: Final = (StatusCode.FAILURE, 11)

#: How long the removal of a part is waited for.
_DISCARD_SECONDS: Final = 1.0

_WAY_OUT: Final = "put with atomic=False writes the target itself"


def remote_part(path: bytes) -> bytes:
    """Return the part's path beside that of its target."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + part_name(name)


def _aside(path: bytes, ending: bytes) -> bytes:
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + aside_name(name, ending)


def rename_over(link: Link, source: bytes, target: bytes) -> Packet:
    """Make the request that renames and replaces in one, on a server that has it."""
    return Extended(POSIX_RENAME.decode(), TwoPaths(source, target).encode())


def new_file(mode: int | None) -> SFTPAttributes:
    """Return what a file is made with: the permissions, and the owner's right to write, which a resumed part needs."""
    return SFTPAttributes() if mode is None else SFTPAttributes(st_mode=mode & 0o777 | stat.S_IRUSR | stat.S_IWUSR)


def _one_name(asked: Asked) -> bytes:
    reply = asked.get_or_none(Name)
    return reply.names[0].filename if reply is not None and len(reply.names) == 1 else b""


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
        self._is_opened = False
        self._claimed: tuple[bytes, ...] = ()
        self._pipeline: WritePipeline | None = None
        self.path: bytes = path
        self.written: bytes = path
        self.handle: bytes = b""
        self.kept_bytes: int = 0

    @property
    def part(self) -> str:
        """The path of what was written so far, or an empty string where that is the target itself."""
        return decoded(self.written) if self.written != self.path else ""

    def pipeline(self) -> WritePipeline:
        """Return what writes to it, after `open`."""
        self._pipeline = WritePipeline(self._link, Share(self._link), self.handle)
        return self._pipeline

    async def open(self) -> None:
        """Open what is to be written.

        Raises:
            SFTPError: the server refuses.
            OSError: the target is a directory, or another transfer of this session writes it.
        """
        if self._atomic:
            await self._open_part()
        else:
            self._claim(self.path)
            await self._open_target()

    # -- opening

    async def _open_part(self) -> None:
        for _ in range(_LINKS):
            self.written = remote_part(self.path)
            self._claim(self.written, self.path)
            # Whoever is cancelled here has asked for a part, and doesn't know whether it is there.
            self._has_part = True
            round_ = Round(self._link)
            look = round_.add(Lstat(self.path), Attrs)
            opening = round_.add(self._new_part(), Handle)
            going_on = None
            if self._resume:
                part_look = round_.add(Lstat(self.written), Attrs)
                # Without CREATE, which makes a file wherever a link leads that somebody planted under the part's name.
                going_on = round_.add(Open(self.written, _OLD, SFTPAttributes()), Handle), part_look
            await round_.wait()
            there = look.get_or_none(Attrs)
            attributes = there.attributes if there is not None else SFTPAttributes()
            new = opening.get_or_none(Handle)
            old = None if going_on is None else going_on[0].get_or_none(Handle)
            if attributes.st_mode is None or attributes.is_file():
                self._replaced_mode = None if attributes.st_mode is None else attributes.st_mode & 0o777
                found = None if going_on is None else going_on[1].get_or_none(Attrs)
                await self._choose_part(new, old, SFTPAttributes() if found is None else found.attributes)
                return
            self._has_part = False
            for handle in (new, old):
                if handle is not None:
                    self._link.close_later(handle.handle)
            if new is not None:
                request_later(self._link, Remove(self.written))
            if attributes.is_dir():
                raise IsADirectoryError(errno.EISDIR, IS_DIRECTORY, decoded(self.path))
            if not attributes.is_symlink():
                # What has no parts, such as a device, is written as it is; and more than one may write to it.
                self._release()
                self.written = self.path
                await self._open_target()
                return
            self.path = await self._lead()
        raise self._no_target()

    def _new_part(self) -> Open:
        return Open(self.written, _NEW | (OpenFlags.READ if self._resume else 0), new_file(self._mode))

    def _no_target(self) -> OSError:
        error = OSError(errno.ELOOP, "a symbolic link, and the server doesn't say where it leads", decoded(self.path))
        error.add_note(_WAY_OUT)
        return error

    async def _lead(self) -> bytes:
        """Return where the link leads that the target is.

        REALPATH knows best, and follows all links at once; but there are servers that only tidy up the text, and it
        need not answer for what isn't there.
        """
        round_ = Round(self._link)
        resolving = round_.add(Realpath(self.path), Name)
        reading = round_.add(Readlink(self.path), Name)
        await round_.wait()
        real, target = _one_name(resolving), _one_name(reading)
        folder, slash, name = self.path.rpartition(b"/")
        # The link itself, be it by its absolute path, ends in the same name; but so may what it leads to.
        if real and real.rpartition(b"/")[2] != name:
            return real
        if target:
            return target if target.startswith(b"/") else folder + slash + target
        if real and real != self.path:
            return real
        raise self._no_target()

    async def _choose_part(self, new: Handle | None, old: Handle | None, found: SFTPAttributes) -> None:
        """Take the part that was made, or the one that was there, or one in its place."""
        link = self._link
        if new is not None:
            if old is not None:
                link.close_later(old.handle)
            self._opened_part(new, self._mode)
        elif old is not None and (found.st_mode is None or found.is_file()):
            self.handle = old.handle
            stated = (await link.ask(Fstat(self.handle), Attrs, decoded(self.path))).attributes
            self.kept_bytes = stated.st_size or 0
            self._opened_part(old, self._mode if stated.st_mode is None else stated.st_mode & 0o777)
        else:
            if old is not None:
                link.close_later(old.handle)
            await self._replace_part()

    async def _replace_part(self) -> None:
        round_ = Round(self._link)
        look = round_.add(Lstat(self.written), Attrs)
        # Of an earlier transfer; or a link that somebody planted there.
        round_.add(Remove(self.written))
        opening = round_.add(self._new_part(), Handle)
        await round_.wait()
        there = look.get_or_none(Attrs)
        if opening.get_or_none(Handle) is None and there is not None and there.attributes.is_dir():
            # Trees may have both names in them.  What has a name that nobody knows can't be gone on with.
            self.written = _aside(self.path, b"part")
            self._claim(self.written, self.path)
            round_ = Round(self._link)
            opening = round_.add(self._new_part(), Handle)
            await round_.wait()
        try:
            self._opened_part(opening.get(Handle, decoded(self.written)), self._mode)
        except SFTPNoSuchFile as error:
            error.filename = decoded(self.path)
            raise
        except SFTPError as error:
            error.add_note(f"the part can't be written beside its target; {_WAY_OUT}")
            raise

    def _opened_part(self, opened: Handle, mode: int | None) -> None:
        """Write to a part of these permissions; who may read neither source nor target mustn't read what is written."""
        self.handle = opened.handle
        self._is_opened = True
        allowed = 0o777
        for other in (self._mode, self._replaced_mode):
            if other is not None:
                allowed &= other | stat.S_IRUSR | stat.S_IWUSR
        if (0o777 if mode is None else mode & 0o777) & ~allowed:
            attributes = SFTPAttributes(st_mode=allowed if mode is None else mode & allowed)
            request_later(self._link, Fsetstat(self.handle, attributes))

    async def _open_target(self) -> None:
        request = Open(self.path, _KEEPING if self._resume else _OVER, new_file(self._mode))
        self.handle = (await self._link.ask(request, Handle, decoded(self.path))).handle
        if self._resume:
            reply = await self._link.ask(Fstat(self.handle), Attrs, decoded(self.path))
            self.kept_bytes = reply.attributes.st_size or 0

    def _claim(self, *paths: bytes) -> None:
        """Let no other transfer of this session write the same: the first to end would rename half of the other's.

        A target is claimed as its part is: what is the part of one file may be another file's name.

        Raises:
            OSError: another one does.
        """
        self._release()
        if not self._link.parts.isdisjoint(paths):
            raise OSError(errno.ETXTBSY, "another transfer is writing it", decoded(self.path))
        self._link.parts.update(paths)
        self._claimed = paths

    def _release(self) -> None:
        self._link.parts.difference_update(self._claimed)
        self._claimed = ()

    async def shorten(self, size: int) -> None:
        """Keep only so much of what an earlier transfer left."""
        await self._link.ask(Fsetstat(self.handle, SFTPAttributes(st_size=size)), Status, decoded(self.path))
        self.kept_bytes = size

    # -- the end

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
        # A part is looked at even where nobody wants to know: another session may have put its own in its place.
        stated = round_.add(Stat(self.written), Attrs) if confirm or self.part else None
        self.handle = b""
        await round_.wait()
        if setting is not None and not setting.is_ok:
            await self._set_one_by_one(attributes)
        closing.status(decoded(self.path))
        result = SFTPAttributes()
        if stated is not None and (confirm or stated.get_or_none(Attrs) is not None):
            result = stated.get(Attrs, decoded(self.path)).attributes
            if size is not None and result.st_size is not None and result.st_size != size:
                text = f"{size} bytes were written, and the server says that it has {result.st_size}"
                raise OSError(errno.EIO, text, decoded(self.path))
        if self.part:
            await self._rename()
            self._has_part = False
        return result if confirm else SFTPAttributes()

    async def _set_one_by_one(self, attributes: SFTPAttributes) -> None:
        """Some servers refuse all where they can't do one: size and times must be, and the mode is tried."""
        if attributes.st_size is not None or attributes.st_mtime is not None:
            must = SFTPAttributes(
                st_size=attributes.st_size, st_atime=attributes.st_atime, st_mtime=attributes.st_mtime
            )
            await self._link.ask(Setstat(self.written, must), Status, decoded(self.path))
        round_ = Round(self._link)
        setting = round_.add(Setstat(self.written, SFTPAttributes(st_mode=attributes.st_mode)))
        await round_.wait()
        if attributes.st_mode not in (None, self._replaced_mode):
            setting.status(decoded(self.path))

    async def _rename(self) -> None:
        """Give the part its target's name.

        Raises:
            SFTPError: the server refuses; the target is as it was, unless a note says otherwise.
        """
        link = self._link
        names = decoded(self.written), decoded(self.path)
        try:
            if POSIX_RENAME in link.session.extensions:
                try:
                    await link.ask(rename_over(link, self.written, self.path), Status, *names)
                except SFTPUnsupported:
                    pass
                else:
                    return
            try:
                await link.ask(Rename(self.written, self.path), Status, *names)
            except SFTPError as error:
                if error.code not in _IS_TAKEN:
                    raise
                await self._replace(error)
        except SFTPPermissionDenied as error:
            error.add_note(f"the part can't take its target's place; {_WAY_OUT}")
            raise

    async def _replace(self, refused: SFTPError) -> None:
        """Move the old file aside and the part into its place, or the old one back: to the end, though nobody waits.

        Version 3 replaces nothing by RENAME.  Between the first two the target is missing, and both files are whole.
        """
        link = self._link
        aside = _aside(self.path, b"old")
        returning: Round | None = None

        def go_on() -> None:
            nonlocal returning
            if renaming.is_ok and moving.is_ok:
                request_later(link, Remove(aside))
            elif moving.is_ok:
                returning = Round(link)
                returned.append(returning.add(Rename(aside, self.path)))
                link.flush()

        returned: list[Asked] = []
        # As long as it isn't known which of the two has a name, neither is to be removed.
        has_part, self._has_part = self._has_part, False
        round_ = Round(link, go_on)
        moving = round_.add(Rename(self.path, aside))
        renaming = round_.add(Rename(self.written, self.path))
        await round_.wait()
        if renaming.is_ok:
            return
        if returning is not None:
            await returning.wait()
        if all(asked.is_ok for asked in returned):
            self._has_part = has_part
        else:
            refused.add_note(f"the old file is {decoded(aside)!r}, and the new one {decoded(self.written)!r}")
        raise refused

    async def discard(self) -> None:
        """Close it, and see a part removed: to the end, though nobody waits, but for a second at the most."""
        has_part, self._has_part = self._has_part, False
        self.abandon()
        link = self._link
        if has_part and link.failure is None:
            # An exception that ends this may leave the session's block as well: what is only asked for is lost then.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _DISCARD_SECONDS):
                removing = Round(link)
                removing.add(Remove(self.written))
                with contextlib.suppress(ConnectionLost, trio.ClosedResourceError):
                    await removing.wait()

    def abandon(self) -> None:
        """Close it, and don't wait.

        What was written stays as a part, unless that is nothing; as far as it is whole: of what was under way, the end
        may be written and the beginning not.
        """
        link = self._link
        end = None if self._pipeline is None else self._pipeline.first_unwritten
        is_begun = self._pipeline is not None and self._pipeline.is_begun
        is_empty = end == 0 or (self._is_opened and not self.kept_bytes and not is_begun)
        if self.handle and link.failure is None:
            if end is not None:
                request_later(link, Fsetstat(self.handle, SFTPAttributes(st_size=end)))
            link.close_later(self.handle)
            self.handle = b""
        if is_empty and self._has_part:
            self._has_part = False
            request_later(link, Remove(self.written))
        self._release()
