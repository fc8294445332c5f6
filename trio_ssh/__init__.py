"""trio_ssh: SSH clients and servers for trio.

    async with trio_ssh.connect("example.com", username="alice") as client:
        done = await client.run_process(["uname", "-a"], capture_stdout=True)
        print(done.stdout)

The names below are all that is public, grouped by what they are for; what is not here may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trio_ssh import testing as testing
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
    from trio_ssh.keys.agent_constraints import AgentDestination, AgentHop
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
    from trio_ssh.line_editor import LineEditor
    from trio_ssh.local_session import run_local_session
    from trio_ssh.process import CompletedProcess, Process
    from trio_ssh.runtime.channel import Channel
    from trio_ssh.runtime.explain import AlgorithmChoice, Explanation
    from trio_ssh.runtime.files import BufferedFile, ChannelFile, Reader, Writer
    from trio_ssh.runtime.gss import GssIdentity
    from trio_ssh.runtime.remote_listener import RemoteListener
    from trio_ssh.runtime.security_options import SecurityOptions
    from trio_ssh.runtime.session_requests import ExitReport
    from trio_ssh.runtime.transport import Transport
    from trio_ssh.server import serve_listeners, serve_stream, serve_tcp
    from trio_ssh.server_authentication import AuthProof
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
    from trio_ssh.wire.message import Message
    from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason, TerminalMode

#: Module -> the public names that live there.  A module is imported when somebody first asks for a name of it, so that
#: a program pays for what it uses: a client needs no server, and most programs need no SFTP.
_HOMES: Final[dict[str, tuple[str, ...]]] = {
    "agent": ("Agent", "AgentKey"),
    "agent_forwarding": ("agent_socket", "forwarded_agent"),
    "agent_server": ("AgentServer",),
    "client": ("SSHClient", "connect"),
    "config": ("SSHConfig", "SSHOptions"),
    "core.limits": ("Limits",),
    "core.questions": ("AuthResult", "InteractiveQuery", "Prompt"),
    "crypto.moduli": ("Moduli",),
    "errors": (
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
        "SSHException",
        "SignatureException",
        "UnknownHostKeyException",
    ),
    "host_keys": (
        "AcceptNewPolicy",
        "AutoAddPolicy",
        "HostKeyChange",
        "HostKeyPrompt",
        "MissingHostKeyPolicy",
        "PinnedFingerprintPolicy",
        "PromptPolicy",
        "RejectPolicy",
        "SSHFPAnswer",
        "SSHFPPolicy",
        "WarningPolicy",
    ),
    "keys.agent_constraints": ("AgentDestination", "AgentHop"),
    "keys.allowed_signers": ("AllowedSigners",),
    "keys.authorized_keys": ("AuthorizedKey", "AuthorizedKeys"),
    "keys.certificate": ("Certificate",),
    "keys.certification": ("CertificatePermissions",),
    "keys.certified_key": ("CertifiedKey",),
    "keys.dsa": ("DSSKey",),
    "keys.ecdsa": ("ECDSAKey",),
    "keys.ed25519": ("Ed25519Key",),
    "keys.ed448": ("Ed448Key",),
    "keys.files": ("load_private_key", "load_private_key_file", "load_public_key", "load_public_key_file"),
    "keys.key_restrictions": ("ForwardingPermit", "KeyRestrictions"),
    "keys.known_hosts": ("HostKeyStatus", "HostKeys"),
    "keys.krl": ("KeyRevocationList",),
    "keys.mldsa": ("MLDSA44Ed25519Key",),
    "keys.private_key": ("PKey",),
    "keys.public_key": ("PublicKey",),
    "keys.rsa": ("RSAKey",),
    "keys.security_key": ("SecurityKey", "SecurityKeyDetails", "SecurityPublicKey"),
    "keys.signer": ("Signer",),
    "keys.sshfp": ("SSHFPRecord",),
    "keys.sshsig": ("SSHSignature", "sign_data", "verify_data"),
    "line_editor": ("LineEditor",),
    "local_session": ("run_local_session",),
    "process": ("CompletedProcess", "Process"),
    "runtime.channel": ("Channel",),
    "runtime.explain": ("AlgorithmChoice", "Explanation"),
    "runtime.files": ("BufferedFile", "ChannelFile", "Reader", "Writer"),
    "runtime.gss": ("GssIdentity",),
    "runtime.remote_listener": ("RemoteListener",),
    "runtime.security_options": ("SecurityOptions",),
    "runtime.session_requests": ("ExitReport",),
    "runtime.transport": ("Transport",),
    "server": ("serve_listeners", "serve_stream", "serve_tcp"),
    "server_authentication": ("AuthProof",),
    "server_interface": (
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
    ),
    "session": ("Pty", "ServerProcess", "SubsystemHandler"),
    "sftp.attributes": ("SFTPAttributes",),
    "sftp.client": ("SFTP", "SFTPClient"),
    "sftp.file": ("SFTPFile",),
    "sftp.filesystem": ("LocalSFTPServer",),
    "sftp.interface": ("SFTPHandle", "SFTPServerInterface"),
    "sftp.listing": ("SFTPDirEntry",),
    "sftp.messages": ("StatVFS",),
    "sftp.path": ("SFTPPath",),
    "sftp.progress": ("ProgressLine",),
    "sftp.protocol": ("SFTPLimits",),
    "sftp.server": ("SFTPServer",),
    "wire.message": ("Message",),
    "wire.numbers": ("DisconnectReason", "OpenFailureReason", "TerminalMode"),
}
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}

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
    "Reader",
    "Writer",
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
    "AuthProof",
    "GssIdentity",
    "InteractiveQuery",
    "Pty",
    "ServerProcess",
    "SubsystemHandler",
    "run_local_session",
    "LineEditor",
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
        if name not in _HOME_OF:
            hint = importlib.import_module("trio_ssh.runtime.hints").MODULE_HINTS.get(name)
            text = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(f"{text}: {hint}" if hint else text, name=name)
        value: object = getattr(importlib.import_module(f"trio_ssh.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, "testing"})
