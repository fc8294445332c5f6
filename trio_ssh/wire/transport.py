"""RFC 4253 sections 8 to 11, RFC 8308, and OpenSSH's ping: the messages of the transport layer."""

from __future__ import annotations

from trio_ssh.wire.fields import (
    Boolean,
    Cookie,
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


@message(1)
class Disconnect(DeclaredMessage):
    """RFC 4253 s11.1: the sender ends the connection."""

    reason: UInt32
    description: Text
    language: Text


@message(2)
class Ignore(DeclaredMessage):
    """RFC 4253 s11.2: bytes that mean nothing."""

    data: String


@message(3)
class Unimplemented(DeclaredMessage):
    """RFC 4253 s11.4: the packet with this sequence number was not understood."""

    sequence_number: UInt32


@message(4)
class Debug(DeclaredMessage):
    """RFC 4253 s11.3: a note for the log."""

    always_display: Boolean
    text: Text
    language: Text


@message(5)
class ServiceRequest(DeclaredMessage):
    """RFC 4253 s10: the client asks for a service."""

    service: Text


@message(6)
class ServiceAccept(DeclaredMessage):
    """RFC 4253 s10: the server agrees to the service."""

    service: Text


@message(7)
class ExtInfo(DeclaredMessage):
    """RFC 8308 s2.3: so many pairs of an extension's name and value, to be read with `Extension`."""

    count: UInt32
    extensions: Rest


@structure
class Extension(Structure):
    """RFC 8308 s2.3: one pair of an `ExtInfo`."""

    name: Text
    value: String


@message(20)
class KexInit(DeclaredMessage):
    """RFC 4253 s7.1: what the sender can do, best first."""

    cookie: Cookie
    kex_algorithms: NameList
    server_host_key_algorithms: NameList
    encryption_client_to_server: NameList
    encryption_server_to_client: NameList
    mac_client_to_server: NameList
    mac_server_to_client: NameList
    compression_client_to_server: NameList
    compression_server_to_client: NameList
    languages_client_to_server: NameList
    languages_server_to_client: NameList
    first_kex_packet_follows: Boolean
    reserved: UInt32


@message(21)
class NewKeys(DeclaredMessage):
    """RFC 4253 s7.3: everything behind this message is under the new keys."""


@message(192)
class Ping(DeclaredMessage):
    """OpenSSH PROTOCOL s1.8: please send `data` back."""

    data: String


@message(193)
class Pong(DeclaredMessage):
    """OpenSSH PROTOCOL s1.8: the answer to a ping."""

    data: String
