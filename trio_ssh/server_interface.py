"""What a server decides: `ServerInterface`, with paramiko's names, each check sync or async.

Every check refuses until it is overridden, and only the exact enum members let anyone in: ``True``, ``0`` and ``None``
are taken for the mistakes that they are, refused and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Final, cast

import trio

from trio_ssh.core.questions import (
    AllowedAuths,
    AuthResult,
    BannerWanted,
    CheckInteractive,
    CheckInteractiveResponse,
    CheckNone,
    CheckPassword,
    CheckPublicKey,
    InteractiveQuery,
    Question,
)
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.handler import GRANTED, REFUSED, Answer, PeerHandler
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import MaybeAwaitable, after, resolved
from trio_ssh.session import Pty, ServerProcess, SessionState, SubsystemHandler, is_left_by_client, run_session
from trio_ssh.wire.connection import (
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
OPEN_SUCCEEDED: Final = OpenResult.SUCCEEDED
OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED: Final = OpenResult.ADMINISTRATIVELY_PROHIBITED
OPEN_FAILED_CONNECT_FAILED: Final = OpenResult.CONNECT_FAILED
OPEN_FAILED_UNKNOWN_CHANNEL_TYPE: Final = OpenResult.UNKNOWN_CHANNEL_TYPE
OPEN_FAILED_RESOURCE_SHORTAGE: Final = OpenResult.RESOURCE_SHORTAGE


class ServerInterface(PeerHandler):
    """A server's decisions and what it does for its users.  Subclass it; each connection has an instance of its own.

    A server that serves sessions overrides at least one ``check_auth_`` method and `handle_session`.  Everything is
    refused that isn't overridden, with one exception: a class that has a `handle_session` grants sessions, commands and
    shells unless their checks say otherwise.

    Attributes:
        transport: the connection, from before the first check on.
        subsystems: what `handle_subsystem` runs, by name.
        completed_auths: the methods by which the user has partly succeeded on this connection, in order: what a second
            factor's check looks at.  A key is among them once its signature was checked, never for a mere probe.
    """

    transport: Transport
    subsystems: Mapping[str, Callable[[], SubsystemHandler]] = {}
    completed_auths: Sequence[str] = ()
    _no_more_sessions = False
    _sessions_at_work = 0
    _channels_at_work = 0

    # -- authentication

    def get_allowed_auths(self, username: str) -> MaybeAwaitable[Sequence[str] | str]:
        """Return the methods that can continue: a sequence of names, or one str with commas as in paramiko.

        The default names those whose check is overridden.
        """
        checks = {
            "publickey": ServerInterface.check_auth_publickey,
            "password": ServerInterface.check_auth_password,
            "keyboard-interactive": ServerInterface.check_auth_interactive,
        }
        return [name for name, check in checks.items() if getattr(type(self), check.__name__) is not check]

    def check_auth_none(self, username: str) -> MaybeAwaitable[AuthResult]:
        """Decide whether this user needs no proof at all."""
        return AuthResult.FAILED

    def check_auth_password(self, username: str, password: str) -> MaybeAwaitable[AuthResult]:
        """Decide about a password; compare with `hmac.compare_digest`."""
        return AuthResult.FAILED

    def check_auth_publickey(self, username: str, key: PublicKey) -> MaybeAwaitable[AuthResult]:
        """Decide whether this key may log this user in.

        Asked about a mere probe too, which proves nothing: remember nothing here.  A signature is checked by trio_ssh,
        before this.
        """
        return AuthResult.FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> MaybeAwaitable[AuthResult | InteractiveQuery]:
        """Begin keyboard-interactive: return an `InteractiveQuery`, or decide at once."""
        return AuthResult.FAILED

    def check_auth_interactive_response(
        self, responses: Sequence[str]
    ) -> MaybeAwaitable[AuthResult | InteractiveQuery]:
        """Decide about the answers, one per prompt, or ask once more."""
        return AuthResult.FAILED

    def get_banner(self) -> MaybeAwaitable[str]:
        """Return a text that the user reads before logging in; empty for none."""
        return ""

    # -- channels

    def check_channel_request(self, kind: str, chanid: int) -> MaybeAwaitable[OpenResult]:
        """Decide about a channel; ``direct-tcpip`` has a check of its own."""
        if kind == "session" and self._serves_sessions:
            return OpenResult.SUCCEEDED
        return OpenResult.ADMINISTRATIVELY_PROHIBITED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> MaybeAwaitable[OpenResult]:
        """Decide whether the client may connect to `destination` from here; `handle_channel` then gets the channel."""
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
        """Decide whether to listen for the client: return the port, or False."""
        return False

    def cancel_port_forward_request(self, address: str, port: int) -> MaybeAwaitable[None]:
        """Listen no more."""
        return None

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
        """Run a subsystem; the default runs the one in `subsystems`."""
        assert process.subsystem is not None, "a granted subsystem has a name"
        return await self.subsystems[process.subsystem]().handle(process)

    async def handle_channel(self, channel: Channel, destination: tuple[str, int] | None) -> None:
        """Serve a channel that is no session; `destination` is that of a ``direct-tcpip`` channel."""
        await channel.aclose()

    def handler_failed(self, error: Exception) -> None:
        """Take note that one of the handlers above raised `error`, which was logged and ended its channel alone."""

    @property
    def _serves_sessions(self) -> bool:
        return self._handles_sessions or bool(self.subsystems)

    @property
    def _handles_sessions(self) -> bool:
        return type(self).handle_session is not ServerInterface.handle_session

    # -- how the transport asks

    def answer_question(self, question: Question) -> object:
        """Ask the check that belongs to a question.  A check that raises refuses."""
        try:
            answer = self._check(question)
        except Exception:
            return _failed(question)
        return after(_guarded(question, answer), lambda result: self._note(question, result))

    def _note(self, question: Question, result: object) -> object:
        """Remember a partial success; its method is named by the question."""
        method = _METHODS.get(type(question))
        is_proven = not isinstance(question, CheckPublicKey) or question.is_proven
        if result is AuthResult.PARTIALLY_SUCCESSFUL and method is not None and is_proven:
            self.completed_auths = (*self.completed_auths, method)
        return result

    def _check(self, question: Question) -> MaybeAwaitable[object]:
        match question:
            case CheckNone(username):
                return self.check_auth_none(username)
            case CheckPassword(username, password):
                return self.check_auth_password(username, password)
            case CheckPublicKey(username, key, _):
                return self.check_auth_publickey(username, key)
            case CheckInteractive(username, submethods):
                return after(self.check_auth_interactive(username, submethods), _well_formed)
            case CheckInteractiveResponse(_, responses):
                return after(self.check_auth_interactive_response(responses), _well_formed)
            case BannerWanted():
                return self.get_banner()
            case AllowedAuths(username):
                return after(self.get_allowed_auths(username), _method_names)
            case _:
                return None

    def open_requested(self, channel: Channel, details: bytes) -> MaybeAwaitable[OpenFailureReason | Answer]:
        """Ask the check for a channel of this kind."""
        destination: tuple[str, int] | None = None
        if channel.kind == "direct-tcpip":
            asked = TcpipChannel.decode(details)
            destination = (asked.host, asked.port)
            origin = (asked.originator_host, asked.originator_port)
            decision = self.check_channel_direct_tcpip_request(channel.get_id(), origin, destination)
        else:
            decision = self.check_channel_request(channel.kind, channel.get_id())
        return after(decision, lambda result: self._open(channel, destination, result))

    def _open(
        self, channel: Channel, destination: tuple[str, int] | None, result: OpenResult
    ) -> OpenFailureReason | Answer:
        if not _is_member(result):
            return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if channel.kind == "session" and self._no_more_sessions:
            return OpenFailureReason.ADMINISTRATIVELY_PROHIBITED
        if result is not OpenResult.SUCCEEDED:
            return OpenFailureReason(result.value)
        # Closing a channel cancels its handler, but that may take its time: the core's count of channels is not enough.
        limits = self.transport.limits
        if channel.kind == "session":
            if self._sessions_at_work >= limits.sessions:
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
                await self.handle_channel(channel, destination)
        except Exception as error:
            if is_left_by_client(channel, error):
                _log.debug("a %s channel ended with its client: %s", printable(channel.kind, 64), error)
            else:
                _log.exception("the handler of a %s channel failed", printable(channel.kind, 64))
                self.handler_failed(error)
        finally:
            self._channels_at_work -= 1
            channel._close()

    def channel_requested(self, channel: Channel, name: str, details: bytes) -> MaybeAwaitable[Answer]:
        """Ask the check for a request on a session."""
        state = channel.session
        if not isinstance(state, SessionState):
            return REFUSED
        match name:
            case "exec":
                return self._check_exec(channel, state, ExecRequest.decode(details).command)
            case "shell":
                return self._start_session(channel, state, lambda: self.check_channel_shell_request(channel))
            case "subsystem":
                return self._check_subsystem(channel, state, SubsystemRequest.decode(details).name)
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

    def _check_exec(self, channel: Channel, state: SessionState, command: str) -> MaybeAwaitable[Answer]:
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

        def start(decision: bool) -> Answer:
            if not _is_true(decision) or self._sessions_at_work >= self.transport.limits.sessions:
                return REFUSED
            state.is_started = True
            if not self._serves_sessions:
                return GRANTED
            process = ServerProcess(channel, state, command, subsystem, self.transport.get_username() or "")
            self._sessions_at_work += 1
            return Answer(True, then=lambda: self._run_session(process))

        return after(check(), start)

    async def _run_session(self, process: ServerProcess) -> None:
        try:
            handle = self.handle_session if process.subsystem is None else self.handle_subsystem
            await run_session(process, handle, self.handler_failed)
        finally:
            self._sessions_at_work -= 1

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

    async def global_requested(self, name: str, details: bytes) -> Answer:
        """Ask the check for a global request."""
        match name:
            case "tcpip-forward":
                asked = TcpipForward.decode(details)
                port = await resolved(self.check_port_forward_request(asked.address, asked.port))
                if isinstance(port, bool) or port <= 0:
                    return REFUSED
                return Answer(True, TcpipForwardReply(port).encode() if asked.port == 0 else b"")
            case "cancel-tcpip-forward":
                asked = TcpipForward.decode(details)
                await resolved(self.cancel_port_forward_request(asked.address, asked.port))
                return GRANTED
            case "keepalive@openssh.com":
                return REFUSED  # an answer is all that it wants
            case "no-more-sessions@openssh.com":
                self._no_more_sessions = True
                return GRANTED
            case _:
                answer = await resolved(self.check_global_request(name, Message(details)))
                return Answer(True, answer) if isinstance(answer, bytes) else Answer(_is_true(answer))


_METHODS: Final[Mapping[type[Question], str]] = {
    CheckNone: "none",
    CheckPassword: "password",
    CheckPublicKey: "publickey",
    CheckInteractive: "keyboard-interactive",
    CheckInteractiveResponse: "keyboard-interactive",
}


def _method_names(allowed: Sequence[object] | str) -> list[str]:
    named = allowed.split(",") if isinstance(allowed, str) else list(allowed)
    names = [name for name in named if isinstance(name, str) and name.isascii()]
    if names != named:
        raise TypeError(f"methods are named by str, and not {named!r}")
    return names


def _well_formed(result: object) -> object:
    """Find malformed prompts where they are still the mistake of whoever made them."""
    if isinstance(result, InteractiveQuery):
        texts: list[object] = [result.name, result.instructions, *(prompt.text for prompt in result.as_prompts())]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"a query's texts are str, and not {texts!r}")
    return result


def _guarded(question: Question, decision: object) -> MaybeAwaitable[object]:
    """Let an awaitable decision refuse where it raises."""
    if not isinstance(decision, Awaitable):
        return decision
    awaitable = cast("Awaitable[object]", decision)

    async def wait() -> object:
        try:
            return await awaitable
        except Exception:
            return _failed(question)

    return wait()


def _failed(question: Question) -> object:
    """Say what a check that raised has decided: nothing, and nobody is let in."""
    _log.exception("%s failed: refused", type(question).__name__)
    return () if isinstance(question, AllowedAuths) else AuthResult.FAILED


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
