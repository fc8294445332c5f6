"""Logging in over a `Transport`: one method at a time, each as one call."""

from __future__ import annotations

from abc import abstractmethod

import trio

from trio_ssh.core.auth_client import (
    HOSTBOUND_EXTENSION,
    AuthAnswer,
    hostbased_as_client,
    interactive_as_client,
    none_as_client,
    password_as_client,
    publickey_as_client,
)
from trio_ssh.core.dialog import Dialog
from trio_ssh.core.events import AuthAnswered, Event
from trio_ssh.core.gssapi import GssContext, gssapi_as_client, keyex_as_client
from trio_ssh.core.limits import Limits
from trio_ssh.errors import (
    AuthenticationException,
    BadAuthenticationType,
    LocalProtocolError,
    PartialAuthentication,
    SSHException,
)
from trio_ssh.keys.certified_key import signs_here
from trio_ssh.keys.signer import Signer
from trio_ssh.runtime.arguments import checked_signer, checked_text
from trio_ssh.runtime.engine import Engine
from trio_ssh.runtime.gss import GssInitiator, load
from trio_ssh.runtime.handshake import Handshake, NewPasswordHandler, PromptHandler
from trio_ssh.runtime.link import Link
from trio_ssh.runtime.security_options import signature_algorithm
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable


def _is_auth_answer(event: Event) -> bool:
    return isinstance(event, AuthAnswered)


class ClientAuthentication(Link):
    """A client's logins; see `Transport`."""

    _limits: Limits
    _handshake: Handshake
    _username: str | None

    @property
    @abstractmethod
    def _engine(self) -> Engine:
        """The engine of a transport that was started."""

    async def auth_none(self, username: str) -> None:
        """Log in without proof.

        Raises:
            BadAuthenticationType: the server wants one of `allowed`; servers nearly always do.
        """
        await self._authenticate(username, "none", none_as_client(username))

    async def auth_password(
        self, username: str, password: str, *, new_password: NewPasswordHandler | None = None
    ) -> None:
        """Log in with a password.

        Args:
            new_password: called with what the server says where the password has expired; returns the new one, or None;
                sync or async.

        Raises:
            AuthenticationException: wrong, or not enough (`PartialAuthentication`), or not allowed
                (`BadAuthenticationType`).
            ConnectionLost: the server hung up.

        Cancelled, the connection is over.
        """
        dialog = password_as_client(username, checked_text(password, "a password"))
        await self._authenticate(username, "password", dialog, new_password=new_password)

    async def auth_publickey(self, username: str, key: Signer) -> None:
        """Log in with a key, of a file or of an agent.

        Raises:
            As `auth_password`.
        """
        algorithm = self.choose_algorithm(checked_signer(key))
        dialog = self.publickey_dialog(username, key)
        await self._authenticate(username, "publickey", dialog, f"{key.fingerprint} ({algorithm})")

    async def auth_interactive(self, username: str, handler: PromptHandler, submethods: str = "") -> None:
        """Log in by answering the server's questions.

        Args:
            handler: called with title, instructions and prompts; returns one str per prompt; sync or async.

        Raises:
            As `auth_password`; and whatever `handler` raises.
        """
        dialog = interactive_as_client(username, checked_text(submethods, "a list of submethods"), self._limits)
        await self._authenticate(username, "keyboard-interactive", dialog, prompt_handler=handler)

    async def auth_hostbased(self, username: str, key: Signer, client_host: str, client_username: str) -> None:
        """Log in because this host says who the user is: RFC 4252 s9.

        Args:
            key: this host's.
            client_host: this host's full name.
            client_username: who the user is here.

        Raises:
            As `auth_password`.
        """
        checked_signer(key)
        for text, what in ((client_host, "a host name"), (client_username, "a user name")):
            checked_text(text, what)
        dialog = self.hostbased_dialog(username, key, client_host, client_username)
        await self._authenticate(username, "hostbased", dialog, f"{key.fingerprint} ({client_host})")

    async def auth_gssapi_with_mic(self, username: str, gss_host: str, gss_deleg_creds: bool = False) -> None:
        """Log in by GSS-API, which is Kerberos: RFC 4462 s3.

        Args:
            gss_host: the server's name, as the realm knows it.
            gss_deleg_creds: let the server use the user's credentials elsewhere.

        Raises:
            ImportError: the extra ``gssapi`` is not there.
            As `auth_password`.
        """
        load()
        dialog = self.gssapi_dialog(username, GssInitiator(gss_host, delegates=gss_deleg_creds))
        await self._authenticate(username, "gssapi-with-mic", dialog)

    async def auth_gssapi_keyex(self, username: str) -> None:
        """Log in by the ticket with which the keys were exchanged: RFC 4462 s4.

        Raises:
            LocalProtocolError: they were not exchanged by GSS-API; see `gss_kex_used`.
            As `auth_password`.
        """
        await self._authenticate(username, "gssapi-keyex", self.gssapi_keyex_dialog(username))

    @property
    def gss_kex_used(self) -> bool:
        """Whether the first key exchange was by GSS-API, and has finished."""
        keying = self._engine.core.keying
        return keying.gss_context is not None and not keying.is_first_exchange

    def publickey_dialog(self, username: str, key: Signer, *, binds_to_host: bool = True) -> Dialog[AuthAnswer]:
        """Make the dialog that logs in with `key`, for `try_authenticate`.

        Args:
            username: whom to log in as.
            key: signs.
            binds_to_host: whether the signature names the server's host key, if the server can check that.
        """
        core = self._engine.core
        # A signature that names the server's host key is of no use to whoever stands in between.
        is_bound = binds_to_host and core.extensions.get(HOSTBOUND_EXTENSION) == b"0"
        host_key = core.keying.host_key_shown if is_bound else b""
        # To sign takes less than to ask whether the key would do, unless that is somebody else's work.
        probe = not signs_here(key)
        algorithm = self.choose_algorithm(key)
        return publickey_as_client(username, key, algorithm, core.keying.session_id, host_key=host_key, probe=probe)

    def hostbased_dialog(
        self, username: str, key: Signer, client_host: str, client_username: str
    ) -> Dialog[AuthAnswer]:
        """Make the dialog that has this host vouch for its user, for `try_authenticate`."""
        session_id = self._engine.core.keying.session_id
        algorithm = self.choose_algorithm(key)
        return hostbased_as_client(username, key, algorithm, session_id, client_host, client_username)

    def choose_algorithm(self, key: Signer) -> str:
        """RFC 8308 s3.1: of those that the key can sign with, the first that the server says it takes.

        Raises:
            LocalProtocolError: it can sign with nothing that is enabled.
        """
        enabled = self._engine.core.options.algorithms.every_pubkey
        return signature_algorithm(key, enabled, self._engine.core.extensions.get("server-sig-algs"))

    def gssapi_dialog(self, username: str, context: GssContext) -> Dialog[AuthAnswer]:
        """Make the dialog that logs in by GSS-API, for `try_authenticate`."""
        return gssapi_as_client(username, context, self._engine.core.keying.session_id)

    def gssapi_keyex_dialog(self, username: str) -> Dialog[AuthAnswer]:
        """Make the dialog that logs in by the key exchange's own context, for `try_authenticate`.

        Raises:
            LocalProtocolError: there is none.
        """
        keying = self._engine.core.keying
        if keying.gss_context is None or keying.is_first_exchange:
            raise LocalProtocolError("keys were not exchanged by GSS-API: use auth_gssapi_with_mic")
        return keyex_as_client(username, keying.gss_context, keying.session_id)

    async def try_authenticate(
        self,
        username: str,
        dialog: Dialog[AuthAnswer],
        prompt_handler: PromptHandler | None = None,
        new_password: NewPasswordHandler | None = None,
    ) -> AuthAnswer:
        """Run one authentication dialog and return the server's answer, whatever it is."""
        await trio.lowlevel.checkpoint_if_cancelled()
        engine = self._engine
        if engine.is_over:
            raise engine.lost()
        engine.handle(engine.core.authenticate(dialog))
        try:
            event = await self._handshake.converse(
                self._engine, _is_auth_answer, prompt_handler=prompt_handler, new_password=new_password
            )
        except BaseException as error:
            self._abandon(error, DisconnectReason.AUTH_CANCELLED_BY_USER)
            raise
        engine.flush()
        assert isinstance(event, AuthAnswered), "that is what was waited for"
        if event.answer.is_success:
            self._username = username
        return event.answer

    async def _authenticate(
        self,
        username: str,
        name: str,
        dialog: Dialog[AuthAnswer],
        details: str = "",
        *,
        prompt_handler: PromptHandler | None = None,
        new_password: NewPasswordHandler | None = None,
    ) -> None:
        # A dialog hasn't said anything before it runs.
        checked_text(username, "a user name")
        answer = await self.try_authenticate(username, dialog, prompt_handler, new_password)
        if answer.is_success:
            return
        method = f"{name} {details}" if details else name
        shown = printable(username, 64)
        if answer.is_partial:
            raise PartialAuthentication(
                f"{name} was accepted for {shown}, and another method is wanted", tried=[method], allowed=answer.allowed
            )
        if answer.is_decided and name not in answer.allowed:
            raise BadAuthenticationType(f"{name} is not allowed for {shown}", tried=[method], allowed=answer.allowed)
        remark = f": {answer.remark}" if answer.remark else ""
        raise AuthenticationException(f"{name} failed for {shown}{remark}", tried=[method], allowed=answer.allowed)

    def _abandon(self, error: BaseException, reason: DisconnectReason) -> None:
        """A handshake ended by its caller's exception can't go on: end the connection with it."""
        if isinstance(error, SSHException):
            self._engine.fail(error)
        else:
            self._engine.disconnect(reason, "given up")
