"""The answers of `SSHConfig`, keyword by keyword, beside those of the real ``ssh -G``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trio_ssh
from tests.config.corpus import CASES, LAXER, STRICTER, Case
from tests.config.ssh_says import Refused, ssh_says, we_say, without_conclusions

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_we_say_what_ssh_says(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(case.text, newline="")
    await agree(case, path)


async def agree(case: Case, path: Path) -> None:
    try:
        expected = ssh_says(path, case.arguments)
    except Refused as refused:
        with pytest.raises((trio_ssh.ConfigParseError, ValueError)) as raised:
            await (await trio_ssh.SSHConfig.from_path(path)).lookup(case.host, port=case.port, user=case.user)
        if found := re.search(r"^(\S+?):? line (\d+)", str(refused), re.MULTILINE):
            assert f"{found[1]}:{found[2]}" in str(raised.value)
        return
    config = await trio_ssh.SSHConfig.from_path(path)
    options = await config.lookup(case.host, port=case.port, user=case.user)
    texts = options.as_dict()
    if "proxycommand" in expected:  # it shows the tokens
        [shown] = expected["proxycommand"]
        expected |= {"proxycommand": (shown.replace("%h", options.hostname).replace("%p", "22"),)}
    assert without_conclusions(we_say(options), texts) == without_conclusions(expected, texts)


@pytest.mark.parametrize(("case", "why"), STRICTER, ids=lambda value: str(value)[:40])
async def test_what_only_we_refuse(case: Case, why: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(case.text)
    ssh_says(path, case.arguments)
    with pytest.raises(trio_ssh.ConfigParseError, match=re.escape(why)):
        await trio_ssh.SSHConfig.from_path(path)


@pytest.mark.parametrize("case", LAXER, ids=str)
async def test_what_only_we_take(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(case.text)
    await (await trio_ssh.SSHConfig.from_path(path)).lookup(case.host)
    with pytest.raises(Refused):
        ssh_says(path, case.arguments)


def test_the_corpus_is_large_and_every_case_another() -> None:
    assert len(set(CASES)) == len(CASES) >= 100


INCLUDES = [
    ("Include {0}/one\nPort 5\n", {"one": "User x\nPort 3\n"}, "host"),
    ("Include {0}/one {0}/two\n", {"one": "User x\n", "two": "User y\nPort 4\n"}, "host"),
    ("Include {0}/*.conf\n", {"b.conf": "User b\n", "a.conf": "User a\n", ".c.conf": "User c\n"}, "host"),
    ("Include {0}/nothing*\nUser x\n", {}, "host"),
    ("Host other\nInclude {0}/one\nHost *\nPort 5\n", {"one": "User x\n"}, "host"),
    ("Host other\nInclude {0}/one\nHost *\nPort 5\n", {"one": "Host host\nUser x\n"}, "host"),
    ("Host host\nInclude {0}/one\nPort 5\n", {"one": "Host other\nUser x\n"}, "host"),
    ("Include {0}/one\nUser y\n", {"one": "Host other\nPort 3\nInclude {0}/two\n", "two": "User x\n"}, "host"),
    ("Match final\nInclude {0}/one\n", {"one": "User x\n"}, "host"),
    ('Include "{0}/with blanks"\n', {"with blanks": "User x\n"}, "host"),
    ("Include {0}/one\n", {"one": "User x\nPort y\n"}, "host"),
    ("Include {0}/one\n", {"one": "Include {0}/one\n"}, "host"),
]


@pytest.mark.parametrize(("text", "files", "host"), INCLUDES)
async def test_includes_are_read_as_ssh_reads_them(text: str, files: dict[str, str], host: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content.format(tmp_path))
    (tmp_path / "config").write_text(text.format(tmp_path))
    await agree(Case(text.format(tmp_path), host), tmp_path / "config")
