"""`get`, `put` and `copy` as `SFTPClient` has them: paramiko's, and what they can do besides."""

from __future__ import annotations

import os
from collections.abc import Sequence

from trio_ssh.runtime.file_objects import Readable, Writable
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.copying import copy_file, copy_tree
from trio_ssh.sftp.file_objects import get_object, put_object
from trio_ssh.sftp.local import LocalReader, LocalWriter
from trio_ssh.sftp.operations import Operations
from trio_ssh.sftp.pure_path import RemotePath
from trio_ssh.sftp.transfer import Callback, Options, Progress, get_file, local_path, put_file
from trio_ssh.sftp.tree import AT_ONCE, ErrorHandler, TreeOptions, get_tree
from trio_ssh.sftp.tree_put import put_tree

LocalPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _tree_options(
    file: Options,
    follow_symlinks: bool,
    include: Sequence[str],
    exclude: Sequence[str],
    parallel: int,
    error_handler: ErrorHandler | None,
) -> TreeOptions:
    for name, patterns in (("include", include), ("exclude", exclude)):
        if isinstance(patterns, str):
            raise TypeError(f"{name} is a sequence of patterns: {name}=({patterns!r},)")
    if parallel < 1:
        raise ValueError(f"parallel is at least 1, not {parallel}")
    return TreeOptions(
        file=file,
        follow_symlinks=follow_symlinks,
        include=tuple(include),
        exclude=tuple(exclude),
        at_once=parallel,
        error_handler=error_handler,
    )


def _requests(prefetch: bool, most: int | None) -> int | None:
    if most is not None and most < 1:
        raise ValueError(f"max_concurrent_prefetch_requests is at least 1, not {most}")
    return most if prefetch else 1


class Transfers(Operations):
    """Files and trees, from the server, to it, and on it.

    A file is written beside its target, as ``.name.part``, and renamed when it is complete.  A transfer that fails or
    is cancelled leaves the target as it was; `get` and `put` leave the part, with which ``resume=True`` goes on.
    """

    async def get(
        self,
        remotepath: RemotePath,
        localpath: LocalPath,
        callback: Callback | None = None,
        prefetch: bool = True,
        max_concurrent_prefetch_requests: int | None = None,
        *,
        recurse: bool = False,
        preserve: bool = False,
        preserve_times: bool = False,
        follow_symlinks: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        resume: bool = False,
        atomic: bool = True,
        sparse: bool = True,
        parallel: int = AT_ONCE,
        error_handler: ErrorHandler | None = None,
    ) -> None:
        """Copy a file from the server to this machine.

        Args:
            remotepath: a file; with `recurse` also a directory.
            localpath: what it is to be called here: the name itself, and not a directory to put it into.
            callback: a function or coroutine function of the bytes that are done and of all there are, as far as that
                is known.  What it raises ends the transfer.
            prefetch: False to ask for one block after another, of a server that bears no more.
            max_concurrent_prefetch_requests: blocks of a file that are asked for at once; None for as many as are of
                use.  More than `SFTPLimits.file_bytes` holds never are.
            recurse: a directory, with all that is in it.  What is there already stays, unless it has the same name.
            preserve: keep permissions and times.  Without it, a new file has the permissions that the umask leaves, and
                one that is replaced keeps its own.
            preserve_times: keep the times of files alone.  With `recurse` and `resume` they always are.
            follow_symlinks: with `recurse`: take a link for what it leads to, instead of making it again.
            include: with `recurse`: patterns, one of which a file has to match.
            exclude: with `recurse`: patterns; a file or directory that matches one is left out.
            resume: go on with the part that an earlier transfer left, if it is the start of the file: compared as a
                whole by SHA-256 where the server knows ``check-file``, else its last MiB.  With `recurse`, files of the
                same size and time are not transferred again.
            atomic: write a part and rename it.  Without, the target itself is written, and is what `resume` goes on
                with.
            sparse: leave holes where there are zeros.
            parallel: with `recurse`: small files that are under way at once.
            error_handler: with `recurse`: a function or coroutine function that is told of each file or directory that
                fails; the others go on.  Without it, the first failure is the end.

        Raises:
            SFTPError: the server could not read it.
            OSError: it could not be written here; errors name the path.
            RemoteProtocolError: the server's listing leads out of the directory, which it never does.
            ConnectionLost: the session ended.
        """
        file = Options(
            preserve=preserve,
            times=preserve_times or (recurse and resume),
            requests=_requests(prefetch, max_concurrent_prefetch_requests),
            resume=resume,
            atomic=atomic,
            sparse=sparse,
        )
        options = _tree_options(file, follow_symlinks, include, exclude, parallel, error_handler)
        path, local = self._wire(remotepath), local_path(localpath)
        if recurse:
            await get_tree(self._link, path, local, options, Progress(callback))
        else:
            writer = LocalWriter(None, local, local, atomic=atomic, resume=resume, sparse=sparse)
            await get_file(self._link, path, writer, file, Progress(callback))

    async def put(
        self,
        localpath: LocalPath,
        remotepath: RemotePath,
        callback: Callback | None = None,
        confirm: bool = True,
        *,
        recurse: bool = False,
        preserve: bool = False,
        preserve_times: bool = False,
        follow_symlinks: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        resume: bool = False,
        atomic: bool = True,
        sparse: bool = True,
        parallel: int = AT_ONCE,
        error_handler: ErrorHandler | None = None,
    ) -> SFTPAttributes:
        """Copy a file from this machine to the server.

        Args:
            localpath: a file; with `recurse` also a directory.
            remotepath: what it is to be called there: the name itself, and not a directory to put it into.
            callback: a function or coroutine function of the bytes that are done and of all there are, as far as that
                is known.  What it raises ends the transfer.
            confirm: ask the server for the size in the end, and compare it.  Not for the small files of a tree, each of
                which the server has confirmed anyway.
            recurse: a directory, with all that is in it.  What is there already stays, unless it has the same name.
            preserve: keep permissions and times.  Without it, a new file has its permissions here, as far as the
                server's umask leaves them, and one that is replaced keeps its own.
            preserve_times: keep the times of files alone.  With `recurse` and `resume` they always are.
            follow_symlinks: with `recurse`: take a link for what it leads to, instead of making it again.
            include: with `recurse`: patterns, one of which a file has to match.
            exclude: with `recurse`: patterns; a file or directory that matches one is left out.
            resume: go on with the part that an earlier transfer left, if it is the start of the file: compared as a
                whole by SHA-256 where the server knows ``check-file``, else its last MiB and
                `SFTPLimits.file_bytes`, as far as it is right.  With `recurse`, files of the
                same size and time are not transferred again.
            atomic: write a part and rename it.  Without, the target itself is written, and is what `resume` goes on
                with.  A server that doesn't know ``posix-rename`` can't replace a file by renaming: the old one is
                moved aside first, and for a moment there is none.
            sparse: don't send holes.
            parallel: with `recurse`: small files that are under way at once.
            error_handler: with `recurse`: a function or coroutine function that is told of each file or directory that
                fails; the others go on.  Without it, the first failure is the end.

        Returns:
            What the server says of the file; nothing is known in it without `confirm`, or of a directory.

        Raises:
            SFTPError: the server could not write it.
            OSError: it could not be read here, or its size in the end is another one.
            ConnectionLost: the session ended.
        """
        times = preserve_times or (recurse and resume)
        file = Options(preserve=preserve, times=times, resume=resume, atomic=atomic, sparse=sparse, confirm=confirm)
        options = _tree_options(file, follow_symlinks, include, exclude, parallel, error_handler)
        local, path = local_path(localpath), self._wire(remotepath)
        if recurse:
            await put_tree(self._link, local, path, options, Progress(callback))
            return SFTPAttributes()
        return await put_file(self._link, LocalReader(local, sparse=sparse), path, file, Progress(callback))

    async def getfo(
        self,
        remotepath: RemotePath,
        fl: Writable,
        callback: Callback | None = None,
        prefetch: bool = True,
        max_concurrent_prefetch_requests: int | None = None,
    ) -> int:
        """Copy a file from the server to a file object.

        Args:
            fl: anything with a `write` of bytes: async, as trio's files have it, or not, and then it is called in a
                thread, unless it is an `io.BytesIO`.
            callback, prefetch, max_concurrent_prefetch_requests: as for `get`.

        Returns:
            How many bytes it was.

        Cancelled, or failed, the file object has the file's start.
        """
        requests = _requests(prefetch, max_concurrent_prefetch_requests)
        return await get_object(self._link, self._wire(remotepath), fl, Progress(callback), requests=requests)

    async def putfo(
        self,
        fl: Readable,
        remotepath: RemotePath,
        file_size: int = 0,
        callback: Callback | None = None,
        confirm: bool = True,
    ) -> SFTPAttributes:
        """Copy what a file object gives, up to its end, to a file on the server.

        Args:
            fl: anything with a `read` of so many bytes: async, as trio's files have it, or not, and then it is called
                in a thread, unless it is an `io.BytesIO`.
            file_size: for the callback, if it is known.
            callback: as for `put`.
            confirm: as for `put`.

        Returns:
            As `put`.

        Cancelled, or failed, the target is as it was, and there is no part of it.
        """
        options = Options(confirm=confirm)
        return await put_object(self._link, fl, self._wire(remotepath), file_size, options, Progress(callback))

    async def copy(
        self,
        source: RemotePath,
        target: RemotePath,
        callback: Callback | None = None,
        *,
        recurse: bool = False,
        preserve: bool = False,
        sparse: bool = True,
        follow_symlinks: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        error_handler: ErrorHandler | None = None,
        target_client: Transfers | None = None,
    ) -> SFTPAttributes:
        """Copy a file on the server, or from it to another server.

        Where the server knows ``copy-data``, the bytes never come here; else they stream through this machine, and are
        never kept.

        Args:
            source: a file; with `recurse` also a directory.
            target: what the copy is to be called.
            sparse: don't write zeros that stream through this machine; a server that copies by itself does as it likes.
            target_client: where the copy is to be made; None for this server.
            callback, recurse, preserve, follow_symlinks, include, exclude, error_handler: as for `get`.

        Returns:
            What the server says of the copy; nothing is known in it of a directory.

        Raises:
            SFTPError: a server refuses.
            ValueError: a directory can't be copied into itself.
            ConnectionLost: a session ended.

        Cancelled, the target is as it was.
        """
        file = Options(preserve=preserve, sparse=sparse)
        options = _tree_options(file, follow_symlinks, include, exclude, AT_ONCE, error_handler)
        other = self if target_client is None else target_client
        source_path, target_path = self._wire(source), other._wire(target)
        if not recurse:
            return await copy_file(self._link, source_path, other._link, target_path, file, Progress(callback))
        await copy_tree(self._link, source_path, other._link, target_path, options, Progress(callback))
        return SFTPAttributes()
