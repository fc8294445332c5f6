"""Mathematics on bytes: ciphers, MACs, compression, key agreement.  Knows no message and no state machine.

Importing the package fills its registries, so that a name that is looked up is there whichever module was
imported first.

``registry``          algorithms by their wire name
``mac``               RFC 6668: HMAC, and what a MAC is
``cipher``            what protects one direction of a connection, and no protection at all
``aes_gcm``           RFC 5647 under OpenSSH's names: AES-GCM
``chacha20``          ChaCha20 and Poly1305 as OpenSSH combines them
``aes_ctr``           RFC 4344: AES-CTR beside a MAC, in both orders
``aes_cbc``           AES-CBC and 3DES beside a MAC, for old peers
``compression``       RFC 4253 s6.2: zlib once authenticated, or nothing
``agreement``         what a key agreement is
``agreement_ecdh``    RFC 5656 and RFC 8731: NIST curves, Curve25519 and Curve448
``agreement_dh``      RFC 8268 and RFC 4419: Diffie-Hellman over finite fields
``agreement_hybrid``  ML-KEM beside a curve
``moduli``            groups for RFC 4419's exchange, from a file
``derive``            RFC 4253 s7.2: keys from a shared secret
``defaults``          what is offered, best first
"""

from __future__ import annotations

from trio_ssh.crypto import (
    aes_cbc,
    aes_ctr,
    aes_gcm,
    agreement_dh,
    agreement_ecdh,
    agreement_hybrid,
    chacha20,
    compression,
)

__all__ = [
    "aes_cbc",
    "aes_ctr",
    "aes_gcm",
    "agreement_dh",
    "agreement_ecdh",
    "agreement_hybrid",
    "chacha20",
    "compression",
]
