from __future__ import annotations

import logging
import os
import re
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from tests.keys.samples import garbled, load
from trio_ssh.errors import KeyFileException
from trio_ssh.keys.authorized_keys import MAX_ENVIRONMENT, MAX_PERMITS, AuthorizedKey, AuthorizedKeys, parse_options
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import CertificatePermissions
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.key_restrictions import ForwardingPermit as Permit
from trio_ssh.keys.key_restrictions import KeyRestrictions
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.public_key import PublicKey

ED25519 = load("ed25519.openssh").public_key
ECDSA = load("ecdsa256.openssh").public_key
AUTHORITY = Ed25519Key(bytes(range(32)))
NOW = 1_700_000_000
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


def allowed(*lines: str, key: PublicKey | Certificate = ED25519, **where: Any) -> KeyRestrictions | None:
    arguments: dict[str, Any] = {"now": NOW, "address": "192.0.2.7"}
    return keys(*lines).authorize(key, "alice", **(arguments | where))


OFF = {"pty": False, "port_forwarding": False, "agent_forwarding": False, "x11_forwarding": False, "user_rc": False}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("restrict", OFF),
        ("restrict,pty", OFF | {"pty": True}),
        ("pty,restrict", OFF),
        ("no-pty", {"pty": False}),
        ("NO-PTY", {"pty": False}),
        ("no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc,no-pty", OFF),
        ("restrict,port-forwarding,agent-forwarding,X11-forwarding,user-rc,pty", {}),
        ('command="/bin/true"', {"force_command": "/bin/true"}),
        (r'command="echo \"hi, there\" # x",no-pty', {"force_command": 'echo "hi, there" # x', "pty": False}),
        ('command=""', {"force_command": ""}),
        ('environment="A=B",environment="A=C",environment="D="', {"environment": {"A": "B", "D": ""}}),
        ('permitopen="host:80",permitopen="[::1]:*"', {"permit_open": (Permit("host", 80), Permit("::1", None))}),
        (
            'permitlisten="8080",permitlisten="LocalHost:1"',
            {"permit_listen": (Permit("*", 8080), Permit("LocalHost", 1))},
        ),
        ('tunnel="0"', {"tunnel": "0"}),
        ('tunnel="any"', {"tunnel": "any"}),
        ("no-touch-required", {"allow_untouched": True}),
        ("no-touch-required,touch-required", {"allow_untouched": False}),
        ("verify-required", {"require_verification": True}),
        ('expiry-time="20300101Z"', {"valid_before": 1893456000}),
        ('expiry-time="20300101Z",expiry-time="20290101000000Z"', {"valid_before": 1861920000}),
        ('from="192.0.2.*,!192.0.2.1"', {"from_patterns": ("192.0.2.*", "!192.0.2.1")}),
    ],
)
def test_an_option_says_what_a_login_may_do(options: str, expected: dict[str, Any]) -> None:
    read = keys(f"{options} {A} comment")
    assert read.problems == []
    assert read.authorize(ED25519, "alice", now=NOW, address="192.0.2.7") == KeyRestrictions(**expected)
    assert read.lookup(ED25519) is None, "who enforces no options mustn't find it"


@pytest.mark.parametrize(
    "options",
    [
        "unheard-of",
        'unheard-of="x"',
        "command",
        'pty="yes"',
        "no-restrict",
        "no-cert-authority",
        "from",
        'command="a",command="b"',
        'from="a",from="b"',
        'principals="a",principals="b"',
        'from="10.0.0.1/8"',
        'from="10.0.0.1,"',
        'from="10.0.0.0/33"',
        'from="!10.0.0.1/8"',
        f'from="{"x" * 1024}"',
        'environment="=B"',
        'environment="A"',
        'environment="A-B=C"',
        'permitopen="host"',
        'permitopen="80"',
        'permitopen="host:0"',
        'permitopen="host:65536"',
        'permitopen="host:http"',
        'permitopen="::1:80"',
        'permitlisten="x"',
        'tunnel=""',
        'tunnel="tun0"',
        'expiry-time="2030"',
        'expiry-time="20301332"',
        'expiry-time="never"',
    ],
)
def test_an_option_that_is_unknown_or_malformed_refuses_the_line(options: str) -> None:
    read = keys(f"{options} {A}", C)
    assert read.authorize(ED25519, "alice", now=NOW, address="192.0.2.7") is None
    assert read.authorize(ECDSA, "alice", now=NOW) is not None
    assert len(read.problems) == 1
    assert read.problems[0].startswith("authorized_keys:1: ")
    assert read.problems[0].endswith("so the key is refused")


def test_a_line_has_so_many_variables_and_permits_and_no_more() -> None:
    for option, most in (('environment="A{}=x"', MAX_ENVIRONMENT), ('permitopen="h:{}"', MAX_PERMITS)):
        options = [option.format(number) for number in range(1, most + 2)]
        assert allowed(f"{','.join(options[:-1])} {A}") is not None
        assert allowed(f"{','.join(options)} {A}") is None


@pytest.mark.parametrize(
    ("patterns", "address", "lets_in"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.70", False),
        ("192.0.2.*", "192.0.2.70", True),
        ("192.0.2.?", "192.0.2.70", False),
        ("192.0.2.0/24", "192.0.2.70", True),
        ("192.0.2.0/24", "192.0.3.70", False),
        ("*,!192.0.2.0/24", "192.0.2.70", False),
        ("!192.0.2.0/24,*", "192.0.2.70", False),
        ("!192.0.2.0/24", "192.0.3.1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.1", False),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("example.com", "192.0.2.1", False),
        ("*", None, False),
        ("*", "not an address", False),
        ("", "192.0.2.1", False),
    ],
)
def test_from_is_heeded(patterns: str, address: str | None, lets_in: bool) -> None:
    assert (allowed(f'from="{patterns}" {A}', address=address) is not None) is lets_in


def test_from_knows_names_that_were_looked_up() -> None:
    line = f'from="*.example.com,!bad.example.com" {A}'
    assert allowed(line, hostname="good.EXAMPLE.com") is not None
    assert allowed(line, hostname="bad.example.com") is None
    assert allowed(line, hostname="example.org") is None


def test_a_key_expires() -> None:
    line = f'expiry-time="20240101000000Z" {A}'
    assert allowed(line, now=1704067200) is not None
    assert allowed(line, now=1704067201) is None


@pytest.mark.parametrize(
    ("options", "opens", "refuses"),
    [
        ("", [("anything", 1), ("/socket", None)], []),
        ("no-port-forwarding", [], [("anything", 1), ("/socket", None)]),
        ('permitopen="web:80"', [("web", 80)], [("web", 81), ("WEB", 80), ("db", 80), ("/socket", None)]),
        ('permitopen="*:80"', [("web", 80), ("db", 80)], [("web", 81)]),
        ('permitopen="[::1]:*"', [("::1", 80), ("::1", 1)], [("::2", 80)]),
        ('restrict,permitopen="web:80"', [], [("web", 80)]),
        ('restrict,port-forwarding,permitopen="web:80"', [("web", 80)], [("web", 81)]),
    ],
)
def test_where_to_forward_to(options: str, opens: list[Any], refuses: list[Any]) -> None:
    restrictions = allowed(f"{options} {A}")
    assert restrictions is not None
    assert all(restrictions.permits_open(*place) for place in opens)
    assert not any(restrictions.permits_open(*place) for place in refuses)


@pytest.mark.parametrize(
    ("options", "opens", "refuses"),
    [
        ("", [("", 1), ("/socket", None)], []),
        ("no-port-forwarding", [], [("", 1), ("/socket", None)]),
        ('permitlisten="8080"', [("", 8080), ("localhost", 8080)], [("", 8081), ("/socket", None)]),
        ('permitlisten="local*:*"', [("LOCALhost", 1)], [("", 1), ("127.0.0.1", 1)]),
        ('permitopen="web:80"', [("", 1)], []),
    ],
)
def test_where_to_listen(options: str, opens: list[Any], refuses: list[Any]) -> None:
    restrictions = allowed(f"{options} {A}")
    assert restrictions is not None
    assert all(restrictions.permits_listen(*place) for place in opens)
    assert not any(restrictions.permits_listen(*place) for place in refuses)


# -- authorities


def certificate(*principals: str, **changed: Any) -> Certificate:
    arguments = {"key_id": "x", "principals": principals or ["alice"], "valid_before": NOW + 60}
    return Certificate.issue_for_user(AUTHORITY, ED25519, **(arguments | changed))


def test_an_authority_lets_in_whom_it_certifies_and_not_itself() -> None:
    line = f"cert-authority {AUTHORITY.public_key.to_openssh()}"
    assert allowed(line, key=certificate()) == KeyRestrictions()
    assert allowed(line, key=AUTHORITY.public_key) is None
    assert allowed(line, key=ED25519) is None
    assert keys(line).lookup(AUTHORITY.public_key) is None


def test_a_key_that_is_no_authority_certifies_nobody() -> None:
    assert allowed(AUTHORITY.public_key.to_openssh(), key=certificate()) is None
    assert allowed(A, key=certificate()) is None, "nor is the certificate taken for its key"


@pytest.mark.parametrize(
    ("options", "principals", "lets_in"),
    [
        ("", ["bob"], False),
        ("", ["bob", "alice"], True),
        (',principals="bob,carol"', ["carol"], True),
        (',principals="bob,carol"', ["alice"], False),
        (',principals="bo*"', ["bob"], False),
        (',principals=""', ["alice"], False),
    ],
)
def test_principals(options: str, principals: list[str], lets_in: bool) -> None:
    line = f"cert-authority{options} {AUTHORITY.public_key.to_openssh()}"
    assert (allowed(line, key=certificate(*principals)) is not None) is lets_in


def test_principals_are_for_authorities() -> None:
    assert allowed(f'principals="alice" {A}') is None


@pytest.mark.parametrize(
    ("options", "changed", "expected"),
    [
        ("no-pty", {}, {"pty": False}),
        ("pty", {"permissions": CertificatePermissions(pty=False, user_rc=False)}, {"pty": False, "user_rc": False}),
        ("pty", {"force_command": "true"}, {"force_command": "true"}),
        ('command="true"', {}, {"force_command": "true"}),
        ('command="true"', {"force_command": "true"}, {"force_command": "true"}),
        ('command="true"', {"force_command": "false"}, None),
        ("pty", {"source_addresses": ["192.0.2.0/24"]}, {"source_addresses": (ip_network("192.0.2.0/24"),)}),
        ("pty", {"source_addresses": ["10.0.0.0/8"]}, None),
        ('from="10.0.0.0/8"', {}, None),
        ("pty", {"valid_before": NOW - 1}, None),
        ("pty", {"critical_options": {"unknown@example.com": None}}, None),
        ("no-touch-required", {}, {}),
        ("pty", {"permissions": CertificatePermissions(no_touch_required=True)}, {}),
        (
            "no-touch-required",
            {"permissions": CertificatePermissions(no_touch_required=True)},
            {"allow_untouched": True},
        ),
    ],
    ids=str,
)
def test_line_and_certificate_restrict_together(
    options: str, changed: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    line = f"cert-authority,{options} {AUTHORITY.public_key.to_openssh()}"
    found = allowed(line, key=certificate(**changed))
    assert found == (None if expected is None else KeyRestrictions(**expected))


def test_authorities_need_no_line() -> None:
    read = AuthorizedKeys(authorities=[AUTHORITY.public_key])
    assert read.authorize(certificate(), "alice", now=NOW) == KeyRestrictions()
    assert read.authorize(certificate(), "bob", now=NOW) is None
    assert read.authorize(AUTHORITY.public_key, "alice", now=NOW) is None


def test_what_is_revoked_lets_nobody_in() -> None:
    line = f"cert-authority {AUTHORITY.public_key.to_openssh()}"
    for revoked, key in ((ED25519, ED25519), (ED25519, certificate()), (AUTHORITY.public_key, certificate())):
        krl = KeyRevocationList()
        read = AuthorizedKeys.from_text(f"{line}\n{A}\n", revoked=krl)
        assert read.authorize(key, "alice", now=NOW) is not None
        krl.revoke(revoked)
        assert read.authorize(key, "alice", now=NOW) is None
    assert AuthorizedKeys.from_text(A, revoked=krl).lookup(ED25519) is not None
    krl.revoke(ED25519)
    assert AuthorizedKeys.from_text(A, revoked=krl).lookup(ED25519) is None


def test_the_first_line_that_lets_a_key_in_counts() -> None:
    lines = [f'from="10.0.0.0/8" {A}', f"unheard-of {A}", f"no-pty {A}", A]
    assert allowed(*lines) == KeyRestrictions(pty=False)


def test_two_logins_add_up() -> None:
    one = KeyRestrictions(permit_open=(Permit("a", 1), Permit("b", 2)), environment={"A": "1"}, valid_before=5)
    other = KeyRestrictions(permit_open=(Permit("b", 2),), environment={"A": "2", "B": "3"}, tunnel="0", pty=False)
    assert one.merged(other) == KeyRestrictions(
        permit_open=(Permit("b", 2),), environment={"A": "1", "B": "3"}, valid_before=5, tunnel="0", pty=False
    )


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
        (f'command="unterminated {A}', "in neither a comma nor a blank"),
        (f'command="escaped\\" {A}', "in neither a comma nor a blank"),
        (f'command="escaped\\\\" {A}', "in neither a comma nor a blank"),
        (f"command=unquoted {A}", "in neither a comma nor a blank"),
        (f'command="a"b {A}', "in neither a comma nor a blank"),
        (f"no-pty, {A}", "neither a key nor an option"),
        (f",no-pty {A}", "neither a key nor an option"),
        (f"\x1b[m {A}", "neither a key nor an option, at character 1"),
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
    "line",
    ["root:$6$salt$hash:19000:0:99999:7:::", "DB_PASSWORD=hunter2", 'x="hunter2"hunter2', "hunter2 AAAA", "hunter2"],
)
def test_a_file_that_is_another_is_not_quoted(line: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server that runs as root may read what its user may not, by a link that is called authorized_keys."""
    read = keys(f"{line} x")
    assert len(read.problems) == 1
    assert "hunter2" not in caplog.text
    assert "salt" not in caplog.text


def test_no_more_is_told_than_anybody_reads(caplog: pytest.LogCaptureFixture) -> None:
    read = keys(*(["nonsense"] * 5000), f"nonsense {C}", A)
    assert len(read.problems) == 101
    assert read.problems[-1].endswith("of whatever follows, nothing is said")
    assert len(caplog.records) == 101
    assert read.lookup(ED25519) is not None
    assert read.lookup(ECDSA) is None


def test_a_file_has_an_end_and_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_text(f"{A}\n" * 20_000)
    with pytest.raises(KeyFileException, match="more than 1 MiB"):
        AuthorizedKeys.load(path)
    assert AuthorizedKeys.load(path, max_bytes=8 << 20).lookup(ED25519) is not None
    with pytest.raises(KeyFileException, match="more than 100 bytes"):
        AuthorizedKeys.load(path, max_bytes=100)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(KeyFileException, match="this is no plain file"):
        AuthorizedKeys.load(tmp_path / "fifo", check_permissions=False)


def test_lines_that_let_nobody_in_are_told_when_they_are_read(caplog: pytest.LogCaptureFixture) -> None:
    keys(f"nonsense {A}", A, f"madeup {C}")
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(":")[0] for text in told] == ["a line of authorized_keys lets nobody in"] * 2
    assert "authorized_keys:1: " in told[0]
    assert "authorized_keys:3: the option madeup is unknown" in told[1]


def test_what_variables_hold_is_not_shown() -> None:
    entry = keys(f'environment="TOKEN=hunter2",from="192.0.2.*",no-pty {A}')._entries[ED25519][0]
    assert entry.options[0] == ("environment", "TOKEN=hunter2")
    assert "hunter2" not in repr(entry)
    assert "('from', '192.0.2.*'), ('no-pty', None)" in repr(entry)


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


@pytest.mark.parametrize(
    "line",
    [f'command="a \\"b",from="192.0.2.*",permitopen="h:1",expiry-time="20300101" {A} c', f"cert-authority {C}", A],
)
def test_a_line_that_is_cut_anywhere_lets_in_its_key_or_nobody(line: str) -> None:
    for end in range(len(line) + 1):
        read = AuthorizedKeys.from_text(f"{line[:end]}\n{load('ecdsa384.openssh').public_key.to_openssh()}\n")
        assert set(read._entries) <= {ED25519, ECDSA, load("ecdsa384.openssh").public_key}
        assert read.lookup(load("ecdsa384.openssh").public_key) is not None
        is_empty = not line[:end].strip()
        entries = [entry for found in read._entries.values() for entry in found if entry.source.endswith(":1")]
        assert len(read.problems) + len(entries) == (0 if is_empty else 1)
        # What was cut off its options is no login without them.
        assert not any(
            entry.options != AuthorizedKeys.from_text(line)._entries[entry.key][0].options for entry in entries
        )


@given(strategies.binary(max_size=200) | garbled(f'command="x",no-pty {A}\n# c\n{C}\r\ncert-authority {A} x\n'))
def test_any_bytes_are_survived_and_each_problem_has_its_place(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        read = AuthorizedKeys.load(file.name, check_permissions=False)
    for problem in read.problems:
        assert re.match(re.escape(file.name) + r":[1-9][0-9]*: .", problem)
        assert problem.isprintable()


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


def test_a_word_of_a_command_is_no_key() -> None:
    keys = AuthorizedKeys.from_text(f'command="cat AAAAlist" {A}')
    assert keys.problems == []
    assert [entry.options for entry in keys._entries[ED25519]] == [(("command", "cat AAAAlist"),)]


def test_a_fifo_is_no_list_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "authorized_keys")
    with pytest.raises(KeyFileException, match="this is no plain file"):
        AuthorizedKeys.load(tmp_path / "authorized_keys")


def test_a_private_key_is_no_list_and_nothing_of_it_is_told(tmp_path: Path) -> None:
    AUTHORITY.write_private_key_file(tmp_path / "id")
    with pytest.raises(KeyFileException, match=r"id: this is a private key, and not a list of public ones\.$"):
        AuthorizedKeys.load(tmp_path / "id")
