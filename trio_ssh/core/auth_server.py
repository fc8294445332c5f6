"""RFC 4252 and RFC 4256, the server's side: one dialog from the service request to USERAUTH_SUCCESS.

Owns the order of messages, the counting of attempts and the checking of signatures.  Whether someone is let in is asked
of the server's own code, and nothing but an `AuthResult` member is taken for an answer: everything else refuses.
"""

from __future__ import annotations

import logging
from typing import Final

import attrs

from trio_ssh.core.auth_client import CONNECTION, USERAUTH, signed_data
from trio_ssh.core.dialog import Dialog, ask, expect, expect_any, send
from trio_ssh.core.limits import Limits
from trio_ssh.core.questions import (
    AllowedAuths,
    AuthResult,
    BannerWanted,
    CheckInteractive,
    CheckInteractiveResponse,
    CheckNone,
    CheckPassword,
    CheckPublicKey,
    InteractiveQuery,
    Question,
)
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.public_key import parse_public_key
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable
from trio_ssh.wire.transport import ServiceAccept, ServiceRequest
from trio_ssh.wire.userauth import (
    InteractiveDetails,
    PasswordChangeDetails,
    PasswordDetails,
    PublicKeyDetails,
    PublicKeyProbe,
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)

_log = logging.getLogger("trio_ssh.auth")

SUCCESSFUL: Final = AuthResult.SUCCESSFUL
PARTIAL: Final = AuthResult.PARTIALLY_SUCCESSFUL
FAILED: Final = AuthResult.FAILED


@attrs.frozen
class _Outcome:
    """How a request ended, and the request that interrupted it, if one did."""

    result: AuthResult
    #: A failure that an honest client meets on its way: the probe for methods, a key that won't do.
    is_harmless: bool = False
    #: An answer was sent already, such as PK_OK.
    is_answered: bool = False
    next_request: UserauthRequest | None = None


def authenticate_as_server(session_id: bytes, algorithms: tuple[str, ...], limits: Limits) -> Dialog[str]:
    """Run authentication to its success.

    Args:
        algorithms: public-key signature algorithms that are accepted.

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
        outcome = yield from _attempt(request, session_id, algorithms, limits)
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


def _attempt(
    request: UserauthRequest, session_id: bytes, algorithms: tuple[str, ...], limits: Limits
) -> Dialog[_Outcome]:
    match request.method:
        case "none":
            result = yield from _decision(CheckNone(request.username))
            return _Outcome(result, is_harmless=True)
        case "password":
            return (yield from _password(request, limits))
        case "publickey":
            return (yield from _publickey(request, session_id, algorithms))
        case "keyboard-interactive":
            return (yield from _interactive(request, limits))
        case _:
            return _Outcome(FAILED)


def _decision(question: Question) -> Dialog[AuthResult]:
    """Ask, and take anything but a member of the enum for a refusal and a mistake of the server's author."""
    answer: object = yield from ask(question)
    if isinstance(answer, AuthResult):
        return answer
    _log.error(
        "%s was answered with %r, which is no AuthResult: refused", type(question).__name__, type(answer).__name__
    )
    return FAILED


def _password(request: UserauthRequest, limits: Limits) -> Dialog[_Outcome]:
    if request.details[:1] not in (b"\0", b""):
        # A change of password, which nobody asked for: RFC 4252 s8 lets us refuse it.
        PasswordChangeDetails.decode(request.details)
        return _Outcome(FAILED)
    details = PasswordDetails.decode(request.details)
    if len(request.details) > limits.password_bytes:
        return _Outcome(FAILED)
    return _Outcome((yield from _decision(CheckPassword(request.username, details.password))))


def _publickey(request: UserauthRequest, session_id: bytes, algorithms: tuple[str, ...]) -> Dialog[_Outcome]:
    details: PublicKeyDetails | PublicKeyProbe
    if request.details[:1] not in (b"\0", b""):
        details = PublicKeyDetails.decode(request.details)
    else:
        details = PublicKeyProbe.decode(request.details)
    if details.algorithm not in algorithms:
        return _Outcome(FAILED)
    try:
        key = parse_public_key(details.blob)
    except RemoteProtocolError as error:
        # A key that we don't understand, or too weak a one, is a key that won't do.
        _log.debug("a public key was refused: %s", error)
        return _Outcome(FAILED)
    if not key.can_verify(details.algorithm):
        return _Outcome(FAILED)
    if isinstance(details, PublicKeyDetails):
        # Verify before asking.  Whoever is asked may take a proof for one at once: remember it, count it, log it.  And
        # the decision is about this key in this request: a server that remembers an earlier probe lets in whoever
        # probed with somebody else's key.
        data = signed_data(session_id, request.username, details.algorithm, details.blob, request.service)
        try:
            key.verify(data, details.signature, details.algorithm)
        except RemoteProtocolError as error:
            _log.info("a public key's signature was refused: %s", error)
            return _Outcome(FAILED)
        return _Outcome((yield from _decision(CheckPublicKey(request.username, key, True))))
    result = yield from _decision(CheckPublicKey(request.username, key, False))
    if result is FAILED:
        return _Outcome(FAILED)
    yield from send(UserauthPkOk(details.algorithm, details.blob))
    return _Outcome(FAILED, is_answered=True)


def _interactive(request: UserauthRequest, limits: Limits) -> Dialog[_Outcome]:
    details = InteractiveDetails.decode(request.details)
    answer: object = yield from ask(CheckInteractive(request.username, details.submethods))
    for _ in range(limits.interactive_rounds):
        if isinstance(answer, AuthResult):
            return _Outcome(answer)
        if not isinstance(answer, InteractiveQuery):
            _log.error("keyboard-interactive was answered with %r: refused", type(answer).__name__)
            return _Outcome(FAILED)
        prompts = answer.as_prompts()
        content = Message()
        for prompt in prompts:
            content.add_string(prompt.text).add_boolean(prompt.echo)
        yield from send(UserauthInfoRequest(answer.name, answer.instructions, "", len(prompts), content.asbytes()))
        reply = yield from expect_any(UserauthInfoResponse, UserauthRequest)
        if isinstance(reply, UserauthRequest):
            # RFC 4256 s3.1: a client may give up and try something else; the attempt counts as failed.
            return _Outcome(FAILED, next_request=reply)
        assert isinstance(reply, UserauthInfoResponse)
        responses = _read_responses(reply, len(prompts), limits)
        answer = yield from ask(CheckInteractiveResponse(request.username, responses))
    return _Outcome(FAILED)


def _read_responses(reply: UserauthInfoResponse, expected: int, limits: Limits) -> tuple[str, ...]:
    if reply.count != expected or len(reply.responses) > limits.interactive_bytes:
        raise RemoteProtocolError(f"{reply.count} responses to {expected} prompts")
    content = Message(reply.responses)
    responses = tuple(content.get_text() for _ in range(reply.count))
    if content.get_remainder():
        raise RemoteProtocolError("bytes behind the last response")
    return responses
