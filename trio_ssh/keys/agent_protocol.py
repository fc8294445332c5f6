"""draft-ietf-sshm-ssh-agent: what a program and its agent say to each other, and OpenSSH's extensions of it.

Each message is a length and a payload; each request has one reply, in order.  This module cuts the stream into payloads
and turns them into values; who holds which key, and who may use it, is not known here.

Source: draft-ietf-sshm-ssh-agent; OpenSSH PROTOCOL.agent for ``session-bind``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import attrs

from trio_ssh.errors import KeyFileException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys.agent_constraints import Constraints, read_constraints, write_constraints
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import plain_algorithm
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.patterns import LONGEST
from trio_ssh.keys.private_key import PKey
from trio_ssh.wire.fields import (
    STRING,
    TEXT,
    Boolean,
    Byte,
    DeclaredMessage,
    Rest,
    String,
    Structure,
    Text,
    UInt32,
    message,
    structure,
)
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable
from trio_ssh.wire.userauth import UserauthRequest

#: Bytes of the longest payload, as in OpenSSH's agent.
PAYLOAD_BYTES: Final = 256 * 1024

SESSION_BIND: Final = "session-bind@openssh.com"
QUERY: Final = "query"


# -- framing


class Frames:
    """Cuts what arrives into payloads, however the stream has cut it."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        """Bytes that belong to no whole payload yet, or to one that was not taken."""
        return len(self._data)

    def put(self, data: bytes | bytearray) -> None:
        """Take what has arrived."""
        self._data += data

    def take(self) -> bytes | None:
        """Return the next whole payload, or None.

        Raises:
            RemoteProtocolError: the length is 0 or beyond `PAYLOAD_BYTES`; told before the payload is waited for.
        """
        data = self._data
        if len(data) < 4:
            return None
        length = int.from_bytes(data[:4], "big")
        if not 1 <= length <= PAYLOAD_BYTES:
            raise RemoteProtocolError(f"a message of {length} bytes; 1 to {PAYLOAD_BYTES} are read")
        if len(data) < 4 + length:
            return None
        payload = bytes(data[4 : 4 + length])
        del data[: 4 + length]
        return payload


def frame(payload: bytes) -> bytes:
    """Put the length in front of a payload.

    Raises:
        LocalProtocolError: it is longer than any agent reads.
    """
    if len(payload) > PAYLOAD_BYTES:
        raise LocalProtocolError(f"a message of {len(payload)} bytes is more than an agent takes: {PAYLOAD_BYTES}")
    return len(payload).to_bytes(4, "big") + payload


# -- replies


@message(5)
class AgentFailure(DeclaredMessage):
    """The request was refused."""


@message(6)
class AgentSuccess(DeclaredMessage):
    """The request was granted.  Nothing follows, but for older agents' answers to extensions."""

    details: Rest


@message(28)
class AgentExtensionFailure(DeclaredMessage):
    """The extension is known, and refused the request."""


@message(29)
class AgentExtensionResponse(DeclaredMessage):
    """The extension's own answer."""

    name: Text
    details: Rest


@message(12)
class IdentitiesAnswer(DeclaredMessage):
    """So many keys; each its blob and its comment."""

    count: UInt32
    keys: Rest


@message(14)
class SignResponse(DeclaredMessage):
    """The signature, as RFC 4253 s6.6 encodes it."""

    signature: String


# -- requests


@message(11)
class RequestIdentities(DeclaredMessage):
    """Which keys are there?"""


@message(13)
class SignRequest(DeclaredMessage):
    """Sign `data` with a key; `flags` choose the hash of an RSA key's signature."""

    blob: String
    data: String = attrs.field(repr=False)
    flags: UInt32


@message(17)
class AddIdentity(DeclaredMessage):
    """Hold this key: what its type prescribes, then a comment."""

    key_type: Text
    fields: Rest = attrs.field(repr=False)


@message(18)
class RemoveIdentity(DeclaredMessage):
    """Forget this key."""

    blob: String


@message(19)
class RemoveAllIdentities(DeclaredMessage):
    """Forget all keys."""


@message(22)
class LockAgent(DeclaredMessage):
    """Refuse everything until the same passphrase comes again."""

    passphrase: String = attrs.field(repr=False)


@message(23)
class UnlockAgent(DeclaredMessage):
    """Here is the passphrase."""

    passphrase: String = attrs.field(repr=False)


@message(25)
class AddIdentityConstrained(DeclaredMessage):
    """As `AddIdentity`, with constraints behind the comment."""

    key_type: Text
    fields: Rest = attrs.field(repr=False)


@message(27)
class AgentExtension(DeclaredMessage):
    """A request that the draft leaves to others."""

    name: Text
    details: Rest


@structure
class SessionBind(Structure):
    """OpenSSH PROTOCOL.agent s1: this connection serves the session with that host, which has signed its id."""

    host_key: String
    session_id: String
    signature: String
    is_forwarding: Boolean


# -- keys in a list


@attrs.frozen
class ListedKey:
    """A key that an agent holds, as it lists it."""

    blob: bytes
    comment: str


def write_identities(keys: Sequence[ListedKey]) -> IdentitiesAnswer:
    """Make the answer that lists `keys`."""
    content = Message()
    for key in keys:
        content.add_string(key.blob).add_string(key.comment)
    return IdentitiesAnswer(len(keys), content.asbytes())


def read_identities(answer: IdentitiesAnswer) -> list[ListedKey]:
    """Read the keys of a list.

    Raises:
        RemoteProtocolError: it holds more or fewer than it says.
    """
    data, offset = answer.keys, 0
    # Two lengths are the least that a key takes: a count that can't be true costs nothing.
    if answer.count > len(data) // 8:
        raise RemoteProtocolError(f"a list of {answer.count} keys in {len(data)} bytes")
    keys: list[ListedKey] = []
    for _ in range(answer.count):
        blob, offset = STRING.read(data, offset)
        comment, offset = TEXT.read(data, offset)
        keys.append(ListedKey(blob, comment))
    if offset != len(data):
        raise RemoteProtocolError("bytes behind the last key of a list")
    return keys


# -- private keys on the wire

#: Strings between a key's type and its comment: those of openssh-key-v1.
_FIELD_COUNTS: Final = {
    "ssh-ed25519": 2,
    "ssh-ed448": 2,
    "ssh-rsa": 6,
    "ssh-dss": 5,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "ssh-mldsa44-ed25519@openssh.com": 2,
}


#: Of those, the ones that begin with the public half, which a certificate has told already.
_PUBLIC_COUNTS: Final = {
    "ssh-rsa": 2,
    "ssh-dss": 4,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
}

#: What an agent holds: a key, or a key with a certificate.
HeldKey: TypeAlias = PKey | CertifiedKey


def private_half(key: HeldKey) -> PKey:
    """Return the key that signs, which a certificate may stand before.

    Raises:
        LocalProtocolError: it is elsewhere.
    """
    if isinstance(key, PKey):
        return key
    if not isinstance(key.key, PKey):
        raise LocalProtocolError(f"the private half of {key} is not here, so that no agent can be given it")
    return key.key


def write_added(key: HeldKey, comment: str, constraints: Constraints) -> AddIdentity | AddIdentityConstrained:
    """Make the request that has an agent hold `key`.

    Raises:
        LocalProtocolError: the key's private half is not here.
    """
    private = private_half(key)
    fields, key_type = private._private_fields(), private.key_type
    if isinstance(key, CertifiedKey):
        if key_type not in _FIELD_COUNTS:
            raise LocalProtocolError(f"an agent can't be given a certificate of a key of the type {key_type}")
        strings = _strings(fields, _FIELD_COUNTS[key_type], 0)[0][_PUBLIC_COUNTS.get(key_type, 0) :]
        fields, key_type = _joined([key.certificate.blob, *strings]), key.certificate.key_type
    # As ssh-add does for a key in hardware: without a provider, the agent takes the key and can't sign with it.
    behind = write_constraints(constraints, provider=None if private.can_sign() else "internal")
    fields += _joined([comment.encode("utf-8", "surrogateescape")]) + behind
    return AddIdentityConstrained(key_type, fields) if behind else AddIdentity(key_type, fields)


def read_added(added: AddIdentity | AddIdentityConstrained) -> tuple[HeldKey, Constraints]:
    """Read the key of a request, with its comment, and what it may be used for.

    Raises:
        RemoteProtocolError: the key is of no kind that is known, or its numbers don't belong together; or the
            constraints are not all known.
    """
    key_type = plain_algorithm(added.key_type)
    count = _FIELD_COUNTS.get(key_type)
    if count is None:
        raise RemoteProtocolError(f"a private key of the type {printable(added.key_type, 64)!r} is not supported")
    certificate: Certificate | None = None
    strings: list[bytes] = []
    offset = 0
    if key_type != added.key_type:
        blob, offset = STRING.read(added.fields, 0)
        certificate = Certificate.from_blob(blob)
        if certificate.key_type != added.key_type:
            raise RemoteProtocolError("a certificate of another type than was said")
        public = _PUBLIC_COUNTS.get(key_type, 0)
        strings = _strings(certificate.public_key.blob, public + 1, 0)[0][1:]
        # RFC 4253 s6.6 has the exponent first, openssh-key-v1 the modulus.
        strings = strings[::-1] if key_type == "ssh-rsa" else strings
        count -= public
    private, offset = _strings(added.fields, count + 1, offset)
    behind = added.fields[offset:]
    if behind and isinstance(added, AddIdentity):
        raise RemoteProtocolError("bytes behind the comment of a key")
    kind = next((kind for kind in PKey.__subclasses__() if key_type in kind.KEY_TYPES), None)
    if kind is None:
        raise RemoteProtocolError(f"a private key of the type {key_type} is not supported")
    key: HeldKey = kind._from_fields(key_type, _joined([*strings, *private]))
    if certificate is not None:
        try:
            key = CertifiedKey(key, certificate)
        except KeyFileException as error:
            raise RemoteProtocolError(str(error)) from None
    return key, read_constraints(behind)


def _strings(data: bytes, count: int, offset: int) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    for _ in range(count):
        value, offset = STRING.read(data, offset)
        found.append(value)
    return found, offset


def _joined(strings: Sequence[bytes]) -> bytes:
    return b"".join(len(value).to_bytes(4, "big") + value for value in strings)


# -- signatures

_RSA_FLAGS: Final = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


def sign_flags(algorithm: str) -> int:
    """Return the flags that ask for signatures of this algorithm; RSA alone needs any."""
    return _RSA_FLAGS.get(plain_algorithm(algorithm), 0)


def flagged_algorithm(key_type: str, flags: int) -> str:
    """Return the algorithm that the flags of a request ask for.

    Raises:
        RemoteProtocolError: they ask for what is not known, or for RSA with SHA-1.
    """
    if flags & ~6:
        raise RemoteProtocolError(f"the flags {flags:#x} are not known")
    key_type = plain_algorithm(key_type)
    if key_type != "ssh-rsa":
        return key_type
    # RFC 8332 came later than agents: no flag at all means SHA-1, which is not here.  Where both are set OpenSSH takes
    # the first.
    if flags & 2:
        return "rsa-sha2-256"
    if flags & 4:
        return "rsa-sha2-512"
    raise RemoteProtocolError("signatures by RSA with SHA-1 are not made")


def signature_algorithm(signature: bytes) -> str:
    """Return the algorithm that a signature names, or raise RemoteProtocolError."""
    name, _ = TEXT.read(signature, 0)
    return str(name)


# -- what is signed, for keys that may be used for some destinations only


@attrs.frozen
class SignedRequest:
    """RFC 4252 s7: a login that a signature is asked for.

    Attributes:
        host_key: the server's, where the request names it: OpenSSH's ``publickey-hostbound-v00@openssh.com``.
    """

    session_id: bytes
    username: str
    blob: bytes
    host_key: bytes | None


@structure
class _Signed(Structure):
    session_id: String
    number: Byte
    request: Rest


@structure
class _PublicKeyRequest(Structure):
    is_signed: Byte
    algorithm: Text
    blob: String
    host_key: Rest


def read_signed_request(data: bytes) -> SignedRequest:
    """Read what a client signs to log in.

    Raises:
        RemoteProtocolError: it is anything else.
    """
    signed = _Signed.decode(data)
    if signed.number != UserauthRequest.NUMBER or not signed.session_id:
        raise RemoteProtocolError("what is to be signed is no login")
    request = UserauthRequest.decode(signed.request)
    if len(request.username) > LONGEST:
        raise RemoteProtocolError(f"a user's name of more than {LONGEST} characters")
    is_host_bound = request.method == "publickey-hostbound-v00@openssh.com"
    if request.service != "ssh-connection" or not (is_host_bound or request.method == "publickey"):
        raise RemoteProtocolError("what is to be signed is no login by a key")
    details = _PublicKeyRequest.decode(request.details)
    if details.is_signed != 1:
        raise RemoteProtocolError("what is to be signed is a probe")
    host_key: bytes | None = None
    if is_host_bound:
        host_key, end = STRING.read(details.host_key, 0)
        if end != len(details.host_key):
            raise RemoteProtocolError("bytes behind a login")
    elif details.host_key:
        raise RemoteProtocolError("bytes behind a login")
    return SignedRequest(signed.session_id, request.username, details.blob, host_key)


def read_names(data: bytes) -> tuple[str, ...]:
    """Read the names of extensions that answer a query: strings up to the end."""
    names: list[str] = []
    offset = 0
    while offset < len(data):
        name, offset = TEXT.read(data, offset)
        names.append(name)
    return tuple(names)
