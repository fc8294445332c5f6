"""RFC 4254: global requests, channels, and what is asked of a channel.

Channel numbers are named from the reader's side: `recipient` is always the number that the reader of the message chose.
"""

from __future__ import annotations

from typing import Final

import attrs

from trio_ssh.wire.fields import Boolean, DeclaredMessage, Rest, String, Structure, Text, UInt32, message, structure


@message(80)
class GlobalRequest(DeclaredMessage):
    """RFC 4254 s4: a request that concerns no channel."""

    name: Text
    want_reply: Boolean
    details: Rest


@message(81)
class RequestSuccess(DeclaredMessage):
    """RFC 4254 s4: the oldest unanswered global request succeeded."""

    details: Rest


@message(82)
class RequestFailure(DeclaredMessage):
    """RFC 4254 s4: the oldest unanswered global request failed."""


@message(90)
class ChannelOpen(DeclaredMessage):
    """RFC 4254 s5.1: open a channel of this kind, to which the sender may be sent `initial_window` bytes."""

    kind: Text
    sender: UInt32
    initial_window: UInt32
    maximum_packet: UInt32
    details: Rest


@message(91)
class ChannelOpenConfirmation(DeclaredMessage):
    """RFC 4254 s5.1: the channel is open."""

    recipient: UInt32
    sender: UInt32
    initial_window: UInt32
    maximum_packet: UInt32
    details: Rest


@message(92)
class ChannelOpenFailure(DeclaredMessage):
    """RFC 4254 s5.1: the channel is refused."""

    recipient: UInt32
    reason: UInt32
    description: Text
    language: Text


@message(93)
class ChannelWindowAdjust(DeclaredMessage):
    """RFC 4254 s5.2: the sender grants `bytes_to_add` more bytes; the sum must stay below 2**32."""

    recipient: UInt32
    bytes_to_add: UInt32


@message(94)
class ChannelData(DeclaredMessage):
    """RFC 4254 s5.2: data.  The hot paths read and write it without this class."""

    recipient: UInt32
    data: String


@message(95)
class ChannelExtendedData(DeclaredMessage):
    """RFC 4254 s5.2: data of another type; only stderr was ever assigned."""

    recipient: UInt32
    type_code: UInt32
    data: String


@message(96)
class ChannelEof(DeclaredMessage):
    """RFC 4254 s5.3: no more data comes from the sender."""

    recipient: UInt32


@message(97)
class ChannelClose(DeclaredMessage):
    """RFC 4254 s5.3: nothing more at all comes from the sender."""

    recipient: UInt32


@message(98)
class ChannelRequest(DeclaredMessage):
    """RFC 4254 s5.4: a request that concerns one channel."""

    recipient: UInt32
    name: Text
    want_reply: Boolean
    details: Rest = attrs.field(repr=False)


@message(99)
class ChannelSuccess(DeclaredMessage):
    """RFC 4254 s5.4: the channel's oldest unanswered request succeeded."""

    recipient: UInt32


@message(100)
class ChannelFailure(DeclaredMessage):
    """RFC 4254 s5.4: the channel's oldest unanswered request failed."""

    recipient: UInt32


# -- details of channel requests


@structure
class PtyRequest(Structure):
    """RFC 4254 s6.2: details of ``pty-req``; width and height in characters, then in pixels."""

    term: Text
    width: UInt32
    height: UInt32
    width_pixels: UInt32
    height_pixels: UInt32
    modes: String


@structure
class X11Request(Structure):
    """RFC 4254 s6.3.1: details of ``x11-req``."""

    single_connection: Boolean
    auth_protocol: Text
    auth_cookie: String = attrs.field(repr=False)
    screen_number: UInt32


@structure
class EnvironmentRequest(Structure):
    """RFC 4254 s6.4: details of ``env``."""

    name: Text
    value: Text = attrs.field(repr=False)  # what programs are given this way is often secret


@structure
class ExecRequest(Structure):
    """RFC 4254 s6.5: details of ``exec``."""

    command: Text


@structure
class SubsystemRequest(Structure):
    """RFC 4254 s6.5: details of ``subsystem``."""

    name: Text


@structure
class WindowChange(Structure):
    """RFC 4254 s6.7: details of ``window-change``."""

    width: UInt32
    height: UInt32
    width_pixels: UInt32
    height_pixels: UInt32


@structure
class SignalRequest(Structure):
    """RFC 4254 s6.9: details of ``signal``; the name without ``SIG``."""

    name: Text


@structure
class ExitStatus(Structure):
    """RFC 4254 s6.10: details of ``exit-status``."""

    status: UInt32


@structure
class ExitSignal(Structure):
    """RFC 4254 s6.10: details of ``exit-signal``."""

    name: Text
    core_dumped: Boolean
    message: Text
    language: Text


# -- details of other channels and of global requests


@structure
class TcpipChannel(Structure):
    """RFC 4254 s7.2: details of opening ``direct-tcpip`` and ``forwarded-tcpip`` channels."""

    host: Text
    port: UInt32
    originator_host: Text
    originator_port: UInt32


@structure
class TcpipForward(Structure):
    """RFC 4254 s7.1: details of the global requests ``tcpip-forward`` and ``cancel-tcpip-forward``."""

    address: Text
    port: UInt32


@structure
class TcpipForwardReply(Structure):
    """RFC 4254 s7.1: the port that was bound, where 0 was asked for."""

    port: UInt32


@structure
class StreamlocalChannel(Structure):
    """OpenSSH PROTOCOL s2.4: details of opening ``direct-streamlocal@openssh.com`` channels."""

    path: Text
    reserved: String
    reserved_port: UInt32


@structure
class ForwardedStreamlocalChannel(Structure):
    """OpenSSH PROTOCOL s2.4: details of opening ``forwarded-streamlocal@openssh.com`` channels."""

    path: Text
    reserved: String


@structure
class StreamlocalForward(Structure):
    """OpenSSH PROTOCOL s2.4: details of ``streamlocal-forward@openssh.com``, and of the request that cancels it."""

    path: Text


#: The wire has four bytes for a port.
LARGEST_PORT: Final = 0xFFFF


def check_port(port: int) -> int:
    """Return a port, having found out before it is sent whether it is one: RFC 4254 has four bytes for it.

    Raises:
        TypeError: it is no int.
        ValueError: it is none.
    """
    given: object = port
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"a port is an int, not {given!r}")
    if not 0 <= port <= LARGEST_PORT:
        raise ValueError(f"a port is 0 .. 65535, not {port}")
    return port
