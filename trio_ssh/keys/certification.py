"""What a certificate says, and how it stands on the wire: its types, the key in it, names, options, permissions.

What kinds of keys there are is not known here, but for the number of fields that each has: they stand in the midst of
a certificate, and nothing else says where they end.

Source: OpenSSH PROTOCOL.certkeys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal

import attrs

from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.public_key import PublicKey, is_known_type, parse_public_key, signature_head
from trio_ssh.wire.fields import STRING, TEXT, String, Structure, Text, UInt32, UInt64, structure
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

_VENDOR: Final = "@openssh.com"
SUFFIX: Final = "-cert-v01@openssh.com"

#: Key type -> strings behind the type in its blob.  An mpint is a string here: only where it ends is asked.
KEY_FIELDS: Final = {
    "ssh-ed25519": 1,
    "ssh-ed448": 1,
    "ssh-mldsa44-ed25519@openssh.com": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,
    "ssh-dss": 4,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}

#: Names in one certificate, and options of one kind in it, beyond which it isn't read.
MAX_PRINCIPALS: Final = 256
MAX_OPTIONS: Final = 256

#: With what an authority may sign, unless a caller says otherwise: OpenSSH's ``CASignatureAlgorithms``, and what it has
#: not, or of late only.
AUTHORITY_ALGORITHMS: Final = frozenset(
    {
        "ssh-ed25519",
        "ssh-ed448",
        "ssh-mldsa44-ed25519@openssh.com",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "rsa-sha2-512",
        "rsa-sha2-256",
    }
)

CertificateKind = Literal["user", "host"]
"""Whom a certificate is for."""

KINDS: Final[Mapping[int, CertificateKind]] = {1: "user", 2: "host"}

Network = IPv4Network | IPv6Network
"""Addresses from which a certificate is good."""


@structure
class CertificateBody(Structure):
    """What follows the key in a certificate."""

    serial: UInt64
    kind: UInt32
    key_id: Text
    principals: String
    valid_after: UInt64
    valid_before: UInt64
    critical_options: String
    extensions: String
    reserved: String
    authority: String
    signature: String


@attrs.frozen(kw_only=True)
class CertificatePermissions:
    """What a user's certificate grants: its extensions, as values.  The defaults are those of ``ssh-keygen -s``.

    Attributes:
        x11_forwarding: ``permit-X11-forwarding``.
        agent_forwarding: ``permit-agent-forwarding``.
        port_forwarding: ``permit-port-forwarding``.
        pty: ``permit-pty``.
        user_rc: ``permit-user-rc``: ``~/.ssh/rc`` may run.
        no_touch_required: a security key need not have been touched.
    """

    x11_forwarding: bool = True
    agent_forwarding: bool = True
    port_forwarding: bool = True
    pty: bool = True
    user_rc: bool = True
    no_touch_required: bool = False


USUAL_PERMISSIONS: Final = CertificatePermissions()

#: Extension -> attribute of `CertificatePermissions`.
PERMISSIONS: Final = {
    "permit-X11-forwarding": "x11_forwarding",
    "permit-agent-forwarding": "agent_forwarding",
    "permit-port-forwarding": "port_forwarding",
    "permit-pty": "pty",
    "permit-user-rc": "user_rc",
    "no-touch-required": "no_touch_required",
}

#: Critical options that we enforce, or that whoever runs the session is told to.
CRITICAL_OPTIONS: Final = frozenset({"force-command", "source-address", "verify-required"})


def certificate_name(name: str) -> str:
    """Return what a key type, or a signature algorithm, is called where a certificate is used in the key's place.

    ``rsa-sha2-512`` becomes ``rsa-sha2-512-cert-v01@openssh.com``.
    """
    return name.removesuffix(_VENDOR) + SUFFIX


_PLAIN_ALGORITHMS: Final = {
    certificate_name(name): name
    for name in (*KEY_FIELDS, "rsa-sha2-512", "rsa-sha2-256", "webauthn-sk-ecdsa-sha2-nistp256@openssh.com")
}


def plain_algorithm(name: str) -> str:
    """Return what a signature algorithm is called without a certificate; one that is so called stays as it is."""
    return _PLAIN_ALGORITHMS.get(name, name)


def is_certificate_algorithm(name: str) -> bool:
    """Whether a certificate is shown where this signature algorithm was agreed on."""
    return name in _PLAIN_ALGORITHMS


#: Type of a certificate -> type of the key in it.
_PLAIN_TYPES: Final = {certificate_name(key_type): key_type for key_type in KEY_FIELDS}


def is_certificate_type(key_type: str) -> bool:
    """Whether this is the type of certificates that can be read."""
    return is_known_type(_PLAIN_TYPES.get(key_type, ""))


# -- from the wire


def read_key(blob: bytes, minimum_rsa_bits: int) -> tuple[str, PublicKey, int]:
    """Return the certificate's type, the key in it, and the offset behind the key."""
    key_type, offset = TEXT.read(blob, 0)
    plain_type = _PLAIN_TYPES.get(key_type)
    if plain_type is None:
        raise RemoteProtocolError(f"a certificate of the unknown type '{printable(key_type, 64)}'")
    _, start = STRING.read(blob, offset)  # the nonce, which only makes the signed data unforeseeable
    end = start
    for _ in range(KEY_FIELDS[plain_type]):
        _, end = STRING.read(blob, end)
    key = parse_public_key(signature_head(plain_type) + blob[start:end], minimum_rsa_bits=minimum_rsa_bits)
    return key_type, key, end


def read_authority(blob: bytes, minimum_rsa_bits: int) -> PublicKey:
    """Return the key that signed: no certificate, or one could sign the next."""
    key_type, _ = TEXT.read(blob, 0)
    if key_type in _PLAIN_TYPES:
        raise RemoteProtocolError("a certificate that is signed by a certificate")
    return parse_public_key(blob, minimum_rsa_bits=minimum_rsa_bits)


def read_names(data: bytes) -> Iterator[str]:
    """Return the principals."""
    offset = count = 0
    while offset < len(data):
        name, offset = TEXT.read(data, offset)
        count += 1
        if count > MAX_PRINCIPALS:
            raise RemoteProtocolError(f"a certificate for more than {MAX_PRINCIPALS} principals")
        if "\0" in name:
            raise RemoteProtocolError("a certificate for a name with a NUL in it")
        yield name


def read_options(data: bytes, what: str) -> dict[str, bytes]:
    """Return options of one kind, by name."""
    options: dict[str, bytes] = {}
    offset = 0
    while offset < len(data):
        name, offset = TEXT.read(data, offset)
        value, offset = STRING.read(data, offset)
        # PROTOCOL.certkeys: each once, and sorted.  OpenSSH reads them in any order; so do we.
        if name in options:
            raise RemoteProtocolError(f"a certificate with '{printable(name, 64)}' twice among its {what}")
        if len(options) == MAX_OPTIONS:
            raise RemoteProtocolError(f"a certificate with more than {MAX_OPTIONS} {what}")
        options[name] = value
    return options


def _read_text(data: bytes, name: str) -> str:
    """Return the one string that an option's data are."""
    value: str
    value, offset = TEXT.read(data, 0)
    if offset != len(data) or "\0" in value:
        raise RemoteProtocolError(f"a certificate whose {name} is not one string")
    return value


def has_flag(options: Mapping[str, bytes], name: str) -> bool:
    """Whether an option that has no data is there."""
    if options.get(name):
        raise RemoteProtocolError(f"a certificate whose {name} has data")
    return name in options


def read_permissions(extensions: Mapping[str, bytes]) -> CertificatePermissions:
    """Return what the extensions that are known grant."""
    granted = {attribute: has_flag(extensions, name) for name, attribute in PERMISSIONS.items()}
    return CertificatePermissions(**granted)


def read_force_command(options: Mapping[str, bytes]) -> str | None:
    """Return the only command that may run, or None."""
    data = options.get("force-command")
    return None if data is None else _read_text(data, "force-command")


def read_source_addresses(options: Mapping[str, bytes]) -> tuple[Network, ...] | None:
    """Return the networks that a login may come from, or None."""
    data = options.get("source-address")
    if data is None:
        return None
    text = _read_text(data, "source-address")
    if text.count(",") >= MAX_OPTIONS:
        raise RemoteProtocolError(f"a certificate that is bound to more than {MAX_OPTIONS} networks")
    try:
        return networks(text.split(","))
    except ValueError as error:
        raise RemoteProtocolError(f"a certificate that is bound to what is no network: {error}") from None


def networks(texts: Collection[str]) -> tuple[Network, ...]:
    """Read networks such as ``10.0.0.0/8``, or raise ValueError.

    A netmask instead of a length is none for OpenSSH, though ipaddress takes it.
    """
    networks: list[Network] = []
    for text in texts:
        length = text.partition("/")[2]
        if "%" in text or ("/" in text and not (length.isascii() and length.isdecimal())):
            raise ValueError(f"'{printable(text, 64)}' is no network in CIDR form")
        try:
            networks.append(ip_network(text))
        except ValueError:
            raise ValueError(f"'{printable(text, 64)}' is no network in CIDR form") from None
    return tuple(networks)


# -- to the wire


def encode_text(text: str) -> bytes:
    """Encode the data of an option that is one string."""
    if "\0" in text:
        raise ValueError("the text of an option has a NUL in it")
    return Message().add_string(text).asbytes()


def encode_options(options: Mapping[str, str | None] | None, reserved: Collection[str]) -> dict[str, bytes]:
    """Encode options that a caller named, of which none may be one that has an argument of its own."""
    encoded: dict[str, bytes] = {}
    for name, text in (options or {}).items():
        if name in reserved:
            raise ValueError(f"'{name}' has an argument of its own")
        encoded[name] = b"" if text is None else encode_text(text)
    return encoded


def pack_names(names: Iterable[str]) -> bytes:
    """Encode a list of principals."""
    packed = Message()
    for name in names:
        packed.add_string(name)
    return packed.asbytes()


def pack_options(options: Mapping[str, bytes]) -> bytes:
    """Encode options, in the order that PROTOCOL.certkeys asks for."""
    packed = Message()
    for name, data in sorted(options.items()):
        packed.add_string(name).add_string(data)
    return packed.asbytes()
