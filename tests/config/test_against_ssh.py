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
    try:
        expected = ssh_says(path, case.arguments)
    except Refused as refused:
        with pytest.raises((trio_ssh.ConfigParseError, ValueError)) as raised:
            await (await trio_ssh.SSHConfig.from_path(path)).lookup(case.host, port=case.port, user=case.user)
        if found := re.search(r"line (\d+)", str(refused)):
            assert f"{path}:{found[1]}" in str(raised.value)
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
