"""What an object answers to a name that paramiko's has and it has not, because trio has a better one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

#: By a name of paramiko's, what to do instead.
HintTable = Mapping[str, str]

CLOSE: Final = "await `aclose()`, or leave the object's `async with` block"
NO_TIMEOUT: Final = "put `with trio.fail_after(seconds):` around any call"
_SEND: Final = "await `send_all(data)`, which sends all of it"
_READY: Final = "receive in a task of its own: no other is held up by it"

CHANNEL_HINTS: Final[HintTable] = {
    "close": CLOSE,
    "fileno": "a channel has no descriptor: it is a trio stream",
    "gettimeout": NO_TIMEOUT,
    "makefile_stdin": 'call `makefile("w")`',
    "recv": "await `receive_some(max_bytes)`",
    "recv_ready": _READY,
    "recv_stderr": "await `stderr.receive_some(max_bytes)`",
    "recv_stderr_ready": _READY,
    "send": _SEND,
    "send_ready": "await `wait_send_all_might_not_block()`",
    "sendall": _SEND,
    "sendall_stderr": "await `send_stderr(data)`",
    "setblocking": NO_TIMEOUT,
    "settimeout": NO_TIMEOUT,
    "shutdown": "await `send_eof()` to say that no more comes, or `aclose()`",
    "shutdown_read": "await `aclose()`: SSH has no way to end one direction from the receiving side",
    "shutdown_write": "await `send_eof()`",
}

TRANSPORT_HINTS: Final[HintTable] = {
    "atfork": CLOSE,
    "auth_interactive_dumb": "await `auth_interactive(username, handler)`, whose handler asks the user",
    "auth_timeout": NO_TIMEOUT,
    "banner_timeout": NO_TIMEOUT,
    "channel_timeout": NO_TIMEOUT,
    "close": CLOSE,
    "connect": "await `start_client(check_host_key=...)`, and log in: `auth_publickey(...)`; or use `trio_ssh.connect`",
    "handshake_timeout": NO_TIMEOUT,
    "is_alive": "call `is_active()`",
    "join": "await `wait_closed()`",
    "open_forward_agent_channel": 'await `open_channel("auth-agent@openssh.com")`',
    "open_forwarded_tcpip_channel": 'await `open_channel("forwarded-tcpip", dest_addr, src_addr)`',
    "open_sftp_client": "await `SFTPClient.from_transport(transport)`",
    "open_x11_channel": 'await `open_channel("x11", src_addr=src_addr)`',
    "set_log_channel": "pass `log_channel=` when you make it",
    "stop_thread": CLOSE,
    "use_compression": "pass `algorithms=`, or set `get_security_options().compression` before it starts",
}


CONFIG_HINTS: Final[HintTable] = {
    "parse": "await `SSHConfig.from_path(path)`, or `from_file(file)`",
}

MODULE_HINTS: Final[HintTable] = {
    "AgentRequestHandler": "await `channel.request_forward_agent(forwarded_agent())`",
    "GSSAuth": "pass `gss_auth=True` to `connect`",
    "NoValidConnectionsError": "an address that doesn't answer raises OSError, as in trio",
    "ProxyCommand": "write `ProxyCommand` into a configuration: `connect(..., config=await SSHConfig.from_text(...))`",
    "SFTP_FAILURE": "raise OSError",
    "SFTP_NO_SUCH_FILE": "raise FileNotFoundError",
    "SFTP_OK": "return nothing",
    "SFTP_OP_UNSUPPORTED": "raise OSError(errno.EOPNOTSUPP, ...)",
    "SFTP_PERMISSION_DENIED": "raise PermissionError",
    "ssh_exception": "the exceptions are in `trio_ssh` itself",
    "util": "for `log_to_file` use `logging.getLogger('trio_ssh')`; what else it has is in `trio_ssh` itself",
}

#: Arguments of paramiko's that no function here takes.
TIMEOUTS: Final = frozenset(("timeout", "banner_timeout", "auth_timeout", "channel_timeout"))


def without_timeouts(function: F) -> F:
    """Tell whoever passes a timeout how to have one."""
    what = "connect" if function.__name__ == "__init__" else function.__name__

    def check(named: Mapping[str, object]) -> None:
        given = TIMEOUTS.intersection(named)
        if given:
            raise TypeError(f"{what} takes no {', '.join(sorted(given))}: {NO_TIMEOUT}")

    if not inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            check(named)
            return function(*arguments, **named)

        return cast("F", call)

    @functools.wraps(function)
    async def call_async(*arguments: Any, **named: Any) -> Any:
        check(named)
        return await function(*arguments, **named)

    return cast("F", call_async)


class Hints:
    """Names the way of this library to whoever asks for a name of paramiko's.

    Attributes:
        _HINTS: by such a name, what to do instead.
    """

    __slots__ = ()

    _HINTS: ClassVar[HintTable] = {}

    # Type checkers are to find the name wrong, so they mustn't see that there is an answer.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            hint = self._HINTS.get(name)
            raise AttributeError(f"{text}: {hint}" if hint else text, name=name, obj=self)
