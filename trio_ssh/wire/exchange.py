"""RFC 5656 section 4, RFC 8731 and the hybrids built like them: the two messages of an elliptic-curve key exchange.

Every method of this family sends one string each way and differs only in what the strings hold, so they share their
numbers.
"""

from __future__ import annotations

from trio_ssh.wire.fields import DeclaredMessage, String, message


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
