"""trio_ssh: SSH clients and servers for trio.

    async with trio_ssh.connect("example.com", username="alice") as client:
        done = await client.run_process(["uname", "-a"], capture_stdout=True)
        print(done.stdout)

The names below are all that is public, grouped by what they are for; what is not here may change.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Final

from trio_ssh.agent import Agent, AgentKey
from trio_ssh.agent_forwarding import agent_socket, forwarded_agent
from trio_ssh.agent_server import AgentServer
from trio_ssh.client import SSHClient, connect
from trio_ssh.config import SSHConfig, SSHOptions
from trio_ssh.core.limits import Limits
from trio_ssh.core.questions import AuthResult, InteractiveQuery, Prompt
from trio_ssh.crypto.moduli import Moduli
from trio_ssh.errors import (
    AgentException,
    AuthAttempt,
    AuthenticationException,
    AuthOutcome,
    BadAuthenticationType,
    BadHostKeyException,
    CertificateException,
    ChannelClosed,
    ChannelException,
    ConfigParseError,
    ConnectionLost,
    CouldNotCanonicalize,
    ForwardingFailure,
    HostKeyException,
    IncompatiblePeer,
    InternalError,
    KeyFileException,
    LocalProtocolError,
    PartialAuthentication,
    PasswordRequiredException,
    PeerDisconnected,
    ProcessError,
    ProtocolError,
    ProxyCommandFailure,
    ProxyJumpFailure,
    RemoteProtocolError,
    RequestRefused,
    SFTPError,
    SFTPFileExists,
    SFTPNoSuchFile,
    SFTPPermissionDenied,
    SFTPUnsupported,
    SignatureException,
    SSHException,
    UnknownHostKeyException,
)
from trio_ssh.host_keys import (
    AcceptNewPolicy,
    AutoAddPolicy,
    HostKeyChange,
    HostKeyPrompt,
    MissingHostKeyPolicy,
    PinnedFingerprintPolicy,
    PromptPolicy,
    RejectPolicy,
    SSHFPAnswer,
    SSHFPPolicy,
    WarningPolicy,
)
from trio_ssh.keys.agent_protocol import AgentDestination, AgentHop
from trio_ssh.keys.allowed_signers import AllowedSigners
from trio_ssh.keys.authorized_keys import AuthorizedKey, AuthorizedKeys
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import CertificatePermissions
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.dsa import DSSKey
from trio_ssh.keys.ecdsa import ECDSAKey
from trio_ssh.keys.ed448 import Ed448Key
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.files import load_private_key, load_private_key_file, load_public_key, load_public_key_file
from trio_ssh.keys.key_restrictions import ForwardingPermit, KeyRestrictions
from trio_ssh.keys.known_hosts import HostKeys, HostKeyStatus
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.mldsa import MLDSA44Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.rsa import RSAKey
from trio_ssh.keys.security_key import SecurityKey, SecurityKeyDetails, SecurityPublicKey
from trio_ssh.keys.signer import Signer
from trio_ssh.keys.sshfp import SSHFPRecord
from trio_ssh.keys.sshsig import SSHSignature, sign_data, verify_data
from trio_ssh.process import CompletedProcess, Process
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.explain import AlgorithmChoice, Explanation
from trio_ssh.runtime.files import BufferedFile, ChannelFile
from trio_ssh.runtime.gss import GssIdentity
from trio_ssh.runtime.remote_listener import RemoteListener
from trio_ssh.runtime.security_options import SecurityOptions
from trio_ssh.runtime.session_requests import ExitReport
from trio_ssh.runtime.transport import Transport
from trio_ssh.server import serve_listeners, serve_stream, serve_tcp
from trio_ssh.server_interface import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_PASSWORD_EXPIRED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_FAILED_UNKNOWN_CHANNEL_TYPE,
    OPEN_SUCCEEDED,
    OpenResult,
    ServerInterface,
)
from trio_ssh.session import Pty, ServerProcess, SubsystemHandler
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason, TerminalMode

if sys.platform != "win32":
    from trio_ssh.local_session import run_local_session  # it needs POSIX's terminals

if TYPE_CHECKING:
    from trio_ssh import testing as testing
    from trio_ssh.sftp.attributes import SFTPAttributes
    from trio_ssh.sftp.client import SFTP, SFTPClient
    from trio_ssh.sftp.file import SFTPFile
    from trio_ssh.sftp.filesystem import LocalSFTPServer
    from trio_ssh.sftp.interface import SFTPHandle, SFTPServerInterface
    from trio_ssh.sftp.listing import SFTPDirEntry
    from trio_ssh.sftp.messages import StatVFS
    from trio_ssh.sftp.path import SFTPPath
    from trio_ssh.sftp.progress import ProgressLine
    from trio_ssh.sftp.protocol import SFTPLimits
    from trio_ssh.sftp.server import SFTPServer

#: What is imported when it is first asked for: most programs transfer no files, and SFTP is a fifth of the package.
_LATER: Final = {
    "LocalSFTPServer": "trio_ssh.sftp.filesystem",
    "ProgressLine": "trio_ssh.sftp.progress",
    "SFTP": "trio_ssh.sftp.client",
    "SFTPAttributes": "trio_ssh.sftp.attributes",
    "SFTPClient": "trio_ssh.sftp.client",
    "SFTPDirEntry": "trio_ssh.sftp.listing",
    "SFTPFile": "trio_ssh.sftp.file",
    "SFTPHandle": "trio_ssh.sftp.interface",
    "SFTPLimits": "trio_ssh.sftp.protocol",
    "SFTPPath": "trio_ssh.sftp.path",
    "SFTPServer": "trio_ssh.sftp.server",
    "SFTPServerInterface": "trio_ssh.sftp.interface",
    "StatVFS": "trio_ssh.sftp.messages",
}

__all__ = [  # noqa: RUF022 -- grouped by what they are for, which no sorting keeps
    # Connecting, and running commands
    "SSHClient",
    "connect",
    "CompletedProcess",
    "Process",
    "Channel",
    "ExitReport",
    "BufferedFile",
    "ChannelFile",
    "RemoteListener",
    "Prompt",
    # The user's configuration
    "SSHConfig",
    "SSHOptions",
    # Trusting a host
    "AcceptNewPolicy",
    "AutoAddPolicy",
    "MissingHostKeyPolicy",
    "PinnedFingerprintPolicy",
    "PromptPolicy",
    "RejectPolicy",
    "SSHFPPolicy",
    "WarningPolicy",
    "HostKeys",
    "HostKeyChange",
    "HostKeyPrompt",
    "HostKeyStatus",
    "SSHFPAnswer",
    "SSHFPRecord",
    # Keys
    "DSSKey",
    "ECDSAKey",
    "Ed25519Key",
    "Ed448Key",
    "load_private_key",
    "load_private_key_file",
    "load_public_key",
    "load_public_key_file",
    "MLDSA44Ed25519Key",
    "PKey",
    "PublicKey",
    "RSAKey",
    "SecurityKey",
    "SecurityKeyDetails",
    "SecurityPublicKey",
    "Signer",
    "AuthorizedKeys",
    "AuthorizedKey",
    "KeyRestrictions",
    "ForwardingPermit",
    # Certificates, and signed files
    "Certificate",
    "CertificatePermissions",
    "CertifiedKey",
    "KeyRevocationList",
    "sign_data",
    "verify_data",
    "SSHSignature",
    "AllowedSigners",
    # Agents
    "Agent",
    "AgentDestination",
    "AgentHop",
    "AgentKey",
    "AgentServer",
    "agent_socket",
    "forwarded_agent",
    # Files
    "SFTP",
    "SFTPClient",
    "SFTPFile",
    "SFTPPath",
    "SFTPDirEntry",
    "ProgressLine",
    # Serving
    "serve_listeners",
    "serve_stream",
    "serve_tcp",
    "AUTH_FAILED",
    "AUTH_PARTIALLY_SUCCESSFUL",
    "AUTH_PASSWORD_EXPIRED",
    "AUTH_SUCCESSFUL",
    "OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED",
    "OPEN_FAILED_CONNECT_FAILED",
    "OPEN_FAILED_RESOURCE_SHORTAGE",
    "OPEN_FAILED_UNKNOWN_CHANNEL_TYPE",
    "OPEN_SUCCEEDED",
    "OpenResult",
    "ServerInterface",
    "AuthResult",
    "GssIdentity",
    "InteractiveQuery",
    "Pty",
    "ServerProcess",
    "SubsystemHandler",
    "run_local_session",
    # Serving files
    "LocalSFTPServer",
    "SFTPServer",
    "SFTPServerInterface",
    "SFTPHandle",
    "SFTPAttributes",
    "SFTPLimits",
    "StatVFS",
    # Below: the connection itself
    "Transport",
    "SecurityOptions",
    "AlgorithmChoice",
    "Explanation",
    "Moduli",
    "Limits",
    "Message",
    "DisconnectReason",
    "OpenFailureReason",
    "TerminalMode",
    # Whatever goes wrong
    "AgentException",
    "AuthAttempt",
    "AuthOutcome",
    "AuthenticationException",
    "BadAuthenticationType",
    "BadHostKeyException",
    "CertificateException",
    "ChannelClosed",
    "ChannelException",
    "ConfigParseError",
    "ConnectionLost",
    "CouldNotCanonicalize",
    "ForwardingFailure",
    "HostKeyException",
    "IncompatiblePeer",
    "InternalError",
    "KeyFileException",
    "LocalProtocolError",
    "PartialAuthentication",
    "PasswordRequiredException",
    "PeerDisconnected",
    "ProcessError",
    "ProtocolError",
    "ProxyCommandFailure",
    "ProxyJumpFailure",
    "RemoteProtocolError",
    "RequestRefused",
    "SFTPError",
    "SFTPFileExists",
    "SFTPNoSuchFile",
    "SFTPPermissionDenied",
    "SFTPUnsupported",
    "SignatureException",
    "SSHException",
    "UnknownHostKeyException",
]


if TYPE_CHECKING:
    __version__: str
else:  # a type checker that sees this takes every misspelled name for one of ours

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("trio_ssh")  # which takes milliseconds
        if name == "testing":
            return importlib.import_module("trio_ssh.testing")
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_LATER[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, "testing"})
