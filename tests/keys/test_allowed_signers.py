from __future__ import annotations

import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from hypothesis import given, strategies

from tests.keys.samples import garbled, load
from trio_ssh.errors import SignatureException
from trio_ssh.keys.allowed_signers import AllowedSigners
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.ed25519 import Ed25519Key

ALICE: Final = load("ed25519.openssh").public_key
BOB: Final = load("ecdsa256.openssh").public_key
AUTHORITY: Final = Ed25519Key(bytes(range(32)))
A, B, C = ALICE.to_openssh(), BOB.to_openssh(), AUTHORITY.public_key.to_openssh()
NOON: Final = 1_893_499_200  # 2030-01-01T12:00:00Z


def signers(*lines: str) -> AllowedSigners:
    return AllowedSigners.from_text("".join(f"{line}\n" for line in lines))


def certified(*principals: str, valid_before: float = NOON + 1, **changed: Any) -> Certificate:
    return Certificate.issue_for_user(
        AUTHORITY, BOB, key_id="b", principals=principals, valid_before=valid_before, **changed
    )


def may(read: AllowedSigners, principal: str, key: Any, namespace: str = "file", now: float = NOON) -> bool:
    try:
        read.check(principal, key, namespace=namespace, now=now)
    except SignatureException:
        return False
    return True


def test_a_key_signs_for_whom_its_line_names() -> None:
    read = signers("# people", "", f"  alice@example.com,*@a.example,!eve@a.example {A} comment\r", f"bob\t{B}")
    assert read.problems == []
    assert may(read, "alice@example.com", ALICE)
    assert may(read, "x@a.example", ALICE)
    assert may(read, "bob", BOB)
    assert not may(read, "eve@a.example", ALICE)
    assert not may(read, "Alice@example.com", ALICE)
    assert not may(read, "alice@example.com", BOB)
    assert not may(read, "", ALICE)
    assert repr(read) == "<AllowedSigners: 2 keys, 0 problems>"


def test_an_empty_name_is_nobodys() -> None:
    read = signers(f"alice,,bob {A}")
    assert may(read, "bob", ALICE)
    assert not may(read, "", ALICE)
    assert read.find_principals(ALICE, now=NOON) == ("alice", "bob")


def test_names_may_stand_in_quotes() -> None:
    read = signers(f'"alice liddell,al" {A}')
    assert may(read, "alice liddell", ALICE)
    assert may(read, "al", ALICE)


def test_a_line_may_be_for_some_namespaces() -> None:
    read = signers(f'alice namespaces="git,file-*" {A}')
    assert may(read, "alice", ALICE, "git")
    assert may(read, "alice", ALICE, "file-x")
    assert not may(read, "alice", ALICE, "file")


def test_a_line_may_be_for_some_time() -> None:
    read = signers(f'alice valid-after="20300101Z",VALID-BEFORE="20300101120000Z" {A}')
    assert may(read, "alice", ALICE)
    assert not may(read, "alice", ALICE, now=NOON + 1)
    assert may(read, "alice", ALICE, now=NOON - 43_200)
    assert not may(read, "alice", ALICE, now=NOON - 43_201)


def test_a_time_without_a_zone_is_local() -> None:
    read = signers(f'alice valid-after="203001011200" {A}')
    assert read.signers[0].valid_after == datetime(2030, 1, 1, 12).timestamp()  # noqa: DTZ001 -- local is meant


def test_a_later_line_may_let_what_an_earlier_one_does_not() -> None:
    assert may(signers(f'alice namespaces="git" {A}', f"alice {A}"), "alice", ALICE)


def test_an_authority_lets_those_sign_whom_it_certified() -> None:
    read = signers(f"*@example.com cert-authority {C}")
    certificate = certified("bob@example.com", "bob@other.example", source_addresses=["10.0.0.0/8"])
    assert may(read, "bob@example.com", certificate)
    assert not may(read, "alice@example.com", certificate)
    assert not may(read, "bob@other.example", certificate)
    assert not may(read, "bob@example.com", certificate, now=NOON + 1)
    assert not may(read, "bob@example.com", BOB)
    assert not may(read, "bob@example.com", AUTHORITY.public_key)


def test_a_certificate_is_not_taken_for_its_key_nor_a_key_for_an_authority() -> None:
    assert not may(signers(f"bob {B}"), "bob", certified("bob"))
    assert not may(signers(f"bob {C}"), "bob", certified("bob"))
    assert not may(signers(f"bob cert-authority {B}"), "bob", BOB)


def test_a_hosts_certificate_signs_for_nobody() -> None:
    certificate = Certificate.issue_for_host(AUTHORITY, BOB, key_id="b", principals=["bob"], valid_before=NOON + 1)
    assert not may(signers(f"bob cert-authority {C}"), "bob", certificate)


@pytest.mark.parametrize(
    ("line", "principal", "key", "complaint"),
    [
        (f"bob {A}", "alice", ALICE, "no line of allowed_signers says that it may"),
        (f'alice namespaces="git" {A}', "alice", ALICE, "allowed_signers:1 is not for the namespace 'file'"),
        (f'alice valid-after="20310101Z" {A}', "alice", ALICE, "1 is not valid before 2031-01-01T00:00:00Z"),
        (f'alice valid-before="20290101Z" {A}', "alice", ALICE, "1 expired at 2029-01-01T00:00:00Z"),
        (f"* cert-authority {C}", "carol", certified("bob"), "1: <user certificate .* is not for carol, but for bob"),
        (f"bob {A}", "\x1b[2J", ALICE, r"sign for \\x1b\[2J"),
    ],
)
def test_the_text_says_why_somebody_may_not(line: str, principal: str, key: Any, complaint: str) -> None:
    with pytest.raises(SignatureException, match=complaint) as caught:
        signers(line).check(principal, key, namespace="file", now=NOON)
    assert str(caught.value).isprintable()


def test_principals_are_found_by_their_keys() -> None:
    read = signers(
        f"alice,al* {A}",
        f'old valid-before="20200101Z" {A}',
        f'git-only namespaces="git" {A}',
        f"alice {A}",
        f"bob {B}",
    )
    assert read.find_principals(ALICE, now=NOON) == ("alice", "al*", "git-only")
    assert read.find_principals(ALICE, now=NOON, namespace="file") == ("alice", "al*")
    assert read.find_principals(AUTHORITY.public_key, now=NOON) == ()


def test_principals_of_a_certificate_are_its_own_names() -> None:
    read = signers(f"*@example.com,!eve@example.com cert-authority {C}", f"bob {B}")
    certificate = certified("bob@example.com", "eve@example.com", "bob@other.example", "x@example.com")
    assert read.find_principals(certificate, now=NOON) == ("bob@example.com", "x@example.com")
    assert read.find_principals(certificate, now=NOON + 1) == ()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (A, "begins with a key. Put in front of it"),
        ("alice", "not principals, options, and a key"),
        (f'"alice {A}', "not principals"),
        (f'""  {A}', "there is nothing among its principals"),
        (f", {A}", "there is nothing among its principals"),
        (f"{'x' * 1024} {A}", "more than 1023 characters"),
        ("alice ssh-ed25519", "ends before a key"),
        ("alice ssh-ed25519 AAAA", "not a usable public key"),
        ("alice ssh-new AAAAB3NzaC1kc3MAAAAA", "not a usable public key"),
        (f"alice no-pty {A}", "an option is unknown: no-pty"),
        (f"alice cert-authority,no-pty {A}", "an option is unknown"),
        (f'alice cert-authority="yes" {A}', "cert-authority has no value"),
        (f"alice namespaces {A}", "namespaces has no value"),
        (f'alice namespaces="" {A}', "namespaces has no value"),
        (f'alice namespaces="," {A}', "there is nothing among its namespaces"),
        (f'alice namespaces="a",namespaces="b" {A}', "stands there twice"),
        (f'alice valid-after="tomorrow" {A}', "valid-after is no time such as"),
        (f'alice valid-after="2030" {A}', "no time such as"),
        (f'alice valid-after="20301301" {A}', "no time such as"),
        (f'alice valid-after="19600101Z" {A}', "no time such as"),
        (f'alice valid-after="00010101" {A}', "no time such as"),
        (f'alice valid-before="203001011" {A}', "no time such as"),
        (f"alice valid-before {A}", "valid-before has no value"),
        (f'alice valid-after="20300101Z",valid-before="20300101Z" {A}', "valid-before is not behind valid-after"),
        (f"alice {certified('alice').to_openssh()}", "not a usable public key"),
    ],
)
def test_a_malformed_line_lets_nobody_sign_and_is_named(line: str, problem: str) -> None:
    read = signers(f"bob {B}", line)
    assert len(read.signers) == 1
    assert read.problems[0].startswith("allowed_signers:2: ")
    assert problem in read.problems[0]
    assert may(read, "bob", BOB)


words = strategies.sampled_from(
    ["alice", A, C, "cert-authority", "namespaces=", '"', "git", ",", " ", "\t", "!", "*", "valid-after=", "2030", "#"]
)


@given(strategies.lists(strategies.lists(words | strategies.text(max_size=4), max_size=9).map("".join), max_size=4))
def test_any_text_is_survived(lines: list[str]) -> None:
    read = AllowedSigners.from_text("\n".join(lines))
    may(read, "alice", ALICE)
    read.find_principals(certified("alice"), now=NOON)


def test_a_file_is_named_in_what_comes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "allowed_signers"
    path.write_text(f"alice {A}\nnonsense\n")
    read = AllowedSigners.load(path)
    assert read.signers[0].source == f"{path}:1"
    assert read.problems[0].startswith(f"{path}:2: ")
    with pytest.raises(FileNotFoundError):
        AllowedSigners.load(tmp_path / "none")


@pytest.mark.parametrize(
    "line",
    [
        f'alice,!bob namespaces="git,file",valid-after="20200101Z",valid-before="20300101" {A} c',
        f"* cert-authority {A}",
    ],
)
def test_a_line_that_is_cut_anywhere_is_understood_or_named(line: str) -> None:
    whole = signers(line).signers[0]
    for end in range(len(line) + 1):
        read = AllowedSigners.from_text(f"{line[:end]}\nbob {B}\n")
        first = [signer for signer in read.signers if signer.source.endswith(":1")]
        assert len(read.problems) + len(first) == (1 if line[:end].strip() else 0)
        # What was cut off is the comment at most.
        assert all(attrs.evolve(signer, source=whole.source) == whole for signer in first)
        assert may(read, "bob", BOB)


@given(strategies.binary(max_size=200) | garbled(f'alice namespaces="git" {A}\n# c\n* cert-authority {C}\r\n'))
def test_any_bytes_are_survived_and_each_problem_has_its_place(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        read = AllowedSigners.load(file.name)
    for problem in read.problems:
        assert re.match(re.escape(file.name) + r":[1-9][0-9]*: .", problem)
        assert problem.isprintable()
