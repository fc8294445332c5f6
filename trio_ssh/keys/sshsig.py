"""Signatures of data, by the keys that people log in with: what ``ssh-keygen -Y`` and ``git`` make and verify.

`sign_data` makes an `SSHSignature`, and `verify_data` believes one, or raises.  A namespace says what a signature is
for (``file``, ``git``, or a name of yours), so that one which was made for another purpose proves nothing.

Source: OpenSSH PROTOCOL.sshsig.
"""

from __future__ import annotations

import binascii
import hashlib
import inspect
import re
from typing import BinaryIO, Final, Self

import attrs

from trio_ssh.errors import KeyFileException, RemoteProtocolError, SignatureException
from trio_ssh.keys.allowed_signers import AllowedSigners
from trio_ssh.keys.certificate import Authority, Certificate, refuse_anothers
from trio_ssh.keys.certification import is_certificate_type
from trio_ssh.keys.disk import KEY_FILE_BYTES, FilePath, read_file, shown_path
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.wire.fields import TEXT, String, Structure, Text, UInt32, structure
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_ARMOUR: Final = re.compile(rf"\s*{_BEGIN}[ \t]*\r?\n([A-Za-z0-9+/=\s]*)\n{_END}\s*")

#: Bytes that are read of a file at once.
_PIECE_BYTES: Final = 1 << 18

#: The hashes that data may be signed through.
HASHES: Final = ("sha512", "sha256")

Data = bytes | BinaryIO
"""What is signed: bytes, or a file that was opened for reading bytes, from where it stands to its end."""


@structure
class SignatureBlob(Structure):
    """What stands in a signature's armour, behind its magic word."""

    version: UInt32
    signer: String
    namespace: Text
    reserved: String
    hash_name: Text
    signature: String


@attrs.frozen(kw_only=True)
class SSHSignature:
    """A signature of data, with what signed it.

    Attributes:
        signer: the key that signed; or a certificate, whose key did.
        namespace: what it is for.
        hash_name: the hash that the data went through: ``"sha512"`` or ``"sha256"``.
        signature: the signature proper, as on the wire.
        reserved: what a later version of the format may say; it is signed, too.
    """

    signer: PublicKey | Certificate
    namespace: str
    hash_name: str
    signature: bytes = attrs.field(repr=False)
    reserved: bytes = b""

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Read what stands in the armour.

        Raises:
            RemoteProtocolError: it is no signature, or one that can't be verified.
        """
        if not blob.startswith(_MAGIC):
            raise RemoteProtocolError("a signature that does not begin with SSHSIG")
        read = SignatureBlob.decode(blob, len(_MAGIC))
        if read.version != _VERSION:
            raise RemoteProtocolError(f"a signature of the unknown version {read.version}")
        if not read.namespace:
            raise RemoteProtocolError("a signature without a namespace")
        if read.hash_name not in HASHES:
            raise RemoteProtocolError(f"a signature through the hash '{printable(read.hash_name, 64)}'")
        return cls(
            signer=_read_signer(read.signer),
            namespace=read.namespace,
            hash_name=read.hash_name,
            signature=read.signature,
            reserved=read.reserved,
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the content of a ``.sig`` file.

        Raises:
            SignatureException: it is no signature, or one that can't be verified.
        """
        found = _ARMOUR.fullmatch(text) if len(text) <= KEY_FILE_BYTES else None
        if found is None:
            raise SignatureException(f"this is no signature: it does not stand between {_BEGIN} and {_END}")
        try:
            return cls.from_blob(binascii.a2b_base64("".join(found[1].split()), strict_mode=True))
        except binascii.Error:
            raise SignatureException("the signature is damaged: it is not base64") from None
        except RemoteProtocolError as error:
            raise SignatureException(f"the signature is damaged, or can't be verified here: {error}") from None

    @classmethod
    def from_path(cls, path: FilePath) -> Self:
        """Read a ``.sig`` file.

        Raises:
            OSError: there is no such file, or it can't be read.
            SignatureException: there is no signature in it; the text names the file.
        """
        try:
            return cls.from_text(read_file(path, KEY_FILE_BYTES)[0].decode("ascii", "replace"))
        except (SignatureException, KeyFileException) as error:
            raise SignatureException(f"{shown_path(path)}: {error}") from None

    def to_blob(self) -> bytes:
        """Return what stands in the armour."""
        signer, hash_name = self.signer.blob, self.hash_name
        blob = SignatureBlob(_VERSION, signer, self.namespace, self.reserved, hash_name, self.signature)
        return _MAGIC + blob.encode()

    def to_openssh(self) -> str:
        """Return the content of a ``.sig`` file."""
        encoded = binascii.b2a_base64(self.to_blob(), newline=False).decode("ascii")
        lines = [encoded[start : start + 70] for start in range(0, len(encoded), 70)]
        return "\n".join((_BEGIN, *lines, _END, ""))

    def check(self, data: Data, *, namespace: str) -> None:
        """Do nothing if `signer` signed `data` for `namespace`; whether it may is not asked.

        Raises:
            SignatureException: it did not.
        """
        if self.namespace != namespace:
            raise SignatureException(
                f"the signature was made for '{printable(self.namespace, 64)}', not for '{printable(namespace, 64)}'"
            )
        key = self.signer.public_key if isinstance(self.signer, Certificate) else self.signer
        signed = _signed_data(namespace, self.reserved, self.hash_name, data)
        try:
            algorithm, _ = TEXT.read(self.signature, 0)
            # Not whatever the key can verify: the name comes from the signature, and might be a broken algorithm's.
            if algorithm not in key.algorithms:
                raise RemoteProtocolError(f"an {key.key_type} key's signature by {printable(algorithm, 64)}")
            key.verify(signed, self.signature, algorithm)
        except RemoteProtocolError as error:
            raise SignatureException(f"the signature does not fit the data: {error}") from None


def sign_data(
    key: Authority,
    data: Data,
    *,
    namespace: str,
    hash_name: str = "sha512",
    certificate: Certificate | None = None,
) -> SSHSignature:
    """Sign data, as ``ssh-keygen -Y sign`` does.

    Args:
        key: the private key: any `PKey`.
        data: bytes of any length, or an open file.
        namespace: what the signature is for, such as ``"file"``; verifying needs the same.
        hash_name: ``"sha512"`` or ``"sha256"``.
        certificate: one of `key`, to stand in the signature in the key's place.

    Raises:
        ValueError: there is no namespace, or the hash is unknown.
        KeyFileException: the certificate is one of another key.
    """
    if not namespace:
        raise ValueError("a signature is for something: give it a namespace, such as 'file'")
    if hash_name not in HASHES:
        raise ValueError(f"data are signed through {' or '.join(HASHES)}, not {hash_name}")
    if certificate is not None:
        refuse_anothers(certificate, key.public_key)
    signature: object = key.sign(_signed_data(namespace, b"", hash_name, data))
    if not isinstance(signature, bytes):
        if inspect.iscoroutine(signature):
            signature.close()
        raise TypeError(f"{type(key).__name__} signs elsewhere, and has to be waited for: give a private key")
    signer = certificate or key.public_key
    return SSHSignature(signer=signer, namespace=namespace, hash_name=hash_name, signature=signature)


def verify_data(
    data: Data,
    signature: SSHSignature | str,
    *,
    namespace: str,
    principal: str,
    signers: AllowedSigners,
    now: float,
    revoked: KeyRevocationList | None = None,
) -> SSHSignature:
    """Return the signature if `principal` signed `data` for `namespace`, as ``ssh-keygen -Y verify`` does.

    Args:
        data: bytes of any length, or an open file.
        signature: the signature, or the content of its file.
        namespace: what it has to be for.
        principal: who has to have signed.
        signers: who may.
        now: seconds since the epoch: when it was signed, if that is known for certain, else the present.
        revoked: keys and certificates that are not believed any more.

    Raises:
        SignatureException: the signature is damaged, wrong, for something else, or by somebody who may not.
    """
    read = SSHSignature.from_text(signature) if isinstance(signature, str) else signature
    read.check(data, namespace=namespace)
    if revoked is not None and revoked.is_revoked(read.signer):
        raise SignatureException(f"the signature is by {read.signer}, which was revoked")
    signers.check(principal, read.signer, namespace=namespace, now=now)
    return read


def _read_signer(blob: bytes) -> PublicKey | Certificate:
    key_type, _ = TEXT.read(blob, 0)
    return Certificate.from_blob(blob) if is_certificate_type(key_type) else parse_public_key(blob)


def _signed_data(namespace: str, reserved: bytes, hash_name: str, data: Data) -> bytes:
    """PROTOCOL.sshsig s3: what the key signs.  No other message of SSH begins with these six bytes."""
    digest = hashlib.new(hash_name)
    if isinstance(data, bytes):
        digest.update(data)
    else:
        while piece := data.read(_PIECE_BYTES):
            digest.update(piece)
    message = Message(_MAGIC).add_string(namespace).add_string(reserved).add_string(hash_name)
    return message.add_string(digest.digest()).asbytes()
