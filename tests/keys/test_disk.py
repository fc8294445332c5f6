from __future__ import annotations

import os
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
    def refuse(path: Path, how: str) -> None:
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


def test_a_list_that_others_may_change_is_refused_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_bytes(b"\xff line\n")
    path.chmod(0o664)
    assert read_list_file(path) == "\udcff line\n"
    with pytest.raises(KeyFileException, match=r"permissions 0664 .* Run `chmod go-w "):
        read_list_file(path, check_permissions=True)
