"""What is offered unless the user says otherwise, best first.

Order is policy, and this is the only place for it.  What is safe and fast on today's machines comes first;
what is here at all is what no known attack touches.
"""

from __future__ import annotations

from typing import Final

from trio_ssh.crypto import agreement

#: Key exchange methods.  The hybrid first: what is recorded today must not be read by tomorrow's quantum
#: computers.
KEX: Final[tuple[str, ...]] = tuple(
    name
    for name in (
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
    )
    if name in agreement.KEX  # see agreement_hybrid.is_supported
)

#: Signature algorithms that a host's key or a user's may use.
HOST_KEYS: Final[tuple[str, ...]] = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

#: Those that are enabled where somebody names them, and never by themselves.  The first are rare, or young; the last
#: two are broken.
HOST_KEYS_BY_NAME: Final[tuple[str, ...]] = (
    "ssh-ed448",
    "ssh-mldsa44-ed25519@openssh.com",
    "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
    "ssh-dss",
)

#: Ciphers, by speed: all are strong enough.
CIPHERS: Final[tuple[str, ...]] = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)

#: MACs, for the ciphers that need one.  Encrypt-then-mac first: it refuses a forgery before anything is
#: decrypted.
MACS: Final[tuple[str, ...]] = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)

#: Compressions.  None first: it costs more than most networks do.
COMPRESSIONS: Final[tuple[str, ...]] = (
    "none",
    "zlib@openssh.com",
)
