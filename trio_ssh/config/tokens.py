"""``%h``, ``${HOME}`` and ``~``: what is filled in, and what must not be.

Names of hosts and users may come from anywhere.  Where a value goes to a shell, a name that a shell would interpret is
refused.  It is not quoted: the configuration's author may have put quotes around the token, and inside of these ours
would do nothing.

Source: ssh_config(5), TOKENS and ENVIRONMENT VARIABLES.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import attrs

from trio_ssh.errors import ConfigParseError
from trio_ssh.wire.text import printable

if sys.platform != "win32":
    import pwd

_TOKEN: Final = re.compile(r"%(.?)", re.DOTALL)
_TOKEN_OR_VARIABLE: Final = re.compile(r"%(.?)|\$\{([^}]*)(\}?)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$\{([^}]*)(\}?)", re.DOTALL)
_TILDE: Final = re.compile(r"~([^/]*)(.*)", re.DOTALL)
#: ASCII that no shell interprets, wherever it stands.  OpenSSH lists what is forbidden; this is shorter.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9._:@%+,/\u00a1-\U0010ffff-]*")

#: Tokens for names that may come from anywhere.
_FROM_ELSEWHERE: Final = "hnkrj"

#: What ProxyCommand and ProxyJump know.
PROXY_TOKENS: Final = "hnpr"


def local_user() -> str:
    """Return whose account this program runs under: the system's word, as for ssh, and not the environment's."""
    if sys.platform == "win32":
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # nobody in /etc/passwd, as in some containers
        return str(os.getuid())


@attrs.frozen
class LocalFacts:
    """What is known of this side.

    Attributes:
        user: who runs this program.
        user_id: as a number.
        home: their home.
        hostname: this machine's.
        environment: the variables of this process.
    """

    user: str
    user_id: str
    home: str
    hostname: str
    environment: Mapping[str, str] = attrs.field(repr=False)

    @classmethod
    def gather(cls) -> Self:
        """Ask the operating system.  It may read /etc/passwd: call it from a thread."""
        user_id = str(os.getuid()) if hasattr(os, "getuid") else "0"
        return cls(local_user(), user_id, os.path.expanduser("~"), socket.gethostname(), dict(os.environ))


@attrs.frozen(kw_only=True)
class Names:
    """What the tokens stand for.

    Attributes:
        local: this side.
        original: the name that was looked up.
        host: the name that is connected to.
        port, user: there.
        alias: ``HostKeyAlias``, or `host`.
        jump: ``ProxyJump`` as text, or empty.
    """

    local: LocalFacts
    original: str
    host: str
    port: int
    user: str
    alias: str
    jump: str = ""

    def tokens(self) -> dict[str, str]:
        """Return every token."""
        port = str(self.port)
        hashed = hashlib.sha1(usedforsecurity=False)
        for part in (self.local.hostname, self.host, port, self.user, self.jump):
            hashed.update(part.encode("utf-8", "surrogateescape"))
        return {
            "%": "%",
            "C": hashed.hexdigest(),
            "d": self.local.home,
            "h": self.host,
            "i": self.local.user_id,
            "j": self.jump,
            "k": self.alias,
            "L": self.local.hostname.partition(".")[0],
            "l": self.local.hostname,
            "n": self.original,
            "p": port,
            "r": self.user,
            "T": "NONE",
            "u": self.local.user,
        }


def expand(text: str, tokens: Mapping[str, str], place: str) -> str:
    """Replace tokens, once: what comes in is not searched again.

    Raises:
        ConfigParseError: a token is unknown, or not one that this keyword takes.
    """
    return _TOKEN.sub(lambda found: _token(found[1], tokens, place), text)


def _token(character: str, tokens: Mapping[str, str], place: str) -> str:
    try:
        return tokens[character]
    except KeyError:
        known = " ".join(f"%{each}" for each in tokens)
        raise ConfigParseError(
            f"{place}: %{printable(character)} stands for nothing here. There are: {known}; write %% for a % sign"
        ) from None


def expand_path(text: str, tokens: Mapping[str, str], local: LocalFacts, place: str) -> str:
    """Replace ``~``, tokens and variables in the path of a file.

    Raises:
        ConfigParseError: a token is unknown, a variable not set, ``${`` has no end, or ``~user`` is nobody.
        ValueError: a name that a token stands for would lead elsewhere.
    """

    def replace(found: re.Match[str]) -> str:
        if found[2] is not None:
            return _variable(found[2], found[3], local, place)
        value = _token(found[1], tokens, place)
        # A name from elsewhere is a part of a path, not a way through it.
        if found[1] in _FROM_ELSEWHERE and ("/" in value or value in (".", "..")):
            raise ValueError(
                f"the name '{printable(value, 64)}' would lead elsewhere in the path of {place}, where %{found[1]} "
                "stands for it. If the name is right, leave the token out of that line"
            )
        return value

    return _TOKEN_OR_VARIABLE.sub(replace, expand_home(text, local, place))


def _variable(name: str, end: str, local: LocalFacts, place: str) -> str:
    value = local.environment.get(name)
    if not end or value is None:
        raise ConfigParseError(f"{place}: ${{{printable(name, 64)}{end} is not a variable that is set")
    return value


def expand_variables(text: str, local: LocalFacts, place: str) -> str:
    """Replace variables alone, as ``Include`` has them.

    Raises:
        ConfigParseError: one is not set, or ``${`` has no end.
    """
    return _VARIABLE.sub(lambda found: _variable(found[1], found[2], local, place), text)


def expand_home(text: str, local: LocalFacts, place: str) -> str:
    """Replace ``~`` and ``~user`` at the beginning of a path.

    Raises:
        ConfigParseError: there is no such user.
    """
    found = _TILDE.fullmatch(text)
    if found is None:
        return text
    if not found[1]:
        return local.home + found[2]
    home = os.path.expanduser(f"~{found[1]}")
    if home.startswith("~"):
        raise ConfigParseError(f"{place}: ~{printable(found[1], 64)} is nobody's home on this machine")
    return str(Path(home)) + found[2]


def check_for_shell(names: Names, place: str, used_in: str) -> None:
    """Refuse names that a shell would not take as they are.

    Raises:
        ValueError: a name in `used_in` begins with ``-``, or holds a character that a shell interprets.
    """
    for token, what, value in (
        ("h", "host", names.host),
        ("n", "host", names.original),
        ("k", "host", names.alias),
        ("r", "user", names.user),
        ("j", "jump host", names.jump),
    ):
        if f"%{token}" not in used_in.replace("%%", ""):
            continue
        # A user may begin with '~' nowhere, since that is not harmless; '%' and '@' are, inside of a word.
        if value.startswith("-") or not _HARMLESS.fullmatch(value):
            raise ValueError(
                f"the {what} name '{printable(value, 64)}' holds a character that a shell interprets, and a shell is "
                f"where {place} would put it. If the name is right, leave %{token} out of that line"
            )
