"""A token of software, which signs as those of hardware do: OpenSSH PROTOCOL.u2f."""

from __future__ import annotations

import base64
import hashlib

from tests.keys.samples import string
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.security_key import ED25519, WEBAUTHN, SecurityKey, SecurityPublicKey
from trio_ssh.wire.message import Message

ORIGIN = b"https://example.com"


class Token:
    """Holds one key, and counts."""

    def __init__(self, key: PKey, application: str = "ssh:") -> None:
        self._key = key
        self._counter = 0
        self.public_key = SecurityPublicKey(key.public_key, application)
        self.key = SecurityKey(self.public_key, b"the handle", comment="alice@example")

    def raw(self, signed: bytes) -> bytes:
        """What its key signs, without the algorithm's name."""
        signature = Message(self._key.sign(signed))
        signature.get_string()
        return signature.get_string()

    def sign(self, data: bytes, flags: int = 1) -> bytes:
        """Sign as for ssh."""
        self._counter += 1
        head = bytes((flags,)) + self._counter.to_bytes(4, "big")
        application = hashlib.sha256(self.public_key.application.encode()).digest()
        raw = self.raw(application + head + hashlib.sha256(data).digest())
        return string(self.public_key.key_type.encode()) + string(raw) + head

    def sign_webauthn(
        self,
        data: bytes,
        flags: int = 1,
        *,
        origin: bytes = ORIGIN,
        shown_origin: bytes | None = None,
        extensions: bytes = b"",
        kind: bytes = b"webauthn.get",
        rest: bytes = b',"crossOrigin":false}',
    ) -> bytes:
        """Sign as in a browser, on a page of `origin`; the signature may claim to be from `shown_origin`."""
        self._counter += 1
        challenge = base64.urlsafe_b64encode(data).rstrip(b"=")
        client = b'{"type":"' + kind + b'","challenge":"' + challenge + b'","origin":"' + origin + b'"' + rest
        head = bytes((flags,)) + self._counter.to_bytes(4, "big")
        application = hashlib.sha256(self.public_key.application.encode()).digest()
        raw = self.raw(application + head + extensions + hashlib.sha256(client).digest())
        shown = origin if shown_origin is None else shown_origin
        return string(WEBAUTHN.encode()) + string(raw) + head + string(shown) + string(client) + string(extensions)


def token(key_type: str, application: str = "ssh:") -> Token:
    return Token(Ed25519Key(bytes(32)) if key_type == ED25519 else ECDSAKey.generate(), application)
