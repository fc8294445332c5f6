"""What a configuration makes of a connection: values for the arguments of `connect` that were not given."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from trio_ssh.config.options import SSHOptions
from trio_ssh.config.ssh_config import ConfigSource, SSHConfig
from trio_ssh.config.values import AlgorithmList
from trio_ssh.core.limits import Limits
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import ConfigParseError
from trio_ssh.keys import patterns
from trio_ssh.keys.certification import certificate_name, plain_algorithm
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.runtime.security_options import AlgorithmNames, Security, checked_algorithms, known_keys
from trio_ssh.wire.text import printable

Config = SSHConfig | ConfigSource | str | Path

#: What ssh enables of keys by default: certificates, and then bare keys.
_HOST_KEYS: Final = (*map(certificate_name, defaults.HOST_KEYS), *defaults.HOST_KEYS)
#: In the order in which a client of ours tries them.
_METHODS: Final = ("publickey", "keyboard-interactive", "password")
#: In front of them, where somebody asks for them.
_WHEN_GIVEN: Final = ("gssapi-keyex", "gssapi-with-mic", "hostbased")


async def read_config(config: Config | None) -> SSHConfig | None:
    """Return the configuration that is meant; None for none.

    Raises:
        OSError, ConfigParseError: it can't be read, or has a mistake.
    """
    match config:
        case None | SSHConfig():
            return config
        case ConfigSource():
            return await SSHConfig.load_default()
        case _:
            return await SSHConfig.from_path(config)


@attrs.frozen(kw_only=True)
class Applied:
    """Values for arguments of `connect`; None where nothing was said.

    Attributes:
        kex, host_key_algorithms, ciphers, macs: what to enable, best first; of host keys, with the certificates'.
        keeps_host_key_order: a kind of key that is on record is not asked for first.
        compress, keepalive, identities_only: as in `connect`.
        allow_agent: as in `connect`.
        key_files: keys to look for, in the place of those in ``~/.ssh``.
        certificate_files: certificates of these keys, or of the agent's.
        keepalive_count: signs of life that may be wanting.
        methods: how to log in, in this order; nothing else is tried.
        method_notes: why some methods are not among them, and some keys not tried.
        binds_to_host: users' signatures name the host's key, where the server can check that.
        pubkeys: what changes the algorithms of users' signatures.
        accepts_algorithm: whether a key may sign by this algorithm.
        smallest_rsa_bits: below which RSA keys are neither believed nor tried; 0 for the usual.
        connect_timeout: seconds for a connection, and again for the first key exchange.
        environment: variables for sessions.
    """

    kex: Sequence[str] | None = None
    host_key_algorithms: Sequence[str] | None = None
    keeps_host_key_order: bool = False
    ciphers: Sequence[str] | None = None
    macs: Sequence[str] | None = None
    compress: bool = False
    keepalive: float = 0
    identities_only: bool = False
    allow_agent: bool | str = True
    key_files: Sequence[str] | None = None
    certificate_files: Sequence[str] = ()
    keepalive_count: int = 3
    methods: Sequence[str] | None = None
    method_notes: Sequence[str] = ()
    binds_to_host: bool = True
    pubkeys: AlgorithmList | None = None
    accepts_algorithm: Callable[[str], bool] | None = None
    smallest_rsa_bits: int = 0
    connect_timeout: float = math.inf
    environment: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)


def apply(options: SSHOptions | None) -> Applied:
    """Return what the options make of a connection.

    Raises:
        ConfigParseError: all algorithms of some kind that they name are unknown here; or they refuse the host.
    """
    if options is None:
        return Applied()
    if options.refuse_connection is not None:
        raise ConfigParseError(f"{options.place('refuse_connection')}: {printable(options.refuse_connection, 1024)}")
    methods, notes = _methods(options)
    host_keys = options.host_key_algorithms
    return Applied(
        kex=_algorithms(options, "kex_algorithms", defaults.KEX, KEX.names()),
        host_key_algorithms=_algorithms(
            options,
            "host_key_algorithms",
            _HOST_KEYS,
            known_keys(),
        ),
        keeps_host_key_order=host_keys is not None and host_keys.sign in ("", "^"),
        ciphers=_algorithms(options, "ciphers", defaults.CIPHERS, CIPHERS.names()),
        macs=_algorithms(options, "macs", defaults.MACS, MACS.names()),
        compress=bool(options.compression),
        keepalive=options.server_alive_interval or 0,
        identities_only=bool(options.identities_only),
        allow_agent=_agent(options),
        key_files=_key_files(options),
        certificate_files=[path for path in options.certificate_file if path.lower() != "none"],
        keepalive_count=3 if options.server_alive_count_max is None else options.server_alive_count_max,
        methods=methods,
        method_notes=[*notes, *_key_notes(options)],
        binds_to_host=options.pubkey_authentication != "unbound",
        pubkeys=options.pubkey_accepted_algorithms,
        accepts_algorithm=_accepted(options.pubkey_accepted_algorithms),
        smallest_rsa_bits=options.required_rsa_size or 0,
        connect_timeout=options.connect_timeout or math.inf,
        environment=_environment(options),
    )


def apply_limits(options: SSHOptions | None, limits: Limits) -> Limits:
    """Return `limits`, with ``RekeyLimit`` in its place."""
    wanted = options.rekey_limit if options is not None else None
    if wanted is None:
        return limits
    return attrs.evolve(
        limits,
        rekey_bytes=wanted.data_bytes or limits.rekey_bytes,
        rekey_seconds=float(wanted.seconds) or limits.rekey_seconds,
    )


def _algorithms(
    options: SSHOptions, attribute: str, default: Sequence[str], known: Sequence[str]
) -> tuple[str, ...] | None:
    wanted: AlgorithmList | None = getattr(options, attribute)
    if wanted is None:
        return None
    found = _apply(wanted, default, known)
    if not found:
        raise ConfigParseError(
            f"{options.place(attribute)}: nothing is left of '{wanted}' that is known here. Known are: "
            f"{', '.join(known)}"
        )
    return found


def _apply(wanted: AlgorithmList, default: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    # What only OpenSSH knows is left out: a list that was written for it should not have to be written anew.  A pattern
    # stands for what is sound; what is not, somebody has to name.
    return wanted.apply(default, [name for name in known if name in default or name in wanted.names])


def _accepted(wanted: AlgorithmList | None) -> Callable[[str], bool] | None:
    if wanted is None or wanted.sign in ("+", "^"):
        return None

    def accepts(algorithm: str) -> bool:
        return any(patterns.matches(name, algorithm) for name in wanted.names) != (wanted.sign == "-")

    return accepts


def _agent(options: SSHOptions) -> bool | str:
    """Return where the agent is: True for where it always is, False for none."""
    path = options.identity_agent
    if path is None or path == "SSH_AUTH_SOCK":
        return True
    if path.lower() == "none":
        return False
    if path.startswith("$"):
        return os.environ.get(path[1:].strip("{}"), "") or False
    return path


def _key_files(options: SSHOptions) -> tuple[str, ...] | None:
    if not options.identity_file:
        return None
    return tuple(path for path in options.identity_file if path.lower() != "none")


def _methods(options: SSHOptions) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the methods in the order in which they are tried, and why others are not; None for all, as they come."""
    is_off = {
        "publickey": (options.pubkey_authentication == "no", "pubkey_authentication"),
        "password": (options.password_authentication is False, "password_authentication"),
        "keyboard-interactive": (options.kbd_interactive_authentication is False, "kbd_interactive_authentication"),
    }
    preferred = options.preferred_authentications
    if preferred is None and not any(off for off, _ in is_off.values()):
        return None, ()
    notes: list[str] = []
    allowed: list[str] = []
    for method in preferred if preferred is not None else (*_WHEN_GIVEN, *_METHODS):
        off, attribute = is_off.get(method, (False, ""))
        if off:
            notes.append(f"{method} was not tried: {options.place(attribute)} turns it off")
        else:
            allowed.append(method)
    if preferred is not None:
        place = options.place("preferred_authentications")
        notes += [f"{method} was not tried: {place} leaves it out" for method in _METHODS if method not in preferred]
    return tuple(allowed), tuple(notes)


def _key_notes(options: SSHOptions) -> list[str]:
    wanted = options.pubkey_accepted_algorithms
    if _accepted(wanted) is None:
        return []
    return [f"keys were tried only with what {options.place('pubkey_accepted_algorithms')} accepts, '{wanted}'"]


def _environment(options: SSHOptions) -> dict[str, str]:
    """Return the variables that ``SendEnv`` takes from ours, and those of ``SetEnv``."""
    wanted = options.send_env
    found = {name: value for name, value in sorted(os.environ.items()) if wanted and patterns.matches_any(wanted, name)}
    return found | dict(options.set_env or ())


def choose_algorithms(
    applied: Applied,
    security: Security | None,
    compress: bool | None,
    kex: AlgorithmNames | None,
    host_key_algorithms: AlgorithmNames | None,
    ciphers: AlgorithmNames | None,
    macs: AlgorithmNames | None,
    compressions: AlgorithmNames | None,
) -> Algorithms:
    """Return what to enable: what was given, or else configured, or else the default.

    Who gives `security` has said what they want of every kind: the configuration's lists don't count then.
    """
    if compressions is None and (applied.compress if compress is None else compress):
        compressions = ("zlib@openssh.com", "none")
    if security is not None:
        applied = Applied()
    algorithms = checked_algorithms(
        Role.CLIENT,
        security,
        kex=kex if kex is not None else applied.kex,
        host_key_algorithms=host_key_algorithms if host_key_algorithms is not None else applied.host_key_algorithms,
        ciphers=ciphers if ciphers is not None else applied.ciphers,
        macs=macs if macs is not None else applied.macs,
        compressions=compressions,
    )
    # ssh's lists name certificates one by one, and so do those that are written for it.
    if host_key_algorithms is None and applied.host_key_algorithms is not None:
        algorithms = attrs.evolve(algorithms, names_certificates=algorithms.names_certificates | {"host_keys"})
    if applied.pubkeys is not None:
        # Nothing may be left of these: then no key is tried, and the error says why.
        algorithms = attrs.evolve(
            algorithms,
            pubkeys=_apply(applied.pubkeys, algorithms.every_pubkey, known_keys()),
            names_certificates=algorithms.names_certificates | {"pubkeys"},
        )
    return algorithms


def order_host_keys(algorithms: Algorithms, known: HostKeys, name: str, *, keeps_order: bool) -> Algorithms:
    """Ask first for what is on record of a host: a certificate, or a key of a kind that is."""
    ordered = algorithms if keeps_order else _prefer_known(algorithms, known, name)
    return _offer_certificates(ordered, known, name)


def _offer_certificates(algorithms: Algorithms, known: HostKeys, name: str) -> Algorithms:
    """Ask first for a certificate, of what is enabled, where an authority may certify the host.

    A list that names certificates, or names none, stays as it is.
    """
    if "host_keys" in algorithms.names_certificates or not known.authorities(name):
        return algorithms
    sound = [each for each in algorithms.host_keys if each not in defaults.INSECURE]
    return attrs.evolve(algorithms, host_keys=(*map(certificate_name, sound), *algorithms.host_keys))


def _prefer_known(algorithms: Algorithms, known: HostKeys, name: str) -> Algorithms:
    """Ask first for a host key of a kind that is on record: else a server with several shows one that looks unknown."""
    types = known.key_types(name)
    # Where an authority certifies the host, any kind may be the right one: ssh leaves the order, too.
    if not types or ("host_keys" in algorithms.names_certificates and known.authorities(name)):
        return algorithms

    def is_unknown(algorithm: str) -> bool:
        plain = plain_algorithm(algorithm)
        return ("ssh-rsa" if plain in ("rsa-sha2-256", "rsa-sha2-512") else plain) not in types

    return attrs.evolve(algorithms, host_keys=tuple(sorted(algorithms.host_keys, key=is_unknown)))
