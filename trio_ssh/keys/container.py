"""openssh-key-v1, the container in which OpenSSH keeps a private key: read and written.

It holds the public key in the clear, and a private part that may be encrypted: the key's type, fields that
depend on it, a comment, padding.  This module seals and opens the private part; what the fields mean is not
known here.

Source: OpenSSH PROTOCOL.key; its cipher names are those of the transport protocol.
"""

from __future__ import annotations

import binascii
import contextlib
import os
import shlex
from collections.abc import Callable, Generator
from typing import Final

import attrs
import bcrypt
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from trio_ssh.errors import KeyFileException, PasswordRequiredException, RemoteProtocolError
from trio_ssh.wire.fields import Rest, String, Structure, Text, UInt32, structure
from trio_ssh.wire.text import printable

LABEL: Final = b"OPENSSH PRIVATE KEY"
_MAGIC: Final = b"openssh-key-v1\0"

#: What a key is sealed with unless the caller says otherwise: OpenSSH's own choice.
CIPHER: Final = "aes256-ctr"
_ROUNDS: Final = 24

#: bcrypt rounds beyond which a key isn't opened.  Measured: the usual 16 take 0.13 s, and 2,048 some 16 s.
MAX_ROUNDS: Final = 2048

Decrypt = Callable[[bytes, bytes, bytes, bytes], bytes]
"""(key, iv, sealed, tag) -> opened; ValueError where a tag is wrong."""


@attrs.frozen
class PrivatePart:
    """One private key in the form of openssh-key-v1, from whichever format it came.

    Attributes:
        key_type: the key's type, as on the wire.
        fields: what follows the type: fields that depend on it, the comment, and padding.
        public_blob: the public key that came with it and has yet to be compared, or None.
    """

    key_type: str
    fields: bytes = attrs.field(repr=False)
    public_blob: bytes | None = None


@structure
class Container(Structure):
    """What follows the magic words; `tag` is there if the cipher authenticates."""

    cipher: Text
    kdf: Text
    kdf_options: String
    key_count: UInt32
    public_blob: String
    sealed: String
    tag: Rest


@structure
class BcryptOptions(Structure):
    """How often the passphrase goes through bcrypt, and with which salt."""

    salt: String
    rounds: UInt32


@structure
class OpenedPart(Structure):
    """What stands behind the two equal numbers that show the passphrase to be right."""

    key_type: Text
    fields: Rest = attrs.field(repr=False)


@contextlib.contextmanager
def reading(name: str) -> Generator[None]:
    """Turn what the decoders of the wire say of wrong bytes into what is to be said of the file `name`."""
    try:
        yield
    except RemoteProtocolError as error:
        raise KeyFileException(f"{name}: the private key is damaged ({error}). Restore it from a copy.") from None


def check_padding(padding: bytes) -> None:
    """Refuse padding that is not 1, 2, 3, ...: the key was damaged, or was opened with a wrong passphrase.

    Raises:
        RemoteProtocolError: it is something else.
    """
    if len(padding) > 255 or padding != bytes(range(1, len(padding) + 1)):
        raise RemoteProtocolError("its padding is wrong")


# -- opening


def open_container(body: bytes, passphrase: bytes | None, name: str) -> PrivatePart:
    """Open the container.

    Args:
        body: what lies between the BEGIN and END lines, still in base64.
        passphrase: may be given for a key that isn't encrypted; it is not looked at then.
        name: how error messages call the key.

    Raises:
        PasswordRequiredException: the key is encrypted, and there is no passphrase.
        KeyFileException: the passphrase is wrong, or the container is.
    """
    container = _read_container(body, name)
    with reading(name):
        unsealed = _unseal(container, passphrase, name)
        if len(unsealed) < 8 or unsealed[:4] != unsealed[4:8]:
            if container.cipher != "none":
                raise wrong_passphrase(name)
            raise RemoteProtocolError("its check numbers differ")
        opened = OpenedPart.decode(unsealed, 8)
        return PrivatePart(opened.key_type, opened.fields, container.public_blob)


def _read_container(body: bytes, name: str) -> Container:
    try:
        data = binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
    except binascii.Error as error:
        raise KeyFileException(f"{name}: the private key is damaged ({error}). Restore it from a copy.") from None
    with reading(name):
        if not data.startswith(_MAGIC):
            raise RemoteProtocolError("it does not begin with openssh-key-v1")
        container = Container.decode(data, len(_MAGIC))
        if container.key_count != 1:
            raise RemoteProtocolError(f"it claims to hold {container.key_count} keys")
        return container


def read_public_blob(body: bytes, name: str) -> bytes:
    """Return the public key, which is in the clear, as it is on the wire; whether the private one fits isn't known.

    Raises:
        KeyFileException: the container is damaged.
    """
    return _read_container(body, name).public_blob


def wrong_passphrase(name: str) -> KeyFileException:
    """Return what to raise where the passphrase doesn't fit."""
    return KeyFileException(f"wrong passphrase for {name}; or the file is damaged")


def passphrase_required(name: str) -> PasswordRequiredException:
    """Return what to raise where a passphrase is missing."""
    return PasswordRequiredException(
        f"{name} is encrypted: give its passphrase, `passphrase=` to connect or `password=` to load it"
    )


def _unseal(container: Container, passphrase: bytes | None, name: str) -> bytes:
    if container.cipher == "none":
        if container.kdf != "none" or container.kdf_options or container.tag:
            raise RemoteProtocolError("it names no cipher, but what belongs to one")
        return container.sealed
    if container.cipher not in _CIPHERS:
        raise KeyFileException(
            f"{name}: the key is encrypted with {printable(container.cipher)}, which is not supported. "
            f"Convert it with `ssh-keygen -p -Z aes256-ctr -f {shlex.quote(name)}`."
        )
    if container.kdf != "bcrypt":
        raise KeyFileException(
            f"{name}: its passphrase goes through '{printable(container.kdf)}'; only bcrypt is supported. "
            f"Convert it with `ssh-keygen -p -f {shlex.quote(name)}`."
        )
    options = BcryptOptions.decode(container.kdf_options)
    # Told from the header: the function that these numbers steer must not run with them first.
    if not 1 <= options.rounds <= MAX_ROUNDS:
        raise KeyFileException(
            f"{name}: the key asks for {options.rounds} rounds of bcrypt; 1 to {MAX_ROUNDS} are accepted. "
            f"Convert it with `ssh-keygen -p -a 24 -f {shlex.quote(name)}`."
        )
    if not 1 <= len(options.salt) <= 1024:
        raise RemoteProtocolError(f"its salt has {len(options.salt)} bytes")
    key_length, iv_length, block_length, tag_length, decrypt = _CIPHERS[container.cipher]
    if not container.sealed or len(container.sealed) % block_length or len(container.tag) != tag_length:
        raise RemoteProtocolError(f"its private part has a length that {container.cipher} doesn't produce")
    if not passphrase:
        raise passphrase_required(name)
    material = _derive(passphrase, options.salt, key_length + iv_length, options.rounds)
    try:
        return decrypt(material[:key_length], material[key_length:], container.sealed, container.tag)
    except ValueError:
        raise wrong_passphrase(name) from None


def _derive(passphrase: bytes, salt: bytes, length: int, rounds: int) -> bytes:
    return bcrypt.kdf(passphrase, salt, length, rounds, ignore_few_rounds=True)


def _aes_ctr(key: bytes, iv: bytes, sealed: bytes, tag: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).decryptor()
    return decryptor.update(sealed) + decryptor.finalize()


def _aes_cbc(key: bytes, iv: bytes, sealed: bytes, tag: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(sealed) + decryptor.finalize()


def _aes_gcm(key: bytes, iv: bytes, sealed: bytes, tag: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(iv, sealed + tag, None)
    except InvalidTag:
        raise ValueError("wrong tag") from None


def _chacha20_poly1305(key: bytes, iv: bytes, sealed: bytes, tag: bytes) -> bytes:
    """OpenSSH PROTOCOL.chacha20poly1305, as packet 0, of which no length is encrypted."""

    def stream(counter: int) -> bytes:
        return counter.to_bytes(8, "little") + bytes(8)

    one_time_key = Cipher(algorithms.ChaCha20(key[:32], stream(0)), None).encryptor().update(bytes(32))
    try:
        Poly1305.verify_tag(one_time_key, sealed, tag)
    except InvalidSignature:
        raise ValueError("wrong tag") from None
    return Cipher(algorithms.ChaCha20(key[:32], stream(1)), None).decryptor().update(sealed)


#: Cipher -> bytes of its key, its iv, its block and its tag; and how it is undone.
_CIPHERS: Final[dict[str, tuple[int, int, int, int, Decrypt]]] = {
    "aes256-ctr": (32, 16, 16, 0, _aes_ctr),
    "aes192-ctr": (24, 16, 16, 0, _aes_ctr),
    "aes128-ctr": (16, 16, 16, 0, _aes_ctr),
    "aes256-cbc": (32, 16, 16, 0, _aes_cbc),
    "aes192-cbc": (24, 16, 16, 0, _aes_cbc),
    "aes128-cbc": (16, 16, 16, 0, _aes_cbc),
    "aes256-gcm@openssh.com": (32, 12, 16, 16, _aes_gcm),
    "aes128-gcm@openssh.com": (16, 12, 16, 16, _aes_gcm),
    "chacha20-poly1305@openssh.com": (64, 0, 8, 16, _chacha20_poly1305),
}


# -- sealing

#: What a private part can be sealed with: what OpenSSH seals with by itself, and what it would with a tag.
SEALING_CIPHERS: Final = (CIPHER, "aes256-gcm@openssh.com")


def seal(part: PrivatePart, passphrase: bytes | None, cipher: str = CIPHER, rounds: int | None = None) -> bytes:
    """Return the key as a file's content, as `ssh-keygen` would write it.

    Args:
        part: the key, with its public blob and without padding.
        passphrase: encrypts the private part; None or nothing leaves it readable.
        cipher: one of `SEALING_CIPHERS`.
        rounds: of bcrypt; None for what OpenSSH takes.

    Raises:
        ValueError: there is no such cipher, or not so many rounds.
    """
    if cipher not in SEALING_CIPHERS:
        raise ValueError(f"private keys are sealed with {' or '.join(SEALING_CIPHERS)}, not {cipher!r}")
    if rounds is None:
        rounds = _ROUNDS
    if not 1 <= rounds <= MAX_ROUNDS:
        raise ValueError(f"a passphrase goes through 1 to {MAX_ROUNDS} rounds of bcrypt, not {rounds}")
    opened = os.urandom(4) * 2 + OpenedPart(part.key_type, part.fields).encode()
    key_length, iv_length, block_length, tag_length, _ = _CIPHERS[cipher]
    # PROTOCOL.key: the block length of no cipher is 8.
    opened += bytes(range(1, -len(opened) % (block_length if passphrase else 8) + 1))
    kdf, options, sealed, tag = "none", b"", opened, b""
    if not passphrase:
        cipher = "none"
    else:
        salt = os.urandom(16)
        kdf, options = "bcrypt", BcryptOptions(salt, rounds).encode()
        material = _derive(passphrase, salt, key_length + iv_length, rounds)
        key, iv = material[:key_length], material[key_length:]
        if tag_length:
            sealed = AESGCM(key).encrypt(iv, opened, None)
            sealed, tag = sealed[:-tag_length], sealed[-tag_length:]
        else:
            sealed = _aes_ctr(key, iv, opened, b"")  # a stream cipher undoes itself
    container = Container(cipher, kdf, options, 1, part.public_blob or b"", sealed, tag)
    encoded = binascii.b2a_base64(_MAGIC + container.encode(), newline=False)
    lines = [encoded[start : start + 70] for start in range(0, len(encoded), 70)]
    return b"\n".join((b"-----BEGIN " + LABEL + b"-----", *lines, b"-----END " + LABEL + b"-----", b""))
