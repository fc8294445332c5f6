"""What a server decides: `ServerInterface`, with paramiko's names, each check sync or async.

Every check refuses until it is overridden, and only the exact enum members let anyone in: ``True``, ``0`` and ``None``
are taken for the mistakes that they are, refused and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Final, cast

import trio

from trio_ssh.core.questions import AuthResult
from trio_ssh.host_key_rotation import ANNOUNCE, announcement, prove
from trio_ssh.runtime.block import RAISED, sort_out
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.handler import GRANTED, REFUSED, Answer, SubsystemSource
from trio_ssh.runtime.waiting import MaybeAwaitable, after, resolved
from trio_ssh.server_authentication import ServerAuthentication
from trio_ssh.server_forwarding import ClientForwards
from trio_ssh.server_restrictions import (
    ORIGINAL_COMMAND,
    is_internal_sftp,
    lets_subsystem,
    permits_channel,
    permits_global_request,
    permits_session_request,
)
from trio_ssh.session import (
    Pty,
    ServerProcess,
    SessionPlaces,
    SessionState,
    SubsystemHandler,
    note_failure,
    run_session,
)
from trio_ssh.wire.connection import (
    LARGEST_PORT,
    EnvironmentRequest,
    ExecRequest,
    PtyRequest,
    SignalRequest,
    SubsystemRequest,
    TcpipChannel,
    TcpipForward,
    TcpipForwardReply,
    WindowChange,
    X11Request,
)
from trio_ssh.wire.message import Message
from trio_ssh.wire.numbers import OpenFailureReason, TerminalMode
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.server")


class OpenResult(Enum):
    """A server's decision about a channel that the client wants."""

    SUCCEEDED = 0
    ADMINISTRATIVELY_PROHIBITED = 1
    CONNECT_FAILED = 2
    UNKNOWN_CHANNEL_TYPE = 3
    RESOURCE_SHORTAGE = 4


AUTH_SUCCESSFUL: Final = AuthResult.SUCCESSFUL
AUTH_PARTIALLY_SUCCESSFUL: Final = AuthResult.PARTIALLY_SUCCESSFUL
AUTH_FAILED: Final = AuthResult.FAILED
AUTH_PASSWORD_EXPIRED: Final = AuthResult.PASSWORD_EXPIRED
OPEN_SUCCEEDED: Final = OpenResult.SUCCEEDED
OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED: Final = OpenResult.ADMINISTRATIVELY_PROHIBITED
OPEN_FAILED_CONNECT_FAILED: Final = OpenResult.CONNECT_FAILED
OPEN_FAILED_UNKNOWN_CHANNEL_TYPE: Final = OpenResult.UNKNOWN_CHANNEL_TYPE
OPEN_FAILED_RESOURCE_SHORTAGE: Final = OpenResult.RESOURCE_SHORTAGE


class ServerInterface(ServerAuthentication):
    """A server's decisions and what it does for its users.  Subclass it; each connection has an instance of its own.

    A server that serves sessions overrides at least one ``check_auth_`` method and `handle_session`.  Everything is
    refused that isn't overridden, with one exception: a class that has a `handle_session` grants sessions, commands and
    shells unless their checks say otherwise.

    Attributes:
        transport: the connection, from before the first check on.
        subsystems: what `handle_subsystem` runs, by name: a handler, or what makes one for each session.
        announces_host_keys: whether a client that is logged in is told all host keys, so that it knows the server by
            the others when one of them is gone.
        completed_auths: the methods by which the user has partly succeeded on this connection, in order: what a second
            factor's check looks at.  A key is among them once its signature was checked, never for a mere probe.
        auth_proofs: what has let the user in, in order, with its key or certificate; all of it once `logged_in` is
            called.
        restrictions: what the line or the certificate that let the user in forbids; None where there was none.  It is
            obeyed before any check below is asked.
        permit_user_environment: take ``environment=`` of authorized_keys.  Off, as for sshd: whoever may write there
            could otherwise load code into a command that was forced upon them.
    """

    subsystems: Mapping[str, SubsystemHandler | Callable[[], SubsystemHandler]] = {}
    announces_host_keys: bool = True
    permit_user_environment: bool = False
    _no_more_sessions = False
    _has_told_why = False
    _client_forwards: ClientForwards | None = None
    _proofs_given = 0
    _channels_at_work = 0
    #: Made for the first session.
    _places: SessionPlaces | None = None

    # -- channels

    def check_channel_request(self, kind: str, chanid: int) -> MaybeAwaitable[OpenResult]:
        """Decide about a channel; ``direct-tcpip`` has a check of its own."""
        if kind == "session" and self._serves_sessions:
            return OpenResult.SUCCEEDED
        if kind == "session" and not self._has_told_why:
            self._has_told_why = True
            _log.info("a session is refused: %s has neither handle_session nor subsystems", type(self).__name__)
        return OpenResult.ADMINISTRATIVELY_PROHIBITED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> MaybeAwaitable[OpenResult]:
        """Decide whether the client may connect to `destination` from here; `handle_channel` then gets the channel.

        To let it, and have both joined, return ``await self.connect_for_client(chanid, destination)``.
        """
        return OpenResult.ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: Channel, command: str) -> MaybeAwaitable[bool]:
        """Decide whether to run `command`."""
        return self._handles_sessions

    def check_channel_shell_request(self, channel: Channel) -> MaybeAwaitable[bool]:
        """Decide whether to run a shell."""
        return self._handles_sessions

    def check_channel_subsystem_request(self, channel: Channel, name: str) -> MaybeAwaitable[bool]:
        """Decide whether to run a subsystem.  The default grants those in `subsystems`."""
        return name in self.subsystems

    def check_channel_pty_request(
        self,
        channel: Channel,
        term: str,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: Mapping[TerminalMode, int],
    ) -> MaybeAwaitable[bool]:
        """Decide whether the session has a terminal.  What was asked for is in ``process.pty`` then."""
        return False

    def check_channel_window_change_request(
        self, channel: Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> MaybeAwaitable[bool]:
        """Take note of a terminal's new size; ``process.window_changes`` tells the session, if there is a terminal."""
        return True

    def check_channel_env_request(self, channel: Channel, name: str, value: str) -> MaybeAwaitable[bool]:
        """Decide whether the client may set this variable."""
        return False

    def check_channel_x11_request(
        self, channel: Channel, single_connection: bool, auth_protocol: str, auth_cookie: bytes, screen_number: int
    ) -> MaybeAwaitable[bool]:
        """Decide whether the session may open X11 channels."""
        return False

    def check_channel_forward_agent_request(self, channel: Channel) -> MaybeAwaitable[bool]:
        """Decide whether the session may use the client's agent; `ServerProcess.open_agent` then does."""
        return False

    def check_port_forward_request(self, address: str, port: int) -> MaybeAwaitable[int | bool]:
        """Decide whether to listen for the client: return the port, or False.

        To let it, and have what comes there forwarded, return ``await self.listen_for_client(address, port)``.
        """
        return False

    def cancel_port_forward_request(self, address: str, port: int) -> MaybeAwaitable[None]:
        """Listen no more.  The default ends what `listen_for_client` has begun."""
        return None if self._client_forwards is None else self._client_forwards.close(address, port)

    def check_global_request(self, kind: str, details: Message) -> MaybeAwaitable[bool | bytes]:
        """Decide about any other global request; bytes are a success and go with it."""
        return False

    # -- what it does

    async def handle_session(self, process: ServerProcess) -> int | None:
        """Run a command or shell; return its exit status (None is 0).

        The client has been told that it runs.  An exception ends the channel with status 255 and is logged.
        """
        raise NotImplementedError

    async def handle_subsystem(self, process: ServerProcess) -> int | None:
        """Run a subsystem; the default runs the one in `subsystems`.

        Called for what `check_channel_subsystem_request` grants, which are those in there unless it is overridden.
        """
        assert process.subsystem is not None, "a granted subsystem has a name"
        source = self.subsystems[process.subsystem]
        handler = source() if callable(source) else source
        return await handler.handle(process)

    async def handle_channel(self, channel: Channel, destination: tuple[str, int] | None) -> None:
        """Serve a channel that is no session; `destination` is that of a ``direct-tcpip`` channel.

        One that `connect_for_client` has connected doesn't come here.
        """
        await channel.aclose()

    # -- forwarding, for the checks above to return

    async def connect_for_client(self, chanid: int, destination: tuple[str, int]) -> OpenResult:
        """Connect to `destination` from here, and carry bytes both ways, for `check_channel_direct_tcpip_request`.

        Look at the destination first: a client may name any host that this machine can reach.  What doesn't answer
        within 30 seconds is given up.
        """
        is_connected = await self._forwards_of_client().connect(chanid, *destination)
        return OpenResult.SUCCEEDED if is_connected else OpenResult.CONNECT_FAILED

    async def listen_for_client(self, address: str, port: int, *, gateway_ports: bool = False) -> int:
        """Listen at a port of ours, and forward to the client what connects there, for `check_port_forward_request`.

        It ends with the connection, or when the client wants it to.

        Args:
            address, port: as the client wants it; 0 is any port.
            gateway_ports: listen at the address that the client names, which may mean all there are.  Otherwise, as
                sshd does unless it is told, only this machine's own programs can connect.

        Returns:
            The port; 0 where it can't be had, or the client has `Limits.forwarded_ports` of them already.
        """
        return await self._forwards_of_client().listen(address, port, gateway_ports=gateway_ports)

    def _forwards_of_client(self) -> ClientForwards:
        if self._client_forwards is None:
            self._client_forwards = ClientForwards(self.transport)
        return self._client_forwards

    def add_subsystem(self, name: str, source: SubsystemSource) -> None:
        """Add to `subsystems`, of this connection alone: see `Transport.set_subsystem_handler`."""
        self.subsystems = {**self.subsystems, name: cast("SubsystemHandler", source)}

    def handler_failed(self, error: Exception) -> None:
        """Take note that one of the handlers above raised `error`, which was logged and ended its channel alone."""

    @property
    def _serves_sessions(self) -> bool:
        return self._handles_sessions or self._handles_subsystems

    @property
    def _handles_sessions(self) -> bool:
        return type(self).handle_session is not ServerInterface.handle_session

    @property
    def _handles_subsystems(self) -> bool:
        return bool(self.subsystems) or type(self).handle_subsystem is not ServerInterface.handle_subsystem

    # -- how the transport asks

    def open_requested(self, channel: Channel, details: bytes) -> MaybeAwaitable[OpenFailureReason | Answer]:
        """Ask the check for a channel of this kind."""
        destination: tuple[str, int] | None = None
        restrictions = self.restrictions
        if restrictions is not None and not permits_channel(restrictions, channel.kind, details):
            return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if channel.kind == "direct-tcpip":
            asked = TcpipChannel.decode(details)
            if max(asked.port, asked.originator_port) > LARGEST_PORT:
                # A resolver would cut it to another one than was checked.
                return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
            destination = (asked.host, asked.port)
            origin = channel.origin = (asked.originator_host, asked.originator_port)
            decision = self.check_channel_direct_tcpip_request(channel.get_id(), origin, destination)
            if isinstance(decision, Awaitable):
                return self._open_connected(channel, destination, decision)
        else:
            decision = self.check_channel_request(channel.kind, channel.get_id())
        return after(decision, lambda result: self._open(channel, destination, result))

    async def _open_connected(
        self, channel: Channel, destination: tuple[str, int], decision: Awaitable[OpenResult]
    ) -> OpenFailureReason | Answer:
        """Open a channel once it was decided, and close what was opened for it if it isn't opened after all."""
        is_opened = False
        try:
            answer = self._open(channel, destination, await decision)
            is_opened = isinstance(answer, Answer) and self.transport.is_active()
            return answer
        finally:
            if self._client_forwards is not None and not is_opened:
                self._client_forwards.drop(channel.get_id())

    def _open(
        self, channel: Channel, destination: tuple[str, int] | None, result: OpenResult
    ) -> OpenFailureReason | Answer:
        if not _is_member(result):
            return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if channel.kind == "session" and self._no_more_sessions:
            return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if result is not OpenResult.SUCCEEDED:
            return OpenFailureReason(result.value)
        limits = self.transport.limits
        if channel.kind == "session":
            if self._places is None:
                self._places = SessionPlaces(limits.sessions)
            if self._places.are_all_taken and not self._places.is_one_being_left:
                return OpenFailureReason.RESOURCE_SHORTAGE
            channel.session = SessionState()
            # A class without a handler is paramiko's way of serving: its channels come from `Transport.accept`.
            return Answer(True, is_served=self._serves_sessions)
        if self._channels_at_work >= limits.channels:
            return OpenFailureReason.RESOURCE_SHORTAGE
        self._channels_at_work += 1
        return Answer(True, then=lambda: self._serve_channel(channel, destination), is_served=True)

    async def _serve_channel(self, channel: Channel, destination: tuple[str, int] | None) -> None:
        try:
            with trio.CancelScope() as scope:
                channel.end_with_channel(scope)
                if self._client_forwards is None or not await self._client_forwards.serve(channel):
                    await self.handle_channel(channel, destination)
        except RAISED as error:
            failure, exited, rest = sort_out(error)
            what = f"a {printable(channel.kind, 64)} channel"
            if failure is not None:
                note_failure(what, channel, failure, self.handler_failed)
            elif exited is not None:
                _log.warning("the handler of %s called sys.exit", what)
            if rest is not None:
                raise rest  # noqa: B904 -- it is what was caught, less what is dealt with
        finally:
            self._channels_at_work -= 1
            channel.close_later()

    def channel_requested(self, channel: Channel, name: str, details: bytes) -> MaybeAwaitable[Answer]:
        """Ask the check for a request on a session."""
        state = channel.session
        if not isinstance(state, SessionState):
            return REFUSED
        if self.restrictions is not None and not permits_session_request(self.restrictions, name):
            return REFUSED
        match name:
            case "exec":
                command = ExecRequest.decode(details).command
                forced = self._forced_command
                if forced is not None:
                    return self._check_exec(channel, state, forced, original=command)
                return self._check_exec(channel, state, command)
            case "shell":
                forced = self._forced_command
                if forced is not None:
                    return self._check_exec(channel, state, forced)
                return self._start_session(channel, state, lambda: self.check_channel_shell_request(channel))
            case "subsystem":
                subsystem = SubsystemRequest.decode(details).name
                forced = self._forced_command
                if forced is not None and not lets_subsystem(forced, subsystem):
                    return self._check_exec(channel, state, forced, original=subsystem)
                return self._check_subsystem(channel, state, subsystem)
            case "pty-req":
                return self._check_pty(channel, state, PtyRequest.decode(details))
            case "env":
                return self._check_env(channel, state, EnvironmentRequest.decode(details))
            case "window-change":
                return self._check_window_change(channel, state, WindowChange.decode(details))
            case "signal":
                return Answer(state.deliver_signal(SignalRequest.decode(details).name))
            case "x11-req":
                return self._check_x11(channel, X11Request.decode(details))
            case "auth-agent-req@openssh.com":
                return self._check_forward_agent(channel, state)
            case _:
                return REFUSED

    @property
    def _forced_command(self) -> str | None:
        return self.restrictions.force_command if self.restrictions is not None else None

    def _check_exec(
        self, channel: Channel, state: SessionState, command: str, *, original: str | None = None
    ) -> MaybeAwaitable[Answer]:
        """Start a command; of a forced one, tell it what was asked for."""
        if self._forced_command is not None:
            if is_internal_sftp(command):
                return REFUSED  # it is no command: sshd says that it allows sftp connections only
            state.original_command = original or ""
        return self._start_session(
            channel, state, lambda: self.check_channel_exec_request(channel, command), command=command
        )

    def _check_subsystem(self, channel: Channel, state: SessionState, name: str) -> MaybeAwaitable[Answer]:
        return self._start_session(
            channel, state, lambda: self.check_channel_subsystem_request(channel, name), subsystem=name
        )

    def _start_session(
        self,
        channel: Channel,
        state: SessionState,
        check: Callable[[], MaybeAwaitable[bool]],
        *,
        command: str | None = None,
        subsystem: str | None = None,
    ) -> MaybeAwaitable[Answer]:
        if state.is_started:
            return REFUSED  # RFC 4254 s6.5: one per channel
        places = self._places
        assert places is not None, "a session that was opened has seen them"

        def start(decision: bool) -> Answer:
            if subsystem is not None and decision is False and subsystem not in self.subsystems:
                _log.info("the subsystem %s is not served: it is not in `subsystems`", printable(subsystem, 64))
            if not _is_true(decision) or places.are_all_taken:
                return REFUSED
            state.is_started = True
            self._impose_environment(state)
            if not self._serves_sessions:
                return GRANTED
            process = ServerProcess(channel, state, command, subsystem, self.transport.get_username() or "")
            places.take(channel)
            return Answer(True, then=lambda: self._run_session(process, places))

        decision = check()
        return _behind_another(places, decision, start) if places.are_all_taken else after(decision, start)

    def _impose_environment(self, state: SessionState) -> None:
        """Set what the key's line and a forced command want; a client's own variables of these names don't count."""
        if self.restrictions is None:
            return
        if self.permit_user_environment:
            state.environment.update(self.restrictions.environment)
        if self.restrictions.force_command is not None:
            state.environment.pop(ORIGINAL_COMMAND, None)
            if state.original_command:
                state.environment[ORIGINAL_COMMAND] = state.original_command

    async def _run_session(self, process: ServerProcess, places: SessionPlaces) -> None:
        try:
            handle = self.handle_session if process.subsystem is None else self.handle_subsystem
            await run_session(process, handle, self.handler_failed)
        finally:
            places.free(process.channel)

    def _check_pty(self, channel: Channel, state: SessionState, request: PtyRequest) -> MaybeAwaitable[Answer]:
        if state.is_started or state.pty is not None:
            return REFUSED
        pty = Pty.from_request(request)

        def take(decision: bool) -> Answer:
            if _is_true(decision):
                state.pty = pty
            return _granted(decision)

        sizes = (pty.width, pty.height, pty.width_pixels, pty.height_pixels)
        return after(self.check_channel_pty_request(channel, pty.term, *sizes, pty.modes), take)

    def _check_window_change(
        self, channel: Channel, state: SessionState, request: WindowChange
    ) -> MaybeAwaitable[Answer]:
        sizes = (request.width, request.height, request.width_pixels, request.height_pixels)

        def take(decision: bool) -> Answer:
            if _is_true(decision):
                state.resize(*sizes)
            return _granted(decision)

        return after(self.check_channel_window_change_request(channel, *sizes), take)

    def _check_env(self, channel: Channel, state: SessionState, request: EnvironmentRequest) -> MaybeAwaitable[Answer]:
        limits = self.transport.limits
        environment = state.environment
        if state.is_started:
            return REFUSED  # what runs has its variables, those of a forced command among them
        size = sum(len(name) + len(value) for name, value in environment.items())
        if (
            len(environment) >= limits.environment_names
            or size + len(request.name) + len(request.value) > limits.environment_bytes
            or not request.name
            or "\0" in request.name + request.value
            or "=" in request.name
        ):
            return REFUSED

        def take(decision: bool) -> Answer:
            if _is_true(decision):
                environment[request.name] = request.value
            return _granted(decision)

        return after(self.check_channel_env_request(channel, request.name, request.value), take)

    def _check_forward_agent(self, channel: Channel, state: SessionState) -> MaybeAwaitable[Answer]:
        def take(decision: bool) -> Answer:
            state.forwards_agent |= decision is True
            return _granted(decision)

        return after(self.check_channel_forward_agent_request(channel), take)

    def _check_x11(self, channel: Channel, request: X11Request) -> MaybeAwaitable[Answer]:
        return after(
            self.check_channel_x11_request(
                channel, request.single_connection, request.auth_protocol, request.auth_cookie, request.screen_number
            ),
            _granted,
        )

    def logged_in(self) -> None:
        """A user is logged in, `Transport.get_username`, and the client is about to hear it.

        Plain code, for a note of who it is and how it was shown, `auth_proofs`: it is run in the middle of a read.
        What it raises is logged.
        """

    def logged_out(self) -> None:
        """The connection of a user who was logged in is over; `Transport.get_exception` tells why.

        Plain code too, and called once; sessions may still be at work, and are cancelled.  What it raises is logged.
        """

    def announce(self) -> None:
        """Announce the host keys, along with the news of the login."""
        if self.announces_host_keys:
            self.transport._notify(ANNOUNCE, announcement(self.transport.get_server_keys()))

    def _prove_host_keys(self, details: bytes) -> Answer:
        if not self.announces_host_keys or self._proofs_given >= _MOST_PROOFS:
            return REFUSED
        self._proofs_given += 1
        negotiated = self.transport.get_negotiated()
        assert negotiated is not None, "a client that asks is logged in"
        proofs = prove(
            details, self.transport.get_server_keys(), self.transport.session_id, negotiated.host_key_algorithm
        )
        return REFUSED if proofs is None else Answer(True, proofs)

    def global_requested(self, name: str, details: bytes) -> MaybeAwaitable[Answer]:
        """Ask the check for a global request."""
        if self.restrictions is not None and not permits_global_request(self.restrictions, name, details):
            return REFUSED
        match name:
            case "tcpip-forward":
                asked = TcpipForward.decode(details)
                if asked.port > LARGEST_PORT:
                    return REFUSED
                decision = self.check_port_forward_request(asked.address, asked.port)
                return after(decision, lambda port: _listening(asked, port))
            case "cancel-tcpip-forward":
                asked = TcpipForward.decode(details)
                if asked.port > LARGEST_PORT:
                    return REFUSED
                return after(self.cancel_port_forward_request(asked.address, asked.port), lambda _: GRANTED)
            case "hostkeys-prove-00@openssh.com":
                return self._prove_host_keys(details)
            case "keepalive@openssh.com":
                return REFUSED  # an answer is all that it wants
            case "no-more-sessions@openssh.com":
                self._no_more_sessions = True
                return GRANTED
            case _:
                return after(self.check_global_request(name, Message(details)), _answered)


async def _behind_another(
    places: SessionPlaces, decision: MaybeAwaitable[bool], start: Callable[[bool], Answer]
) -> Answer:
    """Start a session in the place of one that is about to end."""
    is_granted = await resolved(decision)
    await places.wait()
    return start(is_granted)


def _listening(asked: TcpipForward, port: int | bool) -> Answer:
    given: object = port
    if given is True or not isinstance(given, int):
        raise TypeError(f"check_port_forward_request returns the port that it listens at, not {given!r}")
    if port <= 0:
        return REFUSED
    return Answer(True, TcpipForwardReply(port).encode() if asked.port == 0 else b"")


def _answered(decision: object) -> Answer:
    return Answer(True, decision) if isinstance(decision, bytes) else Answer(_is_true(decision))


#: Requests for proofs that are answered on one connection: a client has use for one, and each costs a signature a key.
_MOST_PROOFS: Final = 4


def _granted(decision: bool) -> Answer:
    return GRANTED if _is_true(decision) else REFUSED


def _is_member(value: object) -> bool:
    """An `OpenResult` and nothing else, whatever a check's annotation promises."""
    if not isinstance(value, OpenResult):
        _log.error("a channel check returned %r, which is no OpenResult: refused", type(value))
    return isinstance(value, OpenResult)


def _is_true(value: object) -> bool:
    """``True`` and nothing else: a decision that is merely truthy is a mistake."""
    if value is not True and value is not False:
        _log.error("a check returned %r, which is neither True nor False: refused", type(value))
    return value is True
