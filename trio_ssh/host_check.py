"""Whether a host is the right one: its key, or its certificate, against what is on record."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

import attrs

from trio_ssh.errors import BadHostKeyException, CertificateException, HostKeyException
from trio_ssh.host_keys import KnowsHosts, MissingHostKeyPolicy, decide
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import AUTHORITY_ALGORITHMS
from trio_ssh.keys.known_hosts import HostKeys, HostKeyStatus, name_without_port
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.client")


@attrs.frozen
class HostCheck:
    """Decides whether a host that has proven to own a key is the one that is meant.

    Attributes:
        client: who connects, for the policy.
        known: what is on record.
        name: the host's, there.
        policy: decides about a host of which nothing is on record.
        revoked: keys that nobody may show.
        authority_algorithms: with what an authority may have signed a host's certificate.
        smallest_rsa_bits: below which no RSA key is believed, whatever is on record.
    """

    client: KnowsHosts
    known: HostKeys
    name: str
    policy: MissingHostKeyPolicy
    revoked: KeyRevocationList | None
    authority_algorithms: Collection[str] = AUTHORITY_ALGORITHMS
    smallest_rsa_bits: int = 0

    async def check_certificate(self, certificate: Certificate) -> None:
        """Return if the certificate shows its key to be the host's, or else if the bare key is the host's, as for ssh.

        Raises:
            As for a bare key, with a note that tells what is wrong with the certificate.
        """
        self._check_size(certificate.public_key)
        is_revoked = self.known.is_revoked(self.name, certificate)
        if is_revoked or (self.revoked is not None and self.revoked.is_revoked(certificate)):
            key = certificate.public_key
            raise BadHostKeyException(self.name, key.key_type, key.fingerprint, is_revoked=True)
        try:
            certificate.check_for_host(
                name_without_port(self.name),
                authorities=self.known.authorities(self.name),
                now=time.time(),
                authority_algorithms=self.authority_algorithms,
            )
        except CertificateException as error:
            _log.info("the certificate of %s is of no use: %s", printable(self.name), error)
            try:
                await self(certificate.public_key)
            except HostKeyException as refusal:
                refusal.add_note(f"Its certificate is of no use either: {error}")
                raise
            return
        if self.policy.decides_known_keys:
            await decide(self.policy, self.client, self.name, certificate.public_key)

    async def __call__(self, key: PublicKey) -> None:
        """Return if it is.

        Raises:
            BadHostKeyException: it has another key, or a revoked one.
            Whatever the policy raises.
        """
        self._check_size(key)
        status = self.known.check(self.name, key)
        if self.revoked is not None and self.revoked.is_revoked(key):
            status = HostKeyStatus.REVOKED
        match status:
            case HostKeyStatus.KNOWN:
                if self.policy.decides_known_keys:
                    await decide(self.policy, self.client, self.name, key)
            case HostKeyStatus.REVOKED:
                raise BadHostKeyException(self.name, key.key_type, key.fingerprint, is_revoked=True)
            case HostKeyStatus.CHANGED:
                expected = [
                    f"{'' if entry.marker is None else 'a certificate of '}{entry.key.fingerprint} ({entry.source})"
                    for entry in self.known.lookup(self.name)
                    if entry.marker in (None, "certificate")
                ]
                raise BadHostKeyException(self.name, key.key_type, key.fingerprint, expected)
            case HostKeyStatus.UNKNOWN:
                await decide(self.policy, self.client, self.name, key)

    def _check_size(self, key: PublicKey) -> None:
        if key.key_type == "ssh-rsa" and key.bits < self.smallest_rsa_bits:
            raise HostKeyException(
                f"the host key of {printable(self.name)} is an RSA key of {key.bits} bits, and RequiredRSASize wants "
                f"{self.smallest_rsa_bits}. Ask the host's owner for a longer one, or for an Ed25519 key."
            )
