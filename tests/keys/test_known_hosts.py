from __future__ import annotations

import copy
import errno
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies

from tests.keys.samples import garbled, load
from trio_ssh.errors import KeyFileException
from trio_ssh.keys import disk, lock
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.known_hosts import HostKeys, HostKeyStatus, PlainRecord, known_hosts_name, name_without_port
from trio_ssh.keys.known_hosts_line import KnownKey, lower

KNOWN, UNKNOWN, CHANGED, REVOKED = HostKeyStatus

ED25519 = load("ed25519.openssh").public_key
OTHER_ED25519 = load("ed25519.pkcs8").public_key
ECDSA = load("ecdsa256.openssh").public_key
RSA = load("rsa2048.openssh").public_key
SHORT_RSA = load("rsa1024.openssh").public_key
A, B, C, R = (key.to_openssh() for key in (ED25519, OTHER_ED25519, ECDSA, RSA))
CERTIFIED_A = Certificate.issue_for_host(
    load("ecdsa256.openssh"), ED25519, key_id="a", principals=["host"], valid_before=Certificate.FOREVER
).to_openssh()
FOREIGN = "ssh-xmss AAAACHNzaC14bXNzAAAA"
SALT = bytes(range(20))


def known(*lines: str) -> HostKeys:
    return HostKeys.from_text("".join(f"{line}\n" for line in lines))


# -- names


def test_a_name_carries_its_port_unless_it_is_22() -> None:
    assert known_hosts_name("Example.COM", 22) == "example.com"
    assert known_hosts_name("Example.COM", 2222) == "[example.com]:2222"
    assert known_hosts_name("::1", 22) == "::1"
    assert known_hosts_name("::1", 2222) == "[::1]:2222"


def test_only_ascii_letters_are_lowered() -> None:
    kelvin = "\N{KELVIN SIGN}"
    assert known_hosts_name(f"{kelvin}K", 22) == f"{kelvin}k"
    assert known(f"k {A}").check(kelvin, ED25519) is UNKNOWN


# -- what a line is for


@pytest.mark.parametrize(
    ("hosts", "hostname", "expected"),
    [
        ("host", "host", True),
        ("host", "HOST", True),
        ("HOST", "host", True),
        ("host", "hos", False),
        ("a,host,b", "host", True),
        ("a,,b", "", False),
        ("*.example.com", "www.example.com", True),
        ("*.Example.com,!www.example.com", "www.example.com", False),
        ("*.example.com,!www.example.com", "ftp.example.com", True),
        ("!www.example.com", "ftp.example.com", False),
        ("10.0.0.?", "10.0.0.7", True),
        ("[host]:2222", "[host]:2222", True),
        ("[host]:2222", "host", False),
        ("host", "[host]:2222", False),
        ("[*]:2222", "[host]:2222", True),
        ("*", "[host]:2222", True),
        (HostKeys.hash_host("host", SALT), "host", True),
        (HostKeys.hash_host("host", SALT), "HOST", True),
        (HostKeys.hash_host("host", SALT), "hosts", False),
        (HostKeys.hash_host("[host]:2222", SALT), "[host]:2222", True),
        (HostKeys.hash_host("*", SALT), "host", False),
    ],
)
def test_a_line_is_for_the_hosts_that_openssh_takes_it_for(hosts: str, hostname: str, expected: bool) -> None:
    keys = known(f"{hosts} {A}")
    assert keys.problems == []
    assert bool(keys.lookup(hostname)) is expected


def test_a_hashed_name_is_that_of_openssh() -> None:
    # What ssh-keygen -H made of "host.example".
    salt = bytes.fromhex("167d835416c4580d779e121803a028cb73c89c5d")
    assert HostKeys.hash_host("host.example", salt) == "|1|Fn2DVBbEWA13nhIYA6Aoy3PInF0=|Ta7aTNNyR1rDy9Xg/HQPwlz5N9c="


def test_a_name_is_hashed_with_another_salt_each_time() -> None:
    assert HostKeys.hash_host("host") != HostKeys.hash_host("host")
    with pytest.raises(ValueError, match="20 bytes, not 3"):
        HostKeys.hash_host("host", b"abc")


def test_entries_come_in_the_order_of_their_lines_with_their_places() -> None:
    keys = HostKeys.from_text(f"# comment\nhost {A}\n\n@revoked * {B}\n@cert-authority\thost\t{C} comment\n", "file")
    assert keys.lookup("host") == (
        KnownKey(ED25519, None, "file:2"),
        KnownKey(OTHER_ED25519, "revoked", "file:4"),
        KnownKey(ECDSA, "cert-authority", "file:5"),
    )


# -- what is on record about a key


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], UNKNOWN),
        ([f"other {A}"], UNKNOWN),
        ([f"host {A}"], KNOWN),
        ([f"host {B}"], CHANGED),
        ([f"host {B}", f"host {A}"], KNOWN),
        ([f"host {A}", f"host {B}"], KNOWN),
        ([f"host {C}"], CHANGED),
        ([f"host {C}", f"host {A}"], KNOWN),
        ([f"* {B}"], CHANGED),
        ([f"host {FOREIGN}"], UNKNOWN),
        ([f"@cert-authority host {A}"], UNKNOWN),
        ([f"@cert-authority host {B}"], UNKNOWN),
        ([f"@revoked host {A}"], REVOKED),
        ([f"@revoked host {B}"], UNKNOWN),
        ([f"@revoked other {A}", f"host {A}"], KNOWN),
        ([f"host {A}", f"@revoked * {A}"], REVOKED),
        ([f"@revoked host {A}", f"host {A}"], REVOKED),
        ([f"@revoked host {A}", f"host {B}"], REVOKED),
        ([f"@revoked *,!host {A}", f"host {A}"], KNOWN),
        ([f"host {A}", f"@revoked * {CERTIFIED_A}"], REVOKED),
        ([f"host {B}", f"@revoked * {CERTIFIED_A}"], REVOKED),
        ([f"host {CERTIFIED_A}"], CHANGED),
        ([f"host {A}", f"host {CERTIFIED_A}"], KNOWN),
        ([f"other {CERTIFIED_A}"], UNKNOWN),
        ([f"@cert-authority host {CERTIFIED_A}"], UNKNOWN),
    ],
)
def test_a_key_is_known_changed_or_revoked_as_for_openssh(lines: list[str], expected: HostKeyStatus) -> None:
    assert known(*lines).check("host", ED25519) is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"host {A}"], KNOWN),
        ([f"host {B}"], UNKNOWN),
        ([f"host {B}", f"[host]:2222 {A}"], KNOWN),
        ([f"host {A}", f"[host]:2222 {B}"], CHANGED),
        ([f"@revoked host {A}"], REVOKED),
        ([f"@revoked host {A}", f"[host]:2222 {A}"], KNOWN),
        ([f"[host]:22 {A}"], UNKNOWN),
    ],
)
def test_a_host_on_another_port_is_known_by_its_key_for_port_22(lines: list[str], expected: HostKeyStatus) -> None:
    assert known(*lines).check("[host]:2222", ED25519) is expected


def test_a_certificate_on_record_is_no_authority_no_key_type_and_not_a_host_s_own_line() -> None:
    keys = known(f"@cert-authority host {CERTIFIED_A}", f"host {CERTIFIED_A}")
    assert keys.authorities("host") == keys.key_types("host") == keys.plain_records("host") == ()
    assert not keys.problems
    damaged = known(f"host {CERTIFIED_A[:-8]}", f"host ssh-rsa-cert-v01@openssh.com {CERTIFIED_A.split()[1]}")
    assert len(damaged.problems) == 2


def test_a_short_rsa_key_can_be_revoked() -> None:
    assert known(f"@revoked * {SHORT_RSA.to_openssh()}").check("host", SHORT_RSA) is REVOKED


def test_the_types_on_record_come_each_once_and_without_authorities() -> None:
    keys = known(f"host {C}", f"@cert-authority host {R}", f"host {A}", f"host {B}", f"@revoked * {R}", f"x {R}")
    assert keys.key_types("HOST") == ("ecdsa-sha2-nistp256", "ssh-ed25519")
    assert keys.key_types("nowhere") == ()


# -- lines that are not understood


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("host", "ends before a key"),
        ("host ssh-ed25519", "ends before a key"),
        ("host # comment here", "ends before a key"),
        ("host ssh-ed25519 # comment", "ends before a key"),
        ("@revoked", "ends before a key"),
        (f"@revoke host {A}", "marker @revoke is unknown"),
        (f"@\x1b[m host {A}", r"marker @\x1b[m is unknown"),
        (f"@revoked @revoked host {A}", "one marker at most"),
        ("host ssh-ed25519 !!!", "not a usable public key: it is not base64"),
        (f"host {A[:-8]}", "not a usable public key"),
        (
            f"host {A.replace('ssh-ed25519', 'ssh-rsa')}",
            "the line says ssh-rsa, but the key is of the type ssh-ed25519",
        ),
        (f"host {A.replace('ssh-ed25519', 'ssh-xmss')}", "the line says ssh-xmss, but the key is of another type"),
        ("host 2048 65537 1234567890", "a key of SSH 1"),
        ("host ssh-xmss AA=A", "not base64"),
        ("host ssh-xmss AAAA", "ends inside"),
        (f"|1|x|y {A}", "hashed host name is not"),
        (f"|2|AAAA|AAAA {A}", "hashed host name is not |1|"),
        (f"|1|AAAA {A}", "hashed host name is not |1|"),
        (f"|1|AAAA|AAAA {A}", "not of the length"),
        (f"{HostKeys.hash_host('host', SALT)},other {A}", "hashed host name is not base64"),
        (f"{'a' * 1024} {A}", "more than 1023 characters"),
    ],
)
def test_a_malformed_line_is_named_and_the_others_protect_on(line: str, problem: str) -> None:
    keys = known(f"host {B}", line)
    assert len(keys.problems) == 1
    assert keys.problems[0].startswith("known_hosts:2: ")
    assert problem in keys.problems[0]
    assert keys.check("host", ED25519) is CHANGED


def test_only_a_known_key_is_true_as_for_paramiko() -> None:
    assert [status for status in HostKeyStatus if status] == [KNOWN]
    keys = known(f"host {A}")
    assert keys.check("host", ED25519)
    assert not keys.check("elsewhere", ED25519)


@pytest.mark.parametrize(
    "line", ["", " \t", "# comment", "\t#", f"host {FOREIGN}", f"host {FOREIGN} comment", f" host\t{A} \r"]
)
def test_a_line_for_people_or_for_others_is_no_problem(line: str) -> None:
    assert known(line).problems == []


WEIRD = [
    f"host {A}",
    f"host {B}\r",
    "",
    "# \udcff\udc80",
    "nonsense",
    f"  x\t{C}  c  c ",
    "\x00\x0b\x0c\u2028",
    f"y {FOREIGN}",
]


def test_every_line_survives_as_it_was() -> None:
    text = "\n".join(WEIRD) + "\n"
    assert HostKeys.from_text(text).to_text() == text
    assert HostKeys.from_text(text[:-1]).to_text() == text
    assert HostKeys.from_text("").to_text() == ""


words = strategies.sampled_from(
    [
        "host",
        "*",
        "!x",
        ",",
        "|1|",
        "@revoked",
        "@cert-authority",
        A,
        B,
        FOREIGN,
        " ",
        "\t",
        "#",
        "\r",
        "ssh-rsa",
        "AAAA",
    ]
)
lines = strategies.lists(words | strategies.text(max_size=8), max_size=8).map("".join)


@given(strategies.lists(lines, max_size=6).map("\n".join), strategies.text(max_size=12))
def test_any_text_is_survived_and_kept(text: str, hostname: str) -> None:
    keys = HostKeys.from_text(text)
    assert keys.to_text().rstrip("\n") == text.rstrip("\n")
    for name in (hostname, "host"):
        keys.check(name, ED25519)
        keys.key_types(name)
    assert len(keys.problems) <= text.count("\n") + 1
    repr(keys)


@given(strategies.binary(max_size=200))
def test_any_bytes_in_a_file_are_survived_and_kept(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "known_hosts"
    path.write_bytes(data)
    keys = HostKeys()
    keys.load(path)
    keys.add("new", None, ED25519)
    keys.save(path)
    assert path.read_bytes().startswith(data)
    assert keys.check("new", ED25519) is KNOWN


# -- changing


def test_a_key_that_is_added_is_known_from_then_on() -> None:
    keys = known(f"host {C}")
    keys.add("[Host]:2222", "ssh-ed25519", ED25519)
    keys.add("host", None, ED25519)
    assert keys.to_text().splitlines()[1:] == [f"[host]:2222 {A}", f"host {A}"]
    assert keys.lookup("host") == (KnownKey(ECDSA, None, "known_hosts:1"), KnownKey(ED25519, None, "added here"))


def test_a_private_key_stands_for_its_public_half() -> None:
    hosts = HostKeys()
    hosts.add("host", "ssh-ed25519", load("ed25519.openssh"))
    assert hosts.lookup("host")[0].key == ED25519
    assert hosts.check("host", load("ed25519.openssh")) is KNOWN
    assert hosts.check("host", load("ed25519.pkcs8")) is CHANGED
    assert hosts.remove("host", load("ed25519.pkcs8")) == 0
    assert hosts.remove("host", load("ed25519.openssh")) == 1


def test_what_is_no_key_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a key is wanted here, not str"):
        HostKeys().add("host", None, A)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a key is wanted here, not bytes"):
        HostKeys().check("host", b"key")  # type: ignore[arg-type]


def test_a_key_that_is_known_is_not_added_again() -> None:
    keys = known(f"*.example {A}")
    keys.add("www.example", None, ED25519)
    assert keys.to_text() == f"*.example {A}\n"


def test_a_name_may_be_added_in_hashed_form() -> None:
    keys = HostKeys()
    keys.add(HostKeys.hash_host("host", SALT), None, ED25519)
    assert keys.check("host", ED25519) is KNOWN
    assert "host" not in keys.to_text()


@pytest.mark.parametrize(
    "hostname",
    [
        "",
        "*",
        "a?",
        "!a",
        "a,b",
        "a b",
        "a\tb",
        "a\nb",
        "#a",
        "@a",
        "|1|a",
        "|1|AAAA|AAAA",
        f"{HostKeys.hash_host('a', SALT)} ssh-rsa",
        f"{HostKeys.hash_host('a', SALT)}\n* {B}",
        "a\0",
        "\ud800",
        "a" * 1024,
    ],
)
def test_what_is_not_one_hosts_name_is_not_added(hostname: str) -> None:
    keys = HostKeys()
    with pytest.raises(ValueError, match="host"):
        keys.add(hostname, None, ED25519)
    assert keys.to_text() == ""


def test_a_name_with_a_port_is_told_how_it_is_written() -> None:
    hosts = HostKeys()
    with pytest.raises(ValueError, match=r"with a port its name is '\[192\.0\.2\.7\]:2222'"):
        hosts.add("192.0.2.7:2222", None, ED25519)
    for name in ("[192.0.2.7]:2222", "fe80::1", "2001:db8::22"):
        hosts.add(name, None, ED25519)


def test_a_key_is_added_under_its_own_type() -> None:
    with pytest.raises(ValueError, match="of the type ssh-ed25519, not ssh-rsa"):
        HostKeys().add("host", "ssh-rsa", ED25519)


def test_merging_puts_the_others_lines_and_problems_behind_ours() -> None:
    ours, theirs = known(f"a {A}", "x"), HostKeys.from_text(f"# c\na {B}\ny\n", "theirs")
    ours.merge(theirs)
    assert ours.to_text() == f"a {A}\nx\n# c\na {B}\ny\n"
    assert [entry.source for entry in ours.lookup("a")] == ["known_hosts:1", "theirs:2"]
    assert [problem.partition(": ")[0] for problem in ours.problems] == ["known_hosts:2", "theirs:3"]
    theirs.add("b", None, ED25519)
    assert ours.lookup("b") == ()


def test_a_repr_counts() -> None:
    assert repr(known(f"a {A}", "x", "# c")) == "<HostKeys: 1 keys, 1 problems>"


# -- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def loaded(path: Path) -> HostKeys:
    keys = HostKeys()
    keys.load(path)
    return keys


def test_a_file_is_named_in_what_comes_of_it(path: Path) -> None:
    path.write_text(f"host {A}\nnonsense\n")
    keys = loaded(path)
    assert keys.lookup("host")[0].source == f"{path}:1"
    assert keys.problems[0].startswith(f"{path}:2: ")


def test_a_missing_file_is_an_ordinary_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HostKeys().load(path)


def test_an_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LIST_FILE_BYTES", 1 << 20)
    with pytest.raises(KeyFileException, match="more than 1 MiB"):
        HostKeys().load("/dev/zero")


def test_an_empty_device_is_a_file_without_keys() -> None:
    assert loaded(Path("/dev/null")).to_text() == ""


def test_saving_keeps_every_line_and_the_permissions(path: Path) -> None:
    text = "\n".join(WEIRD) + "\n"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o644)
    keys = loaded(path)
    keys.add("new", None, RSA)
    keys.save(path)
    assert path.read_bytes() == f"{text}new {R}\n".encode("utf-8", "surrogateescape")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["known_hosts"]


def test_a_last_line_without_its_end_is_not_joined_with_the_next(path: Path) -> None:
    path.write_text(f"a {A}")
    keys = loaded(path)
    keys.add("b", None, OTHER_ED25519)
    keys.save(path)
    assert path.read_text() == f"a {A}\nb {B}\n"


def test_a_new_file_gets_all_lines_and_is_ours_alone(path: Path) -> None:
    keys = known("# mine", f"a {A}", "")
    keys.save(path)
    assert path.read_text() == f"# mine\na {A}\n\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_others_wrote_meanwhile_stays(path: Path) -> None:
    path.write_text(f"a {A}\n")
    keys = loaded(path)
    keys.add("b", None, OTHER_ED25519)
    path.write_text(f"c {C}\na {A}\n")
    keys.save(path)
    assert path.read_text() == f"c {C}\na {A}\nb {B}\n"


def test_a_line_that_someone_removed_meanwhile_does_not_come_back(path: Path) -> None:
    path.write_text(f"a {A}\n")
    keys = loaded(path)
    keys.add("b", None, OTHER_ED25519)
    keys.save(path)
    path.write_text("")
    keys.add("c", None, ECDSA)
    keys.save(path)
    assert path.read_text() == f"c {C}\n"


def test_lines_from_another_file_are_saved_too_but_not_twice(path: Path, tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.write_text(f"# system\na {A}\nb {B}\n")
    path.write_text(f"a {A}\n")
    keys = loaded(path)
    keys.load(system)
    keys.save(path)
    assert path.read_text() == f"a {A}\n# system\nb {B}\n"


def test_saving_nothing_new_does_not_touch_the_file(path: Path) -> None:
    path.write_text(f"a {A}\n")
    before = path.stat()
    loaded(path).save(path)
    assert path.stat().st_ino == before.st_ino


def test_a_save_that_fails_can_be_repeated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path.write_text(f"a {A}\n")
    keys = loaded(path)
    keys.add("b", None, OTHER_ED25519)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            keys.save(path)
    assert path.read_text() == f"a {A}\n"
    keys.save(path)
    assert path.read_text() == f"a {A}\nb {B}\n"


# -- taking off record, replacing, hiding


def test_a_host_that_is_removed_is_unknown_and_what_is_marked_stays() -> None:
    keys = known(f"host {A}", f"HOST,other {B}", f"@revoked host {C}", f"@cert-authority host {C}", f"host {FOREIGN}")
    assert keys.remove("Host") == 3
    assert keys.to_text() == f"@revoked host {C}\n@cert-authority host {C}\n"
    assert keys.remove("host") == 0


def test_one_key_of_a_host_is_removed_alone() -> None:
    keys = known(f"host {A}", f"host {B}", f"other {A}")
    assert keys.remove("host", ED25519) == 1
    assert keys.to_text() == f"host {B}\nother {A}\n"


def test_a_host_s_keys_are_replaced_and_those_that_stay_keep_their_lines() -> None:
    keys = known(f"host {A} mine", f"host {B}", f"other {B}")
    keys.replace("host", [ECDSA, ED25519])
    assert keys.to_text() == f"host {A} mine\nother {B}\nhost {C}\n"
    with pytest.raises(ValueError, match="no host has the name"):
        keys.replace("*", [ED25519])


def test_names_are_hidden_where_they_can_be() -> None:
    kept = [f"*.example {B}", f"@revoked host {C}", "nonsense"]
    keys = known("# c", f"Host,other {A} comment", *kept, f"host {FOREIGN}")
    assert keys.hash_names() == 2
    text = keys.to_text().splitlines()
    assert (text[0], text[3:6]) == ("# c", kept)
    assert [line.split(" ", 1)[1] for line in (text[1], text[2], text[6])] == [f"{A} comment"] * 2 + [FOREIGN]
    assert all(line.startswith("|1|") for line in (text[1], text[2], text[6]))
    assert keys.check("host", ED25519) is keys.check("other", ED25519) is KNOWN
    assert keys.hash_names() == 0


def test_a_name_is_hidden_as_it_is_added() -> None:
    keys = HostKeys()
    keys.add("host", None, ED25519, is_hashed=True)
    keys.add("host", None, ED25519, is_hashed=True)
    assert keys.to_text().startswith("|1|")
    assert len(keys.lookup("host")) == 1


def test_clearing_forgets_keys_and_loses_no_other_line() -> None:
    keys = known("# c", f"host {A}", "nonsense", f"host {FOREIGN}")
    keys.clear()
    assert keys.to_text() == f"# c\nnonsense\nhost {FOREIGN}\n"
    assert keys.keys() == ()


def test_hosts_are_listed_as_they_are_spelled() -> None:
    hidden = HostKeys.hash_host("host")
    keys = known(f"Host,b {A}", f"*.c {A}", f"{hidden} {B}", f"Host,b {C}", f"x {FOREIGN}")
    assert keys.keys() == ("Host,b", "*.c", hidden)


@pytest.mark.parametrize(
    ("lines", "is_plain"),
    [
        ([f"host {A}"], True),
        ([f"host {A}", f"other,another {B}", f"*.example {B}"], True),
        ([f"{HostKeys.hash_host('host')} {A}"], True),
        ([f"host,other {A}"], False),
        ([f"host {A}", f"h* {B}"], False),
        ([f"host {A}", f"*,!x {FOREIGN}"], False),
        ([f"host {A}", f"@cert-authority host {B}"], False),
        ([f"host {A}", f"@revoked * {B}"], False),
    ],
)
def test_only_lines_of_a_host_s_own_are_plain(lines: list[str], is_plain: bool) -> None:
    hashed = lines[0].startswith("|")
    assert known(*lines).plain_records("HOST") == ((PlainRecord(ED25519, None, hashed),) if is_plain else ())


def test_authorities_of_a_port_come_before_those_of_the_host() -> None:
    keys = known(f"@cert-authority host {A}", f"@cert-authority [host]:2222 {B}", f"host {C}")
    assert keys.authorities("[HOST]:2222") == (OTHER_ED25519, ED25519)
    assert keys.authorities("host") == (ED25519,)
    assert keys.authorities("nowhere") == ()


def test_a_certificate_is_revoked_by_its_key_and_by_its_authority() -> None:
    authority = load("ed25519.pkcs8")
    issued = Certificate.issue_for_host(
        authority, ED25519, key_id="x", principals=["host"], valid_before=Certificate.FOREVER
    )
    assert not known(f"@revoked host {C}", f"@revoked other {A}").is_revoked("host", issued)
    for line in (A, B):
        assert known(f"@revoked host {line}").is_revoked("[host]:2222", issued)
    assert known(f"@revoked * {A}").is_revoked("host", ED25519)


def test_a_name_loses_its_port() -> None:
    names = ["host", "[host]:2222", "::1", "[::1]:2222"]
    assert list(map(name_without_port, names)) == ["host", "host", "::1", "::1"]


# -- changes and files


def test_what_was_removed_here_is_removed_there_and_nothing_else(path: Path) -> None:
    path.write_text(f"# mine\nhost {A}\nhost {B}\nother {A}\n")
    keys = loaded(path)
    keys.remove("host", ED25519)
    path.write_text(f"new {C}\n# mine\nhost {A}\nhost {B}\nother {A}\n")
    keys.save(path)
    assert path.read_text() == f"new {C}\n# mine\nhost {B}\nother {A}\n"
    keys.add("host", None, ED25519)
    keys.save(path)
    assert path.read_text().endswith(f"other {A}\nhost {A}\n")


def test_hidden_names_take_the_place_of_those_that_were_shown(path: Path) -> None:
    path.write_text(f"# 1\nhost {A}\n# 2\na,b {B}")
    keys = loaded(path)
    keys.hash_names()
    keys.remove("a")
    keys.save(path)
    lines = path.read_text().split("\n")
    assert [line.split(" ")[0][:3] for line in lines] == ["#", "|1|", "#", "|1|"]
    assert loaded(path).check("b", OTHER_ED25519) is KNOWN
    assert loaded(path).check("a", OTHER_ED25519) is UNKNOWN


def test_another_file_is_not_changed_by_what_was_removed_from_this_one(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for file in (path, other):
        file.write_text(f"host {A}\n")
    keys = loaded(path)
    keys.load(other)
    keys.remove("host")
    keys.save(path)
    assert (path.read_text(), other.read_text()) == ("", f"host {A}\n")
    keys.save(other)
    assert other.read_text() == ""


def test_a_file_behind_a_link_is_changed_and_the_link_stays(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real"
    real.parent.mkdir()
    real.write_text(f"a {A}\n")
    path.symlink_to(real)
    keys = loaded(path)
    keys.add("b", None, OTHER_ED25519)
    keys.save(path)
    assert path.is_symlink()
    assert real.read_text() == f"a {A}\nb {B}\n"
    assert os.listdir(real.parent) == ["real"]


WRITER = """
import sys
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.keys.public_key import load_public_key_line

path, name, key = sys.argv[1:]
for number in range(20):
    keys = HostKeys()
    keys.load(path)
    keys.add(f"{name}{number}", None, load_public_key_line(key)[0])
    keys.save(path)
"""


def test_programs_that_write_at_once_lose_nothing(path: Path) -> None:
    path.write_text("# mine\n")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name, A]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    expected = {f"{name}{number} {A}" for name in "abc" for number in range(20)}
    lines = path.read_text().splitlines()
    assert lines[0] == "# mine"
    assert sorted(lines[1:]) == sorted(expected)
    assert os.listdir(path.parent) == ["known_hosts"]


def test_a_writer_that_never_finishes_is_not_waited_for_without_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    path.write_text(f"a {A}\n")
    keys = loaded(path)
    keys.remove("a")
    with lock.locked(path), pytest.raises(TimeoutError, match="another program has kept the lock"):
        keys.save(path)
    assert path.read_text() == f"a {A}\n"
    keys.save(path)
    assert path.read_text() == ""


def test_a_file_system_without_locks_is_written_to_nevertheless(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    keys = known(f"a {A}")
    keys.save(path)
    assert path.read_text() == f"a {A}\n"


@pytest.mark.parametrize("line", [f"host {A}", f"@revoked * {C} c", f"{HostKeys.hash_host('host', SALT)} {R}"])
def test_a_line_that_is_cut_anywhere_is_understood_or_named(line: str) -> None:
    for end in range(len(line) + 1):
        keys = HostKeys.from_text(f"{line[:end]}\nother {B}\n")
        assert keys.to_text() == f"{line[:end]}\nother {B}\n"
        assert keys.check("other", OTHER_ED25519) is KNOWN
        entries = len([entry for entry in keys.lookup("host") if entry.source == "known_hosts:1"])
        assert len(keys.problems) + entries <= 1
        keys.hash_names()
        keys.remove("host")
        keys.clear()


@given(strategies.lists(lines, max_size=6).map("\n".join), strategies.sampled_from(["host", "", "x"]))
def test_any_text_may_be_changed_and_what_is_not_understood_stays(text: str, hostname: str) -> None:
    keys = HostKeys.from_text(text)
    bad = len(keys.problems)
    keys.hash_names()
    keys.remove(hostname)
    keys.clear()
    again = HostKeys.from_text(keys.to_text())
    assert len(again.problems) == bad
    assert again.keys() == ()


@given(
    strategies.binary(max_size=200) | garbled(f"host {A}\n@revoked * {B}\r\n{HostKeys.hash_host('h', SALT)} {C} c\n")
)
def test_any_bytes_are_survived_kept_and_each_problem_has_its_place(content: bytes) -> None:
    keys = HostKeys()
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        keys.load(file.name)
    assert keys.to_text().encode("utf-8", "surrogateescape").removesuffix(b"\n") == content.removesuffix(b"\n")
    for problem in keys.problems:
        assert re.match(re.escape(file.name) + r":[1-9][0-9]*: .", problem)
        assert problem.isprintable()
    keys.check("host", ED25519)


def test_hosts_can_be_looked_up_as_in_paramiko() -> None:
    keys = HostKeys()
    assert len(keys) == 0
    assert bool(keys) is True, "nothing on record is a record, too"
    keys = known(f"host {A}", f"host {B}", f"host {C}", f"@revoked bad {A}", f"@cert-authority many {A}")
    assert ("host" in keys, "other" in keys, len(keys)) == (True, False, 5)
    assert keys["HOST"] == {"ssh-ed25519": ED25519, "ecdsa-sha2-nistp256": ECDSA}, "the first of a kind"
    for name in ("other", "bad", "many"):
        with pytest.raises(KeyError, match=name):
            keys[name]


def test_what_was_looked_up_before_a_change_is_looked_up_again() -> None:
    hosts = HostKeys()
    names = [f"host{number}" for number in range(6)]

    def found() -> list[int]:
        return [len(hosts.lookup(name.upper())) for name in names]

    assert found() == [0] * 6
    for name in names:
        hosts.add(name, None, ED25519)
    assert found() == [1] * 6
    hosts.add("host1", None, ECDSA)
    assert found() == found() == [1, 2, 1, 1, 1, 1]
    hosts.remove("host2")
    hosts.replace("host1", [ECDSA])
    assert found() == [1, 1, 0, 1, 1, 1]
    more = HostKeys.from_text(f"host2,host5 {ECDSA.to_openssh()}\n")
    hosts.merge(more)
    assert found() == [1, 1, 1, 1, 1, 2]
    assert hosts.hash_names() == 6
    assert found() == [1, 1, 1, 1, 1, 2]
    hosts.clear()
    assert found() == [0] * 6


@pytest.mark.parametrize("name", ["HOST.Example", "Stra\u00dfe", "\u0130", "\u212a", "\udcff", ""])
def test_any_name_is_lowered_letter_by_letter(name: str) -> None:
    assert lower(name) == "".join(chr(ord(each) + 32) if "A" <= each <= "Z" else each for each in name)


def test_a_change_in_the_middle_of_a_lookup_is_not_forgotten() -> None:
    """In another thread: what that lookup found was right when it began."""
    hosts = known(f"host {A}", f"host {B}")
    lines = hosts._lines

    class Interrupted(list[object]):
        def __iter__(self) -> Iterator[object]:
            hosts._lines = lines
            yield from lines
            hosts.clear()

    hosts._lines = Interrupted()  # type: ignore[assignment]
    assert len(hosts.lookup("host")) == 2
    assert hosts.lookup("host") == ()


def test_a_copy_has_its_own_memory_once_it_changes() -> None:
    hosts = known(f"host {A}")
    assert len(hosts.lookup("host")) == 1
    other = copy.copy(hosts)
    other.remove("host")
    assert (len(other.lookup("host")), len(hosts.lookup("host"))) == (0, 1)
