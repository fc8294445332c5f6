"""The messages of key exchanges, which share their numbers: what one means, the agreed method says.

RFC 5656 section 4, RFC 8731 and the hybrids built like them send one string each way and differ only in what the
strings hold.  So does RFC 4253 section 8: its values are mpints, which are strings of the shortest two's complement.
RFC 4419 lets the server choose a group first, in messages of its own.  RFC 4462 section 2 and RFC 8732 have GSS-API in
the place of the host key's signature; their shares are strings as well.
"""

from __future__ import annotations

import attrs

from trio_ssh.wire.fields import Boolean, DeclaredMessage, MPInt, Rest, String, Text, UInt32, message


@message(30)
class KexEcdhInit(DeclaredMessage):
    """RFC 5656 s4: the client's ephemeral public key (for a hybrid, followed by its Diffie-Hellman share)."""

    share: String


@message(31)
class KexEcdhReply(DeclaredMessage):
    """RFC 5656 s4: the server's host key, its share, and its signature of the exchange hash."""

    host_key: String
    share: String
    signature: String


@message(34)
class KexDhGexRequest(DeclaredMessage):
    """RFC 4419 s3: the client wants a group of `preferred` bits, and can do with `minimum` to `maximum`."""

    minimum: UInt32
    preferred: UInt32
    maximum: UInt32


@message(31)
class KexDhGexGroup(DeclaredMessage):
    """RFC 4419 s3: the server's choice of a group, by a safe prime and a generator."""

    prime: MPInt
    generator: MPInt


@message(32)
class KexDhGexInit(DeclaredMessage):
    """RFC 4419 s3: the client's value."""

    e: MPInt


@message(33)
class KexDhGexReply(DeclaredMessage):
    """RFC 4419 s3: the server's host key, its value, and its signature of the exchange hash."""

    host_key: String
    f: MPInt
    signature: String


@message(30)
class KexGssInit(DeclaredMessage):
    """RFC 4462 s2.1: the client's first token, and its share."""

    token: String = attrs.field(repr=False)
    share: String


@message(31)
class KexGssContinue(DeclaredMessage):
    """RFC 4462 s2.1: a token of either side, while the context is not there yet."""

    token: String = attrs.field(repr=False)


@message(32)
class KexGssComplete(DeclaredMessage):
    """RFC 4462 s2.1: the server's share, its context's MIC of the exchange hash, and perhaps its last token."""

    share: String
    mic: String
    has_token: Boolean
    last_token: Rest = attrs.field(repr=False)


@message(33)
class KexGssHostkey(DeclaredMessage):
    """RFC 4462 s2.1: the server's host key, which is hashed, and signs nothing."""

    host_key: String


@message(34)
class KexGssError(DeclaredMessage):
    """RFC 4462 s2.1: what went wrong at the server, for a person."""

    major_status: UInt32
    minor_status: UInt32
    text: Text
    language: Text
