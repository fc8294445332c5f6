"""Nothing leads out of a root: by the kernel's walk and by ours, which find the same."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_ssh.sftp import beneath
from trio_ssh.sftp.beneath import Beneath, kernel_walk

SECRET = b"outside"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root beside a secret, and every kind of link in it."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "root-else").mkdir()
    (tmp_path / "root-else" / "secret").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "folder" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (root / "folder" / "file").write_bytes(b"in folder")
    (root / "secret").write_bytes(b"inside, too")
    for name, target in {
        "to_file": "file",
        "to_folder": "folder",
        "absolute": "/folder/file",
        "absolute_outside": str(tmp_path / "secret"),
        "up": "../secret",
        "far_up": "../../../../../../../../secret",
        "sibling": "../root-else/secret",
        "loop": "loop",
        "ring": "gnir",
        "gnir": "ring",
        "dangling": "missing",
        "to_root": "/",
        "to_parent": "..",
        "to_proc": "/proc/self/cwd/passwd",
        "folder/back": "../to_file",
        "folder/slash": "deep/",
    }.items():
        (root / name).symlink_to(target)
    return root


@pytest.fixture(params=[True, False], ids=["kernel", "ours"])
def root(tree: Path, request: pytest.FixtureRequest) -> Iterator[Beneath]:
    if request.param and kernel_walk() is None:
        pytest.fail("this kernel has no openat2: run the tests where there is one")
    opened = Beneath(tree, by_kernel=request.param)
    yield opened
    opened.close()


def read(root: Beneath, path: bytes, flags: int = os.O_RDONLY) -> bytes:
    descriptor = root.open(path, flags)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (b"file", b"inside"),
        (b"/file", b"inside"),
        (b"//folder/./../file", b"inside"),
        (b"../../../file", b"inside"),
        (b"to_file", b"inside"),
        (b"to_folder/file", b"in folder"),
        (b"absolute", b"in folder"),
        (b"up", b"inside, too"),
        (b"far_up", b"inside, too"),
        (b"to_root/to_root/../file", b"inside"),
        (b"to_parent/to_parent/file", b"inside"),
        (b"folder/back", b"inside"),
        (b"to_folder/deep/../file", b"in folder"),
        (b"folder/slash/../file", b"in folder"),
    ],
)
def test_a_path_leads_where_it_would_after_chroot(root: Beneath, path: bytes, content: bytes) -> None:
    assert read(root, path) == content


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"", errno.ENOENT),
        (b"absolute_outside", errno.ENOENT),
        (b"sibling", errno.ENOENT),
        (b"../root-else/secret", errno.ENOENT),
        (b"to_proc", errno.ENOENT),
        (b"loop", errno.ELOOP),
        (b"ring", errno.ELOOP),
        (b"ring/x", errno.ELOOP),
        (b"dangling", errno.ENOENT),
        (b"file/", errno.ENOTDIR),
        (b"file/.", errno.ENOTDIR),
        (b"file/x", errno.ENOTDIR),
        (b"to_file/", errno.ENOTDIR),
        (b"missing/..", errno.ENOENT),
        (b"x" * 256, errno.ENAMETOOLONG),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error(root: Beneath, path: bytes, number: int) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 -- the number is what counts
        read(root, path)
    assert raised.value.errno == number


@pytest.mark.parametrize("path", [b".", b"/", b"..", b"../..", b"to_root", b"to_parent", b"folder/.."])
def test_the_root_is_its_own_parent(root: Beneath, tree: Path, path: bytes) -> None:
    descriptor = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.path.samestat(os.fstat(descriptor), tree.stat())
    finally:
        os.close(descriptor)


def test_the_last_link_is_not_followed_where_that_is_wanted(root: Beneath) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 -- the number is what counts
        root.open(b"to_file", os.O_RDONLY | os.O_NOFOLLOW)
    assert raised.value.errno == errno.ELOOP


def test_a_file_is_made_where_a_dangling_link_leads(root: Beneath, tree: Path) -> None:
    os.close(root.open(b"dangling", os.O_WRONLY | os.O_CREAT, 0o600))
    assert stat.S_IMODE((tree / "missing").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        root.open(b"to_file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@pytest.mark.parametrize("path", [b"new/", b"file/", b"to_file/", b"dangling/", b"folder/"])
def test_no_file_is_made_by_a_directory_s_name(root: Beneath, tree: Path, path: bytes) -> None:
    with pytest.raises(IsADirectoryError):
        root.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    assert not {"new", "missing"} & set(os.listdir(tree))


def test_descriptors_are_not_for_children_and_none_is_left(root: Beneath) -> None:
    before = set(os.listdir("/proc/self/fd"))
    descriptor = root.open(b"to_folder/deep/../file", os.O_RDONLY)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    for path in (b"ring", b"folder/missing/x", b"folder/deep/../../absolute_outside"):
        with pytest.raises(OSError):  # noqa: PT011 -- whichever
            root.open(path, os.O_RDONLY)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"file", b"file"), (b"folder/deep/", b"deep"), (b"to_folder/new", b"new"), (b"/", b""), (b"folder/..", b"")],
)
def test_a_place_is_a_directory_and_a_name(root: Beneath, path: bytes, name: bytes) -> None:
    with root.parent(path) as place:
        assert place.name == name
        if not name:
            with pytest.raises(OSError, match="names a directory by another name"):
                place.entry()


def test_links_are_not_followed_where_that_is_not_wanted(tree: Path) -> None:
    for by_kernel in (True, False):
        root = Beneath(tree, follow_symlinks=False, by_kernel=by_kernel)
        for path in (b"to_file", b"to_folder/file"):
            with pytest.raises(OSError) as raised:  # noqa: PT011 -- the number is what counts
                read(root, path)
            assert raised.value.errno == errno.ELOOP
        assert read(root, b"folder/file") == b"in folder"
        with root.parent(b"to_file") as place:
            assert os.readlink(place.name, dir_fd=place.folder) == b"file"
        root.close()


def test_an_old_kernel_or_a_sandbox_leaves_the_walk_to_us(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "kernel_walk", lambda: None)
    root = Beneath(tree)
    assert read(root, b"absolute") == b"in folder"
    root.close()
    with pytest.raises(OSError, match="no openat2"):
        Beneath(tree, by_kernel=True)


def test_a_walk_that_the_kernel_cannot_finish_is_ours(tree: Path) -> None:
    root = Beneath(tree, by_kernel=True)
    tries = 0

    def busy(folder: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
        nonlocal tries
        tries += 1
        raise OSError(errno.EAGAIN, "a directory was renamed")

    root._openat2 = busy
    assert read(root, b"folder/../file") == b"inside"
    assert tries == 16
    root.close()


NAMES = st.sampled_from(
    b"file folder deep to_file to_folder absolute up loop to_root to_parent .. . back slash dangling secret".split()
)


@given(names=st.lists(NAMES, max_size=7), leading=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_walks_find_the_same(tree: Path, names: list[bytes], leading: bool) -> None:
    path = b"/" * leading + b"/".join(names)
    found: list[object] = []
    for by_kernel in (True, False):
        root = Beneath(tree, by_kernel=by_kernel)
        try:
            descriptor = root.open(path, os.O_RDONLY)
        except OSError as error:
            found.append(error.errno)
        else:
            status = os.fstat(descriptor)
            found.append((status.st_dev, status.st_ino))
            os.close(descriptor)
        finally:
            root.close()
    assert found[0] == found[1]
    outside = tree.parent / "secret"
    assert found[0] != (outside.stat().st_dev, outside.stat().st_ino)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_a_directory_that_becomes_a_link_under_our_feet_leads_nowhere(tree: Path, by_kernel: bool) -> None:
    """One thread swaps a directory for a link to the outside and back, another opens through it all the time."""
    (tree / "swapped").mkdir()
    (tree / "swapped" / "secret").write_bytes(b"inside")
    os.symlink("../root-else", tree / "link")
    root = Beneath(tree, by_kernel=by_kernel)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            os.rename(tree / "swapped", tree / "aside")
            os.rename(tree / "link", tree / "swapped")
            os.rename(tree / "swapped", tree / "link")
            os.rename(tree / "aside", tree / "swapped")

    thread = threading.Thread(target=swap)
    thread.start()
    contents: set[bytes] = set()
    errors: set[int | None] = set()
    try:
        for _ in range(3000):
            try:
                contents.add(read(root, b"folder/../swapped/../swapped/secret"))
            except OSError as error:
                errors.add(error.errno)
    finally:
        is_over.set()
        thread.join()
        root.close()
    assert contents <= {b"inside"}
    assert errors <= {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def test_a_directory_that_is_moved_out_is_no_way_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps of our walk the directory that it stands in is moved outside: ``..`` doesn't follow there."""
    root = Beneath(tree, by_kernel=False)
    look = Beneath._link
    seen: list[bytes] = []

    def moving(folder: int, name: bytes) -> bytes | None:
        seen.append(name)
        if name == b"deep":
            os.rename(tree / "folder", tree.parent / "moved")
        return look(folder, name)

    monkeypatch.setattr(Beneath, "_link", staticmethod(moving))
    assert read(root, b"folder/deep/../../secret") == b"inside, too"
    assert seen == [b"folder", b"deep", b"secret"]
    root.close()
