"""What may overtake what."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.core.channel import Batch
from trio_ssh.sftp import order
from trio_ssh.sftp.attributes import SFTPAttributes
from trio_ssh.sftp.messages import (
    CheckFile,
    Close,
    CopyData,
    Extended,
    Fstat,
    Mkdir,
    OneHandle,
    OnePath,
    Open,
    Opendir,
    Packet,
    Read,
    Realpath,
    Remove,
    Rename,
    Rmdir,
    Stat,
    Symlink,
    TwoPaths,
)
from trio_ssh.sftp.order import Job, Parts, Queue, cut
from trio_ssh.sftp.protocol import OpenFlags
from trio_ssh.sftp.session import WriteParts

NONE = SFTPAttributes()
PATH_BYTES = 4096
OPENED: dict[bytes, Parts] = {b"h": (b"a", b"b"), b"k": (b"c",)}


def queue_of(*requests: Packet) -> Queue:
    queue = Queue(OPENED.get, PATH_BYTES)
    for number, request in enumerate(requests):
        queue.add(Job(number, request, 0))
    return queue


def at_once(*requests: Packet) -> list[int]:
    """Which of some requests start before any has finished."""
    queue = queue_of(*requests)
    return [job.number for job in iter(queue.take, None)]


LOOK = Open(b"a/b", OpenFlags.READ, NONE)
MAKE = Open(b"a/b", OpenFlags.WRITE | OpenFlags.CREATE, NONE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Read(b"h", 0, 1), Read(b"h", 1, 1)),
        (Read(b"h", 0, 1), Close(b"h")),
        (Remove(b"a/b"), Rmdir(b"/a")),
        (Mkdir(b"/a", NONE), MAKE),
        (MAKE, Stat(b"a/b/")),
        (Stat(b"a/./b"), Remove(b"a/b")),
        (Rename(b"x", b"a"), Stat(b"a/b")),
        (Rename(b"a/b/c", b"y"), Opendir(b"/a")),
        (Symlink(b"anywhere", b"a"), Realpath(b"a/b")),
        (Close(b"h"), Stat(b"a/b")),
        (Remove(b"a"), Fstat(b"h")),
        (Extended("posix-rename@openssh.com", TwoPaths(b"a/b", b"z").encode()), Stat(b"z")),
        (Extended("copy-data", CopyData(b"h", 0, 0, b"k", 0).encode()), Close(b"k")),
        (Extended("fsync@openssh.com", OneHandle(b"h").encode()), Close(b"h")),
        (Remove(b"a/b"), Extended("check-file-name", CheckFile(b"a/b", "md5", 0, 0, 0).encode())),
        (Mkdir(b"a/b", NONE), Stat(b"/")),
    ],
)
def test_these_keep_their_order(first: Packet, second: Packet) -> None:
    assert at_once(first, second) == [0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Read(b"h", 0, 1), Read(b"k", 0, 1)),
        (Remove(b"a/b"), Remove(b"a/c")),
        (Remove(b"a/b"), Remove(b"a/bc")),
        (Stat(b"a/b"), Stat(b"a/b")),
        (Stat(b"a"), LOOK),
        (Read(b"h", 0, 1), Stat(b"a/b")),
        (Close(b"h"), Stat(b"c")),
        (Symlink(b"a/b", b"c"), Stat(b"a/b")),
        (Extended("statvfs@openssh.com", OnePath(b"/").encode()), Stat(b"/")),
        (Extended("copy-data", b"cut short"), Extended("copy-data", b"cut short")),
        (Extended("unknown@example.com", b""), Extended("unknown@example.com", b"")),
    ],
)
def test_these_run_at_the_same_time(first: Packet, second: Packet) -> None:
    assert at_once(first, second) == [0, 1]


def test_what_waits_is_not_overtaken_by_what_depends_on_it() -> None:
    assert at_once(Remove(b"a"), Stat(b"a"), Remove(b"a"), Stat(b"b")) == [0, 3]


def test_a_request_goes_on_when_what_was_before_it_has_finished() -> None:
    queue = queue_of(Read(b"h", 0, 1), Read(b"h", 1, 1), Close(b"h"))
    for number in range(3):
        job = queue.take()
        assert job is not None
        assert job.number == number
        assert queue.take() is None
        queue.finish(job)
    assert (queue.waiting, queue.running) == (0, 0)


def test_what_waits_can_be_forgotten() -> None:
    queue = queue_of(Read(b"h", 0, 1), Read(b"h", 1, 1))
    assert queue.take() is not None
    queue.clear()
    assert (queue.waiting, queue.running, queue.take()) == (0, 1, None)


def test_dots_lead_nowhere_else() -> None:
    assert cut(b"/a//b/./c/../d/") == (b"a", b"b", b"d")
    assert cut(b"../../x") == (b"x",)
    assert cut(b"") == ()


PATHS = st.lists(st.sampled_from([b"a", b"b", b".."]), max_size=4).map(b"/".join)
REQUESTS = st.one_of(
    st.builds(Stat, PATHS),
    st.builds(Remove, PATHS),
    st.builds(Rename, PATHS, PATHS),
    st.builds(Read, st.sampled_from([b"h", b"k"]), st.just(0), st.just(1)),
    st.builds(Close, st.sampled_from([b"h", b"k"])),
)


@given(st.lists(REQUESTS, max_size=8), st.randoms(use_true_random=False))
def test_everything_is_served_once_and_what_conflicts_in_order(requests: list[Packet], random: object) -> None:
    queue = queue_of(*requests)
    running: list[Job] = []
    started: list[int] = []
    while True:
        while (job := queue.take()) is not None:
            started.append(job.number)
            running.append(job)
        if not running:
            break
        queue.finish(running.pop(random.randrange(len(running))))  # type: ignore[attr-defined]
    assert sorted(started) == list(range(len(requests)))
    for earlier, later in itertools.combinations(range(len(requests)), 2):
        if at_once(requests[earlier], requests[later]) == [0]:
            assert started.index(earlier) < started.index(later)


def test_what_is_being_closed_is_remembered_by_its_path() -> None:
    opened = dict(OPENED)
    queue = Queue(opened.get, PATH_BYTES)
    queue.add(Job(0, Close(b"h"), 0))
    assert queue.take() is not None
    del opened[b"h"]  # nobody knows the handle any more, and its file is still being closed
    queue.add(Job(1, Stat(b"a/b"), 0))
    assert queue.take() is None


@pytest.mark.parametrize(
    "request_for",
    [
        Remove,
        lambda path: Open(path, OpenFlags.WRITE, NONE),
        lambda path: Rename(b"x", path),
        lambda path: Extended("check-file-name", CheckFile(path, "sha256", 0, 0, 256).encode()),
    ],
)
def test_paths_that_will_be_refused_are_neither_cut_nor_compared(
    request_for: Callable[[bytes], Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def counted(path: bytes) -> Parts:
        lengths.append(len(path))
        return cut(path)

    monkeypatch.setattr(order, "cut", counted)
    queue = queue_of(Remove(b"a"), *(request_for(b"a/" * 120_000 + b"%d" % number) for number in range(60)))
    assert list(iter(queue.take, None))
    assert max(lengths) == 1


def test_one_file_by_two_handles_keeps_its_order() -> None:
    opened: dict[bytes, Parts] = {b"h": (b"a",), b"k": (b"a",), b"other": (b"a", b"b")}
    queue = Queue(opened.get, PATH_BYTES)
    for number, request in enumerate(
        (WriteParts(b"h", 0, Batch()), Read(b"k", 0, 1), Read(b"other", 0, 1), Read(b"k", 1, 1))
    ):
        queue.add(Job(number, request, 0))
    assert [job.number for job in iter(queue.take, None)] == [0, 2]
