"""The public `SFTPPath`: pathlib's names, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import PurePosixPath
from typing import Generic, Self, TypeVar

from trio_ssh.errors import SFTPError, SFTPNoSuchFile
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.file import SFTPFile, open_file
from trio_ssh.sftp.listing import Listing
from trio_ssh.sftp.modes import Data
from trio_ssh.sftp.operations import Operations
from trio_ssh.sftp.protocol import OpenFlags
from trio_ssh.sftp.pure_path import PureSFTPPath, RemotePath, decoded
from trio_ssh.sftp.walking import Walk, find

P = TypeVar("P")


class SFTPPath(PureSFTPPath):
    """A path on one server: `pathlib.Path`, awaited.

        config = sftp.path("/srv") / "app" / "config.ini"
        await config.write_text("port = 8080")

    What only looks at the text is not async.  Get one from `SFTPClient.path`.
    """

    __slots__ = ("_operations",)

    def __init__(self, operations: Operations, *segments: RemotePath) -> None:
        super().__init__(*segments)
        self._operations = operations

    def _with(self, pure: PurePosixPath) -> Self:
        made = type(self)(self._operations)
        made._pure = pure
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SFTPPath):
            return NotImplemented
        return self._pure == other._pure and self._operations is other._operations

    def __hash__(self) -> int:
        return super().__hash__()

    # -- looking

    async def stat(self, *, follow_symlinks: bool = True) -> SFTPAttributes:
        """Return the file's attributes."""
        return await self._operations.stat(self, follow_symlinks=follow_symlinks)

    async def lstat(self) -> SFTPAttributes:
        """Return the file's attributes; of a symbolic link, its own."""
        return await self._operations.lstat(self)

    async def _is(self, test: Callable[[SFTPAttributes], bool], *, follow_symlinks: bool = True) -> bool:
        try:
            return test(await self.stat(follow_symlinks=follow_symlinks))
        except SFTPNoSuchFile:
            return False

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is there."""
        return await self._is(lambda _: True, follow_symlinks=follow_symlinks)

    async def is_file(self) -> bool:
        """Tell whether it is a regular file, or leads to one."""
        return await self._is(SFTPAttributes.is_file)

    async def is_dir(self) -> bool:
        """Tell whether it is a directory, or leads to one."""
        return await self._is(SFTPAttributes.is_dir)

    async def is_symlink(self) -> bool:
        """Tell whether it is a symbolic link."""
        return await self._is(SFTPAttributes.is_symlink, follow_symlinks=False)

    async def resolve(self, strict: bool = False) -> Self:
        """Return the absolute path, without symbolic links and ``..``.

        Args:
            strict: raise `SFTPNoSuchFile` if it isn't there; otherwise servers differ in that.
        """
        path = self._with(PurePosixPath(await self._operations.normalize(str(self))))
        if strict:
            await path.lstat()
        return path

    async def absolute(self) -> Self:
        """Return the absolute path, as it is spelled."""
        return self._with(PurePosixPath(await self._operations.normalize(".")) / self._pure)

    async def readlink(self) -> Self:
        """Return what the symbolic link leads to, as it stands there."""
        return self._with(PurePosixPath(await self._operations.readlink(str(self))))

    # -- directories

    def iterdir(self) -> Listing[Self]:
        """Return the paths in the directory as they come, to be iterated over: see `Listing`."""
        return Listing(
            lambda: self._operations._read_directory(self),
            lambda entry: self._with(self._pure / decoded(entry.filename)),
        )

    async def glob(self, pattern: str) -> list[Self]:
        """Return what matches a relative pattern below the directory; ``**`` stands for any directories."""
        if not pattern or pattern.startswith("/"):
            raise ValueError(f"{pattern!r}: a pattern here is relative, and not empty; SFTPClient.glob takes others")
        start = str(self)
        found = await find(self._operations, pattern, start="" if start == "." else start, has_hidden=True)
        return [self._with(PurePosixPath(path)) for path in found]

    async def rglob(self, pattern: str) -> list[Self]:
        """Return what matches a relative pattern anywhere below the directory."""
        return await self.glob(f"**/{pattern}")

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
        """Iterate over the tree's directories: path, names of directories, names of others.  See `SFTPClient.walk`."""
        walk = Walk(self._operations, self, topdown=top_down, onerror=on_error, followlinks=follow_symlinks)
        return _PathWalk(walk, lambda text: self._with(PurePosixPath(text)))

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the directory.

        Args:
            parents: and those on the way to it.
            exist_ok: don't mind if it is there.
        """
        if parents:
            await self._operations.makedirs(self, mode, exist_ok=exist_ok)
            return
        try:
            await self._operations.mkdir(self, mode)
        except SFTPError as error:
            failure = error
        else:
            return
        if not exist_ok or not await self._operations._is_directory(self):
            raise failure

    async def rmdir(self) -> None:
        """Remove the empty directory."""
        await self._operations.rmdir(self)

    # -- contents

    async def open(self, mode: str = "r", bufsize: int = -1, *, permissions: int | None = None) -> SFTPFile:
        """Open the file: see `SFTPClient.open`."""
        return await open_file(self._operations, self, mode, bufsize, permissions=permissions)

    async def read_bytes(self) -> bytes:
        """Return what is in the file."""
        async with await self.open("r") as file:
            return await file.read()

    async def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return what is in the file, decoded, with line ends as they are."""
        return (await self.read_bytes()).decode(encoding, errors)

    async def write_bytes(self, data: Data) -> int:
        """Make the file, or empty it, and write `data`; return how many bytes that were.

        Cancelled, or failing, it leaves a part of it: `SFTPClient.putfo` to a name of its own, and `replace`, don't.
        """
        async with await self.open("w") as file:
            return await file.write(data)

    async def write_text(self, data: str, encoding: str = "utf-8", errors: str = "strict") -> int:
        """Make the file, or empty it, and write `data`, encoded, with line ends as they are; see `write_bytes`."""
        return await self.write_bytes(data.encode(encoding, errors))

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file, or set its times to now.

        Args:
            mode: of a new file.
            exist_ok: False to raise `SFTPFileExists` if it is there.
        """
        flags = OpenFlags.WRITE | OpenFlags.CREATE
        operations = self._operations
        if not exist_ok:
            flags |= OpenFlags.EXCLUSIVE
        else:
            try:
                await operations.utime(self)
            except SFTPNoSuchFile:
                pass
            else:
                return
        handle = await operations._open_handle(self, flags, SFTPAttributes(st_mode=mode))
        operations._link.close_later(handle)

    # -- names

    async def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file or symbolic link.

        Args:
            missing_ok: don't mind if it isn't there.
        """
        try:
            await self._operations.remove(self)
        except SFTPNoSuchFile:
            if not missing_ok:
                raise

    async def rename(self, target: RemotePath) -> Self:
        """Rename it, unless the new name is taken; return the new path."""
        await self._operations.rename(self, target)
        return self._with(PurePosixPath(str(PureSFTPPath(target))))

    async def replace(self, target: RemotePath) -> Self:
        """Rename it, and replace in one step what has the new name; return the new path.

        Raises:
            SFTPUnsupported: the server can't do it in one step.
        """
        await self._operations.posix_rename(self, target)
        return self._with(PurePosixPath(str(PureSFTPPath(target))))

    async def symlink_to(self, target: RemotePath, target_is_directory: bool = False) -> None:
        """Make this path a symbolic link to `target`.  `target_is_directory` is pathlib's, and means nothing here."""
        await self._operations.symlink(target, self)

    async def hardlink_to(self, target: RemotePath) -> None:
        """Make this path another name of the file `target`."""
        await self._operations.link(target, self)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change permissions."""
        await self._operations.chmod(self, mode, follow_symlinks=follow_symlinks)

    async def samefile(self, other: RemotePath) -> bool:
        """Tell whether both lead to one absolute path: all that the protocol lets us know."""
        operations = self._operations
        return await operations.normalize(str(self)) == await operations.normalize(str(PureSFTPPath(other)))


class _PathWalk(AsyncIterator[tuple[P, list[str], list[str]]], Generic[P]):
    """A walk whose directories are paths."""

    def __init__(self, walk: Walk, make: Callable[[str], P]) -> None:
        self._walk = walk
        self._make = make

    async def __anext__(self) -> tuple[P, list[str], list[str]]:
        directory, names, others = await self._walk.__anext__()
        return self._make(directory), names, others
