"""Local files: written as parts, below a descriptor, with errors that name them."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.sftp import local
from trio_ssh.sftp.local import (
    Finish,
    LocalReader,
    LocalWriter,
    aside_name,
    is_zero,
    part_level,
    part_name,
    write_parts,
)
from trio_ssh.sftp.local_tree import LocalScan, LocalTree, NewFile
from trio_ssh.sftp.protocol import KIB, MIB


def writer(path: Path, *, atomic: bool = True, resume: bool = False, mode: int = 0o666) -> LocalWriter:
    name = os.fsencode(path)
    return LocalWriter(None, name, name, atomic=atomic, resume=resume, mode=mode)


def write(path: Path, data: bytes, *, atomic: bool = True) -> None:
    file = writer(path, atomic=atomic)
    file.write([memoryview(data)], 0)
    file.finish(Finish())


def part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextmanager
def descriptors_stay() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """What a full disk looks like to a write: a part is written, then an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- names


@given(st.binary(min_size=1, max_size=255))
def test_a_part_has_a_name_that_fits_wherever_its_target_does(name: bytes) -> None:
    part = part_name(name)
    assert len(part) <= 255
    assert part != name
    assert part.startswith(b".")
    assert part.endswith(b".part")


def test_long_names_have_different_parts() -> None:
    assert part_name(b"a" * 254 + b"1") != part_name(b"a" * 254 + b"2")


@given(st.binary(min_size=1, max_size=255))
def test_a_part_is_written_after_whatever_it_may_be_the_part_of(name: bytes) -> None:
    assert part_level(part_name(name)) > part_level(name)
    assert part_level(part_name(part_name(name))) > part_level(part_name(name))


@pytest.mark.parametrize("name", [b"a", b".part", b"..part", b".a.Part2", b"a.part", b".bashrc"])
def test_other_names_are_nothings_part(name: bytes) -> None:
    assert part_level(name) == 0


@given(st.binary(min_size=1, max_size=255))
def test_what_is_moved_aside_has_a_name_that_fits(name: bytes) -> None:
    assert len(aside_name(name, b"old")) <= 255
    assert aside_name(name, b"old") != aside_name(name, b"old")


# -- writing


def test_a_target_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = writer(path)
    with descriptors_stay():
        file.write([memoryview(b"one")], 0)
        assert not path.exists()
        assert part_of(path).read_bytes() == b"one"
        file.write([bytearray(b"two"), memoryview(b"three")], 3)
        file.finish(Finish())
    assert path.read_bytes() == b"onetwothree"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_abandoned_leaves_the_target_and_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with descriptors_stay():
        file = writer(path)
        file.write([memoryview(b"new")], 0)
        file.abandon()
    assert path.read_bytes() == b"old"
    assert part_of(path).read_bytes() == b"new"


def test_an_empty_part_is_not_left(tmp_path: Path) -> None:
    file = writer(tmp_path / "file")
    file.open()
    file.abandon()
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer old one")
    path.chmod(0o600)
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_permissions_and_times_are_set_where_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = writer(path)
    file.write([memoryview(b"x")], 0)
    file.finish(Finish(mode=0o440, times=(1000, 2000)))
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_atime, status.st_mtime) == (0o440, 1000, 2000)


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    write(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_bytes() == b"data"


def test_a_link_that_is_planted_as_a_part_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part_of(tmp_path / "file").symlink_to(victim)
    with descriptors_stay(), pytest.raises(OSError, match="file") as raised:
        write(tmp_path / "file", b"evil")
    assert raised.value.errno == errno.ELOOP
    assert victim.read_bytes() == b"precious"


def test_a_fifo_that_is_planted_as_a_part_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(part_of(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file", b"data")


def test_a_part_is_written_by_one_transfer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = writer(path)
    first.open()
    with descriptors_stay(), pytest.raises(OSError, match="another transfer is writing it"):
        writer(path).open()
    first.write([memoryview(b"first")], 0)
    first.finish(Finish())
    assert path.read_bytes() == b"first"


def test_a_transfer_that_begins_as_another_ends_leaves_the_whole_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    first, second = writer(path), writer(path)
    first.open()
    first.write([memoryview(b"the first")], 0)
    flock = local.fcntl.flock

    def finish_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(local.fcntl, "flock", flock)
        first.finish(Finish())
        flock(descriptor, operation)

    monkeypatch.setattr(local.fcntl, "flock", finish_first)
    second.open()
    assert path.read_bytes() == b"the first"
    second.write([memoryview(b"2nd")], 0)
    assert path.read_bytes() == b"the first"
    second.finish(Finish())
    assert path.read_bytes() == b"2nd"
    assert os.listdir(tmp_path) == ["file"]


def test_a_part_that_is_put_away_again_and_again_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    monkeypatch.setattr(local.fcntl, "flock", lambda descriptor, operation: part_of(path).unlink())
    with descriptors_stay(), pytest.raises(OSError, match="again and again"):
        writer(path).open()


@pytest.mark.parametrize("resume", [True, False])
def test_a_part_with_another_name_is_somebodys_file(resume: bool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part_of(tmp_path / "file").hardlink_to(victim)
    with descriptors_stay(), pytest.raises(FileExistsError, match="no file of this user's"):
        writer(tmp_path / "file", resume=resume).open()
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("resume", [True, False])
def test_an_old_part_gives_its_permissions_to_nothing(resume: bool, tmp_path: Path) -> None:
    part = part_of(tmp_path / "file")
    part.write_bytes(b"old part")
    part.chmod(0o644)
    file = writer(tmp_path / "file", mode=0o600, resume=resume)
    file.open()
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    file.write([memoryview(b"secret")], 0)
    file.finish(Finish())
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert (tmp_path / "file").read_bytes() == b"secret"


def test_a_part_is_no_more_readable_than_the_file_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"private")
    path.chmod(0o600)
    file = writer(path, mode=0o644)
    file.open()
    assert stat.S_IMODE(part_of(path).stat().st_mode) == 0o600
    file.finish(Finish())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_part_that_somebody_replaced_is_not_renamed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = writer(path)
    file.write([memoryview(b"mine")], 0)
    part_of(path).unlink()
    part_of(path).write_bytes(b"theirs")
    with pytest.raises(OSError, match="replaced"):
        file.finish(Finish())
    assert not path.exists()


def test_a_directory_is_no_target(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "", tmp_path / "."):
        with descriptors_stay(), pytest.raises(IsADirectoryError) as raised:
            writer(path).open()
        assert raised.value.filename == str(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        writer(tmp_path / "no" / "file").open()
    assert raised.value.filename == str(tmp_path / "no" / "file")


def test_without_a_part_the_target_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer old one")
    file = writer(path, atomic=False)
    file.write([memoryview(b"new")], 0)
    assert path.read_bytes() == b"new"
    file.finish(Finish())
    assert os.listdir(tmp_path) == ["file"]


def test_a_device_is_written_as_it_is() -> None:
    file = writer(Path("/dev/null"))
    file.write([memoryview(b"data")] * 2000, 0)
    file.finish(Finish())
    assert not file.is_open


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with descriptors_stay(), largest_file(10_000):
        file = writer(path)
        with pytest.raises(OSError, match="too large") as raised:
            file.write([memoryview(b"x" * 20_000)], 0)
        assert raised.value.filename == str(path)
        file.abandon()
    assert not path.exists()
    assert part_of(path).stat().st_size == 10_000


def test_a_part_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "file"
    part_of(path).write_bytes(b"start")
    file = writer(path, resume=True)
    file.open()
    assert file.kept_bytes == 5
    assert file.read(1, 3) == b"tar"
    file.write([memoryview(b" and end")], 5)
    file.finish(Finish())
    assert path.read_bytes() == b"start and end"


def test_a_part_is_dropped_where_it_is_not_wanted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    part_of(path).write_bytes(b"something else")
    file = writer(path, resume=True)
    file.open()
    file.restart()
    file.write([memoryview(b"new")], 0)
    file.finish(Finish())
    assert path.read_bytes() == b"new"


# -- gathering and holes


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    most=st.integers(1, 30),
    vectors=st.integers(1, 3),
)
def test_writes_that_the_system_cuts_short_go_on(sizes: list[int], most: int, vectors: int) -> None:
    written = bytearray(sum(sizes) + 5)

    def pwritev(_: int, views: list[memoryview], offset: int) -> int:
        assert len(views) <= vectors
        data = b"".join(views)[:most]
        written[offset : offset + len(data)] = data
        return len(data)

    parts = [memoryview(bytes([65 + index]) * size) for index, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", pwritev)
        patch.setattr(local, "_VECTORS", vectors)
        write_parts(0, parts, 5)
    assert bytes(written[5:]) == b"".join(parts)


@given(st.integers(0, 5000), st.integers(0, 4999))
def test_only_zeros_are_zeros(size: int, place: int) -> None:
    data = bytearray(size)
    assert is_zero(data) == (size > 0)
    if place < size:
        data[place] = 1
        assert not is_zero(memoryview(data))


def test_zeros_are_left_out_and_the_size_is_right(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = writer(path)
    block, hole = memoryview(b"x" * 65536), memoryview(bytes(65536))
    file.write([hole, block, hole, hole, block, hole], 0)
    file.write([hole], 6 * 65536)
    file.finish(Finish())
    assert path.read_bytes() == bytes(hole) + bytes(block) + bytes(hole) * 2 + bytes(block) + bytes(hole) * 2
    assert path.stat().st_blocks * 512 <= 3 * 65536


# -- reading


def test_holes_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(10 << 20)
        file.write(b"data" * 1024)
    reader = LocalReader(os.fsencode(path))
    reader.open()
    buffer = memoryview(bytearray(1 << 20))
    read = 0
    offset, places = 0, []
    while True:
        offset, got = reader.fill([buffer], offset)
        if not got:
            break
        places.append(offset)
        read += got
        offset += got
    reader.close()
    assert (places[0], offset) == (10 << 20, 64 << 20)
    assert read < 1 << 20


def test_a_pipe_is_read_in_order() -> None:
    receiver, sender = os.pipe()
    os.write(sender, b"hello world")
    os.close(sender)
    reader = LocalReader(b"/proc/self/fd/%d" % receiver)
    reader.open()
    os.close(receiver)
    first, second = memoryview(bytearray(4)), memoryview(bytearray(100))
    assert reader.fill([first, second], 0) == (0, 11)
    assert bytes(first) + bytes(second[:7]) == b"hello world"
    assert reader.fill([first], 11) == (11, 0)
    reader.close()


def test_a_directory_is_not_read(tmp_path: Path) -> None:
    reader = LocalReader(os.fsencode(tmp_path))
    with descriptors_stay(), pytest.raises(IsADirectoryError, match="recurse=True"):
        reader.open()


# -- trees


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LocalTree]:
    made = LocalTree(os.fsencode(tmp_path / "root"))
    made.make_root(0o755)
    yield made
    made.close()


def new_file(folder: bytes, name: bytes, data: bytes = b"data") -> NewFile:
    return NewFile(folder, name, [memoryview(data)], 0o644, Finish())


def test_a_batch_is_written_in_its_directories(tree: LocalTree, tmp_path: Path) -> None:
    tree.make_directory(b"one", 0o755)
    tree.make_directory(b"one/two", 0o500)
    files = [new_file(b"", b"a"), new_file(b"one/two", b"b"), new_file(b"one/two", b"c"), new_file(b"one", b"d", b"")]
    with descriptors_stay():
        tree.write_files(files)
    assert [file.error for file in files] == [None] * 4
    found = sorted(str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*"))
    assert found == ["a", "one", "one/d", "one/two", "one/two/b", "one/two/c"]


def test_one_file_that_fails_does_not_hold_up_the_others(tree: LocalTree, tmp_path: Path) -> None:
    (tmp_path / "root" / "taken").mkdir()
    files = [new_file(b"", b"taken"), new_file(b"missing", b"x"), new_file(b"", b"good")]
    with descriptors_stay():
        tree.write_files(files)
    assert isinstance(files[0].error, IsADirectoryError)
    assert isinstance(files[1].error, FileNotFoundError)
    assert files[1].error.filename == str(tmp_path / "root" / "missing" / "x")
    assert files[2].error is None
    assert sorted(os.listdir(tmp_path / "root")) == ["good", "taken"]


def test_a_small_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for name, mode in {"private": 0o600, "tool": 0o755}.items():
        (tmp_path / "root" / name).write_bytes(b"old")
        (tmp_path / "root" / name).chmod(mode)
    tree = LocalTree(os.fsencode(tmp_path / "root"))
    tree.make_root(0o755)
    files = [new_file(b"", b"private"), new_file(b"", b"tool"), new_file(b"", b"new")]
    tree.write_files(files)
    tree.close()
    assert [file.error for file in files] == [None] * 3
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "root").iterdir()}
    assert (modes["private"], modes["tool"]) == (0o600, 0o755)
    assert modes["new"] & ~0o644 == 0


def test_nothing_is_looked_for_in_a_directory_that_is_new(
    tree: LocalTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.make_directory(b"one", 0o755)
    monkeypatch.setattr(LocalTree, "_mode_of", staticmethod(lambda name, directory: pytest.fail("looked for")))
    files = [new_file(b"", b"a"), new_file(b"one", b"b")]
    tree.write_files(files)
    assert [file.error for file in files] == [None] * 2


@pytest.mark.parametrize("atomic", [True, False])
def test_a_tree_is_not_written_through_links(tmp_path: Path, atomic: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"precious")
    tree = LocalTree(os.fsencode(tmp_path / "root"), atomic=atomic)
    tree.make_root(0o755)
    tree.make_symlink(b"", b"link", os.fsencode(outside))
    tree.make_symlink(b"", b"file", os.fsencode(outside / "victim"))
    with pytest.raises(OSError, match="link"):
        tree.make_directory(b"link", 0o755)
    with pytest.raises(OSError, match="link"):
        tree.make_directory(b"link/new", 0o755)
    with pytest.raises(OSError, match="link"):
        tree.open_directory(b"link")
    files = [new_file(b"link", b"victim"), new_file(b"", b"file")]
    tree.write_files(files)
    tree.close()
    assert files[0].error is not None
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_bytes() == b"precious"
    # The link itself is in the tree, and is replaced as any other file; without parts it is refused.
    assert (files[1].error is None) == atomic


def test_directories_get_what_they_get_in_the_end(tree: LocalTree, tmp_path: Path) -> None:
    tree.make_directory(b"one", 0o000)
    errors = tree.finish_directories([(b"one", Finish(mode=0o500, times=(1, 2))), (b"gone", Finish(mode=0o500))])
    assert [type(error) for error in errors] == [FileNotFoundError]
    status = (tmp_path / "root" / "one").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o500, 2)


def test_it_is_found_out_whether_case_matters(tree: LocalTree, tmp_path: Path) -> None:
    assert tree.folds_case(b"") == (tmp_path / "ROOT").exists()
    assert os.listdir(tmp_path / "root") == []


@pytest.mark.parametrize("target", [b"", b"a\0b"])
def test_a_link_to_what_is_no_path_is_refused(tree: LocalTree, target: bytes) -> None:
    with pytest.raises(OSError, match="no path"):
        tree.make_symlink(b"", b"link", target)


def test_a_scan_reads_what_is_small_and_tells_of_the_rest(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"data")
    (tmp_path / "large").write_bytes(bytes(2000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "left out").touch()
    scan = LocalScan(
        os.fsencode(tmp_path),
        follow_symlinks=False,
        small_bytes=1000,
        is_wanted=lambda name, is_directory: name != b"left out",
    )
    found = {entry.name: entry for entry in scan.next_entries(100) or []}
    assert scan.next_entries(100) is None
    scan.close()
    assert set(found) == {b"small", b"large", b"folder", b"link"}
    data = found[b"small"].data
    assert data is not None
    assert bytes(data[-4:]) == b"data"
    assert found[b"large"].data is None
    assert found[b"link"].target == b"nowhere"


def test_a_scan_that_follows_links_tells_of_those_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    scan = LocalScan(
        os.fsencode(tmp_path), follow_symlinks=True, small_bytes=1000, is_wanted=lambda name, is_directory: True
    )
    [entry] = scan.next_entries(100) or []
    scan.close()
    assert isinstance(entry.error, FileNotFoundError)


@pytest.mark.parametrize("wanted", [True, False])
def test_holes_are_passed_over_only_where_asked(wanted: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2 * MIB)
    reader = LocalReader(os.fsencode(path), sparse=wanted)
    reader.open()
    try:
        assert reader.has_holes is wanted
        at, got = reader.fill([memoryview(bytearray(KIB))], 0)
        assert (at, got) == ((2 * MIB, 0) if wanted else (0, KIB))
    finally:
        reader.close()
