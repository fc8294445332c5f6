from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies

from tests.keys.samples import load
from trio_ssh.errors import KeyFileException
from trio_ssh.keys.authorized_keys import AuthorizedKey, AuthorizedKeys, parse_options

ED25519 = load("ed25519.openssh").public_key
ECDSA = load("ecdsa256.openssh").public_key
A, C = ED25519.to_openssh(), ECDSA.to_openssh()


def keys(*lines: str) -> AuthorizedKeys:
    return AuthorizedKeys.from_text("".join(f"{line}\n" for line in lines))


def test_a_key_on_a_line_of_its_own_is_let_in() -> None:
    read = keys("# admins", "", f"  {A} Alice, at home\r", f"\t{C}")
    assert read.lookup(ED25519) == AuthorizedKey(ED25519, "Alice, at home", "authorized_keys:3")
    assert read.lookup(ECDSA) == AuthorizedKey(ECDSA, "", "authorized_keys:4")
    assert read.problems == []
    assert repr(read) == "<AuthorizedKeys: 2 keys, 0 problems>"


def test_another_key_is_not_let_in() -> None:
    assert keys(A).lookup(ECDSA) is None
    assert keys().lookup(ED25519) is None
    assert keys(f"#{A}").lookup(ED25519) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("restrict", "restrict"),
        ("no-pty", "no-pty"),
        ("NO-PTY", "no-pty"),
        ('command="/bin/true"', "command"),
        ('command="echo \\"hi, there\\" # x",no-pty', "command, no-pty"),
        ('from="10.0.0.*,!10.0.0.1"', "from"),
        ("cert-authority", "cert-authority"),
        ('environment="A=B",restrict,pty', "environment, restrict, pty"),
        ("unheard-of", "unheard-of"),
        ('command=""', "command"),
    ],
)
def test_a_key_with_any_option_is_refused_until_options_are_enforced(options: str, named: str) -> None:
    read = keys(f"{options} {A} comment")
    assert read.lookup(ED25519) is None
    assert read.problems == [f"authorized_keys:1: options are not supported, so the key is refused ({named})"]
    assert repr(read) == "<AuthorizedKeys: 0 keys, 1 problems>"


def test_a_later_line_without_options_does_not_free_a_key_from_those_of_the_first() -> None:
    read = keys(f'command="/bin/false" {A}', A)
    assert read.lookup(ED25519) is None


def test_a_later_line_does_not_take_back_what_the_first_gave() -> None:
    read = keys(f"{A} first", f'command="/bin/false" {A}', f"{A} third")
    found = read.lookup(ED25519)
    assert found is not None
    assert found.comment == "first"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ssh-ed25519", "ends before a key"),
        ("ssh-ed25519 !", "not base64"),
        (A[:-8], "not a usable public key"),
        (f"ssh-rsa {A.split()[1]}", "the line says ssh-rsa"),
        ("ssh-xmss AAAACHNzaC14bXNzAAAA", "unknown type 'ssh-xmss'"),
        ("nonsense", "ends before a key"),
        (f'command="unterminated {A}', "an option goes on with"),
        (f'command="escaped\\" {A}', "an option goes on with"),
        (f'command="escaped\\\\" {A}', "an option goes on with"),
        (f"command=unquoted {A}", "an option goes on with"),
        (f'command="a"b {A}', "an option goes on with"),
        (f"no-pty, {A}", "neither a key nor an option"),
        (f",no-pty {A}", "neither a key nor an option"),
        (f"\x1b[m {A}", r"neither a key nor an option: '\x1b[m"),
        (f"no-pty no-x11-forwarding {A}", "not a usable public key"),
        (load("rsa1024.openssh").public_key.to_openssh(), "1024 bits"),
    ],
)
def test_a_malformed_line_lets_nobody_in_and_is_named(line: str, problem: str) -> None:
    read = keys(C, line)
    assert read.lookup(ED25519) is None
    assert read.lookup(ECDSA) is not None
    assert len(read.problems) == 1
    assert read.problems[0].startswith("authorized_keys:2: ")
    assert problem in read.problems[0]


@pytest.mark.parametrize(
    ("text", "options", "rest"),
    [
        ("a key", (("a", None),), " key"),
        ("a,B-2\tkey", (("a", None), ("b-2", None)), "\tkey"),
        ('a="x y,z",b', (("a", "x y,z"), ("b", None)), ""),
        (r'a="say \"hi\"" key', (("a", 'say "hi"'),), " key"),
        (r'a="back\slash\\n" key', (("a", r"back\slash\\n"),), " key"),
    ],
)
def test_options_are_unquoted_as_sshd_does(text: str, options: object, rest: str) -> None:
    assert parse_options(text) == (options, rest)


words = strategies.sampled_from(
    [A, C, "command=", '"', '\\"', "\\", ",", " ", "\t", "no-pty", "#", "\r", "ssh-rsa", "AAAA", "restrict"]
)
lines = strategies.lists(words | strategies.text(max_size=6), max_size=8).map("".join)


@given(strategies.lists(lines, max_size=6).map("\n".join))
def test_any_text_is_survived_and_lets_in_only_keys_that_stand_alone(text: str) -> None:
    read = AuthorizedKeys.from_text(text)
    for key, line in ((ED25519, A), (ECDSA, C)):
        found = read.lookup(key)
        if found is not None:
            number = int(found.source.rpartition(":")[2])
            assert text.split("\n")[number - 1].lstrip(" \t").startswith(line)


def test_a_file_is_named_in_what_comes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_bytes(A.encode() + b" comment\xff\nnonsense\n")
    path.chmod(0o644)
    read = AuthorizedKeys.load(path)
    found = read.lookup(ED25519)
    assert found is not None
    assert found.source == f"{path}:1"
    assert found.comment == "comment\udcff"
    assert read.problems[0].startswith(f"{path}:2: ")


def test_a_file_that_others_may_change_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_text(A)
    path.chmod(0o666)
    with pytest.raises(KeyFileException, match="others than you can change who may log in"):
        AuthorizedKeys.load(path)
    assert AuthorizedKeys.load(path, check_permissions=False).lookup(ED25519) is not None


def test_a_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AuthorizedKeys.load(tmp_path / "authorized_keys")
