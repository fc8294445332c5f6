"""Which of a session's requests may run at the same time, sealed: no task, no file.

Requests on one handle keep their order.  So do requests on the same path, or on a path and one below it, unless both
only look; and a request on a path keeps its order with those on handles that were opened there.  All else may overtake.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp.messages import (
    CheckFile,
    Close,
    CopyData,
    Extended,
    Fstat,
    Lsetstat,
    Lstat,
    OneHandle,
    OnePath,
    Open,
    Opendir,
    Read,
    Readdir,
    Readlink,
    Realpath,
    Stat,
    TwoPaths,
)
from trio_ssh.sftp.protocol import OpenFlags
from trio_ssh.sftp.session import AnyRequest
from trio_ssh.wire.fields import Structure

Parts = tuple[bytes, ...]
"""A path, cut at its slashes."""

#: What an extension's details are.
DETAILS: Final[dict[str, type[Structure]]] = {
    "posix-rename@openssh.com": TwoPaths,
    "statvfs@openssh.com": OnePath,
    "fstatvfs@openssh.com": OneHandle,
    "hardlink@openssh.com": TwoPaths,
    "fsync@openssh.com": OneHandle,
    "lsetstat@openssh.com": Lsetstat,
    "expand-path@openssh.com": OnePath,
    "copy-data": CopyData,
    "check-file": CheckFile,
    "check-file-handle": CheckFile,
    "check-file-name": CheckFile,
}

_HANDLES: Final = ("handle", "read_handle", "write_handle")
_PATHS: Final = ("path", "oldpath", "newpath", "linkpath")

_LOOKS: Final = (Read, Readdir, Fstat, Stat, Lstat, Opendir, Readlink, Realpath)
_CHANGES_A_FILE: Final = OpenFlags.WRITE | OpenFlags.APPEND | OpenFlags.CREATE | OpenFlags.TRUNCATE
_LOOKING_EXTENSIONS: Final = frozenset(
    {"statvfs@openssh.com", "fstatvfs@openssh.com", "expand-path@openssh.com", "check-file-name"}
)


def cut(path: bytes) -> Parts:
    """Cut a path at its slashes.  Links are not followed: an alias keeps no order, as between two sessions."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


@attrs.frozen
class Trail:
    """What a request touches by its path.

    Attributes:
        paths: that it names.
        opened: where the handles were opened that it names.
        changes: whether it may change something.
    """

    paths: tuple[Parts, ...]
    opened: tuple[Parts, ...]
    changes: bool

    def is_before(self, later: Trail) -> bool:
        """Tell whether `later` has to wait for this."""
        if not (self.changes or later.changes):
            return False
        return (
            _are_related(self.paths, later.paths)
            or _are_related(self.opened, later.paths)
            or _are_related(self.paths, later.opened)
            # filexfer-02 s6.1 wants requests on one file in order, also where it was opened twice.
            or not set(self.opened).isdisjoint(later.opened)
        )


@attrs.frozen
class Footprint:
    """What a request touches: handles, and a trail."""

    handles: tuple[bytes, ...]
    trail: Trail


def _are_related(some: Iterable[Parts], others: Iterable[Parts]) -> bool:
    return any(one[: len(other)] == other[: len(one)] for one in some for other in others)


def footprint(request: AnyRequest, path_of: Callable[[bytes], Parts | None], path_bytes: int) -> Footprint:
    """Find out what a request touches.

    Args:
        path_of: where a handle was opened.
        path_bytes: a longer path is refused when it is served, and touches nothing.
    """
    touched: Any = request
    changes = not isinstance(request, _LOOKS)
    if isinstance(request, Open):
        changes = bool(request.flags & _CHANGES_A_FILE)
    elif isinstance(request, Extended):
        changes = request.name not in _LOOKING_EXTENSIONS
        details = DETAILS.get(request.name)
        if details is not None:
            # What can't be read is refused when it is served, and touches nothing.
            with contextlib.suppress(RemoteProtocolError):
                touched = details.decode(request.details)
    handles = [getattr(touched, name) for name in _HANDLES if hasattr(touched, name)]
    named = [getattr(touched, name) for name in _PATHS if hasattr(touched, name)]
    if isinstance(request, Extended) and request.name == "check-file-name":
        named, handles = handles, []
    # Measured: sixty paths of 120,000 parts, compared with each other, held everything up for a second and a half.
    paths = [cut(path) for path in named if len(path) <= path_bytes]
    opened = [path for handle in handles if (path := path_of(handle)) is not None]
    return Footprint(tuple(handles), Trail(tuple(paths), tuple(opened), changes))


@attrs.define(eq=False)
class Job:
    """A request that is served.

    Attributes:
        number: the request's id.
        cost: bytes that its reply may take.
        footprint: what it touches, once that was looked for.
    """

    number: int
    request: AnyRequest
    cost: int
    footprint: Footprint | None = None


class Queue:
    """Requests that are to be served, oldest first, and those that are being served."""

    __slots__ = ("_path_bytes", "_path_of", "_running", "_waiting")

    def __init__(self, path_of: Callable[[bytes], Parts | None], path_bytes: int) -> None:
        self._path_of = path_of
        self._path_bytes = path_bytes
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []

    @property
    def waiting(self) -> int:
        """How many are not being served yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many are being served."""
        return len(self._running)

    def add(self, job: Job) -> None:
        """Append a request."""
        self._waiting.append(job)

    @property
    def first(self) -> Job | None:
        """The oldest that waits, where nothing is being served: for whoever serves it on the spot."""
        return self._waiting[0] if self._waiting and not self._running else None

    def drop_first(self) -> None:
        """The oldest that waits is served."""
        self._waiting.popleft()

    def take(self) -> Job | None:
        """Return the oldest request that need not wait for another; None if there is none."""
        if not self._waiting:
            return None
        if not self._running:
            job = self._waiting.popleft()
            if isinstance(job.request, Close):
                self._touched(job)  # while it closes, nobody knows any more what it closes
            self._running.append(job)
            return job
        # Sixty reads of one file are one handle and one trail, whatever their number.
        touched = [self._touched(job) for job in self._running]
        handles = {handle for one in touched for handle in one.handles}
        trails = {one.trail for one in touched}
        for index, job in enumerate(self._waiting):
            one = self._touched(job)
            if handles.isdisjoint(one.handles) and not any(trail.is_before(one.trail) for trail in trails):
                del self._waiting[index]
                self._running.append(job)
                return job
            handles.update(one.handles)
            trails.add(one.trail)
        return None

    def _touched(self, job: Job) -> Footprint:
        if job.footprint is None:
            job.footprint = footprint(job.request, self._path_of, self._path_bytes)
        return job.footprint

    def finish(self, job: Job) -> None:
        """A request has been served."""
        self._running.remove(job)

    def clear(self) -> None:
        """Forget those that wait."""
        self._waiting.clear()
