"""RFC 4252 and RFC 4256, the server's side: one dialog from the service request to USERAUTH_SUCCESS.

Owns the order of messages, the counting of attempts and the checking of signatures.  Whether someone is let in is asked
of the server's own code, and nothing but an `AuthResult` member is taken for an answer: everything else refuses.
"""

from __future__ import annotations

import logging
from typing import Final

import attrs

from trio_ssh.core.auth_client import (
    CONNECTION,
    USERAUTH,
    signed_by_host,
    signed_data,
)
from trio_ssh.core.decision import Outcome, decision
from trio_ssh.core.dialog import Dialog, ask, expect, expect_any, send
from trio_ssh.core.gssapi import GssContext, gssapi_as_server, keyex_as_server
from trio_ssh.core.limits import Limits
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
)
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import SUFFIX
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.keys.security_key import SecurityPublicKey
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable
from trio_ssh.wire.transport import ServiceAccept, ServiceRequest
from trio_ssh.wire.userauth import (
    HostbasedDetails,
    HostbasedSubject,
    HostboundDetails,
    HostboundProbe,
    InteractiveDetails,
    PasswordChangeDetails,
    PasswordDetails,
    PublicKeyDetails,
    PublicKeyProbe,
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)

_log = logging.getLogger("trio_ssh.auth")

SUCCESSFUL: Final = AuthResult.SUCCESSFUL
PARTIAL: Final = AuthResult.PARTIALLY_SUCCESSFUL
FAILED: Final = AuthResult.FAILED
EXPIRED: Final = AuthResult.PASSWORD_EXPIRED


@attrs.frozen
class _Session:
    """What is the same for all attempts of a connection."""

    session_id: bytes
    algorithms: tuple[str, ...]
    limits: Limits
    host_key: bytes
    gss_context: GssContext | None


def authenticate_as_server(
    session_id: bytes,
    algorithms: tuple[str, ...],
    limits: Limits,
    host_key: bytes = b"",
    gss_context: GssContext | None = None,
) -> Dialog[str]:
    """Run authentication to its success.

    Args:
        algorithms: public-key signature algorithms that are accepted, those of certificates by their own names.
        host_key: the key that we have shown, for signatures that are bound to it.
        gss_context: of the first key exchange, if that was by GSS-API.

    Returns:
        The user's name.

    Raises:
        RemoteProtocolError: too many attempts, another service, a change of user, or a message out of order.
    """
    service = yield from expect(ServiceRequest)
    if service.service != USERAUTH:
        raise RemoteProtocolError(
            f"the client asked for the service {printable(service.service)!r} before authentication",
            DisconnectReason.SERVICE_NOT_AVAILABLE,
        )
    yield from send(ServiceAccept(USERAUTH))
    session = _Session(session_id, algorithms, limits, host_key, gss_context)
    username: str | None = None
    failures = 0
    pending: UserauthRequest | None = None
    for _ in range(limits.auth_requests):
        request = pending if pending is not None else (yield from expect(UserauthRequest))
        pending = None
        _check_request(request, username, limits)
        if username is None:
            username = request.username
            banner = yield from ask(BannerWanted(username))
            if isinstance(banner, str) and banner:
                yield from send(UserauthBanner(banner, ""))
        outcome = yield from _attempt(request, session)
        pending = outcome.next_request
        if outcome.result is SUCCESSFUL:
            yield from send(UserauthSuccess())
            return username
        if outcome.is_answered:
            continue
        if outcome.result is FAILED and not outcome.is_harmless:
            failures += 1
            if failures >= limits.auth_attempts:
                # Asked for nothing but the time it takes: the last failure mustn't be heard of sooner than the others.
                yield from ask(AllowedAuths(username, True))
                break
        if pending is None:
            is_failure = outcome.result is FAILED and not outcome.is_harmless
            allowed = yield from ask(AllowedAuths(username, is_failure))
            yield from send(UserauthFailure(tuple(allowed), outcome.result is PARTIAL))
    raise RemoteProtocolError("too many authentication failures", DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE)


def _check_request(request: UserauthRequest, username: str | None, limits: Limits) -> None:
    if request.service != CONNECTION:
        raise RemoteProtocolError(
            f"a login to the service {printable(request.service)!r}", DisconnectReason.SERVICE_NOT_AVAILABLE
        )
    if len(request.username.encode("utf-8", "surrogateescape")) > limits.user_name_bytes:
        raise RemoteProtocolError("a user name beyond the limit", DisconnectReason.ILLEGAL_USER_NAME)
    # What one name has earned or lost must not pass to another.  OpenSSH ends the connection here; so do we.
    if username is not None and request.username != username:
        raise RemoteProtocolError("the client changed the user name", DisconnectReason.PROTOCOL_ERROR)


def _attempt(request: UserauthRequest, session: _Session) -> Dialog[Outcome]:
    match request.method:
        case "none":
            result = yield from decision(CheckNone(request.username))
            return Outcome(result, is_harmless=True)
        case "password":
            return (yield from _password(request, session.limits))
        case "publickey":
            return (yield from _publickey(request, _read_publickey(request), session))
        case "publickey-hostbound-v00@openssh.com":
            return (yield from _publickey(request, _read_hostbound(request), session))
        case "hostbased":
            return (yield from _hostbased(request, session))
        case "keyboard-interactive":
            return (yield from _interactive(request, session.limits))
        case "gssapi-with-mic":
            return (yield from gssapi_as_server(request, session.session_id))
        case "gssapi-keyex":
            return Outcome((yield from keyex_as_server(request, session.session_id, session.gss_context)))
        case _:
            return Outcome(FAILED)


def _password(request: UserauthRequest, limits: Limits) -> Dialog[Outcome]:
    is_long = len(request.details) > limits.password_bytes
    question: CheckPassword | CheckPasswordChange
    if request.details[:1] not in (b"\0", b""):
        change = PasswordChangeDetails.decode(request.details)
        question = CheckPasswordChange(request.username, change.password, change.new_password)
    else:
        details = PasswordDetails.decode(request.details)
        question = CheckPassword(request.username, details.password)
    if is_long:
        return Outcome(FAILED)
    result = yield from decision(question)
    if result is not EXPIRED:
        return Outcome(result)
    yield from send(UserauthPasswdChangereq("Your password has expired. Choose a new one.", ""))
    return Outcome(FAILED, is_answered=True)


@attrs.frozen
class _Shown:
    """What a request says of the key that it shows; the signature is None in a mere probe."""

    algorithm: str
    blob: bytes
    signature: bytes | None
    #: Of a request that is bound to it: whom the client takes us for.
    host_key: bytes | None = None


def _is_signed(request: UserauthRequest) -> bool:
    return request.details[:1] not in (b"\0", b"")


def _read_publickey(request: UserauthRequest) -> _Shown:
    if _is_signed(request):
        details = PublicKeyDetails.decode(request.details)
        return _Shown(details.algorithm, details.blob, details.signature)
    probe = PublicKeyProbe.decode(request.details)
    return _Shown(probe.algorithm, probe.blob, None)


def _read_hostbound(request: UserauthRequest) -> _Shown:
    if _is_signed(request):
        details = HostboundDetails.decode(request.details)
        return _Shown(details.algorithm, details.blob, details.signature, details.host_key)
    probe = HostboundProbe.decode(request.details)
    return _Shown(probe.algorithm, probe.blob, None, probe.host_key)


def _publickey(request: UserauthRequest, shown: _Shown, session: _Session) -> Dialog[Outcome]:
    key = _read_identity(shown, session)
    if key is None:
        return Outcome(FAILED)
    if shown.signature is None:
        result = yield from decision(_about(request.username, key, is_proven=False))
        if result is FAILED:
            return Outcome(FAILED)
        yield from send(UserauthPkOk(shown.algorithm, shown.blob))
        return Outcome(FAILED, is_answered=True)
    demands = KeyDemands()
    if isinstance(key.public_key if isinstance(key, Certificate) else key, SecurityPublicKey):
        answer: object = yield from ask(KeyDemandsWanted(request.username, key))
        if isinstance(answer, KeyDemands):
            demands = answer
    # Verify before asking.  Whoever is asked may take a proof for one at once: remember it, count it, log it.  And
    # the decision is about this key in this request: a server that remembers an earlier probe lets in whoever
    # probed with somebody else's key.
    data = signed_data(
        session.session_id, request.username, shown.algorithm, shown.blob, request.service, shown.host_key or b""
    )
    try:
        _verify(key, data, shown.signature, shown.algorithm, demands)
    except RemoteProtocolError as error:
        _log.info("a public key's signature was refused: %s", error)
        return Outcome(FAILED)
    return Outcome((yield from decision(_about(request.username, key, is_proven=True))))


def _read_identity(shown: _Shown, session: _Session) -> PublicKey | Certificate | None:
    """Return the key, or the certificate, if it is one that can do what is said of it."""
    if shown.host_key is not None and (not session.host_key or shown.host_key != session.host_key):
        # Somebody between us and the client has shown it another, and passes its request on.
        _log.info("a public key was refused: its request is bound to another host key than ours")
        return None
    if shown.algorithm not in session.algorithms:
        return None
    try:
        if shown.algorithm.endswith(SUFFIX):
            certificate = Certificate.from_blob(shown.blob)
            certificate.plain_algorithm(shown.algorithm)
            return certificate
        key = parse_public_key(shown.blob)
    except RemoteProtocolError as error:
        # A key that we don't understand, or too weak a one, is a key that won't do.
        _log.debug("a public key was refused: %s", error)
        return None
    return key if key.can_verify(shown.algorithm) else None


def _about(username: str, key: PublicKey | Certificate, *, is_proven: bool) -> CheckPublicKey | CheckCertificate:
    if isinstance(key, Certificate):
        return CheckCertificate(username, key, is_proven)
    return CheckPublicKey(username, key, is_proven)


def _verify(key: PublicKey | Certificate, data: bytes, signature: bytes, algorithm: str, demands: KeyDemands) -> None:
    """Verify a signature.

    Raises:
        RemoteProtocolError: it is another's, over something else, or doesn't attest what is demanded.
    """
    if isinstance(key, Certificate):
        key.verify(data, signature, algorithm, allow_untouched=not demands.presence)
        if not (demands.verification and isinstance(key.public_key, SecurityPublicKey)):
            return
        # What the certificate doesn't demand, whoever trusts its authority may.
        demands = KeyDemands(presence=False, verification=True)
        algorithm = key.plain_algorithm(algorithm)
        key = key.public_key
    if isinstance(key, SecurityPublicKey):
        presence, verification = demands.presence, demands.verification
        key.verify_details(data, signature, algorithm, require_presence=presence, require_verification=verification)
    else:
        key.verify(data, signature, algorithm)


def _hostbased(request: UserauthRequest, session: _Session) -> Dialog[Outcome]:
    try:
        details = HostbasedDetails.decode(request.details)
    except RemoteProtocolError:
        return Outcome(FAILED)  # few servers know the method, and whoever doesn't can't tell
    shown = _Shown(details.algorithm, details.blob, details.signature)
    key = _read_identity(shown, session)
    if not isinstance(key, PublicKey):
        return Outcome(FAILED)
    limit = session.limits.user_name_bytes
    if max(len(details.client_host), len(details.client_user)) > limit:
        return Outcome(FAILED)
    subject = HostbasedSubject(details.algorithm, details.blob, details.client_host, details.client_user)
    try:
        key.verify(
            signed_by_host(session.session_id, request.username, subject, request.service),
            details.signature,
            details.algorithm,
        )
    except RemoteProtocolError as error:
        _log.info("a client host's signature was refused: %s", error)
        return Outcome(FAILED)
    # RFC 4252 s9 lets the name end in a dot, as a full name in DNS does; OpenSSH sends it, and takes it off.
    client_host = details.client_host.removesuffix(".")
    question = CheckHostbased(request.username, key, client_host, details.client_user)
    return Outcome((yield from decision(question)))


def _interactive(request: UserauthRequest, limits: Limits) -> Dialog[Outcome]:
    details = InteractiveDetails.decode(request.details)
    answer: object = yield from ask(CheckInteractive(request.username, details.submethods))
    for _ in range(limits.interactive_rounds):
        if isinstance(answer, AuthResult):
            return Outcome(FAILED if answer is EXPIRED else answer)
        if not isinstance(answer, InteractiveQuery):
            _log.error("keyboard-interactive was answered with %r: refused", type(answer).__name__)
            return Outcome(FAILED)
        prompts = answer.as_prompts()
        content = Message()
        for prompt in prompts:
            content.add_string(prompt.text).add_boolean(prompt.echo)
        yield from send(UserauthInfoRequest(answer.name, answer.instructions, "", len(prompts), content.asbytes()))
        reply = yield from expect_any(UserauthInfoResponse, UserauthRequest)
        if isinstance(reply, UserauthRequest):
            # RFC 4256 s3.1: a client may give up and try something else; the attempt counts as failed.
            return Outcome(FAILED, next_request=reply)
        assert isinstance(reply, UserauthInfoResponse)
        responses = _read_responses(reply, len(prompts), limits)
        answer = yield from ask(CheckInteractiveResponse(request.username, responses))
    return Outcome(FAILED)


def _read_responses(reply: UserauthInfoResponse, expected: int, limits: Limits) -> tuple[str, ...]:
    if reply.count != expected or len(reply.responses) > limits.interactive_bytes:
        raise RemoteProtocolError(f"{reply.count} responses to {expected} prompts")
    content = Message(reply.responses)
    responses = tuple(content.get_text() for _ in range(reply.count))
    if content.get_remainder():
        raise RemoteProtocolError("bytes behind the last response")
    return responses
