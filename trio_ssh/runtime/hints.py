"""What is said to whoever asks for a name of paramiko's, asyncssh's or `subprocess`'s that is another here."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

#: By a name that isn't there, what to do instead.
HintTable = Mapping[str, str]

CLOSE: Final = "await `aclose()`, or leave the object's `async with` block"
CONFIG_PROXY: Final = "write `ProxyCommand` into a configuration: `config=await SSHConfig.from_text(...)`"
NO_TIMEOUT: Final = "put `with trio.fail_after(seconds):` around any call"
_SEND: Final = "await `send_all(data)`, which sends all of it"
_READY: Final = "receive in a task of its own: no other is held up by it"

CHANNEL_HINTS: Final[HintTable] = {
    "close": CLOSE,
    "fileno": "a channel has no descriptor: it is a trio stream",
    "gettimeout": NO_TIMEOUT,
    "makefile_stdin": 'call `makefile("w")`',
    "origin_addr": "look at `origin`",
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


CLIENT_HINTS: Final[HintTable] = {
    "close": CLOSE,
    "create_connection": "await `open_tcp_stream(host, port)`",
    "create_process": "await `open_process(command)`",
    "create_session": "await `open_session()`",
    "disconnect": CLOSE,
    "forward_socks": "start `serve_socks(port)` in a nursery",
    "get_extra_info": "look at `transport`: `transport.getpeername()`, `transport.get_negotiated()`",
    "is_closed": "look at `transport.is_active()`",
    "open_connection": "await `open_tcp_stream(host, port)`",
    "open_unix_connection": "await `open_unix_stream(path)`",
    "run": "await `run_process(command)`",
    "start_sftp_client": "await `open_sftp()`",
}

PROCESS_HINTS: Final[HintTable] = {
    "change_terminal_size": "call `resize_pty(width, height)`",
    "close": CLOSE,
    "communicate": "await `client.run_process(command, stdin=..., capture_stdout=True)`",
    "exit_status": "look at `returncode`",
    "get_extra_info": "look at the client's `transport`",
    "poll": "look at `returncode`",
    "redirect": "pass `stdin=`, `stdout=` and `stderr=` to `client.run_process`",
    "wait_closed": "await `wait()`",
}

COMPLETED_HINTS: Final[HintTable] = {
    "command": "look at `args`",
    "exit_status": "look at `returncode`",
}

SERVER_PROCESS_HINTS: Final[HintTable] = {
    "close": "return the status from `handle_session`",
    "get_extra_info": "look at the server's `transport`: `transport.getpeername()`, `transport.get_username()`",
    "get_terminal_size": "look at `pty`",
    "get_terminal_type": "look at `pty`",
    "redirect": "await `run_local_session(process, command=[...])`",
}

READER_HINTS: Final[HintTable] = {
    "close": CLOSE,
    "readexactly": "await `read(size)`",
    "readline": "await `read_line()`, or `read_line_bytes()`",
    "readlines": "iterate over `lines()`",
    "readuntil": "await `read_line()`, or iterate over `lines()`",
}

WRITER_HINTS: Final[HintTable] = {
    "close": CLOSE,
    "drain": "nothing to do: `write` and `send_all` wait until there is room",
    "flush": "nothing to do: what is written is sent",
    "send_eof": "await `aclose()`",
    "write_eof": "await `aclose()`",
    "writelines": "await `write` for each",
}

SFTP_HINTS: Final[HintTable] = {
    "close": CLOSE,
    "exists": "await `sftp.path(path).exists()`",
    "exit": CLOSE,
    "getsize": "look at `(await sftp.stat(path)).st_size`",
    "isdir": "await `sftp.path(path).is_dir()`",
    "isfile": "await `sftp.path(path).is_file()`",
    "islink": "await `sftp.path(path).is_symlink()`",
    "mget": "await `get(remotepath, localpath, recurse=True, include=[...])`",
    "mput": "await `put(localpath, remotepath, recurse=True, include=[...])`",
}

CONFIG_HINTS: Final[HintTable] = {
    "parse": "await `SSHConfig.from_path(path)`, or `from_file(file)`",
}

MODULE_HINTS: Final[HintTable] = {
    "AgentRequestHandler": "await `channel.request_forward_agent(forwarded_agent())`",
    "GSSAuth": "pass `gss_auth=True` to `connect`",
    "NoValidConnectionsError": "an address that doesn't answer raises OSError, as in trio",
    "ProxyCommand": CONFIG_PROXY,
    "SFTP_FAILURE": "raise OSError",
    "SFTP_NO_SUCH_FILE": "raise FileNotFoundError",
    "SFTP_OK": "return nothing",
    "SFTP_OP_UNSUPPORTED": "raise OSError(errno.EOPNOTSUPP, ...)",
    "SFTP_PERMISSION_DENIED": "raise PermissionError",
    "SSHClientConnection": "it is `SSHClient`",
    "SSHClientProcess": "it is `Process`",
    "SSHReader": "it is `Reader`",
    "SSHServer": "it is `ServerInterface`",
    "SSHServerProcess": "it is `ServerProcess`",
    "SSHWriter": "it is `Writer`",
    "create_connection": "write `async with trio_ssh.connect(host) as client:`",
    "create_server": "await `serve_tcp(Server, port, host_keys=[key])`",
    "generate_private_key": "call `Ed25519Key.generate()`",
    "import_private_key": "call `load_private_key(data)`",
    "import_public_key": "call `load_public_key(data)`",
    "listen": "await `serve_tcp(Server, port, host_keys=[key])`",
    "read_private_key": "call `load_private_key_file(path)`",
    "read_public_key": "call `load_public_key_file(path)`",
    "run": "write `async with trio_ssh.connect(host) as client:`, and await `client.run_process(command)`",
    "scp": "await `sftp.get(..., recurse=True)` or `sftp.put`, of `client.open_sftp()`",
    "ssh_exception": "the exceptions are in `trio_ssh` itself",
    "util": "for `log_to_file` use `logging.getLogger('trio_ssh')`; what else it has is in `trio_ssh` itself",
}

_AS_BYTES: Final = "output is bytes: `done.stdout.decode()`"

#: By an argument that no function here takes, what to do instead.
ARGUMENT_HINTS: Final[HintTable] = {
    "timeout": NO_TIMEOUT,
    "banner_timeout": NO_TIMEOUT,
    "auth_timeout": NO_TIMEOUT,
    "channel_timeout": NO_TIMEOUT,
    "connect_timeout": NO_TIMEOUT,
    "login_timeout": NO_TIMEOUT,
    "agent_path": "pass `allow_agent=path`",
    "auth_strategy": "what is passed is tried: `pkey=`, `key_filename=`, `password=`, `prompt_handler=`",
    "bufsize": "nothing is buffered: leave it out",
    "capture_output": "pass `capture_stdout=True` and `capture_stderr=True`",
    "client_keys": "pass `pkey=` or `key_filename=`",
    "compression_algs": "pass `compressions=`",
    "cwd": "SSH has no directory for a command: say `cd DIR && COMMAND`, as one str",
    "encoding": _AS_BYTES,
    "encryption_algs": "pass `ciphers=`",
    "input": "pass `stdin=`",
    "keepalive_interval": "pass `keepalive=`",
    "key": "pass `pkey=` or `key_filename=`",
    "key_file": "pass `key_filename=`",
    "keyfile": "pass `key_filename=`",
    "kex_algs": "pass `kex=`",
    "mac_algs": "pass `macs=`",
    "proxy_command": CONFIG_PROXY,
    "server_factory": "pass the class, or a function, first",
    "server_host_key_algs": "pass `host_key_algorithms=`",
    "server_host_keys": "pass `host_keys=`, a list of keys",
    "shell": "a str is for the server's shell, and a sequence is quoted for it",
    "term_size": "pass `term=Pty(type, width, height)`",
    "term_type": "pass `term=`",
    "text": _AS_BYTES,
    "tunnel": "pass `via=`, a client",
    "user": "pass `username=`",
}


def with_argument_hints(function: F) -> F:
    """Tell whoever passes an argument that isn't there what to pass: of another library's, or where it is misspelt."""
    what = "connect" if function.__name__ == "__init__" else function.__name__
    taken = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    known = frozenset(taken)

    def check(named: Mapping[str, object]) -> None:
        for name in named:
            if name not in known:
                hint = ARGUMENT_HINTS.get(name)
                close = difflib.get_close_matches(name, taken, 1)
                remark = f": {hint}" if hint else f"; is `{close[0]}=` meant?" if close else ""
                raise TypeError(f"{what} takes no {name}{remark}")

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
    """Names the way of this library to whoever asks for a name of another's.

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


class OnlyAsync:
    """Says ``async with`` to whoever writes ``with``."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"use `async with {type(self).__name__}(...)`, not `with`")

        def __exit__(self, *exception: object) -> None:
            raise AssertionError("nobody gets here")
