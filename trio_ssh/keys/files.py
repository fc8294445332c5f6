"""Keys of any kind, from bytes and from files.

All of it blocks, for a second and more where there is a passphrase: those who run an event loop call it from a
thread, as `trio.to_thread.run_sync` does.
"""

from __future__ import annotations

from trio_ssh.errors import KeyFileException
from trio_ssh.keys.disk import FilePath, read_key_file, shown_path
from trio_ssh.keys.private_key import MINIMUM_RSA_BITS, PKey
from trio_ssh.keys.public_key import PublicKey, load_public_key_text


def load_private_key(
    data: bytes,
    passphrase: str | bytes | None = None,
    *,
    name: str = "the key",
    minimum_rsa_bits: int = MINIMUM_RSA_BITS,
) -> PKey:
    """Read a private key from the content of a file.

    OpenSSH's own format is read; PEM: PKCS#1, SEC1 and PKCS#8; and PuTTY's, of versions 2 and 3; each encrypted or
    not.  An encrypted one takes up to some seconds: call it from a thread where others must not wait.

    Args:
        data: the content.
        passphrase: opens an encrypted key; for another it is not looked at.
        name: how error messages call the key.
        minimum_rsa_bits: below which an RSA key is refused; less than 1,024 is in any case.

    Raises:
        PasswordRequiredException: the key is encrypted, and no passphrase was given.
        KeyFileException: for any other reason that there is no key; the text says which, and what to do.
    """
    return PKey.from_bytes(data, passphrase, name=name, minimum_rsa_bits=minimum_rsa_bits)


def load_private_key_file(
    path: FilePath,
    passphrase: str | bytes | None = None,
    *,
    check_permissions: bool = True,
    minimum_rsa_bits: int = MINIMUM_RSA_BITS,
) -> PKey:
    """As `load_private_key`, from a file.

    Args:
        path: the file.
        passphrase: opens an encrypted key; for another it is not looked at.
        check_permissions: whether a file of ours that others may read is refused, as OpenSSH refuses it.
        minimum_rsa_bits: below which an RSA key is refused; less than 1,024 is in any case.

    Raises:
        PasswordRequiredException: the key is encrypted, and no passphrase was given.
        KeyFileException: for any other reason that there is no key; the text says which, and what to do.
    """
    return PKey.from_private_key_file(
        path, passphrase, check_permissions=check_permissions, minimum_rsa_bits=minimum_rsa_bits
    )


def load_public_key(data: str | bytes, *, name: str = "the key") -> tuple[PublicKey, str]:
    """Read a public key from the content of a file: a line, as in a ``.pub`` file, or the armour of RFC 4716.

    Args:
        data: the content.
        name: how error messages call the key.

    Returns:
        The key and its comment.

    Raises:
        KeyFileException: there is no usable key in it.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    try:
        return load_public_key_text(text)
    except KeyFileException as error:
        raise KeyFileException(f"{name}: {error}") from None


def load_public_key_file(path: FilePath) -> tuple[PublicKey, str]:
    """Read a file as `load_public_key` does its bytes: return the key and its comment."""
    data, _ = read_key_file(path)
    return load_public_key(data, name=shown_path(path))
