"""What was agreed with a peer, and why: for people who wonder, and for programs that want to know."""

from __future__ import annotations

from typing import Final

import attrs

from trio_ssh.core.connection import Connection
from trio_ssh.core.negotiation import Negotiated, PassedOver
from trio_ssh.core.role import Role
from trio_ssh.crypto.defaults import POST_QUANTUM
from trio_ssh.errors import LocalProtocolError
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.runtime.security_options import remark
from trio_ssh.wire.text import printable

_NOTHING: Final = PassedOver()
_DIRECTIONS: Final = {None: "", Role.CLIENT: "client to server", Role.SERVER: "server to client"}


@attrs.frozen
class AlgorithmChoice:
    """One algorithm that was agreed on.

    Attributes:
        kind: ``"key exchange"``, ``"host key"``, ``"cipher"``, ``"MAC"`` or ``"compression"``.
        direction: ``"client to server"``, ``"server to client"``, or empty where it is for both.
        name: on the wire; empty for a MAC that the cipher makes unnecessary.
        reason: why it is this one, as a sentence.
        peer_lacks: ours that we would rather have had, and that the peer has not enabled.
        we_lack: those that a client asked for first, and that our server has not enabled; some, of many.
        outvoted: those that our server would rather have had, and that the client has enabled too, behind this one.
        remark: ``"post-quantum"``, or why the algorithm is insecure, or empty.
    """

    kind: str
    direction: str
    name: str
    reason: str
    peer_lacks: tuple[str, ...]
    we_lack: tuple[str, ...]
    outvoted: tuple[str, ...]
    remark: str

    def __str__(self) -> str:
        title = f"{self.kind}, {self.direction}" if self.direction else self.kind
        shown = f"{title}: {self.name or 'none'}"
        return f"{shown} ({self.remark}). {self.reason}" if self.remark else f"{shown}. {self.reason}"


@attrs.frozen
class Explanation:
    """What a connection has agreed on, and why; ``str`` of it is a text of a line for each choice.

    Attributes:
        role: which side we are, ``"client"`` or ``"server"``.
        choices: the key exchange, the host key, and of each direction the cipher, the MAC and the compression.
        host_key: the type, size and fingerprint of the key that the server showed; or that it showed none.
        is_post_quantum: what is recorded today will not be read by a quantum computer.
        is_strict: both sides do strict key exchange, which nobody in the middle can shorten (Terrapin).
    """

    role: str
    choices: tuple[AlgorithmChoice, ...]
    host_key: str
    is_post_quantum: bool
    is_strict: bool

    @property
    def openssh_would_warn(self) -> bool:
        """Whether ssh of OpenSSH 10.1 and later would warn of this connection, unless it is told not to."""
        return not self.is_post_quantum

    @property
    def insecure(self) -> tuple[AlgorithmChoice, ...]:
        """The choices that nobody should have to make."""
        return tuple(choice for choice in self.choices if choice.remark.startswith("insecure"))

    def __str__(self) -> str:
        lines = [str(choice) for choice in self.choices]
        lines.append(f"The server's key: {self.host_key}.")
        lines.append(
            "Quantum computers: safe."
            if self.is_post_quantum
            else "Quantum computers: what is recorded today may be read by one; OpenSSH 10.1 and later warns."
        )
        lines.append(
            "Strict key exchange: yes." if self.is_strict else "Strict key exchange: no, the peer doesn't know it."
        )
        return "\n".join(lines)


def explain(core: Connection) -> Explanation:
    """Say what was agreed in the latest key exchange, and why.

    Raises:
        LocalProtocolError: none has finished yet.
    """
    keying = core.keying
    negotiated, host_key, role = keying.negotiated, keying.host_key, core.role
    if negotiated is None:
        raise LocalProtocolError("no key exchange has finished yet")
    choices = [
        _choice(role, negotiated, "key exchange", None, negotiated.kex),
        _choice(role, negotiated, "host key", None, negotiated.host_key_algorithm),
    ]
    for sender, direction in (
        (Role.CLIENT, negotiated.client_to_server),
        (Role.SERVER, negotiated.server_to_client),
    ):
        choices.append(_choice(role, negotiated, "cipher", sender, direction.cipher))
        choices.append(_choice(role, negotiated, "MAC", sender, direction.mac))
        choices.append(_choice(role, negotiated, "compression", sender, direction.compression))
    return Explanation(
        role.value,
        tuple(choices),
        _shown(host_key, is_by_gss=keying.gss_context is not None),
        negotiated.kex in POST_QUANTUM,
        keying.is_strict,
    )


def _shown(host_key: PublicKey | None, *, is_by_gss: bool) -> str:
    if host_key is None:
        return "none was shown, GSS-API vouches for the server"
    shown = f"{host_key.key_type} of {host_key.bits} bits, {host_key.fingerprint}"
    return f"{shown}, for which GSS-API vouches" if is_by_gss else shown


def _choice(role: Role, negotiated: Negotiated, kind: str, sender: Role | None, name: str) -> AlgorithmChoice:
    passed = negotiated.passed_over.get((kind, sender), _NOTHING)
    return AlgorithmChoice(
        kind,
        _DIRECTIONS[sender],
        name,
        _reason(role, name, passed),
        passed.peer_lacks,
        passed.we_lack,
        passed.outvoted,
        remark(name),
    )


def _reason(role: Role, name: str, passed: PassedOver) -> str:
    """The client's order counts, whoever we are: RFC 4253 s7.1."""
    if not name:
        return "The cipher needs none."
    if role is Role.CLIENT:
        if passed.peer_lacks:
            return f"Our first that the server has; it lacks {', '.join(passed.peer_lacks)}."
        return "Our first choice."
    wanted = "The client's first choice"
    if passed.we_lack:
        wanted = f"The client's first that we have enabled, behind {printable(', '.join(passed.we_lack), 512)}"
    reasons = [f"{wanted}, and ours" if passed == _NOTHING else wanted]
    if passed.outvoted:
        reasons.append(f"we prefer {', '.join(passed.outvoted)}")
    if passed.peer_lacks:
        reasons.append(f"it lacks {', '.join(passed.peer_lacks)}")
    return "; ".join(reasons) + "."
