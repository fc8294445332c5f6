"""Which algorithms are enabled: profiles, and paramiko's `SecurityOptions`, whose settings check what is assigned."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.compression import COMPRESSIONS
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import LocalProtocolError
from trio_ssh.keys import patterns
from trio_ssh.keys.certification import certificate_name, is_certificate_algorithm, plain_algorithm
from trio_ssh.keys.signer import Signer
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.transport")

SecurityProfile = Literal["modern", "compatible", "legacy", "fips"]
"""A choice among all algorithms, by name."""

AlgorithmNames = str | Sequence[str]
"""Names, best first; or one text as in ssh_config: ``"a,b"``, ``"+a"``, ``"-a*"``, ``"^a"``."""


def known_keys() -> tuple[str, ...]:
    """Return what keys may sign by, and certificates by those that are not broken."""
    plain = (*defaults.HOST_KEYS, *defaults.HOST_KEYS_BY_NAME)
    return (*plain, *(certificate_name(name) for name in plain if name not in defaults.INSECURE))


@attrs.frozen
class _Kind:
    """One kind of algorithm: how messages call it, its field of `Algorithms`, and what there is."""

    title: str
    plural: str
    field: str
    known: Callable[[], tuple[str, ...]]


_KEX: Final = _Kind("key exchange", "key exchange methods", "kex", KEX.names)
_HOST_KEYS: Final = _Kind("host key", "host key algorithms", "host_keys", known_keys)
_PUBKEYS: Final = _Kind("user key", "public key algorithms", "pubkeys", known_keys)
_CIPHERS: Final = _Kind("cipher", "ciphers", "ciphers", CIPHERS.names)
_MACS: Final = _Kind("MAC", "MACs", "macs", MACS.names)
_COMPRESSIONS: Final = _Kind("compression", "compression methods", "compressions", COMPRESSIONS.names)
_KINDS: Final = (_KEX, _HOST_KEYS, _PUBKEYS, _CIPHERS, _MACS, _COMPRESSIONS)

_RSA_SHA2: Final = frozenset(("rsa-sha2-256", "rsa-sha2-512"))

#: paramiko's names of the kinds in ``disabled_algorithms``.
_DISABLED: Final = {
    "kex": _KEX,
    "keys": _HOST_KEYS,
    "pubkeys": _PUBKEYS,
    "ciphers": _CIPHERS,
    "macs": _MACS,
    "compression": _COMPRESSIONS,
}

DisabledAlgorithms = Mapping[str, Collection[str]]
"""What to take away, as paramiko has it: names by ``"kex"``, ``"keys"``, ``"pubkeys"``, ``"ciphers"``, ``"macs"`` and
``"compression"``."""


def _refuse_unknown(kind: _Kind, names: Sequence[str]) -> None:
    known = kind.known()
    unknown = [name for name in names if name not in known]
    if unknown:
        hints = "".join(f" Did you mean {near}?" for name in unknown if (near := _nearest(name, known)))
        shown = printable(", ".join(unknown), 256)
        raise ValueError(f"unknown {kind.plural}: {shown}.{hints} Known are: {', '.join(known)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    """Return the known name that looks like `name`, or an empty text."""
    import difflib  # noqa: PLC0415  (only who errs needs it)

    # What is left out most is the part behind the at sign.
    whole = [other for other in known if other.partition("@")[0] == name]
    return next(iter(whole or difflib.get_close_matches(name, known, 1)), "")


def _parsed(kind: _Kind, wanted: AlgorithmNames) -> tuple[str, list[str]]:
    """Return the sign, or nothing, and the names."""
    if isinstance(wanted, str):
        sign = wanted[:1] if wanted[:1] in ("+", "-", "^") else ""
        return sign, [name.strip() for name in wanted[len(sign) :].split(",") if name.strip()]
    if all(isinstance(name, str) for name in wanted):
        return "", list(wanted)
    raise TypeError(f"{kind.plural} are names: a sequence of str, or one str as in ssh_config")


def _changed(kind: _Kind, sign: str, names: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    """Return `present` as a sign and names would have it.

    Raises:
        ValueError: a name is unknown, or none is left.
    """
    if sign == "-":
        _refuse_unknown(kind, [name for name in names if "*" not in name and "?" not in name])
        chosen: Iterable[str] = (name for name in present if not any(patterns.matches(each, name) for each in names))
    else:
        _refuse_unknown(kind, names)
        chosen = {"": names, "+": [*present, *names], "^": [*names, *present]}[sign]
    kept = tuple(dict.fromkeys(chosen))
    if not kept:
        raise ValueError(f"no {kind.plural}: at least one must stay enabled. Known are: {', '.join(kind.known())}")
    return kept


def _for_users(present: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Return algorithms for users' keys, where `named` are to be a host's: what is named is named for both."""
    named = [plain_algorithm(name) for name in named]
    # Who names SHA-1 and not SHA-2 means it: OpenSSH announces SHA-2 even where it is told not to take it.
    left_out = _RSA_SHA2.difference(named) if "ssh-rsa" in named else frozenset[str]()
    return tuple(name for name in dict.fromkeys((*present, *named)) if name not in left_out)


def _speaks_of_certificates(sign: str, names: Iterable[str], present: Iterable[str]) -> bool:
    """Whether a change of `present`, which names none, is about the algorithms of certificates."""
    if sign == "-":
        return any(patterns.matches(each, certificate_name(name)) for each in names for name in present)
    return any(map(is_certificate_algorithm, names))


def _of_offer(offer: defaults.Offer) -> Algorithms:
    return Algorithms(
        kex=offer.kex,
        host_keys=offer.host_keys,
        ciphers=offer.ciphers,
        macs=offer.macs,
        compressions=offer.compressions,
    )


class SecurityOptions:
    """What a connection enables, best first: a profile, and what is changed of it.

        SecurityOptions("compatible", ciphers="-aes*-ctr", disabled_algorithms={"macs": ["hmac-sha2-256"]})

    A client and a server of one profile may offer different things; see `describe`.  The settings may be assigned as
    well, which checks them.  Each takes names, best first, or a text as ssh_config has it: ``"a,b"`` in the place of
    what there was, ``"+a,b"`` behind it, ``"^a,b"`` in front of it, and ``"-a,b*"`` to take away.

    The name of a key's algorithm stands for its certificates' as well, unless such are spoken of: in a list that names
    one, only those that it names are enabled, and ``"-*-cert-*"`` leaves none.

    Args:
        profile: ``"modern"``, ``"compatible"``, ``"legacy"``, or ``"fips"``.
        kex, host_key_algorithms, ciphers, macs, compressions: of a kind.
        pubkey_algorithms: of users' signatures, to which `host_key_algorithms` adds what the profile doesn't have.
        disabled_algorithms: paramiko's: names to take away; see `disable`.

    Raises:
        ValueError: a name is unknown, or none is left of a kind; the text lists the known ones.
    """

    def __init__(
        self,
        profile: SecurityProfile | Algorithms = "modern",
        *,
        kex: AlgorithmNames | None = None,
        host_key_algorithms: AlgorithmNames | None = None,
        pubkey_algorithms: AlgorithmNames | None = None,
        ciphers: AlgorithmNames | None = None,
        macs: AlgorithmNames | None = None,
        compressions: AlgorithmNames | None = None,
        disabled_algorithms: DisabledAlgorithms | None = None,
    ) -> None:
        #: The one that everything began with; None where the algorithms were given.
        self.profile: str | None = None
        if isinstance(profile, Algorithms):
            self._of: dict[Role, Algorithms] = dict.fromkeys(Role, profile)
        else:
            chosen = defaults.PROFILES.get(profile)
            if chosen is None:
                raise ValueError(f"no profile is called {profile!r}; there are: {', '.join(defaults.PROFILES)}")
            self.profile = chosen.name
            self._of = {Role.CLIENT: _of_offer(chosen.client), Role.SERVER: _of_offer(chosen.server)}
        for kind, wanted in zip(
            _KINDS, (kex, host_key_algorithms, pubkey_algorithms, ciphers, macs, compressions), strict=True
        ):
            if wanted is not None:
                self._set(kind, wanted)
        if disabled_algorithms:
            self.disable(disabled_algorithms)

    def __repr__(self) -> str:
        return f"<SecurityOptions {self.profile or ''} {self.algorithms!r}>"

    @property
    def algorithms(self) -> Algorithms:
        """What a client enables."""
        return self._of[Role.CLIENT]

    def for_role(self, role: Role) -> Algorithms:
        """Return what a client, or a server, enables."""
        return self._of[role]

    def copy(self) -> SecurityOptions:
        """Return the same, to be changed apart."""
        made = SecurityOptions()
        made.profile, made._of = self.profile, dict(self._of)
        return made

    def _set(self, kind: _Kind, wanted: AlgorithmNames) -> None:
        sign, names = _parsed(kind, wanted)
        changed = {}
        for role, algorithms in self._of.items():
            present = getattr(algorithms, kind.field)
            naming = algorithms.names_certificates
            if kind in (_HOST_KEYS, _PUBKEYS) and (not sign or kind.field not in naming):
                naming -= {kind.field}
                if _speaks_of_certificates(sign, names, present):
                    naming |= {kind.field}
                    present = (*filter(is_certificate_algorithm, map(certificate_name, present)), *present)
            chosen = _changed(kind, sign, names, present)
            changes: dict[str, Any] = {kind.field: chosen, "names_certificates": naming}
            if kind is _HOST_KEYS:
                changes["pubkeys"] = _for_users(algorithms.pubkeys, chosen)
            changed[role] = attrs.evolve(algorithms, **changes)
        self._of = changed  # all of it, or nothing

    def disable(self, names: DisabledAlgorithms) -> None:
        """Take algorithms away, as paramiko's ``disabled_algorithms`` does.  A name that is unknown is only logged.

        Args:
            names: by ``"kex"``, ``"keys"``, ``"pubkeys"``, ``"ciphers"``, ``"macs"`` and ``"compression"``.  Who
                disables a key's algorithm disables its certificates' too.

        Raises:
            ValueError: a kind is unknown, or none is left of one.
        """
        for title, disabled in names.items():
            kind = _DISABLED.get(title)
            if kind is None:
                raise ValueError(f"disabled_algorithms has no {title!r}; there are: {', '.join(_DISABLED)}")
            if isinstance(disabled, str):
                raise TypeError(f"disabled_algorithms[{title!r}] is a list of names, not one str")
            known = kind.known()
            for name in disabled:
                if name not in known:
                    _log.warning("disabled_algorithms[%r]: %s is unknown", title, printable(name, 64))
            found = [name for name in disabled if name in known]
            if any(kind.field in each.names_certificates for each in self._of.values()) or any(
                map(is_certificate_algorithm, found)
            ):
                found += [certificate_name(name) for name in found if certificate_name(name) in known]
            if found:
                self._set(kind, "-" + ",".join(found))

    def describe(self, role: Literal["client", "server"] = "client") -> str:
        """Return a table of what is enabled: kind, algorithm, and what there is to say of it."""
        algorithms = self._of[Role(role)]
        rows = [("kind", "algorithm", "")]
        for kind in _KINDS:
            if kind is _PUBKEYS and algorithms.pubkeys == algorithms.host_keys:
                continue
            rows.extend((kind.title, name, remark(name)) for name in getattr(algorithms, kind.field))
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}".rstrip() for row in rows)

    @property
    def kex(self) -> Sequence[str]:
        """Key exchange methods."""
        return self.algorithms.kex

    @kex.setter
    def kex(self, names: AlgorithmNames) -> None:
        self._set(_KEX, names)

    @property
    def key_types(self) -> Sequence[str]:
        """Algorithms of host keys, and of users' signatures.  What is broken, such as SHA-1, must be named here."""
        return self.algorithms.host_keys

    @key_types.setter
    def key_types(self, names: AlgorithmNames) -> None:
        self._set(_HOST_KEYS, names)

    @property
    def pubkeys(self) -> Sequence[str]:
        """Algorithms of users' signatures; what `key_types` names beyond the profile is among them."""
        return self.algorithms.pubkeys

    @pubkeys.setter
    def pubkeys(self, names: AlgorithmNames) -> None:
        self._set(_PUBKEYS, names)

    @property
    def ciphers(self) -> Sequence[str]:
        """Ciphers, for both directions."""
        return self.algorithms.ciphers

    @ciphers.setter
    def ciphers(self, names: AlgorithmNames) -> None:
        self._set(_CIPHERS, names)

    @property
    def digests(self) -> Sequence[str]:
        """MACs, for both directions."""
        return self.algorithms.macs

    @digests.setter
    def digests(self, names: AlgorithmNames) -> None:
        self._set(_MACS, names)

    @property
    def compression(self) -> Sequence[str]:
        """Compression methods, for both directions."""
        return self.algorithms.compressions

    @compression.setter
    def compression(self, names: AlgorithmNames) -> None:
        self._set(_COMPRESSIONS, names)


Security = SecurityProfile | SecurityOptions
"""A profile, or one that was changed."""


def remark(name: str) -> str:
    """Return what there is to say of an algorithm; empty for most."""
    if name in defaults.INSECURE:
        return f"insecure: {defaults.INSECURE[name]}"
    return "post-quantum" if plain_algorithm(name) in defaults.POST_QUANTUM else ""


@functools.cache
def _profile(name: SecurityProfile) -> SecurityOptions:
    """Return the profile, for those who don't change it."""
    return SecurityOptions(name)


def options_of(chosen: Security | Algorithms | None) -> SecurityOptions:
    """Return options of one's own, which a change of the given ones doesn't reach."""
    if not isinstance(chosen, SecurityOptions):
        return SecurityOptions("modern" if chosen is None else chosen)
    return chosen.copy()


def checked_algorithms(
    role: Role,
    security: Security | None = None,
    *,
    kex: AlgorithmNames | None = None,
    host_key_algorithms: AlgorithmNames | None = None,
    ciphers: AlgorithmNames | None = None,
    macs: AlgorithmNames | None = None,
    compressions: AlgorithmNames | None = None,
) -> Algorithms:
    """Return the profile's algorithms with what was given in their place.

    Raises:
        ValueError: a name is unknown, or none is left; the text lists the known ones.
    """
    options = security if isinstance(security, SecurityOptions) else _profile(security or "modern")
    base = options.for_role(role)
    if kex is host_key_algorithms is ciphers is macs is compressions is None:
        return base
    changes = (kex, host_key_algorithms, ciphers, macs, compressions)
    return _changed_algorithms(base, *map(_unchanging, _KINDS_OF_CHANGES, changes))


#: What `checked_algorithms` may change.
_KINDS_OF_CHANGES: Final = (_KEX, _HOST_KEYS, _CIPHERS, _MACS, _COMPRESSIONS)


def _unchanging(kind: _Kind, wanted: AlgorithmNames | None) -> str | tuple[str, ...] | None:
    return wanted if wanted is None or isinstance(wanted, str) else tuple(_parsed(kind, wanted)[1])


@functools.lru_cache(maxsize=64)
def _changed_algorithms(
    base: Algorithms,
    kex: AlgorithmNames | None,
    host_key_algorithms: AlgorithmNames | None,
    ciphers: AlgorithmNames | None,
    macs: AlgorithmNames | None,
    compressions: AlgorithmNames | None,
) -> Algorithms:
    """As `checked_algorithms`.  Measured: 3 % of a connection's CPU, and most of a program's have the same."""
    return SecurityOptions(
        base,
        kex=kex,
        host_key_algorithms=host_key_algorithms,
        ciphers=ciphers,
        macs=macs,
        compressions=compressions,
    ).algorithms


def without(algorithms: Algorithms, disabled: DisabledAlgorithms) -> Algorithms:
    """Return what is left of `algorithms`; see `SecurityOptions.disable`."""
    return SecurityOptions(algorithms, disabled_algorithms=disabled).algorithms


def signature_algorithm(key: Signer, enabled: Collection[str], announced: bytes | None) -> str:
    """RFC 8308 s3.1: of those that the key can sign with, the first that the server says it takes.

    Args:
        enabled: for users' signatures, those of certificates by their own names.
        announced: ``server-sig-algs``, if the server has said so.

    Raises:
        LocalProtocolError: it can sign with nothing that is enabled.
    """
    taken = announced.decode("ascii", "replace").split(",") if announced is not None else ()
    # A key that was given is reason enough, unless its algorithm is one that somebody has taken away.
    usable = [name for name in key.algorithms if name in enabled or plain_algorithm(name) not in defaults.HOST_KEYS]
    # Servers name what signs, and not what is shown: a certificate's algorithm is as good as its key's.
    is_certified = any(plain_algorithm(name) != name for name in key.algorithms)
    legacy = [name for name in key.public_key.legacy_algorithms if name in enabled and not is_certified]
    # Who says nothing is older than RFC 8332, for which somebody has enabled what is broken.
    able = [*usable, *legacy] if announced is not None else [*legacy, *usable]
    if not able:
        names = " or ".join((*key.algorithms, *(() if is_certified else key.public_key.legacy_algorithms)))
        if key.algorithms:
            raise LocalProtocolError(
                f"it signs only with {names}, which is disabled: enable it by pubkey_algorithms= of SecurityOptions, "
                "or by PubkeyAcceptedAlgorithms of a configuration"
            )
        raise LocalProtocolError(
            f"it signs only with {names}, which is insecure, and enabled by nobody. Make a new key: "
            "`ssh-keygen -t ed25519`"
        )
    return next((name for name in able if name in taken or plain_algorithm(name) in taken), able[0])
