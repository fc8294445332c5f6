"""`Agent`: the keys that a running ssh-agent holds, and what it can be asked to do with them.

    async with trio_ssh.Agent() as agent:
        for key in await agent.get_keys():
            print(key.fingerprint, key.comment)

One request at a time is on its way, and the tasks that share an agent take turns.  A request that did not get its whole
answer ends the connection: the rest of it would be taken for the answer to the next.

Source: draft-ietf-sshm-ssh-agent, OpenSSH PROTOCOL.agent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar, cast

import trio

from trio_ssh.errors import AgentException, LocalProtocolError, RemoteProtocolError
from trio_ssh.keys import agent_protocol as protocol
from trio_ssh.keys.agent_constraints import NO_CONSTRAINTS, AgentDestination, Constraints
from trio_ssh.keys.agent_protocol import HeldKey
from trio_ssh.keys.certification import plain_algorithm
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.keys.signer import PublicFace, Signer
from trio_ssh.runtime.transport import Transport
from trio_ssh.wire.fields import TEXT, DeclaredMessage
from trio_ssh.wire.text import printable

M = TypeVar("M", bound=DeclaredMessage)
T = TypeVar("T")

#: Where OpenSSH for Windows listens.
WINDOWS_PIPE: Final = r"\\.\pipe\openssh-ssh-agent"

_PIPES: Final = "\\\\.\\pipe\\"

#: What one read asks for; answers are mostly shorter.
_READ_BYTES: Final = 16 * 1024

_CERTIFICATE: Final = "-cert-v01@openssh.com"


# -- keys


class _ForeignKey(PublicKey):
    """A public key that nothing here can verify with: a certificate, a card's, one of a kind to come.  It is shown."""

    __slots__ = ()

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """Take any blob that begins with the name of its type."""
        name, _ = TEXT.read(blob, 0)
        key_type = str(name)
        if not 1 <= len(key_type) <= 64 or not key_type.isascii() or not key_type.isprintable() or "," in key_type:
            raise RemoteProtocolError("the agent lists a key whose type is no name")
        algorithms: tuple[str, ...] = (key_type,)
        if key_type in ("ssh-rsa", "ssh-rsa" + _CERTIFICATE):
            behind = key_type.removeprefix("ssh-rsa")
            algorithms = (f"rsa-sha2-512{behind}", f"rsa-sha2-256{behind}")
        return cls(key_type, blob, algorithms, 0)

    def _is_valid(self, raw: bytes, data: bytes, algorithm: str) -> bool:
        return False


def _public_key(blob: bytes) -> PublicKey:
    """Read a listed key: its kind, where that is known, or else what its name tells."""
    try:
        return parse_public_key(blob, minimum_rsa_bits=1024)
    except RemoteProtocolError:
        return _ForeignKey.from_blob(blob)


class AgentKey(PublicFace):
    """A key that an agent holds.  It signs where it is; otherwise it is used like a `PKey`.

    Attributes:
        public_key: the public half; of a certificate, the certificate.
        comment: what the agent calls it.
    """

    def __init__(self, agent: Agent, blob: bytes, comment: str = "") -> None:
        """Take a blob that the agent has listed.

        Raises:
            RemoteProtocolError: it is no key.
        """
        self.public_key: PublicKey = _public_key(blob)
        self.comment: str = comment
        self._agent = agent

    def __repr__(self) -> str:
        return f"<AgentKey {self.key_type} {self.fingerprint} {printable(self.comment, 64)!r}>"

    def __eq__(self, other: object) -> bool:
        return self.asbytes() == other.asbytes() if isinstance(other, AgentKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.asbytes())

    def can_sign(self) -> bool:
        """Whether it signs: an agent lists no others."""
        return True

    async def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Have the agent sign `data`.

        Args:
            data: somewhat less than 256 KiB.
            algorithm: one of `algorithms`, by default the first.

        Returns:
            The signature as on the wire: the algorithm's name, and the signature proper, each a string.

        Raises:
            AgentException: the agent refuses: its user said no, or it is locked, or has no such key any more.
            LocalProtocolError: the key can't sign with that algorithm.

        Cancelled, the agent may have signed; see `Agent`.
        """
        return await self._agent._sign(self, data, algorithm or next(iter(self.algorithms), ""))


# -- the agent


class _Refused(Exception):
    """A failure, which is an answer like another."""


def session_bind(transport: Transport, *, is_forwarding: bool) -> protocol.SessionBind:
    """Return a client's proof of which server its connection leads to.

    Raises:
        LocalProtocolError: there was no key exchange yet.
        AgentException: there is no proof.
    """
    keying = transport._engine.core.keying
    if keying.is_first_exchange:
        raise LocalProtocolError("a session has its proof after the key exchange: start the transport first")
    if not keying.session_signature:
        raise AgentException(
            "there is no proof for an agent: GSS-API vouches for the server, and no host key has signed"
        )
    return protocol.SessionBind(keying.host_key_shown, keying.session_id, keying.session_signature, is_forwarding)


class Agent(trio.abc.AsyncResource):
    """A running agent, such as OpenSSH's: one connection, made by the first request.

        async with Agent() as agent:
            await agent.add(key, lifetime=3600)

    Args:
        path: its UNIX socket, or on Windows its named pipe.  None for ``$SSH_AUTH_SOCK``; on Windows, without that, for
            the pipe of OpenSSH's service.
        stream: a connected stream instead, such as a forwarded channel; the agent's from now on.

    Several tasks may use it; their requests take turns.  A request that is cancelled before its answer ends the
    connection, because the answer would be taken for the next one's.  The next request then makes a new one; where
    that can't be done, with a `stream` or after `bind_session`, it raises.

    There is no timeout: an agent may ask its user.  Put a `trio.fail_after` around what shouldn't wait for that.

    Every request raises:

    * `AgentException`: there is no agent, it hung up, or it refuses.
    * `RemoteProtocolError`: what it says is no answer.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, stream: trio.abc.Stream | None = None) -> None:
        if path is not None and stream is not None:
            raise ValueError("an agent is at a path or behind a stream, and not both")
        self._path = None if path is None else os.fspath(path)
        self._stream = stream
        #: No other connection would be the same: the stream was given, or it was bound to a session.
        self._is_only_one = stream is not None
        self._connections_lost = 0
        self._is_closed = False
        self._turns = trio.StrictFIFOLock()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "connected" if self._stream is not None else "not connected"
        return f"<Agent at {printable(self._where, 120)}, {state}>"

    @property
    def _where(self) -> str:
        if self._is_only_one and self._path is None:
            return "a stream"
        return self._path if self._path is not None else default_path() or "nowhere"

    async def aclose(self) -> None:
        """Hang up.  A request that another task is waiting for raises `trio.ClosedResourceError`."""
        self._is_closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        else:
            await trio.lowlevel.checkpoint()

    # -- keys

    async def get_keys(self) -> tuple[AgentKey, ...]:
        """Return the keys that it holds; none while it is locked."""
        answer = await self._ask(protocol.RequestIdentities(), protocol.IdentitiesAnswer, "it lists no keys")
        return tuple(AgentKey(self, key.blob, key.comment) for key in protocol.read_identities(answer))

    async def add(
        self,
        key: HeldKey,
        *,
        comment: str | None = None,
        lifetime: int | None = None,
        confirm: bool = False,
        max_signatures: int | None = None,
        destinations: Sequence[AgentDestination] | None = None,
    ) -> None:
        """Have it hold a key.

        Args:
            key: a private key, or one with its certificate; it leaves this process.
            comment: what to call it; None for its own.
            lifetime: seconds after which it is forgotten.
            confirm: the agent asks its user before each signature.
            max_signatures: after which it is forgotten.  OpenSSH's agent takes no key with it.
            destinations: where it may be used, and through which hosts; None for everywhere.
        """
        for name, value in (("lifetime", lifetime), ("max_signatures", max_signatures)):
            if value is not None and not 1 <= value < 2**32:
                raise ValueError(f"{name} is from 1 to {2**32 - 1}, not {value}")
        constraints = Constraints(
            lifetime=lifetime,
            confirm=confirm,
            max_signatures=max_signatures,
            destinations=None if destinations is None else checked_destinations(destinations),
        )
        if not isinstance(key, HeldKey):
            raise TypeError(f"an agent holds private keys, such as load_private_key_file gives, not {key!r}")
        request = protocol.write_added(key, key.comment if comment is None else comment, constraints)
        hint = "" if constraints == NO_CONSTRAINTS else " Not every agent knows every constraint."
        await self._ask(request, protocol.AgentSuccess, f"it does not take the key {key.fingerprint}.{hint}")

    async def remove(self, key: Signer | PublicKey) -> None:
        """Have it forget a key."""
        blob = key.blob if isinstance(key, PublicKey) else key.asbytes()
        refusal = f"it has no key {key.fingerprint}, or is locked."
        await self._ask(protocol.RemoveIdentity(blob), protocol.AgentSuccess, refusal)

    async def remove_all(self) -> None:
        """Have it forget all keys."""
        await self._ask(protocol.RemoveAllIdentities(), protocol.AgentSuccess, "it keeps its keys. Is it locked?")

    async def lock(self, passphrase: str | bytes) -> None:
        """Have it refuse everything until `unlock` is called with the same passphrase."""
        request = protocol.LockAgent(_passphrase_bytes(passphrase))
        await self._ask(request, protocol.AgentSuccess, "it can't be locked. Is it locked already?")

    async def unlock(self, passphrase: str | bytes) -> None:
        """Undo `lock`.  An agent takes its time to say that the passphrase is wrong."""
        request = protocol.UnlockAgent(_passphrase_bytes(passphrase))
        await self._ask(request, protocol.AgentSuccess, "the passphrase is wrong, or it is not locked.")

    async def _sign(self, key: AgentKey, data: bytes, algorithm: str) -> bytes:
        if algorithm not in key.algorithms:
            raise LocalProtocolError(
                f"an {key.key_type} key signs with {' or '.join(key.algorithms)}, not {printable(algorithm, 64)}"
            )
        request = protocol.SignRequest(key.asbytes(), data, protocol.sign_flags(algorithm))
        refusal = f"it does not sign with {key.fingerprint}: its user said no, it is locked, or the key is gone."
        answer = await self._ask(request, protocol.SignResponse, refusal)
        # RFC 8332: an agent that doesn't know the flags signs with SHA-1 all the same, and servers only say no.
        made, wanted = protocol.signature_algorithm(answer.signature), plain_algorithm(algorithm)
        if made != wanted:
            raise RemoteProtocolError(f"the agent signs with {printable(made, 64)} and was asked for {wanted}")
        return answer.signature

    # -- extensions

    async def query_extensions(self) -> tuple[str, ...]:
        """Return the extensions that it says it has.  OpenSSH 9's agent has some, and doesn't know the question.

        Source: draft-ietf-sshm-ssh-agent, extension ``query``.
        """
        return protocol.read_names(await self.request_extension(protocol.QUERY))

    async def request_extension(self, name: str, details: bytes = b"") -> bytes:
        """Ask for an extension by name; return what came with its success."""

        def read(payload: bytes) -> bytes:
            # Before there was a message for it, an extension's answer stood behind a success.
            if payload[0] == protocol.AgentSuccess.NUMBER:
                return protocol.AgentSuccess.from_payload(payload).details
            if payload[0] != protocol.AgentExtensionResponse.NUMBER:
                raise RemoteProtocolError(f"message {payload[0]} is no answer to an extension")
            answer = protocol.AgentExtensionResponse.from_payload(payload)
            if answer.name != name:
                raise RemoteProtocolError("the answer is of another extension than was asked for")
            return answer.details

        refusal = f"it has no extension {printable(name, 64)!r}, or won't do what it was asked."
        return await self._converse(protocol.AgentExtension(name, details), read, refusal)

    async def bind_session(self, transport: Transport, *, is_forwarding: bool = False) -> None:
        """Tell it which server this connection is for, with the server's proof; keys for some destinations want that.

        Args:
            transport: a client's, after its key exchange.
            is_forwarding: the server will use the connection itself.  Otherwise it serves one login, and can't be
                bound again.

        Source: OpenSSH PROTOCOL.agent s1.
        """
        details = session_bind(transport, is_forwarding=is_forwarding)
        lost = self._connections_lost
        try:
            await self.request_extension(protocol.SESSION_BIND, details.encode())
        except BaseException:
            # Refused, it goes on as it was.  But another connection than this one would pass for a local program's, and
            # be shown the keys that are not for this server.
            self._is_only_one |= self._connections_lost != lost
            raise
        self._is_only_one = True

    # -- one request

    async def _ask(self, request: DeclaredMessage, wanted: type[M], refusal: str) -> M:
        def read(payload: bytes) -> M:
            if payload[0] != wanted.NUMBER:
                raise RemoteProtocolError(f"message {payload[0]} is no answer to {type(request).__name__}")
            answer = wanted.from_payload(payload)
            if isinstance(answer, protocol.AgentSuccess) and answer.details:
                raise RemoteProtocolError("bytes behind a success")
            return answer

        return await self._converse(request, read, refusal)

    async def _converse(self, request: DeclaredMessage, read: Callable[[bytes], T], refusal: str) -> T:
        """Send a request and read its answer; raise if it is a failure."""
        data = protocol.frame(request.encode())

        def read_unless_refused(payload: bytes) -> T:
            if payload[0] in (protocol.AgentFailure.NUMBER, protocol.AgentExtensionFailure.NUMBER):
                raise _Refused
            return read(payload)

        async with self._turns:
            stream = await self._connected()
            try:
                return await self._exchange(stream, data, read_unless_refused)
            except _Refused:
                raise AgentException(f"the agent refuses: {refusal}") from None
            except RemoteProtocolError as error:
                raise RemoteProtocolError(f"the agent at {printable(self._where)}: {error}") from None
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                if self._is_closed:
                    raise trio.ClosedResourceError("this agent was closed") from None
                raise AgentException(f"the agent at {printable(self._where)} hung up") from error

    async def _exchange(self, stream: trio.abc.Stream, data: bytes, read: Callable[[bytes], T]) -> T:
        """Send a request and read its answer; hang up unless all is well."""
        frames = protocol.Frames()
        is_well = False
        try:
            await stream.send_all(data)
            while (payload := frames.take()) is None:
                received = await stream.receive_some(_READ_BYTES)
                if not received:
                    raise AgentException(f"the agent at {printable(self._where)} hung up without an answer")
                frames.put(received)
            if len(frames):
                raise RemoteProtocolError("it says more than it was asked")
            answer = read(payload)
            is_well = True
            return answer
        except _Refused:
            is_well = True
            raise
        finally:
            if not is_well:
                self._connections_lost += 1
                self._stream = None
                await trio.aclose_forcefully(stream)

    async def _connected(self) -> trio.abc.Stream:
        stream = self._stream
        if stream is None and not self._is_closed:
            stream = await self._dial()
        if stream is None or self._is_closed:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            raise trio.ClosedResourceError("this agent was closed")
        self._stream = stream
        return stream

    async def _dial(self) -> trio.abc.Stream:
        if self._is_only_one:
            raise AgentException(
                "the connection to the agent is gone, and another would not be the same: make a new Agent"
            )
        path = self._path if self._path is not None else default_path()
        if not path:
            raise AgentException(
                "there is no agent: SSH_AUTH_SOCK is not set. Start one (`eval $(ssh-agent)`), or give its path."
            )
        try:
            if path.startswith(_PIPES):
                return await open_named_pipe(path)
            return await trio.open_unix_socket(path)
        except OSError as error:
            raise AgentException(f"no agent listens at {printable(path)}: {error.strerror or error}") from error


def default_path() -> str | None:
    """Return where the user's agent is, as ``ssh`` would find it; None where there is none."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path and sys.platform == "win32":
        return WINDOWS_PIPE
    return path or None


def checked_destinations(destinations: Sequence[AgentDestination]) -> tuple[AgentDestination, ...]:
    """Find the mistakes that an agent would refuse without a word."""
    if not destinations:
        raise ValueError("a key for no destination is of no use: give some, or None for everywhere")
    for destination in destinations:
        for hop in filter(None, (destination.origin, destination.to)):
            if not hop.hostname or not (hop.host_keys or hop.authorities):
                raise ValueError(f"a hop needs a name and the host's keys, and not {hop}")
        if destination.origin is not None and destination.origin.username:
            raise ValueError("an origin is a host; a user can be named only where one goes to")
    return tuple(destinations)


def _passphrase_bytes(passphrase: str | bytes) -> bytes:
    if not passphrase:
        raise ValueError("an agent is locked with a passphrase that is not empty")
    return passphrase.encode("utf-8", "surrogateescape") if isinstance(passphrase, str) else passphrase


# -- named pipes


class RawFile(Protocol):
    """What a named pipe is opened as: a file without a buffer, whose reads and writes block."""

    def read(self, size: int, /) -> bytes | None:
        """Return 1 .. `size` bytes, or none at the end."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Return how many were written."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def _open_raw(path: str) -> RawFile:
    return cast("RawFile", Path(path).open("r+b", buffering=0))


async def open_named_pipe(path: str, opener: Callable[[str], RawFile] = _open_raw) -> trio.abc.Stream:
    """Open a named pipe of Windows, as a stream.

    Raises:
        OSError: there is none.
    """
    return _PipeStream(await trio.to_thread.run_sync(opener, path))


class _PipeStream(trio.abc.Stream):
    """A file that blocks, each call in a thread.  A call that is cancelled is left to its thread."""

    def __init__(self, file: RawFile) -> None:
        self._file = file
        self._is_closed = False

    async def _call(self, function: Callable[[], bytes | int | None]) -> bytes | int | None:
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        try:
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = bytes(data)
        while rest:
            written = await self._call(lambda rest=rest: self._file.write(rest))  # type: ignore[misc]
            if not isinstance(written, int) or written <= 0:
                raise trio.BrokenResourceError("the pipe takes no more")
            rest = rest[written:]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._call(lambda: self._file.read(max_bytes or _READ_BYTES))
        return data if isinstance(data, bytes) else b""

    async def aclose(self) -> None:
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        # Closing may wait for a read that was left to its thread: leave it too, if whoever closes can't wait.
        await trio.to_thread.run_sync(self._file.close, abandon_on_cancel=True)
