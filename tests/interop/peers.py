"""Real peers: OpenSSH's server and client, and the users and keys that they need.

All of it lives in one folder and on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import attrs
import trio

import trio_ssh
from trio_ssh.server import ServerFactory

#: Where sshd insists on a folder of its own, which only an init system makes.
PRIVILEGE_SEPARATION: Final = Path("/run/sshd")

#: OpenSSH's SFTP server, where Debian and Fedora put it.
SFTP_SERVER: Final = next(
    (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server") if Path(path).exists()),
    "internal-sftp",
)

#: The kinds of keys that ssh-keygen makes: name, and its arguments.  2048 bits, because making larger ones takes long.
KINDS: Final = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa384": ("-t", "ecdsa", "-b", "384"),
    "ecdsa521": ("-t", "ecdsa", "-b", "521"),
    "rsa": ("-t", "rsa", "-b", "2048"),
}

#: What a peer may need before it gives up, on a machine that is busy with something else.
PATIENCE: Final = 30.0


# -- processes


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that are left, the dead ones that nobody asked for included."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if int(fields[1]) == pid:
                found.append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """Whatever `pid` has started, and what that has started in turn."""
    found = children(pid)
    for child in list(found):
        found.extend(descendants(child))
    return found


def processes_of(uid: int) -> dict[int, str]:
    """What a user runs: pid -> command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if folder.stat().st_uid == uid:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


def is_alive(pid: int) -> bool:
    """Does it run?  A process that has ended and that nobody asked for doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Signal those that are left."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop_descendants(pid: int) -> set[int]:
    """SIGSTOP for whatever `pid` has started, until nothing is left that could start something new; return them all."""
    stopped: set[int] = set()
    while running := set(descendants(pid)) - stopped:
        send(signal.SIGSTOP, running)
        stopped |= running
    return stopped


async def eventually(is_so: Callable[[], object]) -> None:
    """Wait until another process has done something that nothing tells us of."""
    with trio.fail_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110  (no event of ours tells what other processes do)
            await trio.sleep(0.01)


def run(*command: str | Path) -> str:
    """Run a tool to its end, and return what it says; for preparations, while nothing else has to go on."""
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


# -- users and keys


def change_users(*command: str, stdin: str = "") -> None:
    """Run a tool that changes /etc/passwd, which another run of these tests may have locked."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert "lock" in done.stderr, done.stderr
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.05)


@attrs.frozen
class Account:
    """Whom sshd lets in: an ordinary user who was made for the tests, or whoever runs them where that isn't root.

    Attributes:
        password: None where the account isn't ours, so that nobody knows it.
    """

    name: str
    uid: int
    password: str | None

    @classmethod
    def of_mine(cls) -> Self:
        return cls(pwd.getpwuid(os.getuid()).pw_name, os.getuid(), None)

    @classmethod
    def create(cls) -> Self:
        """Make a user; needs root.  The name is ours alone, for two runs at a time, and for two who ask in one run."""
        name, password = f"triossh-{os.getpid()}-{secrets.token_hex(3)}", "correct horse battery staple"
        change_users("useradd", "-m", "-s", "/bin/bash", name)
        change_users("chpasswd", stdin=f"{name}:{password}")
        return cls(name, pwd.getpwnam(name).pw_uid, password)

    def remove(self) -> None:
        """Remove a user that `create` made, who must have ended all processes."""
        deadline = time.monotonic() + PATIENCE
        while (left := processes_of(self.uid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        send(signal.SIGKILL, left)
        change_users("userdel", "-f", "-r", self.name)
        assert not left, "tests left processes behind"


def make_key(path: Path, kind: str, *arguments: str, passphrase: str = "") -> Path:
    """Make a pair of keys by ssh-keygen: `path` and `path`.pub."""
    run("ssh-keygen", "-q", *KINDS[kind], *arguments, "-N", passphrase, "-C", kind, "-a", "1", "-f", path)
    return path


@attrs.frozen
class KeyFolder:
    """A key of each kind, and a file that names them all."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        path.mkdir()
        path.chmod(0o755)
        folder = cls(path)
        for kind in KINDS:
            make_key(path / kind, kind)
        folder.authorized_keys.write_text("".join(folder.public(kind) + "\n" for kind in KINDS))
        return folder

    @property
    def authorized_keys(self) -> Path:
        return self.path / "authorized_keys"

    def file(self, kind: str) -> Path:
        return self.path / kind

    def public(self, kind: str) -> str:
        return (self.path / f"{kind}.pub").read_text().strip()

    @functools.cache  # noqa: B019  (one folder lives as long as the tests)
    def load(self, kind: str) -> trio_ssh.PKey:
        return trio_ssh.load_private_key_file(self.file(kind))


# -- OpenSSH's server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Sshd:
    """OpenSSH's server, as a block.

    Args:
        folder: where its files are; everyone may enter it.
        account: whom it lets in.
        host_keys, user_keys: who it is, and whose signatures it takes.
        options: lines of sshd_config, worth more than those that are always there.
    """

    def __init__(
        self, folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder, options: Sequence[str] = ()
    ) -> None:
        self.account = account
        self.host_keys = host_keys
        self.user_keys = user_keys
        self.port = 0
        self.pid = 0
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        if os.getuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(0o755, exist_ok=True)
        # Another process may take the port between our look and sshd's.
        while not self._start():
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def _config(self) -> Path:
        return self._folder / f"sshd_config_{self.port}"

    @property
    def inetd_command(self) -> list[str]:
        """Runs another one that serves the client at its stdin and stdout."""
        return ["/usr/sbin/sshd", "-i", "-e", "-f", str(self._config)]

    def _start(self) -> bool:
        self.port = free_port()
        lines = [
            *self._options,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            *(f"HostKey {self.host_keys.file(kind)}" for kind in KINDS),
            f"AuthorizedKeysFile {self.user_keys.authorized_keys}",
            "UsePAM no",
            "StrictModes no",
            "MaxStartups 1000",
            "MaxSessions 1000",
            "LoginGraceTime 60",
            "AcceptEnv TEST_*",
            "PidFile none",
            "PrintLastLog no",
            "PrintMotd no",
            "LogLevel VERBOSE",
            # Other keywords may come twice; a subsystem that does is fatal.
            *([] if any("Subsystem sftp" in line for line in self._options) else [f"Subsystem sftp {SFTP_SERVER}"]),
        ]
        self._config.write_text("\n".join(lines) + "\n")
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self._config)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        with self._news:
            done = self._news.wait_for(lambda: self._said("Server listening") or self._said("--end--"), PATIENCE)
        assert done, "sshd says nothing"
        if self._said("Server listening"):
            return True
        assert self._said("Address already in use"), self.log
        self._lines.clear()
        return False

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._news:
                    self._lines.append(line.rstrip())
                    self._news.notify_all()
        process.wait()
        with self._news:
            self._lines.append("--end--")
            self._news.notify_all()

    def _said(self, text: str) -> bool:
        return any(text in line for line in self._lines)

    @property
    def log(self) -> str:
        """What it has said so far."""
        with self._news:
            return "\n".join(self._lines)

    async def said(self, text: str) -> None:
        """Wait until it says so."""
        await eventually(lambda: text in self.log)

    def stop_connections(self) -> None:
        """SIGSTOP for every process but the one that listens: they are there and do nothing."""
        stop_descendants(self.pid)

    def kill_connections(self) -> None:
        """SIGKILL for every process but the one that listens."""
        send(signal.SIGKILL, stop_descendants(self.pid))

    def kill(self) -> None:
        """SIGKILL for all of it."""
        assert self._process is not None
        send(signal.SIGSTOP, [self.pid])
        send(signal.SIGKILL, [*stop_descendants(self.pid), self.pid])
        self._process.wait()

    @property
    def known_hosts(self) -> trio_ssh.HostKeys:
        """Its keys, as a client that has met it knows them."""
        lines = (f"[127.0.0.1]:{self.port} {self.host_keys.public(kind)}\n" for kind in KINDS)
        return trio_ssh.HostKeys.from_text("".join(lines))

    def connect(self, **options: Any) -> trio_ssh.connect:
        """A client of ours that is let in, or whatever the options make of it."""
        arguments: dict[str, Any] = {
            "username": self.account.name,
            "pkey": self.user_keys.load("ed25519"),
            "known_hosts": self.known_hosts,
        }
        return trio_ssh.connect("127.0.0.1", self.port, **(arguments | options))


# -- OpenSSH's client


class LetsAnyoneIn(trio_ssh.ServerInterface):
    """Runs what it is asked to run."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    def check_channel_pty_request(self, *arguments: object) -> bool:
        return True

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        return name.startswith("TEST_")

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process, shell="/bin/bash")


@attrs.define
class Ssh:
    """OpenSSH's client, and the server of ours that it calls.

    Attributes:
        folder: where its files are.
        options: for ssh's ``-o``, worth more than those that are always there.
    """

    folder: Path
    host_keys: KeyFolder
    user_keys: KeyFolder
    port: int = 0
    options: tuple[str, ...] = ()

    async def serve(self, nursery: trio.Nursery, factory: ServerFactory = LetsAnyoneIn, **options: Any) -> None:
        """Start a server of ours, for as long as the nursery lasts."""
        arguments = {"host": "127.0.0.1", "host_keys": [self.host_keys.load(kind) for kind in KINDS]}
        serve = functools.partial(trio_ssh.serve_tcp, factory, 0, **(arguments | options))
        [listener] = await nursery.start(serve)
        self.port = listener.socket.getsockname()[1]
        lines = (f"[127.0.0.1]:{self.port} {self.host_keys.public(kind)}\n" for kind in KINDS)
        self.known_hosts.write_text("".join(lines))

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def command(self, *arguments: str, program: str = "ssh") -> list[str]:
        """The command line of an ssh that runs `arguments`, options before the command of the far side."""
        options = [
            *self.options,
            f"Port={self.port}",
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "IdentityFile=none",
            "LogLevel=INFO",
            "User=alice",
            "HostName=127.0.0.1",
        ]
        return [program, "-F", "none", *(f"-o{option}" for option in options), *arguments]

    def environment(self, askpass: str | None = None) -> dict[str, str]:
        """What ssh's surroundings are: none of the user's own."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"}
        if askpass is not None:
            program = self.folder / "askpass"
            program.write_text(f"#!/bin/sh\n{askpass}\n")
            program.chmod(0o755)
            environment |= {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
        return environment

    async def run(
        self, *arguments: str, stdin: bytes = b"", askpass: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ssh to its end.  The host is called ``server``; put it between options and command.

        Args:
            askpass: a shell script that ssh asks for passwords and other answers.
        """
        return await self.run_command(self.command(*arguments), stdin=stdin, askpass=askpass, env=env)

    async def run_command(
        self, command: list[str], *, stdin: bytes = b"", askpass: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in ssh's surroundings."""
        with trio.fail_after(4 * PATIENCE):
            return await trio.run_process(
                command,
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=self.environment(askpass) | (env or {}),
            )
