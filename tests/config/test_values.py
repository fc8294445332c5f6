"""What words mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ssh.config import values
from trio_ssh.config.values import AlgorithmList, Forwarding, JumpHost, Listen, RekeyLimit

READERS: list[Callable[[Sequence[str]], object]] = [
    values.one,
    values.several,
    values.flag,
    values.choices("a", b="c"),
    values.number(1, 9),
    values.port,
    values.octal,
    values.seconds,
    values.seconds_or_none,
    values.comma_list,
    values.rekey_limit,
    values.local_forward,
    values.remote_forward,
    values.dynamic_forward,
    values.jump_hosts,
    values.algorithm_list,
    values.escape_character,
]


@given(st.lists(st.text(max_size=40) | st.from_regex(r"[\[\]:/@a-z0-9.*+^-]{0,20}"), max_size=4))
def test_any_words_are_a_value_or_an_error_that_can_be_shown(words: list[str]) -> None:
    for read in READERS:
        error = ""
        try:
            read(words)
        except ValueError as raised:
            error = str(raised)
        assert error.isprintable()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("1m30", 90), ("1M30S", 90), ("1h", 3600), ("1d", 86400), ("2w", 1209600)],
)
def test_times(text: str, seconds: int) -> None:
    assert values.seconds([text]) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1x", "1 m", "m", "1.5", "9" * 12, "9" * 4000 + "w", "٣"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|the value is missing"):
        values.seconds([text])


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (["1G", "1h"], RekeyLimit(1 << 30, 3600)),
        (["512m"], RekeyLimit(512 << 20, 0)),
        (["1.5K"], RekeyLimit(1536, 0)),
        (["default", "none"], RekeyLimit(0, 0)),
        (["4096"], RekeyLimit(4096, 0)),
    ],
)
def test_rekey_limits(words: list[str], limit: RekeyLimit) -> None:
    assert values.rekey_limit(words) == limit
    assert values.rekey_limit(str(limit).replace("0 ", "default ", limit.data_bytes == 0).split()) == limit


@pytest.mark.parametrize("words", [[], ["1"], ["8E"], ["1G", "x"], ["1G", "1", "2"], ["9" * 300], ["-1G"]])
def test_no_rekey_limits(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"size|time"):
        values.rekey_limit(words)


@pytest.mark.parametrize(
    ("words", "forwarding"),
    [
        (["80", "a:90"], Forwarding(Listen(None, 80), "a", 90)),
        (["*:80", "[::1]:90"], Forwarding(Listen("*", 80), "::1", 90)),
        ([":80", "a:90"], Forwarding(Listen("", 80), "a", 90)),
        (["[::1]:80", "/a"], Forwarding(Listen("::1", 80), path="/a")),
        (["/b", "/a"], Forwarding(Listen(None, 0, "/b"), path="/a")),
    ],
)
def test_forwardings(words: list[str], forwarding: Forwarding) -> None:
    assert values.local_forward(words) == values.remote_forward(words) == forwarding
    assert values.local_forward(str(forwarding).split()) == forwarding


def test_a_remote_forwarding_may_have_a_free_port_or_no_end() -> None:
    assert values.remote_forward(["0", "a:90"]) == Forwarding(Listen(None, 0), "a", 90)
    assert str(values.remote_forward(["1080"])) == "1080"


@pytest.mark.parametrize(
    "words", [["80"], ["a:b:80", "a:9"], ["80", "90"], ["80", ":90"], ["80", "a:0"], ["80", "a:b:9"], ["0", "a:9"]]
)
def test_no_forwardings(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is not|are expected"):
        values.local_forward(words)


@pytest.mark.parametrize(
    ("text", "jump"),
    [
        ("a", JumpHost("a")),
        ("u@a:3", JumpHost("a", 3, "u")),
        ("u@d@a", JumpHost("a", None, "u@d")),
        ("[::1]:3", JumpHost("::1", 3)),
        ("ssh://u@a:3/", JumpHost("a", 3, "u")),
    ],
)
def test_jump_hosts(text: str, jump: JumpHost) -> None:
    assert values.jump_hosts([text]) == (jump,)
    assert values.jump_hosts([str(jump)]) == (jump,)


@pytest.mark.parametrize(
    "text", ["a,", ",a", "@a", "-x", "-u@a", "a:0", "a:x", "a:1:2", "a b", "$(x)", "`x`@a", "a;b", "a\nb", "::1"]
)
def test_no_jump_hosts(text: str) -> None:
    with pytest.raises(ValueError, match=r"is called|is not|is empty"):
        values.jump_hosts([text])


def test_none_is_no_jump_host() -> None:
    assert values.jump_hosts(["none"]) == ()


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("c,a", ("c", "a")),
        ("x,a", ("a",)),
        ("+c,a", ("a", "b", "c")),
        ("-a", ("b",)),
        ("-*", ()),
        ("^c,b", ("c", "b", "a")),
        ("*", ("a", "b", "c", "d")),
        ("x", ()),
    ],
)
def test_algorithms(text: str, enabled: tuple[str, ...]) -> None:
    wanted = values.algorithm_list([text])
    assert str(wanted) == text
    assert wanted.apply(("a", "b"), ("a", "b", "c", "d")) == enabled


@pytest.mark.parametrize("text", ["", "+", ",", "-", "a b", "\x1b"])
def test_no_algorithms(text: str) -> None:
    with pytest.raises(ValueError, match=r"list of algorithms|is missing"):
        values.algorithm_list([text])


def test_a_long_list_of_patterns_costs_no_more_than_its_length() -> None:
    wanted = AlgorithmList("", ("a*" * 200 + "b",))
    assert wanted.apply((), ("a" * 2000,)) == ()


@pytest.mark.parametrize("text", ["077", "0", "777"])
def test_masks(text: str) -> None:
    assert values.octal([text]) == int(text, 8)


@pytest.mark.parametrize(
    ("read", "words", "why"),
    [
        (values.flag, ["maybe"], "neither yes nor no"),
        (values.octal, ["8"], "octal"),
        (values.port, ["70000"], "a number from 1 to 65535"),
        (values.number(2, 3), ["4"], "from 2 to 3"),
        (values.choices("a", "b"), ["c"], "there are: a, b"),
        (values.one, ["a", "b"], "not 2"),
        (values.escape_character, ["ab"], "neither a character"),
    ],
)
def test_an_error_says_what_would_be_right(read: Callable[[Sequence[str]], object], words: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(words)
