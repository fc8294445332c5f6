"""Timeouts and cancellation: trio's scopes work around every call, and a cancelled command ends on the other side."""

from __future__ import annotations

from functools import partial

import trio

import trio_ssh


async def show(client: trio_ssh.SSHClient) -> None:
    """Bound, race and interrupt commands."""
    # A command with a limit.  Cancelling run_process ends the remote command: TERM, KILL, and the channel is closed.
    try:
        with trio.fail_after(0.1):
            await client.run_process("sleep 3600")
    except trio.TooSlowError:
        print("it took too long")

    # A limit on something smaller: a dialogue goes on where the answer didn't come.
    async with await client.open_process("read line; echo $line") as process:
        with trio.move_on_after(0.1) as patience:
            await process.stdout.read_line()
        print("an answer came:", not patience.cancelled_caught)
        await process.stdin.write("here you are\n")
        print("an answer came:", await process.stdout.read_line(), end="")

    # The fastest of several; the others are cancelled.
    async with trio.open_nursery() as nursery:

        async def race(seconds: float) -> None:
            done = await client.run_process(f"sleep {seconds}; echo {seconds}", capture_stdout=True)
            print("the fastest slept for", done.stdout.decode(), end="")
            nursery.cancel_scope.cancel()

        for seconds in (30, 0.1, 60):
            nursery.start_soon(race, seconds)

    # Another way to end a command.  What delivers a cancellation is shielded from it, and bounds itself.
    async def interrupt(process: trio_ssh.Process) -> None:
        process.send_signal("INT")
        with trio.move_on_after(5):
            print("interrupted, the command returned", await process.wait())

    with trio.move_on_after(0.1):
        await client.run_process("trap 'exit 7' INT; while true; do sleep 0.05; done", deliver_cancel=interrupt)


async def connect_to_silence() -> None:
    """A host that accepts and says nothing: without a scope, connect gives up after two minutes."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1"))
        try:
            with trio.fail_after(0.1):
                async with trio_ssh.connect("127.0.0.1", listener.socket.getsockname()[1], look_for_keys=False):
                    pass
        except trio.TooSlowError:
            print("a silent host was given up")
        nursery.cancel_scope.cancel()


async def say_nothing(stream: trio.SocketStream) -> None:
    """Be a host that accepts, and no more."""
    await trio.sleep_forever()


# -- a server to try it on


class Shells(trio_ssh.ServerInterface):
    """Runs commands on this machine for whoever has the key."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        """Admit one key."""
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Run a command, and tell how it ended."""
        returncode = await trio_ssh.run_local_session(process, shell="/bin/sh")
        print(f"    (on the server, {process.command!r} returned {returncode})")
        return returncode


async def main() -> None:
    """Serve on a free port, and be a client of it."""
    await connect_to_silence()
    host_key, key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    serve = partial(trio_ssh.serve_tcp, partial(Shells, key.public_key), 0, host="127.0.0.1", host_keys=[host_key])
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        known_hosts = trio_ssh.HostKeys()
        known_hosts.add(f"[127.0.0.1]:{port}", None, host_key.public_key)
        async with trio_ssh.connect("127.0.0.1", port, pkey=key, known_hosts=known_hosts) as client:
            await show(client)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
