"""What a client wants of GSS-API: by the arguments of `connect`, or by a configuration."""

from __future__ import annotations

import logging

from trio_ssh.config.options import SSHOptions
from trio_ssh.core.gssapi import GssRefused
from trio_ssh.runtime.gss import GssInitiator, can_load, load
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.values import Value, value

_log = logging.getLogger("trio_ssh.client")


@value
class GssPlan(Value):
    """What is wanted.

    Attributes:
        host: the server's name, as the realm knows it.
        delegates: the server gets the user's credentials.
        logs_in: ``gssapi-with-mic`` is tried.
        exchanges_keys: keys are exchanged by it, where the server does.
    """

    host: str
    delegates: bool
    logs_in: bool
    exchanges_keys: bool

    def initiator(self) -> GssInitiator:
        """Make a context."""
        return GssInitiator(self.host, delegates=self.delegates)

    async def prepare(self, transport: Transport) -> None:
        """Have keys exchanged by GSS-API if that is wanted, and the user has credentials for the server.

        Without them another method will do, and the record of host keys decides.
        """
        if not self.exchanges_keys:
            return
        step = await self.initiator().step(None)
        if isinstance(step, GssRefused):
            _log.info("keys are not exchanged by GSS-API: %s", step.reason)
        else:
            transport._gss_keying.want(self.host, delegates=self.delegates)


def plan_gss(
    options: SSHOptions | None,
    *,
    logs_in: bool | None,
    exchanges_keys: bool | None,
    delegates: bool | None,
    host: str | None,
    target: str,
    trusts_otherwise: bool = False,
) -> GssPlan | None:
    """Return what is wanted; None for nothing.  A configuration that wants what isn't there is no mistake.

    Args:
        trusts_otherwise: the caller has said whom to trust, so a configuration can't have the realm vouch instead.

    Raises:
        ImportError: the caller wants it, and the package isn't there.
    """
    if logs_in or exchanges_keys:
        if not can_load():
            load()  # says what to do
    elif options is None or not (options.gssapi_authentication or options.gssapi_key_exchange) or not can_load():
        return None
    if options is not None:
        host = host or options.gssapi_server_identity
        delegates = options.gssapi_delegate_credentials if delegates is None else delegates
        logs_in = options.gssapi_authentication if logs_in is None else logs_in
        if exchanges_keys is None:
            exchanges_keys = options.gssapi_key_exchange and not trusts_otherwise
    return GssPlan(host or target, bool(delegates), bool(logs_in), bool(exchanges_keys))
