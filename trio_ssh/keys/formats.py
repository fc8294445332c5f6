"""Any file that holds a private key, brought to the form of openssh-key-v1.

OpenSSH's own format needs nothing but its container opened, and PuTTY's is read beside this.  PEM files (PKCS#1,
SEC1, PKCS#8, encrypted or not) are read and written by cryptography, and their numbers written down as
openssh-key-v1 has them, so that a kind of key reads one form only.  What is not a private key is told apart by its
first words, and named in the error.
"""

from __future__ import annotations

import binascii
import math
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from trio_ssh.errors import KeyFileException
from trio_ssh.keys.container import (
    LABEL,
    PrivatePart,
    open_container,
    passphrase_required,
    read_public_blob,
    wrong_passphrase,
)
from trio_ssh.keys.disk import (
    KEY_FILE_BYTES,
    FilePath,
    read_key_file,
    refuse_open_permissions,
    shown_path,
)
from trio_ssh.keys.putty import BEGINNING, open_putty
from trio_ssh.wire.message import Message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")

#: PEM files that cryptography is asked to read.
_PEM_LABELS: Final = (
    b"RSA PRIVATE KEY",
    b"EC PRIVATE KEY",
    b"DSA PRIVATE KEY",
    b"PRIVATE KEY",
    b"ENCRYPTED PRIVATE KEY",
)

_DEK_INFO: Final = re.compile(rb"^DEK-Info: *([A-Za-z0-9-]+), *([0-9A-Fa-f]+)$", re.MULTILINE)

#: Ciphers of encrypted PEM files, and the hexadecimal digits of their iv.
_IV_DIGITS: Final = {b"AES-128-CBC": 32, b"AES-192-CBC": 32, b"AES-256-CBC": 32, b"DES-EDE3-CBC": 16}

_CURVES: Final = {"secp256r1": "nistp256", "secp384r1": "nistp384", "secp521r1": "nistp521"}

#: How a file begins -> what it is, and what to do.  {name} is the file's name, quoted for a shell.
_STRANGERS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"SSH PRIVATE KEY FILE FORMAT 1.1", "this is a key of SSH 1. Make a new one: `ssh-keygen -t ed25519`"),
    (b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY", "this is a key of ssh.com's. Convert it with puttygen"),
    (b"---- BEGIN SSH2 PUBLIC KEY", "this is a public key. Give the file that holds the private one"),
    (b"-----BEGIN PUBLIC KEY-----", "this is a public key. Give the file that holds the private one"),
    (b"-----BEGIN RSA PUBLIC KEY-----", "this is a public key. Give the file that holds the private one"),
    (b"-----BEGIN CERTIFICATE", "this is an X.509 certificate. Give the file that holds the private key"),
    (b"\xff\xfe", "this is UTF-16 text. Save it as plain ASCII"),
    (b"\xfe\xff", "this is UTF-16 text. Save it as plain ASCII"),
    (b"\x30\x82", "this is a key in DER. Convert it: `openssl pkey -inform DER -in {name} -out NEW_FILE`"),
)  # fmt: skip

#: How lines with public keys begin: types, the names of certificates among them.
_PUBLIC_LINE: Final = re.compile(rb"(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)[A-Za-z0-9@.-]+[ \t]+AAAA")

#: A key derivation that counts beyond these isn't run.  The largest in use count below a million.
_LARGEST_COUNT: Final = 1 << 24
_LARGEST_WORK: Final = 1 << 31

#: RFC 7914 s7: the name of scrypt, whose numbers multiply to the memory that it takes: 128 bytes each.  Measured: these
#: are 1 GiB, and 4 s.
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_LARGEST_SCRYPT: Final = 1 << 23

#: Bytes of the longest name of a derivation with its parameters.  The usual ones have a hundred.
_IDENTIFIER_BYTES: Final = 1024


def open_private_key(data: bytes, passphrase: str | bytes | None, name: str) -> PrivatePart:
    """Find the private key in a file's content, and open it.

    Args:
        data: the content, of any kind.
        passphrase: may be given for a key that isn't encrypted.
        name: how error messages call the key.

    Raises:
        PasswordRequiredException: the key is encrypted, and no passphrase was given.
        KeyFileException: for any other reason that there is no key.
    """
    if len(data) > KEY_FILE_BYTES:
        raise KeyFileException(
            f"{name}: it has more than {KEY_FILE_BYTES >> 20} MiB, which no key has. Check the path."
        )
    label, body = _find_private_key(data, name)
    return _open(label, body, passphrase, name)


def open_private_key_file(
    path: FilePath, passphrase: str | bytes | None, *, check_permissions: bool = True
) -> PrivatePart:
    """Open the private key in a file.

    Args:
        path: the file.
        passphrase: may be given for a key that isn't encrypted.
        check_permissions: whether a file of ours that others may read is refused, as OpenSSH refuses it.

    Raises:
        PasswordRequiredException: the key is encrypted, and no passphrase was given.
        KeyFileException: for any other reason that there is no key.
    """
    name = shown_path(path)
    data, status = read_key_file(path)
    label, body = _find_private_key(data, name)
    # Not earlier: a public key, which is readable by all, shall be called one.
    if check_permissions:
        refuse_open_permissions(name, status)
    return _open(label, body, passphrase, name)


def public_blob_in(data: bytes, name: str) -> bytes | None:
    """Return the public key that a private one's file shows without its passphrase; None where the format doesn't.

    Raises:
        KeyFileException: there is no private key, or it is damaged.
    """
    label, body = _find_private_key(data, name)
    return read_public_blob(body, name) if label == LABEL else None


def _open(label: bytes, body: bytes, passphrase: str | bytes | None, name: str) -> PrivatePart:
    if isinstance(passphrase, str):
        passphrase = _passphrase_bytes(passphrase, name)
    if label == LABEL:
        return open_container(body, passphrase, name)
    if label == BEGINNING:
        return open_putty(body, passphrase, name)
    return _open_pem(label, body, passphrase, name)


def _passphrase_bytes(passphrase: str, name: str) -> bytes:
    try:
        return passphrase.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise KeyFileException(f"wrong passphrase for {name}: it is not valid text") from None


def _find_private_key(data: bytes, name: str) -> tuple[bytes, bytes]:
    """Return label and body of the first private key in PEM armour, whatever stands before it; or a PuTTY key."""
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(BEGINNING):
        return BEGINNING, text
    for begin in _BEGIN.finditer(data):
        label = begin[1]
        if label == LABEL or label in _PEM_LABELS:
            end = data.find(b"-----END " + label + b"-----", begin.end())
            if end < 0:
                raise KeyFileException(
                    f"{name}: the private key is cut short, its END line is missing. Restore it from a copy."
                )
            return label, data[begin.end() : end]
    raise KeyFileException(f"{name}: {_what_it_is(data).format(name=shlex.quote(name))}.")


_LONGEST_PATH: Final = 4096


def _what_it_is(data: bytes) -> str:
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "the file is empty. Restore it from a copy"
    for beginning, what in _STRANGERS:
        if text.startswith(beginning):
            return what
    if _PUBLIC_LINE.match(text):
        return "this is a public key. Give the file of the private one, mostly of the same name without .pub"
    if b"\n" not in text and len(text) < _LONGEST_PATH and text.startswith((b"/", b"~", b".")):
        return "this looks like a path, and not like the content of a file. Use load_private_key_file"
    return "there is no private key in it. `ssh-keygen -y -f {name}` should be able to read it"


# -- PEM


def _open_pem(label: bytes, body: bytes, passphrase: bytes | None, name: str) -> PrivatePart:
    headers, encoded = _split_headers(body)
    if label == b"ENCRYPTED PRIVATE KEY":
        _refuse_endless_derivation(encoded, name)
    is_encrypted = label == b"ENCRYPTED PRIVATE KEY" or bool(headers)
    if headers:
        headers = _checked_headers(headers, name)
    block = b"-----BEGIN " + label + b"-----\n" + headers + encoded + b"\n-----END " + label + b"-----\n"
    try:
        return _part_of(_load_pem(block, passphrase, name), name)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        if passphrase and is_encrypted:
            raise KeyFileException(f"{wrong_passphrase(name)} ({error})") from None
        raise KeyFileException(f"{name}: the private key is damaged or unsupported ({error})") from None


def _load_pem(block: bytes, passphrase: bytes | None, name: str) -> object:
    # Measured: importing cryptography's serialization costs 11 ms, and few keys are kept as PEM.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        # RSA's numbers are checked where its key is made.
        return load_pem_private_key(block, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:  # it is encrypted
        if not passphrase:
            raise passphrase_required(name) from None
        return load_pem_private_key(block, passphrase, unsafe_skip_rsa_key_validation=True)


def _split_headers(body: bytes) -> tuple[bytes, bytes]:
    """RFC 1421 s4.6: return the headers, if they speak of encryption, and what stands behind them."""
    text = b"\n".join(line.strip() for line in body.strip().splitlines())
    headers, _, encoded = text.rpartition(b"\n\n")
    if b":" not in headers:
        return b"", text
    return (headers, encoded) if b"ENCRYPTED" in headers or b"DEK-Info" in headers else (b"", encoded)


def _checked_headers(headers: bytes, name: str) -> bytes:
    """Return the header that says how a PEM file is encrypted, once more and without any other."""
    found = _DEK_INFO.findall(headers)
    # Measured: an iv that is too short for its cipher makes the library panic, which is no Exception in Python.
    if len(found) != 1 or len(found[0][1]) != _IV_DIGITS.get(found[0][0]):
        raise KeyFileException(
            f"{name}: the private key is damaged, or encrypted in a way that is not supported. "
            f"If `ssh-keygen -y -f {shlex.quote(name)}` can read it, convert it: "
            f"`ssh-keygen -p -f {shlex.quote(name)}`."
        )
    return b"Proc-Type: 4,ENCRYPTED\nDEK-Info: " + b",".join(found[0]) + b"\n\n"


def _part_of(key: object, name: str) -> PrivatePart:
    """Write a key's numbers down in the order of openssh-key-v1, with an empty comment."""
    fields = Message()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        key_type = "ssh-ed25519"
        public = key.public_key().public_bytes_raw()
        fields.add_string(public).add_string(key.private_bytes_raw() + public)
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        curve = _CURVES[key.curve.name]
        key_type = f"ecdsa-sha2-{curve}"
        point = key.public_key().public_numbers()
        length = (key.key_size + 7) // 8
        fields.add_string(curve).add_string(b"\4" + point.x.to_bytes(length, "big") + point.y.to_bytes(length, "big"))
        fields.add_mpint(key.private_numbers().private_value)
    elif isinstance(key, rsa.RSAPrivateKey):
        key_type = "ssh-rsa"
        numbers = key.private_numbers()
        for number in (
            numbers.public_numbers.n,
            numbers.public_numbers.e,
            numbers.d,
            numbers.iqmp,
            numbers.p,
            numbers.q,
        ):
            fields.add_mpint(number)
    elif isinstance(key, ed448.Ed448PrivateKey):
        key_type = "ssh-ed448"
        public = key.public_key().public_bytes_raw()
        fields.add_string(public).add_string(key.private_bytes_raw() + public)
    elif isinstance(key, dsa.DSAPrivateKey):
        key_type = "ssh-dss"
        private = key.private_numbers()
        parameters = private.public_numbers.parameter_numbers
        for number in (parameters.p, parameters.q, parameters.g, private.public_numbers.y, private.x):
            fields.add_mpint(number)
    else:
        kind = f"EC on {key.curve.name}" if isinstance(key, ec.EllipticCurvePrivateKey) else type(key).__name__
        raise KeyFileException(f"{name}: SSH has no keys of this kind ({kind}). Make another: `ssh-keygen -t ed25519`.")
    return PrivatePart(key_type, fields.add_string(b"").asbytes())


def write_pem(key: PrivateKeyTypes, passphrase: bytes | None, *, is_pkcs8: bool) -> bytes:
    """Return a key as PEM.

    Args:
        key: as cryptography has it.
        passphrase: encrypts it; None or nothing leaves it readable.
        is_pkcs8: write PKCS#8, rather than the older format of the key's kind.

    Raises:
        ValueError: the kind has no older format, or the passphrase is too long for one.
    """
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 -- see _load_pem
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    if not is_pkcs8 and not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey):
        raise ValueError("keys of this kind have no PEM format but PKCS#8: write that, or OpenSSH's format")
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8 if is_pkcs8 else PrivateFormat.TraditionalOpenSSL, encryption
    )


# -- the cost of a passphrase in PKCS#8


def _refuse_endless_derivation(body: bytes, name: str) -> None:
    """Refuse a key whose header asks for more work than any passphrase needs: the library would do it all."""
    try:
        identifier = _algorithm_identifier(binascii.a2b_base64(body))
        # What is not looked at would be run: a salt of a thousand bytes stands before the number that counts.
        if len(identifier) > _IDENTIFIER_BYTES:
            raise KeyFileException(
                f"{name}: how its key is derived from the passphrase takes {len(identifier)} bytes to say, as no key "
                f"needs. Encrypt it anew: `ssh-keygen -p -f {shlex.quote(name)}`."
            )
        counts = list(_integers(identifier))
    except (binascii.Error, IndexError):
        return  # not DER: the library will say so at once
    work = math.prod(filter(None, counts))
    if max(counts, default=0) > _LARGEST_COUNT or work > (_LARGEST_SCRYPT if _SCRYPT in identifier else _LARGEST_WORK):
        raise KeyFileException(
            f"{name}: deriving its key from the passphrase would take absurdly long ({max(counts)} rounds). "
            f"Encrypt it anew: `ssh-keygen -p -f {shlex.quote(name)}`."
        )


def _element(der: bytes, offset: int, limit: int) -> tuple[int, int, int]:
    """Return the tag of a DER element, and where its content begins and ends: at `limit`, if it claims more."""
    tag, length = der[offset], der[offset + 1]
    start = offset + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    # Clamped to what it is nested in, each byte is looked at once; else the cost would double with each level.
    return tag, min(start, limit), min(start + length, limit)


def _algorithm_identifier(der: bytes) -> bytes:
    """RFC 5958 s3: an EncryptedPrivateKeyInfo begins with the name of the derivation and its parameters."""
    _, start, end = _element(der, 0, len(der))
    _, start, end = _element(der, start, end)
    return der[start:end]


def _integers(der: bytes) -> Iterator[int]:
    """Yield the integers in `der`, also those nested in sequences."""
    pending = [(0, len(der))]
    while pending:
        offset, end = pending.pop()
        while offset < end:
            tag, start, offset = _element(der, offset, end)
            if tag == 0x30:
                pending.append((start, offset))
            elif tag == 0x02:
                yield int.from_bytes(der[start : min(offset, start + 16)], "big")  # 16 bytes are too much already
