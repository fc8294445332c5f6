"""What a keyword's words mean: numbers, times, forwardings, jump hosts, algorithms.

Every reader takes the words of one line and raises ValueError with a text that says what would have been right.  Where
the line stands, its caller knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import attrs

from trio_ssh.keys import patterns
from trio_ssh.wire.text import printable

_TIME: Final = re.compile(r"([0-9]+)([smhdw]?)", re.IGNORECASE)
_TIME_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([BKMGTPE]?)", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
#: What OpenSSH's 32 bits hold, for a time and for a count.
_LARGEST: Final = 2**31 - 1
_ALGORITHM: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_URI: Final = re.compile(r"ssh://(.*?)/?", re.IGNORECASE)
#: What no host and no user is called; see `check_host`.
_BLANK_OR_CONTROL: Final = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
_NOT_IN_JUMPS: Final = re.compile(r"[\x00-\x20\x7f'`\"$\\;&<>|(){}/]")

# -- names


def check_host(name: str) -> str:
    """Return a host name that can be one.

    Raises:
        ValueError: it is empty or endless, begins with ``-``, or holds blanks or control characters.
    """
    if not name:
        raise ValueError("the host name is empty")
    if len(name) > patterns.LONGEST:
        raise ValueError(f"no host has a name of more than {patterns.LONGEST} characters: '{printable(name, 64)}'")
    # A program that gets it as an argument would take it for an option.
    if name.startswith("-"):
        raise ValueError(f"no host is called '{printable(name, 64)}': a name does not begin with '-'")
    if _BLANK_OR_CONTROL.search(name):
        raise ValueError(f"no host is called '{printable(name, 64)}': a name holds no blanks or control characters")
    return name


# -- one word


def one(words: Sequence[str]) -> str:
    """Take exactly one word that is not empty."""
    if len(words) > 1:
        raise ValueError(f"one value is expected, not {len(words)}: put quotes around blanks, or remove the rest")
    if not words or not words[0]:
        raise ValueError("the value is missing")
    return words[0]


def several(words: Sequence[str]) -> tuple[str, ...]:
    """Take one word or more."""
    if not words or not all(words):
        raise ValueError("a value is missing or empty")
    return tuple(words)


def flag(words: Sequence[str]) -> bool:
    """Take ``yes`` or ``no``, or ``true`` or ``false``."""
    word = one(words)
    match word.lower():
        case "yes" | "true":
            return True
        case "no" | "false":
            return False
        case _:
            raise ValueError(f"'{printable(word, 64)}' is neither yes nor no")


def choice(choices: Mapping[str, str]) -> Callable[[Sequence[str]], str]:
    """Make a reader that takes one of some words, in any case, and returns what it stands for."""

    def read(words: Sequence[str]) -> str:
        word = one(words)
        try:
            return choices[word.lower()]
        except KeyError:
            raise ValueError(
                f"'{printable(word, 64)}' is not among the values that there are: {', '.join(choices)}"
            ) from None

    return read


def choices(*values: str, **others: str) -> Callable[[Sequence[str]], str]:
    """As `choice`, of words that stand for themselves and of `others`."""
    return choice({value: value for value in values} | others)


def number(smallest: int = 0, largest: int = _LARGEST) -> Callable[[Sequence[str]], int]:
    """Make a reader of numbers within bounds."""

    def read(words: Sequence[str]) -> int:
        word = one(words)
        if not re.fullmatch(r"[0-9]{1,12}", word) or not smallest <= int(word) <= largest:
            raise ValueError(f"'{printable(word, 64)}' is not a number from {smallest} to {largest}")
        return int(word)

    return read


def port_number(word: str) -> int:
    """Read a port.  Names of services are not taken: what they stand for differs from machine to machine."""
    if not re.fullmatch(r"[0-9]{1,5}", word) or not 0 < int(word) < 65536:
        raise ValueError(f"'{printable(word, 64)}' is not a port: a number from 1 to 65535")
    return int(word)


def port(words: Sequence[str]) -> int:
    """Take a port."""
    return port_number(one(words))


def octal(words: Sequence[str]) -> int:
    """Take the bits of a umask."""
    word = one(words)
    if not re.fullmatch(r"[0-7]{1,4}", word) or int(word, 8) > 0o777:
        raise ValueError(f"'{printable(word, 64)}' is not an octal number up to 777")
    return int(word, 8)


def seconds(words: Sequence[str]) -> int:
    """Take a time: ``90``, ``1m30``, ``2h``."""
    word = one(words)
    total = at = 0
    while found := _TIME.match(word, at):
        total += int(found[1][:12]) * _TIME_UNITS[found[2].lower()]
        at = found.end()
    if at != len(word) or total > _LARGEST:
        raise ValueError(f"'{printable(word, 64)}' is not a time, such as 90, 90s or 1m30s")
    return total


def seconds_or_none(words: Sequence[str]) -> int | None:
    """Take a time, or ``none``."""
    return None if one(words).lower() == "none" else seconds(words)


def escape_character(words: Sequence[str]) -> str:
    """Take a character, ``^`` and a letter, or ``none``."""
    word = one(words)
    if word.lower() != "none" and len(word) != 1 and not re.fullmatch(r"\^[@-_a-z]", word):
        raise ValueError(f"'{printable(word, 64)}' is neither a character nor ^ and a letter nor none")
    return word


def comma_list(words: Sequence[str]) -> tuple[str, ...]:
    """Take one word of names that are divided by commas."""
    return tuple(name for name in one(words).split(",") if name)


# -- values with parts


@attrs.frozen
class RekeyLimit:
    """``RekeyLimit``: when keys are exchanged anew.

    Attributes:
        data_bytes: after so much of either direction; 0 for the default.
        seconds: after so long; 0 for never.
    """

    data_bytes: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.data_bytes} {self.seconds}"


def rekey_limit(words: Sequence[str]) -> RekeyLimit:
    """Take a size, and perhaps a time."""
    if not 1 <= len(words) <= 2:
        raise ValueError("a size is expected, such as 1G, and perhaps a time, such as 1h")
    size = 0
    if words[0].lower() != "default":
        found = _SIZE.fullmatch(words[0])
        if found is None:
            raise ValueError(f"'{printable(words[0], 64)}' is not a size, such as 512M or 1G")
        whole, _, fraction = found[1][:32].partition(".")
        unit = 1 << _SIZE_UNITS[found[2].upper()]
        size = int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        # None at all is no limit.
        if not (size == 0 or 16 <= size < 2**63):
            raise ValueError(f"'{printable(words[0], 64)}' is not a size of at least 16 bytes and less than 8E")
    if len(words) == 1:
        return RekeyLimit(size, 0)
    return RekeyLimit(size, seconds_or_none(words[1:]) or 0)


@attrs.frozen
class Listen:
    """Where a forwarding listens.

    Attributes:
        host: an address; empty or ``*`` for all, None for the default.
        port: 0 for a free one.
        path: of a UNIX socket instead.
        place: the line that says so, of a ``DynamicForward``.
    """

    host: str | None
    port: int
    path: str | None = None
    place: str = attrs.field(default="", eq=False, repr=False)

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        return str(self.port) if self.host is None else f"[{self.host}]:{self.port}"


@attrs.frozen
class Forwarding:
    """``LocalForward`` and ``RemoteForward``.

    Attributes:
        listen: where connections come in.
        host, port: where they go.
        path: of the UNIX socket where they go instead; with neither, wherever a SOCKS client asks to.
        place: the line that says so.
    """

    listen: Listen
    host: str | None = None
    port: int = 0
    path: str | None = None
    place: str = attrs.field(default="", eq=False, repr=False)

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.listen} {self.path}"
        return str(self.listen) if self.host is None else f"{self.listen} [{self.host}]:{self.port}"


def _fields(spec: str) -> list[str]:
    """Split at ``:``, but not in brackets, where IPv6 addresses stand."""
    fields = [""]
    is_whole = False
    for character in spec:
        if character == ":" and not is_whole:
            fields.append("")
            continue
        if character in "[]":
            is_whole = character == "["
        fields[-1] += character
    return fields


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _listen_port(word: str, smallest: int) -> int:
    if smallest == 0 and word == "0":
        return 0
    return port_number(word)


def listen(spec: str, *, smallest: int = 1) -> Listen:
    """Read where to listen: ``[address:]port``, or the path of a UNIX socket."""
    match _fields(spec):
        case [path] if "/" in path:
            return Listen(None, 0, path)
        case [port_word]:
            return Listen(None, _listen_port(port_word, smallest))
        case [host, port_word]:
            return Listen(_bare(host), _listen_port(port_word, smallest))
        case _:
            raise ValueError(f"'{printable(spec, 64)}' is not [address:]port, nor the path of a UNIX socket")


def _forwarding(words: Sequence[str], smallest: int) -> Forwarding:
    if len(words) != 2:
        raise ValueError("two values are expected: [address:]port, and host:port")
    source = listen(words[0], smallest=smallest)
    target = words[1]
    match _fields(target):
        case [path] if "/" in path:
            return Forwarding(source, path=path)
        case [host, port_word] if _bare(host):
            return Forwarding(source, _bare(host), port_number(port_word))
        case _:
            raise ValueError(f"'{printable(target, 64)}' is not host:port, nor the path of a UNIX socket")


def local_forward(words: Sequence[str]) -> Forwarding:
    """Take where to listen here, and where to connect to from there."""
    return _forwarding(words, 1)


def remote_forward(words: Sequence[str]) -> Forwarding:
    """Take where to listen there, and where to connect to from here; without that, a SOCKS client decides."""
    if len(words) == 1:
        return Forwarding(listen(words[0], smallest=0))
    return _forwarding(words, 0)


def dynamic_forward(words: Sequence[str]) -> Listen:
    """Take where to listen for SOCKS clients."""
    return listen(one(words))


@attrs.frozen
class JumpHost:
    """One host of ``ProxyJump``.

    Attributes:
        host: its name, as the configuration may know it.
        port, user: None for what the configuration says.
    """

    host: str
    port: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user is not None else ""
        return f"{user}{host}" + (f":{self.port}" if self.port is not None else "")


def jump_host(text: str) -> JumpHost:
    """Read ``[user@]host[:port]``, or the same as ``ssh://``."""
    if found := _URI.fullmatch(text):
        text = found[1]
    user, at, rest = text.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::([^:]*))?", rest)
    plain = re.fullmatch(r"([^:]*)(?::([^:]*))?", rest)
    found = bracketed or plain
    if found is None:
        raise ValueError(f"'{printable(text, 64)}' is not [user@]host[:port]; an IPv6 address needs brackets")
    host, port_word = found[1], found[2]
    if at and (not user or user.startswith("-") or _NOT_IN_JUMPS.search(user)):
        raise ValueError(f"no user is called '{printable(user, 64)}'")
    if _NOT_IN_JUMPS.search(host):
        raise ValueError(f"no host is called '{printable(host, 64)}'")
    return JumpHost(check_host(host), None if port_word is None else port_number(port_word), user if at else None)


def jump_hosts(words: Sequence[str]) -> tuple[JumpHost, ...]:
    """Take hosts, the nearest first; or ``none``."""
    word = one(words)
    if word.lower() == "none":
        return ()
    return tuple(jump_host(part) for part in word.split(","))


# -- algorithms


@attrs.frozen
class AlgorithmList:
    """Names of algorithms, and what they do to the default.

    Attributes:
        sign: ``+`` to add them behind the default, ``-`` to remove them, ``^`` to put them first, empty to replace it.
        names: the names, each perhaps a pattern.
    """

    sign: Literal["", "+", "-", "^"]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.sign + ",".join(self.names)

    def apply(self, default: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
        """Return what is enabled, best first.

        Args:
            default: what is enabled without it.
            known: everything that could be.  A name that is not among it is left out.
        """
        if self.sign == "-":
            return tuple(name for name in default if not any(patterns.matches(each, name) for each in self.names))
        named = [name for each in self.names for name in known if patterns.matches(each, name)]
        match self.sign:
            case "+":
                return _each_once([*default, *named])
            case "^":
                return _each_once([*named, *default])
            case _:
                return _each_once(named)


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def algorithm_list(words: Sequence[str]) -> AlgorithmList:
    """Take names that are divided by commas, perhaps behind ``+``, ``-`` or ``^``."""
    word = one(words)
    sign: Literal["", "+", "-", "^"] = ""
    if word[0] in "+-^":
        sign = "+" if word[0] == "+" else "-" if word[0] == "-" else "^"
        word = word[1:]
    names = tuple(name for name in word.split(",") if name)
    if not names or not all(_ALGORITHM.fullmatch(name) for name in names):
        raise ValueError(f"'{printable(one(words), 64)}' is not a list of algorithms that are divided by commas")
    return AlgorithmList(sign, names)
