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
from trio_ssh.keys.ecdsa import ECDSABlob, ECDSAPublicKey
from trio_ssh.keys.ed25519 import Ed25519Blob, Ed25519PublicKey
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, public_kind
from trio_ssh.wire.fields import Byte, Rest, String, Structure, Text, UInt32, structure
from trio_ssh.wire.message import Message

ED25519: Final = "sk-ssh-ed25519@openssh.com"
ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
WEBAUTHN: Final = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"

_CURVE: Final = "nistp256"

#: Flags of a signature: a person touched the token; the token knew the person by a PIN or a finger; it holds
#: attested credentials, which only a registration does; extensions follow.
USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04
_ATTESTED: Final = 0x40
_EXTENDED: Final = 0x80

#: Bytes of the longest application.  It is ``ssh:`` and a word, or the name of a host.
APPLICATION_BYTES: Final = 1024


@structure
class SecurityED25519Blob(Structure):
    """``sk-ssh-ed25519@openssh.com`` on the wire."""

    key_type: Text
    point: String
    application: Text


@structure
class SecurityECDSABlob(Structure):
    """``sk-ecdsa-sha2-nistp256@openssh.com`` on the wire."""

    key_type: Text
    curve: Text
    point: String
    application: Text


@structure
class SecurityED25519Fields(Structure):
    """The private half in openssh-key-v1."""

    point: String
    application: Text
    flags: Byte
    key_handle: String = attrs.field(repr=False)
    reserved: String
    comment: Text
    padding: Rest


@structure
class SecurityECDSAFields(Structure):
    """The private half in openssh-key-v1."""

    curve: Text
    point: String
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


@structure
class WebauthnSignature(Structure):
    """The same of a signature that a web browser had made."""

    raw: String
    flags: Byte
    counter: UInt32
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
        if isinstance(key, Ed25519PublicKey):
            point = Ed25519Blob.decode(key.blob).point
            blob = SecurityED25519Blob(ED25519, point, application).encode()
            super().__init__(ED25519, blob, (ED25519,), key.bits)
        elif key.key_type == f"ecdsa-sha2-{_CURVE}":
            point = ECDSABlob.decode(key.blob).point
            blob = SecurityECDSABlob(ECDSA, _CURVE, point, application).encode()
            super().__init__(ECDSA, blob, (ECDSA, WEBAUTHN), key.bits)
        else:
            raise ValueError(f"tokens sign with ssh-ed25519 and ecdsa-sha2-{_CURVE} keys, not with {key.key_type}")
        self._key: PublicKey = key
        self.application: str = application

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read a blob, as `PublicKey.from_blob` says."""
        key: PublicKey
        if blob.startswith(len(ED25519).to_bytes(4, "big") + ED25519.encode("ascii")):
            ed25519 = SecurityED25519Blob.decode(blob)
            application = ed25519.application
            key = Ed25519PublicKey.from_blob(Ed25519Blob("ssh-ed25519", ed25519.point).encode())
        else:
            ecdsa = SecurityECDSABlob.decode(blob)
            application = ecdsa.application
            key = ECDSAPublicKey.from_blob(ECDSABlob(f"ecdsa-sha2-{_CURVE}", ecdsa.curve, ecdsa.point).encode())
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
        origin, extensions = b"", b""
        read: TokenSignature | WebauthnSignature
        if algorithm == WEBAUTHN:
            read = WebauthnSignature.decode(signature, offset)
            origin, extensions = read.origin, read.extensions
            hashed = _checked_client_data(read, data)
        else:
            read = TokenSignature.decode(signature, offset)
            hashed = data
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


def _checked_client_data(read: WebauthnSignature, data: bytes) -> bytes:
    """Return what the browser had signed, if it speaks of `data`.

    WebAuthn s5.8.1.1 fixes the order in which a browser writes it, so that nothing need be parsed.
    """
    if b'"' in read.origin or b"\0" in read.origin:
        raise RemoteProtocolError("a webauthn signature whose origin is no origin")
    if read.flags & _ATTESTED or bool(read.flags & _EXTENDED) != bool(read.extensions):
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
        fields = Message()
        if self.key_type == ED25519:
            fields.add_string(SecurityED25519Blob.decode(self.public_key.blob).point)
        else:
            fields.add_string(_CURVE).add_string(SecurityECDSABlob.decode(self.public_key.blob).point)
        fields.add_string(self.application).add_byte(self.flags)
        return fields.add_string(self._key_handle).add_string(self._reserved).asbytes()

    @classmethod
    def _from_fields(cls, key_type: str, fields: bytes) -> Self:
        read: SecurityED25519Fields | SecurityECDSAFields
        if key_type == ED25519:
            read = SecurityED25519Fields.decode(fields)
            blob = SecurityED25519Blob(ED25519, read.point, read.application).encode()
        else:
            read = SecurityECDSAFields.decode(fields)
            blob = SecurityECDSABlob(ECDSA, read.curve, read.point, read.application).encode()
        check_padding(read.padding)
        public = SecurityPublicKey.from_blob(blob)
        return cls(public, read.key_handle, read.flags, read.comment, reserved=read.reserved)
