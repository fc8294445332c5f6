"""What a login's restrictions leave of what its client asks; looked at before any check of the server's author is.

Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT; OpenSSH's session.c and channels.c.
"""

from __future__ import annotations

from typing import Final

from trio_ssh.keys.key_restrictions import KeyRestrictions
from trio_ssh.wire.connection import TcpipChannel, TcpipForward
from trio_ssh.wire.message import Message

#: The variable in which a forced command finds what the client wanted to run.
ORIGINAL_COMMAND: Final = "SSH_ORIGINAL_COMMAND"

_INTERNAL_SFTP: Final = "internal-sftp"


def is_internal_sftp(command: str) -> bool:
    """Tell whether a forced command is sshd's name for its own SFTP server, and no command at all."""
    return command.split(None, 1)[:1] == [_INTERNAL_SFTP]


def lets_subsystem(forced_command: str, subsystem: str) -> bool:
    """Tell whether the subsystem runs that was asked for, in spite of a forced command."""
    # What stands behind the name, such as ``-R`` for read-only, is for sshd's server, and ours couldn't obey it.
    return forced_command.strip() == _INTERNAL_SFTP and subsystem == "sftp"


def permits_channel(restrictions: KeyRestrictions, kind: str, details: bytes) -> bool:
    """Tell whether a client may open such a channel.

    Raises:
        RemoteProtocolError: the details are malformed.
    """
    match kind:
        case "direct-tcpip":
            asked = TcpipChannel.decode(details)
            return restrictions.permits_open(asked.host, asked.port)
        case "direct-streamlocal@openssh.com":
            return restrictions.permits_open(Message(details).get_text(), None)
        case "tun@openssh.com":
            # The line may name a device, and which one a client gets is nobody's to choose here.
            return restrictions.port_forwarding and restrictions.tunnel is None
        case _:
            return True


def permits_session_request(restrictions: KeyRestrictions, name: str) -> bool:
    """Tell whether a session's client may ask for that."""
    match name:
        case "pty-req":
            return restrictions.pty
        case "x11-req":
            return restrictions.x11_forwarding
        case "auth-agent-req@openssh.com":
            return restrictions.agent_forwarding
        case "signal":
            # Whoever could end a part of what was forced upon them could pass it by; nor does sshd take any.
            return restrictions.force_command is None
        case _:
            return True


def permits_global_request(restrictions: KeyRestrictions, name: str, details: bytes) -> bool:
    """Tell whether a client may ask the connection for that.

    Raises:
        RemoteProtocolError: the details are malformed.
    """
    match name:
        case "tcpip-forward":
            asked = TcpipForward.decode(details)
            return restrictions.permits_listen(asked.address, asked.port)
        case "streamlocal-forward@openssh.com":
            return restrictions.permits_listen(Message(details).get_text(), None)
        case _:
            return True
