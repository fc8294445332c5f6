from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, strategies

from tests.keys.samples import load, string
from trio_ssh.errors import KeyFileException
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.krl import KRL_BYTES, KeyRevocationList, _Serials
from trio_ssh.wire.message import Message

AUTHORITY: Final = Ed25519Key(bytes(range(32)))
OTHER: Final = Ed25519Key(bytes(32))
KEY: Final = load("ecdsa256.openssh").public_key
SPARED: Final = load("rsa2048.openssh").public_key


def certified(serial: int = 0, key_id: str = "laptop", authority: Ed25519Key = AUTHORITY) -> Certificate:
    return Certificate.issue_for_user(
        authority, KEY, key_id=key_id, principals=["alice"], valid_before=Certificate.FOREVER, serial=serial
    )


certified_once = functools.cache(certified)


def again(revoked: KeyRevocationList) -> KeyRevocationList:
    return KeyRevocationList.from_bytes(revoked.to_bytes(1_700_000_000))


def section(kind: int, content: bytes) -> bytes:
    return bytes((kind,)) + string(content)


def krl(*sections: bytes, version: int = 1) -> bytes:
    header = Message(b"SSHKRL\n\0").add_int(version).add_int64(7).add_int64(0).add_int64(0)
    return header.add_string("reserved").add_string("by hand").add_bytes(b"".join(sections)).asbytes()


def about(*subsections: bytes, authority: bytes = AUTHORITY.public_key.blob) -> bytes:
    return section(1, string(authority) + string(b"") + b"".join(subsections))


def numbers(*serials: int) -> bytes:
    return b"".join(serial.to_bytes(8, "big") for serial in serials)


# -- what is revoked


def test_an_empty_list_revokes_nothing() -> None:
    empty = again(KeyRevocationList())
    assert not empty.is_revoked(KEY)
    assert not empty.is_revoked(certified(1))
    assert repr(empty) == "<KeyRevocationList: 0 keys, certificates of 0 authorities>"


def test_a_revoked_key_takes_its_certificates_along() -> None:
    revoked = KeyRevocationList()
    revoked.revoke(KEY)
    for read in (revoked, again(revoked)):
        assert read.is_revoked(KEY)
        assert read.is_revoked(certified())
        assert not read.is_revoked(SPARED)


def test_a_revoked_authority_takes_what_it_certified_along() -> None:
    revoked = KeyRevocationList()
    revoked.revoke(AUTHORITY.public_key)
    assert again(revoked).is_revoked(certified())
    assert not again(revoked).is_revoked(certified(authority=OTHER))
    assert not again(revoked).is_revoked(KEY)


def test_a_certificate_is_revoked_by_its_number_and_its_key_is_not() -> None:
    revoked = KeyRevocationList()
    revoked.revoke(certified(5))
    read = again(revoked)
    assert read.is_revoked(certified(5, "another id"))
    assert not read.is_revoked(certified(6))
    assert not read.is_revoked(certified(5, authority=OTHER))
    assert not read.is_revoked(KEY)


def test_a_certificate_without_a_number_is_revoked_by_its_key_id() -> None:
    revoked = KeyRevocationList()
    revoked.revoke(certified(0, "lost"))
    read = again(revoked)
    assert read.is_revoked(certified(9, "lost"))
    assert not read.is_revoked(certified(0, "kept"))
    assert not read.is_revoked(certified(0, "lost", OTHER))


def test_numbers_and_ids_may_be_every_authoritys() -> None:
    revoked = KeyRevocationList()
    revoked.revoke_serials(None, 10, 20)
    revoked.revoke_key_id(None, "lost")
    read = again(revoked)
    assert read.is_revoked(certified(10, authority=OTHER))
    assert read.is_revoked(certified(1, "lost", OTHER))
    assert not read.is_revoked(certified(21, "kept", OTHER))


def test_zero_is_no_number() -> None:
    read = KeyRevocationList.from_bytes(krl(about(section(0x20, numbers(0, 5)), section(0x21, numbers(0, 9)))))
    assert not read.is_revoked(certified(0))
    assert read.is_revoked(certified(1))


@pytest.mark.parametrize(("first", "last"), [(0, None), (5, 4), (1, 2**64), (-1, None)])
def test_numbers_that_are_none_are_not_revoked(first: int, last: int | None) -> None:
    with pytest.raises(ValueError, match="serial numbers are from 1"):
        KeyRevocationList().revoke_serials(None, first, last)


small = strategies.integers(1, 40)


@given(strategies.lists(strategies.tuples(small, small).map(sorted), max_size=8))
def test_ranges_in_any_order_revoke_what_they_hold(ranges: list[list[int]]) -> None:
    revoked = KeyRevocationList()
    for first, last in ranges:
        revoked.revoke_serials(None, first, last)
    held = {serial for first, last in ranges for serial in range(first, last + 1)}
    read = again(revoked)._certified
    assert {serial for serial in range(42) if read and serial in read[b""].serials} == held


@given(strategies.lists(small, max_size=12))
def test_numbers_in_any_order_are_those_that_they_are(serials: list[int]) -> None:
    read = KeyRevocationList.from_bytes(krl(about(section(0x20, numbers(*serials)))))
    assert {serial for serial in range(42) if read.is_revoked(certified_once(serial))} == set(serials)


def test_a_list_is_put_in_order_by_who_reads_it_and_not_by_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds where there are millions of numbers, and who asks may be an event loop."""
    read = KeyRevocationList.from_bytes(krl(about(section(0x20, numbers(7, 3, 5)))))
    monkeypatch.setattr(_Serials, "settle", lambda self: pytest.fail("it was not in order"))
    assert [read.is_revoked(certified_once(serial)) for serial in (3, 4, 5, 6, 7)] == [True, False, True, False, True]


def test_the_largest_numbers_are_numbers() -> None:
    revoked = KeyRevocationList()
    revoked.revoke_serials(None, 2**64 - 2, 2**64 - 1)
    revoked.revoke_serials(None, 2**64 - 1)
    assert again(revoked).is_revoked(certified(2**64 - 1))
    assert not again(revoked).is_revoked(certified(2**64 - 3))


def test_a_bitmap_revokes_the_numbers_of_its_bits() -> None:
    bitmap = section(0x22, Message().add_int64(100).add_mpint(0b1000_0101).asbytes())
    read = KeyRevocationList.from_bytes(krl(about(bitmap)))
    for tried in (read, again(read)):
        assert [serial for serial in range(90, 120) if tried.is_revoked(certified(serial))] == [100, 102, 107]


@pytest.mark.parametrize(("kind", "hash_name"), [(3, "sha1"), (5, "sha256")])
def test_a_fingerprint_revokes_its_key(kind: int, hash_name: str) -> None:
    digest = hashlib.new(hash_name, KEY.blob).digest()
    read = KeyRevocationList.from_bytes(krl(section(kind, string(digest))))
    for tried in (read, again(read)):
        assert tried.is_revoked(KEY)
        assert tried.is_revoked(certified())
        assert not tried.is_revoked(SPARED)


def test_a_certificate_among_the_keys_revokes_its_key() -> None:
    read = KeyRevocationList.from_bytes(krl(section(2, string(certified().blob))))
    assert read.is_revoked(KEY)


def test_a_key_of_a_kind_that_we_cannot_use_may_be_revoked() -> None:
    read = KeyRevocationList.from_bytes(
        krl(section(2, string(string(b"ssh-new") + string(b"point")) + string(KEY.blob)))
    )
    assert read.is_revoked(KEY)


def test_the_header_and_what_may_be_passed_over_are_read() -> None:
    extension = string(b"new@example.com") + b"\0" + string(b"content")
    read = KeyRevocationList.from_bytes(
        krl(section(255, extension), about(section(0x39, extension)), section(2, string(KEY.blob)))
    )
    assert read.is_revoked(KEY)
    assert (read.version, read.comment) == (7, "by hand")
    assert (again(read).version, again(read).comment) == (7, "by hand")


def test_a_signature_of_the_list_is_read_over() -> None:
    signature = b"\4" + string(AUTHORITY.public_key.blob) + string(b"any")
    read = KeyRevocationList.from_bytes(krl(section(2, string(KEY.blob)), signature, signature))
    assert read.is_revoked(KEY)


# -- lists that are damaged


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ([section(6, b"")], "unknown kind 6"),
        ([section(0, b"")], "unknown kind 0"),
        ([about(section(0x24, b""))], "unknown kind 36"),
        ([section(1, b"")], "AuthoritySection.authority"),
        ([about(authority=b"x")], "ends inside"),
        ([about(authority=string(b"ssh-ed25519"))], "a key that is none"),
        ([about(section(0x20, bytes(9)))], "ends inside one"),
        ([about(section(0x21, numbers(5, 4)))], "ends before it begins"),
        ([about(section(0x21, numbers(5)))], "ends inside"),
        ([about(section(0x21, numbers(5, 6, 7)))], "8 bytes too many"),
        ([about(section(0x22, numbers(5)))], "ends inside"),
        ([about(section(0x22, numbers(5) + string(b"\x80")))], "no serial numbers"),
        ([about(section(0x22, numbers(2**64 - 1) + string(b"\x03")))], "no serial numbers"),
        ([about(section(0x22, numbers(5) + string(bytes(2050))))], "2050 bytes"),
        ([about(section(0x23, b"x"))], "ends inside"),
        ([section(2, string(b"x"))], "ends inside"),
        ([section(2, string(string(b"ssh-ed25519")))], "a key that is none"),
        ([section(2, string(string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"")))], "ends inside"),
        ([section(3, string(bytes(32)))], "32 bytes instead of 20"),
        ([section(5, string(bytes(20)))], "20 bytes instead of 32"),
        ([section(255, string(b"new@x") + b"\1" + string(b""))], "'new@x', which must not be passed over"),
        ([section(255, string(b"\x1b") + b"\1" + string(b""))], r"'\\x1b'"),
        ([about(section(0x39, string(b"new@x") + b"\1" + string(b"")))], "'new@x', which must not"),
        ([b"\4" + string(b"key")], "ends inside"),
        ([b"\4" + string(b"key") + string(b""), section(2, b"")], "stands behind its signature"),
    ],
)
def test_a_damaged_list_is_refused_as_a_whole(sections: list[bytes], complaint: str) -> None:
    with pytest.raises(KeyFileException, match=f"{complaint}.*trust no key until then") as caught:
        KeyRevocationList.from_bytes(krl(section(2, string(KEY.blob)), *sections), "a.krl")
    assert str(caught.value).startswith("a.krl: the revocation list is damaged")


def test_a_format_of_another_version_is_refused() -> None:
    with pytest.raises(KeyFileException, match="of the version 2"):
        KeyRevocationList.from_bytes(krl(version=2))


def test_a_list_cut_at_any_byte_is_refused_or_ends_between_sections() -> None:
    sections = [about(section(0x20, numbers(1, 2)), section(0x23, string(b"id"))), section(2, string(KEY.blob))]
    whole = krl(*sections)
    seams = {len(krl(*sections[:count])) for count in range(len(sections))}
    for length in range(len(whole)):
        if length not in seams:
            with pytest.raises(KeyFileException):
                KeyRevocationList.from_bytes(whole[:length] or b"x")


@given(strategies.binary(max_size=200))
def test_any_sections_are_read_or_refused(data: bytes) -> None:
    for content in (krl(data), krl(about(data)), data):
        try:
            read = KeyRevocationList.from_bytes(content)
        except KeyFileException:
            continue
        read.is_revoked(certified(1))


def test_a_list_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileException, match="more than 16 MiB"):
        KeyRevocationList.from_bytes(bytes(KRL_BYTES + 1))
    path = tmp_path / "long.krl"
    with path.open("wb") as file:
        file.truncate(KRL_BYTES + 1)
    with pytest.raises(KeyFileException, match="more than 16 MiB"):
        KeyRevocationList.load(path)


# -- lists of lines


def test_a_text_with_a_key_on_each_line_revokes_them() -> None:
    text = f"# lost\n\n  {KEY.to_openssh('a comment')}\r\n{AUTHORITY.public_key.to_openssh()}"
    read = KeyRevocationList.from_bytes(text.encode())
    assert read.is_revoked(KEY)
    assert read.is_revoked(AUTHORITY.public_key)
    assert not read.is_revoked(SPARED)


def test_a_certificate_on_a_line_revokes_its_key() -> None:
    assert KeyRevocationList.from_bytes(certified().to_openssh().encode()).is_revoked(KEY)


def test_a_short_rsa_key_and_one_of_an_unknown_kind_may_stand_on_a_line() -> None:
    short = load("rsa1024.openssh").public_key
    unknown = base64.b64encode(string(b"ssh-new") + string(b"point")).decode()
    assert KeyRevocationList.from_bytes(f"ssh-new {unknown}\n{short.to_openssh()}".encode()).is_revoked(short)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"ssh-ed25519", "the line ends before a key"),
        (b"ssh-ed25519 !", "not base64"),
        (b"ssh-ed25519 AAAA", "ends inside"),
        (b"ssh-rsa " + KEY.to_openssh().split()[1].encode(), "another type than the line says"),
        (b"no-pty " + KEY.to_openssh().encode(), "not base64"),
        (b"\xff\xfe\x1b", "ends before a key"),
    ],
)
def test_a_line_that_is_no_key_refuses_the_list_and_is_named(line: bytes, complaint: str) -> None:
    with pytest.raises(KeyFileException, match=f"^lost.txt:2: '.*revokes no key: .*{complaint}") as caught:
        KeyRevocationList.from_bytes(KEY.to_openssh().encode() + b"\n" + line, "lost.txt")
    assert str(caught.value).isprintable()


# -- files


def test_a_list_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    revoked = KeyRevocationList(3, "of May")
    revoked.revoke(KEY)
    revoked.save(path, generated=1_700_000_000)
    read = KeyRevocationList.load(path)
    assert read.is_revoked(KEY)
    assert (read.version, read.comment) == (3, "of May")
    assert read.to_bytes(1_700_000_000) == path.read_bytes()


def test_a_missing_list_revokes_nothing_silently(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KeyRevocationList.load(tmp_path / "revoked")


def test_a_certificate_is_no_authority() -> None:
    with pytest.raises(TypeError, match="an authority is a public key, or None for every one, not Certificate"):
        KeyRevocationList().revoke_serials(certified(), 1, 100)  # type: ignore[arg-type]
