"""OpenSSH's `ssh` and `sshd`.

Except where connecting is what is measured, a first `ssh` holds the connection, and others reach it through
its control socket and hand it their standard streams: the command line's way to use one connection for many
commands, and the way to keep logging in out of a transfer's account.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.benchmarks.adapters import roles, sftp_with_openssh
from tests.benchmarks.adapters.roles import CHUNK, ClientTask, Sample, ServerTask

POLL_SECONDS: Final = 0.005
START_SECONDS: Final = 120
LOGINS_AT_ONCE: Final = 10
PRIVILEGE_SEPARATION: Final = Path("/run/sshd")

# bash reads ~/.bashrc when sshd starts it, which can cost more than the login.  Where SHLVL says that there
# is another shell around it, it doesn't.
SSHD_CONFIG: Final = """\
ListenAddress {host}
Port {port}
HostKey {task.host_key}
AuthorizedKeysFile {task.authorized_keys}
KexAlgorithms {kex},{kex}@libssh.org
Ciphers {task.cipher}
MACs {task.mac}
Compression no
SetEnv SHLVL=1
PidFile none
UsePAM no
UseDNS no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp {sftp_server}
MaxStartups 1000
MaxSessions 1000
LogLevel ERROR
"""


def ssh(task: ClientTask, *arguments: str) -> list[str]:
    """Write the command line of an `ssh` that logs in."""
    options = {
        "BatchMode": "yes",
        "Ciphers": task.cipher,
        "Compression": "no",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": task.client_key,
        "KexAlgorithms": roles.KEX,
        "LogLevel": "ERROR",
        "MACs": task.mac,
        "Port": str(task.port),
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "no",
        "User": task.user,
        "UserKnownHostsFile": "/dev/null",
    }
    return ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items()), *arguments]


def over(control: Path, *command: str) -> list[str]:
    """Write the command line of an `ssh` that uses the connection of another one."""
    return ["ssh", "-F", "none", "-S", str(control), roles.HOST, *command]


@contextlib.contextmanager
def connected(task: ClientTask, name: str = "control") -> Generator[Path, None, None]:
    """Hold a connection, and give the control socket by which to use it."""
    control = Path(task.directory, name)
    master = subprocess.Popen(
        ssh(task, "-M", "-N", "-S", str(control), roles.HOST),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not control.exists():
            if master.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ssh did not connect")
            time.sleep(POLL_SECONDS)
        yield control
    finally:
        master.terminate()
        master.wait()


def run(command: list[str]) -> None:
    """Run a program, its input and output closed."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def piped(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a program to talk with."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def round_trip(process: subprocess.Popen[bytes]) -> float:
    """Send one byte through a program, wait for it, and return the seconds it took."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    to_program, from_program = process.stdin.fileno(), process.stdout.fileno()
    started = time.perf_counter()
    os.write(to_program, b"x")
    received = os.read(from_program, 1)
    seconds = time.perf_counter() - started
    roles.check("echo", received, b"x")
    return seconds


def bulk_down(task: ClientTask) -> Sample:
    """Read everything a command writes through a pipe from `ssh`, as a program does."""
    with connected(task) as control, task.window(in_children=True) as window:
        received = 0
        with piped(over(control, task.command)) as process:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("no pipes")
            process.stdin.close()
            while data := os.read(process.stdout.fileno(), len(CHUNK)):
                received += len(data)
    roles.check("bytes", received, task.size)
    roles.check("exit status", process.returncode, 0)
    return window.sample


def bulk_up(task: ClientTask) -> Sample:
    """Write everything through a pipe to `ssh`, as a program does, and wait for the command to have read it."""
    with connected(task) as control, task.window(in_children=True) as window:
        left = task.size
        with piped(over(control, task.command)) as process:
            if process.stdin is None:
                raise RuntimeError("no pipe")
            while left:
                left -= os.write(process.stdin.fileno(), memoryview(CHUNK)[:left])
            process.stdin.close()
    roles.check("exit status", process.returncode, 0)
    return window.sample


def handshake(task: ClientTask) -> Sample:
    """Connect and run a command, one connection after another: the only way to have `ssh` close by itself."""
    command = ssh(task, roles.HOST, "true")
    run(command)
    with task.window(in_children=True) as window:
        for _ in range(task.count):
            run(command)
    return window.sample


def exec_sequential(task: ClientTask) -> Sample:
    """Run commands on one connection, one after another."""
    with connected(task) as control:
        command = over(control, task.command)
        run(command)
        with task.window(in_children=True) as window:
            for _ in range(task.count):
                run(command)
    return window.sample


def exec_concurrent(task: ClientTask) -> Sample:
    """Run commands on one connection, some at a time."""
    with connected(task) as control, ThreadPoolExecutor(task.at_once) as pool:
        command = over(control, task.command)
        list(pool.map(run, [command] * task.at_once))
        with task.window(in_children=True) as window:
            list(pool.map(run, [command] * task.count))
    return window.sample


def echo(task: ClientTask) -> Sample:
    """Send one byte through `ssh` and wait for it, again and again."""
    with connected(task) as control, piped(over(control, task.command)) as process:
        for _ in range(roles.WARM_UP_ROUND_TRIPS):
            round_trip(process)
        with task.window(in_children=True) as window:
            seconds = [round_trip(process) for _ in range(task.count)]
    return window.sample | roles.latencies(seconds)


def connections(task: ClientTask) -> Sample:
    """Start `ssh` processes all at once, each of which runs one command."""
    command = ssh(task, roles.HOST, task.command)
    run(command)
    with task.window(in_children=True) as window:
        started = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(task.count)
        ]
        statuses = [process.wait() for process in started]
    roles.check("exit statuses", statuses, [0] * task.count)
    return window.sample


def enter(context: contextlib.AbstractContextManager[Path]) -> Path:
    """Enter a context in a thread."""
    return context.__enter__()


def idle_memory(task: ClientTask) -> Sample:
    """Keep connections open, without a channel and then with one."""
    run(ssh(task, roles.HOST, "true"))
    before = task.footprints(in_children=True)
    with contextlib.ExitStack() as stack:
        # Logging in waits for sshd's processes: some at a time keep both cores busy.
        contexts = [connected(task, name=f"control-{number}") for number in range(task.count)]
        with ThreadPoolExecutor(LOGINS_AT_ONCE) as pool:
            controls = list(pool.map(enter, contexts))
        for context in contexts:
            stack.push(context)
        idle = task.footprints(in_children=True)
        sessions = [piped(over(control, task.command)) for control in controls]
        for session in sessions:
            round_trip(session)
        with_channel = task.footprints(in_children=True)
        for session in sessions:
            session.communicate()
    return roles.per_connection(task.count, before, idle, with_channel)


def serve(task: ServerTask) -> None:
    """Run `sshd` as the current user until killed."""
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with socket.create_server((roles.HOST, 0)) as free:
        port = free.getsockname()[1]
    config = Path(task.directory, "sshd_config")
    config.write_text(
        SSHD_CONFIG.format(task=task, host=roles.HOST, port=port, kex=roles.KEX, sftp_server=sftp_server()),
        encoding="utf-8",
    )
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise RuntimeError("sshd is not installed")
    process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while not answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("sshd did not start")
        time.sleep(POLL_SECONDS)
    roles.announce(port, pid=process.pid, end=process.terminate)
    process.wait()


def sftp_server() -> str:
    """Find the program that sshd starts for SFTP: where Debian, Fedora or Arch keeps it, or the one in sshd itself."""
    for directory in ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh"):
        if Path(directory, "sftp-server").exists():
            return f"{directory}/sftp-server"
    return "internal-sftp"


def answers(port: int) -> bool:
    """Tell whether someone listens."""
    try:
        socket.create_connection((roles.HOST, port)).close()
    except ConnectionRefusedError:
        return False
    return True


if __name__ == "__main__":
    roles.main(
        {
            "bulk_down": bulk_down,
            "bulk_up": bulk_up,
            "handshake": handshake,
            "exec_sequential": exec_sequential,
            "exec_concurrent": exec_concurrent,
            "echo": echo,
            "connections": connections,
            "idle_memory": idle_memory,
            **sftp_with_openssh.clients(connected),
        },
        serve,
    )
