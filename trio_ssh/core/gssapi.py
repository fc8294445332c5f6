"""RFC 4462 s3 and s4: ``gssapi-with-mic`` and ``gssapi-keyex``, both sides.

What GSS-API does is asked for; only its tokens are seen here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Final, Protocol

import attrs

from trio_ssh.core.auth_client import CONNECTION, AuthAnswer, answer_of
from trio_ssh.core.decision import Outcome, decision
from trio_ssh.core.dialog import Dialog, ask, expect_any, send
from trio_ssh.core.questions import AuthResult, Question, UserQuestion
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable
from trio_ssh.wire.userauth import (
    GssapiDetails,
    GssapiKeyexDetails,
    UserauthFailure,
    UserauthGssapiError,
    UserauthGssapiErrtok,
    UserauthGssapiExchangeComplete,
    UserauthGssapiMic,
    UserauthGssapiResponse,
    UserauthGssapiToken,
    UserauthRequest,
    UserauthSuccess,
)
from trio_ssh.wire.values import Value, value

_log = logging.getLogger("trio_ssh.auth")

WITH_MIC: Final = "gssapi-with-mic"
KEYEX: Final = "gssapi-keyex"

#: Mechanisms that a client may name, and bytes of each.
MAX_MECHANISMS: Final = 32
MAX_MECHANISM_BYTES: Final = 64

#: Tokens of one attempt in either direction.  Kerberos needs one each.
MAX_TOKENS: Final = 16


@value
class GssStep(Value):
    """What GSS-API has made of a token.

    Attributes:
        token: what the other side shall have; empty for nothing.
        is_complete: the context is there.
        has_integrity: it can sign.
        is_mutual: each side has authenticated the other.
    """

    token: bytes = attrs.field(repr=False)
    is_complete: bool
    has_integrity: bool = True
    is_mutual: bool = False


@value
class GssRefused(Value):
    """The answer where GSS-API wouldn't: there are no credentials, or the other side's token is no good.

    Attributes:
        reason: for our side, since it may name our files.
        token: tells the other side's GSS-API why; empty for nothing.
    """

    reason: str
    token: bytes = b""


class GssContext(Protocol):
    """One side of a security context."""

    @property
    def mechanism(self) -> bytes:
        """Its mechanism: an OID in DER, with tag and length."""
        ...

    def step(self, token: bytes | None) -> Awaitable[GssStep | GssRefused]:
        """Take the other side's token; None for a client's first step."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return a MIC of `data`."""
        ...

    def verifies(self, data: bytes, mic: bytes) -> bool:
        """Tell whether `mic` is the other side's of `data`."""
        ...


@value
class GssStepWanted(Question):
    """Take a step of this context.  Answer: a `GssStep`, or `GssRefused`."""

    context: GssContext
    token: bytes | None = attrs.field(repr=False)


@value
class GssMicWanted(Question):
    """Client: sign `data` by this context.  Answer: the MIC."""

    context: GssContext
    data: bytes = attrs.field(repr=False)


@value
class GssBegins(UserQuestion):
    """Server: begin a context of one of these mechanisms.  Answer: a `GssContext`, or None where none will do."""

    mechanisms: tuple[bytes, ...]


@value
class CheckGssapi(UserQuestion):
    """Server: is `mic` a signature of `data` by this context's other side, and may it be this user?

    Answer: an `AuthResult`.
    """

    context: GssContext
    data: bytes = attrs.field(repr=False)
    mic: bytes = attrs.field(repr=False)


@value
class CheckGssapiKeyex(CheckGssapi):
    """As `CheckGssapi`, of the key exchange's own context."""


class GssExchangeQuestion(Question):
    """A key exchange wants something of GSS-API, at any time of the connection."""

    __slots__ = ()


@value
class GssExchangeStep(GssExchangeQuestion):
    """Take a step of this context.  Answer: a `GssStep`, or `GssRefused`."""

    context: GssContext
    token: bytes | None = attrs.field(repr=False)


@value
class GssExchangeMic(GssExchangeQuestion):
    """Server: sign the exchange hash by this context.  Answer: the MIC."""

    context: GssContext
    digest: bytes = attrs.field(repr=False)


@value
class GssExchangeProof(GssExchangeQuestion):
    """Client: is `mic` the server's signature of the exchange hash by this context?  Answer: True if it is."""

    context: GssContext
    digest: bytes = attrs.field(repr=False)
    mic: bytes = attrs.field(repr=False)


def signed_by_context(session_id: bytes, username: str, method: str = WITH_MIC, service: str = CONNECTION) -> bytes:
    """RFC 4462 s3.5: what a context signs: the session, and the request without its details."""
    request = UserauthRequest(username, service, method, b"")
    return Message().add_string(session_id).add_bytes(request.encode()).asbytes()


def gssapi_as_client(username: str, context: GssContext, session_id: bytes) -> Dialog[AuthAnswer]:
    """RFC 4462 s3: exchange tokens until the context is there, and sign the session by it."""
    # The first step before the request: where there are no credentials, the server need not hear of it.
    step: GssStep | GssRefused = yield from ask(GssStepWanted(context, None))
    if isinstance(step, GssRefused):
        return AuthAnswer(False, remark=step.reason, is_decided=False)
    mechanism = context.mechanism
    details = GssapiDetails(1, Message().add_string(mechanism).asbytes()).encode()
    yield from send(UserauthRequest(username, CONNECTION, WITH_MIC, details))
    reply = yield from expect_any(UserauthSuccess, UserauthFailure, UserauthGssapiResponse)
    if not isinstance(reply, UserauthGssapiResponse):
        return answer_of(reply)
    if reply.mechanism != mechanism:
        raise RemoteProtocolError("the server chose a mechanism that was not offered")
    for _ in range(MAX_TOKENS):
        if step.token:
            yield from send(UserauthGssapiToken(step.token))
        if step.is_complete:
            return (yield from _finish_as_client(username, context, session_id, step))
        token = yield from _token_from_server()
        if isinstance(token, AuthAnswer):
            return token
        step = yield from ask(GssStepWanted(context, token))
        if isinstance(step, GssRefused):
            return AuthAnswer(False, remark=step.reason, is_decided=False)
    raise RemoteProtocolError(f"the server wants more than {MAX_TOKENS} tokens")


def _token_from_server() -> Dialog[bytes | AuthAnswer]:
    """Wait for a token, or for the end; errors in between are remarks."""
    remark = ""
    for _ in range(MAX_TOKENS):
        reply = yield from expect_any(
            UserauthSuccess, UserauthFailure, UserauthGssapiToken, UserauthGssapiError, UserauthGssapiErrtok
        )
        match reply:
            case UserauthGssapiToken(token):
                return token
            case UserauthGssapiError():
                remark = printable(reply.text, 200)
            case UserauthGssapiErrtok():
                remark = remark or "the server's GSS-API refused"
            case UserauthFailure():
                return answer_of(reply, remark)
            case _:
                # RFC 4462 s3.5: the context was not there yet, and nothing was signed by it.
                raise RemoteProtocolError("a success in the midst of GSS-API's tokens")
    raise RemoteProtocolError("the server goes on about errors")


def _finish_as_client(username: str, context: GssContext, session_id: bytes, step: GssStep) -> Dialog[AuthAnswer]:
    if step.has_integrity:
        mic: bytes = yield from ask(GssMicWanted(context, signed_by_context(session_id, username)))
        yield from send(UserauthGssapiMic(mic))
    else:
        yield from send(UserauthGssapiExchangeComplete())
    remark = ""
    for _ in range(3):
        reply = yield from expect_any(UserauthSuccess, UserauthFailure, UserauthGssapiError, UserauthGssapiErrtok)
        if isinstance(reply, UserauthSuccess | UserauthFailure):
            return answer_of(reply, remark)
        remark = printable(reply.text, 200) if isinstance(reply, UserauthGssapiError) else remark
    raise RemoteProtocolError("the server goes on about an error")


def gssapi_as_server(request: UserauthRequest, session_id: bytes) -> Dialog[Outcome]:
    """RFC 4462 s3: exchange tokens, and take nothing but the context's signature of this session for a proof."""
    mechanisms = _read_mechanisms(request)
    context: GssContext | None = None
    if mechanisms:
        context = yield from ask(GssBegins(request.username, mechanisms))
    if context is None:
        return Outcome(AuthResult.FAILED)
    yield from send(UserauthGssapiResponse(context.mechanism))
    for _ in range(MAX_TOKENS):
        reply = yield from expect_any(UserauthGssapiToken, UserauthGssapiErrtok, UserauthRequest)
        if isinstance(reply, UserauthRequest):
            return Outcome(AuthResult.FAILED, next_request=reply)
        if not isinstance(reply, UserauthGssapiToken):
            return Outcome(AuthResult.FAILED)
        step: GssStep | GssRefused = yield from ask(GssStepWanted(context, reply.token))
        if not isinstance(step, GssStep):
            _log.info("a GSS-API token was refused: %s", getattr(step, "reason", "an answer of another kind"))
            return Outcome(AuthResult.FAILED)
        if step.token:
            yield from send(UserauthGssapiToken(step.token))
        if step.is_complete:
            return (yield from _finish_as_server(request, context, session_id))
    raise RemoteProtocolError(f"the client sends more than {MAX_TOKENS} tokens")


def _finish_as_server(request: UserauthRequest, context: GssContext, session_id: bytes) -> Dialog[Outcome]:
    # A context without integrity proves nothing about this session: somebody in between could have passed its tokens
    # on.  RFC 4462 s3.5 lets it end with EXCHANGE_COMPLETE; we don't.
    reply = yield from expect_any(
        UserauthGssapiMic, UserauthGssapiExchangeComplete, UserauthGssapiErrtok, UserauthRequest
    )
    if isinstance(reply, UserauthRequest):
        return Outcome(AuthResult.FAILED, next_request=reply)
    if not isinstance(reply, UserauthGssapiMic):
        return Outcome(AuthResult.FAILED)
    data = signed_by_context(session_id, request.username, WITH_MIC, request.service)
    return Outcome((yield from decision(CheckGssapi(request.username, context, data, reply.mic))))


def _read_mechanisms(request: UserauthRequest) -> tuple[bytes, ...]:
    """Read what the client names; nothing where that is malformed, as for a method that isn't known."""
    try:
        details = GssapiDetails.decode(request.details)
        if details.count > MAX_MECHANISMS:
            return ()
        content = Message(details.mechanisms)
        found = tuple(content.get_string() for _ in range(details.count))
    except RemoteProtocolError:
        return ()
    if content.get_remainder():
        return ()
    return tuple(each for each in found if len(each) <= MAX_MECHANISM_BYTES)


def keyex_as_client(username: str, context: GssContext, session_id: bytes) -> Dialog[AuthAnswer]:
    """RFC 4462 s4: sign the session by the context of its first key exchange."""
    mic: bytes = yield from ask(GssMicWanted(context, signed_by_context(session_id, username, KEYEX)))
    yield from send(UserauthRequest(username, CONNECTION, KEYEX, GssapiKeyexDetails(mic).encode()))
    return answer_of((yield from expect_any(UserauthSuccess, UserauthFailure)))


def keyex_as_server(request: UserauthRequest, session_id: bytes, context: GssContext | None) -> Dialog[AuthResult]:
    """RFC 4462 s4: take the signature of this session by the context of its first key exchange, if that had one."""
    try:
        details = GssapiKeyexDetails.decode(request.details)
    except RemoteProtocolError:
        return AuthResult.FAILED  # few servers know the method, and whoever doesn't can't tell
    if context is None:
        return AuthResult.FAILED
    data = signed_by_context(session_id, request.username, KEYEX, request.service)
    return (yield from decision(CheckGssapiKeyex(request.username, context, data, details.mic)))
