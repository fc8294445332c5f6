"""What the real ``ssh -G`` says of a configuration, and what ours says, in one form."""

from __future__ import annotations

import functools
import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from trio_ssh.config import SSHOptions
from trio_ssh.config.keywords import BY_ATTRIBUTE, Rule
from trio_ssh.config.values import AlgorithmList

HOME: Final = pwd.getpwuid(os.getuid()).pw_dir

#: What `ssh -Q` is asked for each list of algorithms.
QUERIES: Final = {
    "ciphers": "cipher",
    "macs": "mac",
    "kexalgorithms": "kex",
    "hostkeyalgorithms": "HostKeyAlgorithms",
    "pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms",
    "hostbasedacceptedalgorithms": "HostbasedAcceptedAlgorithms",
    "casignaturealgorithms": "sig",
}

#: What only newer ones say, and what is said of the host alone.
NOT_COMPARED: Final = {"host", "ignoreunknown", "tag", "channeltimeout"}

Said = dict[str, tuple[str, ...]]


class Refused(Exception):
    """Ssh does not take the configuration."""


def run(*arguments: str) -> str:
    done = subprocess.run(["ssh", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


def ssh_says(path: Path, arguments: Sequence[str]) -> Said:
    """Ask ssh: keyword -> values."""
    found: dict[str, tuple[str, ...]] = {}
    for line in run("-G", "-F", str(path), *arguments).splitlines():
        keyword, _, value = line.partition(" ")
        keyword = keyword.lower()
        found[keyword] = (*found.get(keyword, ()), normal(keyword, value))
    return {keyword: each for keyword, each in found.items() if keyword not in NOT_COMPARED}


def normal(keyword: str, value: str) -> str:
    """Bring a value to the form that ours have."""
    value = {"true": "yes", "false": "no"}.get(value, value)
    if value.startswith("~/"):
        value = HOME + value[1:]
    if keyword in ("fingerprinthash", "syslogfacility"):
        return value.lower()
    if keyword == "loglevel":
        return {"DEBUG": "DEBUG1", "SILENT": "QUIET"}.get(value, value)
    return value.replace("\\^", "^") if keyword == "escapechar" else value


#: What ssh concludes from other keywords: the conclusion, and whether it is drawn.
CONCLUDED: Final = {
    "updatehostkeys": ("userknownhostsfile", "verifyhostkeydns"),
    "serveraliveinterval": ("batchmode",),  # by Debian
    "dynamicforward": ("localforward",),  # ssh 9.2 shows LocalForward from a UNIX socket as this, too
}


def without_conclusions(said: Said, texts: Mapping[str, object]) -> Said:
    """Leave out what ssh says because of something else that was said."""
    return {
        keyword: value
        for keyword, value in said.items()
        if keyword in texts or not any(other in texts for other in CONCLUDED.get(keyword, ()))
    }


@functools.cache
def default(host: str) -> Said:
    """What ssh says of a host that no configuration tells of."""
    return ssh_says(Path("none"), [host])


@functools.cache
def algorithms(query: str) -> tuple[str, ...]:
    return tuple(run("-Q", query).split())


def we_say(options: SSHOptions) -> Said:
    """Show our answer in the form of ssh's, its defaults in the place of what nothing was said of."""
    found = dict(default(options.original_hostname))
    texts = options.as_dict()
    texts.setdefault("user", options.local_user)
    for keyword, text in texts.items():
        if keyword in NOT_COMPARED:
            continue
        found[keyword] = tuple(text) if isinstance(text, list) else (normal(keyword, text),)
    for attribute, keyword in BY_ATTRIBUTE.items():
        value = getattr(options, attribute)
        name = keyword.name.lower()
        if isinstance(value, AlgorithmList):
            applied = value.apply(found_default(name, options), algorithms(QUERIES[name]))
            found[name] = (",".join(applied),)
        elif attribute == "set_env" and value:
            found[name] = tuple(f"{variable}={text}" for variable, text in value)
        elif attribute == "stream_local_bind_mask" and value is not None:
            found[name] = (f"0{value:o}",)
        elif attribute == "proxy_jump" and value == ():
            found.pop(name, None)
        elif keyword.rule is Rule.EACH and attribute == "remote_forward" and value:
            found[name] = tuple(f"{each} [socks]:0" if each.host is each.path is None else str(each) for each in value)
    return found


def found_default(name: str, options: SSHOptions) -> tuple[str, ...]:
    return tuple(default(options.original_hostname)[name][0].split(","))
