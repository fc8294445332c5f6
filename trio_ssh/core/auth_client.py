"""RFC 4252 and RFC 4256, the client's side: each authentication method is one dialog.

A dialog asks for what it needs (a signature, answers to prompts) and returns an `AuthAnswer`; which method is tried
next, and with what, is decided outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from trio_ssh.core.dialog import Dialog, Expect, ask, expect, expect_any, send
from trio_ssh.core.limits import Limits
from trio_ssh.core.questions import NewPasswordWanted, Prompt, PromptsArrived, SignatureRefused, SignatureWanted
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.keys.signer import Signer
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message
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
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)

USERAUTH: Final = "ssh-userauth"
CONNECTION: Final = "ssh-connection"

#: OpenSSH PROTOCOL s3.1: ``publickey``, whose signature names the server's host key too.
HOSTBOUND: Final = "publickey-hostbound-v00@openssh.com"
#: The extension by which a server says that it knows that method.
HOSTBOUND_EXTENSION: Final = "publickey-hostbound@openssh.com"

#: New passwords that one attempt tries, of a server that finds something wrong with each.
PASSWORD_CHANGES: Final = 3


@attrs.frozen
class AuthAnswer:
    """The server's answer to one attempt.

    Attributes:
        is_success: the user is logged in.
        allowed: after a failure, the methods that can continue.
        is_partial: the attempt itself succeeded and another method is wanted besides.
        remark: why it failed, where there is more to say than that.
        is_decided: the server has decided; otherwise the attempt was given up here, and `allowed` says nothing.
    """

    is_success: bool
    allowed: tuple[str, ...] = ()
    is_partial: bool = False
    remark: str = ""
    is_decided: bool = True


def request_service() -> Dialog[None]:
    """RFC 4253 s10: ask for authentication to begin.  Once per connection, before the first method."""
    yield from send(ServiceRequest(USERAUTH))
    _check_service((yield from expect(ServiceAccept)))


def _check_service(accept: ServiceAccept) -> None:
    if accept.service != USERAUTH:
        raise RemoteProtocolError("the server accepted a service that was not asked for")


#: How the version lines of servers begin that send each answer at once.
SENDS_AT_ONCE: Final = (b"SSH-2.0-trio_ssh", b"SSH-2.0-AsyncSSH")


def with_service(dialog: Dialog[AuthAnswer]) -> Dialog[AuthAnswer]:
    """As `request_service`, and at once say what `dialog` begins with: a round trip less.

    A server deals with one message after the other, and refuses a service by disconnecting.  RFC 4253 s10 wants a
    client to wait only where the key exchange has not authenticated the server, and ours always do.  But it is done
    only with servers that are known to send at once: sshd has Nagle's algorithm on until the login, so its second
    answer waits for our acknowledgement of the first, and that for something to say.  Measured: 40 ms.
    """
    yield from send(ServiceRequest(USERAUTH))
    answer: AuthAnswer
    try:
        step = next(dialog)
        while not isinstance(step, Expect):
            step = dialog.send((yield step))
    except StopIteration as stop:  # it gave up before it said anything
        answer = stop.value
        _check_service((yield from expect(ServiceAccept)))
        return answer
    _check_service((yield from expect(ServiceAccept)))
    value = yield step
    try:
        while True:
            value = yield dialog.send(value)
    except StopIteration as stop:
        answer = stop.value
        return answer


def none_as_client(username: str) -> Dialog[AuthAnswer]:
    """RFC 4252 s5.2: ask to be let in without proof; the refusal lists the methods."""
    yield from send(UserauthRequest(username, CONNECTION, "none", b""))
    return answer_of((yield from expect_any(UserauthSuccess, UserauthFailure)))


def password_as_client(username: str, password: str) -> Dialog[AuthAnswer]:
    """RFC 4252 s8; where the password has expired, whoever is asked gives a new one."""
    details = PasswordDetails(False, password).encode()
    yield from send(UserauthRequest(username, CONNECTION, "password", details))
    for _ in range(PASSWORD_CHANGES):
        reply = yield from expect_any(UserauthSuccess, UserauthFailure, UserauthPasswdChangereq)
        if not isinstance(reply, UserauthPasswdChangereq):
            return answer_of(reply)
        new_password: str | None = yield from ask(NewPasswordWanted(reply.prompt))
        if new_password is None:
            return AuthAnswer(False, remark="the password has expired and must be changed", is_decided=False)
        details = PasswordChangeDetails(True, password, new_password).encode()
        yield from send(UserauthRequest(username, CONNECTION, "password", details))
    reply = yield from expect_any(UserauthSuccess, UserauthFailure, UserauthPasswdChangereq)
    if isinstance(reply, UserauthPasswdChangereq):
        return AuthAnswer(False, remark=f"none of {PASSWORD_CHANGES} new passwords would do", is_decided=False)
    return answer_of(reply)


def publickey_as_client(
    username: str, key: Signer, algorithm: str, session_id: bytes, *, host_key: bytes = b"", probe: bool = True
) -> Dialog[AuthAnswer]:
    """RFC 4252 s7.

    Args:
        algorithm: one of `key.algorithms`.
        session_id: the first exchange hash, to which the signature is bound.
        host_key: the server's, to which it is bound as well; empty where the server doesn't know that.
        probe: ask first whether the key would do, so that none is used to sign in vain (an agent may ask its user).
    """
    method = HOSTBOUND if host_key else "publickey"
    blob = key.asbytes()
    if probe:
        yield from send(UserauthRequest(username, CONNECTION, method, _key_details(False, algorithm, blob, host_key)))
        reply = yield from expect_any(UserauthPkOk, UserauthSuccess, UserauthFailure)
        if not isinstance(reply, UserauthPkOk):
            return answer_of(reply)
        if reply.blob != blob or reply.algorithm != algorithm:
            raise RemoteProtocolError("the server accepted a key that was not offered")
    signed = signed_data(session_id, username, algorithm, blob, host_key=host_key)
    signature: bytes | SignatureRefused = yield from ask(SignatureWanted(key, signed, algorithm))
    if isinstance(signature, SignatureRefused):
        return AuthAnswer(False, remark=signature.reason, is_decided=False)
    if host_key:
        details = HostboundDetails(True, algorithm, blob, host_key, signature).encode()
    else:
        details = PublicKeyDetails(True, algorithm, blob, signature).encode()
    yield from send(UserauthRequest(username, CONNECTION, method, details))
    return answer_of((yield from expect_any(UserauthSuccess, UserauthFailure)))


def _key_details(is_signed: bool, algorithm: str, blob: bytes, host_key: bytes) -> bytes:
    if host_key:
        return HostboundProbe(is_signed, algorithm, blob, host_key).encode()
    return PublicKeyProbe(is_signed, algorithm, blob).encode()


def signed_data(
    session_id: bytes,
    username: str,
    algorithm: str,
    blob: bytes,
    service: str = CONNECTION,
    host_key: bytes = b"",
) -> bytes:
    """RFC 4252 s7: what a user's key signs: the session, then the request up to the key, or to the server's."""
    method = HOSTBOUND if host_key else "publickey"
    request = UserauthRequest(username, service, method, _key_details(True, algorithm, blob, host_key))
    return Message().add_string(session_id).add_bytes(request.encode()).asbytes()


def hostbased_as_client(
    username: str, key: Signer, algorithm: str, session_id: bytes, client_host: str, client_username: str
) -> Dialog[AuthAnswer]:
    """RFC 4252 s9: this host vouches for its user.

    Args:
        key: this host's.
        algorithm: one of `key.algorithms`.
        client_host: this host's full name.
        client_username: who the user is here.
    """
    subject = HostbasedSubject(algorithm, key.asbytes(), client_host, client_username)
    signed = signed_by_host(session_id, username, subject)
    signature: bytes | SignatureRefused = yield from ask(SignatureWanted(key, signed, algorithm))
    if isinstance(signature, SignatureRefused):
        return AuthAnswer(False, remark=signature.reason, is_decided=False)
    details = HostbasedDetails(algorithm, subject.blob, client_host, client_username, signature).encode()
    yield from send(UserauthRequest(username, CONNECTION, "hostbased", details))
    return answer_of((yield from expect_any(UserauthSuccess, UserauthFailure)))


def signed_by_host(session_id: bytes, username: str, subject: HostbasedSubject, service: str = CONNECTION) -> bytes:
    """RFC 4252 s9: what a client's host signs: the session, then the request up to the user's name there."""
    request = UserauthRequest(username, service, "hostbased", subject.encode())
    return Message().add_string(session_id).add_bytes(request.encode()).asbytes()


def interactive_as_client(username: str, submethods: str, limits: Limits) -> Dialog[AuthAnswer]:
    """RFC 4256: answer rounds of prompts until the server has decided."""
    details = InteractiveDetails("", submethods).encode()
    yield from send(UserauthRequest(username, CONNECTION, "keyboard-interactive", details))
    for _ in range(limits.interactive_rounds):
        reply = yield from expect_any(UserauthSuccess, UserauthFailure, UserauthInfoRequest)
        if not isinstance(reply, UserauthInfoRequest):
            return answer_of(reply)
        prompts = read_prompts(reply, limits)
        answers: Sequence[str] = yield from ask(PromptsArrived(reply.name, reply.instruction, prompts))
        responses = Message()
        for answer in answers:
            responses.add_string(answer)
        yield from send(UserauthInfoResponse(len(answers), responses.asbytes()))
    raise RemoteProtocolError(f"the server asked more than {limits.interactive_rounds} rounds of questions")


def read_prompts(request: UserauthInfoRequest, limits: Limits) -> tuple[Prompt, ...]:
    """Read the prompts of one round."""
    if request.count > limits.interactive_prompts or len(request.prompts) > limits.interactive_bytes:
        raise RemoteProtocolError(f"a round of {request.count} prompts in {len(request.prompts)} bytes")
    content = Message(request.prompts)
    prompts = tuple(Prompt(content.get_text(), content.get_boolean()) for _ in range(request.count))
    if content.get_remainder():
        raise RemoteProtocolError("bytes behind the last prompt")
    return prompts


def answer_of(reply: DeclaredMessage, remark: str = "") -> AuthAnswer:
    """Read a SUCCESS or a FAILURE; `remark` is what the server said besides."""
    if isinstance(reply, UserauthFailure):
        return AuthAnswer(False, reply.methods, reply.partial_success, remark)
    return AuthAnswer(True)
