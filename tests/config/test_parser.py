"""Files and the mistakes in them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from tests.config.corpus import CASES
from tests.keys.samples import garbled
from trio_ssh.config.keywords import BY_ATTRIBUTE, KEYWORDS
from trio_ssh.config.options import SSHOptions
from trio_ssh.config.parser import INCLUDE_DEPTH, IncludeLine, Parser
from trio_ssh.config.tokens import LocalFacts

FACTS = LocalFacts("joe", "1000", "/home/joe", "here.example", {"HOME": "/home/joe", "WHERE": "sub"})


def parser(folder: Path | None = None, *, is_user: bool = True) -> Parser:
    return Parser(FACTS, folder=str(folder or "/nowhere"), is_user=is_user)


def refused(text: str) -> str:
    with pytest.raises(trio_ssh.ConfigParseError) as raised:
        parser().read_text(text, "config")
    return str(raised.value)


# -- mistakes


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("User a\n\nPort x\n", "config:3: Port: 'x' is not a port: a number from 1 to 65535"),
        ("Prot 22", "config:1: the keyword 'Prot' is unknown: did you mean Port?"),
        ("hostnam x", "config:1: the keyword 'hostnam' is unknown: did you mean HostName?"),
        ("Hots x", "did you mean Host?"),
        ("Zzzzzzz x", "check its spelling. If another program needs it, put `IgnoreUnknown Zzzzzzz` in front"),
        ("Match usr x", "config:1: 'usr' can't be matched; there are: all, canonical, final, command, exec, host,"),
        ("Match host", "config:1: 'host' needs something to compare with"),
        ("Match all host x", "'all' stands alone, or behind canonical or final"),
        ("Match final=x", "'final=x' stands alone"),
        ("Match", "'Match' has no value"),
        ("Match #x", "there is nothing to match"),
        ("Match localnetwork 10.0.0.1/8", "'10.0.0.1/8' is not a network, such as 192.0.2.0/24"),
        ("Host #", "Host needs a pattern; `Host *` is for all"),
        ("Include #", "Include needs the name of a file"),
        ("Include ${NOPE}/x", "config:1: ${NOPE} is not a variable that is set"),
        ("Include ${WHERE", "config:1: ${WHERE is not a variable that is set"),
        ("Include ~nobody-here/x", "config:1: ~nobody-here is nobody's home on this machine"),
        ("ProxyCommand =", "config:1: 'ProxyCommand' has no value"),
        ("User 'x", "a quote is not closed: add a ' at its end"),
        ("SendEnv A=b", "SetEnv sets values"),
        ("GlobalKnownHostsFile a none", "'none' stands alone"),
        ("CanonicalizePermittedCNAMEs a", "'a' is not source-domains:target-domains"),
        ("\0", "the line holds a NUL. Is this a text file?"),
        ("\x1b[31mPort 3", r"'\x1b[31mPort'"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(text: str, error: str) -> None:
    found = refused(text)
    assert error in found
    assert found.isprintable()


def test_a_mistake_in_a_block_for_another_host_is_one_too() -> None:
    assert "config:2: " in refused("Host other\nPort x\n")


def test_what_is_ignored_has_to_be_said_before() -> None:
    parser().read_text("IgnoreUnknown a*,zz\nAbc 1 2\nZZ\t3\n", "config")
    assert "config:1" in refused("Abc 1\nIgnoreUnknown a*\n")


def test_what_openssh_once_knew_is_read_without_a_word() -> None:
    assert parser().read_text("Protocol 2\nRhostsAuthentication no\n", "config") == ()


@given(st.text())
def test_any_text_is_lines_or_a_located_error(text: str) -> None:
    if "nclude" in text:
        return
    try:
        parser().read_text(text, "config")
    except trio_ssh.ConfigParseError as error:
        message = str(error)
    else:
        message = "config:0"
    assert message.startswith("config:")
    assert message.isprintable()


KEYWORD = st.sampled_from([keyword.name for keyword in BY_ATTRIBUTE.values()] + ["Host", "Match"])


@given(st.lists(st.tuples(KEYWORD, st.text("abh019*!%-:@/[]= \"'\\#,.${}~", max_size=20)), max_size=6))
def test_any_value_of_any_keyword_is_taken_or_a_located_error(lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{keyword} {value}" for keyword, value in lines)
    message = "config:0"
    try:
        parser().read_text(text, "config")
    except trio_ssh.ConfigParseError as error:
        message = str(error)
    assert message.startswith("config:")


def test_a_file_that_ends_anywhere_is_taken_or_a_located_error() -> None:
    text = "\n".join(case.text for case in CASES if "Include" not in case.text)[:6000]
    for end in range(len(text)):
        message = "config:0"
        try:
            parser().read_text(text[max(0, end - 60) : end], "config")
        except trio_ssh.ConfigParseError as error:
            message = str(error)
        assert message.startswith("config:")


# -- files


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"User \xff\xfe\n")
    [setting] = parser().read_file(path)
    assert setting.value == "\udcff\udcfe"  # type: ignore[union-attr]


def test_a_file_that_is_far_too_long_is_none(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(trio_ssh.ConfigParseError, match="has more than 4 MiB"):
        parser().read_file(path)


def test_files_that_are_too_long_together_are_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"#" * (4 << 20))
    with pytest.raises(trio_ssh.ConfigParseError, match="they have more than 16 MiB"):
        parser(tmp_path).read_text("Include x x x x x", "config")


def test_files_are_included_by_patterns_in_order(tmp_path: Path) -> None:
    for name in ("b.conf", "a.conf", ".hidden.conf", "c.other"):
        (tmp_path / name).write_text(f"User {name}\n")
    [line] = parser(tmp_path).read_text(f"Include *.conf {tmp_path}/c.other nothing/*", "config")
    assert isinstance(line, IncludeLine)
    assert [setting.value for [setting] in line.files] == ["a.conf", "b.conf", "c.other"]  # type: ignore[union-attr]


def test_a_variable_may_lead_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_text("User joe\n")
    [line] = parser(tmp_path).read_text("Include ${WHERE}/x", "config")
    assert isinstance(line, IncludeLine)
    assert len(line.files) == 1


def test_a_mistake_in_an_included_file_is_told_with_that_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("\nPort y\n")
    with pytest.raises(trio_ssh.ConfigParseError, match=f"^{tmp_path}/x:2: "):
        parser(tmp_path).read_text("Include x", "config")


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("Include x\n")
    with pytest.raises(trio_ssh.ConfigParseError, match=f"to a depth of more than {INCLUDE_DEPTH}"):
        parser(tmp_path).read_text("Include x", "config")


def test_files_that_include_each_other_twice_end_early(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).write_text(f"Include {number + 1} {number + 1}\n")
    with pytest.raises(trio_ssh.ConfigParseError, match="more than 1024 files"):
        parser(tmp_path).read_text("Include 0", "config")


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(trio_ssh.ConfigParseError, match=r"config:1: .*/x can't be read: Is a directory"):
        parser(tmp_path).read_text("Include x", "config")


def test_the_system_includes_nothing_from_a_home() -> None:
    with pytest.raises(trio_ssh.ConfigParseError, match="whose would it be"):
        parser(is_user=False).read_text("Include ~/x", "config")


def test_what_others_may_write_is_not_included(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("User joe\n")
    (tmp_path / "x").chmod(0o666)
    with pytest.raises(trio_ssh.ConfigParseError, match="others than you may write to the file"):
        parser(tmp_path).read_text("Include x", "config")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_is_not_included(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("User joe\n")
    os.chown(tmp_path / "x", 12345, -1)
    with pytest.raises(trio_ssh.ConfigParseError, match="belongs to another user"):
        parser(tmp_path).read_text("Include x", "config")


# -- the table


def test_every_keyword_is_an_attribute_and_every_attribute_a_keyword() -> None:
    own = {"original_hostname", "local_user", "places"}
    assert {field.name for field in SSHOptions.__attrs_attrs__} - own == set(BY_ATTRIBUTE)  # type: ignore[attr-defined]
    assert {keyword.name.lower() for keyword in BY_ATTRIBUTE.values()} <= set(KEYWORDS)


def test_an_attribute_is_the_keyword_in_snake_case() -> None:
    for attribute, keyword in BY_ATTRIBUTE.items():
        assert attribute.replace("_", "") == keyword.name.lower()


WHOLE = """Host web* !web3
  HostName %h.example
  ProxyCommand "nc" %h %p
Match originalhost x,y user "joe"
  LocalForward 80 localhost:80
  SetEnv A="b c" D=e
  Ciphers ^aes*,-x
IgnoreUnknown z*
Zz 1
"""


@given(st.binary(max_size=200) | garbled(WHOLE))
def test_any_bytes_are_a_configuration_or_a_mistake_with_its_place(content: bytes) -> None:
    async def read(path: str) -> None:
        await (await trio_ssh.SSHConfig.from_path(path)).lookup("web1")

    located, other = "", ""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            trio.run(read, file.name)
        except trio_ssh.ConfigParseError as error:
            located = str(error)
        except ValueError as error:
            other = str(error)
    assert not located or re.search(re.escape(file.name) + r":[1-9][0-9]*\b", located)
    assert (located + other).isprintable() or not located + other
    # What a configuration makes of a name may be none.
    assert not other or re.search("no host|the host name|no user|a shell interprets|would lead elsewhere", other)


def test_what_a_pattern_matches_and_is_no_file_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    (folder / "old").mkdir(parents=True)
    (folder / "gone").symlink_to("nowhere")
    (folder / "web").write_text("User joe\n")
    [line] = parser(tmp_path).read_text("Include conf.d/*", "config")
    assert [[each.keyword.name for each in file] for file in line.files] == [["User"]]  # type: ignore[union-attr]
