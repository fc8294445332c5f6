from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from trio_ssh.errors import KeyFileException
from trio_ssh.keys import disk
from trio_ssh.keys.disk import (
    KEY_FILE_BYTES,
    read_key_file,
    read_list_file,
    refuse_open_permissions,
    write_atomically,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_key_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileException, match=r"my key: there is no such file.*ssh-keygen -t ed25519 -f '.*my key'"):
        read_key_file(tmp_path / "my key")


def test_a_directory_is_told_from_a_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileException, match=r"this is a directory, not a key.*/id_ed25519"):
        read_key_file(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, how: str, opener: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk, "open", refuse, raising=False)  # root, who may run the tests, can read everything
    with pytest.raises(KeyFileException, match=r"id: this user may not read the file. See `ls -l .*id`"):
        read_key_file(tmp_path / "id")


def test_a_path_through_a_file_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileException, match="can't be read: Not a directory"):
        read_key_file(tmp_path / "file" / "id")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_name_that_no_file_can_have_is_refused_as_such(name: str) -> None:
    with pytest.raises(KeyFileException, match="no file can have this name"):
        read_key_file(name)


def test_control_characters_in_a_name_are_escaped() -> None:
    with pytest.raises(KeyFileException, match=r"^nowhere\\x1b\[31m: "):
        read_key_file("nowhere\x1b[31m")


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_bytes(bytes(KEY_FILE_BYTES))
    assert len(read_key_file(path)[0]) == KEY_FILE_BYTES
    path.write_bytes(bytes(KEY_FILE_BYTES + 1))
    with pytest.raises(KeyFileException, match="more than 1 MiB"):
        read_key_file(path)


def test_a_device_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(KeyFileException, match="/dev/zero: the file has more than 1 MiB"):
        read_key_file("/dev/zero")


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o620, 0o601, 0o660])
def test_a_key_of_ours_that_others_may_touch_is_refused_with_the_remedy(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "id"
    path.touch()
    path.chmod(bits)
    with pytest.raises(
        KeyFileException, match=rf"UNPROTECTED PRIVATE KEY FILE: permissions 0{bits:o} .*`chmod 600 "
    ) as told:
        refuse_open_permissions(str(path), path.stat())
    assert str(path) in str(told.value)


@pytest.mark.parametrize("bits", [0o600, 0o400, 0o700])
def test_a_key_that_is_ours_alone_is_accepted(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "id"
    path.touch()
    path.chmod(bits)
    refuse_open_permissions(str(path), path.stat())


def test_the_permissions_of_a_file_of_another_user_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.touch()
    path.chmod(0o640)
    theirs = list(path.stat())
    theirs[stat.ST_UID] = os.getuid() + 1
    refuse_open_permissions(str(path), os.stat_result(theirs))


def test_a_new_file_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "new"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert mode(path) == 0o600


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o644


def test_permissions_that_are_asked_for_replace_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.touch(0o644)
    write_atomically(path, b"secret", mode=0o600)
    assert mode(path) == 0o600


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_write_that_fails_changes_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old"]


def test_a_device_is_written_to_and_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda *paths: pytest.fail("the machine would need a new one"))
    link = tmp_path / "known_hosts"
    link.symlink_to(os.devnull)
    before = os.stat(os.devnull)
    for path in (Path(os.devnull), link):
        write_atomically(path, b"a line", mode=0o600)
        after = os.stat(os.devnull)
        assert (after.st_ino, after.st_rdev, after.st_mode) == (before.st_ino, before.st_rdev, before.st_mode)
    assert link.is_symlink()
    assert os.listdir(tmp_path) == ["known_hosts"]


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no file that can be written anew"):
        write_atomically(path, b"a line")
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.fixture
def belongs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[Path, int]:
    """To whom files and directories belong, for `disk`; what is not in it is root's, and so is what runs."""
    owners: dict[Path, int] = {}

    def owned(path: Path, status: os.stat_result) -> os.stat_result:
        return os.stat_result((*status[:4], owners.get(path, 0), *status[5:]))

    real = os.stat
    monkeypatch.setattr(disk.os, "stat", lambda path: owned(Path(path), real(path)))
    monkeypatch.setattr(
        disk.os, "fstat", lambda descriptor: owned(tmp_path / "home" / ".ssh" / "keys", real(descriptor))
    )
    monkeypatch.setattr(disk.os, "getuid", lambda: owners.get(Path("me"), 0))
    monkeypatch.setattr(disk, "_home_of", lambda user_id: tmp_path / "home" if user_id else None)
    return owners


ALICE, MALLORY = 1234, 1235


@pytest.mark.parametrize(
    ("me", "home", "folder", "file", "problem"),
    [
        (0, 0, 0, 0, None),
        (0, ALICE, ALICE, ALICE, None),
        (0, ALICE, ALICE, 0, None),
        (0, 0, 0, ALICE, None),
        (ALICE, ALICE, ALICE, ALICE, None),
        (ALICE, 0, ALICE, 0, None),
        (0, ALICE, ALICE, MALLORY, "home/.ssh: it belongs to the user 1234"),
        (0, MALLORY, ALICE, ALICE, "home: it belongs to the user 1235"),
        (0, MALLORY, ALICE, 0, "home: it belongs to the user 1235"),
        (ALICE, ALICE, ALICE, MALLORY, "keys: it belongs to the user 1235"),
        (ALICE, ALICE, MALLORY, ALICE, "ssh: it belongs to the user 1235"),
        (ALICE, MALLORY, 0, 0, "home: it belongs to the user 1235"),
    ],
)
def test_a_list_that_another_user_could_replace_is_refused_where_it_matters(
    tmp_path: Path, belongs: dict[Path, int], me: int, home: int, folder: int, file: int, problem: str | None
) -> None:
    path = tmp_path / "home" / ".ssh" / "keys"
    path.parent.mkdir(parents=True)
    path.write_text("line\n")
    belongs.update({Path("me"): me, path.parent.parent: home, path.parent: folder, path: file})
    if problem is None:
        assert read_list_file(path, check_permissions=True) == "line\n"
        return
    with pytest.raises(KeyFileException, match=problem):
        read_list_file(path, check_permissions=True)
    assert read_list_file(path) == "line\n"


@pytest.mark.parametrize(("mode", "is_refused"), [(0o755, False), (0o775, True), (0o707, True), (0o1777, False)])
def test_a_list_in_a_directory_that_others_may_write_to_is_refused_where_it_matters(
    tmp_path: Path, mode: int, is_refused: bool
) -> None:
    path = tmp_path / "folder" / "keys"
    path.parent.mkdir()
    path.write_text("line\n")
    path.parent.chmod(mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in (path, link):
        if is_refused:
            with pytest.raises(KeyFileException, match=rf"folder: permissions 0{mode:o} are too open"):
                read_list_file(name, check_permissions=True)
        else:
            assert read_list_file(name, check_permissions=True) == "line\n"


def test_a_list_that_others_may_change_is_refused_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_bytes(b"\xff line\n")
    path.chmod(0o664)
    assert read_list_file(path) == "\udcff line\n"
    with pytest.raises(KeyFileException, match=r"permissions 0664 .* Run `chmod go-w "):
        read_list_file(path, check_permissions=True)


def test_what_cannot_be_written_is_named_and_nothing_else(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "id", tmp_path):
        with pytest.raises(OSError, match=re.escape(repr(str(path)))) as raised:
            write_atomically(path, b"")
        assert ".tmp" not in str(raised.value)
    write_atomically(os.fsencode(tmp_path / "id"), b"data")  # type: ignore[arg-type]
    assert (tmp_path / "id").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["id"]
