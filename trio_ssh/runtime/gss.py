"""GSS-API, which is Kerberos nearly everywhere: contexts of the ``gssapi`` package, made where they are needed.

The package is an extra: ``pip install 'trio_ssh[gssapi]'``.  It is imported by the first login that wants it, and what
may wait for a network is done in a thread.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final

import attrs
import trio

from trio_ssh.core.gssapi import GssRefused, GssStep
from trio_ssh.errors import SSHException
from trio_ssh.wire.text import printable

#: Kerberos V5, RFC 4121, in DER.
KERBEROS: Final = bytes.fromhex("06092a864886f712010202")


def load() -> Any:
    """Import the package.

    Raises:
        ImportError: it isn't there; the text says what to do.
    """
    try:
        return importlib.import_module("gssapi")
    except ImportError as error:
        raise ImportError(
            f"logging in by GSS-API needs the package gssapi: `pip install 'trio_ssh[gssapi]'` ({error})"
        ) from error


def can_load() -> bool:
    """Tell whether the package is there."""
    return importlib.util.find_spec("gssapi") is not None


@attrs.frozen
class GssIdentity:
    """Who has logged in by GSS-API.

    Attributes:
        principal: the name that was authenticated, such as ``alice@EXAMPLE.COM``.  Which users it may be is for the
            server to say.
        credentials: what the client has delegated, a ``gssapi.Credentials``; None if it hasn't.
    """

    principal: str
    credentials: object | None = attrs.field(default=None, repr=False)


class _Context:
    """What is alike for both sides."""

    def __init__(self) -> None:
        self._gssapi: Any = None
        self._context: Any = None

    @property
    def mechanism(self) -> bytes:
        """Kerberos."""
        return KERBEROS

    def _open(self) -> Any:
        raise NotImplementedError

    def _is_for_us(self) -> bool:
        return True

    async def step(self, token: bytes | None) -> GssStep | GssRefused:
        """Take a token, in a thread: there may be a file to read, or a key distribution centre to ask.

        Cancelled, the thread is left to itself, and the context is of no use any more.
        """
        return await trio.to_thread.run_sync(self._step, token, abandon_on_cancel=True)

    def _step(self, token: bytes | None) -> GssStep | GssRefused:
        if self._gssapi is None:
            self._gssapi = load()
        try:
            if self._context is None:
                self._context = self._open()
            answer: bytes | None = self._context.step(token)
            is_complete = bool(self._context.complete)
            has_integrity = self._gssapi.RequirementFlag.integrity in self._context.actual_flags
            is_mutual = self._gssapi.RequirementFlag.mutual_authentication in self._context.actual_flags
            # An acceptor takes tokens of every mechanism that the system has; this one was agreed on.
            if is_complete and self._context.mech != self._gssapi.MechType.kerberos:
                return GssRefused("the context is of another mechanism than Kerberos")
            if is_complete and not self._is_for_us():
                return GssRefused("the ticket is for another service than this one")
        except self._gssapi.exceptions.GSSError as error:
            return GssRefused(printable(str(error), 400), getattr(error, "token", None) or b"")
        return GssStep(answer or b"", is_complete, has_integrity, is_mutual)

    def sign(self, data: bytes) -> bytes:
        """Return a MIC of `data`.

        Raises:
            SSHException: the context can't, any more for instance.
        """
        try:
            mic: bytes = self._context.get_signature(data)
        except self._gssapi.exceptions.GSSError as error:
            raise SSHException(f"GSS-API can't sign: {printable(str(error), 400)}") from error
        return mic

    def verifies(self, data: bytes, mic: bytes) -> bool:
        """Tell whether `mic` is the other side's of `data`."""
        try:
            self._context.verify_signature(data, mic)
        except self._gssapi.exceptions.GSSError:
            return False
        return True


class GssInitiator(_Context):
    """A client's context.

    Args:
        host: the server's name, as the realm knows it.
        delegates: whether the server gets the user's credentials, to use elsewhere in their name.
    """

    def __init__(self, host: str, *, delegates: bool = False) -> None:
        super().__init__()
        self._host = host
        self._delegates = delegates

    def _open(self) -> Any:
        gssapi = self._gssapi
        flags = gssapi.RequirementFlag.mutual_authentication | gssapi.RequirementFlag.integrity
        if self._delegates:
            flags |= gssapi.RequirementFlag.delegate_to_peer
        name = gssapi.Name(f"host@{self._host}", gssapi.NameType.hostbased_service)
        return gssapi.SecurityContext(name=name, mech=gssapi.MechType.kerberos, usage="initiate", flags=flags)

    def __repr__(self) -> str:
        return f"<GssInitiator for host@{printable(self._host, 64)}>"


class GssAcceptor(_Context):
    """A server's context, by the keys of ``host/...`` in the system's keytab (``$KRB5_KTNAME``)."""

    def _open(self) -> Any:
        return self._gssapi.SecurityContext(creds=self._gssapi.Credentials(usage="accept"), usage="accept")

    def _is_for_us(self) -> bool:
        # A keytab may hold keys of other services too: a web server that was shown a ticket could show it here.
        return str(self._context.target_name).startswith("host/")

    @property
    def identity(self) -> GssIdentity:
        """Who is at the other side, once the context is there."""
        return GssIdentity(str(self._context.initiator_name), self._context.delegated_creds)

    def __repr__(self) -> str:
        return "<GssAcceptor>"


async def check_acceptor() -> None:
    """Return if the system has keys by which a server can be authenticated.

    Raises:
        ImportError: the package isn't there.
        SSHException: the keys aren't; the text says what to do.
    """
    gssapi = load()
    try:
        await trio.to_thread.run_sync(lambda: gssapi.Credentials(usage="accept"), abandon_on_cancel=True)
    except gssapi.exceptions.GSSError as error:
        raise SSHException(
            f"GSS-API has no key of this host: {printable(str(error), 400)}.  Put the key of host/NAME into "
            "/etc/krb5.keytab (`ktadd`), or name another file in $KRB5_KTNAME"
        ) from error
