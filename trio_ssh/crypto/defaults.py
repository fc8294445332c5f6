"""What is offered unless the user says otherwise, best first, and what else there is.

Order is policy, and this is the only place for it.  What is safe and fast on today's machines comes first;
what is offered at all is what no known attack touches.  A server offers less than a client: it meets clients of
today, who mostly can do the best, where a client meets servers that nobody has touched in years.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from trio_ssh.crypto import agreement


def _able(*names: str) -> tuple[str, ...]:
    """Leave out what the library can't do; see ``agreement_hybrid.is_supported``."""
    return tuple(name for name in names if name in agreement.KEX)


_HYBRID: Final = _able("mlkem768x25519-sha256")
_NIST_HYBRIDS: Final = _able("mlkem768nistp256-sha256", "mlkem1024nistp384-sha384")
_CURVE25519: Final = ("curve25519-sha256", "curve25519-sha256@libssh.org")
_NIST_CURVES: Final = ("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521")

#: Key exchange methods of a client.  The hybrids first: what is recorded today must not be read by tomorrow's quantum
#: computers.  Finite fields last: each costs a hundred times what a curve does.
KEX: Final[tuple[str, ...]] = (
    *_HYBRID,
    *_NIST_HYBRIDS,
    *_CURVE25519,
    *_NIST_CURVES,
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)

#: Those of a server.
SERVER_KEX: Final[tuple[str, ...]] = (*_HYBRID, *_CURVE25519)

#: Signature algorithms that a host's key or a user's may use.
HOST_KEYS: Final[tuple[str, ...]] = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

_RARE_KEYS: Final = (
    "ssh-ed448",
    "ssh-mldsa44-ed25519@openssh.com",
    "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
)
_BROKEN_KEYS: Final = ("ssh-rsa", "ssh-dss")

#: Those that are enabled where somebody names them, or a profile that has them, and never by themselves.  The first are
#: rare, or young; the last two are broken.
HOST_KEYS_BY_NAME: Final[tuple[str, ...]] = (*_RARE_KEYS, *_BROKEN_KEYS)

#: Ciphers, by speed: all are strong enough.
CIPHERS: Final[tuple[str, ...]] = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)

#: MACs of a server, for the ciphers that need one: encrypt-then-mac refuses a forgery before anything is decrypted.
SERVER_MACS: Final[tuple[str, ...]] = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
)

#: MACs of a client.
MACS: Final[tuple[str, ...]] = (*SERVER_MACS, "hmac-sha2-256", "hmac-sha2-512")

#: Compressions.  None first: it costs more than most networks do.
COMPRESSIONS: Final[tuple[str, ...]] = (
    "none",
    "zlib@openssh.com",
)


@attrs.frozen(kw_only=True)
class Offer:
    """What one side of a profile enables of each kind, best first."""

    kex: tuple[str, ...] = KEX
    host_keys: tuple[str, ...] = HOST_KEYS
    ciphers: tuple[str, ...] = CIPHERS
    macs: tuple[str, ...] = MACS
    compressions: tuple[str, ...] = COMPRESSIONS


@attrs.frozen
class Profile:
    """A choice among all algorithms, for either role.

    Attributes:
        name: what users call it.
        client, server: what is enabled.
    """

    name: str
    client: Offer
    server: Offer


_COMPATIBLE: Final = Offer(
    kex=(
        *_HYBRID,
        *_NIST_HYBRIDS,
        *_CURVE25519,
        "curve448-sha512",
        *_NIST_CURVES,
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group-exchange-sha256",
        "diffie-hellman-group15-sha512",
        "diffie-hellman-group14-sha256",
        "diffie-hellman-group17-sha512",
        "diffie-hellman-group18-sha512",
    ),
    host_keys=(*HOST_KEYS, *_RARE_KEYS),
)

_LEGACY: Final = Offer(
    kex=(
        *_COMPATIBLE.kex,
        "diffie-hellman-group-exchange-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
    ),
    host_keys=(*_COMPATIBLE.host_keys, *_BROKEN_KEYS),
    ciphers=(*CIPHERS, "aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"),
    macs=(*MACS, "hmac-sha1-etm@openssh.com", "hmac-sha1", "hmac-sha1-96"),
)

# SP 800-56A takes the named groups only, so there is no group exchange; FIPS 186-5 takes Ed25519, but its
# implementation here is in no validated module.
_FIPS: Final = Offer(
    kex=(
        *_NIST_HYBRIDS,
        *_NIST_CURVES,
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group15-sha512",
        "diffie-hellman-group14-sha256",
        "diffie-hellman-group17-sha512",
        "diffie-hellman-group18-sha512",
    ),
    host_keys=(
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ),
    ciphers=("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"),
)

#: What no known attack touches; a server takes clients of the last ten years.
MODERN: Final = Profile("modern", Offer(), Offer(kex=SERVER_KEX, macs=SERVER_MACS))

#: By name, the default first.
PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        MODERN,
        # All that is not broken, rare and slow things too.
        Profile("compatible", _COMPATIBLE, _COMPATIBLE),
        # All that there is, broken things too: for devices that can do no better.
        Profile("legacy", _LEGACY, _LEGACY),
        # What NIST approves; whether the library was validated is not ours to say.
        Profile("fips", _FIPS, _FIPS),
    )
}

#: Safe from quantum computers.
POST_QUANTUM: Final[frozenset[str]] = frozenset((*_HYBRID, *_NIST_HYBRIDS, "ssh-mldsa44-ed25519@openssh.com"))

_SHA1: Final = "SHA-1 is broken"
_CBC: Final = "CBC tells one in the middle where a guess was right"

#: Why nobody should use them.
INSECURE: Final[Mapping[str, str]] = {
    "diffie-hellman-group1-sha1": "1024 bits are within reach of a state, and SHA-1 is broken",
    "diffie-hellman-group14-sha1": _SHA1,
    "diffie-hellman-group-exchange-sha1": _SHA1,
    "ssh-rsa": "it signs with SHA-1, which is broken",
    "ssh-dss": "1024 bits, SHA-1, and a key that one bad random number gives away",
    "aes128-cbc": _CBC,
    "aes192-cbc": _CBC,
    "aes256-cbc": _CBC,
    "3des-cbc": "blocks of 64 bits repeat within 32 GiB, and " + _CBC,
    "hmac-sha1-etm@openssh.com": "SHA-1 is broken, if not as it is used here",
    "hmac-sha1": "SHA-1 is broken, if not as it is used here",
    "hmac-sha1-96": "SHA-1 is broken, and a tag of 96 bits is short",
}
