"""What the lines of a configuration come to for one host.

Lines are read in order and the first value counts.  A ``Match final``, or a name that was made canonical, has them read
a second time, with what is known by then.

Source: ssh_config(5); the order of steps is that of `ssh -G`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs

from trio_ssh.config.canonical import canonicalize, lower_name
from trio_ssh.config.keywords import BY_ATTRIBUTE, Expansion, Keyword, Rule
from trio_ssh.config.match import Situation, matches
from trio_ssh.config.options import SSHOptions
from trio_ssh.config.parser import HostLine, IncludeLine, Line, MatchLine, Setting, UnknownLine
from trio_ssh.config.tokens import (
    PROXY_TOKENS,
    LocalFacts,
    Names,
    check_for_shell,
    expand,
    expand_path,
)
from trio_ssh.config.values import Forwarding, JumpHost, check_host
from trio_ssh.errors import ConfigParseError
from trio_ssh.keys import patterns

DEFAULT_PORT: Final = 22
_GIVEN: Final = "given"
#: As OpenSSH's SSH_MAX_IDENTITY_FILES.
_IDENTITY_FILES: Final = 100


class Evaluation:
    """Goes through lines for one host.

    Args:
        lines: of all files, in order.
        local: this side.
        version: what this program calls itself.
        hostname: the name that is looked up.
        port, user: what was asked for beside it, which no line changes.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        *,
        local: LocalFacts,
        version: str,
        hostname: str,
        port: int | None,
        user: str | None,
    ) -> None:
        self._lines = lines
        self._local = local
        self._version = version
        self._original = check_host(hostname)
        #: What Host lines are compared with.
        self._host = hostname
        self._is_final = False
        self._wants_final = False
        self._values: dict[str, list[object]] = {}
        self._places: dict[str, str] = {}
        for attribute, value in (("port", port), ("user", user)):
            if value is not None:
                self._values[attribute] = [value]
                self._places[attribute] = _GIVEN

    async def run(self) -> SSHOptions:
        """Return what it comes to.

        Raises:
            ConfigParseError: a keyword is unknown after all, a token can't be replaced, or a command can't be run.
            CouldNotCanonicalize: no domain knows the host, and the options say not to go on.
            ValueError: no host has such a name, or a shell would interpret it where it goes to one.
        """
        await self._read(self._lines, is_active=True)
        host = lower_name(self._target())
        check_host(host)
        early = self._options(host)
        host = await canonicalize(host, early)
        if self._wants_final or early.canonicalize_hostname in ("yes", "always"):
            self._is_final = True
            self._host = host
            self._values["hostname"] = [host.replace("%", "%%")]
            self._places.setdefault("hostname", _GIVEN)
            await self._read(self._lines, is_active=True)
        return self._filled_in(self._options(host))

    # -- reading

    async def _read(self, lines: Sequence[Line], *, is_active: bool) -> None:
        # A file that is included can only narrow what its Include line is for.
        is_reached = is_active
        for line in lines:
            match line:
                case HostLine():
                    is_active = is_reached and patterns.matches_any(line.patterns, self._host)
                case MatchLine():
                    if any(criterion.attribute == "final" for criterion in line.criteria):
                        self._wants_final = True
                    is_active = is_reached and await self._matches(line)
                case IncludeLine():
                    for included in line.files:
                        await self._read(included, is_active=is_active)
                case Setting():
                    if is_active:
                        self._set(line.keyword, line.value, line.place)
                case UnknownLine():
                    ignored = self._first("ignore_unknown")
                    if ignored is None or not patterns.matches_any(str(ignored).lower().split(","), line.name.lower()):
                        raise line.error()

    async def _matches(self, line: MatchLine) -> bool:
        situation = Situation(is_final=self._is_final, tag=str(self._first("tag") or ""), version=self._version)
        return await matches(line.criteria, self._names(self._target()), situation, line.place)

    def _set(self, keyword: Keyword, value: object, place: str) -> None:
        attribute = keyword.attribute
        # Whichever of the two comes first is the way; a jump over no host is none.
        if attribute == "proxy_command" and self._first("proxy_jump"):
            return
        if attribute == "proxy_jump" and "proxy_command" in self._values:
            return
        if value is None:  # "none", which sets nothing
            return
        if keyword.clears and isinstance(value, str) and value.strip().lower() == "none":
            value = None
        found = self._values.setdefault(attribute, [])
        match keyword.rule:
            case Rule.FIRST:
                if not found and attribute not in self._places:
                    found.append(value)
            case Rule.EACH:
                if value not in found:
                    found.append(value)
                if attribute == "identity_file" and len(found) > _IDENTITY_FILES:
                    raise ConfigParseError(f"{place}: more than {_IDENTITY_FILES} IdentityFiles are for one host")
            case Rule.WORDS:
                for word in cast("tuple[str, ...]", value):
                    if word.startswith("-"):
                        found[:] = [each for each in found if not patterns.matches(word[1:], str(each))]
                    elif word not in found:
                        found.append(word)
        self._places.setdefault(attribute, place)

    # -- what is known so far

    def _first(self, attribute: str) -> Any:
        found = self._values.get(attribute)
        return found[0] if found else None

    def _target(self) -> str:
        """Return the name that is connected to, as far as it is known."""
        hostname = self._first("hostname")
        if hostname is None:
            return self._original
        return expand(hostname, {"%": "%", "h": self._original}, f"HostName ({self._places['hostname']})")

    def _names(self, host: str) -> Names:
        jumps: tuple[JumpHost, ...] = self._first("proxy_jump") or ()
        return Names(
            local=self._local,
            original=self._original,
            host=host,
            port=self._first("port") or DEFAULT_PORT,
            user=self._first("user") or self._local.user,
            alias=self._first("host_key_alias") or host,
            jump=jumps[-1].host if jumps else "",
        )

    def _options(self, host: str) -> SSHOptions:
        """Return what was said, with nothing filled in but the host's name."""
        values: dict[str, Any] = {}
        for attribute, found in self._values.items():
            if BY_ATTRIBUTE[attribute].rule is Rule.FIRST:
                values[attribute] = found[0] if found else None
            else:
                values[attribute] = tuple(found)
        values["hostname"] = host
        return SSHOptions(
            original_hostname=self._original,
            local_user=self._local.user,
            places={BY_ATTRIBUTE[attribute].name.lower(): place for attribute, place in self._places.items()},
            **values,
        )

    # -- filling in

    def _filled_in(self, options: SSHOptions) -> SSHOptions:
        names = self._names(options.hostname)
        tokens = names.tokens()
        proxy_tokens = {"%": "%"} | {token: tokens[token] for token in PROXY_TOKENS}
        changes: dict[str, Any] = {}
        for attribute in self._values:
            value = getattr(options, attribute)
            place = options.place(attribute)
            match BY_ATTRIBUTE[attribute].expansion:
                case _ if value is None:
                    pass
                case Expansion.PATH:
                    changes[attribute] = self._path(attribute, value, tokens, place)
                case Expansion.FORWARDING:
                    changes[attribute] = tuple(self._forwarding(each, tokens, place) for each in value)
                case Expansion.PROXY:
                    changes[attribute] = tuple(_jump(each, proxy_tokens, place) for each in value)
                case Expansion.SHELL:
                    check_for_shell(names, place, value)
                    changes[attribute] = expand(value, proxy_tokens, place)
                case Expansion.REMOTE_SHELL:
                    check_for_shell(names, place, value)
                    changes[attribute] = expand(value, tokens, place)
                case _:
                    pass
        filled = attrs.evolve(options, **changes)
        _check_jump(filled, names)
        return filled

    def _path(
        self, attribute: str, value: str | tuple[str, ...], tokens: Mapping[str, str], place: str
    ) -> str | tuple[str, ...]:
        if isinstance(value, tuple):
            return tuple(expand_path(each, tokens, self._local, place) for each in value)
        if attribute == "identity_agent" and (value == "SSH_AUTH_SOCK" or value.startswith("$")):
            return value  # the name of a variable, which whoever connects looks up
        return expand_path(value, tokens, self._local, place)

    def _forwarding(self, forwarding: Forwarding, tokens: Mapping[str, str], place: str) -> Forwarding:
        listen = forwarding.listen
        if listen.path is not None:
            listen = attrs.evolve(listen, path=expand_path(listen.path, tokens, self._local, place))
        elif listen.host is not None:
            listen = attrs.evolve(listen, host=expand(listen.host, tokens, place))
        if forwarding.path is not None:
            return attrs.evolve(
                forwarding, listen=listen, path=expand_path(forwarding.path, tokens, self._local, place)
            )
        if forwarding.host is None:
            return attrs.evolve(forwarding, listen=listen)
        return attrs.evolve(forwarding, listen=listen, host=expand(forwarding.host, tokens, place))


def _jump(jump: JumpHost, tokens: Mapping[str, str], place: str) -> JumpHost:
    host = expand(jump.host, tokens, place)
    return attrs.evolve(
        jump, host=check_host(host), user=None if jump.user is None else expand(jump.user, tokens, place)
    )


def _check_jump(options: SSHOptions, names: Names) -> None:
    """Refuse a way to a host through itself, as ssh does."""
    for jump in options.proxy_jump[-1:] if options.proxy_jump else ():
        is_same_port = (jump.port or DEFAULT_PORT) == names.port
        if jump.host == options.hostname and is_same_port and jump.user in (None, names.user):
            raise ConfigParseError(
                f"{options.place('proxy_jump')}: the way to {names.original} leads through itself. "
                f"Put it into a block that is not for that host, such as `Host * !{names.original}`"
            )
