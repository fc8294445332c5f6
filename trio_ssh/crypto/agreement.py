"""What a key agreement is: a share each way, and a secret that both sides know then.

Messages, transcripts and signatures are the exchange's, not the agreement's.  A share comes from a peer of
whom nothing is known yet: whatever is wrong with it is that peer's protocol error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import attrs

from trio_ssh.crypto.registry import Registry
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason


class ClientAgreement(Protocol):
    """The client's side of one exchange.

    Attributes:
        our_share: of a key that serves this exchange only.
    """

    @property
    def our_share(self) -> bytes:
        """What is sent first."""
        ...

    def finish(self, their_share: bytes) -> bytes:
        """Return the shared secret K, encoded as it enters the exchange hash and the keys.

        Raises:
            RemoteProtocolError: their share is unusable, with the reason KEY_EXCHANGE_FAILED.
        """
        ...


class ServerAgreement(Protocol):
    """The server's side of one exchange."""

    def respond(self, their_share: bytes) -> tuple[bytes, bytes]:
        """Return our share, and the shared secret K as of `ClientAgreement.finish`.

        Raises:
            RemoteProtocolError: their share is unusable, with the reason KEY_EXCHANGE_FAILED.
        """
        ...


@attrs.frozen
class AgreementAlgorithm:
    """A key agreement by name.

    Attributes:
        name: on the wire.
        hash_name: hashlib's name of the hash that the whole exchange uses.
        new_client: makes the client's side of one exchange.
        new_server: makes the server's side of one exchange.
    """

    name: str
    hash_name: str
    new_client: Callable[[], ClientAgreement]
    new_server: Callable[[], ServerAgreement]


@attrs.frozen
class GroupExchangeAlgorithm:
    """A Diffie-Hellman exchange in a group of the server's choice, which has messages of its own: RFC 4419.

    Attributes:
        name: on the wire.
        hash_name: hashlib's name of the hash that the whole exchange uses.
    """

    name: str
    hash_name: str


KEX: Final[Registry[AgreementAlgorithm | GroupExchangeAlgorithm]] = Registry("key exchange")


def bad_share(problem: str) -> RemoteProtocolError:
    """Return what every agreement raises for a share that is not one."""
    return RemoteProtocolError(f"the peer's key share {problem}", DisconnectReason.KEY_EXCHANGE_FAILED)
