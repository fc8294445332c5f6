"""The demo: a real server on a free port of 127.0.0.1, a real client, and a line about each thing that they did.

All keys are made for the occasion, and no file of the user's is read or written.  Both sides run in this one process,
so the rates are those of one core that does the work of both.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeVar

import trio

import trio_ssh
from trio_ssh.runtime.block import worst_of

HOST: Final = "127.0.0.1"
USER: Final = "alice"

#: Seconds after which something hangs: apart from what it measures, the demo takes less than one.
_PATIENCE_SECONDS: Final = 30

#: What one write of the measurements holds.
_BLOCK: Final = memoryview(bytes(256 * 1024))

#: Sessions at once on one connection: as many as a server admits by default.
_AT_ONCE: Final = 10

E = TypeVar("E", bound=Exception)


class DemoServer(trio_ssh.ServerInterface):
    """Lets one user in by one key, and knows a handful of commands."""

    def __init__(self, admitted: trio_ssh.PublicKey) -> None:
        self._admitted = admitted

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit the one user, by the one key."""
        is_right = username == USER and key == self._admitted
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Run a command."""
        await trio.lowlevel.checkpoint()
        match process.command:
            case "true":
                return 0
            case "sort":
                await process.stdout.write("".join(sorted([line async for line in process.stdin.lines()])))
                return 0
            case "fail":
                await process.stderr.write("the disk is full")
                return 3
            case "pour":
                while True:
                    await process.stdout.send_all(_BLOCK)
            case "drain":
                received = 0
                while data := await process.stdin.receive_some():
                    received += len(data)
                await process.stdout.write(str(received))
                return 0
            case _:
                await process.stderr.write("no such command")
                return 127


class DemoFailure(Exception):
    """Something did not happen that should have."""


def check(is_so: bool, otherwise: str) -> None:
    """Raise unless it is so."""
    if not is_so:
        raise DemoFailure(otherwise)


async def refusal(error: type[E], attempt: Callable[[], AbstractAsyncContextManager[object]]) -> E:
    """Make an attempt to connect that must be refused, and return the exception that refused it."""
    await trio.lowlevel.checkpoint()
    try:
        async with attempt():
            pass
    except error as refused:
        return refused
    raise DemoFailure(f"a connection came about, where {error.__name__} should have refused it")


class Demo:
    """The steps, in their order; each prints a line.

    Args:
        seconds: how long to measure each direction.
        say: prints a line.
    """

    def __init__(self, *, seconds: float, say: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._say = say
        self._host_key = trio_ssh.Ed25519Key.generate()
        self._user_key = trio_ssh.Ed25519Key.generate()
        self._known_hosts = trio_ssh.HostKeys()
        self._port = 0
        #: What is being done, for the message that tells of its failure.
        self.step: str = "start"

    def _report(self, what: str, text: str) -> None:
        self._say(f"  {what:<14}{text}")

    def _connect(
        self, *, known_hosts: trio_ssh.HostKeys | None = None, key: trio_ssh.PKey | None = None
    ) -> trio_ssh.connect:
        return trio_ssh.connect(
            HOST,
            self._port,
            USER,
            pkey=key or self._user_key,
            known_hosts=self._known_hosts if known_hosts is None else known_hosts,
            config=None,
        )

    async def run(self) -> None:
        """Serve, and do everything there is to do."""
        serve = partial(
            trio_ssh.serve_tcp,
            partial(DemoServer, self._user_key.public_key),
            0,
            host=HOST,
            host_keys=[self._host_key],
        )
        async with trio.open_nursery() as nursery:
            with trio.fail_after(_PATIENCE_SECONDS + 4 * self._seconds):
                listeners: list[trio.SocketListener] = await nursery.start(serve)
                self._port = listeners[0].socket.getsockname()[1]
                self._report("server", f"{HOST} port {self._port}, new host key {self._host_key.fingerprint}")
                await self._use()
            nursery.cancel_scope.cancel()

    async def _use(self) -> None:
        await self._step("unknown host", self._refuse_unknown_host)
        await self._step("changed host", self._refuse_changed_host)
        await self._step("wrong user", self._refuse_wrong_user)
        self.step = "login"
        async with self._connect() as client:
            self._report("login", self._describe_login(client))
            await self._step("stdin", partial(self._sort, client))
            await self._step("exit status", partial(self._fail, client))
            await self._step("at once", partial(self._run_at_once, client))
            await self._step("timeout", partial(self._time_out, client))
            await self._step("download", partial(self._measure_download, client))
            await self._step("upload", partial(self._measure_upload, client))
            await self._step("rates", partial(self._measure_rates, client))

    async def _step(self, what: str, function: Callable[[], Awaitable[str]]) -> None:
        self.step = what
        self._report(what, await function())

    # -- trust

    async def _refuse_unknown_host(self) -> str:
        error = await refusal(trio_ssh.UnknownHostKeyException, partial(self._connect, known_hosts=trio_ssh.HostKeys()))
        # This is what a user does by hand: compare the fingerprint with the server's own, and put the key on record.
        check(error.fingerprint == self._host_key.fingerprint, "the server showed another key than its own")
        self._known_hosts.add(error.hostname, None, self._host_key.public_key)
        return "refused, its key is on record nowhere; fingerprint compared, put on record"

    async def _refuse_changed_host(self) -> str:
        wrong = trio_ssh.HostKeys()
        wrong.add(f"[{HOST}]:{self._port}", None, trio_ssh.Ed25519Key.generate().public_key)
        await refusal(trio_ssh.BadHostKeyException, partial(self._connect, known_hosts=wrong))
        return "refused, where another key than this is on record"

    async def _refuse_wrong_user(self) -> str:
        stranger = trio_ssh.Ed25519Key.generate()
        error = await refusal(trio_ssh.AuthenticationException, partial(self._connect, key=stranger))
        return f"refused, with a key that the server does not admit; it still allows {', '.join(error.allowed)}"

    def _describe_login(self, client: trio_ssh.SSHClient) -> str:
        transport = client.get_transport()
        negotiated = None if transport is None else transport.get_negotiated()
        if negotiated is None:
            raise DemoFailure("a client is connected, and nothing was negotiated")
        cipher = negotiated.client_to_server.cipher.removesuffix("@openssh.com")
        return f"host key verified, {USER} in by a generated key; {negotiated.kex}, {cipher}"

    # -- commands

    async def _sort(self, client: trio_ssh.SSHClient) -> str:
        done = await client.run_process("sort", stdin=b"pear\napple\nfig\n", capture_stdout=True)
        check(done.stdout == b"apple\nfig\npear\n", f"sorting gave {done.stdout!r}")
        return f"a command sorted three lines: {', '.join(done.stdout.decode().split())}"

    async def _fail(self, client: trio_ssh.SSHClient) -> str:
        await trio.lowlevel.checkpoint()
        try:
            await client.run_process("fail", capture_stdout=True, capture_stderr=True)
        except trio_ssh.ProcessError as error:
            check((error.returncode, error.stderr) == (3, b"the disk is full"), f"it failed otherwise: {error}")
            return str(error)
        raise DemoFailure("a command that fails was taken for one that succeeds")

    async def _run_at_once(self, client: trio_ssh.SSHClient) -> str:
        outputs: dict[int, bytes] = {}

        async def sort(number: int) -> None:
            data = b"".join(b"%d\n" % (number * 10 + digit) for digit in reversed(range(10)))
            done = await client.run_process("sort", stdin=data, capture_stdout=True)
            outputs[number] = bytes(done.stdout)

        async with trio.open_nursery() as nursery:
            for number in range(1, _AT_ONCE + 1):
                nursery.start_soon(sort, number)
        for number, output in outputs.items():
            wanted = b"".join(b"%d\n" % (number * 10 + digit) for digit in range(10))
            check(output == wanted, f"command {number} has another's output")
        return f"{len(outputs)} commands on the one connection, each with its own input and output"

    async def _time_out(self, client: trio_ssh.SSHClient) -> str:
        with trio.move_on_after(0.05) as scope:
            async with await client.open_process("drain") as process:
                await process.stdout.read()  # the command waits for input, which never comes
        check(scope.cancelled_caught, "a command ended that should have waited")
        done = await client.run_process("true")
        check(done.returncode == 0, "the connection did not survive a cancelled command")
        return "trio.move_on_after cancelled a command that hung; the connection goes on"

    # -- rates

    async def _measure_download(self, client: trio_ssh.SSHClient) -> str:
        async with await client.open_process("pour") as process:
            received = 0
            started = trio.current_time()
            while (elapsed := trio.current_time() - started) < self._seconds or not received:
                received += len(await process.stdout.receive_some())
        return _throughput(received, elapsed)

    async def _measure_upload(self, client: trio_ssh.SSHClient) -> str:
        async with await client.open_process("drain") as process:
            sent = 0
            started = trio.current_time()
            while trio.current_time() - started < self._seconds or not sent:
                await process.stdin.send_all(_BLOCK)
                sent += len(_BLOCK)
            await process.stdin.aclose()
            received = int(await process.stdout.read())
            elapsed = trio.current_time() - started
        check(received == sent, f"{sent} bytes were sent and {received} arrived")
        return _throughput(received, elapsed)

    async def _measure_rates(self, client: trio_ssh.SSHClient) -> str:
        async def run() -> None:
            await client.run_process("true")

        async def connect() -> None:
            async with self._connect():
                await trio.lowlevel.checkpoint()

        commands = await self._per_second(run)
        logins = await self._per_second(connect)
        return f"{commands:,.0f} commands a second, one after another; {logins:,.0f} connections and logins"

    async def _per_second(self, function: Callable[[], Awaitable[None]]) -> float:
        count = 0
        started = trio.current_time()
        await trio.lowlevel.checkpoint()
        while (elapsed := trio.current_time() - started) < self._seconds / 2 or not count:
            await function()
            count += 1
        return count / elapsed


def _throughput(size: int, seconds: float) -> str:
    return f"{size / seconds / 1e6:,.0f} MB/s: {size / 2**20:,.0f} MiB in {seconds:.2f} s, with both sides on one core"


def run(version: str, *, seconds: float) -> int:
    """Run the demo; return the exit status.

    Args:
        version: our own, for the first line.
        seconds: how long to measure each direction.
    """

    def say(line: str) -> None:
        print(line, flush=True)

    demo = Demo(seconds=seconds, say=say)
    say(f"trio_ssh {version}, trio {trio.__version__}, Python {platform.python_version()}")
    try:
        # As in `serve`: Ctrl-C is noticed where a task waits.
        trio.run(demo.run, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            print("interrupted", file=sys.stderr)
            return 130
        error = worst_of(group)
        print(f"the demo failed at {demo.step!r}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    say("all of it worked")
    return 0
