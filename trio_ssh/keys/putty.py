"""PuTTY's key files (``.ppk``), versions 2 and 3, brought to the form of openssh-key-v1.  They are read, not written.

A file is lines of text: the public key, the private fields, and a MAC over both and all that is said of them, which
for a key without a passphrase is a mere checksum.

Source: PuTTY's manual, appendix C.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.container import PrivatePart, passphrase_required, reading, wrong_passphrase
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

#: How every such file begins.
BEGINNING: Final = b"PuTTY-User-Key-File-"

_NONE: Final = b"none"
_AES: Final = b"aes256-cbc"
_BLOCK: Final = 16

#: A file says how much work it is to open.  Measured: 2**25 KiB to write take some 16 s; PuTTY asks for 170,000.
_LARGEST_MEMORY_KIB: Final = 1 << 20
_LARGEST_WORK_KIB: Final = 1 << 25
_MOST_LANES: Final = 64

_NUMBER: Final = re.compile(rb"[0-9]{1,9}")
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2}){1,1024}")


_Keys = tuple[bytes, bytes, bytes]
"""What a passphrase becomes: the cipher's key and iv, and the MAC's key."""


class _Lines:
    """A file's lines, taken from the top."""

    __slots__ = ("_lines",)

    def __init__(self, data: bytes) -> None:
        self._lines = data.splitlines()[::-1]

    def value(self, name: bytes) -> bytes:
        """Take the line ``name: value``, which must be next."""
        head = name + b": "
        line = self._lines.pop() if self._lines else b""
        if not line.startswith(head):
            raise RemoteProtocolError(f"its line {name.decode('ascii')} is missing")
        return line[len(head) :]

    def number(self, name: bytes) -> int:
        """Take a line whose value is a decimal number."""
        value = self.value(name)
        if not _NUMBER.fullmatch(value):
            raise RemoteProtocolError(f"its line {name.decode('ascii')} holds no number")
        return int(value)

    def hexadecimal(self, name: bytes) -> bytes:
        """Take a line whose value is bytes in hexadecimal."""
        value = self.value(name)
        if not _HEX.fullmatch(value):
            raise RemoteProtocolError(f"its line {name.decode('ascii')} is not hexadecimal")
        return bytes.fromhex(value.decode("ascii"))

    def blob(self, name: bytes) -> bytes:
        """Take the line that counts lines of base64, and those."""
        count = self.number(name)
        if count > len(self._lines):
            raise RemoteProtocolError("it is cut short")
        encoded = b"".join(self._lines.pop() for _ in range(count))
        try:
            return binascii.a2b_base64(encoded, strict_mode=True)
        except binascii.Error as error:
            raise RemoteProtocolError(str(error)) from None


def open_putty(data: bytes, passphrase: bytes | None, name: str) -> PrivatePart:
    """Open a PuTTY key file.

    Args:
        data: the whole file.
        passphrase: may be given for a key that isn't encrypted; it is not looked at then.
        name: how error messages call the key.

    Raises:
        PasswordRequiredException: the key is encrypted, and there is no passphrase.
        KeyFileException: the passphrase is wrong, or the file is.
    """
    with reading(name):
        return _open(_Lines(data), data[len(BEGINNING) : len(BEGINNING) + 2], passphrase, name)


def _open(lines: _Lines, version: bytes, passphrase: bytes | None, name: str) -> PrivatePart:
    if version not in (b"2:", b"3:"):
        raise KeyFileException(
            f"{name}: this is a PuTTY key of version {printable(version[:1])}, and 2 and 3 are supported. "
            "Load it into PuTTYgen and save it again."
        )
    key_type = lines.value(BEGINNING + version[:1])
    cipher = lines.value(b"Encryption")
    if cipher not in (_NONE, _AES):
        raise KeyFileException(
            f"{name}: the key is encrypted with {printable(cipher)}, which is not supported. "
            "Load it into PuTTYgen and save it again."
        )
    comment = lines.value(b"Comment")
    public = lines.blob(b"Public-Lines")
    if cipher == _AES and not passphrase:
        raise passphrase_required(name)
    secret = passphrase if cipher == _AES and passphrase else None
    cipher_key, iv, mac_key = _derive_3(lines, secret, name) if version == b"3:" else _derive_2(secret)
    private = lines.blob(b"Private-Lines")
    mac = lines.hexadecimal(b"Private-MAC")
    if secret is not None:
        if not private or len(private) % _BLOCK:
            raise RemoteProtocolError(f"its private part has {len(private)} bytes, which no cipher produces")
        decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).decryptor()
        private = decryptor.update(private) + decryptor.finalize()
    covered = Message()
    for part in (key_type, cipher, comment, public, private):
        covered.add_string(part)
    hash_name = "sha256" if version == b"3:" else "sha1"
    if not hmac.compare_digest(hmac.digest(mac_key, covered.asbytes(), hash_name), mac):
        if secret is not None:
            raise wrong_passphrase(name)
        raise RemoteProtocolError("its checksum is wrong")
    shown_type = key_type.decode("utf-8", "surrogateescape")
    fields = _fields_of(shown_type, public, private, _BLOCK if secret is not None else 1)
    return PrivatePart(shown_type, fields + Message().add_string(comment).asbytes(), public)


# -- what a passphrase becomes


def _derive_2(passphrase: bytes | None) -> _Keys:
    """Version 2: SHA-1, once.  The salt is a word, so a passphrase had better be long."""
    secret = passphrase or b""

    def sha1(text: bytes) -> bytes:
        return hashlib.sha1(text + secret, usedforsecurity=False).digest()

    key = sha1(bytes(4)) + sha1(b"\0\0\0\1")
    return key[:32], bytes(_BLOCK), sha1(b"putty-private-key-file-mac-key")


def _derive_3(lines: _Lines, passphrase: bytes | None, name: str) -> _Keys:
    """Version 3: Argon2, as costly as the file says; a key without a passphrase has an empty MAC key."""
    if passphrase is None:
        return b"", b"", b""
    flavour = lines.value(b"Key-Derivation")
    memory_kib = lines.number(b"Argon2-Memory")
    passes = lines.number(b"Argon2-Passes")
    lanes = lines.number(b"Argon2-Parallelism")
    salt = lines.hexadecimal(b"Argon2-Salt")
    # Told from the header: the function that these numbers steer must not run with them first.
    if memory_kib > _LARGEST_MEMORY_KIB or memory_kib * passes > _LARGEST_WORK_KIB or lanes > _MOST_LANES:
        raise KeyFileException(
            f"{name}: deriving its key from the passphrase would take absurdly long ({memory_kib} KiB, {passes} "
            f"passes, {lanes} lanes). Load it into PuTTYgen and save it again."
        )
    material = _argon2(flavour, passphrase, salt, memory_kib, passes, lanes)
    return material[:32], material[32:48], material[48:]


def _argon2(flavour: bytes, passphrase: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    # Measured: the import costs 2 ms, and few keys are PuTTY's.
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2d, Argon2i, Argon2id  # noqa: PLC0415

    functions: dict[bytes, type[Argon2d | Argon2i | Argon2id]] = {
        b"Argon2d": Argon2d,
        b"Argon2i": Argon2i,
        b"Argon2id": Argon2id,
    }
    if flavour not in functions:
        raise RemoteProtocolError(f"its passphrase goes through '{printable(flavour)}', which is not known")
    try:
        function = functions[flavour](salt=salt, length=80, iterations=passes, lanes=lanes, memory_cost=memory_kib)
        return function.derive(passphrase)
    except ValueError as error:  # a salt too short, no pass at all
        raise RemoteProtocolError(str(error)) from None


# -- from PuTTY's fields to openssh-key-v1's


def _rsa(public: Message, private: Message) -> Message:
    e, n = public.get_mpint(), public.get_mpint()
    d, p, q, iqmp = (private.get_mpint() for _ in range(4))
    fields = Message()
    for number in (n, e, d, iqmp, p, q):
        fields.add_mpint(number)
    return fields


def _dsa(public: Message, private: Message) -> Message:
    fields = Message()
    for _ in range(4):
        fields.add_mpint(public.get_mpint())
    return fields.add_mpint(private.get_mpint())


def _ecdsa(public: Message, private: Message) -> Message:
    return Message().add_string(public.get_string()).add_string(public.get_string()).add_mpint(private.get_mpint())


def _eddsa(public: Message, private: Message) -> Message:
    point = public.get_string()
    # PuTTY takes the secret for a number, least byte first, and leaves zeros at its end away.
    secret = private.get_string().ljust(len(point), b"\0")
    return Message().add_string(point).add_string(secret + point)


_FIELDS: Final[dict[str, Callable[[Message, Message], Message]]] = {
    "ssh-rsa": _rsa,
    "ssh-dss": _dsa,
    "ecdsa-sha2-nistp256": _ecdsa,
    "ecdsa-sha2-nistp384": _ecdsa,
    "ecdsa-sha2-nistp521": _ecdsa,
    "ssh-ed25519": _eddsa,
    "ssh-ed448": _eddsa,
}


def _fields_of(key_type: str, public: bytes, private: bytes, block: int) -> bytes:
    """Return a key's fields in the order of openssh-key-v1; none at all of a type that PuTTY has and we don't."""
    convert = _FIELDS.get(key_type)
    if convert is None:
        return b""
    public_fields, private_fields = Message(public), Message(private)
    public_fields.get_string()  # the type; whoever makes the key compares the public key as a whole
    fields = convert(public_fields, private_fields)
    # The MAC covers the padding, whatever is in it.
    if len(private_fields.get_remainder()) >= block:
        raise RemoteProtocolError("its private part is too long")
    return fields.asbytes()
