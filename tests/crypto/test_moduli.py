"""moduli(5): OpenSSH's own file, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.crypto.agreement_dh import Group, oakley_group, refuse_unsafe_group
from trio_ssh.crypto.moduli import NO_MODULI, USUAL_PATHS, Moduli
from trio_ssh.errors import ConfigParseError

P: Final = oakley_group(2048).prime


def line(
    prime: int = P, *, kind: int = 2, tests: int = 6, tries: int = 100, size: int | None = None, g: str = "2"
) -> str:
    return f"20230101000000 {kind} {tests} {tries} {prime.bit_length() - 1 if size is None else size} {g} {prime:X}"


def test_a_line_gives_a_group() -> None:
    text = f"#    $OpenBSD: moduli,v 1.33$\n# Time Type Tests\n\n{line()}\n   \n{line(P - 2, g='5')}\n"
    assert Moduli.from_text(text).groups == (Group(P, 2), Group(P - 2, 5))


@pytest.mark.parametrize(
    "text",
    [
        line(kind=0),
        line(kind=4),
        line(tests=0),
        line(tests=7),
        line(tries=0),
        line(oakley_group(1024).prime),
        line((1 << 8192) + 1),
        line((1 << 100_000) + 1),
        line(P - 1),
        line(g="0"),
        line(g="1"),
        line(g=f"{P - 1:x}"),
    ],
    ids=lambda text: text[:40],
)
def test_what_may_not_be_used_is_left_out(text: str) -> None:
    """Not safe, not screened, composite, too small, too large, or of no use."""
    assert Moduli.from_text(text).groups == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hello", "mine:1: 1 fields instead of 7"),
        (line() + " more", "mine:1: 8 fields instead of 7"),
        (line() + "\n" + line().rsplit(" ", 1)[0], "mine:2: 6 fields instead of 7"),
        (line(size=2048), "the modulus has 2048 bits, and the line says 2049"),
        ("1 2 6 100 2047 2 hello", "mine:1: a field is no number"),
        ("1 2 six 100 2047 2 FF", "mine:1: a field is no number"),
        ("1 2 6 100 2047 two FF", "mine:1: a field is no number"),
    ],
)
def test_what_is_no_such_file_says_where_and_what_to_do(text: str, complaint: str) -> None:
    with pytest.raises(ConfigParseError) as caught:
        Moduli.from_text(text, "mine")
    assert complaint in str(caught.value)
    assert "`ssh-keygen -M generate`" in str(caught.value) or "Restore the file" in str(caught.value)


@pytest.mark.parametrize("end", range(80))
def test_a_line_that_is_cut_is_an_error_or_none(end: int) -> None:
    with_end = line()[:end]
    if not with_end:
        assert Moduli.from_text(with_end) == NO_MODULI
    else:
        with pytest.raises(ConfigParseError):
            Moduli.from_text(with_end)


@given(st.text())
def test_any_text_is_groups_or_an_error(text: str) -> None:
    try:
        moduli = Moduli.from_text(text)
    except ConfigParseError:
        return
    assert moduli.groups == ()


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "moduli"
    path.write_text(line() + "\n")
    assert Moduli.from_path(path).groups == (Group(P, 2),)
    path.write_bytes(line().replace("2047", "\xff").encode("latin-1"))
    with pytest.raises(ConfigParseError, match=r"moduli:1: a field is no number"):
        Moduli.from_path(path)
    with pytest.raises(FileNotFoundError):
        Moduli.from_path(tmp_path / "none")


def test_a_file_that_never_ends_is_no_such_file() -> None:
    with pytest.raises(ConfigParseError, match="more than 16 MiB"):
        Moduli.from_path("/dev/zero")


def test_the_system_s_file_is_found_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "moduli"
    monkeypatch.setattr("trio_ssh.crypto.moduli.USUAL_PATHS", (tmp_path / "not here", path))
    assert Moduli.of_system() == NO_MODULI
    path.write_text(line())
    assert Moduli.of_system().groups == (Group(P, 2),)


@pytest.mark.interop
def test_openssh_s_own_file_has_groups_of_every_size() -> None:
    assert USUAL_PATHS[0].exists()
    moduli = Moduli.of_system()
    assert {group.bits for group in moduli.groups} >= {2048, 3072, 4096, 6144, 8192}
    for group in moduli.groups:
        refuse_unsafe_group(group, 2048, 8192)
    chosen = {moduli.choose(2048, 3072, 8192, number.to_bytes(8, "big")).prime for number in range(50)}
    assert len(chosen) > 10


def test_the_groups_are_chosen_for_a_request() -> None:
    moduli = Moduli.from_text(f"{line()}\n{line(P - 2)}")
    assert moduli.choose(2048, 2048, 8192, (1).to_bytes(8, "big")) == Group(P - 2, 2)
    assert moduli.choose(3072, 3072, 8192, bytes(8)) == oakley_group(3072)
    assert repr(moduli) == "Moduli()"
