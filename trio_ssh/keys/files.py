"""Private keys of any kind, from bytes and from files."""

from __future__ import annotations

from trio_ssh.keys.disk import FilePath
from trio_ssh.keys.private_key import PKey


def load_private_key(data: bytes, passphrase: str | bytes | None = None, *, name: str = "the key") -> PKey:
    """Read a private key from the content of a file.

    OpenSSH's own format is read, and PEM: PKCS#1, SEC1 and PKCS#8; each encrypted or not.

    Args:
        data: the content.
        passphrase: opens an encrypted key; for another it is not looked at.
        name: how error messages call the key.

    Raises:
        PasswordRequiredException: the key is encrypted, and no passphrase was given.
        KeyFileException: for any other reason that there is no key; the text says which, and what to do.
    """
    return PKey.from_bytes(data, passphrase, name=name)


def load_private_key_file(
    path: FilePath, passphrase: str | bytes | None = None, *, check_permissions: bool = True
) -> PKey:
    """Read a private key from a file.

    Args:
        path: the file.
        passphrase: opens an encrypted key; for another it is not looked at.
        check_permissions: whether a file of ours that others may read is refused, as OpenSSH refuses it.

    Raises:
        PasswordRequiredException: the key is encrypted, and no passphrase was given.
        KeyFileException: for any other reason that there is no key; the text says which, and what to do.
    """
    return PKey.from_private_key_file(path, passphrase, check_permissions=check_permissions)
