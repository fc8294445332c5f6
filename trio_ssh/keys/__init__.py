"""Keys, and the files that hold them.  Nothing here waits: those above call what reads a file from a thread.

Importing the package makes every kind of key known, whichever module was imported first.

``disk``               reading key files with care; writing files so that they are whole or untouched
``container``          openssh-key-v1: the private part of a key, sealed under a passphrase
``putty``              PuTTY's key files, brought to the form of openssh-key-v1
``formats``            any file that holds a private key, brought to the form of openssh-key-v1
``randomart``          the picture of a key
``rfc4716``            public keys in the armour of other programs
``public_key``         `PublicKey`, from the wire and from text
``signer``             `Signer`, whatever signs for a public key
``patterns``           OpenSSH's host patterns
``certification``      what a certificate says, and how it stands on the wire
``certificate``        `Certificate`: a public key, and an authority's word on it
``private_key``        `PKey`, from files and to them
``certified_key``      `CertifiedKey`: a private key that shows its certificate
``ed25519``            RFC 8709: Ed25519
``ecdsa``              RFC 5656: the three NIST curves
``rsa``                RFC 8332: RSA with SHA-2
``ed448``              RFC 8709: Ed448
``dsa``                RFC 4253: DSA, for what can't do better
``security_key``       keys that live in hardware
``mldsa``              Ed25519 beside ML-DSA-44
``files``              private keys of any kind, from bytes and from files
``lock``               one writer of a file at a time
``known_hosts_line``   one line of known_hosts
``known_hosts``        which host has which key
``sshfp``              fingerprints of hosts' keys in the DNS
``krl``                which keys and certificates are revoked
``times``              times as OpenSSH's files have them
``key_restrictions``   what a login may not do, because its key says so
``authorized_keys``    which keys may log in, and what with
``allowed_signers``    whose signatures of data are believed
``sshsig``             signatures of data
``agent_constraints``  what a key in an agent may be used for
``agent_protocol``     what is said to an agent, and what it says
"""

from __future__ import annotations

from trio_ssh.keys import dsa, ecdsa, ed448, ed25519, mldsa, rsa, security_key

__all__ = ["dsa", "ecdsa", "ed448", "ed25519", "mldsa", "rsa", "security_key"]
