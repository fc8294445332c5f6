"""RFC 4252 and RFC 4256: the messages of user authentication.

Numbers 60 and up mean different things to different methods.  Their classes share the numbers, and the dialog that
waits for one of them says which it expects.
"""

from __future__ import annotations

import attrs

from trio_ssh.wire.fields import (
    Boolean,
    DeclaredMessage,
    NameList,
    Rest,
    String,
    Structure,
    Text,
    UInt32,
    message,
    structure,
)


@message(50)
class UserauthRequest(DeclaredMessage):
    """RFC 4252 s5: log `username` in to `service`; what the method needs follows."""

    username: Text
    service: Text
    method: Text
    details: Rest = attrs.field(repr=False)  # a password may be in it


@structure
class PasswordDetails(Structure):
    """RFC 4252 s8: the details of method ``password``."""

    is_change: Boolean
    password: Text = attrs.field(repr=False)


@structure
class PasswordChangeDetails(Structure):
    """RFC 4252 s8: the same, where the user changes an expired password."""

    is_change: Boolean
    password: Text = attrs.field(repr=False)
    new_password: Text = attrs.field(repr=False)


@structure
class PublicKeyProbe(Structure):
    """RFC 4252 s7: would this key do?  Nothing is proven by it."""

    is_signed: Boolean
    algorithm: Text
    blob: String


@structure
class PublicKeyDetails(Structure):
    """RFC 4252 s7: the key, and the signature that proves it."""

    is_signed: Boolean
    algorithm: Text
    blob: String
    signature: String


@structure
class HostboundProbe(Structure):
    """OpenSSH PROTOCOL s3.1, ``publickey-hostbound-v00@openssh.com``: the same, and whom the client takes us for."""

    is_signed: Boolean
    algorithm: Text
    blob: String
    host_key: String


@structure
class HostboundDetails(Structure):
    """OpenSSH PROTOCOL s3.1: the key, the server's host key, and the signature over both."""

    is_signed: Boolean
    algorithm: Text
    blob: String
    host_key: String
    signature: String


@structure
class HostbasedSubject(Structure):
    """RFC 4252 s9: which host vouches for which of its users."""

    algorithm: Text
    blob: String
    client_host: Text
    client_user: Text


@structure
class HostbasedDetails(Structure):
    """RFC 4252 s9: the details of method ``hostbased``: the same, and the host's signature."""

    algorithm: Text
    blob: String
    client_host: Text
    client_user: Text
    signature: String


@structure
class GssapiDetails(Structure):
    """RFC 4462 s3.2: the details of method ``gssapi-with-mic``: so many mechanisms, each a DER-encoded OID."""

    count: UInt32
    mechanisms: Rest


@structure
class GssapiKeyexDetails(Structure):
    """RFC 4462 s4: the details of method ``gssapi-keyex``: a MIC by the context of the key exchange."""

    mic: String


@structure
class InteractiveDetails(Structure):
    """RFC 4256 s3.1: the details of method ``keyboard-interactive``."""

    language: Text
    submethods: Text


@message(51)
class UserauthFailure(DeclaredMessage):
    """RFC 4252 s5.1: the request failed, or is not enough; these methods can continue."""

    methods: NameList
    partial_success: Boolean


@message(52)
class UserauthSuccess(DeclaredMessage):
    """RFC 4252 s5.1: the user is logged in."""


@message(53)
class UserauthBanner(DeclaredMessage):
    """RFC 4252 s5.4: something the user shall read."""

    text: Text
    language: Text


@message(60)
class UserauthPkOk(DeclaredMessage):
    """RFC 4252 s7: the probed key would do."""

    algorithm: Text
    blob: String


@message(60)
class UserauthPasswdChangereq(DeclaredMessage):
    """RFC 4252 s8: the password has expired."""

    prompt: Text
    language: Text


@message(60)
class UserauthInfoRequest(DeclaredMessage):
    """RFC 4256 s3.2: so many prompts to answer: each a text, and whether the answer may be shown."""

    name: Text
    instruction: Text
    language: Text
    count: UInt32
    prompts: Rest


@message(61)
class UserauthInfoResponse(DeclaredMessage):
    """RFC 4256 s3.4: so many answers, in the order of the prompts."""

    count: UInt32
    responses: Rest = attrs.field(repr=False)


@message(60)
class UserauthGssapiResponse(DeclaredMessage):
    """RFC 4462 s3.3: the mechanism that the server chose."""

    mechanism: String


@message(61)
class UserauthGssapiToken(DeclaredMessage):
    """RFC 4462 s3.4: what one side's GSS-API has for the other's."""

    token: String = attrs.field(repr=False)


@message(63)
class UserauthGssapiExchangeComplete(DeclaredMessage):
    """RFC 4462 s3.5: the context is there, and has no integrity protection."""


@message(64)
class UserauthGssapiError(DeclaredMessage):
    """RFC 4462 s3.8: what went wrong, for a person; a failure follows."""

    major_status: UInt32
    minor_status: UInt32
    text: Text
    language: Text


@message(65)
class UserauthGssapiErrtok(DeclaredMessage):
    """RFC 4462 s3.9: what went wrong, for the other side's GSS-API."""

    token: String = attrs.field(repr=False)


@message(66)
class UserauthGssapiMic(DeclaredMessage):
    """RFC 4462 s3.5: the context's signature of the session and the request."""

    mic: String
