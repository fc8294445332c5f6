"""Who may log in: `ServerAuthentication`, the part of `ServerInterface` that decides about users.

Every check refuses until it is overridden, and only the exact enum members let anyone in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, cast

import attrs

from trio_ssh.core.gssapi import (
    KEYEX,
    WITH_MIC,
    CheckGssapi,
    CheckGssapiKeyex,
    GssBegins,
    GssContext,
    GssStepWanted,
)
from trio_ssh.core.questions import (
    AllowedAuths,
    AuthResult,
    BannerWanted,
    CheckCertificate,
    CheckHostbased,
    CheckInteractive,
    CheckInteractiveResponse,
    CheckNone,
    CheckPassword,
    CheckPasswordChange,
    CheckPublicKey,
    InteractiveQuery,
    KeyDemands,
    KeyDemandsWanted,
    Question,
    UserQuestion,
)
from trio_ssh.errors import CertificateException, LocalProtocolError
from trio_ssh.keys.authorized_keys import AuthorizedKeys
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.key_restrictions import KeyRestrictions
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.security_key import SecurityPublicKey
from trio_ssh.runtime.block import RAISED, is_failure
from trio_ssh.runtime.gss import KERBEROS, GssAcceptor, GssIdentity
from trio_ssh.runtime.handler import PeerHandler
from trio_ssh.runtime.link import shown_address
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import MaybeAwaitable, after, resolved
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.server")


def _key_of(question: Question) -> PublicKey | None:
    """Return the key of which a question is, if it is of one."""
    match question:
        case CheckPublicKey(_, key, _):
            return key
        case CheckCertificate(_, certificate, _):
            return certificate.public_key
        case _:
            return None


#: What one client has proved would be believed of the next.
ONE_EACH: Final = (
    "each connection needs a server of its own, which remembers what its client has proved: make another one, or pass "
    "its class to what serves many"
)


_WORDS: Final = {
    AuthResult.SUCCESSFUL: "Accepted",
    AuthResult.PARTIALLY_SUCCESSFUL: "Partially accepted",
    AuthResult.FAILED: "Failed",
    AuthResult.PASSWORD_EXPIRED: "Expired",
}


@attrs.frozen
class AuthProof:
    """What has let a user in, or is one of several that have.

    Attributes:
        method: its name on the wire, such as ``"publickey"``.
        key: whose signature was checked, for ``publickey`` and ``hostbased``; of a certificate the key that it is for.
        certificate: by which it was believed, or None.
        identity: who it is to GSS-API, or None.
    """

    method: str
    key: PublicKey | None = None
    certificate: Certificate | None = None
    identity: GssIdentity | None = None

    def __str__(self) -> str:
        if self.certificate is not None:
            return _shown_certificate(self.certificate)
        if self.key is not None:
            return f"{self.key.get_name()} {self.key.fingerprint}"
        return self.identity.principal if self.identity is not None else ""


def _shown_certificate(certificate: Certificate) -> str:
    """Describe it as sshd's log does."""
    return (
        f"{certificate.key_type} {certificate.public_key.fingerprint} ID {printable(certificate.key_id, 64)} "
        f"(serial {certificate.serial}) CA {certificate.authority.get_name()} {certificate.authority.fingerprint}"
    )


def _is_probe(question: Question) -> bool:
    """Whether a key is merely shown, which proves nothing."""
    return isinstance(question, CheckPublicKey | CheckCertificate) and not question.is_proven


def _proof_of(question: Question, method: str) -> AuthProof:
    match question:
        case CheckPublicKey(_, key, _) | CheckHostbased(_, key, _, _):
            return AuthProof(method, key)
        case CheckCertificate(_, certificate, _):
            return AuthProof(method, certificate.public_key, certificate)
        case CheckGssapi(_, context, _, _) | CheckGssapiKeyex(_, context, _, _):
            return AuthProof(method, identity=_identity(context))
        case _:
            return AuthProof(method)


class ServerAuthentication(PeerHandler):
    """A server's decisions about users; see `ServerInterface`."""

    transport: Transport
    completed_auths: Sequence[str] = ()
    auth_proofs: Sequence[AuthProof] = ()
    restrictions: KeyRestrictions | None = None
    #: Whether this client has tried to log in by anything: one that only looks, and goes, is another kind.
    has_attempted: bool = False
    #: What the check that is running now would have the login restricted to.
    _imposed: KeyRestrictions | None = None
    #: What a signature had to attest that is being decided about.
    _demands: KeyDemands | None = None
    #: Whose password has just been found right and expired.
    _expired: str | None = None

    @property
    def _is_used(self) -> bool:
        """It has, or had, a connection."""
        return "transport" in self.__dict__

    def attach(self, transport: Transport) -> None:
        """Take note of the connection.

        Raises:
            LocalProtocolError: there was another.
        """
        if self.__dict__.get("transport", transport) is not transport:
            raise LocalProtocolError(ONE_EACH)
        self.transport = transport

    def get_allowed_auths(self, username: str) -> MaybeAwaitable[Sequence[str] | str]:
        """Return the methods that can continue: a sequence of names, or one str with commas as in paramiko.

        Where this is overridden it is asked before a check, too, and a method that it doesn't name is refused.

        The default names those whose check is overridden, but for those that the user has passed, which are refused
        from then on: one factor is not two.
        """
        base = ServerAuthentication
        checks = {
            "publickey": (base.check_auth_publickey, base.check_auth_certificate, base.get_authorized_keys),
            "password": (base.check_auth_password,),
            "keyboard-interactive": (base.check_auth_interactive,),
            "hostbased": (base.check_auth_hostbased,),
        }
        found = [
            name
            for name, parts in checks.items()
            if name not in self.completed_auths
            and any(getattr(type(self), check.__name__) is not check for check in parts)
        ]
        if self.enable_auth_gssapi() is True:
            has_context = hasattr(self, "transport") and self.transport.gss_kex_used
            # One ticket is one proof, by whichever method.
            if KEYEX not in self.completed_auths and WITH_MIC not in self.completed_auths:
                found[:0] = (KEYEX, WITH_MIC) if has_context else (WITH_MIC,)
        return found

    def check_auth_none(self, username: str) -> MaybeAwaitable[AuthResult]:
        """Decide whether this user needs no proof at all."""
        return AuthResult.FAILED

    def check_auth_password(self, username: str, password: str) -> MaybeAwaitable[AuthResult]:
        """Decide about a password; compare with `hmac.compare_digest`.

        ``AUTH_PASSWORD_EXPIRED`` says that it is right, and has to be changed first.
        """
        return AuthResult.FAILED

    def check_auth_password_change(self, username: str, password: str, new_password: str) -> MaybeAwaitable[AuthResult]:
        """Check the password, and put the new one in its place; a success logs the user in.

        ``AUTH_PASSWORD_EXPIRED`` asks for another new one.
        """
        return AuthResult.FAILED

    def get_authorized_keys(self, username: str) -> MaybeAwaitable[AuthorizedKeys | None]:
        """Return the keys, and the authorities, that log this user in; None for none.

        Whoever they let in, as a key or by a certificate, may do what the line and the certificate say, and no more.
        Called for each key that a client shows: a file that changes is read anew, so read it in a thread.
        """
        return None

    def check_auth_publickey(self, username: str, key: PublicKey) -> MaybeAwaitable[AuthResult]:
        """Decide whether this key may log this user in.  The default asks `get_authorized_keys`.

        Asked about a mere probe too, which proves nothing: remember nothing here.  A signature is checked by trio_ssh,
        before this.
        """
        return self._decide_by_authorized_keys(username, key)

    def check_auth_certificate(self, username: str, certificate: Certificate) -> MaybeAwaitable[AuthResult]:
        """Decide whether this certificate may log this user in.  The default asks `get_authorized_keys`.

        As `check_auth_publickey`.  The certificate is a user's, good now and from where the client is, and signed by
        the authority that it names; what it forbids will be obeyed.  Whether that authority is to be believed, and
        whether one of the certificate's names may be this user, `Certificate.check_for_user` tells.
        """
        return self._decide_by_authorized_keys(username, certificate)

    def check_auth_hostbased(
        self, username: str, key: PublicKey, client_host: str, client_username: str
    ) -> MaybeAwaitable[AuthResult]:
        """Decide whether a host may vouch for its user: RFC 4252 s9.

        Args:
            key: the host's, which it has proven to own.  Look it up under `client_host`.
            client_host: what the host calls itself.  Anybody can: compare it with `get_peer_address` by the DNS.
            client_username: who the user is there.
        """
        return AuthResult.FAILED

    def enable_auth_gssapi(self) -> bool:
        """Return whether users may log in by GSS-API; needs the extra ``gssapi``, and a keytab with the host's key."""
        return False

    def check_auth_gssapi_with_mic(self, username: str, identity: GssIdentity) -> MaybeAwaitable[AuthResult]:
        """Decide whether this principal may be this user.  That it is the principal, GSS-API has checked."""
        return AuthResult.FAILED

    def check_auth_gssapi_keyex(self, username: str, identity: GssIdentity) -> MaybeAwaitable[AuthResult]:
        """Decide whether this principal, with whom keys were exchanged, may be this user; needs ``gss_kex=True``.

        The default asks `check_auth_gssapi_with_mic`.
        """
        return self.check_auth_gssapi_with_mic(username, identity)

    def restrict(self, restrictions: KeyRestrictions) -> None:
        """Called in a check: if it lets the user in, then to do no more than this.

        What a mere probe's check says is forgotten; what several methods of one login say adds up.
        """
        self._imposed = restrictions if self._imposed is None else self._imposed.merged(restrictions)

    def get_peer_address(self) -> str | None:
        """Return where the client comes from, as numbers, or None where that isn't known; `restrict` goes by it."""
        # Who runs a Transport of his own need not have told us of it.
        peer = self.transport.getpeername() if hasattr(self, "transport") else None
        return peer[0] if isinstance(peer, tuple) else None

    def check_auth_interactive(self, username: str, submethods: str) -> MaybeAwaitable[AuthResult | InteractiveQuery]:
        """Begin keyboard-interactive: return an `InteractiveQuery`, or decide at once."""
        return AuthResult.FAILED

    def check_auth_interactive_response(
        self, responses: Sequence[str]
    ) -> MaybeAwaitable[AuthResult | InteractiveQuery]:
        """Decide about the answers, one per prompt, or ask once more."""
        return AuthResult.FAILED

    def get_banner(self) -> MaybeAwaitable[str | tuple[str | None, str | None]]:
        """Return a text that the user reads before logging in; empty for none.

        A text and its language, as in paramiko, will do; nobody has a use for the language.
        """
        return ""

    # -- how the transport asks

    def answer_question(self, question: Question) -> object:
        """Ask the check that belongs to a question.  A check that raises refuses."""
        # What goes on with what another check has begun is held to what that one said.
        if not isinstance(question, CheckInteractiveResponse | CheckPasswordChange):
            self._imposed = None
            self._expired = None
        try:
            answer = self._check_if_allowed(question)
        except RAISED as error:
            if not is_failure(error):
                raise
            return _failed(question)
        return after(_guarded(question, answer), lambda result: self._told(question, self._note(question, result)))

    def _told(self, question: Question, result: object) -> object:
        """Log who was let in and who wasn't, in the words of sshd, which administrators' tools look for."""
        method = _METHODS.get(type(question))
        # Every client asks first what there is by asking for nothing.
        level = logging.DEBUG if method == "none" and result is AuthResult.FAILED else logging.INFO
        if not isinstance(question, UserQuestion) or method is None:
            return result
        if not isinstance(result, AuthResult) or not _log.isEnabledFor(level):
            return result
        key = _key_of(question)
        if result is not AuthResult.FAILED and _is_probe(question):
            return result
        peer = self.transport.getpeername() if hasattr(self, "transport") else None
        shown = "" if key is None else str(_proof_of(question, method))
        _log.log(
            level,
            "%s %s for %s from %s%s",
            _WORDS[result],
            method,
            printable(question.username, 64),
            shown_address(peer),
            shown and f": {shown}",
        )
        return result

    def _check_if_allowed(self, question: Question) -> MaybeAwaitable[object]:
        """Ask the check, if the method is one that can continue: a client need not care what it is told of that."""
        method = _METHODS.get(type(question))
        is_default = type(self).get_allowed_auths is ServerAuthentication.get_allowed_auths
        if method is None or method == "none" or isinstance(question, CheckInteractiveResponse):
            return self._check(question)
        assert isinstance(question, UserQuestion), "a method is some user's"
        if is_default:
            if method not in self.completed_auths:
                return self._check(question)
            _log.info("%s was refused: its user has passed it, and another method is wanted", method)
            return AuthResult.FAILED

        def check(allowed: Sequence[str] | str) -> MaybeAwaitable[object]:
            if method in _method_names(allowed):
                return self._check(question)
            _log.info("%s was refused: get_allowed_auths does not name it", method)
            return AuthResult.FAILED

        named = self.get_allowed_auths(question.username)
        if not isinstance(named, Awaitable):
            return check(named)

        async def wait() -> object:
            return await resolved(check(await named))

        return wait()

    def _note(self, question: Question, result: object) -> object:
        """Remember a success: its method, if more is wanted, and what it is restricted to."""
        if isinstance(result, InteractiveQuery):
            return result
        if result is AuthResult.PASSWORD_EXPIRED and isinstance(question, UserQuestion):
            self._expired = question.username
            return result
        imposed, self._imposed = self._imposed, None
        method = _METHODS.get(type(question))
        if method is None:
            return result
        if not isinstance(result, AuthResult):
            _log.error(
                "%s returned %r: refused; it returns AUTH_SUCCESSFUL or AUTH_FAILED", _name_of(question), type(result)
            )
            return AuthResult.FAILED
        if _is_probe(question) or result not in (AuthResult.SUCCESSFUL, AuthResult.PARTIALLY_SUCCESSFUL):
            return result
        demands, self._demands = self._demands, None
        if imposed is not None:
            # An earlier key's demands say nothing of one that has no token.
            is_asked = demands is not None and isinstance(_key_of(question), SecurityPublicKey)
            if imposed.require_verification and is_asked and demands is not None and not demands.verification:
                _log.error("a key whose signatures must be verified was shown one that isn't: refused")
                return AuthResult.FAILED
            try:
                self.restrictions = imposed if self.restrictions is None else self.restrictions.merged(imposed)
            except CertificateException as error:
                _log.info("a login was refused: %s", error)
                return AuthResult.FAILED
        if result is AuthResult.PARTIALLY_SUCCESSFUL:
            self.completed_auths = (*self.completed_auths, method)
        self.auth_proofs = (*self.auth_proofs, _proof_of(question, method))
        return result

    def _check(self, question: Question) -> MaybeAwaitable[object]:
        self.has_attempted |= isinstance(question, _ATTEMPTS)
        match question:
            case CheckNone(username):
                return self.check_auth_none(username)
            case CheckPassword(username, password):
                return self.check_auth_password(username, password)
            case CheckPasswordChange(username, password, new_password):
                if username != self._expired:
                    # What `check_auth_password` restricts would be passed by.
                    _log.info("a password was to be changed that nobody has found expired: refused")
                    return AuthResult.FAILED
                return self.check_auth_password_change(username, password, new_password)
            case CheckPublicKey(username, key, _):
                return self.check_auth_publickey(username, key)
            case CheckCertificate(username, certificate, _):
                return self._check_certificate(username, certificate)
            case KeyDemandsWanted(username, key):
                self._demands = KeyDemands()
                return after(self._authorize(username, key), self._demand)
            case CheckHostbased(username, key, client_host, client_username):
                return self.check_auth_hostbased(username, key, client_host, client_username)
            case CheckInteractive(username, submethods):
                return after(self.check_auth_interactive(username, submethods), _well_formed)
            case CheckInteractiveResponse(_, responses):
                return after(self.check_auth_interactive_response(responses), _well_formed)
            case GssBegins(_, mechanisms):
                wanted = self.enable_auth_gssapi() is True and KERBEROS in mechanisms
                return GssAcceptor() if wanted else None
            case GssStepWanted(context, token):
                return context.step(token)
            case CheckGssapiKeyex(username, context, data, mic):
                if self.enable_auth_gssapi() is not True or not _is_signed_by(context, data, mic):
                    return AuthResult.FAILED
                return self.check_auth_gssapi_keyex(username, _identity(context))
            case CheckGssapi(username, context, data, mic):
                if not _is_signed_by(context, data, mic):
                    return AuthResult.FAILED
                return self.check_auth_gssapi_with_mic(username, _identity(context))
            case BannerWanted():
                return after(self.get_banner(), _banner_text)
            case AllowedAuths(username, is_after_failure):
                self.has_attempted |= is_after_failure
                return after(self.get_allowed_auths(username), _method_names)
            case _:
                return None

    def _check_certificate(self, username: str, certificate: Certificate) -> MaybeAwaitable[AuthResult]:
        """Ask the check about a certificate that is a user's and good now and from there, and hold it to what it says.

        Whom to believe, and who may be whom, is the check's.  What would be forgotten besides is not left to it.
        """
        try:
            certificate.check_for_user(
                certificate.principals,
                authorities=[certificate.authority],
                now=time.time(),
                address=self.get_peer_address(),
                authority_algorithms=[certificate.signature_algorithm],
                allow_any_principal=True,
            )
        except CertificateException as error:
            _log.info("a certificate was refused: %s", error)
            return AuthResult.FAILED
        # That its token verified its user, the signature has shown.
        self.restrict(attrs.evolve(KeyRestrictions.of_certificate(certificate), require_verification=False))
        return self.check_auth_certificate(username, certificate)

    def _demand(self, restrictions: KeyRestrictions | None) -> KeyDemands:
        if restrictions is not None:
            self._demands = KeyDemands(not restrictions.allow_untouched, restrictions.require_verification)
        return self._demands or KeyDemands()

    def _authorize(self, username: str, key: PublicKey | Certificate) -> MaybeAwaitable[KeyRestrictions | None]:
        """Ask the user's authorized keys."""
        if type(self).get_authorized_keys is ServerAuthentication.get_authorized_keys:
            return None

        def look_up(keys: AuthorizedKeys | None) -> KeyRestrictions | None:
            if keys is None:
                return None
            given: object = keys
            if not isinstance(given, AuthorizedKeys):
                raise TypeError(f"get_authorized_keys returns AuthorizedKeys or None, not {given!r}")
            return keys.authorize(key, username, now=time.time(), address=self.get_peer_address())

        return after(self.get_authorized_keys(username), look_up)

    def _decide_by_authorized_keys(self, username: str, key: PublicKey | Certificate) -> MaybeAwaitable[AuthResult]:
        def decide(restrictions: KeyRestrictions | None) -> AuthResult:
            if restrictions is None:
                return AuthResult.FAILED
            self.restrict(restrictions)
            return AuthResult.SUCCESSFUL

        return after(self._authorize(username, key), decide)


def _is_signed_by(context: GssContext, data: bytes, mic: bytes) -> bool:
    return isinstance(context, GssAcceptor) and context.verifies(data, mic) is True


def _identity(context: GssContext) -> GssIdentity:
    assert isinstance(context, GssAcceptor), "whose signature it is was looked at"
    return context.identity


_METHODS: Final[Mapping[type[Question], str]] = {
    CheckNone: "none",
    CheckPassword: "password",
    CheckPasswordChange: "password",
    CheckPublicKey: "publickey",
    CheckCertificate: "publickey",
    CheckHostbased: "hostbased",
    CheckGssapi: WITH_MIC,
    CheckGssapiKeyex: KEYEX,
    CheckInteractive: "keyboard-interactive",
    CheckInteractiveResponse: "keyboard-interactive",
}


_ATTEMPTS: Final = (
    CheckPassword,
    CheckPublicKey,
    CheckCertificate,
    CheckHostbased,
    CheckInteractive,
    GssBegins,
    CheckGssapiKeyex,
)


#: What an author has written that decides about a question, for the log.
_CHECKS: Final[Mapping[type[Question], str]] = {
    AllowedAuths: "get_allowed_auths",
    BannerWanted: "get_banner",
    CheckNone: "check_auth_none",
    CheckPassword: "check_auth_password",
    CheckPasswordChange: "check_auth_password_change",
    CheckPublicKey: "check_auth_publickey or get_authorized_keys",
    CheckCertificate: "check_auth_certificate or get_authorized_keys",
    CheckHostbased: "check_auth_hostbased",
    CheckGssapi: "check_auth_gssapi_with_mic",
    CheckGssapiKeyex: "check_auth_gssapi_keyex",
    CheckInteractive: "check_auth_interactive",
    CheckInteractiveResponse: "check_auth_interactive_response",
}


def _name_of(question: Question) -> str:
    return _CHECKS.get(type(question), type(question).__name__)


def _banner_text(banner: Sequence[str | None]) -> str:
    text = banner if isinstance(banner, str) or not banner else banner[0]
    return text if isinstance(text, str) else ""


def _method_names(allowed: Sequence[object] | str) -> list[str]:
    named = allowed.split(",") if isinstance(allowed, str) else list(allowed)
    names = [name for name in named if isinstance(name, str) and name.isascii()]
    if names != named:
        raise TypeError(f"methods are named by str, and not {named!r}")
    return names


def _well_formed(result: object) -> object:
    """Find malformed prompts where they are still the mistake of whoever made them."""
    if isinstance(result, InteractiveQuery):
        texts: list[object] = [result.name, result.instructions, *(prompt.text for prompt in result.as_prompts())]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"a query's texts are str, and not {texts!r}")
    return result


def _guarded(question: Question, decision: object) -> MaybeAwaitable[object]:
    """Let an awaitable decision refuse where it raises."""
    if not isinstance(decision, Awaitable):
        return decision
    awaitable = cast("Awaitable[object]", decision)

    async def wait() -> object:
        try:
            return await awaitable
        except RAISED as error:
            if not is_failure(error):
                raise
            return _failed(question)

    return wait()


def _failed(question: Question) -> object:
    """Say what a check that raised has decided: nothing, and nobody is let in."""
    _log.exception("%s failed: refused", _name_of(question))
    return () if isinstance(question, AllowedAuths) else None if isinstance(question, GssBegins) else AuthResult.FAILED
