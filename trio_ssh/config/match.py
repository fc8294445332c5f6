"""``Match`` lines: what they ask, and whether it is so.

Source: ssh_config(5), Match.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_ssh.config.tokens import Names, check_for_shell, expand
from trio_ssh.errors import ConfigParseError
from trio_ssh.keys import patterns
from trio_ssh.wire.text import printable

#: What a command of ``Match exec`` may take.
EXEC_SECONDS: Final = 30.0

_BARE: Final = frozenset({"all", "canonical", "final"})
_WITH_PATTERNS: Final = frozenset(
    {"host", "originalhost", "user", "localuser", "tagged", "version", "sessiontype", "command"}
)
_ATTRIBUTES: Final = (*sorted(_BARE), *sorted(_WITH_PATTERNS | {"exec", "localnetwork"}))


@attrs.frozen
class Criterion:
    """One thing that a ``Match`` line asks.

    Attributes:
        attribute: in lower case, such as ``"host"``.
        argument: patterns, a command or networks; empty where there is none to give.
        is_negated: it must not be so.
    """

    attribute: str
    argument: str = ""
    is_negated: bool = False


@attrs.frozen(kw_only=True)
class Situation:
    """What criteria are compared with, besides names.

    Attributes:
        is_final: the configuration is read a second time.
        tag: ``Tag``, as far as it was read.
        version: what this program calls itself.
    """

    is_final: bool
    tag: str
    version: str


def parse_criteria(words: Sequence[str]) -> tuple[Criterion, ...]:
    """Read the words of a ``Match`` line.

    Raises:
        ValueError: one is unknown, or lacks its argument, or must not stand where it does.
    """
    found: list[Criterion] = []
    left = list(words)
    while left:
        word = left.pop(0)
        attribute, equals, argument = word.removeprefix("!").partition("=")
        attribute = attribute.lower()
        is_negated = word.startswith("!")
        if attribute in _BARE:
            if equals or (attribute == "all" and (left or any(each.attribute not in _BARE for each in found))):
                raise ValueError(f"'{printable(word, 64)}' stands alone, or behind canonical or final")
            found.append(Criterion(attribute, "", is_negated))
            continue
        if attribute not in _ATTRIBUTES:
            raise ValueError(f"'{printable(word, 64)}' can't be matched; there are: {', '.join(_ATTRIBUTES)}")
        if not equals:
            if left[:1] == ["="]:
                left.pop(0)
            argument = left.pop(0) if left else ""
        if not argument and attribute not in ("tagged", "command"):
            raise ValueError(f"'{attribute}' needs something to compare with")
        if attribute == "localnetwork":
            _networks(argument)
        found.append(Criterion(attribute, argument, is_negated))
    if not found:
        raise ValueError(f"there is nothing to match; there are: {', '.join(_ATTRIBUTES)}")
    return tuple(found)


async def matches(criteria: Sequence[Criterion], names: Names, situation: Situation, place: str) -> bool:
    """Tell whether all criteria hold.  They are tried in order, so that no command runs behind one that doesn't.

    Raises:
        ConfigParseError: a command can't be run, or does not end.
        ValueError: a shell would interpret a name that a command wants.
    """
    for criterion in criteria:
        if await _holds(criterion, names, situation, place) == criterion.is_negated:
            return False
    return True


async def _holds(criterion: Criterion, names: Names, situation: Situation, place: str) -> bool:
    argument = criterion.argument
    match criterion.attribute:
        case "all":
            return True
        case "canonical" | "final":
            return situation.is_final
        case "host":
            return _any_host(argument, names.host)
        case "originalhost":
            return _any_host(argument, names.original)
        case "user":
            return patterns.matches_any(argument.split(","), names.user)
        case "localuser":
            return patterns.matches_any(argument.split(","), names.local.user)
        case "tagged":
            return patterns.matches_any(argument.split(","), situation.tag)
        case "version":
            return patterns.matches_any(argument.split(","), situation.version)
        case "sessiontype":
            return patterns.matches_any(argument.split(","), "exec")
        case "command":
            return patterns.matches_any(argument.split(","), "")
        case "localnetwork":
            return _is_local(argument)
        case _:
            return await _succeeds(argument, names, place)


def _any_host(argument: str, host: str) -> bool:
    return patterns.matches_any(argument.lower().split(","), host.lower())


def shell(names: Names) -> str:
    """Return the user's shell."""
    return names.local.environment.get("SHELL") or "/bin/sh"


async def _kill_group(process: trio.Process) -> None:
    """End a command with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await trio.lowlevel.checkpoint()


async def _succeeds(command: str, names: Names, place: str) -> bool:
    place = f"Match exec ({place})"
    check_for_shell(names, place, command)
    line = expand(command, names.tokens(), place)
    try:
        with trio.move_on_after(EXEC_SECONDS):
            done = await trio.run_process(
                [shell(names), "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=False,
                start_new_session=True,
                deliver_cancel=_kill_group,
            )
            if done.returncode < 0:
                # A guard that crashed has not said no.
                raise ConfigParseError(f"{place}: the command was ended by the signal {-done.returncode}")
            return done.returncode == 0
    except OSError as error:
        raise ConfigParseError(f"{place}: {shell(names)} can't be run: {error.strerror or error}") from error
    raise ConfigParseError(f"{place}: the command did not end within {EXEC_SECONDS:g} seconds: it was killed")


# -- networks

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(argument: str) -> list[tuple[_Network, bool]]:
    """Read a list of networks, each perhaps behind ``!``."""
    found: list[tuple[_Network, bool]] = []
    for word in argument.split(","):
        try:
            found.append((ipaddress.ip_network(word.removeprefix("!")), word.startswith("!")))
        except ValueError as error:
            raise ValueError(f"'{printable(word, 64)}' is not a network, such as 192.0.2.0/24: {error}") from None
    return found


def _is_local(argument: str) -> bool:
    addresses = list(local_addresses())
    is_in = False
    for network, is_negated in _networks(argument):
        if any(address in network for address in addresses):
            if is_negated:
                return False
            is_in = True
    return is_in


def local_addresses() -> Iterator[_Address]:
    """Iterate over this machine's addresses, loopback left out; on Linux only, elsewhere there are none."""
    if sys.platform != "linux":
        return
    import fcntl  # noqa: PLC0415 -- it is not everywhere

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
            except OSError:
                continue  # no IPv4 address
            address = ipaddress.IPv4Address(answer[20:24])
            if not address.is_loopback:
                yield address
    try:
        lines = Path("/proc/net/if_inet6").read_text("ascii").splitlines()  # a list of the kernel's, in memory
    except OSError:
        return
    for line in lines:
        address6 = ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))
        if not address6.is_loopback:
            yield address6
