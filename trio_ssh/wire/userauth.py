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
