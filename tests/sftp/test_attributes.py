"""Attributes: what is left out stays out, and bytes are read strictly."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp.attributes import ATTRS, SFTPAttributes
from trio_ssh.sftp.listing import SFTPDirEntry

U32 = st.integers(0, 2**32 - 1)
PAIRS = st.one_of(st.tuples(st.none(), st.none()), st.tuples(U32, U32))


@st.composite
def attributes(draw: st.DrawFn) -> SFTPAttributes:
    """Any that the protocol can carry."""
    uid, gid = draw(PAIRS)
    atime, mtime = draw(PAIRS)
    return SFTPAttributes(
        draw(st.none() | st.integers(0, 2**64 - 1)),
        uid,
        gid,
        draw(st.none() | U32),
        atime,
        mtime,
        draw(st.dictionaries(st.binary(max_size=5), st.binary(max_size=5), max_size=3)),
    )


@given(attributes())
def test_they_arrive_as_they_were_sent(value: SFTPAttributes) -> None:
    encoded = value.encode()
    assert ATTRS.read(encoded, 0) == (value, len(encoded))
    assert ATTRS.read(b"before" + encoded + b"behind", 6) == (value, 6 + len(encoded))


@given(attributes())
def test_they_are_refused_wherever_they_are_cut(value: SFTPAttributes) -> None:
    encoded = value.encode()
    for size in range(len(encoded)):
        with pytest.raises(RemoteProtocolError):
            ATTRS.read(encoded[:size], 0)


@given(st.binary(max_size=60))
def test_any_bytes_are_attributes_or_an_error_of_the_peer(data: bytes) -> None:
    try:
        value, offset = ATTRS.read(data, 0)
    except RemoteProtocolError:
        return
    assert offset <= len(data)
    assert ATTRS.read(value.encode(), 0)[0] == value


@pytest.mark.parametrize("flags", [0x10, 0x100, 0x40000000, 0xFFFFFFFF])
def test_flags_that_announce_unknown_fields_are_refused(flags: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown flags"):
        ATTRS.read(struct.pack(">I", flags) + bytes(200), 0)


def test_a_count_that_the_bytes_cannot_hold_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="4294967295 extended"):
        ATTRS.read(struct.pack(">II", 0x80000000, 2**32 - 1) + bytes(100), 0)


def test_half_an_owner_and_half_of_the_times_are_left_out() -> None:
    assert SFTPAttributes(st_uid=1, st_mtime=2).encode() == bytes(4)


def test_what_they_say_of_a_file(tmp_path: Path) -> None:
    found = SFTPAttributes.from_stat(os.stat(tmp_path), "name", "long name")
    assert (found.is_dir(), found.is_file(), found.is_symlink()) == (True, False, False)
    assert (found.filename, str(found)) == ("name", "long name")
    assert SFTPAttributes(st_mode=stat.S_IFREG).is_file()
    assert SFTPAttributes(st_mode=stat.S_IFLNK).is_symlink()
    unknown = SFTPAttributes()
    assert not any((unknown.is_dir(), unknown.is_file(), unknown.is_symlink()))
    assert str(unknown) == "?--------- None "


def test_what_is_shown_of_a_file_is_no_command_to_a_terminal() -> None:
    evil = "\x1b[2Jx\n\udcff\u202e"
    escaped = r"\x1b[2Jx\n\udcff\u202e"
    named = SFTPAttributes(st_mode=stat.S_IFREG | 0o644, st_size=1, filename=evil)
    assert str(named) == f"-rw-r--r-- 1 {escaped}"
    assert named.asbytes() == b"-rw-r--r-- 1 \x1b[2Jx\n\xff\xe2\x80\xae"
    assert str(SFTPAttributes(filename="x", longname=evil)) == escaped
    assert str(SFTPDirEntry(evil, f"/{evil}", named)) == f"-rw-r--r-- /{escaped}"
    longest = SFTPAttributes(filename="\x1b" * 255)
    assert str(longest).endswith(r"\x1b" * 255)
