"""`AgentServer`: an agent in this process, for programs that hold keys and for tests.

    agent = trio_ssh.AgentServer([key])
    await nursery.start(agent.serve_unix, "/run/user/1000/agent")     # SSH_AUTH_SOCK=/run/user/1000/agent ssh ...

Whoever connects may have data signed, and never gets a private key.  What a key may be used for is kept here: how long,
how often, whether a person is asked, and for which destinations.

Source: draft-ietf-sshm-ssh-agent; OpenSSH PROTOCOL.agent for destinations.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from trio_ssh.agent import checked_destinations, session_bind
from trio_ssh.core.role import Role
from trio_ssh.errors import AgentException, CertificateException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys import agent_protocol as protocol
from trio_ssh.keys.agent_constraints import AgentDestination, AgentHop, Constraints, write_constraints
from trio_ssh.keys.agent_protocol import HeldKey, private_half
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.patterns import matches
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.keys.rsa import RSAKey
from trio_ssh.keys.signer import Signer
from trio_ssh.runtime.block import RAISED, is_failure
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import MaybeAwaitable, resolved
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.agent")

ConfirmHandler = Callable[[PublicKey, str], MaybeAwaitable[bool]]
"""Asked with a key and its comment before it signs; ``True`` and nothing else allows it."""

HostKey: TypeAlias = PublicKey | Certificate

_READ_BYTES: Final = 16 * 1024

#: Sessions that one connection can be bound to, as in OpenSSH: each is a host on the way.
_MAX_SESSIONS: Final = 16

#: Each wrong passphrase delays the answer by as much more, up to a hundred times: 10 seconds.
_UNLOCK_DELAY_SECONDS: Final = 0.1
_UNLOCK_DELAYS: Final = 100

_FAILURE: Final = protocol.AgentFailure()
_SUCCESS: Final = protocol.AgentSuccess(b"")


@attrs.define(eq=False)
class _HeldKey:
    """A key, and what is left of its constraints."""

    key: HeldKey
    comment: str
    constraints: Constraints
    expires_at: float
    signatures_left: float
    #: What it takes of the agent's room: in an answer that lists it, and by its constraints.
    listed_bytes: int = attrs.field(init=False)
    constraints_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.listed_bytes = 8 + len(self.listed.blob) + len(self.comment.encode("utf-8", "surrogateescape"))
        self.constraints_bytes = len(write_constraints(self.constraints))

    @property
    def listed(self) -> protocol.ListedKey:
        return protocol.ListedKey(self.key.asbytes(), self.comment)


@attrs.frozen
class _Session:
    """OpenSSH PROTOCOL.agent s1: a server that a connection was bound to, with its proof."""

    host_key: HostKey
    session_id: bytes
    is_forwarding: bool


@attrs.define(eq=False)
class _Client:
    """One connection, and the way that it has come."""

    allow_changes: bool
    sessions: list[_Session] = attrs.field(factory=list[_Session])
    #: It said that it comes from elsewhere, whether that could be believed or not.
    has_tried_to_bind: bool = False


class AgentServer:
    """Holds private keys, and signs with them for whoever is connected.

    Args:
        keys: to begin with.
        confirm: asks a person whether a key may sign now, where it was added with ``confirm``; sync or async.  Without
            it no such key is taken.
    """

    def __init__(self, keys: Iterable[HeldKey] = (), *, confirm: ConfirmHandler | None = None) -> None:
        self._confirm = confirm
        self._held: dict[bytes, _HeldKey] = {}
        self._salt = os.urandom(16)
        self._lock: bytes | None = None
        self._unlocking = trio.StrictFIFOLock()
        self._wrong_passphrases = 0
        for key in keys:
            self.add(key)

    def __repr__(self) -> str:
        return f"<AgentServer, {len(self._held)} keys{', locked' if self.is_locked else ''}>"

    # -- for whoever runs it

    @property
    def is_locked(self) -> bool:
        """Whether somebody has locked it."""
        return self._lock is not None

    def get_keys(self) -> tuple[HeldKey, ...]:
        """Return the keys that it holds, locked or not."""
        self._forget_expired()
        return tuple(held.key for held in self._held.values())

    def add(
        self,
        key: HeldKey,
        *,
        comment: str | None = None,
        lifetime: float | None = None,
        confirm: bool = False,
        max_signatures: int | None = None,
        destinations: Sequence[AgentDestination] | None = None,
    ) -> None:
        """Hold a key; one that is held already gets these constraints instead.

        Args:
            key: a private key, or one with its certificate.
            comment: what to call it; None for its own.
            lifetime: seconds by trio's clock, after which it is forgotten.
            confirm: ask before each signature.
            max_signatures: after which it is forgotten.
            destinations: where it may be used, and through which hosts; None for everywhere.
        """
        if confirm and self._confirm is None:
            raise ValueError("nobody could be asked: give the AgentServer a confirm=")
        if not private_half(key).can_sign():
            raise ValueError(f"{key} can't sign here: it is a token that does")
        if max_signatures is not None and max_signatures < 1:
            raise ValueError(f"max_signatures is at least 1, not {max_signatures}")
        constraints = Constraints(
            confirm=confirm,
            destinations=None if destinations is None else checked_destinations(destinations),
        )
        held = _HeldKey(
            key,
            key.comment if comment is None else comment,
            constraints,
            math.inf if lifetime is None else trio.current_time() + lifetime,
            math.inf if max_signatures is None else max_signatures,
        )
        if not self._has_room_for(held):
            raise ValueError(
                "it holds as many keys as one answer can list, or as many constraints as one request can name"
            )
        self._held[held.listed.blob] = held

    def remove(self, key: Signer | PublicKey) -> bool:
        """Forget a key; tell whether it was held."""
        blob = key.blob if isinstance(key, PublicKey) else key.asbytes()
        return self._held.pop(blob, None) is not None

    def remove_all(self) -> None:
        """Forget all keys."""
        self._held.clear()

    async def serve_stream(self, stream: trio.abc.Stream, *, allow_changes: bool = True) -> None:
        """Serve one connection until it ends.

        Args:
            stream: any; closed on return.
            allow_changes: whether keys may be added and removed, and the agent locked, through it.

        What comes by a `Channel` comes from its server, and is bound to that from the start: so keys for some
        destinations are kept from the others.
        """
        client = _Client(allow_changes)
        if isinstance(stream, Channel):
            _bind_to_server(client, stream)
        frames = protocol.Frames()
        async with stream:
            try:
                while data := await stream.receive_some(_READ_BYTES):
                    frames.put(data)
                    while (payload := frames.take()) is not None:
                        await stream.send_all(protocol.frame((await self._answer(client, payload)).encode()))
            except RemoteProtocolError as error:
                _log.info("a client of the agent was hung up on: %s", error)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def serve_unix(  # noqa: ASYNC114, ASYNC128 -- what it calls does
        self,
        path: str | os.PathLike[str],
        *,
        allow_changes: bool = True,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen at a path that only this user can connect to, until cancelled; then remove it.

        Args:
            path: a name that is free.  As everywhere, some hundred bytes are the most that a socket's name can have.
            allow_changes: as in `serve_stream`.
            task_status: ``await nursery.start(...)`` returns once it listens.

        Raises:
            OSError: it can't listen there.
        """
        with listening_socket(path) as listener:

            async def serve(stream: trio.abc.Stream) -> None:
                try:
                    await self.serve_stream(stream, allow_changes=allow_changes)
                except RAISED as error:
                    if not is_failure(error):
                        raise
                    _log.exception("serving a client of the agent failed")  # the others must not notice

            await trio.serve_listeners(serve, [listener], task_status=task_status)

    # -- requests

    async def _answer(self, client: _Client, payload: bytes) -> DeclaredMessage:
        """Carry out a request.  One that is malformed, or not allowed, has failed, and the next is heard."""
        self._forget_expired()
        try:
            return await self._carry_out(client, payload)
        except (RemoteProtocolError, LocalProtocolError, AgentException) as error:
            _log.info("a client of the agent was refused: %s", error)
            return _FAILURE

    async def _carry_out(self, client: _Client, payload: bytes) -> DeclaredMessage:
        number = payload[0]
        if self.is_locked and number != protocol.UnlockAgent.NUMBER:
            client.has_tried_to_bind |= number == protocol.AgentExtension.NUMBER
            return protocol.write_identities([]) if number == protocol.RequestIdentities.NUMBER else _FAILURE
        if number in _CHANGES and not client.allow_changes:
            raise RemoteProtocolError(f"request {number} would change the agent, which it may not")
        match number:
            case protocol.RequestIdentities.NUMBER:
                protocol.RequestIdentities.from_payload(payload)
                usable = [held.listed for held in self._held.values() if _is_permitted(held, client, None)]
                return protocol.write_identities(usable)
            case protocol.SignRequest.NUMBER:
                return await self._sign(client, protocol.SignRequest.from_payload(payload))
            case protocol.AddIdentity.NUMBER:
                return await self._add(client, protocol.AddIdentity.from_payload(payload))
            case protocol.AddIdentityConstrained.NUMBER:
                return await self._add(client, protocol.AddIdentityConstrained.from_payload(payload))
            case protocol.RemoveIdentity.NUMBER:
                held = self._find(client, protocol.RemoveIdentity.from_payload(payload).blob)
                del self._held[held.listed.blob]
                return _SUCCESS
            case protocol.RemoveAllIdentities.NUMBER:
                protocol.RemoveAllIdentities.from_payload(payload)
                self._held.clear()
                return _SUCCESS
            case protocol.LockAgent.NUMBER:
                passphrase = protocol.LockAgent.from_payload(payload).passphrase
                if not passphrase:
                    raise RemoteProtocolError("a lock with an empty passphrase")
                self._lock = self._digest(passphrase)
                return _SUCCESS
            case protocol.UnlockAgent.NUMBER:
                return await self._unlock(protocol.UnlockAgent.from_payload(payload).passphrase)
            case protocol.AgentExtension.NUMBER:
                return _extend(client, protocol.AgentExtension.from_payload(payload))
            case _:
                raise RemoteProtocolError(f"request {number} is not known")

    def _find(self, client: _Client, blob: bytes) -> _HeldKey:
        held = self._held.get(blob)
        if held is None or not _is_permitted(held, client, None):
            raise RemoteProtocolError("there is no such key")
        return held

    async def _add(
        self, client: _Client, request: protocol.AddIdentity | protocol.AddIdentityConstrained
    ) -> DeclaredMessage:
        # A large RSA key takes a second to check.
        key, constraints = await trio.to_thread.run_sync(protocol.read_added, request)
        if self.is_locked:
            raise RemoteProtocolError("the agent was locked meanwhile")
        if constraints.confirm and self._confirm is None:
            raise RemoteProtocolError("nobody could be asked to confirm")
        if key.asbytes() in self._held:
            self._find(client, key.asbytes())  # nobody loosens what they may not use
        held = _HeldKey(
            key,
            key.comment,
            constraints,
            math.inf if constraints.lifetime is None else trio.current_time() + constraints.lifetime,
            math.inf if constraints.max_signatures is None else constraints.max_signatures,
        )
        if not self._has_room_for(held):
            raise RemoteProtocolError("there are as many keys, or constraints, as are held")
        self._held[held.listed.blob] = held
        return _SUCCESS

    def _has_room_for(self, new: _HeldKey) -> bool:
        held = [new, *(held for blob, held in self._held.items() if blob != new.listed.blob)]
        # All keys fit one answer, and all their constraints one request: whatever one client can say, it can hold.
        return (
            5 + sum(key.listed_bytes for key in held) <= protocol.PAYLOAD_BYTES
            and sum(key.constraints_bytes for key in held) <= protocol.PAYLOAD_BYTES
        )

    async def _sign(self, client: _Client, request: protocol.SignRequest) -> DeclaredMessage:
        held = self._find(client, request.blob)
        if held.constraints.destinations is not None:
            _check_destination(held, client, request)
        key = private_half(held.key)
        algorithm = protocol.flagged_algorithm(key.key_type, request.flags)
        if held.constraints.confirm:
            if not await self._is_confirmed(held):
                raise RemoteProtocolError("its user said no")
            # People take their time: the key may have been removed since, or the agent locked.
            self._forget_expired()
            if self.is_locked or self._held.get(request.blob) is not held:
                raise RemoteProtocolError("the key is gone, or the agent locked, since its user was asked")
        held.signatures_left -= 1
        if held.signatures_left <= 0:
            del self._held[request.blob]
        if isinstance(key, RSAKey):
            # Measured: milliseconds, while which nobody else would be served.  The other kinds take 30 us.
            signature = await trio.to_thread.run_sync(key.sign, request.data, algorithm)
        else:
            signature = key.sign(request.data, algorithm)
        return protocol.SignResponse(signature)

    async def _is_confirmed(self, held: _HeldKey) -> bool:
        assert self._confirm is not None, "no key that wants it is taken without"
        try:
            return await resolved(self._confirm(held.key.public_key, printable(held.comment))) is True
        except RAISED as error:
            if not is_failure(error):
                raise
            _log.exception("asking for a confirmation failed: refused")
            return False

    async def _unlock(self, passphrase: bytes) -> DeclaredMessage:
        # One at a time: many connections must not make guessing faster.
        async with self._unlocking:
            if self._lock is None:
                raise RemoteProtocolError("it is not locked")
            if hmac.compare_digest(self._digest(passphrase), self._lock):
                self._lock = None
                self._wrong_passphrases = 0
                return _SUCCESS
            self._wrong_passphrases = min(self._wrong_passphrases + 1, _UNLOCK_DELAYS)
            await trio.sleep(_UNLOCK_DELAY_SECONDS * self._wrong_passphrases)
        raise RemoteProtocolError("the passphrase is wrong")

    def _digest(self, passphrase: bytes) -> bytes:
        return hashlib.blake2b(passphrase, key=self._salt).digest()

    def _forget_expired(self) -> None:
        if all(held.expires_at == math.inf for held in self._held.values()):
            return
        now = trio.current_time()
        for blob in [blob for blob, held in self._held.items() if held.expires_at <= now]:
            del self._held[blob]


#: Requests that change what the agent holds or does.
_CHANGES: Final = frozenset(
    request.NUMBER
    for request in (
        protocol.AddIdentity,
        protocol.AddIdentityConstrained,
        protocol.RemoveIdentity,
        protocol.RemoveAllIdentities,
        protocol.LockAgent,
        protocol.UnlockAgent,
    )
)


# -- extensions, and where a key may be used


def _extend(client: _Client, request: protocol.AgentExtension) -> DeclaredMessage:
    match request.name:
        case protocol.QUERY:
            names = b"".join(
                len(name).to_bytes(4, "big") + name.encode("ascii") for name in (protocol.QUERY, protocol.SESSION_BIND)
            )
            return protocol.AgentExtensionResponse(protocol.QUERY, names)
        case protocol.SESSION_BIND:
            client.has_tried_to_bind = True
            _bind(client, protocol.SessionBind.decode(request.details))
            return _SUCCESS
        case _:
            raise RemoteProtocolError(f"the extension {printable(request.name, 64)!r} is not known")


def _bind_to_server(client: _Client, channel: Channel) -> None:
    """A server that has this agent forwarded need not say so: see to it that it isn't taken for this machine."""
    client.has_tried_to_bind = True
    transport = channel.get_transport()
    assert isinstance(transport, Transport), "there is no other link"
    if transport._engine.core.role is Role.CLIENT:
        with contextlib.suppress(AgentException):  # without a proof, there are no keys for some destinations
            _bind(client, session_bind(transport, is_forwarding=True))


def _bind(client: _Client, bind: protocol.SessionBind) -> None:
    """OpenSSH PROTOCOL.agent s1: remember a host on the way, if it has signed the session's id."""
    host_key: HostKey
    try:
        host_key = bare = parse_public_key(bind.host_key)
    except RemoteProtocolError:
        host_key = Certificate.from_blob(bind.host_key)
        bare = host_key.public_key
    bare.verify(bind.session_id, bind.signature, protocol.signature_algorithm(bind.signature))
    session = _Session(host_key, bind.session_id, bind.is_forwarding)
    for known in client.sessions:
        if not known.is_forwarding:
            raise RemoteProtocolError("this connection was bound to a login before")
        if known.session_id == session.session_id:
            if known.host_key != session.host_key:
                raise RemoteProtocolError("two hosts claim one session")
            return
    if len(client.sessions) >= _MAX_SESSIONS:
        raise RemoteProtocolError(f"a connection through more than {_MAX_SESSIONS} hosts")
    client.sessions.append(session)


def _is_permitted(held: _HeldKey, client: _Client, username: str | None) -> bool:
    """Tell whether a key may be used on a connection that has come this way.

    Args:
        username: who logs in; None where nobody does, and the key is listed or removed.
    """
    destinations = held.constraints.destinations
    if destinations is None:
        return True
    if not client.sessions:
        return not client.has_tried_to_bind
    origin: HostKey | None = None
    last = client.sessions[-1]
    for session in client.sessions:
        if session is last:
            if session.is_forwarding and username is not None:
                return False
        elif not session.is_forwarding:
            return False
        user = username if session is last else None
        if not any(_leads(destination, origin, session.host_key, user) for destination in destinations):
            return False
        origin = session.host_key
    # A host that a key leads to, and not beyond, shall not even see it through a forwarded connection.
    if last.is_forwarding and username is None:
        return any(_leads(destination, last.host_key, None, None) for destination in destinations)
    return True


def _leads(destination: AgentDestination, origin: HostKey | None, to: HostKey | None, user: str | None) -> bool:
    if origin is None:
        if destination.origin is not None:
            return False
    elif destination.origin is None or not _is_host(destination.origin, origin):
        return False
    if to is not None and not _is_host(destination.to, to):
        return False
    return user is None or not destination.to.username or matches(destination.to.username, user)


def _is_host(hop: AgentHop, key: HostKey) -> bool:
    if not isinstance(key, Certificate):
        return key in hop.host_keys
    try:
        key.check_for_host(hop.hostname, authorities=hop.authorities, now=time.time())
    except CertificateException:
        return False
    return True


def _check_destination(held: _HeldKey, client: _Client, request: protocol.SignRequest) -> None:
    """Refuse unless what is to be signed is a login at the host that this connection was bound to last.

    Raises:
        RemoteProtocolError: it is something else.
    """
    if not client.sessions:
        raise RemoteProtocolError("a key for some destinations was to sign without one")
    signed = protocol.read_signed_request(request.data)
    last = client.sessions[-1]
    if signed.blob != request.blob or signed.session_id != last.session_id:
        raise RemoteProtocolError("a login with another key, or in another session, than was said")
    # Through several hosts the first could pass on what the last has said; only what names the host is beyond doubt.
    if signed.host_key is None and len(client.sessions) > 1:
        raise RemoteProtocolError("a login through several hosts that does not name its host")
    if signed.host_key is not None and signed.host_key != last.host_key.blob:
        raise RemoteProtocolError("a login at another host than was said")
    if not _is_permitted(held, client, signed.username):
        raise RemoteProtocolError("a key was to be used where it may not")


# -- sockets


@contextlib.contextmanager
def listening_socket(path: str | os.PathLike[str]) -> Generator[trio.SocketListener]:
    """Listen at a path that only this user can connect to; remove it at the end of the block."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listening:
        listening.bind(os.fspath(path))
        try:
            # Nobody gets through to a socket that doesn't listen yet.
            Path(path).chmod(0o600)
            listening.listen(16)
            listening.setblocking(False)
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        finally:
            Path(path).unlink(missing_ok=True)
