"""Keys that live in hardware: FIDO2 and U2F tokens, which sign when they are touched.

The token signs a hash of what is to be signed together with a hash of the application, flags that say whether a
person was there, and a counter.  Signatures are verified here.  To make one takes the token, which an agent speaks
to: the private half that a file holds is only a handle for it.

Source: OpenSSH PROTOCOL.u2f; W3C WebAuthn s6.1 (flags), s5.8.1 (client data).
"""

from __future__ import annotations

import base64
import hashlib
from typing import ClassVar, Final, Self

import attrs

from trio_ssh.errors import AgentException, RemoteProtocolError
from trio_ssh.keys.container import check_padding
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, parse_public_key, public_kind
from trio_ssh.wire.fields import Byte, Rest, String, Structure, Text, UInt32, structure
from trio_ssh.wire.message import Message

ED25519: Final = "sk-ssh-ed25519@openssh.com"
ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
WEBAUTHN: Final = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"

#: Type of the key with which a token signs -> type of its own, and the algorithms of that.
_OF_TOKENS: Final = {
    "ssh-ed25519": (ED25519, (ED25519,)),
    "ecdsa-sha2-nistp256": (ECDSA, (ECDSA, WEBAUTHN)),
}
_PLAIN: Final = {key_type: plain for plain, (key_type, _) in _OF_TOKENS.items()}

#: Flags of a signature: a person touched the token; the token knew the person by a PIN or a finger; it holds
#: attested credentials, which only a registration does; extensions follow.
USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04
_ATTESTED: Final = 0x40
_EXTENDED: Final = 0x80

#: Bytes of the longest application.  It is ``ssh:`` and a word, or the name of a host.
APPLICATION_BYTES: Final = 1024


def _string(text: str) -> bytes:
    """Return text as a string of RFC 4251."""
    return Message().add_string(text).asbytes()


def _key_fields(message: Message, plain: str) -> bytes:
    """Take the fields of a `plain` key behind its type: a point, for ECDSA behind the name of its curve."""
    start = len(message.get_so_far())
    for _ in range(1 if plain == "ssh-ed25519" else 2):
        message.get_string()
    return message.get_so_far()[start:]


@structure
class SecurityFields(Structure):
    """What follows the key proper in openssh-key-v1."""

    application: Text
    flags: Byte
    key_handle: String = attrs.field(repr=False)
    reserved: String
    comment: Text
    padding: Rest


@structure
class TokenSignature(Structure):
    """What follows the algorithm's name in a signature."""

    raw: String
    flags: Byte
    counter: UInt32
    rest: Rest


@structure
class WebauthnTail(Structure):
    """What is behind that if a web browser had it made."""

    origin: String
    client_data: String
    extensions: String


@attrs.frozen
class SecurityKeyDetails:
    """What a token said of a signature, and signed with it.

    Attributes:
        flags: as WebAuthn s6.1 has them.
        counter: how often the token has signed, with this key or at all; some always say 0.  One that goes back
            speaks of a copy of the token.
        origin: the web site on which it was made, for a signature by a browser; else empty.
    """

    flags: int
    counter: int
    origin: str = ""

    @property
    def user_present(self) -> bool:
        """Whether somebody touched the token."""
        return bool(self.flags & USER_PRESENT)

    @property
    def user_verified(self) -> bool:
        """Whether the token knew who it was, by a PIN or a finger."""
        return bool(self.flags & USER_VERIFIED)


@public_kind
class SecurityPublicKey(PublicKey):
    """``sk-ssh-ed25519@openssh.com`` and ``sk-ecdsa-sha2-nistp256@openssh.com``: a key whose private half is a token's.

    Attributes:
        application: what the key is for, ``"ssh:"`` unless its maker chose otherwise.  Part of the key.
    """

    __slots__ = ("_key", "application")
    KEY_TYPES: ClassVar[tuple[str, ...]] = (ED25519, ECDSA)

    def __init__(self, key: PublicKey, application: str = "ssh:") -> None:
        """Take the key that the token signs with, Ed25519 or ECDSA on nistp256, and what it is for."""
        encoded = application.encode("utf-8", "surrogateescape")
        if b"\0" in encoded or len(encoded) > APPLICATION_BYTES:
            raise ValueError(f"an application has at most {APPLICATION_BYTES} bytes, and no NUL among them")
        if key.key_type not in _OF_TOKENS:
            raise ValueError(f"tokens sign with {' and '.join(_OF_TOKENS)} keys, not with {key.key_type}")
        key_type, algorithms = _OF_TOKENS[key.key_type]
        blob = _string(key_type) + key.blob[len(_string(key.key_type)) :] + _string(application)
        super().__init__(key_type, blob, algorithms, key.bits)
        self._key: PublicKey = key
        self.application: str = application

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        message = Message(blob)
        plain = _PLAIN[message.get_text()]
        key = parse_public_key(_string(plain) + _key_fields(message, plain))
        application = message.get_text()
        if message.get_remainder():
            raise RemoteProtocolError(f"a security key with {len(message.get_remainder())} bytes too many")
        try:
            return cls(key, application)
        except ValueError as error:
            raise RemoteProtocolError(f"a security key that is none: {error}") from None

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        return self._key._is_valid(raw, data, self._key.key_type)

    def verify(self, data: bytes, signature: bytes, algorithm: str) -> None:
        """As `PublicKey.verify`; and somebody must have touched the token."""
        self.verify_details(data, signature, algorithm)

    def verify_details(
        self,
        data: bytes,
        signature: bytes,
        algorithm: str,
        *,
        require_presence: bool = True,
        require_verification: bool = False,
    ) -> SecurityKeyDetails:
        """Verify a signature, and return what the token said of it.

        Args:
            data: what was signed.
            signature: as on the wire.
            algorithm: the one that was agreed on or announced.
            require_presence: whether somebody must have touched the token.  What authorized_keys calls
                ``no-touch-required`` is False.
            require_verification: whether the token must have asked for a PIN or a finger, as authorized_keys'
                ``verify-required`` wants it.

        Raises:
            RemoteProtocolError: the signature is not one of this key over `data`, or was made without whom it needs.

        Source: OpenSSH PROTOCOL.u2f.
        """
        offset = self._past_head(signature, algorithm)
        origin, extensions, hashed = b"", b"", data
        read = TokenSignature.decode(signature, offset)
        if algorithm == WEBAUTHN:
            tail = WebauthnTail.decode(read.rest)
            origin, extensions, hashed = tail.origin, tail.extensions, _checked_client_data(tail, read.flags, data)
        elif read.rest:
            raise RemoteProtocolError(f"a signature by {self} has {len(read.rest)} bytes too many")
        signed = (
            hashlib.sha256(self.application.encode("utf-8", "surrogateescape")).digest()
            + bytes((read.flags,))
            + read.counter.to_bytes(4, "big")
            + extensions
            + hashlib.sha256(hashed).digest()
        )
        if not self._is_valid(read.raw, signed, algorithm):
            raise RemoteProtocolError(f"a signature by {self} is wrong")
        # Not earlier: until the signature is known to be right, its flags are anybody's.
        details = SecurityKeyDetails(read.flags, read.counter, origin.decode("utf-8", "backslashreplace"))
        if require_presence and not details.user_present:
            raise RemoteProtocolError(f"a signature by {self} was made without a touch of the token")
        if require_verification and not details.user_verified:
            raise RemoteProtocolError(f"a signature by {self} was made without a PIN or a finger")
        return details


def _checked_client_data(read: WebauthnTail, flags: int, data: bytes) -> bytes:
    """Return what the browser had signed, if it speaks of `data`.

    WebAuthn s5.8.1.1 fixes the order in which a browser writes it, so that nothing need be parsed.
    """
    if b'"' in read.origin or b"\0" in read.origin:
        raise RemoteProtocolError("a webauthn signature whose origin is no origin")
    if flags & _ATTESTED or bool(flags & _EXTENDED) != bool(read.extensions):
        raise RemoteProtocolError("a webauthn signature whose flags don't fit what follows")
    challenge = base64.urlsafe_b64encode(data).rstrip(b"=")
    expected = b'{"type":"webauthn.get","challenge":"' + challenge + b'","origin":"' + read.origin + b'"'
    if not read.client_data.startswith(expected):
        raise RemoteProtocolError("a webauthn signature over other data")
    return read.client_data


class SecurityKey(PKey):
    """A key that lives in hardware.  What is here is its public half, and the handle by which its token finds it.

    It can be read, written and compared, but not sign: a token signs, and an agent asks it to (``ssh-add``).

    Attributes:
        application: what the key is for, mostly ``"ssh:"``.
        flags: what its maker asked of the token: 1 a touch, 4 a PIN or a finger for each signature; 32 that the
            token keeps the key itself.
    """

    __slots__ = ("_key_handle", "_reserved", "application", "flags")
    KEY_TYPES: ClassVar[tuple[str, ...]] = (ED25519, ECDSA)

    def __init__(
        self,
        public_key: SecurityPublicKey,
        key_handle: bytes,
        flags: int = USER_PRESENT,
        comment: str = "",
        *,
        reserved: bytes = b"",
    ) -> None:
        """Take a public key, and what its token gave out with it."""
        super().__init__(public_key, comment)
        self.application: str = public_key.application
        self.flags: int = flags
        self._key_handle = key_handle
        self._reserved = reserved

    @property
    def key_handle(self) -> bytes:
        """What the token needs to find the key again."""
        return self._key_handle

    def can_sign(self) -> bool:
        """False: its token can, which an agent speaks to."""
        return False

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Refuse.

        Raises:
            AgentException: always; a client goes on with the next key.
        """
        raise AgentException(
            f"{self!r} lives in a token, and only an agent can ask that to sign. "
            "Plug it in, run `ssh-add` with the key's file, and log in with the agent's keys."
        )

    def _sign_raw(self, data: bytes, algorithm: str) -> bytes:
        return self.sign(data)

    def _private_fields(self) -> bytes:
        message = Message(self.public_key.blob)
        fields = Message(_key_fields(message, _PLAIN[message.get_text()]))
        fields.add_string(self.application).add_byte(self.flags)
        return fields.add_string(self._key_handle).add_string(self._reserved).asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        head = _key_fields(Message(fields), _PLAIN[key_type])
        read = SecurityFields.decode(fields, len(head))
        check_padding(read.padding)
        public = SecurityPublicKey.from_blob(_string(key_type) + head + _string(read.application))
        return cls(public, read.key_handle, read.flags, read.comment, reserved=read.reserved)
