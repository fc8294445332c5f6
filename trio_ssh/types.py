"""What the parameters of public functions are called in their signatures, for annotations of your own.

    from trio_ssh.types import Command


    async def everywhere(hosts: Sequence[str], command: Command) -> None: ...

Each is an alias, and no class: a `Command` is a str or a sequence of str.
"""

from __future__ import annotations

from trio_ssh.config.applied import Config
from trio_ssh.config.trust import KnownHosts
from trio_ssh.credentials import SecretSource
from trio_ssh.host_key_rotation import UpdateHostKeys
from trio_ssh.process import Command, DeliverCancel
from trio_ssh.runtime.handler import SubsystemSource
from trio_ssh.runtime.handshake import NewPasswordHandler, PromptHandler
from trio_ssh.runtime.link import PeerAddress
from trio_ssh.runtime.security_options import AlgorithmNames, DisabledAlgorithms, Security
from trio_ssh.runtime.waiting import MaybeAwaitable
from trio_ssh.server import ServerFactory
from trio_ssh.sftp.interface import ExtensionHandler
from trio_ssh.sftp.pure_path import RemotePath
from trio_ssh.sftp.transfer import Callback
from trio_ssh.sftp.transfers import LocalPath
from trio_ssh.sftp.tree import ErrorHandler

__all__ = [
    "AlgorithmNames",
    "Callback",
    "Command",
    "Config",
    "DeliverCancel",
    "DisabledAlgorithms",
    "ErrorHandler",
    "ExtensionHandler",
    "KnownHosts",
    "LocalPath",
    "MaybeAwaitable",
    "NewPasswordHandler",
    "PeerAddress",
    "PromptHandler",
    "RemotePath",
    "SecretSource",
    "Security",
    "ServerFactory",
    "SubsystemSource",
    "UpdateHostKeys",
]
