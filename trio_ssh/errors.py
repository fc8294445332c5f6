"""The exceptions that are trio_ssh's own.

One rule divides them: `LocalProtocolError` is *your* mistake, `RemoteProtocolError` is *theirs*.  Whatever bytes a peer
sends, nothing but `RemoteProtocolError` and its kin can come of them.  Text that a peer chose is escaped before it is
shown.

This is the one module below the runtime that imports trio, and it does so for a single base class: a lost connection is
also a `trio.BrokenResourceError`, so that code written for any trio stream catches it.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence
from enum import Enum
from typing import ClassVar, cast

import attrs
import trio

from trio_ssh.wire.numbers import DisconnectReason, OpenFailureReason
from trio_ssh.wire.text import printable


class SSHException(Exception):
    """The root of the exceptions that are trio_ssh's own.

    What has one in Python or in trio raises that: `OSError` for an address that doesn't answer or a file that isn't
    there, `TypeError` and `ValueError` for an argument that can't be meant so, `trio.ClosedResourceError` and
    `trio.BusyResourceError` for a misuse.
    """


# -- the protocol


class ProtocolError(SSHException):
    """A rule of the protocol was broken.

    Attributes:
        reason: the RFC 4253 s11.1 code under which the breach is reported to the peer.
    """

    def __init__(self, message: str, reason: DisconnectReason = DisconnectReason.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol.  The connection is over."""


class LocalProtocolError(ProtocolError):
    """You asked for something that the protocol doesn't allow now.  Nothing was sent and the connection is unharmed."""


class IncompatiblePeer(SSHException):
    """No algorithm of one kind is known to both sides.

    Attributes:
        kind: what was negotiated, such as ``"key exchange"``.
        ours: what we offered, best first.
        theirs: what the peer offered, best first.
    """

    def __init__(self, kind: str, ours: Sequence[str], theirs: Sequence[str], setting: str) -> None:
        self.kind = kind
        self.ours: tuple[str, ...] = tuple(ours)
        self.theirs: tuple[str, ...] = tuple(theirs)
        super().__init__(
            f"no common {kind} algorithm: we offer {', '.join(ours) or 'nothing'}; the peer offers "
            f"{printable(', '.join(theirs)) or 'nothing'}. If you trust one of the peer's, name it in `{setting}=`."
        )


# -- trust


class HostKeyException(SSHException):
    """The server's host key is not one we may talk to.

    Of this class itself: it isn't the one that was pinned, or an RSA key is shorter than ``RequiredRSASize``.
    """


class UnknownHostKeyException(HostKeyException):
    """The server's key has never been seen, and the policy is not to trust such keys.

    Attributes:
        hostname: the name that was looked up, as known_hosts spells it.
        key_type: the kind of the key that the server proved to own, such as ``"ssh-ed25519"``.
        fingerprint: ``SHA256:...`` of that key.
    """

    def __init__(self, hostname: str, key_type: str, fingerprint: str) -> None:
        self.hostname = hostname
        self.key_type = key_type
        self.fingerprint = fingerprint
        super().__init__(
            f"the host key of {printable(hostname)} is unknown: {key_type} {fingerprint}. Compare this "
            f"fingerprint with the server's own (`ssh-keygen -lf /etc/ssh/ssh_host_..._key.pub` there); then add it to "
            f"known_hosts, or pass `known_hosts=` with it, or set an AutoAddPolicy."
        )


class BadHostKeyException(HostKeyException):
    """The server's key differs from the one on record, or was revoked.

    Attributes:
        hostname: the name that was looked up.
        key_type: the kind of the key that the server showed.
        fingerprint: ``SHA256:...`` of that key.
        expected: fingerprints on record for this host, each with its place (``file:line``); empty if the key was
            revoked.
        is_revoked: the key was revoked, and not changed.
    """

    def __init__(
        self, hostname: str, key_type: str, fingerprint: str, expected: Sequence[str] = (), *, is_revoked: bool = False
    ) -> None:
        self.hostname = hostname
        self.key_type = key_type
        self.fingerprint = fingerprint
        self.expected: tuple[str, ...] = tuple(expected)
        self.is_revoked = is_revoked
        shown = f"{key_type} {fingerprint}"
        if is_revoked:
            text = (
                f"the host key of {printable(hostname)} was REVOKED: {shown}. "
                f"Do not connect; ask the host's owner for its new key."
            )
        else:
            text = (
                f"the host key of {printable(hostname)} HAS CHANGED: it shows {shown}, "
                f"on record is {'; '.join(expected)}. Either the server was set up anew or someone stands in "
                f"between: ask its owner. If the change is legitimate, remove the old line from where it is "
                f"(`ssh-keygen -R '{printable(hostname)}' -f FILE`) and connect again."
            )
        super().__init__(text)


# -- authentication


class AuthOutcome(Enum):
    """How an attempt to log in ended; the value says it in words."""

    #: The server didn't accept it.
    REFUSED = "refused"
    #: The server accepted it, and wants another method besides.
    PARTIAL = "accepted, but more is wanted"
    #: The server would accept the key, and whoever has it didn't sign.
    NOT_SIGNED = "accepted, but not signed"
    #: What was to be shown could not be had, such as an answer to a prompt.
    GIVEN_UP = "given up"
    #: The connection ended before there was an answer.
    LOST = "the connection ended"


@attrs.frozen(kw_only=True)
class AuthAttempt:
    """One attempt to log in, and what became of it; ``str`` of it is for people.

    Attributes:
        method: its name on the wire, such as ``"publickey"``.
        what: what was tried, in words.
        outcome: what the server said, or why it had nothing to say.
        algorithm: of a key: what it signs by.
        fingerprint: of a key: ``SHA256:...``.
        source: of a key: where it came from: a file, an agent, the caller.
        allowed: the methods that could continue, according to the server's answer.
        remark: more about the outcome, escaped.
    """

    method: str
    what: str
    outcome: AuthOutcome
    algorithm: str = ""
    fingerprint: str = ""
    source: str = ""
    allowed: tuple[str, ...] = ()
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.outcome.value}" + (f" ({self.remark})" if self.remark else "")


class AuthenticationException(SSHException):
    """Nobody was logged in.

    Attributes:
        attempts: what was tried, in order, each with the server's answer.
        tried: the same in words, and why other things were not tried.
        allowed: the methods that the server says can continue.
    """

    def __init__(
        self,
        message: str,
        *,
        tried: Sequence[str] = (),
        allowed: Sequence[str] = (),
        attempts: Sequence[AuthAttempt] = (),
    ) -> None:
        self.attempts: tuple[AuthAttempt, ...] = tuple(attempts)
        self.tried: tuple[str, ...] = (*map(str, attempts), *tried)
        self.allowed: tuple[str, ...] = tuple(allowed)
        parts = [message]
        if self.tried:
            parts.append("tried: " + "; ".join(self.tried))
        if allowed:
            parts.append("the server still allows: " + printable(", ".join(allowed)))
        super().__init__(". ".join(parts))

    @property
    def allowed_types(self) -> tuple[str, ...]:
        """The same as `allowed`, by paramiko's name."""
        return self.allowed


class BadAuthenticationType(AuthenticationException):
    """The server doesn't allow the method that was asked for; `allowed` says which it does."""


class PartialAuthentication(AuthenticationException):
    """The method succeeded, and the server wants one of `allowed` besides."""


class PasswordRequiredException(AuthenticationException):
    """A private key is encrypted, and no passphrase was given."""


class AgentException(SSHException):
    """There is no agent, it went away, or it refuses what it was asked.  The text says what to do."""


class KeyFileException(SSHException):
    """A key file is missing, malformed, of an unknown kind, or too open.  The text names it and says what to do."""


class CertificateException(SSHException):
    """A certificate is no proof of what it is shown for: of another name, expired, by a stranger, ...

    The text says which certificate, what is wrong with it, and what to do.
    """


class SignatureException(SSHException):
    """A signature of data is malformed, wrong, made for another purpose, or by somebody who may not sign."""


# -- the configuration, and the way to a host


class ConfigParseError(SSHException):
    """A configuration file has a mistake.  The text names the file, the line, and what would be right."""


class CouldNotCanonicalize(SSHException):
    """``CanonicalizeFallbackLocal`` is ``no``, and no canonical domain knows the host."""


class ProxyCommandFailure(SSHException, trio.BrokenResourceError):
    """A ``ProxyCommand`` could not be started, or ended before the server said a word.

    Attributes:
        command: what was run.
        returncode: its exit status, or None if it never ran.
    """

    def __init__(self, command: str, returncode: int | None, why: str) -> None:
        self.command = command
        self.returncode = returncode
        super().__init__(f"the ProxyCommand '{printable(command, 200)}' {why}")


class ProxyJumpFailure(SSHException):
    """A jump host could not be used; the reason is this exception's ``__cause__``.

    Attributes:
        jump_host: the host, as ``ProxyJump`` names it.
        hostname: the host behind it.
    """

    def __init__(self, jump_host: str, hostname: str, why: str) -> None:
        self.jump_host = jump_host
        self.hostname = hostname
        super().__init__(f"no way to {printable(hostname, 64)} through {printable(jump_host, 64)}: {why}")


class ForwardingFailure(SSHException):
    """What the configuration wants forwarded can't be; the reason is this exception's ``__cause__``.

    Raised where ``ExitOnForwardFailure`` is on.

    Attributes:
        forwarding: the keyword and its value.
        place: the line: ``file:number``.
    """

    def __init__(self, forwarding: str, place: str, why: str) -> None:
        self.forwarding = forwarding
        self.place = place
        super().__init__(f"{printable(forwarding)} ({place}) is not forwarded, and ExitOnForwardFailure is on: {why}")


# -- the connection and its channels


class ConnectionLost(SSHException, trio.BrokenResourceError):
    """The connection has ended under you; the cause, where there is one, is this exception's ``__cause__``."""


class PeerDisconnected(ConnectionLost):
    """The peer said goodbye.

    Attributes:
        reason: RFC 4253 s11.1 code, as sent (not necessarily one that is known).
        message: the peer's words, escaped.
    """

    def __init__(self, reason: int, message: str) -> None:
        self.reason = reason
        self.message: str = printable(message)
        try:
            name = DisconnectReason(reason).name.lower().replace("_", " ")
        except ValueError:
            name = f"reason {reason}"
        super().__init__(f"the peer disconnected ({name}): {self.message or 'no message'}")


class ChannelException(SSHException):
    """The peer refused to open a channel.

    Attributes:
        code: RFC 4254 s5.1 code, as sent.
        text: the peer's words, escaped.
    """

    def __init__(self, code: int, text: str, hint: str = "") -> None:
        self.code = code
        self.text: str = printable(text)
        try:
            name = OpenFailureReason(code).name.lower().replace("_", " ")
        except ValueError:
            name = f"reason {code}"
        words = "" if self.text.lower() == name else f": {self.text or 'no message'}"
        said = f"the peer refused the channel ({name}){words}"
        super().__init__(f"{said}; {hint}" if hint else said)


class ChannelClosed(SSHException, trio.BrokenResourceError):
    """The peer closed the channel; the connection goes on.  It is a `trio.BrokenResourceError` too."""


class RequestRefused(SSHException):
    """The peer answered a channel or global request with failure.

    Attributes:
        name: the request's name on the wire, such as ``"pty-req"``.
    """

    def __init__(self, name: str, hint: str = "") -> None:
        self.name = name
        super().__init__(f"the peer refused the request {name!r}" + (f": {hint}" if hint else ""))


class ProcessError(SSHException, subprocess.CalledProcessError):
    """A remote command ended with something other than status 0.

    Attributes:
        cmd, returncode, stdout, stderr: as in `subprocess.CalledProcessError`.  A command that was ended by a signal
            has a negative return code; one whose end the server never reported has ``None``.
        exit_signal: the signal's name without ``SIG``, or None.
        exit_message: the server's words about the signal, escaped.
    """

    def __init__(
        self,
        returncode: int | None,
        cmd: str,
        stdout: bytes | None = None,
        stderr: bytes | None = None,
        exit_signal: str | None = None,
        exit_message: str = "",
    ) -> None:
        # typeshed wants an int; a server that never reports a status is no success, and None says so.
        subprocess.CalledProcessError.__init__(self, cast("int", returncode), cmd, stdout, stderr)
        self._has_status = returncode is not None
        self.exit_signal = exit_signal
        self.exit_message: str = printable(exit_message)

    def __str__(self) -> str:
        if self.exit_signal is not None:
            ending = f"was ended by signal {printable(self.exit_signal)}"
        elif not self._has_status:
            ending = "ended without an exit status"
        else:
            ending = f"ended with exit status {self.returncode}"
        text = f"the remote command {self.cmd!r} {ending}"
        if self.stderr:
            text += f"; its stderr ends: {printable(self.stderr[-400:])}"
        return text


class SFTPError(SSHException, OSError):
    """An SFTP server refused a request, or could not do it.  An `OSError`, whose `filename` is the remote path.

    Attributes:
        code: filexfer-02 s7 status code, as sent.
        text: the server's words, escaped.
    """

    _NAMES: ClassVar[dict[int, tuple[int, str]]] = {
        1: (0, "end of file"),
        2: (errno.ENOENT, "no such file"),
        3: (errno.EACCES, "permission denied"),
        5: (errno.EBADMSG, "the server could not read the request"),
        6: (errno.ENOTCONN, "no connection"),
        7: (errno.ECONNRESET, "connection lost"),
        8: (errno.EOPNOTSUPP, "the server doesn't support this"),
    }

    def __init__(self, code: int, text: str, filename: object = None, filename2: object = None) -> None:
        self.code = code
        self.text: str = printable(text)
        number, name = self._NAMES.get(code, (errno.EIO, "failure"))
        said = "" if self.text.lower() in ("", name) else f" (the server said: {self.text})"
        # OSError shows a filename by its repr, which escapes; without one its text would be an error number alone.
        OSError.__init__(self, number, name + said, filename, None, filename2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class SFTPNoSuchFile(SFTPError, FileNotFoundError):
    """The path, or a directory on the way to it, doesn't exist."""


class SFTPPermissionDenied(SFTPError, PermissionError):
    """The server's user may not do this."""


class SFTPFileExists(SFTPError, FileExistsError):
    """Something has that name already.  The protocol has no code for it: it was looked for after a failure."""

    _NAMES: ClassVar[dict[int, tuple[int, str]]] = {4: (errno.EEXIST, "file exists")}


class SFTPUnsupported(SFTPError):
    """The server doesn't know the request, or the extension."""


class InternalError(SSHException):
    """A bug of trio_ssh, always raised from its cause.  Please report it with the traceback."""
